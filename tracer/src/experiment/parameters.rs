//! What can be changed from the command line: `ktrail run FILE -- --rules 500 --step 100 --seconds 2`.

use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs};
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::error::ErrorKind;
use clap::{Arg, CommandFactory, FromArgMatches, Parser, value_parser};

use super::block::{Experiment, Plan};

/// The parameters. What stands in square brackets behind their help comes from the script.
#[derive(Debug, Parser)]
#[command(
    name = "ktrail run FILE --",
    about = "The experiment's parameters",
    no_binary_name = true,
    disable_version_flag = true,
    args_override_self = true
)]
struct Parameters {
    /// The largest number of rules; of a timeline, how many are added
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    rules: Option<u32>,
    /// Rules from one step of a sweep to the next
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    step: Option<u32>,
    /// How long iperf3 runs at each step; of a timeline, how long it is
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    seconds: Option<u32>,
    /// How often each step of a sweep is measured
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    repeat: Option<u32>,
    /// A server of your own: no topology is built and no server started
    #[arg(long, value_name = "HOST:PORT")]
    server: Option<String>,
    /// Only the sweep itself
    #[arg(long)]
    no_controls: bool,
    /// Where the results go [default: ktrail-NAME-TIME]
    #[arg(long, value_name = "FOLDER", value_parser = NonEmptyStringValueParser::new())]
    output: Option<String>,
}

/// Why an experiment does not begin.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Help was asked for: here it is.
    Help(String),
    /// What is wrong, in lines to print.
    Wrong(String),
}

impl From<String> for Refusal {
    fn from(sentence: String) -> Refusal {
        Refusal::Wrong(format!("ktrail: {sentence}\n"))
    }
}

/// What is not the experiment's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Where the results go.
    pub output: Option<PathBuf>,
    /// The server is the user's own: no topology, no server.
    pub own_server: bool,
}

/// Changes the experiment as the arguments say.
///
/// # Errors
/// What is wrong with them, or the help that they ask for.
pub fn apply(experiment: &mut Experiment, args: &[String]) -> Result<Settings, Refusal> {
    let parsed = command(experiment)
        .try_get_matches_from(args)
        .and_then(|matches| Parameters::from_arg_matches(&matches));
    let parameters = parsed.map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp => Refusal::Help(error.render().to_string()),
        _ => Refusal::Wrong(error.render().to_string()),
    })?;
    if parameters.no_controls {
        experiment.controls.clear();
    }
    if let Some(rules) = parameters.rules {
        set_rules(experiment, rules)?;
    }
    if let Some(wanted) = parameters.step {
        match &mut experiment.plan {
            Plan::Sweep { step, .. } => *step = u64::from(wanted),
            Plan::Timeline { .. } => {
                return Err("a timeline has no steps: --step is for sweeps".to_owned().into());
            }
        }
    }
    if let Some(seconds) = parameters.seconds {
        set_seconds(experiment, seconds)?;
    }
    if let Some(repeat) = parameters.repeat {
        match experiment.plan {
            Plan::Sweep { .. } => experiment.repeat = repeat,
            Plan::Timeline { .. } => {
                return Err("a timeline is one run: --repeat is for sweeps".to_owned().into());
            }
        }
    }
    if let Some(server) = &parameters.server {
        set_server(experiment, server)?;
    }
    Ok(Settings {
        output: parameters.output.map(PathBuf::from),
        own_server: parameters.server.is_some(),
    })
}

/// The command line of this experiment, whose help names what the script says.
fn command(experiment: &Experiment) -> clap::Command {
    let of_the_script = |arg: Arg, value: u64| {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        arg.help(format!("{help} [{value}]"))
    };
    let command = Parameters::command();
    match experiment.plan {
        Plan::Sweep { to, step, .. } => command
            .mut_arg("rules", |arg| of_the_script(arg, to))
            .mut_arg("step", |arg| of_the_script(arg, step))
            .mut_arg("seconds", |arg| {
                of_the_script(arg, experiment.workload.seconds.into())
            })
            .mut_arg("repeat", |arg| of_the_script(arg, experiment.repeat.into())),
        Plan::Timeline { rules, seconds, .. } => command
            .mut_arg("rules", |arg| of_the_script(arg, rules))
            .mut_arg("seconds", |arg| of_the_script(arg, seconds.into()))
            .mut_arg("step", |arg| arg.hide(true))
            .mut_arg("repeat", |arg| arg.hide(true)),
    }
}

fn set_rules(experiment: &mut Experiment, wanted: u32) -> Result<(), String> {
    let wanted = u64::from(wanted);
    match &mut experiment.plan {
        Plan::Sweep { from, to, .. } if wanted > *from => *to = wanted,
        Plan::Sweep { from, .. } => {
            return Err(format!(
                "--rules must be more than the {from} that the sweep begins with"
            ));
        }
        Plan::Timeline { rules, .. } => *rules = wanted,
    }
    let series = std::iter::once(&experiment.main).chain(&experiment.controls);
    let smallest = series
        .flat_map(|s| &s.rules)
        .filter_map(|r| r.from)
        .map(|p| p.size())
        .min();
    match smallest {
        Some(size) if size < wanted => Err(format!(
            "--rules can't be more than the {size} addresses of the rules' prefix"
        )),
        _ => Ok(()),
    }
}

/// A timeline keeps its proportions.
fn set_seconds(experiment: &mut Experiment, wanted: u32) -> Result<(), String> {
    match &mut experiment.plan {
        Plan::Sweep { .. } => experiment.workload.seconds = wanted,
        Plan::Timeline {
            seconds,
            inject,
            window,
            ..
        } => {
            if wanted < 10 {
                return Err("a timeline takes 10 seconds at least".into());
            }
            let scale = |t: u32| (u64::from(t) * u64::from(wanted) / u64::from(*seconds)) as u32;
            *inject = (scale(inject.0), scale(inject.1));
            *window = scale(*window).max(1);
            *seconds = wanted;
        }
    }
    Ok(())
}

fn set_server(experiment: &mut Experiment, value: &str) -> Result<(), String> {
    let (host, port) = value.rsplit_once(':').unwrap_or((value, "5201"));
    let port: u16 = port
        .parse()
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| format!("--server takes HOST:PORT, not '{value}'"))?;
    let host = host.trim_matches(['[', ']']);
    let addresses = (host, port)
        .to_socket_addrs()
        .map_err(|error| format!("--server {value}: {error}"))?;
    let addresses: Vec<Ipv4Addr> = addresses
        .filter_map(|a| match a.ip() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
        .collect();
    if addresses.is_empty() {
        return Err(format!(
            "--server {value}: the rules are IPv4's, and this has no IPv4 address"
        ));
    }
    for series in std::iter::once(&experiment.main).chain(&experiment.controls) {
        for prefix in series.rules.iter().filter_map(|r| r.from) {
            if let Some(address) = addresses.iter().find(|a| prefix.contains(**a)) {
                return Err(format!(
                    "--server {value}: the rules are about {}/{}, which contains {address}: they would match the workload",
                    prefix.base, prefix.len
                ));
            }
        }
    }
    experiment.topology = Default::default();
    experiment.server = None;
    experiment.workload.to = host.to_owned();
    experiment.workload.port = port;
    experiment.workload.namespace = None;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::block::parse;
    use ktrail_ebpf::script::ast::{RawBlock, Span};

    fn changed(plan: &str, args: &[&str]) -> Result<(Experiment, Settings), Refusal> {
        let text = format!(
            "topology {{ netns a; }} server iperf3 in a; workload iperf3 to 10.0.0.1; \
             {plan} \"x\" {{ each nft \"ip saddr {{addr}} drop\" from 198.18.0.0/20; }}"
        );
        let span = Span::new(0, text.len());
        let mut experiment = parse(&RawBlock { text, span }).unwrap();
        let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
        let settings = apply(&mut experiment, &args)?;
        Ok((experiment, settings))
    }

    const SWEEP: &str = "sweep rules 0..3000 step 100";
    const TIMELINE: &str = "timeline 300 s inject 4000 rules 60..180 window 10";

    #[test]
    fn a_sweep_s() {
        let (experiment, settings) = changed(
            SWEEP,
            &[
                "--rules",
                "500",
                "--step=250",
                "--seconds",
                "2",
                "--repeat",
                "4",
                "--output",
                "here",
            ],
        )
        .unwrap();
        assert_eq!(experiment.plan.steps(), [0, 250, 500]);
        assert_eq!((experiment.workload.seconds, experiment.repeat), (2, 4));
        assert_eq!(settings.output, Some("here".into()));
    }

    #[test]
    fn a_timeline_keeps_its_proportions() {
        let (experiment, _) = changed(TIMELINE, &["--seconds", "30", "--rules", "100"]).unwrap();
        assert_eq!(
            experiment.plan,
            Plan::Timeline {
                seconds: 30,
                rules: 100,
                inject: (6, 18),
                window: 1
            }
        );
    }

    #[test]
    fn a_server_of_the_user_s_own() {
        let (experiment, settings) = changed(SWEEP, &["--server", "127.0.0.1:5300"]).unwrap();
        assert!(
            settings.own_server && experiment.server.is_none() && experiment.topology.namespaces.is_empty()
        );
        assert_eq!(
            (experiment.workload.to.as_str(), experiment.workload.port),
            ("127.0.0.1", 5300)
        );
    }

    #[test]
    fn what_is_wrong() {
        let error = |plan, args: &[&str]| match changed(plan, args).unwrap_err() {
            Refusal::Wrong(text) => text,
            Refusal::Help(text) => panic!("{text}"),
        };
        let unknown = error(SWEEP, &["--rule", "1"]);
        assert!(
            unknown.contains("'--rule'") && unknown.contains("'--rules'"),
            "{unknown}"
        );
        for (plan, args, what) in [
            (SWEEP, &["--step", "0"][..], "invalid value '0' for '--step <N>'"),
            (SWEEP, &["--step"], "value is required for '--step <N>'"),
            (SWEEP, &["--rules", "5000"], "4096 addresses"),
            (SWEEP, &["--server", "198.18.0.9:1"], "would match the workload"),
            (SWEEP, &["--server", "127.0.0.1:0"], "takes HOST:PORT"),
            (SWEEP, &["--output="], "value is required for '--output <FOLDER>'"),
            (TIMELINE, &["--step", "5"], "no steps"),
            (TIMELINE, &["--repeat", "5"], "one run"),
            (TIMELINE, &["--seconds", "5"], "10 seconds at least"),
        ] {
            let said = error(plan, args);
            assert!(said.contains(what), "{args:?}: {said}");
        }
    }

    #[test]
    fn help_names_what_the_script_says() {
        let help = |plan| match changed(plan, &["--help"]).unwrap_err() {
            Refusal::Help(text) => text,
            Refusal::Wrong(text) => panic!("{text}"),
        };
        let sweep = help(SWEEP);
        assert!(
            sweep.contains("[3000]") && sweep.contains("[100]") && sweep.contains("--repeat"),
            "{sweep}"
        );
        let timeline = help(TIMELINE);
        assert!(
            timeline.contains("[4000]") && timeline.contains("[300]"),
            "{timeline}"
        );
        assert!(!timeline.contains("--repeat"), "{timeline}");
    }
}
