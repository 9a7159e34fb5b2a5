//! What a session knows of its own cost, and letting go of single functions while it goes on.
//!
//! Deliberately absent: which functions to let go of, and when ([`super::super::governor`]).

use std::os::fd::OwnedFd;
use std::sync::Arc;

use anyhow::Context;
use ktrail_ebpf::codegen::Object;

use super::super::event::{PointId, PointKind};
use super::super::governor::{Here, Ran, Watched};
use super::super::program::TURNS_SIZE;
use super::{Session, Skipped};
use crate::kernel::attach::{self, Attached, Link, Multi, Refused, Target};
use crate::kernel::probeable::Reason;
use crate::kernel::program::{AttachType, LoadOptions, Program, load, measure_run_time};
use crate::kernel::sys::SysError;

/// A link of many functions loses one by being made again; programs take turns at it.
pub(super) struct Pair {
    /// Its byte in `turns`.
    pair: u8,
    /// The second program, which is loaded when its first turn comes.
    object: Object,
    other: Option<Arc<Program>>,
}

impl Pair {
    pub(super) fn new(pair: u8, object: Object) -> Pair {
        Pair {
            pair,
            object,
            other: None,
        }
    }
}

/// What a session that is watched keeps beside.
pub(super) struct Watching {
    /// While this is open the kernel measures.
    _measuring: OwnedFd,
    /// For each point: journeys can't be followed, or their ends not explained, without it.
    needed: Vec<bool>,
    /// For each point the number of its program, once it has one.
    serving: Vec<Option<usize>>,
    /// By the number of the first program.
    pub(super) pairs: Vec<(usize, Pair)>,
    /// What is in the map `turns`.
    turns: [u8; TURNS_SIZE as usize],
    /// What links that are gone had missed.
    missed: u64,
}

impl Watching {
    pub(super) fn new(needed: Vec<bool>) -> Result<Watching, SysError> {
        Ok(Watching {
            _measuring: measure_run_time()?,
            serving: vec![None; needed.len()],
            needed,
            pairs: vec![],
            turns: [0; TURNS_SIZE as usize],
            missed: 0,
        })
    }

    /// The program of that number serves these points from now on.
    pub(super) fn serves(&mut self, program: usize, points: &[PointId]) {
        for point in points {
            self.serving[point.0 as usize] = Some(program);
        }
    }

    /// There are so many points more, which can't be detached, and their programs' runs aren't counted.
    pub(super) fn beside(&mut self, points: usize) {
        let all = self.needed.len() + points;
        self.needed.resize(all, true);
        self.serving.resize(all, None);
    }

    /// A number for a pair of programs for these points, if any of them may go and there is one left.
    pub(super) fn next_pair(&self, points: &[PointId]) -> Option<u8> {
        let some = points.iter().any(|point| !self.needed[point.0 as usize]);
        let next = self.pairs.len() + 1;
        (some && next < self.turns.len()).then_some(next as u8)
    }

    fn paired(&self, program: usize) -> bool {
        self.pairs.iter().any(|(number, _)| *number == program)
    }

    /// Programs beside the session's own.
    pub(super) fn others(&self) -> impl Iterator<Item = &Arc<Program>> {
        self.pairs.iter().filter_map(|(_, pair)| pair.other.as_ref())
    }

    /// What links that are gone had missed.
    pub(super) fn missed(&self) -> u64 {
        self.missed
    }

    /// The program that serves all that a link attaches.
    fn program_of(&self, link: &Link) -> Option<usize> {
        self.serving[point(link.targets().first()?)]
    }
}

/// The number of the point that a target is.
fn point(target: &Target) -> usize {
    target.cookie as u32 as usize
}

impl Watched for Session {
    fn ran(&self) -> anyhow::Result<Vec<Ran>> {
        let of = |program: &Arc<Program>| -> Result<Ran, SysError> {
            let stats = program.stats()?;
            Ok(Ran {
                time: stats.run_time_ns,
                runs: stats.run_cnt,
            })
        };
        let mut all = self.programs.iter().map(of).collect::<Result<Vec<_>, _>>()?;
        for (number, pair) in self.watching.iter().flat_map(|w| &w.pairs) {
            if let Some(other) = &pair.other {
                let other = of(other)?;
                all[*number].time += other.time;
                all[*number].runs += other.runs;
            }
        }
        Ok(all)
    }

    fn counts(&self) -> anyhow::Result<Vec<Here>> {
        let Some(watching) = &self.watching else {
            return Ok(vec![]);
        };
        let links = || self.attached.iter().flat_map(|attached| &attached.links);
        let mut points: Vec<Here> = vec![Here::default(); self.points.len()];
        for (here, &program) in points.iter_mut().zip(&watching.serving) {
            here.program = program;
        }
        for link in links() {
            // One of many that can't be made again can't be left, either.
            let program = watching.program_of(link);
            let can = link.targets().len() == 1 || program.is_some_and(|program| watching.paired(program));
            for target in link.targets() {
                points[point(target)].may_go = can && !watching.needed[point(target)];
            }
        }
        for (key, values) in self.map("hits").entries()? {
            let mut bytes = [0; 8];
            bytes[..key.len()].copy_from_slice(&key);
            // A number, or an address of the kernel's, which lies far above.
            let key = u64::from_ne_bytes(bytes);
            let number = match u32::try_from(key) {
                Ok(number) => Some(PointId(number)),
                Err(_) => self.places.find(key),
            };
            let Some(here) = number.and_then(|number| points.get_mut(number.0 as usize)) else {
                continue;
            };
            let word = |bytes: &[u8]| bytes.first_chunk().map_or(0, |word| u64::from_ne_bytes(*word));
            for value in values.chunks(16) {
                here.runs += word(value);
                here.followed += value.get(8..).map_or(0, word);
            }
        }
        Ok(points)
    }

    fn count_runs(&mut self, on: bool) -> anyhow::Result<()> {
        let Some(watching) = &mut self.watching else {
            return Ok(());
        };
        watching.turns[0] = on.into();
        let turns = watching.turns;
        Ok(self.write_turns(turns)?)
    }

    fn release(&mut self, points: &[PointId]) -> anyhow::Result<Vec<PointId>> {
        let Some(watching) = &self.watching else {
            return Ok(vec![]);
        };
        let gone: Vec<usize> = points.iter().map(|point| point.0 as usize).collect();
        let mut again = vec![];
        let mut leaving = vec![];
        for attached in &mut self.attached {
            let alone = |link: &mut Link| match link.targets() {
                [] => false,
                targets if targets.iter().all(|t| gone.contains(&point(t))) => true,
                targets => {
                    if targets.iter().any(|t| gone.contains(&point(t))) {
                        again.extend(watching.program_of(link));
                    }
                    false
                }
            };
            leaving.extend(attached.links.extract_if(.., alone));
        }
        again.sort_unstable();
        again.dedup();
        let result = again
            .into_iter()
            .try_for_each(|program| self.link_again(program, &gone, &mut leaving));
        let went = self.leave(leaving, &gone);
        result.map(|()| went)
    }
}

impl Session {
    fn write_turns(&self, turns: [u8; TURNS_SIZE as usize]) -> Result<(), SysError> {
        self.map("turns").update(&0_u32.to_ne_bytes(), &turns)
    }

    /// Have what a program serves served by its other, but for `gone`; not if a followed packet went through one of
    /// those meanwhile. The old links come to `leaving`.
    fn link_again(&mut self, program: usize, gone: &[usize], leaving: &mut Vec<Link>) -> anyhow::Result<()> {
        let Some(watching) = &mut self.watching else {
            return Ok(());
        };
        let links = self.attached.iter().flat_map(|attached| &attached.links);
        let stay: Vec<Target> = links
            .filter(|link| watching.program_of(link) == Some(program))
            .flat_map(Link::targets)
            .filter(|target| !gone.contains(&point(target)))
            .copied()
            .collect();
        let Some((_, pair)) = watching.pairs.iter_mut().find(|(number, _)| *number == program) else {
            return Ok(());
        };
        let now = usize::from(pair.pair);
        let next = match (watching.turns[now], &mut pair.other) {
            (0, Some(other)) => Arc::clone(other),
            (0, other) => {
                let options = LoadOptions {
                    attach_type: Some(AttachType::TraceKprobeMulti),
                    ..LoadOptions::default()
                };
                let loaded = load(&pair.object, &self.maps, &options)?;
                Arc::clone(other.insert(Arc::new(loaded)))
            }
            _ => Arc::clone(&self.programs[program]),
        };
        let attached = attach::kprobe_multi(&next, &stay, Multi::Entry)
            .context("attaching again without functions that cost too much")?;
        let points = self.counts()?;
        if gone.iter().any(|&number| {
            let here = &points[number];
            here.program == Some(program) && here.followed > 0
        }) {
            std::thread::spawn(move || drop(attached));
            return Ok(());
        }
        let Some(watching) = &mut self.watching else {
            return Ok(());
        };
        watching.turns[now] ^= 1;
        let turns = watching.turns;
        // Until this write the old link's hits count, from then on the new one's.
        self.write_turns(turns)?;
        if let Some(watching) = &self.watching {
            for attached in &mut self.attached {
                let of_this = |link: &mut Link| watching.program_of(link) == Some(program);
                leaving.extend(attached.links.extract_if(.., of_this));
            }
        }
        // None of them was refused before.
        for &Refused { target, error } in &attached.refused {
            self.coverage.functions -= 1;
            self.coverage.skipped.push(Skipped {
                point: self.points[point(&target)].clone(),
                reason: Reason::Refused(error.errno),
            });
        }
        self.attached.push(attached);
        Ok(())
    }

    /// Let go of links, and count the points that went with them, which are returned. The kernel takes its time, so
    /// not here.
    fn leave(&mut self, links: Vec<Link>, gone: &[usize]) -> Vec<PointId> {
        let mut went = vec![];
        for target in links.iter().flat_map(Link::targets) {
            if gone.contains(&point(target)) {
                went.push(point(target));
            }
        }
        went.sort_unstable();
        went.dedup();
        for &number in &went {
            let point = self.points[number].clone();
            match point.kind {
                PointKind::Function => self.coverage.functions -= 1,
                PointKind::Tracepoint => self.coverage.tracepoints -= 1,
            }
            let reason = Reason::TooCostly;
            self.coverage.skipped.push(Skipped { point, reason });
        }
        if let Some(watching) = &mut self.watching {
            watching.missed += links.iter().map(Link::missed).sum::<u64>();
        }
        let attached = Attached {
            links,
            ..Attached::default()
        };
        std::thread::spawn(move || attached.detach());
        went.into_iter().map(|number| PointId(number as u32)).collect()
    }
}
