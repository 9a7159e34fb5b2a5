//! Building a [`Function`] block by block.
//!
//! The builder appends to its current block and never fails: what is wrong with the result, [`super::verify`]
//! says. One method an operation that front ends use often; anything else goes through [`Builder::push`].

use super::*;
use crate::isa::Helper;

/// Builds one function.
pub struct Builder {
    func: Function,
    current: Block,
    span: Span,
}

/// A state of a [`Builder`].
#[derive(Debug)]
pub struct Checkpoint {
    regs: usize,
    slots: usize,
    blocks: usize,
    entry: usize,
    current: Block,
    span: Span,
}

impl Builder {
    /// A function with an empty entry block, which is the current one.
    pub fn new(name: &str) -> Builder {
        let func = Function {
            name: name.into(),
            lean: false,
            params: vec![],
            regs: vec![],
            slots: vec![],
            blocks: vec![],
        };
        let mut builder = Builder {
            func,
            current: Block(0),
            span: Span::NONE,
        };
        builder.block();
        builder
    }

    /// The finished function.
    pub fn finish(self) -> Function {
        self.func
    }

    /// The function mostly leaves early ([`Function::lean`]).
    pub fn lean(&mut self) {
        self.func.lean = true;
    }

    /// The function's name.
    pub fn name(&self) -> &str {
        &self.func.name
    }

    /// Operations from here on come from `span`.
    pub fn at(&mut self, span: Span) {
        self.span = span;
    }

    /// Where operations come from now.
    pub fn span(&self) -> Span {
        self.span
    }

    /// A new register.
    pub fn reg(&mut self, ty: Type) -> Reg {
        self.func.regs.push(ty);
        Reg(self.func.regs.len() as u32 - 1)
    }

    /// A new integer register.
    pub fn int(&mut self) -> Reg {
        self.reg(Type::Int)
    }

    /// The type of a register.
    pub fn type_of(&self, reg: Reg) -> Type {
        self.func.regs[reg.0 as usize]
    }

    /// A new register that receives a parameter of the function.
    pub fn param(&mut self, ty: Type) -> Reg {
        let reg = self.reg(ty);
        self.func.params.push(reg);
        reg
    }

    /// A new stack slot.
    pub fn slot(&mut self, size: u32, align: u32) -> Slot {
        self.func.slots.push(SlotDecl { size, align });
        Slot(self.func.slots.len() as u32 - 1)
    }

    /// A new empty block.
    pub fn block(&mut self) -> Block {
        self.func.blocks.push(BlockData {
            insts: vec![],
            term: None,
            term_span: Span::NONE,
            bound: None,
        });
        Block(self.func.blocks.len() as u32 - 1)
    }

    /// Remember what is built so far, to go back to it ([`Builder::rollback`]), and go on in a new block.
    pub fn checkpoint(&mut self) -> Checkpoint {
        let checkpoint = Checkpoint {
            regs: self.func.regs.len(),
            slots: self.func.slots.len(),
            blocks: self.func.blocks.len(),
            entry: self.func.blocks[0].insts.len(),
            current: self.current,
            span: self.span,
        };
        let aside = self.block();
        self.switch_to(aside);
        checkpoint
    }

    /// Forget what was built since the checkpoint. Blocks from before must not have been appended to.
    pub fn rollback(&mut self, checkpoint: Checkpoint) {
        self.func.regs.truncate(checkpoint.regs);
        self.func.slots.truncate(checkpoint.slots);
        self.func.blocks.truncate(checkpoint.blocks);
        // What came to the entry block since then came to its front.
        let entry = &mut self.func.blocks[0].insts;
        entry.drain(..entry.len().saturating_sub(checkpoint.entry));
        self.current = checkpoint.current;
        self.span = checkpoint.span;
    }

    /// Put operations before everything that the function does.
    pub fn at_entry(&mut self, ops: Vec<Op>) {
        let span = self.span;
        let insts = ops.into_iter().map(|op| Inst { op, span });
        self.func.blocks[0].insts.splice(0..0, insts);
    }

    /// How many blocks there are.
    pub fn block_count(&self) -> u32 {
        self.func.blocks.len() as u32
    }

    /// Append to `block` from here on.
    pub fn switch_to(&mut self, block: Block) {
        self.current = block;
    }

    /// The block that is appended to.
    pub fn current(&self) -> Block {
        self.current
    }

    /// True once the current block has its terminator.
    pub fn terminated(&self) -> bool {
        self.func.blocks[self.current.0 as usize].term.is_some()
    }

    /// Make `header` a loop header: see [`LoopBound`].
    pub fn bound(&mut self, header: Block, max: u32, exhausted: Block) {
        self.func.blocks[header.0 as usize].bound = Some(LoopBound { max, exhausted });
    }

    /// Append an operation.
    pub fn push(&mut self, op: Op) {
        let inst = Inst { op, span: self.span };
        self.func.blocks[self.current.0 as usize].insts.push(inst);
    }

    /// End the current block. A block that has ended stays as it is.
    pub fn terminate(&mut self, term: Term) {
        let span = self.span;
        let block = &mut self.func.blocks[self.current.0 as usize];
        if block.term.is_none() {
            block.term = Some(term);
            block.term_span = span;
        }
    }

    /// `dst = src` into a register that exists.
    pub fn mov(&mut self, dst: Reg, src: impl Into<Operand>) {
        let src = src.into();
        self.push(Op::Mov { dst, src });
    }

    /// A constant in a new register.
    pub fn imm(&mut self, value: i64) -> Reg {
        let dst = self.int();
        self.mov(dst, value);
        dst
    }

    /// `a op b` in a new register of `a`'s type.
    pub fn bin(&mut self, op: BinOp, width: Width, a: Reg, b: impl Into<Operand>) -> Reg {
        let dst = self.reg(self.type_of(a));
        let b = b.into();
        self.push(Op::Bin { op, width, dst, a, b });
        dst
    }

    /// `a + b`, 64 bits wide.
    pub fn add(&mut self, a: Reg, b: impl Into<Operand>) -> Reg {
        self.bin(BinOp::Add, Width::W64, a, b)
    }

    /// `a & b`, 64 bits wide.
    pub fn and(&mut self, a: Reg, b: impl Into<Operand>) -> Reg {
        self.bin(BinOp::And, Width::W64, a, b)
    }

    /// Unsigned load from memory that the kernel's verifier knows.
    pub fn load(&mut self, base: Reg, off: i32, size: Size) -> Reg {
        self.load_as(Type::Int, base, off, size)
    }

    /// Load of a pointer of type `ty`.
    pub fn load_as(&mut self, ty: Type, base: Reg, off: i32, size: Size) -> Reg {
        let dst = self.reg(ty);
        self.push(Op::Load {
            dst,
            base,
            off,
            size,
            signed: false,
        });
        dst
    }

    /// Store.
    pub fn store(&mut self, base: Reg, off: i32, src: impl Into<Operand>, size: Size) {
        let src = src.into();
        self.push(Op::Store { base, off, src, size });
    }

    /// The address of a slot.
    pub fn slot_addr(&mut self, slot: Slot) -> Reg {
        let dst = self.reg(Type::Stack);
        self.push(Op::SlotAddr { dst, slot, off: 0 });
        dst
    }

    /// The context.
    pub fn ctx(&mut self) -> Reg {
        let dst = self.reg(Type::Ctx);
        self.push(Op::Ctx { dst });
        dst
    }

    /// An argument of the traced function, as a `ty`.
    pub fn arg(&mut self, index: u8, ty: Type) -> Reg {
        let dst = self.reg(ty);
        self.push(Op::Arg { dst, index });
        dst
    }

    /// Whether the program sees a call's return, rather than its entry: 1 or 0.
    pub fn at_return(&mut self) -> Reg {
        let dst = self.int();
        self.push(Op::AtReturn { dst });
        dst
    }

    /// What was kept at the entry of the call that returns.
    pub fn kept(&mut self) -> Reg {
        let dst = self.int();
        self.push(Op::Kept { dst });
        dst
    }

    /// Keep a number until the call that is entered returns.
    pub fn keep(&mut self, src: impl Into<Operand>) {
        self.push(Op::Keep { src: src.into() });
    }

    /// A map, to hand to a helper.
    pub fn map(&mut self, map: MapRef) -> Reg {
        let dst = self.reg(Type::Map);
        self.push(Op::MapAddr { dst, map });
        dst
    }

    /// The address of an array map's first value.
    pub fn map_data(&mut self, map: MapRef, off: u32) -> Reg {
        let dst = self.reg(Type::MapValue { map, nullable: false });
        self.push(Op::MapData { dst, map, off });
        dst
    }

    /// Unsigned load from a kernel address.
    pub fn kernel_load(&mut self, base: Reg, off: i32, size: Size) -> Reg {
        let dst = self.int();
        self.push(Op::KernelLoad {
            dst,
            base,
            off,
            size,
            signed: false,
        });
        dst
    }

    /// Load of a pointer from a kernel address; it is as `direct` as its base.
    pub fn kernel_ptr(&mut self, base: Reg, off: i32) -> Reg {
        let dst = self.reg(self.type_of(base));
        self.push(Op::KernelLoad {
            dst,
            base,
            off,
            size: Size::B8,
            signed: false,
        });
        dst
    }

    /// Call a helper for an integer.
    pub fn call(&mut self, helper: Helper, args: Vec<Operand>) -> Reg {
        self.call_as(Type::Int, helper, args)
    }

    /// Call a helper for a pointer of type `ty`.
    pub fn call_as(&mut self, ty: Type, helper: Helper, args: Vec<Operand>) -> Reg {
        let dst = self.reg(ty);
        self.push(Op::Call {
            dst: Some(dst),
            helper,
            args,
        });
        dst
    }

    /// Call a helper for its effect.
    pub fn call_void(&mut self, helper: Helper, args: Vec<Operand>) {
        self.push(Op::Call {
            dst: None,
            helper,
            args,
        });
    }

    /// End the block: go on at `to`.
    pub fn jump(&mut self, to: Block) {
        self.terminate(Term::Jump(to));
    }

    /// End the block: 64-bit comparison.
    pub fn branch(&mut self, cond: Cond, a: Reg, b: impl Into<Operand>, then: Block, otherwise: Block) {
        let b = b.into();
        self.terminate(Term::Branch {
            cond,
            width: Width::W64,
            a,
            b,
            then,
            otherwise,
        });
    }

    /// End the block with a comparison and go on in a new block where it does not hold: `if (a cond b) goto then`.
    pub fn branch_if(&mut self, cond: Cond, a: Reg, b: impl Into<Operand>, then: Block) {
        let next = self.block();
        self.branch(cond, a, b, then, next);
        self.switch_to(next);
    }

    /// End the block with a null check and go on in a new block with the non-null pointer.
    pub fn non_null(&mut self, ptr: Reg, none: Block) -> Reg {
        let dst = self.reg(self.type_of(ptr).non_null());
        let some = self.block();
        self.terminate(Term::NullCheck { ptr, dst, some, none });
        self.switch_to(some);
        dst
    }

    /// End the block: leave the function.
    pub fn ret(&mut self, value: impl Into<Operand>) {
        let value = value.into();
        self.terminate(Term::Return(value));
    }
}
