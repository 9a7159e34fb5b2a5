//! Recordings: what a run saw, in a file that `ktrail show` renders again.
//!
//! ```text
//!   8 bytes   "ktrail" 0x00 VERSION
//!   blocks    kind: u32, length: u32, CRC-32 of the payload: u32, payload   (little-endian)
//! ```
//!
//! | kind | payload |
//! |---|---|
//! | 1 | [`Head`], as JSON; the first block |
//! | 2 | [`Batch`]: events in the order of their timestamps, by postcard, deflated |
//! | 3 | [`End`], as JSON; the last block of a run that ended in order |
//!
//! Each block is written at once, at the latest a second after its first event: a run that is killed leaves all but
//! that second. Blocks of a kind that a reader doesn't know are skipped.
//!
//! Deliberately absent: indexes. A recording is read from its beginning, twice.

mod read;
#[cfg(test)]
mod tests;
mod write;

use serde::{Deserialize, Serialize};

use super::event::{Event, Point};
use super::render::Reasons;
use super::rules::Question;
use super::summary::{Attached, Counted};

pub use read::{BadRecording, Damage, Known, Recording, show};
pub use write::{Functions, Recorder, Sources};

/// What a file starts with; its last byte is the version, which rises when a reader of the old would go wrong.
pub const MAGIC: [u8; 8] = *b"ktrail\0\x03";

const HEAD: u32 = 1;
const BATCH: u32 = 2;
const END: u32 = 3;

/// A block's payload is no longer than this, deflated or not: what is longer is damage.
const LONGEST: usize = 64 << 20;

/// What a recording's events need to be understood elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// ktrail's version.
    pub ktrail: String,
    /// The kernel's release, as `uname -r` says it.
    pub kernel: String,
    /// What to add to CLOCK_MONOTONIC to get CLOCK_REALTIME, in nanoseconds.
    pub offset: i64,
    /// The filter, as it was typed.
    pub filter: String,
    /// The attach points, which events' numbers index.
    pub points: Vec<Point>,
    /// `enum skb_drop_reason`: number and enumerator.
    pub reasons: Vec<(u32, String)>,
    /// `enum skb_drop_reason_subsys`: number and enumerator.
    pub subsystems: Vec<(u32, String)>,
    /// The paths of the fields that events carry.
    pub shown: Vec<String>,
    /// How many functions above its own an event's line shows.
    pub stack: u32,
}

impl Head {
    /// Names of the drop reasons.
    pub fn reasons(&self) -> Reasons {
        Reasons::new(self.reasons.iter().cloned()).with_subsystems(self.subsystems.iter().cloned())
    }
}

/// Some events, and what is new in them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Functions of code addresses that no earlier batch had.
    pub functions: Vec<(u64, String)>,
    /// Answers about a firewall's rules that no earlier batch had; a later one is truer.
    pub answers: Vec<(Question, String)>,
    /// The events.
    pub events: Vec<Event>,
    /// Events that the ring lost meanwhile.
    pub lost: u64,
}

/// How a run ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// What it was attached to.
    pub attached: Attached,
    /// What the kernel's side could not see.
    pub counted: Counted,
    /// Events that arrived too late to be put in order.
    pub late: u64,
}
