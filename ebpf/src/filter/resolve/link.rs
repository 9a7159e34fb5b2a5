//! The link layer: Ethernet addresses, broadcast and multicast, protocols that stand right behind it.

use super::layer::{Ether, LLC_IPX, LLC_ISO, LLC_NETBEUI, LLC_STP, Layer, Link};
use super::{Resolver, either_or_both, ethertype};
use crate::filter::Error;
use crate::filter::ast::*;
use crate::filter::tree::{Node, Place, Window};
use crate::filter::view::Field;

/// Offsets in an Ethernet header.
const DST: u32 = 0;
const SRC: u32 = 6;

/// Protocols that ISO's network layer tells by its first byte.
const CLNP: u32 = 0x81;
const ESIS: u32 = 0x82;
const ISIS: u32 = 0x83;

/// The types of an IS-IS packet that each keyword means (ISO 10589).
const ISIS_TYPES: [(&str, &[u32]); 7] = [
    ("l1", &[15, 17, 18, 24, 26]),
    ("l2", &[16, 17, 20, 25, 27]),
    ("iih", &[15, 16, 17]),
    ("lsp", &[18, 20]),
    ("snp", &[24, 25, 26, 27]),
    ("csnp", &[24, 25]),
    ("psnp", &[26, 27]),
];

impl Resolver<'_> {
    /// The keyword of a protocol that is no IP protocol.
    pub(super) fn link_protocol(
        &mut self,
        proto: &'static str,
        span: &Span,
        layer: &Layer,
    ) -> Result<Node, Error> {
        match proto {
            "ether" => Err(Error::new(span.clone(), "'ether' alone says nothing")
                .expected("'ether host', 'ether proto' or 'ether[OFFSET]'")),
            "radio" => Err(Error::new(
                span.clone(),
                "'radio' is about 802.11 frames, which ktrail doesn't read",
            )),
            "iso" => self.carries(LLC_ISO, span, layer),
            "stp" => self.carries(LLC_STP, span, layer),
            "ipx" => self.carries(LLC_IPX, span, layer),
            "netbeui" => self.carries(LLC_NETBEUI, span, layer),
            "clnp" => self.iso_proto(CLNP, span, layer),
            "esis" => self.iso_proto(ESIS, span, layer),
            "isis" => self.iso_proto(ISIS, span, layer),
            _ => match ISIS_TYPES.iter().find(|(name, _)| *name == proto) {
                Some((_, types)) => self.isis_types(types, span, layer),
                None => self.carries(ethertype(proto), span, layer),
            },
        }
    }

    /// An ISO network protocol. Behind Ethernet three bytes of LLC come first.
    pub(super) fn iso_proto(&mut self, number: u32, span: &Span, layer: &Layer) -> Result<Node, Error> {
        let node = self.carries(LLC_ISO, span, layer)?;
        let first = layer.load(&mut self.nums, iso_header(layer), 1);
        Ok(node.and(self.nums.eq(first, number, span)))
    }

    /// An IS-IS packet of one of these types.
    pub(super) fn isis_types(&mut self, types: &[u32], span: &Span, layer: &Layer) -> Result<Node, Error> {
        let node = self.iso_proto(ISIS, span, layer)?;
        let kind = layer.load(&mut self.nums, iso_header(layer) + 4, 1);
        Ok(node.and(Node::In {
            a: kind,
            values: types.to_vec(),
            span: span.clone(),
        }))
    }

    pub(super) fn ether_address(
        &mut self,
        quals: Quals,
        id: &Id,
        span: &Span,
        layer: &Layer,
    ) -> Result<Node, Error> {
        if quals.kind == Some(Kind::Net) {
            return Err(Error::new(span.clone(), "Ethernet has no networks").expected("'ether host ADDRESS'"));
        }
        let mac = match id {
            Id::Mac(mac) => *mac,
            Id::Name(name) => self.env.names.ether(name).ok_or_else(|| {
                let name = name.escape_debug();
                Error::new(span.clone(), format!("no Ethernet address is known for '{name}'"))
            })?,
            _ => {
                return Err(Error::new(span.clone(), "this is no Ethernet address")
                    .expected("six bytes, as in '02:00:00:00:00:01'"));
            }
        };
        self.ether_host(quals.dir, mac, span, layer)
    }

    /// Frames without Ethernet addresses don't match.
    fn ether_host(
        &mut self,
        dir: Option<Dir>,
        mac: [u8; 6],
        span: &Span,
        layer: &Layer,
    ) -> Result<Node, Error> {
        let (guard, frame) = self.ether_header(span, layer)?;
        let high = u32::from(mac[0]) << 8 | u32::from(mac[1]);
        let low = u32::from_be_bytes([mac[2], mac[3], mac[4], mac[5]]);
        let mut address = |off: u32| {
            let at = |off| Place {
                off: frame.off + off,
                ..frame
            };
            let last = self.nums.load(at(off + 2), 4);
            let first = self.nums.load(at(off), 2);
            let last = self.nums.eq(last, low, span);
            last.and(self.nums.eq(first, high, span))
        };
        let (src, dst) = (address(SRC), address(DST));
        Ok(guard.and(either_or_both(dir, src, dst)))
    }

    /// That there is an Ethernet header, and where.
    fn ether_header(&mut self, span: &Span, layer: &Layer) -> Result<(Node, Place), Error> {
        match layer.ether {
            Ether::Outer => {
                let place = Place {
                    window: Window::L2,
                    dynamic: None,
                    off: 0,
                };
                Ok((Node::Has(Field::L2Len), place))
            }
            Ether::Inner(place, None) => Ok((Node::Const(true), place)),
            Ether::Inner(place, Some((num, value))) => Ok((self.nums.eq(num, value, span), place)),
            Ether::Perhaps(place, has) => Ok((self.nums.test(Relop::Ne, has, 0, span), place)),
            Ether::None => Err(Error::new(span.clone(), "PPP has no Ethernet addresses")
                .suggest("write what is about Ethernet before 'pppoes'")),
        }
    }

    pub(super) fn broadcast(
        &mut self,
        proto: Option<&'static str>,
        span: &Span,
        layer: &Layer,
    ) -> Result<Node, Error> {
        match proto {
            None | Some("ether") => {
                self.check_scope(span, layer);
                self.ether_host(Some(Dir::Dst), [0xff; 6], span, layer)
            }
            Some("ip") => Err(
                Error::new(span.clone(), "'ip broadcast' would need the network's mask")
                    .suggest("write 'ip dst host 255.255.255.255', or the network's own broadcast address"),
            ),
            Some(proto) => Err(
                Error::new(span.clone(), format!("'{proto}' has no broadcast addresses"))
                    .expected("'broadcast' or 'ether broadcast'"),
            ),
        }
    }

    pub(super) fn multicast(
        &mut self,
        proto: Option<&'static str>,
        span: &Span,
        layer: &Layer,
    ) -> Result<Node, Error> {
        self.check_scope(span, layer);
        match proto {
            None | Some("ether") => {
                let (guard, frame) = self.ether_header(span, layer)?;
                let first = self.nums.load(frame, 1);
                Ok(guard.and(self.nums.masked_eq(first, 1, 1, span)))
            }
            Some("ip") => {
                let node = self.carries(ethertype("ip"), span, layer)?;
                let first = layer.load(&mut self.nums, 16, 1);
                Ok(node.and(self.nums.masked_eq(first, 0xf0, 0xe0, span)))
            }
            Some("ip6") => {
                let node = self.carries(ethertype("ip6"), span, layer)?;
                let first = layer.load(&mut self.nums, 24, 1);
                Ok(node.and(self.nums.eq(first, 0xff, span)))
            }
            Some(proto) => Err(
                Error::new(span.clone(), format!("'{proto}' has no multicast addresses"))
                    .expected("'multicast', 'ether multicast', 'ip multicast' or 'ip6 multicast'"),
            ),
        }
    }
}

/// Where the header of an ISO network protocol starts: behind LLC, which PPP doesn't have.
fn iso_header(layer: &Layer) -> u32 {
    match layer.link {
        Link::Ppp(_) => 0,
        _ => 3,
    }
}
