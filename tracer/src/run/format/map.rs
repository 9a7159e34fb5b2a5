//! A map's entries: their order, `top` and `div`.
//!
//! Counts, sums and other numbers go by value, so do averages and histograms (by their total); all else goes by key.

use std::cmp::Ordering;

use super::value::Value;

/// A map's content.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Of a map without keys.
    Scalar(Value),
    /// Entries, in the order in which they are printed.
    Keyed(Vec<(Value, Value)>),
}

impl Content {
    /// Put the entries into order, keep the last `top` (0: all) and divide values by `div` (0: don't).
    pub fn arranged(self, top: u64, div: u64) -> Content {
        match self {
            Content::Scalar(mut value) => {
                divide(&mut value, div);
                Content::Scalar(value)
            }
            Content::Keyed(mut entries) => {
                entries.sort_by(|(ka, va), (kb, vb)| by_value(va, vb).then_with(|| ka.compare(kb)));
                let surplus = match usize::try_from(top) {
                    Ok(top @ 1..) => entries.len().saturating_sub(top),
                    _ => 0,
                };
                entries.drain(..surplus);
                for (_, value) in &mut entries {
                    divide(value, div);
                }
                Content::Keyed(entries)
            }
        }
    }

    /// True if there is nothing to print at the end of a run.
    pub fn is_empty(&self) -> bool {
        matches!(self, Content::Keyed(entries) if entries.is_empty())
    }
}

fn by_value(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Stats(a), Value::Stats(b)) => a.average.cmp(&b.average),
        (Value::Histogram(a), Value::Histogram(b)) => a.total().cmp(&b.total()),
        _ => Ordering::Equal,
    }
}

fn divide(value: &mut Value, div: u64) {
    if div == 0 {
        return;
    }
    match value {
        Value::Int(n) => *n /= i128::from(div),
        Value::Stats(stats) => stats.average /= i128::from(div),
        Value::Histogram(hist) => hist.divide(div),
        Value::Series(series) => series.divide(div),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::Stats;
    use super::*;

    fn keyed(entries: &[(&str, i128)]) -> Content {
        let entry = |&(key, n): &(&str, i128)| (Value::Str(key.into()), Value::Int(n));
        Content::Keyed(entries.iter().map(entry).collect())
    }

    #[test]
    fn numbers_go_by_value_then_by_key() {
        let content = keyed(&[("b", 2), ("z", -1), ("a", 2), ("c", 1)]);
        assert_eq!(
            content.arranged(0, 0),
            keyed(&[("z", -1), ("c", 1), ("a", 2), ("b", 2)])
        );
    }

    #[test]
    fn top_keeps_the_largest_and_div_divides() {
        let content = || keyed(&[("a", 10), ("b", 30), ("c", -20)]);
        assert_eq!(content().arranged(2, 0), keyed(&[("a", 10), ("b", 30)]));
        assert_eq!(content().arranged(1, 7), keyed(&[("b", 4)]));
        assert_eq!(
            content().arranged(9, 0),
            keyed(&[("c", -20), ("a", 10), ("b", 30)])
        );
    }

    #[test]
    fn statistics_go_by_average_and_the_rest_by_key() {
        let stats = |average| {
            Value::Stats(Stats {
                count: 1,
                average,
                total: average,
            })
        };
        let content = Content::Keyed(vec![(Value::Int(1), stats(9)), (Value::Int(2), stats(5))]);
        let Content::Keyed(entries) = content.arranged(0, 2) else {
            panic!("keyed")
        };
        assert_eq!(entries[0].0, Value::Int(2));
        assert!(matches!(&entries[1].1, Value::Stats(s) if s.average == 4 && s.total == 9));

        let text = |s: &str| Value::Str(s.into());
        let content = Content::Keyed(vec![(text("b"), text("1")), (text("a"), text("2"))]);
        let Content::Keyed(entries) = content.arranged(0, 0) else {
            panic!("keyed")
        };
        assert_eq!(entries[0].0, text("a"));
    }
}
