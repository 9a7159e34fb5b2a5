//! What a compiled script is: programs, and what the runtime must know to attach them, read their maps and print
//! their events. Pure data, the contract between the compiler and the runtime.
//!
//! - Maps of the same name in all programs are one map. Maps of the script are named `AT_name`; the runtime's own
//!   are [`EVENTS`], [`CONTROL`], [`STATE`], [`ERRORS`] and those in [`Compiled::stacks`].
//! - Every record in both rings starts with a [`RECORD_HEADER`]: u64 index into [`Compiled::events`], then u64
//!   nanoseconds of `CLOCK_MONOTONIC`, by which the runtime puts the records of both rings in order.
//! - All values are in the machine's byte order, laid out as [`Ty::layout`] says.
//!
//! Deliberately absent: how anything is printed, and anything about the kernel that runs it.

use crate::ir::{MapDecl, Program, Span};

pub use super::types::{Clock, Layout, StackMode, Ty};

/// The ring for output.
pub const EVENTS: &str = "events";
/// The small ring for control actions: exit, clear, zero, print of a map. A flood of output can't fill it.
pub const CONTROL: &str = "control";
/// An array map with one value of [`STATE_SIZE`] bytes.
pub const STATE: &str = "state";
/// A per-CPU array map of u64 counters, one for each of [`Compiled::errors`]. Like every map it is there only if a
/// program uses it.
pub const ERRORS: &str = "errors";

/// Bytes before a record's fields: event index, time.
pub const RECORD_HEADER: u32 = 16;
/// Bytes of the value of [`STATE`].
pub const STATE_SIZE: u32 = 32;
/// In [`STATE`]: u64, not zero once `exit()` was called. Programs but END return at once then. The runtime may set it.
pub const STATE_EXITING: u32 = 0;
/// In [`STATE`]: u64 nanoseconds of `CLOCK_MONOTONIC` when the script started, for `elapsed`. The runtime writes it
/// before BEGIN runs.
pub const STATE_START: u32 = 8;
/// In [`STATE`]: u64 process id that `cpid` stands for (`-c`), 0 if there is none. The runtime writes it.
pub const STATE_CHILD: u32 = 16;
/// In [`STATE`]: i64 nanoseconds from the Unix epoch to the zero of `CLOCK_MONOTONIC`, for `tseries()`. The runtime
/// writes it before BEGIN runs.
pub const STATE_EPOCH: u32 = 24;

/// A compiled script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// The programs, in the order of the source.
    pub probes: Vec<Probe>,
    /// The script's own maps, in the order of their names.
    pub maps: Vec<MapInfo>,
    /// What records stand for: a record's first word is an index into this.
    pub events: Vec<EventInfo>,
    /// Where the kernel's side counts what went wrong: each is an index into the map [`ERRORS`].
    pub errors: Vec<ErrorSite>,
    /// The stack trace maps that [`Ty::KStack`] and [`Ty::UStack`] values refer to.
    pub stacks: Vec<StackMap>,
    /// What `probe` can be: a [`Ty::ProbeName`] is an index into this.
    pub probe_names: Vec<String>,
    /// Settings that concern the runtime.
    pub config: Config,
    /// What the user may say behind `--`, in the order of the source.
    pub options: Vec<ScriptOption>,
    /// Calls that change what the system does: the user must have allowed them.
    pub dangerous: Vec<Note>,
    /// What the compiler found odd but not wrong, to be shown on stderr.
    pub warnings: Vec<Note>,
}

impl Compiled {
    /// True if some program sees both moments of a call ([`When::Both`]).
    pub fn sees_both_moments(&self) -> bool {
        let mut targets = self.probes.iter().flat_map(|p| &p.targets);
        targets.any(|t| match t.attach {
            AttachPoint::Kprobe { when, .. } | AttachPoint::Fentry { when, .. } => when == When::Both,
            _ => false,
        })
    }
}

/// An option that the script asks for by `getopt()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptOption {
    /// Its name, without dashes.
    pub name: String,
    /// What it is if the user says nothing, as text.
    pub default: String,
    /// What it is about; may be empty.
    pub description: String,
}

/// A remark at a place in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Where.
    pub span: Span,
    /// What.
    pub message: String,
}

/// One program and where it is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The program. Tracing programs are loaded once a target, unless a multi link is used.
    pub program: Program,
    /// Where, at least one. All of the same kind.
    pub targets: Vec<Target>,
    /// Where the probe stands in the source.
    pub span: Span,
    /// It must be attached with a link that carries [`Target::cookie`]: it asks for it.
    pub uses_cookie: bool,
}

/// One attach point of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where.
    pub attach: AttachPoint,
    /// As the script would write it without wildcards: `kprobe:tcp_connect`.
    pub name: String,
    /// Value for `bpf_get_attach_cookie`: index into [`Compiled::probe_names`].
    pub cookie: u64,
}

/// Which moment of a function's call a program sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The entry.
    Entry,
    /// The return.
    Return,
    /// Both: a kprobe session (6.10+), or a session of a trampoline (7.0+).
    Both,
}

/// Where a program is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttachPoint {
    /// Run once by `BPF_PROG_TEST_RUN` before anything is attached. A raw tracepoint program.
    Begin,
    /// Run once after everything is detached. A raw tracepoint program.
    End,
    /// Run once by `BPF_PROG_TEST_RUN` each time that the runtime is sent SIGUSR1. A raw tracepoint program.
    Signal,
    /// A kernel function's entry, return, or both.
    Kprobe {
        /// Name of the function.
        func: String,
        /// Its module, if it isn't the kernel itself or the script names it.
        module: Option<String>,
        /// Bytes past its start.
        offset: u64,
        /// Which moment of a call.
        when: When,
    },
    /// A kernel function by BTF, with a trampoline: `fentry` and `fexit`.
    Fentry {
        /// Name of the function.
        func: String,
        /// Its module, `None` for vmlinux.
        module: Option<String>,
        /// Which moment of a call.
        when: When,
    },
    /// A tracepoint of tracefs.
    Tracepoint {
        /// For example `sched`.
        category: String,
        /// For example `sched_switch`.
        name: String,
    },
    /// A tracepoint by BTF (tp_btf).
    RawTracepoint {
        /// Name of the tracepoint.
        name: String,
        /// Its module, `None` for vmlinux.
        module: Option<String>,
    },
    /// Every so many nanoseconds, on one CPU. A perf event program.
    Interval {
        /// Nanoseconds, at least 1000.
        ns: u64,
    },
    /// On each CPU. A perf event program.
    Profile(Period),
    /// A software event of perf on each CPU.
    Software {
        /// `PERF_COUNT_SW_*`.
        event: u64,
        /// Every so many events.
        period: u64,
    },
    /// A hardware event of perf on each CPU.
    Hardware {
        /// `PERF_TYPE_HARDWARE` (0) or `PERF_TYPE_HW_CACHE` (3).
        perf_type: u32,
        /// `PERF_COUNT_HW_*`.
        event: u64,
        /// Every so many events.
        period: u64,
    },
    /// A BPF iterator.
    Iter {
        /// For example `task`.
        name: String,
        /// Where to pin its link.
        pin: Option<String>,
    },
}

/// How often a profile probe fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// Times a second.
    Hertz(u64),
    /// Every so many nanoseconds.
    Ns(u64),
}

/// A map of the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapInfo {
    /// As in the script, with its `@`.
    pub name: String,
    /// The type of its key; `None` if it has no key. A tuple for several keys.
    pub key: Option<Ty>,
    /// What it holds.
    pub value: ValueTy,
    /// How it is declared. Without a key it is an array of one value.
    pub decl: MapDecl,
    /// Each CPU has its own value.
    pub per_cpu: bool,
    /// Without a key: where in the value a u64 says that it was set (on at least one CPU). `None` with a key.
    pub set_off: Option<u32>,
}

/// What a map holds, from offset 0 of its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueTy {
    /// A value.
    Scalar(Ty),
    /// u64, to be added up over the CPUs.
    Count,
    /// 64 bits, to be added up over the CPUs.
    Sum {
        /// Of signed numbers.
        signed: bool,
    },
    /// 64-bit total, then u64 count; both to be added up over the CPUs.
    Avg {
        /// Of signed numbers.
        signed: bool,
    },
    /// 64-bit value, then u64 that is not zero if there is one.
    Min {
        /// Of signed numbers.
        signed: bool,
    },
    /// 64-bit value, then u64 that is not zero if there is one.
    Max {
        /// Of signed numbers.
        signed: bool,
    },
    /// As [`ValueTy::Avg`].
    Stats {
        /// Of signed numbers.
        signed: bool,
    },
    /// An array of `buckets` u64 counters, to be added up over the CPUs. Bucket 0 is for negative numbers.
    Hist {
        /// Sub-buckets of each power of two: 2 to the power of this, 0 to 5.
        bits: u32,
        /// How many.
        buckets: u32,
    },
    /// An array of `buckets` u64 counters, to be added up over the CPUs: below `min`, one for each step, from `max`.
    Lhist {
        /// Where the first step starts.
        min: i64,
        /// Where the last one ends.
        max: i64,
        /// Width of a step.
        step: u64,
        /// How many, the two at the ends included.
        buckets: u32,
    },
    /// An array of `intervals` slots of [`SERIES_SLOT`] bytes: u64 number of the interval since the Unix epoch, 0 for
    /// an empty one, which stands at its remainder by `intervals`; 64-bit value; then u64 time in nanoseconds of the
    /// last value, or count for an average. Of each interval the CPUs' values are to be put together.
    Series {
        /// Nanoseconds that an interval takes, at least 1.
        interval: u64,
        /// How many are kept.
        intervals: u32,
        /// What becomes of the values of one interval.
        of: SeriesOf,
        /// Of signed numbers.
        signed: bool,
    },
}

/// Bytes of a slot of [`ValueTy::Series`].
pub const SERIES_SLOT: u32 = 24;

/// What becomes of the values that fall into one interval of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeriesOf {
    /// The last one stays.
    Last,
    /// Their average.
    Avg,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// Their sum.
    Sum,
}

/// A value in a record or a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Bytes from the start of the record.
    pub off: u32,
    /// What it is.
    pub ty: Ty,
}

/// What a record stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventInfo {
    /// What to do.
    pub action: Action,
    /// Bytes of a record, its header included.
    pub size: u32,
    /// It comes through [`CONTROL`], else through [`EVENTS`].
    pub control: bool,
    /// The call in the source.
    pub span: Span,
}

/// What a record asks the runtime to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Format and print.
    Printf {
        /// The format.
        format: Format,
        /// Its arguments.
        args: Vec<Field>,
        /// Where to.
        stream: Stream,
    },
    /// Print a value and a newline.
    Print(Field),
    /// Print one entry of a map of statistics or histograms, with its name and key. The runtime looks it up.
    PrintEntry {
        /// Index into [`Compiled::maps`].
        map: usize,
        /// The key, `None` for a map without.
        key: Option<Field>,
    },
    /// Print a map.
    PrintMap {
        /// Index into [`Compiled::maps`].
        map: usize,
        /// The largest so many only; 0: all.
        top: Option<Field>,
        /// Divide values by this; 0: don't.
        div: Option<Field>,
    },
    /// Remove every entry.
    Clear {
        /// Index into [`Compiled::maps`].
        map: usize,
    },
    /// Set every value to zero, keep the keys.
    Zero {
        /// Index into [`Compiled::maps`].
        map: usize,
    },
    /// Print the time of day, by the strftime format.
    Time {
        /// The format.
        format: String,
    },
    /// Print the file whose name the format makes.
    Cat {
        /// The format.
        format: Format,
        /// Its arguments.
        args: Vec<Field>,
    },
    /// Run the command that the format makes. Only where the user allowed it.
    System {
        /// The format.
        format: Format,
        /// Its arguments.
        args: Vec<Field>,
    },
    /// Print strings in one line.
    Join {
        /// u64: how many of `strings` are there.
        count: Field,
        /// An array of strings.
        strings: Field,
        /// What goes between them.
        separator: String,
    },
    /// End the script.
    Exit {
        /// Exit code, 64 bits; absent for 0.
        code: Option<Field>,
    },
    /// Write a packet to a capture file, which the run makes anew.
    SkbOutput {
        /// The file's name.
        path: String,
        /// A buffer with the packet's first bytes.
        packet: Field,
        /// u64: how many there were.
        wire: Field,
    },
}

/// Where text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// printf.
    Stdout,
    /// errorf: stderr, as an error with its place.
    Error,
    /// warnf: stderr, as a warning with its place.
    Warning,
    /// debugf: stderr, where asked for.
    Debug,
}

/// A printf format, taken apart. There is an argument for each [`Piece::Arg`].
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Format {
    /// In order.
    pub pieces: Vec<Piece>,
}

/// A piece of a printf format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text as it is.
    Text(String),
    /// The next argument.
    Arg(Spec),
}

/// A conversion of a printf format: `%-10.3lld`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Spec {
    /// `-`
    pub left: bool,
    /// `+`
    pub plus: bool,
    /// A space.
    pub space: bool,
    /// `#`
    pub alt: bool,
    /// `0`
    pub zero: bool,
    /// Least width.
    pub width: Option<u32>,
    /// Precision.
    pub precision: Option<u32>,
    /// Bytes that the length modifier leaves of an integer: 1, 2, 4 or 8; 4 without one.
    pub bytes: u32,
    /// The conversion.
    pub conv: Conv,
}

/// What a conversion makes of its argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs)] // C's names
pub enum Conv {
    /// `d`, `i`
    #[default]
    Signed,
    /// `u`
    Unsigned,
    /// `o`
    Octal,
    /// `x`
    Hex,
    /// `X`
    HexUpper,
    /// `c`
    Char,
    /// `p`
    Pointer,
    /// `s`: any printable value.
    Text,
    /// `gr`: the flags of an allocation in the kernel, by name.
    Gfp,
    /// `r`: a buffer, what isn't printable escaped.
    Escaped,
    /// `rx`: a buffer as `\x00`.
    EscapedHex,
    /// `rh`: a buffer as hexadecimal, separated by blanks.
    SpacedHex,
}

/// Something that can go wrong while a program runs, and is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorSite {
    /// What.
    pub kind: ErrorKind,
    /// Where in the source.
    pub span: Span,
}

/// What can go wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// A division or modulus by zero; the result is 0.
    DivisionByZero,
    /// The map (an index into [`Compiled::maps`]) was full: an entry was not made.
    MapFull(usize),
    /// The ring had no room for an event.
    LostEvent,
    /// The control ring had no room for an action.
    LostAction,
    /// A call of a `span` probe's function had no place among those that were under way.
    SpanFull,
    /// A stack was not kept: another one has its place in the table of stacks.
    StackLost,
    /// A loop was left because it had run its most rounds.
    LoopBound(u32),
    /// An array index was out of range; the result is 0.
    Index,
    /// Memory could not be read; the result is 0, or an empty text. Counted only if the user wants to know.
    Unreadable,
    /// An entry of the map (an index into [`Compiled::maps`]) was read that wasn't there; the result is 0, or an empty
    /// text. Counted only if the user wants to know.
    Absent(usize),
}

/// A stack trace map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackMap {
    /// Most frames of a stack.
    pub depth: u32,
    /// How it is declared; its value is `depth` u64 addresses, the rest 0.
    pub decl: MapDecl,
}

/// Settings from the script's `config` block that the runtime obeys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Print all maps at the end.
    pub print_maps_on_exit: bool,
    /// What follows a string that was cut.
    pub str_trunc_trailer: String,
    /// Most bytes that `cat` prints.
    pub max_cat_bytes: u64,
    /// What to do about an attach point that isn't there.
    pub missing_probes: Missing,
    /// Symbols are looked up when they are printed.
    pub lazy_symbolication: bool,
    /// The license string that programs are loaded with.
    pub license: String,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            print_maps_on_exit: true,
            str_trunc_trailer: "..".into(),
            max_cat_bytes: 10240,
            missing_probes: Missing::Error,
            lazy_symbolication: false,
            license: "GPL".into(),
        }
    }
}

/// What to do about an attach point that isn't there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Give up.
    Error,
    /// Say so and go on.
    Warn,
    /// Go on.
    Ignore,
}
