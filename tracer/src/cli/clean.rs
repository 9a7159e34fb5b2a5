//! `ktrail clean`.

use crate::experiment::ledger;

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
        println!("Nothing is left behind.");
        return Ok(());
    }
    let mut problems = Vec::new();
    for leftover in leftovers {
        let verb = if args.dry_run {
            "left by"
        } else {
            "removing what was left by"
        };
        println!("{verb} process {}:", leftover.pid);
        for item in &leftover.items {
            println!("  {item}");
        }
        if !args.dry_run {
            problems.extend(leftover.remove());
        }
    }
    if !problems.is_empty() {
        anyhow::bail!("could not be removed: {}", problems.join("; "));
    }
    Ok(())
}
