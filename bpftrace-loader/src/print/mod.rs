//! The printing half of the loader: records of the ring buffer and contents of maps become text or
//! JSON.
//!
//! In: the manifest, the bytes of records, and maps through [`MapReader`]. Out: calls of a [`Sink`],
//! and to the run loop an [`Action`]. It asks the machine nothing but names (symbols, users,
//! cgroups) and the time; without a kernel it is tested with [`CaptureSink`] and fakes.
//!
//! ```text
//! record ──▶ Printer::handle ──▶ event table ──▶ printf: straight to bytes ───────────▶ Sink
//!                                     │   └────▶ print: ValueLayout + bytes ▶ Value ──▶ Sink
//!                                     └────────▶ maps:  MapReader ▶ merge, sort ▶ MapDump ▶ Sink
//! ```
//!
//! Read [`Printer`] first, then [`Sink`] and [`Value`].

mod events;
mod format;
mod gfp;
mod hist;
mod json;
mod map_reader;
mod maps;
mod names;
mod number;
mod pcap;
mod printer;
mod processes;
mod series;
mod sink;
mod stack;
mod symbolize;
mod text;
mod time;
mod value;

#[cfg(test)]
mod tests;

pub use hist::{Bucket, Edge, Histogram};
pub use map_reader::MapReader;
pub use maps::{MapBody, MapCell, MapDump, MapKind};
pub use printer::{Action, Printer, PrinterOptions, WarningMode};
pub use series::{Point, Series};
pub use sink::{
    BenchResult, BufferMode, CaptureSink, JsonSink, Located, MessageKind, OutputKind, ScriptOutput,
    Severity, Sink, TestResult, TextSink,
};
pub use value::Value;
