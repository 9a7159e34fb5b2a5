//! What the traced command writes while the screen is taken: kept, and written out afterwards.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// How many bytes are kept, the last ones.
const KEPT: usize = 1 << 20;

#[derive(Default)]
struct Tail {
    bytes: VecDeque<u8>,
    cut: u64,
}

impl Tail {
    fn take(&mut self, bytes: &[u8], kept: usize) {
        self.bytes.extend(bytes);
        let over = self.bytes.len().saturating_sub(kept);
        self.bytes.drain(..over);
        self.cut += over as u64;
    }
}

/// A command's output, both of its streams together.
#[derive(Clone, Default)]
pub struct Output(Arc<Mutex<Tail>>);

impl Output {
    /// Two streams that end here. They are read until nobody holds them any more.
    ///
    /// # Errors
    /// The kernel's.
    pub fn streams(&self) -> io::Result<(Stdio, Stdio)> {
        let (mut reader, writer) = io::pipe()?;
        let tail = Arc::clone(&self.0);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
                tail.take(&buffer[..count], KEPT);
            }
        });
        Ok((writer.try_clone()?.into(), writer.into()))
    }

    /// Writes what has been kept.
    ///
    /// # Errors
    /// The writer's.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tail.cut > 0 {
            writeln!(out, "[{} bytes of the command's output were not kept]", tail.cut)?;
        }
        let (front, back) = tail.bytes.as_slices();
        out.write_all(front)?;
        out.write_all(back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept_and_the_rest_is_counted() {
        let output = Output::default();
        let written = || {
            let mut out = vec![];
            output.write(&mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let take = |bytes: &[u8]| output.0.lock().unwrap().take(bytes, 4);
        take(b"abc");
        assert_eq!(written(), "abc");
        take(b"defg");
        assert_eq!(written(), "[3 bytes of the command's output were not kept]\ndefg");
    }
}
