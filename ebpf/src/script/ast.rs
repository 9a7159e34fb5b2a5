//! What a script says, as a tree with the place of every node. No types yet, and no names looked up.
//!
//! After [`super::parse`] there are no macros, no `#define`s and no positional parameters without their text in it:
//! what is left are probes, functions, map declarations and C type definitions.

/// A place in the script's text: bytes, the end exclusive. Empty at the text's end for what is missing there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// From byte to byte; both are below [`super::MAX_TEXT`].
    pub fn new(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            end: end as u32,
        }
    }

    /// The smallest place that holds both.
    pub fn to(self, other: Self) -> Self {
        Self {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }
}

/// A name and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ident {
    /// The name without `$` or `@`. A macro's own variable has a `'` and a number behind it, which nobody can write.
    pub name: String,
    /// Where it stands, with its `$` or `@`.
    pub span: Span,
}

/// A whole script.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Script {
    /// The `config = { … }` block's entries.
    pub config: Vec<ConfigEntry>,
    /// C structs, unions, enums and typedefs.
    pub types: Vec<TypeDef>,
    /// `let @m = lruhash(N);`
    pub maps: Vec<MapDecl>,
    /// The macros as written. Their uses are expanded already.
    pub macros: Vec<Macro>,
    /// `fn`s.
    pub functions: Vec<Function>,
    /// The probes in their order.
    pub probes: Vec<Probe>,
    /// `experiment { … }` blocks, unparsed.
    pub experiments: Vec<RawBlock>,
    /// The files that it imports, which are part of it already.
    pub imports: Vec<Import>,
    /// One more than the largest [`Expr::id`].
    pub expressions: u32,
}

/// `import "FILE";`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The file, as it is written.
    pub path: String,
    /// The place.
    pub span: Span,
}

/// `KEY = VALUE` in the config block.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigEntry {
    /// In lower case, without a `bpftrace_` in front.
    pub key: Ident,
    /// What it is set to.
    pub value: ConfigValue,
    /// Where the value stands.
    pub value_span: Span,
}

/// A value in the config block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigValue {
    /// A number, or `true` and `false` as 1 and 0.
    Integer(u64),
    /// A string, or a bare word such as `warn`.
    Text(String),
}

/// `let @name = KIND(N);`
#[derive(Clone, Debug, PartialEq)]
pub struct MapDecl {
    /// The map.
    pub name: Ident,
    /// Its storage.
    pub kind: MapKind,
    /// How many keys it holds.
    pub entries: u64,
    /// The whole declaration.
    pub span: Span,
}

/// How a declared map stores its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// `hash`
    Hash,
    /// `lruhash`
    LruHash,
    /// `percpuhash`
    PerCpuHash,
    /// `percpulruhash`
    PerCpuLruHash,
}

/// `macro NAME(params) { … }`
#[derive(Clone, Debug, PartialEq)]
pub struct Macro {
    /// Its name.
    pub name: Ident,
    /// Its parameters.
    pub params: Vec<MacroParam>,
    /// What stands for a use of it.
    pub body: Block,
}

/// A macro's parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MacroParam {
    /// `$v`: the caller's variable itself.
    Variable(Ident),
    /// `@m`: the caller's map.
    Map(Ident),
    /// `e`: any expression, evaluated wherever the body uses it.
    Expr(Ident),
}

/// `fn NAME($a : type, …) : type { … }`
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// Its name.
    pub name: Ident,
    /// Its parameters.
    pub params: Vec<(Ident, Type)>,
    /// What it returns; none is `void`.
    pub returns: Option<Type>,
    /// Its body.
    pub body: Block,
}

/// One or more attach points, a predicate, a body.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// Where it attaches.
    pub points: Vec<AttachPoint>,
    /// `/ … /`
    pub predicate: Option<Expr>,
    /// What it does.
    pub body: Block,
    /// All of it.
    pub span: Span,
}

/// `provider:part:part`, after `$N` was replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachPoint {
    /// `NAME =` in front of it.
    pub name: Option<Ident>,
    /// What kind of place it is.
    pub provider: Provider,
    /// What follows the provider, split at colons outside of quotes, quotes removed.
    pub parts: Vec<Ident>,
    /// The whole, with the provider's full name.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

/// The kinds of places to attach to. Full and short names, in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Provider {
    /// `begin`: once, before everything else.
    Begin,
    /// `end`: once, after everything else.
    End,
    /// `self:signal:NAME`
    SelfSignal,
    /// `kprobe:FUNC`, `k`
    Kprobe,
    /// `kretprobe:FUNC`, `kr`
    Kretprobe,
    /// `fentry:FUNC`, `f`, `kfunc`
    Fentry,
    /// `fexit:FUNC`, `fr`, `kretfunc`
    Fexit,
    /// `span:FUNC`: ktrail's own; fires at the return and knows the entry's arguments and the duration.
    Span,
    /// `tracepoint:CATEGORY:NAME`, `t`
    Tracepoint,
    /// `rawtracepoint:NAME`, `rt`
    RawTracepoint,
    /// `iter:NAME`, `it`
    Iter,
    /// `profile:hz:N`, `p`
    Profile,
    /// `interval:s:N`, `i`
    Interval,
    /// `software:EVENT:N`, `s`
    Software,
    /// `hardware:EVENT:N`, `h`
    Hardware,
    /// `uprobe:FILE:FUNC`, `u`
    Uprobe,
    /// `uretprobe:FILE:FUNC`, `ur`
    Uretprobe,
    /// `usdt:FILE:PROVIDER:NAME`, `U`
    Usdt,
    /// `watchpoint:ADDRESS:LENGTH:MODE`, `w`
    Watchpoint,
    /// `test:NAME`
    Test,
    /// `bench:NAME`
    Bench,
}

impl Provider {
    /// Every provider with its full name and its other names.
    pub const ALL: &[(Self, &str, &[&str])] = &[
        (Self::Begin, "begin", &[]),
        (Self::End, "end", &[]),
        (Self::SelfSignal, "self", &[]),
        (Self::Kprobe, "kprobe", &["k"]),
        (Self::Kretprobe, "kretprobe", &["kr"]),
        (Self::Fentry, "fentry", &["f", "kfunc"]),
        (Self::Fexit, "fexit", &["fr", "kretfunc"]),
        (Self::Span, "span", &[]),
        (Self::Tracepoint, "tracepoint", &["t"]),
        (Self::RawTracepoint, "rawtracepoint", &["rt"]),
        (Self::Iter, "iter", &["it"]),
        (Self::Profile, "profile", &["p"]),
        (Self::Interval, "interval", &["i"]),
        (Self::Software, "software", &["s"]),
        (Self::Hardware, "hardware", &["h"]),
        (Self::Uprobe, "uprobe", &["u"]),
        (Self::Uretprobe, "uretprobe", &["ur"]),
        (Self::Usdt, "usdt", &[]),
        (Self::Watchpoint, "watchpoint", &["w", "asyncwatchpoint", "aw"]),
        (Self::Test, "test", &[]),
        (Self::Bench, "bench", &[]),
    ];

    /// The provider of a full or short name in any case; only `U` (usdt) and `u` (uprobe) differ by it.
    pub fn of(name: &str) -> Option<Self> {
        if name == "U" {
            return Some(Self::Usdt);
        }
        let name = name.to_ascii_lowercase();
        Self::ALL
            .iter()
            .find(|(_, full, short)| *full == name || short.contains(&name.as_str()))
            .map(|(provider, ..)| *provider)
    }

    /// The full name.
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(provider, ..)| *provider == self)
            .map_or("", |(_, name, _)| name)
    }
}

/// Text between braces that another parser reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawBlock {
    /// What stands between the braces.
    pub text: String,
    /// Where `text` stands: positions in it plus this span's start are positions in the script.
    pub span: Span,
}

/// `{ statements; value }`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Block {
    /// In their order.
    pub statements: Vec<Stmt>,
    /// The last expression when no semicolon follows it. Only where a value is asked for does it differ from a
    /// statement; the parser moves it to the statements in the bodies of probes and loops.
    pub value: Option<Box<Expr>>,
    /// With its braces.
    pub span: Span,
}

/// A statement.
#[derive(Clone, Debug, PartialEq)]
pub struct Stmt {
    /// What it says.
    pub kind: StmtKind,
    /// Without its semicolon.
    pub span: Span,
}

/// What a statement says.
#[derive(Clone, Debug, PartialEq)]
pub enum StmtKind {
    /// `printf("…");`
    Expr(Expr),
    /// `let $v : type = e;`
    Let {
        /// The variable.
        name: Ident,
        /// Its type, if written.
        ty: Option<Type>,
        /// What it starts with; none is zero.
        value: Option<Expr>,
    },
    /// `$v = e;`, `@m[k] = e;`, `$v += e;`
    Assign {
        /// An [`ExprKind::Variable`] or [`ExprKind::Map`]; the later stages refuse the rest with their reasons.
        target: Expr,
        /// The operator of `+=` and the like.
        op: Option<BinaryOp>,
        /// The right side.
        value: Expr,
    },
    /// `_ = e;`
    Discard(Expr),
    /// `if … { } else { }`
    If(Box<If>),
    /// `while (c) { }`
    While {
        /// Asked before each turn.
        condition: Expr,
        /// What is repeated.
        body: Block,
    },
    /// `unroll (n) { }`
    Unroll {
        /// How often: constant, 1 to 100.
        count: Expr,
        /// What is repeated.
        body: Block,
    },
    /// `for ($kv : @m) { }`
    ForMap {
        /// (key, value)
        variable: Ident,
        /// The map.
        map: Ident,
        /// What is repeated.
        body: Block,
    },
    /// `for ($i : a..b) { }`
    ForRange {
        /// From `from` to below `to`.
        variable: Ident,
        /// Evaluated once.
        from: Expr,
        /// Evaluated once; exclusive.
        to: Expr,
        /// What is repeated.
        body: Block,
    },
    /// `break;`
    Break,
    /// `continue;`
    Continue,
    /// `return;`, `return e;`
    Return(Option<Expr>),
    /// `{ … }` as a statement.
    Block(Block),
}

/// `if c { } else { }`, as a statement and as an expression.
#[derive(Clone, Debug, PartialEq)]
pub struct If {
    /// What decides.
    pub condition: Expr,
    /// If not zero.
    pub then: Block,
    /// If zero. `else if` is a block with one statement, or with one value.
    pub otherwise: Option<Block>,
}

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    /// Its number, different from every other expression's of the script: the key for tables of types and the like.
    pub id: u32,
    /// What it says.
    pub kind: ExprKind,
    /// Where it stands. What a macro brought stands in the macro.
    pub span: Span,
}

/// What an expression says.
#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    /// `42`, `0x2a`, `1e6`, `10ms` (in ns). Never negative: a minus is a [`UnaryOp::Neg`].
    Integer(u64),
    /// `"text"`: bytes after the escapes are resolved, without a NUL at the end.
    String(Vec<u8>),
    /// `true`, `false`
    Bool(bool),
    /// `$1`: the parameter's text, none when it isn't set.
    Positional(u32, Option<String>),
    /// `$#`
    PositionalCount(u64),
    /// `$v`
    Variable(String),
    /// `@m`, `@m[k]`; `@m[a, b]` is `@m[(a, b)]` and has a [`ExprKind::Tuple`] as key.
    Map {
        /// Without the `@`; empty for the anonymous map.
        name: String,
        /// What stands in the brackets.
        key: Option<Box<Expr>>,
    },
    /// A bare name: a builtin (`pid`, `args`, `kstack`), an enum constant, a mode such as `perf`.
    Name(String),
    /// `name(…)`: functions, aggregations, builtins with parameters, the script's own `fn`s.
    Call {
        /// The function.
        name: Ident,
        /// What it is called with.
        args: Vec<Expr>,
    },
    /// `sizeof(T)`, `sizeof(e)`
    SizeOf(Box<TypeOrExpr>),
    /// `offsetof(T, a.b)`
    OffsetOf(Box<TypeOrExpr>, Vec<Ident>),
    /// `container_of(p, T, a.b)`
    ContainerOf(Box<Expr>, Type, Vec<Ident>),
    /// `typeinfo(T)`, `typeinfo(e)`
    TypeInfo(Box<TypeOrExpr>),
    /// `comptime e`
    Comptime(Box<Expr>),
    /// `-e`, `!e`, `~e`, `*e`, `&e`
    Unary(UnaryOp, Box<Expr>),
    /// `++e`, `e--`
    Step {
        /// A variable or a map's value.
        target: Box<Expr>,
        /// Up by one, else down.
        increment: bool,
        /// The value is that after the step, else before it.
        prefix: bool,
    },
    /// `a + b`
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    /// `c ? a : b`; `c ?: b` has no middle.
    Ternary(Box<Expr>, Option<Box<Expr>>, Box<Expr>),
    /// `(type)e`
    Cast(Type, Box<Expr>),
    /// `e.name`, `e->name`
    Field(Box<Expr>, Ident),
    /// `e.0`
    TupleField(Box<Expr>, u32),
    /// `e[i]`
    Index(Box<Expr>, Box<Expr>),
    /// `()`, `(a,)`, `(a, b)`
    Tuple(Vec<Expr>),
    /// `(a = 1, b = 2)`
    Record(Vec<(Ident, Expr)>),
    /// `{ s; s; e }`
    Block(Box<Block>),
    /// `if c { a } else { b }`
    If(Box<If>),
}

/// What `sizeof` and the like take.
#[derive(Clone, Debug, PartialEq)]
pub enum TypeOrExpr {
    /// A type. A single name that isn't known to be an expression is a type here.
    Type(Type),
    /// An expression.
    Expr(Expr),
}

/// Operators with one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    /// `-`
    Neg,
    /// `!`
    Not,
    /// `~`
    BitNot,
    /// `*`
    Deref,
    /// `&`, of a variable or a map's value
    AddressOf,
}

impl UnaryOp {
    /// As written.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Neg => "-",
            Self::Not => "!",
            Self::BitNot => "~",
            Self::Deref => "*",
            Self::AddressOf => "&",
        }
    }
}

/// Operators with two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    And,
    Or,
    Xor,
    Shl,
    Shr,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    LogicalAnd,
    LogicalOr,
}

impl BinaryOp {
    /// As written.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::And => "&",
            Self::Or => "|",
            Self::Xor => "^",
            Self::Shl => "<<",
            Self::Shr => ">>",
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
            Self::LogicalAnd => "&&",
            Self::LogicalOr => "||",
        }
    }
}

/// A type as written.
#[derive(Clone, Debug, PartialEq)]
pub struct Type {
    /// What it says.
    pub kind: TypeKind,
    /// Where it stands.
    pub span: Span,
}

/// What a written type says.
#[derive(Clone, Debug, PartialEq)]
pub enum TypeKind {
    /// `void`
    Void,
    /// `bool`
    Bool,
    /// `int8` to `uint64`; in C definitions also `char`, `unsigned long` and the like.
    Int {
        /// 8, 16, 32 or 64.
        bits: u8,
        /// Has negative values.
        signed: bool,
    },
    /// `string`, `string[N]`
    String(Option<u64>),
    /// `buffer`, `buffer[N]`
    Buffer(Option<u64>),
    /// `inet`
    Inet,
    /// `struct X`
    Struct(String),
    /// `union X`
    Union(String),
    /// `enum X`
    Enum(String),
    /// A name for the kernel's BTF, the script's typedefs or one of the language's own (`kstack_t`, `timestamp`).
    Named(String),
    /// `T *`
    Pointer(Box<Type>),
    /// `T[N]`, `T[]`
    Array(Box<Type>, Option<u64>),
    /// `(T, T)`
    Tuple(Vec<Type>),
    /// `typeof(e)`
    TypeOf(Box<TypeOrExpr>),
    /// A struct, union or enum that is defined on the spot, in C definitions only.
    Inline(Box<TypeDef>),
}

/// A C type that the script defines.
#[derive(Clone, Debug, PartialEq)]
pub struct TypeDef {
    /// Its tag or name; none for an anonymous one inside of another.
    pub name: Option<Ident>,
    /// What it is.
    pub kind: TypeDefKind,
    /// All of it.
    pub span: Span,
}

/// What a C definition defines.
#[derive(Clone, Debug, PartialEq)]
pub enum TypeDefKind {
    /// `struct X { … }`; the second says whether `__attribute__((packed))` follows.
    Struct(Vec<Member>, bool),
    /// `union X { … }`
    Union(Vec<Member>),
    /// `enum X { A, B = 3 }`: values counted already.
    Enum(Vec<(Ident, i64)>),
    /// `typedef T X;`
    Typedef(Type),
}

/// A field of a C struct or union.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// None for an anonymous struct or union, whose fields belong to the outer one, and for padding bits.
    pub name: Option<Ident>,
    /// Its type.
    pub ty: Type,
    /// How many bits, in a bitfield.
    pub bits: Option<u8>,
}
