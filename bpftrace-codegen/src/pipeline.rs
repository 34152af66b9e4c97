//! All of code generation, top to bottom.

use bpftrace_ast::order::sort_by_number;
use std::collections::BTreeMap;

use bpftrace_ast::source::{SourceId, SourceMap, Span};
use bpftrace_meta::{
    Artifact, CompileOptionsMeta, Manifest, ProbeId, ProbeMeta, ProgramKind, ScriptMeta, Session,
    TracepointPatch,
};
use bpftrace_sema::TypedProgram;
use sha2::{Digest as _, Sha256};

use crate::bpf::{self, BackendError, BackendOptions, CompiledFunction, PatchField, RelocKind};
use crate::clif::{self, FunctionRole, Lowered};
use crate::dump::{DumpStages, Dumps};
use crate::error::CodegenError;
use crate::meta_out::{self, SourceLines};
use crate::object::{self, BpfObject, FunctionDef, ObjectSpec, Placement, Signature, SourceLine};
use crate::symbols::STACK_SIZE;
use crate::twins;

/// Bytes of stack that values may take, tried in turn until the back end's spills fit too.
const STACK_BUDGETS: [u32; 4] = [256, 128, 64, 0];

/// What the manifest says about the script as a whole.
#[derive(Clone, Debug)]
pub struct ScriptInfo {
    /// File name as messages show it; `stdin` for `-e`.
    pub name: String,
    /// The script's own text, whose hash goes into the manifest.
    pub source: SourceId,
    /// Version of the compiler, as `bpftrace --version` shows it.
    pub compiler: String,
}

/// How to compile; what shapes the code itself is in [`TypedProgram::options`].
#[derive(Clone, Copy, Debug)]
pub struct CodegenOptions {
    /// Run the mid-end's optimisations. Without them the code is correct, but larger.
    pub optimize: bool,
    /// Verify the code after each pass.
    pub verify: bool,
    /// Stages to keep as text.
    pub dump: DumpStages,
}

impl CodegenOptions {
    /// Optimise, verify in debug builds only, dump nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            optimize: true,
            verify: cfg!(debug_assertions),
            dump: DumpStages::default(),
        }
    }
}

impl Default for CodegenOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Compiles a typed program. `sources` holds the texts that its spans point into.
///
/// # Errors
///
/// See [`CodegenError`].
pub fn compile(
    program: &TypedProgram,
    sources: &SourceMap,
    script: &ScriptInfo,
    options: &CodegenOptions,
) -> Result<(Artifact, Dumps), CodegenError> {
    let mut dumps = Dumps::new(options.dump);
    let (lowered, functions) = fit_stack(program, sources, options, &mut dumps)?;
    for (function, compiled) in lowered.functions.iter().zip(&functions) {
        dumps.add_bpf(&function.name, compiled);
    }
    let spec = object_spec(program, sources, &lowered, functions.clone());
    let object = object::write_object(&spec)?;
    let manifest = manifest(program, sources, script, lowered, &functions, &object)?;
    let artifact = Artifact {
        manifest,
        object: object.elf,
    };
    Ok((artifact, dumps))
}

/// Lowers and compiles all functions, with fewer and fewer values on the stack until everything fits.
fn fit_stack(
    program: &TypedProgram,
    sources: &SourceMap,
    options: &CodegenOptions,
    dumps: &mut Dumps,
) -> Result<(Lowered, Vec<CompiledFunction>), CodegenError> {
    let mut last = None;
    // A session's calls take stack too; what does not fit with them may fit without.
    let attempts = [true, false]
        .into_iter()
        .flat_map(|sessions| STACK_BUDGETS.map(|budget| (budget, sessions)));
    for (budget, sessions) in attempts {
        let mut lowered = clif::lower_program(program, sources, budget, sessions)?;
        dumps.clear();
        match compile_functions(&mut lowered, options, dumps) {
            Ok(functions) => match check_stack(&lowered, &functions) {
                Ok(()) => return Ok((lowered, functions)),
                Err(error) => last = Some(error),
            },
            Err(
                error @ CodegenError::TooLarge {
                    source: BackendError::StackOverflow { .. },
                    ..
                },
            ) => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or(CodegenError::Internal {
        span: None,
        what: "no stack budget was tried".to_owned(),
    }))
}

fn compile_functions(
    lowered: &mut Lowered,
    options: &CodegenOptions,
    dumps: &mut Dumps,
) -> Result<Vec<CompiledFunction>, CodegenError> {
    let backend = BackendOptions {
        verify: options.verify,
        optimize: options.optimize,
        stack_limit: STACK_SIZE,
        dump_clif_opt: options.dump.clif_opt,
        dump_vcode: options.dump.vcode,
        ..BackendOptions::new()
    };
    let twins = twins::find(&lowered.functions);
    let mut compiled: Vec<CompiledFunction> = Vec::with_capacity(lowered.functions.len());
    for (function, twin) in lowered.functions.iter_mut().zip(twins) {
        dumps.add_clif(&function.name, &function.func);
        let func = std::mem::replace(&mut function.func, cranelift_codegen::ir::Function::new());
        let adapted = twin.and_then(|twin| Some(twin.adapt(compiled.get(twin.of)?)));
        let result = match adapted {
            Some(adapted) if !backend.verify && !backend.dump_clif_opt && !backend.dump_vcode => {
                adapted
            }
            adapted => {
                let own = bpf::compile_function(func, &backend)
                    .map_err(|source| backend_error(source, function.span, &lowered.spans))?;
                if adapted.is_some_and(|adapted| !adapted.is_same_code(&own)) {
                    return Err(CodegenError::Internal {
                        span: function.span,
                        what: format!("{} is not what its twin is", function.name),
                    });
                }
                own
            }
        };
        dumps.add_compiled(&function.name, &result);
        compiled.push(result);
    }
    Ok(compiled)
}

fn backend_error(source: BackendError, span: Option<Span>, spans: &[Span]) -> CodegenError {
    let at = match &source {
        BackendError::Unsupported {
            srcloc: Some(loc), ..
        } => spans.get(*loc as usize).copied().or(span),
        _ => span,
    };
    match (at, &source) {
        (Some(span), BackendError::StackOverflow { .. } | BackendError::JumpTooFar { .. }) => {
            CodegenError::TooLarge { span, source }
        }
        (Some(span), _) => CodegenError::Backend { span, source },
        (None, _) => CodegenError::Internal {
            span: None,
            what: source.to_string(),
        },
    }
}

/// The frames of a chain of calls share the stack; the kernel rounds each up to 32 bytes.
fn check_stack(lowered: &Lowered, functions: &[CompiledFunction]) -> Result<(), CodegenError> {
    let mut depths: Vec<Option<u32>> = vec![None; functions.len()];
    for index in 0..functions.len() {
        let needed = stack_depth(index, functions, &mut depths, 0);
        if needed > STACK_SIZE {
            let source = BackendError::StackOverflow {
                needed,
                spills: 0,
                limit: STACK_SIZE,
            };
            return Err(backend_error(
                source,
                lowered.functions[index].span,
                &lowered.spans,
            ));
        }
    }
    Ok(())
}

/// The kernel follows at most eight frames (`MAX_CALL_FRAMES`).
const MAX_CALL_DEPTH: u32 = 8;

fn stack_depth(
    index: usize,
    functions: &[CompiledFunction],
    depths: &mut Vec<Option<u32>>,
    level: u32,
) -> u32 {
    if let Some(known) = depths[index] {
        return known;
    }
    if level > MAX_CALL_DEPTH {
        return STACK_SIZE + 1;
    }
    let mut deepest = 0;
    for reloc in &functions[index].relocs {
        if let RelocKind::SubprogCall(callee) | RelocKind::SubprogAddr(callee) = reloc.kind
            && (callee as usize) < functions.len()
        {
            deepest = deepest.max(stack_depth(callee as usize, functions, depths, level + 1));
        }
    }
    let own = functions[index].stack_size.max(1).next_multiple_of(32);
    let depth = own + deepest;
    depths[index] = Some(depth);
    depth
}

/// The section by whose name libbpf knows the type of the program.
fn section(kind: ProgramKind) -> &'static str {
    match kind {
        ProgramKind::RawTracepointRun => "raw_tp",
        ProgramKind::Xdp => "xdp",
        ProgramKind::PerfEvent => "perf_event",
        ProgramKind::Tracepoint => "tracepoint",
        ProgramKind::TpBtf => "tp_btf",
        ProgramKind::Kprobe => "kprobe",
        ProgramKind::Uprobe => "uprobe",
        ProgramKind::Fentry => "fentry",
        ProgramKind::Fexit => "fexit",
        ProgramKind::Iter => "iter",
    }
}

fn object_spec(
    program: &TypedProgram,
    sources: &SourceMap,
    lowered: &Lowered,
    compiled: Vec<CompiledFunction>,
) -> ObjectSpec {
    let functions = lowered
        .functions
        .iter()
        .zip(compiled)
        .map(|(function, compiled)| {
            let (placement, signature) = match function.role {
                FunctionRole::Probe { index, .. } | FunctionRole::Session { entry: index, .. } => (
                    Placement::Program {
                        section: section(program.probes[index].kind).to_owned(),
                    },
                    Signature::Program,
                ),
                FunctionRole::Subprogram { n_params, alone } => {
                    let placement = if alone {
                        Placement::GlobalSubprogram
                    } else {
                        Placement::Subprogram
                    };
                    (placement, Signature::Scalars(n_params))
                }
            };
            let lines = source_lines(sources, &lowered.spans, &compiled.lines);
            FunctionDef {
                name: function.name.clone(),
                placement,
                signature,
                code: compiled.code,
                relocs: compiled.relocs,
                lines,
            }
        })
        .collect();
    ObjectSpec {
        types: lowered.types.clone(),
        license: program.license.clone(),
        maps: lowered.maps.clone(),
        data: lowered.data.clone(),
        externs: lowered.externs.clone(),
        patches: lowered.patches.clone(),
        functions,
    }
}

fn source_lines(sources: &SourceMap, spans: &[Span], lines: &[(u32, u32)]) -> Vec<SourceLine> {
    let mut out: Vec<SourceLine> = Vec::new();
    let mut last_source = None;
    for &(insn_idx, loc) in lines {
        let Some(&span) = spans.get(loc as usize) else {
            continue;
        };
        let file = sources.file(span.source);
        let start = sources.start(span);
        let mut text = None;
        if let Some(last) = out.last()
            && last_source == Some(span.source)
            && last.line == start.line
        {
            if last.column == start.col {
                continue;
            }
            text = Some((last.file.clone(), last.text.clone()));
        }
        let (file, text) = text.unwrap_or_else(|| {
            let text = beginning(file.line(start.line).trim());
            (file.name().into(), text.into())
        });
        last_source = Some(span.source);
        out.push(SourceLine {
            insn_idx,
            file,
            text,
            line: start.line,
            column: start.col,
        });
    }
    out
}

/// What of a line is worth showing beside an instruction. Scripts may consist of one line.
fn beginning(line: &str) -> &str {
    const BYTES: usize = 512;
    &line[..line.floor_char_boundary(BYTES)]
}

fn manifest(
    program: &TypedProgram,
    sources: &SourceMap,
    script: &ScriptInfo,
    lowered: Lowered,
    compiled: &[CompiledFunction],
    object: &BpfObject,
) -> Result<Manifest, CodegenError> {
    let mut lines = SourceLines::resume(sources, lowered.lines);
    let mut probes = Vec::with_capacity(program.probes.len());
    for ((function, compiled), row) in lowered.functions.iter().zip(compiled).zip(0u32..) {
        let (index, uses_target_number, session) = match function.role {
            FunctionRole::Probe {
                index,
                uses_target_number,
            } => (index, uses_target_number, None),
            FunctionRole::Session { entry, ret } => {
                let session = Session {
                    entry: ProbeId(entry as u32),
                    ret: ProbeId(ret as u32),
                };
                (entry, false, Some(session))
            }
            FunctionRole::Subprogram { .. } => continue,
        };
        let probe = &program.probes[index];
        let target_number_insns = compiled
            .relocs
            .iter()
            .filter(|reloc| {
                matches!(reloc.kind, RelocKind::Patch { patch, .. } if Some(patch) == lowered.target_number)
            })
            .map(|reloc| reloc.insn_idx)
            .collect();
        let record = object
            .programs
            .iter()
            .find(|record| record.function == row)
            .ok_or_else(|| CodegenError::Internal {
                span: Some(probe.span),
                what: "the object has lost a program".to_owned(),
            })?;
        probes.push((
            (session.is_some(), index),
            ProbeMeta {
                program: record.symbol.clone(),
                kind: probe.kind,
                targets: match session {
                    None => probe.targets.clone(),
                    Some(_) => Vec::new(),
                },
                // Most have one, which is at the probe's place.
                places: match &probe.target_spans[..] {
                    _ if session.is_some() => Vec::new(),
                    [] | [_] => Vec::new(),
                    spans => spans.iter().map(|span| lines.range(*span)).collect(),
                },
                session,
                name: probe.name.clone(),
                place: lines.range(probe.span),
                target_number_insns,
                uses_target_number,
                n_insns: record.insn_cnt,
                sent_per_run: function.sent,
                layout: probe.layout.clone(),
                from_pattern: probe.from_pattern,
            },
        ));
    }
    // The script's own come first: they are numbered as they are written.
    sort_by_number(&mut probes, |&((is_session, index), _)| {
        u64::from(is_session) << 32 | index as u64
    });
    let mut sites: BTreeMap<u32, Vec<&object::PatchSite>> = BTreeMap::new();
    for site in &object.patch_sites {
        sites.entry(site.patch).or_default().push(site);
    }
    let sites = |patch: u32| sites.get(&patch).into_iter().flatten();
    let mut slots = lowered.slots;
    for (patch, slot, form) in lowered.slot_patches {
        slots[slot as usize]
            .sites
            .extend(sites(patch).map(|site| bpftrace_meta::SlotSite {
                file_offset: site.file_offset,
                form,
            }));
    }
    let tracepoint_patches = lowered
        .tracepoint_fields
        .iter()
        .map(|(row, field)| TracepointPatch {
            category: field.category.clone(),
            event: field.event.clone(),
            field: field.field.clone(),
            size: field.size,
            signed: field.signed,
            data_loc: field.data_loc,
            offset: field.offset,
            inside: field.inside,
            sites: sites(*row)
                .map(|site| bpftrace_meta::PatchSite {
                    file_offset: site.file_offset,
                    imm: site.field != PatchField::Offset,
                })
                .collect(),
        })
        .filter(|patch: &TracepointPatch| !patch.sites.is_empty())
        .collect();
    let text = sources.file(script.source).text();
    Ok(Manifest {
        script: ScriptMeta {
            name: script.name.clone(),
            sha256: Sha256::digest(text.as_bytes()).into(),
            compiler: script.compiler.clone(),
        },
        options: CompileOptionsMeta {
            max_strlen: u64::from(program.options.max_strlen),
            on_stack_limit: u64::from(program.options.on_stack_limit),
            unsafe_mode: program.options.unsafe_mode,
            extra_warnings: program.options.extra_warnings,
        },
        config: program.config.clone(),
        probes: probes.into_iter().map(|(_, probe)| probe).collect(),
        maps: lowered.map_metas,
        slots,
        events: lowered.events,
        lost: lowered.lost.map(|map| bpftrace_meta::LostLayout { map }),
        enums: meta_out::enums(&program.types),
        time_formats: program.time_formats.clone(),
        cgroup_filters: program.cgroup_filters.clone(),
        named_params: program.named_params.clone(),
        n_params: program.n_params,
        default_options: Vec::new(),
        typed_params: program.typed_params.clone(),
        // Those who join it with others say so.
        imports: Vec::new(),
        requirements: lowered.requirements,
        tracepoint_patches,
        source: lines.finish(),
    })
}
