//! The ring buffer's reader.
//!
//! aya maps the ring and keeps the memory ordering; here is how ktrail waits and drains.
//!
//! Wake-ups: a program that submits with flags 0 wakes the reader only when the reader had caught up, so a reader
//! must drain until nothing is left before it waits again, which [`Ring::drain`] does. A program that submits with
//! `BPF_RB_NO_WAKEUP` (1) wakes nobody: such records are found by the next drain, so wait with a time-out then.
//! `BPF_RB_FORCE_WAKEUP` (2) always wakes. Each wake-up costs an interrupt to the reader's CPU.
//!
//! Deliberately absent: what was lost. When the ring is full the program's reservation fails, and the program must
//! count that itself.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use aya::maps::{MapData, MapError, RingBuf};
use tokio::io::unix::AsyncFd;

use super::maps::Map;

/// A reader of a ring buffer map. A ring has one reader: records are consumed.
pub struct Ring {
    ring: RingBuf<MapData>,
}

impl Ring {
    /// Read `map`.
    ///
    /// # Errors
    /// If the map is no ring buffer or can't be mapped into memory.
    pub fn open(map: &Map) -> Result<Ring, MapError> {
        let fd = map.as_fd().try_clone_to_owned()?;
        let ring = RingBuf::try_from(aya::maps::Map::RingBuf(MapData::from_fd(fd)?))?;
        Ok(Ring { ring })
    }

    /// Give every record that is there to `f`, without waiting. Returns how many there were.
    ///
    /// A record's place in the ring is free again as soon as `f` returns.
    pub fn drain(&mut self, mut f: impl FnMut(&[u8])) -> usize {
        let mut count = 0;
        while let Some(record) = self.ring.next() {
            f(&record);
            count += 1;
        }
        count
    }

    /// As [`Ring::drain`], but at most `max` records: for a reader that has other duties too.
    pub fn drain_some(&mut self, max: usize, mut f: impl FnMut(&[u8])) -> usize {
        let mut count = 0;
        while count < max {
            let Some(record) = self.ring.next() else {
                break;
            };
            f(&record);
            count += 1;
        }
        count
    }

    /// Wait until there is a record or `timeout` has passed; false if it has. To wait together with other things,
    /// wrap the ring in `tokio::io::unix::AsyncFd`.
    ///
    /// # Errors
    /// poll(2)'s. A signal counts as nothing there.
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let mut poll = libc::pollfd {
            fd: self.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let millis = timeout.as_millis().min(i32::MAX as u128) as i32;
        // SAFETY: `poll` is one valid struct pollfd.
        match unsafe { libc::poll(&raw mut poll, 1, millis) } {
            0 => Ok(false),
            1.. => Ok(true),
            _ => match io::Error::last_os_error() {
                e if e.kind() == io::ErrorKind::Interrupted => Ok(false),
                e => Err(e),
            },
        }
    }
}

impl Ring {
    /// Watch for records with tokio. Readiness is edge-triggered: drain, or look again after a while.
    ///
    /// # Errors
    /// If there are no descriptors left, or outside of a tokio runtime with I/O.
    pub fn watch(&self) -> io::Result<AsyncFd<OwnedFd>> {
        let fd = self.as_fd().try_clone_to_owned()?;
        // SAFETY: the descriptor is owned by the returned value, which deregisters it before closing it.
        unsafe { AsyncFd::register(fd) }.map_err(io::Error::from)
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ring(fd {})", self.as_raw_fd())
    }
}
