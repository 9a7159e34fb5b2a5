//! Random IR programs that follow all rules and always end: structured control flow over a pool of variables,
//! with every kind of operation, calls, loops, memory, and far more live values than there are registers.

use ktrail_ebpf::ir::*;
use ktrail_ebpf::isa::Helper;

/// Marsaglia's xorshift.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    /// Below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
    /// A number that is likely to be near an edge.
    pub fn number(&mut self) -> i64 {
        match self.below(8) {
            0 => 0,
            1 => self.below(16) as i64 - 8,
            2 => 1 << self.below(64),
            3 => (1u64 << self.below(64)).wrapping_sub(1) as i64,
            4 => i64::from(self.next() as i32),
            5 => i64::from(self.next() as u32),
            6 => self.pick(&[
                i64::MIN,
                i64::MAX,
                i32::MIN.into(),
                i32::MAX.into(),
                u32::MAX.into(),
                -1,
            ]),
            _ => self.next() as i64,
        }
    }
}

/// Sizes of what random programs may touch.
pub const KERNEL_OBJECT: usize = 256;
pub const PACKET: usize = 192;
/// The kernel object holds the address of another object at each multiple of this.
pub const POINTER_EVERY: usize = 32;
const SLOT: u32 = 24;
const VALUE: u32 = 64;

const ARRAY: MapRef = MapRef(0);
const HASH: MapRef = MapRef(1);
const RING: MapRef = MapRef(2);

/// What a generated program may use.
#[derive(Clone, Copy)]
pub struct Shape {
    /// With the arguments of a tracing program; a classifier has its packet, at offset 14.
    pub kind: ProgramKind,
    /// Ask for the time, which no two runs agree about.
    pub clock: bool,
    /// Variables that live all through the function.
    pub variables: u64,
    /// Statements, about.
    pub size: u64,
    /// Atomic operations other than plain addition.
    pub atomics: bool,
    /// Bytes of slots that are never used otherwise, to overflow the stack.
    pub ballast: u32,
}

struct Gen<'a> {
    rng: &'a mut Rng,
    b: Builder,
    shape: Shape,
    vars: Vec<Reg>,
    /// Initialised slots.
    slots: Vec<Slot>,
    /// A kernel address and an open packet, in the entry function.
    kernel: Option<Reg>,
    packet: Option<Reg>,
    /// Functions that may be called: number and parameters.
    callees: Vec<(FuncRef, usize)>,
    budget: u64,
    /// Trips of all loops around here.
    trips: u64,
}

/// A program. The arguments of one that traces: a kernel object, a packet's address, three numbers.
pub fn program(rng: &mut Rng, shape: Shape) -> Program {
    let count = 1 + rng.below(3) as usize;
    let params: Vec<usize> = (0..count)
        .map(|i| if i == 0 { 0 } else { rng.below(6) as usize })
        .collect();
    let mut functions: Vec<Function> = (0..count)
        .rev()
        .map(|index| {
            let callees = (index + 1..count)
                .map(|i| (FuncRef(i as u32), params[i]))
                .collect();
            function(rng, shape, index, params[index], callees)
        })
        .collect();
    functions.reverse();
    let map = |name: &str, kind, key_size, value_size, max_entries| MapDecl {
        name: name.into(),
        kind,
        key_size,
        value_size,
        max_entries,
    };
    Program {
        name: "random".into(),
        kind: shape.kind,
        maps: vec![
            map("array", MapKind::Array, 4, VALUE, 1),
            map("hash", MapKind::Hash, 8, 16, 8),
            map("ring", MapKind::RingBuf, 0, 0, 4096),
        ],
        functions,
    }
}

fn function(
    rng: &mut Rng,
    shape: Shape,
    index: usize,
    params: usize,
    callees: Vec<(FuncRef, usize)>,
) -> Function {
    let budget = if index == 0 { shape.size } else { shape.size / 4 };
    let mut g = Gen {
        rng,
        b: Builder::new(&format!("f{index}")),
        shape,
        vars: vec![],
        slots: vec![],
        kernel: None,
        packet: None,
        callees,
        budget,
        trips: 1,
    };
    if g.rng.chance(25) {
        g.b.lean();
    }
    g.run(index == 0, params);
    g.b.finish()
}

impl Gen<'_> {
    fn run(&mut self, entry: bool, params: usize) {
        self.vars = (0..params).map(|_| self.b.param(Type::Int)).collect();
        if entry && self.shape.kind == ProgramKind::SchedCls {
            let start = self.b.imm(14);
            let packet = self.b.reg(Type::Packet);
            self.b.push(Op::PacketOpen { dst: packet, start });
            self.packet = Some(packet);
        } else if entry {
            self.kernel = Some(self.b.arg(0, Type::Kernel { direct: false }));
            let start = self.b.arg(1, Type::Kernel { direct: false });
            let packet = self.b.reg(Type::Packet);
            self.b.push(Op::PacketOpen { dst: packet, start });
            self.packet = Some(packet);
            for i in 2..5 {
                let arg = self.b.arg(i, Type::Int);
                self.vars.push(arg);
            }
        }
        let variables = 1 + self.rng.below(self.shape.variables);
        while (self.vars.len() as u64) < variables {
            let value = self.rng.number();
            let var = self.b.imm(value);
            self.vars.push(var);
        }
        for _ in 0..1 + self.rng.below(2) {
            self.initialised_slot(SLOT);
        }
        if entry && self.shape.ballast > 0 {
            // One whole slot of ballast, filled through its address.
            let slot = self.b.slot(self.shape.ballast, 8);
            let address = self.b.slot_addr(slot);
            for off in (0..self.shape.ballast).step_by(8) {
                self.b.store(address, off as i32, i64::from(off), Size::B8);
            }
            self.slots.push(slot);
        }
        self.statements(0);
        // Everything that was computed counts.
        let hash = self.b.imm(1);
        for var in self.vars.clone() {
            let scaled = self.b.bin(BinOp::Mul, Width::W64, hash, 31);
            let sum = self.b.add(scaled, var);
            self.b.mov(hash, sum);
        }
        for slot in self.slots.clone() {
            let address = self.b.slot_addr(slot);
            let value = self.b.load(address, 16, Size::B8);
            let sum = self.b.bin(BinOp::Xor, Width::W64, hash, value);
            self.b.mov(hash, sum);
        }
        self.b.ret(hash);
    }

    fn initialised_slot(&mut self, size: u32) {
        let slot = self.b.slot(size, 8);
        let address = self.b.slot_addr(slot);
        for off in (0..size).step_by(8) {
            let value = self.operand();
            self.b.store(address, off as i32, value, Size::B8);
        }
        self.slots.push(slot);
    }

    fn statements(&mut self, depth: u32) {
        let count = 1 + self.rng.below(12);
        for _ in 0..count {
            if self.budget == 0 {
                return;
            }
            self.budget -= 1;
            match self.rng.below(100) {
                0..12 if depth < 5 => self.branch(depth),
                12..17 if depth < 3 && self.trips < 20 => self.bounded_loop(depth),
                17..18 if depth > 0 => {
                    let value = self.operand();
                    self.b.ret(value);
                    let rest = self.b.block();
                    self.b.switch_to(rest);
                    return;
                }
                _ => self.statement(),
            }
        }
    }

    fn var(&mut self) -> Reg {
        self.rng.pick(&self.vars)
    }

    fn operand(&mut self) -> Operand {
        if self.rng.chance(40) {
            Operand::Imm(self.rng.number())
        } else {
            Operand::Reg(self.var())
        }
    }

    fn width(&mut self) -> Width {
        self.rng.pick(&[Width::W32, Width::W64, Width::W64])
    }

    fn size(&mut self) -> Size {
        self.rng.pick(&[Size::B1, Size::B2, Size::B4, Size::B8])
    }

    /// A fresh register or a variable, which then has a new value.
    fn target(&mut self) -> Reg {
        if self.rng.chance(70) {
            self.var()
        } else {
            self.b.int()
        }
    }

    fn branch(&mut self, depth: u32) {
        let (then, otherwise, join) = (self.b.block(), self.b.block(), self.b.block());
        let one_sided = self.rng.chance(40);
        let cond = self.cond();
        let term = Term::Branch {
            cond,
            width: self.width(),
            a: self.var(),
            b: self.operand(),
            then,
            otherwise: if one_sided { join } else { otherwise },
        };
        self.b.terminate(term);
        self.b.switch_to(then);
        self.statements(depth + 1);
        self.b.jump(join);
        self.b.switch_to(otherwise);
        if !one_sided {
            self.statements(depth + 1);
        }
        self.b.jump(join);
        self.b.switch_to(join);
    }

    fn cond(&mut self) -> Cond {
        self.rng.pick(&[
            Cond::Eq,
            Cond::Ne,
            Cond::Lt,
            Cond::Le,
            Cond::Gt,
            Cond::Ge,
            Cond::SLt,
            Cond::SLe,
            Cond::SGt,
            Cond::SGe,
            Cond::Test,
        ])
    }

    /// `while a cond b`, at most so often; or a loop that only its bound ends.
    fn bounded_loop(&mut self, depth: u32) {
        let (header, body, exit) = (self.b.block(), self.b.block(), self.b.block());
        let max = 1 + self.rng.below(5);
        self.trips *= max;
        // Also bounds beyond what is walked round by round, on loops that end themselves.
        let counter = self.b.imm(0);
        let bound = if self.rng.chance(30) { 100_000 } else { max as u32 };
        self.b.bound(header, bound, exit);
        self.b.jump(header);
        self.b.switch_to(header);
        self.b.branch_if(Cond::Ge, counter, max as i64, exit);
        let cond = self.cond();
        let (a, b) = (self.var(), self.operand());
        self.b.branch(cond, a, b, exit, body);
        self.b.switch_to(body);
        let next = self.b.add(counter, 1);
        self.b.mov(counter, next);
        self.statements(depth + 1);
        self.b.jump(header);
        self.b.switch_to(exit);
        self.trips /= max;
    }

    fn statement(&mut self) {
        match self.rng.below(24) {
            0..7 => self.arithmetic(),
            7 => {
                let (dst, src) = (self.target(), self.operand());
                self.b.mov(dst, src);
            }
            8 => {
                let op = Op::Neg {
                    width: self.width(),
                    dst: self.target(),
                    src: self.var(),
                };
                self.keep(op);
            }
            9 => {
                let op = Op::Swap {
                    size: self.size(),
                    dst: self.target(),
                    src: self.var(),
                };
                self.keep(op);
            }
            10 => {
                let op = Op::Extend {
                    size: self.size(),
                    signed: self.rng.chance(50),
                    dst: self.target(),
                    src: self.var(),
                };
                self.keep(op);
            }
            11 | 12 => self.slot_access(),
            13 => self.map_data_access(),
            14 => self.hash_access(),
            15 => self.record(),
            16 | 17 => self.kernel_loads(),
            18 | 19 => self.packet_load(),
            20 if self.shape.clock => {
                let now = self.b.call(Helper::KtimeGetNs, vec![]);
                self.vars.push(now);
                self.replace_var();
            }
            21 => self.call_function(),
            22 => self.kernel_read(),
            _ => self.slot_through_helper(),
        }
    }

    /// Push an operation and, if its result is a new register, put it into a variable.
    fn keep(&mut self, op: Op) {
        let dst = op.dst();
        self.b.push(op);
        if let Some(dst) = dst
            && !self.vars.contains(&dst)
        {
            self.assign(dst);
        }
    }

    fn assign(&mut self, value: Reg) {
        let var = self.var();
        self.b.mov(var, value);
    }

    /// The last of the variables is new here and may not be visible elsewhere: move it.
    fn replace_var(&mut self) {
        if let Some(new) = self.vars.pop() {
            self.assign(new);
        }
    }

    fn arithmetic(&mut self) {
        let op = Op::Bin {
            op: self.rng.pick(&[
                BinOp::Add,
                BinOp::Sub,
                BinOp::Mul,
                BinOp::Div,
                BinOp::Mod,
                BinOp::SDiv,
                BinOp::SMod,
                BinOp::And,
                BinOp::Or,
                BinOp::Xor,
                BinOp::Shl,
                BinOp::Shr,
                BinOp::Sar,
            ]),
            width: self.width(),
            dst: self.target(),
            a: self.var(),
            b: self.operand(),
        };
        self.keep(op);
    }

    /// Load, store or update `base`, which has `len` bytes.
    fn access(&mut self, base: Reg, len: u32, atomics: bool) {
        let size = self.size();
        let off = (self.rng.below(u64::from(len / size.bytes())) as u32 * size.bytes()) as i32;
        match self.rng.below(3) {
            0 => {
                let op = Op::Load {
                    dst: self.target(),
                    base,
                    off,
                    size,
                    signed: self.rng.chance(50),
                };
                self.keep(op);
            }
            1 => {
                let src = self.operand();
                self.b.store(base, off, src, size);
            }
            _ => {
                let size = self.rng.pick(&[Size::B4, Size::B8]);
                let off = off & !7;
                let plain = !self.shape.atomics || !atomics;
                let op = if plain {
                    AtomicOp::Add
                } else {
                    self.rng.pick(&[
                        AtomicOp::Add,
                        AtomicOp::And,
                        AtomicOp::Or,
                        AtomicOp::Xor,
                        AtomicOp::Xchg,
                    ])
                };
                let fetch = (!plain && self.rng.chance(60)).then(|| self.target());
                let op = Op::Atomic {
                    op,
                    base,
                    off,
                    src: self.var(),
                    size,
                    fetch,
                };
                self.keep(op);
            }
        }
    }

    fn slot_access(&mut self) {
        let slot = self.rng.pick(&self.slots);
        let off = self.rng.pick(&[0, 8]);
        let base = self.b.reg(Type::Stack);
        self.b.push(Op::SlotAddr { dst: base, slot, off });
        self.access(base, SLOT - off, true);
    }

    fn map_data_access(&mut self) {
        let off = self.rng.pick(&[0, 16]);
        let base = self.b.map_data(ARRAY, off);
        self.access(base, VALUE - off, true);
    }

    fn slot_through_helper(&mut self) {
        let ring = self.b.map(RING);
        let slot = self.rng.pick(&self.slots);
        let base = self.b.slot_addr(slot);
        let len = self.rng.pick(&[8, 16, 24]);
        self.b.call_void(
            Helper::RingbufOutput,
            vec![ring.into(), base.into(), len.into(), 0.into()],
        );
    }

    fn hash_access(&mut self) {
        let key = self.b.slot(8, 8);
        let address = self.b.slot_addr(key);
        let which = self.var();
        let which = self.b.and(which, 3);
        self.b.store(address, 0, which, Size::B8);
        let map = self.b.map(HASH);
        match self.rng.below(3) {
            0 => {
                let value = self.rng.pick(&self.slots);
                let value = self.b.slot_addr(value);
                let args = vec![map.into(), address.into(), value.into(), 0.into()];
                let result = self.b.call(Helper::MapUpdateElem, args);
                self.assign(result);
            }
            1 if self.rng.chance(30) => {
                let result = self
                    .b
                    .call(Helper::MapDeleteElem, vec![map.into(), address.into()]);
                self.assign(result);
            }
            _ => {
                let ty = Type::MapValue {
                    map: HASH,
                    nullable: true,
                };
                let value = self
                    .b
                    .call_as(ty, Helper::MapLookupElem, vec![map.into(), address.into()]);
                let none = self.b.block();
                let value = self.b.non_null(value, none);
                self.access(value, 16, true);
                self.b.jump(none);
                self.b.switch_to(none);
            }
        }
    }

    fn record(&mut self) {
        let map = self.b.map(RING);
        let ty = Type::Record {
            size: 16,
            nullable: true,
        };
        let args = vec![map.into(), 16.into(), 0.into()];
        let record = self.b.call_as(ty, Helper::RingbufReserve, args);
        let none = self.b.block();
        let record = self.b.non_null(record, none);
        for off in [0, 8] {
            let value = self.operand();
            self.b.store(record, off, value, Size::B8);
        }
        let end = self.rng.pick(&[Helper::RingbufSubmit, Helper::RingbufDiscard]);
        self.b.call_void(end, vec![record.into(), 0.into()]);
        self.b.jump(none);
        self.b.switch_to(none);
    }

    fn kernel_loads(&mut self) {
        let Some(kernel) = self.kernel else { return };
        if self.rng.chance(25) {
            return self.pointer_chase(kernel);
        }
        let mut base = kernel;
        if self.rng.chance(40) {
            // Unaligned and out of bounds, too: that faults and gives zeros.
            let by = self.rng.below(KERNEL_OBJECT as u64 + 64);
            base = self.b.add(base, by as i64);
        }
        for _ in 0..1 + self.rng.below(5) {
            let size = self.size();
            // Whether a fault hits all of a shared read depends on the object's end, so stay inside.
            let room = if base == kernel { KERNEL_OBJECT } else { 8 };
            let mut off = self.rng.below(room as u64 - 7) as i32;
            if self.rng.chance(80) {
                off &= !(size.bytes() as i32 - 1);
            }
            if base != kernel {
                off = 0;
            }
            let op = Op::KernelLoad {
                dst: self.target(),
                base,
                off,
                size,
                signed: self.rng.chance(30),
            };
            self.keep(op);
            if base != kernel {
                return;
            }
        }
    }

    /// `p = p->next` between loads through `p`.
    fn pointer_chase(&mut self, kernel: Reg) {
        let p = self.b.reg(Type::Kernel { direct: false });
        self.b.mov(p, kernel);
        for step in 0..3 {
            let dst = self.target();
            let off = 8 * self.rng.below(8) as i32;
            self.keep(Op::KernelLoad {
                dst,
                base: p,
                off,
                size: Size::B8,
                signed: false,
            });
            if step == 0 {
                let off = POINTER_EVERY as i32 * self.rng.below(2) as i32;
                self.b.push(Op::KernelLoad {
                    dst: p,
                    base: p,
                    off,
                    size: Size::B8,
                    signed: false,
                });
            }
        }
    }

    fn kernel_read(&mut self) {
        let Some(base) = self.kernel else { return };
        let slot = self.rng.pick(&self.slots);
        let op = Op::KernelRead {
            slot,
            slot_off: self.rng.pick(&[0, 5, 8]),
            base,
            off: self.rng.below(KERNEL_OBJECT as u64) as i32,
            len: 1 + self.rng.below(16) as u32,
        };
        self.b.push(op);
    }

    fn packet_load(&mut self) {
        let Some(packet) = self.packet else { return };
        let size = self.size();
        let off = if self.rng.chance(70) {
            Operand::Imm(self.rng.below(PACKET as u64 - 8) as i64)
        } else {
            let var = self.var();
            self.b.and(var, 127).into()
        };
        let op = Op::PacketLoad {
            dst: self.target(),
            packet,
            off,
            size,
            swap: self.rng.chance(50),
        };
        let dst = op.dst();
        self.keep(op);
        if let Some(dst) = dst
            && self.rng.chance(50)
        {
            // Comparisons with constants are folded into the load.
            let fresh = self.b.int();
            let swap = self.rng.chance(70);
            self.b.push(Op::PacketLoad {
                dst: fresh,
                packet,
                off,
                size,
                swap,
            });
            let (then, join) = (self.b.block(), self.b.block());
            let cond = self.rng.pick(&[Cond::Eq, Cond::Ne]);
            let value = self.rng.pick(&[0, 0x0101, 0x4242_4242, 0x0800, 0xffff]);
            self.b.branch(cond, fresh, value, then, join);
            self.b.switch_to(then);
            if self.vars.contains(&dst) {
                self.b.mov(dst, 77);
            }
            self.b.jump(join);
            self.b.switch_to(join);
        }
    }

    fn call_function(&mut self) {
        if self.callees.is_empty() || self.trips > 5 {
            return;
        }
        let (func, params) = self.rng.pick(&self.callees);
        let args = (0..params).map(|_| self.operand()).collect();
        let dst = Some(self.target());
        self.keep(Op::CallFn { dst, func, args });
    }
}
