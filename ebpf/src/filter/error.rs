//! Errors and notices at a place in a filter's text, and how they are shown.

use std::fmt;
use std::ops::Range;

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
        out.push_str(&excerpt(text, &self.span));
        if let Some(expected) = &self.expected {
            out.push_str(&format!("\nexpected: {expected}"));
        }
        if let Some(suggestion) = &self.suggestion {
            out.push_str(&format!("\nhelp: {suggestion}"));
        }
        out
    }
}

/// How many characters of a long line are shown around a place.
const CONTEXT: usize = 60;

/// The line of `text` that holds `span`'s start and a line of carets below, each indented by two blanks. What can't
/// be printed is shown as `\u{fffd}`, so that no text can move the carets or the cursor.
fn excerpt(text: &str, span: &Range<usize>) -> String {
    let clamp = |at: usize| {
        let mut at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let (start, end) = (clamp(span.start), clamp(span.end.max(span.start)));
    let line_start = text[..start].rfind('\n').map_or(0, |i| i + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |i| start + i);
    let before: Vec<char> = text[line_start..start].chars().collect();
    let rest: Vec<char> = text[start..line_end].chars().collect();
    let marked = text[start..end.min(line_end).max(start)].chars().count();

    let cut_left = before.len().saturating_sub(CONTEXT);
    let cut_right = rest.len().min(CONTEXT);
    let printable = |c: &char| match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => *c,
    };
    let mut line = String::from("  ");
    let mut carets = String::from("  ");
    if cut_left > 0 {
        line.push('…');
        carets.push(' ');
    }
    line.extend(before[cut_left..].iter().map(printable));
    carets.extend(before[cut_left..].iter().map(|_| ' '));
    line.extend(rest[..cut_right].iter().map(printable));
    if cut_right < rest.len() {
        line.push('…');
    }
    carets.extend((0..marked.min(cut_right).max(1)).map(|_| '^'));
    format!("{}\n{carets}", line.trim_end())
}
