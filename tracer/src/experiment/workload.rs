//! iperf3 as a child process: the server, and the client whose report is read.

use std::io::Read;
use std::process::{Child, ChildStdout, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::block::{Server, Workload};
use super::build::real_name;
use super::iperf::{self, Report};
use super::ledger::{self, Item, Ledger};
use super::tools;

/// Set when the run is to stop: by Ctrl-C, SIGTERM, or the end of its terminal.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Whether it is time.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// It is time.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// One that SIGINT, SIGTERM and SIGHUP set from now on; SIGHUP not where it is ignored, as nohup(1) has it.
    pub fn on_signals() -> std::io::Result<Stop> {
        use tokio::signal::unix::{SignalKind, signal};
        let stop = Stop::default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let (mut interrupt, mut terminate, mut hangup) = {
            let _inside = runtime.enter();
            let hangup = (!hangup_ignored())
                .then(|| signal(SignalKind::hangup()))
                .transpose()?;
            (
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                hangup,
            )
        };
        let setter = stop.clone();
        thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = async {
                        match &mut hangup {
                            Some(hangup) => hangup.recv().await,
                            None => std::future::pending().await,
                        }
                    } => {}
                }
            });
            setter.set();
            // The handlers stay, so that a second signal does not end the clearing up.
            runtime.block_on(std::future::pending::<()>());
        });
        Ok(stop)
    }
}

/// Whether this process was started with SIGHUP ignored.
fn hangup_ignored() -> bool {
    // proc(5), status: a mask in hexadecimal whose lowest bit is signal 1, which is SIGHUP.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 != 0)
}

/// Why there is no traffic.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// iperf3 can't be started.
    #[error(transparent)]
    Tool(#[from] tools::Error),
    /// The ledger can't be written.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// The report can't be read, or says that the run failed.
    #[error(transparent)]
    Report(#[from] iperf::Error),
    /// A server that does not listen, a client that does not end.
    #[error("{0}")]
    Hangs(String),
    /// By a signal.
    #[error("interrupted")]
    Stopped,
}

/// A child that ends with its owner.
struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody left to tell otherwise.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running server; it ends when this is dropped.
pub struct RunningServer(#[expect(dead_code, reason = "held to be dropped")] Kept);

/// How often a child is looked after.
const TICK: Duration = Duration::from_millis(20);

/// Starts the server, and waits until it listens.
pub fn serve(server: &Server, ledger: &mut Ledger, stop: &Stop) -> Result<RunningServer, Error> {
    let namespace = server.namespace.as_deref().map(real_name);
    let mut command = tools::command(namespace.as_deref(), "iperf3");
    command.args(["-s", "-p", &server.port.to_string()]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = Kept(
        command
            .spawn()
            .map_err(|error| tools::start_error("iperf3", error))?,
    );
    let pid = child.0.id();
    if let Some(start) = ledger::start_time(pid) {
        ledger.add(Item::Process { pid, start })?;
    }
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        if let Ok(Some(status)) = child.0.try_wait() {
            return Err(Error::Hangs(format!(
                "the iperf3 server ended at once: {}",
                said(child.0.stderr.take(), status)
            )));
        }
        if listens(pid, server.port) {
            return Ok(RunningServer(child));
        }
        if stop.is_set() {
            return Err(Error::Stopped);
        }
        if Instant::now() > end {
            return Err(Error::Hangs(format!(
                "the iperf3 server does not listen on port {} after 10 s",
                server.port
            )));
        }
        thread::sleep(TICK);
    }
}

fn said(stream: Option<impl Read>, status: ExitStatus) -> String {
    let mut text = String::new();
    if let Some(mut stream) = stream {
        // What can't be read is not there.
        let _ = stream.read_to_string(&mut text);
    }
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    line.map_or_else(|| status.to_string(), str::to_owned)
}

/// Whether somebody in the process's network namespace listens on this TCP port.
fn listens(pid: u32, port: u16) -> bool {
    ["tcp", "tcp6"].iter().any(|file| {
        std::fs::read_to_string(format!("/proc/{pid}/net/{file}")).is_ok_and(|text| {
            text.lines().skip(1).any(|line| {
                let mut words = line.split_whitespace().skip(1);
                let local = words.next().unwrap_or("");
                // State 0A is TCP_LISTEN, in include/net/tcp_states.h.
                local.ends_with(&format!(":{port:04X}")) && words.nth(1) == Some("0A")
            })
        })
    })
}

/// A running client; it ends when this is dropped.
pub struct Client {
    child: Kept,
    item: Option<Item>,
    reader: Option<JoinHandle<String>>,
    begun: Instant,
    deadline: Duration,
}

impl Client {
    /// Starts sending, for this many seconds.
    pub fn start(workload: &Workload, seconds: u32, ledger: &mut Ledger) -> Result<Client, Error> {
        let namespace = workload.namespace.as_deref().map(real_name);
        let mut command = tools::command(namespace.as_deref(), "iperf3");
        command.args([
            "-c",
            &workload.to,
            "-p",
            &workload.port.to_string(),
            "-t",
            &seconds.to_string(),
        ]);
        command.args(["-J", "--connect-timeout", "5000"]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = Kept(
            command
                .spawn()
                .map_err(|error| tools::start_error("iperf3", error))?,
        );
        let reader = child.0.stdout.take().map(|out: ChildStdout| {
            thread::spawn(move || {
                let mut text = Vec::new();
                let mut out = out;
                // A report that is cut off is not JSON, and that is said then.
                let _ = out.read_to_end(&mut text);
                String::from_utf8_lossy(&text).into_owned()
            })
        });
        let pid = child.0.id();
        let item = ledger::start_time(pid).map(|start| Item::Process { pid, start });
        if let Some(item) = &item {
            ledger.add(item.clone())?;
        }
        Ok(Client {
            child,
            item,
            reader,
            begun: Instant::now(),
            deadline: Duration::from_secs(u64::from(seconds) + 20),
        })
    }

    /// Seconds since it was started.
    pub fn elapsed(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// Whether it has ended.
    pub fn ended(&mut self, stop: &Stop) -> Result<bool, Error> {
        if stop.is_set() {
            return Err(Error::Stopped);
        }
        if self.begun.elapsed() > self.deadline {
            return Err(Error::Hangs(format!(
                "iperf3 was still not done after {} s: does the server answer?",
                self.deadline.as_secs()
            )));
        }
        thread::sleep(TICK);
        self.child
            .0
            .try_wait()
            .map(|status| status.is_some())
            .map_err(|error| tools::start_error("iperf3", error).into())
    }

    /// Waits for its end, and reads the report.
    pub fn finish(mut self, ledger: &mut Ledger, stop: &Stop) -> Result<Report, Error> {
        while !self.ended(stop)? {}
        self.report(ledger)
    }

    /// Ends it now, as Ctrl-C does, and reads the report as far as it came.
    pub fn cut_off(mut self, ledger: &mut Ledger) -> Result<Report, Error> {
        // It may end by itself meanwhile.
        let _ = tools::run(None, "kill", &["-INT", &self.child.0.id().to_string()]);
        self.deadline = self.begun.elapsed() + Duration::from_secs(10);
        while !self.ended(&Stop::default())? {}
        self.report(ledger)
    }

    fn report(mut self, ledger: &mut Ledger) -> Result<Report, Error> {
        if let Some(item) = &self.item {
            ledger.strike(item);
        }
        let text = self
            .reader
            .take()
            .and_then(|reader| reader.join().ok())
            .unwrap_or_default();
        Ok(Report::read(&text)?)
    }
}
