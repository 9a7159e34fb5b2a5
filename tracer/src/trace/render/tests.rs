//! Golden renderings: `tracer/tests/golden/*`, blessed by `KTRAIL_BLESS=1`.

use std::io;
use std::path::Path;
use std::rc::Rc;

use super::*;
use crate::trace::event::{Hook, Returned, Sign, Tuple};
use crate::trace::extras::Value;
use crate::trace::pipeline::{Pace, Pipeline, is_over};
use crate::trace::rules::{About, Question};
use crate::trace::story::Story;
use crate::trace::summary::{Attached, Counted, Skipped};

/// CLOCK_REALTIME was 2026-09-21T12:34:55.5Z when CLOCK_MONOTONIC was 0.
const OFFSET: i64 = 1_790_080_495_500_000_000 - 86_400_000_000_000;

pub(crate) fn names(story: &Story) -> Rc<Names> {
    let enumerators = [
        (0, "SKB_NOT_DROPPED_YET"),
        (2, "SKB_DROP_REASON_NOT_SPECIFIED"),
        (6, "SKB_DROP_REASON_NETFILTER_DROP"),
    ];
    let reasons = Reasons::new(enumerators.map(|(number, name)| (number, name.to_owned())));
    let symbols = |address| (address == 0xffff_ffff_8100_0010u64).then(|| "nf_hook_slow.cold".to_owned());
    let answers = |question: &Question| match question.about {
        About::Handle(3) => Some("udp dport 53 counter comment \"\x1b[31m\" drop".to_owned()),
        About::Handle(_) => None,
        About::Drops => Some("all that drops there is `-P OUTPUT DROP`".to_owned()),
    };
    let names = Names::new(story.points.clone(), reasons, Box::new(symbols));
    Rc::new(names.asking(Box::new(answers)))
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
        cost: None,
    }
}

enum Format {
    Text(Timestamp, bool),
    Json,
    Explained,
    Html,
    Paths,
    Perfetto,
}

fn pace(live: bool) -> Pace {
    match live {
        true => Pace::Events,
        false => Pace::Journeys,
    }
}

fn render(story: &Story, format: Format, live: bool) -> String {
    fn run<R: Renderer>(story: &Story, renderer: R, live: bool) {
        let mut pipeline = Pipeline::new(&story.points, renderer, pace(live));
        for event in &story.events {
            pipeline.push(event.clone());
            pipeline.advance(event.time).unwrap();
        }
        pipeline.finish(attached(), Counted::default()).unwrap();
    }
    let mut out = Vec::new();
    match format {
        Format::Text(timestamp, colour) => {
            run(story, Text::new(&mut out, names(story), timestamp, colour), live);
        }
        Format::Json => run(story, Json::new(&mut out, names(story), OFFSET), live),
        Format::Explained => {
            let text = Text::new(&mut out, names(story), Timestamp::None, false);
            run(story, text.explaining(true), live);
        }
        Format::Html => run(story, Html::new(&mut out, names(story)), live),
        Format::Paths => run(story, Paths::new(&mut out, names(story)), live),
        Format::Perfetto => run(story, Perfetto::new(&mut out, names(story)), live),
    }
    String::from_utf8(out).unwrap()
}

pub(crate) fn golden(name: &str, actual: &str) {
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
pub(crate) fn two_queries() -> Story {
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
pub(crate) fn busy_life() -> Story {
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
fn explained_text() {
    golden(
        "journey-explained.txt",
        &render(&two_queries(), Format::Explained, false),
    );
}

/// Fields and callers that were asked for.
fn on_request() -> (Story, Rc<Names>) {
    let mut story = Story::new();
    story.pass("ip_send_skb __dev_queue_xmit tp:netif_rx").free();
    let values = [
        [Some(Value::Unsigned(1500)), None],
        [Some(Value::Unsigned(1500)), Some(Value::Text(b"c0\x1b".to_vec()))],
        [Some(Value::Unsigned(65536)), Some(Value::Text(b"lo".to_vec()))],
    ];
    for (event, shown) in story.events.iter_mut().zip(values) {
        event.shown = shown.into();
    }
    story.events[0].stack = vec![0x10, 0x20, 0x30];
    story.events[2].stack = vec![0x40, 0x50, 0x99, 0x30];
    let symbols = |address| {
        let name = match address {
            0x10 => "ip_send_skb",
            0x20 => "udp_send_skb.isra.0",
            0x30 => "udp_sendmsg",
            0x40 => "bpf_trace_run1",
            0x50 => "netif_rx_internal",
            _ => return None,
        };
        Some(name.to_owned())
    };
    let names = Names::new(story.points.clone(), Reasons::default(), Box::new(symbols));
    let fields = vec!["skb.dev.mtu".to_owned(), "skb.dev.name".to_owned()];
    (story, Rc::new(names.showing(fields, 2)))
}

/// Functions that take no packet, beneath the last one that it passed and beneath one before that.
fn beneath() -> Story {
    let mut story = Story::new();
    story.pass("ip_rcv ip_route_input_slow");
    story.ran("fib_table_lookup", "ip_route_input_slow", Returned::Signed(-11));
    story.pass("fib_validate_source");
    story.ran("fib_table_lookup", "ip_rcv", Returned::Signed(0));
    story.ran("neigh_lookup", "fib_validate_source", Returned::Address(0));
    story.ran(
        "bad_pointer",
        "fib_validate_source",
        Returned::Address(u64::MAX - 21),
    );
    story.ran(
        "dst_alloc",
        "fib_validate_source",
        Returned::Address(0xffff_8880_0000_3000),
    );
    story.ran("is_local", "fib_validate_source", Returned::Truth(true));
    story.ran("counted", "fib_validate_source", Returned::Unsigned(7));
    story.ran("rt_add", "fib_validate_source", Returned::Nothing);
    story.pass("udp_rcv").free();
    story
}

#[test]
fn functions_beneath_are_indented() {
    let story = beneath();
    golden(
        "beneath.txt",
        &render(&story, Format::Text(Timestamp::Relative, false), false),
    );
    golden(
        "beneath-live.txt",
        &render(&story, Format::Text(Timestamp::Relative, false), true),
    );
    golden("beneath.json", &render(&story, Format::Json, false));
    golden("beneath-perfetto.json", &render(&story, Format::Perfetto, false));
    // Not on the packet's way.
    assert!(!render(&story, Format::Paths, false).contains("fib_table_lookup"));
    assert!(render(&story, Format::Html, false).contains("returned -11 after 0.320 us"));
}

#[test]
fn what_was_asked_for_is_shown() {
    let (story, names) = on_request();
    let mut text = vec![];
    let mut json = vec![];
    let both: [Box<dyn Renderer + '_>; 2] = [
        Box::new(Text::new(&mut text, Rc::clone(&names), Timestamp::None, false)),
        Box::new(Json::new(&mut json, names, OFFSET)),
    ];
    for renderer in both {
        let mut pipeline = Pipeline::new(&story.points, renderer, Pace::Journeys);
        story.events.iter().for_each(|event| pipeline.push(event.clone()));
        pipeline.finish(attached(), Counted::default()).unwrap();
    }
    golden("on-request.txt", &String::from_utf8(text).unwrap());
    golden("on-request.json", &String::from_utf8(json).unwrap());
}

/// A rule of nftables, then iptables-legacy.
fn firewalled() -> Story {
    let mut story = Story::new();
    story.dropped_by_a_rule();
    let hook = story.events[1].hook.clone();
    story.time += 1_000_000_000;
    story.journey = 8;
    story.pass("ipt_do_table [ip_tables]").told(hook, None);
    let end = story.events.len() - 1;
    story.dropped_by_a_rule();
    story.events.drain(end + 1..story.events.len() - 4);
    story
}

#[test]
fn rules_that_decide_are_told() {
    let text = render(&firewalled(), Format::Text(Timestamp::None, false), false);
    golden("rules.txt", &text);
    golden("rules.json", &render(&firewalled(), Format::Json, false));
}

#[test]
fn paths() {
    golden("journey-paths.txt", &render(&two_queries(), Format::Paths, false));
}

/// A process whose name would break out of markup, scripts and strings.
fn hostile() -> Story {
    let mut story = Story::new();
    story.process(0, 66, "</script><b>\"'");
    story.dev(2, "<!--&\u{202e}", 1).pass("ip_rcv").read();
    story
}

#[test]
fn a_page_holds_its_data_whatever_that_is() {
    for story in [two_queries(), busy_life(), hostile()] {
        let page = render(&story, Format::Html, false);
        let template = include_str!("page.html");
        let (before, after) = template.split_once("@DATA@").unwrap();
        let data = page.strip_prefix(before).unwrap().strip_suffix(after).unwrap();
        assert!(!data.contains('<') && data.is_ascii(), "{data}");
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        let text = render(&story, Format::Text(Timestamp::None, false), false);
        let packets = data["packets"].as_array().unwrap();
        assert_eq!(
            packets.len(),
            text.lines().filter(|line| line.starts_with("packet ")).count()
        );
        for packet in packets {
            assert!(text.contains(packet["fate"].as_str().unwrap()), "{packet}");
            for event in packet["events"].as_array().unwrap() {
                assert!(text.contains(event[4].as_str().unwrap()), "{event}");
            }
        }
    }
    // All that the page loads is in it, and text is never taken for markup.
    let template = include_str!("page.html");
    for word in ["http://", "https://", "innerHTML", "src=", "href=", "eval("] {
        let found = template.replace("http://www.w3.org/2000/svg", "");
        assert!(!found.contains(word), "{word}");
    }
}

#[test]
fn trace_events_are_json_that_covers_the_journey() {
    for story in [two_queries(), busy_life(), hostile(), Story::new()] {
        let trace: serde_json::Value =
            serde_json::from_str(&render(&story, Format::Perfetto, false)).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        let slices = events.iter().filter(|event| event["ph"] == "X");
        assert_eq!(slices.clone().count(), story.events.len());
        for slice in slices {
            assert!(slice["dur"].as_f64().unwrap() >= 0.0);
            assert!(slice["args"]["layer"].is_string() && slice["name"].is_string());
        }
    }
}

fn capture(story: &Story, live: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut pipeline = Pipeline::new(
        &story.points,
        Pcapng::new(&mut out, names(story), OFFSET),
        pace(live),
    );
    for event in &story.events {
        pipeline.push(event.clone());
        pipeline.advance(event.time).unwrap();
    }
    pipeline.finish(attached(), Counted::default()).unwrap();
    out
}

#[test]
fn captures_hold_what_events_kept_of_their_packets() {
    for live in [false, true] {
        let story = two_queries();
        let file = capture(&story, live);
        let mut reader = crate::capture::Reader::new(&file[..]).unwrap();
        let mut packets = 0;
        while let Some(item) = reader.item().unwrap() {
            if let Some(packet) = &item.packet {
                packets += 1;
                assert_eq!((packet.link, item.data()), (101, &story.packet.headers[..]));
                assert!(packet.wire >= 68);
                let text = String::from_utf8_lossy(&item.bytes);
                assert!(
                    text.contains("packet 1, copy 1: ") || text.contains("packet 2, copy 1: "),
                    "{text}"
                );
            }
        }
        assert_eq!(
            packets,
            story.events.iter().filter(|event| event.packet.is_some()).count()
        );
    }
}

/// Wireshark's own reader agrees.
#[test]
fn tshark_reads_captures() {
    let path = std::env::temp_dir().join(format!("ktrail-{}.pcapng", std::process::id()));
    std::fs::write(&path, capture(&two_queries(), false)).unwrap();
    let fields = [
        "-e",
        "udp.dstport",
        "-e",
        "frame.interface_name",
        "-e",
        "frame.comment",
    ];
    let output = std::process::Command::new("tshark")
        .arg("-r")
        .arg(&path)
        .args(["-T", "fields"])
        .args(fields)
        .output();
    std::fs::remove_file(&path).unwrap();
    let Ok(output) = output else {
        return eprintln!("ktrail-test-skip: tshark_reads_captures: no tshark");
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let first = text.lines().next().unwrap();
    assert!(
        first.starts_with("53\tip_send_skb\tpacket 1, copy 1: ip_send_skb (ip), dig[1234]"),
        "{first}"
    );
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
        let mut pipeline = Pipeline::new(&story.points, renderer, Pace::Journeys);
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
        (3 << 16 | 1, "OVS_DROP_LAST_ACTION".into()),
    ])
    .with_subsystems([(1, "SKB_DROP_REASON_SUBSYS_MAC80211_UNUSABLE".into())]);
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

/// What is said of the packet's end, below its fate.
fn said(story: &Story) -> String {
    let text = render(story, Format::Text(Timestamp::None, false), false);
    let end = text.split_once("  => ").map_or("", |(_, end)| end);
    end.split("\n\n").next().unwrap_or_default().to_owned()
}

/// A packet that waits says what for, and names its own device in the command.
#[test]
fn a_packet_that_still_waits_says_what_for() {
    let mut story = Story::new();
    story.dev(2, "c0;reboot", 7);
    story.pass("ip_finish_output2 neigh_resolve_output __neigh_event_send");
    let said = said(&story);
    assert!(said.starts_with("still in a neighbour's queue"), "{said}");
    assert!(
        said.contains("an end at __neigh_event_send means: nobody answers for the next hop's address: `ip neigh show dev 'c0;reboot'`"),
        "{said}"
    );
}

/// Where connection tracking was passed after the last rules, those did not drop the packet.
#[test]
fn what_connection_tracking_drops_is_not_a_rules_doing() {
    let hook = |table: &str| Hook {
        family: 2,
        number: 3,
        table: table.into(),
        chain: vec![],
    };
    let mut story = Story::new();
    story.pass("nf_hook_slow").told(Some(hook("")), None);
    story.pass("ipt_do_table").told(Some(hook("raw")), None);
    story.pass("nf_conntrack_in kfree_skb_reason");
    story.sign(
        "tp:kfree_skb",
        Sign::Dropped {
            reason: Some(6),
            location: 0xffff_ffff_8100_0010,
        },
    );
    story.free();
    let said = said(&story);
    assert!(
        said.contains("at Netfilter's IPv4 LOCAL_OUT hook: an end at nf_conntrack_in means: ")
            && said.contains("nf_conntrack_max"),
        "{said}"
    );
    assert!(!said.contains("table raw"), "{said}");
}

/// The heading has the ports, although they are filled in after the first function has seen the packet.
#[test]
fn a_heading_has_the_ports_that_come_later() {
    let mut story = Story::new();
    let whole = story.packet.tuple;
    story.packet.tuple = whole.map(|tuple| Tuple {
        ports: Some((0, 0)),
        ..tuple
    });
    story.pass("ip_make_skb");
    story.packet.tuple = whole;
    story.pass("udp_send_skb");
    let text = render(&story, Format::Text(Timestamp::None, false), false);
    assert!(
        text.starts_with("packet 1  udp 10.0.0.2:41234 -> 8.8.8.8:53"),
        "{text}"
    );
}
