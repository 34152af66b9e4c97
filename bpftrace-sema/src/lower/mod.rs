//! From the tree to the typed program: names, types, checks and lowering in one walk.
//!
//! The walk is repeated until the types of variables and maps stay what they are; the result and the
//! diagnostics of the last round count. One walk knows everything about an expression that the
//! program needs, so nothing is decided twice.

mod access;
mod args;
mod builtins;
mod call;
mod call_args;
mod call_map;
mod call_memory;
mod call_output;
mod call_system;
mod cast;
mod control;
mod convert;
mod expr;
mod fold;
mod format;
mod functions;
mod imported;
mod macros;
mod maps;
mod names;
mod ops;
mod params;
mod stmt;
mod types;

pub(crate) use functions::{Signature, read_signatures, refuse_recursion};
pub(crate) use imported::read_imported;
pub(crate) use maps::merged_int;
pub(crate) use types::named_type;

use std::collections::{BTreeMap, HashMap, HashSet};

use bpftrace_ast::diag::{Code, Diagnostic};
use bpftrace_ast::node;
use bpftrace_ast::source::{ExpansionId, Span};
use bpftrace_meta::{HostValue, NamedParam};

use self::names::NamesOf;
use crate::cdef::{Asker, CDefs};
use crate::env::{Locals, Maps};
use crate::import::Imported;
use crate::join::{self, Literals, Range};
use crate::pass::config::Settings;
use crate::pass::macros::{Caller, Macros};
use crate::pass::units::Unit;
use crate::spell::spell;
use crate::stdlib::Library;
use crate::suggest;
use crate::typeinfo::TypeSource;
use crate::{
    AggTy, Body, EnumTyId, Expr, ExprKind, ImportedFunction, IntTy, Local, LocalIdx, MapIdx, Mem,
    SemaOptions, SlotDef, SlotIdx, Stmt, StmtKind, StructId, Ty, codes,
};

/// What all units have in common.
pub(crate) struct Session<'a> {
    pub(crate) types: &'a dyn TypeSource,
    pub(crate) options: &'a SemaOptions,
    pub(crate) settings: Settings,
    pub(crate) imported: Imported,
    pub(crate) maps: Maps,
    /// Numbers of the maps in this round.
    pub(crate) map_numbers: HashMap<String, MapIdx>,
    /// The names behind these numbers.
    pub(crate) map_names: Vec<String>,
    /// Whether this round has learned anything.
    pub(crate) changed: bool,
    /// Statements that were lowered in all rounds so far.
    pub(crate) n_lowered: usize,
    /// Maps whose values this round has seen assigned to maps as they are: from and to.
    pub(crate) copies: Vec<(String, String)>,
    /// Types that variables whose addresses are taken had before this round.
    pub(crate) widened: HashSet<Ty>,
    /// Findings of this round.
    pub(crate) diags: Vec<Diagnostic>,
    /// The first statement that was left out.
    pub(crate) lost: Option<Span>,
    pub(crate) tables: Tables,
    pub(crate) macros: Macros<'a>,
    library: &'a Library,
    pub(crate) c: CDefs,
    /// Enums made of tables of names.
    number_enums: HashMap<&'static str, EnumTyId>,
    /// Functions of the script.
    pub(crate) functions: Vec<Signature>,
    /// Their numbers; of several of one name that of the first.
    pub(crate) function_numbers: HashMap<String, usize>,
    /// Where the members of large structs and the fields of large records are.
    names: NamesOf,
    /// Functions of the BPF objects that it imports, and those that cannot be called with the reason.
    pub(crate) imported_functions: Vec<ImportedFunction>,
    pub(crate) unfit_functions: HashMap<String, String>,
    /// Replacement texts of C macros as expressions; `None`: they are none.
    c_exprs: HashMap<String, Option<node::Expr>>,
    /// Nodes that macros were expanded to in this round.
    pub(crate) n_expanded: usize,
    /// The user program whose types the unit depends on.
    pub(crate) program_used: Option<u32>,
    /// Structs made of the arguments of tracepoints and functions.
    args_structs: HashMap<String, Result<StructId, String>>,
    /// Calls of macros that were expanded, by the number of the expansion less one; the same in all
    /// rounds.
    pub(crate) expansions: Vec<Span>,
    expansion_numbers: HashMap<Span, ExpansionId>,
}

/// Things of the program that have numbers; made anew in each round.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) slots: Vec<SlotDef>,
    slot_numbers: HashMap<HostValue, SlotIdx>,
    pub(crate) time_formats: Interned,
    pub(crate) cgroup_filters: Interned,
    pub(crate) named_params: Vec<NamedParam>,
    named_param_numbers: HashMap<String, usize>,
    pub(crate) n_params: u32,
    /// Positional parameters whose values are part of the program; 0 is `$#`.
    pub(crate) fixed_params: BTreeMap<u32, String>,
}

impl Tables {
    /// The slot of a value that is bound at start.
    pub(crate) fn slot(&mut self, value: HostValue, ty: Ty, span: Option<Span>) -> SlotIdx {
        if let Some(&known) = self.slot_numbers.get(&value) {
            return known;
        }
        let idx = SlotIdx(u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
        self.slots.push(SlotDef {
            value: value.clone(),
            ty,
            span,
        });
        self.slot_numbers.insert(value, idx);
        idx
    }

    /// Forgets all slots but the first ones: nothing refers to the others any more.
    fn forget_slots(&mut self, n_kept: usize) {
        for slot in self.slots.drain(n_kept.min(self.slots.len())..) {
            self.slot_numbers.remove(&slot.value);
        }
    }
}

/// Texts that have numbers, each once.
#[derive(Debug, Default)]
pub(crate) struct Interned {
    pub(crate) list: Vec<String>,
    numbers: HashMap<String, u32>,
}

impl Interned {
    fn number(&mut self, text: &str) -> u32 {
        if let Some(&known) = self.numbers.get(text) {
            return known;
        }
        let number = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        self.list.push(text.to_owned());
        self.numbers.insert(text.to_owned(), number);
        number
    }
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        types: &'a dyn TypeSource,
        options: &'a SemaOptions,
        settings: Settings,
        macros: Macros<'a>,
        library: &'a Library,
    ) -> Self {
        Self {
            types,
            options,
            settings,
            imported: Imported::default(),
            maps: Maps::new(),
            map_numbers: HashMap::new(),
            map_names: Vec::new(),
            changed: false,
            n_lowered: 0,
            copies: Vec::new(),
            widened: HashSet::new(),
            diags: Vec::new(),
            lost: None,
            tables: Tables::default(),
            macros,
            library,
            c: CDefs::default(),
            number_enums: HashMap::new(),
            functions: Vec::new(),
            function_numbers: HashMap::new(),
            names: NamesOf::default(),
            imported_functions: Vec::new(),
            unfit_functions: HashMap::new(),
            c_exprs: HashMap::new(),
            n_expanded: 0,
            program_used: None,
            args_structs: HashMap::new(),
            expansions: Vec::new(),
            expansion_numbers: HashMap::new(),
        }
    }

    /// Forgets what belongs to one round only.
    pub(crate) fn start_round(&mut self) {
        self.changed = false;
        self.diags.clear();
        self.lost = None;
        self.copies.clear();
        self.tables = Tables::default();
        self.n_expanded = 0;
        self.names.forget_records();
        self.imported.table.forget_layouts();
    }

    /// The C definitions, and what looking for one in a header needs.
    fn c_headers(&mut self) -> (&mut CDefs, Asker<'_>) {
        let asker = Asker {
            imported: &mut self.imported,
            types: self.types,
        };
        (&mut self.c, asker)
    }

    /// Which headers are not there, for messages about names that may be theirs.
    fn missing_header_hint(&self) -> Option<String> {
        let missing = self.c.missing_headers();
        (!missing.is_empty()).then(|| {
            format!(
                "These headers are not installed: {}. -I DIR adds a directory with headers.",
                missing.join(", ")
            )
        })
    }

    /// The number of the expansion of the call of a macro at `call`.
    fn expansion(&mut self, call: Span) -> Option<ExpansionId> {
        if let Some(&known) = self.expansion_numbers.get(&call) {
            return Some(known);
        }
        self.expansions.push(call);
        let number = u32::try_from(self.expansions.len()).ok()?;
        let id = ExpansionId(std::num::NonZeroU32::new(number)?);
        self.expansion_numbers.insert(call, id);
        Some(id)
    }
}

/// Trees nest no deeper than this.
const MAX_DEPTH: u32 = 2_000;

/// Binary operators that follow each other without parentheses; the tree of them is as deep.
const MAX_CHAIN: usize = 2_000;

/// An expression with what the typed tree does not say about it.
#[derive(Clone, Debug)]
struct Val {
    expr: Expr,
    /// Of an integer that has no signedness of its own: the range of its values. A constant with a
    /// range is a literal that can be folded.
    range: Option<Range>,
    /// The memory that it points to if it is an address in an integer.
    space: Mem,
    /// Which aggregation was merged to give this integer.
    agg: Option<AggTy>,
    /// `false`: its type is not known (yet), or there was an error that has been reported.
    known: bool,
}

impl Val {
    fn new(ty: Ty, span: Span, kind: ExprKind) -> Self {
        Self {
            expr: Expr { ty, span, kind },
            range: None,
            space: Mem::Unknown,
            agg: None,
            known: true,
        }
    }

    fn from_expr(expr: Expr) -> Self {
        Self {
            expr,
            range: None,
            space: Mem::Unknown,
            agg: None,
            known: true,
        }
    }

    /// A value about which nothing more can be said.
    fn unknown(span: Span) -> Self {
        Self {
            known: false,
            ..Self::void(span)
        }
    }

    fn void(span: Span) -> Self {
        Self::new(Ty::Void, span, ExprKind::Const(0))
    }

    /// Statements without a value.
    fn stmts(span: Span, stmts: Vec<Stmt>) -> Self {
        let nothing = Self::void(span).expr;
        Self::new(Ty::Void, span, ExprKind::Block(stmts, Box::new(nothing)))
    }

    /// An enumerator that C text defines.
    fn enumerator(span: Span, (id, value): (EnumTyId, i64)) -> Self {
        let kind = ExprKind::Const(value as u64);
        Self::new(Ty::Enum(id, IntTy::U64), span, kind)
            .with_range((i128::from(value), i128::from(value)))
    }

    fn boolean(span: Span, value: bool) -> Self {
        Self::new(Ty::Bool, span, ExprKind::Const(u64::from(value)))
    }

    /// An integer literal.
    fn literal(span: Span, value: i128) -> Self {
        let int = join::literal_type((value, value));
        let mut val = Self::new(Ty::Int(int), span, ExprKind::Const(low_bits(value, int)));
        // What only fits an unsigned type has signedness.
        if value <= i128::from(i64::MAX) {
            val.range = Some((value, value));
        }
        val
    }

    fn string(span: Span, bytes: Vec<u8>) -> Self {
        let size = u32::try_from(bytes.len())
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        Self::new(Ty::Str(size), span, ExprKind::Str(bytes))
    }

    fn with_space(mut self, space: Mem) -> Self {
        self.space = space;
        self
    }

    fn with_range(mut self, range: Range) -> Self {
        self.range = Some(range);
        self
    }

    fn ty(&self) -> &Ty {
        &self.expr.ty
    }

    /// Where in it there are integer literals.
    fn literals(&self) -> Literals {
        Literals::of(&self.expr, self.range)
    }

    fn span(&self) -> Span {
        self.expr.span
    }

    fn is_void(&self) -> bool {
        self.known && self.expr.ty == Ty::Void
    }

    /// The value of an integer literal.
    fn as_literal(&self) -> Option<i128> {
        match (&self.expr.kind, &self.expr.ty) {
            (ExprKind::Const(bits), Ty::Int(int)) if self.range.is_some() || *int == IntTy::U64 => {
                Some(int_value(*bits, *int))
            }
            // An enumerator of the script.
            (ExprKind::Const(_), Ty::Enum(..)) => self.range.map(|(value, _)| value),
            _ => None,
        }
    }

    /// The value of a constant of type bool.
    fn as_bool_literal(&self) -> Option<bool> {
        match (&self.expr.kind, &self.expr.ty) {
            (ExprKind::Const(bits), Ty::Bool) => Some(*bits != 0),
            _ => None,
        }
    }

    /// The bytes of a string literal.
    fn as_str_literal(&self) -> Option<&[u8]> {
        match &self.expr.kind {
            ExprKind::Str(bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// The low bits of a value, in the width of a type.
fn low_bits(value: i128, int: IntTy) -> u64 {
    let mask = if int.size >= 8 {
        u64::MAX
    } else {
        (1u64 << (u32::from(int.size) * 8)) - 1
    };
    (value as u64) & mask
}

/// The value that bits stand for in a type.
pub(crate) fn int_value(bits: u64, int: IntTy) -> i128 {
    let width = u32::from(int.size.clamp(1, 8)) * 8;
    let bits = low_bits(i128::from(bits), int);
    if int.signed && width <= 64 && bits >> (width - 1) & 1 == 1 {
        i128::from(bits) - (1i128 << width)
    } else {
        i128::from(bits)
    }
}

/// One unit in one round.
pub(crate) struct Lowerer<'s, 'a> {
    s: &'s mut Session<'a>,
    unit: &'s Unit<'a>,
    locals: &'s mut Locals,
    /// Variables in scope.
    visible: HashMap<String, LocalIdx>,
    /// Names that end with each open scope.
    scopes: Vec<Vec<String>>,
    depth: u32,
    /// Calls of macros that are being expanded, outermost first.
    expansions: Vec<Span>,
    /// Scopes that were open when the innermost macro was called.
    n_outer_scopes: usize,
    /// Inside `comptime`: what depends on the target is decided by the types at hand.
    comptime_depth: u32,
    /// Inside what has to be a literal: parameters are what the compiler was given.
    literal_depth: u32,
    /// Open loops outside of the macro that is being expanded.
    n_outer_loops: usize,
    /// C macros that are being expanded.
    c_expansions: Vec<String>,
    /// Open loops, and which of them are `for` loops.
    loops: Vec<LoopKind>,
    /// Inside `sizeof` and the like: nothing is evaluated.
    unevaluated: u32,
    /// Whose operand that is.
    operand_of: Option<&'static str>,
    /// Whether control does not come past the statement just lowered.
    diverges: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LoopKind {
    /// In the program itself.
    While,
    /// In the program itself, a fixed number of times.
    Unroll,
    /// `for`: a function of its own.
    Callback,
}

/// Lowers one unit with what is known so far.
pub(crate) fn lower_unit<'a>(
    session: &mut Session<'a>,
    unit: &Unit<'a>,
    locals: &mut Locals,
) -> Body {
    locals.start_round();
    let mut lowerer = Lowerer::new(session, unit, locals);
    let stmts = lowerer.unit_body();
    lowerer.warn_about_locals();
    let locals = locals
        .all()
        .iter()
        .map(|local| Local {
            name: format!("${}", macros::shown(&local.name)),
            ty: local.state.ty.clone().unwrap_or(Ty::Int(IntTy::I64)),
            span: local.span,
        })
        .collect();
    Body { locals, stmts }
}

impl<'s, 'a> Lowerer<'s, 'a> {
    fn new(session: &'s mut Session<'a>, unit: &'s Unit<'a>, locals: &'s mut Locals) -> Self {
        Self {
            s: session,
            unit,
            locals,
            visible: HashMap::new(),
            scopes: vec![Vec::new()],
            depth: 0,
            expansions: Vec::new(),
            n_outer_scopes: 0,
            comptime_depth: 0,
            literal_depth: 0,
            n_outer_loops: 0,
            c_expansions: Vec::new(),
            loops: Vec::new(),
            unevaluated: 0,
            operand_of: None,
            diverges: false,
        }
    }
}

impl Lowerer<'_, '_> {
    /// Who calls what stands at a place.
    fn caller(&self, span: Span) -> Caller {
        if self.s.library.has(span) {
            Caller::Library
        } else {
            Caller::Script
        }
    }

    fn error(&mut self, code: Code, span: Span, message: impl Into<String>) {
        self.s.diags.push(Diagnostic::error(code, span, message));
    }

    fn error_hint(
        &mut self,
        code: Code,
        span: Span,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.s
            .diags
            .push(Diagnostic::error(code, span, message).with_hint(hint));
    }

    fn warn(&mut self, code: Code, span: Span, message: impl Into<String>) {
        self.s.diags.push(Diagnostic::warning(code, span, message));
    }

    /// A statement is left out, because a value in it is not known. Something must have been said about that.
    fn lose(&mut self, span: Span) {
        self.s.lost.get_or_insert(span);
    }

    /// A part of the language that is missing; the value of it is unknown.
    fn unsupported(&mut self, span: Span, what: &str) -> Val {
        self.error(
            codes::UNSUPPORTED,
            span,
            format!("{what} is not supported yet"),
        );
        Val::unknown(span)
    }

    fn spell(&self, ty: &Ty) -> String {
        spell(ty, &self.s.imported.table)
    }

    /// The spelling of a value's type, aggregations included.
    fn spell_val(&self, val: &Val) -> String {
        match &val.agg {
            Some(agg) => crate::spell::spell_agg(agg).to_owned(),
            None if val.is_void() => "void".to_owned(),
            None => self.spell(val.ty()),
        }
    }

    /// The known name that a mistaken one is nearest to, unless there have been many mistakes.
    fn nearest<'c>(
        &self,
        name: &str,
        candidates: impl IntoIterator<Item = &'c str>,
    ) -> Option<&'c str> {
        if self.s.diags.len() >= suggest::ENOUGH {
            return None;
        }
        suggest::nearest(name, candidates)
    }

    /// Goes one level down; `false` (and an error) when that is too deep.
    fn descend(&mut self, span: Span) -> bool {
        if self.depth >= MAX_DEPTH {
            self.error(codes::LIMIT, span, "nested too deeply");
            return false;
        }
        self.depth += 1;
        true
    }

    fn open_scope(&mut self) {
        self.scopes.push(Vec::new());
    }

    fn close_scope(&mut self) {
        for name in self.scopes.pop().unwrap_or_default() {
            self.visible.remove(&name);
        }
    }

    /// Brings a variable into scope.
    fn declare(&mut self, name: &str, span: Span) -> LocalIdx {
        let idx = self.locals.declare(name, span);
        self.visible.insert(name.to_owned(), idx);
        if let Some(scope) = self.scopes.last_mut() {
            scope.push(name.to_owned());
        }
        idx
    }

    /// Brings a variable into the scope that the innermost macro was called in.
    fn declare_for_caller(&mut self, name: &str, span: Span) -> LocalIdx {
        let idx = self.locals.declare(name, span);
        self.visible.insert(name.to_owned(), idx);
        let scope = self.n_outer_scopes.saturating_sub(1);
        if let Some(scope) = self.scopes.get_mut(scope) {
            scope.push(name.to_owned());
        }
        idx
    }

    fn slot(&mut self, value: HostValue, ty: Ty, span: Span) -> Val {
        let idx = self.s.tables.slot(value, ty.clone(), Some(span));
        Val::new(ty, span, ExprKind::Slot(idx))
    }

    fn warn_about_locals(&mut self) {
        let mut found = Vec::new();
        for local in self.locals.all() {
            if local.n_assignments == local.n_steps && local.declared {
                found.push((
                    local.span,
                    format!(
                        "Variable ${} was never assigned to.",
                        macros::shown(&local.name)
                    ),
                ));
            }
        }
        for (span, message) in found {
            self.warn(codes::UNUSED, span, message);
        }
        let unknown = self.locals.all().iter();
        let unknown = unknown.filter(|local| local.state.ty.is_none() && local.used);
        let mut unknown: Vec<(Span, bool)> = unknown
            .map(|local| (local.span, local.n_assignments > 0))
            .collect();
        // What is assigned something wrong has been reported.
        if !unknown.is_empty() && bpftrace_ast::diag::has_errors(&self.s.diags) {
            unknown.retain(|(_, is_assigned)| !is_assigned);
        }
        for (span, _) in unknown {
            self.error_hint(
                codes::UNRESOLVED_TYPE,
                span,
                "Could not resolve the type of this variable",
                "Assign something to it, or declare its type, for example: let $x : uint64;",
            );
        }
    }
}

/// A statement at a place.
fn stmt(span: Span, kind: StmtKind) -> Stmt {
    Stmt { span, kind }
}
