//! Kernel loads move to where their result is first used, so that ways that don't use it don't pay for it. Only where
//! each is a load of its own; where many share a call of a helper, they stay together ([`super::loads`]), and
//! [`super::sink`] moves the loads from its copy.
//!
//! A front end loads the fields of one object together and need not know which it is.
//!
//! Deliberately absent: moves into loops, and of loads from registers that are written more than once.

use std::collections::BTreeMap;

use super::wide;
use crate::ir::{Cfg, Function, Op, Reg, Size, Term, Type};

/// At most so many copies of a load are made, for ways that part.
const COPIES: usize = 8;

/// Move the loads of `func`.
pub fn delay(func: &mut Function) {
    let cfg = func.cfg();
    let depths = cfg.loop_depths();
    let writes = func.count_writes();
    let uses = uses(func, &cfg);
    for x in cfg.rpo.clone() {
        let targets: Vec<Vec<usize>> = func.blocks[x]
            .insts
            .iter()
            .map(|inst| {
                let (dst, base, ..) = load(func, &inst.op)?;
                let used = uses.get(&dst)?;
                let once = writes[dst.0 as usize] == 1 && writes[base.0 as usize] == 1;
                let common = used[1..].iter().fold(used[0], |a, &b| cfg.common_dominator(a, b));
                let first = |&b: &usize| !used.iter().any(|&a| a != b && cfg.dominates(a, b));
                [vec![common], used.iter().copied().filter(first).collect()]
                    .into_iter()
                    .find(|to: &Vec<usize>| {
                        let fits = |&to: &usize| {
                            to != x
                                && cfg.dominates(x, to)
                                && depths[to] <= depths[x]
                                && avoidable(func, &cfg, x, to)
                        };
                        once && to.len() <= COPIES && to.iter().all(fits)
                    })
            })
            .map(Option::unwrap_or_default)
            .collect();
        let moves: Vec<usize> = (0..targets.len())
            .filter(|&i| !targets[i].is_empty() && !accompanies(func, x, &targets, i))
            .collect();
        for i in moves.into_iter().rev() {
            let inst = func.blocks[x].insts.remove(i);
            for &to in &targets[i] {
                let to = &mut func.blocks[to].insts;
                let first_use = to.iter().position(|other| {
                    let mut used = false;
                    other.op.uses(|r| used |= Some(r) == inst.op.dst());
                    used
                });
                to.insert(first_use.unwrap_or(to.len()), inst.clone());
            }
        }
    }
}

/// Load `i` of block `x` can come along with one that stays, for little.
fn accompanies(func: &Function, x: usize, targets: &[Vec<usize>], i: usize) -> bool {
    let insts = &func.blocks[x].insts;
    let Some((_, base, off, size)) = load(func, &insts[i].op) else {
        return false;
    };
    let staying: Vec<(i32, Size)> = insts
        .iter()
        .zip(targets)
        .filter(|(_, targets)| targets.is_empty())
        .filter_map(|(inst, _)| load(func, &inst.op))
        .filter(|&(_, from, ..)| from == base)
        .map(|(_, _, off, size)| (off, size))
        .collect();
    let (wides, shared) = wide::plan(&staying, i32::MAX);
    let alone = staying.iter().zip(&shared).filter(|(_, shared)| shared.is_none());
    let together = wides.iter().map(|wide| (wide.off, wide.size));
    alone.map(|(&field, _)| field).chain(together).any(|field| {
        let (wides, _) = wide::plan(&[field, (off, size)], i32::MAX);
        !wides.is_empty()
    })
}

/// A load that may move: what it writes, and from where.
fn load(func: &Function, op: &Op) -> Option<(Reg, Reg, i32, Size)> {
    match *op {
        Op::KernelLoad {
            dst, base, off, size, ..
        } if func.type_of(base) == (Type::Kernel { direct: false }) => Some((dst, base, off, size)),
        _ => None,
    }
}

/// There is a way from `from` to the function's end around `to`.
fn avoidable(func: &Function, cfg: &Cfg, from: usize, to: usize) -> bool {
    let mut seen = vec![false; func.blocks.len()];
    let mut work = vec![from];
    while let Some(block) = work.pop() {
        if block == to || std::mem::replace(&mut seen[block], true) {
            continue;
        }
        if matches!(func.blocks[block].term, Some(Term::Return(_))) {
            return true;
        }
        work.extend(&cfg.succs[block]);
    }
    false
}

/// The reachable blocks that read each register.
fn uses(func: &Function, cfg: &Cfg) -> BTreeMap<Reg, Vec<usize>> {
    let mut uses: BTreeMap<Reg, Vec<usize>> = BTreeMap::new();
    for &b in &cfg.rpo {
        let mut read = |reg: Reg| {
            let blocks = uses.entry(reg).or_default();
            if blocks.last() != Some(&b) {
                blocks.push(b);
            }
        };
        for inst in &func.blocks[b].insts {
            inst.op.uses(&mut read);
        }
        if let Some(term) = &func.blocks[b].term {
            term.uses(&mut read);
        }
    }
    uses
}
