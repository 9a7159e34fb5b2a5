//! `inner (…)`: the packet inside a tunnel, whichever tunnel it is: IP in IP, GRE, VXLAN or Geneve.

use super::encap::after;
use super::layer::{Ether, Layer, Link, plus};
use super::{Case, Resolver};
use crate::filter::Error;
use crate::filter::ast::*;
use crate::filter::tree::{Node, NumId, Place, Window};
use crate::filter::uses::numbers;

/// IP protocols.
const IPV4: u32 = 4;
const IPV6: u32 = 41;
const GRE: u32 = 47;
/// Bits of GRE's first 16 (RFC 2784, RFC 2890): each of the first three means four more bytes. Routing is obsolete.
const CHECKSUM: u32 = 15;
const KEY: u32 = 13;
const SEQUENCE: u32 = 12;
const ROUTING_AND_VERSION: u32 = 1 << 14 | 7;

/// Where no more tunnels are looked into: each takes stack, of which programs have 512 bytes, and steps of the kernel's
/// verifier.
const MAX_DEPTH: u32 = 4;

impl Resolver<'_> {
    /// The packet at `layer` is a tunnel's, and `ast` holds for the one inside. What follows is about the outer one.
    ///
    /// Whichever tunnel it is, where the inner headers are goes into slots, and the condition on them is there once:
    /// otherwise each nesting would multiply the program by the number of tunnels.
    pub(super) fn inner(&mut self, ast: &Ast, span: &Span, layer: &Layer) -> Result<Node, Error> {
        if layer.depth >= MAX_DEPTH {
            return Err(Error::new(
                span.clone(),
                format!("a packet inside of more than {MAX_DEPTH} encapsulations is not looked at"),
            ));
        }
        let [net, link, frame, has_ether] = std::array::from_fn(|_| self.nums.slot());
        let place = |slot| Place {
            window: Window::L3,
            dynamic: Some(slot),
            off: 0,
        };
        let inside = Layer {
            net: place(net),
            link: Link::EtherType(link),
            link_start: place(frame),
            ether: Ether::Perhaps(place(frame), has_ether),
            depth: layer.depth + 1,
            tag_taken: true,
            walk: layer.walk,
        };
        let inside = super::any(self.condition(ast, &inside)?);
        let used = numbers(&inside, &self.nums);
        let mut slots = vec![net, link, frame, has_ether];
        slots.retain(|slot| used.contains(slot));
        let tunnels = [
            self.ip_in_ip(span, layer)?,
            self.gre(span, layer)?,
            self.encap(Encap::Vxlan, None, span, layer)?,
            self.encap(Encap::Geneve, None, span, layer)?,
        ];
        let mut ways = vec![];
        for Case { node, then } in tunnels {
            self.count(&node)?;
            let ethertype = match then.link {
                Link::EtherType(ethertype) => ethertype,
                Link::Ppp(_) | Link::Mpls { .. } => unreachable!("no tunnel here carries PPP or MPLS alone"),
            };
            let mut values = vec![
                (net, self.offset(then.net)),
                (link, ethertype),
                (frame, self.offset(then.link_start)),
                (has_ether, self.has_ether(then.ether)),
            ];
            values.retain(|(slot, _)| used.contains(slot));
            ways.push(node.and(Node::Enter(values)));
        }
        Ok(Node::Inside {
            ways: Box::new(Node::Or(ways)),
            slots,
            link,
            inside: Box::new(inside),
        })
    }

    /// How many bytes after the packet's network header `place` is.
    fn offset(&mut self, place: Place) -> NumId {
        debug_assert_eq!(place.window, Window::L3);
        match place.dynamic {
            Some(dynamic) if place.off == 0 => dynamic,
            Some(dynamic) => self.nums.bin_const(ArithOp::Add, dynamic, place.off),
            None => self.nums.constant(place.off),
        }
    }

    /// 1 if there are Ethernet addresses, else 0.
    fn has_ether(&mut self, ether: Ether) -> NumId {
        let (no, yes) = (self.nums.constant(0), self.nums.constant(1));
        match ether {
            Ether::None => no,
            Ether::Outer | Ether::Inner(_, None) => yes,
            Ether::Inner(_, Some((num, value))) => self.nums.choose(num, value, yes, no),
            Ether::Perhaps(_, has) => has,
        }
    }

    fn ip_in_ip(&mut self, span: &Span, layer: &Layer) -> Result<Case, Error> {
        let node = self.over_ip(&[IPV4, IPV6], span, layer)?;
        let proto = self.protocol_of_either(layer);
        let (v4, v6) = (self.nums.constant(0x0800), self.nums.constant(0x86dd));
        let link = self.nums.choose(proto, IPV4, v4, v6);
        let net = layer.after_either_ip(&mut self.nums);
        let then = Layer {
            net,
            link: Link::EtherType(link),
            link_start: net,
            ether: Ether::None,
            depth: layer.depth + 1,
            tag_taken: true,
            walk: layer.walk,
        };
        Ok(Case { node, then })
    }

    fn gre(&mut self, span: &Span, layer: &Layer) -> Result<Case, Error> {
        let node = self.over_ip(&[GRE], span, layer)?;
        let gre = layer.after_either_ip(&mut self.nums);
        let flags = self.nums.load(gre, 2);
        let node = node.and(self.nums.masked_eq(flags, ROUTING_AND_VERSION, 0, span));
        let mut length = self.nums.constant(4);
        for bit in [CHECKSUM, KEY, SEQUENCE] {
            let flag = self.nums.bin_const(ArithOp::Shr, flags, bit);
            let flag = self.nums.bin_const(ArithOp::And, flag, 1);
            let bytes = self.nums.bin_const(ArithOp::Shl, flag, 2);
            length = self.nums.bin(ArithOp::Add, bytes, length);
        }
        let protocol = self.nums.load(after(gre, 2), 2);
        let frame = plus(&mut self.nums, gre, length);
        let then = self.inner_frame(frame, Some(protocol), layer);
        Ok(Case { node, then })
    }

    /// One of these protocols follows the IP header, in a first fragment.
    fn over_ip(&mut self, protocols: &[u32], span: &Span, layer: &Layer) -> Result<Node, Error> {
        let mut legs = vec![];
        for v6 in [false, true] {
            let proto = self.protocol_of(v6, layer);
            let test = Node::In {
                a: proto,
                values: protocols.to_vec(),
                span: span.clone(),
            };
            legs.push(self.behind_ip(v6, test, span, layer)?.0);
        }
        Ok(Node::Or(legs))
    }

    /// The number of the protocol behind the IP header, of either version.
    fn protocol_of_either(&mut self, layer: &Layer) -> NumId {
        let (v4, v6) = (self.protocol_of(false, layer), self.protocol_of(true, layer));
        layer.choose_version(&mut self.nums, v4, v6)
    }
}
