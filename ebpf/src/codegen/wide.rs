//! One load for neighbouring fields, where kernel memory is read by plain loads: the kernel's compiler puts a check of
//! the address before each of them, six to seven instructions, while taking a field out of a register is two or three.
//!
//! Deliberately absent: big-endian machines.

use std::ops::Range;

use super::lower::Lower;
use super::mir::*;
use crate::ir::Size;
use crate::isa::op;

/// How many bytes one load takes at most.
const WIDE: i32 = 8;

/// A load that takes several fields.
#[derive(Clone, Copy, Debug)]
pub struct Wide {
    /// Where it is, and how much it takes.
    pub off: i32,
    pub size: Size,
    /// What it took, once it is done.
    pub reg: Option<V>,
}

/// The loads for fields at these offsets, none of which reads more than to the next multiple of 8 behind the fields
/// that it is for, or behind `end`; and which field is in which. A field on its own has none.
pub fn plan(fields: &[(i32, Size)], end: i32) -> (Vec<Wide>, Vec<Option<usize>>) {
    let mut order: Vec<usize> = (0..fields.len()).collect();
    order.sort_by_key(|&i| fields[i].0);
    let range = |i: usize| -> Range<i32> { fields[i].0..fields[i].0 + fields[i].1.bytes() as i32 };
    let mut wides = vec![];
    let mut of = vec![None; fields.len()];
    let mut rest = &order[..];
    while let Some(&first) = rest.first() {
        let start = range(first).start;
        let within = |&&i: &&usize| range(i).end <= start + WIDE;
        let together = rest.iter().take_while(within).count();
        let (these, others) = rest.split_at(together);
        rest = others;
        let last = these.iter().map(|&i| range(i).end).max().unwrap_or(start);
        let size = match last - start {
            ..=1 => Size::B1,
            2 => Size::B2,
            3..=4 => Size::B4,
            _ => Size::B8,
        };
        let stop = start + size.bytes() as i32;
        if together < 2 || stop > ((last + 7) & !7) || stop > end {
            continue;
        }
        for &i in these {
            of[i] = Some(wides.len());
        }
        wides.push(Wide {
            off: start,
            size,
            reg: None,
        });
    }
    (wides, of)
}

impl Lower<'_> {
    /// `dst` = the field of `size` that is `off` bytes into a number of `whole` in `from`.
    pub fn field_of(&mut self, dst: V, from: V, whole: Size, off: i32, size: Size, signed: bool) {
        let (bits, below) = (size.bytes() as i32 * 8, off * 8);
        if size == whole {
            return self.copy(dst, from);
        }
        self.mov(dst, from);
        if signed {
            self.alu(op::LSH, true, dst, Src::Imm(64 - bits - below));
            self.alu(op::ARSH, true, dst, Src::Imm(64 - bits));
            return;
        }
        self.alu(op::RSH, true, dst, Src::Imm(below));
        if off + (size.bytes() as i32) < whole.bytes() as i32 {
            match size {
                Size::B4 => self.push(Mop::Mov32 { dst, src: dst }),
                _ => self.alu(op::AND, true, dst, Src::Imm((1 << bits) - 1)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(fields: &[(i32, Size)], end: i32) -> Vec<(i32, Size, Vec<usize>)> {
        let (wides, of) = plan(fields, end);
        let members = |w| (0..fields.len()).filter(|&i| of[i] == Some(w)).collect();
        wides
            .iter()
            .enumerate()
            .map(|(w, wide)| (wide.off, wide.size, members(w)))
            .collect()
    }

    #[test]
    fn neighbours_share_a_load() {
        let fields = [(184, Size::B2), (200, Size::B8), (180, Size::B2), (188, Size::B4)];
        assert_eq!(planned(&fields, 244), [(180, Size::B8, vec![0, 2])]);
        let fields = [(4, Size::B1), (6, Size::B2)];
        assert_eq!(planned(&fields, 64), [(4, Size::B4, vec![0, 1])]);
    }

    #[test]
    fn the_same_field_is_loaded_once() {
        let fields = [(200, Size::B8), (208, Size::B8), (200, Size::B8)];
        assert_eq!(planned(&fields, 244), [(200, Size::B8, vec![0, 2])]);
    }

    #[test]
    fn nothing_is_read_that_may_be_no_memory() {
        // 8 bytes from 6 would reach beyond 8, where the object may end.
        assert_eq!(planned(&[(2, Size::B4), (6, Size::B2)], 64), []);
        assert_eq!(planned(&[(0, Size::B4), (4, Size::B2)], 6), []);
    }
}
