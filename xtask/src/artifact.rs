//! Building ktrail and finding the binary.

use crate::setup::progress;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the repository")
}

/// A cargo command in the repository's root.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Builds ktrail and gives the path of the binary.
pub fn ktrail(release: bool) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--quiet", "--package", "ktrail", "--bin", "ktrail"]);
    command.args(["--message-format", "json-render-diagnostics"]);
    if release {
        progress("building ktrail's release binary");
        command.arg("--release");
    }
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!("ktrail does not build");
    }
    executable(&String::from_utf8_lossy(&output.stdout), "ktrail").context("cargo named no binary of ktrail")
}

/// Builds an integration test of ktrail's and gives the path of the binary.
pub fn integration_test(name: &str) -> Result<PathBuf> {
    let output = cargo()
        .args([
            "test",
            "--quiet",
            "--no-run",
            "--package",
            "ktrail",
            "--test",
            name,
        ])
        .args(["--message-format", "json-render-diagnostics"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the test {name} does not build");
    }
    executable(&String::from_utf8_lossy(&output.stdout), name)
        .with_context(|| format!("cargo named no binary of the test {name}"))
}

/// The binary of a target in cargo's messages, one JSON object a line.
fn executable(messages: &str, target: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == target)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_is_not_the_binary() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"ktrail"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"other"},"executable":"/t/other"}
{"reason":"compiler-artifact","target":{"name":"ktrail"},"executable":"/t/ktrail"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "ktrail"), Some(PathBuf::from("/t/ktrail")));
    }
}
