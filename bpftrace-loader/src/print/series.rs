//! Time series: values by interval, as a graph of text and as JSON.

use super::time::{Times, write_fraction, write_utc};
use super::value::Value;

/// Columns of the graph, its borders included.
const GRAPH: usize = 53;

/// Columns of the lowest value above and below the graph; the highest ends at the right border.
const LOWEST: usize = 21;

/// A time series, from its first interval with a value to the last interval of its map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// Intervals without gaps, oldest first.
    pub points: Vec<Point>,
    /// Unit in which the graph shows times.
    pub(crate) unit: Unit,
    /// Whether values can be negative.
    pub(crate) signed: bool,
}

/// An interval of a time series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Nanoseconds since 1970 at its start.
    pub start_ns: u64,
    /// Local time of the start as the graph shows it.
    pub(crate) clock: Vec<u8>,
    /// Value, when anything was recorded in the interval; it fits in 64 bits, signed or not.
    pub value: Option<i128>,
}

/// The finest part of a second that a graph shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Seconds.
    S,
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds.
    #[default]
    Ns,
}

impl Unit {
    /// The unit in which an interval is at least one.
    fn of(interval_ns: u64) -> Self {
        match interval_ns {
            1_000_000_000.. => Self::S,
            1_000_000.. => Self::Ms,
            1_000.. => Self::Us,
            _ => Self::Ns,
        }
    }

    fn digits(self) -> u32 {
        match self {
            Self::S => 0,
            Self::Ms => 3,
            Self::Us => 6,
            Self::Ns => 9,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::S => "hh:mm:ss",
            Self::Ms => "hh:mm:ss.ms",
            Self::Us => "hh:mm:ss.μs",
            Self::Ns => "hh:mm:ss.ns",
        }
    }

    /// Columns of the times.
    fn width(self) -> usize {
        match self.digits() {
            0 => 8,
            digits => 8 + 1 + digits as usize,
        }
    }
}

impl Series {
    /// A series of the intervals that begin at multiples of `interval_ns`.
    pub(crate) fn new(
        values: impl Iterator<Item = (u64, Option<i128>)>,
        interval_ns: u64,
        signed: bool,
        times: &Times,
    ) -> Self {
        let mut points: Vec<Point> = values
            .map(|(epoch, value)| Point {
                start_ns: epoch.saturating_mul(interval_ns),
                clock: Vec::new(),
                value,
            })
            .collect();
        // A single row shows all there is to know about its time.
        let unit = if points.len() > 1 {
            Unit::of(interval_ns)
        } else {
            Unit::Ns
        };
        for point in &mut points {
            times.write_clock(point.start_ns, &mut point.clock);
            if unit != Unit::S {
                point.clock.push(b'.');
                write_fraction(point.start_ns, unit.digits(), &mut point.clock);
            }
        }
        Self {
            points,
            unit,
            signed,
        }
    }

    /// Appends the graph: a line for each interval between two scales.
    pub fn write_text(&self, out: &mut Vec<u8>) {
        let values = || self.points.iter().filter_map(|point| point.value);
        let (Some(lowest), Some(highest)) = (values().min(), values().max()) else {
            out.extend_from_slice(b"<no data>");
            return;
        };
        // A single value goes to the middle, unless it is the lowest or highest of its type.
        let (min, max) = if self.signed {
            (i128::from(i64::MIN), i128::from(i64::MAX))
        } else {
            (0, i128::from(u64::MAX))
        };
        let (lowest, highest) = if lowest < highest {
            (lowest, highest)
        } else {
            ((lowest - 1).max(min), (highest + 1).min(max))
        };
        let margin = self.unit.width() + 1;
        write_scale(margin, lowest, highest, out);
        let start = out.len();
        out.extend_from_slice(self.unit.label().as_bytes());
        let columns = self.unit.label().chars().count();
        out.resize(start + self.unit.label().len() + margin - columns, b' ');
        out.push(b'|');
        out.resize(out.len() + GRAPH - 2, b'_');
        out.extend_from_slice(b"|\n");

        let zero = if lowest < 0 && highest > 0 {
            column(GRAPH, lowest, highest, 0)
        } else {
            0
        };
        for point in &self.points {
            let mut row = [b' '; GRAPH];
            row[0] = b'|';
            row[GRAPH - 1] = b'|';
            if zero > 0 {
                row[zero] = b'.';
            }
            if let Some(value) = point.value {
                row[column(GRAPH - 1, lowest, highest, value)] = b'*';
            }
            out.extend_from_slice(&point.clock);
            out.push(b' ');
            out.extend_from_slice(&row);
            out.push(b' ');
            match point.value {
                Some(value) => out.extend_from_slice(value.to_string().as_bytes()),
                None => out.push(b'-'),
            }
            out.push(b'\n');
        }

        out.resize(out.len() + margin, b' ');
        out.push(b'v');
        out.resize(out.len() + GRAPH - 2, b'_');
        out.extend_from_slice(b"v\n");
        write_scale(margin, lowest, highest, out);
    }

    /// Appends an array of intervals that have values, with their start in UTC.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        let mut separator = None;
        for point in &self.points {
            let Some(value) = point.value else {
                continue;
            };
            out.extend(separator);
            separator = Some(b',');
            out.extend_from_slice(b"{\"interval_start\":\"");
            write_utc(point.start_ns, out);
            out.extend_from_slice(b"\",\"value\":");
            number_value(value).write_json(out);
            out.push(b'}');
        }
        out.push(b']');
    }
}

fn number_value(value: i128) -> Value {
    match i64::try_from(value) {
        Ok(value) => Value::Int(value),
        Err(_) => Value::Unsigned(u64::try_from(value).unwrap_or(u64::MAX)),
    }
}

/// Appends the lowest and the highest value above their ends of the graph.
fn write_scale(margin: usize, lowest: i128, highest: i128, out: &mut Vec<u8>) {
    out.resize(out.len() + margin, b' ');
    let (lowest, highest) = (lowest.to_string(), highest.to_string());
    out.extend_from_slice(lowest.as_bytes());
    let left = LOWEST.max(lowest.len()) - lowest.len();
    let right = (GRAPH - LOWEST).max(highest.len()) - highest.len();
    out.resize(out.len() + left + right, b' ');
    out.extend_from_slice(highest.as_bytes());
    out.push(b'\n');
}

/// Column of a value when `width` columns span the range.
fn column(width: usize, lowest: i128, highest: i128, value: i128) -> usize {
    // Positions have always been computed with single precision; ties depend on it.
    let position = width as f32 * (value - lowest) as f32 / (highest - lowest) as f32;
    (position as usize).min(GRAPH - 1)
}
