//! Histograms: `hist()` by powers of two, `lhist()` by equal steps.
//!
//! Bucket numbers are the language's: the programs compute them ([`ktrail_ebpf`] has the rule), and here they turn
//! into ranges again.

use std::collections::BTreeMap;
use std::fmt::Write;

/// The widest bar, in characters.
const BAR: usize = 52;

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The smallest value in it; none: from minus infinity.
    pub min: Option<i128>,
    /// The first value beyond it; none: up to infinity.
    pub end: Option<i128>,
    /// How many values fell into it.
    pub count: u64,
    /// Numbers may be written with K, M, G, …
    suffix: Suffix,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Suffix {
    /// None.
    Bare,
    /// The largest power of 1024 that the bucket's power of two reaches: `hist()`.
    Power {
        /// How many buckets halve a power of two, as a power of two.
        bits: u32,
    },
    /// K or M where it comes out even: `lhist()` with a step of whole Ks.
    Even,
}

/// Buckets from the first to the last that is not empty.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Histogram {
    /// In order of their ranges.
    pub buckets: Vec<Bucket>,
}

impl Histogram {
    /// A logarithmic histogram from counts by bucket number. `bits`: each power of two has 2^bits buckets.
    pub fn log2(bits: u32, counts: &BTreeMap<u64, u64>) -> Histogram {
        let exact = 2 << bits;
        Self::between(counts, |index| {
            let (min, end) = match index {
                0 => (None, Some(0)),
                n if n <= exact => (Some(i128::from(n) - 1), Some(i128::from(n))),
                n => (Some(lower(n - 1, bits)), Some(lower(n, bits))),
            };
            let suffix = match index > exact {
                true => Suffix::Power { bits },
                false => Suffix::Bare,
            };
            (min, end, suffix)
        })
    }

    /// A linear histogram from counts by bucket number.
    pub fn linear(min: i64, max: i64, step: i64, counts: &BTreeMap<u64, u64>) -> Histogram {
        let (min, max, step) = (i128::from(min), i128::from(max), i128::from(step.max(1)));
        let last = ((max - min) / step + 1).max(1) as u64;
        let suffix = match step % 1024 == 0 {
            true => Suffix::Even,
            false => Suffix::Bare,
        };
        Self::between(counts, |index| match index {
            0 => (None, Some(min), suffix),
            n if n >= last => (Some(max), None, suffix),
            n => {
                let from = min + (i128::from(n) - 1) * step;
                (Some(from), Some(from + step), suffix)
            }
        })
    }

    fn between(
        counts: &BTreeMap<u64, u64>,
        range: impl Fn(u64) -> (Option<i128>, Option<i128>, Suffix),
    ) -> Histogram {
        let mut used = counts.iter().filter(|(_, count)| **count > 0).map(|(i, _)| *i);
        let Some(first) = used.next() else {
            return Histogram::default();
        };
        let last = used.next_back().unwrap_or(first);
        let buckets = (first..=last).map(|index| {
            let (min, end, suffix) = range(index);
            Bucket {
                min,
                end,
                count: counts.get(&index).copied().unwrap_or(0),
                suffix,
            }
        });
        Histogram {
            buckets: buckets.collect(),
        }
    }

    /// How many values there are in all.
    pub fn total(&self) -> u64 {
        self.buckets
            .iter()
            .fold(0, |sum, b| u64::wrapping_add(sum, b.count))
    }

    /// Divide every count.
    pub fn divide(&mut self, by: u64) {
        for bucket in &mut self.buckets {
            bucket.count /= by.max(1);
        }
    }

    /// One line a bucket.
    pub fn text(&self) -> String {
        let most = self.buckets.iter().map(|b| b.count).max().unwrap_or(0).max(1);
        let mut text = String::new();
        for bucket in &self.buckets {
            // In single precision, as others draw it: the last character may depend on that.
            let filled = (bucket.count as f32 / most as f32 * BAR as f32) as usize;
            let bar = "@".repeat(filled.min(BAR));
            let _ = writeln!(text, "{:<16}{:>8} |{bar:<BAR$}|", bucket.label(), bucket.count);
        }
        text
    }
}

/// The smallest value of the bucket after `index`, a number above 2^(bits + 1) - 1.
fn lower(index: u64, bits: u32) -> i128 {
    let n = 1_u64 << bits;
    let power = ((index >> bits) - 1).min(96);
    i128::from(n + (index & (n - 1))) << power
}

impl Bucket {
    fn label(&self) -> String {
        let show = |value| self.number(value);
        match (self.min, self.end) {
            (Some(min), Some(end)) if end - min == 1 => format!("[{}]", show(min)),
            (Some(min), Some(end)) => format!("[{}, {})", show(min), show(end)),
            (None, Some(end)) => format!("(..., {})", show(end)),
            (Some(min), None) => format!("[{}, ...)", show(min)),
            (None, None) => "(..., ...)".into(),
        }
    }

    fn number(&self, value: i128) -> String {
        match self.suffix {
            Suffix::Bare => value.to_string(),
            Suffix::Power { bits } => {
                let power = value.max(1).ilog2().saturating_sub(bits);
                let decade = power / 10;
                let letter = ["", "K", "M", "G", "T", "P", "E"].get(decade as usize);
                format!("{}{}", value >> (10 * decade), letter.unwrap_or(&""))
            }
            Suffix::Even if value == 0 => "0".into(),
            Suffix::Even if value % (1 << 20) == 0 => format!("{}M", value >> 20),
            Suffix::Even if value % (1 << 10) == 0 => format!("{}K", value >> 10),
            Suffix::Even => value.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(u64, u64)]) -> BTreeMap<u64, u64> {
        pairs.iter().copied().collect()
    }

    /// The language's rule for the bucket of a value, to check the way back.
    fn index(value: i64, bits: u32) -> u64 {
        match value {
            ..0 => 0,
            v if v < 1 << bits => v as u64 + 1,
            v => {
                let msb = v.ilog2();
                let low = (v >> (msb - bits)) as u64 & ((1 << bits) - 1);
                (u64::from(msb - bits + 1) << bits) + low + 1
            }
        }
    }

    #[test]
    fn every_value_falls_into_its_bucket() {
        for bits in 0..=5 {
            let mut values: Vec<i64> = (-2..5000).collect();
            values.extend((12..63).flat_map(|p| [(1_i64 << p) - 1, 1 << p, (1 << p) + 1]));
            values.push(i64::MAX);
            for value in values {
                let hist = Histogram::log2(bits, &counts(&[(index(value, bits), 1)]));
                let [bucket] = &hist.buckets[..] else {
                    panic!("one bucket")
                };
                let v = i128::from(value);
                assert!(
                    bucket.min.is_none_or(|min| min <= v) && bucket.end.is_none_or(|end| v < end),
                    "{value} with {bits} bits: {bucket:?}"
                );
            }
        }
    }

    #[test]
    fn a_logarithmic_histogram() {
        let hist = Histogram::log2(0, &counts(&[(0, 1), (3, 2)]));
        assert_eq!(
            hist.text(),
            "\
(..., 0)               1 |@@@@@@@@@@@@@@@@@@@@@@@@@@                          |
[0]                    0 |                                                    |
[1]                    0 |                                                    |
[2, 4)                 2 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
"
        );
        assert_eq!(hist.total(), 3);
    }

    #[test]
    fn labels_have_suffixes() {
        let label = |value, bits| {
            let hist = Histogram::log2(bits, &counts(&[(index(value, bits), 1)]));
            hist.buckets[0].label()
        };
        assert_eq!(label(512 << 20, 0), "[512M, 1G)");
        assert_eq!(label(1000, 0), "[512, 1K)");
        assert_eq!(label(1024, 0), "[1K, 2K)");
        assert_eq!(label(5, 1), "[4, 6)");
        assert_eq!(label(i64::MAX, 0), "[4E, 8E)");
        // With finer buckets the number before the suffix has more digits.
        assert_eq!(label(1024, 2), "[1024, 1280)");
        assert_eq!(label(4096, 2), "[4K, 5K)");
    }

    #[test]
    fn a_linear_histogram() {
        let hist = Histogram::linear(0, 10, 2, &counts(&[(0, 1), (2, 2), (4, 1), (6, 1)]));
        assert_eq!(
            hist.text(),
            "\
(..., 0)               1 |@@@@@@@@@@@@@@@@@@@@@@@@@@                          |
[0, 2)                 0 |                                                    |
[2, 4)                 2 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
[4, 6)                 0 |                                                    |
[6, 8)                 1 |@@@@@@@@@@@@@@@@@@@@@@@@@@                          |
[8, 10)                0 |                                                    |
[10, ...)              1 |@@@@@@@@@@@@@@@@@@@@@@@@@@                          |
"
        );
        let one = Histogram::linear(0, 100, 1, &counts(&[(8, 1)]));
        assert_eq!(one.buckets[0].label(), "[7]");
        let kilo = Histogram::linear(0, 4 << 20, 512 << 10, &counts(&[(1, 1), (3, 1)]));
        assert_eq!(kilo.buckets[0].label(), "[0, 512K)");
        assert_eq!(kilo.buckets[2].label(), "[1M, 1536K)");
    }

    #[test]
    fn nothing_gives_nothing() {
        assert_eq!(Histogram::log2(0, &counts(&[(3, 0)])).text(), "");
    }
}
