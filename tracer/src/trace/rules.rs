//! What is asked about a firewall's rules: which text a rule has, and which rules of a chain drop.
//!
//! The kernel gives nftables' rules numbers that `nft` can find them by. Of iptables-legacy's it gives none, so that
//! a rule is sure only where no other could have dropped the packet.
//!
//! Deliberately absent: who answers ([`crate::kernel::firewall`]); an answer is of when it was asked for.

use serde::{Deserialize, Serialize};

use super::event::{Event, Hook, Rule};

/// A question about the rules of one chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Question {
    /// Inode of the network namespace that the rules are in.
    pub netns: u32,
    /// The table's family, `NFPROTO_*`.
    pub family: u8,
    /// The table.
    pub table: Vec<u8>,
    /// The chain.
    pub chain: Vec<u8>,
    /// What is asked.
    pub about: About,
}

/// What is asked about a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum About {
    /// The text of nftables' rule with this handle.
    Handle(u64),
    /// Which of iptables-legacy's rules drop, in words.
    Drops,
}

/// Answers questions, as well as it can.
pub type Answers = Box<dyn Fn(&Question) -> Option<String>>;

/// The question that a rule's event raises.
pub fn of_rule(rule: &Rule, netns: u32) -> Option<Question> {
    (rule.handle != 0 && netns != 0).then(|| Question {
        netns,
        family: rule.family,
        table: rule.table.clone(),
        chain: rule.chain.clone(),
        about: About::Handle(rule.handle),
    })
}

/// The question that a drop at iptables-legacy's hook raises. `chain` is the one that iptables has there.
pub fn of_hook(hook: &Hook, chain: Option<&str>, netns: u32) -> Option<Question> {
    let legacy = !hook.table.is_empty() && hook.chain.is_empty();
    let chain = chain.filter(|_| legacy && netns != 0)?;
    Some(Question {
        netns,
        family: hook.family,
        table: hook.table.clone(),
        chain: chain.into(),
        about: About::Drops,
    })
}

/// The network namespace that an event's packet was in; 0 if that isn't known.
pub fn netns(event: &Event) -> u32 {
    event.packet.as_ref().map_or(0, |packet| packet.netns)
}

/// The rules in what `nft -a list chain` prints: handles and texts, without the counters' values.
pub fn nft_rules(listing: &str) -> Vec<(u64, String)> {
    let mut rules = vec![];
    let mut text = String::new();
    for line in listing.lines().map(str::trim) {
        let (part, handle) = match line.rsplit_once("# handle ") {
            Some((part, handle)) => (part.trim(), handle.parse::<u64>().ok()),
            None => (line, None),
        };
        let opens = part.starts_with("table ") || part.starts_with("chain ");
        if opens || (part.starts_with("type ") && part.ends_with(';')) || part == "}" && text.is_empty() {
            text.clear();
            continue;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(part);
        if let Some(handle) = handle {
            rules.push((handle, without_counts(&std::mem::take(&mut text))));
        }
    }
    rules
}

/// `counter packets 3 bytes 240` says more than the rule, and something else each time.
fn without_counts(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    let mut kept = vec![];
    let mut at = 0;
    while at < words.len() {
        kept.push(words[at]);
        let counts = matches!(words[at..], ["counter", "packets", _, "bytes", _, ..]);
        at += if counts { 5 } else { 1 };
    }
    kept.join(" ")
}

/// What can be said of a chain that `iptables -S CHAIN` has listed: which of its rules drop.
pub fn legacy_drops(listing: &str) -> String {
    /// Targets that let a packet go on, or only change it.
    const HARMLESS: &[&str] = &[
        "ACCEPT",
        "RETURN",
        "LOG",
        "NFLOG",
        "ULOG",
        "MARK",
        "CONNMARK",
        "SNAT",
        "DNAT",
        "MASQUERADE",
        "REDIRECT",
        "TCPMSS",
        "CT",
        "NOTRACK",
        "TRACE",
        "CLASSIFY",
        "TTL",
        "HL",
        "DSCP",
        "TOS",
        "SET",
        "TEE",
        "CHECKSUM",
        "CONNSECMARK",
        "SECMARK",
        "NETMAP",
        "RATEEST",
        "AUDIT",
    ];
    let mut drops = vec![];
    let mut elsewhere = 0;
    for line in listing.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let target = words
            .iter()
            .position(|word| matches!(*word, "-j" | "-g"))
            .and_then(|at| words.get(at + 1));
        match (words.first(), target) {
            (Some(&"-P"), _) if words.last() == Some(&"DROP") => drops.push(format!("its policy, `{line}`")),
            (Some(&"-A"), Some(&("DROP" | "REJECT"))) => drops.push(format!("`{line}`")),
            (Some(&"-A"), Some(target)) if !HARMLESS.contains(target) => elsewhere += 1,
            _ => {}
        }
    }
    match (&drops[..], elsewhere) {
        ([], 0) => "no rule of it drops now".to_owned(),
        ([one], 0) => format!("all that drops there is {one}"),
        (several, 0) => format!("what dropped is one of {}", several.join(", ")),
        (_, others) => format!(
            "which rule can't be told: {} there, and {others} that jump elsewhere",
            match drops.len() {
                0 => "none that drops".to_owned(),
                1 => "one that drops".to_owned(),
                n => format!("{n} that drop"),
            }
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_found_in_a_listing() {
        let listing = "table ip filter { # handle 1\n\tchain OUTPUT { # handle 2\n\t\ttype filter hook output priority filter; policy accept;\n\
            \t\tip daddr 8.8.8.8 udp dport 53 counter packets 1 bytes 80 drop # handle 3\n\
            \t\tip saddr { 192.0.2.1, 192.0.2.2,\n\t\t\t     192.0.2.3 } comment \"# handle 9\" accept # handle 12\n\t}\n}\n";
        let rules = nft_rules(listing);
        assert_eq!(
            rules[0],
            (3, "ip daddr 8.8.8.8 udp dport 53 counter drop".to_owned())
        );
        let second = "ip saddr { 192.0.2.1, 192.0.2.2, 192.0.2.3 } comment \"# handle 9\" accept";
        assert_eq!(rules[1..], [(12, second.to_owned())]);
    }

    #[test]
    fn a_legacy_rule_is_named_only_where_no_other_drops() {
        let one = "-P OUTPUT ACCEPT\n-A OUTPUT -p tcp -j LOG\n-A OUTPUT -d 8.8.8.8/32 -p udp -m udp --dport 53 -j DROP\n";
        assert_eq!(
            legacy_drops(one),
            "all that drops there is `-A OUTPUT -d 8.8.8.8/32 -p udp -m udp --dport 53 -j DROP`"
        );
        let two = one.replace("-P OUTPUT ACCEPT", "-P OUTPUT DROP");
        assert!(legacy_drops(&two).starts_with("what dropped is one of its policy, `-P OUTPUT DROP`, `-A"));
        let jump = format!("{one}-A OUTPUT -j mine\n");
        assert_eq!(
            legacy_drops(&jump),
            "which rule can't be told: one that drops there, and 1 that jump elsewhere"
        );
        assert_eq!(legacy_drops("-P OUTPUT ACCEPT\n"), "no rule of it drops now");
    }
}
