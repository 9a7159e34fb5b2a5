//! `cargo xtask lab`: one command, or a shell, in a guest.

use crate::artifact;
use crate::command::quote;
use crate::image::Images;
use crate::kernel::Kernel;
use crate::qemu::{Job, Machine, boot};
use crate::setup::{LAB_PACKAGES, Lab, host_packages, progress};
use crate::test::guest_files;
use anyhow::{Error, Result, bail};
use clap::Args;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

/// Run a command on a stock Debian kernel in QEMU.
///
/// The command runs as root, with ktrail on its PATH, and its exit code is this command's. What it writes to
/// /out comes back with --out. Without a command there is a shell. /lab/tests has the repository's tests/lab:
/// after `. /lab/tests/lib.sh` there is dns_topology_up and more.
#[derive(Debug, Args)]
pub struct Options {
    /// The kernel; may be given more than once.
    #[arg(long = "kernel", value_name = "K", default_value = "6.12", value_parser = parse_kernels)]
    kernels: Vec<Kernels>,
    /// CPUs [default: 2, with --icount 1].
    #[arg(long)]
    smp: Option<u32>,
    /// Memory in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    memory: u32,
    /// Let one guest instruction be 2^SHIFT nanoseconds of guest time, for measurements that repeat [default SHIFT: 0].
    #[arg(long, value_name = "SHIFT", num_args = 0..=1, require_equals = true, default_missing_value = "0",
          value_parser = clap::value_parser!(u8).range(0..=10))]
    icount: Option<u8>,
    /// Put what the command writes to /out into DIR (with several kernels into DIR/K).
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Bring a file or directory along; DST is an absolute path in the guest.
    #[arg(long = "file", value_name = "SRC:DST", value_parser = parse_file)]
    files: Vec<(PathBuf, PathBuf)>,
    /// Use the release build of ktrail.
    #[arg(long)]
    release: bool,
    /// Give up after so many seconds.
    #[arg(long, value_name = "S", default_value_t = 300)]
    timeout: u64,
    /// One word is a shell script, several are a command and its arguments.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

#[derive(Debug, Clone)]
struct Kernels(Vec<Kernel>);

fn parse_kernels(text: &str) -> Result<Kernels, String> {
    let names: Vec<_> = Kernel::ALL.iter().map(|kernel| kernel.name()).collect();
    if text == "all" {
        return Ok(Kernels(Kernel::ALL.to_vec()));
    }
    let found = Kernel::ALL.into_iter().find(|kernel| kernel.name() == text);
    found
        .map(|kernel| Kernels(vec![kernel]))
        .ok_or_else(|| format!("it is one of {}, or all", names.join(", ")))
}

fn parse_file(text: &str) -> Result<(PathBuf, PathBuf), String> {
    match text.split_once(':') {
        Some((from, to)) if !from.is_empty() && to.starts_with('/') => Ok((from.into(), to.into())),
        _ => Err("it is SRC:DST with an absolute DST".into()),
    }
}

/// Runs the subcommand; gives its exit code.
pub fn run(options: &Options) -> Result<u8> {
    let interactive = options.command.is_empty();
    if interactive && !std::io::stdin().is_terminal() {
        bail!("there is no command and no terminal for a shell; give a command after `--`");
    }
    let named = |kernel: &Kernel| options.kernels.iter().any(|kernels| kernels.0.contains(kernel));
    let kernels: Vec<Kernel> = Kernel::ALL.into_iter().filter(named).collect();
    let script = (!interactive).then(|| script(&options.command));
    let lab = Lab::open()?;
    host_packages(LAB_PACKAGES)?;
    let binary = artifact::ktrail(options.release)?;
    let images = Images::prepare(&lab, &kernels)?;
    let mut files = guest_files(&binary);
    files.extend(options.files.iter().cloned());
    let mut code = 0;
    for &kernel in &kernels {
        progress(&format!("kernel {kernel}: {}", images.kernel(kernel)?.release));
        let job = Job {
            script: script.clone(),
            files: files.clone(),
            out: options.out.as_ref().map(|dir| {
                if kernels.len() > 1 {
                    dir.join(kernel.name())
                } else {
                    dir.clone()
                }
            }),
            echo: true,
            machine: Machine {
                smp: options
                    .smp
                    .unwrap_or(if options.icount.is_some() { 1 } else { 2 }),
                memory: options.memory,
                icount: options.icount.is_some(),
                shift: options.icount.unwrap_or(0),
                timeout: Duration::from_secs(options.timeout),
            },
        };
        let ended = boot(&lab, &images, kernel, &job)?.result.map_err(Error::msg)?;
        if code == 0 {
            code = ended;
        }
    }
    Ok(code)
}

fn script(command: &[String]) -> String {
    match command {
        [one] => one.clone(),
        words => words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_is_a_script() {
        assert_eq!(script(&["dig | cat".into()]), "dig | cat");
        assert_eq!(script(&["echo".into(), "a b".into()]), "echo 'a b'");
    }

    #[test]
    fn kernels_have_short_names() {
        assert_eq!(parse_kernels("6.1").unwrap().0, [Kernel::V6_1]);
        assert_eq!(parse_kernels("all").unwrap().0, Kernel::ALL);
        assert!(parse_kernels("4.19").unwrap_err().contains("6.12"));
    }

    #[test]
    fn a_file_needs_an_absolute_place() {
        assert_eq!(parse_file("a:/b"), Ok(("a".into(), "/b".into())));
        assert!(parse_file("a:b").is_err());
        assert!(parse_file("a").is_err());
    }
}
