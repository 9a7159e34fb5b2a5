//! IR to text.

use std::fmt::{self, Display, Formatter};

use super::*;

impl Display for Operand {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Operand::Reg(r) => write!(f, "{r}"),
            Operand::Imm(value) => write!(f, "{value}"),
        }
    }
}

impl Display for Reg {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

impl Display for Block {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "b{}", self.0)
    }
}

impl Display for Program {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "program {} {}", self.name, name_of(&KINDS, self.kind))?;
        for map in &self.maps {
            writeln!(
                f,
                "map {} {} key {} value {} entries {}",
                map.name,
                name_of(&MAP_KINDS, map.kind),
                map.key_size,
                map.value_size,
                map.max_entries
            )?;
        }
        for (index, func) in self.functions.iter().enumerate() {
            writeln!(f)?;
            self.function(index, func, f)?;
        }
        Ok(())
    }
}

impl Program {
    /// A map as text: by name where that says which.
    pub(in crate::ir) fn map(&self, map: MapRef) -> String {
        let name = self.maps.get(map.0 as usize).map(|decl| &decl.name);
        match name {
            Some(name) if self.maps.iter().filter(|decl| decl.name == *name).count() == 1 => {
                format!("@{name}")
            }
            _ => format!("@{}", map.0),
        }
    }

    pub(in crate::ir) fn type_text(&self, ty: Type) -> String {
        let question = if ty.nullable() { "?" } else { "" };
        match ty {
            Type::Int => "int".into(),
            Type::Ctx => "ctx".into(),
            Type::Stack => "stack".into(),
            Type::Map => "map".into(),
            Type::MapValue { map, .. } => format!("value{question} {}", self.map(map)),
            Type::Record { size, .. } => format!("record{question} {size}"),
            Type::Kernel { direct: false } => "kernel".into(),
            Type::Kernel { direct: true } => "kernel direct".into(),
            Type::User => "user".into(),
            Type::Packet => "packet".into(),
        }
    }

    fn function(&self, index: usize, func: &Function, f: &mut Formatter<'_>) -> fmt::Result {
        let params: Vec<String> = func.params.iter().map(Reg::to_string).collect();
        let lean = if func.lean { "lean " } else { "" };
        writeln!(f, "fn {index} {}({}) {lean}{{", func.name, params.join(", "))?;
        // One line a type, in order of first use.
        let mut types: Vec<Type> = vec![];
        for ty in &func.regs {
            if !types.contains(ty) {
                types.push(*ty);
            }
        }
        for ty in types {
            write!(f, "  {}", self.type_text(ty))?;
            for (r, _) in func.regs.iter().enumerate().filter(|(_, t)| **t == ty) {
                write!(f, " %{r}")?;
            }
            writeln!(f)?;
        }
        for (i, slot) in func.slots.iter().enumerate() {
            writeln!(f, "  slot ${i} {} align {}", slot.size, slot.align)?;
        }
        for (i, block) in func.blocks.iter().enumerate() {
            match block.bound {
                None => writeln!(f, "b{i}:")?,
                Some(bound) => writeln!(f, "b{i}: loop {} else {}", bound.max, bound.exhausted)?,
            }
            for inst in &block.insts {
                self.line(&self.op_text(&inst.op), inst.span, f)?;
            }
            if let Some(term) = &block.term {
                self.line(&term.to_string(), block.term_span, f)?;
            }
        }
        writeln!(f, "}}")
    }

    fn line(&self, text: &str, span: Span, f: &mut Formatter<'_>) -> fmt::Result {
        match span {
            Span::NONE => writeln!(f, "  {text}"),
            Span { start, end } => writeln!(f, "  {text}           !{start}..{end}"),
        }
    }

    /// An operation as text.
    pub fn op_text(&self, op: &Op) -> String {
        match op {
            Op::Mov { dst, src } => format!("{dst} = {src}"),
            Op::Bin { op, width, dst, a, b } => {
                format!("{dst} = {}{} {a}, {b}", name_of(&BINARY, *op), suffix(*width))
            }
            Op::Neg { width, dst, src } => format!("{dst} = neg{} {src}", suffix(*width)),
            Op::Swap { size, dst, src } => format!("{dst} = swap.u{} {src}", bits(*size)),
            Op::Extend {
                size,
                signed,
                dst,
                src,
            } => format!("{dst} = extend.{}{} {src}", sign(*signed), bits(*size)),
            Op::Load {
                dst,
                base,
                off,
                size,
                signed,
            } => format!(
                "{dst} = load.{}{} {}",
                sign(*signed),
                bits(*size),
                place(*base, *off)
            ),
            Op::Store { base, off, src, size } => {
                format!("store.u{} {}, {src}", bits(*size), place(*base, *off))
            }
            Op::Atomic {
                op,
                base,
                off,
                src,
                size,
                fetch,
            } => {
                let text = format!(
                    "atomic.u{} {} {}, {src}",
                    bits(*size),
                    name_of(&ATOMICS, *op),
                    place(*base, *off)
                );
                result(*fetch, text)
            }
            Op::SlotAddr { dst, slot, off } => format!("{dst} = addr ${} + {off}", slot.0),
            Op::MapAddr { dst, map } => format!("{dst} = map {}", self.map(*map)),
            Op::MapData { dst, map, off } => format!("{dst} = data {} + {off}", self.map(*map)),
            Op::Ctx { dst } => format!("{dst} = ctx"),
            Op::Arg { dst, index } => format!("{dst} = arg {index}"),
            Op::AtReturn { dst } => format!("{dst} = at_return"),
            Op::Kept { dst } => format!("{dst} = kept"),
            Op::Keep { src } => format!("keep {src}"),
            Op::KernelLoad {
                dst,
                base,
                off,
                size,
                signed,
            } => format!(
                "{dst} = kload.{}{} {}",
                sign(*signed),
                bits(*size),
                place(*base, *off)
            ),
            Op::KernelRead {
                slot,
                slot_off,
                base,
                off,
                len,
            } => format!("kread ${} + {slot_off}, {}, {len}", slot.0, place(*base, *off)),
            Op::PacketOpen { dst, start } => format!("{dst} = packet {start}"),
            Op::PacketLoad {
                dst,
                packet,
                off,
                size,
                swap,
            } => {
                let order = if *swap { "be" } else { "u" };
                format!("{dst} = pload.{order}{} {packet}[{off}]", bits(*size))
            }
            Op::Call { dst, helper, args } => result(*dst, format!("call {}({})", helper.name(), list(args))),
            Op::Each { dst, map, func } => result(*dst, format!("each {} {}", self.map(*map), func.0)),
            Op::CallFn { dst, func, args } => result(*dst, format!("fn {}({})", func.0, list(args))),
        }
    }
}

impl Display for Term {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Term::Jump(to) => write!(f, "jump {to}"),
            Term::Branch {
                cond,
                width,
                a,
                b,
                then,
                otherwise,
            } => write!(
                f,
                "if{} {} {a}, {b} then {then} else {otherwise}",
                suffix(*width),
                name_of(&CONDITIONS, *cond)
            ),
            Term::NullCheck { ptr, dst, some, none } => {
                write!(f, "nonnull {dst} = {ptr} then {some} else {none}")
            }
            Term::Return(value) => write!(f, "ret {value}"),
        }
    }
}

fn suffix(width: Width) -> &'static str {
    match width {
        Width::W32 => ".32",
        Width::W64 => "",
    }
}

fn bits(size: Size) -> u32 {
    size.bytes() * 8
}

fn sign(signed: bool) -> char {
    if signed { 's' } else { 'u' }
}

fn place(base: Reg, off: i32) -> String {
    let sign = if off < 0 { '-' } else { '+' };
    format!("[{base} {sign} {}]", off.unsigned_abs())
}

fn result(dst: Option<Reg>, text: String) -> String {
    match dst {
        Some(dst) => format!("{dst} = {text}"),
        None => text,
    }
}

fn list(args: &[Operand]) -> String {
    let args: Vec<String> = args.iter().map(Operand::to_string).collect();
    args.join(", ")
}
