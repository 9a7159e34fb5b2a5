//! A script's maps, read and written from outside.
//!
//! Per-CPU values are put together here: counts and sums are added up, of minima the smallest counts.

use std::collections::BTreeMap;

use ktrail_ebpf::script::output::{MapInfo, SERIES_SLOT, SeriesOf, ValueTy};
use ktrail_ebpf::script::types::Ty;

use super::decode::{Decoder, integer};
use super::format::{Content, Histogram, Series, Stats, Value};
use crate::kernel::maps::Map;
use crate::kernel::sys::SysError;

/// One of the script's maps.
#[derive(Clone, Copy)]
pub struct Table<'a> {
    /// What it holds.
    pub info: &'a MapInfo,
    /// Where.
    pub map: &'a Map,
}

/// The only key of a map without keys.
const ONLY: [u8; 4] = [0; 4];

impl Table<'_> {
    /// Everything in it. A map without keys that was never set holds its type's zero.
    ///
    /// # Errors
    /// The kernel's.
    pub fn content(&self, decoder: &Decoder<'_>) -> Result<Content, SysError> {
        let Some(key) = &self.info.key else {
            let bytes = self.map.lookup(&ONLY)?.unwrap_or_default();
            return Ok(Content::Scalar(self.value(decoder, &bytes)));
        };
        let entries = self.map.entries()?;
        let entries = entries
            .iter()
            .map(|(k, v)| (decoder.value(key, k), self.value(decoder, v)));
        let mut entries: Vec<(Value, Value)> = entries.collect();
        end_together(&mut entries);
        Ok(Content::Keyed(entries))
    }

    /// True if a map without keys was set; maps with keys always are.
    ///
    /// # Errors
    /// The kernel's.
    pub fn is_set(&self) -> Result<bool, SysError> {
        let Some(offset) = self.info.set_off else {
            return Ok(true);
        };
        let bytes = self.map.lookup(&ONLY)?.unwrap_or_default();
        Ok(self.each_cpu(&bytes).any(|value| word(value, offset) != 0))
    }

    /// The value of one key, as its bytes have it; nothing if there is none. A map without keys has one value.
    ///
    /// # Errors
    /// The kernel's.
    pub fn entry(&self, decoder: &Decoder<'_>, key: &[u8]) -> Result<Option<Value>, SysError> {
        let key = match self.info.key {
            Some(_) => key,
            None => &ONLY,
        };
        let bytes = self.map.lookup(key)?;
        Ok(bytes.map(|bytes| self.value(decoder, &bytes)))
    }

    /// Remove every entry; a map without keys is as if it had never been set.
    ///
    /// # Errors
    /// The kernel's.
    pub fn clear(&self) -> Result<(), SysError> {
        if self.info.key.is_none() {
            return self.zero();
        }
        for key in self.map.keys()? {
            self.map.delete(&key)?;
        }
        Ok(())
    }

    /// Set every value to zero; the keys stay.
    ///
    /// # Errors
    /// The kernel's.
    pub fn zero(&self) -> Result<(), SysError> {
        let zeros = vec![0; self.map.decl().value_size as usize];
        if self.info.key.is_none() {
            return self.map.update(&ONLY, &zeros);
        }
        for key in self.map.keys()? {
            self.map.update(&key, &zeros)?;
        }
        Ok(())
    }

    /// The values of all CPUs, or the only one.
    fn each_cpu<'b>(&self, bytes: &'b [u8]) -> impl Iterator<Item = &'b [u8]> + use<'b> {
        let size = self.map.decl().value_size as usize;
        let step = match self.map.per_cpu() {
            true => size.next_multiple_of(8),
            false => size.max(1),
        };
        bytes
            .chunks(step.max(1))
            .map(move |chunk| &chunk[..chunk.len().min(size)])
    }

    fn value(&self, decoder: &Decoder<'_>, bytes: &[u8]) -> Value {
        let cpus: Vec<&[u8]> = self.each_cpu(bytes).collect();
        combine(&self.info.value, &cpus, decoder)
    }
}

/// The u64 at an offset; 0 if it is not there.
fn word(bytes: &[u8], offset: u32) -> u64 {
    let at = offset as usize;
    integer(bytes.get(at..).unwrap_or_default(), 8, false) as u64
}

/// What the values of all CPUs come to.
fn combine(ty: &ValueTy, cpus: &[&[u8]], decoder: &Decoder<'_>) -> Value {
    let sum = |offset: u32| {
        cpus.iter()
            .fold(0_u64, |sum, v| sum.wrapping_add(word(v, offset)))
    };
    let signed = |n: u64, signed: bool| match signed {
        true => i128::from(n as i64),
        false => i128::from(n),
    };
    let average = |sign: bool| match sum(8) {
        0 => 0,
        count => signed(sum(0), sign) / i128::from(count),
    };
    let present = |sign: bool| {
        let set = cpus.iter().filter(|v| word(v, 8) != 0);
        set.map(|v| signed(word(v, 0), sign)).collect::<Vec<_>>()
    };
    let counts = |buckets: u32| -> BTreeMap<u64, u64> {
        let counts = (0..buckets).map(|i| (u64::from(i), sum(i * 8)));
        counts.filter(|(_, count)| *count != 0).collect()
    };
    match ty {
        ValueTy::Scalar(ty) => scalar(ty, cpus, decoder),
        ValueTy::Count => Value::Int(sum(0).into()),
        ValueTy::Sum { signed: sign } => Value::Int(signed(sum(0), *sign)),
        ValueTy::Avg { signed } => Value::Int(average(*signed)),
        ValueTy::Min { signed } => Value::Int(present(*signed).into_iter().min().unwrap_or(0)),
        ValueTy::Max { signed } => Value::Int(present(*signed).into_iter().max().unwrap_or(0)),
        ValueTy::Stats { signed: sign } => Value::Stats(Stats {
            count: sum(8),
            average: average(*sign),
            total: signed(sum(0), *sign),
        }),
        ValueTy::Hist { bits, buckets } => Value::Histogram(Histogram::log2(*bits, &counts(*buckets))),
        ValueTy::Lhist {
            min,
            max,
            step,
            buckets,
        } => {
            let step = i64::try_from(*step).unwrap_or(i64::MAX);
            Value::Histogram(Histogram::linear(*min, *max, step, &counts(*buckets)))
        }
        ValueTy::Series {
            interval,
            intervals,
            of,
            signed,
        } => {
            let points = points(cpus, *of, *signed);
            Value::Series(Series::new(*interval, u64::from(*intervals), points))
        }
    }
}

/// The values of a series by the number of their interval.
fn points(cpus: &[&[u8]], of: SeriesOf, signed: bool) -> BTreeMap<u64, i128> {
    let mut found: BTreeMap<u64, Vec<(i128, u64)>> = BTreeMap::new();
    for slot in cpus.iter().flat_map(|cpu| cpu.chunks_exact(SERIES_SLOT as usize)) {
        let number = word(slot, 0);
        if number != 0 {
            let value = integer(&slot[8..], 8, signed);
            found.entry(number).or_default().push((value, word(slot, 16)));
        }
    }
    let combined = |values: Vec<(i128, u64)>| {
        let each = values.iter().map(|(value, _)| *value);
        let value = match of {
            SeriesOf::Last => values
                .iter()
                .max_by_key(|(_, time)| *time)
                .map(|(value, _)| *value),
            SeriesOf::Min => each.min(),
            SeriesOf::Max => each.max(),
            SeriesOf::Sum => Some(each.sum()),
            SeriesOf::Avg => {
                let count: u64 = values.iter().map(|(_, count)| *count).sum();
                Some(each.sum::<i128>() / i128::from(count.max(1)))
            }
        };
        value.unwrap_or(0)
    };
    found
        .into_iter()
        .map(|(number, values)| (number, combined(values)))
        .collect()
}

/// All series of a map end with the last interval in which one of them has a value.
fn end_together(entries: &mut [(Value, Value)]) {
    let ends = entries.iter().filter_map(|(_, value)| match value {
        Value::Series(series) => Some(series.end()),
        _ => None,
    });
    let Some(end) = ends.max() else { return };
    for (_, value) in entries {
        if let Value::Series(series) = value {
            series.end_with(end);
        }
    }
}

/// Numbers of several CPUs are added up; of anything else there is but one that makes sense: the first.
fn scalar(ty: &Ty, cpus: &[&[u8]], decoder: &Decoder<'_>) -> Value {
    match (ty, cpus) {
        (Ty::Int { size, signed }, [_, _, ..]) => {
            Value::Int(cpus.iter().map(|v| integer(v, *size, *signed)).sum())
        }
        _ => decoder.value(ty, cpus.first().copied().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::super::env::MachineTypes;
    use super::super::names::{LazySymbols, MachineNames};
    use super::*;

    fn combined(ty: &ValueTy, cpus: &[&[i64]]) -> Value {
        let cpus: Vec<Vec<u8>> = cpus
            .iter()
            .map(|words| words.iter().flat_map(|w| w.to_ne_bytes()).collect())
            .collect();
        let cpus: Vec<&[u8]> = cpus.iter().map(Vec::as_slice).collect();
        let decoder = Decoder {
            names: &MachineNames::new(LazySymbols::default(), Rc::default(), vec![], vec![]),
            types: &MachineTypes::default(),
            trailer: "..",
        };
        combine(ty, &cpus, &decoder)
    }

    #[test]
    fn cpus_are_put_together() {
        let int = Value::Int;
        assert_eq!(combined(&ValueTy::Count, &[&[3], &[4]]), int(7));
        let sum = |signed| ValueTy::Sum { signed };
        assert_eq!(combined(&sum(true), &[&[3], &[-4]]), int(-1));
        assert_eq!(combined(&sum(false), &[&[-1]]), int(u64::MAX.into()));
        let signed = true;
        assert_eq!(
            combined(&ValueTy::Avg { signed }, &[&[10, 2], &[-31, 1]]),
            int(-7)
        );
        assert_eq!(combined(&ValueTy::Avg { signed }, &[&[0, 0]]), int(0));
        // A CPU without a value has no say.
        assert_eq!(
            combined(&ValueTy::Min { signed }, &[&[5, 1], &[0, 0], &[-3, 1]]),
            int(-3)
        );
        assert_eq!(combined(&ValueTy::Max { signed }, &[&[-5, 1], &[0, 0]]), int(-5));
        assert_eq!(
            combined(&ValueTy::Stats { signed }, &[&[4, 1], &[2, 2]]),
            Value::Stats(Stats {
                count: 3,
                average: 2,
                total: 6
            })
        );
        let hist = ValueTy::Hist { bits: 0, buckets: 4 };
        let Value::Histogram(hist) = combined(&hist, &[&[0, 1, 0, 2], &[0, 1, 0, 0]]) else {
            panic!("a histogram")
        };
        let counts: Vec<u64> = hist.buckets.iter().map(|b| b.count).collect();
        assert_eq!(counts, [2, 0, 2]);
        let slots: [&[i64]; 2] = [&[7, -5, 2, 8, 9, 1, 0], &[7, 6, 1, 0, 0, 0, 1]];
        for (of, seventh) in [
            (SeriesOf::Last, -5),
            (SeriesOf::Avg, 0),
            (SeriesOf::Min, -5),
            (SeriesOf::Max, 6),
            (SeriesOf::Sum, 1),
        ] {
            let (interval, intervals) = (10, 2);
            let ty = ValueTy::Series {
                interval,
                intervals,
                of,
                signed,
            };
            let Value::Series(series) = combined(&ty, &slots) else {
                panic!("a series")
            };
            let shown: Vec<_> = series.shown().collect();
            assert_eq!(shown, [(70, seventh), (80, 9)], "{of:?}");
        }
        assert_eq!(combined(&ValueTy::Scalar(Ty::I64), &[&[5]]), int(5));
        assert_eq!(combined(&ValueTy::Scalar(Ty::I64), &[&[5], &[6]]), int(11));
    }
}
