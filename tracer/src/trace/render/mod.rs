//! Rendering journeys: as text for people, as JSON lines for machines.
//!
//! Deliberately absent: what belongs together and how it ended (journeys), and colour detection (the command's).

use std::io;
use std::time::{Duration, UNIX_EPOCH};

use super::folded::Share;
use super::journey::{Journey, Step, Totals};
use super::summary::Summary;

mod change;
pub mod escape;
pub mod html;
pub mod json;
pub mod names;
pub mod netfilter;
pub mod paths;
pub mod pcapng;
pub mod perfetto;
#[cfg(test)]
pub(crate) mod tests;
pub mod text;
pub mod tone;
pub mod why;
pub mod words;

pub use html::Html;
pub use json::Json;
pub use names::{Names, Reasons};
pub use paths::Paths;
pub use pcapng::Pcapng;
pub use perfetto::Perfetto;
pub use text::{Text, Timestamp};

/// What journeys are rendered with. Every error is the writer's.
pub trait Renderer {
    /// One event of packet `number`, as it comes.
    ///
    /// # Errors
    /// The writer's.
    fn event(&mut self, number: u64, step: &Step) -> io::Result<()>;

    /// The end of a journey whose events have been rendered as they came.
    ///
    /// # Errors
    /// The writer's.
    fn ended(&mut self, journey: &Journey) -> io::Result<()>;

    /// A whole journey.
    ///
    /// # Errors
    /// The writer's.
    fn journey(&mut self, journey: &Journey) -> io::Result<()>;

    /// A kind of journeys that the kernel has folded, or one packet's times of it.
    ///
    /// # Errors
    /// The writer's.
    fn folded(&mut self, _: &Share<'_>) -> io::Result<()> {
        Ok(())
    }

    /// The run's summary.
    ///
    /// # Errors
    /// The writer's.
    fn summary(&mut self, summary: &Summary) -> io::Result<()>;

    /// Passes on what a buffer holds.
    ///
    /// # Errors
    /// The writer's.
    fn flush(&mut self) -> io::Result<()>;

    /// What has been counted so far; comes a few times in a hundred milliseconds.
    fn counted(&mut self, _: &Totals) {}

    /// Whether nobody wants to see any more.
    fn over(&self) -> bool {
        false
    }

    /// Something to tell at once, beside the journeys.
    fn notice(&mut self, line: &str) {
        eprintln!("ktrail: {line}");
    }
}

/// Renders nothing but the summary, as text.
pub struct SummaryAlone<W>(pub W);

impl<W: io::Write> Renderer for SummaryAlone<W> {
    fn event(&mut self, _: u64, _: &Step) -> io::Result<()> {
        Ok(())
    }

    fn ended(&mut self, _: &Journey) -> io::Result<()> {
        Ok(())
    }

    fn journey(&mut self, _: &Journey) -> io::Result<()> {
        Ok(())
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        write!(self.0, "{summary}")
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<R: Renderer + ?Sized> Renderer for Box<R> {
    fn event(&mut self, number: u64, step: &Step) -> io::Result<()> {
        (**self).event(number, step)
    }

    fn ended(&mut self, journey: &Journey) -> io::Result<()> {
        (**self).ended(journey)
    }

    fn journey(&mut self, journey: &Journey) -> io::Result<()> {
        (**self).journey(journey)
    }

    fn folded(&mut self, share: &Share<'_>) -> io::Result<()> {
        (**self).folded(share)
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        (**self).summary(summary)
    }

    fn flush(&mut self) -> io::Result<()> {
        (**self).flush()
    }

    fn counted(&mut self, totals: &Totals) {
        (**self).counted(totals);
    }

    fn over(&self) -> bool {
        (**self).over()
    }

    fn notice(&mut self, line: &str) {
        (**self).notice(line);
    }
}

/// A time of CLOCK_MONOTONIC as wall-clock time, UTC, RFC 3339 with nanoseconds. `offset` is what to add to get
/// CLOCK_REALTIME.
fn wall(time: u64, offset: i64) -> String {
    let time = UNIX_EPOCH + Duration::from_nanos(time.saturating_add_signed(offset));
    humantime::format_rfc3339_nanos(time).to_string()
}
