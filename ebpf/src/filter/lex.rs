//! Text to tokens: the longest match wins, keywords before names, as in pcap-filter.
//!
//! Names may contain hyphens and dots, so `1-2` and `len-1` are each one name; arithmetic needs blanks there.

use std::net::Ipv6Addr;
use std::ops::Range;

use super::Error;
use super::words::{CONSTANTS, KEYWORDS};

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tok {
    /// A number, or a named constant such as `tcp-syn`.
    Num(u32),
    /// Two to four dotted numbers, as typed.
    V4(String),
    /// An IPv6 address.
    V6(Ipv6Addr),
    /// An Ethernet address.
    Mac([u8; 6]),
    /// A name that is no keyword, or an escaped one.
    Name(String),
    /// Text in double quotes.
    Text(String),
    /// A keyword, by its first spelling.
    Key(&'static str),
    /// An operator or a bracket, by its first spelling.
    Op(&'static str),
    /// The end of the text.
    End,
}

/// A token and its place.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub tok: Tok,
    pub span: Range<usize>,
}

/// Operators, longer ones before their prefixes. The second is the token's one spelling.
const OPERATORS: [(&str, &str); 27] = [
    (">=", ">="),
    ("<=", "<="),
    ("!=", "!="),
    ("==", "="),
    ("<<", "<<"),
    (">>", ">>"),
    ("&&", "and"),
    ("||", "or"),
    ("+", "+"),
    ("-", "-"),
    ("*", "*"),
    ("/", "/"),
    ("%", "%"),
    (":", ":"),
    ("[", "["),
    ("]", "]"),
    ("!", "not"),
    ("<", "<"),
    (">", ">"),
    ("(", "("),
    (")", ")"),
    ("&", "&"),
    ("|", "|"),
    ("^", "^"),
    ("=", "="),
    ("{", "{"),
    ("}", "}"),
];

/// Text that is longer than this is refused: nobody types it.
const MAX_TEXT: usize = 64 * 1024;

/// The tokens of `text`, [`Tok::End`] last.
pub(super) fn lex(text: &str) -> Result<Vec<Token>, Error> {
    if text.len() > MAX_TEXT {
        return Err(Error::new(
            MAX_TEXT..MAX_TEXT,
            format!("the filter is longer than {MAX_TEXT} bytes"),
        ));
    }
    let mut tokens = vec![];
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with([' ', '\t', '\r', '\n']) {
            at += 1;
            continue;
        }
        let (tok, len) = token(rest, at)?;
        tokens.push(Token {
            tok,
            span: at..at + len,
        });
        at += len;
    }
    tokens.push(Token {
        tok: Tok::End,
        span: text.len()..text.len(),
    });
    Ok(tokens)
}

/// The token that `rest` starts with and its length. `at` is where `rest` starts.
fn token(rest: &str, at: usize) -> Result<(Tok, usize), Error> {
    if let Some(escaped) = rest.strip_prefix('\\') {
        let len = escaped
            .find([' ', '!', '(', ')', '\n', '\t'])
            .unwrap_or(escaped.len());
        if len == 0 {
            return Err(
                Error::new(at..at + 1, "nothing to escape after '\\'").expected("a name, as in '\\tcp'")
            );
        }
        return Ok((Tok::Name(escaped[..len].into()), 1 + len));
    }
    if let Some(quoted) = rest.strip_prefix('"') {
        let Some(len) = quoted.find('"') else {
            return Err(Error::new(at..at + rest.len(), "the text isn't closed").expected("'\"'"));
        };
        return Ok((Tok::Text(quoted[..len].into()), len + 2));
    }

    let word = &rest[..word_len(rest)];
    let mac = mac(rest);
    let v6 = v6(rest);
    let mac_len = mac.map_or(0, |(_, len)| len);
    let v6_len = v6.map_or(0, |(_, len)| len);
    if mac_len > 0 && mac_len >= word.len() && mac_len >= v6_len {
        let (mac, len) = mac.expect("it has a length");
        return Ok((Tok::Mac(mac), len));
    }
    if v6_len > word.len() {
        let (v6, len) = v6.expect("it has a length");
        return Ok((Tok::V6(v6), len));
    }
    if !word.is_empty() {
        return Ok((word_token(word, at)?, word.len()));
    }
    for (spelling, op) in OPERATORS {
        if rest.starts_with(spelling) {
            let tok = match op {
                "and" | "or" | "not" => Tok::Key(op),
                op => Tok::Op(op),
            };
            return Ok((tok, spelling.len()));
        }
    }
    let c = rest.chars().next().unwrap_or(' ');
    let error = Error::new(
        at..at + c.len_utf8(),
        format!("the character '{}' has no meaning here", c.escape_debug()),
    );
    Err(match c {
        '\'' => error.suggest("text stands in double quotes"),
        '_' | '.' => error.suggest("names start with a letter or a digit, and don't end in '_' or '-'"),
        _ => error,
    })
}

/// The length of the name, number or keyword that `rest` starts with.
fn word_len(rest: &str) -> usize {
    if !rest.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return 0;
    }
    let run = rest
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')))
        .unwrap_or(rest.len());
    rest[..run].trim_end_matches(['-', '_']).len()
}

/// What a whole word is.
fn word_token(word: &str, at: usize) -> Result<Tok, Error> {
    let span = at..at + word.len();
    if is_number(word) {
        return Ok(Tok::Num(number(word).map_err(|why| Error::new(span, why))?));
    }
    let parts: Vec<&str> = word.split('.').collect();
    if (2..=4).contains(&parts.len()) && parts.iter().all(|p| is_number(p)) {
        return Ok(Tok::V4(word.into()));
    }
    if let Some((_, key)) = KEYWORDS.iter().find(|(spelling, _)| *spelling == word) {
        return Ok(Tok::Key(key));
    }
    if let Some((_, value)) = CONSTANTS.iter().find(|(name, _)| *name == word) {
        return Ok(Tok::Num(*value));
    }
    Ok(Tok::Name(word.into()))
}

/// Decimal digits, or `0x` and hexadecimal ones.
fn is_number(word: &str) -> bool {
    match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(hex) => !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit()),
        None => !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit()),
    }
}

/// A number's value: hexadecimal after `0x`, octal after `0`, else decimal.
pub(super) fn number(word: &str) -> Result<u32, String> {
    let (digits, radix) = match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None if word.len() > 1 && word.starts_with('0') => (word, 8),
        None => (word, 10),
    };
    if radix == 8 && digits.bytes().any(|b| b > b'7') {
        return Err(format!(
            "{word} starts with 0, so it is octal, but has a digit above 7"
        ));
    }
    u32::from_str_radix(digits, radix).map_err(|_| format!("{word} doesn't fit 32 bits"))
}

/// The IPv6 address that `rest` starts with, and its length.
fn v6(rest: &str) -> Option<(Ipv6Addr, usize)> {
    let run = rest
        .bytes()
        .take(45)
        .take_while(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'))
        .count();
    if !rest[..run].contains(':') {
        return None;
    }
    (2..=run)
        .rev()
        .find_map(|len| Some((rest[..len].parse().ok()?, len)))
}

/// The Ethernet address that `rest` starts with, and its length: six bytes with `:`, `-` or `.` between them, three
/// groups of four digits with `.` between them, or twelve digits.
fn mac(rest: &str) -> Option<([u8; 6], usize)> {
    let bytes = rest.as_bytes();
    let hex = |at: usize| {
        bytes
            .get(at)
            .and_then(|b| (*b as char).to_digit(16))
            .map(|d| d as u8)
    };
    let mut best = None;
    for sep in [b':', b'-', b'.'] {
        let mut mac = [0; 6];
        let mut at = 0;
        let whole = mac.iter_mut().enumerate().all(|(i, byte)| {
            if i > 0 {
                if bytes.get(at) != Some(&sep) {
                    return false;
                }
                at += 1;
            }
            let Some(digit) = hex(at) else { return false };
            at += 1;
            *byte = digit;
            if let Some(low) = hex(at) {
                *byte = digit << 4 | low;
                at += 1;
            }
            true
        });
        if whole {
            best = Some((mac, at));
        }
    }
    for group in [4, 12] {
        let mut mac = [0; 6];
        let mut at = 0;
        let whole = (0..12).all(|i| {
            if i > 0 && i % group == 0 {
                if bytes.get(at) != Some(&b'.') {
                    return false;
                }
                at += 1;
            }
            let Some(digit) = hex(at) else { return false };
            at += 1;
            mac[i / 2] = mac[i / 2] << 4 | digit;
            true
        });
        if whole && best.is_none_or(|(_, len)| at > len) {
            best = Some((mac, at));
        }
    }
    best
}
