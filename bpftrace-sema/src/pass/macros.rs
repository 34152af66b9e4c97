//! Macros: which definition a call means, and which definitions make no sense.

use bpftrace_ast::order::sort_by_number;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use bpftrace_ast::diag::Diagnostic;
use bpftrace_ast::node::{Arg, Expr, ExprKind, Item, Macro, MacroParamKind, Script};
use bpftrace_ast::source::Span;

use super::mentions::mentioned_calls;
use crate::codes;
use crate::cycles::find_cycles;
use crate::stdlib::Library;

/// Names that the parser knows by themselves, and that no parameter can have.
const RESERVED: &[&str] = &["args", "ctx", "kstack", "nsecs", "pid", "tid", "ustack"];

/// Macros by name, each name in the order of its definitions.
#[derive(Debug, Default)]
pub(crate) struct Macros<'a> {
    /// Those of the script.
    by_name: ByName<'a>,
    /// The first of each name that takes parameters of these kinds.
    firsts: HashMap<(&'a str, Vec<MacroParamKind>), &'a Macro>,
    /// Those of the library, as far as the script can come to them.
    library: ByName<'a>,
    /// Definitions of the script that expand to themselves, which has been reported.
    endless: HashSet<*const Macro>,
}

type ByName<'a> = HashMap<&'a str, Vec<&'a Macro>>;

/// What a call means.
pub(crate) enum Chosen<'a> {
    /// This definition.
    Macro(&'a Macro),
    /// A definition that expands to itself, which has been reported.
    Endless,
    /// There are macros of this name, but none takes these arguments.
    NoMatch(Vec<(Span, String)>),
    /// There is no macro of this name.
    Unknown,
}

/// Who calls: the library does not see the script's macros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    Script,
    Library,
}

impl<'a> Macros<'a> {
    /// Takes over the definitions of a script and of the library.
    pub(crate) fn of(
        script: &'a Script,
        library: &'a Library,
        diags: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut macros = Self::default();
        for definition in &library.macros {
            let others = macros.library.entry(&definition.name.name).or_default();
            others.push(definition);
        }
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
        let mut firsts = HashMap::new();
        for param in &definition.params {
            let first = firsts.entry((param.kind, &param.name.name));
            if let Entry::Occupied(first) = &first {
                diags.push(
                    Diagnostic::error(
                        codes::REDECLARED,
                        param.name.span,
                        format!(
                            "{} for macro argument has already been used: {}{}",
                            match param.kind {
                                MacroParamKind::Variable => "Variable",
                                MacroParamKind::Map => "Map",
                                MacroParamKind::Expr => "Ident",
                            },
                            match param.kind {
                                MacroParamKind::Variable => "$",
                                MacroParamKind::Map => "@",
                                MacroParamKind::Expr => "",
                            },
                            param.name.name
                        ),
                    )
                    .with_context(*first.get(), "This is the first one."),
                );
            }
            first.or_insert(param.name.span);
        }
        let kinds = definition.params.iter().map(|param| param.kind).collect();
        match self.firsts.entry((&definition.name.name, kinds)) {
            Entry::Occupied(first) => {
                diags.push(
                    Diagnostic::error(
                        codes::REDECLARED,
                        definition.head_span(),
                        format!("Redefinition of macro: {}", definition.name.name),
                    )
                    .with_context(first.get().head_span(), "This is the original definition."),
                );
                return;
            }
            Entry::Vacant(entry) => {
                entry.insert(definition);
            }
        }
        let others = self.by_name.entry(&definition.name.name).or_default();
        others.push(definition);
    }

    /// Whether there is a macro of a name for a caller.
    pub(crate) fn contains(&self, name: &str, caller: Caller) -> bool {
        (caller == Caller::Script && self.by_name.contains_key(name))
            || self.library.contains_key(name)
    }

    /// Names of the script's macros.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.by_name.keys().copied()
    }

    /// All definitions of a name with so many parameters.
    pub(crate) fn all(&self, name: &str, n_params: usize) -> impl Iterator<Item = &'a Macro> {
        let of = |table: &ByName<'a>| table.get(name).cloned().unwrap_or_default();
        of(&self.by_name)
            .into_iter()
            .chain(of(&self.library))
            .filter(move |definition| definition.params.len() == n_params)
    }

    /// The definition that a call means.
    pub(crate) fn choose(&self, name: &str, args: &[Arg], caller: Caller) -> Chosen<'a> {
        let mut misses = Vec::new();
        let tables = match caller {
            Caller::Script => [Some(&self.by_name), Some(&self.library)],
            Caller::Library => [None, Some(&self.library)],
        };
        let mut known = false;
        for definitions in tables
            .into_iter()
            .flatten()
            .filter_map(|table| table.get(name))
        {
            known = true;
            match best(definitions, args, &mut misses) {
                Some(definition) if self.endless.contains(&std::ptr::from_ref(definition)) => {
                    return Chosen::Endless;
                }
                Some(definition) => return Chosen::Macro(definition),
                None => {}
            }
        }
        if known {
            Chosen::NoMatch(misses)
        } else {
            Chosen::Unknown
        }
    }

    /// Points at macros that expand to themselves, directly or through others.
    fn refuse_recursion(&mut self, diags: &mut Vec<Diagnostic>) {
        let definitions: Vec<&'a Macro> = {
            let mut all: Vec<&'a Macro> = self.by_name.values().flatten().copied().collect();
            sort_by_number(&mut all, |definition| definition.span.place());
            all
        };
        let index_of: HashMap<*const Macro, usize> = definitions
            .iter()
            .enumerate()
            .map(|(i, &definition)| (std::ptr::from_ref(definition), i))
            .collect();
        let calls: Vec<Vec<usize>> = definitions
            .iter()
            .map(|&definition| {
                let called = self.called_by(definition).into_iter();
                called
                    .map(|callee| index_of[&std::ptr::from_ref(callee)])
                    .collect()
            })
            .collect();
        for chain in find_cycles(&calls) {
            let chain: Vec<&Macro> = chain.into_iter().map(|i| definitions[i]).collect();
            let names: Vec<&str> = chain
                .iter()
                .map(|definition| definition.name.name.as_str())
                .collect();
            diags.push(Diagnostic::error(
                codes::MACRO,
                chain[0].head_span(),
                format!(
                    "Recursive macro call detected. Call chain: {}",
                    names.join(" > ")
                ),
            ));
            self.endless
                .extend(chain.into_iter().map(std::ptr::from_ref));
        }
    }

    /// The definitions that the body of one can expand to.
    fn called_by(&self, caller: &'a Macro) -> Vec<&'a Macro> {
        let is_param = |name: &str| {
            caller
                .params
                .iter()
                .any(|param| param.kind == MacroParamKind::Expr && param.name.name == name)
        };
        let mut called: Vec<&'a Macro> = Vec::new();
        for (callee, args) in mentioned_calls(None, &caller.body) {
            let Some(definitions) = self.by_name.get(callee) else {
                continue;
            };
            if args.is_none() && is_param(callee) {
                continue;
            }
            let args = args.unwrap_or_default();
            // What stands for a parameter can be anything. It counts as an expression for the choice,
            // and whatever is more special can be meant as well.
            let least = best(definitions, args, &mut Vec::new()).map_or(0, n_special);
            for &definition in definitions {
                let fits = definition.params.len() == args.len()
                    && definition.params.iter().zip(args).all(|(param, arg)| {
                        fits(param.kind, arg)
                            || matches!(arg, Arg::Expr(Expr { kind: ExprKind::Ident(name), .. })
                                if is_param(name))
                    });
                if fits && n_special(definition) >= least {
                    called.push(definition);
                }
            }
        }
        called
    }
}

/// The definition that suits arguments best: parameters that want a variable or a map are worth more
/// than those that take anything, and then the first one wins.
fn best<'a>(
    definitions: &[&'a Macro],
    args: &[Arg],
    misses: &mut Vec<(Span, String)>,
) -> Option<&'a Macro> {
    let mut best: Option<&'a Macro> = None;
    for &definition in definitions {
        match misfit(definition, args) {
            None if best.is_none_or(|best| n_special(definition) > n_special(best)) => {
                best = Some(definition);
            }
            None => {}
            Some(why) => misses.push((definition.head_span(), why)),
        }
    }
    best
}

/// Parameters that want a variable or a map.
fn n_special(definition: &Macro) -> usize {
    let special = |param: &&bpftrace_ast::node::MacroParam| param.kind != MacroParamKind::Expr;
    definition.params.iter().filter(special).count()
}

/// Whether a parameter takes an argument.
fn fits(kind: MacroParamKind, arg: &Arg) -> bool {
    match kind {
        MacroParamKind::Expr => true,
        MacroParamKind::Variable => {
            matches!(arg, Arg::Expr(expr) if matches!(expr.kind, ExprKind::Variable(_)))
        }
        MacroParamKind::Map => {
            matches!(arg, Arg::Expr(expr) if matches!(expr.kind, ExprKind::Map(_)))
        }
    }
}

/// Why a definition does not take these arguments.
fn misfit(definition: &Macro, args: &[Arg]) -> Option<String> {
    let n_params = definition.params.len();
    if n_params != args.len() {
        return Some(format!(
            "This definition of {}() has a different number of arguments. Expected: {n_params} but got {}",
            definition.name.name,
            args.len()
        ));
    }
    definition.params.iter().zip(args).find_map(|(param, arg)| {
        let name = &param.name.name;
        if fits(param.kind, arg) {
            return None;
        }
        Some(match param.kind {
            MacroParamKind::Map => format!("a map is expected for @{name}"),
            _ => format!("a variable is expected for ${name}"),
        })
    })
}
