//! What records ask for: printing, clearing, ending.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::rc::Rc;

use anyhow::{Context, bail};
use ktrail_ebpf::ir::Span;
use ktrail_ebpf::script::Diagnostic;
use ktrail_ebpf::script::ast;
use ktrail_ebpf::script::output::{Action, Compiled, EventInfo, Field, RECORD_HEADER, Stream};
use ktrail_ebpf::script::types::Ty;

use super::decode::{Decoder, integer};
use super::format::{Content, Output, OutputFormat, Value, printf};
use super::names::wall_clock;
use super::tables::Table;
use crate::capture::Writer;
use crate::kernel::maps::Maps;
use crate::kernel::time::WallClock;

/// The text of a script and what it is called, for messages that point into it.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The file's name; `stdin` for a program on the command line.
    pub name: String,
    /// The text, and behind it that of the files it imports.
    pub text: String,
    /// The files it imports: where in the text each begins, and its name.
    pub imported: Vec<(usize, String)>,
}

impl Source {
    /// A warning at a place in it.
    pub fn warning(&self, span: Span, message: &str) -> String {
        self.render(&Diagnostic::warning(place(span), message))
    }

    /// The file that a place is in, and the line and the column there, counted from 1.
    pub fn position(&self, span: Span) -> (&str, (usize, usize)) {
        let (name, text, start) = self.file(place(span));
        let end = (span.start as usize - start).min(text.len());
        let before = &text.as_bytes()[..end];
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        (name, (line, end - start + 1))
    }

    /// An error at a place in it.
    pub fn error(&self, span: Span, message: &str) -> String {
        self.render(&Diagnostic::error(place(span), message))
    }

    /// The file that a place is in: its name, its text, and where in the whole text that begins.
    fn file(&self, span: ast::Span) -> (&str, &str, usize) {
        let at = span.start as usize;
        let next = self.imported.partition_point(|(start, _)| *start <= at);
        let end = self
            .imported
            .get(next)
            .map_or(self.text.len(), |(start, _)| *start);
        let (start, name) = match next.checked_sub(1) {
            Some(file) => (self.imported[file].0, &self.imported[file].1),
            None => (0, &self.name),
        };
        (name, &self.text[start..end], start)
    }

    /// What is wrong, with its place in the file where it stands.
    pub fn render(&self, diagnostic: &Diagnostic) -> String {
        let (name, text, start) = self.file(diagnostic.span);
        let mut diagnostic = diagnostic.clone();
        diagnostic.span.start -= start as u32;
        diagnostic.span.end -= start as u32;
        diagnostic.render(name, text)
    }
}

fn place(span: Span) -> ast::Span {
    ast::Span {
        start: span.start,
        end: span.end,
    }
}

/// A record, taken out of a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    /// All of it, header included.
    pub bytes: Vec<u8>,
}

impl Record {
    /// A record by its bytes; None if they are too few for a header.
    pub fn new(bytes: &[u8]) -> Option<Record> {
        let time = bytes.get(8..RECORD_HEADER as usize)?;
        Some(Record {
            time: integer(time, 8, false) as u64,
            bytes: bytes.to_vec(),
        })
    }
}

/// Does what records ask for.
pub struct Actor<'a, W: Write> {
    /// The script.
    pub compiled: &'a Compiled,
    /// Its maps.
    pub maps: Rc<Maps>,
    /// How bytes become values.
    pub decoder: Decoder<'a>,
    /// Its text.
    pub source: &'a Source,
    /// Where printing goes.
    pub out: Output<W>,
    /// The capture files that it writes.
    pub captures: Captures,
    /// Show what debugf says.
    pub debug: bool,
    /// The relation of the programs' clock and the wall's.
    pub clock: WallClock,
}

/// Capture files by name, each made when its first packet comes.
#[derive(Default)]
pub struct Captures(BTreeMap<String, Writer>);

impl Captures {
    fn packet(&mut self, path: &str, time: u64, data: &[u8], wire: u32) -> anyhow::Result<()> {
        let written = match self.0.entry(path.into()) {
            Entry::Occupied(file) => file.into_mut().packet(time, data, wire),
            Entry::Vacant(place) => {
                Writer::create(Path::new(path)).and_then(|file| place.insert(file).packet(time, data, wire))
            }
        };
        written.with_context(|| format!("skboutput({path:?})"))
    }
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Go on.
    Continue,
    /// exit() was called with this code.
    Exit(u8),
}

impl<W: Write> Actor<'_, W> {
    /// Do what a record asks for.
    ///
    /// # Errors
    /// When output can't be written or a map can't be read.
    pub fn act(&mut self, record: &Record) -> anyhow::Result<Next> {
        let compiled = self.compiled;
        let index = integer(&record.bytes, 8, false) as usize;
        let Some(EventInfo {
            action, size, span, ..
        }) = compiled.events.get(index)
        else {
            bail!("the ring holds a record of an unknown kind, {index}");
        };
        if record.bytes.len() < *size as usize {
            bail!(
                "a record of kind {index} has {} bytes, not {size}",
                record.bytes.len()
            );
        }
        match action {
            Action::Printf { format, args, stream } => {
                let text = printf(format, &self.values(record, args));
                self.print(&text, *stream, *span)?;
            }
            Action::Print(field) => {
                let value = self.value(record, field);
                self.out.value(&value)?;
            }
            Action::PrintEntry { map, key } => {
                self.print_entry(record, *map, key.as_ref())?;
            }
            Action::PrintMap { map, top, div } => {
                let top = self.number(record, top.as_ref());
                let div = self.number(record, div.as_ref());
                self.print_map(*map, top, div)?;
            }
            Action::Clear { map } => self.table(*map)?.clear()?,
            Action::Zero { map } => self.table(*map)?.zero()?,
            Action::Time { format } => {
                let wall = (record.time as i64).wrapping_add(self.clock.offset());
                let text = wall_clock(wall, format);
                self.out.text("time", text.as_bytes())?;
            }
            Action::Cat { format, args } => {
                let name = printf(format, &self.values(record, args));
                self.cat(&String::from_utf8_lossy(&name), *span)?;
            }
            Action::System { format, args } => {
                let command = printf(format, &self.values(record, args));
                self.system(&String::from_utf8_lossy(&command))?;
            }
            Action::Join {
                count,
                strings,
                separator,
            } => {
                let count = self.number(record, Some(count)) as usize;
                let strings = match self.value(record, strings) {
                    Value::Array(strings) => strings,
                    other => vec![other],
                };
                let parts: Vec<Vec<u8>> = strings.iter().take(count).map(Value::text).collect();
                let mut text = parts.join(separator.as_bytes());
                text.push(b'\n');
                self.out.text("join", &text)?;
            }
            Action::Exit { code } => {
                return Ok(Next::Exit(self.number(record, code.as_ref()) as u8));
            }
            Action::SkbOutput { path, packet, wire } => {
                let wire = self.number(record, Some(wire)) as u32;
                let time = (record.time as i64).wrapping_add(self.clock.offset()) as u64;
                if let Value::Buffer(data) = self.value(record, packet) {
                    self.captures.packet(path, time, &data, wire)?;
                }
            }
        }
        Ok(Next::Continue)
    }

    /// Print all maps that hold something, in the order of their names.
    ///
    /// # Errors
    /// When output can't be written or a map can't be read.
    pub fn print_all(&mut self) -> anyhow::Result<()> {
        for map in 0..self.compiled.maps.len() {
            if self.table(map)?.is_set()? {
                self.print_map(map, 0, 0)?;
            }
        }
        Ok(())
    }

    /// A map of the script.
    ///
    /// # Errors
    /// If it was never made, which is a bug.
    fn table(&self, map: usize) -> anyhow::Result<Table<'_>> {
        let info = self
            .compiled
            .maps
            .get(map)
            .context("a map of an unknown number")?;
        let map = self.maps.get(&info.decl.name);
        let map = map.with_context(|| format!("map {} was not made", info.name))?;
        Ok(Table { info, map })
    }

    fn print_map(&mut self, map: usize, top: u64, div: u64) -> anyhow::Result<()> {
        let content = self.table(map)?.content(&self.decoder)?.arranged(top, div);
        if !content.is_empty() {
            let info = &self.compiled.maps[map];
            self.out.map(&info.name, &info.value, &content)?;
        }
        Ok(())
    }

    fn print_entry(&mut self, record: &Record, map: usize, key: Option<&Field>) -> anyhow::Result<()> {
        let table = self.table(map)?;
        let value = match key {
            Some(key) => {
                let from = key.off as usize;
                let bytes = &record.bytes[from..from + table.map.decl().key_size as usize];
                table.entry(&self.decoder, bytes)?
            }
            None => table.entry(&self.decoder, &[])?,
        };
        // A key that is gone meanwhile has nothing to print.
        let Some(value) = value else {
            return Ok(());
        };
        let content = match key {
            Some(key) => Content::Keyed(vec![(self.value(record, key), value)]),
            None => Content::Scalar(value),
        };
        let info = &self.compiled.maps[map];
        self.out.map(&info.name, &info.value, &content)?;
        Ok(())
    }

    fn value(&self, record: &Record, field: &Field) -> Value {
        let bytes = record.bytes.get(field.off as usize..).unwrap_or_default();
        self.decoder.value(&field.ty, bytes)
    }

    fn values(&self, record: &Record, fields: &[Field]) -> Vec<Value> {
        fields.iter().map(|f| self.value(record, f)).collect()
    }

    /// A number that an action takes; 0 if it has none.
    fn number(&self, record: &Record, field: Option<&Field>) -> u64 {
        let Some(Field { off, ty }) = field else {
            return 0;
        };
        let bytes = record.bytes.get(*off as usize..).unwrap_or_default();
        let (size, signed) = match ty {
            Ty::Int { size, signed } => (*size, *signed),
            _ => (8, false),
        };
        integer(bytes, size, signed) as u64
    }

    fn print(&mut self, text: &[u8], stream: Stream, span: Span) -> anyhow::Result<()> {
        let line = || String::from_utf8_lossy(text).trim_end_matches('\n').to_string();
        match stream {
            Stream::Stdout => self.out.text("printf", text)?,
            Stream::Error | Stream::Warning if !self.is_text() => {
                let kind = if stream == Stream::Error {
                    "errorf"
                } else {
                    "warnf"
                };
                let (file, place) = self.source.position(span);
                self.out.message(kind, text, file, place)?;
            }
            Stream::Error => eprint!("{}", self.source.error(span, &line())),
            Stream::Warning => eprint!("{}", self.source.warning(span, &line())),
            Stream::Debug if self.debug => eprintln!("DEBUG: {}", line()),
            Stream::Debug => {}
        }
        Ok(())
    }

    fn cat(&mut self, name: &str, span: Span) -> anyhow::Result<()> {
        let most = self.compiled.config.max_cat_bytes;
        let mut text = Vec::new();
        let read = std::fs::File::open(name).and_then(|file| file.take(most).read_to_end(&mut text));
        match read {
            Ok(_) => self.out.text("cat", &text)?,
            Err(error) => eprint!("{}", self.source.warning(span, &format!("cat {name}: {error}"))),
        }
        Ok(())
    }

    fn system(&mut self, command: &str) -> anyhow::Result<()> {
        // What was printed before comes first.
        self.out.flush()?;
        let run = Command::new("/bin/sh").args(["-c", command]).output();
        let output = run.with_context(|| format!("system({command:?})"))?;
        std::io::stderr().write_all(&output.stderr)?;
        self.out.text("syscall", &output.stdout)?;
        Ok(())
    }

    /// True if the output is for people.
    pub fn is_text(&self) -> bool {
        self.out.format() == OutputFormat::Text
    }
}
