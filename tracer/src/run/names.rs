//! What numbers stand for on this machine: symbols, stacks, users, times.
//!
//! Everything is read when it is first asked for.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ktrail_ebpf::script::types::{Clock, StackMode};

use super::decode::Names;
use super::syscalls;
use super::user_symbols::UserSymbols;
use crate::kernel::maps::{Map, Maps};
use crate::kernel::symbols::Symbols;
use crate::kernel::time::{clock, strftime};

/// The running kernel's symbols, read when they are first asked for; None if they can't be.
#[derive(Clone, Default)]
pub struct LazySymbols(Rc<OnceCell<Option<Symbols>>>);

impl LazySymbols {
    /// The symbols.
    pub fn get(&self) -> Option<&Symbols> {
        self.0.get_or_init(|| Symbols::load().ok()).as_ref()
    }
}

/// Names on the running machine.
pub struct MachineNames {
    symbols: LazySymbols,
    user_symbols: RefCell<UserSymbols>,
    maps: Rc<Maps>,
    /// The stack maps' names by depth.
    stacks: Vec<(u32, String)>,
    probes: Vec<String>,
    users: OnceCell<HashMap<u64, String>>,
    cgroups: RefCell<HashMap<u64, String>>,
    /// What to add to a clock's time to get the time of day.
    offsets: [(Clock, i64); 3],
}

impl MachineNames {
    /// Names for what these maps and probes refer to.
    pub fn new(
        symbols: LazySymbols,
        maps: Rc<Maps>,
        stacks: Vec<(u32, String)>,
        probes: Vec<String>,
    ) -> Self {
        let offset = |id| (clock(libc::CLOCK_REALTIME) as i64).wrapping_sub(clock(id) as i64);
        MachineNames {
            symbols,
            user_symbols: RefCell::default(),
            maps,
            stacks,
            probes,
            users: OnceCell::new(),
            cgroups: RefCell::default(),
            offsets: [
                (Clock::Boot, offset(libc::CLOCK_BOOTTIME)),
                (Clock::Monotonic, offset(libc::CLOCK_MONOTONIC)),
                (Clock::Tai, offset(libc::CLOCK_TAI)),
            ],
        }
    }

    fn stack_map(&self, depth: u32) -> Option<&Map> {
        let (_, name) = self.stacks.iter().find(|(d, _)| *d == depth)?;
        self.maps.get(name)
    }

    /// The addresses of a stack, innermost first.
    fn frames(&self, id: i64, depth: u32) -> Vec<u64> {
        let stack = u32::try_from(id).ok().and_then(|id| {
            let map = self.stack_map(depth)?;
            map.lookup(&id.to_ne_bytes()).ok()?
        });
        let stack = stack.unwrap_or_default();
        let addresses = stack
            .chunks_exact(8)
            .map(|b| u64::from_ne_bytes(b.try_into().expect("eight bytes")));
        addresses.take_while(|&a| a != 0).collect()
    }

    fn kernel_symbol(&self, addr: u64) -> Option<(String, u64)> {
        let (symbol, offset) = self.symbols.get()?.last_at(addr)?;
        Some((symbol.name.to_string(), offset))
    }
}

/// An address that no symbol has.
fn unnamed(addr: u64) -> String {
    match addr {
        0 => "0".into(),
        _ => format!("{addr:#x}"),
    }
}

/// A frame of a stack, as the mode has it. A line that starts with a tab is not indented.
fn frame(addr: u64, symbol: Option<(String, u64)>, mode: StackMode) -> String {
    let symbol = symbol.map(|(name, offset)| format!("{name}+{offset}"));
    match mode {
        StackMode::Bpftrace => symbol.unwrap_or_else(|| format!("{addr:#x}")),
        StackMode::Perf => format!("\t{addr:x} {}", symbol.as_deref().unwrap_or("[unknown]")),
        StackMode::Raw | StackMode::BuildId => format!("{addr:x}"),
    }
}

impl Names for MachineNames {
    fn ksym(&self, addr: u64) -> String {
        self.kernel_symbol(addr)
            .map_or_else(|| unnamed(addr), |(name, _)| name)
    }

    fn usym(&self, addr: u64, pid: u32) -> String {
        let mut symbols = self.user_symbols.borrow_mut();
        match symbols.find(pid, addr) {
            Some(found) => found.symbol.map_or(found.place, |(name, _)| name),
            None => unnamed(addr),
        }
    }

    fn kstack(&self, id: i64, mode: StackMode, depth: u32) -> Vec<String> {
        let frames = self.frames(id, depth).into_iter();
        frames
            .map(|addr| frame(addr, self.kernel_symbol(addr), mode))
            .collect()
    }

    fn ustack(&self, id: i64, pid: u32, mode: StackMode, depth: u32) -> Vec<String> {
        let mut symbols = self.user_symbols.borrow_mut();
        let frames = self.frames(id, depth).into_iter();
        frames
            .map(|addr| match symbols.find(pid, addr) {
                Some(found) if found.symbol.is_none() && mode == StackMode::Bpftrace => {
                    format!("{addr:#x} ({})", found.place)
                }
                found => frame(addr, found.and_then(|f| f.symbol), mode),
            })
            .collect()
    }

    fn time(&self, nanos: u64, clock: Clock, format: &str) -> String {
        let offset = self.offsets.iter().find(|(c, _)| *c == clock);
        let wall = (nanos as i64).wrapping_add(offset.map_or(0, |(_, offset)| *offset));
        wall_clock(wall, format)
    }

    fn cgroup(&self, id: u64, filter: &str) -> String {
        let mut known = self.cgroups.borrow_mut();
        let name = known
            .entry(id)
            .or_insert_with(|| cgroup_path(id).unwrap_or_default());
        match filter {
            "" | "unified" => name.clone(),
            _ => String::new(),
        }
    }

    fn user(&self, uid: u64) -> String {
        let users = self.users.get_or_init(|| {
            let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
            let user = |line: &str| {
                let mut fields = line.split(':');
                let name = fields.next()?.to_string();
                Some((fields.nth(1)?.parse().ok()?, name))
            };
            text.lines().filter_map(user).collect()
        });
        users.get(&uid).cloned().unwrap_or_else(|| uid.to_string())
    }

    fn error(&self, number: i64) -> String {
        let number = i32::try_from(number).unwrap_or(i32::MAX);
        let text = std::io::Error::from_raw_os_error(number).to_string();
        let end = text.rfind(" (os error").unwrap_or(text.len());
        text[..end].to_string()
    }

    fn signal(&self, number: i64) -> String {
        // What glibc's strsignal() says, which bpftrace prints.
        const SIGNALS: [&str; 31] = [
            "Hangup",
            "Interrupt",
            "Quit",
            "Illegal instruction",
            "Trace/breakpoint trap",
            "Aborted",
            "Bus error",
            "Floating point exception",
            "Killed",
            "User defined signal 1",
            "Segmentation fault",
            "User defined signal 2",
            "Broken pipe",
            "Alarm clock",
            "Terminated",
            "Stack fault",
            "Child exited",
            "Continued",
            "Stopped (signal)",
            "Stopped",
            "Stopped (tty input)",
            "Stopped (tty output)",
            "Urgent I/O condition",
            "CPU time limit exceeded",
            "File size limit exceeded",
            "Virtual timer expired",
            "Profiling timer expired",
            "Window changed",
            "I/O possible",
            "Power failure",
            "Bad system call",
        ];
        match number {
            1..=31 => SIGNALS[number as usize - 1].to_string(),
            0 | 32 | 33 => format!("Unknown signal {number}"),
            34..=64 => format!("Real-time signal {}", number - 34),
            _ => "N/A".to_string(),
        }
    }

    fn syscall(&self, number: i64) -> String {
        syscalls::name(number).map_or_else(|| number.to_string(), str::to_string)
    }

    fn probe(&self, index: u64) -> String {
        let name = usize::try_from(index).ok().and_then(|i| self.probes.get(i));
        name.cloned().unwrap_or_default()
    }
}

/// A time of day in nanoseconds since the Unix epoch by a strftime format, in which `%f` are microseconds, `%l`
/// milliseconds and `%k` nanoseconds of the second.
pub fn wall_clock(nanos: i64, format: &str) -> String {
    let (seconds, rest) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    let mut libcs = String::with_capacity(format.len());
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        let conversion = if c == '%' { chars.next() } else { None };
        match conversion {
            Some('f') => libcs.push_str(&format!("{:06}", rest / 1000)),
            Some('l') => libcs.push_str(&format!("{:03}", rest / 1_000_000)),
            Some('k') => libcs.push_str(&format!("{rest:09}")),
            Some(other) => libcs.extend(['%', other]),
            // Nothing of libc's: a single percent sign at the end stays one.
            None if c == '%' => libcs.push_str("%%"),
            None => libcs.push(c),
        }
    }
    strftime(&libcs, seconds)
}

/// The path of a cgroup by its id, which is the inode number of its directory.
fn cgroup_path(id: u64) -> Option<String> {
    const ROOT: &str = "/sys/fs/cgroup";
    let root = ["/sys/fs/cgroup/unified", ROOT]
        .into_iter()
        .map(Path::new)
        .find(|root| root.join("cgroup.controllers").exists())?;
    let mut dirs: Vec<PathBuf> = vec![root.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        if dir.metadata().is_ok_and(|m| m.ino() == id) {
            let below = dir.strip_prefix(root).ok()?;
            return Some(format!("unified:/{}", below.display()));
        }
        let entries = std::fs::read_dir(&dir).into_iter().flatten();
        let entries = entries.filter_map(Result::ok);
        dirs.extend(
            entries
                .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
                .map(|e| e.path()),
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> MachineNames {
        let probes = vec!["kprobe:a".into()];
        MachineNames::new(LazySymbols::default(), Rc::default(), vec![], probes)
    }

    #[test]
    fn fractions_of_a_second() {
        let at = 86_400_000_000_000 * 365 + 1_002_003_004;
        assert_eq!(wall_clock(at, "%f %l %k"), "002003 002 002003004");
        assert_eq!(wall_clock(at, "%%f 100%"), "%f 100%");
        assert_eq!(wall_clock(at, "%Y"), "1971");
        assert_eq!(wall_clock(-1, "%k"), "999999999");
    }

    #[test]
    fn numbers_have_names() {
        let names = names();
        assert_eq!(names.error(2), "No such file or directory");
        assert_eq!(names.signal(9), "Killed");
        assert_eq!(names.signal(64), "Real-time signal 30");
        assert_eq!(names.user(0), "root");
        assert_eq!(names.user(4_000_000_000), "4000000000");
        assert_eq!(names.probe(0), "kprobe:a");
        assert_eq!(names.probe(1), "");
    }

    #[test]
    fn frames_follow_the_mode() {
        let symbol = || Some(("f".to_string(), 3));
        assert_eq!(frame(0x10, symbol(), StackMode::Bpftrace), "f+3");
        assert_eq!(frame(0x10, None, StackMode::Bpftrace), "0x10");
        assert_eq!(frame(0x10, symbol(), StackMode::Perf), "\t10 f+3");
        assert_eq!(frame(0x10, symbol(), StackMode::Raw), "10");
    }
}
