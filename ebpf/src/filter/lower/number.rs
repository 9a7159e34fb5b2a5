//! Numbers into registers.

use std::collections::HashMap;

use super::facts::Fact;
use super::plan::Plan;
use super::{Ended, Lower, SLOT_OFFSET, bin_op, imm};
use crate::filter::ast::ArithOp;
use crate::filter::tree::{Num, NumId, Place, Window};
use crate::filter::view::Field;
use crate::ir::{Cond, Op, Operand, Reg, Size, Width};

impl Lower<'_> {
    /// `num` with what is known put in: a constant where it can be, loads at constant offsets where they can be.
    pub(super) fn specialise(&mut self, num: NumId) -> NumId {
        self.specialise_once(num, &mut HashMap::new())
    }

    /// The same; numbers share parts, so what has been done is kept.
    fn specialise_once(&mut self, num: NumId, done: &mut HashMap<NumId, NumId>) -> NumId {
        if let Some(special) = done.get(&num) {
            return *special;
        }
        let special = match self.nums.get(num) {
            Num::Const(_) => num,
            _ if self.state.value(num).is_some() => {
                let value = self.state.value(num).expect("just seen");
                self.nums.constant(value)
            }
            Num::Field(_) | Num::Kernel { .. } | Num::Slot(_) => num,
            Num::Walk { net, part } => {
                let net = self.specialise_place(net, done);
                self.nums.intern(Num::Walk { net, part })
            }
            Num::Bin { op, a, b } => {
                let (a, b) = (self.specialise_once(a, done), self.specialise_once(b, done));
                self.nums.bin(op, a, b)
            }
            Num::Choose {
                num: by,
                value,
                same,
                other,
            } => match Plan::new(&self.nums, &self.state).arm(num) {
                Some(arm) => self.specialise_once(arm, done),
                None => {
                    let by = self.specialise_once(by, done);
                    let same = self.specialise_once(same, done);
                    let other = self.specialise_once(other, done);
                    self.nums.choose(by, value, same, other)
                }
            },
            Num::Load { place, size } => {
                let place = self.specialise_place(place, done);
                self.nums.load(place, size)
            }
        };
        // What is specialised may have become something that is known.
        let special = match self.state.value(special) {
            Some(value) => self.nums.constant(value),
            None => special,
        };
        done.insert(num, special);
        special
    }

    fn specialise_place(&mut self, place: Place, done: &mut HashMap<NumId, NumId>) -> Place {
        let Some(dynamic) = place.dynamic else {
            return place;
        };
        let dynamic = self.specialise_once(dynamic, done);
        let constant = self
            .nums
            .as_const(dynamic)
            .and_then(|value| place.off.checked_add(value));
        let (dynamic, off) = match constant {
            Some(off) => (None, off),
            None => (Some(dynamic), place.off),
        };
        Place {
            dynamic,
            off,
            ..place
        }
    }

    /// `num` in a register, in host byte order.
    pub(super) fn register(&mut self, num: NumId) -> Result<Reg, Ended> {
        let num = self.specialise(num);
        self.compute(num)
    }

    /// The same for a number that is specialised.
    fn compute(&mut self, num: NumId) -> Result<Reg, Ended> {
        if let Some(reg) = self.state.reg(num) {
            return Ok(reg);
        }
        let reg = match self.nums.get(num) {
            Num::Const(value) => self.b.imm(value.into()),
            Num::Field(field) => self.field(field)?,
            Num::Slot(_) => {
                let memory = self.b.slot_addr(self.slots[&num]);
                self.b.load(memory, SLOT_OFFSET, Size::B4)
            }
            Num::Load { place, size } => self.load(place, size, true)?,
            Num::Walk { net, part } => self.walked(net, part)?,
            Num::Kernel {
                object,
                off,
                size,
                signed,
                swap,
            } => self.kernel_number(object, off, size, signed, swap)?,
            Num::Bin { op, a, b } => self.operation(op, a, b)?,
            Num::Choose {
                num: by,
                value,
                same,
                other,
            } => self.choice(by, value, same, other)?,
        };
        self.state.set_reg(num, reg);
        Ok(reg)
    }

    fn choice(&mut self, by: NumId, value: u32, same: NumId, other: NumId) -> Result<Reg, Ended> {
        let by_reg = self.compute(by)?;
        let result = self.b.int();
        let (yes, no, done) = (self.b.block(), self.b.block(), self.b.block());
        let (is, is_not) = ((by, Fact::Is(value)), (by, Fact::Not(value)));
        self.terminate(Cond::Eq, by_reg, imm(value), yes, no, Some(is), Some(is_not));
        for (block, arm) in [(yes, same), (no, other)] {
            self.enter(block);
            if let Ok(reg) = self.register(arm) {
                self.b.mov(result, reg);
                self.goto(done);
            }
        }
        if self.enter(done) { Ok(result) } else { Err(Ended) }
    }

    fn operation(&mut self, op: ArithOp, a: NumId, b: NumId) -> Result<Reg, Ended> {
        let x = self.compute(a)?;
        if let Some(value) = self.nums.as_const(b) {
            return Ok(match op {
                ArithOp::Div | ArithOp::Mod if value == 0 => {
                    self.goto(self.miss);
                    return Err(Ended);
                }
                ArithOp::Shl | ArithOp::Shr if value > 31 => self.b.imm(0),
                _ => self.b.bin(bin_op(op), Width::W32, x, imm(value)),
            });
        }
        let y = self.compute(b)?;
        match op {
            ArithOp::Div | ArithOp::Mod => {
                let nonzero = self.b.block();
                let miss = self.miss;
                self.terminate(Cond::Eq, y, imm(0), miss, nonzero, None, Some((b, Fact::Not(0))));
                self.enter(nonzero);
            }
            ArithOp::Shl | ArithOp::Shr => {
                // eBPF takes the count modulo 32.
                let result = self.b.imm(0);
                let (small, after) = (self.b.block(), self.b.block());
                self.terminate(Cond::Lt, y, imm(32), small, after, None, None);
                self.enter(small);
                self.b.push(Op::Bin {
                    op: bin_op(op),
                    width: Width::W32,
                    dst: result,
                    a: x,
                    b: Operand::Reg(y),
                });
                self.goto(after);
                self.enter(after);
                return Ok(result);
            }
            _ => {}
        }
        Ok(self.b.bin(bin_op(op), Width::W32, x, y))
    }

    /// A field of the view. Absent: the whole filter doesn't match.
    pub(super) fn field(&mut self, field: Field) -> Result<Reg, Ended> {
        if let Some(reg) = self.state.field(field) {
            return Ok(reg);
        }
        let reg = match self.view.field(self.b, field, self.miss) {
            Some(reg) => reg,
            // No packet has a tag outside of its bytes.
            None if field == Field::VlanTag => self.b.imm(0),
            None => {
                self.goto(self.miss);
                return Err(Ended);
            }
        };
        self.state.set_field(field, reg);
        Ok(reg)
    }

    /// If `num` is loaded, perhaps under a mask: the bytes as in memory, and mask and `value` in the same order. So a
    /// comparison for equality needs no byte swap. The order is that of a little-endian machine.
    pub(super) fn as_in_memory(
        &mut self,
        num: NumId,
        value: u32,
    ) -> Result<Option<(Reg, Option<u32>, u32)>, Ended> {
        let (load, mask) = match self.nums.get(num) {
            Num::Bin {
                op: ArithOp::And,
                a,
                b,
            } => match self.nums.as_const(b) {
                Some(mask) => (a, Some(mask)),
                None => return Ok(None),
            },
            _ => (num, None),
        };
        let Num::Load { place, size } = self.nums.get(load) else {
            return Ok(None);
        };
        let fits = |number: u32| size == 4 || number >> (8 * size) == 0;
        if !fits(value)
            || !mask.is_none_or(fits)
            || self.state.reg(load).is_some()
            || self.state.reg(num).is_some()
        {
            return Ok(None);
        }
        let swap = |number: u32| match size {
            1 => number,
            2 => u32::from((number as u16).swap_bytes()),
            _ => number.swap_bytes(),
        };
        let reg = match self.state.raw(load) {
            Some(reg) => reg,
            None => {
                let reg = self.load(place, size, false)?;
                self.state.set_raw(load, reg);
                reg
            }
        };
        Ok(Some((reg, mask.map(swap), swap(value))))
    }

    fn load(&mut self, place: Place, size: u32, swap: bool) -> Result<Reg, Ended> {
        let Place { window, dynamic, off } = place;
        let off = match dynamic {
            None => {
                let Some(end) = off.checked_add(size).filter(|end| *end <= i32::MAX as u32) else {
                    self.goto(self.miss);
                    return Err(Ended);
                };
                self.check(window, end)?;
                Operand::Imm(off.into())
            }
            Some(dynamic) => {
                let len = self.field(length_of(window))?;
                let dynamic = self.compute(dynamic)?;
                let off = match off {
                    0 => dynamic,
                    off => self.b.add(dynamic, i64::from(off)),
                };
                let end = self.b.add(off, i64::from(size));
                self.b.branch_if(Cond::SGt, end, len, self.miss);
                Operand::Reg(off)
            }
        };
        let packet = self.field(packet_of(window))?;
        let dst = self.b.int();
        self.b.push(Op::PacketLoad {
            dst,
            packet,
            off,
            size: Size::from_bytes(size).expect("loads are of 1, 2 or 4 bytes"),
            swap: swap && size > 1,
        });
        Ok(dst)
    }

    /// A window's packet and length.
    pub(super) fn window(&mut self, window: Window) -> Result<(Reg, Reg), Ended> {
        let len = self.field(length_of(window))?;
        Ok((self.field(packet_of(window))?, len))
    }

    /// Make sure that the first `bytes` bytes of `window` are there.
    pub(super) fn check(&mut self, window: Window, bytes: u32) -> Result<(), Ended> {
        if bytes > self.state.proven(window) {
            let len = self.field(length_of(window))?;
            self.b.branch_if(Cond::SLt, len, i64::from(bytes), self.miss);
            self.state.prove(window, bytes);
            if window == Window::L3 {
                self.state.check(bytes);
            }
        }
        Ok(())
    }
}

fn packet_of(window: Window) -> Field {
    match window {
        Window::L2 => Field::L2,
        Window::L3 => Field::L3,
    }
}

fn length_of(window: Window) -> Field {
    match window {
        Window::L2 => Field::L2Len,
        Window::L3 => Field::L3Len,
    }
}
