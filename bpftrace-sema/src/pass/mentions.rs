//! Which bare names a body mentions: decides whether attach points can share a program.

use std::collections::HashSet;

use bpftrace_ast::node::{
    Arg, Block, Else, Expr, ExprKind, ForOver, If, Macro, Place, Predicate, Stmt, StmtKind,
    TypeOrExpr, TypeSpec, TypeSpecKind,
};

use super::macros::Macros;

/// All bare names in an expression position, names of called functions included; also those in the
/// macros that are called.
pub(crate) fn mentioned_names<'a>(
    predicate: Option<&'a Predicate>,
    body: &'a Block,
    macros: &Macros<'a>,
) -> HashSet<&'a str> {
    let mut seen = HashSet::new();
    let mut calls: Vec<Mention<'a>> = Vec::new();
    collect(predicate, body, &mut seen, &mut |name, args| {
        calls.push((name, args));
    });
    let mut expanded: HashSet<*const Macro> = HashSet::new();
    while let Some((name, args)) = calls.pop() {
        for definition in macros.all(name, args.map_or(0, <[Arg]>::len)) {
            if expanded.insert(std::ptr::from_ref(definition)) {
                collect(None, &definition.body, &mut seen, &mut |name, args| {
                    calls.push((name, args));
                });
            }
        }
    }
    seen
}

/// A name that may be a macro, and the arguments of the call if it is written as one.
pub(crate) type Mention<'a> = (&'a str, Option<&'a [Arg]>);

/// What a body may call: calls, and bare names.
pub(crate) fn mentioned_calls<'a>(
    predicate: Option<&'a Predicate>,
    body: &'a Block,
) -> Vec<Mention<'a>> {
    let mut calls = Vec::new();
    collect(predicate, body, &mut HashSet::new(), &mut |name, args| {
        calls.push((name, args))
    });
    calls
}

fn collect<'a>(
    predicate: Option<&'a Predicate>,
    body: &'a Block,
    names: &mut HashSet<&'a str>,
    called: &mut dyn FnMut(&'a str, Option<&'a [Arg]>),
) {
    let mut todo = vec![Node::Block(body)];
    todo.extend(predicate.map(|predicate| Node::Expr(&predicate.expr)));
    // A work list, not recursion: the tree can be deep.
    while let Some(node) = todo.pop() {
        match node {
            Node::Block(block) => {
                todo.extend(block.stmts.iter().map(Node::Stmt));
                todo.extend(block.value.as_deref().map(Node::Expr));
            }
            Node::Stmt(stmt) => visit_stmt(stmt, &mut todo),
            Node::Expr(expr) => {
                match &expr.kind {
                    ExprKind::Ident(name) => called(name, None),
                    ExprKind::Call(call) => called(&call.name.name, Some(&call.args)),
                    _ => {}
                }
                visit_expr(expr, &mut todo, names);
            }
            Node::If(branch) => visit_if(branch, &mut todo),
            Node::Type(spec) => match &spec.kind {
                TypeSpecKind::Pointer(to) => todo.push(Node::Type(to)),
                TypeSpecKind::Array { element, .. } => todo.push(Node::Type(element)),
                TypeSpecKind::Typeof(of) => type_or_expr(of, &mut todo, names),
                TypeSpecKind::Named(_)
                | TypeSpecKind::Struct(_)
                | TypeSpecKind::Union(_)
                | TypeSpecKind::Enum(_) => {}
            },
        }
    }
}

enum Node<'a> {
    Block(&'a Block),
    Stmt(&'a Stmt),
    Expr(&'a Expr),
    If(&'a If),
    Type(&'a TypeSpec),
}

fn place<'a>(place: &'a Place, todo: &mut Vec<Node<'a>>) {
    if let Place::MapAccess(access) = place {
        todo.extend(access.keys.iter().map(Node::Expr));
    }
}

fn type_or_expr<'a>(of: &'a TypeOrExpr, todo: &mut Vec<Node<'a>>, names: &mut HashSet<&'a str>) {
    match of {
        TypeOrExpr::Type(spec) => todo.push(Node::Type(spec)),
        TypeOrExpr::Name(ident) => {
            names.insert(&ident.name);
        }
        TypeOrExpr::Expr(expr) => todo.push(Node::Expr(expr)),
    }
}

fn visit_if<'a>(branch: &'a If, todo: &mut Vec<Node<'a>>) {
    todo.push(Node::Expr(&branch.cond));
    todo.push(Node::Block(&branch.then));
    match &branch.otherwise {
        Some(Else::Block(block)) => todo.push(Node::Block(block)),
        Some(Else::If(branch)) => todo.push(Node::If(branch)),
        None => {}
    }
}

fn visit_stmt<'a>(stmt: &'a Stmt, todo: &mut Vec<Node<'a>>) {
    match &stmt.kind {
        StmtKind::Expr(expr) | StmtKind::Discard(expr) => todo.push(Node::Expr(expr)),
        StmtKind::Import(_) | StmtKind::Break | StmtKind::Continue => {}
        StmtKind::Let { ty, value, .. } => {
            todo.extend(ty.as_ref().map(Node::Type));
            todo.extend(value.as_ref().map(Node::Expr));
        }
        StmtKind::Assign { target, value } | StmtKind::CompoundAssign { target, value, .. } => {
            place(target, todo);
            todo.push(Node::Expr(value));
        }
        StmtKind::While { cond, body } => {
            todo.push(Node::Expr(cond));
            todo.push(Node::Block(body));
        }
        StmtKind::Unroll { count, body } => {
            todo.push(Node::Expr(count));
            todo.push(Node::Block(body));
        }
        StmtKind::For { over, body, .. } => {
            if let ForOver::Range { start, end } = over {
                todo.push(Node::Expr(start));
                todo.push(Node::Expr(end));
            }
            todo.push(Node::Block(body));
        }
        StmtKind::Return(value) => todo.extend(value.as_ref().map(Node::Expr)),
    }
}

fn visit_expr<'a>(expr: &'a Expr, todo: &mut Vec<Node<'a>>, names: &mut HashSet<&'a str>) {
    match &expr.kind {
        ExprKind::Ident(name) => {
            names.insert(name);
        }
        ExprKind::MapAccess(access) => todo.extend(access.keys.iter().map(Node::Expr)),
        ExprKind::Unary { operand, .. } | ExprKind::Comptime(operand) => {
            todo.push(Node::Expr(operand));
        }
        ExprKind::Cast { ty, operand, .. } => {
            todo.push(Node::Type(ty));
            todo.push(Node::Expr(operand));
        }
        ExprKind::IncDec { target, .. } => place(target, todo),
        ExprKind::Binary { left, right, .. } => {
            todo.push(Node::Expr(left));
            todo.push(Node::Expr(right));
        }
        ExprKind::Ternary {
            cond,
            then,
            otherwise,
        } => {
            todo.push(Node::Expr(cond));
            todo.extend(then.as_deref().map(Node::Expr));
            todo.push(Node::Expr(otherwise));
        }
        ExprKind::If(branch) => visit_if(branch, todo),
        ExprKind::Block(block) => todo.push(Node::Block(block)),
        ExprKind::Tuple(elements) => todo.extend(elements.iter().map(Node::Expr)),
        ExprKind::Record(fields) => todo.extend(fields.iter().map(|f| Node::Expr(&f.value))),
        ExprKind::Sizeof(of) | ExprKind::Offsetof { of, .. } | ExprKind::Typeinfo(of) => {
            type_or_expr(of, todo, names);
        }
        ExprKind::Call(call) => {
            names.insert(&call.name.name);
            for arg in &call.args {
                match arg {
                    Arg::Expr(expr) => todo.push(Node::Expr(expr)),
                    Arg::Type(spec) => todo.push(Node::Type(spec)),
                }
            }
        }
        ExprKind::Field { base, .. } | ExprKind::TupleIndex { base, .. } => {
            todo.push(Node::Expr(base));
        }
        ExprKind::Index { base, index } => {
            todo.push(Node::Expr(base));
            todo.push(Node::Expr(index));
        }
        ExprKind::Integer(_)
        | ExprKind::String(_)
        | ExprKind::Bool(_)
        | ExprKind::Variable(_)
        | ExprKind::Map(_)
        | ExprKind::PositionalParam(_)
        | ExprKind::PositionalCount
        | ExprKind::AddressOfVariable(_)
        | ExprKind::AddressOfMap(_)
        | ExprKind::Error => {}
    }
}
