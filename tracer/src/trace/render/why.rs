//! Why a packet ended as it did, in sentences.

use super::names::Names;
use super::netfilter;
use crate::trace::event::{Hook, Sign};
use crate::trace::journey::{Fate, Journey};
use crate::trace::knowledge;

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
    if let Some((hook, point)) = last_hook(journey, names).filter(|_| by_rules) {
        let (text, command) = netfilter::decided(hook, &point);
        lines.push(format!("{text}: `{command}`"));
    } else if let Some(words) = words.filter(|_| name.as_deref() != Some("NOT_SPECIFIED")) {
        lines.push(words.to_owned());
    } else if let Some((function, end)) = names.end(*location, *after) {
        lines.push(format!("an end at {function} means: {end}"));
    }
    lines
}

/// The hook that the packet passed last before it was dropped, and the function that told; tables before the hook
/// as such.
fn last_hook<'a>(journey: &'a Journey, names: &Names) -> Option<(&'a Hook, String)> {
    let steps: Vec<_> = journey
        .steps()
        .filter(|step| step.copy == journey.teller)
        .collect();
    let drop = steps
        .iter()
        .position(|step| matches!(step.event.sign, Sign::Dropped { .. }))
        .unwrap_or(steps.len());
    let step = steps[..drop]
        .iter()
        .rev()
        .find(|step| step.event.hook.is_some())?;
    let name = names
        .point(step.event.point)
        .map(|point| point.name.clone())
        .unwrap_or_default();
    Some((step.event.hook.as_ref()?, name))
}
