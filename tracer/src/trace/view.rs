//! What a filter may know of a packet in the kernel's context. `docs/filter.md` says it to users.
//!
//! What a filter surely asks for first is computed ahead, where it is known on all of its ways; the rest where it is
//! asked for, since most packets are refused before.
//!
//! Deliberately absent: where headers are ([`super::headers`]), and data in pages.

use ktrail_ebpf::filter::{self, COMM_LEN, Field, Filter, View};
use ktrail_ebpf::ir::{BinOp, Block, Builder, Cond, Op, Program, ProgramKind, Reg, Size, Slot, Type, Width};
use ktrail_ebpf::isa::Helper;

use super::headers::{self, Link, Network};
use super::offsets::{Offsets, VlanTag};

pub use super::headers::network;

/// EtherTypes as `skb->protocol` holds them, in network byte order.
const ETH_P_IP: i64 = 0x0008;
const ETH_P_IPV6: i64 = 0xdd86;

/// What a filter may know of an skb.
pub struct SkbView<'a> {
    offsets: &'a Offsets,
    skb: Reg,
    /// Its length is 0 or less where there is no network header.
    network: Network,
    /// Its length is 0 where there is no link-layer header.
    link: Link,
    /// Where the current thread's name goes, each time that it is asked for.
    comm: Option<Slot>,
}

impl<'a> SkbView<'a> {
    /// Append to `b` what finds the network header, if `filter` has any use for it, and `skb->head`, which goes into
    /// `head`.
    pub fn new(b: &mut Builder, offsets: &'a Offsets, skb: Reg, head: Reg, filter: &Filter) -> SkbView<'a> {
        let network = Network::declare(b, head);
        let link = Link::declare(b);
        let view = SkbView {
            offsets,
            skb,
            network,
            link,
            comm: None,
        };
        let asks = |fields: &[Field]| fields.iter().any(|field| filter.asks_for(*field));
        if asks(&[Field::L3, Field::EtherType, Field::PacketLen]) {
            let (none, done) = (b.block(), b.block());
            let tags = filter.asks_for(Field::VlanTag);
            network.locate(b, offsets, skb, tags, none);
            b.jump(done);
            b.switch_to(none);
            network.nowhere(b);
            b.jump(done);
            b.switch_to(done);
        } else {
            b.push(Op::KernelLoad {
                dst: head,
                base: skb,
                off: offsets.skb_head as i32,
                size: Size::B8,
                signed: false,
            });
        }
        view
    }

    /// Find the link-layer header; its length is 0 where there is none.
    fn locate_link(&self, b: &mut Builder) {
        let (none, done) = (b.block(), b.block());
        self.link.locate(b, self.offsets, self.skb, none);
        b.jump(done);
        b.switch_to(none);
        b.mov(self.link.start, 0);
        b.mov(self.link.len, 0);
        b.mov(self.link.before_data, 0);
        b.jump(done);
        b.switch_to(done);
    }

    /// Not every packet carries its EtherType yet: one that is being sent gets it in `__ip_local_out`. Then its
    /// first byte has to tell.
    fn ethertype(&self, b: &mut Builder, absent: Block) -> Reg {
        let protocol = self.network.protocol;
        let (unset, done) = (b.block(), b.block());
        b.branch(Cond::Eq, protocol, 0, unset, done);
        b.switch_to(unset);
        let len = self.network.len(b);
        b.branch_if(Cond::SLe, len, 0, absent);
        let l3 = open(b, self.network.start);
        let first = b.int();
        b.push(Op::PacketLoad {
            dst: first,
            packet: l3,
            off: 0.into(),
            size: Size::B1,
            swap: false,
        });
        let version = b.bin(BinOp::Shr, Width::W64, first, 4);
        let (v4, not4, v6) = (b.block(), b.block(), b.block());
        b.branch(Cond::Eq, version, 4, v4, not4);
        b.switch_to(v4);
        b.mov(protocol, ETH_P_IP);
        b.jump(done);
        b.switch_to(not4);
        b.branch(Cond::Eq, version, 6, v6, absent);
        b.switch_to(v6);
        b.mov(protocol, ETH_P_IPV6);
        b.jump(done);
        b.switch_to(done);
        // Here, so that it isn't done where it is compared only.
        let ethertype = b.int();
        b.push(Op::Swap {
            size: Size::B2,
            dst: ethertype,
            src: protocol,
        });
        ethertype
    }

    /// The tag that the device has taken out of the packet's bytes, or will put in.
    fn vlan_tag(&self, b: &mut Builder) -> Reg {
        let tag = b.imm(0);
        let done = b.block();
        let present = match self.offsets.skb_vlan {
            VlanTag::Flag(flag) => flag.load(b, self.skb),
            VlanTag::NotZero(off) => b.kernel_load(self.skb, off as i32, Size::B4),
        };
        let tci = b.kernel_load(self.skb, self.offsets.skb_vlan_tci as i32, Size::B2);
        b.branch_if(Cond::Eq, present, 0, done);
        b.push(Op::Bin {
            op: BinOp::Or,
            width: Width::W64,
            dst: tag,
            a: tci,
            b: 0x10000.into(),
        });
        b.jump(done);
        b.switch_to(done);
        tag
    }

    /// The packet's length, from its link-layer header on if it has one, else from its network header.
    fn packet_len(&self, b: &mut Builder, absent: Block) -> Reg {
        let o = self.offsets;
        let before_data = b.int();
        let (no_link, linked, done) = (b.block(), b.block(), b.block());
        self.locate_link(b);
        b.branch(Cond::Eq, self.link.len, 0, no_link, linked);

        b.switch_to(linked);
        b.mov(before_data, self.link.before_data);
        b.jump(done);

        b.switch_to(no_link);
        let len = self.network.len(b);
        b.branch_if(Cond::SLe, len, 0, absent);
        // Both are addresses: `tail` is where the linear data ends, `len` bytes after the network header.
        let tail = b.kernel_load(self.skb, o.skb_tail as i32, Size::B4);
        let head = b.kernel_load(self.skb, o.skb_head as i32, Size::B8);
        let data = b.kernel_load(self.skb, o.skb_data as i32, Size::B8);
        let data = b.bin(BinOp::Sub, Width::W64, data, head);
        let network = b.bin(BinOp::Sub, Width::W64, tail, len);
        b.push(Op::Bin {
            op: BinOp::Sub,
            width: Width::W64,
            dst: before_data,
            a: data,
            b: network.into(),
        });
        b.jump(done);

        b.switch_to(done);
        let len = b.kernel_load(self.skb, o.skb_len as i32, Size::B4);
        // 32 bits, as all of a filter's numbers.
        b.bin(BinOp::Add, Width::W32, len, before_data)
    }

    /// Inode of the network namespace of the skb's device, else of its socket; 0 where it has neither.
    fn netns(&self, b: &mut Builder) -> Reg {
        let o = self.offsets;
        let inode = b.imm(0);
        let net = b.reg(Type::Kernel { direct: false });
        let (no_device, found, done) = (b.block(), b.block(), b.block());
        let dev = b.kernel_ptr(self.skb, o.skb_dev as i32);
        b.branch_if(Cond::Eq, dev, 0, no_device);
        let of_device = b.kernel_ptr(dev, o.dev_net as i32);
        b.mov(net, of_device);
        b.jump(found);

        b.switch_to(no_device);
        let sk = b.kernel_ptr(self.skb, o.skb_sk as i32);
        b.branch_if(Cond::Eq, sk, 0, done);
        let of_socket = b.kernel_ptr(sk, o.sock_net as i32);
        b.mov(net, of_socket);
        b.jump(found);

        b.switch_to(found);
        let inum = b.kernel_load(net, o.net_inum as i32, Size::B4);
        b.mov(inode, inum);
        b.jump(done);
        b.switch_to(done);
        inode
    }

    /// The index of the device that the packet is on; 0 for none.
    fn ifindex(&self, b: &mut Builder) -> Reg {
        let index = b.imm(0);
        let done = b.block();
        let dev = b.kernel_ptr(self.skb, self.offsets.skb_dev as i32);
        b.branch_if(Cond::Eq, dev, 0, done);
        let found = b.kernel_load(dev, self.offsets.dev_ifindex as i32, Size::B4);
        b.mov(index, found);
        b.jump(done);
        b.switch_to(done);
        index
    }
}

impl View for SkbView<'_> {
    /// What can't be read gives zeros.
    fn reads_beyond(&self) -> bool {
        true
    }

    fn field(&mut self, b: &mut Builder, field: Field, absent: Block) -> Option<Reg> {
        Some(match field {
            Field::L3 => open(b, self.network.start),
            Field::L3Len => self.network.len(b),
            Field::EtherType => self.ethertype(b, absent),
            Field::L2Len => {
                self.locate_link(b);
                b.branch_if(Cond::Eq, self.link.len, 0, absent);
                self.link.len
            }
            Field::L2 => open(b, self.link.start),
            Field::VlanTag => self.vlan_tag(b),
            Field::PacketLen => self.packet_len(b, absent),
            Field::IfIndex => self.ifindex(b),
            Field::PacketType => headers::direction(b, self.offsets, self.skb),
            Field::Skb => self.skb,
            Field::Netns => self.netns(b),
            Field::Pid => {
                let ids = b.call(Helper::GetCurrentPidTgid, vec![]);
                b.bin(BinOp::Shr, Width::W64, ids, 32)
            }
            Field::Comm { word } => {
                let slot = *self.comm.get_or_insert_with(|| b.slot(COMM_LEN as u32, 8));
                let name = b.slot_addr(slot);
                // All of it is compared, and some kernels' helper (6.1's among them) leaves what is behind the name's
                // end as it was.
                for off in (0..COMM_LEN as i32).step_by(8) {
                    b.store(name, off, 0, Size::B8);
                }
                let args = vec![name.into(), (COMM_LEN as i64).into()];
                b.call_void(Helper::GetCurrentComm, args);
                b.load(name, i32::from(word) * 4, Size::B4)
            }
            Field::Cgroup { high } => {
                let id = b.call(Helper::GetCurrentCgroupId, vec![]);
                match high {
                    true => b.bin(BinOp::Shr, Width::W64, id, 32),
                    false => id,
                }
            }
        })
    }
}

/// A program of this kind that returns whether the skb in its first argument matches: what the tracer's programs do
/// with a packet that they don't follow, and nothing else.
pub fn program(filter: &Filter, offsets: &Offsets, kind: ProgramKind) -> Program {
    let mut b = Builder::new("filter");
    b.lean();
    let skb = b.arg(0, Type::Kernel { direct: false });
    let head = b.reg(Type::Kernel { direct: false });
    let mut view = SkbView::new(&mut b, offsets, skb, head, filter);
    let (hit, miss) = (b.block(), b.block());
    filter::lower(&mut b, filter, &mut view, hit, miss);
    for (block, verdict) in [(hit, 1), (miss, 0)] {
        b.switch_to(block);
        b.ret(verdict);
    }
    Program {
        name: "filter".into(),
        kind,
        maps: vec![],
        functions: vec![b.finish()],
    }
}

fn open(b: &mut Builder, start: Reg) -> Reg {
    let packet = b.reg(Type::Packet);
    b.push(Op::PacketOpen { dst: packet, start });
    packet
}
