//! Addresses in processes: which file they come from, and the symbol there if the file tells.
//!
//! Deliberately absent: separate debug files, and processes that are gone: then nobody knows any more.

use std::collections::HashMap;
use std::rc::Rc;

use object::{Object, ObjectSegment, ObjectSymbol, SymbolKind};

/// What is known of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// File and offset: `libc.so.6+0x1234`.
    pub place: String,
    /// The function's name and how many bytes into it.
    pub symbol: Option<(String, u64)>,
}

/// Processes' mappings and files' symbols, each read once.
#[derive(Default)]
pub struct UserSymbols {
    processes: HashMap<u32, Vec<Mapping>>,
    files: HashMap<String, Rc<File>>,
}

/// A line of /proc/PID/maps that is code.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mapping {
    start: u64,
    end: u64,
    offset: u64,
    path: String,
}

/// What a file says of its code.
#[derive(Default)]
struct File {
    /// Offset in the file, size, address.
    segments: Vec<(u64, u64, u64)>,
    /// Address, size, name; by address.
    symbols: Vec<(u64, u64, String)>,
}

impl UserSymbols {
    /// What is at an address of a process.
    pub fn find(&mut self, pid: u32, addr: u64) -> Option<Found> {
        let mappings = self.processes.entry(pid).or_insert_with(|| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
            text.lines().filter_map(mapping).collect()
        });
        let mapping = mappings
            .iter()
            .find(|m| (m.start..m.end).contains(&addr))?
            .clone();
        let offset = addr - mapping.start + mapping.offset;
        let file = match mapping.path.starts_with('/') {
            true => self.file(pid, &mapping.path),
            false => Rc::default(),
        };
        let name = mapping.path.rsplit('/').next().unwrap_or_default();
        Some(Found {
            place: format!("{name}+{offset:#x}"),
            symbol: file.symbol(offset),
        })
    }

    /// A file as the process sees it.
    fn file(&mut self, pid: u32, path: &str) -> Rc<File> {
        let path = format!("/proc/{pid}/root{path}");
        // Different roots may have different files of one name; the same file read twice does no harm.
        let read = |path: &str| File::parse(&std::fs::read(path).ok()?);
        let file = self.files.entry(path.clone());
        Rc::clone(file.or_insert_with(|| Rc::new(read(&path).unwrap_or_default())))
    }
}

fn mapping(line: &str) -> Option<Mapping> {
    let mut words = line.splitn(6, ' ');
    let (start, end) = words.next()?.split_once('-')?;
    if !words.next()?.contains('x') {
        return None;
    }
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let offset = hex(words.next()?)?;
    let path = words.nth(2).unwrap_or_default().trim();
    Some(Mapping {
        start: hex(start)?,
        end: hex(end)?,
        offset,
        path: if path.is_empty() { "[anon]" } else { path }.into(),
    })
}

impl File {
    fn parse(bytes: &[u8]) -> Option<File> {
        let elf = object::File::parse(bytes).ok()?;
        let segments = elf.segments().map(|segment| {
            let (offset, size) = segment.file_range();
            (offset, size, segment.address())
        });
        let symbols = elf.symbols().chain(elf.dynamic_symbols());
        let mut symbols: Vec<_> = symbols
            .filter(|s| s.kind() == SymbolKind::Text && s.address() != 0)
            .filter_map(|s| Some((s.address(), s.size(), s.name().ok()?.to_string())))
            .collect();
        symbols.sort();
        symbols.dedup_by_key(|(addr, ..)| *addr);
        Some(File {
            segments: segments.collect(),
            symbols,
        })
    }

    /// The function that holds the byte at an offset in the file.
    fn symbol(&self, offset: u64) -> Option<(String, u64)> {
        let mut segments = self.segments.iter();
        let (start, _, address) =
            segments.find(|(start, size, _)| offset >= *start && offset - start < *size)?;
        let addr = offset - start + address;
        let after = self.symbols.partition_point(|(a, ..)| *a <= addr);
        let (at, size, name) = self.symbols[..after].last()?;
        (*size == 0 || addr - at < *size).then(|| (name.clone(), addr - at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_read() {
        let line = "7f00a000-7f00b000 r-xp 00001000 fe:01 42                 /usr/lib/my lib.so";
        let read = mapping(line).expect("code");
        assert_eq!(
            (read.start, read.end, read.offset),
            (0x7f00_a000, 0x7f00_b000, 0x1000)
        );
        assert_eq!(read.path, "/usr/lib/my lib.so");
        assert_eq!(mapping(&line.replace("r-xp", "rw-p")), None);
        assert_eq!(
            mapping("7f00a000-7f00b000 r-xp 0 00:00 0 ").map(|m| m.path),
            Some("[anon]".into())
        );
    }

    #[test]
    fn our_own_code_has_a_place() {
        let addr = mapping_of_this_test as *const () as u64;
        let mut symbols = UserSymbols::default();
        let found = symbols.find(std::process::id(), addr).expect("it is mapped");
        let (name, offset) = found.symbol.expect("test binaries are not stripped");
        assert!(name.contains("mapping_of_this_test"), "{name}");
        assert_eq!(offset, 0);
        assert!(found.place.starts_with("ktrail"), "{}", found.place);
        assert_eq!(symbols.find(std::process::id(), 8), None);
    }

    #[inline(never)]
    fn mapping_of_this_test() {
        std::hint::black_box(());
    }
}
