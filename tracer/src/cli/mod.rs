//! The command line: one file a subcommand, thin. What they do is elsewhere.

mod clean;
mod diff;
mod doctor;
mod explain;
mod filter;
mod list;
mod plot;
mod rendering;
mod run;
mod show;
mod trace;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::trace::pipeline::is_over;
use crate::trace::session::NothingToAttach;

/// Kernel tracing for people who debug connectivity.
#[derive(Debug, Parser)]
#[command(name = "ktrail", version, propagate_version = true, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    /// Colour the output
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    color: Color,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples, as root:
  Where do my DNS queries go?
    ktrail trace 'udp and dst 8.8.8.8 and port 53' -- dig +tries=1 @8.8.8.8 example.com
  Who calls nf_hook_slow, and how often?
    ktrail run -e 'kprobe:nf_hook_slow { @[comm] = count(); }'
  What can this machine do, and what does it lack?
    ktrail doctor";

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    Always,
    Never,
}

impl Color {
    /// Whether to colour what goes to a stream that is a terminal, or isn't.
    fn enabled(self, terminal: bool) -> bool {
        match self {
            Color::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
            Color::Always => true,
            Color::Never => false,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    // As --help lists them.
    Trace(trace::Args),
    Show(show::Args),
    Diff(diff::Args),
    Explain(explain::Args),
    Run(run::Args),
    Filter(filter::Args),
    List(list::Args),
    Doctor(doctor::Args),
    Plot(plot::Args),
    Clean(clean::Args),
}

/// What was typed is wrong: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Run the command line; the exit code is 0 when done, 1 when the run failed, 2 when the command line was wrong.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help, the version, or what is wrong.
        Err(text) => {
            return match text.print() {
                Err(error) if !text.use_stderr() => fail(&error.into()),
                _ => ExitCode::from(u8::try_from(text.exit_code()).unwrap_or(2)),
            };
        }
    };
    let result = match &cli.command {
        Command::Clean(args) => clean::main(args).map(|()| 0),
        Command::Doctor(args) => doctor::main(args).map(|()| 0),
        Command::Diff(args) => diff::main(args, cli.color),
        Command::Show(args) => show::main(args, cli.color).map(|()| 0),
        Command::Explain(args) => explain::main(args).map(|()| 0),
        Command::List(args) => list::main(args).map(|()| 0),
        Command::Plot(args) => plot::main(args).map(|()| 0),
        Command::Trace(args) => trace::main(args, cli.color).map(|()| 0),
        Command::Run(args) => run::main(args),
        Command::Filter(args) => filter::main(args).map(|()| 0),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    // Who reads the output has had enough: that is no failure.
    if error
        .chain()
        .any(|e| e.downcast_ref::<io::Error>().is_some_and(is_over))
    {
        return ExitCode::SUCCESS;
    }
    match error.downcast_ref::<io::Error>() {
        // Other files are named.
        Some(full) if is_full(full) && error.chain().count() == 1 => {
            eprintln!("ktrail: the output can't be written: {full}; write it elsewhere, or make room");
        }
        _ => eprintln!("ktrail: {error:#}"),
    }
    if error.is::<Usage>() || error.is::<NothingToAttach>() {
        ExitCode::from(2)
    } else {
        ExitCode::FAILURE
    }
}

/// Whether there was no room for what was written.
fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
