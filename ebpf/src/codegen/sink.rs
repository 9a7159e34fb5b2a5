//! Sinking: what can be made anywhere ([`Mfunc::repeatable`]) is made where it is first used, so that paths that
//! don't use it don't pay for it, and it holds no register on the way.
//!
//! A front end loads the fields of one object together, so that they share a read; each field's load from the copy
//! then moves to where the field is wanted.

use std::collections::BTreeMap;

use super::mir::*;

/// Move instructions to the block that dominates all their uses, never into a loop.
pub fn sink(func: &mut Mfunc) {
    let cfg = func.cfg();
    let depths = cfg.loop_depths();
    let (writes, uses) = count(func);
    for x in cfg.rpo.clone() {
        let mut i = 0;
        while i < func.blocks[x].insts.len() {
            let inst = &func.blocks[x].insts[i];
            let mut dst = None;
            inst.op.visit(|v, role| dst = dst.or(role.writes().then_some(v)));
            let target = dst
                .filter(|v| func.repeatable(&inst.op) && writes[v.index()] == 1)
                .and_then(|v| uses.get(&v))
                .and_then(|blocks| {
                    let mut reachable = blocks.iter().copied().filter(|b| cfg.reachable(*b));
                    let first = reachable.next()?;
                    let mut to = reachable.fold(first, |a, b| cfg.common_dominator(a, b));
                    while depths[to] > depths[x] && to != x {
                        to = cfg.immediate_dominator(to);
                    }
                    (to != x && cfg.dominates(x, to)).then_some(to)
                });
            match (target, dst) {
                (Some(to), Some(dst)) => {
                    let inst = func.blocks[x].insts.remove(i);
                    let to = &mut func.blocks[to].insts;
                    let first_use = to.iter().position(|inst| {
                        let mut used = false;
                        inst.op.visit(|v, _| used |= v == dst);
                        used
                    });
                    to.insert(first_use.unwrap_or(to.len()), inst);
                }
                _ => i += 1,
            }
        }
    }
}

/// How often each register is written, and in which blocks it is read.
fn count(func: &Mfunc) -> (Vec<u32>, BTreeMap<V, Vec<usize>>) {
    let mut writes = vec![0; func.vregs as usize];
    let mut uses: BTreeMap<V, Vec<usize>> = BTreeMap::new();
    let mut read = |v: V, b: usize| {
        let blocks = uses.entry(v).or_default();
        if blocks.last() != Some(&b) {
            blocks.push(b);
        }
    };
    for (b, block) in func.blocks.iter().enumerate() {
        for inst in &block.insts {
            inst.op.visit(|v, role| {
                writes[v.index()] += u32::from(role.writes());
                if role.reads() {
                    read(v, b);
                }
            });
        }
        block.term.visit(|v| read(v, b));
    }
    for param in &func.params {
        if let Param::V(v) = param {
            writes[v.index()] += 1;
        }
    }
    (writes, uses)
}
