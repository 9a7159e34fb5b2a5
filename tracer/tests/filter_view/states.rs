//! Each case of a packet's life has a meaning.

use super::skb::{Dev, ETHERNET, HEADROOM, InKernel, Judge, Skb, UNSET};
use super::{LAYOUT, filter, not_here, packets};

pub fn frame(name: &str) -> Vec<u8> {
    let packet = packets::all().into_iter().find(|packet| packet.name == name);
    packet
        .unwrap_or_else(|| panic!("no packet is called {name}"))
        .bytes
}

/// Judge by the interpreter, and by the kernel where it can be asked.
fn check(name: &str, cases: &[(&str, &Skb, &str, bool)]) {
    let kernel = match not_here() {
        None => Some(InKernel::new()),
        Some(reason) => {
            eprintln!("ktrail-test-skip: {name}: in the kernel: {reason}");
            None
        }
    };
    let mut wrong = vec![];
    for (what, skb, text, expected) in cases {
        let filter = filter(text, false).unwrap_or_else(|| panic!("{text} is not taken"));
        let judge = Judge::new(&filter, &LAYOUT.offsets, kernel.as_ref());
        let mut verdicts = vec![("interpreter", judge.interpreted(skb))];
        if let Some(kernel) = &kernel {
            verdicts.push(("kernel", judge.in_kernel(kernel, skb)));
        }
        for (who, verdict) in verdicts {
            if verdict != *expected {
                wrong.push(format!("{what}: '{text}': {who} says {verdict}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn headers() {
    let bytes = frame("udp4 dns");
    let mac = "02:00:00:00:00:0a";
    let has_mac = &format!("ether host {mac}")[..];
    let not_mac = &format!("not ether host {mac}")[..];
    let sent = Skb::sent(&bytes);
    let received = Skb::received(&bytes);
    let up = Skb {
        network_header: HEADROOM + 14,
        iif: 7,
        data: HEADROOM + 14 + 20 + 8,
        len: received.len - 28,
        ..received.clone()
    };
    let leaving = Skb {
        mac_header: UNSET,
        data: HEADROOM + 14,
        len: sent.len - 14,
        ..sent.clone()
    };
    let unlabelled = Skb {
        protocol: 0,
        ..leaving.clone()
    };
    let building = Skb {
        protocol: 0,
        dst: 0,
        dev: None,
        ..leaving.clone()
    };
    let empty = Skb {
        network_header: 0,
        ..building.clone()
    };
    let tun = Dev {
        kind: 0xfffe,
        ..ETHERNET
    };
    let from_tun = Skb {
        mac_header: HEADROOM + 14,
        network_header: HEADROOM + 14,
        data: HEADROOM + 14,
        len: sent.len - 14,
        dst: 0,
        dev: Some(tun),
        ..sent.clone()
    };
    // It was received by Ethernet and is forwarded to a tun device: its old header is no header there.
    let to_tun = Skb {
        iif: 3,
        dev: Some(tun),
        network_header: HEADROOM + 14,
        ..received.clone()
    };
    // `dev` holds other data.
    let queued = Skb {
        dev: Some(Dev {
            kind: 0,
            ifindex: 0,
            name: "",
        }),
        ..up.clone()
    };
    check(
        "headers",
        &[
            ("sent", &sent, "udp port 53", true),
            ("sent", &sent, has_mac, true),
            ("sent", &sent, "ether[12:2] = 0x800", true),
            ("sent", &sent, "tcp", false),
            ("received", &received, "udp port 53", true),
            ("received", &received, has_mac, true),
            ("at its socket", &up, "udp port 53", true),
            ("at its socket", &up, has_mac, true),
            ("queued at its socket", &queued, has_mac, true),
            ("without a MAC header", &leaving, "udp port 53", true),
            ("without a MAC header", &leaving, has_mac, false),
            ("without a MAC header", &leaving, not_mac, true),
            ("without a MAC header", &leaving, "ether[0] >= 0", false),
            ("without a MAC header", &leaving, "not ether[0] >= 0", false),
            ("without a MAC header", &leaving, "ether[0] >= 0 or udp", false),
            ("without a MAC header", &leaving, "udp or ether[0] >= 0", true),
            ("without a protocol", &unlabelled, "udp port 53", true),
            ("without a protocol", &unlabelled, "arp", false),
            ("being built", &building, "udp", false),
            ("being built", &building, "not udp", false),
            ("being built", &building, "not arp", false),
            ("without headers", &empty, "udp", false),
            ("without headers", &empty, "not udp", false),
            ("without headers", &empty, "", true),
            ("without headers", &empty, has_mac, false),
            ("without headers", &empty, not_mac, true),
            ("from a tun device", &from_tun, "udp port 53", true),
            ("from a tun device", &from_tun, has_mac, false),
            ("to a tun device", &to_tun, has_mac, false),
        ],
    );
}

#[test]
fn lengths() {
    let bytes = frame("udp4 dns");
    let whole = bytes.len();
    let len = |op: &str, by: usize| format!("len {op} {}", whole - by);
    let sent = Skb::sent(&bytes);
    let received = Skb::received(&bytes);
    let up = Skb {
        data: HEADROOM + 42,
        network_header: HEADROOM + 14,
        len: received.len - 28,
        ..received.clone()
    };
    let leaving = Skb {
        mac_header: UNSET,
        data: HEADROOM + 14,
        len: sent.len - 14,
        ..sent.clone()
    };
    let deeper = Skb {
        data: HEADROOM + 42,
        len: sent.len - 42,
        ..leaving.clone()
    };
    let paged = Skb {
        len: 3000,
        ..sent.clone()
    };
    let building = Skb {
        protocol: 0,
        dst: 0,
        ..leaving.clone()
    };
    let (all, bare) = (len("=", 0), len("=", 14));
    check(
        "lengths",
        &[
            ("sent", &sent, &all, true),
            ("received", &received, &all, true),
            ("at its socket", &up, &all, true),
            ("without a MAC header", &leaving, &bare, true),
            ("without a MAC header", &leaving, &all, false),
            ("without a MAC header, data further on", &deeper, &bare, true),
            ("with pages", &paged, "len = 3000", true),
            ("with pages", &paged, "greater 1500", true),
            ("with pages", &paged, "less 1500", false),
            ("being built", &building, "less 1500", false),
            ("being built", &building, "greater 0", false),
        ],
    );
}

/// What lies in pages is out of reach, as what a capture has cut off.
#[test]
fn paged_data() {
    let bytes = frame("udp4 dns");
    let paged = |linear| Skb::sent(&bytes).linear(linear);
    let (ports, header, ether) = (paged(14 + 24), paged(14 + 20), paged(14));
    check(
        "paged_data",
        &[
            ("linear up to the ports", &ports, "udp dst port 53", true),
            ("linear up to the ports", &ports, "udp[8] >= 0", false),
            ("linear up to the ports", &ports, "not udp[8] >= 0", false),
            ("linear up to the IP header", &header, "udp", true),
            ("linear up to the IP header", &header, "udp port 53", false),
            ("linear up to the IP header", &header, "not udp port 53", false),
            ("linear up to the Ethernet header", &ether, "ip", true),
            ("linear up to the Ethernet header", &ether, "udp", false),
            (
                "linear up to the Ethernet header",
                &ether,
                "ether[12:2] = 0x800",
                true,
            ),
        ],
    );
}

#[test]
fn vlan_tags() {
    let plain = frame("udp4 dns");
    let tagged = frame("vlan 100 udp4");
    let offloaded = Skb {
        vlan: Some(0xa064), // priority 5, VLAN 100
        ..Skb::sent(&plain)
    };
    let zero = Skb {
        vlan: Some(0),
        ..Skb::sent(&plain)
    };
    // A sender's stack leaves `network_header` behind the tag that it has put in, a receiver's sets it at the tag.
    let sent = Skb {
        network_header: HEADROOM + 18,
        ..Skb::sent(&tagged)
    };
    let received = Skb::received(&tagged);
    let both = Skb {
        vlan: Some(200),
        ..received.clone()
    };
    let untagged = Skb::sent(&plain);
    check(
        "vlan_tags",
        &[
            ("offloaded", &offloaded, "vlan", true),
            ("offloaded", &offloaded, "vlan 100", true),
            ("offloaded", &offloaded, "vlan 101", false),
            ("offloaded", &offloaded, "vlan 100 and udp port 53", true),
            ("offloaded", &offloaded, "udp port 53", true),
            ("offloaded", &offloaded, "vlan and vlan", false),
            ("offloaded 0", &zero, "vlan 0", true),
            ("sent with a tag", &sent, "vlan 100 and udp", true),
            ("sent with a tag", &sent, "vlan 99", false),
            ("sent with a tag", &sent, "udp", false),
            ("received with a tag", &received, "vlan 100 and udp", true),
            ("received with a tag", &received, "vlan and len > 40", true),
            ("both", &both, "vlan 200 and vlan 100 and udp", true),
            ("both", &both, "vlan 100", false),
            ("without", &untagged, "vlan", false),
            ("without", &untagged, "not vlan", true),
        ],
    );
}

#[test]
fn devices_and_directions() {
    let bytes = frame("udp4 dns");
    let sent = Skb::sent(&bytes);
    let received = Skb::received(&bytes);
    let up = Skb {
        iif: 7,
        network_header: HEADROOM + 14,
        ..received.clone()
    };
    let forwarded = Skb { iif: 3, ..up.clone() };
    let leaving = Skb {
        mac_header: UNSET,
        data: HEADROOM + 14,
        dev: None,
        ..sent.clone()
    };
    let captured = Skb {
        pkt_type: 4,
        ..up.clone()
    };
    let at_socket = Skb {
        dev: None,
        ..up.clone()
    };
    let bare = Skb {
        mac_header: HEADROOM + 14,
        network_header: HEADROOM + 14,
        data: HEADROOM + 14,
        ..sent.clone()
    };
    let from_tun = Skb {
        dst: 0,
        ..bare.clone()
    };
    let mut cases = vec![
        ("sent", &sent, "ifindex 7", true),
        ("sent", &sent, "ifindex 8", false),
        ("without a device", &leaving, "ifindex 7", false),
        ("without a device", &leaving, "ifindex 0", true),
        ("without a device", &leaving, "not ifindex 7", true),
    ];
    for (what, skb, inbound) in [
        ("sent", &sent, false),
        ("just received", &received, true),
        ("received", &up, true),
        ("forwarded", &forwarded, false),
        ("on its way to a device", &leaving, false),
        ("a capture's copy", &captured, false),
        ("received, without a device", &at_socket, true),
        ("from a tun device", &from_tun, true),
        ("to a tun device", &bare, false),
    ] {
        cases.push((what, skb, "inbound", inbound));
        cases.push((what, skb, "outbound", !inbound));
    }
    check("devices_and_directions", &cases);
}
