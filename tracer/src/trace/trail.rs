//! A journey as the kernel keeps it where journeys are folded there: the layout that the program writes and the decoder
//! reads, and what a report of a step carries besides.
//!
//! One layout serves a journey under way, the first of its kind (in the map `classes`, where it also counts), and the
//! samples that come through the ring, which leave out the times behind the last step. A sample counts 0, which no
//! report of a step begins with.

use ktrail_ebpf::ir::Size;

/// Steps whose times are kept; further ones are only counted.
pub const STEPS: u32 = 256;

/// Bytes of a journey.
pub const SIZE: u32 = TIMES + STEPS * 4;

/// Offset and size of the first bytes from the network header on that could be read.
pub const HEADERS: (u32, u32) = (72, 64);

/// Offset of the times: nanoseconds from each step's predecessor, 4 bytes each; [`u32::MAX`] for more than that holds.
pub const TIMES: u32 = HEADERS.0 + HEADERS.1;

/// Entries of the map that knows which steps have been reported, by the lower bits of their hash.
pub const SEEN: u32 = 1 << 16;

/// From so many journeys of a kind on, samples become rarer: at each doubling by half.
pub const SAMPLES: u64 = 4096;

/// The fields of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trail {
    /// How many there were of this kind.
    Count,
    /// At so many, samples become rarer again.
    Next,
    /// One of two to the power of this is a sample.
    Rate,
    /// Steps.
    Steps,
    /// Of all steps, in their order.
    Hash,
    /// When it began, CLOCK_MONOTONIC, nanoseconds.
    Start,
    /// When its last step was.
    Last,
    /// Steps, counted so that two CPUs can't hide one from each other.
    Hits,
    /// Copies that are still followed.
    Live,
    /// Copies that there were.
    Copies,
    /// Bytes from the network header on, possibly more than [`HEADERS`] holds; 0 while none could be read.
    HeaderLen,
}

impl Trail {
    const fn place(self) -> (i32, Size) {
        match self {
            Trail::Count => (0, Size::B8),
            Trail::Next => (8, Size::B8),
            Trail::Rate => (16, Size::B4),
            Trail::Steps => (20, Size::B4),
            Trail::Hash => (24, Size::B8),
            Trail::Start => (32, Size::B8),
            Trail::Last => (40, Size::B8),
            Trail::Hits => (48, Size::B8),
            Trail::Live => (56, Size::B8),
            Trail::Copies => (64, Size::B4),
            Trail::HeaderLen => (68, Size::B4),
        }
    }

    /// In bytes from the journey's start.
    pub const fn offset(self) -> i32 {
        self.place().0
    }

    /// How wide it is.
    pub const fn size(self) -> Size {
        self.place().1
    }

    /// Its value in a journey.
    pub fn of(self, journey: &[u8]) -> u64 {
        let (at, size) = self.place();
        let mut word = [0; 8];
        let bytes = size.bytes() as usize;
        if let Some(found) = journey.get(at as usize..at as usize + bytes) {
            word[..bytes].copy_from_slice(found);
        }
        u64::from_ne_bytes(word)
    }

    /// Put it into a journey.
    ///
    /// # Panics
    /// If that is shorter than its fields.
    pub fn put(self, journey: &mut [u8], value: u64) {
        let (at, size) = self.place();
        let bytes = size.bytes() as usize;
        journey[at as usize..at as usize + bytes].copy_from_slice(&value.to_ne_bytes()[..bytes]);
    }
}

/// An odd number that spreads a step's bits over the word (the golden ratio's fraction).
pub const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// How far a mixed word is shifted to mix its upper half into its lower.
pub const FOLD: u32 = 29;

/// Where a copy's number goes in what is hashed, clear of points' numbers and of what kernel addresses differ in.
pub const COPY_SHIFT: u32 = 44;

/// Hashed where an skb's end went unseen.
pub const LOST: u32 = 0x6c6f_7374;

/// A hash after a copy's end went unseen.
pub fn lost(hash: u64, copy: u64) -> u64 {
    let word = copy << COPY_SHIFT ^ u64::from(LOST);
    let mixed = (hash ^ word).wrapping_mul(SPREAD);
    mixed ^ mixed >> FOLD
}

/// A journey without any step.
pub fn blank() -> Vec<u8> {
    let mut journey = vec![0; SIZE as usize];
    Trail::Next.put(&mut journey, SAMPLES);
    journey
}

/// What follows the report of a step: the hash up to it, that up to its predecessor, its copy, and the copy that this
/// was cloned from; 8 bytes each.
pub const TAIL: u32 = 32;
