//! `ktrail run`: a script's life, from its text to the maps that it prints at the end.

pub mod decode;
pub mod env;
pub mod events;
pub mod format;
pub mod imports;
pub mod list;
pub mod load;
pub mod names;
mod pattern;
pub mod session;
mod syscalls;
pub mod tables;
mod user_symbols;
