//! The tests that cargo runs: format, lints, and every Rust test of the workspace.

use super::report::{Report, Status};
use crate::artifact;
use crate::setup::progress;
use anyhow::{Context, Result};
use std::process::{Command, Stdio};

/// What a Rust test prints that can't run here, followed by its name, a colon and the reason.
const SKIP: &str = "ktrail-test-skip: ";

/// Format and lints.
pub fn source(report: &mut Report) -> Result<()> {
    report.suite("source");
    tool(report, "cargo fmt --check", "rustfmt", &["fmt", "--check"])?;
    let clippy = [
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    tool(report, "cargo clippy", "clippy", &clippy)
}

fn tool(report: &mut Report, name: &str, component: &str, args: &[&str]) -> Result<()> {
    progress(name);
    let there = artifact::cargo()
        .args([args[0], "--version"])
        .output()
        .context("cannot start cargo")?;
    if !there.status.success() {
        let reason = format!("{component} is not installed; run: rustup component add {component}");
        report.add(name, Status::Skipped(reason));
        return Ok(());
    }
    let (success, output) = merged(artifact::cargo().args(args))?;
    report.check(name, (!success).then_some(output));
    Ok(())
}

/// `cargo test --workspace`, one case a test.
pub fn tests(report: &mut Report) -> Result<()> {
    progress("cargo test");
    let (success, output) =
        merged(artifact::cargo().args(["test", "--workspace", "--no-fail-fast", "--", "--show-output"]))?;
    let binaries = parse(&output);
    for binary in &binaries {
        if !binary.cases.is_empty() {
            report.suite(&format!("cargo test: {}", binary.name));
        }
        for (name, status) in &binary.cases {
            report.add(name, status.clone());
        }
    }
    let failed = binaries
        .iter()
        .flat_map(|b| &b.cases)
        .any(|(_, status)| matches!(status, Status::Failed(_)));
    if !success && !failed {
        report.suite("cargo test");
        report.fail("the workspace's tests build and run", output);
    } else if binaries.is_empty() {
        report.suite("cargo test");
        report.fail("the workspace has tests", output);
    }
    Ok(())
}

/// Runs a command with its two outputs in one, in the order in which they were written.
fn merged(command: &mut Command) -> Result<(bool, String)> {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", r#"exec "$@" 2>&1"#, "sh"])
        .arg(command.get_program())
        .args(command.get_args());
    if let Some(dir) = command.get_current_dir() {
        shell.current_dir(dir);
    }
    let output = shell.stdin(Stdio::null()).output().context("cannot start sh")?;
    Ok((
        output.status.success(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    ))
}

/// One test binary's results.
#[derive(Debug, Default)]
struct Binary {
    name: String,
    cases: Vec<(String, Status)>,
}

/// Reads what `cargo test -- --show-output` prints, both outputs in one.
fn parse(output: &str) -> Vec<Binary> {
    let mut binaries: Vec<Binary> = Vec::new();
    // What libtest announced for the last binary and whether it came to its summary.
    let mut open: Option<usize> = None;
    // The test whose captured output is being read.
    let mut section: Option<String> = None;
    for line in output.lines() {
        if let Some(name) = heading(line) {
            finish(&mut binaries, &mut open);
            section = None;
            binaries.push(Binary {
                name,
                cases: Vec::new(),
            });
            continue;
        }
        let Some(binary) = binaries.last_mut() else {
            continue;
        };
        if let Some(count) = announced(line) {
            open = Some(count);
        } else if line.starts_with("test result: ") {
            // A binary that says so and then fails without a failed test is caught by cargo's exit code.
            open = None;
            section = None;
        } else if let Some(name) = section_of(line) {
            section = Some(name.to_owned());
        } else if let Some(name) = &section {
            if line == "successes:" || line == "failures:" {
                section = None;
            } else if let Some((_, status)) = binary.cases.iter_mut().find(|(case, _)| case == name) {
                captured(status, line);
            }
        } else if let Some((name, status)) = result(line) {
            binary.cases.push((name.to_owned(), status));
        }
    }
    finish(&mut binaries, &mut open);
    binaries
}

/// A binary that announced tests and never summed them up has died.
fn finish(binaries: &mut [Binary], open: &mut Option<usize>) {
    if let (Some(count), Some(binary)) = (open.take(), binaries.last_mut()) {
        let done = binary.cases.len();
        let reason = format!("the test binary died after {done} of {count} tests");
        binary
            .cases
            .push(("all tests come to an end".into(), Status::Failed(reason)));
    }
}

/// `     Running unittests src/lib.rs (…/deps/name-hash)` and `   Doc-tests name`.
fn heading(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(name) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{name} (documentation)"));
    }
    let (_, file) = line
        .strip_prefix("Running ")?
        .strip_suffix(')')?
        .rsplit_once('(')?;
    let file = file.rsplit('/').next()?;
    Some(
        file.rsplit_once('-')
            .map_or(file, |(name, _hash)| name)
            .to_owned(),
    )
}

/// `running 3 tests`
fn announced(line: &str) -> Option<usize> {
    let (count, tests) = line.strip_prefix("running ")?.split_once(' ')?;
    matches!(tests, "test" | "tests").then(|| count.parse().ok())?
}

/// `---- name stdout ----`
fn section_of(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" stdout ----")
}

/// `test name ... ok`, `FAILED`, `ignored` or `ignored, reason`.
fn result(line: &str) -> Option<(&str, Status)> {
    let (name, end) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let status = match end {
        "ok" => Status::Passed,
        "FAILED" => Status::Failed(String::new()),
        "ignored" => Status::Skipped("ignored without a reason".into()),
        _ => Status::Skipped(end.strip_prefix("ignored, ")?.to_owned()),
    };
    // A test that should panic, or documentation that should only compile, says so in its name's place.
    let name = name
        .split_once(" - should panic")
        .or_else(|| name.split_once(" - compile"))
        .map_or(name, |n| n.0);
    Some((name, status))
}

/// A line of a test's own output: a reason to skip, or a failure's text.
fn captured(status: &mut Status, line: &str) {
    match status {
        Status::Passed => {
            if let Some(skip) = line.strip_prefix(SKIP) {
                let reason = skip.split_once(": ").map_or(skip, |(_name, reason)| reason);
                *status = Status::Skipped(reason.to_owned());
            }
        }
        Status::Failed(text) => {
            text.push_str(line);
            text.push('\n');
        }
        Status::Skipped(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
   Compiling a v0.1.0
     Running unittests src/lib.rs (target/debug/deps/one_two-0123abc)

running 5 tests
test a::good ... ok
test a::bad ... FAILED
test a::never ... ignored
test a::later ... ignored, needs a lab
test a::unable ... ok

successes:

---- a::unable stdout ----
ktrail-test-skip: unable: no BTF: none here


successes:
    a::good
    a::unable

failures:

---- a::bad stdout ----
thread 'a::bad' panicked at src/lib.rs:1:1:
test x ... ok


failures:
    a::bad

test result: FAILED. 2 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s

     Running tests/dies.rs (target/debug/deps/dies-0123abc)

running 2 tests
test first ... ok
error: test failed, to rerun pass `--test dies`
   Doc-tests one_two

running 1 test
test src/lib.rs - f (line 3) ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s
";

    #[test]
    fn every_test_has_its_own_result() {
        let binaries = parse(OUTPUT);
        let names: Vec<_> = binaries.iter().map(|binary| binary.name.as_str()).collect();
        assert_eq!(names, ["one_two", "dies", "one_two (documentation)"]);
        let cases: Vec<_> = binaries[0]
            .cases
            .iter()
            .map(|(name, status)| (name.as_str(), status.clone()))
            .collect();
        let panic = "thread 'a::bad' panicked at src/lib.rs:1:1:\ntest x ... ok\n\n\n";
        assert_eq!(
            cases,
            [
                ("a::good", Status::Passed),
                ("a::bad", Status::Failed(panic.into())),
                ("a::never", Status::Skipped("ignored without a reason".into())),
                ("a::later", Status::Skipped("needs a lab".into())),
                ("a::unable", Status::Skipped("no BTF: none here".into())),
            ]
        );
        assert_eq!(
            binaries[2].cases,
            [("src/lib.rs - f (line 3)".into(), Status::Passed)]
        );
    }

    #[test]
    fn a_binary_that_dies_has_failed() {
        let died = &parse(OUTPUT)[1].cases;
        assert_eq!(died[0], ("first".into(), Status::Passed));
        assert_eq!(
            died[1].1,
            Status::Failed("the test binary died after 1 of 2 tests".into())
        );
    }

    #[test]
    fn an_expected_panic_is_not_part_of_the_name() {
        assert_eq!(
            result("test a::b - should panic ... ok"),
            Some(("a::b", Status::Passed))
        );
    }
}
