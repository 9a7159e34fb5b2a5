//! Looking up what people name on a command line: devices, network namespaces, commands.

use std::ffi::CString;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// The index of a network device of this network namespace.
///
/// # Errors
/// If there is none of that name.
pub fn interface(name: &str) -> Result<u32, String> {
    // Not by /sys/class/net, which shows the devices of the namespace that /sys was mounted in.
    let index = CString::new(name).map_or(0, |name| {
        // SAFETY: the name ends with a zero byte and lives until the call returns.
        unsafe { libc::if_nametoindex(name.as_ptr()) }
    });
    (index != 0)
        .then_some(index)
        .ok_or_else(|| format!("{name:?}: no such device here; `ip link` lists them"))
}

/// The inode of a network namespace: by its name as `ip netns` knows it, by path, or the number itself.
///
/// # Errors
/// If there is none.
pub fn netns(name: &str) -> Result<u32, String> {
    if let Ok(inode) = name.parse() {
        return Ok(inode);
    }
    let path = match name.contains('/') {
        true => name.to_string(),
        false => format!("/run/netns/{name}"),
    };
    let meta = std::fs::metadata(&path)
        .map_err(|e| format!("{name:?}: {path}: {e}; `ip netns` lists the names, `lsns -t net` all"))?;
    u32::try_from(meta.ino()).map_err(|_| format!("{name:?}: {path} is no network namespace"))
}

/// The id of a cgroup of version 2, by its path below the root of the hierarchy.
///
/// # Errors
/// If there is none.
pub fn cgroup(path: &str) -> Result<u64, String> {
    // Beside version 1, version 2 has this place.
    const ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
    let root = ROOTS
        .into_iter()
        .find(|root| {
            Path::new(root).join("cgroup.procs").exists()
                && Path::new(root).join("cgroup.controllers").exists()
        })
        .ok_or("no cgroup hierarchy of version 2 is mounted at /sys/fs/cgroup")?;
    let below = path.trim_matches('/');
    if below.split('/').any(|part| part == "..") {
        return Err(format!("{path:?}: a cgroup's path has no '..'"));
    }
    // A cgroup's id is its directory's inode.
    let meta = std::fs::metadata(Path::new(root).join(below));
    let meta = meta.map_err(|e| format!("no cgroup {path:?} in {root}: {e}"))?;
    Ok(meta.ino())
}

/// Whether a command can be found and run: a path, or a name in PATH.
pub fn runnable(program: &str) -> bool {
    let executable = |path: &Path| {
        path.metadata()
            .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return executable(Path::new(program));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    !program.is_empty() && std::env::split_paths(&path).any(|dir| executable(&dir.join(program)))
}

/// The kernel's release, as `uname -r` says it; empty if /proc does not tell.
pub fn kernel_release() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_there_and_names_what_is_not() {
        assert_eq!(interface("lo"), Ok(1));
        assert!(interface("../net/lo").is_err());
        assert!(interface("no-such-dev").unwrap_err().contains("no-such-dev"));
        let own = std::fs::metadata("/proc/self/ns/net").unwrap().ino();
        assert_eq!(netns("/proc/self/ns/net"), Ok(own as u32));
        assert_eq!(netns("4026531840"), Ok(4_026_531_840));
        assert!(
            netns("no-such-netns")
                .unwrap_err()
                .contains("/run/netns/no-such-netns")
        );
        assert!(cgroup("/no/such").is_err() && cgroup("..").is_err());
        assert!(runnable("sh") && runnable("/bin/sh"));
        assert!(!runnable("no-such-command") && !runnable("/etc/passwd") && !runnable(""));
    }
}
