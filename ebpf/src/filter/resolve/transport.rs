//! Ports, and protocols by number.

use super::layer::{LLC_IPX, LLC_ISO, LLC_NETBEUI, LLC_STP, Layer};
use super::{Resolver, either_or_both, ethertype, ip_protocol};
use crate::filter::ast::*;
use crate::filter::tree::{Node, NumId, Place, Walked};
use crate::filter::words::{ETHERTYPES, IP_PROTOCOLS};
use crate::filter::{Error, Transport};
use crate::nearest::nearest;

/// A transport header starts with the source port; the destination port follows.
const SRC_PORT: u32 = 0;
const DST_PORT: u32 = 2;

impl Resolver<'_> {
    /// The IPv4 header's protocol is `number`, in any fragment.
    pub(super) fn ip_proto(&mut self, number: u32, layer: &Layer, span: &Span) -> Result<Node, Error> {
        let carries = self.carries(ethertype("ip"), span, layer)?;
        let proto = layer.load(&mut self.nums, 9, 1);
        Ok(carries.and(self.nums.eq(proto, number, span)))
    }

    /// The IPv6 header's next header is `number`, or that of a fragment header right behind it is.
    pub(super) fn ip6_proto(&mut self, number: u32, layer: &Layer, span: &Span) -> Result<Node, Error> {
        let carries = self.carries(ethertype("ip6"), span, layer)?;
        if layer.walk {
            let proto = self.protocol_of(true, layer);
            return Ok(carries.and(self.nums.eq(proto, number, span)));
        }
        let next = layer.load(&mut self.nums, 6, 1);
        let fragment = self.nums.eq(next, 44, span);
        let behind = layer.load(&mut self.nums, 40, 1);
        let behind = self.nums.eq(behind, number, span);
        let test = self.nums.eq(next, number, span).or(fragment.and(behind));
        Ok(carries.and(test))
    }

    /// Either of them.
    pub(super) fn either_ip_proto(&mut self, number: u32, layer: &Layer, span: &Span) -> Result<Node, Error> {
        let v4 = self.ip_proto(number, layer, span)?;
        Ok(v4.or(self.ip6_proto(number, layer, span)?))
    }

    /// That a transport header of this protocol follows the IP header, and where it starts. In IPv4 only a packet's
    /// first fragment has one; in IPv6 it must follow the fixed header.
    pub(super) fn transport(
        &mut self,
        v6: bool,
        number: u32,
        span: &Span,
        layer: &Layer,
    ) -> Result<(Node, Place), Error> {
        let proto = self.protocol_of(v6, layer);
        let test = self.nums.eq(proto, number, span);
        self.behind_ip(v6, test, span, layer)
    }

    /// The number of the protocol behind the IP header; with [`Layer::walk`], behind IPv6's extension headers.
    pub(super) fn protocol_of(&mut self, v6: bool, layer: &Layer) -> NumId {
        match v6 {
            false => layer.load(&mut self.nums, 9, 1),
            true if layer.walk => layer.walked(&mut self.nums, Walked::Proto),
            true => layer.load(&mut self.nums, 6, 1),
        }
    }

    /// The same with any test on the protocol's number.
    pub(super) fn behind_ip(
        &mut self,
        v6: bool,
        test: Node,
        span: &Span,
        layer: &Layer,
    ) -> Result<(Node, Place), Error> {
        let carries = self.carries(ethertype(if v6 { "ip6" } else { "ip" }), span, layer)?;
        if v6 {
            let mut node = carries.and(test);
            if layer.walk {
                let first = layer.walked(&mut self.nums, Walked::First);
                node = node.and(self.nums.eq(first, 1, span));
            }
            return Ok((node, layer.after_ip6(&mut self.nums)));
        }
        let fragment = layer.load(&mut self.nums, 6, 2);
        let first = self.nums.masked_eq(fragment, 0x1fff, 0, span);
        Ok((carries.and(test).and(first), layer.after_ip(&mut self.nums)))
    }

    pub(super) fn protochain(
        &mut self,
        quals: Quals,
        id: &Id,
        span: &Span,
        layer: &Layer,
    ) -> Result<Node, Error> {
        let wanted = self.ip_proto_id(id, span)?;
        let versions: &[bool] = match quals.proto {
            None => &[false, true],
            Some("ip") => &[false],
            Some("ip6") => &[true],
            Some(proto) => {
                return Err(
                    Error::new(span.clone(), format!("'{proto}' has no chain of headers"))
                        .expected("'protochain', 'ip protochain' or 'ip6 protochain'"),
                );
            }
        };
        let mut legs = vec![];
        for v6 in versions {
            let carries = self.carries(ethertype(if *v6 { "ip6" } else { "ip" }), span, layer)?;
            legs.push(carries.and(Node::Chain {
                v6: *v6,
                net: layer.net,
                wanted,
                span: span.clone(),
            }));
        }
        Ok(match legs.len() {
            1 => legs.remove(0),
            _ => Node::Or(legs),
        })
    }

    /// An IP protocol's number or name.
    fn ip_proto_id(&self, id: &Id, span: &Span) -> Result<u32, Error> {
        let number = match id {
            Id::Num(number) => *number,
            Id::Name(name) => {
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
            _ => {
                return Err(
                    Error::new(span.clone(), "an address is no protocol").expected("a number or a name")
                );
            }
        };
        match number {
            0..=255 => Ok(number),
            _ => Err(Error::new(
                span.clone(),
                format!("an IP protocol's number is at most 255, not {number}"),
            )),
        }
    }

    pub(super) fn proto_number(
        &mut self,
        quals: Quals,
        id: &Id,
        span: &Span,
        layer: &Layer,
    ) -> Result<Node, Error> {
        match quals.proto {
            None => {
                let number = self.ip_proto_id(id, span)?;
                self.either_ip_proto(number, layer, span)
            }
            Some("ip") => {
                let number = self.ip_proto_id(id, span)?;
                self.ip_proto(number, layer, span)
            }
            Some("ip6") => {
                let number = self.ip_proto_id(id, span)?;
                self.ip6_proto(number, layer, span)
            }
            Some("iso") => {
                let number = small_number(id, &[("clnp", 0x81), ("esis", 0x82), ("isis", 0x83)], span)?;
                self.iso_proto(number, span, layer)
            }
            Some("isis") => {
                let number = small_number(id, &[], span)?;
                self.isis_types(&[number], span, layer)
            }
            Some("ether") => {
                let number = ether_proto_id(id, span)?;
                self.carries(number, span, layer)
            }
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
                legs.push(self.port_leg(v6, *transport, quals.dir, (*low, *high), span, layer)?);
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
        if let Some(port) = tcp.filter(|_| tcp == udp) {
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
    ) -> Result<Node, Error> {
        let proto = self.protocol_of(v6, layer);
        let protos = match transport {
            Some(transport) => self.nums.eq(proto, transport as u32, span),
            None => Node::In {
                a: proto,
                values: ["tcp", "udp", "sctp"].map(ip_protocol).to_vec(),
                span: span.clone(),
            },
        };
        let (node, ports) = self.behind_ip(v6, protos, span, layer)?;
        let mut port = |off| {
            let place = Place {
                off: ports.off + off,
                ..ports
            };
            let port = self.nums.load(place, 2);
            self.in_range(port, range, span)
        };
        let (src, dst) = (port(SRC_PORT), port(DST_PORT));
        Ok(node.and(either_or_both(dir, src, dst)))
    }

    fn in_range(&mut self, a: NumId, (low, high): (u32, u32), span: &Span) -> Node {
        if low == high {
            return self.nums.eq(a, low, span);
        }
        let lowest = self.nums.test(Relop::Ge, a, low, span);
        lowest.and(self.nums.test(Relop::Le, a, high, span))
    }
}

/// What `ether proto` takes: an EtherType, or an LLC address below 1500.
fn ether_proto_id(id: &Id, span: &Span) -> Result<u32, Error> {
    match id {
        Id::Num(number) if *number > 0xffff => Err(Error::new(
            span.clone(),
            format!("an EtherType is at most 65535, not {number}"),
        )),
        Id::Num(number) => Ok(*number),
        Id::Name(name) => {
            let ethertype = ETHERTYPES
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, number)| u32::from(*number));
            let llc = LLC_ADDRESSES
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, number)| *number);
            let names = ETHERTYPES.iter().map(|(name, _)| *name);
            ethertype
                .or(llc)
                .ok_or_else(|| unknown("EtherType", name, span, names))
        }
        _ => Err(Error::new(span.clone(), "an address is no protocol").expected("a number or a name")),
    }
}

/// LLC addresses by name.
const LLC_ADDRESSES: [(&str, u32); 4] = [
    ("iso", LLC_ISO),
    ("stp", LLC_STP),
    ("ipx", LLC_IPX),
    ("netbeui", LLC_NETBEUI),
];

/// A number of one byte, or its name.
fn small_number(id: &Id, names: &[(&'static str, u32)], span: &Span) -> Result<u32, Error> {
    match id {
        Id::Num(number) if *number < 256 => Ok(*number),
        Id::Num(number) => Err(Error::new(
            span.clone(),
            format!("this number is at most 255, not {number}"),
        )),
        Id::Name(name) => match names.iter().find(|(known, _)| known == name) {
            Some((_, number)) => Ok(*number),
            None => Err(unknown(
                "protocol",
                name,
                span,
                names.iter().map(|(name, _)| *name),
            )),
        },
        _ => Err(Error::new(span.clone(), "an address is no protocol").expected("a number or a name")),
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
