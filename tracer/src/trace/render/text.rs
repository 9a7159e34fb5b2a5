//! Journeys as text: a heading with the packet as it began, one line an event with what changed, then its fate.
//!
//! The margin names each line's layer where it changes. Output is ASCII, so that it survives serial consoles and grep.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::rc::Rc;

use owo_colors::{AnsiColors, OwoColorize, Style};

use super::Renderer;
use super::names::Names;
use super::tone::{Colour, Tone};
use super::why::why;
use super::words::{self, Note, Progress, fate_text, micros, other_fates, process};
use crate::trace::event::{Event, PointKind, Tuple};
use crate::trace::journey::{Journey, Step};
use crate::trace::summary::{self, Summary};

/// What the time column shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Timestamp {
    /// There is no such column.
    None,
    /// Time of day, UTC.
    Absolute {
        /// What to add to CLOCK_MONOTONIC to get CLOCK_REALTIME, in nanoseconds.
        offset: i64,
    },
    /// Microseconds since the packet's first event.
    #[default]
    Relative,
    /// Microseconds since the packet's previous event.
    Delta,
}

/// Renders text.
pub struct Text<W> {
    out: W,
    names: Rc<Names>,
    timestamp: Timestamp,
    colour: bool,
    explain: bool,
    headed: bool,
    live: HashMap<u64, Progress>,
}

/// How wide the margin with the layers is: their longest name.
const MARGIN: usize = 9;

fn style(tone: Tone) -> Style {
    let colour = match tone.colour() {
        Colour::Default => return Style::new(),
        Colour::Dimmed => return Style::new().dimmed(),
        Colour::Red => AnsiColors::Red,
        Colour::BrightRed => AnsiColors::BrightRed,
        Colour::Green => AnsiColors::Green,
        Colour::Yellow => AnsiColors::Yellow,
        Colour::Blue => AnsiColors::Blue,
        Colour::Magenta => AnsiColors::Magenta,
        Colour::Cyan => AnsiColors::Cyan,
    };
    Style::new().color(colour)
}

/// How wide lines should be: beyond that, changes are shortened.
const WIDTH: usize = 110;

/// Column widths, beside the fixed ones. What is wider pushes its line's rest to the right.
#[derive(Clone, Copy)]
struct Widths {
    time: usize,
    process: usize,
    copies: bool,
    function: usize,
    /// Lines of other packets may stand between: each names its layer.
    live: bool,
}

impl Widths {
    const MAX: Widths = Widths {
        time: 18,
        process: 20,
        copies: true,
        function: 38,
        live: false,
    };
    const LIVE: Widths = Widths {
        time: 12,
        process: 18,
        copies: false,
        function: 30,
        live: true,
    };
}

impl<W: Write> Text<W> {
    /// Writes to `out`; with `colour`, ANSI escape sequences mark what matters.
    pub fn new(out: W, names: Rc<Names>, timestamp: Timestamp, colour: bool) -> Self {
        Text {
            out,
            names,
            timestamp,
            colour,
            explain: false,
            headed: false,
            live: HashMap::new(),
        }
    }

    /// Says of each function that is known what it does.
    pub fn explaining(mut self, explain: bool) -> Self {
        self.explain = explain;
        self
    }

    fn paint(&self, text: &str, style: Style) -> String {
        if self.colour && !text.is_empty() {
            text.style(style).to_string()
        } else {
            text.to_owned()
        }
    }

    fn heading(&mut self, number: u64, first: &Event, tuple: Option<&Tuple>) -> io::Result<()> {
        let mut parts = words::heading(first, tuple);
        if let Timestamp::Absolute { offset } = self.timestamp {
            parts.push(date(first.time, offset));
        }
        let text = format!("packet {number}  {}", parts.join("  "));
        writeln!(self.out, "{}", self.paint(&text, Style::new().bold()))
    }

    /// The columns' names, once.
    fn columns(&mut self, widths: Widths, lead: &str) -> io::Result<()> {
        if std::mem::replace(&mut self.headed, true) {
            return Ok(());
        }
        let time = match self.timestamp {
            Timestamp::None => String::new(),
            Timestamp::Absolute { .. } => format!("{:<w$}  ", "time (UTC)", w = widths.time),
            Timestamp::Relative => format!("{:>w$}  ", "us", w = widths.time),
            Timestamp::Delta => format!("{:>w$}  ", "+us", w = widths.time),
        };
        let copy = if widths.copies { "copy  " } else { "" };
        let process = widths.process;
        let text = format!(
            "{lead}{:<MARGIN$}  {time}cpu  {:<process$}  {copy}function",
            "layer", "process"
        );
        writeln!(self.out, "{}", self.paint(&text, Style::new().dimmed()))
    }

    fn line(&mut self, lead: &str, step: &Step, widths: Widths, progress: &mut Progress) -> io::Result<()> {
        let event = &step.event;
        let margin = self.margin(step, widths, progress);
        let time = match self.time(event.time, progress) {
            Some(time) => format!("{time:>w$}  ", w = widths.time),
            None => String::new(),
        };
        let process = process(event.pid, &event.comm);
        let mut place = format!("{:>3}  {process:<w$}  ", event.cpu, w = widths.process);
        if widths.copies {
            let copy = Some(step.copy + 1)
                .filter(|&copy| copy > 1)
                .map(|copy| copy.to_string());
            let _ = write!(place, "{:>4}  ", copy.unwrap_or_default());
        }
        let mut label = words::label(step, &self.names);
        let tracepoint = self
            .names
            .point(event.point)
            .is_some_and(|p| p.kind == PointKind::Tracepoint);
        let notes = words::notes(step, &self.names, progress);
        let about = Some(event.point)
            .filter(|_| self.explain)
            .and_then(|point| self.names.about(point));
        if !notes.is_empty() || about.is_some() {
            label = format!("{label:<w$}  ", w = widths.function);
        }
        let room = WIDTH.saturating_sub(lead.len() + MARGIN + 2 + time.len() + place.len() + label.len());
        let mut notes = self.join(notes, room);
        if let Some(about) = about {
            let gap = if notes.is_empty() { "" } else { "  " };
            notes.push_str(&format!("{gap}# {}", about.role));
        }
        let dimmed = Style::new().dimmed();
        let time = self.paint(&time, dimmed);
        let label = self.paint(&label, if tracepoint { dimmed } else { Style::new() });
        writeln!(self.out, "{lead}{margin}{time}{place}{label}{notes}")
    }

    /// The layer's name where it changes, a bar where it stays.
    fn margin(&self, step: &Step, widths: Widths, progress: &mut Progress) -> String {
        let own = self.names.layer(step.event.point);
        let (layer, stays) = progress.pass(step.event.sign, own);
        let text = if stays && !widths.live { "|" } else { layer.name() };
        let text = format!("{text:<MARGIN$}");
        format!("{}  ", self.paint(&text, style(Tone::Layer(layer))))
    }

    /// The notes, shortened if they take more than `room`.
    fn join(&self, notes: Vec<Note>, room: usize) -> String {
        let full = notes.iter().map(|note| note.long.len() + 2).sum::<usize>() > room + 2;
        let text = |note: &Note| self.paint(if full { &note.short } else { &note.long }, style(note.tone));
        notes.iter().map(text).collect::<Vec<_>>().join(", ")
    }

    fn time(&self, time: u64, progress: &mut Progress) -> Option<String> {
        let previous = std::mem::replace(&mut progress.previous, time);
        match self.timestamp {
            Timestamp::None => None,
            Timestamp::Absolute { offset } => Some(time_of_day(time, offset)),
            Timestamp::Relative => Some(micros(time as i64 - progress.first as i64)),
            Timestamp::Delta => Some(micros(time as i64 - previous as i64)),
        }
    }

    fn fate(&mut self, lead: &str, journey: &Journey) -> io::Result<()> {
        let fate = journey.fate();
        let text = self.paint(&fate_text(fate, &self.names), style(Tone::of(fate)).bold());
        let mut figures = vec![summary::number(journey.count, "event")];
        if self.timestamp != Timestamp::None {
            figures.insert(0, format!("{} us", micros((journey.end - journey.start) as i64)));
        }
        if journey.copies.len() > 1 {
            figures.push(summary::number(journey.copies.len() as u64, "skb"));
        }
        writeln!(self.out, "{lead}=> {text} ({})", figures.join(", "))?;
        for line in why(journey, &self.names) {
            writeln!(self.out, "{lead}   {line}")?;
        }
        for text in other_fates(journey, &self.names) {
            writeln!(self.out, "{lead}   {text}")?;
        }
        // Live, the journey's events are gone.
        if self.timestamp != Timestamp::None
            && journey.count == journey.steps().count() as u64 + journey.cut
            && let Some(shares) = words::shares(journey, &self.names)
        {
            writeln!(self.out, "{lead}   {shares}")?;
        }
        for text in words::caveats(journey) {
            writeln!(self.out, "{lead}   {}", self.paint(&text, style(Tone::Open)))?;
        }
        Ok(())
    }

    fn widths(&self, journey: &Journey) -> Widths {
        let longest = |of: &dyn Fn(&Step) -> usize, most: usize| {
            journey
                .steps()
                .filter(|step| self.names.shows(step.event.point))
                .map(of)
                .filter(|&len| len <= most)
                .max()
                .unwrap_or(0)
        };
        let duration = micros((journey.end - journey.start) as i64).len();
        Widths {
            time: match self.timestamp {
                Timestamp::Absolute { .. } => Widths::MAX.time,
                _ => duration.max(9),
            },
            process: longest(
                &|s| process(s.event.pid, &s.event.comm).len(),
                Widths::MAX.process,
            )
            .max("process".len()),
            copies: journey.copies.len() > 1,
            function: longest(
                &|step| words::label(step, &self.names).len(),
                Widths::MAX.function,
            ),
            live: false,
        }
    }
}

impl<W: Write> Renderer for Text<W> {
    fn event(&mut self, number: u64, step: &Step) -> io::Result<()> {
        if !self.names.shows(step.event.point) {
            return Ok(());
        }
        let widths = match self.timestamp {
            Timestamp::Absolute { .. } => Widths {
                time: Widths::MAX.time,
                ..Widths::LIVE
            },
            _ => Widths::LIVE,
        };
        self.columns(widths, &format!("{:>6}  ", "packet"))?;
        let time = step.event.time;
        let mut progress = match self.live.remove(&number) {
            Some(progress) => progress,
            None => {
                self.heading(number, &step.event, None)?;
                Progress::new(time)
            }
        };
        let lead = match step.copy {
            0 => number.to_string(),
            copy => format!("{number}.{}", copy + 1),
        };
        let result = self.line(&format!("{lead:>6}  "), step, widths, &mut progress);
        self.live.insert(number, progress);
        result
    }

    fn ended(&mut self, journey: &Journey) -> io::Result<()> {
        self.live.remove(&journey.number);
        self.fate(&format!("{:>6}  ", journey.number), journey)
    }

    fn journey(&mut self, journey: &Journey) -> io::Result<()> {
        let Some(first) = journey.steps().next() else {
            return Ok(());
        };
        if self.headed {
            writeln!(self.out)?;
        }
        let widths = self.widths(journey);
        self.heading(journey.number, &first.event, journey.tuple.as_ref())?;
        self.columns(widths, "")?;
        let mut progress = Progress::new(journey.start);
        for (i, step) in journey.steps().enumerate() {
            if i == journey.head.len() && journey.cut > 0 {
                let text = format!("... {} not kept ...", summary::number(journey.cut, "event"));
                writeln!(self.out, "  {}", self.paint(&text, style(Tone::Open)))?;
            }
            if self.names.shows(step.event.point) {
                self.line("", step, widths, &mut progress)?;
            }
        }
        self.fate("  ", journey)
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        if self.headed {
            writeln!(self.out)?;
        }
        write!(self.out, "{summary}")
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

const SECOND: u64 = 1_000_000_000;

fn time_of_day(time: u64, offset: i64) -> String {
    let nanos = time.saturating_add_signed(offset);
    let seconds = nanos / SECOND % 86400;
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{h:02}:{m:02}:{s:02}.{:09}", nanos % SECOND)
}

fn date(time: u64, offset: i64) -> String {
    super::wall(time, offset)
        .chars()
        .take_while(|&c| c != 'T')
        .collect()
}
