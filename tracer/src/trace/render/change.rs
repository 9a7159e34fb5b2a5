//! What changed in a packet between two events, in words.

use super::escape::escape;
use super::names;
use crate::trace::event::{Packet, Tuple};

/// Something that changed.
pub struct Change {
    what: &'static str,
    old: Option<String>,
    new: String,
}

impl Change {
    /// `len 52->66`.
    pub fn long(&self) -> String {
        let Change { what, old, new } = self;
        match old {
            Some(old) => format!("{what}{old}->{new}"),
            None => format!("{what}{new}"),
        }
    }

    /// `len 66`: where the line is full, what it was before is to be found further up.
    pub fn short(&self) -> String {
        format!("{}{}", self.what, self.new)
    }
}

/// Compares `packet` with what was last `known` and brings that up to date.
///
/// A packet without a device, a namespace, an EtherType or readable headers for a while keeps the last it had:
/// the kernel clears some of these between layers, and reuses their memory while a packet waits in a socket.
pub fn changes(known: &mut Packet, packet: &Packet) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut changed = |what, old: Option<String>, new| changes.push(Change { what, old, new });
    if let Some(new) = packet.tuple
        && known.tuple != Some(new)
    {
        let (what, old, new_text) = tuple(known.tuple, &new);
        changed(what, old, new_text);
        known.tuple = Some(new);
    }
    if packet.ethertype != 0 && packet.ethertype != known.ethertype {
        let old = (known.ethertype != 0).then(|| names::ethertype_label(known.ethertype));
        changed("", old, names::ethertype_label(packet.ethertype));
        known.ethertype = packet.ethertype;
    }
    if packet.ifindex != 0 && (packet.ifindex, &packet.ifname) != (known.ifindex, &known.ifname) {
        let (old, new) = (escape(&known.ifname), escape(&packet.ifname));
        if known.ifindex == 0 {
            changed("dev ", None, new);
        } else if old != new {
            changed("dev ", Some(old), new);
        } else {
            changed(
                "dev ",
                Some(format!("{old} ({})", known.ifindex)),
                format!("{new} ({})", packet.ifindex),
            );
        }
        known.ifindex = packet.ifindex;
        known.ifname.clone_from(&packet.ifname);
    }
    if packet.netns != 0 && packet.netns != known.netns {
        let old = (known.netns != 0).then(|| known.netns.to_string());
        changed("netns ", old, packet.netns.to_string());
        known.netns = packet.netns;
    }
    if packet.len != known.len {
        let new = match moved(known, packet) {
            Some(header) => format!("{} ({header})", packet.len),
            None => packet.len.to_string(),
        };
        changed("len ", Some(known.len.to_string()), new);
        known.len = packet.len;
    }
    known.headroom = packet.headroom;
    if !packet.headers.is_empty() {
        known.network_header = packet.network_header;
        known.headers.clone_from(&packet.headers);
    }
    if let Some(info) = packet.conntrack
        && known.conntrack != Some(info)
    {
        let old = known.conntrack.map(names::conntrack);
        changed("conntrack ", old, names::conntrack(info));
        known.conntrack = Some(info);
    }
    if packet.mark != known.mark {
        changed(
            "mark ",
            Some(format!("0x{:x}", known.mark)),
            format!("0x{:x}", packet.mark),
        );
        known.mark = packet.mark;
    }
    changes
}

/// Which headers were pushed in front of the data, or pulled from it, where that is why the length has changed.
fn moved(known: &Packet, packet: &Packet) -> Option<String> {
    let longer = i64::from(packet.len) - i64::from(known.len);
    let back = i64::from(known.headroom) - i64::from(packet.headroom);
    if longer != back || longer == 0 {
        return None;
    }
    // The headers that were pushed are the packet's now; those that were pulled were so before.
    let (of, what) = match longer > 0 {
        true => (packet, "pushed"),
        false => (known, "pulled"),
    };
    let of = if of.headers.is_empty() { packet } else { of };
    let from = i64::from(of.headroom.min(known.headroom.min(packet.headroom))) - i64::from(of.network_header);
    let names = between(&of.headers, from, from + longer.abs())?;
    Some(format!("{names} {what}"))
}

/// The headers from `from` to `to`, in bytes from the network header on; none if they aren't whole ones.
fn between(headers: &[u8], from: i64, to: i64) -> Option<String> {
    const ETHERNET: i64 = 14;
    const TAG: i64 = 4;
    let mut names = vec![];
    let mut at = from;
    if at < 0 {
        match at.max(-ETHERNET - TAG) {
            _ if to < 0 => return None,
            -14 => names.push("Ethernet"),
            -18 => names.push("Ethernet and VLAN"),
            _ => names.push("link-layer"),
        }
        at = 0;
    }
    let first = *headers.first()?;
    let (name, network, protocol) = match first >> 4 {
        4 => ("IPv4", i64::from(first & 0xf) * 4, *headers.get(9)?),
        6 => ("IPv6", 40, *headers.get(6)?),
        _ => return (at == to).then(|| names.join(" and ")),
    };
    if at == 0 && to >= network {
        names.push(name);
        at = network;
    }
    let offset = usize::try_from(network).ok()?;
    let transport = match protocol {
        1 | 58 => 8,
        6 => i64::from(headers.get(offset + 12)? >> 4) * 4,
        17 => 8,
        _ => 0,
    };
    if at == network && transport > 0 && to == network + transport {
        names.push(names::protocol(protocol)?);
        at = to;
    }
    (at == to && !names.is_empty()).then(|| names.join(" and "))
}

fn tuple(old: Option<Tuple>, new: &Tuple) -> (&'static str, Option<String>, String) {
    let Some(old) = old.filter(|old| old.protocol == new.protocol) else {
        return ("", None, names::tuple(new));
    };
    let (old_src, old_dst) = names::endpoints(&old);
    let (src, dst) = names::endpoints(new);
    match (old_src != src, old_dst != dst) {
        (true, false) => ("src ", Some(old_src), src),
        (false, true) => ("dst ", Some(old_dst), dst),
        // Both, or an ICMP type.
        _ => ("", None, names::tuple(new)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(len: u32, headroom: u32) -> Packet {
        let mut headers = vec![0x45; 64];
        headers[9] = 17;
        Packet {
            len,
            headroom,
            network_header: 100,
            headers,
            ..Packet::default()
        }
    }

    #[test]
    fn headers_that_come_and_go_are_named() {
        let said = |old: (u32, u32), new: (u32, u32)| {
            let changes = changes(&mut packet(old.0, old.1), &packet(new.0, new.1));
            changes.iter().map(Change::long).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(said((80, 100), (94, 86)), "len 80->94 (Ethernet pushed)");
        assert_eq!(said((94, 86), (80, 100)), "len 94->80 (Ethernet pulled)");
        assert_eq!(said((98, 82), (80, 100)), "len 98->80 (Ethernet and VLAN pulled)");
        assert_eq!(said((80, 100), (60, 120)), "len 80->60 (IPv4 pulled)");
        assert_eq!(said((60, 120), (52, 128)), "len 60->52 (udp pulled)");
        assert_eq!(
            said((52, 128), (94, 86)),
            "len 52->94 (Ethernet and IPv4 and udp pushed)"
        );
        // Not whole headers; the tail has moved; another buffer.
        assert_eq!(said((80, 100), (70, 110)), "len 80->70");
        assert_eq!(said((80, 100), (60, 100)), "len 80->60");
        assert_eq!(said((80, 100), (80, 160)), "");
    }
}
