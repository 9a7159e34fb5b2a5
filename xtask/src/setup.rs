//! What all subcommands need before they start: the host's packages, the lab's cache directory and its locks.
//!
//! Everything here is idempotent and says what it does while it takes long. Nothing of the machine is changed
//! but this: packages that are missing are installed, as root, by the machine's own apt.

use crate::command;
use anyhow::{Context, Result, bail};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Guests that may run at once on this machine, whoever starts them.
const SLOTS: u32 = 2;

/// Packages for building ktrail and for building and starting guests. QEMU is not among them: the lab has its
/// own, see [`crate::image`].
pub const LAB_PACKAGES: &[&str] = &[
    "gcc",
    "libc6-dev",
    "cpio",
    "e2fsprogs",
    "kmod",
    "util-linux",
    "xz-utils",
];

/// A line about what goes on, on stderr.
pub fn progress(message: &str) {
    eprintln!("xtask: {message}");
}

/// Installs what is missing of `packages`.
pub fn host_packages(packages: &[&str]) -> Result<()> {
    let missing = missing_packages(packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if !is_root()? {
        bail!("packages are missing and only root can install them; run: apt-get install {names}");
    }
    progress(&format!("installing packages: {names}"));
    let install = || {
        command::run(
            Command::new("apt-get")
                .env("DEBIAN_FRONTEND", "noninteractive")
                .args(["install", "-y", "-q", "--no-install-recommends"])
                .args(&missing),
        )
    };
    if install().is_err() {
        // A fresh machine has no package lists yet, an old one has stale ones.
        command::run(Command::new("apt-get").args(["update", "-q"]))?;
        install()?;
    }
    Ok(())
}

fn missing_packages<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>> {
    // dpkg-query fails when it knows nothing of one of them, and still lists the others.
    let output = Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status} ${Package}\n"])
        .args(packages)
        .output()
        .context("cannot start `dpkg-query`: the set-up needs Debian or Ubuntu")?;
    let listing = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(not_installed(&listing, packages))
}

fn not_installed<'a>(listing: &str, packages: &[&'a str]) -> Vec<&'a str> {
    let installed: Vec<&str> = listing
        .lines()
        .filter_map(|line| line.strip_prefix("installed "))
        .map(str::trim)
        .collect();
    packages
        .iter()
        .copied()
        .filter(|package| !installed.contains(package))
        .collect()
}

/// Whether this process runs as root.
pub fn is_root() -> Result<bool> {
    Ok(command::text(Command::new("id").arg("-u"))?.trim() == "0")
}

/// The lab's cache: kernels, the guest's disks and QEMU. It lies outside the build directory, so that
/// `cargo clean` leaves it and all working copies share it.
#[derive(Debug, Clone)]
pub struct Lab {
    root: PathBuf,
}

impl Lab {
    /// Opens the cache at `$KTRAIL_LAB_DIR`, by default `~/.cache/ktrail-lab`, and makes it where it is missing.
    pub fn open() -> Result<Self> {
        if std::env::consts::ARCH != "x86_64" {
            bail!(
                "the lab boots x86-64 kernels with x86-64 packages, and this machine is {}",
                std::env::consts::ARCH
            );
        }
        let root = match std::env::var_os("KTRAIL_LAB_DIR") {
            Some(dir) => PathBuf::from(dir),
            None => {
                let home = std::env::var_os("HOME").context("neither KTRAIL_LAB_DIR nor HOME is set")?;
                Path::new(&home).join(".cache/ktrail-lab")
            }
        };
        fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
        Ok(Self {
            root: root.canonicalize()?,
        })
    }

    /// A path inside the cache.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    /// Waits until no other process builds the cache, and keeps others waiting until the result is dropped.
    pub fn build_lock(&self) -> Result<File> {
        let file = self.lock_file("build.lock")?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                progress("another process is building the lab, waiting for it");
                file.lock()?;
            }
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the lab's cache"),
        }
        Ok(file)
    }

    /// Waits for one of the machine's places for a guest; it is free again when the result is dropped.
    pub fn guest_slot(&self) -> Result<File> {
        let mut said = false;
        loop {
            for slot in 0..SLOTS {
                let file = self.lock_file(&format!("guest{slot}.lock"))?;
                match file.try_lock() {
                    Ok(()) => return Ok(file),
                    Err(TryLockError::WouldBlock) => {}
                    Err(TryLockError::Error(error)) => {
                        return Err(error).context("cannot lock a guest's place");
                    }
                }
            }
            if !said {
                progress(&format!(
                    "{SLOTS} guests are running already, waiting for one to end"
                ));
                said = true;
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    fn lock_file(&self, name: &str) -> Result<File> {
        let path = self.path(name);
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))
    }
}

/// A directory under the system's temporary one that goes away with the value.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// Makes the directory.
    pub fn new() -> Result<Self> {
        let path = command::text(Command::new("mktemp").args(["-d", "-t", "ktrail-lab.XXXXXX"]))?;
        Ok(Self(PathBuf::from(path.trim_end())))
    }

    /// A path inside it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // Nothing depends on it any more; what can't be removed is the system's to clear.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_installed_packages_count() {
        let listing = "installed kmod\nconfig-files cpio\nnot-installed gcc\n";
        assert_eq!(
            not_installed(listing, &["kmod", "cpio", "gcc", "xz-utils"]),
            ["cpio", "gcc", "xz-utils"]
        );
    }

    #[test]
    fn a_temporary_directory_goes_away() {
        let dir = TempDir::new().unwrap();
        let file = dir.path("x");
        fs::write(&file, "x").unwrap();
        drop(dir);
        assert!(!file.exists());
    }
}
