//! Which virtual registers are live where, and what is dead.

use super::mir::{Mfunc, Param, V};

/// A set of virtual registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set(Vec<u64>);

impl Set {
    pub fn new(n: u32) -> Set {
        Set(vec![0; n.div_ceil(64) as usize])
    }
    pub fn insert(&mut self, v: V) {
        self.0[v.index() / 64] |= 1 << (v.index() % 64);
    }
    pub fn remove(&mut self, v: V) {
        self.0[v.index() / 64] &= !(1 << (v.index() % 64));
    }
    pub fn contains(&self, v: V) -> bool {
        self.0[v.index() / 64] & 1 << (v.index() % 64) != 0
    }
    /// Add all of `other`; true if that changed anything.
    pub fn union(&mut self, other: &Set) -> bool {
        let mut changed = false;
        for (a, b) in self.0.iter_mut().zip(&other.0) {
            changed |= *b & !*a != 0;
            *a |= *b;
        }
        changed
    }
    /// In order of number.
    pub fn iter(&self) -> impl Iterator<Item = V> + '_ {
        self.0.iter().enumerate().flat_map(|(i, &word)| {
            std::iter::successors(Some(word), |w| Some(w & w.wrapping_sub(1)))
                .take_while(|w| *w != 0)
                .map(move |w| V((i * 64) as u32 + w.trailing_zeros()))
        })
    }
}

/// The registers that are live at the end of each block.
pub fn live_out(func: &Mfunc) -> Vec<Set> {
    let cfg = func.cfg();
    let n = func.blocks.len();
    let mut uses = vec![Set::new(func.vregs); n];
    let mut defs = vec![Set::new(func.vregs); n];
    for (b, block) in func.blocks.iter().enumerate() {
        let (uses, defs) = (&mut uses[b], &mut defs[b]);
        for inst in &block.insts {
            inst.op.visit(|v, role| {
                if role.reads() && !defs.contains(v) {
                    uses.insert(v);
                }
                if role.writes() {
                    defs.insert(v);
                }
            });
        }
        block.term.visit(|v| {
            if !defs.contains(v) {
                uses.insert(v);
            }
        });
    }
    let mut live_in = uses;
    let mut live_out = vec![Set::new(func.vregs); n];
    let mut changed = true;
    while changed {
        changed = false;
        for &b in cfg.rpo.iter().rev() {
            let mut out = std::mem::replace(&mut live_out[b], Set(vec![]));
            let mut grew = false;
            for &s in &cfg.succs[b] {
                grew |= out.union(&live_in[s]);
            }
            if grew {
                changed = true;
                let input = &mut live_in[b];
                for (i, (o, d)) in out.0.iter().zip(&defs[b].0).enumerate() {
                    input.0[i] |= o & !d;
                }
            }
            live_out[b] = out;
        }
    }
    live_out
}

/// Remove instructions whose result nothing reads, and mark parameters that nothing reads.
pub fn remove_dead(func: &mut Mfunc) {
    loop {
        let out = live_out(func);
        let mut removed = false;
        let entry = func.entry.index();
        let mut at_entry = Set::new(func.vregs);
        for (b, block) in func.blocks.iter_mut().enumerate() {
            let mut live = out[b].clone();
            block.term.visit(|v| live.insert(v));
            let mut kept = Vec::with_capacity(block.insts.len());
            for inst in block.insts.drain(..).rev() {
                let mut needed = !inst.op.is_pure();
                inst.op
                    .visit(|v, role| needed |= role.writes() && live.contains(v));
                if !needed {
                    removed = true;
                    continue;
                }
                inst.op.visit(|v, role| {
                    if !role.reads() {
                        live.remove(v);
                    }
                });
                inst.op.visit(|v, role| {
                    if role.reads() {
                        live.insert(v);
                    }
                });
                kept.push(inst);
            }
            kept.reverse();
            block.insts = kept;
            if b == entry {
                at_entry = live;
            }
        }
        for param in &mut func.params {
            if matches!(param, Param::V(v) if !at_entry.contains(*v)) {
                *param = Param::Unused;
            }
        }
        if !removed {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_counts_in_order() {
        let mut set = Set::new(200);
        for i in [0, 63, 64, 199] {
            set.insert(V(i));
        }
        set.remove(V(63));
        assert_eq!(set.iter().map(|v| v.0).collect::<Vec<_>>(), [0, 64, 199]);
        assert!(set.contains(V(64)) && !set.contains(V(63)));
    }
}
