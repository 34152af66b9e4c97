//! Dates: `strftime` with parts of seconds, `time`, and the labels of time series.

use crate::ffi::clock::LocalTime;

use super::number;

const SECOND: u64 = 1_000_000_000;

/// In which zone dates are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zone {
    /// That of the machine and the environment (`TZ`).
    Local,
    /// UTC, for tests.
    #[cfg(test)]
    Utc,
}

impl Zone {
    fn at(self, seconds: i64) -> Option<LocalTime> {
        match self {
            Self::Local => LocalTime::at(seconds),
            #[cfg(test)]
            Self::Utc => LocalTime::utc(seconds),
        }
    }
}

/// The formats of a script's `strftime` calls, and what is needed to use them.
pub(crate) struct Times {
    zone: Zone,
    /// Nanoseconds since 1970 at which the machine booted.
    boot_epoch_ns: u64,
    /// Most bytes of a formatted time.
    limit: usize,
    formats: Vec<TimeFormat>,
}

impl Times {
    pub(crate) fn new(zone: Zone, boot_epoch_ns: u64, limit: usize, formats: &[String]) -> Self {
        Self {
            zone,
            boot_epoch_ns,
            limit,
            formats: formats.iter().map(|text| TimeFormat::parse(text)).collect(),
        }
    }

    /// Nanoseconds since 1970 of a time since boot.
    pub(crate) fn since_1970(&self, since_boot: u64) -> u64 {
        since_boot.saturating_add(self.boot_epoch_ns)
    }

    /// Appends nanoseconds since boot, or else since 1970, in the format with number `format`; `(?)`
    /// when that cannot be done.
    pub(crate) fn write(&mut self, ns: u64, from_boot: bool, format: u64, out: &mut Vec<u8>) {
        let start = out.len();
        let since_1970 = if from_boot {
            ns.checked_add(self.boot_epoch_ns)
        } else {
            Some(ns)
        };
        let format = usize::try_from(format)
            .ok()
            .and_then(|index| self.formats.get_mut(index));
        let written = since_1970
            .zip(format)
            .is_some_and(|(ns, format)| format.write(ns, self.zone, self.limit, out));
        let length = out.len() - start;
        if !written || length == 0 || length > self.limit {
            out.truncate(start);
            out.extend_from_slice(b"(?)");
        }
    }

    /// Appends `%H:%M:%S` of nanoseconds since 1970.
    pub(crate) fn write_clock(&self, ns: u64, out: &mut Vec<u8>) {
        let written = self
            .zone
            .at((ns / SECOND).cast_signed())
            .is_some_and(|time| time.format("%H:%M:%S", 16, out));
        if !written {
            out.extend_from_slice(b"??:??:??");
        }
    }

    /// Appends the local time `seconds` after 1970 as `time` prints it; false when the result is
    /// empty or over 63 bytes.
    pub(crate) fn write_now(&self, seconds: u64, format: &str, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let time = self.zone.at(seconds.cast_signed());
        time.is_some_and(|time| time.format(format, 63, out)) && out.len() > start
    }
}

/// A parsed `strftime` format.
struct TimeFormat {
    pieces: Vec<TimePiece>,
    /// The second that the calendar pieces hold the text of.
    second: Option<u64>,
}

enum TimePiece {
    /// A format for the C library, and its text at the second last asked for.
    Calendar { format: String, text: Vec<u8> },
    /// So many digits of the part of a second, from the first.
    Fraction { digits: u32 },
}

impl TimeFormat {
    fn parse(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut calendar = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            let mut following = rest[at + 1..].chars();
            let digits = match following.next() {
                Some('l') => Some(3),
                Some('f') => Some(6),
                Some('k') => Some(9),
                _ => None,
            };
            if let Some(digits) = digits {
                calendar.push_str(&rest[..at]);
                push_calendar(&mut pieces, &mut calendar);
                pieces.push(TimePiece::Fraction { digits });
                rest = &rest[at + 2..];
            } else {
                let tail = following.as_str();
                calendar.push_str(&rest[..rest.len() - tail.len()]);
                rest = tail;
            }
        }
        calendar.push_str(rest);
        push_calendar(&mut pieces, &mut calendar);
        Self {
            pieces,
            second: None,
        }
    }

    fn write(&mut self, ns: u64, zone: Zone, limit: usize, out: &mut Vec<u8>) -> bool {
        let second = ns / SECOND;
        if self.second != Some(second) {
            self.second = None;
            let Some(time) = zone.at(second.cast_signed()) else {
                return false;
            };
            for piece in &mut self.pieces {
                if let TimePiece::Calendar { format, text } = piece {
                    text.clear();
                    if !time.format(format, limit, text) {
                        return false;
                    }
                }
            }
            self.second = Some(second);
        }
        for piece in &self.pieces {
            match piece {
                TimePiece::Calendar { text, .. } => out.extend_from_slice(text),
                TimePiece::Fraction { digits } => write_fraction(ns, *digits, out),
            }
        }
        true
    }
}

fn push_calendar(pieces: &mut Vec<TimePiece>, format: &mut String) {
    if !format.is_empty() {
        pieces.push(TimePiece::Calendar {
            format: std::mem::take(format),
            text: Vec::new(),
        });
    }
}

/// Appends the first `digits` (at most 9) digits of the part of a second.
pub(crate) fn write_fraction(ns: u64, digits: u32, out: &mut Vec<u8>) {
    push_padded(ns % SECOND / 10_u64.pow(9 - digits.min(9)), digits, out);
}

fn push_padded(number: u64, width: u32, out: &mut Vec<u8>) {
    for power in (1..width).rev() {
        if number < 10_u64.pow(power) {
            out.push(b'0');
        }
    }
    number::push_decimal(number, out);
}

/// Appends nanoseconds since 1970 as `YYYY-MM-DD HH:MM:SS.nnnnnnnnn` in UTC.
pub(crate) fn write_utc(ns: u64, out: &mut Vec<u8>) {
    let (days, second) = (ns / SECOND / 86_400, ns / SECOND % 86_400);
    let (year, month, day) = civil_date(days);
    for (number, width, before) in [
        (year, 4, None),
        (month, 2, Some(b'-')),
        (day, 2, Some(b'-')),
        (second / 3_600, 2, Some(b' ')),
        (second / 60 % 60, 2, Some(b':')),
        (second % 60, 2, Some(b':')),
        (ns % SECOND, 9, Some(b'.')),
    ] {
        out.extend(before);
        push_padded(number, width, out);
    }
}

/// Year, month and day of a number of days since 1970-01-01 in the Gregorian calendar.
///
/// Counts in eras of 400 years of 146,097 days, and in years that begin in March, so that the leap
/// day is the last of its year.
fn civil_date(days: u64) -> (u64, u64, u64) {
    // 0000-03-01 is 719,468 days before 1970-01-01.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March have 153 days in every five.
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2025-06-15 15:06:40.123456789 UTC.
    const MOMENT: u64 = 1_750_000_000_123_456_789;

    fn text(format: &str, ns: u64) -> String {
        let mut times = Times::new(Zone::Utc, 5_000_000_000, 40, &[format.to_owned()]);
        let mut out = Vec::new();
        times.write(ns, false, 0, &mut out);
        // Again, from what the second remembers.
        let mut again = Vec::new();
        times.write(ns, false, 0, &mut again);
        assert_eq!(out, again);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn formats_with_parts_of_seconds() {
        for (format, expected) in [
            ("%Y-%m-%d %H:%M:%S", "2025-06-15 15:06:40"),
            ("%H.%f", "15.123456"),
            ("%l", "123"),
            ("%k|%S", "123456789|40"),
            ("%%f", "%f"),
            ("%S%%%l", "40%123"),
            ("%", "%"),
            ("ä%fö", "ä123456ö"),
            ("", "(?)"),
            ("%F %F %F %F", "(?)"),
        ] {
            assert_eq!(text(format, MOMENT), expected, "{format:?}");
        }
        assert_eq!(text("%s %k", 7_000_000_012), "7 000000012");
    }

    #[test]
    fn boot_time_is_added() {
        let mut times = Times::new(Zone::Utc, 5_000_000_000, 40, &["%s.%l".to_owned()]);
        let mut out = Vec::new();
        times.write(1_999_000_000, true, 0, &mut out);
        out.push(b' ');
        times.write(1_999_000_000, true, 9, &mut out);
        out.push(b' ');
        times.write(u64::MAX, true, 0, &mut out);
        assert_eq!(out, b"6.999 (?) (?)");
    }

    #[test]
    fn dates_in_utc_agree_with_the_c_library() {
        for ns in [
            0,
            MOMENT,
            951_782_400 * SECOND,   // 2000-02-29
            951_868_799 * SECOND,   // its last second
            4_107_542_400 * SECOND, // 2100-03-01, after no leap day
            1_735_689_599 * SECOND, // 2024-12-31 23:59:59
        ] {
            let mut out = Vec::new();
            write_utc(ns, &mut out);
            assert_eq!(
                String::from_utf8(out).expect("UTF-8"),
                text("%Y-%m-%d %H:%M:%S.%k", ns)
            );
        }
    }

    #[test]
    fn time_is_at_most_63_bytes() {
        let times = Times::new(Zone::Utc, 0, 40, &[]);
        let mut out = Vec::new();
        assert!(times.write_now(MOMENT / SECOND, "%H:%M:%S\n", &mut out));
        assert_eq!(out, b"15:06:40\n");
        assert!(times.write_now(0, &"x".repeat(63), &mut out));
        assert!(!times.write_now(0, &"x".repeat(64), &mut out));
        assert!(!times.write_now(0, "", &mut out));
    }
}
