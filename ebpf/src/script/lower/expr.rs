//! Expressions, and conditions, which are expressions that decide where to go on.

use super::body::Body;
use super::merge::{merge, plain};
use super::value::{At, Dest, Value};
use super::{ast, ir_span};
use crate::ir::{BinOp, Block, Cond, Op, Operand, Reg, Size, Width};
use crate::script::ast::{BinaryOp, Expr, ExprKind, TypeOrExpr, UnaryOp};
use crate::script::output::ErrorKind;
use crate::script::types::Ty;

/// The type that a variable gets from a value: numbers that the script writes are as wide as they can be.
pub fn value_type(v: &Value) -> Ty {
    v.ty.clone()
}

/// True if evaluating it more than once, or never, makes no difference, and it doesn't leave the program.
pub fn pure(e: &Expr) -> bool {
    match &e.kind {
        ExprKind::Step { .. } | ExprKind::Block(_) | ExprKind::If(_) => false,
        ExprKind::Call { name, args } => super::calls::is_pure(&name.name) && args.iter().all(pure),
        ExprKind::Map { key, .. } => key.as_deref().is_none_or(pure),
        ExprKind::ContainerOf(e, ..)
        | ExprKind::Comptime(e)
        | ExprKind::Unary(_, e)
        | ExprKind::Cast(_, e)
        | ExprKind::Field(e, _)
        | ExprKind::TupleField(e, _) => pure(e),
        ExprKind::Binary(_, a, b) | ExprKind::Index(a, b) => pure(a) && pure(b),
        ExprKind::Ternary(a, b, c) => pure(a) && b.as_deref().is_none_or(pure) && pure(c),
        ExprKind::Tuple(fields) => fields.iter().all(pure),
        ExprKind::Record(fields) => fields.iter().all(|(_, e)| pure(e)),
        _ => true,
    }
}

impl Body<'_, '_> {
    pub fn expr(&mut self, e: &Expr) -> Value {
        self.expr_to(e, None)
    }

    /// Evaluate, into `dest` if that suits the expression.
    pub fn expr_to(&mut self, e: &Expr, dest: Option<&Dest>) -> Value {
        if self.too_deep(e.span) {
            return Value::none();
        }
        self.b.at(ir_span(e.span));
        let v = self.deeper(|s| s.expr_kind(e, dest));
        // What becomes of the value is its own doing, not that of its last part.
        self.b.at(ir_span(e.span));
        if self.g.env.counts_failures()
            && v.ty.in_register()
            && matches!(v.at, At::Kernel(..) | At::User(..) | At::Bits(..))
        {
            // Read where it stands, for that is the place which is told.
            let n = self.num(&v);
            return Value { at: At::Num(n), ..v };
        }
        v
    }

    /// Evaluate and store as a `ty`, every byte.
    pub fn expr_into(&mut self, e: &Expr, dest: &Dest) {
        let fields: Option<Vec<&Expr>> = match (&e.kind, &dest.ty) {
            (ExprKind::Tuple(fields), Ty::Tuple(types)) if fields.len() == types.len() => {
                Some(fields.iter().collect())
            }
            _ => None,
        };
        match (fields, &dest.ty) {
            (Some(fields), Ty::Tuple(types)) => {
                if super::value::has_gaps(&dest.ty) {
                    self.zero(dest.base, dest.off, dest.ty.size());
                }
                let offsets = dest.ty.field_offsets();
                for ((field, ty), off) in fields.into_iter().zip(types).zip(offsets) {
                    let part = Dest {
                        off: dest.off + off as i32,
                        ty: ty.clone(),
                        ..dest.clone()
                    };
                    self.expr_into(field, &part);
                }
            }
            _ => {
                let v = self.expr_to(e, Some(dest));
                self.store_whole(&v, &dest.ty, dest.base, dest.off);
            }
        }
    }

    fn expr_kind(&mut self, e: &Expr, dest: Option<&Dest>) -> Value {
        match &e.kind {
            ExprKind::Integer(n) => match i64::try_from(*n) {
                Ok(n) => Value {
                    literal: true,
                    ..Value::num(Ty::I64, n)
                },
                Err(_) => Value::num(Ty::U64, *n as i64),
            },
            ExprKind::String(text) => Value::text(text),
            ExprKind::Bool(b) => Value::num(Ty::Bool, i64::from(*b)),
            ExprKind::Positional(n, text) => self.positional(*n, text.as_deref(), e.span),
            ExprKind::PositionalCount(n) => Value {
                literal: true,
                ..Value::num(Ty::I64, *n as i64)
            },
            ExprKind::Variable(name) => match self.lookup(name) {
                Some(var) => self.variable(&var.clone()),
                None => {
                    self.error(e.span, format!("'${name}' has no value yet"));
                    Value::none()
                }
            },
            ExprKind::Map { name, key } => self.map_read(name, key.as_deref(), e.span),
            ExprKind::Name(name) if name == "config" => self.record_of_facts(e),
            ExprKind::Name(name) => self.name(name, e.span, dest),
            ExprKind::Call { name, args } => self.call(name, args, e.span, dest),
            ExprKind::SizeOf(of) => {
                let ty = self.type_of(of, e.span);
                Value {
                    literal: true,
                    ..Value::num(Ty::I64, i64::from(ty.size()))
                }
            }
            ExprKind::OffsetOf(of, path) => {
                let ty = self.type_of(of, e.span);
                let n = self.offset_of(&ty, path);
                Value {
                    literal: true,
                    ..Value::num(Ty::I64, i64::from(n))
                }
            }
            ExprKind::ContainerOf(pointer, ty, path) => {
                let p = self.expr(pointer);
                let ty = self.written_type(ty);
                let off = self.offset_of(&ty, path);
                let user = matches!(p.ty, Ty::Ptr { user: true, .. });
                let p = self.reg(&p);
                let p = self.b.bin(BinOp::Sub, Width::W64, p, i64::from(off));
                let ty = Ty::Ptr {
                    to: Box::new(ty),
                    user,
                };
                Value::num(ty, p)
            }
            ExprKind::TypeInfo(_) => self.record_of_facts(e),
            ExprKind::Comptime(inner) => self.comptime(inner),
            ExprKind::Unary(op, inner) => self.unary(*op, inner, e.span),
            ExprKind::Step {
                target,
                increment,
                prefix,
            } => self.step(target, *increment, *prefix, e.span),
            ExprKind::Binary(op, a, b) => match op {
                BinaryOp::LogicalAnd | BinaryOp::LogicalOr => self.decided(e),
                _ if is_text_comparison(*op) => {
                    let (x, y) = (self.expr(a), self.expr(b));
                    self.compare(*op, &x, &y, e.span)
                }
                _ => {
                    let (x, y) = (self.expr(a), self.expr(b));
                    self.binary(*op, &x, &y, e.span)
                }
            },
            ExprKind::Ternary(c, a, b) => self.ternary(c, a.as_deref(), b, e.span),
            ExprKind::Cast(ty, inner) => self.cast(ty, inner, e.span),
            ExprKind::Field(inner, name) => self.field(inner, name),
            ExprKind::TupleField(inner, n) => self.tuple_field(inner, *n, e.span),
            ExprKind::Index(inner, index) => self.index(inner, index, e.span),
            ExprKind::Tuple(fields) => {
                let values: Vec<Value> = fields.iter().map(|f| self.expr(f)).collect();
                let ty = Ty::Tuple(values.iter().map(value_type).collect());
                self.gather(&values, ty)
            }
            ExprKind::Record(fields) => {
                let values: Vec<Value> = fields.iter().map(|(_, f)| self.expr(f)).collect();
                let types = fields.iter().zip(&values);
                let ty = Ty::Record(types.map(|((n, _), v)| (n.name.clone(), value_type(v))).collect());
                self.gather(&values, ty)
            }
            ExprKind::Block(block) => self.block_value(block, None),
            ExprKind::If(branches) => self.if_value(branches, e.span),
        }
    }

    fn positional(&mut self, n: u32, text: Option<&str>, span: ast::Span) -> Value {
        let number = match text {
            None => Some(0),
            Some(text) => parse_number(text),
        };
        match number {
            Some(n) => Value {
                literal: true,
                ..Value::num(Ty::I64, n)
            },
            None => {
                let text = text.unwrap_or_default();
                self.error(
                    span,
                    format!("${n} is '{text}', which is no number; as text it is str(${n})"),
                );
                Value::none()
            }
        }
    }

    /// The value of a variable as it is now.
    fn variable(&mut self, var: &super::body::Var) -> Value {
        match var.at {
            // A copy, for the variable may change before the value is used.
            At::Num(Operand::Reg(r)) => {
                let copy = self.b.int();
                self.b.mov(copy, r);
                Value::num(var.ty.clone(), copy)
            }
            At::Mem(..) if var.ty.in_register() => {
                let n = self.num(&Value::of(var.ty.clone(), var.at.clone()));
                Value::num(var.ty.clone(), n)
            }
            _ => Value::of(var.ty.clone(), var.at.clone()),
        }
    }

    /// Values side by side in memory.
    pub fn gather(&mut self, values: &[Value], ty: Ty) -> Value {
        let (_, base) = self.temp(&ty);
        if super::value::has_gaps(&ty) || ty.size() == 0 {
            self.zero(base, 0, ty.size().max(1));
        }
        let offsets = ty.field_offsets();
        let types: Vec<Ty> = match &ty {
            Ty::Tuple(types) => types.clone(),
            Ty::Record(types) => types.iter().map(|(_, ty)| ty.clone()).collect(),
            _ => vec![],
        };
        for ((v, ty), off) in values.iter().zip(&types).zip(offsets) {
            self.store(v, ty, base, off as i32);
        }
        Value::of(ty, At::Mem(base, 0))
    }

    /// A type, or the type of an expression, which is not evaluated.
    pub fn type_of(&mut self, of: &TypeOrExpr, _span: ast::Span) -> Ty {
        match of {
            TypeOrExpr::Type(ty) => self.written_type(ty),
            TypeOrExpr::Expr(e) => self.dry(|s| s.expr(e).ty),
        }
    }

    /// Build something and forget it; what it found out stays.
    pub fn dry<T>(&mut self, f: impl FnOnce(&mut Self) -> T) -> T {
        let checkpoint = self.b.checkpoint();
        let scopes = self.scopes.clone();
        let callbacks = self.callbacks.len();
        let result = f(self);
        self.callbacks.truncate(callbacks);
        self.scopes = scopes;
        self.b.rollback(checkpoint);
        result
    }

    pub fn written_type(&mut self, ty: &ast::Type) -> Ty {
        if let ast::TypeKind::TypeOf(of) = &ty.kind {
            return self.type_of(of, ty.span);
        }
        let strlen = self.g.settings.strlen;
        match self.g.universe.written(ty, strlen) {
            Ok(ty) => ty,
            Err((span, message)) => {
                self.error(span, message);
                Ty::None
            }
        }
    }

    // Conditions.

    /// Go on at `yes` if the expression is not zero, else at `no`.
    pub fn condition(&mut self, e: &Expr, yes: Block, no: Block) {
        if self.too_deep(e.span) {
            return self.b.jump(no);
        }
        self.b.at(ir_span(e.span));
        self.deeper(|s| match &e.kind {
            ExprKind::Unary(UnaryOp::Not, inner) => s.condition(inner, no, yes),
            ExprKind::Binary(BinaryOp::LogicalAnd, a, b) => {
                let next = s.b.block();
                s.condition(a, next, no);
                s.b.switch_to(next);
                s.condition(b, yes, no);
            }
            ExprKind::Binary(BinaryOp::LogicalOr, a, b) => {
                let next = s.b.block();
                s.condition(a, yes, next);
                s.b.switch_to(next);
                s.condition(b, yes, no);
            }
            ExprKind::Binary(op, a, b) if is_text_comparison(*op) || condition_of(*op, false).is_some() => {
                let (x, y) = (s.expr(a), s.expr(b));
                s.branch_compare(*op, &x, &y, e.span, yes, no);
            }
            _ => {
                let v = s.expr(e);
                if !(v.ty.in_register() || matches!(v.ty, Ty::Str { .. } | Ty::None)) {
                    s.error(e.span, format!("{} is neither true nor false", v.ty));
                }
                s.branch_truth(&v, yes, no);
            }
        });
    }

    /// 0 or 1, by [`Body::condition`].
    fn decided(&mut self, e: &Expr) -> Value {
        let dst = self.one_or_zero(|s, yes, no| s.condition(e, yes, no));
        Value::num(Ty::Bool, dst)
    }

    fn compare(&mut self, op: BinaryOp, a: &Value, b: &Value, span: ast::Span) -> Value {
        if let Some(holds) = known_comparison(op, a, b) {
            return Value::num(Ty::Bool, i64::from(holds));
        }
        let dst = self.one_or_zero(|s, yes, no| s.branch_compare(op, a, b, span, yes, no));
        Value::num(Ty::Bool, dst)
    }

    fn branch_compare(&mut self, op: BinaryOp, a: &Value, b: &Value, span: ast::Span, yes: Block, no: Block) {
        if let Some(holds) = known_comparison(op, a, b) {
            return self.b.jump(if holds { yes } else { no });
        }
        if !a.ty.in_register() && !b.ty.in_register() && a.ty != Ty::None && b.ty != Ty::None {
            let equality = matches!(op, BinaryOp::Eq | BinaryOp::Ne);
            let comparable = match (&a.ty, &b.ty) {
                (Ty::Str { len: la }, Ty::Str { len: lb }) if !equality => {
                    return self.branch_text_order(op, (a, *la), (b, *lb), yes, no);
                }
                (Ty::Str { .. }, Ty::Str { .. }) => true,
                (a, b) => merge(a, b).is_some(),
            };
            if !comparable || !equality {
                let message = format!("{} and {} can't be compared by '{}'", a.ty, b.ty, op.symbol());
                self.error(span, message);
                return self.b.jump(no);
            }
            let (yes, no) = if op == BinaryOp::Eq { (yes, no) } else { (no, yes) };
            return self.branch_equal(a, b, yes, no);
        }
        if a.ty.in_register() != b.ty.in_register() {
            if a.ty != Ty::None && b.ty != Ty::None {
                self.error(span, format!("{} and {} can't be compared", a.ty, b.ty));
            }
            return self.b.jump(no);
        }
        let Some(cond) = condition_of(op, compares_signed(a, b)) else {
            return self.b.jump(no);
        };
        let (x, y) = (self.reg(a), self.num(b));
        self.b.branch(cond, x, y, yes, no);
    }

    // Operators.

    fn unary(&mut self, op: UnaryOp, inner: &Expr, span: ast::Span) -> Value {
        match op {
            UnaryOp::Not => {
                let v = self.expr(inner);
                if let Some(n) = v.constant() {
                    return Value::num(Ty::Bool, i64::from(n == 0));
                }
                let t = self.truth(&v);
                let dst = self.b.bin(BinOp::Xor, Width::W64, t, 1);
                Value::num(Ty::Bool, dst)
            }
            UnaryOp::Neg | UnaryOp::BitNot => {
                let v = self.expr(inner);
                if !v.ty.is_int() {
                    if v.ty != Ty::None {
                        self.error(span, format!("'{}' takes a number, not {}", op.symbol(), v.ty));
                    }
                    return Value::none();
                }
                if let Some(n) = v.constant() {
                    let n = if op == UnaryOp::Neg { n.wrapping_neg() } else { !n };
                    return Value {
                        literal: v.literal,
                        ..Value::num(Ty::I64, n)
                    };
                }
                let ty = if op == UnaryOp::Neg || v.ty.is_signed() {
                    Ty::I64
                } else {
                    Ty::U64
                };
                let src = self.reg(&v);
                let dst = if op == UnaryOp::Neg {
                    let dst = self.b.int();
                    self.b.push(Op::Neg {
                        width: Width::W64,
                        dst,
                        src,
                    });
                    dst
                } else {
                    let all = self.b.bin(BinOp::Xor, Width::W64, src, -1);
                    // As wide as what it was made of.
                    if v.ty.is_signed() {
                        all
                    } else {
                        self.cut(all, &plain(&v.ty))
                    }
                };
                Value::num(ty, dst)
            }
            UnaryOp::Deref => self.deref(inner, span),
            UnaryOp::AddressOf => self.address_of(inner, span),
        }
    }

    /// `dst` is `r` cut to the size of `ty` and extended again.
    pub fn cut(&mut self, src: Reg, ty: &Ty) -> Reg {
        let Some(size) = Size::from_bytes(ty.size()) else {
            return src;
        };
        if size == Size::B8 {
            return src;
        }
        let dst = self.b.int();
        self.b.push(Op::Extend {
            size,
            signed: ty.is_signed(),
            dst,
            src,
        });
        dst
    }

    pub fn binary(&mut self, op: BinaryOp, a: &Value, b: &Value, span: ast::Span) -> Value {
        if condition_of(op, false).is_some() {
            return self.compare(op, a, b, span);
        }
        if a.ty == Ty::None || b.ty == Ty::None {
            return Value::none();
        }
        if let Some(v) = self.pointer_arithmetic(op, a, b) {
            return v;
        }
        let number = |v: &Value| v.ty.is_int() || (v.ty.in_register() && v.ty.size() == 8);
        if !number(a) || !number(b) {
            let message = format!("'{}' takes numbers, not {} and {}", op.symbol(), a.ty, b.ty);
            self.error(span, message);
            return Value::none();
        }
        let unsigned = |v: &Value| !v.ty.is_signed() || adapts(v);
        let both_literal = a.literal && b.literal;
        let result = match op {
            BinaryOp::Shl | BinaryOp::Shr => !unsigned(a),
            BinaryOp::Sub => true,
            _ => both_literal || !(unsigned(a) && unsigned(b)),
        };
        let ty = if result { Ty::I64 } else { Ty::U64 };
        if let (Some(x), Some(y)) = (a.constant(), b.constant())
            && let Some(n) = fold(op, x, y, result, both_literal)
        {
            return Value {
                literal: both_literal,
                ..Value::num(ty, n)
            };
        }
        let bin = match op {
            BinaryOp::Add => BinOp::Add,
            BinaryOp::Sub => BinOp::Sub,
            BinaryOp::Mul => BinOp::Mul,
            BinaryOp::Div if result => BinOp::SDiv,
            BinaryOp::Div => BinOp::Div,
            BinaryOp::Mod if result => BinOp::SMod,
            BinaryOp::Mod => BinOp::Mod,
            BinaryOp::And => BinOp::And,
            BinaryOp::Or => BinOp::Or,
            BinaryOp::Xor => BinOp::Xor,
            BinaryOp::Shl => BinOp::Shl,
            _ => BinOp::Shr,
        };
        let divides = matches!(op, BinaryOp::Div | BinaryOp::Mod);
        let user = a.user.or(b.user);
        let x = self.reg(a);
        let y = self.num(b);
        let n = match y {
            Operand::Imm(0) if divides => {
                self.error(span, "division by zero");
                return Value::none();
            }
            // The most negative number by -1 has no result of its own in the machine.
            Operand::Reg(divisor) if divides => self.division(bin, x, divisor, span),
            y => self.b.bin(bin, Width::W64, x, y),
        };
        Value {
            user,
            ..Value::num(ty, n)
        }
    }

    /// Division by a number that may be zero: the result is 0 then, and it is counted.
    fn division(&mut self, bin: BinOp, a: Reg, b: Reg, span: ast::Span) -> Reg {
        let dst = self.b.int();
        let (zero, divide, done) = (self.b.block(), self.b.block(), self.b.block());
        self.b.branch(Cond::Eq, b, 0, zero, divide);
        self.b.switch_to(zero);
        self.count_error(ErrorKind::DivisionByZero, span);
        self.b.mov(dst, 0);
        self.b.jump(done);
        self.b.switch_to(divide);
        self.b.push(Op::Bin {
            op: bin,
            width: Width::W64,
            dst,
            a,
            b: b.into(),
        });
        self.b.jump(done);
        self.b.switch_to(done);
        dst
    }

    fn pointer_arithmetic(&mut self, op: BinaryOp, a: &Value, b: &Value) -> Option<Value> {
        let (pointer, number) = match (&a.ty, &b.ty) {
            (Ty::Ptr { .. }, Ty::Ptr { .. }) => {
                let (x, y) = (self.reg(a), self.num(b));
                let n = match op {
                    BinaryOp::Sub => self.b.bin(BinOp::Sub, Width::W64, x, y),
                    _ => return None,
                };
                return Some(Value::num(Ty::I64, n));
            }
            (Ty::Ptr { .. }, n) if n.is_int() => (a, b),
            (n, Ty::Ptr { .. }) if n.is_int() && op == BinaryOp::Add => (b, a),
            _ => return None,
        };
        let bin = match op {
            BinaryOp::Add => BinOp::Add,
            BinaryOp::Sub => BinOp::Sub,
            // Bits of an address: a number.
            _ => {
                let as_number = Value {
                    ty: Ty::U64,
                    ..a.clone()
                };
                let other = Value {
                    ty: if matches!(b.ty, Ty::Ptr { .. }) {
                        Ty::U64
                    } else {
                        b.ty.clone()
                    },
                    ..b.clone()
                };
                return Some(self.binary(op, &as_number, &other, ast::Span::default()));
            }
        };
        let Ty::Ptr { to, .. } = &pointer.ty else {
            return None;
        };
        let scale = i64::from(to.size().max(1));
        let p = self.reg(pointer);
        let by: Operand = match self.num(number) {
            Operand::Imm(n) => n.wrapping_mul(scale).into(),
            Operand::Reg(r) if scale == 1 => r.into(),
            Operand::Reg(r) => self.b.bin(BinOp::Mul, Width::W64, r, scale).into(),
        };
        let n = self.b.bin(bin, Width::W64, p, by);
        Some(Value::num(pointer.ty.clone(), n))
    }

    fn step(&mut self, target: &Expr, increment: bool, prefix: bool, span: ast::Span) -> Value {
        match &target.kind {
            ExprKind::Variable(name) => {
                let old = self.expr(target);
                let op = if increment { BinaryOp::Add } else { BinaryOp::Sub };
                let one = Value {
                    literal: true,
                    ..Value::num(Ty::I64, 1)
                };
                let mut new = self.binary(op, &old, &one, span);
                if new.ty == Ty::None {
                    return new;
                }
                // A step leaves the variable's type as it is.
                if old.ty.is_int() {
                    new.literal = true;
                }
                self.assign(name, &new, target.span);
                if prefix { self.expr(target) } else { old }
            }
            ExprKind::Map { name, key } => self.map_step(name, key.as_deref(), increment, prefix, span),
            _ => {
                self.error(span, "only variables and maps can be stepped");
                Value::none()
            }
        }
    }

    // Choices.

    fn ternary(&mut self, c: &Expr, a: Option<&Expr>, b: &Expr, span: ast::Span) -> Value {
        if let (Some(a), Some(yes)) = (a, self.decided_before(c)) {
            return self.expr(if yes { a } else { b });
        }
        let Some(a) = a else {
            let v = self.expr(c);
            let (yes, no) = (self.b.block(), self.b.block());
            self.branch_truth(&v, yes, no);
            return self.choose(yes, no, span, |_| v.clone(), |s| s.expr(b));
        };
        let (yes, no) = (self.b.block(), self.b.block());
        self.condition(c, yes, no);
        self.choose(yes, no, span, |s| s.expr(a), |s| s.expr(b))
    }

    fn if_value(&mut self, branches: &ast::If, span: ast::Span) -> Value {
        if let Some(yes) = self.decided_before(&branches.condition) {
            let chosen = if yes {
                Some(&branches.then)
            } else {
                branches.otherwise.as_ref()
            };
            return chosen.map_or(Value::none(), |block| self.block_value(block, None));
        }
        let (yes, no) = (self.b.block(), self.b.block());
        self.condition(&branches.condition, yes, no);
        self.choose(
            yes,
            no,
            span,
            |s| s.block_value(&branches.then, None),
            |s| match &branches.otherwise {
                Some(block) => s.block_value(block, None),
                None => Value::none(),
            },
        )
    }

    /// One of two values, made in the blocks `yes` and `no`.
    fn choose(
        &mut self,
        yes: Block,
        no: Block,
        span: ast::Span,
        a: impl FnOnce(&mut Self) -> Value,
        b: impl FnOnce(&mut Self) -> Value,
    ) -> Value {
        self.b.switch_to(yes);
        let x = a(self);
        let end_of_yes = self.b.current();
        self.b.switch_to(no);
        let y = b(self);
        let end_of_no = self.b.current();
        let ty = if x.literal && y.ty.is_int() {
            y.ty.clone()
        } else if y.literal && x.ty.is_int() {
            x.ty.clone()
        } else {
            match merge(&x.ty, &y.ty) {
                Some(ty) => ty,
                None => {
                    self.error(span, format!("one side is {}, the other {}", x.ty, y.ty));
                    Ty::None
                }
            }
        };
        let done = self.b.block();
        let literal = x.literal && y.literal;
        let result = if ty.in_register() {
            let dst = self.b.int();
            for (block, v) in [(end_of_yes, &x), (end_of_no, &y)] {
                self.b.switch_to(block);
                let n = self.num(v);
                self.b.mov(dst, n);
                self.b.jump(done);
            }
            Value::num(ty, dst)
        } else if ty == Ty::None {
            for block in [end_of_yes, end_of_no] {
                self.b.switch_to(block);
                self.b.jump(done);
            }
            Value::none()
        } else {
            let slot = self.b.slot(ty.size().max(1).next_multiple_of(8), 8);
            for (block, v) in [(end_of_yes, &x), (end_of_no, &y)] {
                self.b.switch_to(block);
                let base = self.b.slot_addr(slot);
                self.store_whole(v, &ty, base, 0);
                self.b.jump(done);
            }
            self.b.switch_to(done);
            let base = self.b.slot_addr(slot);
            Value::of(ty, At::Mem(base, 0))
        };
        self.b.switch_to(done);
        Value { literal, ..result }
    }

    fn block_value(&mut self, block: &ast::Block, _dest: Option<&Dest>) -> Value {
        self.scoped(false, |s| {
            for statement in &block.statements {
                s.statement(statement);
            }
            match &block.value {
                Some(value) => s.expr(value),
                None => Value::none(),
            }
        })
    }
}

/// A literal that isn't negative takes the other side's sign.
fn adapts(v: &Value) -> bool {
    v.literal && v.constant().is_some_and(|n| n >= 0)
}

/// A comparison is signed if a side is; a literal takes the other side's sign.
fn compares_signed(a: &Value, b: &Value) -> bool {
    (a.ty.is_signed() && !adapts(a)) || (b.ty.is_signed() && !adapts(b))
}

/// The result of a comparison of what is known before the script runs.
fn known_comparison(op: BinaryOp, a: &Value, b: &Value) -> Option<bool> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let order = match (&a.at, &b.at) {
        (At::Text(x), At::Text(y)) => x.cmp(y),
        _ if !a.ty.in_register() || !b.ty.in_register() => return None,
        _ => {
            let (x, y) = (a.constant()?, b.constant()?);
            // Two literals are what they are, of which one may be negative.
            if compares_signed(a, b) || (a.literal && b.literal) {
                x.cmp(&y)
            } else {
                (x as u64).cmp(&(y as u64))
            }
        }
    };
    Some(match op {
        BinaryOp::Eq => order == Equal,
        BinaryOp::Ne => order != Equal,
        BinaryOp::Lt => order == Less,
        BinaryOp::Le => order != Greater,
        BinaryOp::Gt => order == Greater,
        BinaryOp::Ge => order != Less,
        _ => return None,
    })
}

fn is_text_comparison(op: BinaryOp) -> bool {
    matches!(op, BinaryOp::Eq | BinaryOp::Ne)
}

fn condition_of(op: BinaryOp, signed: bool) -> Option<Cond> {
    Some(match (op, signed) {
        (BinaryOp::Eq, _) => Cond::Eq,
        (BinaryOp::Ne, _) => Cond::Ne,
        (BinaryOp::Lt, true) => Cond::SLt,
        (BinaryOp::Le, true) => Cond::SLe,
        (BinaryOp::Gt, true) => Cond::SGt,
        (BinaryOp::Ge, true) => Cond::SGe,
        (BinaryOp::Lt, false) => Cond::Lt,
        (BinaryOp::Le, false) => Cond::Le,
        (BinaryOp::Gt, false) => Cond::Gt,
        (BinaryOp::Ge, false) => Cond::Ge,
        _ => return None,
    })
}

/// `literals`: both stand in the script as numbers.
fn fold(op: BinaryOp, x: i64, y: i64, signed: bool, literals: bool) -> Option<i64> {
    let (ux, uy) = (x as u64, y as u64);
    Some(match op {
        BinaryOp::Add => x.wrapping_add(y),
        BinaryOp::Sub => x.wrapping_sub(y),
        BinaryOp::Mul => x.wrapping_mul(y),
        BinaryOp::Div if y != 0 && signed => x.wrapping_div(y),
        BinaryOp::Div if y != 0 => (ux / uy) as i64,
        BinaryOp::Mod if y != 0 && signed => x.wrapping_rem(y),
        BinaryOp::Mod if y != 0 => (ux % uy) as i64,
        BinaryOp::And => x & y,
        BinaryOp::Or => x | y,
        BinaryOp::Xor => x ^ y,
        BinaryOp::Shl => x.wrapping_shl(y as u32),
        // As bpftrace folds it; of what is not known before, the bits that come in are 0.
        BinaryOp::Shr if signed && literals => x.wrapping_shr(y as u32),
        BinaryOp::Shr => ux.wrapping_shr(y as u32) as i64,
        _ => return None,
    })
}

/// A number as a parameter may be: decimal, `0x…`, with a minus.
pub fn parse_number(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let n = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None => digits.parse::<u64>().ok()?,
    } as i64;
    Some(if negative { n.wrapping_neg() } else { n })
}
