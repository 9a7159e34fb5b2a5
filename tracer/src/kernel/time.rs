//! The kernel's clock and the wall's.
//!
//! Programs take the time by `bpf_ktime_get_ns`, which is CLOCK_MONOTONIC.

use std::ffi::CString;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// CLOCK_MONOTONIC now, in nanoseconds: what `bpf_ktime_get_ns` would answer.
pub fn monotonic() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid struct timespec; the clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Turns the kernel's times into wall-clock times. The relation is measured once: a clock that is set afterwards
/// does not make the output jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallClock {
    /// Nanoseconds from the Unix epoch to CLOCK_MONOTONIC's zero.
    offset: i128,
}

impl WallClock {
    /// Measure the relation. Of a few tries the one that took least counts.
    pub fn measure() -> WallClock {
        let sample = || {
            let before = monotonic();
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let after = monotonic();
            let middle = i128::from(before) + i128::from(after - before) / 2;
            (after - before, wall.as_nanos() as i128 - middle)
        };
        let best = (0..5).map(|_| sample()).min_by_key(|(took, _)| *took);
        WallClock {
            offset: best.map_or(0, |(_, offset)| offset),
        }
    }

    /// What to add to a CLOCK_MONOTONIC time to get the wall-clock time, in nanoseconds.
    pub fn offset(&self) -> i64 {
        self.offset as i64
    }

    /// The wall-clock time of a CLOCK_MONOTONIC time in nanoseconds.
    pub fn at(&self, monotonic: u64) -> SystemTime {
        let nanos = (i128::from(monotonic) + self.offset).max(0);
        let (secs, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        UNIX_EPOCH + Duration::new(secs as u64, rest as u32)
    }
}

/// Nanoseconds of one of the kernel's clocks now: CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_TAI, CLOCK_REALTIME.
pub fn clock(id: libc::clockid_t) -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid struct timespec; a clock that does not exist leaves it as it is.
    unsafe { libc::clock_gettime(id, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// strftime(3) of a time in seconds since the Unix epoch, in the local time zone. A format with a zero byte, or
/// one that makes more than 4 KiB, gives nothing.
pub fn strftime(format: &str, seconds: i64) -> String {
    let Ok(format) = CString::new(format) else {
        return String::new();
    };
    // SAFETY: all zeros is a valid struct tm: numbers, and a null pointer for the zone's name.
    let mut broken_down: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both are valid for the call.
    if unsafe { libc::localtime_r(&raw const seconds, &raw mut broken_down) }.is_null() {
        return String::new();
    }
    let mut text = vec![0_u8; 4096];
    // SAFETY: `text` has the room that is stated, `format` ends with a zero byte, `broken_down` was filled in above.
    let length = unsafe {
        libc::strftime(
            text.as_mut_ptr().cast(),
            text.len(),
            format.as_ptr(),
            &raw const broken_down,
        )
    };
    text.truncate(length);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_libcs() {
        let now = clock(libc::CLOCK_REALTIME) as i64 / 1_000_000_000;
        let text = strftime("%s %%", now);
        assert_eq!(text, format!("{now} %"));
        assert_eq!(strftime("a\0b", now), "");
        assert_eq!(strftime(&"%c".repeat(1000), now), "");
    }

    #[test]
    fn the_clocks_agree() {
        let clock = WallClock::measure();
        let error = |t: SystemTime| match SystemTime::now().duration_since(t) {
            Ok(late) => late,
            Err(early) => early.duration(),
        };
        assert!(error(clock.at(monotonic())) < Duration::from_millis(500));
        let later = clock.at(2_000_000_000).duration_since(clock.at(500_000_000));
        assert_eq!(later.expect("in order"), Duration::from_millis(1500));
    }
}
