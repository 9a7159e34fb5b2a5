//! A session being put together for one backend: what to attach to, the programs for it, and attaching them.

mod beneath;

use std::ffi::CString;
use std::ops::Range;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::Context;
use ktrail_ebpf::codegen::{self, PacketAccess};
use ktrail_ebpf::ir::ProgramKind;
use ktrail_ebpf::kernel::TypeId;

use super::super::event::{Point, PointId, PointKind};
use super::super::offsets::Offsets;
use super::super::plan::{self, Candidate, Case, Cookies, Group};
use super::super::program::{self, Limits, Place, SkbArg, Spec, Turn, Watch};
use super::super::{trail, usual};
use super::watching::{Pair, Watching};
use super::{Backend, Coverage, Kernel, NothingToAttach, Places, Progress, Request, Session, Skipped};
use crate::kernel::attach::{self, Attached, Kprobe, Link, Multi, Refused, Target};
use crate::kernel::btf::{self, Indirection};
use crate::kernel::maps::Maps;
use crate::kernel::probeable::{self, Reason, Rules};
use crate::kernel::program::{AttachType, LoadOptions, Program, load};
use crate::kernel::ring::Ring;
use crate::kernel::sys::SysError;

/// A function or tracepoint that will be attached, and what attaching needs.
enum Site {
    Function {
        addr: u64,
        /// Its number in the kernel's BTF, where it stands for this function alone.
        id: Option<u32>,
    },
    Tracepoint {
        module: String,
        id: TypeId,
    },
}

/// So many kprobes are worth events of tracefs, which outlive a process that is killed.
const MANY: usize = 300;

/// A kprobe to be set.
#[derive(Clone)]
struct Job {
    program: Arc<Program>,
    target: Target,
}

fn set(
    jobs: &[Job],
    how: &Kprobe,
    progress: &(dyn Fn(usize, usize) -> bool + Sync),
) -> Result<Attached, SysError> {
    let jobs: Vec<_> = jobs.iter().map(|job| (job.program.as_fd(), job.target)).collect();
    attach::kprobes(&jobs, how, progress)
}

/// Attaching that goes on while packets are followed already.
pub(super) struct Later {
    /// The points, of which not all may have their turn.
    pub(super) points: Vec<PointId>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) thread: JoinHandle<Result<Attached, SysError>>,
}

impl Later {
    fn start(jobs: Vec<Job>, how: Kprobe) -> Later {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        Later {
            points: jobs.iter().map(|job| PointId(job.target.cookie as u32)).collect(),
            stop,
            thread: std::thread::spawn(move || set(&jobs, &how, &|_, _| !stopped.load(Ordering::Relaxed))),
        }
    }
}

/// A session being put together for one backend.
pub(super) struct Starting<'a> {
    request: &'a Request<'a>,
    progress: &'a dyn Progress,
    offsets: &'a Offsets,
    backend: Backend,
    candidates: Vec<Candidate>,
    sites: Vec<Site>,
    coverage: Coverage,
    limits: Limits,
    maps: Maps,
    programs: Vec<Arc<Program>>,
    attached: Vec<Attached>,
    /// kprobes to be set when all programs are loaded.
    jobs: Vec<Job>,
    /// They are set many at once, and tell where they are by their addresses.
    by_events: bool,
    kernel: &'a Kernel,
    reading: Option<Vec<Range<u64>>>,
    /// Where a task's stack is, if it is to be known what runs beneath.
    task_stack: Option<u32>,
    watching: Option<Watching>,
}

impl<'a> Starting<'a> {
    pub(super) fn new(
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
            limits: request.limits,
            maps: Maps::default(),
            programs: vec![],
            attached: vec![],
            jobs: vec![],
            by_events: false,
            kernel,
            reading: None,
            task_stack: match request.beneath.is_empty() {
                true => None,
                false => Some(beneath::task_stack(&kernel.btf)?),
            },
            watching: None,
        };
        if backend != Backend::Tracepoint {
            starting.functions();
        }
        // Single functions don't leave an event. Kernels without attach cookies take 39 ms for each probe of one (5.10),
        // four times of what a perf event takes.
        let events = backend == Backend::Kprobe && !request.watch && kernel.features.codegen.attach_cookie;
        let many = starting.candidates.len() >= MANY;
        starting.by_events = events && many && attach::events_possible();
        starting.tracepoints();
        if request.watch {
            starting.watch()?;
        }
        starting.maps = Maps::create(&program::maps(starting.limits))?;
        if let Some(blank) = starting.maps.get("blank") {
            blank.update(&0_u32.to_ne_bytes(), &trail::blank())?;
        }
        Ok(starting)
    }

    /// Have the programs measured, and each point's part in it counted.
    fn watch(&mut self) -> anyhow::Result<()> {
        let needed = |c: &Candidate| plan::follows_lives(&c.point) || plan::explains_ends(&c.point);
        let needed = self.candidates.iter().map(needed).collect();
        self.watching = Some(Watching::new(needed).context("--max-cost: the kernel measures no programs")?);
        self.limits.watch = Some(Watch {
            points: self.candidates.len() as u32,
            by_number: self.kernel.features.codegen.attach_cookie,
        });
        Ok(())
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
        let tells_kinds = self.request.limits.folds() && plan::at_device(&point);
        let needed = plan::follows_lives(&point) || plan::explains_ends(&point) || tells_kinds;
        (!quiet || needed).then_some(point)
    }

    fn functions(&mut self) {
        let kernel = self.kernel;
        let kprobes = self.backend == Backend::Kprobe;
        let rules = Rules::load(&kernel.btf, &kernel.features.codegen, kprobes, plan::COPYING);
        self.reading = rules.extents(plan::COPYING);
        let selection = probeable::select(kernel.btf.skb_functions(), &kernel.symbols, &rules);
        for place in &selection.places {
            let function = &place.function;
            let point = self.point(&function.name, &function.module, PointKind::Function);
            let (Some(point), Some(index)) = (point, function.arg) else {
                continue;
            };
            let skb = SkbArg {
                index,
                indirect: function.indirection != Indirection::Skb,
            };
            // BTF has one function for all code of that name; the kernel would take the first.
            let alone = function.id.object == 0 && function.trampoline && place.alone;
            self.candidates.push(Candidate {
                point,
                skb,
                params: function.params,
                apart: self.backend == Backend::TracingMulti && !alone,
            });
            self.sites.push(Site::Function {
                addr: place.addr,
                id: alone.then_some(function.id.id),
            });
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

    fn tracepoints(&mut self) {
        for tracepoint in self.kernel.btf.skb_tracepoints() {
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
                apart: false,
            });
            self.sites.push(Site::Tracepoint {
                module: tracepoint.module.clone(),
                id: tracepoint.id,
            });
        }
    }

    pub(super) fn attach(mut self) -> anyhow::Result<Session> {
        let features = &self.kernel.features;
        let cookies = Cookies {
            functions: features.codegen.attach_cookie && !self.by_events,
            tracepoints: features.raw_tracepoint_cookie && features.codegen.rdonly_cast.is_some(),
        };
        let groups = plan::group(&self.candidates, cookies, self.request.limits.folds());
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
        let later = self.set_kprobes(total)?;
        let (beneath, returns) = self.attach_beneath()?;
        if let Some(watching) = &mut self.watching {
            watching.beside(beneath.len());
        }
        if self.candidates.iter().all(|c| c.point.quiet) {
            return Err(NothingToAttach.into());
        }
        let places = self
            .sites
            .iter()
            .zip(0..)
            .filter_map(|(site, number)| match site {
                Site::Function { addr, .. } => Some((*addr, PointId(number))),
                Site::Tracepoint { .. } => None,
            });
        let places = Places::new(
            places.collect(),
            self.reading,
            Rc::clone(&self.kernel.symbols),
            self.request.extras.clone(),
            returns,
        );
        // Few types are looked at from here on, and the ring takes memory.
        btf::give_back();
        let ring = Ring::open(
            self.maps
                .get("events")
                .context("the ring is among program::maps")?,
        )?;
        Ok(Session {
            points: self
                .candidates
                .into_iter()
                .map(|c| c.point)
                .chain(beneath)
                .collect(),
            places,
            maps: self.maps,
            ring,
            programs: self.programs,
            attached: self.attached,
            later,
            watching: self.watching,
            backend: self.backend,
            coverage: self.coverage,
        })
    }

    fn attach_functions(&mut self, group: &Group, total: usize) -> anyhow::Result<()> {
        let mut targets = vec![];
        let mut by_id = vec![];
        for (point, &cookie) in group.points.iter().zip(&group.cookies) {
            match self.sites[point.0 as usize] {
                Site::Function { id: Some(id), .. } if self.backend == Backend::TracingMulti => {
                    by_id.push(Target {
                        addr: id.into(),
                        cookie,
                    });
                }
                Site::Function { addr, .. } => targets.push(Target { addr, cookie }),
                Site::Tracepoint { .. } => {}
            }
        }
        if !by_id.is_empty() {
            let options = LoadOptions::default();
            let program = self.load(ProgramKind::TracingMulti, group, Place::Cookie, &options)?;
            let attached = attach::tracing_multi(&program, &by_id, Multi::Entry)?;
            // What trampolines can't serve, fprobe can.
            for Refused { target, .. } in &attached.refused {
                if let Site::Function { addr, .. } = self.sites[target.cookie as u32 as usize] {
                    targets.push(Target { addr, ..*target });
                }
            }
            self.coverage.functions += attached.count;
            self.programs.push(Arc::new(program));
            self.attached.push(attached);
        }
        if targets.is_empty() {
            return Ok(());
        }
        let multi = self.backend != Backend::Kprobe;
        let place = match multi || self.kernel.features.codegen.attach_cookie && !self.by_events {
            true => Place::Cookie,
            false => Place::Ip,
        };
        let attach_type = multi.then_some(AttachType::TraceKprobeMulti);
        let options = LoadOptions {
            attach_type,
            ..LoadOptions::default()
        };
        let program = match multi {
            true => self.pair(group, &options)?,
            false => self.load(ProgramKind::Kprobe, group, place, &options)?,
        };
        let program = Arc::new(program);
        let points: Vec<_> = targets.iter().map(|t| PointId(t.cookie as u32)).collect();
        self.serves(&points);
        self.programs.push(Arc::clone(&program));
        if multi {
            let attached = attach::kprobe_multi(&program, &targets, Multi::Entry)?;
            self.take(attached);
            self.progress.attaching(self.coverage.functions, total);
        } else {
            self.jobs.extend(targets.into_iter().map(|target| Job {
                program: Arc::clone(&program),
                target,
            }));
        }
        Ok(())
    }

    fn take(&mut self, attached: Attached) {
        for &Refused { target, error } in &attached.refused {
            self.refused(PointId(target.cookie as u32), error);
        }
        self.coverage.functions += attached.count;
        self.attached.push(attached);
    }

    /// Set the kprobes in the order of their worth: those that packets' lives can't be followed without, those on
    /// their usual paths, and, perhaps later, the rest.
    fn set_kprobes(&mut self, total: usize) -> anyhow::Result<Option<Later>> {
        if self.jobs.is_empty() {
            return Ok(None);
        }
        let mut how = *self.kernel.features.kprobe.as_ref().map_err(Clone::clone)?;
        how.by_events = self.by_events;
        let rank = |job: &Job| {
            let point = &self.candidates[job.target.cookie as u32 as usize].point;
            match plan::follows_lives(point) {
                true => 0,
                false => usual::rank(&point.name).map_or(usize::MAX, |rank| rank + 1),
            }
        };
        let mut jobs = std::mem::take(&mut self.jobs);
        jobs.sort_by_cached_key(rank);
        let first = match self.request.all_first {
            true => jobs.len(),
            false => jobs.partition_point(|job| rank(job) < usize::MAX),
        };
        let rest = jobs.split_off(first);
        let attached = set(&jobs, &how, &|done, _| self.progress.attaching(done, total))?;
        self.take(attached);
        Ok((!rest.is_empty()).then(|| Later::start(rest, how)))
    }

    fn refused(&mut self, point: PointId, error: SysError) {
        let point = self.candidates[point.0 as usize].point.clone();
        self.coverage.skipped.push(Skipped {
            point,
            reason: Reason::Refused(error.errno),
        });
    }

    fn tracepoint(&mut self, point: PointId, link: Result<Link, SysError>) {
        match link {
            Ok(link) => {
                let cookie = point.0.into();
                let link = link.to(&[Target { addr: 0, cookie }]);
                self.coverage.tracepoints += 1;
                self.attached.push(single(link));
            }
            Err(error) => self.refused(point, error),
        }
    }

    /// One program for all tracepoints of a group, which tells them apart by their cookies.
    fn attach_tracepoints_by_cookie(&mut self, group: &Group) -> anyhow::Result<()> {
        let options = LoadOptions::default();
        let program = self.load(ProgramKind::RawTracepoint, group, Place::Cookie, &options)?;
        self.serves(&group.points);
        for (&point, &cookie) in group.points.iter().zip(&group.cookies) {
            let name = CString::new(self.candidates[point.0 as usize].point.name.as_str())?;
            let link = attach::raw_tracepoint(&program, &name, cookie);
            self.tracepoint(point, link);
        }
        self.programs.push(Arc::new(program));
        Ok(())
    }

    /// Before 6.10 each tracepoint needs a program of its own, which knows where it is.
    fn attach_tracepoints(&mut self, group: &Group) -> anyhow::Result<()> {
        if self.kernel.features.raw_tracepoint_cookie {
            return self.attach_tracepoints_by_cookie(group);
        }
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
            let link = attach::tracepoint(&program);
            self.serves(&[point]);
            self.tracepoint(point, link);
            self.programs.push(Arc::new(program));
        }
        Ok(())
    }

    /// The program that is loaded next serves these points.
    fn serves(&mut self, points: &[PointId]) {
        if let Some(watching) = &mut self.watching {
            watching.serves(self.programs.len(), points);
        }
    }

    /// A program for many functions by one link, and, where they may be detached again, what the link is to be made
    /// from then.
    fn pair(&mut self, group: &Group, options: &LoadOptions<'_>) -> anyhow::Result<Program> {
        let kind = ProgramKind::Kprobe;
        let pair = self.watching.as_ref().and_then(|w| w.next_pair(&group.points));
        let turn = |number| pair.map(|pair| Turn { pair, number });
        if let Some(pair) = pair {
            let other = self.object(kind, group, Place::Cookie, turn(1))?;
            let number = self.programs.len();
            if let Some(watching) = &mut self.watching {
                watching.pairs.push((number, Pair::new(pair, other)));
            }
        }
        let object = self.object(kind, group, Place::Cookie, turn(0))?;
        Ok(load(&object, &self.maps, options)?)
    }

    fn load(
        &self,
        kind: ProgramKind,
        group: &Group,
        place: Place,
        options: &LoadOptions<'_>,
    ) -> anyhow::Result<Program> {
        let object = self.object(kind, group, place, None)?;
        Ok(load(&object, &self.maps, options)?)
    }

    fn object(
        &self,
        kind: ProgramKind,
        group: &Group,
        place: Place,
        turn: Option<Turn>,
    ) -> anyhow::Result<codegen::Object> {
        let spec = |case| Spec {
            turn,
            ..self.spec(kind, case, place)
        };
        let specs: Vec<Spec<'_>> = group.cases.iter().map(spec).collect();
        let program = match self.request.empty {
            true => program::empty("ktrail", &specs[0]),
            false => program::build("ktrail", &specs),
        };
        self.generate(&program, &self.kernel.features.codegen)
    }

    fn spec<'s>(&'s self, kind: ProgramKind, case: &Case, place: Place) -> Spec<'s> {
        Spec {
            kind,
            skb: case.skb,
            starts: !case.quiet,
            place,
            role: case.role,
            filter: self.request.filter,
            only: self.request.only,
            offsets: self.offsets,
            limits: self.limits,
            turn: None,
            extras: self.request.extras,
            task_stack: self.task_stack,
            // Behind a function's first bytes it answers 0 (6.1).
            get_func_ip: self.kernel.features.codegen.get_func_ip && !self.by_events,
        }
    }

    fn generate(
        &self,
        program: &ktrail_ebpf::ir::Program,
        features: &ktrail_ebpf::kernel::Features,
    ) -> anyhow::Result<codegen::Object> {
        let generated = codegen::Options {
            packet: PacketAccess::KernelRead,
            features,
        };
        Ok(codegen::generate(program, &generated)?)
    }
}

fn single(link: Link) -> Attached {
    Attached {
        links: vec![link],
        count: 1,
        ..Attached::default()
    }
}
