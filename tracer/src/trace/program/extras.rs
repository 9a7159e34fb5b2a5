//! What a report carries on request: fields of the skb and the stack, behind all else.

use ktrail_ebpf::ir::{BinOp, Cond, Reg, Size, Type, Width};
use ktrail_ebpf::isa::Helper;

use super::{Body, Role};
use crate::trace::extras::{Field, Kind, TEXT};
use crate::trace::record::SignCode;

impl Body<'_> {
    /// Fill what was asked for, from `at` on.
    pub(super) fn extras(&mut self, record: Reg, at: u32) {
        let extras = self.spec.extras;
        if !extras.fields.is_empty() {
            self.fields(record, at, &extras.fields);
        }
        if extras.stack > 0 {
            let at = at + extras.fields_size();
            let to = self.b.add(record, i64::from(at) + 8);
            let ctx = self.b.ctx();
            let size = i64::from(extras.stack) * 8;
            // The kernel zeroes what it does not fill.
            let length = self.b.call(
                Helper::GetStack,
                vec![ctx.into(), to.into(), size.into(), 0.into()],
            );
            self.b.store(record, at as i32, length, Size::B8);
        }
    }

    fn fields(&mut self, record: Reg, start: u32, fields: &[Field]) {
        let end = start + self.spec.extras.fields_size();
        for off in (start..end).step_by(8) {
            self.b.store(record, off as i32, 0, Size::B8);
        }
        // In a clone's report all state is its original's.
        let subject = match self.spec.role {
            Role::Clone { from } => self.b.arg(from, Type::Kernel { direct: false }),
            role if role.has_state() => self.skb,
            _ => return,
        };
        let done = self.b.block();
        if self.spec.role == Role::ByCookie {
            self.b
                .branch_if(Cond::Eq, self.told, SignCode::Freed as i64, done);
        }
        let mask = self.b.imm(0);
        let mut at = start + 8;
        for (number, field) in fields.iter().enumerate() {
            let next = self.b.block();
            let mut object = subject;
            for &pointer in &field.pointers {
                object = self.b.kernel_ptr(object, pointer as i32);
                self.b.branch_if(Cond::Eq, object, 0, next);
            }
            match field.kind {
                Kind::Text => {
                    let from = self.b.add(object, i64::from(field.off));
                    self.string(record, (at, TEXT), from);
                }
                Kind::Address => {
                    let value = self.b.kernel_load(object, field.off as i32, Size::B8);
                    self.b.store(record, at as i32, value, Size::B8);
                }
                Kind::Number { size, .. } => {
                    let size = match size {
                        1 => Size::B1,
                        2 => Size::B2,
                        4 => Size::B4,
                        _ => Size::B8,
                    };
                    let value = self.b.kernel_load(object, field.off as i32, size);
                    self.b.store(record, at as i32, value, Size::B8);
                }
            }
            let more = self.b.bin(BinOp::Or, Width::W64, mask, 1 << number);
            self.b.mov(mask, more);
            self.b.jump(next);
            self.b.switch_to(next);
            at += field.kind.room();
        }
        self.b.store(record, start as i32, mask, Size::B8);
        self.b.jump(done);
        self.b.switch_to(done);
    }
}
