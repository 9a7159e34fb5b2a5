//! Experiments end to end, in namespaces of their own, with a latency that is made up: where kernels can't be probed.

use std::process::Command;
use std::time::Duration;

use ktrail::experiment::block::parse;
use ktrail::experiment::engine::{self, Measured, Probes, Total, Watcher};
use ktrail::experiment::parameters::Settings;
use ktrail::experiment::results::Table;
use ktrail::experiment::workload::Stop;
use ktrail_ebpf::script::ast::{RawBlock, Span};

/// Each reading has ten packets more, of 100 ns each.
struct Fake(u64);

impl Probes for Fake {
    fn total(&mut self, map: &str) -> anyhow::Result<Total> {
        assert_eq!(map, "@ns");
        self.0 += 10;
        Ok(Total {
            count: self.0,
            sum: i128::from(self.0) * 100,
        })
    }
}

/// Stops the run when so many steps are done.
struct StopAfter(usize, Stop);

impl Watcher for StopAfter {
    fn progress(&mut self, done: &str, _: Duration) {
        eprintln!("{done}");
        self.0 = self.0.saturating_sub(1);
        if self.0 == 0 {
            self.1.set();
        }
    }
}

/// Why experiments can't run here.
fn unable() -> Option<String> {
    for (program, args) in [
        ("iperf3", vec!["--version"]),
        ("ip", vec!["netns", "add", "ktrail-try"]),
        (
            "ip",
            vec!["netns", "exec", "ktrail-try", "iptables-legacy", "-nL"],
        ),
        ("ip", vec!["netns", "exec", "ktrail-try", "nft", "add table ip t"]),
        ("ip", vec!["netns", "del", "ktrail-try"]),
    ] {
        let output = Command::new(program).args(&args).output();
        match output {
            Ok(output) if output.status.success() => {}
            _ => {
                let _ = Command::new("ip").args(["netns", "del", "ktrail-try"]).output();
                return Some(format!("'{program} {}' does not work here", args.join(" ")));
            }
        }
    }
    None
}

const TOPOLOGY: &str = "
    topology {
        netns test-client;
        netns test-server;
        veth kttest0 10.99.7.1/24 in test-client, kttest1 10.99.7.2/24 in test-server;
    }
    server iperf3 in test-server;
    workload iperf3 to 10.99.7.2 seconds 1 in test-client;
    sample @ns \"time\";";

fn run(plan: &str, stop_after: usize) -> anyhow::Result<Measured> {
    let text = format!("{TOPOLOGY}{plan}");
    let span = Span::new(0, text.len());
    let experiment = parse(&RawBlock { text, span }).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let stop = Stop::default();
    let mut watcher = StopAfter(stop_after, stop.clone());
    engine::run(
        &experiment,
        &Settings::default(),
        &mut Fake(0),
        &mut watcher,
        &stop,
    )
}

fn left_over() -> String {
    let output = Command::new("ip").args(["netns", "list"]).output().unwrap();
    let names = String::from_utf8(output.stdout).unwrap();
    names.lines().filter(|l| l.contains("ktrail-test")).collect()
}

#[test]
fn experiments_run_and_leave_nothing() {
    if let Some(reason) = unable() {
        println!("skipped: {reason}");
        return;
    }
    let measured = run(
        "sweep rules 0..200 step 200 \"chain\" { each iptables-legacy \"-s {addr} -j DROP\" from 198.18.0.0/15; }
         control \"set\" { set nft \"ip saddr {set} drop\" from 198.18.0.0/15; }",
        99,
    )
    .unwrap();
    let Table::Sweep(steps) = measured.table else {
        panic!("a sweep")
    };
    assert_eq!(
        steps
            .iter()
            .map(|s| (s.series.as_str(), s.rules))
            .collect::<Vec<_>>(),
        [("chain", 0), ("chain", 200), ("set", 0), ("set", 200)]
    );
    assert!(
        steps
            .iter()
            .all(|s| s.throughput_mbit.unwrap() > 1.0 && s.latency_ns == Some(100.0))
    );
    assert_eq!(left_over(), "");

    // Stopped between two steps: what was measured is kept, what was made is not.
    let measured = run(
        "sweep rules 0..200 step 100 \"chain\" { each nft \"ip saddr {addr} drop\" from 198.18.0.0/15; }",
        1,
    )
    .unwrap();
    assert!(measured.interrupted);
    assert!(matches!(measured.table, Table::Sweep(steps) if steps.len() == 1));
    assert_eq!(left_over(), "");

    // A rule that iptables refuses, and one that matches the workload.
    let error = run(
        "sweep rules 0..1 step 1 \"chain\" { once iptables-legacy \"-m nonsense -j DROP\"; }",
        99,
    );
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("iptables-legacy-restore") && error.contains("nonsense"),
        "{error}"
    );
    assert_eq!(left_over(), "");
    let error = run(
        "sweep rules 0..1 step 1 \"chain\" { once iptables-legacy \"-p tcp -m limit --limit 1/s -j REJECT\"; }",
        99,
    );
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("matches the workload") || error.contains("iperf3"),
        "{error}"
    );
    assert_eq!(left_over(), "");

    let measured = run(
        "timeline 4 s inject 100 rules 1..3 window 2 \"chain\" { each iptables-nft \"-s {addr} -j DROP\" from 198.18.0.0/15; }",
        99,
    )
    .unwrap();
    let Table::Timeline(ticks) = measured.table else {
        panic!("a timeline")
    };
    assert_eq!(ticks.len(), 4);
    assert_eq!((ticks[0].rules, ticks[3].rules), (Some(0), Some(100)));
    assert!(ticks[3].latency_ns.is_some());
    let (from, to) = measured.inject.unwrap();
    assert!(
        (1.0..2.5).contains(&from) && (2.5..4.0).contains(&to),
        "{from} {to}"
    );
    assert_eq!(left_over(), "");
}
