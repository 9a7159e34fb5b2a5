//! A screenful of characters, and the commands that make a terminal show it.

use std::io::{self, Write};

use crossterm::cursor::MoveTo;
use crossterm::queue;
use crossterm::style::{Attribute, Color, Print, SetAttribute, SetForegroundColor};
use crossterm::terminal::{Clear, ClearType};

use crate::trace::render::tone::Colour;

/// How a character looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Its colour.
    pub colour: Colour,
    /// In bold.
    pub bold: bool,
    /// Foreground and background exchanged.
    pub reversed: bool,
}

impl Look {
    /// As the terminal writes.
    pub const PLAIN: Look = Look::of(Colour::Default);

    /// In a colour.
    pub const fn of(colour: Colour) -> Look {
        Look {
            colour,
            bold: false,
            reversed: false,
        }
    }

    /// In bold.
    pub const fn bold(self) -> Look {
        Look { bold: true, ..self }
    }
}

/// A place on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Area {
    /// Columns from the left.
    pub x: usize,
    /// Rows from the top.
    pub y: usize,
    /// In columns.
    pub width: usize,
    /// In rows.
    pub height: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    byte: u8,
    look: Look,
}

const BLANK: Cell = Cell {
    byte: b' ',
    look: Look::PLAIN,
};

/// A screenful of characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    width: usize,
    height: usize,
    cells: Vec<Cell>,
}

impl Buffer {
    /// An empty screen.
    pub fn new(width: usize, height: usize) -> Buffer {
        Buffer {
            width,
            height,
            cells: vec![BLANK; width * height],
        }
    }

    /// The whole screen.
    pub fn area(&self) -> Area {
        Area {
            x: 0,
            y: 0,
            width: self.width,
            height: self.height,
        }
    }

    /// Writes into row `row` of `area` from its column `at` on, and returns the column after. What does not fit is left
    /// out. Whatever isn't printable ASCII becomes `?`: the last line of defence, for texts are escaped already.
    pub fn put(&mut self, area: Area, row: usize, at: usize, text: &str, look: Look) -> usize {
        let mut column = at;
        for char in text.chars() {
            let byte = match char {
                ' '..='~' => char as u8,
                _ => b'?',
            };
            if let Some(cell) = self.cell(area, row, column) {
                *cell = Cell { byte, look };
            }
            column += 1;
        }
        column
    }

    /// Marks a row of `area` as the chosen one.
    pub fn choose(&mut self, area: Area, row: usize) {
        for column in 0..area.width {
            if let Some(cell) = self.cell(area, row, column) {
                cell.look.reversed = true;
            }
        }
    }

    /// Empties `area`.
    pub fn clear(&mut self, area: Area) {
        for row in 0..area.height {
            for column in 0..area.width {
                if let Some(cell) = self.cell(area, row, column) {
                    *cell = BLANK;
                }
            }
        }
    }

    fn cell(&mut self, area: Area, row: usize, column: usize) -> Option<&mut Cell> {
        let (x, y) = (area.x + column, area.y + row);
        let inside = column < area.width && row < area.height && x < self.width && y < self.height;
        inside.then(|| &mut self.cells[y * self.width + x])
    }

    /// Makes a terminal that shows `before` show this; without `before`, whatever it shows.
    ///
    /// # Errors
    /// The writer's.
    pub fn show(&self, before: Option<&Buffer>, colours: bool, out: &mut impl Write) -> io::Result<()> {
        let before = before.filter(|b| (b.width, b.height) == (self.width, self.height));
        if before.is_none() {
            queue!(out, SetAttribute(Attribute::Reset), Clear(ClearType::All))?;
        }
        let (mut at, mut look) = (None, None);
        for (place, cell) in self.cells.iter().enumerate() {
            if before.map_or(BLANK, |before| before.cells[place]) == *cell {
                continue;
            }
            let (x, y) = (place % self.width, place / self.width);
            if at != Some(place) {
                queue!(out, MoveTo(x as u16, y as u16))?;
            }
            if look != Some(cell.look) {
                switch(cell.look, colours, out)?;
                look = Some(cell.look);
            }
            queue!(out, Print(char::from(cell.byte)))?;
            // At a row's end the cursor is not surely at the next one's beginning.
            at = (x + 1 < self.width).then_some(place + 1);
        }
        queue!(out, SetAttribute(Attribute::Reset))
    }

    /// The characters, a line a row, without blanks at the ends.
    #[cfg(test)]
    pub fn text(&self) -> String {
        self.lines(|cell| cell.byte.into())
    }

    /// The looks, a letter a character: the colour's, upper case for bold; `#` for the chosen row.
    #[cfg(test)]
    pub fn looks(&self) -> String {
        self.lines(|cell| match cell.look {
            _ if cell.look.reversed => '#',
            Look { colour, bold, .. } => {
                let letter = match colour {
                    Colour::Default if bold => 'o',
                    Colour::Default => ' ',
                    Colour::Dimmed => '.',
                    Colour::BrightRed => 'p',
                    Colour::Red => 'r',
                    Colour::Green => 'g',
                    Colour::Yellow => 'y',
                    Colour::Blue => 'b',
                    Colour::Magenta => 'm',
                    Colour::Cyan => 'c',
                };
                if bold { letter.to_ascii_uppercase() } else { letter }
            }
        })
    }

    #[cfg(test)]
    fn lines(&self, of: impl Fn(&Cell) -> char) -> String {
        let row = |cells: &[Cell]| cells.iter().map(&of).collect::<String>().trim_end().to_owned() + "\n";
        self.cells.chunks(self.width.max(1)).map(row).collect()
    }
}

fn switch(look: Look, colours: bool, out: &mut impl Write) -> io::Result<()> {
    queue!(out, SetAttribute(Attribute::Reset))?;
    if look.bold {
        queue!(out, SetAttribute(Attribute::Bold))?;
    }
    if look.reversed {
        queue!(out, SetAttribute(Attribute::Reverse))?;
    }
    let colour = match look.colour {
        Colour::Dimmed if !look.reversed => return queue!(out, SetAttribute(Attribute::Dim)),
        Colour::Default | Colour::Dimmed => return Ok(()),
        _ if !colours => return Ok(()),
        Colour::Red => Color::DarkRed,
        Colour::BrightRed => Color::Red,
        Colour::Green => Color::DarkGreen,
        Colour::Yellow => Color::DarkYellow,
        Colour::Blue => Color::DarkBlue,
        Colour::Magenta => Color::DarkMagenta,
        Colour::Cyan => Color::DarkCyan,
    };
    queue!(out, SetForegroundColor(colour))
}
