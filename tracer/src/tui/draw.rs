//! From what is to be told to characters. Nothing here changes anything.

use super::buffer::{Area, Buffer, Look};
use super::journey::{Line, Packet};
use super::view::{Pane, View};
use crate::trace::knowledge::in_general;
use crate::trace::render::tone::{Colour, Tone};
use crate::trace::render::words::{Note, micros};
use crate::trace::summary::number;

/// Narrower screens show one pane at a time.
const BOTH: usize = 76;
/// The list is no wider beside a journey: enough for two IPv4 addresses with ports.
const LIST: usize = 54;
/// How wide the margin with the layers is: their longest name.
const MARGIN: usize = 9;
/// How wide the column of times is.
const TIME: usize = 9;

/// Where things are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Layout {
    /// The rows of packets.
    pub list: Area,
    /// The rows of the journey.
    pub journey: Area,
    /// What there is to say about the journey's chosen row.
    pub about: Area,
    /// The last row.
    pub status: Area,
}

impl Layout {
    /// Of a screen of that width and height.
    pub fn of((width, height): (usize, usize), pane: Pane) -> Layout {
        let list_width = match pane {
            _ if width >= BOTH => (width * 9 / 20).min(LIST),
            Pane::Packets => width,
            Pane::Journey => 0,
        };
        let body = height.saturating_sub(2);
        let about = (body / 3).min(7);
        let gap = usize::from(list_width > 0);
        let (x, right) = (list_width + gap, width.saturating_sub(list_width + gap));
        Layout {
            list: area(0, 1, list_width, body),
            journey: area(x, 1, right, body - about),
            about: area(x, 1 + body - about, right, about),
            status: area(0, height.saturating_sub(1), width, usize::from(height > 1)),
        }
    }

    /// How many rows a pane shows.
    pub fn page(&self, pane: Pane) -> usize {
        match pane {
            Pane::Packets => self.list.height,
            Pane::Journey => self.journey.height,
        }
    }
}

fn area(x: usize, y: usize, width: usize, height: usize) -> Area {
    Area { x, y, width, height }
}

/// The screen; `listed` are the packets that the list shows.
pub fn draw(view: &View, listed: &[u64]) -> Buffer {
    let (width, height) = view.size;
    let mut buffer = Buffer::new(width, height);
    let layout = view.layout();
    list(view, listed, layout, &mut buffer);
    journey(view, layout, &mut buffer);
    status(view, listed.len(), layout.status, &mut buffer);
    if view.help {
        help(&mut buffer);
    }
    buffer
}

fn look(tone: Tone) -> Look {
    Look::of(tone.colour())
}

const DIM: Look = Look::of(Colour::Dimmed);

/// At most `width` characters; a `~` stands for what is left out.
fn cut(text: &str, width: usize) -> String {
    match text.len() > width {
        true => text
            .chars()
            .take(width.saturating_sub(1))
            .chain(['~'])
            .take(width)
            .collect(),
        false => text.to_owned(),
    }
}

fn list(view: &View, listed: &[u64], layout: Layout, buffer: &mut Buffer) {
    const NUMBER: usize = 6;
    const DURATION: usize = 7;
    let area = layout.list;
    let room = area.width.saturating_sub(NUMBER + 3 + 1 + DURATION);
    let head = format!("{:>NUMBER$}   {:<room$} {:>DURATION$}", "packet", "", "took");
    buffer.put(
        Area {
            y: 0,
            height: 1,
            ..layout.list
        },
        0,
        0,
        &head,
        DIM,
    );
    let rows = listed.iter().skip(view.list_top).take(area.height);
    for (row, &number) in rows.enumerate() {
        let Some(packet) = view.packets.get(&number) else {
            continue;
        };
        let (mark, style) = match &packet.ending {
            Some(ending) => (ending.mark, look(ending.tone)),
            None => ('.', Look::PLAIN),
        };
        let text = format!(
            "{number:>NUMBER$} {mark} {:<room$} {:>DURATION$}",
            cut(&packet.title, room),
            packet.duration()
        );
        buffer.put(area, row, 0, &text, style);
        if view.chosen == Some(number) {
            mark_row(buffer, area, row, view.pane == Pane::Packets);
        }
    }
    if listed.is_empty() && area.height > 0 {
        let text = match view.packets.is_empty() {
            true => "no packet yet",
            false => "no packet has that; Esc lists all",
        };
        buffer.put(area, 0, 1, text, DIM);
    }
    if area.width == 0 {
        return;
    }
    let edge = self::area(area.width, 0, 1, area.height + 1);
    for row in 0..edge.height {
        buffer.put(edge, row, 0, "|", DIM);
    }
}

/// The chosen row stands out where keys move, and is marked at its beginning elsewhere.
fn mark_row(buffer: &mut Buffer, area: Area, row: usize, here: bool) {
    match here {
        true => buffer.choose(area, row),
        false => drop(buffer.put(area, row, 0, ">", Look::PLAIN.bold())),
    }
}

fn journey(view: &View, layout: Layout, buffer: &mut Buffer) {
    let Some((number, packet)) = view.packet() else {
        return;
    };
    let head = Area {
        y: 0,
        height: 1,
        ..layout.journey
    };
    let text = cut(&format!("{number}  {}", packet.heading), head.width);
    buffer.put(head, 0, 0, &text, Look::PLAIN.bold());
    let area = layout.journey;
    let rows = (view.journey_top..packet.rows()).take(area.height);
    for (at, row) in rows.enumerate() {
        match packet.lines.get(row) {
            // The margin names the layer at the top, too.
            Some(line) => draw_line(line, at == 0, area, at, buffer),
            None => {
                let (text, tone) = packet.text(row).unwrap_or_default();
                let style = if text.starts_with("=>") {
                    look(tone).bold()
                } else {
                    look(tone)
                };
                buffer.put(area, at, 1, &cut(&text, area.width.saturating_sub(1)), style);
            }
        }
        if row == view.row && view.pane == Pane::Journey {
            buffer.choose(area, at);
        }
    }
    about(view, packet, layout.about, buffer);
}

fn draw_line(line: &Line, first: bool, area: Area, row: usize, buffer: &mut Buffer) {
    let margin = if line.stays && !first {
        "|"
    } else {
        line.layer.name()
    };
    buffer.put(area, row, 1, margin, look(Tone::Layer(line.layer)));
    let time = format!("{:>TIME$}", micros(line.time));
    let at = buffer.put(area, row, 1 + MARGIN + 1, &time, DIM);
    let style = if line.tracepoint { DIM } else { Look::PLAIN };
    let mut at = buffer.put(area, row, at + 2, &line.label, style) + 2;
    let room = area.width.saturating_sub(at);
    let full = line.notes.iter().map(|note| note.long.len() + 2).sum::<usize>() > room + 2;
    for (index, note) in line.notes.iter().enumerate() {
        let text = if full { &note.short } else { &note.long };
        let gap = if index > 0 { ", " } else { "" };
        at = buffer.put(area, row, at, gap, Look::PLAIN);
        at = buffer.put(area, row, at, text, look(note.tone));
    }
    if at > area.width && area.width > 0 {
        buffer.put(area, row, area.width - 1, "~", DIM);
    }
}

/// A journey's row as one text, for searching.
pub fn row_text(packet: &Packet, row: usize) -> String {
    match packet.lines.get(row) {
        Some(line) => {
            let notes: Vec<&str> = line.notes.iter().map(|note| &*note.long).collect();
            format!(
                "{} {} {} {}",
                line.layer.name(),
                line.label,
                notes.join(", "),
                line.place
            )
        }
        None => packet.text(row).unwrap_or_default().0,
    }
}

fn about(view: &View, packet: &Packet, area: Area, buffer: &mut Buffer) {
    if area.height < 2 {
        return;
    }
    buffer.put(area, 0, 0, &"-".repeat(area.width), DIM);
    let mut texts: Vec<(String, Look)> = vec![];
    match packet.lines.get(view.row) {
        Some(line) => {
            let before = view
                .row
                .checked_sub(1)
                .and_then(|before| packet.lines.get(before));
            let since = before.map_or_else(String::new, |before| {
                format!(", {} us after the line before", micros(line.time - before.time))
            });
            texts.push((
                format!("{}: {}{since}", line.label, line.place),
                Look::PLAIN.bold(),
            ));
            texts.extend(sentences(line).map(|text| (text, Look::PLAIN)));
            texts.extend(
                line.notes
                    .iter()
                    .map(|Note { long, tone, .. }| (long.clone(), look(*tone))),
            );
        }
        None => {
            let (text, tone) = packet.text(view.row).unwrap_or_default();
            texts.push((text.trim_start_matches("=> ").trim_start().to_owned(), look(tone)));
        }
    }
    let lines = texts.iter().flat_map(|(text, style)| {
        wrap(text, area.width.saturating_sub(1))
            .into_iter()
            .map(move |line| (line, *style))
    });
    for (row, (line, style)) in lines.take(area.height - 1).enumerate() {
        buffer.put(area, row + 1, 1, &line, style);
    }
}

/// What is known about a line's function.
fn sentences(line: &Line) -> impl Iterator<Item = String> {
    let layer = format!("{}: {}", line.layer.name(), line.layer.about());
    let known = line.about.map(|about| about.role.to_owned());
    let end = line
        .about
        .and_then(|about| about.end)
        .map(|end| format!("an end there means: {}", in_general(end)));
    [Some(known.unwrap_or(layer)), end].into_iter().flatten()
}

/// Breaks a text at blanks into lines of at most `width` characters.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut word = word;
        while let Some(line) = lines.last_mut() {
            let gap = usize::from(!line.is_empty());
            if line.len() + gap + word.len() <= width {
                if gap > 0 {
                    line.push(' ');
                }
                line.push_str(word);
                break;
            }
            if line.is_empty() {
                // Longer than a line. Everything is ASCII.
                let (part, rest) = word.split_at(width.min(word.len()));
                line.push_str(part);
                word = rest;
            }
            lines.push(String::new());
        }
    }
    lines
}

fn status(view: &View, listed: usize, area: Area, buffer: &mut Buffer) {
    if let Some(typing) = &view.typing {
        let what = match view.pane {
            Pane::Packets => "packets with: ",
            Pane::Journey => "find: ",
        };
        let at = buffer.put(area, 0, 0, what, DIM);
        let at = buffer.put(area, 0, at, typing, Look::PLAIN);
        buffer.put(area, 0, at, "_", Look::PLAIN);
        return;
    }
    let totals = &view.totals;
    let mut parts = vec![
        (number(totals.packets, "packet"), Look::PLAIN),
        (number(totals.events, "event"), Look::PLAIN),
    ];
    let lost = if totals.lost > 0 {
        look(Tone::Bad).bold()
    } else {
        Look::PLAIN
    };
    parts.push((format!("{} lost", totals.lost), lost));
    if view.forgotten > 0 {
        parts.push((format!("{} older not kept", view.forgotten), look(Tone::Open)));
    }
    if !view.filter.is_empty() {
        parts.push((format!("{listed} with \"{}\"", view.filter), look(Tone::Changed)));
    }
    if view.follow {
        parts.push(("following".to_owned(), look(Tone::Good)));
    }
    match &view.notice {
        Some(notice) => parts.push((notice.clone(), look(Tone::Bad))),
        None => parts.push((view.state.clone(), DIM)),
    }
    parts.push(("? help  q quit".to_owned(), DIM));
    let mut at = 0;
    for (text, style) in parts.into_iter().filter(|(text, _)| !text.is_empty()) {
        at = buffer.put(area, 0, at, &text, style) + 2;
    }
}

const HELP: &str = "\
up, down, k, j    one row up, down
PgUp, PgDn        one page
Home, End, g, G   to the first, to the last
Tab, Enter        the other pane (h, l: left, right)
/                 list: only packets with a text: an
                  address, a function, \"dropped\";
                  journey: find a text (n: the next)
Esc               back; all packets again
f                 follow the newest packet, or don't
q, Ctrl-C         quit
. on its way  + delivered  > sent  x dropped
= consumed  q queued  ? lost sight of";

fn help(buffer: &mut Buffer) {
    let screen = buffer.area();
    let width = HELP.lines().map(str::len).max().unwrap_or(0) + 4;
    let height = HELP.lines().count() + 2;
    let area = Area {
        x: screen.width.saturating_sub(width) / 2,
        y: screen.height.saturating_sub(height) / 2,
        width: width.min(screen.width),
        height: height.min(screen.height),
    };
    buffer.clear(area);
    let edge = format!("+{}+", "-".repeat(area.width.saturating_sub(2)));
    let bottom = area.height.saturating_sub(1);
    for row in 0..area.height {
        let (left, right) = (0, area.width.saturating_sub(1));
        if row == 0 || row == bottom {
            buffer.put(area, row, 0, &edge, DIM);
        } else {
            buffer.put(area, row, left, "|", DIM);
            buffer.put(area, row, right, "|", DIM);
        }
    }
    let inner = Area {
        x: area.x + 2,
        y: area.y + 1,
        width: area.width.saturating_sub(4),
        height: area.height.saturating_sub(2),
    };
    for (row, line) in HELP.lines().enumerate() {
        buffer.put(inner, row, 0, line, Look::PLAIN);
    }
}
