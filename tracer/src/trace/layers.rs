//! Where a journey's time went: by layer, and waiting.
//!
//! The time from one event to the next counts to the layer of the first: that is where the packet was seen last. A
//! packet that was put into a queue waits from then on. Helpers' time counts to the layer that called them.

use super::event::{Point, Sign};
use super::journey::Journey;
use super::knowledge::{Layer, knowledge};
use super::roles::{self, Role};

/// What is known of attach points for this, by their numbers.
pub struct Layers {
    points: Vec<(Layer, Role)>,
}

/// A share of a journey's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// In which layer.
    pub layer: Layer,
    /// In which queue it waited; none where it was worked on.
    pub waiting: Option<&'static str>,
    /// Nanoseconds.
    pub time: u64,
}

impl Layers {
    /// For the attach points of a run.
    pub fn new(points: &[Point]) -> Layers {
        let of = |point| (knowledge().layer_of(point), roles::role(point));
        Layers {
            points: points.iter().map(of).collect(),
        }
    }

    /// The layer of an attach point.
    pub fn layer(&self, point: u32) -> Layer {
        self.points.get(point as usize).map_or(Layer::OTHER, |p| p.0)
    }

    /// Where a journey's time went, in the order of first events. The shares add up to its duration, less what
    /// lies around events that were not kept.
    pub fn shares(&self, journey: &Journey) -> Vec<Share> {
        let mut shares: Vec<Share> = vec![];
        let (mut layer, mut waiting) = (Layer::OTHER, None);
        let steps = journey.steps().filter(|step| !step.event.sign.is_beneath());
        let steps: Vec<_> = steps.collect();
        for (number, pair) in (1..).zip(steps.windows(2)) {
            let point = pair[0].event.point.0;
            let own = self.layer(point);
            if own.crosses() || layer == Layer::OTHER {
                layer = own;
            }
            match self.points.get(point as usize).map(|p| p.1) {
                // Small work on a packet that stays where it is.
                Some(Role::Aside) if pair[0].event.sign == Sign::Passed => {}
                Some(Role::Queue(place) | Role::Receive(Some(place))) => waiting = Some(place),
                _ => waiting = None,
            }
            if journey.cut > 0 && number == journey.head.len() {
                continue;
            }
            let time = pair[1].event.time - pair[0].event.time;
            match shares
                .iter_mut()
                .find(|s| (s.layer, s.waiting) == (layer, waiting))
            {
                Some(share) => share.time += time,
                None => shares.push(Share { layer, waiting, time }),
            }
        }
        shares
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::journey::{Journeys, Limits};
    use crate::trace::story::Story;

    fn shares(story: &Story, limits: Limits) -> (Vec<(&'static str, bool, u64)>, Journey) {
        let mut journeys = Journeys::new(&story.points, limits);
        story.events.iter().for_each(|event| {
            journeys.push(event.clone());
        });
        journeys.finish();
        let journey = journeys.ended().unwrap();
        let shares = Layers::new(&story.points).shares(&journey);
        let named = shares
            .iter()
            .map(|s| (s.layer.name(), s.waiting.is_some(), s.time))
            .collect();
        (named, journey)
    }

    #[test]
    fn all_time_is_somewhere() {
        let mut story = Story::new();
        story.cross().read();
        let (shares, journey) = shares(&story, Limits::default());
        assert_eq!(
            shares.iter().map(|s| s.2).sum::<u64>(),
            journey.end - journey.start
        );
        assert_eq!(shares[0], ("ip", false, 640 * 6));
        // From the socket's queue on it waits; a helper in between changes nothing about the layer.
        assert!(shares.contains(&("udp", true, 640 * 2 + 20_000)), "{shares:?}");
        assert!(shares.contains(&("device", true, 640 * 3)), "{shares:?}");
    }

    #[test]
    fn what_was_not_kept_counts_nowhere() {
        let mut story = Story::new();
        for _ in 0..10 {
            story.pass("ip_rcv");
        }
        let limits = Limits {
            head: 4,
            tail: 2,
            ..Limits::default()
        };
        assert_eq!(shares(&story, limits).0, [("ip", false, 640 * 4)]);
    }
}
