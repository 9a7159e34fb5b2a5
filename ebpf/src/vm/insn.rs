//! An interpreter of instructions, stricter than the machine: registers that calls clobber are unusable, stack
//! must be written before it is read, and stack accesses must be aligned.

use super::{Kernel, Trap};
use crate::codegen::Object;
use crate::isa::{Helper, Insn, op};
use crate::kernel::RdonlyCast;

/// A finished run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// What the program returned.
    pub result: u64,
    /// How many instructions ran, counting a helper call as one.
    pub steps: u64,
}

const STACK: usize = 512;

struct Frame {
    regs: [Option<u64>; 10],
    stack: u64,
    back: usize,
}

struct Machine<'a> {
    object: &'a Object,
    kernel: &'a mut Kernel,
    frame: Frame,
    callers: Vec<Frame>,
    pc: usize,
}

/// Run a program on a context at address `ctx`, for `limit` instructions at most.
///
/// # Errors
/// Where the program does what the kernel's verifier would not have let through, or does not come to an end.
pub fn run(object: &Object, kernel: &mut Kernel, ctx: u64, limit: u64) -> Result<Run, Trap> {
    let mut regs = [None; 10];
    regs[1] = Some(ctx);
    let stack = kernel.memory.add_uninitialised(STACK);
    let mut machine = Machine {
        object,
        kernel,
        frame: Frame { regs, stack, back: 0 },
        callers: vec![],
        pc: 0,
    };
    for steps in 1..=limit {
        let at = machine.pc;
        match machine.step() {
            Ok(None) => {}
            Ok(Some(result)) => return Ok(Run { result, steps }),
            Err(what) => {
                return Err(Trap {
                    place: format!("instruction {at}"),
                    what,
                });
            }
        }
    }
    Err(Trap {
        place: format!("instruction {}", machine.pc),
        what: format!("still running after {limit} instructions"),
    })
}

impl Machine<'_> {
    fn get(&self, reg: u8) -> Result<u64, String> {
        match reg {
            10 => Ok(self.frame.stack + STACK as u64),
            _ => self.frame.regs[usize::from(reg)].ok_or_else(|| format!("r{reg} is not initialised")),
        }
    }

    fn set(&mut self, reg: u8, value: u64) -> Result<(), String> {
        let slot = self.frame.regs.get_mut(usize::from(reg));
        *slot.ok_or("the frame pointer is read-only")? = Some(value);
        Ok(())
    }

    /// `Some` when the program ends.
    fn step(&mut self) -> Result<Option<u64>, String> {
        let insn = *self.object.insns.get(self.pc).ok_or("outside of the program")?;
        self.pc += 1;
        match insn.class() {
            op::LD if insn.is_wide() => self.wide(insn)?,
            op::ALU | op::ALU64 => self.alu(insn)?,
            op::LDX => {
                let (at, size) = self.place(insn, insn.src)?;
                let value = self.kernel.memory.read_number(at, size)?;
                let value = if insn.code & 0xe0 == op::MEMSX {
                    sign_extend(value, size as u32 * 8)
                } else {
                    value
                };
                self.set(insn.dst, value)?;
            }
            op::ST => {
                let (at, size) = self.place(insn, insn.dst)?;
                self.kernel
                    .memory
                    .write_number(at, size, i64::from(insn.imm) as u64)?;
            }
            op::STX if insn.code & 0xe0 == op::ATOMIC => self.atomic(insn)?,
            op::STX => {
                let (at, size) = self.place(insn, insn.dst)?;
                let value = self.get(insn.src)?;
                self.kernel.memory.write_number(at, size, value)?;
            }
            op::JMP | op::JMP32 => return self.jump(insn),
            _ => return Err(format!("unknown operation {:#x}", insn.code)),
        }
        Ok(None)
    }

    fn wide(&mut self, insn: Insn) -> Result<(), String> {
        let at = self.pc - 1;
        let next = *self.object.insns.get(self.pc).ok_or("half an instruction")?;
        self.pc += 1;
        let reloc = self.object.relocs.iter().find(|reloc| reloc.insn == at);
        let value = match reloc {
            Some(reloc) => match reloc.value_off {
                None => self.kernel.handle(reloc.map.0),
                Some(off) => self.kernel.data(reloc.map.0) + u64::from(off),
            },
            None if insn.src != 0 => return Err("a map without a relocation".into()),
            None => (next.imm as u32 as u64) << 32 | insn.imm as u32 as u64,
        };
        self.set(insn.dst, value)
    }

    /// Address and size of a memory access.
    fn place(&self, insn: Insn, base: u8) -> Result<(u64, usize), String> {
        let size = match insn.code & 0x18 {
            op::B => 1,
            op::H => 2,
            op::W => 4,
            _ => 8,
        };
        let at = self.get(base)?.wrapping_add(insn.off as i64 as u64);
        let in_stack = |frame: &Frame| (frame.stack..frame.stack + STACK as u64).contains(&at);
        if at % size != 0 && (in_stack(&self.frame) || self.callers.iter().any(in_stack)) {
            return Err("unaligned access to the stack".into());
        }
        Ok((at, size as usize))
    }

    fn alu(&mut self, insn: Insn) -> Result<(), String> {
        let wide = insn.class() == op::ALU64;
        let code = insn.code & 0xf0;
        let by_register = insn.code & op::X != 0;
        if code == op::END {
            let value = self.get(insn.dst)?;
            let bits = insn.imm as u32;
            let low = if bits == 64 {
                value
            } else {
                value & ((1 << bits) - 1)
            };
            let swapped = low.swap_bytes() >> (64 - bits);
            return self.set(insn.dst, if wide || by_register { swapped } else { low });
        }
        let b = if by_register {
            self.get(insn.src)?
        } else {
            i64::from(insn.imm) as u64
        };
        if matches!(code, op::DIV | op::MOD) && !by_register && insn.imm == 0 {
            return Err("division by a zero immediate".into());
        }
        if matches!(code, op::LSH | op::RSH | op::ARSH)
            && !by_register
            && !(0..if wide { 64 } else { 32 }).contains(&insn.imm)
        {
            return Err("shift by an immediate that is too large".into());
        }
        let value = if code == op::MOV {
            match insn.off {
                0 => b,
                bits => sign_extend(b, bits as u32),
            }
        } else {
            let a = self.get(insn.dst)?;
            let signed = insn.off == 1;
            if wide {
                arithmetic64(code, signed, a, b)
            } else {
                u64::from(arithmetic32(code, signed, a as u32, b as u32))
            }
        };
        self.set(insn.dst, if wide { value } else { u64::from(value as u32) })
    }

    fn atomic(&mut self, insn: Insn) -> Result<(), String> {
        let (at, size) = self.place(insn, insn.dst)?;
        if at % size as u64 != 0 {
            return Err("unaligned atomic access".into());
        }
        let old = self.kernel.memory.read_number(at, size)?;
        let src = self.get(insn.src)?;
        let new = match insn.imm & 0xf0 {
            0xe0 => src,
            n if n == i32::from(op::ADD) => old.wrapping_add(src),
            n if n == i32::from(op::AND) => old & src,
            n if n == i32::from(op::OR) => old | src,
            n if n == i32::from(op::XOR) => old ^ src,
            _ => return Err(format!("unknown atomic operation {:#x}", insn.imm)),
        };
        self.kernel.memory.write_number(at, size, new)?;
        if insn.imm & op::FETCH != 0 {
            self.set(insn.src, old)?;
        }
        Ok(())
    }

    fn jump(&mut self, insn: Insn) -> Result<Option<u64>, String> {
        match insn.code & 0xf0 {
            op::EXIT => {
                let result = self.get(0)?;
                self.kernel.memory.remove(self.frame.stack);
                let Some(mut caller) = self.callers.pop() else {
                    if self.kernel.leaks_records() {
                        return Err("a reserved record is neither submitted nor discarded".into());
                    }
                    return Ok(Some(result));
                };
                caller.regs[0] = Some(result);
                self.pc = self.frame.back;
                self.frame = caller;
                Ok(None)
            }
            op::CALL => self.call(insn).map(|()| None),
            // Never out of patience.
            op::JCOND => Ok(None),
            op::JA => self.go(insn),
            code => {
                let wide = insn.class() == op::JMP;
                let a = self.get(insn.dst)?;
                let b = if insn.code & op::X != 0 {
                    self.get(insn.src)?
                } else {
                    i64::from(insn.imm) as u64
                };
                let (a, b, sa, sb) = if wide {
                    (a, b, a as i64, b as i64)
                } else {
                    let (a, b) = (a as u32, b as u32);
                    (a.into(), b.into(), (a as i32).into(), (b as i32).into())
                };
                let taken = match code {
                    op::JEQ => a == b,
                    op::JNE => a != b,
                    op::JGT => a > b,
                    op::JGE => a >= b,
                    op::JLT => a < b,
                    op::JLE => a <= b,
                    op::JSGT => sa > sb,
                    op::JSGE => sa >= sb,
                    op::JSLT => sa < sb,
                    op::JSLE => sa <= sb,
                    op::JSET => a & b != 0,
                    _ => return Err(format!("unknown jump {:#x}", insn.code)),
                };
                if taken { self.go(insn) } else { Ok(None) }
            }
        }
    }

    fn go(&mut self, insn: Insn) -> Result<Option<u64>, String> {
        self.pc = self
            .pc
            .checked_add_signed(insn.off.into())
            .ok_or("jump out of the program")?;
        Ok(None)
    }

    fn call(&mut self, insn: Insn) -> Result<(), String> {
        if insn.src == op::PSEUDO_CALL {
            let back = self.pc;
            self.pc = self
                .pc
                .checked_add_signed(insn.imm as isize)
                .ok_or("call out of the program")?;
            let mut regs = [None; 10];
            regs[1..6].copy_from_slice(&self.frame.regs[1..6]);
            let stack = self.kernel.memory.add_uninitialised(STACK);
            let callee = Frame { regs, stack, back };
            let mut caller = std::mem::replace(&mut self.frame, callee);
            caller.regs[..6].fill(None);
            self.callers.push(caller);
            return Ok(());
        }
        if insn.src == op::PSEUDO_KFUNC_CALL {
            let cast = self
                .kernel
                .rdonly_cast
                .filter(|cast| cast.function == insn.imm as u32);
            let at = self.get(1)?;
            if cast.map(|cast| u64::from(cast.bytes)) != Some(self.get(2)?) {
                return Err(format!("unknown function {} of the kernel", insn.imm));
            }
            self.kernel.memory.cast(at, RdonlyCast::BYTES as usize);
            self.frame.regs[..6].fill(None);
            return self.set(0, at);
        }
        let helper = Helper::from_id(insn.imm).ok_or_else(|| format!("unknown helper {}", insn.imm))?;
        let mut args = [0; 5];
        for (i, arg) in args.iter_mut().enumerate().take(helper.signature().args.len()) {
            *arg = self.get(i as u8 + 1)?;
        }
        let result = self.kernel.call(helper, args)?;
        self.frame.regs[..6].fill(None);
        self.set(0, result)
    }
}

/// The low `bits` as a signed number.
pub(super) fn sign_extend(value: u64, bits: u32) -> u64 {
    let shift = 64 - bits;
    (((value << shift) as i64) >> shift) as u64
}

fn arithmetic64(code: u8, signed: bool, a: u64, b: u64) -> u64 {
    match (code, signed) {
        (op::ADD, _) => a.wrapping_add(b),
        (op::SUB, _) => a.wrapping_sub(b),
        (op::MUL, _) => a.wrapping_mul(b),
        (op::DIV | op::MOD, _) if b == 0 => {
            if code == op::DIV {
                0
            } else {
                a
            }
        }
        (op::DIV, false) => a / b,
        (op::MOD, false) => a % b,
        (op::DIV, true) => (a as i64).wrapping_div(b as i64) as u64,
        (op::MOD, true) => (a as i64).wrapping_rem(b as i64) as u64,
        (op::OR, _) => a | b,
        (op::AND, _) => a & b,
        (op::XOR, _) => a ^ b,
        (op::LSH, _) => a.wrapping_shl(b as u32),
        (op::RSH, _) => a.wrapping_shr(b as u32),
        (op::ARSH, _) => (a as i64).wrapping_shr(b as u32) as u64,
        (op::NEG, _) => a.wrapping_neg(),
        _ => b,
    }
}

fn arithmetic32(code: u8, signed: bool, a: u32, b: u32) -> u32 {
    match (code, signed) {
        (op::LSH, _) => a.wrapping_shl(b),
        (op::RSH, _) => a.wrapping_shr(b),
        (op::ARSH, _) => (a as i32).wrapping_shr(b) as u32,
        (op::DIV, true) if b != 0 => (a as i32).wrapping_div(b as i32) as u32,
        (op::MOD, true) if b != 0 => (a as i32).wrapping_rem(b as i32) as u32,
        _ => arithmetic64(code, false, a.into(), b.into()) as u32,
    }
}
