//! The IR's data: programs, functions, blocks, operations.

use crate::isa::Helper;

/// A virtual register of a [`Function`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reg(pub u32);

/// A basic block of a [`Function`]. Block 0 is the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block(pub u32);

/// A stack slot of a [`Function`]: addressable memory that lives as long as the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// A map of a [`Program`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MapRef(pub u32);

/// A function of a [`Program`]. Function 0 is the program's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FuncRef(pub u32);

/// A byte range of the source text that an operation comes from; `Span::NONE` where there is none.
/// Carried through to the instructions, so that a message of the kernel's verifier can be shown at the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// No source text.
    pub const NONE: Span = Span { start: 0, end: 0 };
}

/// What a virtual register holds: what the kernel's verifier will ask about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// A 64-bit scalar.
    Int,
    /// The program's context.
    Ctx,
    /// An address inside a stack slot.
    Stack,
    /// A map itself, as helpers take it.
    Map,
    /// An address inside a map's value.
    MapValue {
        /// Which map: the verifier checks accesses against its value size.
        map: MapRef,
        /// Null until a [`Term::NullCheck`].
        nullable: bool,
    },
    /// A reserved ring buffer record.
    Record {
        /// Its size in bytes.
        size: u32,
        /// Null until a [`Term::NullCheck`].
        nullable: bool,
    },
    /// A kernel address. It is read through [`Op::KernelLoad`] and [`Op::KernelRead`] only.
    Kernel {
        /// The kernel's verifier knows the pointee by BTF (an argument of fentry or tp_btf, or what such a
        /// pointer's field holds), so that code generation may use plain loads.
        direct: bool,
    },
    /// A user-space address. Read through helpers only.
    User,
    /// A packet opened by [`Op::PacketOpen`].
    Packet,
}

impl Type {
    /// The type behind a null check; itself where it can't be null.
    pub fn non_null(self) -> Type {
        match self {
            Type::MapValue { map, .. } => Type::MapValue { map, nullable: false },
            Type::Record { size, .. } => Type::Record {
                size,
                nullable: false,
            },
            other => other,
        }
    }

    /// True for a pointer that must pass a null check before it is used.
    pub fn nullable(self) -> bool {
        matches!(
            self,
            Type::MapValue { nullable: true, .. } | Type::Record { nullable: true, .. }
        )
    }
}

/// A register or a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// A register's value.
    Reg(Reg),
    /// A constant. What does not fit an instruction's 32-bit immediate, code generation materialises.
    Imm(i64),
}

impl From<Reg> for Operand {
    fn from(r: Reg) -> Self {
        Operand::Reg(r)
    }
}

impl From<i64> for Operand {
    fn from(v: i64) -> Self {
        Operand::Imm(v)
    }
}

/// How many bytes a memory access moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Size {
    /// 1 byte.
    B1,
    /// 2 bytes.
    B2,
    /// 4 bytes.
    B4,
    /// 8 bytes.
    B8,
}

impl Size {
    /// In bytes: 1, 2, 4 or 8.
    pub fn bytes(self) -> u32 {
        match self {
            Size::B1 => 1,
            Size::B2 => 2,
            Size::B4 => 4,
            Size::B8 => 8,
        }
    }

    /// The size of `bytes` bytes, if it is 1, 2, 4 or 8.
    pub fn from_bytes(bytes: u32) -> Option<Size> {
        match bytes {
            1 => Some(Size::B1),
            2 => Some(Size::B2),
            4 => Some(Size::B4),
            8 => Some(Size::B8),
            _ => None,
        }
    }
}

/// Operand width of arithmetic and comparisons. A 32-bit operation zeroes the upper half of its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// 32 bits.
    W32,
    /// 64 bits.
    W64,
}

/// Binary operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the field's standard names
pub enum BinOp {
    Add,
    Sub,
    Mul,
    /// Unsigned; by zero gives 0, as eBPF defines it.
    Div,
    /// Unsigned; by zero leaves the dividend.
    Mod,
    /// Signed; lowered by feature, natively with cpu v4 (6.6+).
    SDiv,
    /// Signed; lowered by feature, natively with cpu v4 (6.6+).
    SMod,
    And,
    Or,
    Xor,
    /// The count is taken modulo the width.
    Shl,
    /// Logical; the count is taken modulo the width.
    Shr,
    /// Arithmetic; the count is taken modulo the width.
    Sar,
}

/// Comparisons. Those that start with `S` are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the field's standard names
pub enum Cond {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    SLt,
    SLe,
    SGt,
    SGe,
    /// `a & b` is not zero.
    Test,
}

/// Atomic memory operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the field's standard names
pub enum AtomicOp {
    /// Without `fetch` on every kernel, with it from 5.12 on.
    Add,
    And,
    Or,
    Xor,
    /// 5.12+.
    Xchg,
}

/// An operation that falls through to the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // each variant's text speaks of its fields
pub enum Op {
    /// `dst = src`.
    Mov { dst: Reg, src: Operand },
    /// `dst = a op b`. Pointers: only `Add` and `Sub` of an integer, 64 bits wide.
    Bin {
        op: BinOp,
        width: Width,
        dst: Reg,
        a: Reg,
        b: Operand,
    },
    /// `dst = -src`.
    Neg { width: Width, dst: Reg, src: Reg },
    /// `dst` is the low `size` bytes of `src` in reverse order, the rest zero.
    Swap { size: Size, dst: Reg, src: Reg },
    /// `dst` is the low `size` bytes of `src`, extended to 64 bits.
    Extend {
        size: Size,
        signed: bool,
        dst: Reg,
        src: Reg,
    },

    /// Plain load from memory that the kernel's verifier knows: context, stack, map value, ring record.
    Load {
        dst: Reg,
        base: Reg,
        off: i32,
        size: Size,
        signed: bool,
    },
    /// Plain store to stack, map value or ring record.
    Store {
        base: Reg,
        off: i32,
        src: Operand,
        size: Size,
    },
    /// Atomic update of 4 or 8 bytes of a map value or stack; `fetch` receives the old value (5.12+).
    Atomic {
        op: AtomicOp,
        base: Reg,
        off: i32,
        src: Reg,
        size: Size,
        fetch: Option<Reg>,
    },

    /// `dst = &slot + off`.
    SlotAddr { dst: Reg, slot: Slot, off: u32 },
    /// `dst = map`, to hand to a helper.
    MapAddr { dst: Reg, map: MapRef },
    /// `dst = &value[0] + off` of an array map (5.2+). Never null.
    MapData { dst: Reg, map: MapRef, off: u32 },

    /// `dst` = the program's context.
    Ctx { dst: Reg },
    /// `dst` = argument `index` (from 0) of the traced function or tracepoint. How it is read depends on
    /// [`ProgramKind`]; the register's type says what it is: `Int` or `Kernel`.
    Arg { dst: Reg, index: u8 },

    /// `dst` = whether a program that sees both moments of a call (a kprobe session) sees the return: 1 or 0.
    AtReturn { dst: Reg },
    /// `dst` = what [`Op::Keep`] kept at the entry of the same call; 0 if it did not.
    Kept { dst: Reg },
    /// At the entry: keep a number until the same call returns.
    Keep { src: Operand },

    /// Load from a kernel address. A faulting address gives 0.
    KernelLoad {
        dst: Reg,
        base: Reg,
        off: i32,
        size: Size,
        signed: bool,
    },
    /// Copy `len` bytes from a kernel address into a slot. A faulting address gives zeros.
    KernelRead {
        slot: Slot,
        slot_off: u32,
        base: Reg,
        off: i32,
        len: u32,
    },

    /// Open a packet that starts at `start`: a kernel address, plain memory, or the offset in an skb, by the
    /// packet access that code generation is told to use ([`crate::codegen::PacketAccess`]).
    PacketOpen { dst: Reg, start: Reg },
    /// `dst` = `size` bytes at `off` of the packet. In network byte order turned to a number if `swap`, else as
    /// in memory. The builder of the IR has checked that the bytes are inside the packet.
    PacketLoad {
        dst: Reg,
        packet: Reg,
        off: Operand,
        size: Size,
        swap: bool,
    },

    /// Call a helper. The verifier checks `args` against [`Helper::signature`].
    Call {
        dst: Option<Reg>,
        helper: Helper,
        args: Vec<Operand>,
    },
    /// Call a function of the program for each entry of a map (5.13+), until it returns something else than 0. It takes
    /// the map (as a number), the address of the key (a kernel address), that of the value, and 0. `dst` is how
    /// many entries it was called for.
    Each {
        dst: Option<Reg>,
        map: MapRef,
        func: FuncRef,
    },
    /// Call another function of the program (a BPF-to-BPF call).
    CallFn {
        dst: Option<Reg>,
        func: FuncRef,
        args: Vec<Operand>,
    },
}

/// How control leaves a block.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // each variant's text speaks of its fields
pub enum Term {
    /// Go on at a block.
    Jump(Block),
    /// Go on at `then` if `a cond b`, else at `otherwise`.
    Branch {
        cond: Cond,
        width: Width,
        a: Reg,
        b: Operand,
        then: Block,
        otherwise: Block,
    },
    /// Go on at `some` with the non-null pointer in `dst`, or at `none`.
    NullCheck {
        ptr: Reg,
        dst: Reg,
        some: Block,
        none: Block,
    },
    /// Leave the function.
    Return(Operand),
}

/// What makes a block a loop header: back edges may enter it, at most `max` times a visit of the loop. Code
/// generation adds the guard that the kernel can live with (a counter, an iterator, `may_goto`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopBound {
    /// How often the header may be entered in one visit of the loop.
    pub max: u32,
    /// Where control goes when the bound is used up.
    pub exhausted: Block,
}

impl LoopBound {
    /// Loops of more rounds than this are not walked round by round by the kernel's verifier, where it has `may_goto`:
    /// it gives up after a million instructions.
    pub const WALKED: u32 = 1024;
}

/// An operation and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inst {
    /// What it does.
    pub op: Op,
    /// Where it comes from.
    pub span: Span,
}

/// A basic block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockData {
    /// What runs, in order.
    pub insts: Vec<Inst>,
    /// How control leaves. `None` only while the function is being built.
    pub term: Option<Term>,
    /// Where the terminator comes from.
    pub term_span: Span,
    /// Set on loop headers.
    pub bound: Option<LoopBound>,
}

/// A stack slot's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotDecl {
    /// Size in bytes. What does not fit the stack, code generation puts into per-CPU scratch memory.
    pub size: u32,
    /// Alignment in bytes: 1, 2, 4 or 8.
    pub align: u32,
}

/// A function: its registers, slots and blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// For people and for the program's BTF.
    pub name: String,
    /// It mostly leaves early, and is as cheap as can be when it does: nothing is kept in a register that functions
    /// preserve, which the kernel's compiler would save at the beginning.
    pub lean: bool,
    /// Registers that hold the arguments (at most 5). The entry function has none: it uses [`Op::Ctx`].
    pub params: Vec<Reg>,
    /// The type of each register.
    pub regs: Vec<Type>,
    /// The stack slots.
    pub slots: Vec<SlotDecl>,
    /// The blocks; the first is the entry.
    pub blocks: Vec<BlockData>,
}

/// What kind of program it is: decides how arguments are read and which pointers are `direct`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProgramKind {
    /// kprobe, kretprobe, kprobe-multi: the context is `struct pt_regs`.
    Kprobe,
    /// fentry, fexit, tp_btf: the context is an array of 64-bit arguments with BTF types.
    Tracing,
    /// fentry and its like attached to many functions at once (7.2+): arguments through `bpf_get_func_arg`.
    TracingMulti,
    /// Raw tracepoint without BTF: an array of untyped 64-bit arguments.
    RawTracepoint,
    /// Classic tracepoint: the context is the event's record.
    Tracepoint,
    /// Perf event: `struct bpf_perf_event_data`.
    PerfEvent,
    /// tc classifier: `struct __sk_buff`. For runs under `BPF_PROG_TEST_RUN`.
    SchedCls,
}

/// Map types, numbered as `enum bpf_map_type` of the kernel's UAPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the field's standard names
pub enum MapKind {
    Hash = 1,
    Array = 2,
    PercpuHash = 5,
    PercpuArray = 6,
    StackTrace = 7,
    LruHash = 9,
    LruPercpuHash = 10,
    /// 5.8+.
    RingBuf = 27,
}

/// A map that a program uses. Who loads the program creates it, or passes one that exists: maps of the same name
/// in programs that are loaded together are one map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapDecl {
    /// Name; the kernel keeps the first 15 bytes.
    pub name: String,
    /// Type.
    pub kind: MapKind,
    /// In bytes; 0 for a ring buffer.
    pub key_size: u32,
    /// In bytes; 0 for a ring buffer.
    pub value_size: u32,
    /// Entries; for a ring buffer its size in bytes, a power of two and a multiple of the page size.
    pub max_entries: u32,
}

/// A program: what is loaded as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Name; the kernel keeps the first 15 bytes.
    pub name: String,
    /// Kind.
    pub kind: ProgramKind,
    /// The maps it uses.
    pub maps: Vec<MapDecl>,
    /// Its functions; the first is the entry.
    pub functions: Vec<Function>,
}
