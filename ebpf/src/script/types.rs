//! The types of the probe language, as values are laid out in memory.
//!
//! Deliberately absent: aggregations, which are no values ([`super::output::ValueTy`]), and the rules by which types
//! are found (the resolver).

use std::fmt;

use crate::kernel::TypeId;

/// The type of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ty {
    /// No value; takes no bytes.
    None,
    /// True or false: 1 byte.
    Bool,
    /// An integer of 1, 2, 4 or 8 bytes.
    Int {
        /// Bytes.
        size: u32,
        /// Signed.
        signed: bool,
    },
    /// Text in `len` bytes, ended by a zero byte if there is room for one. Text without a zero byte was cut.
    Str {
        /// Bytes, the zero byte included.
        len: u32,
    },
    /// u32 number of bytes, then room for `len` bytes.
    Buffer {
        /// Most bytes.
        len: u32,
    },
    /// An address: 8 bytes.
    Ptr {
        /// What it points to.
        to: Box<Ty>,
        /// In user space.
        user: bool,
    },
    /// A number of equal values, without gaps.
    Array {
        /// What they are.
        element: Box<Ty>,
        /// How many.
        len: u32,
    },
    /// Values laid out as a C compiler would.
    Tuple(Vec<Ty>),
    /// Named values laid out as a C compiler would.
    Record(Vec<(String, Ty)>),
    /// A struct or union of the kernel's, in its own layout.
    Struct {
        /// Its name, with `struct` or `union`.
        name: String,
        /// Where it is described.
        id: TypeId,
        /// Bytes.
        size: u32,
    },
    /// An integer that has names.
    Enum {
        /// Its name.
        name: String,
        /// Bytes.
        size: u32,
        /// Signed.
        signed: bool,
        /// Names and values.
        values: Vec<(String, i64)>,
    },
    /// A kernel address to be shown as a symbol: 8 bytes.
    Ksym,
    /// A user-space address to be shown as a symbol: u64 address, u32 process id, u32 zero.
    Usym,
    /// A kernel stack: i64 id in the stack trace map of that depth, negative if there is none.
    KStack {
        /// How it is shown.
        mode: StackMode,
        /// Most frames.
        depth: u32,
    },
    /// A user stack: i64 id in the stack trace map of that depth, negative if there is none; u32 process id, u32 zero.
    UStack {
        /// How it is shown.
        mode: StackMode,
        /// Most frames.
        depth: u32,
    },
    /// Nanoseconds to be shown by a strftime format: 8 bytes.
    Timestamp {
        /// The format.
        format: String,
        /// The clock that it was taken from.
        clock: Clock,
    },
    /// An internet address: u64 family (2 or 10), then 16 bytes of address in network order, of which IPv4 has 4.
    Inet,
    /// 6 bytes.
    Mac,
    /// A cgroup id to be shown as its path: 8 bytes.
    CgroupPath {
        /// Only below this hierarchy.
        filter: String,
    },
    /// A user id to be shown as a name: 8 bytes.
    Username,
    /// An error number to be shown as text: 8 bytes.
    Strerror,
    /// A signal's number to be shown as its name: 8 bytes.
    SignalName,
    /// A system call's number to be shown as its name: 8 bytes.
    SyscallName,
    /// Index into `Compiled::probe_names`: 8 bytes.
    ProbeName,
}

/// How a stack is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // bpftrace's names
pub enum StackMode {
    Bpftrace,
    Perf,
    Raw,
    BuildId,
}

/// A clock of the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the kernel's names
pub enum Clock {
    Boot,
    Monotonic,
    Tai,
}

/// Size and alignment in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes.
    pub size: u32,
    /// 1, 2, 4 or 8.
    pub align: u32,
}

impl Ty {
    /// A signed integer of 8 bytes.
    pub const I64: Ty = Ty::Int {
        size: 8,
        signed: true,
    };
    /// An unsigned integer of 8 bytes.
    pub const U64: Ty = Ty::Int {
        size: 8,
        signed: false,
    };
    /// An unsigned integer of 4 bytes.
    pub const U32: Ty = Ty::Int {
        size: 4,
        signed: false,
    };

    /// Size and alignment.
    pub fn layout(&self) -> Layout {
        let of = |size, align| Layout { size, align };
        match self {
            Ty::None => of(0, 1),
            Ty::Bool => of(1, 1),
            Ty::Int { size, .. } | Ty::Enum { size, .. } => of(*size, *size),
            Ty::Str { len } => of(*len, 1),
            Ty::Buffer { len } => of(4 + len.next_multiple_of(4), 4),
            Ty::Array { element, len } => {
                let element = element.layout();
                of(element.size.saturating_mul(*len), element.align)
            }
            Ty::Tuple(fields) => struct_layout(fields.iter()).1,
            Ty::Record(fields) => struct_layout(fields.iter().map(|(_, ty)| ty)).1,
            Ty::Struct { size, .. } => of(*size, 8),
            Ty::Usym | Ty::UStack { .. } => of(16, 8),
            Ty::Inet => of(24, 8),
            Ty::Mac => of(6, 1),
            Ty::Ptr { .. }
            | Ty::Ksym
            | Ty::KStack { .. }
            | Ty::Timestamp { .. }
            | Ty::CgroupPath { .. }
            | Ty::Username
            | Ty::Strerror
            | Ty::SignalName
            | Ty::SyscallName
            | Ty::ProbeName => of(8, 8),
        }
    }

    /// Bytes.
    pub fn size(&self) -> u32 {
        self.layout().size
    }

    /// The offsets of a tuple's or a record's fields; nothing for other types.
    pub fn field_offsets(&self) -> Vec<u32> {
        match self {
            Ty::Tuple(fields) => struct_layout(fields.iter()).0,
            Ty::Record(fields) => struct_layout(fields.iter().map(|(_, ty)| ty)).0,
            _ => vec![],
        }
    }

    /// An integer, or what computes like one.
    pub fn is_int(&self) -> bool {
        matches!(self, Ty::Int { .. } | Ty::Bool | Ty::Enum { .. })
    }

    /// True for an integer (or what computes like one) that has a sign.
    pub fn is_signed(&self) -> bool {
        matches!(self, Ty::Int { signed: true, .. } | Ty::Enum { signed: true, .. })
    }

    /// A value that fits one register: 1, 2, 4 or 8 bytes that are loaded and stored as a number.
    pub fn in_register(&self) -> bool {
        !matches!(
            self,
            Ty::None
                | Ty::Str { .. }
                | Ty::Buffer { .. }
                | Ty::Array { .. }
                | Ty::Tuple(_)
                | Ty::Record(_)
                | Ty::Struct { .. }
                | Ty::Usym
                | Ty::UStack { .. }
                | Ty::Inet
                | Ty::Mac
        )
    }
}

/// Offsets of the fields and layout of the whole, as C has it.
fn struct_layout<'a>(fields: impl Iterator<Item = &'a Ty>) -> (Vec<u32>, Layout) {
    let mut offsets = vec![];
    let mut whole = Layout { size: 0, align: 1 };
    for ty in fields {
        let layout = ty.layout();
        let off = whole.size.next_multiple_of(layout.align);
        offsets.push(off);
        whole.size = off.saturating_add(layout.size);
        whole.align = whole.align.max(layout.align);
    }
    whole.size = whole.size.next_multiple_of(whole.align);
    (offsets, whole)
}

impl fmt::Display for Ty {
    /// As the language writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ty::None => f.write_str("none"),
            Ty::Bool => f.write_str("bool"),
            Ty::Int { size, signed } => {
                write!(f, "{}int{}", if *signed { "" } else { "u" }, size * 8)
            }
            Ty::Str { len } => write!(f, "string[{len}]"),
            Ty::Buffer { len } => write!(f, "buffer[{len}]"),
            Ty::Ptr { to, user } => {
                let space = if *user { "__user " } else { "" };
                match &**to {
                    Ty::None => write!(f, "void {space}*"),
                    to => write!(f, "{to} {space}*"),
                }
            }
            Ty::Array { element, len } => write!(f, "{element}[{len}]"),
            Ty::Tuple(fields) => {
                let fields: Vec<String> = fields.iter().map(Ty::to_string).collect();
                write!(f, "({})", fields.join(","))
            }
            Ty::Record(fields) => {
                let fields: Vec<String> = fields.iter().map(|(n, ty)| format!("{n}={ty}")).collect();
                write!(f, "({})", fields.join(","))
            }
            Ty::Struct { name, .. } => f.write_str(name),
            Ty::Enum { name, .. } => write!(f, "enum {name}"),
            Ty::Ksym => f.write_str("ksym_t"),
            Ty::Usym => f.write_str("usym_t"),
            Ty::KStack { .. } => f.write_str("kstack_t"),
            Ty::UStack { .. } => f.write_str("ustack_t"),
            Ty::Timestamp { .. } => f.write_str("timestamp"),
            Ty::Inet => f.write_str("inet"),
            Ty::Mac => f.write_str("mac_address"),
            Ty::CgroupPath { .. } => f.write_str("cgroup_path_t"),
            Ty::Username => f.write_str("username_t"),
            Ty::Strerror => f.write_str("strerror_t"),
            Ty::SignalName => f.write_str("signal_name_t"),
            Ty::SyscallName => f.write_str("syscall_name_t"),
            Ty::ProbeName => f.write_str("probe_t"),
        }
    }
}
