//! A run of a script: BEGIN, events until it is time to end, END, maps.
//!
//! Records come through two rings, one for output and a small one for control actions, and are acted on in the order
//! of their times. A record may reach us a little after a later one; so those that are younger than [`SETTLE`] wait.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use ktrail_ebpf::script::output::{
    CONTROL, Compiled, ERRORS, EVENTS, ErrorKind, STATE_CHILD, STATE_EPOCH, STATE_EXITING, STATE_START,
};
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::env::MachineEnv;
use super::events::{Actor, Next, Record};
use super::load::Loaded;
use crate::kernel::process;
use crate::kernel::ring::Ring;
use crate::kernel::time::{WallClock, monotonic};

/// How long records wait for others that are older but slower.
const SETTLE: Duration = Duration::from_millis(2);
/// How often waiting records and the process of `-p` are looked after.
const TICK: Duration = Duration::from_millis(10);
/// How many ticks between two looks at what was lost.
const LOSSES_EVERY: u32 = 50;
/// How many records are taken from a ring at once, so that a busy ring can't keep the run from ending.
const BATCH: usize = 16 << 10;

/// When a run ends, beside exit(), Ctrl-C and SIGTERM.
#[derive(Default)]
pub struct Until {
    /// When this command has ended, which runs once everything is attached.
    pub command: Option<String>,
    /// When this process has ended.
    pub pid: Option<u32>,
}

/// What a run is told beside the script.
pub struct Options {
    /// Say nothing on stderr that is not an error.
    pub quiet: bool,
    /// Output is written when there is much of it, not with each batch of events.
    pub full_buffers: bool,
    /// A file to create once everything is attached, for scripts that wait.
    pub ready_file: Option<PathBuf>,
}

/// Run a script that is loaded; its exit code.
///
/// # Errors
/// When the kernel refuses something, or output can't be written.
pub fn run<W: Write>(
    loaded: &mut Loaded,
    compiled: &Compiled,
    env: &MachineEnv,
    actor: Actor<'_, W>,
    until: Until,
    options: &Options,
) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut run = Run {
        events: open(loaded, EVENTS)?,
        control: open(loaded, CONTROL)?,
        loaded,
        compiled,
        env,
        actor,
        waiting: Vec::new(),
        exit: None,
        bound: u64::MAX,
        lost: 0,
        options,
    };
    let result = runtime.block_on(run.follow(until));
    // Whatever happened: nothing fires any more before END runs.
    run.loaded.detach();
    result?;
    run.finish()
}

fn open(loaded: &Loaded, name: &str) -> anyhow::Result<Option<Ring>> {
    Ok(loaded.maps.get(name).map(Ring::open).transpose()?)
}

struct Run<'a, W: Write> {
    loaded: &'a mut Loaded,
    compiled: &'a Compiled,
    env: &'a MachineEnv,
    actor: Actor<'a, W>,
    events: Option<Ring>,
    control: Option<Ring>,
    /// Records that were read but not acted on.
    waiting: Vec<Record>,
    /// The code of exit() and its time, once it was called.
    exit: Option<(u8, u64)>,
    /// There is more in a ring than was read: what is younger than this may not be acted on yet.
    bound: u64,
    /// Events that were lost when last asked.
    lost: u64,
    options: &'a Options,
}

impl<W: Write> Run<'_, W> {
    async fn follow(&mut self, until: Until) -> anyhow::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        // Else it ends the run at once, as it does any process.
        let mut user = match self.loaded.takes_signal() {
            true => Some(signal(SignalKind::user_defined1())?),
            false => None,
        };
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let events = self.events.as_ref().map(Ring::watch).transpose()?;
        let control = self.control.as_ref().map(Ring::watch).transpose()?;

        let mut running = until.command.as_deref().map(hold).transpose()?;
        let child = running.as_ref().and_then(Child::id);
        self.loaded.set_state(STATE_START, monotonic())?;
        self.loaded.set_state(STATE_CHILD, child.unwrap_or(0).into())?;
        self.loaded
            .set_state(STATE_EPOCH, WallClock::measure().offset() as u64)?;
        self.loaded.run_begin()?;
        let exiting = self.loaded.state(STATE_EXITING) != 0;
        if !exiting {
            self.loaded.attach(self.env)?;
        }
        self.attached()?;
        if let Some(child) = child {
            process::resume(child)?;
        }
        if !exiting {
            self.loaded.run_iterators()?;
        }
        let waits = self.loaded.waits() || child.is_some();
        if exiting || !waits {
            return Ok(());
        }
        let mut ticks = 0;
        loop {
            tokio::select! {
                () = readable(events.as_ref()) => self.read(BATCH)?,
                () = readable(control.as_ref()) => self.read(BATCH)?,
                _ = tick.tick() => {
                    ticks += 1;
                    self.read(BATCH)?;
                    if ticks % LOSSES_EVERY == 0 {
                        self.losses()?;
                    }
                    if until.pid.is_some_and(|pid| !process::alive(pid)) {
                        return Ok(());
                    }
                }
                _ = interrupt.recv() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
                _ = hangup.recv() => return Ok(()),
                () = came(&mut user) => {
                    self.loaded.run_signal()?;
                    self.read(BATCH)?;
                }
                status = ended(&mut running) => {
                    let status = status?;
                    if !status.success() && !self.options.quiet {
                        eprintln!("ktrail: the command ended with {status}");
                    }
                    return Ok(());
                }
            }
            self.act(monotonic().saturating_sub(SETTLE.as_nanos() as u64))?;
            if !self.options.full_buffers {
                self.actor.out.flush()?;
            }
            if self.exit.is_some() {
                return Ok(());
            }
        }
    }

    /// Say that everything is attached.
    fn attached(&mut self) -> anyhow::Result<()> {
        let count = self.loaded.count;
        if !self.options.quiet {
            for note in &self.loaded.notes {
                eprintln!("ktrail: {note}");
            }
            if self.actor.is_text() {
                eprintln!("Attached {count} probe{}", if count == 1 { "" } else { "s" });
            }
        }
        self.actor.out.attached(count)?;
        self.actor.out.flush()?;
        if let Some(path) = &self.options.ready_file {
            std::fs::write(path, "")?;
        }
        Ok(())
    }

    /// Take up to `max` records from each ring.
    fn read(&mut self, max: usize) -> anyhow::Result<()> {
        // Control first: what is then found in the other ring may be older or younger, but nothing older than a
        // control action that is here can still be missing for long.
        let Run {
            events,
            control,
            waiting,
            bound,
            ..
        } = self;
        *bound = u64::MAX;
        for ring in [control, events].into_iter().flatten() {
            let count = ring.drain_some(max, |bytes| waiting.extend(Record::new(bytes)));
            if count == max {
                *bound = waiting.last().map_or(*bound, |r| r.time.min(*bound));
            }
        }
        Ok(())
    }

    /// Act on the records that are not younger than `until`, oldest first. Those after an exit() are dropped.
    fn act(&mut self, until: u64) -> anyhow::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let until = until.min(self.bound);
        self.waiting.sort_by_key(|r| r.time);
        let ready = self.waiting.partition_point(|r| r.time <= until);
        for record in self.waiting.drain(..ready) {
            match self.exit {
                Some((_, end)) if record.time > end => break,
                _ => {}
            }
            if let Next::Exit(code) = self.actor.act(&record)? {
                self.exit.get_or_insert((code, record.time));
            }
        }
        Ok(())
    }

    /// Nothing fires any more: END, what is left, maps, losses.
    fn finish(mut self) -> anyhow::Result<u8> {
        self.read(usize::MAX)?;
        self.act(u64::MAX)?;
        let (code, _) = self.exit.take().unwrap_or_default();
        self.waiting.clear();
        self.loaded.run_end()?;
        self.read(usize::MAX)?;
        self.act(u64::MAX)?;
        self.actor.out.end()?;
        if self.compiled.config.print_maps_on_exit {
            self.actor.print_all()?;
        }
        self.losses()?;
        self.actor.out.flush()?;
        self.complain()?;
        Ok(code)
    }

    /// How often each of the script's errors happened.
    fn errors(&self) -> anyhow::Result<Vec<u64>> {
        let Some(map) = self.loaded.maps.get(ERRORS) else {
            return Ok(vec![]);
        };
        let sites = 0..self.compiled.errors.len() as u32;
        Ok(sites.map(|i| map.counter(i)).collect::<Result<_, _>>()?)
    }

    /// Tell of events that were lost since the last look.
    fn losses(&mut self) -> anyhow::Result<()> {
        let sites = self.compiled.errors.iter().zip(self.errors()?);
        let lost = sites
            .filter(|(site, _)| matches!(site.kind, ErrorKind::LostEvent | ErrorKind::LostAction))
            .map(|(_, count)| count)
            .sum();
        if lost > self.lost {
            let new = lost - self.lost;
            self.lost = lost;
            self.actor.out.lost(new)?;
            if self.actor.is_text() {
                eprintln!("Lost {new} events");
            }
        }
        Ok(())
    }

    /// At the end: everything that went wrong while the programs ran, with its place in the source.
    fn complain(&self) -> anyhow::Result<()> {
        // A place that several programs share is told of once.
        let mut counts: BTreeMap<usize, u64> = BTreeMap::new();
        let sites = &self.compiled.errors;
        for (site, count) in sites.iter().zip(self.errors()?) {
            let first = sites.iter().position(|s| s == site);
            *counts.entry(first.unwrap_or_default()).or_default() += count;
        }
        for (index, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            let site = &sites[index];
            let message = match &site.kind {
                ErrorKind::DivisionByZero => format!("divided by zero {count} times; the result was 0"),
                ErrorKind::MapFull(map) => {
                    let name = self.compiled.maps.get(*map).map_or("?", |m| m.name.as_str());
                    format!("map {name} was full: {count} entries were not made; raise max_map_keys")
                }
                ErrorKind::SpanFull => {
                    format!("{count} calls were not measured: too many were under way")
                }
                ErrorKind::StackLost => {
                    format!(
                        "{count} stacks were not kept: others had their places in the table, which grows no more"
                    )
                }
                ErrorKind::LoopBound(most) => format!("the loop was left {count} times after {most} rounds"),
                ErrorKind::Index => format!("the index was out of range {count} times; the result was 0"),
                ErrorKind::Unreadable => {
                    format!("memory could not be read {count} times; the result was 0 or empty")
                }
                ErrorKind::Absent(map) => {
                    let name = self.compiled.maps.get(*map).map_or("?", |m| m.name.as_str());
                    format!("{name} had no such entry {count} times; the result was 0 or empty")
                }
                ErrorKind::LostEvent => format!("{count} events were lost here: the ring was full"),
                ErrorKind::LostAction => format!("{count} actions were lost here: the ring was full"),
            };
            eprint!("{}", self.actor.source.warning(site.span, &message));
        }
        if self.lost > 0 {
            eprintln!("WARNING: Total lost event count: {}", self.lost);
        }
        Ok(())
    }
}

/// Start a command that waits to be resumed.
fn hold(text: &str) -> anyhow::Result<Child> {
    let child = Command::from(process::held(text)).kill_on_drop(true).spawn()?;
    if let Some(pid) = child.id() {
        process::wait_until_held(pid)?;
    }
    Ok(child)
}

/// Waits until a ring has something; for ever if there is no ring.
async fn readable<T: std::os::fd::AsRawFd>(ring: Option<&AsyncFd<T>>) {
    match ring {
        Some(ring) => match ring.readable().await {
            // Cleared before reading: what comes in later wakes us again.
            Ok(mut guard) => guard.clear_ready(),
            Err(_) => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

/// Waits for a signal; for ever if there is none to wait for.
async fn came(signal: &mut Option<Signal>) {
    if let Some(signal) = signal
        && signal.recv().await.is_some()
    {
        return;
    }
    std::future::pending().await
}

/// Waits for the command to end; for ever if there is none.
async fn ended(child: &mut Option<Child>) -> std::io::Result<ExitStatus> {
    match child {
        Some(child) => child.wait().await,
        None => std::future::pending().await,
    }
}
