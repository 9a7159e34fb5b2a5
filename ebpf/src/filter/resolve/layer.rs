//! Where the headers are that a condition speaks of.
//!
//! The packet's own network header is the outermost layer. An encapsulation (`vlan`, `mpls`, `pppoes`, `geneve`,
//! `vxlan`, a tunnel) leads to another one, which what is joined to it by `and` speaks of.

use crate::filter::ast::{ArithOp, Relop, Span};
use crate::filter::tree::{Node, Num, NumId, Nums, Place, Walked, Window};
use crate::filter::view::Field;

/// A network layer of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layer {
    /// Where its network header starts.
    pub net: Place,
    /// How the protocol of its network header is known.
    pub link: Link,
    /// Where the header before it starts: what `ether[0]` means.
    pub link_start: Place,
    /// Its Ethernet addresses.
    pub ether: Ether,
    /// How many encapsulations lead here.
    pub depth: u32,
    /// Behind an offloaded VLAN tag, or in a place where none is looked for.
    pub tag_taken: bool,
    /// Tests on IPv6 look behind extension headers.
    pub walk: bool,
}

/// How the protocol of a network header is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// By an EtherType, or by a length of at most 1500 and an LLC header.
    EtherType(NumId),
    /// By a PPP protocol number.
    Ppp(NumId),
    /// By the first four bits after the last MPLS label, whose bottom-of-stack bit is in this byte.
    Mpls { bottom: NumId },
}

/// Ethernet addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ether {
    /// Of the packet's link-layer header, where it has one.
    Outer,
    /// At this place, if the number has that value.
    Inner(Place, Option<(NumId, u32)>),
    /// A link without them.
    None,
    /// At this place, if the number isn't 0: some ways to this place of the filter have them.
    Perhaps(Place, NumId),
}

/// EtherTypes with an own encoding in LLC and SNAP; and the LLC addresses that libpcap takes for protocols.
const APPLETALK: u32 = 0x809b;
const AARP: u32 = 0x80f3;
const MPLS: u32 = 0x8847;
pub(super) const LLC_IPX: u32 = 0xe0;
pub(super) const LLC_ISO: u32 = 0xfe;
pub(super) const LLC_STP: u32 = 0x42;
pub(super) const LLC_NETBEUI: u32 = 0xf0;
const LLC_IP: u32 = 0x06;
/// Up to here the number is a length, and an LLC header follows.
pub(super) const MAX_LENGTH: u32 = 1500;

impl Layer {
    /// The packet's own network header.
    pub fn outer(nums: &mut Nums) -> Layer {
        let place = |window| Place {
            window,
            dynamic: None,
            off: 0,
        };
        Layer {
            net: place(Window::L3),
            link: Link::EtherType(nums.intern(Num::Field(Field::EtherType))),
            link_start: place(Window::L2),
            ether: Ether::Outer,
            depth: 0,
            tag_taken: false,
            walk: false,
        }
    }

    /// Its network header is of this EtherType, or of this LLC address if that is at most 1500. `None`: there is no
    /// telling behind MPLS.
    pub fn carries(&self, nums: &mut Nums, protocol: u32, span: &Span) -> Option<Node> {
        Some(match self.link {
            Link::EtherType(ethertype) => self.carries_ethernet(nums, ethertype, protocol, span),
            Link::Ppp(word) => nums.eq(word, ppp_protocol(protocol), span),
            Link::Mpls { bottom } => {
                let version = match protocol {
                    0x0800 => 0x40,
                    0x86dd => 0x60,
                    _ => return None,
                };
                let last = nums.masked_eq(bottom, 1, 1, span);
                let first = self.load(nums, 0, 1);
                last.and(nums.masked_eq(first, 0xf0, version, span))
            }
        })
    }

    fn carries_ethernet(&self, nums: &mut Nums, ethertype: NumId, protocol: u32, span: &Span) -> Node {
        let is_length = |nums: &mut Nums| nums.test(Relop::Le, ethertype, MAX_LENGTH, span);
        let snap = |nums: &mut Nums, organisation: u32, protocol: u32| {
            let second = self.load(nums, 4, 4);
            let second = nums.eq(second, (organisation & 0xffff) << 16 | protocol, span);
            let first = self.load(nums, 0, 4);
            second.and(nums.eq(first, 0xaaaa_0300 | organisation >> 16, span))
        };
        match protocol {
            LLC_ISO | LLC_IP | LLC_NETBEUI => {
                let both = self.load(nums, 0, 2);
                is_length(nums).and(nums.eq(both, protocol << 8 | protocol, span))
            }
            LLC_IPX => {
                let snap = snap(nums, 0, 0x8137);
                let address = self.load(nums, 0, 1);
                let address = nums.eq(address, LLC_IPX, span);
                let raw = self.load(nums, 0, 2);
                let raw = nums.eq(raw, 0xffff, span);
                let framed = is_length(nums).and(snap.or(address).or(raw));
                nums.eq(ethertype, 0x8137, span).or(framed)
            }
            APPLETALK | AARP => {
                let organisation = if protocol == APPLETALK { 0x08_0007 } else { 0 };
                let snap = snap(nums, organisation, protocol);
                let framed = is_length(nums).and(snap);
                nums.eq(ethertype, protocol, span).or(framed)
            }
            0..=MAX_LENGTH => {
                let address = self.load(nums, 0, 1);
                is_length(nums).and(nums.eq(address, protocol, span))
            }
            _ => nums.eq(ethertype, protocol, span),
        }
    }

    /// `size` bytes at `off` of its network header.
    pub fn load(&self, nums: &mut Nums, off: u32, size: u32) -> NumId {
        nums.load(self.at(off), size)
    }

    /// `off` bytes into its network header.
    pub fn at(&self, off: u32) -> Place {
        Place {
            off: self.net.off + off,
            ..self.net
        }
    }

    /// Length of its IPv4 header, as that says.
    pub fn header_length(&self, nums: &mut Nums) -> NumId {
        let first = self.load(nums, 0, 1);
        let words = nums.bin_const(ArithOp::And, first, 0xf);
        nums.bin_const(ArithOp::Shl, words, 2)
    }

    /// Where what follows its IPv4 header starts.
    pub fn after_ip(&self, nums: &mut Nums) -> Place {
        let length = self.header_length(nums);
        plus(nums, self.net, length)
    }

    /// Where what follows its IPv6 header starts.
    pub fn after_ip6(&self, nums: &mut Nums) -> Place {
        match self.walk {
            false => self.at(40),
            true => {
                let length = self.walked(nums, Walked::Length);
                plus(nums, self.net, length)
            }
        }
    }

    /// What walking its extension headers finds.
    pub fn walked(&self, nums: &mut Nums, part: Walked) -> NumId {
        nums.intern(Num::Walk { net: self.net, part })
    }

    /// `v4` if its network header is IPv4's, else `v6`.
    pub fn choose_version(&self, nums: &mut Nums, v4: NumId, v6: NumId) -> NumId {
        let (num, value) = match self.link {
            Link::EtherType(num) => (num, 0x0800),
            Link::Ppp(num) => (num, ppp_protocol(0x0800)),
            Link::Mpls { .. } => {
                let first = self.load(nums, 0, 1);
                (nums.bin_const(ArithOp::And, first, 0xf0), 0x40)
            }
        };
        nums.choose(num, value, v4, v6)
    }

    /// Where what follows its IP header starts, of either version.
    pub fn after_either_ip(&self, nums: &mut Nums) -> Place {
        let v4 = self.header_length(nums);
        let v6 = match self.walk {
            false => nums.constant(40),
            true => self.walked(nums, Walked::Length),
        };
        let length = self.choose_version(nums, v4, v6);
        plus(nums, self.net, length)
    }
}

/// `num` bytes after `place`.
pub(super) fn plus(nums: &mut Nums, place: Place, num: NumId) -> Place {
    if let Some(value) = nums.as_const(num)
        && let Some(off) = place.off.checked_add(value)
        && value < 1 << 16
    {
        return Place { off, ..place };
    }
    let dynamic = match place.dynamic {
        Some(base) => nums.bin(ArithOp::Add, base, num),
        None => num,
    };
    Place {
        dynamic: Some(dynamic),
        ..place
    }
}

/// The number that PPP has for an EtherType or an LLC address (RFC 1661's registry); itself where it has none.
fn ppp_protocol(protocol: u32) -> u32 {
    match protocol {
        0x0800 => 0x21,
        0x86dd => 0x57,
        0x6003 => 0x27,
        APPLETALK => 0x29,
        0x0600 => 0x25,
        LLC_ISO => 0x23,
        LLC_STP => 0x31,
        LLC_IPX => 0x2b,
        MPLS => 0x281,
        other => other,
    }
}
