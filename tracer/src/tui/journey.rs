//! One packet as the view keeps it: what its list row says, and its journey's lines.

use crate::trace::event::PointKind;
use crate::trace::journey::{Fate, Journey, Step};
use crate::trace::knowledge::{Entry, Layer};
use crate::trace::render::names::{self, Names};
use crate::trace::render::tone::Tone;
use crate::trace::render::why::why;
use crate::trace::render::words::{self, Note, Progress};
use crate::trace::summary;

/// How many lines of one journey are kept.
pub const LINES: usize = 4096;

/// A packet, on its way or ended.
pub struct Packet {
    /// Addresses and ports, or the EtherType.
    pub title: String,
    /// What it was like at first.
    pub heading: String,
    start: u64,
    end: u64,
    /// Its lines, in the order in which they came.
    pub lines: Vec<Line>,
    /// How many lines more there were.
    cut: u64,
    /// How it ended, once it has.
    pub ending: Option<Ending>,
    progress: Progress,
}

/// One event.
pub struct Line {
    /// The layer that the packet is in.
    pub layer: Layer,
    /// Whether it was in it before.
    pub stays: bool,
    /// Nanoseconds since the packet's first event.
    pub time: i64,
    /// The function's or tracepoint's name.
    pub label: String,
    /// Whether it is a tracepoint.
    pub tracepoint: bool,
    /// What changed, and what it means.
    pub notes: Vec<Note>,
    /// CPU, process, copy.
    pub place: String,
    /// What ktrail knows of the function.
    pub about: Option<&'static Entry>,
}

/// How a packet ended.
pub struct Ending {
    /// What kind of end.
    pub tone: Tone,
    /// One character for it, for terminals without colours.
    pub mark: char,
    /// In words, then what is known about why, and where the time went.
    pub texts: Vec<(String, Tone)>,
}

impl Packet {
    /// A packet that comes into sight.
    pub fn new(first: &Step) -> Packet {
        let event = &first.event;
        let packet = event.packet.as_ref();
        let heading = words::heading(event, None);
        Packet {
            title: packet.map_or_else(
                || "unknown".to_owned(),
                |_| heading.first().cloned().unwrap_or_default(),
            ),
            heading: heading.join("  "),
            start: event.time,
            end: event.time,
            lines: vec![],
            cut: 0,
            ending: None,
            progress: Progress::new(event.time),
        }
    }

    /// Takes the next event; says whether that made a line.
    pub fn event(&mut self, step: &Step, names: &Names) -> bool {
        let event = &step.event;
        self.end = self.end.max(event.time);
        if !names.shows(event.point) {
            return false;
        }
        if self.lines.len() >= LINES {
            self.cut += 1;
            return false;
        }
        let (layer, stays) = self.progress.pass(event.sign, names.layer(event.point));
        let mut place = format!("cpu {}, {}", event.cpu, words::process(event.pid, &event.comm));
        if step.copy > 0 {
            place.push_str(&format!(", copy {}", step.copy + 1));
        }
        self.lines.push(Line {
            layer,
            stays,
            time: event.time as i64 - self.start as i64,
            label: words::label(step, names),
            tracepoint: names
                .point(event.point)
                .is_some_and(|p| p.kind == PointKind::Tracepoint),
            notes: words::notes(step, names, &mut self.progress),
            place,
            about: names.about(event.point),
        });
        true
    }

    /// Takes how it ended. `journey` has its events.
    pub fn ended(&mut self, journey: &Journey, names: &Names) {
        let fate = journey.fate();
        let tone = Tone::of(fate);
        if let Some(tuple) = journey.tuple {
            // The heading begins with what was known of it at first.
            let rest = self.heading.strip_prefix(&self.title).map(str::to_owned);
            self.title = names::tuple(&tuple);
            if let Some(rest) = rest {
                self.heading = format!("{}{rest}", self.title);
            }
        }
        self.end = journey.end;
        let mut texts = vec![(words::fate_text(fate, names), tone)];
        texts.extend(why(journey, names).into_iter().map(|text| (text, Tone::Plain)));
        let others = words::other_fates(journey, names);
        texts.extend(others.into_iter().map(|text| (text, Tone::Aside)));
        let shares = words::shares(journey, names);
        texts.extend(shares.map(|text| (text, Tone::Aside)));
        let caveats = words::caveats(journey);
        texts.extend(caveats.into_iter().map(|text| (text, Tone::Open)));
        self.ending = Some(Ending {
            tone,
            mark: mark(fate),
            texts,
        });
        // No event comes any more.
        self.progress = Progress::default();
    }

    /// How many rows its journey takes: lines, then what was left out, then the ending.
    pub fn rows(&self) -> usize {
        let texts = self.ending.as_ref().map_or(1, |ending| ending.texts.len());
        self.lines.len() + usize::from(self.cut > 0) + texts
    }

    /// What stands in a row after the lines.
    pub fn text(&self, row: usize) -> Option<(String, Tone)> {
        let after = row.checked_sub(self.lines.len())?;
        let after = match (self.cut, after) {
            (1.., 0) => {
                return Some((
                    format!("... {} not kept ...", summary::number(self.cut, "event")),
                    Tone::Open,
                ));
            }
            (1.., after) => after - 1,
            (0, after) => after,
        };
        let Some(ending) = &self.ending else {
            return (after == 0).then(|| ("... on its way".to_owned(), Tone::Aside));
        };
        let (text, tone) = ending.texts.get(after)?;
        let lead = if after == 0 { "=> " } else { "   " };
        Some((format!("{lead}{text}"), *tone))
    }

    /// From its first to its last event so far, short.
    pub fn duration(&self) -> String {
        duration(self.end - self.start)
    }

    /// Whether it has that text (in lower case) in its row, on its way, or in its end.
    pub fn has(&self, number: u64, text: &str) -> bool {
        let has = |of: &str| of.to_ascii_lowercase().contains(text);
        number.to_string() == text
            || has(&self.title)
            || self.lines.iter().any(|line| has(&line.label))
            || self
                .ending
                .iter()
                .flat_map(|ending| &ending.texts)
                .any(|(of, _)| has(of))
    }
}

fn mark(fate: &Fate) -> char {
    match fate {
        Fate::Delivered { .. } => '+',
        Fate::Sent { .. } => '>',
        Fate::Dropped { .. } => 'x',
        Fate::Consumed { .. } => '=',
        Fate::Queued { .. } => 'q',
        Fate::LostSight { .. } => '?',
    }
}

/// At most seven characters.
fn duration(nanos: u64) -> String {
    let steps = [(1_000, "ns"), (1_000, "us"), (1_000, "ms")];
    let (mut whole, mut tenth) = (nanos, None);
    for (size, unit) in steps {
        if whole < size {
            return match tenth {
                Some(tenth) => format!("{whole}.{tenth}{unit}"),
                None => format!("{whole}{unit}"),
            };
        }
        tenth = Some(whole % size * 10 / size);
        whole /= size;
    }
    match tenth {
        Some(tenth) if whole < 10_000 => format!("{whole}.{tenth}s"),
        _ => format!("{whole}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_are_short() {
        let cases = [
            (0, "0ns"),
            (999, "999ns"),
            (1_000, "1.0us"),
            (12_399, "12.3us"),
            (999_999, "999.9us"),
            (1_500_000, "1.5ms"),
            (61_000_000_000, "61.0s"),
            (86_400_000_000_000, "86400s"),
        ];
        for (nanos, text) in cases {
            assert_eq!(duration(nanos), text);
        }
    }
}
