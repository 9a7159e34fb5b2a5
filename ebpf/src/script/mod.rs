//! The probe language: text to typed AST to IR programs, plus a description for the runtime.
//!
//! [`parse`] goes from text to [`ast`]: it preprocesses, parses and expands macros. It knows the names of the
//! language, but nothing of a kernel. Deliberately absent: files; attaching, reading maps and printing, which are
//! the crate's above.

pub mod ast;
mod check;
mod diagnostic;
pub mod env;
mod expand;
mod lower;
mod names;
pub mod output;
pub mod print;
mod resolve;
mod syntax;
pub mod types;
mod visit;

pub use lower::points::{HARDWARE, SOFTWARE};
pub use lower::{compile, from_environment};

pub use diagnostic::{Diagnostic, Severity, render_all};
pub use names::{BUILTINS, CONFIG_KEYS, FUNCTIONS};

/// The longest text that [`parse`] takes, in bytes.
pub const MAX_TEXT: usize = 1 << 20;

/// The most diagnostics that [`parse`] gives.
const MAX_DIAGNOSTICS: usize = 50;

/// What a script is called with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParseOptions {
    /// `$1`, `$2` and so on.
    pub positional: Vec<String>,
    /// Where in the text the files begin that are [imported](imports): they stand behind the script itself, and each
    /// is understood for itself, with `#define`s and comments of its own. The probes of the last one come first.
    pub imported: Vec<usize>,
}

/// The files that `text` imports, in their order. What else is wrong with it is [`parse`]'s to say.
pub fn imports(text: &str) -> Vec<ast::Import> {
    syntax::parse(text, &ParseOptions::default()).0.imports
}

/// The script that `text` says, with macros expanded, and everything that is wrong with it. If one of the
/// diagnostics [is an error](Diagnostic::is_error), the script holds only what could be understood.
pub fn parse(text: &str, options: &ParseOptions) -> (ast::Script, Vec<Diagnostic>) {
    let (mut script, mut diagnostics) = syntax::parse(text, options);
    // After errors in the text, names that nobody defines are mostly their consequence.
    if !diagnostics.iter().any(Diagnostic::is_error) {
        expand::expand(&mut script, &mut diagnostics);
    }
    if !diagnostics.iter().any(Diagnostic::is_error) {
        check::check(&mut script, &mut diagnostics);
    }
    diagnostics.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.span.end));
    diagnostics.truncate(MAX_DIAGNOSTICS);
    (script, diagnostics)
}

/// The builtin or function that was probably meant by `name`.
pub fn suggest(name: &str) -> Option<&'static str> {
    names::nearest(name, BUILTINS.iter().chain(FUNCTIONS).copied())
}
