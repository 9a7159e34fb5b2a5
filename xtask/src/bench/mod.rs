//! `cargo xtask bench`: what tracing costs, counted in the guest's instructions.
//!
//! Guests run with the counting clock: one instruction is one nanosecond, so that the figures repeat to about 1 %
//! whatever else the host does. The guest's side is `xtask/guest/bench`.
//!
//! Deliberately absent: wall-clock time, which an emulated machine says nothing about.

mod table;

use crate::artifact;
use crate::image::{Images, peers};
use crate::kernel::Kernel;
use crate::qemu::{Job, Machine, boot};
use crate::setup::{LAB_PACKAGES, Lab, host_packages, progress};
use crate::test::guest_files;
use anyhow::{Context, Result};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;
use table::Row;

/// Boot the lab's kernels with a counting clock and show what tracing costs in instructions a packet.
///
/// Rows: the load untraced; for each backend an empty program at the same functions (the floor), ktrail with a
/// filter that matches nothing of the load (miss) and with one that matches all (hit). Then scripts: the smallest one,
/// a wildcard over some 4,500 functions, and probes/nf_latency.probe, before it the load with three netfilter hooks
/// that it measures.
#[derive(Debug, Args)]
pub struct Options {
    /// The kernel; may be given more than once [default: all].
    #[arg(long = "kernel", value_name = "K", value_enum)]
    kernels: Vec<Kernel>,
    /// Only rows whose names contain this; may be given more than once.
    #[arg(long = "row", value_name = "TEXT")]
    rows: Vec<String>,
    /// Measure pwru and bpftrace as well, from packages of Debian's suite for testing: pwru with the filters of miss and
    /// hit; of bpftrace the smallest script and two that time nf_hook_slow, by kprobes and by trampolines, which ktrail
    /// runs, too.
    #[arg(long)]
    peers: bool,
    /// The table as README.md shows it.
    #[arg(long)]
    markdown: bool,
    /// Keep what the tools said in DIR/K.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Give up on a kernel after so many seconds.
    #[arg(long, value_name = "S", default_value_t = 1800)]
    timeout: u64,
}

/// Runs the subcommand; gives its exit code.
pub fn run(options: &Options) -> Result<u8> {
    host_packages(LAB_PACKAGES)?;
    let lab = Lab::open()?;
    let binary = artifact::ktrail(true)?;
    let kernels = match options.kernels.is_empty() {
        true => Kernel::ALL.to_vec(),
        false => options.kernels.clone(),
    };
    let images = Images::prepare(&lab, &kernels)?;
    let mut files = guest_files(&binary);
    files.push((
        artifact::root().join("xtask/guest/bench"),
        PathBuf::from("/lab/bench"),
    ));
    if options.peers {
        files.push((peers(&lab)?, PathBuf::from("/peers")));
    }
    let mut all = vec![];
    for kernel in kernels {
        let rows = rows(kernel, options);
        progress(&format!(
            "kernel {}: measuring {} rows",
            images.kernel(kernel)?.release,
            rows.len()
        ));
        let job = Job {
            script: Some(format!("bash /lab/bench {}", rows.join(" "))),
            files: files.clone(),
            out: options.out.as_ref().map(|dir| dir.join(kernel.name())),
            echo: false,
            machine: Machine {
                smp: 1,
                memory: 2048,
                icount: true,
                shift: 0,
                timeout: Duration::from_secs(options.timeout),
            },
        };
        let outcome = boot(&lab, &images, kernel, &job)?;
        let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
        outcome.result.map_err(anyhow::Error::msg).context(said)?;
        let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
        let rows: Vec<Row> = text.lines().filter_map(Row::parse).collect();
        // Each kernel's as soon as it is known; together at the end they make a table that can be copied.
        if !options.markdown {
            print!("{}", table::text(kernel, &rows));
        }
        all.push((kernel, rows));
    }
    if options.markdown {
        print!("{}", table::markdown(&all));
    }
    Ok(0)
}

/// The rows that make sense on a kernel, as the guest's script knows them.
fn rows(kernel: Kernel, options: &Options) -> Vec<String> {
    let backends: &[&str] = match kernel {
        Kernel::V5_10 | Kernel::V6_1 => &["kprobe"],
        Kernel::V6_12 => &["kprobe-multi"],
        Kernel::V7 => &["tracing-multi", "kprobe-multi"],
    };
    let mut rows = vec!["untraced".to_owned()];
    for backend in backends {
        let kinds = ["floor", "miss", "hit", "summary", "summary-events"];
        rows.extend(kinds.map(|row| format!("{row}:{backend}")));
        // It needs the stack, which only kprobes know.
        if *backend != "tracing-multi" {
            rows.extend(["beneath-miss", "beneath-hit"].map(|row| format!("{row}:{backend}")));
        }
    }
    if options.peers {
        rows.extend(["pwru-miss", "pwru-hit"].map(str::to_owned));
    }
    rows.push("script:start".to_owned());
    if matches!(kernel, Kernel::V6_12 | Kernel::V7) {
        // Older ones, attaching one by one, have it in `ready` of the rows above.
        rows.push("script:wildcard".to_owned());
    }
    if kernel == Kernel::V7 {
        // Others load a program a function.
        rows.extend(["script:fentry-wildcard", "script:span-wildcard"].map(str::to_owned));
    }
    // The hooks stay for what follows.
    rows.extend(["script:hooks", "script:nf_latency"].map(str::to_owned));
    if options.peers {
        rows.extend(
            [
                "bpftrace:start",
                "script:kprobes",
                "bpftrace:kprobes",
                "script:trampolines",
                "bpftrace:trampolines",
            ]
            .map(str::to_owned),
        );
    }
    if !options.rows.is_empty() {
        // Everything is told in ratios to this one.
        rows.retain(|row| row == "untraced" || options.rows.iter().any(|text| row.contains(text.as_str())));
    }
    rows
}
