//! What the functions of one probe share, and the probes of a script one by one.

use bpftrace_ast::source::SourceMap;
use bpftrace_meta::ProgramKind;
use bpftrace_sema::{Body, Local, Probe, TypedProgram};
use cranelift_codegen::ir::InstBuilder;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types;

use super::R;
use super::capture::{self, Usage};
use super::func::{FnCx, FunctionSpec, Role, build};
use super::memory::{Access, Addr};
use super::module::{Lowered, Module};
use super::place::{Place, is_in_memory};
use super::session;
use super::stack::ScratchArena;
use crate::meta_out::identifier;

/// Most entries of the scratch map; programs beyond share.
const MAX_SCRATCH_ENTRIES: u32 = 16;

/// What the functions of one probe (or of one subprogram) share.
pub(super) struct Program<'p> {
    pub(super) probe_index: usize,
    /// Kind of the program; subprograms of the script have none, since any probe may call them.
    pub(super) kind: Option<ProgramKind>,
    pub(super) default_return: i64,
    pub(super) locals: &'p [Local],
    pub(super) usage: Vec<Usage>,
    pub(super) places: Vec<Option<Place>>,
    pub(super) scratch: ScratchArena,
    pub(super) scratch_entry: u32,
    pub(super) scratch_used: bool,
    pub(super) frame: Frame,
    pub(super) uses_target_number: bool,
    /// Names of callbacks start with this.
    pub(super) name: String,
    pub(super) n_callbacks: u32,
    /// Whether a loop's body that is being built ends the probe.
    pub(super) callback_returns: bool,
    /// Offset in the frame of the address of what a function returns in memory.
    pub(super) result: Option<u32>,
}

/// The structure that a probe's main function shares with its callbacks.
#[derive(Debug, Default)]
pub(super) struct Frame {
    arena: ScratchArena,
    /// Where the address of the scratch values is, if a callback wants it.
    pub(super) scratch: Option<u32>,
    /// Where the context is, if a callback wants it.
    pub(super) ctx: Option<u32>,
    /// Where a callback leaves that the probe is to return, and what.
    pub(super) returned: Option<(u32, u32)>,
    /// Eight bytes each that are zeroed before anything else.
    pub(super) zeroed: Vec<u32>,
}

impl Frame {
    pub(super) fn alloc(&mut self, size: u32) -> u32 {
        self.arena.alloc(size)
    }

    pub(super) fn release(&mut self, offset: u32, size: u32) {
        self.arena.release(offset, size);
    }

    /// Bytes of the frame, as far as it is known.
    pub(super) fn size(&self) -> u32 {
        self.arena.high()
    }
}

impl<'p> Program<'p> {
    pub(super) fn new(body: &'p Body, n_params: u32, name: String) -> Self {
        Self {
            locals: &body.locals,
            usage: capture::analyze(body, n_params),
            places: vec![None; body.locals.len()],
            ..Self::without_script(name)
        }
    }

    /// For a function that no part of the script stands behind.
    pub(super) fn without_script(name: String) -> Self {
        Self {
            probe_index: 0,
            kind: None,
            default_return: 0,
            locals: &[],
            usage: Vec::new(),
            places: Vec::new(),
            scratch: ScratchArena::default(),
            scratch_entry: 0,
            scratch_used: false,
            frame: Frame::default(),
            uses_target_number: false,
            name,
            n_callbacks: 0,
            callback_returns: false,
            result: None,
        }
    }
}

/// Lowers all probes of a script. No function uses more than `stack_budget` bytes of stack for values.
/// With `sessions` there are programs that stand in for a kprobe and a kretprobe.
pub(crate) fn lower_program(
    program: &TypedProgram,
    sources: &SourceMap,
    stack_budget: u32,
    sessions: bool,
) -> R<Lowered> {
    let mut module = Module::new(program, sources, stack_budget)?;
    // Functions of the script come first, since their numbers are their indices.
    for _ in &program.functions {
        module.reserve_function();
    }
    let mut scratch = ScratchEntries::default();
    for (index, function) in program.functions.iter().enumerate() {
        let mut p = Program::new(
            &function.body,
            function.n_params,
            format!("fn_{}", identifier(&function.name)),
        );
        p.scratch_entry = scratch.next(None);
        let spec = FunctionSpec {
            index: index as u32,
            name: p.name.clone(),
            role: Role::Subprogram,
            n_params: n_words(function).min(MAX_REGISTERS as u32),
            span: function.span,
            has_span: true,
        };
        build(&mut module, &mut p, spec, |cx| cx.function_body(function))?;
        if p.scratch_used {
            module.need_scratch(p.scratch_entry, p.scratch.high());
        } else {
            scratch.give_back(p.scratch_entry);
        }
    }
    let mut numbered = Vec::with_capacity(program.probes.len());
    for (index, probe) in program.probes.iter().enumerate() {
        let made = lower_probe(&mut module, &mut scratch, index, probe, Role::Main)?;
        numbered.push(made.uses_target_number);
    }
    let pairs = if sessions {
        session::pairs(program)
    } else {
        Vec::new()
    };
    for (entry, ret) in pairs {
        // A link of both has one number for both.
        if !numbered[entry] && !numbered[ret] {
            let probes = [(entry, &program.probes[entry]), (ret, &program.probes[ret])];
            let [on_entry, on_return] = probes.map(|(index, probe)| {
                lower_probe(&mut module, &mut scratch, index, probe, Role::Subprogram)
            });
            let parts = [on_entry?.function, on_return?.function];
            session::lower(&mut module, probes, parts)?;
        }
    }
    module.finish()
}

/// Most parameters of BPF functions.
pub(super) const MAX_REGISTERS: usize = 5;

/// What a function of the script is called with: the program's context, where to leave a result that is not
/// returned in a register, and the parameters. What is more than there are registers is in memory, with its address
/// in the last register.
fn n_words(function: &bpftrace_sema::Function) -> u32 {
    1 + u32::from(is_in_memory(&function.ret)) + function.n_params
}

/// What came of lowering a probe.
struct LoweredProbe {
    function: u32,
    uses_target_number: bool,
}

/// Lowers a probe: to its program, or to a part of another one.
fn lower_probe<'p>(
    module: &mut Module<'p>,
    scratch: &mut ScratchEntries,
    index: usize,
    probe: &'p Probe,
    role: Role,
) -> R<LoweredProbe> {
    let mut name = program_name(probe, index);
    if role == Role::Subprogram {
        name.push_str("_part");
    }
    let mut p = Program::new(&probe.body, 0, name);
    p.probe_index = index;
    p.kind = Some(probe.kind);
    p.default_return = match probe.kind {
        // The verifier wants 0.
        ProgramKind::Fentry | ProgramKind::Fexit => 0,
        _ => probe.default_return,
    };
    p.scratch_entry = scratch.next(Some(probe.kind));
    let spec = FunctionSpec {
        index: module.reserve_function(),
        name: p.name.clone(),
        role,
        n_params: 1,
        span: probe.span,
        has_span: true,
    };
    let function = spec.index;
    build(module, &mut p, spec, |cx| cx.probe_body(probe))?;
    if p.scratch_used || p.frame.scratch.is_some() {
        module.need_scratch(p.scratch_entry, p.scratch.high());
    } else {
        scratch.give_back(p.scratch_entry);
    }
    Ok(LoweredProbe {
        function,
        uses_target_number: p.uses_target_number,
    })
}

/// Hands out entries of the scratch map.
#[derive(Debug, Default)]
struct ScratchEntries {
    guarded: Option<u32>,
    next: u32,
}

impl ScratchEntries {
    /// The entry for a program of a kind. The kinds that exclude each other on a CPU share one.
    fn next(&mut self, kind: Option<ProgramKind>) -> u32 {
        let guarded = matches!(
            kind,
            Some(ProgramKind::Kprobe | ProgramKind::Tracepoint | ProgramKind::PerfEvent)
        );
        if guarded && let Some(entry) = self.guarded {
            return entry;
        }
        let entry = self.next % MAX_SCRATCH_ENTRIES;
        self.next += 1;
        if guarded {
            self.guarded = Some(entry);
        }
        entry
    }

    /// Takes back the entry handed out last, which turned out not to be needed.
    fn give_back(&mut self, entry: u32) {
        if self.next > 0
            && entry == (self.next - 1) % MAX_SCRATCH_ENTRIES
            && self.guarded != Some(entry)
        {
            self.next -= 1;
        }
    }
}

/// The program's symbol: what the probe is called, and a number that makes it unique.
pub(super) fn program_name(probe: &Probe, index: usize) -> String {
    use bpftrace_meta::ProbeTarget as T;
    let text = match (&probe.name, probe.targets.first()) {
        (Some(name), _) => name.clone(),
        (None, None) => "probe".to_owned(),
        (None, Some(target)) => match target {
            T::Written { provider, text } => {
                let rest = text.split_once(':').map_or("", |(_, rest)| rest);
                format!("{}_{rest}", provider.as_str())
            }
            T::Begin => "begin".to_owned(),
            T::End => "end".to_owned(),
            T::SelfSignal(name) => format!("self_{name}"),
            T::Test(name) => format!("test_{name}"),
            T::Bench(name) => format!("bench_{name}"),
            T::Interval(period) => format!("interval_{period}"),
            T::Profile(period) => format!("profile_{period}"),
            T::Software { event, count } => counter("software", event, *count),
            T::Hardware { event, count } => counter("hardware", event, *count),
            T::Tracepoint { category, event } => format!("tracepoint_{category}_{event}"),
            T::RawTracepoint { module, name } => {
                joined(&["rawtracepoint", module.as_deref().unwrap_or(""), name])
            }
            T::Kprobe {
                ret,
                module,
                function,
                offset,
            } => {
                let provider = if *ret { "kretprobe" } else { "kprobe" };
                let name = joined(&[provider, module.as_deref().unwrap_or(""), function]);
                match offset {
                    0 => name,
                    offset => format!("{name}_{offset}"),
                }
            }
            T::KprobeAddress(_) => "kprobe".to_owned(),
            T::Fentry {
                exit,
                module,
                function,
            } => {
                let provider = if *exit { "fexit" } else { "fentry" };
                joined(&[provider, module.as_deref().unwrap_or(""), function])
            }
            T::FentryBpf { exit, name, .. } => {
                format!("{}_{}", if *exit { "fexit" } else { "fentry" }, name)
            }
            T::Uprobe { ret, .. } => (if *ret { "uretprobe" } else { "uprobe" }).to_owned(),
            T::Usdt { name, .. } => format!("usdt_{}", name),
            T::Watchpoint { .. } => "watchpoint".to_owned(),
            T::Iter { name, .. } => format!("iter_{name}"),
        },
    };
    let mut name = identifier(&text);
    name.truncate(64);
    format!("{name}_{}", index + 1)
}

fn counter(provider: &str, event: &str, count: u64) -> String {
    match count {
        0 => format!("{provider}_{event}"),
        count => format!("{provider}_{event}_{count}"),
    }
}

/// The parts of a name that are there.
fn joined(parts: &[&str]) -> String {
    let parts: Vec<&str> = parts.iter().copied().filter(|p| !p.is_empty()).collect();
    parts.join("_")
}

impl FnCx<'_, '_> {
    fn probe_body(&mut self, probe: &Probe) -> R<()> {
        if let Some(slot) = probe.pid_filter {
            self.pid_filter(slot)?;
        }
        self.stmts(&probe.body.stmts)?;
        self.return_default();
        Ok(())
    }

    /// Leaves unless the event belongs to the process that the user asked for, if any.
    fn pid_filter(&mut self, slot: bpftrace_sema::SlotIdx) -> R<()> {
        let wanted = self.slot_value(slot)?;
        let asked = self.slot_truth(slot.0);
        self.when(asked, false, |cx| {
            let pid = cx.pid_or_tid(super::builtin::PidPart::Pid, false)?;
            let pid = cx.zext64(pid);
            let other = cx.b.ins().icmp(IntCC::NotEqual, pid, wanted);
            cx.when(other, false, |cx| {
                cx.return_default();
                cx.enter_unreachable();
                Ok(())
            })
        })
    }

    fn function_body(&mut self, function: &bpftrace_sema::Function) -> R<()> {
        let mut words = self.params.clone();
        let n_words = n_words(function) as usize;
        if n_words > words.len()
            && let Some(block) = words.pop()
        {
            for i in 0..n_words - words.len() {
                let place = Addr::value(block, 8).at(8 * i as u64);
                words.push(self.load(types::I64, place, Access::Own));
            }
        }
        // The context is in front.
        let mut words = words.into_iter().skip(1);
        if is_in_memory(&function.ret)
            && let Some(result) = words.next()
        {
            // Loops in the function find it in the frame.
            let offset = self.p.frame.alloc(8);
            self.store(result, Addr::frame(offset));
            self.p.result = Some(offset);
        }
        for (index, value) in words.enumerate() {
            self.define_param(bpftrace_sema::LocalIdx(index as u32), value)?;
        }
        self.stmts(&function.body.stmts)?;
        self.return_default();
        Ok(())
    }

    /// Where the function leaves what it returns.
    pub(super) fn result_place(&mut self) -> R<Addr> {
        let Some(offset) = self.p.result else {
            return self.internal("a value in memory that nobody waits for");
        };
        let result = self.load(types::I64, Addr::frame(offset), Access::Own);
        Ok(Addr::value(result, 8))
    }

    /// Whether the verifier takes nothing but 0 as the result of the program.
    pub(super) fn must_return_zero(&self) -> bool {
        self.role == Role::Main
            && matches!(self.p.kind, Some(ProgramKind::Fentry | ProgramKind::Fexit))
    }

    /// Ends the function with what it returns when the script does not say.
    pub(super) fn return_default(&mut self) {
        let value = match self.role {
            Role::Main | Role::Session { .. } => self.p.default_return,
            Role::Callback | Role::Subprogram => 0,
        };
        let value = self.i64(value);
        self.b.ins().return_(&[value]);
    }
}
