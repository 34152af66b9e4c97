//! Functions that send something to user space.

use bpftrace_ast::node::{self, Arg, ExprKind as Ast};
use bpftrace_ast::source::Span;
use bpftrace_meta::{Conversion, FormatPiece, FormatSpec, Length};

use super::format::{Literal, format_literals};
use super::{Lowerer, Val, stmt};
use crate::builtin::Func;
use crate::env::KeyState;
use crate::{AggTy, Call, Event, Expr, ExprKind, IntTy, Mem, StatsPart, StmtKind, Ty, codes};

/// Arguments of `bpf_trace_printk`.
const MAX_DEBUG_ARGS: usize = 3;

impl Lowerer<'_, '_> {
    pub(super) fn output_call(&mut self, span: Span, call: &node::Call, func: Func) -> Val {
        match func {
            Func::Printf => self.formatted_event(span, call, Event::Printf),
            Func::Errorf => self.formatted_event(span, call, Event::Errorf),
            Func::Warnf => self.formatted_event(span, call, Event::Warnf),
            Func::System => self.formatted_event(span, call, Event::System),
            Func::Cat => self.formatted_event(span, call, Event::Cat),
            Func::Print => self.print(span, call),
            Func::Exit => self.exit(span, call),
            Func::Time => {
                let format = match call.args.first() {
                    Some(_) => self.literal_arg(call, 0),
                    None => Some("%H:%M:%S\n".to_owned()),
                };
                match format {
                    Some(format) => self.event(span, Event::Time(format), Vec::new()),
                    None => Val::unknown(span),
                }
            }
            Func::Join => self.join_call(span, call),
            Func::Debugf => self.debugf(span, call),
            Func::Fail => self.fail(span, call),
            Func::Unwatch => match self.int_arg(call, 0) {
                Some(address) => {
                    let address = self.int_of(address, IntTy::U64);
                    self.event(span, Event::Unwatch, vec![address])
                }
                None => Val::unknown(span),
            },
            _ => self.unsupported(span, &format!("{}()", call.name.name)),
        }
    }

    fn formatted_event(
        &mut self,
        span: Span,
        call: &node::Call,
        make: fn(Vec<FormatPiece>) -> Event,
    ) -> Val {
        match self.formatted(span, call) {
            Some((pieces, args)) => self.event(span, make(pieces), args),
            None => Val::unknown(span),
        }
    }

    fn print(&mut self, span: Span, call: &node::Call) -> Val {
        let Some(tree) = call.args.first().and_then(|arg| self.value_arg(arg)) else {
            return Val::unknown(span);
        };
        if let Ast::Map(name) = &tree.kind {
            return self.print_map(span, call, tree.span, name);
        }
        if call.args.len() > 1 {
            self.error(
                codes::ARGUMENT_COUNT,
                span,
                format!(
                    "Non-map print() only takes 1 argument, {} found",
                    call.args.len()
                ),
            );
            return Val::unknown(span);
        }
        let val = match &tree.kind {
            Ast::Ident(name) if name == "args" => self.args_record(tree.span),
            _ => self.expr(tree),
        };
        if !val.known {
            return Val::unknown(span);
        }
        let val = self.stats_as_record(val);
        if let Ty::Agg(agg) = val.ty() {
            let bucketed = agg.is_bucketed();
            let spelled = crate::spell::spell_agg(agg);
            let message = if bucketed {
                format!(
                    "Map type {spelled} cannot print the value of individual keys. You must print the \
                     whole map."
                )
            } else {
                format!("{spelled} type passed to print() is not printable yet")
            };
            self.error(codes::MAP_VALUE, tree.span, message);
            return Val::unknown(span);
        }
        if val.is_void() || matches!(val.ty(), Ty::Ptr(_, Mem::Ctx)) {
            let spelled = match val.is_void() {
                true => "none".to_owned(),
                false => self.spell_val(&val),
            };
            self.error(
                codes::ARGUMENT_KIND,
                tree.span,
                format!("{spelled} type passed to print() is not printable"),
            );
            return Val::unknown(span);
        }
        let arg = self.stored(val).expr;
        self.event(span, Event::PrintValue, vec![arg])
    }

    /// An entry of a `stats` map as a record of its numbers, which is how it prints. Other values stay
    /// what they are.
    pub(super) fn stats_as_record(&mut self, val: Val) -> Val {
        let (Ty::Agg(AggTy::Stats { signed }), ExprKind::MapGet { map, key }) =
            (val.ty(), &val.expr.kind)
        else {
            return val;
        };
        let wide = if *signed { IntTy::I64 } else { IntTy::U64 };
        let (mut fields, mut numbers) = (Vec::new(), Vec::new());
        for (name, part, int) in [
            ("count", StatsPart::Count, IntTy::U64),
            ("average", StatsPart::Average, wide),
            ("total", StatsPart::Total, wide),
        ] {
            fields.push((name.to_owned(), Ty::Int(int)));
            numbers.push(Expr {
                ty: Ty::Int(int),
                span: val.span(),
                kind: ExprKind::Call(Call::StatsOf {
                    map: *map,
                    key: key.clone(),
                    part,
                }),
            });
        }
        let ty = Ty::Record(fields.into());
        Val::new(ty, val.span(), ExprKind::Tuple(numbers))
    }

    /// `args` as a record of all arguments.
    pub(super) fn args_record(&mut self, span: Span) -> Val {
        let args = self.args(span);
        let Ty::Struct(id, _) = *args.ty() else {
            return args;
        };
        let names: Vec<String> = self
            .s
            .imported
            .table
            .struct_def(id)
            .members
            .iter()
            .filter(|member| member.ty != Ty::Void && !member.name.is_empty())
            .map(|member| member.name.clone())
            .collect();
        let mut fields = Vec::with_capacity(names.len());
        let mut exprs = Vec::with_capacity(names.len());
        for name in names {
            let ident = node::Ident {
                span,
                name: name.clone(),
            };
            let val = self.field(span, args.clone(), &ident);
            if !val.known {
                return val;
            }
            let expr = self.stored(val).expr;
            fields.push((name, expr.ty.clone()));
            exprs.push(expr);
        }
        Val::new(Ty::Record(fields.into()), span, ExprKind::Tuple(exprs))
    }

    fn print_map(&mut self, span: Span, call: &node::Call, at: Span, name: &str) -> Val {
        let mut numbers = [0u64; 2];
        for (i, number) in numbers.iter_mut().enumerate() {
            if call.args.len() <= i + 1 {
                break;
            }
            let Some(value) = self.literal_int(call, i + 1) else {
                return Val::unknown(span);
            };
            // Negative: all of them, not divided.
            *number = u64::try_from(value).unwrap_or(0);
        }
        if !self.touch_map(at, name) {
            return Val::unknown(span);
        }
        let state = &self.s.maps[name];
        if call.args.len() > 1 && matches!(state.value.ty, Some(Ty::Agg(AggTy::Stats { .. }))) {
            self.warn(
                codes::ARGUMENT_IGNORED,
                span,
                "print()'s top and div arguments are ignored when used on stats() maps.",
            );
        }
        if self.in_loop() {
            self.warn(
                codes::LOOP,
                span,
                "Due to it's asynchronous nature using 'print()' in a loop can lead to unexpected \
                 behavior. The map will likely be updated before the runtime can 'print' it.",
            );
        }
        let map = self.map_number(name);
        let [top, div] = numbers;
        self.event(span, Event::PrintMap { map, top, div }, Vec::new())
    }

    /// A use of a whole map, with keys or not. `false`: nothing is ever put into it.
    pub(super) fn touch_map(&mut self, span: Span, name: &str) -> bool {
        let Some(state) = self.s.maps.get(name) else {
            // It may be named further on in the script.
            self.note_map(span, name);
            return false;
        };
        if state.key == KeyState::Unused {
            self.note_map(span, name);
            return false;
        }
        true
    }

    fn exit(&mut self, span: Span, call: &node::Call) -> Val {
        if self.in_for() {
            self.error(
                codes::JUMP,
                span,
                "'return' statement is not allowed in a for-loop",
            );
            return Val::unknown(span);
        }
        let args = match call.args.first() {
            None => Vec::new(),
            Some(_) => match self.int_arg(call, 0) {
                Some(code) => vec![self.int_of(code, IntTy::I64)],
                None => return Val::unknown(span),
            },
        };
        self.diverges = true;
        let send = stmt(
            span,
            StmtKind::Event {
                event: Event::Exit,
                args,
                expanded_from: self.expanded_from(),
            },
        );
        Val::stmts(span, vec![send, stmt(span, StmtKind::Return(None))])
    }

    fn join_call(&mut self, span: Span, call: &node::Call) -> Val {
        let separator = match call.args.get(1) {
            Some(_) => self.literal_arg(call, 1),
            None => Some(" ".to_owned()),
        };
        let Some(array) = self.arg_val(call, 0) else {
            return Val::unknown(span);
        };
        let Some(separator) = separator else {
            return Val::unknown(span);
        };
        match array.ty() {
            Ty::Int(_) | Ty::Ptr(..) => {
                let space = match array.ty() {
                    Ty::Ptr(_, mem) => *mem,
                    _ => array.space,
                };
                self.warn_if_space_unknown(space, array.span());
                self.event(span, Event::Join(separator), vec![array.expr])
            }
            _ => self.wrong_kind(&array, "join() only supports int and pointer arguments"),
        }
    }

    fn debugf(&mut self, span: Span, call: &node::Call) -> Val {
        self.warn(
            codes::DEPRECATED,
            span,
            "The debugf() builtin is not recommended for production use. For more information see \
             bpf_trace_printk in bpf-helpers(7).",
        );
        let Some((pieces, args)) = self.formatted(span, call) else {
            return Val::unknown(span);
        };
        if args.len() > MAX_DEBUG_ARGS {
            self.error(
                codes::FORMAT,
                span,
                "cannot use more than 3 conversion specifiers",
            );
            return Val::unknown(span);
        }
        let mut format = String::new();
        for piece in &pieces {
            match piece {
                FormatPiece::Literal(text) => format.push_str(&text.replace('%', "%%")),
                FormatPiece::Spec(spec) => match kernel_spec(spec) {
                    Some(text) => format.push_str(&text),
                    None => {
                        self.error(
                            codes::FORMAT,
                            span,
                            "debugf() only takes %d, %u, %x, %p and %s, without precision",
                        );
                        return Val::unknown(span);
                    }
                },
            }
        }
        Val::stmts(
            span,
            vec![stmt(span, StmtKind::TracePrintk { format, args })],
        )
    }

    fn fail(&mut self, span: Span, call: &node::Call) -> Val {
        let Some(text) = self.literal_arg(call, 0) else {
            return Val::unknown(span);
        };
        let mut values = Vec::new();
        for at in 1..call.args.len() {
            let Some(val) = self.literal_val(call, at) else {
                return Val::unknown(span);
            };
            let value = match (
                val.as_literal(),
                val.as_bool_literal(),
                val.as_str_literal(),
            ) {
                (Some(n), ..) => Literal::Int(n),
                (_, Some(b), _) => Literal::Bool(b),
                (.., Some(text)) => Literal::Text(String::from_utf8_lossy(text).into_owned()),
                _ => {
                    self.error(
                        codes::ARGUMENT_KIND,
                        val.span(),
                        "fail() arguments need to be literals",
                    );
                    return Val::unknown(span);
                }
            };
            values.push(value);
        }
        let pieces = super::format::parse_format(&text).unwrap_or_default();
        let message = format_literals(&pieces, &values);
        self.error(codes::FAIL, span, message);
        Val::unknown(span)
    }

    /// A record for user space.
    fn event(&self, span: Span, event: Event, args: Vec<Expr>) -> Val {
        let expanded_from = self.expanded_from();
        let kind = StmtKind::Event {
            event,
            args,
            expanded_from,
        };
        Val::stmts(span, vec![stmt(span, kind)])
    }

    /// Whether an argument of a call is a whole map, and which.
    pub(super) fn map_arg<'t>(
        &mut self,
        call: &'t node::Call,
        at: usize,
    ) -> Option<(&'t str, Span)> {
        match call.args.get(at)? {
            Arg::Expr(node::Expr {
                kind: Ast::Map(name),
                span,
            }) => Some((name, *span)),
            other => {
                let name = crate::builtin::shown(&call.name.name);
                self.error(
                    codes::ARGUMENT_KIND,
                    other.span(),
                    format!("{name}() expects a map argument"),
                );
                None
            }
        }
    }
}

/// How the kernel spells a conversion.
fn kernel_spec(spec: &FormatSpec) -> Option<String> {
    if spec.precision.is_some() {
        return None;
    }
    let conversion = match (spec.conversion, spec.length) {
        (Conversion::Signed, Length::Long) => "lld",
        (Conversion::Signed, _) => "d",
        (Conversion::Unsigned, Length::Long) => "llu",
        (Conversion::Unsigned, _) => "u",
        (Conversion::Hex, Length::Long) => "llx",
        (Conversion::Hex, _) => "x",
        (Conversion::Pointer, _) => "px",
        (Conversion::Str, _) => "s",
        _ => return None,
    };
    let flags = [
        (spec.left, '-'),
        (spec.plus, '+'),
        (spec.alternate, '#'),
        (spec.zero, '0'),
    ];
    let flags: String = flags
        .iter()
        .filter_map(|(set, flag)| set.then_some(*flag))
        .collect();
    let width = spec
        .width
        .map(|width| width.to_string())
        .unwrap_or_default();
    Some(format!("%{flags}{width}{conversion}"))
}
