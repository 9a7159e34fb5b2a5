//! Questions about tests that have not been compiled yet, in the light of what is known.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use super::facts::State;
use crate::filter::ast::{ArithOp, Relop};
use crate::filter::tree::{Node, Num, NumId, Nums, Window, compute, holds};
use crate::filter::view::Field;

/// Nodes that are tested from left to right until one gives `stop`.
#[derive(Clone)]
pub(super) struct List<'n> {
    pub nodes: Vec<&'n Node>,
    /// False in a conjunction, true in a disjunction.
    pub stop: bool,
}

impl<'n> List<'n> {
    /// A conjunction.
    pub fn all(nodes: impl IntoIterator<Item = &'n Node>) -> List<'n> {
        let mut flat = vec![];
        for node in nodes {
            match node {
                Node::And(inner) => flat.extend(inner),
                node => flat.push(node),
            }
        }
        List {
            nodes: flat,
            stop: false,
        }
    }

    /// A disjunction.
    pub fn any(nodes: impl IntoIterator<Item = &'n Node>) -> List<'n> {
        let mut flat = vec![];
        for node in nodes {
            match node {
                Node::Or(inner) => flat.extend(inner),
                node => flat.push(node),
            }
        }
        List {
            nodes: flat,
            stop: true,
        }
    }

    /// Without the first `skip`.
    pub fn from(&self, skip: usize) -> List<'n> {
        List {
            nodes: self.nodes[skip..].to_vec(),
            stop: self.stop,
        }
    }

    /// How many tests.
    pub fn tests(&self) -> usize {
        self.nodes.iter().map(|node| node.measure().0).sum()
    }

    /// Part of it must not be compiled more than once.
    pub fn has_inside(&self) -> bool {
        self.nodes.iter().any(|node| node.has_inside())
    }
}

/// Looks ahead. Numbers share parts, so what has been found out about one is kept.
pub(super) struct Plan<'a> {
    nums: &'a Nums,
    state: &'a State,
    values: Memo<Option<u32>>,
    costs: Memo<u32>,
    loaded: [Memo<u32>; 2],
    lengths: Memo<Option<NumId>>,
}

type Memo<T> = RefCell<HashMap<NumId, T>>;

/// `compute(num)`, once.
fn once<T: Copy>(memo: &Memo<T>, num: NumId, compute: impl FnOnce() -> T) -> T {
    if let Some(known) = memo.borrow().get(&num) {
        return *known;
    }
    let value = compute();
    memo.borrow_mut().insert(num, value);
    value
}

/// What is known for the case that a node gives false, and for the case that it gives true.
#[derive(Clone, Copy)]
struct Either<T> {
    no: T,
    yes: T,
}

impl<T: Copy> Either<T> {
    fn of(self, outcome: bool) -> T {
        if outcome { self.yes } else { self.no }
    }

    fn swapped(self) -> Either<T> {
        Either {
            no: self.yes,
            yes: self.no,
        }
    }
}

impl<'a> Plan<'a> {
    pub fn new(nums: &'a Nums, state: &'a State) -> Plan<'a> {
        Plan {
            nums,
            state,
            values: Memo::default(),
            costs: Memo::default(),
            loaded: Default::default(),
            lengths: Memo::default(),
        }
    }

    /// The value of a number, if it is known. Computing it loads nothing.
    pub fn value(&self, num: NumId) -> Option<u32> {
        if let Num::Const(value) = self.nums.get(num) {
            return Some(value);
        }
        once(&self.values, num, || {
            self.state.value(num).or_else(|| match self.nums.get(num) {
                Num::Const(value) => Some(value),
                Num::Bin { op, a, b } => compute(op, self.value(a)?, self.value(b)?),
                Num::Choose { .. } => self.value(self.arm(num)?),
                Num::Load { .. } | Num::Field(_) | Num::Walk { .. } | Num::Kernel { .. } | Num::Slot(_) => {
                    None
                }
            })
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
            Node::NotNull(_) | Node::Chain { .. } | Node::And(_) | Node::Or(_) => None,
            Node::Enter(_) | Node::Inside { .. } => None,
        }
    }

    /// The only outcome that `node` can have, unless a load ends the filter.
    fn outcome(&self, node: &Node) -> Option<bool> {
        match node {
            Node::Not(inner) => self.outcome(inner).map(|value| !value),
            Node::And(nodes) => self.outcome_of_nodes(nodes, false),
            Node::Or(nodes) => self.outcome_of_nodes(nodes, true),
            Node::Inside { ways, inside, .. } => self.outcome_of_nodes([&**ways, inside], false),
            leaf => self.known(leaf),
        }
    }

    /// The same for a list.
    pub fn outcome_of(&self, list: &List<'_>) -> Option<bool> {
        self.outcome_of_nodes(list.nodes.iter().copied(), list.stop)
    }

    fn outcome_of_nodes<'n>(&self, nodes: impl IntoIterator<Item = &'n Node>, stop: bool) -> Option<bool> {
        let mut all_known = true;
        for node in nodes {
            match self.outcome(node) {
                Some(outcome) if outcome == stop => return Some(stop),
                Some(_) => {}
                None => all_known = false,
            }
        }
        all_known.then_some(!stop)
    }

    /// The outcome of `node`, if it is known and nothing is loaded before: no load can end the filter.
    fn at_once(&self, node: &Node) -> Option<bool> {
        let first = |nodes: &[Node], stop: bool| {
            let unlike = nodes
                .iter()
                .map(|node| self.at_once(node))
                .find(|known| *known != Some(!stop));
            unlike.unwrap_or(Some(!stop))
        };
        match node {
            Node::Not(inner) => self.at_once(inner).map(|outcome| !outcome),
            Node::And(nodes) => first(nodes, false),
            Node::Or(nodes) => first(nodes, true),
            leaf => self.known(leaf),
        }
    }

    /// `list` without what is known to make no difference, and with what is in a list within it.
    pub fn flat<'n>(&self, list: &List<'n>) -> List<'n> {
        let mut nodes = vec![];
        for node in &list.nodes {
            self.flatten(node, list.stop, &mut nodes);
        }
        List {
            nodes,
            stop: list.stop,
        }
    }

    fn flatten<'n>(&self, node: &'n Node, stop: bool, into: &mut Vec<&'n Node>) {
        if self.at_once(node) == Some(!stop) {
            return;
        }
        let (nodes, inner_stop) = match node {
            Node::And(nodes) => (nodes, false),
            Node::Or(nodes) => (nodes, true),
            _ => return into.push(node),
        };
        let flat = self.flat(&List {
            nodes: nodes.iter().collect(),
            stop: inner_stop,
        });
        match flat.nodes.len() {
            _ if inner_stop == stop => into.extend(flat.nodes),
            1 => self.flatten(flat.nodes[0], stop, into),
            _ => into.push(node),
        }
    }

    /// What `node` costs for each time that it decides a list that stops at `stop`, by guess.
    pub fn worth(&self, node: &Node, stop: bool) -> u64 {
        let cost = u64::from(self.cost(node));
        match stop {
            false => cost * ALWAYS / (ALWAYS - self.chance(node)).max(1),
            true => cost * ALWAYS / self.chance(node).max(1),
        }
    }

    /// How probable it is that `node` holds, in [`ALWAYS`].
    fn chance(&self, node: &Node) -> u64 {
        match node {
            Node::Test {
                op: op @ (Relop::Eq | Relop::Ne),
                a,
                b,
                ..
            } => {
                let equal = match (self.nums.get(*a), self.value(*b)) {
                    // A flag or an offset that isn't there.
                    (Num::Bin { op: ArithOp::And, .. }, Some(0)) => ALWAYS * 7 / 8,
                    (
                        Num::Bin {
                            op: ArithOp::And, a, ..
                        },
                        _,
                    ) => self.equal(a),
                    _ => self.equal(*a),
                };
                match op {
                    Relop::Eq => equal,
                    _ => ALWAYS - equal,
                }
            }
            Node::In { a, values, .. } => (self.equal(*a) * values.len() as u64).min(ALWAYS / 2),
            Node::Not(inner) => ALWAYS - self.chance(inner),
            _ => ALWAYS / 2,
        }
    }

    /// How probable it is that a number is what it is compared with: addresses are of many, protocols of few.
    fn equal(&self, num: NumId) -> u64 {
        match self.nums.get(num) {
            Num::Load { size: 4, .. } => ALWAYS / 16,
            Num::Load { size: 2, .. } => ALWAYS / 8,
            _ => ALWAYS / 2,
        }
    }

    /// What testing `node` costs, roughly in instructions.
    pub fn cost(&self, node: &Node) -> u32 {
        if self.outcome(node).is_some() {
            return 0;
        }
        match node {
            Node::Const(_) => 0,
            Node::Has(_) => 1,
            Node::NotNull(_) => KERNEL_READ,
            Node::Test { a, b, .. } => 1 + self.num_cost(*a) + self.num_cost(*b),
            Node::In { a, values, .. } => values.len() as u32 + self.num_cost(*a),
            Node::Chain { .. } => 500,
            Node::Not(inner) => self.cost(inner),
            // Nothing that can say no comes after it.
            Node::Enter(_) => u32::MAX,
            Node::Inside { inside, .. } => self.cost(inside).saturating_add(INSIDE),
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
        once(&self.costs, num, || match self.nums.get(num) {
            Num::Const(_) | Num::Slot(_) => 0,
            Num::Field(field) => field_cost(field),
            Num::Kernel { .. } => KERNEL_READ,
            Num::Walk { .. } => 400,
            Num::Load { place, .. } => match place.dynamic {
                // A call of a helper where the packet's prefix doesn't hold it.
                Some(dynamic) if self.value(dynamic).is_none() => self.num_cost(dynamic).saturating_add(40),
                _ => 3,
            },
            Num::Bin { a, b, .. } => self
                .num_cost(a)
                .saturating_add(self.num_cost(b))
                .saturating_add(1),
            Num::Choose {
                num: by, same, other, ..
            } => match self.arm(num) {
                Some(arm) => self.num_cost(arm),
                None => {
                    let arms = self.num_cost(same).max(self.num_cost(other));
                    self.num_cost(by).saturating_add(arms).saturating_add(2)
                }
            },
        })
    }

    /// Bytes of `window` without which `list` can't lead anywhere but to "the whole filter doesn't match", given which
    /// outcomes lead there as well.
    pub fn needed(&self, list: &List<'_>, window: Window, yes_is_miss: bool, no_is_miss: bool) -> u32 {
        let by = self.needed_by_nodes(list.nodes.iter().copied(), list.stop, window);
        match (yes_is_miss, no_is_miss) {
            (true, true) => 0,
            (false, true) => by.yes,
            (true, false) => by.no,
            (false, false) => by.yes.min(by.no),
        }
        .min(MAX_NEEDED)
    }

    /// Bytes of `window` that are surely loaded before `node` gives an outcome. `u32::MAX` if it never does.
    fn needed_by(&self, node: &Node, window: Window) -> Either<u32> {
        let bytes = match node {
            Node::Const(_) | Node::Has(_) | Node::NotNull(_) | Node::Chain { .. } => 0,
            Node::Test { a, b, .. } => self.loaded_by(*a, window).max(self.loaded_by(*b, window)),
            Node::In { a, .. } => self.loaded_by(*a, window),
            Node::Not(inner) => return self.needed_by(inner, window).swapped(),
            Node::Enter(values) => values
                .iter()
                .map(|(_, value)| self.loaded_by(*value, window))
                .max()
                .unwrap_or(0),
            Node::Inside { ways, inside, .. } => {
                return self.needed_by_nodes([&**ways, inside], false, window);
            }
            Node::And(nodes) => return self.needed_by_nodes(nodes, false, window),
            Node::Or(nodes) => return self.needed_by_nodes(nodes, true, window),
        };
        let known = self.known(node);
        let of = |outcome: bool| if known == Some(!outcome) { u32::MAX } else { bytes };
        Either {
            no: of(false),
            yes: of(true),
        }
    }

    /// Of a list of nodes that stops at the first one that gives `stop`.
    fn needed_by_nodes<'n>(
        &self,
        nodes: impl IntoIterator<Item = &'n Node>,
        stop: bool,
        window: Window,
    ) -> Either<u32> {
        let mut through = 0;
        let mut stopped = u32::MAX;
        for node in nodes {
            let by = self.needed_by(node, window);
            stopped = stopped.min(by.of(stop).max(through));
            through = through.max(by.of(!stop));
        }
        match stop {
            true => Either {
                no: through,
                yes: stopped,
            },
            false => Either {
                no: stopped,
                yes: through,
            },
        }
    }

    fn loaded_by(&self, num: NumId, window: Window) -> u32 {
        if self.value(num).is_some() {
            return 0;
        }
        once(&self.loaded[window as usize], num, || match self.nums.get(num) {
            Num::Const(_) | Num::Field(_) | Num::Kernel { .. } | Num::Walk { .. } | Num::Slot(_) => 0,
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
        })
    }

    /// The values that tests in `list` compare `num` with, in order of appearance.
    pub fn compared_with(&self, list: &List<'_>, num: NumId) -> Vec<u32> {
        let mut search = Search {
            nums: self.nums,
            num,
            values: vec![],
            seen: HashSet::new(),
        };
        for node in &list.nodes {
            search.node(node);
        }
        search.values
    }

    /// Whether asking for `num` first changes nothing: it is asked for on every way that doesn't end in "the whole
    /// filter doesn't match" anyway.
    pub fn surely_asked(&self, list: &List<'_>, num: NumId, yes_is_miss: bool, no_is_miss: bool) -> bool {
        let memo = Memo::default();
        let by = self.asked_by_nodes(list.nodes.iter().copied(), list.stop, num, &memo);
        (yes_is_miss || by.yes) && (no_is_miss || by.no)
    }

    fn asked_by(&self, node: &Node, num: NumId, memo: &Memo<bool>) -> Either<bool> {
        let asked = match node {
            Node::Const(_) | Node::Has(_) | Node::NotNull(_) => false,
            Node::Chain { net, .. } => net.dynamic.is_some_and(|dynamic| self.uses(dynamic, num, memo)),
            Node::Test { a, b, .. } => self.uses(*a, num, memo) || self.uses(*b, num, memo),
            Node::In { a, .. } => self.uses(*a, num, memo),
            Node::Not(inner) => return self.asked_by(inner, num, memo).swapped(),
            Node::Enter(values) => values.iter().any(|(_, value)| self.uses(*value, num, memo)),
            Node::Inside { ways, inside, .. } => {
                return self.asked_by_nodes([&**ways, inside], false, num, memo);
            }
            Node::And(nodes) => return self.asked_by_nodes(nodes, false, num, memo),
            Node::Or(nodes) => return self.asked_by_nodes(nodes, true, num, memo),
        };
        let known = self.known(node);
        Either {
            no: asked || known == Some(true),
            yes: asked || known == Some(false),
        }
    }

    fn asked_by_nodes<'n>(
        &self,
        nodes: impl IntoIterator<Item = &'n Node>,
        stop: bool,
        num: NumId,
        memo: &Memo<bool>,
    ) -> Either<bool> {
        let mut through = false;
        let mut stopped = true;
        for node in nodes {
            let by = self.asked_by(node, num, memo);
            stopped &= through || by.of(stop);
            through |= by.of(!stop);
        }
        match stop {
            true => Either {
                no: through,
                yes: stopped,
            },
            false => Either {
                no: stopped,
                yes: through,
            },
        }
    }

    fn uses(&self, num: NumId, wanted: NumId, memo: &Memo<bool>) -> bool {
        num == wanted
            || once(memo, num, || match self.nums.get(num) {
                Num::Const(_) | Num::Field(_) | Num::Kernel { .. } | Num::Slot(_) => false,
                Num::Bin { a, b, .. } => self.uses(a, wanted, memo) || self.uses(b, wanted, memo),
                Num::Load { place, .. } | Num::Walk { net: place, .. } => place
                    .dynamic
                    .is_some_and(|dynamic| self.uses(dynamic, wanted, memo)),
                Num::Choose {
                    num: by, same, other, ..
                } => match self.arm(num) {
                    Some(arm) => self.uses(arm, wanted, memo),
                    None => {
                        self.uses(by, wanted, memo)
                            || self.uses(same, wanted, memo) && self.uses(other, wanted, memo)
                    }
                },
            })
    }

    /// The unknown IPv4 header length, in words, behind which the first test of `node` loads.
    pub fn first_header_length(&self, node: &Node) -> Option<NumId> {
        match node {
            Node::Const(_) | Node::Has(_) | Node::NotNull(_) | Node::Chain { .. } => None,
            Node::Test { a, b, .. } => self.header_length_in(*a).or_else(|| self.header_length_in(*b)),
            Node::In { a, .. } => self.header_length_in(*a),
            Node::Not(inner) => self.first_header_length(inner),
            Node::Enter(values) => values.iter().find_map(|(_, value)| self.header_length_in(*value)),
            Node::Inside { ways, .. } => self.first_header_length(ways),
            Node::And(nodes) | Node::Or(nodes) => {
                let first = nodes.iter().find(|node| self.known(node).is_none())?;
                self.first_header_length(first)
            }
        }
    }

    fn header_length_in(&self, num: NumId) -> Option<NumId> {
        once(&self.lengths, num, || match self.nums.get(num) {
            Num::Const(_) | Num::Field(_) | Num::Kernel { .. } | Num::Walk { .. } | Num::Slot(_) => None,
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
        })
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

/// Looks for the values that a number is compared with.
struct Search<'a> {
    nums: &'a Nums,
    num: NumId,
    values: Vec<u32>,
    seen: HashSet<NumId>,
}

impl Search<'_> {
    fn found(&mut self, value: u32) {
        if !self.values.contains(&value) {
            self.values.push(value);
        }
    }

    fn node(&mut self, node: &Node) {
        match node {
            Node::Test { a, b, op, .. } => {
                if *a == self.num
                    && matches!(op, Relop::Eq | Relop::Ne)
                    && let Some(value) = self.nums.as_const(*b)
                {
                    self.found(value);
                }
                self.choices(*a);
                self.choices(*b);
            }
            Node::In { a, values, .. } => {
                if *a == self.num {
                    values.iter().for_each(|value| self.found(*value));
                }
                self.choices(*a);
            }
            Node::Chain { net, .. } => net.dynamic.into_iter().for_each(|dynamic| self.choices(dynamic)),
            Node::Not(inner) => self.node(inner),
            Node::Enter(values) => values.iter().for_each(|(_, value)| self.choices(*value)),
            Node::Inside { ways, inside, .. } => {
                self.node(ways);
                self.node(inside);
            }
            Node::And(nodes) | Node::Or(nodes) => nodes.iter().for_each(|node| self.node(node)),
            Node::Const(_) | Node::Has(_) | Node::NotNull(_) => {}
        }
    }

    /// The values that choices in `of` compare the number with.
    fn choices(&mut self, of: NumId) {
        if !self.seen.insert(of) {
            return;
        }
        match self.nums.get(of) {
            Num::Const(_) | Num::Field(_) | Num::Kernel { .. } | Num::Slot(_) => {}
            Num::Bin { a, b, .. } => {
                self.choices(a);
                self.choices(b);
            }
            Num::Load { place, .. } | Num::Walk { net: place, .. } => place
                .dynamic
                .into_iter()
                .for_each(|dynamic| self.choices(dynamic)),
            Num::Choose {
                num,
                value,
                same,
                other,
            } => {
                if num == self.num {
                    self.found(value);
                }
                [num, same, other]
                    .into_iter()
                    .for_each(|inside| self.choices(inside));
            }
        }
    }
}

/// More than this no check draws forward: it is beyond any packet, and the load itself will say so.
const MAX_NEEDED: u32 = 1 << 16;

/// What asking the view for a number costs, roughly in instructions.
fn field_cost(field: Field) -> u32 {
    match field {
        // The view has looked for the headers by then.
        Field::L2
        | Field::L2Len
        | Field::L3
        | Field::L3Len
        | Field::EtherType
        | Field::VlanTag
        | Field::Skb => 1,
        // A call of a helper, or a read of the skb.
        Field::Pid | Field::Comm { .. } | Field::Cgroup { .. } => KERNEL_READ,
        Field::PacketLen | Field::IfIndex => 2 * KERNEL_READ,
        Field::PacketType | Field::Netns => 3 * KERNEL_READ,
    }
}

/// What looking for a tunnel costs, roughly in instructions.
const INSIDE: u32 = 50;

/// The chance of what always holds.
const ALWAYS: u64 = 64;

/// What a read of kernel memory costs: a call of a helper, where there are no direct loads.
const KERNEL_READ: u32 = 40;
