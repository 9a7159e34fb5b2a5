//! What the program around a filter tells it about the packet.

use crate::ir::{Block, Builder, Reg};

/// A value that a filter may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// `Type::Packet`, opened at the network header.
    L3,
    /// `Int`: bytes from the network header to the end of the data that can be loaded; 0 or less if there are none.
    L3Len,
    /// `Int`: the EtherType of what is at the network header, in host byte order.
    EtherType,
    /// `Type::Packet`, opened at the link-layer (Ethernet) header.
    L2,
    /// `Int`: bytes from the link-layer header to the end of the data that can be loaded.
    L2Len,
    /// `Int`: the VLAN tag that is not in the packet's bytes (offloaded): `0x10000 | TCI`, or 0 without a tag.
    VlanTag,
    /// `Int`: length of the whole frame in bytes, link-layer header included: what `len` means.
    PacketLen,
    /// `Int`: index of the interface the packet is on; 0 for none.
    IfIndex,
    /// `Int`: `PACKET_HOST` (0) and its like of `linux/if_packet.h`; `PACKET_OUTGOING` is 4.
    PacketType,
    /// `Type::Kernel`: the `struct sk_buff`.
    Skb,
    /// `Int`: inode of the packet's network namespace; 0 where that isn't known.
    Netns,
    /// `Int`: the current process, by the number that people know it by (`tgid`).
    Pid,
    /// `Int`: four bytes of the current thread's name, as in memory.
    Comm {
        /// Which four: 0 to 3.
        word: u8,
    },
    /// `Int`: 32 bits of the id of the current process's cgroup (version 2).
    Cgroup {
        /// The upper half.
        high: bool,
    },
}

/// Bytes of a thread's name, its terminating zero among them (`TASK_COMM_LEN`).
pub const COMM_LEN: usize = 16;

/// The program around a filter.
///
/// The filter asks for a field where it first needs it on a way through the program and keeps the register, so a view
/// may compute lazily, and may be asked for the same field again on a way that bypassed the first answer. A packet is
/// asked for only where its length has been asked for before.
pub trait View {
    /// Append to `b`'s current block what computes `field`. Go to `absent` where this packet has no such thing (no
    /// link-layer header yet, say), and leave `b` in the block that goes on with the value. `None`, without having
    /// appended anything: no packet of this program ever has it.
    fn field(&mut self, b: &mut Builder, field: Field, absent: Block) -> Option<Reg>;

    /// Whether bytes may be loaded behind the packet's end, and whatever that gives: then a filter looks at the length
    /// when it would match.
    fn reads_beyond(&self) -> bool {
        false
    }
}

/// A view whose values have all been computed ahead. `None`: packets of this program don't have it.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)] // each is the field of that name in `Field`
pub struct Regs {
    pub l3: Option<Reg>,
    pub l3_len: Option<Reg>,
    pub ethertype: Option<Reg>,
    pub l2: Option<Reg>,
    pub l2_len: Option<Reg>,
    pub vlan_tag: Option<Reg>,
    pub packet_len: Option<Reg>,
    pub if_index: Option<Reg>,
    pub packet_type: Option<Reg>,
    pub skb: Option<Reg>,
}

impl View for Regs {
    fn field(&mut self, _: &mut Builder, field: Field, _: Block) -> Option<Reg> {
        match field {
            Field::L3 => self.l3,
            Field::L3Len => self.l3_len,
            Field::EtherType => self.ethertype,
            Field::L2 => self.l2,
            Field::L2Len => self.l2_len,
            Field::VlanTag => self.vlan_tag,
            Field::PacketLen => self.packet_len,
            Field::IfIndex => self.if_index,
            Field::PacketType => self.packet_type,
            Field::Skb => self.skb,
            Field::Netns | Field::Pid | Field::Comm { .. } | Field::Cgroup { .. } => None,
        }
    }
}
