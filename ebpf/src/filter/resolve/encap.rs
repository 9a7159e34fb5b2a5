//! Encapsulations: what tells them, and the layer inside.

use super::layer::{Ether, Layer, Link, plus};
use super::{Case, Resolver};
use crate::filter::Error;
use crate::filter::ast::*;
use crate::filter::tree::{Node, Num, Place};
use crate::filter::view::Field;

/// EtherTypes of VLAN tags: 802.1Q, 802.1ad, and what came before that.
const VLAN_TAGS: [u32; 3] = [0x8100, 0x88a8, 0x9100];
const MPLS: u32 = 0x8847;
const PPPOE_DISCOVERY: u32 = 0x8863;
const PPPOE_SESSION: u32 = 0x8864;
/// UDP destination ports.
const GENEVE_PORT: u32 = 6081;
const VXLAN_PORT: u32 = 4789;
/// The Geneve protocol type of an Ethernet frame.
const TRANSPARENT_ETHERNET: u32 = 0x6558;
const ETHER_HEADER: u32 = 14;
const UDP_HEADER: u32 = 8;

impl Resolver<'_> {
    pub(super) fn encap(
        &mut self,
        encap: Encap,
        number: Option<u32>,
        span: &Span,
        layer: &Layer,
    ) -> Result<Case, Error> {
        let (what, max) = match encap {
            Encap::Vlan => ("a VLAN's number", 4095),
            Encap::Mpls => ("an MPLS label", (1 << 20) - 1),
            Encap::PppoeDiscovery | Encap::PppoeSession => ("a PPPoE session's number", 65535),
            Encap::Geneve => ("a Geneve network's number", (1 << 24) - 1),
            Encap::Vxlan => ("a VXLAN's number", (1 << 24) - 1),
        };
        if let Some(number) = number.filter(|number| *number > max) {
            return Err(Error::new(
                span.clone(),
                format!("{what} is at most {max}, not {number}"),
            ));
        }
        match encap {
            Encap::Vlan => self.vlan(number, span, layer),
            Encap::Mpls => self.mpls(number, span, layer),
            Encap::PppoeDiscovery => Ok(Case {
                node: self.carries(PPPOE_DISCOVERY, span, layer)?,
                then: *layer,
            }),
            Encap::PppoeSession => self.pppoe_session(number, span, layer),
            Encap::Geneve => self.geneve(number, span, layer),
            Encap::Vxlan => self.vxlan(number, span, layer),
        }
    }

    /// A tag in the packet's bytes, or the offloaded one, which comes before those.
    fn vlan(&mut self, number: Option<u32>, span: &Span, layer: &Layer) -> Result<Case, Error> {
        let Link::EtherType(ethertype) = layer.link else {
            let error = Error::new(span.clone(), "no VLAN tag can stand here");
            return Err(error.suggest("VLAN tags come before MPLS labels and PPPoE"));
        };
        let mut in_band = Node::In {
            a: ethertype,
            values: VLAN_TAGS.to_vec(),
            span: span.clone(),
        };
        if let Some(number) = number {
            let tag = layer.load(&mut self.nums, 0, 2);
            in_band = in_band.and(self.nums.masked_eq(tag, 0xfff, number, span));
        }
        let inner = layer.load(&mut self.nums, 2, 2);
        let then = Layer {
            net: layer.at(4),
            link: Link::EtherType(inner),
            depth: layer.depth + 1,
            tag_taken: true,
            ..*layer
        };
        if layer.tag_taken {
            return Ok(Case { node: in_band, then });
        }
        let tag = self.nums.field(Field::VlanTag);
        let mut offloaded = self.nums.test(Relop::Ne, tag, 0, span);
        if let Some(number) = number {
            offloaded = offloaded.and(self.nums.masked_eq(tag, 0xfff, number, span));
        }
        let absent = self.nums.eq(tag, 0, span);
        let node = offloaded.or(absent.and(in_band));
        let (zero, four) = (self.nums.constant(0), self.nums.constant(4));
        let skip = self.nums.choose(tag, 0, four, zero);
        let net = plus(&mut self.nums, layer.net, skip);
        let link = Link::EtherType(self.nums.choose(tag, 0, inner, ethertype));
        Ok(Case {
            node,
            then: Layer { net, link, ..then },
        })
    }

    fn mpls(&mut self, label: Option<u32>, span: &Span, layer: &Layer) -> Result<Case, Error> {
        let mut node = match layer.link {
            // Another label follows.
            Link::Mpls { bottom } => self.nums.masked_eq(bottom, 1, 0, span),
            _ => self.carries(MPLS, span, layer)?,
        };
        if let Some(label) = label {
            let word = layer.load(&mut self.nums, 0, 4);
            node = node.and(self.nums.masked_eq(word, 0xffff_f000, label << 12, span));
        }
        let bottom = layer.load(&mut self.nums, 2, 1);
        let then = Layer {
            net: layer.at(4),
            link: Link::Mpls { bottom },
            depth: layer.depth + 1,
            tag_taken: true,
            ..*layer
        };
        Ok(Case { node, then })
    }

    fn pppoe_session(&mut self, session: Option<u32>, span: &Span, layer: &Layer) -> Result<Case, Error> {
        let mut node = self.carries(PPPOE_SESSION, span, layer)?;
        if let Some(session) = session {
            let word = layer.load(&mut self.nums, 0, 4);
            node = node.and(self.nums.masked_eq(word, 0xffff, session, span));
        }
        let protocol = layer.load(&mut self.nums, 6, 2);
        let then = Layer {
            net: layer.at(8),
            link: Link::Ppp(protocol),
            link_start: layer.at(6),
            ether: Ether::None,
            depth: layer.depth + 1,
            tag_taken: true,
            ..*layer
        };
        Ok(Case { node, then })
    }

    /// A UDP datagram to `port`, whose payload `test` tests, given its place; for each version of IP.
    fn over_udp(
        &mut self,
        port: u32,
        span: &Span,
        layer: &Layer,
        mut test: impl FnMut(&mut Self, Place) -> Node,
    ) -> Result<Node, Error> {
        let mut legs = vec![];
        for v6 in [false, true] {
            let (mut node, udp) = self.transport(v6, 17, span, layer)?;
            let dst = Place {
                off: udp.off + 2,
                ..udp
            };
            let dst = self.nums.load(dst, 2);
            node = node.and(self.nums.eq(dst, port, span));
            let payload = Place {
                off: udp.off + UDP_HEADER,
                ..udp
            };
            legs.push(node.and(test(self, payload)));
        }
        Ok(Node::Or(legs))
    }

    fn geneve(&mut self, network: Option<u32>, span: &Span, layer: &Layer) -> Result<Case, Error> {
        let node = self.over_udp(GENEVE_PORT, span, layer, |this, geneve| {
            let first = this.nums.load(geneve, 1);
            let mut node = this.nums.masked_eq(first, 0xc0, 0, span);
            if let Some(network) = network {
                let word = this.nums.load(after(geneve, 4), 4);
                node = node.and(this.nums.masked_eq(word, 0xffff_ff00, network << 8, span));
            }
            node
        })?;
        let udp = layer.after_either_ip(&mut self.nums);
        let geneve = after(udp, UDP_HEADER);
        let options = self.nums.load(geneve, 1);
        let options = self.nums.bin_const(ArithOp::And, options, 0x3f);
        let options = self.nums.bin_const(ArithOp::Shl, options, 2);
        let frame = after(plus(&mut self.nums, geneve, options), 8);
        let protocol = self.nums.load(after(geneve, 2), 2);
        // The header is read as a whole: a packet that ends in it doesn't match.
        let node = node.and(self.exists(protocol, span));
        let then = self.inner_frame(frame, Some(protocol), layer);
        Ok(Case { node, then })
    }

    fn vxlan(&mut self, network: Option<u32>, span: &Span, layer: &Layer) -> Result<Case, Error> {
        let node = self.over_udp(VXLAN_PORT, span, layer, |this, vxlan| {
            let flags = this.nums.load(vxlan, 1);
            let mut node = this.nums.masked_eq(flags, 0x08, 0x08, span);
            if let Some(network) = network {
                let word = this.nums.load(after(vxlan, 4), 4);
                node = node.and(this.nums.masked_eq(word, 0xffff_ff00, network << 8, span));
            }
            node
        })?;
        let udp = layer.after_either_ip(&mut self.nums);
        let then = self.inner_frame(after(udp, UDP_HEADER + 8), None, layer);
        Ok(Case { node, then })
    }

    /// The layer in an Ethernet frame at `frame`. With `protocol`: a frame if that says so, else what it names.
    pub(super) fn inner_frame(
        &mut self,
        frame: Place,
        protocol: Option<crate::filter::tree::NumId>,
        layer: &Layer,
    ) -> Layer {
        let ethertype = self.nums.load(after(frame, 12), 2);
        let (net, link) = match protocol {
            None => (after(frame, ETHER_HEADER), ethertype),
            Some(protocol) => {
                let (zero, header) = (self.nums.constant(0), self.nums.constant(ETHER_HEADER));
                let skip = self.nums.choose(protocol, TRANSPARENT_ETHERNET, header, zero);
                let link = self
                    .nums
                    .choose(protocol, TRANSPARENT_ETHERNET, ethertype, protocol);
                (plus(&mut self.nums, frame, skip), link)
            }
        };
        Layer {
            net,
            link: Link::EtherType(link),
            link_start: frame,
            ether: Ether::Inner(frame, protocol.map(|protocol| (protocol, TRANSPARENT_ETHERNET))),
            depth: layer.depth + 1,
            tag_taken: true,
            walk: layer.walk,
        }
    }

    /// True, but the bytes of `num` have to be there.
    fn exists(&mut self, num: crate::filter::tree::NumId, span: &Span) -> Node {
        debug_assert!(matches!(self.nums.get(num), Num::Load { .. }));
        self.nums.test(Relop::Ge, num, 0, span)
    }
}

/// `off` bytes after `place`.
pub(super) fn after(place: Place, off: u32) -> Place {
    Place {
        off: place.off + off,
        ..place
    }
}
