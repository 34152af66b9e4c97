//! Bare names: builtin variables, enumerators.

use std::rc::Rc;

use bpftrace_ast::attach::ProviderKind as P;
use bpftrace_ast::diag::Diagnostic;
use bpftrace_ast::source::Span;
use bpftrace_meta::{HostValue, ProbeTarget, ProgramKind, StackMode};

use super::call::calls_kernel_functions;
use super::{Lowerer, Val};
use crate::builtin::{INTERNAL, shown};
use crate::cdef::CDefs;
use crate::pass::attach::{address_space, probe_label, probe_type};
use crate::pass::config::SettingValue;
use crate::{Builtin, Clock, ExprKind, IntTy, Mem, StackTy, Ty, codes, stdlib, suggest};

/// Builtins that are not macros of the library. They can be called as well as written bare.
pub(super) const BUILTINS: &[&str] = &[
    "args", "ctx", "kstack", "nsecs", "pid", "tid", "ustack", "arg0", "arg1", "arg2", "arg3",
    "arg4", "arg5",
];

/// Builtins that ask about the probe, as messages name them.
const PROBE_BUILTINS: &[&str] = &[
    "args",
    "ctx",
    "func",
    "probe",
    "probetype",
    "retval",
    "usermode",
    "arg0",
    "arg1",
    "arg2",
    "arg3",
    "arg4",
    "arg5",
];

/// Frames of a stack when nothing says how many.
pub(super) const DEFAULT_STACK_LIMIT: u32 = 127;

impl Lowerer<'_, '_> {
    /// An enumerator of the script or of the kernel.
    pub(super) fn enumerator(&mut self, span: Span, name: &str) -> Option<Val> {
        match self.s.c.own_enumerator(name) {
            Some(enumerator) => Some(Val::enumerator(span, enumerator)),
            None => self.kernel_enumerator(span, name),
        }
    }

    fn kernel_enumerator(&mut self, span: Span, name: &str) -> Option<Val> {
        let (ty, value) = self.s.types.find_enumerator(name)?;
        let kind = if ty.is_of_import() {
            ExprKind::Const(value.cast_unsigned())
        } else {
            ExprKind::KernelEnumerator {
                name: name.to_owned(),
                value,
            }
        };
        Some(match self.s.imported.enum_ty(self.s.types, ty) {
            // Anonymous enums are just constants.
            Some((id, int)) => {
                let anonymous = self.s.imported.table.enum_def(id).name.is_empty();
                let ty = if anonymous {
                    Ty::Int(int)
                } else {
                    Ty::Enum(id, int)
                };
                Val::new(ty, span, kind).with_range((i128::from(value), i128::from(value)))
            }
            None => Val::literal(span, i128::from(value)),
        })
    }

    /// A bare name.
    pub(super) fn ident(&mut self, span: Span, name: &str) -> Val {
        if self.s.macros.contains(name, self.caller(span)) {
            return self.macro_call(span, name, &[]);
        }
        if let Some(val) = self.builtin(span, name) {
            return val;
        }
        if let Some(enumerator) = self.s.c.own_enumerator(name) {
            return Val::enumerator(span, enumerator);
        }
        if self.s.c.macro_text(name, false).is_some() {
            return self.c_macro(span, name);
        }
        if let Some(enumerator) = self.kernel_enumerator(span, name) {
            return enumerator;
        }
        if self.s.c.macro_text(name, true).is_some() {
            return self.c_macro(span, name);
        }
        let (c, mut asker) = self.s.c_headers();
        if let Some(enumerator) = c.header_enumerator(&mut asker, name) {
            return Val::enumerator(span, enumerator);
        }
        if let Some(value) = CDefs::known_constant(name) {
            return Val::literal(span, i128::from(value));
        }
        let is_function = super::call::function_names().any(|function| function == name);
        let mut diag = Diagnostic::error(
            codes::UNKNOWN_IDENTIFIER,
            span,
            format!("Unknown identifier: '{name}'"),
        );
        if let Some(form) = stdlib::forms(name).first() {
            diag = diag.with_hint(format!("{name} is a function: write {form}"));
        } else if is_function {
            diag = diag.with_hint(format!("{name} is a function: write {name}()"));
        } else if let Some(near) = {
            let known = BUILTINS.iter().copied().chain(stdlib::names());
            self.nearest(name, known)
        } {
            diag = diag.with_hint(format!("Did you mean: {near}?"));
        } else if let Some(hint) = self.s.missing_header_hint() {
            diag = diag.with_hint(hint);
        }
        self.s.diags.push(diag);
        Val::unknown(span)
    }

    /// A builtin variable; `None` when there is none of that name.
    pub(super) fn builtin(&mut self, span: Span, name: &str) -> Option<Val> {
        let u64_of = |builtin| Val::new(Ty::Int(IntTy::U64), span, ExprKind::Builtin(builtin));
        let u32_of = |builtin| Val::new(Ty::Int(IntTy::U32), span, ExprKind::Builtin(builtin));
        if self.unit.is_function() && PROBE_BUILTINS.contains(&shown(name)) {
            self.error(
                codes::NOT_IN_PROBE,
                span,
                format!("Builtin {} not supported outside probe", shown(name)),
            );
            return Some(Val::unknown(span));
        }
        Some(match name {
            "pid" => u32_of(Builtin::Pid(false)),
            "tid" => u32_of(Builtin::Tid(false)),
            "nsecs" => u64_of(Builtin::Nsecs(Clock::Boot)),
            "args" => self.args(span),
            "ctx" => self.ctx(span),
            "kstack" => {
                let mode = self.without_build_ids(span, self.s.settings.stack_mode);
                self.kstack(
                    span,
                    StackTy {
                        mode,
                        limit: DEFAULT_STACK_LIMIT,
                    },
                )
            }
            "ustack" => {
                let mode = self.s.settings.stack_mode;
                self.ustack(
                    span,
                    StackTy {
                        mode,
                        limit: DEFAULT_STACK_LIMIT,
                    },
                )
            }
            "dw_ustack" => {
                let mode = self.s.settings.stack_mode;
                self.dw_ustack(
                    span,
                    StackTy {
                        mode,
                        limit: DEFAULT_STACK_LIMIT,
                    },
                )
            }
            _ if name.starts_with(INTERNAL) => return self.internal(span, shown(name)),
            _ => {
                let digits =
                    |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                if name.strip_prefix("sarg").is_some_and(digits) {
                    self.error_hint(
                        codes::DEPRECATED,
                        span,
                        "sarg* is deleted: it was deprecated in v0.21 and last available in v0.24.",
                        "Use *(reg(\"sp\") + <stack_offset>) instead.",
                    );
                    return Some(Val::unknown(span));
                }
                let n = name.strip_prefix("arg").filter(|n| digits(n))?;
                self.arg(span, name, n.parse().unwrap_or(u32::MAX))
            }
        })
    }

    /// What a builtin of the library stands on, by its name without the prefix.
    fn internal(&mut self, span: Span, name: &str) -> Option<Val> {
        let u64_of = |builtin| Val::new(Ty::Int(IntTy::U64), span, ExprKind::Builtin(builtin));
        Some(match name {
            "uid" => u64_of(Builtin::Uid),
            "gid" => u64_of(Builtin::Gid),
            "elapsed" => u64_of(Builtin::Elapsed),
            "cpu" => u64_of(Builtin::Cpu),
            "numaid" => u64_of(Builtin::Numaid),
            "cgroup" => u64_of(Builtin::Cgroup),
            "rand" => u64_of(Builtin::Rand),
            "jiffies" => u64_of(Builtin::Jiffies),
            "comm" => Val::new(Ty::Str(16), span, ExprKind::Builtin(Builtin::Comm)),
            "ncpus" => self.slot(HostValue::NumCpus, Ty::Int(IntTy::U64), span),
            "cpid" => self.slot(HostValue::ChildPid, Ty::Int(IntTy::U64), span),
            "curtask" => self.curtask(span),
            "retval" => self.retval(span),
            "func" => self.func(span),
            "probe" => Val::new(Ty::ProbeName, span, ExprKind::Builtin(Builtin::Probe)),
            "probetype" => Val::string(span, probe_type(self.unit.provider).as_bytes().to_vec()),
            "usermode" => self.usermode(span),
            "config" => self.config_record(span),
            "calls_kfuncs" => Val::boolean(span, calls_kernel_functions(self.unit.kind)),
            "safe_mode" => Val::boolean(span, !self.s.options.unsafe_mode),
            "arch" => Val::string(span, b"x86_64".to_vec()),
            _ => return None,
        })
    }

    /// The settings that code depends on, and those that start out as the script says.
    fn config_record(&mut self, span: Span) -> Val {
        let (mut names, mut values) = (Vec::new(), Vec::new());
        for (name, value) in self.s.settings.values() {
            let val = match value {
                SettingValue::Number(n) => Val::new(Ty::Int(IntTy::U64), span, ExprKind::Const(n)),
                SettingValue::Bool(value) => Val::boolean(span, value),
                SettingValue::Text(text) => Val::string(span, text.into_bytes()),
            };
            names.push((name.to_owned(), val.ty().clone()));
            values.push(val.expr);
        }
        Val::new(Ty::Record(names.into()), span, ExprKind::Tuple(values))
    }

    fn arg(&mut self, span: Span, name: &str, n: u32) -> Val {
        let limit = match self.unit.provider {
            P::Kprobe | P::Uprobe => 6,
            P::Usdt | P::Rawtracepoint => 12,
            P::Kretprobe | P::Uretprobe => {
                self.error_hint(
                    codes::NOT_IN_PROBE,
                    span,
                    format!(
                        "The {name} builtin can only be used with 'kprobes', 'uprobes' and 'usdt' \
                         probes"
                    ),
                    "Arguments are gone when a function returns: store them in a map keyed by tid at \
                     its entry.",
                );
                return Val::unknown(span);
            }
            P::Fentry | P::Fexit | P::Tracepoint => {
                self.error_hint(
                    codes::NOT_IN_PROBE,
                    span,
                    format!(
                        "The {name} builtin can only be used with 'kprobes', 'uprobes' and 'usdt' \
                         probes"
                    ),
                    "Use args and the name of the argument here.",
                );
                return Val::unknown(span);
            }
            _ => {
                self.error(
                    codes::NOT_IN_PROBE,
                    span,
                    format!(
                        "The {name} builtin can only be used with 'kprobes', 'uprobes' and 'usdt' \
                         probes"
                    ),
                );
                return Val::unknown(span);
            }
        };
        if n >= limit {
            self.error(
                codes::NOT_IN_PROBE,
                span,
                format!(
                    "{name} is not available: probes of this type have arg0 to arg{}",
                    limit - 1
                ),
            );
            return Val::unknown(span);
        }
        if !self.outside_for(span, name) {
            return Val::unknown(span);
        }
        // Those of USDT probes are widened by the signs in their notes.
        let int = match self.unit.provider {
            P::Usdt => IntTy::I64,
            _ => IntTy::U64,
        };
        Val::new(Ty::Int(int), span, ExprKind::Builtin(Builtin::Arg(n)))
            .with_space(address_space(self.unit.provider))
    }

    /// What reads the context is not there in the body of a `for` loop.
    pub(super) fn outside_for(&mut self, span: Span, name: &str) -> bool {
        if self.in_for() {
            self.error(
                codes::LOOP,
                span,
                format!("'{name}' builtin is not allowed in a for-loop"),
            );
            return false;
        }
        true
    }

    fn retval(&mut self, span: Span) -> Val {
        match self.unit.provider {
            P::Kretprobe | P::Uretprobe => {
                if !self.outside_for(span, "retval") {
                    return Val::unknown(span);
                }
                Val::new(
                    Ty::Int(IntTy::U64),
                    span,
                    ExprKind::Builtin(Builtin::Retval),
                )
                .with_space(address_space(self.unit.provider))
            }
            P::Fexit => self.typed_retval(span),
            _ => {
                let is_exit = self.unit.targets.iter().any(|target| {
                    matches!(target, ProbeTarget::Tracepoint { category, event }
                        if category == "syscalls" && event.starts_with("sys_exit"))
                });
                let mut message = "The retval builtin can only be used with 'kretprobe' and \
                                   'uretprobe' and 'fentry' probes"
                    .to_owned();
                if is_exit {
                    message.push_str(" (try to use args.ret instead)");
                }
                self.error(codes::NOT_IN_PROBE, span, message);
                Val::unknown(span)
            }
        }
    }

    fn func(&mut self, span: Span) -> Val {
        let ty = match self.unit.provider {
            P::Kprobe | P::Kretprobe | P::Fentry | P::Fexit => Ty::KSym,
            P::Uprobe | P::Uretprobe => Ty::USym,
            other => {
                let label = probe_label(other);
                self.error(
                    codes::NOT_IN_PROBE,
                    span,
                    format!("The func builtin can not be used with '{label}' probes"),
                );
                return Val::unknown(span);
            }
        };
        if !self.outside_for(span, "func") {
            return Val::unknown(span);
        }
        Val::new(ty, span, ExprKind::Builtin(Builtin::Func))
    }

    fn ctx(&mut self, span: Span) -> Val {
        let name = match self.unit.kind {
            ProgramKind::Kprobe | ProgramKind::Uprobe => "pt_regs".to_owned(),
            ProgramKind::PerfEvent => "bpf_perf_event_data".to_owned(),
            ProgramKind::Iter => match self.unit.targets.first() {
                Some(ProbeTarget::Iter { name, .. }) => format!("bpf_iter__{name}"),
                _ => String::new(),
            },
            ProgramKind::Tracepoint => {
                self.error(
                    codes::NOT_IN_PROBE,
                    span,
                    "Use args instead of ctx in tracepoint",
                );
                return Val::unknown(span);
            }
            _ => {
                let label = probe_label(self.unit.provider);
                self.error(
                    codes::NOT_IN_PROBE,
                    span,
                    format!("The ctx builtin can not be used with '{label}' probes"),
                );
                return Val::unknown(span);
            }
        };
        if !self.outside_for(span, "ctx") {
            return Val::unknown(span);
        }
        let pointee = match self.s.imported.context_struct(self.s.types, &name) {
            Some(id) => {
                self.complete(id);
                Ty::Struct(id, Mem::Unknown)
            }
            None if self.unit.kind == ProgramKind::Iter => {
                let iter = name.trim_start_matches("bpf_iter__").to_owned();
                self.error(
                    codes::ATTACH_POINT,
                    span,
                    format!("iter {iter} not available for your kernel version."),
                );
                return Val::unknown(span);
            }
            None => Ty::Void,
        };
        Val::new(
            Ty::Ptr(Rc::new(pointee), Mem::Ctx),
            span,
            ExprKind::Builtin(Builtin::Ctx),
        )
    }

    fn usermode(&mut self, span: Span) -> Val {
        let constant = match self.unit.kind {
            ProgramKind::Kprobe | ProgramKind::Uprobe | ProgramKind::PerfEvent => {
                return Val::new(
                    Ty::Int(IntTy::U8),
                    span,
                    ExprKind::Builtin(Builtin::Usermode),
                );
            }
            ProgramKind::RawTracepointRun => 1,
            _ => 0,
        };
        Val::new(Ty::Int(IntTy::U8), span, ExprKind::Const(constant))
    }

    pub(super) fn curtask(&mut self, span: Span) -> Val {
        let pointee = match self.s.types.find_struct("task_struct", false) {
            Some(found) => self.s.imported.ty(self.s.types, found),
            None => Ty::Void,
        };
        let ty = Ty::Ptr(Rc::new(pointee), Mem::Kernel);
        Val::new(ty, span, ExprKind::Builtin(Builtin::Curtask)).with_space(Mem::Kernel)
    }

    pub(super) fn kstack(&mut self, span: Span, stack: StackTy) -> Val {
        Val::new(Ty::KStack(stack), span, ExprKind::Builtin(Builtin::Kstack))
    }

    pub(super) fn ustack(&mut self, span: Span, stack: StackTy) -> Val {
        Val::new(Ty::UStack(stack), span, ExprKind::Builtin(Builtin::Ustack))
    }

    /// A user stack by unwinding. Build ids come with the kernel's own unwinding only.
    pub(super) fn dw_ustack(&mut self, span: Span, mut stack: StackTy) -> Val {
        self.unstable(
            span,
            self.s.settings.dw_ustack,
            "dw_ustack (DWARF stack unwinding)",
            "unstable_dw_ustack",
        );
        stack.mode = self.without_build_ids(span, stack.mode);
        Val::new(
            Ty::UStack(stack),
            span,
            ExprKind::Builtin(Builtin::DwUstack),
        )
    }

    /// The mode that stands in for that of build ids, which only the kernel's unwinding of user stacks has.
    fn without_build_ids(&mut self, span: Span, mode: StackMode) -> StackMode {
        if mode != StackMode::BuildId {
            return mode;
        }
        self.warn(
            codes::ARGUMENT_IGNORED,
            span,
            "'build_id' stack mode can only be used for ustack. Falling back to 'raw' mode.",
        );
        StackMode::Raw
    }

    /// The register of a name on x86-64: its offset in `struct pt_regs`.
    pub(super) fn register(&mut self, span: Span, name: &str) -> Val {
        let at = REGISTERS.iter().find(|(known, _)| *known == name);
        match at {
            Some((_, offset)) => {
                let kind = ExprKind::Builtin(Builtin::Reg(*offset));
                Val::new(Ty::Int(IntTy::U64), span, kind)
                    .with_space(address_space(self.unit.provider))
            }
            None => {
                let mut diag = Diagnostic::error(
                    codes::ARGUMENT_KIND,
                    span,
                    format!("'{name}' is not a valid register on this architecture (x86_64)"),
                );
                if let Some(near) = suggest::nearest(name, REGISTERS.iter().map(|(n, _)| *n)) {
                    diag = diag.with_hint(format!("Did you mean: {near}?"));
                }
                self.s.diags.push(diag);
                Val::unknown(span)
            }
        }
    }
}

/// Members of `struct pt_regs` of x86-64 and their offsets in bytes
/// (`arch/x86/include/asm/ptrace.h`; part of the kernel's interface to user space).
const REGISTERS: &[(&str, u32)] = &[
    ("r15", 0),
    ("r14", 8),
    ("r13", 16),
    ("r12", 24),
    ("bp", 32),
    ("bx", 40),
    ("r11", 48),
    ("r10", 56),
    ("r9", 64),
    ("r8", 72),
    ("ax", 80),
    ("cx", 88),
    ("dx", 96),
    ("si", 104),
    ("di", 112),
    ("orig_rax", 120),
    ("orig_ax", 120),
    ("ip", 128),
    ("pc", 128),
    ("cs", 136),
    ("flags", 144),
    ("sp", 152),
    ("ss", 160),
];
