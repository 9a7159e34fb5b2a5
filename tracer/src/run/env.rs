//! What the compiler of scripts asks of the world, answered by the running kernel.
//!
//! Everything is read when it is first asked for: a script without types never reads BTF, one without wildcards
//! never the list of functions.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::os::unix::fs::MetadataExt;

use ktrail_ebpf::kernel::{Features as CodegenFeatures, KType, Session, Space, TypeId, Types};
use ktrail_ebpf::script::env::{For, FunctionName, ScriptEnv, TracepointField, Trampoline};
use ktrail_ebpf::script::output::When;

use super::names::LazySymbols;
use super::pattern::Pattern;
use crate::kernel::Lacking;
use crate::kernel::attach::Multi;
use crate::kernel::btf::KernelBtf;
use crate::kernel::features::{self, Features};
use crate::kernel::locate;
use crate::kernel::maps;
use crate::kernel::tracefs;

/// The running kernel.
pub struct MachineEnv {
    types: MachineTypes,
    features: OnceCell<Result<Features, Lacking>>,
    /// The part of them that compiling needs, which is found without the kernel's types.
    codegen: OnceCell<Result<CodegenFeatures, Lacking>>,
    /// What programs of kprobe sessions call.
    session: OnceCell<Option<Session>>,
    /// What trampolines can do with functions, which is tried.
    trampolines: RefCell<BTreeMap<FunctionName, Trampoline>>,
    /// Whether one link of trampolines can serve many functions, by the moment that programs see.
    tracing_multi: [OnceCell<bool>; 3],
    /// Functions that a wildcard found in several places.
    repeated: RefCell<BTreeSet<FunctionName>>,
    symbols: LazySymbols,
    /// Names of functions that can be traced, with their modules.
    functions: OnceCell<Vec<FunctionName>>,
    only_pid: Option<u32>,
    /// A command runs with the script.
    command: bool,
    failures: bool,
    named: Vec<(String, String)>,
}

/// The kernel's types, and prototypes without their first parameter.
#[derive(Default)]
pub struct MachineTypes(OnceCell<Result<KernelBtf, Lacking>>);

/// How names start that are not functions': padding, stubs of static calls, what ftrace has lost.
const NO_FUNCTIONS: &[&str] = &[
    "__pfx_",
    "__cfi_",
    "__SCT__",
    "__SCK__",
    "__ftrace_invalid_address___",
];

/// In [`TypeId::object`]: the prototype without its first parameter.
const WITHOUT_FIRST: u32 = 1 << 31;

impl MachineTypes {
    /// The kernel's BTF.
    ///
    /// # Errors
    /// If it has none.
    pub fn btf(&self) -> Result<&KernelBtf, Lacking> {
        self.0.get_or_init(KernelBtf::load).as_ref().map_err(Clone::clone)
    }
}

impl Types for MachineTypes {
    fn by_name(&self, space: Space, name: &str) -> Option<TypeId> {
        self.btf().ok()?.by_name(space, name)
    }

    fn get(&self, id: TypeId) -> Option<KType> {
        let btf = self.btf().ok()?;
        if id.object & WITHOUT_FIRST == 0 {
            return btf.get(id);
        }
        let object = id.object & !WITHOUT_FIRST;
        match btf.get(TypeId { object, ..id })? {
            KType::Proto {
                mut params,
                returns,
                variadic,
            } if !params.is_empty() => {
                params.remove(0);
                Some(KType::Proto {
                    params,
                    returns,
                    variadic,
                })
            }
            other => Some(other),
        }
    }
}

impl MachineEnv {
    /// The running kernel; `only_pid` is what `-p` says.
    pub fn new(only_pid: Option<u32>) -> MachineEnv {
        MachineEnv {
            types: MachineTypes::default(),
            features: OnceCell::new(),
            codegen: OnceCell::new(),
            session: OnceCell::new(),
            trampolines: RefCell::default(),
            tracing_multi: Default::default(),
            repeated: RefCell::default(),
            symbols: LazySymbols::default(),
            functions: OnceCell::new(),
            only_pid,
            command: false,
            failures: false,
            named: vec![],
        }
    }

    /// The script's named parameters. Of a name that comes twice the last value counts.
    pub fn with_parameters(self, named: Vec<(String, String)>) -> MachineEnv {
        MachineEnv { named, ..self }
    }

    /// Whether a command runs with the script (`-c`).
    pub fn with_command(self, command: bool) -> MachineEnv {
        MachineEnv { command, ..self }
    }

    /// Whether reads that fail are counted (`-k`).
    pub fn with_failures(self, failures: bool) -> MachineEnv {
        MachineEnv { failures, ..self }
    }

    /// What scripts are compiled by.
    ///
    /// # Errors
    /// What every use of ktrail needs and this machine lacks.
    pub fn codegen_features(&self) -> Result<&CodegenFeatures, Lacking> {
        let features = self.codegen.get_or_init(Features::for_scripts);
        features.as_ref().map_err(Clone::clone)
    }

    /// What the kernel can do.
    ///
    /// # Errors
    /// What every use of ktrail needs and this machine lacks.
    pub fn machine_features(&self) -> Result<&Features, Lacking> {
        let probe = || Features::probe(self.types.btf()?);
        self.features.get_or_init(probe).as_ref().map_err(Clone::clone)
    }

    /// What programs call that see both moments of a call, if the kernel has such programs at all.
    pub fn session_functions(&self) -> Option<Session> {
        features::session_functions(self.types.btf().ok()?)
    }

    fn try_trampoline(&self, function: &FunctionName) -> Option<Trampoline> {
        // A trampoline serves one function only; all of that name are meant.
        let wanted = function
            .module
            .as_deref()
            .map(|m| if m == "vmlinux" { "" } else { m });
        let modules = self.modules_with(&function.name)?;
        if modules.iter().filter(|m| wanted.is_none_or(|w| w == **m)).count() != 1 {
            return None;
        }
        let btf = self.types.btf().ok()?;
        let id = btf.function(
            Some(function.module.as_deref().unwrap_or("vmlinux")),
            &function.name,
        )?;
        Some(features::trampoline(btf, id))
    }

    /// The modules that have code of that name, the kernel itself as an empty name; one that has it twice is there twice.
    fn modules_with(&self, name: &str) -> Option<Vec<String>> {
        let found = self.code_of(&HashSet::from([name]))?.remove(name);
        Some(found.into_iter().flatten().map(|(module, _)| module).collect())
    }

    /// The code of each of these names: its module (empty: the kernel itself) and where it starts. None if the kernel
    /// doesn't say.
    pub fn code_of<'n>(&self, names: &HashSet<&'n str>) -> Option<HashMap<&'n str, Vec<(String, u64)>>> {
        let mut code: HashMap<&str, Vec<_>> = HashMap::new();
        // Asking the kernel is less work than reading its list.
        if let Some(found) = self.locate(names) {
            let by_hash: HashMap<u64, &str> = names.iter().map(|n| (locate::hash(n), *n)).collect();
            for location in found {
                if let Some(name) = by_hash.get(&location.hash) {
                    let list = code.entry(name).or_default();
                    list.push((location.module, location.addr));
                }
            }
            return Some(code);
        }
        for (name, found) in self.symbols.get()?.named_each(names.iter().copied()) {
            let found = found.into_iter().map(|code| (code.module, code.addr));
            code.insert(name, found.collect());
        }
        Some(code)
    }

    fn locate(&self, names: &HashSet<&str>) -> Option<Vec<locate::Location>> {
        let whole = names.iter().all(|name| name.len() < locate::NAME);
        let (btf, features) = (self.types.btf().ok()?, self.codegen_features().ok()?);
        whole.then(|| locate::locate(btf, features, names.iter().copied(), &[]))?
    }

    /// The kernel's types.
    pub fn machine_types(&self) -> &MachineTypes {
        &self.types
    }

    /// The kernel's symbols.
    pub fn symbols(&self) -> &LazySymbols {
        &self.symbols
    }

    /// What ftrace can patch; where it does not say, all code that the kernel has symbols for. In no order,
    /// and names may come twice.
    fn traceable(&self) -> &[FunctionName] {
        self.functions.get_or_init(|| {
            let file = tracefs::dir().map(|dir| dir.join("available_filter_functions"));
            let text = file.and_then(|file| std::fs::read(file).ok()).unwrap_or_default();
            let mut functions: Vec<_> = String::from_utf8_lossy(&text).lines().map(listed).collect();
            if functions.is_empty()
                && let Some(symbols) = self.symbols.get()
            {
                let code = symbols.code().filter(|s| s.module != "bpf");
                functions.extend(code.map(|s| function(s.name, s.module)));
            }
            functions.retain(|f| !NO_FUNCTIONS.iter().any(|prefix| f.name.starts_with(prefix)));
            functions
        })
    }
}

fn function(name: &str, module: &str) -> FunctionName {
    FunctionName {
        name: name.into(),
        module: (!module.is_empty()).then(|| module.into()),
    }
}

/// A line of available_filter_functions: `NAME` or `NAME [MODULE]`.
fn listed(line: &str) -> FunctionName {
    match line.split_once(" [") {
        Some((name, module)) => function(name, module.trim_end_matches(']')),
        None => function(line.trim(), ""),
    }
}

fn in_module(wanted: Option<&Pattern>, module: Option<&str>) -> bool {
    wanted.is_none_or(|w| w.matches(module.unwrap_or("vmlinux")))
}

impl ScriptEnv for MachineEnv {
    fn types(&self) -> &dyn Types {
        &self.types
    }

    fn features(&self) -> &CodegenFeatures {
        static NONE: std::sync::OnceLock<CodegenFeatures> = std::sync::OnceLock::new();
        match self.codegen_features() {
            Ok(features) => features,
            // The run ends with the reason before anything is loaded.
            Err(_) => NONE.get_or_init(CodegenFeatures::default),
        }
    }

    fn functions(&self, module: Option<&str>, pattern: &str, purpose: For) -> Vec<FunctionName> {
        let wanted = module.map(Pattern::new);
        let exact = !Pattern::is_wild(pattern) && !module.is_some_and(Pattern::is_wild);
        if exact {
            let found = self.types.btf().ok().and_then(|btf| {
                let id = btf.function(module, pattern)?;
                Some(function(pattern, btf.module(id)))
            });
            if found.is_some() || purpose == For::Fentry {
                return found.into_iter().collect();
            }
            // Code without a type: only the symbols know it.
            let symbols = self.symbols.get().map(|s| s.named(pattern)).unwrap_or_default();
            let mut named = symbols.iter().map(|s| function(s.name, s.module));
            return named
                .find(|f| in_module(wanted.as_ref(), f.module.as_deref()))
                .into_iter()
                .collect();
        }
        let name = Pattern::new(pattern);
        let all = self.traceable().iter();
        let mut found: Vec<FunctionName> = all
            .filter(|f| name.matches(&f.name) && in_module(wanted.as_ref(), f.module.as_deref()))
            // What the compiler cut off a function is no function of its own: bpftrace leaves it out, too.
            .filter(|f| !f.name.contains(".part."))
            .cloned()
            .collect();
        found.sort_unstable();
        found.dedup_by(|later, first| {
            let same = later == first;
            if same {
                self.repeated.borrow_mut().insert(first.clone());
            }
            same
        });
        if purpose == For::Fentry {
            let typed = self.types.btf().map(KernelBtf::functions).unwrap_or_default();
            found.retain(|f| {
                let key = (f.name.clone(), f.module.clone().unwrap_or_default());
                typed.binary_search(&key).is_ok()
            });
        }
        found
    }

    fn tracepoints(&self, category: &str, pattern: &str) -> Vec<(String, String)> {
        let (wanted, name) = (Pattern::new(category), Pattern::new(pattern));
        let categories = match Pattern::is_wild(category) {
            true => tracefs::categories(),
            false => vec![category.to_string()],
        };
        let mut found = Vec::new();
        for category in categories.into_iter().filter(|c| wanted.matches(c)) {
            let events = match Pattern::is_wild(pattern) {
                true => tracefs::events(&category),
                false => vec![pattern.to_string()],
            };
            let events = events.into_iter().filter(|e| name.matches(e));
            found.extend(
                events
                    .filter(|e| tracefs::id(&category, e).is_some())
                    .map(|e| (category.clone(), e)),
            );
        }
        found
    }

    fn tracepoint_fields(&self, category: &str, name: &str) -> Option<Vec<TracepointField>> {
        tracefs::fields(category, name)
    }

    fn raw_tracepoints(&self, module: Option<&str>, pattern: &str) -> Vec<FunctionName> {
        let (wanted, name) = (module.map(Pattern::new), Pattern::new(pattern));
        let all = self.types.btf().map(KernelBtf::tracepoints).unwrap_or_default();
        all.iter()
            .filter(|(n, ..)| name.matches(n))
            .map(|(name, module, _)| function(name, module))
            .filter(|f| in_module(wanted.as_ref(), f.module.as_deref()))
            .collect()
    }

    fn prototype(&self, function: &FunctionName) -> Option<TypeId> {
        let btf = self.types.btf().ok()?;
        let module = function.module.as_deref().unwrap_or("vmlinux");
        match btf.get(btf.function(Some(module), &function.name)?)? {
            KType::Func { proto, .. } => Some(proto),
            _ => None,
        }
    }

    fn raw_tracepoint_prototype(&self, tracepoint: &FunctionName) -> Option<TypeId> {
        let btf = self.types.btf().ok()?;
        let module = tracepoint.module.as_deref().unwrap_or_default();
        let all = btf.tracepoints();
        let (.., typedef) = all
            .iter()
            .find(|(n, m, _)| *n == tracepoint.name && m == module)?;
        let KType::Typedef { to, .. } = btf.get(*typedef)? else {
            return None;
        };
        let KType::Ptr(proto) = btf.get(to)? else {
            return None;
        };
        // The typedef has types only; the functions that the tracepoint is made of have the names as well.
        let params = |id| match btf.get(id) {
            Some(KType::Proto { params, .. }) => params,
            _ => vec![],
        };
        let count = params(proto).len();
        let named = ["__traceiter_", "__bpf_trace_", "__probestub_"]
            .iter()
            .find_map(|prefix| {
                let name = format!("{prefix}{}", tracepoint.name);
                let KType::Func { proto, .. } = btf.get(btf.function(Some(module), &name)?)? else {
                    return None;
                };
                let params = params(proto);
                let complete = params.len() == count && params.iter().skip(1).all(|(n, _)| !n.is_empty());
                complete.then_some(proto)
            });
        let proto = named.unwrap_or(proto);
        Some(TypeId {
            object: proto.object | WITHOUT_FIRST,
            ..proto
        })
    }

    fn iterators(&self, pattern: &str) -> Vec<String> {
        let name = Pattern::new(pattern);
        let all = self.types.btf().map(KernelBtf::iterators).unwrap_or_default();
        all.into_iter().filter(|n| name.matches(n)).collect()
    }

    fn enum_constant(&self, name: &str) -> Option<(i64, TypeId)> {
        self.types.btf().ok()?.enum_constant(name)
    }

    fn kernel_symbol(&self, name: &str) -> Option<u64> {
        self.symbols.get()?.address(name)
    }

    fn cgroup_id(&self, path: &str) -> Option<u64> {
        std::fs::metadata(path).ok().map(|m| m.ino())
    }

    fn possible_cpus(&self) -> u32 {
        maps::possible_cpus() as u32
    }

    fn similar_functions(&self, name: &str) -> Vec<String> {
        let typed = self.types.btf().map(KernelBtf::functions).unwrap_or_default();
        let mut near: Vec<(usize, &str)> = typed
            .iter()
            .filter_map(|(n, _)| Some((distance(name, n)?, n.as_str())))
            .collect();
        near.sort_unstable();
        near.dedup();
        near.into_iter().take(3).map(|(_, n)| n.to_string()).collect()
    }

    fn named_parameter(&self, name: &str) -> Option<String> {
        let found = self.named.iter().rev().find(|(n, _)| n == name);
        found.map(|(_, value)| value.clone())
    }

    fn session(&self) -> Option<Session> {
        *self
            .session
            .get_or_init(|| self.machine_features().ok()?.session(self.types.btf().ok()?))
    }

    fn trampoline(&self, function: &FunctionName) -> Trampoline {
        if let Some(known) = self.trampolines.borrow().get(function) {
            return *known;
        }
        let found = self.try_trampoline(function).unwrap_or(Trampoline::No);
        self.trampolines.borrow_mut().insert(function.clone(), found);
        found
    }

    fn counts_failures(&self) -> bool {
        self.failures
    }

    fn has_command(&self) -> bool {
        self.command
    }

    fn pid_namespace(&self) -> Option<(u64, u64)> {
        /// `PROC_PID_INIT_INO` of include/linux/proc_ns.h.
        const FIRST: u64 = 0xefff_fffc;
        let own = std::fs::metadata("/proc/self/ns/pid").ok()?;
        (own.ino() != FIRST).then(|| (own.dev(), own.ino()))
    }

    fn tracing_multi(&self, function: &FunctionName, when: When) -> bool {
        let Ok(btf) = self.types.btf() else {
            return false;
        };
        let (cell, when) = match when {
            When::Entry => (&self.tracing_multi[0], Multi::Entry),
            When::Return => (&self.tracing_multi[1], Multi::Return),
            When::Both => (&self.tracing_multi[2], Multi::Session),
        };
        *cell.get_or_init(|| features::trampolines(btf, when))
            // Functions are named by their numbers in the kernel's own types, which has one for all of a name.
            && function.module.is_none()
            && !self.repeated.borrow().contains(function)
            && (btf.function(Some("vmlinux"), &function.name)).is_some_and(|id| btf.trampoline(id))
    }

    fn only_pid(&self) -> Option<u32> {
        self.only_pid
    }
}

/// How many letters differ, if they are few for names of that length: insertions, deletions, replacements.
fn distance(a: &str, b: &str) -> Option<usize> {
    let most = (a.len() / 4).clamp(1, 3);
    if a.len().abs_diff(b.len()) > most {
        return None;
    }
    let b = b.as_bytes();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    (row[b.len()] <= most).then_some(row[b.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_lines() {
        assert_eq!(listed("tcp_connect"), function("tcp_connect", ""));
        assert_eq!(listed("veth_xmit [veth]"), function("veth_xmit", "veth"));
    }

    #[test]
    fn near_names() {
        assert_eq!(distance("nf_hok_slow", "nf_hook_slow"), Some(1));
        assert_eq!(distance("tcp_conect", "tcp_connect"), Some(1));
        assert_eq!(distance("tcp_connect", "udp_sendmsg"), None);
        assert_eq!(distance("abc", "abc"), Some(0));
    }

    #[test]
    fn modules_have_names() {
        let vmlinux = Pattern::new("vmlinux");
        assert!(in_module(Some(&vmlinux), None));
        assert!(!in_module(Some(&vmlinux), Some("veth")));
        assert!(in_module(None, Some("veth")));
    }
}
