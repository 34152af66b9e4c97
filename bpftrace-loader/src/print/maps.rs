//! Maps of the script: read, merged over CPUs, sorted.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io;

use bpftrace_meta::{AggKind, MapId, MapMeta, MapRole, MapValue, TseriesAgg, ValueLayout};

use super::hist::{Counts, Histogram};
use super::map_reader::MapReader;
use super::number;
use super::series::Series;
use super::time::Times;
use super::value::{Decoder, Value, tail};

/// A map read back, merged and sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapDump {
    /// Name as in the script, with `@`.
    pub name: String,
    /// What kind of map JSON output calls it.
    pub kind: MapKind,
    /// The contents.
    pub body: MapBody,
}

/// What kind of map JSON output calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// Values, counts, sums, and extremes.
    Map,
    /// Averages and `stats`.
    Stats,
    /// Histograms.
    Hist,
    /// Time series.
    Tseries,
}

/// Contents of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapBody {
    /// The value of a map without keys.
    Scalar(MapCell),
    /// Keys and values in the order they are shown. A scalar map without a value is an empty one.
    Keyed(Vec<(Value, MapCell)>),
}

/// A value of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapCell {
    /// A value, or a merged aggregation.
    Value(Value),
    /// A histogram.
    Histogram(Histogram),
    /// A time series.
    Series(Series),
}

/// How much of a map is printed, and how.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PrintArgs {
    /// Only the last so many entries; 0: all.
    pub(crate) top: u64,
    /// Divide integers by this; 0 and 1: do not.
    pub(crate) div: u64,
    /// Show the zero value of a scalar map that has none.
    pub(crate) zero_scalar: bool,
}

/// A map of the script, as the printer needs it.
#[derive(Clone, Debug)]
pub(crate) struct ScriptMap {
    pub(crate) id: MapId,
    pub(crate) name: String,
    key: Option<ValueLayout>,
    value: MapValue,
    per_cpu: bool,
}

impl ScriptMap {
    /// `None` for a map that is not the script's.
    pub(crate) fn new(id: MapId, meta: &MapMeta) -> Option<Self> {
        match &meta.role {
            MapRole::Script {
                name,
                key,
                value,
                per_cpu,
            } => Some(Self {
                id,
                name: name.clone(),
                key: key.clone(),
                value: value.clone(),
                per_cpu: *per_cpu,
            }),
            _ => None,
        }
    }

    fn kind(&self) -> MapKind {
        match &self.value {
            MapValue::Aggregate(AggKind::Avg { .. } | AggKind::Stats { .. }) => MapKind::Stats,
            MapValue::Aggregate(AggKind::Hist { .. } | AggKind::Lhist { .. }) => MapKind::Hist,
            MapValue::Aggregate(AggKind::Tseries { .. }) => MapKind::Tseries,
            MapValue::Aggregate(_) | MapValue::Plain(_) => MapKind::Map,
        }
    }

    /// Reads, merges and sorts the map.
    pub(crate) fn read(
        &self,
        maps: &mut dyn MapReader,
        decoder: &mut Decoder,
        args: PrintArgs,
    ) -> io::Result<MapDump> {
        let entries = match &self.value {
            MapValue::Aggregate(kind) if kind.is_bucketed() => {
                self.read_bucketed(kind, maps, &decoder.times, args)?
            }
            value => self.read_cells(value, maps, decoder, args)?,
        };
        let skipped = match usize::try_from(args.top) {
            Ok(top) if top > 0 => entries.len().saturating_sub(top),
            _ => 0,
        };
        let mut entries = entries.into_iter().skip(skipped);
        let body = match (&self.key, entries.next()) {
            (None, Some(entry)) => MapBody::Scalar(entry.cell),
            (None, None) if args.zero_scalar => match self.zero(decoder) {
                Some(zero) => MapBody::Scalar(MapCell::Value(zero)),
                None => MapBody::Keyed(Vec::new()),
            },
            (Some(layout), Some(first)) => MapBody::Keyed(
                std::iter::once(first)
                    .chain(entries)
                    .map(|entry| (decoder.decode(layout, &entry.key), entry.cell))
                    .collect(),
            ),
            (_, None) => MapBody::Keyed(Vec::new()),
        };
        Ok(MapDump {
            name: self.name.clone(),
            kind: self.kind(),
            body,
        })
    }

    /// What a scalar map without a value prints as; nothing for histograms and time series.
    fn zero(&self, decoder: &mut Decoder) -> Option<Value> {
        match &self.value {
            MapValue::Plain(layout) => {
                Some(decoder.decode(layout, &vec![0; layout.size() as usize]))
            }
            MapValue::Aggregate(kind) if kind.is_bucketed() => None,
            MapValue::Aggregate(kind) => Some(Merged::new(kind, &[]).value(1)),
        }
    }

    /// Reads a map with one cell for each key.
    fn read_cells(
        &self,
        value: &MapValue,
        maps: &mut dyn MapReader,
        decoder: &mut Decoder,
        args: PrintArgs,
    ) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let div = args.div.max(1);
        maps.for_each_entry(self.id, &mut |key, bytes| {
            let (order, value) = match value {
                MapValue::Plain(layout) => self.plain_value(layout, bytes, decoder, div),
                MapValue::Aggregate(kind) => {
                    let merged = Merged::new(kind, bytes);
                    (merged.order(), merged.value(div))
                }
            };
            entries.push(Entry {
                key: key.into(),
                order,
                cell: MapCell::Value(value),
            });
        })?;
        self.sort(&mut entries);
        Ok(entries)
    }

    fn plain_value(
        &self,
        layout: &ValueLayout,
        bytes: &[u8],
        decoder: &mut Decoder,
        div: u64,
    ) -> (i128, Value) {
        let (size, signed) = match layout {
            ValueLayout::Int { size, signed } => (*size, *signed),
            ValueLayout::Enum { size, signed, .. } => {
                let bits = number::read(bytes, 0, *size);
                return (extend(bits, *size, *signed), decoder.decode(layout, bytes));
            }
            _ => return (0, divided(decoder.decode(layout, bytes), div)),
        };
        // Cells of CPUs are 8 bytes apart.
        let stride = if self.per_cpu { 8 } else { bytes.len().max(1) };
        let total = bytes.chunks(stride).fold(0_u64, |total, cell| {
            total.wrapping_add(number::read(cell, 0, size))
        });
        let total = number::read(&total.to_le_bytes(), 0, size);
        let value = if signed {
            Value::Int(number::sign_extend(total, size))
        } else {
            Value::Unsigned(total)
        };
        (extend(total, size, signed), divided(value, div))
    }

    /// Reads a map that has an entry for each key and bucket.
    fn read_bucketed(
        &self,
        kind: &AggKind,
        maps: &mut dyn MapReader,
        times: &Times,
        args: PrintArgs,
    ) -> io::Result<Vec<Entry>> {
        let key_size = self.key.as_ref().map_or(0, |key| key.size() as usize);
        let mut entries = match kind {
            AggKind::Tseries {
                interval,
                count,
                agg,
                signed,
            } => {
                let mut by_key: BTreeMap<Box<[u8]>, BTreeMap<u64, i128>> = BTreeMap::new();
                maps.for_each_entry(self.id, &mut |key, bytes| {
                    let series = by_key
                        .entry(key[..key_size.min(key.len())].into())
                        .or_default();
                    let (epoch, value) = merge_interval(bytes, *agg, *signed);
                    series.insert(epoch, value);
                })?;
                build_series(by_key, (*interval, *count, *signed), times)
            }
            _ => {
                let mut by_key: BTreeMap<Box<[u8]>, Counts> = BTreeMap::new();
                maps.for_each_entry(self.id, &mut |key, bytes| {
                    let counts = by_key
                        .entry(key[..key_size.min(key.len())].into())
                        .or_default();
                    let bucket = number::read(key, key.len().saturating_sub(8), 8);
                    let count = cells(bytes, 8).fold(0_u64, |total, cell| {
                        total.wrapping_add(number::read(cell, 0, 8))
                    });
                    counts.insert(bucket, count);
                })?;
                let entry = |(key, counts): (Box<[u8]>, Counts)| Entry {
                    key,
                    order: counts.values().map(|count| i128::from(*count)).sum(),
                    cell: MapCell::Histogram(match *kind {
                        AggKind::Lhist { min, max, step } => {
                            Histogram::linear(&counts, min, max, step)
                        }
                        AggKind::Hist { bits } => Histogram::log2(&counts, bits, args.div),
                        _ => Histogram::default(),
                    }),
                };
                by_key.into_iter().map(entry).collect()
            }
        };
        self.sort(&mut entries);
        Ok(entries)
    }

    /// Sorts by the order of the values, and entries that are equal in it by key.
    fn sort(&self, entries: &mut [Entry]) {
        let key = self.key.as_ref();
        entries.sort_unstable_by(|a, b| {
            a.order.cmp(&b.order).then_with(|| match key {
                Some(layout) => compare_keys(layout, &a.key, &b.key),
                None => Ordering::Equal,
            })
        });
    }
}

/// An entry before its key is decoded.
struct Entry {
    key: Box<[u8]>,
    /// What entries are sorted by before their keys.
    order: i128,
    cell: MapCell,
}

/// An aggregation merged over CPUs.
enum Merged {
    Number {
        number: u64,
        signed: bool,
        /// Of extremes, upstream compares the bits as unsigned.
        order: i128,
    },
    Average {
        total: u64,
        count: u64,
        signed: bool,
    },
    Stats {
        total: u64,
        count: u64,
        signed: bool,
    },
}

impl Merged {
    fn new(kind: &AggKind, bytes: &[u8]) -> Self {
        let word = |cell: &[u8], index: usize| number::read(cell, index * 8, 8);
        let sum = |size: usize, index: usize| {
            cells(bytes, size).fold(0_u64, |total, cell| total.wrapping_add(word(cell, index)))
        };
        match *kind {
            AggKind::Min { signed } | AggKind::Max { signed } => {
                let set = cells(bytes, 16)
                    .filter(|cell| word(cell, 1) != 0)
                    .map(|cell| word(cell, 0));
                let by_value = |number: &u64| extend(*number, 8, signed);
                let number = if matches!(kind, AggKind::Max { .. }) {
                    set.max_by_key(by_value)
                } else {
                    set.min_by_key(by_value)
                };
                let number = number.unwrap_or(0);
                Self::Number {
                    number,
                    signed,
                    order: i128::from(number),
                }
            }
            AggKind::Avg { signed } => Self::Average {
                total: sum(16, 0),
                count: sum(16, 1),
                signed,
            },
            AggKind::Stats { signed } => Self::Stats {
                total: sum(16, 0),
                count: sum(16, 1),
                signed,
            },
            AggKind::Sum { signed } => {
                let number = sum(8, 0);
                Self::Number {
                    number,
                    signed,
                    order: extend(number, 8, signed),
                }
            }
            _ => {
                let number = sum(8, 0);
                Self::Number {
                    number,
                    signed: false,
                    order: i128::from(number),
                }
            }
        }
    }

    fn order(&self) -> i128 {
        match *self {
            Self::Number { order, .. } => order,
            Self::Average {
                total,
                count,
                signed,
            }
            | Self::Stats {
                total,
                count,
                signed,
            } => average(total, count, signed),
        }
    }

    fn value(&self, div: u64) -> Value {
        let integer = |number: i128, signed: bool| {
            if signed {
                Value::Int(number as i64)
            } else {
                Value::Unsigned(number as u64)
            }
        };
        match *self {
            Self::Number { number, signed, .. } => {
                integer(extend(number, 8, signed) / i128::from(div), signed)
            }
            Self::Average {
                total,
                count,
                signed,
            } => integer(average(total, count, signed) / i128::from(div), signed),
            Self::Stats {
                total,
                count,
                signed,
            } => Value::Record(vec![
                ("count".into(), Value::Unsigned(count)),
                // The only one of them that is divided.
                (
                    "average".into(),
                    integer(average(total, count, signed) / i128::from(div), signed),
                ),
                ("total".into(), integer(extend(total, 8, signed), signed)),
            ]),
        }
    }
}

fn average(total: u64, count: u64, signed: bool) -> i128 {
    match count {
        0 => 0,
        count => extend(total, 8, signed) / i128::from(count),
    }
}

fn extend(bits: u64, size: u8, signed: bool) -> i128 {
    if signed {
        i128::from(number::sign_extend(bits, size))
    } else {
        i128::from(bits)
    }
}

/// The cells of all CPUs.
fn cells(bytes: &[u8], size: usize) -> std::slice::ChunksExact<'_, u8> {
    bytes.chunks_exact(size)
}

/// Divides the integers in a value.
fn divided(value: Value, div: u64) -> Value {
    if div <= 1 {
        return value;
    }
    let all = |values: Vec<Value>| {
        values
            .into_iter()
            .map(|value| divided(value, div))
            .collect()
    };
    match value {
        Value::Int(number) => Value::Int((i128::from(number) / i128::from(div)) as i64),
        Value::Unsigned(number) => Value::Unsigned(number / div),
        Value::Array(values) => Value::Array(all(values)),
        Value::Tuple(values) => Value::Tuple(all(values)),
        Value::Record(fields) => Value::Record(
            fields
                .into_iter()
                .map(|(name, value)| (name, divided(value, div)))
                .collect(),
        ),
        other => other,
    }
}

/// Merges the cells of one slot of a time series: the newest epoch in it, and the value of that. A
/// slot without one was zeroed and counts as epoch 0 with value 0.
fn merge_interval(bytes: &[u8], agg: TseriesAgg, signed: bool) -> (u64, i128) {
    let word = |cell: &[u8], index: usize| number::read(cell, index * 8, 8);
    // An epoch of 0 is a cell that was never used.
    let newest = cells(bytes, 24)
        .map(|cell| word(cell, 2))
        .max()
        .unwrap_or(0);
    if newest == 0 {
        return (0, 0);
    }
    let current = || cells(bytes, 24).filter(|cell| word(cell, 2) == newest);
    let value = |cell: &[u8]| extend(word(cell, 0), 8, signed);
    let total = || {
        let bits = current().fold(0_u64, |total, cell| total.wrapping_add(word(cell, 0)));
        extend(bits, 8, signed)
    };
    let merged = match agg {
        // Of two cells as new as each other, the first.
        TseriesAgg::Last => current()
            .rev()
            .max_by_key(|cell| word(cell, 1))
            .map_or(0, value),
        TseriesAgg::Max => current().map(value).max().unwrap_or(0),
        TseriesAgg::Min => current().map(value).min().unwrap_or(0),
        TseriesAgg::Sum => total(),
        TseriesAgg::Avg => {
            let count = current().fold(0_u64, |count, cell| count.wrapping_add(word(cell, 1)));
            total() / i128::from(count.max(1))
        }
    };
    (newest, merged)
}

/// Builds the series of all keys, which end together: at the newest interval of any of them.
fn build_series(
    by_key: BTreeMap<Box<[u8]>, BTreeMap<u64, i128>>,
    (interval, n_intervals, signed): (u64, u64, bool),
    times: &Times,
) -> Vec<Entry> {
    let newest_of = |series: &BTreeMap<u64, i128>| series.keys().next_back().copied();
    let last = by_key.values().filter_map(newest_of).max().unwrap_or(0);
    let oldest_kept = last.saturating_sub(n_intervals.saturating_sub(1));
    let build = |(key, series): (Box<[u8]>, BTreeMap<u64, i128>)| {
        // When all there is was zeroed, there is no interval to show.
        let kept = series.range(oldest_kept..).next().filter(|_| last > 0);
        let first = kept.map(|(epoch, _)| *epoch);
        let epochs = first.map(|first| first..=last).into_iter().flatten();
        let values = epochs.map(|epoch| (epoch, series.get(&epoch).copied()));
        Entry {
            order: i128::from(newest_of(&series).unwrap_or(0)),
            cell: MapCell::Series(Series::new(values, interval, signed, times)),
            key,
        }
    };
    by_key.into_iter().map(build).collect()
}

/// Compares two keys: integers as signed, strings by their bytes, elements one after the other.
fn compare_keys(layout: &ValueLayout, a: &[u8], b: &[u8]) -> Ordering {
    match layout {
        ValueLayout::Int { size, .. } | ValueLayout::Enum { size, .. } => {
            let signed = |bytes| number::sign_extend(number::read(bytes, 0, *size), *size);
            signed(a).cmp(&signed(b))
        }
        ValueLayout::Bool | ValueLayout::Pointer | ValueLayout::KernelSymbol => {
            let size = layout.size() as u8;
            number::read(a, 0, size).cmp(&number::read(b, 0, size))
        }
        ValueLayout::Tuple { fields, .. } | ValueLayout::Record { fields, .. } => fields
            .iter()
            .map(|field| {
                let offset = field.offset as usize;
                compare_keys(&field.layout, tail(a, offset), tail(b, offset))
            })
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal),
        _ => {
            let size = layout.size() as usize;
            a[..size.min(a.len())].cmp(&b[..size.min(b.len())])
        }
    }
}
