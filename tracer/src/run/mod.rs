//! `ktrail run`: a script's life, from its text to the maps that it prints at the end.

pub mod decode;
pub mod env;
pub mod format;
pub mod load;
pub mod names;
mod pattern;
mod syscalls;
mod user_symbols;
