//! `ktrail run` on the kernel that runs the tests: what scripts print, how they end, what is said when they can't
//! run. Needs root; says so if it isn't.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

const KTRAIL: &str = env!("CARGO_BIN_EXE_ktrail");

fn is_root() -> bool {
    // The user id of a process is the owner of its directory in /proc.
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").expect("/proc is mounted")) == 0
}

/// Skip the rest of a test, by name and reason.
macro_rules! or_skip {
    ($name:literal) => {
        if !is_root() {
            eprintln!("ktrail-test-skip: {}: needs root", $name);
            return;
        }
    };
}

fn run(args: &[&str]) -> Output {
    Command::new(KTRAIL)
        .arg("run")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("ktrail runs")
}

/// Run a program to its end; what it prints.
#[track_caller]
fn printed(program: &str) -> String {
    let output = run(&["-q", "-e", program]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}:\n{stderr}");
    assert_eq!(stderr, "", "{program}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn begin_and_end_print_in_order_and_maps_follow() {
    or_skip!("begin_and_end_print_in_order_and_maps_follow");
    let program = r#"
        BEGIN { printf("begin %d %s\n", 42, "x"); print((1, "two")); @b = 2; exit(); }
        END { printf("end\n"); @a["k", 1] = count(); }"#;
    assert_eq!(
        printed(program),
        "begin 42 x\n(1, two)\nend\n\n\n@a[k, 1]: 1\n@b: 2\n"
    );
}

#[test]
fn exit_codes_are_the_scripts() {
    or_skip!("exit_codes_are_the_scripts");
    assert_eq!(run(&["-e", "BEGIN { exit(7); }"]).status.code(), Some(7));
    assert_eq!(run(&["-e", "interval:ms:10 { exit(); }"]).status.code(), Some(0));
}

#[test]
fn aggregations_and_histograms() {
    or_skip!("aggregations_and_histograms");
    let bar = "@".repeat(52);
    let program = "BEGIN { @avg = avg(10); @avg = avg(21); @h = hist(5); @m = min(-3); @m = min(4); \
        @s = stats(4); @sum = sum(-5); @x = max(3); exit(); }";
    assert_eq!(
        printed(program),
        format!(
            "\n\n@avg: 15\n@h:\n[4, 8)                 1 |{bar}|\n\n@m: -3\n\
             @s: {{ .count = 1, .average = 4, .total = 4 }}\n@sum: -5\n@x: 3\n"
        )
    );
}

#[test]
fn printing_clearing_and_zeroing_maps() {
    or_skip!("printing_clearing_and_zeroing_maps");
    let program = r#"BEGIN {
        @m["a"] = 10; @m["b"] = 30; @m["c"] = 20;
        print(@m); print(@m, 2); print(@m, 1, 7); print(@m["a"]);
        zero(@m); print(@m); clear(@m); print(@m); printf("done\n"); exit(); }"#;
    assert_eq!(
        printed(program),
        "@m[a]: 10\n@m[c]: 20\n@m[b]: 30\n@m[c]: 20\n@m[b]: 30\n@m[b]: 4\n10\n\
         @m[a]: 0\n@m[b]: 0\n@m[c]: 0\ndone\n\n\n"
    );
}

#[test]
fn loops_over_maps_see_every_entry_and_share_variables() {
    or_skip!("loops_over_maps_see_every_entry_and_share_variables");
    let program = r#"BEGIN {
        @m["a"] = 1; @m["b"] = 2; @m["c"] = 3; @n[1, 2] = 5;
        $sum = 0; $text = "";
        for ($kv : @m) { $sum += $kv.1; if ($kv.1 == 2) { $text = $kv.0; continue; } }
        printf("%d %s %d\n", $sum, $text, len(@m));
        for ($kv : @n) { print($kv); }
        @c["x"] = count(); @c["x"] = count();
        for ($kv : @c) { printf("%s %d\n", $kv.0, $kv.1); }
        $rounds = 0;
        for ($a : @m) { for ($b : @m) { $rounds++; if ($rounds == 7) { break; } } delete(@m, $a.0); }
        printf("%d %d\n", $rounds, len(@m));
        for ($kv : @n) { exit(3); }
        printf("not reached\n"); }
        END { clear(@n); clear(@c); }"#;
    let output = run(&["-q", "-e", program]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    if stderr.contains("bpf_for_each_map_elem (Linux 5.13)") {
        eprintln!(
            "ktrail-test-skip: loops_over_maps_see_every_entry_and_share_variables: the kernel is older than 5.13"
        );
        return;
    }
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(stdout, "6 b 3\n((1, 2), 5)\nx 2\n6 0\n\n\n", "{stderr}");
}

#[test]
fn iterators_and_options_and_whole_arguments() {
    or_skip!("iterators_and_options_and_whole_arguments");
    let output = run(&[
        "-q",
        "-e",
        r#"iter:task /args.task->pid == getopt("pid", 0)/ { printf("%s %d\n", ctx->task->comm, args.task->pid); }"#,
        "--",
        &format!("--pid={}", std::process::id()),
    ]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let expected = format!(" {}\n", std::process::id());
    assert!(stdout.contains(&expected), "{stdout}{stderr}");
    let whole = printed("tracepoint:sched:sched_switch { print(args); exit(); }");
    assert!(whole.starts_with("{ .prev_comm = "), "{whole}");
    assert!(whole.contains(", .next_prio = "), "{whole}");
    let unknown = run(&[
        "-e",
        r#"BEGIN { print(getopt("depth", 5, "How deep")); exit(); }"#,
        "--",
        "--dpth=3",
    ]);
    assert_eq!(unknown.status.code(), Some(2));
    let said = String::from_utf8_lossy(&unknown.stderr);
    assert!(said.contains("--depth=5  How deep"), "{said}");
}

#[test]
fn timers_fire_and_events_keep_their_order() {
    or_skip!("timers_fire_and_events_keep_their_order");
    let program = r#"interval:ms:20 { @n++; printf("%d\n", @n); if (@n == 5) { exit(); } }"#;
    assert_eq!(printed(program), "1\n2\n3\n4\n5\n\n\n@n: 5\n");
}

#[test]
fn tracepoints_see_the_command_that_they_wait_for() {
    or_skip!("tracepoints_see_the_command_that_they_wait_for");
    let program =
        "tracepoint:syscalls:sys_enter_exit_group /pid == cpid/ { printf(\"%d\\n\", args.error_code); }";
    let output = run(&["-q", "-c", "sh -c 'exit 3'", "-e", program]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "3\n\n\n");
}

#[test]
fn raw_tracepoints_have_typed_arguments() {
    or_skip!("raw_tracepoints_have_typed_arguments");
    let program = "rawtracepoint:sched_process_exec /args.p->pid == cpid/ { printf(\"%s\\n\", \
        str(args.bprm->filename)); }";
    let output = run(&["-q", "-c", "/bin/true", "-e", program]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "/bin/true\n\n\n",
        "{stderr}"
    );
}

/// Keeps every CPU busy until it is dropped: some hypervisors stop the timers of a CPU that is idle (`perf record -a`
/// sees nothing there either), and what is tested is that the program is attached to each.
struct Busy(std::sync::Arc<std::sync::atomic::AtomicBool>);

impl Busy {
    fn start(cpus: usize) -> Self {
        let busy = Self(std::sync::Arc::new(true.into()));
        for _ in 0..cpus {
            let on = busy.0.clone();
            std::thread::spawn(move || {
                while on.load(std::sync::atomic::Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        busy
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn profiles_fire_on_every_cpu() {
    or_skip!("profiles_fire_on_every_cpu");
    let cpus = std::thread::available_parallelism().expect("CPUs").get();
    let _busy = Busy::start(cpus);
    let text = printed("profile:ms:10 { @[cpu] = count(); } interval:ms:300 { exit(); }");
    assert!(text.matches("@[").count() >= cpus, "{text}");
}

#[test]
fn json_has_one_object_a_line() {
    or_skip!("json_has_one_object_a_line");
    let program = r#"BEGIN { @x[1, "a"] = 5; printf("a\n"); print((1, 2)); exit(); }"#;
    let output = run(&["-q", "-f", "json", "-e", program]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "{\"type\": \"attached_probes\", \"count\": 1, \"data\": {\"probes\": 1}}\n\
         {\"type\": \"printf\", \"data\": \"a\\n\"}\n{\"type\": \"value\", \"data\": [1,2]}\n\
         {\"type\": \"map\", \"data\": {\"@x\": {\"1,a\": 5}}}\n"
    );
}

#[test]
fn keys_that_a_full_map_refused_are_counted() {
    or_skip!("keys_that_a_full_map_refused_are_counted");
    let program = "config = { max_map_keys = 4; } BEGIN { for ($i : 0..10) { @m[$i] = 1; } exit(); }";
    let output = run(&["-q", "-e", program]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(stdout.matches("@m[").count(), 4, "{stdout}");
    assert!(
        stderr.contains("map @m was full: 6 entries were not made"),
        "{stderr}"
    );
}

#[test]
fn a_full_ring_loses_events_but_not_the_exit() {
    or_skip!("a_full_ring_loses_events_but_not_the_exit");
    // While the command floods the ring, nobody reads it: ktrail is stopped.
    let flood = "sh -c 'kill -STOP $PPID; dd if=/dev/zero of=/dev/null bs=1 count=300000 2>/dev/null; \
        kill -CONT $PPID; exec sleep 5'";
    let program = "tracepoint:syscalls:sys_enter_read /comm == \"dd\"/ { @n++; printf(\"%s %d\\n\", comm, tid); } \
        tracepoint:syscalls:sys_enter_clock_nanosleep /pid == cpid/ { exit(5); }";
    let output = run(&["-q", "-c", flood, "-e", program]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    let number = |text: &str, before: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(before));
        line.and_then(|n| n.parse::<usize>().ok())
    };
    let lines = stdout.lines().filter(|l| l.starts_with("dd ")).count();
    let lost = number(&stderr, "WARNING: Total lost event count: ").expect("the ring was too small");
    assert!(lost > 0, "{stderr}");
    let all = number(&stdout, "@n: ").expect("the count");
    assert!(all >= 300_000, "{all}");
    assert_eq!(lines + lost, all, "every event is printed or counted as lost");
}

/// A script that runs and has printed its first line: the process, the rest of its output, and that line.
fn started(script: &str) -> (Child, BufReader<ChildStdout>, String) {
    let mut child = Command::new(KTRAIL)
        .args(["run", "-q", "-e", script])
        .stdout(Stdio::piped())
        .spawn()
        .expect("ktrail runs");
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    let mut text = String::new();
    out.read_line(&mut text).expect("a line");
    (child, out, text)
}

#[test]
fn interrupts_end_the_run_with_its_maps() {
    or_skip!("interrupts_end_the_run_with_its_maps");
    for signal in ["-INT", "-TERM"] {
        let (mut child, mut out, mut text) =
            started("BEGIN { @x = 1; printf(\"ready\\n\"); } interval:s:100 { } END { printf(\"end\\n\"); }");
        let killed = Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status();
        assert!(killed.expect("kill").success());
        out.read_to_string(&mut text).expect("text");
        assert_eq!(text, "ready\nend\n\n\n@x: 1\n", "{signal}");
        assert!(child.wait().expect("our child").success(), "{signal}");
    }
}

#[test]
fn mistakes_are_shown_at_their_place() {
    let refused = |args: &[&str], says: &str| {
        let output = run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(says), "{says:?} is missing in:\n{stderr}");
        assert!(output.stdout.is_empty());
    };
    refused(&["-e", "BEGIN { printf(\"hi\") "], "stdin:1:");
    refused(&[], "Name a file");
    refused(&["/no/such/file.bt"], "/no/such/file.bt");
    if is_root() {
        refused(&["-e", "BEGIN { print(foo); }"], "              ~~~");
        refused(&["-e", "BEGIN { system(\"true\"); }"], "--unsafe");
        refused(
            &["-e", "tracepoint:sched:no_such { }"],
            "tracepoint:sched:no_such",
        );
    }
}

#[test]
fn files_take_parameters() {
    or_skip!("files_take_parameters");
    let path = std::env::temp_dir().join(format!("ktrail-run-{}.bt", std::process::id()));
    std::fs::write(
        &path,
        "#!/usr/bin/env bpftrace\nBEGIN { printf(\"%d %s %d\\n\", $1, str($2), $#); exit(); }\n",
    )
    .expect("a file");
    let output = run(&["-q", path.to_str().expect("text"), "12", "abc"]);
    std::fs::remove_file(&path).expect("our file");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "12 abc 2\n\n\n",
        "{stderr}"
    );
}

#[test]
fn lists_what_can_be_probed() {
    or_skip!("lists_what_can_be_probed");
    let list = |args: &[&str]| String::from_utf8(run(args).stdout).expect("text");
    assert!(list(&["-l", "tracepoint:sched:sched_sw*"]).contains("tracepoint:sched:sched_switch\n"));
    let verbose = list(&["-lv", "tracepoint:sched:sched_switch"]);
    assert!(verbose.contains("    char prev_comm[16]\n"), "{verbose}");
    let raw = list(&["-lv", "rawtracepoint:vmlinux:sched_switch"]);
    assert!(raw.contains("    struct task_struct * prev\n"), "{raw}");
    let software = list(&["-l", "software:*"]);
    assert!(software.contains("software:page-faults:\n") && software.contains("software:cs:\n"));
    // A return is listed where it is asked for, with what it returns.
    let arguments = "    struct sk_buff * skb\n    struct nf_hook_state * state\n    const struct nf_hook_entries * e\n    unsigned int s\n";
    for (kind, carries) in [
        ("fentry:vmlinux", arguments.to_owned()),
        ("fexit:vmlinux", format!("{arguments}    int retval\n")),
        ("kretprobe", "    int retval\n".to_owned()),
        ("span", format!("{arguments}    int retval\n")),
    ] {
        assert_eq!(
            list(&["-lv", &format!("{kind}:nf_hook_slow")]),
            format!("{kind}:nf_hook_slow\n{carries}")
        );
    }
    assert!(!list(&["-l", "*:nf_hook_slow"]).contains("kretprobe"));
    // Types by name.
    assert_eq!(list(&["-l", "union nf_inet_add?"]), "union nf_inet_addr\n");
    let hooks = list(&["-lv", "enum nf_inet_hooks"]);
    assert!(
        hooks.starts_with("vmlinux: enum nf_inet_hooks {\n\tNF_INET_PRE_ROUTING = 0,\n"),
        "{hooks}"
    );
    let state = list(&["-lv", "struct nf_hook_state"]);
    assert!(
        state.contains("\tint (*okfn)(struct net *, struct sock *, struct sk_buff *);\n};\n"),
        "{state}"
    );
}

#[test]
fn a_dry_run_attaches_and_runs_nothing() {
    or_skip!("a_dry_run_attaches_and_runs_nothing");
    let output = run(&[
        "--dry-run",
        "-e",
        "BEGIN { printf(\"no\\n\"); } interval:s:1 { @ = 1; }",
    ]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(output.stdout.is_empty());
    assert!(stderr.contains("2 probes"), "{stderr}");
}

#[test]
fn what_a_script_says_of_itself_is_json_where_the_output_is() {
    or_skip!("what_a_script_says_of_itself_is_json_where_the_output_is");
    let program = "BEGIN {\n  errorf(\"e %d\", 1); warnf(\"w\"); print(probe); exit(); }";
    let output = run(&["-f", "json", "-e", program]);
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = text.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            r#"{"type": "errorf", "msg": "e 1", "filename": "stdin", "line": 2, "col": 3}"#,
            r#"{"type": "warnf", "msg": "w", "filename": "stdin", "line": 2, "col": 22}"#,
            r#"{"type": "value", "data": "begin"}"#,
        ]
    );
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_command_is_known_of() {
    or_skip!("a_command_is_known_of");
    let program = "BEGIN { print(has_cpid); if comptime has_cpid { print(cpid > 0); } exit(); }";
    assert_eq!(printed(program), "false\n\n\n");
    let output = run(&["-q", "-c", "true", "-e", program]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "true\ntrue\n\n\n");
    let output = run(&["-e", "BEGIN { print(cpid); exit(); }"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("no command runs (-c), so cpid is 0"), "{stderr}");
    let output = run(&["--no-warnings", "-e", "BEGIN { print(cpid); exit(); }"]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "Attached 1 probe\n");
}

#[test]
fn an_assertion_that_fails_ends_the_run_with_an_error() {
    or_skip!("an_assertion_that_fails_ends_the_run_with_an_error");
    let program = "BEGIN { assert(cpu < 0, \"no such cpu\"); print(1); } END { print(2); }";
    let output = run(&["-q", "-e", program]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "2\n\n\n");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("ERROR: assert failed: no such cpu"), "{stderr}");
}

#[test]
fn scripts_import_others_once_and_errors_name_the_file() {
    or_skip!("scripts_import_others_once_and_errors_name_the_file");
    let folder = std::env::temp_dir().join(format!("ktrail-import-{}", std::process::id()));
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let main = write(
        "main.bt",
        "import \"lib/one.bt\"; import \"lib/two.probe\";\nBEGIN { printf(\"%d %d\\n\", one(), two()); exit(); }\n",
    );
    // Beside itself, in a circle, and each once.
    write("lib/one.bt", "import \"two.probe\";\nmacro one() { two() - 1 }\n");
    write(
        "lib/two.probe",
        "#!/usr/bin/env -S ktrail run\nimport \"../main.bt\"; import \"one.bt\";\nfn two() : int64 { return 2; }\n",
    );
    let output = run(&["-q", &main]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1 2\n\n\n");

    // What is imported last begins, and ends, first. A name that isn't beside the file that imports it is one beside the
    // script.
    let order = write(
        "order.bt",
        "import \"lib/b.bt\";\nimport \"c.bt\";\nBEGIN { print(\"a\"); exit(); }\nEND { print(\"end a\"); }\n",
    );
    write(
        "lib/b.bt",
        "import \"lib/d.bt\";\nBEGIN { print(\"b\"); }\nEND { print(\"end b\"); }\n",
    );
    write("c.bt", "BEGIN { print(\"c\"); }\n");
    write("lib/d.bt", "BEGIN { print(\"d\"); }\nEND { print(\"end d\"); }\n");
    let output = run(&["-q", &order]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "d\nc\nb\na\nend d\nend b\nend a\n\n\n"
    );

    write("lib/two.probe", "\nfn two() : int64 { return tw(); }\n");
    let output = run(&["-q", &main]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("lib/two.probe:2:27-29: ERROR: "), "{stderr}");
    assert!(
        stderr.contains("fn two() : int64 { return tw(); }\n                          ~~\n"),
        "{stderr}"
    );

    let main = write(
        "wrong.bt",
        "import \"no.bt\";\nimport \"lib\";\nimport \"a.h\";\nBEGIN { exit(); }\n",
    );
    write("a.h", "int x;\n");
    let output = run(&["-q", &main]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    for expected in [
        "wrong.bt:1:1-15: ERROR: can't import ",
        "No such file",
        "wrong.bt:2:1-13: ERROR: can't import ",
        "it is not a file",
        "only .bt and .probe files can be imported",
    ] {
        assert!(stderr.contains(expected), "{expected}:\n{stderr}");
    }

    let main = write("open.bt", "import \"lib/one.bt\";\nBEGIN { exit(); }\n");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(folder.join("lib"), open).expect("set");
    let output = run(&["-q", &main]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("everybody can write into "), "{stderr}");
    std::fs::remove_dir_all(&folder).expect("removed");
}

#[test]
fn settings_of_the_environment_win_over_the_config_block() {
    or_skip!("settings_of_the_environment_win_over_the_config_block");
    let with = |name: &str, value: &str| {
        let script = "config = { max_strlen = 64 } BEGIN { print(config.max_strlen); exit(); }";
        let mut command = Command::new(KTRAIL);
        command.args(["run", "-q", "-e", script]).env(name, value);
        command.output().expect("ktrail runs")
    };
    let output = with("BPFTRACE_MAX_STRLEN", "32");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "32\n\n\n");
    let output = with("BPFTRACE_MAX_STRLEN", "many");
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    let wanted = "BPFTRACE_MAX_STRLEN=many: 'max_strlen' takes a number from 1 to 16384";
    assert!(stderr.contains(wanted), "{stderr}");
}

#[test]
fn failures_are_counted_where_they_happened() {
    or_skip!("failures_are_counted_where_they_happened");
    let script = r#"BEGIN { @a[1] = 1; print(*(uint64*)kptr(0) + *(uint32*)kptr(1)); print(str(uptr(5))); print(@a[2]); print(comm); exit(); }"#;
    let output = run(&["-k", "-e", script]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let places: Vec<&str> = stderr.lines().filter(|l| l.contains("WARNING")).collect();
    let unreadable = "memory could not be read 1 times; the result was 0 or empty";
    let wanted = [
        format!("stdin:1:26-43: WARNING: {unreadable}"),
        format!("stdin:1:46-63: WARNING: {unreadable}"),
        format!("stdin:1:72-84: WARNING: {unreadable}"),
        "stdin:1:93-98: WARNING: @a had no such entry 1 times; the result was 0 or empty".into(),
    ];
    assert_eq!(places, wanted, "{stderr}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.starts_with("0\n\n0\n"), "{stdout}");
    // Without the option nothing is said.
    let output = run(&["-e", script]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("WARNING"), "{stderr}");
}

#[test]
fn output_waits_for_a_full_buffer_if_that_is_asked_for() {
    or_skip!("output_waits_for_a_full_buffer_if_that_is_asked_for");
    let size = |mode: &str| {
        let file = std::env::temp_dir().join(format!("ktrail-buffer-{mode}-{}", std::process::id()));
        let path = file.to_str().expect("a name of text");
        let script = format!("BEGIN {{ print(1); }} interval:ms:200 {{ cat(\"{path}\"); exit(); }}");
        let output = run(&["-B", mode, "-o", path, "-e", &script]);
        assert!(output.status.success(), "{output:?}");
        let text = std::fs::read_to_string(&file).expect("the output");
        std::fs::remove_file(&file).expect("it is ours");
        text
    };
    // What the file held when it was printed into itself.
    assert_eq!(size("line"), "1\n1\n\n\n");
    assert_eq!(size("none"), "1\n1\n\n\n");
    assert_eq!(size("full"), "1\n\n\n");
}

#[test]
fn all_stages_are_shown_in_their_order() {
    or_skip!("all_stages_are_shown_in_their_order");
    let output = run(&["-d", "all", "-e", "BEGIN { @a = 1; }"]);
    let text = String::from_utf8_lossy(&output.stdout);
    let headings: Vec<&str> = text.lines().filter(|l| l.starts_with("---")).collect();
    assert_eq!(
        headings,
        ["--- ast", "--- types", "--- ir", "--- asm", "--- verifier"]
    );
}

#[test]
fn a_script_is_told_of_a_signal() {
    or_skip!("a_script_is_told_of_a_signal");
    let script = r#"BEGIN { system("kill -USR1 $PPID"); }
        self:signal:SIGUSR1 { print((probe, probetype, @n)); @n = 1; }
        self:signal:SIGUSR1 /@n == 1/ { print("second"); exit(3); }
        END { print("end"); }"#;
    let output = run(&["--unsafe", "-q", "-e", script]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "(self:signal:SIGUSR1, special, 0)\nsecond\nend\n\n\n@n: 1\n"
    );
    assert_eq!(output.status.code(), Some(3));
    let listed = run(&["-l", "self:*"]);
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "self:signal:SIGUSR1\n");
}

#[test]
fn sockets_have_cookies() {
    or_skip!("sockets_have_cookies");
    let script = r#"rawtracepoint:inet_sock_set_state {
        $cookie = socket_cookie(args.sk);
        @[$cookie > 0, $cookie == args.sk.__sk_common.skc_cookie.counter] = count(); }"#;
    // A connection that nobody accepts changes its socket's state, too.
    let output = run(&[
        "-q",
        "-e",
        script,
        "-c",
        "bash -c 'exec 3<>/dev/tcp/127.0.0.1/9' 2>/dev/null",
    ]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = stdout.lines().filter(|l| !l.is_empty()).collect();
    assert_eq!(lines.len(), 1, "{output:?}");
    assert!(lines[0].starts_with("@[true, true]: "), "{stdout}");
}

#[test]
fn loops_of_many_rounds_are_not_walked_by_the_verifier() {
    let name = "loops_of_many_rounds_are_not_walked_by_the_verifier";
    or_skip!("loops_of_many_rounds_are_not_walked_by_the_verifier");
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("/proc is mounted");
    let mut numbers = release.split(['.', '-']).map_while(|n| n.parse::<u32>().ok());
    if (numbers.next(), numbers.next()) < (Some(6), Some(9)) {
        eprintln!("ktrail-test-skip: {name}: loops have no may_goto before Linux 6.9");
        return;
    }
    for (body, result) in [
        (
            "for ($i : 0..50000) { $n += $i; @ = count(); }",
            1_249_975_000_i64,
        ),
        (
            "$m = 50000; for ($i : 0..$m) { $n++; if ($i % 3 == 0) { continue; } @ = count(); }",
            50_000,
        ),
        (
            "for ($i : 0..300) { for ($j : 0..300) { $n++; if ($n % 7 == 0) { @ = count(); } } }",
            90_000,
        ),
        ("while ($n < 500000) { $n++; @[$n % 3] = count(); }", 500_000),
        (
            "for ($i : 0..1000) { if ($i % 3 == 0) { $n++; } if ($i % 5 == 0) { $n++; } @ = count(); @a = count(); \
             if ($n % 7 == 0) { @b = count(); } if ($n % 2 == 0) { @c = count(); } @d[$n % 3] += 1; }",
            534,
        ),
    ] {
        let config = "config = { print_maps_on_exit = false }";
        let program = format!("{config} BEGIN {{ let $n : int64 = 0; {body} print($n); exit(); }}");
        assert_eq!(printed(&program), format!("{result}\n\n\n"), "{body}");
    }
}

#[test]
fn packets_are_written_to_capture_files() {
    or_skip!("packets_are_written_to_capture_files");
    let file = std::env::temp_dir().join(format!("ktrail-skboutput-{}.pcap", std::process::id()));
    let path = file.to_str().expect("a name of text");
    // On the loopback device data begins with the IP header by then.
    let script = format!(
        r#"BEGIN {{ printf("ready\n"); }} rawtracepoint:netif_rx /args.skb.len == 61/ {{
            $whole = skboutput("{path}", args.skb, args.skb.len, 0);
            printf("%d %d\n", $whole, skboutput("{path}", args.skb, 8, 20)); exit(); }} interval:s:10 {{ exit(1); }}"#
    );
    let (mut child, mut out, mut text) = started(&script);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
    let to = socket.local_addr().expect("an address");
    let payload = [0x5a; 33];
    // What is attached last may not be there yet.
    while child.try_wait().expect("our child").is_none() {
        socket.send_to(&payload, to).expect("sent");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    out.read_to_string(&mut text).expect("text");
    let bytes = std::fs::read(&file).expect("the file");
    std::fs::remove_file(&file).expect("it is ours");
    assert!(text.starts_with("ready\n0 0\n"), "{text}");
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    assert_eq!((word(0), word(20)), (0xa1b2_3c4d, 101));
    // The whole packet, then eight bytes from its UDP header on.
    assert_eq!((word(32), word(36)), (61, 61));
    let packet = &bytes[40..101];
    assert_eq!((packet[0], packet[9]), (0x45, 17));
    assert_eq!(packet[20..22], to.port().to_be_bytes());
    assert_eq!(packet[28..], payload);
    assert_eq!((word(109), word(113)), (8, 8));
    assert_eq!(bytes[117..125], packet[20..28]);
    let second = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let second = second.expect("after 1970").as_secs();
    assert!(second.abs_diff(u64::from(word(24))) < 60, "{}", word(24));
}
