//! What the command says to bad input and in bad places: one clear error, the right exit code, nothing attached.

use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

const KTRAIL: &str = env!("CARGO_BIN_EXE_ktrail");

/// Run ktrail; a run that wrongly succeeds ends with `true`.
fn trace(args: &[&str]) -> Output {
    Command::new(KTRAIL)
        .arg("trace")
        .args(args)
        .args(["--", "true"])
        .output()
        .expect("ktrail runs")
}

/// Assert the exit code, one error on standard error, nothing on standard output.
#[track_caller]
fn assert_refused(output: &Output, code: i32, says: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(stderr.matches("ktrail:").count(), 1, "one error:\n{stderr}");
    for part in says {
        assert!(stderr.contains(part), "{part:?} is missing in:\n{stderr}");
    }
    assert!(output.stdout.is_empty());
}

/// Root can take its own privileges away; others can't, and are refused whatever they do.
fn is_root() -> bool {
    // The user id of a process is the owner of its directory in /proc.
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").expect("/proc is mounted")) == 0
}

/// A full disk behind stdout is said, and behind stderr too it is no panic.
#[test]
fn a_full_disk_is_said() {
    let all: &[&[&str]] = &[
        &["--help"],
        &["trace", "--help"],
        &["clean", "--dry-run"],
        &["filter", "udp", "--dump", "asm"],
        &["explain", "--layers"],
        &["run", "-d", "ast", "-e", "BEGIN { exit(); }"],
    ];
    let privileged: &[&[&str]] = &[
        &["run", "-q", "-e", "BEGIN { printf(\"x\"); exit(); }"],
        &["run", "-q", "-f", "json", "-e", "BEGIN { @a = 1; exit(); }"],
    ];
    let full = || std::fs::File::create("/dev/full").expect("/dev/full is there");
    for args in all.iter().chain(privileged.iter().filter(|_| is_root())) {
        let run = |both: bool| {
            let mut command = Command::new(KTRAIL);
            command.args(*args).stdout(full());
            if both {
                command.stderr(full());
            }
            command.output().expect("ktrail runs")
        };
        let output = run(false);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {stderr}");
        assert!(
            stderr.contains("the output can't be written: No space left"),
            "{args:?}: {stderr}"
        );
        assert_eq!(run(true).status.code(), Some(1), "{args:?}");
    }
    let wrong = Command::new(KTRAIL).arg("nonsense").stderr(full()).output();
    assert_eq!(wrong.expect("ktrail runs").status.code(), Some(2));
}

#[test]
fn a_filter_that_does_not_parse_is_shown_at_its_place() {
    assert_refused(
        &trace(&["udp and dts 8.8.8.8"]),
        2,
        &["dts", "        ^^^", "did you mean 'dst'?"],
    );
    assert_refused(&trace(&["--filter", "port 70000"]), 2, &["70000"]);
}

#[test]
fn an_unknown_place_is_named() {
    assert_refused(&trace(&["--interface", "nope0", "udp"]), 2, &["nope0", "ip link"]);
    assert_refused(
        &trace(&["--netns", "nope", "udp"]),
        2,
        &["/run/netns/nope", "ip netns"],
    );
}

#[test]
fn what_runs_beneath_is_not_known_without_the_stack() {
    for backend in ["tracepoint", "tracing-multi"] {
        let output = trace(&[
            "--backend",
            backend,
            "--beneath",
            "fib_table_lookup,dst_alloc",
            "udp",
        ]);
        assert_refused(&output, 2, &["--beneath", backend, "use kprobe-multi or kprobe"]);
    }
}

#[test]
fn a_budget_needs_functions_that_can_be_let_go_of() {
    let backend = "tracing-multi";
    let output = trace(&["--backend", backend, "--max-cost", "5", "udp"]);
    assert_refused(&output, 2, &["--max-cost", backend, "use kprobe-multi or kprobe"]);
}

#[test]
fn a_command_that_does_not_exist_is_found_before_anything_is_attached() {
    let output = Command::new(KTRAIL)
        .args(["trace", "udp", "--", "no-such-command"])
        .output()
        .unwrap();
    assert_refused(&output, 2, &["no-such-command", "PATH"]);
}

#[test]
fn a_bad_regex_is_shown_as_typed() {
    assert_refused(
        &trace(&["--func", "ip_(", "udp"]),
        2,
        &["--func", "ip_(\n", "unclosed group"],
    );
}

#[test]
fn missing_privilege_is_named() {
    let mut command = Command::new(KTRAIL);
    command.args(["trace", "udp"]);
    if is_root() {
        command.uid(65534).gid(65534);
    }
    assert_refused(
        &command.output().unwrap(),
        1,
        &["CAP_BPF", "CAP_PERFMON", "sudo ktrail"],
    );
}

#[test]
fn a_kernel_without_types_is_named() {
    if !is_root() {
        return skip(
            "a_kernel_without_types_is_named",
            "needs root, to hide the kernel's types in a mount namespace",
        );
    }
    let script = format!("mount -t tmpfs none /sys/kernel/btf && exec {KTRAIL} trace udp -- true");
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .output()
        .expect("unshare runs");
    assert_refused(
        &output,
        1,
        &["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF=y"],
    );
}

#[test]
fn nothing_to_attach_to_is_an_error_of_what_was_typed() {
    if !is_root() {
        return skip(
            "nothing_to_attach_to_is_an_error_of_what_was_typed",
            "needs root, to get that far",
        );
    }
    let output = trace(&["--backend", "tracepoint", "--func", "no_such_function", "udp"]);
    assert_refused(&output, 2, &["--func"]);
}

/// Count this test as skipped: the convention of `cargo xtask test`.
fn skip(name: &str, reason: &str) {
    println!("ktrail-test-skip: {name}: {reason}");
}

#[test]
fn figures_are_drawn_from_files_that_others_made() {
    let folder = std::env::temp_dir().join(format!("ktrail-plot-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the test's files");
    let at = |name: &str| folder.join(name).display().to_string();
    let intervals: Vec<String> = (1..=30)
        .map(|t| {
            format!(
                r#"{{"streams": [{{"snd_cwnd": 3000000}}], "sum": {{"end": {t}, "bits_per_second": 9e9, "retransmits": 0}}}}"#
            )
        })
        .collect();
    let report = format!(r#"{{"intervals": [{}], "end": {{}}}}"#, intervals.join(","));
    std::fs::write(at("iperf.json"), report).expect("the report is written");
    std::fs::write(
        at("latency.txt"),
        "Attached\nt=10 packets=5 avg_ns=200\n@avg: 900\n2000\n",
    )
    .expect("written");
    let plot = |args: &[&str]| {
        Command::new(KTRAIL)
            .arg("plot")
            .args(args)
            .output()
            .expect("ktrail runs")
    };
    let (iperf, latency, png, svg) = (at("iperf.json"), at("latency.txt"), at("a.png"), at("a.svg"));

    let output = plot(&[
        "--iperf",
        &iperf,
        "--latency",
        &latency,
        "--shade",
        "5:15",
        "-o",
        &png,
        "-o",
        &svg,
    ]);
    assert!(output.status.success(), "{output:?}");
    let text = std::fs::read_to_string(&svg).expect("there is an SVG");
    for part in [
        "throughput (Gbit/s)",
        "congestion window (KB)",
        "rules are being added",
        "(ns)",
    ] {
        assert!(text.contains(part), "{part} is missing");
    }
    assert_eq!(&std::fs::read(&png).expect("there is a PNG")[1..4], b"PNG");

    assert_refused(
        &plot(&["--iperf", &latency, "-o", &png]),
        1,
        &["latency.txt", "not an iperf3 report"],
    );
    assert_refused(
        &plot(&["--latency", &iperf, "-o", &png]),
        1,
        &["iperf.json", "no line has a latency"],
    );
    assert_refused(
        &plot(&[&latency, "-o", &png]),
        1,
        &["latency.txt", "the first line is neither"],
    );
    assert_refused(
        &plot(&["--iperf", &iperf, "-o", "a.gif"]),
        2,
        &["a.gif", "ends in .png or .svg"],
    );
    std::fs::remove_dir_all(folder).expect("the folder is removed");
}

#[test]
fn functions_are_explained() {
    let explain = |args: &[&str]| {
        Command::new(KTRAIL)
            .arg("explain")
            .args(args)
            .output()
            .expect("ktrail runs")
    };
    let output = explain(&["nf_hook_slow", "ip_rcv"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("runs what is registered at one Netfilter hook") && text.contains("\nip_rcv\n"),
        "{text}"
    );
    assert_refused(
        &explain(&["nf_hok_slow"]),
        2,
        &["nf_hok_slow", "did you mean nf_hook_slow"],
    );
    assert_eq!(explain(&[]).status.code(), Some(2));
}

#[test]
fn an_experiments_parameters_are_its_own() {
    let name = "an_experiments_parameters_are_its_own";
    if !is_root() {
        return skip(name, "compiling asks the kernel what it can do, which needs root");
    }
    let run = |parameters: &[&str]| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../probes/bloated_chain.probe");
        let mut command = Command::new(KTRAIL);
        command
            .args(["run", "-d", "types", script, "--"])
            .args(parameters);
        command.output().expect("ktrail runs")
    };
    let known = run(&["--rules", "300", "--step", "100"]);
    assert_eq!(
        known.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&known.stderr)
    );
    let unknown = run(&["--ruls", "300"]);
    let said = String::from_utf8_lossy(&unknown.stderr);
    assert_eq!(unknown.status.code(), Some(2), "{said}");
    assert!(said.contains("'--ruls'") && said.contains("'--rules'"), "{said}");
    let help = run(&["--help"]);
    let said = String::from_utf8_lossy(&help.stdout);
    assert_eq!(help.status.code(), Some(0), "{said}");
    assert!(said.contains("[3000]"), "what the script says: {said}");
}

#[test]
fn headers_are_refused_before_anything_is_read() {
    for option in ["-I", "--include"] {
        let output = Command::new(KTRAIL)
            .args(["run", option, "net.h", "-e", "BEGIN {"])
            .output()
            .expect("ktrail runs");
        assert_refused(&output, 2, &["C headers", "not read", "import \"FILE.bt\";"]);
    }
}
