//! Histograms: buckets with their edges and labels, as bars of text and as JSON.

use std::collections::BTreeMap;

use super::json;
use super::number;

/// Width of a bar in characters.
const BAR: usize = 52;

/// Highest bucket number that BPF programs count in: `hist` with 5 bits has 65 * 32 buckets.
const MAX_BUCKET: u64 = 65 * 32;

/// Counts by bucket number, as read from a map.
pub(crate) type Counts = BTreeMap<u64, u64>;

/// A histogram, from its first to its last bucket that is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Buckets without gaps; none when all counts are zero.
    pub buckets: Vec<Bucket>,
}

/// A bucket: integers from `lower` to below `upper`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Lower edge; `None` for the bucket of everything below `upper`.
    pub lower: Option<Edge>,
    /// Upper edge; `None` for the bucket of everything from `lower` on.
    pub upper: Option<Edge>,
    /// How many values fell into it.
    pub count: u64,
}

/// An edge of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The integer.
    pub value: i128,
    /// Its text where that is not its digits, as `4K`.
    pub label: Option<String>,
}

impl Edge {
    fn plain(value: i128) -> Self {
        Self { value, label: None }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match &self.label {
            Some(label) => out.extend_from_slice(label.as_bytes()),
            None => out.extend_from_slice(self.value.to_string().as_bytes()),
        }
    }
}

impl Histogram {
    /// A histogram with logarithmic buckets, each power of two divided into `1 << bits` of them.
    /// Counts are divided by `div`.
    pub(crate) fn log2(counts: &Counts, bits: u8, div: u64) -> Self {
        Self::new(counts, |bucket| {
            let lower = bucket.checked_sub(1).map(|below| log2_edge(below, bits));
            (lower, Some(log2_edge(bucket, bits)))
        })
        .divided(div)
    }

    /// A histogram with buckets of `step`.
    pub(crate) fn linear(counts: &Counts, min: u64, max: u64, step: u64) -> Self {
        let (min, max, step) = (i128::from(min), i128::from(max), i128::from(step));
        Self::new(counts, |bucket| {
            let edge = |index: u64| min + i128::from(index) * step;
            let lower = bucket
                .checked_sub(1)
                .map(|below| linear_edge(edge(below), step));
            let upper = edge(bucket);
            (lower, (upper <= max).then(|| linear_edge(upper, step)))
        })
    }

    fn new(counts: &Counts, edges: impl Fn(u64) -> (Option<Edge>, Option<Edge>)) -> Self {
        let mut used = counts
            .range(..=MAX_BUCKET)
            .filter(|(_, count)| **count > 0)
            .map(|(bucket, _)| *bucket);
        let Some(first) = used.next() else {
            return Self::default();
        };
        let last = used.next_back().unwrap_or(first);
        let buckets = (first..=last)
            .map(|bucket| {
                let (lower, upper) = edges(bucket);
                let count = counts.get(&bucket).copied().unwrap_or(0);
                Bucket {
                    lower,
                    upper,
                    count,
                }
            })
            .collect();
        Self { buckets }
    }

    fn divided(mut self, div: u64) -> Self {
        for bucket in &mut self.buckets {
            bucket.count /= div.max(1);
        }
        self
    }

    /// Appends a line for each bucket.
    pub fn write_text(&self, out: &mut Vec<u8>) {
        let most = self.buckets.iter().map(|b| b.count).max().unwrap_or(0);
        for bucket in &self.buckets {
            let start = out.len();
            bucket.write_label(out);
            fill_to(start + 16, out);
            let start = out.len();
            number::push_decimal(bucket.count, out);
            let digits = out.len() - start;
            if digits < 8 {
                out.resize(start + 8, b' ');
                out.copy_within(start..start + digits, start + 8 - digits);
                out[start..start + 8 - digits].fill(b' ');
            }
            out.extend_from_slice(b" |");
            let start = out.len();
            // Bars have always been computed with single precision; ties depend on it.
            let share = if most == 0 {
                0.0
            } else {
                bucket.count as f32 / most as f32
            };
            out.resize(start + ((share * BAR as f32) as usize).min(BAR), b'@');
            fill_to(start + BAR, out);
            out.extend_from_slice(b"|\n");
        }
    }

    /// Appends an array of buckets, whose `max` is the highest integer in them.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        json::write_array(&self.buckets, out, |bucket, out| {
            out.push(b'{');
            if let Some(lower) = &bucket.lower {
                out.extend_from_slice(b"\"min\": ");
                json::write_number(lower.value, out);
                out.extend_from_slice(b", ");
            }
            if let Some(upper) = &bucket.upper {
                out.extend_from_slice(b"\"max\": ");
                json::write_number(upper.value - 1, out);
                out.extend_from_slice(b", ");
            }
            out.extend_from_slice(b"\"count\": ");
            json::write_number(i128::from(bucket.count), out);
            out.push(b'}');
        });
    }
}

impl Bucket {
    fn write_label(&self, out: &mut Vec<u8>) {
        match (&self.lower, &self.upper) {
            (Some(lower), Some(upper))
                if lower.label.is_none()
                    && upper.label.is_none()
                    && lower.value + 1 == upper.value =>
            {
                out.push(b'[');
                lower.write(out);
                out.push(b']');
            }
            (lower, upper) => {
                match lower {
                    Some(lower) => {
                        out.push(b'[');
                        lower.write(out);
                    }
                    None => out.extend_from_slice(b"(..."),
                }
                out.extend_from_slice(b", ");
                match upper {
                    Some(upper) => upper.write(out),
                    None => out.extend_from_slice(b"..."),
                }
                out.push(b')');
            }
        }
    }
}

fn fill_to(length: usize, out: &mut Vec<u8>) {
    if out.len() < length {
        out.resize(length, b' ');
    }
}

/// The upper edge of a logarithmic bucket, which is the lower edge of the next one.
fn log2_edge(bucket: u64, bits: u8) -> Edge {
    let per_power = 1_u64 << bits.min(5);
    if bucket <= 2 * per_power {
        return Edge::plain(i128::from(bucket));
    }
    // A power of two is divided into `per_power` buckets; the suffix is chosen by the power alone.
    let power = bucket / per_power - 1;
    let mantissa = i128::from(per_power + bucket % per_power);
    let suffix = ["", "K", "M", "G", "T", "P", "E"].get((power / 10) as usize);
    let Some(suffix) = suffix.filter(|_| power < 64) else {
        // No program counts here.
        return Edge::plain(i128::from(u64::MAX));
    };
    Edge {
        value: mantissa << power,
        label: Some(format!("{}{suffix}", mantissa << (power % 10))),
    }
}

/// An edge of a linear bucket; in K and M when the step is whole ones.
fn linear_edge(value: i128, step: i128) -> Edge {
    const KILO: i128 = 1024;
    const MEGA: i128 = 1024 * 1024;
    let label = if step % KILO != 0 {
        None
    } else if value == 0 {
        Some("0".to_owned())
    } else if value % MEGA == 0 {
        Some(format!("{}M", value / MEGA))
    } else if value % KILO == 0 {
        Some(format!("{}K", value / KILO))
    } else {
        Some(value.to_string())
    };
    Edge { value, label }
}
