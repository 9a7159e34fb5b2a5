//! Journeys in the trace-event format, which Perfetto (ui.perfetto.dev) and chrome://tracing open.
//!
//! Each packet is a process, each of its copies a thread; a function's slice lasts until the copy's next event, that
//! of a function beneath it until its return.

use std::io::{self, Write};
use std::rc::Rc;

use serde_json::{Value, json};

use super::Renderer;
use super::escape::escape;
use super::names::{self, Names};
use super::words::{fate_text, sign_text};
use crate::trace::event::Sign;
use crate::trace::journey::{Journey, Step};
use crate::trace::summary::Summary;

/// Renders one JSON object.
pub struct Perfetto<W> {
    out: W,
    names: Rc<Names>,
    begun: bool,
}

impl<W: Write> Perfetto<W> {
    /// Writes to `out`.
    pub fn new(out: W, names: Rc<Names>) -> Self {
        Perfetto {
            out,
            names,
            begun: false,
        }
    }

    fn put(&mut self, value: &Value) -> io::Result<()> {
        let lead = match std::mem::replace(&mut self.begun, true) {
            true => ",\n",
            false => "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n",
        };
        write!(self.out, "{lead}{value}")
    }
}

/// Nanoseconds as the format's microseconds.
fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1000.0
}

impl<W: Write> Renderer for Perfetto<W> {
    fn event(&mut self, _: u64, _: &Step) -> io::Result<()> {
        Ok(())
    }

    fn ended(&mut self, _: &Journey) -> io::Result<()> {
        Ok(())
    }

    fn journey(&mut self, journey: &Journey) -> io::Result<()> {
        let tuple = journey.tuple.as_ref();
        let tuple = tuple.map_or_else(|| names::ethertype_label(journey.ethertype), names::tuple);
        let fate = fate_text(journey.fate(), &self.names);
        let pid = journey.number;
        let name = |what: &str, tid: usize, text: String| json!({"ph": "M", "name": what, "pid": pid, "tid": tid, "args": {"name": text}});
        self.put(&name(
            "process_name",
            0,
            format!("packet {pid} {tuple} => {fate}"),
        ))?;
        for (copy, known) in (1..).zip(&journey.copies) {
            let of = known.of.map(|of| format!(" of {}", of + 1)).unwrap_or_default();
            let fate = fate_text(&known.fate, &self.names);
            self.put(&name("thread_name", copy, format!("copy {copy}{of} => {fate}")))?;
        }
        let steps: Vec<&Step> = journey
            .steps()
            .filter(|step| self.names.shows(step.event.point))
            .collect();
        for (at, step) in steps.iter().enumerate() {
            let event = &step.event;
            let next = steps[at + 1..]
                .iter()
                .find(|next| next.copy == step.copy && !next.event.sign.is_beneath());
            let end = match event.sign {
                Sign::Ran { took, .. } => event.time + took,
                _ => next.map_or(event.time, |next| next.event.time),
            };
            let mut args = json!({
                "layer": self.names.layer(event.point).name(),
                "cpu": event.cpu,
                "process": format!("{}[{}]", escape(&event.comm), event.pid),
            });
            if let Some(packet) = &event.packet {
                args["len"] = packet.len.into();
                args["dev"] = escape(&packet.ifname).into();
                args["netns"] = packet.netns.into();
            }
            if let Some(about) = self.names.about(event.point) {
                args["does"] = about.role.into();
            }
            if let Some(text) = sign_text(&event.sign, &self.names) {
                args["sign"] = text.into();
            }
            self.put(&json!({
                "ph": "X",
                "name": self.names.label(event.point),
                "cat": self.names.layer(event.point).name(),
                "pid": pid,
                "tid": step.copy + 1,
                "ts": micros(event.time),
                "dur": micros(end - event.time),
                "args": args,
            }))?;
        }
        Ok(())
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        if !self.begun {
            write!(self.out, "{{\"displayTimeUnit\":\"ns\",\"traceEvents\":[")?;
        }
        let text = Value::from(summary.to_string());
        writeln!(self.out, "\n],\"otherData\":{{\"summary\":{text}}}}}")
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
