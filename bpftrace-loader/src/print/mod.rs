//! The printing half of the loader: records of the ring buffer and contents of maps become text or
//! JSON.
//!
//! In: the manifest, the bytes of records, and maps through [`MapReader`]. Out: calls of a [`Sink`],
//! and to the run loop an [`Action`]. It asks the kernel nothing but names (symbols, users,
//! cgroups), through a trait; without a kernel it is tested with a capturing sink and fakes.
//!
//! ```text
//! record ──▶ Printer::handle ──▶ event table ──▶ printf: straight to bytes ───────────▶ Sink
//!                                     │   └────▶ print: ValueLayout + bytes ▶ Value ──▶ Sink
//!                                     └────────▶ maps:  MapReader ▶ merge, sort ▶ MapDump ▶ Sink
//! ```
//!
//! Read [`Printer`] first, then [`Sink`] and [`Value`].

mod map_reader;
mod sink;

use std::io;

use bpftrace_meta::{Manifest, RunConfig};

pub use map_reader::MapReader;
pub use sink::{
    BenchResult, BufferMode, Located, MessageKind, OutputKind, ScriptOutput, Severity, Sink,
    TestResult,
};

/// Which run-time warnings are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WarningMode {
    /// `--no-warnings`: none, not even those of `warnf`.
    Off,
    /// Those that the compiled program reports.
    #[default]
    On,
}

/// What a [`Printer`] has to know beside the manifest.
#[derive(Clone, Debug, Default)]
pub struct PrinterOptions {
    /// Configuration as resolved: the script's, overridden by the environment.
    pub config: RunConfig,
    /// Name of each attached target, by its number.
    pub target_names: Vec<String>,
    /// Which warnings are shown.
    pub warnings: WarningMode,
}

/// What the run loop has to do after a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Go on.
    Continue,
    /// End the session; the exit status is this code modulo 256.
    Exit(i64),
    /// Detach the watchpoint at this address.
    Unwatch(u64),
    /// Nobody reads the output any more (broken pipe): end the session quietly with status 0,
    /// without printing anything.
    OutputClosed,
}

/// A value read back, with its names resolved.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {}

/// A map read back, merged and sorted.
#[derive(Clone, Debug, PartialEq)]
pub struct MapDump {}

/// Turns records into output.
pub struct Printer {}

impl Printer {
    /// Prepares the events of `manifest`.
    #[must_use]
    pub fn new(_manifest: &Manifest, _options: PrinterOptions) -> Self {
        Self {}
    }

    /// Sets the name of attached target `number`, for targets that are attached later than the
    /// printer is made.
    pub fn set_target_name(&mut self, _number: u64, _name: String) {}

    /// Handles one record of the ring buffer.
    ///
    /// A record that does not fit the manifest is skipped, with one warning for the session.
    /// Errors are those of writing output other than a broken pipe.
    pub fn handle(
        &mut self,
        _record: &[u8],
        _maps: &mut dyn MapReader,
        _sink: &mut dyn Sink,
    ) -> io::Result<Action> {
        Ok(Action::Continue)
    }

    /// Ends the output: what separates it from the maps, all maps that have entries (unless
    /// `print_maps_on_exit` is false), and a flush. A broken pipe is not an error.
    pub fn finish(&mut self, _maps: &mut dyn MapReader, _sink: &mut dyn Sink) -> io::Result<()> {
        Ok(())
    }
}
