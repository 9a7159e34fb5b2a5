//! Whole programs around a filter, for packets that are not an skb on its way through the kernel: frames of a capture
//! file in plain memory, and what `BPF_PROG_TEST_RUN` is given.
//!
//! Such a packet is one piece of bytes that starts with its link-layer header; the network header follows that, and
//! the EtherType is read from it. The program returns 1 if the filter matches, else 0.

use super::{Field, Filter, View, lower};
use crate::codegen::PacketAccess;
use crate::ir::{
    BinOp, Block, Builder, Cond, MapDecl, MapKind, MapRef, Op, Program, ProgramKind, Reg, Size, Type, Width,
};

/// What a packet starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Link {
    /// An Ethernet header (`LINKTYPE_ETHERNET`).
    Ethernet,
    /// The network header (`LINKTYPE_RAW`): its first four bits tell IPv4 from IPv6.
    Raw,
    /// What a capture on all interfaces has (`LINKTYPE_LINUX_SLL`): packet type at 0, EtherType at 14.
    LinuxSll,
    /// The same of later tools (`LINKTYPE_LINUX_SLL2`): EtherType at 0, interface index at 4, packet type at 10.
    LinuxSll2,
}

impl Link {
    /// The link type of a capture file, by its number in the registry of link types.
    pub fn from_number(number: u32) -> Option<Link> {
        match number {
            1 => Some(Link::Ethernet),
            12 | 14 | 101 | 228 | 229 => Some(Link::Raw),
            113 => Some(Link::LinuxSll),
            276 => Some(Link::LinuxSll2),
            _ => None,
        }
    }

    /// Length of what stands before the network header, in bytes.
    fn header(self) -> i64 {
        match self {
            Link::Ethernet => 14,
            Link::Raw => 0,
            Link::LinuxSll => 16,
            Link::LinuxSll2 => 20,
        }
    }
}

/// Where a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// In plain memory. The context is three 64-bit numbers: the packet's address, how many bytes of it are there, and
    /// how many it had. Generate with [`PacketAccess::Memory`].
    Memory,
    /// In the context, a `struct __sk_buff`. Generate with [`PacketAccess::SkbLoad`].
    Skb,
    /// In the value of the array map `packet`: how many bytes are there and how many the packet had, as 64-bit numbers,
    /// then the bytes, at most [`MAP_PACKET`]. Generate with [`PacketAccess::KernelRead`], as the tracer does. The
    /// program is a raw tracepoint's and ignores its arguments.
    Map,
}

/// How many bytes of a packet [`Source::Map`] has room for.
pub const MAP_PACKET: u32 = 2048;

impl Source {
    /// How code generation has to reach the packet.
    pub fn access(self) -> PacketAccess {
        match self {
            Source::Memory => PacketAccess::Memory,
            Source::Skb => PacketAccess::SkbLoad,
            Source::Map => PacketAccess::KernelRead,
        }
    }
}

/// A program that applies `filter` to a packet.
pub fn program(filter: &Filter, link: Link, source: Source) -> Program {
    let mut b = Builder::new("filter");
    let mut maps = vec![];
    let (start, captured, wire) = match source {
        Source::Memory => {
            let ctx = b.ctx();
            let start = b.load(ctx, 0, Size::B8);
            (start, b.load(ctx, 8, Size::B8), b.load(ctx, 16, Size::B8))
        }
        Source::Map => {
            maps.push(MapDecl {
                name: "packet".into(),
                kind: MapKind::Array,
                key_size: 4,
                value_size: 16 + MAP_PACKET,
                max_entries: 1,
            });
            let value = b.map_data(MapRef(0), 0);
            let (captured, wire) = (b.load(value, 0, Size::B8), b.load(value, 8, Size::B8));
            (b.add(value, 16), captured, wire)
        }
        Source::Skb => {
            let ctx = b.ctx();
            let len = b.load(ctx, 0, Size::B4);
            (b.imm(0), len, len)
        }
    };
    let mut frame = Frame {
        link,
        start,
        captured,
        wire,
    };
    let (hit, miss) = (b.block(), b.block());
    lower(&mut b, filter, &mut frame, hit, miss);
    b.switch_to(hit);
    b.ret(1);
    b.switch_to(miss);
    b.ret(0);
    Program {
        name: "filter".into(),
        kind: match source {
            Source::Memory | Source::Skb => ProgramKind::SchedCls,
            Source::Map => ProgramKind::RawTracepoint,
        },
        maps,
        functions: vec![b.finish()],
    }
}

struct Frame {
    link: Link,
    start: Reg,
    captured: Reg,
    wire: Reg,
}

impl Frame {
    fn open(&self, b: &mut Builder, skip: i64) -> Reg {
        let start = match skip {
            0 => self.start,
            skip => b.add(self.start, skip),
        };
        let dst = b.reg(Type::Packet);
        b.push(Op::PacketOpen { dst, start });
        dst
    }

    /// An unsigned number of the packet, which must be as long as that.
    fn number(&self, b: &mut Builder, off: i64, size: Size, absent: Block) -> Reg {
        b.branch_if(Cond::SLt, self.captured, off + i64::from(size.bytes()), absent);
        let packet = self.open(b, 0);
        let dst = b.int();
        b.push(Op::PacketLoad {
            dst,
            packet,
            off: off.into(),
            size,
            swap: size != Size::B1,
        });
        dst
    }

    /// The EtherType that the first byte tells, or 0.
    fn version(&self, b: &mut Builder, absent: Block) -> Reg {
        let first = self.number(b, 0, Size::B1, absent);
        let version = b.bin(BinOp::Shr, Width::W64, first, 4);
        let ethertype = b.imm(0);
        let (v4, not_v4, v6, done) = (b.block(), b.block(), b.block(), b.block());
        b.branch(Cond::Eq, version, 4, v4, not_v4);
        b.switch_to(v4);
        b.mov(ethertype, 0x0800);
        b.jump(done);
        b.switch_to(not_v4);
        b.branch(Cond::Eq, version, 6, v6, done);
        b.switch_to(v6);
        b.mov(ethertype, 0x86dd);
        b.jump(done);
        b.switch_to(done);
        ethertype
    }
}

impl View for Frame {
    fn field(&mut self, b: &mut Builder, field: Field, absent: Block) -> Option<Reg> {
        let header = self.link.header();
        match (field, self.link) {
            (Field::PacketLen, _) => Some(self.wire),
            (Field::L2, Link::Ethernet) => Some(self.open(b, 0)),
            (Field::L2Len, Link::Ethernet) => Some(self.captured),
            (Field::L3, _) => Some(self.open(b, header)),
            (Field::L3Len, Link::Raw) => Some(self.captured),
            (Field::L3Len, _) => Some(b.bin(BinOp::Sub, Width::W64, self.captured, header)),
            (Field::EtherType, Link::Ethernet) => Some(self.number(b, 12, Size::B2, absent)),
            (Field::EtherType, Link::LinuxSll) => Some(self.number(b, 14, Size::B2, absent)),
            (Field::EtherType, Link::LinuxSll2) => Some(self.number(b, 0, Size::B2, absent)),
            (Field::EtherType, Link::Raw) => Some(self.version(b, absent)),
            (Field::PacketType, Link::LinuxSll) => Some(self.number(b, 0, Size::B2, absent)),
            (Field::PacketType, Link::LinuxSll2) => Some(self.number(b, 10, Size::B1, absent)),
            (Field::IfIndex, Link::LinuxSll2) => Some(self.number(b, 4, Size::B4, absent)),
            _ => None,
        }
    }
}
