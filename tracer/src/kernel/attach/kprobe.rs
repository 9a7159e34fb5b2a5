//! kprobes: what kernels without fprobe have (`CONFIG_KPROBE_EVENTS`, 4.17+ by this interface).
//!
//! One perf event each, unless [`super::event`] serves many. The kernel takes milliseconds for each, most of it waiting, so
//! several threads ask at once.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{Attached, Link, Refused, Target, event, is_about_target};
use crate::kernel::Lacking;
use crate::kernel::program::AttachType;
use crate::kernel::sys::{self, Command, LinkPerfEvent, PerfEventAttr, PerfIoctl, SysError};

/// How kprobes are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kprobe {
    /// The PMU's number ([`Kprobe::detect`]).
    pmu: u32,
    /// The bit of the event's configuration that makes it a return probe.
    return_bit: u32,
    /// At the function's return instead of its entry.
    pub at_return: bool,
    /// The kernel has links for perf events, which carry cookies (5.15+). Without, [`Target::cookie`] is lost.
    pub cookies: bool,
    /// Threads that ask the kernel at once.
    pub threads: usize,
    /// Make many probes at once by [`super::Events`] where the kernel lets us, and only the others one by one. The
    /// programs are told no cookie there.
    pub by_events: bool,
}

/// A program, and where it is to run.
pub(super) type Job<'a> = (BorrowedFd<'a>, Target);

impl Kprobe {
    /// Ask the kernel how it takes kprobes.
    ///
    /// # Errors
    /// If it has none.
    pub fn detect() -> Result<Kprobe, Lacking> {
        const PMU: &str = "/sys/bus/event_source/devices/kprobe";
        let lacking = |why: String| Lacking {
            what: "this kernel has no kprobes".into(),
            why,
            fix: "use a kernel built with CONFIG_KPROBE_EVENTS=y, or --backend tracepoint".into(),
        };
        let read = |file: &str| {
            let path = format!("{PMU}/{file}");
            std::fs::read_to_string(&path).map_err(|e| lacking(format!("{path}: {e}")))
        };
        let pmu = read("type")?;
        let format = read("format/retprobe")?;
        Ok(Kprobe {
            pmu: pmu
                .trim()
                .parse()
                .map_err(|_| lacking(format!("{PMU}/type says {pmu:?}")))?,
            return_bit: format
                .trim()
                .strip_prefix("config:")
                .and_then(|bit| bit.parse().ok())
                .ok_or_else(|| lacking(format!("{PMU}/format/retprobe says {format:?}")))?,
            at_return: false,
            cookies: false,
            threads: 64,
            by_events: false,
        })
    }

    /// What [`Kprobe::detect`] answers on a usual kernel.
    #[cfg(test)]
    pub(super) fn for_tests() -> Kprobe {
        Kprobe {
            pmu: 6,
            return_bit: 0,
            at_return: false,
            cookies: false,
            threads: 4,
            by_events: false,
        }
    }

    fn attach(&self, program: BorrowedFd<'_>, target: Target) -> Result<Link, SysError> {
        let config = u64::from(self.at_return) << self.return_bit;
        let attr = PerfEventAttr::kprobe(self.pmu, config, None, target.addr);
        // The event is counted on one CPU, the program runs on whichever hits the probe.
        let event = sys::perf_event_open(&attr, 0)?;
        if self.cookies {
            let mut attr = LinkPerfEvent {
                prog_fd: program.as_raw_fd() as u32,
                target_fd: event.as_raw_fd() as u32,
                attach_type: AttachType::PerfEvent as u32,
                cookie: target.cookie,
                ..LinkPerfEvent::default()
            };
            let link = sys::bpf_fd(Command::LinkCreate, &mut attr)?;
            sys::perf_ioctl(event.as_fd(), PerfIoctl::Enable)?;
            // The link holds the event.
            return Ok(Link::new(link).to(&[target]));
        }
        sys::perf_ioctl(event.as_fd(), PerfIoctl::SetBpf(program.as_raw_fd()))?;
        sys::perf_ioctl(event.as_fd(), PerfIoctl::Enable)?;
        Ok(Link::new(event).to(&[target]))
    }
}

/// Attach a program to many functions, one kprobe each: [`kprobes`] with one program.
///
/// # Errors
/// The kernel's answer where it concerns no single target, such as EPERM or EMFILE (too many open files: each
/// kprobe is one; [`crate::kernel::maps::raise_limits`]).
pub fn kprobe(
    program: impl AsFd,
    targets: &[Target],
    how: &Kprobe,
    progress: &(dyn Fn(usize, usize) -> bool + Sync),
) -> Result<Attached, SysError> {
    let program = program.as_fd();
    let jobs: Vec<_> = targets.iter().map(|&target| (program, target)).collect();
    kprobes(&jobs, how, progress)
}

/// Attach programs to functions, one kprobe each, in this order. `progress` hears how many of how many are done,
/// from whichever thread did the last; when it answers false, no more are begun.
///
/// # Errors
/// As [`kprobe`].
pub fn kprobes(
    jobs: &[Job<'_>],
    how: &Kprobe,
    progress: &(dyn Fn(usize, usize) -> bool + Sync),
) -> Result<Attached, SysError> {
    if !how.by_events {
        return one_by_one(jobs, how, progress);
    }
    let (mut attached, others) = event::attach(jobs, progress)?;
    let before = attached.count;
    let progress = |done: usize, _: usize| progress(before + done, jobs.len());
    match attached.left.is_empty() {
        true => {
            let Attached {
                links,
                count,
                refused,
                left,
                ..
            } = one_by_one(&others, how, &progress)?;
            (attached.links, attached.refused, attached.left) = (links, refused, left);
            attached.count += count;
        }
        // It was told to stop.
        false => attached.left.extend(others.iter().map(|(_, target)| *target)),
    }
    Ok(attached)
}

fn one_by_one(
    jobs: &[Job<'_>],
    how: &Kprobe,
    progress: &(dyn Fn(usize, usize) -> bool + Sync),
) -> Result<Attached, SysError> {
    let next = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let result = Mutex::new((Attached::default(), None));
    let seam = sys::current();
    std::thread::scope(|scope| {
        for _ in 0..how.threads.clamp(1, jobs.len().max(1)) {
            let seam = seam.clone();
            scope.spawn(|| {
                sys::with_fake(seam, || {
                    while !stop.load(Ordering::Relaxed) {
                        let Some(&(program, target)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) else {
                            break;
                        };
                        let link = how.attach(program, target);
                        let mut result = result.lock().unwrap_or_else(|e| e.into_inner());
                        match link {
                            Ok(link) => {
                                result.0.links.push(link);
                                result.0.count += 1;
                            }
                            Err(error) if is_about_target(error) => {
                                result.0.refused.push(Refused { target, error });
                            }
                            Err(error) => {
                                result.1 = Some(error);
                                stop.store(true, Ordering::Relaxed);
                            }
                        }
                        drop(result);
                        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                        if !progress(done, jobs.len()) {
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                });
            });
        }
    });
    let (mut attached, error) = result.into_inner().unwrap_or_else(|e| e.into_inner());
    match error {
        Some(error) => {
            attached.detach();
            Err(error)
        }
        None => {
            let begun = next.into_inner().min(jobs.len());
            attached
                .left
                .extend(jobs[begun..].iter().map(|(_, target)| *target));
            Ok(attached)
        }
    }
}
