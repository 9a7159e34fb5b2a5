//! ktrail: kernel tracing for people who debug connectivity.
//!
//! [`cli`] reads the command line, [`kernel`] is the only room that talks to the kernel, [`trace`] follows packets,
//! [`experiment`] measures and plots.

pub mod cli;
pub mod experiment;
pub mod kernel;
pub mod run;
pub mod trace;
