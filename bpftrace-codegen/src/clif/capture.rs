//! Which variables of a probe live where: in registers, in memory of one function, or in the frame that
//! loop bodies running as callbacks share with the probe's main function.

use bpftrace_sema::{
    ArithmeticOp, Body, Call, Expr, ExprKind, LocalIdx, StepTarget, Stmt, StmtKind, Ty, UnrollCount,
};

/// How a variable is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Whether more than one function of the probe uses it.
    pub(super) captured: bool,
    /// Whether its address is taken.
    pub(super) address_taken: bool,
    /// Whether it is used other than by taking an element of the tuple it is.
    pub(super) as_a_whole: bool,
    /// Whether it is assigned to.
    pub(super) assigned: bool,
    /// Whether a callback assigns to it that is not the function it belongs to.
    pub(super) assigned_inside: bool,
}

/// How each variable of a body is used, of which the first `n_params` are there when it starts.
pub(super) fn analyze(body: &Body, n_params: u32) -> Vec<Usage> {
    let mut walk = Walk {
        usage: vec![Usage::default(); body.locals.len()],
        region_of: vec![None; body.locals.len()],
        region: 0,
        n_regions: 1,
    };
    for param in 0..n_params {
        walk.touch(LocalIdx(param));
    }
    walk.stmts(&body.stmts);
    walk.usage
}

/// How a loop over a range runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RangeLoop {
    /// As a loop in the function: few iterations, and a number that is known.
    Inline,
    /// Through `bpf_loop`, with the body as a callback.
    Callback,
}

/// How much the verifier is asked to walk through for one loop, in statements. A statement takes it some
/// ten to fifty instructions, of the million that it walks through in all.
const MAX_INLINE_STEPS: u64 = 2000;

/// Decides how a loop over a range runs.
pub(super) fn range_loop(start: &Expr, end: &Expr, body: &[Stmt]) -> RangeLoop {
    let (Some(start), Some(end)) = (constant(start), constant(end)) else {
        return RangeLoop::Callback;
    };
    let iterations = u64::try_from(end.saturating_sub(start)).unwrap_or(0);
    if iterations.saturating_mul(steps(body)) <= MAX_INLINE_STEPS {
        RangeLoop::Inline
    } else {
        RangeLoop::Callback
    }
}

/// Statements that the verifier walks through for one run of the body.
fn steps(body: &[Stmt]) -> u64 {
    body.iter().fold(1, |sum, stmt| {
        let inner = match &stmt.kind {
            StmtKind::If {
                then, otherwise, ..
            } => steps(then).saturating_add(steps(otherwise)),
            StmtKind::Block(body) => steps(body),
            StmtKind::Unroll { count, body } => {
                let times = match count {
                    UnrollCount::Const(n) => u64::from(*n),
                    UnrollCount::Slot(_) => 100,
                };
                steps(body).saturating_mul(times)
            }
            StmtKind::ForRange {
                start, end, body, ..
            } => match (constant(start), constant(end)) {
                (Some(start), Some(end)) => u64::try_from(end.saturating_sub(start))
                    .unwrap_or(0)
                    .saturating_mul(steps(body)),
                _ => steps(body),
            },
            // Nobody knows how often.
            StmtKind::While { body, .. } => steps(body).saturating_mul(100),
            _ => 1,
        };
        u64::saturating_add(sum, inner)
    })
}

/// The value of a constant, as far as it fits 64 signed bits.
pub(super) fn constant(expr: &Expr) -> Option<i64> {
    match (&expr.kind, &expr.ty) {
        (ExprKind::Const(bits), Ty::Int(int)) => {
            let shift = 64 - 8 * u32::from(int.size);
            let shifted = bits << shift;
            Some(if int.signed {
                shifted as i64 >> shift
            } else {
                i64::try_from(shifted >> shift).ok()?
            })
        }
        (ExprKind::Const(bits), Ty::Bool) => Some(i64::from(*bits != 0)),
        (ExprKind::Cast(bpftrace_sema::CastKind::Int, inner), Ty::Int(int)) if int.size == 8 => {
            constant(inner)
        }
        _ => None,
    }
}

struct Walk {
    usage: Vec<Usage>,
    region_of: Vec<Option<u32>>,
    region: u32,
    n_regions: u32,
}

impl Walk {
    fn touch(&mut self, local: LocalIdx) -> Option<&mut Usage> {
        let index = local.0 as usize;
        let usage = self.usage.get_mut(index)?;
        match self.region_of[index] {
            None => self.region_of[index] = Some(self.region),
            Some(region) if region != self.region => usage.captured = true,
            Some(_) => {}
        }
        Some(usage)
    }

    fn assign(&mut self, local: LocalIdx) {
        let inside = self
            .region_of
            .get(local.0 as usize)
            .is_some_and(|region| region.is_some_and(|region| region != self.region));
        if let Some(usage) = self.touch(local) {
            usage.assigned_inside |= inside;
            usage.assigned = true;
            usage.as_a_whole = true;
        }
    }

    fn in_callback(&mut self, body: impl FnOnce(&mut Self)) {
        let outer = self.region;
        self.region = self.n_regions;
        self.n_regions += 1;
        body(self);
        self.region = outer;
    }

    fn stmts(&mut self, stmts: &[Stmt]) {
        for stmt in stmts {
            self.stmt(stmt);
        }
    }

    fn stmt(&mut self, stmt: &Stmt) {
        match &stmt.kind {
            StmtKind::Expr(expr) => self.expr(expr),
            StmtKind::Declare(local) => {
                self.touch(*local);
            }
            StmtKind::AssignLocal(local, value) => {
                self.expr(value);
                self.assign(*local);
            }
            StmtKind::AssignMap { key, value, .. } => {
                self.exprs(key.as_ref());
                self.expr(value);
            }
            StmtKind::Aggregate {
                key, value, time, ..
            } => {
                self.exprs(key.as_ref());
                self.exprs(value.as_ref());
                self.exprs(time.as_ref());
            }
            StmtKind::If {
                cond,
                then,
                otherwise,
            } => {
                self.expr(cond);
                self.stmts(then);
                self.stmts(otherwise);
            }
            StmtKind::While { cond, body } => {
                self.expr(cond);
                self.stmts(body);
            }
            StmtKind::Unroll { body, .. } | StmtKind::Block(body) => self.stmts(body),
            StmtKind::ForRange {
                var,
                start,
                end,
                body,
            } => {
                self.expr(start);
                self.expr(end);
                match range_loop(start, end, body) {
                    RangeLoop::Inline => {
                        self.assign(*var);
                        self.stmts(body);
                    }
                    RangeLoop::Callback => self.in_callback(|walk| {
                        walk.assign(*var);
                        walk.stmts(body);
                    }),
                }
            }
            StmtKind::ForMap { var, body, .. } => self.in_callback(|walk| {
                walk.touch(*var);
                walk.stmts(body);
            }),
            StmtKind::Break | StmtKind::Continue => {}
            StmtKind::Return(value) => self.exprs(value.as_ref()),
            StmtKind::Event { args, .. } | StmtKind::TracePrintk { args, .. } => self.exprs(args),
        }
    }

    fn exprs<'e>(&mut self, exprs: impl IntoIterator<Item = &'e Expr>) {
        for expr in exprs {
            self.expr(expr);
        }
    }

    fn expr(&mut self, expr: &Expr) {
        match &expr.kind {
            ExprKind::Local(local) => {
                if let Some(usage) = self.touch(*local) {
                    usage.as_a_whole = true;
                }
            }
            ExprKind::LocalAddr(local) => {
                if let Some(usage) = self.touch(*local) {
                    usage.address_taken = true;
                    usage.as_a_whole = true;
                }
            }
            ExprKind::TupleField(base, _) => match base.kind {
                ExprKind::Local(local) => {
                    self.touch(local);
                }
                _ => self.expr(base),
            },
            ExprKind::Step { target, .. } => match target {
                StepTarget::Local(local) => self.assign(*local),
                StepTarget::Map { key, .. } => self.exprs(key.as_deref()),
            },
            ExprKind::Block(stmts, value) => {
                self.stmts(stmts);
                self.expr(value);
            }
            ExprKind::Call(call) => {
                if let Call::Find(_, _, local) = call {
                    self.assign(*local);
                }
                self.exprs(call_args(call));
            }
            other => self.exprs(operands(other)),
        }
    }
}

/// The operands of an expression that has neither statements nor variables of its own.
pub(super) fn operands(kind: &ExprKind) -> Vec<&Expr> {
    match kind {
        ExprKind::Const(_)
        | ExprKind::Str(_)
        | ExprKind::Bytes(_)
        | ExprKind::KernelEnumerator { .. }
        | ExprKind::KernelSizeof(_)
        | ExprKind::KernelOffsetof(..)
        | ExprKind::Slot(_)
        | ExprKind::Local(_)
        | ExprKind::LocalAddr(_)
        | ExprKind::Builtin(_)
        | ExprKind::MapAddr(_) => Vec::new(),
        ExprKind::Unary(_, a)
        | ExprKind::Cast(_, a)
        | ExprKind::TupleField(a, _)
        | ExprKind::Member(a, _)
        | ExprKind::Deref(a) => vec![a],
        ExprKind::Binary(_, a, b)
        | ExprKind::Compare(_, a, b)
        | ExprKind::Logical(_, a, b)
        | ExprKind::Index(a, b) => vec![a, b],
        ExprKind::PtrAdd { ptr, index, .. } => vec![ptr, index],
        ExprKind::Cond(a, b, c) => vec![a, b, c],
        ExprKind::Block(_, value) => vec![value],
        ExprKind::Tuple(elements) => elements.iter().collect(),
        ExprKind::MapGet { key, .. } => key.as_deref().into_iter().collect(),
        ExprKind::Step { target, .. } => match target {
            StepTarget::Local(_) => Vec::new(),
            StepTarget::Map { key, .. } => key.as_deref().into_iter().collect(),
        },
        ExprKind::Call(call) => call_args(call),
        ExprKind::CallFunction(_, args) | ExprKind::CallImported(_, args) => args.iter().collect(),
    }
}

/// The arguments of a call.
pub(super) fn call_args(call: &Call) -> Vec<&Expr> {
    match call {
        Call::Str { addr, len } | Call::Buf { addr, len } => {
            let mut args: Vec<&Expr> = vec![addr];
            args.extend(len.as_deref());
            args
        }
        Call::Strncmp(a, b, _)
        | Call::Strstr(a, b)
        | Call::StrConcat(a, b)
        | Call::Memcmp(a, b) => vec![a, b],
        Call::Ntop(af, address) => {
            let mut args: Vec<&Expr> = af.as_deref().into_iter().collect();
            args.push(address);
            args
        }
        Call::Strlen(a)
        | Call::Ksym(a)
        | Call::Usym(a)
        | Call::UserAddress(a)
        | Call::Macaddr(a)
        | Call::Bswap(a)
        | Call::Strftime(_, _, a)
        | Call::CgroupPath(_, a)
        | Call::Path(a)
        | Call::HasKey(_, a)
        | Call::Find(_, a, _)
        | Call::StackLen(a)
        | Call::SocketCookie(a)
        | Call::Override(a)
        | Call::TaskFromPid(a)
        | Call::TaskRelease(a) => vec![a],
        Call::Signal { signal, .. } => vec![signal],
        Call::Delete(_, key) => key.as_deref().into_iter().collect(),
        Call::MapLen(_) => Vec::new(),
        Call::SkbOutput { skb, len, .. } => vec![skb, len],
        Call::StatsOf { key, .. } => key.iter().map(|key| &**key).collect(),
        Call::PercpuKaddr(a, cpu) => [a].into_iter().chain(cpu).map(|e| &**e).collect(),
        Call::WriteUser(a, b, c) => vec![a, b, c],
    }
}

/// Whether evaluating the expression changes nothing and cannot leave the probe, so that it may be
/// evaluated while a record of the ring buffer is reserved.
pub(super) fn is_pure(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Block(..)
        | ExprKind::Step { .. }
        | ExprKind::CallFunction(..)
        | ExprKind::CallImported(..) => false,
        ExprKind::Call(
            Call::Delete(..)
            | Call::Find(..)
            | Call::Signal { .. }
            | Call::Override(_)
            | Call::Path(_)
            | Call::SkbOutput { .. }
            | Call::WriteUser(..),
        ) => false,
        kind => operands(kind).into_iter().all(is_pure),
    }
}

/// Whether evaluating an expression may send a warning to user space: a division by zero, or an index out
/// of bounds.
pub(super) fn may_warn(expr: &Expr) -> bool {
    let here = match &expr.kind {
        ExprKind::Binary(ArithmeticOp::Div | ArithmeticOp::Mod, _, divisor) => {
            constant(divisor).is_none_or(|n| n == 0)
        }
        ExprKind::Index(_, index) => constant(index).is_none(),
        _ => false,
    };
    here || operands(&expr.kind).into_iter().any(may_warn)
}

/// Whether the expression reads a variable.
pub(super) fn mentions(expr: &Expr, local: LocalIdx) -> bool {
    match &expr.kind {
        ExprKind::Local(other) | ExprKind::LocalAddr(other) => *other == local,
        ExprKind::Step {
            target: StepTarget::Local(other),
            ..
        } if *other == local => true,
        // A block may do anything.
        ExprKind::Block(..) => true,
        kind => operands(kind).into_iter().any(|e| mentions(e, local)),
    }
}
