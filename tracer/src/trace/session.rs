//! What is attached for a run, from the scan to the summary's counts.
//!
//! ```text
//!   BTF ─▶ candidates ─▶ plan: groups ─▶ program each ─▶ attach, best backend first
//! ```
//!
//! Everything is attached disabled and enabled at once, so that no packet's journey begins in the middle because
//! half of its functions weren't attached yet. Dropping a session detaches.

mod starting;
mod watching;

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::anyhow;
use ktrail_ebpf::filter::Filter;
use regex::Regex;

use super::beneath::{Function, Returns};
use super::event::{Point, PointId};
use super::extras::Extras;
use super::offsets::Offsets;
use super::plan;
use super::program::{self, Limits, Only, Stat};
use crate::kernel::Lacking;
use crate::kernel::attach::{self, Attached, Events, Link, Refused};
use crate::kernel::btf::KernelBtf;
use crate::kernel::features::Features;
use crate::kernel::maps::{self, Maps};
use crate::kernel::probeable::Reason;
use crate::kernel::program::Program;
use crate::kernel::ring::Ring;
use crate::kernel::symbols::Symbols;
use crate::kernel::sys::SysError;
use starting::{Later, Starting};
use watching::Watching;

/// A way to attach to functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backend {
    /// One link for all functions, by trampolines (7.2+).
    TracingMulti,
    /// One link for all functions (5.18+, CONFIG_FPROBE).
    KprobeMulti,
    /// One probe a function (CONFIG_KPROBES).
    Kprobe,
    /// No functions: BTF tracepoints only.
    Tracepoint,
}

impl Backend {
    /// Best first.
    const ALL: [Backend; 4] = [
        Backend::TracingMulti,
        Backend::KprobeMulti,
        Backend::Kprobe,
        Backend::Tracepoint,
    ];

    /// Programs at functions know the stack that they run on, which [`program::beneath`] needs.
    pub fn knows_stack(self) -> bool {
        matches!(self, Backend::KprobeMulti | Backend::Kprobe)
    }

    /// Single functions can be detached while the others stay and miss nothing. A link by trampolines would have to be
    /// made again, and while the old one is there the kernel takes minutes over a second one (7.3).
    pub fn lets_go(self) -> bool {
        self != Backend::TracingMulti
    }

    /// Its name on the command line and in the output.
    pub fn name(self) -> &'static str {
        match self {
            Backend::TracingMulti => "tracing-multi",
            Backend::KprobeMulti => "kprobe-multi",
            Backend::Kprobe => "kprobe",
            Backend::Tracepoint => "tracepoint",
        }
    }
}

/// What a run wants.
pub struct Request<'a> {
    /// Which packets.
    pub filter: &'a Filter,
    /// And where.
    pub only: Only,
    /// This backend or none; otherwise the best that works.
    pub backend: Option<Backend>,
    /// Only functions and tracepoints whose whole name matches.
    pub func: Option<&'a Regex>,
    /// Sizes of the maps.
    pub limits: Limits,
    /// What reports carry on request.
    pub extras: &'a Extras,
    /// Functions to be seen beneath the packets' own. Then [`Limits::calls`] is not 0, and the backend is one by
    /// kprobes: only they know the stack.
    pub beneath: &'a [Function],
    /// Start only when everything is attached. Otherwise, where attaching takes the kernel long, it starts with the
    /// functions on packets' usual paths ([`Session::attaching`]).
    pub all_first: bool,
    /// Have the kernel measure the programs, and be ready to detach single points: [`super::governor`]. By a backend
    /// that [lets go](Backend::lets_go).
    pub watch: bool,
    /// Programs that do nothing, to see what attaching alone costs.
    pub empty: bool,
}

/// What happens while a session starts, for whoever waits.
pub trait Progress: Sync {
    /// So many of so many functions are attached. Answer false to give up.
    fn attaching(&self, done: usize, total: usize) -> bool;
    /// One line about something that is not as it should be.
    fn notice(&self, line: &str);
}

/// What a run attached to, and what it left out: counts by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Functions attached.
    pub functions: usize,
    /// Tracepoints attached.
    pub tracepoints: usize,
    /// What was left out, each with its reason.
    pub skipped: Vec<Skipped>,
}

/// A function or tracepoint that is not attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// What it is called.
    pub point: Point,
    /// Why.
    pub reason: Reason,
}

/// Nothing that takes a packet has a name that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "nothing to attach to: no function or tracepoint that takes a packet matches --func; it must match whole names"
)]
pub struct NothingToAttach;

/// What the kernel knows, read once.
pub struct Kernel {
    /// What it can do.
    pub features: Features,
    /// Its types.
    pub btf: KernelBtf,
    /// Its symbols.
    pub symbols: Rc<Symbols>,
    /// Why the symbols have no addresses, if they have none: then only tracepoints can be attached.
    pub no_addresses: Option<Lacking>,
}

impl Kernel {
    /// Read it.
    ///
    /// # Errors
    /// What the machine lacks.
    pub fn read() -> Result<Kernel, Lacking> {
        // In this order: what privilege lacks is said first.
        let btf = KernelBtf::load()?;
        let features = Features::probe(&btf)?;
        let (symbols, no_addresses) = match Symbols::load() {
            Ok(symbols) => (symbols, None),
            Err(lacking) => (Symbols::default(), Some(lacking)),
        };
        Ok(Kernel {
            features,
            btf,
            symbols: Rc::new(symbols),
            no_addresses,
        })
    }
}

/// Programs attached, and the ring that they report to.
pub struct Session {
    points: Vec<Point>,
    places: Places,
    maps: Maps,
    ring: Ring,
    programs: Vec<Arc<Program>>,
    attached: Vec<Attached>,
    later: Option<Later>,
    watching: Option<Watching>,
    /// Which backend serves the functions.
    pub backend: Backend,
    /// What is attached and what isn't.
    pub coverage: Coverage,
}

/// What code addresses in reports stand for.
pub struct Places {
    probed: Vec<(u64, PointId)>,
    /// Where the code lies that gives packets' data to processes, if that is known without the symbols.
    reading: Option<Vec<Range<u64>>>,
    symbols: Rc<Symbols>,
    /// The symbols are being read.
    naming: bool,
    /// What reports carry on request.
    pub extras: Extras,
    returns: HashMap<PointId, Returns>,
}

impl Places {
    fn new(
        mut probed: Vec<(u64, PointId)>,
        reading: Option<Vec<Range<u64>>>,
        symbols: Rc<Symbols>,
        extras: Extras,
        returns: HashMap<PointId, Returns>,
    ) -> Places {
        probed.sort_unstable();
        Places {
            probed,
            reading,
            symbols,
            naming: false,
            extras,
            returns,
        }
    }

    /// What the function at a point returns, if the point is one of [`Request::beneath`].
    pub fn returns(&self, point: PointId) -> Returns {
        self.returns.get(&point).copied().unwrap_or_default()
    }

    /// Whether the code at `ip` gives packets' data to processes.
    pub fn reads(&self, ip: u64) -> bool {
        if let Some(reading) = &self.reading {
            return reading.iter().any(|range| range.contains(&ip));
        }
        self.symbols
            .at(ip)
            .is_some_and(|(symbol, _)| plan::COPYING.contains(&symbol.name))
    }

    /// The point whose function starts at or closest below `ip`: a probe may sit some bytes into the function.
    pub fn find(&self, ip: u64) -> Option<PointId> {
        const PROLOGUE: u64 = 16;
        let after = self.probed.partition_point(|&(addr, _)| addr <= ip);
        let &(addr, point) = self.probed[..after].last()?;
        (ip - addr <= PROLOGUE).then_some(point)
    }
}

impl Session {
    /// Attach to everything that takes a packet, by the best backend that works.
    ///
    /// # Errors
    /// What the machine lacks, or what the kernel refused where nothing is left to fall back on.
    pub fn start(kernel: &Kernel, request: &Request<'_>, progress: &dyn Progress) -> anyhow::Result<Session> {
        let offsets = Offsets::resolve(&kernel.btf)?;
        let swept = attach::sweep();
        if swept > 0 {
            progress.notice(&format!(
                "a run that was killed had left {swept} kprobe events, which do nothing; they are being removed"
            ));
        }
        let mut refused: Vec<String> = vec![];
        if let (Some(lacking), None) = (&kernel.no_addresses, request.backend) {
            refused.push(format!("no functions ({}; {})", lacking.why, lacking.fix));
        }
        let mut last = None;
        for backend in Backend::ALL {
            if request.backend.is_some_and(|wanted| wanted != backend) {
                continue;
            }
            if !request.beneath.is_empty() && !backend.knows_stack() || request.watch && !backend.lets_go() {
                continue;
            }
            let lacking = match (backend, &kernel.no_addresses) {
                (Backend::Tracepoint, _) => None,
                (_, Some(_)) if request.backend.is_none() => continue,
                (_, Some(lacking)) => Some(lacking.clone()),
                (Backend::TracingMulti, None) => kernel.features.tracing_multi.clone().err(),
                (Backend::KprobeMulti, None) => kernel.features.kprobe_multi.clone().err(),
                (Backend::Kprobe, None) => kernel.features.kprobe.clone().err(),
            };
            // Most kernels are older than that: not worth a word, unless it was asked for.
            let usual = backend == Backend::TracingMulti && lacking.is_some();
            let (error, why) = match lacking {
                Some(lacking) => (anyhow!(lacking.clone()), lacking.why),
                None => match Starting::new(kernel, request, progress, &offsets, backend)?.attach() {
                    Ok(session) => {
                        if !refused.is_empty() {
                            progress.notice(&format!("{}; using {}", refused.join(", "), backend.name()));
                        }
                        return Ok(session);
                    }
                    Err(error) => {
                        let why = format!("{error:#}");
                        (error, why)
                    }
                },
            };
            if !usual {
                refused.push(format!("no {} ({why})", backend.name()));
            }
            last = Some(error);
        }
        Err(last.unwrap_or_else(|| anyhow!("no backend left")))
    }

    /// The attach points, which [`PointId`] indexes.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// The ring that the programs report to.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Take up to `max` reports from the ring.
    pub fn read(&mut self, max: usize, mut take: impl FnMut(&[u8], &Places)) -> usize {
        let Session { ring, places, .. } = self;
        let count = ring.drain_some(max, |bytes| take(bytes, places));
        if count > 0 && !places.naming {
            // Drops name the code that dropped. Without reports, nobody asks, and the names take memory.
            places.naming = true;
            places.symbols.read_ahead();
        }
        count
    }

    /// How many functions are still being attached.
    pub fn attaching(&self) -> usize {
        self.later.as_ref().map_or(0, |later| later.points.len())
    }

    /// See whether those are attached by now; true when there are none left.
    pub fn look_after_attaching(&mut self) -> bool {
        if self
            .later
            .as_ref()
            .is_some_and(|later| later.thread.is_finished())
        {
            self.stop_attaching();
        }
        self.later.is_none()
    }

    /// Attach no more. What has not had its turn counts as skipped.
    pub fn stop_attaching(&mut self) {
        let Some(Later { points, stop, thread }) = self.later.take() else {
            return;
        };
        stop.store(true, Ordering::Relaxed);
        let mut skip = |point: PointId, reason| {
            let point = self.points[point.0 as usize].clone();
            self.coverage.skipped.push(Skipped { point, reason });
        };
        let attached = match thread.join() {
            Ok(Ok(attached)) => attached,
            // For reasons that have nothing to do with single functions, such as no more memory: none is attached.
            Ok(Err(error)) => {
                for point in points {
                    skip(point, Reason::Refused(error.errno));
                }
                return;
            }
            Err(panic) => std::panic::resume_unwind(panic),
        };
        for &Refused { target, error } in &attached.refused {
            skip(PointId(target.cookie as u32), Reason::Refused(error.errno));
        }
        for target in &attached.left {
            skip(PointId(target.cookie as u32), Reason::NotYet);
        }
        self.coverage.functions += attached.count;
        self.attached.push(attached);
    }

    /// Let the programs report.
    ///
    /// # Errors
    /// The kernel's.
    pub fn enable(&self) -> Result<(), SysError> {
        self.set_enabled(1)
    }

    /// Keep the programs from reporting.
    ///
    /// # Errors
    /// The kernel's.
    pub fn disable(&self) -> Result<(), SysError> {
        self.set_enabled(0)
    }

    fn set_enabled(&self, enabled: u32) -> Result<(), SysError> {
        let mut state = [0; program::STATE_SIZE as usize];
        state[..4].copy_from_slice(&enabled.to_ne_bytes());
        self.map("state").update(&0_u32.to_ne_bytes(), &state)
    }

    /// What the programs have counted, over all CPUs.
    ///
    /// # Errors
    /// The kernel's.
    pub fn stat(&self, stat: Stat) -> Result<u64, SysError> {
        let at = stat as usize * 8;
        let values = self
            .map("stats")
            .lookup_per_cpu(&0_u32.to_ne_bytes())?
            .unwrap_or_default();
        Ok(values
            .iter()
            .filter_map(|value| Some(u64::from_ne_bytes(*value.get(at..)?.first_chunk()?)))
            .sum())
    }

    /// Whether journeys are folded in the kernel.
    pub fn folds(&self) -> bool {
        self.maps.get("journeys").is_some()
    }

    /// How many skbs are followed now.
    ///
    /// # Errors
    /// The kernel's.
    pub fn following(&self) -> Result<u32, SysError> {
        let state = self
            .map("state")
            .lookup(&0_u32.to_ne_bytes())?
            .unwrap_or_default();
        let word = state.get(program::STATE_FOLLOWING as usize..);
        Ok(word
            .and_then(|word| word.first_chunk())
            .map_or(0, |word| u32::from_ne_bytes(*word)))
    }

    /// Journeys as the kernel keeps them, where they are folded: kinds of them, and those that are under way.
    ///
    /// # Errors
    /// The kernel's.
    pub fn folded(&self) -> Result<[Vec<Vec<u8>>; 2], SysError> {
        let values = |name| -> Result<Vec<Vec<u8>>, SysError> {
            let entries = self.map(name).entries()?;
            Ok(entries.into_iter().map(|entry| entry.1).collect())
        };
        Ok([values("classes")?, values("journeys")?])
    }

    /// Hits for which the kernel did not run a program, because one ran already on that CPU, or another probe.
    pub fn missed(&self) -> u64 {
        let watching = self.watching.iter();
        let programs = self
            .programs
            .iter()
            .chain(watching.clone().flat_map(Watching::others));
        let by_program: u64 = programs
            .filter_map(|p| p.stats().ok())
            .map(|s| s.recursion_misses)
            .sum();
        let before: u64 = watching.map(Watching::missed).sum();
        let of = |attached: &Attached| {
            let links = attached.links.iter().map(Link::missed).sum::<u64>();
            links + attached.events.iter().map(Events::missed).sum::<u64>()
        };
        by_program + before + self.attached.iter().map(of).sum::<u64>()
    }

    /// Let go of everything. The kernel detaches it behind our back; no program does anything meanwhile.
    pub fn detach(mut self) {
        self.stop_attaching();
        // Should that fail, they stop with the process.
        let _ = self.disable();
        let mut all = Attached::default();
        for attached in self.attached {
            all.links.extend(attached.links);
            all.events.extend(attached.events);
        }
        all.leave();
    }

    fn map(&self, name: &str) -> &maps::Map {
        self.maps
            .get(name)
            .unwrap_or_else(|| unreachable!("{name} is among program::maps"))
    }
}
