//! Errors and notices at a place in a filter's text, and how they are shown.

use std::fmt;
use std::ops::Range;

use crate::excerpt::excerpt;

/// What is wrong with a filter, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Byte range in the text. Empty at the text's end for what is missing there.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What could stand there.
    pub expected: Option<String>,
    /// What was probably meant, or the way out.
    pub suggestion: Option<String>,
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error {
    /// An error without more than a message.
    pub(crate) fn new(span: Range<usize>, message: impl Into<String>) -> Error {
        Error {
            span,
            message: message.into(),
            expected: None,
            suggestion: None,
        }
    }

    /// Say what could stand there.
    pub(crate) fn expected(mut self, what: impl Into<String>) -> Error {
        self.expected = Some(what.into());
        self
    }

    /// Say what was probably meant.
    pub(crate) fn suggest(mut self, what: impl Into<String>) -> Error {
        self.suggestion = Some(what.into());
        self
    }

    /// The error under the line it is in, with a caret at its place; several lines, the last without a newline.
    ///
    /// ```text
    /// error: unknown word 'prot'
    ///   udp and prot 53
    ///           ^^^^
    /// help: did you mean 'port'?
    /// ```
    pub fn render(&self, text: &str) -> String {
        let mut out = format!("error: {}\n", self.message);
        let shown = excerpt(text, &self.span, '^', "  ");
        out.push_str(&format!("{}\n{}", shown.line, shown.marks));
        if let Some(expected) = &self.expected {
            out.push_str(&format!("\nexpected: {expected}"));
        }
        if let Some(suggestion) = &self.suggestion {
            out.push_str(&format!("\nhelp: {suggestion}"));
        }
        out
    }
}

/// Something to know about a filter that is fine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Byte range in the text.
    pub span: Range<usize>,
    /// What to know.
    pub message: String,
}

impl Notice {
    /// As [`Error::render`] does it.
    pub fn render(&self, text: &str) -> String {
        let shown = excerpt(text, &self.span, '^', "  ");
        format!("note: {}\n{}\n{}", self.message, shown.line, shown.marks)
    }
}
