//! `ktrail filter`.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::ValueEnum;
use ktrail_ebpf::codegen::{Options, PacketAccess, generate};
use ktrail_ebpf::filter::frame::{Link, Source, program};
use ktrail_ebpf::filter::{self, Env, Filter};
use ktrail_ebpf::ir::ProgramKind;
use ktrail_ebpf::kernel::Features;

use super::Usage;
use crate::capture;
use crate::kernel::btf::{KernelBtf, LazyTypes};
use crate::names::System;
use crate::trace::offsets::Offsets;
use crate::trace::view;

/// Try a filter on a capture file, or see what it compiles to
///
/// With --read, prints a line for each packet of a pcap or pcapng file: its number, then `match` or `no`; and at the
/// end how many match. The code that judges is the code that would run in the kernel, in an interpreter, so this
/// needs no privilege. Without --read and --dump, only checks the filter.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The filter, in the language of tcpdump's filters; words are joined by blanks
    #[arg(value_name = "EXPR", required = true)]
    words: Vec<String>,

    /// Apply it to the packets of this pcap or pcapng file; `-` is the standard input
    #[arg(short, long, value_name = "FILE")]
    read: Option<PathBuf>,

    /// Write the packets that match to this file, in the format of the one that is read
    #[arg(short, long, value_name = "FILE", requires = "read")]
    write: Option<PathBuf>,

    /// Show what the filter compiles to: for an Ethernet frame, or for this kernel's packets if it asks for more
    #[arg(long, value_enum, value_name = "FORM")]
    dump: Option<Dump>,

    /// Read the filter exactly as libpcap does, where ktrail differs on purpose
    #[arg(long)]
    pcap_compat: bool,
}

const EXAMPLES: &str = "\
Examples:
  Which packets of a capture are DNS over anything but UDP?
    ktrail filter 'port 53 and not udp' --read capture.pcap
  Keep them:
    ktrail filter 'port 53 and not udp' --read capture.pcap --write dns.pcap
  What will it cost?
    ktrail filter 'udp and dst 8.8.8.8 and port 53' --dump asm";

/// A form of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Dump {
    /// What was read, as a filter with everything written out
    Ast,
    /// The intermediate representation
    Ir,
    /// The instructions
    Asm,
}

/// Read a filter that was typed, with this system's names; notices go to standard error. `kernel`: for packets in
/// this kernel, not in a capture.
pub fn parse(text: &str, pcap_compat: bool, kernel: bool) -> anyhow::Result<Filter> {
    let types = LazyTypes::default();
    let env = Env {
        names: &System::default(),
        pcap_compat,
        kernel: kernel.then_some(&types),
    };
    let filter = filter::parse(text, &env).map_err(|error| Usage(error.render(text)))?;
    for notice in filter.notices() {
        eprintln!("ktrail: {}", notice.render(text));
    }
    Ok(filter)
}

/// Run the subcommand.
pub fn main(args: &Args) -> anyhow::Result<()> {
    let filter = parse(&args.words.join(" "), args.pcap_compat, args.read.is_none())?;
    let mut out = BufWriter::new(io::stdout().lock());
    if let Some(form) = args.dump {
        dump(&filter, form, &mut out)?;
    }
    if let Some(path) = &args.read {
        read(&filter, path, args.write.as_deref(), &mut out)?;
    }
    out.flush()?;
    Ok(())
}

fn dump(filter: &Filter, form: Dump, out: &mut impl Write) -> anyhow::Result<()> {
    let (program, packet) = match filter.asks_the_kernel() {
        false => (
            program(filter, Link::Ethernet, Source::Memory),
            Source::Memory.access(),
        ),
        true => {
            let offsets = Offsets::resolve(&KernelBtf::load()?)?;
            let program = view::program(filter, &offsets, ProgramKind::Kprobe);
            (program, PacketAccess::KernelRead)
        }
    };
    match form {
        Dump::Ast => writeln!(out, "{}", filter.ast())?,
        Dump::Ir => write!(out, "{program}")?,
        Dump::Asm => {
            let features = Features::default();
            let options = Options {
                packet,
                features: &features,
            };
            write!(out, "{}", generate(&program, &options)?.disassemble())?;
        }
    }
    Ok(())
}

fn read(filter: &Filter, from: &Path, to: Option<&Path>, out: &mut impl Write) -> anyhow::Result<()> {
    let name = from.display();
    let input: Box<dyn io::Read> = match from.as_os_str() == "-" {
        true => Box::new(io::stdin().lock()),
        false => Box::new(File::open(from).with_context(|| format!("{name}"))?),
    };
    let mut output = match to {
        None => None,
        Some(to) => {
            if same_file(from, to) {
                return Err(Usage(format!("--write {name}: this is the file that is read")).into());
            }
            let file = File::create(to).with_context(|| format!("{}", to.display()))?;
            Some(BufWriter::new(file))
        }
    };
    let verdict = |number, matches| {
        writeln!(out, "{number} {}", if matches { "match" } else { "no" })?;
        Ok(())
    };
    let writer = output.as_mut().map(|output| output as &mut dyn Write);
    let counts = capture::apply(filter, BufReader::new(input), writer, verdict);
    // What was judged before an error is shown.
    out.flush()?;
    let counts = counts.with_context(|| format!("{name}"))?;
    if let Some(mut output) = output {
        output.flush()?;
    }
    writeln!(out, "{} of {} packets match", counts.matches, counts.packets)?;
    Ok(())
}

/// Both paths name one file that exists.
fn same_file(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}
