//! `-l`: what can be probed, and what it carries.

use std::io::{self, Write};

use ktrail_ebpf::kernel::{KType, TypeId};
use ktrail_ebpf::script::env::{For, FunctionName, ScriptEnv};

use super::pattern::Pattern;
use crate::kernel::btf::c_type;

/// Names of events that every kernel has.
const FIXED: &[&str] = &[
    "begin",
    "end",
    "interval:hz:",
    "interval:ms:",
    "interval:s:",
    "interval:us:",
    "profile:hz:",
    "profile:ms:",
    "profile:s:",
    "profile:us:",
    "hardware:branch-misses:",
    "hardware:branches:",
    "hardware:bus-cycles:",
    "hardware:cache-misses:",
    "hardware:cache-references:",
    "hardware:cpu-cycles:",
    "hardware:instructions:",
    "hardware:ref-cycles:",
    "software:alignment-faults:",
    "software:bpf-output:",
    "software:context-switches:",
    "software:cpu-clock:",
    "software:cpu-migrations:",
    "software:dummy:",
    "software:emulation-faults:",
    "software:major-faults:",
    "software:minor-faults:",
    "software:page-faults:",
    "software:task-clock:",
];

/// Print the attach points that match a pattern, one a line; `verbose`: with their parameters.
///
/// A pattern without a colon is looked for in the last part of the name.
///
/// # Errors
/// When output can't be written.
pub fn print(mut out: impl Write, env: &dyn ScriptEnv, pattern: &str, verbose: bool) -> io::Result<()> {
    let (provider, rest) = pattern.split_once(':').unwrap_or(("*", pattern));
    let provider = Pattern::new(&full_name(provider));
    let in_module = rest.split_once(':');
    let last = in_module.map_or(rest, |(_, name)| name);
    let module = in_module.map(|(module, _)| module);

    if provider.matches("tracepoint") {
        for (category, name) in env.tracepoints(module.unwrap_or("*"), last) {
            writeln!(out, "tracepoint:{category}:{name}")?;
            if verbose {
                for field in env.tracepoint_fields(&category, &name).unwrap_or_default() {
                    let array = field.array.map_or_else(String::new, |n| format!("[{n}]"));
                    writeln!(out, "    {} {}{array}", field.c_type, field.name)?;
                }
            }
        }
    }
    if provider.matches("kprobe") {
        for function in env.functions(module, last, For::Kprobe) {
            match &function.module {
                Some(module) => writeln!(out, "kprobe:{module}:{}", function.name)?,
                None => writeln!(out, "kprobe:{}", function.name)?,
            }
        }
    }
    if provider.matches("fentry") {
        for function in env.functions(module, last, For::Fentry) {
            line(&mut out, "fentry", &function)?;
            if verbose {
                parameters(&mut out, env, env.prototype(&function), true)?;
            }
        }
    }
    if provider.matches("rawtracepoint") {
        for tracepoint in env.raw_tracepoints(module, last) {
            line(&mut out, "rawtracepoint", &tracepoint)?;
            if verbose {
                parameters(&mut out, env, env.raw_tracepoint_prototype(&tracepoint), false)?;
            }
        }
    }
    if provider.matches("iter") {
        for name in env.iterators(last) {
            writeln!(out, "iter:{name}")?;
            if verbose {
                let function = FunctionName {
                    name: format!("bpf_iter_{name}"),
                    module: None,
                };
                parameters(&mut out, env, env.prototype(&function), false)?;
            }
        }
    }
    let whole = Pattern::new(rest);
    for name in FIXED {
        let (kind, event) = name.split_once(':').unwrap_or((name, ""));
        let event = event.trim_end_matches(':');
        if provider.matches(kind) && (whole.matches(event) || Pattern::new(pattern).matches(name)) {
            writeln!(out, "{name}")?;
        }
    }
    out.flush()
}

/// The short names of providers.
fn full_name(provider: &str) -> String {
    match provider {
        "k" => "kprobe",
        "f" | "kfunc" => "fentry",
        "t" => "tracepoint",
        "rt" => "rawtracepoint",
        "i" => "interval",
        "it" => "iter",
        "p" => "profile",
        "s" => "software",
        "h" => "hardware",
        other => other,
    }
    .into()
}

fn line(out: &mut impl Write, provider: &str, function: &FunctionName) -> io::Result<()> {
    let module = function.module.as_deref().unwrap_or("vmlinux");
    writeln!(out, "{provider}:{module}:{}", function.name)
}

/// The parameters of a prototype, one a line.
fn parameters(
    out: &mut impl Write,
    env: &dyn ScriptEnv,
    prototype: Option<TypeId>,
    returns: bool,
) -> io::Result<()> {
    let Some(KType::Proto {
        params, returns: ret, ..
    }) = prototype.and_then(|id| env.types().get(id))
    else {
        return Ok(());
    };
    for (name, ty) in params {
        writeln!(out, "    {} {name}", c_type(env.types(), ty))?;
    }
    match c_type(env.types(), ret) {
        ty if returns && ty != "void" => writeln!(out, "    {ty} retval"),
        _ => Ok(()),
    }
}
