//! The tracer's kernel side: the program that runs at an attach point, built as IR.
//!
//! ```text
//!   enabled? ─▶ followed already? ──yes──────────────▶ report ─▶ let go, if this ends the skb
//!                      └─no─▶ filter matches? ─yes─▶ follow ─▶ report
//! ```
//!
//! Of the two functions that this takes, the entry has what most packets see, and no more ([`Function::lean`]): whether
//! any packet is followed, and the filter. The other one is called for those that are followed or match ([`Ask`]).
//!
//! A packet that matches the filter once is in the map `follow`, by its skb's address, until its memory goes back.
//! Clones, copies and segments join their original's journey. An address whose `skb->head` has changed without a
//! reallocation that was seen belongs to another packet: its journey has ended unseen.
//!
//! Deliberately absent: where programs are attached ([`super::plan`]) and how reports read ([`super::decode`]).

pub mod beneath;
mod extras;
mod fold;
mod hits;
mod netfilter;
mod report;
mod shared;

use ktrail_ebpf::filter::{self, Filter};
use ktrail_ebpf::ir::{
    AtomicOp, BinOp, Block, Builder, Cond, FuncRef, Function, MapRef, Op, Operand, Program, ProgramKind, Reg,
    Size, Slot, Term, Type, Width,
};
use ktrail_ebpf::isa::Helper;

use super::extras::Extras;
use super::offsets::Offsets;
use super::record::SignCode;
use super::view::SkbView;
pub use hits::{TURNS_SIZE, Turn, Watch};

use shared::{
    EVENTS, FOLLOW, FOLLOW_COPY, FOLLOW_COPY_SIZE, FOLLOW_HEAD, FOLLOW_JOURNEY, FOLLOW_MOVING, FOLLOW_SIZE,
    STATE, STATE_IDLE, STATS,
};
pub use shared::{Limits, STATE_FOLLOWING, STATE_SIZE, Stat, maps};

/// Where a program finds the packet among the arguments of what it is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SkbArg {
    /// Position, from 0; or [`SkbArg::BY_COOKIE`].
    pub index: u8,
    /// It is a `struct sk_buff **`.
    pub indirect: bool,
}

impl SkbArg {
    /// The position is among those that [`SkbArg::MOST`] allows, and the upper half of the attach cookie says which.
    pub const BY_COOKIE: u8 = u8::MAX;
    /// Positions that a cookie can tell: from 0 to one less.
    pub const MOST: u8 = 6;
    /// All is told by cookie.
    pub const TOLD: SkbArg = SkbArg {
        index: SkbArg::BY_COOKIE,
        indirect: false,
    };
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
    /// The packet passes between the stack and a device: which one tells ways apart where journeys are folded.
    Device,
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
    /// One of those that [`Role::told`] has a number for, where no journey starts. The attach cookie says which, and
    /// where the skb is ([`cookie`]).
    ByCookie,
}

/// The attach cookie of a point: its number in the lower half. Above that, for programs that ask, where its skb is
/// ([`SkbArg::BY_COOKIE`]), and what [`Role::told`] says ([`Role::ByCookie`]).
pub fn cookie(point: u32, skb: SkbArg, told: u8) -> u64 {
    let indirect = if skb.indirect { INDIRECT } else { 0 };
    let upper = i64::from(skb.index) | indirect | i64::from(told) << TOLD;
    u64::from(point) | upper.cast_unsigned() << 32
}

/// `cookie` at a point of a program with several cases, of which it means this one.
pub fn cookie_for_case(cookie: u64, case: usize) -> u64 {
    cookie | (case as u64) << (32 + CASE)
}

/// In the upper half of a cookie, where the number of the case begins.
const CASE: i64 = 16;
/// In the upper half of a cookie, beside the position: the skb is behind a pointer.
const INDIRECT: i64 = 8;
/// And where the role begins.
const TOLD: i64 = 4;
/// In a role: only if the second argument is not zero.
const CONDITIONAL: u8 = 0x10;
/// What of a role is a [`SignCode`].
const SIGN: i64 = 0xf;

/// The argument that says which rules run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rules {
    /// At this position, `struct nft_chain *`.
    Nft(u8),
    /// At this position, `struct xt_table *`.
    Xt(u8),
}

impl Role {
    /// What tells it in a cookie, if [`Role::ByCookie`] can stand for it.
    pub fn told(self) -> Option<u8> {
        let (sign, conditional) = match self {
            Role::PassFollowed => (SignCode::Passed, 0),
            Role::Copy => (SignCode::Copied, 0),
            Role::Free { only_if: None } => (SignCode::Freed, 0),
            Role::Free { only_if: Some(1) } => (SignCode::Freed, CONDITIONAL),
            _ => return None,
        };
        Some(sign as u8 | conditional)
    }

    /// May a journey of the skb there start here? (A pointer to a pointer may point to one that isn't set yet: whatever
    /// the stack held before.)
    pub fn starts(self, skb: SkbArg) -> bool {
        let role = matches!(
            self,
            Role::Pass | Role::Device | Role::Hook { .. } | Role::Reallocate | Role::Drop { .. }
        );
        role && !skb.indirect
    }

    /// Can the packet's state still be read here? ([`Role::ByCookie`]: perhaps.)
    fn has_state(self) -> bool {
        !matches!(self, Role::Free { .. } | Role::Transmit { .. })
    }

    /// Is the skb not followed any more after this? ([`Role::ByCookie`]: perhaps.)
    fn ends(self) -> bool {
        matches!(
            self,
            Role::Free { .. }
                | Role::Drop { last: true, .. }
                | Role::Consume { last: true, .. }
                | Role::ByCookie
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
    /// Where `struct task_struct` keeps its stack, if it is to be known what runs beneath.
    pub task_stack: Option<u32>,
    /// `bpf_get_func_ip` exists, for [`Place::Ip`].
    pub get_func_ip: bool,
    /// The program is one of two that take turns; only in a run that watches what it costs.
    pub turn: Option<Turn>,
}

impl Spec<'_> {
    /// Whether journeys start here.
    fn may_start(&self) -> bool {
        self.starts && self.role.starts(self.skb)
    }

    /// Where a task's stack is, if it is to be known what runs beneath this program's functions.
    fn beneath(&self) -> Option<u32> {
        self.task_stack.filter(|_| self.kind == ProgramKind::Kprobe)
    }

    /// There is nothing to do while no packet is followed. (What is to be known beneath packets, all are needed for; and
    /// who watches what the program costs, counts its runs.)
    fn leaves_idle(&self) -> bool {
        !self.may_start() && self.beneath().is_none() && self.limits.watch.is_none()
    }
}

/// Build the program for `specs`, one at least. Where there are several, which are alike but for what their points are, the
/// attach cookie says which is meant ([`cookie_for_case`]).
pub fn build(name: &str, specs: &[Spec<'_>]) -> Program {
    let first = &specs[0];
    let functions = match specs {
        [spec] => vec![
            Body::new(name, spec).entry(FuncRef(1)),
            Body::new("followed", spec).followed_or_new(),
        ],
        cases => {
            let mut functions = vec![dispatch(name, cases)];
            for spec in cases {
                let mut case = Body::new("case", spec);
                case.b.param(Type::Ctx);
                case.handed_over = Some(case.b.param(Type::Int));
                let followed = FuncRef(functions.len() as u32 + 1);
                functions.push(case.entry(followed));
                functions.push(Body::new("followed", spec).followed_or_new());
            }
            functions
        }
    };
    Program {
        name: name.into(),
        kind: first.kind,
        maps: maps(first.limits),
        functions,
    }
}

/// Call the function for the case that the cookie names, with the cookie's upper half.
fn dispatch(name: &str, cases: &[Spec<'_>]) -> Function {
    let mut b = Builder::new(name);
    b.lean();
    if cases.iter().all(Spec::leaves_idle) {
        // Before the cookie is asked for, which some kernels have to look up.
        let (idle, go_on) = (b.block(), b.block());
        let state = b.map_data(STATE, 0);
        let state = b.load(state, 0, Size::B8);
        b.branch(Cond::Eq, state, STATE_IDLE, idle, go_on);
        b.switch_to(idle);
        b.ret(0);
        b.switch_to(go_on);
    }
    let ctx = b.ctx();
    let cookie = b.call(Helper::GetAttachCookie, vec![ctx.into()]);
    let upper = b.bin(BinOp::Shr, Width::W64, cookie, 32);
    let wanted = b.bin(BinOp::Shr, Width::W64, upper, CASE);
    for number in 0..cases.len() {
        let (this, next) = (b.block(), b.block());
        b.branch(Cond::Eq, wanted, number as i64, this, next);
        b.switch_to(this);
        b.push(Op::CallFn {
            dst: None,
            func: FuncRef(1 + 2 * number as u32),
            args: vec![ctx.into(), upper.into()],
        });
        b.ret(0);
        b.switch_to(next);
    }
    b.ret(0);
    b.finish()
}

/// What the function for most packets asks of the one beside it.
enum Ask {
    /// If the packet is followed, report it; otherwise answer [`UNKNOWN`].
    Find = 0,
    /// It matches: its journey starts.
    Start = 1,
}

/// The packet is not followed.
const UNKNOWN: i64 = 1;

/// A program that does nothing, to be attached like the one for `spec`.
pub fn empty(name: &str, spec: &Spec<'_>) -> Program {
    let mut b = Builder::new(name);
    b.ret(0);
    Program {
        name: name.into(),
        kind: spec.kind,
        maps: maps(spec.limits),
        functions: vec![b.finish()],
    }
}

/// Registers and blocks that the parts of one program share.
struct Body<'a> {
    b: Builder,
    spec: &'a Spec<'a>,
    /// Leaves the program.
    out: Block,
    skb: Reg,
    /// The value of `state` when the program began.
    state: Reg,
    /// Holds the skb's address: the key in `follow`.
    key: Slot,
    journey: Reg,
    head: Reg,
    /// Which of the journey's copies the skb is, and of which it was cloned just now, where journeys are folded.
    copy: Reg,
    origin: Reg,
    /// The upper half of the cookie, and the sign in it, where the role is told by cookie.
    upper: Reg,
    told: Reg,
    /// The upper half of the cookie, where the function was handed it.
    handed_over: Option<Reg>,
}

impl<'a> Body<'a> {
    fn new(name: &str, spec: &'a Spec<'a>) -> Body<'a> {
        let mut b = Builder::new(name);
        let out = b.block();
        let skb = b.reg(Type::Kernel { direct: false });
        let state = b.int();
        let key = b.slot(8, 8);
        let journey = b.int();
        let head = b.reg(Type::Kernel { direct: false });
        let (copy, origin) = (b.int(), b.int());
        let (upper, told) = (b.int(), b.int());
        Body {
            b,
            spec,
            out,
            skb,
            state,
            key,
            journey,
            head,
            copy,
            origin,
            upper,
            told,
            handed_over: None,
        }
    }

    /// The function that runs for each packet.
    fn entry(mut self, followed: FuncRef) -> Function {
        self.b.lean();
        self.load_state();
        if self.spec.limits.watch.is_some() {
            self.unless_off();
            self.watch();
        }
        let (unknown, find) = match self.spec.may_start() {
            true => (self.b.block(), self.b.block()),
            false => (self.out, self.b.block()),
        };
        if self.spec.beneath().is_some() {
            // Packets that aren't followed are seen there, too.
            self.b.jump(find);
        } else {
            self.b.branch(Cond::Eq, self.state, STATE_IDLE, unknown, find);
        }
        self.b.switch_to(find);
        let answer = self.ask(followed, Ask::Find);
        if self.spec.may_start() {
            self.b.branch(Cond::Eq, answer, UNKNOWN, unknown, self.out);
            self.b.switch_to(unknown);
            self.argument(self.skb, self.spec.skb);
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
            self.ask(followed, Ask::Start);
        }
        self.b.jump(self.out);
        self.b.switch_to(self.out);
        self.b.ret(0);
        self.b.finish()
    }

    fn ask(&mut self, func: FuncRef, ask: Ask) -> Reg {
        let answer = self.b.int();
        let ctx = self.b.ctx();
        self.b.push(Op::CallFn {
            dst: Some(answer),
            func,
            args: vec![ctx.into(), (ask as i64).into()],
        });
        answer
    }

    /// The function for what is followed, or matches.
    fn followed_or_new(mut self) -> Function {
        let Spec { skb, role, .. } = *self.spec;
        self.b.param(Type::Ctx);
        let ask = self.b.param(Type::Int);
        self.load_state();
        if role == Role::ByCookie {
            self.tell();
        }
        if let Role::Free { only_if: Some(index) } = role {
            self.only_if(index);
        }
        if let Role::Verdict { immediate: true } = role {
            self.only_verdicts();
        }
        self.argument(self.skb, skb);

        let report = self.b.block();
        if self.spec.may_start() {
            let (start, find) = (self.b.block(), self.b.block());
            self.b.branch(Cond::Eq, ask, Ask::Start as i64, start, find);
            self.b.switch_to(start);
            self.start(report);
            self.b.switch_to(find);
        }
        if let Role::Clone { from } = role {
            self.clone_of(from, report);
        } else {
            self.find(report);
        }
        self.b.switch_to(report);
        match self.spec.limits.folds() {
            true => self.step(),
            false => self.report(),
        }
        if role == Role::ByCookie {
            self.b
                .branch_if(Cond::Ne, self.told, SignCode::Freed as i64, self.out);
        }
        if role.ends() {
            self.let_go();
        }
        self.b.jump(self.out);
        self.b.switch_to(self.out);
        self.b.ret(0);
        self.b.finish()
    }

    /// Find out the role.
    fn tell(&mut self) {
        let upper = self.upper_cookie();
        self.b.mov(self.upper, upper);
        let told = self.b.bin(BinOp::Shr, Width::W64, upper, TOLD);
        let sign = self.b.and(told, SIGN);
        self.b.mov(self.told, sign);
        let (conditional, go_on) = (self.b.block(), self.b.block());
        let condition = self.b.and(told, i64::from(CONDITIONAL));
        self.b.branch(Cond::Ne, condition, 0, conditional, go_on);
        self.b.switch_to(conditional);
        self.only_if(1);
        self.b.jump(go_on);
        self.b.switch_to(go_on);
    }

    fn upper_cookie(&mut self) -> Reg {
        if let Some(upper) = self.handed_over {
            return upper;
        }
        let ctx = self.b.ctx();
        let cookie = self.b.call(Helper::GetAttachCookie, vec![ctx.into()]);
        self.b.bin(BinOp::Shr, Width::W64, cookie, 32)
    }

    /// Leave the program unless this `bool` argument is true.
    fn only_if(&mut self, index: u8) {
        let flag = self.b.arg(index, Type::Int);
        // The caller may leave what it likes in the upper bits.
        let flag = self.b.and(flag, 0xff);
        self.b.branch_if(Cond::Eq, flag, 0, self.out);
    }

    fn load_state(&mut self) {
        let state = self.b.map_data(STATE, 0);
        self.b.push(Op::Load {
            dst: self.state,
            base: state,
            off: 0,
            size: Size::B8,
            signed: false,
        });
    }

    /// Leave the program unless it is switched on.
    fn unless_off(&mut self) {
        let (off, next) = (self.out, self.b.block());
        self.b.terminate(Term::Branch {
            cond: Cond::Eq,
            width: Width::W32,
            a: self.state,
            b: 0.into(),
            then: off,
            otherwise: next,
        });
        self.b.switch_to(next);
    }

    /// Put the skb of an argument into `dst`. Where there is none, it is not followed and has no buffer.
    fn argument(&mut self, dst: Reg, arg: SkbArg) {
        match arg.index {
            SkbArg::BY_COOKIE => self.argument_by_cookie(dst),
            index => self.b.push(Op::Arg { dst, index }),
        }
        if arg.indirect {
            self.behind(dst);
        }
    }

    /// Go to where a pointer points.
    fn behind(&mut self, dst: Reg) {
        self.b.push(Op::KernelLoad {
            dst,
            base: dst,
            off: 0,
            size: Size::B8,
            signed: false,
        });
    }

    fn argument_by_cookie(&mut self, dst: Reg) {
        let role_too = self.spec.role == Role::ByCookie;
        let upper = match role_too {
            true => self.upper,
            false => self.upper_cookie(),
        };
        let wanted = self.b.and(upper, INDIRECT - 1);
        let found = self.b.block();
        for index in 0..SkbArg::MOST {
            let (this, next) = (self.b.block(), self.b.block());
            self.b.branch(Cond::Eq, wanted, i64::from(index), this, next);
            self.b.switch_to(this);
            self.b.push(Op::Arg { dst, index });
            self.b.jump(found);
            self.b.switch_to(next);
        }
        self.b.jump(self.out);
        self.b.switch_to(found);
        if role_too {
            let (indirect, direct) = (self.b.block(), self.b.block());
            let flag = self.b.and(self.upper, INDIRECT);
            self.b.branch(Cond::Ne, flag, 0, indirect, direct);
            self.b.switch_to(indirect);
            self.behind(dst);
            self.b.jump(direct);
            self.b.switch_to(direct);
        }
    }

    /// Store `skb` as the key and look it up in `follow`. Goes on in a new block with the value. Leaves the program
    /// unless it is switched on, which is asked after what is true for most packets.
    fn followed(&mut self, skb: Reg, none: Block) -> Reg {
        self.b.branch_if(Cond::Eq, self.state, STATE_IDLE, none);
        self.unless_off();
        let key = self.set_key(skb);
        self.lookup(FOLLOW, key, none)
    }

    /// Look `key` up in `map`. Goes on in a new block with the value.
    fn lookup(&mut self, map: MapRef, key: Reg, none: Block) -> Reg {
        let ty = Type::MapValue { map, nullable: true };
        let map = self.b.map(map);
        let args = vec![map.into(), key.into()];
        let value = self.b.call_as(ty, Helper::MapLookupElem, args);
        self.b.non_null(value, none)
    }

    fn set_key(&mut self, skb: Reg) -> Reg {
        let key = self.b.slot_addr(self.key);
        self.b.store(key, 0, skb, Size::B8);
        key
    }

    /// Find the journey of the skb; go on at `report` with `journey` set, or leave.
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
        self.load_copy(value, self.copy);
        self.b.jump(report);

        self.b.switch_to(reused);
        self.count(Stat::Reused);
        if self.spec.limits.folds() {
            self.lose(value);
        } else {
            self.let_go();
        }
        self.b.jump(unknown);

        self.b.switch_to(unknown);
        if let Some(task_stack) = self.spec.beneath() {
            self.b.branch_if(Cond::Eq, self.skb, 0, self.out);
            self.make_way(task_stack);
        }
        self.b.ret(UNKNOWN);
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

    /// The packet matches; go on at `report` with its new journey, or leave.
    fn start(&mut self, report: Block) {
        self.load_head();
        // An skb without a buffer is still being made.
        self.b.branch_if(Cond::Eq, self.head, 0, self.out);
        self.only();
        if !self.spec.limits.folds() {
            self.count(Stat::Journeys);
        }
        let time = self.b.call(Helper::KtimeGetNs, vec![]);
        let id = self.unique(time);
        self.b.mov(self.journey, id);
        let moving = i64::from(self.spec.role == Role::Reallocate);
        let head = self.head;
        match self.spec.limits.folds() {
            true => self.begin(moving),
            false => self.follow(self.skb, head.into(), moving),
        }
        self.b.jump(report);
    }

    /// A number that nothing else that begins now gets: no two things begin on one CPU in one nanosecond, and 13 bits
    /// hold the number of any CPU that Linux runs on.
    fn unique(&mut self, now: Reg) -> Reg {
        let time = self.b.bin(BinOp::Shl, Width::W64, now, 13);
        let cpu = self.b.call(Helper::GetSmpProcessorId, vec![]);
        self.b.bin(BinOp::Or, Width::W64, time, cpu)
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
        let state = self.b.map_data(STATE, 0);
        let by = self.b.imm(by);
        self.b.push(Op::Atomic {
            op: AtomicOp::Add,
            base: state,
            off: STATE_FOLLOWING,
            src: by,
            size: Size::B4,
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
        // Without a copy nothing joins.
        self.b.branch_if(Cond::Eq, self.skb, 0, self.out);
        let value = self.followed(original, self.out);
        self.b.push(Op::Load {
            dst: self.journey,
            base: value,
            off: FOLLOW_JOURNEY,
            size: Size::B8,
            signed: false,
        });
        // Its head isn't there yet.
        match self.spec.limits.folds() {
            true => self.join(value),
            false => self.follow(self.skb, Operand::Imm(0), 1),
        }
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
        if self.spec.limits.folds() {
            self.release(self.journey);
        }
        self.b.jump(next);
        self.b.switch_to(next);
    }

    fn stats(&mut self) -> Reg {
        // What a key is for is done before something is counted, or the key is stored after it.
        let zero = self.b.slot_addr(self.key);
        self.b.store(zero, 0, 0, Size::B8);
        self.lookup(STATS, zero, self.out)
    }

    /// Add one to this CPU's counter. Programs on one CPU may interrupt each other, hence atomically.
    fn count(&mut self, stat: Stat) {
        let stats = self.stats();
        self.add_one(stats, stat as i32);
    }

    /// Add one to a counter of several, 8 bytes each.
    fn add_one(&mut self, counters: Reg, number: i32) {
        let one = self.b.imm(1);
        self.b.push(Op::Atomic {
            op: AtomicOp::Add,
            base: counters,
            off: number * 8,
            src: one,
            size: Size::B8,
            fetch: None,
        });
    }
}
