//! `cargo xtask test`: the set-up, then every test that there is, and one closing line.
//!
//! 1. *source*: `cargo fmt --check` and `cargo clippy`, one case each;
//! 2. *cargo*: `cargo test --workspace`, one case a test;
//! 3. *release*: the release binary is static and small;
//! 4. *lab*: the scripts in `tests/lab`, on each kernel, with the release binary; see `tests/lab/lib.sh`.
//!
//! A test that can't run where it is must not pass. A Rust test says so by printing a line
//!
//! ```text
//! ktrail-test-skip: NAME: REASON
//! ```
//!
//! and returning; it counts as skipped, under the name that libtest gives it. `#[ignore = "REASON"]` counts as
//! skipped too. A script of the lab calls `skip NAME REASON`, or names its kernels in its head.
//!
//! The last line is `N passed, N failed, N skipped`; the exit code is 1 if any failed. All results are also in
//! `target/test-results.txt`, one a line.

mod cargo;
mod guests;
mod release;
mod report;

use crate::artifact;
use crate::kernel::Kernel;
use crate::setup::{LAB_PACKAGES, host_packages, progress};
use anyhow::Result;
use clap::{Args, ValueEnum};
use report::Report;
use std::thread;
use std::time::Instant;

pub use guests::guest_files;

/// What the tests against the host's own kernel use, and what reads ktrail's output back. (tshark takes 130 MB and ten
/// seconds; a browser would take minutes, so that its test runs where there is one.)
const HOST_PACKAGES: &[&str] = &[
    "bind9-dnsutils",
    "dnsmasq-base",
    "ethtool",
    "iperf3",
    "iproute2",
    "iptables",
    "nftables",
    "python3-jsonschema",
    "tshark",
];

/// Do the set-up, then run every test.
#[derive(Debug, Args)]
pub struct Options {
    /// Run only this group; may be given more than once.
    #[arg(long, value_enum)]
    only: Vec<Group>,
    /// Run the lab's tests on this kernel only; may be given more than once.
    #[arg(long = "kernel", value_name = "K", value_enum)]
    kernels: Vec<Kernel>,
    /// Run only the lab's scripts whose names contain this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    script: String,
}

/// A group of tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Group {
    Source,
    Cargo,
    Release,
    Lab,
}

/// Runs the subcommand; gives its exit code.
pub fn run(options: &Options) -> Result<u8> {
    let wanted = |group| options.only.is_empty() || options.only.contains(&group);
    let started = Instant::now();
    host_packages(LAB_PACKAGES)?;
    let mut report = Report::default();
    // Half of what a build does keeps one CPU busy: this one goes on beside the first tests.
    let binary =
        (wanted(Group::Release) || wanted(Group::Lab)).then(|| thread::spawn(|| artifact::ktrail(true)));
    if wanted(Group::Source) {
        cargo::source(&mut report)?;
    }
    if wanted(Group::Cargo) {
        host_packages(HOST_PACKAGES)?;
        cargo::tests(&mut report)?;
    }
    if let Some(binary) = binary {
        match binary.join().expect("building does not panic") {
            Ok(binary) => {
                if wanted(Group::Release) {
                    release::check(&binary, &mut report)?;
                }
                if wanted(Group::Lab) {
                    let kernels = if options.kernels.is_empty() {
                        &Kernel::ALL
                    } else {
                        &options.kernels[..]
                    };
                    guests::tests(&binary, kernels, &options.script, &mut report)?;
                }
            }
            Err(error) => {
                report.suite("release");
                report.fail("the release build", format!("{error:#}"));
            }
        }
    }
    report.write(&artifact::root().join("target/test-results.txt"))?;
    progress(&format!("all tests took {} s", started.elapsed().as_secs()));
    Ok(report.close())
}
