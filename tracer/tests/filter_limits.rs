//! No filter makes the compiler use more than a few MB, run for long, or end otherwise than with an answer.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

const KTRAIL: &str = env!("CARGO_BIN_EXE_ktrail");
/// The most memory that the process may have for data, stack aside, in bytes.
const MEMORY: u64 = 24 << 20;

/// Compile `text` with little memory. The exit code; `None` if a signal has ended it.
fn compile(text: &str) -> Option<i32> {
    let mut command = Command::new(KTRAIL);
    command.args(["filter", "--dump", "asm", "--", text]);
    let limit = libc::rlimit {
        rlim_cur: MEMORY,
        rlim_max: MEMORY,
    };
    // SAFETY: setrlimit is safe to call between fork and exec: it only reads `limit`, which the closure owns.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_DATA, &limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let output = command.output().expect("ktrail runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        !stderr.contains("panicked") && !stderr.contains("allocation"),
        "{stderr}"
    );
    output.status.code()
}

#[test]
fn little_memory_and_time() {
    let many = |text: &str, joint: &str, n: usize| vec![text; n].join(joint);
    for (code, text) in [
        (0, many("host 10.0.0.1", " or ", 200)),
        (0, many("port 53", " or ", 200)),
        (0, many("not host 2001:db8::1", " and ", 150)),
        (0, many("vlan", " and ", 50) + " and tcp port 80"),
        (0, "inner (inner (tcp port 80))".into()),
        (0, many("ext (port 53)", " or ", 10)),
        (0, "not ".repeat(10_000) + "tcp"),
        (2, "(".repeat(30_000)),
        (2, "inner (".repeat(8_000)),
        (2, "inner (".repeat(30) + "tcp" + &")".repeat(30)),
        (2, "ip[".repeat(20_000)),
        (2, "-".repeat(60_000)),
        (2, "x".repeat(100_000)),
        (2, many("ip and udp or tcp", " and ", 3000)),
        (2, many("1", "+", 30_000) + " = 1"),
    ] {
        let start = Instant::now();
        let shown = &text[..text.len().min(50)];
        assert_eq!(compile(&text), Some(code), "{shown}…");
        // Debug builds on busy machines are slow; a loop would be slower.
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{shown}… took {:?}",
            start.elapsed()
        );
    }
}
