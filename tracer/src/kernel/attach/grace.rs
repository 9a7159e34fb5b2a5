//! Short grace periods while probes are removed.
//!
//! The kernel waits for a grace period of RCU for each probe of an event that it removes: 13 to 20 ms. Where it is told to
//! expedite them, by interrupting the other CPUs instead of waiting for them, 172 took 91 ms instead of 3.7 s (6.1, two
//! CPUs). The setting is the whole machine's, so it is kept only meanwhile, by one process at a time.
//!
//! Deliberately absent: links of other kinds, for which it makes no difference (perf events on 5.10: 14.3 s with it and
//! without).

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, RawFd};

/// 1: as if each `synchronize_rcu()` were `synchronize_rcu_expedited()` (4.5+; not with `CONFIG_TINY_RCU`).
const FILE: &str = "/sys/kernel/rcu_expedited";

/// What is needed to have them short; opened before it is, for processes that may only make system calls.
#[derive(Debug)]
pub(super) struct Grace(Option<File>);

impl Grace {
    pub(super) fn open() -> Grace {
        Grace(OpenOptions::new().read(true).write(true).open(FILE).ok())
    }

    /// The descriptor that [`Grace::short`] uses.
    pub(super) fn fd(&self) -> Option<RawFd> {
        self.0.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Do `work` with short grace periods, or with the usual ones if the kernel doesn't let us. Makes nothing but system
    /// calls.
    pub(super) fn short(&self, work: impl FnOnce()) {
        let Some(fd) = self.fd() else {
            return work();
        };
        let mut before = [0_u8];
        // SAFETY: the descriptor is open, and the bytes are ours. Should the process be killed before the lock is released,
        // the kernel releases it.
        unsafe {
            libc::flock(fd, libc::LOCK_EX);
            let usual = libc::pread(fd, before.as_mut_ptr().cast(), 1, 0) == 1 && before == *b"0";
            if usual {
                libc::pwrite(fd, b"1".as_ptr().cast(), 1, 0);
            }
            work();
            if usual {
                libc::pwrite(fd, b"0".as_ptr().cast(), 1, 0);
            }
            libc::flock(fd, libc::LOCK_UN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Something like the kernel's file.
    fn grace(name: &str, text: &str) -> Grace {
        let path = std::env::temp_dir().join(format!("ktrail-grace-{name}-{}", std::process::id()));
        std::fs::write(&path, text).expect("there is room");
        let file = OpenOptions::new().read(true).write(true).open(&path).ok();
        std::fs::remove_file(&path).expect("it is there");
        Grace(file)
    }

    fn read(grace: &Grace) -> String {
        let mut file = grace.0.as_ref().expect("it was opened");
        let mut text = String::new();
        std::io::Seek::rewind(&mut file).expect("it is a file");
        std::io::Read::read_to_string(&mut file, &mut text).expect("it is text");
        text
    }

    #[test]
    fn they_are_short_meanwhile() {
        let grace = grace("usual", "0\n");
        let mut meanwhile = String::new();
        grace.short(|| meanwhile = read(&grace));
        assert_eq!((&*meanwhile, &*read(&grace)), ("1\n", "0\n"));
    }

    #[test]
    fn what_the_machine_had_before_stays() {
        let grace = grace("short", "1\n");
        grace.short(|| ());
        assert_eq!(read(&grace), "1\n");
    }

    #[test]
    fn the_work_is_done_without_it_too() {
        let mut done = false;
        Grace(None).short(|| done = true);
        assert!(done);
    }
}
