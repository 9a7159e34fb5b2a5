//! `ktrail doctor`.

use std::io::{self, Write};

use anyhow::bail;

use crate::kernel::doctor::{Status, checks};

/// Check what this machine and this user have for ktrail, and say how to get the rest
///
/// One line each: `ok`, `limited` (ktrail runs, but sees or does less) or `missing` (ktrail does not run), what was
/// found, and the way out. The exit code is 1 if anything is missing.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Run it.
pub fn main(_: &Args) -> anyhow::Result<()> {
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
