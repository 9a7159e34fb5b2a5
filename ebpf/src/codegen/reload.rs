//! Loads of spilled registers that are still in the register where they are wanted go: a register is stored where it
//! is written, and often read right after that.
//!
//! Deliberately absent: moves from another register that has it. To the kernel's verifier such copies of a number are one
//! number, with the consequences that [`Mop::Copy`] tells; a load costs no more.

use std::collections::BTreeMap;

use super::mir::*;
use crate::ir::Size;

/// Which machine register holds what is in a spill's slot.
type Known = BTreeMap<Frame, V>;

/// Remove loads from the frames of `func` from number `spills` on, which are 8-byte slots of spilled registers.
/// Registers are machine registers.
pub fn reload(func: &mut Mfunc, spills: usize) {
    let cfg = func.cfg();
    let spilled = |frame: Frame| frame.0 as usize >= spills;
    let mut at_end: Vec<Option<Known>> = vec![None; func.blocks.len()];
    for &b in &cfg.rpo {
        let mut known = match cfg.preds[b].as_slice() {
            _ if b == func.entry.index() => parameters(&func.params),
            [only] => at_end[*only].clone().unwrap_or_default(),
            _ => Known::new(),
        };
        func.blocks[b]
            .insts
            .retain_mut(|inst| keep(&mut inst.op, &mut known, spilled));
        if let Mterm::Return(Arg::Spilled(frame)) = func.blocks[b].term
            && known.get(&frame) == Some(&V(0))
        {
            func.blocks[b].term = Mterm::Return(Arg::V(V(0)));
        }
        at_end[b] = Some(known);
    }
}

/// Spilled parameters are still in their registers, unless others are moved about.
fn parameters(params: &[Param]) -> Known {
    let in_place = |(param, from): (&Param, u32)| !matches!(param, Param::V(v) if *v != V(from));
    if !params.iter().zip(1..).all(in_place) {
        return Known::new();
    }
    let held = |(param, from): (&Param, u32)| match param {
        Param::Spilled(frame) => Some((*frame, V(from))),
        _ => None,
    };
    params.iter().zip(1..).filter_map(held).collect()
}

/// Note what an instruction does; false if it does nothing.
fn keep(op: &mut Mop, known: &mut Known, spilled: impl Fn(Frame) -> bool) -> bool {
    match op {
        Mop::Load {
            dst,
            base: Base::Frame(frame),
            ..
        } if spilled(*frame) => {
            if known.get(frame) == Some(dst) {
                return false;
            }
            forget(known, *dst);
            known.entry(*frame).or_insert(*dst);
            return true;
        }
        Mop::Store {
            base: Base::Frame(frame),
            src,
            size: Size::B8,
            ..
        } if spilled(*frame) => {
            match src {
                Src::V(v) => known.insert(*frame, *v),
                Src::Imm(_) => known.remove(frame),
            };
            return true;
        }
        Mop::Call { args, .. } => {
            for (arg, to) in args.iter_mut().zip(1..) {
                if let Arg::Spilled(frame) = *arg
                    && known.get(&frame) == Some(&V(to))
                {
                    *arg = Arg::V(V(to));
                }
            }
            for clobbered in 0..=5 {
                forget(known, V(clobbered));
            }
        }
        _ => {}
    }
    op.visit(|v, role| {
        if role.writes() {
            forget(known, v);
        }
    });
    true
}

fn forget(known: &mut Known, register: V) {
    known.retain(|_, held| *held != register);
}
