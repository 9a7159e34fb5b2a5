//! kprobe-multi: one link for many functions, by fprobe (`CONFIG_FPROBE`, 5.18+). And what it has in common with
//! tracing-multi.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::{Attached, Link, Refused, Target, is_about_target};
use crate::kernel::program::AttachType;
use crate::kernel::sys::{self, Command, LinkKprobeMulti, SysError, addr_of};

/// Which moment of a call the program sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Multi {
    /// The entry.
    Entry,
    /// The return.
    Return,
    /// Both. In a kprobe session (6.10+) the entry decides whether it wants the return.
    Session,
}

impl Multi {
    /// What a program for [`kprobe_multi`] is loaded with.
    pub fn kprobe(self) -> AttachType {
        match self {
            Multi::Entry | Multi::Return => AttachType::TraceKprobeMulti,
            Multi::Session => AttachType::TraceKprobeSession,
        }
    }

    /// What a program for [`super::tracing_multi`] is loaded with.
    pub fn tracing(self) -> AttachType {
        match self {
            Multi::Entry => AttachType::TraceFentryMulti,
            Multi::Return => AttachType::TraceFexitMulti,
            Multi::Session => AttachType::TraceFsessionMulti,
        }
    }
}

/// Attach a program to many functions at once.
///
/// The kernel takes all targets or none. If it objects to one, they are tried in halves: what is good ends up
/// in several links, what is not in [`Attached::refused`].
///
/// # Errors
/// The kernel's answer where it concerns no single target: EOPNOTSUPP without `CONFIG_FPROBE`, EINVAL if the
/// program was not loaded for this or if there are no targets, EPERM without privilege; or the last one if every
/// single target was refused.
pub fn kprobe_multi(program: impl AsFd, targets: &[Target], when: Multi) -> Result<Attached, SysError> {
    halves(targets, |part| link(program.as_fd(), part, when))
}

/// Link all targets at once; if the kernel objects to some of them, in halves.
pub(super) fn halves(
    targets: &[Target],
    link: impl Fn(&[Target]) -> Result<Link, SysError>,
) -> Result<Attached, SysError> {
    let mut attached = Attached::default();
    let mut parts = vec![targets];
    while let Some(part) = parts.pop() {
        match link(part) {
            Ok(link) => {
                attached.links.push(link);
                attached.count += part.len();
            }
            Err(error) if !is_about_target(error) || targets.is_empty() => return Err(error),
            Err(error) if part.len() == 1 => attached.refused.push(Refused {
                target: part[0],
                error,
            }),
            Err(_) => {
                let (low, high) = part.split_at(part.len() / 2);
                parts.extend([high, low]);
            }
        }
        // If nothing works, it is not the targets.
        if attached.links.is_empty() && attached.refused.len() >= 16 {
            return Err(attached.refused[0].error);
        }
    }
    match (attached.links.is_empty(), attached.refused.last()) {
        (true, Some(refused)) => Err(refused.error),
        _ => Ok(attached),
    }
}

impl Multi {
    fn attr(self, program: BorrowedFd<'_>) -> LinkKprobeMulti {
        const BPF_F_KPROBE_MULTI_RETURN: u32 = 1;
        let multi_flags = match self {
            Multi::Return => BPF_F_KPROBE_MULTI_RETURN,
            Multi::Entry | Multi::Session => 0,
        };
        LinkKprobeMulti {
            prog_fd: program.as_raw_fd() as u32,
            attach_type: self.kprobe() as u32,
            multi_flags,
            ..LinkKprobeMulti::default()
        }
    }
}

fn link(program: BorrowedFd<'_>, targets: &[Target], when: Multi) -> Result<Link, SysError> {
    let addrs: Vec<u64> = targets.iter().map(|t| t.addr).collect();
    let cookies: Vec<u64> = targets.iter().map(|t| t.cookie).collect();
    let mut attr = LinkKprobeMulti {
        cnt: targets.len() as u32,
        addrs: addr_of(&addrs),
        cookies: addr_of(&cookies),
        ..when.attr(program)
    };
    let link = sys::bpf_fd(Command::LinkCreate, &mut attr).map(Link::new)?;
    Ok(link.to(targets))
}

/// Attach a program to one function by name: for trying whether it can be done at all.
///
/// # Errors
/// The kernel's; ESRCH or ENOENT if it has no such function, EOPNOTSUPP without `CONFIG_FPROBE`.
pub fn kprobe_multi_by_name(program: impl AsFd, name: &CStr, when: Multi) -> Result<Link, SysError> {
    let names = [name.as_ptr() as u64];
    let mut attr = LinkKprobeMulti {
        cnt: 1,
        syms: addr_of(&names),
        ..when.attr(program.as_fd())
    };
    sys::bpf_fd(Command::LinkCreate, &mut attr).map(Link::new)
}
