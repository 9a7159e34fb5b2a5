//! Questions about tests that have not been compiled yet, in the light of what is known.

use super::facts::State;
use crate::filter::ast::{ArithOp, Relop};
use crate::filter::tree::{Node, Num, NumId, Nums, Window, compute, holds};

/// Looks ahead.
pub(super) struct Plan<'a> {
    nums: &'a Nums,
    state: &'a State,
}

impl<'a> Plan<'a> {
    pub fn new(nums: &'a Nums, state: &'a State) -> Plan<'a> {
        Plan { nums, state }
    }

    /// The value of a number, if it is known. Computing it loads nothing.
    pub fn value(&self, num: NumId) -> Option<u32> {
        self.state.value(num).or_else(|| match self.nums.get(num) {
            Num::Const(value) => Some(value),
            Num::Bin { op, a, b } => compute(op, self.value(a)?, self.value(b)?),
            Num::Choose { .. } => self.value(self.arm(num)?),
            Num::Load { .. } | Num::Field(_) => None,
        })
    }

    /// Which number a choice comes to, if that is known.
    pub fn arm(&self, choice: NumId) -> Option<NumId> {
        let Num::Choose {
            num,
            value,
            same,
            other,
        } = self.nums.get(choice)
        else {
            return None;
        };
        match self.value(num) {
            Some(known) if known == value => Some(same),
            Some(_) => Some(other),
            None if self.state.excludes(num, value) => Some(other),
            None => None,
        }
    }

    /// The outcome of a leaf that is known without any code.
    pub fn known(&self, node: &Node) -> Option<bool> {
        match node {
            Node::Const(value) => Some(*value),
            Node::Test { op, a, b, .. } => match (self.value(*a), self.value(*b), op) {
                (Some(a), Some(b), _) => Some(holds(*op, a, b)),
                (None, Some(b), Relop::Eq) if self.state.excludes(*a, b) => Some(false),
                (None, Some(b), Relop::Ne) if self.state.excludes(*a, b) => Some(true),
                _ => None,
            },
            Node::In { a, values, .. } => match self.value(*a) {
                Some(value) => Some(values.contains(&value)),
                None if values.iter().all(|value| self.state.excludes(*a, *value)) => Some(false),
                None => None,
            },
            Node::Has(field) => self.state.field(*field).map(|_| true),
            Node::Not(inner) => self.known(inner).map(|value| !value),
            Node::Chain { .. } | Node::And(_) | Node::Or(_) => None,
        }
    }

    /// The only outcome that `node` can have, unless a load ends the filter.
    fn outcome(&self, node: &Node) -> Option<bool> {
        match node {
            Node::Not(inner) => self.outcome(inner).map(|value| !value),
            Node::And(nodes) => self.outcome_of_all(&nodes.iter().collect::<Vec<_>>()),
            Node::Or(nodes) => {
                let mut all_false = true;
                for node in nodes {
                    match self.outcome(node) {
                        Some(true) => return Some(true),
                        Some(false) => {}
                        None => all_false = false,
                    }
                }
                all_false.then_some(false)
            }
            leaf => self.known(leaf),
        }
    }

    /// The same for a conjunction.
    pub fn outcome_of_all(&self, nodes: &[&Node]) -> Option<bool> {
        let mut all_true = true;
        for node in nodes {
            match self.outcome(node) {
                Some(false) => return Some(false),
                Some(true) => {}
                None => all_true = false,
            }
        }
        all_true.then_some(true)
    }

    /// What testing `node` costs, roughly in instructions.
    pub fn cost(&self, node: &Node) -> u32 {
        if self.outcome(node).is_some() {
            return 0;
        }
        match node {
            Node::Const(_) => 0,
            Node::Has(_) => 1,
            Node::Test { a, b, .. } => 1 + self.num_cost(*a) + self.num_cost(*b),
            Node::In { a, values, .. } => values.len() as u32 + self.num_cost(*a),
            Node::Chain { .. } => 500,
            Node::Not(inner) => self.cost(inner),
            Node::And(nodes) | Node::Or(nodes) => nodes
                .iter()
                .map(|node| self.cost(node))
                .fold(0, u32::saturating_add),
        }
    }

    fn num_cost(&self, num: NumId) -> u32 {
        if self.value(num).is_some() || self.state.reg(num).is_some() || self.state.raw(num).is_some() {
            return 0;
        }
        match self.nums.get(num) {
            Num::Const(_) => 0,
            Num::Field(_) => 1,
            Num::Load { place, .. } => match place.dynamic {
                // A call of a helper where the packet's prefix doesn't hold it.
                Some(dynamic) if self.value(dynamic).is_none() => 40 + self.num_cost(dynamic),
                _ => 3,
            },
            Num::Bin { a, b, .. } => 1 + self.num_cost(a) + self.num_cost(b),
            Num::Choose { num, same, other, .. } => match self.arm(num) {
                Some(arm) => self.num_cost(arm),
                None => 2 + self.num_cost(num) + self.num_cost(same).max(self.num_cost(other)),
            },
        }
    }

    /// Bytes of `window` without which `nodes` can't lead anywhere but to "the whole filter doesn't match", given which
    /// outcomes lead there as well.
    pub fn needed(&self, nodes: &[&Node], window: Window, yes_is_miss: bool, no_is_miss: bool) -> u32 {
        let of = |outcome| self.needed_by_all(nodes.iter().copied(), outcome, window);
        match (yes_is_miss, no_is_miss) {
            (true, true) => 0,
            (false, true) => of(true),
            (true, false) => of(false),
            (false, false) => of(true).min(of(false)),
        }
        .min(MAX_NEEDED)
    }

    /// Bytes of `window` that are surely loaded before `node` gives `outcome`. `u32::MAX` if it never does.
    fn needed_by(&self, node: &Node, outcome: bool, window: Window) -> u32 {
        if self.known(node).is_some_and(|known| known != outcome) {
            return u32::MAX;
        }
        match node {
            Node::Const(_) | Node::Has(_) | Node::Chain { .. } => 0,
            Node::Test { a, b, .. } => self.loaded_by(*a, window).max(self.loaded_by(*b, window)),
            Node::In { a, .. } => self.loaded_by(*a, window),
            Node::Not(inner) => self.needed_by(inner, !outcome, window),
            Node::And(nodes) => self.needed_by_all(nodes.iter(), outcome, window),
            // A disjunction gives what the conjunction of the opposites doesn't.
            Node::Or(nodes) => self.needed_by_list(nodes.iter(), outcome, true, window),
        }
    }

    fn needed_by_all<'n>(&self, nodes: impl Iterator<Item = &'n Node>, outcome: bool, window: Window) -> u32 {
        self.needed_by_list(nodes, outcome, false, window)
    }

    /// Of a list of nodes that stops at the first one that gives `stop`.
    fn needed_by_list<'n>(
        &self,
        nodes: impl Iterator<Item = &'n Node>,
        outcome: bool,
        stop: bool,
        window: Window,
    ) -> u32 {
        let mut through = 0;
        let mut stopped = u32::MAX;
        for node in nodes {
            stopped = stopped.min(self.needed_by(node, stop, window).max(through));
            through = through.max(self.needed_by(node, !stop, window));
        }
        if outcome == stop { stopped } else { through }
    }

    fn loaded_by(&self, num: NumId, window: Window) -> u32 {
        if self.value(num).is_some() {
            return 0;
        }
        match self.nums.get(num) {
            Num::Const(_) | Num::Field(_) => 0,
            Num::Bin { a, b, .. } => self.loaded_by(a, window).max(self.loaded_by(b, window)),
            Num::Choose {
                num: by, same, other, ..
            } => match self.arm(num) {
                Some(arm) => self.loaded_by(arm, window),
                None => {
                    let arms = self.loaded_by(same, window).min(self.loaded_by(other, window));
                    self.loaded_by(by, window).max(arms)
                }
            },
            Num::Load { place, size } => {
                let dynamic = match place.dynamic {
                    None => Some(0),
                    Some(dynamic) => self.value(dynamic),
                };
                match dynamic {
                    Some(dynamic) if place.window == window => place
                        .off
                        .saturating_add(size)
                        .saturating_add(dynamic)
                        .min(MAX_NEEDED),
                    Some(_) => 0,
                    None => self.loaded_by(place.dynamic.expect("it is unknown"), window),
                }
            }
        }
    }

    /// The values that tests among `nodes` compare `num` with, in order of appearance.
    pub fn compared_with(&self, nodes: &[&Node], num: NumId) -> Vec<u32> {
        let mut values = vec![];
        for node in nodes {
            self.collect_compared(node, num, &mut values);
        }
        values
    }

    fn collect_compared(&self, node: &Node, num: NumId, values: &mut Vec<u32>) {
        match node {
            Node::Test { a, b, op, .. } => {
                if *a == num
                    && matches!(op, Relop::Eq | Relop::Ne)
                    && let Some(value) = self.value(*b)
                {
                    values.push(value);
                }
                self.collect_choices(*a, num, values);
                self.collect_choices(*b, num, values);
            }
            Node::In { a, values: known, .. } => {
                if *a == num {
                    values.extend(known);
                }
                self.collect_choices(*a, num, values);
            }
            Node::Chain { net, .. } => {
                if let Some(dynamic) = net.dynamic {
                    self.collect_choices(dynamic, num, values);
                }
            }
            Node::Not(inner) => self.collect_compared(inner, num, values),
            Node::And(nodes) | Node::Or(nodes) => {
                for node in nodes {
                    self.collect_compared(node, num, values);
                }
            }
            Node::Const(_) | Node::Has(_) => {}
        }
        let mut seen = vec![];
        values.retain(|value| {
            !seen.contains(value) && {
                seen.push(*value);
                true
            }
        });
    }

    /// The values that choices in `of` compare `num` with.
    fn collect_choices(&self, of: NumId, num: NumId, values: &mut Vec<u32>) {
        match self.nums.get(of) {
            Num::Const(_) | Num::Field(_) => {}
            Num::Bin { a, b, .. } => {
                self.collect_choices(a, num, values);
                self.collect_choices(b, num, values);
            }
            Num::Load { place, .. } => {
                if let Some(dynamic) = place.dynamic {
                    self.collect_choices(dynamic, num, values);
                }
            }
            Num::Choose {
                num: by,
                value,
                same,
                other,
            } => {
                if by == num {
                    values.push(value);
                }
                for inside in [by, same, other] {
                    self.collect_choices(inside, num, values);
                }
            }
        }
    }

    /// Whether asking for `num` first changes nothing: it is asked for on every way that doesn't end in "the whole
    /// filter doesn't match" anyway.
    pub fn surely_asked(&self, nodes: &[&Node], num: NumId, yes_is_miss: bool, no_is_miss: bool) -> bool {
        let of = |outcome| self.asked_by_list(nodes.iter().copied(), outcome, false, num);
        (yes_is_miss || of(true)) && (no_is_miss || of(false))
    }

    fn asked_by(&self, node: &Node, outcome: bool, num: NumId) -> bool {
        if self.known(node).is_some_and(|known| known != outcome) {
            return true;
        }
        match node {
            Node::Const(_) | Node::Has(_) => false,
            Node::Chain { net, .. } => net.dynamic.is_some_and(|dynamic| self.uses(dynamic, num)),
            Node::Test { a, b, .. } => self.uses(*a, num) || self.uses(*b, num),
            Node::In { a, .. } => self.uses(*a, num),
            Node::Not(inner) => self.asked_by(inner, !outcome, num),
            Node::And(nodes) => self.asked_by_list(nodes.iter(), outcome, false, num),
            Node::Or(nodes) => self.asked_by_list(nodes.iter(), outcome, true, num),
        }
    }

    fn asked_by_list<'n>(
        &self,
        nodes: impl Iterator<Item = &'n Node>,
        outcome: bool,
        stop: bool,
        num: NumId,
    ) -> bool {
        let mut through = false;
        let mut stopped = true;
        for node in nodes {
            stopped &= through || self.asked_by(node, stop, num);
            through |= self.asked_by(node, !stop, num);
        }
        if outcome == stop { stopped } else { through }
    }

    fn uses(&self, num: NumId, wanted: NumId) -> bool {
        num == wanted
            || match self.nums.get(num) {
                Num::Const(_) | Num::Field(_) => false,
                Num::Bin { a, b, .. } => self.uses(a, wanted) || self.uses(b, wanted),
                Num::Load { place, .. } => place.dynamic.is_some_and(|dynamic| self.uses(dynamic, wanted)),
                Num::Choose {
                    num: by, same, other, ..
                } => match self.arm(num) {
                    Some(arm) => self.uses(arm, wanted),
                    None => self.uses(by, wanted) || self.uses(same, wanted) && self.uses(other, wanted),
                },
            }
    }

    /// The unknown IPv4 header length, in words, behind which the first test of `node` loads.
    pub fn first_header_length(&self, node: &Node) -> Option<NumId> {
        match node {
            Node::Const(_) | Node::Has(_) | Node::Chain { .. } => None,
            Node::Test { a, b, .. } => self.header_length_in(*a).or_else(|| self.header_length_in(*b)),
            Node::In { a, .. } => self.header_length_in(*a),
            Node::Not(inner) => self.first_header_length(inner),
            Node::And(nodes) | Node::Or(nodes) => {
                let first = nodes.iter().find(|node| self.known(node).is_none())?;
                self.first_header_length(first)
            }
        }
    }

    fn header_length_in(&self, num: NumId) -> Option<NumId> {
        match self.nums.get(num) {
            Num::Const(_) | Num::Field(_) => None,
            Num::Bin { a, b, .. } => self.header_length_in(a).or_else(|| self.header_length_in(b)),
            Num::Choose { num: by, .. } => match self.arm(num) {
                Some(arm) => self.header_length_in(arm),
                None => self.header_length_in(by),
            },
            Num::Load { place, .. } => {
                let dynamic = place.dynamic?;
                if self.value(dynamic).is_some() {
                    return None;
                }
                self.header_length(dynamic)
                    .or_else(|| self.header_length_in(dynamic))
            }
        }
    }

    /// `num` has an addend of the form `(load & 0xf) << 2`: the load and its mask.
    fn header_length(&self, num: NumId) -> Option<NumId> {
        match self.nums.get(num) {
            Num::Bin {
                op: ArithOp::Add,
                a,
                b,
            } => self.header_length(a).or_else(|| self.header_length(b)),
            Num::Bin {
                op: ArithOp::Shl,
                a,
                b,
            } if self.value(b) == Some(2) && self.value(a).is_none() => match self.nums.get(a) {
                Num::Bin {
                    op: ArithOp::And,
                    a: load,
                    b: mask,
                } if self.value(mask) == Some(0xf) => {
                    matches!(self.nums.get(load), Num::Load { .. }).then_some(a)
                }
                _ => None,
            },
            _ => None,
        }
    }
}

/// More than this no check draws forward: it is beyond any packet, and the load itself will say so.
const MAX_NEEDED: u32 = 1 << 16;
