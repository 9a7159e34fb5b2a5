//! What the measurements say about the questions: is the cost linear, where does throughput suffer, does the
//! congestion window move along.

use std::fmt::Write;

use serde::Serialize;

use super::results::{Step, Tick, points, series};
use super::stats::{Fit, below_from, chance_correlation, correlation, first_below};

/// A throughput under this part of the baseline counts as degraded.
const DEGRADED: f64 = 0.9;
/// A correlation that counts as moving together.
const MOVES: f64 = 0.7;
/// A fit that explains this part of the variance counts as linear.
const LINEAR: f64 = 0.95;

/// The answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Answers {
    /// Latency against rules.
    pub latency: Option<Line>,
    /// Whether latency rises linearly with the rules: R² above 0.95 and a slope that is surely above 0.
    pub linear: Option<bool>,
    /// The number of rules at which throughput first was under 90 % of the baseline; null if it never was.
    pub degraded_at_rules: Option<u64>,
    /// The number of rules from which on it always was; null if it was not at the last step.
    pub degraded_from_rules: Option<u64>,
    /// Whether there is a throughput at all.
    pub has_throughput: bool,
    /// Pearson's correlation of throughput and congestion window, −1 to 1.
    pub window_correlation: Option<f64>,
    /// What that may be by chance, at 95 %; null without a correlation.
    pub window_chance: Option<f64>,
    /// The other series.
    pub controls: Vec<Control>,
}

/// A fitted line.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Nanoseconds a rule.
    pub ns_per_rule: f64,
    /// Half the width of its 95 % confidence interval; null of two points.
    pub margin: Option<f64>,
    /// Nanoseconds without rules.
    pub intercept_ns: f64,
    /// R².
    pub r2: f64,
    /// How many points.
    pub points: usize,
}

/// A control's line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Control {
    /// Its name.
    pub name: String,
    /// Latency against rules.
    pub latency: Option<Line>,
}

impl Line {
    fn of(points: &[(f64, f64)]) -> Option<Line> {
        Fit::of(points).map(|fit| Line {
            ns_per_rule: fit.slope,
            margin: fit.slope_margin.is_finite().then_some(fit.slope_margin),
            intercept_ns: fit.intercept,
            r2: fit.r2,
            points: fit.n,
        })
    }
}

impl Answers {
    /// A sweep's; the first series is the one in question.
    pub fn of_sweep(steps: &[Step]) -> Answers {
        let names = series(steps);
        let Some(main) = names.first() else {
            return Answers::default();
        };
        let windows: Vec<(f64, f64)> = steps
            .iter()
            .filter(|s| s.series == *main)
            .filter_map(|s| Some((s.throughput_mbit?, s.window_kb?)))
            .collect();
        let mut answers = Answers::of(
            &points(steps, main, |s| s.throughput_mbit),
            &points(steps, main, |s| s.latency_ns),
            &windows,
        );
        answers.controls = names[1..]
            .iter()
            .map(|name| Control {
                name: (*name).to_owned(),
                latency: Line::of(&points(steps, name, |s| s.latency_ns)),
            })
            .collect();
        answers
    }

    /// A timeline's. Each latency belongs to the mean number of rules of its window.
    pub fn of_timeline(ticks: &[Tick]) -> Answers {
        let mut latency = Vec::new();
        let mut throughput = Vec::new();
        let mut begin = 0;
        for (index, tick) in ticks.iter().enumerate() {
            let Some(ns) = tick.latency_ns else { continue };
            let window = &ticks[begin..=index];
            begin = index + 1;
            let rules: Vec<f64> = window.iter().filter_map(|t| t.rules.map(|r| r as f64)).collect();
            let mbit: Vec<f64> = window.iter().filter_map(|t| t.throughput_mbit).collect();
            let Some(rules) = super::stats::mean(&rules) else {
                continue;
            };
            latency.push((rules, ns));
            throughput.extend(super::stats::mean(&mbit).map(|mbit| (rules.round(), mbit)));
        }
        let windows: Vec<(f64, f64)> = ticks
            .iter()
            .filter_map(|t| Some((t.throughput_mbit?, t.window_kb?)))
            .collect();
        Answers::of(&throughput, &latency, &windows)
    }

    fn of(throughput: &[(f64, f64)], latency: &[(f64, f64)], windows: &[(f64, f64)]) -> Answers {
        let line = Line::of(latency).filter(|line| line.points > 2);
        Answers {
            latency: line,
            linear: line.map(|l| l.r2 > LINEAR && l.margin.is_some_and(|m| l.ns_per_rule > m)),
            degraded_at_rules: first_below(throughput, DEGRADED).map(|rules| rules as u64),
            degraded_from_rules: below_from(throughput, DEGRADED).map(|rules| rules as u64),
            has_throughput: !throughput.is_empty(),
            window_correlation: correlation(windows),
            window_chance: correlation(windows).map(|_| chance_correlation(windows.len())),
            controls: Vec::new(),
        }
    }

    /// The answers as text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        match (self.latency, self.linear) {
            (Some(line), Some(linear)) => {
                let _ = writeln!(
                    out,
                    "Latency: {:.3} ns a rule (95 % confidence ± {:.3}), {:.0} ns without rules, R² {:.4} over {} points.",
                    line.ns_per_rule,
                    line.margin.unwrap_or(f64::INFINITY),
                    line.intercept_ns,
                    line.r2,
                    line.points
                );
                let _ = writeln!(
                    out,
                    "Linear:  {}",
                    if linear {
                        "yes. Every packet is compared with one rule after the other: the walk is a linear search."
                    } else {
                        "no, as far as these measurements say (yes would take R² above 0.95 and a slope surely above 0)."
                    }
                );
            }
            _ => out.push_str("Latency: too few measurements for a line.\n"),
        }
        for control in &self.controls {
            let _ = match control.latency {
                Some(line) => writeln!(
                    out,
                    "Control: {}: {:.3} ns a rule (± {}), {:.0} ns at the start.",
                    control.name,
                    line.ns_per_rule,
                    line.margin.map_or("unknown".into(), |m| format!("{m:.3}")),
                    line.intercept_ns
                ),
                None => writeln!(out, "Control: {}: no latency was measured.", control.name),
            };
        }
        match self.degraded_at_rules {
            Some(rules) => {
                let rest = match self.degraded_from_rules {
                    Some(from) if from == rules => ", and stays there".into(),
                    Some(from) => format!(", and is there for good from {from} on"),
                    None => ", but not for good".into(),
                };
                let _ = writeln!(
                    out,
                    "Throughput first falls under 90 % of the baseline at {rules} rules{rest}."
                );
            }
            None if self.has_throughput => out.push_str("Throughput stays above 90 % of the baseline.\n"),
            None => {}
        }
        match self.window_correlation.zip(self.window_chance) {
            Some((r, chance)) => {
                let verdict = match r {
                    r if r.abs() <= chance => "does not move with it beyond chance",
                    r if r > MOVES => "moves with it",
                    r if r < -MOVES => "moves against it",
                    _ => "moves little with it",
                };
                let _ = writeln!(
                    out,
                    "The congestion window {verdict} (correlation with throughput {r:.2}, by chance up to {chance:.2})."
                );
            }
            None => out.push_str(
                "The congestion window does not vary, or there are too few measurements to say what it does.\n",
            ),
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(series: &str, rules: u64, mbit: f64, ns: f64, window: f64) -> Step {
        Step {
            series: series.into(),
            rules,
            repetition: 1,
            throughput_mbit: Some(mbit),
            latency_ns: Some(ns),
            window_kb: Some(window),
            ..Step::default()
        }
    }

    #[test]
    fn a_sweep_s_answers() {
        let mut steps: Vec<Step> = (0..10)
            .map(|i| {
                let wiggle = if i % 2 == 0 { 1.0 } else { -1.0 };
                step(
                    "chain",
                    i * 100,
                    1000.0 - 30.0 * i as f64,
                    200.0 + 200.0 * i as f64 + wiggle,
                    500.0 + wiggle,
                )
            })
            .collect();
        steps.extend([0, 500, 900].map(|rules| step("set", rules, 1000.0, 250.0, 500.0)));
        let answers = Answers::of_sweep(&steps);
        assert_eq!(answers.linear, Some(true));
        assert!((answers.latency.unwrap().ns_per_rule - 2.0).abs() < 0.01);
        // 1000 − 30·i is under 900 from i = 4 on.
        assert_eq!(answers.degraded_at_rules, Some(400));
        assert!(answers.window_correlation.unwrap().abs() < 0.3);
        assert_eq!(answers.controls[0].latency.unwrap().ns_per_rule, 0.0);
        let text = answers.text();
        for line in [
            "ns a rule",
            "Linear:  yes",
            "at 400 rules",
            "does not move with it",
            "Control: set",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn noise_is_not_linear() {
        let steps: Vec<Step> = [5.0, 9.0, 2.0, 7.0, 3.0]
            .iter()
            .enumerate()
            .map(|(i, ns)| step("chain", i as u64, 10.0, *ns, 1.0))
            .collect();
        let answers = Answers::of_sweep(&steps);
        assert_eq!((answers.linear, answers.degraded_at_rules), (Some(false), None));
        assert!(answers.text().contains("stays above 90 %"));
    }

    #[test]
    fn a_timeline_s_windows_have_their_mean_number_of_rules() {
        let ticks: Vec<Tick> = (1..=6i32)
            .map(|i| Tick {
                time_s: f64::from(i),
                throughput_mbit: Some(100.0 / f64::from(i)),
                rules: Some(u64::from(i.unsigned_abs()) * 10),
                latency_ns: (i % 2 == 0).then(|| 10.0 * f64::from(i) - 5.0),
                ..Tick::default()
            })
            .collect();
        let answers = Answers::of_timeline(&ticks);
        // Windows: rules 15, 35, 55; latencies 15, 35, 55.
        assert!((answers.latency.unwrap().ns_per_rule - 1.0).abs() < 1e-9);
        assert_eq!(answers.degraded_at_rules, Some(35));
    }
}
