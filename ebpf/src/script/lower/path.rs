//! `path()` and `socket_cookie()`: the path of a file, the cookie of a socket. The kernel finds them itself, and wants a
//! pointer whose way from one of the function's arguments it has seen, field by field. So the argument isn't a value here,
//! but such a way.
//!
//! Deliberately absent: ways through variables and casts, where the kernel loses sight of what a number points to.

use super::ast;
use super::body::Body;
use super::points::parameters;
use super::value::{At, Value};
use crate::ir::{Block, Cond, Op, ProgramKind, Reg, Size, Type};
use crate::isa::Helper;
use crate::kernel::{KType, TypeId, Types, field};
use crate::script::Diagnostic;
use crate::script::ast::{Expr, ExprKind, Provider};
use crate::script::types::Ty;

/// Where a way has come to: an address that the kernel's verifier follows, bytes from there, the struct that is there.
struct Step {
    base: Reg,
    off: u32,
    id: TypeId,
    name: String,
}

impl Body<'_, '_> {
    /// `path(args.file.f_path[, len])`
    pub fn path(&mut self, args: &[Expr], span: ast::Span) -> Value {
        let most = self.g.settings.strlen;
        let len = match args.get(1).map(|e| (self.expr(e).constant(), e.span)) {
            None => most,
            Some((Some(n @ 1..), _)) => n.min(i64::from(most)) as u32,
            Some((_, span)) => {
                self.error(span, "path() takes a constant length of 1 byte at least");
                return Value::none();
            }
        };
        if !self.arguments_have_types("path", "fentry, fexit and iter", span) {
            return Value::none();
        }
        let ty = Ty::Str { len };
        let (_, found) = self.temp(&ty);
        let (_, base) = self.temp(&ty);
        self.zero(base, 0, len);
        let (copy, done) = (self.b.block(), self.b.block());
        let Some(step) = self.way("path", "args.file.f_path", &args[0], done) else {
            return Value::none();
        };
        if step.name != "struct path" {
            let message = format!(
                "path() takes a struct path, such as args.file.f_path, not {}",
                step.name
            );
            self.error(args[0].span, message);
            return Value::none();
        }
        let path = match step.off {
            0 => step.base,
            off => self.b.add(step.base, i64::from(off)),
        };
        let size = self.b.call(
            Helper::DPath,
            vec![path.into(), found.into(), i64::from(len).into()],
        );
        // The kernel leaves what it worked with behind the text, which as part of a key would make two of one path.
        self.b.branch(Cond::SGt, size, 0, copy, done);
        self.b.switch_to(copy);
        let from = self.b.int();
        self.b.mov(from, found);
        self.read_text(from.into(), false, base, 0, len);
        self.b.jump(done);
        self.b.switch_to(done);
        Value::of(ty, At::Mem(base, 0))
    }

    /// `socket_cookie(args.sk)`: the number that the kernel gives to a socket, 0 for no socket.
    pub fn socket_cookie(&mut self, e: &Expr, span: ast::Span) -> Value {
        if !self.arguments_have_types("socket_cookie", "fentry, fexit, rawtracepoint and iter", span) {
            return Value::none();
        }
        let dst = self.b.int();
        self.b.mov(dst, 0);
        let done = self.b.block();
        let Some(step) = self.way("socket_cookie", "args.sk", e, done) else {
            return Value::none();
        };
        if step.off != 0 || !self.starts_with("struct sock_common", &step) {
            let message = format!(
                "socket_cookie() takes a struct sock *, such as args.sk, not {}",
                step.name
            );
            self.error(e.span, message);
            return Value::none();
        }
        let cookie = self.b.call(Helper::GetSocketCookie, vec![step.base.into()]);
        self.b.mov(dst, cookie);
        self.b.jump(done);
        self.b.switch_to(done);
        Value::num(Ty::U64, dst)
    }

    /// A struct of that name is there, or one that starts with it.
    fn starts_with(&self, name: &str, step: &Step) -> bool {
        let types = &self.g.universe;
        let mut ty = types.to_ty(step.id);
        for _ in 0..8 {
            match &ty {
                Ty::Struct { name: found, .. } if found == name => return true,
                Ty::Struct { id, .. } => match types.get(*id) {
                    Some(KType::Struct { members, .. }) if !members.is_empty() => {
                        ty = types.to_ty(members[0].ty);
                    }
                    _ => return false,
                },
                _ => return false,
            }
        }
        false
    }

    /// The kernel's verifier knows what this program's arguments point to.
    fn arguments_have_types(&mut self, func: &str, probes: &str, span: ast::Span) -> bool {
        let traced = matches!(
            self.provider,
            Provider::Fentry | Provider::Fexit | Provider::RawTracepoint | Provider::Iter
        );
        if !traced || self.apart {
            let message = format!("{func}() works in {probes} probes only, and in no loop over a map");
            self.error(span, message);
            return false;
        }
        // In a program for many functions it doesn't.
        self.unfit |= self.kind == ProgramKind::TracingMulti;
        true
    }

    /// Where an expression leads that starts at an argument and takes fields, for a function that takes ways such as
    /// `example`; goes to `none` where there is no object.
    fn way(&mut self, func: &str, example: &str, e: &Expr, none: Block) -> Option<Step> {
        let ExprKind::Field(inner, name) = &e.kind else {
            let message = format!("{func}() takes a way from an argument through fields, such as {example}");
            self.error(e.span, message);
            return None;
        };
        if matches!(&inner.kind, ExprKind::Name(builtin) if builtin == "args" || builtin == "ctx") {
            // What there is, and what is said where it isn't.
            let ty = self.dry(|s| s.argument_field(name)).ty;
            let prototype = self.targets[0].prototype?;
            let found = parameters(&self.g.universe, prototype);
            let (.., at) = found.into_iter().find(|(n, ..)| *n == name.name)?;
            let base = self.b.arg(at, Type::Kernel { direct: true });
            if self.provider == Provider::Iter {
                self.b.branch_if(Cond::Eq, base, 0, none);
            }
            return self.pointee_of(base, &ty, e.span);
        }
        let from = self.way(func, example, inner, none)?;
        let Some(member) = field::member(&self.g.universe, from.id, &name.name) else {
            let names = self.g.universe.member_names(from.id);
            let mut d = Diagnostic::error(name.span, format!("{} has no field '{}'", from.name, name.name));
            if let Some(near) = super::place::nearest(&name.name, &names) {
                d = d.hint(format!("did you mean '{near}'?"));
            }
            self.g.report(d);
            return None;
        };
        let off = from.off + member.offset();
        match self.g.universe.to_ty(member.ty) {
            Ty::Struct { id, name, .. } => Some(Step {
                base: from.base,
                off,
                id,
                name,
            }),
            ty => {
                let base = self.b.reg(Type::Kernel { direct: true });
                self.b.push(Op::KernelLoad {
                    dst: base,
                    base: from.base,
                    off: off as i32,
                    size: Size::B8,
                    signed: false,
                });
                self.pointee_of(base, &ty, e.span)
            }
        }
    }

    fn pointee_of(&mut self, base: Reg, ty: &Ty, span: ast::Span) -> Option<Step> {
        match ty {
            Ty::Ptr { to, user: false } if matches!(**to, Ty::Struct { .. }) => match &**to {
                Ty::Struct { id, name, .. } => Some(Step {
                    base,
                    off: 0,
                    id: *id,
                    name: name.clone(),
                }),
                _ => None,
            },
            Ty::None => None,
            ty => {
                self.error(span, format!("{ty} is no pointer to a struct"));
                None
            }
        }
    }
}
