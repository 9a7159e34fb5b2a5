//! One run of a guest: hand it a job, pass on what the job prints, bring back its exit code and files.
//!
//! | channel | carries |
//! |---|---|
//! | ttyS0 | the kernel's console, into a file that only an error shows |
//! | ttyS1 | the terminal of an interactive shell |
//! | vport0p1, p2 | the job's stdout and stderr, live |
//! | vport0p3 | `up` once the guest is, and the last word: `exit N` |
//! | vda, vdb | root and modules, from the cache; what the guest writes goes away with it |
//! | vdc | the job: a tar that the guest unpacks at / |
//! | vdd | what the job left in /out: a tar that the guest writes |
//!
//! There is no network between the guest and the host.

use crate::command;
use crate::image::Images;
use crate::kernel::Kernel;
use crate::setup::{Lab, TempDir, progress};
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Room for what a job leaves in /out.
const OUT_BYTES: u64 = 1 << 30;
/// How long a guest may take to switch itself off after its last word.
const GRACE: Duration = Duration::from_secs(20);
/// How long a guest may take until it says that it is up: 3 s on an idle host, 30 s were seen on a busy one.
const UP: Duration = Duration::from_secs(240);
/// How often a guest is started that does not come up: nothing of its job has begun then. Seen once, on 6.1 with two CPUs: the
/// second one's timer never went off, and everything waited for it.
const BOOTS: u32 = 3;

/// The guest's hardware and the run's bounds.
#[derive(Debug, Clone)]
pub struct Machine {
    /// CPUs. With `icount` it must be 1.
    pub smp: u32,
    /// Memory in MiB.
    pub memory: u32,
    /// The counting clock: one guest instruction is 2^`shift` nanoseconds of guest time.
    pub icount: bool,
    /// See `icount`; 0 where instructions themselves are measured, more where guest seconds should pass quickly.
    pub shift: u8,
    /// After this time the guest is killed.
    pub timeout: Duration,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            smp: 2,
            memory: 2048,
            icount: false,
            shift: 0,
            timeout: Duration::from_secs(300),
        }
    }
}

/// What to do in a guest.
#[derive(Debug, Clone, Default)]
pub struct Job {
    /// A bash script that runs as root; none means an interactive shell on our terminal.
    pub script: Option<String>,
    /// Files to bring: from here, to there.
    pub files: Vec<(PathBuf, PathBuf)>,
    /// Where to put what the script left in /out.
    pub out: Option<PathBuf>,
    /// Pass the script's output on while it runs.
    pub echo: bool,
    /// The hardware.
    pub machine: Machine,
}

/// How a job ended.
#[derive(Debug)]
pub struct Outcome {
    /// The script's exit code; or why there is none, with the end of the console: the guest panicked, or was
    /// killed by the timeout, or QEMU failed.
    pub result: Result<u8, String>,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error.
    pub stderr: Vec<u8>,
}

/// Boots `kernel`, runs `job` in it and waits for the end.
///
/// # Errors
/// What goes wrong on this side; what goes wrong in the guest is an [`Outcome`].
pub fn boot(lab: &Lab, images: &Images, kernel: Kernel, job: &Job) -> Result<Outcome> {
    if job.machine.icount && job.machine.smp != 1 {
        bail!("the counting clock needs one CPU: use --smp 1");
    }
    let _slot = lab.guest_slot()?;
    for _ in 1..BOOTS {
        match boot_once(images, kernel, job)? {
            (End::NotUp, outcome) => progress(&format!(
                "{}\nxtask: it is started anew",
                outcome.result.expect_err("a guest that isn't up has no result")
            )),
            (_, outcome) => return Ok(outcome),
        }
    }
    Ok(boot_once(images, kernel, job)?.1)
}

fn boot_once(images: &Images, kernel: Kernel, job: &Job) -> Result<(End, Outcome)> {
    let temp = TempDir::new()?;
    pack_job(job, &temp)?;
    if job.out.is_some() {
        File::create(temp.path("out.tar"))?.set_len(OUT_BYTES)?;
    }
    let stdout: Option<Box<dyn Write + Send>> = if job.echo {
        Some(Box::new(std::io::stdout()))
    } else {
        None
    };
    let stderr: Option<Box<dyn Write + Send>> = if job.echo {
        Some(Box::new(std::io::stderr()))
    } else {
        None
    };
    let stdout = pass_on(&temp.path("stdout"), stdout)?;
    let stderr = pass_on(&temp.path("stderr"), stderr)?;
    let mut command = qemu_command(images, kernel, job, &temp)?;
    command.stderr(File::create(temp.path("qemu-stderr"))?);
    let end = Guest(command.spawn().context("cannot start QEMU")?).wait(job, &temp.path("result"));
    // A QEMU that never opened its ports leaves the readers waiting for someone: that is us, with nothing to say.
    for port in ["stdout", "stderr"] {
        drop(UnixStream::connect(temp.path(port)));
    }
    let end = end?;
    let join =
        |reader: JoinHandle<Vec<u8>>| reader.join().ok().context("a reader of the guest's output died");
    let (stdout, stderr) = (join(stdout)?, join(stderr)?);
    let outcome = |result| Outcome {
        result,
        stdout,
        stderr,
    };
    let Some(code) = exit_code(&read_text(&temp.path("result"))) else {
        let console = read_text(&temp.path("console"));
        let why = format!(
            "the guest with kernel {kernel} gave no result: {}\n{}{}",
            explain(&end, &console, job.machine.timeout),
            read_text(&temp.path("qemu-stderr")),
            tail(&console, 60)
        );
        return Ok((end, outcome(Err(why))));
    };
    if let Some(dir) = &job.out {
        fs::create_dir_all(dir)?;
        command::run(
            Command::new("tar")
                .arg("-xf")
                .arg(temp.path("out.tar"))
                .arg("-C")
                .arg(dir),
        )
        .context("cannot unpack what the guest left in /out")?;
    }
    Ok((end, outcome(Ok(code))))
}

/// A running QEMU; it does not outlive the value.
struct Guest(Child);

/// How a guest came to its end.
enum End {
    Exited(ExitStatus),
    /// It never said that it was up; nothing of the job has begun.
    NotUp,
    /// It said its last word but did not switch itself off.
    Lingered,
    TimedOut,
}

impl Guest {
    fn wait(mut self, job: &Job, result: &Path) -> Result<End> {
        let started = Instant::now();
        let mut said = None;
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(End::Exited(status));
            }
            // A shell's user is the one who knows when it is enough.
            if job.script.is_some() && started.elapsed() > job.machine.timeout {
                return Ok(End::TimedOut);
            }
            let words = read_text(result);
            if words.is_empty() && started.elapsed() > UP.min(job.machine.timeout) {
                return Ok(End::NotUp);
            }
            if said.is_none() && exit_code(&words).is_some() {
                said = Some(Instant::now());
            }
            if said.is_some_and(|at| at.elapsed() > GRACE) {
                return Ok(End::Lingered);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Collects what arrives at a socket at `path`, and copies it to `echo` while it comes.
fn pass_on(path: &Path, mut echo: Option<Box<dyn Write + Send>>) -> Result<JoinHandle<Vec<u8>>> {
    let listener =
        UnixListener::bind(path).with_context(|| format!("cannot listen at {}", path.display()))?;
    Ok(thread::spawn(move || {
        let mut all = Vec::new();
        let Ok((mut port, _)) = listener.accept() else {
            return all;
        };
        let mut buffer = [0; 16384];
        while let Ok(length @ 1..) = port.read(&mut buffer) {
            all.extend_from_slice(&buffer[..length]);
            if let Some(to) = &mut echo
                && to.write_all(&buffer[..length]).and_then(|()| to.flush()).is_err()
            {
                // Our reader has gone away; the job still runs to its end.
                echo = None;
            }
        }
        all
    }))
}

/// Writes the tar that the guest unpacks at its root.
fn pack_job(job: &Job, temp: &TempDir) -> Result<()> {
    let stage = temp.path("stage");
    fs::create_dir_all(stage.join("lab"))?;
    fs::write(stage.join("lab/init"), include_str!("../guest/lab-init"))?;
    match &job.script {
        Some(script) => fs::write(stage.join("lab/job"), script)?,
        None => {
            fs::write(stage.join("lab/interactive"), "")?;
            fs::write(stage.join("lab/terminal"), terminal_size())?;
        }
    }
    for (from, to) in &job.files {
        let to = stage.join(to.strip_prefix("/").with_context(|| {
            format!(
                "a file's place in the guest must be an absolute path, not {}",
                to.display()
            )
        })?);
        fs::create_dir_all(to.parent().context("a file needs a name in the guest")?)?;
        command::run(Command::new("cp").arg("-rL").arg(from).arg(&to))?;
    }
    command::run(
        Command::new("tar")
            .args(["--owner=0", "--group=0", "-cf"])
            .arg(temp.path("job.tar"))
            .arg("-C")
            .arg(&stage)
            .arg("."),
    )?;
    fs::remove_dir_all(stage)?;
    Ok(())
}

/// Arguments for the guest's stty that make its terminal as large as ours.
fn terminal_size() -> String {
    // On standard input, which command::run would close.
    let size = Command::new("stty").arg("size").stdin(Stdio::inherit()).output();
    let size = size
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    match size.split_whitespace().collect::<Vec<_>>()[..] {
        [rows, columns] => format!("sane rows {rows} cols {columns}"),
        _ => "sane".to_owned(),
    }
}

fn qemu_command(images: &Images, kernel: Kernel, job: &Job, temp: &TempDir) -> Result<Command> {
    let files = images.kernel(kernel)?;
    let qemu = &images.qemu;
    let path = |path: &Path| path.display().to_string();
    let libraries = qemu.join("usr/lib/x86_64-linux-gnu");
    // setpriv: a guest must not survive an xtask that was killed.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL"])
        .arg(qemu.join("usr/lib64/ld-linux-x86-64.so.2"));
    command
        .arg("--library-path")
        .arg(&libraries)
        .arg(qemu.join("usr/bin/qemu-system-x86_64"));
    for firmware in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
        command.arg("-L").arg(qemu.join(firmware));
    }
    let machine = &job.machine;
    if machine.icount {
        let clock = format!("shift={},align=off,sleep=off", machine.shift);
        command.args(["-accel", "tcg", "-icount", &clock]);
    } else {
        command.args(["-accel", "tcg,thread=multi"]);
    }
    command.args([
        "-smp",
        &machine.smp.to_string(),
        "-m",
        &machine.memory.to_string(),
    ]);
    command.args([
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
        "-cpu",
        "max",
    ]);
    command
        .arg("-kernel")
        .arg(&files.vmlinuz)
        .arg("-initrd")
        .arg(&files.initrd);
    command.args([
        "-append",
        "console=ttyS0 quiet panic=-1 oops=panic mitigations=off tsc=reliable clocksource=tsc",
    ]);
    command.args(["-serial", &format!("file:{}", path(&temp.path("console")))]);
    if job.script.is_none() {
        command.args([
            "-chardev",
            "stdio,id=terminal,signal=off",
            "-serial",
            "chardev:terminal",
        ]);
        command.stdin(Stdio::inherit());
    } else {
        command.stdin(Stdio::null());
    }
    command.args(["-device", "virtio-serial-pci"]);
    let ports = [
        format!("socket,id=port1,path={}", path(&temp.path("stdout"))),
        format!("socket,id=port2,path={}", path(&temp.path("stderr"))),
        format!("file,id=port3,path={}", path(&temp.path("result"))),
    ];
    for (number, chardev) in (1..).zip(ports) {
        command.args(["-chardev", &chardev]);
        command.args([
            "-device",
            &format!("virtserialport,chardev=port{number},nr={number},name=port{number}"),
        ]);
    }
    let mut drives = vec![
        (images.guest.clone(), "snapshot=on,cache=unsafe"),
        (files.modules.clone(), "readonly=on"),
        (temp.path("job.tar"), "readonly=on"),
    ];
    if job.out.is_some() {
        drives.push((temp.path("out.tar"), "cache=unsafe"));
    }
    for (file, options) in drives {
        command.args([
            "-drive",
            &format!("if=virtio,format=raw,file={},{options}", path(&file)),
        ]);
    }
    Ok(command)
}

fn read_text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// The guest's last word, if it is complete.
fn exit_code(words: &str) -> Option<u8> {
    let last = words.strip_suffix('\n')?.lines().last()?;
    last.strip_prefix("exit ")?.parse().ok()
}

fn explain(end: &End, console: &str, timeout: Duration) -> String {
    let fatal = [
        "Kernel panic",
        "BUG:",
        "Oops",
        "general protection fault",
        "lab: ",
    ];
    let complaint = console
        .lines()
        .find(|line| fatal.iter().any(|word| line.contains(word)));
    let end = match end {
        End::TimedOut => format!("it was killed after {} s, the timeout", timeout.as_secs()),
        End::NotUp => "it did not come up".to_owned(),
        End::Lingered => "it did not switch itself off".to_owned(),
        End::Exited(status) if status.success() => "it switched itself off early".to_owned(),
        End::Exited(status) => format!("QEMU failed ({status})"),
    };
    match complaint {
        Some(line) => format!("{end}; its console says: {}", line.trim()),
        None => end,
    }
}

/// The last `count` lines.
fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_complete_last_word_counts() {
        assert_eq!(exit_code("exit 7\n"), Some(7));
        assert_eq!(exit_code("up\nexit 7\n"), Some(7));
        assert_eq!(exit_code("up\n"), None);
        assert_eq!(exit_code("exit 7"), None);
        assert_eq!(exit_code("exit 256\n"), None);
        assert_eq!(exit_code(""), None);
    }

    #[test]
    fn a_panic_is_named() {
        let console = "a\n[    1.0] Kernel panic - not syncing: test\nb\n";
        let text = explain(&End::TimedOut, console, Duration::from_secs(5));
        assert!(
            text.contains("5 s") && text.contains("not syncing: test"),
            "{text}"
        );
    }

    #[test]
    fn the_tail_is_the_end() {
        assert_eq!(tail("a\nb\nc", 2), "b\nc");
        assert_eq!(tail("a", 2), "a");
    }
}
