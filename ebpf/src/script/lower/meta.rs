//! Functions that ask about the script itself: what things are, what the kernel has, what must hold.
//!
//! Most are answered while the script is compiled, so that `if comptime …` can choose by them.

use super::ast;
use super::body::Body;
use super::events::Source;
use super::value::{At, Value};
use crate::ir::{Cond, Operand};
use crate::script::ast::{BinaryOp, Expr, ExprKind, UnaryOp};
use crate::script::env::FunctionName;
use crate::script::output::{Action, Conv, Format, Missing, Piece, Spec, Stream};
use crate::script::types::{StackMode, Ty};

/// The largest error number that a pointer can carry (`MAX_ERRNO` of include/linux/err.h).
const MAX_ERRNO: i64 = 4095;

fn truth(holds: bool) -> Value {
    Value::num(Ty::Bool, i64::from(holds))
}

fn literal(n: i64) -> Value {
    Value {
        literal: true,
        ..Value::num(Ty::I64, n)
    }
}

impl Body<'_, '_> {
    /// `comptime e`: a value that is known now.
    pub fn comptime(&mut self, e: &Expr) -> Value {
        let v = self.known(e);
        if v.constant().is_none() && !matches!(v.at, At::Text(_)) && self.no_errors_yet() && !self.g.changed {
            self.error(e.span, "this is not known before the script runs");
        }
        v
    }

    /// An expression whose operators are computed now, if their operands allow it.
    fn known(&mut self, e: &Expr) -> Value {
        match &e.kind {
            ExprKind::Comptime(inner) => self.known(inner),
            ExprKind::Unary(UnaryOp::Not, inner) => match self.known(inner).constant() {
                Some(n) => truth(n == 0),
                None => self.expr(e),
            },
            ExprKind::Binary(op @ (BinaryOp::LogicalAnd | BinaryOp::LogicalOr), a, b) => {
                let decides = i64::from(*op == BinaryOp::LogicalOr);
                match self.known(a).constant().map(|n| i64::from(n != 0)) {
                    Some(n) if n == decides => truth(n != 0),
                    Some(_) => match self.known(b).constant() {
                        Some(n) => truth(n != 0),
                        None => self.expr(e),
                    },
                    None => self.expr(e),
                }
            }
            _ => self.expr(e),
        }
    }

    /// What `comptime` in front of a condition decides: the other branch isn't part of the program.
    pub fn decided_before(&mut self, condition: &Expr) -> Option<bool> {
        match &condition.kind {
            ExprKind::Comptime(inner) => self.comptime(inner).constant().map(|n| n != 0),
            _ => None,
        }
    }

    /// `is_ptr(e)` and its like: the type alone decides.
    pub fn is_of_type(&mut self, func: &str, e: &Expr) -> Value {
        if func == "is_literal" {
            return truth(is_literal(e));
        }
        let ty = self.dry(|s| s.expr(e).ty);
        truth(match func {
            "is_ptr" => matches!(ty, Ty::Ptr { .. }),
            "is_str" => matches!(ty, Ty::Str { .. }),
            "is_array" => matches!(ty, Ty::Array { .. }),
            "is_integer" => matches!(ty, Ty::Int { .. }),
            _ => matches!(ty, Ty::Int { signed: false, .. }),
        })
    }

    /// `is_err(p)`: a pointer that is an error's number.
    pub fn is_err(&mut self, e: &Expr) -> Value {
        let v = self.expr(e);
        if !v.ty.in_register() {
            if v.ty != Ty::None {
                self.error(e.span, format!("is_err() takes a pointer, not {}", v.ty));
            }
            return Value::none();
        }
        let n = match self.num(&v) {
            Operand::Imm(n) => return truth((-MAX_ERRNO..0).contains(&n)),
            Operand::Reg(r) => r,
        };
        let dst = self.holds(Cond::Ge, n, -MAX_ERRNO);
        Value::num(Ty::Bool, dst)
    }

    /// `kfunc_exist("name")`
    pub fn kfunc_exist(&mut self, e: &Expr) -> Value {
        let Some(name) = self.written_text(e) else {
            return Value::none();
        };
        truth(
            self.g
                .env
                .prototype(&FunctionName { name, module: None })
                .is_some(),
        )
    }

    /// `assert(condition, text)`: else an error is printed and the script ends with code 1.
    pub fn assert(&mut self, args: &[Expr], span: ast::Span) {
        let (fine, wrong) = (self.b.block(), self.b.block());
        self.condition(&args[0], fine, wrong);
        self.b.switch_to(wrong);
        let format = Format {
            pieces: vec![
                Piece::Text("assert failed: ".into()),
                Piece::Arg(Spec {
                    conv: Conv::Text,
                    ..Spec::default()
                }),
            ],
        };
        self.emit(vec![Source::Expr(&args[1])], false, span, |args| Action::Printf {
            format,
            args,
            stream: Stream::Error,
        });
        self.exit_with(vec![Source::Value(literal(1))], span);
        self.b.jump(fine);
        self.b.switch_to(fine);
    }

    /// `static_assert(condition, text)`
    pub fn static_assert(&mut self, args: &[Expr], span: ast::Span) {
        if self.comptime(&args[0]).constant() == Some(0) {
            let text = self.written_text(&args[1]).unwrap_or_default();
            self.error(span, text);
        }
    }

    /// `fail("format", values)`: whoever comes here while compiling has written something wrong.
    pub fn fail(&mut self, args: &[Expr], span: ast::Span) {
        let Some((first, args)) = args.split_first() else {
            return self.error(span, "fail() takes a text");
        };
        let Some(text) = self.written_text(first) else {
            return;
        };
        let format = match super::format::parse(text.as_bytes()) {
            Ok(format) => format,
            Err(message) => return self.error(first.span, message),
        };
        let mut values = args.iter();
        let mut message = String::new();
        for piece in &format.pieces {
            match (piece, piece_value(piece, &mut values)) {
                (Piece::Text(text), _) => message.push_str(text),
                (Piece::Arg(_), Some(e)) => {
                    let v = self.comptime(e);
                    match (&v.at, v.constant()) {
                        (At::Text(text), _) => message.push_str(&String::from_utf8_lossy(text)),
                        (_, Some(n)) => message.push_str(&n.to_string()),
                        _ => {}
                    }
                }
                (Piece::Arg(_), None) => return self.error(span, "fail() has too few values for its format"),
            }
        }
        if values.next().is_some() {
            return self.error(span, "fail() has more values than its format takes");
        }
        self.error(span, message);
    }

    /// The fields of `typeinfo(e)` and `config`, which are known now; `None` for other expressions.
    pub fn facts(&mut self, e: &Expr) -> Option<Vec<(String, Value)>> {
        match &e.kind {
            ExprKind::TypeInfo(of) => {
                let ty = self.type_of(of, e.span);
                (ty != Ty::None).then(|| type_facts(&ty))
            }
            ExprKind::Name(name) if name == "config" => Some(self.settings()),
            _ => None,
        }
    }

    /// [`Body::facts`] as a record.
    pub fn record_of_facts(&mut self, e: &Expr) -> Value {
        let Some(facts) = self.facts(e) else {
            return Value::none();
        };
        let ty = Ty::Record(facts.iter().map(|(n, v)| (n.clone(), v.ty.clone())).collect());
        let values: Vec<Value> = facts.into_iter().map(|(_, v)| v).collect();
        self.gather(&values, ty)
    }

    /// The settings that mean something here, by their names in the config block.
    fn settings(&self) -> Vec<(String, Value)> {
        let s = &self.g.settings;
        let missing = match s.config.missing_probes {
            Missing::Error => "error",
            Missing::Warn => "warn",
            Missing::Ignore => "ignore",
        };
        let mode = match s.stack_mode {
            StackMode::Perf => "perf",
            StackMode::Raw => "raw",
            StackMode::BuildId => "build_id",
            StackMode::Bpftrace => "bpftrace",
        };
        let text = |text: &str| Value::text(text.as_bytes());
        let number = |n: u64| Value::num(Ty::U64, n as i64);
        [
            ("lazy_symbolication", truth(s.config.lazy_symbolication)),
            ("print_maps_on_exit", truth(s.config.print_maps_on_exit)),
            ("max_cat_bytes", number(s.config.max_cat_bytes)),
            ("max_map_keys", number(s.map_keys.into())),
            ("max_strlen", number(s.strlen.into())),
            ("str_trunc_trailer", text(&s.config.str_trunc_trailer)),
            ("missing_probes", text(missing)),
            ("stack_mode", text(mode)),
            ("license", text(&s.config.license)),
        ]
        .map(|(name, v)| (name.to_string(), v))
        .into()
    }
}

/// What `typeinfo()` says of a type: the number by which BTF knows it, of which kind it is, and its name.
fn type_facts(ty: &Ty) -> Vec<(String, Value)> {
    let (id, base) = match ty {
        Ty::Struct { id, .. } => (i64::from(id.id), "c_type"),
        Ty::Int { .. } => (0, "int"),
        Ty::Str { .. } => (0, "string"),
        Ty::Buffer { .. } => (0, "buffer"),
        Ty::Ptr { .. } => (0, "pointer"),
        Ty::Array { .. } => (0, "array"),
        Ty::Tuple(_) => (0, "tuple"),
        Ty::Record(_) => (0, "record"),
        Ty::Enum { .. } => (0, "enum"),
        _ => (0, ""),
    };
    let full = ty.to_string();
    let base = if base.is_empty() { full.as_str() } else { base };
    vec![
        ("btf_id".into(), Value::num(Ty::I64, id)),
        ("base_type".into(), Value::text(base.as_bytes())),
        ("full_type".into(), Value::text(full.as_bytes())),
    ]
}

/// A value that the script writes out.
fn is_literal(e: &Expr) -> bool {
    match &e.kind {
        ExprKind::Integer(_) | ExprKind::String(_) | ExprKind::Bool(_) => true,
        ExprKind::Unary(UnaryOp::Neg, inner) => is_literal(inner),
        _ => false,
    }
}

fn piece_value<'e>(piece: &Piece, values: &mut std::slice::Iter<'e, Expr>) -> Option<&'e Expr> {
    match piece {
        Piece::Text(_) => None,
        Piece::Arg(_) => values.next(),
    }
}
