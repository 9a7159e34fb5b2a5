//! Values while a program is built: where they are, how they are loaded, stored, copied, zeroed and compared.
//!
//! Text that a program holds in its own memory is always followed by zero bytes up to its full length, so that it
//! compares, and serves as a key, byte by byte.

use super::body::Body;
use crate::ir::BinOp;
use crate::ir::{Cond, Op, Operand, Reg, Size, Slot, Type, Width};
use crate::isa::Helper;
use crate::script::ast::BinaryOp;
use crate::script::output::ErrorKind;
use crate::script::types::Ty;

/// Where a value is.
#[derive(Clone, Debug)]
pub enum At {
    /// Nowhere: there is none, or its type isn't known yet.
    Nothing,
    /// A number, as wide as a register, its sign extended as its type says.
    Num(Operand),
    /// In memory of the program. The base is aligned to 8 bytes.
    Mem(Reg, i32),
    /// In kernel memory.
    Kernel(Reg, i32),
    /// In user memory.
    User(Reg, i32),
    /// In the context, at a fixed offset.
    Ctx(i32),
    /// Bits of a word: where the word is, its bytes, the first bit and how many.
    Bits(Box<At>, u32, u32, u32),
    /// Text of the script.
    Text(Vec<u8>),
}

/// A value and its type.
#[derive(Clone, Debug)]
pub struct Value {
    pub ty: Ty,
    pub at: At,
    /// A number that the script writes: it takes the sign of what it meets.
    pub literal: bool,
    /// Of a number that was made of an address: whether that is one of user space.
    pub user: Option<bool>,
}

/// Where a value is wanted. A hint: who makes the value may put it there.
#[derive(Clone, Debug)]
pub struct Dest {
    pub base: Reg,
    pub off: i32,
    pub ty: Ty,
    /// What follows the text is to be zeroed.
    pub pad: bool,
}

impl Value {
    /// Whoever made it has put it there already.
    fn is_at(&self, ty: &Ty, base: Reg, off: i32) -> bool {
        self.ty == *ty && matches!(self.at, At::Mem(b, o) if b == base && o == off)
    }

    pub fn none() -> Value {
        Value::of(Ty::None, At::Nothing)
    }

    pub fn of(ty: Ty, at: At) -> Value {
        Value {
            ty,
            at,
            literal: false,
            user: None,
        }
    }

    pub fn num(ty: Ty, operand: impl Into<Operand>) -> Value {
        Value::of(ty, At::Num(operand.into()))
    }

    pub fn text(text: &[u8]) -> Value {
        let ty = Ty::Str {
            len: text.len() as u32 + 1,
        };
        Value::of(ty, At::Text(text.to_vec()))
    }

    pub fn constant(&self) -> Option<i64> {
        match self.at {
            At::Num(Operand::Imm(n)) => Some(n),
            _ => None,
        }
    }
}

/// The widest access that is aligned at `off` and not longer than `left`.
fn chunk(off: i32, left: u32) -> Size {
    for size in [Size::B8, Size::B4, Size::B2] {
        if off % size.bytes() as i32 == 0 && left >= size.bytes() {
            return size;
        }
    }
    Size::B1
}

/// True if a value of the type has bytes that storing it leaves alone.
pub fn has_gaps(ty: &Ty) -> bool {
    let fields: Vec<&Ty> = match ty {
        Ty::Tuple(fields) => fields.iter().collect(),
        Ty::Record(fields) => fields.iter().map(|(_, ty)| ty).collect(),
        Ty::Array { element, .. } => return has_gaps(element),
        Ty::Buffer { .. } => return true,
        _ => return false,
    };
    let full: u32 = fields.iter().map(|f| f.size()).sum();
    full != ty.size() || fields.iter().any(|f| has_gaps(f))
}

impl Body<'_, '_> {
    /// A place `off` bytes further on.
    pub fn at_offset(at: &At, by: u32) -> At {
        let by = by as i32;
        match *at {
            At::Mem(r, off) => At::Mem(r, off + by),
            At::Kernel(r, off) => At::Kernel(r, off + by),
            At::User(r, off) => At::User(r, off + by),
            At::Ctx(off) => At::Ctx(off + by),
            _ => At::Nothing,
        }
    }

    /// The value as a number; of one that is no number, its address.
    pub fn num(&mut self, v: &Value) -> Operand {
        match &v.at {
            At::Num(operand) => *operand,
            At::Nothing | At::Text(_) => Operand::Imm(0),
            at if v.ty.in_register() => self.load(at, &v.ty),
            At::Kernel(..) | At::User(..) | At::Ctx(_) => self.address(&v.at).into(),
            _ => Operand::Imm(0),
        }
    }

    pub fn reg(&mut self, v: &Value) -> Reg {
        match self.num(v) {
            Operand::Reg(r) => r,
            Operand::Imm(n) => self.b.imm(n),
        }
    }

    /// The address that a value in the kernel's or the user's memory has.
    pub fn address(&mut self, at: &At) -> Reg {
        match *at {
            At::Kernel(r, off) | At::User(r, off) => {
                let dst = self.b.int();
                self.b.mov(dst, r);
                if off == 0 {
                    dst
                } else {
                    self.b.add(dst, i64::from(off))
                }
            }
            At::Ctx(off) => {
                let ctx = self.b.ctx();
                let dst = self.b.int();
                self.b.mov(dst, ctx);
                if off == 0 {
                    dst
                } else {
                    self.b.add(dst, i64::from(off))
                }
            }
            _ => self.b.imm(0),
        }
    }

    /// A register that kernel loads take as their base.
    pub fn kernel_base(&mut self, address: Operand) -> Reg {
        let dst = self.b.reg(Type::Kernel { direct: false });
        self.b.mov(dst, address);
        dst
    }

    fn load(&mut self, at: &At, ty: &Ty) -> Operand {
        let Some(size) = Size::from_bytes(ty.size()) else {
            return Operand::Imm(0);
        };
        self.load_sized(at, size, ty.is_signed()).into()
    }

    fn load_sized(&mut self, at: &At, size: Size, signed: bool) -> Reg {
        let dst = self.b.int();
        match *at {
            At::Mem(base, off) => {
                let piece = chunk(off, size.bytes());
                if piece == size {
                    self.b.push(Op::Load {
                        dst,
                        base,
                        off,
                        size,
                        signed,
                    });
                } else {
                    // Parts of packed values.
                    self.b.mov(dst, 0);
                    for i in (0..size.bytes()).rev() {
                        let byte = self.b.load(base, off + i as i32, Size::B1);
                        self.push_bin(BinOp::Shl, dst, 8);
                        self.push_bin(BinOp::Or, dst, byte);
                    }
                    self.b.push(Op::Extend {
                        size,
                        signed,
                        dst,
                        src: dst,
                    });
                }
            }
            At::Ctx(off) => {
                let ctx = self.b.ctx();
                let signed_here = signed && size != Size::B8;
                self.b.push(Op::Load {
                    dst,
                    base: ctx,
                    off,
                    size,
                    signed: signed_here,
                });
            }
            At::Kernel(base, off) if !self.g.env.counts_failures() => {
                let base = self.kernel_base(base.into());
                self.b.push(Op::KernelLoad {
                    dst,
                    base,
                    off,
                    size,
                    signed,
                });
            }
            At::Kernel(..) | At::User(..) => {
                let slot = self.b.slot(8, 8);
                let to = self.b.slot_addr(slot);
                self.b.store(to, 0, 0, Size::B8);
                let from = self.address(at);
                let helper = match at {
                    At::User(..) => Helper::ProbeReadUser,
                    _ => Helper::ProbeReadKernel,
                };
                let args = vec![to.into(), i64::from(size.bytes()).into(), from.into()];
                self.read_memory(helper, args);
                self.b.push(Op::Load {
                    dst,
                    base: to,
                    off: 0,
                    size,
                    signed,
                });
            }
            At::Bits(ref word, bytes, first, bits) => {
                let size = Size::from_bytes(bytes).unwrap_or(Size::B8);
                let word = self.load_sized(word, size, false);
                let up = self
                    .b
                    .bin(BinOp::Shl, Width::W64, word, i64::from(64 - first - bits));
                let down = if signed { BinOp::Sar } else { BinOp::Shr };
                return self.b.bin(down, Width::W64, up, i64::from(64 - bits));
            }
            At::Num(Operand::Reg(r)) => return r,
            At::Num(Operand::Imm(n)) => self.b.mov(dst, n),
            At::Nothing | At::Text(_) => self.b.mov(dst, 0),
        }
        dst
    }

    /// `dst = dst op b`.
    pub fn push_bin(&mut self, op: BinOp, dst: Reg, b: impl Into<Operand>) {
        let b = b.into();
        self.b.push(Op::Bin {
            op,
            width: Width::W64,
            dst,
            a: dst,
            b,
        });
    }

    /// A slot and its address.
    pub fn temp(&mut self, ty: &Ty) -> (Slot, Reg) {
        let size = ty.size().max(1).next_multiple_of(8);
        let slot = self.b.slot(size, 8);
        let base = self.b.slot_addr(slot);
        (slot, base)
    }

    /// The value in memory of the program, as a `ty`, with every byte written.
    pub fn in_memory(&mut self, v: &Value, ty: &Ty) -> (Reg, i32) {
        if let At::Mem(base, off) = v.at
            && v.ty == *ty
        {
            return (base, off);
        }
        let (_, base) = self.temp(ty);
        self.store_whole(v, ty, base, 0);
        (base, 0)
    }

    /// [`Body::store`], gaps zeroed.
    pub fn store_whole(&mut self, v: &Value, ty: &Ty, base: Reg, off: i32) {
        if v.is_at(ty, base, off) {
            return;
        }
        if has_gaps(ty) {
            self.zero(base, off, ty.size());
        }
        self.store(v, ty, base, off);
    }

    /// Write `len` zero bytes.
    pub fn zero(&mut self, base: Reg, mut off: i32, len: u32) {
        let end = off + len as i32;
        while off < end {
            let size = chunk(off, (end - off) as u32);
            self.b.store(base, off, 0, size);
            off += size.bytes() as i32;
        }
    }

    /// Store a value as a `ty`.
    pub fn store(&mut self, v: &Value, ty: &Ty, base: Reg, off: i32) {
        if v.is_at(ty, base, off) {
            return;
        }
        if ty.in_register() {
            let n = if *ty == Ty::Bool && v.ty != Ty::Bool {
                self.truth(v).into()
            } else {
                self.num(v)
            };
            return self.store_number(n, base, off, ty.size());
        }
        match (ty, &v.ty) {
            (Ty::None, _) => {}
            (Ty::Str { len }, _) => self.store_text(v, *len, base, off),
            (Ty::Tuple(to), Ty::Tuple(from)) if to.len() == from.len() => {
                let (a, b) = (v.ty.field_offsets(), ty.field_offsets());
                let from = from.clone();
                for (i, field) in to.iter().enumerate() {
                    let part = Value::of(from[i].clone(), Self::at_offset(&v.at, a[i]));
                    self.store(&part, field, base, off + b[i] as i32);
                }
            }
            (Ty::Record(to), Ty::Record(from)) if to.len() == from.len() => {
                let (a, b) = (v.ty.field_offsets(), ty.field_offsets());
                let from = from.clone();
                for (i, (_, field)) in to.iter().enumerate() {
                    let part = Value::of(from[i].1.clone(), Self::at_offset(&v.at, a[i]));
                    self.store(&part, field, base, off + b[i] as i32);
                }
            }
            _ => {
                let len = ty.size().min(v.ty.size());
                self.copy(&v.at, base, off, len);
                self.zero(base, off + len as i32, ty.size() - len);
            }
        }
    }

    /// The low bytes of a number, of which there are 1 to 8.
    pub fn store_number(&mut self, n: Operand, base: Reg, off: i32, bytes: u32) {
        match Size::from_bytes(bytes) {
            Some(size) if chunk(off, bytes) == size => self.b.store(base, off, n, size),
            _ => self.store_bytes(n, base, off, bytes),
        }
    }

    fn store_bytes(&mut self, n: Operand, base: Reg, off: i32, len: u32) {
        let n = match n {
            Operand::Reg(r) => r,
            Operand::Imm(n) => self.b.imm(n),
        };
        for i in 0..len {
            let byte = self.b.bin(BinOp::Shr, Width::W64, n, i64::from(8 * i));
            self.b.store(base, off + i as i32, byte, Size::B1);
        }
    }

    fn store_text(&mut self, v: &Value, len: u32, base: Reg, off: i32) {
        match &v.at {
            At::Text(text) => {
                let mut bytes = text.clone();
                bytes.resize(len as usize, 0);
                let mut at = 0;
                while at < len {
                    let size = chunk(off + at as i32, len - at);
                    let mut word = [0; 8];
                    let n = size.bytes() as usize;
                    word[..n].copy_from_slice(&bytes[at as usize..at as usize + n]);
                    self.b
                        .store(base, off + at as i32, i64::from_le_bytes(word), size);
                    at += size.bytes();
                }
            }
            At::Mem(..) => {
                let n = len.min(v.ty.size());
                self.copy(&v.at, base, off, n);
                self.zero(base, off + n as i32, len - n);
            }
            At::Kernel(..) | At::User(..) | At::Ctx(_) => {
                let n = len.min(v.ty.size());
                self.zero(base, off, len);
                let user = matches!(v.at, At::User(..));
                let from = self.address(&v.at);
                self.read_text(from.into(), user, base, off, n);
            }
            _ => self.zero(base, off, len),
        }
    }

    /// Copy text from an address, `len` bytes at most with its zero byte. Gives what the helper returns.
    pub fn read_text(&mut self, from: Operand, user: bool, base: Reg, off: i32, len: u32) -> Reg {
        let to = if off == 0 {
            base
        } else {
            self.b.add(base, i64::from(off))
        };
        let helper = if user {
            Helper::ProbeReadUserStr
        } else {
            Helper::ProbeReadKernelStr
        };
        self.read_memory(helper, vec![to.into(), i64::from(len).into(), from])
    }

    /// Call a helper that reads memory, and count where it can't if the user wants to know that (`-k`). Gives what the
    /// helper returns.
    pub fn read_memory(&mut self, helper: Helper, args: Vec<Operand>) -> Reg {
        let result = self.b.call(helper, args);
        if self.g.env.counts_failures() {
            let (failed, done) = (self.b.block(), self.b.block());
            self.b.branch(Cond::SLt, result, 0, failed, done);
            self.b.switch_to(failed);
            let span = self.here();
            self.count_error(ErrorKind::Unreadable, span);
            self.b.jump(done);
            self.b.switch_to(done);
        }
        result
    }

    /// Copy bytes to memory of the program.
    pub fn copy(&mut self, from: &At, base: Reg, off: i32, len: u32) {
        if len == 0 {
            return;
        }
        match *from {
            At::Mem(src, src_off) => {
                let mut at = 0;
                while at < len {
                    let (a, b) = (
                        chunk(src_off + at as i32, len - at),
                        chunk(off + at as i32, len - at),
                    );
                    let size = a.min(b);
                    let word = self.b.load(src, src_off + at as i32, size);
                    self.b.store(base, off + at as i32, word, size);
                    at += size.bytes();
                }
            }
            At::Kernel(..) | At::User(..) | At::Ctx(_) => {
                let helper = if matches!(from, At::User(..)) {
                    Helper::ProbeReadUser
                } else {
                    Helper::ProbeReadKernel
                };
                self.zero(base, off, len);
                let from = self.address(from);
                let to = if off == 0 {
                    base
                } else {
                    self.b.add(base, i64::from(off))
                };
                self.read_memory(helper, vec![to.into(), i64::from(len).into(), from.into()]);
            }
            _ => self.zero(base, off, len),
        }
    }

    /// 1 if the value is not zero (text: not empty), else 0.
    pub fn truth(&mut self, v: &Value) -> Reg {
        self.one_or_zero(|s, yes, no| s.branch_truth(v, yes, no))
    }

    /// 1 if the comparison holds, else 0.
    pub fn holds(&mut self, cond: Cond, a: Reg, b: impl Into<Operand>) -> Reg {
        self.one_or_zero(|s, yes, no| s.b.branch(cond, a, b, yes, no))
    }

    /// 1 if `branch` goes on at its first block, 0 if at its second.
    pub fn one_or_zero(&mut self, branch: impl FnOnce(&mut Self, crate::ir::Block, crate::ir::Block)) -> Reg {
        let dst = self.b.int();
        let (yes, no, done) = (self.b.block(), self.b.block(), self.b.block());
        branch(self, yes, no);
        for (block, result) in [(yes, 1), (no, 0)] {
            self.b.switch_to(block);
            self.b.mov(dst, result);
            self.b.jump(done);
        }
        self.b.switch_to(done);
        dst
    }

    /// Go on at `yes` if the value is not zero (text: not empty), else at `no`.
    pub fn branch_truth(&mut self, v: &Value, yes: crate::ir::Block, no: crate::ir::Block) {
        let n = match (&v.ty, &v.at) {
            (Ty::Str { .. }, At::Text(text)) => Operand::Imm(i64::from(!text.is_empty())),
            (Ty::Str { .. }, At::Mem(base, off)) => self.b.load(*base, *off, Size::B1).into(),
            _ => self.num(v),
        };
        match n {
            Operand::Imm(0) => self.b.jump(no),
            Operand::Imm(_) => self.b.jump(yes),
            Operand::Reg(r) => self.b.branch(Cond::Ne, r, 0, yes, no),
        }
    }

    /// Go on at `same` if both have the same bytes, else at `other`.
    pub fn branch_equal(&mut self, a: &Value, b: &Value, same: crate::ir::Block, other: crate::ir::Block) {
        match (&a.ty, &b.ty) {
            (Ty::Str { len: la }, Ty::Str { len: lb }) => self.branch_text(a, *la, b, *lb, None, same, other),
            (ta, tb) if ta == tb => {
                let len = ta.size();
                let ty = ta.clone();
                let (ra, oa) = self.in_memory(a, &ty);
                let (rb, ob) = self.in_memory(b, &ty);
                self.branch_bytes((ra, oa), (rb, ob), len, other);
                self.b.jump(same);
            }
            (Ty::Tuple(ta), Ty::Tuple(tb)) if ta.len() == tb.len() => {
                let (oa, ob) = (a.ty.field_offsets(), b.ty.field_offsets());
                for i in 0..ta.len() {
                    let x = Value::of(ta[i].clone(), Self::at_offset(&a.at, oa[i]));
                    let y = Value::of(tb[i].clone(), Self::at_offset(&b.at, ob[i]));
                    let next = self.b.block();
                    if x.ty.in_register() && y.ty.in_register() {
                        let (x, y) = (self.reg(&x), self.num(&y));
                        self.b.branch(Cond::Eq, x, y, next, other);
                    } else {
                        self.branch_equal(&x, &y, next, other);
                    }
                    self.b.switch_to(next);
                }
                self.b.jump(same);
            }
            _ => self.b.jump(other),
        }
    }

    /// Leave for `other` where the bytes differ.
    fn branch_bytes(&mut self, a: (Reg, i32), b: (Reg, i32), len: u32, other: crate::ir::Block) {
        let mut at = 0;
        while at < len {
            let size = chunk(a.1 + at as i32, len - at).min(chunk(b.1 + at as i32, len - at));
            let x = self.b.load(a.0, a.1 + at as i32, size);
            let y = self.b.load(b.0, b.1 + at as i32, size);
            self.b.branch_if(Cond::Ne, x, y, other);
            at += size.bytes();
        }
    }

    /// Compare text by what comes first in the order of bytes.
    pub fn branch_text_order(
        &mut self,
        op: BinaryOp,
        (a, la): (&Value, u32),
        (b, lb): (&Value, u32),
        yes: crate::ir::Block,
        no: crate::ir::Block,
    ) {
        let (a, b) = (self.in_memory(a, &a.ty), self.in_memory(b, &b.ty));
        let (x, y) = (self.b.int(), self.b.int());
        let decided = self.b.block();
        for i in 0..la.max(lb) as i32 {
            // What fills its bytes ends behind them.
            for (dst, (base, off), len) in [(x, a, la), (y, b, lb)] {
                match i < len as i32 {
                    true => {
                        let byte = self.b.load(base, off + i, Size::B1);
                        self.b.mov(dst, byte);
                    }
                    false => self.b.mov(dst, 0),
                }
            }
            self.b.branch_if(Cond::Ne, x, y, decided);
            self.b.branch_if(Cond::Eq, x, 0, decided);
        }
        self.b.jump(decided);
        self.b.switch_to(decided);
        let cond = match op {
            BinaryOp::Lt => Cond::Lt,
            BinaryOp::Le => Cond::Le,
            BinaryOp::Gt => Cond::Gt,
            _ => Cond::Ge,
        };
        self.b.branch(cond, x, y, yes, no);
    }

    /// Compare text, the first `limit` bytes of it if there is one.
    #[allow(clippy::too_many_arguments)] // two texts with their lengths, and two ways to go on
    pub fn branch_text(
        &mut self,
        a: &Value,
        la: u32,
        b: &Value,
        lb: u32,
        limit: Option<u32>,
        same: crate::ir::Block,
        other: crate::ir::Block,
    ) {
        // A text of the script is compared byte by byte as it stands, with its end.
        let (text, v, len) = match (&a.at, &b.at) {
            (At::Text(x), At::Text(y)) => {
                let cut = |t: &[u8]| t[..t.len().min(limit.unwrap_or(u32::MAX) as usize)].to_vec();
                let to = if cut(x) == cut(y) { same } else { other };
                return self.b.jump(to);
            }
            (_, At::Text(t)) => (Some(t.clone()), a, la),
            (At::Text(t), _) => (Some(t.clone()), b, lb),
            _ => (None, a, la),
        };
        let ty = v.ty.clone();
        let (base, off) = self.in_memory(v, &ty);
        if let Some(mut text) = text {
            let whole = limit.is_none_or(|n| text.len() < n as usize);
            match limit {
                Some(n) if !whole => text.truncate(n as usize),
                _ => text.push(0),
            }
            // What fills its buffer has no zero byte behind it.
            if text.len() as u32 == len + 1 && text.last() == Some(&0) {
                text.pop();
            }
            if text.len() as u32 > len {
                return self.b.jump(other);
            }
            let mut at = 0;
            while (at as usize) < text.len() {
                let size = chunk(off + at as i32, text.len() as u32 - at);
                let n = size.bytes() as usize;
                let mut word = [0; 8];
                word[..n].copy_from_slice(&text[at as usize..at as usize + n]);
                let x = self.b.load(base, off + at as i32, size);
                let y = i64::from_le_bytes(word);
                self.b.branch_if(Cond::Ne, x, y, other);
                at += n as u32;
            }
            return self.b.jump(same);
        }
        let ty = b.ty.clone();
        let (rb, ob) = self.in_memory(b, &ty);
        let common = la.min(lb);
        if let Some(limit) = limit {
            // Up to the limit, or the end of both.
            for i in 0..common.min(limit) as i32 {
                let x = self.b.load(base, off + i, Size::B1);
                let y = self.b.load(rb, ob + i, Size::B1);
                self.b.branch_if(Cond::Ne, x, y, other);
                self.b.branch_if(Cond::Eq, x, 0, same);
            }
            if limit <= common {
                return self.b.jump(same);
            }
        } else {
            self.branch_bytes((base, off), (rb, ob), common, other);
        }
        // The longer one must end where the shorter one does.
        let rest = match la.cmp(&lb) {
            std::cmp::Ordering::Equal => return self.b.jump(same),
            std::cmp::Ordering::Greater => self.b.load(base, off + common as i32, Size::B1),
            std::cmp::Ordering::Less => self.b.load(rb, ob + common as i32, Size::B1),
        };
        self.b.branch(Cond::Eq, rest, 0, same, other);
    }
}
