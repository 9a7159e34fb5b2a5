//! What a guest is made of, built once into the lab's cache: QEMU, the guest's user space, the kernels.
//!
//! ```text
//! qemu-*/                  QEMU and its libraries, unpacked; runs by its own dynamic linker on any host
//! guest-*/guest.ext4       the guest's root disk, the same for all kernels
//! peers-*/                 what the benchmark compares with, and its libraries
//! kernel-K-*/vmlinuz       the kernel
//! kernel-K-*/initrd        busybox and the modules that the disks need
//! kernel-K-*/modules.ext4  all modules, uncompressed, mounted at /usr/lib/modules
//! kernel-K-*/release       the exact release
//! ```
//!
//! A part that is there is used as it is: for younger kernels and packages remove the cache directory.
//! QEMU's accelerator is TCG even where /dev/kvm exists, so that all machines see the same guest.

use crate::apt::Apt;
use crate::command;
use crate::kernel::Kernel;
use crate::setup::{Lab, TempDir, progress};
use anyhow::{Context, Result};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Goes up when what this file puts into the cache changes.
const FORMAT: u32 = 1;

/// The suite that QEMU and the guest's programs are of.
const SUITE: &str = "trixie";

/// What ktrail is compared with: the newest that Debian has packaged, the suite first.
const PEERS: (&str, &[&str]) = ("forky", &["bpftrace", "pwru"]);

/// The guest's programs. All that they depend on comes along.
const GUEST_PACKAGES: &[&str] = &[
    "base-files",
    "bash",
    "bind9-dnsutils",
    "bpftool",
    "busybox-static",
    "conntrack",
    "coreutils",
    "dash",
    "diffutils",
    "dnsmasq-base",
    "ethtool",
    "findutils",
    "gawk",
    "grep",
    "gzip",
    "iperf3",
    "iproute2",
    "iptables",
    "iputils-ping",
    "jq",
    "kmod",
    "less",
    "mount",
    "ncat",
    "ncurses-base",
    "netbase",
    "nftables",
    "procps",
    "psmisc",
    "python3-minimal",
    "sed",
    "socat",
    "strace",
    "tar",
    "tcpdump",
    "time",
    "util-linux",
];

/// Links that package scripts would have made: name, target.
const GUEST_LINKS: &[(&str, &str)] = &[
    ("usr/sbin/iptables", "iptables-nft"),
    ("usr/sbin/iptables-save", "iptables-nft-save"),
    ("usr/sbin/iptables-restore", "iptables-nft-restore"),
    ("usr/sbin/ip6tables", "ip6tables-nft"),
    ("usr/sbin/ip6tables-save", "ip6tables-nft-save"),
    ("usr/sbin/ip6tables-restore", "ip6tables-nft-restore"),
    ("usr/bin/awk", "gawk"),
    ("usr/bin/nc", "ncat"),
    ("usr/bin/sh", "dash"),
];

/// Files that package scripts would have made.
const GUEST_FILES: &[(&str, &str)] = &[
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("etc/hosts", "127.0.0.1 localhost lab\n::1 localhost\n"),
    ("etc/hostname", "lab\n"),
    (
        "etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
    ),
    ("root/.bashrc", "PS1='lab \\w # '\nalias ll='ls -l'\n"),
    ("root/.bash_profile", ". ~/.bashrc\n"),
];

/// Modules that must be there before the root disk and the ports are; those built in are skipped by modprobe.
const BOOT_MODULES: &[&str] = &["virtio_pci", "virtio_blk", "ext4", "virtio_console"];

/// A kernel that is ready to boot.
#[derive(Debug, Clone)]
pub struct KernelFiles {
    /// The kernel image.
    pub vmlinuz: PathBuf,
    /// The first stage.
    pub initrd: PathBuf,
    /// The modules' disk.
    pub modules: PathBuf,
    /// What `uname -r` says.
    pub release: String,
}

/// Everything that a guest of any of `kernels` needs.
#[derive(Debug)]
pub struct Images {
    /// QEMU's tree.
    pub qemu: PathBuf,
    /// The root disk.
    pub guest: PathBuf,
    kernels: Vec<(Kernel, KernelFiles)>,
}

impl Images {
    /// Builds what the cache does not have yet.
    pub fn prepare(lab: &Lab, kernels: &[Kernel]) -> Result<Self> {
        let _lock = lab.build_lock()?;
        let apt = Apt::open(lab)?;
        let qemu = qemu(lab, &apt)?;
        let guest = guest(lab, &apt)?;
        let busybox = guest.join("busybox");
        let kernels = kernels
            .iter()
            .map(|&kernel| Ok((kernel, prepare_kernel(lab, &apt, kernel, &busybox)?)))
            .collect::<Result<_>>()?;
        Ok(Self {
            qemu,
            guest: guest.join("guest.ext4"),
            kernels,
        })
    }

    /// The files of one of the kernels that [`Images::prepare`] was asked for.
    pub fn kernel(&self, kernel: Kernel) -> Result<&KernelFiles> {
        let found = self.kernels.iter().find(|(name, _)| *name == kernel);
        Ok(&found
            .with_context(|| format!("kernel {kernel} was not prepared"))?
            .1)
    }
}

/// The tools that ktrail is compared with: programs in `bin`, and in `lib` the libraries that they need and their loader,
/// `ld.so`, which takes `--library-path`. Not the packages as they are: a job's files go into the guest without links, so
/// that each library would be there under all of its names.
pub fn peers(lab: &Lab) -> Result<PathBuf> {
    let _lock = lab.build_lock()?;
    let apt = Apt::open(lab)?;
    let key = format!("{PEERS:?}");
    part(lab, "peers", "the tools to compare with", &key, |dir| {
        let root = dir.join("root");
        let (bin, lib) = (dir.join("bin"), dir.join("lib"));
        for dir in [&root, &bin, &lib] {
            fs::create_dir(dir)?;
        }
        let (suite, tools) = PEERS;
        apt.unpack_closure(suite, tools, &root)?;
        let loader = root.join("usr/lib64/ld-linux-x86-64.so.2");
        fs::copy(&loader, lib.join("ld.so"))?;
        for tool in tools {
            let program = root.join("usr/bin").join(tool);
            let mut list = Command::new(&loader);
            list.arg("--library-path")
                .arg(root.join("usr/lib/x86_64-linux-gnu"));
            let needed = command::text(list.arg("--list").arg(&program))?;
            for (name, path) in libraries(&needed) {
                fs::copy(path, lib.join(name))?;
            }
            fs::copy(program, bin.join(tool))?;
        }
        fs::remove_dir_all(&root)?;
        Ok(())
    })
}

/// The lines of the loader's list that name a file, such as `libz.so.1 => /usr/lib/libz.so.1 (0x7f00)`.
fn libraries(list: &str) -> impl Iterator<Item = (&str, &str)> {
    list.lines().filter_map(|line| {
        let (name, rest) = line.trim().split_once(" => ")?;
        let (path, _) = rest.split_once(" (")?;
        (!name.contains('/')).then_some((name, path))
    })
}

/// Makes a directory of the cache by `build`, which fills it; a half-built one never shows. Its name ends in a
/// hash of `key`, so that working copies that disagree about a part don't take it from each other.
fn part(
    lab: &Lab,
    name: &str,
    what: &str,
    key: &str,
    build: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let mut hash = DefaultHasher::new();
    (FORMAT, key).hash(&mut hash);
    let name = format!("{name}-{:08x}", hash.finish() as u32);
    let path = lab.path(&name);
    if path.exists() {
        return Ok(path);
    }
    progress(&format!("preparing {what}"));
    let fresh = lab.path(format!("{name}.new"));
    if fresh.exists() {
        fs::remove_dir_all(&fresh).with_context(|| format!("cannot remove {}", fresh.display()))?;
    }
    fs::create_dir_all(&fresh)?;
    build(&fresh).with_context(|| format!("preparing {what} failed"))?;
    fs::rename(&fresh, &path)?;
    Ok(path)
}

fn qemu(lab: &Lab, apt: &Apt) -> Result<PathBuf> {
    part(lab, "qemu", "QEMU", "", |dir| {
        apt.unpack_closure(SUITE, &["qemu-system-x86"], dir)
    })
}

fn guest(lab: &Lab, apt: &Apt) -> Result<PathBuf> {
    let key = format!("{GUEST_PACKAGES:?}{GUEST_LINKS:?}{GUEST_FILES:?}");
    part(lab, "guest", "the guest's user space", &key, |dir| {
        let root = dir.join("root");
        fs::create_dir(&root)?;
        apt.unpack_closure(SUITE, GUEST_PACKAGES, &root)?;
        for name in [
            "usr/share/doc",
            "usr/share/man",
            "usr/share/locale",
            "usr/share/info",
        ] {
            let _ = fs::remove_dir_all(root.join(name));
        }
        for name in [
            "proc",
            "sys",
            "dev",
            "run",
            "tmp",
            "root",
            "out",
            "lab",
            "usr/lib/modules",
            "etc",
            "var/lib/misc",
        ] {
            fs::create_dir_all(root.join(name))?;
        }
        for (name, target) in GUEST_LINKS {
            let link = root.join(name);
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink(target, link)?;
        }
        for (name, content) in GUEST_FILES {
            fs::write(root.join(name), content)?;
        }
        command::run(Command::new("ldconfig").arg("-r").arg(&root))?;
        ext4(&root, &dir.join("guest.ext4"), 512)?;
        fs::copy(root.join("usr/bin/busybox"), dir.join("busybox"))?;
        fs::remove_dir_all(&root)?;
        Ok(())
    })
}

fn prepare_kernel(lab: &Lab, apt: &Apt, kernel: Kernel, busybox: &Path) -> Result<KernelFiles> {
    let what = format!("kernel {kernel}");
    let key = include_str!("../guest/init");
    let dir = part(lab, &format!("kernel-{kernel}"), &what, key, |dir| {
        build_kernel(apt, kernel, busybox, dir)
    })?;
    Ok(KernelFiles {
        vmlinuz: dir.join("vmlinuz"),
        initrd: dir.join("initrd"),
        modules: dir.join("modules.ext4"),
        release: fs::read_to_string(dir.join("release"))?,
    })
}

fn build_kernel(apt: &Apt, kernel: Kernel, busybox: &Path, dir: &Path) -> Result<()> {
    let (start, end) = kernel.release_pattern();
    let moving = apt.newest(&format!("linux-image-{start}"), end)?;
    let release = format!("{start}{moving}{end}");
    // Up to 7.1 one package holds everything; later ones are split.
    let mut packages = Vec::new();
    for kind in ["image", "binary", "modules", "base"] {
        let name = format!("linux-{kind}-{release}");
        if apt.has(&name)? {
            packages.push(name);
        }
    }
    let root = dir.join("root");
    fs::create_dir(&root)?;
    apt.unpack(&packages.iter().map(String::as_str).collect::<Vec<_>>(), &root)?;

    let tree = root.join("usr/lib/modules");
    let modules = tree.join(&release);
    let vmlinuz = [
        root.join(format!("boot/vmlinuz-{release}")),
        modules.join("vmlinuz"),
    ];
    let vmlinuz = vmlinuz.iter().find(|path| path.is_file());
    fs::copy(
        vmlinuz.with_context(|| format!("the packages {packages:?} have no vmlinuz"))?,
        dir.join("vmlinuz"),
    )?;
    let config = root.join(format!("boot/config-{release}"));
    if config.is_file() {
        fs::copy(config, modules.join("config"))?;
    }
    // The emulated CPU would take long to decompress, the host does not.
    let decompress = r#"find "$1" -name '*.ko.xz' -print0 | xargs -0 -r -n 64 -P 2 xz -d"#;
    command::run(Command::new("sh").args(["-c", decompress, "sh"]).arg(&modules))?;
    command::run(Command::new("depmod").arg("-b").arg(&root).arg(&release))?;
    initrd(busybox, &root, &release, &dir.join("initrd"))?;
    ext4(&tree, &dir.join("modules.ext4"), 8)?;
    fs::write(dir.join("release"), &release)?;
    fs::remove_dir_all(&root)?;
    Ok(())
}

fn initrd(busybox: &Path, root: &Path, release: &str, to: &Path) -> Result<()> {
    let temp = TempDir::new()?;
    let stage = temp.path("initrd");
    for name in ["bin", "proc", "sys", "dev", "root", "modules"] {
        fs::create_dir_all(stage.join(name))?;
    }
    fs::copy(busybox, stage.join("bin/busybox"))?;
    fs::write(stage.join("init"), include_str!("../guest/init"))?;
    command::run(Command::new("chmod").arg("755").arg(stage.join("init")))?;
    for (number, module) in boot_modules(root, release)?.iter().enumerate() {
        let name = module
            .file_name()
            .context("a module without a name")?
            .to_string_lossy();
        fs::copy(module, stage.join(format!("modules/{number:02}-{name}")))?;
    }
    let pack = r#"cd "$1" && find . | cpio --quiet -o -H newc -R 0:0 > "$2""#;
    command::run(Command::new("sh").args(["-c", pack, "sh"]).arg(&stage).arg(to))?;
    Ok(())
}

/// The files of [`BOOT_MODULES`] and what they need, in loading order.
fn boot_modules(root: &Path, release: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for module in BOOT_MODULES {
        let show = ["-S", release, "--show-depends", module];
        let lines = command::text(Command::new("modprobe").arg("-d").arg(root).args(show))?;
        for file in insmod_lines(&lines) {
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    Ok(files)
}

fn insmod_lines(lines: &str) -> impl Iterator<Item = PathBuf> {
    lines
        .lines()
        .filter_map(|line| Some(PathBuf::from(line.strip_prefix("insmod ")?.trim())))
}

/// A file system of the tree `from`, with `spare` MiB to write.
fn ext4(from: &Path, to: &Path, spare: u64) -> Result<()> {
    let usage = command::text(Command::new("du").args(["-sm", "--apparent-size"]).arg(from))?;
    let used: u64 = usage
        .split_whitespace()
        .next()
        .and_then(|size| size.parse().ok())
        .context("cannot read du")?;
    let size = format!("{}M", used + used / 5 + 16 + spare);
    command::run(
        Command::new("mke2fs")
            .args([
                "-q",
                "-t",
                "ext4",
                "-O",
                "^has_journal",
                "-m",
                "0",
                "-E",
                "root_owner=0:0",
                "-d",
            ])
            .arg(from)
            .arg(to)
            .arg(size),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_names_libraries() {
        let list = "\tlinux-vdso.so.1 (0x7ffe)\n\tlibz.so.1 => /r/libz.so.1 (0x7f00)\n\tlibx.so => not found\n\
                    \t/lib64/ld-linux-x86-64.so.2 => /r/ld-linux-x86-64.so.2 (0x7f01)\n";
        assert_eq!(
            libraries(list).collect::<Vec<_>>(),
            [("libz.so.1", "/r/libz.so.1")]
        );
    }

    #[test]
    fn modprobe_names_files_and_builtins() {
        let lines =
            "builtin virtio\ninsmod /r/lib/modules/5/kernel/a.ko \ninsmod /r/lib/modules/5/kernel/b.ko \n";
        let files: Vec<_> = insmod_lines(lines).collect();
        assert_eq!(
            files,
            [
                PathBuf::from("/r/lib/modules/5/kernel/a.ko"),
                PathBuf::from("/r/lib/modules/5/kernel/b.ko")
            ]
        );
    }
}
