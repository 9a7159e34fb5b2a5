//! Questions about operations and functions that several passes ask.

use super::*;

impl Op {
    /// The register that it writes.
    pub fn dst(&self) -> Option<Reg> {
        match *self {
            Op::Mov { dst, .. }
            | Op::Bin { dst, .. }
            | Op::Neg { dst, .. }
            | Op::Swap { dst, .. }
            | Op::Extend { dst, .. }
            | Op::Load { dst, .. }
            | Op::SlotAddr { dst, .. }
            | Op::MapAddr { dst, .. }
            | Op::MapData { dst, .. }
            | Op::Ctx { dst }
            | Op::AtReturn { dst }
            | Op::Kept { dst }
            | Op::Arg { dst, .. }
            | Op::KernelLoad { dst, .. }
            | Op::PacketOpen { dst, .. }
            | Op::PacketLoad { dst, .. } => Some(dst),
            Op::Atomic { fetch, .. } => fetch,
            Op::Call { dst, .. } | Op::CallFn { dst, .. } | Op::Each { dst, .. } => dst,
            Op::Store { .. } | Op::KernelRead { .. } | Op::Keep { .. } => None,
        }
    }

    /// Call `f` with each register that it reads.
    pub fn uses(&self, mut f: impl FnMut(Reg)) {
        let operand = |o: &Operand, f: &mut dyn FnMut(Reg)| {
            if let Operand::Reg(r) = o {
                f(*r);
            }
        };
        match self {
            Op::Mov { src, .. } | Op::Keep { src } => operand(src, &mut f),
            Op::Bin { a, b, .. } => {
                f(*a);
                operand(b, &mut f);
            }
            Op::Neg { src, .. } | Op::Swap { src, .. } | Op::Extend { src, .. } => f(*src),
            Op::Load { base, .. } | Op::KernelLoad { base, .. } | Op::KernelRead { base, .. } => f(*base),
            Op::Store { base, src, .. } => {
                f(*base);
                operand(src, &mut f);
            }
            Op::Atomic { base, src, .. } => {
                f(*base);
                f(*src);
            }
            Op::SlotAddr { .. }
            | Op::MapAddr { .. }
            | Op::MapData { .. }
            | Op::Ctx { .. }
            | Op::AtReturn { .. }
            | Op::Kept { .. }
            | Op::Each { .. }
            | Op::Arg { .. } => {}
            Op::PacketOpen { start, .. } => f(*start),
            Op::PacketLoad { packet, off, .. } => {
                f(*packet);
                operand(off, &mut f);
            }
            Op::Call { args, .. } | Op::CallFn { args, .. } => {
                args.iter().for_each(|arg| operand(arg, &mut f));
            }
        }
    }
}

impl BinOp {
    /// True if `a op b` is `b op a`.
    pub fn commutes(self) -> bool {
        matches!(
            self,
            BinOp::Add | BinOp::Mul | BinOp::And | BinOp::Or | BinOp::Xor
        )
    }
}

impl Term {
    /// The blocks that it may go to, the one that is best laid out next last.
    pub fn successors(&self) -> Vec<usize> {
        match *self {
            Term::Jump(to) => vec![to.0 as usize],
            Term::Branch { then, otherwise, .. } => vec![then.0 as usize, otherwise.0 as usize],
            Term::NullCheck { some, none, .. } => vec![none.0 as usize, some.0 as usize],
            Term::Return(_) => vec![],
        }
    }

    /// Call `f` with each register that it reads.
    pub fn uses(&self, mut f: impl FnMut(Reg)) {
        match *self {
            Term::Jump(_) => {}
            Term::Branch { a, b, .. } => {
                f(a);
                if let Operand::Reg(b) = b {
                    f(b);
                }
            }
            Term::NullCheck { ptr, .. } => f(ptr),
            Term::Return(value) => {
                if let Operand::Reg(value) = value {
                    f(value);
                }
            }
        }
    }
}

impl Function {
    /// The type of a register.
    pub fn type_of(&self, reg: Reg) -> Type {
        self.regs[reg.0 as usize]
    }

    /// Its control-flow graph. A loop header's way out when its bound is used up is an edge, too.
    pub fn cfg(&self) -> Cfg {
        let succs = self
            .blocks
            .iter()
            .map(|block| {
                let mut to: Vec<usize> = block.bound.iter().map(|b| b.exhausted.0 as usize).collect();
                to.extend(block.term.iter().flat_map(Term::successors));
                to
            })
            .collect();
        Cfg::new(0, succs)
    }

    /// How often each register is written: once for a parameter, an operation or a null check.
    pub fn count_writes(&self) -> Vec<u32> {
        let mut writes = vec![0; self.regs.len()];
        for param in &self.params {
            writes[param.0 as usize] += 1;
        }
        for block in &self.blocks {
            for inst in &block.insts {
                if let Some(dst) = inst.op.dst() {
                    writes[dst.0 as usize] += 1;
                }
            }
            if let Some(Term::NullCheck { dst, .. }) = block.term {
                writes[dst.0 as usize] += 1;
            }
        }
        writes
    }
}
