//! `cargo xtask demo`: the set-up, then a DNS query's journey in a guest, once answered and once dropped.

use crate::artifact;
use crate::image::Images;
use crate::kernel::Kernel;
use crate::qemu::{Job, boot};
use crate::setup::{LAB_PACKAGES, Lab, host_packages, progress};
use crate::test::guest_files;
use anyhow::{Error, Result};
use clap::Args;

/// Do the set-up, then show a DNS query's journey on a stock kernel, with and without a firewall rule.
#[derive(Debug, Args)]
pub struct Options {
    /// The kernel.
    #[arg(long, value_name = "K", value_enum, default_value = "6.12")]
    kernel: Kernel,
}

/// Runs the subcommand; gives its exit code.
pub fn run(options: &Options) -> Result<u8> {
    host_packages(LAB_PACKAGES)?;
    let lab = Lab::open()?;
    let binary = artifact::ktrail(true)?;
    let images = Images::prepare(&lab, &[options.kernel])?;
    progress(&format!("booting {}", images.kernel(options.kernel)?.release));
    let job = Job {
        script: Some(include_str!("../guest/demo").to_owned()),
        files: guest_files(&binary),
        echo: true,
        ..Job::default()
    };
    boot(&lab, &images, options.kernel, &job)?
        .result
        .map_err(Error::msg)
}
