//! What it costs to refuse a packet: instructions executed, and helpers called, from the skb to the verdict.

use super::skb::{Judge, Reads, Skb};
use super::states::frame;
use super::{LAYOUT, filter};

/// Filter, packet, verdict, the most instructions, and the most calls where memory is read by them. By plain loads there
/// are none, and no more instructions.
const LIMITS: &[(&str, &str, bool, u64, u64)] = &[
    ("udp and dst 8.8.8.8 and port 53", "tcp4 syn", false, 40, 2),
    ("udp and dst 8.8.8.8 and port 53", "tcp6 https", false, 40, 2),
    ("udp and dst 8.8.8.8 and port 53", "arp request", false, 30, 1),
    ("udp and dst 8.8.8.8 and port 53", "udp4 dns reply", false, 40, 2),
    ("udp and dst 8.8.8.8 and port 53", "udp4 dns", true, 60, 2),
    // However it is written.
    ("port 53 and dst 8.8.8.8 and udp", "tcp4 syn", false, 40, 2),
    ("udp dst port 53 and dst host 8.8.8.8", "tcp4 syn", false, 40, 2),
    ("tcp port 443 or 80", "udp4 dns", false, 40, 2),
    ("host 10.1.2.3", "arp request", false, 45, 2),
    ("icmp", "tcp4 syn", false, 40, 2),
    ("arp", "tcp4 syn", false, 30, 1),
    // What is cheap comes before what the kernel has to be asked for.
    ("skb.dev.name == \"eth9\" and tcp", "udp4 dns", false, 45, 2),
    ("comm curl and udp", "tcp4 syn", false, 40, 2),
    (
        "netns 5 and inbound and ifindex 3 and greater 9 and tcp",
        "udp4 dns",
        false,
        40,
        2,
    ),
    ("skb.mark == 5", "udp4 dns", false, 15, 2),
];

#[test]
fn refusing_is_cheap() {
    let mut dear = vec![];
    for (text, packet, expected, instructions, calls) in LIMITS {
        let filter = filter(text, false).unwrap_or_else(|| panic!("{text} is not taken"));
        let judge = Judge::new(&filter, &LAYOUT.offsets, None);
        for reads in [Reads::Calls, Reads::Loads] {
            let cost = judge.cost(&Skb::sent(&frame(packet)), reads);
            assert_eq!(cost.verdict, *expected, "{text}: {packet}");
            let calls = match reads {
                Reads::Calls => *calls,
                Reads::Loads => 0,
            };
            let took = format!("{} instructions and {} calls", cost.instructions, cost.calls);
            println!("{text:45} {packet:16} {reads:?}: {took}");
            if cost.instructions > *instructions || cost.calls > calls {
                dear.push(format!(
                    "'{text}' on '{packet}' by {reads:?}: {took}, at most {instructions} and {calls}"
                ));
            }
        }
    }
    assert!(dear.is_empty(), "too dear:\n{}", dear.join("\n"));
}
