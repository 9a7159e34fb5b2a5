//! What is accepted, and what is said about what is not.
//!
//! `corpus/ok.txt` holds a filter a line. `corpus/err.txt` holds filters with the message as it is shown, separated by
//! lines of dashes; `KTRAIL_BLESS=1` writes the messages anew.

use ktrail_ebpf::filter::{Env, parse};

use ktrail_ebpf::filter::frame::{Link, Source, program};

use super::oracle::{corpus, expressions};
use super::run::Compiled;

#[test]
fn accepted() {
    let texts = expressions("ok");
    assert!(texts.len() > 20);
    for text in texts {
        if let Err(error) = parse(&text, &Env::default()) {
            panic!("{text}\n{}", error.render(&text));
        }
    }
    assert!(parse("", &Env::default()).is_ok());
    assert!(parse(" \n\t", &Env::default()).is_ok());
}

#[test]
fn rejected_with_a_clear_message() {
    const RULE: &str = "----\n";
    let path = corpus().join("err.txt");
    let golden = std::fs::read_to_string(&path).expect("the corpus");
    let mut fresh = String::new();
    for entry in golden.split(RULE).filter(|entry| !entry.trim().is_empty()) {
        let text = entry.lines().next().expect("not empty");
        let message = match parse(text, &Env::default()) {
            Ok(_) => "accepted".into(),
            Err(error) => {
                assert!(
                    error.span.start <= error.span.end && error.span.end <= text.len(),
                    "{text}: {:?}",
                    error.span
                );
                error.render(text)
            }
        };
        assert_ne!(message, "accepted", "{text}");
        fresh.push_str(&format!("{text}\n{message}\n{RULE}"));
    }
    if std::env::var_os("KTRAIL_BLESS").is_some() {
        std::fs::write(&path, &fresh).expect("the corpus can be written");
        return;
    }
    assert!(
        fresh == golden,
        "messages have changed; KTRAIL_BLESS=1 writes them anew:\n{fresh}"
    );
}

/// Each of these in `corpus/asm/` as it is compiled for a frame in memory.
const ASSEMBLED: [(&str, &str); 4] = [
    ("dns", "udp and dst 8.8.8.8 and port 53"),
    ("ports", "tcp dst portrange 1000-2000"),
    ("either", "host 10.0.0.1 or net 2001:db8::/32"),
    ("negated", "not (arp or port 22)"),
];

#[test]
fn assembly() {
    for (name, text) in ASSEMBLED {
        let compiled = Compiled::new(text, &Env::default(), Link::Ethernet).expect("it compiles");
        let fresh = format!("; {text}\n{}", compiled.object.disassemble());
        let path = corpus().join("asm").join(format!("{name}.asm"));
        if std::env::var_os("KTRAIL_BLESS").is_some() {
            std::fs::create_dir_all(path.parent().expect("it has one")).expect("the corpus can be written");
            std::fs::write(&path, &fresh).expect("the corpus can be written");
        }
        let golden = std::fs::read_to_string(&path).expect("the corpus");
        assert!(
            fresh == golden,
            "{name}.asm has changed; KTRAIL_BLESS=1 writes it anew:\n{fresh}"
        );
    }
}

/// Each of these in `corpus/ir/` as it is lowered for a frame in memory.
const LOWERED: [(&str, &str); 4] = [
    ("dns", "udp and dst 8.8.8.8 and port 53"),
    ("vlan", "vlan 100 and icmp"),
    ("arithmetic", "ip[2:2] - ((ip[0] & 0xf) << 2) > 100"),
    ("inner", "inner (icmp)"),
];

#[test]
fn intermediate_representation() {
    for (name, text) in LOWERED {
        let filter = parse(text, &Env::default()).expect("it is read");
        let fresh = format!("; {text}\n{}", program(&filter, Link::Ethernet, Source::Memory));
        let path = corpus().join("ir").join(format!("{name}.ir"));
        if std::env::var_os("KTRAIL_BLESS").is_some() {
            std::fs::create_dir_all(path.parent().expect("it has one")).expect("the corpus can be written");
            std::fs::write(&path, &fresh).expect("the corpus can be written");
        }
        let golden = std::fs::read_to_string(&path).expect("the corpus");
        assert!(
            fresh == golden,
            "{name}.ir has changed; KTRAIL_BLESS=1 writes it anew:\n{fresh}"
        );
    }
}

/// A filter shown as text and read again is the same filter.
#[test]
fn shown_filters_can_be_read() {
    let compat = Env {
        pcap_compat: true,
        ..Env::default()
    };
    let mut shown = 0;
    for name in ["ok", "basic", "arithmetic", "link", "encapsulation"] {
        for text in expressions(name) {
            let Ok(filter) = parse(&text, &compat) else {
                continue;
            };
            let again = filter.ast().to_string();
            let filter = match parse(&again, &compat) {
                Ok(filter) => filter,
                Err(error) => panic!("{text} shown as\n{}", error.render(&again)),
            };
            assert_eq!(filter.ast().to_string(), again, "{text}");
            shown += 1;
        }
    }
    assert!(shown > 300);
}
