//! The probe language: text to typed AST to IR programs, plus a description for the runtime.
//!
//! Deliberately absent: attaching, reading maps and printing, which are the crate's above.

pub mod env;
pub mod output;
pub mod types;
