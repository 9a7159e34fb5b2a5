//! The declarative `experiment { … }` block of a probe file: what it can say, and its parser.
//!
//! ```text
//! experiment {
//!     title "The cost of a bloated rule chain";
//!     topology {
//!         netns server;
//!         veth kt-host 10.99.0.1/24, kt-server 10.99.0.2/24 in server;
//!         qdisc kt-host "netem delay 1ms";
//!     }
//!     server iperf3 in server;
//!     workload iperf3 to 10.99.0.2 seconds 5;
//!     sample @ns "average time in nf_hook_slow";
//!     sweep rules 0..3000 step 100 "one rule an address" {
//!         each iptables-legacy "-p tcp -s {addr} --dport 443 -j DROP" from 198.18.0.0/15;
//!     }
//!     control "one rule for the whole prefix" { once iptables-legacy "-s 198.18.0.0/15 -j DROP"; }
//!     control "an nft set" { set nft "ip saddr {set} drop" from 198.18.0.0/15; }
//!     repeat 3;
//! }
//! ```
//! In place of the sweep, `timeline 300 s inject 6000 rules 60..180 window 10 "…" { … }` adds the rules during one
//! run of the workload.
//!
//! Everything is checked here, before anything is touched. Deliberately absent: doing any of it.

mod parse;

use std::net::Ipv4Addr;

pub use parse::parse;

/// A whole block.
#[derive(Clone, Debug, PartialEq)]
pub struct Experiment {
    /// Above the figure.
    pub title: String,
    /// What to build.
    pub topology: Topology,
    /// The server to start, if any.
    pub server: Option<Server>,
    /// The traffic.
    pub workload: Workload,
    /// The map whose average is the latency.
    pub sample: Option<Sample>,
    /// When rules come.
    pub plan: Plan,
    /// Which rules the plan adds.
    pub main: Series,
    /// Other ways of saying the same.
    pub controls: Vec<Series>,
    /// How often each step is measured.
    pub repeat: u32,
}

/// Namespaces, links and queueing disciplines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// Network namespaces; they are created with `ktrail-` in front of the name.
    pub namespaces: Vec<String>,
    /// Pairs of devices.
    pub veths: Vec<[End; 2]>,
    /// Queueing disciplines: a device, and what `tc qdisc add dev DEVICE root` is told.
    pub qdiscs: Vec<(String, String)>,
}

/// One device of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Its name.
    pub device: String,
    /// Its address and prefix length.
    pub address: (Ipv4Addr, u8),
    /// The namespace that it is in; the host's own if none.
    pub namespace: Option<String>,
}

/// An iperf3 server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where it runs.
    pub namespace: Option<String>,
    /// TCP port.
    pub port: u16,
}

/// An iperf3 client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Host name or address of the server.
    pub to: String,
    /// Its TCP port.
    pub port: u16,
    /// How long one measurement takes. A timeline says itself how long it is.
    pub seconds: u32,
    /// Where it runs, and where the rules are.
    pub namespace: Option<String>,
}

/// A map to read at the end of each step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Its name, with the @. It must hold the `stats()` of nanoseconds, without keys.
    pub map: String,
    /// What it is the time of.
    pub label: String,
}

/// When rules come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// A measurement at each number of rules.
    Sweep {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
        /// From one to the next.
        step: u64,
    },
    /// One measurement during which rules are added.
    Timeline {
        /// Its length, in seconds.
        seconds: u32,
        /// How many rules are added.
        rules: u64,
        /// The second at which the first is added, and that at which the last is.
        inject: (u32, u32),
        /// Seconds between readings of the latency.
        window: u32,
    },
}

impl Plan {
    /// The numbers of rules at which to measure; only the last for a timeline.
    pub fn steps(&self) -> Vec<u64> {
        match *self {
            Plan::Sweep { from, to, step } => {
                let mut steps: Vec<u64> = (from..=to).step_by(step as usize).collect();
                if steps.last() != Some(&to) {
                    steps.push(to);
                }
                steps
            }
            Plan::Timeline { rules, .. } => vec![rules],
        }
    }

    /// Those of them at which controls are measured: at most five, evenly apart, with the first and the last.
    pub fn control_steps(&self) -> Vec<u64> {
        let steps = self.steps();
        let last = steps.len() - 1;
        let parts = last.min(4);
        if parts == 0 {
            return steps;
        }
        (0..=parts).map(|i| steps[i * last / parts]).collect()
    }
}

/// One way of writing the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// For the legend.
    pub name: String,
    /// Added in this order.
    pub rules: Vec<Rule>,
}

/// Rules of one form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// How many there are.
    pub count: Count,
    /// What adds them.
    pub tool: Tool,
    /// What the tool is told: iptables' options without the chain, or an nft rule.
    pub text: String,
    /// Where `{addr}` and the set's elements come from.
    pub from: Option<Prefix>,
}

/// How many rules a form stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// One, whatever the step.
    Once,
    /// As many as the step says.
    Each,
    /// One, with a set of as many addresses as the step says.
    Set,
}

/// A program that adds rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// iptables' old form, x_tables in the kernel.
    IptablesLegacy,
    /// iptables' new form, nf_tables in the kernel.
    IptablesNft,
    /// nftables.
    Nft,
}

impl Tool {
    /// All, as the block and the file system call them.
    pub const ALL: [(&'static str, Tool); 3] = [
        ("iptables-legacy", Tool::IptablesLegacy),
        ("iptables-nft", Tool::IptablesNft),
        ("nft", Tool::Nft),
    ];

    /// The program's name.
    pub fn name(self) -> &'static str {
        Tool::ALL
            .iter()
            .find(|(_, tool)| *tool == self)
            .map_or("", |(name, _)| name)
    }
}

/// An IPv4 prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Its first address.
    pub base: Ipv4Addr,
    /// Its length.
    pub len: u8,
}

impl Prefix {
    /// How many addresses it has.
    pub fn size(self) -> u64 {
        1 << (32 - self.len)
    }

    /// The address at this place, from 0; modulo the size.
    pub fn nth(self, n: u64) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.base) + (n % self.size()) as u32)
    }

    /// Whether the address is inside.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        (u64::from(u32::from(address)) ^ u64::from(u32::from(self.base))) >> (32 - self.len) == 0
    }
}
