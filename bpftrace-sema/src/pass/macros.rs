//! Macros of the script: which definition a call means, and which definitions make no sense.

use std::collections::HashMap;

use bpftrace_ast::diag::Diagnostic;
use bpftrace_ast::node::{Arg, Expr, ExprKind, Item, Macro, MacroParamKind, Script};
use bpftrace_ast::source::Span;

use super::mentions::mentioned_calls;
use crate::codes;

/// Names that the parser knows by themselves, and that no parameter can have.
const RESERVED: &[&str] = &["args", "ctx", "kstack", "nsecs", "pid", "tid", "ustack"];

/// Macros by name, each name in the order of its definitions.
#[derive(Debug, Default)]
pub(crate) struct Macros<'a> {
    by_name: HashMap<&'a str, Vec<&'a Macro>>,
}

/// What a call means.
pub(crate) enum Chosen<'a> {
    /// This definition.
    Macro(&'a Macro),
    /// There are macros of this name, but none takes these arguments.
    NoMatch(Vec<(Span, String)>),
    /// There is no macro of this name.
    Unknown,
}

impl<'a> Macros<'a> {
    /// Takes over the definitions of a script.
    pub(crate) fn of(script: &'a Script, diags: &mut Vec<Diagnostic>) -> Self {
        let mut macros = Self::default();
        for item in &script.items {
            if let Item::Macro(definition) = item {
                macros.add(definition, diags);
            }
        }
        macros.refuse_recursion(diags);
        macros
    }

    fn add(&mut self, definition: &'a Macro, diags: &mut Vec<Diagnostic>) {
        for param in &definition.params {
            if param.kind == MacroParamKind::Expr
                && (RESERVED.contains(&param.name.name.as_str())
                    || param.name.name.starts_with("__builtin_"))
            {
                diags.push(Diagnostic::error(
                    codes::MACRO,
                    param.name.span,
                    format!(
                        "builtin '{}' can't be used as a macro argument",
                        param.name.name
                    ),
                ));
            }
        }
        let others = self.by_name.entry(&definition.name.name).or_default();
        let kinds = |m: &Macro| m.params.iter().map(|param| param.kind).collect::<Vec<_>>();
        if let Some(first) = others
            .iter()
            .find(|other| kinds(other) == kinds(definition))
        {
            diags.push(
                Diagnostic::error(
                    codes::REDECLARED,
                    definition.head_span(),
                    format!("Redefinition of macro: {}", definition.name.name),
                )
                .with_context(first.head_span(), "This is the original definition."),
            );
            return;
        }
        others.push(definition);
    }

    /// Whether there is a macro of a name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// Names of all macros.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.by_name.keys().copied()
    }

    /// All definitions of a name.
    pub(crate) fn all(&self, name: &str) -> &[&'a Macro] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// The definition that a call means.
    pub(crate) fn choose(&self, name: &str, args: &[Arg]) -> Chosen<'a> {
        let Some(definitions) = self.by_name.get(name) else {
            return Chosen::Unknown;
        };
        let mut best: Option<(usize, &'a Macro)> = None;
        let mut misses = Vec::new();
        for &definition in definitions {
            match misfit(definition, args) {
                None => {
                    // Parameters that want a variable or a map are worth more than those that take
                    // anything.
                    let special = definition
                        .params
                        .iter()
                        .filter(|param| param.kind != MacroParamKind::Expr)
                        .count();
                    if best.is_none_or(|(most, _)| special > most) {
                        best = Some((special, definition));
                    }
                }
                Some(why) => misses.push((definition.head_span(), why)),
            }
        }
        match best {
            Some((_, definition)) => Chosen::Macro(definition),
            None => Chosen::NoMatch(misses),
        }
    }

    /// Points at macros that call themselves, directly or through others.
    fn refuse_recursion(&mut self, diags: &mut Vec<Diagnostic>) {
        let mut names: Vec<&'a str> = self.by_name.keys().copied().collect();
        names.sort_unstable();
        let calls: HashMap<&'a str, Vec<&'a str>> = names
            .iter()
            .map(|&name| {
                let mut called: Vec<&'a str> = self
                    .all(name)
                    .iter()
                    .flat_map(|definition| {
                        let params: Vec<&str> = definition
                            .params
                            .iter()
                            .map(|p| p.name.name.as_str())
                            .collect();
                        mentioned_calls(&definition.body)
                            .into_iter()
                            .filter(move |(callee, _)| !params.contains(callee))
                    })
                    .filter(|(callee, args)| self.means_same(name, callee, args))
                    .map(|(callee, _)| callee)
                    .collect();
                called.sort_unstable();
                called.dedup();
                (name, called)
            })
            .collect();
        for &start in &names {
            let Some(chain) = find_cycle(start, &calls) else {
                continue;
            };
            let span = self
                .all(start)
                .first()
                .map(|definition| definition.head_span());
            diags.push(Diagnostic::new(
                bpftrace_ast::diag::Severity::Error,
                codes::MACRO,
                span,
                format!(
                    "Recursive macro call detected. Call chain: {}",
                    chain.join(" > ")
                ),
            ));
            self.by_name.remove(start);
        }
    }

    /// Whether a call in the body of a macro leads to macros at all, and not just to another
    /// definition of the same name.
    fn means_same(&self, caller: &str, callee: &str, args: &Option<&[Arg]>) -> bool {
        if !self.contains(callee) {
            return false;
        }
        if caller != callee {
            return true;
        }
        // Overloads of one name may call each other; a definition that calls itself may not.
        let definitions = self.all(callee);
        match (definitions, args) {
            ([_], _) | (_, None) => true,
            (_, Some(args)) => match self.choose(callee, args) {
                Chosen::Macro(chosen) => {
                    mentioned_calls(&chosen.body).iter().any(|(name, again)| {
                        *name == callee
                            && again.is_none_or(|again| {
                                matches!(self.choose(callee, again), Chosen::Macro(next)
                                if std::ptr::eq(next, chosen))
                            })
                    })
                }
                _ => false,
            },
        }
    }
}

/// The first way from a macro back to itself.
fn find_cycle<'a>(start: &'a str, calls: &HashMap<&'a str, Vec<&'a str>>) -> Option<Vec<&'a str>> {
    let mut came_from: HashMap<&'a str, &'a str> = HashMap::new();
    let mut todo = vec![start];
    while let Some(at) = todo.pop() {
        for &callee in calls.get(at).map_or(&[][..], Vec::as_slice) {
            if callee == start {
                let mut chain = vec![start];
                let mut back = at;
                while back != start {
                    chain.push(back);
                    back = came_from.get(back).copied().unwrap_or(start);
                }
                chain.push(start);
                chain.reverse();
                return Some(chain);
            }
            if !came_from.contains_key(callee) {
                came_from.insert(callee, at);
                todo.push(callee);
            }
        }
    }
    None
}

/// Why a definition does not take these arguments.
fn misfit(definition: &Macro, args: &[Arg]) -> Option<String> {
    let n_params = definition.params.len();
    if n_params != args.len() {
        return Some(format!(
            "{n_params} arguments are expected here, {} are given",
            args.len()
        ));
    }
    definition.params.iter().zip(args).find_map(|(param, arg)| {
        let name = &param.name.name;
        match (param.kind, arg) {
            (
                MacroParamKind::Variable,
                Arg::Expr(Expr {
                    kind: ExprKind::Variable(_),
                    ..
                }),
            )
            | (
                MacroParamKind::Map,
                Arg::Expr(Expr {
                    kind: ExprKind::Map(_),
                    ..
                }),
            )
            | (MacroParamKind::Expr, _) => None,
            (MacroParamKind::Variable, _) => Some(format!("a variable is expected for ${name}")),
            (MacroParamKind::Map, _) => Some(format!("a map is expected for @{name}")),
        }
    })
}
