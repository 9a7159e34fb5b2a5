//! Many packets: journeys grouped by the path that they took.
//!
//! A path is the functions that the packet itself passed, as [`crate::trace::align::way`] has them, and how it ended.
//! Its fingerprint is a hash of their names: the same path has the same fingerprint in every run on every machine.
//!
//! Journeys come one by one, or, where the kernel has folded them, by kinds, with samples of their times
//! ([`crate::trace::folded`]).

use std::collections::HashMap;
use std::io::{self, Write};
use std::rc::Rc;

use super::Renderer;
use super::names::{self, Names};
use super::why::why_of_many;
use super::words::{fate_text, micros};
use crate::trace::align::{Stop, way};
use crate::trace::folded::Share;
use crate::trace::journey::{Fate, Journey, Step};
use crate::trace::summary::Summary;

/// Renders groups of journeys at the end.
pub struct Paths<W> {
    out: W,
    names: Rc<Names>,
    groups: HashMap<u64, Group>,
    /// Packets of paths beyond [`MOST_PATHS`].
    others: u64,
}

/// So many paths are told apart; further ones are only counted.
const MOST_PATHS: usize = 1000;
/// Of so many times at a hop the median and the 99th percentile are exact; beyond, they are of as many, evenly chosen.
const MOST_TIMES: usize = 4096;

struct Group {
    packets: u64,
    way: Vec<Stop>,
    hops: Vec<Times>,
    whole: Times,
    layers: Vec<(&'static str, Times)>,
    /// What became of its packets, and why, in words; how many.
    fates: Vec<(String, Vec<String>, u64)>,
    /// Its place among the groups as they came.
    order: usize,
    example: String,
}

/// A sample of times.
#[derive(Default)]
struct Times {
    seen: u64,
    /// With how many times each stands for.
    kept: Vec<(u64, u64)>,
    random: u64,
}

impl Times {
    /// Reservoir sampling: each time seen is kept with the same probability. The generator starts the same each time,
    /// so that the same input gives the same output.
    fn add(&mut self, time: u64) {
        self.seen += 1;
        if self.kept.len() < MOST_TIMES {
            self.kept.push((time, 1));
            return;
        }
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let place = (self.random >> 16) % self.seen;
        if let Some(slot) = self.kept.get_mut(place as usize) {
            *slot = (time, 1);
        }
    }

    /// A time from a sample, which is all that is left of as many as `weight`.
    fn add_sample(&mut self, time: u64, weight: u64) {
        self.kept.push((time, weight));
    }

    /// The median and the 99th percentile.
    fn figures(&self) -> (u64, u64) {
        let mut sorted = self.kept.clone();
        sorted.sort_unstable();
        let total: u64 = sorted.iter().map(|(_, weight)| weight).sum();
        let at = |percent: u64| {
            let mut below = 0;
            let found = sorted.iter().find(|(_, weight)| {
                below += weight;
                below > total * percent / 100
            });
            found.or(sorted.last()).map_or(0, |(time, _)| *time)
        };
        (at(50), at(99))
    }
}

/// FNV-1a, 64 bits.
fn fingerprint<'a>(words: impl Iterator<Item = &'a str>) -> u64 {
    let bytes = words.flat_map(|word| word.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl<W> Paths<W> {
    /// Writes to `out` when the run is over.
    pub fn new(out: W, names: Rc<Names>) -> Self {
        Paths {
            out,
            names,
            groups: HashMap::new(),
            others: 0,
        }
    }

    fn group(&self, way: &[Stop], journey: &Journey) -> Group {
        let tuple = journey.tuple.as_ref();
        let tuple = tuple.map_or_else(|| names::ethertype_label(journey.ethertype), names::tuple);
        Group {
            packets: 0,
            hops: way.iter().map(|_| Times::default()).collect(),
            way: way.to_vec(),
            whole: Times::default(),
            layers: vec![],
            fates: vec![],
            order: self.groups.len(),
            example: match journey.number {
                0 => tuple,
                number => format!("packet {number}: {tuple}"),
            },
        }
    }
}

impl<W> Paths<W> {
    /// So many packets went a way; `add` what one of them says of times.
    fn take(&mut self, journey: &Journey, packets: u64, add: impl Fn(&mut Times, u64)) {
        let way = way(journey, &self.names);
        let kind = Fate::KINDS[journey.fate().kind()];
        let key = fingerprint(way.iter().map(|stop| stop.label.as_str()).chain([kind]));
        if !self.groups.contains_key(&key) {
            if self.groups.len() >= MOST_PATHS {
                self.others += packets;
                return;
            }
            let group = self.group(&way, journey);
            self.groups.insert(key, group);
        }
        let fate = fate_kind(journey.fate(), &self.names);
        let Some(group) = self.groups.get_mut(&key) else {
            return;
        };
        group.packets += packets;
        add(&mut group.whole, journey.end - journey.start);
        // How long it took from each stop to the next, from the last to the end.
        let ends = way
            .iter()
            .skip(1)
            .map(|stop| stop.time)
            .chain([journey.end - journey.start]);
        for ((stop, end), times) in way.iter().zip(ends).zip(&mut group.hops) {
            add(times, end.saturating_sub(stop.time));
        }
        for share in self.names.shares(journey) {
            let name = share.waiting.unwrap_or(share.layer.name());
            match group.layers.iter_mut().find(|(known, _)| *known == name) {
                Some((_, times)) => add(times, share.time),
                None => {
                    let mut times = Times::default();
                    add(&mut times, share.time);
                    group.layers.push((name, times));
                }
            }
        }
        match group.fates.iter_mut().find(|(known, ..)| *known == fate) {
            Some((.., count)) => *count += packets,
            None => group
                .fates
                .push((fate, why_of_many(journey, &self.names), packets)),
        }
    }
}

impl Group {
    fn write(&self, out: &mut impl Write, fingerprint: u64, total: u64) -> io::Result<()> {
        let (median, p99) = self.whole.figures();
        let share = self.packets as f64 * 100.0 / total as f64;
        writeln!(
            out,
            "path {fingerprint:016x}  {}  {share:.1} %  median {} us  p99 {} us  such as {}",
            crate::trace::summary::number(self.packets, "packet"),
            micros(median as i64),
            micros(p99 as i64),
            self.example,
        )?;
        for (fate, why, count) in &self.fates {
            writeln!(out, "  => {fate} ({count})")?;
            for line in why {
                writeln!(out, "     {line}")?;
            }
        }
        for (layer, times) in &self.layers {
            let (median, p99) = times.figures();
            let (median, p99) = (micros(median as i64), micros(p99 as i64));
            writeln!(out, "  {layer:<32}  median {median:>12} us  p99 {p99:>12} us")?;
        }
        writeln!(
            out,
            "{:<9}  {:>12}  {:>12}  function",
            "layer", "median us", "p99 us"
        )?;
        let mut margin = "";
        for (stop, times) in self.way.iter().zip(&self.hops) {
            let layer = if stop.layer == margin { "|" } else { stop.layer };
            margin = stop.layer;
            let (median, p99) = times.figures();
            let (median, p99) = (micros(median as i64), micros(p99 as i64));
            writeln!(out, "{layer:<9}  {median:>12}  {p99:>12}  {}", stop.label)?;
        }
        writeln!(out)
    }
}

impl<W: Write> Renderer for Paths<W> {
    fn event(&mut self, _: u64, _: &Step) -> io::Result<()> {
        Ok(())
    }

    fn ended(&mut self, _: &Journey) -> io::Result<()> {
        Ok(())
    }

    fn journey(&mut self, journey: &Journey) -> io::Result<()> {
        self.take(journey, 1, Times::add);
        Ok(())
    }

    fn folded(&mut self, share: &Share<'_>) -> io::Result<()> {
        let &Share {
            journey,
            packets,
            weight,
        } = share;
        self.take(journey, packets, |times, time| {
            if weight > 0 {
                times.add_sample(time, weight);
            }
        });
        Ok(())
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        let mut groups: Vec<(&u64, &Group)> = self.groups.iter().collect();
        groups.sort_by_key(|(_, group)| (std::cmp::Reverse(group.packets), group.order));
        let total = groups.iter().map(|(_, group)| group.packets).sum::<u64>() + self.others;
        for (fingerprint, group) in groups {
            group.write(&mut self.out, *fingerprint, total)?;
        }
        if self.others > 0 {
            let packets = crate::trace::summary::number(self.others, "packet");
            writeln!(
                self.out,
                "{packets} took further paths: only {MOST_PATHS} are told apart\n"
            )?;
        }
        write!(self.out, "{summary}")
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A fate in words that packets share: without the process's number.
fn fate_kind(fate: &Fate, names: &Names) -> String {
    match fate {
        Fate::Delivered { process } => format!("delivered to {}", super::escape::escape(&process.comm)),
        fate => fate_text(fate, names),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_exact_for_few_and_fair_for_many() {
        let mut times = Times::default();
        (1..=100).for_each(|time| times.add(time));
        assert_eq!(times.figures(), (51, 100));
        let mut times = Times::default();
        (0..100_000).for_each(|time| times.add(time));
        assert_eq!(times.kept.len(), MOST_TIMES);
        let (median, p99) = times.figures();
        assert!((45_000..55_000).contains(&median), "{median}");
        assert!((97_500..100_000).contains(&p99), "{p99}");
        assert_eq!(Times::default().figures(), (0, 0));
    }

    #[test]
    fn fingerprints_tell_ways_apart() {
        let of = |words: &[&str]| fingerprint(words.iter().copied());
        assert_eq!(of(&["a", "b"]), of(&["a", "b"]));
        assert_ne!(of(&["a", "b"]), of(&["ab"]));
        assert_ne!(of(&["a", "b"]), of(&["b", "a"]));
    }
}
