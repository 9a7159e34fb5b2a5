//! Journeys as one HTML page that needs nothing else: a timeline by layer and CPU, search, each function's sentence
//! under the pointer, and two journeys side by side.
//!
//! What comes from packets and processes is escaped as everywhere, stands in the page as JSON in which no `<` occurs, and
//! is put into the document as text.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::rc::Rc;

use serde::Serialize;

use super::Renderer;
use super::names::{self, Names};
use super::why::why;
use super::words::{self, Progress, fate_text, process};
use crate::trace::align::way;
use crate::trace::event::PointId;
use crate::trace::journey::{Fate, Journey, Step};
use crate::trace::knowledge::Layer;
use crate::trace::summary::{self, Summary};

const PAGE: &str = include_str!("page.html");

/// A page holds so many packets; a browser has to.
const MOST: usize = 2000;

/// Renders one page, when the run is over.
pub struct Html<W> {
    out: W,
    names: Rc<Names>,
    packets: Vec<Packet>,
    points: BTreeSet<PointId>,
    left_out: u64,
}

#[derive(Serialize)]
struct Packet {
    number: u64,
    title: String,
    kind: &'static str,
    fate: String,
    why: Vec<String>,
    shares: Option<String>,
    duration: u64,
    cut: u64,
    lost: u64,
    /// Labels of the way, for comparing.
    way: Vec<String>,
    /// Layer, time, CPU, process, function, notes.
    events: Vec<(&'static str, u64, u32, String, String, String)>,
}

#[derive(Serialize)]
struct Data<'a> {
    summary: String,
    layers: Vec<&'static str>,
    about: BTreeMap<String, &'static str>,
    packets: &'a [Packet],
}

impl<W: Write> Html<W> {
    /// Writes to `out`.
    pub fn new(out: W, names: Rc<Names>) -> Self {
        Html {
            out,
            names,
            packets: vec![],
            points: BTreeSet::new(),
            left_out: 0,
        }
    }
}

impl<W: Write> Renderer for Html<W> {
    fn event(&mut self, _: u64, _: &Step) -> io::Result<()> {
        Ok(())
    }

    fn ended(&mut self, _: &Journey) -> io::Result<()> {
        Ok(())
    }

    fn journey(&mut self, journey: &Journey) -> io::Result<()> {
        if self.packets.len() >= MOST {
            self.left_out += 1;
            return Ok(());
        }
        let mut progress = Progress::new(journey.start);
        let mut events = vec![];
        for step in journey.steps().filter(|step| self.names.shows(step.event.point)) {
            let event = &step.event;
            self.points.insert(event.point);
            let mut notes = words::notes(step, &self.names, &mut progress)
                .into_iter()
                .map(|note| note.long)
                .collect::<Vec<_>>()
                .join(", ");
            if step.copy > 0 {
                notes = format!("[copy {}] {notes}", step.copy + 1);
            }
            events.push((
                self.names.layer(event.point).name(),
                event.time - journey.start,
                event.cpu,
                process(event.pid, &event.comm),
                self.names.label(event.point),
                notes,
            ));
        }
        let tuple = journey.tuple.as_ref();
        self.packets.push(Packet {
            number: journey.number,
            title: tuple.map_or_else(|| names::ethertype_label(journey.ethertype), names::tuple),
            kind: Fate::KINDS[journey.fate().kind()],
            fate: fate_text(journey.fate(), &self.names),
            why: why(journey, &self.names),
            shares: words::shares(journey, &self.names),
            duration: journey.end - journey.start,
            cut: journey.cut,
            lost: journey.lost,
            way: way(journey, &self.names)
                .into_iter()
                .map(|stop| stop.label)
                .collect(),
            events,
        });
        Ok(())
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        let mut text = summary.to_string();
        if self.left_out > 0 {
            let packets = summary::number(self.left_out, "packet");
            text.push_str(&format!("{packets} left out of this page, which holds {MOST}\n"));
        }
        let about = |&point: &PointId| Some((self.names.label(point), self.names.about(point)?.role));
        let data = Data {
            summary: text,
            layers: Layer::all().map(Layer::name).collect(),
            about: self.points.iter().filter_map(about).collect(),
            packets: &self.packets,
        };
        // Nothing in a JSON text but strings can hold a `<`, and it could end the script element.
        let data = serde_json::to_string(&data)?.replace('<', "\\u003c");
        let (before, after) = PAGE.split_once("@DATA@").unwrap_or((PAGE, ""));
        write!(self.out, "{before}{data}{after}")
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
