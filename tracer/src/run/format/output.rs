//! Where the output goes: text for people, or one JSON object a line.

use std::io::{self, Write};

use super::json;
use super::map::Content;
use super::value::{INDENT, Value};
use ktrail_ebpf::script::output::ValueTy;

/// How the output looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFormat {
    /// For people.
    Text,
    /// JSON lines.
    Json,
}

/// A writer of events and maps.
pub struct Output<W: Write> {
    out: W,
    format: OutputFormat,
}

impl<W: Write> Output<W> {
    /// Write to `out`.
    pub fn new(out: W, format: OutputFormat) -> Self {
        Output { out, format }
    }

    /// How it looks.
    pub fn format(&self) -> OutputFormat {
        self.format
    }

    /// Text that a script made: `kind` is `printf`, `time`, `cat`, `join` or `syscall`.
    ///
    /// # Errors
    /// The writer's, here and below.
    pub fn text(&mut self, kind: &str, text: &[u8]) -> io::Result<()> {
        match self.format {
            OutputFormat::Text => self.out.write_all(text),
            OutputFormat::Json => self.line(kind, &json::string(text)),
        }
    }

    /// What a script says of itself, with its place: `kind` is `errorf` or `warnf`. JSON only; for people it goes
    /// elsewhere.
    ///
    /// # Errors
    /// The writer's.
    pub fn message(
        &mut self,
        kind: &str,
        text: &[u8],
        file: &str,
        (line, col): (usize, usize),
    ) -> io::Result<()> {
        let (text, file) = (json::string(text), json::string(file.as_bytes()));
        writeln!(
            self.out,
            "{{\"type\": \"{kind}\", \"msg\": {text}, \"filename\": {file}, \"line\": {line}, \"col\": {col}}}"
        )
    }

    /// A value on a line of its own.
    ///
    /// # Errors
    /// The writer's.
    pub fn value(&mut self, value: &Value) -> io::Result<()> {
        match self.format {
            OutputFormat::Text => {
                let mut text = value.text();
                text.push(b'\n');
                self.out.write_all(&text)
            }
            OutputFormat::Json => self.line("value", &json::value(value)),
        }
    }

    /// A map, or a part of one.
    ///
    /// # Errors
    /// The writer's.
    pub fn map(&mut self, name: &str, holds: &ValueTy, content: &Content) -> io::Result<()> {
        if self.format == OutputFormat::Json {
            let name = json::string(name.as_bytes());
            let data = format!("{{{name}: {}}}", json::content(content));
            return self.line(json::map_type(holds), &data);
        }
        let mut text = Vec::new();
        match content {
            Content::Scalar(value) => entry(&mut text, name.as_bytes().to_vec(), value),
            Content::Keyed(entries) => {
                for (key, value) in entries {
                    entry(&mut text, titled(name, key), value);
                }
            }
        }
        self.out.write_all(&text)
    }

    /// How many probes are attached; text output has this as a notice elsewhere.
    ///
    /// # Errors
    /// The writer's.
    pub fn attached(&mut self, probes: usize) -> io::Result<()> {
        match self.format {
            OutputFormat::Text => Ok(()),
            OutputFormat::Json => writeln!(
                self.out,
                "{{\"type\": \"attached_probes\", \"count\": {probes}, \"data\": {{\"probes\": {probes}}}}}"
            ),
        }
    }

    /// How many events were lost; text output has this as a notice elsewhere.
    ///
    /// # Errors
    /// The writer's.
    pub fn lost(&mut self, events: u64) -> io::Result<()> {
        match self.format {
            OutputFormat::Text => Ok(()),
            OutputFormat::Json => self.line("lost_events", &format!("{{\"events\": {events}}}")),
        }
    }

    /// The run is over; maps may follow.
    ///
    /// # Errors
    /// The writer's.
    pub fn end(&mut self) -> io::Result<()> {
        match self.format {
            OutputFormat::Text => self.out.write_all(b"\n\n"),
            OutputFormat::Json => Ok(()),
        }
    }

    /// Hand on what has been written.
    ///
    /// # Errors
    /// The writer's.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn line(&mut self, kind: &str, data: &str) -> io::Result<()> {
        writeln!(self.out, "{{\"type\": \"{kind}\", \"data\": {data}}}")
    }
}

/// `@name[key]`; of a tuple without its parentheses.
fn titled(name: &str, key: &Value) -> Vec<u8> {
    let mut title = name.as_bytes().to_vec();
    title.push(b'[');
    let start = title.len();
    key.write(&mut title, INDENT);
    if matches!(key, Value::Tuple(_)) {
        title.remove(start);
        title.pop();
    }
    title.push(b']');
    title
}

fn entry(text: &mut Vec<u8>, title: Vec<u8>, value: &Value) {
    text.extend(title);
    match value {
        Value::Histogram(_) | Value::Series(_) => text.extend(b":\n"),
        _ => text.extend(b": "),
    }
    text.extend(value.text());
    // A series without values has no blank line behind it.
    if !matches!(value, Value::Series(series) if series.is_empty()) {
        text.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::hist::Histogram;
    use super::*;

    fn shown(format: OutputFormat, show: impl FnOnce(&mut Output<&mut Vec<u8>>) -> io::Result<()>) -> String {
        let mut bytes = Vec::new();
        show(&mut Output::new(&mut bytes, format)).expect("a Vec takes everything");
        String::from_utf8(bytes).expect("text")
    }

    fn s(text: &str) -> Value {
        Value::Str(text.into())
    }

    #[test]
    fn maps_as_text() {
        let text = |content: &Content| shown(OutputFormat::Text, |o| o.map("@x", &ValueTy::Count, content));
        assert_eq!(text(&Content::Scalar(Value::Int(5))), "@x: 5\n");
        let keyed = Content::Keyed(vec![
            (s("a"), Value::Int(1)),
            (Value::Tuple(vec![s("b"), Value::Int(2)]), Value::Int(3)),
            (
                Value::Tuple(vec![Value::Tuple(vec![s("c"), Value::Int(1)]), Value::Int(2)]),
                Value::Tuple(vec![Value::Int(1), Value::Int(2)]),
            ),
            (Value::Stack(vec!["f+1".into(), "g+2".into()]), Value::Int(4)),
        ]);
        assert_eq!(
            text(&keyed),
            "@x[a]: 1\n@x[b, 2]: 3\n@x[(c, 1), 2]: (1, 2)\n@x[\n        f+1\n        g+2\n]: 4\n"
        );
        let counts: BTreeMap<u64, u64> = [(1, 1)].into();
        let hist = Value::Histogram(Histogram::log2(0, &counts));
        let bar = "@".repeat(52);
        assert_eq!(
            text(&Content::Keyed(vec![(s("a"), hist)])),
            format!("@x[a]:\n[0]                    1 |{bar}|\n\n")
        );
    }

    #[test]
    fn json_lines() {
        let json = |show: fn(&mut Output<&mut Vec<u8>>) -> io::Result<()>| shown(OutputFormat::Json, show);
        assert_eq!(
            json(|o| o.map("@x", &ValueTy::Count, &Content::Scalar(Value::Int(5)))),
            "{\"type\": \"map\", \"data\": {\"@x\": 5}}\n"
        );
        assert_eq!(
            json(|o| o.text("printf", b"hello\n")),
            "{\"type\": \"printf\", \"data\": \"hello\\n\"}\n"
        );
        assert_eq!(
            json(|o| o.value(&Value::Tuple(vec![Value::Int(1)]))),
            "{\"type\": \"value\", \"data\": [1]}\n"
        );
        assert_eq!(
            json(|o| o.attached(2)),
            "{\"type\": \"attached_probes\", \"count\": 2, \"data\": {\"probes\": 2}}\n"
        );
        assert_eq!(json(|o| o.end()), "");
        assert_eq!(shown(OutputFormat::Text, |o| o.end()), "\n\n");
    }
}
