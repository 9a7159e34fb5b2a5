//! What the tracer's programs report, decoded: one [`Event`] each time a followed packet passes an attach point.
//!
//! Deliberately absent: how events are laid out in the ring (the program's and its decoder's business) and what
//! they add up to (journeys).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::extras::Value;

/// A place that events come from, as an index of the run's [`Point`] table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PointId(pub u32);

/// An attach point's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PointKind {
    /// A kernel function's entry.
    Function,
    /// A BTF tracepoint.
    Tracepoint,
}

/// An attach point: a function or a tracepoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// The function's or the tracepoint's name.
    pub name: String,
    /// The module it is in; empty for the kernel itself.
    pub module: String,
    /// What it is.
    pub kind: PointKind,
    /// Attached only to follow packets' lives: nobody asked to see it. Not shown, and no journey begins here.
    pub quiet: bool,
}

/// One packet seen at one attach point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, in nanoseconds of CLOCK_MONOTONIC, taken in the probe.
    pub time: u64,
    /// Which journey: unique within a run. Clones and copies of a packet share it.
    pub journey: u64,
    /// The skb's address.
    pub skb: u64,
    /// Where.
    pub point: PointId,
    /// On which CPU.
    pub cpu: u32,
    /// Process id (thread group) that was on the CPU; 0 when idle.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Its command name: any bytes but NUL, up to 15. Escape before printing.
    pub comm: Vec<u8>,
    /// The packet as it was there; `None` where it is gone already (freed, or in its driver's hands).
    pub packet: Option<Packet>,
    /// What the attach point means for the packet's life.
    pub sign: Sign,
    /// The Netfilter hook that the attach point belongs to, where it says so.
    pub hook: Option<Hook>,
    /// The rule of nftables that gave a verdict there.
    pub rule: Option<Rule>,
    /// The fields that were asked for, in the run's order; none where one could not be read.
    pub shown: Vec<Option<Value>>,
    /// Return addresses, innermost first, if they were asked for.
    pub stack: Vec<u64>,
}

/// A Netfilter hook, and what is registered there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hook {
    /// Protocol family, `NFPROTO_*`.
    pub family: u8,
    /// Hook number within the family, such as `NF_INET_LOCAL_OUT`.
    pub number: u8,
    /// The table whose chain runs; empty where it isn't known. Escape before printing.
    pub table: Vec<u8>,
    /// The nftables base chain that runs; empty for others. Escape before printing.
    pub chain: Vec<u8>,
}

/// A rule of nftables (iptables-nft makes such, too) and its verdict.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rule {
    /// The table's family, `NFPROTO_*`.
    pub family: u8,
    /// The table; empty where the kernel does not tell (before 6.4). Escape before printing.
    pub table: Vec<u8>,
    /// The chain that the rule is in, which needn't be the hook's. Escape before printing.
    pub chain: Vec<u8>,
    /// Its number in that table, as `nft -a` prints it; 0 if not known.
    pub handle: u64,
    /// `NF_*` or `NFT_*`.
    pub verdict: i32,
}

/// The packet's state at an event.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Packet {
    /// Network layer, if the headers could be read.
    pub tuple: Option<Tuple>,
    /// `skb->protocol`, an EtherType in host byte order; 0 while it isn't set.
    pub ethertype: u16,
    /// `skb->len` in bytes.
    pub len: u32,
    /// `skb->mark`.
    pub mark: u32,
    /// Index of `skb->dev`; 0 without a device.
    pub ifindex: u32,
    /// Name of `skb->dev`: any bytes but NUL, up to 15; empty without a device. Escape before printing.
    pub ifname: Vec<u8>,
    /// Inode of the network namespace (of the device, else of the socket); 0 where neither is set.
    pub netns: u32,
    /// What connection tracking makes of it, `enum ip_conntrack_info`; none while it hasn't seen it.
    pub conntrack: Option<u8>,
    /// Where the data begins, in bytes from the start of the packet's buffer: pushing a header makes it less.
    pub headroom: u32,
    /// Where the network header is, in bytes from the start of the packet's buffer; 0 without one.
    pub network_header: u16,
    /// Bytes from the network header on, as many as were reported; empty where there is none.
    pub headers: Vec<u8>,
}

/// Addresses and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tuple {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Source and destination port of TCP, UDP and SCTP; for ICMP its type and code; none for others and for
    /// later fragments.
    pub ports: Option<(u16, u16)>,
}

impl Tuple {
    /// Whether the ports are an ICMP type and code.
    pub fn is_icmp(&self) -> bool {
        matches!(self.protocol, 1 | 58)
    }
}

/// What an event says about the packet's life, beside having been there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sign {
    /// Nothing more.
    Passed,
    /// Its data was copied to a process (`skb_copy_datagram_iovec` and its like).
    Copied,
    /// It was handed to a device's driver, which answered with this code (0: taken).
    Transmitted {
        /// `netdev_tx_t`.
        code: i32,
    },
    /// This skb now shares or copies the data of `from`, which is followed.
    Cloned {
        /// The other skb.
        from: u64,
    },
    /// Freed as dropped, with `enum skb_drop_reason`, where the kernel has one (5.17+), and the address of the code
    /// that dropped it.
    Dropped {
        /// The reason's number, if the kernel gives one.
        reason: Option<u32>,
        /// Code address; 0 if not known.
        location: u64,
    },
    /// Freed as consumed: done with, not dropped.
    Consumed {
        /// The code that was done with it had given its data to a process; kernels before 6.3 don't tell.
        read: bool,
    },
    /// Its memory went back; nothing follows for this skb in this journey.
    Freed,
    /// The packet isn't here: a function that takes none ran on its behalf. The event's time is the function's entry.
    Ran {
        /// The function of the packet's beneath which it ran: the last that the packet passed on that stack, or, if that
        /// has returned, the outermost.
        under: PointId,
        /// What it returned.
        returned: Returned,
        /// How long it took, in nanoseconds.
        took: u64,
    },
}

impl Sign {
    /// It is about a function that ran on the packet's behalf, not about the packet.
    pub fn is_beneath(self) -> bool {
        matches!(self, Sign::Ran { .. })
    }
}

/// What a function returned, as far as its type is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Returned {
    /// Nothing: `void`, or more than a register holds.
    Nothing,
    /// `bool`.
    Truth(bool),
    /// A number that may be negative.
    Signed(i64),
    /// One that can't.
    Unsigned(u64),
    /// An address, or what has no known type.
    Address(u64),
}
