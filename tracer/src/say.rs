//! What is said to people: on stdout, whose errors are the command's, and on stderr, whose errors are nobody's: a full
//! disk or a closed terminal there must neither end a run nor keep it from cleaning up, which the standard library's
//! panic would.

use std::io::{self, Write};

/// Write to stdout, all of it.
///
/// # Errors
/// What the kernel says: a full disk, nobody who reads.
pub fn stdout(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// As the standard library's, but never a panic.
macro_rules! eprint {
    ($($arg:tt)*) => {{
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!($($arg)*));
    }};
}

/// As the standard library's, but never a panic.
macro_rules! eprintln {
    ($format:literal $($arg:tt)*) => { eprint!("{}\n", format_args!($format $($arg)*)) };
}
