//! printf: a format that is taken apart already, and its arguments.
//!
//! Integers are cut to the bytes of their length modifier, as C's printf would; every other value is text.

use ktrail_ebpf::script::output::{Conv, Format, Piece, Spec};

use super::gfp;
use super::value::{Value, escaped};

/// The text of a format with its arguments, in order. An argument that is missing prints nothing.
pub fn format(format: &Format, args: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut args = args.iter();
    for piece in &format.pieces {
        match piece {
            Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Arg(spec) => {
                if let Some(value) = args.next() {
                    argument(&mut out, spec, value);
                }
            }
        }
    }
    out
}

fn argument(out: &mut Vec<u8>, spec: &Spec, value: &Value) {
    let number = value.number().unwrap_or(0);
    match spec.conv {
        Conv::Signed => {
            let n = signed(number, spec.bytes);
            let sign = match n {
                ..0 => "-",
                _ if spec.plus => "+",
                _ if spec.space => " ",
                _ => "",
            };
            integer(out, spec, sign, n.unsigned_abs().to_string());
        }
        Conv::Unsigned => integer(out, spec, "", cut(number, spec.bytes).to_string()),
        Conv::Octal => {
            let n = cut(number, spec.bytes);
            let prefix = if spec.alt && n != 0 { "0" } else { "" };
            integer(out, spec, prefix, format!("{n:o}"));
        }
        Conv::Hex | Conv::HexUpper => {
            let n = cut(number, spec.bytes);
            let upper = spec.conv == Conv::HexUpper;
            let prefix = match (spec.alt && n != 0, upper) {
                (false, _) => "",
                (true, false) => "0x",
                (true, true) => "0X",
            };
            let digits = if upper { format!("{n:X}") } else { format!("{n:x}") };
            integer(out, spec, prefix, digits);
        }
        Conv::Pointer => match number as u64 {
            0 => pad(out, spec, b"0"),
            p => pad(out, spec, format!("{p:#x}").as_bytes()),
        },
        Conv::Char => pad(out, spec, &[number as u8]),
        Conv::Text => pad(out, spec, &value.text()),
        Conv::Gfp => pad(out, spec, gfp::names(number as u64).as_bytes()),
        Conv::Escaped => pad(out, spec, escaped(bytes(value)).as_bytes()),
        Conv::EscapedHex => pad(out, spec, hex(bytes(value), "\\x", "").as_bytes()),
        Conv::SpacedHex => pad(out, spec, hex(bytes(value), "", " ").as_bytes()),
    }
}

fn bytes(value: &Value) -> &[u8] {
    match value {
        Value::Buffer(bytes) | Value::Str(bytes) => bytes,
        _ => &[],
    }
}

fn hex(bytes: &[u8], before: &str, between: &str) -> String {
    let each: Vec<String> = bytes.iter().map(|b| format!("{before}{b:02x}")).collect();
    each.join(between)
}

/// The low bytes of a number.
fn cut(number: i128, bytes: u32) -> u64 {
    let low = number as u64;
    match bytes {
        1 => u64::from(low as u8),
        2 => u64::from(low as u16),
        4 => u64::from(low as u32),
        _ => low,
    }
}

/// The low bytes of a number, as a signed one.
fn signed(number: i128, bytes: u32) -> i64 {
    let low = number as i64;
    match bytes {
        1 => i64::from(low as i8),
        2 => i64::from(low as i16),
        4 => i64::from(low as i32),
        _ => low,
    }
}

/// Digits with what comes before them, filled up to the width as C does: zeros go behind the sign.
fn integer(out: &mut Vec<u8>, spec: &Spec, prefix: &str, digits: String) {
    let digits = match spec.precision {
        // Nothing is what a precision of zero leaves of zero.
        Some(0) if digits == "0" => String::new(),
        Some(least) => format!("{digits:0>least$}", least = least as usize),
        None if spec.zero && !spec.left => {
            let least = (spec.width.unwrap_or(0) as usize).saturating_sub(prefix.len());
            format!("{digits:0>least$}")
        }
        None => digits,
    };
    pad(out, spec, format!("{prefix}{digits}").as_bytes());
}

/// Fill up with blanks. Width counts bytes, as in C.
fn pad(out: &mut Vec<u8>, spec: &Spec, text: &[u8]) {
    let blanks = (spec.width.unwrap_or(0) as usize).saturating_sub(text.len());
    if spec.left {
        out.extend_from_slice(text);
    }
    out.resize(out.len() + blanks, b' ');
    if !spec.left {
        out.extend_from_slice(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(conv: Conv) -> Spec {
        Spec {
            conv,
            bytes: 4,
            ..Spec::default()
        }
    }

    fn show(spec: Spec, value: Value) -> String {
        let format = Format {
            pieces: vec![Piece::Text("<".into()), Piece::Arg(spec), Piece::Text(">".into())],
        };
        String::from_utf8(super::format(&format, &[value])).expect("text")
    }

    #[test]
    fn integers_are_cut_to_their_length() {
        let int = |n: i128, bytes, conv| show(Spec { bytes, ..spec(conv) }, Value::Int(n));
        assert_eq!(int(-1, 4, Conv::Signed), "<-1>");
        assert_eq!(int(-1, 4, Conv::Unsigned), "<4294967295>");
        assert_eq!(int(-1, 8, Conv::Unsigned), "<18446744073709551615>");
        assert_eq!(int(u64::MAX.into(), 8, Conv::Signed), "<-1>");
        assert_eq!(int(0x1_0000_0005, 4, Conv::Signed), "<5>");
        assert_eq!(int(300, 1, Conv::Signed), "<44>");
        assert_eq!(int(-1, 2, Conv::Hex), "<ffff>");
        assert_eq!(int(255, 4, Conv::HexUpper), "<FF>");
        assert_eq!(int(8, 4, Conv::Octal), "<10>");
        assert_eq!(int(65, 4, Conv::Char), "<A>");
    }

    #[test]
    fn flags_are_those_of_c() {
        let signed = spec(Conv::Signed);
        let with = |change: fn(&mut Spec), n: i128| {
            let mut spec = signed.clone();
            change(&mut spec);
            show(spec, Value::Int(n))
        };
        assert_eq!(with(|s| s.width = Some(6), 42), "<    42>");
        assert_eq!(with(|s| (s.left, s.width) = (true, Some(6)), 42), "<42    >");
        assert_eq!(with(|s| (s.zero, s.width) = (true, Some(6)), -42), "<-00042>");
        assert_eq!(with(|s| s.plus = true, 42), "<+42>");
        assert_eq!(with(|s| s.space = true, 42), "< 42>");
        assert_eq!(
            with(|s| (s.width, s.precision) = (Some(6), Some(4)), 42),
            "<  0042>"
        );
        assert_eq!(with(|s| (s.conv, s.alt) = (Conv::Hex, true), 255), "<0xff>");
        assert_eq!(with(|s| (s.conv, s.alt) = (Conv::Hex, true), 0), "<0>");
    }

    #[test]
    fn other_values_are_text() {
        let text = spec(Conv::Text);
        assert_eq!(show(text.clone(), Value::Str(b"curl".to_vec())), "<curl>");
        assert_eq!(show(text.clone(), Value::Int(7)), "<7>");
        let wide = Spec {
            width: Some(6),
            left: true,
            precision: Some(2),
            ..text
        };
        assert_eq!(show(wide, Value::Str(b"curl".to_vec())), "<curl  >");
        let named = || Value::Named {
            number: 1,
            name: "TCP_ESTABLISHED".into(),
            constant: true,
        };
        assert_eq!(show(spec(Conv::Text), named()), "<TCP_ESTABLISHED>");
        assert_eq!(show(spec(Conv::Signed), named()), "<1>");
        assert_eq!(show(spec(Conv::Signed), Value::Bool(true)), "<1>");
        assert_eq!(show(spec(Conv::Pointer), Value::Pointer(0xff00)), "<0xff00>");
        assert_eq!(show(spec(Conv::Pointer), Value::Pointer(0)), "<0>");
        let raw = || Value::Buffer(b"a\x00\xff".to_vec());
        assert_eq!(show(spec(Conv::Escaped), raw()), "<a\\x00\\xff>");
        assert_eq!(show(spec(Conv::EscapedHex), raw()), "<\\x61\\x00\\xff>");
        assert_eq!(show(spec(Conv::SpacedHex), raw()), "<61 00 ff>");
    }
}
