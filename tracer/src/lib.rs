//! ktrail: kernel tracing for people who debug connectivity.
//!
//! [`cli`] reads the command line, [`kernel`] is the only room that talks to the kernel, [`trace`] follows packets,
//! [`tui`] shows them live, [`experiment`] measures and plots, [`capture`] applies filters to files.

// Panics where a stream can't be written to.
#![cfg_attr(not(test), deny(clippy::print_stdout))]

// First: its macros are for all that follow.
#[macro_use]
mod say;

pub mod capture;
pub mod cli;
pub mod experiment;
pub mod kernel;
pub mod names;
pub mod run;
pub mod trace;
pub mod tui;
