//! Attach points. They aren't made of tokens: `kprobe:vfs_*` has no multiplication in it.

use super::lex::skip_blanks;
use super::preprocess::{string_end, word_len};
use super::{Failed, Parsed, Parser};
use crate::script::Diagnostic;
use crate::script::ast::*;
use crate::script::names;

/// How many parts may follow a provider, and how its points look.
fn form(provider: Provider) -> (usize, usize, &'static str) {
    match provider {
        Provider::Begin => (0, 0, "begin"),
        Provider::End => (0, 0, "end"),
        Provider::SelfSignal => (2, 2, "self:signal:SIGUSR1"),
        Provider::Kprobe => (1, 2, "kprobe:FUNCTION or kprobe:MODULE:FUNCTION"),
        Provider::Kretprobe => (1, 2, "kretprobe:FUNCTION or kretprobe:MODULE:FUNCTION"),
        Provider::Fentry => (1, 3, "fentry:FUNCTION or fentry:MODULE:FUNCTION"),
        Provider::Fexit => (1, 3, "fexit:FUNCTION or fexit:MODULE:FUNCTION"),
        Provider::Span => (1, 2, "span:FUNCTION or span:MODULE:FUNCTION"),
        Provider::Tracepoint => (2, 2, "tracepoint:CATEGORY:NAME"),
        Provider::RawTracepoint => (1, 2, "rawtracepoint:NAME or rawtracepoint:MODULE:NAME"),
        Provider::Iter => (1, 2, "iter:task, or another of the kernel's iterators"),
        Provider::Profile => (1, 2, "profile:hz:99 or profile:10ms"),
        Provider::Interval => (1, 2, "interval:s:1 or interval:1s"),
        Provider::Software => (1, 2, "software:EVENT or software:EVENT:COUNT"),
        Provider::Hardware => (1, 2, "hardware:EVENT or hardware:EVENT:COUNT"),
        Provider::Uprobe => (1, 4, "uprobe:FILE:FUNCTION"),
        Provider::Uretprobe => (1, 4, "uretprobe:FILE:FUNCTION"),
        Provider::Usdt => (2, 3, "usdt:FILE:PROVIDER:NAME"),
        Provider::Watchpoint => (3, 4, "watchpoint:ADDRESS:LENGTH:MODE"),
        Provider::Test => (1, 1, "test:NAME"),
        Provider::Bench => (1, 1, "bench:NAME"),
    }
}

/// Paths are among its parts, so a slash doesn't end it.
fn has_paths(provider: &str) -> bool {
    let path = [
        Provider::Uprobe,
        Provider::Uretprobe,
        Provider::Usdt,
        Provider::Iter,
    ];
    Provider::of(provider).is_some_and(|provider| path.contains(&provider))
}

impl Parser<'_> {
    /// Attach points between commas, up to a predicate or a block. Wrong ones are reported and left out.
    pub(super) fn points(&mut self) -> Parsed<Vec<AttachPoint>> {
        let mut points = Vec::new();
        loop {
            points.extend(self.point()?);
            if self.gave_up() {
                return Err(Failed);
            }
            self.at = skip_blanks(&self.source.text, self.at);
            if !self.source.text[self.at..].starts_with(',') {
                return Ok(points);
            }
            self.at = skip_blanks(&self.source.text, self.at + 1);
            if self.source.text[self.at..].starts_with(['{', '/']) {
                return Ok(points);
            }
        }
    }

    fn point(&mut self) -> Parsed<Option<AttachPoint>> {
        let mut name = None;
        let mut span = self.raw_point();
        let after = skip_blanks(&self.source.text, self.at);
        let rest = &self.source.text[after..];
        let text = self.slice(span).to_string();
        if rest.starts_with('=')
            && !rest.starts_with("==")
            && word_len(&text) == text.len()
            && !text.is_empty()
        {
            name = Some(Ident { name: text, span });
            self.at = skip_blanks(&self.source.text, after + 1);
            span = self.raw_point();
        }
        let text = self.slice(span).to_string();
        if text.is_empty() {
            let found = self.source.text[self.at..].chars().next();
            let found = found.map_or("the end of the script".to_string(), |c| {
                format!("'{}'", c.escape_default())
            });
            let error = Diagnostic::error(span, format!("expected a probe, found {found}"));
            return self.fail(error.hint("a probe looks like 'kprobe:tcp_connect { … }'"));
        }
        let text = self.substitute(&text, span)?;
        let mut parts = split(&text, span);
        let provider = parts.remove(0);
        let Some(kind) = Provider::of(&provider.name) else {
            self.unknown_provider(&provider);
            return Ok(None);
        };
        let (least, most, form) = form(kind);
        let empty = parts.iter().any(|part| part.name.is_empty());
        if parts.len() < least || parts.len() > most || empty {
            let message = if empty {
                format!("a part of '{text}' is empty")
            } else if parts.len() < least {
                format!("'{text}' says too little")
            } else if most == 0 {
                format!("'{}' takes nothing behind a colon", kind.name())
            } else {
                format!("'{text}' has too many parts")
            };
            let error = Diagnostic::error(span, message).hint(format!("write {form}"));
            self.diagnostics.push(error);
            return Ok(None);
        }
        let mut full = kind.name().to_string();
        for part in &parts {
            full.push(':');
            full.push_str(&part.name);
        }
        Ok(Some(AttachPoint {
            name,
            provider: kind,
            parts,
            text: full,
            span,
        }))
    }

    fn unknown_provider(&mut self, provider: &Ident) {
        let message = format!("there is no probe '{}'", provider.name);
        let error = Diagnostic::error(provider.span, message);
        let lower = provider.name.to_ascii_lowercase();
        let known = Provider::ALL.iter().map(|(_, name, _)| *name);
        let meant = names::nearest(&lower, known.chain(names::ITEMS.iter().copied()));
        self.diagnostics.push(match meant {
            Some(meant) => error.hint(format!("did you mean '{meant}'?")),
            None => error
                .hint("there are kprobe, kretprobe, fentry, fexit, span, tracepoint, interval and others"),
        });
    }

    /// Takes the characters of an attach point.
    fn raw_point(&mut self) -> Span {
        let bytes = self.source.text.as_bytes();
        let start = self.at;
        let mut at = start;
        let mut paths = None;
        while at < bytes.len() {
            match bytes[at] {
                b'"' => at = string_end(bytes, at).0,
                b'{' | b',' | b'}' | b';' | b'=' => break,
                byte if byte.is_ascii_whitespace() => break,
                b'/' if !paths.unwrap_or(false) => break,
                byte => {
                    if byte == b':' && paths.is_none() {
                        paths = Some(has_paths(&self.source.text[start..at]));
                    }
                    at += 1;
                }
            }
        }
        self.at = at;
        Span::new(start, at)
    }

    /// Puts the script's parameters in the place of `$1` and `$#`.
    fn substitute(&mut self, text: &str, span: Span) -> Parsed<String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(behind) = rest.strip_prefix('#') {
                out.push_str(&self.options.positional.len().to_string());
                rest = behind;
                continue;
            }
            let len = rest.bytes().take_while(u8::is_ascii_digit).count();
            let index: usize = rest[..len].parse().unwrap_or(0);
            if index == 0 {
                out.push('$');
                continue;
            }
            let Some(value) = self.options.positional.get(index - 1) else {
                let error = Diagnostic::error(span, format!("the script wants a parameter for ${index}"));
                return self.fail(error.hint("parameters follow the script on the command line"));
            };
            out.push_str(value);
            rest = &rest[len..];
        }
        out.push_str(rest);
        Ok(out)
    }

    fn slice(&self, span: Span) -> &str {
        &self.source.text[span.start as usize..span.end as usize]
    }
}

/// The parts between colons outside of quotes, without quotes. Their places are exact where nothing was substituted.
fn split(text: &str, whole: Span) -> Vec<Ident> {
    let exact = text.len() == (whole.end - whole.start) as usize;
    let mut parts = vec![String::new()];
    let mut spans = vec![whole];
    let mut start = 0;
    let mut quoted = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            ':' if !quoted => {
                if let Some(last) = spans.last_mut() {
                    *last = place(whole, start, at);
                }
                start = at + 1;
                parts.push(String::new());
                spans.push(whole);
            }
            _ => {
                if let Some(last) = parts.last_mut() {
                    last.push(c);
                }
            }
        }
    }
    if let Some(last) = spans.last_mut() {
        *last = place(whole, start, text.len());
    }
    let named = parts.into_iter().zip(spans);
    named
        .map(|(name, span)| Ident {
            name,
            span: if exact { span } else { whole },
        })
        .collect()
}

fn place(whole: Span, start: usize, end: usize) -> Span {
    let base = whole.start as usize;
    Span::new(base + start, base + end)
}
