//! The governor: what tracing costs, which functions cost most, and which to do without when it is too much.
//!
//! ```text
//!   1/4 s: runs are counted at each point ─▶ 1 s: only programs' times are measured ─▶ …
//!                                               └─ over budget, or each eighth time ─▶ 1/4 s again
//! ```
//!
//! What counts is the time that the kernel measures in the programs themselves, on all CPUs, per cent of one CPU's: as
//! top(1) has it, two busy CPUs are 200 %. A program serves many functions; each is taken to cost its runs times the
//! mean time of the program's. Over budget, the functions that cost most leave first, until what is left is expected to
//! be within it; but none through which a followed packet has gone, and none that journeys can't be followed without.
//!
//! Deliberately absent: what the kernel takes to get to the programs, which it doesn't measure (docs/cost.md has
//! figures), and how functions leave ([`Watched`], which is a session).

use super::event::{Point, PointId, PointKind};
use super::render::escape::escape;
use super::summary::{Cost, CostOf, number};

/// What one program has run since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// Nanoseconds, on all CPUs.
    pub time: u64,
    /// How often.
    pub runs: u64,
}

/// What was counted at one point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Here {
    /// The number of the program that serves it.
    pub program: Option<usize>,
    /// That program's runs here, while they were counted.
    pub runs: u64,
    /// Followed packets' events here, whether or not they were delivered.
    pub followed: u64,
    /// It is attached, can be detached alone, and journeys can be followed without it.
    pub may_go: bool,
}

/// What the governor watches.
pub trait Watched {
    /// What each program has run.
    ///
    /// # Errors
    /// The kernel's.
    fn ran(&self) -> anyhow::Result<Vec<Ran>>;

    /// What was counted at each point, by its number.
    ///
    /// # Errors
    /// The kernel's.
    fn counts(&self) -> anyhow::Result<Vec<Here>>;

    /// Count runs at each point, or don't.
    ///
    /// # Errors
    /// The kernel's.
    fn count_runs(&mut self, on: bool) -> anyhow::Result<()>;

    /// Detach these points, and only them; but those not through which a followed packet has gone by now. Says which
    /// were detached.
    ///
    /// # Errors
    /// The kernel's; some of them may be detached all the same.
    fn release(&mut self, points: &[PointId]) -> anyhow::Result<Vec<PointId>>;
}

/// How long runs are counted, and programs alone are measured: nanoseconds.
const COUNTED: u64 = 250_000_000;
const MEASURED: u64 = 1_000_000_000;

/// Within budget, runs are counted after so many seconds.
const SELDOM: u32 = 8;

/// Points that the summary names as the costliest.
const NAMED: usize = 5;

/// All programs at one time.
#[derive(Clone, Debug, Default)]
struct Reading {
    time: u64,
    ran: Vec<Ran>,
}

impl Reading {
    fn take(watched: &dyn Watched, now: u64) -> anyhow::Result<Reading> {
        let ran = watched.ran()?;
        Ok(Reading { time: now, ran })
    }

    /// Per cent of one CPU, since `before`.
    fn percent_since(&self, before: &Reading) -> f64 {
        let total = |reading: &Reading| reading.ran.iter().map(|ran| ran.time).sum::<u64>();
        let elapsed = self.time.saturating_sub(before.time);
        match elapsed {
            0 => 0.0,
            _ => total(self).saturating_sub(total(before)) as f64 * 100.0 / elapsed as f64,
        }
    }

    /// The mean time of a program's runs since `before`, in nanoseconds.
    fn mean_since(&self, before: &Reading, program: usize) -> f64 {
        let of = |reading: &Reading| reading.ran.get(program).copied().unwrap_or_default();
        let (now, before) = (of(self), of(before));
        match now.runs.saturating_sub(before.runs) {
            0 => 0.0,
            runs => now.time.saturating_sub(before.time) as f64 / runs as f64,
        }
    }
}

/// What happens next, and when it began.
enum Phase {
    /// Nothing has been measured yet.
    New,
    /// Programs are measured.
    Measuring(Reading),
    /// Runs are counted, too.
    Counting {
        began: Reading,
        before: Vec<Here>,
        /// What tracing cost before, per cent.
        cost: f64,
    },
}

/// What the governor has done, for whoever looks on.
#[derive(Clone, Debug, PartialEq)]
pub struct Act {
    /// What tracing cost, per cent of one CPU.
    pub cost: f64,
    /// What was detached, the costliest first; empty if nothing is left that may go.
    pub detached: Vec<PointId>,
}

/// Keeps what tracing costs within a budget.
pub struct Governor {
    /// Per cent of one CPU.
    budget: f64,
    phase: Phase,
    due: u64,
    /// Seconds since runs were counted last.
    seconds: u32,
    first: Reading,
    peak: f64,
    /// Nanoseconds at each point while runs were counted.
    spent: Vec<f64>,
    /// What was detached, and its part in the cost then, per cent.
    detached: Vec<(PointId, f64)>,
    /// Nothing may go any more, and that was said.
    stuck: bool,
}

impl Governor {
    /// For a budget in per cent of one CPU.
    pub fn new(budget: f64) -> Governor {
        Governor {
            budget,
            phase: Phase::New,
            due: 0,
            seconds: 0,
            first: Reading::default(),
            peak: 0.0,
            spent: vec![],
            detached: vec![],
            stuck: false,
        }
    }

    /// See whether something is due at `now`, in nanoseconds of CLOCK_MONOTONIC. Call it a few times in a hundred
    /// milliseconds.
    ///
    /// # Errors
    /// What the kernel gave.
    pub fn advance(&mut self, watched: &mut dyn Watched, now: u64) -> anyhow::Result<Option<Act>> {
        if now < self.due {
            return Ok(None);
        }
        match std::mem::replace(&mut self.phase, Phase::New) {
            Phase::New => {
                self.first = Reading::take(watched, now)?;
                self.count(watched, now, 0.0)?;
            }
            Phase::Measuring(before) => {
                let reading = Reading::take(watched, now)?;
                let cost = reading.percent_since(&before);
                self.peak = self.peak.max(cost);
                self.seconds += 1;
                if cost > self.budget || self.seconds >= SELDOM {
                    self.count(watched, now, cost)?;
                } else {
                    self.measure(reading);
                }
            }
            Phase::Counting { began, before, cost } => {
                watched.count_runs(false)?;
                let points = watched.counts()?;
                let spent = self.spent_since(&Reading::take(watched, now)?, &began, &points, &before);
                let act = self.act(watched, cost, &points, &spent);
                // What that took is not measured.
                self.measure(Reading::take(watched, now)?);
                return act;
            }
        }
        Ok(None)
    }

    fn measure(&mut self, reading: Reading) {
        self.due = reading.time + MEASURED;
        self.phase = Phase::Measuring(reading);
    }

    fn count(&mut self, watched: &mut dyn Watched, now: u64, cost: f64) -> anyhow::Result<()> {
        let before = watched.counts()?;
        watched.count_runs(true)?;
        self.seconds = 0;
        self.due = now + COUNTED;
        self.phase = Phase::Counting {
            began: Reading::take(watched, now)?,
            before,
            cost,
        };
        Ok(())
    }

    /// Nanoseconds at each point while runs were counted; added up for the summary.
    fn spent_since(&mut self, now: &Reading, began: &Reading, points: &[Here], before: &[Here]) -> Vec<f64> {
        let spent: Vec<f64> = points
            .iter()
            .zip(before)
            .map(|(here, before)| match here.program {
                Some(program) => {
                    here.runs.saturating_sub(before.runs) as f64 * now.mean_since(began, program)
                }
                None => 0.0,
            })
            .collect();
        self.spent.resize(spent.len(), 0.0);
        for (sum, spent) in self.spent.iter_mut().zip(&spent) {
            *sum += spent;
        }
        spent
    }

    fn act(
        &mut self,
        watched: &mut dyn Watched,
        cost: f64,
        points: &[Here],
        spent: &[f64],
    ) -> anyhow::Result<Option<Act>> {
        let chosen = choose(cost, self.budget, points, spent);
        if !chosen.is_empty() {
            self.stuck = false;
            let detached: Vec<PointId> = chosen.iter().map(|(point, _)| *point).collect();
            let detached = watched.release(&detached)?;
            let went = chosen.into_iter().filter(|(point, _)| detached.contains(point));
            self.detached.extend(went);
            return Ok((!detached.is_empty()).then_some(Act { cost, detached }));
        }
        let idle = spent.iter().all(|spent| *spent == 0.0);
        if cost <= self.budget || idle || std::mem::replace(&mut self.stuck, true) {
            return Ok(None);
        }
        let detached = vec![];
        Ok(Some(Act { cost, detached }))
    }

    /// What the run has cost, at its end.
    ///
    /// # Errors
    /// What the kernel gave.
    pub fn finish(mut self, watched: &dyn Watched, now: u64, points: &[Point]) -> anyhow::Result<Cost> {
        let reading = Reading::take(watched, now)?;
        if let Phase::Counting { began, before, .. } = &self.phase {
            let (began, before) = (began.clone(), before.clone());
            self.spent_since(&reading, &began, &watched.counts()?, &before);
        }
        let percent = reading.percent_since(&self.first);
        let total: f64 = self.spent.iter().sum();
        let mut costliest: Vec<(PointId, f64)> = (0..)
            .map(PointId)
            .zip(&self.spent)
            .filter(|(_, spent)| **spent > 0.0)
            .map(|(point, spent)| (point, spent * 100.0 / total))
            .collect();
        costliest.sort_by(hottest_first);
        costliest.truncate(NAMED);
        let named = |all: &[(PointId, f64)]| {
            let of = |&(point, share): &(PointId, f64)| Some(cost_of(points.get(point.0 as usize)?, share));
            all.iter().filter_map(of).collect()
        };
        Ok(Cost {
            budget: self.budget,
            percent: hundredths(percent),
            peak: hundredths(self.peak.max(percent)),
            costliest: named(&costliest),
            detached: named(&self.detached),
        })
    }
}

impl Act {
    /// In one line.
    pub fn line(&self, budget: f64, points: &[Point]) -> String {
        const NAMES: usize = 12;
        let cost = format!("{:.2} % of one CPU is more than --max-cost {budget}", self.cost);
        if self.detached.is_empty() {
            return format!(
                "{cost}, but nothing more is detached: followed packets went through what costs, or journeys need it"
            );
        }
        let some = self.detached.iter().take(NAMES);
        let names: Vec<String> = some
            .filter_map(|point| Some(cost_of(points.get(point.0 as usize)?, 0.0).to_string()))
            .collect();
        let more = match self.detached.len().saturating_sub(NAMES) {
            0 => String::new(),
            more => format!(" and {more} more, which the summary names"),
        };
        let tracepoint = |point: &PointId| {
            let point = points.get(point.0 as usize);
            point.is_some_and(|point| point.kind == PointKind::Tracepoint)
        };
        let what = match self.detached.iter().any(tracepoint) {
            true => format!("{} functions and tracepoints", self.detached.len()),
            false => number(self.detached.len() as u64, "function"),
        };
        let names = names.join(", ");
        format!("{cost}: detached {what} that no followed packet has gone through: {names}{more}")
    }
}

fn cost_of(point: &Point, share: f64) -> CostOf {
    let kind = match point.kind {
        PointKind::Function => "function",
        PointKind::Tracepoint => "tracepoint",
    };
    CostOf {
        kind: kind.into(),
        name: escape(point.name.as_bytes()),
        module: escape(point.module.as_bytes()),
        share: hundredths(share),
    }
}

/// Rounded, as more would be noise.
fn hundredths(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

fn hottest_first(a: &(PointId, f64), b: &(PointId, f64)) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// Which points leave, and each one's part in the cost, per cent: those that cost most and may go, until what is left
/// of `cost` is expected to be within `budget`. `spent` says what each point costs, in any unit.
fn choose(cost: f64, budget: f64, points: &[Here], spent: &[f64]) -> Vec<(PointId, f64)> {
    let total: f64 = spent.iter().sum();
    let mut may_go: Vec<(PointId, f64)> = (0..)
        .map(PointId)
        .zip(points.iter().zip(spent))
        .filter(|(_, (here, spent))| here.may_go && here.followed == 0 && **spent > 0.0)
        .map(|(point, (_, spent))| (point, spent * 100.0 / total))
        .collect();
    may_go.sort_by(hottest_first);
    let mut left = cost;
    let over = |&(_, share): &(PointId, f64)| {
        let leaves = left > budget;
        left -= cost * share / 100.0;
        leaves
    };
    may_go.into_iter().take_while(over).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(program: usize, may_go: bool, followed: u64) -> Here {
        Here {
            program: Some(program),
            runs: 0,
            followed,
            may_go,
        }
    }

    fn numbers(chosen: &[(PointId, f64)]) -> Vec<u32> {
        chosen.iter().map(|(point, _)| point.0).collect()
    }

    #[test]
    fn the_hottest_leave_first_and_no_more_than_needed() {
        let points = [here(0, true, 0); 5];
        let spent = [10.0, 40.0, 20.0, 30.0, 0.0];
        let chosen = |budget| numbers(&choose(8.0, budget, &points, &spent));
        assert_eq!(chosen(8.0), [0_u32; 0]);
        assert_eq!(chosen(7.9), [1]);
        assert_eq!(chosen(4.8), [1]);
        assert_eq!(chosen(4.7), [1, 3]);
        // Where all have to leave, what costs nothing stays.
        assert_eq!(chosen(0.0), [1, 3, 2, 0]);
    }

    #[test]
    fn what_followed_packets_need_stays() {
        let mut points = [here(0, true, 0); 4];
        points[0].followed = 1;
        points[1].may_go = false;
        let spent = [50.0, 30.0, 5.0, 15.0];
        assert_eq!(numbers(&choose(10.0, 1.0, &points, &spent)), [3, 2]);
        let followed = [here(0, true, 7); 4];
        assert!(choose(10.0, 1.0, &followed, &spent).is_empty());
        assert!(choose(10.0, 1.0, &[], &[]).is_empty());
    }

    /// Points that are hit steadily.
    struct Steady {
        now: u64,
        /// Each point's program and hits in a millisecond; it is attached.
        points: Vec<(usize, u64, bool)>,
        /// Nanoseconds that a program takes.
        takes: Vec<u64>,
        followed: Vec<u64>,
        counting: bool,
        counted: Vec<u64>,
        ran: Vec<Ran>,
        released: Vec<PointId>,
    }

    impl Steady {
        fn new(points: &[(usize, u64)], takes: &[u64]) -> Steady {
            Steady {
                now: 1_000_000_000,
                points: points
                    .iter()
                    .map(|&(program, hits)| (program, hits, true))
                    .collect(),
                takes: takes.to_vec(),
                followed: vec![0; points.len()],
                counting: false,
                counted: vec![0; points.len()],
                ran: vec![Ran::default(); takes.len()],
                released: vec![],
            }
        }

        fn run(&mut self, governor: &mut Governor, milliseconds: u64) -> Vec<Act> {
            let mut acts = vec![];
            for _ in 0..milliseconds {
                self.now += 1_000_000;
                for (number, &(program, hits, attached)) in self.points.iter().enumerate() {
                    if attached {
                        self.ran[program].runs += hits;
                        self.ran[program].time += hits * self.takes[program];
                        self.counted[number] += hits * u64::from(self.counting);
                    }
                }
                let now = self.now;
                acts.extend(governor.advance(self, now).expect("it never fails"));
            }
            acts
        }
    }

    impl Watched for Steady {
        fn ran(&self) -> anyhow::Result<Vec<Ran>> {
            Ok(self.ran.clone())
        }

        fn counts(&self) -> anyhow::Result<Vec<Here>> {
            let of = |((&(program, _, attached), &runs), &followed)| Here {
                program: Some(program),
                runs,
                followed,
                may_go: attached,
            };
            let counted = self.points.iter().zip(&self.counted).zip(&self.followed);
            Ok(counted.map(of).collect())
        }

        fn count_runs(&mut self, on: bool) -> anyhow::Result<()> {
            self.counting = on;
            Ok(())
        }

        fn release(&mut self, points: &[PointId]) -> anyhow::Result<Vec<PointId>> {
            for &point in points {
                self.points[point.0 as usize].2 = false;
            }
            self.released.extend(points);
            Ok(points.to_vec())
        }
    }

    fn points(names: &[&str]) -> Vec<Point> {
        let point = |name: &&str| Point {
            name: (*name).into(),
            module: String::new(),
            kind: PointKind::Function,
            quiet: false,
        };
        names.iter().map(point).collect()
    }

    #[test]
    fn within_budget_nothing_happens_but_the_costliest_are_known() {
        // 10 + 30 hits a millisecond of 1,000 ns each: 4 %.
        let mut steady = Steady::new(&[(0, 10), (0, 30)], &[1000]);
        let mut governor = Governor::new(4.5);
        assert_eq!(steady.run(&mut governor, 20_000), []);
        let cost = governor
            .finish(&steady, steady.now, &points(&["ip_rcv", "nf_hook_slow"]))
            .expect("it never fails");
        assert_eq!((cost.percent, cost.peak, cost.detached), (4.0, 4.0, vec![]));
        let costliest: Vec<_> = cost
            .costliest
            .iter()
            .map(|c| (c.name.as_str(), c.share))
            .collect();
        assert_eq!(costliest, [("nf_hook_slow", 75.0), ("ip_rcv", 25.0)]);
    }

    #[test]
    fn a_short_run_knows_them_too() {
        let mut steady = Steady::new(&[(0, 10), (0, 30)], &[1000]);
        let mut governor = Governor::new(4.5);
        steady.run(&mut governor, 50);
        let cost = governor.finish(&steady, steady.now, &points(&["ip_rcv", "nf_hook_slow"]));
        assert_eq!(cost.expect("it never fails").costliest.len(), 2);
    }

    #[test]
    fn runs_are_weighed_by_what_their_program_takes() {
        // Hit less often, but ten times as dear: 1 % and 4 %.
        let mut steady = Steady::new(&[(0, 100), (1, 40)], &[100, 1000]);
        let mut governor = Governor::new(2.0);
        let acts = steady.run(&mut governor, 5000);
        assert_eq!(acts.len(), 1, "{acts:?}");
        assert_eq!(acts[0].detached, [PointId(1)]);
        assert!((acts[0].cost - 5.0).abs() < 0.1, "{acts:?}");
        let line = acts[0].line(2.0, &points(&["ip_rcv", "nf_hook_slow"]));
        assert_eq!(
            line,
            "5.00 % of one CPU is more than --max-cost 2: detached 1 function that no followed packet has gone through: \
             nf_hook_slow"
        );
        // Counted seldom, now that it is within budget.
        assert!(!steady.counting);
    }

    #[test]
    fn nothing_left_to_detach_is_said_once() {
        let mut steady = Steady::new(&[(0, 100), (0, 40)], &[1000]);
        steady.followed = vec![1, 0];
        let mut governor = Governor::new(2.0);
        let acts = steady.run(&mut governor, 20_000);
        let detached: Vec<_> = acts.iter().map(|act| act.detached.as_slice()).collect();
        assert_eq!(detached, [&[PointId(1)][..], &[]]);
        assert_eq!(
            acts[1].line(2.0, &[]),
            "10.00 % of one CPU is more than --max-cost 2, but nothing more is detached: followed packets went through \
             what costs, or journeys need it"
        );
        assert_eq!(steady.released, [PointId(1)]);
    }

    #[test]
    fn a_peak_within_a_second_is_not_enough_to_be_rash() {
        let mut steady = Steady::new(&[(0, 0)], &[1000]);
        let mut governor = Governor::new(5.0);
        steady.run(&mut governor, 400);
        // 100 % for 20 ms: 2 % of the second.
        steady.points[0].1 = 1000;
        let mut acts = steady.run(&mut governor, 20);
        steady.points[0].1 = 0;
        acts.extend(steady.run(&mut governor, 3000));
        assert_eq!(acts, []);
        let cost = governor
            .finish(&steady, steady.now, &points(&["ip_rcv"]))
            .expect("it never fails");
        assert_eq!(cost.peak, 2.0);
    }
}
