//! The project's chores: `cargo xtask demo | test | bench | lab`. Each does its own set-up.

mod apt;
mod artifact;
mod bench;
mod command;
mod demo;
mod image;
mod kernel;
mod lab;
mod qemu;
mod setup;
mod test;

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
    Demo(demo::Options),
    Test(test::Options),
    Bench(bench::Options),
    Lab(lab::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse().chore {
        Chore::Demo(options) => demo::run(&options),
        Chore::Bench(options) => bench::run(&options),
        Chore::Lab(options) => lab::run(&options),
        Chore::Test(options) => test::run(&options),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
