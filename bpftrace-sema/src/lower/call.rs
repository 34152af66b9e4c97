//! Calls: which function, whether it may be called here, and those that fit nowhere else.

use bpftrace_ast::diag::Diagnostic;
use bpftrace_ast::node::{self, Arg};
use bpftrace_ast::source::Span;
use bpftrace_meta::{HostValue, ProgramKind};

use super::call_system::is_true;
use super::{Lowerer, Val};
use crate::builtin::{Entry, FUNCTIONS, Func, INTERNAL, count_error, find_function};
use crate::{Call, ExprKind, IntTy, Mem, Ty, codes, stdlib};

/// Names of all functions.
pub(super) fn function_names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS
        .iter()
        .map(|entry| entry.name)
        .filter(|name| !name.starts_with(INTERNAL))
}

impl Lowerer<'_, '_> {
    /// `name(args)`.
    pub(super) fn call(&mut self, span: Span, call: &node::Call) -> Val {
        let name = &call.name.name;
        if self.s.macros.contains(name, self.caller(span)) {
            return self.macro_call(span, name, &call.args);
        }
        if let Some(val) = self.function_call(span, call) {
            return val;
        }
        let Some(entry) = find_function(name) else {
            // Builtin variables can be written as calls.
            if call.args.is_empty()
                && (super::builtins::BUILTINS.contains(&name.as_str())
                    || name.starts_with(INTERNAL))
                && let Some(val) = self.builtin(span, name)
            {
                return val;
            }
            return match self.imported_call(span, call) {
                Some(val) => val,
                None => self.unknown_function(span, call),
            };
        };
        if !super::call_map::is_aggregation(entry.name)
            && let Some(message) = count_error(entry, call.args.len())
        {
            self.error(codes::ARGUMENT_COUNT, span, message);
            return Val::unknown(span);
        }
        if !self.is_allowed(span, call, entry) {
            return Val::unknown(span);
        }
        self.call_known(span, call, entry)
    }

    fn unknown_function(&mut self, span: Span, call: &node::Call) -> Val {
        let name = &call.name.name;
        let forms = stdlib::forms(name);
        if !forms.is_empty() {
            self.error_hint(
                codes::MACRO,
                span,
                format!("Call to {name}() has arguments that do not match any definition."),
                format!("{name} is called as {}", forms.join(" or ")),
            );
            return Val::unknown(span);
        }
        let mut diag = Diagnostic::error(
            codes::UNKNOWN_FUNCTION,
            span,
            format!("Unknown function: '{name}'"),
        );
        let imported = self.s.imported_functions.iter().map(|f| f.name.clone());
        let own = self.s.macros.names().map(str::to_owned).chain(imported);
        let own: Vec<String> = own.collect();
        let mut known: Vec<&str> = own.iter().map(String::as_str).collect();
        for function in function_names().chain(stdlib::names()) {
            known.push(function);
        }
        if let Some(near) = self.nearest(name, known) {
            diag = diag.with_hint(format!("Did you mean: {near}()?"));
        }
        self.s.diags.push(diag);
        // Mistakes in the arguments are worth knowing about as well.
        for arg in &call.args {
            if let Arg::Expr(arg) = arg {
                self.expr(arg);
            }
        }
        Val::unknown(span)
    }

    fn is_allowed(&mut self, span: Span, call: &node::Call, entry: &Entry) -> bool {
        let name = match entry.func {
            Func::Signal if is_true(call.args.get(1)) => "signal_thread",
            _ => entry.shown(),
        };
        if entry.is_unsafe && !self.s.options.unsafe_mode {
            let message = match entry.func {
                Func::System => format!("{name}() is an unsafe function being used in safe mode"),
                _ => format!("{name}() is unsafe. To use you need the --unsafe flag"),
            };
            self.error(codes::UNSAFE, span, message);
            return false;
        }
        if !entry.providers.is_empty() && self.unit.is_function() {
            self.error(
                codes::NOT_IN_PROBE,
                span,
                format!("Builtin {name} not supported outside probe"),
            );
            return false;
        }
        if !entry.providers.is_empty() && !entry.providers.contains(&self.unit.provider) {
            let here = self.unit.provider.as_str();
            let probes: Vec<&str> = entry.providers.iter().map(|p| p.as_str()).collect();
            self.error_hint(
                codes::NOT_IN_PROBE,
                span,
                match name {
                    "path" => format!(
                        "The path function can only be used with 'fentry', 'fexit', 'iter' probes, \
                         not with \"{here}\""
                    ),
                    _ => format!("{name} can not be used with \"{here}\" probes"),
                },
                format!("{name} can be used with: {}", probes.join(", ")),
            );
            return false;
        }
        true
    }

    fn call_known(&mut self, span: Span, call: &node::Call, entry: &Entry) -> Val {
        match entry.func {
            Func::Printf
            | Func::Errorf
            | Func::Warnf
            | Func::System
            | Func::Cat
            | Func::Debugf
            | Func::Print
            | Func::Exit
            | Func::Time
            | Func::Join
            | Func::Fail
            | Func::Unwatch => self.output_call(span, call, entry.func),
            Func::Str
            | Func::Buf
            | Func::Strncmp
            | Func::Strstr
            | Func::Strlen
            | Func::StrConcat
            | Func::Memcmp
            | Func::Kptr
            | Func::Uptr
            | Func::Path
            | Func::Macaddr
            | Func::Ntop
            | Func::Pton
            | Func::Bswap
            | Func::WriteUser => self.memory_call(span, call, entry.func),
            Func::Delete
            | Func::HasKey
            | Func::Find
            | Func::MapLen
            | Func::StackLen
            | Func::IsKeyed
            | Func::IsScalar
            | Func::Clear
            | Func::Zero => self.map_call(span, call, entry.func),
            Func::Count
            | Func::Sum
            | Func::Min
            | Func::Max
            | Func::Avg
            | Func::Stats
            | Func::Hist
            | Func::Lhist
            | Func::Tseries => {
                let name = entry.name;
                self.error(
                    codes::MAP_VALUE,
                    span,
                    format!("{name}() must be assigned directly to a map"),
                );
                Val::unknown(span)
            }
            Func::Kstack | Func::Ustack | Func::DwUstack => self.stack_call(span, call, entry.func),
            Func::Nsecs => self.nsecs_call(span, call),
            Func::Strftime => self.strftime_call(span, call),
            Func::Pid | Func::Tid => self.pid_call(span, call, entry.func),
            Func::TaskFromPid => {
                let Some(pid) = self.int_arg(call, 0) else {
                    return Val::unknown(span);
                };
                let pid = Box::new(self.int_of(pid, IntTy::I32));
                let ty = self.curtask(span).expr.ty;
                call_val(span, ty, Call::TaskFromPid(pid)).with_space(Mem::Kernel)
            }
            Func::TaskRelease => {
                let Some(task) = self.arg_val(call, 0) else {
                    return Val::unknown(span);
                };
                call_val(span, Ty::Void, Call::TaskRelease(Box::new(task.expr)))
            }
            Func::Ksym | Func::Usym => self.symbol_call(span, call, entry.func),
            Func::Kaddr => {
                let Some(name) = self.literal_arg(call, 0) else {
                    return Val::unknown(span);
                };
                self.slot(HostValue::KernelSymbol(name), Ty::Int(IntTy::U64), span)
                    .with_space(Mem::Kernel)
            }
            Func::Uaddr => self.uaddr_call(span, call),
            Func::Cgroupid => {
                let Some(path) = self.literal_arg(call, 0) else {
                    return Val::unknown(span);
                };
                self.slot(HostValue::CgroupId(path), Ty::Int(IntTy::U64), span)
            }
            Func::CgroupPath => self.cgroup_path_call(span, call),
            Func::Reg => {
                let Some(name) = self.literal_arg(call, 0) else {
                    return Val::unknown(span);
                };
                if !self.outside_for(span, "reg") {
                    return Val::unknown(span);
                }
                self.register(span, &name)
            }
            Func::PercpuKaddr => self.percpu_kaddr_call(span, call),
            Func::SkbOutput => self.skb_output_call(span, call),
            Func::SocketCookie => {
                let Some(sk) = self.arg_val(call, 0) else {
                    return Val::unknown(span);
                };
                let is_sock = match sk.ty() {
                    Ty::Ptr(pointee, _) => match &**pointee {
                        Ty::Struct(id, _) => self.s.imported.table.struct_def(*id).name == "sock",
                        _ => false,
                    },
                    _ => false,
                };
                if !is_sock {
                    let spelled = self.spell_val(&sk);
                    self.error(
                        codes::ARGUMENT_KIND,
                        span,
                        format!(
                            "socket_cookie() only supports 'struct sock *' as the argument \
                             ('{spelled}' provided)"
                        ),
                    );
                    return Val::unknown(span);
                }
                call_val(
                    span,
                    Ty::Int(IntTy::U64),
                    Call::SocketCookie(Box::new(sk.expr)),
                )
            }
            Func::Signal => self.signal_call(span, call),
            Func::SignalNumber => self.signal_number_call(span, call),
            Func::KfuncExist | Func::KfuncAllowed => self.kfunc_call(span, call, entry.func),
            Func::Override => {
                let Some(rc) = self.int_arg(call, 0) else {
                    return Val::unknown(span);
                };
                let rc = self.int_of(rc, IntTy::U64);
                call_val(span, Ty::Void, Call::Override(Box::new(rc)))
            }
            Func::Strerror | Func::SignalName | Func::SyscallName => {
                self.number_name(span, call, entry.func)
            }
            Func::Getopt => self.getopt_call(span, call),
            Func::IsLiteral => {
                self.unevaluated += 1;
                let val = self.arg_val(call, 0);
                self.unevaluated -= 1;
                match val {
                    Some(val) => Val::boolean(span, super::control::is_literal(&val)),
                    None => Val::unknown(span),
                }
            }
        }
    }
}

/// A call of a function that runs in the program.
pub(super) fn call_val(span: Span, ty: Ty, call: Call) -> Val {
    Val::new(ty, span, ExprKind::Call(call))
}

/// Whether the kernel lets any program of a kind call functions of its own: those of tracing, since 6.12
/// those of tracepoints and perf events as well.
pub(super) fn calls_kernel_functions(kind: ProgramKind) -> bool {
    use ProgramKind as K;
    match kind {
        K::Fentry | K::Fexit | K::Iter | K::TpBtf | K::Tracepoint | K::PerfEvent => true,
        K::RawTracepointRun | K::Xdp | K::Kprobe | K::Uprobe => false,
    }
}
