//! `ktrail plot`.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::Usage;
use crate::experiment::iperf::Report;
use crate::experiment::latency;
use crate::experiment::plot::{Figure, timeline::Timeline};
use crate::experiment::results::{self, Labels, Table};
use crate::say;

/// Draw figures from measurements
///
/// Either from an iperf3 report and the output of a latency script, against time, or from the results.csv of an
/// experiment. A figure whose name ends in .svg is an SVG document, one that ends in .png an image.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A results.csv that `ktrail run` wrote
    #[arg(value_name = "RESULTS", conflicts_with_all = ["iperf", "latency"], required_unless_present_any = ["iperf", "latency"])]
    results: Option<PathBuf>,

    /// What `iperf3 -J` wrote
    #[arg(long, value_name = "FILE")]
    iperf: Option<PathBuf>,

    /// What a latency script wrote: lines like `t=10 packets=1234 avg_ns=567`, `@avg: 567`, `10 567` (seconds and
    /// nanoseconds) or `567`
    #[arg(long, value_name = "FILE")]
    latency: Option<PathBuf>,

    /// Seconds between the latency script's lines, where they don't say their time
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    interval: f64,

    /// Shade the time during which rules were added, in seconds
    #[arg(long, value_name = "FROM:TO", value_parser = window)]
    shade: Option<(f64, f64)>,

    /// What stands above the figure
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,

    /// What the latency is, on its axis
    #[arg(long, value_name = "TEXT", default_value_t = Labels::default().latency)]
    label: String,

    /// Where to write it: a name that ends in .png or .svg; may be given more than once
    #[arg(short, long, value_name = "FILE", default_value = "results.png")]
    output: Vec<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  One iperf3 run and a latency script's output, rules added from 60 s to 180 s:
    ktrail plot --iperf iperf_results.json --latency bpf_results.txt --shade 60:180 -o results.png
  An experiment's results again, as SVG:
    ktrail plot results.csv -o results.svg";

fn window(text: &str) -> Result<(f64, f64), String> {
    let parse = |text: &str| text.parse::<f64>().ok().filter(|v| v.is_finite() && *v >= 0.0);
    let (from, to) = text.split_once(':').ok_or("write FROM:TO, such as 60:180")?;
    match (parse(from), parse(to)) {
        (Some(from), Some(to)) if from < to => Ok((from, to)),
        (Some(_), Some(_)) => Err("the second number must be larger than the first".into()),
        _ => Err("write two numbers of seconds, such as 60:180".into()),
    }
}

/// Draw.
pub fn main(args: &Args) -> anyhow::Result<()> {
    for output in &args.output {
        let extension = output.extension().and_then(|e| e.to_str()).map(str::to_lowercase);
        if !matches!(extension.as_deref(), Some("png" | "svg")) {
            return Err(Usage(format!(
                "{}: a figure's name ends in .png or .svg",
                output.display()
            ))
            .into());
        }
    }
    if !(args.interval.is_finite() && args.interval > 0.0) {
        return Err(Usage("--interval must be more than 0 seconds".into()).into());
    }
    match &args.results {
        Some(path) => from_results(args, path),
        None => save(args, &Figure::Timeline(&from_files(args)?)),
    }
}

fn from_results(args: &Args, path: &Path) -> anyhow::Result<()> {
    let table = Table::read(&read(path)?).with_context(|| path.display().to_string())?;
    let mut labels = Labels {
        latency: args.label.clone(),
        ..Labels::default()
    };
    if let Some(title) = &args.title {
        labels.title.clone_from(title);
    }
    match table {
        Table::Sweep(_) if args.shade.is_some() => Err(Usage(
            "--shade is for a timeline; these results are against the number of rules".into(),
        )
        .into()),
        Table::Sweep(steps) => save(args, &Figure::Sweep(&results::sweep_figure(&steps, &labels))),
        Table::Timeline(ticks) => save(
            args,
            &Figure::Timeline(&results::timeline_figure(&ticks, &labels, args.shade)),
        ),
    }
}

fn from_files(args: &Args) -> anyhow::Result<Timeline> {
    let mut figure = Timeline {
        title: args
            .title
            .clone()
            .unwrap_or_else(|| "Throughput, congestion window and latency".into()),
        latency_label: args.label.clone(),
        shade: args.shade,
        ..Timeline::default()
    };
    if let Some(path) = &args.iperf {
        let report = Report::read(&read(path)?).with_context(|| path.display().to_string())?;
        figure.throughput = report.intervals.iter().map(|i| (i.end, i.mbit)).collect();
        figure.window = report
            .intervals
            .iter()
            .filter_map(|i| i.window_kb.map(|kb| (i.end, kb)))
            .collect();
    }
    if let Some(path) = &args.latency {
        let latency = latency::read(&read(path)?, args.interval);
        figure.latency = latency
            .samples
            .iter()
            .filter_map(|s| s.avg_ns.map(|ns| (s.end, ns)))
            .collect();
        if figure.latency.is_empty() {
            anyhow::bail!(
                "{}: no line has a latency; lines look like 't=10 packets=1234 avg_ns=567', '@avg: 567', \
                 '@ns: count 1234, average 567, total 699678', '10 567' or '567'",
                path.display()
            );
        }
        if latency.ignored > 0 {
            eprintln!(
                "ktrail: {}: lines without a latency of the first one's form, passed over: {}",
                path.display(),
                latency.ignored
            );
        }
    }
    Ok(figure)
}

fn save(args: &Args, figure: &Figure) -> anyhow::Result<()> {
    for output in &args.output {
        figure.save(output)?;
        say::stdout(&format!("{}\n", output.display()))?;
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows() {
        assert_eq!(window("60:180"), Ok((60.0, 180.0)));
        assert!(window("60").is_err() && window("180:60").is_err() && window("a:b").is_err());
    }
}
