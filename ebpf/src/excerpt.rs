//! The line of a text in which something is wrong, with a mark under the place. Filters and scripts share it.

use std::ops::Range;

/// How many characters of a long line are shown around a place.
const CONTEXT: usize = 60;

/// A line and what marks the place in it.
pub(crate) struct Excerpt {
    /// The line, cut around the place if it is long.
    pub line: String,
    /// Blanks, then the marks: at least one.
    pub marks: String,
    /// How many characters of the line belong to the place; 0 for what is missing at the line's end.
    pub marked: usize,
}

/// The line of `text` that holds `span`'s start and a line of marks below, each behind `indent`. What can't be
/// printed is shown as `\u{fffd}`, so that no text can move the marks or the cursor.
pub(crate) fn excerpt(text: &str, span: &Range<usize>, mark: char, indent: &str) -> Excerpt {
    let (start, end) = (floor(text, span.start), floor(text, span.end.max(span.start)));
    let line_start = text[..start].rfind('\n').map_or(0, |i| i + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |i| start + i);
    let before: Vec<char> = text[line_start..start].chars().collect();
    let rest: Vec<char> = text[start..line_end].chars().collect();
    let marked = text[start..end.min(line_end).max(start)].chars().count();

    let cut_left = before.len().saturating_sub(CONTEXT);
    let cut_right = rest.len().min(CONTEXT);
    let printable = |c: &char| match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => *c,
    };
    let mut line = String::from(indent);
    let mut marks = String::from(indent);
    if cut_left > 0 {
        line.push('…');
        marks.push(' ');
    }
    line.extend(before[cut_left..].iter().map(printable));
    marks.extend(before[cut_left..].iter().map(|_| ' '));
    line.extend(rest[..cut_right].iter().map(printable));
    if cut_right < rest.len() {
        line.push('…');
    }
    marks.extend((0..marked.min(cut_right).max(1)).map(|_| mark));
    line.truncate(line.trim_end().len());
    Excerpt { line, marks, marked }
}

/// The line and the column of a byte, both from 1; columns count characters.
pub(crate) fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..floor(text, at)];
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    let line = 1 + before.bytes().filter(|byte| *byte == b'\n').count();
    (line, 1 + before[line_start..].chars().count())
}

/// The last boundary between characters at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
