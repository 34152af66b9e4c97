//! Calls of macros: the body takes the place of the call, as a block.

use bpftrace_ast::diag::Diagnostic;
use bpftrace_ast::node::{self, Arg, ExprKind as Ast, Macro, MacroParamKind};
use bpftrace_ast::source::{SourceMap, Span};

use super::stmt::wrap;
use super::{Lowerer, Val};
use crate::codes;
use crate::pass::macros::Chosen;
use crate::pass::rewrite::{Replacement, Rewriter};

/// Macros in macros go no deeper.
const MAX_EXPANSIONS: usize = 50;

/// All macros together expand to no more nodes.
const MAX_EXPANDED: usize = 1_000_000;

/// What stands around the part of a variable's name that tells expansions apart.
const MARK: [char; 2] = ['\u{1}', '\u{2}'];

/// A text without the marks that names of variables carry in macros.
pub(super) fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(MARK[0]) {
        out.push_str(&rest[..start]);
        match rest[start..].find(MARK[1]) {
            Some(end) => rest = &rest[start + end + 1..],
            None => return out,
        }
    }
    out.push_str(rest);
    out
}

impl Lowerer<'_, '_> {
    /// Where the code that is being lowered was expanded, innermost first.
    pub(super) fn expanded_from(&self) -> Vec<Span> {
        self.expansions.iter().rev().copied().collect()
    }

    /// A call of a macro that is known to exist.
    pub(super) fn macro_call(&mut self, span: Span, name: &str, args: &[Arg]) -> Val {
        match self.s.macros.choose(name, args, self.caller(span)) {
            Chosen::Macro(definition) => self.expand(span, definition, args),
            Chosen::Endless => Val::unknown(span),
            Chosen::NoMatch(notes) => {
                let mut diag = Diagnostic::error(
                    codes::MACRO,
                    span,
                    format!("Call to {name}() has arguments that do not match any definition."),
                );
                for (place, note) in notes {
                    if !self.s.library.has(place) {
                        diag = diag.with_context(place, note);
                    }
                }
                let forms = crate::stdlib::forms(name);
                if !forms.is_empty() {
                    diag = diag.with_hint(format!("{name} is called as {}", forms.join(" or ")));
                }
                self.s.diags.push(diag);
                Val::unknown(span)
            }
            Chosen::Unknown => Val::unknown(span),
        }
    }

    fn expand(&mut self, span: Span, definition: &Macro, args: &[Arg]) -> Val {
        if self.expansions.len() >= MAX_EXPANSIONS {
            self.error(codes::LIMIT, span, "macros are expanded too deeply");
            return Val::unknown(span);
        }
        // The places of all calls around tell one expansion from another, in every round the same.
        let mut suffix = String::from(MARK[0]);
        for call in self.expansions.iter().chain([&span]) {
            suffix.push_str(&format!(
                "{}.{}-{};",
                call.source.index(),
                call.start,
                call.end
            ));
        }
        suffix.push(MARK[1]);
        let mut rewriter = Rewriter {
            suffix,
            hygienic: true,
            expansion: self.s.expansion(span),
            ..Rewriter::default()
        };
        for (param, arg) in definition.params.iter().zip(args) {
            let name = param.name.name.clone();
            match (param.kind, arg) {
                (
                    MacroParamKind::Variable,
                    Arg::Expr(node::Expr {
                        kind: Ast::Variable(var),
                        ..
                    }),
                ) => {
                    rewriter
                        .variables
                        .insert(name, Replacement::Variable(var.clone()));
                }
                (
                    MacroParamKind::Map,
                    Arg::Expr(node::Expr {
                        kind: Ast::Map(map),
                        ..
                    }),
                ) => {
                    rewriter.maps.insert(name, Replacement::Map(map.clone()));
                }
                (_, Arg::Expr(expr)) => {
                    rewriter
                        .idents
                        .insert(name, Replacement::Expr(expr.clone()));
                }
                (_, Arg::Type(spec)) => {
                    rewriter
                        .idents
                        .insert(name, Replacement::Type(spec.clone()));
                }
            }
        }
        let body = rewriter.block(&definition.body);
        if self.too_much_code(span, rewriter.n_nodes) {
            return Val::unknown(span);
        }
        let first_diag = self.s.diags.len();
        self.s.diags.append(&mut rewriter.diags);
        self.expansions.push(span);
        let outer = std::mem::replace(&mut self.n_outer_loops, self.loops.len());
        let outer_scopes = std::mem::replace(&mut self.n_outer_scopes, self.scopes.len());
        let (stmts, value) = self.block_parts(&body);
        self.n_outer_scopes = outer_scopes;
        self.n_outer_loops = outer;
        self.expansions.pop();
        // What could be better about the library is nobody's business, except when it reads memory for a
        // script that has not said whose memory it is.
        let library = self.s.library;
        let mut at = 0;
        self.s.diags.retain(|diag| {
            at += 1;
            at <= first_diag
                || diag.is_error()
                || diag.code == codes::ADDRESS_SPACE
                || !diag.span.is_some_and(|span| library.has(span))
        });
        for diag in &mut self.s.diags[first_diag..] {
            // How the library is made matters only for what is wrong in it.
            if !library.has(span) || diag.span.is_some_and(|at| library.has(at)) {
                diag.expanded_from.push(span);
            }
            diag.message = shown(&diag.message);
            for hint in &mut diag.hints {
                *hint = shown(hint);
            }
            for context in &mut diag.contexts {
                context.message = shown(&context.message);
            }
        }
        let mut val = wrap(span, stmts, value);
        // Whatever is wrong with a value that the library made is wrong where the library is called.
        if library.has(val.expr.span) {
            val.expr.span = span;
        }
        val
    }

    /// Counts the nodes of an expansion; `true` (and an error) when there have been too many. Macros that mention
    /// each other twice grow exponentially: once it has been said that they do, no more is expanded.
    fn too_much_code(&mut self, span: Span, n_nodes: usize) -> bool {
        let said = self.s.n_expanded > MAX_EXPANDED;
        self.s.n_expanded = self.s.n_expanded.saturating_add(n_nodes.max(1));
        let too_much = self.s.n_expanded > MAX_EXPANDED;
        if too_much && !said {
            self.error(codes::LIMIT, span, "macros expand to too much code");
        }
        too_much
    }

    /// A C macro as an expression.
    pub(super) fn c_macro(&mut self, span: Span, name: &str) -> Val {
        if let Some(at) = self.c_expansions.iter().position(|outer| outer == name) {
            let chain: Vec<&str> = self.c_expansions[at..]
                .iter()
                .map(String::as_str)
                .chain([name])
                .collect();
            let message = format!("Macro recursion: {}", chain.join("->"));
            self.error(codes::MACRO, span, message);
            return Val::unknown(span);
        }
        let tree = match self.s.c_exprs.get(name) {
            Some(known) => known.clone(),
            None => {
                let own = self.s.c.macro_text(name, false);
                let text = own.or_else(|| self.s.c.macro_text(name, true));
                // Its places are nobody's: the expression moves to where it is used.
                let mut sources = SourceMap::new();
                let source = sources.add(name, text.unwrap_or_default());
                let (tree, diags) = bpftrace_ast::parse_expr(source, &sources);
                let tree = tree.filter(|_| diags.is_empty());
                self.s.c_exprs.insert(name.to_owned(), tree.clone());
                tree
            }
        };
        let is_known = |tree: &node::Expr| match &tree.kind {
            // A call of a macro with parameters is an expression of C, not of this language.
            Ast::Call(call) => !self.s.c.has_function_like(&call.name.name),
            _ => true,
        };
        let Some(tree) = tree.filter(is_known) else {
            let (c, mut asker) = self.s.c_headers();
            if let Some(value) = c.macro_constant(&mut asker, name) {
                return Val::literal(span, value);
            }
            let own = self.s.c.macro_text(name, false);
            let text = own.or_else(|| self.s.c.macro_text(name, true));
            let text = text.unwrap_or_else(|| name.to_owned());
            self.error(
                codes::MACRO,
                span,
                format!("unable to expand macro as an expression: {text}"),
            );
            return Val::unknown(span);
        };
        let (tree, n_nodes) = Rewriter::moved(&tree, span);
        if self.too_much_code(span, n_nodes) {
            return Val::unknown(span);
        }
        self.c_expansions.push(name.to_owned());
        let val = self.expr(&tree);
        self.c_expansions.pop();
        val
    }
}
