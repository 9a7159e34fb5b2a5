//! Parts of values: fields, elements, what pointers point to; and casts.

use super::ast;
use super::body::Body;
use super::expr::value_type;
use super::merge::{merge, plain};
use super::value::{At, Value};
use crate::ir::{BinOp, Cond, Op, Operand, Reg, Size, Width};
use crate::kernel::{TypeId, field};
use crate::script::Diagnostic;
use crate::script::ast::{Expr, ExprKind, Ident};
use crate::script::output::ErrorKind;
use crate::script::types::Ty;

impl Body<'_, '_> {
    /// What a pointer points to, to be read when it is used.
    pub fn pointee(&mut self, pointer: &Value) -> At {
        let user = matches!(pointer.ty, Ty::Ptr { user: true, .. });
        let n = self.num(pointer);
        if user {
            let r = match n {
                Operand::Reg(r) => r,
                Operand::Imm(n) => self.b.imm(n),
            };
            At::User(r, 0)
        } else {
            At::Kernel(self.kernel_base(n), 0)
        }
    }

    pub fn deref(&mut self, inner: &Expr, span: ast::Span) -> Value {
        let p = self.expr(inner);
        match &p.ty {
            Ty::Ptr { to, .. } if **to != Ty::None => {
                let at = self.pointee(&p);
                Value::of((**to).clone(), at)
            }
            Ty::None => Value::none(),
            Ty::Ptr { .. } => {
                self.error(span, "what a 'void *' points to has no type: cast it first");
                Value::none()
            }
            // As old scripts have it: a number that is an address of 8 bytes.
            ty if ty.is_int() => {
                let pointer = Value {
                    ty: Ty::Ptr {
                        to: Box::new(Ty::U64),
                        user: false,
                    },
                    ..p
                };
                let at = self.pointee(&pointer);
                Value::of(Ty::U64, at)
            }
            ty => {
                self.error(span, format!("{ty} is no pointer"));
                Value::none()
            }
        }
    }

    /// `&$x`, `&@m`, `&@m[k]`: where the variable or the map's value is; 0 if there is no such entry.
    pub fn address_of(&mut self, inner: &Expr, span: ast::Span) -> Value {
        let address = |s: &mut Self, base: Reg, off: i32| {
            let dst = s.b.int();
            s.b.mov(dst, base);
            s.b.add(dst, i64::from(off))
        };
        let (to, n): (Ty, Operand) = match &inner.kind {
            ExprKind::Variable(name) => match self.lookup(name).cloned() {
                Some(var) => match var.at {
                    At::Mem(base, off) => (var.ty, address(self, base, off).into()),
                    // Known from now on to need memory: another round follows.
                    _ => {
                        self.g.addressed.insert(var.key);
                        self.g.changed = true;
                        (var.ty, Operand::Imm(0))
                    }
                },
                None => {
                    self.error(inner.span, format!("'${name}' has no value yet"));
                    return Value::none();
                }
            },
            ExprKind::Map { name, key } => match self.map_address(name, key.as_deref(), inner.span) {
                Some(found) => found,
                None => return Value::none(),
            },
            _ => {
                self.error(span, "only variables and maps have an address");
                return Value::none();
            }
        };
        let ty = Ty::Ptr {
            to: Box::new(to),
            user: false,
        };
        Value::num(ty, n)
    }

    pub fn field(&mut self, inner: &Expr, name: &Ident) -> Value {
        if let ExprKind::Name(builtin) = &inner.kind
            && builtin == "args"
        {
            return self.argument_field(name);
        }
        if let Some(mut facts) = self.facts(inner) {
            if let Some(i) = facts.iter().position(|(n, _)| *n == name.name) {
                return facts.swap_remove(i).1;
            }
            let names: Vec<&str> = facts.iter().map(|(n, _)| n.as_str()).collect();
            let d = Diagnostic::error(name.span, format!("there is no '{}' in this", name.name))
                .hint(format!("there is {}", names.join(", ")));
            self.g.report(d);
            return Value::none();
        }
        let v = self.expr(inner);
        match &v.ty {
            Ty::Record(fields) => match fields.iter().position(|(n, _)| *n == name.name) {
                Some(i) => {
                    let off = v.ty.field_offsets()[i];
                    Value::of(fields[i].1.clone(), Self::at_offset(&v.at, off))
                }
                None => {
                    let names: Vec<&str> = fields.iter().map(|(n, _)| n.as_str()).collect();
                    let d = Diagnostic::error(name.span, format!("this record has no field '{}'", name.name))
                        .hint(format!("it has {}", names.join(", ")));
                    self.g.report(d);
                    Value::none()
                }
            },
            Ty::Struct { id, name: owner, .. } => self.member(&v.at.clone(), *id, &owner.clone(), name),
            Ty::Ptr { to, .. } => match &**to {
                Ty::Struct { id, name: owner, .. } => {
                    let (id, owner) = (*id, owner.clone());
                    let at = self.pointee(&v);
                    self.member(&at, id, &owner, name)
                }
                other => {
                    self.error(
                        name.span,
                        format!("a pointer to {other} has no field '{}'", name.name),
                    );
                    Value::none()
                }
            },
            Ty::None => Value::none(),
            ty => {
                self.error(name.span, format!("{ty} has no field '{}'", name.name));
                Value::none()
            }
        }
    }

    fn member(&mut self, at: &At, id: TypeId, owner: &str, name: &Ident) -> Value {
        let Some(found) = field::member(&self.g.universe, id, &name.name) else {
            let names = self.g.universe.member_names(id);
            let mut d = Diagnostic::error(name.span, format!("{owner} has no field '{}'", name.name));
            if let Some(near) = nearest(&name.name, &names) {
                d = d.hint(format!("did you mean '{near}'?"));
            }
            self.g.report(d);
            return Value::none();
        };
        let ty = self.g.universe.to_ty(found.ty);
        if found.bits == 0 {
            return Value::of(ty, Self::at_offset(at, found.offset()));
        }
        // The word that the declared type would occupy; a field of a packed struct may cross it.
        let mut bytes = ty.size().clamp(1, 8);
        let mut word = found.bit_offset / (bytes * 8) * bytes;
        if found.bit_offset - word * 8 + found.bits > bytes * 8 {
            bytes = 8;
            word = found.bit_offset / 8;
        }
        let first = found.bit_offset - word * 8;
        let bits = found.bits.min(64 - first);
        let word = Self::at_offset(at, word);
        Value::of(ty, At::Bits(Box::new(word), bytes, first, bits))
    }

    pub fn offset_of(&mut self, ty: &Ty, path: &[Ident]) -> u32 {
        let Ty::Struct { id, name, .. } = ty else {
            if let Some(first) = path.first()
                && *ty != Ty::None
            {
                self.error(first.span, format!("{ty} has no fields"));
            }
            return 0;
        };
        let (mut at, mut owner, mut off) = (*id, name.clone(), 0);
        for part in path {
            let Some(found) = field::member(&self.g.universe, at, &part.name) else {
                self.error(part.span, format!("{owner} has no field '{}'", part.name));
                return 0;
            };
            off += found.offset();
            at = found.ty;
            owner = self.g.universe.to_ty(at).to_string();
        }
        off
    }

    pub fn tuple_field(&mut self, inner: &Expr, n: u32, span: ast::Span) -> Value {
        let v = self.expr(inner);
        let (ty, off) = match &v.ty {
            Ty::Tuple(fields) => match fields.get(n as usize) {
                Some(ty) => (ty.clone(), v.ty.field_offsets()[n as usize]),
                None => {
                    self.error(
                        span,
                        format!("this tuple has {} fields, counted from 0", fields.len()),
                    );
                    return Value::none();
                }
            },
            Ty::None => return Value::none(),
            ty => {
                self.error(span, format!("{ty} is no tuple"));
                return Value::none();
            }
        };
        Value::of(ty, Self::at_offset(&v.at, off))
    }

    pub fn index(&mut self, inner: &Expr, index: &Expr, span: ast::Span) -> Value {
        let v = self.expr(inner);
        let i = self.expr(index);
        if !i.ty.is_int() {
            if i.ty != Ty::None {
                self.error(index.span, format!("an index is a number, not {}", i.ty));
            }
            return Value::none();
        }
        match &v.ty {
            Ty::None => Value::none(),
            Ty::Ptr { to, .. } => {
                let to = (**to).clone();
                if to == Ty::None {
                    self.error(span, "what a 'void *' points to has no type: cast it first");
                    return Value::none();
                }
                let at = self.pointee(&v);
                self.element(at, to, None, &i, span)
            }
            Ty::Array { element, len } => {
                let (element, len) = ((**element).clone(), *len);
                self.element(v.at.clone(), element, Some(len), &i, span)
            }
            Ty::Str { len } => {
                let char = Ty::Int {
                    size: 1,
                    signed: true,
                };
                if let (At::Text(text), Some(i)) = (&v.at, i.constant()) {
                    let byte = usize::try_from(i).ok().and_then(|i| text.get(i)).copied();
                    return Value {
                        literal: true,
                        ..Value::num(char, i64::from(byte.unwrap_or(0)))
                    };
                }
                let ty = v.ty.clone();
                let at = match &v.at {
                    At::Text(_) => {
                        let (r, off) = self.in_memory(&v, &ty);
                        At::Mem(r, off)
                    }
                    at => at.clone(),
                };
                self.element(at, char, Some(*len), &i, span)
            }
            ty => {
                self.error(span, format!("{ty} has no elements"));
                Value::none()
            }
        }
    }

    fn element(&mut self, at: At, ty: Ty, len: Option<u32>, i: &Value, span: ast::Span) -> Value {
        let size = ty.size();
        if let Some(n) = i.constant() {
            if len.is_some_and(|len| len > 0 && !(0..i64::from(len)).contains(&n)) {
                let message = format!(
                    "index {n} is out of range: there are {} elements",
                    len.unwrap_or(0)
                );
                self.error(span, message);
                return Value::none();
            }
            return match n.checked_mul(i64::from(size)).and_then(|n| i32::try_from(n).ok()) {
                Some(off) if off >= 0 => Value::of(ty, Self::at_offset(&at, off as u32)),
                _ => self.far_element(at, ty, n.wrapping_mul(i64::from(size)).into()),
            };
        }
        let n = self.reg(i);
        if let At::Mem(base, off) = at {
            // The program's own memory: the kernel's verifier wants to see the bounds.
            let len = len.unwrap_or(0);
            if !ty.in_register() {
                self.error(span, "an element that is no number needs a constant index here");
                return Value::none();
            }
            let dst = self.b.int();
            let (inside, outside, done) = (self.b.block(), self.b.block(), self.b.block());
            self.b.branch(Cond::Lt, n, i64::from(len), inside, outside);
            self.b.switch_to(outside);
            self.count_error(ErrorKind::Index, span);
            self.b.mov(dst, 0);
            self.b.jump(done);
            self.b.switch_to(inside);
            let by = self.b.bin(BinOp::Mul, Width::W64, n, i64::from(size));
            let place = self.b.add(base, by);
            self.b.push(Op::Load {
                dst,
                base: place,
                off,
                size: Size::from_bytes(size).unwrap_or(Size::B8),
                signed: ty.is_signed(),
            });
            self.b.jump(done);
            self.b.switch_to(done);
            return Value::num(ty, dst);
        }
        let by = self.b.bin(BinOp::Mul, Width::W64, n, i64::from(size));
        self.far_element(at, ty, by.into())
    }

    /// An element of memory that is read by address.
    fn far_element(&mut self, at: At, ty: Ty, by: Operand) -> Value {
        let start = self.address(&at);
        let address = self.b.add(start, by);
        let at = match at {
            At::User(..) => At::User(address, 0),
            _ => At::Kernel(self.kernel_base(address.into()), 0),
        };
        Value::of(ty, at)
    }

    pub fn cast(&mut self, to: &ast::Type, inner: &Expr, span: ast::Span) -> Value {
        let ty = self.written_type(to);
        let v = self.expr(inner);
        self.cast_to(ty, v, span)
    }

    pub fn cast_to(&mut self, ty: Ty, v: Value, span: ast::Span) -> Value {
        if ty == Ty::None || v.ty == Ty::None {
            return Value::none();
        }
        match (&ty, &v.ty) {
            (a, b) if a == b => Value { literal: false, ..v },
            (Ty::Bool, from) if from.in_register() => {
                let n = self.truth(&v);
                Value::num(Ty::Bool, n)
            }
            (Ty::Int { .. } | Ty::Enum { .. }, from) if from.in_register() => {
                if let Some(n) = v.constant() {
                    return Value::num(ty.clone(), extend(n, &ty));
                }
                let user = match from {
                    Ty::Ptr { user, .. } => Some(*user),
                    _ => v.user,
                };
                let n = self.reg(&v);
                let n = self.cut(n, &plain(&ty));
                Value {
                    user,
                    ..Value::num(ty, n)
                }
            }
            (Ty::Ptr { to, user }, from) if from.in_register() => {
                let user = match from {
                    Ty::Ptr { user: from, .. } => *user || *from,
                    _ => *user || v.user.unwrap_or(self.user_space()),
                };
                let n = self.num(&v);
                let to = to.clone();
                Value::num(Ty::Ptr { to, user }, n)
            }
            // A struct or an array that is somewhere: its address.
            (Ty::Ptr { to, .. }, _) if matches!(v.at, At::Kernel(..) | At::User(..)) => {
                let user = matches!(v.at, At::User(..));
                let n = self.address(&v.at);
                let to = to.clone();
                Value::num(Ty::Ptr { to, user }, n)
            }
            (Ty::Int { size, .. }, Ty::Array { .. } | Ty::Str { .. }) if v.ty.size() >= *size => {
                let from = v.ty.clone();
                let (base, off) = self.in_memory(&v, &from);
                let part = Value::of(ty.clone(), At::Mem(base, off));
                let n = self.num(&part);
                Value::num(ty, n)
            }
            (Ty::Array { element, len }, from) if from.is_int() && element.is_int() => {
                // A number that the script writes has as many bytes as the array, or else as it needs.
                let size = match v.constant().filter(|_| v.literal) {
                    Some(n) if *len == 0 => bytes_of(n),
                    Some(n) if ty.size() <= 8 && bytes_of(n) <= ty.size() => ty.size(),
                    _ => from.size(),
                };
                let len = if *len == 0 { size / element.size() } else { *len };
                let ty = Ty::Array {
                    element: element.clone(),
                    len,
                };
                if ty.size() != size {
                    self.error(span, format!("{from} has {size} bytes, {ty} {}", ty.size()));
                    return Value::none();
                }
                let (_, base) = self.temp(&ty);
                let n = self.num(&v);
                self.store_number(n, base, 0, size);
                Value::of(ty, At::Mem(base, 0))
            }
            (Ty::Str { .. }, Ty::Str { .. }) | (Ty::Buffer { .. }, Ty::Buffer { .. }) => {
                let (base, off) = self.in_memory(&v, &ty);
                Value::of(ty, At::Mem(base, off))
            }
            (Ty::Struct { .. }, Ty::Struct { .. }) => Value::of(ty, v.at),
            // As old scripts have it: a struct at an address.
            (Ty::Struct { .. }, from) if from.in_register() => {
                let pointer = Value {
                    ty: Ty::Ptr {
                        to: Box::new(ty.clone()),
                        user: self.user_space(),
                    },
                    ..v
                };
                let at = self.pointee(&pointer);
                Value::of(ty, at)
            }
            (Ty::Tuple(to), Ty::Tuple(from)) if to.len() == from.len() => {
                if merge(&ty, &value_type(&v)).is_none() {
                    self.error(span, format!("{} can't be cast to {ty}", v.ty));
                    return Value::none();
                }
                let (base, off) = self.in_memory(&v, &ty);
                Value::of(ty, At::Mem(base, off))
            }
            (ty, from) => {
                self.error(span, format!("{from} can't be cast to {ty}"));
                Value::none()
            }
        }
    }
}

/// As few bytes as a number fits, with its sign.
fn bytes_of(n: i64) -> u32 {
    match n {
        -0x80..=0x7f => 1,
        -0x8000..=0x7fff => 2,
        -0x8000_0000..=0x7fff_ffff => 4,
        _ => 8,
    }
}

fn extend(n: i64, ty: &Ty) -> i64 {
    match (ty.size(), ty.is_signed()) {
        (1, true) => i64::from(n as i8),
        (2, true) => i64::from(n as i16),
        (4, true) => i64::from(n as i32),
        (1, false) => i64::from(n as u8),
        (2, false) => i64::from(n as u16),
        (4, false) => i64::from(n as u32),
        _ => n,
    }
}

/// The name that was probably meant.
pub fn nearest<'a>(name: &str, names: &'a [String]) -> Option<&'a str> {
    crate::nearest::nearest(name, names.iter().map(String::as_str))
}
