//! How many bits numbers have.
//!
//! Deliberately absent: ranges. A mask of low bits is what makes operations cheaper.

use crate::ir::*;

/// How many low bits of an immediate are set or below one that is.
pub fn of_immediate(value: i64) -> u32 {
    64 - value.leading_zeros()
}

/// How many low bits of each register may be set, whatever way led to its use.
pub fn of_registers(func: &Function) -> Vec<u32> {
    let mut bits = vec![0; func.regs.len()];
    for param in &func.params {
        bits[param.0 as usize] = 64;
    }
    // It only ever grows, so it ends.
    loop {
        let before = bits.clone();
        for block in &func.blocks {
            for Inst { op, .. } in &block.insts {
                if let Some(dst) = op.dst() {
                    let width = of_result(op, |operand| match operand {
                        Operand::Imm(value) => of_immediate(value),
                        Operand::Reg(r) => bits[r.0 as usize],
                    });
                    let bits = &mut bits[dst.0 as usize];
                    *bits = width.max(*bits);
                }
            }
            if let Some(Term::NullCheck { dst, .. }) = block.term {
                bits[dst.0 as usize] = 64;
            }
        }
        if bits == before {
            return bits;
        }
    }
}

/// How many low bits of an operation's result may be set, if `of` says it of its operands.
pub fn of_result(op: &Op, of: impl Fn(Operand) -> u32) -> u32 {
    match *op {
        Op::Mov { src, .. } => of(src),
        Op::Bin {
            op: bin, width, a, b, ..
        } => {
            let (a, limit) = (of(Operand::Reg(a)), if width == Width::W32 { 32 } else { 64 });
            let bits = match (bin, b) {
                (BinOp::And, b) => a.min(of(b)),
                (BinOp::Or | BinOp::Xor, b) => a.max(of(b)),
                (BinOp::Shr, Operand::Imm(n)) => a.min(limit).saturating_sub(n as u32 % limit),
                (BinOp::Shl, Operand::Imm(n)) => a + n as u32 % limit,
                (BinOp::Add, b) => a.max(of(b)) + 1,
                (BinOp::Mul, b) => a + of(b),
                (BinOp::Div | BinOp::Mod, _) => a,
                _ => 64,
            };
            bits.min(limit)
        }
        Op::Neg {
            width: Width::W32, ..
        } => 32,
        Op::Swap { size, .. } => size.bytes() * 8,
        Op::Extend {
            size,
            signed: false,
            src,
            ..
        } => of(Operand::Reg(src)).min(size.bytes() * 8),
        Op::Load {
            size, signed: false, ..
        }
        | Op::KernelLoad {
            size, signed: false, ..
        }
        | Op::PacketLoad { size, .. } => size.bytes() * 8,
        _ => 64,
    }
}
