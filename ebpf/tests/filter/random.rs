//! Random texts and random filters: nothing panics, spans are in range, what compiles runs, and equivalent filters
//! agree.

use ktrail_ebpf::filter::frame::{Link, Source, program};
use ktrail_ebpf::filter::{Env, parse};
use proptest::prelude::*;

use super::oracle::expressions;
use super::packets;
use super::run::Compiled;
use super::types::Types;

/// Pieces of the language, and some that are none.
const WORDS: [&str; 84] = [
    "and",
    "or",
    "not",
    "(",
    ")",
    "host",
    "net",
    "port",
    "portrange",
    "src",
    "dst",
    "ip",
    "ip6",
    "arp",
    "tcp",
    "udp",
    "icmp",
    "icmp6",
    "ether",
    "proto",
    "protochain",
    "10.0.0.1",
    "10.1",
    "2001:db8::1",
    "::/0",
    "/8",
    "mask",
    "80",
    "53",
    "0",
    "1-2",
    "02:00:00:00:00:0a",
    "vlan",
    "100",
    "mpls",
    "pppoes",
    "geneve",
    "vxlan",
    "broadcast",
    "multicast",
    "len",
    "less",
    "greater",
    "ip[0]",
    "tcp[tcpflags]",
    "udp[4:2]",
    "[",
    "]",
    ":",
    "4",
    "+",
    "-",
    "*",
    "/",
    "%",
    "&",
    "|",
    "^",
    "<<",
    ">>",
    "=",
    "!=",
    "<",
    ">=",
    "tcp-syn",
    "foo",
    "\\tcp",
    "inbound",
    "ifindex",
    "\"x\"",
    "é",
    "0xffffffff",
    "inner",
    "ext",
    "inner (",
    "ext (",
    "skb.mark",
    "skb.dev.name",
    "skb.nothing",
    "pid",
    "comm",
    "netns",
    "cgroup",
    "==",
];

fn words() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&WORDS[..]), 0..24).prop_map(|words| words.join(" "))
}

fn leaf() -> impl Strategy<Value = String> {
    let leaves: Vec<String> = ["basic", "arithmetic", "link", "encapsulation"]
        .iter()
        .flat_map(|name| expressions(name))
        .filter(|text| parse(text, &Env::default()).is_ok())
        .collect();
    prop::sample::select(leaves).prop_map(|leaf| format!("({leaf})"))
}

/// A filter of a few leaves.
fn filter() -> impl Strategy<Value = String> {
    leaf().prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|a| format!("(ext {a})")),
            inner.clone().prop_map(|a| format!("(inner {a})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} and {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} or {b})")),
            inner.prop_map(|a| format!("(not {a})")),
        ]
    })
}

/// How many cases: `KTRAIL_FUZZ=N` makes N times as many.
fn cases(usual: u32) -> ProptestConfig {
    let times: u32 = std::env::var("KTRAIL_FUZZ").map_or(1, |n| n.parse().expect("KTRAIL_FUZZ is a number"));
    ProptestConfig {
        cases: usual * times,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// With some types of a kernel, so that terms about it are read.
fn env() -> Env<'static> {
    Env {
        kernel: Some(&Types),
        ..Env::default()
    }
}

/// The verdicts on all packets, each whole and cut once, or `None` if the filter isn't accepted.
fn verdicts(text: &str) -> Option<Vec<bool>> {
    let compiled = Compiled::new(text, &env(), Link::Ethernet).ok()?;
    let machine = compiled.machine();
    let judge = |packet: packets::Packet| {
        let wire = packet.bytes.len() as u32;
        let cut = packet.bytes.len() * 3 / 5;
        [
            machine.matches(&packet.bytes, wire),
            machine.matches(&packet.bytes[..cut], wire),
        ]
    };
    Some(packets::all().into_iter().flat_map(judge).collect())
}

/// Parsing doesn't panic, and an error points into the text.
fn check_parse(text: &str) -> Result<(), TestCaseError> {
    if let Err(error) = parse(text, &env()) {
        prop_assert!(error.span.start <= error.span.end && error.span.end <= text.len());
        prop_assert!(!error.message.is_empty());
        let shown = error.render(text);
        prop_assert!(shown.lines().count() >= 3 && shown.len() < 2000, "{shown}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,60}") {
        check_parse(&text)?;
    }

    #[test]
    fn any_words_are_read_or_refused(text in words()) {
        check_parse(&text)?;
        // What is accepted compiles and runs on everything.
        verdicts(&text);
    }
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn equivalent_filters_agree(a in filter(), b in leaf()) {
        let plain = verdicts(&a);
        prop_assert_eq!(&plain, &verdicts(&format!("(({a}))")));
        prop_assert_eq!(&plain, &verdicts(&format!("not not {a}")));
        // The same loads are made in the same order. What stands behind an encapsulation means something else.
        if !["vlan", "mpls", "pppoes", "geneve", "vxlan"].iter().any(|word| a.contains(word)) {
            prop_assert_eq!(&plain, &verdicts(&format!("{a} and {a}")));
            let both = verdicts(&format!("{a} and {b}"));
            prop_assert_eq!(both, verdicts(&format!("not (not {a} or not {b})")));
        }
    }
}

/// Large filters take little time and memory, or are refused.
#[test]
fn large_filters() {
    let many = |text: &str, joint: &str, n: usize| vec![text; n].join(joint);
    for text in [
        many("host 10.0.0.1", " or ", 80),
        many("host 2001:db8::1", " or ", 80),
        many("port 53", " or ", 80),
        many("tcp[13] = 2", " or ", 80),
        many("not host 10.0.0.1", " and ", 80),
        many("ip or udp and not tcp", " or ", 90),
        "(".repeat(90) + "tcp" + &")".repeat(90),
        "not ".repeat(10_000) + "tcp",
        format!("{}= 5", many("len ", "+ ", 200)),
        format!("{}tcp[0]{} = 1", "tcp[".repeat(40), "]".repeat(40)),
        many("vlan", " and ", 50) + " and tcp port 80",
        many("geneve", " and ", 4) + " and tcp port 80",
        "inner (".repeat(4) + "tcp port 80" + &")".repeat(4),
        "ext (".repeat(50) + "port 80" + &")".repeat(50),
    ] {
        let start = std::time::Instant::now();
        let compiled = Compiled::new(&text, &Env::default(), Link::Ethernet);
        let shown = &text[..text.len().min(60)];
        assert!(
            start.elapsed().as_secs() < 20,
            "{shown}… took {:?}",
            start.elapsed()
        );
        let compiled = compiled.unwrap_or_else(|error| panic!("{shown}…: {}", error.render(&text)));
        println!(
            "{shown}…: {} instructions in {:?}",
            compiled.object.insns.len(),
            start.elapsed()
        );
    }
    for text in [
        many("host 10.0.0.1", " or ", 400),
        many("port 53", " or ", 400),
        many("not host 10.0.0.1", " and ", 400),
    ] {
        let start = std::time::Instant::now();
        let filter = parse(&text, &Env::default()).expect("it is read");
        let blocks = program(&filter, Link::Ethernet, Source::Memory).functions[0]
            .blocks
            .len();
        assert!(
            blocks > 1000 && start.elapsed().as_secs() < 20,
            "{:?}",
            start.elapsed()
        );
    }
    for text in [
        "(".repeat(5000) + "tcp" + &")".repeat(5000),
        "-".repeat(5000) + "1 = 1",
        "ip[".repeat(5000),
        "port not ".to_string() + &"not ".repeat(5000) + "80",
        format!("{}= 5", many("len ", "+ ", 5000)),
        many("ip and udp or tcp", " and ", 2000),
        "x".repeat(100_000),
        "inner (".repeat(5) + "tcp" + &")".repeat(5),
        "ext (".repeat(5000),
        many("vlan or ip", ") and (", 20).replace("vlan or ip", "(vlan or ip)"),
    ] {
        assert!(parse(&text, &Env::default()).is_err(), "{}…", &text[..60]);
    }
}
