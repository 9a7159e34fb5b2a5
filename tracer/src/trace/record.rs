//! A report's layout in the ring: what the program writes and the decoder reads.
//!
//! Native byte order throughout, except the packet's own bytes.

use ktrail_ebpf::ir::Size;

/// Bytes of a report.
pub const SIZE: u32 = 200;

/// Bytes that follow in the report of a point that knows its Netfilter hook.
pub const HOOK_SIZE: u32 = 72;

/// Where the packet's state starts: all that is zero in a report without [`Record::HasState`].
pub const STATE: u32 = 88;

/// The point's number where the program does not know it.
pub const NO_POINT: u32 = u32::MAX;

/// Offset and size of the command name, NUL-terminated.
pub const COMM: (u32, u32) = (72, 16);

/// Offset and size of the device's name, NUL-terminated.
pub const IFNAME: (u32, u32) = (112, 16);

/// Offset and size of the bytes from the network header on.
pub const HEADERS: (u32, u32) = (128, 64);

/// Offset of the hook's family, `nf_hook_state.pf`, in one byte.
pub const HOOK_FAMILY: u32 = SIZE;

/// Offset of the hook's number, `nf_hook_state.hook`, in one byte.
pub const HOOK_NUMBER: u32 = SIZE + 1;

/// Offset and size of the table's name, NUL-terminated; empty if not known.
pub const HOOK_TABLE: (u32, u32) = (SIZE + 8, 32);

/// Offset and size of the chain's name, NUL-terminated; empty if not known.
pub const HOOK_CHAIN: (u32, u32) = (SIZE + 40, 32);

/// Bytes that follow in the report of a point where one of nftables' rules decides.
pub const RULE_SIZE: u32 = 80;

/// Offset of the family of the rule's table, in one byte.
pub const RULE_FAMILY: u32 = SIZE;

/// Offset of the verdict, in four bytes.
pub const RULE_VERDICT: u32 = SIZE + 4;

/// Offset of the rule's handle, in eight bytes; 0 if not known.
pub const RULE_HANDLE: u32 = SIZE + 8;

/// Offset and size of the table's name, NUL-terminated; empty if not known.
pub const RULE_TABLE: (u32, u32) = (SIZE + 16, 32);

/// Offset and size of the chain's name, NUL-terminated; empty if not known.
pub const RULE_CHAIN: (u32, u32) = (SIZE + 48, 32);

/// Bytes of the report of a call beneath a packet's function: what is before the packet's state. [`Record::Ip`] is the
/// function's point or address then.
pub const BENEATH_SIZE: u32 = STATE;

/// In [`Record::Conntrack`]: connection tracking has not seen the packet.
pub const NO_CONNTRACK: u64 = 0xff;

/// The fields that hold one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// CLOCK_MONOTONIC, nanoseconds.
    Time,
    /// The journey.
    Journey,
    /// The skb's address.
    Skb,
    /// Process id in the upper half, thread id in the lower.
    PidTgid,
    /// Address of the probed instruction, or 0.
    Ip,
    /// First value of the sign.
    Extra0,
    /// Second value of the sign.
    Extra1,
    /// The point's number, or [`NO_POINT`].
    Point,
    /// CPU.
    Cpu,
    /// A [`SignCode`].
    Sign,
    /// 1 if the packet's state was read.
    HasState,
    /// `skb->len`.
    Len,
    /// `skb->mark`.
    Mark,
    /// `skb->dev->ifindex`.
    Ifindex,
    /// Inode of the network namespace.
    Netns,
    /// Bytes from the network header to the end of the linear data; more than [`HEADERS`] holds, possibly.
    HeaderLen,
    /// `skb->protocol`, network byte order.
    Protocol,
    /// From `skb->head` to what [`HEADERS`] holds.
    Network,
    /// `skb->data - skb->head`.
    Data,
    /// The lower bits of `skb->_nfct`, `enum ip_conntrack_info`; or [`NO_CONNTRACK`].
    Conntrack,
}

impl Record {
    const fn place(self) -> (i32, Size) {
        match self {
            Record::Time => (0, Size::B8),
            Record::Journey => (8, Size::B8),
            Record::Skb => (16, Size::B8),
            Record::PidTgid => (24, Size::B8),
            Record::Ip => (32, Size::B8),
            Record::Extra0 => (40, Size::B8),
            Record::Extra1 => (48, Size::B8),
            Record::Point => (56, Size::B4),
            Record::Cpu => (60, Size::B4),
            Record::Sign => (64, Size::B4),
            Record::HasState => (68, Size::B4),
            // 72: COMM
            Record::Len => (88, Size::B4),
            Record::Mark => (92, Size::B4),
            Record::Ifindex => (96, Size::B4),
            Record::Netns => (100, Size::B4),
            Record::HeaderLen => (104, Size::B4),
            Record::Protocol => (108, Size::B2),
            Record::Network => (110, Size::B2),
            // 112: IFNAME, 128: HEADERS
            Record::Conntrack => (192, Size::B4),
            Record::Data => (196, Size::B4),
        }
    }

    /// In bytes from the report's start.
    pub const fn offset(self) -> i32 {
        self.place().0
    }

    /// How wide it is.
    pub const fn size(self) -> Size {
        self.place().1
    }
}

/// What a report says beside having been there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SignCode {
    /// Nothing more.
    Passed = 0,
    /// Data copied to a process.
    Copied = 1,
    /// The driver's answer is in the first value.
    Transmitted = 2,
    /// The original's address is in the first value.
    Cloned = 3,
    /// Dropped; code address in the first value.
    Dropped = 4,
    /// Dropped; code address in the first value, reason in the second.
    DroppedFor = 5,
    /// Consumed.
    Consumed = 6,
    /// Freed.
    Freed = 7,
    /// A call beneath a function of the packet's: what it returned in the first value, nanoseconds in the second.
    Ran = 8,
}

impl From<SignCode> for i64 {
    fn from(code: SignCode) -> i64 {
        code as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields must tile the report: an overlap corrupts, a gap leaks what the ring held before.
    #[test]
    fn fields_tile_the_report() {
        use Record::*;
        let fields = [
            Time, Journey, Skb, PidTgid, Ip, Extra0, Extra1, Point, Cpu, Sign, HasState, Len, Mark, Ifindex,
            Netns, HeaderLen, Protocol, Network, Conntrack, Data,
        ];
        let mut ranges: Vec<(u32, u32)> = fields
            .iter()
            .map(|f| (f.offset() as u32, f.size().bytes()))
            .chain([COMM, IFNAME, HEADERS])
            .collect();
        ranges.sort();
        let mut at = 0;
        for (start, len) in ranges {
            assert_eq!(start, at, "gap or overlap");
            at = start + len;
        }
        assert_eq!(at, SIZE);
        assert_eq!(STATE, Len.offset() as u32);
    }
}
