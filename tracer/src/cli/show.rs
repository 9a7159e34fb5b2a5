//! `ktrail show`.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::Context;

use super::{Color, Usage, filter, rendering};
use crate::capture::Matcher;
use crate::trace::pipeline::Pipeline;
use crate::trace::recording::{self, Head, Known, Recording};
use crate::trace::render::{Names, Renderer};
use crate::tui::output::Output;

/// Print the journeys of a recording that `ktrail trace --record` made
///
/// Needs no privilege, and no kernel like the one of the recording. A filter chooses among the recorded packets: a
/// journey is shown if the filter matches the packet at any of its events. Each event has kept the first 64 bytes from the
/// network header on: what a filter asks of bytes beyond, or of the link layer, can't be answered and does not match.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The recording
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Which packets, in the language of tcpdump's filters; words are joined by blanks
    #[arg(value_name = "EXPR")]
    words: Vec<String>,

    /// Which packets; the same as EXPR
    #[arg(short, long, value_name = "EXPR", conflicts_with = "words")]
    filter: Option<String>,

    /// Read the filter exactly as libpcap does, where ktrail differs on purpose
    #[arg(long)]
    pcap_compat: bool,

    /// Stop after this many packets
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    #[command(flatten)]
    rendering: rendering::Rendering,
}

const EXAMPLES: &str = "\
Examples:
  Record, then look at DNS alone, with what each function does:
    ktrail trace --record all.ktrail -- sleep 10
    ktrail show all.ktrail --explain port 53";

/// Run the subcommand.
pub fn main(args: &Args, color: Color) -> anyhow::Result<()> {
    args.rendering.check()?;
    let text = args.filter.clone().unwrap_or_else(|| args.words.join(" "));
    let mut matcher = match text.trim() {
        "" => None,
        text => Some(Matcher::of_ip(&filter::parse(text, args.pcap_compat, false)?)?),
    };
    let mut recording = open(&args.file)?;
    let (known, chosen) = recording.survey(|event| match (&mut matcher, &event.packet) {
        (Some(matcher), Some(packet)) if !packet.headers.is_empty() => matcher
            .matches(&packet.headers, packet.len)
            .map_err(io::Error::other),
        _ => Ok(false),
    })?;
    let names = Rc::new(names(&recording.head, known));
    let screen = match args.rendering.tui {
        true => Some(args.rendering.screen(Rc::clone(&names), color, false)?),
        false => None,
    };
    let out: Box<dyn Renderer> = match &screen {
        Some(screen) => Box::new(screen.clone()),
        None => args.rendering.renderer(names, recording.head.offset, color),
    };
    let pipeline = Pipeline::new(&recording.head.points, out, args.rendering.pace()).stop_after(args.count);
    let shown = recording::show(&mut recording, matcher.is_some().then_some(&chosen), pipeline);
    if let Some(screen) = screen {
        let looked = shown.as_ref().map_or(Ok(()), |_| screen.linger("recorded"));
        screen.close(&Output::default())?;
        looked?;
    }
    shown?;
    if let Some(damage) = recording.damage() {
        eprintln!("ktrail: {}: {damage}", args.file.display());
    }
    Ok(())
}

/// Open a recording; an error names it.
pub fn open(path: &Path) -> anyhow::Result<Recording<BufReader<File>>> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    match Recording::open(BufReader::new(file)) {
        Ok(recording) => Ok(recording),
        Err(recording::BadRecording::Io(e)) => Err(e).with_context(|| path.display().to_string()),
        Err(e) => Err(Usage(format!("{}: {e}", path.display())).into()),
    }
}

/// Names for what a recording's events carry as numbers.
pub fn names(head: &Head, known: Known) -> Names {
    let Known { functions, answers } = known;
    let names = Names::new(
        head.points.clone(),
        head.reasons(),
        Box::new(move |address| functions.get(&address).cloned()),
    );
    names
        .asking(Box::new(move |question| answers.get(question).cloned()))
        .showing(head.shown.clone(), head.stack)
}
