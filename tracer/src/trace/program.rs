//! The tracer's kernel side: the program that runs at an attach point, built as IR.
//!
//! ```text
//!   enabled? ─▶ followed already? ──yes──────────────▶ report ─▶ let go, if this ends the skb
//!                      └─no─▶ filter matches? ─yes─▶ follow ─▶ report
//! ```
//!
//! A packet that matches the filter once is in the map `follow`, by its skb's address, until its memory goes back.
//! Clones, copies and segments join their original's journey. An address whose `skb->head` has changed without a
//! reallocation that was seen belongs to another packet: its journey has ended unseen.
//!
//! Deliberately absent: where programs are attached ([`super::plan`]) and how reports read ([`super::decode`]).

mod extras;
mod netfilter;

use ktrail_ebpf::filter::{self, Filter};
use ktrail_ebpf::ir::{
    AtomicOp, BinOp, Block, Builder, Cond, MapDecl, MapKind, MapRef, Op, Operand, Program, ProgramKind, Reg,
    Size, Slot, Type, Width,
};
use ktrail_ebpf::isa::Helper;

use super::extras::Extras;
use super::offsets::Offsets;
use super::record::{self, Record};
use super::view::{self, SkbView};

/// The maps that all programs of a run share, in the order of [`maps`].
const EVENTS: MapRef = MapRef(0);
const FOLLOW: MapRef = MapRef(1);
const STATE: MapRef = MapRef(2);
const STATS: MapRef = MapRef(3);

/// Bytes of the one value of `state`: `enabled`, `following`, 8 each.
pub const STATE_SIZE: u32 = 16;
const STATE_ENABLED: u32 = 0;
const STATE_FOLLOWING: i32 = 8;

/// The value in `follow`: the journey, `skb->head` when last seen, and whether the head is expected to change.
const FOLLOW_SIZE: u32 = 24;
const FOLLOW_JOURNEY: i32 = 0;
const FOLLOW_HEAD: i32 = 8;
const FOLLOW_MOVING: i32 = 16;

/// Sizes of what a run keeps in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the ring; a power of two and a multiple of the page size.
    pub ring: u32,
    /// How many skbs can be followed at once.
    pub follow: u32,
}

/// The maps that all programs of a run share.
pub fn maps(limits: Limits) -> Vec<MapDecl> {
    let map = |name: &str, kind, key_size, value_size, max_entries| MapDecl {
        name: name.into(),
        kind,
        key_size,
        value_size,
        max_entries,
    };
    vec![
        map("events", MapKind::RingBuf, 0, 0, limits.ring),
        map("follow", MapKind::Hash, 8, FOLLOW_SIZE, limits.follow),
        map("state", MapKind::Array, 4, STATE_SIZE, 1),
        map("stats", MapKind::PercpuArray, 4, Stat::COUNT * 8, 1),
    ]
}

/// The counters in the one value of the per-CPU map `stats`, 8 bytes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stat {
    /// Journeys begun.
    Journeys = 0,
    /// Events that were due: what was delivered plus what was lost.
    Produced = 1,
    /// Events for which the ring had no room.
    Lost = 2,
    /// Packets that matched but found `follow` full: nothing of them was reported.
    Unfollowed = 3,
    /// Followed addresses that turned out to be another packet's by now.
    Reused = 4,
}

impl Stat {
    /// How many there are.
    pub const COUNT: u32 = 5;
}

/// Where a program finds the packet among the arguments of what it is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SkbArg {
    /// Position, from 0.
    pub index: u8,
    /// It is a `struct sk_buff **`.
    pub indirect: bool,
}

/// How a report says where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// The program has one attach point, this one.
    Fixed(u32),
    /// The attach cookie is the point's number (5.15+).
    Cookie,
    /// The address of the probed instruction, to be looked up.
    Ip,
}

/// What an attach point means for the packet's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The packet passes. The filter may match here.
    Pass,
    /// The packet passes at a Netfilter hook.
    Hook {
        /// Position of `struct nf_hook_state *` among the arguments.
        state: u8,
        /// What is registered there, if it is rules.
        rules: Option<Rules>,
    },
    /// The packet passes an expression of nftables', the first argument, that may give a verdict.
    Verdict {
        /// It is of kind `immediate`, and gives one only if it writes to the verdict's register. Others reject.
        immediate: bool,
    },
    /// The packet passes, but its headers may be gone already: only what is followed is reported.
    PassFollowed,
    /// The skb's head is about to be reallocated.
    Reallocate,
    /// The argument at `from` is being cloned, copied or cut into the skb.
    Clone {
        /// Position of the original among the arguments.
        from: u8,
    },
    /// Its data is copied to a process.
    Copy,
    /// The driver has answered; `code` is the argument with its answer. The skb may be gone already.
    Transmit {
        /// Position among the arguments.
        code: u8,
    },
    /// Freed as dropped.
    Drop {
        /// Position of the code address among the arguments.
        location: u8,
        /// Position of the reason (5.17+).
        reason: Option<u8>,
        /// Nothing sees the skb after this.
        last: bool,
    },
    /// Freed as consumed.
    Consume {
        /// Position of the code address among the arguments, where the kernel passes one.
        location: Option<u8>,
        /// Nothing sees the skb after this.
        last: bool,
    },
    /// The skb's own memory goes back.
    Free {
        /// Only if this argument is not zero.
        only_if: Option<u8>,
    },
}

/// The argument that says which rules run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rules {
    /// At this position, `struct nft_chain *`.
    Nft(u8),
    /// At this position, `struct xt_table *`.
    Xt(u8),
}

impl Role {
    /// May a journey start here?
    fn starts(self) -> bool {
        matches!(
            self,
            Role::Pass | Role::Hook { .. } | Role::Reallocate | Role::Drop { .. }
        )
    }

    /// Can the packet's state still be read here?
    fn has_state(self) -> bool {
        !matches!(self, Role::Free { .. } | Role::Transmit { .. })
    }

    /// Is the skb not followed any more after this?
    fn ends(self) -> bool {
        matches!(
            self,
            Role::Free { .. } | Role::Drop { last: true, .. } | Role::Consume { last: true, .. }
        )
    }
}

/// Where a packet must be when its journey begins, beside what the filter says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Only {
    /// On this device.
    pub ifindex: Option<u32>,
    /// In the network namespace with this inode.
    pub netns: Option<u32>,
}

/// What one program is built from.
#[derive(Clone, Copy, Debug)]
pub struct Spec<'a> {
    /// How it will be attached.
    pub kind: ProgramKind,
    /// Where its packet is.
    pub skb: SkbArg,
    /// A journey may begin here, if its role allows it.
    pub starts: bool,
    /// How it says where it is.
    pub place: Place,
    /// What its attach points mean.
    pub role: Role,
    /// Which packets.
    pub filter: &'a Filter,
    /// And where.
    pub only: Only,
    /// Where the kernel keeps things.
    pub offsets: &'a Offsets,
    /// Sizes of the maps.
    pub limits: Limits,
    /// What reports carry on request.
    pub extras: &'a Extras,
    /// `bpf_get_func_ip` exists, for [`Place::Ip`].
    pub get_func_ip: bool,
}

/// Build the program for `spec`.
pub fn build(name: &str, spec: &Spec<'_>) -> Program {
    let function = Body::new(name, spec).build();
    Program {
        name: name.into(),
        kind: spec.kind,
        maps: maps(spec.limits),
        functions: vec![function],
    }
}

/// Registers and blocks that the parts of one program share.
struct Body<'a> {
    b: Builder,
    spec: &'a Spec<'a>,
    /// Leaves the program.
    out: Block,
    skb: Reg,
    state: Reg,
    /// Holds the skb's address: the key in `follow`.
    key: Slot,
    journey: Reg,
    head: Reg,
}

impl<'a> Body<'a> {
    fn new(name: &str, spec: &'a Spec<'a>) -> Body<'a> {
        let mut b = Builder::new(name);
        let out = b.block();
        let skb = b.reg(Type::Kernel { direct: false });
        let state = b.reg(Type::MapValue {
            map: STATE,
            nullable: false,
        });
        let key = b.slot(8, 8);
        let journey = b.int();
        let head = b.reg(Type::Kernel { direct: false });
        Body {
            b,
            spec,
            out,
            skb,
            state,
            key,
            journey,
            head,
        }
    }

    fn build(mut self) -> ktrail_ebpf::ir::Function {
        let Spec { skb, role, .. } = *self.spec;
        self.b.push(Op::MapData {
            dst: self.state,
            map: STATE,
            off: 0,
        });
        let enabled = self.b.load(self.state, STATE_ENABLED as i32, Size::B8);
        self.b.branch_if(Cond::Eq, enabled, 0, self.out);
        if let Role::Free { only_if: Some(index) } = role {
            let flag = self.b.arg(index, Type::Int);
            // A `bool` argument: the callee may leave what it likes in the upper bits.
            let flag = self.b.and(flag, 0xff);
            self.b.branch_if(Cond::Eq, flag, 0, self.out);
        }
        if let Role::Verdict { immediate: true } = role {
            self.only_verdicts();
        }
        self.argument(self.skb, skb);

        let report = self.b.block();
        if let Role::Clone { from } = role {
            self.clone_of(from, report);
        } else {
            self.find(report);
        }
        self.b.switch_to(report);
        self.report();
        if role.ends() {
            self.let_go();
        }
        self.b.jump(self.out);
        self.b.switch_to(self.out);
        self.b.ret(0);
        self.b.finish()
    }

    /// Put the skb of an argument into `dst`.
    fn argument(&mut self, dst: Reg, arg: SkbArg) {
        self.b.push(Op::Arg {
            dst,
            index: arg.index,
        });
        if arg.indirect {
            self.b.push(Op::KernelLoad {
                dst,
                base: dst,
                off: 0,
                size: Size::B8,
                signed: false,
            });
        }
        self.b.branch_if(Cond::Eq, dst, 0, self.out);
    }

    /// Store `skb` as the key and look it up in `follow`. Goes on in a new block with the value.
    fn followed(&mut self, skb: Reg, none: Block) -> Reg {
        let following = self.b.load(self.state, STATE_FOLLOWING, Size::B8);
        self.b.branch_if(Cond::Eq, following, 0, none);
        let key = self.set_key(skb);
        let map = self.b.map(FOLLOW);
        let ty = Type::MapValue {
            map: FOLLOW,
            nullable: true,
        };
        let value = self
            .b
            .call_as(ty, Helper::MapLookupElem, vec![map.into(), key.into()]);
        self.b.non_null(value, none)
    }

    fn set_key(&mut self, skb: Reg) -> Reg {
        let key = self.b.slot_addr(self.key);
        self.b.store(key, 0, skb, Size::B8);
        key
    }

    /// Find the journey of the skb, or start one; go on at `report` with `journey` set, or leave.
    fn find(&mut self, report: Block) {
        let unknown = self.b.block();
        let value = self.followed(self.skb, unknown);
        self.load_head();
        let known_head = self.b.load(value, FOLLOW_HEAD, Size::B8);
        let (same, other, moved, reused) = (self.b.block(), self.b.block(), self.b.block(), self.b.block());
        self.b.branch(Cond::Eq, known_head, self.head, same, other);

        self.b.switch_to(other);
        let moving = self.b.load(value, FOLLOW_MOVING, Size::B8);
        self.b.branch(Cond::Ne, moving, 0, moved, reused);

        self.b.switch_to(moved);
        self.b.store(value, FOLLOW_HEAD, self.head, Size::B8);
        self.b.store(value, FOLLOW_MOVING, 0, Size::B8);
        self.b.jump(same);

        self.b.switch_to(same);
        if self.spec.role == Role::Reallocate {
            self.b.store(value, FOLLOW_MOVING, 1, Size::B8);
        }
        self.b.push(Op::Load {
            dst: self.journey,
            base: value,
            off: FOLLOW_JOURNEY,
            size: Size::B8,
            signed: false,
        });
        self.b.jump(report);

        self.b.switch_to(reused);
        self.count(Stat::Reused);
        self.let_go();
        self.b.jump(unknown);

        self.b.switch_to(unknown);
        // A pointer to a pointer may point to one that isn't set yet: whatever the stack held before.
        if self.spec.starts && self.spec.role.starts() && !self.spec.skb.indirect {
            self.filter_and_start(report);
        } else {
            self.b.jump(self.out);
        }
    }

    fn load_head(&mut self) {
        let off = self.spec.offsets.skb_head as i32;
        self.b.push(Op::KernelLoad {
            dst: self.head,
            base: self.skb,
            off,
            size: Size::B8,
            signed: false,
        });
    }

    /// Run the filter; a match starts a journey.
    fn filter_and_start(&mut self, report: Block) {
        let hit = self.b.block();
        let mut view = SkbView::new(
            &mut self.b,
            self.spec.offsets,
            self.skb,
            self.head,
            self.spec.filter,
        );
        filter::lower(&mut self.b, self.spec.filter, &mut view, hit, self.out);

        self.b.switch_to(hit);
        // An skb without a buffer is still being made.
        self.b.branch_if(Cond::Eq, self.head, 0, self.out);
        self.only();
        self.count(Stat::Journeys);
        // No two packets begin on one CPU in one nanosecond; 13 bits hold the number of any CPU that Linux runs on.
        let time = self.b.call(Helper::KtimeGetNs, vec![]);
        let time = self.b.bin(BinOp::Shl, Width::W64, time, 13);
        let cpu = self.b.call(Helper::GetSmpProcessorId, vec![]);
        let id = self.b.bin(BinOp::Or, Width::W64, time, cpu);
        self.b.mov(self.journey, id);
        let moving = i64::from(self.spec.role == Role::Reallocate);
        let head = self.head;
        self.follow(self.skb, head.into(), moving);
        self.b.jump(report);
    }

    /// Enter `skb` into `follow` under `journey`; leave the program, counted, if the map is full. An entry that is
    /// there already is an older packet's, or the same clone's seen by two functions: it is written over.
    fn follow(&mut self, skb: Reg, head: Operand, moving: i64) {
        let key = self.set_key(skb);
        let value_slot = self.b.slot(FOLLOW_SIZE, 8);
        let value = self.b.slot_addr(value_slot);
        self.b.store(value, FOLLOW_JOURNEY, self.journey, Size::B8);
        self.b.store(value, FOLLOW_HEAD, head, Size::B8);
        self.b.store(value, FOLLOW_MOVING, moving, Size::B8);
        let (exists, full, done) = (self.b.block(), self.b.block(), self.b.block());
        // Counted before the entry exists, so that no other CPU sees the entry without the count.
        self.add_following(1);
        const BPF_NOEXIST: i64 = 1;
        const BPF_EXIST: i64 = 2;
        let map = self.b.map(FOLLOW);
        let args = vec![map.into(), key.into(), value.into(), BPF_NOEXIST.into()];
        let error = self.b.call(Helper::MapUpdateElem, args);
        self.b.branch(Cond::Eq, error, 0, done, exists);

        self.b.switch_to(exists);
        self.add_following(-1);
        let map = self.b.map(FOLLOW);
        let args = vec![map.into(), key.into(), value.into(), BPF_EXIST.into()];
        let error = self.b.call(Helper::MapUpdateElem, args);
        self.b.branch(Cond::Eq, error, 0, done, full);

        self.b.switch_to(full);
        self.count(Stat::Unfollowed);
        self.b.jump(self.out);
        self.b.switch_to(done);
    }

    fn add_following(&mut self, by: i64) {
        let by = self.b.imm(by);
        self.b.push(Op::Atomic {
            op: AtomicOp::Add,
            base: self.state,
            off: STATE_FOLLOWING,
            src: by,
            size: Size::B8,
            fetch: None,
        });
    }

    /// The skb joins the journey of the one that it is made from.
    fn clone_of(&mut self, from: u8, report: Block) {
        let original = self.b.reg(Type::Kernel { direct: false });
        self.argument(
            original,
            SkbArg {
                index: from,
                indirect: false,
            },
        );
        let value = self.followed(original, self.out);
        self.b.push(Op::Load {
            dst: self.journey,
            base: value,
            off: FOLLOW_JOURNEY,
            size: Size::B8,
            signed: false,
        });
        // Its head isn't there yet.
        self.follow(self.skb, Operand::Imm(0), 1);
        // What the clone will hold is to be seen at the original.
        self.b.push(Op::KernelLoad {
            dst: self.head,
            base: original,
            off: self.spec.offsets.skb_head as i32,
            size: Size::B8,
            signed: false,
        });
        self.b.jump(report);
    }

    /// Report the event, or count it as lost.
    fn report(&mut self) {
        self.count(Stat::Produced);
        let ring = self.b.map(EVENTS);
        let plain = match self.spec.role {
            Role::Hook { .. } => record::SIZE + record::HOOK_SIZE,
            Role::Verdict { .. } => record::SIZE + record::RULE_SIZE,
            _ => record::SIZE,
        };
        let size = plain + self.spec.extras.size();
        let ty = Type::Record { size, nullable: true };
        let args = vec![ring.into(), i64::from(size).into(), 0.into()];
        let record = self.b.call_as(ty, Helper::RingbufReserve, args);
        let (lost, done) = (self.b.block(), self.b.block());
        let record = self.b.non_null(record, lost);
        self.fill(record);
        if let Role::Hook { state, rules } = self.spec.role {
            self.hook(record, state, rules);
        }
        if let Role::Verdict { immediate } = self.spec.role {
            self.rule(record, immediate);
        }
        self.extras(record, plain);
        self.b
            .call_void(Helper::RingbufSubmit, vec![record.into(), 0.into()]);
        self.b.jump(done);
        self.b.switch_to(lost);
        self.count(Stat::Lost);
        self.b.jump(done);
        self.b.switch_to(done);
    }

    fn fill(&mut self, record: Reg) {
        let spec = self.spec;
        let o = spec.offsets;
        let (subject, sign, extra) = self.sign();
        let put =
            |b: &mut Builder, field: Record, src: Operand| b.store(record, field.offset(), src, field.size());

        let time = self.b.call(Helper::KtimeGetNs, vec![]);
        put(&mut self.b, Record::Time, time.into());
        put(&mut self.b, Record::Journey, self.journey.into());
        put(&mut self.b, Record::Skb, self.skb.into());
        let ids = self.b.call(Helper::GetCurrentPidTgid, vec![]);
        put(&mut self.b, Record::PidTgid, ids.into());
        let cpu = self.b.call(Helper::GetSmpProcessorId, vec![]);
        put(&mut self.b, Record::Cpu, cpu.into());
        let (point, ip) = self.place();
        put(&mut self.b, Record::Point, point);
        put(&mut self.b, Record::Ip, ip);
        put(&mut self.b, Record::Sign, i64::from(sign).into());
        put(&mut self.b, Record::Extra0, extra[0]);
        put(&mut self.b, Record::Extra1, extra[1]);
        let comm = self.b.add(record, i64::from(record::COMM.0));
        self.b.call_void(
            Helper::GetCurrentComm,
            vec![comm.into(), i64::from(record::COMM.1).into()],
        );

        put(
            &mut self.b,
            Record::HasState,
            i64::from(spec.role.has_state()).into(),
        );
        if !spec.role.has_state() {
            // The verifier does not ask for it, but no report shall carry what the ring held before.
            for off in (record::STATE..record::SIZE).step_by(8) {
                self.b.store(record, off as i32, 0, Size::B8);
            }
            return;
        }
        for (field, off, size) in [
            (Record::Len, o.skb_len, Size::B4),
            (Record::Mark, o.skb_mark, Size::B4),
            (Record::Protocol, o.skb_protocol, Size::B2),
        ] {
            let value = self.b.kernel_load(subject, off as i32, size);
            put(&mut self.b, field, value.into());
        }
        let data = self.b.kernel_load(subject, o.skb_data as i32, Size::B8);
        let head = self.b.kernel_load(subject, o.skb_head as i32, Size::B8);
        let headroom = self.b.bin(BinOp::Sub, Width::W64, data, head);
        put(&mut self.b, Record::Data, headroom.into());
        self.conntrack(record, subject);
        self.device(record, subject);
        self.headers(record, subject);
    }

    /// What connection tracking makes of the packet: `skb->_nfct` is its entry's address, with `enum
    /// ip_conntrack_info` in the lower three bits.
    fn conntrack(&mut self, record: Reg, subject: Reg) {
        let field = Record::Conntrack;
        let unknown = i64::try_from(record::NO_CONNTRACK).unwrap_or_default();
        let Some(off) = self.spec.offsets.skb_nfct else {
            self.b.store(record, field.offset(), unknown, field.size());
            return;
        };
        let (unseen, done) = (self.b.block(), self.b.block());
        let entry = self.b.kernel_load(subject, off as i32, Size::B8);
        self.b.branch_if(Cond::Eq, entry, 0, unseen);
        let info = self.b.and(entry, 7);
        self.b.store(record, field.offset(), info, field.size());
        self.b.jump(done);
        self.b.switch_to(unseen);
        self.b.store(record, field.offset(), unknown, field.size());
        self.b.jump(done);
        self.b.switch_to(done);
    }

    /// What the role adds to a report: the skb whose state is reported, the sign and its two values.
    fn sign(&mut self) -> (Reg, record::SignCode, [Operand; 2]) {
        use record::SignCode as S;
        let none = Operand::Imm(0);
        match self.spec.role {
            Role::Pass | Role::Hook { .. } | Role::Verdict { .. } | Role::PassFollowed | Role::Reallocate => {
                (self.skb, S::Passed, [none, none])
            }
            Role::Copy => (self.skb, S::Copied, [none, none]),
            Role::Free { .. } => (self.skb, S::Freed, [none, none]),
            Role::Consume { location, .. } => {
                let location = match location {
                    Some(index) => self.b.arg(index, Type::Int).into(),
                    None => none,
                };
                (self.skb, S::Consumed, [location, none])
            }
            Role::Clone { from } => {
                let original = self.b.arg(from, Type::Kernel { direct: false });
                (original, S::Cloned, [original.into(), none])
            }
            Role::Transmit { code } => {
                let code = self.b.arg(code, Type::Int);
                (self.skb, S::Transmitted, [code.into(), none])
            }
            Role::Drop { location, reason, .. } => {
                let location = self.b.arg(location, Type::Int);
                match reason {
                    Some(index) => {
                        let reason = self.b.arg(index, Type::Int);
                        (self.skb, S::DroppedFor, [location.into(), reason.into()])
                    }
                    None => (self.skb, S::Dropped, [location.into(), none]),
                }
            }
        }
    }

    /// The point's number and the probed address, of which one is known.
    fn place(&mut self) -> (Operand, Operand) {
        let unknown = Operand::Imm(i64::from(record::NO_POINT));
        match self.spec.place {
            Place::Fixed(point) => (i64::from(point).into(), 0.into()),
            Place::Cookie => {
                let ctx = self.b.ctx();
                let cookie = self.b.call(Helper::GetAttachCookie, vec![ctx.into()]);
                (cookie.into(), 0.into())
            }
            Place::Ip => {
                let ctx = self.b.ctx();
                let ip = if self.spec.get_func_ip {
                    self.b.call(Helper::GetFuncIp, vec![ctx.into()])
                } else {
                    // x86-64's `struct pt_regs`: `ip` is its 17th word.
                    self.b.load(ctx, 128, Size::B8)
                };
                (unknown, ip.into())
            }
        }
    }

    /// Device and network namespace.
    fn device(&mut self, record: Reg, subject: Reg) {
        let o = self.spec.offsets;
        let (no_device, named) = (self.b.block(), self.b.block());
        let name = self.b.add(record, i64::from(record::IFNAME.0));
        let put =
            |b: &mut Builder, field: Record, src: Operand| b.store(record, field.offset(), src, field.size());

        let dev = self.b.kernel_ptr(subject, o.skb_dev as i32);
        self.b.branch_if(Cond::Eq, dev, 0, no_device);
        let ifindex = self.b.kernel_load(dev, o.dev_ifindex as i32, Size::B4);
        put(&mut self.b, Record::Ifindex, ifindex.into());
        let from = self.b.add(dev, i64::from(o.dev_name));
        let args = vec![name.into(), i64::from(record::IFNAME.1).into(), from.into()];
        self.b.call_void(Helper::ProbeReadKernel, args);
        self.b.jump(named);

        self.b.switch_to(no_device);
        put(&mut self.b, Record::Ifindex, 0.into());
        for half in [0, 8] {
            self.b.store(record, record::IFNAME.0 as i32 + half, 0, Size::B8);
        }
        self.b.jump(named);

        self.b.switch_to(named);
        let netns = self.netns(subject);
        put(&mut self.b, Record::Netns, netns.into());
    }

    /// Inode of the network namespace of the skb's device, else of its socket; 0 where it has neither.
    fn netns(&mut self, subject: Reg) -> Reg {
        let o = self.spec.offsets;
        let (no_device, have_net, no_net, done) =
            (self.b.block(), self.b.block(), self.b.block(), self.b.block());
        let net = self.b.reg(Type::Kernel { direct: false });
        let netns = self.b.int();

        let dev = self.b.kernel_ptr(subject, o.skb_dev as i32);
        self.b.branch_if(Cond::Eq, dev, 0, no_device);
        let dev_net = self.b.kernel_ptr(dev, o.dev_net as i32);
        self.b.mov(net, dev_net);
        self.b.jump(have_net);

        self.b.switch_to(no_device);
        let sk = self.b.kernel_ptr(subject, o.skb_sk as i32);
        self.b.branch_if(Cond::Eq, sk, 0, no_net);
        let sk_net = self.b.kernel_ptr(sk, o.sock_net as i32);
        self.b.mov(net, sk_net);
        self.b.jump(have_net);

        self.b.switch_to(no_net);
        self.b.mov(netns, 0);
        self.b.jump(done);

        self.b.switch_to(have_net);
        let inum = self.b.kernel_load(net, o.net_inum as i32, Size::B4);
        self.b.mov(netns, inum);
        self.b.jump(done);

        self.b.switch_to(done);
        netns
    }

    /// Leave the program unless the skb is on the device and in the namespace that were asked for.
    fn only(&mut self) {
        let Only { ifindex, netns } = self.spec.only;
        if let Some(wanted) = ifindex {
            let dev = self.b.kernel_ptr(self.skb, self.spec.offsets.skb_dev as i32);
            self.b.branch_if(Cond::Eq, dev, 0, self.out);
            let found = self
                .b
                .kernel_load(dev, self.spec.offsets.dev_ifindex as i32, Size::B4);
            self.b.branch_if(Cond::Ne, found, i64::from(wanted), self.out);
        }
        if let Some(wanted) = netns {
            let found = self.netns(self.skb);
            self.b.branch_if(Cond::Ne, found, i64::from(wanted), self.out);
        }
    }

    /// The bytes from the network header on, as many as are there.
    fn headers(&mut self, record: Reg, subject: Reg) {
        let (absent, done) = (self.b.block(), self.b.block());
        let (start, len) = view::network(&mut self.b, self.spec.offsets, subject, self.head, absent);
        self.b
            .store(record, Record::HeaderLen.offset(), len, Record::HeaderLen.size());
        let head = self
            .b
            .kernel_load(subject, self.spec.offsets.skb_head as i32, Size::B8);
        let at = self.b.bin(BinOp::Sub, Width::W64, start, head);
        self.b
            .store(record, Record::Network.offset(), at, Record::Network.size());
        let to = self.b.add(record, i64::from(record::HEADERS.0));
        // Always as many bytes: behind the packet's data its `skb_shared_info` follows, so the memory is there.
        let args = vec![to.into(), i64::from(record::HEADERS.1).into(), start.into()];
        self.b.call_void(Helper::ProbeReadKernel, args);
        self.b.jump(done);
        self.b.switch_to(absent);
        for field in [Record::HeaderLen, Record::Network] {
            self.b.store(record, field.offset(), 0, field.size());
        }
        for off in (0..record::HEADERS.1 as i32).step_by(8) {
            self.b.store(record, record::HEADERS.0 as i32 + off, 0, Size::B8);
        }
        self.b.jump(done);
        self.b.switch_to(done);
    }

    /// Follow the skb no more.
    fn let_go(&mut self) {
        let key = self.set_key(self.skb);
        let map = self.b.map(FOLLOW);
        let error = self.b.call(Helper::MapDeleteElem, vec![map.into(), key.into()]);
        let (gone, next) = (self.b.block(), self.b.block());
        // Another CPU may have been first: only one of them counts.
        self.b.branch(Cond::Eq, error, 0, gone, next);
        self.b.switch_to(gone);
        self.add_following(-1);
        self.b.jump(next);
        self.b.switch_to(next);
    }

    fn stats(&mut self) -> Reg {
        let zero = self.b.slot(4, 4);
        let zero = self.b.slot_addr(zero);
        self.b.store(zero, 0, 0, Size::B4);
        let map = self.b.map(STATS);
        let ty = Type::MapValue {
            map: STATS,
            nullable: true,
        };
        let value = self
            .b
            .call_as(ty, Helper::MapLookupElem, vec![map.into(), zero.into()]);
        self.b.non_null(value, self.out)
    }

    /// Add one to this CPU's counter. Programs on one CPU may interrupt each other, hence atomically.
    fn count(&mut self, stat: Stat) {
        let stats = self.stats();
        let one = self.b.imm(1);
        self.b.push(Op::Atomic {
            op: AtomicOp::Add,
            base: stats,
            off: stat as i32 * 8,
            src: one,
            size: Size::B8,
            fetch: None,
        });
    }
}
