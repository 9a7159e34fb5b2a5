//! Journeys as a pcapng capture, which Wireshark opens: one packet an event, one interface an attach point.
//!
//! A packet holds what its event kept of it: the first bytes from the network header on, as raw IP. Its comment says
//! which packet of the run it is, where, and what the event means. Events without such bytes (no header yet, or freed)
//! are left out.

use std::collections::HashMap;
use std::io::{self, Write};
use std::rc::Rc;

use super::Renderer;
use super::escape::escape;
use super::names::Names;
use super::words::{fate_text, sign_text};
use crate::trace::event::PointId;
use crate::trace::journey::{Journey, Step};
use crate::trace::summary::Summary;

/// Renders pcapng.
pub struct Pcapng<W> {
    out: W,
    names: Rc<Names>,
    /// What to add to CLOCK_MONOTONIC to get CLOCK_REALTIME, in nanoseconds.
    offset: i64,
    interfaces: HashMap<PointId, u32>,
    begun: bool,
}

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
/// LINKTYPE_RAW: IPv4 or IPv6, as the first byte says.
const RAW: u32 = 101;
const OPT_COMMENT: u16 = 1;
const OPT_IF_NAME: u16 = 2;
const OPT_IF_TSRESOL: u16 = 9;
const OPT_APPLICATION: u16 = 4;

/// A block's body in the making: numbers and options, padded to words.
#[derive(Default)]
struct Body(Vec<u8>);

impl Body {
    fn word(mut self, number: u32) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn option(mut self, code: u16, value: &[u8]) -> Self {
        let value = &value[..value.len().min(usize::from(u16::MAX))];
        self.0.extend(code.to_le_bytes());
        self.0.extend((value.len() as u16).to_le_bytes());
        self.bytes(value)
    }

    /// The end of the options.
    fn end(self) -> Self {
        self.word(0)
    }
}

/// The length that an IP header gives its packet; none for what is no IP.
fn ip_length(headers: &[u8]) -> Option<u32> {
    let number = |at: usize| Some(u32::from(u16::from_be_bytes(*headers.get(at..)?.first_chunk()?)));
    match headers.first()? >> 4 {
        4 => number(2),
        6 => Some(40 + number(4)?),
        _ => None,
    }
}

impl<W: Write> Pcapng<W> {
    /// Writes to `out`.
    pub fn new(out: W, names: Rc<Names>, offset: i64) -> Self {
        Pcapng {
            out,
            names,
            offset,
            interfaces: HashMap::new(),
            begun: false,
        }
    }

    fn block(&mut self, kind: u32, body: &Body) -> io::Result<()> {
        let len = body.0.len() as u32 + 12;
        self.out.write_all(&kind.to_le_bytes())?;
        self.out.write_all(&len.to_le_bytes())?;
        self.out.write_all(&body.0)?;
        self.out.write_all(&len.to_le_bytes())
    }

    fn begin(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.begun, true) {
            return Ok(());
        }
        // Byte order, version 1.0, length of the section not known.
        let body = Body::default()
            .word(0x1a2b_3c4d)
            .word(1)
            .word(u32::MAX)
            .word(u32::MAX);
        let application = concat!("ktrail ", env!("CARGO_PKG_VERSION"));
        self.block(
            SECTION,
            &body.option(OPT_APPLICATION, application.as_bytes()).end(),
        )
    }

    /// The number of an attach point's interface, which is described when it comes first.
    fn interface(&mut self, point: PointId) -> io::Result<u32> {
        if let Some(&number) = self.interfaces.get(&point) {
            return Ok(number);
        }
        let number = self.interfaces.len() as u32;
        self.interfaces.insert(point, number);
        let label = self.names.label(point);
        // Times in nanoseconds; no limit to a packet's length.
        let body = Body::default()
            .word(RAW)
            .word(0)
            .option(OPT_IF_NAME, label.as_bytes());
        self.block(INTERFACE, &body.option(OPT_IF_TSRESOL, &[9]).end())?;
        Ok(number)
    }

    fn packet(&mut self, number: u64, step: &Step, last: Option<&str>) -> io::Result<()> {
        let event = &step.event;
        let Some((packet, total)) = event
            .packet
            .as_ref()
            .and_then(|p| Some((p, ip_length(&p.headers)?)))
        else {
            return Ok(());
        };
        let interface = self.interface(event.point)?;
        let mut comment = format!(
            "packet {number}, copy {}: {} ({}), {}[{}] on CPU {}",
            step.copy + 1,
            self.names.label(event.point),
            self.names.layer(event.point).name(),
            escape(&event.comm),
            event.pid,
            event.cpu,
        );
        if packet.ifindex != 0 {
            comment.push_str(&format!(", dev {}", escape(&packet.ifname)));
        }
        if let Some(text) = sign_text(&event.sign, &self.names) {
            comment.push_str(&format!("; {text}"));
        }
        if let Some(about) = self.names.about(event.point) {
            comment.push_str(&format!("; {}", about.role));
        }
        if let Some(fate) = last {
            comment.push_str(&format!("; in the end: {fate}"));
        }
        let time = event.time.saturating_add_signed(self.offset);
        // What the skb holds may have lost its IP header already, or be many packets that a device will cut.
        let len = packet.len.max(total);
        let held = packet.headers.len().min(len as usize);
        let body = Body::default()
            .word(interface)
            .word((time >> 32) as u32)
            .word(time as u32)
            .word(held as u32)
            .word(len)
            .bytes(&packet.headers[..held]);
        self.block(PACKET, &body.option(OPT_COMMENT, comment.as_bytes()).end())
    }
}

impl<W: Write> Renderer for Pcapng<W> {
    fn event(&mut self, number: u64, step: &Step) -> io::Result<()> {
        self.begin()?;
        match self.names.shows(step.event.point) {
            true => self.packet(number, step, None),
            false => Ok(()),
        }
    }

    fn ended(&mut self, _: &Journey) -> io::Result<()> {
        Ok(())
    }

    fn journey(&mut self, journey: &Journey) -> io::Result<()> {
        self.begin()?;
        let fate = fate_text(journey.fate(), &self.names);
        for step in journey
            .steps()
            .filter(|step| self.names.shows(step.event.point))
            .cloned()
            .collect::<Vec<_>>()
        {
            self.packet(journey.number, &step, Some(&fate))?;
        }
        Ok(())
    }

    fn summary(&mut self, _: &Summary) -> io::Result<()> {
        self.begin()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
