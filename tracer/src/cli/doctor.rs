//! `ktrail doctor`.

use std::io::{self, Write};

use anyhow::{anyhow, bail};

use crate::kernel::doctor::{Status, checks};
use crate::kernel::features::Features;
use crate::kernel::probeable::{self, Rules};
use crate::trace::session::Kernel;
use crate::trace::usual;

/// Check what this machine and this user have for ktrail, and say how to get the rest
///
/// One line each: `ok`, `limited` (ktrail runs, but sees or does less) or `missing` (ktrail does not run), what was
/// found, and the way out. The exit code is 1 if anything is missing.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Only list which functions on packets' usual paths this kernel has inlined or forbids to probe
    #[arg(long)]
    blind_spots: bool,
}

/// Run it.
pub fn main(args: &Args) -> anyhow::Result<()> {
    if args.blind_spots {
        return blind_spots();
    }
    let checks = checks();
    let mut out = io::stdout().lock();
    for check in &checks {
        let status = match check.status {
            Status::Good => "ok",
            Status::Limited => "limited",
            Status::Bad => "missing",
        };
        write!(out, "{status:<7}  {:<18}  {}", check.name, check.detail)?;
        match &check.fix {
            Some(fix) => writeln!(out, "; {fix}")?,
            None => writeln!(out)?,
        }
    }
    match checks.iter().filter(|c| c.status == Status::Bad).count() {
        0 => Ok(()),
        n => bail!("{n} of {} checks: ktrail does not run here", checks.len()),
    }
}

/// What a journey can't show here, of what packets usually pass.
fn blind_spots() -> anyhow::Result<()> {
    let Kernel {
        features,
        btf,
        symbols,
        ..
    } = Kernel::read()?;
    let Features {
        kprobe_multi,
        kprobe,
        codegen,
        ..
    } = features;
    if let (Err(_), Err(lacking)) = (&kprobe_multi, kprobe) {
        return Err(anyhow!(lacking).context("a journey here shows tracepoints only"));
    }
    let rules = Rules::load(&btf, &codegen, kprobe_multi.is_err(), &[]);
    let selection = probeable::select(btf.skb_functions(), &symbols, &rules);
    let seen = selection
        .places
        .iter()
        .filter(|place| usual::rank(&place.function.name).is_some());
    let mut names: Vec<&str> = seen.map(|place| place.function.name.as_str()).collect();
    names.dedup();
    let mut blind: Vec<_> = selection
        .skipped
        .iter()
        .filter_map(|skipped| Some((usual::rank(&skipped.name)?, skipped)))
        .filter(|(_, skipped)| !names.contains(&skipped.name.as_str()))
        .collect();
    blind.sort_by_key(|(rank, _)| *rank);
    let mut out = io::stdout().lock();
    for (_, skipped) in &blind {
        writeln!(out, "{:<28}  {}", skipped.name, skipped.reason)?;
    }
    writeln!(
        out,
        "{} of the functions on packets' usual paths can be seen here, {} can't",
        names.len(),
        blind.len()
    )?;
    Ok(())
}
