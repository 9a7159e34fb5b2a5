//! Why a packet ended as it did, in sentences.

use super::names::Names;
use super::netfilter;
use crate::trace::event::{Hook, Rule, Sign};
use crate::trace::journey::{Fate, Journey};
use crate::trace::knowledge;
use crate::trace::rules;

/// What is known about why the packet was dropped: the reason in words, what decided, and the command that shows it.
/// Empty for packets that weren't.
pub fn why(journey: &Journey, names: &Names) -> Vec<String> {
    let Fate::Dropped {
        reason,
        location,
        after,
        ..
    } = journey.fate()
    else {
        return vec![];
    };
    let mut lines = vec![];
    let name = reason.map(|reason| names.reason(reason));
    let words = name.as_deref().and_then(knowledge::reason);
    // A kernel that gives a reason of its own for rules says when it was them; an older one names the function.
    let function = names.function(*location);
    let by_rules = match name.as_deref() {
        Some("NETFILTER_DROP") => true,
        Some("NOT_SPECIFIED") | None => function
            .as_deref()
            .is_some_and(|f| knowledge::knowledge().layer(f, "").name() == "netfilter"),
        Some(_) => false,
    };
    if let Some(last) = last_hook(journey, names).filter(|_| by_rules) {
        lines.extend(decided(&last, names));
    } else if let Some(words) = words.filter(|_| name.as_deref() != Some("NOT_SPECIFIED")) {
        lines.push(words.to_owned());
    } else if let Some((function, end)) = names.end(*location, *after) {
        lines.push(format!("an end at {function} means: {end}"));
    }
    lines
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

/// What the packet met last of Netfilter before it was dropped.
struct Last<'a> {
    hook: &'a Hook,
    /// The function that told of the hook.
    function: String,
    /// The rule there that dropped it.
    rule: Option<&'a Rule>,
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
    Some(Last {
        hook: event.hook.as_ref()?,
        function,
        rule,
        netns: rules::netns(event),
    })
}
