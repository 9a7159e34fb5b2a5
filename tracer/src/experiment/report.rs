//! The results folder: `results.csv`, `results.json`, `results.png`, `results.svg`; and the answers as text.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context;
use serde::Serialize;

use super::answers::Answers;
use super::block::{Experiment, Plan, Rule, Series};
use super::engine::Measured;
use super::plot::Figure;
use super::results::{Labels, Step, Table, Tick, sweep_figure, timeline_figure};

/// What `results.json` holds. `version` changes when a field's meaning does.
#[derive(Serialize)]
struct Json<'a> {
    version: u32,
    title: &'a str,
    finished: String,
    kernel: String,
    /// Why the run ended before its time.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_early: Option<&'a str>,
    parameters: Parameters,
    answers: &'a Answers,
    /// When rules were added during a timeline, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    injected_s: Option<(f64, f64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<&'a [Step]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ticks: Option<&'a [Tick]>,
}

#[derive(Serialize)]
struct Parameters {
    plan: String,
    seconds: u32,
    repeat: u32,
    server: String,
    backend: String,
    latency: Option<String>,
    series: Vec<Rules>,
}

/// A series' rules.
#[derive(Serialize)]
struct Rules {
    name: String,
    rules: Vec<String>,
}

impl Rules {
    fn of(series: &Series) -> Rules {
        let rule = |rule: &Rule| {
            let from = rule.from.map(|p| format!(" from {}/{}", p.base, p.len));
            format!("{}: {}{}", rule.tool.name(), rule.text, from.unwrap_or_default())
        };
        Rules {
            name: series.name.clone(),
            rules: series.rules.iter().map(rule).collect(),
        }
    }
}

/// What can't be known from the experiment.
pub struct About<'a> {
    /// How the script's probes are attached.
    pub backend: &'a str,
}

/// The folder for a script's results: `ktrail-NAME-TIME` here.
pub fn folder(script: &Path) -> PathBuf {
    let name = script
        .file_stem()
        .map_or("experiment".into(), |n| n.to_string_lossy().into_owned());
    let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    PathBuf::from(format!(
        "ktrail-{name}-{}",
        time.replace([':', 'T'], "-").trim_end_matches('Z')
    ))
}

/// A folder in which results can be written. Dropping it removes what was created for it and is still empty.
#[derive(Debug)]
pub struct Reserved(Vec<PathBuf>);

impl Drop for Reserved {
    fn drop(&mut self) {
        for created in &self.0 {
            // It is not empty: there are results.
            let _ = std::fs::remove_dir(created);
        }
    }
}

/// Creates the folder: that it can't be written must not be found out after minutes of measuring.
///
/// # Errors
/// The system's, with the name.
pub fn reserve(folder: &Path) -> anyhow::Result<Reserved> {
    let missing = folder
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.exists());
    let reserved = Reserved(missing.map(Path::to_owned).collect());
    let create = || {
        std::fs::create_dir_all(folder)?;
        // Also where it was there already.
        let trial = folder.join(format!(".ktrail-{}", std::process::id()));
        std::fs::write(&trial, "")?;
        std::fs::remove_file(&trial)
    };
    create().with_context(|| format!("the results can't be written to {}", folder.display()))?;
    Ok(reserved)
}

/// Writes the folder, and returns the answers.
pub fn write(
    folder: &Path,
    experiment: &Experiment,
    measured: &Measured,
    context: &About,
) -> anyhow::Result<Answers> {
    let put = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).with_context(|| path.display().to_string())
    };
    // What was measured comes first: no figure is worth losing it.
    put("results.csv", measured.table.csv().as_bytes())?;
    let answers = match &measured.table {
        Table::Sweep(steps) => Answers::of_sweep(steps),
        Table::Timeline(ticks) => Answers::of_timeline(ticks),
    };
    let json = Json {
        version: 1,
        title: &experiment.title,
        finished: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        kernel: kernel(),
        ended_early: measured.ended.as_deref(),
        parameters: Parameters {
            plan: plan(&experiment.plan),
            seconds: match experiment.plan {
                Plan::Sweep { .. } => experiment.workload.seconds,
                Plan::Timeline { seconds, .. } => seconds,
            },
            repeat: experiment.repeat,
            server: format!("{}:{}", experiment.workload.to, experiment.workload.port),
            backend: context.backend.into(),
            latency: experiment
                .sample
                .as_ref()
                .map(|s| format!("{} ({})", s.label, s.map)),
            series: std::iter::once(&experiment.main)
                .chain(&experiment.controls)
                .map(Rules::of)
                .collect(),
        },
        answers: &answers,
        injected_s: measured.inject,
        steps: match &measured.table {
            Table::Sweep(steps) => Some(steps),
            Table::Timeline(_) => None,
        },
        ticks: match &measured.table {
            Table::Sweep(_) => None,
            Table::Timeline(ticks) => Some(ticks),
        },
    };
    put(
        "results.json",
        format!("{}\n", serde_json::to_string_pretty(&json)?).as_bytes(),
    )?;
    let labels = Labels {
        title: experiment.title.clone(),
        latency: experiment
            .sample
            .as_ref()
            .map_or_else(|| Labels::default().latency, |s| s.label.clone()),
        ..Labels::default()
    };
    let save = |figure: Figure| -> anyhow::Result<()> {
        figure.save(&folder.join("results.svg"))?;
        figure.save(&folder.join("results.png"))?;
        Ok(())
    };
    match &measured.table {
        Table::Sweep(steps) => save(Figure::Sweep(&sweep_figure(steps, &labels)))?,
        Table::Timeline(ticks) => save(Figure::Timeline(&timeline_figure(
            ticks,
            &labels,
            measured.inject,
        )))?,
    }
    Ok(answers)
}

fn plan(plan: &Plan) -> String {
    match plan {
        Plan::Sweep { from, to, step } => format!("rules {from}..{to} step {step}"),
        Plan::Timeline {
            seconds,
            rules,
            inject,
            window,
        } => {
            format!(
                "{rules} rules from {} s to {} s of {seconds} s, windows of {window} s",
                inject.0, inject.1
            )
        }
    }
}

fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").map_or("unknown".into(), |text| text.trim().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::block::parse;
    use ktrail_ebpf::script::ast::{RawBlock, Span};

    #[test]
    fn a_folder_without_results_goes_again() {
        let outer = std::env::temp_dir().join(format!("ktrail-reserved-{}", std::process::id()));
        let folder = outer.join("inner");
        drop(reserve(&folder).unwrap());
        assert!(!outer.exists());
        let reserved = reserve(&folder).unwrap();
        std::fs::write(folder.join("results.csv"), "x").unwrap();
        drop(reserved);
        assert!(folder.join("results.csv").exists());
        let error = reserve(&folder.join("results.csv")).unwrap_err();
        assert!(error.to_string().contains("results.csv"), "{error}");
        std::fs::remove_dir_all(&outer).unwrap();
    }

    #[test]
    fn the_folder_s_files() {
        let text = "title \"T\"; workload iperf3 to 127.0.0.1; \
                    sweep rules 0..200 step 100 \"chain\" { once nft \"drop\"; }"
            .to_owned();
        let span = Span::new(0, text.len());
        let experiment = parse(&RawBlock { text, span }).unwrap();
        let step = |rules: u64| Step {
            series: "chain".into(),
            rules,
            repetition: 1,
            throughput_mbit: Some(1000.0),
            latency_ns: Some(100.0 + rules as f64),
            ..Step::default()
        };
        let measured = Measured {
            table: Table::Sweep(vec![step(0), step(100), step(200)]),
            ended: None,
            inject: None,
            left_behind: Vec::new(),
        };
        let folder = std::env::temp_dir().join(format!("ktrail-report-{}", std::process::id()));
        let _reserved = reserve(&folder).unwrap();
        let answers = write(&folder, &experiment, &measured, &About { backend: "kprobe" }).unwrap();
        assert_eq!(answers.linear, Some(true));
        let json = std::fs::read_to_string(folder.join("results.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["version"], 1);
        assert_eq!(json["parameters"]["plan"], "rules 0..200 step 100");
        assert_eq!(json["steps"].as_array().unwrap().len(), 3);
        assert!((json["answers"]["latency"]["ns_per_rule"].as_f64().unwrap() - 1.0).abs() < 1e-9);
        let csv = std::fs::read_to_string(folder.join("results.csv")).unwrap();
        assert_eq!(Table::read(&csv).unwrap(), measured.table);
        assert!(folder.join("results.png").exists() && folder.join("results.svg").exists());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
