//! [`Ast`] to a tree of tests: what each word means, in the order in which libpcap's unoptimised code tests it.
//!
//! A condition is read on a [`Layer`]: where the network header is that it speaks of, and how its protocol is known.
//! `vlan` and its like lead from one layer to the next, for what is joined to them by `and`. In libpcap they do so for
//! all that follows in the text; [`Env::pcap_compat`] asks for that.

mod address;
mod encap;
mod index;
mod kernel;
mod layer;
mod link;
mod transport;
mod tunnel;

use std::collections::BTreeSet;

use super::ast::*;
use super::tree::{Node, Nums};
use super::view::Field;
use super::words::{ETHERTYPES, IP_PROTOCOLS};
use super::{Env, Error, Notice, uses};
use layer::Layer;

/// How often `and` and `or` may take turns: each turn nests the tests one deeper.
const MAX_TURNS: usize = 200;
/// How many tests a filter may resolve to.
const MAX_TESTS: usize = 4096;
/// In how many layers what follows may have to be looked for.
const MAX_CASES: usize = 8;

/// A resolved filter.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    pub root: Node,
    pub nums: Nums,
    /// What it may ask the view for.
    pub fields: BTreeSet<Field>,
    pub notices: Vec<Notice>,
}

/// Resolve a filter.
pub(super) fn resolve(ast: &Ast, env: &Env<'_>) -> Result<Resolved, Error> {
    let mut nums = Nums::default();
    let layer = Layer::outer(&mut nums);
    let mut resolver = Resolver {
        env,
        nums,
        notices: vec![],
        turns: 0,
        tests: 0,
        depth_in_pcap: 0,
    };
    let cases = resolver.condition(ast, &layer)?;
    let root = any(cases);
    Ok(Resolved {
        fields: uses::fields(&root, &resolver.nums),
        root,
        nums: resolver.nums,
        notices: resolver.notices,
    })
}

/// A way for a condition to hold, and the layer that what is joined to it by `and` speaks of then.
struct Case {
    node: Node,
    then: Layer,
}

/// The condition that one of the cases holds.
fn any(cases: Vec<Case>) -> Node {
    cases
        .into_iter()
        .map(|case| case.node)
        .reduce(Node::or)
        .expect("a condition has at least one case")
}

struct Resolver<'a> {
    env: &'a Env<'a>,
    nums: Nums,
    notices: Vec<Notice>,
    turns: usize,
    tests: usize,
    /// How many encapsulations libpcap would be inside of at this place of the text.
    depth_in_pcap: u32,
}

impl Resolver<'_> {
    fn condition(&mut self, ast: &Ast, layer: &Layer) -> Result<Vec<Case>, Error> {
        let node = match ast {
            Ast::Chain(first, rest) => return self.chain(first, rest, layer),
            Ast::Not(inner) => {
                let cases = self.condition(inner, layer)?;
                let then = match &cases[..] {
                    [case] if self.env.pcap_compat => case.then,
                    _ => *layer,
                };
                let node = Node::Not(Box::new(any(cases)));
                return Ok(vec![Case { node, then }]);
            }
            Ast::Encap(encap, number, span) => {
                self.check_scope(span, layer);
                let case = self.encap(*encap, *number, span, layer)?;
                self.count(&case.node)?;
                self.depth_in_pcap = self.depth_in_pcap.max(case.then.depth);
                return Ok(vec![case]);
            }
            Ast::All => Node::Const(true),
            Ast::Primitive { quals, id, span } => {
                self.check_scope(span, layer);
                self.primitive(*quals, id, span, layer)?
            }
            Ast::Protocol(proto, span) => {
                self.check_scope(span, layer);
                self.protocol(proto, span, layer)?
            }
            Ast::Broadcast(proto, span) => self.broadcast(*proto, span, layer)?,
            Ast::Multicast(proto, span) => self.multicast(*proto, span, layer)?,
            Ast::Relation { op, lhs, rhs, span } => self.relation(*op, lhs, rhs, span, layer)?,
            Ast::Outbound(outbound, span) => {
                let op = if *outbound { Relop::Eq } else { Relop::Ne };
                let kind = self.nums.field(Field::PacketType);
                self.nums.test(op, kind, PACKET_OUTGOING, span)
            }
            Ast::IfIndex(index, span) => {
                let field = self.nums.field(Field::IfIndex);
                self.nums.eq(field, *index, span)
            }
            Ast::IfName(name, span) => {
                let Some(index) = self.env.names.interface(name) else {
                    let name = name.escape_debug();
                    return Err(Error::new(
                        span.clone(),
                        format!("no network interface is called '{name}'"),
                    ));
                };
                let field = self.nums.field(Field::IfIndex);
                self.nums.eq(field, index, span)
            }
            Ast::Inner(inside, span) => {
                let node = self.inner(inside, span, layer)?;
                return Ok(vec![Case { node, then: *layer }]);
            }
            Ast::Ext(inside) => {
                let walking = Layer { walk: true, ..*layer };
                let cases = self.condition(inside, &walking)?;
                // What is joined to it has its own way with extension headers.
                let mut out = vec![];
                for Case { node, then } in cases {
                    let walk = layer.walk;
                    add_case(&mut out, node, Layer { walk, ..then });
                }
                return Ok(out);
            }
            Ast::KernelText {
                path,
                negated,
                text,
                span,
            } => self.kernel_text(path, *negated, text, span)?,
            Ast::Whose {
                whose,
                negated,
                value,
                span,
            } => self.whose(*whose, *negated, value, span)?,
        };
        self.count(&node)?;
        Ok(vec![Case { node, then: *layer }])
    }

    fn chain(&mut self, first: &Ast, rest: &[(Joint, Ast)], layer: &Layer) -> Result<Vec<Case>, Error> {
        let mut cases = self.condition(first, layer)?;
        let mut last = None;
        for (joint, ast) in rest {
            if last.is_some_and(|last| last != *joint) {
                self.turns += 1;
            }
            if self.turns > MAX_TURNS {
                return Err(
                    Error::new(0..0, "'and' and 'or' take turns too often").suggest("use parentheses")
                );
            }
            last = Some(*joint);
            let mut joined = vec![];
            match joint {
                Joint::And => {
                    for left in cases {
                        for right in self.condition(ast, &left.then)? {
                            let node = left.node.clone().and(right.node);
                            add_case(&mut joined, node, right.then);
                        }
                    }
                }
                Joint::Or => {
                    let before = match &cases[..] {
                        [case] if self.env.pcap_compat => case.then,
                        _ => *layer,
                    };
                    let right = self.condition(ast, &before)?;
                    for case in cases.into_iter().chain(right) {
                        add_case(&mut joined, case.node, case.then);
                    }
                    if self.env.pcap_compat
                        && let Some(then) = joined.last().map(|case| case.then)
                    {
                        joined = vec![Case {
                            node: any(joined),
                            then,
                        }];
                    }
                }
            }
            if joined.len() > MAX_CASES {
                return Err(Error::new(
                    0..0,
                    "what follows could be inside of too many encapsulations",
                ));
            }
            cases = joined;
        }
        Ok(cases)
    }

    /// Refuse what would be too large a program.
    fn count(&mut self, node: &Node) -> Result<(), Error> {
        self.tests += node.measure().0;
        match self.tests {
            0..=MAX_TESTS => Ok(()),
            _ => Err(Error::new(
                0..0,
                format!("the filter needs more than {MAX_TESTS} tests"),
            )),
        }
    }

    /// Say so where libpcap would look into another layer.
    fn check_scope(&mut self, span: &Span, layer: &Layer) {
        if !self.env.pcap_compat && layer.depth < self.depth_in_pcap && self.notices.is_empty() {
            self.notices.push(Notice {
                span: span.clone(),
                message: "this is not joined by 'and' to the encapsulation before it, so it is about the packet outside \
                          of that; tcpdump would look inside"
                    .into(),
            });
        }
    }

    /// A protocol's name alone.
    fn protocol(&mut self, proto: &'static str, span: &Span, layer: &Layer) -> Result<Node, Error> {
        match proto {
            "tcp" | "udp" | "sctp" | "ah" | "esp" | "pim" => {
                self.either_ip_proto(ip_protocol(proto), layer, span)
            }
            "icmp" | "igmp" | "igrp" | "vrrp" | "carp" => self.ip_proto(ip_protocol(proto), layer, span),
            "icmp6" => self.ip6_proto(58, layer, span),
            _ => self.link_protocol(proto, span, layer),
        }
    }

    fn primitive(&mut self, quals: Quals, id: &Id, span: &Span, layer: &Layer) -> Result<Node, Error> {
        match quals.kind {
            None | Some(Kind::Host | Kind::Net) if quals.proto == Some("ether") => {
                self.ether_address(quals, id, span, layer)
            }
            None | Some(Kind::Host | Kind::Net) => self.address(quals, id, span, layer),
            Some(Kind::Port | Kind::PortRange) => self.port(quals, id, span, layer),
            Some(Kind::Proto) => self.proto_number(quals, id, span, layer),
            Some(Kind::ProtoChain) => self.protochain(quals, id, span, layer),
        }
    }

    /// The network header at hand is of this EtherType or LLC address.
    fn carries(&mut self, protocol: u32, span: &Span, layer: &Layer) -> Result<Node, Error> {
        layer.carries(&mut self.nums, protocol, span).ok_or_else(|| {
            Error::new(
                span.clone(),
                "behind an MPLS label only IPv4 and IPv6 can be told",
            )
            .expected("'ip' or 'ip6'")
        })
    }
}

/// `PACKET_OUTGOING` of `linux/if_packet.h`.
const PACKET_OUTGOING: u32 = 4;

fn add_case(cases: &mut Vec<Case>, node: Node, then: Layer) {
    match cases.iter_mut().find(|case| case.then == then) {
        Some(case) => {
            let known = std::mem::replace(&mut case.node, Node::Const(false));
            case.node = known.or(node);
        }
        None => cases.push(Case { node, then }),
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
