//! Accesses at addresses that are known: inside of their object, aligned, and initialised.

use super::*;
use crate::isa::ArgKind;

/// What a register's address is relative to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Root {
    Slot(Slot),
    Value(MapRef),
    Record(u32),
}

/// An address, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Address {
    root: Root,
    off: i64,
}

pub fn check(c: &mut Checker<'_>) {
    let addresses = find_addresses(c);
    for (b, block) in c.func.blocks.iter().enumerate() {
        for (i, inst) in block.insts.iter().enumerate() {
            c.at = (b, i);
            if let Err(message) = bounds(c, &addresses, &inst.op) {
                c.fail(message);
            }
        }
    }
    if c.errors.is_empty() {
        initialised(c, &addresses);
    }
}

/// The addresses of registers that are written once.
fn find_addresses(c: &Checker<'_>) -> Vec<Option<Address>> {
    let mut found: Vec<Option<Address>> = vec![None; c.func.regs.len()];
    // Definitions come before their uses on every path, so in reverse post-order one pass is enough; a loop
    // can't carry the one definition of a register around.
    for &b in &c.cfg.rpo {
        let block = &c.func.blocks[b];
        for inst in &block.insts {
            let Some(dst) = inst.op.dst() else { continue };
            let at = |r: Reg| found[r.0 as usize];
            let address = match inst.op {
                Op::SlotAddr { slot, off, .. } => Some(Address {
                    root: Root::Slot(slot),
                    off: off.into(),
                }),
                Op::MapData { map, off, .. } => Some(Address {
                    root: Root::Value(map),
                    off: off.into(),
                }),
                Op::Mov {
                    src: Operand::Reg(src),
                    ..
                } => at(src),
                Op::Bin {
                    op,
                    a,
                    b: Operand::Imm(by),
                    ..
                } => at(a).and_then(|address| {
                    let by = if op == BinOp::Sub { by.checked_neg()? } else { by };
                    Some(Address {
                        root: address.root,
                        off: address.off.checked_add(by)?,
                    })
                }),
                Op::Call { .. } => match c.type_of(dst) {
                    Type::MapValue { map, .. } => Some(Address {
                        root: Root::Value(map),
                        off: 0,
                    }),
                    Type::Record { size, .. } => Some(Address {
                        root: Root::Record(size),
                        off: 0,
                    }),
                    _ => None,
                },
                _ => None,
            };
            if c.written_once(dst) {
                found[dst.0 as usize] = address;
            }
        }
        if let Some(Term::NullCheck { ptr, dst, .. }) = block.term
            && c.written_once(dst)
        {
            found[dst.0 as usize] = found[ptr.0 as usize];
        }
    }
    found
}

impl Checker<'_> {
    fn object_size(&self, root: Root) -> i64 {
        match root {
            Root::Slot(slot) => self.func.slots[slot.0 as usize].size.into(),
            Root::Value(map) => self.program.maps[map.0 as usize].value_size.into(),
            Root::Record(size) => size.into(),
        }
    }

    fn inside(&self, address: Address, len: i64) -> Result<(), String> {
        let size = self.object_size(address.root);
        let end = address.off.checked_add(len);
        if address.off >= 0 && end.is_some_and(|end| end <= size) {
            return Ok(());
        }
        let what = match address.root {
            Root::Slot(slot) => format!("slot ${}", slot.0),
            Root::Value(map) => format!("a value of {}", self.program.map(map)),
            Root::Record(_) => "a record".into(),
        };
        Err(format!(
            "{len} bytes at offset {} of {what}, which has {size}",
            address.off
        ))
    }
}

/// Addresses by register.
type Addresses = [Option<Address>];

fn bounds(c: &Checker<'_>, addresses: &Addresses, op: &Op) -> Result<(), String> {
    let (base, off, size, atomic) = match *op {
        Op::Load { base, off, size, .. } | Op::Store { base, off, size, .. } => (base, off, size, false),
        Op::Atomic { base, off, size, .. } => (base, off, size, true),
        Op::Call { helper, ref args, .. } => {
            for (at, len) in buffers(c, addresses, helper.signature().args, args) {
                if let Some(len) = len {
                    c.inside(at, len)?;
                }
            }
            return Ok(());
        }
        _ => return Ok(()),
    };
    let Some(mut address) = addresses[base.0 as usize] else {
        return Ok(());
    };
    address.off = address.off.saturating_add(off.into());
    c.inside(address, size.bytes().into())?;
    let on_stack = match address.root {
        Root::Slot(slot) => Some(c.func.slots[slot.0 as usize].align),
        _ => None,
    };
    let bytes = size.bytes();
    if on_stack.is_some_and(|align| align < bytes) {
        return Err(format!("{bytes} bytes of a slot that is aligned to less"));
    }
    if (on_stack.is_some() || atomic) && address.off % i64::from(bytes) != 0 {
        return Err(format!(
            "{bytes} bytes at offset {}, which is not aligned",
            address.off
        ));
    }
    Ok(())
}

/// The buffers that a helper is given, as far as their addresses are known, with their sizes if known.
fn buffers(
    c: &Checker<'_>,
    addresses: &Addresses,
    kinds: &[ArgKind],
    args: &[Operand],
) -> Vec<(Address, Option<i64>)> {
    let map = calls::map_argument(c, args).map(|map| &c.program.maps[map.0 as usize]);
    let mut found = vec![];
    for (i, (kind, arg)) in kinds.iter().zip(args).enumerate() {
        let Operand::Reg(r) = arg else { continue };
        let Some(address) = addresses[r.0 as usize] else {
            continue;
        };
        let len = match kind {
            ArgKind::MapKey => map.map(|map| map.key_size.into()),
            ArgKind::MapValue => map.map(|map| map.value_size.into()),
            ArgKind::U64Out => Some(8),
            ArgKind::MemIn | ArgKind::MemOut => match args.get(i + 1) {
                Some(Operand::Imm(len)) => Some(*len),
                _ => None,
            },
            _ => continue,
        };
        found.push((address, len));
    }
    found
}

/// Forward analysis: the bytes of slots that are written on every path.
fn initialised(c: &mut Checker<'_>, addresses: &Addresses) {
    let exempt = escaped(c, addresses);
    let mut starts = vec![];
    let mut bytes = 0;
    for slot in &c.func.slots {
        starts.push(bytes);
        bytes += slot.size as usize;
    }
    let slots = Slots {
        starts,
        exempt,
        addresses,
    };
    let mut entry: Vec<Option<Bits>> = vec![None; c.func.blocks.len()];
    entry[0] = Some(Bits::none(bytes));
    let mut changed = true;
    while changed {
        changed = false;
        for &b in &c.cfg.rpo {
            let Some(mut state) = entry[b].clone() else {
                continue;
            };
            let block = &c.func.blocks[b];
            if let Some(bound) = block.bound {
                changed |= meet(&mut entry[bound.exhausted.0 as usize], &state);
            }
            for inst in &block.insts {
                let _ = slots.step(c, &inst.op, &mut state);
            }
            for to in block.term.iter().flat_map(Term::successors) {
                changed |= meet(&mut entry[to], &state);
            }
        }
    }
    for b in c.cfg.rpo.clone() {
        let Some(mut state) = entry[b].clone() else {
            continue;
        };
        for (i, inst) in c.func.blocks[b].insts.iter().enumerate() {
            c.at = (b, i);
            if let Err(message) = slots.step(c, &inst.op, &mut state) {
                c.fail(message);
            }
        }
    }
}

/// Slots whose bytes may be written through addresses that are not known.
fn escaped(c: &Checker<'_>, addresses: &Addresses) -> Vec<bool> {
    let mut exempt = vec![false; c.func.slots.len()];
    for inst in c.func.blocks.iter().flat_map(|block| &block.insts) {
        let mut gone = vec![];
        match &inst.op {
            Op::CallFn { .. } | Op::PacketOpen { .. } => inst.op.uses(|r| gone.push(r)),
            // The result is not known, so what it points into may be written.
            Op::Mov { dst, .. } | Op::Bin { dst, .. } if addresses[dst.0 as usize].is_none() => {
                inst.op.uses(|r| gone.push(r));
            }
            Op::SlotAddr { dst, slot, .. } if addresses[dst.0 as usize].is_none() => {
                exempt[slot.0 as usize] = true;
            }
            // How much a helper writes is not known.
            Op::Call { helper, args, .. } => {
                for (kind, pair) in helper.signature().args.iter().zip(args.windows(2)) {
                    if let (ArgKind::MemOut, [Operand::Reg(r), Operand::Reg(_)]) = (kind, pair) {
                        gone.push(*r);
                    }
                }
            }
            _ => {}
        }
        for r in gone {
            if let Some(Address {
                root: Root::Slot(slot),
                ..
            }) = addresses[r.0 as usize]
            {
                exempt[slot.0 as usize] = true;
            }
        }
    }
    exempt
}

struct Slots<'a> {
    /// First byte of each slot.
    starts: Vec<usize>,
    exempt: Vec<bool>,
    addresses: &'a Addresses,
}

impl Slots<'_> {
    /// The bytes of an access, if they are those of a slot that is looked after. Bounds are checked already.
    fn range(&self, base: Reg, off: i64, len: i64) -> Option<std::ops::Range<usize>> {
        let Address {
            root: Root::Slot(slot),
            off: at,
        } = self.addresses[base.0 as usize]?
        else {
            return None;
        };
        if self.exempt[slot.0 as usize] {
            return None;
        }
        let start = self.starts[slot.0 as usize] + usize::try_from(at + off).ok()?;
        Some(start..start + usize::try_from(len).ok()?)
    }

    /// Apply an operation to what is written; an error if it reads what is not.
    fn step(&self, c: &Checker<'_>, op: &Op, state: &mut Bits) -> Result<(), String> {
        let read = |state: &Bits, range: Option<std::ops::Range<usize>>, what: &str| match range {
            Some(range) if !range.clone().all(|i| state.contains(i)) => Err(format!(
                "{what} bytes of the stack that are not written on every path to here"
            )),
            _ => Ok(()),
        };
        match *op {
            Op::Load { base, off, size, .. } => {
                let range = self.range(base, off.into(), size.bytes().into());
                read(state, range, "it reads")
            }
            Op::Atomic { base, off, size, .. } => {
                let range = self.range(base, off.into(), size.bytes().into());
                read(state, range, "it reads")
            }
            Op::Store { base, off, size, .. } => {
                if let Some(range) = self.range(base, off.into(), size.bytes().into()) {
                    state.insert_range(range);
                }
                Ok(())
            }
            Op::KernelRead {
                slot, slot_off, len, ..
            } => {
                let start = self.starts[slot.0 as usize] + slot_off as usize;
                state.insert_range(start..start + len as usize);
                Ok(())
            }
            Op::Call { helper, ref args, .. } => {
                let kinds = helper.signature().args;
                for (i, (kind, arg)) in kinds.iter().zip(args).enumerate() {
                    let Operand::Reg(r) = *arg else { continue };
                    let map = calls::map_argument(c, args).map(|map| &c.program.maps[map.0 as usize]);
                    let len = match (kind, args.get(i + 1)) {
                        (ArgKind::MapKey, _) => map.map(|map| map.key_size.into()),
                        (ArgKind::MapValue, _) => map.map(|map| map.value_size.into()),
                        (ArgKind::U64Out, _) => Some(8),
                        (ArgKind::MemIn | ArgKind::MemOut, Some(Operand::Imm(len))) => Some(*len),
                        _ => None,
                    };
                    let Some(range) = len.and_then(|len| self.range(r, 0, len)) else {
                        continue;
                    };
                    if *kind != ArgKind::MemOut {
                        read(state, Some(range.clone()), &format!("{} reads", helper.name()))?;
                    }
                    if matches!(kind, ArgKind::MemOut | ArgKind::U64Out) {
                        state.insert_range(range);
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
