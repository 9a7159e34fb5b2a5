//! For tests that ask the kernel: who may, and how a test says that it couldn't.

/// Why the kernel can't be asked here, if it can't.
pub fn not_here() -> Option<&'static str> {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let effective = status
        .lines()
        .find_map(|l| l.strip_prefix("CapEff:"))
        .and_then(|v| u64::from_str_radix(v.trim(), 16).ok())
        .expect("CapEff is there");
    const CAP_SYS_ADMIN: u32 = 21;
    (effective >> CAP_SYS_ADMIN & 1 == 0).then_some("needs root")
}

/// Skip the rest of a test, by name and reason.
#[allow(unused_macros)]
macro_rules! or_skip {
    ($name:expr) => {
        if let Some(reason) = crate::common::not_here() {
            eprintln!("ktrail-test-skip: {}: {reason}", $name);
            return;
        }
    };
}
