//! From events as they arrive to what is printed: sort, gather into journeys, render.
//!
//! Deliberately absent: where events come from, and clocks.

use std::io;

use super::event::{Event, Point};
use super::folded::{Folded, Folding};
use super::journey::{Journeys, Limits, Totals};
use super::order::Sorter;
use super::recording::{End, Recorder};
use super::render::Renderer;
use super::summary::{Attached, Counted, Summary};

/// How many events of a recording are taken between flushes.
const REPLAYED: u64 = 1024;

/// What is rendered, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Pace {
    /// Each journey when it has ended.
    #[default]
    Journeys,
    /// Each event as it comes; journeys end without their events.
    Events,
    /// Each event as it comes; journeys end with their events.
    Both,
}

/// The way of the events through sorter, journeys and renderer.
pub struct Pipeline<R> {
    sorter: Sorter,
    journeys: Journeys,
    renderer: R,
    pace: Pace,
    ended: u64,
    limit: Option<u64>,
    recorder: Option<Recorder>,
    replayed: u64,
}

impl<R: Renderer> Pipeline<R> {
    /// For events from `points`.
    pub fn new(points: &[Point], renderer: R, pace: Pace) -> Self {
        let limits = match pace {
            Pace::Events => Limits::live(),
            Pace::Journeys | Pace::Both => Limits::default(),
        };
        Pipeline {
            sorter: Sorter::default(),
            journeys: Journeys::new(points, limits),
            renderer,
            pace,
            ended: 0,
            limit: None,
            recorder: None,
            replayed: 0,
        }
    }

    /// Render no more than this many packets.
    pub fn stop_after(mut self, packets: Option<u64>) -> Self {
        self.limit = packets;
        self
    }

    /// Also record what comes.
    pub fn record(mut self, recorder: Option<Recorder>) -> Self {
        self.recorder = recorder;
        self
    }

    /// As many packets as were asked for have been rendered, or nobody wants to see more.
    pub fn done(&self) -> bool {
        self.limit.is_some_and(|limit| self.ended >= limit) || self.renderer.over()
    }

    /// Passes on something to tell at once.
    pub fn notice(&mut self, line: &str) {
        self.renderer.notice(line);
    }

    /// No packet is known to be on its way.
    pub fn idle(&self) -> bool {
        self.journeys.open() == 0 && self.sorter.waiting() == 0
    }

    /// Takes an event as it arrives. Nothing is rendered before the next [`Pipeline::advance`].
    pub fn push(&mut self, event: Event) {
        self.sorter.push(event);
    }

    /// Counts events that the ring lost just now.
    pub fn lost(&mut self, count: u64) {
        self.journeys.lost(count);
        if let Some(recorder) = &mut self.recorder {
            recorder.lost(count);
        }
    }

    /// Takes the next event of a recording, in the order of their timestamps.
    ///
    /// # Errors
    /// What writing gave; see [`is_over`].
    pub fn replay(&mut self, event: Event) -> io::Result<()> {
        self.journeys.advance(event.time);
        self.render_ended()?;
        self.take(event)?;
        self.replayed += 1;
        if self.replayed.is_multiple_of(REPLAYED) {
            self.flush()?;
        }
        Ok(())
    }

    /// A recording has ended: renders everything that is left, and the summary.
    ///
    /// # Errors
    /// What writing gave; see [`is_over`].
    pub fn finish_replay(self, end: End) -> io::Result<Summary> {
        let late = end.late;
        self.end(end.attached, end.counted, late)
    }

    /// Renders what is due at `now`, in nanoseconds of CLOCK_MONOTONIC. Call it a few times in a hundred
    /// milliseconds, whether or not events arrived.
    ///
    /// # Errors
    /// What writing gave; see [`is_over`].
    pub fn advance(&mut self, now: u64) -> io::Result<()> {
        while let Some(event) = self.sorter.release(now) {
            self.take(event)?;
        }
        self.journeys.advance(self.sorter.watermark(now));
        self.render_ended()?;
        if let Some(recorder) = &mut self.recorder {
            recorder.advance(now)?;
        }
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.renderer.counted(&self.journeys.totals());
        self.renderer.flush()
    }

    /// How many packets' journeys have ended and been rendered.
    pub fn ended(&self) -> u64 {
        self.ended
    }

    /// The run is over: renders everything that is left, and the summary.
    ///
    /// # Errors
    /// What writing gave; see [`is_over`].
    pub fn finish(mut self, attached: Attached, counted: Counted) -> io::Result<Summary> {
        while let Some(event) = self.sorter.flush() {
            self.take(event)?;
        }
        let late = self.sorter.late();
        if let Some(recorder) = self.recorder.take() {
            let attached = attached.clone();
            recorder.finish(&End {
                attached,
                counted,
                late,
            })?;
        }
        self.end(attached, counted, late)
    }

    /// The run is over, and the kernel has folded the journeys: renders those, and the summary.
    ///
    /// # Errors
    /// What writing gave; see [`is_over`].
    pub fn finish_folded(
        mut self,
        points: &[Point],
        folded: Folded,
        (kinds, under_way): (&[Vec<u8>], &[Vec<u8>]),
        mut summary: Summary,
        begun: Folding,
    ) -> io::Result<Summary> {
        let renderer = &mut self.renderer;
        let (totals, found) = folded.finish(points, kinds, under_way, |share| renderer.folded(share))?;
        let accounted = totals.packets + begun.tangled + begun.unclassed;
        summary.folding = Some(Folding {
            unreported: begun.unreported,
            stray: begun.stray,
            tangled: begun.tangled,
            unclassed: begun.unclassed,
            unaccounted: begun.unaccounted - accounted.cast_signed(),
            ..found
        });
        summary.totals = Totals {
            packets: totals.packets + begun.tangled + begun.unclassed,
            stray: begun.stray,
            ..totals
        };
        self.renderer.summary(&summary)?;
        self.renderer.flush()?;
        Ok(summary)
    }

    fn end(mut self, attached: Attached, counted: Counted, late: u64) -> io::Result<Summary> {
        self.journeys.finish();
        self.render_ended()?;
        let totals = self.journeys.totals();
        let summary = Summary {
            attached,
            counted,
            late,
            totals,
            folding: None,
        };
        self.renderer.summary(&summary)?;
        self.renderer.flush()?;
        Ok(summary)
    }

    fn take(&mut self, event: Event) -> io::Result<()> {
        if self.done() {
            return Ok(());
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.event(&event)?;
        }
        if let Some((number, step)) = self.journeys.push(event)
            && self.pace != Pace::Journeys
        {
            self.renderer.event(number, step)?;
        }
        self.render_ended()
    }

    fn render_ended(&mut self) -> io::Result<()> {
        while let Some(journey) = self.journeys.ended() {
            if self.done() {
                break;
            }
            self.ended += 1;
            match self.pace {
                Pace::Journeys => self.renderer.journey(&journey)?,
                Pace::Events | Pace::Both => self.renderer.ended(&journey)?,
            }
        }
        Ok(())
    }
}

/// Whether a writing error means that nobody reads any more, as with `| head`: a reason to stop, not a failure.
pub fn is_over(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}
