//! What the compiler of scripts asks of the world: the kernel's types, functions and tracepoints, and the command
//! line's parameters. The crate above implements it; tests implement it on a table.

use super::output::When;
use crate::kernel::{Features, Session, TypeId, Types};

/// A field of a tracepoint's record, as tracefs describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracepointField {
    /// Name.
    pub name: String,
    /// The type as the format file writes it: `const char *`, `u32`, `__data_loc char[]`.
    pub c_type: String,
    /// Bytes from the start of the record.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
    /// Signed.
    pub signed: bool,
    /// Elements, if it is an array (`char comm[16]`).
    pub array: Option<u32>,
}

/// A kernel function that can be traced.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FunctionName {
    /// Its name.
    pub name: String,
    /// Its module, `None` for vmlinux.
    pub module: Option<String>,
}

/// What a list is wanted for: not everything is possible everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// kprobes: whatever ftrace or the kernel's symbols list.
    Kprobe,
    /// fentry and fexit: needs a BTF prototype.
    Fentry,
}

/// What trampolines, which fentry and fexit are, can do with a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trampoline {
    /// Nothing.
    No,
    /// One program at its entry and one at its return.
    Pair,
    /// One program at both, which calls these (7.0+).
    Session(Session),
}

/// What the compiler of scripts asks of the world.
pub trait ScriptEnv {
    /// The kernel's types.
    fn types(&self) -> &dyn Types;
    /// What the kernel can do.
    fn features(&self) -> &Features;
    /// The kernel functions whose name and module match the patterns (`*` and `?` as in a shell; no module: any),
    /// in order of name. An exact name costs no scan. A function that exists but can't be traced is left out.
    fn functions(&self, module: Option<&str>, pattern: &str, purpose: For) -> Vec<FunctionName>;
    /// The tracepoints whose category and name match the patterns, in order.
    fn tracepoints(&self, category: &str, pattern: &str) -> Vec<(String, String)>;
    /// The fields of a tracepoint's record that scripts may see, `common_*` left out. `None` if it isn't there or
    /// its format can't be read.
    fn tracepoint_fields(&self, category: &str, name: &str) -> Option<Vec<TracepointField>>;
    /// The BTF tracepoints whose name matches the pattern, with their modules.
    fn raw_tracepoints(&self, module: Option<&str>, pattern: &str) -> Vec<FunctionName>;
    /// The prototype ([`crate::kernel::KType::Proto`]) of a function.
    fn prototype(&self, function: &FunctionName) -> Option<TypeId>;
    /// The prototype of a BTF tracepoint, without the leading `void *`.
    fn raw_tracepoint_prototype(&self, tracepoint: &FunctionName) -> Option<TypeId>;
    /// The BPF iterators whose name matches the pattern.
    fn iterators(&self, pattern: &str) -> Vec<String>;
    /// The value of an enum's constant anywhere in the kernel's types, and the enum that has it.
    fn enum_constant(&self, name: &str) -> Option<(i64, TypeId)>;
    /// The address of a kernel symbol.
    fn kernel_symbol(&self, name: &str) -> Option<u64>;
    /// The id of the cgroup at a path.
    fn cgroup_id(&self, path: &str) -> Option<u64>;
    /// How many CPUs there may be.
    fn possible_cpus(&self) -> u32;
    /// Name suggestions for a function that isn't there.
    fn similar_functions(&self, name: &str) -> Vec<String>;
    /// What the user said for a named parameter (`-- --depth=7`); `true` for one without a value.
    fn named_parameter(&self, _name: &str) -> Option<String> {
        None
    }
    /// What programs call that see both moments of a function's call, if the kernel has that and can attach them.
    fn session(&self) -> Option<Session> {
        None
    }
    /// What trampolines can do with a function whose prototype is known.
    fn trampoline(&self, _function: &FunctionName) -> Trampoline {
        Trampoline::No
    }
    /// A command runs with the script (`-c`).
    fn has_command(&self) -> bool {
        false
    }
    /// The user wants to know how often memory could not be read, and which entries of maps weren't there (`-k`).
    fn counts_failures(&self) -> bool {
        false
    }
    /// Device and inode of the namespace of process ids in which ktrail itself is, if it isn't the first one.
    fn pid_namespace(&self) -> Option<(u64, u64)> {
        None
    }
    /// One link of trampolines can attach a program that sees this moment to this function and others (tracing-multi,
    /// 7.2+): to all code of that name.
    fn tracing_multi(&self, _function: &FunctionName, _when: When) -> bool {
        false
    }
    /// The only process to trace (`-p`).
    fn only_pid(&self) -> Option<u32> {
        None
    }
}
