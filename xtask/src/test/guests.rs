//! The lab's tests: the scripts in `tests/lab`, all of a kernel's in one boot; those that ask for the counting clock
//! in another.
//!
//! The guest's side is `xtask/guest/run-tests`, which reports line by line, so that a guest that dies half-way
//! leaves what it had said; the scripts that had no turn then count as failed.

use super::report::{Report, Status};
use crate::artifact;
use crate::image::Images;
use crate::kernel::Kernel;
use crate::qemu::{Job, Machine, Outcome, boot};
use crate::setup::{Lab, progress};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

/// The most that a script may take where its head says nothing, in seconds.
const TIMEOUT: u64 = 120;
/// What a guest needs beside its scripts' time: booting and shutting down.
const BOOT: Duration = Duration::from_secs(60);
/// With the counting clock one guest instruction is 2^SHIFT nanoseconds: as quick as a CPU of 125 MHz, so that the
/// seconds that a script waits pass quickly.
const SHIFT: u8 = 3;
/// How many guests run at once, on as many CPUs: a script does one thing after the other and keeps no more than one busy.
const GUESTS: usize = 2;

/// A test script and what its head asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Script {
    name: String,
    timeout: u64,
    /// Time in its guest is counted in instructions, so that measurements repeat whatever else the host does.
    counting: bool,
    /// The kernels that it wants and why no others; none means all.
    kernels: Option<(Vec<String>, String)>,
}

impl Script {
    fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut script = Self {
            name: name.to_owned(),
            timeout: TIMEOUT,
            counting: false,
            kernels: None,
        };
        for line in text.lines().take_while(|line| line.starts_with('#')) {
            let line = line.trim_start_matches('#').trim();
            if let Some(seconds) = line.strip_prefix("timeout:") {
                script.timeout = seconds
                    .trim()
                    .parse()
                    .map_err(|_| format!("`{line}` has no number of seconds"))?;
            } else if let Some(clock) = line.strip_prefix("clock:") {
                if clock.trim() != "counting" {
                    return Err(format!("`{line}` names no clock; there is `counting`"));
                }
                script.counting = true;
            } else if let Some(kernels) = line.strip_prefix("kernels:") {
                let (names, reason) = kernels
                    .split_once(';')
                    .ok_or_else(|| format!("`{line}` has no `; reason`"))?;
                let names: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
                let known = |name: &String| Kernel::ALL.iter().any(|kernel| kernel.name() == name);
                if let Some(name) = names.iter().find(|name| !known(name)) {
                    return Err(format!("`{line}` names {name}, which is no kernel of the lab"));
                }
                script.kernels = Some((names, reason.trim().to_owned()));
            }
        }
        Ok(script)
    }

    /// Why it does not run on `kernel`, if so.
    fn skips(&self, kernel: Kernel) -> Option<&str> {
        let (names, reason) = self.kernels.as_ref()?;
        (!names.iter().any(|name| name == kernel.name())).then_some(reason)
    }
}

/// Runs the scripts whose names contain `filter` on each of `kernels`, with ktrail's `binary`.
pub fn tests(binary: &Path, kernels: &[Kernel], filter: &str, report: &mut Report) -> Result<()> {
    let scripts = match find_scripts(filter)? {
        Ok(scripts) if !scripts.is_empty() => scripts,
        Ok(_) => {
            report.suite("lab");
            report.fail(
                "the lab has tests",
                format!("no script in tests/lab has a name with `{filter}`"),
            );
            return Ok(());
        }
        Err(problem) => {
            report.suite("lab");
            report.fail("the scripts' heads", problem);
            return Ok(());
        }
    };
    let lab = Lab::open()?;
    let images = match Images::prepare(&lab, kernels) {
        Ok(images) => images,
        Err(error) => {
            report.suite("lab");
            report.fail("the set-up", format!("{error:#}"));
            return Ok(());
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let files = match rust_tests() {
        Ok(rust) => [guest_files(binary), rust].concat(),
        Err(error) => {
            report.suite("lab");
            report.fail("the tests that run in the lab too", format!("{error:#}"));
            return Ok(());
        }
    };
    let (lab, images, files, scripts) = (&lab, &images, &files[..], &scripts[..]);
    let boots = [false, true]
        .into_iter()
        .flat_map(|counting| kernels.iter().map(move |&kernel| (kernel, counting)));
    let boots = Mutex::new(boots);
    std::thread::scope(|scope| {
        let (sender, ended) = mpsc::channel();
        for _ in 0..cores.min(GUESTS) {
            let (sender, boots) = (sender.clone(), &boots);
            scope.spawn(move || {
                let next = || boots.lock().expect("no guest's thread panics").next();
                while let Some((kernel, counting)) = next() {
                    let ended = run(lab, images, kernel, files, scripts, counting);
                    sender.send((kernel, counting, ended)).expect("somebody listens");
                }
            });
        }
        drop(sender);
        for (kernel, counting, ended) in ended {
            // A script that this kernel skips is told of once.
            if counting && ended.is_none() {
                continue;
            }
            let release = &images.kernel(kernel)?.release;
            report.suite(&format!("lab {kernel} ({release}){}", clock(counting)));
            if let Some((scripts, outcome)) = ended {
                add(report, &scripts, outcome);
            }
            for script in scripts.iter().filter(|_| !counting) {
                if let Some(reason) = script.skips(kernel) {
                    report.add(&script.name, Status::Skipped(reason.to_owned()));
                }
            }
        }
        Ok(())
    })
}

fn clock(counting: bool) -> &'static str {
    if counting { ", by the counting clock" } else { "" }
}

/// Adds what a boot's scripts reported.
fn add(report: &mut Report, scripts: &[&Script], outcome: Result<Outcome>) {
    let (stdout, end) = match outcome {
        Ok(outcome) => {
            let complaints = String::from_utf8_lossy(&outcome.stderr).into_owned();
            let end = outcome.result.map_err(|why| format!("{why}\n{complaints}"));
            (String::from_utf8_lossy(&outcome.stdout).into_owned(), end)
        }
        Err(error) => (String::new(), Err(format!("{error:#}"))),
    };
    let wanted: Vec<&str> = scripts.iter().map(|script| script.name.as_str()).collect();
    for (name, status) in read(&stdout, &wanted, end.err().as_deref()) {
        report.add(&name, status);
    }
}

fn find_scripts(filter: &str) -> Result<Result<Vec<Script>, String>> {
    let dir = artifact::root().join("tests/lab");
    let mut scripts = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.ends_with(".sh") && name != "lib.sh" && name.contains(filter) {
            match Script::parse(&name, &fs::read_to_string(&path)?) {
                Ok(script) => scripts.push(script),
                Err(problem) => return Ok(Err(format!("{name}: {problem}"))),
            }
        }
    }
    scripts.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Ok(scripts))
}

/// A boot's scripts, and how it ended.
type Ended<'a> = (Vec<&'a Script>, Result<Outcome>);

/// How long a guest's scripts took, in seconds of the guest.
fn durations(stdout: &str) -> String {
    let ends = stdout.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields[..] {
            ["end", script, _, seconds] => Some(format!(", {script} {seconds}")),
            _ => None,
        }
    });
    ends.collect()
}

/// Runs the scripts that want this kernel and this clock, in one boot; none if there are none.
fn run<'a>(
    lab: &Lab,
    images: &Images,
    kernel: Kernel,
    files: &[(PathBuf, PathBuf)],
    scripts: &'a [Script],
    counting: bool,
) -> Option<Ended<'a>> {
    let wanted: Vec<&Script> = scripts
        .iter()
        .filter(|script| script.skips(kernel).is_none() && script.counting == counting)
        .collect();
    if wanted.is_empty() {
        return None;
    }
    let name = format!("the lab's tests on kernel {kernel}{}", clock(counting));
    progress(&name);
    let started = Instant::now();
    let outcome = boot(lab, images, kernel, &job(files, &wanted, counting));
    let took = started.elapsed().as_secs();
    let each = outcome.as_ref().map_or(String::new(), |outcome| {
        durations(&String::from_utf8_lossy(&outcome.stdout))
    });
    progress(&format!("{name} took {took} s{each}"));
    Some((wanted, outcome))
}

fn job(files: &[(PathBuf, PathBuf)], scripts: &[&Script], counting: bool) -> Job {
    let arguments: Vec<String> = scripts
        .iter()
        .map(|script| format!("{} {}", script.name, script.timeout))
        .collect();
    let seconds: u64 = scripts.iter().map(|script| script.timeout).sum();
    // By the counting clock the scripts' seconds are the guest's, which pass as slowly as the host is busy.
    let seconds = if counting { 4 * seconds } else { seconds };
    Job {
        script: Some(format!(
            "set -- {}\n{}",
            arguments.join(" "),
            include_str!("../../guest/run-tests")
        )),
        files: files.to_vec(),
        machine: Machine {
            smp: if counting { 1 } else { Machine::default().smp },
            icount: counting,
            shift: if counting { SHIFT } else { 0 },
            timeout: BOOT + Duration::from_secs(seconds),
            ..Machine::default()
        },
        ..Job::default()
    }
}

/// Rust tests that scripts run in the guests, on other kernels than this machine's, and what they read.
fn rust_tests() -> Result<Vec<(PathBuf, PathBuf)>> {
    Ok(vec![
        (
            artifact::integration_test("filter_view")?,
            PathBuf::from("/lab/bin/filter_view"),
        ),
        (
            artifact::root().join("ebpf/tests/filter/corpus"),
            PathBuf::from("/lab/corpus"),
        ),
    ])
}

/// What every guest gets: ktrail on its PATH, the tests with their library, and the scripts that ship with it.
pub fn guest_files(binary: &Path) -> Vec<(PathBuf, PathBuf)> {
    vec![
        (binary.to_owned(), PathBuf::from("/usr/local/bin/ktrail")),
        (artifact::root().join("tests/lab"), PathBuf::from("/lab/tests")),
        (artifact::root().join("probes"), PathBuf::from("/lab/probes")),
    ]
}

/// Reads a guest's report; `death` says why it did not come to its end, if so.
fn read(stdout: &str, wanted: &[&str], death: Option<&str>) -> Vec<(String, Status)> {
    let mut cases = Vec::new();
    for &script in wanted {
        let mut fields = stdout.lines().map(|line| line.split('\t').collect::<Vec<_>>());
        if !fields.any(|line| line == ["begin", script]) {
            cases.push((
                script.to_owned(),
                Status::Failed(format!("it had no turn: {}", death.unwrap_or(""))),
            ));
            continue;
        }
        let (mut own, mut log, mut code) = (Vec::new(), String::new(), None);
        for line in fields {
            let status = match line[..] {
                ["end", _, number, ..] => {
                    code = Some(number);
                    break;
                }
                ["pass", _] => Status::Passed,
                ["fail", _, reason] => Status::Failed(reason.to_owned()),
                ["skip", _, reason] => Status::Skipped(reason.to_owned()),
                _ => {
                    log.push_str(line.strip_prefix(&["log"]).unwrap_or(&line).join("\t").as_str());
                    log.push('\n');
                    continue;
                }
            };
            own.push((format!("{script}: {}", line[1]), status));
        }
        let ending = match (code, death) {
            (Some("0"), _) if own.is_empty() => Some("it reported no case".to_owned()),
            (Some("0"), _) => None,
            (Some("124" | "137"), _) => Some("it was stopped after its timeout".to_owned()),
            (Some(code), _) => Some(format!("it ended with exit code {code}")),
            (None, death) => Some(format!(
                "the guest died in it: {}",
                death.unwrap_or("without a word")
            )),
        };
        own.extend(ending.map(|ending| (format!("{script}: comes to its end"), Status::Failed(ending))));
        // The log belongs to all of the script's failures; the first one shows it.
        if let Some(Status::Failed(text)) = own
            .iter_mut()
            .map(|(_, s)| s)
            .find(|s| matches!(s, Status::Failed(_)))
        {
            *text = format!("{text}\n--- output of {script}\n{log}");
        }
        cases.extend(own);
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_bounds_a_script() {
        let head = "#!/bin/bash\n# About it.\n# kernels: 6.12 7; older ones have no FPROBE\n# timeout: 9\n# clock: counting\n\n# kernels: x\n";
        let script = Script::parse("a.sh", head).unwrap();
        assert!(script.timeout == 9 && script.counting);
        assert_eq!(script.skips(Kernel::V6_1), Some("older ones have no FPROBE"));
        assert_eq!(script.skips(Kernel::V7), None);
        assert_eq!(
            Script::parse("a.sh", "echo\n").unwrap().skips(Kernel::V5_10),
            None
        );
    }

    #[test]
    fn a_bad_head_is_an_error() {
        assert!(
            Script::parse("a.sh", "# kernels: 6.12\n")
                .unwrap_err()
                .contains("reason")
        );
        assert!(
            Script::parse("a.sh", "# kernels: 6.13; x\n")
                .unwrap_err()
                .contains("6.13")
        );
        assert!(Script::parse("a.sh", "# timeout: long\n").is_err());
        assert!(Script::parse("a.sh", "# clock: wall\n").is_err());
    }

    #[test]
    fn cases_are_read() {
        let stdout =
            "begin\ta.sh\npass\tone\nfail\ttwo\twhy\nskip\tthree\tno room\nlog\tx\ty\nend\ta.sh\t0\n";
        let cases = read(stdout, &["a.sh"], None);
        assert_eq!(
            cases,
            [
                ("a.sh: one".into(), Status::Passed),
                (
                    "a.sh: two".into(),
                    Status::Failed("why\n--- output of a.sh\nx\ty\n".into())
                ),
                ("a.sh: three".into(), Status::Skipped("no room".into())),
            ]
        );
    }

    #[test]
    fn silence_death_and_timeouts_are_failures() {
        let failed = |stdout: &str, death| {
            let cases = read(stdout, &["a.sh"], death);
            let Some((_, Status::Failed(text))) = cases.last() else {
                panic!("{cases:?}")
            };
            text.clone()
        };
        assert!(failed("begin\ta.sh\nend\ta.sh\t0\n", None).contains("no case"));
        assert!(failed("begin\ta.sh\npass\tx\nend\ta.sh\t3\n", None).contains("exit code 3"));
        assert!(failed("begin\ta.sh\nend\ta.sh\t124\n", None).contains("timeout"));
        assert!(failed("begin\ta.sh\npass\tx\n", Some("panic")).contains("died in it: panic"));
        assert!(failed("", Some("panic")).contains("no turn: panic"));
    }
}
