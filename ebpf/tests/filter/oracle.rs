//! What libpcap makes of an expression: its unoptimised code, by `tcpdump -O -ddd`.
//!
//! The code is kept beside the expressions in `corpus/NAME.cbpf`, one line an expression, so that the comparison needs
//! no tcpdump. `KTRAIL_BLESS=1` writes these files anew, which needs one.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::cbpf;

/// An expression and what libpcap makes of it.
pub struct Case {
    pub text: String,
    /// The code, or libpcap's message.
    pub code: Result<Vec<cbpf::Insn>, String>,
}

pub fn corpus() -> PathBuf {
    // Tests of the crate above use it too, and in the lab's guests it is elsewhere.
    match std::env::var_os("KTRAIL_CORPUS") {
        Some(path) => path.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../ebpf/tests/filter/corpus"),
    }
}

/// The expressions of `corpus/NAME.txt`: one a line, `#` starts a comment.
pub fn expressions(name: &str) -> Vec<String> {
    let path = corpus().join(format!("{name}.txt"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines()
        .map(|line| line.split('#').next().unwrap_or("").trim().to_string())
        .filter(|line| !line.is_empty())
        .collect()
}

/// The expressions of `corpus/NAME.txt` with libpcap's code from `corpus/NAME.cbpf`.
pub fn cases(name: &str) -> Vec<Case> {
    let path = corpus().join(format!("{name}.cbpf"));
    let texts = expressions(name);
    if std::env::var_os("KTRAIL_BLESS").is_some() {
        let lines: Vec<String> = texts
            .iter()
            .map(|text| format!("{text}\t{}\n", compile(text).unwrap_or_else(|e| e)))
            .collect();
        std::fs::write(&path, lines.concat()).expect("the corpus can be written");
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let cases: Vec<Case> = golden
        .lines()
        .map(|line| {
            let (text, code) = line.split_once('\t').expect("a tab after the expression");
            let code = match code.strip_prefix("error: ") {
                Some(message) => Err(message.to_string()),
                None => Ok(cbpf::parse(code)),
            };
            Case {
                text: text.into(),
                code,
            }
        })
        .collect();
    let known: Vec<&String> = cases.iter().map(|case| &case.text).collect();
    assert!(
        known == texts.iter().collect::<Vec<_>>(),
        "{name}.cbpf is older than {name}.txt: run with KTRAIL_BLESS=1 where tcpdump is installed"
    );
    cases
}

/// Everything that libpcap takes and that is not judged differently on purpose, with its code.
#[allow(dead_code)] // the comparison in this crate asks about the differences, too
pub fn agreed() -> Vec<(String, Vec<cbpf::Insn>)> {
    const FILES: [&str; 4] = ["basic", "arithmetic", "link", "encapsulation"];
    let table = std::fs::read_to_string(corpus().join("differences.txt")).expect("the table");
    let differs: Vec<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("always\t")?.split('\t').next())
        .collect();
    FILES
        .iter()
        .flat_map(|name| cases(name))
        .filter(|case| !differs.contains(&case.text.as_str()))
        .filter_map(|case| Some((case.text, case.code.ok()?)))
        .collect()
}

/// The numbers that tcpdump prints for an expression, or `error: …`.
pub fn compile(text: &str) -> Result<String, String> {
    let output = Command::new("tcpdump")
        .args(["-y", "EN10MB", "-O", "-ddd", "--", text])
        .output()
        .expect("tcpdump is installed");
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        let message = message
            .lines()
            .last()
            .unwrap_or("")
            .trim_start_matches("tcpdump: ")
            .to_string();
        return Err(format!("error: {message}"));
    }
    let numbers = String::from_utf8(output.stdout).expect("numbers");
    let words: Vec<&str> = numbers.split_whitespace().skip(1).collect();
    Ok(words.join(" "))
}
