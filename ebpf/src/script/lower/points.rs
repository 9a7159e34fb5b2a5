//! Attach points: what a probe's text names, wildcards expanded.
//!
//! Deliberately absent: user-space probes; how many programs their targets need (`programs`).

use super::{Global, ast};
use crate::kernel::{TypeId, Types};
use crate::script::Diagnostic;
use crate::script::ast::Provider;
use crate::script::env::{For, FunctionName, ScriptEnv};
use crate::script::output::{AttachPoint, Missing, Period, When};
use crate::script::types::Ty;

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
        (Provider::SelfSignal, ["signal", "SIGUSR1"]) => one(AttachPoint::Signal),
        (Provider::SelfSignal, ["signal", name]) => refuse(format!(
            "'{name}' is no signal that scripts are told of: SIGUSR1 is"
        )),
        (Provider::SelfSignal, _) => refuse("of ktrail itself there is self:signal:SIGUSR1 only".into()),
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

/// The words of the arguments of a prototype, behind which its result is.
pub fn words(types: &super::Universe<'_>, prototype: TypeId) -> u8 {
    parameters(types, prototype).last().map_or(0, |(_, ty, at)| {
        let words = types.size_align(*ty).0.div_ceil(8).max(1);
        at.saturating_add(words as u8)
    })
}

/// The type of what a function returns, a number if it isn't one that fits a register.
pub fn result(types: &super::Universe<'_>, prototype: TypeId) -> Ty {
    match types.get(prototype) {
        Some(crate::kernel::KType::Proto { returns, .. }) => Some(types.to_ty(returns)),
        _ => None,
    }
    .filter(Ty::in_register)
    .unwrap_or(Ty::I64)
}
