//! What happened during a timeline, and when: how many rules there were, and how long packets took.
//!
//! A latency is an average over packets, so the number of rules beside it is one as well: each number that there
//! was in an interval counts as often as packets were measured under it. Adding rules takes a part of each second,
//! and packets pass meanwhile; the number at the end of the second would be of few of them.
//!
//! Deliberately absent: the clock and the map. Whoever follows the workload reads both and tells them.

use super::engine::Total;
use super::iperf::Report;
use super::results::Tick;

/// A timeline's measurements as they come. Times are seconds since the workload's start.
#[derive(Default)]
pub struct History {
    /// Where an interval of a second ended, and its mean number of rules.
    rules: Vec<(f64, f64)>,
    /// Where a window ended, and its average latency in nanoseconds, if packets passed.
    latency: Vec<(f64, Option<f64>)>,
    /// The map at the end of the last window.
    window: Option<Total>,
    /// The map when the number of rules was told last.
    told: Option<Total>,
    /// The interval's packets so far, and the sum of the numbers of rules that each met.
    packets: u64,
    met: f64,
    /// When the first rules were added, and when the last.
    pub injected: Option<(f64, f64)>,
}

impl History {
    /// Begins with what the map, if there is one, holds already.
    pub fn begin(total: Option<Total>) -> History {
        History {
            window: total,
            told: total,
            ..History::default()
        }
    }

    /// Ends an interval of a second, the last packets of which met `rules`.
    pub fn second(&mut self, now: f64, rules: u64, total: Option<Total>) {
        self.tell(rules, total);
        let mean = match self.packets {
            0 => rules as f64,
            packets => self.met / packets as f64,
        };
        (self.packets, self.met) = (0, 0.0);
        self.rules.push((now, mean));
    }

    /// More rules are there: adding them took `from` to `to`, and until now packets met `before`.
    pub fn grown(&mut self, from: f64, to: f64, before: u64, total: Option<Total>) {
        self.tell(before, total);
        let first = self.injected.map_or(from, |(first, _)| first);
        self.injected = Some((first, to));
    }

    fn tell(&mut self, rules: u64, total: Option<Total>) {
        let packets = match (self.told, total) {
            (Some(told), Some(total)) => total.count.saturating_sub(told.count),
            _ => 0,
        };
        self.packets += packets;
        self.met += packets as f64 * rules as f64;
        self.told = total;
    }

    /// Ends a window: its average, if there were packets.
    pub fn window(&mut self, now: f64, after: Option<Total>) -> Option<f64> {
        let latency = self
            .window
            .zip(after)
            .and_then(|(before, after)| after.since(before))
            .map(|(average, _)| average);
        self.window = after;
        self.latency.push((now, latency));
        latency
    }

    /// Ends everything, with the workload.
    pub fn end(&mut self, now: f64, rules: u64, total: Option<Total>) {
        // A short rest does not replace a whole second.
        if self.rules.last().is_none_or(|(last, _)| now - last > 0.5) {
            self.second(now, rules, total);
        }
        self.window(now, total);
    }

    /// The workload's intervals, each with its mean number of rules, and with the latency of the window that ends
    /// nearest to it.
    pub fn ticks(&self, report: &Report) -> Vec<Tick> {
        let mut ticks: Vec<Tick> = report
            .intervals
            .iter()
            .map(|interval| Tick {
                time_s: interval.end,
                throughput_mbit: Some(interval.mbit),
                window_kb: interval.window_kb,
                retransmits: interval.retransmits,
                latency_ns: None,
                rules: self
                    .rules
                    .iter()
                    .rev()
                    .find(|(t, _)| *t <= interval.end + 0.5)
                    .map(|(_, mean)| mean.round() as u64),
            })
            .collect();
        for (time, latency) in &self.latency {
            let distance = |tick: &Tick| (tick.time_s - time).abs();
            if let Some(tick) = ticks
                .iter_mut()
                .min_by(|a, b| distance(a).total_cmp(&distance(b)))
            {
                // A short rest at the end does not replace a whole window.
                tick.latency_ns = tick.latency_ns.or(*latency);
            }
        }
        ticks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::iperf::Interval;

    fn report(seconds: u32) -> Report {
        let interval = |end| Interval {
            end: f64::from(end),
            mbit: 10.0,
            retransmits: Some(0),
            window_kb: None,
        };
        Report {
            intervals: (1..=seconds).map(interval).collect(),
            ended: None,
        }
    }

    fn total(count: u64, sum: i128) -> Option<Total> {
        Some(Total { count, sum })
    }

    fn rules(history: &History, seconds: u32) -> Vec<Option<u64>> {
        history.ticks(&report(seconds)).iter().map(|t| t.rules).collect()
    }

    #[test]
    fn ticks_have_the_windows_of_their_time() {
        let mut history = History::begin(total(1, 100));
        assert_eq!(history.window(2.04, total(3, 114)), Some(7.0));
        assert_eq!(history.window(3.0, total(4, 123)), Some(9.0));
        assert_eq!(history.window(3.1, total(4, 123)), None);
        let ticks = history.ticks(&report(3));
        assert_eq!(
            ticks.iter().map(|t| t.latency_ns).collect::<Vec<_>>(),
            [None, Some(7.0), Some(9.0)]
        );
    }

    #[test]
    fn each_packet_counts_with_the_rules_that_it_met() {
        let mut history = History::begin(total(5, 0));
        history.second(1.0, 0, total(105, 0));
        // 30 packets still met no rule, 70 met 50: 35 on the average, as their latency is.
        history.grown(1.0, 1.2, 0, total(135, 0));
        history.second(2.0, 50, total(205, 0));
        history.second(3.0, 50, total(305, 0));
        // Nothing passed at all.
        history.grown(3.0, 3.9, 50, total(305, 0));
        history.second(4.0, 80, total(305, 0));
        assert_eq!(rules(&history, 4), [Some(0), Some(35), Some(50), Some(80)]);
        assert_eq!(history.injected, Some((1.0, 3.9)));
    }

    #[test]
    fn without_a_map_the_number_at_the_end_counts() {
        let mut history = History::begin(None);
        history.second(1.01, 0, None);
        history.grown(1.1, 1.3, 0, None);
        history.second(2.02, 50, None);
        assert_eq!(rules(&history, 2), [Some(0), Some(50)]);
        history.end(2.1, 70, None);
        assert_eq!(rules(&history, 2), [Some(0), Some(50)]);
        history.end(2.95, 80, None);
        assert_eq!(rules(&history, 3), [Some(0), Some(50), Some(80)]);
    }
}
