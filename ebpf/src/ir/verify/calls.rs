//! Calls: helpers' signatures, functions' parameters.

use super::types::{converts, memory, scalar};
use super::*;
use crate::isa::{ArgKind, Helper, RetKind};

type Found = Result<(), String>;

/// Check a helper call's arguments and result.
pub fn helper(c: &Checker<'_>, dst: Option<Reg>, helper: Helper, args: &[Operand]) -> Found {
    let signature = helper.signature();
    if args.len() != signature.args.len() {
        return Err(format!(
            "{} takes {} arguments, not {}",
            helper.name(),
            signature.args.len(),
            args.len()
        ));
    }
    let map = map_argument(c, args);
    for (i, (kind, arg)) in signature.args.iter().zip(args).enumerate() {
        argument(c, *kind, *arg).map_err(|message| format!("argument {i}: {message}"))?;
    }
    if let Some(map) = map {
        map_kind(c, helper, map)?;
    }
    let Some(dst) = dst else {
        return match signature.ret {
            RetKind::RecordOrNull => Err("the record is not kept, so it could not be submitted".into()),
            _ => Ok(()),
        };
    };
    let ty = c.type_of(dst);
    let fits = match signature.ret {
        RetKind::Void => return Err(format!("{} returns nothing", helper.name())),
        RetKind::Int => scalar(ty),
        RetKind::KernelAddr => scalar(ty),
        RetKind::MapValueOrNull => map.is_some_and(|map| ty == Type::MapValue { map, nullable: true }),
        RetKind::RecordOrNull => match args.get(1) {
            Some(&Operand::Imm(size)) => {
                matches!(ty, Type::Record { size: s, nullable: true } if i64::from(s) == size)
            }
            _ => false,
        },
    };
    if fits {
        Ok(())
    } else {
        Err(format!(
            "{dst} is {}, not what {} returns",
            c.name(ty),
            helper.name()
        ))
    }
}

/// The map that a call works on.
pub fn map_argument(c: &Checker<'_>, args: &[Operand]) -> Option<MapRef> {
    args.iter().find_map(|arg| match arg {
        Operand::Reg(r) if c.type_of(*r) == Type::Map => map_of(c.func, *r),
        _ => None,
    })
}

/// The map that a map register stands for: it is written once.
fn map_of(func: &Function, reg: Reg) -> Option<MapRef> {
    let insts = func.blocks.iter().flat_map(|block| &block.insts);
    insts.into_iter().find_map(|inst| match inst.op {
        Op::MapAddr { dst, map } if dst == reg => Some(map),
        _ => None,
    })
}

fn map_kind(c: &Checker<'_>, helper: Helper, map: MapRef) -> Found {
    let kind = c.program.maps[map.0 as usize].kind;
    let fits = match helper {
        Helper::RingbufOutput | Helper::RingbufReserve | Helper::RingbufQuery => kind == MapKind::RingBuf,
        Helper::GetStackid => kind == MapKind::StackTrace,
        _ => !matches!(kind, MapKind::RingBuf | MapKind::StackTrace),
    };
    if fits {
        Ok(())
    } else {
        Err(format!("{} does not work on a map of this type", helper.name()))
    }
}

fn argument(c: &Checker<'_>, kind: ArgKind, arg: Operand) -> Found {
    let ty = match arg {
        Operand::Reg(r) => Some(c.type_of(r)),
        Operand::Imm(_) => None,
    };
    let number = ty.is_none_or(|ty| scalar(ty) || ty == Type::Kernel { direct: true });
    let (fits, wanted) = match kind {
        ArgKind::Int => (number, "a number"),
        ArgKind::KernelAddr => (number, "a kernel address"),
        ArgKind::TypedAddr => (
            ty == Some(Type::Kernel { direct: true }),
            "a kernel address of a known type",
        ),
        ArgKind::UserAddr => (number, "a user address"),
        ArgKind::Ctx => (ty == Some(Type::Ctx), "the context"),
        ArgKind::Map => (ty == Some(Type::Map), "a map"),
        ArgKind::MapKey | ArgKind::MapValue | ArgKind::U64Out => (
            ty.is_some_and(|ty| memory(ty) && !matches!(ty, Type::Record { .. })),
            "an address on the stack or in a map's value",
        ),
        ArgKind::MemIn | ArgKind::MemOut => (ty.is_some_and(memory), "an address of memory"),
        ArgKind::Size => (
            match arg {
                Operand::Imm(size) => size > 0 && size < 1 << 29,
                Operand::Reg(_) => ty == Some(Type::Int),
            },
            "a size of 1 byte at least",
        ),
        ArgKind::SizeOrZero => (
            match arg {
                Operand::Imm(size) => (0..1 << 29).contains(&size),
                Operand::Reg(_) => ty == Some(Type::Int),
            },
            "a size",
        ),
        ArgKind::Const => (matches!(arg, Operand::Imm(size) if size > 0), "a constant"),
        ArgKind::Func => (false, "a function: use `each`"),
        ArgKind::Record => (
            matches!(ty, Some(Type::Record { nullable: false, .. })),
            "a ring record that is not null",
        ),
    };
    if fits {
        return Ok(());
    }
    Err(match ty {
        Some(ty) if ty.nullable() => format!("{arg} is {}, without a check", c.name(ty)),
        Some(ty) => format!("{arg} is {}, not {wanted}", c.name(ty)),
        None => format!("{arg} is not {wanted}"),
    })
}

/// Check a call of a function of the program.
pub fn function(c: &Checker<'_>, dst: Option<Reg>, func: FuncRef, args: &[Operand]) -> Found {
    if func.0 == 0 {
        return Err("the entry function can't be called".into());
    }
    let callee = &c.program.functions[func.0 as usize];
    if args.len() != callee.params.len() {
        return Err(format!(
            "{} takes {} arguments, not {}",
            callee.name,
            callee.params.len(),
            args.len()
        ));
    }
    for (i, (param, arg)) in callee.params.iter().zip(args).enumerate() {
        let to = callee.type_of(*param);
        let (fits, from) = match arg {
            Operand::Imm(_) => (scalar(to), "a number".to_string()),
            Operand::Reg(r) => {
                let from = c.type_of(*r);
                // As it stands in the register: nothing is converted on the way.
                (from == to || scalar(from) && scalar(to), c.name(from))
            }
        };
        if !fits {
            return Err(format!(
                "argument {i}: {arg} is {from}, the parameter {}",
                c.name(to)
            ));
        }
    }
    match dst {
        Some(dst) if !converts(Type::Int, c.type_of(dst)) => Err(format!(
            "{dst} is {}: functions return numbers",
            c.name(c.type_of(dst))
        )),
        _ => Ok(()),
    }
}

/// Check a function that is called for each entry of a map.
pub fn each(c: &Checker<'_>, dst: Option<Reg>, map: MapRef, func: FuncRef) -> Found {
    let kind = c.program.maps[map.0 as usize].kind;
    if matches!(kind, MapKind::RingBuf | MapKind::StackTrace) {
        return Err("a map of this type has no entries to visit".into());
    }
    if func.0 == 0 {
        return Err("the entry function can't be called".into());
    }
    let callee = &c.program.functions[func.0 as usize];
    let types: Vec<Type> = callee.params.iter().map(|r| callee.type_of(*r)).collect();
    let value = Type::MapValue { map, nullable: false };
    if types != [Type::Int, Type::Kernel { direct: false }, value, Type::Int] {
        return Err(format!(
            "{} does not take a number, a key, a value and a number",
            callee.name
        ));
    }
    match dst {
        Some(dst) => c.expect_scalar(dst),
        None => Ok(()),
    }
}
