use serde::{Deserialize, Serialize};

use crate::ValueLayout;

/// Index of a map in [`crate::Manifest::maps`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MapId(pub u32);

/// A BPF map of the object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapMeta {
    /// Name of the map's symbol in the object.
    pub symbol: String,
    /// What it is for.
    pub role: MapRole,
    /// How many entries it gets; set before load.
    pub size: MapSize,
}

/// What a map is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MapRole {
    /// A map of the script.
    Script {
        /// Name as in the script, with `@`.
        name: String,
        /// Key; `None` for a scalar map, whose only key is the `u64` 0.
        /// Maps of histograms and time series append the bucket, a `u64`, to the key (aligned to 8
        /// bytes; a scalar one has the bucket as its key): see [`MapValue`].
        key: Option<ValueLayout>,
        /// Value.
        value: MapValue,
        /// Whether every CPU has a value of its own.
        per_cpu: bool,
    },
    /// The ring buffer that events go through.
    RingBuffer,
    /// Perf event array that packets of `skboutput` go through, one buffer for each CPU.
    Packets,
    /// Array of one entry about events that found the ring buffer full: see [`crate::LostLayout`].
    LostEvents,
    /// Per-CPU scratch memory of BPF programs; never read by the loader.
    Scratch,
    /// Array of strings: the loader writes the name of attached target number `i` to entry `i`.
    ProbeNames {
        /// Bytes of an entry.
        size: u32,
    },
    /// Array of `u64`: the loader writes to entry `i` the address of target number `i`, a probe in a
    /// process, in its file.
    ProbeAddresses,
    /// The keys of a map of the script, for kernels without [`crate::Feature::LargeMapKeys`]; others do
    /// without this map. The keys here are 16 bytes, a hash of what the values are: the keys of map
    /// `of`, padded to 8 bytes and without bucket. Map `of` then has these 16 bytes as its keys
    /// (followed by the bucket, if it has buckets).
    Keys {
        /// The map of the script.
        of: MapId,
    },
    /// Array: the loader writes to entry `i` where target number `i`, a USDT probe, has its arguments
    /// ([`crate::UsdtArg`]), and which target is the first of its name.
    UsdtArgs {
        /// Bit `n` is set when the script reads argument `n`.
        used: u16,
    },
    /// A table that stacks are unwound with, which the loader makes from the files of the processes that
    /// the session is about: see [`crate::unwind`].
    Unwind(UnwindTable),
    /// A map that only BPF programs use.
    Internal,
}

/// Which table of unwinding a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum UnwindTable {
    /// Hash from a pid (`u32`) to the process's rows: [`crate::unwind::ProcessRows`].
    Processes,
    /// Array of [`crate::unwind::Row`].
    Rows,
    /// Array of [`crate::unwind::Rule`].
    Rules,
}

/// How many entries a map gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MapSize {
    /// As the object says.
    Fixed,
    /// As `max_map_keys` says on the target.
    MaxMapKeys,
    /// `max_map_keys` times this many buckets (histograms), at most the kernel's limit.
    MaxMapKeysTimes(u32),
    /// Bytes of the ring buffer, chosen by the loader.
    RingBuffer,
    /// One for each target that gets attached.
    Targets,
    /// As many as a table of unwinding has.
    Unwind,
}

/// The value of a map of the script.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MapValue {
    /// One value, assigned by `=`.
    Plain(ValueLayout),
    /// An aggregation.
    Aggregate(AggKind),
}

/// An aggregation: what a cell holds on each CPU, and how cells are merged.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AggKind {
    /// `u64` number; merged by adding.
    Count,
    /// `u64`/`i64` total; merged by adding.
    Sum {
        /// Signedness of the argument.
        signed: bool,
    },
    /// `u64` value, `u64` is-set flag; 16 bytes; merged by the smallest set one.
    Min {
        /// Signedness of the argument.
        signed: bool,
    },
    /// `u64` value, `u64` is-set flag; 16 bytes; merged by the largest set one.
    Max {
        /// Signedness of the argument.
        signed: bool,
    },
    /// `u64` total, `u64` count; 16 bytes; merged by adding both.
    Avg {
        /// Signedness of the argument.
        signed: bool,
    },
    /// `u64` total, `u64` count; 16 bytes; merged by adding both.
    Stats {
        /// Signedness of the argument.
        signed: bool,
    },
    /// `u64` counter for each (key, bucket); bucket numbers as `hist` computes them.
    Hist {
        /// log2 of the number of buckets a power of two is divided into, 0 to 5.
        bits: u8,
    },
    /// `u64` counter for each (key, bucket).
    Lhist {
        /// Lower bound of the first closed bucket.
        min: u64,
        /// Upper bound of the last closed bucket.
        max: u64,
        /// Width of a bucket.
        step: u64,
    },
    /// `u64` value, `u64` meta (timestamp or count), `u64` epoch for each (key, slot).
    Tseries {
        /// Nanoseconds of an interval.
        interval: u64,
        /// Number of intervals kept.
        count: u64,
        /// How values of one interval are merged.
        agg: TseriesAgg,
        /// Signedness of the value.
        signed: bool,
    },
}

impl AggKind {
    /// Bytes of a cell.
    #[must_use]
    pub fn cell_size(&self) -> u32 {
        match self {
            Self::Count | Self::Sum { .. } | Self::Hist { .. } | Self::Lhist { .. } => 8,
            Self::Min { .. } | Self::Max { .. } | Self::Avg { .. } | Self::Stats { .. } => 16,
            Self::Tseries { .. } => 24,
        }
    }

    /// Whether each key is stored once per bucket, with the bucket number behind the key.
    #[must_use]
    pub fn is_bucketed(&self) -> bool {
        matches!(
            self,
            Self::Hist { .. } | Self::Lhist { .. } | Self::Tseries { .. }
        )
    }
}

/// How a time series merges the values of one interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TseriesAgg {
    /// The newest value.
    Last,
    /// The mean.
    Avg,
    /// The largest.
    Max,
    /// The smallest.
    Min,
    /// The total.
    Sum,
}
