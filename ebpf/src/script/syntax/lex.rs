//! Tokens. The parser asks for one at a time, because attach points aren't made of tokens.

use crate::script::Diagnostic;
use crate::script::ast::Span;

use super::preprocess::{string_end, word_len};

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tok {
    /// `name`
    Word(String),
    /// `42`
    Integer(u64),
    /// `"text"`
    String(Vec<u8>),
    /// `$v`
    Variable(String),
    /// `$1`
    Positional(u32),
    /// `$#`
    PositionalCount,
    /// `@m`; empty for `@`.
    Map(String),
    /// Anything made of signs.
    Sign(&'static str),
    /// A sign that no script has.
    Unknown(char),
    /// The text's end.
    End,
}

impl Tok {
    /// How it is called in a message.
    pub fn describe(&self) -> String {
        match self {
            Tok::Word(name) => format!("'{name}'"),
            Tok::Integer(_) => "a number".to_string(),
            Tok::String(_) => "a string".to_string(),
            Tok::Variable(name) => format!("'${name}'"),
            Tok::Positional(index) => format!("'${index}'"),
            Tok::PositionalCount => "'$#'".to_string(),
            Tok::Map(name) => format!("'@{name}'"),
            Tok::Sign(sign) => format!("'{sign}'"),
            Tok::Unknown(sign) => format!("'{}'", sign.escape_default()),
            Tok::End => "the end of the script".to_string(),
        }
    }
}

/// A token and its place.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub tok: Tok,
    pub span: Span,
    /// Which of the tokens that a `#define` put here.
    pub part: u32,
}

/// Longest first.
const SIGNS: &[&str] = &[
    "<<=", ">>=", "==", "!=", "<=", ">=", "&&", "||", "<<", ">>", "->", "++", "--", "+=", "-=", "*=", "/=",
    "%=", "&=", "|=", "^=", "?:", "..", "{", "}", "(", ")", "[", "]", ";", ",", ".", ":", "?", "=", "<", ">",
    "+", "-", "*", "/", "%", "&", "|", "^", "~", "!",
];

/// Time suffixes and their nanoseconds.
const TIMES: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// The first place at or after `at` that isn't blank.
pub(super) fn skip_blanks(text: &str, at: usize) -> usize {
    let rest = &text.as_bytes()[at..];
    at + rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// The token at or after `at` in `text[..end]`. What is wrong with it is added to `diagnostics`.
pub(super) fn next(text: &str, at: usize, end: usize, diagnostics: &mut Vec<Diagnostic>) -> Token {
    let start = skip_blanks(&text[..end], at);
    let rest = &text[start..end];
    let token = |tok: Tok, len: usize| Token {
        tok,
        span: Span::new(start, start + len),
        part: 0,
    };
    let Some(&first) = rest.as_bytes().first() else {
        return token(Tok::End, 0);
    };
    match first {
        b'"' => {
            let len = string_end(&text.as_bytes()[..end], start).0 - start;
            let value = string(&rest[..len], start, diagnostics);
            token(Tok::String(value), len)
        }
        b'0'..=b'9' => {
            let len = word_len(rest);
            let value = match integer(&rest[..len]) {
                Ok(value) => value,
                Err(problem) => {
                    let error = Diagnostic::error(Span::new(start, start + len), problem.message);
                    diagnostics.push(match problem.hint {
                        Some(hint) => error.hint(hint),
                        None => error,
                    });
                    0
                }
            };
            token(Tok::Integer(value), len)
        }
        b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
            let len = word_len(rest);
            token(Tok::Word(rest[..len].to_string()), len)
        }
        b'@' => {
            let len = word_len(&rest[1..]);
            token(Tok::Map(rest[1..=len].to_string()), 1 + len)
        }
        b'$' => {
            let len = word_len(&rest[1..]);
            let name = &rest[1..=len];
            if rest[1..].starts_with('#') {
                return token(Tok::PositionalCount, 2);
            }
            if !name.starts_with(|c: char| c.is_ascii_digit()) && !name.is_empty() {
                return token(Tok::Variable(name.to_string()), 1 + len);
            }
            match name.parse() {
                Ok(index) if index > 0 => token(Tok::Positional(index), 1 + len),
                _ => {
                    let span = Span::new(start, start + 1 + len);
                    let error = Diagnostic::error(span, format!("'${name}' names no variable"));
                    diagnostics
                        .push(error.hint("$name is a variable, $1 the first parameter, $# their number"));
                    token(Tok::Variable(name.to_string()), 1 + len)
                }
            }
        }
        _ => match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            Some(sign) => token(Tok::Sign(sign), sign.len()),
            None => {
                let sign = rest.chars().next().unwrap_or(' ');
                token(Tok::Unknown(sign), sign.len_utf8())
            }
        },
    }
}

/// What is wrong with a number.
struct Problem {
    message: String,
    hint: Option<&'static str>,
}

fn integer(text: &str) -> Result<u64, Problem> {
    let large = || Problem {
        message: format!("{text} doesn't fit into 64 bits"),
        hint: None,
    };
    let wrong = |hint| Problem {
        message: format!("'{text}' isn't a number"),
        hint: Some(hint),
    };
    let plain: String = text.chars().filter(|c| *c != '_').collect();
    let (radix, digits) = match plain.strip_prefix("0x").or(plain.strip_prefix("0X")) {
        Some(digits) => (16, digits),
        None if plain.starts_with('0') && plain.len() > 1 => (8, &plain[1..]),
        None => (10, plain.as_str()),
    };
    let len = digits.chars().take_while(|c| c.is_digit(radix)).count();
    let (number, suffix) = digits.split_at(len);
    if radix == 8 && suffix.starts_with(['8', '9']) {
        return Err(wrong("a number that starts with 0 is octal"));
    }
    let value = match number {
        "" if radix == 8 => 0,
        "" => return Err(wrong("digits must follow 0x")),
        _ => u64::from_str_radix(number, radix).map_err(|_| large())?,
    };
    let lower = suffix.to_ascii_lowercase();
    if matches!(
        lower.as_str(),
        "" | "u" | "l" | "ul" | "lu" | "ll" | "ull" | "llu"
    ) {
        return Ok(value);
    }
    if radix == 16 {
        return Err(wrong("only u, l and ll can follow a hexadecimal number"));
    }
    if let Some((_, unit)) = TIMES.iter().find(|(name, _)| *name == suffix) {
        return value.checked_mul(*unit).ok_or_else(large);
    }
    if let Some(exponent) = lower.strip_prefix('e') {
        let exponent: u32 = exponent
            .parse()
            .map_err(|_| wrong("an exponent looks like 1e6"))?;
        let scale = 10u64.checked_pow(exponent).ok_or_else(large)?;
        return value.checked_mul(scale).ok_or_else(large);
    }
    Err(wrong(
        "a number may end with ns, us, ms, s, m, h or d, or with u, l and ll as in C",
    ))
}

/// The bytes of a string literal, quotes included in `text`.
fn string(text: &str, start: usize, diagnostics: &mut Vec<Diagnostic>) -> Vec<u8> {
    let bytes = text.as_bytes();
    let (_, closed) = string_end(bytes, 0);
    if !closed {
        let span = Span::new(start, start + bytes.len());
        let error = Diagnostic::error(span, "this string never ends");
        diagnostics.push(error.hint("close it with \" on the same line; \\n is a newline"));
    }
    let end = if closed { bytes.len() - 1 } else { bytes.len() };
    let mut value = Vec::new();
    let mut at = 1;
    while at < end {
        if bytes[at] != b'\\' || at + 1 >= end {
            value.push(bytes[at]);
            at += 1;
            continue;
        }
        let (byte, len) = match bytes[at + 1] {
            b'n' => (b'\n', 2),
            b't' => (b'\t', 2),
            b'r' => (b'\r', 2),
            b'"' => (b'"', 2),
            b'\\' => (b'\\', 2),
            b'0'..=b'7' => {
                let digits = bytes[at + 1..end].iter().take(3);
                let len = digits.take_while(|c| (b'0'..=b'7').contains(c)).count();
                let value = u32::from_str_radix(&text[at + 1..at + 1 + len], 8).unwrap_or(0);
                (value as u8, 1 + len)
            }
            b'x' => {
                let digits = bytes[at + 2..end].iter().take(2);
                let len = digits.take_while(|c| c.is_ascii_hexdigit()).count();
                let value = u8::from_str_radix(&text[at + 2..at + 2 + len], 16).ok();
                if value.is_none() {
                    let span = Span::new(start + at, start + at + 2);
                    diagnostics.push(Diagnostic::error(span, "hexadecimal digits must follow \\x"));
                }
                (value.unwrap_or(0), 2 + len)
            }
            _ => {
                let other = text[at + 1..].chars().next().unwrap_or(' ');
                let len = 1 + other.len_utf8();
                let span = Span::new(start + at, start + at + len);
                let error =
                    Diagnostic::error(span, format!("'\\{}' isn't an escape", other.escape_default()));
                diagnostics.push(error.hint("the escapes are \\n \\t \\r \\\" \\\\ \\x41 \\101"));
                (b'?', len)
            }
        };
        value.push(byte);
        at += len;
    }
    value
}
