//! The only room with system calls and `unsafe`.
//!
//! [`sys`] is the seam that tests fake; [`program`], [`maps`] and [`ring`] load and talk to programs;
//! [`btf`] knows the types, [`symbols`] the addresses, [`probeable`] what of both can be probed, by what `locate` or the
//! kernel's lists say; [`attach`] does it.

pub mod attach;
pub mod btf;
pub mod doctor;
pub mod features;
pub mod firewall;
pub mod locate;
pub mod maps;
pub mod places;
pub mod probeable;
pub mod process;
pub mod program;
mod program_btf;
pub mod ring;
pub mod signals;
pub mod symbols;
pub mod sys;
pub mod time;
pub mod tracefs;

/// Something that this machine or this user lacks. Ends the run with exit code 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}; {fix}")]
pub struct Lacking {
    /// What can't be done.
    pub what: String,
    /// Why.
    pub why: String,
    /// The way out.
    pub fix: String,
}
