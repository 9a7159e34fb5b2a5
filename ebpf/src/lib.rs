//! Packet filters and probe scripts in, eBPF bytecode out.
//!
//! The way through this crate is short: a front end ([`filter`], [`script`]) builds [`ir`], the IR is verified, [`codegen`]
//! turns it into [`isa`] instructions. There is no other way to make bytecode, here or in any crate above.
//!
//! Deliberately absent: I/O, system calls, `unsafe`, and any knowledge of a command line. What the compilers must
//! know about a kernel they ask through [`kernel`]. The same input gives the same bytes.
#![forbid(unsafe_code)]

pub mod codegen;
mod excerpt;
pub mod filter;
pub mod ir;
pub mod isa;
pub mod kernel;
pub mod nearest;
pub mod script;
pub mod vm;
