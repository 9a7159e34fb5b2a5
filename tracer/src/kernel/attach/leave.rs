//! Detaching behind our back: the shell's prompt need not wait for the kernel.
//!
//! The kernel takes its time to take probes away: a grace period of a tenth of a second for each fprobe, tens of
//! milliseconds for each kprobe, one after the other within one process. So processes of their own hold the
//! attachments when we end, and end at once themselves. Nothing can be left behind: attachments live in
//! descriptors, and whatever becomes of those processes, the kernel closes what they hold. Events are removed by a process,
//! which lets no signal but SIGKILL disturb it; what is left of them then does nothing, and is removed at the next start.
//!
//! Deliberately absent: keeping programs from doing anything meanwhile, which is up to them.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::grace::Grace;
use super::{Attached, Events, Link};

/// Links that one process takes away, and how many processes there are at most.
const EACH: usize = 48;
const MOST: usize = 32;

/// How often the kernel is asked again to remove events that it refused, and how many milliseconds lie between.
const ROUNDS: usize = 100;
const PAUSE: u64 = 100;

impl Attached {
    /// Detach, but leave the work to processes of their own. Where there can be none, [`Attached::detach`].
    pub fn leave(self) {
        // First of all: those that hold links would have the events open, too, until they have closed what isn't theirs.
        let events = remove_behind(self.events).err().unwrap_or_default();
        let links = hand_over(self.links).err().unwrap_or_default();
        let left = Attached {
            links,
            events,
            ..Attached::default()
        };
        left.detach();
    }
}

fn hand_over(links: Vec<Link>) -> Result<(), Vec<Link>> {
    if links.is_empty() {
        return Ok(());
    }
    let mut fds: Vec<RawFd> = links.iter().map(|link| link.fd.as_raw_fd()).collect();
    fds.sort_unstable();
    let Some((wait, go)) = pipe() else {
        return Err(links);
    };
    let each = fds.len().div_ceil(MOST).max(EACH);
    for (number, part) in fds.chunks(each).enumerate() {
        // SAFETY: the child makes nothing but system calls, on memory that is there already.
        match unsafe { libc::fork() } {
            // SAFETY: this is the child.
            0 => unsafe {
                hold(part, wait.as_raw_fd());
                libc::_exit(0)
            },
            -1 if number == 0 => return Err(links),
            // Those before hold what is theirs; the rest goes the long way here.
            -1 => break,
            _ => {}
        }
    }
    // The holders still have all of them, so that this takes no time; then they may go.
    drop(links);
    drop(go);
    Ok(())
}

/// Have a process of its own close a run's events and remove them, one after the other: the kernel does no two at once. It
/// is one for all of them: the kernel removes no event that anybody has open, and of two, the one that was forked first would
/// have the other's until it has its turn.
fn remove_behind(events: Vec<Events>) -> Result<(), Vec<Events>> {
    let lines: Vec<String> = events.iter().flat_map(Events::farewell).collect();
    let (Some(last), false) = (events.last(), lines.is_empty()) else {
        return Ok(());
    };
    let Some((wait, go)) = pipe() else {
        return Err(events);
    };
    let open = events.iter().flat_map(|events| &events.open);
    let open: Vec<RawFd> = open.map(AsRawFd::as_raw_fd).collect();
    let grace = Grace::open();
    let control = last.control.as_raw_fd();
    // As long as that process lives, its locks keep others from doing the same.
    let locks = events.iter().filter_map(|events| events.lock.as_ref());
    let mut keep: Vec<RawFd> = locks.map(AsRawFd::as_raw_fd).chain([control]).collect();
    keep.extend(grace.fds());
    keep.extend(&open);
    keep.sort_unstable();
    // SAFETY: the child makes nothing but system calls, on memory that is there already.
    match unsafe { libc::fork() } {
        // SAFETY: this is the child.
        0 => unsafe {
            // Whoever ends its parent's session doesn't mean it.
            libc::setsid();
            let mut all = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::sigprocmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
            hold(&keep, wait.as_raw_fd());
            remove(&open, control, &lines, &grace);
            libc::_exit(0)
        },
        -1 => Err(events),
        _ => {
            events.into_iter().for_each(Events::forget);
            drop(go);
            Ok(())
        }
    }
}

/// Close what is open of events, and have the kernel remove them. It refuses as long as somebody has one open: mostly a
/// process that is about to close it, so that some patience is enough. Makes nothing but system calls.
///
/// Should it refuse to the end, they are removed at the next start.
///
/// # Safety
/// Nobody uses the descriptors in `open` any more.
pub(super) unsafe fn remove(open: &[RawFd], control: RawFd, lines: &[String], grace: &Grace) {
    let mut refused = false;
    grace.short(|| {
        for &fd in open {
            // SAFETY: the caller's word.
            unsafe { libc::close(fd) };
        }
        refused = ask(control, lines);
    });
    for _ in 0..ROUNDS {
        if !refused {
            break;
        }
        sleep(PAUSE);
        refused = ask(control, lines);
    }
}

/// Whether the kernel refuses one that is still there.
fn ask(control: RawFd, lines: &[String]) -> bool {
    let mut refused = false;
    for line in lines {
        // SAFETY: the descriptor is open, and the text is there.
        let written = unsafe { libc::write(control, line.as_ptr().cast(), line.len()) };
        let gone = || std::io::Error::last_os_error().raw_os_error() == Some(libc::ENOENT);
        refused |= written < 0 && !gone();
    }
    refused
}

/// Makes nothing but a system call.
pub(super) fn sleep(milliseconds: u64) {
    let time = libc::timespec {
        tv_sec: 0,
        tv_nsec: milliseconds.min(999) as libc::c_long * 1_000_000,
    };
    // SAFETY: the time is there, and what remains of it isn't asked for.
    unsafe { libc::nanosleep(&raw const time, std::ptr::null_mut()) };
}

fn pipe() -> Option<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: there is room for two descriptors, which the kernel makes for us.
    unsafe {
        if libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
            return None;
        }
        Some((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])))
    }
}

/// Keep `part`, which is sorted, and nothing else open until the other end of `wait` is closed.
///
/// # Safety
/// Only in a process that has just been forked, and ends soon: it closes everything else. As its parent had threads, it
/// may only make system calls.
unsafe fn hold(part: &[RawFd], wait: RawFd) {
    let mut from = 0;
    for &keep in part {
        if (from..keep).contains(&wait) {
            // SAFETY: as above.
            unsafe {
                close_range(from, wait - 1);
                close_range(wait + 1, keep - 1);
            }
        } else {
            // SAFETY: as above.
            unsafe { close_range(from, keep - 1) };
        }
        from = keep + 1;
    }
    // SAFETY: as above; the byte is ours.
    unsafe {
        if wait >= from {
            close_range(from, wait - 1);
            from = wait + 1;
        }
        close_range(from, RawFd::MAX);
        let mut byte = 0_u8;
        while libc::read(wait, (&raw mut byte).cast(), 1) > 0 {}
    }
}

/// # Safety
/// Nobody uses those descriptors any more.
unsafe fn close_range(from: RawFd, to: RawFd) {
    if from > to {
        return;
    }
    // SAFETY: numbers only, and the caller's word.
    unsafe {
        if libc::syscall(libc::SYS_close_range, from, to, 0) == 0 {
            return;
        }
        // Before 5.9. There are no more descriptors than that where nobody has raised the limit above it.
        for fd in from..=to.min(1 << 16) {
            libc::close(fd);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn what_was_handed_over_is_closed_in_the_end() {
        // A pipe's reader sees when its last writer is gone.
        let pipes: Vec<_> = (0..100)
            .map(|_| std::io::pipe().expect("there are descriptors"))
            .collect();
        let (readers, writers): (Vec<_>, Vec<_>) = pipes.into_iter().unzip();
        let links = writers.into_iter().map(|w| Link::new(OwnedFd::from(w))).collect();
        assert!(hand_over(links).is_ok());
        for mut reader in readers {
            let mut nothing = vec![];
            assert_eq!(reader.read_to_end(&mut nothing).expect("it can be read"), 0);
        }
    }
}
