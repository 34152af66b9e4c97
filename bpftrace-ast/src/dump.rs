//! The tree as text, one node a line, children indented under it. For tests and for `-d ast`.

use std::fmt::Write;

use crate::attach::{AttachPoint, ProviderName, Text};
use crate::node::{
    Arg, Block, CStatementKind, ConfigValue, Else, Expr, ExprKind, Fixity, ForOver, Ident, If,
    IntegerLit, Item, MacroParamKind, MapAccess, Place, Probe, Script, Stmt, StmtKind, StringLit,
    TypeOrExpr, TypeSpec, TypeSpecKind,
};
use crate::source::Span;

/// Whether nodes are shown with their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spans {
    /// Two scripts that differ only in layout and comments have the same dump.
    Hidden,
    /// Every node is followed by its byte offsets.
    Shown,
}

/// The whole script.
pub fn dump(script: &Script, spans: Spans) -> String {
    let mut dump = Dump {
        out: String::new(),
        depth: 0,
        spans,
    };
    dump.script(script);
    dump.out
}

/// One expression.
pub fn dump_expr(expr: &Expr, spans: Spans) -> String {
    let mut dump = Dump {
        out: String::new(),
        depth: 0,
        spans,
    };
    dump.expr(expr);
    dump.out
}

struct Dump {
    out: String,
    depth: usize,
    spans: Spans,
}

impl Dump {
    /// A node without children.
    fn leaf(&mut self, span: Span, head: impl std::fmt::Display) {
        let _ = write!(self.out, "{:indent$}{head}", "", indent = self.depth * 2);
        if self.spans == Spans::Shown {
            let _ = write!(self.out, " [{}..{}]", span.start, span.end);
        }
        self.out.push('\n');
    }

    /// A node with children.
    fn node(&mut self, span: Span, head: impl std::fmt::Display, children: impl FnOnce(&mut Self)) {
        self.leaf(span, head);
        self.depth += 1;
        children(self);
        self.depth -= 1;
    }

    fn script(&mut self, script: &Script) {
        self.node(script.span, "script", |dump| {
            if let Some(shebang) = &script.shebang {
                dump.leaf(shebang.span, format_args!("shebang {:?}", shebang.text));
            }
            for statement in &script.c_statements {
                let kind = match statement.kind {
                    CStatementKind::Preprocessor => "preprocessor",
                    CStatementKind::Definition => "definition",
                };
                dump.leaf(
                    statement.span,
                    format_args!("c {kind} {:?}", statement.text),
                );
            }
            if let Some(config) = &script.config {
                dump.node(config.span, "config", |dump| {
                    for entry in &config.entries {
                        let value = match &entry.value {
                            ConfigValue::String(value) => quoted(value),
                            ConfigValue::Bool(value) => value.to_string(),
                            ConfigValue::Integer(value) => integer(value),
                            ConfigValue::Word(word) => format!("word {word}"),
                        };
                        dump.leaf(entry.span, format_args!("{} = {value}", entry.key.name));
                    }
                });
            }
            for import in &script.imports {
                dump.leaf(import.span, format_args!("import {}", quoted(&import.path)));
            }
            for item in &script.items {
                dump.item(item);
            }
        });
    }

    fn item(&mut self, item: &Item) {
        match item {
            Item::Probe(probe) => self.probe(probe),
            Item::Macro(definition) => {
                self.node(
                    definition.span,
                    format_args!("macro {}", definition.name.name),
                    |dump| {
                        for param in &definition.params {
                            let sigil = match param.kind {
                                MacroParamKind::Variable => "$",
                                MacroParamKind::Map => "@",
                                MacroParamKind::Expr => "",
                            };
                            dump.leaf(
                                param.name.span,
                                format_args!("param {sigil}{}", param.name.name),
                            );
                        }
                        dump.block(&definition.body);
                    },
                );
            }
            Item::Subprog(subprog) => self.node(
                subprog.span,
                format_args!("fn {}", subprog.name.name),
                |dump| {
                    for param in &subprog.params {
                        dump.node(
                            param.span,
                            format_args!("param ${}", param.var.name),
                            |dump| dump.ty(&param.ty),
                        );
                    }
                    dump.node(subprog.return_type.span, "returns", |dump| {
                        dump.ty(&subprog.return_type)
                    });
                    dump.block(&subprog.body);
                },
            ),
            Item::MapDecl(decl) => {
                let (map, kind, max) =
                    (&decl.map.name, &decl.kind.name, integer(&decl.max_entries));
                self.leaf(decl.span, format_args!("map @{map} = {kind}({max})"));
            }
        }
    }

    fn probe(&mut self, probe: &Probe) {
        self.node(probe.span, "probe", |dump| {
            for attach_point in &probe.attach_points {
                dump.attach_point(attach_point);
            }
            if let Some(predicate) = &probe.predicate {
                dump.node(predicate.span, "predicate", |dump| {
                    dump.expr(&predicate.expr)
                });
            }
            dump.block(&probe.body);
        });
    }

    fn attach_point(&mut self, attach_point: &AttachPoint) {
        let mut head = "attach ".to_owned();
        let written = &attach_point.written;
        if let Some(name) = &written.name {
            let _ = write!(head, "{name}=");
        }
        match written.provider_name() {
            ProviderName::Known(kind) => head.push_str(kind.as_str()),
            ProviderName::Unknown => {
                let _ = write!(head, "unknown {:?}", written.provider.to_display());
            }
            ProviderName::Wildcard | ProviderName::Hole => {
                let _ = write!(head, "any {:?}", written.provider.to_display());
            }
        }
        self.node(attach_point.span, head, |dump| {
            for part in &written.parts {
                dump.leaf(attach_point.span, format_args!("part {}", part_text(part)));
            }
        });
    }

    fn block(&mut self, block: &Block) {
        self.node(block.span, "block", |dump| {
            for stmt in &block.stmts {
                dump.stmt(stmt);
            }
            if let Some(value) = &block.value {
                dump.node(value.span, "value", |dump| dump.expr(value));
            }
        });
    }

    fn stmt(&mut self, stmt: &Stmt) {
        let span = stmt.span;
        match &stmt.kind {
            StmtKind::Expr(expr) => self.node(span, "expr", |dump| dump.expr(expr)),
            StmtKind::Import(import) => {
                self.leaf(span, format_args!("import {}", quoted(&import.path)))
            }
            StmtKind::Let { var, ty, value } => {
                self.node(span, format_args!("let ${}", var.name), |dump| {
                    if let Some(ty) = ty {
                        dump.ty(ty);
                    }
                    if let Some(value) = value {
                        dump.expr(value);
                    }
                })
            }
            StmtKind::Assign { target, value } => self.node(span, "assign", |dump| {
                dump.place(target);
                dump.expr(value);
            }),
            StmtKind::CompoundAssign {
                target, op, value, ..
            } => {
                self.node(span, format_args!("assign {}=", op.as_str()), |dump| {
                    dump.place(target);
                    dump.expr(value);
                });
            }
            StmtKind::Discard(value) => self.node(span, "discard", |dump| dump.expr(value)),
            StmtKind::While { cond, body } => self.node(span, "while", |dump| {
                dump.expr(cond);
                dump.block(body);
            }),
            StmtKind::Unroll { count, body } => self.node(span, "unroll", |dump| {
                dump.expr(count);
                dump.block(body);
            }),
            StmtKind::For { var, over, body } => {
                self.node(span, format_args!("for ${}", var.name), |dump| {
                    match over {
                        ForOver::Map(map) => dump.ident("map @", map),
                        ForOver::Range { start, end } => {
                            dump.node(start.span.to(end.span), "range", |dump| {
                                dump.expr(start);
                                dump.expr(end);
                            })
                        }
                    }
                    dump.block(body);
                })
            }
            StmtKind::Break => self.leaf(span, "break"),
            StmtKind::Continue => self.leaf(span, "continue"),
            StmtKind::Return(value) => self.node(span, "return", |dump| {
                if let Some(value) = value {
                    dump.expr(value);
                }
            }),
        }
    }

    fn ident(&mut self, what: &str, ident: &Ident) {
        self.leaf(ident.span, format_args!("{what}{}", ident.name));
    }

    fn place(&mut self, place: &Place) {
        match place {
            Place::Variable(ident) => self.ident("variable $", ident),
            Place::Map(ident) => self.ident("map @", ident),
            Place::MapAccess(access) => self.map_access(access),
        }
    }

    fn map_access(&mut self, access: &MapAccess) {
        self.node(
            access.span,
            format_args!("map access @{}", access.map.name),
            |dump| {
                for key in &access.keys {
                    dump.expr(key);
                }
            },
        );
    }

    fn expr(&mut self, expr: &Expr) {
        let span = expr.span;
        match &expr.kind {
            ExprKind::Integer(literal) => self.leaf(span, integer(literal)),
            ExprKind::String(literal) => self.leaf(span, quoted(literal)),
            ExprKind::Bool(value) => self.leaf(span, value),
            ExprKind::Ident(name) => self.leaf(span, format_args!("ident {name}")),
            ExprKind::Variable(name) => self.leaf(span, format_args!("variable ${name}")),
            ExprKind::Map(name) => self.leaf(span, format_args!("map @{name}")),
            ExprKind::MapAccess(access) => self.map_access(access),
            ExprKind::PositionalParam(number) => self.leaf(span, format_args!("param ${number}")),
            ExprKind::PositionalCount => self.leaf(span, "param count"),
            ExprKind::Unary { op, operand } => {
                self.node(span, format_args!("unary {}", op.as_str()), |dump| {
                    dump.expr(operand)
                });
            }
            ExprKind::IncDec { op, fixity, target } => {
                let side = match fixity {
                    Fixity::Prefix => "prefix",
                    Fixity::Postfix => "postfix",
                };
                self.node(span, format_args!("{side} {}", op.as_str()), |dump| {
                    dump.place(target)
                });
            }
            ExprKind::AddressOfVariable(ident) => {
                self.leaf(span, format_args!("address of ${}", ident.name))
            }
            ExprKind::AddressOfMap(ident) => {
                self.leaf(span, format_args!("address of @{}", ident.name))
            }
            ExprKind::Binary {
                op, left, right, ..
            } => {
                self.node(span, format_args!("binary {}", op.as_str()), |dump| {
                    dump.expr(left);
                    dump.expr(right);
                });
            }
            ExprKind::Ternary {
                cond,
                then,
                otherwise,
            } => {
                self.node(
                    span,
                    if then.is_some() {
                        "ternary"
                    } else {
                        "ternary ?:"
                    },
                    |dump| {
                        dump.expr(cond);
                        if let Some(then) = then {
                            dump.expr(then);
                        }
                        dump.expr(otherwise);
                    },
                );
            }
            ExprKind::If(arms) => self.if_else(arms),
            ExprKind::Block(block) => self.block(block),
            ExprKind::Tuple(elements) => self.node(span, "tuple", |dump| {
                for element in elements {
                    dump.expr(element);
                }
            }),
            ExprKind::Record(fields) => self.node(span, "record", |dump| {
                for field in fields {
                    dump.node(
                        field.span,
                        format_args!("field {}", field.name.name),
                        |dump| dump.expr(&field.value),
                    );
                }
            }),
            ExprKind::Cast { ty, operand, .. } => self.node(span, "cast", |dump| {
                dump.ty(ty);
                dump.expr(operand);
            }),
            ExprKind::Sizeof(operand) => {
                self.node(span, "sizeof", |dump| dump.type_or_expr(operand))
            }
            ExprKind::Offsetof { of, fields } => {
                let path: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
                self.node(span, format_args!("offsetof .{}", path.join(".")), |dump| {
                    dump.type_or_expr(of)
                });
            }
            ExprKind::Typeinfo(operand) => {
                self.node(span, "typeinfo", |dump| dump.type_or_expr(operand))
            }
            ExprKind::Comptime(operand) => self.node(span, "comptime", |dump| dump.expr(operand)),
            ExprKind::Call(call) => {
                self.node(span, format_args!("call {}", call.name.name), |dump| {
                    for arg in &call.args {
                        match arg {
                            Arg::Expr(expr) => dump.expr(expr),
                            Arg::Type(ty) => dump.ty(ty),
                        }
                    }
                })
            }
            ExprKind::Field { base, field, arrow } => {
                let dot = if *arrow { "->" } else { "." };
                self.node(span, format_args!("field {dot}{}", field.name), |dump| {
                    dump.expr(base)
                });
            }
            ExprKind::TupleIndex { base, index, .. } => {
                self.node(span, format_args!("element .{index}"), |dump| {
                    dump.expr(base)
                });
            }
            ExprKind::Index { base, index } => self.node(span, "index", |dump| {
                dump.expr(base);
                dump.expr(index);
            }),
            ExprKind::Error => self.leaf(span, "error"),
        }
    }

    fn if_else(&mut self, arms: &If) {
        self.node(arms.span, "if", |dump| {
            dump.expr(&arms.cond);
            dump.block(&arms.then);
            match &arms.otherwise {
                Some(Else::Block(block)) => dump.block(block),
                Some(Else::If(arms)) => dump.if_else(arms),
                None => {}
            }
        });
    }

    fn ty(&mut self, ty: &TypeSpec) {
        match &ty.kind {
            TypeSpecKind::Typeof(operand) => {
                self.node(ty.span, "typeof", |dump| dump.type_or_expr(operand))
            }
            TypeSpecKind::Pointer(pointee) => {
                self.node(ty.span, "pointer to", |dump| dump.ty(pointee))
            }
            TypeSpecKind::Array { element, len } => {
                let len = len
                    .as_ref()
                    .map_or(String::new(), |len| format!(" {}", len.text));
                self.node(ty.span, format_args!("array{len} of"), |dump| {
                    dump.ty(element)
                });
            }
            TypeSpecKind::Named(name) => self.leaf(ty.span, format_args!("type {name}")),
            TypeSpecKind::Struct(name) => self.leaf(ty.span, format_args!("type struct {name}")),
            TypeSpecKind::Union(name) => self.leaf(ty.span, format_args!("type union {name}")),
            TypeSpecKind::Enum(name) => self.leaf(ty.span, format_args!("type enum {name}")),
        }
    }

    fn type_or_expr(&mut self, operand: &TypeOrExpr) {
        match operand {
            TypeOrExpr::Type(ty) => self.ty(ty),
            TypeOrExpr::Name(ident) => self.ident("name ", ident),
            TypeOrExpr::Expr(expr) => self.expr(expr),
        }
    }
}

fn integer(literal: &IntegerLit) -> String {
    if literal.value.to_string() == literal.text {
        format!("integer {}", literal.value)
    } else {
        format!("integer {} as {}", literal.value, literal.text)
    }
}

fn quoted(literal: &StringLit) -> String {
    format!("string \"{}\"", literal.value.escape_ascii())
}

fn part_text(part: &Text) -> String {
    let holes = if part.has_hole() { " with holes" } else { "" };
    format!("{:?}{holes}", part.to_display())
}
