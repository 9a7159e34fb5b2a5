//! The IR's meaning, executed operation by operation. What code generation makes must do the same.

use super::insn::sign_extend;
use super::{Kernel, Trap};
use crate::codegen::PacketAccess;
use crate::ir::{AtomicOp, BinOp, Cond, Op, Operand, Program, Reg, Size, Term, Width};
use crate::isa::Helper;

/// Run a program on a context at address `ctx`, for `limit` operations and terminators at most. `args` are the
/// arguments of the traced function.
///
/// # Errors
/// Where the program does what the kernel's verifier would not have let through, or does not come to an end.
pub fn run_ir(
    program: &Program,
    packet: PacketAccess,
    kernel: &mut Kernel,
    ctx: u64,
    limit: u64,
) -> Result<u64, Trap> {
    let mut interpreter = Interpreter {
        program,
        packet,
        kernel,
        ctx,
        left: limit,
    };
    let result = interpreter.function(0, &[])?;
    if interpreter.kernel.leaks_records() {
        return Err(Trap {
            place: "the end".into(),
            what: "a reserved record is neither submitted nor discarded".into(),
        });
    }
    Ok(result)
}

struct Interpreter<'a> {
    program: &'a Program,
    packet: PacketAccess,
    kernel: &'a mut Kernel,
    ctx: u64,
    left: u64,
}

struct Frame {
    func: usize,
    regs: Vec<Option<u64>>,
    slots: Vec<u64>,
    /// How often each block was entered since its loop was.
    visits: Vec<u32>,
}

impl Frame {
    fn get(&self, reg: Reg) -> Result<u64, String> {
        self.regs[reg.0 as usize].ok_or_else(|| format!("%{} is not initialised", reg.0))
    }
    fn operand(&self, operand: Operand) -> Result<u64, String> {
        match operand {
            Operand::Reg(reg) => self.get(reg),
            Operand::Imm(value) => Ok(value as u64),
        }
    }
    fn set(&mut self, reg: Reg, value: u64) {
        self.regs[reg.0 as usize] = Some(value);
    }
}

impl Interpreter<'_> {
    fn function(&mut self, func: usize, args: &[u64]) -> Result<u64, Trap> {
        let data = &self.program.functions[func];
        let cfg = data.cfg();
        let mut frame = Frame {
            func,
            regs: vec![None; data.regs.len()],
            slots: vec![],
            visits: vec![0; data.blocks.len()],
        };
        for slot in &data.slots {
            let at = self.kernel.memory.add_uninitialised(slot.size as usize);
            frame.slots.push(at);
        }
        for (param, arg) in data.params.iter().zip(args) {
            frame.set(*param, *arg);
        }
        let mut previous = None;
        let mut block = 0;
        let result = 'run: loop {
            if let Some(bound) = data.blocks[block].bound {
                let entered = previous.is_none_or(|from| !cfg.dominates(block, from));
                if entered {
                    frame.visits[block] = 0;
                }
                if frame.visits[block] >= bound.max {
                    previous = Some(block);
                    block = bound.exhausted.0 as usize;
                    continue;
                }
                frame.visits[block] += 1;
            }
            for (i, inst) in data.blocks[block].insts.iter().enumerate() {
                self.spend(&frame, block, i)?;
                self.operation(&mut frame, &inst.op)?
                    .map_err(|what| trap(data, block, i, what))?;
            }
            let end = data.blocks[block].insts.len();
            self.spend(&frame, block, end)?;
            let to = match self.terminator(&mut frame, data.blocks[block].term.as_ref()) {
                Err(what) => return Err(trap(data, block, end, what)),
                Ok(Err(result)) => break 'run result,
                Ok(Ok(to)) => to,
            };
            previous = Some(block);
            block = to;
        };
        for slot in frame.slots {
            self.kernel.memory.remove(slot);
        }
        Ok(result)
    }

    fn spend(&mut self, frame: &Frame, block: usize, at: usize) -> Result<(), Trap> {
        self.left = self.left.checked_sub(1).ok_or_else(|| {
            let func = &self.program.functions[frame.func];
            trap(func, block, at, "out of operations".into())
        })?;
        Ok(())
    }

    /// The next block, or the result.
    fn terminator(&self, frame: &mut Frame, term: Option<&Term>) -> Result<Result<usize, u64>, String> {
        Ok(match term.ok_or("a block without a terminator")? {
            Term::Jump(to) => Ok(to.0 as usize),
            Term::Branch {
                cond,
                width,
                a,
                b,
                then,
                otherwise,
            } => {
                let holds = compare(*cond, *width, frame.get(*a)?, frame.operand(*b)?);
                Ok(if holds { then.0 } else { otherwise.0 } as usize)
            }
            Term::NullCheck { ptr, dst, some, none } => {
                let value = frame.get(*ptr)?;
                if value == 0 {
                    Ok(none.0 as usize)
                } else {
                    frame.set(*dst, value);
                    Ok(some.0 as usize)
                }
            }
            Term::Return(value) => Err(frame.operand(*value)?),
        })
    }

    /// The outer error is a trap in a called function.
    fn operation(&mut self, frame: &mut Frame, op: &Op) -> Result<Result<(), String>, Trap> {
        if let Op::CallFn { dst, func, args } = op {
            let values: Result<Vec<u64>, String> = args.iter().map(|arg| frame.operand(*arg)).collect();
            return match values {
                Err(what) => Ok(Err(what)),
                Ok(values) => {
                    let result = self.function(func.0 as usize, &values)?;
                    if let Some(dst) = dst {
                        frame.set(*dst, result);
                    }
                    Ok(Ok(()))
                }
            };
        }
        Ok(self.simple(frame, op))
    }

    fn simple(&mut self, frame: &mut Frame, op: &Op) -> Result<(), String> {
        let memory = &mut self.kernel.memory;
        match *op {
            Op::Mov { dst, src } => frame.set(dst, frame.operand(src)?),
            Op::Bin { op, width, dst, a, b } => {
                let value = binary(op, width, frame.get(a)?, frame.operand(b)?);
                frame.set(dst, value);
            }
            Op::Neg { width, dst, src } => {
                let value = frame.get(src)?.wrapping_neg();
                frame.set(dst, narrow(width, value));
            }
            Op::Swap { size, dst, src } => frame.set(dst, swap(frame.get(src)?, size)),
            Op::Extend {
                size,
                signed,
                dst,
                src,
            } => frame.set(dst, extend(frame.get(src)?, size, signed)),
            Op::Load {
                dst,
                base,
                off,
                size,
                signed,
            } => {
                let at = frame.get(base)?.wrapping_add(off as i64 as u64);
                let value = memory.read_number(at, size.bytes() as usize)?;
                frame.set(dst, extend(value, size, signed));
            }
            Op::Store { base, off, src, size } => {
                let at = frame.get(base)?.wrapping_add(off as i64 as u64);
                memory.write_number(at, size.bytes() as usize, frame.operand(src)?)?;
            }
            Op::Atomic {
                op,
                base,
                off,
                src,
                size,
                fetch,
            } => {
                let at = frame.get(base)?.wrapping_add(off as i64 as u64);
                let bytes = size.bytes() as usize;
                let (old, src) = (memory.read_number(at, bytes)?, frame.get(src)?);
                let new = match op {
                    AtomicOp::Add => old.wrapping_add(src),
                    AtomicOp::And => old & src,
                    AtomicOp::Or => old | src,
                    AtomicOp::Xor => old ^ src,
                    AtomicOp::Xchg => src,
                };
                memory.write_number(at, bytes, new)?;
                if let Some(fetch) = fetch {
                    frame.set(fetch, old);
                }
            }
            Op::SlotAddr { dst, slot, off } => {
                let at = frame.slots[slot.0 as usize] + u64::from(off);
                frame.set(dst, at);
            }
            Op::MapAddr { dst, map } => frame.set(dst, self.kernel.handle(map.0)),
            Op::MapData { dst, map, off } => frame.set(dst, self.kernel.data(map.0) + u64::from(off)),
            Op::Ctx { dst } => frame.set(dst, self.ctx),
            Op::AtReturn { .. } | Op::Kept { .. } | Op::Keep { .. } => {
                return Err("sessions are not simulated".into());
            }
            Op::Arg { dst, index } => {
                let value = self.kernel.args.get(usize::from(index)).copied();
                frame.set(dst, value.ok_or("no such argument")?);
            }
            Op::KernelLoad {
                dst,
                base,
                off,
                size,
                signed,
            } => {
                let at = frame.get(base)?.wrapping_add(off as i64 as u64);
                let value = memory
                    .probe(at, size.bytes() as usize)
                    .map_or(0, super::memory::number);
                frame.set(dst, extend(value, size, signed));
            }
            Op::KernelRead {
                slot,
                slot_off,
                base,
                off,
                len,
            } => {
                let from = frame.get(base)?.wrapping_add(off as i64 as u64);
                let to = frame.slots[slot.0 as usize] + u64::from(slot_off);
                self.kernel
                    .call(Helper::ProbeReadKernel, [to, len.into(), from, 0, 0])?;
            }
            Op::PacketOpen { dst, start } => frame.set(dst, frame.get(start)?),
            Op::PacketLoad {
                dst,
                packet,
                off,
                size,
                swap: swapped,
            } => {
                let at = frame.get(packet)?.wrapping_add(frame.operand(off)?);
                let value = self.packet_number(at, size.bytes() as usize)?;
                frame.set(dst, if swapped { swap(value, size) } else { value });
            }
            Op::Call {
                dst,
                helper,
                ref args,
            } => {
                let mut values = [0; 5];
                for (value, arg) in values.iter_mut().zip(args) {
                    *value = frame.operand(*arg)?;
                }
                let result = self.kernel.call(helper, values)?;
                if let Some(dst) = dst {
                    frame.set(dst, result);
                }
            }
            Op::Each { .. } => return Err("visiting a map's entries is not simulated".into()),
            Op::CallFn { .. } => return Err("a call is not simple".into()),
        }
        Ok(())
    }

    fn packet_number(&self, at: u64, len: usize) -> Result<u64, String> {
        match self.packet {
            PacketAccess::Memory => self.kernel.memory.read_number(at, len),
            PacketAccess::KernelRead => {
                let bytes = self.kernel.memory.probe(at, len);
                Ok(bytes.map_or(0, super::memory::number))
            }
            PacketAccess::SkbLoad => {
                let at = at as u32 as usize;
                let bytes = at.checked_add(len).and_then(|end| self.kernel.skb.get(at..end));
                Ok(bytes.map_or(0, super::memory::number))
            }
        }
    }
}

fn trap(func: &crate::ir::Function, block: usize, at: usize, what: String) -> Trap {
    Trap {
        place: format!("{}, block {block}, operation {at}", func.name),
        what,
    }
}

fn narrow(width: Width, value: u64) -> u64 {
    match width {
        Width::W32 => u64::from(value as u32),
        Width::W64 => value,
    }
}

/// The low `size` bytes, extended.
fn extend(value: u64, size: Size, signed: bool) -> u64 {
    let bits = size.bytes() * 8;
    if signed {
        sign_extend(value, bits)
    } else {
        value << (64 - bits) >> (64 - bits)
    }
}

/// The low `size` bytes in reverse order.
fn swap(value: u64, size: Size) -> u64 {
    value.swap_bytes() >> (64 - size.bytes() * 8)
}

/// What a binary operation gives. Code generation folds constants with it, too.
pub(crate) fn binary(op: BinOp, width: Width, a: u64, b: u64) -> u64 {
    let wide = width == Width::W64;
    let (a, b) = (narrow(width, a), narrow(width, b));
    let bits = if wide { 64 } else { 32 };
    let (sa, sb) = (sign_extend(a, bits) as i64, sign_extend(b, bits) as i64);
    let count = b as u32 % bits;
    let value = match op {
        BinOp::Add => a.wrapping_add(b),
        BinOp::Sub => a.wrapping_sub(b),
        BinOp::Mul => a.wrapping_mul(b),
        BinOp::Div => a.checked_div(b).unwrap_or(0),
        BinOp::Mod => a.checked_rem(b).unwrap_or(a),
        BinOp::SDiv if b == 0 => 0,
        BinOp::SDiv => sa.wrapping_div(sb) as u64,
        BinOp::SMod if b == 0 => a,
        BinOp::SMod => sa.wrapping_rem(sb) as u64,
        BinOp::And => a & b,
        BinOp::Or => a | b,
        BinOp::Xor => a ^ b,
        BinOp::Shl => a << count,
        BinOp::Shr => a >> count,
        BinOp::Sar => (sa >> count) as u64,
    };
    narrow(width, value)
}

/// Whether a comparison holds.
pub(crate) fn compare(cond: Cond, width: Width, a: u64, b: u64) -> bool {
    let bits = if width == Width::W64 { 64 } else { 32 };
    let (a, b) = (narrow(width, a), narrow(width, b));
    let (sa, sb) = (sign_extend(a, bits) as i64, sign_extend(b, bits) as i64);
    match cond {
        Cond::Eq => a == b,
        Cond::Ne => a != b,
        Cond::Lt => a < b,
        Cond::Le => a <= b,
        Cond::Gt => a > b,
        Cond::Ge => a >= b,
        Cond::SLt => sa < sb,
        Cond::SLe => sa <= sb,
        Cond::SGt => sa > sb,
        Cond::SGe => sa >= sb,
        Cond::Test => a & b != 0,
    }
}
