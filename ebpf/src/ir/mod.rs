//! The intermediate representation: a control-flow graph over typed virtual registers.
//!
//! ```text
//!   filter ─┐
//!   script ─┼─▶ build IR ─▶ verify ─▶ codegen ─▶ isa::Insn + relocations
//!   tracer ─┘
//! ```
//!
//! Virtual registers are mutable (this is not SSA) and each has one [`Type`] for life. A pointer that may be null
//! becomes usable only through [`Term::NullCheck`], which gives its non-null twin another register. Control leaves
//! a block only by its [`Term`]; a back edge may only enter a block that carries a [`LoopBound`].
//!
//! Deliberately absent: machine registers, the 512-byte stack, instruction encodings and map descriptors, which
//! are code generation's; and BTF, of which the IR keeps only what a kernel pointer's load needs.

mod bits;
mod builder;
mod cfg;
mod info;
pub mod text;
mod types;
mod verify;

pub(crate) use bits::{Bits, meet};
pub use builder::Builder;
pub use cfg::Cfg;
pub use text::parse;
pub use types::*;
pub use verify::{VerifyError, verify};
