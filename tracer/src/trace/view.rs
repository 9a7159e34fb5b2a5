//! Where a packet's network header is, in the kernel's context.
//!
//! An skb has no headers for part of its life. The rules, in order:
//!
//! 1. `skb->protocol` unset and no route yet: the packet is still being put together, and the buffer may hold what
//!    an earlier packet left there. No headers.
//! 2. `network_header` set: they start there.
//! 3. `network_header` unset, `mac_header` set and `data` moved past it (a driver has called `eth_type_trans`):
//!    they start at `data`.
//! 4. Otherwise: no headers.
//!
//! They end with the linear data, at `tail`.

use ktrail_ebpf::filter::{Field, View};
use ktrail_ebpf::ir::{BinOp, Block, Builder, Cond, Op, Reg, Size, Type, Width};

use super::offsets::Offsets;

/// An unset header offset: `(typeof(skb->mac_header))~0U`.
const UNSET: i64 = 0xffff;

const ETH_P_IP: i64 = 0x0800;
const ETH_P_IPV6: i64 = 0x86dd;

/// Start and length in bytes of what begins with the network header; goes to `none` where there is none.
/// Loads `skb->head` into `head` on the way.
pub fn network(b: &mut Builder, o: &Offsets, skb: Reg, head: Reg, none: Block) -> (Reg, Reg) {
    let at = Network::declare(b);
    at.locate(b, o, skb, head, none);
    (at.start, at.len)
}

/// What a filter may know of an skb.
pub struct SkbView {
    skb: Reg,
    /// Its length is 0 where there is no network header.
    network: Network,
}

impl SkbView {
    /// Append to `b` what finds the network header, and `skb->head`, which goes into `head`.
    pub fn new(b: &mut Builder, o: &Offsets, skb: Reg, head: Reg) -> SkbView {
        let network = Network::declare(b);
        let (none, done) = (b.block(), b.block());
        network.locate(b, o, skb, head, none);
        b.jump(done);
        b.switch_to(none);
        b.mov(network.start, 0);
        b.mov(network.len, 0);
        b.jump(done);
        b.switch_to(done);
        SkbView { skb, network }
    }

    /// The packet, opened at its network header.
    fn l3(&self, b: &mut Builder, absent: Block) -> Reg {
        b.branch_if(Cond::Eq, self.network.len, 0, absent);
        let l3 = b.reg(Type::Packet);
        b.push(Op::PacketOpen {
            dst: l3,
            start: self.network.start,
        });
        l3
    }

    /// Not every packet carries its EtherType yet: one that is being sent gets it in `__ip_local_out`. Then its
    /// first byte has to tell.
    fn ethertype(&self, b: &mut Builder, absent: Block) -> Reg {
        let ethertype = b.int();
        b.push(Op::Swap {
            size: Size::B2,
            dst: ethertype,
            src: self.network.protocol,
        });
        let (unset, done) = (b.block(), b.block());
        b.branch(Cond::Eq, ethertype, 0, unset, done);
        b.switch_to(unset);
        let l3 = self.l3(b, absent);
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
        b.mov(ethertype, ETH_P_IP);
        b.jump(done);
        b.switch_to(not4);
        b.branch(Cond::Eq, version, 6, v6, absent);
        b.switch_to(v6);
        b.mov(ethertype, ETH_P_IPV6);
        b.jump(done);
        b.switch_to(done);
        ethertype
    }
}

impl View for SkbView {
    fn field(&mut self, b: &mut Builder, field: Field, absent: Block) -> Option<Reg> {
        match field {
            Field::L3 => Some(self.l3(b, absent)),
            Field::L3Len => Some(self.network.len),
            Field::EtherType => Some(self.ethertype(b, absent)),
            Field::Skb => Some(self.skb),
            _ => None,
        }
    }
}

/// Registers that say where the network header is.
#[derive(Clone, Copy)]
struct Network {
    /// Its address.
    start: Reg,
    /// Bytes from there to the end of the linear data.
    len: Reg,
    /// `skb->protocol` as the kernel keeps it: network byte order.
    protocol: Reg,
}

impl Network {
    fn declare(b: &mut Builder) -> Network {
        Network {
            start: b.reg(Type::Kernel { direct: false }),
            len: b.int(),
            protocol: b.int(),
        }
    }

    /// Find it; goes to `none` where there is none.
    fn locate(self, b: &mut Builder, o: &Offsets, skb: Reg, head: Reg, none: Block) {
        // Neighbours in `struct sk_buff`: read in one block, so that code generation reads them at once.
        let protocol = self.protocol;
        let off = o.skb_protocol as i32;
        b.push(Op::KernelLoad {
            dst: protocol,
            base: skb,
            off,
            size: Size::B2,
            signed: false,
        });
        let network = b.kernel_load(skb, o.skb_network_header as i32, Size::B2);
        let mac = b.kernel_load(skb, o.skb_mac_header as i32, Size::B2);
        let tail = b.kernel_load(skb, o.skb_tail as i32, Size::B4);
        b.push(Op::KernelLoad {
            dst: head,
            base: skb,
            off: o.skb_head as i32,
            size: Size::B8,
            signed: false,
        });
        let head_number = b.kernel_load(skb, o.skb_head as i32, Size::B8);
        let data = b.kernel_load(skb, o.skb_data as i32, Size::B8);

        let off = b.int();
        let (no_protocol, ready, set, unset, found) = (b.block(), b.block(), b.block(), b.block(), b.block());
        b.branch(Cond::Eq, protocol, 0, no_protocol, ready);
        b.switch_to(no_protocol);
        let dst = b.kernel_load(skb, o.skb_dst as i32, Size::B8);
        b.branch(Cond::Eq, dst, 0, none, ready);

        b.switch_to(ready);
        b.branch_if(Cond::Eq, network, 0, unset);
        b.branch(Cond::Eq, network, UNSET, unset, set);
        b.switch_to(set);
        b.mov(off, network);
        b.jump(found);

        b.switch_to(unset);
        b.branch_if(Cond::Eq, mac, UNSET, none);
        let data_off = b.bin(BinOp::Sub, Width::W64, data, head_number);
        b.mov(off, data_off);
        b.branch(Cond::Gt, off, mac, found, none);

        b.switch_to(found);
        b.branch_if(Cond::Le, tail, off, none);
        b.push(Op::Bin {
            op: BinOp::Sub,
            width: Width::W64,
            dst: self.len,
            a: tail,
            b: off.into(),
        });
        b.push(Op::Bin {
            op: BinOp::Add,
            width: Width::W64,
            dst: self.start,
            a: head,
            b: off.into(),
        });
    }
}
