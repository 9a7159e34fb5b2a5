//! Hosts and networks.

use std::net::{IpAddr, Ipv6Addr};

use super::layer::{Layer, Link};
use super::{Resolver, either_or_both, ethertype};
use crate::filter::Error;
use crate::filter::ast::*;
use crate::filter::tree::Node;

/// As many addresses of one name and family are looked for.
const MAX_ADDRESSES: usize = 100;

/// Offsets of the source and the destination address in an IPv4 header, and in an ARP packet.
const IP_ADDRESSES: (u32, u32) = (12, 16);
const ARP_ADDRESSES: (u32, u32) = (14, 24);
/// The same in an IPv6 header.
const IP6_ADDRESSES: (u32, u32) = (8, 24);

impl Resolver<'_> {
    pub(super) fn address(
        &mut self,
        quals: Quals,
        id: &Id,
        span: &Span,
        layer: &Layer,
    ) -> Result<Node, Error> {
        if let Some(proto) = quals.proto
            && !matches!(proto, "ip" | "ip6" | "arp" | "rarp")
        {
            let error = Error::new(span.clone(), format!("'{proto}' has no addresses of its own"));
            return Err(error.suggest(format!("write '{proto} and host …'")));
        }
        let net = quals.kind == Some(Kind::Net);
        match id {
            Id::Num(n) => {
                let (mut addr, mut mask) = (*n, u32::MAX);
                while net && addr != 0 && addr >> 24 == 0 {
                    addr <<= 8;
                    mask <<= 8;
                }
                self.v4(quals, addr, mask, span, layer)
            }
            Id::V4(text) => {
                let (addr, bits) = dotted(text, span)?;
                // Fewer than four numbers are a network, after `host` too.
                let addr = addr << (32 - bits);
                self.v4(quals, addr, prefix_mask(bits), span, layer)
            }
            Id::V4Prefix(text, len) => {
                let (addr, bits) = dotted(text, span)?;
                if *len > 32 {
                    return Err(Error::new(
                        span.clone(),
                        format!("an IPv4 prefix has at most 32 bits, not {len}"),
                    ));
                }
                self.v4_net(quals, addr << (32 - bits), prefix_mask(*len), span, layer)
            }
            Id::V4Mask(text, mask) => {
                let (addr, bits) = dotted(text, span)?;
                let (mask, mask_bits) = dotted(mask, span)?;
                self.v4_net(quals, addr << (32 - bits), mask << (32 - mask_bits), span, layer)
            }
            Id::V6(addr) => self.v6(quals, *addr, 128, span, layer),
            Id::V6Prefix(addr, len) => {
                if *len > 128 {
                    return Err(Error::new(
                        span.clone(),
                        format!("an IPv6 prefix has at most 128 bits, not {len}"),
                    ));
                }
                if !net && *len != 128 {
                    return Err(
                        Error::new(span.clone(), "a prefix makes this a network").suggest("write 'net …'")
                    );
                }
                let outside = u128::from(*addr) & !prefix_mask6(*len);
                if outside != 0 {
                    let fixed = Ipv6Addr::from(u128::from(*addr) & prefix_mask6(*len));
                    let error = Error::new(span.clone(), "the address has bits outside of the prefix");
                    return Err(error.suggest(format!("write '{fixed}/{len}' or 'host {addr}'")));
                }
                self.v6(quals, *addr, *len, span, layer)
            }
            Id::Mac(_) => {
                Err(Error::new(span.clone(), "this is an Ethernet address").suggest("write 'ether host …'"))
            }
            Id::Name(name) if net => match self.env.names.network(name) {
                Some((addr, mask)) => self.v4(quals, addr & mask, mask, span, layer),
                None => Err(Error::new(
                    span.clone(),
                    format!("unknown network '{}'", name.escape_debug()),
                )),
            },
            Id::Name(name) => self.name(quals, name, span, layer),
        }
    }

    /// A host by name: any of its addresses.
    fn name(&mut self, quals: Quals, name: &str, span: &Span, layer: &Layer) -> Result<Node, Error> {
        let mut addresses = self.env.names.host(name);
        addresses.sort();
        addresses.dedup();
        let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.into_iter().partition(IpAddr::is_ipv4);
        let known = !v4.is_empty() || !v6.is_empty();
        let wanted = match quals.proto {
            Some("ip6") => (0, MAX_ADDRESSES),
            Some(_) => (MAX_ADDRESSES, 0),
            None => (MAX_ADDRESSES, MAX_ADDRESSES),
        };
        let mut any = None;
        for address in v4.into_iter().take(wanted.0).chain(v6.into_iter().take(wanted.1)) {
            let node = match address {
                IpAddr::V4(addr) => self.v4(quals, addr.into(), u32::MAX, span, layer)?,
                IpAddr::V6(addr) => self.v6(quals, addr, 128, span, layer)?,
            };
            any = Some(match any {
                None => node,
                Some(nodes) => Node::or(nodes, node),
            });
        }
        let name = name.escape_debug();
        any.ok_or_else(|| match (known, quals.proto) {
            (true, Some(proto)) => Error::new(
                span.clone(),
                format!("host '{name}' has no address for '{proto}'"),
            ),
            _ => Error::new(span.clone(), format!("unknown host '{name}'"))
                .suggest("check the name, or use an address"),
        })
    }

    /// An IPv4 network that was written as one.
    fn v4_net(
        &mut self,
        quals: Quals,
        addr: u32,
        mask: u32,
        span: &Span,
        layer: &Layer,
    ) -> Result<Node, Error> {
        if addr & !mask != 0 {
            let fixed = std::net::Ipv4Addr::from(addr & mask);
            let error = Error::new(span.clone(), "the address has bits outside of the mask");
            return Err(match mask.count_zeros() == mask.trailing_zeros() {
                true => error.suggest(format!(
                    "write 'net {fixed}/{}' or 'host {}'",
                    mask.count_ones(),
                    std::net::Ipv4Addr::from(addr)
                )),
                false => error.suggest(format!("the network's address would be {fixed}")),
            });
        }
        if quals.kind != Some(Kind::Net) {
            return Err(
                Error::new(span.clone(), "a mask or a prefix makes this a network").suggest("write 'net …'"),
            );
        }
        self.v4(quals, addr, mask, span, layer)
    }

    /// IPv4 addresses in IPv4 headers and in ARP and RARP packets.
    fn v4(&mut self, quals: Quals, addr: u32, mask: u32, span: &Span, layer: &Layer) -> Result<Node, Error> {
        let protos: &[&str] = match quals.proto {
            // Behind an MPLS label there is only IP.
            None if matches!(layer.link, Link::Mpls { .. }) => &["ip"],
            None => &["ip", "arp", "rarp"],
            Some("ip") => &["ip"],
            Some("arp") => &["arp"],
            Some("rarp") => &["rarp"],
            Some(proto) => {
                return Err(Error::new(
                    span.clone(),
                    format!("an IPv4 address can't stand after '{proto}'"),
                ));
            }
        };
        let mut any = None;
        for proto in protos {
            let (src, dst) = if *proto == "ip" {
                IP_ADDRESSES
            } else {
                ARP_ADDRESSES
            };
            let mut matches = |off| {
                let address = layer.load(&mut self.nums, off, 4);
                self.nums.masked_eq(address, mask, addr, span)
            };
            let (src, dst) = (matches(src), matches(dst));
            let node = self
                .carries(ethertype(proto), span, layer)?
                .and(either_or_both(quals.dir, src, dst));
            any = Some(match any {
                None => node,
                Some(nodes) => Node::or(nodes, node),
            });
        }
        Ok(any.expect("at least one protocol"))
    }

    /// IPv6 addresses in IPv6 headers.
    fn v6(
        &mut self,
        quals: Quals,
        addr: Ipv6Addr,
        len: u32,
        span: &Span,
        layer: &Layer,
    ) -> Result<Node, Error> {
        if let Some(proto) = quals.proto
            && proto != "ip6"
        {
            return Err(Error::new(
                span.clone(),
                format!("an IPv6 address can't stand after '{proto}'"),
            ));
        }
        let addr = u128::from(addr);
        let mask = prefix_mask6(len);
        let mut matches = |off| {
            let words = (0..4).map(|i| {
                let shift = 96 - 32 * i;
                let word = layer.load(&mut self.nums, off + 4 * i, 4);
                self.nums
                    .masked_eq(word, (mask >> shift) as u32, (addr >> shift) as u32, span)
            });
            Node::And(words.collect())
        };
        let (src, dst) = (matches(IP6_ADDRESSES.0), matches(IP6_ADDRESSES.1));
        Ok(self
            .carries(ethertype("ip6"), span, layer)?
            .and(either_or_both(quals.dir, src, dst)))
    }
}

/// The value of dotted decimal numbers, each below 256, and how many bits they give.
fn dotted(text: &str, span: &Span) -> Result<(u32, u32), Error> {
    let mut value: u32 = 0;
    let mut bits = 0;
    for part in text.split('.') {
        let byte: u8 = part.parse().map_err(|_| {
            Error::new(
                span.clone(),
                format!("'{part}' can't be a part of an IPv4 address"),
            )
            .expected("0 to 255")
        })?;
        value = value << 8 | u32::from(byte);
        bits += 8;
    }
    Ok((value, bits))
}

fn prefix_mask(len: u32) -> u32 {
    u32::MAX.checked_shl(32 - len).unwrap_or(0)
}

fn prefix_mask6(len: u32) -> u128 {
    u128::MAX.checked_shl(128 - len).unwrap_or(0)
}
