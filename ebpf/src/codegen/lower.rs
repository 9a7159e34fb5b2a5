//! IR to [`mir`](super::mir): every operation becomes what the machine has.
//!
//! Virtual registers of the IR keep their numbers; what lowering needs beside them comes after. Blocks keep their
//! numbers too, and three kinds are added: the prologue, the preheaders and bodies of bounded loops, and the
//! blocks on the edges of null checks.
//!
//! Deliberately absent: anything about where in the frame a slot is, and machine registers.

mod arithmetic;

use std::collections::{BTreeMap, BTreeSet};

use super::mir::*;
use super::{Error, Options, PacketAccess, arch, loads, placement::Placement, width};
use crate::ir::{
    self, AtomicOp, BinOp, Cfg, Cond, Function, MapKind, Op, Operand, Program, ProgramKind, Reg, Size, Slot,
    Span, Term, Width,
};
use crate::isa::{Helper, op};
use crate::kernel::{RdonlyCast, Session};

/// The map of per-CPU scratch, when some area is there.
pub const SCRATCH_MAP: u32 = u32::MAX;
/// The map that holds one zero that the kernel's verifier does not know to be zero.
pub const ZERO_MAP: u32 = u32::MAX - 1;

/// The state of lowering one function.
pub struct Lower<'a> {
    pub program: &'a Program,
    pub ir: &'a Function,
    pub options: &'a Options<'a>,
    pub out: Mfunc,
    /// The instructions of the current block.
    pub insts: Vec<Minst>,
    pub span: Span,
    /// The program's context, in the entry function.
    pub ctx: Option<V>,
    /// How often each register of the IR is written.
    writes: Vec<u32>,
    /// How many low bits of each register of the IR may be set.
    widths: Vec<u32>,
    /// Constant addresses by register.
    addresses: BTreeMap<Reg, (Slot, u32)>,
    /// Constant maps by register.
    maps: BTreeMap<Reg, (ir::MapRef, Option<u32>)>,
    place: &'a Placement,
    /// Frame of each area that is on the stack.
    area_frames: Vec<Option<Frame>>,
    /// The address of per-CPU scratch.
    scratch: Option<V>,
    pub packets: BTreeMap<Reg, loads::Window>,
    /// Where packets start as memory that plain loads may read.
    pub packet_casts: BTreeMap<Reg, V>,
    pub temps: loads::Temps,
    pub reads: loads::Reads,
}

/// Lower function `index` of `program`.
pub fn lower(
    program: &Program,
    index: usize,
    options: &Options<'_>,
    place: &Placement,
    windows: BTreeMap<Reg, loads::Window>,
) -> Result<Mfunc, Error> {
    let func = &program.functions[index];
    let mut lower = Lower {
        program,
        ir: func,
        options,
        out: Mfunc {
            params: func.params.iter().map(|r| Param::V(V(r.0))).collect(),
            entry: B(func.blocks.len() as u32),
            blocks: vec![],
            frames: vec![],
            fixed: BTreeSet::new(),
            vregs: func.regs.len() as u32,
            // What is stored may be one number with what stays in a register: see [`Mop::Copy`] about older kernels.
            lean: func.lean && options.features.cpu_v4,
        },
        insts: vec![],
        span: Span::NONE,
        ctx: None,
        writes: func.count_writes(),
        widths: width::of_registers(func),
        addresses: BTreeMap::new(),
        maps: BTreeMap::new(),
        place,
        area_frames: vec![],
        scratch: None,
        packets: windows,
        packet_casts: BTreeMap::new(),
        temps: loads::Temps::new(place.fixed_bytes),
        reads: loads::Reads::default(),
    };
    lower.find_constant_addresses();
    lower.run(index == 0)?;
    Ok(lower.out)
}

/// A block that is not lowered yet.
fn placeholder() -> Mblock {
    Mblock {
        insts: vec![],
        term: Mterm::Return(Arg::Imm(0)),
        term_span: Span::NONE,
    }
}

impl Lower<'_> {
    fn run(&mut self, entry: bool) -> Result<(), Error> {
        for area in 0..self.place.areas.len() {
            let decl = self.place.areas[area].decl;
            let frame = (!self.place.in_scratch(area)).then(|| self.out.frame(decl.size, decl.align));
            // A packet that is opened in one place has a window that is written there only.
            let opened_once = |(packet, window): (&Reg, &loads::Window)| {
                window.area == area && self.writes[packet.0 as usize] == 1
            };
            if self.packets.iter().any(opened_once) {
                self.out.fixed.extend(frame);
            }
            self.area_frames.push(frame);
        }
        // The IR's blocks by number, then the prologue.
        let prologue = self.out.entry;
        self.out.blocks.resize_with(self.ir.blocks.len() + 1, placeholder);
        if entry {
            let ctx = self.out.vreg();
            self.ctx = Some(ctx);
            self.out.params = vec![Param::V(ctx)];
        } else if let Some(first) = self.ir.params.first()
            && self.ir.type_of(*first) == ir::Type::Ctx
        {
            self.ctx = Some(V(first.0));
        }

        let cfg = self.ir.cfg();
        let loops = self.open_loops(&cfg);
        for &b in &cfg.rpo {
            self.block(b, &cfg, &loops)?;
        }
        self.prologue(prologue, &loops);
        Ok(())
    }

    /// Find registers that hold one address, or one map, all their life.
    fn find_constant_addresses(&mut self) {
        for inst in self.ir.blocks.iter().flat_map(|block| &block.insts) {
            match inst.op {
                Op::SlotAddr { dst, slot, off } if self.writes[dst.0 as usize] == 1 => {
                    self.addresses.insert(dst, (slot, off));
                }
                Op::MapAddr { dst, map } if self.writes[dst.0 as usize] == 1 => {
                    self.maps.insert(dst, (map, None));
                }
                Op::MapData { dst, map, off } if self.writes[dst.0 as usize] == 1 => {
                    self.maps.insert(dst, (map, Some(off)));
                }
                _ => {}
            }
        }
    }

    /// Look up scratch, then go to the function's first block.
    fn prologue(&mut self, block: B, loops: &Loops) {
        self.span = Span::NONE;
        let first = loops.target(None, 0);
        let Some(scratch) = self.scratch else {
            self.finish_block(block, Mterm::Jump(first));
            return;
        };
        let key = self.out.frame(4, 4);
        self.push(Mop::Store {
            base: Base::Frame(key),
            off: 0,
            src: Src::Imm(0),
            size: Size::B4,
        });
        self.push(Mop::Call {
            callee: Callee::Helper(Helper::MapLookupElem),
            args: vec![Arg::Map(ir::MapRef(SCRATCH_MAP), None), Arg::Frame(key, 0)],
            dst: Some(scratch),
        });
        let none = self.new_block();
        self.finish_block(
            block,
            Mterm::Branch {
                code: op::JEQ,
                wide: true,
                a: scratch,
                b: Src::Imm(0),
                then: none,
                otherwise: first,
            },
        );
        self.finish_block(none, Mterm::Return(Arg::Imm(0)));
    }

    fn block(&mut self, b: usize, cfg: &Cfg, loops: &Loops) -> Result<(), Error> {
        let data = &self.ir.blocks[b];
        self.loop_guard(b, cfg, loops);
        self.reads = loads::Reads::plan(self.ir, data);
        for (i, inst) in data.insts.iter().enumerate() {
            self.span = inst.span;
            self.operation(i, &inst.op)?;
        }
        self.temps.free_all();
        self.span = data.term_span;
        let term = match data.term.as_ref() {
            None => return Err(self.invalid("a block without a terminator")),
            Some(Term::Jump(to)) => Mterm::Jump(loops.target(Some((b, cfg)), to.0)),
            Some(&Term::Branch {
                cond,
                width,
                a,
                b: operand,
                then,
                otherwise,
            }) => {
                let wide = width == Width::W64;
                let src = self.src(operand, wide);
                Mterm::Branch {
                    code: jump_code(cond),
                    wide,
                    a: V(a.0),
                    b: src,
                    then: loops.target(Some((b, cfg)), then.0),
                    otherwise: loops.target(Some((b, cfg)), otherwise.0),
                }
            }
            Some(&Term::NullCheck { ptr, dst, some, none }) => {
                let edge = self.new_block();
                let some = loops.target(Some((b, cfg)), some.0);
                self.out.blocks[edge.index()] = Mblock {
                    insts: vec![Minst {
                        op: Mop::Mov {
                            dst: V(dst.0),
                            src: V(ptr.0),
                        },
                        span: data.term_span,
                    }],
                    term: Mterm::Jump(some),
                    term_span: data.term_span,
                };
                Mterm::Branch {
                    code: op::JEQ,
                    wide: true,
                    a: V(ptr.0),
                    b: Src::Imm(0),
                    then: loops.target(Some((b, cfg)), none.0),
                    otherwise: edge,
                }
            }
            Some(Term::Return(Operand::Imm(value))) => Mterm::Return(Arg::Imm(*value)),
            Some(Term::Return(Operand::Reg(r))) => Mterm::Return(Arg::V(V(r.0))),
        };
        let place = loops.bodies.get(&b).copied().unwrap_or(B(b as u32));
        self.finish_block(place, term);
        Ok(())
    }

    // Loops.

    /// Make a preheader and a body for each loop header.
    fn open_loops(&mut self, cfg: &Cfg) -> Loops {
        let mut loops = Loops::default();
        for &(from, header) in &cfg.back_edges {
            if self.ir.blocks[header].bound.is_some()
                && cfg.dominates(header, from)
                && !loops.bodies.contains_key(&header)
            {
                let counter = self.out.vreg();
                let (preheader, body) = (self.new_block(), self.new_block());
                loops.preheaders.insert(header, preheader);
                loops.bodies.insert(header, body);
                loops.counters.insert(header, counter);
            }
        }
        loops
    }

    /// The guard of a bounded loop. The block with the header's number becomes the guard.
    fn loop_guard(&mut self, header: usize, cfg: &Cfg, loops: &Loops) {
        let Some(&counter) = loops.counters.get(&header) else {
            return;
        };
        let Some(bound) = self.ir.blocks[header].bound else {
            return;
        };
        self.span = self.ir.blocks[header].term_span;
        let exhausted = loops.target(Some((header, cfg)), bound.exhausted.0);
        let may_goto = self.options.features.may_goto && bound.max > ir::LoopBound::WALKED;
        let preheader = loops.preheaders[&header];
        if may_goto {
            // A counter that the verifier doesn't know, or it would follow every round all the same.
            self.push(Mop::Map {
                dst: counter,
                map: ir::MapRef(ZERO_MAP),
                value_off: Some(0),
            });
            self.push(Mop::Load {
                dst: counter,
                base: Base::V(counter),
                off: 0,
                size: Size::B8,
                signed: false,
            });
        } else {
            self.push(Mop::Const {
                dst: counter,
                value: 0,
            });
        }
        self.finish_block(preheader, Mterm::Jump(B(header as u32)));

        let mut guard = B(header as u32);
        if may_goto {
            let next = self.new_block();
            self.finish_block(guard, Mterm::MayGoto { exhausted, next });
            guard = next;
        }
        let count = self.new_block();
        let src = self.src(Operand::Imm(bound.max.into()), true);
        self.finish_block(
            guard,
            Mterm::Branch {
                code: op::JGE,
                wide: true,
                a: counter,
                b: src,
                then: exhausted,
                otherwise: count,
            },
        );
        self.alu(op::ADD, true, counter, Src::Imm(1));
        self.finish_block(count, Mterm::Jump(loops.bodies[&header]));
    }

    // Building.

    pub fn new_block(&mut self) -> B {
        self.out.blocks.push(placeholder());
        B(self.out.blocks.len() as u32 - 1)
    }

    fn finish_block(&mut self, block: B, term: Mterm) {
        self.out.blocks[block.index()] = Mblock {
            insts: std::mem::take(&mut self.insts),
            term,
            term_span: self.span,
        };
    }

    pub fn push(&mut self, op: Mop) {
        self.insts.push(Minst { op, span: self.span });
    }

    pub fn mov(&mut self, dst: V, src: V) {
        if dst != src {
            self.push(Mop::Mov { dst, src });
        }
    }

    /// See [`Mop::Copy`].
    pub fn copy(&mut self, dst: V, src: V) {
        if dst != src {
            let narrow = self.widths.get(src.index()).is_some_and(|&bits| bits <= 32);
            self.push(Mop::Copy { dst, src, narrow });
        }
    }

    /// `dst = dst code src`, but for what changes nothing.
    pub fn alu(&mut self, code: u8, wide: bool, dst: V, src: Src) {
        if wide
            && src == Src::Imm(0)
            && matches!(code, op::ADD | op::SUB | op::OR | op::XOR | op::LSH | op::RSH)
        {
            return;
        }
        self.push(Mop::Alu {
            code,
            signed: false,
            wide,
            dst,
            src,
        });
    }

    /// An operand of an instruction: immediates that don't fit get a register.
    pub fn src(&mut self, operand: Operand, wide: bool) -> Src {
        match operand {
            Operand::Reg(r) => Src::V(V(r.0)),
            Operand::Imm(value) => match i32::try_from(value) {
                Ok(value) => Src::Imm(value),
                // 32-bit operations look at the low half only.
                Err(_) if !wide => Src::Imm(value as i32),
                Err(_) => {
                    let dst = self.out.vreg();
                    self.push(Mop::Const { dst, value });
                    Src::V(dst)
                }
            },
        }
    }

    /// `base + off` as an instruction can have it.
    pub fn base(&mut self, base: Base, off: i32) -> (Base, i32) {
        if i16::try_from(off).is_ok() {
            return (base, off);
        }
        let dst = self.out.vreg();
        match base {
            Base::V(src) => self.mov(dst, src),
            Base::Frame(frame) => self.push(Mop::FrameAddr { dst, frame, off: 0 }),
        }
        self.alu(op::ADD, true, dst, Src::Imm(off));
        (Base::V(dst), 0)
    }

    /// Where an area is: on the stack or in scratch.
    pub fn area(&mut self, area: usize, off: i32) -> (Base, i32) {
        match self.area_frames[area] {
            Some(frame) => (Base::Frame(frame), off),
            None => {
                let scratch = match self.scratch {
                    Some(v) => v,
                    None => *self.scratch.insert(self.out.vreg()),
                };
                (Base::V(scratch), self.place.scratch_offset(area) + off)
            }
        }
    }

    /// The address of a byte of an area, as an argument of a call.
    pub fn area_arg(&mut self, area: usize, off: i32) -> Arg {
        match self.area(area, off) {
            (Base::Frame(frame), off) => Arg::Frame(frame, off),
            (Base::V(scratch), off) => {
                let dst = self.out.vreg();
                self.mov(dst, scratch);
                self.alu(op::ADD, true, dst, Src::Imm(off));
                Arg::V(dst)
            }
        }
    }

    /// What a memory access is relative to, for a register of the IR.
    fn memory(&mut self, base: Reg, off: i32) -> (Base, i32) {
        match self.addresses.get(&base) {
            Some(&(slot, at)) => {
                let (base, off) = self.area(slot.0 as usize, at as i32 + off);
                self.base(base, off)
            }
            None => self.base(Base::V(V(base.0)), off),
        }
    }

    pub fn arg(&mut self, operand: Operand) -> Arg {
        match operand {
            Operand::Imm(value) => Arg::Imm(value),
            Operand::Reg(r) => {
                if let Some(&(slot, at)) = self.addresses.get(&r) {
                    self.area_arg(slot.0 as usize, at as i32)
                } else if let Some(&(map, off)) = self.maps.get(&r) {
                    Arg::Map(map, off)
                } else {
                    Arg::V(V(r.0))
                }
            }
        }
    }

    pub fn invalid(&self, message: &str) -> Error {
        Error::Invalid {
            func: self.ir.name.clone(),
            place: String::new(),
            message: message.into(),
            span: self.span,
        }
    }

    pub fn unsupported(&self, what: &str, needs: &str) -> Error {
        Error::Unsupported {
            what: what.into(),
            needs: needs.into(),
            span: self.span,
        }
    }

    pub fn context(&self) -> Result<V, Error> {
        self.ctx
            .ok_or_else(|| self.invalid("only a function that is handed the context has it"))
    }

    fn session(&self) -> Result<Session, Error> {
        let session = self.options.features.session;
        session.ok_or_else(|| {
            self.unsupported("a program for entry and return", "kprobe sessions (Linux 6.10+)")
        })
    }

    /// Call one of a session's functions. Some take the context (7.0+), the others don't mind.
    fn session_call(&mut self, function: u32, dst: V) -> Result<(), Error> {
        let ctx = self.context()?;
        self.push(Mop::Call {
            callee: Callee::Kfunc(function),
            args: vec![Arg::V(ctx)],
            dst: Some(dst),
        });
        Ok(())
    }

    // Operations.

    fn operation(&mut self, at: usize, operation: &Op) -> Result<(), Error> {
        match *operation {
            Op::Mov { dst, src } => match src {
                Operand::Reg(src) if self.is_number(dst) && self.is_followed(src) => {
                    self.mov(V(dst.0), V(src.0));
                    self.scrub(V(dst.0));
                }
                Operand::Reg(src) if self.is_number(src) => self.copy(V(dst.0), V(src.0)),
                Operand::Reg(src) => self.mov(V(dst.0), V(src.0)),
                Operand::Imm(value) => self.push(Mop::Const { dst: V(dst.0), value }),
            },
            Op::Bin { op, width, dst, a, b } => self.binary(op, width == Width::W64, V(dst.0), V(a.0), b),
            Op::Neg { width, dst, src } => {
                self.mov(V(dst.0), V(src.0));
                self.push(Mop::Neg {
                    wide: width == Width::W64,
                    dst: V(dst.0),
                });
            }
            Op::Swap { size, dst, src } => {
                self.mov(V(dst.0), V(src.0));
                self.swap(V(dst.0), size);
            }
            Op::Extend {
                size,
                signed,
                dst,
                src,
            } => self.extend(V(dst.0), V(src.0), size, signed),
            Op::Load {
                dst,
                base,
                off,
                size,
                signed,
            } => {
                let from_ctx = self.ir.regs[base.0 as usize] == ir::Type::Ctx;
                let (base, off) = self.memory(base, off);
                self.load(V(dst.0), base, off, size, signed, !from_ctx);
            }
            Op::Store { base, off, src, size } => {
                let to_stack = self.ir.type_of(base) == ir::Type::Stack;
                let (base, off) = self.memory(base, off);
                let src = match src {
                    // A load would find a pointer there, where the front end expects a number.
                    Operand::Reg(r) if to_stack && self.is_direct(r) => {
                        let number = self.out.vreg();
                        self.mov(number, V(r.0));
                        self.scrub(number);
                        Src::V(number)
                    }
                    src => self.src(src, size == Size::B8),
                };
                self.push(Mop::Store { base, off, src, size });
            }
            Op::Atomic {
                op,
                base,
                off,
                src,
                size,
                fetch,
            } => {
                let (base, off) = self.memory(base, off);
                self.atomic(op, base, off, V(src.0), size, fetch.map(|r| V(r.0)))?;
            }
            Op::SlotAddr { dst, slot, off } => match self.area(slot.0 as usize, off as i32) {
                (Base::Frame(frame), off) => self.push(Mop::FrameAddr {
                    dst: V(dst.0),
                    frame,
                    off,
                }),
                (Base::V(scratch), off) => {
                    self.mov(V(dst.0), scratch);
                    self.alu(op::ADD, true, V(dst.0), Src::Imm(off));
                }
            },
            Op::MapAddr { dst, map } => self.push(Mop::Map {
                dst: V(dst.0),
                map,
                value_off: None,
            }),
            Op::MapData { dst, map, off } => {
                if self.program.maps[map.0 as usize].kind != MapKind::Array {
                    return Err(self.invalid("only an array map's value has an address of its own"));
                }
                self.push(Mop::Map {
                    dst: V(dst.0),
                    map,
                    value_off: Some(off),
                });
            }
            Op::Ctx { dst } => {
                let ctx = self.context()?;
                self.mov(V(dst.0), ctx);
            }
            Op::AtReturn { dst } => {
                let session = self.session()?;
                self.session_call(session.is_return, V(dst.0))?;
                // A `bool`, of which the lowest byte counts.
                self.extend(V(dst.0), V(dst.0), Size::B1, false);
            }
            Op::Kept { dst } => {
                let session = self.session()?;
                let cookie = self.out.vreg();
                self.session_call(session.cookie, cookie)?;
                self.load(V(dst.0), Base::V(cookie), 0, Size::B8, false, false);
            }
            Op::Keep { src } => {
                let session = self.session()?;
                let cookie = self.out.vreg();
                self.session_call(session.cookie, cookie)?;
                let src = self.src(src, true);
                self.push(Mop::Store {
                    base: Base::V(cookie),
                    off: 0,
                    src,
                    size: Size::B8,
                });
            }
            Op::Arg { dst, index } => {
                self.argument(V(dst.0), index)?;
                if self.program.kind == ProgramKind::Tracing && self.wants_number(dst) {
                    self.scrub(V(dst.0));
                }
            }
            Op::KernelLoad {
                dst,
                base,
                off,
                size,
                signed,
            } => self.kernel_load(at, dst, base, off, size, signed),
            Op::KernelRead {
                slot,
                slot_off,
                base,
                off,
                len,
            } => {
                let to = self.area_arg(slot.0 as usize, slot_off as i32);
                self.probe_read(to, len, V(base.0), off);
            }
            Op::PacketOpen { dst, start } => self.packet_open(dst, start),
            Op::PacketLoad {
                dst,
                packet,
                off,
                size,
                swap,
            } => self.packet_load(V(dst.0), packet, off, size, swap)?,
            Op::Call {
                dst,
                helper,
                ref args,
            } => {
                let args = args.iter().map(|arg| self.arg(*arg)).collect();
                self.push(Mop::Call {
                    callee: Callee::Helper(helper),
                    args,
                    dst: dst.map(|r| V(r.0)),
                });
                // Before 6.4 these were called as functions that return an `int`, which leaves the upper half of a
                // negative result zero. Kernels with cpu v4 are newer than that.
                if let Some(dst) = dst
                    && matches!(helper, Helper::MapUpdateElem | Helper::MapDeleteElem)
                    && !self.options.features.cpu_v4
                {
                    self.extend(V(dst.0), V(dst.0), Size::B4, true);
                }
            }
            Op::Each { dst, map, func } => {
                let args = vec![Arg::Map(map, None), Arg::Func(func), Arg::Imm(0), Arg::Imm(0)];
                self.push(Mop::Call {
                    callee: Callee::Helper(Helper::ForEachMapElem),
                    args,
                    dst: dst.map(|r| V(r.0)),
                });
            }
            Op::CallFn { dst, func, ref args } => {
                let args = args.iter().map(|arg| self.arg(*arg)).collect();
                self.push(Mop::Call {
                    callee: Callee::Func(func),
                    args,
                    dst: dst.map(|r| V(r.0)),
                });
            }
        }
        Ok(())
    }

    /// True if the kernel's verifier takes what is in it for a number.
    fn is_number(&self, reg: Reg) -> bool {
        matches!(
            self.ir.type_of(reg),
            ir::Type::Int | ir::Type::Kernel { direct: false } | ir::Type::User
        )
    }

    /// True if the kernel's verifier follows what it points to. (The context's address is only added to.)
    fn is_followed(&self, reg: Reg) -> bool {
        !self.is_number(reg) && self.ir.type_of(reg) != ir::Type::Ctx
    }

    pub fn is_direct(&self, reg: Reg) -> bool {
        self.ir.type_of(reg) == ir::Type::Kernel { direct: true }
    }

    /// True if the IR treats what a direct pointer's load or an argument gives as a number, though it is an
    /// address: then the kernel's verifier must do so, too.
    pub fn wants_number(&self, dst: Reg) -> bool {
        matches!(
            self.ir.type_of(dst),
            ir::Type::Kernel { direct: false } | ir::Type::User
        )
    }

    /// Make the kernel's verifier forget that a register holds a pointer: it would refuse most arithmetic. Of all
    /// operations it lets negation pass, and calls the result a number.
    pub fn scrub(&mut self, v: V) {
        self.push(Mop::Neg { wide: true, dst: v });
        self.push(Mop::Neg { wide: true, dst: v });
    }

    /// A plain load. `extending`: the machine may extend the sign itself, where it can.
    pub fn load(&mut self, dst: V, base: Base, off: i32, size: Size, signed: bool, extending: bool) {
        let signed = signed && size != Size::B8;
        let native = extending && self.options.features.cpu_v4;
        self.push(Mop::Load {
            dst,
            base,
            off,
            size,
            signed: signed && native,
        });
        if signed && !native {
            self.extend(dst, dst, size, true);
        }
    }

    fn atomic(
        &mut self,
        atomic: AtomicOp,
        base: Base,
        off: i32,
        src: V,
        size: Size,
        fetch: Option<V>,
    ) -> Result<(), Error> {
        let code = match atomic {
            AtomicOp::Add => op::ADD.into(),
            AtomicOp::And => op::AND.into(),
            AtomicOp::Or => op::OR.into(),
            AtomicOp::Xor => op::XOR.into(),
            AtomicOp::Xchg => op::XCHG,
        };
        let plain = atomic == AtomicOp::Add && fetch.is_none();
        if !plain && !self.options.features.atomic_fetch {
            return Err(self.unsupported(
                "an atomic operation that is not a plain addition",
                "atomic instructions (kernel 5.12)",
            ));
        }
        if fetch.is_none() && atomic != AtomicOp::Xchg {
            self.push(Mop::Atomic {
                code,
                base,
                off,
                src,
                size,
            });
            return Ok(());
        }
        let old = self.out.vreg();
        self.mov(old, src);
        self.push(Mop::Atomic {
            code: code | op::FETCH,
            base,
            off,
            src: old,
            size,
        });
        if let Some(fetch) = fetch {
            self.mov(fetch, old);
        }
        Ok(())
    }

    fn argument(&mut self, dst: V, index: u8) -> Result<(), Error> {
        let ctx = self.context()?;
        let off = match self.program.kind {
            ProgramKind::Kprobe => {
                let arch = self.options.features.arch;
                arch::argument_offset(arch, index).ok_or_else(|| {
                    self.unsupported(
                        &format!("argument {index} of a kprobe"),
                        "an argument that is passed in a register",
                    )
                })?
            }
            // The context is the kernel's memory, too, and so are the arguments in it. Read as such they are there where
            // it has no prototype, and where the kernel refuses a tracepoint with fewer arguments than the program
            // reads on any of its ways. (The first argument each has.)
            ProgramKind::TracingMulti | ProgramKind::RawTracepoint
                if self.options.features.rdonly_cast.is_some()
                    && 8 * (u32::from(index) + 1) <= RdonlyCast::BYTES
                    && (index > 0 || self.program.kind == ProgramKind::TracingMulti) =>
            {
                let cast = self.out.vreg();
                self.cast(cast, ctx);
                self.load(dst, Base::V(cast), 8 * i32::from(index), Size::B8, false, true);
                return Ok(());
            }
            ProgramKind::Tracing | ProgramKind::RawTracepoint => 8 * i32::from(index),
            ProgramKind::TracingMulti => {
                let temp = self.temps.take(&mut self.out, 8);
                self.push(Mop::Store {
                    base: Base::Frame(temp),
                    off: 0,
                    src: Src::Imm(0),
                    size: Size::B8,
                });
                self.push(Mop::Call {
                    callee: Callee::Helper(Helper::GetFuncArg),
                    args: vec![Arg::V(ctx), Arg::Imm(index.into()), Arg::Frame(temp, 0)],
                    dst: None,
                });
                self.load(dst, Base::Frame(temp), 0, Size::B8, false, false);
                self.temps.give_back(temp);
                return Ok(());
            }
            ProgramKind::Tracepoint | ProgramKind::PerfEvent | ProgramKind::SchedCls => {
                return Err(self.unsupported("a function's argument", "a program that traces a function"));
            }
        };
        self.load(dst, Base::V(ctx), off, Size::B8, false, false);
        Ok(())
    }

    /// True where `packet` is reached by [`PacketAccess::KernelRead`] and so on.
    pub fn packet_access(&self) -> PacketAccess {
        self.options.packet
    }
}

fn jump_code(cond: Cond) -> u8 {
    match cond {
        Cond::Eq => op::JEQ,
        Cond::Ne => op::JNE,
        Cond::Lt => op::JLT,
        Cond::Le => op::JLE,
        Cond::Gt => op::JGT,
        Cond::Ge => op::JGE,
        Cond::SLt => op::JSLT,
        Cond::SLe => op::JSLE,
        Cond::SGt => op::JSGT,
        Cond::SGe => op::JSGE,
        Cond::Test => op::JSET,
    }
}

/// The blocks that bounded loops were given, by header.
#[derive(Default)]
struct Loops {
    preheaders: BTreeMap<usize, B>,
    bodies: BTreeMap<usize, B>,
    counters: BTreeMap<usize, V>,
}

impl Loops {
    /// Where an edge from a block (`None`: from outside) to a block of the IR leads.
    fn target(&self, from: Option<(usize, &Cfg)>, to: u32) -> B {
        let header = to as usize;
        match (self.preheaders.get(&header), from) {
            (Some(preheader), None) => *preheader,
            (Some(preheader), Some((from, cfg))) if !cfg.dominates(header, from) => *preheader,
            _ => B(to),
        }
    }
}
