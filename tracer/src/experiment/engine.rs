//! Runs an experiment: builds, measures, and takes everything away again.
//!
//! Where the latency comes from is behind [`Probes`]. What is written afterwards is in [`super::report`].

use std::time::{Duration, Instant};

use super::block::{Experiment, Plan, Series};
use super::build::{self, Rules};
use super::history::History;
use super::ledger::{self, Ledger};
use super::parameters::Settings;
use super::results::{Step, Table};
use super::workload::{self, Client, Stop};
use super::{stats, tools};

/// What has been counted in a map of averages since the script began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// How many values.
    pub count: u64,
    /// Their sum.
    pub sum: i128,
}

impl Total {
    /// The average of what came since an earlier reading; none if nothing came.
    pub fn since(self, earlier: Total) -> Option<(f64, u64)> {
        let count = self.count.checked_sub(earlier.count)?;
        (count > 0).then(|| ((self.sum - earlier.sum) as f64 / count as f64, count))
    }
}

/// A running script's maps.
pub trait Probes {
    /// Reads a `stats()` map without keys; zero while nothing has been counted.
    ///
    /// # Errors
    /// The kernel's, or that there is no such map.
    fn total(&mut self, map: &str) -> anyhow::Result<Total>;
}

/// Where progress is told.
pub trait Watcher {
    /// What has just been measured, and the time left.
    fn progress(&mut self, done: &str, left: Duration);
}

/// What was measured.
#[derive(Debug)]
pub struct Measured {
    /// The measurements.
    pub table: Table,
    /// Why it ended before its time, if it did.
    pub ended: Option<String>,
    /// When rules were added, in seconds; of a timeline.
    pub inject: Option<(f64, f64)>,
    /// What could not be removed, and why.
    pub left_behind: Vec<String>,
}

/// Fails for what can be known without touching anything: rights, programs, names, leftovers.
pub fn check(experiment: &Experiment) -> anyhow::Result<()> {
    use std::os::unix::fs::MetadataExt;
    if std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() != 0) {
        anyhow::bail!("an experiment builds namespaces and rules, which takes root: try sudo");
    }
    for program in build::programs(experiment) {
        tools::needed(&program)?;
    }
    if let Some(left) = ledger::leftovers()?.first() {
        let things: Vec<String> = left.items.iter().map(ToString::to_string).collect();
        anyhow::bail!(
            "an earlier run (process {}) was killed and left behind: {}; remove it with: ktrail clean",
            left.pid,
            things.join(", ")
        );
    }
    build::check(&experiment.topology)?;
    Ok(())
}

/// Runs it. Whatever happens, what was made is removed before this returns.
pub fn run(
    experiment: &Experiment,
    settings: &Settings,
    probes: &mut dyn Probes,
    watcher: &mut dyn Watcher,
    stop: &Stop,
) -> anyhow::Result<Measured> {
    check(experiment)?;
    let mut ledger = Ledger::begin()?;
    if !settings.own_server {
        build::build(&experiment.topology, &mut ledger)?;
    }
    let server = experiment.server.as_ref().filter(|_| !settings.own_server);
    let server = server
        .map(|server| workload::serve(server, &mut ledger, stop))
        .transpose()?;
    let mut run = Run {
        experiment,
        probes,
        watcher,
        stop,
        ledger,
    };
    let measured = match experiment.plan {
        Plan::Sweep { .. } => run.sweep(),
        Plan::Timeline { .. } => run.timeline(),
    };
    drop(server);
    let cleared = run.ledger.clear();
    let mut measured = measured?;
    measured.left_behind = cleared.err().unwrap_or_default();
    Ok(measured)
}

struct Run<'a> {
    experiment: &'a Experiment,
    probes: &'a mut dyn Probes,
    watcher: &'a mut dyn Watcher,
    stop: &'a Stop,
    ledger: Ledger,
}

impl Run<'_> {
    fn sweep(&mut self) -> anyhow::Result<Measured> {
        let experiment = self.experiment;
        let mut work = vec![(&experiment.main, experiment.plan.steps())];
        work.extend(
            experiment
                .controls
                .iter()
                .map(|series| (series, experiment.plan.control_steps())),
        );
        let mut left =
            Left::new(work.iter().map(|(_, steps)| steps.len()).sum::<usize>() * experiment.repeat as usize);
        let mut rows = Vec::new();
        let mut ended = None;
        for (series, steps) in work {
            if let Err(error) = self.series(series, &steps, &mut rows, &mut left) {
                ended = Some(worth(error, !rows.is_empty())?);
                break;
            }
        }
        Ok(Measured {
            table: Table::Sweep(rows),
            ended,
            inject: None,
            left_behind: Vec::new(),
        })
    }

    fn series(
        &mut self,
        series: &Series,
        steps: &[u64],
        rows: &mut Vec<Step>,
        left: &mut Left,
    ) -> anyhow::Result<()> {
        let mut rules = Rules::begin(
            series,
            self.experiment.workload.namespace.as_deref(),
            &mut self.ledger,
        )?;
        for &count in steps {
            rules.grow(count)?;
            for repetition in 1..=self.experiment.repeat {
                let mut row = self.step().map_err(|error| or_a_match(error, &rules))?;
                row.series.clone_from(&series.name);
                (row.rules, row.repetition) = (count, repetition);
                let done = format!(
                    "{}, {count} rules: {}",
                    series.name,
                    said(row.throughput_mbit, row.latency_ns)
                );
                rows.push(row);
                self.watcher.progress(&done, left.one_done());
            }
            rules.check_idle()?;
        }
        rules.end(&mut self.ledger)?;
        Ok(())
    }

    /// One measurement.
    fn step(&mut self) -> anyhow::Result<Step> {
        let workload = &self.experiment.workload;
        let before = self.total()?;
        let client = Client::start(workload, workload.seconds, &mut self.ledger)?;
        let report = client.finish(&mut self.ledger, self.stop)?;
        if let Some(why) = report.ended {
            anyhow::bail!("iperf3 ended early: {why}");
        }
        let latency = before
            .zip(self.total()?)
            .and_then(|(before, after)| after.since(before));
        Ok(Step {
            throughput_mbit: report.mbit(),
            retransmits: report.retransmits(),
            window_kb: report.window_kb(),
            latency_ns: latency.map(|(average, _)| average),
            packets: latency.map(|(_, count)| count),
            ..Step::default()
        })
    }

    fn total(&mut self) -> anyhow::Result<Option<Total>> {
        self.experiment
            .sample
            .as_ref()
            .map(|sample| self.probes.total(&sample.map))
            .transpose()
    }

    fn timeline(&mut self) -> anyhow::Result<Measured> {
        let experiment = self.experiment;
        let mut rules = Rules::begin(
            &experiment.main,
            experiment.workload.namespace.as_deref(),
            &mut self.ledger,
        )?;
        let mut history = History::begin(self.total()?);
        let Plan::Timeline { seconds, .. } = experiment.plan else {
            anyhow::bail!("the plan is no timeline");
        };
        let mut client = Client::start(&experiment.workload, seconds, &mut self.ledger)?;
        let followed = self.follow(&mut client, &mut rules, &mut history);
        let end = client.elapsed().min(f64::from(seconds));
        // The last window ends with the workload, a moment before its process does.
        history.end(end, rules.count, self.total()?);
        let (report, ended) = match followed {
            Ok(()) => {
                let report = client.finish(&mut self.ledger, self.stop);
                let report = report.map_err(|error| or_a_match(error.into(), &rules))?;
                let ended = report
                    .ended
                    .as_ref()
                    .map(|why| format!("iperf3 ended early: {why}"));
                (report, ended)
            }
            Err(error) => {
                let error = or_a_match(error, &rules);
                let report = client.cut_off(&mut self.ledger);
                let ended = worth(error, report.is_ok())?;
                (report?, Some(ended))
            }
        };
        rules.check_idle()?;
        rules.end(&mut self.ledger)?;
        Ok(Measured {
            table: Table::Timeline(history.ticks(&report)),
            ended,
            inject: history.injected,
            left_behind: Vec::new(),
        })
    }

    /// Adds rules and reads the latency, each at its time, until the workload ends.
    fn follow(
        &mut self,
        client: &mut Client,
        rules: &mut Rules,
        history: &mut History,
    ) -> anyhow::Result<()> {
        let Plan::Timeline {
            seconds,
            rules: wanted,
            inject,
            window,
        } = self.experiment.plan
        else {
            anyhow::bail!("the plan is no timeline");
        };
        let (from, to) = (f64::from(inject.0), f64::from(inject.1));
        let mut next_window = f64::from(window);
        let mut next_second = 1.0;
        while !client.ended(self.stop)? {
            let now = client.elapsed();
            let second = now >= next_second;
            if second {
                history.second(now, rules.count, self.total()?);
                next_second = now.floor() + 1.0;
            }
            if now >= next_window {
                let latency = history.window(now, self.total()?);
                next_window += f64::from(window);
                let left = Duration::from_secs_f64((f64::from(seconds) - now).max(0.0));
                let done = format!("{now:.0} s, {} rules: {}", rules.count, said(None, latency));
                self.watcher.progress(&done, left);
            }
            // After the readings: they are of the rules that there were.
            let target = (wanted as f64 * ((now - from) / (to - from)).clamp(0.0, 1.0)) as u64;
            if now >= from && target > rules.count && (second || target == wanted) {
                let before = rules.count;
                rules.grow(target)?;
                history.grown(now, client.elapsed(), before, self.total()?);
            }
        }
        Ok(())
    }
}

/// The reason for a run's early end, if what has been measured is worth keeping; else the error itself.
fn worth(error: anyhow::Error, measured: bool) -> anyhow::Result<String> {
    let stopped = matches!(error.downcast_ref(), Some(workload::Error::Stopped));
    if matches!(error.downcast_ref(), Some(build::Error::Matched(_))) {
        return Err(error);
    }
    match (measured, stopped) {
        (true, _) => Ok(format!("{error:#}")),
        (false, true) => Err(error.context("nothing was measured yet, so nothing is written")),
        (false, false) => Err(error),
    }
}

/// A rule that matches the workload makes it fail in many ways: say that it does, rather than how it failed.
fn or_a_match(error: anyhow::Error, rules: &Rules) -> anyhow::Error {
    match rules.check_idle() {
        Err(matched @ build::Error::Matched(_)) => matched.into(),
        _ => error,
    }
}

/// A measurement in a few words.
fn said(mbit: Option<f64>, ns: Option<f64>) -> String {
    let throughput = mbit.map(|v| {
        if v >= 2000.0 {
            format!("{:.2} Gbit/s", v / 1000.0)
        } else {
            format!("{v:.0} Mbit/s")
        }
    });
    let words: Vec<String> = throughput
        .into_iter()
        .chain(ns.map(|v| format!("{v:.0} ns")))
        .collect();
    if words.is_empty() {
        "no latency".into()
    } else {
        words.join(", ")
    }
}

/// How long it will still take.
struct Left {
    todo: usize,
    last: Instant,
    took: Vec<f64>,
}

impl Left {
    fn new(todo: usize) -> Left {
        Left {
            todo,
            last: Instant::now(),
            took: Vec::new(),
        }
    }

    fn one_done(&mut self) -> Duration {
        self.took.push(self.last.elapsed().as_secs_f64());
        self.last = Instant::now();
        self.todo = self.todo.saturating_sub(1);
        Duration::from_secs_f64(stats::mean(&self.took).unwrap_or(0.0) * self.todo as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_average_is_of_what_came_since() {
        let before = Total { count: 10, sum: 1000 };
        assert_eq!(Total { count: 14, sum: 1200 }.since(before), Some((50.0, 4)));
        assert_eq!(before.since(before), None);
    }
}
