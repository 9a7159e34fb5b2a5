//! The resolved filter: a tree of tests over numbers that a packet has.
//!
//! Numbers ([`Num`]) are interned, so that equal ones are one and lowering loads each once. They are pure: a packet
//! doesn't change while a filter looks at it. All are 32 bits wide and unsigned.

use std::collections::HashMap;
use std::ops::Range;

use super::ast::{ArithOp, Relop};
use super::view::Field;

/// An interned number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct NumId(pub u32);

/// Which of the view's packets a load reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Window {
    /// From the link-layer header on.
    L2,
    /// From the network header on.
    L3,
}

/// A place in a packet: `off` bytes after `dynamic` bytes after the start of `window`. The sum doesn't wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub window: Window,
    pub dynamic: Option<NumId>,
    pub off: u32,
}

/// A kernel object that a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PathId(u32);

impl PathId {
    /// The packet's `struct sk_buff`.
    pub const SKB: PathId = PathId(0);
}

/// The pointer to an object: `off` bytes into another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Path {
    pub from: PathId,
    pub off: u32,
}

/// What walking an IPv6 header's extension headers finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Walked {
    /// The protocol behind them.
    Proto,
    /// Bytes from the IPv6 header to there.
    Length,
    /// 0 in a fragment that isn't the first, else 1.
    First,
}

/// A number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Num {
    Const(u32),
    /// 1, 2 or 4 bytes in network byte order. Outside of the packet: the whole filter doesn't match.
    Load {
        place: Place,
        size: u32,
    },
    /// Wraps. Division by zero: the whole filter doesn't match. Shifts by 32 and more give 0.
    Bin {
        op: ArithOp,
        a: NumId,
        b: NumId,
    },
    /// Something the view knows.
    Field(Field),
    /// From the IPv6 header at `net`. A header outside of the packet: the whole filter doesn't match.
    Walk {
        net: Place,
        part: Walked,
    },
    /// 1, 2 or 4 bytes of a kernel object; in host byte order unless `swap`. 0 where they can't be read.
    Kernel {
        object: PathId,
        off: u32,
        size: u32,
        signed: bool,
        swap: bool,
    },
    /// What the [`Node::Enter`] on the way here has put there; numbered through the filter.
    Slot(u32),
    /// `same` if `num` is `value`, else `other`; only that one is computed.
    Choose {
        num: NumId,
        value: u32,
        same: NumId,
        other: NumId,
    },
}

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Const(bool),
    /// `a op b`.
    Test {
        op: Relop,
        a: NumId,
        b: NumId,
        span: Range<usize>,
    },
    /// `a` is one of these, which are in order.
    In {
        a: NumId,
        values: Vec<u32>,
        span: Range<usize>,
    },
    /// The packet has this field. Asked where a field's absence means no, and not that the whole filter doesn't match.
    Has(Field),
    /// The pointer to this object isn't null.
    NotNull(PathId),
    /// The chain of headers that starts behind the IP header at `net` has one of protocol `wanted`.
    Chain {
        v6: bool,
        net: Place,
        wanted: u32,
        span: Range<usize>,
    },
    /// From left to right, as far as needed.
    And(Vec<Node>),
    /// From left to right, as far as needed.
    Or(Vec<Node>),
    Not(Box<Node>),
    /// True, and puts numbers into slots.
    Enter(Vec<(NumId, NumId)>),
    /// `ways` and then `inside`, which stands in the program once, whatever number of ways leads there. Each way that
    /// holds ends in an [`Node::Enter`] of `slots`, which `inside` speaks of; `link` is what decides much there.
    Inside {
        ways: Box<Node>,
        slots: Vec<NumId>,
        link: NumId,
        inside: Box<Node>,
    },
}

/// All numbers of a filter.
#[derive(Clone, Debug, Default)]
pub(super) struct Nums {
    nums: Vec<Num>,
    ids: HashMap<Num, NumId>,
    /// The pointers to kernel objects; the skb's own number has none.
    paths: Vec<Path>,
    slots: u32,
}

impl Nums {
    pub fn get(&self, id: NumId) -> Num {
        self.nums[id.0 as usize]
    }

    /// The object that `path` points to.
    pub fn path(&mut self, path: Path) -> PathId {
        let known = self.paths.iter().position(|known| *known == path);
        let at = known.unwrap_or_else(|| {
            self.paths.push(path);
            self.paths.len() - 1
        });
        PathId(at as u32 + 1)
    }

    /// Where the pointer to an object is; `None` for the skb.
    pub fn step(&self, path: PathId) -> Option<Path> {
        Some(self.paths[path.0.checked_sub(1)? as usize])
    }

    pub fn intern(&mut self, num: Num) -> NumId {
        let next = NumId(self.nums.len() as u32);
        let id = *self.ids.entry(num).or_insert(next);
        if id == next {
            self.nums.push(num);
        }
        id
    }

    /// A new slot.
    pub fn slot(&mut self) -> NumId {
        self.slots += 1;
        self.intern(Num::Slot(self.slots))
    }

    pub fn constant(&mut self, value: u32) -> NumId {
        self.intern(Num::Const(value))
    }

    pub fn as_const(&self, id: NumId) -> Option<u32> {
        match self.get(id) {
            Num::Const(value) => Some(value),
            _ => None,
        }
    }

    pub fn load(&mut self, place: Place, size: u32) -> NumId {
        self.intern(Num::Load { place, size })
    }

    /// `a op b`; computed here if both are constants and the result is defined.
    pub fn bin(&mut self, op: ArithOp, a: NumId, b: NumId) -> NumId {
        if let (Some(x), Some(y)) = (self.as_const(a), self.as_const(b))
            && let Some(value) = compute(op, x, y)
        {
            return self.constant(value);
        }
        self.intern(Num::Bin { op, a, b })
    }

    /// `a op value`.
    pub fn bin_const(&mut self, op: ArithOp, a: NumId, value: u32) -> NumId {
        let b = self.constant(value);
        self.bin(op, a, b)
    }

    /// `same` if `num` is `value`, else `other`.
    pub fn choose(&mut self, num: NumId, value: u32, same: NumId, other: NumId) -> NumId {
        match self.as_const(num) {
            Some(known) if known == value => same,
            Some(_) => other,
            None => self.intern(Num::Choose {
                num,
                value,
                same,
                other,
            }),
        }
    }

    /// The view's field.
    pub fn field(&mut self, field: Field) -> NumId {
        self.intern(Num::Field(field))
    }

    /// `field` is a constant for the program at hand.
    pub fn fix_field(&mut self, field: Field, value: u32) {
        let id = self.field(field);
        self.nums[id.0 as usize] = Num::Const(value);
    }

    /// `a op value`, as a condition.
    pub fn test(&mut self, op: Relop, a: NumId, value: u32, span: &Range<usize>) -> Node {
        let b = self.constant(value);
        let span = span.clone();
        Node::Test { op, a, b, span }
    }

    /// `a == value`.
    pub fn eq(&mut self, a: NumId, value: u32, span: &Range<usize>) -> Node {
        self.test(Relop::Eq, a, value, span)
    }

    /// `a & mask == value`.
    pub fn masked_eq(&mut self, a: NumId, mask: u32, value: u32, span: &Range<usize>) -> Node {
        let a = match mask {
            u32::MAX => a,
            mask => self.bin_const(ArithOp::And, a, mask),
        };
        self.eq(a, value, span)
    }
}

/// `a op b` as libpcap computes it; `None` for a division by zero.
pub(super) fn compute(op: ArithOp, a: u32, b: u32) -> Option<u32> {
    Some(match op {
        ArithOp::Add => a.wrapping_add(b),
        ArithOp::Sub => a.wrapping_sub(b),
        ArithOp::Mul => a.wrapping_mul(b),
        ArithOp::Div => a.checked_div(b)?,
        ArithOp::Mod => a.checked_rem(b)?,
        ArithOp::And => a & b,
        ArithOp::Or => a | b,
        ArithOp::Xor => a ^ b,
        ArithOp::Shl => a.checked_shl(b).unwrap_or(0),
        ArithOp::Shr => a.checked_shr(b).unwrap_or(0),
    })
}

/// Whether `a op b` holds.
pub(super) fn holds(op: Relop, a: u32, b: u32) -> bool {
    match op {
        Relop::Eq => a == b,
        Relop::Ne => a != b,
        Relop::Lt => a < b,
        Relop::Le => a <= b,
        Relop::Gt => a > b,
        Relop::Ge => a >= b,
    }
}

impl Node {
    /// Both, `self` first. Flattens.
    pub fn and(self, other: Node) -> Node {
        let mut nodes = match self {
            Node::And(nodes) => nodes,
            node => vec![node],
        };
        match other {
            Node::And(more) => nodes.extend(more),
            node => nodes.push(node),
        }
        Node::And(nodes)
    }

    /// Either, `self` first. Flattens.
    pub fn or(self, other: Node) -> Node {
        let mut nodes = match self {
            Node::Or(nodes) => nodes,
            node => vec![node],
        };
        match other {
            Node::Or(more) => nodes.extend(more),
            node => nodes.push(node),
        }
        Node::Or(nodes)
    }

    /// It has an [`Node::Inside`], which must not be compiled more than once.
    pub fn has_inside(&self) -> bool {
        match self {
            Node::Inside { .. } => true,
            Node::Not(node) => node.has_inside(),
            Node::And(nodes) | Node::Or(nodes) => nodes.iter().any(Node::has_inside),
            _ => false,
        }
    }

    /// How many tests it has, and how deep it is.
    pub fn measure(&self) -> (usize, usize) {
        match self {
            Node::Const(_)
            | Node::Test { .. }
            | Node::In { .. }
            | Node::Has(_)
            | Node::NotNull(_)
            | Node::Enter(_) => (1, 1),
            Node::Chain { .. } => (20, 1),
            Node::Not(node) => {
                let (tests, depth) = node.measure();
                (tests, depth + 1)
            }
            Node::Inside { ways, inside, .. } => {
                let ((tests, depth), (more, deeper)) = (ways.measure(), inside.measure());
                (tests + more, depth.max(deeper) + 1)
            }
            Node::And(nodes) | Node::Or(nodes) => {
                let (tests, depth) = nodes
                    .iter()
                    .map(Node::measure)
                    .fold((0, 0), |(tests, depth), (t, d)| (tests + t, depth.max(d)));
                (tests, depth + 1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_is_libpcaps() {
        assert_eq!(compute(ArithOp::Sub, 0, 1), Some(u32::MAX));
        assert_eq!(compute(ArithOp::Shl, 1, 31), Some(1 << 31));
        assert_eq!(compute(ArithOp::Shl, 1, 32), Some(0));
        assert_eq!(compute(ArithOp::Shr, 1, 77), Some(0));
        assert_eq!(compute(ArithOp::Div, 7, 0), None);
        assert_eq!(compute(ArithOp::Mod, 7, 0), None);
    }

    #[test]
    fn equal_numbers_are_one() {
        let mut nums = Nums::default();
        let place = Place {
            window: Window::L3,
            dynamic: None,
            off: 9,
        };
        let a = nums.load(place, 1);
        let b = nums.load(place, 1);
        let c = nums.load(place, 2);
        assert_eq!(a, b);
        assert_ne!(a, c);
    }
}
