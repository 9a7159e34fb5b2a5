//! Attach points: what a probe's text names, wildcards expanded, one program for as many targets as can share it.
//!
//! Deliberately absent: user-space probes.

use super::body::{Body, Span as SpanPart};
use super::{Global, ast, ir_span};
use crate::ir::{Program as IrProgram, ProgramKind};
use crate::kernel::{TypeId, Types};
use crate::script::Diagnostic;
use crate::script::ast::Provider;
use crate::script::env::{For, FunctionName, ScriptEnv, Trampoline};
use crate::script::output::{AttachPoint, Missing, Period, Probe, Target, When};

/// A program to be built, or several, if its targets turn out to need programs of their own.
pub struct Program<'a> {
    pub source: &'a ast::Probe,
    pub provider: Provider,
    pub targets: Vec<Place>,
    pub span: ast::Span,
}

/// One target.
#[derive(Clone, Debug)]
pub struct Place {
    pub attach: AttachPoint,
    /// `kprobe:tcp_connect`
    pub name: String,
    /// Of the function or tracepoint, where there is one.
    pub prototype: Option<TypeId>,
}

/// What all probes attach to. What isn't there is reported as the script asks for.
pub fn expand<'a>(global: &mut Global<'a>) -> Vec<Program<'a>> {
    let mut programs = vec![];
    for probe in &global.script.probes {
        let first = programs.len();
        let mut unmatched = vec![];
        for point in &probe.points {
            match places(global, point) {
                // Of several spellings of a name for several kernels a pattern may match nothing.
                Ok(targets) if targets.is_empty() && point.text.contains(['*', '?']) => unmatched.push(point),
                Ok(targets) if targets.is_empty() => missing(global, point),
                Ok(targets) => programs.push(Program {
                    source: probe,
                    provider: point.provider,
                    targets,
                    span: point.span,
                }),
                Err(diagnostic) => global.report(diagnostic),
            }
        }
        if programs.len() == first {
            unmatched.into_iter().for_each(|point| missing(global, point));
        }
    }
    programs
}

fn missing(global: &mut Global<'_>, point: &ast::AttachPoint) {
    let message = format!("there is no {} to attach to", point.text);
    let mut diagnostic = match global.settings.config.missing_probes {
        Missing::Ignore => return,
        Missing::Warn => Diagnostic::warning(point.span, message),
        Missing::Error => Diagnostic::error(point.span, message),
    };
    let function = matches!(
        point.provider,
        Provider::Kprobe | Provider::Kretprobe | Provider::Fentry | Provider::Fexit | Provider::Span
    );
    if let (true, Some(name)) = (function, point.parts.last()) {
        let name = name.name.split('+').next().unwrap_or_default();
        let similar = global.env.similar_functions(name);
        if !similar.is_empty() {
            diagnostic = diagnostic.hint(format!("did you mean {}?", similar.join(", ")));
        }
    }
    global.report(diagnostic);
}

type Places = Result<Vec<Place>, Diagnostic>;

fn places(global: &Global<'_>, point: &ast::AttachPoint) -> Places {
    let env = global.env;
    let parts: Vec<&str> = point.parts.iter().map(|p| p.name.as_str()).collect();
    let refuse = |message: String| Err(Diagnostic::error(point.span, message));
    let one = |attach| {
        Ok(vec![Place {
            attach,
            name: point.text.clone(),
            prototype: None,
        }])
    };
    match (point.provider, parts.as_slice()) {
        (Provider::Begin, []) => one(AttachPoint::Begin),
        (Provider::End, []) => one(AttachPoint::End),
        (Provider::Kprobe | Provider::Kretprobe | Provider::Span, [.., _]) if parts.len() <= 2 => {
            kprobes(env, point, &parts)
        }
        (Provider::Fentry | Provider::Fexit, [.., pattern]) if parts.len() <= 2 => {
            let module = (parts.len() == 2).then(|| parts[0]);
            let when = match point.provider {
                Provider::Fexit => When::Return,
                _ => When::Entry,
            };
            Ok(env
                .functions(module, pattern, For::Fentry)
                .into_iter()
                .map(|function| Place {
                    name: format!(
                        "{}:{}:{}",
                        point.provider.name(),
                        function.module.as_deref().unwrap_or("vmlinux"),
                        function.name
                    ),
                    prototype: env.prototype(&function),
                    attach: AttachPoint::Fentry {
                        func: function.name,
                        module: function.module,
                        when,
                    },
                })
                .filter(|place| place.prototype.is_some())
                .collect())
        }
        (Provider::Tracepoint, [category, name]) => Ok(env
            .tracepoints(category, name)
            .into_iter()
            .map(|(category, name)| Place {
                name: format!("tracepoint:{category}:{name}"),
                attach: AttachPoint::Tracepoint { category, name },
                prototype: None,
            })
            .collect()),
        (Provider::RawTracepoint, [.., pattern]) if parts.len() <= 2 => {
            let module = (parts.len() == 2).then(|| parts[0]);
            Ok(env
                .raw_tracepoints(module, pattern)
                .into_iter()
                .map(|tracepoint| Place {
                    name: format!(
                        "rawtracepoint:{}:{}",
                        tracepoint.module.as_deref().unwrap_or("vmlinux"),
                        tracepoint.name
                    ),
                    prototype: env.raw_tracepoint_prototype(&tracepoint),
                    attach: AttachPoint::RawTracepoint {
                        name: tracepoint.name,
                        module: tracepoint.module,
                    },
                })
                .collect())
        }
        (Provider::Interval, _) => match period(&parts) {
            Ok(Period::Ns(ns)) if ns >= 1000 => one(AttachPoint::Interval { ns }),
            Ok(Period::Hertz(hz)) if (1..=1_000_000).contains(&hz) => one(AttachPoint::Interval {
                ns: 1_000_000_000 / hz,
            }),
            Ok(_) => refuse("an interval is 1us at least".into()),
            Err(message) => refuse(message),
        },
        (Provider::Profile, _) => match period(&parts) {
            Ok(Period::Ns(0..1000) | Period::Hertz(0)) => refuse("a period is 1us at least".into()),
            Ok(period) => one(AttachPoint::Profile(period)),
            Err(message) => refuse(message),
        },
        (Provider::Software | Provider::Hardware, [event, rest @ ..]) if rest.len() <= 1 => {
            let table = if point.provider == Provider::Software {
                SOFTWARE
            } else {
                HARDWARE
            };
            let Some((_, number, default)) = table.iter().find(|(names, ..)| names.contains(event)) else {
                let names: Vec<&str> = table.iter().map(|(names, ..)| names[0]).collect();
                return Err(Diagnostic::error(
                    point.span,
                    format!("there is no {} event '{event}'", point.provider.name()),
                )
                .hint(format!("there are {}", names.join(", "))));
            };
            let period = match rest.first() {
                None | Some(&"") => *default,
                Some(text) => match text.parse::<u64>() {
                    Ok(n) if n > 0 => n,
                    _ => return refuse(format!("'{text}' is no number of events")),
                },
            };
            if point.provider == Provider::Software {
                one(AttachPoint::Software {
                    event: *number,
                    period,
                })
            } else {
                one(AttachPoint::Hardware {
                    perf_type: 0,
                    event: *number,
                    period,
                })
            }
        }
        (Provider::Iter, [pattern, pin @ ..]) if pin.len() <= 1 => {
            if pin.first().is_some_and(|pin| !pin.is_empty()) {
                return refuse("iterators are read at once, they can't be pinned".into());
            }
            let place = |name: String| Place {
                // What the kernel's verifier takes as the program's arguments.
                prototype: env.prototype(&FunctionName {
                    name: format!("bpf_iter_{name}"),
                    module: None,
                }),
                name: format!("iter:{name}"),
                attach: AttachPoint::Iter { name, pin: None },
            };
            Ok(env.iterators(pattern).into_iter().map(place).collect())
        }
        (
            Provider::Uprobe
            | Provider::Uretprobe
            | Provider::Usdt
            | Provider::Watchpoint
            | Provider::SelfSignal
            | Provider::Test
            | Provider::Bench,
            _,
        ) => refuse(format!("{} probes are not supported", point.provider.name())),
        _ => refuse(format!("'{}' is no attach point", point.text)),
    }
}

fn kprobes(env: &dyn ScriptEnv, point: &ast::AttachPoint, parts: &[&str]) -> Places {
    let (module, text) = match parts {
        [module, func] => (Some(*module), *func),
        _ => (None, parts[0]),
    };
    let (pattern, offset) = match text.split_once('+') {
        None => (text, 0),
        Some((func, offset)) => {
            let number = match offset.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16),
                None => offset.parse(),
            };
            let Ok(number) = number else {
                let message = format!("'{offset}' is no offset");
                return Err(Diagnostic::error(point.span, message));
            };
            if point.provider != Provider::Kprobe {
                return Err(Diagnostic::error(point.span, "only a kprobe takes an offset"));
            }
            (func, number)
        }
    };
    let place = |function: FunctionName| {
        let mut name = format!("{}:{}", point.provider.name(), function.name);
        if offset != 0 {
            name.push_str(&format!("+{offset}"));
        }
        Place {
            name,
            prototype: env.prototype(&function),
            attach: AttachPoint::Kprobe {
                func: function.name,
                module: function.module,
                offset,
                when: match point.provider {
                    Provider::Kretprobe => When::Return,
                    _ => When::Entry,
                },
            },
        }
    };
    Ok(env
        .functions(module, pattern, For::Kprobe)
        .into_iter()
        .map(place)
        .collect())
}

/// `hz:99`, `s:1`, `100ms`.
fn period(parts: &[&str]) -> Result<Period, String> {
    let unit_ns = |unit: &str| match unit {
        "ns" => Some(1),
        "us" => Some(1_000),
        "ms" => Some(1_000_000),
        "s" => Some(1_000_000_000),
        "m" => Some(60_000_000_000),
        "h" => Some(3_600_000_000_000),
        "d" => Some(86_400_000_000_000u64),
        _ => None,
    };
    let (unit, number) = match parts {
        [unit, number] => (*unit, *number),
        [one] => {
            let split = one.find(|c: char| !c.is_ascii_digit()).unwrap_or(one.len());
            (&one[split..], &one[..split])
        }
        _ => return Err("a period is written as 'hz:99', 's:1' or '100ms'".into()),
    };
    // As the language writes numbers: `1e3`, `1_000`.
    let digits = number.replace('_', "");
    let value = match digits.split_once('e') {
        None => digits.parse::<u64>().ok(),
        Some((a, e)) => a
            .parse::<u64>()
            .ok()
            .zip(e.parse::<u32>().ok())
            .and_then(|(a, e)| a.checked_mul(10u64.checked_pow(e)?)),
    };
    let value = value.ok_or(format!("'{number}' is no number"))?;
    if unit == "hz" {
        return Ok(Period::Hertz(value));
    }
    let ns = unit_ns(unit).ok_or(format!("'{unit}' is no unit: hz, us, ms, s"))?;
    value
        .checked_mul(ns)
        .map(Period::Ns)
        .ok_or("the period is too long".into())
}

/// Names, number and default period of perf's software events (`enum perf_sw_ids`).
pub const SOFTWARE: &[(&[&str], u64, u64)] = &[
    (&["cpu-clock", "cpu"], 0, 1_000_000),
    (&["task-clock"], 1, 1),
    (&["page-faults", "faults"], 2, 100),
    (&["context-switches", "cs"], 3, 1000),
    (&["cpu-migrations"], 4, 1),
    (&["minor-faults"], 5, 100),
    (&["major-faults"], 6, 1),
    (&["alignment-faults"], 7, 1),
    (&["emulation-faults"], 8, 1),
    (&["dummy"], 9, 1),
    (&["bpf-output"], 10, 1),
];

/// Names, number and default period of perf's hardware events (`enum perf_hw_id`).
pub const HARDWARE: &[(&[&str], u64, u64)] = &[
    (&["cpu-cycles", "cycles"], 0, 1_000_000),
    (&["instructions"], 1, 1_000_000),
    (&["cache-references"], 2, 1_000_000),
    (&["cache-misses"], 3, 1_000_000),
    (&["branch-instructions", "branches"], 4, 100_000),
    (&["branch-misses"], 5, 100_000),
    (&["bus-cycles"], 6, 100_000),
    (&["frontend-stalls"], 7, 1_000_000),
    (&["backend-stalls"], 8, 1_000_000),
    (&["ref-cycles"], 9, 1_000_000),
];

/// Build the program, or the programs, of one attach point.
pub fn build(global: &mut Global<'_>, instance: u32, program: &Program<'_>) {
    // Room for the programs of one attach point, whose variables are apart.
    let instance = instance << 12;
    if program.provider == Provider::Span {
        return build_span(global, instance, program);
    }
    let before = Before::of(global);
    let plain = (SpanPart::None, false);
    let built = build_one(global, instance, program, &program.targets, plain);
    if built.shared || program.targets.len() == 1 {
        return;
    }
    // Its targets differ in what the body asks for: each gets its own.
    before.restore(global);
    for (i, target) in program.targets.iter().enumerate() {
        let own = std::slice::from_ref(target);
        build_one(global, instance + 1 + i as u32 % 4095, program, own, plain);
    }
}

/// Build a span's program, or its two: the first of these ways that the kernel has and that gives what the body asks
/// for, from the cheapest to the one that always is.
///
/// The number of an entry's program is even, and that of its return the next one.
///
/// - A session of the function's trampoline: one program, which has the arguments at the return, too.
/// - The same by two programs. The frame that they share on the stack tells which call it is.
/// - A kprobe session: one program for many functions. It has room for 8 bytes, which is the time, so no arguments.
/// - A kprobe at the entry and one at the return.
fn build_span(global: &mut Global<'_>, instance: u32, program: &Program<'_>) {
    use SpanPart::{Both, Entry, Return};
    let trampoline = match program.targets.as_slice() {
        [
            Place {
                attach: AttachPoint::Kprobe { func, module, .. },
                prototype: Some(_),
                ..
            },
        ] => global.env.trampoline(&FunctionName {
            name: func.clone(),
            module: module.clone(),
        }),
        _ => Trampoline::No,
    };
    let mut ways: Vec<&[(SpanPart, bool)]> = vec![];
    match trampoline {
        Trampoline::No => {}
        Trampoline::Pair => ways.push(&[(Entry, true), (Return, true)]),
        Trampoline::Session(_) => ways.push(&[(Both, true)]),
    }
    if ways.is_empty() && global.env.session().is_some() {
        ways.push(&[(Both, false)]);
    }
    ways.push(&[(Entry, false), (Return, false)]);
    for way in ways {
        let before = Before::of(global);
        let (mut unfit, mut shared) = (false, true);
        for (i, &part) in (0..).zip(way) {
            let built = build_one(global, instance + i, program, &program.targets, part);
            unfit |= built.unfit;
            shared &= built.shared;
        }
        if !unfit && (shared || program.targets.len() == 1) {
            return;
        }
        before.restore(global);
        if !unfit {
            // The targets differ in what the body asks for: each gets its own.
            let each = program
                .targets
                .iter()
                .flat_map(|t| way.iter().map(move |&part| (t, part)));
            for (i, (target, part)) in (2..).zip(each) {
                build_one(
                    global,
                    instance + i % 4096,
                    program,
                    std::slice::from_ref(target),
                    part,
                );
            }
            return;
        }
    }
}

/// How much there was before a program that is perhaps not kept.
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

    fn restore(self, global: &mut Global<'_>) {
        global.probes.truncate(self.probes);
        global.events.truncate(self.events);
        global.diagnostics.truncate(self.diagnostics);
    }
}

/// What has become of a program.
struct BuiltOne {
    /// Its targets can share it.
    shared: bool,
    /// It asks for what such a program doesn't have.
    unfit: bool,
}

/// Build one program for `targets`.
fn build_one(
    global: &mut Global<'_>,
    instance: u32,
    program: &Program<'_>,
    targets: &[Place],
    (part, trampoline): (SpanPart, bool),
) -> BuiltOne {
    let kind = match targets[0].attach {
        AttachPoint::Begin | AttachPoint::End => ProgramKind::RawTracepoint,
        AttachPoint::Kprobe { .. } if trampoline => ProgramKind::Tracing,
        AttachPoint::Kprobe { .. } => ProgramKind::Kprobe,
        AttachPoint::Fentry { .. } | AttachPoint::RawTracepoint { .. } | AttachPoint::Iter { .. } => {
            ProgramKind::Tracing
        }
        AttachPoint::Tracepoint { .. } => ProgramKind::Tracepoint,
        AttachPoint::Interval { .. }
        | AttachPoint::Profile(_)
        | AttachPoint::Software { .. }
        | AttachPoint::Hardware { .. } => ProgramKind::PerfEvent,
    };
    let name = format!("p{}", global.probes.len());
    let mut body = Body::new(
        global,
        instance,
        &name,
        program.provider,
        targets,
        (part, trampoline),
    );
    body.probe(program.source);
    let built = body.finish();
    // Features are asked for only where they matter: probing them takes time.
    let shared = !built.per_target && (!built.uses_cookie || global.env.features().attach_cookie);
    let targets = targets
        .iter()
        .map(|place| {
            let mut attach = place.attach.clone();
            if let AttachPoint::Kprobe { when, .. } = &mut attach {
                match part {
                    SpanPart::None | SpanPart::Entry => {}
                    SpanPart::Return => *when = When::Return,
                    SpanPart::Both => *when = When::Both,
                }
            }
            if let (
                true,
                AttachPoint::Kprobe {
                    func, module, when, ..
                },
            ) = (trampoline, &attach)
            {
                attach = AttachPoint::Fentry {
                    func: func.clone(),
                    module: module.clone(),
                    when: *when,
                };
            }
            Target {
                attach,
                name: place.name.clone(),
                cookie: global.probe_name(&place.name),
            }
        })
        .collect();
    let unfit = built.unfit;
    global.probes.push(Probe {
        program: IrProgram {
            name,
            kind,
            maps: built.maps,
            functions: built.functions,
        },
        targets,
        span: ir_span(program.span),
        uses_cookie: built.uses_cookie,
    });
    BuiltOne { shared, unfit }
}

/// The parameters of a prototype: name, type, and the position of its first 64-bit word.
pub fn parameters(types: &super::Universe<'_>, prototype: TypeId) -> Vec<(String, TypeId, u8)> {
    let Some(crate::kernel::KType::Proto { params, .. }) = types.get(prototype) else {
        return vec![];
    };
    let mut word = 0u8;
    params
        .into_iter()
        .map(|(name, ty)| {
            let at = word;
            let words = types.size_align(ty).0.div_ceil(8).clamp(1, 16);
            word = word.saturating_add(words as u8);
            (name, ty, at)
        })
        .collect()
}
