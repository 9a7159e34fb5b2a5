//! What an experiment measured, and its CSV form.
//!
//! Two kinds of table, told apart by their first line; an empty field is a value that was not measured.

use std::fmt::Write;

use super::plot::sweep::{Point, Series, Sweep};
use super::plot::timeline::Timeline;
use super::stats::{Fit, by_x, mean, sd};

/// One measurement of a sweep.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Step {
    /// Which way of writing the rules.
    pub series: String,
    /// How many rules the sweep had reached; a control stands for as many.
    pub rules: u64,
    /// Which repetition, from 1.
    pub repetition: u32,
    /// Mean throughput, in Mbit/s.
    pub throughput_mbit: Option<f64>,
    /// TCP segments sent again.
    pub retransmits: Option<u64>,
    /// Mean congestion window, in KB of 1,000 bytes.
    pub window_kb: Option<f64>,
    /// Average latency, in nanoseconds.
    pub latency_ns: Option<f64>,
    /// Over how many packets the average is.
    pub packets: Option<u64>,
}

/// One interval of a timeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Tick {
    /// The interval's end, in seconds since the workload began.
    pub time_s: f64,
    /// Throughput, in Mbit/s.
    pub throughput_mbit: Option<f64>,
    /// Congestion window, in KB of 1,000 bytes.
    pub window_kb: Option<f64>,
    /// TCP segments sent again.
    pub retransmits: Option<u64>,
    /// Average latency since the interval before that has one, in nanoseconds.
    pub latency_ns: Option<f64>,
    /// How many rules the interval's packets met, on the average.
    pub rules: Option<u64>,
}

/// The measurements of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Table {
    /// Of a sweep.
    Sweep(Vec<Step>),
    /// Of a timeline.
    Timeline(Vec<Tick>),
}

const SWEEP: &str = "series,rules,repetition,throughput_mbit,retransmits,window_kb,latency_ns,packets";
const TIMELINE: &str = "time_s,throughput_mbit,window_kb,retransmits,latency_ns,rules";

/// Why a table can't be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The first line is of neither kind.
    #[error("the first line is neither '{SWEEP}' nor '{TIMELINE}'")]
    Header,
    /// A field is wrong.
    #[error("line {line}: {reason}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

impl Table {
    /// As CSV (RFC 4180, with newlines alone).
    pub fn csv(&self) -> String {
        let mut out = String::new();
        match self {
            Table::Sweep(steps) => {
                let _ = writeln!(out, "{SWEEP}");
                for s in steps {
                    let _ = writeln!(
                        out,
                        "{},{},{},{},{},{},{},{}",
                        quoted(&s.series),
                        s.rules,
                        s.repetition,
                        decimals(s.throughput_mbit),
                        whole(s.retransmits),
                        decimals(s.window_kb),
                        decimals(s.latency_ns),
                        whole(s.packets)
                    );
                }
            }
            Table::Timeline(ticks) => {
                let _ = writeln!(out, "{TIMELINE}");
                for t in ticks {
                    let _ = writeln!(
                        out,
                        "{},{},{},{},{},{}",
                        decimals(Some(t.time_s)),
                        decimals(t.throughput_mbit),
                        decimals(t.window_kb),
                        whole(t.retransmits),
                        decimals(t.latency_ns),
                        whole(t.rules)
                    );
                }
            }
        }
        out
    }

    /// Reads what [`Table::csv`] wrote.
    pub fn read(text: &str) -> Result<Table, Error> {
        let mut lines = text.lines().enumerate().map(|(i, line)| (i + 1, line));
        let header = lines.next().map_or("", |(_, line)| line.trim());
        let sweep = match header {
            SWEEP => true,
            TIMELINE => false,
            _ => return Err(Error::Header),
        };
        let mut steps = Vec::new();
        let mut ticks = Vec::new();
        for (line, text) in lines.filter(|(_, line)| !line.trim().is_empty()) {
            let fields = fields(text);
            let wrong = |reason: String| Error::Line { line, reason };
            let expected = header.split(',').count();
            if fields.len() != expected {
                return Err(wrong(format!("{} fields instead of {expected}", fields.len())));
            }
            let decimal = |i: usize| optional::<f64>(&fields[i]).map_err(wrong);
            let count = |i: usize| optional::<u64>(&fields[i]).map_err(wrong);
            let needed = |i: usize| count(i)?.ok_or_else(|| wrong(format!("field {} is empty", i + 1)));
            if sweep {
                steps.push(Step {
                    series: fields[0].clone(),
                    rules: needed(1)?,
                    repetition: u32::try_from(needed(2)?).map_err(|e| wrong(e.to_string()))?,
                    throughput_mbit: decimal(3)?,
                    retransmits: count(4)?,
                    window_kb: decimal(5)?,
                    latency_ns: decimal(6)?,
                    packets: count(7)?,
                });
            } else {
                ticks.push(Tick {
                    time_s: decimal(0)?.ok_or_else(|| wrong("field 1 is empty".into()))?,
                    throughput_mbit: decimal(1)?,
                    window_kb: decimal(2)?,
                    retransmits: count(3)?,
                    latency_ns: decimal(4)?,
                    rules: count(5)?,
                });
            }
        }
        Ok(if sweep {
            Table::Sweep(steps)
        } else {
            Table::Timeline(ticks)
        })
    }
}

fn decimals(value: Option<f64>) -> String {
    value.map_or(String::new(), |v| {
        let text = format!("{v:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    })
}

fn whole(value: Option<u64>) -> String {
    value.map_or(String::new(), |v| v.to_string())
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\"").replace('\n', " "))
    } else {
        text.to_owned()
    }
}

fn optional<T: std::str::FromStr>(field: &str) -> Result<Option<T>, String> {
    let field = field.trim();
    if field.is_empty() {
        return Ok(None);
    }
    field
        .parse()
        .map(Some)
        .map_err(|_| format!("'{field}' is not a number"))
}

/// The fields of a line, where a quoted one may contain commas and doubled quotes.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut inside = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let last = fields.len() - 1;
        match c {
            '"' if inside && chars.peek() == Some(&'"') => {
                chars.next();
                fields[last].push('"');
            }
            '"' => inside = !inside,
            ',' if !inside => fields.push(String::new()),
            c => fields[last].push(c),
        }
    }
    fields
}

/// What a figure calls its things.
#[derive(Clone, Debug, PartialEq)]
pub struct Labels {
    /// Above the figure.
    pub title: String,
    /// Of the sweep's axis.
    pub x: String,
    /// What the latency is the time of.
    pub latency: String,
}

impl Default for Labels {
    fn default() -> Self {
        Labels {
            title: "Throughput and latency".into(),
            x: "rules in the chain".into(),
            latency: "average latency".into(),
        }
    }
}

/// The series in their order of appearance.
pub fn series(steps: &[Step]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for step in steps {
        if !names.contains(&step.series.as_str()) {
            names.push(&step.series);
        }
    }
    names
}

/// The points (rules, value) of one series.
pub fn points(steps: &[Step], series: &str, value: impl Fn(&Step) -> Option<f64>) -> Vec<(f64, f64)> {
    let of = steps.iter().filter(|s| s.series == series);
    of.filter_map(|s| value(s).map(|v| (s.rules as f64, v))).collect()
}

/// The figure of a sweep; the first series is the one that is fitted.
pub fn sweep_figure(steps: &[Step], labels: &Labels) -> Sweep {
    let panel = |points: Vec<(f64, f64)>| -> Vec<Point> {
        let steps = by_x(&points);
        let point = |(rules, values): &(f64, Vec<f64>)| {
            mean(values).map(|mean| Point {
                rules: *rules,
                mean,
                sd: sd(values),
            })
        };
        steps.iter().filter_map(point).collect()
    };
    let names = series(steps);
    Sweep {
        title: labels.title.clone(),
        x: labels.x.clone(),
        latency: labels.latency.clone(),
        fit: names
            .first()
            .and_then(|name| Fit::of(&points(steps, name, |s| s.latency_ns)))
            .filter(|f| f.n > 2),
        series: names
            .iter()
            .map(|name| Series {
                name: (*name).to_owned(),
                throughput: panel(points(steps, name, |s| s.throughput_mbit)),
                latency: panel(points(steps, name, |s| s.latency_ns)),
            })
            .collect(),
    }
}

/// The figure of a timeline.
pub fn timeline_figure(ticks: &[Tick], labels: &Labels, shade: Option<(f64, f64)>) -> Timeline {
    let points = |value: fn(&Tick) -> Option<f64>| -> Vec<(f64, f64)> {
        ticks
            .iter()
            .filter_map(|t| value(t).map(|v| (t.time_s, v)))
            .collect()
    };
    Timeline {
        title: labels.title.clone(),
        latency_label: labels.latency.clone(),
        throughput: points(|t| t.throughput_mbit),
        window: points(|t| t.window_kb),
        latency: points(|t| t.latency_ns),
        shade: shade.or_else(|| injection(ticks)),
    }
}

/// When rules were added, as far as a timeline's rule counts say.
pub fn injection(ticks: &[Tick]) -> Option<(f64, f64)> {
    let counts: Vec<(f64, u64)> = ticks
        .iter()
        .filter_map(|t| t.rules.map(|rules| (t.time_s, rules)))
        .collect();
    let first = counts.first()?.1;
    let last = counts.last()?.1;
    let from = counts.iter().rev().find(|(_, rules)| *rules == first)?.0;
    let to = counts.iter().find(|(_, rules)| *rules == last)?.0;
    (first != last).then_some((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(series: &str, rules: u64, repetition: u32, latency: Option<f64>) -> Step {
        Step {
            series: series.into(),
            rules,
            repetition,
            throughput_mbit: Some(1234.5),
            latency_ns: latency,
            ..Step::default()
        }
    }

    #[test]
    fn a_sweep_is_read_as_it_was_written() {
        let table = Table::Sweep(vec![
            step("one, \"big\" chain", 0, 1, Some(1.25)),
            step("set", 100, 2, None),
        ]);
        let csv = table.csv();
        assert_eq!(
            csv.lines().nth(1),
            Some("\"one, \"\"big\"\" chain\",0,1,1234.5,,,1.25,")
        );
        assert_eq!(Table::read(&csv), Ok(table));
    }

    #[test]
    fn a_timeline_is_read_as_it_was_written() {
        let tick = Tick {
            time_s: 1.0,
            throughput_mbit: Some(10.0),
            rules: Some(3),
            ..Tick::default()
        };
        let table = Table::Timeline(vec![tick]);
        assert_eq!(table.csv().lines().nth(1), Some("1,10,,,,3"));
        assert_eq!(Table::read(&table.csv()), Ok(table));
    }

    #[test]
    fn what_is_no_table() {
        assert_eq!(Table::read("a,b\n1,2\n"), Err(Error::Header));
        let read = |line: &str| {
            Table::read(&format!("{TIMELINE}\n{line}\n"))
                .unwrap_err()
                .to_string()
        };
        assert_eq!(read("1,2"), "line 2: 2 fields instead of 6");
        assert_eq!(read("1,x,,,,"), "line 2: 'x' is not a number");
        assert_eq!(read(",1,,,,"), "line 2: field 1 is empty");
    }

    #[test]
    fn repetitions_become_a_spread() {
        let steps = [
            step("chain", 0, 1, Some(10.0)),
            step("chain", 0, 2, Some(14.0)),
            step("chain", 100, 1, Some(30.0)),
            step("set", 0, 1, Some(11.0)),
        ];
        let figure = sweep_figure(&steps, &Labels::default());
        assert_eq!(figure.series.len(), 2);
        let first = figure.series[0].latency[0];
        assert_eq!((first.rules, first.mean), (0.0, 12.0));
        assert!((first.sd.unwrap() - 8f64.sqrt()).abs() < 1e-12);
        assert_eq!(figure.series[0].latency[1].sd, None);
        assert!((figure.fit.unwrap().slope - 0.18).abs() < 1e-12);
    }

    #[test]
    fn the_shade_follows_from_the_counts() {
        let tick = |time_s, rules| Tick {
            time_s,
            rules: Some(rules),
            ..Tick::default()
        };
        let ticks = [
            tick(1.0, 0),
            tick(2.0, 0),
            tick(3.0, 50),
            tick(4.0, 100),
            tick(5.0, 100),
        ];
        assert_eq!(injection(&ticks), Some((2.0, 4.0)));
        assert_eq!(injection(&ticks[..2]), None);
    }
}
