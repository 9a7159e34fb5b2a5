//! Ports, and protocols by number.

use super::layer::Layer;
use super::{Resolver, either_or_both, ethertype, ip_protocol, later};
use crate::filter::ast::*;
use crate::filter::tree::{Node, NumId, Place};
use crate::filter::words::{ETHERTYPES, IP_PROTOCOLS, nearest};
use crate::filter::{Error, Transport};

/// A transport header starts with the source port; the destination port follows.
const SRC_PORT: u32 = 0;
const DST_PORT: u32 = 2;
/// IPv6 ports are looked for right behind the fixed header.
const IP6_HEADER: u32 = 40;

impl Resolver<'_> {
    /// The IPv4 header's protocol is `number`, in any fragment.
    pub(super) fn ip_proto(&mut self, number: u32, layer: &Layer, span: &Span) -> Node {
        let proto = layer.load(&mut self.nums, 9, 1);
        let test = self.eq(proto, number, span);
        layer.carries(&mut self.nums, ethertype("ip"), span).and(test)
    }

    /// The IPv6 header's next header is `number`, or that of a fragment header right behind it is.
    pub(super) fn ip6_proto(&mut self, number: u32, layer: &Layer, span: &Span) -> Node {
        let next = layer.load(&mut self.nums, 6, 1);
        let fragment = self.eq(next, 44, span);
        let behind = layer.load(&mut self.nums, IP6_HEADER, 1);
        let behind = self.eq(behind, number, span);
        let test = self.eq(next, number, span).or(fragment.and(behind));
        layer.carries(&mut self.nums, ethertype("ip6"), span).and(test)
    }

    pub(super) fn proto_number(
        &mut self,
        quals: Quals,
        id: &Id,
        span: &Span,
        layer: &Layer,
    ) -> Result<Node, Error> {
        let no_number =
            || Err(Error::new(span.clone(), "an address is no protocol").expected("a number or a name"));
        let number = match (id, quals.proto) {
            (Id::Num(n), _) => *n,
            (Id::Name(name), Some("ether")) => match ETHERTYPES.iter().find(|(known, _)| known == name) {
                Some((_, number)) => (*number).into(),
                None => {
                    return Err(unknown(
                        "EtherType",
                        name,
                        span,
                        ETHERTYPES.iter().map(|(name, _)| *name),
                    ));
                }
            },
            (Id::Name(name), _) => {
                let known = IP_PROTOCOLS
                    .iter()
                    .find(|(known, _)| known == name)
                    .map(|(_, number)| *number);
                match known.or_else(|| self.env.names.protocol(name)) {
                    Some(number) => number.into(),
                    None => {
                        return Err(unknown(
                            "protocol",
                            name,
                            span,
                            IP_PROTOCOLS.iter().map(|(name, _)| *name),
                        ));
                    }
                }
            }
            _ => return no_number(),
        };
        if let None | Some("ip" | "ip6") = quals.proto
            && number > 255
        {
            return Err(Error::new(
                span.clone(),
                format!("an IP protocol's number is at most 255, not {number}"),
            ));
        }
        match quals.proto {
            None => {
                let v4 = self.ip_proto(number, layer, span);
                Ok(v4.or(self.ip6_proto(number, layer, span)))
            }
            Some("ip") => Ok(self.ip_proto(number, layer, span)),
            Some("ip6") => Ok(self.ip6_proto(number, layer, span)),
            Some("ether") if number > 0xffff => Err(Error::new(
                span.clone(),
                format!("an EtherType is at most 65535, not {number}"),
            )),
            Some("ether") if number > 1500 => Ok(layer.carries(&mut self.nums, number, span)),
            Some("ether") => Err(later(span, "'ether proto' for 802.2 LLC")),
            Some(proto) => Err(
                Error::new(span.clone(), format!("'{proto}' carries no protocol number"))
                    .expected("'ip proto', 'ip6 proto' or 'ether proto'"),
            ),
        }
    }

    pub(super) fn port(&mut self, quals: Quals, id: &Id, span: &Span, layer: &Layer) -> Result<Node, Error> {
        let transport = match quals.proto {
            None => None,
            Some("tcp") => Some(Transport::Tcp),
            Some("udp") => Some(Transport::Udp),
            Some("sctp") => Some(Transport::Sctp),
            Some(proto) => {
                return Err(
                    Error::new(span.clone(), format!("'{proto}' has no ports")).expected("tcp, udp or sctp")
                );
            }
        };
        let range = quals.kind == Some(Kind::PortRange);
        // Per transport protocol, or for all of them: lowest and highest port.
        let ranges = match id {
            Id::Num(n) => {
                let n = port_number(*n, span)?;
                vec![(transport, n, n)]
            }
            Id::Name(name) => match name.split_once('-') {
                Some((low, high)) if range => {
                    let low = self.one_port(low, transport, span)?;
                    let high = self.one_port(high, transport, span)?;
                    vec![(transport, low.min(high), low.max(high))]
                }
                _ => self.services(name, transport, span)?,
            },
            _ => {
                return Err(
                    Error::new(span.clone(), "an address is no port").expected("a port's number or name")
                );
            }
        };
        let mut legs = vec![];
        for v6 in [true, false] {
            for (transport, low, high) in &ranges {
                legs.push(self.port_leg(v6, *transport, quals.dir, (*low, *high), span, layer));
            }
        }
        Ok(match legs.len() {
            1 => legs.remove(0),
            _ => Node::Or(legs),
        })
    }

    /// One end of a range: a number or a service's name.
    fn one_port(&mut self, text: &str, transport: Option<Transport>, span: &Span) -> Result<u32, Error> {
        if text.starts_with(|c: char| c.is_ascii_digit()) && text.bytes().all(|b| b.is_ascii_digit()) {
            let n = text
                .parse()
                .map_err(|_| Error::new(span.clone(), format!("{text} is no port")))?;
            return port_number(n, span);
        }
        let services = self.services(text, transport, span)?;
        let (_, port, _) = services[0];
        match services.iter().all(|(_, p, _)| *p == port) {
            true => Ok(port),
            false => Err(Error::new(
                span.clone(),
                format!("'{}' names several ports", text.escape_debug()),
            )),
        }
    }

    /// The ports of a service's name. What TCP and UDP agree on holds for every transport protocol.
    fn services(
        &mut self,
        name: &str,
        wanted: Option<Transport>,
        span: &Span,
    ) -> Result<Vec<(Option<Transport>, u32, u32)>, Error> {
        let mut found = self.env.names.service(name);
        found.sort_by_key(|(port, transport)| (*transport, *port));
        found.dedup();
        let shown = name.escape_debug();
        if found.is_empty() {
            return Err(Error::new(span.clone(), format!("unknown port '{shown}'")).suggest("use its number"));
        }
        let of = |transport| {
            found
                .iter()
                .find(|(_, t)| *t == transport)
                .map(|(port, _)| u32::from(*port))
        };
        let (tcp, udp) = (of(Transport::Tcp), of(Transport::Udp));
        if tcp.is_some() && tcp == udp {
            let port = tcp.expect("just seen");
            return Ok(vec![(wanted, port, port)]);
        }
        let ranges: Vec<_> = found
            .iter()
            .filter(|(_, transport)| wanted.is_none_or(|wanted| wanted == *transport))
            .map(|(port, transport)| (Some(*transport), u32::from(*port), u32::from(*port)))
            .collect();
        if ranges.is_empty() {
            let is = match found[0].1 {
                Transport::Tcp => "tcp",
                Transport::Udp => "udp",
                Transport::Sctp => "sctp",
            };
            let error = Error::new(span.clone(), format!("the port '{shown}' is {is}'s"));
            return Err(error.suggest(format!("write '{is} port {shown}', or use its number")));
        }
        Ok(ranges)
    }

    /// Ports over one version of IP.
    fn port_leg(
        &mut self,
        v6: bool,
        transport: Option<Transport>,
        dir: Option<Dir>,
        range: (u32, u32),
        span: &Span,
        layer: &Layer,
    ) -> Node {
        let proto = layer.load(&mut self.nums, if v6 { 6 } else { 9 }, 1);
        let protos = match transport {
            Some(transport) => self.eq(proto, transport as u32, span),
            None => Node::In {
                a: proto,
                values: ["tcp", "udp", "sctp"].map(ip_protocol).to_vec(),
                span: span.clone(),
            },
        };
        let carries = layer.carries(&mut self.nums, ethertype(if v6 { "ip6" } else { "ip" }), span);
        let mut node = carries.and(protos);
        let ports = if v6 {
            Place {
                off: layer.net.off + IP6_HEADER,
                ..layer.net
            }
        } else {
            node = node.and(self.first_fragment(layer, span));
            layer.after_ip(&mut self.nums)
        };
        let mut port = |off| {
            let place = Place {
                off: ports.off + off,
                ..ports
            };
            let port = self.nums.load(place, 2);
            self.in_range(port, range, span)
        };
        let (src, dst) = (port(SRC_PORT), port(DST_PORT));
        node.and(either_or_both(dir, src, dst))
    }

    /// Not a later fragment of an IPv4 packet: only the first has a transport header.
    pub(super) fn first_fragment(&mut self, layer: &Layer, span: &Span) -> Node {
        let flags = layer.load(&mut self.nums, 6, 2);
        let mask = self.nums.constant(0x1fff);
        let offset = self.nums.bin(ArithOp::And, flags, mask);
        self.eq(offset, 0, span)
    }

    fn in_range(&mut self, a: NumId, (low, high): (u32, u32), span: &Span) -> Node {
        if low == high {
            return self.eq(a, low, span);
        }
        let mut test = |op, value| Node::Test {
            op,
            a,
            b: self.nums.constant(value),
            span: span.clone(),
        };
        test(Relop::Ge, low).and(test(Relop::Le, high))
    }
}

fn port_number(n: u32, span: &Span) -> Result<u32, Error> {
    match n {
        0..=65535 => Ok(n),
        n => Err(Error::new(
            span.clone(),
            format!("a port is at most 65535, not {n}"),
        )),
    }
}

fn unknown(what: &str, name: &str, span: &Span, names: impl Iterator<Item = &'static str>) -> Error {
    let error = Error::new(span.clone(), format!("unknown {what} '{}'", name.escape_debug()));
    match nearest(name, names) {
        Some(name) => error.suggest(format!("did you mean '{name}'?")),
        None => error.suggest("use its number"),
    }
}
