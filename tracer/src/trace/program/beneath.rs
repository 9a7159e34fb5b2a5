//! Functions that take no packet: which of them run on behalf of one that is followed, and what they return.
//!
//! Each stack that the kernel runs on (a task's, or a CPU's for interrupts) has an entry in `active`: the packet that
//! was seen there last, and the frames of two of its functions, the outermost and the latest. A frame is known to be in
//! use while what runs is deeper and the return address in it is the one that it had when the function was entered. So
//! a call counts for the packet if the outermost frame is in use: that packet's function has not returned.
//!
//! Deliberately absent: other machines than x86-64, which keep the return address elsewhere, and the frames between
//! those two.

use ktrail_ebpf::ir::{BinOp, Block, Cond, MapRef, Op, Program, Reg, Size, Type, Width};
use ktrail_ebpf::isa::Helper;

use super::super::record::{self, Record, SignCode};
use super::{Body, EVENTS, Place, Spec, Stat, maps};

const ACTIVE: MapRef = MapRef(4);
const CALLS: MapRef = MapRef(5);

/// Bytes of a value in `active`.
pub(super) const ACTIVE_SIZE: u32 = 64;
const JOURNEY: i32 = 0;
const SKB: i32 = 8;
/// Frames: the stack pointer at the function's entry, the return address that it points to, and the function.
const OUTER: i32 = 16;
const LAST: i32 = 40;
const FRAME_RETURN: i32 = 8;
const FRAME_AT: i32 = 16;

/// Bytes of a value in `calls`; it begins like one in `active`.
pub(super) const CALLS_SIZE: u32 = 32;
const UNDER: i32 = 16;
const TIME: i32 = 24;

/// x86-64's `struct pt_regs`.
const REGS_RETURNED: i32 = 80;
const REGS_SP: i32 = 152;

/// The size of a task's stack on x86-64, but for kernels built to find their own mistakes (KASAN).
const THREAD_SIZE: i64 = 16 << 10;

const KERNEL: Type = Type::Kernel { direct: false };

/// Which moment of a call a program sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The entry.
    Entry,
    /// The return.
    Return,
    /// Both: a kprobe session (6.10+).
    Both,
}

/// Build the program for a function that takes no packet. Of `spec`, its packet and its role say nothing.
pub fn build(name: &str, spec: &Spec<'_>, moment: Moment) -> Program {
    let mut body = Body::new(name, spec);
    body.load_state();
    body.unless_off();
    match moment {
        Moment::Entry => body.call_begins(false),
        Moment::Return => body.call_ends(false),
        Moment::Both => {
            let (begins, ends) = (body.b.block(), body.b.block());
            let at_return = body.b.at_return();
            body.b.branch(Cond::Ne, at_return, 0, ends, begins);
            body.b.switch_to(begins);
            body.call_begins(true);
            body.b.switch_to(ends);
            body.call_ends(true);
        }
    }
    body.b.switch_to(body.out);
    body.b.ret(0);
    Program {
        name: name.into(),
        kind: spec.kind,
        maps: maps(spec.limits),
        functions: vec![body.b.finish()],
    }
}

/// A function's frame, as its entry sees it.
struct Frame {
    sp: Reg,
    /// What holds the stack's key in `active`.
    key: Reg,
}

impl Body<'_> {
    /// Where the program runs: a task's own stack is known by the task, any other by the CPU.
    fn frame(&mut self, task_stack: u32) -> Frame {
        let ctx = self.b.ctx();
        let sp = self.b.load_as(KERNEL, ctx, REGS_SP, Size::B8);
        let slot = self.b.slot(8, 8);
        let key = self.b.slot_addr(slot);
        let task = self.b.call_as(KERNEL, Helper::GetCurrentTask, vec![]);
        let base = self.b.kernel_load(task, task_stack as i32, Size::B8);
        let depth = self.b.bin(BinOp::Sub, Width::W64, sp, base);
        let (own, other, done) = (self.b.block(), self.b.block(), self.b.block());
        self.b.branch(Cond::Lt, depth, THREAD_SIZE, own, other);
        self.b.switch_to(own);
        self.b.store(key, 0, task, Size::B8);
        self.b.jump(done);
        self.b.switch_to(other);
        let cpu = self.b.call(Helper::GetSmpProcessorId, vec![]);
        self.b.store(key, 0, cpu, Size::B8);
        self.b.jump(done);
        self.b.switch_to(done);
        Frame { sp, key }
    }

    /// Go to `over` unless the frame at `off` of a value of `active` lies above `sp` and is in use.
    fn in_use(&mut self, value: Reg, off: i32, sp: Reg, over: Block) {
        let frame = self.b.load_as(KERNEL, value, off, Size::B8);
        self.b.branch_if(Cond::Ge, sp, frame, over);
        let known = self.b.load(value, off + FRAME_RETURN, Size::B8);
        let found = self.b.kernel_load(frame, 0, Size::B8);
        self.b.branch_if(Cond::Ne, found, known, over);
    }

    /// A function of the packet's has been entered.
    pub(super) fn enter(&mut self, task_stack: u32) {
        let Frame { sp, key } = self.frame(task_stack);
        let returns = self.b.kernel_load(sp, 0, Size::B8);
        // One word: a number of a point is smaller than any address.
        let at = self.b.int();
        match (self.spec.place, self.place()) {
            (Place::Ip, (_, ip)) => self.b.mov(at, ip),
            // The upper half of a cookie is not the point's.
            (Place::Cookie, (cookie, _)) => {
                self.b.mov(at, cookie);
                self.b.push(Op::Extend {
                    dst: at,
                    src: at,
                    size: Size::B4,
                    signed: false,
                });
            }
            (Place::Fixed(_), (point, _)) => self.b.mov(at, point),
        }
        let (none, fresh, latest, done) = (self.b.block(), self.b.block(), self.b.block(), self.b.block());
        let value = self.lookup(ACTIVE, key, none);
        let journey = self.b.load(value, JOURNEY, Size::B8);
        self.b.branch_if(Cond::Ne, journey, self.journey, fresh);
        self.in_use(value, OUTER, sp, fresh);
        self.b.jump(latest);

        self.b.switch_to(fresh);
        self.b.store(value, JOURNEY, self.journey, Size::B8);
        self.put_frame(value, OUTER, (sp, returns, at));
        self.b.jump(latest);

        self.b.switch_to(latest);
        self.b.store(value, SKB, self.skb, Size::B8);
        self.put_frame(value, LAST, (sp, returns, at));
        self.b.jump(done);

        self.b.switch_to(none);
        let slot = self.b.slot(ACTIVE_SIZE, 8);
        let new = self.b.slot_addr(slot);
        self.b.store(new, JOURNEY, self.journey, Size::B8);
        self.b.store(new, SKB, self.skb, Size::B8);
        self.put_frame(new, OUTER, (sp, returns, at));
        self.put_frame(new, LAST, (sp, returns, at));
        let map = self.b.map(ACTIVE);
        // Those that were not used for longest make room.
        self.b.call_void(
            Helper::MapUpdateElem,
            vec![map.into(), key.into(), new.into(), 0.into()],
        );
        self.b.jump(done);
        self.b.switch_to(done);
    }

    fn put_frame(&mut self, value: Reg, off: i32, (sp, returns, at): (Reg, Reg, Reg)) {
        self.b.store(value, off, sp, Size::B8);
        self.b.store(value, off + FRAME_RETURN, returns, Size::B8);
        self.b.store(value, off + FRAME_AT, at, Size::B8);
    }

    /// A function of a packet that is not followed has been entered. If it lies no deeper than the outermost frame of the
    /// one that was, that has returned, whatever is left in its memory.
    pub(super) fn make_way(&mut self, task_stack: u32) {
        let done = self.b.block();
        let Frame { sp, key } = self.frame(task_stack);
        let value = self.lookup(ACTIVE, key, done);
        let outer = self.b.load_as(KERNEL, value, OUTER, Size::B8);
        self.b.branch_if(Cond::Lt, sp, outer, done);
        self.b.store(value, OUTER, 0, Size::B8);
        self.b.jump(done);
        self.b.switch_to(done);
    }

    fn call_begins(&mut self, session: bool) {
        // A session's return is not asked for then.
        let skip = self.b.block();
        let task_stack = self.spec.task_stack.unwrap_or_default();
        let Frame { sp, key } = self.frame(task_stack);
        let value = self.lookup(ACTIVE, key, skip);
        self.in_use(value, OUTER, sp, skip);
        let under = self.b.int();
        let (returned, known) = (self.b.block(), self.b.block());
        self.in_use(value, LAST, sp, returned);
        let at = self.b.load(value, LAST + FRAME_AT, Size::B8);
        self.b.mov(under, at);
        self.b.jump(known);
        self.b.switch_to(returned);
        let at = self.b.load(value, OUTER + FRAME_AT, Size::B8);
        self.b.mov(under, at);
        self.b.jump(known);
        self.b.switch_to(known);

        let slot = self.b.slot(CALLS_SIZE, 8);
        let call = self.b.slot_addr(slot);
        for off in [JOURNEY, SKB] {
            let word = self.b.load(value, off, Size::B8);
            self.b.store(call, off, word, Size::B8);
        }
        self.b.store(call, UNDER, under, Size::B8);
        let time = self.b.call(Helper::KtimeGetNs, vec![]);
        self.b.store(call, TIME, time, Size::B8);
        self.count(Stat::Calls);
        let key = self.b.slot_addr(self.key);
        if session {
            let id = self.unique(time);
            self.b.store(key, 0, id, Size::B8);
            self.b.keep(id);
        } else {
            self.b.store(key, 0, sp, Size::B8);
        }
        let map = self.b.map(CALLS);
        self.b.call_void(
            Helper::MapUpdateElem,
            vec![map.into(), key.into(), call.into(), 0.into()],
        );
        self.b.jump(self.out);
        self.b.switch_to(skip);
        self.b.ret(i64::from(session));
    }

    fn call_ends(&mut self, session: bool) {
        let key = self.b.slot_addr(self.key);
        if session {
            let id = self.b.kept();
            self.b.store(key, 0, id, Size::B8);
        } else {
            // The return address is off the stack by now.
            let ctx = self.b.ctx();
            let sp = self.b.load(ctx, REGS_SP, Size::B8);
            let entry = self.b.bin(BinOp::Sub, Width::W64, sp, 8);
            self.b.store(key, 0, entry, Size::B8);
        }
        let call = self.lookup(CALLS, key, self.out);
        let [journey, skb, under, began] =
            [JOURNEY, SKB, UNDER, TIME].map(|off| self.b.load(call, off, Size::B8));
        let now = self.b.call(Helper::KtimeGetNs, vec![]);
        let took = self.b.bin(BinOp::Sub, Width::W64, now, began);
        let map = self.b.map(CALLS);
        self.b
            .call_void(Helper::MapDeleteElem, vec![map.into(), key.into()]);
        self.count(Stat::Returns);
        self.count(Stat::Produced);

        let ring = self.b.map(EVENTS);
        let size = record::BENEATH_SIZE;
        let ty = Type::Record { size, nullable: true };
        let args = vec![ring.into(), i64::from(size).into(), 0.into()];
        let record = self.b.call_as(ty, Helper::RingbufReserve, args);
        let lost = self.b.block();
        let record = self.b.non_null(record, lost);
        let ctx = self.b.ctx();
        let returned = self.b.load(ctx, REGS_RETURNED, Size::B8);
        let ids = self.b.call(Helper::GetCurrentPidTgid, vec![]);
        let cpu = self.b.call(Helper::GetSmpProcessorId, vec![]);
        let (point, _) = self.place();
        for (field, value) in [
            (Record::Time, began.into()),
            (Record::Journey, journey.into()),
            (Record::Skb, skb.into()),
            (Record::PidTgid, ids.into()),
            (Record::Ip, under.into()),
            (Record::Extra0, returned.into()),
            (Record::Extra1, took.into()),
            (Record::Point, point),
            (Record::Cpu, cpu.into()),
            (Record::Sign, i64::from(SignCode::Ran).into()),
            (Record::HasState, 0.into()),
        ] {
            self.b.store(record, field.offset(), value, field.size());
        }
        let comm = self.b.add(record, i64::from(record::COMM.0));
        self.b.call_void(
            Helper::GetCurrentComm,
            vec![comm.into(), i64::from(record::COMM.1).into()],
        );
        let wake = self.wake(ring);
        self.b
            .call_void(Helper::RingbufSubmit, vec![record.into(), wake.into()]);
        self.b.jump(self.out);
        self.b.switch_to(lost);
        self.count(Stat::Lost);
        self.b.jump(self.out);
    }
}
