//! The project's chores: `cargo xtask lab`. Each does its own set-up.

mod apt;
mod artifact;
mod command;
mod image;
mod kernel;
mod lab;
mod qemu;
mod setup;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// The project's chores.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    Lab(lab::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse().chore {
        Chore::Lab(options) => lab::run(&options),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
