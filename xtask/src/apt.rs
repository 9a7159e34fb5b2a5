//! Debian packages of other suites, without touching the machine: apt with a configuration of its own.
//!
//! The mirror comes from the machine's apt configuration; no host name stands in this repository. Lists,
//! downloads and the (empty) package state lie in the lab's cache. Nothing is ever installed from here:
//! packages are downloaded, checked by apt against Debian's keys, and unpacked into directories.

use crate::command;
use crate::setup::{Lab, host_packages, progress};
use anyhow::{Context, Result};
use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The suites that the lab takes packages from.
const SUITES: &[&str] = &[
    "bullseye",
    "bookworm",
    "bookworm-backports",
    "trixie",
    "trixie-backports",
    "forky",
];
/// Names a mirror of Debian's archive where apt's configuration has none.
const MIRROR_VARIABLE: &str = "KTRAIL_DEBIAN_MIRROR";
const KEYRINGS: &[&str] = &[
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
];

/// The private apt.
#[derive(Debug)]
pub struct Apt {
    dir: PathBuf,
    /// What apt complained about when this process fetched the lists, which it does once. A mirror that has
    /// lost one suite still serves the others; so this is only told together with an error.
    complaints: OnceCell<String>,
}

impl Apt {
    /// The private apt of `lab`; nothing is fetched yet.
    pub fn open(lab: &Lab) -> Result<Self> {
        let dir = lab.path("apt");
        for part in [
            "lists/partial",
            "cache/archives/partial",
            "sources.d",
            "preferences.d",
        ] {
            fs::create_dir_all(dir.join(part))?;
        }
        fs::write(dir.join("status"), "")?;
        Ok(Self {
            dir,
            complaints: OnceCell::new(),
        })
    }

    /// The newest package whose name is `prefix`, then a version that starts with a digit, then `suffix`; gives
    /// that version.
    pub fn newest(&self, prefix: &str, suffix: &str) -> Result<String> {
        let complaints = self.update()?;
        let names = command::text(self.command("apt-cache").args(["pkgnames", prefix]))?;
        newest(&names, prefix, suffix).with_context(|| {
            format!(
                "the mirror's suites ({}) have no package {prefix}…{suffix}; {MIRROR_VARIABLE} can name another \
                 mirror\n{complaints}",
                SUITES.join(", ")
            )
        })
    }

    /// Whether a package of that name can be had.
    pub fn has(&self, name: &str) -> Result<bool> {
        self.update()?;
        let names = command::text(self.command("apt-cache").args(["pkgnames", name]))?;
        Ok(names.lines().any(|line| line == name))
    }

    /// Downloads exactly `packages` and unpacks them into `root`.
    pub fn unpack(&self, packages: &[&str], root: &Path) -> Result<()> {
        self.fetch(packages, root, |dir| {
            command::run(
                self.command("apt-get")
                    .current_dir(dir)
                    .args(["download", "-q"])
                    .args(packages),
            )
        })
    }

    /// Downloads `packages` of a suite with all that they depend on and unpacks them into `root`.
    pub fn unpack_closure(&self, suite: &str, packages: &[&str], root: &Path) -> Result<()> {
        self.fetch(packages, root, |dir| {
            command::run(
                self.command("apt-get")
                    .arg("-o")
                    .arg(format!("Dir::Cache::archives={}", dir.display()))
                    .args([
                        "install",
                        "-y",
                        "-q",
                        "--no-install-recommends",
                        "--download-only",
                        "-t",
                        suite,
                    ])
                    .args(packages),
            )
        })
    }

    fn fetch<T>(&self, packages: &[&str], root: &Path, download: impl Fn(&Path) -> Result<T>) -> Result<()> {
        let complaints = self.update()?;
        let dir = self.dir.join("download");
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("partial"))?;
        download(&dir).with_context(|| format!("cannot download {}\n{complaints}", packages.join(" ")))?;
        merged_usr(root)?;
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                unpack_deb(&path, root)?;
            }
        }
        fs::remove_dir_all(&dir)?;
        Ok(())
    }

    /// Fetches the package lists, once a process; gives apt's complaints.
    fn update(&self) -> Result<&str> {
        if let Some(complaints) = self.complaints.get() {
            return Ok(complaints);
        }
        let mirror = mirror()?;
        let keyring = keyring()?;
        let sources: String = SUITES
            .iter()
            .map(|suite| format!("deb [signed-by={keyring}] {mirror} {suite} main\n"))
            .collect();
        fs::write(self.dir.join("sources.list"), sources)?;
        progress("fetching Debian's package lists");
        let update = || -> Result<String> {
            let output = self
                .command("apt-get")
                .args(["update", "-q"])
                .output()
                .context("cannot start apt-get")?;
            Ok(complaints(&String::from_utf8_lossy(&output.stderr)))
        };
        let mut complaints = update()?;
        if complaints.contains("NO_PUBKEY") {
            // An old machine's keyring lacks a younger suite's key; the machine's own mirror has the newer one.
            progress("refreshing the keyring of Debian's archive");
            command::run(Command::new("apt-get").args(["update", "-q"]))?;
            command::run(Command::new("apt-get").args(["install", "-y", "-q", "debian-archive-keyring"]))?;
            complaints = update()?;
        }
        Ok(self.complaints.get_or_init(|| complaints))
    }

    /// A command of apt's that sees only the private state. The machine's apt.conf.d stays in force, because
    /// it may name a proxy; what it says of directories is overridden.
    fn command(&self, program: &str) -> Command {
        let dir = self.dir.display();
        let mut command = Command::new(program);
        for option in [
            format!("Dir::State={dir}"),
            format!("Dir::State::lists={dir}/lists"),
            format!("Dir::State::status={dir}/status"),
            format!("Dir::Cache={dir}/cache"),
            format!("Dir::Etc::sourcelist={dir}/sources.list"),
            format!("Dir::Etc::sourceparts={dir}/sources.d"),
            format!("Dir::Etc::preferences={dir}/preferences"),
            format!("Dir::Etc::preferencesparts={dir}/preferences.d"),
            "APT::Sandbox::User=root".into(),
            "APT::Architecture=amd64".into(),
            "Acquire::Languages=none".into(),
            "Acquire::Retries=3".into(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
            "Acquire::IndexTargets::deb::CNF::DefaultEnabled=false".into(),
            "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false".into(),
            "Debug::NoLocking=true".into(),
        ] {
            command.arg("-o").arg(option);
        }
        command
    }
}

/// The errors and warnings among what apt says.
fn complaints(stderr: &str) -> String {
    let bad = |line: &&str| line.starts_with("E: ") || line.starts_with("W: ");
    stderr.lines().filter(bad).collect::<Vec<_>>().join("\n")
}

fn unpack_deb(deb: &Path, root: &Path) -> Result<()> {
    // `dpkg -x` would replace the links of a merged /usr by directories.
    let script =
        r#"set -e; dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink --no-same-owner -C "$2""#;
    command::run(
        Command::new("bash")
            .args(["-o", "pipefail", "-c", script, "unpack"])
            .arg(deb)
            .arg(root),
    )?;
    Ok(())
}

/// Makes `root` a tree with /bin, /sbin, /lib and /lib64 as links into /usr.
fn merged_usr(root: &Path) -> Result<()> {
    for name in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(root.join("usr").join(name))?;
        let link = root.join(name);
        if !link.is_symlink() {
            std::os::unix::fs::symlink(format!("usr/{name}"), link)?;
        }
    }
    Ok(())
}

fn keyring() -> Result<&'static str> {
    let found = || KEYRINGS.iter().copied().find(|path| Path::new(path).exists());
    if found().is_none() {
        host_packages(&["debian-archive-keyring"])?;
    }
    found().with_context(|| {
        format!(
            "the package debian-archive-keyring has none of {}",
            KEYRINGS.join(", ")
        )
    })
}

fn mirror() -> Result<String> {
    if let Some(mirror) = std::env::var(MIRROR_VARIABLE)
        .ok()
        .filter(|mirror| !mirror.is_empty())
    {
        return Ok(mirror);
    }
    let targets = command::text(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI) $(RELEASE) $(COMPONENT)",
        "Created-By: Packages",
    ]))?;
    choose_mirror(&targets).with_context(|| {
        format!("apt's configuration names no mirror of Debian's archive; set {MIRROR_VARIABLE} to one")
    })
}

/// The Debian archive among the machine's sources (`URI release component`, one a line). Ubuntu's mirrors
/// mostly carry Debian in the directory next to it, so that is what an Ubuntu machine tries.
fn choose_mirror(targets: &str) -> Option<String> {
    let uris: Vec<&str> = targets
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (uri, _release, component) = (words.next()?, words.next()?, words.next()?);
            (component == "main").then_some(uri.trim_end_matches('/'))
        })
        .collect();
    let debian = uris
        .iter()
        .find(|uri| uri.ends_with("/debian"))
        .map(|uri| (*uri).to_owned());
    debian.or_else(|| {
        let ubuntu = uris.iter().find_map(|uri| uri.strip_suffix("/ubuntu"))?;
        Some(format!("{ubuntu}/debian"))
    })
}

fn newest(names: &str, prefix: &str, suffix: &str) -> Option<String> {
    names
        .lines()
        .filter_map(|name| name.strip_prefix(prefix)?.strip_suffix(suffix))
        .filter(|version| version.starts_with(|c: char| c.is_ascii_digit()))
        .filter(|version| {
            version
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+.~".contains(c))
        })
        .max_by_key(|version| version_key(version))
        .map(str::to_owned)
}

/// The numbers of a version, for comparing: enough for the names of kernel packages.
fn version_key(version: &str) -> Vec<u64> {
    version
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_debians_own_directory() {
        let targets = "http://mirror.test/debian-security/ bookworm-security main\n\
                       http://other.test/apt/ cloud main\n\
                       http://mirror.test/debian/ bookworm main\n";
        assert_eq!(
            choose_mirror(targets).as_deref(),
            Some("http://mirror.test/debian")
        );
        assert_eq!(
            choose_mirror("http://u.test/ubuntu/ noble universe\nhttp://u.test/ubuntu/ noble main\n")
                .as_deref(),
            Some("http://u.test/debian")
        );
        assert_eq!(choose_mirror("https://u.test/apt/ stable main\n"), None);
    }

    #[test]
    fn complaints_are_errors_and_warnings() {
        assert_eq!(
            complaints("Ign:1 x\nE: no Release file\nN: see apt-secure\nW: old\n"),
            "E: no Release file\nW: old"
        );
    }

    #[test]
    fn the_newest_is_not_the_last_in_the_alphabet() {
        let names = "linux-image-7.2.9+deb13-cloud-amd64\nlinux-image-7.2.12+deb13-cloud-amd64\n\
                     linux-image-7.2.12+deb13-cloud-amd64-dbg\nlinux-image-6.19.8+deb13-cloud-amd64\n";
        assert_eq!(
            newest(names, "linux-image-7.", "+deb13-cloud-amd64").as_deref(),
            Some("2.12")
        );
        assert_eq!(newest(names, "linux-image-5.10.0-", "-cloud-amd64"), None);
    }
}
