//! Shell-like patterns: `*` stands for any text, `?` for one character.

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// A pattern by its text.
    pub fn new(text: &str) -> Pattern {
        Pattern(text.into())
    }

    /// Whether a text can match more than itself.
    pub fn is_wild(text: &str) -> bool {
        text.contains(['*', '?'])
    }

    /// Whether the whole text matches. Takes time in proportion to both lengths at worst.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut p, mut t) = (0, 0);
        // Where the last star was, and how much text it has taken so far.
        let mut star: Option<(usize, usize)> = None;
        while t < text.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, t));
                    p += 1;
                }
                Some(&c) if c == b'?' || c == text[t] => {
                    p += 1;
                    t += 1;
                }
                _ => match star {
                    Some((at, taken)) => {
                        star = Some((at, taken + 1));
                        p = at + 1;
                        t = taken + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|&c| c == b'*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let matches = |pattern, text| Pattern::new(pattern).matches(text);
        assert!(matches("vfs_*", "vfs_read"));
        assert!(matches("*", ""));
        assert!(matches("a*b*c", "aXbYbZc"));
        assert!(matches("tcp_v?_rcv", "tcp_v4_rcv"));
        assert!(matches("exact", "exact"));
        assert!(!matches("vfs_*", "xvfs_read"));
        assert!(!matches("exact", "exactly"));
        assert!(!matches("a?c", "ac"));
        assert!(!matches("*a", "ab"));
        assert!(Pattern::is_wild("a*") && !Pattern::is_wild("a"));
    }

    #[test]
    fn many_stars_take_no_time() {
        assert!(!Pattern::new(&format!("{}x", "a*".repeat(40))).matches(&"a".repeat(5000)));
    }
}
