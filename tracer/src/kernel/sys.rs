//! The seam: every bpf(2), perf_event_open(2) and ioctl(2) of ktrail goes through [`Kernel`], which tests replace
//! for their thread by [`with_fake`].
//!
//! Each bpf(2) command has its own `#[repr(C)]` argument: the part of `union bpf_attr` (linux/bpf.h) that the
//! command reads. The kernel takes any size and treats what is missing as zero, and accepts a longer argument than
//! it knows as long as the rest is zero, so one layout serves every version.
//!
//! Deliberately absent: what the commands mean. That is the business of the files beside this one.

use std::cell::RefCell;
use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// A bpf(2) command, numbered as `enum bpf_cmd` of the kernel's UAPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the kernel's own names, documented in bpf(2)
pub enum Command {
    MapCreate = 0,
    MapLookupElem = 1,
    MapUpdateElem = 2,
    MapDeleteElem = 3,
    MapGetNextKey = 4,
    ProgLoad = 5,
    ProgTestRun = 10,
    ObjGetInfoByFd = 15,
    RawTracepointOpen = 17,
    BtfLoad = 18,
    BtfGetFdById = 19,
    BtfGetNextId = 23,
    MapLookupBatch = 24,
    LinkCreate = 28,
    EnableStats = 32,
    IterCreate = 33,
}

impl Command {
    /// Its name as people know it.
    pub fn name(self) -> &'static str {
        match self {
            Command::MapCreate => "BPF_MAP_CREATE",
            Command::MapLookupElem => "BPF_MAP_LOOKUP_ELEM",
            Command::MapUpdateElem => "BPF_MAP_UPDATE_ELEM",
            Command::MapDeleteElem => "BPF_MAP_DELETE_ELEM",
            Command::MapGetNextKey => "BPF_MAP_GET_NEXT_KEY",
            Command::ProgLoad => "BPF_PROG_LOAD",
            Command::ProgTestRun => "BPF_PROG_TEST_RUN",
            Command::ObjGetInfoByFd => "BPF_OBJ_GET_INFO_BY_FD",
            Command::RawTracepointOpen => "BPF_RAW_TRACEPOINT_OPEN",
            Command::BtfLoad => "BPF_BTF_LOAD",
            Command::BtfGetFdById => "BPF_BTF_GET_FD_BY_ID",
            Command::BtfGetNextId => "BPF_BTF_GET_NEXT_ID",
            Command::MapLookupBatch => "BPF_MAP_LOOKUP_BATCH",
            Command::LinkCreate => "BPF_LINK_CREATE",
            Command::EnableStats => "BPF_ENABLE_STATS",
            Command::IterCreate => "BPF_ITER_CREATE",
        }
    }
}

/// A system call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call}: {}", io::Error::from_raw_os_error(*.errno))]
pub struct SysError {
    /// What was called.
    pub call: &'static str,
    /// The kernel's answer, positive.
    pub errno: i32,
}

impl SysError {
    fn new(call: &'static str, error: &io::Error) -> SysError {
        SysError {
            call,
            errno: error.raw_os_error().unwrap_or(libc::EIO),
        }
    }
}

/// What a bpf(2) command takes.
///
/// # Safety
/// The type is `#[repr(C)]`, has no padding (every byte is initialised), is a prefix of `union bpf_attr` as
/// [`Attr::COMMANDS`] read it, and holds kernel-visible addresses only of memory that outlives the call and is as
/// large as its own length fields say.
pub unsafe trait Attr {
    /// Commands that take it.
    const COMMANDS: &'static [Command];
}

/// The system calls.
pub trait Kernel: Send + Sync {
    /// bpf(2) with `attr`, the bytes of an [`Attr`]; the result, which is a descriptor for some commands.
    ///
    /// # Errors
    /// The kernel's.
    fn bpf(&self, command: Command, attr: &mut [u8]) -> io::Result<RawFd>;

    /// perf_event_open(2) for every process on `cpu`.
    ///
    /// # Errors
    /// The kernel's.
    fn perf_event_open(&self, attr: &PerfEventAttr, cpu: i32) -> io::Result<OwnedFd>;

    /// ioctl(2) of a perf event.
    ///
    /// # Errors
    /// The kernel's.
    fn perf_ioctl(&self, event: BorrowedFd<'_>, request: PerfIoctl) -> io::Result<()>;
}

/// What a perf event is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PerfIoctl {
    /// `PERF_EVENT_IOC_SET_BPF`: run this program at each hit.
    SetBpf(RawFd),
    /// `PERF_EVENT_IOC_ENABLE`.
    Enable,
    /// `PERF_EVENT_IOC_DISABLE`.
    Disable,
}

/// The running kernel.
struct Real;

impl Kernel for Real {
    fn bpf(&self, command: Command, attr: &mut [u8]) -> io::Result<RawFd> {
        // SAFETY: `attr` is valid for reads and writes of its length; what it points to is vouched for by `Attr`,
        // whose bytes these are.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                command as libc::c_long,
                attr.as_mut_ptr(),
                attr.len(),
            )
        };
        match result {
            0.. => Ok(result as RawFd),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn perf_event_open(&self, attr: &PerfEventAttr, cpu: i32) -> io::Result<OwnedFd> {
        const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;
        // SAFETY: `attr` is a valid `struct perf_event_attr` of the size that it states; the function's name that
        // it may point to lives as long as it does (`PerfEventAttr::name`).
        let fd = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attr.raw,
                -1 as libc::c_long,
                cpu as libc::c_long,
                -1 as libc::c_long,
                PERF_FLAG_FD_CLOEXEC,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
    }

    fn perf_ioctl(&self, event: BorrowedFd<'_>, request: PerfIoctl) -> io::Result<()> {
        // `_IO('$', n)` and `_IOW('$', 8, __u32)` of linux/perf_event.h.
        let (number, argument): (u64, libc::c_ulong) = match request {
            PerfIoctl::Enable => (0x2400, 0),
            PerfIoctl::Disable => (0x2401, 0),
            PerfIoctl::SetBpf(fd) => (0x4004_2408, fd as libc::c_ulong),
        };
        // SAFETY: all three requests take a plain number.
        match unsafe { libc::ioctl(event.as_raw_fd(), number as _, argument) } {
            0.. => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

thread_local! {
    static FAKE: RefCell<Option<Arc<dyn Kernel>>> = const { RefCell::new(None) };
}

/// Who answers this thread's calls: to hand on to the threads that it starts.
pub fn current() -> Option<Arc<dyn Kernel>> {
    FAKE.with_borrow(Clone::clone)
}

/// Run `f` with `kernel` (None: the real one) answering this thread's calls.
pub fn with_fake<T>(kernel: Option<Arc<dyn Kernel>>, f: impl FnOnce() -> T) -> T {
    struct Restore(Option<Arc<dyn Kernel>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            FAKE.set(self.0.take());
        }
    }
    let _restore = Restore(FAKE.replace(kernel));
    f()
}

fn with_kernel<T>(f: impl FnOnce(&dyn Kernel) -> T) -> T {
    match current() {
        Some(fake) => f(&*fake),
        None => f(&Real),
    }
}

/// Call bpf(2) for a command that answers with a number.
///
/// # Errors
/// The kernel's.
pub fn bpf<A: Attr>(command: Command, attr: &mut A) -> Result<RawFd, SysError> {
    debug_assert!(A::COMMANDS.contains(&command));
    let bytes: *mut A = attr;
    // SAFETY: `Attr` promises that every byte is initialised, and any bytes that the kernel writes are valid in its
    // integer fields.
    let bytes = unsafe { std::slice::from_raw_parts_mut(bytes.cast::<u8>(), size_of::<A>()) };
    // A load may be interrupted by a signal in the verifier, which then says EAGAIN.
    for _ in 0..4 {
        match with_kernel(|k| k.bpf(command, bytes)) {
            Err(e) if e.raw_os_error() == Some(libc::EAGAIN) && command == Command::ProgLoad => {}
            other => return other.map_err(|e| SysError::new(command.name(), &e)),
        }
    }
    with_kernel(|k| k.bpf(command, bytes)).map_err(|e| SysError::new(command.name(), &e))
}

/// Call bpf(2) for a command that answers with a new descriptor.
///
/// # Errors
/// The kernel's.
pub fn bpf_fd<A: Attr>(command: Command, attr: &mut A) -> Result<OwnedFd, SysError> {
    let fd = bpf(command, attr)?;
    // SAFETY: these commands answer with a descriptor that the kernel has just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Open a perf event for every process.
///
/// # Errors
/// The kernel's.
pub fn perf_event_open(attr: &PerfEventAttr, cpu: i32) -> Result<OwnedFd, SysError> {
    with_kernel(|k| k.perf_event_open(attr, cpu)).map_err(|e| SysError::new("perf_event_open", &e))
}

/// Tell a perf event something.
///
/// # Errors
/// The kernel's.
pub fn perf_ioctl(event: BorrowedFd<'_>, request: PerfIoctl) -> Result<(), SysError> {
    let call = match request {
        PerfIoctl::SetBpf(_) => "ioctl(PERF_EVENT_IOC_SET_BPF)",
        PerfIoctl::Enable => "ioctl(PERF_EVENT_IOC_ENABLE)",
        PerfIoctl::Disable => "ioctl(PERF_EVENT_IOC_DISABLE)",
    };
    with_kernel(|k| k.perf_ioctl(event, request)).map_err(|e| SysError::new(call, &e))
}

/// The address of a slice's first byte, as bpf(2) takes it.
pub fn addr_of<T>(slice: &[T]) -> u64 {
    slice.as_ptr() as u64
}

/// As [`addr_of`], for memory that the kernel writes.
pub fn addr_of_mut<T>(slice: &mut [T]) -> u64 {
    slice.as_mut_ptr() as u64
}

/// A name as the kernel takes it for maps and programs: 15 bytes of letters, digits, `_` and `.`.
pub fn object_name(name: &str) -> [u8; 16] {
    let mut out = [0; 16];
    for (to, from) in out[..15].iter_mut().zip(name.bytes()) {
        *to = match from {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' => from,
            _ => b'_',
        };
    }
    out
}

/// What perf_event_open(2) takes, and the function's name that it may point to.
pub struct PerfEventAttr<'a> {
    raw: RawPerfEventAttr,
    name: Option<&'a CStr>,
}

impl<'a> PerfEventAttr<'a> {
    /// A kprobe by the kprobe PMU (4.17+): at `function + offset`, or at the address `offset` without a function.
    /// `config` carries the bit that makes it a return probe.
    pub fn kprobe(pmu: u32, config: u64, function: Option<&'a CStr>, offset: u64) -> Self {
        let mut raw = RawPerfEventAttr::new(pmu, config);
        raw.config1 = function.map_or(0, |f| f.as_ptr() as u64);
        raw.config2 = offset;
        PerfEventAttr { raw, name: function }
    }

    /// A tracepoint by its id in tracefs.
    pub fn tracepoint(id: u64) -> Self {
        const PERF_TYPE_TRACEPOINT: u32 = 2;
        PerfEventAttr {
            raw: RawPerfEventAttr::new(PERF_TYPE_TRACEPOINT, id),
            name: None,
        }
    }

    /// An event that is counted: `kind` and `config` as perf_event_open(2) has them, and how often it overflows.
    pub fn counted(kind: u32, config: u64, overflow: Overflow) -> Self {
        /// The bit-field `freq`.
        const FREQ: u64 = 1 << 10;
        let mut raw = RawPerfEventAttr::new(kind, config);
        (raw.sample_period, raw.flags) = match overflow {
            Overflow::Every(count) => (count, 0),
            Overflow::Hertz(times) => (times, FREQ),
        };
        PerfEventAttr { raw, name: None }
    }

    /// The function's name, if it is a kprobe by name.
    pub fn name(&self) -> Option<&CStr> {
        self.name
    }

    /// The offset or the address, if it is a kprobe.
    pub fn offset(&self) -> u64 {
        self.raw.config2
    }
}

/// How often an event that is counted calls a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Every so many events; nanoseconds for a clock.
    Every(u64),
    /// So many times a second.
    Hertz(u64),
}

impl fmt::Debug for PerfEventAttr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerfEventAttr")
            .field("type", &self.raw.kind)
            .field("config", &self.raw.config)
            .field("name", &self.name)
            .field("offset", &self.raw.config2)
            .finish()
    }
}

/// `struct perf_event_attr` up to `PERF_ATTR_SIZE_VER5` (4.1+). Bit-fields stay zero: nothing of them is used.
#[repr(C)]
struct RawPerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    config1: u64,
    config2: u64,
    rest: [u64; 5],
}

impl RawPerfEventAttr {
    fn new(kind: u32, config: u64) -> Self {
        RawPerfEventAttr {
            kind,
            size: size_of::<RawPerfEventAttr>() as u32,
            config,
            sample_period: 0,
            sample_type: 0,
            read_format: 0,
            flags: 0,
            wakeup_events: 0,
            bp_type: 0,
            config1: 0,
            config2: 0,
            rest: [0; 5],
        }
    }
}

/// Define an argument of bpf(2): `#[repr(C)]`, zero by default, without padding.
macro_rules! attrs {
    ($($(#[$doc:meta])* $name:ident for $($command:ident),+ { $($field:ident: $ty:ty,)* })*) => {$(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Debug, Default)]
        #[allow(missing_docs)] // fields of union bpf_attr, under their own names
        pub struct $name { $(pub $field: $ty,)* }

        // The fields leave no gap: so no byte is uninitialised.
        const _: () = assert!(size_of::<$name>() == 0 $(+ size_of::<$ty>())*);

        // SAFETY: `#[repr(C)]` and without padding (asserted above); the fields are those of union bpf_attr in
        // order. Who fills in addresses keeps the memory alive over the call.
        unsafe impl Attr for $name {
            const COMMANDS: &'static [Command] = &[$(Command::$command),+];
        }
    )*};
}

attrs! {
    /// `BPF_MAP_CREATE`.
    MapCreate for MapCreate {
        map_type: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        map_flags: u32,
        inner_map_fd: u32,
        numa_node: u32,
        map_name: [u8; 16],
    }

    /// `BPF_MAP_*_ELEM` and `BPF_MAP_GET_NEXT_KEY`.
    MapElem for MapLookupElem, MapUpdateElem, MapDeleteElem, MapGetNextKey {
        map_fd: u32,
        pad: u32,
        key: u64,
        value_or_next_key: u64,
        flags: u64,
    }

    /// `BPF_MAP_LOOKUP_BATCH` (5.6+).
    MapBatch for MapLookupBatch {
        in_batch: u64,
        out_batch: u64,
        keys: u64,
        values: u64,
        count: u32,
        map_fd: u32,
        elem_flags: u64,
        flags: u64,
    }

    /// `BPF_ITER_CREATE` (5.8+).
    IterCreate for IterCreate {
        link_fd: u32,
        flags: u32,
    }

    /// `BPF_PROG_LOAD`.
    ProgLoad for ProgLoad {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buf: u64,
        kern_version: u32,
        prog_flags: u32,
        prog_name: [u8; 16],
        prog_ifindex: u32,
        expected_attach_type: u32,
        prog_btf_fd: u32,
        func_info_rec_size: u32,
        func_info: u64,
        func_info_cnt: u32,
        line_info_rec_size: u32,
        line_info: u64,
        line_info_cnt: u32,
        attach_btf_id: u32,
        attach_btf_obj_fd: u32,
        pad: u32,
    }

    /// `BPF_PROG_TEST_RUN`.
    ProgTestRun for ProgTestRun {
        prog_fd: u32,
        retval: u32,
        data_size_in: u32,
        data_size_out: u32,
        data_in: u64,
        data_out: u64,
        repeat: u32,
        duration: u32,
        ctx_size_in: u32,
        ctx_size_out: u32,
        ctx_in: u64,
        ctx_out: u64,
    }

    /// `BPF_OBJ_GET_INFO_BY_FD`.
    ObjInfo for ObjGetInfoByFd {
        bpf_fd: u32,
        info_len: u32,
        info: u64,
    }

    /// `BPF_RAW_TRACEPOINT_OPEN`.
    RawTracepointOpen for RawTracepointOpen {
        name: u64,
        prog_fd: u32,
        pad: u32,
        cookie: u64,
    }

    /// `BPF_BTF_LOAD`.
    BtfLoad for BtfLoad {
        btf: u64,
        btf_log_buf: u64,
        btf_size: u32,
        btf_log_size: u32,
        btf_log_level: u32,
        pad: u32,
    }

    /// `BPF_BTF_GET_NEXT_ID` and `BPF_BTF_GET_FD_BY_ID`.
    ById for BtfGetNextId, BtfGetFdById {
        id: u32,
        next_id: u32,
        open_flags: u32,
    }

    /// `BPF_LINK_CREATE` for a perf event (5.15+).
    LinkPerfEvent for LinkCreate {
        prog_fd: u32,
        target_fd: u32,
        attach_type: u32,
        flags: u32,
        cookie: u64,
    }

    /// `BPF_LINK_CREATE` for kprobe-multi (5.18+).
    LinkKprobeMulti for LinkCreate {
        prog_fd: u32,
        target_fd: u32,
        attach_type: u32,
        flags: u32,
        multi_flags: u32,
        cnt: u32,
        syms: u64,
        addrs: u64,
        cookies: u64,
    }

    /// `BPF_LINK_CREATE` for one tracing program (`tp_btf`, fentry, fexit) with a cookie (5.19+).
    LinkTracing for LinkCreate {
        prog_fd: u32,
        target_fd: u32,
        attach_type: u32,
        flags: u32,
        target_btf_id: u32,
        pad: u32,
        cookie: u64,
    }

    /// `BPF_ENABLE_STATS` (5.8+).
    EnableStats for EnableStats {
        kind: u32,
    }

    /// `BPF_LINK_CREATE` for tracing-multi (7.2+).
    LinkTracingMulti for LinkCreate {
        prog_fd: u32,
        target_fd: u32,
        attach_type: u32,
        flags: u32,
        ids: u64,
        cookies: u64,
        cnt: u32,
        pad: u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Refuses(i32);

    impl Kernel for Refuses {
        fn bpf(&self, _: Command, _: &mut [u8]) -> io::Result<RawFd> {
            Err(io::Error::from_raw_os_error(self.0))
        }
        fn perf_event_open(&self, _: &PerfEventAttr, _: i32) -> io::Result<OwnedFd> {
            Err(io::Error::from_raw_os_error(self.0))
        }
        fn perf_ioctl(&self, _: BorrowedFd<'_>, _: PerfIoctl) -> io::Result<()> {
            Err(io::Error::from_raw_os_error(self.0))
        }
    }

    #[test]
    fn an_error_names_the_call() {
        let error = with_fake(Some(Arc::new(Refuses(libc::EPERM))), || {
            bpf(Command::MapCreate, &mut MapCreate::default())
        });
        assert_eq!(
            error.unwrap_err().to_string(),
            "BPF_MAP_CREATE: Operation not permitted (os error 1)"
        );
        assert!(current().is_none(), "the fake is gone after its scope");
    }

    #[test]
    fn names_are_cut_and_cleaned() {
        assert_eq!(&object_name("events"), b"events\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(&object_name("@a very long name"), b"_a_very_long_na\0");
    }

    #[test]
    fn layouts_match_the_uapi() {
        // Offsets from linux/bpf.h's union bpf_attr.
        assert_eq!(std::mem::offset_of!(ProgLoad, prog_name), 48);
        assert_eq!(std::mem::offset_of!(ProgLoad, expected_attach_type), 68);
        assert_eq!(std::mem::offset_of!(ProgLoad, attach_btf_id), 108);
        assert_eq!(std::mem::offset_of!(MapCreate, map_name), 28);
        assert_eq!(std::mem::offset_of!(ProgTestRun, ctx_in), 48);
        assert_eq!(std::mem::offset_of!(LinkKprobeMulti, cookies), 40);
        assert_eq!(size_of::<RawPerfEventAttr>(), 112);
    }
}
