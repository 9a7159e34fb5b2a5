//! What this machine and this user have and lack, one check each, with the way out.
//!
//! Every check looks for itself, so that each of them still tells when others fail. Deliberately absent: how the
//! checks are shown, and what a run does about them.

use std::fs;
use std::path::Path;

use super::Lacking;
use super::attach::Multi;
use super::btf::KernelBtf;
use super::features::{Features, Version, prove_kprobe_multi, release};
use super::maps::raise_limits;
use super::probeable::tracefs;
use super::symbols::Symbols;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// As it should be.
    Good,
    /// ktrail runs, but sees or does less.
    Limited,
    /// ktrail does not run.
    Bad,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it came out.
    pub status: Status,
    /// What was found.
    pub detail: String,
    /// The way out, where something is to be done.
    pub fix: Option<String>,
}

impl Check {
    fn good(name: &'static str, detail: impl Into<String>) -> Check {
        Check {
            name,
            status: Status::Good,
            detail: detail.into(),
            fix: None,
        }
    }

    fn other(name: &'static str, status: Status, detail: impl Into<String>, fix: impl Into<String>) -> Check {
        Check {
            name,
            status,
            detail: detail.into(),
            fix: Some(fix.into()),
        }
    }

    fn lacking(name: &'static str, status: Status, lacking: &Lacking) -> Check {
        Check::other(name, status, &lacking.why, &lacking.fix)
    }
}

/// The capabilities that ktrail uses: bit in CapEff, name, what for.
///
/// CAP_BPF and CAP_PERFMON came with 5.8 as parts of CAP_SYS_ADMIN.
const CAPABILITIES: [(u32, &str); 3] = [(39, "CAP_BPF"), (38, "CAP_PERFMON"), (12, "CAP_NET_ADMIN")];
const CAP_SYS_ADMIN: u32 = 21;

/// CapEff of this process.
fn effective() -> Option<u64> {
    capabilities(&fs::read_to_string("/proc/self/status").ok()?)
}

fn capabilities(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// The names of the capabilities that are missing from `effective`.
fn missing(effective: u64) -> Vec<&'static str> {
    let has = |bit: u32| effective >> bit & 1 == 1;
    CAPABILITIES
        .iter()
        // CAP_SYS_ADMIN stands for the first two, not for the network's.
        .filter(|(bit, _)| !has(*bit) && (*bit == 12 || !has(CAP_SYS_ADMIN)))
        .map(|(_, name)| *name)
        .collect()
}

/// What this process may not do, if anything: for the error of a call that was refused.
pub fn privilege() -> Option<Lacking> {
    let missing = missing(effective()?);
    let needed: Vec<_> = missing.into_iter().filter(|m| *m != "CAP_NET_ADMIN").collect();
    (!needed.is_empty()).then(|| Lacking {
        what: "ktrail may not load programs into the kernel".into(),
        why: format!("the process lacks {}", needed.join(" and ")),
        fix: "run it as root (sudo ktrail …), or give the binary the capabilities: \
            setcap cap_bpf,cap_perfmon,cap_net_admin,cap_sys_admin,cap_syslog+ep ktrail"
            .into(),
    })
}

/// Run every check, in the order of what depends on what.
pub fn checks() -> Vec<Check> {
    let btf = KernelBtf::load();
    let mut checks = vec![
        kernel(&release()),
        privileges(effective()),
        lockdown(),
        types(&btf),
    ];
    if let Ok(btf) = &btf {
        checks.extend(features(btf));
    }
    checks.extend([symbols(), tracing_files(), jit(), limits()]);
    checks
}

fn kernel(release: &str) -> Check {
    const NAME: &str = "kernel";
    match Version::parse(release) {
        Some(v) if v < Version::OLDEST => Check::other(
            NAME,
            Status::Bad,
            format!("Linux {release}: BPF ring buffers came with 5.8"),
            format!("boot Linux {} or newer", Version::OLDEST),
        ),
        _ => Check::good(NAME, format!("Linux {release}")),
    }
}

fn privileges(effective: Option<u64>) -> Check {
    const NAME: &str = "privilege";
    let Some(effective) = effective else {
        return Check::other(
            NAME,
            Status::Limited,
            "/proc/self/status can't be read",
            "mount /proc",
        );
    };
    match &missing(effective)[..] {
        [] => Check::good(NAME, "the capabilities are there"),
        missing => Check::other(
            NAME,
            match missing {
                ["CAP_NET_ADMIN"] => Status::Limited,
                _ => Status::Bad,
            },
            format!("the process lacks {}", missing.join(", ")),
            "run as root: sudo ktrail …",
        ),
    }
}

/// Which mode of `none [integrity] confidentiality` is in brackets.
fn lockdown_mode(text: &str) -> Option<&str> {
    text.split_once('[')?.1.split_once(']').map(|(mode, _)| mode)
}

/// The kernel's lockdown mode, if it has that module.
fn lockdown_text() -> String {
    fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default()
}

/// What lockdown forbids, if it forbids what ktrail does: confidentiality keeps programs from reading memory.
pub fn locked_down() -> Option<Lacking> {
    forbidden(lockdown_mode(&lockdown_text()))
}

fn forbidden(mode: Option<&str>) -> Option<Lacking> {
    (mode == Some("confidentiality")).then(|| Lacking {
        what: "the kernel is locked down".into(),
        why: "lockdown=confidentiality: no program may read the kernel's memory".into(),
        fix: "boot with lockdown=integrity or without lockdown=".into(),
    })
}

fn lockdown() -> Check {
    const NAME: &str = "lockdown";
    let text = lockdown_text();
    let mode = lockdown_mode(&text);
    match (forbidden(mode), mode) {
        (Some(lacking), _) => Check::lacking(NAME, Status::Bad, &lacking),
        (None, Some(mode)) => Check::good(NAME, format!("{mode}: programs may read kernel memory")),
        (None, None) => Check::good(NAME, "not in use"),
    }
}

fn types(btf: &Result<KernelBtf, Lacking>) -> Check {
    const NAME: &str = "types (BTF)";
    match btf {
        Ok(btf) => Check::good(
            NAME,
            format!(
                "{} functions and {} tracepoints take an skb",
                btf.skb_functions().len(),
                btf.skb_tracepoints().len()
            ),
        ),
        Err(lacking) => Check::lacking(NAME, Status::Bad, lacking),
    }
}

fn features(btf: &KernelBtf) -> Vec<Check> {
    let features = match Features::probe(btf) {
        Ok(features) => features,
        Err(lacking) => return vec![Check::lacking("bpf(2)", Status::Bad, &lacking)],
    };
    let kprobes = match &features.kprobe {
        Ok(_) => Check::good("kprobes", "function by function, by perf events"),
        Err(lacking) => Check::lacking("kprobes", Status::Limited, lacking),
    };
    let proof = features
        .kprobe_multi
        .is_ok()
        .then(|| prove_kprobe_multi(&features.codegen, Multi::Entry));
    let multi = match (&features.kprobe_multi, proof) {
        (Err(lacking), _) => Check::lacking("kprobe-multi", Status::Limited, lacking),
        (Ok(()), Some(Err(why))) => Check::other(
            "kprobe-multi",
            Status::Limited,
            format!("the kernel has it, but refuses: {why}"),
            "allow the kernel's code to be patched (ftrace), or --backend kprobe or tracepoint",
        ),
        (Ok(()), _) => Check::good("kprobe-multi", "all functions at once"),
    };
    vec![
        Check::good("bpf(2)", "maps and ring buffers can be made"),
        multi,
        kprobes,
    ]
}

fn symbols() -> Check {
    const NAME: &str = "symbols (kallsyms)";
    match Symbols::load() {
        Ok(symbols) => Check::good(NAME, format!("{} symbols", symbols.len())),
        Err(lacking) => Check::lacking(NAME, Status::Limited, &lacking),
    }
}

fn tracing_files() -> Check {
    const NAME: &str = "tracefs";
    match tracefs() {
        Some(dir) if dir.join("available_filter_functions").exists() => {
            Check::good(NAME, format!("{}", dir.display()))
        }
        Some(dir) => Check::other(
            NAME,
            Status::Limited,
            format!("{} has no available_filter_functions", dir.display()),
            "nothing to do: what can't be probed shows when it is tried (CONFIG_DYNAMIC_FTRACE)",
        ),
        None => Check::other(
            NAME,
            Status::Limited,
            "not mounted: what can't be probed shows only when it is tried",
            match Path::new("/sys/kernel/tracing").exists() {
                true => "mount -t tracefs tracefs /sys/kernel/tracing",
                false => "use a kernel built with CONFIG_FTRACE=y",
            },
        ),
    }
}

fn jit() -> Check {
    const NAME: &str = "BPF JIT";
    match fs::read_to_string("/proc/sys/net/core/bpf_jit_enable") {
        Ok(text) if text.trim() == "0" => Check::other(
            NAME,
            Status::Limited,
            "off: programs are interpreted, and packets slow down",
            "sysctl net.core.bpf_jit_enable=1",
        ),
        Ok(_) => Check::good(NAME, "on"),
        // Network namespaces other than the first don't show it.
        Err(_) => Check::good(NAME, "not shown in this network namespace"),
    }
}

fn limits() -> Check {
    const NAME: &str = "limits";
    let notes = raise_limits();
    match notes.is_empty() {
        true => Check::good(NAME, "locked memory and open files can be raised"),
        false => Check::other(
            NAME,
            Status::Limited,
            notes.join(", "),
            "raise `ulimit -l` (before Linux 5.11) and `ulimit -n` (for kprobes) if something is refused",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_named() {
        assert_eq!(
            capabilities("Name:\tx\nCapEff:\t000001fffeffffff\n"),
            Some(0x1ff_feff_ffff)
        );
        assert_eq!(missing(0), ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"]);
        assert_eq!(missing(1 << CAP_SYS_ADMIN), ["CAP_NET_ADMIN"]);
        assert_eq!(missing(1 << 39 | 1 << 12), ["CAP_PERFMON"]);
        assert!(missing(u64::MAX).is_empty());
        let check = privileges(Some(0));
        assert_eq!(check.status, Status::Bad);
        assert_eq!(
            check.detail,
            "the process lacks CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN"
        );
    }

    #[test]
    fn lockdown_modes() {
        assert_eq!(lockdown_mode("[none] integrity confidentiality\n"), Some("none"));
        assert_eq!(
            lockdown_mode("none integrity [confidentiality]\n"),
            Some("confidentiality")
        );
        assert_eq!(lockdown_mode(""), None);
        assert!(forbidden(Some("integrity")).is_none());
        assert!(forbidden(Some("confidentiality")).is_some_and(|l| l.fix.contains("lockdown=integrity")));
    }

    #[test]
    fn old_kernels_are_named() {
        assert_eq!(kernel("5.4.0").status, Status::Bad);
        assert_eq!(kernel("6.1.0-40-amd64").detail, "Linux 6.1.0-40-amd64");
    }

    #[test]
    fn each_bad_check_has_a_way_out() {
        for check in checks() {
            assert_eq!(check.fix.is_none(), check.status == Status::Good, "{check:?}");
            assert!(!check.detail.is_empty(), "{check:?}");
        }
    }
}
