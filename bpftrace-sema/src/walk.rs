//! Walking typed programs.

use crate::{Call, Expr, ExprKind, StepTarget, Stmt, StmtKind};

/// Something to look at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Node<'a> {
    /// A statement.
    Stmt(&'a Stmt),
    /// An expression.
    Expr(&'a Expr),
}

/// Calls `visit` for each statement and expression, parents first. No recursion: trees can be deep.
pub(crate) fn walk<'a>(stmts: &'a [Stmt], visit: &mut dyn FnMut(Node<'a>)) {
    let mut todo: Vec<Node<'a>> = stmts.iter().rev().map(Node::Stmt).collect();
    let mut children = Vec::new();
    while let Some(node) = todo.pop() {
        visit(node);
        children.clear();
        match node {
            Node::Stmt(stmt) => stmt_children(stmt, &mut children),
            Node::Expr(expr) => expr_children(expr, &mut children),
        }
        todo.extend(children.drain(..).rev());
    }
}

fn stmt_children<'a>(stmt: &'a Stmt, out: &mut Vec<Node<'a>>) {
    fn stmts<'a>(list: &'a [Stmt], out: &mut Vec<Node<'a>>) {
        out.extend(list.iter().map(Node::Stmt));
    }
    match &stmt.kind {
        StmtKind::Expr(expr) | StmtKind::AssignLocal(_, expr) => out.push(Node::Expr(expr)),
        StmtKind::Declare(_) | StmtKind::Break | StmtKind::Continue => {}
        StmtKind::AssignMap { key, value, .. } => {
            out.extend(key.iter().map(Node::Expr));
            out.push(Node::Expr(value));
        }
        StmtKind::Aggregate {
            key, value, time, ..
        } => {
            out.extend(key.iter().chain(value).chain(time).map(Node::Expr));
        }
        StmtKind::If {
            cond,
            then,
            otherwise,
        } => {
            out.push(Node::Expr(cond));
            stmts(then, out);
            stmts(otherwise, out);
        }
        StmtKind::While { cond, body } => {
            out.push(Node::Expr(cond));
            stmts(body, out);
        }
        StmtKind::Unroll { body, .. } | StmtKind::ForMap { body, .. } => stmts(body, out),
        StmtKind::ForRange {
            start, end, body, ..
        } => {
            out.push(Node::Expr(start));
            out.push(Node::Expr(end));
            stmts(body, out);
        }
        StmtKind::Return(value) => out.extend(value.iter().map(Node::Expr)),
        StmtKind::Event { args, .. } | StmtKind::TracePrintk { args, .. } => {
            out.extend(args.iter().map(Node::Expr));
        }
        StmtKind::Block(body) => stmts(body, out),
    }
}

fn expr_children<'a>(expr: &'a Expr, out: &mut Vec<Node<'a>>) {
    match &expr.kind {
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
        | ExprKind::MapAddr(_) => {}
        ExprKind::Unary(_, inner)
        | ExprKind::Cast(_, inner)
        | ExprKind::TupleField(inner, _)
        | ExprKind::Member(inner, _)
        | ExprKind::Deref(inner) => out.push(Node::Expr(inner)),
        ExprKind::Binary(_, a, b)
        | ExprKind::Compare(_, a, b)
        | ExprKind::Logical(_, a, b)
        | ExprKind::Index(a, b) => out.extend([Node::Expr(a), Node::Expr(b)]),
        ExprKind::PtrAdd { ptr, index, .. } => out.extend([Node::Expr(ptr), Node::Expr(index)]),
        ExprKind::Cond(cond, a, b) => {
            out.extend([Node::Expr(cond), Node::Expr(a), Node::Expr(b)]);
        }
        ExprKind::Block(stmts, value) => {
            out.extend(stmts.iter().map(Node::Stmt));
            out.push(Node::Expr(value));
        }
        ExprKind::Tuple(elements)
        | ExprKind::CallFunction(_, elements)
        | ExprKind::CallImported(_, elements) => {
            out.extend(elements.iter().map(Node::Expr));
        }
        ExprKind::MapGet { key, .. } => out.extend(key.iter().map(|key| Node::Expr(key))),
        ExprKind::Step { target, .. } => {
            if let StepTarget::Map { key: Some(key), .. } = target {
                out.push(Node::Expr(key));
            }
        }
        ExprKind::Call(call) => call_children(call, out),
    }
}

fn call_children<'a>(call: &'a Call, out: &mut Vec<Node<'a>>) {
    let list: Vec<&'a Expr> = match call {
        Call::Str { addr, len } | Call::Buf { addr, len } => {
            std::iter::once(addr).chain(len).map(|e| &**e).collect()
        }
        Call::Strncmp(a, b, _)
        | Call::Strstr(a, b)
        | Call::StrConcat(a, b)
        | Call::Memcmp(a, b) => vec![a, b],
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
        | Call::TaskRelease(a)
        | Call::Signal { signal: a, .. } => vec![a],
        Call::Ntop(a, b) => a.iter().chain([b]).map(|e| &**e).collect(),
        Call::Delete(_, key) => key.iter().map(|e| &**e).collect(),
        Call::PercpuKaddr(a, cpu) => [a].into_iter().chain(cpu).map(|e| &**e).collect(),
        Call::MapLen(_) => Vec::new(),
        Call::SkbOutput { skb, len, .. } => vec![skb, len],
        Call::StatsOf { key, .. } => key.iter().map(|key| &**key).collect(),
        Call::WriteUser(a, b, c) => vec![a, b, c],
    };
    out.extend(list.into_iter().map(Node::Expr));
}
