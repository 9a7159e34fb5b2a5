//! What the compilers must know about a kernel, behind traits: its types and its features.
//!
//! The crate above implements [`Types`] on the running kernel's BTF; tests implement it on a table.

pub mod field;

/// A BTF type: which BTF object (0 is vmlinux, others are modules) and its id there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeId {
    /// 0 for vmlinux, else the module's number, as the implementation counts.
    pub object: u32,
    /// The id within that object.
    pub id: u32,
}

/// A named type's namespace in C.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Space {
    Struct,
    Union,
    Enum,
    Typedef,
    Func,
    Int,
}

/// One type, one level deep: what it refers to is named by id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KType {
    /// `void`.
    Void,
    /// A struct or a union of which only the name is known.
    Forward {
        /// Its name.
        name: String,
        /// A union.
        union: bool,
    },
    /// An integer.
    Int {
        /// Its name: `int`, `long unsigned int`.
        name: String,
        /// Bytes.
        size: u32,
        /// Signed.
        signed: bool,
        /// `bool`.
        boolean: bool,
        /// `char`.
        char: bool,
    },
    /// A pointer.
    Ptr(TypeId),
    /// An array.
    Array {
        /// Element type.
        element: TypeId,
        /// Elements.
        len: u32,
    },
    /// A struct or a union.
    Struct {
        /// Its name; empty if anonymous.
        name: String,
        /// A union.
        union: bool,
        /// Bytes.
        size: u32,
        /// Members in order.
        members: Vec<Member>,
    },
    /// An enum.
    Enum {
        /// Its name; empty if anonymous.
        name: String,
        /// Bytes.
        size: u32,
        /// Signed.
        signed: bool,
        /// Names and values.
        values: Vec<(String, i64)>,
    },
    /// A typedef.
    Typedef {
        /// Its name.
        name: String,
        /// What it stands for.
        to: TypeId,
    },
    /// A type that says more of another.
    Modifier {
        /// What it says.
        qualifier: Qualifier,
        /// What it modifies.
        to: TypeId,
    },
    /// A function prototype.
    Proto {
        /// Parameter names and types, in order.
        params: Vec<(String, TypeId)>,
        /// What it returns.
        returns: TypeId,
        /// It takes more than that.
        variadic: bool,
    },
    /// A function.
    Func {
        /// Its name.
        name: String,
        /// Its prototype.
        proto: TypeId,
    },
    /// A variable or a section: nothing that programs read through types.
    Other,
}

/// What a type says of the type that it modifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Qualifier {
    /// `const`.
    Const,
    /// `volatile`.
    Volatile,
    /// `restrict`.
    Restrict,
    /// A type tag, by name: `user`, `rcu`, `percpu`.
    Tag(String),
}

/// A struct's or a union's member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name; empty if anonymous.
    pub name: String,
    /// Its type.
    pub ty: TypeId,
    /// Where it starts, in bits from the start of the struct.
    pub bit_offset: u32,
    /// Bits of a bit-field; 0 if it is none.
    pub bits: u32,
}

/// A kernel's types.
pub trait Types {
    /// The type of that name, vmlinux's before the modules'.
    fn by_name(&self, space: Space, name: &str) -> Option<TypeId>;
    /// A type by id. `None` only for an id that this value never gave out.
    fn get(&self, id: TypeId) -> Option<KType>;
}

/// The machine's architecture, as far as programs depend on it: where `struct pt_regs` keeps arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arch {
    /// x86, 64 bits.
    X86_64,
    /// Arm, 64 bits.
    Aarch64,
}

impl Default for Arch {
    /// The architecture that this crate was built for; x86_64 where it is neither.
    fn default() -> Arch {
        if cfg!(target_arch = "aarch64") {
            Arch::Aarch64
        } else {
            Arch::X86_64
        }
    }
}

/// What the running kernel can do, as far as code generation asks. Probed once by the crate above.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Features {
    /// The architecture.
    pub arch: Arch,
    /// Atomic operations that return the old value, exchange and compare-exchange (5.12+).
    pub atomic_fetch: bool,
    /// Signed division, sign-extending loads, byte swaps without a direction: cpu v4 (6.6+).
    pub cpu_v4: bool,
    /// `bpf_loop` (5.17+).
    pub bpf_loop: bool,
    /// Open-coded iterators: `bpf_iter_num_new` and its like (6.4+).
    pub iter_num: bool,
    /// The `may_goto` instruction (6.9+).
    pub may_goto: bool,
    /// `bpf_rdonly_cast`: a kernel address becomes readable by plain loads (6.2+).
    pub rdonly_cast: Option<RdonlyCast>,
    /// Programs that see both moments of a call (6.10+).
    pub session: Option<Session>,
    /// `bpf_get_func_ip` (5.15+).
    pub get_func_ip: bool,
    /// `bpf_get_attach_cookie` (5.15+).
    pub attach_cookie: bool,
}

/// What programs of kprobe sessions call: numbers of this kernel's BTF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// The function `bpf_session_is_return`.
    pub is_return: u32,
    /// The function `bpf_session_cookie`, which gives the address of 8 bytes that the call's entry and return share.
    pub cookie: u32,
}

/// How to make kernel memory readable by plain loads: numbers of this kernel's BTF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RdonlyCast {
    /// The function `bpf_rdonly_cast`.
    pub function: u32,
    /// A struct that starts with [`RdonlyCast::BYTES`] bytes of `char`, as `struct new_utsname` does: the verifier
    /// lets loads of any size read anywhere in an array of bytes, so that it serves for memory of any type.
    pub bytes: u32,
}

impl RdonlyCast {
    /// How many bytes can be read after one cast.
    pub const BYTES: u32 = 65;
}
