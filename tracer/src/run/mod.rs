//! `ktrail run`: a script's life, from its text to the maps that it prints at the end.

pub mod format;
