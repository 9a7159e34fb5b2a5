//! Where a packet's headers are in the kernel's context.
//!
//! An skb has no headers for part of its life. The rules for the network header, in order:
//!
//! 1. `skb->protocol` unset and no route yet: the packet is still being put together, and the buffer may hold what
//!    an earlier packet left there. No headers.
//! 2. `network_header` set: they start there.
//! 3. `network_header` unset, `mac_header` set and `data` moved past it (a driver has called `eth_type_trans`):
//!    they start at `data`.
//! 4. Otherwise: no headers.
//!
//! For the link-layer header:
//!
//! 1. `mac_header` unset: none. A packet that is being sent gets it in `__dev_queue_xmit`.
//! 2. Less than an Ethernet header from there to the network header (or to `data`, where that is unset): none. So it
//!    is for what comes from tunnels and tun devices, whose `mac_header` is the network header.
//! 3. On a device, and that one is neither Ethernet nor the loopback: none.
//! 4. Otherwise it starts at `mac_header`.
//!
//! Both end with the linear data, at `tail`: what is in pages is out of reach.

use ktrail_ebpf::ir::{BinOp, Block, Builder, Cond, Op, Reg, Size, Type, Width};

use super::offsets::Offsets;

/// An unset header offset: `(typeof(skb->mac_header))~0U`.
const UNSET: i64 = 0xffff;
/// Bytes of an Ethernet header.
const ETH_HLEN: i64 = 14;
/// EtherTypes of VLAN tags as `skb->protocol` holds them, in network byte order.
const VLAN_TAGS: [i64; 3] = [0x0081, 0xa888, 0x0091];
/// `net_device::type` of devices with Ethernet headers, of `linux/if_arp.h`: Ethernet and the loopback. And 0, which
/// is none that matters, where the field `dev` holds something else: `skb->dev_scratch`, while a datagram waits at
/// its socket.
const ARPHRD_ETHERNET: [i64; 3] = [1, 772, 0];

/// Start and length in bytes of what begins with the network header; goes to `none` where there is none.
/// Loads `skb->head` into `head` on the way.
pub fn network(b: &mut Builder, o: &Offsets, skb: Reg, head: Reg, none: Block) -> (Reg, Reg) {
    let at = Network::declare(b, head);
    at.locate(b, o, skb, false, none);
    let len = at.len(b);
    b.branch_if(Cond::SLe, len, 0, none);
    (at.start, len)
}

/// Registers that say where the network header is.
#[derive(Clone, Copy)]
pub(super) struct Network {
    /// Its address.
    pub start: Reg,
    /// `skb->head`, and where the linear data ends, in bytes from there.
    head: Reg,
    tail: Reg,
    /// `skb->protocol` as the kernel keeps it: network byte order.
    pub protocol: Reg,
}

impl Network {
    /// The register of `skb->head` is the caller's.
    pub fn declare(b: &mut Builder, head: Reg) -> Network {
        Network {
            start: b.reg(Type::Kernel { direct: false }),
            head,
            tail: b.int(),
            protocol: b.int(),
        }
    }

    /// Bytes from there to the end of the linear data; 0 or less if there are none.
    pub fn len(self, b: &mut Builder) -> Reg {
        let off = b.bin(BinOp::Sub, Width::W64, self.start, self.head);
        b.bin(BinOp::Sub, Width::W64, self.tail, off)
    }

    /// Where [`Network::locate`] has gone to `none`: that there are no bytes. (Addresses of the kernel's are negative
    /// numbers. Without a buffer the length means nothing.)
    pub fn nowhere(self, b: &mut Builder) {
        b.mov(self.start, 0);
    }

    /// Find it and load `skb->head`; goes to `none` where there is none. With `tags`, where `skb->protocol` names a VLAN
    /// tag, it is what follows the Ethernet header: the tag. (`network_header` is in front of the tag in a packet that is
    /// received, and behind it in one that is sent.) It may be behind the end of the linear data.
    pub fn locate(self, b: &mut Builder, o: &Offsets, skb: Reg, tags: bool, none: Block) {
        let head = self.head;
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
        b.push(Op::KernelLoad {
            dst: self.tail,
            base: skb,
            off: o.skb_tail as i32,
            size: Size::B4,
            signed: false,
        });
        // All but packets without headers need it: the move keeps the load here, where its address is at hand.
        let loaded = b.kernel_ptr(skb, o.skb_head as i32);
        b.mov(head, loaded);

        let [no_protocol, ready, set, unset, at_data, found] = [(); 6].map(|()| b.block());
        let start_at = |b: &mut Builder, off: Reg| {
            b.push(Op::Bin {
                op: BinOp::Add,
                width: Width::W64,
                dst: self.start,
                a: off,
                b: head.into(),
            });
        };
        b.branch(Cond::Eq, protocol, 0, no_protocol, ready);
        b.switch_to(no_protocol);
        let dst = b.kernel_load(skb, o.skb_dst as i32, Size::B8);
        b.branch(Cond::Eq, dst, 0, none, ready);

        b.switch_to(ready);
        if tags {
            let (tagged, plain) = (b.block(), b.block());
            for tag in VLAN_TAGS {
                b.branch_if(Cond::Eq, protocol, tag, tagged);
            }
            b.jump(plain);
            b.switch_to(tagged);
            let mac = b.kernel_load(skb, o.skb_mac_header as i32, Size::B2);
            b.branch_if(Cond::Eq, mac, UNSET, plain);
            let off = b.add(mac, ETH_HLEN);
            start_at(b, off);
            b.jump(found);
            b.switch_to(plain);
        }
        b.branch_if(Cond::Eq, network, 0, unset);
        b.branch(Cond::Eq, network, UNSET, unset, set);
        b.switch_to(set);
        start_at(b, network);
        b.jump(found);

        // Seldom: between the driver and the protocol's handler.
        b.switch_to(unset);
        let mac = b.kernel_load(skb, o.skb_mac_header as i32, Size::B2);
        let data = b.kernel_load(skb, o.skb_data as i32, Size::B8);
        b.branch_if(Cond::Eq, mac, UNSET, none);
        let off = b.bin(BinOp::Sub, Width::W64, data, head);
        b.branch(Cond::Gt, off, mac, at_data, none);
        b.switch_to(at_data);
        start_at(b, off);
        b.jump(found);

        b.switch_to(found);
    }
}

/// Registers that say where the link-layer header is.
#[derive(Clone, Copy)]
pub(super) struct Link {
    /// Its address.
    pub start: Reg,
    /// Bytes from there to the end of the linear data.
    pub len: Reg,
    /// Bytes from there to `skb->data`; less than 0 where `data` is before it.
    pub before_data: Reg,
}

impl Link {
    pub fn declare(b: &mut Builder) -> Link {
        Link {
            start: b.reg(Type::Kernel { direct: false }),
            len: b.int(),
            before_data: b.int(),
        }
    }

    /// Find it; goes to `none` where there is none.
    pub fn locate(self, b: &mut Builder, o: &Offsets, skb: Reg, none: Block) {
        let network = b.kernel_load(skb, o.skb_network_header as i32, Size::B2);
        let mac = b.kernel_load(skb, o.skb_mac_header as i32, Size::B2);
        let tail = b.kernel_load(skb, o.skb_tail as i32, Size::B4);
        let head = b.kernel_ptr(skb, o.skb_head as i32);
        let head_number = b.kernel_load(skb, o.skb_head as i32, Size::B8);
        let data = b.kernel_load(skb, o.skb_data as i32, Size::B8);
        b.branch_if(Cond::Eq, mac, UNSET, none);
        let data = b.bin(BinOp::Sub, Width::W64, data, head_number);

        // What stands behind it.
        let end = b.int();
        let (unset, known) = (b.block(), b.block());
        b.mov(end, network);
        b.branch_if(Cond::Eq, network, 0, unset);
        b.branch(Cond::Eq, network, UNSET, unset, known);
        b.switch_to(unset);
        b.mov(end, data);
        b.jump(known);
        b.switch_to(known);
        let length = b.bin(BinOp::Sub, Width::W64, end, mac);
        b.branch_if(Cond::SLt, length, ETH_HLEN, none);

        let found = b.block();
        let dev = b.kernel_ptr(skb, o.skb_dev as i32);
        b.branch_if(Cond::Eq, dev, 0, found);
        let kind = b.kernel_load(dev, o.dev_type as i32, Size::B2);
        for ethernet in ARPHRD_ETHERNET {
            b.branch_if(Cond::Eq, kind, ethernet, found);
        }
        b.jump(none);

        b.switch_to(found);
        b.branch_if(Cond::Le, tail, mac, none);
        for (dst, a) in [(self.len, tail), (self.before_data, data)] {
            b.push(Op::Bin {
                op: BinOp::Sub,
                width: Width::W64,
                dst,
                a,
                b: mac.into(),
            });
        }
        b.push(Op::Bin {
            op: BinOp::Add,
            width: Width::W64,
            dst: self.start,
            a: head,
            b: mac.into(),
        });
    }
}

/// Which way the packet goes, as `PACKET_HOST` or `PACKET_OUTGOING` of `linux/if_packet.h`. `skb->pkt_type` says so
/// only in the copies that captures get, so:
///
/// 1. `pkt_type` is `PACKET_OUTGOING`: out.
/// 2. `data` is at the link-layer header, and the network header behind that: out, it is in a device's queue.
/// 3. It was received (`skb_iif` is set) and is still on that device or on none: in. On another one: out, it is
///    being forwarded.
/// 4. `mac_header` is unset: out, it is on its way from a socket to a device.
/// 5. `data` is behind `mac_header`: in, a driver has just received it.
/// 6. It has a route: out. Otherwise in.
pub(super) fn direction(b: &mut Builder, o: &Offsets, skb: Reg) -> Reg {
    const PACKET_HOST: i64 = 0;
    const PACKET_OUTGOING: i64 = 4;
    let result = b.imm(PACKET_OUTGOING);
    let (inwards, done) = (b.block(), b.block());
    let network = b.kernel_load(skb, o.skb_network_header as i32, Size::B2);
    let mac = b.kernel_load(skb, o.skb_mac_header as i32, Size::B2);
    let head = b.kernel_load(skb, o.skb_head as i32, Size::B8);
    let data = b.kernel_load(skb, o.skb_data as i32, Size::B8);
    let iif = b.kernel_load(skb, o.skb_iif as i32, Size::B4);
    let kind = o.skb_pkt_type.load(b, skb);
    b.branch_if(Cond::Eq, kind, PACKET_OUTGOING, done);
    let data = b.bin(BinOp::Sub, Width::W64, data, head);

    let (no_header, header) = (b.block(), b.block());
    b.branch(Cond::Ne, data, mac, no_header, header);
    b.switch_to(header);
    b.branch_if(Cond::Eq, network, UNSET, no_header);
    b.branch(Cond::Gt, network, mac, done, no_header);

    b.switch_to(no_header);
    let (received, fresh) = (b.block(), b.block());
    b.branch(Cond::Ne, iif, 0, received, fresh);
    b.switch_to(received);
    let dev = b.kernel_ptr(skb, o.skb_dev as i32);
    b.branch_if(Cond::Eq, dev, 0, inwards);
    let ifindex = b.kernel_load(dev, o.dev_ifindex as i32, Size::B4);
    // 0: what was read is no device.
    b.branch_if(Cond::Eq, ifindex, 0, inwards);
    b.branch(Cond::Eq, ifindex, iif, inwards, done);

    b.switch_to(fresh);
    b.branch_if(Cond::Eq, mac, UNSET, done);
    b.branch_if(Cond::SGt, data, mac, inwards);
    let dst = b.kernel_load(skb, o.skb_dst as i32, Size::B8);
    b.branch(Cond::Eq, dst, 0, inwards, done);

    b.switch_to(inwards);
    b.mov(result, PACKET_HOST);
    b.jump(done);
    b.switch_to(done);
    result
}
