//! Journeys that the kernel has folded: which way each kind of them went, told by the reports of its steps.
//!
//! A kind's steps may have been reported of several packets: each step's report comes once, from the first packet that
//! took it after the same steps before. So a kind is a story that is made up of true steps, and goes through [`Journeys`]
//! like any packet's; times come from the samples of its own packets, and so do the addresses of its example.
//!
//! Deliberately absent: how the kernel folds ([`super::program`]), and printing.

use std::collections::HashMap;
use std::fmt;

use super::decode::{BadRecord, decode, tuple};
use super::event::{Event, Point, Sign};
use super::journey::{Journey, Journeys, Limits, Totals};
use super::session::Places;
use super::summary::number;
use super::trail::{self, Trail};

/// A step as it was reported.
struct Reported {
    before: u64,
    copy: u64,
    origin: u64,
    event: Event,
}

/// A step of a kind's story.
enum Told<'a> {
    Step(&'a Reported),
    /// This copy's end went unseen.
    Lost(u64),
}

/// The times of one packet's steps: nanoseconds from each step's predecessor.
struct Times {
    rate: u64,
    steps: Vec<u32>,
}

/// What came up of folded journeys.
#[derive(Default)]
pub struct Folded {
    steps: HashMap<u64, Reported>,
    samples: HashMap<u64, Vec<Times>>,
    random: u64,
}

/// What a run's folding adds up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Folding {
    /// Kinds of journeys that were told apart.
    pub kinds: u64,
    /// Packets whose times the figures are of.
    pub timed: u64,
    /// Reports for which the ring had no room.
    pub unreported: u64,
    /// Packets with more steps than times are kept of: they count, without their times.
    pub long: u64,
    /// Packets whose way is not known, since reports of its steps were lost.
    pub untold: u64,
    /// Packets with two copies that two CPUs handled in the same instant.
    pub tangled: u64,
    /// Packets for whose kind there was no room.
    pub unclassed: u64,
    /// Hits of packets whose journey was no longer there.
    pub stray: u64,
    /// Packets that were still on their way at the end. They are among the paths.
    pub under_way: u64,
    /// Packets that began, less those that are counted anywhere.
    pub unaccounted: i64,
}

/// A journey of some kind, to be rendered.
pub struct Share<'a> {
    /// With one packet's times.
    pub journey: &'a Journey,
    /// So many packets went this way.
    pub packets: u64,
    /// The times are those of so many packets; 0 if they are of none.
    pub weight: u64,
}

impl Folded {
    /// Takes a report: a step's, or a packet's times.
    ///
    /// # Errors
    /// See [`BadRecord`].
    pub fn take(&mut self, bytes: &[u8], places: &Places) -> Result<(), BadRecord> {
        if Trail::Count.of(bytes) == 0 {
            self.sample(bytes);
            return Ok(());
        }
        let (report, tail) = bytes
            .len()
            .checked_sub(trail::TAIL as usize)
            .and_then(|at| bytes.split_at_checked(at))
            .ok_or(BadRecord::Size(bytes.len()))?;
        let event = decode(
            report,
            &places.extras,
            |ip| places.find(ip),
            |ip| places.reads(ip),
        )?;
        let word = |number: usize| {
            let word = tail.get(number * 8..).and_then(|tail| tail.first_chunk());
            u64::from_ne_bytes(word.copied().unwrap_or_default())
        };
        self.steps.entry(word(0)).or_insert(Reported {
            before: word(1),
            copy: word(2),
            origin: word(3),
            event,
        });
        Ok(())
    }

    /// Keep a packet's times. Samples become rarer as a kind's packets get many: then older ones are thinned out, so that
    /// each stands for as many packets.
    fn sample(&mut self, bytes: &[u8]) {
        let Some(times) = times(bytes) else {
            return;
        };
        let samples = self.samples.entry(Trail::Hash.of(bytes)).or_default();
        let rate = samples.first().map_or(times.rate, |first| first.rate);
        let random = &mut self.random;
        let mut keep = |doublings: u64| {
            *random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (*random >> 33) & ((1 << doublings.min(31)) - 1) == 0
        };
        if times.rate > rate {
            samples.retain(|_| keep(times.rate - rate));
            samples.iter_mut().for_each(|sample| sample.rate = times.rate);
        } else if !keep(rate - times.rate) {
            return;
        }
        let rate = rate.max(times.rate);
        samples.push(Times { rate, ..times });
    }

    /// The run is over: calls `render` for what became of the journeys, of which the kernel has `kinds`, counted, and
    /// `under_way`.
    ///
    /// # Errors
    /// Those of `render`.
    pub fn finish<E>(
        self,
        points: &[Point],
        kinds: &[Vec<u8>],
        under_way: &[Vec<u8>],
        mut render: impl FnMut(&Share<'_>) -> Result<(), E>,
    ) -> Result<(Totals, Folding), E> {
        let (mut totals, mut folding) = (Totals::default(), Folding::default());
        let mut journeys = Journeys::new(points, Limits::default());
        let losses = self.losses();
        let open = under_way.iter().map(|journey| (journey, 1));
        let mut all: Vec<_> = kinds
            .iter()
            .map(|kind| (kind, Trail::Count.of(kind)))
            .chain(open)
            .filter(|(journey, packets)| *packets > 0 && Trail::Steps.of(journey) > 0)
            .collect();
        all.sort_by_key(|(journey, _)| Trail::Start.of(journey));
        folding.under_way = under_way.len() as u64;
        folding.kinds = all.len() as u64;
        for (number, (kind, packets)) in (1..).zip(all) {
            totals.packets += packets;
            totals.events += packets * Trail::Steps.of(kind);
            let Some(told) = self.told(kind, &losses) else {
                folding.untold += packets;
                continue;
            };
            if Trail::Steps.of(kind) > u64::from(trail::STEPS - 1) {
                folding.long += packets;
            }
            let samples = match Trail::Count.of(kind) {
                0 => None,
                _ => self.samples.get(&Trail::Hash.of(kind)),
            };
            let own: Vec<Times> = times(kind).into_iter().collect();
            let samples = samples.map_or(&own[..], |samples| &samples[..]);
            folding.timed += samples.len() as u64;
            for mut journey in replay(&mut journeys, &told, number) {
                totals.fates[journey.fate().kind()] += packets;
                journey.number = 0;
                journey.tuple = tuple(headers(kind)).or(journey.tuple);
                let order: Vec<usize> = journey.steps().map(|step| step.event.time as usize - 1).collect();
                retime(&mut journey, &order, Trail::Start.of(kind), own.first());
                render(&Share {
                    journey: &journey,
                    packets,
                    weight: 0,
                })?;
                for sample in samples {
                    retime(&mut journey, &order, Trail::Start.of(kind), Some(sample));
                    render(&Share {
                        journey: &journey,
                        packets: 0,
                        weight: 1 << sample.rate.min(32),
                    })?;
                }
            }
        }
        Ok((totals, folding))
    }

    /// Hashes that no step has, because a copy was lost after one.
    fn losses(&self) -> HashMap<u64, (u64, u64)> {
        let copies = self.steps.values().map(|step| step.copy).max().unwrap_or(0);
        let mut losses = HashMap::new();
        for &hash in self.steps.keys() {
            losses.extend((0..=copies).map(|copy| (trail::lost(hash, copy), (hash, copy))));
        }
        losses
    }

    /// The steps of a journey in their order; none if the report of one is missing.
    fn told(&self, journey: &[u8], losses: &HashMap<u64, (u64, u64)>) -> Option<Vec<Told<'_>>> {
        let (mut told, mut steps) = (vec![], 0);
        let mut hash = Trail::Hash.of(journey);
        while hash != 0 {
            if let Some(step) = self.steps.get(&hash) {
                told.push(Told::Step(step));
                hash = step.before;
                steps += 1;
            } else {
                let &(before, copy) = losses.get(&hash)?;
                told.push(Told::Lost(copy));
                hash = before;
            }
            if steps > Trail::Steps.of(journey) {
                return None;
            }
        }
        told.reverse();
        (steps == Trail::Steps.of(journey)).then_some(told)
    }
}

/// What becomes of a journey that takes these steps. Instead of times its events have their numbers, from 1.
fn replay(journeys: &mut Journeys, told: &[Told<'_>], number: u64) -> Vec<Journey> {
    // Addresses of no other story's.
    let address = |copy: u64| number << 16 | copy;
    let (mut ended, mut at) = (vec![], 0);
    for told in told {
        match told {
            Told::Lost(copy) => journeys.lose(number, address(*copy)),
            Told::Step(step) => {
                at += 1;
                let mut event = step.event.clone();
                (event.time, event.journey, event.skb) = (at, number, address(step.copy));
                if let Sign::Cloned { from } = &mut event.sign {
                    *from = address(step.origin);
                }
                journeys.push(event);
                ended.extend(std::iter::from_fn(|| journeys.ended()));
            }
        }
    }
    journeys.finish();
    ended.extend(std::iter::from_fn(|| journeys.ended()));
    ended
}

/// Give a journey the times of a packet; `order` says which of its steps are the journey's.
fn retime(journey: &mut Journey, order: &[usize], start: u64, times: Option<&Times>) {
    let mut at = start;
    let times = times.map_or(&[][..], |times| &times.steps);
    // The first step is when it began.
    let times: Vec<u64> = std::iter::once(start)
        .chain(times.iter().skip(1).map(|passed| {
            at += u64::from(*passed);
            at
        }))
        .collect();
    let last = times.last().copied().unwrap_or(start);
    let steps = journey.head.iter_mut().chain(&mut journey.tail);
    for (step, &number) in steps.zip(order) {
        step.event.time = times.get(number).copied().unwrap_or(last);
    }
    let first = journey.steps().next().map_or(start, |step| step.event.time);
    let end = journey.steps().last().map_or(start, |step| step.event.time);
    (journey.start, journey.end) = (first, end);
}

/// A journey's times, if all of them were kept.
fn times(journey: &[u8]) -> Option<Times> {
    let steps = Trail::Steps.of(journey) as usize;
    // The last of the most that there is room for is missing from samples.
    let room = trail::STEPS as usize - 1;
    let bytes = journey.get(trail::TIMES as usize..)?;
    let words = bytes.chunks_exact(4).take(steps);
    let steps_of: Vec<u32> = words
        .map(|word| word.first_chunk().copied().map_or(0, u32::from_ne_bytes))
        .collect();
    (steps <= room && steps_of.len() == steps).then_some(Times {
        rate: Trail::Rate.of(journey),
        steps: steps_of,
    })
}

/// The headers that were kept.
fn headers(journey: &[u8]) -> &[u8] {
    let (at, room) = trail::HEADERS;
    let len = Trail::HeaderLen.of(journey).min(room.into()) as usize;
    journey.get(at as usize..at as usize + len).unwrap_or_default()
}

impl fmt::Display for Folding {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(
            f,
            "folded in the kernel, {}; times of {}",
            number(self.kinds, "kind"),
            number(self.timed, "packet")
        )?;
        for (count, what) in [
            (self.under_way, "still on the way"),
            (self.long, "without times: too many steps"),
            (self.untold, "of unknown ways: reports of steps were lost"),
            (self.unclassed, "of further ways: too many to tell apart"),
            (
                self.tangled,
                "of unknown ways: two CPUs handled copies at the same time",
            ),
        ] {
            if count > 0 {
                writeln!(f, "  {} {what}", number(count, "packet"))?;
            }
        }
        if self.unreported > 0 {
            writeln!(
                f,
                "  {} for which the ring had no room",
                number(self.unreported, "report")
            )?;
        }
        if self.unaccounted != 0 {
            writeln!(
                f,
                "  {} packets more began than are counted: a bug in ktrail",
                self.unaccounted
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
