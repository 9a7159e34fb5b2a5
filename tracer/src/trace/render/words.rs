//! What is said about events and journeys, in words that every format for people shares.

use super::escape::escape;
use super::names::{self, Names};
use super::tone::Tone;
use super::{change, netfilter};
use crate::trace::event::{Event, Packet, PointId, Returned, Sign, Tuple};
use crate::trace::extras::Value;
use crate::trace::journey::{Consumption, Fate, Had, Journey, Process, Step};
use crate::trace::knowledge::Layer;
use crate::trace::rules;
use crate::trace::summary;

/// A journey as far as it has been printed.
#[derive(Default)]
pub struct Progress {
    pub(super) first: u64,
    pub(super) previous: u64,
    /// What each copy was like when last seen.
    seen: Vec<Packet>,
    /// What each copy's fields were when last seen.
    shown: Vec<Vec<Option<Value>>>,
    /// The layer that the margin named last.
    layer: Option<Layer>,
    /// What the packet passed last.
    last: Option<PointId>,
}

impl Progress {
    /// Nothing yet.
    pub fn new(first: u64) -> Progress {
        Progress {
            first,
            previous: first,
            ..Progress::default()
        }
    }

    /// Goes on to a function of that layer: the layer that the packet is in there, and whether it was in it before. What
    /// runs on its behalf does not move it.
    pub fn pass(&mut self, sign: Sign, own: Layer) -> (Layer, bool) {
        if let (true, Some(layer)) = (sign.is_beneath(), self.layer) {
            return (layer, true);
        }
        let layer = self.layer.filter(|_| !own.crosses()).unwrap_or(own);
        (layer, self.layer.replace(layer) == Some(layer))
    }

    /// Makes sure that what the step's copy was like is known; says where a further copy comes from, if this is its
    /// first step.
    fn begin(&mut self, step: &Step) -> Option<String> {
        if step.copy < self.seen.len() {
            return None;
        }
        let first = self.seen.first().cloned();
        // A copy starts as what it was made from; where that isn't known, as the packet itself.
        let origin = step.of.and_then(|of| self.seen.get(of).cloned()).or(first);
        let like = origin.or_else(|| step.event.packet.clone()).unwrap_or_default();
        self.seen.resize(step.copy + 1, like);
        match (step.copy, step.of) {
            (0, _) => None,
            (_, Some(of)) => Some(format!("copy of {}", of + 1)),
            (_, None) => Some("another copy".to_owned()),
        }
    }
}

/// What a packet was like when it was first seen; with its `tuple`, if that is known better.
pub fn heading(first: &Event, tuple: Option<&Tuple>) -> Vec<String> {
    let Some(packet) = &first.packet else {
        return vec![];
    };
    let mut parts = vec![match tuple.or(packet.tuple.as_ref()) {
        Some(tuple) => names::tuple(tuple),
        None => names::ethertype_label(packet.ethertype),
    }];
    parts.push(format!("len {}", packet.len));
    if packet.ifindex != 0 {
        parts.push(format!("dev {}", escape(&packet.ifname)));
    }
    if packet.netns != 0 {
        parts.push(format!("netns {}", packet.netns));
    }
    parts.push(format!("mark 0x{:x}", packet.mark));
    parts
}

/// Something that a line says about its event.
pub struct Note {
    /// In full.
    pub long: String,
    /// Where the line is full.
    pub short: String,
    /// What it is.
    pub tone: Tone,
}

impl Note {
    /// One that can't be shortened.
    pub fn new(text: String, tone: Tone) -> Self {
        Note {
            short: text.clone(),
            long: text,
            tone,
        }
    }
}

/// The step's function or tracepoint, indented if it ran beneath one of the packet's.
pub fn label(step: &Step, names: &Names) -> String {
    let indent = if step.event.sign.is_beneath() { "  " } else { "" };
    format!("{indent}{}", names.label(step.event.point))
}

/// What the line says beside where the packet was: what changed, and what its sign means.
pub fn notes(step: &Step, names: &Names, progress: &mut Progress) -> Vec<Note> {
    let event = &step.event;
    let mut notes = Vec::new();
    if let Sign::Ran {
        under,
        returned,
        took,
    } = event.sign
    {
        let mut text = ran(returned, took);
        // Said where the lines don't show it.
        if progress.last != Some(under) {
            text.push_str(&format!(", beneath {}", names.label(under)));
        }
        notes.push(Note::new(text, Tone::Plain));
        return notes;
    }
    progress.last = Some(event.point);
    if let Some(text) = progress.begin(step) {
        notes.push(Note::new(text, Tone::Copy));
    }
    if let Some(packet) = &event.packet {
        // The state that comes with cloning is the original's.
        for change in change::changes(&mut progress.seen[step.copy], packet) {
            notes.push(Note {
                long: change.long(),
                short: change.short(),
                tone: Tone::Changed,
            });
        }
    }
    notes.extend(shown(step, names, progress));
    if let Some(hook) = &event.hook {
        notes.push(Note::new(netfilter::place(hook), Tone::Place));
    }
    if let Some(rule) = &event.rule {
        let text = rules::of_rule(rule, rules::netns(event)).and_then(|question| names.answer(&question));
        let tone = match rule.verdict {
            netfilter::DROP => Tone::Bad,
            _ => Tone::Place,
        };
        notes.push(Note::new(netfilter::rule(rule, text.as_deref()), tone));
    }
    if let Some(text) = sign_text(&event.sign, names) {
        let tone = match event.sign {
            Sign::Dropped { .. } => Tone::Bad,
            Sign::Transmitted { code } if code != 0 => Tone::Bad,
            _ => Tone::Plain,
        };
        notes.push(Note::new(text, tone));
    }
    if let Some(text) = callers(step, names) {
        notes.push(Note::new(text, Tone::Aside));
    }
    notes
}

/// The fields that were asked for, where they have changed.
fn shown(step: &Step, names: &Names, progress: &mut Progress) -> Vec<Note> {
    if progress.shown.len() <= step.copy {
        progress.shown.resize(step.copy + 1, vec![]);
    }
    let known = &mut progress.shown[step.copy];
    known.resize(names.shown().len(), None);
    let mut notes = vec![];
    for ((path, value), known) in names.shown().iter().zip(&step.event.shown).zip(known) {
        let Some(value) = value.as_ref().filter(|value| known.as_ref() != Some(value)) else {
            continue;
        };
        let new = format!("{} {}", escape(path.as_bytes()), self::value(value));
        let long = match known {
            Some(old) => format!(
                "{} {}->{}",
                escape(path.as_bytes()),
                self::value(old),
                self::value(value)
            ),
            None => new.clone(),
        };
        notes.push(Note {
            long,
            short: new,
            tone: Tone::Changed,
        });
        *known = Some(value.clone());
    }
    notes
}

/// A field's value, as people read it.
pub fn value(value: &Value) -> String {
    match value {
        Value::Unsigned(number) => number.to_string(),
        Value::Signed(number) => number.to_string(),
        Value::Address(0) => "NULL".to_owned(),
        Value::Address(address) => format!("0x{address:x}"),
        Value::Text(text) => format!("\"{}\"", escape(text)),
    }
}

/// The functions that an event's own was called by: `<- ip_send_skb <- udp_send_skb`.
pub fn callers(step: &Step, names: &Names) -> Option<String> {
    let callers = names.callers(&step.event);
    let words = callers.into_iter().map(|(address, name)| {
        let name = name.unwrap_or_else(|| format!("0x{address:x}"));
        format!("<- {name}")
    });
    Some(words.collect::<Vec<_>>().join(" ")).filter(|text| !text.is_empty())
}

/// What an event's sign means, in words; none for merely having passed.
pub fn sign_text(sign: &Sign, names: &Names) -> Option<String> {
    Some(match *sign {
        Sign::Passed | Sign::Cloned { .. } => return None,
        Sign::Ran { returned, took, .. } => ran(returned, took),
        Sign::Copied => "read".to_owned(),
        Sign::Transmitted { code: 0 } => "taken by the driver".to_owned(),
        Sign::Transmitted { code } => format!("not taken by the driver: {code}"),
        Sign::Dropped {
            reason: Some(reason), ..
        } => format!("dropped: {}", names.reason(reason)),
        Sign::Dropped { reason: None, .. } => "dropped".to_owned(),
        Sign::Consumed { read: true } => "read, consumed".to_owned(),
        Sign::Consumed { read: false } => "consumed".to_owned(),
        Sign::Freed => "freed".to_owned(),
    })
}

/// What a function that ran on the packet's behalf returned, and how long it took, in microseconds.
fn ran(returned: Returned, took: u64) -> String {
    // The last page holds no memory: such pointers are error numbers.
    const ERRORS: u64 = 4095;
    let took = micros(took as i64);
    let value = match returned {
        Returned::Nothing => return format!("returned after {took} us"),
        Returned::Truth(truth) => truth.to_string(),
        Returned::Signed(number) => number.to_string(),
        Returned::Unsigned(number) => number.to_string(),
        Returned::Address(0) => "0".to_owned(),
        Returned::Address(address) if address >= ERRORS.wrapping_neg() => address.cast_signed().to_string(),
        Returned::Address(address) => format!("0x{address:x}"),
    };
    format!("returned {value} after {took} us")
}

/// Where the time went, as far as it is worth a word.
pub fn shares(journey: &Journey, names: &Names) -> Option<String> {
    let total = journey.end - journey.start;
    let mut shares = names.shares(journey);
    shares.sort_by_key(|share| std::cmp::Reverse(share.time));
    const SHOWN: usize = 4;
    let large = shares.iter().take(SHOWN).filter(|share| share.time * 100 > total);
    let mut words: Vec<String> = large
        .clone()
        .map(|share| match share.waiting {
            Some(place) => format!("waiting in {place} {}", micros(share.time as i64)),
            None => format!("{} {}", share.layer.name(), micros(share.time as i64)),
        })
        .collect();
    let rest: u64 = total.saturating_sub(large.map(|share| share.time).sum());
    if words.len() < 2 {
        return None;
    }
    if rest > 0 {
        words.push(format!("other {}", micros(rest as i64)));
    }
    Some(format!("us: {}", words.join(", ")))
}

/// A fate in words.
pub fn fate_text(fate: &Fate, names: &Names) -> String {
    match fate {
        Fate::Delivered { process: p } => format!("delivered to {}", process_of(p)),
        Fate::Sent { device } => format!("sent by {}", escape(&device.name)),
        Fate::Dropped {
            reason,
            location,
            after,
            had,
        } => {
            let mut text = match names.function(*location) {
                Some(function) => format!("dropped in {function}"),
                None => format!("dropped after {}", names.label(*after)),
            };
            if let Some(reason) = reason {
                text.push_str(&format!(": {}", names.reason(*reason)));
            }
            match had {
                None => {}
                Some(Had::BeenRead(p)) => text.push_str(&format!(", after {} had read it", process_of(p))),
                Some(Had::BeenTaken(device)) => {
                    text.push_str(&format!(", after {} had taken it", escape(&device.name)));
                }
            }
            text
        }
        Fate::Consumed { point, how } => {
            let point = names.label(*point);
            match how {
                Consumption::Handled => format!("taken in by the kernel, in {point}"),
                Consumption::Merged => format!("merged into another skb, in {point}"),
                Consumption::Plain => format!("consumed after {point}"),
            }
        }
        Fate::Queued { place, point } => format!("still in {place}, since {}", names.label(*point)),
        Fate::LostSight { point } => format!("lost sight of after {}", names.label(*point)),
    }
}

/// The fates of the copies that don't tell the packet's, equal ones together.
pub fn other_fates(journey: &Journey, names: &Names) -> Vec<String> {
    let mut groups: Vec<(Option<usize>, String, Vec<usize>)> = Vec::new();
    for (number, copy) in journey.copies.iter().enumerate() {
        if number == journey.teller {
            continue;
        }
        let fate = fate_text(&copy.fate, names);
        match groups
            .iter_mut()
            .find(|(of, text, _)| (*of, &**text) == (copy.of, &*fate))
        {
            Some((_, _, members)) => members.push(number),
            None => groups.push((copy.of, fate, vec![number])),
        }
    }
    let mut lines = Vec::new();
    for (of, fate, members) in groups {
        const SHOWN: usize = 6;
        let mut numbers: Vec<String> = members.iter().take(SHOWN).map(|n| (n + 1).to_string()).collect();
        if members.len() > SHOWN {
            numbers.push(format!("{} more", members.len() - SHOWN));
        }
        let noun = if members.len() == 1 { "copy" } else { "copies" };
        let of = of.map(|of| format!(" of {}", of + 1)).unwrap_or_default();
        lines.push(format!("{noun} {}{of}: {fate}", numbers.join(", ")));
    }
    lines
}

/// What may be missing in a journey.
pub fn caveats(journey: &Journey) -> Vec<String> {
    let mut texts = vec![];
    if journey.lost > 0 {
        let lost = summary::number(journey.lost, "event");
        texts.push(format!("{lost} lost meanwhile: this journey may have gaps"));
    }
    if journey.given_up {
        texts.push("given up before its end: too many packets or copies at once".to_owned());
    }
    texts
}

/// A process that read a packet, as people read it.
pub fn process_of(process: &Process) -> String {
    self::process(process.pid, &process.comm)
}

/// `dig[1234]`; the idle task is only its name.
pub fn process(pid: u32, comm: &[u8]) -> String {
    match pid {
        0 => escape(comm),
        _ => format!("{}[{pid}]", escape(comm)),
    }
}

/// Nanoseconds as microseconds with three decimals.
pub fn micros(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    format!("{sign}{}.{:03}", nanos / 1000, nanos % 1000)
}
