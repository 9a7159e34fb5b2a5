use std::collections::BTreeSet;

use super::*;
use crate::kernel::btf::KernelBtf;

#[test]
fn the_table_is_well_formed() {
    let known = parse(FUNCTIONS).unwrap();
    assert!(known.entries.len() > 800, "{}", known.entries.len());
    assert!([FUNCTIONS, REASONS, WAYS].iter().all(|text| text.is_ascii()));
    for (name, entry) in &known.entries {
        let sentence = |text: &str| text.trim() == text && !text.is_empty() && !text.ends_with('.');
        assert!(sentence(entry.role), "{name}: {}", entry.role);
        assert!(entry.end.is_none_or(sentence), "{name}: {:?}", entry.end);
        let word = name.strip_prefix("tp:").unwrap_or(name);
        assert!(
            word.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric()),
            "{name}"
        );
    }
    for rules in [&known.beginnings, &known.modules] {
        let names: BTreeSet<&str> = rules.iter().map(|rule| rule.0).collect();
        assert_eq!(names.len(), rules.len(), "a beginning is there twice");
    }
}

#[test]
fn mistakes_name_their_line() {
    let wrong = |text: &'static str| parse(text).err().unwrap();
    assert_eq!(wrong("ip_rcv: x"), "line 1: before any layer");
    assert_eq!(wrong("[ip]\n\n[no]\n"), "line 3: no such layer");
    assert_eq!(wrong("[ip]\nip_rcv\n"), "line 2: no role");
    assert_eq!(wrong("[ip]\n  end: x\n"), "line 2: an end of nothing");
    assert_eq!(
        wrong("[ip]\nip_rcv: x\nip_rcv: y\n"),
        "line 3: ip_rcv is there already"
    );
}

/// No name is invented: each was seen in a kernel, and nothing else is said to have been.
#[test]
fn every_name_was_seen() {
    let names: BTreeSet<&str> = knowledge().names().collect();
    let lines = KERNELS.lines().filter(|line| !line.starts_with('#'));
    let seen: Vec<&str> = lines.clone().filter_map(|line| line.split(' ').next()).collect();
    assert!(seen.is_sorted());
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), names);
    for line in lines {
        assert!(line.split(' ').count() > 2, "{line}: in no kernel");
    }
}

/// This machine's kernel has most of what others of its age have.
#[test]
fn this_kernel_has_many_of_them() {
    let btf = match KernelBtf::load() {
        Ok(btf) => btf,
        Err(e) => return eprintln!("ktrail-test-skip: this_kernel_has_many_of_them: {e}"),
    };
    let functions: BTreeSet<String> = btf.functions().into_iter().map(|(name, _)| name).collect();
    let (have, all) = knowledge()
        .names()
        .filter(|name| !name.starts_with("tp:"))
        .fold((0, 0), |(have, all), name| {
            (have + usize::from(functions.contains(name)), all + 1)
        });
    assert!(have * 2 > all, "{have} of {all}");
    // Of all that takes a packet, few have no layer: a new subsystem deserves a line in the table.
    let of_packets = btf.skb_functions();
    let unknown: Vec<&str> = of_packets
        .iter()
        .filter(|f| knowledge().layer(&f.name, &f.module) == Layer::OTHER)
        .map(|f| f.name.as_str())
        .collect();
    println!("{have} of {all} names; no layer: {}", unknown.join(" "));
    assert!(
        unknown.len() * 5 < of_packets.len(),
        "{} of {}",
        unknown.len(),
        of_packets.len()
    );
}

#[test]
fn names_that_are_not_listed_have_layers() {
    let layer = |name, module| knowledge().layer(name, module).name();
    assert_eq!(layer("ip_rcv", ""), "ip");
    assert_eq!(layer("tcp_something_new", ""), "tcp");
    assert_eq!(layer("ip_route_something", ""), "routing");
    assert_eq!(layer("something", "nf_tables"), "netfilter");
    assert_eq!(layer("tp:tcp_something", ""), "tcp");
    assert_eq!(layer("something", ""), "other");
    assert_eq!(layer("something", "odd"), "other");
    assert!(Layer::all().all(|layer| layer.name().len() <= 9));
}

#[test]
fn ways_speak_of_known_functions() {
    for name in ways().flatten() {
        assert!(knowledge().get(name).is_some(), "{name}");
    }
    let (before, after) = neighbours("__ip_local_out");
    assert!(
        before.contains(&"ip_send_skb") && after.contains(&"nf_hook_slow"),
        "{before:?} {after:?}"
    );
    assert_eq!(neighbours("no_such"), (vec![], vec![]));
}

#[test]
fn similar_names_are_found() {
    let among = ["ip_rcv", "ip_rcv_core", "ipv6_rcv", "tcp_ack", "nf_hook_slow"];
    assert_eq!(similar("ip_rvc", among), ["ip_rcv"][..]);
    assert_eq!(similar("hook_slow", among), ["nf_hook_slow"]);
    assert_eq!(similar("nf_hock_slow", among), ["nf_hook_slow"]);
    assert_eq!(similar("zzz", among), <[&str; 0]>::default());
}

#[test]
fn seen_says_where() {
    let seen = seen("nft_do_chain").unwrap();
    assert_eq!(seen.module, Some("nf_tables"));
    assert!(seen.kernels.contains(&"6.12"));
    assert_eq!(super::seen("no_such"), None);
}

#[test]
fn sentences_take_facts() {
    let facts = |word: &str| match word {
        "DEV" => Some("c0".to_owned()),
        "DST" => Some("8.8.8.8".to_owned()),
        _ => None,
    };
    let text = "no route: `ip route get DST[ from SRC iif DEV]`, `sysctl[ net/ipv4/conf/DEV/rp_filter] all`, DEVICE PORT";
    assert_eq!(
        fill(text, facts),
        "no route: `ip route get 8.8.8.8`, `sysctl net/ipv4/conf/c0/rp_filter all`, DEVICE PORT"
    );
    assert_eq!(
        in_general(text),
        "no route: `ip route get DST`, `sysctl all`, DEVICE PORT"
    );
    // What a fact holds is not looked through again.
    assert_eq!(fill("[DST]DEV", |_| Some("[DEV]".to_owned())), "[DEV][DEV]");
    let ends = knowledge().entries.values().filter_map(|entry| entry.end);
    let reasons = REASONS.lines().filter(|line| !line.starts_with('#'));
    for text in ends.chain(reasons) {
        let (open, close) = (text.matches('[').count(), text.matches(']').count());
        assert!(open == close && !in_general(text).contains("  "), "{text}");
        assert!(in_general(text).matches('`').count().is_multiple_of(2), "{text}");
    }
}

#[test]
fn a_reason_may_mean_something_else_in_a_function() {
    let words = |function| reason_in("IP_INHDR", function).unwrap();
    assert!(words(Some("ip_forward")).starts_with("its TTL is used up"));
    assert!(words(Some("ip_rcv_core")).starts_with("malformed"));
    assert!(words(None).starts_with("malformed"));
}

#[test]
fn drop_reasons_have_words() {
    let mut names = BTreeSet::new();
    for line in REASONS.lines().filter(|line| !line.starts_with('#')) {
        let (name, words) = line
            .split_once(": ")
            .unwrap_or_else(|| panic!("{line}: no words"));
        assert!(names.insert(name), "{name} is there twice");
        assert!(words.trim() == words && !words.ends_with('.'), "{line}");
    }
    assert!(reason("NETFILTER_DROP").is_some_and(|words| words.contains("nft list ruleset")));
    assert_eq!(reason("NO_SUCH"), None);
}

/// Every reason that this machine's kernel can give has words, but for those that say nothing.
#[test]
fn this_kernels_drop_reasons_have_words() {
    let btf = match KernelBtf::load() {
        Ok(btf) => btf,
        Err(e) => return eprintln!("ktrail-test-skip: this_kernels_drop_reasons_have_words: {e}"),
    };
    let Some(values) = btf.enum_values("skb_drop_reason") else {
        return eprintln!("ktrail-test-skip: this_kernels_drop_reasons_have_words: no drop reasons (5.17+)");
    };
    let missing: Vec<&str> = values
        .iter()
        .filter_map(|(name, _)| name.strip_prefix("SKB_DROP_REASON_"))
        .filter(|name| !matches!(*name, "MAX" | "SUBSYS_MASK") && reason(name).is_none())
        .collect();
    assert!(
        values.len() > 20 && missing.len() * 10 < values.len(),
        "{missing:?}"
    );
}
