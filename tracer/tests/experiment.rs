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
    let name = format!("ktrail-try{}", std::process::id());
    let tried = [
        "iperf3 --version".to_owned(),
        format!("ip netns add {name}"),
        format!("ip netns exec {name} iptables-legacy -nL"),
        format!("ip netns exec {name} iptables-nft -nL"),
        format!("ip netns exec {name} nft add table ip t"),
    ]
    .into_iter()
    .find(|command| {
        let mut words = command.split(' ');
        let program = words.next().unwrap_or("");
        !Command::new(program)
            .args(words)
            .output()
            .is_ok_and(|o| o.status.success())
    });
    let _ = Command::new("ip").args(["netns", "del", &name]).output();
    tried.map(|command| format!("'{command}' does not work here"))
}

/// Names that no other run of these tests has.
fn topology() -> String {
    let id = std::process::id();
    format!(
        "topology {{
            netns c{id};
            netns s{id};
            veth ktc{id} 10.99.7.1/24 in c{id}, kts{id} 10.99.7.2/24 in s{id};
        }}
        server iperf3 in s{id};
        workload iperf3 to 10.99.7.2 seconds 1 in c{id};
        sample @ns \"time\";"
    )
}

fn run(plan: &str, stop_after: usize) -> anyhow::Result<Measured> {
    let text = format!("{}{plan}", topology());
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
    let id = std::process::id();
    let mine = |l: &&str| l.contains(&format!("ktrail-c{id}")) || l.contains(&format!("ktrail-s{id}"));
    names.lines().filter(mine).collect()
}

#[test]
fn experiments_run_and_leave_nothing() {
    if let Some(reason) = unable() {
        println!("ktrail-test-skip: experiments_run_and_leave_nothing: {reason}");
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
    assert_eq!(measured.ended.as_deref(), Some("interrupted"));
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

    let error = run(
        "sweep rules 0..1 step 1 \"chain\" { once nft \"ip daddr 10.99.7.2 drop\"; }",
        99,
    );
    let error = error.unwrap_err().to_string();
    assert!(error.contains("matches the workload"), "{error}");
    assert_eq!(left_over(), "");

    // A timeline that is stopped has what came before.
    let measured = run(
        "timeline 60 s inject 100 rules 30..40 window 2 \"chain\" { each nft \"ip saddr {addr} drop\" from 198.18.0.0/15; }",
        1,
    )
    .unwrap();
    assert_eq!(measured.ended.as_deref(), Some("interrupted"));
    let Table::Timeline(ticks) = measured.table else {
        panic!("a timeline")
    };
    assert!(!ticks.is_empty() && ticks.len() < 30, "{ticks:?}");
    assert!(ticks.iter().any(|t| t.latency_ns == Some(100.0)), "{ticks:?}");
    assert_eq!(left_over(), "");

    let measured = run(
        "timeline 6 s inject 100 rules 3..4 window 2 \"chain\" { each iptables-nft \"-s {addr} -j DROP\" from 198.18.0.0/15; }",
        99,
    )
    .unwrap();
    let Table::Timeline(ticks) = measured.table else {
        panic!("a timeline")
    };
    // The machine may be slow, so times have a second's room.
    assert_eq!(ticks.len(), 6);
    assert_eq!((ticks[0].rules, ticks[5].rules), (Some(0), Some(100)));
    assert!(ticks[5].latency_ns.is_some());
    let (from, to) = measured.inject.unwrap();
    assert!(3.0 <= from && from < to.max(4.0) && to < 6.0, "{from} {to}");
    assert_eq!(left_over(), "");
}
