//! printf formats, taken apart.

use crate::script::output::{Conv, Format, Piece, Spec};

/// Take a format apart. The error says what is wrong with it.
pub fn parse(text: &[u8]) -> Result<Format, String> {
    let text = String::from_utf8_lossy(text);
    let mut pieces = vec![];
    let mut plain = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            plain.push(c);
            continue;
        }
        if chars.peek() == Some(&'%') {
            chars.next();
            plain.push('%');
            continue;
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
        }
        match spec(&mut chars)? {
            Some(spec) => pieces.push(Piece::Arg(spec)),
            None => plain.push('%'),
        }
    }
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    Ok(Format { pieces })
}

/// A conversion; `None` for a percent sign, whatever its width.
fn spec(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Option<Spec>, String> {
    let mut spec = Spec {
        bytes: 4,
        ..Spec::default()
    };
    loop {
        match chars.peek() {
            Some('-') => spec.left = true,
            Some('+') => spec.plus = true,
            Some(' ') => spec.space = true,
            Some('#') => spec.alt = true,
            Some('0') => spec.zero = true,
            _ => break,
        }
        chars.next();
    }
    spec.width = number(chars)?;
    if chars.peek() == Some(&'.') {
        chars.next();
        spec.precision = Some(number(chars)?.unwrap_or(0));
    }
    let mut length = String::new();
    while let Some(c @ ('h' | 'l' | 'j' | 'z' | 't' | 'L')) = chars.peek() {
        length.push(*c);
        chars.next();
    }
    spec.bytes = match length.as_str() {
        "" => 4,
        "hh" => 1,
        "h" => 2,
        "l" | "ll" | "j" | "z" | "t" | "L" => 8,
        other => return Err(format!("'%{other}' is no length modifier")),
    };
    spec.conv = match chars.next() {
        Some('d' | 'i') => Conv::Signed,
        Some('u') => Conv::Unsigned,
        Some('o') => Conv::Octal,
        Some('x') => Conv::Hex,
        Some('X') => Conv::HexUpper,
        Some('c') => Conv::Char,
        Some('p') => {
            spec.bytes = 8;
            Conv::Pointer
        }
        Some('s') => Conv::Text,
        Some('g') if chars.next_if_eq(&'r').is_some() => {
            spec.bytes = 8;
            Conv::Gfp
        }
        Some('r') => match chars.peek() {
            Some('x') => {
                chars.next();
                Conv::EscapedHex
            }
            Some('h') => {
                chars.next();
                Conv::SpacedHex
            }
            _ => Conv::Escaped,
        },
        Some('%') => return Ok(None),
        Some('*') => return Err("a width from an argument ('*') is not supported".into()),
        Some(c) => return Err(format!("'%{c}' is no conversion; write '%%' for a percent sign")),
        None => return Err("the format ends in the middle of a conversion".into()),
    };
    Ok(Some(spec))
}

fn number(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Option<u32>, String> {
    let mut value = None;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        chars.next();
        let next = value.unwrap_or(0u32) * 10 + digit;
        if next > 4096 {
            return Err("a width or precision above 4096".into());
        }
        value = Some(next);
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_formats_apart() {
        let format = parse(b"100%% %-10.3lld|%s").unwrap();
        let number = Spec {
            left: true,
            width: Some(10),
            precision: Some(3),
            bytes: 8,
            ..Spec::default()
        };
        let text = Spec {
            bytes: 4,
            conv: Conv::Text,
            ..Spec::default()
        };
        assert_eq!(
            format.pieces,
            [
                Piece::Text("100% ".into()),
                Piece::Arg(number),
                Piece::Text("|".into()),
                Piece::Arg(text)
            ]
        );
    }

    #[test]
    fn refuses_what_printf_does_not_know() {
        for text in ["%", "%q", "%g", "%lhd", "%*d", "%99999d"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
