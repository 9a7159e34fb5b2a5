//! Attaching programs: one file a backend.
//!
//! What is attached stays so while its [`Link`]s live. They are descriptors: when the process ends, by whatever
//! signal, the kernel detaches. So it does for [`Events`], of which it keeps a rest that does nothing ([`sweep`]).
//!
//! Deliberately absent: which backend to use ([`super::features`] says what works, the caller chooses) and what is
//! worth attaching to ([`super::probeable`]).

mod event;
mod grace;
mod iter;
mod kprobe;
mod leave;
mod multi;
pub mod perf;
mod tracepoint;
mod tracing_multi;

use std::os::fd::{AsRawFd, OwnedFd};

pub use event::{Events, possible as events_possible, sweep};
pub use iter::iterator;
pub use kprobe::{Kprobe, kprobe, kprobes};
pub use multi::{Multi, kprobe_multi, kprobe_multi_by_name};
pub use perf::perf_event;
pub use tracepoint::{raw_tracepoint, tracepoint};
pub use tracing_multi::tracing_multi;

use super::sys::{self, Command, ObjInfo, SysError, addr_of_mut};

/// Where to attach, and what the program is told there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The function's address; for [`tracing_multi`] its number in the kernel's BTF.
    pub addr: u64,
    /// What `bpf_get_attach_cookie` answers there (kernels with that helper: 5.15+).
    pub cookie: u64,
}

/// A target that the kernel refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The target.
    pub target: Target,
    /// The kernel's answer.
    pub error: SysError,
}

/// What attaching many targets gave.
#[derive(Debug, Default)]
pub struct Attached {
    /// What holds the attachments. Several targets may share one.
    pub links: Vec<Link>,
    /// How many targets are attached.
    pub count: usize,
    /// The targets that are not, in no particular order.
    pub refused: Vec<Refused>,
    /// The targets whose turn never came, as attaching was told to stop.
    pub left: Vec<Target>,
    /// Attachments without a link, counted in [`Attached::count`].
    pub events: Vec<Events>,
}

impl Attached {
    /// Detach. Each kprobe waits for a grace period of the kernel's, so many are closed at once.
    ///
    /// Dropping detaches as well, one after the other.
    pub fn detach(self) {
        const THREADS: usize = 64;
        let mut links = self.links;
        if links.len() < 8 {
            return;
        }
        let each = links.len().div_ceil(THREADS);
        std::thread::scope(|scope| {
            while !links.is_empty() {
                let part = links.split_off(links.len().saturating_sub(each));
                scope.spawn(move || drop(part));
            }
        });
    }
}

/// Keeps something attached; dropping it detaches.
#[derive(Debug)]
pub struct Link {
    /// The link, or the perf event where there are no links for those (before 5.15).
    fd: OwnedFd,
    targets: Box<[Target]>,
}

impl Link {
    fn new(fd: OwnedFd) -> Link {
        Link {
            fd,
            targets: Box::default(),
        }
    }

    /// Say what it keeps attached.
    pub fn to(mut self, targets: &[Target]) -> Link {
        self.targets = targets.into();
        self
    }

    /// What it keeps attached, for kprobes, kprobe-multi and tracing-multi, and where [`Link::to`] said so.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// Hits for which the kernel didn't even try to run the program, such as those within another probe's work, as
    /// far as it counts them: for kprobe-multi and, by perf events, kprobes (6.7+).
    pub fn missed(&self) -> u64 {
        // `struct bpf_link_info`: type, id, program, then by type.
        const PERF_EVENT: u32 = 7;
        const KPROBE_MULTI: u32 = 8;
        let mut info = [0_u64; 16];
        let mut attr = ObjInfo {
            bpf_fd: self.fd.as_raw_fd() as u32,
            info_len: size_of_val(&info) as u32,
            info: addr_of_mut(&mut info),
        };
        if sys::bpf(Command::ObjGetInfoByFd, &mut attr).is_err() {
            // A perf event without a link.
            return 0;
        }
        match info[0] as u32 {
            // addrs, count and flags, missed.
            KPROBE_MULTI => info[4],
            // The event's type, name, its length and the offset, address, missed.
            PERF_EVENT => info[6],
            _ => 0,
        }
    }
}

/// True if an error says something about one target; others would be the same for all.
fn is_about_target(error: SysError) -> bool {
    matches!(
        error.errno,
        libc::EINVAL
            | libc::ENOENT
            | libc::ESRCH
            | libc::EILSEQ
            | libc::EADDRNOTAVAIL
            | libc::EBUSY
            | libc::EEXIST
            | libc::ERANGE
            | libc::EFAULT
    )
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io;
    use std::os::fd::{BorrowedFd, IntoRawFd, OwnedFd, RawFd};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::kernel::sys::{Command, Kernel, PerfEventAttr, PerfIoctl, with_fake};

    /// A kernel that refuses some addresses.
    struct Picky {
        bad: Vec<u64>,
        all: Option<i32>,
        calls: Mutex<Vec<usize>>,
    }

    fn null() -> OwnedFd {
        File::open("/dev/null").expect("/dev/null is there").into()
    }

    fn errno(number: i32) -> io::Error {
        io::Error::from_raw_os_error(number)
    }

    impl Kernel for Picky {
        fn bpf(&self, command: Command, attr: &mut [u8]) -> io::Result<RawFd> {
            assert_eq!(command, Command::LinkCreate);
            if let Some(number) = self.all {
                return Err(errno(number));
            }
            // Layout of `LinkKprobeMulti`.
            let count = u32::from_ne_bytes(attr[20..24].try_into().expect("four bytes")) as usize;
            let addrs = u64::from_ne_bytes(attr[32..40].try_into().expect("eight bytes"));
            self.calls.lock().expect("no panic").push(count);
            // SAFETY: the caller passes `count` addresses.
            let addrs = unsafe { std::slice::from_raw_parts(addrs as *const u64, count) };
            match addrs.iter().any(|a| self.bad.contains(a)) {
                true => Err(errno(libc::EINVAL)),
                false => Ok(null().into_raw_fd()),
            }
        }

        fn perf_event_open(&self, attr: &PerfEventAttr, _: i32) -> io::Result<OwnedFd> {
            if let Some(number) = self.all {
                return Err(errno(number));
            }
            match self.bad.contains(&attr.offset()) {
                true => Err(errno(libc::ENOENT)),
                false => Ok(null()),
            }
        }

        fn perf_ioctl(&self, _: BorrowedFd<'_>, _: PerfIoctl) -> io::Result<()> {
            Ok(())
        }
    }

    fn targets() -> Vec<Target> {
        (1..=100)
            .map(|i| Target {
                addr: i * 16,
                cookie: i,
            })
            .collect()
    }

    fn picky(bad: &[u64], all: Option<i32>) -> Arc<Picky> {
        Arc::new(Picky {
            bad: bad.to_vec(),
            all,
            calls: Mutex::default(),
        })
    }

    fn refused(attached: &Attached) -> Vec<u64> {
        let mut refused: Vec<u64> = attached.refused.iter().map(|r| r.target.addr).collect();
        refused.sort_unstable();
        refused
    }

    #[test]
    fn one_link_is_enough_when_all_is_well() {
        let kernel = picky(&[], None);
        let attached = with_fake(Some(kernel.clone()), || {
            kprobe_multi(null(), &targets(), Multi::Entry)
        })
        .expect("it attaches");
        assert_eq!((attached.links.len(), attached.count), (1, 100));
        assert_eq!(*kernel.calls.lock().expect("no panic"), [100]);
    }

    #[test]
    fn bad_targets_are_found_in_halves() {
        let kernel = picky(&[16, 17 * 16, 100 * 16], None);
        let attached = with_fake(Some(kernel.clone()), || {
            kprobe_multi(null(), &targets(), Multi::Entry)
        })
        .expect("the others attach");
        assert_eq!(attached.count, 97);
        assert_eq!(refused(&attached), [16, 17 * 16, 100 * 16]);
        assert!(kernel.calls.lock().expect("no panic").len() < 50);
    }

    #[test]
    fn what_is_wrong_with_all_is_said_at_once() {
        for number in [libc::EOPNOTSUPP, libc::EPERM, libc::EINVAL] {
            let kernel = picky(&[], Some(number));
            let error = with_fake(Some(kernel), || kprobe_multi(null(), &targets(), Multi::Entry))
                .expect_err("nothing attaches");
            assert_eq!(error.errno, number);
        }
    }

    #[test]
    fn kprobes_report_each_refusal() {
        let how = Kprobe::for_tests();
        let most = std::sync::atomic::AtomicUsize::new(0);
        let progress = |done: usize, total: usize| {
            assert_eq!(total, 100);
            most.fetch_max(done, std::sync::atomic::Ordering::Relaxed);
            true
        };
        let attached = with_fake(Some(picky(&[32, 48], None)), || {
            kprobe(null(), &targets(), &how, &progress)
        })
        .expect("the others attach");
        assert_eq!((attached.count, attached.links.len()), (98, 98));
        assert_eq!(refused(&attached), [32, 48]);
        assert_eq!(most.into_inner(), 100);
        attached.detach();
    }

    #[test]
    fn kprobes_stop_when_they_are_told() {
        let mut how = Kprobe::for_tests();
        how.threads = 1;
        let attached = with_fake(Some(picky(&[], None)), || {
            kprobe(null(), &targets(), &how, &|done, _| done < 10)
        })
        .expect("what was begun is there");
        assert_eq!(attached.count, 10);
        let error = with_fake(Some(picky(&[], Some(libc::EMFILE))), || {
            kprobe(null(), &targets(), &how, &|_, _| true)
        });
        assert_eq!(error.expect_err("no more files").errno, libc::EMFILE);
    }
}
