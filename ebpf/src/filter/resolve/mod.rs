//! [`Ast`] to a tree of tests: what each word means, in the order in which libpcap's unoptimised code tests it.
//!
//! A condition is read on a [`Layer`]: where the network header is that it speaks of, and how its protocol is known.
//! `vlan` and its like lead from one layer to the next.

mod address;
mod layer;
mod transport;

use super::ast::*;
use super::tree::{Node, NumId, Nums};
use super::view::Field;
use super::words::{ETHERTYPES, IP_PROTOCOLS};
use super::{Env, Error};
use layer::Layer;

/// How often `and` and `or` may take turns: each turn nests the tests one deeper.
const MAX_TURNS: usize = 200;
/// How many tests a filter may resolve to.
const MAX_TESTS: usize = 4096;

/// A resolved filter.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    pub root: Node,
    pub nums: Nums,
}

/// Resolve a filter.
pub(super) fn resolve(ast: &Ast, env: &Env<'_>) -> Result<Resolved, Error> {
    let mut resolver = Resolver {
        env,
        nums: Nums::default(),
        turns: 0,
        tests: 0,
    };
    let layer = Layer::outer();
    let root = resolver.condition(ast, &layer)?;
    Ok(Resolved {
        root,
        nums: resolver.nums,
    })
}

struct Resolver<'a> {
    env: &'a Env<'a>,
    nums: Nums,
    turns: usize,
    tests: usize,
}

impl Resolver<'_> {
    fn condition(&mut self, ast: &Ast, layer: &Layer) -> Result<Node, Error> {
        let node = match ast {
            Ast::All => Node::Const(true),
            Ast::Chain(first, rest) => return self.chain(first, rest, layer),
            Ast::Not(inner) => return Ok(Node::Not(Box::new(self.condition(inner, layer)?))),
            Ast::Primitive { quals, id, span } => self.primitive(*quals, id, span, layer)?,
            Ast::Protocol(proto, span) => self.protocol(proto, span, layer)?,
            Ast::Relation { span, .. } => return Err(later(span, "arithmetic")),
            Ast::Broadcast(_, span) => return Err(later(span, "'broadcast'")),
            Ast::Multicast(_, span) => return Err(later(span, "'multicast'")),
            Ast::Encap(_, _, span) => return Err(later(span, "looking into encapsulations")),
            Ast::Outbound(_, span) => return Err(later(span, "the packet's direction")),
            Ast::IfIndex(_, span) | Ast::IfName(_, span) => {
                return Err(later(span, "the packet's interface"));
            }
        };
        self.tests += node.measure().0;
        if self.tests > MAX_TESTS {
            return Err(Error::new(
                0..0,
                format!("the filter needs more than {MAX_TESTS} tests"),
            ));
        }
        Ok(node)
    }

    fn chain(&mut self, first: &Ast, rest: &[(Joint, Ast)], layer: &Layer) -> Result<Node, Error> {
        let mut node = self.condition(first, layer)?;
        let mut last = None;
        for (joint, ast) in rest {
            let right = self.condition(ast, layer)?;
            if last.is_some_and(|last| last != *joint) {
                self.turns += 1;
            }
            if self.turns > MAX_TURNS {
                return Err(
                    Error::new(0..0, "'and' and 'or' take turns too often").suggest("use parentheses")
                );
            }
            last = Some(*joint);
            node = match joint {
                Joint::And => node.and(right),
                Joint::Or => node.or(right),
            };
        }
        Ok(node)
    }

    /// A protocol's name alone.
    fn protocol(&mut self, proto: &'static str, span: &Span, layer: &Layer) -> Result<Node, Error> {
        match proto {
            "ip" | "ip6" | "arp" | "rarp" | "decnet" | "lat" | "sca" | "moprc" | "mopdl" => {
                Ok(layer.carries(&mut self.nums, ethertype(proto), span))
            }
            "tcp" | "udp" | "sctp" | "ah" | "esp" | "pim" => {
                let number = ip_protocol(proto);
                let v4 = self.ip_proto(number, layer, span);
                Ok(v4.or(self.ip6_proto(number, layer, span)))
            }
            "icmp" | "igmp" | "igrp" | "vrrp" | "carp" => Ok(self.ip_proto(ip_protocol(proto), layer, span)),
            "icmp6" => Ok(self.ip6_proto(58, layer, span)),
            "ether" => Err(Error::new(span.clone(), "'ether' alone says nothing")
                .expected("'ether host', 'ether proto' or 'ether[OFFSET]'")),
            _ => Err(later(span, &format!("'{proto}'"))),
        }
    }

    fn primitive(&mut self, quals: Quals, id: &Id, span: &Span, layer: &Layer) -> Result<Node, Error> {
        match quals.kind {
            None | Some(Kind::Host | Kind::Net) => self.address(quals, id, span, layer),
            Some(Kind::Port | Kind::PortRange) => self.port(quals, id, span, layer),
            Some(Kind::Proto) => self.proto_number(quals, id, span, layer),
            Some(Kind::ProtoChain) => Err(later(span, "'protochain'")),
        }
    }

    /// `a == value`.
    fn eq(&mut self, a: NumId, value: u32, span: &Span) -> Node {
        let b = self.nums.constant(value);
        Node::Test {
            op: Relop::Eq,
            a,
            b,
            span: span.clone(),
        }
    }
}

/// The two addresses or ports that a direction means, as conditions on each.
fn either_or_both(dir: Option<Dir>, src: Node, dst: Node) -> Node {
    match dir {
        Some(Dir::Src) => src,
        Some(Dir::Dst) => dst,
        None | Some(Dir::Either) => src.or(dst),
        Some(Dir::Both) => src.and(dst),
    }
}

/// The EtherType of a protocol's keyword.
fn ethertype(proto: &str) -> u32 {
    let (_, number) = ETHERTYPES
        .iter()
        .find(|(name, _)| *name == proto)
        .expect("a keyword with an EtherType");
    (*number).into()
}

/// The number of an IP protocol's keyword.
fn ip_protocol(proto: &str) -> u32 {
    let (_, number) = IP_PROTOCOLS
        .iter()
        .find(|(name, _)| *name == proto)
        .expect("a keyword with a number");
    (*number).into()
}

/// For what can be parsed but not compiled yet.
fn later(span: &Span, what: &str) -> Error {
    Error::new(span.clone(), format!("{what} can't be compiled yet"))
}

/// The fields that stand for a number.
#[allow(dead_code)] // used once metadata terms are resolved
fn field(nums: &mut Nums, field: Field) -> NumId {
    nums.intern(super::tree::Num::Field(field))
}
