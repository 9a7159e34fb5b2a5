//! Packets of all shapes that filters tell apart, made here byte by byte.

/// A packet and what to call it in messages.
pub struct Packet {
    pub name: &'static str,
    pub bytes: Vec<u8>,
}

const MAC_A: [u8; 6] = [0x02, 0, 0, 0, 0, 0x0a];
const MAC_B: [u8; 6] = [0x02, 0, 0, 0, 0, 0x0b];
const BROADCAST: [u8; 6] = [0xff; 6];
const MULTICAST: [u8; 6] = [0x01, 0x00, 0x5e, 0, 0, 0xfb];

const V4_A: [u8; 4] = [10, 0, 0, 1];
const V4_B: [u8; 4] = [8, 8, 8, 8];
const V4_C: [u8; 4] = [192, 168, 1, 77];

/// 2001:db8::1 and its like.
pub fn v6(last: u8) -> [u8; 16] {
    let mut addr = [0; 16];
    addr[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    addr[15] = last;
    addr
}

pub fn cat(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

pub fn ether(dst: [u8; 6], src: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    cat(&[&dst, &src, &ethertype.to_be_bytes(), payload])
}

/// IPv4 with `options` (a multiple of four bytes) and the second half of the fragment word.
pub fn ip(src: [u8; 4], dst: [u8; 4], proto: u8, fragment: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let mut bytes = vec![0x40 | (header / 4) as u8, 0x10];
    bytes.extend(((header + payload.len()) as u16).to_be_bytes());
    bytes.extend([0x12, 0x34]);
    bytes.extend(fragment.to_be_bytes());
    bytes.extend([64, proto, 0xbe, 0xef]);
    cat(&[&bytes, &src, &dst, options, payload])
}

pub fn ip6(src: [u8; 16], dst: [u8; 16], next: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend((payload.len() as u16).to_be_bytes());
    bytes.extend([next, 64]);
    cat(&[&bytes, &src, &dst, payload])
}

pub fn udp(src: u16, dst: u16, payload: &[u8]) -> Vec<u8> {
    let len = (8 + payload.len()) as u16;
    cat(&[
        &src.to_be_bytes(),
        &dst.to_be_bytes(),
        &len.to_be_bytes(),
        &[0, 0],
        payload,
    ])
}

pub fn tcp(src: u16, dst: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let rest = [0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0];
    cat(&[&src.to_be_bytes(), &dst.to_be_bytes(), &rest, payload])
}

fn sctp(src: u16, dst: u16) -> Vec<u8> {
    cat(&[&src.to_be_bytes(), &dst.to_be_bytes(), &[0; 8]])
}

fn arp(op: u8, src: [u8; 4], dst: [u8; 4]) -> Vec<u8> {
    cat(&[&[0, 1, 8, 0, 6, 4, 0, op], &MAC_A, &src, &[0; 6], &dst])
}

/// All packets.
pub fn all() -> Vec<Packet> {
    let dns = udp(40000, 53, b"query");
    let http = tcp(51000, 80, 0x02, b"");
    let https = tcp(443, 51001, 0x12, b"data");
    let v4 = |payload: &[u8]| ether(MAC_B, MAC_A, 0x0800, payload);
    let v6f = |payload: &[u8]| ether(MAC_B, MAC_A, 0x86dd, payload);
    let mut packets = vec![];
    let mut add = |name, bytes| packets.push(Packet { name, bytes });

    add("udp4 dns", v4(&ip(V4_A, V4_B, 17, 0, &[], &dns)));
    add(
        "udp4 dns reply",
        v4(&ip(V4_B, V4_A, 17, 0, &[], &udp(53, 40000, b"reply"))),
    );
    add(
        "udp4 dns with options",
        v4(&ip(V4_A, V4_B, 17, 0, &[1, 1, 1, 0], &dns)),
    );
    add("udp4 first fragment", v4(&ip(V4_A, V4_B, 17, 0x2000, &[], &dns)));
    add("udp4 later fragment", v4(&ip(V4_A, V4_B, 17, 0x0005, &[], &dns)));
    add(
        "udp4 don't fragment",
        v4(&ip(V4_A, V4_C, 17, 0x4000, &[], &udp(1500, 2000, b""))),
    );
    add(
        "udp4 port 81",
        v4(&ip([0, 0, 0, 81], V4_C, 17, 0, &[], &udp(80, 81, b""))),
    );
    add("tcp4 syn", v4(&ip(V4_A, V4_C, 6, 0, &[], &http)));
    add("tcp4 syn ack", v4(&ip(V4_C, V4_A, 6, 0x4000, &[], &https)));
    add(
        "tcp4 with many options",
        v4(&ip(V4_C, V4_A, 6, 0, &[1; 40], &https)),
    );
    add("tcp4 short header length", {
        let mut bytes = ip(V4_A, V4_C, 6, 0, &[], &http);
        bytes[0] = 0x41;
        v4(&bytes)
    });
    add("sctp4", v4(&ip(V4_A, V4_C, 132, 0, &[], &sctp(80, 9000))));
    add(
        "icmp4 echo",
        v4(&ip(V4_A, V4_B, 1, 0, &[], &[8, 0, 0, 0, 0, 1, 0, 2])),
    );
    add(
        "icmp4 unreachable",
        v4(&ip(
            V4_B,
            V4_A,
            1,
            0,
            &[],
            &cat(&[&[3, 1, 0, 0, 0, 0, 0, 0], &ip(V4_A, V4_B, 17, 0, &[], &dns)]),
        )),
    );
    add(
        "igmp",
        ether(
            MULTICAST,
            MAC_A,
            0x0800,
            &ip(V4_A, [224, 0, 0, 22], 2, 0, &[1, 1, 1, 0], &[0x22, 0, 0, 0]),
        ),
    );
    add(
        "mdns4",
        ether(
            MULTICAST,
            MAC_A,
            0x0800,
            &ip(V4_A, [224, 0, 0, 251], 17, 0, &[], &udp(5353, 5353, b"m")),
        ),
    );
    add(
        "broadcast4",
        ether(
            BROADCAST,
            MAC_A,
            0x0800,
            &ip([0; 4], [255; 4], 17, 0, &[], &udp(68, 67, b"dhcp")),
        ),
    );
    add(
        "vrrp",
        v4(&ip(V4_A, [224, 0, 0, 18], 112, 0, &[], &[0x21, 1, 100, 1])),
    );
    add(
        "pim4",
        v4(&ip(V4_A, [224, 0, 0, 13], 103, 0, &[], &[0x20, 0, 0, 0])),
    );
    add("esp4", v4(&ip(V4_A, V4_C, 50, 0, &[], &[0, 0, 0, 9])));
    add(
        "ah4 tcp",
        v4(&ip(
            V4_A,
            V4_C,
            51,
            0,
            &[],
            &cat(&[&[6, 4, 0, 0], &[0; 20], &http]),
        )),
    );
    add(
        "gre4",
        v4(&ip(
            V4_A,
            V4_C,
            47,
            0,
            &[],
            &cat(&[&[0, 0, 8, 0], &ip(V4_C, V4_B, 17, 0, &[], &dns)]),
        )),
    );

    add("udp6 dns", v6f(&ip6(v6(1), v6(2), 17, &dns)));
    add("tcp6 https", v6f(&ip6(v6(2), v6(1), 6, &https)));
    add("sctp6", v6f(&ip6(v6(1), v6(9), 132, &sctp(5000, 80))));
    add(
        "icmp6 neighbour",
        v6f(&ip6(
            v6(1),
            {
                let mut addr = [0; 16];
                (addr[0], addr[1], addr[15]) = (0xff, 0x02, 1);
                addr
            },
            58,
            &[135, 0, 0, 0, 0, 0, 0, 0],
        )),
    );
    add(
        "icmp6 echo",
        v6f(&ip6(v6(1), v6(2), 58, &[128, 0, 0, 0, 0, 0, 0, 0])),
    );
    add(
        "fragment6 udp",
        v6f(&ip6(v6(1), v6(2), 44, &cat(&[&[17, 0, 0, 1, 0, 0, 0, 7], &dns]))),
    );
    add(
        "fragment6 icmp6",
        v6f(&ip6(
            v6(1),
            v6(2),
            44,
            &cat(&[&[58, 0, 0, 0, 0, 0, 0, 7], &[128, 0, 0, 0]]),
        )),
    );
    add(
        "hop-by-hop6 tcp",
        v6f(&ip6(v6(1), v6(2), 0, &cat(&[&[6, 0, 1, 4, 0, 0, 0, 0], &https]))),
    );
    add(
        "hop-by-hop6 routing6 udp",
        v6f(&ip6(
            v6(1),
            v6(2),
            0,
            &cat(&[
                &[43, 0, 1, 4, 0, 0, 0, 0],
                &[60, 1],
                &[0; 14],
                &[17, 0, 1, 4, 0, 0, 0, 0],
                &dns,
            ]),
        )),
    );
    add("no next header6", v6f(&ip6(v6(1), v6(2), 59, &[])));
    add(
        "ah6 tcp",
        v6f(&ip6(v6(1), v6(2), 51, &cat(&[&[6, 4, 0, 0], &[0; 20], &http]))),
    );

    add(
        "arp request",
        ether(BROADCAST, MAC_A, 0x0806, &arp(1, V4_A, V4_C)),
    );
    add("arp reply", ether(MAC_A, MAC_B, 0x0806, &arp(2, V4_C, V4_A)));
    add("rarp", ether(BROADCAST, MAC_A, 0x8035, &arp(3, [0; 4], V4_B)));
    add(
        "decnet",
        ether(MAC_B, MAC_A, 0x6003, &[0x81, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    );
    add(
        "lldp",
        ether(
            [1, 0x80, 0xc2, 0, 0, 0x0e],
            MAC_A,
            0x88cc,
            &[2, 7, 4, 0, 0, 0, 0, 0, 1],
        ),
    );
    add(
        "stp",
        ether(
            [1, 0x80, 0xc2, 0, 0, 0],
            MAC_A,
            38,
            &[0x42, 0x42, 3, 0, 0, 0, 0, 0, 0, 0],
        ),
    );
    add(
        "netbeui",
        ether(MAC_B, MAC_A, 20, &[0xf0, 0xf0, 3, 0, 0, 0, 0, 0]),
    );
    add(
        "iso",
        ether(
            MAC_B,
            MAC_A,
            27,
            &[0xfe, 0xfe, 3, 0x83, 0x1b, 1, 0, 15, 1, 0, 0, 0],
        ),
    );
    add(
        "esis",
        ether(
            MAC_B,
            MAC_A,
            27,
            &[0xfe, 0xfe, 3, 0x82, 0x1b, 1, 0, 15, 1, 0, 0, 0],
        ),
    );
    add(
        "ipx llc",
        ether(MAC_B, MAC_A, 40, &[0xe0, 0xe0, 3, 0xff, 0xff, 0, 30]),
    );
    add("ipx raw", ether(MAC_B, MAC_A, 40, &[0xff, 0xff, 0, 30, 0, 1]));
    add(
        "ipx ethertype",
        ether(MAC_B, MAC_A, 0x8137, &[0xff, 0xff, 0, 30, 0, 1]),
    );
    add(
        "appletalk snap",
        ether(MAC_B, MAC_A, 40, &[0xaa, 0xaa, 3, 8, 0, 7, 0x80, 0x9b, 0, 0]),
    );
    add("appletalk ethertype", ether(MAC_B, MAC_A, 0x809b, &[0; 10]));
    add(
        "aarp snap",
        ether(MAC_B, MAC_A, 40, &[0xaa, 0xaa, 3, 0, 0, 0, 0x80, 0xf3, 0, 0]),
    );
    add(
        "ip snap",
        ether(
            MAC_B,
            MAC_A,
            60,
            &cat(&[&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], &ip(V4_A, V4_B, 17, 0, &[], &dns)]),
        ),
    );

    let vlan = |tpid: u16, tci: u16, rest: &[u8]| {
        let mut bytes = ether(MAC_B, MAC_A, tpid, &tci.to_be_bytes());
        bytes.extend(rest);
        bytes
    };
    let ip_dns = ip(V4_A, V4_B, 17, 0, &[], &dns);
    let ip_http = ip(V4_A, V4_C, 6, 0, &[], &http);
    let ip6_https = ip6(v6(2), v6(1), 6, &https);
    add("vlan 100 udp4", vlan(0x8100, 100, &cat(&[&[8, 0], &ip_dns])));
    add(
        "vlan 100 prio 5 tcp4",
        vlan(0x8100, 0xa064, &cat(&[&[8, 0], &ip_http])),
    );
    add(
        "vlan 200 tcp6",
        vlan(0x8100, 200, &cat(&[&[0x86, 0xdd], &ip6_https])),
    );
    add(
        "qinq 300 100 udp4",
        vlan(0x88a8, 300, &cat(&[&[0x81, 0, 0, 100], &[8, 0], &ip_dns])),
    );
    add(
        "old qinq 1 2 tcp4",
        vlan(0x9100, 1, &cat(&[&[0x81, 0, 0, 2], &[8, 0], &ip_http])),
    );
    add(
        "vlan 7 arp",
        vlan(0x8100, 7, &cat(&[&[8, 6], &arp(1, V4_A, V4_C)])),
    );

    let mpls = |payload: &[u8]| ether(MAC_B, MAC_A, 0x8847, payload);
    add("mpls 1000 udp4", mpls(&cat(&[&[0, 0x3e, 0x81, 64], &ip_dns])));
    add(
        "mpls 1000 2000 tcp4",
        mpls(&cat(&[&[0, 0x3e, 0x80, 64, 0, 0x7d, 0x01, 64], &ip_http])),
    );
    add("mpls 5 tcp6", mpls(&cat(&[&[0, 0, 0x51, 64], &ip6_https])));
    add(
        "vlan 100 mpls 5 udp4",
        vlan(0x8100, 100, &cat(&[&[0x88, 0x47], &[0, 0, 0x51, 64], &ip_dns])),
    );

    add(
        "pppoe discovery",
        ether(BROADCAST, MAC_A, 0x8863, &[0x11, 9, 0, 0, 0, 4, 1, 1, 0, 0]),
    );
    let pppoes = |session: u16, proto: u16, payload: &[u8]| {
        ether(
            MAC_B,
            MAC_A,
            0x8864,
            &cat(&[
                &[0x11, 0],
                &session.to_be_bytes(),
                &((payload.len() + 2) as u16).to_be_bytes(),
                &proto.to_be_bytes(),
                payload,
            ]),
        )
    };
    add("pppoe session 59 udp4", pppoes(59, 0x21, &ip_dns));
    add("pppoe session 59 tcp6", pppoes(59, 0x57, &ip6_https));
    add(
        "pppoe session 60 lcp",
        pppoes(60, 0xc021, &[9, 1, 0, 8, 0, 0, 0, 0]),
    );

    let inner = ether(
        [2, 0, 0, 0, 0, 0xdd],
        [2, 0, 0, 0, 0, 0xcc],
        0x0800,
        &ip(V4_C, V4_B, 6, 0, &[1, 1, 1, 1], &https),
    );
    let geneve = |version: u8, vni: u32, proto: u16, options: &[u8], payload: &[u8]| {
        let vni = vni.to_be_bytes();
        udp(
            50000,
            6081,
            &cat(&[
                &[version << 6 | (options.len() / 4) as u8, 0],
                &proto.to_be_bytes(),
                &vni[1..],
                &[0],
                options,
                payload,
            ]),
        )
    };
    add(
        "geneve4 11 ethernet tcp4",
        v4(&ip(V4_A, V4_C, 17, 0, &[], &geneve(0, 11, 0x6558, &[], &inner))),
    );
    add(
        "geneve4 12 options udp4",
        v4(&ip(
            V4_A,
            V4_C,
            17,
            0,
            &[1, 1, 1, 1],
            &geneve(0, 12, 0x0800, &[0; 8], &ip_dns),
        )),
    );
    add(
        "geneve6 11 ethernet tcp4",
        v6f(&ip6(v6(1), v6(2), 17, &geneve(0, 11, 0x6558, &[0; 4], &inner))),
    );
    add(
        "geneve4 13 ip6",
        v4(&ip(
            V4_A,
            V4_C,
            17,
            0,
            &[],
            &geneve(0, 13, 0x86dd, &[], &ip6_https),
        )),
    );
    add(
        "geneve4 wrong version",
        v4(&ip(V4_A, V4_C, 17, 0, &[], &geneve(1, 11, 0x6558, &[], &inner))),
    );
    let vxlan = |vni: u32, payload: &[u8]| {
        let vni = vni.to_be_bytes();
        udp(50001, 4789, &cat(&[&[8, 0, 0, 0], &vni[1..], &[0], payload]))
    };
    add(
        "vxlan4 42 tcp4",
        v4(&ip(V4_A, V4_C, 17, 0, &[], &vxlan(42, &inner))),
    );
    add(
        "vxlan6 43 udp4",
        v6f(&ip6(v6(1), v6(2), 17, &vxlan(43, &v4(&ip_dns)))),
    );

    add(
        "random",
        (0..90u32)
            .map(|i| (i.wrapping_mul(2654435761) >> 13) as u8)
            .collect(),
    );
    add("zeros", vec![0; 70]);
    add("ones", vec![0xff; 70]);
    packets
}
