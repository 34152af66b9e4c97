//! Expressions and types as text, with the parentheses they need and no others.

use super::{Body, Printer, is_block_like};
use crate::node::{
    Arg, BinaryOp, Expr, ExprKind, Fixity, IncDecOp, MapAccess, Place, StringLit, TypeOrExpr,
    TypeSpec, TypeSpecKind, UnaryOp,
};
use crate::parser::is_builtin;
use crate::source::Span;

/// Arguments of a call go to further lines where the line would get longer than this many columns.
const WIDTH: usize = 80;

/// How strongly an expression holds together: an operand needs parentheses where it binds weaker than its place
/// asks for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Binds {
    /// `?:`.
    Ternary,
    /// Binary operators of this precedence.
    Binary(u8),
    /// Prefix operators, casts, `comptime`.
    Unary,
    /// Field accesses, indices, postfix `++`.
    Postfix,
    /// Everything else, but `if` and blocks, which get parentheses everywhere inside an expression.
    Primary,
}

fn binds(expr: &Expr) -> Binds {
    match &expr.kind {
        ExprKind::Ternary { .. } | ExprKind::If(_) | ExprKind::Block(_) => Binds::Ternary,
        ExprKind::Binary { op, .. } => Binds::Binary(op.precedence()),
        ExprKind::Unary { .. }
        | ExprKind::Cast { .. }
        | ExprKind::Comptime(_)
        | ExprKind::AddressOfMap(_)
        | ExprKind::AddressOfVariable(_)
        | ExprKind::IncDec {
            fixity: Fixity::Prefix,
            ..
        } => Binds::Unary,
        ExprKind::Field { .. }
        | ExprKind::TupleIndex { .. }
        | ExprKind::Index { .. }
        | ExprKind::IncDec {
            fixity: Fixity::Postfix,
            ..
        } => Binds::Postfix,
        _ => Binds::Primary,
    }
}

/// The part of an expression that its text starts with, where that is not a parenthesis.
pub(super) fn leftmost(expr: &Expr) -> &Expr {
    let inner = match &expr.kind {
        ExprKind::Binary { op, left, .. }
            if binds(left) >= Binds::Binary(op.precedence()) && !is_unclear(*op, left) =>
        {
            left
        }
        ExprKind::Ternary { cond, .. } if binds(cond) > Binds::Ternary => cond,
        ExprKind::Field { base, .. }
        | ExprKind::TupleIndex { base, .. }
        | ExprKind::Index { base, .. }
            if binds(base) >= Binds::Postfix =>
        {
            base
        }
        _ => return expr,
    };
    leftmost(inner)
}

/// Words that start a statement of their own kind.
const STATEMENT_WORDS: &[&str] = &[
    "import", "while", "unroll", "for", "break", "continue", "return", "let",
];

/// The name that an expression starts with.
fn first_word(expr: &Expr) -> Option<&str> {
    match &leftmost(expr).kind {
        ExprKind::Ident(name) => Some(name),
        ExprKind::Call(call) => Some(&call.name.name),
        _ => None,
    }
}

/// Whether the text of an expression would be read as a type or name in `sizeof` and its kin.
fn looks_like_type(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Ident(name) => !is_builtin(name),
        ExprKind::Index { base, index } => {
            matches!(index.kind, ExprKind::Integer(_)) && looks_like_type(base)
        }
        _ => false,
    }
}

/// Whether few people know by heart that an operand needs no parentheses: other operators beside `&`, `|`, `^` and
/// shifts, and `&&` beside `||`.
fn is_unclear(outer: BinaryOp, operand: &Expr) -> bool {
    let ExprKind::Binary { op, .. } = operand.kind else {
        return false;
    };
    match outer {
        BinaryOp::BitAnd | BinaryOp::BitOr | BinaryOp::BitXor | BinaryOp::Shl | BinaryOp::Shr => {
            op != outer
        }
        BinaryOp::LogicalOr => op == BinaryOp::LogicalAnd,
        _ => false,
    }
}

impl Printer<'_> {
    fn wrapped(&mut self, print: impl FnOnce(&mut Self)) {
        self.out.push('(');
        print(self);
        self.out.push(')');
    }

    fn expr_if(&mut self, wrap: bool, expr: &Expr) {
        if wrap {
            self.wrapped(|printer| printer.expr(expr))
        } else {
            self.expr(expr)
        }
    }

    /// An operand in a place that asks for at least this.
    fn operand(&mut self, expr: &Expr, at_least: Binds) {
        self.expr_if(binds(expr) < at_least, expr);
    }

    /// An expression as a statement or at the end of a block.
    pub(super) fn expr_stmt(&mut self, expr: &Expr) {
        self.expr_if(
            first_word(expr).is_some_and(|word| STATEMENT_WORDS.contains(&word)),
            expr,
        );
    }

    /// The condition of `if`, `while`, `unroll`: without parentheses where the grammar allows.
    pub(super) fn condition(&mut self, cond: &Expr) {
        if binds(cond) < Binds::Unary {
            return self.wrapped(|printer| printer.expr(cond));
        }
        let start = self.out.len();
        self.expr(cond);
        // The parenthesis would be taken for that of the condition.
        if self.out[start..].starts_with('(') {
            self.out.insert(start, '(');
            self.out.push(')');
        }
    }

    /// A bound of a range, which must be a primary expression.
    pub(super) fn range_bound(&mut self, bound: &Expr) {
        self.operand(bound, Binds::Primary);
    }

    pub(super) fn expr(&mut self, expr: &Expr) {
        match &expr.kind {
            ExprKind::Integer(literal) => self.out.push_str(&literal.text),
            ExprKind::String(literal) => self.string_lit(Some(expr.span), literal),
            ExprKind::Bool(value) => self.out.push_str(if *value { "true" } else { "false" }),
            ExprKind::Ident(name) => self.out.push_str(name),
            ExprKind::Variable(name) => self.out.push_str(&format!("${name}")),
            ExprKind::Map(name) => self.out.push_str(&format!("@{name}")),
            ExprKind::MapAccess(access) => self.map_access(access),
            ExprKind::PositionalParam(number) => self.out.push_str(&format!("${number}")),
            ExprKind::PositionalCount => self.out.push_str("$#"),
            ExprKind::Unary { op, operand } => {
                self.out.push_str(op.as_str());
                let start = self.out.len();
                self.operand(operand, Binds::Unary);
                // Two of them would be a decrement.
                if *op == UnaryOp::Neg && self.out[start..].starts_with('-') {
                    self.out.insert(start, '(');
                    self.out.push(')');
                }
            }
            ExprKind::IncDec {
                op,
                fixity: Fixity::Prefix,
                target,
            } => {
                self.out.push_str(op.as_str());
                self.place(target);
            }
            ExprKind::IncDec {
                op,
                fixity: Fixity::Postfix,
                target,
            } => {
                self.place(target);
                self.out.push_str(op.as_str());
            }
            ExprKind::AddressOfVariable(ident) => self.out.push_str(&format!("&${}", ident.name)),
            ExprKind::AddressOfMap(ident) => self.out.push_str(&format!("&@{}", ident.name)),
            ExprKind::Binary {
                op, left, right, ..
            } => self.binary(*op, left, right),
            ExprKind::Ternary {
                cond,
                then,
                otherwise,
            } => {
                self.operand(cond, Binds::Binary(0));
                match then {
                    Some(then) => {
                        self.out.push_str(" ? ");
                        self.expr_if(is_block_like(then), then);
                        self.out.push_str(" : ");
                    }
                    None => self.out.push_str(" ?: "),
                }
                self.expr_if(is_block_like(otherwise), otherwise);
            }
            ExprKind::If(arms) => self.if_else(arms, Body::Value),
            ExprKind::Block(block) => self.block(block, Body::Value),
            ExprKind::Tuple(elements) => self.wrapped(|printer| {
                printer.list(elements);
                if elements.len() == 1 {
                    printer.out.push(',');
                }
            }),
            ExprKind::Record(fields) => self.wrapped(|printer| {
                for (idx, field) in fields.iter().enumerate() {
                    let comma = if idx > 0 { ", " } else { "" };
                    printer
                        .out
                        .push_str(&format!("{comma}{} = ", field.name.name));
                    printer.expr(&field.value);
                }
            }),
            ExprKind::Cast { ty, operand, .. } => {
                self.wrapped(|printer| printer.type_spec(ty));
                let increments = matches!(
                    operand.kind,
                    ExprKind::IncDec {
                        op: IncDecOp::Inc,
                        fixity: Fixity::Prefix,
                        ..
                    }
                );
                self.expr_if(increments || binds(operand) < Binds::Unary, operand);
            }
            ExprKind::Sizeof(operand) => {
                self.out.push_str("sizeof");
                self.wrapped(|printer| printer.type_or_expr(operand));
            }
            ExprKind::Offsetof { of, fields } => {
                self.out.push_str("offsetof");
                self.wrapped(|printer| {
                    printer.type_or_expr(of);
                    let path: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
                    printer.out.push_str(&format!(", {}", path.join(".")));
                });
            }
            ExprKind::Typeinfo(operand) => {
                self.out.push_str("typeinfo");
                self.wrapped(|printer| printer.type_or_expr(operand));
            }
            ExprKind::Comptime(operand) => {
                self.out.push_str("comptime ");
                self.operand(operand, Binds::Unary);
            }
            ExprKind::Call(call) => {
                self.out.push_str(&call.name.name);
                self.wrapped(|printer| printer.args(&call.args));
            }
            ExprKind::Field { base, field, arrow } => {
                self.operand(base, Binds::Postfix);
                self.out.push_str(if *arrow { "->" } else { "." });
                self.out.push_str(&field.name);
            }
            ExprKind::TupleIndex { base, index, .. } => {
                self.operand(base, Binds::Postfix);
                self.out.push_str(&format!(".{index}"));
            }
            ExprKind::Index { base, index } => {
                // A map in front of `[` would have a key there.
                let is_map = matches!(base.kind, ExprKind::Map(_));
                self.expr_if(is_map || binds(base) < Binds::Postfix, base);
                self.out.push('[');
                self.expr(index);
                self.out.push(']');
            }
            ExprKind::Error => {
                let text = self.text(expr.span).to_owned();
                self.out.push_str(&text);
            }
        }
    }

    fn binary(&mut self, op: BinaryOp, left: &Expr, right: &Expr) {
        if op.is_logical() && !self.flat {
            return self.conditions(op, left, right);
        }
        let before = (self.comments, self.last_end);
        let was_flat = std::mem::replace(&mut self.flat, true);
        let open = self.out.len();
        self.binary_operand(op, left, true);
        self.operator(op);
        self.out.push(' ');
        self.binary_operand(op, right, false);
        self.flat = was_flat;
        if was_flat || !self.out[open..].contains('\n') {
            return;
        }
        self.out.truncate(open);
        (self.comments, self.last_end) = before;
        self.binary_operand(op, left, true);
        self.operator(op);
        self.out.push(' ');
        self.binary_operand(op, right, false);
    }

    /// Operands of `&&` or of `||` in a row: as many as fit go to the first line, and each further one gets a line,
    /// unless there are lines in them.
    fn conditions(&mut self, op: BinaryOp, left: &Expr, right: &Expr) {
        let mut operands = vec![right];
        let mut first = left;
        while let ExprKind::Binary {
            op: inner,
            left,
            right,
            ..
        } = &first.kind
            && *inner == op
        {
            operands.push(right);
            first = left;
        }
        let (align, open) = (self.column(), self.out.len());
        let before = (self.comments, self.last_end);
        self.flat = true;
        self.binary_operand(op, first, true);
        let mut has_lines = self.out[open..].contains('\n');
        let mut n_fitting = 0;
        while let Some(&operand) = operands.last() {
            let (start, before) = (self.out.len(), (self.comments, self.last_end));
            self.operator(op);
            self.out.push(' ');
            self.binary_operand(op, operand, false);
            has_lines |= self.out[start..].contains('\n');
            if has_lines || self.column() >= WIDTH {
                self.out.truncate(start);
                (self.comments, self.last_end) = before;
                break;
            }
            operands.pop();
            n_fitting += 1;
        }
        self.flat = false;
        if n_fitting == 0 {
            self.out.truncate(open);
            (self.comments, self.last_end) = before;
            self.binary_operand(op, first, true);
        }
        while let Some(operand) = operands.pop() {
            self.operator(op);
            let (start, before) = (self.out.len(), (self.comments, self.last_end));
            if !has_lines {
                self.flat = true;
                self.binary_operand(op, operand, false);
                self.flat = false;
                has_lines = self.out[start..].contains('\n');
                self.out.truncate(start);
                (self.comments, self.last_end) = before;
            }
            if has_lines {
                self.out.push(' ');
            } else {
                self.next_line(align);
            }
            self.binary_operand(op, operand, false);
        }
    }

    fn operator(&mut self, op: BinaryOp) {
        self.out.push(' ');
        self.out.push_str(op.as_str());
    }

    /// An operand, in parentheses where it needs them.
    fn binary_operand(&mut self, op: BinaryOp, operand: &Expr, is_left: bool) {
        let outer = Binds::Binary(op.precedence());
        let is_weak = binds(operand) < outer || !is_left && binds(operand) == outer;
        self.expr_if(is_weak || is_unclear(op, operand), operand);
    }

    fn next_line(&mut self, align: usize) {
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n(' ', align));
    }

    /// The arguments of a call: in one line if it is not too long, else in as many as it takes, aligned.
    fn args(&mut self, args: &[Arg]) {
        let before = (self.comments, self.last_end);
        let was_flat = std::mem::replace(&mut self.flat, true);
        let open = self.out.len();
        let mut ends = Vec::with_capacity(args.len());
        for (idx, arg) in args.iter().enumerate() {
            self.out.push_str(if idx > 0 { ", " } else { "" });
            self.arg(arg);
            ends.push(self.out.len());
        }
        self.flat = was_flat;
        let has_lines = self.out[open..].contains('\n');
        if was_flat || args.is_empty() || !has_lines && self.column() < WIDTH {
            return;
        }
        self.out.truncate(open);
        (self.comments, self.last_end) = before;
        let align = self.column();
        let mut start = open;
        for (idx, arg) in args.iter().enumerate() {
            let separator = if idx > 0 { 2 } else { 0 };
            let width = ends[idx] - start - separator;
            start = ends[idx];
            if idx > 0 {
                self.out.push(',');
                if has_lines || self.column() + width + 1 < WIDTH {
                    self.out.push(' ');
                } else {
                    self.next_line(align);
                }
            }
            self.arg(arg);
        }
    }

    fn arg(&mut self, arg: &Arg) {
        match arg {
            Arg::Expr(expr) => self.expr_if(first_word(expr) == Some("typeof"), expr),
            Arg::Type(ty) => self.type_spec(ty),
        }
    }

    /// The length of the line under construction, in characters.
    fn column(&self) -> usize {
        self.out
            .rsplit('\n')
            .next()
            .map_or(0, |line| line.chars().count())
    }

    fn list(&mut self, exprs: &[Expr]) {
        for (idx, expr) in exprs.iter().enumerate() {
            self.out.push_str(if idx > 0 { ", " } else { "" });
            self.expr(expr);
        }
    }

    pub(super) fn place(&mut self, place: &Place) {
        match place {
            Place::Variable(ident) => self.out.push_str(&format!("${}", ident.name)),
            Place::Map(ident) => self.out.push_str(&format!("@{}", ident.name)),
            Place::MapAccess(access) => self.map_access(access),
        }
    }

    fn map_access(&mut self, access: &MapAccess) {
        self.out.push_str(&format!("@{}[", access.map.name));
        self.list(&access.keys);
        self.out.push(']');
    }

    /// A string as it stands in the source, or if that is not known, with the escapes it needs.
    pub(super) fn string_lit(&mut self, span: Option<Span>, literal: &StringLit) {
        let written = span
            .map(|span| self.text(span))
            .filter(|text| text.len() > 1 && text.starts_with('"'));
        let text = match written {
            Some(text) => text.to_owned(),
            None => {
                let quoted =
                    literal
                        .value
                        .utf8_chunks()
                        .fold(String::new(), |mut quoted, chunk| {
                            for character in chunk.valid().chars() {
                                match character {
                                    '\n' => quoted.push_str("\\n"),
                                    '\t' => quoted.push_str("\\t"),
                                    '\r' => quoted.push_str("\\r"),
                                    '"' => quoted.push_str("\\\""),
                                    '\\' => quoted.push_str("\\\\"),
                                    control if control.is_ascii_control() => {
                                        quoted.push_str(&format!("\\x{:02x}", control as u32));
                                    }
                                    other => quoted.push(other),
                                }
                            }
                            for byte in chunk.invalid() {
                                quoted.push_str(&format!("\\x{byte:02x}"));
                            }
                            quoted
                        });
                format!("\"{quoted}\"")
            }
        };
        self.out.push_str(&text);
    }

    pub(super) fn type_spec(&mut self, ty: &TypeSpec) {
        match &ty.kind {
            TypeSpecKind::Named(name) => self.out.push_str(name),
            TypeSpecKind::Struct(name) => self.out.push_str(&format!("struct {name}")),
            TypeSpecKind::Union(name) => self.out.push_str(&format!("union {name}")),
            TypeSpecKind::Enum(name) => self.out.push_str(&format!("enum {name}")),
            TypeSpecKind::Pointer(pointee) => {
                self.type_spec(pointee);
                if !self.out.ends_with('*') {
                    self.out.push(' ');
                }
                self.out.push('*');
            }
            TypeSpecKind::Array { element, len } => {
                self.type_spec(element);
                let len = len.as_ref().map_or("", |len| &len.text);
                self.out.push_str(&format!("[{len}]"));
            }
            TypeSpecKind::Typeof(operand) => {
                self.out.push_str("typeof");
                self.wrapped(|printer| printer.type_or_expr(operand));
            }
        }
    }

    fn type_or_expr(&mut self, operand: &TypeOrExpr) {
        match operand {
            TypeOrExpr::Type(ty) => self.type_spec(ty),
            TypeOrExpr::Name(ident) => self.out.push_str(&ident.name),
            TypeOrExpr::Expr(expr) => {
                self.expr_if(
                    looks_like_type(expr) || first_word(expr) == Some("typeof"),
                    expr,
                );
            }
        }
    }
}
