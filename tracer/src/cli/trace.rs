//! `ktrail trace`.

use std::io::{self, BufWriter, IsTerminal};
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::Context;
use clap::ValueEnum;
use ktrail_ebpf::filter::Filter;
use regex::Regex;

use super::{Color, Usage};
use crate::kernel::places;
use crate::kernel::time::WallClock;
use crate::trace::program::{Limits, Only};
use crate::trace::render::{self, Names, Reasons, Renderer};
use crate::trace::run::{self, Until};
use crate::trace::session::{Backend, Coverage, Kernel, Progress, Request, Session};

/// Print the journey of each packet that matches a filter
///
/// Attaches to every kernel function and tracepoint that takes a packet, follows each packet that matches the
/// filter once until it is freed, and prints where it went, what changed on its way, and how it ended.
/// Without a filter, every packet is followed.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Which packets, in the language of tcpdump's filters; words are joined by blanks
    #[arg(value_name = "EXPR")]
    words: Vec<String>,

    /// Which packets; the same as EXPR
    #[arg(short, long, value_name = "EXPR", conflicts_with = "words")]
    filter: Option<String>,

    /// Run this command once everything is attached, and stop when it ends
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,

    /// Read the filter exactly as libpcap does, where ktrail differs on purpose
    #[arg(long)]
    pcap_compat: bool,

    /// Only functions and tracepoints whose whole name matches
    #[arg(long, value_name = "REGEX")]
    func: Option<String>,

    /// Only packets in this network namespace: a name as `ip netns` knows it, a path, or an inode number
    #[arg(long, value_name = "NETNS")]
    netns: Option<String>,

    /// Only packets on this device
    #[arg(short, long, value_name = "NAME")]
    interface: Option<String>,

    /// How to attach; the best that the kernel has, if not given
    #[arg(long, value_enum, value_name = "BACKEND")]
    backend: Option<BackendArg>,

    /// What the time column shows
    #[arg(short, long, value_enum, value_name = "KIND", default_value_t = Timestamp::Relative)]
    timestamp: Timestamp,

    /// Print events as they come, not whole journeys when they end
    #[arg(long)]
    live: bool,

    /// Text for people or JSON lines for programs
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    output: Output,

    /// Stop after this many packets
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// Create this file once everything is attached, for scripts that wait
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,

    /// Room for events that have not been read yet, in KiB: a power of two
    #[arg(long, value_name = "KIB", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(4..=1 << 20))]
    ring_size: u32,
}

const EXAMPLES: &str = "\
Examples:
  A DNS query's journey:
    ktrail trace 'udp and dst 8.8.8.8 and port 53' -- dig +tries=1 @8.8.8.8 example.com
  The next five packets to a web server, as they go:
    ktrail trace --live --count 5 tcp dst port 443";

/// A way to attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BackendArg {
    /// One link for all functions (5.18+, CONFIG_FPROBE)
    KprobeMulti,
    /// One probe a function (CONFIG_KPROBES)
    Kprobe,
    /// BTF tracepoints only: a coarser journey
    Tracepoint,
}

impl From<BackendArg> for Backend {
    fn from(arg: BackendArg) -> Backend {
        match arg {
            BackendArg::KprobeMulti => Backend::KprobeMulti,
            BackendArg::Kprobe => Backend::Kprobe,
            BackendArg::Tracepoint => Backend::Tracepoint,
        }
    }
}

/// How the output is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// JSON lines, for programs
    Json,
}

/// What the time column shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Timestamp {
    /// No time
    None,
    /// Wall-clock time
    Absolute,
    /// Since the packet's first event
    Relative,
    /// Since the packet's previous event
    Delta,
}

impl Args {
    fn filter(&self) -> anyhow::Result<Filter> {
        let text = self.filter.clone().unwrap_or_else(|| self.words.join(" "));
        super::filter::parse(&text, self.pcap_compat, true)
    }

    fn only(&self) -> anyhow::Result<Only> {
        let ifindex = self.interface.as_deref().map(places::interface).transpose();
        let netns = self.netns.as_deref().map(places::netns).transpose();
        Ok(Only {
            ifindex: ifindex.map_err(|e| Usage(format!("--interface {e}")))?,
            netns: netns.map_err(|e| Usage(format!("--netns {e}")))?,
        })
    }

    fn func(&self) -> anyhow::Result<Option<Regex>> {
        let Some(text) = &self.func else {
            return Ok(None);
        };
        // By itself first, so that a message shows what was typed.
        let whole = Regex::new(text).and_then(|_| Regex::new(&format!("^(?:{text})$")));
        Ok(Some(whole.map_err(|e| Usage(format!("--func: {e}")))?))
    }
}

/// Run the subcommand.
pub fn main(args: &Args, color: Color) -> anyhow::Result<()> {
    // All that can be wrong with what was typed comes first, before anything is attached.
    if !args.ring_size.is_power_of_two() {
        return Err(Usage(format!("--ring-size {}: not a power of two", args.ring_size)).into());
    }
    let filter = args.filter()?;
    let only = args.only()?;
    let func = args.func()?;
    if let Some(program) = args.command.first()
        && !places::runnable(program)
    {
        return Err(Usage(format!(
            "no command {program:?}: not found in PATH, or not executable"
        ))
        .into());
    }

    let kernel = Kernel::read()?;
    let request = Request {
        filter: &filter,
        only,
        backend: args.backend.map(Backend::from),
        func: func.as_ref(),
        limits: Limits {
            ring: args.ring_size * 1024,
            follow: FOLLOW,
        },
    };
    let progress = Terminal::new();
    let mut session = Session::start(&kernel, &request, &progress)?;
    progress.listening(&session);

    let names = Rc::new(names(&kernel, &session));
    let colour = color.enabled(io::stdout().is_terminal());
    let stdout = BufWriter::new(io::stdout());
    let offset = WallClock::measure().offset();
    let out: Box<dyn Renderer> = match args.output {
        Output::Text => {
            let timestamp = match args.timestamp {
                Timestamp::None => render::Timestamp::None,
                Timestamp::Absolute => render::Timestamp::Absolute { offset },
                Timestamp::Relative => render::Timestamp::Relative,
                Timestamp::Delta => render::Timestamp::Delta,
            };
            Box::new(render::Text::new(stdout, names, timestamp, colour))
        }
        Output::Json => Box::new(render::Json::new(stdout, names, offset)),
    };
    let until = Until {
        count: args.count,
        command: &args.command,
    };
    let ready = || match &args.ready_file {
        Some(path) => std::fs::write(path, "").with_context(|| format!("--ready-file {}", path.display())),
        None => Ok(()),
    };
    let result = run::run(&mut session, &until, args.live, &ready, out);
    session.detach();
    result
}

/// How many skbs can be followed at once.
const FOLLOW: u32 = 16384;

/// Names for what events carry as numbers.
fn names(kernel: &Kernel, session: &Session) -> Names {
    let values = |name: &str| kernel.btf.enum_values(name).unwrap_or_default().into_iter();
    let reasons = values("skb_drop_reason").map(|(name, number)| (number as u32, name));
    let subsystems = values("skb_drop_reason_subsys").map(|(name, number)| (number as u32, name));
    let symbols = Rc::clone(&kernel.symbols);
    let function = move |addr| symbols.at(addr).map(|(symbol, _)| symbol.name.to_string());
    Names::new(
        session.points().to_vec(),
        Reasons::new(reasons).with_subsystems(subsystems),
        Box::new(function),
    )
}

/// Progress on standard error: a line that is drawn over on a terminal, notices in any case.
struct Terminal {
    draws: bool,
}

impl Terminal {
    fn new() -> Terminal {
        Terminal {
            draws: io::stderr().is_terminal(),
        }
    }

    fn clear(&self) {
        if self.draws {
            eprint!("\r\x1b[K");
        }
    }

    /// Everything is attached.
    fn listening(&self, session: &Session) {
        self.clear();
        let Coverage {
            functions,
            tracepoints,
            skipped,
        } = &session.coverage;
        let coarse = match session.backend {
            Backend::Tracepoint => ": a coarser journey, without functions",
            _ => "",
        };
        eprintln!(
            "ktrail: {functions} functions and {tracepoints} tracepoints attached by {} ({} skipped){coarse}",
            session.backend.name(),
            skipped.len(),
        );
    }
}

impl Progress for Terminal {
    fn attaching(&self, done: usize, total: usize) -> bool {
        if self.draws && total > 0 {
            const WIDTH: usize = 30;
            let filled = done * WIDTH / total;
            eprint!(
                "\r\x1b[Kattaching [{:<WIDTH$}] {done}/{total}",
                "#".repeat(filled)
            );
        }
        true
    }

    fn notice(&self, line: &str) {
        self.clear();
        eprintln!("ktrail: {line}");
    }
}
