//! What is attached for a run, from the scan to the summary's counts.
//!
//! ```text
//!   BTF ─▶ candidates ─▶ plan: groups ─▶ program each ─▶ attach, best backend first
//! ```
//!
//! Everything is attached disabled and enabled at once, so that no packet's journey begins in the middle because
//! half of its functions weren't attached yet. Dropping a session detaches.

use std::ops::Range;
use std::os::fd::AsFd;
use std::rc::Rc;

use anyhow::{Context, anyhow};
use ktrail_ebpf::codegen::{self, PacketAccess};
use ktrail_ebpf::filter::Filter;
use ktrail_ebpf::ir::ProgramKind;
use ktrail_ebpf::kernel::TypeId;
use regex::Regex;

use super::event::{Point, PointId, PointKind};
use super::extras::Extras;
use super::offsets::Offsets;
use super::plan::{self, Candidate, Group};
use super::program::{self, Limits, Only, Place, SkbArg, Spec, Stat};
use crate::kernel::Lacking;
use crate::kernel::attach::{self, Attached, Link, Multi, Refused, Target};
use crate::kernel::btf::{self, Indirection, KernelBtf};
use crate::kernel::features::Features;
use crate::kernel::maps::{self, Maps};
use crate::kernel::probeable::{self, Reason, Rules};
use crate::kernel::program::{AttachType, LoadOptions, Program, load};
use crate::kernel::ring::Ring;
use crate::kernel::symbols::Symbols;
use crate::kernel::sys::SysError;

/// A way to attach to functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backend {
    /// One link for all functions (5.18+, CONFIG_FPROBE).
    KprobeMulti,
    /// One probe a function (CONFIG_KPROBES).
    Kprobe,
    /// No functions: BTF tracepoints only.
    Tracepoint,
}

impl Backend {
    /// Best first.
    const ALL: [Backend; 3] = [Backend::KprobeMulti, Backend::Kprobe, Backend::Tracepoint];

    /// Its name on the command line and in the output.
    pub fn name(self) -> &'static str {
        match self {
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
    programs: Vec<Program>,
    attached: Vec<Attached>,
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
    /// What reports carry on request.
    pub extras: Extras,
}

impl Places {
    fn new(
        mut probed: Vec<(u64, PointId)>,
        reading: Option<Vec<Range<u64>>>,
        symbols: Rc<Symbols>,
        extras: Extras,
    ) -> Places {
        probed.sort_unstable();
        Places {
            probed,
            reading,
            symbols,
            extras,
        }
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

/// A function or tracepoint that will be attached, and what attaching needs.
enum Site {
    Function(u64),
    Tracepoint { module: String, id: TypeId },
}

impl Session {
    /// Attach to everything that takes a packet, by the best backend that works.
    ///
    /// # Errors
    /// What the machine lacks, or what the kernel refused where nothing is left to fall back on.
    pub fn start(kernel: &Kernel, request: &Request<'_>, progress: &dyn Progress) -> anyhow::Result<Session> {
        let offsets = Offsets::resolve(&kernel.btf)?;
        let mut refused: Vec<String> = vec![];
        if let (Some(lacking), None) = (&kernel.no_addresses, request.backend) {
            refused.push(format!("no functions ({}; {})", lacking.why, lacking.fix));
        }
        let mut last = None;
        for backend in Backend::ALL {
            if request.backend.is_some_and(|wanted| wanted != backend) {
                continue;
            }
            let lacking = match (backend, &kernel.no_addresses) {
                (Backend::Tracepoint, _) => None,
                (_, Some(_)) if request.backend.is_none() => continue,
                (_, Some(lacking)) => Some(lacking.clone()),
                (Backend::KprobeMulti, None) => kernel.features.kprobe_multi.clone().err(),
                (Backend::Kprobe, None) => kernel.features.kprobe.clone().err(),
            };
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
            refused.push(format!("no {} ({why})", backend.name()));
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
        ring.drain_some(max, |bytes| take(bytes, places))
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

    fn set_enabled(&self, enabled: u64) -> Result<(), SysError> {
        let mut state = [0; program::STATE_SIZE as usize];
        state[..8].copy_from_slice(&enabled.to_ne_bytes());
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

    /// Hits for which the kernel did not run a program, because one ran already on that CPU.
    pub fn missed(&self) -> u64 {
        self.programs
            .iter()
            .filter_map(|p| p.stats().ok())
            .map(|s| s.recursion_misses)
            .sum()
    }

    /// Detach everything, as quickly as the kernel lets us.
    pub fn detach(self) {
        // All at once: each waits for the kernel's grace period.
        let links = self
            .attached
            .into_iter()
            .flat_map(|attached| attached.links)
            .collect();
        Attached {
            links,
            ..Attached::default()
        }
        .detach();
    }

    fn map(&self, name: &str) -> &maps::Map {
        self.maps
            .get(name)
            .unwrap_or_else(|| unreachable!("{name} is among program::maps"))
    }
}

/// A session being put together for one backend.
struct Starting<'a> {
    request: &'a Request<'a>,
    progress: &'a dyn Progress,
    offsets: &'a Offsets,
    backend: Backend,
    candidates: Vec<Candidate>,
    sites: Vec<Site>,
    coverage: Coverage,
    maps: Maps,
    programs: Vec<Program>,
    attached: Vec<Attached>,
    features: &'a Features,
    reading: Option<Vec<Range<u64>>>,
    symbols: &'a Rc<Symbols>,
}

impl<'a> Starting<'a> {
    fn new(
        kernel: &'a Kernel,
        request: &'a Request<'a>,
        progress: &'a dyn Progress,
        offsets: &'a Offsets,
        backend: Backend,
    ) -> anyhow::Result<Starting<'a>> {
        let mut starting = Starting {
            request,
            progress,
            offsets,
            backend,
            candidates: vec![],
            sites: vec![],
            coverage: Coverage::default(),
            maps: Maps::create(&program::maps(request.limits))?,
            programs: vec![],
            attached: vec![],
            features: &kernel.features,
            reading: None,
            symbols: &kernel.symbols,
        };
        if backend != Backend::Tracepoint {
            starting.functions(kernel);
        }
        starting.tracepoints(kernel);
        Ok(starting)
    }

    /// The point of that name, if it was asked for or is needed to follow packets' lives.
    fn point(&self, name: &str, module: &str, kind: PointKind) -> Option<Point> {
        let quiet = self.request.func.is_some_and(|regex| !regex.is_match(name));
        let point = Point {
            name: name.into(),
            module: module.into(),
            kind,
            quiet,
        };
        let needed = plan::follows_lives(&point) || plan::explains_ends(&point);
        (!quiet || needed).then_some(point)
    }

    fn functions(&mut self, kernel: &Kernel) {
        let rules = Rules::load(self.backend == Backend::Kprobe);
        self.reading = rules.extents(plan::COPYING);
        let selection = probeable::select(kernel.btf.skb_functions(), &kernel.symbols, &rules);
        for place in selection.places {
            let function = &place.function;
            let point = self.point(&function.name, &function.module, PointKind::Function);
            let (Some(point), Some(index)) = (point, function.arg) else {
                continue;
            };
            let skb = SkbArg {
                index,
                indirect: function.indirection != Indirection::Skb,
            };
            self.candidates.push(Candidate {
                point,
                skb,
                params: function.params,
            });
            self.sites.push(Site::Function(place.addr));
        }
        for skipped in selection.skipped {
            if let Some(point) = self.point(&skipped.name, &skipped.module, PointKind::Function) {
                self.coverage.skipped.push(Skipped {
                    point,
                    reason: skipped.reason,
                });
            }
        }
    }

    fn tracepoints(&mut self, kernel: &Kernel) {
        for tracepoint in kernel.btf.skb_tracepoints() {
            let point = self.point(&tracepoint.name, &tracepoint.module, PointKind::Tracepoint);
            let Some(point) = point else {
                continue;
            };
            let indirect = tracepoint.indirection == Indirection::SkbPtrPtr;
            let skb = SkbArg {
                index: tracepoint.arg,
                indirect,
            };
            self.candidates.push(Candidate {
                point,
                skb,
                params: tracepoint.params,
            });
            self.sites.push(Site::Tracepoint {
                module: tracepoint.module.clone(),
                id: tracepoint.id,
            });
        }
    }

    fn attach(mut self) -> anyhow::Result<Session> {
        let groups = plan::group(&self.candidates);
        let total = groups
            .iter()
            .filter(|g| g.kind == PointKind::Function)
            .map(|g| g.points.len())
            .sum();
        for group in &groups {
            match group.kind {
                PointKind::Function => self.attach_functions(group, total)?,
                PointKind::Tracepoint => self.attach_tracepoints(group)?,
            }
        }
        if self.candidates.iter().all(|c| c.point.quiet) {
            return Err(NothingToAttach.into());
        }
        let places = self
            .sites
            .iter()
            .zip(0..)
            .filter_map(|(site, number)| match site {
                Site::Function(addr) => Some((*addr, PointId(number))),
                Site::Tracepoint { .. } => None,
            });
        let places = Places::new(
            places.collect(),
            self.reading,
            Rc::clone(self.symbols),
            self.request.extras.clone(),
        );
        // Drops name the code that dropped.
        self.symbols.read_ahead();
        let ring = Ring::open(
            self.maps
                .get("events")
                .context("the ring is among program::maps")?,
        )?;
        Ok(Session {
            points: self.candidates.into_iter().map(|c| c.point).collect(),
            places,
            maps: self.maps,
            ring,
            programs: self.programs,
            attached: self.attached,
            backend: self.backend,
            coverage: self.coverage,
        })
    }

    fn attach_functions(&mut self, group: &Group, total: usize) -> anyhow::Result<()> {
        let targets: Vec<Target> = group
            .points
            .iter()
            .filter_map(|point| match self.sites[point.0 as usize] {
                Site::Function(addr) => Some(Target {
                    addr,
                    cookie: point.0.into(),
                }),
                Site::Tracepoint { .. } => None,
            })
            .collect();
        let multi = self.backend == Backend::KprobeMulti;
        let place = if multi || self.features.codegen.attach_cookie {
            Place::Cookie
        } else {
            Place::Ip
        };
        let attach_type = multi.then_some(AttachType::TraceKprobeMulti);
        let options = LoadOptions {
            attach_type,
            ..LoadOptions::default()
        };
        let program = self.load(ProgramKind::Kprobe, group, place, &options)?;
        let before = self.coverage.functions;
        let attached = if multi {
            attach::kprobe_multi(&program, &targets, Multi::Entry)?
        } else {
            let how = self.features.kprobe.as_ref().map_err(Clone::clone)?;
            attach::kprobe(&program, &targets, how, &|done, _| {
                self.progress.attaching(before + done, total)
            })?
        };
        for Refused { target, error } in &attached.refused {
            let point = self.candidates[target.cookie as usize].point.clone();
            self.coverage.skipped.push(Skipped {
                point,
                reason: Reason::Refused(error.errno),
            });
        }
        self.coverage.functions += attached.count;
        self.progress.attaching(self.coverage.functions, total);
        self.programs.push(program);
        self.attached.push(attached);
        Ok(())
    }

    /// Each tracepoint needs a program of its own: the kernel checks it against that tracepoint's prototype.
    fn attach_tracepoints(&mut self, group: &Group) -> anyhow::Result<()> {
        for &point in &group.points {
            let Site::Tracepoint { module, id } = &self.sites[point.0 as usize] else {
                continue;
            };
            let object = match module.is_empty() {
                true => None,
                false => Some(btf::object_fd(module)?),
            };
            let options = LoadOptions {
                attach_btf_id: id.id,
                attach_btf_obj: object.as_ref().map(AsFd::as_fd),
                ..LoadOptions::default()
            };
            let program = self.load(ProgramKind::Tracing, group, Place::Fixed(point.0), &options)?;
            match attach::tracepoint(&program) {
                Ok(link) => {
                    self.coverage.tracepoints += 1;
                    self.attached.push(single(link));
                    self.programs.push(program);
                }
                Err(error) => {
                    let point = self.candidates[point.0 as usize].point.clone();
                    self.coverage.skipped.push(Skipped {
                        point,
                        reason: Reason::Refused(error.errno),
                    });
                }
            }
        }
        Ok(())
    }

    fn load(
        &self,
        kind: ProgramKind,
        group: &Group,
        place: Place,
        options: &LoadOptions<'_>,
    ) -> anyhow::Result<Program> {
        let spec = Spec {
            kind,
            skb: group.skb,
            starts: !group.quiet,
            place,
            role: group.role,
            filter: self.request.filter,
            only: self.request.only,
            offsets: self.offsets,
            limits: self.request.limits,
            extras: self.request.extras,
            get_func_ip: self.features.codegen.get_func_ip,
        };
        let program = program::build("ktrail", &spec);
        let generated = codegen::Options {
            packet: PacketAccess::KernelRead,
            features: &self.features.codegen,
        };
        let object = codegen::generate(&program, &generated)?;
        Ok(load(&object, &self.maps, options)?)
    }
}

fn single(link: Link) -> Attached {
    Attached {
        links: vec![link],
        count: 1,
        refused: vec![],
    }
}
