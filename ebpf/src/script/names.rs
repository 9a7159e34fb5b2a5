//! The words of the language.
//!
//! Sources: bpftrace's language manual for what is bpftrace's; `span` with its `duration` is ktrail's own.

pub(crate) use crate::nearest::nearest;

/// Words that can't be names.
pub(crate) const KEYWORDS: &[&str] = &[
    "break", "continue", "else", "enum", "for", "if", "let", "offsetof", "return", "sizeof", "struct",
    "typeof", "union", "unroll", "while", "import", "macro", "fn",
];

/// Of [`KEYWORDS`], those that begin a type.
pub(crate) const TYPE_KEYWORDS: &[&str] = &["struct", "union", "enum", "typeof"];

/// The words that begin statements.
pub(crate) const STATEMENTS: &[&str] = &[
    "break", "continue", "for", "if", "let", "return", "unroll", "while",
];

/// The words that begin what stands at the top of a script, beside providers.
pub(crate) const ITEMS: &[&str] = &[
    "config",
    "enum",
    "experiment",
    "fn",
    "let",
    "macro",
    "struct",
    "typedef",
    "union",
];

/// Builtin variables. Most can be called, too: `nsecs(monotonic)`.
pub const BUILTINS: &[&str] = &[
    "arg0",
    "arg1",
    "arg2",
    "arg3",
    "arg4",
    "arg5",
    "arg6",
    "arg7",
    "arg8",
    "arg9",
    "args",
    "cgroup",
    "comm",
    "cpid",
    "cpu",
    "ctx",
    "curtask",
    "duration",
    "elapsed",
    "func",
    "gid",
    "has_cpid",
    "jiffies",
    "kstack",
    "leader_comm",
    "leader_tid",
    "ncpus",
    "nsecs",
    "numaid",
    "pcomm",
    "pid",
    "ppid",
    "probe",
    "probetype",
    "rand",
    "retval",
    "tid",
    "uid",
    "usermode",
    "username",
    "ustack",
    "dw_ustack",
];

/// Functions, aggregations included.
#[allow(dead_code)] // the check of names comes next
pub const FUNCTIONS: &[&str] = &[
    "assert",
    "avg",
    "bswap",
    "buf",
    "cat",
    "cgroup_path",
    "cgroupid",
    "clear",
    "count",
    "debugf",
    "delete",
    "errorf",
    "exit",
    "fail",
    "find",
    "getopt",
    "has_key",
    "hist",
    "is_array",
    "is_err",
    "is_integer",
    "is_literal",
    "is_ptr",
    "is_str",
    "is_unsigned_integer",
    "join",
    "kaddr",
    "kfunc_allowed",
    "kfunc_exist",
    "kptr",
    "ksym",
    "len",
    "lhist",
    "macaddr",
    "max",
    "memcmp",
    "min",
    "ntop",
    "override",
    "path",
    "percpu_kaddr",
    "print",
    "printf",
    "pton",
    "reg",
    "signal",
    "signal_name",
    "signal_thread",
    "skboutput",
    "socket_cookie",
    "static_assert",
    "stats",
    "str",
    "str_concat",
    "strcap",
    "strcontains",
    "strerror",
    "strftime",
    "strlen",
    "strncmp",
    "strstr",
    "sum",
    "syscall_name",
    "system",
    "time",
    "tseries",
    "uaddr",
    "unwatch",
    "uptr",
    "usym",
    "warnf",
    "write_user",
    "zero",
];

/// What [`FUNCTIONS`] lacks of the words that are followed by brackets.
#[allow(dead_code)]
pub(crate) const OPERATORS: &[&str] = &["container_of", "offsetof", "sizeof", "typeinfo"];

/// The keys of the config block.
pub const CONFIG_KEYS: &[&str] = &[
    "cache_user_symbols",
    "cpp_demangle",
    "lazy_symbolication",
    "license",
    "log_size",
    "max_bpf_progs",
    "max_cat_bytes",
    "max_map_keys",
    "max_probes",
    "max_strlen",
    "missing_probes",
    "on_stack_limit",
    "perf_rb_pages",
    "print_maps_on_exit",
    "show_debug_info",
    "stack_mode",
    "str_trunc_trailer",
    "unstable_import",
    "unstable_map_decl",
    "unstable_tseries",
    "use_blazesym",
];
