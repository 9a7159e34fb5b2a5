//! Every expression of the corpus on every packet, cut off at every length: our verdict is libpcap's.

use ktrail_ebpf::filter::frame::Link;
use ktrail_ebpf::filter::{Env, Names, Transport};

use super::cbpf;
use super::oracle::{Case, cases, corpus};
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

fn env() -> Env<'static> {
    Env {
        names: &Table,
        ..Env::default()
    }
}

/// Compare `case` on all packets. The first difference is the error.
fn compare(case: &Case, env: &Env<'_>, packets: &[packets::Packet]) -> Result<usize, String> {
    let text = &case.text;
    let (code, compiled) = match (&case.code, Compiled::new(text, env, Link::Ethernet)) {
        (Ok(code), Ok(compiled)) => (code, compiled),
        (Err(_), Err(_)) => return Ok(0),
        (Ok(_), Err(error)) => return Err(format!("libpcap takes it, ktrail says\n{}", error.render(text))),
        (Err(message), Ok(_)) => return Err(format!("{text}: ktrail takes it, libpcap says: {message}")),
    };
    let machine = compiled.machine();
    let mut verdicts = 0;
    for packet in packets {
        let wire = packet.bytes.len() as u32;
        for len in 0..=packet.bytes.len() {
            let data = &packet.bytes[..len];
            let (ours, theirs) = (machine.matches(data, wire), cbpf::run(code, data, wire));
            if ours != theirs {
                return Err(format!(
                    "{text}: '{}' cut to {len} bytes: ktrail {ours}, libpcap {theirs}",
                    packet.name
                ));
            }
            verdicts += 1;
        }
    }
    Ok(verdicts)
}

/// What stands in `corpus/differences.txt`: expressions that ktrail treats differently on purpose, each with the
/// reason.
fn deliberate_differences() -> Vec<String> {
    let path = corpus().join("differences.txt");
    let text = std::fs::read_to_string(path).expect("the table");
    text.lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (expression, reason) = line.split_once('\t').expect("a tab before the reason");
            assert!(!reason.trim().is_empty(), "{expression}: no reason");
            expression.trim().to_string()
        })
        .collect()
}

/// Compare a whole file of expressions.
fn compare_all(name: &str, env: &Env<'_>) {
    let packets = packets::all();
    let deliberate = deliberate_differences();
    let mut wrong = vec![];
    let mut verdicts = 0;
    for case in cases(name) {
        match (compare(&case, env, &packets), deliberate.contains(&case.text)) {
            (Ok(n), false) => verdicts += n,
            (Err(_), true) => {}
            (Ok(_), true) => wrong.push(format!(
                "{}: the table says that it differs, but it doesn't",
                case.text
            )),
            (Err(difference), false) => wrong.push(difference),
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(verdicts > 0, "nothing was compared");
    println!("{name}: {verdicts} verdicts agree");
}

#[test]
fn addresses_ports_and_protocols() {
    compare_all("basic", &env());
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
