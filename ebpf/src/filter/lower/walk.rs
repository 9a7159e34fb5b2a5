//! `ext (…)`: what stands behind an IPv6 header's extension headers.

use super::chain::{MAX_HEADERS, at};
use super::{Ended, Lower, imm};
use crate::filter::tree::{Num, NumId, Place, Walked};
use crate::ir::{BinOp, Cond, Op, Operand, Reg, Size, Width};

/// Hop-by-hop options, routing, destination options, mobility, host identity, shim6: the second byte is the length in
/// units of 8 bytes after the first 8 (RFC 6564 and its predecessors).
const OPTIONS: [u32; 6] = [0, 43, 60, 135, 139, 140];
const FRAGMENT: u32 = 44;
/// The authentication header's length is in units of 4 bytes after the first 8.
const AUTHENTICATION: u32 = 51;
/// The 16 bits of a fragment header's offset and flags that are the offset.
const FRAGMENT_OFFSET: u32 = 0xfff8;

impl Lower<'_> {
    /// What the walk from the IPv6 header at `net` finds; remembers all that it finds. A header outside of the packet:
    /// the whole filter doesn't match. After [`MAX_HEADERS`] headers the walk ends at the next, whatever it is.
    pub(super) fn walked(&mut self, net: Place, wanted: Walked) -> Result<Reg, Ended> {
        let first = self.nums.load(at(net, 6), 1);
        let first = self.register(first)?;
        let (proto, off, whole) = (self.b.int(), self.b.int(), self.b.imm(1));
        self.b.mov(proto, first);
        self.b.mov(off, 40);
        let start = self.b.imm(net.off.into());
        if let Some(dynamic) = net.dynamic {
            let dynamic = self.register(dynamic)?;
            self.plus(start, dynamic.into());
        }
        // All ways to the end have asked for the window.
        self.window(net.window)?;
        let done = self.b.block();
        for _ in 0..MAX_HEADERS {
            let (options, fragment, authentication) = (self.b.block(), self.b.block(), self.b.block());
            for header in OPTIONS {
                self.leave_if(proto, header, options);
            }
            self.leave_if(proto, FRAGMENT, fragment);
            self.leave_if(proto, AUTHENTICATION, authentication);
            self.goto(done);
            let next = self.b.block();
            for (block, unit, extra) in [(options, 8, 1), (authentication, 4, 2)] {
                if !self.enter(block) {
                    continue;
                }
                let place = self.b.bin(BinOp::Add, Width::W64, start, off);
                self.number(net, place, 0, Size::B1, proto)?;
                let length = self.b.int();
                self.number(net, place, 1, Size::B1, length)?;
                let units = self.b.add(length, extra);
                let bytes = self.b.bin(BinOp::Mul, Width::W64, units, unit);
                self.plus(off, bytes.into());
                self.goto(next);
            }
            if self.enter(fragment) {
                let place = self.b.bin(BinOp::Add, Width::W64, start, off);
                self.number(net, place, 0, Size::B1, proto)?;
                let word = self.b.int();
                self.number(net, place, 2, Size::B2, word)?;
                self.plus(off, 8.into());
                let later = self.b.block();
                self.terminate(Cond::Test, word, imm(FRAGMENT_OFFSET), later, next, None, None);
                self.enter(later);
                self.b.mov(whole, 0);
                self.goto(done);
            }
            self.enter(next);
        }
        self.goto(done);
        self.enter(done);
        let mut answer = proto;
        for (part, reg) in [
            (Walked::Proto, proto),
            (Walked::Length, off),
            (Walked::First, whole),
        ] {
            let num: NumId = self.nums.intern(Num::Walk { net, part });
            self.state.set_reg(num, reg);
            if part == wanted {
                answer = reg;
            }
        }
        Ok(answer)
    }

    fn plus(&mut self, to: Reg, what: Operand) {
        self.b.push(Op::Bin {
            op: BinOp::Add,
            width: Width::W64,
            dst: to,
            a: to,
            b: what,
        });
    }

    /// `dst` = the number at `base + off`, which is checked to be inside.
    fn number(&mut self, net: Place, base: Reg, off: i64, size: Size, dst: Reg) -> Result<(), Ended> {
        let (packet, len) = self.window(net.window)?;
        let place = match off {
            0 => base,
            off => self.b.add(base, off),
        };
        let end = self.b.add(place, i64::from(size.bytes()));
        self.b.branch_if(Cond::SGt, end, len, self.miss);
        self.b.push(Op::PacketLoad {
            dst,
            packet,
            off: Operand::Reg(place),
            size,
            swap: size != Size::B1,
        });
        Ok(())
    }
}
