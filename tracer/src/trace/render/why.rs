//! Why a packet ended as it did, in sentences.

use super::escape::quoted;
use super::names::Names;
use super::netfilter;
use crate::trace::event::{Hook, Packet, Rule, Sign};
use crate::trace::journey::{Consumption, Fate, Journey};
use crate::trace::knowledge;
use crate::trace::rules;

/// What is known about why the packet ended as it did: the reason in words, what decided, and the command that shows it,
/// with the packet's own device, addresses and port. Empty for packets that a process has or that left, and where nothing
/// is known.
pub fn why(journey: &Journey, names: &Names) -> Vec<String> {
    sentences(journey, names, last_state(journey))
}

/// The same, said of many packets that ended alike: without what only this one has.
pub fn why_of_many(journey: &Journey, names: &Names) -> Vec<String> {
    sentences(journey, names, None)
}

fn sentences(journey: &Journey, names: &Names, state: Option<&Packet>) -> Vec<String> {
    let fill = |text: &str| knowledge::fill(text, |word| fact(word, state));
    let end = |location, point| {
        let (function, end) = names.end(location, point)?;
        Some(format!("an end at {function} means: {}", fill(end)))
    };
    let (reason, location, after) = match journey.fate() {
        Fate::Dropped {
            reason,
            location,
            after,
            ..
        } => (reason, location, after),
        Fate::Queued { point, .. }
        | Fate::LostSight { point }
        | Fate::Consumed {
            point,
            how: Consumption::Handled,
        } => return end(0, *point).into_iter().collect(),
        Fate::Delivered { .. } | Fate::Sent { .. } | Fate::Consumed { .. } => return vec![],
    };
    let mut lines = vec![];
    let name = reason.map(|reason| names.reason(reason));
    // A kernel that gives a reason of its own for rules says when it was them; an older one names the function.
    let function = names.function(*location);
    let words = name
        .as_deref()
        .and_then(|name| knowledge::reason_in(name, function.as_deref()));
    let by_rules = match name.as_deref() {
        Some("NETFILTER_DROP") => true,
        Some("NOT_SPECIFIED") | None => function
            .as_deref()
            .is_some_and(|f| knowledge::knowledge().layer(f, "").name() == "netfilter"),
        Some(_) => false,
    };
    if let Some(last) = last_hook(journey, names).filter(|_| by_rules) {
        match &last.tracking {
            Some((function, end)) => {
                let (place, _) = netfilter::decided(&hook_alone(last.hook), "");
                lines.push(format!("{place}: an end at {function} means: {}", fill(end)));
            }
            None => lines.extend(decided(&last, names)),
        }
    } else if let Some(words) = words.filter(|_| name.as_deref() != Some("NOT_SPECIFIED")) {
        lines.push(fill(words));
    } else {
        lines.extend(end(*location, *after));
    }
    lines
}

/// What the copy that tells the packet's end was like when last seen.
fn last_state(journey: &Journey) -> Option<&Packet> {
    let steps = journey.steps().filter(|step| step.copy == journey.teller);
    steps.filter_map(|step| step.event.packet.as_ref()).last()
}

/// What a placeholder of a sentence stands for.
fn fact(word: &str, state: Option<&Packet>) -> Option<String> {
    let state = state?;
    if word == "DEV" {
        return (state.ifindex != 0).then(|| quoted(&state.ifname));
    }
    let tuple = state.tuple.as_ref()?;
    match word {
        "SRC" => Some(tuple.src.to_string()),
        "DST" => Some(tuple.dst.to_string()),
        "PORT" => tuple
            .ports
            .filter(|_| !tuple.is_icmp())
            .map(|(_, port)| port.to_string()),
        _ => None,
    }
}

/// What decided at the hook, and the command that shows it.
fn decided(last: &Last<'_>, names: &Names) -> Vec<String> {
    if let Some(rule) = last.rule {
        let text = rules::of_rule(rule, last.netns).and_then(|question| names.answer(&question));
        if let Some(lines) = netfilter::rule_decided(last.hook, rule, text.as_deref()) {
            return lines;
        }
    }
    let (text, command) = netfilter::decided(last.hook, &last.function);
    let question = rules::of_hook(last.hook, netfilter::chain(last.hook), last.netns);
    match question.and_then(|question| names.answer(&question)) {
        Some(answer) => vec![
            format!("{text}; {answer}"),
            format!("`{command}` shows the rules"),
        ],
        None => vec![format!("{text}: `{command}`")],
    }
}

/// How the names of connection tracking's functions begin.
const TRACKING: &[&str] = &[
    "nf_conntrack_",
    "__nf_conntrack_",
    "ipv4_conntrack_",
    "ipv6_conntrack_",
    "nf_confirm",
];

/// The hook without the rules there.
fn hook_alone(hook: &Hook) -> Hook {
    Hook {
        table: vec![],
        chain: vec![],
        ..hook.clone()
    }
}

/// What the packet met last of Netfilter before it was dropped.
struct Last<'a> {
    hook: &'a Hook,
    /// The function that told of the hook.
    function: String,
    /// The rule there that dropped it.
    rule: Option<&'a Rule>,
    /// Connection tracking's function that the packet passed after it: rules come by no such function. With what an end
    /// there means.
    tracking: Option<(String, &'static str)>,
    netns: u32,
}

/// The hook that the packet passed last before it was dropped; tables before the hook as such.
fn last_hook<'a>(journey: &'a Journey, names: &Names) -> Option<Last<'a>> {
    let steps: Vec<_> = journey
        .steps()
        .filter(|step| step.copy == journey.teller)
        .collect();
    let drop = steps
        .iter()
        .position(|step| matches!(step.event.sign, Sign::Dropped { .. }))
        .unwrap_or(steps.len());
    let at = steps[..drop].iter().rposition(|step| step.event.hook.is_some())?;
    let event = &steps[at].event;
    let function = names
        .point(event.point)
        .map(|point| point.name.clone())
        .unwrap_or_default();
    let rule = steps[at..drop]
        .iter()
        .rev()
        .find_map(|step| step.event.rule.as_ref())
        .filter(|rule| rule.verdict == netfilter::DROP);
    let tracking = steps[at..drop].iter().rev().find_map(|step| {
        let point = names.point(step.event.point)?;
        TRACKING
            .iter()
            .any(|beginning| point.name.starts_with(beginning))
            .then(|| names.end(0, step.event.point))?
    });
    Some(Last {
        tracking,
        hook: event.hook.as_ref()?,
        function,
        rule,
        netns: rules::netns(event),
    })
}
