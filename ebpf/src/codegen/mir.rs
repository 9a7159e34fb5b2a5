//! Machine code over virtual registers: what lowering makes, and what registers are allocated for.
//!
//! Each [`Mop`] is one machine instruction, except for calls (with the moves of their arguments), addresses and
//! wide constants. Arithmetic is two-address, as the machine's. Before register allocation a [`V`] is a virtual
//! register, after it the number of a machine register.

use std::collections::BTreeSet;

use crate::ir::{FuncRef, MapRef, Size, Span};
use crate::isa::Helper;

/// A virtual register; after allocation a machine register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct V(pub u32);

impl V {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A piece of the stack frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frame(pub u32);

/// A block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct B(pub u32);

impl B {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A register or an immediate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Src {
    V(V),
    Imm(i32),
}

/// What a memory access is relative to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    V(V),
    Frame(Frame),
}

/// A value that is put into a fixed machine register: an argument of a call, the result of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arg {
    V(V),
    Imm(i64),
    /// An address in the frame.
    Frame(Frame, i32),
    /// A map, or an address in its first value.
    Map(MapRef, Option<u32>),
    /// The address of a function, for the kernel to call.
    Func(FuncRef),
    /// What a register held before it was spilled there.
    Spilled(Frame),
}

/// What a call calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callee {
    Helper(Helper),
    /// One of the kernel's functions, by its number in the kernel's BTF.
    Kfunc(u32),
    Func(FuncRef),
}

/// An instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mop {
    Const {
        dst: V,
        value: i64,
    },
    Map {
        dst: V,
        map: MapRef,
        value_off: Option<u32>,
    },
    FrameAddr {
        dst: V,
        frame: Frame,
        off: i32,
    },
    Mov {
        dst: V,
        src: V,
    },
    /// A number's copy, where both registers may live on. Linux before 6.5 takes the two for one number at a place that
    /// other ways lead to as well, and then removes conditions that these ways need: its verifier's state pruning did
    /// not compare which registers are copies (the fix is 1ffc85d9298e, "Verify scalar ids mapping in regsafe()"). So
    /// the copy is made such that the verifier doesn't know where it came from: a 32-bit move makes it forget that, where
    /// the number is `narrow` (32 bits at most), and arithmetic does.
    Copy {
        dst: V,
        src: V,
        narrow: bool,
    },
    /// Zeroes the upper half.
    Mov32 {
        dst: V,
        src: V,
    },
    /// Extends the sign of the low `bits` (8, 16, 32): cpu v4.
    MovSx {
        dst: V,
        src: V,
        bits: i16,
    },
    /// `dst = dst code src`. `code` is [`crate::isa::op`]'s.
    Alu {
        code: u8,
        signed: bool,
        wide: bool,
        dst: V,
        src: Src,
    },
    Neg {
        wide: bool,
        dst: V,
    },
    /// To big-endian of the low `bits` (16, 32, 64), the rest zero.
    Swap {
        dst: V,
        bits: i32,
    },
    Load {
        dst: V,
        base: Base,
        off: i32,
        size: Size,
        signed: bool,
    },
    Store {
        base: Base,
        off: i32,
        src: Src,
        size: Size,
    },
    /// `code` is the immediate of the instruction. With [`crate::isa::op::FETCH`] it writes `src`.
    Atomic {
        code: i32,
        base: Base,
        off: i32,
        src: V,
        size: Size,
    },
    Call {
        callee: Callee,
        args: Vec<Arg>,
        dst: Option<V>,
    },
}

/// How an instruction touches a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Use,
    Def,
    /// Reads it, then writes it.
    Both,
}

impl Role {
    pub fn reads(self) -> bool {
        self != Role::Def
    }
    pub fn writes(self) -> bool {
        self != Role::Use
    }
}

/// The body of both visitors: the patterns bind by reference or by mutable reference, as `$op` is.
macro_rules! visit_mop {
    ($op:expr, $f:expr) => {
        match $op {
            Mop::Const { dst, .. } | Mop::Map { dst, .. } | Mop::FrameAddr { dst, .. } => $f(dst, Role::Def),
            Mop::Mov { dst, src }
            | Mop::Copy { dst, src, .. }
            | Mop::Mov32 { dst, src }
            | Mop::MovSx { dst, src, .. } => {
                $f(src, Role::Use);
                $f(dst, Role::Def);
            }
            Mop::Alu { dst, src, .. } => {
                if let Src::V(src) = src {
                    $f(src, Role::Use);
                }
                $f(dst, Role::Both);
            }
            Mop::Neg { dst, .. } | Mop::Swap { dst, .. } => $f(dst, Role::Both),
            Mop::Load { dst, base, .. } => {
                if let Base::V(base) = base {
                    $f(base, Role::Use);
                }
                $f(dst, Role::Def);
            }
            Mop::Store { base, src, .. } => {
                if let Base::V(base) = base {
                    $f(base, Role::Use);
                }
                if let Src::V(src) = src {
                    $f(src, Role::Use);
                }
            }
            Mop::Atomic { code, base, src, .. } => {
                if let Base::V(base) = base {
                    $f(base, Role::Use);
                }
                let fetch = *code & crate::isa::op::FETCH != 0;
                $f(src, if fetch { Role::Both } else { Role::Use });
            }
            Mop::Call { args, dst, .. } => {
                for arg in args {
                    if let Arg::V(v) = arg {
                        $f(v, Role::Use);
                    }
                }
                if let Some(dst) = dst {
                    $f(dst, Role::Def);
                }
            }
        }
    };
}

impl Mop {
    /// Each register, those that are only read before those that are written.
    pub fn visit(&self, mut f: impl FnMut(V, Role)) {
        let mut g = |v: &V, role| f(*v, role);
        visit_mop!(self, g);
    }

    /// As [`Mop::visit`], to change the registers.
    pub fn visit_mut(&mut self, mut f: impl FnMut(&mut V, Role)) {
        visit_mop!(self, f);
    }

    /// True if all it does is to write its destination.
    pub fn is_pure(&self) -> bool {
        !matches!(self, Mop::Store { .. } | Mop::Atomic { .. } | Mop::Call { .. })
    }
}

/// An instruction and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minst {
    pub op: Mop,
    pub span: Span,
}

/// How control leaves a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mterm {
    Jump(B),
    /// `code` is [`crate::isa::op`]'s.
    Branch {
        code: u8,
        wide: bool,
        a: V,
        b: Src,
        then: B,
        otherwise: B,
    },
    /// Go on at `exhausted` when the kernel's patience is at an end, else at `next`.
    MayGoto {
        exhausted: B,
        next: B,
    },
    Return(Arg),
}

impl Mterm {
    pub fn visit(&self, mut f: impl FnMut(V)) {
        match self {
            Mterm::Branch { a, b, .. } => {
                f(*a);
                if let Src::V(b) = b {
                    f(*b);
                }
            }
            Mterm::Return(Arg::V(v)) => f(*v),
            _ => {}
        }
    }

    pub fn visit_mut(&mut self, mut f: impl FnMut(&mut V)) {
        match self {
            Mterm::Branch { a, b, .. } => {
                f(a);
                if let Src::V(b) = b {
                    f(b);
                }
            }
            Mterm::Return(Arg::V(v)) => f(v),
            _ => {}
        }
    }

    /// Go to `new` instead of `old`.
    pub fn redirect(&mut self, old: B, new: B) {
        let (a, b) = match self {
            Mterm::Jump(to) => (to, None),
            Mterm::Branch { then, otherwise, .. } => (then, Some(otherwise)),
            Mterm::MayGoto { exhausted, next } => (exhausted, Some(next)),
            Mterm::Return(_) => return,
        };
        for to in [Some(a), b].into_iter().flatten() {
            if *to == old {
                *to = new;
            }
        }
    }

    /// Where control may go.
    pub fn successors(&self) -> Vec<usize> {
        match *self {
            Mterm::Jump(to) => vec![to.index()],
            Mterm::Branch { then, otherwise, .. } => vec![then.index(), otherwise.index()],
            Mterm::MayGoto { exhausted, next } => vec![exhausted.index(), next.index()],
            Mterm::Return(_) => vec![],
        }
    }
}

/// A block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mblock {
    pub insts: Vec<Minst>,
    pub term: Mterm,
    pub term_span: Span,
}

/// Where a parameter goes from its register r1 to r5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Param {
    V(V),
    Spilled(Frame),
    Unused,
}

/// A piece of the stack frame: size and alignment in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameDecl {
    pub size: u32,
    pub align: u32,
}

/// A function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mfunc {
    pub params: Vec<Param>,
    pub entry: B,
    pub blocks: Vec<Mblock>,
    pub frames: Vec<FrameDecl>,
    /// Pieces of the frame that one call writes and nothing else: what is loaded from them may be loaded again.
    pub fixed: BTreeSet<Frame>,
    /// How many virtual registers there are.
    pub vregs: u32,
    /// [`crate::ir::Function::lean`].
    pub lean: bool,
}

impl Mfunc {
    pub fn vreg(&mut self) -> V {
        self.vregs += 1;
        V(self.vregs - 1)
    }

    pub fn frame(&mut self, size: u32, align: u32) -> Frame {
        self.frames.push(FrameDecl { size, align });
        Frame(self.frames.len() as u32 - 1)
    }

    /// True if an instruction gives the same wherever its definition has been passed: a constant, an address, a
    /// load from a fixed piece of the frame.
    pub fn repeatable(&self, op: &Mop) -> bool {
        match op {
            Mop::Const { .. } | Mop::Map { .. } | Mop::FrameAddr { .. } => true,
            Mop::Load {
                base: Base::Frame(frame),
                ..
            } => self.fixed.contains(frame),
            _ => false,
        }
    }

    pub fn has_may_goto(&self) -> bool {
        self.blocks
            .iter()
            .any(|block| matches!(block.term, Mterm::MayGoto { .. }))
    }

    pub fn cfg(&self) -> crate::ir::Cfg {
        let succs = self.blocks.iter().map(|block| block.term.successors()).collect();
        crate::ir::Cfg::new(self.entry.index(), succs)
    }
}
