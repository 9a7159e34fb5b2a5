//! From a script with an `experiment` block to its results: what `ktrail run` calls for one.
//!
//! The script's probes are attached all the while; its maps are read, and what it prints is not.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ktrail_ebpf::script::Diagnostic;
use ktrail_ebpf::script::ast::Script;
use ktrail_ebpf::script::output::{Compiled, STATE_CHILD, STATE_EPOCH, STATE_START, ValueTy};

use super::block::{self, Experiment};
use super::engine::{self, Probes, Total, Watcher};
use super::parameters::{self, Refusal, Settings};
use super::report::{self, About};
use super::workload::Stop;
use crate::kernel::time::{WallClock, monotonic};
use crate::run::decode::Decoder;
use crate::run::env::MachineEnv;
use crate::run::format::{Content, Value};
use crate::run::load::Loaded;
use crate::run::tables::Table;
use crate::say;

/// An experiment that has been read and found right, with the parameters of the command line.
#[derive(Debug)]
pub struct Prepared {
    experiment: Experiment,
    settings: Settings,
    folder: PathBuf,
}

/// Reads the script's experiment, if it has one. `file` is the script's name in messages and in the folder's.
///
/// # Errors
/// What is wrong with the block, with its place, or with the arguments; or the help that they ask for.
pub fn prepare(
    script: &Script,
    file: &str,
    text: &str,
    args: &[String],
) -> Result<Option<Prepared>, Refusal> {
    let Some(block) = script.experiments.first() else {
        return Ok(None);
    };
    if let Some(second) = script.experiments.get(1) {
        let error = Diagnostic::error(second.span, "a script has one experiment at most");
        return Err(Refusal::Wrong(error.render(file, text)));
    }
    let mut experiment = block::parse(block).map_err(|error| Refusal::Wrong(error.render(file, text)))?;
    // A `--` that set them apart from ktrail's own options came through.
    let args = args.strip_prefix(&["--".to_owned()]).unwrap_or(args);
    let settings = parameters::apply(&mut experiment, args)?;
    let folder = settings
        .output
        .clone()
        .unwrap_or_else(|| report::folder(Path::new(file)));
    Ok(Some(Prepared {
        experiment,
        settings,
        folder,
    }))
}

impl Prepared {
    /// Fails for what can be known without touching anything, before the time that it takes to attach the script.
    ///
    /// # Errors
    /// What is missing or in the way.
    pub fn check(&self) -> anyhow::Result<()> {
        engine::check(&self.experiment)
    }
}

/// A script whose probes are attached.
struct Attached<'a> {
    loaded: &'a Loaded,
    compiled: &'a Compiled,
    decoder: &'a Decoder<'a>,
}

impl Probes for Attached<'_> {
    fn total(&mut self, name: &str) -> anyhow::Result<Total> {
        let info = self.compiled.maps.iter().find(|info| info.name == name);
        let map = info.and_then(|info| self.loaded.maps.get(&info.decl.name));
        let (Some(info), Some(map)) = (info, map) else {
            anyhow::bail!("the experiment samples {name}, which no probe sets");
        };
        if !matches!(info.value, ValueTy::Stats { .. }) || info.key.is_some() {
            anyhow::bail!("the experiment samples {name}, which must be set by stats(), without keys");
        }
        match (Table { info, map }).content(self.decoder)? {
            Content::Scalar(Value::Stats(stats)) => Ok(Total {
                count: stats.count,
                sum: stats.total,
            }),
            _ => anyhow::bail!("{name} does not hold what stats() sets"),
        }
    }
}

/// Runs the experiment, writes its folder and prints the answers.
///
/// # Errors
/// The kernel's and the programs'; an interruption too, after what was measured has been written.
pub fn run(
    prepared: &Prepared,
    loaded: &mut Loaded,
    compiled: &Compiled,
    env: &MachineEnv,
    decoder: &Decoder<'_>,
) -> anyhow::Result<()> {
    let Prepared {
        experiment,
        settings,
        folder,
    } = prepared;
    let stop = Stop::on_signals()?;
    let _reserved = report::reserve(folder)?;
    loaded.set_state(STATE_START, monotonic())?;
    loaded.set_state(STATE_CHILD, 0)?;
    loaded.set_state(STATE_EPOCH, WallClock::measure().offset() as u64)?;
    loaded.run_begin()?;
    loaded.attach(env)?;
    for note in &loaded.notes {
        eprintln!("ktrail: {note}");
    }
    let mut progress = Progress {
        terminal: std::io::stderr().is_terminal(),
    };
    let measured = {
        let mut probes = Attached {
            loaded,
            compiled,
            decoder,
        };
        if let Some(sample) = &experiment.sample {
            probes.total(&sample.map)?;
        }
        engine::run(experiment, settings, &mut probes, &mut progress, &stop)
    };
    loaded.detach();
    progress.end();
    let measured = measured?;
    let answers = report::write(
        folder,
        experiment,
        &measured,
        &About {
            backend: &probes(compiled),
        },
    )?;
    let told = say::stdout(&format!(
        "{}Results are in {}\n",
        answers.text(),
        folder.display()
    ));
    match (&measured.ended, measured.left_behind.is_empty()) {
        (None, true) => Ok(told?),
        (Some(why), true) => {
            anyhow::bail!(
                "{why}: the results are of what was measured before; everything that was made is removed"
            )
        }
        (why, false) => anyhow::bail!(
            "{}left behind: {}; `ktrail clean` tries again",
            why.as_ref().map(|why| format!("{why}; ")).unwrap_or_default(),
            measured.left_behind.join(", ")
        ),
    }
}

/// Where the script is attached: "kprobe:nf_hook_slow, kretprobe:nf_hook_slow".
fn probes(compiled: &Compiled) -> String {
    let targets = compiled.probes.iter().flat_map(|probe| &probe.targets);
    targets
        .map(|target| target.name.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}

/// Says on stderr what was measured and how long it will still take.
struct Progress {
    terminal: bool,
}

impl Watcher for Progress {
    fn progress(&mut self, done: &str, left: Duration) {
        let left = humantime::format_duration(Duration::from_secs(left.as_secs()));
        let mut out = std::io::stderr().lock();
        // Who can't read the progress still gets the results.
        let _ = if self.terminal {
            write!(out, "\r\x1b[2K{done}; {left} left").and_then(|()| out.flush())
        } else {
            writeln!(out, "{done}; {left} left")
        };
    }
}

impl Progress {
    fn end(&self) {
        if self.terminal {
            // The terminal may be gone, which is no reason to lose the results.
            let _ = writeln!(std::io::stderr());
        }
    }
}
