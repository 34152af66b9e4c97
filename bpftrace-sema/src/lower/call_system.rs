//! Calls that ask the system: clocks, processes, stacks, symbols, signals, and options of the command line.

use bpftrace_ast::diag::Diagnostic;
use bpftrace_ast::node::{self, Arg, ExprKind as Ast};
use bpftrace_ast::source::Span;
use bpftrace_meta::HostValue;

use super::call::{call_val, calls_kernel_functions};
use super::{Lowerer, Val};
use crate::builtin::Func;
use crate::{
    Builtin, Call, Clock, EnumDef, ExprKind, IntTy, Mem, StackTy, Ty, codes, number_names, suggest,
};

impl Lowerer<'_, '_> {
    pub(super) fn nsecs_call(&mut self, span: Span, call: &node::Call) -> Val {
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

    pub(super) fn pid_call(&mut self, span: Span, call: &node::Call, func: Func) -> Val {
        let init = match self.word_arg(call, 0).as_deref() {
            None if call.args.is_empty() => false,
            None => return Val::unknown(span),
            Some("curr_ns") => false,
            Some("init") => true,
            Some(other) => {
                let message =
                    format!("Invalid PID namespace mode: {other} (expects: curr_ns or init)");
                let at = call.args.first().map_or(span, node::Arg::span);
                self.error(codes::ARGUMENT_KIND, at, message);
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

    pub(super) fn stack_call(&mut self, span: Span, call: &node::Call, func: Func) -> Val {
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
                self.error(
                    codes::ARGUMENT_KIND,
                    span,
                    "'build_id' stack mode can only be used for ustack",
                );
                return Val::unknown(span);
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

    pub(super) fn strftime_call(&mut self, span: Span, call: &node::Call) -> Val {
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
        let number = self.s.tables.time_formats.number(&format);
        let time = self.int_of(time, IntTy::U64);
        call_val(
            span,
            Ty::Timestamp,
            Call::Strftime(number, clock, Box::new(time)),
        )
    }

    pub(super) fn symbol_call(&mut self, span: Span, call: &node::Call, func: Func) -> Val {
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

    pub(super) fn uaddr_call(&mut self, span: Span, call: &node::Call) -> Val {
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
        // As large as the symbol is here. What is not known to be smaller has 64 bits.
        let here = path
            .as_literal()
            .and_then(|path| self.s.types.symbol_size(path, &name));
        let size = match here {
            Some(1) => 1,
            Some(2) => 2,
            Some(4) => 4,
            _ => 8,
        };
        let pointee = IntTy { size, signed: true };
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
        let ty = Ty::Ptr(std::rc::Rc::new(Ty::Int(pointee)), Mem::User);
        Val::from_expr(self.cast_to(address, ty, crate::CastKind::Int)).with_space(Mem::User)
    }

    pub(super) fn cgroup_path_call(&mut self, span: Span, call: &node::Call) -> Val {
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
        let number = self.s.tables.cgroup_filters.number(&filter);
        let id = Box::new(self.int_of(id, IntTy::U64));
        call_val(span, Ty::CgroupPath, Call::CgroupPath(number, id))
    }

    pub(super) fn percpu_kaddr_call(&mut self, span: Span, call: &node::Call) -> Val {
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
    pub(super) fn skb_output_call(&mut self, span: Span, call: &node::Call) -> Val {
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
    pub(super) fn signal_call(&mut self, span: Span, call: &node::Call) -> Val {
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
    pub(super) fn kfunc_call(&mut self, span: Span, call: &node::Call, func: Func) -> Val {
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
    pub(super) fn signal_number_call(&mut self, span: Span, call: &node::Call) -> Val {
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
    pub(super) fn number_name(&mut self, span: Span, call: &node::Call, func: Func) -> Val {
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

    pub(super) fn getopt_call(&mut self, span: Span, call: &node::Call) -> Val {
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
        let numbers = &mut self.s.tables.named_param_numbers;
        let at = *numbers.entry(name.clone()).or_insert_with(|| {
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
                        "Command line option '{name}' must have the same description in all places it's \
                         used. Previous description: {other}. Hint: a macro can hold the call"
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

/// Whether an argument is written as `true`.
pub(super) fn is_true(arg: Option<&Arg>) -> bool {
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
