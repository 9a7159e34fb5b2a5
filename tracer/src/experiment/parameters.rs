//! What can be changed from the command line: `ktrail run FILE -- --rules 500 --step 100 --seconds 2`.

use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs};
use std::path::PathBuf;

use super::block::{Experiment, Plan};

/// The parameters, in one line.
pub const HELP: &str =
    "--rules N, --step N, --seconds N, --repeat N, --server HOST:PORT, --no-controls, --output FOLDER";

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
/// What is wrong with them, in a sentence.
pub fn apply(experiment: &mut Experiment, args: &[String]) -> Result<Settings, String> {
    let mut settings = Settings::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let (name, inline) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (arg.as_str(), None),
        };
        if name == "--no-controls" {
            experiment.controls.clear();
            continue;
        }
        if ![
            "--rules",
            "--step",
            "--seconds",
            "--repeat",
            "--server",
            "--output",
        ]
        .contains(&name)
        {
            return Err(format!("an experiment has no parameter '{name}'; it has {HELP}"));
        }
        let value = inline
            .or_else(|| args.next().cloned())
            .filter(|value| !value.is_empty())
            .ok_or_else(|| format!("{name} needs a value"))?;
        match name {
            "--rules" => set_rules(experiment, number(name, &value)?)?,
            "--step" => match &mut experiment.plan {
                Plan::Sweep { step, .. } => *step = u64::from(number(name, &value)?),
                Plan::Timeline { .. } => return Err("a timeline has no steps: --step is for sweeps".into()),
            },
            "--seconds" => set_seconds(experiment, number(name, &value)?)?,
            "--repeat" => match experiment.plan {
                Plan::Sweep { .. } => experiment.repeat = number(name, &value)?,
                Plan::Timeline { .. } => return Err("a timeline is one run: --repeat is for sweeps".into()),
            },
            "--server" => {
                set_server(experiment, &value)?;
                settings.own_server = true;
            }
            _ => settings.output = Some(value.into()),
        }
    }
    Ok(settings)
}

fn number(name: &str, value: &str) -> Result<u32, String> {
    let number = value.parse().ok().filter(|n| *n > 0);
    number.ok_or_else(|| format!("{name} takes a whole number above 0, not '{value}'"))
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

    fn changed(plan: &str, args: &[&str]) -> Result<(Experiment, Settings), String> {
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
        let error = |plan, args: &[&str]| changed(plan, args).unwrap_err();
        assert!(error(SWEEP, &["--rule", "1"]).starts_with("an experiment has no parameter '--rule'"));
        assert_eq!(
            error(SWEEP, &["--step", "0"]),
            "--step takes a whole number above 0, not '0'"
        );
        assert_eq!(error(SWEEP, &["--step"]), "--step needs a value");
        assert!(error(SWEEP, &["--rules", "5000"]).contains("4096 addresses"));
        assert!(error(SWEEP, &["--server", "198.18.0.9:1"]).contains("would match the workload"));
        assert!(error(SWEEP, &["--server", "127.0.0.1:0"]).contains("takes HOST:PORT"));
        assert_eq!(error(SWEEP, &["--output="]), "--output needs a value");
        assert!(error(TIMELINE, &["--step", "5"]).contains("no steps"));
        assert!(error(TIMELINE, &["--repeat", "5"]).contains("one run"));
        assert!(error(TIMELINE, &["--seconds", "5"]).contains("10 seconds at least"));
    }
}
