//! Netfilter's families, hooks and chains by name.

use super::escape::escape;
use crate::trace::event::{Hook, Rule};

/// `NFPROTO_*`, as people and as nft say it.
fn family(number: u8) -> (String, &'static str) {
    let (people, nft) = match number {
        1 => ("inet", "inet"),
        2 => ("IPv4", "ip"),
        3 => ("ARP", "arp"),
        5 => ("netdev", "netdev"),
        7 => ("bridge", "bridge"),
        10 => ("IPv6", "ip6"),
        _ => return (format!("family {number}"), ""),
    };
    (people.to_owned(), nft)
}

/// A hook's name, and iptables' for the chain there.
fn hook(family: u8, number: u8) -> Option<(&'static str, Option<&'static str>)> {
    Some(match (family, number) {
        (1 | 2 | 7 | 10, 0) => ("PRE_ROUTING", Some("PREROUTING")),
        (1 | 2 | 7 | 10, 1) => ("LOCAL_IN", Some("INPUT")),
        (1 | 2 | 7 | 10, 2) => ("FORWARD", Some("FORWARD")),
        (1 | 2 | 7 | 10, 3) => ("LOCAL_OUT", Some("OUTPUT")),
        (1 | 2 | 7 | 10, 4) => ("POST_ROUTING", Some("POSTROUTING")),
        (1 | 2 | 10, 5) | (5, 0) => ("INGRESS", None),
        (5, 1) => ("EGRESS", None),
        (3, 0) => ("IN", Some("INPUT")),
        (3, 1) => ("OUT", Some("OUTPUT")),
        (3, 2) => ("FORWARD", Some("FORWARD")),
        _ => return None,
    })
}

/// A family's name: `IPv4`.
pub fn family_name(number: u8) -> String {
    family(number).0
}

/// A hook's name: `LOCAL_OUT`.
pub fn hook_name(of: &Hook) -> Option<&'static str> {
    hook(of.family, of.number).map(|(name, _)| name)
}

/// Where a packet is in Netfilter, for a line: `IPv4 LOCAL_OUT (OUTPUT chain)`, `table filter, chain OUTPUT`.
pub fn place(of: &Hook) -> String {
    if !of.table.is_empty() {
        let chain = match (of.chain.is_empty(), hook(of.family, of.number)) {
            (false, _) => format!(", chain {}", escape(&of.chain)),
            (true, Some((_, Some(chain)))) => format!(", chain {chain}"),
            (true, _) => String::new(),
        };
        return format!("table {}{chain}", escape(&of.table));
    }
    let family = family_name(of.family);
    match hook(of.family, of.number) {
        Some((name, Some(chain))) => format!("{family} {name} ({chain} chain)"),
        Some((name, None)) => format!("{family} {name}"),
        None => format!("{family} hook {}", of.number),
    }
}

/// iptables' name for the chain at a hook.
pub fn chain(of: &Hook) -> Option<&'static str> {
    hook(of.family, of.number).and_then(|(_, chain)| chain)
}

/// A verdict: `NF_DROP`.
pub const DROP: i32 = 0;

/// A verdict's name, as nft says it.
pub fn verdict(code: i32) -> String {
    // The upper half of a queue's verdict is the queue's number.
    let name = match if code < 0 { code } else { code & 0xff } {
        0 => "drop",
        1 => "accept",
        2 => "stolen",
        3 => "queue",
        4 => "repeat",
        5 => "stop",
        -1 => "continue",
        -2 => "break",
        -3 => "jump",
        -4 => "goto",
        -5 => "return",
        _ => return format!("verdict {code}"),
    };
    name.to_owned()
}

/// A rule's table and chain as nft takes them: `ip filter OUTPUT`. None where the kernel does not tell.
fn rule_place(of: &Rule) -> Option<String> {
    (of.handle != 0).then(|| {
        let (_, family) = family(of.family);
        format!("{family} {} {}", escape(&of.table), escape(&of.chain))
    })
}

/// A rule's verdict and where the rule is, for a line: `drop by ip filter OUTPUT handle 3: udp dport 53 drop`.
pub fn rule(of: &Rule, text: Option<&str>) -> String {
    let mut line = verdict(of.verdict);
    if let Some(place) = rule_place(of) {
        line.push_str(&format!(" by {place} handle {}", of.handle));
    }
    if let Some(text) = text {
        line.push_str(&format!(": {text}"));
    }
    line
}

/// Which rule decided, in words, and the commands that show and remove it; none where the kernel does not tell.
pub fn rule_decided(at: &Hook, of: &Rule, text: Option<&str>) -> Option<Vec<String>> {
    let place = rule_place(of)?;
    let (people, _) = family(at.family);
    let hook = hook_name(at).map_or_else(|| format!("hook {}", at.number), str::to_owned);
    let (_, family) = family(of.family);
    let (table, chain, handle) = (escape(&of.table), escape(&of.chain), of.handle);
    let mut lines = vec![format!(
        "at {people} {hook}, by nftables' table {family} {table}, chain {chain}, rule {handle}{}",
        text.map(|text| format!(": {text}")).unwrap_or_default()
    )];
    lines.push(format!(
        "`nft -a list chain {place}` shows it, `nft delete rule {place} handle {handle}` removes it"
    ));
    Some(lines)
}

/// Where rules decided, in words, and the command that shows them. `function` is the one that ran the rules.
pub fn decided(of: &Hook, function: &str) -> (String, String) {
    let (people, own) = family(of.family);
    let name = hook_name(of).map_or_else(|| format!("hook {}", of.number), str::to_owned);
    let at = format!("{people} {name}");
    if of.table.is_empty() {
        return (
            format!("at Netfilter's {at} hook"),
            "nft list ruleset; iptables-save -c".into(),
        );
    }
    let (table, chain) = (escape(&of.table), escape(&of.chain));
    if of.chain.is_empty() {
        let program = if of.family == 10 {
            "ip6tables-legacy"
        } else {
            "iptables-legacy"
        };
        let chain = hook(of.family, of.number).and_then(|h| h.1).unwrap_or("");
        let command = format!("{program} -t {table} -L {chain} -v -n --line-numbers");
        return (
            format!("at {at}, by iptables' table {table}, chain {chain}"),
            command.replace("  ", " "),
        );
    }
    // A table of family inet sees packets of IPv4 and IPv6.
    let family = match function.strip_prefix("nft_do_chain_") {
        Some("inet" | "inet_ingress") => "inet",
        _ => own,
    };
    let text = format!("at {at}, by nftables' table {family} {table}, chain {chain} or one that it jumps to");
    (text, format!("nft -a list chain {family} {table} {chain}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(family: u8, number: u8, table: &str, chain: &str) -> Hook {
        Hook {
            family,
            number,
            table: table.into(),
            chain: chain.into(),
        }
    }

    #[test]
    fn hooks_have_names() {
        assert_eq!(place(&of(2, 3, "", "")), "IPv4 LOCAL_OUT (OUTPUT chain)");
        assert_eq!(place(&of(10, 0, "", "")), "IPv6 PRE_ROUTING (PREROUTING chain)");
        assert_eq!(place(&of(5, 1, "", "")), "netdev EGRESS");
        assert_eq!(place(&of(99, 77, "", "")), "family 99 hook 77");
        assert_eq!(place(&of(2, 3, "filter", "")), "table filter, chain OUTPUT");
        assert_eq!(place(&of(2, 3, "fw", "out\x1b")), "table fw, chain out\\x1b");
    }

    #[test]
    fn what_decided_can_be_listed() {
        let (text, command) = decided(&of(2, 3, "filter", "OUTPUT"), "nft_do_chain_ipv4");
        assert_eq!(
            text,
            "at IPv4 LOCAL_OUT, by nftables' table ip filter, chain OUTPUT or one that it jumps to"
        );
        assert_eq!(command, "nft -a list chain ip filter OUTPUT");
        let (_, command) = decided(&of(10, 1, "fw", "in"), "nft_do_chain_inet");
        assert_eq!(command, "nft -a list chain inet fw in");
        let (text, command) = decided(&of(2, 3, "filter", ""), "ipt_do_table");
        assert_eq!(text, "at IPv4 LOCAL_OUT, by iptables' table filter, chain OUTPUT");
        assert_eq!(
            command,
            "iptables-legacy -t filter -L OUTPUT -v -n --line-numbers"
        );
        assert_eq!(
            decided(&of(2, 3, "", ""), "nf_hook_slow").0,
            "at Netfilter's IPv4 LOCAL_OUT hook"
        );
    }
}
