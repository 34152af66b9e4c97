//! Clocks and the C library's calendar.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;

/// A broken-down local time, as `strftime` takes it.
#[derive(Clone, Copy)]
pub(crate) struct LocalTime(libc::tm);

impl LocalTime {
    /// The local time `seconds` after 1970 began; `None` when the year does not fit.
    pub(crate) fn at(seconds: i64) -> Option<Self> {
        let mut tm = MaybeUninit::<libc::tm>::zeroed();
        // SAFETY: both pointers are valid for the call; all bytes zero is a valid `tm` (integers and
        // a pointer that may be null), so it is initialised whether or not the call succeeds.
        unsafe {
            if libc::localtime_r(&raw const seconds, tm.as_mut_ptr()).is_null() {
                return None;
            }
            Some(Self(tm.assume_init()))
        }
    }

    /// The same in UTC.
    #[cfg(test)]
    pub(crate) fn utc(seconds: i64) -> Option<Self> {
        let mut tm = MaybeUninit::<libc::tm>::zeroed();
        // SAFETY: as in `at`.
        unsafe {
            if libc::gmtime_r(&raw const seconds, tm.as_mut_ptr()).is_null() {
                return None;
            }
            Some(Self(tm.assume_init()))
        }
    }

    /// Appends the time in a `strftime` format to `out`; false, and nothing appended, when it takes
    /// more than `limit` bytes or the format has a NUL.
    pub(crate) fn format(&self, format: &str, limit: usize, out: &mut Vec<u8>) -> bool {
        // `strftime` returns 0 both for no text and for too much of it; with one character more the
        // text is never empty.
        let Ok(format) = CString::new([format.as_bytes(), b"."].concat()) else {
            return false;
        };
        let start = out.len();
        // Two more, for that character and for the NUL that `strftime` appends.
        out.resize(start + limit + 2, 0);
        // SAFETY: the buffer has `limit + 2` bytes behind `start`, the format ends in NUL, and `tm`
        // was filled in by `localtime_r`, whose zone name lives as long as the process.
        let length = unsafe {
            libc::strftime(
                out[start..].as_mut_ptr().cast(),
                limit + 2,
                format.as_ptr(),
                &raw const self.0,
            )
        };
        out.truncate(start + length.saturating_sub(1));
        length > 0
    }
}

/// Nanoseconds since 1970 at which `CLOCK_BOOTTIME` was 0.
pub(crate) fn boot_epoch_ns() -> io::Result<i64> {
    // The two clocks are read one after the other, so a difference may be off by an interruption in
    // between: the smallest of a few is the best.
    let mut best: Option<(i64, i64)> = None;
    for _ in 0..3 {
        let before = now_ns(libc::CLOCK_BOOTTIME)?;
        let wall = now_ns(libc::CLOCK_REALTIME)?;
        let after = now_ns(libc::CLOCK_BOOTTIME)?;
        let error = after - before;
        if best.is_none_or(|(smallest, _)| error < smallest) {
            best = Some((error, wall - before - error / 2));
        }
    }
    Ok(best.map_or(0, |(_, epoch)| epoch))
}

fn now_ns(clock: libc::clockid_t) -> io::Result<i64> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is valid for the call.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(time.tv_sec * 1_000_000_000 + time.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_and_refuses() {
        // Noon UTC of a day in the middle of a year: every zone agrees on the year.
        let time = LocalTime::at(1_750_000_000).expect("fits");
        let mut out = b">".to_vec();
        assert!(time.format("%Y", 4, &mut out));
        assert_eq!(out, b">2025");
        assert!(!time.format("%Y", 3, &mut out));
        assert!(time.format("", 3, &mut out));
        assert!(!time.format("a\0b", 3, &mut out));
        assert_eq!(out, b">2025");
        assert!(LocalTime::at(i64::MAX).is_none());
    }

    #[test]
    fn boot_was_before_now() {
        let epoch = boot_epoch_ns().expect("clocks");
        assert!(epoch > 0);
        assert!(epoch < now_ns(libc::CLOCK_REALTIME).expect("clock"));
    }
}
