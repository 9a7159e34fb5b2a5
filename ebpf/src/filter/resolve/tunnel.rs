//! `inner (…)`: the packet inside a tunnel, whichever tunnel it is: IP in IP, GRE, VXLAN or Geneve.

use super::encap::after;
use super::layer::{Ether, Layer, Link, plus};
use super::{Case, Resolver};
use crate::filter::Error;
use crate::filter::ast::*;
use crate::filter::tree::{Node, NumId};

/// IP protocols.
const IPV4: u32 = 4;
const IPV6: u32 = 41;
const GRE: u32 = 47;
/// Bits of GRE's first 16 (RFC 2784, RFC 2890): each of the first three means four more bytes. Routing is obsolete.
const CHECKSUM: u32 = 15;
const KEY: u32 = 13;
const SEQUENCE: u32 = 12;
const ROUTING_AND_VERSION: u32 = 1 << 14 | 7;

impl Resolver<'_> {
    /// The packet at `layer` is a tunnel's, and `ast` holds for the one inside. What follows is about the outer one.
    pub(super) fn inner(&mut self, ast: &Ast, span: &Span, layer: &Layer) -> Result<Node, Error> {
        let tunnels = [
            self.ip_in_ip(span, layer)?,
            self.gre(span, layer)?,
            self.encap(Encap::Vxlan, None, span, layer)?,
            self.encap(Encap::Geneve, None, span, layer)?,
        ];
        let mut legs = vec![];
        for tunnel in tunnels {
            let inside = super::any(self.condition(ast, &tunnel.then)?);
            self.count(&tunnel.node)?;
            legs.push(tunnel.node.and(inside));
        }
        Ok(Node::Or(legs))
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
            ether: Ether::Absent,
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
