//! What a run that watches its own cost adds to the program: how often it ran for which point, and whether it is its
//! turn.
//!
//! ```text
//!   enabled? ─▶ its turn? ─▶ are runs being counted? ─yes─▶ count ─▶ …
//! ```
//!
//! The kernel measures programs ([`crate::kernel::program::Stats`]); one program serves many functions, and how its
//! time falls to them is known by counting its runs at each. That costs, so it is done from time to time only.
//! What is reported is always counted: through which functions followed packets went must be known, also when the
//! ring has lost their events.
//!
//! A function leaves a link of many by making the link again without it. Two programs, alike but for their turn, take
//! the old link and the new one, and one write makes all hits the new one's: none is seen twice, none not at all.
//!
//! Deliberately absent: what is made of the counts ([`super::super::governor`]).

use ktrail_ebpf::ir::{Cond, MapDecl, MapKind, MapRef, Operand, Size};
use ktrail_ebpf::isa::Helper;

use super::shared::map;
use super::{Body, Limits};

/// For programs whose run watches what it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// How many points there are.
    pub points: u32,
    /// The map `hits` is an array by the points' numbers. Where programs aren't told them ([`super::Place::Ip`]), it is
    /// a hash by number or probed address.
    pub by_number: bool,
}

impl Limits {
    /// The map `hits`, which comes after those of [`super::beneath`]; `turns` is the next.
    fn hits(self) -> MapRef {
        MapRef(if self.calls > 0 { 6 } else { 4 })
    }

    fn turns(self) -> MapRef {
        MapRef(self.hits().0 + 1)
    }
}

impl Watch {
    /// `hits` and `turns`.
    pub(super) fn maps(&self) -> [MapDecl; 2] {
        let points = self.points.max(1);
        [
            match self.by_number {
                true => map("hits", MapKind::PercpuArray, 4, HITS_SIZE, points),
                false => map("hits", MapKind::PercpuHash, 8, HITS_SIZE, points),
            },
            map("turns", MapKind::Array, 4, TURNS_SIZE, 1),
        ]
    }
}

/// A value in the per-CPU map `hits`: [`Hit`]s, 8 bytes each.
const HITS_SIZE: u32 = 16;

/// What is counted for each point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hit {
    /// The program ran, while runs were counted.
    Ran = 0,
    /// It reported a packet.
    Followed = 1,
}

/// Bytes of the one value of `turns`. The first says whether runs are counted; each further one, which of a pair of
/// programs acts.
pub const TURNS_SIZE: u32 = 64;

/// When one of a pair of programs acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The pair's byte in `turns`: from 1 to [`TURNS_SIZE`], exclusive.
    pub pair: u8,
    /// What is there when it is this program's turn.
    pub number: u8,
}

impl Body<'_> {
    /// Leave if it is the other's turn; count the run.
    pub(super) fn watch(&mut self) {
        let turns = self.b.map_data(self.spec.limits.turns(), 0);
        if let Some(Turn { pair, number }) = self.spec.turn {
            let whose = self.b.load(turns, pair.into(), Size::B1);
            self.b.branch_if(Cond::Ne, whose, i64::from(number), self.out);
        }
        let counting = self.b.load(turns, 0, Size::B1);
        let (count, go_on) = (self.b.block(), self.b.block());
        self.b.branch(Cond::Ne, counting, 0, count, go_on);
        self.b.switch_to(count);
        self.count_here(Hit::Ran);
        self.b.jump(go_on);
        self.b.switch_to(go_on);
    }

    /// Add one to a counter of this point.
    pub(super) fn count_here(&mut self, hit: Hit) {
        let by_number = self.spec.limits.watch.is_none_or(|watch| watch.by_number);
        let hits = self.spec.limits.hits();
        let (number, ip) = self.place();
        let key_slot = self.b.slot(8, 8);
        let key = self.b.slot_addr(key_slot);
        match (by_number, ip) {
            (true, _) => self.b.store(key, 0, number, Size::B4),
            (false, Operand::Imm(_)) => self.b.store(key, 0, number, Size::B8),
            (false, ip) => self.b.store(key, 0, ip, Size::B8),
        }
        let (absent, done) = (self.b.block(), self.b.block());
        let value = self.lookup(hits, key, absent);
        self.add_one(value, hit as i32);
        self.b.jump(done);

        self.b.switch_to(absent);
        if !by_number {
            let zero_slot = self.b.slot(HITS_SIZE, 8);
            let zero = self.b.slot_addr(zero_slot);
            for off in (0..HITS_SIZE).step_by(8) {
                self.b.store(zero, off as i32, 0, Size::B8);
            }
            // Another CPU may be first; then its entry is as good.
            const BPF_NOEXIST: i64 = 1;
            let map = self.b.map(hits);
            let args = vec![map.into(), key.into(), zero.into(), BPF_NOEXIST.into()];
            self.b.call_void(Helper::MapUpdateElem, args);
            let value = self.lookup(hits, key, done);
            self.add_one(value, hit as i32);
        }
        self.b.jump(done);
        self.b.switch_to(done);
    }
}
