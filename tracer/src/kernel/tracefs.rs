//! tracefs: where it is, tracepoints' ids and the layout of their records.
//!
//! Where nobody has mounted it, ktrail opens it for itself, without mounting it anywhere (5.2+).

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ktrail_ebpf::script::env::TracepointField;

use super::probeable;

/// tracefs' directory: where it is mounted, or one that only this process sees. None if the kernel has none, or we
/// may not.
pub fn dir() -> Option<PathBuf> {
    static OWN: OnceLock<Option<OwnedFd>> = OnceLock::new();
    let mounted = probeable::tracefs().filter(|dir| dir.join("events").is_dir());
    mounted.or_else(|| {
        let fd = OWN.get_or_init(open).as_ref()?;
        Some(PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd())))
    })
}

/// A mount of tracefs that is in no directory.
fn open() -> Option<OwnedFd> {
    const FSCONFIG_CMD_CREATE: libc::c_long = 6;
    let owned = |result: libc::c_long| {
        // SAFETY: the kernel has just made this descriptor for us.
        (result >= 0).then(|| unsafe { OwnedFd::from_raw_fd(result as RawFd) })
    };
    // SAFETY: fsopen(2) takes a C string and flags; 1 is FSOPEN_CLOEXEC.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, c"tracefs".as_ptr(), 1) })?;
    let fd = context.as_raw_fd();
    let null = std::ptr::null::<u8>();
    // SAFETY: fsconfig(2) with this command takes neither key nor value.
    let made = unsafe { libc::syscall(libc::SYS_fsconfig, fd, FSCONFIG_CMD_CREATE, null, null, 0) };
    if made != 0 {
        return None;
    }
    // SAFETY: fsmount(2) takes numbers only; 1 is FSMOUNT_CLOEXEC.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, fd, 1, 0) })
}

/// The names in a directory below `events`, sorted; empty if it can't be read.
pub(super) fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).into_iter().flatten();
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    names
}

/// The categories of tracepoints, sorted.
pub fn categories() -> Vec<String> {
    dir().map_or_else(Vec::new, |dir| names(&dir.join("events")))
}

/// The tracepoints of a category, sorted.
pub fn events(category: &str) -> Vec<String> {
    dir().map_or_else(Vec::new, |dir| names(&dir.join("events").join(category)))
}

/// A file of a tracepoint's. Names with a slash are none.
fn file(category: &str, name: &str, file: &str) -> Option<String> {
    if [category, name].iter().any(|n| n.is_empty() || n.contains('/')) {
        return None;
    }
    let path = dir()?.join("events").join(category).join(name).join(file);
    std::fs::read_to_string(path).ok()
}

/// The number by which perf_event_open(2) knows a tracepoint.
pub fn id(category: &str, name: &str) -> Option<u64> {
    file(category, name, "id")?.trim().parse().ok()
}

/// The fields of a tracepoint's record, without those that all have.
pub fn fields(category: &str, name: &str) -> Option<Vec<TracepointField>> {
    Some(parse(&file(category, name, "format")?))
}

/// The fields that the text of a `format` file describes.
fn parse(text: &str) -> Vec<TracepointField> {
    let fields = text.lines().filter_map(|line| field(line.trim()));
    fields
        .filter(|field| !field.name.starts_with("common_"))
        .collect()
}

/// A line such as `field:char comm[16]; offset:8; size:16; signed:0;`.
fn field(line: &str) -> Option<TracepointField> {
    let declaration = line.strip_prefix("field:")?;
    let (declaration, rest) = declaration.split_once(';')?;
    let number = |what: &str| {
        let (_, value) = rest.split_once(what)?;
        value.split(';').next()?.trim().parse::<i64>().ok()
    };
    // The name is the last word, an array's length behind it; the length may be a constant that has no number here.
    let (declaration, length) = match declaration.strip_suffix(']').and_then(|d| d.rsplit_once('[')) {
        // `__data_loc char[] name` ends otherwise.
        Some((before, length)) => (before.trim_end(), Some(length.trim())),
        None => (declaration.trim_end(), None),
    };
    let at = declaration.rfind(|c: char| !(c.is_alphanumeric() || c == '_'))? + 1;
    let (c_type, name) = declaration.split_at(at);
    let size = u32::try_from(number("size:")?).ok()?;
    let c_type = c_type.trim().to_string();
    let array = length.map(|length| {
        // A length that is an expression: bytes, divided by the size of what we know.
        length.parse().unwrap_or_else(|_| size / element_size(&c_type))
    });
    Some(TracepointField {
        name: name.into(),
        c_type,
        offset: u32::try_from(number("offset:")?).ok()?,
        size,
        signed: number("signed:")? != 0,
        array,
    })
}

fn element_size(c_type: &str) -> u32 {
    match c_type
        .trim_start_matches("const ")
        .trim_start_matches("unsigned ")
    {
        "u16" | "__u16" | "s16" | "short" => 2,
        "u32" | "__u32" | "s32" | "int" => 4,
        "u64" | "__u64" | "s64" | "long" => 8,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: &str = "name: sched_switch
ID: 321
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:char prev_comm[16];\toffset:8;\tsize:16;\tsigned:0;
\tfield:pid_t prev_pid;\toffset:24;\tsize:4;\tsigned:1;
\tfield:const char * name;\toffset:32;\tsize:8;\tsigned:0;
\tfield:__data_loc char[] dev;\toffset:40;\tsize:4;\tsigned:0;
\tfield:u8 saddr[sizeof(u8) * 4];\toffset:44;\tsize:4;\tsigned:0;
\tfield:unsigned long args[6];\toffset:48;\tsize:48;\tsigned:0;

print fmt: \"prev_comm=%s\", REC->prev_comm
";

    #[test]
    fn formats_are_read() {
        let fields = parse(FORMAT);
        let short: Vec<_> = fields
            .iter()
            .map(|f| {
                (
                    f.name.as_str(),
                    f.c_type.as_str(),
                    f.offset,
                    f.size,
                    f.signed,
                    f.array,
                )
            })
            .collect();
        assert_eq!(
            short,
            [
                ("prev_comm", "char", 8, 16, false, Some(16)),
                ("prev_pid", "pid_t", 24, 4, true, None),
                ("name", "const char *", 32, 8, false, None),
                ("dev", "__data_loc char[]", 40, 4, false, None),
                ("saddr", "u8", 44, 4, false, Some(4)),
                ("args", "unsigned long", 48, 48, false, Some(6)),
            ]
        );
    }

    #[test]
    fn names_stay_inside_tracefs() {
        assert_eq!(id("..", "x/../y"), None);
        assert_eq!(id("", "sched"), None);
    }
}
