//! Every construct becomes programs that the IR's verifier and code generation take.

use ktrail_ebpf::codegen::{Options, PacketAccess, generate};
use ktrail_ebpf::ir::ProgramKind;
use ktrail_ebpf::kernel::{Features, Session};
use ktrail_ebpf::script::env::{ScriptEnv, Trampoline};
use ktrail_ebpf::script::output::{AttachPoint, Compiled, Target, When};
use ktrail_ebpf::script::{Diagnostic, ParseOptions, compile, parse, render_all};

use crate::env::Table;

pub fn compiled(text: &str) -> Result<Compiled, String> {
    let (script, diagnostics) = parse(text, &ParseOptions::default());
    if diagnostics.iter().any(Diagnostic::is_error) {
        return Err(render_all(&diagnostics, "stdin", text));
    }
    compile(&script, &Table::new()).map_err(|errors| render_all(&errors, "stdin", text))
}

fn generates(text: &str, compiled: &Compiled, features: &Features) {
    let options = Options {
        packet: PacketAccess::KernelRead,
        features,
    };
    for probe in &compiled.probes {
        if let Err(e) = generate(&probe.program, &options) {
            panic!("{text}\n{e}\n{}", probe.program);
        }
    }
}

/// Scripts that compile, one a line.
pub const GOOD: &[&str] = &[
    r#"BEGIN { printf("hello\n"); exit(); }"#,
    r#"kprobe:tcp_connect { @[comm] = count(); } interval:s:3 { print(@); clear(@); }"#,
    r#"kprobe:tcp_connect { @start[tid] = nsecs; } kretprobe:tcp_connect /@start[tid]/ { @ns = avg(nsecs - @start[tid]); delete(@start, tid); }"#,
    r#"BEGIN { $x = 1; $x += 2; $x++; --$x; printf("%d %d\n", $x, $x * 3 / 2); }"#,
    r#"BEGIN { @a = 1; @a++; @a += 5; @b[1] = @a; @b[2]++; printf("%d", @b[1]++ + ++@b[2]); }"#,
    r#"BEGIN { @ = hist(5); @h[comm, 1] = hist(cpu, 3); @l = lhist(pid, 0, 100, 10); @s = stats(pid); }"#,
    r#"BEGIN { @mi = min(pid); @ma[1] = max(-5); @su = sum(5); @c[kstack, ustack(3)] = count(); }"#,
    r#"BEGIN { $t = (1, "two", (3, pid)); printf("%d %s %d", $t.0, $t.1, $t.2.1); print($t); }"#,
    r#"BEGIN { $r = (a = 1, b = comm); print($r.b); @[$r.a] = $r; }"#,
    r#"BEGIN { if (comm == "abc") { print(1); } else if (pid > 5 && uid != 0 || !cpu) { print(2); } else { print(3); } }"#,
    r#"BEGIN { $s = pid > 1 ? "many" : "one"; print($s); print(pid ? 1 : 2); print(pid ?: 5); }"#,
    r#"BEGIN { $i = 0; while ($i < 10) { $i++; if ($i == 5) { continue; } if ($i == 8) { break; } print($i); } }"#,
    r#"BEGIN { for ($i : 0..5) { print($i); } unroll (3) { print("x"); } }"#,
    r#"BEGIN { let $x : uint8 = 5; let $y; $y = "text"; let $z : string[20]; $z = $y; print(($x, $y, $z)); }"#,
    r#"fn add($a : int64, $b : int64) : int64 { if ($a == 0) { return $b; } return $a + $b; } BEGIN { print(add(1, add(2, pid))); }"#,
    r#"kprobe:tcp_connect { $sk = (struct sock *)arg0; printf("%d %d %d %d", $sk->port, $sk->flag, $sk->kind, $sk->mark); }"#,
    r#"kprobe:tcp_connect { printf("%s %s %s", args.sk->owner->comm, ntop(args.sk->address), args.sk->state); }"#,
    r#"kprobe:tcp_connect { if (args.sk->state == OPEN) { @[args.sk->owner->comm] = count(); } }"#,
    r#"kprobe:tcp_* { @[func] = count(); @p[probe] = count(); }"#,
    r#"span:tcp_connect { printf("%d %d %d", duration, retval, args.sk->port); @ = hist(duration); }"#,
    r#"tracepoint:sched:sched_switch { @[args.prev_comm, args.prev_pid] = count(); printf("%s", args.prev_comm); }"#,
    r#"tracepoint:syscalls:sys_enter_openat { printf("%s %s\n", comm, str(args.filename)); @[str(args.filename, 10)] = count(); }"#,
    r#"fentry:tcp_connect { print(args.sk->port); } fexit:tcp_connect { print((retval, args.len)); }"#,
    r#"rawtracepoint:sched_wakeup { print((arg0, args.sk->numbers)); }"#,
    r#"profile:hz:99 { @[kstack] = count(); @p[kstack(perf, 5)] = count(); } software:cpu:100 { @x = count(); } "#,
    r#"BEGIN { time("%H\n"); time(); print(strftime("%H", nsecs)); cat("/proc/loadavg"); join(curtask); system("ls %d", 5); }"#,
    r#"BEGIN { print(ksym(5)); print(usym(5)); print(*kaddr("avenrun")); print(bswap((uint16)5)); print(buf(curtask, 5)); }"#,
    r#"BEGIN { print(strncmp(comm, "abc", 2)); print(strcontains(comm, "b")); print(strlen(comm)); print(comm[0]); }"#,
    r#"BEGIN { print(sizeof(struct sock)); print(offsetof(struct sock, owner)); print((uint8)300); print((bool)5); }"#,
    r#"BEGIN { @m[1, "a"] = 1; @m[2, "bcd"] = 2; if (has_key(@m, (1, "a"))) { delete(@m, (1, "a")); } delete(@m[2, "b"]); zero(@m); }"#,
    r#"struct foo { int a; char b[8]; struct { u8 c; } d; } BEGIN { $f = (struct foo *)5; print($f->a); print($f->b); print($f->d.c); }"#,
    r#"let @l = lruhash(10); BEGIN { @l[1] = (1, "x"); print(@l[1]); print(@l[1].1); print(@l, 5); print(@l, 5, 2); }"#,
    r#"BEGIN { print(ppid); print(pcomm); print(curtask->comm); print(macaddr("abcdef")); print(-5 / 2); print(~1); }"#,
    r#"BEGIN { $x = { let $y = 5; $y + 1 }; $z = if pid > 5 { "a" } else { "bc" }; print(($x, $z)); }"#,
    r#"BEGIN { if (pid == 5) { return; } print(1); exit(3); print(2); } END { print("done"); }"#,
    r#"BEGIN { @x = pid; @x = -1; @y[pid] = 1; @y[-5] = 2; print(@x / @y[3] % 7); }"#,
    r#"BEGIN { printf("%r %rx %c %p %llx %-5s|%5d", buf(curtask, 4), buf(curtask, 4), 65, curtask, nsecs, "a", 5); }"#,
    r#"BEGIN { @a["longer than the other"] = 1; @a["short"] = 2; $s = "a"; $s = "longer"; @t = $s; @t = "the longest of all"; }"#,
    r#"config = { max_map_keys = 10; print_maps_on_exit = false } BEGIN { @[1] = 1; }"#,
    r#"BEGIN { if (pid > 5) { $n = sizeof({ if (1) { $q = comm; } 5 }); $v = "abc"; } else { $v = comm; } print(($n, $v)); }"#,
    r#"BEGIN { @m[1, "a"] = 5; $s = 0; $t = ""; for ($kv : @m) { $s += $kv.1; $t = $kv.0.1; if ($s > 9) { break; } } print(($s, $t, len(@m))); }"#,
    r#"kprobe:tcp_connect { @c[comm] = count(); for ($a : @c) { for ($b : @c) { if ($a.1 < $b.1) { exit(); } } print($a); } return; }"#,
    r#"iter:task { print((args.len, arg1)); @[ctx] = count(); }"#,
    r#"tracepoint:sched:sched_switch { print(args); $a = args; print($a.prev_pid); } fentry:tcp_connect { print(args); }"#,
    r#"kprobe:tcp_connect { print((reg("ip"), reg("sp"))); if (find(@m, 5, $v)) { print($v); } @m[5] = 1; }"#,
    r#"kprobe:tcp_connect { override(-5); signal(9); system("true"); }"#,
    r#"BEGIN { print((getopt("flag"), getopt("other", true), getopt("depth", 5, "How deep"), getopt("word", "none"))); }"#,
    r#"tracepoint:syscalls:sys_enter_openat { $p = (struct sock *)((uint64)curtask - 5); $p = (struct sock *)curtask; print($p->port); }"#,
    r#"BEGIN { $x = 5; $p = &$x; $x++; @m = 1; @k[1] = 2; print((*$p, *(&@m), *(&@k[1]), &$x)); }"#,
    r#"BEGIN { $s = "a"; $s = comm; print(str(&$s)); $x = 0; while ($x < 5) { $x++; $p = &$x; } print(*$p); }"#,
    r#"interval:hz:10 { print(elapsed); } interval:100ms { exit(); } BEGIN { errorf("bad %d", 1); warnf("w"); print(nsecs(tai)); }"#,
];

#[test]
fn every_construct_generates() {
    let new = Table::new();
    for text in GOOD {
        let compiled = compiled(text).unwrap_or_else(|e| panic!("{text}\n{e}"));
        assert!(!compiled.probes.is_empty(), "{text}");
        generates(text, &compiled, new.features());
        // What is old has to do without much.
        generates(
            text,
            &compiled,
            &Features {
                atomic_fetch: true,
                ..Features::default()
            },
        );
    }
}

/// A span is what is cheapest of that which gives what the script asks for: a session of a trampoline, a pair by one, a
/// session of kprobes if the time is all that it needs of the entry, a pair of kprobes.
#[test]
fn spans() {
    let mut env = Table::new();
    let moments = |env: &Table, text: &str| -> Vec<(&'static str, When)> {
        let (script, _) = parse(text, &ParseOptions::default());
        let compiled = compile(&script, env).unwrap_or_else(|e| panic!("{}", render_all(&e, "stdin", text)));
        let features = Features {
            session: env.session,
            ..env.features().clone()
        };
        generates(text, &compiled, &features);
        let targets = compiled.probes.iter().map(|p| &p.targets[0]);
        let when = |target: &Target| match target.attach {
            AttachPoint::Kprobe { when, .. } => ("kprobe", when),
            AttachPoint::Fentry { when, .. } => ("trampoline", when),
            ref other => panic!("{other:?}"),
        };
        targets.map(when).collect()
    };
    let time = r#"span:tcp_connect /duration > 5/ { printf("%d", retval); @[func] = hist(duration); }"#;
    let arguments = r#"span:tcp_connect { @[arg0] = hist(duration); printf("%d", duration); }"#;
    let typed = "span:tcp_connect { @[args.sk->port] = hist(duration); }";
    let registers = r#"span:tcp_connect { @[reg("ip")] = hist(duration); }"#;
    let several = "span:tcp_* { @[func] = hist(duration); }";
    let pair = |kind| [(kind, When::Entry), (kind, When::Return)];
    for text in [time, arguments, typed, registers, several] {
        assert_eq!(moments(&env, text), pair("kprobe"), "{text}");
    }
    let session = Session {
        is_return: 1,
        cookie: 2,
    };
    env.session = Some(session);
    for text in [time, registers, several] {
        assert_eq!(moments(&env, text)[0], ("kprobe", When::Both), "{text}");
    }
    for text in [arguments, typed] {
        assert_eq!(moments(&env, text), pair("kprobe"), "{text}");
    }
    for (trampoline, expected) in [
        (Trampoline::Pair, &pair("trampoline")[..]),
        (Trampoline::Session(session), &[("trampoline", When::Both)]),
    ] {
        env.trampoline = trampoline;
        for text in [time, arguments, typed] {
            assert_eq!(moments(&env, text), expected, "{text}");
        }
        assert_eq!(moments(&env, registers), pair("kprobe"));
        assert_eq!(moments(&env, several)[0], ("kprobe", When::Both));
    }
    // Without bpf_get_func_ip() each function has programs of its own, which know its address.
    let mut old = Table::new();
    old.features.get_func_ip = false;
    assert_eq!(moments(&old, several), pair("kprobe").repeat(3));
    for provider in ["kretprobe", "fentry", "fexit"] {
        let text = format!("{provider}:tcp_* {{ @[func] = count(); }}");
        assert_eq!(moments(&old, &text).len(), 3, "{text}");
    }
    assert_eq!(moments(&old, "kprobe:tcp_* { @[func] = count(); }").len(), 1);
    // Two spans of one function don't take each other's entries.
    for trampoline in [Trampoline::No, Trampoline::Pair] {
        let mut world = Table::new();
        world.trampoline = trampoline;
        let text = "span:tcp_connect { @a = max(duration); } span:tcp_connect { @b = max(duration); }";
        let (script, _) = parse(text, &ParseOptions::default());
        let compiled =
            compile(&script, &world).unwrap_or_else(|e| panic!("{}", render_all(&e, "stdin", text)));
        let between = |program: usize| -> Vec<&str> {
            let maps = compiled.probes[program].program.maps.iter();
            maps.map(|m| m.name.as_str())
                .filter(|name| name.starts_with("span_"))
                .collect()
        };
        assert_eq!(between(0), between(1), "{trampoline:?}");
        assert_eq!(between(2), between(3), "{trampoline:?}");
        assert_ne!(between(0), between(2), "{trampoline:?}");
    }
    // What is wrong is said once.
    let (script, _) = parse(
        "span:tcp_connect { print((arg0, nonsense)); }",
        &ParseOptions::default(),
    );
    let errors = compile(&script, &env).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
}

/// Functions share a program if what its body asks of their prototypes has the same answer for all, and where the kernel
/// has one link for many by trampolines, their programs go by that.
#[test]
fn functions_share_programs() {
    let mut env = Table::new();
    env.session = Some(Session {
        is_return: 1,
        cookie: 2,
    });
    let programs = |env: &Table, text: &str| -> Vec<(ProgramKind, usize)> {
        let (script, _) = parse(text, &ParseOptions::default());
        let compiled = compile(&script, env).unwrap_or_else(|e| panic!("{}", render_all(&e, "stdin", text)));
        let features = Features {
            session: env.session,
            ..env.features().clone()
        };
        generates(text, &compiled, &features);
        let probes = compiled.probes.iter();
        probes.map(|p| (p.program.kind, p.targets.len())).collect()
    };
    // Three functions of one prototype, and vfs_read of another.
    let cases: &[(&str, &[usize])] = &[
        ("fentry:* { @[func] = count(); }", &[4]),
        ("fentry:tcp_* { @[args.sk->port] = count(); }", &[3]),
        ("fentry:* { @[args.len] = count(); }", &[3, 1]),
        ("fentry:* { @[arg0] = count(); }", &[4]),
        ("fexit:* { @[retval] = count(); }", &[3, 1]),
        ("fexit:tcp_* { @[retval, args.len] = count(); }", &[3]),
        ("fentry:tcp_* { print(args); }", &[3]),
    ];
    for multi in [false, true] {
        env.multi = multi;
        let kind = if multi {
            ProgramKind::TracingMulti
        } else {
            ProgramKind::Tracing
        };
        for (text, sizes) in cases {
            let expected: Vec<_> = sizes.iter().map(|&size| (kind, size)).collect();
            assert_eq!(programs(&env, text), expected, "{text}");
        }
        // One function has no use for a link for many.
        let one = programs(&env, "fentry:tcp_connect { @[func] = count(); }");
        assert_eq!(one, [(ProgramKind::Tracing, 1)]);
    }
    // A trampoline of its own has no cookie to tell the name of the probe by.
    let names = "fentry:tcp_* { @[probe] = count(); }";
    assert_eq!(programs(&env, names), [(ProgramKind::TracingMulti, 3)]);
    // A second link over the same functions takes the kernel minutes.
    let twice = programs(
        &env,
        "fentry:* { @a[func] = count(); } fexit:tcp_* { @b[func] = count(); }",
    );
    let (one, each) = (ProgramKind::TracingMulti, ProgramKind::Tracing);
    assert_eq!(twice, [(each, 4), (each, 3)]);
    let apart = programs(
        &env,
        "fentry:tcp_c* { @a[func] = count(); } fexit:vfs_* { @b[func] = count(); }",
    );
    assert_eq!(apart, [(one, 2), (each, 1)]);
    // The kernel's verifier has no types there, which bpf_d_path() needs.
    let path = r#"fentry:tcp_* { print(path(args.sk)); }"#;
    let (script, _) = parse(path, &ParseOptions::default());
    let errors = compile(&script, &env).unwrap_err();
    assert!(format!("{errors:?}").contains("struct path"), "{errors:?}");
    let spans: &[(&str, &[(ProgramKind, usize)])] = &[
        (
            "span:* { @[func] = hist(duration); }",
            &[(ProgramKind::TracingMulti, 4)],
        ),
        (
            "span:tcp_* { @[args.sk->port, retval] = hist(duration); }",
            &[(ProgramKind::TracingMulti, 3)],
        ),
        (
            r#"span:tcp_* { @[reg("ip")] = hist(duration); }"#,
            &[(ProgramKind::Kprobe, 3)],
        ),
    ];
    for (text, expected) in spans {
        assert_eq!(programs(&env, text), *expected, "{text}");
    }
    env.multi = false;
    assert_eq!(programs(&env, names), [(ProgramKind::Tracing, 1); 3]);
    assert_eq!(
        programs(&env, "span:* { @[func] = hist(duration); }"),
        [(ProgramKind::Kprobe, 4)]
    );
    // What lacks an argument that others have is left out, and that is said.
    let text = "fentry:* { @[arg1] = count(); }";
    for multi in [false, true] {
        env.multi = multi;
        let (script, _) = parse(text, &ParseOptions::default());
        let compiled = compile(&script, &env).expect("some have it");
        assert_eq!(compiled.probes[0].targets.len(), 3);
        let warnings: Vec<&str> = compiled.warnings.iter().map(|w| w.message.as_str()).collect();
        let expected = "1 of 4 functions have no arg1 and are left out, fentry:vmlinux:vfs_read among them";
        assert_eq!(warnings, [expected]);
    }
}

/// Scripts that are wrong, and what is said.
const BAD: &[(&str, &str)] = &[
    ("BEGIN { print($x); }", "'$x' has no value yet"),
    ("BEGIN { print(@x); }", "nothing is ever put in it"),
    ("BEGIN { @x = 1; @x[1] = 2; }", "without a key elsewhere"),
    ("BEGIN { @x = 1; @x = \"a\"; }", "'@x' holds int64, not string[2]"),
    ("BEGIN { @x = 1; @x = count(); }", "different kinds of values"),
    (
        "BEGIN { $x = 1; $x = \"a\"; }",
        "'$x' is int64, so it can't hold string[2]",
    ),
    ("BEGIN { printf(\"%d\"); }", "asks for 1 values, but 0 are given"),
    ("BEGIN { printf(\"%d\", comm); }", "does not print string[16]"),
    ("BEGIN { prinf(\"a\"); }", "did you mean 'print"),
    ("BEGIN { print(elapsd); }", "did you mean 'elapsed'"),
    ("BEGIN { print(retval); }", "a begin probe has no 'retval'"),
    ("kprobe:tcp_conect { print(1); }", "did you mean tcp_connect?"),
    ("kprobe:tcp_connect { print(args.skk); }", "has no argument 'skk'"),
    (
        "kprobe:tcp_connect { print(args.sk->prt); }",
        "did you mean 'port'?",
    ),
    ("BEGIN { print(1 / 0); }", "division by zero"),
    ("BEGIN { @c = count(); print(&@c); }", "it has no address"),
    ("BEGIN { print(&$x); }", "'$x' has no value yet"),
    (
        "kprobe:tcp_connect { print(path(args.sk)); }",
        "works in fentry, fexit and iter probes",
    ),
    (
        "fentry:tcp_connect { print(path(args.sk)); }",
        "takes a struct path, such as args.file.f_path, not struct sock",
    ),
    ("fentry:tcp_connect { print(path(5)); }", "a way from an argument"),
    (
        "fentry:tcp_connect { print(path(args.sk.prt)); }",
        "did you mean 'port'?",
    ),
    ("BEGIN { print(reg(\"ip\")); }", "a begin probe has no registers"),
    ("kprobe:tcp_close { print(reg(\"xy\")); }", "there are r15, r14"),
    (
        "tracepoint:sched:sched_switch { override(1); }",
        "only a kprobe can override",
    ),
    (
        "BEGIN { print(getopt(\"word\", 5)); }",
        "--word=given: this option takes a number",
    ),
    ("BEGIN { print(getopt(\"word\", false)); }", "takes true or false"),
    (
        "BEGIN { print((getopt(\"x\", 1), getopt(\"x\", 2))); }",
        "another default",
    ),
    (
        "tracepoint:syscalls:sys_enter_openat { $p = args.filename; $p = (int8 *)curtask; }",
        "int8 __user *, so it can't hold int8 *",
    ),
    (
        "BEGIN { @x = 1; for ($kv : @x) { print($kv); } }",
        "'@x' has no keys to visit",
    ),
    (
        "BEGIN { @h[1] = hist(5); for ($kv : @h) { print($kv); } }",
        "can be printed only",
    ),
    (
        "kprobe:tcp_connect { @m[1] = 1; for ($kv : @m) { print(arg0); } }",
        "can't reach the probe's arguments",
    ),
    (
        "span:tcp_connect { @m[1] = 1; for ($kv : @m) { print(duration); } }",
        "can't reach the probe's arguments",
    ),
    (
        "span:tcp_connect { @m[1] = 1; for ($kv : @m) { print(arg1); } }",
        "can't reach the probe's arguments",
    ),
    (
        "BEGIN { @m[1] = 1; for ($kv : @m) { print(kstack); } }",
        "can't reach the probe's arguments",
    ),
    (
        "BEGIN { @m[1] = 1; for ($kv : @m) { $kv = 5; } }",
        "can't be changed",
    ),
    (
        "fn f() : int64 { for ($kv : @m) { return 1; } return 2; } BEGIN { @m[1] = 1; print(f()); }",
        "can't be left from within a loop",
    ),
    ("BEGIN { print(len(5)); }", "len() takes a map"),
    ("BEGIN { print(args); }", "has no 'args'"),
    ("BEGIN { break; }", "not inside of a loop"),
    (
        "fn f($a : int64) : int64 { return f($a); } BEGIN { print(f(1)); }",
        "calls itself",
    ),
    ("BEGIN { count(); }", "must be put into a map"),
    ("BEGIN { $x = hist(5); }", "must be put into a map"),
    ("BEGIN { @ = lhist(5, 0, 100000, 1); }", "at most 1000 steps"),
    ("BEGIN { let $x = 1; let $x = 2; }", "declared already"),
    ("BEGIN { print(comm == 5); }", "can't be compared"),
    ("interval:s:0 { print(1); }", "1us at least"),
    ("software:nothing { print(1); }", "there is no software event"),
    (
        "config = { nothing = 5 } BEGIN { print(1); }",
        "no setting 'nothing'",
    ),
    (
        r#"BEGIN { static_assert(sizeof(int8) == 2, "one byte"); }"#,
        "one byte",
    ),
    (r#"BEGIN { fail("%s has %d", "it", 3); }"#, "it has 3"),
    (
        "BEGIN { $a = comptime (cpu == 1); }",
        "not known before the script runs",
    ),
    ("BEGIN { print(config.nonsense); }", "there is no 'nonsense'"),
    ("BEGIN { print(usermode); }", "has no 'usermode'"),
    ("BEGIN { print(pid(here)); }", "takes init or curr_ns"),
    (
        "BEGIN { @a = kstack; print(len(@a)); print(len(5)); }",
        "len() takes a map, or 'kstack'",
    ),
    ("BEGIN { print(leader_tid(5)); }", "takes a pointer to a task"),
    (
        "BEGIN { write_user(1, 2, 3); }",
        "takes a text or the address of a variable, not int64",
    ),
    (
        "BEGIN { write_user(1, \"abc\", 5); }",
        "can't write 5 bytes: there are 4 here",
    ),
    (
        "BEGIN { print(socket_cookie(curtask)); }",
        "socket_cookie() works in fentry, fexit, rawtracepoint and iter probes only",
    ),
    (
        "fentry:tcp_connect { print(socket_cookie(arg0)); }",
        "takes a way from an argument through fields, such as args.sk",
    ),
    (
        "BEGIN { print(percpu_kaddr(\"nosuch\")); }",
        "the kernel's symbols have no variable 'nosuch'",
    ),
    (
        "self:signal:SIGUSR2 { }",
        "'SIGUSR2' is no signal that scripts are told of",
    ),
    ("self:timer:SIGUSR1 { }", "self:signal:SIGUSR1 only"),
    (
        r#"BEGIN { skboutput("a.pcap", curtask, 1, 0); }"#,
        "skboutput() takes a struct sk_buff *, not struct task_struct *",
    ),
    (
        "BEGIN { print(comm(1)); }",
        "comm() is that of the process that runs",
    ),
];

#[test]
fn what_is_wrong_is_said() {
    for (text, message) in BAD {
        match compiled(text) {
            Ok(_) => panic!("{text}\ncompiles"),
            Err(said) => assert!(said.contains(message), "{text}\n{said}"),
        }
    }
}

#[test]
fn a_wildcard_is_one_program_unless_its_arguments_differ() {
    let names = |text: &str| -> Vec<Vec<String>> {
        let probes = compiled(text).unwrap().probes.into_iter();
        probes
            .map(|p| p.targets.into_iter().map(|t| t.name).collect())
            .collect()
    };
    let tcp = ["kprobe:tcp_close", "kprobe:tcp_connect", "kprobe:tcp_sendmsg"];
    assert_eq!(names("kprobe:tcp_* { @[func] = count(); }"), [tcp]);
    assert_eq!(names("kprobe:tcp_* { @[args.len] = count(); }"), [tcp]);
    let all = names("kprobe:* { @[args.len] = count(); }");
    assert_eq!(all, [&tcp[..], &["kprobe:vfs_read"]]);
}

#[test]
fn what_changes_the_system_is_noted_with_its_place() {
    let compiled = compiled(r#"kprobe:tcp_connect { override(-5); signal(9); system("true"); }"#).unwrap();
    let places: Vec<u32> = compiled.dangerous.iter().map(|n| n.span.start).collect();
    assert_eq!(places, [21, 35, 46]);
}

#[test]
fn options_are_told_of() {
    let compiled =
        compiled(r#"macro d() { getopt("depth", 5, "How deep") } BEGIN { print(d + d); }"#).unwrap();
    let options: Vec<_> = compiled
        .options
        .iter()
        .map(|o| (&*o.name, &*o.default, &*o.description))
        .collect();
    assert_eq!(options, [("depth", "5", "How deep")]);
}

#[test]
fn what_several_programs_have_wrong_is_said_once() {
    let said =
        compiled("kprobe:tcp_connect, kprobe:tcp_close { print(nothing); print(nothing); }").unwrap_err();
    assert_eq!(said.matches("unknown name").count(), 2, "{said}");
}

#[test]
fn a_pattern_beside_a_name_may_match_nothing() {
    let both = compiled("kprobe:tcp_connect, kprobe:tcp_connect.constprop.* { @[func] = count(); }").unwrap();
    assert_eq!(both.probes.len(), 1);
    let said = compiled("kprobe:nothing.* { @[func] = count(); }").unwrap_err();
    assert!(
        said.contains("there is no kprobe:nothing.* to attach to"),
        "{said}"
    );
}
