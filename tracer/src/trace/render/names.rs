//! Names for what events carry as numbers: attach points, drop reasons, protocols, code addresses.

use std::collections::HashMap;
use std::net::IpAddr;

use super::escape::escape;
use crate::trace::event::{Event, Point, PointId, PointKind, Tuple};
use crate::trace::journey::Journey;
use crate::trace::knowledge::{Entry, Layer, knowledge};
use crate::trace::layers::{Layers, Share};
use crate::trace::rules::{Answers, Question};

/// Turns a code address into the name of the function that it is in.
pub type Symbols = Box<dyn Fn(u64) -> Option<String>>;

/// What a run knows names of.
pub struct Names {
    points: Vec<Point>,
    layers: Layers,
    reasons: Reasons,
    symbols: Symbols,
    answers: Answers,
    shown: Vec<String>,
    stack: u32,
}

impl Names {
    /// From the run's attach points, the kernel's drop reasons and its symbols.
    pub fn new(points: Vec<Point>, reasons: Reasons, symbols: Symbols) -> Self {
        Names {
            layers: Layers::new(&points),
            points,
            reasons,
            symbols,
            answers: Box::new(|_| None),
            shown: vec![],
            stack: 0,
        }
    }

    /// With somebody who knows the firewall's rules.
    pub fn asking(mut self, answers: Answers) -> Self {
        self.answers = answers;
        self
    }

    /// With the paths of the fields that events carry, and how many callers of their functions.
    pub fn showing(mut self, fields: Vec<String>, stack: u32) -> Self {
        (self.shown, self.stack) = (fields, stack);
        self
    }

    /// The paths of the fields that events carry.
    pub fn shown(&self) -> &[String] {
        &self.shown
    }

    /// The functions that an event's own was called by, innermost first, as many as were asked for: addresses, and names
    /// where they are known.
    pub fn callers(&self, event: &Event) -> Vec<(u64, Option<String>)> {
        let own = self.point(event.point).map(|point| &*point.name);
        let named = event
            .stack
            .iter()
            .map(|&address| (address, self.function(address)));
        let mut callers: Vec<_> = named.collect();
        // What runs probes and tracepoints is on the stack, too.
        let machinery = |name: &str| {
            [
                "bpf_",
                "__bpf_",
                "__traceiter_",
                "fprobe_",
                "ftrace_",
                "kprobe_",
                "__ftrace_",
                "arch_ftrace_",
            ]
            .iter()
            .any(|prefix| name.starts_with(prefix))
                || Some(name) == own
        };
        let begin = callers
            .iter()
            .position(|(_, name)| name.as_deref().is_some_and(|name| !machinery(name)))
            .unwrap_or(callers.len());
        callers.drain(..begin);
        callers.truncate(self.stack as usize);
        callers
    }

    /// What is known about a chain's rules. Escaped.
    pub fn answer(&self, question: &Question) -> Option<String> {
        (self.answers)(question).map(|text| escape(text.as_bytes()))
    }

    /// The attach point, if the number is of this run.
    pub fn point(&self, id: PointId) -> Option<&Point> {
        self.points.get(id.0 as usize)
    }

    /// The layer that an attach point is in.
    pub fn layer(&self, id: PointId) -> Layer {
        self.layers.layer(id.0)
    }

    /// What is known about an attach point.
    pub fn about(&self, id: PointId) -> Option<&'static Entry> {
        self.point(id).and_then(|point| knowledge().of(point))
    }

    /// Where a journey's time went.
    pub fn shares(&self, journey: &Journey) -> Vec<Share> {
        self.layers.shares(journey)
    }

    /// What it means when a journey ends in the function at `location`, else at `point`: with that function's name.
    pub fn end(&self, location: u64, point: PointId) -> Option<(String, &'static str)> {
        let by_name = |name: String| {
            let end = knowledge().get(&name)?.end?;
            Some((name, end))
        };
        self.function(location)
            .and_then(by_name)
            .or_else(|| Some((self.label(point), self.about(point)?.end?)))
    }

    /// Whether events from there are shown.
    pub fn shows(&self, id: PointId) -> bool {
        self.point(id).is_none_or(|point| !point.quiet)
    }

    /// The attach point as people read it: `ip_rcv`, `tp:kfree_skb`, `nft_do_chain [nf_tables]`.
    pub fn label(&self, id: PointId) -> String {
        let Some(point) = self.point(id) else {
            return "(unknown)".to_owned();
        };
        let mut label = String::new();
        if point.kind == PointKind::Tracepoint {
            label.push_str("tp:");
        }
        label.push_str(&escape(point.name.as_bytes()));
        if !point.module.is_empty() {
            label.push_str(&format!(" [{}]", escape(point.module.as_bytes())));
        }
        label
    }

    /// The drop reason's name.
    pub fn reason(&self, reason: u32) -> String {
        self.reasons.name(reason)
    }

    /// The function that a code address is in, without the suffixes that compilers give to its parts.
    pub fn function(&self, address: u64) -> Option<String> {
        if address == 0 {
            return None;
        }
        let name = (self.symbols)(address)?;
        let base = name
            .split('.')
            .next()
            .filter(|base| !base.is_empty())
            .unwrap_or(&name);
        Some(escape(base.as_bytes()))
    }
}

/// Names of drop reasons, from the running kernel's BTF.
#[derive(Clone, Debug, Default)]
pub struct Reasons {
    names: HashMap<u32, String>,
    subsystems: HashMap<u32, String>,
}

impl Reasons {
    /// From the enumerators of `enum skb_drop_reason`; none for kernels before 5.17. Subsystems' own reasons carry the
    /// subsystem's number in their upper half (6.4+).
    pub fn new(enumerators: impl IntoIterator<Item = (u32, String)>) -> Self {
        Reasons {
            names: stripped(enumerators, "SKB_DROP_REASON_"),
            subsystems: HashMap::new(),
        }
    }

    /// Adds the enumerators of `enum skb_drop_reason_subsys` (6.4+), the upper half of a subsystem's reasons.
    pub fn with_subsystems(mut self, enumerators: impl IntoIterator<Item = (u32, String)>) -> Self {
        self.subsystems = stripped(enumerators, "SKB_DROP_REASON_SUBSYS_");
        self
    }

    /// Numbers and names of all that have one, in the order of the numbers.
    pub fn all(&self) -> Vec<(u32, &str)> {
        let mut all: Vec<(u32, &str)> = self
            .names
            .iter()
            .map(|(number, name)| (*number, &**name))
            .collect();
        all.sort_unstable();
        all
    }

    /// `NETFILTER_DROP`; `subsystem 2 reason 5` or `reason 77` where the name isn't known.
    pub fn name(&self, reason: u32) -> String {
        if let Some(name) = self.names.get(&reason) {
            return escape(name.as_bytes());
        }
        let (subsystem, low) = (reason >> 16, reason & 0xffff);
        match (subsystem, self.subsystems.get(&subsystem)) {
            (0, _) => format!("reason {reason}"),
            (_, Some(name)) => format!("{} reason {low}", escape(name.as_bytes())),
            (_, None) => format!("subsystem {subsystem} reason {low}"),
        }
    }
}

fn stripped(enumerators: impl IntoIterator<Item = (u32, String)>, prefix: &str) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for (number, name) in enumerators {
        let name = name.strip_prefix(prefix).unwrap_or(&name).to_owned();
        names.entry(number).or_insert(name);
    }
    names
}

/// An EtherType's name, if it is a common one.
pub fn ethertype(number: u16) -> Option<&'static str> {
    Some(match number {
        0x0800 => "ipv4",
        0x0806 => "arp",
        0x86dd => "ipv6",
        0x8100 => "vlan",
        0x88a8 => "qinq",
        0x8847 | 0x8848 => "mpls",
        0x8864 => "pppoe",
        0x888e => "eapol",
        0x88cc => "lldp",
        0x88e5 => "macsec",
        0x88f7 => "ptp",
        // skb->protocol of frames without an EtherType (ETH_P_802_2).
        0x0004 => "llc",
        _ => return None,
    })
}

/// The EtherType as people read it: `arp`, `ethertype 0x1234`.
pub fn ethertype_label(number: u16) -> String {
    ethertype(number).map_or_else(|| format!("ethertype 0x{number:04x}"), str::to_owned)
}

/// `enum ip_conntrack_info` as people read it.
pub fn conntrack(info: u8) -> String {
    match info {
        0 => "established",
        1 => "related",
        2 => "new",
        3 => "established, reply",
        4 => "related, reply",
        7 => "untracked",
        other => return format!("state {other}"),
    }
    .to_owned()
}

/// An IP protocol's name, if it is a common one.
pub fn protocol(number: u8) -> Option<&'static str> {
    Some(match number {
        1 => "icmp",
        2 => "igmp",
        4 => "ipip",
        6 => "tcp",
        17 => "udp",
        41 => "ip6",
        47 => "gre",
        50 => "esp",
        51 => "ah",
        58 => "icmp6",
        89 => "ospf",
        103 => "pim",
        112 => "vrrp",
        132 => "sctp",
        136 => "udplite",
        _ => return None,
    })
}

/// The protocol as people read it: `udp`, `protocol 99`.
pub fn protocol_label(number: u8) -> String {
    protocol(number).map_or_else(|| format!("protocol {number}"), str::to_owned)
}

/// An ICMP type's name, if it is a common one.
pub fn icmp(tuple: &Tuple) -> Option<&'static str> {
    let (kind, _) = tuple.ports.filter(|_| tuple.is_icmp())?;
    Some(match (tuple.protocol, kind) {
        (1, 0) | (58, 129) => "echo reply",
        (1, 8) | (58, 128) => "echo request",
        (1, 3) | (58, 1) => "unreachable",
        (1, 5) | (58, 137) => "redirect",
        (1, 11) | (58, 3) => "time exceeded",
        (58, 2) => "packet too big",
        (58, 133) => "router solicitation",
        (58, 134) => "router advertisement",
        (58, 135) => "neighbour solicitation",
        (58, 136) => "neighbour advertisement",
        _ => return None,
    })
}

/// An address with its port: `8.8.8.8:53`, `[2001:db8::1]:53`, `8.8.8.8`.
pub fn endpoint(address: IpAddr, port: Option<u16>) -> String {
    match (address, port) {
        (_, None) => address.to_string(),
        (IpAddr::V4(address), Some(port)) => format!("{address}:{port}"),
        (IpAddr::V6(address), Some(port)) => format!("[{address}]:{port}"),
    }
}

/// Source and destination of a tuple, with their ports if they have any.
pub fn endpoints(tuple: &Tuple) -> (String, String) {
    let ports = tuple.ports.filter(|_| !tuple.is_icmp());
    (
        endpoint(tuple.src, ports.map(|p| p.0)),
        endpoint(tuple.dst, ports.map(|p| p.1)),
    )
}

/// A tuple as people read it: `udp 10.0.0.2:41234 -> 8.8.8.8:53`, `icmp 10.0.0.2 -> 8.8.8.8 echo request`.
pub fn tuple(tuple: &Tuple) -> String {
    let (src, dst) = endpoints(tuple);
    let mut text = format!("{} {src} -> {dst}", protocol_label(tuple.protocol));
    match (icmp(tuple), tuple.ports) {
        (Some(name), Some((_, 0))) => text.push_str(&format!(" {name}")),
        (Some(name), Some((_, code))) => text.push_str(&format!(" {name}, code {code}")),
        (None, Some((kind, code))) if tuple.is_icmp() => {
            text.push_str(&format!(" type {kind} code {code}"));
        }
        _ => {}
    }
    text
}
