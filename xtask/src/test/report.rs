//! The results of all tests: printed as they come, counted, and written to a file.

use anyhow::{Context, Result};
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// How one test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It ran and held.
    Passed,
    /// It ran and did not hold; the output says why.
    Failed(String),
    /// It did not run, for this reason.
    Skipped(String),
}

/// One test's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The group that it belongs to.
    pub suite: String,
    /// Its name, unique within the suite.
    pub name: String,
    /// How it ended.
    pub status: Status,
}

/// All results so far.
#[derive(Debug, Default)]
pub struct Report {
    cases: Vec<Case>,
    suite: String,
}

impl Report {
    /// Starts a suite; what follows belongs to it.
    pub fn suite(&mut self, name: &str) {
        println!("== {name}");
        name.clone_into(&mut self.suite);
    }

    /// Adds a result to the current suite.
    pub fn add(&mut self, name: &str, status: Status) {
        match &status {
            Status::Passed => println!("ok      {name}"),
            Status::Failed(_) => println!("FAILED  {name}"),
            Status::Skipped(reason) => println!("skipped {name}: {reason}"),
        }
        self.cases.push(Case {
            suite: self.suite.clone(),
            name: name.to_owned(),
            status,
        });
    }

    /// Adds a failure.
    pub fn fail(&mut self, name: &str, output: String) {
        self.add(name, Status::Failed(output));
    }

    /// Adds a pass, or a failure with `problem` where there is one.
    pub fn check(&mut self, name: &str, problem: Option<String>) {
        self.add(name, problem.map_or(Status::Passed, Status::Failed));
    }

    /// Writes all results, one a line: status, suite, name and a skipped one's reason, separated by tabs.
    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        fs::write(path, self.lines()).with_context(|| format!("cannot write {}", path.display()))
    }

    fn lines(&self) -> String {
        self.cases
            .iter()
            .fold(String::new(), |mut text, Case { suite, name, status }| {
                let _ = match status {
                    Status::Passed => writeln!(text, "passed\t{suite}\t{name}"),
                    Status::Failed(_) => writeln!(text, "failed\t{suite}\t{name}"),
                    Status::Skipped(reason) => writeln!(text, "skipped\t{suite}\t{name}\t{reason}"),
                };
                text
            })
    }

    /// Prints what was skipped, what failed with its output, and the closing line; gives the exit code.
    pub fn close(&self) -> u8 {
        print!("{}", self.closing());
        u8::from(self.count(|status| matches!(status, Status::Failed(_))) > 0)
    }

    fn count(&self, wanted: impl Fn(&Status) -> bool) -> usize {
        self.cases.iter().filter(|case| wanted(&case.status)).count()
    }

    fn closing(&self) -> String {
        let mut text = String::from("\n");
        for Case { suite, name, status } in &self.cases {
            if let Status::Skipped(reason) = status {
                let _ = writeln!(text, "skipped: {suite}: {name}: {reason}");
            }
        }
        for Case { suite, name, status } in &self.cases {
            if let Status::Failed(output) = status {
                let _ = writeln!(text, "\nFAILED: {suite}: {name}");
                for line in output.lines() {
                    let _ = writeln!(text, "    {line}");
                }
            }
        }
        let passed = self.count(|status| *status == Status::Passed);
        let failed = self.count(|status| matches!(status, Status::Failed(_)));
        let skipped = self.count(|status| matches!(status, Status::Skipped(_)));
        let _ = writeln!(text, "\n{passed} passed, {failed} failed, {skipped} skipped");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        report.suite("s");
        report.add("a", Status::Passed);
        report.add("b", Status::Failed("why\nso".into()));
        report.add("c", Status::Skipped("no room".into()));
        report
    }

    #[test]
    fn the_closing_line_counts() {
        let text = report().closing();
        assert!(text.ends_with("\n1 passed, 1 failed, 1 skipped\n"), "{text}");
        assert!(text.contains("FAILED: s: b\n    why\n    so\n"), "{text}");
        assert!(text.contains("skipped: s: c: no room\n"), "{text}");
        assert_eq!(report().close(), 1);
        assert_eq!(Report::default().close(), 0);
    }

    #[test]
    fn the_file_has_a_line_a_case() {
        assert_eq!(
            report().lines(),
            "passed\ts\ta\nfailed\ts\tb\nskipped\ts\tc\tno room\n"
        );
    }
}
