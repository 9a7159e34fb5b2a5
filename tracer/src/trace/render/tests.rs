//! Golden renderings: `tracer/tests/golden/*`, blessed by `KTRAIL_BLESS=1`.

use std::io;
use std::path::Path;
use std::rc::Rc;

use super::*;
use crate::trace::event::{Sign, Tuple};
use crate::trace::pipeline::{Pipeline, is_over};
use crate::trace::story::Story;
use crate::trace::summary::{Attached, Missed, Skipped};

/// CLOCK_REALTIME was 2026-09-21T12:34:55.5Z when CLOCK_MONOTONIC was 0.
const OFFSET: i64 = 1_790_080_495_500_000_000 - 86_400_000_000_000;

fn names(story: &Story) -> Rc<Names> {
    let enumerators = [
        (0, "SKB_NOT_DROPPED_YET"),
        (2, "SKB_DROP_REASON_NOT_SPECIFIED"),
        (6, "SKB_DROP_REASON_NETFILTER_DROP"),
    ];
    let reasons = Reasons::new(enumerators.map(|(number, name)| (number, name.to_owned())));
    let symbols = |address| (address == 0xffff_ffff_8100_0010u64).then(|| "nf_hook_slow.cold".to_owned());
    Rc::new(Names::new(story.points.clone(), reasons, Box::new(symbols)))
}

fn attached() -> Attached {
    let skipped = |count, reason: &str| Skipped {
        count,
        reason: reason.into(),
    };
    Attached {
        backend: "kprobe-multi".into(),
        functions: 1672,
        tracepoints: 23,
        skipped: vec![
            skipped(8, "can't be probed"),
            skipped(6, "take the skb beyond the sixth argument"),
        ],
    }
}

enum Format {
    Text(Timestamp, bool),
    Json,
}

fn render(story: &Story, format: Format, live: bool) -> String {
    fn run<R: Renderer>(story: &Story, renderer: R, live: bool) {
        let mut pipeline = Pipeline::new(&story.points, renderer, live);
        for event in &story.events {
            pipeline.push(event.clone());
            pipeline.advance(event.time).unwrap();
        }
        pipeline.finish(attached(), Missed::default()).unwrap();
    }
    let mut out = Vec::new();
    match format {
        Format::Text(timestamp, colour) => {
            run(story, Text::new(&mut out, names(story), timestamp, colour), live);
        }
        Format::Json => run(story, Json::new(&mut out, names(story), OFFSET), live),
    }
    String::from_utf8(out).unwrap()
}

fn golden(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("KTRAIL_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        actual,
        expected,
        "{} differs; KTRAIL_BLESS=1 accepts it",
        path.display()
    );
}

/// Delivered to the server, then a second query that the firewall drops.
fn two_queries() -> Story {
    let mut story = Story::new();
    story.cross().read();
    let mut second = Story::new();
    std::mem::swap(&mut second.points, &mut story.points);
    second.time = 2_000_000_000;
    second.journey = 8;
    second.dropped();
    second.events.splice(0..0, story.events);
    second
}

/// NAT, a mark, a tunnel, a capture, a broadcast's copies, a driver that is busy, a name that bites.
fn busy_life() -> Story {
    let mut story = Story::new();
    let skb = story.skb;
    story.dev(3, "br\x1b[31m0", 4026531840).process(0, 0, "swapper/0");
    story.packet.ethertype = 0;
    story.pass("ip_rcv").packet.mark = 0x2a;
    story.packet.ethertype = 0x0800;
    story.pass("nft_do_chain [nf_tables]");
    let tuple = story.packet.tuple.as_mut().unwrap();
    tuple.dst = "192.0.2.53".parse().unwrap();
    story.pass("nf_nat_ipv4_manip_with_a_name_that_is_wider_than_its_column [nf_nat]");
    let tuple = story.packet.tuple.as_mut().unwrap();
    (tuple.src, tuple.ports) = ("2001:db8::17".parse().unwrap(), Some((1024, 53)));
    tuple.dst = "2001:db8:0:1:2:3:4:5".parse().unwrap();
    story.packet.ethertype = 0x86dd;
    story
        .dev(4, "eth0", 4026531840)
        .pass("ip6_output dev_queue_xmit_nit skb_clone");
    for (copy, pid) in [(1, 77), (2, 78)] {
        story
            .process(3, pid, "tcpdump\n")
            .skb(skb + copy)
            .sign("__copy_skb_header", Sign::Cloned { from: skb });
        story
            .pass("packet_rcv")
            .sign("tp:skb_copy_datagram_iovec", Sign::Copied);
        story
            .sign("tp:consume_skb", Sign::Consumed { read: false })
            .sign("kfree_skbmem", Sign::Freed);
    }
    for copy in 3..12 {
        story
            .skb(skb + copy)
            .sign("__copy_skb_header", Sign::Cloned { from: skb });
        story
            .sign(
                "tp:kfree_skb",
                Sign::Dropped {
                    reason: Some(2 << 16 | 5),
                    location: 0,
                },
            )
            .free();
    }
    story
        .skb(skb + 99)
        .pass("tp:net_dev_queue")
        .sign("kfree_skbmem", Sign::Freed);
    story
        .skb(skb)
        .pass("dev_hard_start_xmit")
        .sign("tp:net_dev_xmit", Sign::Transmitted { code: 16 });
    story
        .pass("dev_hard_start_xmit")
        .sign("tp:net_dev_xmit", Sign::Transmitted { code: 0 });
    story
}

#[test]
fn text() {
    let story = two_queries();
    golden(
        "journey.txt",
        &render(&story, Format::Text(Timestamp::Relative, false), false),
    );
    golden(
        "journey-none.txt",
        &render(&story, Format::Text(Timestamp::None, false), false),
    );
    golden(
        "journey-delta.txt",
        &render(&story, Format::Text(Timestamp::Delta, false), false),
    );
    golden(
        "journey-absolute.txt",
        &render(
            &story,
            Format::Text(Timestamp::Absolute { offset: OFFSET }, false),
            false,
        ),
    );
    golden(
        "journey-live.txt",
        &render(&story, Format::Text(Timestamp::Relative, false), true),
    );
}

#[test]
fn text_of_a_busy_life() {
    let story = busy_life();
    golden(
        "busy.txt",
        &render(&story, Format::Text(Timestamp::Relative, false), false),
    );
    golden(
        "busy-live.txt",
        &render(&story, Format::Text(Timestamp::None, false), true),
    );
}

#[test]
fn colour_adds_escape_sequences_and_nothing_else() {
    let sequences = regex::Regex::new("\x1b\\[[0-9;]*m").unwrap();
    for (story, live) in [(two_queries(), false), (busy_life(), false), (busy_life(), true)] {
        let plain = render(&story, Format::Text(Timestamp::Delta, false), live);
        let coloured = render(&story, Format::Text(Timestamp::Delta, true), live);
        assert!(sequences.find_iter(&coloured).count() > 10);
        assert_eq!(sequences.replace_all(&coloured, ""), plain);
        assert!(
            plain
                .bytes()
                .all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte))
        );
    }
}

#[test]
fn common_lines_fit_their_columns() {
    let text = render(&two_queries(), Format::Text(Timestamp::Relative, false), false);
    let wide: Vec<&str> = text.lines().filter(|line| line.len() > 110).collect();
    assert_eq!(wide, <[&str; 0]>::default());
}

#[test]
fn json() {
    golden("journey.json", &render(&two_queries(), Format::Json, false));
    golden("busy-live.json", &render(&busy_life(), Format::Json, true));
}

/// Every key that the golden lines have is in the format's description, and every line is JSON on its own.
#[test]
fn json_is_documented() {
    fn keys(value: &serde_json::Value, into: &mut std::collections::BTreeSet<String>) {
        match value {
            serde_json::Value::Object(map) => {
                for (key, value) in map {
                    into.insert(key.clone());
                    keys(value, into);
                }
            }
            serde_json::Value::Array(values) => values.iter().for_each(|value| keys(value, into)),
            _ => {}
        }
    }
    let mut used = std::collections::BTreeSet::new();
    for story in [two_queries(), busy_life()] {
        for line in render(&story, Format::Json, false).lines() {
            keys(&serde_json::from_str(line).unwrap(), &mut used);
        }
    }
    assert!(used.len() > 50, "{used:?}");
    let text = include_str!("../../../../docs/json.md");
    let missing: Vec<&String> = used
        .iter()
        .filter(|key| !text.contains(&format!("`{key}`")))
        .collect();
    assert!(missing.is_empty(), "docs/json.md lacks {missing:?}");
}

#[test]
fn a_cut_journey_says_so() {
    let mut story = Story::new();
    for _ in 0..5000 {
        story.pass("ip_rcv");
    }
    let text = render(&story, Format::Text(Timestamp::None, false), false);
    assert_eq!(
        text.lines().filter(|line| line.ends_with("ip_rcv")).count(),
        4096 + 64
    );
    assert!(text.contains("  ... 840 events not kept ...\n"), "{text}");
    assert!(
        text.contains("840 events left out: too many of one packet\n"),
        "{text}"
    );
    let live = render(&story, Format::Text(Timestamp::None, false), true);
    assert_eq!(live.lines().filter(|line| line.ends_with("ip_rcv")).count(), 5000);
    assert!(!live.contains("left out"), "{live}");
}

/// Nobody reads: an error that the caller can tell from others, and no panic.
#[test]
fn a_broken_pipe_is_an_end() {
    struct Closed;
    impl io::Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    fn fails<R: Renderer>(story: &Story, renderer: R) {
        let mut pipeline = Pipeline::new(&story.points, renderer, false);
        story.events.iter().for_each(|event| pipeline.push(event.clone()));
        let error = pipeline.advance(u64::MAX).unwrap_err();
        assert!(is_over(&error), "{error:?}");
    }
    let story = two_queries();
    fails(&story, Text::new(Closed, names(&story), Timestamp::None, false));
    fails(&story, Json::new(Closed, names(&story), 0));
}

#[test]
fn reasons_have_names() {
    let reasons = Reasons::new([
        (1, "SKB_CONSUMED".into()),
        (3, "SKB_DROP_REASON_NO_SOCKET".into()),
    ])
    .with_subsystems([(1, "SKB_DROP_REASON_SUBSYS_MAC80211_UNUSABLE".into())])
    .with_more([(3 << 16 | 1, "OVS_DROP_LAST_ACTION".into())]);
    assert_eq!(reasons.name(3), "NO_SOCKET");
    assert_eq!(reasons.name(1), "SKB_CONSUMED");
    assert_eq!(reasons.name(77), "reason 77");
    assert_eq!(reasons.name(1 << 16 | 4), "MAC80211_UNUSABLE reason 4");
    assert_eq!(reasons.name(2 << 16 | 5), "subsystem 2 reason 5");
    assert_eq!(reasons.name(3 << 16 | 1), "OVS_DROP_LAST_ACTION");
}

#[test]
fn packets_without_ports_and_headers() {
    let tuple = |src: &str, dst: &str, protocol, ports| {
        names::tuple(&Tuple {
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            protocol,
            ports,
        })
    };
    assert_eq!(
        tuple("10.0.0.1", "10.0.0.2", 1, Some((8, 0))),
        "icmp 10.0.0.1 -> 10.0.0.2 echo request"
    );
    assert_eq!(
        tuple("::1", "::2", 58, Some((1, 4))),
        "icmp6 ::1 -> ::2 unreachable, code 4"
    );
    assert_eq!(
        tuple("10.0.0.1", "10.0.0.2", 1, Some((13, 0))),
        "icmp 10.0.0.1 -> 10.0.0.2 type 13 code 0"
    );
    assert_eq!(
        tuple("10.0.0.1", "10.0.0.2", 17, None),
        "udp 10.0.0.1 -> 10.0.0.2"
    );
    assert_eq!(tuple("fe80::1", "ff02::5", 89, None), "ospf fe80::1 -> ff02::5");
    assert_eq!(
        tuple("10.0.0.1", "10.0.0.2", 200, None),
        "protocol 200 10.0.0.1 -> 10.0.0.2"
    );
    assert_eq!(names::ethertype_label(0x0806), "arp");
    assert_eq!(names::ethertype_label(0x1234), "ethertype 0x1234");
}
