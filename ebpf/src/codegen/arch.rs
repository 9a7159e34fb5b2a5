//! What depends on the machine's architecture: where `struct pt_regs` keeps a function's arguments.

use crate::kernel::Arch;

/// The offset in bytes of integer argument `index` (from 0) in `struct pt_regs`; `None` where the calling
/// convention passes it on the stack.
///
/// Sources: the System V ABI's order rdi, rsi, rdx, rcx, r8, r9 in `arch/x86/include/uapi/asm/ptrace.h`;
/// `regs[0]` to `regs[7]` in `arch/arm64/include/uapi/asm/ptrace.h`.
pub fn argument_offset(arch: Arch, index: u8) -> Option<i32> {
    match arch {
        Arch::X86_64 => [112, 104, 96, 88, 72, 64].get(usize::from(index)).copied(),
        Arch::Aarch64 => (index < 8).then_some(8 * i32::from(index)),
    }
}
