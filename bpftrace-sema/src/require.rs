//! What the kernel must be able to do for a script. What can be done in another way is not listed.

use bpftrace_ast::source::{SourceMap, Span};
use bpftrace_meta::{Feature, ProgramKind, Requirement, SourceRange};

use crate::typed::outside_library;
use crate::walk::{Node, walk};
use crate::{Builtin, Call, Clock, ExprKind, MapDef, StmtKind, Ty, TypedProgram};

/// Finds the features that a program cannot do without: each once, at its first use.
pub(crate) fn find_requirements(program: &TypedProgram, sources: &SourceMap) -> Vec<Requirement> {
    let mut found: Vec<(Feature, &'static str, Span)> = Vec::new();
    let mut need = |feature: Feature, what: &'static str, span: Span| {
        if !found.iter().any(|(known, ..)| *known == feature) {
            found.push((feature, what, span));
        }
    };
    for probe in &program.probes {
        match probe.kind {
            ProgramKind::Fentry | ProgramKind::Fexit => {
                need(Feature::Fentry, "fentry and fexit probes", probe.span);
            }
            ProgramKind::TpBtf => need(Feature::Btf, "rawtracepoint probes", probe.span),
            ProgramKind::Iter => need(Feature::Iterators, "iter probes", probe.span),
            _ => {}
        }
    }
    let bodies = program
        .probes
        .iter()
        .map(|probe| &probe.body)
        .chain(program.functions.iter().map(|function| &function.body));
    for body in bodies {
        walk(&body.stmts, &mut |node| match node {
            Node::Stmt(stmt) => {
                if let StmtKind::ForMap { map, .. } = &stmt.kind {
                    need(Feature::ForEachMapElem, "`for` over a map", stmt.span);
                    if is_aggregation(&program.maps[map.0 as usize]) {
                        need(
                            Feature::MapLookupPercpuElem,
                            "reading an aggregation",
                            stmt.span,
                        );
                    }
                }
            }
            Node::Expr(expr) => match &expr.kind {
                ExprKind::MapGet { map, .. } | ExprKind::Call(Call::Find(map, ..))
                    if is_aggregation(&program.maps[map.0 as usize]) =>
                {
                    need(
                        Feature::MapLookupPercpuElem,
                        "reading an aggregation",
                        expr.span,
                    );
                }
                ExprKind::Call(Call::StatsOf { .. }) => {
                    need(
                        Feature::MapLookupPercpuElem,
                        "reading an aggregation",
                        expr.span,
                    );
                }
                ExprKind::Builtin(Builtin::Nsecs(Clock::Tai)) => {
                    need(Feature::KtimeTai, "nsecs(tai)", expr.span);
                }
                ExprKind::Builtin(Builtin::Jiffies) => {
                    need(Feature::Jiffies64, "jiffies", expr.span);
                }
                ExprKind::Call(Call::Path(_)) => need(Feature::DPath, "path()", expr.span),
                ExprKind::Call(Call::SocketCookie(_)) => {
                    need(Feature::SocketCookie, "socket_cookie()", expr.span);
                }
                ExprKind::Call(Call::Override(_)) => {
                    need(Feature::Override, "override()", expr.span);
                }
                ExprKind::Call(Call::MapLen(_)) => {
                    need(Feature::ForEachMapElem, "len() of a map", expr.span);
                }
                _ => {}
            },
        });
    }
    found
        .into_iter()
        .map(|(feature, what, span)| Requirement {
            feature,
            what: what.to_owned(),
            place: source_range(
                sources,
                outside_library(span, &program.expanded_from(span), sources),
            ),
        })
        .collect()
}

fn is_aggregation(map: &MapDef) -> bool {
    matches!(map.value, Ty::Agg(_))
}

/// A place as the manifest has it.
fn source_range(sources: &SourceMap, span: Span) -> SourceRange {
    let (start, end) = (sources.start(span), sources.end(span));
    SourceRange {
        file: u32::try_from(span.source.index()).unwrap_or(u32::MAX),
        line: start.line,
        column: start.col,
        end_line: end.line,
        end_column: end.col,
    }
}
