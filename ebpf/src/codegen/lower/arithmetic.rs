//! Arithmetic: what the machine has of it, and what older kernels lack.

use super::*;

impl Lower<'_> {
    pub(super) fn binary(&mut self, bin: BinOp, wide: bool, dst: V, a: V, b: Operand) {
        let width = if wide { 64 } else { 32 };
        let b = match (bin, b) {
            // What the kernel's verifier refuses as an immediate, and what has a simpler form.
            (BinOp::Div | BinOp::SDiv, Operand::Imm(n)) if truncated(n, wide) == 0 => {
                return self.push(Mop::Const { dst, value: 0 });
            }
            (BinOp::Mod | BinOp::SMod, Operand::Imm(n)) if truncated(n, wide) == 0 => {
                return if wide {
                    self.mov(dst, a);
                } else {
                    self.push(Mop::Mov32 { dst, src: a });
                };
            }
            (BinOp::Shl | BinOp::Shr | BinOp::Sar, Operand::Imm(n)) => Operand::Imm(n & (width - 1)),
            (BinOp::And, Operand::Imm(0xffff_ffff)) => return self.push(Mop::Mov32 { dst, src: a }),
            (BinOp::Mul, Operand::Imm(n)) if n > 1 && n.count_ones() == 1 && i32::try_from(n).is_ok() => {
                return self.binary(BinOp::Shl, wide, dst, a, Operand::Imm(n.trailing_zeros().into()));
            }
            (BinOp::Div, Operand::Imm(n)) if n > 1 && n.count_ones() == 1 && i32::try_from(n).is_ok() => {
                return self.binary(BinOp::Shr, wide, dst, a, Operand::Imm(n.trailing_zeros().into()));
            }
            (BinOp::Mod, Operand::Imm(n)) if n > 1 && n.count_ones() == 1 && i32::try_from(n).is_ok() => {
                return self.binary(BinOp::And, wide, dst, a, Operand::Imm(n - 1));
            }
            _ => b,
        };
        if matches!(bin, BinOp::SDiv | BinOp::SMod) && !self.options.features.cpu_v4 {
            return self.signed_division(bin == BinOp::SMod, wide, dst, a, b);
        }
        let (code, signed) = alu_code(bin);
        let src = self.src(b, wide);
        let (a, src) = match src {
            // dst = a - dst: dst must not be overwritten before it is read.
            Src::V(b) if b == dst && b != a => {
                if bin.commutes() {
                    (b, Src::V(a))
                } else {
                    let copy = self.out.vreg();
                    self.mov(copy, b);
                    (a, Src::V(copy))
                }
            }
            src => (a, src),
        };
        self.mov(dst, a);
        self.push(Mop::Alu {
            code,
            signed,
            wide,
            dst,
            src,
        });
    }

    /// Signed division without the instruction: divide the magnitudes, give the result its sign. No branches.
    fn signed_division(&mut self, modulo: bool, wide: bool, dst: V, a: V, b: Operand) {
        let b = self.src(b, wide);
        let b = match b {
            Src::V(v) => v,
            Src::Imm(value) => {
                let v = self.out.vreg();
                self.push(Mop::Const {
                    dst: v,
                    value: value.into(),
                });
                v
            }
        };
        let (sign_a, abs_a) = self.sign_and_magnitude(wide, a);
        let (sign_b, abs_b) = self.sign_and_magnitude(wide, b);
        let code = if modulo { op::MOD } else { op::DIV };
        self.alu(code, wide, abs_a, Src::V(abs_b));
        if !modulo {
            self.alu(op::XOR, wide, sign_a, Src::V(sign_b));
        }
        self.alu(op::XOR, wide, abs_a, Src::V(sign_a));
        self.alu(op::SUB, wide, abs_a, Src::V(sign_a));
        self.mov(dst, abs_a);
    }

    /// (-1 or 0, magnitude) of a number.
    fn sign_and_magnitude(&mut self, wide: bool, v: V) -> (V, V) {
        let (sign, abs) = (self.out.vreg(), self.out.vreg());
        self.mov(sign, v);
        self.alu(op::ARSH, wide, sign, Src::Imm(if wide { 63 } else { 31 }));
        self.mov(abs, v);
        self.alu(op::XOR, wide, abs, Src::V(sign));
        self.alu(op::SUB, wide, abs, Src::V(sign));
        (sign, abs)
    }

    /// Reverse the low bytes. On the little-endian machines that ktrail runs on, "to big-endian" does that, and
    /// every kernel has it.
    pub fn swap(&mut self, dst: V, size: Size) {
        match size {
            Size::B1 => self.alu(op::AND, false, dst, Src::Imm(0xff)),
            _ => self.push(Mop::Swap {
                dst,
                bits: size.bytes() as i32 * 8,
            }),
        }
    }

    pub(super) fn extend(&mut self, dst: V, src: V, size: Size, signed: bool) {
        let bits = size.bytes() as i16 * 8;
        match (size, signed) {
            (Size::B8, _) => self.copy(dst, src),
            (Size::B4, false) => self.push(Mop::Mov32 { dst, src }),
            (_, false) => {
                self.mov(dst, src);
                self.alu(op::AND, false, dst, Src::Imm((1 << bits) - 1));
            }
            (_, true) if self.options.features.cpu_v4 => self.push(Mop::MovSx { dst, src, bits }),
            (_, true) => {
                let shift = Src::Imm(64 - i32::from(bits));
                self.mov(dst, src);
                self.alu(op::LSH, true, dst, shift);
                self.alu(op::ARSH, true, dst, shift);
            }
        }
    }
}

/// The low `wide` half of a constant.
fn truncated(n: i64, wide: bool) -> i64 {
    if wide { n } else { i64::from(n as i32) }
}

/// Operation code and "signed" of an operation.
fn alu_code(bin: BinOp) -> (u8, bool) {
    match bin {
        BinOp::Add => (op::ADD, false),
        BinOp::Sub => (op::SUB, false),
        BinOp::Mul => (op::MUL, false),
        BinOp::Div => (op::DIV, false),
        BinOp::Mod => (op::MOD, false),
        BinOp::SDiv => (op::DIV, true),
        BinOp::SMod => (op::MOD, true),
        BinOp::And => (op::AND, false),
        BinOp::Or => (op::OR, false),
        BinOp::Xor => (op::XOR, false),
        BinOp::Shl => (op::LSH, false),
        BinOp::Shr => (op::RSH, false),
        BinOp::Sar => (op::ARSH, false),
    }
}
