//! The probe language: text to typed AST to IR programs, plus a description for the runtime.
//!
//! [`parse`] goes from text to [`ast`]: it preprocesses, parses and expands macros. It knows the names of the
//! language, but nothing of a kernel. Deliberately absent: files; attaching, reading maps and printing, which are
//! the crate's above.

pub mod ast;
mod diagnostic;
pub mod env;
mod lower;
mod names;
pub mod output;
pub mod print;
mod resolve;
mod syntax;
pub mod types;

pub use lower::compile;

pub use diagnostic::{Diagnostic, Severity, render_all};

/// The longest text that [`parse`] takes, in bytes.
pub const MAX_TEXT: usize = 1 << 20;

/// What a script is called with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParseOptions {
    /// `$1`, `$2` and so on.
    pub positional: Vec<String>,
}

/// The script that `text` says, with macros expanded, and everything that is wrong with it. If one of the
/// diagnostics [is an error](Diagnostic::is_error), the script holds only what could be understood.
pub fn parse(text: &str, options: &ParseOptions) -> (ast::Script, Vec<Diagnostic>) {
    syntax::parse(text, options)
}
