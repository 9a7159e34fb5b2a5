//! From a compiled script to programs in the kernel: maps, code, attachments.
//!
//! Everything stays attached while [`Loaded`] lives.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use anyhow::{Context, anyhow};
use ktrail_ebpf::codegen::{self, Object, Options, PacketAccess};
use ktrail_ebpf::ir::{ProgramKind, Span};
use ktrail_ebpf::kernel::Features as CodegenFeatures;
use ktrail_ebpf::script::output::{
    AttachPoint, Compiled, Missing, Period, Probe, STATE, STATE_EXITING, STATE_SIZE, Target, When,
};

use super::env::MachineEnv;
use crate::kernel::Lacking;
use crate::kernel::attach::{self, Attached, Link, Multi, perf};
use crate::kernel::btf;
use crate::kernel::maps::{self, Maps};
use crate::kernel::program::{AttachType, LoadError, LoadOptions, Program, load};
use crate::kernel::sys::{Overflow, PerfEventAttr};
use crate::kernel::tracefs;

/// A script's programs in the kernel.
pub struct Loaded {
    /// Its maps.
    pub maps: Rc<Maps>,
    begin: Vec<Program>,
    end: Vec<Program>,
    /// What runs when SIGUSR1 comes.
    signal: Vec<Program>,
    /// Programs that are to be attached, with their code.
    waiting: Vec<Waiting>,
    attached: Vec<Attached>,
    iterators: Vec<(Link, File)>,
    /// Attach points, BEGIN and END included.
    pub count: usize,
    /// Remarks about attach points that could not be served.
    pub notes: Vec<String>,
    /// What to do about a probe that can't be attached.
    missing: Missing,
    /// What the kernel's verifier thinks of each program, if anybody wants to know.
    log: Option<RefCell<String>>,
}

struct Waiting {
    probe: Probe,
    object: Object,
}

/// A probe's code, as far as its kind is concerned.
enum Kind {
    Begin,
    End,
    Signal,
    Other,
}

fn kind(probe: &Probe) -> Kind {
    match probe.targets.first().map(|t| &t.attach) {
        Some(AttachPoint::Begin) => Kind::Begin,
        Some(AttachPoint::End) => Kind::End,
        Some(AttachPoint::Signal) => Kind::Signal,
        _ => Kind::Other,
    }
}

/// Generate the code of every probe.
///
/// # Errors
/// What the kernel lacks or what does not fit its limits.
pub fn generate(compiled: &Compiled, features: &CodegenFeatures) -> Result<Vec<Object>, codegen::Error> {
    // Kinds of programs that the tracer has no use for may not have that function.
    let features = CodegenFeatures {
        rdonly_cast: None,
        ..features.clone()
    };
    let options = Options {
        packet: PacketAccess::KernelRead,
        features: &features,
    };
    let probes = compiled.probes.iter();
    probes.map(|p| codegen::generate(&p.program, &options)).collect()
}

impl Loaded {
    /// Create the maps, and load what can be loaded before it is known where it attaches.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(compiled: &Compiled, objects: Vec<Object>) -> anyhow::Result<Loaded> {
        Loaded::with_log(compiled, objects, None)
    }

    /// [`Loaded::new`] and [`Loaded::attach`], with what the kernel's verifier says of each program, also of one that
    /// it refuses. Nothing stays attached.
    ///
    /// # Errors
    /// The kernel's.
    pub fn explained(
        compiled: &Compiled,
        objects: Vec<Object>,
        env: &MachineEnv,
    ) -> (String, anyhow::Result<()>) {
        let mut loaded = match Loaded::with_log(compiled, objects, Some(RefCell::default())) {
            Ok(loaded) => loaded,
            Err(error) => return (String::new(), Err(error)),
        };
        let result = loaded.attach(env);
        loaded.detach();
        (loaded.log.take().unwrap_or_default().into_inner(), result)
    }

    fn with_log(
        compiled: &Compiled,
        objects: Vec<Object>,
        log: Option<RefCell<String>>,
    ) -> anyhow::Result<Loaded> {
        let mut maps = Maps::default();
        for object in &objects {
            maps.add(&object.maps)?;
        }
        let own: Vec<_> = compiled.maps.iter().map(|m| m.decl.clone()).collect();
        let stacks: Vec<_> = compiled.stacks.iter().map(|s| s.decl.clone()).collect();
        maps.add(&own)?;
        maps.add(&stacks)?;
        let mut loaded = Loaded {
            maps: Rc::new(maps),
            begin: vec![],
            end: vec![],
            signal: vec![],
            waiting: vec![],
            attached: vec![],
            iterators: vec![],
            count: 0,
            notes: vec![],
            missing: compiled.config.missing_probes,
            log,
        };
        for (probe, object) in compiled.probes.iter().zip(objects) {
            match kind(probe) {
                Kind::Begin => loaded.begin.push(loaded.load(&object, &LoadOptions::default())?),
                Kind::End => loaded.end.push(loaded.load(&object, &LoadOptions::default())?),
                Kind::Signal => loaded.signal.push(loaded.load(&object, &LoadOptions::default())?),
                Kind::Other => loaded.waiting.push(Waiting {
                    probe: probe.clone(),
                    object,
                }),
            }
        }
        loaded.count = loaded.begin.len() + loaded.end.len() + loaded.signal.len();
        Ok(loaded)
    }

    fn load(&self, object: &Object, options: &LoadOptions<'_>) -> Result<Program, LoadError> {
        if let Some(log) = &self.log {
            log.borrow_mut().push_str(&format!("{}:\n", object.name));
        }
        let options = LoadOptions {
            log: self.log.as_ref(),
            ..*options
        };
        load(object, &self.maps, &options)
    }

    /// Put a number into the state that all programs see; nothing if none looks at it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_state(&self, offset: u32, value: u64) -> anyhow::Result<()> {
        let Some(map) = self.maps.get(STATE) else {
            return Ok(());
        };
        let key = 0_u32.to_ne_bytes();
        let mut state = map.lookup(&key)?.unwrap_or_else(|| vec![0; STATE_SIZE as usize]);
        state[offset as usize..][..8].copy_from_slice(&value.to_ne_bytes());
        Ok(map.update(&key, &state)?)
    }

    /// A number of the state that all programs see.
    pub fn state(&self, offset: u32) -> u64 {
        let state = self
            .maps
            .get(STATE)
            .and_then(|m| m.lookup(&0_u32.to_ne_bytes()).ok()?);
        let state = state.unwrap_or_default();
        let bytes = state.get(offset as usize..offset as usize + 8);
        bytes.map_or(0, |b| u64::from_ne_bytes(b.try_into().expect("eight bytes")))
    }

    /// Run BEGIN.
    ///
    /// # Errors
    /// The kernel's.
    pub fn run_begin(&self) -> anyhow::Result<()> {
        self.begin.iter().try_for_each(|p| run(p, "BEGIN"))
    }

    /// Run END.
    ///
    /// # Errors
    /// The kernel's.
    pub fn run_end(&self) -> anyhow::Result<()> {
        self.end.iter().try_for_each(|p| run(p, "END"))
    }

    /// Run what SIGUSR1 asks for.
    ///
    /// # Errors
    /// The kernel's.
    pub fn run_signal(&self) -> anyhow::Result<()> {
        self.signal.iter().try_for_each(|p| run(p, "self:signal:SIGUSR1"))
    }

    /// The script has probes for SIGUSR1.
    pub fn takes_signal(&self) -> bool {
        !self.signal.is_empty()
    }

    /// True if something can still happen by itself: there is more than BEGIN, END and iterators.
    pub fn waits(&self) -> bool {
        !self.attached.is_empty() || self.takes_signal()
    }

    /// Attach all programs that are not attached yet.
    ///
    /// # Errors
    /// The kernel's, where a whole probe could not be attached.
    pub fn attach(&mut self, env: &MachineEnv) -> anyhow::Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        let mut attacher = Attacher {
            loaded: self,
            env,
            addresses: HashMap::new(),
            outcomes: vec![],
        };
        attacher.resolve(&waiting)?;
        for Waiting { probe, object } in &waiting {
            attacher.probe(probe, object)?;
        }
        attacher.judge()
    }

    /// Run the iterators, each over everything that there is.
    ///
    /// # Errors
    /// The kernel's.
    pub fn run_iterators(&mut self) -> anyhow::Result<()> {
        for (_, reader) in &mut self.iterators {
            // What a program writes comes through the ring: there is nothing to read but the end.
            let mut nothing = [0_u8; 4096];
            while reader.read(&mut nothing).context("iterator")? > 0 {}
        }
        self.iterators.clear();
        Ok(())
    }

    /// Detach everything. One after the other is gone, so none does anything any more: a span's return would miss its
    /// entry.
    pub fn detach(&mut self) {
        // It can't be told to a kernel that doesn't answer any more, and the programs go all the same.
        let _ = self.set_state(STATE_EXITING, 1);
        for attached in self.attached.drain(..) {
            attached.detach();
        }
    }
}

/// Raw tracepoint programs run without a tracepoint.
fn run(program: &Program, name: &str) -> anyhow::Result<()> {
    // The context is an array of arguments: none is looked at.
    program
        .test_run_args(&[0; 12])
        .with_context(|| format!("can't run {name}"))?;
    Ok(())
}

/// What attaching looks things up in.
struct Attacher<'a> {
    loaded: &'a mut Loaded,
    env: &'a MachineEnv,
    /// Functions' addresses by name, with their modules (empty: the kernel itself).
    addresses: HashMap<String, Vec<(String, u64)>>,
    outcomes: Vec<Outcome>,
}

/// What became of an attach point's targets, which may have several programs, at one moment of a call.
struct Outcome {
    point: Span,
    when: Option<When>,
    attached: usize,
    all: usize,
    /// Why the first of those that aren't attached is not.
    first: Option<anyhow::Error>,
}

impl Attacher<'_> {
    /// Look up all functions that are probed by address, at once.
    fn resolve(&mut self, waiting: &[Waiting]) -> anyhow::Result<()> {
        let targets = waiting.iter().flat_map(|w| &w.probe.targets);
        let names: HashSet<&str> = targets
            .filter_map(|t| match &t.attach {
                AttachPoint::Kprobe { func, .. } => Some(func.as_str()),
                _ => None,
            })
            .collect();
        if names.is_empty() {
            return Ok(());
        }
        let found = self.env.code_of(&names).ok_or_else(|| {
            anyhow!("kprobes need the kernel's symbols: run as root with kernel.kptr_restrict at most 1")
        })?;
        let found = found.into_iter();
        self.addresses
            .extend(found.map(|(name, places)| (name.into(), places)));
        // What is printed may have names of functions. They take long to read, so not now.
        if let Some(symbols) = self.env.symbols().get() {
            symbols.read_ahead();
        }
        Ok(())
    }

    fn probe(&mut self, probe: &Probe, object: &Object) -> anyhow::Result<()> {
        match &probe.targets[0].attach {
            AttachPoint::Kprobe { .. } => self.kprobes(probe, object),
            AttachPoint::Fentry { when, .. } if probe.program.kind == ProgramKind::TracingMulti => {
                self.trampolines(probe, object, multi_of(*when))
            }
            AttachPoint::Fentry { when, .. } => {
                let when = match when {
                    When::Entry => AttachType::TraceFentry,
                    When::Return => AttachType::TraceFexit,
                    When::Both => AttachType::TraceFsession,
                };
                self.each(probe, |this, target| this.tracing(object, target, when))
            }
            AttachPoint::RawTracepoint { .. } => self.each(probe, |this, target| {
                this.tracing(object, target, AttachType::TraceRawTp)
            }),
            AttachPoint::Iter { .. } => self.each(probe, |this, target| this.iterator(object, target)),
            AttachPoint::Tracepoint { .. } => {
                let program = self.loaded.load(object, &LoadOptions::default())?;
                self.each(probe, |_, target| tracepoint(&program, target, probe.uses_cookie))
            }
            AttachPoint::Interval { .. }
            | AttachPoint::Profile(_)
            | AttachPoint::Software { .. }
            | AttachPoint::Hardware { .. } => {
                let program = self.loaded.load(object, &LoadOptions::default())?;
                self.each(probe, |_, target| counted(&program, &target.attach))
            }
            AttachPoint::Begin | AttachPoint::End | AttachPoint::Signal => Ok(()),
        }
    }

    /// Attach a probe's targets one by one.
    fn each(
        &mut self,
        probe: &Probe,
        mut attach: impl FnMut(&mut Self, &Target) -> anyhow::Result<Vec<Link>>,
    ) -> anyhow::Result<()> {
        let mut attached = Attached::default();
        let mut refused = Vec::new();
        for target in &probe.targets {
            match attach(self, target) {
                Ok(links) => {
                    attached.links.extend(links);
                    attached.count += 1;
                }
                Err(error) => refused.push(error.context(format!("can't attach {}", target.name))),
            }
        }
        self.keep(probe, attached, refused);
        Ok(())
    }

    fn keep(&mut self, probe: &Probe, attached: Attached, refused: Vec<anyhow::Error>) {
        let when = match probe.targets[0].attach {
            AttachPoint::Kprobe { when, .. } | AttachPoint::Fentry { when, .. } => Some(when),
            _ => None,
        };
        let same = |o: &&mut Outcome| (o.point, o.when) == (probe.span, when);
        if self.outcomes.iter_mut().find(same).is_none() {
            self.outcomes.push(Outcome {
                point: probe.span,
                when,
                attached: 0,
                all: 0,
                first: None,
            });
        }
        if let Some(outcome) = self.outcomes.iter_mut().find(same) {
            outcome.attached += attached.count;
            outcome.all += probe.targets.len();
            outcome.first = outcome.first.take().or(refused.into_iter().next());
        }
        self.loaded.count += attached.count;
        // An iterator's link is kept elsewhere.
        if !attached.links.is_empty() {
            self.loaded.attached.push(attached);
        }
    }

    /// If some of an attach point's targets couldn't be attached, say how many; if none could, that is an error.
    fn judge(self) -> anyhow::Result<()> {
        for Outcome {
            attached, all, first, ..
        } in self.outcomes
        {
            match first {
                Some(error) if attached == 0 => match self.loaded.missing {
                    Missing::Error => return Err(error),
                    Missing::Warn => self.loaded.notes.push(format!("{error:#}")),
                    Missing::Ignore => {}
                },
                Some(error) => {
                    let missing = all.saturating_sub(attached);
                    let note = format!("{missing} of {all} not attached; the first: {error:#}");
                    self.loaded.notes.push(note);
                }
                None => {}
            }
        }
        Ok(())
    }

    fn kprobes(&mut self, probe: &Probe, object: &Object) -> anyhow::Result<()> {
        let mut points = Vec::new();
        let mut unknown = Vec::new();
        let (mut moment, mut offsets) = (When::Entry, false);
        for target in &probe.targets {
            let AttachPoint::Kprobe {
                func,
                module,
                offset,
                when,
            } = &target.attach
            else {
                continue;
            };
            moment = *when;
            offsets |= *offset != 0;
            let found = self.addresses.get(func).map_or(&[][..], Vec::as_slice);
            let wanted = module.as_deref().map(|m| if m == "vmlinux" { "" } else { m });
            let before = points.len();
            let found = found.iter().filter(|(m, _)| wanted.is_none_or(|w| w == m));
            points.extend(found.map(|(_, addr)| attach::Target {
                addr: addr + offset,
                cookie: target.cookie,
            }));
            if points.len() == before {
                unknown.push(anyhow!(
                    "can't attach {}: there is no code of that name",
                    target.name
                ));
            }
        }
        let attached = match points.is_empty() {
            true => Attached::default(),
            false => self.kprobe_points(object, &points, moment, offsets)?,
        };
        // Functions of one name count once.
        let count = probe.targets.len() - unknown.len();
        let refused = attached.refused.iter().map(|r| {
            let name = self.name_of(r.target.addr);
            anyhow::Error::from(r.error).context(format!("can't attach {name}"))
        });
        let refused: Vec<_> = unknown.into_iter().chain(refused).collect();
        let attached = Attached {
            count: count.min(attached.count),
            ..attached
        };
        self.keep(probe, attached, refused);
        Ok(())
    }

    /// One link by trampolines for all of a probe's functions.
    fn trampolines(&mut self, probe: &Probe, object: &Object, when: Multi) -> anyhow::Result<()> {
        let types = self.env.machine_types().btf()?;
        let number = |target: &Target| match &target.attach {
            AttachPoint::Fentry { func, .. } => types.function(Some("vmlinux"), func),
            _ => None,
        };
        let mut names: HashMap<u64, &str> = HashMap::new();
        let mut points = Vec::new();
        for target in &probe.targets {
            let id = number(target).with_context(|| format!("the kernel's BTF has no {}", target.name))?;
            names.insert(id.id.into(), target.name.as_str());
            points.push(attach::Target {
                addr: id.id.into(),
                cookie: target.cookie,
            });
        }
        let options = LoadOptions {
            attach_type: Some(when.tracing()),
            ..LoadOptions::default()
        };
        let program = self.loaded.load(object, &options)?;
        let why = |error: anyhow::Error, target: attach::Target| {
            let name = names.get(&target.addr).copied().unwrap_or_default();
            error.context(format!("can't attach {name}"))
        };
        let (attached, refused) = match attach::tracing_multi(&program, &points, when) {
            Ok(attached) => {
                let refused = attached.refused.iter();
                let refused = refused.map(|r| why(r.error.into(), r.target)).collect();
                (attached, refused)
            }
            Err(error) => (Attached::default(), vec![why(error.into(), points[0])]),
        };
        self.keep(probe, attached, refused);
        Ok(())
    }

    fn name_of(&self, addr: u64) -> String {
        let symbol = self.env.symbols().get().and_then(|s| s.at(addr));
        symbol.map_or_else(|| format!("{addr:#x}"), |(s, _)| s.name.to_string())
    }

    /// One link for all where the kernel has that, else one probe each.
    fn kprobe_points(
        &self,
        object: &Object,
        points: &[attach::Target],
        moment: When,
        offsets: bool,
    ) -> anyhow::Result<Attached> {
        let features = self.env.machine_features()?;
        let multi = features.kprobe_multi.is_ok() && !offsets;
        let when = multi_of(moment);
        let options = LoadOptions {
            attach_type: Some(when.kprobe()),
            ..LoadOptions::default()
        };
        if moment == When::Both {
            let program = self.loaded.load(object, &options)?;
            return Ok(attach::kprobe_multi(&program, points, when)?);
        }
        if multi {
            let program = self.loaded.load(object, &options)?;
            // What ftrace can't patch, a breakpoint may: so a refusal is not the end.
            if let Ok(attached) = attach::kprobe_multi(&program, points, when) {
                return Ok(attached);
            }
        }
        let mut how = features.kprobe.clone().map_err(|lacking| {
            let Lacking { what, why, .. } = lacking;
            anyhow!("{what}: {why}; probe by fentry, tracepoint or rawtracepoint, or use another kernel")
        })?;
        how.at_return = moment == When::Return;
        let program = self.loaded.load(object, &LoadOptions::default())?;
        Ok(attach::kprobe(&program, points, &how, &|_, _| true)?)
    }

    /// Load a program for one function or BTF tracepoint, and attach it.
    fn tracing(&mut self, object: &Object, target: &Target, when: AttachType) -> anyhow::Result<Vec<Link>> {
        let program = self.load_tracing(object, target, when)?;
        Ok(vec![attach::tracepoint(&program)?])
    }

    fn iterator(&mut self, object: &Object, target: &Target) -> anyhow::Result<Vec<Link>> {
        let program = self.load_tracing(object, target, AttachType::TraceIter)?;
        let iterator = attach::iterator(&program)?;
        self.loaded.iterators.push(iterator);
        Ok(vec![])
    }

    fn load_tracing(&self, object: &Object, target: &Target, when: AttachType) -> anyhow::Result<Program> {
        let types = self.env.machine_types().btf()?;
        let (found, module) = match &target.attach {
            AttachPoint::Fentry { func, module, .. } => {
                let module = module.as_deref().unwrap_or_default();
                (types.function(Some(module), func), module)
            }
            AttachPoint::RawTracepoint { name, module } => {
                let module = module.as_deref().unwrap_or_default();
                let all = types.tracepoints();
                let found = all.into_iter().find(|(n, m, _)| n == name && m == module);
                (found.map(|(.., id)| id), module)
            }
            AttachPoint::Iter { name, .. } => (types.iterator(name), ""),
            _ => (None, ""),
        };
        let id = found.with_context(|| format!("the kernel's BTF has no {}", target.name))?;
        let module = match module {
            "" | "vmlinux" => None,
            module => Some(btf::object_fd(module)?),
        };
        let options = LoadOptions {
            attach_type: Some(when),
            attach_btf_id: id.id,
            attach_btf_obj: module.as_ref().map(OwnedFd::as_fd),
            ..LoadOptions::default()
        };
        Ok(self.loaded.load(object, &options)?)
    }
}

/// The moment of a call that programs of a link see.
fn multi_of(when: When) -> Multi {
    match when {
        When::Entry => Multi::Entry,
        When::Return => Multi::Return,
        When::Both => Multi::Session,
    }
}

fn tracepoint(program: &Program, target: &Target, uses_cookie: bool) -> anyhow::Result<Vec<Link>> {
    let AttachPoint::Tracepoint { category, name } = &target.attach else {
        return Err(anyhow!("{} is no tracepoint", target.name));
    };
    let id = tracefs::id(category, name).context("tracefs has no such tracepoint")?;
    let attr = PerfEventAttr::tracepoint(id);
    let cookie = uses_cookie.then_some(target.cookie);
    Ok(vec![attach::perf_event(program, &attr, 0, cookie)?])
}

/// Timers and counters: on one CPU or on each.
fn counted(program: &Program, attach: &AttachPoint) -> anyhow::Result<Vec<Link>> {
    let clock = |overflow| PerfEventAttr::counted(perf::SOFTWARE, perf::CPU_CLOCK, overflow);
    let attr = match *attach {
        AttachPoint::Interval { ns } => clock(Overflow::Every(ns)),
        AttachPoint::Profile(Period::Hertz(hertz)) => clock(Overflow::Hertz(hertz)),
        AttachPoint::Profile(Period::Ns(ns)) => clock(Overflow::Every(ns)),
        AttachPoint::Software { event, period } => {
            PerfEventAttr::counted(perf::SOFTWARE, event, Overflow::Every(period))
        }
        AttachPoint::Hardware {
            perf_type,
            event,
            period,
        } => PerfEventAttr::counted(perf_type, event, Overflow::Every(period)),
        _ => return Err(anyhow!("not an event that is counted")),
    };
    let mut cpus = maps::online_cpus();
    if matches!(attach, AttachPoint::Interval { .. }) {
        cpus.truncate(1);
    }
    let links = cpus
        .into_iter()
        .map(|cpu| attach::perf_event(program, &attr, cpu, None));
    Ok(links.collect::<Result<_, _>>()?)
}
