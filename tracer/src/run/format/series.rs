//! Time series: `tseries()`, a column of times with a star where each value is.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::run::names::wall_clock;

/// Places between the bars, the bars included.
const WIDTH: usize = 53;
/// The last place.
const LAST: i128 = WIDTH as i128 - 1;

/// Values of the last intervals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// Nanoseconds that an interval takes, at least 1.
    interval: u64,
    /// How many intervals are kept.
    intervals: u64,
    /// Values by the number of their interval since the Unix epoch.
    points: BTreeMap<u64, i128>,
    /// The last interval that is shown: that of the map, even if this key has nothing in it.
    end: u64,
}

impl Series {
    /// A series from values by the number of their interval since the Unix epoch.
    pub fn new(interval: u64, intervals: u64, points: BTreeMap<u64, i128>) -> Series {
        let end = points.last_key_value().map_or(0, |(number, _)| *number);
        Series {
            interval: interval.max(1),
            intervals,
            points,
            end,
        }
    }

    /// True if there are no values, not even old ones.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// The last interval that is shown.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Show the intervals up to `end`; what is then too long ago isn't shown.
    pub fn end_with(&mut self, end: u64) {
        self.end = end;
    }

    /// Divide every value.
    pub fn divide(&mut self, by: u64) {
        for value in self.points.values_mut() {
            *value /= i128::from(by.max(1));
        }
    }

    /// The intervals that are shown and have a value: their starts in nanoseconds since the Unix epoch.
    pub fn shown(&self) -> impl Iterator<Item = (i64, i128)> + use<'_> {
        let first = self.end.saturating_add(1).saturating_sub(self.intervals);
        let shown = self.points.range(first..=self.end.max(first));
        shown.map(|(number, value)| (self.start(*number), *value))
    }

    fn start(&self, number: u64) -> i64 {
        i64::try_from(number.saturating_mul(self.interval)).unwrap_or(i64::MAX)
    }

    /// One line an interval, from the first with a value; the least and the greatest value above and below.
    pub fn text(&self) -> String {
        if self.points.is_empty() {
            return "<no data>\n".into();
        }
        let values: BTreeMap<i64, i128> = self.shown().collect();
        let end = self.start(self.end);
        let first = values.first_key_value().map_or(end, |(start, _)| *start);
        let step = i64::try_from(self.interval).unwrap_or(i64::MAX);
        let (format, header, before) = label(if first == end { 1 } else { step });
        let bounds = values.values().min().zip(values.values().max());
        let bounds = bounds.map(|(min, max)| match min == max {
            true => (min - 1, max + 1),
            false => (*min, *max),
        });
        let (least, greatest) = match bounds {
            Some((min, max)) => (min.to_string(), max.to_string()),
            None => ("null".into(), "null".into()),
        };
        let rest = WIDTH.saturating_sub(least.len());
        let scale = format!("{:before$}{least}{greatest:>rest$}\n", "");
        let line = "_".repeat(WIDTH - 2);
        // As many bytes as there are characters before the other lines, whatever the letters are.
        let padding = before.saturating_sub(header.len());
        let mut text = format!("{scale}{header}{:padding$}|{line}|\n", "");
        let mut start = first;
        loop {
            let value = values.get(&start);
            let graph: String = graph(bounds, value.copied()).iter().collect();
            let shown = value.map_or("-".into(), i128::to_string);
            let _ = writeln!(text, "{} {graph} {shown}", wall_clock(start, format));
            if start >= end {
                break;
            }
            start = start.saturating_add(step);
        }
        let _ = write!(text, "{:before$}v{line}v\n{scale}", "");
        text
    }
}

/// How the start of an interval is written, what stands above it, and how wide it is with the blank behind it.
fn label(step: i64) -> (&'static str, &'static str, usize) {
    match step {
        1_000_000_000.. => ("%H:%M:%S", "hh:mm:ss", 9),
        1_000_000.. => ("%H:%M:%S.%l", "hh:mm:ss.ms", 13),
        1_000.. => ("%H:%M:%S.%f", "hh:mm:ss.μs", 16),
        _ => ("%H:%M:%S.%k", "hh:mm:ss.ns", 19),
    }
}

/// A star at the value between the bars, and a point at zero.
fn graph(bounds: Option<(i128, i128)>, value: Option<i128>) -> [char; WIDTH] {
    let mut graph = [' '; WIDTH];
    graph[0] = '|';
    graph[WIDTH - 1] = '|';
    let Some((min, max)) = bounds else { return graph };
    let range = max - min;
    if min < 0 && max > 0 {
        // As others draw it: a place further than a star may stand.
        let zero = -min * WIDTH as i128 / range;
        if (1..=LAST).contains(&zero) {
            graph[zero as usize] = '.';
        }
    }
    if let Some(value) = value {
        graph[((value - min) * LAST / range).clamp(0, LAST) as usize] = '*';
    }
    graph
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(interval: u64, intervals: u64, points: &[(u64, i128)]) -> Series {
        Series::new(interval, intervals, points.iter().copied().collect())
    }

    /// The lines without the times, which depend on the time zone.
    fn graphs(series: &Series) -> Vec<String> {
        let text = series.text();
        let lines: Vec<&str> = text.lines().collect();
        let rows = &lines[2..lines.len() - 2];
        rows.iter()
            .map(|row| row[row.len().min(13)..].to_string())
            .collect()
    }

    #[test]
    fn from_the_first_value_to_the_end() {
        let mut series = series(100_000_000, 10, &[(20, -2), (22, 0), (24, 2)]);
        assert_eq!(
            graphs(&series),
            [
                "*                         .                         | -2",
                "|                         .                         | -",
                "|                         *                         | 0",
                "|                         .                         | -",
                "|                         .                         * 2",
            ]
        );
        let lines = series.text();
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(lines[0], format!("{:13}-2{:>51}", "", 2));
        assert_eq!(lines[1], format!("hh:mm:ss.ms  |{}|", "_".repeat(51)));
        assert_eq!(lines[7], format!("{:13}v{}v", "", "_".repeat(51)));
        assert_eq!(lines[8], lines[0]);
        // The first is too long ago.
        series.end_with(30);
        assert_eq!(graphs(&series).len(), 9);
        assert_eq!(series.shown().map(|(start, _)| start).next(), Some(2_200_000_000));
    }

    #[test]
    fn without_a_value_that_is_shown() {
        assert_eq!(series(1, 5, &[]).text(), "<no data>\n");
        let mut old = series(1_000_000_000, 2, &[(20, 5)]);
        old.end_with(30);
        let text = old.text();
        assert!(text.contains("null"), "{text}");
        assert!(text.contains(&format!("|{}| -\n", " ".repeat(51))), "{text}");
        assert_eq!(old.shown().count(), 0);
    }

    #[test]
    fn times_are_as_fine_as_the_intervals() {
        for (interval, header) in [
            (1_500_000_000, "hh:mm:ss |"),
            (1_000_000, "hh:mm:ss.ms  |"),
            (150_000, "hh:mm:ss.μs    |"),
            (900, "hh:mm:ss.ns        |"),
        ] {
            let text = series(interval, 5, &[(1, 1), (2, 2)]).text();
            assert!(
                text.lines().nth(1).is_some_and(|line| line.starts_with(header)),
                "{text}"
            );
            // A single one is written as finely as can be.
            let text = series(interval, 5, &[(1, 1)]).text();
            assert!(text.contains("hh:mm:ss.ns        |"), "{text}");
        }
    }

    #[test]
    fn the_largest_numbers_are_no_accident() {
        let text = series(
            u64::MAX,
            u64::MAX,
            &[(0, i128::from(u64::MAX)), (u64::MAX, i128::from(i64::MIN))],
        )
        .text();
        assert!(text.contains("18446744073709551615"), "{text}");
        series(1, 1, &[(u64::MAX - 1, 0)]).text();
    }
}
