//! Two journeys side by side: what they have in common, and where they part.
//!
//! Compared are the functions that the packet itself passed, in their order: those of the copy that tells its fate and of
//! what that was made from. Left out is what says nothing about the way: helpers, freeing, functions beneath, and a
//! driver's answer, which comes at any time.

use super::event::{PointKind, Sign};
use super::journey::{Fate, Journey};
use super::render::{Names, netfilter};
use super::roles::{self, Role};

/// A step of one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The attach point, as people read it: `ip_rcv`, `tp:netif_rx`, `nft_do_chain [nf_tables]`.
    pub label: String,
    /// Its layer's name.
    pub layer: &'static str,
    /// Nanoseconds since the journey's beginning.
    pub time: u64,
}

/// A part of two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Both pass here: positions in the first and the second way.
    Both(usize, usize),
    /// Only the first does.
    First(usize),
    /// Only the second does.
    Second(usize),
}

/// Two ways, aligned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alignment {
    /// The first way.
    pub first: Vec<Stop>,
    /// The second way.
    pub second: Vec<Stop>,
    /// Both, from beginning to end.
    pub parts: Vec<Part>,
    /// How many of the parts lie before the ways part for good; all if they don't.
    pub together: usize,
}

impl Alignment {
    /// Align two ways.
    pub fn new(first: Vec<Stop>, second: Vec<Stop>) -> Alignment {
        let parts = parts(&first, &second);
        let last = parts.iter().rposition(|part| matches!(part, Part::Both(..)));
        let together = last.map_or(0, |last| last + 1);
        Alignment {
            first,
            second,
            parts,
            together,
        }
    }

    /// Whether both go the same way throughout.
    pub fn agrees(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Both(..)))
    }

    /// The last that both pass before they part for good, as a position in the first way.
    pub fn last_common(&self) -> Option<usize> {
        match self.parts.get(self.together.checked_sub(1)?)? {
            Part::Both(first, _) => Some(*first),
            _ => None,
        }
    }
}

/// The way of a journey's packet.
pub fn way(journey: &Journey, names: &Names) -> Vec<Stop> {
    let mut line = vec![journey.teller];
    while let Some(of) = line.last().and_then(|&copy| journey.copies[copy].of) {
        line.push(of);
    }
    let tells = |step: &&super::journey::Step| {
        let Some(point) = names.point(step.event.point) else {
            return true;
        };
        line.contains(&step.copy)
            && names.shows(step.event.point)
            && !matches!(
                step.event.sign,
                Sign::Transmitted { .. } | Sign::Freed | Sign::Ran { .. }
            )
            && !(point.kind == PointKind::Function && names.layer(step.event.point).name() == "skb")
            && !matches!(roles::role(point), Role::Aside | Role::Release)
    };
    let label = |step: &super::journey::Step| match &step.event.rule {
        // Rules with different verdicts are different ways.
        Some(rule) => format!(
            "{}: {}",
            names.label(step.event.point),
            netfilter::verdict(rule.verdict)
        ),
        None => names.label(step.event.point),
    };
    let stop = |step: &super::journey::Step| Stop {
        label: label(step),
        layer: names.layer(step.event.point).name(),
        time: step.event.time - journey.start,
    };
    journey.steps().filter(tells).map(stop).collect()
}

/// Whether two packets ended the same way, whoever and wherever that was.
pub fn same_fate(a: &Fate, b: &Fate) -> bool {
    let reason = |fate: &Fate| match fate {
        Fate::Dropped { reason, .. } => *reason,
        _ => None,
    };
    a.kind() == b.kind() && reason(a) == reason(b)
}

/// The longest common way, and the rest around it.
fn parts(a: &[Stop], b: &[Stop]) -> Vec<Part> {
    let same = |i: usize, j: usize| a[i].label == b[j].label;
    // What both begin with needs no table.
    let start = (0..a.len().min(b.len())).take_while(|&i| same(i, i)).count();
    let (rows, columns) = (a.len() - start, b.len() - start);
    let width = columns + 1;
    // The length of the longest common way from here to both ends.
    let mut rest = vec![0_u16; (rows + 1) * width];
    for i in (0..rows).rev() {
        for j in (0..columns).rev() {
            rest[i * width + j] = match same(start + i, start + j) {
                true => rest[(i + 1) * width + j + 1] + 1,
                false => rest[(i + 1) * width + j].max(rest[i * width + j + 1]),
            };
        }
    }
    let mut parts: Vec<Part> = (0..start).map(|i| Part::Both(i, i)).collect();
    let (mut i, mut j) = (0, 0);
    while i < rows || j < columns {
        let part = if i < rows && j < columns && same(start + i, start + j) {
            Part::Both(start + i, start + j)
        } else if j == columns || (i < rows && rest[(i + 1) * width + j] >= rest[i * width + j + 1]) {
            Part::First(start + i)
        } else {
            Part::Second(start + j)
        };
        i += usize::from(!matches!(part, Part::Second(_)));
        j += usize::from(!matches!(part, Part::First(_)));
        parts.push(part);
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stops(names: &str) -> Vec<Stop> {
        let stop = |name: &str| Stop {
            label: name.into(),
            layer: "ip",
            time: 0,
        };
        names.split_whitespace().map(stop).collect()
    }

    fn drawn(a: &str, b: &str) -> (String, usize) {
        let alignment = Alignment::new(stops(a), stops(b));
        let text: Vec<String> = alignment
            .parts
            .iter()
            .map(|part| match *part {
                Part::Both(i, _) => alignment.first[i].label.clone(),
                Part::First(i) => format!("-{}", alignment.first[i].label),
                Part::Second(j) => format!("+{}", alignment.second[j].label),
            })
            .collect();
        (text.join(" "), alignment.together)
    }

    #[test]
    fn ways_part_and_meet() {
        assert_eq!(drawn("a b c", "a b c"), ("a b c".into(), 3));
        assert_eq!(drawn("a b c d", "a b x"), ("a b -c -d +x".into(), 2));
        assert_eq!(drawn("a b c", "a x b c d"), ("a +x b c +d".into(), 4));
        assert_eq!(drawn("a", "b"), ("-a +b".into(), 0));
        assert_eq!(drawn("", "b"), ("+b".into(), 0));
    }

    proptest! {
        #[test]
        fn nothing_is_left_out(a in "[abc ]{0,30}", b in "[abc ]{0,30}") {
            let (a, b) = (stops(&a), stops(&b));
            let alignment = Alignment::new(a.clone(), b.clone());
            let (mut firsts, mut seconds) = (vec![], vec![]);
            for part in &alignment.parts {
                match *part {
                    Part::Both(i, j) => {
                        prop_assert_eq!(&a[i].label, &b[j].label);
                        firsts.push(i);
                        seconds.push(j);
                    }
                    Part::First(i) => firsts.push(i),
                    Part::Second(j) => seconds.push(j),
                }
            }
            prop_assert_eq!(firsts, (0..a.len()).collect::<Vec<_>>());
            prop_assert_eq!(seconds, (0..b.len()).collect::<Vec<_>>());
            prop_assert_eq!(alignment.agrees(), a == b);
        }
    }
}
