//! What changed in a packet between two events, in words.

use super::escape::escape;
use super::names;
use crate::trace::event::{Packet, Tuple};

/// Compares `packet` with what was last `known` and brings that up to date.
///
/// A packet without a device, a namespace, an EtherType or readable headers for a while keeps the last it had:
/// the kernel clears some of these between layers, and reuses their memory while a packet waits in a socket.
pub fn changes(known: &mut Packet, packet: &Packet) -> Vec<String> {
    let mut changes = Vec::new();
    if let Some(new) = packet.tuple
        && known.tuple != Some(new)
    {
        changes.push(tuple(known.tuple, &new));
        known.tuple = Some(new);
    }
    if packet.ethertype != 0 && packet.ethertype != known.ethertype {
        changes.push(match known.ethertype {
            0 => names::ethertype_label(packet.ethertype),
            old => format!(
                "{}->{}",
                names::ethertype_label(old),
                names::ethertype_label(packet.ethertype)
            ),
        });
        known.ethertype = packet.ethertype;
    }
    if packet.ifindex != 0
        && (packet.ifindex, &packet.ifname, packet.netns) != (known.ifindex, &known.ifname, known.netns)
    {
        if known.ifindex == 0 {
            changes.push(format!("dev {}", escape(&packet.ifname)));
        } else if known.ifname != packet.ifname {
            changes.push(format!(
                "dev {}->{}",
                escape(&known.ifname),
                escape(&packet.ifname)
            ));
        } else if known.ifindex != packet.ifindex {
            let name = escape(&packet.ifname);
            changes.push(format!(
                "dev {name} ({})->{name} ({})",
                known.ifindex, packet.ifindex
            ));
        }
        known.ifindex = packet.ifindex;
        known.ifname.clone_from(&packet.ifname);
    }
    if packet.netns != 0 && packet.netns != known.netns {
        changes.push(match known.netns {
            0 => format!("netns {}", packet.netns),
            old => format!("netns {old}->{}", packet.netns),
        });
        known.netns = packet.netns;
    }
    if packet.len != known.len {
        changes.push(format!("len {}->{}", known.len, packet.len));
        known.len = packet.len;
    }
    if packet.mark != known.mark {
        changes.push(format!("mark 0x{:x}->0x{:x}", known.mark, packet.mark));
        known.mark = packet.mark;
    }
    changes
}

fn tuple(old: Option<Tuple>, new: &Tuple) -> String {
    let Some(old) = old.filter(|old| old.protocol == new.protocol) else {
        return names::tuple(new);
    };
    let (old_src, old_dst) = names::endpoints(&old);
    let (src, dst) = names::endpoints(new);
    match (old_src != src, old_dst != dst) {
        (true, false) => format!("src {old_src}->{src}"),
        (false, true) => format!("dst {old_dst}->{dst}"),
        // Both, or an ICMP type.
        _ => names::tuple(new),
    }
}
