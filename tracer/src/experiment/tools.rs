//! Programs that are run to get things done: ip, iptables, nft, iperf3.
//!
//! They are run as child processes without a shell, each in a process group of its own: Ctrl-C on a terminal is for
//! ktrail, which then ends them in order. What is missing is said with the way to get it.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Where to find programs when the environment does not say: sudo and services often have a short PATH.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a program did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not installed.
    #[error("'{program}' is not installed; get it with: apt install {package}   (or: dnf install {package})")]
    Missing {
        /// Its name.
        program: String,
        /// The package that has it.
        package: &'static str,
    },
    /// It can't be started.
    #[error("'{program}' can't be started: {error}")]
    Start {
        /// Its name.
        program: String,
        /// The reason.
        error: std::io::Error,
    },
    /// It failed.
    #[error("'{command}' failed: {message}")]
    Failed {
        /// What was run.
        command: String,
        /// The first lines that it said.
        message: String,
    },
}

/// The package that has a program, by its name in Debian; Fedora's differ little.
fn package(program: &str) -> &'static str {
    match program {
        "iperf3" => "iperf3",
        "nft" => "nftables",
        "ip" | "tc" => "iproute2",
        "kill" => "procps",
        _ => "iptables",
    }
}

/// A command, in a namespace if one is named (as `ip netns` knows it).
pub fn command(namespace: Option<&str>, program: &str) -> Command {
    let mut command = match namespace {
        Some(namespace) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", namespace, program]);
            command
        }
        None => Command::new(program),
    };
    let path = std::env::var("PATH").unwrap_or_default();
    command.env(
        "PATH",
        if path.is_empty() {
            PATH.into()
        } else {
            format!("{path}:{PATH}")
        },
    );
    command.env("LC_ALL", "C").process_group(0);
    command
}

/// Whether the program is there.
pub fn needed(program: &str) -> Result<(), Error> {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = path
        .split(':')
        .chain(PATH.split(':'))
        .any(|folder| std::path::Path::new(folder).join(program).is_file());
    if found { Ok(()) } else { Err(missing(program)) }
}

fn missing(program: &str) -> Error {
    Error::Missing {
        program: program.into(),
        package: package(program),
    }
}

/// Runs a program to its end, and returns what it wrote.
pub fn run(namespace: Option<&str>, program: &str, args: &[&str]) -> Result<String, Error> {
    run_with(namespace, program, args, "")
}

/// Runs a program with this input to its end, and returns what it wrote.
pub fn run_with(namespace: Option<&str>, program: &str, args: &[&str], input: &str) -> Result<String, Error> {
    let mut command = command(namespace, program);
    command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| start_error(program, error))?;
    let mut stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            if let Some(stdin) = &mut stdin {
                // A program that does not read its input says itself what is wrong.
                let _ = stdin.write_all(input.as_bytes());
            }
            drop(stdin);
        });
        child.wait_with_output()
    })
    .map_err(|error| start_error(program, error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said: Vec<&str> = said
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .take(3)
            .collect();
        return Err(Error::Failed {
            command: std::iter::once(program)
                .chain(args.iter().copied())
                .collect::<Vec<_>>()
                .join(" "),
            message: if said.is_empty() {
                output.status.to_string()
            } else {
                said.join("; ")
            },
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What it means that a program could not be started.
pub fn start_error(program: &str, error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::NotFound {
        return missing(program);
    }
    Error::Start {
        program: program.into(),
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_with_the_way_to_get_it() {
        let error = run(None, "nft-that-is-not-there", &[]).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("is not installed; get it with: apt install"),
            "{error}"
        );
        assert_eq!(package("iptables-legacy-restore"), "iptables");
    }

    #[test]
    fn input_output_and_failure() {
        assert_eq!(run_with(None, "cat", &[], "hello").unwrap(), "hello");
        let error = run(None, "ls", &["/nothing/here"]).unwrap_err().to_string();
        assert!(
            error.starts_with("'ls /nothing/here' failed: ls: cannot access"),
            "{error}"
        );
    }
}
