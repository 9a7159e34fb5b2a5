//! What scripts print here is, byte for byte, what bpftrace prints: `golden/bpftrace.txt` has scripts and what
//! bpftrace 0.27.1 printed, `$ ` before each script, `\` after output that ends without a newline. Needs root.
//!
//! Each script is given the parameters `7` and `word`. `KTRAIL_BLESS=1` asks the bpftrace on the PATH anew, which must be
//! of a version that knows the language as this one does. Deliberately absent: what depends on the machine, maps of
//! several keys whose order is the kernel's, and the differences that docs/language.md names.

use std::path::Path;
use std::process::{Command, Stdio};

#[macro_use]
mod common;

/// A script and what it prints.
struct Case<'a> {
    script: &'a str,
    output: &'a str,
}

fn cases(text: &str) -> Vec<Case<'_>> {
    let blocks = text.strip_prefix("$ ").expect("the file starts with a script");
    blocks
        .split("\n$ ")
        .map(|block| {
            let (script, output) = block.split_once('\n').unwrap_or((block, ""));
            Case { script, output }
        })
        .collect()
}

/// What a program prints for a script, in the form of the file; with its complaints if it fails.
fn printed(program: &str, before: &[&str], script: &str, parameters: &[&str]) -> String {
    let output = Command::new(program)
        .args(before)
        .args(["-q", "-e", script])
        .args(parameters)
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        text.push_str(&String::from_utf8_lossy(&output.stderr));
    }
    match text.strip_suffix('\n') {
        Some(text) => text.to_owned(),
        None => text + "\\",
    }
}

#[test]
fn scripts_print_what_bpftrace_prints() {
    or_skip!("scripts_print_what_bpftrace_prints");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/bpftrace.txt");
    let text = std::fs::read_to_string(&path).expect("the cases");
    let cases = cases(text.strip_suffix('\n').unwrap_or(&text));
    if std::env::var_os("KTRAIL_BLESS").is_some() {
        let anew = cases.iter().map(|case| {
            let output = printed("bpftrace", &[], case.script, &["7", "word"]);
            format!("$ {}\n{output}\n", case.script)
        });
        return std::fs::write(&path, anew.collect::<String>()).expect("the file can be written");
    }
    let mut wrong = vec![];
    for case in &cases {
        let output = printed(
            env!("CARGO_BIN_EXE_ktrail"),
            &["run"],
            case.script,
            &["--", "7", "word"],
        );
        if output != case.output {
            wrong.push(format!("$ {}\n{output}\n--- not\n{}", case.script, case.output));
        }
    }
    assert!(cases.len() > 100, "only {} cases", cases.len());
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
