//! BTF tracepoints: no code is patched that the kernel does not patch for its own tracing.

use std::os::fd::{AsFd, AsRawFd};

use super::Link;
use crate::kernel::sys::{self, Command, RawTracepointOpen, SysError};

/// Attach a program to the tracepoint whose typedef it was loaded with
/// ([`crate::kernel::program::LoadOptions::attach_btf_id`]; 5.5+).
///
/// # Errors
/// The kernel's.
pub fn tracepoint(program: impl AsFd) -> Result<Link, SysError> {
    let mut attr = RawTracepointOpen {
        prog_fd: program.as_fd().as_raw_fd() as u32,
        ..RawTracepointOpen::default()
    };
    sys::bpf_fd(Command::RawTracepointOpen, &mut attr).map(Link::new)
}
