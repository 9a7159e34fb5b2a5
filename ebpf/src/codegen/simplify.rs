//! Simplification of a function's IR before it is lowered: constants and copies go where they are used, what is
//! known about values makes operations cheaper, branches that are decided become jumps.
//!
//! Registers that are written once are as good as SSA values: their definition dominates every use (the verifier
//! saw to it), so what was true of the operands there is true at the use. Of registers that are written more than
//! once only what the current block wrote is known.
//!
//! Deliberately absent: anything across calls of functions, and values that agree over several paths.

use std::collections::BTreeMap;

use super::width;
use crate::ir::*;
use crate::vm::{binary, compare};

/// Simplify until nothing changes.
pub fn simplify(func: &mut Function) {
    while once(func) {}
}

fn once(func: &mut Function) -> bool {
    clear_unreachable(func);
    let mut pass = Pass {
        writes: func.count_writes(),
        global: BTreeMap::new(),
        local: BTreeMap::new(),
        loads: vec![],
        bits: vec![64; func.regs.len()],
        types: func.regs.clone(),
        changed: false,
    };
    for b in func.cfg().rpo {
        pass.local.clear();
        pass.loads.clear();
        let block = &mut func.blocks[b];
        for inst in &mut block.insts {
            pass.operation(&mut inst.op);
        }
        if let Some(term) = &mut block.term {
            pass.terminator(term);
        }
    }
    let folded = fold_swaps(func, &pass.writes);
    pass.changed | folded
}

/// Empty the blocks that control can't reach: what they write and read doesn't count.
fn clear_unreachable(func: &mut Function) {
    let cfg = func.cfg();
    for (b, block) in func.blocks.iter_mut().enumerate() {
        if !cfg.reachable(b) {
            block.insts.clear();
            block.term = Some(Term::Return(Operand::Imm(0)));
            block.bound = None;
        }
    }
}

struct Pass {
    writes: Vec<u32>,
    /// What registers that are written once hold.
    global: BTreeMap<Reg, Operand>,
    /// What others hold here.
    local: BTreeMap<Reg, Operand>,
    /// Kernel loads of this block whose result is still in its register: the load, and where it is.
    loads: Vec<(Op, Reg)>,
    /// How many low bits of a register that is written once may be set.
    bits: Vec<u32>,
    types: Vec<Type>,
    changed: bool,
}

impl Pass {
    fn once(&self, reg: Reg) -> bool {
        self.writes[reg.0 as usize] == 1
    }

    fn known(&self, reg: Reg) -> Option<Operand> {
        self.local.get(&reg).or_else(|| self.global.get(&reg)).copied()
    }

    fn constant(&self, operand: Operand) -> Option<i64> {
        match operand {
            Operand::Imm(value) => Some(value),
            Operand::Reg(r) => match self.known(r) {
                Some(Operand::Imm(value)) => Some(value),
                _ => None,
            },
        }
    }

    /// How many low bits of a value may be set.
    fn width(&self, operand: Operand) -> u32 {
        match operand {
            Operand::Imm(value) => width::of_immediate(value),
            Operand::Reg(r) => self.bits[r.0 as usize],
        }
    }

    /// Replace an operand by what it is known to be.
    fn operand(&mut self, operand: &mut Operand) {
        if let Operand::Reg(r) = *operand
            && let Some(known) = self.known(r)
        {
            *operand = known;
            self.changed = true;
        }
    }

    /// Replace a register by the one that it is a copy of.
    fn reg(&mut self, reg: &mut Reg) {
        if let Some(Operand::Reg(known)) = self.known(*reg) {
            *reg = known;
            self.changed = true;
        }
    }

    fn replace(&mut self, op: &mut Op, with: Op) {
        if *op != with {
            *op = with;
            self.changed = true;
        }
    }

    fn operation(&mut self, op: &mut Op) {
        self.operands(op);
        self.rewrite(op);
        self.share_load(op);
        let Some(dst) = op.dst() else { return };
        // What was known about the old value, or because of it, is not any more.
        self.local.remove(&dst);
        self.local.retain(|_, known| *known != Operand::Reg(dst));
        self.loads.retain(|(load, at)| {
            let mut reads = false;
            load.uses(|r| reads |= r == dst);
            *at != dst && !reads
        });
        if let Op::KernelLoad { .. } = op {
            let mut reads = false;
            op.uses(|r| reads |= r == dst);
            if !reads {
                self.loads.push((with_dst(op, Reg(0)), dst));
            }
        }
        if let Op::Mov { src, .. } = *op
            && self.may_stand_for(dst, src)
        {
            if self.once(dst)
                && (matches!(src, Operand::Imm(_)) || matches!(src, Operand::Reg(r) if self.once(r)))
            {
                self.global.insert(dst, src);
            } else if src != Operand::Reg(dst) {
                self.local.insert(dst, src);
            }
        }
        if self.once(dst) {
            self.bits[dst.0 as usize] = width::of_result(op, |operand| self.width(operand));
        }
    }

    /// True if `src` may be used instead of `dst` after `dst = src`: the types must agree, or the kernel's
    /// verifier would see another type than the IR has.
    fn may_stand_for(&self, dst: Reg, src: Operand) -> bool {
        match src {
            Operand::Imm(_) => true,
            Operand::Reg(src) => {
                let ty = self.types[dst.0 as usize];
                // A record's owner is tracked by register.
                ty == self.types[src.0 as usize] && !matches!(ty, Type::Record { .. })
            }
        }
    }

    fn operands(&mut self, op: &mut Op) {
        match op {
            Op::Mov { src, .. } => self.operand(src),
            Op::Bin { a, b, .. } => {
                self.reg(a);
                self.operand(b);
            }
            Op::Neg { src, .. } | Op::Swap { src, .. } | Op::Extend { src, .. } => self.reg(src),
            Op::Load { base, .. } | Op::KernelLoad { base, .. } | Op::KernelRead { base, .. } => {
                self.reg(base)
            }
            Op::Store { base, src, .. } => {
                self.reg(base);
                self.operand(src);
            }
            Op::Atomic { base, src, .. } => {
                self.reg(base);
                self.reg(src);
            }
            Op::Keep { src } => self.operand(src),
            Op::PacketOpen { start, .. } => self.reg(start),
            Op::PacketLoad { off, .. } => self.operand(off),
            Op::Call { args, .. } | Op::CallFn { args, .. } => {
                for arg in args {
                    self.operand(arg);
                }
            }
            Op::SlotAddr { .. }
            | Op::MapAddr { .. }
            | Op::MapData { .. }
            | Op::Ctx { .. }
            | Op::AtReturn { .. }
            | Op::Kept { .. }
            | Op::Each { .. }
            | Op::Arg { .. } => {}
        }
    }

    /// Give an operation a cheaper form.
    fn rewrite(&mut self, op: &mut Op) {
        let mov = |dst, src| Op::Mov { dst, src };
        let new = match *op {
            Op::Bin {
                op: bin,
                width,
                dst,
                a,
                b,
            } => match (self.constant(Operand::Reg(a)), b) {
                (Some(a), Operand::Imm(b)) => {
                    mov(dst, Operand::Imm(binary(bin, width, a as u64, b as u64) as i64))
                }
                (Some(a), Operand::Reg(b)) if bin.commutes() => Op::Bin {
                    op: bin,
                    width,
                    dst,
                    a: b,
                    b: Operand::Imm(a),
                },
                (None, Operand::Imm(b)) => match self.binary_with_constant(bin, width, a, b) {
                    Some(src) => mov(dst, src),
                    None => return,
                },
                _ => return,
            },
            Op::Neg { width, dst, src } => match self.constant(Operand::Reg(src)) {
                Some(value) => mov(
                    dst,
                    Operand::Imm(binary(BinOp::Sub, width, 0, value as u64) as i64),
                ),
                None => return,
            },
            Op::Swap { size, dst, src } => match self.constant(Operand::Reg(src)) {
                Some(value) => mov(dst, Operand::Imm(swapped(value, size))),
                None => return,
            },
            Op::Extend {
                size,
                signed,
                dst,
                src,
            } => match self.constant(Operand::Reg(src)) {
                Some(value) => mov(dst, Operand::Imm(extended(value, size, signed))),
                None if self.width(Operand::Reg(src)) + u32::from(signed) <= size.bytes() * 8 => {
                    mov(dst, Operand::Reg(src))
                }
                None => return,
            },
            _ => return,
        };
        // A move between types is more than a move.
        if let Op::Mov {
            dst,
            src: Operand::Reg(src),
        } = new
            && self.types[dst.0 as usize] != self.types[src.0 as usize]
        {
            return;
        }
        self.replace(op, new);
    }

    /// `a bin constant`, where that is `a` or a constant.
    fn binary_with_constant(&self, bin: BinOp, width: Width, a: Reg, b: i64) -> Option<Operand> {
        let whole = width == Width::W64 || self.width(Operand::Reg(a)) <= 32;
        let b = if width == Width::W32 {
            i64::from(b as u32)
        } else {
            b
        };
        match (bin, b) {
            (BinOp::Add | BinOp::Sub | BinOp::Or | BinOp::Xor | BinOp::Shl | BinOp::Shr | BinOp::Sar, 0)
                if whole =>
            {
                Some(Operand::Reg(a))
            }
            (BinOp::Mul | BinOp::Div, 1) if whole => Some(Operand::Reg(a)),
            (BinOp::And | BinOp::Mul, 0) => Some(Operand::Imm(0)),
            // A mask that takes nothing away.
            (BinOp::And, mask) if whole => {
                let bits = self.width(Operand::Reg(a));
                let all = if bits >= 64 { -1 } else { (1i64 << bits) - 1 };
                (mask & all == all).then_some(Operand::Reg(a))
            }
            _ => None,
        }
    }

    /// A kernel load of what is in a register already becomes a move.
    fn share_load(&mut self, op: &mut Op) {
        if !matches!(op, Op::KernelLoad { .. }) {
            return;
        }
        let Some(dst) = op.dst() else { return };
        let same = with_dst(op, Reg(0));
        let found = self
            .loads
            .iter()
            .find(|(load, at)| *load == same && self.types[at.0 as usize] == self.types[dst.0 as usize]);
        if let Some(&(_, at)) = found {
            *op = Op::Mov {
                dst,
                src: Operand::Reg(at),
            };
            self.changed = true;
        }
    }

    fn terminator(&mut self, term: &mut Term) {
        match term {
            Term::Jump(_) => {}
            Term::Return(value) => self.operand(value),
            Term::NullCheck { ptr, .. } => self.reg(ptr),
            Term::Branch { a, b, .. } => {
                self.reg(a);
                self.operand(b);
            }
        }
        let Term::Branch {
            cond,
            width,
            a,
            b,
            then,
            otherwise,
        } = *term
        else {
            return;
        };
        if let (Some(a), Some(b)) = (self.constant(Operand::Reg(a)), self.constant(b)) {
            let holds = compare(cond, width, a as u64, b as u64);
            *term = Term::Jump(if holds { then } else { otherwise });
            self.changed = true;
            return;
        }
        if let Operand::Imm(b) = b
            && let Some(holds) = decided(cond, width, self.width(Operand::Reg(a)), b)
        {
            *term = Term::Jump(if holds { then } else { otherwise });
            self.changed = true;
            return;
        }
        let mut new = term.clone();
        if let (Some(value), Operand::Reg(r)) = (self.constant(Operand::Reg(a)), b) {
            // The constant to the right.
            new = Term::Branch {
                cond: mirrored(cond),
                width,
                a: r,
                b: Operand::Imm(value),
                then,
                otherwise,
            };
        } else if width == Width::W64
            && matches!(cond, Cond::Eq | Cond::Ne)
            && let Operand::Imm(value) = b
            && i32::try_from(value).is_err()
            && u32::try_from(value).is_ok()
            && self.width(Operand::Reg(a)) <= 32
        {
            // Fits a 32-bit immediate, but not a 64-bit comparison's.
            new = Term::Branch {
                cond,
                width: Width::W32,
                a,
                b,
                then,
                otherwise,
            };
        }
        if *term != new {
            *term = new;
            self.changed = true;
        }
    }
}

/// How a comparison of a number of so many bits with a constant that has more of them comes out.
fn decided(cond: Cond, width: Width, bits: u32, b: i64) -> Option<bool> {
    let b = if width == Width::W32 {
        u64::from(b as u32)
    } else {
        b as u64
    };
    if bits >= 64 || width == Width::W32 && bits > 32 || b < 1 << bits {
        return None;
    }
    match cond {
        Cond::Eq | Cond::Gt | Cond::Ge => Some(false),
        Cond::Ne | Cond::Lt | Cond::Le => Some(true),
        Cond::SLt | Cond::SLe | Cond::SGt | Cond::SGe | Cond::Test => None,
    }
}

/// The comparison that holds for (b, a) where `cond` holds for (a, b).
fn mirrored(cond: Cond) -> Cond {
    match cond {
        Cond::Lt => Cond::Gt,
        Cond::Le => Cond::Ge,
        Cond::Gt => Cond::Lt,
        Cond::Ge => Cond::Le,
        Cond::SLt => Cond::SGt,
        Cond::SLe => Cond::SGe,
        Cond::SGt => Cond::SLt,
        Cond::SGe => Cond::SLe,
        Cond::Eq | Cond::Ne | Cond::Test => cond,
    }
}

fn with_dst(op: &Op, to: Reg) -> Op {
    let mut op = op.clone();
    if let Op::KernelLoad { dst, .. } = &mut op {
        *dst = to;
    }
    op
}

fn swapped(value: i64, size: Size) -> i64 {
    ((value as u64).swap_bytes() >> (64 - size.bytes() * 8)) as i64
}

fn extended(value: i64, size: Size, signed: bool) -> i64 {
    let shift = 64 - size.bytes() * 8;
    if signed {
        value << shift >> shift
    } else {
        ((value as u64) << shift >> shift) as i64
    }
}

/// Numbers in network byte order that are only compared with constants need no swap: the constants are swapped
/// instead. Covers packet loads and explicit swaps.
fn fold_swaps(func: &mut Function, writes: &[u32]) -> bool {
    // The candidates: size of the number, by register.
    let mut sizes: BTreeMap<Reg, Size> = BTreeMap::new();
    for inst in func.blocks.iter().flat_map(|block| &block.insts) {
        match inst.op {
            Op::PacketLoad {
                dst,
                size,
                swap: true,
                ..
            }
            | Op::Swap { dst, size, .. }
                if writes[dst.0 as usize] == 1 && size != Size::B1 =>
            {
                sizes.insert(dst, size);
            }
            _ => {}
        }
    }
    for block in &func.blocks {
        for inst in &block.insts {
            inst.op.uses(|r| {
                sizes.remove(&r);
            });
        }
        let Some(term) = &block.term else { continue };
        if let Term::Branch {
            cond, width, a, b, ..
        } = *term
            && let Some(&size) = sizes.get(&a)
            && comparable(cond, width, b, size)
        {
            continue;
        }
        term.uses(|r| {
            sizes.remove(&r);
        });
    }
    for block in &mut func.blocks {
        for inst in &mut block.insts {
            match inst.op {
                Op::PacketLoad {
                    dst, ref mut swap, ..
                } if sizes.contains_key(&dst) => *swap = false,
                Op::Swap { dst, size, src } if sizes.contains_key(&dst) => {
                    inst.op = Op::Extend {
                        size,
                        signed: false,
                        dst,
                        src,
                    };
                }
                _ => {}
            }
        }
        if let Some(Term::Branch { width, a, b, .. }) = &mut block.term
            && let Some(&size) = sizes.get(a)
            && let Operand::Imm(value) = b
        {
            *value = swapped(*value, size);
            if size != Size::B8 {
                *width = Width::W32;
            }
        }
    }
    !sizes.is_empty()
}

/// True if the comparison of a number of `size` bytes comes out the same with both sides swapped.
fn comparable(cond: Cond, width: Width, b: Operand, size: Size) -> bool {
    let Operand::Imm(value) = b else { return false };
    let bits = size.bytes() * 8;
    let fits = bits == 64 || value >= 0 && value < 1 << bits;
    matches!(cond, Cond::Eq | Cond::Ne | Cond::Test) && fits && (bits <= 32 || width == Width::W64)
}
