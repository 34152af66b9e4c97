//! Copies of syntax trees in which some names mean something else: bodies of macros with their
//! arguments put in, and replacement texts of C macros moved to where they are used.

use std::collections::HashMap;

use bpftrace_ast::diag::Diagnostic;
use bpftrace_ast::node::{
    Arg, Block, Call, Else, Expr, ExprKind, ForOver, Ident, If, MapAccess, Place, RecordField,
    Stmt, StmtKind, TypeOrExpr, TypeSpec, TypeSpecKind,
};
use bpftrace_ast::source::{ExpansionId, Span};

use crate::codes;

/// What stands for a name in a macro's body.
#[derive(Clone, Debug)]
pub(crate) enum Replacement {
    /// A variable of the caller.
    Variable(String),
    /// A map of the caller.
    Map(String),
    /// An expression of the caller.
    Expr(Expr),
    /// A type (`typeof(x)` as an argument).
    Type(TypeSpec),
}

/// How to rewrite.
#[derive(Debug, Default)]
pub(crate) struct Rewriter {
    /// By parameter name: variables, maps and bare names have spaces of their own.
    pub(crate) variables: HashMap<String, Replacement>,
    /// As `variables`.
    pub(crate) maps: HashMap<String, Replacement>,
    /// As `variables`.
    pub(crate) idents: HashMap<String, Replacement>,
    /// Put behind the names of the body's own variables; empty: they keep their names.
    pub(crate) suffix: String,
    /// Whether maps that are not parameters are mistakes.
    pub(crate) hygienic: bool,
    /// All places belong to this expansion.
    pub(crate) expansion: Option<ExpansionId>,
    /// All places become this one.
    pub(crate) place: Option<Span>,
    /// Mistakes found on the way.
    pub(crate) diags: Vec<Diagnostic>,
    /// Nodes copied.
    pub(crate) n_nodes: usize,
}

impl Rewriter {
    /// Moves everything in an expression to one place. With the number of nodes that it has.
    pub(crate) fn moved(expr: &Expr, place: Span) -> (Expr, usize) {
        let mut rewriter = Rewriter {
            place: Some(place),
            ..Rewriter::default()
        };
        (rewriter.expr(expr), rewriter.n_nodes)
    }

    fn span(&self, span: Span) -> Span {
        self.place.unwrap_or(Span {
            expansion: self.expansion.or(span.expansion),
            ..span
        })
    }

    fn variable(&mut self, name: &str) -> String {
        match self.variables.get(name) {
            Some(Replacement::Variable(caller)) => caller.clone(),
            _ if self.suffix.is_empty() => name.to_owned(),
            _ => format!("{name}{}", self.suffix),
        }
    }

    fn map(&mut self, span: Span, name: &str) -> String {
        match self.maps.get(name) {
            Some(Replacement::Map(caller)) => caller.clone(),
            _ => {
                if self.hygienic {
                    self.diags.push(Diagnostic::error(
                        codes::MACRO,
                        span,
                        format!(
                            "Unhygienic access to map: @{name}. Maps must be passed into the macro as \
                             arguments."
                        ),
                    ));
                }
                name.to_owned()
            }
        }
    }

    fn ident(&self, ident: &Ident) -> Ident {
        Ident {
            span: self.span(ident.span),
            name: ident.name.clone(),
        }
    }

    fn variable_ident(&mut self, ident: &Ident) -> Ident {
        Ident {
            span: self.span(ident.span),
            name: self.variable(&ident.name),
        }
    }

    fn map_ident(&mut self, ident: &Ident) -> Ident {
        Ident {
            span: self.span(ident.span),
            name: self.map(ident.span, &ident.name),
        }
    }

    fn boxed(&mut self, expr: &Expr) -> Box<Expr> {
        Box::new(self.expr(expr))
    }

    /// A block.
    pub(crate) fn block(&mut self, block: &Block) -> Block {
        Block {
            span: self.span(block.span),
            stmts: block.stmts.iter().map(|stmt| self.stmt(stmt)).collect(),
            value: block.value.as_ref().map(|value| self.boxed(value)),
        }
    }

    fn stmt(&mut self, stmt: &Stmt) -> Stmt {
        self.n_nodes += 1;
        let kind = match &stmt.kind {
            StmtKind::Expr(expr) => StmtKind::Expr(self.expr(expr)),
            StmtKind::Import(import) => StmtKind::Import(import.clone()),
            StmtKind::Let { var, ty, value } => {
                if self.variables.contains_key(&var.name) {
                    self.diags.push(Diagnostic::error(
                        codes::REDECLARED,
                        var.span,
                        format!("Variable declaration shadows macro arg ${}", var.name),
                    ));
                    // The variable is there, so nothing is declared.
                    StmtKind::Discard(Expr {
                        span: self.span(var.span),
                        kind: ExprKind::Variable(self.variable(&var.name)),
                    })
                } else {
                    StmtKind::Let {
                        var: self.variable_ident(var),
                        ty: ty.as_ref().map(|ty| self.type_spec(ty)),
                        value: value.as_ref().map(|value| self.expr(value)),
                    }
                }
            }
            StmtKind::Assign { target, value } => StmtKind::Assign {
                target: self.target(target),
                value: self.expr(value),
            },
            StmtKind::CompoundAssign {
                target,
                op_span,
                op,
                value,
            } => StmtKind::CompoundAssign {
                target: self.target(target),
                op_span: self.span(*op_span),
                op: *op,
                value: self.expr(value),
            },
            StmtKind::Discard(value) => StmtKind::Discard(self.expr(value)),
            StmtKind::While { cond, body } => StmtKind::While {
                cond: self.expr(cond),
                body: self.block(body),
            },
            StmtKind::Unroll { count, body } => StmtKind::Unroll {
                count: self.expr(count),
                body: self.block(body),
            },
            StmtKind::For { var, over, body } => StmtKind::For {
                var: self.variable_ident(var),
                over: match over {
                    ForOver::Map(map) => ForOver::Map(self.map_ident(map)),
                    ForOver::Range { start, end } => ForOver::Range {
                        start: self.expr(start),
                        end: self.expr(end),
                    },
                },
                body: self.block(body),
            },
            StmtKind::Break => StmtKind::Break,
            StmtKind::Continue => StmtKind::Continue,
            StmtKind::Return(value) => {
                StmtKind::Return(value.as_ref().map(|value| self.expr(value)))
            }
        };
        Stmt {
            span: self.span(stmt.span),
            kind,
        }
    }

    fn target(&mut self, place: &Place) -> Place {
        match place {
            Place::Variable(var) => Place::Variable(self.variable_ident(var)),
            Place::Map(map) => Place::Map(self.map_ident(map)),
            Place::MapAccess(access) => Place::MapAccess(self.access(access)),
        }
    }

    fn access(&mut self, access: &MapAccess) -> MapAccess {
        MapAccess {
            span: self.span(access.span),
            map: self.map_ident(&access.map),
            keys: access.keys.iter().map(|key| self.expr(key)).collect(),
        }
    }

    fn if_node(&mut self, branch: &If) -> If {
        If {
            span: self.span(branch.span),
            cond: self.expr(&branch.cond),
            then: self.block(&branch.then),
            otherwise: branch.otherwise.as_ref().map(|otherwise| match otherwise {
                Else::Block(block) => Else::Block(self.block(block)),
                Else::If(next) => Else::If(Box::new(self.if_node(next))),
            }),
        }
    }

    /// An expression.
    pub(crate) fn expr(&mut self, expr: &Expr) -> Expr {
        self.n_nodes += 1;
        let span = self.span(expr.span);
        let kind = match &expr.kind {
            ExprKind::Ident(name) => match self.idents.get(name) {
                // What the caller wrote stays as it is.
                Some(Replacement::Expr(given)) => {
                    self.n_nodes += 1;
                    return given.clone();
                }
                Some(Replacement::Type(given)) => {
                    self.diags.push(Diagnostic::error(
                        codes::ARGUMENT_KIND,
                        given.span,
                        "When used as a call argument, `typeof` builtin only valid for macro calls \
                         that are expecting a type parameter",
                    ));
                    ExprKind::Ident(name.clone())
                }
                _ => ExprKind::Ident(name.clone()),
            },
            ExprKind::Variable(name) => ExprKind::Variable(self.variable(name)),
            ExprKind::Map(name) => ExprKind::Map(self.map(expr.span, name)),
            ExprKind::MapAccess(access) => ExprKind::MapAccess(self.access(access)),
            ExprKind::Unary { op, operand } => ExprKind::Unary {
                op: *op,
                operand: self.boxed(operand),
            },
            ExprKind::IncDec { op, fixity, target } => ExprKind::IncDec {
                op: *op,
                fixity: *fixity,
                target: Box::new(self.target(target)),
            },
            ExprKind::AddressOfVariable(var) => {
                ExprKind::AddressOfVariable(self.variable_ident(var))
            }
            ExprKind::AddressOfMap(map) => ExprKind::AddressOfMap(self.map_ident(map)),
            ExprKind::Binary {
                op,
                op_span,
                left,
                right,
            } => ExprKind::Binary {
                op: *op,
                op_span: self.span(*op_span),
                left: self.boxed(left),
                right: self.boxed(right),
            },
            ExprKind::Ternary {
                cond,
                then,
                otherwise,
            } => ExprKind::Ternary {
                cond: self.boxed(cond),
                then: then.as_ref().map(|then| self.boxed(then)),
                otherwise: self.boxed(otherwise),
            },
            ExprKind::If(branch) => ExprKind::If(Box::new(self.if_node(branch))),
            ExprKind::Block(block) => ExprKind::Block(Box::new(self.block(block))),
            ExprKind::Tuple(elements) => {
                ExprKind::Tuple(elements.iter().map(|element| self.expr(element)).collect())
            }
            ExprKind::Record(fields) => ExprKind::Record(
                fields
                    .iter()
                    .map(|field| RecordField {
                        span: self.span(field.span),
                        name: self.ident(&field.name),
                        value: self.expr(&field.value),
                    })
                    .collect(),
            ),
            ExprKind::Cast {
                ty,
                head_span,
                operand,
            } => ExprKind::Cast {
                ty: self.type_spec(ty),
                head_span: self.span(*head_span),
                operand: self.boxed(operand),
            },
            ExprKind::Sizeof(of) => ExprKind::Sizeof(self.type_or_expr(of)),
            ExprKind::Offsetof { of, fields } => {
                let of = self.type_or_expr(of);
                let fields = fields
                    .iter()
                    .flat_map(|field| self.field_path(field))
                    .collect();
                ExprKind::Offsetof { of, fields }
            }
            ExprKind::Typeinfo(of) => ExprKind::Typeinfo(self.type_or_expr(of)),
            ExprKind::Comptime(inner) => ExprKind::Comptime(self.boxed(inner)),
            ExprKind::Call(call) => ExprKind::Call(Call {
                name: self.ident(&call.name),
                args: call
                    .args
                    .iter()
                    .map(|arg| match arg {
                        Arg::Expr(Expr {
                            kind: ExprKind::Ident(name),
                            ..
                        }) if matches!(self.idents.get(name), Some(Replacement::Type(_))) => {
                            match self.idents.get(name) {
                                Some(Replacement::Type(given)) => Arg::Type(given.clone()),
                                _ => arg.clone(),
                            }
                        }
                        Arg::Expr(expr) => Arg::Expr(self.expr(expr)),
                        Arg::Type(spec) => Arg::Type(self.type_spec(spec)),
                    })
                    .collect(),
            }),
            ExprKind::Field { base, field, arrow } => {
                // A field name can be an argument as well.
                let base = self.expr(base);
                let path = self.field_path(field);
                return path.into_iter().fold(base, |base, field| Expr {
                    span,
                    kind: ExprKind::Field {
                        base: Box::new(base),
                        field,
                        arrow: *arrow,
                    },
                });
            }
            ExprKind::TupleIndex {
                base,
                index_span,
                index,
            } => ExprKind::TupleIndex {
                base: self.boxed(base),
                index_span: self.span(*index_span),
                index: *index,
            },
            ExprKind::Index { base, index } => ExprKind::Index {
                base: self.boxed(base),
                index: self.boxed(index),
            },
            ExprKind::Integer(_)
            | ExprKind::String(_)
            | ExprKind::Bool(_)
            | ExprKind::PositionalParam(_)
            | ExprKind::PositionalCount
            | ExprKind::Error => expr.kind.clone(),
        };
        Expr { span, kind }
    }

    /// The names that a field name stands for: an argument `a.b.c` is a path.
    fn field_path(&self, field: &Ident) -> Vec<Ident> {
        if let Some(Replacement::Expr(given)) = self.idents.get(&field.name) {
            let mut path = Vec::new();
            let mut at = given;
            loop {
                match &at.kind {
                    ExprKind::Field { base, field, .. } => {
                        path.push(field.clone());
                        at = base;
                    }
                    ExprKind::Ident(name) => {
                        path.push(Ident {
                            span: at.span,
                            name: name.clone(),
                        });
                        path.reverse();
                        return path;
                    }
                    _ => break,
                }
            }
        }
        vec![self.ident(field)]
    }

    fn type_or_expr(&mut self, of: &TypeOrExpr) -> TypeOrExpr {
        match of {
            TypeOrExpr::Type(spec) => TypeOrExpr::Type(self.type_spec(spec)),
            TypeOrExpr::Name(ident) => match self.idents.get(&ident.name) {
                Some(Replacement::Type(given)) => TypeOrExpr::Type(given.clone()),
                Some(Replacement::Expr(given)) => TypeOrExpr::Expr(Box::new(given.clone())),
                _ => TypeOrExpr::Name(self.ident(ident)),
            },
            TypeOrExpr::Expr(expr) => TypeOrExpr::Expr(self.boxed(expr)),
        }
    }

    /// What stands behind `struct` and the like, which may be the name of a parameter that a type is given
    /// for.
    fn tag(&self, tag: &str) -> String {
        match self.idents.get(tag) {
            Some(Replacement::Type(TypeSpec {
                kind: TypeSpecKind::Typeof(of),
                ..
            })) => match &**of {
                TypeOrExpr::Name(name) => name.name.clone(),
                _ => tag.to_owned(),
            },
            Some(Replacement::Expr(Expr {
                kind: ExprKind::Ident(name),
                ..
            })) => name.clone(),
            _ => tag.to_owned(),
        }
    }

    fn type_spec(&mut self, spec: &TypeSpec) -> TypeSpec {
        let kind = match &spec.kind {
            TypeSpecKind::Named(name) => match self.idents.get(name) {
                Some(Replacement::Type(given)) => return given.clone(),
                Some(Replacement::Expr(Expr {
                    kind: ExprKind::Ident(name),
                    ..
                })) => TypeSpecKind::Named(name.clone()),
                _ => spec.kind.clone(),
            },
            TypeSpecKind::Pointer(to) => TypeSpecKind::Pointer(Box::new(self.type_spec(to))),
            TypeSpecKind::Array { element, len } => TypeSpecKind::Array {
                element: Box::new(self.type_spec(element)),
                len: len.clone(),
            },
            TypeSpecKind::Typeof(of) => TypeSpecKind::Typeof(Box::new(self.type_or_expr(of))),
            TypeSpecKind::Struct(tag) => TypeSpecKind::Struct(self.tag(tag)),
            TypeSpecKind::Union(tag) => TypeSpecKind::Union(self.tag(tag)),
            TypeSpecKind::Enum(tag) => TypeSpecKind::Enum(self.tag(tag)),
        };
        TypeSpec {
            span: self.span(spec.span),
            kind,
        }
    }
}
