//! Functions that are to use no register that calls preserve ([`crate::ir::Function::lean`]): what lives over a call is
//! kept in the frame meanwhile.
//!
//! A register is stored in the block of a call where it has changed since it was last stored, and loaded where it is wanted
//! next. Where ways meet on one of which it is still there, it is loaded at the end of the others. So a way without calls
//! pays for nothing, whatever others do.
//!
//! Deliberately absent: anything for registers that live over no call.

use std::collections::BTreeMap;

use super::liveness::{before, live_out};
use super::mir::*;
use crate::ir::{Bits, Cfg, Size, Span};

/// Let no register of `func` live over a call.
pub fn save(func: &mut Mfunc) {
    let n = func.vregs as usize;
    let Lives {
        crossing,
        at_start,
        beside,
    } = lives(func);
    let mut all = Bits::none(n);
    for set in crossing.iter().flatten() {
        all.union(set);
    }
    let slots = slots(func, &all, &beside);
    let cfg = func.cfg();
    let held = held(func, &cfg, n);
    let stored = stored(func, &cfg, &crossing, &all);
    let mut added = vec![];
    for &b in &cfg.rpo {
        let mut saver = Saver {
            slots: &slots,
            held: held[b].clone(),
            stored: stored[b].clone(),
            written: BTreeMap::new(),
            stores: vec![],
            out: vec![],
            span: Span::NONE,
        };
        let mut calls = crossing[b].iter();
        for inst in std::mem::take(&mut func.blocks[b].insts) {
            saver.instruction(inst, &mut calls);
        }
        saver.span = func.blocks[b].term_span;
        func.blocks[b].term.visit(|v| saver.want(v));
        for to in cfg.succs[b].clone() {
            let wanted =
                |v: &usize| at_start[to].contains(*v) && held[to].contains(*v) && !saver.held.contains(*v);
            let wanted: Vec<usize> = all.iter().filter(wanted).collect();
            if wanted.is_empty() {
                continue;
            }
            if cfg.succs[b].len() == 1 {
                wanted.iter().for_each(|&v| saver.want(V(v as u32)));
                continue;
            }
            let mut edge = Saver {
                out: vec![],
                ..saver.clone()
            };
            wanted.iter().for_each(|&v| edge.want(V(v as u32)));
            let number = B((func.blocks.len() + added.len()) as u32);
            added.push(Mblock {
                insts: edge.out,
                term: Mterm::Jump(B(to as u32)),
                term_span: saver.span,
            });
            func.blocks[b].term.redirect(B(to as u32), number);
        }
        func.blocks[b].insts = saver.finish();
    }
    func.blocks.extend(added);
}

/// What lives in a function.
struct Lives {
    /// Over each call, by block.
    crossing: Vec<Vec<Bits>>,
    /// At the beginning of each block.
    at_start: Vec<Bits>,
    /// At the same time as each register.
    beside: Vec<Bits>,
}

fn lives(func: &Mfunc) -> Lives {
    let n = func.vregs as usize;
    let mut beside = vec![Bits::none(n); n];
    let mut meet = |v: usize, live: &Bits| {
        for other in live.iter().filter(|&other| other != v) {
            beside[v].insert(other);
            beside[other].insert(v);
        }
    };
    let mut at_start = live_out(func);
    let mut crossing = vec![];
    for (block, live) in func.blocks.iter().zip(&mut at_start) {
        let mut calls = vec![];
        block.term.visit(|v| live.insert(v.index()));
        for inst in block.insts.iter().rev() {
            let mut over = live.clone();
            inst.op.visit(|v, role| {
                if role.writes() {
                    meet(v.index(), live);
                    over.remove(v.index());
                }
            });
            if let Mop::Call { .. } = inst.op {
                calls.push(over);
            }
            before(&inst.op, live);
        }
        calls.reverse();
        crossing.push(calls);
    }
    let parameters = &at_start[func.entry.index()];
    parameters.iter().for_each(|v| meet(v, parameters));
    Lives {
        crossing,
        at_start,
        beside,
    }
}

/// A slot for each of `all`; those that don't live at the same time share them.
fn slots(func: &mut Mfunc, all: &Bits, beside: &[Bits]) -> Vec<Option<Frame>> {
    let mut slots: Vec<Option<Frame>> = vec![None; beside.len()];
    let mut frames: Vec<Frame> = vec![];
    for v in all.iter() {
        let free = |frame: &&Frame| !beside[v].iter().any(|other| slots[other] == Some(**frame));
        let frame = match frames.iter().find(free) {
            Some(frame) => *frame,
            None => {
                let frame = func.frame(8, 8);
                frames.push(frame);
                frame
            }
        };
        slots[v] = Some(frame);
    }
    slots
}

/// What is in its register at the beginning of each block, on some way at least.
fn held(func: &Mfunc, cfg: &Cfg, n: usize) -> Vec<Bits> {
    let mut held = vec![Bits::none(n); func.blocks.len()];
    for param in &func.params {
        if let Param::V(v) = param {
            held[func.entry.index()].insert(v.index());
        }
    }
    let mut changed = true;
    while changed {
        changed = false;
        for &b in &cfg.rpo {
            let mut set = held[b].clone();
            for inst in &func.blocks[b].insts {
                if let Mop::Call { .. } = inst.op {
                    set = Bits::none(n);
                    inst.op.visit(|v, role| {
                        if role.writes() {
                            set.insert(v.index());
                        }
                    });
                } else {
                    inst.op.visit(|v, _| set.insert(v.index()));
                }
            }
            func.blocks[b].term.visit(|v| set.insert(v.index()));
            for &to in &cfg.succs[b] {
                changed |= held[to].union(&set);
            }
        }
    }
    held
}

/// What is in its slot at the beginning of each block, on all ways.
fn stored(func: &Mfunc, cfg: &Cfg, crossing: &[Vec<Bits>], all: &Bits) -> Vec<Bits> {
    let n = func.vregs as usize;
    let mut stored = vec![all.clone(); func.blocks.len()];
    stored[func.entry.index()] = Bits::none(n);
    let mut changed = true;
    while changed {
        changed = false;
        for &b in &cfg.rpo {
            let mut set = stored[b].clone();
            let mut calls = crossing[b].iter();
            for inst in &func.blocks[b].insts {
                if let Mop::Call { .. } = inst.op
                    && let Some(live) = calls.next()
                {
                    set.union(live);
                }
                inst.op.visit(|v, role| {
                    if role.writes() {
                        set.remove(v.index());
                    }
                });
            }
            for &to in &cfg.succs[b] {
                changed |= stored[to].intersect(&set);
            }
        }
    }
    stored
}

/// Rewrites a block.
#[derive(Clone)]
struct Saver<'a> {
    slots: &'a [Option<Frame>],
    /// What is in its register now, and what in its slot: what lives is in one of them.
    held: Bits,
    stored: Bits,
    /// Where in `out` registers have got their values, if not before this block.
    written: BTreeMap<usize, usize>,
    /// Stores to be added to `out`, in front of the instruction of that number: as early as can be, so that registers
    /// are free for the call's arguments.
    stores: Vec<(usize, Minst)>,
    out: Vec<Minst>,
    span: Span,
}

impl Saver<'_> {
    fn push(&mut self, op: Mop) {
        self.out.push(Minst { op, span: self.span });
    }

    /// `v` is wanted in its register.
    fn want(&mut self, v: V) {
        if let Some(frame) = self.slots[v.index()]
            && !self.held.contains(v.index())
        {
            self.push(Mop::Load {
                dst: v,
                base: Base::Frame(frame),
                off: 0,
                size: Size::B8,
                signed: false,
            });
        }
        self.held.insert(v.index());
    }

    fn instruction<'b>(&mut self, inst: Minst, calls: &mut impl Iterator<Item = &'b Bits>) {
        self.span = inst.span;
        inst.op.visit(|v, role| {
            if role.reads() {
                self.want(v);
            }
        });
        if let Mop::Call { .. } = inst.op {
            for v in calls.next().into_iter().flat_map(Bits::iter) {
                if let Some(frame) = self.slots[v]
                    && !self.stored.contains(v)
                {
                    let op = Mop::Store {
                        base: Base::Frame(frame),
                        off: 0,
                        src: Src::V(V(v as u32)),
                        size: Size::B8,
                    };
                    let at = self.written.get(&v).copied().unwrap_or(0);
                    self.stores.push((at, Minst { op, span: self.span }));
                    self.stored.insert(v);
                }
                self.held.remove(v);
            }
        }
        inst.op.visit(|v, role| {
            if role.writes() {
                self.held.insert(v.index());
                self.stored.remove(v.index());
                self.written.insert(v.index(), self.out.len() + 1);
            }
        });
        self.out.push(inst);
    }

    fn finish(mut self) -> Vec<Minst> {
        self.stores.sort_by_key(|(at, _)| *at);
        for (at, store) in self.stores.into_iter().rev() {
            self.out.insert(at, store);
        }
        self.out
    }
}
