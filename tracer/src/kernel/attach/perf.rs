//! Perf events: tracepoints of tracefs, timers, and what the CPU and the kernel count.

use std::os::fd::{AsFd, AsRawFd};

use super::Link;
use crate::kernel::program::AttachType;
use crate::kernel::sys::{self, Command, LinkPerfEvent, PerfEventAttr, PerfIoctl, SysError};

/// `PERF_TYPE_SOFTWARE`.
pub const SOFTWARE: u32 = 1;
/// `PERF_COUNT_SW_CPU_CLOCK`: nanoseconds.
pub const CPU_CLOCK: u64 = 0;

/// Run a program at each overflow of an event on one CPU; tracepoints run it on whichever CPU is at the point.
///
/// The program's type must fit: tracepoint programs for [`PerfEventAttr::tracepoint`], perf event programs for
/// [`PerfEventAttr::counted`]. `cookie` is what `bpf_get_attach_cookie` answers (5.15+).
///
/// # Errors
/// The kernel's; ENODEV or ENOENT for a CPU that is off line or an event that this machine can't count.
pub fn perf_event(
    program: impl AsFd,
    attr: &PerfEventAttr<'_>,
    cpu: usize,
    cookie: Option<u64>,
) -> Result<Link, SysError> {
    let event = sys::perf_event_open(attr, cpu as i32)?;
    if let Some(cookie) = cookie {
        let mut attr = LinkPerfEvent {
            prog_fd: program.as_fd().as_raw_fd() as u32,
            target_fd: event.as_raw_fd() as u32,
            attach_type: AttachType::PerfEvent as u32,
            cookie,
            ..LinkPerfEvent::default()
        };
        let link = sys::bpf_fd(Command::LinkCreate, &mut attr)?;
        sys::perf_ioctl(event.as_fd(), PerfIoctl::Enable)?;
        // The link holds the event.
        return Ok(Link::new(link));
    }
    sys::perf_ioctl(event.as_fd(), PerfIoctl::SetBpf(program.as_fd().as_raw_fd()))?;
    sys::perf_ioctl(event.as_fd(), PerfIoctl::Enable)?;
    Ok(Link::new(event))
}
