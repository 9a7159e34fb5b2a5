//! Running programs without a kernel: [`Memory`], a [`Kernel`] of helpers and maps, and two interpreters on top
//! of them, one of the IR ([`run_ir`]) and one of instructions ([`run`]).
//!
//! ```text
//!   ir::Program ──▶ run_ir ─┐
//!        │                  ├─▶ Kernel (helpers, maps) ─▶ Memory
//!     codegen ──▶ run ──────┘
//! ```
//!
//! The tests compare the two; `ktrail filter --read` runs the instructions. Both stop with a [`Trap`] where the
//! kernel's verifier would have refused the program: access outside of any object, reads of uninitialised stack
//! or registers, unaligned stack access, records leaked.
//!
//! Deliberately absent: more than one CPU, program types' own rules, kfuncs.

mod insn;
mod ir;
mod kernel;
mod memory;

pub use insn::{Run, run};
pub use ir::run_ir;
pub(crate) use ir::{binary, compare};
pub use kernel::Kernel;
pub use memory::{Memory, Rights};

/// Why a run stopped before its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct Trap {
    /// Instruction slot or block and operation.
    pub place: String,
    /// What is wrong.
    pub what: String,
}
