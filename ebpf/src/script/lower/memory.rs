//! Addresses and memory beyond a probe's own arguments: variables that each CPU has its own of, and what is written into
//! a process.

use super::ast;
use super::body::Body;
use super::value::Value;
use crate::ir::{BinOp, Cond, Operand, Reg, Size, Width};
use crate::isa::Helper;
use crate::script::Diagnostic;
use crate::script::ast::{Expr, ExprKind, UnaryOp};
use crate::script::types::Ty;

/// Where the kernel's array is of what each CPU adds to the address of such a variable.
const OFFSETS: &str = "__per_cpu_offset";

impl Body<'_, '_> {
    /// `percpu_kaddr("name"[, cpu])`: where this CPU, or another one, has the variable; 0 for a CPU that can't be there.
    pub fn percpu_kaddr(&mut self, args: &[Expr]) -> Value {
        let Some(name) = self.written_text(&args[0]) else {
            return Value::none();
        };
        let cpu = match args.get(1) {
            None => self.b.call(Helper::GetSmpProcessorId, vec![]),
            Some(e) => {
                let v = self.expr(e);
                if !v.ty.is_int() {
                    if v.ty != Ty::None {
                        self.error(e.span, format!("a CPU is a number, not {}", v.ty));
                    }
                    return Value::none();
                }
                self.reg(&v)
            }
        };
        let addresses = (self.g.env.kernel_symbol(&name), self.g.env.kernel_symbol(OFFSETS));
        let (Some(variable), Some(offsets)) = addresses else {
            let message =
                format!("the kernel's symbols have no variable '{name}' that each CPU has its own of");
            let hint =
                "variables are among them where the kernel has CONFIG_KALLSYMS_ALL and the user is root";
            self.g.report(Diagnostic::error(args[0].span, message).hint(hint));
            return Value::none();
        };
        let dst = self.b.int();
        self.b.mov(dst, 0);
        let (there, done) = (self.b.block(), self.b.block());
        let cpus = i64::from(self.g.env.possible_cpus());
        self.b.branch(Cond::Lt, cpu, cpus, there, done);
        self.b.switch_to(there);
        let place = self.b.bin(BinOp::Shl, Width::W64, cpu, 3);
        let table = self.b.imm(offsets as i64);
        let place = self.b.bin(BinOp::Add, Width::W64, place, table);
        let base = self.kernel_base(place.into());
        let offset = self.b.kernel_load(base, 0, Size::B8);
        let variable = self.b.imm(variable as i64);
        let address = self.b.bin(BinOp::Add, Width::W64, variable, offset);
        self.b.mov(dst, address);
        self.b.jump(done);
        self.b.switch_to(done);
        let ty = Ty::Ptr {
            to: Box::new(Ty::U64),
            user: false,
        };
        Value::num(ty, dst)
    }

    /// `write_user(to, from, len)`: whether bytes of the program's own could be written there, in the process that runs.
    pub fn write_user(&mut self, args: &[Expr], span: ast::Span) -> Value {
        self.g.needs_unsafe("write_user", span);
        let to = self.expr(&args[0]);
        // A variable is named with its address, text as it is.
        let from = match &args[1].kind {
            ExprKind::Unary(UnaryOp::AddressOf, inner) if matches!(inner.kind, ExprKind::Variable(_)) => {
                self.expr(inner)
            }
            _ => {
                let v = self.expr(&args[1]);
                if v.ty.in_register() {
                    let message = format!(
                        "write_user() takes a text or the address of a variable, not {}",
                        v.ty
                    );
                    self.error(args[1].span, message);
                    return Value::none();
                }
                v
            }
        };
        let len = self.expr(&args[2]);
        for (v, e) in [(&to, &args[0]), (&len, &args[2])] {
            if !v.ty.in_register() {
                if v.ty != Ty::None {
                    self.error(e.span, format!("write_user() takes a number here, not {}", v.ty));
                }
                return Value::none();
            }
        }
        if from.ty == Ty::None {
            return Value::none();
        }
        let ty = from.ty.clone();
        let size = ty.size();
        let len: Operand = match len.constant() {
            Some(n) if (1..=i64::from(size)).contains(&n) => n.into(),
            Some(n) => {
                let message = format!("write_user() can't write {n} bytes: there are {size} here");
                self.error(args[2].span, message);
                return Value::none();
            }
            None => self.clamped(&len, size, 0).into(),
        };
        let to = self.num(&to);
        let (base, off) = self.in_memory(&from, &ty);
        let from: Reg = match off {
            0 => base,
            off => self.b.add(base, i64::from(off)),
        };
        let result = self.b.call(Helper::ProbeWriteUser, vec![to, from.into(), len]);
        Value::num(Ty::Bool, self.holds(Cond::Eq, result, 0))
    }
}
