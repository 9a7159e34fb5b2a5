//! BTF tracepoints: no code is patched that the kernel does not patch for its own tracing.

use std::ffi::CStr;
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

/// Attach a program of kind [`ktrail_ebpf::ir::ProgramKind::RawTracepoint`] to a tracepoint by name. One program
/// serves many, as `cookie` is what `bpf_get_attach_cookie` answers there (6.10+; ignored before).
///
/// # Errors
/// The kernel's; ENOENT if there is no such tracepoint.
pub fn raw_tracepoint(program: impl AsFd, name: &CStr, cookie: u64) -> Result<Link, SysError> {
    let mut attr = RawTracepointOpen {
        name: name.as_ptr() as u64,
        prog_fd: program.as_fd().as_raw_fd() as u32,
        cookie,
        ..RawTracepointOpen::default()
    };
    sys::bpf_fd(Command::RawTracepointOpen, &mut attr).map(Link::new)
}
