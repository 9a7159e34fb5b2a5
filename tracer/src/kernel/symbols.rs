//! The kernel's symbols, from /proc/kallsyms: addresses to names and names to addresses.
//!
//! Deliberately absent: sizes, which kallsyms does not tell. A symbol reaches to the next one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, OnceLock};

use super::Lacking;

/// All symbols, by address. They are read when they are first asked for, which takes the kernel half a second on a
/// slow machine; [`Symbols::read_ahead`] does it beside other work.
#[derive(Clone, Default)]
pub struct Symbols(Arc<OnceLock<Table>>);

#[derive(Default)]
struct Table {
    entries: Vec<Entry>,
    names: String,
    modules: Vec<String>,
}

/// 16 bytes: there are 120,000 and more.
#[derive(Clone, Copy)]
struct Entry {
    addr: u64,
    name: u32,
    /// The length of its name, and [`TEXT`].
    len: u16,
    /// 0: the kernel itself; else one more than the index into the modules.
    module: u16,
}

/// Code, not data. Names have up to 511 bytes.
const TEXT: u16 = 1 << 15;

impl Entry {
    fn is_text(self) -> bool {
        self.len & TEXT != 0
    }
}

/// A symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// Its address.
    pub addr: u64,
    /// Its name, with the compiler's suffixes (`.isra.0`).
    pub name: &'a str,
    /// The module that it is in; empty for the kernel itself; `bpf` for programs.
    pub module: &'a str,
}

/// Where code of a name is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// Its address.
    pub addr: u64,
    /// The module that it is in; empty for the kernel itself; `bpf` for programs.
    pub module: String,
}

/// Functions by the addresses of their code, also where modules come while they are asked for: to the symbols read before,
/// such an address is in whatever was the last before it. An address that was asked for keeps its name.
pub struct Functions {
    symbols: RefCell<Symbols>,
    /// The modules that `symbols` knows.
    modules: RefCell<Vec<String>>,
    known: RefCell<HashMap<u64, Option<String>>>,
}

impl Functions {
    /// Begins with symbols that have just been read, or are not read yet.
    pub fn new(symbols: Symbols) -> Functions {
        Functions {
            symbols: RefCell::new(symbols),
            modules: RefCell::new(modules(&loaded())),
            known: RefCell::default(),
        }
    }

    /// The name of the function that the address is in, with the compiler's suffixes.
    pub fn at(&self, address: u64) -> Option<String> {
        if let Some(known) = self.known.borrow().get(&address) {
            return known.clone();
        }
        // No function of the kernel itself is as long.
        const LONG: u64 = 1 << 20;
        let own = |(symbol, offset): (Symbol<'_>, u64)| symbol.module.is_empty() && offset < LONG;
        if !self.symbols.borrow().at(address).is_some_and(own) {
            let modules = modules(&loaded());
            if *self.modules.borrow() != modules {
                *self.symbols.borrow_mut() = Symbols::default();
                *self.modules.borrow_mut() = modules;
            }
        }
        let name = self
            .symbols
            .borrow()
            .at(address)
            .map(|(symbol, _)| symbol.name.to_owned());
        self.known.borrow_mut().insert(address, name.clone());
        name
    }
}

fn loaded() -> String {
    std::fs::read_to_string("/proc/modules").unwrap_or_default()
}

/// Names and addresses of modules in /proc/modules, without what changes while they are loaded.
fn modules(listing: &str) -> Vec<String> {
    let line = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        format!(
            "{} {}",
            words.first().unwrap_or(&""),
            words.iter().find(|word| word.starts_with("0x")).unwrap_or(&"")
        )
    };
    listing.lines().map(line).collect()
}

/// Where the kernel lists them.
const KALLSYMS: &str = "/proc/kallsyms";

impl Symbols {
    /// The running kernel's symbols, if they can be read.
    ///
    /// # Errors
    /// If there are none, or if the kernel hides the addresses.
    pub fn load() -> Result<Symbols, Lacking> {
        const WHAT: &str = "the kernel's symbols can't be read";
        // Addresses are hidden or not hidden all alike, but some are zero in any case: a few are enough to tell.
        let mut start = [0; 16 << 10];
        let read = File::open(KALLSYMS).and_then(|mut file| {
            let mut len = 0;
            while let n @ 1.. = file.read(&mut start[len..])? {
                len += n;
            }
            Ok(len)
        });
        let len = read.map_err(|e| Lacking {
            what: WHAT.into(),
            why: format!("{KALLSYMS}: {e}"),
            fix: "mount /proc, or use a kernel built with CONFIG_KALLSYMS_ALL=y".into(),
        })?;
        let some = Table::parse(&String::from_utf8_lossy(&start[..len]));
        if some.entries.iter().all(|e| e.addr == 0) {
            return Err(Lacking {
                what: WHAT.into(),
                why: format!("the kernel hides the addresses in {KALLSYMS} (kernel.kptr_restrict)"),
                fix: "run as root or with CAP_SYSLOG; if it is 2, `sysctl kernel.kptr_restrict=1`".into(),
            });
        }
        Ok(Symbols::default())
    }

    /// Symbols from text in the form of /proc/kallsyms. Lines of another form are left out.
    pub fn parse(text: &str) -> Symbols {
        let symbols = Symbols::default();
        symbols.0.get_or_init(|| Table::parse(text));
        symbols
    }

    /// Begin to read them, in a thread of its own that leaves the CPU to whoever wants it.
    pub fn read_ahead(&self) {
        let this = self.clone();
        // Without it they are read later.
        let _ = std::thread::Builder::new().spawn(move || {
            // SAFETY: no memory is involved. On Linux this is about the calling thread only.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
            this.table();
        });
    }

    fn table(&self) -> &Table {
        self.0.get_or_init(|| {
            // More room is reserved than it takes, since growing would leave holes as large; what is never written to is
            // no memory.
            let mut table = Table {
                entries: Vec::with_capacity(1 << 18),
                names: String::with_capacity(8 << 20),
                modules: Vec::new(),
            };
            each_line(|line| table.parse_line(line).unwrap_or_default());
            table.sort();
            table.entries.shrink_to_fit();
            table.names.shrink_to_fit();
            table
        })
    }

    /// The code that an address is in, and how many bytes into it. Of several names the first that is listed, which is what
    /// the kernel prints.
    pub fn at(&self, addr: u64) -> Option<(Symbol<'_>, u64)> {
        let table = self.table();
        let after = table.entries.partition_point(|e| e.addr <= addr);
        // Of symbols with one address, the first listed; markers such as `_text` come later or are data.
        let last = table.entries[..after].iter().rev().find(|e| e.is_text())?;
        let first = table.entries.partition_point(|e| e.addr < last.addr);
        let entry = table.entries[first..after].iter().find(|e| e.is_text())?;
        (entry.addr != 0).then(|| (table.symbol(entry), addr - entry.addr))
    }

    /// As [`Symbols::at`], but of several names the last that is listed, which is what bpftrace prints.
    pub fn last_at(&self, addr: u64) -> Option<(Symbol<'_>, u64)> {
        let table = self.table();
        let after = table.entries.partition_point(|e| e.addr <= addr);
        let entry = table.entries[..after].iter().rev().find(|e| e.is_text())?;
        (entry.addr != 0).then(|| (table.symbol(entry), addr - entry.addr))
    }

    /// The code of that name. More than one if the name is ambiguous: static functions of several files.
    pub fn named(&self, name: &str) -> Vec<Symbol<'_>> {
        self.code().filter(|s| s.name == name).collect()
    }

    /// All code, by address.
    pub fn code(&self) -> impl Iterator<Item = Symbol<'_>> {
        let table = self.table();
        table
            .entries
            .iter()
            .filter(|e| e.is_text())
            .map(|e| table.symbol(e))
    }

    /// The address of the first symbol of that name, code or data.
    pub fn address(&self, name: &str) -> Option<u64> {
        let table = self.table();
        let mut symbols = table.entries.iter().map(|e| table.symbol(e));
        symbols.find(|s| s.name == name).map(|s| s.addr)
    }

    /// As [`Symbols::named`] for many names at once, in one walk. Names without code have no entry. If the symbols have not
    /// been read yet, they are looked through, but not kept.
    pub fn named_each<'n>(&self, names: impl Iterator<Item = &'n str>) -> HashMap<&'n str, Vec<Code>> {
        let mut found: HashMap<&str, Vec<Code>> = names.map(|n| (n, Vec::new())).collect();
        let mut look_at = |name: &str, module: &str, addr: u64| {
            if let Some(list) = found.get_mut(name) {
                let module = module.to_owned();
                list.push(Code { addr, module });
            }
        };
        match self.0.get() {
            Some(_) => self.code().for_each(|s| look_at(s.name, s.module, s.addr)),
            None => each_line(|line| {
                if let Some(line) = Line::parse(line).filter(|line| line.text) {
                    look_at(line.name, line.module, line.addr);
                }
            }),
        }
        found.retain(|_, list| !list.is_empty());
        // As the table has them.
        found
            .values_mut()
            .for_each(|list| list.sort_by_key(|code| code.addr));
        found
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.table().entries.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A symbol as the kernel lists it.
struct Line<'a> {
    addr: u64,
    /// Code, not data.
    text: bool,
    name: &'a str,
    module: &'a str,
}

impl Line<'_> {
    fn parse(line: &str) -> Option<Line<'_>> {
        let (addr, rest) = line.split_once(' ')?;
        let (kind, rest) = rest.split_once(' ')?;
        let (name, module) = match rest.split_once('\t') {
            Some((name, module)) => (name, module.trim_start_matches('[').trim_end_matches(']')),
            None => (rest, ""),
        };
        Some(Line {
            addr: u64::from_str_radix(addr, 16).ok()?,
            // As nm(1) has them.
            text: matches!(kind, "t" | "T" | "w" | "W"),
            name,
            module,
        })
    }
}

/// Line by line, as the whole text would take twice the room of the table.
fn each_line(mut f: impl FnMut(&str)) {
    let Ok(file) = File::open(KALLSYMS) else { return };
    let mut file = BufReader::with_capacity(64 << 10, file);
    let mut line = Vec::with_capacity(256);
    while file.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        f(String::from_utf8_lossy(&line).trim_end_matches('\n'));
        line.clear();
    }
}

impl Table {
    fn parse(text: &str) -> Table {
        let mut table = Table {
            entries: Vec::with_capacity(text.len() / 40),
            names: String::with_capacity(text.len() / 2),
            modules: Vec::new(),
        };
        for line in text.lines() {
            table.parse_line(line);
        }
        table.sort();
        table
    }

    fn sort(&mut self) {
        // Of symbols with one address, the first listed stays first. In place: a stable sort takes half as much again.
        self.entries.sort_unstable_by_key(|e| (e.addr, e.name));
    }

    fn parse_line(&mut self, line: &str) -> Option<()> {
        let Line {
            addr,
            text,
            name,
            module,
        } = Line::parse(line)?;
        let module = match module {
            "" => 0,
            // A module's symbols stand together.
            m if self.modules.last().is_some_and(|last| last == m) => self.modules.len() as u16,
            m => match self.modules.iter().position(|known| known == m) {
                Some(i) => i as u16 + 1,
                None => {
                    self.modules.push(m.into());
                    self.modules.len() as u16
                }
            },
        };
        let len = u16::try_from(name.len()).ok().filter(|len| len & TEXT == 0)?;
        self.entries.push(Entry {
            addr,
            name: u32::try_from(self.names.len()).ok()?,
            len: if text { len | TEXT } else { len },
            module,
        });
        self.names.push_str(name);
        Some(())
    }

    fn symbol(&self, entry: &Entry) -> Symbol<'_> {
        let start = entry.name as usize;
        Symbol {
            addr: entry.addr,
            name: &self.names[start..start + usize::from(entry.len & !TEXT)],
            module: match entry.module {
                0 => "",
                n => &self.modules[n as usize - 1],
            },
        }
    }
}

impl std::fmt::Debug for Symbols {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.get() {
            Some(table) => write!(f, "Symbols({})", table.entries.len()),
            None => f.write_str("Symbols(not read yet)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _stext
ffffffff81000000 T first
ffffffff81000040 t twice
ffffffff81000080 d some_data
ffffffff81000090 t twice
ffffffffc0000000 t in_module\t[veth]
ffffffffc0000100 t twice\t[veth]
ffffffffc0001000 t bpf_prog_1234\t[bpf]
not a line
";

    #[test]
    fn modules_that_come_are_noticed_and_what_else_changes_is_not() {
        let before = modules("nf_tables 385024 5 nft_ct, Live 0xffffffffc0a10000\n");
        assert_eq!(before, ["nf_tables 0xffffffffc0a10000"]);
        assert_eq!(modules("nf_tables 385024 9 - Live 0xffffffffc0a10000\n"), before);
        assert_ne!(modules("nf_tables 385024 5 - Live 0xffffffffc0b10000\n"), before);
    }

    #[test]
    fn functions_are_found_again() {
        let functions = Functions::new(Symbols::parse(
            "ffffffff81000000 t ip_rcv\nffffffff81000100 t ip_forward\n",
        ));
        for _ in 0..2 {
            assert_eq!(functions.at(0xffff_ffff_8100_0010).as_deref(), Some("ip_rcv"));
            assert_eq!(functions.at(0xffff_ffff_8100_0100).as_deref(), Some("ip_forward"));
        }
    }

    #[test]
    fn addresses_have_names() {
        let symbols = Symbols::parse(LINES);
        let at = |addr| symbols.at(addr).map(|(s, offset)| (s.name, s.module, offset));
        assert_eq!(at(0xffff_ffff_8100_0004), Some(("_stext", "", 4)));
        assert_eq!(at(0xffff_ffff_8100_0040), Some(("twice", "", 0)));
        // Data is no code: what lies in it is counted from the code before.
        assert_eq!(at(0xffff_ffff_8100_0088), Some(("twice", "", 0x48)));
        assert_eq!(at(0xffff_ffff_c000_0010), Some(("in_module", "veth", 0x10)));
        assert_eq!(at(0xffff_ffff_c000_1001), Some(("bpf_prog_1234", "bpf", 1)));
        assert_eq!(at(0x1000), None);
        let last = |addr| symbols.last_at(addr).map(|(s, offset)| (s.name, offset));
        assert_eq!(last(0xffff_ffff_8100_0004), Some(("first", 4)));
        assert_eq!(last(0xffff_ffff_8100_0088), Some(("twice", 0x48)));
        assert_eq!(last(0x1000), None);
    }

    #[test]
    fn names_have_addresses() {
        let symbols = Symbols::parse(LINES);
        let twice: Vec<_> = symbols
            .named("twice")
            .iter()
            .map(|s| (s.addr, s.module))
            .collect();
        assert_eq!(
            twice,
            [
                (0xffff_ffff_8100_0040, ""),
                (0xffff_ffff_8100_0090, ""),
                (0xffff_ffff_c000_0100, "veth")
            ]
        );
        let each = symbols.named_each(["first", "twice", "absent", "some_data"].into_iter());
        assert_eq!(each.len(), 2);
        assert_eq!((each["first"].len(), each["twice"].len()), (1, 3));
    }

    #[test]
    fn symbols_that_are_not_kept_are_found_all_the_same() {
        let (kept, passing) = (Symbols::default(), Symbols::default());
        kept.table();
        let names = || ["schedule", "kfree_skb", "no_such_function"].into_iter();
        assert_eq!(passing.named_each(names()), kept.named_each(names()));
        assert!(passing.0.get().is_none());
    }
}
