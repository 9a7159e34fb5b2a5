//! Lowering of loads from kernel memory and from packets: few helper calls, each for many bytes.
//!
//! - Kernel loads from one register within one block share one `bpf_probe_read_kernel` when they fit
//!   [`READ_SPAN`] bytes; each then loads from the stack. A read that faults gives zeros for all of them.
//! - A packet's constant-offset bytes are read once, when it is opened, into its window.
//! - Kernels with `bpf_rdonly_cast` (6.2+) need neither: the address is declared to be memory that the program may
//!   read, which costs nothing when it runs, and each load is a plain one. The kernel makes them safe: one that
//!   faults gives 0. Neighbours share one ([`super::wide`]).
//!
//! Deliberately absent: reads shared between blocks. A front end that wants them loads at the dominating block.

use std::collections::BTreeMap;

use super::lower::Lower;
use super::mir::*;
use super::wide::{self, Wide};
use super::{Error, PacketAccess};
use crate::ir::{BlockData, Function, Op, Operand, Reg, Size, Type};
use crate::isa::{Helper, op};
use crate::kernel::RdonlyCast;

/// How many bytes of a kernel object one read covers at most.
const READ_SPAN: i32 = 64;
/// How many bytes of such reads a block holds on the stack at a time.
const READ_BYTES_HELD: i32 = 128;
/// How many bytes of a packet its window holds at most.
const WINDOW_MAX: u32 = 128;

/// The copy of a packet's first bytes on the stack.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Which memory area.
    pub area: usize,
    /// Where in the area the packet starts, chosen so that most loads are aligned.
    skew: u32,
    /// Bytes.
    len: u32,
}

/// The windows of a function's packets, the first of which is area number `first_area`; and their areas.
pub fn windows(
    func: &Function,
    access: PacketAccess,
    casts: bool,
    first_area: usize,
) -> (BTreeMap<Reg, Window>, Vec<FrameDecl>) {
    let mut windows = BTreeMap::new();
    let mut areas = vec![];
    if access != PacketAccess::KernelRead || casts {
        return (windows, areas);
    }
    let mut loads: BTreeMap<Reg, Vec<(u32, Size)>> = BTreeMap::new();
    for inst in func.blocks.iter().flat_map(|block| &block.insts) {
        if let Op::PacketLoad {
            packet,
            off: Operand::Imm(off),
            size,
            ..
        } = inst.op
            && let Ok(off) = u32::try_from(off)
            && off <= WINDOW_MAX - size.bytes()
        {
            loads.entry(packet).or_default().push((off, size));
        }
    }
    for (packet, loads) in loads {
        let end = loads
            .iter()
            .map(|(off, size)| off + size.bytes())
            .max()
            .unwrap_or(0);
        let len = end.next_multiple_of(8);
        let aligned = |skew: u32| {
            loads
                .iter()
                .filter(|(off, size)| (off + skew).is_multiple_of(size.bytes()))
                .count()
        };
        // The first of the best.
        let skew = [6, 4, 2, 0]
            .into_iter()
            .max_by_key(|&skew| aligned(skew))
            .unwrap_or(0);
        let area = first_area + areas.len();
        areas.push(FrameDecl {
            size: skew + len,
            align: 8,
        });
        windows.insert(packet, Window { area, skew, len });
    }
    (windows, areas)
}

/// Stack memory for the time between two instructions of a block.
pub struct Temps {
    all: Vec<(Frame, u32)>,
    free: Vec<(Frame, u32)>,
    /// Bytes that may go to places of their own.
    fixed_left: u32,
}

impl Temps {
    /// With so many bytes for places of their own.
    pub fn new(fixed_left: u32) -> Temps {
        Temps {
            all: vec![],
            free: vec![],
            fixed_left,
        }
    }

    /// `size` bytes that nobody else gets, if there is room for that, else as [`Temps::take`].
    fn take_fixed(&mut self, func: &mut Mfunc, size: u32) -> Frame {
        let size = size.next_multiple_of(8);
        if size > self.fixed_left {
            return self.take(func, size);
        }
        self.fixed_left -= size;
        let frame = func.frame(size, 8);
        func.fixed.insert(frame);
        frame
    }

    /// `size` bytes, aligned to 8.
    pub fn take(&mut self, func: &mut Mfunc, size: u32) -> Frame {
        let size = size.next_multiple_of(8);
        let fit = (0..self.free.len())
            .filter(|&i| self.free[i].1 >= size)
            .min_by_key(|&i| self.free[i].1);
        match fit {
            Some(i) => self.free.remove(i).0,
            None => {
                let frame = func.frame(size, 8);
                self.all.push((frame, size));
                frame
            }
        }
    }

    pub fn give_back(&mut self, frame: Frame) {
        if let Some(entry) = self.all.iter().find(|(f, _)| *f == frame)
            && !self.free.contains(entry)
        {
            self.free.push(*entry);
        }
    }

    /// At the end of a block.
    pub fn free_all(&mut self) {
        self.free = self.all.clone();
    }
}

/// Loads of a block that share one read.
struct Group {
    base: Reg,
    /// The bytes read: from `lo` to before `hi`, relative to the base.
    lo: i32,
    hi: i32,
    /// Where relative to the base the stack copy starts, so that aligned fields stay aligned.
    anchor: i32,
    /// Instruction of the last load.
    last: usize,
    /// The copy, once it is read.
    frame: Option<Frame>,
    /// Its start, once it is cast.
    cast: Option<V>,
    /// Loads that several of its loads share, where it is cast.
    wides: Vec<Wide>,
}

/// The reads of a block.
#[derive(Default)]
pub struct Reads {
    groups: Vec<Group>,
    /// Which group each instruction belongs to.
    member: BTreeMap<usize, usize>,
    /// Which of its group's shared loads an instruction's field is in.
    wide: BTreeMap<usize, usize>,
}

impl Reads {
    /// Form groups.
    pub fn plan(func: &Function, block: &BlockData) -> Reads {
        let mut reads = Reads::default();
        for (i, inst) in block.insts.iter().enumerate() {
            if reads.member.contains_key(&i) {
                continue;
            }
            let Some((base, off, size)) = helper_load(func, &inst.op) else {
                continue;
            };
            let bytes = size.bytes() as i32;
            let mut group = Group {
                base,
                lo: off,
                hi: off + bytes,
                anchor: 0,
                last: i,
                frame: None,
                cast: None,
                wides: vec![],
            };
            let aligned = |off: i32, size: Size| off % size.bytes() as i32 == 0;
            let index = reads.groups.len();
            reads.member.insert(i, index);
            if aligned(off, size) {
                let held: i32 = reads
                    .groups
                    .iter()
                    .filter(|g| g.last > i)
                    .map(|g| g.hi - g.lo)
                    .sum();
                if held + READ_SPAN <= READ_BYTES_HELD {
                    reads.extend(func, block, i, index, &mut group);
                }
                group.anchor = group.lo & !7;
            } else {
                group.anchor = group.lo;
            }
            reads.groups.push(group);
        }
        reads.share(func, block);
        reads
    }

    /// Find loads that one load serves.
    fn share(&mut self, func: &Function, block: &BlockData) {
        for (g, group) in self.groups.iter_mut().enumerate() {
            let members: Vec<usize> = self
                .member
                .iter()
                .filter_map(|(&at, &of)| (of == g).then_some(at))
                .collect();
            let fields: Vec<(i32, Size)> = members
                .iter()
                .filter_map(|&at| helper_load(func, &block.insts[at].op))
                .map(|(_, off, size)| (off, size))
                .collect();
            let (wides, of) = wide::plan(&fields, group.lo + RdonlyCast::BYTES as i32);
            let shared = members.into_iter().zip(of);
            self.wide
                .extend(shared.filter_map(|(at, wide)| Some((at, wide?))));
            group.wides = wides;
        }
    }

    /// Add later loads of the block to a group that starts at instruction `i`.
    fn extend(&mut self, func: &Function, block: &BlockData, i: usize, index: usize, group: &mut Group) {
        for (j, inst) in block.insts.iter().enumerate().skip(i) {
            if j > i
                && !self.member.contains_key(&j)
                && let Some((base, off, size)) = helper_load(func, &inst.op)
                && base == group.base
                && off % size.bytes() as i32 == 0
            {
                let lo = group.lo.min(off);
                let hi = group.hi.max(off + size.bytes() as i32);
                if hi - (lo & !7) <= READ_SPAN {
                    (group.lo, group.hi, group.last) = (lo, hi, j);
                    self.member.insert(j, index);
                }
            }
            if inst.op.dst() == Some(group.base) {
                return;
            }
        }
    }
}

/// A kernel load that takes a helper.
fn helper_load(func: &Function, op: &Op) -> Option<(Reg, i32, Size)> {
    match *op {
        Op::KernelLoad { base, off, size, .. } if !direct(func, base) => Some((base, off, size)),
        _ => None,
    }
}

fn direct(func: &Function, base: Reg) -> bool {
    matches!(func.regs[base.0 as usize], Type::Kernel { direct: true })
}

impl Lower<'_> {
    /// Packets are read by plain loads from kernel memory.
    fn casts(&self) -> bool {
        self.packet_access() == PacketAccess::KernelRead && self.options.features.rdonly_cast.is_some()
    }

    pub fn kernel_load(&mut self, at: usize, dst: Reg, base: Reg, off: i32, size: Size, signed: bool) {
        if direct(self.ir, base) {
            let (from, off) = self.base(Base::V(V(base.0)), off);
            self.load(V(dst.0), from, off, size, signed, true);
            if size == Size::B8 && self.wants_number(dst) {
                self.scrub(V(dst.0));
            }
            return;
        }
        let index = self.reads.member[&at];
        let group = &self.reads.groups[index];
        let (lo, hi, anchor, last) = (group.lo, group.hi, group.anchor, group.last);
        if self.options.features.rdonly_cast.is_some() {
            let cast = match group.cast {
                Some(cast) => cast,
                None => {
                    let from = self.sum(V(base.0), Operand::Imm(lo.into()));
                    let cast = self.out.vreg();
                    self.cast(cast, from);
                    self.reads.groups[index].cast = Some(cast);
                    cast
                }
            };
            let Some(&wide) = self.reads.wide.get(&at) else {
                return self.load(V(dst.0), Base::V(cast), off - lo, size, signed, true);
            };
            let Wide {
                off: start,
                size: whole,
                reg,
            } = self.reads.groups[index].wides[wide];
            let from = match reg {
                Some(from) => from,
                None => {
                    let from = self.out.vreg();
                    self.load(from, Base::V(cast), start - lo, whole, false, true);
                    self.reads.groups[index].wides[wide].reg = Some(from);
                    from
                }
            };
            return self.field_of(V(dst.0), from, whole, off - start, size, signed);
        }
        let frame = match group.frame {
            Some(frame) => frame,
            None => {
                let frame = self.temps.take_fixed(&mut self.out, (hi - anchor) as u32);
                self.probe_read(Arg::Frame(frame, lo - anchor), (hi - lo) as u32, V(base.0), lo);
                self.reads.groups[index].frame = Some(frame);
                frame
            }
        };
        self.load(V(dst.0), Base::Frame(frame), off - anchor, size, signed, true);
        if last == at {
            self.temps.give_back(frame);
        }
    }

    /// Make `dst` the address `from` of memory that plain loads may read, [`RdonlyCast::BYTES`] of it.
    pub fn cast(&mut self, dst: V, from: V) {
        if let Some(RdonlyCast { function, bytes }) = self.options.features.rdonly_cast {
            self.push(Mop::Call {
                callee: Callee::Kfunc(function),
                args: vec![Arg::V(from), Arg::Imm(bytes.into())],
                dst: Some(dst),
            });
        }
    }

    /// The cast start of a packet.
    fn packet_cast(&mut self, packet: Reg) -> V {
        match self.packet_casts.get(&packet) {
            Some(cast) => *cast,
            None => {
                let cast = self.out.vreg();
                self.packet_casts.insert(packet, cast);
                cast
            }
        }
    }

    /// Copy `len` bytes from kernel address `base + off`.
    pub fn probe_read(&mut self, to: Arg, len: u32, base: V, off: i32) {
        let from = self.sum(base, Operand::Imm(off.into()));
        self.push(Mop::Call {
            callee: Callee::Helper(Helper::ProbeReadKernel),
            args: vec![to, Arg::Imm(len.into()), Arg::V(from)],
            dst: None,
        });
    }

    /// `base + off` in a register.
    fn sum(&mut self, base: V, off: Operand) -> V {
        if off == Operand::Imm(0) {
            return base;
        }
        let sum = self.out.vreg();
        let off = self.src(off, true);
        self.mov(sum, base);
        self.alu(op::ADD, true, sum, off);
        sum
    }

    pub fn packet_open(&mut self, dst: Reg, start: Reg) {
        self.mov(V(dst.0), V(start.0));
        if self.is_direct(start) {
            self.scrub(V(dst.0));
        }
        if self.casts() {
            let cast = self.packet_cast(dst);
            self.cast(cast, V(dst.0));
        }
        if let Some(&window) = self.packets.get(&dst) {
            let to = self.area_arg(window.area, window.skew as i32);
            self.probe_read(to, window.len, V(dst.0), 0);
        }
    }

    pub fn packet_load(
        &mut self,
        dst: V,
        packet: Reg,
        off: Operand,
        size: Size,
        swap: bool,
    ) -> Result<(), Error> {
        let start = V(packet.0);
        match self.packet_access() {
            PacketAccess::KernelRead if self.casts() => {
                let within = |off: i64| off >= 0 && off + i64::from(size.bytes()) <= RdonlyCast::BYTES.into();
                let (base, off) = match off {
                    Operand::Imm(off) if within(off) => (self.packet_cast(packet), off as i32),
                    off => {
                        let from = self.sum(start, off);
                        let cast = self.out.vreg();
                        self.cast(cast, from);
                        (cast, 0)
                    }
                };
                self.load(dst, Base::V(base), off, size, false, false);
            }
            PacketAccess::KernelRead => match (self.packets.get(&packet).copied(), off) {
                (Some(window), Operand::Imm(off))
                    if off >= 0 && off + i64::from(size.bytes()) <= i64::from(window.len) =>
                {
                    let (base, off) = self.area(window.area, window.skew as i32 + off as i32);
                    self.unaligned_load(dst, base, off, size);
                }
                _ => {
                    let from = self.sum(start, off);
                    let temp = self.temps.take(&mut self.out, 8);
                    self.probe_read(Arg::Frame(temp, 0), size.bytes(), from, 0);
                    self.load(dst, Base::Frame(temp), 0, size, false, false);
                    self.temps.give_back(temp);
                }
            },
            PacketAccess::SkbLoad => {
                let ctx = self.context()?;
                let from = self.sum(start, off);
                let temp = self.temps.take(&mut self.out, 8);
                self.push(Mop::Call {
                    callee: Callee::Helper(Helper::SkbLoadBytes),
                    args: vec![
                        Arg::V(ctx),
                        Arg::V(from),
                        Arg::Frame(temp, 0),
                        Arg::Imm(size.bytes().into()),
                    ],
                    dst: None,
                });
                self.load(dst, Base::Frame(temp), 0, size, false, false);
                self.temps.give_back(temp);
            }
            PacketAccess::Memory => {
                let (base, off) = match off {
                    Operand::Imm(off) if i32::try_from(off).is_ok() => self.base(Base::V(start), off as i32),
                    off => (Base::V(self.sum(start, off)), 0),
                };
                self.load(dst, base, off, size, false, false);
            }
        }
        if swap && size != Size::B1 {
            self.swap(dst, size);
        }
        Ok(())
    }

    /// A load from the stack that may be unaligned there, which the kernel's verifier refuses: take the number
    /// together from aligned pieces. Scratch may be read at any address.
    fn unaligned_load(&mut self, dst: V, base: Base, off: i32, size: Size) {
        let bytes = size.bytes() as i32;
        if off % bytes == 0 || matches!(base, Base::V(_)) {
            return self.load(dst, base, off, size, false, false);
        }
        let mut at = 0;
        while at < bytes {
            let piece = 1 << (off + at).trailing_zeros().min((bytes - at).ilog2());
            let piece_size = match piece {
                1 => Size::B1,
                2 => Size::B2,
                _ => Size::B4,
            };
            let to = if at == 0 { dst } else { self.out.vreg() };
            self.load(to, base, off + at, piece_size, false, false);
            if at > 0 {
                self.alu(op::LSH, true, to, Src::Imm(at * 8));
                self.alu(op::OR, true, dst, Src::V(to));
            }
            at += piece;
        }
    }
}
