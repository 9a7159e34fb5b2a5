//! The eBPF instruction set: instructions, helpers.

mod helper;

pub use helper::Helper;

/// One eBPF instruction slot, as `struct bpf_insn` of the kernel's UAPI. A 64-bit immediate takes two slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Insn {
    /// Operation code.
    pub code: u8,
    /// Destination register, 0 to 10.
    pub dst: u8,
    /// Source register, 0 to 10, or a pseudo source.
    pub src: u8,
    /// Signed offset.
    pub off: i16,
    /// Signed immediate.
    pub imm: i32,
}
