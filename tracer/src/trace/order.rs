//! Putting events into the order of their own timestamps.
//!
//! Events reach the reader slightly out of order: a timestamp is taken before the ring's record is reserved, and an
//! interrupt in between lets a later one go first. The [`Sorter`] holds each event back for a bounded time.
//!
//! Deliberately absent: any clock. The caller says what time it is, and that time decides only when an event is
//! released, never what is printed.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::event::Event;

/// How long events are held back by default, in nanoseconds: far above what an interrupt takes, far below what a
/// person notices.
pub const HOLD: u64 = 100_000_000;

/// Releases events in the order of their timestamps; equal timestamps keep their order of arrival.
pub struct Sorter {
    hold: u64,
    waiting: BinaryHeap<Reverse<Waiting>>,
    arrivals: u64,
    released: u64,
    late: u64,
}

struct Waiting {
    time: u64,
    arrival: u64,
    event: Event,
}

impl Waiting {
    fn key(&self) -> (u64, u64) {
        (self.time, self.arrival)
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl Default for Sorter {
    fn default() -> Self {
        Self::new(HOLD)
    }
}

impl Sorter {
    /// A sorter that holds each event back until `hold` nanoseconds after its timestamp.
    pub fn new(hold: u64) -> Self {
        Sorter {
            hold,
            waiting: BinaryHeap::new(),
            arrivals: 0,
            released: 0,
            late: 0,
        }
    }

    /// Takes an event as it arrives.
    ///
    /// One that is older than what was already released can't be put in its place any more: it is counted as late
    /// and comes out at the next release, ahead of all others. Journeys put it where it belongs.
    pub fn push(&mut self, event: Event) {
        if event.time < self.released {
            self.late += 1;
        }
        self.waiting.push(Reverse(Waiting {
            time: event.time,
            arrival: self.arrivals,
            event,
        }));
        self.arrivals += 1;
    }

    /// The time up to which events are released at `now`, in nanoseconds of the events' clock.
    pub fn watermark(&self, now: u64) -> u64 {
        now.saturating_sub(self.hold)
    }

    /// The oldest event that has been held back long enough at `now`, if there is one. Call it until there is none.
    pub fn release(&mut self, now: u64) -> Option<Event> {
        match self.waiting.peek() {
            Some(Reverse(first)) if first.time.saturating_add(self.hold) <= now => self.flush(),
            _ => None,
        }
    }

    /// The oldest event, however young: for the end of a run, when no more arrive. Call it until there is none.
    pub fn flush(&mut self) -> Option<Event> {
        let Reverse(first) = self.waiting.pop()?;
        self.released = self.released.max(first.time);
        Some(first.event)
    }

    /// How many events are held back.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many events arrived after a younger one had been released.
    pub fn late(&self) -> u64 {
        self.late
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trace::event::{PointId, Sign};

    fn event(time: u64, id: u64) -> Event {
        Event {
            time,
            journey: 1,
            skb: id,
            point: PointId(0),
            cpu: 0,
            pid: 0,
            tid: 0,
            comm: Vec::new(),
            packet: None,
            sign: Sign::Passed,
            hook: None,
            rule: None,
            shown: vec![],
            stack: vec![],
        }
    }

    fn released(sorter: &mut Sorter, now: u64) -> Vec<(u64, u64)> {
        std::iter::from_fn(|| sorter.release(now))
            .map(|e| (e.time, e.skb))
            .collect()
    }

    #[test]
    fn holds_back_then_releases_in_order() {
        let mut sorter = Sorter::new(10);
        for (time, id) in [(5, 0), (3, 1), (5, 2), (9, 3)] {
            sorter.push(event(time, id));
        }
        assert_eq!(released(&mut sorter, 12), []);
        assert_eq!(released(&mut sorter, 15), [(3, 1), (5, 0), (5, 2)]);
        assert_eq!(sorter.waiting(), 1);
        assert_eq!(sorter.flush().map(|e| e.skb), Some(3));
        assert_eq!((sorter.waiting(), sorter.late()), (0, 0));
    }

    #[test]
    fn a_late_event_comes_out_and_is_counted() {
        let mut sorter = Sorter::new(10);
        sorter.push(event(20, 0));
        assert_eq!(released(&mut sorter, 30), [(20, 0)]);
        sorter.push(event(19, 1));
        sorter.push(event(20, 2));
        assert_eq!(released(&mut sorter, 30), [(19, 1), (20, 2)]);
        assert_eq!(sorter.late(), 1);
    }

    proptest! {
        // Whatever the interleaving: when no event arrives more than `hold` after its timestamp, what comes out is
        // the stable sort of what went in, nothing is late, and nothing comes out before its time.
        #[test]
        fn bounded_disorder_comes_out_sorted(
            hold in 0u64..50,
            events in prop::collection::vec((0u64..1000, 0u64..50), 0..200),
        ) {
            let mut arrivals: Vec<(u64, u64)> =
                events.iter().map(|&(time, delay)| (time + delay.min(hold), time)).collect();
            arrivals.sort();
            let mut sorter = Sorter::new(hold);
            let mut out = Vec::new();
            for (id, &(now, time)) in arrivals.iter().enumerate() {
                // Everything that arrives at this moment is there before anything is released.
                sorter.push(event(time, id as u64));
                if arrivals.get(id + 1).is_none_or(|next| next.0 > now) {
                    while let Some(e) = sorter.release(now) {
                        prop_assert!(e.time + hold <= now);
                        out.push((e.time, e.skb));
                    }
                }
            }
            out.extend(std::iter::from_fn(|| sorter.flush()).map(|e| (e.time, e.skb)));
            let mut expected: Vec<(u64, u64)> =
                arrivals.iter().enumerate().map(|(id, &(_, time))| (time, id as u64)).collect();
            expected.sort();
            prop_assert_eq!(out, expected);
            prop_assert_eq!(sorter.late(), 0);
        }

        // Unbounded disorder: nothing is lost, and every release that went backwards was counted as late.
        #[test]
        fn nothing_is_lost(events in prop::collection::vec((0u64..100, 0u64..150), 0..100)) {
            let mut sorter = Sorter::new(10);
            let mut out = Vec::new();
            for (id, &(time, now)) in events.iter().enumerate() {
                sorter.push(event(time, id as u64));
                out.extend(released(&mut sorter, now));
            }
            out.extend(std::iter::from_fn(|| sorter.flush()).map(|e| (e.time, e.skb)));
            let backwards = out.windows(2).filter(|w| w[1].0 < w[0].0).count() as u64;
            prop_assert!(backwards <= sorter.late());
            out.sort_by_key(|&(_, id)| id);
            let expected: Vec<(u64, u64)> =
                events.iter().enumerate().map(|(id, &(time, _))| (time, id as u64)).collect();
            prop_assert_eq!(out, expected);
        }
    }
}
