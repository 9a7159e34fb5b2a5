//! Every expression of the corpus on every packet, cut off at every length: our verdict is libpcap's.

use std::collections::BTreeSet;

use ktrail_ebpf::filter::frame::Link;
use ktrail_ebpf::filter::{Env, Names, Transport};

use super::cbpf;
use super::oracle::{Case, cases, corpus, expressions};
use super::packets;
use super::run::Compiled;

/// The names that the corpus uses, as Debian's `/etc/services` has them.
struct Table;

impl Names for Table {
    fn service(&self, name: &str) -> Vec<(u16, Transport)> {
        match name {
            "domain" => vec![(53, Transport::Tcp), (53, Transport::Udp)],
            "http" => vec![(80, Transport::Tcp)],
            "ssh" => vec![(22, Transport::Tcp)],
            "bootps" => vec![(67, Transport::Udp)],
            _ => vec![],
        }
    }
}

/// How an expression's treatment differs.
#[derive(Debug, PartialEq)]
enum Difference {
    /// One of the two doesn't take it.
    Acceptance(String),
    /// The verdict on these packets, at some length.
    Verdicts(BTreeSet<&'static str>, String),
}

/// Compare `case` on all packets, cut off at every length. How many verdicts there were, and the difference.
fn compare(case: &Case, env: &Env<'_>, packets: &[packets::Packet]) -> (usize, Option<Difference>) {
    let text = &case.text;
    let (code, compiled) = match (&case.code, Compiled::new(text, env, Link::Ethernet)) {
        (Ok(code), Ok(compiled)) => (code, compiled),
        (Err(_), Err(_)) => return (1, None),
        (Ok(_), Err(error)) => {
            let message = format!("libpcap takes it, ktrail says\n{}", error.render(text));
            return (0, Some(Difference::Acceptance(message)));
        }
        (Err(message), Ok(_)) => {
            let message = format!("{text}: ktrail takes it, libpcap says: {message}");
            return (0, Some(Difference::Acceptance(message)));
        }
    };
    let machine = compiled.machine();
    let mut verdicts = 0;
    let mut names = BTreeSet::new();
    let mut first = None;
    for packet in packets {
        let wire = packet.bytes.len() as u32;
        for len in 0..=packet.bytes.len() {
            let data = &packet.bytes[..len];
            let (ours, theirs) = (machine.matches(data, wire), cbpf::run(code, data, wire));
            if ours != theirs {
                names.insert(packet.name);
                first.get_or_insert_with(|| {
                    format!(
                        "{text}: '{}' cut to {len} bytes: ktrail {ours}, libpcap {theirs}",
                        packet.name
                    )
                });
            }
            verdicts += 1;
        }
    }
    (verdicts, first.map(|first| Difference::Verdicts(names, first)))
}

/// A row of `corpus/differences.txt`.
struct Deliberate {
    /// Holds also with `--pcap-compat`.
    always: bool,
    expression: String,
    /// The packets that are judged differently; empty if the expression is taken by one only.
    packets: Vec<String>,
    /// More packets may be.
    among_others: bool,
}

impl Deliberate {
    fn covers(&self, names: &BTreeSet<&'static str>) -> bool {
        match self.among_others {
            true => self.packets.iter().all(|name| names.contains(&name[..])),
            false => names.iter().eq(&self.packets),
        }
    }
}

/// The table of what ktrail treats differently on purpose: four columns with tabs between them.
fn deliberate_differences() -> Vec<Deliberate> {
    let path = corpus().join("differences.txt");
    let text = std::fs::read_to_string(path).expect("the table");
    text.lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|line| {
            let columns: Vec<&str> = line.split('\t').collect();
            let [mode, expression, packets, reason] = columns[..] else {
                panic!("not four columns: {line}");
            };
            assert!(!reason.trim().is_empty(), "{expression}: no reason");
            assert!(["always", "default"].contains(&mode), "{line}");
            let (packets, among_others) = match packets.strip_suffix(", …") {
                Some(packets) => (packets, true),
                None => (packets, false),
            };
            Deliberate {
                always: mode == "always",
                expression: expression.into(),
                among_others,
                packets: match packets {
                    "-" => vec![],
                    packets => packets.split(", ").map(str::to_string).collect(),
                },
            }
        })
        .collect()
}

/// Compare a whole file of expressions, with and without `--pcap-compat`.
fn compare_all(name: &str) {
    let packets = packets::all();
    let deliberate = deliberate_differences();
    let mut wrong = vec![];
    let mut verdicts = 0;
    for case in cases(name) {
        let code = |pcap_compat| {
            let env = Env {
                names: &Table,
                pcap_compat,
                kernel: None,
            };
            Compiled::new(&case.text, &env, Link::Ethernet)
                .ok()
                .map(|compiled| compiled.object.insns)
        };
        // What is read the same way needs no second look.
        let modes = if code(false) == code(true) {
            &[true][..]
        } else {
            &[false, true]
        };
        for &pcap_compat in modes {
            let env = Env {
                names: &Table,
                pcap_compat,
                kernel: None,
            };
            let (n, difference) = compare(&case, &env, &packets);
            verdicts += n;
            let row = deliberate
                .iter()
                .find(|row| row.expression == case.text && (row.always || !pcap_compat));
            let mode = if pcap_compat { "pcap-compat" } else { "default" };
            match (difference, row) {
                (None, None) => {}
                (None, Some(_)) => {
                    wrong.push(format!("[{mode}] {}: the table says that it differs", case.text))
                }
                (Some(Difference::Acceptance(_)), Some(row)) if row.packets.is_empty() => {}
                (Some(Difference::Verdicts(names, _)), Some(row)) if row.covers(&names) => {}
                (Some(Difference::Verdicts(names, _)), Some(row)) => wrong.push(format!(
                    "[{mode}] {}: the table says that it differs for {:?}; it does for {names:?}",
                    case.text, row.packets
                )),
                (Some(Difference::Verdicts(names, first)), None) => {
                    wrong.push(format!("[{mode}] {first}; differs for {names:?}"))
                }
                (Some(Difference::Acceptance(message)), _) => wrong.push(format!("[{mode}] {message}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(verdicts > 100_000, "hardly anything was compared");
    println!("{name}: {verdicts} verdicts");
}

#[test]
fn addresses_ports_and_protocols() {
    compare_all("basic");
}

#[test]
fn arithmetic() {
    compare_all("arithmetic");
}

#[test]
fn link_layer() {
    compare_all("link");
}

#[test]
fn encapsulations() {
    compare_all("encapsulation");
}

/// Each expression of the table stands in a file that is compared.
#[test]
fn the_table_has_no_stray_rows() {
    let all: Vec<String> = ["basic", "arithmetic", "link", "encapsulation"]
        .iter()
        .flat_map(|name| expressions(name))
        .collect();
    for row in deliberate_differences() {
        assert!(all.contains(&row.expression), "{}", row.expression);
    }
}

/// What the comparison compares must be both: packets that match and packets that don't.
#[test]
fn packets_tell_expressions_apart() {
    let packets = packets::all();
    let mut matched = 0;
    let mut never = vec![];
    for case in cases("basic") {
        let Ok(code) = &case.code else { continue };
        let hits = packets
            .iter()
            .filter(|p| cbpf::run(code, &p.bytes, p.bytes.len() as u32))
            .count();
        assert!(hits < packets.len(), "{}: matches all packets", case.text);
        match hits {
            0 => never.push(case.text.clone()),
            _ => matched += 1,
        }
    }
    assert!(matched > 5 * never.len(), "no packet matches these: {never:?}");
}
