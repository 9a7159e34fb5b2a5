//! `inner (…)`, `ext (…)` and `vxlan`, which the libpcap at hand doesn't have: verdicts written by hand.

use ktrail_ebpf::filter::Env;
use ktrail_ebpf::filter::frame::Link;

use super::packets::{self, cat, ether, ip, ip6, tcp, udp, v6};
use super::run::Compiled;

const A: [u8; 6] = [2, 0, 0, 0, 0, 0xaa];
const B: [u8; 6] = [2, 0, 0, 0, 0, 0xbb];
const OUT: [u8; 4] = [198, 51, 100, 1];
const TO: [u8; 4] = [198, 51, 100, 2];
const IN: [u8; 4] = [10, 9, 0, 1];
const END: [u8; 4] = [10, 9, 0, 2];

fn v4_frame(payload: &[u8]) -> Vec<u8> {
    ether(B, A, 0x0800, payload)
}

fn v6_frame(payload: &[u8]) -> Vec<u8> {
    ether(B, A, 0x86dd, payload)
}

/// The packet inside of all tunnels.
fn dns() -> Vec<u8> {
    ip(IN, END, 17, 0, &[], &udp(40000, 53, b"query"))
}

/// A packet by one of the names below, or by one that it has among the corpus's packets.
fn packet(name: &str) -> Vec<u8> {
    let gre = |header: &[u8], payload: &[u8]| v4_frame(&ip(OUT, TO, 47, 0, &[], &cat(&[header, payload])));
    let options = |next: u8, length: u8| cat(&[&[next, length], &[0; 6], &vec![0; 8 * usize::from(length)]]);
    let to = |next: u8, payload: &[u8]| v6_frame(&ip6(v6(1), v6(2), next, payload));
    let query = udp(40000, 53, b"query");
    let syn = tcp(40000, 80, 2, b"");
    match name {
        "ipip" => v4_frame(&ip(OUT, TO, 4, 0, &[], &dns())),
        "ipip with options" => v4_frame(&ip(OUT, TO, 4, 0, &[1; 8], &dns())),
        "ipip later fragment" => v4_frame(&ip(OUT, TO, 4, 0x0010, &[], &dns())),
        "6in4" => v4_frame(&ip(OUT, TO, 41, 0, &[], &ip6(v6(1), v6(2), 17, &query))),
        "4in6" => to(4, &dns()),
        "6in6" => to(41, &ip6(v6(3), v6(4), 6, &syn)),
        "4in6 behind options" => to(60, &cat(&[&options(4, 0), &dns()])),
        "gre" => gre(&[0, 0, 8, 0], &dns()),
        "gre with key" => gre(&[0x20, 0, 8, 0, 0, 0, 0, 7], &dns()),
        "gre with all" => gre(&cat(&[&[0xb0, 0, 8, 0], &[0; 12]]), &dns()),
        "gre of ethernet" => gre(
            &[0x20, 0, 0x65, 0x58, 0, 0, 0, 7],
            &ether([2, 0, 0, 0, 0, 1], A, 0x0800, &dns()),
        ),
        "gre version 1" => gre(&[0x20, 1, 8, 0, 0, 0, 0, 7], &dns()),
        "gre of ip6" => gre(&[0, 0, 0x86, 0xdd], &ip6(v6(1), v6(2), 17, &query)),
        "ipip in gre" => gre(&[0, 0, 8, 0], &ip(TO, OUT, 4, 0, &[], &dns())),
        "plain" => v4_frame(&dns()),
        "options" => to(0, &cat(&[&options(60, 0), &options(17, 2), &query])),
        "first fragment" => to(0, &cat(&[&options(44, 0), &[17, 0, 0, 1, 0, 0, 0, 7], &query])),
        "later fragment" => to(44, &cat(&[&[17, 0, 0, 9, 0, 0, 0, 7], &query])),
        "ah" => to(51, &cat(&[&[6, 4, 0, 0], &[0; 20], &syn])),
        "eight headers" => {
            let seven: Vec<Vec<u8>> = vec![options(60, 0); 7];
            let parts: Vec<&[u8]> = seven.iter().map(|part| &part[..]).collect();
            to(60, &cat(&[&cat(&parts), &options(6, 0), &syn]))
        }
        "nine headers" => {
            let eight: Vec<Vec<u8>> = vec![options(60, 0); 8];
            let parts: Vec<&[u8]> = eight.iter().map(|part| &part[..]).collect();
            to(60, &cat(&[&cat(&parts), &options(6, 0), &syn]))
        }
        name => {
            let known = packets::all().into_iter().find(|packet| packet.name == name);
            known
                .unwrap_or_else(|| panic!("no packet is called {name}"))
                .bytes
        }
    }
}

/// Packet, expression, verdict.
const CASES: &[(&str, &str, bool)] = &[
    ("ipip", "inner (udp and dst 10.9.0.2 and port 53)", true),
    ("ipip", "inner (tcp)", false),
    ("ipip", "inner (not tcp)", true),
    ("ipip", "inner (dst 198.51.100.2)", false),
    ("ipip", "udp", false),
    ("ipip", "inner (udp) and dst 198.51.100.2", true),
    ("ipip", "inner (udp) and dst 10.9.0.2", false),
    ("ipip", "inner (udp) or tcp", true),
    ("ipip", "not inner (udp)", false),
    ("ipip", "not inner (tcp)", true),
    ("ipip", "inner (ether host 02:00:00:00:00:aa)", false),
    ("ipip", "inner (not ether host 02:00:00:00:00:aa)", true),
    ("ipip", "inner (ip[8] = 64 and udp[2:2] = 53)", true),
    ("ipip", "inner (ether[0] >= 0)", false),
    ("ipip with options", "inner (udp port 53)", true),
    ("ipip later fragment", "inner (ip)", false),
    ("6in4", "inner (ip6 and udp port 53)", true),
    ("6in4", "inner (ip)", false),
    ("4in6", "inner (udp port 53) and ip6", true),
    ("6in6", "inner (dst 2001:db8::4 and tcp dst port 80)", true),
    ("6in6", "inner (dst 2001:db8::2)", false),
    ("4in6 behind options", "inner (udp)", false),
    ("4in6 behind options", "ext (inner (udp port 53))", true),
    ("gre", "inner (udp port 53)", true),
    ("gre with key", "inner (udp port 53)", true),
    ("gre with all", "inner (udp port 53)", true),
    ("gre of ethernet", "inner (udp port 53)", true),
    ("gre of ethernet", "inner (ether dst 02:00:00:00:00:01)", true),
    ("gre of ethernet", "inner (ether dst 02:00:00:00:00:bb)", false),
    ("gre of ip6", "inner (ip6 and udp)", true),
    ("gre version 1", "inner (ip)", false),
    (
        "ipip in gre",
        "inner (src 198.51.100.2 and inner (udp port 53))",
        true,
    ),
    ("ipip in gre", "inner (udp)", false),
    ("plain", "inner (udp)", false),
    ("plain", "udp and not inner (udp)", true),
    ("vxlan4 42 tcp4", "inner (tcp src port 443)", true),
    ("vxlan4 42 tcp4", "inner (ether src 02:00:00:00:00:cc)", true),
    ("vxlan6 43 udp4", "inner (udp port 53)", true),
    ("geneve4 11 ethernet tcp4", "inner (tcp)", true),
    ("geneve4 13 ip6", "inner (ip6 and tcp)", true),
    ("geneve4 wrong version", "inner (ip)", false),
    // What libpcap 1.11 knows of VXLAN.
    ("vxlan4 42 tcp4", "vxlan", true),
    ("vxlan4 42 tcp4", "vxlan 42", true),
    ("vxlan4 42 tcp4", "vxlan 43", false),
    ("vxlan4 42 tcp4", "vxlan and tcp src port 443", true),
    ("vxlan4 42 tcp4", "vxlan 42 and udp", false),
    ("vxlan4 42 tcp4", "udp dst port 4789 and vxlan 42", true),
    ("vxlan6 43 udp4", "vxlan 43 and ip and udp port 53", true),
    ("vxlan6 43 udp4", "ip6 and vxlan", true),
    ("geneve4 11 ethernet tcp4", "vxlan", false),
    ("udp4 dns", "vxlan", false),
    ("udp4 later fragment", "vxlan", false),
    // Extension headers.
    ("options", "udp", false),
    ("options", "ext (udp)", true),
    ("options", "ext (udp dst port 53)", true),
    ("options", "ext (udp src port 53)", false),
    ("options", "ext (udp[2:2] = 53)", true),
    ("options", "ext (tcp)", false),
    ("options", "ext (port 53) and not port 53", true),
    ("options", "ext (proto 17)", true),
    ("first fragment", "ext (udp port 53)", true),
    ("later fragment", "ext (udp)", true),
    ("later fragment", "ext (udp port 53)", false),
    ("later fragment", "ext (not udp port 53)", true),
    ("ah", "ext (tcp dst port 80)", true),
    ("eight headers", "ext (tcp dst port 80)", true),
    ("nine headers", "ext (tcp)", false),
    ("tcp6 https", "ext (tcp src port 443 and tcp[13] & 2 != 0)", true),
    ("udp4 dns", "ext (udp port 53)", true),
    ("icmp6 echo", "ext (icmp6[0] = 128)", true),
    ("fragment6 icmp6", "ext (icmp6[0] = 128)", true),
];

#[test]
fn verdicts() {
    let mut wrong = vec![];
    for (name, text, expected) in CASES {
        let bytes = packet(name);
        let compiled = Compiled::new(text, &Env::default(), Link::Ethernet);
        let compiled = compiled.unwrap_or_else(|error| panic!("{}", error.render(text)));
        let machine = compiled.machine();
        if machine.matches(&bytes, bytes.len() as u32) != *expected {
            wrong.push(format!("{name}: '{text}' should be {expected}"));
        }
        // A packet that is cut off ends the filter, or is judged by what is left; no load is outside of it.
        for len in 0..bytes.len() {
            machine.matches(&bytes[..len], bytes.len() as u32);
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// On packets without extension headers `ext` changes nothing about IPv6.
#[test]
fn ext_is_plain_without_extension_headers() {
    let names = [
        "udp6 dns",
        "tcp6 https",
        "sctp6",
        "icmp6 echo",
        "udp4 dns",
        "tcp4 syn",
        "arp request",
    ];
    for text in [
        "tcp",
        "udp port 53",
        "port 80 or 443",
        "icmp6",
        "proto 132",
        "not udp",
        "host 2001:db8::1",
    ] {
        let plain = Compiled::new(text, &Env::default(), Link::Ethernet).expect("it compiles");
        let walking = format!("ext ({text})");
        let walking = Compiled::new(&walking, &Env::default(), Link::Ethernet).expect("it compiles");
        for name in names {
            let bytes = packet(name);
            for len in [bytes.len(), 58, 50] {
                let data = &bytes[..len.min(bytes.len())];
                let [a, b] = [&plain, &walking].map(|c| c.machine().matches(data, bytes.len() as u32));
                assert_eq!(a, b, "{text}: {name} cut to {len}");
            }
        }
    }
}
