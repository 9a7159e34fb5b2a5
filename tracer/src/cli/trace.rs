//! `ktrail trace`.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use anyhow::Context;
use clap::ValueEnum;
use ktrail_ebpf::filter::Filter;
use ktrail_ebpf::kernel::Types;
use regex::Regex;

use super::{Color, Usage, rendering};
use crate::kernel::firewall::{Chain, Firewall};
use crate::kernel::places;
use crate::kernel::process::allow_huge_pages;
use crate::kernel::signals;
use crate::kernel::symbols::{self, Symbols};
use crate::kernel::time::WallClock;
use crate::trace::beneath::{self, Function, Unfit};
use crate::trace::extras::{self, Extras};
use crate::trace::program::{Limits, Only};
use crate::trace::reasons::{self, Enumerators};
use crate::trace::recording::{Functions, Head, Recorder, Sources};
use crate::trace::render::{self, Names, Renderer};
use crate::trace::rules::{self, About, Answers};
use crate::trace::run::{self, Until};
use crate::trace::session::{Backend, Coverage, Kernel, Progress, Request, Session};
use crate::tui::output::Output;

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

    /// Show this field of the packet's skb where it changes: any path of this kernel's types, such as skb.dev.mtu; may be
    /// given more than once
    #[arg(long, value_name = "FIELD")]
    show: Vec<String>,

    /// Show which function called each function
    #[arg(long, conflicts_with = "stack")]
    caller: bool,

    /// Show the functions that led to each function
    #[arg(long)]
    stack: bool,

    /// Also show these functions, which take no packet, where they run on behalf of a followed one, with what they return;
    /// separated by commas, or given more than once
    #[arg(long, value_name = "FUNC", value_delimiter = ',')]
    beneath: Vec<String>,

    #[command(flatten)]
    rendering: rendering::Rendering,

    /// Write what is seen to this file, for `ktrail show` and `ktrail diff`, and print only the summary
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["live", "output", "explain", "summary", "timestamp", "tui"])]
    record: Option<PathBuf>,

    /// Stop after this many packets
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// Create this file once everything is attached, for scripts that wait
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,

    /// What tracing may cost: per cent of one CPU's time, spent in its programs on all CPUs. Beyond that, the functions
    /// that cost most and that no followed packet has gone through are detached
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    max_cost: Option<f64>,

    /// Attach programs that do nothing: what attaching alone costs, for benchmarks
    #[arg(long, hide = true)]
    empty: bool,

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
    /// One link for all functions, by trampolines (7.2+)
    TracingMulti,
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
            BackendArg::TracingMulti => Backend::TracingMulti,
            BackendArg::KprobeMulti => Backend::KprobeMulti,
            BackendArg::Kprobe => Backend::Kprobe,
            BackendArg::Tracepoint => Backend::Tracepoint,
        }
    }
}

impl Args {
    /// The filter as it was typed.
    fn text(&self) -> String {
        self.filter.clone().unwrap_or_else(|| self.words.join(" "))
    }

    fn filter(&self) -> anyhow::Result<Filter> {
        super::filter::parse(&self.text(), self.pcap_compat, true)
    }

    fn only(&self) -> anyhow::Result<Only> {
        let ifindex = self.interface.as_deref().map(places::interface).transpose();
        let netns = self.netns.as_deref().map(places::netns).transpose();
        Ok(Only {
            ifindex: ifindex.map_err(|e| Usage(format!("--interface {e}")))?,
            netns: netns.map_err(|e| Usage(format!("--netns {e}")))?,
        })
    }

    /// What reports carry on request.
    fn extras(&self, types: &dyn Types) -> Result<Extras, Usage> {
        if self.show.len() > extras::MOST_FIELDS {
            return Err(Usage(format!("--show: at most {} fields", extras::MOST_FIELDS)));
        }
        let fields = self.show.iter().map(|path| extras::field(types, path));
        let fields = fields.collect::<Result<_, _>>();
        Ok(Extras {
            fields: fields.map_err(|e| Usage(format!("--show {e}")))?,
            stack: match (self.caller, self.stack) {
                (_, true) => STACK,
                (true, _) => MACHINERY,
                _ => 0,
            },
        })
    }

    /// The functions that are to be seen beneath the packets' own.
    fn beneath(&self, kernel: &Kernel) -> anyhow::Result<Vec<Function>> {
        if self.beneath.is_empty() {
            return Ok(vec![]);
        }
        if let Some(lacking) = &kernel.no_addresses {
            return Err(lacking.clone().into());
        }
        beneath::find(kernel, self.backend.map(Backend::from), &self.beneath).map_err(|unfit| match unfit {
            Unfit::NotProbeable { .. } => unfit.into(),
            _ => Usage(unfit.to_string()).into(),
        })
    }

    /// Whether the kernel can fold the journeys: nobody asks for what only single packets have.
    fn folds(&self) -> bool {
        let single = !self.show.is_empty() || self.caller || self.stack || !self.beneath.is_empty();
        self.rendering.summary && !single && self.count.is_none() && self.max_cost.is_none()
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
    args.rendering.check()?;
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

    let backend = args.backend.map(Backend::from);
    if let Some(backend) = backend {
        let name = backend.name();
        if !args.beneath.is_empty() && !backend.knows_stack() {
            return Err(Usage(format!(
                "--beneath and --backend {name}: it does not know the stack, which tells what runs beneath; use \
                 kprobe-multi or kprobe"
            ))
            .into());
        }
        if args.max_cost.is_some() && !backend.lets_go() {
            return Err(Usage(format!(
                "--max-cost and --backend {name}: it can't let go of single functions; use kprobe-multi or kprobe"
            ))
            .into());
        }
    }

    let progress = Terminal::new();
    allow_huge_pages(false);
    let kernel = Kernel::read()?;
    let extras = args.extras(&kernel.btf)?;
    let beneath = args.beneath(&kernel)?;
    let request = Request {
        filter: &filter,
        only,
        backend,
        func: func.as_ref(),
        limits: Limits {
            ring: args.ring_size * 1024,
            follow: FOLLOW,
            calls: if beneath.is_empty() { 0 } else { CALLS },
            watch: None,
            folded: if args.folds() { FOLDED } else { 0 },
        },
        extras: &extras,
        beneath: &beneath,
        // The command is what makes the packets: it can wait.
        all_first: !args.command.is_empty() || args.count.is_some(),
        watch: args.max_cost.is_some(),
        empty: args.empty,
    };
    // Looked up before the session has its memory, which the kernel's types would come on top of.
    let reasons = reasons::of(&kernel.btf);
    // What is attached by then doesn't all go with the process.
    signals::defer();
    let started = Session::start(&kernel, &request, &progress);
    if let Some(signal) = signals::noted() {
        if let Ok(session) = started {
            session.detach();
        }
        signals::obey(signal);
    }
    let mut session = started?;
    if session.attaching() > 0 {
        progress.begun(&session);
    }

    let mut head = head(reasons, &session, args.text());
    head.shown.clone_from(&args.show);
    head.stack = if args.caller { 1 } else { extras.stack };
    let functions = functions(&kernel);
    let mut screen = None;
    let (recorder, out): (_, Box<dyn Renderer>) = match &args.record {
        Some(path) => {
            let file = File::create(path).with_context(|| format!("--record {}", path.display()))?;
            let sources = Sources {
                functions,
                answers: answers(),
            };
            let recorder = Recorder::new(Box::new(file), &head, sources)
                .with_context(|| format!("--record {}", path.display()))?;
            (Some(recorder), Box::new(render::SummaryAlone(io::stdout())))
        }
        None => {
            let symbols = Box::new(move |address| functions(address));
            let names = Names::new(head.points.clone(), head.reasons(), symbols)
                .asking(answers())
                .showing(head.shown, head.stack);
            let names = Rc::new(names);
            let out = match args.rendering.tui {
                true => Box::new(screen.insert(args.rendering.screen(names, color, true)?).clone()),
                false => args.rendering.renderer(names, head.offset, color),
            };
            (None, out)
        }
    };
    let output = screen.as_ref().map(|_| Output::default());
    let until = Until {
        count: args.count,
        command: &args.command,
        output: output.as_ref(),
        max_cost: args.max_cost,
    };
    let ready = |session: &Session| {
        let line = attached(session);
        match &screen {
            Some(screen) => screen.note(&line),
            None => progress.notice(&line),
        }
        match &args.ready_file {
            Some(path) => {
                std::fs::write(path, "").with_context(|| format!("--ready-file {}", path.display()))
            }
            None => Ok(()),
        }
    };
    let result = run::run(&mut session, &until, args.rendering.pace(), recorder, &ready, out);
    let Some(screen) = screen else {
        session.detach();
        return result;
    };
    // Who wants to go is let go before the programs are detached, which may take its time; who stays, after.
    let stays = result.is_ok() && !screen.over();
    let output = output.unwrap_or_default();
    let looked = if stays {
        screen.say("ended: detaching")?;
        session.detach();
        let looked = screen.linger("ended");
        screen.close(&output)?;
        looked
    } else {
        let closed = screen.close(&output);
        session.detach();
        closed
    };
    result.and(looked.context("--tui"))
}

/// A part of one CPU's time; several CPUs have more than one.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse();
    let number = number.map_err(|_| String::from("not a number"))?;
    match number {
        0.01..=100_000.0 => Ok(number),
        _ => Err("per cent of one CPU, from 0.01 on".into()),
    }
}

/// How many journeys can be under way at once, and how many kinds told apart, where the kernel folds them.
const FOLDED: u32 = 8192;

/// How many skbs can be followed at once.
const FOLLOW: u32 = 16384;

/// How many stacks that packets are handled on, and calls beneath their functions, can be told apart at once.
const CALLS: u32 = 4096;

/// Return addresses in a stack.
const STACK: u32 = 32;
/// Those of what runs the probe come before the caller's.
const MACHINERY: u32 = 8;

/// What events need to be understood: names for what they carry as numbers.
fn head((reasons, subsystems): (Enumerators, Enumerators), session: &Session, filter: String) -> Head {
    Head {
        ktrail: env!("CARGO_PKG_VERSION").into(),
        kernel: places::kernel_release(),
        offset: WallClock::measure().offset(),
        filter,
        points: session.points().to_vec(),
        reasons,
        subsystems,
        ..Head::default()
    }
}

/// Finds the function that a code address is in.
fn functions(kernel: &Kernel) -> Functions {
    let functions = symbols::Functions::new(Symbols::clone(&kernel.symbols));
    Rc::new(move |address| functions.at(address))
}

/// Asks this machine's firewall about its rules.
fn answers() -> Answers {
    let firewall = Firewall::default();
    Box::new(move |question| {
        let listing = firewall.listing(&Chain {
            netns: question.netns,
            family: question.family,
            table: question.table.clone(),
            name: question.chain.clone(),
            legacy: question.about == About::Drops,
        })?;
        match question.about {
            About::Handle(handle) => {
                let mut rules = rules::nft_rules(&listing).into_iter();
                rules.find(|(found, _)| *found == handle).map(|(_, text)| text)
            }
            About::Drops => Some(rules::legacy_drops(&listing)),
        }
    })
}

/// Progress on standard error: a line that is drawn over on a terminal, notices in any case.
struct Terminal {
    draws: bool,
    since: Instant,
}

impl Terminal {
    fn new() -> Terminal {
        Terminal {
            draws: io::stderr().is_terminal(),
            since: Instant::now(),
        }
    }

    fn clear(&self) {
        if self.draws {
            eprint!("\r\x1b[K");
        }
    }

    /// The functions on packets' usual paths are attached.
    fn begun(&self, session: &Session) {
        self.clear();
        eprintln!(
            "ktrail: {} functions on packets' usual paths attached after {:.1} s; {} more follow",
            session.coverage.functions,
            self.since.elapsed().as_secs_f64(),
            session.attaching(),
        );
    }
}

/// What is said when everything is attached.
fn attached(session: &Session) -> String {
    let Coverage {
        functions,
        tracepoints,
        skipped,
    } = &session.coverage;
    let coarse = match session.backend {
        Backend::Tracepoint => ": a coarser journey, without functions",
        _ => "",
    };
    format!(
        "{functions} functions and {tracepoints} tracepoints attached by {} ({} skipped){coarse}",
        session.backend.name(),
        skipped.len(),
    )
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
        signals::noted().is_none()
    }

    fn notice(&self, line: &str) {
        self.clear();
        eprintln!("ktrail: {line}");
    }
}
