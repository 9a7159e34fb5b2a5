//! What a piece of text is, for formats that colour.

use crate::trace::journey::Fate;
use crate::trace::knowledge::Layer;

/// What a piece of text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Tone {
    /// Nothing special.
    #[default]
    Plain,
    /// Less than the rest.
    Aside,
    /// Where a copy comes from.
    Copy,
    /// What changed.
    Changed,
    /// Where in Netfilter, and what a rule did but drop.
    Place,
    /// It arrived, or left the machine.
    Good,
    /// It was dropped, or not taken.
    Bad,
    /// It is still somewhere, or out of sight; something is missing.
    Open,
    /// A layer's name.
    Layer(Layer),
}

/// The colours that every terminal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// The terminal's own.
    Default,
    /// The terminal's own, dimmed.
    Dimmed,
    /// Red.
    Red,
    /// Bright red.
    BrightRed,
    /// Green.
    Green,
    /// Yellow.
    Yellow,
    /// Blue.
    Blue,
    /// Magenta.
    Magenta,
    /// Cyan.
    Cyan,
}

impl Tone {
    /// What a fate is.
    pub fn of(fate: &Fate) -> Tone {
        match fate {
            Fate::Delivered { .. } | Fate::Sent { .. } => Tone::Good,
            Fate::Dropped { .. } => Tone::Bad,
            Fate::Consumed { .. } => Tone::Plain,
            Fate::Queued { .. } | Fate::LostSight { .. } => Tone::Open,
        }
    }

    /// Its colour. Neighbouring layers differ.
    pub fn colour(self) -> Colour {
        const LAYERS: [Colour; 6] = [
            Colour::Cyan,
            Colour::Green,
            Colour::Yellow,
            Colour::Blue,
            Colour::Magenta,
            Colour::BrightRed,
        ];
        match self {
            Tone::Plain => Colour::Default,
            Tone::Aside => Colour::Dimmed,
            Tone::Copy => Colour::Blue,
            Tone::Changed => Colour::Yellow,
            Tone::Place => Colour::Cyan,
            Tone::Good => Colour::Green,
            Tone::Bad => Colour::Red,
            Tone::Open => Colour::Magenta,
            Tone::Layer(layer) if !layer.crosses() => Colour::Dimmed,
            Tone::Layer(layer) => LAYERS[layer.number() % LAYERS.len()],
        }
    }
}
