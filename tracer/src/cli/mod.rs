//! One file a subcommand, thin.

use std::process::ExitCode;

/// Run the command line; the exit code is 0 when done, 1 when the run failed, 2 when the command line was wrong.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
