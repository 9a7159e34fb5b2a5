//! The chain of headers behind an IP header.

use super::{Ended, Lower, imm};
use crate::filter::tree::{Place, Window};
use crate::ir::{BinOp, Block, Cond, Op, Operand, Reg, Size, Width};

/// As many headers are looked at: longer chains are an attack, or a mistake.
pub(super) const MAX_HEADERS: usize = 8;

/// Headers whose second byte is their length in units of 8 bytes after the first 8. A fragment header has 0 there.
const OPTIONS: [u32; 4] = [0, 60, 43, 44];
/// The authentication header: its length is in units of 4 bytes after the first 8.
const AUTHENTICATION: u32 = 51;
const NO_NEXT_HEADER: u32 = 59;

impl Lower<'_> {
    /// One of the headers behind the IP header at `net` is of protocol `wanted`.
    pub(super) fn chain(
        &mut self,
        v6: bool,
        net: Place,
        wanted: u32,
        yes: Block,
        no: Block,
    ) -> Result<(), Ended> {
        let first = self.nums.load(at(net, if v6 { 6 } else { 9 }), 1);
        let first = self.register(first)?;
        let proto = self.b.int();
        self.b.mov(proto, first);
        let place = if v6 {
            at(net, 40)
        } else {
            let byte = self.nums.load(net, 1);
            let byte = self.register(byte)?;
            let words = self.b.bin(BinOp::And, Width::W32, byte, imm(0xf));
            let bytes = self.b.bin(BinOp::Shl, Width::W32, words, imm(2));
            return self.walk(v6, net, Some(bytes), proto, wanted, yes, no);
        };
        self.walk(v6, place, None, proto, wanted, yes, no)
    }

    /// From the header at `place` plus `skip`, which is of protocol `proto`, on.
    #[allow(clippy::too_many_arguments)] // where, what and whereto
    fn walk(
        &mut self,
        v6: bool,
        place: Place,
        skip: Option<Reg>,
        proto: Reg,
        wanted: u32,
        yes: Block,
        no: Block,
    ) -> Result<(), Ended> {
        let off = self.b.imm(place.off.into());
        if let Some(dynamic) = place.dynamic {
            let dynamic = self.register(dynamic)?;
            self.add(off, dynamic);
        }
        if let Some(skip) = skip {
            self.add(off, skip);
        }
        for _ in 0..MAX_HEADERS {
            let (options, authentication, next) = (self.b.block(), self.b.block(), self.b.block());
            self.leave_if(proto, wanted, yes);
            if v6 {
                for header in OPTIONS {
                    self.leave_if(proto, header, options);
                }
            }
            self.leave_if(proto, NO_NEXT_HEADER, no);
            self.leave_if(proto, AUTHENTICATION, authentication);
            self.goto(no);
            for (block, unit, extra) in [(options, 8, 1), (authentication, 4, 2)] {
                if !self.enter(block) {
                    continue;
                }
                self.byte(place.window, off, 0, proto)?;
                let length = self.b.int();
                self.byte(place.window, off, 1, length)?;
                let units = self.b.add(length, extra);
                let bytes = self.b.bin(BinOp::Mul, Width::W64, units, unit);
                self.add(off, bytes);
                self.goto(next);
            }
            self.enter(next);
        }
        self.leave_if(proto, wanted, yes);
        self.goto(no);
        Ok(())
    }

    fn add(&mut self, to: Reg, what: Reg) {
        self.b.push(Op::Bin {
            op: BinOp::Add,
            width: Width::W64,
            dst: to,
            a: to,
            b: what.into(),
        });
    }

    pub(super) fn leave_if(&mut self, reg: Reg, value: u32, to: Block) {
        let next = self.b.block();
        self.terminate(Cond::Eq, reg, imm(value), to, next, None, None);
        self.enter(next);
    }

    /// `dst` = the byte at `base + off`.
    fn byte(&mut self, window: Window, base: Reg, off: i64, dst: Reg) -> Result<(), Ended> {
        let at = match off {
            0 => base,
            off => self.b.add(base, off),
        };
        let (packet, len) = self.window(window)?;
        self.b.branch_if(Cond::SGe, at, len, self.miss);
        self.b.push(Op::PacketLoad {
            dst,
            packet,
            off: Operand::Reg(at),
            size: Size::B1,
            swap: false,
        });
        Ok(())
    }
}

pub(super) fn at(place: Place, off: u32) -> Place {
    Place {
        off: place.off + off,
        ..place
    }
}
