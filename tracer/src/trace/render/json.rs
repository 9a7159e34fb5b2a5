//! Journeys as JSON lines, as `docs/json.md` describes them: one object a line, of type `event`, `journey` or
//! `summary`, each with the format's version. Zero is written as zero, and a field that is sometimes absent is
//! written as null.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::rc::Rc;

use serde::Serialize;

use super::escape::escape;
use super::names::{self, Names};
use super::why::why;
use super::{Renderer, netfilter, wall};
use crate::trace::event::{Hook, PointId, PointKind, Returned, Rule, Sign, Tuple};
use crate::trace::extras::Value;
use crate::trace::journey::{Consumption, Device, Fate, Had, Journey, Process, Step};
use crate::trace::rules;
use crate::trace::summary::{Attached, Summary};

/// The format's version. It rises when a field is removed or changes its meaning; new fields don't raise it.
pub const VERSION: u32 = 1;

/// Renders JSON lines.
pub struct Json<W> {
    out: W,
    names: Rc<Names>,
    offset: i64,
    /// The line that is being put together: kept, so that its room is.
    line: Vec<u8>,
}

#[derive(Serialize)]
struct EventLine {
    packet: u64,
    copy: usize,
    copy_of: Option<usize>,
    time_ns: u64,
    wall: String,
    cpu: u32,
    pid: u32,
    tid: u32,
    comm: String,
    point: PointName,
    layer: &'static str,
    skb: String,
    state: Option<StateFields>,
    hook: Option<HookFields>,
    rule: Option<RuleFields>,
    shown: BTreeMap<String, Option<ShownValue>>,
    callers: Vec<CallerFields>,
    sign: SignFields,
}

#[derive(Serialize)]
struct StateFields {
    tuple: Option<TupleFields>,
    ethertype: u16,
    len: u32,
    mark: u32,
    ifindex: u32,
    ifname: String,
    netns: u32,
    conntrack: Option<String>,
    headroom: u32,
    network_header: u16,
}

#[derive(Serialize)]
struct HookFields {
    family: String,
    hook: Option<&'static str>,
    number: u8,
    table: Option<String>,
    chain: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ShownValue {
    Unsigned(u64),
    Signed(i64),
    Text(String),
}

#[derive(Serialize)]
struct CallerFields {
    address: String,
    function: Option<String>,
}

#[derive(Serialize)]
struct RuleFields {
    family: String,
    table: Option<String>,
    chain: Option<String>,
    handle: Option<u64>,
    verdict: String,
    text: Option<String>,
}

#[derive(Serialize)]
struct PointName {
    kind: &'static str,
    name: String,
    module: String,
}

#[derive(Serialize)]
struct TupleFields {
    src: String,
    dst: String,
    protocol: u8,
    protocol_name: Option<&'static str>,
    src_port: Option<u16>,
    dst_port: Option<u16>,
    icmp_type: Option<u16>,
    icmp_code: Option<u16>,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum SignFields {
    Passed,
    Copied,
    Transmitted {
        code: i32,
    },
    Cloned {
        from: String,
    },
    Dropped {
        #[serde(flatten)]
        reason: ReasonFields,
    },
    Consumed {
        read: bool,
    },
    Freed,
    Ran {
        under: PointName,
        returned: Option<ReturnedValue>,
        duration_ns: u64,
    },
}

#[derive(Serialize)]
#[serde(untagged)]
enum ReturnedValue {
    Truth(bool),
    Signed(i64),
    Unsigned(u64),
    Address(String),
}

#[derive(Serialize)]
struct ReasonFields {
    reason: Option<u32>,
    reason_name: Option<String>,
    location: Option<String>,
    function: Option<String>,
}

#[derive(Serialize)]
struct JourneyLine {
    packet: u64,
    tuple: Option<TupleFields>,
    ethertype: u16,
    start_ns: u64,
    end_ns: u64,
    start_wall: String,
    duration_ns: u64,
    events: u64,
    events_cut: u64,
    events_lost: u64,
    given_up: bool,
    fate_copy: usize,
    fate: FateFields,
    why: Vec<String>,
    layers: Vec<ShareFields>,
    copies: Vec<CopyFields>,
}

#[derive(Serialize)]
struct ShareFields {
    layer: &'static str,
    waiting: Option<&'static str>,
    time_ns: u64,
}

#[derive(Serialize)]
struct CopyFields {
    copy: usize,
    copy_of: Option<usize>,
    skb: String,
    fate: FateFields,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum FateFields {
    Delivered {
        #[serde(flatten)]
        process: ProcessFields,
    },
    Sent {
        #[serde(flatten)]
        device: DeviceFields,
    },
    Dropped {
        #[serde(flatten)]
        reason: ReasonFields,
        after: PointName,
        read_by: Option<ProcessFields>,
        taken_by: Option<DeviceFields>,
    },
    Consumed {
        point: PointName,
        how: &'static str,
    },
    Queued {
        place: &'static str,
        point: PointName,
    },
    LostSight {
        point: PointName,
    },
}

#[derive(Serialize)]
struct ProcessFields {
    pid: u32,
    comm: String,
}

#[derive(Serialize)]
struct DeviceFields {
    ifindex: u32,
    ifname: String,
    netns: u32,
}

#[derive(Serialize)]
struct SummaryLine<'a> {
    packets: u64,
    events: u64,
    events_produced: u64,
    events_delivered: u64,
    events_lost: u64,
    events_late: u64,
    events_stray: u64,
    events_cut: u64,
    packets_given_up: u64,
    packets_unfollowed: u64,
    skbs_reused: u64,
    reports_malformed: u64,
    recursion_misses: u64,
    calls_unreturned: u64,
    fates: BTreeMap<&'static str, u64>,
    attached: &'a Attached,
}

impl<W: Write> Json<W> {
    /// Writes to `out`. `offset` is what to add to CLOCK_MONOTONIC to get CLOCK_REALTIME, in nanoseconds.
    pub fn new(out: W, names: Rc<Names>, offset: i64) -> Self {
        Json {
            out,
            names,
            offset,
            line: vec![],
        }
    }

    /// A line of `body`, which is an object of one field at least.
    fn line(&mut self, r#type: &'static str, body: impl Serialize) -> io::Result<()> {
        self.line.clear();
        write!(self.line, r#"{{"version":{VERSION},"type":"{type}""#)?;
        // Its fields follow those two; a flattened field would cost each of them a detour.
        let brace = self.line.len();
        serde_json::to_writer(&mut self.line, &body)?;
        self.line[brace] = b',';
        self.line.push(b'\n');
        self.out.write_all(&self.line)
    }

    fn point(&self, id: PointId) -> PointName {
        match self.names.point(id) {
            Some(point) => PointName {
                kind: match point.kind {
                    PointKind::Function => "function",
                    PointKind::Tracepoint => "tracepoint",
                },
                name: escape(point.name.as_bytes()),
                module: escape(point.module.as_bytes()),
            },
            None => PointName {
                kind: "unknown",
                name: self.names.label(id),
                module: String::new(),
            },
        }
    }

    /// Live, the journey's events are gone: nothing can be said.
    fn shares(&self, journey: &Journey) -> Vec<ShareFields> {
        if journey.count != journey.steps().count() as u64 + journey.cut {
            return vec![];
        }
        let shares = self.names.shares(journey).into_iter();
        shares
            .map(|share| ShareFields {
                layer: share.layer.name(),
                waiting: share.waiting,
                time_ns: share.time,
            })
            .collect()
    }

    fn rule(&self, rule: &Rule, netns: u32) -> RuleFields {
        let known = |name: &[u8]| (!name.is_empty()).then(|| escape(name));
        RuleFields {
            family: netfilter::family_name(rule.family),
            table: known(&rule.table),
            chain: known(&rule.chain),
            handle: (rule.handle != 0).then_some(rule.handle),
            verdict: netfilter::verdict(rule.verdict),
            text: rules::of_rule(rule, netns).and_then(|question| self.names.answer(&question)),
        }
    }

    fn reason(&self, reason: Option<u32>, location: u64) -> ReasonFields {
        ReasonFields {
            reason,
            reason_name: reason.map(|reason| self.names.reason(reason)),
            location: (location != 0).then(|| address(location)),
            function: self.names.function(location),
        }
    }

    fn fate(&self, fate: &Fate) -> FateFields {
        match fate {
            Fate::Delivered { process } => FateFields::Delivered {
                process: process_fields(process),
            },
            Fate::Sent { device } => FateFields::Sent {
                device: device_fields(device),
            },
            Fate::Dropped {
                reason,
                location,
                after,
                had,
            } => FateFields::Dropped {
                reason: self.reason(*reason, *location),
                after: self.point(*after),
                read_by: match had {
                    Some(Had::BeenRead(process)) => Some(process_fields(process)),
                    _ => None,
                },
                taken_by: match had {
                    Some(Had::BeenTaken(device)) => Some(device_fields(device)),
                    _ => None,
                },
            },
            Fate::Consumed { point, how } => FateFields::Consumed {
                point: self.point(*point),
                how: match how {
                    Consumption::Handled => "handled",
                    Consumption::Merged => "merged",
                    Consumption::Plain => "plain",
                },
            },
            Fate::Queued { place, point } => FateFields::Queued {
                place,
                point: self.point(*point),
            },
            Fate::LostSight { point } => FateFields::LostSight {
                point: self.point(*point),
            },
        }
    }
}

impl<W: Write> Renderer for Json<W> {
    fn event(&mut self, number: u64, step: &Step) -> io::Result<()> {
        if !self.names.shows(step.event.point) {
            return Ok(());
        }
        let event = &step.event;
        let line = EventLine {
            packet: number,
            copy: step.copy + 1,
            copy_of: step.of.map(|of| of + 1),
            time_ns: event.time,
            wall: wall(event.time, self.offset),
            cpu: event.cpu,
            pid: event.pid,
            tid: event.tid,
            comm: escape(&event.comm),
            point: self.point(event.point),
            layer: self.names.layer(event.point).name(),
            skb: address(event.skb),
            state: event.packet.as_ref().map(|packet| StateFields {
                tuple: packet.tuple.as_ref().map(tuple),
                ethertype: packet.ethertype,
                len: packet.len,
                mark: packet.mark,
                ifindex: packet.ifindex,
                ifname: escape(&packet.ifname),
                netns: packet.netns,
                conntrack: packet.conntrack.map(names::conntrack),
                headroom: packet.headroom,
                network_header: packet.network_header,
            }),
            hook: event.hook.as_ref().map(hook_fields),
            rule: event
                .rule
                .as_ref()
                .map(|rule| self.rule(rule, rules::netns(event))),
            shown: self
                .names
                .shown()
                .iter()
                .zip(&event.shown)
                .map(|(path, value)| (escape(path.as_bytes()), value.as_ref().map(shown_value)))
                .collect(),
            callers: self
                .names
                .callers(event)
                .into_iter()
                .map(|(at, function)| CallerFields {
                    address: address(at),
                    function,
                })
                .collect(),
            sign: match event.sign {
                Sign::Passed => SignFields::Passed,
                Sign::Copied => SignFields::Copied,
                Sign::Transmitted { code } => SignFields::Transmitted { code },
                Sign::Cloned { from } => SignFields::Cloned { from: address(from) },
                Sign::Dropped { reason, location } => SignFields::Dropped {
                    reason: self.reason(reason, location),
                },
                Sign::Consumed { read } => SignFields::Consumed { read },
                Sign::Freed => SignFields::Freed,
                Sign::Ran {
                    under,
                    returned,
                    took,
                } => SignFields::Ran {
                    under: self.point(under),
                    returned: returned_value(returned),
                    duration_ns: took,
                },
            },
        };
        self.line("event", line)
    }

    fn ended(&mut self, journey: &Journey) -> io::Result<()> {
        let line = JourneyLine {
            packet: journey.number,
            tuple: journey.tuple.as_ref().map(tuple),
            ethertype: journey.ethertype,
            start_ns: journey.start,
            end_ns: journey.end,
            start_wall: wall(journey.start, self.offset),
            duration_ns: journey.end - journey.start,
            events: journey.count,
            events_cut: journey.cut,
            events_lost: journey.lost,
            given_up: journey.given_up,
            fate_copy: journey.teller + 1,
            fate: self.fate(journey.fate()),
            why: why(journey, &self.names),
            layers: self.shares(journey),
            copies: journey
                .copies
                .iter()
                .enumerate()
                .map(|(number, copy)| CopyFields {
                    copy: number + 1,
                    copy_of: copy.of.map(|of| of + 1),
                    skb: address(copy.skb),
                    fate: self.fate(&copy.fate),
                })
                .collect(),
        };
        self.line("journey", line)
    }

    fn journey(&mut self, journey: &Journey) -> io::Result<()> {
        for step in journey.steps() {
            self.event(journey.number, step)?;
        }
        self.ended(journey)
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        let totals = &summary.totals;
        let line = SummaryLine {
            packets: totals.packets,
            events: totals.events,
            events_produced: summary.counted.produced,
            events_delivered: summary.counted.delivered,
            events_lost: totals.lost,
            events_late: summary.late,
            events_stray: totals.stray,
            events_cut: totals.cut,
            packets_given_up: totals.given_up,
            packets_unfollowed: summary.counted.unfollowed,
            skbs_reused: summary.counted.reused,
            reports_malformed: summary.counted.malformed,
            recursion_misses: summary.counted.recursion,
            calls_unreturned: summary.counted.unreturned,
            fates: Fate::KINDS.into_iter().zip(totals.fates).collect(),
            attached: &summary.attached,
        };
        self.line("summary", line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn tuple(tuple: &Tuple) -> TupleFields {
    let icmp = tuple.ports.filter(|_| tuple.is_icmp());
    let ports = tuple.ports.filter(|_| !tuple.is_icmp());
    TupleFields {
        src: tuple.src.to_string(),
        dst: tuple.dst.to_string(),
        protocol: tuple.protocol,
        protocol_name: names::protocol(tuple.protocol),
        src_port: ports.map(|p| p.0),
        dst_port: ports.map(|p| p.1),
        icmp_type: icmp.map(|p| p.0),
        icmp_code: icmp.map(|p| p.1),
    }
}

fn shown_value(value: &Value) -> ShownValue {
    match value {
        Value::Unsigned(number) => ShownValue::Unsigned(*number),
        Value::Signed(number) => ShownValue::Signed(*number),
        Value::Address(at) => ShownValue::Text(address(*at)),
        Value::Text(text) => ShownValue::Text(escape(text)),
    }
}

fn returned_value(returned: Returned) -> Option<ReturnedValue> {
    Some(match returned {
        Returned::Nothing => return None,
        Returned::Truth(truth) => ReturnedValue::Truth(truth),
        Returned::Signed(number) => ReturnedValue::Signed(number),
        Returned::Unsigned(number) => ReturnedValue::Unsigned(number),
        Returned::Address(at) => ReturnedValue::Address(address(at)),
    })
}

fn hook_fields(hook: &Hook) -> HookFields {
    let known = |name: &[u8]| (!name.is_empty()).then(|| escape(name));
    HookFields {
        family: netfilter::family_name(hook.family),
        hook: netfilter::hook_name(hook),
        number: hook.number,
        table: known(&hook.table),
        chain: known(&hook.chain),
    }
}

fn process_fields(process: &Process) -> ProcessFields {
    ProcessFields {
        pid: process.pid,
        comm: escape(&process.comm),
    }
}

fn device_fields(device: &Device) -> DeviceFields {
    DeviceFields {
        ifindex: device.ifindex,
        ifname: escape(&device.name),
        netns: device.netns,
    }
}

/// Kernel addresses don't fit the numbers that many JSON readers have.
fn address(address: u64) -> String {
    format!("0x{address:016x}")
}
