//! IR to instructions: legalise, allocate registers, lay out the stack, emit.
//!
//! ```text
//!   ir::Program ─ verify ─▶ a function at a time, callees first:
//!
//!      simplify ─▶ delay ─▶ lower ─▶ liveness ─▶ sink ─▶ regalloc ⇄ spill ─▶ reload ─▶ emit ─▶ link ─▶ Object
//!                          (loads)  (dead code)   (around)   │
//!                            ▲                               │ the frame is too large
//!                            └────────── placement ◀─────────┘
//! ```
//!
//! Deliberately absent: loading and map descriptors, which are the crate's above ([`Reloc`] tells it where maps
//! go), and optimisations that need SSA.

mod arch;
mod around;
mod delay;
mod emit;
mod link;
mod liveness;
mod loads;
mod lower;
mod mir;
mod placement;
mod regalloc;
mod reload;
mod simplify;
mod sink;
mod spill;
mod wide;
mod width;

pub use link::is_own_map;

/// How a packet's bytes are reached: the one load primitive that code generation swaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PacketAccess {
    /// `start` is a kernel address: what the tracer uses.
    KernelRead,
    /// `start` is an offset in the `__sk_buff` of the context: for `BPF_PROG_TEST_RUN`.
    SkbLoad,
    /// `start` is an address that plain loads may read: for the interpreter.
    Memory,
}

use crate::ir::{MapDecl, MapRef, Program, ProgramKind, Span};
use crate::isa::{self, Insn, Symbols};
use crate::kernel::Features;

/// What code generation is told beside the program.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// How packets are read.
    pub packet: PacketAccess,
    /// What the kernel can do.
    pub features: &'a Features,
}

/// Where an instruction needs a map that only exists at load time. It and the next slot are one `ld_imm64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reloc {
    /// Index of the instruction slot.
    pub insn: usize,
    /// Which map, as an index of [`Object::maps`].
    pub map: MapRef,
    /// `None`: the map itself. Otherwise: the address of its first value plus this many bytes.
    pub value_off: Option<u32>,
}

/// Where a function starts, for BPF-to-BPF calls and the program's BTF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FuncInfo {
    /// Index of its first instruction slot.
    pub insn: usize,
    /// Name.
    pub name: String,
    /// Number of parameters, each a 64-bit integer or a pointer.
    pub params: usize,
}

/// A generated program, ready to be loaded once its relocations are filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Name; the kernel keeps the first 15 bytes.
    pub name: String,
    /// Kind.
    pub kind: ProgramKind,
    /// The instructions.
    pub insns: Vec<Insn>,
    /// The source of each instruction.
    pub spans: Vec<Span>,
    /// Where maps go in.
    pub relocs: Vec<Reloc>,
    /// The maps: the program's, then those that code generation added (per-CPU scratch).
    pub maps: Vec<MapDecl>,
    /// The functions, in order of address.
    pub funcs: Vec<FuncInfo>,
}

/// Why a program could not be generated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The IR breaks a rule. Always a front end's bug, except where the message says otherwise.
    #[error("invalid IR in {func}, {place}: {message}")]
    Invalid {
        /// The function.
        func: String,
        /// Block and operation, in textual IR.
        place: String,
        /// What is wrong.
        message: String,
        /// Where it came from.
        span: Span,
    },
    /// The kernel lacks what the program needs.
    #[error("{what} needs {needs}")]
    Unsupported {
        /// What needs it.
        what: String,
        /// The feature and its kernel version.
        needs: String,
        /// Where it came from.
        span: Span,
    },
    /// The program does not fit a limit of the kernel's.
    #[error("the program is too large: {0}")]
    TooLarge(String),
}

impl Object {
    /// The instructions as text, with the names of maps and functions.
    pub fn disassemble(&self) -> String {
        isa::disassemble(&self.insns, self)
    }
}

impl Symbols for Object {
    fn wide(&self, insn: usize) -> Option<String> {
        let reloc = self.relocs.iter().find(|reloc| reloc.insn == insn)?;
        let name = &self.maps[reloc.map.0 as usize].name;
        Some(match reloc.value_off {
            None => format!("map[{name}]"),
            Some(off) => format!("map[{name}][0]+{off}"),
        })
    }

    fn func(&self, insn: usize) -> Option<String> {
        let func = self.funcs.iter().find(|func| func.insn == insn)?;
        Some(func.name.clone())
    }
}

/// Generate `program`: verify it, legalise it, allocate registers, lay out the stack, emit.
///
/// # Errors
/// See [`Error`].
pub fn generate(program: &Program, options: &Options<'_>) -> Result<Object, Error> {
    link::generate(program, options)
}
