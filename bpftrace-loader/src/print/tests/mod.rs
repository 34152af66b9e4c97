//! Tests of printing as a whole: tables of layouts and bytes with their text and JSON, golden files
//! of graphs, and properties of any bytes. No kernel, no clock, no files of the machine.

mod maps;
mod printf;
mod records;
mod robust;
mod sinks;
mod values;

use std::collections::BTreeMap;
use std::io;

use bpftrace_meta::{
    AggKind, ArgLayout, CacheUserSymbols, CompileOptionsMeta, EnumMeta, EventKind, EventMeta,
    FieldLayout, Manifest, MapId, MapMeta, MapRole, MapSize, MapValue, RunConfig, ScriptMeta,
    SourceMeta, SourceRange, ValueLayout,
};

use super::names::Names;
use super::sink::{CaptureSink, JsonSink, ScriptOutput, Sink};
use super::stack::StackRenderer;
use super::symbolize::{Process, Symbol, Symbolize};
use super::time::{Times, Zone};
use super::value::Decoder;
use super::{Action, BufferMode, MapReader, Printer, PrinterOptions};

/// The machine of the tests booted 100 s after 1970 began.
const BOOT_NS: u64 = 100_000_000_000;

/// Knows addresses from 0x1000 to 0x1fff as symbols 0x100 apart.
struct FakeSymbols;

impl FakeSymbols {
    fn find(addresses: &[u64], kind: &str) -> Vec<Option<Symbol>> {
        let symbol = |address: &u64| {
            (0x1000..0x2000).contains(address).then(|| Symbol {
                name: format!("{kind}_{:x}", address >> 8),
                offset: address & 0xff,
                module: None,
                place: None,
                inlined: Vec::new(),
            })
        };
        addresses.iter().map(symbol).collect()
    }
}

impl Symbolize for FakeSymbols {
    fn kernel(&mut self, addresses: &[u64]) -> Vec<Option<Symbol>> {
        Self::find(addresses, "k")
    }
    fn user(&mut self, _: Process<'_>, addresses: &[u64]) -> Vec<Option<Symbol>> {
        Self::find(addresses, "u")
    }
    fn remember_process(&mut self, _: u32) {}
    fn forget_processes(&mut self) {}
}

fn manifest() -> Manifest {
    Manifest {
        script: ScriptMeta {
            name: "stdin".to_owned(),
            sha256: [0; 32],
            compiler: String::new(),
        },
        options: CompileOptionsMeta {
            max_strlen: 64,
            on_stack_limit: 32,
            unsafe_mode: true,
            extra_warnings: false,
        },
        config: RunConfig::default(),
        probes: Vec::new(),
        maps: Vec::new(),
        slots: Vec::new(),
        events: Vec::new(),
        lost: None,
        enums: vec![EnumMeta {
            name: "color".to_owned(),
            values: vec![
                (1, "RED".to_owned()),
                (2, "GREEN".to_owned()),
                (2, "LIME".to_owned()),
                (-1, "NONE".to_owned()),
            ],
        }],
        time_formats: vec!["%H:%M:%S.%l".to_owned(), String::new()],
        cgroup_filters: Vec::new(),
        named_params: Vec::new(),
        typed_params: Vec::new(),
        imports: Vec::new(),
        n_params: 0,
        default_options: Vec::new(),
        requirements: Vec::new(),
        tracepoint_patches: Vec::new(),
        source: SourceMeta {
            files: vec!["stdin".to_owned()],
            lines: vec![
                (0, 1, "begin { $a = 1; }".to_owned()),
                (0, 2, "\t$b = @m[1];".to_owned()),
                (0, 3, "  + 2 }".to_owned()),
            ],
        },
    }
}

fn times(manifest: &Manifest) -> Times {
    Times::new(Zone::Utc, BOOT_NS, 63, &manifest.time_formats)
}

fn decoder() -> Decoder {
    let manifest = manifest();
    Decoder::new(
        &manifest,
        "..",
        times(&manifest),
        Names::new(Vec::new(), vec!["begin".to_owned(), "kprobe:f".to_owned()]),
        StackRenderer::new(Box::new(FakeSymbols), CacheUserSymbols::PerPid),
    )
}

fn printer(manifest: &Manifest, options: PrinterOptions) -> Printer {
    Printer::with_machine(
        manifest,
        options,
        times(manifest),
        Box::new(FakeSymbols),
        CacheUserSymbols::PerPid,
    )
}

/// Maps in memory: entries by key, in the order of their bytes.
#[derive(Default)]
struct FakeMaps {
    maps: BTreeMap<u32, BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl MapReader for FakeMaps {
    fn for_each_entry(
        &mut self,
        map: MapId,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> io::Result<()> {
        let Some(map) = self.maps.get(&map.0) else {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        };
        map.iter().for_each(|(key, value)| visit(key, value));
        Ok(())
    }

    fn clear(&mut self, map: MapId) -> io::Result<()> {
        let map = self.maps.get_mut(&map.0);
        map.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?
            .clear();
        Ok(())
    }

    fn zero(&mut self, map: MapId) -> io::Result<()> {
        let map = self.maps.get_mut(&map.0);
        map.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?
            .values_mut()
            .for_each(|value| value.fill(0));
        Ok(())
    }
}

/// A writer whose bytes stay reachable.
#[derive(Clone, Default)]
struct Shared(std::rc::Rc<std::cell::RefCell<Vec<u8>>>);

impl io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.borrow().clone()).expect("UTF-8")
    }
}

/// What JSON output says when `say` says it.
fn json(say: impl FnOnce(&mut dyn Sink)) -> String {
    let out = Shared::default();
    let mut sink = JsonSink::with_errors(
        ScriptOutput::to(Box::new(out.clone()), BufferMode::None),
        Box::new(io::sink()),
    );
    say(&mut sink);
    out.text()
}

fn int(size: u8, signed: bool) -> ValueLayout {
    ValueLayout::Int { size, signed }
}

fn field(name: &str, offset: u32, layout: ValueLayout) -> FieldLayout {
    FieldLayout {
        name: name.to_owned(),
        offset,
        layout,
    }
}

fn arg(offset: u32, layout: ValueLayout) -> ArgLayout {
    ArgLayout { offset, layout }
}

fn event(kind: EventKind, args: Vec<ArgLayout>) -> EventMeta {
    let end = args.iter().map(|arg| arg.offset + arg.layout.size()).max();
    EventMeta {
        kind,
        args,
        size: end.unwrap_or(8).next_multiple_of(8),
        place: SourceRange {
            file: 0,
            line: 1,
            column: 9,
            end_line: 1,
            end_column: 15,
        },
        expanded_from: Vec::new(),
    }
}

fn script_map(name: &str, key: Option<ValueLayout>, value: MapValue) -> MapMeta {
    let per_cpu = matches!(value, MapValue::Aggregate(_));
    MapMeta {
        symbol: name.replace('@', "AT_"),
        role: MapRole::Script {
            name: name.to_owned(),
            key,
            value,
            per_cpu,
        },
        size: MapSize::MaxMapKeys,
    }
}

fn aggregate(name: &str, key: Option<ValueLayout>, kind: AggKind) -> MapMeta {
    script_map(name, key, MapValue::Aggregate(kind))
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A record: the number of its event, then bytes up to a multiple of 8.
fn record(event: u64, args: &[u8]) -> Vec<u8> {
    let mut bytes = words(&[event]);
    bytes.extend_from_slice(args);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

/// Output and messages of handling records, and what the last one asks for.
fn run(manifest: &Manifest, maps: &mut FakeMaps, records: &[Vec<u8>]) -> (String, String, Action) {
    let mut printer = printer(manifest, PrinterOptions::default());
    let mut sink = CaptureSink::default();
    let mut action = Action::Continue;
    for record in records {
        action = printer.handle(record, maps, &mut sink).expect("written");
    }
    (
        String::from_utf8(sink.output).expect("UTF-8"),
        String::from_utf8(sink.messages).expect("UTF-8"),
        action,
    )
}
