//! The `ktrail` command.

fn main() {}
