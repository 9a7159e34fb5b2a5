//! Capture files, and filters on them: what `ktrail filter --read` does, without any privilege; and what scripts write by
//! `skboutput()`.
//!
//! Deliberately absent: what packets look like inside, which is the filter's, and captures from a network interface.

mod apply;
mod file;
mod write;

pub use apply::{Counts, Matcher, apply};
pub use file::{Packet, Reader};
pub use write::Writer;
