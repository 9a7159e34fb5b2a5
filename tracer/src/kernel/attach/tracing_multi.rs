//! tracing-multi: one link for many functions, by trampolines (7.2+).

use std::os::fd::{AsFd, AsRawFd};

use super::multi::{Multi, halves};
use super::{Attached, Link, Target};
use crate::kernel::sys::{self, Command, LinkTracingMulti, SysError, addr_of};

/// Attach a program of kind [`ktrail_ebpf::ir::ProgramKind::TracingMulti`] to many functions of the kernel itself at
/// once. [`Target::addr`] is the function's number in the kernel's BTF. The program is loaded with [`Multi::tracing`].
///
/// The kernel takes all targets or none, and refuses some that have code: those whose prototypes its trampolines
/// can't serve (variadic ones, or more arguments than registers), and where the return is wanted those that never
/// return. They end up in [`Attached::refused`].
///
/// # Errors
/// As [`super::kprobe_multi`].
pub fn tracing_multi(program: impl AsFd, targets: &[Target], when: Multi) -> Result<Attached, SysError> {
    halves(targets, |part| {
        let ids: Vec<u32> = part.iter().map(|t| t.addr as u32).collect();
        let cookies: Vec<u64> = part.iter().map(|t| t.cookie).collect();
        let mut attr = LinkTracingMulti {
            prog_fd: program.as_fd().as_raw_fd() as u32,
            attach_type: when.tracing() as u32,
            ids: addr_of(&ids),
            cookies: addr_of(&cookies),
            cnt: part.len() as u32,
            ..LinkTracingMulti::default()
        };
        let link = sys::bpf_fd(Command::LinkCreate, &mut attr).map(Link::new)?;
        Ok(link.to(part))
    })
}
