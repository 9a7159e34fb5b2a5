//! Which functions can be probed where, and why the others can't.
//!
//! A function of the BTF may be inlined everywhere, marked `notrace`, or share its name with others. What can be
//! said beforehand is said here; what the kernel refuses when it comes to it, [`super::attach`] reports.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use ktrail_ebpf::kernel::Features;

use super::btf::{KernelBtf, SkbFunction};
use super::locate::{Location, hash, locate};
use super::symbols::Symbols;

/// Why a function is not probed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It has no code under its own name: inlined everywhere, or only left in a form that the compiler changed.
    NotInSymbols,
    /// It has no code that can be patched: `notrace`, or of the kernel's start-up, which is gone. Where the kernel
    /// lists what can be patched with addresses (6.5+), also what is [`Reason::NotInSymbols`] elsewhere.
    NotTraceable,
    /// The BTF has more than one function of that name, which take the skb differently.
    Ambiguous,
    /// The skb does not come in a register, since too many arguments come before.
    NotInRegister,
    /// The kernel forbids kprobes in it (`NOKPROBE_SYMBOL`).
    Blacklisted,
    /// The run ended before it was its turn.
    NotYet,
    /// It was detached again, to keep what tracing costs within its budget.
    TooCostly,
    /// The kernel refused, with this error number.
    Refused(i32),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NotInSymbols => f.write_str("inlined, or renamed by the compiler"),
            Reason::NotTraceable => f.write_str("notrace, start-up code, or inlined"),
            Reason::Ambiguous => f.write_str("ambiguous name"),
            Reason::NotInRegister => f.write_str("the skb is not in a register"),
            Reason::Blacklisted => f.write_str("on the kernel's kprobe blacklist"),
            Reason::NotYet => f.write_str("not attached before the run ended"),
            Reason::TooCostly => f.write_str("detached for what they cost (--max-cost)"),
            Reason::Refused(errno) => write!(
                f,
                "refused by the kernel: {}",
                std::io::Error::from_raw_os_error(*errno)
            ),
        }
    }
}

/// A place to probe: one function at one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The function. Several places share one where a name stands for several static functions.
    pub function: SkbFunction,
    /// Where it starts.
    pub addr: u64,
    /// There is no other code of that name, as far as the kernel tells.
    pub alone: bool,
}

/// A function that is not probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its name.
    pub name: String,
    /// The module that it is in; empty for the kernel itself.
    pub module: String,
    /// Why.
    pub reason: Reason,
}

/// What can be probed, by address, and what can't.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Where to probe, in order of address, each address once.
    pub places: Vec<Place>,
    /// What is left out, in the order of the functions.
    pub skipped: Vec<Skipped>,
}

impl Selection {
    /// How many functions are left out for each reason.
    pub fn skipped_by_reason(&self) -> Vec<(Reason, usize)> {
        let mut counts: HashMap<&Reason, usize> = HashMap::new();
        for skipped in &self.skipped {
            *counts.entry(&skipped.reason).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().map(|(r, n)| (r.clone(), n)).collect();
        counts.sort();
        counts
    }
}

/// What the kernel says of its code: which functions can be patched and which may not be.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Where functions have code, and whether it can be patched, if the kernel could be asked for just that; nothing
    /// else is needed then.
    located: Option<Vec<Location>>,
    /// What can be patched; None where tracefs can't be read: then only the attempt tells.
    pub traceable: Option<Traceable>,
    /// The text of the kprobe blacklist; empty for backends that it does not bind, or where it can't be read.
    pub blacklist: String,
}

/// The kernel's list of code that can be patched.
#[derive(Clone, Debug)]
pub enum Traceable {
    /// The text of `available_filter_functions`, with lines `NAME` or `NAME [MODULE]`. It does not tell static
    /// functions of one name apart.
    Names(String),
    /// The text of `available_filter_functions_addrs` (6.5+), with lines `ADDRESS NAME` or `ADDRESS NAME [MODULE]`:
    /// where each function's call to ftrace is.
    Addresses(String),
}

/// A line of the list.
#[derive(Clone, Copy)]
struct Listed<'a> {
    /// Where the call to ftrace is, if the list tells: a hexadecimal number.
    call: &'a str,
    name: &'a str,
    module: &'a str,
}

impl Listed<'_> {
    fn call(&self) -> Option<u64> {
        u64::from_str_radix(self.call, 16).ok()
    }
}

impl Traceable {
    /// The lines. There are tens of thousands, of which few are wanted: numbers are parsed on demand.
    fn lines(&self) -> impl Iterator<Item = Listed<'_>> {
        let (text, addresses) = match self {
            Traceable::Names(text) => (text, false),
            Traceable::Addresses(text) => (text, true),
        };
        text.split_terminator('\n').filter_map(move |line| {
            let (call, line) = match addresses {
                // Addresses of kernel code have all their digits.
                true if line.as_bytes().get(16) == Some(&b' ') => (&line[..16], &line[17..]),
                true => line.split_once(' ')?,
                false => ("", line),
            };
            let (name, module) = match line.strip_suffix(']') {
                Some(line) => line.split_once(" [").unwrap_or((line, "")),
                None => (line, ""),
            };
            Some(Listed { call, name, module })
        })
    }
}

/// A quick first look at whether a name is among many: it may say yes to others, too.
struct Sieve(Vec<u64>);

impl Sieve {
    /// 64 Ki bits: of 2,000 names one in thirty others passes.
    const WORDS: usize = 1024;

    fn new<'a>(names: impl Iterator<Item = &'a str>) -> Sieve {
        let mut bits = vec![0; Self::WORDS];
        for name in names {
            let at = Self::hash(name);
            bits[at / 64] |= 1 << (at % 64);
        }
        Sieve(bits)
    }

    fn passes(&self, name: &str) -> bool {
        let at = Self::hash(name);
        self.0[at / 64] >> (at % 64) & 1 != 0
    }

    /// Of the name's last eight bytes and its length: names start alike.
    fn hash(name: &str) -> usize {
        let bytes = name.as_bytes();
        let last = match bytes.last_chunk() {
            Some(last) => u64::from_le_bytes(*last),
            None => bytes.iter().fold(0, |all, &byte| all << 8 | u64::from(byte)),
        };
        let mixed = (last ^ bytes.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 48) as usize
    }
}

impl Rules {
    /// From where to where the functions of these names reach, as far as the list of code that can be patched tells:
    /// each to the next one in the list. None if it has no addresses.
    pub fn extents(&self, names: &[&str]) -> Option<Vec<Range<u64>>> {
        if let Some(located) = &self.located {
            let wanted: Vec<u64> = names.iter().map(|name| hash(name)).collect();
            let wanted = located.iter().filter(|l| wanted.contains(&l.hash));
            return Some(wanted.map(|l| l.addr..l.end.unwrap_or(u64::MAX)).collect());
        }
        let list @ Traceable::Addresses(_) = self.traceable.as_ref()? else {
            return None;
        };
        let wanted = list.lines().filter(|l| names.contains(&l.name));
        let mut extents: Vec<Range<u64>> = wanted
            .filter_map(|l| l.call())
            .map(|call| call..u64::MAX)
            .collect();
        // Not in order: modules' code may come anywhere.
        for call in list.lines().filter_map(|l| l.call()) {
            for extent in &mut extents {
                if extent.contains(&call) && call != extent.start {
                    extent.end = call;
                }
            }
        }
        Some(extents)
    }
}

/// Where the function starts whose call to ftrace is at `call`: there, or before an `endbr64` of 4 bytes.
///
/// Functions are aligned to 16 bytes on x86-64 in all kernels that list addresses (`CONFIG_FUNCTION_ALIGNMENT_16B`,
/// 6.2+). Should one not be, the kernel refuses to attach to the start computed here, and the run says so.
/// Elsewhere the symbols tell.
fn start(call: u64, symbols: &Symbols) -> Option<u64> {
    /// A function's call to ftrace comes first, or after a patchable area of a few bytes.
    const PROLOGUE: u64 = 16;
    if cfg!(target_arch = "x86_64") && matches!(call & 0xf, 0 | 4) {
        return Some(call & !0xf);
    }
    let (symbol, offset) = symbols.at(call)?;
    (offset < PROLOGUE).then_some(symbol.addr)
}

impl Rules {
    /// Ask the running kernel about everything that takes an skb. `kprobes`: whether the kprobe blacklist counts (it
    /// does not bind kprobe-multi). `bounded`: functions whose [`Rules::extents`] will be asked for.
    pub fn load(btf: &KernelBtf, features: &Features, kprobes: bool, bounded: &[&str]) -> Rules {
        Rules::load_for(btf, features, kprobes, btf.skb_functions(), bounded)
    }

    /// The same about these functions.
    pub fn load_for(
        btf: &KernelBtf,
        features: &Features,
        kprobes: bool,
        functions: &[SkbFunction],
        bounded: &[&str],
    ) -> Rules {
        let names = functions.iter().map(|f| f.name.as_str());
        match locate(btf, features, names, bounded) {
            Some(located) => Rules {
                located: Some(located),
                blacklist: Rules::blacklist(kprobes),
                traceable: None,
            },
            None => Rules::lists(kprobes),
        }
    }

    fn blacklist(kprobes: bool) -> String {
        match kprobes {
            true => read("/sys/kernel/debug/kprobes/blacklist".into()).unwrap_or_default(),
            false => String::new(),
        }
    }

    /// The kernel's lists. It takes tenths of a second to format their 50,000 lines.
    fn lists(kprobes: bool) -> Rules {
        Rules {
            located: None,
            traceable: tracefs().and_then(|dir| {
                let addresses = read(dir.join("available_filter_functions_addrs"));
                let addresses = addresses.map(Traceable::Addresses);
                addresses.or_else(|| read(dir.join("available_filter_functions")).map(Traceable::Names))
            }),
            blacklist: Rules::blacklist(kprobes),
        }
    }
}

fn read(path: PathBuf) -> Option<String> {
    let mut bytes = Vec::with_capacity(4 << 20);
    File::open(path).ok()?.read_to_end(&mut bytes).ok()?;
    String::from_utf8(bytes).ok()
}

/// Where tracefs is mounted, if it is.
pub fn tracefs() -> Option<PathBuf> {
    ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        .into_iter()
        .map(Path::new)
        .find(|dir| dir.join("available_events").exists())
        .map(Path::to_path_buf)
}

/// Choose where to probe. The symbols are read only where the rules have no addresses.
pub fn select(functions: &[SkbFunction], symbols: &Symbols, rules: &Rules) -> Selection {
    let code = Code::find(functions, symbols, rules);
    let blacklist = blacklist(&rules.blacklist);
    let mut same: HashMap<(&str, &str), &SkbFunction> = HashMap::new();
    let mut ambiguous: HashSet<(&str, &str)> = HashSet::new();
    for function in functions {
        let key = (function.module.as_str(), function.name.as_str());
        let first = same.entry(key).or_insert(function);
        if (first.arg, first.indirection) != (function.arg, function.indirection) {
            ambiguous.insert(key);
        }
    }

    let mut selection = Selection::default();
    for function in functions {
        let key = (function.module.as_str(), function.name.as_str());
        if !std::ptr::eq(same[&key], function) {
            continue;
        }
        let places = || -> Result<Vec<u64>, Reason> {
            if function.arg.is_none() {
                return Err(Reason::NotInRegister);
            }
            let here = code.of(key)?;
            if ambiguous.contains(&key) {
                return Err(Reason::Ambiguous);
            }
            let allowed: Vec<u64> = here
                .iter()
                .copied()
                .filter(|a| !blacklist.iter().any(|&(from, to)| (from..to).contains(a)))
                .collect();
            match allowed.is_empty() {
                true => Err(Reason::Blacklisted),
                false => Ok(allowed),
            }
        };
        match places() {
            Ok(addresses) => selection.places.extend(addresses.into_iter().map(|addr| Place {
                function: function.clone(),
                addr,
                alone: code.alone(key),
            })),
            Err(reason) => selection.skipped.push(Skipped {
                name: function.name.clone(),
                module: function.module.clone(),
                reason,
            }),
        }
    }
    // Two names of one address (aliases) are one place.
    selection.places.sort_by_key(|p| p.addr);
    selection.places.dedup_by_key(|p| p.addr);
    selection
}

/// Where functions, by module and name, have code that can be patched.
struct Code<'f> {
    addresses: HashMap<(&'f str, &'f str), Vec<u64>>,
    /// Those that have code, if that was looked up: in how many places.
    existing: Option<HashMap<(&'f str, &'f str), usize>>,
}

impl<'f> Code<'f> {
    fn find(functions: &'f [SkbFunction], symbols: &Symbols, rules: &'f Rules) -> Code<'f> {
        let keys = functions.iter().map(|f| (f.module.as_str(), f.name.as_str()));
        let mut addresses: HashMap<(&str, &str), Vec<u64>> = keys.clone().map(|k| (k, Vec::new())).collect();
        if let Some(located) = &rules.located {
            let by_hash: HashMap<(&str, u64), (&str, &str)> =
                keys.map(|key| ((key.0, hash(key.1)), key)).collect();
            let mut existing: HashMap<(&str, &str), usize> = HashMap::new();
            for location in located {
                let Some(&key) = by_hash.get(&(location.module.as_str(), location.hash)) else {
                    continue;
                };
                *existing.entry(key).or_default() += 1;
                if location.patchable {
                    addresses.entry(key).or_default().push(location.addr);
                }
            }
            return Code {
                addresses,
                existing: Some(existing),
            };
        }
        let list = rules.traceable.as_ref();
        if let Some(list @ Traceable::Addresses(_)) = list {
            let sieve = Sieve::new(keys.map(|(_, name)| name));
            for listed in list.lines().filter(|l| sieve.passes(l.name)) {
                if let Some(here) = addresses.get_mut(&(listed.module, listed.name)) {
                    here.extend(listed.call().and_then(|call| start(call, symbols)));
                }
            }
            return Code {
                addresses,
                existing: None,
            };
        }
        let named = symbols.named_each(keys.clone().map(|(_, name)| name));
        for ((module, name), here) in &mut addresses {
            let code = named.get(name).into_iter().flatten();
            here.extend(code.filter(|c| c.module == *module).map(|c| c.addr));
        }
        let existing = keys.clone().map(|key| (key, addresses[&key].len()));
        let existing = existing.filter(|&(_, count)| count > 0).collect();
        if let Some(list) = list {
            let sieve = Sieve::new(keys.map(|(_, name)| name));
            let wanted = list.lines().filter(|l| sieve.passes(l.name));
            let listed: HashSet<(&str, &str)> = wanted.map(|l| (l.module, l.name)).collect();
            addresses.retain(|key, _| listed.contains(key));
        }
        Code {
            addresses,
            existing: Some(existing),
        }
    }

    fn alone(&self, key: (&'f str, &'f str)) -> bool {
        let listed = self.addresses.get(&key).map_or(0, Vec::len);
        let existing = self.existing.as_ref().and_then(|e| e.get(&key));
        listed.max(existing.copied().unwrap_or(0)) == 1
    }

    /// The addresses of a function, or why there are none.
    fn of(&self, key: (&'f str, &'f str)) -> Result<&[u64], Reason> {
        match self.addresses.get(&key) {
            Some(here) if !here.is_empty() => Ok(here),
            _ if self.existing.as_ref().is_some_and(|e| !e.contains_key(&key)) => Err(Reason::NotInSymbols),
            _ => Err(Reason::NotTraceable),
        }
    }
}

/// The address ranges of the blacklist, whose lines are `0xFROM-0xTO<tab>NAME`.
fn blacklist(text: &str) -> Vec<(u64, u64)> {
    let hex = |s: &str| u64::from_str_radix(s.trim_start_matches("0x"), 16).ok();
    text.lines()
        .filter_map(|line| {
            let (from, to) = line.split('\t').next()?.split_once('-')?;
            Some((hex(from)?, hex(to)?))
        })
        // With addresses hidden every range is 0-0.
        .filter(|(from, to)| from < to)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::btf::Indirection;
    use super::*;
    use ktrail_ebpf::kernel::TypeId;

    fn function(name: &str, module: &str, arg: Option<u8>) -> SkbFunction {
        SkbFunction {
            name: name.into(),
            module: module.into(),
            id: TypeId { object: 0, id: 1 },
            arg,
            indirection: Indirection::Skb,
            constant: false,
            params: 1,
            trampoline: true,
        }
    }

    #[test]
    fn each_function_has_a_place_or_a_reason() {
        let functions = [
            function("fine", "", Some(0)),
            function("inlined", "", Some(0)),
            function("start_up", "", Some(0)),
            function("two_bodies", "", Some(1)),
            function("two_shapes", "", Some(1)),
            function("two_shapes", "", Some(2)),
            function("deep", "", None),
            function("forbidden", "", Some(0)),
            function("fine", "veth", Some(0)),
            function("alias", "", Some(0)),
        ];
        let symbols = Symbols::parse(
            "0000000000000100 t fine\n0000000000000100 t alias\n0000000000000200 t start_up\n\
             0000000000000300 t two_bodies\n0000000000000400 t two_bodies\n0000000000000500 t two_shapes\n\
             0000000000000600 t deep\n0000000000000700 t forbidden\n0000000000000800 t fine\t[veth]\n",
        );
        let rules = Rules {
            located: None,
            traceable: Some(Traceable::Names(
                "fine\nalias\ntwo_bodies\ntwo_bodies\ntwo_shapes\ndeep\nforbidden\nfine [veth]\nother\n"
                    .into(),
            )),
            blacklist: "0x0000000000000700-0x0000000000000710\tforbidden\n".into(),
        };
        let selection = select(&functions, &symbols, &rules);
        let places: Vec<_> = selection
            .places
            .iter()
            .map(|p| (p.addr, p.function.name.as_str(), p.function.module.as_str()))
            .collect();
        assert_eq!(
            places,
            [
                (0x100, "fine", ""),
                (0x300, "two_bodies", ""),
                (0x400, "two_bodies", ""),
                (0x800, "fine", "veth"),
            ]
        );
        let skipped: Vec<_> = selection
            .skipped
            .iter()
            .map(|s| (s.name.as_str(), s.reason.clone()))
            .collect();
        assert_eq!(
            skipped,
            [
                ("inlined", Reason::NotInSymbols),
                ("start_up", Reason::NotTraceable),
                ("two_shapes", Reason::Ambiguous),
                ("deep", Reason::NotInRegister),
                ("forbidden", Reason::Blacklisted),
            ]
        );
        assert_eq!(selection.skipped_by_reason().len(), 5);
    }

    #[test]
    fn addresses_tell_functions_of_one_name_apart() {
        let functions = [function("twice", "", Some(0)), function("never", "", Some(0))];
        let symbols =
            Symbols::parse("0000000000000100 t twice\n0000000000000200 t twice\n0000000000000300 t never\n");
        let traceable = Some(Traceable::Addresses(
            "0000000000000204 twice\n0000000000000310 never [veth]\n".into(),
        ));
        let rules = Rules {
            located: None,
            traceable,
            blacklist: String::new(),
        };
        let selection = select(&functions, &symbols, &rules);
        assert_eq!(
            selection.places.iter().map(|p| p.addr).collect::<Vec<_>>(),
            [0x200]
        );
        assert_eq!(selection.skipped[0].reason, Reason::NotTraceable);
        let extents = rules.extents(&["twice"]).expect("addresses are known");
        assert_eq!((extents.len(), &extents[0]), (1, &(0x204..0x310)));
        assert_eq!(Rules::default().extents(&["twice"]), None);
    }

    #[test]
    fn without_tracefs_the_attempt_tells() {
        let symbols = Symbols::parse("0000000000000200 t start_up\n");
        let functions = [function("start_up", "", Some(0))];
        assert_eq!(select(&functions, &symbols, &Rules::default()).places.len(), 1);
    }
}
