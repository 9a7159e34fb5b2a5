//! Journeys folded in the kernel: a hit is no report, but a step of the packet's journey, and what comes up are kinds of
//! journeys, with how many there were of each.
//!
//! ```text
//!   hit ─▶ hash of all steps so far ─▶ new? ─yes─▶ report this step, once
//!   last copy let go ─▶ count it under its hash; sample its times
//! ```
//!
//! A step's hash covers its place, its copy, and what else tells one way or fate from another: drop reasons, the device,
//! the process that reads. So journeys of the same hash are told by the reports of the steps that lead to it, whichever
//! packets those were of. Times are sampled evenly: all of a kind's journeys to begin with, fewer as they get many.
//!
//! Deliberately absent: locks, which tracing programs may not take. Where two CPUs handle two copies of a packet in the
//! same instant a step can get lost; hits are counted beside them, and such a journey counts as tangled.

use ktrail_ebpf::ir::{AtomicOp, BinOp, Block, Cond, MapRef, Op, Operand, Reg, Size, Type, Width};
use ktrail_ebpf::isa::Helper;

use super::super::record::SignCode;
use super::super::trail::{self, Trail};
use super::super::view;
use super::{
    Body, EVENTS, FOLLOW, FOLLOW_COPY, FOLLOW_COPY_SIZE, FOLLOW_HEAD, FOLLOW_JOURNEY, FOLLOW_MOVING,
    FOLLOW_SIZE, Place, Role, Stat,
};

const JOURNEYS: MapRef = MapRef(4);
const BLANK: MapRef = MapRef(5);
const SEEN: MapRef = MapRef(6);
const CLASSES: MapRef = MapRef(7);

impl Body<'_> {
    fn get(&mut self, journey: Reg, field: Trail) -> Reg {
        self.b.load(journey, field.offset(), field.size())
    }

    fn set(&mut self, journey: Reg, field: Trail, value: impl Into<Operand>) {
        self.b.store(journey, field.offset(), value, field.size());
    }

    fn change(&mut self, journey: Reg, field: Trail, by: i64) {
        let src = self.b.imm(by);
        self.b.push(Op::Atomic {
            op: AtomicOp::Add,
            base: journey,
            off: field.offset(),
            src,
            size: Size::B8,
            fetch: None,
        });
    }

    /// A slot that holds `word`, to look it up.
    fn key_of(&mut self, word: Reg) -> Reg {
        let slot = self.b.slot(8, 8);
        let key = self.b.slot_addr(slot);
        self.b.store(key, 0, word, Size::B8);
        key
    }

    /// The result of entering `value` into a map: 0, or an error.
    fn enter_into(&mut self, map: MapRef, key: Reg, value: Reg, flags: i64) -> Reg {
        let map = self.b.map(map);
        let args = vec![map.into(), key.into(), value.into(), flags.into()];
        self.b.call(Helper::MapUpdateElem, args)
    }

    fn remove_from(&mut self, map: MapRef, key: Reg) -> Reg {
        let map = self.b.map(map);
        self.b.call(Helper::MapDeleteElem, vec![map.into(), key.into()])
    }

    /// Which copy an skb is, from its value in `follow`.
    pub(super) fn load_copy(&mut self, value: Reg, dst: Reg) {
        if !self.spec.limits.folds() {
            return;
        }
        self.b.push(Op::Load {
            dst,
            base: value,
            off: FOLLOW_COPY,
            size: Size::B8,
            signed: false,
        });
    }

    /// Enter `skb` into `follow` as a copy of the journey, whatever was there.
    fn enter_copy(&mut self, head: Operand, moving: i64, full: Block) {
        let key = self.set_key(self.skb);
        let slot = self.b.slot(FOLLOW_SIZE + FOLLOW_COPY_SIZE, 8);
        let value = self.b.slot_addr(slot);
        self.b.store(value, FOLLOW_JOURNEY, self.journey, Size::B8);
        self.b.store(value, FOLLOW_HEAD, head, Size::B8);
        self.b.store(value, FOLLOW_MOVING, moving, Size::B8);
        self.b.store(value, FOLLOW_COPY, self.copy, Size::B8);
        const BPF_ANY: i64 = 0;
        let error = self.enter_into(FOLLOW, key, value, BPF_ANY);
        self.b.branch_if(Cond::Ne, error, 0, full);
    }

    /// A journey begins with the skb.
    pub(super) fn begin(&mut self, moving: i64) {
        let (none, full, done) = (self.b.block(), self.b.block(), self.b.block());
        let blank = self.b.map_data(BLANK, 0);
        let key = self.key_of(self.journey);
        const BPF_NOEXIST: i64 = 1;
        let error = self.enter_into(JOURNEYS, key, blank, BPF_NOEXIST);
        self.b.branch_if(Cond::Ne, error, 0, none);
        let journey = self.lookup(JOURNEYS, key, none);
        let time = self.b.call(Helper::KtimeGetNs, vec![]);
        self.set(journey, Trail::Start, time);
        self.set(journey, Trail::Last, time);
        self.set(journey, Trail::Live, 1);
        self.set(journey, Trail::Copies, 1);
        self.b.mov(self.copy, 0);
        // Counted before the entry exists, so that no other CPU sees the entry without the count.
        self.add_following(1);
        let head = self.head;
        self.enter_copy(head.into(), moving, full);
        self.b.jump(done);

        self.b.switch_to(full);
        self.add_following(-1);
        self.remove_from(JOURNEYS, key);
        self.b.jump(none);
        self.b.switch_to(none);
        self.count(Stat::Unfollowed);
        self.b.jump(self.out);
        self.b.switch_to(done);
        self.count(Stat::Journeys);
    }

    /// The skb becomes a copy of the journey of the one that it is made from, which has `value` in `follow`.
    pub(super) fn join(&mut self, value: Reg) {
        let (fresh, old, known, full, done) = (
            self.b.block(),
            self.b.block(),
            self.b.block(),
            self.b.block(),
            self.b.block(),
        );
        self.load_copy(value, self.origin);
        let key = self.set_key(self.skb);
        let there = self.lookup(FOLLOW, key, fresh);
        let other = self.b.load(there, FOLLOW_JOURNEY, Size::B8);
        self.b.branch(Cond::Eq, other, self.journey, known, old);

        // The same clone, seen by another function.
        self.b.switch_to(known);
        self.load_copy(there, self.copy);
        self.b.store(there, FOLLOW_HEAD, 0, Size::B8);
        self.b.store(there, FOLLOW_MOVING, 1, Size::B8);
        self.b.jump(done);

        // An older packet's, whose end went unseen.
        self.b.switch_to(old);
        self.count(Stat::Reused);
        self.lose(there);
        self.b.jump(fresh);

        self.b.switch_to(fresh);
        let id = self.key_of(self.journey);
        let journey = self.lookup(JOURNEYS, id, self.out);
        let copies = self.get(journey, Trail::Copies);
        self.b.mov(self.copy, copies);
        let more = self.b.add(copies, 1);
        self.set(journey, Trail::Copies, more);
        self.change(journey, Trail::Live, 1);
        self.add_following(1);
        self.enter_copy(Operand::Imm(0), 1, full);
        self.b.jump(done);

        self.b.switch_to(full);
        self.add_following(-1);
        self.change(journey, Trail::Live, -1);
        self.count(Stat::Unfollowed);
        self.b.jump(self.out);
        self.b.switch_to(done);
    }

    /// The skb is another packet's by now: the journey of its `value` in `follow` goes on without it.
    pub(super) fn lose(&mut self, value: Reg) {
        let next = self.b.block();
        let (id, copy) = (self.b.int(), self.b.int());
        self.b.push(Op::Load {
            dst: id,
            base: value,
            off: FOLLOW_JOURNEY,
            size: Size::B8,
            signed: false,
        });
        self.load_copy(value, copy);
        let key = self.set_key(self.skb);
        let error = self.remove_from(FOLLOW, key);
        self.b.branch_if(Cond::Ne, error, 0, next);
        self.add_following(-1);
        let key = self.key_of(id);
        let journey = self.lookup(JOURNEYS, key, next);
        let hash = self.get(journey, Trail::Hash);
        let copy = self
            .b
            .bin(BinOp::Shl, Width::W64, copy, i64::from(trail::COPY_SHIFT));
        let lost = self.b.bin(BinOp::Xor, Width::W64, copy, i64::from(trail::LOST));
        let hash = self.mix(hash, lost);
        self.set(journey, Trail::Hash, hash);
        self.release(id);
        self.b.jump(next);
        self.b.switch_to(next);
    }

    /// `hash` with a word more.
    fn mix(&mut self, hash: Reg, word: impl Into<Operand>) -> Reg {
        let spread = self.b.imm(trail::SPREAD.cast_signed());
        let mixed = self.b.bin(BinOp::Xor, Width::W64, hash, word);
        let mixed = self.b.bin(BinOp::Mul, Width::W64, mixed, spread);
        let upper = self.b.bin(BinOp::Shr, Width::W64, mixed, i64::from(trail::FOLD));
        self.b.bin(BinOp::Xor, Width::W64, mixed, upper)
    }

    /// The packet's journey takes a step.
    pub(super) fn step(&mut self) {
        let (gone, done) = (self.b.block(), self.b.block());
        let key = self.key_of(self.journey);
        let journey = self.lookup(JOURNEYS, key, gone);
        self.change(journey, Trail::Hits, 1);
        self.time(journey);
        let before = self.get(journey, Trail::Hash);
        let hash = self.hash(before);
        self.set(journey, Trail::Hash, hash);
        if self.spec.role.has_state() {
            self.headers_once(journey);
        }

        let seen = self.b.map_data(SEEN, 0);
        let entry = self.b.and(hash, i64::from(trail::SEEN - 1));
        let entry = self.b.bin(BinOp::Shl, Width::W64, entry, 3);
        let entry = self.b.add(seen, entry);
        let known = self.b.load(entry, 0, Size::B8);
        self.b.branch_if(Cond::Eq, known, hash, done);
        let tail = |body: &mut Self, record: Reg, at: u32| {
            let origin = match body.spec.role {
                Role::Clone { .. } => body.origin.into(),
                _ => Operand::Imm(0),
            };
            for (word, off) in [hash.into(), before.into(), body.copy.into(), origin]
                .into_iter()
                .zip((at as i32..).step_by(8))
            {
                body.b.store(record, off, word, Size::B8);
            }
        };
        self.report_with(trail::TAIL, tail, |body| body.b.store(entry, 0, hash, Size::B8));
        self.b.jump(done);

        self.b.switch_to(gone);
        self.count(Stat::Stray);
        self.b.jump(done);
        self.b.switch_to(done);
    }

    /// Note when the step is, if there is room.
    fn time(&mut self, journey: Reg) {
        let (full, earlier, longer, put) = (self.b.block(), self.b.block(), self.b.block(), self.b.block());
        let now = self.b.call(Helper::KtimeGetNs, vec![]);
        let last = self.get(journey, Trail::Last);
        self.set(journey, Trail::Last, now);
        let steps = self.get(journey, Trail::Steps);
        let more = self.b.add(steps, 1);
        self.set(journey, Trail::Steps, more);
        self.b.branch_if(Cond::Ge, steps, i64::from(trail::STEPS), full);
        let passed = self.b.int();
        let difference = self.b.bin(BinOp::Sub, Width::W64, now, last);
        self.b.mov(passed, difference);
        // CPUs' clocks may differ by a little.
        let longest = self.b.imm(u32::MAX.into());
        let positive = self.b.block();
        self.b.branch(Cond::SLt, passed, 0, earlier, positive);
        self.b.switch_to(positive);
        self.b.branch(Cond::Gt, passed, longest, longer, put);
        self.b.switch_to(earlier);
        self.b.mov(passed, 0);
        self.b.jump(put);
        self.b.switch_to(longer);
        self.b.mov(passed, longest);
        self.b.jump(put);

        self.b.switch_to(put);
        let at = self.b.and(steps, i64::from(trail::STEPS - 1));
        let at = self.b.bin(BinOp::Shl, Width::W64, at, 2);
        let at = self.b.add(journey, at);
        self.b.store(at, trail::TIMES as i32, passed, Size::B4);
        self.b.jump(full);
        self.b.switch_to(full);
    }

    /// The hash with this step.
    fn hash(&mut self, before: Reg) -> Reg {
        let place = match (self.spec.place, self.place()) {
            (Place::Ip, (_, ip)) => ip,
            (_, (point, _)) => point,
        };
        let copy = self
            .b
            .bin(BinOp::Shl, Width::W64, self.copy, i64::from(trail::COPY_SHIFT));
        let place = self.b.bin(BinOp::Xor, Width::W64, copy, place);
        let hash = self.mix(before, place);
        match self.spec.role {
            Role::Drop { .. } | Role::Consume { .. } | Role::Transmit { .. } => {
                let (_, _, [first, second]) = self.sign();
                let hash = self.mix(hash, first);
                match second {
                    Operand::Imm(0) => hash,
                    second => self.mix(hash, second),
                }
            }
            Role::Clone { .. } => self.mix(hash, self.origin),
            Role::Device => {
                let device = self
                    .b
                    .kernel_load(self.skb, self.spec.offsets.skb_dev as i32, Size::B8);
                self.mix(hash, device)
            }
            Role::Copy => self.mix_process(hash),
            Role::ByCookie => {
                let mixed = self.b.int();
                let (copied, done) = (self.b.block(), self.b.block());
                self.b.mov(mixed, hash);
                self.b
                    .branch(Cond::Eq, self.told, SignCode::Copied as i64, copied, done);
                self.b.switch_to(copied);
                let hash = self.mix_process(hash);
                self.b.mov(mixed, hash);
                self.b.jump(done);
                self.b.switch_to(done);
                mixed
            }
            Role::Verdict { immediate } => {
                let verdict = self.verdict(immediate);
                self.mix(hash, verdict)
            }
            _ => hash,
        }
    }

    /// `hash` with the process that runs.
    fn mix_process(&mut self, hash: Reg) -> Reg {
        let slot = self.b.slot(16, 8);
        let comm = self.b.slot_addr(slot);
        // Some kernels write no further than the name's end (6.1).
        for off in [0, 8] {
            self.b.store(comm, off, 0, Size::B8);
        }
        self.b
            .call_void(Helper::GetCurrentComm, vec![comm.into(), 16.into()]);
        let half = self.b.load(comm, 0, Size::B8);
        let hash = self.mix(hash, half);
        let half = self.b.load(comm, 8, Size::B8);
        self.mix(hash, half)
    }

    /// Keep the packet's headers, the first time that they can be read.
    fn headers_once(&mut self, journey: Reg) {
        let done = self.b.block();
        if self.spec.role == Role::ByCookie {
            self.b
                .branch_if(Cond::Eq, self.told, SignCode::Freed as i64, done);
        }
        let known = self.get(journey, Trail::HeaderLen);
        self.b.branch_if(Cond::Ne, known, 0, done);
        let (subject, ..) = self.sign();
        let (start, len) = view::network(&mut self.b, self.spec.offsets, subject, self.head, done);
        // What is too short for an address is no example.
        self.b.branch_if(Cond::Lt, len, 20, done);
        let to = self.b.add(journey, i64::from(trail::HEADERS.0));
        let args = vec![to.into(), i64::from(trail::HEADERS.1).into(), start.into()];
        self.b.call_void(Helper::ProbeReadKernel, args);
        self.set(journey, Trail::HeaderLen, len);
        self.b.jump(done);
        self.b.switch_to(done);
    }

    /// A copy of the journey `id` is followed no more. With the last one the journey is folded.
    pub(super) fn release(&mut self, id: Reg) {
        let (tangled, unclassed, fresh, have, last, done) = (
            self.b.block(),
            self.b.block(),
            self.b.block(),
            self.b.block(),
            self.b.block(),
            self.b.block(),
        );
        let id = self.key_of(id);
        let journey = self.lookup(JOURNEYS, id, done);
        self.change(journey, Trail::Live, -1);
        let live = self.get(journey, Trail::Live);
        self.b.branch(Cond::SLe, live, 0, last, done);

        self.b.switch_to(last);
        let hits = self.get(journey, Trail::Hits);
        let steps = self.get(journey, Trail::Steps);
        self.b.branch_if(Cond::Ne, hits, steps, tangled);
        let hash = self.get(journey, Trail::Hash);
        let key = self.key_of(hash);
        let class = self.b.reg(Type::MapValue {
            map: CLASSES,
            nullable: false,
        });
        let found = self.lookup(CLASSES, key, fresh);
        self.b.mov(class, found);
        self.b.jump(have);

        // The first of its kind stands for all.
        self.b.switch_to(fresh);
        const BPF_NOEXIST: i64 = 1;
        self.enter_into(CLASSES, key, journey, BPF_NOEXIST);
        let found = self.lookup(CLASSES, key, unclassed);
        self.b.mov(class, found);
        self.b.jump(have);

        self.b.switch_to(have);
        self.sample(class, journey);
        // Another CPU may have let go of another copy in the same instant: only one of them counts.
        let error = self.remove_from(JOURNEYS, id);
        self.b.branch_if(Cond::Ne, error, 0, done);
        self.change(class, Trail::Count, 1);
        self.b.jump(done);

        for (block, stat) in [(tangled, Stat::Tangled), (unclassed, Stat::Unclassed)] {
            self.b.switch_to(block);
            let error = self.remove_from(JOURNEYS, id);
            self.b.branch_if(Cond::Ne, error, 0, done);
            self.count(stat);
            self.b.jump(done);
        }
        self.b.switch_to(done);
    }

    /// Send the journey's times up, if it is its turn: each is with the same probability.
    fn sample(&mut self, class: Reg, journey: Reg) {
        let (rarer, decide, lost, done) = (self.b.block(), self.b.block(), self.b.block(), self.b.block());
        let count = self.get(class, Trail::Count);
        let next = self.get(class, Trail::Next);
        let rate = self.b.int();
        let now = self.get(class, Trail::Rate);
        self.b.mov(rate, now);
        self.b.branch(Cond::Ge, count, next, rarer, decide);
        self.b.switch_to(rarer);
        let next = self.b.bin(BinOp::Shl, Width::W64, next, 1);
        self.set(class, Trail::Next, next);
        let half = self.b.add(rate, 1);
        self.b.mov(rate, half);
        self.set(class, Trail::Rate, rate);
        self.b.jump(decide);

        self.b.switch_to(decide);
        let random = self.b.call(Helper::GetPrandomU32, vec![]);
        let one = self.b.imm(1);
        let mask = self.b.bin(BinOp::Shl, Width::W64, one, rate);
        let mask = self.b.bin(BinOp::Sub, Width::W64, mask, 1);
        let chosen = self.b.bin(BinOp::And, Width::W64, random, mask);
        self.b.branch_if(Cond::Ne, chosen, 0, done);
        self.set(journey, Trail::Rate, rate);
        self.count(Stat::Produced);
        let ring = self.b.map(EVENTS);
        let wake = self.wake(ring);
        // Times of steps that were not taken stay here. (Of the most that there is room for, one more does.)
        let steps = self.get(journey, Trail::Steps);
        let most = self.b.int();
        let (many, sized) = (self.b.block(), self.b.block());
        self.b.mov(most, steps);
        self.b
            .branch(Cond::Gt, most, i64::from(trail::STEPS - 1), many, sized);
        self.b.switch_to(many);
        self.b.mov(most, i64::from(trail::STEPS - 1));
        self.b.jump(sized);
        self.b.switch_to(sized);
        let size = self.b.and(most, i64::from(trail::STEPS - 1));
        let size = self.b.bin(BinOp::Shl, Width::W64, size, 2);
        let size = self.b.add(size, i64::from(trail::TIMES));
        let args = vec![ring.into(), journey.into(), size.into(), wake.into()];
        let error = self.b.call(Helper::RingbufOutput, args);
        self.b.branch(Cond::Eq, error, 0, done, lost);
        self.b.switch_to(lost);
        self.count(Stat::Lost);
        self.b.jump(done);
        self.b.switch_to(done);
    }
}
