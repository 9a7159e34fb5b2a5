//! What the screen tells, and what keys do to it.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::buffer::Buffer;
use super::draw::{self, Layout};
use super::journey::Packet;
use crate::trace::journey::{Journey, Step, Totals};
use crate::trace::render::Names;

/// A key, as far as one is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// One that writes a character.
    Char(char),
    /// The arrow.
    Up,
    /// The arrow.
    Down,
    /// The arrow.
    Left,
    /// The arrow.
    Right,
    /// Page up.
    PageUp,
    /// Page down.
    PageDown,
    /// Home.
    Home,
    /// End.
    End,
    /// Enter.
    Enter,
    /// Tab.
    Tab,
    /// Escape.
    Escape,
    /// Backspace.
    Backspace,
    /// Ctrl-C.
    Interrupt,
}

/// Which side keys move in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Pane {
    /// The list of packets.
    #[default]
    Packets,
    /// The chosen packet's journey.
    Journey,
}

/// How much is kept; the oldest packets go first.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// Packets.
    pub packets: usize,
    /// Lines of their journeys, all together.
    pub lines: usize,
}

impl Default for Kept {
    /// `docs/journeys.md` says so to users.
    fn default() -> Self {
        Kept {
            packets: 5_000,
            lines: 100_000,
        }
    }
}

/// What the screen tells.
pub struct View {
    names: Rc<Names>,
    kept: Kept,
    pub(super) size: (usize, usize),
    pub(super) packets: BTreeMap<u64, Packet>,
    lines: usize,
    /// Packets that are not kept any more.
    pub(super) forgotten: u64,
    /// The highest number that was met.
    latest: u64,
    pub(super) chosen: Option<u64>,
    /// The chosen row of the chosen packet's journey.
    pub(super) row: usize,
    /// The first rows to be seen.
    pub(super) list_top: usize,
    pub(super) journey_top: usize,
    pub(super) pane: Pane,
    pub(super) follow: bool,
    pub(super) help: bool,
    /// What packets are listed by; in lower case.
    pub(super) filter: String,
    /// What was searched for in a journey last; in lower case.
    pub(super) sought: String,
    /// What is being typed after `/`.
    pub(super) typing: Option<String>,
    /// What was counted so far.
    pub totals: Totals,
    /// What goes on: `tracing`, for example.
    pub state: String,
    /// What was told last.
    pub notice: Option<String>,
    /// Whether it is time to go.
    pub quit: bool,
}

impl View {
    /// Nothing yet. `follow`: the newest packet is chosen as it comes, otherwise the first.
    pub fn new(names: Rc<Names>, kept: Kept, follow: bool) -> View {
        View {
            names,
            kept,
            size: (80, 24),
            packets: BTreeMap::new(),
            lines: 0,
            forgotten: 0,
            latest: 0,
            chosen: None,
            row: 0,
            list_top: 0,
            journey_top: 0,
            pane: Pane::Packets,
            follow,
            help: false,
            filter: String::new(),
            sought: String::new(),
            typing: None,
            totals: Totals::default(),
            state: String::new(),
            notice: None,
            quit: false,
        }
    }

    /// Takes an event of packet `number`.
    pub fn event(&mut self, number: u64, step: &Step) {
        if number > self.latest {
            self.latest = number;
            self.packets.insert(number, Packet::new(step));
            if self.chosen.is_none() {
                self.choose(number);
            }
        }
        // Of a packet that isn't kept any more, nothing is.
        if let Some(packet) = self.packets.get_mut(&number) {
            self.lines += usize::from(packet.event(step, &self.names));
        }
        self.forget();
    }

    /// Takes a packet's end.
    pub fn ended(&mut self, journey: &Journey) {
        if let Some(packet) = self.packets.get_mut(&journey.number) {
            packet.ended(journey, &self.names);
        }
    }

    fn forget(&mut self) {
        while self.packets.len() > 1
            && (self.packets.len() > self.kept.packets || self.lines > self.kept.lines)
            && let Some((number, packet)) = self.packets.pop_first()
        {
            self.lines -= packet.lines.len();
            self.forgotten += 1;
            if self.chosen == Some(number)
                && let Some((&oldest, _)) = self.packets.first_key_value()
            {
                self.choose(oldest);
            }
        }
    }

    fn choose(&mut self, number: u64) {
        if self.chosen.replace(number) != Some(number) {
            (self.row, self.journey_top) = (0, 0);
        }
    }

    /// Takes the screen's size.
    pub fn resize(&mut self, width: usize, height: usize) {
        self.size = (width, height);
    }

    /// The packets that are listed, oldest first.
    pub(super) fn listed(&self) -> Vec<u64> {
        let fitting = self
            .packets
            .iter()
            .filter(|(number, packet)| self.filter.is_empty() || packet.has(**number, &self.filter));
        fitting.map(|(&number, _)| number).collect()
    }

    /// The chosen packet, if it is listed.
    pub(super) fn packet(&self) -> Option<(u64, &Packet)> {
        let number = self.chosen?;
        self.packets.get(&number).map(|packet| (number, packet))
    }

    /// Takes a key.
    pub fn press(&mut self, key: Key) {
        if key == Key::Interrupt {
            self.quit = true;
        } else if self.typing.is_some() {
            self.write(key);
        } else if self.help {
            self.help = false;
        } else {
            self.command(key);
        }
    }

    /// A key while something is typed after `/`.
    fn write(&mut self, key: Key) {
        let Some(typing) = &mut self.typing else { return };
        match key {
            Key::Char(char @ ' '..='~') => typing.push(char),
            Key::Backspace if typing.is_empty() => self.typing = None,
            Key::Backspace => drop(typing.pop()),
            Key::Escape => self.typing = None,
            Key::Enter => {
                let text = typing.to_ascii_lowercase();
                self.typing = None;
                match self.pane {
                    Pane::Packets => self.set_filter(text),
                    Pane::Journey => {
                        self.sought = text;
                        self.seek();
                    }
                }
            }
            _ => {}
        }
    }

    fn set_filter(&mut self, text: String) {
        self.filter = text;
        let listed = self.listed();
        if let Some(&last) = listed.last()
            && self.chosen.is_none_or(|chosen| !listed.contains(&chosen))
        {
            self.choose(last);
        }
    }

    /// To the next row with what is sought, from the top again after the end.
    fn seek(&mut self) {
        let Some((_, packet)) = self.packet().filter(|_| !self.sought.is_empty()) else {
            return;
        };
        let rows = packet.rows();
        let has = |row: &usize| {
            draw::row_text(packet, *row)
                .to_ascii_lowercase()
                .contains(&self.sought)
        };
        match (1..=rows).map(|step| (self.row + step) % rows).find(has) {
            Some(row) => self.row = row,
            None => self.notice = Some(format!("not found: {}", self.sought)),
        }
    }

    fn command(&mut self, key: Key) {
        self.notice = None;
        let page = self.layout().page(self.pane).max(1) as isize;
        match key {
            Key::Char('q') => self.quit = true,
            Key::Char('?') => self.help = true,
            Key::Char('/') => self.typing = Some(String::new()),
            Key::Char('n') => self.seek(),
            Key::Char('f') => {
                self.follow = !self.follow;
                if self.follow {
                    self.pane = Pane::Packets;
                    self.go(isize::MAX);
                }
            }
            Key::Char('j') | Key::Down => self.go(1),
            Key::Char('k') | Key::Up => self.go(-1),
            Key::PageDown => self.go(page),
            Key::PageUp => self.go(-page),
            Key::Char('G') | Key::End => self.go(isize::MAX),
            Key::Char('g') | Key::Home => self.go(isize::MIN),
            Key::Tab | Key::Enter => self.enter(match self.pane {
                Pane::Packets => Pane::Journey,
                Pane::Journey => Pane::Packets,
            }),
            Key::Char('l') | Key::Right => self.enter(Pane::Journey),
            Key::Char('h') | Key::Left => self.enter(Pane::Packets),
            Key::Escape if self.pane == Pane::Journey => self.pane = Pane::Packets,
            Key::Escape => self.set_filter(String::new()),
            Key::Char(_) | Key::Backspace | Key::Interrupt => {}
        }
    }

    fn enter(&mut self, pane: Pane) {
        self.pane = pane;
        // What one reads must not change under one's eyes.
        self.follow &= pane == Pane::Packets;
    }

    /// So many rows down, in the pane that keys move in.
    fn go(&mut self, rows: isize) {
        let to = |from: usize, count: usize| from.saturating_add_signed(rows).min(count.saturating_sub(1));
        match self.pane {
            Pane::Packets => {
                let listed = self.listed();
                let at = self.chosen.and_then(|chosen| listed.binary_search(&chosen).ok());
                let place = to(at.unwrap_or_default(), listed.len());
                if let Some(&number) = listed.get(place) {
                    self.choose(number);
                }
                self.follow &= rows == isize::MAX;
            }
            Pane::Journey => {
                self.row = to(self.row, self.packet().map_or(0, |(_, packet)| packet.rows()));
            }
        }
    }

    pub(super) fn layout(&self) -> Layout {
        Layout::of(self.size, self.pane)
    }

    /// The screen, with what is chosen in sight.
    pub fn frame(&mut self) -> Buffer {
        let layout = self.layout();
        let listed = self.listed();
        if self.follow
            && let Some(&last) = listed.last()
        {
            self.choose(last);
        }
        let chosen = self.chosen.and_then(|chosen| listed.binary_search(&chosen).ok());
        self.list_top = top(
            self.list_top,
            chosen.unwrap_or(0),
            layout.list.height,
            listed.len(),
        );
        let rows = self.packet().map_or(0, |(_, packet)| packet.rows());
        self.row = self.row.min(rows.saturating_sub(1));
        self.journey_top = top(self.journey_top, self.row, layout.journey.height, rows);
        draw::draw(self, &listed)
    }
}

/// The first row to be seen, so that `chosen` of `rows` is, moving as little as possible.
fn top(top: usize, chosen: usize, height: usize, rows: usize) -> usize {
    let height = height.max(1);
    let lowest = chosen.saturating_sub(height - 1);
    top.clamp(lowest, chosen.max(lowest))
        .min(rows.saturating_sub(height).max(lowest))
}
