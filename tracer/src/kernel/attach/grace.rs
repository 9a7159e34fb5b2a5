//! Short grace periods while probes are removed.
//!
//! The kernel waits for a grace period of RCU for each probe of an event that it removes: 13 to 20 ms. Where it is told to
//! expedite them, by interrupting the other CPUs instead of waiting for them, 172 took 91 ms instead of 3.7 s (6.1, two
//! CPUs). The setting is the whole machine's, so it is kept only meanwhile, by one process at a time. That it is ours
//! stands in a file before it is made: should that process be killed, the next run sees it and takes it back.
//!
//! Deliberately absent: links of other kinds, for which it makes no difference (perf events on 5.10: 14.3 s with it and
//! without).

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::leave::sleep;

/// 1: as if each `synchronize_rcu()` were `synchronize_rcu_expedited()` (4.5+; not with `CONFIG_TINY_RCU`).
const SETTING: &str = "/sys/kernel/rcu_expedited";

/// Locked by who makes the setting, and not empty as long as it is ours. Goes with the machine, as the setting does.
const MARK: &str = "/run/ktrail.rcu_expedited";

/// How often, and how many milliseconds apart, the lock is asked for before it is done without: half a minute, in which
/// the probes of several runs go.
const TRIES: usize = 600;
const PAUSE: u64 = 50;

/// What is needed to have them short; opened before it is, for processes that may only make system calls.
#[derive(Debug)]
pub(super) struct Grace(Option<Files>);

#[derive(Debug)]
struct Files {
    setting: File,
    mark: File,
}

impl Files {
    fn open(setting: &Path, mark: &Path, create: bool) -> Option<Files> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        Some(Files {
            setting: options.open(setting).ok()?,
            // Whatever else lies there under this name isn't ours.
            mark: options
                .create(create)
                .custom_flags(libc::O_NOFOLLOW)
                .open(mark)
                .ok()?,
        })
    }
}

impl Grace {
    pub(super) fn open() -> Grace {
        Grace(Files::open(SETTING.as_ref(), MARK.as_ref(), true))
    }

    /// The descriptors that [`Grace::short`] uses.
    pub(super) fn fds(&self) -> impl Iterator<Item = RawFd> {
        let fds = self
            .0
            .as_ref()
            .map(|f| [f.setting.as_raw_fd(), f.mark.as_raw_fd()]);
        fds.into_iter().flatten()
    }

    /// Do `work` with short grace periods, or with the usual ones if that can't be had. Makes nothing but system calls.
    pub(super) fn short(&self, work: impl FnOnce()) {
        let Some(files) = self.0.as_ref().filter(|files| files.lock(TRIES)) else {
            return work();
        };
        let ours = files.ours() || files.setting_is(b'0');
        if ours && put(&files.mark, b"1") {
            put(&files.setting, b"1");
        }
        work();
        if ours {
            files.take_back();
        }
        files.unlock();
    }
}

/// Take the setting back if it is of a process that was killed.
pub(super) fn settle() {
    if let Some(files) = Files::open(SETTING.as_ref(), MARK.as_ref(), false) {
        files.settle();
    }
}

impl Files {
    /// Somebody who has the lock takes it back himself.
    fn settle(&self) {
        if self.ours() && self.lock(1) {
            if self.ours() {
                self.take_back();
            }
            self.unlock();
        }
    }

    /// Should the process be killed, the kernel releases it.
    fn lock(&self, tries: usize) -> bool {
        for number in 0..tries {
            if number > 0 {
                sleep(PAUSE);
            }
            // SAFETY: the descriptor is open.
            if unsafe { libc::flock(self.mark.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
                return true;
            }
        }
        false
    }

    fn unlock(&self) {
        // SAFETY: the descriptor is open.
        unsafe { libc::flock(self.mark.as_raw_fd(), libc::LOCK_UN) };
    }

    fn ours(&self) -> bool {
        first(&self.mark).is_some()
    }

    fn setting_is(&self, value: u8) -> bool {
        first(&self.setting) == Some(value)
    }

    fn take_back(&self) {
        if put(&self.setting, b"0") {
            // SAFETY: the descriptor is open.
            unsafe { libc::ftruncate(self.mark.as_raw_fd(), 0) };
        }
    }
}

fn first(file: &File) -> Option<u8> {
    let mut byte = [0_u8];
    // SAFETY: the descriptor is open, and the byte is ours.
    let read = unsafe { libc::pread(file.as_raw_fd(), byte.as_mut_ptr().cast(), 1, 0) };
    (read == 1).then_some(byte[0])
}

fn put(file: &File, text: &[u8; 1]) -> bool {
    // SAFETY: the descriptor is open, and the byte is there.
    unsafe { libc::pwrite(file.as_raw_fd(), text.as_ptr().cast(), 1, 0) == 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// Something like the kernel's file, and the one beside it.
    struct Machine(PathBuf);

    impl Machine {
        fn new(name: &str, setting: &str, mark: &str) -> Machine {
            let dir = std::env::temp_dir().join(format!("ktrail-grace-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&dir).expect("there is room");
            let machine = Machine(dir);
            std::fs::write(machine.0.join("setting"), setting).expect("there is room");
            std::fs::write(machine.0.join("mark"), mark).expect("there is room");
            machine
        }

        fn files(&self) -> Files {
            Files::open(&self.0.join("setting"), &self.0.join("mark"), true).expect("they are there")
        }

        fn read(&self) -> (String, String) {
            ["setting", "mark"]
                .map(|name| std::fs::read_to_string(self.0.join(name)).expect("it is text"))
                .into()
        }

        /// What is there while something is done, and after it.
        fn short(&self) -> [(String, String); 2] {
            let mut meanwhile = Default::default();
            Grace(Some(self.files())).short(|| meanwhile = self.read());
            [meanwhile, self.read()]
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn state(setting: &str, mark: &str) -> (String, String) {
        (setting.into(), mark.into())
    }

    #[test]
    fn they_are_short_meanwhile() {
        let machine = Machine::new("usual", "0\n", "");
        assert_eq!(machine.short(), [state("1\n", "1"), state("0\n", "")]);
    }

    #[test]
    fn what_the_machine_had_before_stays() {
        let machine = Machine::new("short", "1\n", "");
        assert_eq!(machine.short(), [state("1\n", ""), state("1\n", "")]);
        machine.files().settle();
        assert_eq!(machine.read(), state("1\n", ""));
    }

    #[test]
    fn what_a_killed_process_left_is_taken_back() {
        let machine = Machine::new("killed", "1\n", "1");
        assert_eq!(machine.short(), [state("1\n", "1"), state("0\n", "")]);
        let machine = Machine::new("settled", "1\n", "1");
        let busy = machine.files();
        assert!(busy.lock(1));
        machine.files().settle();
        assert_eq!(machine.read(), state("1\n", "1"), "it is in use");
        busy.unlock();
        machine.files().settle();
        assert_eq!(machine.read(), state("0\n", ""));
    }

    #[test]
    fn the_work_is_done_without_it_too() {
        let mut done = false;
        Grace(None).short(|| done = true);
        assert!(done);
    }
}
