//! The canonical text of a script, for `--fmt`.
//!
//! Printing and parsing again gives the same tree, and printing that gives the same text. Comments are kept: one
//! between statements stays there, one at the end of a line stays at its end, and one inside a statement moves to
//! the line before it. Of several blank lines one is kept. Attach points, C text and literals stay as written.

mod expr;

use crate::node::Else;
use crate::node::{
    Block, CStatementKind, ConfigValue, Expr, ExprKind, ForOver, Item, Macro, MacroParamKind, Probe,
};
use crate::node::{If, Script, Stmt, StmtKind, Subprog};
use crate::order::sort_by_number;
use crate::source::{SourceMap, Span};

const INDENT: &str = "  ";

/// The text of a script that was parsed without errors from a text in `map`.
pub fn print(script: &Script, map: &SourceMap) -> String {
    let mut printer = Printer {
        source: map.file(script.source).text(),
        comments: &script.comments,
        out: String::new(),
        indent: 0,
        last_end: 0,
        want_blank: false,
        flat: false,
    };
    printer.script(script);
    printer.out
}

struct Printer<'a> {
    source: &'a str,
    /// Comments not yet printed, in order.
    comments: &'a [Span],
    out: String,
    indent: usize,
    /// Where in the source the last thing printed ends.
    last_end: u32,
    /// Whether an empty line must come before the next thing.
    want_blank: bool,
    /// Whether calls stay in one line however long it gets.
    flat: bool,
}

/// What becomes of the trailing expression of a block when it is read again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    /// It becomes a statement: bodies of probes, functions and loops.
    NoValue,
    /// It is the value of the block.
    Value,
    /// It becomes a statement, because the `if` or block is the end of a body without value.
    Dropped,
}

impl Printer<'_> {
    // Lines, blank lines and comments.

    /// Starts a line for something that starts at `start` in the source, after an empty line if there is one there.
    fn line(&mut self, start: u32) {
        let at_start_of_block = self.out.is_empty() || self.out.ends_with("{\n");
        if !at_start_of_block && (self.want_blank || self.has_blank_before(start)) {
            self.out.push('\n');
        }
        self.want_blank = false;
        for _ in 0..self.indent {
            self.out.push_str(INDENT);
        }
    }

    fn has_blank_before(&self, start: u32) -> bool {
        let between = self
            .source
            .get(self.last_end as usize..start as usize)
            .unwrap_or("");
        between.bytes().filter(|&byte| byte == b'\n').count() > 1
    }

    /// Ends the line of something that ends at `end` in the source. A comment that follows in the same line of the
    /// source, and before `limit`, follows here too.
    fn end_line(&mut self, end: u32, limit: u32) {
        self.last_end = self.last_end.max(end);
        while let Some(&comment) = self.comments.first() {
            let between = self.source.get(end as usize..comment.start as usize);
            let same_line = between.is_some_and(|between| !between.contains('\n'));
            if !same_line || comment.start >= limit {
                break;
            }
            self.out.push(' ');
            self.comment(comment);
            // Nothing can follow a line comment, and a comment of several lines has left the line.
            if !self.text(comment).starts_with("/*") || self.text(comment).contains('\n') {
                break;
            }
        }
        self.out.push('\n');
    }

    fn comment(&mut self, comment: Span) {
        let text = self.text(comment).trim_end().to_owned();
        self.out.push_str(&text);
        self.comments = &self.comments[1..];
        self.last_end = self.last_end.max(comment.end);
    }

    /// Prints what comments come before `limit` on lines of their own, ahead of something that starts at `start`.
    fn comments_before(&mut self, limit: u32, start: u32) {
        while let Some(&comment) = self
            .comments
            .first()
            .filter(|comment| comment.start < limit)
        {
            self.line(comment.start.min(start));
            self.comment(comment);
            self.out.push('\n');
        }
    }

    fn text(&self, span: Span) -> &str {
        self.source
            .get(span.start as usize..span.end as usize)
            .unwrap_or("")
    }

    // The top level.

    fn script(&mut self, script: &Script) {
        let end = script.span.end;
        if let Some(shebang) = &script.shebang {
            self.out.push_str(&shebang.text);
            self.out.push('\n');
            self.last_end = shebang.span.end;
        }
        for (idx, statement) in script.c_statements.iter().enumerate() {
            self.comments_before(statement.span.start, statement.span.start);
            self.line(statement.span.start);
            self.out.push_str(&statement.text);
            match statement.kind {
                // What follows in the line would become part of it.
                CStatementKind::Preprocessor => {
                    self.last_end = statement.span.end;
                    self.out.push('\n');
                }
                CStatementKind::Definition => {
                    let limit = script
                        .c_statements
                        .get(idx + 1)
                        .map_or(end, |next| next.span.start);
                    self.end_line(statement.span.end, limit);
                }
            }
        }
        self.want_blank = !script.c_statements.is_empty();
        let mut heads: Vec<(u32, Head<'_>)> = script
            .imports
            .iter()
            .map(|import| (import.span.start, Head::Import(import)))
            .collect();
        heads.extend(
            script
                .config
                .iter()
                .map(|config| (config.span.start, Head::Config(config))),
        );
        sort_by_number(&mut heads, |&(start, _)| start.into());
        let mut starts: Vec<u32> = heads.iter().map(|&(start, _)| start).collect();
        starts.extend(script.items.iter().map(|item| item.span().start));
        starts.push(end);
        let mut next_starts = starts.into_iter().skip(1);
        for (start, head) in heads {
            let limit = next_starts.next().unwrap_or(end);
            match head {
                Head::Import(import) => {
                    self.comments_before(import.span.end, start);
                    self.line(start);
                    self.out.push_str("import ");
                    self.string_lit(None, &import.path);
                    self.out.push(';');
                    self.end_line(import.span.end, limit);
                }
                Head::Config(config) => self.config(config, limit),
            }
        }
        let mut after_body = script.config.is_some() || !script.imports.is_empty();
        let mut is_first = script.c_statements.is_empty() && !after_body;
        for item in &script.items {
            let limit = next_starts.next().unwrap_or(end);
            let has_body = !matches!(item, Item::MapDecl(_));
            self.want_blank |= !is_first && (has_body || after_body);
            is_first = false;
            after_body = has_body;
            self.item(item, limit);
        }
        self.comments_before(end + 1, end);
    }

    fn config(&mut self, config: &crate::node::Config, limit: u32) {
        let first = config
            .entries
            .first()
            .map_or(config.span.end, |entry| entry.span.start);
        // Comments before the first setting stay inside the braces if they can.
        let brace = self
            .source
            .get(config.span.start as usize..first as usize)
            .and_then(|head| head.find('{'));
        let body_start = brace.map_or(first, |at| config.span.start + at as u32);
        self.comments_before(body_start, config.span.start);
        self.line(config.span.start);
        self.out.push_str("config = {\n");
        self.last_end = body_start;
        self.indent += 1;
        for (idx, entry) in config.entries.iter().enumerate() {
            let next = config
                .entries
                .get(idx + 1)
                .map_or(config.span.end - 1, |next| next.span.start);
            self.comments_before(entry.span.end, entry.span.start);
            self.line(entry.span.start);
            self.out.push_str(&entry.key.name);
            self.out.push_str(" = ");
            match &entry.value {
                ConfigValue::String(literal) => self.string_lit(Some(entry.value_span), literal),
                ConfigValue::Bool(value) => {
                    self.out.push_str(if *value { "true" } else { "false" })
                }
                ConfigValue::Integer(literal) => self.out.push_str(&literal.text),
                ConfigValue::Word(word) => self.out.push_str(word),
            }
            self.out.push(';');
            self.end_line(entry.span.end, next);
        }
        self.comments_before(config.span.end, config.span.end);
        self.indent -= 1;
        self.out.push('}');
        self.end_line(config.span.end, limit);
    }

    fn item(&mut self, item: &Item, limit: u32) {
        match item {
            Item::Probe(probe) => self.probe(probe),
            Item::Macro(definition) => self.macro_definition(definition),
            Item::Subprog(subprog) => self.subprog(subprog),
            Item::MapDecl(decl) => {
                self.comments_before(decl.span.end, decl.span.start);
                self.line(decl.span.start);
                let (map, kind, max) = (&decl.map.name, &decl.kind.name, &decl.max_entries.text);
                self.out.push_str(&format!("let @{map} = {kind}({max});"));
            }
        }
        self.end_line(item.span().end, limit);
    }

    fn probe(&mut self, probe: &Probe) {
        self.comments_before(probe.body.span.start, probe.span.start);
        self.line(probe.span.start);
        for (idx, attach_point) in probe.attach_points.iter().enumerate() {
            if idx > 0 {
                self.out.push_str(",\n");
            }
            self.out.push_str(&attach_point.written.raw);
        }
        self.out.push('\n');
        if let Some(predicate) = &probe.predicate {
            self.out.push('/');
            let start = self.out.len();
            self.expr(&predicate.expr);
            if self.out[start..].starts_with('*') {
                self.out.insert(start, ' ');
            }
            self.out.push_str("/\n");
        }
        self.block(&probe.body, Body::NoValue);
    }

    fn macro_definition(&mut self, definition: &Macro) {
        self.comments_before(definition.body.span.start, definition.span.start);
        self.line(definition.span.start);
        let params: Vec<String> = definition
            .params
            .iter()
            .map(|param| match param.kind {
                MacroParamKind::Variable => format!("${}", param.name.name),
                MacroParamKind::Map => format!("@{}", param.name.name),
                MacroParamKind::Expr => param.name.name.clone(),
            })
            .collect();
        self.out.push_str(&format!(
            "macro {}({})\n",
            definition.name.name,
            params.join(", ")
        ));
        self.block(&definition.body, Body::Value);
    }

    fn subprog(&mut self, subprog: &Subprog) {
        self.comments_before(subprog.body.span.start, subprog.span.start);
        self.line(subprog.span.start);
        self.out.push_str(&format!("fn {}(", subprog.name.name));
        for (idx, param) in subprog.params.iter().enumerate() {
            let comma = if idx > 0 { ", " } else { "" };
            self.out.push_str(&format!("{comma}${} : ", param.var.name));
            self.type_spec(&param.ty);
        }
        self.out.push_str(") : ");
        self.type_spec(&subprog.return_type);
        self.out.push('\n');
        self.block(&subprog.body, Body::NoValue);
    }

    // Blocks and statements.

    /// A block from its opening brace to its closing one, on lines of its own in between.
    fn block(&mut self, block: &Block, body: Body) {
        let end = block.span.end.saturating_sub(1);
        let outer_end = self.last_end;
        self.out.push('{');
        let opened = self.out.len();
        self.out.push('\n');
        self.last_end = block.span.start + 1;
        self.indent += 1;
        for (idx, stmt) in block.stmts.iter().enumerate() {
            let rest = &block.stmts[idx + 1..];
            let next = rest.first().map(|next| next.span.start);
            let next = next
                .or(block.value.as_ref().map(|value| value.span.start))
                .unwrap_or(end);
            let is_last = rest.is_empty() && block.value.is_none();
            self.comments_before(head_end(stmt), stmt.span.start);
            self.line(stmt.span.start);
            let needs_end = self.stmt(stmt, body, is_last);
            let is_operand = matches!(&stmt.kind, StmtKind::Expr(expr) if is_block_like(expr));
            let would_continue = match rest.first() {
                Some(next) => continues_operand(next),
                None => block.value.as_deref().is_some_and(starts_with_operator),
            };
            if needs_end || is_operand && would_continue {
                self.out.push(';');
            }
            self.end_line(stmt.span.end, next);
        }
        if let Some(value) = &block.value {
            self.comments_before(value_head_end(value), value.span.start);
            self.line(value.span.start);
            self.trailing(value, Body::Value);
            self.end_line(value.span.end, end);
        }
        self.comments_before(block.span.end, block.span.end);
        self.indent -= 1;
        if self.out.len() == opened + 1 {
            self.out.truncate(opened);
        } else {
            for _ in 0..self.indent {
                self.out.push_str(INDENT);
            }
        }
        self.out.push('}');
        self.last_end = outer_end.max(block.span.end);
    }

    /// One statement without its `;`. Says whether it needs one.
    fn stmt(&mut self, stmt: &Stmt, body: Body, is_last: bool) -> bool {
        match &stmt.kind {
            StmtKind::Expr(expr) if is_block_like(expr) => {
                let dropped = match body {
                    Body::NoValue => is_last && has_no_value(expr),
                    Body::Dropped => true,
                    Body::Value => false,
                };
                self.trailing(expr, if dropped { Body::Dropped } else { Body::Value });
                return is_last && !dropped;
            }
            StmtKind::Expr(expr) => self.expr_stmt(expr),
            StmtKind::Import(import) => {
                self.out.push_str("import ");
                self.string_lit(None, &import.path);
            }
            StmtKind::Let { var, ty, value } => {
                self.out.push_str(&format!("let ${}", var.name));
                if let Some(ty) = ty {
                    self.out.push_str(" : ");
                    self.type_spec(ty);
                }
                if let Some(value) = value {
                    self.out.push_str(" = ");
                    self.expr(value);
                }
            }
            StmtKind::Assign { target, value } => {
                self.place(target);
                self.out.push_str(" = ");
                self.expr(value);
            }
            StmtKind::CompoundAssign {
                target, op, value, ..
            } => {
                self.place(target);
                self.out.push_str(&format!(" {}= ", op.as_str()));
                self.expr(value);
            }
            StmtKind::Discard(value) => {
                self.out.push_str("_ = ");
                self.expr(value);
            }
            StmtKind::While { cond, body } => {
                self.out.push_str("while ");
                self.condition(cond);
                self.out.push(' ');
                self.block(body, Body::NoValue);
                return false;
            }
            StmtKind::Unroll { count, body } => {
                self.out.push_str("unroll ");
                self.condition(count);
                self.out.push(' ');
                self.block(body, Body::NoValue);
                return false;
            }
            StmtKind::For { var, over, body } => {
                self.out.push_str(&format!("for ${} : ", var.name));
                match over {
                    ForOver::Map(map) => self.out.push_str(&format!("@{}", map.name)),
                    ForOver::Range { start, end } => {
                        self.range_bound(start);
                        self.out.push_str("..");
                        self.range_bound(end);
                    }
                }
                self.out.push(' ');
                self.block(body, Body::NoValue);
                return false;
            }
            StmtKind::Break => self.out.push_str("break"),
            StmtKind::Continue => self.out.push_str("continue"),
            StmtKind::Return(value) => {
                self.out.push_str("return");
                if let Some(value) = value {
                    self.out.push(' ');
                    self.expr(value);
                }
            }
        }
        true
    }

    /// An expression at the end of a block, or an `if` or block as a statement.
    fn trailing(&mut self, expr: &Expr, body: Body) {
        match &expr.kind {
            ExprKind::If(arms) => self.if_else(arms, body),
            ExprKind::Block(block) => self.block(block, body),
            _ => self.expr_stmt(expr),
        }
    }

    fn if_else(&mut self, arms: &If, body: Body) {
        self.out.push_str("if ");
        self.condition(&arms.cond);
        self.out.push(' ');
        self.block(&arms.then, body);
        match &arms.otherwise {
            Some(Else::Block(block)) => {
                self.out.push_str(" else ");
                self.block(block, body);
            }
            Some(Else::If(arms)) => {
                self.out.push_str(" else ");
                self.if_else(arms, body);
            }
            None => {}
        }
    }
}

enum Head<'a> {
    Import(&'a crate::node::Import),
    Config(&'a crate::node::Config),
}

fn is_block_like(expr: &Expr) -> bool {
    matches!(expr.kind, ExprKind::If(_) | ExprKind::Block(_))
}

/// Whether a statement printed after the closing brace of an `if` or block would be read as its continuation.
fn continues_operand(stmt: &Stmt) -> bool {
    matches!(&stmt.kind, StmtKind::Expr(expr) if starts_with_operator(expr))
}

/// Whether the text of an expression starts with something that is a binary operator too.
fn starts_with_operator(expr: &Expr) -> bool {
    match &expr::leftmost(expr).kind {
        ExprKind::Unary { op, .. } => matches!(op.as_str(), "-" | "*"),
        ExprKind::AddressOfMap(_) | ExprKind::AddressOfVariable(_) => true,
        _ => false,
    }
}

/// Whether no arm of an `if` and no nested block at the end has a value, so that it may end a body without value.
fn has_no_value(expr: &Expr) -> bool {
    fn block(block: &Block) -> bool {
        block.value.is_none()
            && block.stmts.iter().all(|stmt| match &stmt.kind {
                StmtKind::Expr(expr) => has_no_value(expr),
                _ => true,
            })
    }
    fn if_else(arms: &If) -> bool {
        block(&arms.then)
            && match &arms.otherwise {
                Some(Else::Block(otherwise)) => block(otherwise),
                Some(Else::If(arms)) => if_else(arms),
                None => true,
            }
    }
    match &expr.kind {
        ExprKind::Block(inner) => block(inner),
        ExprKind::If(arms) => if_else(arms),
        _ => true,
    }
}

/// Up to where comments inside a statement are printed ahead of it: its end, or its first block.
fn head_end(stmt: &Stmt) -> u32 {
    match &stmt.kind {
        StmtKind::While { body, .. }
        | StmtKind::Unroll { body, .. }
        | StmtKind::For { body, .. } => body.span.start,
        StmtKind::Expr(expr) => value_head_end(expr),
        StmtKind::Let {
            value: Some(value), ..
        }
        | StmtKind::Assign { value, .. }
        | StmtKind::CompoundAssign { value, .. }
        | StmtKind::Discard(value)
        | StmtKind::Return(Some(value))
            if is_block_like(value) =>
        {
            value_head_end(value)
        }
        _ => stmt.span.end,
    }
}

fn value_head_end(expr: &Expr) -> u32 {
    match &expr.kind {
        ExprKind::If(arms) => arms.then.span.start,
        ExprKind::Block(block) => block.span.start,
        _ => expr.span.end,
    }
}
