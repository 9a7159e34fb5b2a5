//! Which virtual registers are live where, and what is dead.

use super::mir::{Mfunc, Mop, Param};
use crate::ir::Bits;

/// The registers that are live at the end of each block.
pub fn live_out(func: &Mfunc) -> Vec<Bits> {
    let cfg = func.cfg();
    let n = func.blocks.len();
    let mut uses = vec![Bits::none(func.vregs as usize); n];
    let mut defs = vec![Bits::none(func.vregs as usize); n];
    for (b, block) in func.blocks.iter().enumerate() {
        let (uses, defs) = (&mut uses[b], &mut defs[b]);
        for inst in &block.insts {
            inst.op.visit(|v, role| {
                if role.reads() && !defs.contains(v.index()) {
                    uses.insert(v.index());
                }
                if role.writes() {
                    defs.insert(v.index());
                }
            });
        }
        block.term.visit(|v| {
            if !defs.contains(v.index()) {
                uses.insert(v.index());
            }
        });
    }
    let mut live_in = uses;
    let mut live_out = vec![Bits::none(func.vregs as usize); n];
    let mut changed = true;
    while changed {
        changed = false;
        for &b in cfg.rpo.iter().rev() {
            let mut out = std::mem::replace(&mut live_out[b], Bits::none(0));
            let mut grew = false;
            for &s in &cfg.succs[b] {
                grew |= out.union(&live_in[s]);
            }
            if grew {
                changed = true;
                live_in[b].union_without(&out, &defs[b]);
            }
            live_out[b] = out;
        }
    }
    live_out
}

/// From what lives after an instruction to what lives before it.
pub fn before(op: &Mop, live: &mut Bits) {
    op.visit(|v, role| {
        if !role.reads() {
            live.remove(v.index());
        }
    });
    op.visit(|v, role| {
        if role.reads() {
            live.insert(v.index());
        }
    });
}

/// Remove instructions whose result nothing reads, and mark parameters that nothing reads.
pub fn remove_dead(func: &mut Mfunc) {
    loop {
        let out = live_out(func);
        let mut removed = false;
        let entry = func.entry.index();
        let mut at_entry = Bits::none(func.vregs as usize);
        for (b, block) in func.blocks.iter_mut().enumerate() {
            let mut live = out[b].clone();
            block.term.visit(|v| live.insert(v.index()));
            let mut kept = Vec::with_capacity(block.insts.len());
            for inst in block.insts.drain(..).rev() {
                let mut needed = !inst.op.is_pure();
                inst.op
                    .visit(|v, role| needed |= role.writes() && live.contains(v.index()));
                if !needed {
                    removed = true;
                    continue;
                }
                before(&inst.op, &mut live);
                kept.push(inst);
            }
            kept.reverse();
            block.insts = kept;
            if b == entry {
                at_entry = live;
            }
        }
        for param in &mut func.params {
            if matches!(param, Param::V(v) if !at_entry.contains(v.index())) {
                *param = Param::Unused;
            }
        }
        if !removed {
            return;
        }
    }
}
