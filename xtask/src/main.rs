//! The project's chores: lab, demo, test, bench.

fn main() {}
