//! A run of `ktrail trace`: from the first report to the summary.
//!
//! Deliberately absent: what is attached and how ([`super::session`]), what events add up to ([`super::pipeline`]),
//! and what things look like ([`super::render`]).

use std::collections::BTreeMap;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::decode::{decode, decode_beneath};
use super::folded::{Folded, Folding};
use super::governor::Governor;
use super::pipeline::{Pace, Pipeline};
use super::program::Stat;
use super::record;
use super::recording::Recorder;
use super::render::Renderer;
use super::session::{Coverage, Session};
use super::summary::{Attached, Cost, Counted, Skipped, Summary};
use crate::kernel::process::{allow_huge_pages, yield_to_others};
use crate::kernel::signals;
use crate::kernel::time::monotonic;
use crate::tui::output::Output;

/// When a run ends, beside Ctrl-C and SIGTERM, and who is told when it begins.
#[derive(Default)]
pub struct Until<'a> {
    /// When this many packets' journeys have been printed.
    pub count: Option<u64>,
    /// When this command has ended, and the packets that it left on their way have arrived or had [`GRACE`].
    pub command: &'a [String],
    /// Where the command's output goes, if not to this process's; then it has no input, either.
    pub output: Option<&'a Output>,
    /// What tracing may cost, per cent of one CPU: for a session that was started with
    /// [`super::session::Request::watch`].
    pub max_cost: Option<f64>,
}

/// How long packets that are on their way when the command ends get to arrive.
pub const GRACE: Duration = Duration::from_millis(500);

/// How often held-back events are looked after.
const TICK: Duration = Duration::from_millis(20);

/// How many reports are taken from the ring at once, so that a busy ring can't keep the run from ending.
const BATCH: usize = 4096;

/// Follow packets until it is time to end; print them; print the summary. `ready` is called once the programs
/// report and everything is attached.
///
/// # Errors
/// When output can't be written, or the command can't be started.
pub fn run(
    session: &mut Session,
    until: &Until<'_>,
    pace: Pace,
    recorder: Option<Recorder>,
    ready: &dyn Fn(&Session) -> anyhow::Result<()>,
    out: Box<dyn Renderer>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let pipeline = Pipeline::new(session.points(), out, pace)
        .stop_after(until.count)
        .record(recorder);
    let folded = session.folds().then(Folded::default);
    let mut run = Run {
        session,
        folded,
        pipeline,
        lost: 0,
        delivered: 0,
        malformed: 0,
        governor: until.max_cost.map(|budget| (budget, Governor::new(budget))),
        governs: true,
    };
    let result = runtime.block_on(run.follow(until, ready));
    // Whatever happened: nothing reports any more before the last reports are read.
    run.session.disable()?;
    run.session.stop_attaching();
    result?;
    run.finish()
}

struct Run<'a> {
    session: &'a mut Session,
    /// Where journeys are folded in the kernel, what comes up.
    folded: Option<Folded>,
    pipeline: Pipeline<Box<dyn Renderer>>,
    /// What the programs had counted as lost when last asked.
    lost: u64,
    /// Reports taken from the ring.
    delivered: u64,
    /// Reports that could not be decoded.
    malformed: u64,
    /// And its budget.
    governor: Option<(f64, Governor)>,
    /// The governor has not failed.
    governs: bool,
}

impl Run<'_> {
    async fn follow(
        &mut self,
        until: &Until<'_>,
        ready: &dyn Fn(&Session) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ring = self.session.ring().watch()?;

        self.session.enable()?;
        let mut complete = self.session.look_after_attaching();
        if complete {
            ready(self.session)?;
        }
        let mut child = start(until)?;
        // After the command has started, which shall not inherit it.
        yield_to_others();
        let mut deadline = None;
        loop {
            tokio::select! {
                readable = ring.readable() => {
                    self.read(BATCH)?;
                    // Edge-triggered: what came in since is seen at the next tick.
                    readable?.clear_ready();
                }
                _ = tick.tick() => {
                    // One that came before there was somebody to wait for it, or SIGHUP.
                    if signals::noted().is_some() {
                        break;
                    }
                    self.read(BATCH)?;
                    self.pipeline.advance(monotonic())?;
                    self.govern();
                    if !complete && self.session.look_after_attaching() {
                        complete = true;
                        ready(self.session)?;
                    }
                }
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                status = ended(&mut child) => {
                    let status = status?;
                    if !status.success() {
                        self.pipeline.notice(&format!("{} ended with {status}", until.command[0]));
                    }
                    self.read(BATCH)?;
                    deadline = Some(Instant::now() + GRACE);
                    child = None;
                }
            }
            let arrived = deadline.is_some_and(|at| self.idle() || Instant::now() >= at);
            if arrived || self.pipeline.done() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// See whether tracing costs too much, and do something about it.
    fn govern(&mut self) {
        let Some((budget, governor)) = self.governor.as_mut().filter(|_| self.governs) else {
            return;
        };
        match governor.advance(self.session, monotonic()) {
            Ok(None) => {}
            Ok(Some(act)) => {
                let line = act.line(*budget, self.session.points());
                self.pipeline.notice(&line);
            }
            // Journeys are worth more than the budget.
            Err(error) => {
                self.governs = false;
                self.pipeline
                    .notice(&format!("--max-cost is no longer looked after: {error:#}"));
            }
        }
    }

    /// No packet is known to be on its way.
    fn idle(&self) -> bool {
        match self.folded {
            Some(_) => self.session.following().is_ok_and(|skbs| skbs == 0),
            None => self.pipeline.idle(),
        }
    }

    /// Take up to `max` reports from the ring.
    fn read(&mut self, max: usize) -> anyhow::Result<()> {
        let Run {
            session,
            folded,
            pipeline,
            delivered,
            malformed,
            ..
        } = self;
        *delivered += session.read(max, |bytes, places| {
            if let Some(folded) = folded {
                *malformed += u64::from(folded.take(bytes, places).is_err());
                return;
            }
            let event = match bytes.len() == record::BENEATH_SIZE as usize {
                true => decode_beneath(bytes, |ip| places.find(ip), |point| places.returns(point)),
                false => decode(bytes, &places.extras, |ip| places.find(ip), |ip| places.reads(ip)),
            };
            match event {
                Ok(event) => pipeline.push(event),
                Err(_) => *malformed += 1,
            }
        }) as u64;
        let lost = self.session.stat(Stat::Lost)?;
        if lost > self.lost {
            if self.folded.is_none() {
                self.pipeline.lost(lost - self.lost);
            }
            self.lost = lost;
        }
        Ok(())
    }

    /// No more reports come: print what is left, and the summary.
    fn finish(mut self) -> anyhow::Result<()> {
        self.read(usize::MAX)?;
        // A program that was between counting and reporting when it was switched off.
        let mut patience = 10;
        while patience > 0 && self.session.stat(Stat::Produced)? != self.delivered + self.lost {
            std::thread::sleep(Duration::from_millis(1));
            self.read(usize::MAX)?;
            patience -= 1;
        }
        let counted = Counted {
            produced: self.session.stat(Stat::Produced)?,
            delivered: self.delivered,
            recursion: self.session.missed(),
            unfollowed: self.session.stat(Stat::Unfollowed)?,
            reused: self.session.stat(Stat::Reused)?,
            malformed: self.malformed,
            unreturned: (self.session.stat(Stat::Calls)?).saturating_sub(self.session.stat(Stat::Returns)?),
        };
        let points = self.session.points();
        let cost = self
            .governor
            .map(|(_, governor)| governor.finish(self.session, monotonic(), points));
        let attached = attached(self.session, cost.transpose()?);
        let Some(folded) = self.folded else {
            self.pipeline.finish(attached, counted)?;
            return Ok(());
        };
        let [kinds, under_way] = self.session.folded()?;
        let stat = |stat| self.session.stat(stat);
        let folding = Folding {
            unreported: stat(Stat::Lost)?,
            tangled: stat(Stat::Tangled)?,
            unclassed: stat(Stat::Unclassed)?,
            unaccounted: stat(Stat::Journeys)?.cast_signed(),
            stray: stat(Stat::Stray)?,
            ..Folding::default()
        };
        let summary = Summary {
            attached,
            counted,
            ..Summary::default()
        };
        self.pipeline
            .finish_folded(points, folded, (&kinds, &under_way), summary, folding)?;
        Ok(())
    }
}

/// What the summary says of what was attached.
fn attached(session: &Session, cost: Option<Cost>) -> Attached {
    let Coverage {
        functions,
        tracepoints,
        skipped,
    } = &session.coverage;
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    for skipped in skipped {
        *reasons.entry(skipped.reason.to_string()).or_default() += 1;
    }
    Attached {
        backend: session.backend.name().into(),
        functions: *functions as u64,
        tracepoints: *tracepoints as u64,
        skipped: reasons
            .into_iter()
            .map(|(reason, count)| Skipped { reason, count })
            .collect(),
        cost,
    }
}

/// Start the command, if there is one.
fn start(until: &Until<'_>) -> anyhow::Result<Option<Child>> {
    let Some((program, args)) = until.command.split_first() else {
        return Ok(None);
    };
    let mut command = Command::new(program);
    command.args(args).kill_on_drop(true);
    if let Some(output) = until.output {
        let (stdout, stderr) = output.streams()?;
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    }
    // The command shall find the machine as it is.
    allow_huge_pages(true);
    let child = command.spawn();
    allow_huge_pages(false);
    Ok(Some(child.with_context(|| format!("can't run {program:?}"))?))
}

/// Waits for the command to end; for ever if there is none.
async fn ended(child: &mut Option<Child>) -> std::io::Result<ExitStatus> {
    match child {
        Some(child) => child.wait().await,
        None => std::future::pending().await,
    }
}
