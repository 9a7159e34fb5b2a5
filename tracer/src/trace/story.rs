//! Hand-made event lists for tests: what a packet passes, told one attach point at a time.

use super::event::{Event, Hook, Packet, Point, PointId, PointKind, Returned, Rule, Sign, Tuple};

/// A list of events in the making. The fields are what the next event will have.
pub struct Story {
    pub points: Vec<Point>,
    pub events: Vec<Event>,
    pub time: u64,
    pub journey: u64,
    pub skb: u64,
    pub cpu: u32,
    pub pid: u32,
    pub comm: Vec<u8>,
    pub packet: Packet,
}

/// What a DNS query to 8.8.8.8 looks like.
pub fn query() -> Tuple {
    Tuple {
        src: "10.0.0.2".parse().unwrap(),
        dst: "8.8.8.8".parse().unwrap(),
        protocol: 17,
        ports: Some((41234, 53)),
    }
}

/// An IPv4 and a UDP header.
fn headers(tuple: &Tuple) -> Vec<u8> {
    let mut bytes = vec![0x45, 0, 0, 68, 0, 1, 0x40, 0, 64, tuple.protocol, 0, 0];
    for address in [tuple.src, tuple.dst] {
        match address {
            std::net::IpAddr::V4(address) => bytes.extend(address.octets()),
            std::net::IpAddr::V6(_) => unreachable!("the story's query is IPv4"),
        }
    }
    let (src, dst) = tuple.ports.unwrap_or_default();
    for number in [src, dst, 48, 0] {
        bytes.extend(number.to_be_bytes());
    }
    bytes
}

impl Story {
    /// A process sends a DNS query; the headers are complete.
    pub fn new() -> Self {
        Story {
            points: Vec::new(),
            events: Vec::new(),
            time: 1_000_000_000,
            journey: 7,
            skb: 0xffff_8880_0000_1000,
            cpu: 1,
            pid: 1234,
            comm: b"dig".to_vec(),
            packet: Packet {
                tuple: Some(query()),
                ethertype: 0x0800,
                len: 68,
                mark: 0,
                ifindex: 0,
                ifname: Vec::new(),
                netns: 4026532201,
                conntrack: None,
                headroom: 128,
                network_header: 128,
                headers: headers(&query()),
            },
        }
    }

    /// `tp:kfree_skb` is a tracepoint, `nft_do_chain [nf_tables]` a module's function.
    pub fn point(&mut self, label: &str) -> PointId {
        let (label, kind) = match label.strip_prefix("tp:") {
            Some(name) => (name, PointKind::Tracepoint),
            None => (label, PointKind::Function),
        };
        let (name, module) = match label.split_once(" [") {
            Some((name, module)) => (name, module.trim_end_matches(']')),
            None => (label, ""),
        };
        let point = Point {
            name: name.into(),
            module: module.into(),
            kind,
            quiet: false,
        };
        let index = self.points.iter().position(|p| *p == point).unwrap_or_else(|| {
            self.points.push(point);
            self.points.len() - 1
        });
        PointId(index as u32)
    }

    /// The packet passes an attach point with a meaning; 640 ns go by.
    pub fn sign(&mut self, label: &str, sign: Sign) -> &mut Self {
        let point = self.point(label);
        self.events.push(Event {
            time: self.time,
            journey: self.journey,
            skb: self.skb,
            point,
            cpu: self.cpu,
            pid: self.pid,
            tid: self.pid,
            comm: self.comm.clone(),
            packet: (!matches!(sign, Sign::Transmitted { .. } | Sign::Freed)).then(|| self.packet.clone()),
            sign,
            hook: None,
            rule: None,
            shown: vec![],
            stack: vec![],
        });
        self.time += 640;
        self
    }

    /// The packet passes attach points, separated by spaces.
    pub fn pass(&mut self, labels: &str) -> &mut Self {
        for label in labels.replace(" [", "~[").split_whitespace() {
            self.sign(&label.replace('~', " "), Sign::Passed);
        }
        self
    }

    /// A function runs on the packet's behalf, for 320 ns.
    pub fn ran(&mut self, label: &str, under: &str, returned: Returned) -> &mut Self {
        let under = self.point(under);
        self.sign(
            label,
            Sign::Ran {
                under,
                returned,
                took: 320,
            },
        );
        if let Some(event) = self.events.last_mut() {
            event.packet = None;
        }
        self
    }

    /// The next events are about another skb.
    pub fn skb(&mut self, skb: u64) -> &mut Self {
        self.skb = skb;
        self
    }

    /// The packet is on a device.
    pub fn dev(&mut self, ifindex: u32, name: &str, netns: u32) -> &mut Self {
        self.packet.ifindex = ifindex;
        self.packet.ifname = name.into();
        self.packet.netns = netns;
        self
    }

    /// Another process is on the CPU.
    pub fn process(&mut self, cpu: u32, pid: u32, comm: &str) -> &mut Self {
        (self.cpu, self.pid, self.comm) = (cpu, pid, comm.into());
        self
    }

    /// Through the IP output functions and a veth pair, up to the other side's UDP socket.
    pub fn cross(&mut self) -> &mut Self {
        self.pass("ip_send_skb __ip_local_out nf_hook_slow ip_output");
        self.dev(2, "veth0", 4026532201).pass("ip_finish_output2");
        self.packet.len = 82;
        self.pass("__dev_queue_xmit dev_hard_start_xmit tp:net_dev_start_xmit veth_xmit");
        self.packet.len = 68;
        self.dev(2, "veth1", 4026532300)
            .pass("__netif_rx tp:netif_rx enqueue_to_backlog");
        self.sign("tp:net_dev_xmit", Sign::Transmitted { code: 0 });
        self.pass("__netif_receive_skb_one_core ip_rcv ip_local_deliver");
        self.pass("udp_rcv udp_queue_rcv_one_skb __udp_enqueue_schedule_skb skb_condense")
    }

    /// A process reads it, and its memory goes back.
    pub fn read(&mut self) -> &mut Self {
        self.time += 20_000;
        self.process(0, 812, "dnsmasq");
        self.sign("tp:skb_copy_datagram_iovec", Sign::Copied)
            .pass("skb_consume_udp");
        self.sign("tp:consume_skb", Sign::Consumed { read: false }).free()
    }

    /// Its memory goes back.
    pub fn free(&mut self) -> &mut Self {
        self.pass("skb_release_head_state skb_release_data")
            .sign("kfree_skbmem", Sign::Freed)
    }

    /// The point that it passed last told of Netfilter.
    pub fn told(&mut self, hook: Option<Hook>, rule: Option<Rule>) -> &mut Self {
        if let Some(event) = self.events.last_mut() {
            (event.hook, event.rule) = (hook, rule);
        }
        self
    }

    /// A rule of nftables drops it, after one of iptables-legacy's tables and an accepting rule.
    pub fn dropped_by_a_rule(&mut self) -> &mut Self {
        let hook = |table: &str, chain: &str| {
            Some(Hook {
                family: 2,
                number: 3,
                table: table.into(),
                chain: chain.into(),
            })
        };
        let rule = |chain: &str, handle, verdict| {
            Some(Rule {
                family: 2,
                table: b"filter".to_vec(),
                chain: chain.into(),
                handle,
                verdict,
            })
        };
        self.pass("nf_hook_slow").told(hook("", ""), None);
        self.pass("ipt_do_table [ip_tables]")
            .told(hook("mangle", ""), None);
        self.pass("nft_do_chain_ipv4 [nf_tables]")
            .told(hook("filter", "OUTPUT"), None);
        let verdict = "nft_immediate_eval [nf_tables]";
        self.pass(verdict).told(None, rule("OUTPUT", 7, -3));
        self.pass(verdict).told(None, rule("mine", 3, 0));
        self.freed_by_netfilter()
    }

    /// What ends a packet that Netfilter dropped.
    fn freed_by_netfilter(&mut self) -> &mut Self {
        self.sign(
            "tp:kfree_skb",
            Sign::Dropped {
                reason: Some(6),
                location: 0xffff_ffff_8100_0010,
            },
        )
        .free()
    }

    /// Netfilter drops it.
    pub fn dropped(&mut self) -> &mut Self {
        self.pass("ip_send_skb __ip_local_out nf_hook_slow kfree_skb_reason");
        self.freed_by_netfilter()
    }
}
