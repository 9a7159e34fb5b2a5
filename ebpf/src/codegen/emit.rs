//! Machine code with machine registers to instruction slots: order of blocks, jumps, frame offsets, the moves
//! before calls.

use super::Error;
use super::mir::*;
use crate::ir::{FuncRef, MapRef, Size, Span};
use crate::isa::{Insn, op};

/// The frame pointer.
const FP: u8 = 10;

/// A function's instructions, position-independent but for its calls of other functions.
#[derive(Default)]
pub struct Code {
    pub insns: Vec<Insn>,
    pub spans: Vec<Span>,
    /// Slots of 64-bit immediates that stand for maps.
    pub maps: Vec<(usize, MapRef, Option<u32>)>,
    /// Slots of calls of other functions.
    pub calls: Vec<(usize, FuncRef)>,
}

/// Offsets from the frame pointer, and the size of the frame in bytes.
pub fn frame_layout(frames: &[FrameDecl]) -> (Vec<i32>, u32) {
    let mut order: Vec<usize> = (0..frames.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(frames[i].align));
    let mut offsets = vec![0; frames.len()];
    let mut end = 0u32;
    for i in order {
        end = (end + frames[i].size).next_multiple_of(frames[i].align.max(1));
        offsets[i] = -(end as i32);
    }
    (offsets, end.next_multiple_of(8))
}

/// Shorten jumps: through blocks that only jump on, and to blocks that only return. Branches whose ways meet at
/// once become jumps, after which there may be more to shorten.
pub fn thread_jumps(func: &mut Mfunc) {
    while thread_once(func) {}
}

/// True if a block became one that only jumps on.
fn thread_once(func: &mut Mfunc) -> bool {
    let n = func.blocks.len();
    let mut again = false;
    let resolve = |func: &Mfunc, mut b: B| {
        for _ in 0..n {
            match &func.blocks[b.index()] {
                Mblock {
                    insts,
                    term: Mterm::Jump(to),
                    ..
                } if insts.is_empty() => b = *to,
                _ => break,
            }
        }
        b
    };
    for i in 0..n {
        let new = match func.blocks[i].term.clone() {
            Mterm::Jump(to) => {
                let to = resolve(func, to);
                match &func.blocks[to.index()] {
                    Mblock {
                        insts,
                        term: term @ Mterm::Return(Arg::Imm(_)),
                        ..
                    } if insts.is_empty() => term.clone(),
                    _ => Mterm::Jump(to),
                }
            }
            Mterm::Branch {
                code,
                wide,
                a,
                b,
                then,
                otherwise,
            } => {
                let (then, otherwise) = (resolve(func, then), resolve(func, otherwise));
                if then == otherwise {
                    again |= func.blocks[i].insts.is_empty();
                    Mterm::Jump(then)
                } else {
                    Mterm::Branch {
                        code,
                        wide,
                        a,
                        b,
                        then,
                        otherwise,
                    }
                }
            }
            Mterm::MayGoto { exhausted, next } => Mterm::MayGoto {
                exhausted: resolve(func, exhausted),
                next: resolve(func, next),
            },
            term @ Mterm::Return(_) => term,
        };
        func.blocks[i].term = new;
    }
    again
}

/// Emit a function whose registers are machine registers.
pub fn emit(func: &Mfunc) -> Result<Code, Error> {
    let (offsets, _) = frame_layout(&func.frames);
    let order = func.cfg().rpo;
    let mut emitter = Emitter {
        code: Code::default(),
        offsets,
        span: Span::NONE,
        jumps: vec![],
    };
    emitter.parameters(&func.params);
    let mut starts = vec![usize::MAX; func.blocks.len()];
    for (i, &b) in order.iter().enumerate() {
        starts[b] = emitter.code.insns.len();
        let block = &func.blocks[b];
        for inst in &block.insts {
            emitter.span = inst.span;
            emitter.instruction(&inst.op);
        }
        emitter.span = block.term_span;
        emitter.terminator(&block.term, order.get(i + 1).copied());
    }
    for (at, to) in emitter.jumps {
        let distance = starts[to.index()] as i64 - (at as i64 + 1);
        emitter.code.insns[at].off = i16::try_from(distance).map_err(|_| {
            Error::TooLarge(format!(
                "a jump over {distance} instructions (an instruction has 16 bits for it)"
            ))
        })?;
    }
    Ok(emitter.code)
}

struct Emitter {
    code: Code,
    offsets: Vec<i32>,
    span: Span,
    /// Jumps whose distance is still open.
    jumps: Vec<(usize, B)>,
}

fn reg(v: V) -> u8 {
    v.0 as u8
}

fn size_code(size: Size) -> u8 {
    match size {
        Size::B1 => op::B,
        Size::B2 => op::H,
        Size::B4 => op::W,
        Size::B8 => op::DW,
    }
}

fn alu_class(wide: bool) -> u8 {
    if wide { op::ALU64 } else { op::ALU }
}

impl Emitter {
    fn put(&mut self, code: u8, dst: u8, src: u8, off: i16, imm: i32) {
        self.code.insns.push(Insn {
            code,
            dst,
            src,
            off,
            imm,
        });
        self.code.spans.push(self.span);
    }

    fn mov(&mut self, dst: u8, src: u8) {
        if dst != src {
            self.put(op::ALU64 | op::MOV | op::X, dst, src, 0, 0);
        }
    }

    fn constant(&mut self, dst: u8, value: i64) {
        if let Ok(value) = i32::try_from(value) {
            self.put(op::ALU64 | op::MOV | op::K, dst, 0, 0, value);
        } else if let Ok(value) = u32::try_from(value) {
            // A 32-bit move zeroes the upper half.
            self.put(op::ALU | op::MOV | op::K, dst, 0, 0, value as i32);
        } else {
            self.put(op::LD_IMM64, dst, 0, 0, value as i32);
            self.put(0, 0, 0, 0, (value >> 32) as i32);
        }
    }

    fn map(&mut self, dst: u8, map: MapRef, value_off: Option<u32>) {
        self.code.maps.push((self.code.insns.len(), map, value_off));
        let src = if value_off.is_some() {
            op::PSEUDO_MAP_VALUE
        } else {
            op::PSEUDO_MAP_FD
        };
        self.put(op::LD_IMM64, dst, src, 0, 0);
        self.put(0, 0, 0, 0, value_off.unwrap_or(0) as i32);
    }

    fn frame_address(&mut self, dst: u8, frame: Frame, off: i32) {
        self.mov(dst, FP);
        self.put(
            op::ALU64 | op::ADD | op::K,
            dst,
            0,
            0,
            self.offsets[frame.0 as usize] + off,
        );
    }

    /// Base register and offset. Lowering has made the offset small enough.
    fn place(&self, base: Base, off: i32) -> (u8, i16) {
        match base {
            Base::V(v) => (reg(v), off as i16),
            Base::Frame(frame) => (FP, (self.offsets[frame.0 as usize] + off) as i16),
        }
    }

    fn instruction(&mut self, inst: &Mop) {
        match *inst {
            Mop::Const { dst, value } => self.constant(reg(dst), value),
            Mop::Map { dst, map, value_off } => self.map(reg(dst), map, value_off),
            Mop::FrameAddr { dst, frame, off } => self.frame_address(reg(dst), frame, off),
            Mop::Mov { dst, src } => self.mov(reg(dst), reg(src)),
            Mop::Copy {
                dst,
                src,
                narrow: false,
            } => {
                self.mov(reg(dst), reg(src));
                self.put(op::ALU64 | op::ADD | op::K, reg(dst), 0, 0, 0);
            }
            Mop::Copy { dst, src, .. } | Mop::Mov32 { dst, src } => {
                self.put(op::ALU | op::MOV | op::X, reg(dst), reg(src), 0, 0)
            }
            Mop::MovSx { dst, src, bits } => {
                self.put(op::ALU64 | op::MOV | op::X, reg(dst), reg(src), bits, 0);
            }
            Mop::Alu {
                code,
                signed,
                wide,
                dst,
                src,
            } => {
                let code = alu_class(wide) | code;
                match src {
                    Src::V(src) => self.put(code | op::X, reg(dst), reg(src), signed.into(), 0),
                    Src::Imm(imm) => self.put(code | op::K, reg(dst), 0, signed.into(), imm),
                }
            }
            Mop::Neg { wide, dst } => self.put(alu_class(wide) | op::NEG, reg(dst), 0, 0, 0),
            Mop::Swap { dst, bits } => self.put(op::ALU | op::END | op::TO_BE, reg(dst), 0, 0, bits),
            Mop::Load {
                dst,
                base,
                off,
                size,
                signed,
            } => {
                let (base, off) = self.place(base, off);
                let mode = if signed { op::MEMSX } else { op::MEM };
                self.put(op::LDX | mode | size_code(size), reg(dst), base, off, 0);
            }
            Mop::Store { base, off, src, size } => {
                let (base, off) = self.place(base, off);
                let code = op::MEM | size_code(size);
                match src {
                    Src::V(src) => self.put(op::STX | code, base, reg(src), off, 0),
                    Src::Imm(imm) => self.put(op::ST | code, base, 0, off, imm),
                }
            }
            Mop::Atomic {
                code,
                base,
                off,
                src,
                size,
            } => {
                let (base, off) = self.place(base, off);
                self.put(op::STX | op::ATOMIC | size_code(size), base, reg(src), off, code);
            }
            Mop::Call {
                callee,
                ref args,
                dst,
            } => {
                self.arguments(args);
                match callee {
                    Callee::Helper(helper) => self.put(op::JMP | op::CALL, 0, 0, 0, helper as i32),
                    Callee::Kfunc(id) => {
                        self.put(op::JMP | op::CALL, 0, op::PSEUDO_KFUNC_CALL, 0, id as i32);
                    }
                    Callee::Func(func) => {
                        self.code.calls.push((self.code.insns.len(), func));
                        self.put(op::JMP | op::CALL, 0, op::PSEUDO_CALL, 0, 0);
                    }
                }
                if let Some(dst) = dst {
                    self.mov(reg(dst), 0);
                }
            }
        }
    }

    /// Move arguments to r1 to r5.
    fn arguments(&mut self, args: &[Arg]) {
        let moves = args
            .iter()
            .zip(1u8..)
            .filter_map(|(arg, to)| match arg {
                Arg::V(v) => Some((to, reg(*v))),
                _ => None,
            })
            .collect();
        // r0 to r5 are dead after the call, so any of them that no move needs any more is free.
        for (to, from) in ordered(moves, 0..=5) {
            self.mov(to, from);
        }
        for (arg, to) in args.iter().zip(1u8..) {
            if !matches!(arg, Arg::V(_)) {
                self.fixed(to, *arg);
            }
        }
    }

    /// Put a value into a machine register.
    fn fixed(&mut self, to: u8, arg: Arg) {
        match arg {
            Arg::V(v) => self.mov(to, reg(v)),
            Arg::Imm(value) => self.constant(to, value),
            Arg::Frame(frame, off) => self.frame_address(to, frame, off),
            Arg::Map(map, value_off) => self.map(to, map, value_off),
            Arg::Func(func) => {
                self.code.calls.push((self.code.insns.len(), func));
                self.put(op::LD_IMM64, to, op::PSEUDO_FUNC, 0, 0);
                self.put(0, 0, 0, 0, 0);
            }
            Arg::Spilled(frame) => {
                let (base, off) = self.place(Base::Frame(frame), 0);
                self.put(op::LDX | op::MEM | op::DW, to, base, off, 0);
            }
        }
    }

    /// Move parameters from r1 to r5 to where they live.
    fn parameters(&mut self, params: &[Param]) {
        let mut moves = vec![];
        for (param, from) in params.iter().zip(1u8..) {
            match param {
                Param::V(v) => moves.push((reg(*v), from)),
                Param::Spilled(frame) => {
                    let (base, off) = self.place(Base::Frame(*frame), 0);
                    self.put(op::STX | op::MEM | op::DW, base, from, off, 0);
                }
                Param::Unused => {}
            }
        }
        for (to, from) in ordered(moves, 0..=9) {
            self.mov(to, from);
        }
    }

    fn terminator(&mut self, term: &Mterm, next: Option<usize>) {
        match *term {
            Mterm::Jump(to) => self.jump(to, next),
            Mterm::Branch {
                code,
                wide,
                a,
                b,
                then,
                otherwise,
            } => {
                let (code, then, otherwise) = match inverse(code) {
                    Some(code) if Some(then.index()) == next => (code, otherwise, then),
                    _ => (code, then, otherwise),
                };
                let class = if wide { op::JMP } else { op::JMP32 };
                self.jumps.push((self.code.insns.len(), then));
                match b {
                    Src::V(b) => self.put(class | code | op::X, reg(a), reg(b), 0, 0),
                    Src::Imm(imm) => self.put(class | code | op::K, reg(a), 0, 0, imm),
                }
                self.jump(otherwise, next);
            }
            Mterm::MayGoto { exhausted, next: to } => {
                self.jumps.push((self.code.insns.len(), exhausted));
                self.put(op::JMP | op::JCOND, 0, 0, 0, 0);
                self.jump(to, next);
            }
            Mterm::Return(value) => {
                self.fixed(0, value);
                self.put(op::JMP | op::EXIT, 0, 0, 0, 0);
            }
        }
    }

    fn jump(&mut self, to: B, next: Option<usize>) {
        if Some(to.index()) != next {
            self.jumps.push((self.code.insns.len(), to));
            self.put(op::JMP | op::JA, 0, 0, 0, 0);
        }
    }
}

/// The opposite comparison. There is none of [`op::JSET`].
fn inverse(code: u8) -> Option<u8> {
    Some(match code {
        op::JEQ => op::JNE,
        op::JNE => op::JEQ,
        op::JLT => op::JGE,
        op::JGE => op::JLT,
        op::JGT => op::JLE,
        op::JLE => op::JGT,
        op::JSLT => op::JSGE,
        op::JSGE => op::JSLT,
        op::JSGT => op::JSLE,
        op::JSLE => op::JSGT,
        _ => return None,
    })
}

/// Moves (to, from) that are meant to happen at once, as moves one after the other. A cycle goes through a
/// register of `free` that is neither read nor written by what is left, nor already written.
fn ordered(mut left: Vec<(u8, u8)>, free: std::ops::RangeInclusive<u8>) -> Vec<(u8, u8)> {
    let targets: Vec<u8> = left.iter().map(|(to, _)| *to).collect();
    left.retain(|(to, from)| to != from);
    let mut done = vec![];
    while !left.is_empty() {
        let ready = (0..left.len()).find(|&i| left.iter().all(|(_, from)| *from != left[i].0));
        match ready {
            Some(i) => done.push(left.remove(i)),
            None => {
                let taken = |r: &u8| targets.contains(r) || left.iter().any(|(_, from)| from == r);
                let spare = free
                    .clone()
                    .find(|r| !taken(r))
                    .expect("five moves leave a register free");
                let saved = left[0].0;
                done.push((spare, saved));
                for (_, from) in &mut left {
                    if *from == saved {
                        *from = spare;
                    }
                }
            }
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Run moves on registers that hold their own numbers.
    fn run(moves: &[(u8, u8)], free: std::ops::RangeInclusive<u8>) -> [u8; 10] {
        let mut regs = std::array::from_fn(|i| i as u8);
        for (to, from) in ordered(moves.to_vec(), free) {
            regs[usize::from(to)] = regs[usize::from(from)];
        }
        regs
    }

    #[test]
    fn every_set_of_three_moves_happens_at_once() {
        for code in 0..10u32.pow(3) {
            let from = [code % 10, code / 10 % 10, code / 100].map(|r| r as u8);
            let moves = [(1, from[0]), (2, from[1]), (3, from[2])];
            let regs = run(&moves, 0..=5);
            assert_eq!([regs[1], regs[2], regs[3]], from, "{moves:?}");
            // What calls preserve stays as it is.
            assert_eq!(regs[6..], [6, 7, 8, 9], "{moves:?}");
        }
    }

    #[test]
    fn a_rotation_of_five_takes_one_spare() {
        let moves = [(1, 2), (2, 3), (3, 4), (4, 5), (5, 1)];
        assert_eq!(run(&moves, 0..=5)[1..6], [2, 3, 4, 5, 1]);
        assert_eq!(ordered(moves.to_vec(), 0..=5).len(), 6);
    }

    #[test]
    fn frames_are_aligned_and_apart() {
        let frames = [(3, 1), (8, 8), (4, 4), (20, 8), (2, 2)].map(|(size, align)| FrameDecl { size, align });
        let (offsets, total) = frame_layout(&frames);
        assert!(total <= 48 && total % 8 == 0);
        for (i, a) in frames.iter().enumerate() {
            assert_eq!(offsets[i].rem_euclid(a.align as i32), 0);
            assert!(offsets[i] + a.size as i32 <= 0 && offsets[i] >= -(total as i32));
            for (j, b) in frames.iter().enumerate().take(i) {
                let apart =
                    offsets[i] + a.size as i32 <= offsets[j] || offsets[j] + b.size as i32 <= offsets[i];
                assert!(apart, "{i} and {j} overlap");
            }
        }
    }
}
