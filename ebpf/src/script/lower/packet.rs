//! `skboutput()`: a packet into a capture file.
//!
//! Deliberately absent: what of a packet lies in pages, outside of the buffer's head. The kernel hands that out through a
//! perf buffer only, in which events of other kinds would have no order.

use super::ast;
use super::body::Body;
use super::events::Source;
use super::value::{At, Value};
use crate::ir::{BinOp, Cond, Operand, Reg, Size, Width};
use crate::isa::Helper;
use crate::kernel::field;
use crate::script::ast::Expr;
use crate::script::output::Action;
use crate::script::types::Ty;

/// What the kernel's helper says where there are no such bytes, negated.
const EFAULT: i64 = 14;

impl Body<'_, '_> {
    /// `skboutput("file", skb, length, offset)`: 0, or a negative error number.
    pub fn skb_output(&mut self, args: &[Expr], span: ast::Span) -> Value {
        let Some(path) = self.written_text(&args[0]) else {
            return Value::none();
        };
        let skb = self.expr(&args[1]);
        match &skb.ty {
            Ty::None => return Value::none(),
            Ty::Ptr { to, user: false } if matches!(&**to, Ty::Struct { name, .. } if name == "struct sk_buff") =>
                {}
            ty => {
                let message = format!("skboutput() takes a struct sk_buff *, not {ty}");
                self.error(args[1].span, message);
                return Value::none();
            }
        }
        let (length, offset) = (self.expr(&args[2]), self.expr(&args[3]));
        for (v, e) in [(&length, &args[2]), (&offset, &args[3])] {
            if !v.ty.is_int() {
                if v.ty != Ty::None {
                    self.error(e.span, format!("skboutput() takes a number here, not {}", v.ty));
                }
                return Value::none();
            }
        }
        let skb = self.num(&skb);
        let (Some(data), Some(len), Some(paged)) = (
            self.skb_field(skb, "data", Size::B8),
            self.skb_field(skb, "len", Size::B4),
            self.skb_field(skb, "data_len", Size::B4),
        ) else {
            self.error(span, "skboutput() needs the kernel's type information (BTF)");
            return Value::none();
        };
        let (length, offset) = (self.reg(&length), self.reg(&offset));
        let result = self.b.int();
        self.b.mov(result, -EFAULT);
        let (some, write, done) = (self.b.block(), self.b.block(), self.b.block());
        self.b.branch(Cond::Lt, offset, len, some, done);

        self.b.switch_to(some);
        let rest = self.b.bin(BinOp::Sub, Width::W64, len, offset);
        let wire = self.least(length, rest);
        let head = self.b.bin(BinOp::Sub, Width::W64, len, paged);
        self.b.branch(Cond::Lt, offset, head, write, done);

        self.b.switch_to(write);
        let rest = self.b.bin(BinOp::Sub, Width::W64, head, offset);
        let there = self.least(wire, rest);
        let ty = Ty::Buffer {
            len: self.g.settings.strlen,
        };
        let (_, buffer) = self.temp(&ty);
        self.zero(buffer, 0, ty.size());
        let there = Value::num(Ty::U64, there);
        let size = self.clamped(&there, self.g.settings.strlen, 0);
        self.b.store(buffer, 0, size, Size::B4);
        let to = self.b.add(buffer, 4);
        let from = self.b.bin(BinOp::Add, Width::W64, data, offset);
        self.read_memory(Helper::ProbeReadKernel, vec![to.into(), size.into(), from.into()]);
        let sources = vec![
            Source::Value(Value::of(ty, At::Mem(buffer, 0))),
            Source::Value(Value::num(Ty::U64, wire)),
        ];
        self.emit(sources, false, span, |fields| match <[_; 2]>::try_from(fields) {
            Ok([packet, wire]) => Action::SkbOutput { path, packet, wire },
            Err(_) => unreachable!("two sources are two fields"),
        });
        self.b.mov(result, 0);
        self.b.jump(done);
        self.b.switch_to(done);
        Value::num(Ty::I64, result)
    }

    fn skb_field(&mut self, skb: Operand, name: &str, size: Size) -> Option<Reg> {
        let found = field::path(&self.g.universe, "sk_buff", name)?;
        let base = self.kernel_base(skb);
        Some(self.b.kernel_load(base, found.offset() as i32, size))
    }

    fn least(&mut self, a: Reg, b: Reg) -> Reg {
        let dst = self.b.int();
        self.b.mov(dst, a);
        let (cut, done) = (self.b.block(), self.b.block());
        self.b.branch(Cond::Gt, dst, b, cut, done);
        self.b.switch_to(cut);
        self.b.mov(dst, b);
        self.b.jump(done);
        self.b.switch_to(done);
        dst
    }
}
