//! What all programs of a run share: the maps, how big they are, and what is counted.
//!
//! Deliberately absent: what programs do with them.

use ktrail_ebpf::ir::{MapDecl, MapKind, MapRef};

use super::Watch;

/// The maps that all programs of a run share, in the order of [`maps`].
pub(super) const EVENTS: MapRef = MapRef(0);
pub(super) const FOLLOW: MapRef = MapRef(1);
pub(super) const STATE: MapRef = MapRef(2);
pub(super) const STATS: MapRef = MapRef(3);

/// Bytes of the one value of `state`: `enabled`, 0 or 1, and `following`, 4 bytes each. Programs look at both at once.
pub const STATE_SIZE: u32 = 8;
/// Where in that value it is counted how many skbs are followed.
pub const STATE_FOLLOWING: i32 = 4;
/// Such a value as one number, on a little-endian machine: enabled, and nothing is followed.
pub(super) const STATE_IDLE: i64 = 1;

/// The value in `follow`: the journey, `skb->head` when last seen, and whether the head is expected to change.
pub(super) const FOLLOW_SIZE: u32 = 24;
pub(super) const FOLLOW_JOURNEY: i32 = 0;
pub(super) const FOLLOW_HEAD: i32 = 8;
pub(super) const FOLLOW_MOVING: i32 = 16;
/// Which of the journey's copies it is, where journeys are folded.
pub(super) const FOLLOW_COPY: i32 = 24;
pub(super) const FOLLOW_COPY_SIZE: u32 = 8;

/// Sizes of what a run keeps in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the ring; a power of two and a multiple of the page size.
    pub ring: u32,
    /// How many skbs can be followed at once.
    pub follow: u32,
    /// How many stacks and calls [`super::beneath`] can be told apart; 0 where nobody asks.
    pub calls: u32,
    /// How many journeys can be under way at once, and how many different ones be told apart, where they are folded
    /// ([`super::fold`]) and not reported hit by hit; else 0. Excludes `calls`.
    pub folded: u32,
    /// The run watches what it costs. Excludes `folded`.
    pub watch: Option<Watch>,
}

impl Limits {
    /// Journeys are folded in the kernel.
    pub fn folds(self) -> bool {
        self.folded > 0
    }
}

pub(super) fn map(name: &str, kind: MapKind, key_size: u32, value_size: u32, max_entries: u32) -> MapDecl {
    MapDecl {
        name: name.into(),
        kind,
        key_size,
        value_size,
        max_entries,
    }
}

/// The maps that all programs of a run share.
pub fn maps(limits: Limits) -> Vec<MapDecl> {
    let follow = match limits.folds() {
        true => FOLLOW_SIZE + FOLLOW_COPY_SIZE,
        false => FOLLOW_SIZE,
    };
    let mut maps = vec![
        map("events", MapKind::RingBuf, 0, 0, limits.ring),
        map("follow", MapKind::Hash, 8, follow, limits.follow),
        map("state", MapKind::Array, 4, STATE_SIZE, 1),
        map("stats", MapKind::PercpuArray, 4, Stat::COUNT * 8, 1),
    ];
    if limits.folds() {
        use super::super::trail::{SEEN, SIZE};
        maps.push(map("journeys", MapKind::Hash, 8, SIZE, limits.folded));
        maps.push(map("blank", MapKind::Array, 4, SIZE, 1));
        maps.push(map("seen", MapKind::Array, 4, SEEN * 8, 1));
        maps.push(map("classes", MapKind::Hash, 8, SIZE, limits.folded));
    } else if limits.calls > 0 {
        use super::beneath::{ACTIVE_SIZE, CALLS_SIZE};
        maps.push(map("active", MapKind::LruHash, 8, ACTIVE_SIZE, limits.calls));
        maps.push(map("calls", MapKind::Hash, 8, CALLS_SIZE, limits.calls));
    }
    maps.extend(limits.watch.iter().flat_map(Watch::maps));
    maps
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
    /// Calls beneath a followed packet's functions.
    Calls = 5,
    /// Those whose return was seen.
    Returns = 6,
    /// Hits of a packet whose journey has been folded already.
    Stray = 7,
    /// Journeys of which two CPUs handled copies in the same instant, so that a step may be missing.
    Tangled = 8,
    /// Journeys for whose path there was no room.
    Unclassed = 9,
}

impl Stat {
    /// How many there are.
    pub const COUNT: u32 = 10;
}
