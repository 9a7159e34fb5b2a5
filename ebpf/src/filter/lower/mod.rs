//! The tree of tests to IR.
//!
//! One pass over the tree, which short-circuits into branches. A [`State`] says what is known where code is being
//! appended: numbers that are in registers, what earlier tests have found out about them, how many bytes are known to
//! be inside the packet. It is kept for each block that has been jumped to, as what all ways there agree on, so nothing
//! is loaded or tested twice on any way through the filter.
//!
//! The meaning to preserve is libpcap's: tests run from left to right, and a load outside of the packet ends the
//! filter with "no match" at once. Where "false" leads to the same place as that, tests may be reordered and bounds
//! checks drawn forward; elsewhere not.
//!
//! Two questions are asked first where they decide much, and what follows is compiled for each answer: which EtherType
//! the packet has, and whether its IPv4 header has no options (then everything behind it is at constant offsets).

mod chain;
mod facts;
mod kernel;
mod number;
mod plan;
mod walk;

use std::collections::HashMap;

use super::ast::{ArithOp, Relop};
use super::resolve::Resolved;
use super::tree::{Node, NumId, Nums, Window};
use super::view::{Field, View};
use crate::ir::{Block, Builder, Cond, Operand, Reg, Size, Slot, Span, Term, Width};
use facts::{Fact, State};
use plan::{List, Plan};

/// Compiling for each answer separately stops when a filter has become this many tests.
const SPLIT_BUDGET: usize = 400;

/// Where in its 8 bytes of stack a slot's 4 are. The kernel's verifier follows numbers through stores to multiples of 8
/// only: what comes from here may be anything to it, so that it checks what is inside of tunnels once, and not for
/// each way there, for which it would know the slots' values.
const SLOT_OFFSET: i32 = 4;

/// Append `filter` to `b`'s current block.
pub(super) fn lower(b: &mut Builder, filter: &Resolved, view: &mut dyn View, hit: Block, miss: Block) {
    let mut lower = Lower {
        b,
        view,
        nums: filter.nums.clone(),
        miss,
        state: State::default(),
        states: vec![],
        emitted: 0,
        slots: HashMap::new(),
        links: vec![],
        late: vec![],
    };
    // What this program never has needs no code.
    if filter.fields.contains(&Field::VlanTag) {
        match lower.view.field(lower.b, Field::VlanTag, miss) {
            Some(reg) => lower.state.set_field(Field::VlanTag, reg),
            None => lower.nums.fix_field(Field::VlanTag, 0),
        }
    }
    lower.node(&filter.root, hit, miss);
    lower.b.at(Span::NONE);
}

/// The current way through the filter has ended: nothing can be appended.
struct Ended;

struct Lower<'a> {
    b: &'a mut Builder,
    view: &'a mut dyn View,
    nums: Nums,
    /// Where to go when the whole filter doesn't match.
    miss: Block,
    /// What is known at the end of the current block.
    state: State,
    /// What is known at the start of blocks that have been jumped to and not been entered yet.
    states: Vec<(Block, State)>,
    /// Tests so far.
    emitted: usize,
    /// Where on the stack the numbers are that [`Node::Enter`] keeps.
    slots: HashMap<NumId, Slot>,
    /// The links of the tunnels that the code at hand is inside of.
    links: Vec<NumId>,
    /// Blocks that check, of the lists that the code at hand is inside of, that there are so many bytes from the network
    /// header on, and where they go on.
    late: Vec<(Block, u32, Block)>,
}

impl Lower<'_> {
    /// `node`, and then `yes` or `no`. Ends the current block.
    fn node(&mut self, node: &Node, yes: Block, no: Block) {
        match node {
            Node::And(nodes) => self.list(List::all(nodes.iter()), yes, no),
            Node::Or(nodes) => self.list(List::any(nodes.iter()), yes, no),
            Node::Not(inner) => self.node(inner, no, yes),
            leaf => self.list(List::all([leaf]), yes, no),
        }
    }

    /// A list, from left to right.
    fn list(&mut self, list: List<'_>, yes: Block, no: Block) {
        if self.decided(&list, yes, no) {
            return;
        }
        // Looking ahead takes time; in large filters the parts are looked at only.
        if list.tests() > SPLIT_BUDGET {
            return self.tests(list, yes, no);
        }
        if !list.has_inside() && self.split(&list, yes, no) {
            return;
        }
        let needed = self.needed(&list, Window::L2, yes, no);
        if self.check(Window::L2, needed).is_err() {
            return;
        }
        // Most packets are refused: where one way leads elsewhere only, the length is looked at there, at the end.
        let needed = self.needed(&list, Window::L3, yes, no);
        let one_way = (yes == self.miss) != (no == self.miss);
        if one_way && needed > self.state.proven(Window::L3) && self.view.reads_beyond() {
            self.state.prove(Window::L3, needed);
            let late = self.b.block();
            let (yes, no, on) = match no == self.miss {
                true => (late, no, yes),
                false => (yes, late, no),
            };
            self.late.push((late, needed, on));
            self.tests(list, yes, no);
            self.late.pop();
            if self.enter(late)
                && let Ok(len) = self.field(Field::L3Len)
            {
                self.b.branch_if(Cond::SLt, len, i64::from(needed), self.miss);
                self.state.check(needed);
                self.goto(on);
            }
        } else if self.check(Window::L3, needed).is_ok() {
            self.tests(list, yes, no);
        }
    }

    /// Where the way to `to` goes on: behind checks of what is known here.
    fn after_checks(&self, mut to: Block) -> Block {
        for &(late, needed, on) in self.late.iter().rev() {
            if late == to && needed <= self.state.checked() {
                to = on;
            }
        }
        to
    }

    /// The tests of a list, from left to right.
    fn tests(&mut self, mut list: List<'_>, yes: Block, no: Block) {
        let once = list.has_inside();
        let (stopped, through) = if list.stop { (yes, no) } else { (no, yes) };
        let plan = Plan::new(&self.nums, &self.state);
        list = plan.flat(&list);
        if stopped == self.miss {
            list.nodes.sort_by_cached_key(|node| plan.worth(node, list.stop));
        }
        for (i, node) in list.nodes.iter().enumerate() {
            match Plan::new(&self.nums, &self.state).known(node) {
                Some(outcome) if outcome == list.stop => return self.goto(stopped),
                Some(_) => continue,
                None => {}
            }
            if !once && self.split_header_length(&list.from(i), yes, no) {
                return;
            }
            if i + 1 == list.nodes.len() {
                return self.one(node, yes, no);
            }
            let next = self.b.block();
            match list.stop {
                true => self.one(node, yes, next),
                false => self.one(node, next, no),
            }
            if !self.enter(next) {
                return;
            }
        }
        self.goto(through);
    }

    /// One element of a list.
    fn one(&mut self, node: &Node, yes: Block, no: Block) {
        match node {
            Node::And(_) | Node::Or(_) | Node::Not(_) => self.node(node, yes, no),
            Node::Inside {
                ways,
                slots,
                link,
                inside,
            } => {
                for slot in slots {
                    let memory = self.b.slot(8, 8);
                    self.slots.insert(*slot, memory);
                }
                let entered = self.b.block();
                self.node(ways, entered, no);
                if self.enter(entered) {
                    self.links.push(*link);
                    self.node(inside, yes, no);
                    self.links.pop();
                }
            }
            leaf => {
                self.emitted += 1;
                // `Err`: the way has ended already, in a jump of its own.
                let _ = self.leaf(leaf, yes, no);
            }
        }
    }

    fn leaf(&mut self, leaf: &Node, yes: Block, no: Block) -> Result<(), Ended> {
        match leaf {
            Node::Const(value) => self.goto(if *value { yes } else { no }),
            Node::Test { op, a, b, span } => {
                self.b.at(ir_span(span));
                self.test(*op, *a, *b, yes, no)?;
            }
            Node::In { a, values, span } => {
                self.b.at(ir_span(span));
                let a = self.specialise(*a);
                let reg = self.register(a)?;
                for value in values {
                    self.branch(
                        Cond::Eq,
                        reg,
                        *value,
                        yes,
                        None,
                        (a, Some(Fact::Is(*value))),
                        (a, Some(Fact::Not(*value))),
                    );
                }
                self.goto(no);
            }
            Node::Has(field) => {
                if self.state.field(*field).is_none() {
                    let before = self.state.clone();
                    match self.view.field(self.b, *field, no) {
                        Some(reg) => {
                            self.note(no, before);
                            self.state.set_field(*field, reg);
                        }
                        None => {
                            self.goto(no);
                            return Err(Ended);
                        }
                    }
                }
                self.goto(yes);
            }
            Node::NotNull(pointer) => self.not_null(*pointer, yes, no)?,
            Node::Chain {
                v6,
                net,
                wanted,
                span,
            } => {
                self.b.at(ir_span(span));
                self.chain(*v6, *net, *wanted, yes, no)?;
            }
            Node::Enter(values) => {
                for (slot, value) in values {
                    let value = self.register(*value)?;
                    let memory = self.b.slot_addr(self.slots[slot]);
                    self.b.store(memory, SLOT_OFFSET, value, Size::B4);
                }
                self.goto(yes);
            }
            Node::And(_) | Node::Or(_) | Node::Not(_) | Node::Inside { .. } => self.one(leaf, yes, no),
        }
        Ok(())
    }

    /// `a op b`.
    fn test(&mut self, op: Relop, a: NumId, b: NumId, yes: Block, no: Block) -> Result<(), Ended> {
        let (a, b) = (self.specialise(a), self.specialise(b));
        // A constant stands right.
        let (op, a, b) = match self.nums.as_const(a) {
            Some(_) => (mirrored(op), b, a),
            None => (op, a, b),
        };
        let value = match (self.nums.as_const(a), self.nums.as_const(b)) {
            (Some(x), Some(y)) => {
                self.goto(if super::tree::holds(op, x, y) { yes } else { no });
                return Ok(());
            }
            (None, Some(value)) => value,
            _ => {
                let x = self.register(a)?;
                let y = self.register(b)?;
                self.terminate(condition(op), x, Operand::Reg(y), yes, no, None, None);
                return Ok(());
            }
        };
        let (is, is_not) = (Some((a, Fact::Is(value))), Some((a, Fact::Not(value))));
        let (then, otherwise) = match op {
            Relop::Eq => (is, is_not),
            Relop::Ne => (is_not, is),
            _ => (None, None),
        };
        if let Relop::Eq | Relop::Ne = op
            && let Some((reg, mask, value)) = self.as_in_memory(a, value)?
        {
            match (mask, value) {
                (None, value) => self.terminate(condition(op), reg, imm(value), yes, no, then, otherwise),
                (Some(mask), 0) => {
                    let (yes, no, then, otherwise) = match op {
                        Relop::Ne => (yes, no, then, otherwise),
                        _ => (no, yes, otherwise, then),
                    };
                    self.terminate(Cond::Test, reg, imm(mask), yes, no, then, otherwise);
                }
                (Some(mask), value) => {
                    let masked = self.b.bin(crate::ir::BinOp::And, Width::W32, reg, imm(mask));
                    self.terminate(condition(op), masked, imm(value), yes, no, then, otherwise);
                }
            }
            return Ok(());
        }
        let x = self.register(a)?;
        self.terminate(condition(op), x, imm(value), yes, no, then, otherwise);
        Ok(())
    }

    /// End the current block with a 32-bit comparison, and note what is known on either way.
    #[allow(clippy::too_many_arguments)] // a branch has that many parts
    fn terminate(
        &mut self,
        cond: Cond,
        a: Reg,
        b: Operand,
        yes: Block,
        no: Block,
        then: Option<(NumId, Fact)>,
        otherwise: Option<(NumId, Fact)>,
    ) {
        let [yes, no] = [yes, no].map(|to| self.after_checks(to));
        self.b.terminate(Term::Branch {
            cond,
            width: Width::W32,
            a,
            b,
            then: yes,
            otherwise: no,
        });
        for (block, fact) in [(yes, then), (no, otherwise)] {
            let mut state = self.state.clone();
            if let Some((num, fact)) = fact {
                state.learn(num, fact);
            }
            self.note(block, state);
        }
    }

    /// `if (a cond value) goto yes`, and go on at `no` or in a new block.
    #[allow(clippy::too_many_arguments)] // a branch has that many parts
    fn branch(
        &mut self,
        cond: Cond,
        a: Reg,
        value: u32,
        yes: Block,
        no: Option<Block>,
        then: (NumId, Option<Fact>),
        otherwise: (NumId, Option<Fact>),
    ) {
        let next = no.unwrap_or_else(|| self.b.block());
        let then = then.1.map(|fact| (then.0, fact));
        let otherwise = otherwise.1.map(|fact| (otherwise.0, fact));
        self.terminate(cond, a, imm(value), yes, next, then, otherwise);
        self.enter(next);
    }

    fn goto(&mut self, block: Block) {
        let block = self.after_checks(block);
        self.b.jump(block);
        let state = self.state.clone();
        self.note(block, state);
    }

    /// Control may come to `block` with `state`.
    fn note(&mut self, block: Block, state: State) {
        match self.states.iter_mut().rev().find(|(known, _)| *known == block) {
            Some((_, known)) => known.meet(&state),
            None => self.states.push((block, state)),
        }
    }

    /// Go on in `block`; false if nothing jumps there.
    fn enter(&mut self, block: Block) -> bool {
        self.b.switch_to(block);
        match self.states.iter().rposition(|(known, _)| *known == block) {
            Some(at) => {
                self.state = self.states.swap_remove(at).1;
                true
            }
            None => {
                self.b.jump(self.miss);
                false
            }
        }
    }

    /// If the outcome is known and can't be told from "the whole filter doesn't match", go there.
    fn decided(&mut self, list: &List<'_>, yes: Block, no: Block) -> bool {
        let outcome = Plan::new(&self.nums, &self.state).outcome_of(list);
        match outcome {
            Some(false) if no == self.miss => self.goto(no),
            Some(true) if yes == self.miss => self.goto(yes),
            _ => return false,
        }
        true
    }

    /// Bytes of `window` without which `list` can't lead anywhere but to "the whole filter doesn't match".
    fn needed(&self, list: &List<'_>, window: Window, yes: Block, no: Block) -> u32 {
        let plan = Plan::new(&self.nums, &self.state);
        plan.needed(list, window, yes == self.miss, no == self.miss)
    }

    /// Ask for what decides much first. False: nothing does.
    fn split(&mut self, list: &List<'_>, yes: Block, no: Block) -> bool {
        let outer = [Field::VlanTag, Field::EtherType].map(|field| self.nums.field(field));
        let candidates = outer.into_iter().chain(self.links.last().copied());
        candidates
            .collect::<Vec<_>>()
            .into_iter()
            .any(|num| self.split_by(num, list, yes, no))
    }

    /// Ask for `num` first, and compile `list` for each value that they speak of. False: it's not worth it.
    fn split_by(&mut self, num: NumId, list: &List<'_>, yes: Block, no: Block) -> bool {
        let plan = Plan::new(&self.nums, &self.state);
        let tests = list.tests();
        let values: Vec<u32> = plan
            .compared_with(list, num)
            .into_iter()
            .filter(|value| !self.state.excludes(num, *value))
            .collect();
        let surely = plan.surely_asked(list, num, yes == self.miss, no == self.miss);
        if values.is_empty()
            || self.state.value(num).is_some()
            || !surely
            || self.emitted + tests * (values.len() + 1) > SPLIT_BUDGET
        {
            return false;
        }
        let outcome_if = |facts: &[Fact]| {
            let mut state = self.state.clone();
            for fact in facts {
                state.learn(num, *fact);
            }
            Plan::new(&self.nums, &state).outcome_of(list)
        };
        // What can't match anyway needs no code of its own.
        let matches = |facts: &[Fact]| no != self.miss || outcome_if(facts) != Some(false);
        let any_other = matches(&values.iter().map(|value| Fact::Not(*value)).collect::<Vec<_>>());
        let cases: Vec<(u32, bool)> = values
            .iter()
            .map(|value| (*value, matches(&[Fact::Is(*value)])))
            .collect();
        if !cases.iter().any(|(_, matches)| *matches) {
            return false;
        }
        let Ok(reg) = self.register(num) else { return true };
        let mut blocks = vec![];
        for (value, matches) in cases {
            let block = match matches {
                true => self.b.block(),
                false if any_other => self.miss,
                false => continue,
            };
            let (is, is_not) = ((num, Some(Fact::Is(value))), (num, Some(Fact::Not(value))));
            self.branch(Cond::Eq, reg, value, block, None, is, is_not);
            if matches {
                blocks.push(block);
            }
        }
        match any_other {
            true => self.list(list.clone(), yes, no),
            false => self.goto(no),
        }
        for block in blocks {
            self.enter(block);
            self.list(list.clone(), yes, no);
        }
        true
    }

    /// If the first of `list` loads behind an IPv4 header, ask whether that has options, and compile `list` for both
    /// answers. False: it doesn't, or it's not worth it.
    fn split_header_length(&mut self, list: &List<'_>, yes: Block, no: Block) -> bool {
        let plan = Plan::new(&self.nums, &self.state);
        let Some(words) = plan.first_header_length(list.nodes[0]) else {
            return false;
        };
        let tests = list.tests();
        if self.state.excludes(words, 5) || self.emitted + tests * 2 > SPLIT_BUDGET {
            return false;
        }
        let Ok(reg) = self.register(words) else {
            return true;
        };
        let (plain, options) = (self.b.block(), self.b.block());
        self.branch(
            Cond::Eq,
            reg,
            5,
            plain,
            Some(options),
            (words, Some(Fact::Is(5))),
            (words, Some(Fact::Not(5))),
        );
        self.list(list.clone(), yes, no);
        self.enter(plain);
        self.list(list.clone(), yes, no);
        true
    }
}

/// `b op' a` for `a op b`.
fn mirrored(op: Relop) -> Relop {
    match op {
        Relop::Lt => Relop::Gt,
        Relop::Le => Relop::Ge,
        Relop::Gt => Relop::Lt,
        Relop::Ge => Relop::Le,
        same => same,
    }
}

fn condition(op: Relop) -> Cond {
    match op {
        Relop::Eq => Cond::Eq,
        Relop::Ne => Cond::Ne,
        Relop::Lt => Cond::Lt,
        Relop::Le => Cond::Le,
        Relop::Gt => Cond::Gt,
        Relop::Ge => Cond::Ge,
    }
}

fn bin_op(op: ArithOp) -> crate::ir::BinOp {
    use crate::ir::BinOp;
    match op {
        ArithOp::Add => BinOp::Add,
        ArithOp::Sub => BinOp::Sub,
        ArithOp::Mul => BinOp::Mul,
        ArithOp::Div => BinOp::Div,
        ArithOp::Mod => BinOp::Mod,
        ArithOp::And => BinOp::And,
        ArithOp::Or => BinOp::Or,
        ArithOp::Xor => BinOp::Xor,
        ArithOp::Shl => BinOp::Shl,
        ArithOp::Shr => BinOp::Shr,
    }
}

/// A 32-bit constant for a 32-bit operation: as an instruction's immediate has it.
fn imm(value: u32) -> Operand {
    Operand::Imm(i64::from(value as i32))
}

fn ir_span(span: &std::ops::Range<usize>) -> Span {
    Span {
        start: span.start as u32,
        end: span.end as u32,
    }
}
