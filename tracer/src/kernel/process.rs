//! Processes: one that waits to be let go, one that may have ended.

use std::io;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a shell may take to get to where it stops.
const PATIENCE: Duration = Duration::from_secs(5);

/// The command that runs `text`, a program and its arguments as the shell reads them, once it is [resumed](resume):
/// a shell that stops itself and then becomes the program, so that its process id is known before it runs.
pub fn held(text: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "kill -STOP $$; eval \"exec $0\"", text]);
    command
}

/// Wait until a command that is [`held`] has stopped.
///
/// # Errors
/// If it ended, or did not stop for [`PATIENCE`].
pub fn wait_until_held(pid: u32) -> io::Result<()> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        match state(pid) {
            Some('T') => return Ok(()),
            Some('Z') | None => return Err(io::Error::other("the shell ended before the command ran")),
            Some(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    Err(io::Error::from(io::ErrorKind::TimedOut))
}

/// Let a command that is [`held`] go.
///
/// # Errors
/// If it is gone.
pub fn resume(pid: u32) -> io::Result<()> {
    // SAFETY: kill(2) takes numbers.
    match unsafe { libc::kill(pid as libc::pid_t, libc::SIGCONT) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Let this thread leave a busy CPU to others most of the time: a machine in trouble has better things to do than to
/// print what happens on it. Where CPUs are idle it makes no difference. Beside one other process of the usual niceness
/// it gets a tenth of a busy CPU.
pub fn yield_to_others() {
    const NICE: libc::c_int = 10;
    // SAFETY: numbers only. On Linux this is about the calling thread. That it fails does no harm.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

/// Whether what this process takes may come in huge pages (`PR_SET_THP_DISABLE`, 3.15+), which processes that it starts
/// inherit. A heap of 10 MB, of which the kernel fills whole 2 MB where one byte is used, has up to 4 MB more.
pub fn allow_huge_pages(allowed: bool) {
    // SAFETY: numbers only. That it fails does no harm.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, libc::c_ulong::from(!allowed), 0, 0, 0) };
}

/// Whether a process is there and not waiting for its parent to notice its end.
pub fn alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists() && state(pid) != Some('Z')
}

/// The letter of a process's state in /proc.
fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    stat.rsplit_once(") ")?.1.chars().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_command_runs_when_it_is_let_go() {
        let mut child = held("sh -c 'exit 7'").spawn().expect("a shell");
        wait_until_held(child.id()).expect("it stops");
        assert!(alive(child.id()));
        assert_eq!(child.try_wait().expect("our child"), None);
        resume(child.id()).expect("it is there");
        assert_eq!(child.wait().expect("our child").code(), Some(7));
        assert!(!alive(child.id()));
    }
}
