//! `-l`: what can be probed, and what it carries.

use std::io::{self, Write};

use ktrail_ebpf::kernel::{KType, Space, TypeId};
use ktrail_ebpf::script::env::{For, FunctionName, ScriptEnv};
use ktrail_ebpf::script::{HARDWARE, SOFTWARE};

use super::env::MachineEnv;
use super::pattern::Pattern;
use crate::kernel::btf::{KernelBtf, c_type, definition};

/// Names of events that every kernel has, but for perf's.
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
    "self:signal:SIGUSR1",
];

/// Print the attach points that match a pattern, one a line; `verbose`: with their parameters. With `struct `, `union `
/// or `enum ` before it, the pattern is of types' names; `verbose`: with what is in them.
///
/// A pattern without a colon is looked for in the last part of the name.
///
/// # Errors
/// When output can't be written, or types are asked for and the kernel has none.
pub fn print(mut out: impl Write, env: &MachineEnv, pattern: &str, verbose: bool) -> anyhow::Result<()> {
    for (keyword, space) in [
        ("struct", Space::Struct),
        ("union", Space::Union),
        ("enum", Space::Enum),
    ] {
        if let Some(name) = pattern.strip_prefix(keyword).and_then(|p| p.strip_prefix(' ')) {
            let name = Pattern::new(name.trim());
            let btf = env.machine_types().btf()?;
            let mut found = btf.named(space, |n| name.matches(n));
            if !verbose {
                // Several types may have one name.
                found.dedup_by_key(|(name, _)| *name);
            }
            return Ok(types(out, btf, keyword, &found, verbose)?);
        }
    }
    let (provider, rest) = pattern.split_once(':').unwrap_or(("*", pattern));
    let provider = full_name(provider);
    let in_module = rest.split_once(':');
    let last = in_module.map_or(rest, |(_, name)| name);
    let module = in_module.map(|(module, _)| module);
    let matches = |name: &str| Pattern::new(provider).matches(name);

    if matches("tracepoint") {
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
    // A return has the names of its entry: it is listed where it is asked for.
    for kind in ["kprobe", "kretprobe", "span"] {
        if provider != kind && !(kind == "kprobe" && matches(kind)) {
            continue;
        }
        for function in env.functions(module, last, For::Kprobe) {
            match &function.module {
                Some(module) => writeln!(out, "{kind}:{module}:{}", function.name)?,
                None => writeln!(out, "{kind}:{}", function.name)?,
            }
            if verbose {
                let shown = match kind {
                    "kprobe" => Shown::Registers,
                    "kretprobe" => Shown::Result,
                    _ => Shown::All,
                };
                parameters(&mut out, env, env.prototype(&function), shown)?;
            }
        }
    }
    for kind in ["fentry", "fexit"] {
        if provider != kind && !(kind == "fentry" && matches(kind)) {
            continue;
        }
        for function in env.functions(module, last, For::Fentry) {
            line(&mut out, kind, &function)?;
            if verbose {
                let shown = match kind {
                    "fentry" => Shown::Arguments,
                    _ => Shown::All,
                };
                parameters(&mut out, env, env.prototype(&function), shown)?;
            }
        }
    }
    if matches("rawtracepoint") {
        for tracepoint in env.raw_tracepoints(module, last) {
            line(&mut out, "rawtracepoint", &tracepoint)?;
            if verbose {
                let prototype = env.raw_tracepoint_prototype(&tracepoint);
                parameters(&mut out, env, prototype, Shown::Arguments)?;
            }
        }
    }
    if matches("iter") {
        for name in env.iterators(last) {
            writeln!(out, "iter:{name}")?;
            if verbose {
                let function = FunctionName {
                    name: format!("bpf_iter_{name}"),
                    module: None,
                };
                parameters(&mut out, env, env.prototype(&function), Shown::Arguments)?;
            }
        }
    }
    let whole = Pattern::new(rest);
    let perf = [("hardware", HARDWARE), ("software", SOFTWARE)];
    let mut fixed: Vec<String> = FIXED.iter().map(|&name| name.into()).collect();
    for (kind, events) in perf {
        let names = events.iter().flat_map(|(names, ..)| names.iter());
        fixed.extend(names.map(|name| format!("{kind}:{name}:")));
    }
    fixed.sort_unstable();
    for name in fixed {
        let (kind, event) = name.split_once(':').unwrap_or((&name, ""));
        let event = event.trim_end_matches(':');
        if matches(kind) && (whole.matches(event) || Pattern::new(pattern).matches(&name)) {
            writeln!(out, "{name}")?;
        }
    }
    Ok(out.flush()?)
}

fn types(
    mut out: impl Write,
    btf: &KernelBtf,
    keyword: &str,
    found: &[(&str, TypeId)],
    verbose: bool,
) -> io::Result<()> {
    for &(name, id) in found {
        match definition(btf, id) {
            Some(text) if verbose => {
                let module = match btf.module(id) {
                    "" => "vmlinux",
                    module => module,
                };
                writeln!(out, "{module}: {text};\n")?;
            }
            _ => writeln!(out, "{keyword} {name}")?,
        }
    }
    out.flush()
}

/// The short names of providers.
fn full_name(provider: &str) -> &str {
    match provider {
        "k" => "kprobe",
        "kr" => "kretprobe",
        "f" | "kfunc" => "fentry",
        "fr" | "kretfunc" => "fexit",
        "t" => "tracepoint",
        "rt" => "rawtracepoint",
        "i" => "interval",
        "it" => "iter",
        "p" => "profile",
        "s" => "software",
        "h" => "hardware",
        other => other,
    }
}

fn line(out: &mut impl Write, provider: &str, function: &FunctionName) -> io::Result<()> {
    let module = function.module.as_deref().unwrap_or("vmlinux");
    writeln!(out, "{provider}:{module}:{}", function.name)
}

/// What a script can have of a prototype.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// Its arguments, by name.
    Arguments,
    /// Its arguments, by the number of a register.
    Registers,
    /// What it returns.
    Result,
    /// Arguments by name, and what it returns.
    All,
}

/// The parameters of a prototype, one a line.
fn parameters(
    out: &mut impl Write,
    env: &MachineEnv,
    prototype: Option<TypeId>,
    shown: Shown,
) -> io::Result<()> {
    let Some(KType::Proto { params, returns, .. }) = prototype.and_then(|id| env.types().get(id)) else {
        return Ok(());
    };
    let ty = |id| c_type(env.types(), id);
    for (n, (name, id)) in params.into_iter().enumerate() {
        match shown {
            Shown::Arguments | Shown::All => writeln!(out, "    {} {name}", ty(id))?,
            Shown::Registers => writeln!(out, "    {} arg{n}", ty(id))?,
            Shown::Result => {}
        }
    }
    match ty(returns) {
        ty if matches!(shown, Shown::Result | Shown::All) && ty != "void" => writeln!(out, "    {ty} retval"),
        _ => Ok(()),
    }
}
