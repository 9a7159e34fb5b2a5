//! `ktrail clean`.

use std::fmt::Write as _;

use crate::experiment::ledger;
use crate::say;

/// Remove what a killed experiment has left behind
///
/// An experiment takes everything that it made away when it ends, fails or is interrupted. Only after kill -9 or a
/// crash is there anything left: what its ledger in /run/ktrail names is removed here, and nothing else.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only say what is left
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Clean up.
pub fn main(args: &Args) -> anyhow::Result<()> {
    let leftovers = ledger::leftovers()?;
    if leftovers.is_empty() {
        return Ok(say::stdout("Nothing is left behind.\n")?);
    }
    let (mut problems, mut text) = (Vec::new(), String::new());
    for leftover in leftovers {
        let verb = if args.dry_run {
            "left by"
        } else {
            "removing what was left by"
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{verb} process {}:", leftover.pid);
        for item in &leftover.items {
            let _ = writeln!(text, "  {item}");
        }
        if !args.dry_run {
            problems.extend(leftover.remove());
        }
    }
    // Not before everything is done that can be.
    let told = say::stdout(&text);
    if !problems.is_empty() {
        anyhow::bail!("could not be removed: {}", problems.join("; "));
    }
    Ok(told?)
}
