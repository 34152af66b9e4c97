//! Arguments of calls: expressions, numbers, literals and words.

use std::borrow::Cow;

use bpftrace_ast::node::{self, Arg, ExprKind as Ast};

use super::{Lowerer, Val};
use crate::builtin::shown;
use crate::{Ty, codes};

impl Lowerer<'_, '_> {
    /// The expression of an argument that is not a type.
    pub(super) fn value_arg<'t>(&mut self, arg: &'t Arg) -> Option<&'t node::Expr> {
        match arg {
            Arg::Expr(expr) => Some(expr),
            Arg::Type(spec) => {
                self.error(
                    codes::ARGUMENT_KIND,
                    spec.span,
                    "When used as a call argument, `typeof` builtin only valid for macro calls that \
                     are expecting a type parameter",
                );
                None
            }
        }
    }

    /// An argument as a value; `None` when there is none, or nothing is known about it.
    pub(super) fn arg_val(&mut self, call: &node::Call, at: usize) -> Option<Val> {
        let tree = self.value_arg(call.args.get(at)?)?;
        let val = self.expr(tree);
        val.known.then_some(val)
    }

    /// An argument that must be a literal.
    pub(super) fn literal_val(&mut self, call: &node::Call, at: usize) -> Option<Val> {
        let tree = self.value_arg(call.args.get(at)?)?;
        let val = self.literal_expr(tree);
        val.known.then_some(val)
    }

    /// An argument that must be an integer.
    pub(super) fn int_arg(&mut self, call: &node::Call, at: usize) -> Option<Val> {
        let val = self.arg_val(call, at)?;
        let name = shown(&call.name.name);
        let is_number = match val.ty() {
            Ty::Int(_) | Ty::Enum(..) => true,
            // The functions that are macros of the library cast what they get.
            Ty::Bool => {
                !matches!(
                    name,
                    "avg" | "bswap" | "buf" | "cgroup_path" | "exit" | "hist"
                ) && !matches!(name, "lhist" | "max" | "min" | "stats" | "str" | "strftime")
                    && !matches!(name, "sum" | "tseries")
            }
            _ => false,
        };
        if is_number {
            return Some(val);
        }
        let spelled = self.spell_val(&val);
        let word = if name == "bswap" { "integer" } else { "int" };
        self.error(
            codes::ARGUMENT_KIND,
            val.span(),
            format!("{name}() only supports {word} arguments ({spelled} provided)"),
        );
        None
    }

    /// An argument that must be a literal text.
    pub(super) fn literal_arg(&mut self, call: &node::Call, at: usize) -> Option<String> {
        self.literal_text(shown(&call.name.name), call.args.get(at)?)
    }

    /// The text of an argument that must be a literal text.
    pub(super) fn literal_text(&mut self, name: &str, arg: &Arg) -> Option<String> {
        let tree = self.value_arg(arg)?;
        let text: Option<Cow<'_, [u8]>> = match &tree.kind {
            Ast::String(lit) => Some(Cow::Borrowed(lit.value.as_slice())),
            Ast::PositionalParam(n) => {
                self.error_hint(
                    codes::ARGUMENT_KIND,
                    tree.span,
                    format!("{name}() expects a string literal (positional parameter provided)"),
                    format!("Use str(${n}) to treat ${n} as a string"),
                );
                return None;
            }
            _ => {
                let val = self.literal_expr(tree);
                if !val.known {
                    return None;
                }
                match val.as_str_literal() {
                    Some(text) => Some(Cow::Owned(text.to_vec())),
                    None => {
                        let kind = self.kind_word(&val);
                        self.error(
                            codes::ARGUMENT_KIND,
                            tree.span,
                            format!("{name}() expects a string literal ({kind} provided)"),
                        );
                        None
                    }
                }
            }
        };
        text.map(|text| String::from_utf8_lossy(&text).into_owned())
    }

    /// What messages call a kind of type.
    pub(super) fn kind_word(&self, val: &Val) -> String {
        match val.ty() {
            Ty::Int(_) => "int".to_owned(),
            Ty::Str(_) | Ty::ProbeName => "string".to_owned(),
            Ty::Ptr(..) => "pointer".to_owned(),
            _ => self.spell_val(val),
        }
    }

    /// An argument that must be an integer literal.
    pub(super) fn literal_int(&mut self, call: &node::Call, at: usize) -> Option<i128> {
        let val = self.literal_val(call, at)?;
        match val.as_literal() {
            Some(value) => Some(value),
            None => {
                let kind = self.kind_word(&val);
                let name = &call.name.name;
                self.error(
                    codes::ARGUMENT_KIND,
                    val.span(),
                    match name.as_str() {
                        "strncmp" => {
                            format!(
                                "Builtin {name} requires a non-negative literal ({kind} provided)"
                            )
                        }
                        _ => format!("{name}() expects a int literal ({kind} provided)"),
                    },
                );
                None
            }
        }
    }

    pub(super) fn wrong_kind(&mut self, val: &Val, message: &str) -> Val {
        let spelled = self.kind_word(val);
        self.error(
            codes::ARGUMENT_KIND,
            val.span(),
            format!("{message} ({spelled} provided)"),
        );
        Val::unknown(val.span())
    }

    /// An argument that is a bare word of the function's own.
    pub(super) fn word_arg(&mut self, call: &node::Call, at: usize) -> Option<String> {
        let tree = self.value_arg(call.args.get(at)?)?;
        match &tree.kind {
            Ast::Ident(word) => Some(word.clone()),
            _ => {
                let name = &call.name.name;
                let wanted = match shown(name) {
                    "nsecs" => "timestamp modes",
                    _ => "curr_ns and init",
                };
                self.error(
                    codes::ARGUMENT_KIND,
                    tree.span,
                    format!("{name}() only supports {wanted} as the argument"),
                );
                None
            }
        }
    }
}
