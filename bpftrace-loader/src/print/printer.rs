use std::io;
use std::path::{Path, PathBuf};

use bpftrace_meta::{CacheUserSymbols, Manifest, MapId, RunConfig, SourceMeta};

use super::events::{
    Event, Kind, helper_message, read_file, read_integer, reason, run_shell, shell_failure,
    write_joined,
};
use super::map_reader::MapReader;
use super::maps::{PrintArgs, ScriptMap};
use super::names::Names;
use super::number;
use super::pcap::PcapFiles;
use super::processes::{prints_user_symbols, processes_of};
use super::sink::{Located, MessageKind, OutputKind, Sink};
use super::stack::StackRenderer;
use super::symbolize::{HostSymbols, SymbolOptions, Symbolize};
use super::time::{Times, Zone};
use super::value::{Decoder, tail};
use crate::ffi::clock;

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
    /// Directories with split debug information (`--debuginfo`); empty: the usual ones.
    pub debug_dirs: Vec<PathBuf>,
    /// Whether the session runs a command of its own (`-c`), which changes how user symbols are
    /// cached by default.
    pub runs_command: bool,
}

/// What the run loop has to do after a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Go on.
    Continue,
    /// Go on; the record took its time, for it ran a command.
    Waited,
    /// End the session; the exit status is this code modulo 256.
    Exit(i64),
    /// Detach the watchpoint at this address.
    Unwatch(u64),
    /// Nobody reads the output any more (broken pipe): end the session quietly with status 0,
    /// without printing anything.
    OutputClosed,
}

/// Turns records into output.
pub struct Printer {
    events: Vec<Event>,
    /// By [`MapId`]; `None` for maps that are not the script's.
    maps: Vec<Option<ScriptMap>>,
    decoder: Decoder,
    source: SourceMeta,
    warnings: WarningMode,
    max_cat_bytes: u64,
    print_maps_on_exit: bool,
    unsafe_mode: bool,
    /// Whether any value is a symbol or a stack of user space.
    prints_user_symbols: bool,
    pcaps: PcapFiles,
    /// What is being written; kept for its memory.
    text: Vec<u8>,
    /// Whether a malformed record was reported.
    malformed: bool,
}

/// Bytes that `cat` prints of a file when the script does not say.
const DEFAULT_MAX_CAT_BYTES: u64 = 10_240;

impl Printer {
    /// Prepares the events of `manifest`.
    #[must_use]
    pub fn new(manifest: &Manifest, options: PrinterOptions) -> Self {
        let config = &options.config;
        // A clock that cannot be read leaves dates of the year 1970.
        let boot_epoch_ns = clock::boot_epoch_ns().unwrap_or(0);
        let times = Times::new(
            Zone::Local,
            u64::try_from(boot_epoch_ns).unwrap_or(0),
            time_limit(manifest),
            &manifest.time_formats,
        );
        let cache = config.cache_user_symbols.unwrap_or_else(|| {
            if options.runs_command || !addresses_are_randomized() {
                CacheUserSymbols::PerProgram
            } else {
                CacheUserSymbols::PerPid
            }
        });
        let symbols = HostSymbols::new(SymbolOptions {
            demangle: config.cpp_demangle.unwrap_or(true),
            debug_info: config.show_debug_info.unwrap_or(true),
            debug_dirs: options.debug_dirs.clone(),
            by_program: cache == CacheUserSymbols::PerProgram,
        });
        Self::with_machine(manifest, options, times, Box::new(symbols), cache)
    }

    /// A printer that asks no machine.
    pub(crate) fn with_machine(
        manifest: &Manifest,
        options: PrinterOptions,
        times: Times,
        symbols: Box<dyn Symbolize>,
        cache: CacheUserSymbols,
    ) -> Self {
        let config = &options.config;
        let names = Names::new(manifest.cgroup_filters.clone(), options.target_names);
        let trailer = config.str_trunc_trailer.as_deref().unwrap_or("..");
        let stacks = StackRenderer::new(symbols, cache);
        let maps = (0_u32..).map(MapId).zip(&manifest.maps);
        Self {
            events: manifest.events.iter().map(Event::new).collect(),
            maps: maps.map(|(id, meta)| ScriptMap::new(id, meta)).collect(),
            decoder: Decoder::new(manifest, trailer, times, names, stacks),
            source: manifest.source.clone(),
            warnings: options.warnings,
            max_cat_bytes: config.max_cat_bytes.unwrap_or(DEFAULT_MAX_CAT_BYTES),
            print_maps_on_exit: config.print_maps_on_exit.unwrap_or(true),
            unsafe_mode: manifest.options.unsafe_mode,
            prints_user_symbols: prints_user_symbols(manifest),
            pcaps: PcapFiles::default(),
            text: Vec::new(),
            malformed: false,
        }
    }

    /// Sets the name of attached target `number`, for targets that are attached later than the
    /// printer is made.
    pub fn set_target_name(&mut self, number: u64, name: String) {
        self.decoder.names.set_target(number, name);
    }

    /// Remembers the memory maps of running processes, so that their addresses can be resolved after
    /// they ended: of `pid`, or else of those that run one of `programs`. Does nothing when the
    /// script prints no symbols of user space. Worth calling once probes are attached.
    pub fn remember_processes(&mut self, pid: Option<u32>, programs: &[&Path]) {
        if !self.prints_user_symbols {
            return;
        }
        match pid {
            Some(pid) => self.decoder.stacks.remember_process(pid),
            None if programs.is_empty() => {}
            None => {
                for pid in processes_of(programs) {
                    self.decoder.stacks.remember_process(pid);
                }
            }
        }
    }

    /// Handles one record of the ring buffer.
    ///
    /// A record that does not fit the manifest is skipped, with one warning for the session.
    /// Errors are those of writing output other than a broken pipe.
    pub fn handle(
        &mut self,
        record: &[u8],
        maps: &mut dyn MapReader,
        sink: &mut dyn Sink,
    ) -> io::Result<Action> {
        match self.try_handle(record, maps, sink) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Action::OutputClosed),
            result => result,
        }
    }

    /// Ends the output: what separates it from the maps, all maps that have entries (unless
    /// `print_maps_on_exit` is false), and a flush. A broken pipe is not an error.
    pub fn finish(&mut self, maps: &mut dyn MapReader, sink: &mut dyn Sink) -> io::Result<()> {
        match self.try_finish(maps, sink) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }

    /// Lets packets be seen in their files.
    pub(crate) fn flush_packets(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        flush_packets(&mut self.pcaps, sink)
    }

    fn try_finish(&mut self, maps: &mut dyn MapReader, sink: &mut dyn Sink) -> io::Result<()> {
        self.flush_packets(sink)?;
        sink.end_of_run()?;
        if self.print_maps_on_exit {
            let mut script_maps: Vec<&ScriptMap> = self.maps.iter().flatten().collect();
            script_maps.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            for map in script_maps {
                match map.read(maps, &mut self.decoder, PrintArgs::default()) {
                    Ok(dump) => {
                        sink.map(&dump)?;
                    }
                    Err(error) => map_error(map, "read", &error, sink)?,
                }
            }
        }
        sink.flush()
    }

    fn try_handle(
        &mut self,
        record: &[u8],
        maps: &mut dyn MapReader,
        sink: &mut dyn Sink,
    ) -> io::Result<Action> {
        let index = usize::try_from(number::read(record, 0, 8)).unwrap_or(usize::MAX);
        let event = self.events.get(index);
        let Some(event) = event.filter(|event| event.size <= record.len()) else {
            return self.skip_malformed(sink);
        };
        let text = &mut self.text;
        text.clear();
        match &event.kind {
            Kind::Printf(format) => {
                format.write(record, &mut self.decoder, text);
                sink.output(OutputKind::Printf, text)?;
            }
            Kind::Errorf(format) => {
                format.write(record, &mut self.decoder, text);
                located(event, MessageKind::Errorf, text, &self.source, sink)?;
            }
            Kind::Warnf(format) => {
                if self.warnings == WarningMode::On {
                    format.write(record, &mut self.decoder, text);
                    located(event, MessageKind::Warnf, text, &self.source, sink)?;
                }
            }
            Kind::System(format) => {
                format.write(record, &mut self.decoder, text);
                if !self.unsafe_mode {
                    sink.error("system() is not allowed in safe mode. Use '--unsafe'.")?;
                    return Ok(Action::Continue);
                }
                // The command may write to the same terminal, or read the files of packets.
                sink.flush()?;
                flush_packets(&mut self.pcaps, sink)?;
                let mut output = Vec::new();
                match run_shell(text, &mut output) {
                    Ok(status) => {
                        let failure = shell_failure(status);
                        if failure.is_none() || !output.is_empty() {
                            sink.output(OutputKind::System, &output)?;
                        }
                        if let Some(failure) = failure {
                            sink.error(&failure)?;
                        }
                    }
                    Err(error) => {
                        sink.error(&format!("failed to run a shell ({})", reason(&error)))?;
                    }
                }
                return Ok(Action::Waited);
            }
            Kind::Cat(format) => {
                format.write(record, &mut self.decoder, text);
                let mut content = Vec::new();
                match read_file(text, self.max_cat_bytes, &mut content) {
                    Ok(()) => sink.output(OutputKind::Cat, &content)?,
                    Err(error) => {
                        let path = String::from_utf8_lossy(text);
                        let reason = reason(&error);
                        sink.error(&format!("failed to open file '{path}' ({reason})"))?;
                    }
                }
            }
            Kind::PrintValue(arg) => {
                let bytes = tail(record, arg.offset as usize);
                let value = self.decoder.decode(&arg.layout, bytes);
                sink.value(&value)?;
            }
            Kind::PrintMap { map, top, div } => {
                let args = PrintArgs {
                    top: *top,
                    div: *div,
                    zero_scalar: true,
                };
                let Some(map) = script_map(&self.maps, *map) else {
                    return self.skip_malformed(sink);
                };
                match map.read(maps, &mut self.decoder, args) {
                    Ok(dump) => sink.map(&dump)?,
                    Err(error) => map_error(map, "read", &error, sink)?,
                }
            }
            Kind::ClearMap(map) => {
                if let Err(error) = maps.clear(*map)
                    && let Some(map) = script_map(&self.maps, *map)
                {
                    map_error(map, "clear", &error, sink)?;
                }
            }
            Kind::ZeroMap(map) => {
                if let Err(error) = maps.zero(*map)
                    && let Some(map) = script_map(&self.maps, *map)
                {
                    map_error(map, "zero", &error, sink)?;
                }
            }
            Kind::Exit(code) => {
                return Ok(Action::Exit(
                    code.as_ref().map_or(0, |code| read_integer(code, record)),
                ));
            }
            Kind::Time(format) => {
                let now = std::time::SystemTime::now()
                    .duration_since(std::time::UNIX_EPOCH)
                    .map_or(0, |since| since.as_secs());
                if self.decoder.times.write_now(now, format, text) {
                    sink.output(OutputKind::Time, text)?;
                } else {
                    sink.error("strftime returned zero")?;
                }
            }
            Kind::Join { list, separator } => {
                write_joined(list, separator, record, text);
                sink.output(OutputKind::Join, text)?;
            }
            Kind::SkbOutput {
                path,
                skip,
                time,
                len,
            } => {
                let time = read_integer(time, record).cast_unsigned();
                let time = self.decoder.times.since_1970(time);
                let len = read_integer(len, record).cast_unsigned();
                let packet = packet_bytes(tail(record, event.size), len, *skip);
                if packet.is_empty() {
                    return Ok(Action::Continue);
                }
                if let Err(error) = self.pcaps.write(path, time, packet) {
                    let reason = reason(&error);
                    sink.error(&format!("failed to write packet to '{path}' ({reason})"))?;
                }
            }
            Kind::Unwatch(address) => {
                return Ok(Action::Unwatch(
                    read_integer(address, record).cast_unsigned(),
                ));
            }
            Kind::DivideByZero => {
                let text =
                    b"Divide or modulo by 0 detected. This can lead to unexpected results. 1 is \
                             being used as the result.";
                self.warn(event, MessageKind::Runtime, text, sink)?;
            }
            Kind::ArrayOutOfBounds => {
                let text = b"Array access out of bounds. This can lead to unexpected results.";
                self.warn(event, MessageKind::Runtime, text, sink)?;
            }
            Kind::NoUnwindTables => {
                let text =
                    b"No DWARF unwind data available for this process. Use -p or --dwarf-pid \
                             to specify target PIDs.";
                self.warn(event, MessageKind::Runtime, text, sink)?;
            }
            Kind::HelperFailed { helper, retcode } => {
                let retcode = retcode.as_ref().map_or(0, |arg| read_integer(arg, record));
                let text = helper_message(helper, retcode);
                let name = helper.as_str();
                let kind = MessageKind::Helper { name, retcode };
                self.warn(event, kind, text.as_bytes(), sink)?;
            }
            Kind::Malformed => return self.skip_malformed(sink),
        }
        Ok(Action::Continue)
    }

    /// A warning of the running program.
    fn warn(
        &self,
        event: &Event,
        kind: MessageKind<'_>,
        text: &[u8],
        sink: &mut dyn Sink,
    ) -> io::Result<()> {
        match self.warnings {
            WarningMode::On => located(event, kind, text, &self.source, sink),
            WarningMode::Off => Ok(()),
        }
    }

    fn skip_malformed(&mut self, sink: &mut dyn Sink) -> io::Result<Action> {
        if !self.malformed {
            self.malformed = true;
            sink.warning("skipped an event that does not fit the program")?;
        }
        Ok(Action::Continue)
    }
}

/// Most bytes of a formatted time: as many as a string of the script has.
fn time_limit(manifest: &Manifest) -> usize {
    const MOST: u64 = 1 << 20;
    let limit = manifest.options.max_strlen.clamp(1, MOST) - 1;
    usize::try_from(limit).unwrap_or(usize::MAX)
}

fn script_map(maps: &[Option<ScriptMap>], id: MapId) -> Option<&ScriptMap> {
    maps.get(id.0 as usize).and_then(Option::as_ref)
}

fn map_error(
    map: &ScriptMap,
    what: &str,
    error: &io::Error,
    sink: &mut dyn Sink,
) -> io::Result<()> {
    let reason = reason(error);
    sink.error(&format!("failed to {what} map '{}' ({reason})", map.name))
}

fn located(
    event: &Event,
    kind: MessageKind<'_>,
    text: &[u8],
    source: &SourceMeta,
    sink: &mut dyn Sink,
) -> io::Result<()> {
    sink.located(&Located {
        kind,
        text,
        place: event.place,
        expanded_from: &event.expanded_from,
        source,
    })
}

fn flush_packets(pcaps: &mut PcapFiles, sink: &mut dyn Sink) -> io::Result<()> {
    match pcaps.flush() {
        Ok(()) => Ok(()),
        Err(error) => sink.error(&format!("failed to write packets ({})", reason(&error))),
    }
}

/// The part of a packet that is written. Behind the packet the kernel may have added padding.
fn packet_bytes(bytes: &[u8], len: u64, skip: u64) -> &[u8] {
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let skip = usize::try_from(skip).unwrap_or(usize::MAX);
    let packet = &bytes[..len.min(bytes.len())];
    packet.get(skip..).unwrap_or_default()
}

/// Whether processes are loaded at addresses that differ from run to run.
fn addresses_are_randomized() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/randomize_va_space")
        .map_or(true, |text| text.trim() != "0")
}
