//! The typed program as text, for `-d types` and tests: the same program gives the same text.

use std::fmt::Write;

use bpftrace_meta::{FormatPiece, ParamValue};

use crate::spell::spell_agg;
use crate::{
    Body, Call, CastKind, CompareOp, Event, Expr, ExprKind, LocalIdx, LogicalOp, MapIdx, Mem,
    Origin, StepTarget, Stmt, StmtKind, StructId, Ty, TypedProgram, UnaryOp, UnrollCount, spell,
};

/// The text of a program.
#[must_use]
pub fn dump(program: &TypedProgram) -> String {
    let mut dumper = Dumper {
        program,
        body: None,
        out: String::new(),
    };
    dumper.program();
    dumper.out
}

struct Dumper<'a> {
    program: &'a TypedProgram,
    body: Option<&'a Body>,
    out: String,
}

impl<'a> Dumper<'a> {
    fn line(&mut self, depth: usize, text: &str) {
        for _ in 0..depth {
            self.out.push_str("  ");
        }
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn program(&mut self) {
        let program = self.program;
        for map in &program.maps {
            let key = map
                .key
                .as_ref()
                .map(|key| format!("[{}]", self.ty(key)))
                .unwrap_or_default();
            let value = match &map.value {
                Ty::Agg(agg) => format!("{} {agg:?}", spell_agg(agg)),
                other => self.ty(other),
            };
            let declared = map
                .declared
                .map(|d| format!(" declared {:?}({})", d.kind, d.max_entries))
                .unwrap_or_default();
            self.line(0, &format!("map {}{key}: {value}{declared}", map.name));
        }
        for (index, text) in &program.typed_params {
            self.line(0, &format!("parameter {index} is {text:?}"));
        }
        for (i, slot) in program.slots.iter().enumerate() {
            let ty = self.ty(&slot.ty);
            self.line(0, &format!("slot {i}: {:?} as {ty}", slot.value));
        }
        for (i, format) in program.time_formats.iter().enumerate() {
            self.line(0, &format!("time format {i}: {format:?}"));
        }
        for (i, filter) in program.cgroup_filters.iter().enumerate() {
            self.line(0, &format!("cgroup filter {i}: {filter:?}"));
        }
        for param in &program.named_params {
            let default = match &param.default {
                ParamValue::Bool(b) => b.to_string(),
                ParamValue::Unsigned(n) => n.to_string(),
                ParamValue::Signed(n) => n.to_string(),
                ParamValue::Str(text) => format!("{text:?}"),
            };
            self.line(0, &format!("parameter --{} = {default}", param.name));
        }
        for requirement in &program.requirements {
            self.line(
                0,
                &format!("requires {:?}: {}", requirement.feature, requirement.what),
            );
        }
        for probe in &program.probes {
            let name = probe
                .name
                .as_ref()
                .map(|name| format!("{name}="))
                .unwrap_or_default();
            self.line(
                0,
                &format!(
                    "probe {name}{:?} returns {}",
                    probe.kind, probe.default_return
                ),
            );
            for target in &probe.targets {
                self.line(1, &format!("at {target:?}"));
            }
            if let Some(slot) = probe.pid_filter {
                self.line(1, &format!("only for the process in slot {}", slot.0));
            }
            self.body(&probe.body, 0);
        }
        for function in &program.functions {
            let ret = self.ty(&function.ret);
            self.line(
                0,
                &format!(
                    "function {} with {} parameters: {ret}",
                    function.name, function.n_params
                ),
            );
            self.body(&function.body, function.n_params as usize);
        }
    }

    fn body(&mut self, body: &'a Body, n_params: usize) {
        self.body = Some(body);
        for (i, local) in body.locals.iter().enumerate() {
            let what = if i < n_params { "parameter" } else { "let" };
            let ty = self.ty(&local.ty);
            let name = self.local(LocalIdx(i as u32));
            self.line(1, &format!("{what} {name}: {ty}"));
        }
        self.stmts(&body.stmts, 1);
        self.body = None;
    }

    /// A type with the memory that its addresses point to.
    fn ty(&self, ty: &Ty) -> String {
        let spelled = spell(ty, &self.program.types);
        match ty {
            Ty::Ptr(_, mem) | Ty::Struct(_, mem) | Ty::Array(_, _, mem) => {
                format!("{spelled}@{}", mem_name(*mem))
            }
            Ty::ProbeName => "probe name".to_owned(),
            _ => spelled,
        }
    }

    /// A variable; its number is added where its name is not enough.
    fn local(&self, idx: LocalIdx) -> String {
        let Some(body) = self.body else {
            return format!("${}", idx.0);
        };
        let Some(local) = body.locals.get(idx.0 as usize) else {
            return format!("${}?", idx.0);
        };
        let n_same = body
            .locals
            .iter()
            .filter(|other| other.name == local.name)
            .count();
        if n_same > 1 {
            format!("{}.{}", local.name, idx.0)
        } else {
            local.name.clone()
        }
    }

    fn map(&self, map: MapIdx) -> &'a str {
        self.program
            .maps
            .get(map.0 as usize)
            .map_or("@?", |map| &map.name)
    }

    fn entry(&self, map: MapIdx, key: Option<&Expr>) -> String {
        match key {
            Some(key) => format!("{}[{}]", self.map(map), self.expr(key)),
            None => self.map(map).to_owned(),
        }
    }

    fn stmts(&mut self, stmts: &[Stmt], depth: usize) {
        for stmt in stmts {
            self.stmt(stmt, depth);
        }
    }

    fn stmt(&mut self, stmt: &Stmt, depth: usize) {
        let text = match &stmt.kind {
            StmtKind::Expr(expr) => self.expr(expr),
            StmtKind::Declare(idx) => format!("declare {}", self.local(*idx)),
            StmtKind::AssignLocal(idx, value) => {
                format!("{} = {}", self.local(*idx), self.expr(value))
            }
            StmtKind::AssignMap { map, key, value } => {
                format!("{} = {}", self.entry(*map, key.as_ref()), self.expr(value))
            }
            StmtKind::Aggregate {
                map,
                key,
                value,
                time,
            } => {
                let mut value = value
                    .as_ref()
                    .map(|value| self.expr(value))
                    .unwrap_or_default();
                if let Some(time) = time {
                    value.push_str(&format!(" at {}", self.expr(time)));
                }
                format!("{} <- {value}", self.entry(*map, key.as_ref()))
                    .trim_end()
                    .to_owned()
            }
            StmtKind::If {
                cond,
                then,
                otherwise,
            } => {
                let cond = self.expr(cond);
                self.line(depth, &format!("if {cond}"));
                self.stmts(then, depth + 1);
                if !otherwise.is_empty() {
                    self.line(depth, "else");
                    self.stmts(otherwise, depth + 1);
                }
                return;
            }
            StmtKind::While { cond, body } => {
                let cond = self.expr(cond);
                self.line(depth, &format!("while {cond}"));
                return self.stmts(body, depth + 1);
            }
            StmtKind::Unroll { count, body } => {
                let count = match count {
                    UnrollCount::Const(n) => n.to_string(),
                    UnrollCount::Slot(slot) => format!("slot {}", slot.0),
                };
                self.line(depth, &format!("unroll {count}"));
                return self.stmts(body, depth + 1);
            }
            StmtKind::ForRange {
                var,
                start,
                end,
                body,
            } => {
                let text = format!(
                    "for {} in {}..{}",
                    self.local(*var),
                    self.expr(start),
                    self.expr(end)
                );
                self.line(depth, &text);
                return self.stmts(body, depth + 1);
            }
            StmtKind::ForMap { var, map, body } => {
                let text = format!("for {} in {}", self.local(*var), self.map(*map));
                self.line(depth, &text);
                return self.stmts(body, depth + 1);
            }
            StmtKind::Break => "break".to_owned(),
            StmtKind::Continue => "continue".to_owned(),
            StmtKind::Return(None) => "return".to_owned(),
            StmtKind::Return(Some(value)) => format!("return {}", self.expr(value)),
            StmtKind::Event {
                event,
                args,
                expanded_from,
            } => {
                let macros = match expanded_from.len() {
                    0 => String::new(),
                    n => format!(" (from {n} macros)"),
                };
                format!("{}({}){macros}", self.event(event), self.list(args))
            }
            StmtKind::Block(body) => {
                self.line(depth, "block");
                return self.stmts(body, depth + 1);
            }
            StmtKind::TracePrintk { format, args } => {
                format!("trace_printk {format:?}({})", self.list(args))
            }
        };
        self.line(depth, &text);
    }

    fn event(&self, event: &Event) -> String {
        match event {
            Event::Printf(pieces) => format!("printf {}", format_text(pieces)),
            Event::Errorf(pieces) => format!("errorf {}", format_text(pieces)),
            Event::Warnf(pieces) => format!("warnf {}", format_text(pieces)),
            Event::System(pieces) => format!("system {}", format_text(pieces)),
            Event::Cat(pieces) => format!("cat {}", format_text(pieces)),
            Event::PrintValue => "print".to_owned(),
            Event::PrintMap { map, top, div } => {
                format!("print {} top {top} div {div}", self.map(*map))
            }
            Event::ClearMap(map) => format!("clear {}", self.map(*map)),
            Event::ZeroMap(map) => format!("zero {}", self.map(*map)),
            Event::Exit => "exit".to_owned(),
            Event::Time(format) => format!("time {format:?}"),
            Event::Join(separator) => format!("join {separator:?}"),
            Event::Unwatch => "unwatch".to_owned(),
        }
    }

    fn list(&self, exprs: &[Expr]) -> String {
        exprs
            .iter()
            .map(|expr| self.expr(expr))
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn expr(&self, expr: &Expr) -> String {
        let ty = || self.ty(&expr.ty);
        match &expr.kind {
            ExprKind::Const(_) if expr.ty == Ty::Void => "nothing".to_owned(),
            ExprKind::Const(bits) => match &expr.ty {
                Ty::Bool => (*bits != 0).to_string(),
                Ty::Int(int) | Ty::Enum(_, int) => {
                    format!("{}:{}", crate::lower::int_value(*bits, *int), ty())
                }
                _ => format!("{bits:#x}:{}", ty()),
            },
            ExprKind::Str(bytes) => format!("\"{}\":{}", bytes.escape_ascii(), ty()),
            ExprKind::Bytes(bytes) => format!("{bytes:?}:{}", ty()),
            ExprKind::KernelEnumerator { name, value } => format!("{name}({value}):{}", ty()),
            ExprKind::KernelSizeof(id) => format!("sizeof({})", self.struct_name(*id)),
            ExprKind::KernelOffsetof(id, path) => self.offsetof(*id, path),
            ExprKind::Slot(slot) => format!("slot {}:{}", slot.0, ty()),
            ExprKind::Local(idx) => self.local(*idx),
            ExprKind::LocalAddr(idx) => format!("&{}", self.local(*idx)),
            ExprKind::Builtin(builtin) => format!("{builtin:?}:{}", ty()),
            ExprKind::Unary(op, inner) => {
                let sign = match op {
                    UnaryOp::Neg => "-",
                    UnaryOp::BitNot => "~",
                    UnaryOp::Not => "!",
                };
                format!("{sign}{}", self.expr(inner))
            }
            ExprKind::Binary(op, a, b) => {
                format!(
                    "({} {} {}):{}",
                    self.expr(a),
                    op.as_str(),
                    self.expr(b),
                    ty()
                )
            }
            ExprKind::PtrAdd {
                ptr,
                index,
                negative,
            } => {
                let sign = if *negative { "-" } else { "+" };
                format!("({} {sign} {}):{}", self.expr(ptr), self.expr(index), ty())
            }
            ExprKind::Compare(op, a, b) => {
                let sign = match op {
                    CompareOp::Eq => "==",
                    CompareOp::Ne => "!=",
                    CompareOp::Lt => "<",
                    CompareOp::Le => "<=",
                    CompareOp::Gt => ">",
                    CompareOp::Ge => ">=",
                };
                format!("({} {sign} {})", self.expr(a), self.expr(b))
            }
            ExprKind::Logical(op, a, b) => {
                let sign = match op {
                    LogicalOp::And => "&&",
                    LogicalOp::Or => "||",
                };
                format!("({} {sign} {})", self.expr(a), self.expr(b))
            }
            ExprKind::Cond(cond, a, b) => {
                format!(
                    "({} ? {} : {})",
                    self.expr(cond),
                    self.expr(a),
                    self.expr(b)
                )
            }
            ExprKind::Block(stmts, value) => {
                let mut inner = Dumper {
                    program: self.program,
                    body: self.body,
                    out: String::new(),
                };
                inner.stmts(stmts, 0);
                let stmts = inner.out.trim_end().replace('\n', "; ");
                format!("{{ {stmts}; {} }}", self.expr(value))
            }
            ExprKind::Cast(kind, inner) => {
                let name = match kind {
                    CastKind::Int => "int",
                    CastKind::Truth => "truth",
                    CastKind::Resize => "resize",
                    CastKind::Elements => "elements",
                    CastKind::ToArray => "to_array",
                    CastKind::FromArray => "from_array",
                    CastKind::Reinterpret => "reinterpret",
                    CastKind::ProbeNameToStr => "probe_name",
                    CastKind::Copy => "copy",
                };
                format!("{name}<{}>({})", ty(), self.expr(inner))
            }
            ExprKind::Tuple(elements) => match &expr.ty {
                Ty::Record(fields) => {
                    let fields: Vec<String> = fields
                        .iter()
                        .zip(elements)
                        .map(|((name, _), element)| format!("{name} = {}", self.expr(element)))
                        .collect();
                    format!("({})", fields.join(", "))
                }
                _ => format!("({},)", self.list(elements)),
            },
            ExprKind::TupleField(base, idx) => format!("{}.{idx}", self.expr(base)),
            ExprKind::Member(base, idx) => self.member(base, *idx, &expr.ty),
            ExprKind::Deref(inner) => format!("*{}:{}", self.expr(inner), ty()),
            ExprKind::Index(base, index) => {
                format!("{}[{}]:{}", self.expr(base), self.expr(index), ty())
            }
            ExprKind::MapGet { map, key } => self.entry(*map, key.as_deref()),
            ExprKind::MapAddr(map) => format!("&{}", self.map(*map)),
            ExprKind::Step {
                target,
                decrement,
                post,
                by,
            } => {
                let target = match target {
                    StepTarget::Local(idx) => self.local(*idx),
                    StepTarget::Map { map, key } => self.entry(*map, key.as_deref()),
                };
                let sign = if *decrement { "--" } else { "++" };
                let by = if *by == 1 {
                    String::new()
                } else {
                    format!(" by {by}")
                };
                if *post {
                    format!("{target}{sign}{by}")
                } else {
                    format!("{sign}{target}{by}")
                }
            }
            ExprKind::Call(call) => format!("{}:{}", self.call(call), ty()),
            ExprKind::CallFunction(idx, args) => {
                let name = self
                    .program
                    .functions
                    .get(idx.0 as usize)
                    .map_or("?", |f| &f.name);
                format!("{name}({}):{}", self.list(args), ty())
            }
            ExprKind::CallImported(idx, args) => {
                let functions = &self.program.imported_functions;
                let name = functions.get(idx.0 as usize).map_or("?", |f| &f.name);
                format!("{name}({}):{}", self.list(args), ty())
            }
        }
    }

    fn struct_name(&self, id: StructId) -> String {
        spell(&Ty::Struct(id, Mem::Unknown), &self.program.types)
    }

    fn offsetof(&self, id: StructId, path: &[u32]) -> String {
        let mut text = format!("offsetof({}", self.struct_name(id));
        let mut current = Some(id);
        for idx in path {
            let Some(id) = current else { break };
            let Some(member) = self.program.types.struct_def(id).members.get(*idx as usize) else {
                break;
            };
            let _ = write!(text, ".{}", member.name);
            current = match member.ty {
                Ty::Struct(id, _) => Some(id),
                _ => None,
            };
        }
        text.push(')');
        text
    }

    fn member(&self, base: &Expr, idx: u32, ty: &Ty) -> String {
        let (id, arrow) = match &base.ty {
            Ty::Struct(id, _) => (Some(*id), "."),
            Ty::Ptr(pointee, _) => match &**pointee {
                Ty::Struct(id, _) => (Some(*id), "->"),
                _ => (None, "->"),
            },
            _ => (None, "."),
        };
        let member = id.and_then(|id| self.program.types.struct_def(id).members.get(idx as usize));
        let name = match member {
            Some(member) if member.name.is_empty() => format!("<{idx}>"),
            Some(member) => {
                let origin = id.map(|id| &self.program.types.struct_def(id).origin);
                match (member.bits, member.data_loc, origin) {
                    (Some(bits), ..) => format!("{}:{bits}bits", member.name),
                    (_, true, Some(Origin::Tracepoint { .. })) => {
                        format!("{}:data_loc", member.name)
                    }
                    _ => member.name.clone(),
                }
            }
            None => format!("{idx}?"),
        };
        format!("{}{arrow}{name}:{}", self.expr(base), self.ty(ty))
    }

    fn call(&self, call: &Call) -> String {
        let with = |name: &str, args: &[&Expr]| {
            let args: Vec<String> = args.iter().map(|arg| self.expr(arg)).collect();
            format!("{name}({})", args.join(", "))
        };
        let two = |name: &str, a: &Expr, b: &Option<Box<Expr>>| match b {
            Some(b) => with(name, &[a, b]),
            None => with(name, &[a]),
        };
        match call {
            Call::Str { addr, len } => two("str", addr, len),
            Call::Buf { addr, len } => two("buf", addr, len),
            Call::Strncmp(a, b, n) => format!("strncmp({}, {}, {n})", self.expr(a), self.expr(b)),
            Call::Strstr(a, b) => with("strstr", &[a, b]),
            Call::Strlen(a) => with("strlen", &[a]),
            Call::StrConcat(a, b) => with("str_concat", &[a, b]),
            Call::Memcmp(a, b) => with("memcmp", &[a, b]),
            Call::Ksym(a) => with("ksym", &[a]),
            Call::Usym(a) => with("usym", &[a]),
            Call::UserAddress(a) => with("in_process", &[a]),
            Call::Ntop(None, a) => with("ntop", &[a]),
            Call::Ntop(Some(af), a) => with("ntop", &[af, a]),
            Call::Macaddr(a) => with("macaddr", &[a]),
            Call::Bswap(a) => with("bswap", &[a]),
            Call::Strftime(format, clock, time) => {
                format!("strftime(format {format}, {clock:?} {})", self.expr(time))
            }
            Call::CgroupPath(filter, id) => {
                format!("cgroup_path(filter {filter}, {})", self.expr(id))
            }
            Call::Path(a) => with("path", &[a]),
            Call::Delete(map, key) => format!("delete {}", self.entry(*map, key.as_deref())),
            Call::HasKey(map, key) => format!("has_key {}", self.entry(*map, Some(key))),
            Call::Find(map, key, idx) => {
                format!(
                    "find {} into {}",
                    self.entry(*map, Some(key)),
                    self.local(*idx)
                )
            }
            Call::StatsOf { map, key, part } => {
                format!("{part:?} of {}", self.entry(*map, key.as_deref()))
            }
            Call::MapLen(map) => format!("len {}", self.map(*map)),
            Call::StackLen(a) => with("len", &[a]),
            Call::PercpuKaddr(symbol, cpu) => match cpu {
                Some(cpu) => with("percpu_kaddr", &[symbol, cpu]),
                None => with("percpu_kaddr", &[symbol]),
            },
            Call::SkbOutput {
                path,
                skb,
                len,
                skip,
            } => format!(
                "skboutput {path:?} {}, {} from {skip}",
                self.expr(skb),
                self.expr(len)
            ),
            Call::SocketCookie(a) => with("socket_cookie", &[a]),
            Call::Signal { signal, thread } => {
                with(if *thread { "signal_thread" } else { "signal" }, &[signal])
            }
            Call::Override(a) => with("override", &[a]),
            Call::WriteUser(a, b, c) => with("write_user", &[a, b, c]),
            Call::TaskFromPid(a) => with("task_from_pid", &[a]),
            Call::TaskRelease(a) => with("task_release", &[a]),
        }
    }
}

fn mem_name(mem: Mem) -> &'static str {
    match mem {
        Mem::Unknown => "unknown",
        Mem::Kernel => "kernel",
        Mem::User => "user",
        Mem::Ctx => "ctx",
        Mem::Btf => "btf",
        Mem::Bpf => "bpf",
    }
}

fn format_text(pieces: &[FormatPiece]) -> String {
    let pieces: Vec<String> = pieces
        .iter()
        .map(|piece| match piece {
            FormatPiece::Literal(text) => format!("{text:?}"),
            FormatPiece::Spec(spec) => {
                let mut text = String::from("%");
                for (set, flag) in [
                    (spec.left, '-'),
                    (spec.plus, '+'),
                    (spec.space, ' '),
                    (spec.alternate, '#'),
                    (spec.zero, '0'),
                ] {
                    if set {
                        text.push(flag);
                    }
                }
                if let Some(width) = spec.width {
                    let _ = write!(text, "{width}");
                }
                if let Some(precision) = spec.precision {
                    let _ = write!(text, ".{precision}");
                }
                let _ = write!(text, "{:?}{:?}", spec.length, spec.conversion);
                text
            }
        })
        .collect();
    pieces.join(" ")
}
