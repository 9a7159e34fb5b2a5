//! What was typed, as a tree. Names and numbers are as typed; nothing has been looked up or checked for sense.

use std::net::Ipv6Addr;
use std::ops::Range;

/// Byte range in the text.
pub type Span = Range<usize>;

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ast {
    /// The empty filter.
    All,
    /// `first and|or second and|or …`: `and` and `or` bind equally and to the left.
    Chain(Box<Ast>, Vec<(Joint, Ast)>),
    /// `not`.
    Not(Box<Ast>),
    /// `tcp dst port 80`: qualifiers and what they qualify.
    Primitive {
        /// Its qualifiers, written or inherited.
        quals: Quals,
        /// What they qualify.
        id: Id,
        /// The place of `id`.
        span: Span,
    },
    /// A protocol's name alone.
    Protocol(&'static str, Span),
    /// `ip broadcast`, or without a protocol.
    Broadcast(Option<&'static str>, Span),
    /// `ip6 multicast`, or without a protocol.
    Multicast(Option<&'static str>, Span),
    /// A relation between two numbers.
    Relation {
        /// Which.
        op: Relop,
        /// Left of the operator.
        lhs: Arith,
        /// Right of it.
        rhs: Arith,
        /// The place of the whole relation.
        span: Span,
    },
    /// `vlan`, `mpls`, `pppoed`, `pppoes`, `geneve`, `vxlan`, each perhaps with a number.
    Encap(Encap, Option<u32>, Span),
    /// `inbound`, or `outbound` if true.
    Outbound(bool, Span),
    /// `ifindex N`.
    IfIndex(u32, Span),
    /// `ifname NAME`.
    IfName(String, Span),
    /// `inner (…)`: about the packet in a tunnel.
    Inner(Box<Ast>, Span),
    /// `ext (…)`: tests on IPv6 look behind extension headers.
    Ext(Box<Ast>),
    /// `skb.dev.name = "eth0"`.
    KernelText {
        /// `skb.` and so on.
        path: String,
        /// Must not be that.
        negated: bool,
        /// The text.
        text: String,
        /// The place of the path.
        span: Span,
    },
    /// `pid 17` and its like.
    Whose {
        /// Whose what.
        whose: Whose,
        /// Must not be that.
        negated: bool,
        /// What it is compared with.
        value: Value,
        /// The place of the whole.
        span: Span,
    },
}

/// What says whose a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the language's own words
pub enum Whose {
    Pid,
    Comm,
    Cgroup,
    Netns,
}

impl Whose {
    /// Each and its word.
    pub const ALL: [(&str, Whose); 4] = [
        ("pid", Whose::Pid),
        ("comm", Whose::Comm),
        ("cgroup", Whose::Cgroup),
        ("netns", Whose::Netns),
    ];

    /// Its word.
    pub fn word(self) -> &'static str {
        Whose::ALL[self as usize].0
    }
}

/// A number or a text.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // as said
pub enum Value {
    Number(u32),
    Text(String),
}

/// What joins two conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the language's own words
pub enum Joint {
    And,
    Or,
}

/// An encapsulation that a filter looks into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the language's own words
pub enum Encap {
    Vlan,
    Mpls,
    PppoeDiscovery,
    PppoeSession,
    Geneve,
    Vxlan,
}

/// The qualifiers of a primitive, which identifiers after it inherit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quals {
    /// A protocol's keyword.
    pub proto: Option<&'static str>,
    /// Direction.
    pub dir: Option<Dir>,
    /// What kind of thing the identifier names.
    pub kind: Option<Kind>,
}

/// Which of a packet's two addresses or ports is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the language's own words
pub enum Dir {
    Src,
    Dst,
    Either,
    Both,
}

/// What kind of thing an identifier names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the language's own words
pub enum Kind {
    Host,
    Net,
    Port,
    PortRange,
    Proto,
    ProtoChain,
}

/// What a primitive qualifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Id {
    /// A number.
    Num(u32),
    /// Two to four dotted numbers.
    V4(String),
    /// The same with `/len`.
    V4Prefix(String, u32),
    /// The same with `mask`.
    V4Mask(String, String),
    /// An IPv6 address.
    V6(Ipv6Addr),
    /// The same with `/len`.
    V6Prefix(Ipv6Addr, u32),
    /// An Ethernet address.
    Mac([u8; 6]),
    /// A name.
    Name(String),
}

/// A 32-bit unsigned number that a packet has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arith {
    /// A constant.
    Num(u32),
    /// The packet's length.
    Len(Span),
    /// `proto[offset:size]`.
    Index {
        /// The protocol's keyword.
        proto: &'static str,
        /// Offset in bytes from the protocol's header.
        offset: Box<Arith>,
        /// 1, 2 or 4 bytes.
        size: u32,
        /// The place of the whole.
        span: Span,
    },
    /// `skb.mark`: a field of the packet's `struct sk_buff`, or of what it points to.
    Kernel {
        /// `skb.` and so on.
        path: String,
        /// Its place.
        span: Span,
    },
    /// Unary minus.
    Neg(Box<Arith>),
    /// An operation; wraps at 32 bits.
    Bin {
        /// Which.
        op: ArithOp,
        /// Left operand.
        lhs: Box<Arith>,
        /// Right operand.
        rhs: Box<Arith>,
        /// The place of the operator.
        span: Span,
    },
}

/// Arithmetic operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the field's standard names
pub enum ArithOp {
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
}

/// Relations, all of them unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the field's standard names
pub enum Relop {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}
