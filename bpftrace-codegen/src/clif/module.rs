//! The tables of the object that functions under construction add to.

use std::collections::{BTreeMap, HashMap, HashSet};

use bpftrace_ast::source::{SourceMap, Span};
use bpftrace_meta::{
    EventId, EventMeta, Feature, HostSlot, HostValue, MapId, MapMeta, MapRole, MapSize,
    Requirement, SlotForm, SlotType, SourceRange, USDT_ENTRY_SIZE, UnwindTable, unwind,
};
use bpftrace_sema::{ImportedFunction, Mem, SlotIdx, Ty, TypedProgram};
use cranelift_codegen::ir::Function;

use super::R;
use super::core_types::CoreTypes;
use super::helper::map_type;
use crate::error::CodegenError;
use crate::meta_out::{self, KeptLines, SourceLines};
use crate::object::{DataKind, DataSection, ExternDef, ExternKind, MapDef, Patch, TypeRef};

/// Row of `.rodata` in the object's data sections.
pub(super) const RODATA: u32 = 0;
/// Row of `.bss`.
pub(super) const BSS: u32 = 1;

/// A finished function.
pub(crate) struct ClifFunction {
    /// Symbol in the object.
    pub(crate) name: String,
    /// The code.
    pub(crate) func: Function,
    /// What it is.
    pub(crate) role: FunctionRole,
    /// What in the script it comes from; `None` for subprograms shared by all.
    pub(crate) span: Option<Span>,
    /// Bytes of the ring buffer that one call takes at most; `None`: nobody knows.
    pub(crate) sent: Option<u64>,
}

/// What a function is in the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FunctionRole {
    /// The program of a probe, by its index in [`TypedProgram::probes`].
    Probe {
        /// Index of the probe.
        index: usize,
        /// Whether the code depends on which target fired.
        uses_target_number: bool,
    },
    /// The program that stands in for two probes where the kernel has sessions, by their indices.
    Session {
        /// Index of the kprobe.
        entry: usize,
        /// Index of the kretprobe.
        ret: usize,
    },
    /// A subprogram or callback with this many parameters.
    Subprogram {
        /// Number of parameters.
        n_params: u32,
        /// Whether the verifier looks at it once, without knowing who calls it (since Linux 5.6).
        alone: bool,
    },
}

/// Everything that lowering gives.
pub(crate) struct Lowered {
    /// Functions; their order is what symbols count in.
    pub(crate) functions: Vec<ClifFunction>,
    /// Maps of the object.
    pub(crate) maps: Vec<MapDef>,
    /// Maps of the manifest, in the same order, and then those that libbpf makes of sections.
    pub(crate) map_metas: Vec<MapMeta>,
    /// `.rodata`, and `.bss` where something is in it.
    pub(crate) data: Vec<DataSection>,
    /// Slots of the manifest.
    pub(crate) slots: Vec<HostSlot>,
    /// Types that relocations refer to.
    pub(crate) types: crate::object::TypeGraph,
    /// Functions of the kernel that programs call.
    pub(crate) externs: Vec<ExternDef>,
    /// Constants known on the target only.
    pub(crate) patches: Vec<Patch>,
    /// The patches that are fields of tracepoints.
    pub(crate) tracepoint_fields: Vec<(u32, TracepointField)>,
    /// The patches that are numbers in slots: patch, slot, and what of the number.
    pub(crate) slot_patches: Vec<(u32, u32, SlotForm)>,
    /// The patch that is the number of the attached target.
    pub(crate) target_number: Option<u32>,
    /// Records of the ring buffer.
    pub(crate) events: Vec<EventMeta>,
    /// Map that counts lost events.
    pub(crate) lost: Option<MapId>,
    /// What a source position (`SourceLoc`) stands for.
    pub(crate) spans: Vec<Span>,
    /// Kernel features the code cannot do without.
    pub(crate) requirements: Vec<Requirement>,
    /// Files and lines that messages quote.
    pub(crate) lines: KeptLines,
}

/// A field of a tracepoint's record, as the code reads it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TracepointField {
    /// Category of the event.
    pub(crate) category: String,
    /// Name of the event.
    pub(crate) event: String,
    /// Name of the field.
    pub(crate) field: String,
    /// Bytes.
    pub(crate) size: u32,
    /// Whether it is signed.
    pub(crate) signed: bool,
    /// Whether it is a `__data_loc` field.
    pub(crate) data_loc: bool,
    /// Offset in the format compiled against.
    pub(crate) offset: u32,
    /// Bytes from the field's start to what is read: an element of an array.
    pub(crate) inside: u32,
}

/// Maps that are no maps of the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SpecialMap {
    RingBuffer,
    /// Where packets go through.
    Packets,
    Scratch,
    /// Names of the attached targets, in entries of so many bytes.
    ProbeNames(u32),
    /// Addresses of the attached probes in their files.
    ProbeAddresses,
    /// Where the attached USDT probes have their arguments.
    UsdtArgs,
    /// A table that stacks are unwound with.
    Unwind(UnwindTable),
    /// Registers and frames while a stack is unwound.
    UnwindState,
}

/// Subprograms that all probes share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shared {
    /// `(event number): sends a record without arguments`.
    Report0,
    /// `(event number, i64): sends a record with one argument`.
    Report1,
    /// `(key, number of words, where the hash goes)`.
    HashKey,
    /// `(map, key) -> sum over all CPUs`.
    MergeSum,
    /// `(map, key) -> sum over all CPUs of what is counted beside a total`.
    MergeCount,
    /// `(map, key) -> mean over all CPUs`.
    MergeAvg { signed: bool },
    /// `(map, key) -> least value over all CPUs`.
    MergeMin { signed: bool },
    /// `(map, key) -> greatest value over all CPUs`.
    MergeMax { signed: bool },
    /// `(number) -> bucket of hist`, for scripts with many of them.
    HistBucket { bits: u32 },
    /// `(where the string goes, where in the array its address is) -> whether it is there`.
    JoinString {
        /// Where the array is.
        array: Mem,
        /// Where its strings are.
        strings: Mem,
        /// The call that warnings name, where there are any.
        warns: Option<Span>,
    },
    /// `(context, where an argument of a USDT probe is) -> argument`.
    UsdtArg,
    /// `(pid, most frames) -> number of frames` of the registers in the state of unwinding.
    Unwind,
    /// `() -> 0`, or that there is no other frame.
    UnwindFrame,
    /// `() -> 0`: puts right what the function of the frame in the state returns to.
    UnwindReturn,
}

/// Tables of the object under construction.
pub(crate) struct Module<'p> {
    pub(super) program: &'p TypedProgram,
    pub(super) sources: &'p SourceMap,
    pub(super) stack_budget: u32,
    functions: Vec<Option<ClifFunction>>,
    maps: Vec<MapDef>,
    map_metas: Vec<MapMeta>,
    special_maps: BTreeMap<SpecialMap, u32>,
    /// Rows of the maps with the keys of a map of the script.
    key_maps: BTreeMap<u32, u32>,
    rodata: DataSection,
    bss: DataSection,
    /// Where in `.bss` lost events are.
    lost: Option<u32>,
    slots: Vec<HostSlot>,
    slot_rows: HashMap<HostValue, u32>,
    constants: BTreeMap<Vec<u8>, u32>,
    zeros: u32,
    pub(super) core: CoreTypes<'p>,
    patches: Vec<Patch>,
    patch_rows: BTreeMap<PatchKey, u32>,
    pub(super) tracepoint_fields: Vec<(u32, TracepointField)>,
    target_number: Option<u32>,
    events: Vec<EventMeta>,
    event_rows: BTreeMap<SourceRange, Vec<u32>>,
    shared: BTreeMap<Shared, u32>,
    /// How often the search for a bucket of `hist` was built in place.
    pub(super) n_hist_buckets: u32,
    externs: Vec<ExternDef>,
    extern_rows: HashMap<String, u32>,
    spans: Vec<Span>,
    requirements: Vec<Requirement>,
    pub(super) lines: SourceLines<'p>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum PatchKey {
    Core(crate::object::CoreReloc),
    Tracepoint(TracepointField),
    TargetNumber,
    Slot(u32, SlotForm),
}

impl<'p> Module<'p> {
    pub(super) fn new(
        program: &'p TypedProgram,
        sources: &'p SourceMap,
        stack_budget: u32,
    ) -> R<Self> {
        let mut module = Self {
            program,
            sources,
            stack_budget,
            functions: Vec::new(),
            maps: Vec::new(),
            map_metas: Vec::new(),
            special_maps: BTreeMap::new(),
            key_maps: BTreeMap::new(),
            rodata: DataSection::new(DataKind::Rodata, ""),
            bss: DataSection::new(DataKind::Bss, ""),
            lost: None,
            slots: Vec::new(),
            slot_rows: HashMap::new(),
            constants: BTreeMap::new(),
            zeros: 0,
            core: CoreTypes::new(&program.types),
            patches: Vec::new(),
            patch_rows: BTreeMap::new(),
            tracepoint_fields: Vec::new(),
            target_number: None,
            events: Vec::new(),
            event_rows: BTreeMap::new(),
            shared: BTreeMap::new(),
            n_hist_buckets: 0,
            externs: Vec::new(),
            extern_rows: HashMap::new(),
            spans: Vec::new(),
            requirements: Vec::new(),
            lines: SourceLines::new(sources),
        };
        for requirement in &program.requirements {
            module.requirements.push(requirement.clone());
        }
        for slot in &program.slots {
            let place = slot.span.map(|span| module.lines.range(span));
            module.add_slot(slot.value.clone(), &slot.ty, place.unwrap_or_default())?;
        }
        let mut symbols = HashSet::new();
        for map in &program.maps {
            let (def, meta) = super::map::define(program, map, &mut symbols)?;
            module.maps.push(def);
            module.map_metas.push(meta);
        }
        for (row, map) in program.maps.iter().enumerate() {
            let main = (&module.maps[row], module.map_metas[row].size);
            let keys = super::map::define_keys(program, map, MapId(row as u32), main);
            if let Some((def, meta)) = keys {
                module.key_maps.insert(row as u32, module.maps.len() as u32);
                module.maps.push(def);
                module.map_metas.push(meta);
            }
        }
        Ok(module)
    }

    pub(super) fn finish(self) -> R<Lowered> {
        let mut functions = Vec::with_capacity(self.functions.len());
        for (index, function) in self.functions.into_iter().enumerate() {
            functions.push(function.ok_or_else(|| CodegenError::Internal {
                span: None,
                what: format!("function {index} was never built"),
            })?);
        }
        let mut map_metas = self.map_metas;
        let mut data = vec![self.rodata];
        let mut lost = None;
        if self.lost.is_some() {
            // libbpf makes a map of the section, behind those that the object names.
            lost = Some(MapId(map_metas.len() as u32));
            map_metas.push(MapMeta {
                symbol: self.bss.name(),
                role: MapRole::LostEvents,
                size: MapSize::Fixed,
            });
            data.push(self.bss);
        }
        let slot_patches = self
            .patch_rows
            .iter()
            .filter_map(|(key, &patch)| match *key {
                PatchKey::Slot(row, form) => Some((patch, row, form)),
                _ => None,
            })
            .collect();
        Ok(Lowered {
            functions,
            slot_patches,
            maps: self.maps,
            map_metas,
            data,
            slots: self.slots,
            types: self.core.into_graph(),
            externs: self.externs,
            patches: self.patches,
            tracepoint_fields: self.tracepoint_fields,
            target_number: self.target_number,
            events: self.events,
            lost,
            spans: self.spans,
            requirements: self.requirements,
            lines: self.lines.into_kept(),
        })
    }

    // Functions.

    /// A number for a function that is still to be built.
    pub(super) fn reserve_function(&mut self) -> u32 {
        self.functions.push(None);
        self.functions.len() as u32 - 1
    }

    /// Fills a number in.
    pub(super) fn set_function(&mut self, index: u32, function: ClifFunction) {
        self.functions[index as usize] = Some(function);
    }

    /// Lets the verifier look at a subprogram once and for itself, not again wherever it is called.
    pub(super) fn verify_alone(&mut self, index: u32) {
        if let Some(Some(function)) = self.functions.get_mut(index as usize)
            && let FunctionRole::Subprogram { alone, .. } = &mut function.role
        {
            *alone = true;
        }
    }

    /// Bytes of the ring buffer that one call of a function takes at most; `None`: nobody knows.
    pub(super) fn sent_by(&self, index: u32) -> Option<u64> {
        self.functions.get(index as usize)?.as_ref()?.sent
    }

    /// The number of a shared subprogram, which is built at its first use.
    pub(super) fn shared(&mut self, which: Shared) -> R<u32> {
        if let Some(&index) = self.shared.get(&which) {
            return Ok(index);
        }
        let index = self.reserve_function();
        self.shared.insert(which, index);
        super::report::build_shared(self, which, index)?;
        Ok(index)
    }

    // Maps.

    /// Row of the map with the keys of a map of the script, if those are too large for old kernels.
    pub(super) fn key_map(&self, map: bpftrace_sema::MapIdx) -> Option<u32> {
        self.key_maps.get(&map.0).copied()
    }

    /// Bytes of a key in such a map.
    pub(super) fn key_map_size(&self, row: u32) -> u32 {
        self.maps[row as usize].value_size
    }

    pub(super) fn special_map(&mut self, which: SpecialMap) -> u32 {
        if let Some(&row) = self.special_maps.get(&which) {
            return row;
        }
        let (def, role, size) = match which {
            SpecialMap::RingBuffer => (
                MapDef::new("ringbuf", map_type::RINGBUF, 0, 0, 262_144),
                MapRole::RingBuffer,
                MapSize::RingBuffer,
            ),
            // libbpf makes it as large as there are CPUs.
            SpecialMap::Packets => (
                MapDef::new("packets", map_type::PERF_EVENT_ARRAY, 4, 4, 0),
                MapRole::Packets,
                MapSize::Fixed,
            ),
            // The sizes follow when all programs are built.
            SpecialMap::Scratch => (
                MapDef::new("scratch", map_type::PERCPU_ARRAY, 4, 8, 1),
                MapRole::Scratch,
                MapSize::Fixed,
            ),
            SpecialMap::ProbeNames(size) => (
                MapDef::new(&format!("probe_names_{size}"), map_type::ARRAY, 4, size, 1),
                MapRole::ProbeNames { size },
                MapSize::Targets,
            ),
            SpecialMap::ProbeAddresses => (
                MapDef::new("probe_addresses", map_type::ARRAY, 4, 8, 1),
                MapRole::ProbeAddresses,
                MapSize::Targets,
            ),
            SpecialMap::UsdtArgs => (
                MapDef::new("usdt_args", map_type::ARRAY, 4, USDT_ENTRY_SIZE as u32, 1),
                MapRole::UsdtArgs { used: 0 },
                MapSize::Targets,
            ),
            SpecialMap::Unwind(table) => {
                let (name, kind, value) = match table {
                    UnwindTable::Processes => (
                        "unwind_processes",
                        map_type::HASH,
                        unwind::ProcessRows::SIZE,
                    ),
                    UnwindTable::Rows => ("unwind_rows", map_type::ARRAY, unwind::Row::SIZE),
                    UnwindTable::Rules => ("unwind_rules", map_type::ARRAY, unwind::Rule::SIZE),
                };
                (
                    MapDef::new(name, kind, 4, value as u32, 1),
                    MapRole::Unwind(table),
                    MapSize::Unwind,
                )
            }
            SpecialMap::UnwindState => (
                MapDef::new(
                    "unwind_state",
                    map_type::PERCPU_ARRAY,
                    4,
                    super::unwind::STATE_SIZE,
                    1,
                ),
                MapRole::Internal,
                MapSize::Fixed,
            ),
        };
        let row = self.maps.len() as u32;
        let symbol = def.name.clone();
        self.maps.push(def);
        self.map_metas.push(MapMeta { symbol, role, size });
        self.special_maps.insert(which, row);
        row
    }

    /// Notes that argument `n` of USDT probes is read.
    pub(super) fn note_usdt_arg(&mut self, n: u32) {
        let row = self.special_map(SpecialMap::UsdtArgs);
        if let MapRole::UsdtArgs { used } = &mut self.map_metas[row as usize].role {
            *used |= 1u16.checked_shl(n).unwrap_or(0);
        }
    }

    /// Makes room in the scratch map for entry `entry` of `size` bytes.
    pub(super) fn need_scratch(&mut self, entry: u32, size: u32) {
        let row = self.special_map(SpecialMap::Scratch) as usize;
        let map = &mut self.maps[row];
        map.value_size = map.value_size.max(size.next_multiple_of(8));
        map.max_entries = map.max_entries.max(entry + 1);
    }

    // Data sections.

    /// Byte offset in `.bss` of what is told about lost events: see [`bpftrace_meta::LostLayout`].
    pub(super) fn lost_events(&mut self) -> R<u32> {
        if let Some(offset) = self.lost {
            return Ok(offset);
        }
        let offset = self.bss.add("lost_events", &[0; 16], 8, None)?;
        self.lost = Some(offset);
        Ok(offset)
    }

    fn add_slot(&mut self, value: HostValue, ty: &Ty, place: SourceRange) -> R<u32> {
        let row = self.slots.len();
        let (ty, offset) = match ty {
            Ty::Bool => (SlotType::Bool, None),
            Ty::Str(size) => {
                let (name, zeros) = (format!("slot_{row}"), vec![0; *size as usize]);
                let offset = self.rodata.add(&name, &zeros, 8, None)?;
                (SlotType::Str { size: *size }, Some(offset))
            }
            _ => (SlotType::U64, None),
        };
        self.slot_rows.entry(value.clone()).or_insert(row as u32);
        self.slots.push(HostSlot {
            value,
            ty,
            offset,
            sites: Vec::new(),
            place,
        });
        Ok(row as u32)
    }

    /// Byte offset in `.rodata` of the text in a slot of the typed program.
    pub(super) fn slot_offset(&self, slot: SlotIdx) -> Option<u32> {
        self.slots.get(slot.0 as usize)?.offset
    }

    /// Row of the patch for the number in a slot.
    pub(super) fn slot_patch(&mut self, row: u32, form: SlotForm) -> u32 {
        self.patch(PatchKey::Slot(row, form), || Patch::Loader { initial: 0 })
    }

    /// Row of the slot of a host value that code generation asks for itself.
    pub(super) fn host_value(&mut self, value: &HostValue) -> R<u32> {
        if let Some(&row) = self.slot_rows.get(value) {
            return Ok(row);
        }
        let ty = match value {
            HostValue::Feature(_) | HostValue::KernelFunction { .. } | HostValue::WarningsOn => {
                Ty::Bool
            }
            _ => Ty::Int(bpftrace_sema::IntTy::U64),
        };
        self.add_slot(value.clone(), &ty, SourceRange::default())
    }

    /// Byte offset in `.rodata` of constant bytes, aligned to 8.
    pub(super) fn constant(&mut self, bytes: &[u8]) -> R<u32> {
        if let Some(&offset) = self.constants.get(bytes) {
            return Ok(offset);
        }
        let name = format!("const_{}", self.constants.len());
        let offset = self.rodata.add(&name, bytes, 8, None)?;
        self.constants.insert(bytes.to_vec(), offset);
        Ok(offset)
    }

    /// Byte offset in `.rodata` of at least `size` bytes that are zero.
    pub(super) fn zeros(&mut self, size: u32) -> R<u32> {
        if self.zeros < size {
            // Powers of two, so that few of these exist side by side.
            self.zeros = size.next_power_of_two().max(64);
        }
        self.constant(&vec![0; self.zeros as usize])
    }

    // Patches.

    fn patch(&mut self, key: PatchKey, patch: impl FnOnce() -> Patch) -> u32 {
        if let Some(&row) = self.patch_rows.get(&key) {
            return row;
        }
        let row = self.patches.len() as u32;
        self.patches.push(patch());
        self.patch_rows.insert(key, row);
        row
    }

    /// Row of a CO-RE relocation.
    pub(super) fn core_patch(&mut self, reloc: crate::object::CoreReloc) -> u32 {
        self.patch(PatchKey::Core(reloc.clone()), || Patch::Core(reloc))
    }

    /// Row of the offset of a tracepoint's field.
    pub(super) fn tracepoint_patch(&mut self, field: TracepointField) -> u32 {
        let n_patches = self.patches.len();
        let initial = u64::from(field.offset) + u64::from(field.inside);
        let row = self.patch(PatchKey::Tracepoint(field.clone()), || Patch::Loader {
            initial,
        });
        if row as usize == n_patches {
            self.tracepoint_fields.push((row, field));
        }
        row
    }

    /// Row of the number of the target that fired.
    pub(super) fn target_number_patch(&mut self) -> u32 {
        let row = self.patch(PatchKey::TargetNumber, || Patch::Loader { initial: 0 });
        self.target_number = Some(row);
        row
    }

    // Functions of the kernel. They are weak: where the kernel lacks one, the call must not be reachable.

    fn kfunc(&mut self, name: &str, params: &[(&str, TypeRef)], ret: TypeRef) -> u32 {
        self.extern_row(name, |core| ExternDef {
            name: name.to_owned(),
            kind: ExternKind::Function(core.function(params, ret)),
            weak: true,
        })
    }

    /// A function of an object that is linked with the script's.
    pub(super) fn imported_function(&mut self, function: &ImportedFunction) -> u32 {
        self.extern_row(&function.name, |core| ExternDef {
            name: function.name.clone(),
            kind: ExternKind::Linked(core.c_function(&function.signature)),
            weak: false,
        })
    }

    fn extern_row(&mut self, name: &str, new: impl FnOnce(&mut CoreTypes<'_>) -> ExternDef) -> u32 {
        if let Some(&row) = self.extern_rows.get(name) {
            return row;
        }
        let row = u32::try_from(self.externs.len()).unwrap_or(u32::MAX);
        let new = new(&mut self.core);
        self.externs.push(new);
        self.extern_rows.insert(name.to_owned(), row);
        row
    }

    /// `struct task_struct *bpf_task_from_pid(s32 pid)`; `task` is the type of its result.
    pub(super) fn task_from_pid(&mut self, task: &Ty) -> u32 {
        let (task, pid) = (self.core.pointer_to(task), self.core.int32());
        self.kfunc("bpf_task_from_pid", &[("pid", pid)], task)
    }

    /// `void bpf_task_release(struct task_struct *p)`; `task` is the type of its parameter.
    pub(super) fn task_release(&mut self, task: &Ty) -> u32 {
        let task = self.core.pointer_to(task);
        self.kfunc("bpf_task_release", &[("p", task)], TypeRef::VOID)
    }

    /// `bool bpf_session_is_return(void)`
    pub(super) fn session_is_return(&mut self) -> u32 {
        let ret = self.core.boolean();
        self.kfunc("bpf_session_is_return", &[], ret)
    }

    /// `bool bpf_session_is_return(void *ctx)`, as it is from 7.0 on. libbpf looks for the name without
    /// what follows three underscores.
    pub(super) fn session_is_return_with_context(&mut self) -> u32 {
        let (ret, ctx) = (self.core.boolean(), self.core.pointer());
        self.kfunc("bpf_session_is_return___context", &[("ctx", ctx)], ret)
    }

    // The manifest.

    /// The number of an event. The same call in the script has one number however often it is compiled.
    pub(super) fn event(&mut self, event: EventMeta) -> EventId {
        let rows = self.event_rows.entry(event.place).or_default();
        if let Some(&row) = rows.iter().find(|&&row| self.events[row as usize] == event) {
            return EventId(row);
        }
        let row = self.events.len() as u32;
        rows.push(row);
        self.events.push(event);
        EventId(row)
    }

    /// Notes a kernel feature that the script cannot do without.
    pub(super) fn require(&mut self, feature: Feature, what: &str, span: Span) {
        if self.requirements.iter().any(|r| r.feature == feature) {
            return;
        }
        let place = self.lines.range(span);
        self.requirements.push(Requirement {
            feature,
            what: what.to_owned(),
            place,
        });
    }

    /// The number by which CLIF names a place in the script.
    pub(super) fn source_loc(&mut self, span: Span) -> u32 {
        if self.spans.last() != Some(&span) {
            self.spans.push(span);
        }
        self.spans.len() as u32 - 1
    }

    /// How values of a type are read back.
    pub(super) fn layout(&self, ty: &Ty, span: Span) -> R<bpftrace_meta::ValueLayout> {
        meta_out::value_layout(&self.program.types, ty, span)
    }
}
