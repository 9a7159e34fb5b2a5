//! Errors and warnings at a place in a script's text, and how they are shown.

use std::fmt::Write;

use super::ast::Span;
use crate::excerpt::{excerpt, line_and_column};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The script can't run.
    Error,
    /// The script runs, but perhaps not as meant.
    Warning,
}

/// What is wrong with a script, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The place.
    pub span: Span,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong: one sentence without a full stop.
    pub message: String,
    /// What was probably meant, or the way out.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// An error without a hint.
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self {
            span,
            severity: Severity::Error,
            message: message.into(),
            hint: None,
        }
    }

    /// A warning without a hint.
    pub fn warning(span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(span, message)
        }
    }

    /// Say what was probably meant, or the way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// It is an error, not a warning.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The message with its place, the line of the script and an underline; ends with a newline.
    ///
    /// ```text
    /// demo.probe:2:5-10: ERROR: unknown function 'prinf'
    ///     prinf("hello");
    ///     ~~~~~
    /// HINT: did you mean 'printf'?
    /// ```
    /// Columns count characters from 1; the second is one past the end.
    pub fn render(&self, file: &str, text: &str) -> String {
        let range = self.span.start as usize..self.span.end as usize;
        let (line, column) = line_and_column(text, range.start);
        let shown = excerpt(text, &range, '~', "");
        let severity = match self.severity {
            Severity::Error => "ERROR",
            Severity::Warning => "WARNING",
        };
        let end = column + shown.marked;
        let mut out = format!("{file}:{line}:{column}-{end}: {severity}: {}\n", self.message);
        let _ = writeln!(out, "{}\n{}", shown.line, shown.marks);
        if let Some(hint) = &self.hint {
            let _ = writeln!(out, "HINT: {hint}");
        }
        out
    }
}

/// All of them, in the order of their places.
pub fn render_all(diagnostics: &[Diagnostic], file: &str, text: &str) -> String {
    let mut sorted: Vec<&Diagnostic> = diagnostics.iter().collect();
    sorted.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.span.end));
    sorted
        .iter()
        .map(|diagnostic| diagnostic.render(file, text))
        .collect()
}
