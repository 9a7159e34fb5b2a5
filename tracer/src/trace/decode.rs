//! From a report in the ring to an [`Event`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::beneath::Returns;
use super::event::{Event, Hook, Packet, PointId, Rule, Sign, Tuple};
use super::extras::Extras;
use super::record::{self, Record, SignCode};

/// Why a report could not be decoded: the program and the decoder disagree, which is a bug.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// It has another size.
    #[error("a report of {0} bytes came where {due} were due", due = record::SIZE)]
    Size(usize),
    /// It says something that this decoder doesn't know.
    #[error("a report has the unknown sign {0}")]
    Sign(u64),
}

fn number(bytes: &[u8], field: Record) -> u64 {
    let at = field.offset() as usize;
    let mut word = [0; 8];
    let size = field.size().bytes() as usize;
    word[..size].copy_from_slice(&bytes[at..at + size]);
    u64::from_le_bytes(word)
}

fn text(bytes: &[u8], (at, len): (u32, u32)) -> Vec<u8> {
    let bytes = &bytes[at as usize..(at + len) as usize];
    bytes.split(|&b| b == 0).next().unwrap_or_default().to_vec()
}

/// What every report says: an event without a packet.
fn event(bytes: &[u8], point: PointId, sign: Sign) -> Event {
    let number = |field| number(bytes, field);
    Event {
        time: number(Record::Time),
        journey: number(Record::Journey),
        skb: number(Record::Skb),
        point,
        cpu: number(Record::Cpu) as u32,
        pid: (number(Record::PidTgid) >> 32) as u32,
        tid: number(Record::PidTgid) as u32,
        comm: text(bytes, record::COMM),
        packet: None,
        sign,
        hook: None,
        rule: None,
        shown: vec![],
        stack: vec![],
    }
}

/// Decode the report of a call beneath a packet's function, which has a size of its own. `place` finds the point of a
/// probed address; `returns` knows what the function at a point returns.
///
/// # Errors
/// See [`BadRecord`].
pub fn decode_beneath(
    bytes: &[u8],
    place: impl Fn(u64) -> Option<PointId>,
    returns: impl Fn(PointId) -> Returns,
) -> Result<Event, BadRecord> {
    if bytes.len() != record::BENEATH_SIZE as usize {
        return Err(BadRecord::Size(bytes.len()));
    }
    let number = |field| number(bytes, field);
    let sign = number(Record::Sign);
    if sign != SignCode::Ran as u64 {
        return Err(BadRecord::Sign(sign));
    }
    let point = PointId(number(Record::Point) as u32);
    // A point's number, or an address.
    let under = number(Record::Ip);
    let under = match u32::try_from(under) {
        Ok(number) => PointId(number),
        Err(_) => place(under).unwrap_or(PointId(record::NO_POINT)),
    };
    let sign = Sign::Ran {
        under,
        returned: returns(point).value(number(Record::Extra0)),
        took: number(Record::Extra1),
    };
    Ok(event(bytes, point, sign))
}

/// Decode a report that carries `extras`. `place` finds the point of a probed address; `read` says whether code at an address gives data
/// to processes.
///
/// # Errors
/// See [`BadRecord`].
pub fn decode(
    bytes: &[u8],
    extras: &Extras,
    place: impl Fn(u64) -> Option<PointId>,
    read: impl Fn(u64) -> bool,
) -> Result<Event, BadRecord> {
    let size = (bytes.len() as u32).wrapping_sub(extras.size());
    if ![0, record::HOOK_SIZE, record::RULE_SIZE].contains(&size.wrapping_sub(record::SIZE)) {
        return Err(BadRecord::Size(bytes.len()));
    }
    let number = |field| number(bytes, field);
    let text = |place| text(bytes, place);
    let first = number(Record::Extra0);
    let sign = match number(Record::Sign) {
        n if n == SignCode::Passed as u64 => Sign::Passed,
        n if n == SignCode::Copied as u64 => Sign::Copied,
        n if n == SignCode::Transmitted as u64 => Sign::Transmitted { code: first as i32 },
        n if n == SignCode::Cloned as u64 => Sign::Cloned { from: first },
        n if n == SignCode::Dropped as u64 => Sign::Dropped {
            reason: None,
            location: first,
        },
        n if n == SignCode::DroppedFor as u64 => Sign::Dropped {
            reason: Some(number(Record::Extra1) as u32),
            location: first,
        },
        n if n == SignCode::Consumed as u64 => Sign::Consumed { read: read(first) },
        n if n == SignCode::Freed as u64 => Sign::Freed,
        other => return Err(BadRecord::Sign(other)),
    };
    let hook = (size == record::SIZE + record::HOOK_SIZE).then(|| Hook {
        family: bytes[record::HOOK_FAMILY as usize],
        number: bytes[record::HOOK_NUMBER as usize],
        table: text(record::HOOK_TABLE),
        chain: text(record::HOOK_CHAIN),
    });
    let rule = (size == record::SIZE + record::RULE_SIZE).then(|| {
        let word = |at: u32| bytes[at as usize..].first_chunk().copied().unwrap_or_default();
        Rule {
            family: bytes[record::RULE_FAMILY as usize],
            table: text(record::RULE_TABLE),
            chain: text(record::RULE_CHAIN),
            handle: u64::from_le_bytes(word(record::RULE_HANDLE)),
            verdict: u64::from_le_bytes(word(record::RULE_FAMILY))
                .cast_signed()
                .wrapping_shr(32) as i32,
        }
    });
    let (shown, stack) = extras.decode(&bytes[size as usize..]);
    let point = match number(Record::Point) as u32 {
        record::NO_POINT => place(number(Record::Ip)).unwrap_or(PointId(record::NO_POINT)),
        point => PointId(point),
    };
    let packet = (number(Record::HasState) != 0).then(|| {
        let held = (number(Record::HeaderLen) as usize).min(record::HEADERS.1 as usize);
        let headers = &bytes[record::HEADERS.0 as usize..][..held];
        Packet {
            tuple: tuple(headers),
            ethertype: (number(Record::Protocol) as u16).swap_bytes(),
            len: number(Record::Len) as u32,
            mark: number(Record::Mark) as u32,
            ifindex: number(Record::Ifindex) as u32,
            ifname: text(record::IFNAME),
            netns: number(Record::Netns) as u32,
            conntrack: match number(Record::Conntrack) {
                record::NO_CONNTRACK => None,
                info => Some(info as u8),
            },
            headroom: number(Record::Data) as u32,
            network_header: number(Record::Network) as u16,
            headers: headers.to_vec(),
        }
    });
    Ok(Event {
        packet,
        hook,
        rule,
        shown,
        stack,
        ..event(bytes, point, sign)
    })
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// Addresses and ports of the IPv4 or IPv6 header at the start of `bytes`; `None` for anything else, and where
/// the header is cut short.
pub fn tuple(bytes: &[u8]) -> Option<Tuple> {
    match bytes.first()? >> 4 {
        4 => {
            let header: &[u8; 20] = bytes.first_chunk()?;
            let address = |at: usize| {
                IpAddr::from(<Ipv4Addr>::from(
                    *header[at..].first_chunk::<4>().unwrap_or(&[0; 4]),
                ))
            };
            let len = usize::from(header[0] & 0xf) * 4;
            let first = (u16::from_be_bytes([header[6], header[7]]) & 0x1fff) == 0;
            let protocol = header[9];
            let ports = if first && len >= 20 {
                bytes.get(len..).and_then(|b| ports(protocol, b))
            } else {
                None
            };
            Some(Tuple {
                src: address(12),
                dst: address(16),
                protocol,
                ports,
            })
        }
        6 => {
            let header: &[u8; 40] = bytes.first_chunk()?;
            let address = |at: usize| {
                IpAddr::from(Ipv6Addr::from(
                    *header[at..].first_chunk::<16>().unwrap_or(&[0; 16]),
                ))
            };
            let protocol = header[6];
            Some(Tuple {
                src: address(8),
                dst: address(24),
                protocol,
                ports: ports(protocol, &bytes[40..]),
            })
        }
        _ => None,
    }
}

/// Ports, or ICMP type and code, at the start of a transport header.
fn ports(protocol: u8, bytes: &[u8]) -> Option<(u16, u16)> {
    match protocol {
        TCP | UDP | SCTP => {
            let b: &[u8; 4] = bytes.first_chunk()?;
            Some((u16::from_be_bytes([b[0], b[1]]), u16::from_be_bytes([b[2], b[3]])))
        }
        ICMP | ICMPV6 => {
            let b: &[u8; 2] = bytes.first_chunk()?;
            Some((b[0].into(), b[1].into()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DNS: [u8; 28] = [
        0x45, 0, 0, 60, 0, 1, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 8, 8, 8, 8, 0xc0, 0, 0, 53, 0, 40, 0, 0,
    ];

    #[test]
    fn reads_an_ipv4_tuple() {
        let tuple = tuple(&DNS).unwrap();
        assert_eq!(tuple.src.to_string(), "192.0.2.1");
        assert_eq!(tuple.dst.to_string(), "8.8.8.8");
        assert_eq!((tuple.protocol, tuple.ports), (17, Some((49152, 53))));
    }

    #[test]
    fn a_later_fragment_has_no_ports() {
        let mut later = DNS;
        later[7] = 10;
        assert_eq!(tuple(&later).unwrap().ports, None);
    }

    #[test]
    fn any_truncation_is_read_without_panic() {
        for len in 0..DNS.len() {
            let got = tuple(&DNS[..len]);
            assert_eq!(got.is_some(), len >= 20, "{len} bytes");
            if let Some(t) = got {
                assert_eq!(t.ports.is_some(), len >= 24, "{len} bytes");
            }
        }
    }

    #[test]
    fn decodes_calls_beneath() {
        let mut bytes = [0u8; record::BENEATH_SIZE as usize];
        let mut put = |field: Record, value: u64| {
            let size = field.size().bytes() as usize;
            bytes[field.offset() as usize..][..size].copy_from_slice(&value.to_le_bytes()[..size]);
        };
        put(Record::Sign, SignCode::Ran as u64);
        put(Record::Point, 3);
        put(Record::Extra0, 0xffff_fff5);
        put(Record::Extra1, 640);
        let returns = |_| Returns::Number {
            size: 4,
            signed: true,
        };
        let under = |bytes: &[u8]| {
            let event = decode_beneath(bytes, |ip| (ip > 0xffff_0000_0000).then_some(PointId(9)), returns);
            let Sign::Ran {
                under,
                returned,
                took,
            } = event.unwrap().sign
            else {
                panic!("no call")
            };
            assert_eq!(
                (returned, took),
                (super::super::event::Returned::Signed(-11), 640)
            );
            under
        };
        for (at, point) in [
            (5_u64, 5),
            (0xffff_8100_0000_0000, 9),
            (1 << 40, record::NO_POINT),
        ] {
            bytes[Record::Ip.offset() as usize..][..8].copy_from_slice(&at.to_le_bytes());
            assert_eq!(under(&bytes), PointId(point));
        }
        let short = decode_beneath(&bytes[1..], |_| None, returns);
        assert_eq!(short, Err(BadRecord::Size(record::BENEATH_SIZE as usize - 1)));
    }

    #[test]
    fn decodes_what_the_layout_says() {
        let mut bytes = [0u8; record::SIZE as usize];
        let mut put = |field: Record, value: u64| {
            let size = field.size().bytes() as usize;
            bytes[field.offset() as usize..][..size].copy_from_slice(&value.to_le_bytes()[..size]);
        };
        put(Record::Time, 5);
        put(Record::Point, u64::from(record::NO_POINT));
        put(Record::Ip, 0xffff_0001);
        put(Record::PidTgid, (7 << 32) | 8);
        put(Record::Sign, SignCode::DroppedFor as u64);
        put(Record::Extra1, 9);
        put(Record::HasState, 1);
        put(Record::HeaderLen, 1000);
        put(Record::Protocol, 0x0008);
        bytes[record::HEADERS.0 as usize..][..28].copy_from_slice(&DNS);
        bytes[record::COMM.0 as usize..][..4].copy_from_slice(b"dig\0");
        let event = decode(
            &bytes,
            &Extras::default(),
            |ip| (ip == 0xffff_0001).then_some(PointId(3)),
            |_| false,
        )
        .unwrap();
        assert_eq!(
            (event.time, event.point, event.pid, event.tid),
            (5, PointId(3), 7, 8)
        );
        assert_eq!(event.comm, b"dig");
        assert_eq!(
            event.sign,
            Sign::Dropped {
                reason: Some(9),
                location: 0
            }
        );
        let packet = event.packet.unwrap();
        assert_eq!((packet.ethertype, packet.tuple), (0x0800, tuple(&DNS)));
        assert_eq!(
            decode(&bytes[1..], &Extras::default(), |_| None, |_| false),
            Err(BadRecord::Size(record::SIZE as usize - 1))
        );
    }
}
