//! Scripts made by hand: what the compiler would make of a few lines, without a compiler.

use bpftrace_codegen::bpf::{Reloc, RelocKind};
use bpftrace_codegen::object::{
    DataKind, DataSection, FunctionDef, MapDef, ObjectSpec, Placement, Signature, SourceLine,
    write_object,
};
use bpftrace_meta::{
    ArgLayout, Artifact, CompileOptionsMeta, Conversion, EventId, EventKind, EventMeta,
    FormatPiece, FormatSpec, HostSlot, HostValue, Length, LostLayout, Manifest, MapId, MapMeta,
    MapRole, MapSize, MapValue, ProbeMeta, ProbeTarget, ProgramKind, RunConfig, ScriptMeta,
    SlotType, SourceMeta, SourceRange, ValueLayout,
};

/// Rows of the maps that every script has here.
const RING: u32 = 0;
const LOST: u32 = 1;
const COUNTS: u32 = 2;

/// What a program does, in order.
#[derive(Clone)]
pub(crate) enum Step {
    /// Ends the program unless the process that runs it is the one in this slot.
    OnlyPid(usize),
    /// Prints the value of a slot.
    PrintSlot(usize),
    /// Prints the name of the target that fired, from the attach cookie.
    PrintName,
    /// Prints the name of the target whose number is in the instruction.
    PrintPatchedName,
    /// Adds an entry to the map `@counts`.
    Store { key: i32, value: i32 },
    /// Ends the session.
    Exit(i32),
    /// Ends the program with this value.
    Return(i32),
    /// Reads memory that no program may read.
    Misbehave,
}

/// A script in the making.
pub(crate) struct ScriptBuilder {
    manifest: Manifest,
    spec: ObjectSpec,
    rodata: DataSection,
}

impl ScriptBuilder {
    pub(crate) fn new() -> Self {
        let map = |symbol: &str, role, size| MapMeta {
            symbol: symbol.into(),
            role,
            size,
        };
        let manifest = Manifest {
            script: ScriptMeta {
                name: "stdin".into(),
                sha256: [0; 32],
                compiler: "by hand".into(),
            },
            options: CompileOptionsMeta {
                max_strlen: 1024,
                on_stack_limit: 32,
                unsafe_mode: false,
                extra_warnings: false,
            },
            config: RunConfig::default(),
            probes: Vec::new(),
            maps: vec![
                map("ring", MapRole::RingBuffer, MapSize::RingBuffer),
                map("lost", MapRole::LostEvents, MapSize::Fixed),
                map(
                    "AT_counts",
                    MapRole::Script {
                        name: "@counts".into(),
                        key: Some(integer(8)),
                        value: MapValue::Plain(integer(8)),
                        per_cpu: false,
                    },
                    MapSize::MaxMapKeys,
                ),
            ],
            slots: Vec::new(),
            events: vec![
                event(
                    EventKind::Printf(vec![
                        FormatPiece::Literal("value ".into()),
                        FormatPiece::Spec(decimal()),
                        FormatPiece::Literal("\n".into()),
                    ]),
                    integer(8),
                ),
                event(EventKind::Exit, integer(8)),
                event(EventKind::PrintValue, ValueLayout::ProbeName),
            ],
            lost: Some(LostLayout { map: MapId(LOST) }),
            enums: Vec::new(),
            time_formats: Vec::new(),
            cgroup_filters: Vec::new(),
            named_params: Vec::new(),
            typed_params: Vec::new(),
            imports: Vec::new(),
            n_params: 0,
            default_options: Vec::new(),
            requirements: Vec::new(),
            tracepoint_patches: Vec::new(),
            source: SourceMeta {
                files: vec!["stdin".into()],
                lines: vec![(0, 1, "begin { misbehave() }".into())],
            },
        };
        // BPF_MAP_TYPE_RINGBUF, PERCPU_ARRAY, HASH.
        let spec = ObjectSpec {
            license: "GPL".into(),
            maps: vec![
                MapDef::new("ring", 27, 0, 0, 4096),
                MapDef::new("lost", 6, 4, 8, 1),
                MapDef::new("AT_counts", 1, 8, 8, 16),
            ],
            ..ObjectSpec::default()
        };
        Self {
            manifest,
            spec,
            rodata: DataSection::new(DataKind::Rodata, ""),
        }
    }

    pub(crate) fn manifest(&mut self) -> &mut Manifest {
        &mut self.manifest
    }

    /// Adds a slot and gives its number.
    pub(crate) fn slot(&mut self, value: HostValue) -> usize {
        let number = self.manifest.slots.len();
        let offset = self
            .rodata
            .add(&format!("slot_{number}"), &[0; 8], 8, None)
            .unwrap();
        self.manifest.slots.push(HostSlot {
            value,
            ty: SlotType::U64,
            offset: Some(offset),
            sites: Vec::new(),
            place: SourceRange::default(),
        });
        number
    }

    /// Adds a probe.
    pub(crate) fn probe(&mut self, kind: ProgramKind, targets: Vec<ProbeTarget>, steps: &[Step]) {
        let name = format!("probe_{}", self.manifest.probes.len());
        let mut program = Program {
            slots: self
                .manifest
                .slots
                .iter()
                .filter_map(|slot| slot.offset)
                .collect(),
            ..Program::default()
        };
        // The context is in r1 and goes to r6, which calls leave alone.
        program.insn(0xbf, 6, 1, 0, 0);
        for step in steps {
            program.step(step);
        }
        if !matches!(steps.last(), Some(Step::Return(_))) {
            program.exit();
        }
        let by_number = steps
            .iter()
            .any(|step| matches!(step, Step::PrintName | Step::PrintPatchedName));
        self.manifest.probes.push(ProbeMeta {
            program: name.clone(),
            kind,
            targets,
            places: Vec::new(),
            session: None,
            name: None,
            place: place(),
            target_number_insns: program.numbers.clone(),
            uses_target_number: by_number,
            n_insns: program.code.len() as u32 / 8,
            sent_per_run: None,
            layout: None,
            from_pattern: false,
        });
        let section = match kind {
            ProgramKind::RawTracepointRun => "raw_tp",
            ProgramKind::PerfEvent => "perf_event",
            ProgramKind::Tracepoint => "tracepoint",
            ProgramKind::Fentry => "fentry",
            ProgramKind::Uprobe => "uprobe",
            ProgramKind::Xdp => "xdp",
            _ => "kprobe",
        };
        self.spec.functions.push(FunctionDef {
            name,
            placement: Placement::Program {
                section: section.into(),
            },
            signature: Signature::Program,
            code: program.code,
            relocs: program.relocs,
            lines: vec![SourceLine {
                insn_idx: 0,
                file: "stdin".into(),
                text: "begin { misbehave() }".into(),
                line: 1,
                column: 1,
            }],
        });
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.spec.data = vec![self.rodata];
        let object = write_object(&self.spec).unwrap();
        Artifact {
            manifest: self.manifest,
            object: object.elf,
        }
        .encode()
    }
}

fn place() -> SourceRange {
    SourceRange {
        file: 0,
        line: 1,
        column: 1,
        end_line: 1,
        end_column: 6,
    }
}

fn integer(size: u8) -> ValueLayout {
    ValueLayout::Int { size, signed: true }
}

fn decimal() -> FormatSpec {
    FormatSpec {
        left: false,
        plus: false,
        space: false,
        alternate: false,
        zero: false,
        width: None,
        precision: None,
        length: Length::Long,
        conversion: Conversion::Signed,
    }
}

fn event(kind: EventKind, layout: ValueLayout) -> EventMeta {
    EventMeta {
        kind,
        args: vec![ArgLayout { offset: 8, layout }],
        size: 16,
        place: place(),
        expanded_from: Vec::new(),
    }
}

#[derive(Default)]
struct Program {
    code: Vec<u8>,
    relocs: Vec<Reloc>,
    numbers: Vec<u32>,
    slots: Vec<u32>,
}

impl Program {
    fn insn(&mut self, code: u8, dst: u8, src: u8, off: i16, imm: i32) {
        self.code.extend_from_slice(&[code, dst | src << 4]);
        self.code.extend_from_slice(&off.to_le_bytes());
        self.code.extend_from_slice(&imm.to_le_bytes());
    }

    fn next(&self) -> u32 {
        self.code.len() as u32 / 8
    }

    fn map(&mut self, dst: u8, map: u32) {
        self.relocs.push(Reloc {
            insn_idx: self.next(),
            kind: RelocKind::Map(map),
        });
        self.insn(0x18, dst, 0, 0, 0);
        self.insn(0, 0, 0, 0, 0);
    }

    fn slot(&mut self, dst: u8, slot: usize) {
        let offset = self.slots[slot];
        self.relocs.push(Reloc {
            insn_idx: self.next(),
            kind: RelocKind::Data { section: 0, offset },
        });
        self.insn(0x18, dst, 0, 0, offset as i32);
        self.insn(0, 0, 0, 0, 0);
        self.insn(0x79, dst, dst, 0, 0);
    }

    fn exit(&mut self) {
        self.insn(0xb7, 0, 0, 0, 0);
        self.insn(0x95, 0, 0, 0, 0);
    }

    fn call(&mut self, helper: i32) {
        self.insn(0x85, 0, 0, 0, helper);
    }

    /// Sends the event with the argument in r7.
    fn send(&mut self, event: EventId) {
        self.insn(0x7a, 10, 0, -16, event.0 as i32);
        self.insn(0x7b, 10, 7, -8, 0);
        self.map(1, RING);
        self.insn(0xbf, 2, 10, 0, 0);
        self.insn(0x07, 2, 0, 0, -16);
        self.insn(0xb7, 3, 0, 0, 16);
        self.insn(0xb7, 4, 0, 0, 0);
        self.call(130);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::OnlyPid(slot) => {
                self.call(14);
                self.insn(0x77, 0, 0, 0, 32);
                self.slot(7, *slot);
                self.insn(0x1d, 0, 7, 2, 0);
                self.exit();
            }
            Step::PrintSlot(slot) => {
                self.slot(7, *slot);
                self.send(EventId(0));
            }
            Step::PrintName => {
                self.insn(0xbf, 1, 6, 0, 0);
                self.call(174);
                self.insn(0xbf, 7, 0, 0, 0);
                self.send(EventId(2));
            }
            Step::PrintPatchedName => {
                self.numbers.push(self.next());
                self.insn(0xb7, 7, 0, 0, -1);
                self.send(EventId(2));
            }
            Step::Store { key, value } => {
                self.insn(0x7a, 10, 0, -16, *key);
                self.insn(0x7a, 10, 0, -8, *value);
                self.map(1, COUNTS);
                self.insn(0xbf, 2, 10, 0, 0);
                self.insn(0x07, 2, 0, 0, -16);
                self.insn(0xbf, 3, 10, 0, 0);
                self.insn(0x07, 3, 0, 0, -8);
                self.insn(0xb7, 4, 0, 0, 0);
                self.call(2);
            }
            Step::Exit(code) => {
                self.insn(0xb7, 7, 0, 0, *code);
                self.send(EventId(1));
            }
            Step::Return(value) => {
                self.insn(0xb7, 0, 0, 0, *value);
                self.insn(0x95, 0, 0, 0, 0);
            }
            Step::Misbehave => {
                self.insn(0xb7, 7, 0, 0, 0);
                self.insn(0x79, 7, 7, 0, 0);
            }
        }
    }
}
