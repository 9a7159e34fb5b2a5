//! What `ktrail trace` and `ktrail show` have in common: how journeys are written.

use std::io::{self, BufWriter, IsTerminal};
use std::rc::Rc;

use anyhow::Context;
use clap::ValueEnum;

use super::{Color, Usage};
use crate::trace::pipeline::Pace;
use crate::trace::render::{self, Names, Renderer};
use crate::tui::screen;

/// How journeys are written.
#[derive(Debug, clap::Args)]
pub struct Rendering {
    /// What the time column shows
    #[arg(short, long, value_enum, value_name = "KIND", default_value_t = Timestamp::Relative)]
    timestamp: Timestamp,

    /// Print events as they come, not whole journeys when they end
    #[arg(long)]
    live: bool,

    /// Say beside each function what it does, if ktrail knows
    #[arg(long)]
    explain: bool,

    /// Group journeys by the path that they took, with times by hop and layer, instead of printing each
    #[arg(long, conflicts_with_all = ["live", "explain", "timestamp", "output"])]
    pub summary: bool,

    /// How the output is written
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    output: Output,

    /// Look through the journeys on this terminal as they come: ? there lists the keys
    #[arg(long, conflicts_with_all = ["live", "explain", "timestamp", "summary", "output"])]
    pub tui: bool,
}

/// How the output is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// JSON lines, for programs
    Json,
    /// One self-contained page, for a browser
    Html,
    /// A capture with each journey in its packets' comments, for Wireshark
    Pcapng,
    /// Trace events, for Perfetto (ui.perfetto.dev)
    Perfetto,
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

impl Rendering {
    /// Finds what doesn't go together.
    ///
    /// # Errors
    /// [`Usage`], saying what.
    pub fn check(&self) -> Result<(), Usage> {
        if self.tui {
            screen::possible().map_err(|missing| Usage(format!("--tui: {missing}")))?;
        }
        let whole = matches!(self.output, Output::Html | Output::Perfetto);
        if self.live && whole {
            return Err(Usage(
                "--live prints events as they come; --output html and perfetto need whole journeys".into(),
            ));
        }
        if self.output == Output::Pcapng && io::stdout().is_terminal() {
            return Err(Usage("--output pcapng is binary: redirect it to a file".into()));
        }
        Ok(())
    }

    /// What is to be rendered, and when.
    pub fn pace(&self) -> Pace {
        match (self.tui, self.live) {
            (true, _) => Pace::Both,
            (false, true) => Pace::Events,
            (false, false) => Pace::Journeys,
        }
    }

    /// The live view on this terminal; of what happens `now`, or of a recording.
    ///
    /// # Errors
    /// The terminal's.
    pub fn screen(&self, names: Rc<Names>, color: Color, now: bool) -> anyhow::Result<screen::Handle> {
        let colours = color.enabled(io::stdout().is_terminal());
        let state = if now { "tracing" } else { "reading" };
        screen::Handle::open(names, colours, now, state).context("--tui")
    }

    /// A renderer to standard output. `offset` is what to add to CLOCK_MONOTONIC to get CLOCK_REALTIME.
    pub fn renderer(&self, names: Rc<Names>, offset: i64, color: Color) -> Box<dyn Renderer> {
        let colour = color.enabled(io::stdout().is_terminal());
        let stdout = BufWriter::new(io::stdout());
        if self.summary {
            return Box::new(render::Paths::new(stdout, names));
        }
        match self.output {
            Output::Text => {
                let timestamp = match self.timestamp {
                    Timestamp::None => render::Timestamp::None,
                    Timestamp::Absolute => render::Timestamp::Absolute { offset },
                    Timestamp::Relative => render::Timestamp::Relative,
                    Timestamp::Delta => render::Timestamp::Delta,
                };
                Box::new(render::Text::new(stdout, names, timestamp, colour).explaining(self.explain))
            }
            Output::Json => Box::new(render::Json::new(stdout, names, offset)),
            Output::Html => Box::new(render::Html::new(stdout, names)),
            Output::Pcapng => Box::new(render::Pcapng::new(stdout, names, offset)),
            Output::Perfetto => Box::new(render::Perfetto::new(stdout, names)),
        }
    }
}
