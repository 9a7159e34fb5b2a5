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
        changed("len ", Some(known.len.to_string()), packet.len.to_string());
        known.len = packet.len;
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
