//! Kernel objects: the pointers on the way to them, and their fields.

use super::{Ended, Lower};
use crate::filter::tree::PathId;
use crate::filter::view::Field;
use crate::ir::{Block, Cond, Op, Reg, Size};

impl Lower<'_> {
    /// The address of an object.
    fn object(&mut self, path: PathId) -> Result<Reg, Ended> {
        if let Some(reg) = self.state.object(path) {
            return Ok(reg);
        }
        let Some(step) = self.nums.step(path) else {
            return self.field(Field::Skb);
        };
        let from = self.object(step.from)?;
        let reg = self.b.kernel_ptr(from, step.off as i32);
        self.state.set_object(path, reg);
        Ok(reg)
    }

    /// To `yes` if the pointer isn't null.
    pub(super) fn not_null(&mut self, path: PathId, yes: Block, no: Block) -> Result<(), Ended> {
        let reg = self.object(path)?;
        self.b.branch(Cond::Eq, reg, 0, no, yes);
        let state = self.state.clone();
        self.note(no, state.clone());
        self.note(yes, state);
        Ok(())
    }

    /// A field of an object.
    pub(super) fn kernel_number(
        &mut self,
        object: PathId,
        off: u32,
        size: u32,
        signed: bool,
        swap: bool,
    ) -> Result<Reg, Ended> {
        let base = self.object(object)?;
        let dst = self.b.int();
        let size = Size::from_bytes(size).expect("fields are of 1, 2 or 4 bytes");
        self.b.push(Op::KernelLoad {
            dst,
            base,
            off: off as i32,
            size,
            signed,
        });
        if swap && size != Size::B1 {
            self.b.push(Op::Swap { size, dst, src: dst });
        }
        Ok(dst)
    }
}
