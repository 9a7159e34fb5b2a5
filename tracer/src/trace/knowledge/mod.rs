//! What ktrail knows about kernel functions: each one's layer, what it does for a packet, and what it means when a
//! journey ends there.
//!
//! The knowledge is text beside this file: `functions.txt` says what functions do, `kernels.txt` where each name was
//! seen, `ways.txt` in which order packets usually meet them, `reasons.txt` what the kernel's drop reasons mean. A function that isn't listed gets its layer from its
//! module or from the beginning of its name. BTF does not say which source file a function is in.
//!
//! Deliberately absent: what the functions mean for following packets ([`super::roles`]).

use std::collections::HashMap;
use std::sync::OnceLock;

use super::event::{Point, PointKind};

#[cfg(test)]
mod tests;

const FUNCTIONS: &str = include_str!("functions.txt");
const KERNELS: &str = include_str!("kernels.txt");
const REASONS: &str = include_str!("reasons.txt");
const WAYS: &str = include_str!("ways.txt");

/// A layer of the network stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Layer(u8);

/// The layers, from a process down to the wire: name, and what it is.
const LAYERS: &[(&str, &str)] = &[
    ("socket", "sockets: between processes and protocols"),
    (
        "netlink",
        "netlink: messages between kernel and processes, not packets",
    ),
    ("security", "security modules"),
    ("udp", "UDP"),
    ("tcp", "TCP"),
    (
        "icmp",
        "ICMP, and what is carried by it: ping, neighbour discovery, multicast groups",
    ),
    ("raw", "raw sockets"),
    ("sctp", "SCTP"),
    ("ip", "IPv4 and IPv6"),
    ("routing", "routing tables and rules"),
    (
        "netfilter",
        "Netfilter: nftables, iptables, connection tracking, NAT",
    ),
    ("ipsec", "IPsec (xfrm)"),
    ("neighbour", "neighbours: ARP and link-layer addresses"),
    (
        "tunnel",
        "tunnels: IPIP, GRE, VXLAN, Geneve, WireGuard, MPLS, PPP",
    ),
    ("bridge", "bridges"),
    ("ovs", "Open vSwitch"),
    ("vlan", "VLAN devices and tags"),
    ("link", "stacked devices: bonds, teams, macvlan, ipvlan"),
    ("tap", "packet sockets: tcpdump and its like"),
    ("qdisc", "queueing disciplines"),
    ("tc", "traffic control: filters, actions, BPF programs"),
    ("device", "network devices, whatever their driver"),
    ("driver", "device drivers"),
    ("gro", "offloads: merging received packets, cutting large ones"),
    ("xdp", "XDP and AF_XDP"),
    ("skb", "packets' memory: helpers that every layer calls"),
    ("other", "not known to ktrail"),
];

impl Layer {
    /// What isn't known.
    pub const OTHER: Layer = Layer(LAYERS.len() as u8 - 1);

    /// Every layer, from a process down to the wire.
    pub fn all() -> impl Iterator<Item = Layer> {
        (0..LAYERS.len() as u8).map(Layer)
    }

    /// The layer of that name.
    pub fn by_name(name: &str) -> Option<Layer> {
        Self::all().find(|layer| layer.name() == name)
    }

    /// One word of at most nine letters.
    pub fn name(self) -> &'static str {
        LAYERS[usize::from(self.0)].0
    }

    /// What the layer is, in words.
    pub fn about(self) -> &'static str {
        LAYERS[usize::from(self.0)].1
    }

    /// Its position in [`Layer::all`].
    pub fn number(self) -> usize {
        self.0.into()
    }

    /// Helpers that every layer calls, and what isn't known, belong to the layer that the packet is in: passing them
    /// crosses no boundary.
    pub fn crosses(self) -> bool {
        !matches!(self.name(), "skb" | "other")
    }
}

/// What is known about a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its layer.
    pub layer: Layer,
    /// What it does, without a full stop.
    pub role: &'static str,
    /// What it means when a journey ends there, if that means something.
    pub end: Option<&'static str>,
}

/// Where a name was seen when the table was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The module it was in; none for the kernel itself.
    pub module: Option<&'static str>,
    /// Kernel versions, such as `6.12`.
    pub kernels: Vec<&'static str>,
}

/// All of it.
pub struct Knowledge {
    entries: HashMap<&'static str, Entry>,
    /// Beginnings of names, and of modules' names.
    beginnings: Vec<(&'static str, Layer)>,
    modules: Vec<(&'static str, Layer)>,
}

/// What is known, parsed once. A tracepoint's name has `tp:` before it.
pub fn knowledge() -> &'static Knowledge {
    static KNOWLEDGE: OnceLock<Knowledge> = OnceLock::new();
    KNOWLEDGE.get_or_init(|| {
        // A test parses it with every change.
        parse(FUNCTIONS).unwrap_or_else(|e| unreachable!("functions.txt: {e}"))
    })
}

impl Knowledge {
    /// What is known about a function by its name alone.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// What is known about an attach point. A module's function of the same name as the kernel's is another.
    pub fn of(&self, point: &Point) -> Option<&Entry> {
        match point.kind {
            PointKind::Function => self.get(&point.name),
            PointKind::Tracepoint => self.get(&format!("tp:{}", point.name)),
        }
    }

    /// The layer of a function in a module (empty for the kernel itself).
    pub fn layer(&self, name: &str, module: &str) -> Layer {
        if let Some(entry) = self.get(name) {
            return entry.layer;
        }
        let longest = |rules: &[(&str, Layer)], text: &str| {
            let fitting = rules.iter().filter(|(beginning, _)| text.starts_with(beginning));
            fitting
                .max_by_key(|(beginning, _)| beginning.len())
                .map(|rule| rule.1)
        };
        let by_module = Some(module)
            .filter(|m| !m.is_empty())
            .and_then(|m| longest(&self.modules, m));
        by_module
            .or_else(|| longest(&self.beginnings, name))
            .unwrap_or(Layer::OTHER)
    }

    /// The layer of an attach point.
    pub fn layer_of(&self, point: &Point) -> Layer {
        match point.kind {
            PointKind::Function => self.layer(&point.name, &point.module),
            PointKind::Tracepoint => self.layer(&format!("tp:{}", point.name), &point.module),
        }
    }

    /// Every name.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.entries.keys().copied()
    }
}

/// Where a name was seen when the table was made.
pub fn seen(name: &str) -> Option<Seen> {
    KERNELS
        .lines()
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| {
            let mut fields = line.split(' ');
            (fields.next() == Some(name)).then(|| Seen {
                module: fields.next().filter(|&module| module != "-"),
                kernels: fields.collect(),
            })
        })
}

/// A drop reason in words, by its name without prefix, with the command that shows what decided.
pub fn reason(name: &str) -> Option<&'static str> {
    let lines = REASONS.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once(": "))
        .find(|(known, _)| *known == name)
        .map(|(_, words)| words)
}

/// The same for a drop in a function: some reasons mean something else there.
pub fn reason_in(name: &str, function: Option<&str>) -> Option<&'static str> {
    function
        .and_then(|function| reason(&format!("{name} in {function}")))
        .or_else(|| reason(name))
}

/// The words of a sentence that stand for something of the packet: the device that it was last seen on, its addresses, its
/// destination port.
const PLACEHOLDERS: &[&str] = &["DEV", "SRC", "DST", "PORT"];

/// Puts facts about a packet into a sentence about reasons or ends. What is in brackets is left out if it has a
/// placeholder for which there is no fact; elsewhere such a placeholder stays.
pub fn fill(text: &str, fact: impl Fn(&str) -> Option<String>) -> String {
    let mut filled = String::with_capacity(text.len());
    for (number, part) in text.split(['[', ']']).enumerate() {
        let (mut words, mut whole) = (String::new(), true);
        let mut rest = part;
        while let Some(at) = rest.find(|c: char| c.is_ascii_alphanumeric()) {
            let len = rest[at..]
                .find(|c: char| !c.is_ascii_alphanumeric())
                .unwrap_or(rest.len() - at);
            let (before, word) = (&rest[..at], &rest[at..at + len]);
            rest = &rest[at + len..];
            words.push_str(before);
            let known = Some(word).filter(|word| PLACEHOLDERS.contains(word));
            match known.map(&fact) {
                Some(Some(fact)) => words.push_str(&fact),
                Some(None) => {
                    whole = false;
                    words.push_str(word);
                }
                None => words.push_str(word),
            }
        }
        words.push_str(rest);
        // Parts with odd numbers are those in brackets.
        if whole || number % 2 == 0 {
            filled.push_str(&words);
        }
    }
    filled
}

/// The sentence as it is said of no packet in particular.
pub fn in_general(text: &str) -> String {
    fill(text, |_| None)
}

/// What usually comes directly before and after a function on packets' ways, each name once.
pub fn neighbours(name: &str) -> (Vec<&'static str>, Vec<&'static str>) {
    let (mut before, mut after) = (vec![], vec![]);
    let add = |to: &mut Vec<&'static str>, name: Option<&&'static str>| {
        if let Some(name) = name
            && !to.contains(name)
        {
            to.push(name);
        }
    };
    for way in ways() {
        for at in (0..way.len()).filter(|&at| way[at] == name) {
            add(&mut before, at.checked_sub(1).and_then(|at| way.get(at)));
            add(&mut after, way.get(at + 1));
        }
    }
    (before, after)
}

fn ways() -> impl Iterator<Item = Vec<&'static str>> {
    WAYS.split("\n= ").skip(1).map(|way| {
        let names = way.split_once('\n').map_or("", |(_, names)| names);
        names.split_whitespace().collect()
    })
}

/// The names that look most like `name`, best first: those that are one slip away, or have it inside.
pub fn similar<'a>(name: &str, among: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let allowed = 1 + name.len() / 5;
    let mut near: Vec<(usize, &str)> = among
        .into_iter()
        .filter_map(|other| {
            let distance = distance(name, other);
            let inside = name.len() > 3 && other.contains(name);
            (distance <= allowed || inside).then_some((distance, other))
        })
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().map(|(_, name)| name).take(6).collect()
}

/// How many letters must be put in, left out or changed to get from one to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, &to) in b.iter().enumerate() {
            let changed = corner + usize::from(from != to);
            corner = row[j + 1];
            row[j + 1] = changed.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Parses `functions.txt`; an error names its line.
fn parse(text: &'static str) -> Result<Knowledge, String> {
    let mut known = Knowledge {
        entries: HashMap::new(),
        beginnings: vec![],
        modules: vec![],
    };
    let mut layer = None;
    let mut last: Vec<&'static str> = vec![];
    for (number, line) in (1..).zip(text.lines()) {
        let wrong = |what: &str| format!("line {number}: {what}");
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            layer = Some(Layer::by_name(name).ok_or_else(|| wrong("no such layer"))?);
            last.clear();
            continue;
        }
        let layer = layer.ok_or_else(|| wrong("before any layer"))?;
        if let Some(beginnings) = line.strip_prefix("* ") {
            known.beginnings.extend(beginnings.split(' ').map(|b| (b, layer)));
        } else if let Some(modules) = line.strip_prefix("@ ") {
            known.modules.extend(modules.split(' ').map(|m| (m, layer)));
        } else if let Some(end) = line.strip_prefix("  end: ") {
            if last.is_empty() {
                return Err(wrong("an end of nothing"));
            }
            for name in last.drain(..) {
                if let Some(entry) = known.entries.get_mut(name) {
                    entry.end = Some(end);
                }
            }
        } else {
            let (names, role) = line.split_once(": ").ok_or_else(|| wrong("no role"))?;
            last = names.split(' ').collect();
            for &name in &last {
                let entry = Entry {
                    layer,
                    role,
                    end: None,
                };
                if known.entries.insert(name, entry).is_some() {
                    return Err(wrong(&format!("{name} is there already")));
                }
            }
        }
    }
    Ok(known)
}
