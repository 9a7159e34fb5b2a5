//! `ktrail run`.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::Context;
use clap::ValueEnum;
use ktrail_ebpf::kernel::Features as CodegenFeatures;
use ktrail_ebpf::script::output::{Compiled, MapInfo};
use ktrail_ebpf::script::{self, Diagnostic, ParseOptions};

use super::{Usage, doctor};
use crate::experiment::parameters::Refusal;
use crate::experiment::script::{self as experiment, Prepared};
use crate::kernel::maps;
use crate::kernel::process;
use crate::kernel::program::LoadError;
use crate::kernel::time::WallClock;
use crate::run::decode::Decoder;
use crate::run::env::MachineEnv;
use crate::run::events::{Actor, Captures, Source};
use crate::run::format::{Output, OutputFormat};
use crate::run::imports;
use crate::run::list;
use crate::run::load::{self, Loaded};
use crate::run::names::MachineNames;
use crate::run::session::{self, Until};
use crate::say;

/// Run a script in the probe language, which is bpftrace's
///
/// Attaches the script's probes, prints what they print, and at the end the maps. Ends at exit(), with Ctrl-C, or
/// when the command of -c or the process of -p ends.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The script, `-` for standard input, and its parameters: `$1` and so on. With -e, parameters only; with -l, a
    /// pattern
    #[arg(value_name = "FILE [ARGS]", trailing_var_arg = true)]
    words: Vec<String>,

    /// The script itself
    #[arg(short = 'e', long, value_name = "PROGRAM")]
    execute: Option<String>,

    /// Text for people or JSON lines for programs
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = FormatArg::Text)]
    format: FormatArg,

    /// When output is written: `none` and `line` some milliseconds after the events, `full` when there is much of it
    #[arg(short = 'B', value_enum, value_name = "MODE", default_value_t = Buffering::Line)]
    buffering: Buffering,

    /// Write the output to this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Print nothing on standard error but errors
    #[arg(short, long)]
    quiet: bool,

    /// Don't say what in the script is doubtful but right
    #[arg(long)]
    no_warnings: bool,

    /// Count reads of memory that failed and of entries that maps don't have, and say so at the end
    #[arg(short = 'k', long = "warnings", conflicts_with = "no_warnings")]
    failures: bool,

    /// Run this command once everything is attached, and stop when it ends; `cpid` is its process
    #[arg(short, long, value_name = "COMMAND")]
    command: Option<String>,

    /// Only events of this process, and stop when it ends
    #[arg(short, long, value_name = "PID")]
    pid: Option<u32>,

    /// List the attach points, or types (`struct nf_*`), that match a pattern, with -v what is in them
    #[arg(short, long, conflicts_with_all = ["execute", "command", "dump"])]
    list: bool,

    /// Load and attach everything, then stop: nothing runs
    #[arg(long)]
    dry_run: bool,

    /// Show what the script becomes, and stop
    #[arg(short, long, value_enum, value_name = "STAGE")]
    dump: Option<Stage>,

    /// Say more: what debugf() prints, and the verifier's log if it refuses a program
    #[arg(short, long)]
    verbose: bool,

    /// What this machine has for ktrail: `ktrail doctor`
    #[arg(long)]
    info: bool,

    /// bpftrace's, for C headers: not understood
    #[arg(short = 'I', long = "include", value_name = "HEADER", hide = true)]
    include: Vec<String>,

    /// Allow what changes the system: system(), signal(), override(), write_user()
    #[arg(long = "unsafe")]
    allow_unsafe: bool,

    /// Create this file once everything is attached, for scripts that wait
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

const NO_HEADERS: &str = "-I and --include are for C headers, which are not read: no C compiler is at hand. Types and \
    enums are known from the kernel's BTF; of what a header #defines the script can have its own, also by 'import \
    \"FILE.bt\";' as macros";

const EXAMPLES: &str = "\
Examples:
  Which processes call nf_hook_slow:
    ktrail run -e 'kprobe:nf_hook_slow { @[comm] = count(); } interval:s:3 { print(@); clear(@); }'
  What can be probed about veth devices:
    ktrail run -l '*veth*'";

/// How the output is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormatArg {
    /// For people
    Text,
    /// JSON lines, for programs
    Json,
}

/// When output is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Buffering {
    /// With the events that came together
    None,
    /// The same
    Line,
    /// When a buffer is full, and at the end
    Full,
}

/// A stage on a script's way to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// The script as it was understood, macros expanded
    Ast,
    /// The types of its maps
    Types,
    /// The intermediate representation
    Ir,
    /// The instructions
    Asm,
    /// What the kernel's verifier says of them
    Verifier,
    /// All of these
    All,
}

/// Run the subcommand; the exit code.
pub fn main(args: &Args) -> anyhow::Result<u8> {
    if args.info {
        return doctor::main(&doctor::Args::default()).map(|()| 0);
    }
    if !args.include.is_empty() {
        return Err(Usage(NO_HEADERS.into()).into());
    }
    if args.list {
        // Behind a pattern, everything is a word.
        let verbose = args.verbose || args.words.iter().any(|w| w == "-v");
        let pattern = args.words.iter().find(|w| *w != "-v").map_or("*", String::as_str);
        let out = BufWriter::new(io::stdout().lock());
        list::print(out, &MachineEnv::new(None), pattern, verbose)?;
        return Ok(0);
    }
    let (mut source, words) = script_text(args)?;
    let mut refused_imports = Vec::new();
    imports::resolve(&mut source, &mut refused_imports);
    let parameters = Parameters::new(words);
    let options = ParseOptions {
        positional: parameters.positional.clone(),
        imported: source.imported.iter().map(|(start, _)| *start).collect(),
    };
    let (mut script, mut diagnostics) = script::parse(&source.text, &options);
    diagnostics.append(&mut refused_imports);
    // What an experiment reads and writes goes by the name of its own script.
    let first = source
        .imported
        .first()
        .map_or(source.text.len(), |(start, _)| *start);
    let foreign = script.experiments.iter().find(|e| e.span.start as usize >= first);
    diagnostics.extend(foreign.map(|e| Diagnostic::error(e.span, "an experiment can't be imported")));
    let unwarned = args.quiet || args.no_warnings;
    if !report(&diagnostics, &source, unwarned) {
        return Ok(2);
    }
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let variables = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
    script::from_environment(&mut script, variables).map_err(Usage)?;
    if dumped(args, Stage::Ast, || script::print::print(&script))? {
        return Ok(0);
    }
    let experiment = match experiment::prepare(&script, &source.name, &source.text, &parameters.words) {
        Ok(experiment) => experiment,
        Err(Refusal::Help(text)) => {
            return show(&text);
        }
        Err(Refusal::Wrong(text)) => {
            eprint!("{text}");
            return Ok(2);
        }
    };
    if let Some(experiment) = &experiment
        && args.dump.is_none()
        && !args.dry_run
    {
        experiment.check()?;
    }
    if let Some(pid) = args.pid
        && !process::alive(pid)
    {
        return Err(Usage(format!("-p {pid}: there is no such process")).into());
    }

    for line in maps::raise_limits() {
        if args.verbose {
            notice(args, &line);
        }
    }
    let env = MachineEnv::new(args.pid)
        .with_parameters(parameters.named.clone())
        .with_command(args.command.is_some())
        .with_failures(args.failures);
    let features = env.codegen_features()?;
    let compiled = match script::compile(&script, &env) {
        Ok(compiled) => compiled,
        Err(diagnostics) => {
            report(&diagnostics, &source, unwarned);
            return Ok(2);
        }
    };
    if !unwarned {
        for note in &compiled.warnings {
            eprint!("{}", source.warning(note.span, &note.message));
        }
    }
    if !args.allow_unsafe && !compiled.dangerous.is_empty() {
        for note in &compiled.dangerous {
            eprint!("{}", source.error(note.span, &note.message));
        }
        return Ok(2);
    }
    // An experiment has read its own.
    if experiment.is_none() {
        unknown_options(&parameters, &compiled)?;
    }
    let ir = || {
        let programs: Vec<String> = compiled.probes.iter().map(|p| p.program.to_string()).collect();
        programs.join("\n")
    };
    if dumped(args, Stage::Types, || types(&compiled))? || dumped(args, Stage::Ir, ir)? {
        return Ok(0);
    }
    let features = CodegenFeatures {
        session: compiled
            .sees_both_moments()
            .then(|| env.session_functions())
            .flatten(),
        ..features.clone()
    };
    let objects = match load::generate(&compiled, &features) {
        Ok(objects) => objects,
        Err(error) => return generated(error, &source),
    };
    let asm = || {
        let probes = compiled.probes.iter().zip(&objects);
        let each: Vec<String> = probes
            .map(|(p, object)| format!("{}:\n{}", p.targets[0].name, object.disassemble()))
            .collect();
        each.join("\n")
    };
    if dumped(args, Stage::Asm, asm)? {
        return Ok(0);
    }
    if compiled.probes.is_empty() {
        eprintln!("ktrail: {}: no probe is left to attach", source.name);
        return Ok(1);
    }
    if matches!(args.dump, Some(Stage::Verifier | Stage::All)) {
        let (log, result) = Loaded::explained(&compiled, objects, &env);
        let silent = log.is_empty();
        dumped(args, Stage::Verifier, || log)?;
        return result
            .map(|()| 0)
            .or_else(|error| refused(error, &source, silent));
    }
    let result = run(args, &source, &compiled, &env, objects, experiment.as_ref());
    result.or_else(|error| refused(error, &source, args.verbose))
}

/// The script's text and its parameters.
fn script_text(args: &Args) -> anyhow::Result<(Source, Vec<String>)> {
    if let Some(text) = &args.execute {
        let source = Source {
            name: "stdin".into(),
            text: text.clone(),
            imported: vec![],
        };
        return Ok((source, args.words.clone()));
    }
    let Some((file, rest)) = args.words.split_first() else {
        return Err(Usage("what to run? Name a file, or give a program with -e".into()).into());
    };
    let (name, bytes) = match file.as_str() {
        "-" => {
            let mut bytes = Vec::new();
            io::stdin()
                .lock()
                .read_to_end(&mut bytes)
                .context("standard input")?;
            ("stdin", bytes)
        }
        path => {
            let bytes = std::fs::read(path).map_err(|e| Usage(format!("{path}: {e}")))?;
            (path, bytes)
        }
    };
    let text = String::from_utf8(bytes).map_err(|e| Usage(format!("{name}: {e}")))?;
    let source = Source {
        name: name.into(),
        text,
        imported: vec![],
    };
    Ok((source, rest.to_vec()))
}

/// What the user gives to the script.
struct Parameters {
    /// All of them, as they were typed.
    words: Vec<String>,
    /// `$1` and so on.
    positional: Vec<String>,
    /// `--name=value`, and `--name`, which is true.
    named: Vec<(String, String)>,
}

impl Parameters {
    fn new(words: Vec<String>) -> Parameters {
        let words: Vec<String> = words.into_iter().filter(|word| word != "--").collect();
        let mut parameters = Parameters {
            words: words.clone(),
            positional: vec![],
            named: vec![],
        };
        for word in words {
            match word.strip_prefix("--") {
                Some(option) => {
                    let (name, value) = option.split_once('=').unwrap_or((option, "true"));
                    parameters.named.push((name.into(), value.into()));
                }
                _ => parameters.positional.push(word),
            }
        }
        parameters
    }
}

/// An option that the script doesn't ask for was mistyped.
fn unknown_options(parameters: &Parameters, compiled: &Compiled) -> anyhow::Result<()> {
    let known = |name: &str| compiled.options.iter().any(|o| o.name == name);
    let Some((name, _)) = parameters.named.iter().find(|(name, _)| !known(name)) else {
        return Ok(());
    };
    let mut message = match compiled.options.is_empty() {
        true => format!("--{name}: this script has no options"),
        false => format!("--{name}: this script's options are"),
    };
    for option in &compiled.options {
        let (name, default) = (&option.name, &option.default);
        message.push_str(&format!("\n  --{name}={default}  {}", option.description));
    }
    Err(Usage(message).into())
}

/// Show what is wrong; true if nothing of it is an error.
fn report(diagnostics: &[Diagnostic], source: &Source, quiet: bool) -> bool {
    let mut shown: Vec<&Diagnostic> = diagnostics.iter().filter(|d| d.is_error() || !quiet).collect();
    shown.sort_by_key(|d| (d.span.start, d.span.end));
    for diagnostic in shown {
        eprint!("{}", source.render(diagnostic));
    }
    !diagnostics.iter().any(Diagnostic::is_error)
}

fn notice(args: &Args, line: &str) {
    if !args.quiet {
        eprintln!("ktrail: {line}");
    }
}

/// Print what was asked for.
fn show(text: &str) -> anyhow::Result<u8> {
    say::stdout(text)?;
    Ok(0)
}

/// Show what the script is at a stage, with `-d all` below the stage's name, if that was asked for. True if nothing else was.
fn dumped(args: &Args, stage: Stage, text: impl FnOnce() -> String) -> anyhow::Result<bool> {
    let all = args.dump == Some(Stage::All);
    if all && let Some(name) = stage.to_possible_value() {
        show(&format!("--- {}\n", name.get_name()))?;
    }
    if all || args.dump == Some(stage) {
        show(&text())?;
    }
    Ok(args.dump == Some(stage))
}

/// `-d types`: what the maps hold.
fn types(compiled: &Compiled) -> String {
    let map = |map: &MapInfo| match &map.key {
        Some(key) => format!("{}[{key}]: {:?}\n", map.name, map.value),
        None => format!("{}: {:?}\n", map.name, map.value),
    };
    compiled.maps.iter().map(map).collect()
}

/// Code that could not be generated: at its place in the script.
fn generated(error: ktrail_ebpf::codegen::Error, source: &Source) -> anyhow::Result<u8> {
    use ktrail_ebpf::codegen::Error;
    match &error {
        Error::Unsupported { span, .. } | Error::Invalid { span, .. } => {
            eprint!("{}", source.error(*span, &error.to_string()));
            Ok(1)
        }
        _ => Err(error.into()),
    }
}

/// What the verifier refused: at its place in the script.
fn refused(error: anyhow::Error, source: &Source, verbose: bool) -> anyhow::Result<u8> {
    let Some(load) = error.chain().find_map(|e| e.downcast_ref::<LoadError>()) else {
        return Err(error);
    };
    eprint!("{}", source.error(load.span, &format!("{error:#}")));
    if verbose {
        eprintln!("{}", load.log.trim_end());
    }
    Ok(1)
}

fn run(
    args: &Args,
    source: &Source,
    compiled: &Compiled,
    env: &MachineEnv,
    objects: Vec<ktrail_ebpf::codegen::Object>,
    experiment: Option<&Prepared>,
) -> anyhow::Result<u8> {
    let mut loaded = Loaded::new(compiled, objects)?;
    if args.dry_run {
        loaded.attach(env)?;
        for note in &loaded.notes {
            notice(args, note);
        }
        notice(
            args,
            &format!("{} probes attached and detached again", loaded.count),
        );
        loaded.detach();
        return Ok(0);
    }
    let out: Box<dyn Write> = match &args.output {
        Some(path) => Box::new(create(path)?),
        None => Box::new(io::stdout()),
    };
    let format = match args.format {
        FormatArg::Text => OutputFormat::Text,
        FormatArg::Json => OutputFormat::Json,
    };
    let stacks = compiled.stacks.iter().map(|s| (s.depth, s.decl.name.clone()));
    let names = MachineNames::new(
        env.symbols().clone(),
        Rc::clone(&loaded.maps),
        stacks.collect(),
        compiled.probe_names.clone(),
    );
    let decoder = Decoder {
        names: &names,
        types: env.machine_types(),
        trailer: &compiled.config.str_trunc_trailer,
    };
    if let Some(experiment) = experiment {
        return experiment::run(experiment, &mut loaded, compiled, env, &decoder).map(|()| 0);
    }
    let actor = Actor {
        compiled,
        maps: Rc::clone(&loaded.maps),
        decoder,
        source,
        out: Output::new(BufWriter::new(out), format),
        captures: Captures::default(),
        debug: args.verbose,
        clock: WallClock::measure(),
    };
    let until = Until {
        command: args.command.clone(),
        pid: args.pid,
    };
    let options = session::Options {
        quiet: args.quiet,
        full_buffers: args.buffering == Buffering::Full,
        ready_file: args.ready_file.clone(),
    };
    session::run(&mut loaded, compiled, env, actor, until, &options)
}

fn create(path: &Path) -> anyhow::Result<File> {
    Ok(File::create(path).map_err(|e| Usage(format!("-o {}: {e}", path.display())))?)
}
