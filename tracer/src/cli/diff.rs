//! `ktrail diff`.

use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use owo_colors::{OwoColorize, Style};

use super::{Color, Usage, show};
use crate::trace::align::{Alignment, Part, Stop, same_fate, way};
use crate::trace::journey::{Journey, Step};
use crate::trace::pipeline::{Pace, Pipeline};
use crate::trace::recording;
use crate::trace::render::names;
use crate::trace::render::why;
use crate::trace::render::words::fate_text;
use crate::trace::render::{Names, Renderer};
use crate::trace::summary::Summary;

/// Say where the journeys of two recorded packets part
///
/// Prints their common path once, then where they part and both continuations, and why one ended differently. Helpers,
/// freeing, and times are not compared. The exit code is 0 if the journeys agree and 1 if they don't.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A recording, and after a colon which of its packets (the first, if not given)
    #[arg(value_name = "GOOD[:PACKET]")]
    good: String,

    /// The same for the other packet; `:PACKET` alone is one of the same recording
    #[arg(value_name = "BAD[:PACKET]")]
    bad: String,

    /// Print only what differs
    #[arg(short, long)]
    brief: bool,
}

const EXAMPLES: &str = "\
Examples:
  ktrail trace --record good.ktrail --filter 'udp and port 53' -- dig @8.8.8.8 example.com
  iptables -A OUTPUT -p udp -d 8.8.8.8 --dport 53 -j DROP
  ktrail trace --record bad.ktrail --filter 'udp and port 53' -- dig @8.8.8.8 example.com
  ktrail diff good.ktrail bad.ktrail
  Two packets of one recording:
    ktrail diff all.ktrail:3 :7";

/// A recorded packet.
struct Packet {
    /// As it was typed.
    label: String,
    journey: Journey,
    names: Rc<Names>,
}

/// Run the subcommand; the exit code says whether the journeys agree.
pub fn main(args: &Args, color: Color) -> anyhow::Result<u8> {
    let (good_path, good_number) = place(&args.good)?;
    let (bad_path, bad_number) = place(&args.bad)?;
    let good_path = good_path.ok_or_else(|| Usage(format!("{:?} names no recording", args.good)))?;
    let bad_path = bad_path.unwrap_or_else(|| good_path.clone());
    let good = packet(&good_path, good_number)?;
    let bad = packet(&bad_path, bad_number)?;
    let colour = color.enabled(io::stdout().is_terminal());
    let mut out = io::stdout().lock();
    let agree = print(&mut out, &good, &bad, args.brief, colour)?;
    out.flush()?;
    Ok(u8::from(!agree))
}

/// A recording's path, if there is one, and a packet's number.
fn place(text: &str) -> anyhow::Result<(Option<PathBuf>, u64)> {
    let whole = Path::new(text);
    if whole.exists() {
        return Ok((Some(whole.into()), 1));
    }
    let Some((path, number)) = text.rsplit_once(':') else {
        return Ok((Some(whole.into()), 1));
    };
    let number = number.parse().ok().filter(|&number| number > 0).ok_or_else(|| {
        Usage(format!(
            "{text:?}: {number:?} is no packet's number: they begin at 1"
        ))
    })?;
    Ok(((!path.is_empty()).then(|| path.into()), number))
}

/// Reads one packet's journey.
fn packet(path: &Path, number: u64) -> anyhow::Result<Packet> {
    let mut recording = show::open(path)?;
    let (known, _) = recording.survey(|_| Ok(false))?;
    let names = Rc::new(show::names(&recording.head, known));
    let found = Rc::new(RefCell::new(None));
    let only = Only {
        number,
        found: Rc::clone(&found),
    };
    let pipeline = Pipeline::new(&recording.head.points, only, Pace::Journeys);
    let summary = recording::show(&mut recording, None, pipeline)?;
    if let Some(damage) = recording.damage() {
        eprintln!("ktrail: {}: {damage}", path.display());
    }
    let Some(journey) = found.take() else {
        let has = match summary.totals.packets {
            0 => "it has none".to_owned(),
            1 => "it has one".to_owned(),
            n => format!("it has {n}"),
        };
        return Err(Usage(format!("{}: no packet {number}: {has}", path.display())).into());
    };
    Ok(Packet {
        label: format!("{}:{number}", path.display()),
        journey,
        names,
    })
}

/// Keeps one journey.
struct Only {
    number: u64,
    found: Rc<RefCell<Option<Journey>>>,
}

impl Renderer for Only {
    fn event(&mut self, _: u64, _: &Step) -> io::Result<()> {
        Ok(())
    }

    fn ended(&mut self, _: &Journey) -> io::Result<()> {
        Ok(())
    }

    fn journey(&mut self, journey: &Journey) -> io::Result<()> {
        if journey.number == self.number {
            self.found.replace(Some(journey.clone()));
        }
        Ok(())
    }

    fn summary(&mut self, _: &Summary) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Prints both journeys; says whether they agree.
fn print(out: &mut dyn Write, good: &Packet, bad: &Packet, brief: bool, colour: bool) -> io::Result<bool> {
    let paint = |text: &str, style: Style| match colour {
        true => text.style(style).to_string(),
        false => text.to_owned(),
    };
    let (red, green, dimmed) = (Style::new().red(), Style::new().green(), Style::new().dimmed());
    let alignment = Alignment::new(way(&good.journey, &good.names), way(&bad.journey, &bad.names));
    for (sign, packet, style) in [("-", good, green), ("+", bad, red)] {
        let tuple = packet
            .journey
            .tuple
            .as_ref()
            .map_or_else(|| names::ethertype_label(packet.journey.ethertype), names::tuple);
        let fate = fate_text(packet.journey.fate(), &packet.names);
        let text = format!("{sign} {}  {tuple}\n  => {fate}", packet.label);
        writeln!(out, "{}", paint(&text, style))?;
    }
    let fates = same_fate(good.journey.fate(), bad.journey.fate());
    if alignment.agrees() && fates {
        writeln!(
            out,
            "both go the same way, {} functions long",
            alignment.first.len()
        )?;
        return Ok(true);
    }
    let (before, after) = alignment.parts.split_at(alignment.together);
    let mut margin = "";
    let mut line = |out: &mut dyn Write, stop: &Stop, sign: &str, style: Style| -> io::Result<()> {
        let layer = if stop.layer == margin { "|" } else { stop.layer };
        margin = stop.layer;
        writeln!(
            out,
            "{}",
            paint(&format!("{sign} {layer:<9}  {}", stop.label), style)
        )
    };
    if !before.is_empty() && !brief {
        writeln!(out, "{}", paint("common path:", dimmed))?;
    }
    for part in before {
        match *part {
            Part::Both(i, _) if !brief => line(out, &alignment.first[i], " ", Style::new())?,
            Part::Both(..) => {}
            Part::First(i) => line(out, &alignment.first[i], "-", green)?,
            Part::Second(j) => line(out, &alignment.second[j], "+", red)?,
        }
    }
    if !after.is_empty() {
        let place = match alignment.last_common() {
            Some(last) => format!("they part after {}:", alignment.first[last].label),
            None => "they have nothing in common:".to_owned(),
        };
        writeln!(out, "{}", paint(&place, Style::new().bold()))?;
        for part in after {
            match *part {
                Part::First(i) => line(out, &alignment.first[i], "-", green)?,
                Part::Second(j) => line(out, &alignment.second[j], "+", red)?,
                Part::Both(..) => {}
            }
        }
    }
    if !fates {
        writeln!(out, "{}", reason(good, bad))?;
    }
    Ok(false)
}

/// Why the second ended differently.
fn reason(good: &Packet, bad: &Packet) -> String {
    let of = |packet: &Packet| fate_text(packet.journey.fate(), &packet.names);
    let mut text = format!("the first was {}; the second was {}", of(good), of(bad));
    for line in why::why(&bad.journey, &bad.names) {
        text.push_str(&format!("\n{line}"));
    }
    text
}
