//! A value that a program produced, decoded, and its text.
//!
//! Deliberately absent: how it lay in memory ([`crate::run::decode`]) and how a printf's specifier changes its look
//! ([`super::printf`]).

use std::cmp::Ordering;
use std::io::Write;

use super::hist::Histogram;
use super::series::Series;

/// A decoded value. Names are resolved already.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing.
    None,
    /// A truth value.
    Bool(bool),
    /// An integer of any size and sign.
    Int(i128),
    /// A pointer.
    Pointer(u64),
    /// A number with a name: an enum's constant, a symbol, a user.
    Named {
        /// The number.
        number: i128,
        /// Its name; if it has none, what stands in its place.
        name: String,
        /// An enum's constant, which is its number to programs. Of the rest the name is the value.
        constant: bool,
    },
    /// A string as the kernel had it, without its NUL.
    Str(Vec<u8>),
    /// Text that was made here: an address, a time.
    Text(String),
    /// Raw bytes.
    Buffer(Vec<u8>),
    /// The frames of a stack, innermost first. Those that start with a tab are not indented.
    Stack(Vec<String>),
    /// An array.
    Array(Vec<Value>),
    /// A tuple.
    Tuple(Vec<Value>),
    /// A record or a struct.
    Record(Vec<(String, Value)>),
    /// What `stats()` gathered.
    Stats(Stats),
    /// What `hist()` or `lhist()` gathered.
    Histogram(Histogram),
    /// What `tseries()` gathered.
    Series(Series),
}

/// Count, average and total.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// How many values.
    pub count: u64,
    /// Their average, rounded towards zero.
    pub average: i128,
    /// Their sum.
    pub total: i128,
}

/// Blanks before a stack's frames.
pub const INDENT: usize = 8;

impl Value {
    /// The value as print() shows it.
    pub fn text(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out, INDENT);
        out
    }

    /// Append the value's text; a stack's frames are indented by that many blanks.
    pub fn write(&self, out: &mut Vec<u8>, indent: usize) {
        // Writing to a Vec never fails.
        let _ = match self {
            Value::None => out.write_all(b"null"),
            Value::Bool(b) => write!(out, "{b}"),
            Value::Int(n) => write!(out, "{n}"),
            Value::Pointer(p) => write!(out, "{p:#x}"),
            Value::Named { name, .. } => out.write_all(name.as_bytes()),
            Value::Text(text) => out.write_all(text.as_bytes()),
            Value::Str(bytes) => out.write_all(bytes),
            Value::Buffer(bytes) => out.write_all(escaped(bytes).as_bytes()),
            Value::Stack(frames) => {
                out.push(b'\n');
                for frame in frames {
                    let indent = if frame.starts_with('\t') { 0 } else { indent };
                    let _ = writeln!(out, "{:indent$}{frame}", "");
                }
                Ok(())
            }
            Value::Array(values) => list(out, values, ["[", ",", "]"], indent),
            Value::Tuple(values) => list(out, values, ["(", ", ", ")"], indent),
            Value::Record(fields) if fields.is_empty() => out.write_all(b"{}"),
            Value::Record(fields) => {
                for (i, (name, value)) in fields.iter().enumerate() {
                    let before = if i == 0 { "{ " } else { ", " };
                    let _ = write!(out, "{before}.{name} = ");
                    value.write(out, indent);
                }
                out.write_all(b" }")
            }
            Value::Stats(Stats {
                count,
                average,
                total,
            }) => write!(
                out,
                "{{ .count = {count}, .average = {average}, .total = {total} }}"
            ),
            Value::Histogram(hist) => out.write_all(hist.text().as_bytes()),
            Value::Series(series) => out.write_all(series.text().as_bytes()),
        };
    }

    /// The number that printf's integer specifiers print.
    pub fn number(&self) -> Option<i128> {
        match *self {
            Value::Bool(b) => Some(b.into()),
            Value::Int(n) | Value::Named { number: n, .. } => Some(n),
            Value::Pointer(p) => Some(p.into()),
            _ => None,
        }
    }

    /// The order of keys: numbers by size, strings by bytes, tuples by their elements in turn.
    pub fn compare(&self, other: &Value) -> Ordering {
        match (self, other) {
            (Value::Str(a), Value::Str(b)) | (Value::Buffer(a), Value::Buffer(b)) => a.cmp(b),
            (Value::Text(a), Value::Text(b)) => a.cmp(b),
            (Value::Stack(a), Value::Stack(b)) => a.cmp(b),
            (Value::Tuple(a), Value::Tuple(b)) | (Value::Array(a), Value::Array(b)) => {
                compare_all(a.iter().zip(b))
            }
            (Value::Record(a), Value::Record(b)) => compare_all(a.iter().zip(b).map(|(a, b)| (&a.1, &b.1))),
            _ => self.number().cmp(&other.number()),
        }
    }
}

fn compare_all<'a>(pairs: impl Iterator<Item = (&'a Value, &'a Value)>) -> Ordering {
    pairs
        .map(|(a, b)| a.compare(b))
        .find(|o| o.is_ne())
        .unwrap_or(Ordering::Equal)
}

fn list(out: &mut Vec<u8>, values: &[Value], marks: [&str; 3], indent: usize) -> std::io::Result<()> {
    let [open, between, close] = marks;
    out.write_all(open.as_bytes())?;
    for (i, value) in values.iter().enumerate() {
        if i > 0 {
            out.write_all(between.as_bytes())?;
        }
        value.write(out, indent);
    }
    out.write_all(close.as_bytes())
}

/// Bytes as text: ASCII as it is, what can't be printed as `\xNN`.
pub fn escaped(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b' '..=b'~' => text.push(byte.into()),
            _ => {
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: Value) -> String {
        String::from_utf8(value.text()).expect("text")
    }

    fn s(text: &str) -> Value {
        Value::Str(text.into())
    }

    #[test]
    fn values_as_print_shows_them() {
        let pair = || vec![Value::Int(1), s("two")];
        for (value, expected) in [
            (Value::None, "null"),
            (Value::Bool(true), "true"),
            (Value::Int(-5), "-5"),
            (Value::Int(u64::MAX.into()), "18446744073709551615"),
            (Value::Pointer(0xffff_8881_0000_0000), "0xffff888100000000"),
            (s("a b"), "a b"),
            (Value::Buffer(b"ab\x00\xff\n\\".to_vec()), "ab\\x00\\xff\\x0a\\"),
            (Value::Tuple(pair()), "(1, two)"),
            (
                Value::Tuple(vec![Value::Tuple(pair()), Value::Int(3)]),
                "((1, two), 3)",
            ),
            (Value::Tuple(vec![]), "()"),
            (Value::Array(pair()), "[1,two]"),
            (Value::Record(vec![]), "{}"),
            (
                Value::Record(vec![("a".into(), Value::Int(1)), ("b".into(), s("x"))]),
                "{ .a = 1, .b = x }",
            ),
            (
                Value::Stats(Stats {
                    count: 3,
                    average: 2,
                    total: 6,
                }),
                "{ .count = 3, .average = 2, .total = 6 }",
            ),
            (
                Value::Named {
                    number: 2,
                    name: "TCP_SYN_SENT".into(),
                    constant: true,
                },
                "TCP_SYN_SENT",
            ),
            (
                Value::Stack(vec!["schedule+1".into(), "main+2".into()]),
                "\n        schedule+1\n        main+2\n",
            ),
        ] {
            assert_eq!(text(value), expected);
        }
    }

    #[test]
    fn keys_have_an_order() {
        let less = |a: Value, b: Value| assert_eq!(a.compare(&b), Ordering::Less, "{a:?} {b:?}");
        less(Value::Int(-1), Value::Int(0));
        less(Value::Int(1), Value::Int(u64::MAX.into()));
        less(s("a"), s("ab"));
        less(
            Value::Tuple(vec![s("a"), Value::Int(9)]),
            Value::Tuple(vec![s("b"), Value::Int(1)]),
        );
        less(
            Value::Tuple(vec![s("a"), Value::Int(1)]),
            Value::Tuple(vec![s("a"), Value::Int(2)]),
        );
    }
}
