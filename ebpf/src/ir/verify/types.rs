//! The types of operands and results.

use super::*;

pub fn check(c: &mut Checker<'_>) {
    for (b, block) in c.func.blocks.iter().enumerate() {
        for (i, inst) in block.insts.iter().enumerate() {
            c.at = (b, i);
            if let Err(message) = operation(c, &inst.op) {
                c.fail(message);
            }
        }
        c.at = (b, block.insts.len());
        if let Some(term) = &block.term
            && let Err(message) = terminator(c, term)
        {
            c.fail(message);
        }
    }
    for param in &c.func.params {
        if !matches!(
            c.type_of(*param),
            Type::Int | Type::Ctx | Type::Stack | Type::MapValue { .. } | Type::Kernel { .. } | Type::User
        ) {
            let message = format!(
                "{param} is a parameter, which can't be {}",
                c.name(c.type_of(*param))
            );
            c.at = (0, 0);
            c.fail(message);
        }
    }
}

type Found = Result<(), String>;

/// A number to the kernel's verifier.
pub fn scalar(ty: Type) -> bool {
    matches!(ty, Type::Int | Type::User | Type::Kernel { direct: false })
}

/// Memory that may be read, and written.
pub fn memory(ty: Type) -> bool {
    matches!(ty, Type::Stack | Type::MapValue { .. } | Type::Record { .. }) && !ty.nullable()
}

impl Checker<'_> {
    fn expect(&self, reg: Reg, what: &str, fits: impl Fn(Type) -> bool) -> Found {
        let ty = self.type_of(reg);
        if fits(ty) {
            return Ok(());
        }
        let hint = if ty.nullable() { " without a check" } else { "" };
        Err(format!("{reg} is {}{hint}, not {what}", self.name(ty)))
    }

    pub fn expect_scalar(&self, reg: Reg) -> Found {
        self.expect(reg, "a number", scalar)
    }

    fn operand_scalar(&self, operand: Operand) -> Found {
        match operand {
            Operand::Reg(r) => self.expect_scalar(r),
            Operand::Imm(_) => Ok(()),
        }
    }
}

fn operation(c: &Checker<'_>, op: &Op) -> Found {
    match *op {
        Op::Mov { dst, src } => mov(c, dst, src),
        Op::Bin { op, width, dst, a, b } => binary(c, op, width, dst, a, b),
        Op::Neg { dst, src, .. } | Op::Swap { dst, src, .. } | Op::Extend { dst, src, .. } => {
            c.expect_scalar(src)?;
            c.expect_scalar(dst)
        }
        Op::Load {
            dst, base, off, size, ..
        } => {
            c.expect(base, "memory that plain loads may read", |ty| {
                memory(ty) || ty == Type::Ctx
            })?;
            if c.type_of(base) == Type::Ctx && (off < 0 || off % size.bytes() as i32 != 0) {
                return Err(format!(
                    "the context is read at offset {off}: negative or not aligned"
                ));
            }
            c.expect_scalar(dst)
        }
        Op::Store { base, src, size, .. } => {
            c.expect(base, "memory that may be written", memory)?;
            match src {
                Operand::Reg(r) if c.type_of(r) == Type::Kernel { direct: true } => {
                    if size == Size::B8 {
                        Ok(())
                    } else {
                        Err("a pointer is stored whole".into())
                    }
                }
                src => c.operand_scalar(src),
            }
        }
        Op::Atomic {
            base,
            src,
            size,
            fetch,
            ..
        } => {
            c.expect(base, "memory that may be written", memory)?;
            if !matches!(size, Size::B4 | Size::B8) {
                return Err("atomic operations work on 4 or 8 bytes".into());
            }
            c.expect_scalar(src)?;
            fetch.map_or(Ok(()), |dst| c.expect_scalar(dst))
        }
        Op::SlotAddr { dst, slot, off } => {
            let size = c.func.slots[slot.0 as usize].size;
            if off > size {
                return Err(format!("offset {off} is outside of a slot of {size} bytes"));
            }
            c.expect(dst, "a stack address", |ty| ty == Type::Stack)
        }
        Op::MapAddr { dst, .. } => {
            c.expect(dst, "a map", |ty| ty == Type::Map)?;
            if c.written_once(dst) {
                Ok(())
            } else {
                Err(format!("{dst} is written more than once: it must stay one map"))
            }
        }
        Op::MapData { dst, map, off } => map_data(c, dst, map, off),
        Op::Ctx { dst } => {
            with_context(c, "context")?;
            c.expect(dst, "the context", |ty| ty == Type::Ctx)
        }
        Op::Arg { dst, index } => argument(c, dst, index),
        Op::AtReturn { dst } | Op::Kept { dst } => {
            session(c)?;
            c.expect_scalar(dst)
        }
        Op::Keep { src } => {
            session(c)?;
            c.operand_scalar(src)
        }
        Op::KernelLoad { dst, base, size, .. } => {
            c.expect(base, "a kernel address", |ty| matches!(ty, Type::Kernel { .. }))?;
            match c.type_of(dst) {
                Type::Kernel { direct: true } => {
                    let direct = c.type_of(base) == Type::Kernel { direct: true };
                    if !direct || size != Size::B8 {
                        return Err(format!(
                            "{dst} is direct: only 8 bytes loaded through a direct pointer are"
                        ));
                    }
                    Ok(())
                }
                _ => c.expect_scalar(dst),
            }
        }
        Op::KernelRead {
            slot,
            slot_off,
            base,
            len,
            ..
        } => {
            let size = c.func.slots[slot.0 as usize].size;
            if len == 0 || slot_off.checked_add(len).is_none_or(|end| end > size) {
                return Err(format!("{len} bytes at offset {slot_off} of a slot of {size}"));
            }
            c.expect(base, "a kernel address", |ty| matches!(ty, Type::Kernel { .. }))
        }
        Op::PacketOpen { dst, start } => {
            c.expect(dst, "a packet", |ty| ty == Type::Packet)?;
            c.expect(start, "where a packet can start", |ty| {
                scalar(ty) || memory(ty) || matches!(ty, Type::Kernel { .. } | Type::Ctx)
            })
        }
        Op::PacketLoad { dst, packet, off, .. } => {
            c.expect(packet, "a packet", |ty| ty == Type::Packet)?;
            c.operand_scalar(off)?;
            c.expect_scalar(dst)
        }
        Op::Call {
            dst,
            helper,
            ref args,
        } => calls::helper(c, dst, helper, args),
        Op::Each { dst, map, func } => calls::each(c, dst, map, func),
        Op::CallFn { dst, func, ref args } => calls::function(c, dst, func, args),
    }
}

fn session(c: &Checker<'_>) -> Found {
    match c.program.kind {
        ProgramKind::Kprobe | ProgramKind::Tracing | ProgramKind::TracingMulti => Ok(()),
        _ => Err("only a kprobe or tracing program sees both moments of a call".into()),
    }
}

fn with_context(c: &Checker<'_>, what: &str) -> Found {
    let handed_over = c.func.params.first().map(|first| c.type_of(*first)) == Some(Type::Ctx);
    if c.index == 0 || handed_over {
        Ok(())
    } else {
        Err(format!(
            "only the entry function has the {what}: hand the context over as the first argument"
        ))
    }
}

/// Whether a value of type `from` may become one of type `to`.
pub fn converts(from: Type, to: Type) -> bool {
    from == to
        // Numbers are numbers; a direct pointer may be forgotten to be one.
        // The context's address is one of the kernel's, to be read through helpers.
        || (scalar(to) && (scalar(from) || matches!(from, Type::Kernel { direct: true } | Type::Ctx)))
}

fn mov(c: &Checker<'_>, dst: Reg, src: Operand) -> Found {
    let to = c.type_of(dst);
    if matches!(to, Type::Map | Type::Packet) {
        return Err(format!("{} can't be moved", c.name(to)));
    }
    match src {
        Operand::Imm(_) => c.expect_scalar(dst),
        Operand::Reg(src) if converts(c.type_of(src), to) => Ok(()),
        // The program's own memory has an address, too.
        Operand::Reg(src) if scalar(to) && memory(c.type_of(src)) => Ok(()),
        Operand::Reg(src) => Err(format!(
            "{src} is {}, {dst} {}",
            c.name(c.type_of(src)),
            c.name(to)
        )),
    }
}

fn binary(c: &Checker<'_>, op: BinOp, width: Width, dst: Reg, a: Reg, b: Operand) -> Found {
    let ty = c.type_of(a);
    if scalar(ty) {
        c.operand_scalar(b)?;
        return c.expect_scalar(dst);
    }
    c.expect(a, "a number or an address", |ty| {
        memory(ty) || ty == Type::Kernel { direct: true }
    })?;
    if !matches!(op, BinOp::Add | BinOp::Sub) || width != Width::W64 {
        return Err(format!(
            "{a} is {}: arithmetic on it is 64-bit addition and subtraction",
            c.name(ty)
        ));
    }
    if ty == (Type::Kernel { direct: true }) && !matches!(b, Operand::Imm(_)) {
        return Err(format!("{a} is direct: only constants may be added"));
    }
    if let Operand::Reg(b) = b {
        c.expect(b, "a number", |ty| ty == Type::Int)?;
    }
    c.expect(dst, &c.name(ty), |to| to == ty)
}

fn map_data(c: &Checker<'_>, dst: Reg, map: MapRef, off: u32) -> Found {
    let decl = &c.program.maps[map.0 as usize];
    if decl.kind != MapKind::Array || decl.max_entries != 1 {
        return Err("only an array of one entry has an address of its own".into());
    }
    if off >= decl.value_size {
        return Err(format!(
            "offset {off} is outside of a value of {} bytes",
            decl.value_size
        ));
    }
    let ty = Type::MapValue { map, nullable: false };
    c.expect(dst, &c.name(ty), |to| to == ty)
}

fn argument(c: &Checker<'_>, dst: Reg, index: u8) -> Found {
    with_context(c, "arguments")?;
    let kind = c.program.kind;
    if !matches!(
        kind,
        ProgramKind::Kprobe | ProgramKind::Tracing | ProgramKind::TracingMulti | ProgramKind::RawTracepoint
    ) {
        return Err("this kind of program has no arguments".into());
    }
    // The kernel's most: `MAX_BPF_FUNC_ARGS`.
    if index >= 12 {
        return Err(format!("argument {index}: there are 12 at most"));
    }
    match c.type_of(dst) {
        Type::Kernel { direct: true } if kind != ProgramKind::Tracing => {
            Err("only fentry, fexit and tp_btf programs have direct pointers as arguments".into())
        }
        Type::Kernel { .. } => Ok(()),
        _ => c.expect_scalar(dst),
    }
}

fn terminator(c: &Checker<'_>, term: &Term) -> Found {
    match *term {
        Term::Jump(_) => Ok(()),
        Term::Branch {
            cond, width, a, b, ..
        } => {
            let ty = c.type_of(a);
            if scalar(ty) {
                return c.operand_scalar(b);
            }
            let equality = matches!(cond, Cond::Eq | Cond::Ne) && width == Width::W64;
            if !equality {
                return Err(format!(
                    "{a} is {}: compare it for equality, 64 bits wide",
                    c.name(ty)
                ));
            }
            match b {
                Operand::Imm(0) => Ok(()),
                Operand::Imm(_) => Err(format!("{a} is {}: the only constant is 0", c.name(ty))),
                Operand::Reg(r) if c.type_of(r) == ty => Ok(()),
                Operand::Reg(r) => Err(format!("{a} is {}, {r} {}", c.name(ty), c.name(c.type_of(r)))),
            }
        }
        Term::NullCheck { ptr, dst, .. } => {
            let ty = c.type_of(ptr);
            if !ty.nullable() {
                return Err(format!("{ptr} is {}, which is never null", c.name(ty)));
            }
            let ty = ty.non_null();
            c.expect(dst, &c.name(ty), |to| to == ty)
        }
        Term::Return(value) => c.operand_scalar(value),
    }
}
