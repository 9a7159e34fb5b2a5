//! From a probe to programs: of which kind they are, and how many functions share one.
//!
//! A program is built for all targets first. What its body asks of their prototypes ([`Asked`]) tells which of them can
//! share it: those that give the same answers. A body that asks nothing has one program for all, one that reads
//! `args.sk` has one for each place and type that functions have a `sk` at.
//!
//! How they are attached comes in ways, of which the first is taken that gives what the body asks for: one link of
//! trampolines for many functions before a trampoline each, and those before kprobes.

use std::collections::{BTreeSet, HashMap};

use super::body::{Body, Built, Span as SpanPart};
use super::points::{Place, Program, parameters, result, words};
use super::{Global, ir_span};
use crate::ir::{Program as IrProgram, ProgramKind};
use crate::script::Diagnostic;
use crate::script::ast::Provider;
use crate::script::env::{FunctionName, Trampoline};
use crate::script::output::{AttachPoint, Missing, Probe, Target, When};
use crate::script::resolve::Universe;
use crate::script::types::Ty;

/// A question that a body has for the prototypes of its targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// `arg2`: is there such an argument?
    Position(u8),
    /// `args.NAME`: where is it, and of which type?
    Named(String),
    /// `args`: what are they all?
    Arguments,
    /// `retval`: of which type is it, and where, if that isn't asked of the kernel?
    Result,
}

/// Names, types and places.
type Answer = Vec<(String, Ty, u8)>;

impl Asked {
    fn answer(&self, types: &Universe<'_>, place: &Place, kind: ProgramKind) -> Answer {
        let known = |(name, ty, at)| (name, types.to_ty(ty), at);
        match (place.prototype, self) {
            (Some(prototype), Asked::Position(n)) => {
                let there = usize::from(*n) < parameters(types, prototype).len();
                Vec::from_iter(there.then(|| (String::new(), Ty::None, *n)))
            }
            (None, Asked::Position(n)) => vec![(String::new(), Ty::None, *n)],
            (None, _) => vec![],
            (Some(prototype), Asked::Named(wanted)) => {
                let all = parameters(types, prototype).into_iter();
                all.filter(|(name, ..)| name == wanted).map(known).collect()
            }
            (Some(prototype), Asked::Arguments) => {
                parameters(types, prototype).into_iter().map(known).collect()
            }
            (Some(prototype), Asked::Result) => {
                let at = match kind {
                    ProgramKind::TracingMulti => 0,
                    _ => words(types, prototype),
                };
                vec![(String::new(), result(types, prototype), at)]
            }
        }
    }
}

/// A way to serve targets: by one program, or for a span perhaps by two.
type Way = Vec<(SpanPart, ProgramKind)>;

/// The kind of program that an attach point of its own has.
fn kind(attach: &AttachPoint) -> ProgramKind {
    match attach {
        AttachPoint::Begin | AttachPoint::End | AttachPoint::Signal => ProgramKind::RawTracepoint,
        AttachPoint::Kprobe { .. } => ProgramKind::Kprobe,
        AttachPoint::Fentry { .. } | AttachPoint::RawTracepoint { .. } | AttachPoint::Iter { .. } => {
            ProgramKind::Tracing
        }
        AttachPoint::Tracepoint { .. } => ProgramKind::Tracepoint,
        AttachPoint::Interval { .. }
        | AttachPoint::Profile(_)
        | AttachPoint::Software { .. }
        | AttachPoint::Hardware { .. } => ProgramKind::PerfEvent,
    }
}

/// A function whose prototype is known.
fn typed(place: &Place) -> Option<FunctionName> {
    let (AttachPoint::Kprobe { func, module, .. } | AttachPoint::Fentry { func, module, .. }) = &place.attach
    else {
        return None;
    };
    place.prototype.map(|_| FunctionName {
        name: func.clone(),
        module: module.clone(),
    })
}

/// Those functions that several of the attach points by trampolines name. Where one link of trampolines has been attached,
/// a second over the same functions takes the kernel minutes (measured on 7.3 with 1,700 of them).
pub fn contended(programs: &[Program<'_>]) -> BTreeSet<FunctionName> {
    let by_trampoline =
        |p: &&Program<'_>| matches!(p.provider, Provider::Fentry | Provider::Fexit | Provider::Span);
    let places = programs.iter().filter(by_trampoline).flat_map(|p| &p.targets);
    let mut seen = BTreeSet::new();
    let mut contended = BTreeSet::new();
    for function in places.filter_map(typed) {
        if !seen.insert(function.clone()) {
            contended.insert(function);
        }
    }
    contended
}

/// Build the program, or the programs, of one attach point.
pub fn build(global: &mut Global<'_>, instance: u32, program: &Program<'_>) {
    let (moment, part) = match program.provider {
        Provider::Fentry => (When::Entry, SpanPart::None),
        Provider::Fexit => (When::Return, SpanPart::None),
        Provider::Span => (When::Both, SpanPart::Both),
        _ => return Building::new(global, instance, program).serve(&program.targets, None),
    };
    let together = |place: &&Place| {
        let function = typed(place).filter(|f| !global.contended.contains(f));
        function.is_some_and(|f| global.env.tracing_multi(&f, moment))
    };
    // One function has no use for a link for many.
    let many = program.targets.len() > 1 && program.targets.iter().filter(together).take(2).count() == 2;
    let (multi, others): (Vec<&Place>, Vec<&Place>) =
        program.targets.iter().partition(|place| many && together(place));
    let mut building = Building::new(global, instance, program);
    if multi.is_empty() {
        return building.serve(&program.targets, None);
    }
    let first = vec![(part, ProgramKind::TracingMulti)];
    building.serve(&owned(multi), Some(first));
    if !others.is_empty() {
        building.serve(&owned(others), None);
    }
}

fn owned(places: Vec<&Place>) -> Vec<Place> {
    places.into_iter().cloned().collect()
}

struct Building<'g, 'a, 'p> {
    global: &'g mut Global<'a>,
    program: &'p Program<'p>,
    instance: u32,
    /// How often programs were built, those that weren't kept among them.
    rounds: u32,
}

impl<'g, 'a, 'p> Building<'g, 'a, 'p> {
    fn new(global: &'g mut Global<'a>, instance: u32, program: &'p Program<'p>) -> Self {
        Building {
            global,
            program,
            // Room for the programs of one attach point, whose variables are apart.
            instance: instance << 12,
            rounds: 0,
        }
    }

    /// Build what these targets need, `first` or in another way. Which those are is tried, so only if need be.
    fn serve(&mut self, targets: &[Place], first: Option<Way>) {
        if first.is_some_and(|way| self.serve_by(targets, &way)) {
            return;
        }
        for way in self.ways(targets) {
            if self.serve_by(targets, &way) {
                return;
            }
        }
    }

    /// Build it in this way. Nothing is kept if the body asks for what such programs don't have.
    fn serve_by(&mut self, targets: &[Place], way: &Way) -> bool {
        let before = Before::of(self.global);
        let served = self.share(targets, way);
        if !served {
            before.restore(self.global);
        }
        served
    }

    /// The ways that don't need one link of trampolines, from the cheapest to the one that always is.
    ///
    /// - A session of the function's trampoline: one program, which has the arguments at the return, too.
    /// - The same by two programs. The frame that they share on the stack tells which call it is.
    /// - A kprobe session: one program for many functions. It has room for 8 bytes, which is the time, so no arguments.
    /// - A kprobe at the entry and one at the return.
    fn ways(&self, targets: &[Place]) -> Vec<Way> {
        use SpanPart::{Both, Entry, Return};
        if self.program.provider != Provider::Span {
            return vec![vec![(SpanPart::None, kind(&targets[0].attach))]];
        }
        let env = self.global.env;
        let trampoline = match targets {
            [one] => typed(one).map(|function| env.trampoline(&function)),
            _ => None,
        };
        let tracing = |parts: &[SpanPart]| parts.iter().map(|&p| (p, ProgramKind::Tracing)).collect();
        let mut ways = vec![];
        match trampoline {
            Some(Trampoline::Session(_)) => ways.push(tracing(&[Both])),
            Some(Trampoline::Pair) => ways.push(tracing(&[Entry, Return])),
            Some(Trampoline::No) | None if env.session().is_some() => {
                ways.push(vec![(Both, ProgramKind::Kprobe)]);
            }
            Some(Trampoline::No) | None => {}
        }
        ways.push(vec![(Entry, ProgramKind::Kprobe), (Return, ProgramKind::Kprobe)]);
        ways
    }

    /// Build one program, or a pair, for as many of the targets as can share it. False if the body asks for what such
    /// programs don't have.
    fn share(&mut self, targets: &[Place], way: &Way) -> bool {
        let before = Before::of(self.global);
        // The number of an entry's program is even, and that of its return the next one.
        let number = self.instance + self.rounds % 4096;
        self.rounds += 2;
        let (mut asked, mut alone) = (vec![], false);
        for (i, &part) in (0..).zip(way) {
            let built = self.one(number + i, targets, part);
            if built.unfit {
                return false;
            }
            asked.extend(built.asked);
            alone |= built.per_target || built.uses_cookie && !self.global.env.features().attach_cookie;
        }
        if targets.len() == 1 {
            return true;
        }
        let (groups, lacking) = self.groups(targets, &asked, way[0].1);
        if groups.len() == 1 && groups[0].len() == targets.len() && !alone {
            return true;
        }
        before.restore(self.global);
        if let Some(warning) = lacking {
            self.global.report(warning);
        }
        let each = |group: Vec<Place>| match alone {
            true => group.into_iter().map(|place| vec![place]).collect(),
            false => vec![group],
        };
        let groups: Vec<Vec<Place>> = groups.into_iter().flat_map(each).collect();
        groups.iter().all(|group| self.share(group, way))
    }

    /// The targets by what they answer, without those that lack an argument which others have; and what to say of these.
    fn groups(
        &self,
        targets: &[Place],
        asked: &[Asked],
        kind: ProgramKind,
    ) -> (Vec<Vec<Place>>, Option<Diagnostic>) {
        if asked.is_empty() {
            return (vec![targets.to_vec()], None);
        }
        let types = &self.global.universe;
        let mut numbers: HashMap<Vec<Answer>, usize> = HashMap::new();
        let mut groups: Vec<Vec<Place>> = vec![];
        for place in targets {
            let answers = asked.iter().map(|a| a.answer(types, place, kind)).collect();
            let number = *numbers.entry(answers).or_insert(groups.len());
            if number == groups.len() {
                groups.push(vec![]);
            }
            groups[number].push(place.clone());
        }
        let lacks = |place: &Place| {
            let mut positions = asked.iter().filter_map(|a| match a {
                Asked::Position(n) => Some((*n, a.answer(types, place, kind))),
                _ => None,
            });
            positions.find_map(|(n, answer)| answer.is_empty().then_some(n))
        };
        let (without, with): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|group| lacks(&group[0]).is_some());
        if without.is_empty() || with.is_empty() {
            return (without.into_iter().chain(with).collect(), None);
        }
        let (first, count) = (&without[0][0], without.iter().map(Vec::len).sum::<usize>());
        let message = format!(
            "{count} of {} functions have no arg{} and are left out, {} among them",
            targets.len(),
            lacks(first).unwrap_or_default(),
            first.name
        );
        let quiet = self.global.settings.config.missing_probes == Missing::Ignore;
        (
            with,
            (!quiet).then(|| Diagnostic::warning(self.program.span, message)),
        )
    }

    /// Build one program for `targets`.
    fn one(&mut self, number: u32, targets: &[Place], (part, kind): (SpanPart, ProgramKind)) -> Built {
        let global = &mut *self.global;
        let name = format!("p{}", global.probes.len());
        let mut body = Body::new(
            global,
            number,
            &name,
            self.program.provider,
            targets,
            (part, kind),
        );
        body.probe(self.program.source);
        let mut built = body.finish();
        let attached = targets.iter().map(|place| Target {
            attach: attach(&place.attach, part, kind),
            name: place.name.clone(),
            cookie: global.probe_name(&place.name),
        });
        let targets = attached.collect();
        global.probes.push(Probe {
            program: IrProgram {
                name,
                kind,
                maps: std::mem::take(&mut built.maps),
                functions: std::mem::take(&mut built.functions),
            },
            targets,
            span: ir_span(self.program.span),
            uses_cookie: built.uses_cookie,
        });
        built
    }
}

/// Where a program of a kind is attached that is this part of a span, or none.
fn attach(point: &AttachPoint, part: SpanPart, kind: ProgramKind) -> AttachPoint {
    let mut attach = point.clone();
    if let AttachPoint::Kprobe { when, .. } = &mut attach {
        match part {
            SpanPart::None | SpanPart::Entry => {}
            SpanPart::Return => *when = When::Return,
            SpanPart::Both => *when = When::Both,
        }
    }
    match attach {
        AttachPoint::Kprobe {
            func, module, when, ..
        } if kind != ProgramKind::Kprobe => AttachPoint::Fentry { func, module, when },
        attach => attach,
    }
}

/// How much there was before programs that are perhaps not kept.
struct Before {
    probes: usize,
    events: usize,
    diagnostics: usize,
}

impl Before {
    fn of(global: &Global<'_>) -> Before {
        Before {
            probes: global.probes.len(),
            events: global.events.len(),
            diagnostics: global.diagnostics.len(),
        }
    }

    fn restore(&self, global: &mut Global<'_>) {
        global.probes.truncate(self.probes);
        global.events.truncate(self.events);
        global.diagnostics.truncate(self.diagnostics);
    }
}
