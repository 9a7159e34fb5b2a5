//! BPF iterators: a program that runs once for each object of a kind, while somebody reads.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};

use super::Link;
use crate::kernel::program::AttachType;
use crate::kernel::sys::{self, Command, IterCreate, LinkTracing, SysError};

/// Link an iterator's program, and open it: each reading to the end is one run over all objects (5.8+).
///
/// # Errors
/// The kernel's.
pub fn iterator(program: impl AsFd) -> Result<(Link, File), SysError> {
    let mut attr = LinkTracing {
        prog_fd: program.as_fd().as_raw_fd() as u32,
        attach_type: AttachType::TraceIter as u32,
        ..LinkTracing::default()
    };
    let link = sys::bpf_fd(Command::LinkCreate, &mut attr)?;
    let mut attr = IterCreate {
        link_fd: link.as_raw_fd() as u32,
        flags: 0,
    };
    let reader = sys::bpf_fd(Command::IterCreate, &mut attr)?;
    Ok((Link::new(link), File::from(reader)))
}
