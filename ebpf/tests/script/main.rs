//! Scripts, compiled and run in the interpreters: what the language means.

mod env;
mod programs;
mod random;
mod semantics;
