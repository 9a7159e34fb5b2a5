//! Terms about the kernel's side of a packet: `skb.FIELD.PATH`, and whose it is.
//!
//! A path is checked against the kernel's types. Where it leads through a pointer that is null, the relation that it
//! stands in doesn't hold.

use super::Resolver;
use crate::filter::Error;
use crate::filter::ast::*;
use crate::filter::tree::{Node, Num, NumId, Path, PathId};
use crate::filter::view::{COMM_LEN, Field};
use crate::kernel::{KType, Space, TypeId, Types, field};
use crate::nearest::nearest;

/// More pointers than this no path follows.
const MAX_POINTERS: usize = 8;

/// What a path leads to.
struct Found {
    /// The object that holds the field.
    object: PathId,
    /// The pointers on the way, outermost first.
    pointers: Vec<PathId>,
    /// Bits from the object's start.
    bit_offset: u32,
    /// Bits of a bit-field; 0 if it is none.
    bits: u32,
    ty: TypeId,
}

/// A number's shape.
#[derive(Clone, Copy)]
struct Shape {
    size: u32,
    signed: bool,
    /// In network byte order (`__be16` and its like).
    swap: bool,
}

impl<'a> Resolver<'a> {
    /// The kernel's types, if there is a kernel to ask.
    fn types(&self, what: &str, span: &Span) -> Result<&'a dyn Types, Error> {
        self.env.kernel.ok_or_else(|| {
            let message = format!("'{what}' is about a packet in the kernel: a capture doesn't have it");
            Error::new(span.clone(), message).suggest("use it with 'ktrail trace'")
        })
    }

    /// `path`, which starts with `skb.`, as a number; the guards that its pointers need go to `guards`.
    pub(super) fn kernel_number(
        &mut self,
        path: &str,
        span: &Span,
        guards: &mut Vec<Node>,
    ) -> Result<NumId, Error> {
        match self.kernel_words(path, span, guards)? {
            (number, None) => Ok(number),
            (_, Some(_)) => {
                let error = Error::new(
                    span.clone(),
                    format!("'{path}' has 8 bytes, and arithmetic has 4"),
                );
                Err(error.suggest("compare it with a number, without arithmetic"))
            }
        }
    }

    /// The same for a number of up to 8 bytes: its lower and its upper half.
    pub(super) fn kernel_words(
        &mut self,
        path: &str,
        span: &Span,
        guards: &mut Vec<Node>,
    ) -> Result<(NumId, Option<NumId>), Error> {
        let found = self.follow(path, span)?;
        let shape = shape(self.types(path, span)?, found.ty, path, span)?;
        guards.extend(found.pointers.iter().map(|pointer| Node::NotNull(*pointer)));
        let off = found.bit_offset / 8;
        if found.bits > 0 {
            let shift = found.bit_offset % 8;
            let size = (shift + found.bits).div_ceil(8).next_power_of_two();
            if size > 4 {
                return Err(Error::new(
                    span.clone(),
                    format!("'{path}' has {} bits, more than a filter's numbers", found.bits),
                ));
            }
            let whole = self.nums.intern(Num::Kernel {
                object: found.object,
                off,
                size,
                signed: false,
                swap: false,
            });
            let shifted = self.nums.bin_const(ArithOp::Shr, whole, shift);
            let mask = u32::MAX >> (32 - found.bits.min(32));
            return Ok((self.nums.bin_const(ArithOp::And, shifted, mask), None));
        }
        let mut word = |off, size| {
            self.nums.intern(Num::Kernel {
                object: found.object,
                off,
                size,
                signed: shape.signed,
                swap: shape.swap,
            })
        };
        Ok(match (shape.size, shape.swap) {
            (8, false) => (word(off, 4), Some(word(off + 4, 4))),
            (8, true) => (word(off + 4, 4), Some(word(off, 4))),
            (size, _) => (word(off, size), None),
        })
    }

    /// `a op b` for numbers of which at least one has 8 bytes.
    pub(super) fn wide_relation(
        &mut self,
        op: Relop,
        a: (NumId, Option<NumId>),
        b: (NumId, Option<NumId>),
        span: &Span,
    ) -> Node {
        let zero = self.nums.constant(0);
        let (a_high, b_high) = (a.1.unwrap_or(zero), b.1.unwrap_or(zero));
        let test = |op, a, b| Node::Test {
            op,
            a,
            b,
            span: span.clone(),
        };
        let same = test(Relop::Eq, a_high, b_high);
        let strict = match op {
            Relop::Eq => return same.and(test(Relop::Eq, a.0, b.0)),
            Relop::Ne => return test(Relop::Ne, a_high, b_high).or(test(Relop::Ne, a.0, b.0)),
            Relop::Lt | Relop::Le => Relop::Lt,
            Relop::Gt | Relop::Ge => Relop::Gt,
        };
        test(strict, a_high, b_high).or(same.and(test(op, a.0, b.0)))
    }

    /// `path == "text"`, or not equal.
    pub(super) fn kernel_text(
        &mut self,
        path: &str,
        negated: bool,
        text: &str,
        span: &Span,
    ) -> Result<Node, Error> {
        let mut found = self.follow(path, span)?;
        let types = self.types(path, span)?;
        let is_char = |id| {
            matches!(
                types.get(field::strip(types, id)),
                Some(KType::Int { size: 1, .. })
            )
        };
        let room = match types.get(field::strip(types, found.ty)) {
            Some(KType::Array { element, len }) if is_char(element) => Some(len as usize),
            Some(KType::Ptr(to)) if is_char(to) => None,
            _ => {
                let error = Error::new(span.clone(), format!("'{path}' is no text"));
                return Err(error.expected("an array of characters or a pointer to one"));
            }
        };
        if text.contains('\0') {
            return Err(Error::new(span.clone(), "no text holds a zero byte"));
        }
        if let Some(room) = room.filter(|room| text.len() > *room) {
            let message = format!("'{path}' has room for {room} bytes, this text has {}", text.len());
            return Err(Error::new(span.clone(), message));
        }
        let mut guards: Vec<Node> = vec![];
        if room.is_none() {
            let object = self.nums.path(Path {
                from: found.object,
                off: found.bit_offset / 8,
            });
            found.pointers.push(object);
            (found.object, found.bit_offset) = (object, 0);
        }
        guards.extend(found.pointers.iter().map(|pointer| Node::NotNull(*pointer)));
        // Its end, unless it fills the room.
        let mut bytes = text.as_bytes().to_vec();
        if room != Some(bytes.len()) {
            bytes.push(0);
        }
        let mut equal = vec![];
        for (value, size, at) in pieces(&bytes) {
            let number = self.nums.intern(Num::Kernel {
                object: found.object,
                off: found.bit_offset / 8 + at,
                size,
                signed: false,
                swap: false,
            });
            equal.push(self.nums.eq(number, value, span));
        }
        guards.push(unless(negated, Node::And(equal)));
        Ok(Node::And(guards))
    }

    /// `pid 17` and its like.
    pub(super) fn whose(
        &mut self,
        whose: Whose,
        negated: bool,
        value: &Value,
        span: &Span,
    ) -> Result<Node, Error> {
        self.types(whose.word(), span)?;
        let fail = |message: String| Error::new(span.clone(), message);
        let node = match (whose, value) {
            (Whose::Pid, Value::Number(pid)) => {
                let field = self.nums.field(Field::Pid);
                self.nums.eq(field, *pid, span)
            }
            (Whose::Pid, Value::Text(_)) => {
                return Err(fail("a process has a number here".into())
                    .suggest("'comm NAME' asks for a process by name"));
            }
            (Whose::Netns, value) => {
                let inode = match value {
                    Value::Number(inode) => *inode,
                    Value::Text(name) => self.env.names.netns(name).map_err(fail)?,
                };
                let field = self.nums.field(Field::Netns);
                self.nums.eq(field, inode, span)
            }
            (Whose::Cgroup, value) => {
                let id = match value {
                    Value::Number(id) => u64::from(*id),
                    Value::Text(path) => self.env.names.cgroup(path).map_err(fail)?,
                };
                let low = self.nums.field(Field::Cgroup { high: false });
                let high = self.nums.field(Field::Cgroup { high: true });
                let low = self.nums.eq(low, id as u32, span);
                low.and(self.nums.eq(high, (id >> 32) as u32, span))
            }
            (Whose::Comm, value) => {
                let Value::Text(text) = value else {
                    return Err(fail("a process's name is a text".into()).suggest("write it in quotes"));
                };
                if text.len() >= COMM_LEN {
                    let message = format!(
                        "a process's name has at most {} bytes, not {}",
                        COMM_LEN - 1,
                        text.len()
                    );
                    return Err(fail(message).suggest("the kernel cuts longer names"));
                }
                let mut bytes = text.clone().into_bytes();
                bytes.resize(COMM_LEN, 0);
                let mut words = vec![];
                for (word, chunk) in bytes.chunks_exact(4).enumerate() {
                    let field = self.nums.field(Field::Comm { word: word as u8 });
                    let value = u32::from_le_bytes(chunk.try_into().expect("4 bytes"));
                    words.push(self.nums.eq(field, value, span));
                    // The rest is behind the name's end.
                    if chunk.contains(&0) {
                        break;
                    }
                }
                Node::And(words)
            }
        };
        Ok(unless(negated, node))
    }

    /// Follow a path from the skb.
    fn follow(&mut self, path: &str, span: &Span) -> Result<Found, Error> {
        let types = self.types(path, span)?;
        let skb = types.by_name(Space::Struct, "sk_buff").ok_or_else(|| {
            Error::new(span.clone(), "this kernel's types are not known")
                .suggest("it needs CONFIG_DEBUG_INFO_BTF")
        })?;
        let mut found = Found {
            object: PathId::SKB,
            pointers: vec![],
            bit_offset: 0,
            bits: 0,
            ty: skb,
        };
        let mut at = span.start + "skb".len();
        for name in path.split('.').skip(1) {
            let place = at + 1..at + 1 + name.len();
            at = place.end;
            if let Some(KType::Ptr(to)) = types.get(field::strip(types, found.ty)) {
                if found.pointers.len() == MAX_POINTERS {
                    return Err(Error::new(place, format!("more than {MAX_POINTERS} pointers")));
                }
                let object = self.nums.path(Path {
                    from: found.object,
                    off: found.bit_offset / 8,
                });
                found.pointers.push(object);
                (found.object, found.bit_offset, found.ty) = (object, 0, to);
            }
            let Some(inner) = field::member(types, found.ty, name) else {
                return Err(no_member(types, found.ty, name, place));
            };
            found.bit_offset += inner.bit_offset;
            (found.bits, found.ty) = (inner.bits, inner.ty);
        }
        Ok(found)
    }
}

fn unless(negated: bool, node: Node) -> Node {
    match negated {
        true => Node::Not(Box::new(node)),
        false => node,
    }
}

/// `bytes` as numbers in memory's order: value, size, offset.
fn pieces(bytes: &[u8]) -> Vec<(u32, u32, u32)> {
    let mut pieces = vec![];
    let mut at = 0;
    while at < bytes.len() {
        let size = match bytes.len() - at {
            1 => 1,
            2 | 3 => 2,
            _ => 4,
        };
        let mut word = [0; 4];
        word[..size].copy_from_slice(&bytes[at..at + size]);
        pieces.push((u32::from_le_bytes(word), size as u32, at as u32));
        at += size;
    }
    pieces
}

/// What of a number's type matters.
fn shape(types: &dyn Types, ty: TypeId, path: &str, span: &Span) -> Result<Shape, Error> {
    let swap = field::is_big_endian(types, ty);
    let number = |size, signed| Ok(Shape { size, signed, swap });
    let refuse = |what: &str, help: &str| {
        Err(Error::new(span.clone(), format!("'{path}' is {what}, no number")).suggest(help))
    };
    match types.get(field::strip(types, ty)) {
        Some(KType::Int { size, signed, .. } | KType::Enum { size, signed, .. })
            if matches!(size, 1 | 2 | 4 | 8) =>
        {
            number(size, signed)
        }
        Some(KType::Ptr(_)) => number(8, false),
        Some(KType::Struct { .. }) => refuse("a struct", "go on with '.' and the name of one of its fields"),
        Some(KType::Array { .. }) => refuse(
            "an array",
            "only arrays of characters can be compared, with \"text\"",
        ),
        _ => refuse("of a type that filters don't read", "compare another field"),
    }
}

fn no_member(types: &dyn Types, owner: TypeId, name: &str, place: Span) -> Error {
    let shown = name.escape_debug();
    let stripped = field::strip(types, owner);
    let Some(KType::Struct { name: owner, .. }) = types.get(stripped) else {
        return Error::new(place, format!("what is before '.{shown}' is no struct"));
    };
    let names = field::member_names(types, stripped);
    let error = match owner.is_empty() {
        true => Error::new(place, format!("there is no field '{shown}' here")),
        false => Error::new(
            place,
            format!("struct {owner} of this kernel has no field '{shown}'"),
        ),
    };
    match nearest(name, names.iter().map(|name| &name[..])) {
        Some(name) => error.suggest(format!("did you mean '{name}'?")),
        None => error,
    }
}
