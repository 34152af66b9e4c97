//! Calls: which function, whether it may be called here, and those that fit nowhere else.

use std::borrow::Cow;

use bpftrace_ast::diag::Diagnostic;
use bpftrace_ast::node::{self, Arg, ExprKind as Ast};
use bpftrace_ast::source::Span;
use bpftrace_meta::{HostValue, ProgramKind};

use super::{Lowerer, Val};
use crate::builtin::{Entry, FUNCTIONS, Func, INTERNAL, count_error, find_function, shown};
use crate::{
    Builtin, Call, Clock, EnumDef, ExprKind, IntTy, Mem, StackTy, Ty, codes, number_names, stdlib,
    suggest,
};

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
        if let Some(message) = count_error(entry, call.args.len()) {
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
                format!("{name} can not be used with \"{here}\" probes"),
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

    /// The expression of an argument that is not a type.
    pub(super) fn value_arg<'t>(&mut self, arg: &'t Arg) -> Option<&'t node::Expr> {
        match arg {
            Arg::Expr(expr) => Some(expr),
            Arg::Type(spec) => {
                self.error(
                    codes::ARGUMENT_KIND,
                    spec.span,
                    "When used as a call argument, `typeof` builtin only valid for macro calls that \
                     are expecting a type parameter",
                );
                None
            }
        }
    }

    /// An argument as a value; `None` when there is none, or nothing is known about it.
    pub(super) fn arg_val(&mut self, call: &node::Call, at: usize) -> Option<Val> {
        let tree = self.value_arg(call.args.get(at)?)?;
        let val = self.expr(tree);
        val.known.then_some(val)
    }

    /// An argument that must be a literal.
    pub(super) fn literal_val(&mut self, call: &node::Call, at: usize) -> Option<Val> {
        let tree = self.value_arg(call.args.get(at)?)?;
        let val = self.literal_expr(tree);
        val.known.then_some(val)
    }

    /// An argument that must be an integer.
    pub(super) fn int_arg(&mut self, call: &node::Call, at: usize) -> Option<Val> {
        let val = self.arg_val(call, at)?;
        let name = shown(&call.name.name);
        let is_number = match val.ty() {
            Ty::Int(_) | Ty::Enum(..) => true,
            // The functions that are macros of the library cast what they get.
            Ty::Bool => {
                !matches!(
                    name,
                    "avg" | "bswap" | "buf" | "cgroup_path" | "exit" | "hist"
                ) && !matches!(name, "lhist" | "max" | "min" | "stats" | "str" | "strftime")
                    && !matches!(name, "sum" | "tseries")
            }
            _ => false,
        };
        if is_number {
            return Some(val);
        }
        let spelled = self.spell_val(&val);
        self.error(
            codes::ARGUMENT_KIND,
            val.span(),
            format!("{name}() only supports integer arguments ({spelled} provided)"),
        );
        None
    }

    /// An argument that must be a literal text.
    pub(super) fn literal_arg(&mut self, call: &node::Call, at: usize) -> Option<String> {
        self.literal_text(shown(&call.name.name), call.args.get(at)?)
    }

    /// The text of an argument that must be a literal text.
    pub(super) fn literal_text(&mut self, name: &str, arg: &Arg) -> Option<String> {
        let tree = self.value_arg(arg)?;
        let text: Option<Cow<'_, [u8]>> = match &tree.kind {
            Ast::String(lit) => Some(Cow::Borrowed(lit.value.as_slice())),
            Ast::PositionalParam(n) => {
                self.error_hint(
                    codes::ARGUMENT_KIND,
                    tree.span,
                    format!("{name}() expects a string literal (positional parameter provided)"),
                    format!("Use str(${n}) to treat ${n} as a string"),
                );
                return None;
            }
            _ => {
                let val = self.literal_expr(tree);
                if !val.known {
                    return None;
                }
                match val.as_str_literal() {
                    Some(text) => Some(Cow::Owned(text.to_vec())),
                    None => {
                        let kind = self.kind_word(&val);
                        self.error(
                            codes::ARGUMENT_KIND,
                            tree.span,
                            format!("{name}() expects a string literal ({kind} provided)"),
                        );
                        None
                    }
                }
            }
        };
        text.map(|text| String::from_utf8_lossy(&text).into_owned())
    }

    /// What messages call a kind of type.
    pub(super) fn kind_word(&self, val: &Val) -> String {
        match val.ty() {
            Ty::Int(_) => "int".to_owned(),
            Ty::Str(_) | Ty::ProbeName => "string".to_owned(),
            Ty::Ptr(..) => "pointer".to_owned(),
            _ => self.spell_val(val),
        }
    }

    /// An argument that must be an integer literal.
    pub(super) fn literal_int(&mut self, call: &node::Call, at: usize) -> Option<i128> {
        let val = self.literal_val(call, at)?;
        match val.as_literal() {
            Some(value) => Some(value),
            None => {
                let kind = self.kind_word(&val);
                let name = &call.name.name;
                self.error(
                    codes::ARGUMENT_KIND,
                    val.span(),
                    format!("{name}() expects a int literal ({kind} provided)"),
                );
                None
            }
        }
    }

    pub(super) fn wrong_kind(&mut self, val: &Val, message: &str) -> Val {
        let spelled = self.kind_word(val);
        self.error(
            codes::ARGUMENT_KIND,
            val.span(),
            format!("{message} ({spelled} provided)"),
        );
        Val::unknown(val.span())
    }

    fn nsecs_call(&mut self, span: Span, call: &node::Call) -> Val {
        let clock = match self.word_arg(call, 0).as_deref() {
            None if call.args.is_empty() => Clock::Boot,
            None => return Val::unknown(span),
            Some("monotonic") => Clock::Monotonic,
            Some("boot") => Clock::Boot,
            Some("tai") => Clock::Tai,
            Some("sw_tai") => Clock::SwTai,
            Some(other) => {
                let message = format!("Invalid timestamp mode: {other}");
                self.error(codes::ARGUMENT_KIND, span, message);
                return Val::unknown(span);
            }
        };
        Val::new(
            Ty::Int(IntTy::U64),
            span,
            ExprKind::Builtin(Builtin::Nsecs(clock)),
        )
    }

    /// An argument that is a bare word of the function's own.
    pub(super) fn word_arg(&mut self, call: &node::Call, at: usize) -> Option<String> {
        let tree = self.value_arg(call.args.get(at)?)?;
        match &tree.kind {
            Ast::Ident(word) => Some(word.clone()),
            _ => {
                let name = &call.name.name;
                self.error(
                    codes::ARGUMENT_KIND,
                    tree.span,
                    format!("{name}() expects a name as argument"),
                );
                None
            }
        }
    }

    fn pid_call(&mut self, span: Span, call: &node::Call, func: Func) -> Val {
        let init = match self.word_arg(call, 0).as_deref() {
            None if call.args.is_empty() => false,
            None => return Val::unknown(span),
            Some("curr_ns") => false,
            Some("init") => true,
            Some(other) => {
                let name = &call.name.name;
                let message =
                    format!("Invalid PID namespace mode: {other} (expects: curr_ns or init)");
                self.error(codes::ARGUMENT_KIND, span, format!("{name}: {message}"));
                return Val::unknown(span);
            }
        };
        let builtin = if func == Func::Pid {
            Builtin::Pid(init)
        } else {
            Builtin::Tid(init)
        };
        Val::new(Ty::Int(IntTy::U32), span, ExprKind::Builtin(builtin))
    }

    fn stack_call(&mut self, span: Span, call: &node::Call, func: Func) -> Val {
        let name = &call.name.name;
        let mut mode = self.s.settings.stack_mode;
        let mut limit = super::builtins::DEFAULT_STACK_LIMIT;
        let mut args = call.args.as_slice();
        if let Some(Arg::Expr(node::Expr {
            kind: Ast::Ident(word),
            span: at,
        })) = args.first()
        {
            match crate::pass::config::parse_stack_mode(word) {
                Some(found) => {
                    mode = found;
                    args = &args[1..];
                }
                None if args.len() == 2 || !self.is_known_name(word) => {
                    self.error(
                        codes::ARGUMENT_KIND,
                        *at,
                        format!(
                            "Error parsing stack mode: {name}: Invalid value for stack_mode: valid \
                             values are bpftrace, raw, perf, and build_id."
                        ),
                    );
                    return Val::unknown(span);
                }
                None => {}
            }
        }
        if args.len() > 1 {
            self.error(
                codes::ARGUMENT_KIND,
                span,
                "Expected stack mode as first argument",
            );
            return Val::unknown(span);
        }
        if let Some(arg) = args.first() {
            let Some(tree) = self.value_arg(arg) else {
                return Val::unknown(span);
            };
            let val = self.literal_expr(tree);
            if !val.known {
                return Val::unknown(span);
            }
            match val.as_literal() {
                Some(n) if (0..=1024).contains(&n) => limit = u32::try_from(n).unwrap_or(limit),
                Some(n) if n > 1024 => {
                    self.error(
                        codes::ARGUMENT_KIND,
                        tree.span,
                        format!("{name}([int limit]): limit shouldn't exceed 1024, {n} given"),
                    );
                    return Val::unknown(span);
                }
                _ => {
                    let message = format!("{name}: invalid limit value");
                    self.error(codes::ARGUMENT_KIND, tree.span, message);
                    return Val::unknown(span);
                }
            }
        }
        if func == Func::Kstack {
            if mode == bpftrace_meta::StackMode::BuildId {
                self.warn(
                    codes::ARGUMENT_IGNORED,
                    span,
                    "'build_id' stack mode can only be used for ustack. Falling back to 'raw' mode.",
                );
                mode = bpftrace_meta::StackMode::Raw;
            }
            return self.kstack(span, StackTy { mode, limit });
        }
        if func == Func::DwUstack {
            return self.dw_ustack(span, StackTy { mode, limit });
        }
        self.ustack(span, StackTy { mode, limit })
    }

    fn is_known_name(&self, word: &str) -> bool {
        self.s.types.find_enumerator(word).is_some()
    }

    fn strftime_call(&mut self, span: Span, call: &node::Call) -> Val {
        let format = self.literal_arg(call, 0);
        let Some(time) = self.int_arg(call, 1) else {
            return Val::unknown(span);
        };
        let clock = match &time.expr.kind {
            ExprKind::Builtin(Builtin::Nsecs(Clock::Monotonic)) => {
                self.error(
                    codes::ARGUMENT_KIND,
                    time.span(),
                    "strftime() can not take a monotonic timestamp",
                );
                return Val::unknown(span);
            }
            ExprKind::Builtin(Builtin::Nsecs(clock)) => *clock,
            _ => Clock::Boot,
        };
        if time.as_literal().is_some_and(|value| value < 0) {
            self.error(
                codes::ARGUMENT_KIND,
                time.span(),
                "strftime() does not accept negative timestamps",
            );
            return Val::unknown(span);
        }
        let Some(format) = format else {
            return Val::unknown(span);
        };
        let number = super::intern(&mut self.s.tables.time_formats, &format);
        let time = self.int_of(time, IntTy::U64);
        call_val(
            span,
            Ty::Timestamp,
            Call::Strftime(number, clock, Box::new(time)),
        )
    }

    fn symbol_call(&mut self, span: Span, call: &node::Call, func: Func) -> Val {
        let Some(address) = self.arg_val(call, 0) else {
            return Val::unknown(span);
        };
        let name = &call.name.name;
        if !matches!(address.ty(), Ty::Int(_) | Ty::Ptr(..)) {
            return self.wrong_kind(
                &address,
                &format!("{name}() only supports int and pointer arguments"),
            );
        }
        let address = Box::new(self.int_of(address, IntTy::U64));
        if func == Func::Ksym {
            call_val(span, Ty::KSym, Call::Ksym(address))
        } else {
            call_val(span, Ty::USym, Call::Usym(address))
        }
    }

    fn uaddr_call(&mut self, span: Span, call: &node::Call) -> Val {
        let Some(name) = self.literal_arg(call, 0) else {
            return Val::unknown(span);
        };
        let may_be_in = |c: char| c.is_ascii_alphanumeric() || "./_-".contains(c);
        if name.is_empty() || !name.chars().all(may_be_in) {
            let message = format!(
                "uaddr() expects a string that is a valid symbol (^[a-zA-Z0-9./_-]+$) as input \
                 (\"{name}\" provided)"
            );
            self.error(codes::ARGUMENT_KIND, span, message);
            return Val::unknown(span);
        }
        let targets = &self.unit.targets;
        let path = targets.iter().find_map(crate::pass::attach::user_path);
        let Some(path) = path else {
            return self.unsupported(span, "uaddr() in probes without a path");
        };
        // Where the symbol is missing, the script is what says so.
        let span = self.expanded_from().last().copied().unwrap_or(span);
        // The size of the symbol is known on the target only.
        let slot = self
            .slot(
                HostValue::UserSymbol { path, name },
                Ty::Int(IntTy::U64),
                span,
            )
            .expr;
        let address = crate::Expr {
            ty: Ty::Int(IntTy::U64),
            span,
            kind: ExprKind::Call(Call::UserAddress(Box::new(slot))),
        };
        let ty = Ty::Ptr(std::rc::Rc::new(Ty::Int(IntTy::U64)), Mem::User);
        Val::from_expr(self.cast_to(address, ty, crate::CastKind::Int)).with_space(Mem::User)
    }

    fn cgroup_path_call(&mut self, span: Span, call: &node::Call) -> Val {
        let Some(id) = self.int_arg(call, 0) else {
            return Val::unknown(span);
        };
        let filter = match call.args.get(1) {
            Some(_) => match self.literal_arg(call, 1) {
                Some(filter) => filter,
                None => return Val::unknown(span),
            },
            None => String::new(),
        };
        let number = super::intern(&mut self.s.tables.cgroup_filters, &filter);
        let id = Box::new(self.int_of(id, IntTy::U64));
        call_val(span, Ty::CgroupPath, Call::CgroupPath(number, id))
    }

    fn percpu_kaddr_call(&mut self, span: Span, call: &node::Call) -> Val {
        let name = self.literal_arg(call, 0);
        let cpu = match call.args.get(1) {
            Some(_) => match self.int_arg(call, 1) {
                Some(cpu) => Some(Box::new(self.int_of(cpu, IntTy::U64))),
                None => return Val::unknown(span),
            },
            None => None,
        };
        let Some(name) = name else {
            return Val::unknown(span);
        };
        let u64 = Ty::Int(IntTy::U64);
        let symbol = self.slot(HostValue::KernelSymbol(name), u64.clone(), span);
        let call = Call::PercpuKaddr(Box::new(symbol.expr), cpu);
        call_val(span, u64, call).with_space(Mem::Kernel)
    }

    /// `skboutput(path, skb, length, offset)`.
    fn skb_output_call(&mut self, span: Span, call: &node::Call) -> Val {
        let path = self.literal_arg(call, 0);
        let skb = self.arg_val(call, 1);
        let len = self.int_arg(call, 2);
        let skip = self.literal_int(call, 3);
        let (Some(path), Some(skb), Some(len), Some(skip)) = (path, skb, len, skip) else {
            return Val::unknown(span);
        };
        if !matches!(skb.ty(), Ty::Ptr(..)) {
            return self.wrong_kind(&skb, "skboutput() only supports pointer arguments");
        }
        let Ok(skip) = u64::try_from(skip) else {
            self.error(
                codes::ARGUMENT_KIND,
                span,
                format!("skboutput() cannot start at a negative offset ({skip})"),
            );
            return Val::unknown(span);
        };
        let call = Call::SkbOutput {
            path,
            skb: Box::new(skb.expr),
            len: Box::new(self.int_of(len, IntTy::U64)),
            skip,
        };
        call_val(span, Ty::Int(IntTy::I32), call)
    }

    /// `__builtin_signal(number, to_thread)`: what the kernel says to it.
    fn signal_call(&mut self, span: Span, call: &node::Call) -> Val {
        let (Some(number), Some(thread)) = (self.int_arg(call, 0), self.arg_val(call, 1)) else {
            return Val::unknown(span);
        };
        let signal = Box::new(self.int_of(number, IntTy::U64));
        let thread = thread.as_bool_literal().unwrap_or(false);
        let ty = Ty::Int(IntTy::I64);
        call_val(span, ty, Call::Signal { signal, thread })
    }

    /// Whether the kernel has a function for programs to call, and whether programs of this kind may. The
    /// target says so, except where the answer is needed while compiling: the types at hand say so there.
    fn kfunc_call(&mut self, span: Span, call: &node::Call, func: Func) -> Val {
        let Some(name) = self.literal_arg(call, 0) else {
            return Val::unknown(span);
        };
        let caller = (func == Func::KfuncAllowed).then_some(self.unit.kind);
        if self.comptime_depth > 0 {
            let exists = !self.s.types.find_functions(None, &name).is_empty();
            let may = caller.is_none_or(calls_kernel_functions);
            return Val::boolean(span, exists && may);
        }
        if caller.is_some_and(|kind| !calls_kernel_functions(kind)) {
            return Val::boolean(span, false);
        }
        self.slot(HostValue::KernelFunction { name, caller }, Ty::Bool, span)
    }

    /// The number of a signal whose name is known.
    fn signal_number_call(&mut self, span: Span, call: &node::Call) -> Val {
        let Some(name) = self.literal_arg(call, 0) else {
            return Val::unknown(span);
        };
        if let Some(number) = signal_number(&name) {
            return Val::literal(span, i128::from(number));
        }
        let mut diag = Diagnostic::error(
            codes::ARGUMENT_KIND,
            call.args.first().map_or(span, Arg::span),
            format!("Invalid string for signal: {name}"),
        );
        let names = number_names::SIGNALS.iter().map(|(_, name)| *name);
        let word = name.strip_prefix("SIG").unwrap_or(&name);
        if let Some(near) = suggest::nearest(word, names) {
            diag = diag.with_hint(format!("Did you mean: SIG{near}?"));
        }
        self.s.diags.push(diag);
        Val::unknown(span)
    }

    /// The name of a number. Of a literal it is a string; otherwise it is a number that prints as its
    /// name, so that no table has to be carried along in the program.
    fn number_name(&mut self, span: Span, call: &node::Call, func: Func) -> Val {
        let (table, kind, unknown) = match func {
            Func::Strerror => (number_names::ERRORS, "errno", "Unknown error"),
            Func::SignalName => (number_names::SIGNAL_TEXTS, "signal", "N/A"),
            _ => (number_names::SYSCALLS, "syscall", "Unknown syscall"),
        };
        let Some(val) = self.int_arg(call, 0) else {
            return Val::unknown(span);
        };
        let is_error = func == Func::Strerror;
        if let Some(number) = val.as_literal() {
            // Errors are often returned negative.
            let number = if is_error { number.abs() } else { number };
            let found = table.iter().find(|(known, _)| i128::from(*known) == number);
            let text = found.map_or(unknown, |(_, text)| text);
            return Val::string(span, text.as_bytes().to_vec());
        }
        let known = self.s.number_enums.get(kind).copied();
        let id = known.unwrap_or_else(|| {
            let mut values: Vec<(i64, String)> = table
                .iter()
                .map(|(number, text)| (*number, (*text).to_owned()))
                .collect();
            if is_error {
                let negative: Vec<(i64, String)> = values
                    .iter()
                    .skip(1)
                    .map(|(number, text)| (-number, text.clone()))
                    .collect();
                values.extend(negative);
            }
            let def = EnumDef {
                name: kind.to_owned(),
                values,
                kernel: false,
            };
            let id = self.s.imported.table.add_enum(def);
            self.s.number_enums.insert(kind, id);
            id
        });
        let number = self.int_of(val, IntTy::I32);
        let ty = Ty::Enum(id, IntTy::I32);
        Val::from_expr(self.cast_to(number, ty, crate::CastKind::Int))
    }

    fn getopt_call(&mut self, span: Span, call: &node::Call) -> Val {
        use bpftrace_meta::{NamedParam, ParamValue};
        let name = self.literal_arg(call, 0);
        let default = match call.args.get(1) {
            None => Some(ParamValue::Bool(false)),
            Some(_) => self.arg_val(call, 1).and_then(|val| {
                let literal = val.as_literal();
                match (val.as_bool_literal(), literal, val.as_str_literal()) {
                    (Some(b), ..) => Some(ParamValue::Bool(b)),
                    (_, Some(n), _) if n < 0 => i64::try_from(n).ok().map(ParamValue::Signed),
                    (_, Some(n), _) => u64::try_from(n).ok().map(ParamValue::Unsigned),
                    (.., Some(text)) => {
                        Some(ParamValue::Str(String::from_utf8_lossy(text).into_owned()))
                    }
                    _ => {
                        self.wrong_kind(&val, "getopt() expects a literal as default value");
                        None
                    }
                }
            }),
        };
        let description = match call.args.get(2) {
            None => None,
            Some(_) => match self.literal_arg(call, 2) {
                Some(text) => Some(text),
                None => return Val::unknown(span),
            },
        };
        let (Some(name), Some(default)) = (name, default) else {
            return Val::unknown(span);
        };
        let params = &mut self.s.tables.named_params;
        let at = params
            .iter()
            .position(|param| param.name == name)
            .unwrap_or_else(|| {
                params.push(NamedParam {
                    name: name.clone(),
                    default: default.clone(),
                    description: description.clone(),
                });
                params.len() - 1
            });
        let known = &mut params[at];
        let mut complaint = None;
        if known.default != default {
            complaint = Some(format!(
                "Command line option '{name}' needs to have the same default value in all places it \
                 is used. Previous default value: {}",
                spell_param(&known.default)
            ));
        } else if let Some(description) = description {
            match &known.description {
                Some(other) if *other != description => {
                    complaint = Some(format!(
                        "Command line option '{name}' needs to have the same description in all \
                         places it is used. Previous description: {other}"
                    ));
                }
                Some(_) => {}
                None => known.description = Some(description),
            }
        }
        if let Some(message) = complaint {
            self.error(codes::ARGUMENT_KIND, span, message);
            return Val::unknown(span);
        }
        let ty = match &default {
            ParamValue::Bool(_) => Ty::Bool,
            ParamValue::Unsigned(_) => Ty::Int(IntTy::U64),
            ParamValue::Signed(_) => Ty::Int(IntTy::I64),
            ParamValue::Str(_) => Ty::Str(self.s.settings.max_strlen),
        };
        self.slot(
            HostValue::NamedParam(u32::try_from(at).unwrap_or(u32::MAX)),
            ty,
            span,
        )
    }
}

fn spell_param(value: &bpftrace_meta::ParamValue) -> String {
    use bpftrace_meta::ParamValue as V;
    match value {
        V::Bool(b) => b.to_string(),
        V::Unsigned(n) => n.to_string(),
        V::Signed(n) => n.to_string(),
        V::Str(text) => text.clone(),
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

/// Whether an argument is written as `true`.
fn is_true(arg: Option<&Arg>) -> bool {
    let Some(Arg::Expr(expr)) = arg else {
        return false;
    };
    matches!(expr.kind, Ast::Bool(true))
}

/// Number of a signal by its name, with or without `SIG`.
fn signal_number(name: &str) -> Option<i64> {
    let name = name.strip_prefix("SIG").unwrap_or(name);
    let name = match name {
        "IOT" => "ABRT",
        "POLL" => "IO",
        other => other,
    };
    let known = number_names::SIGNALS
        .iter()
        .find(|(_, known)| *known == name);
    known.map(|(number, _)| *number)
}
