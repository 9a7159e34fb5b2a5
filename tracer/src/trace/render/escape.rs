//! Making bytes that others chose safe to print.

use std::fmt::Write;

/// The bytes as printable ASCII: a control character, a byte above 126 or a backslash becomes `\xNN`, so that no
/// packet and no process name can steer a terminal, and two different names never look the same.
pub fn escape(bytes: &[u8]) -> String {
    let plain = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b'\\';
    if let Ok(text) = std::str::from_utf8(bytes)
        && bytes.iter().all(plain)
    {
        return text.to_owned();
    }
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'\\' => text.push_str("\\x5c"),
            b' '..=b'~' => text.push(byte.into()),
            _ => {
                // Writing to a String can't fail.
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
    }
    text
}

/// A name as one word of a shell's command, which does nothing else: names of devices may hold any character but `/` and
/// spaces, and who reads a command may run it.
pub fn quoted(name: &[u8]) -> String {
    let text = escape(name);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:@".contains(&byte);
    match text.bytes().all(plain) && !text.is_empty() {
        true => text,
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_names_stay_and_others_show_their_bytes() {
        assert_eq!(escape(b"kworker/0:1-ev"), "kworker/0:1-ev");
        assert_eq!(escape(b"a\x1b[2Jb\n\x7f\xff"), "a\\x1b[2Jb\\x0a\\x7f\\xff");
        assert_eq!(escape(b"\\x41"), "\\x5cx41");
        assert_eq!(escape("\u{202e}é".as_bytes()), "\\xe2\\x80\\xae\\xc3\\xa9");
    }

    #[test]
    fn a_name_is_one_word_of_a_command() {
        assert_eq!(quoted(b"eth0.5"), "eth0.5");
        assert_eq!(quoted(b"a$(reboot)"), "'a$(reboot)'");
        assert_eq!(quoted(b"a'b"), r"'a'\''b'");
        assert_eq!(quoted(b""), "''");
    }

    proptest! {
        #[test]
        fn printable_and_unambiguous(a in prop::collection::vec(any::<u8>(), 0..20), b in prop::collection::vec(any::<u8>(), 0..20)) {
            prop_assert!(escape(&a).bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            prop_assert_eq!(a == b, escape(&a) == escape(&b));
        }
    }
}
