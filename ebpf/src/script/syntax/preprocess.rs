//! The part of C's preprocessor that scripts use: object-like `#define`, `#undef` and conditions.
//!
//! Nothing is rewritten: comments, directives and branches that aren't taken become blanks of the same length, so
//! that every place in the result is the same place in the text. The parser replaces defined names as it meets them.
//! Deliberately absent: `#include` (the types come from the kernel's BTF) and macros with parameters (the language
//! has its own).

use std::collections::HashMap;
use std::ops::Range;

use crate::script::Diagnostic;
use crate::script::ast::Span;

/// From where on a name stands for something, and the replacement's place.
type Definition = (usize, Option<Range<usize>>);

/// A text without comments and directives, and what they said.
pub(super) struct Preprocessed {
    /// As long as the original; what is gone is blank.
    pub text: String,
    /// As `text`, but `#define`s and their comments still stand: replacements are read from here.
    pub define_text: String,
    /// What each name stands for, in the order of the definitions: from where on, and the replacement's place. No
    /// place after an `#undef`.
    pub defines: HashMap<String, Vec<Definition>>,
    /// What is wrong with the directives.
    pub diagnostics: Vec<Diagnostic>,
}

impl Preprocessed {
    /// What `name` stands for at `place`.
    pub fn define(&self, name: &str, place: usize) -> Option<Range<usize>> {
        let definitions = self.defines.get(name)?;
        definitions
            .iter()
            .rev()
            .find(|(from, _)| *from <= place)?
            .1
            .clone()
    }
}

/// A condition that is open.
struct Condition {
    /// Its first directive.
    span: Span,
    /// Its text counts at present.
    active: bool,
    /// One of its branches was taken.
    taken: bool,
    /// It stands in a branch that isn't taken.
    dead: bool,
    /// `#else` has been seen.
    last: bool,
}

struct Preprocessor<'a> {
    text: &'a str,
    out: Preprocessed,
    blanks: Vec<Range<usize>>,
    conditions: Vec<Condition>,
    /// A warning about headers was given.
    included: bool,
}

/// Takes comments and directives out of `text`, which begins at `start`, behind blanks.
pub(super) fn preprocess(text: &str, start: usize) -> Preprocessed {
    let mut state = Preprocessor {
        text,
        out: Preprocessed {
            text: String::new(),
            define_text: text.replace('\\', " "),
            defines: HashMap::new(),
            diagnostics: Vec::new(),
        },
        blanks: Vec::new(),
        conditions: Vec::new(),
        included: false,
    };
    state.run(start);
    let mut bytes = text.as_bytes().to_vec();
    for range in &state.blanks {
        for byte in &mut bytes[range.clone()] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
    }
    // Whole characters became blanks: the ranges lie between characters.
    state.out.text = String::from_utf8(bytes).unwrap_or_default();
    state.out
}

impl Preprocessor<'_> {
    fn run(&mut self, start: usize) {
        let bytes = self.text.as_bytes();
        let mut at = start;
        if self.text[start..].starts_with("#!") {
            at = self.line_end(start);
            self.blanks.push(start..at);
        }
        let mut fresh = true;
        let mut dead_from = at;
        while at < bytes.len() {
            let active = self.active();
            match bytes[at] {
                b'\n' => {
                    fresh = true;
                    at += 1;
                }
                b'#' if fresh => {
                    let end = self.logical_end(at);
                    if !active {
                        self.blanks.push(dead_from..at);
                    }
                    self.blanks.push(at..end);
                    self.directive(at, end);
                    at = end;
                    dead_from = end;
                }
                byte if byte.is_ascii_whitespace() => at += 1,
                b'/' if bytes.get(at + 1) == Some(&b'/') => {
                    let end = self.line_end(at);
                    self.blanks.push(at..end);
                    at = end;
                }
                b'/' if bytes.get(at + 1) == Some(&b'*') => {
                    let end = self.text[at + 2..].find("*/").map(|i| at + 2 + i + 2);
                    if end.is_none() && active {
                        let span = Span::new(at, at + 2);
                        self.out
                            .diagnostics
                            .push(Diagnostic::error(span, "this comment never ends"));
                    }
                    let end = end.unwrap_or(bytes.len());
                    self.blanks.push(at..end);
                    at = end;
                }
                b'"' if active => {
                    fresh = false;
                    at = string_end(bytes, at).0;
                }
                _ => {
                    fresh = false;
                    at += 1;
                }
            }
        }
        if !self.active() {
            self.blanks.push(dead_from..bytes.len());
        }
        for condition in &self.conditions {
            let error = Diagnostic::error(condition.span, "no #endif follows");
            self.out.diagnostics.push(error);
        }
    }

    fn active(&self) -> bool {
        self.conditions.last().is_none_or(|condition| condition.active)
    }

    fn line_end(&self, at: usize) -> usize {
        self.text[at..].find('\n').map_or(self.text.len(), |i| at + i)
    }

    /// The end of a line that backslashes may continue.
    fn logical_end(&self, at: usize) -> usize {
        let mut end = self.line_end(at);
        while self.text[at..end].trim_end_matches('\r').ends_with('\\') && end < self.text.len() {
            end = self.line_end(end + 1);
        }
        end
    }

    fn directive(&mut self, start: usize, end: usize) {
        let span = Span::new(start, start + self.text[start..end].trim_end().len());
        let body = &self.text[start + 1..end];
        let trimmed = body.trim_start();
        let name_len = word_len(trimmed);
        let (name, rest) = trimmed.split_at(name_len);
        let rest_at = start + 1 + (body.len() - trimmed.len()) + name_len;
        let rest = rest.split("//").next().unwrap_or("");
        let rest = rest.split("/*").next().unwrap_or("");
        let active = self.active();
        let word = rest.trim();
        match name {
            "ifdef" => self.open(span, |this| this.defined(word, start)),
            "ifndef" => self.open(span, |this| !this.defined(word, start)),
            "if" => self.open(span, |this| this.condition(word, span)),
            "elif" | "else" => self.branch(name, word, span),
            "endif" => {
                if self.conditions.pop().is_none() {
                    self.error(span, "this #endif closes nothing");
                }
            }
            _ if !active => {}
            "define" => self.define(rest, rest_at, span, end),
            "undef" => {
                let definitions = self.out.defines.entry(word.to_string()).or_default();
                definitions.push((end, None));
            }
            "include" if self.included => {}
            "include" => {
                self.included = true;
                let warning = Diagnostic::warning(span, "headers aren't read");
                self.out
                    .diagnostics
                    .push(warning.hint("the kernel's types and enums are known without them, from its BTF"));
            }
            "error" => self.error(span, format!("#error {word}")),
            "pragma" | "warning" | "line" | "" => {}
            _ => self.error(span, format!("#{name} isn't a directive that scripts have")),
        }
    }

    fn error(&mut self, span: Span, message: impl Into<String>) {
        self.out.diagnostics.push(Diagnostic::error(span, message));
    }

    fn open(&mut self, span: Span, holds: impl FnOnce(&mut Self) -> bool) {
        let dead = !self.active();
        let active = !dead && holds(self);
        self.conditions.push(Condition {
            span,
            active,
            taken: active,
            dead,
            last: false,
        });
    }

    fn branch(&mut self, name: &str, word: &str, span: Span) {
        let Some(condition) = self.conditions.last() else {
            self.error(span, format!("this #{name} belongs to no #if"));
            return;
        };
        if condition.last {
            self.error(span, format!("this #{name} stands after the #else"));
            return;
        }
        let open = !condition.dead && !condition.taken;
        let holds = open && (name == "else" || self.condition(word, span));
        if let Some(condition) = self.conditions.last_mut() {
            condition.active = holds;
            condition.taken |= holds;
            condition.last = name == "else";
        }
    }

    fn defined(&self, name: &str, place: usize) -> bool {
        // Scripts ask for this one to know whether types come from BTF.
        name == "BPFTRACE_HAVE_BTF" || self.out.define(name, place).is_some()
    }

    /// `0`, `1`, `NAME`, `defined(NAME)`, each with a `!` in front.
    fn condition(&mut self, text: &str, span: Span) -> bool {
        if let Some(rest) = text.strip_prefix('!') {
            return !self.condition(rest.trim(), span);
        }
        if let Ok(number) = text.parse::<u64>() {
            return number != 0;
        }
        let place = span.start as usize;
        let inner = text
            .strip_prefix("defined")
            .map(|rest| rest.trim().trim_start_matches('(').trim_end_matches(')').trim());
        let name = inner.unwrap_or(text);
        if name.is_empty() || word_len(name) != name.len() {
            self.error(
                span,
                "conditions can be a number, NAME, defined(NAME) or their opposite with !",
            );
            return false;
        }
        match inner {
            Some(name) => self.defined(name, place),
            None => match self.out.define(name, place) {
                Some(range) => self.text[range]
                    .trim()
                    .parse::<u64>()
                    .is_ok_and(|number| number != 0),
                None => false,
            },
        }
    }

    fn define(&mut self, rest: &str, rest_at: usize, span: Span, end: usize) {
        let trimmed = rest.trim_start();
        let name_at = rest_at + rest.len() - trimmed.len();
        let len = word_len(trimmed);
        let (name, value) = trimmed.split_at(len);
        if name.is_empty() {
            self.error(span, "#define needs a name");
            return;
        }
        if value.starts_with('(') {
            let error = Diagnostic::error(span, "#define can't have parameters");
            let hint = format!("write 'macro {name}(…) {{ … }}'");
            self.out.diagnostics.push(error.hint(hint));
            return;
        }
        let from = name_at + len;
        let definitions = self.out.defines.entry(name.to_string()).or_default();
        definitions.push((end, Some(from..from + value.trim_end().len())));
    }
}

/// How many bytes at the start of `text` belong to a name.
pub(super) fn word_len(text: &str) -> usize {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    text.bytes().take_while(|byte| is_name(byte)).count()
}

/// The first byte after the string that starts at `at`, and whether it was closed on its line.
pub(super) fn string_end(bytes: &[u8], at: usize) -> (usize, bool) {
    let mut end = at + 1;
    while end < bytes.len() {
        match bytes[end] {
            b'\\' if end + 1 < bytes.len() && bytes[end + 1] != b'\n' => end += 2,
            b'"' => return (end + 1, true),
            b'\n' => return (end, false),
            _ => end += 1,
        }
    }
    (bytes.len(), false)
}
