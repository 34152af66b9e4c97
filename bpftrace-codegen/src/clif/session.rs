//! One program for a kprobe and a kretprobe of the same functions: where the kernel has sessions, one
//! link fires it when a function is entered and when it returns.

use bpftrace_meta::{Feature, ProbeTarget};
use bpftrace_sema::{Probe, TypedProgram};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, types};

use super::R;
use super::func::{FnCx, FunctionSpec, Role, build};
use super::module::Module;
use super::program::{Program, program_name};

/// Functions, and whether the probe is for their return.
fn functions_of(probe: &Probe) -> Option<(&str, bool)> {
    match probe.targets.as_slice() {
        [
            ProbeTarget::Kprobe {
                ret,
                module: None,
                function,
                offset: 0,
            },
        ] => Some((function, *ret)),
        _ => None,
    }
}

/// Indices of the kprobes and kretprobes that belong together: those that are alone on both sides.
pub(super) fn pairs(program: &TypedProgram) -> Vec<(usize, usize)> {
    // What changes the result of a function is not allowed in sessions.
    let overrides =
        |requirement: &bpftrace_meta::Requirement| requirement.feature == Feature::Override;
    if program.requirements.iter().any(overrides) {
        return Vec::new();
    }
    let probes = &program.probes;
    let only = |wanted: (&str, bool)| {
        let mut found =
            (0..probes.len()).filter(|index| functions_of(&probes[*index]) == Some(wanted));
        let first = found.next()?;
        found.next().is_none().then_some(first)
    };
    let mut pairs = Vec::new();
    for (index, probe) in probes.iter().enumerate() {
        if let Some((functions, false)) = functions_of(probe)
            && only((functions, false)) == Some(index)
            && let Some(ret) = only((functions, true))
        {
            pairs.push((index, ret));
        }
    }
    pairs
}

/// Builds the program of a pair from the functions that do what the two probes do.
pub(super) fn lower<'p>(
    m: &mut Module<'p>,
    probes: [(usize, &'p Probe); 2],
    [on_entry, on_return]: [u32; 2],
) -> R<()> {
    let [(entry, probe), (ret, _)] = probes;
    let mut p = Program::without_script(format!("{}_session", program_name(probe, entry)));
    p.kind = Some(probe.kind);
    let spec = FunctionSpec {
        index: m.reserve_function(),
        name: p.name.clone(),
        role: Role::Session { entry, ret },
        n_params: 1,
        span: probe.span,
        has_span: true,
    };
    build(m, &mut p, spec, |cx| cx.session(on_entry, on_return))
}

impl FnCx<'_, '_> {
    fn session(&mut self, on_entry: u32, on_return: u32) -> R<()> {
        let takes_context = self.feature(Feature::SessionContext)?;
        let answer = self.choose(
            takes_context,
            types::I64,
            |cx| {
                let question = cx.m.session_is_return_with_context();
                let ctx = cx.ctx();
                Ok(cx.call_kfunc(question, &[ctx]))
            },
            |cx| {
                let question = cx.m.session_is_return();
                Ok(cx.call_kfunc(question, &[]))
            },
        )?;
        let answer = self.b.ins().ireduce(types::I8, answer);
        let is_return = self.cmp_imm(IntCC::NotEqual, answer, 0);
        self.choose(
            is_return,
            types::I64,
            |cx| {
                let ctx = cx.ctx();
                Ok(cx.call_subprog(on_return, &[ctx]))
            },
            |cx| {
                let ctx = cx.ctx();
                Ok(cx.call_subprog(on_entry, &[ctx]))
            },
        )?;
        // Anything else on entry, and the return would not be seen.
        self.return_default();
        Ok(())
    }
}
