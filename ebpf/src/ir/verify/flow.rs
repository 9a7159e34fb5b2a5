//! What holds on every path: registers are written before they are read, ring records end once.

use super::*;
use crate::isa::Helper;

pub fn check(c: &mut Checker<'_>) {
    assignment(c);
    if c.errors.is_empty() {
        records(c);
    }
}

/// Forward analysis: the registers that are written on every path to each block.
fn assignment(c: &mut Checker<'_>) {
    let n = c.func.regs.len();
    let mut at_start = Bits::none(n);
    for param in &c.func.params {
        at_start.insert(param.0 as usize);
    }
    // `None`: no path seen yet.
    let mut entry: Vec<Option<Bits>> = vec![None; c.func.blocks.len()];
    entry[0] = Some(at_start);
    let mut changed = true;
    while changed {
        changed = false;
        for &b in &c.cfg.rpo {
            let Some(mut state) = entry[b].clone() else {
                continue;
            };
            let block = &c.func.blocks[b];
            // A used-up loop bound leaves before anything of the block runs.
            if let Some(bound) = block.bound {
                changed |= meet(&mut entry[bound.exhausted.0 as usize], &state);
            }
            for inst in &block.insts {
                if let Some(dst) = inst.op.dst() {
                    state.insert(dst.0 as usize);
                }
            }
            for to in block.term.iter().flat_map(Term::successors) {
                let mut state = state.clone();
                if let Some(Term::NullCheck { dst, some, .. }) = block.term
                    && some.0 as usize == to
                {
                    state.insert(dst.0 as usize);
                }
                changed |= meet(&mut entry[to], &state);
            }
        }
    }
    for b in c.cfg.rpo.clone() {
        let Some(mut state) = entry[b].clone() else {
            continue;
        };
        let block = &c.func.blocks[b];
        for (i, inst) in block.insts.iter().enumerate() {
            c.at = (b, i);
            let mut missing = vec![];
            inst.op
                .uses(|r| missing.extend((!state.contains(r.0 as usize)).then_some(r)));
            for r in missing {
                c.fail(format!("{r} is not written on every path to here"));
            }
            if let Some(dst) = inst.op.dst() {
                state.insert(dst.0 as usize);
            }
        }
        c.at = (b, block.insts.len());
        let mut missing = vec![];
        if let Some(term) = &block.term {
            term.uses(|r| missing.extend((!state.contains(r.0 as usize)).then_some(r)));
        }
        for r in missing {
            c.fail(format!("{r} is not written on every path to here"));
        }
    }
}

/// What a register of a record's type holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// Nothing, or a record that has ended.
    Nothing,
    /// A record that must end, or null.
    Record,
    /// An address inside of a record.
    Inside,
}

/// Forward analysis of what each record register holds.
fn records(c: &mut Checker<'_>) {
    if !c.func.regs.iter().any(|ty| matches!(ty, Type::Record { .. })) {
        return;
    }
    let mut entry: Vec<Option<Vec<Hold>>> = vec![None; c.func.blocks.len()];
    entry[0] = Some(vec![Hold::Nothing; c.func.regs.len()]);
    // Acyclic but for loops, over which what is held must be the same: one pass in order finds every mismatch.
    for b in c.cfg.rpo.clone() {
        let Some(mut state) = entry[b].clone() else {
            continue;
        };
        let block = &c.func.blocks[b];
        if let Some(bound) = block.bound {
            c.at = (b, 0);
            join(c, &mut entry, bound.exhausted.0 as usize, &state);
        }
        for (i, inst) in block.insts.iter().enumerate() {
            c.at = (b, i);
            record_operation(c, &inst.op, &mut state);
        }
        c.at = (b, block.insts.len());
        match block.term {
            Some(Term::Return(_)) => {
                let held = (0..state.len()).find(|&r| state[r] == Hold::Record);
                if let Some(r) = held {
                    c.fail(format!("the record in %{r} is neither submitted nor discarded"));
                }
            }
            Some(Term::NullCheck { ptr, dst, some, none })
                if matches!(c.type_of(ptr), Type::Record { .. }) =>
            {
                if state[ptr.0 as usize] != Hold::Record {
                    c.fail(format!("{ptr} does not hold a record, or did so already"));
                }
                state[ptr.0 as usize] = Hold::Nothing;
                join(c, &mut entry, none.0 as usize, &state);
                if state[dst.0 as usize] == Hold::Record {
                    c.fail(format!("{dst} holds another record, which would be lost"));
                }
                state[dst.0 as usize] = Hold::Record;
                join(c, &mut entry, some.0 as usize, &state);
            }
            _ => {
                for to in block.term.iter().flat_map(Term::successors) {
                    join(c, &mut entry, to, &state);
                }
            }
        }
    }
}

/// Bring a state to a block. Where paths disagree about a record, one of them loses it or ends it twice.
fn join(c: &mut Checker<'_>, entry: &mut [Option<Vec<Hold>>], to: usize, state: &[Hold]) {
    let Some(known) = &mut entry[to] else {
        entry[to] = Some(state.to_vec());
        return;
    };
    let mut clash = None;
    for (r, (k, s)) in known.iter_mut().zip(state).enumerate() {
        if (*k == Hold::Record) != (*s == Hold::Record) {
            clash = Some(r);
        } else if *k != *s {
            *k = Hold::Nothing;
        }
    }
    if let Some(r) = clash {
        c.fail(format!(
            "on some paths to b{to} %{r} holds a record that is neither submitted nor discarded, on others not"
        ));
    }
}

fn record_operation(c: &mut Checker<'_>, op: &Op, state: &mut [Hold]) {
    let is_record = |c: &Checker<'_>, r: Reg| matches!(c.type_of(r), Type::Record { .. });
    let mut gone = vec![];
    op.uses(|r| {
        if is_record(c, r) && state[r.0 as usize] == Hold::Nothing {
            gone.push(r);
        }
    });
    if let Some(r) = gone.first() {
        return c.fail(format!("the record in {r} is submitted or discarded already"));
    }
    let overwritten = op.dst().filter(|dst| state[dst.0 as usize] == Hold::Record);
    let mut becomes = Hold::Nothing;
    match *op {
        Op::Mov {
            dst,
            src: Operand::Reg(src),
        } if is_record(c, src) && dst != src => {
            becomes = state[src.0 as usize];
            if becomes == Hold::Record {
                state[src.0 as usize] = Hold::Nothing;
            }
        }
        Op::Bin { a, .. } if is_record(c, a) => becomes = Hold::Inside,
        Op::Call {
            helper: Helper::RingbufReserve,
            ..
        } => becomes = Hold::Record,
        Op::Call {
            helper: Helper::RingbufSubmit | Helper::RingbufDiscard,
            ref args,
            ..
        } => {
            if let Some(Operand::Reg(r)) = args.first() {
                if state[r.0 as usize] != Hold::Record {
                    return c.fail(format!("{r} is not the start of a record"));
                }
                state[r.0 as usize] = Hold::Nothing;
                for hold in state.iter_mut().filter(|hold| **hold == Hold::Inside) {
                    *hold = Hold::Nothing;
                }
            }
        }
        _ => {}
    }
    if let Some(dst) = overwritten {
        c.fail(format!("{dst} holds a record, which would be lost"));
    }
    if let Some(dst) = op.dst() {
        state[dst.0 as usize] = becomes;
    }
}
