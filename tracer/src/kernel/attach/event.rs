//! kprobes, many to one event of tracefs: what is quickest where there is no fprobe (`CONFIG_KPROBE_EVENTS`; an event has
//! many probes since 5.5).
//!
//! ```text
//!   events/ktrail_PID_TIME/     a run's directory, with a lock that is held while the run lives
//!       ktrail_PID_TIME_0/      an event: some functions of one program; a perf event of its number runs the program
//!       ktrail_PID_TIME_1/      …
//! ```
//!
//! All probes are made before any is set, and those of an event are set at one call: so the kernel's optimiser, which
//! keeps everybody waiting when it comes between, has few occasions. They sit behind the code that ftrace patches, where
//! the arguments are as they were, and where a jump can take the place of the breakpoint.
//!
//! An event is in nobody's descriptor. What a run that was killed has left does nothing, since nobody has it open any
//! more, but the kernel keeps it: the lock tells it from what is in use, however a run ends ([`sweep`]).
//!
//! Deliberately absent: telling the functions of an event apart, which is up to the program: it has the probe's address
//! in its registers, and no cookie.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use super::grace::{self, Grace};
use super::kprobe::Job;
use super::leave::remove;
use super::{Attached, Target, is_about_target};
use crate::kernel::sys::{self, PerfEventAttr, PerfIoctl, SysError};
use crate::kernel::{time, tracefs};

/// Functions of an event, at most. The kernel lets nobody near its events while it removes one's probes.
const EACH: usize = 64;

/// How far into a function its own code begins: behind what ftrace patches, before which `endbr64` may stand. The kernel
/// makes no probe where no instruction begins.
const OFFSETS: [u64; 2] = [5, 9];

/// How the names of all runs' directories begin.
const PREFIX: &str = "ktrail_";

/// Events that one run has made. Dropping removes them, which takes the kernel its time; [`Attached::leave`] does not
/// wait for it.
#[derive(Debug)]
pub struct Events {
    /// What runs the programs. The kernel removes no event that is open.
    pub(super) open: Vec<OwnedFd>,
    tracefs: PathBuf,
    /// The directory's name, with which the events' names begin.
    group: String,
    names: Vec<String>,
    /// `kprobe_events`, whose lines make and remove events.
    pub(super) control: File,
    /// The directory, locked.
    pub(super) lock: Option<File>,
}

/// Whether this kernel has such events, and this process may make them.
pub fn possible() -> bool {
    cfg!(target_arch = "x86_64") && tracefs::dir().is_some_and(|dir| control(&dir).is_ok())
}

/// For lines that are added: opening it anew would remove everybody's events.
fn control(tracefs: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .open(tracefs.join("kprobe_events"))
}

impl Events {
    fn new(tracefs: PathBuf, group: String) -> io::Result<Events> {
        Ok(Events {
            open: vec![],
            control: control(&tracefs)?,
            tracefs,
            group,
            names: vec![],
            lock: None,
        })
    }

    /// In a directory that no other run has.
    fn of_this_run() -> io::Result<Events> {
        let tracefs = tracefs::dir().ok_or(io::ErrorKind::NotFound)?;
        let group = format!("{PREFIX}{}_{:x}", std::process::id(), time::monotonic());
        Events::new(tracefs, group)
    }

    fn name(&self, number: usize) -> String {
        format!("{}_{number}", self.group)
    }

    /// Make a probe. The kernel compares probes by their symbols, of which addresses have none, and by their arguments:
    /// so each has another one.
    fn probe(&mut self, number: usize, target: Target) -> io::Result<()> {
        let name = self.name(number);
        let line = |offset| {
            let (group, at) = (&self.group, target.addr + offset);
            format!("p:{group}/{name} {at:#x} at=\\{at}\n")
        };
        let [first, second] = OFFSETS.map(line);
        let mut control = &self.control;
        control
            .write_all(first.as_bytes())
            .or_else(|_| control.write_all(second.as_bytes()))?;
        if self.names.last() != Some(&name) {
            self.names.push(name);
        }
        if self.lock.is_none() {
            let lock = File::open(self.tracefs.join("events").join(&self.group))?;
            lock.try_lock()?;
            self.lock = Some(lock);
            self.control.unlock()?;
        }
        Ok(())
    }

    /// Set all probes of an event.
    fn set(&mut self, number: usize, program: BorrowedFd<'_>) -> Result<(), SysError> {
        let (group, name) = (&self.group, self.name(number));
        let path = self.tracefs.join(format!("events/{group}/{name}/id"));
        let id = std::fs::read_to_string(path).ok();
        let id = id.and_then(|id| id.trim().parse().ok()).ok_or(SysError {
            call: "tracefs",
            errno: libc::ENOENT,
        })?;
        // Counted on one CPU; the program runs on whichever hits a probe.
        let event = sys::perf_event_open(&PerfEventAttr::tracepoint(id), 0)?;
        sys::perf_ioctl(event.as_fd(), PerfIoctl::SetBpf(program.as_raw_fd()))?;
        sys::perf_ioctl(event.as_fd(), PerfIoctl::Enable)?;
        self.open.push(event);
        Ok(())
    }

    /// Hits for which the kernel didn't run the program, as it was in another probe.
    pub fn missed(&self) -> u64 {
        let profile = std::fs::read_to_string(self.tracefs.join("kprobe_profile"));
        missed(&profile.unwrap_or_default(), &self.group)
    }

    /// The lines that remove the events.
    pub(super) fn farewell(&self) -> Vec<String> {
        let group = &self.group;
        let names = self.names.iter();
        names.map(|name| format!("-:{group}/{name}\n")).collect()
    }

    /// Close everything, but leave the removing to somebody else.
    pub(super) fn forget(mut self) {
        self.open.clear();
        self.names.clear();
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let open: Vec<RawFd> = self.open.drain(..).map(IntoRawFd::into_raw_fd).collect();
        let lines = self.farewell();
        if !open.is_empty() || !lines.is_empty() {
            // SAFETY: they were ours alone.
            unsafe { remove(&open, self.control.as_raw_fd(), &lines, &Grace::open()) };
        }
    }
}

/// The third column of `kprobe_profile` for a run's events.
fn missed(profile: &str, group: &str) -> u64 {
    let missed = |line: &str| {
        let mut words = line.split_whitespace();
        let number = words.next()?.strip_prefix(group)?.strip_prefix('_')?;
        number.parse::<usize>().ok()?;
        words.nth(1)?.parse::<u64>().ok()
    };
    profile.lines().filter_map(missed).sum()
}

/// Attach by events what can be. The second part of the result is what can't, for whatever reason.
///
/// # Errors
/// As [`super::kprobes`].
pub(super) fn attach<'a>(
    jobs: &[Job<'a>],
    progress: &dyn Fn(usize, usize) -> bool,
) -> Result<(Attached, Vec<Job<'a>>), SysError> {
    match Events::of_this_run() {
        Ok(events) => attach_to(events, jobs, progress),
        Err(_) => Ok((Attached::default(), jobs.to_vec())),
    }
}

fn attach_to<'a>(
    mut events: Events,
    jobs: &[Job<'a>],
    progress: &dyn Fn(usize, usize) -> bool,
) -> Result<(Attached, Vec<Job<'a>>), SysError> {
    let (mut attached, mut others) = (Attached::default(), vec![]);
    let mut go_on = true;
    // Until the directory has its lock, nobody may take it for left behind.
    let _ = events.control.lock();
    let mut made = vec![];
    for (number, (program, targets)) in parts(jobs).into_iter().enumerate() {
        go_on = go_on && progress(0, jobs.len());
        if !go_on {
            attached.left.extend(targets);
            continue;
        }
        let made_at = |&target: &Target| events.probe(number, target).is_ok();
        let (good, bad): (Vec<_>, Vec<_>) = targets.into_iter().partition(made_at);
        others.extend(bad.into_iter().map(|target| (program, target)));
        made.push((number, program, good));
    }
    for (number, program, targets) in made {
        if !go_on {
            attached.left.extend(targets);
            continue;
        }
        if targets.is_empty() {
            continue;
        }
        match events.set(number, program) {
            Ok(()) => attached.count += targets.len(),
            Err(error) if is_about_target(error) => {
                others.extend(targets.into_iter().map(|target| (program, target)));
            }
            Err(error) => return Err(error),
        }
        go_on = progress(attached.count, jobs.len());
    }
    if !events.names.is_empty() {
        attached.events.push(events);
    }
    Ok((attached, others))
}

/// The targets of each program, in their order, so many that they make an event.
fn parts<'a>(jobs: &[Job<'a>]) -> Vec<(BorrowedFd<'a>, Vec<Target>)> {
    let mut parts: Vec<(BorrowedFd<'a>, Vec<Target>)> = vec![];
    for &(program, target) in jobs {
        let begun = |part: &&mut (BorrowedFd<'a>, Vec<Target>)| {
            part.0.as_raw_fd() == program.as_raw_fd() && part.1.len() < EACH
        };
        match parts.iter_mut().find(begun) {
            Some((_, targets)) => targets.push(target),
            None => parts.push((program, vec![target])),
        }
    }
    parts
}

/// Remove, behind our back, the events of runs that were killed. Gives how many there are.
pub fn sweep() -> usize {
    let left: Vec<String> = tracefs::categories()
        .into_iter()
        .filter(|name| is_run(name))
        .collect();
    let (Some(tracefs), false) = (tracefs::dir(), left.is_empty()) else {
        grace::settle();
        return 0;
    };
    let found = abandoned(&tracefs, left).unwrap_or_default();
    let count = found.iter().map(|events| events.names.len()).sum();
    let attached = Attached {
        events: found,
        ..Attached::default()
    };
    attached.leave();
    count
}

/// Those of the runs' directories whose lock nobody holds.
fn abandoned(tracefs: &Path, groups: Vec<String>) -> io::Result<Vec<Events>> {
    let control = control(tracefs)?;
    control.lock()?;
    let mut found = vec![];
    for group in groups {
        let dir = tracefs.join("events").join(&group);
        let Ok(lock) = File::open(&dir) else { continue };
        if lock.try_lock().is_ok() {
            let mut events = Events::new(tracefs.into(), group)?;
            events.names = tracefs::names(&dir);
            events.lock = Some(lock);
            found.push(events);
        }
    }
    Ok(found)
}

/// A name such as [`Events::of_this_run`] gives.
fn is_run(name: &str) -> bool {
    let parts = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_'));
    parts.is_some_and(|(process, time)| {
        process.parse::<u32>().is_ok() && u64::from_str_radix(time, 16).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::kernel::sys::{Command, Kernel, with_fake};

    const GROUP: &str = "ktrail_7_a1";

    /// A kernel that opens anything.
    struct Willing;

    impl Kernel for Willing {
        fn bpf(&self, _: Command, _: &mut [u8]) -> io::Result<RawFd> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn perf_event_open(&self, _: &PerfEventAttr, _: i32) -> io::Result<OwnedFd> {
            File::open("/dev/null").map(OwnedFd::from)
        }

        fn perf_ioctl(&self, _: BorrowedFd<'_>, _: PerfIoctl) -> io::Result<()> {
            Ok(())
        }
    }

    /// Something like tracefs, with so many events that the kernel would have made.
    fn tracefs(name: &str, events: usize) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("ktrail-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        for number in 0..events {
            let event = dir.join(format!("events/{GROUP}/{GROUP}_{number}"));
            std::fs::create_dir_all(&event).expect("there is room");
            std::fs::write(event.join("id"), format!("{}\n", 100 + number)).expect("there is room");
        }
        std::fs::write(dir.join("kprobe_events"), "").expect("there is room");
        dir
    }

    fn lines(dir: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(dir.join("kprobe_events")).expect("it is there");
        text.lines().map(str::to_owned).collect()
    }

    fn targets(count: u64) -> Vec<Target> {
        let target = |i: u64| Target {
            addr: i * 16,
            cookie: i,
        };
        (1..=count).map(target).collect()
    }

    /// So many functions of one program, and one of another.
    fn attach(dir: &Path, count: u64, progress: &dyn Fn(usize, usize) -> bool) -> (Attached, Vec<Target>) {
        let (one, other) = (File::open("/dev/null"), File::open("/dev/null"));
        let (one, other) = (one.expect("it is there"), other.expect("it is there"));
        let mut jobs: Vec<_> = targets(count).into_iter().map(|t| (one.as_fd(), t)).collect();
        let last = Target {
            addr: 4096,
            cookie: 0,
        };
        jobs.insert(1, (other.as_fd(), last));
        let events = Events::new(dir.into(), GROUP.into()).expect("it can be written");
        let result = with_fake(Some(Arc::new(Willing)), || attach_to(events, &jobs, progress));
        let (attached, others) = result.expect("nothing is wrong with all");
        (attached, others.into_iter().map(|(_, target)| target).collect())
    }

    #[test]
    fn an_event_has_functions_of_one_program() {
        let dir = tracefs("events", 3);
        let (attached, others) = attach(&dir, 70, &|_, total| total == 71);
        assert_eq!((attached.count, others.len(), attached.left.len()), (71, 0, 0));
        let made = lines(&dir);
        assert_eq!(made.len(), 71);
        assert_eq!(made[0], "p:ktrail_7_a1/ktrail_7_a1_0 0x15 at=\\21");
        assert_eq!(made[63], "p:ktrail_7_a1/ktrail_7_a1_0 0x405 at=\\1029");
        assert_eq!(made[64], "p:ktrail_7_a1/ktrail_7_a1_1 0x1005 at=\\4101");
        assert_eq!(made[65], "p:ktrail_7_a1/ktrail_7_a1_2 0x415 at=\\1045");
        drop(attached);
        let removed = [0, 1, 2].map(|number| format!("-:ktrail_7_a1/ktrail_7_a1_{number}"));
        assert_eq!(lines(&dir)[71..], removed);
    }

    #[test]
    fn what_events_cannot_serve_is_left_to_others() {
        let dir = tracefs("no-events", 1);
        let (attached, others) = attach(&dir, 70, &|_, _| true);
        assert_eq!(attached.count, 64);
        let addresses: Vec<u64> = others.iter().map(|target| target.addr).collect();
        assert_eq!(addresses, [4096, 1040, 1056, 1072, 1088, 1104, 1120]);
        let nowhere = dir.join("nowhere");
        assert!(Events::new(nowhere, GROUP.into()).is_err());
    }

    #[test]
    fn it_stops_when_it_is_told() {
        let dir = tracefs("stopped", 3);
        let (attached, others) = attach(&dir, 70, &|done, _| done == 0);
        assert_eq!((attached.count, attached.left.len(), others.len()), (64, 7, 0));
        let (attached, _) = attach(&dir, 70, &|_, _| false);
        assert_eq!((attached.count, attached.left.len()), (0, 71));
    }

    #[test]
    fn what_a_killed_run_left_is_told_from_what_is_in_use() {
        let dir = tracefs("left", 2);
        let groups = || vec![GROUP.to_owned()];
        let (attached, _) = attach(&dir, 70, &|_, _| true);
        let found = abandoned(&dir, groups()).expect("it can be read");
        assert!(found.is_empty());
        for events in attached.events {
            events.forget();
        }
        let found = abandoned(&dir, groups()).expect("it can be read");
        assert_eq!(found[0].names, ["ktrail_7_a1_0", "ktrail_7_a1_1"]);
        // Whoever removes them is alone with it.
        assert!(abandoned(&dir, groups()).expect("it can be read").is_empty());
        let before = lines(&dir).len();
        drop(found);
        assert_eq!(lines(&dir).len(), before + 2);
    }

    #[test]
    fn others_events_are_none_of_ours() {
        assert!(is_run("ktrail_12_1f"));
        for name in ["ktrail", "ktrail_12", "ktrail_x_1f", "ktrail_12_1f_0", "sched"] {
            assert!(!is_run(name), "{name}");
        }
    }

    #[test]
    fn misses_are_summed_over_a_runs_events() {
        let profile =
            "  ktrail_7_a1_0    15  2\n  ktrail_7_a1_11   0  3\n  ktrail_7_a12_0   1  5\n  other  1  7\n";
        assert_eq!(missed(profile, GROUP), 5);
    }
}
