//! Macros of the preprocessor and their replacement.

use std::collections::HashMap;
use std::rc::Rc;

use bpftrace_ast::source::SourceMap;

use super::hide::HideSets;
use super::token::{Kind, Lexer, Token, spelled};

/// A macro.
#[derive(Debug)]
pub(super) struct Macro {
    /// Names of its parameters; `None` for one that takes none, not even an empty list.
    pub(super) params: Option<Vec<Rc<str>>>,
    /// Whether the last parameter stands for all arguments that are left.
    pub(super) variadic: bool,
    pub(super) body: Vec<Token>,
    pub(super) origin: MacroOrigin,
}

/// Who defined a macro.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MacroOrigin {
    /// The compiler.
    Predefined,
    /// The script, or a header that is its own.
    Own,
    /// A header of the system.
    System,
}

/// Arguments in arguments go no deeper.
const MAX_DEPTH: u32 = 60;

/// Macros are replaced in no more tokens, all texts together.
const MAX_WORK: usize = 4_000_000;

/// All macros, and what replacing them needs.
#[derive(Debug, Default)]
pub(super) struct Macros {
    table: HashMap<Rc<str>, Rc<Macro>>,
    hide_sets: HideSets,
    work: usize,
    /// Something was left as it is because a limit was reached.
    pub(super) exhausted: bool,
}

impl Macros {
    pub(super) fn get(&self, name: &str) -> Option<&Rc<Macro>> {
        self.table.get(name)
    }

    pub(super) fn define(&mut self, name: Rc<str>, definition: Macro) {
        self.table.insert(name, Rc::new(definition));
    }

    pub(super) fn undefine(&mut self, name: &str) {
        self.table.remove(name);
    }

    /// Replaces all macros.
    pub(super) fn expand(&mut self, tokens: Vec<Token>) -> Vec<Token> {
        self.expand_at(tokens, 0)
    }

    fn expand_at(&mut self, tokens: Vec<Token>, depth: u32) -> Vec<Token> {
        if depth > MAX_DEPTH {
            self.exhausted = true;
            return tokens;
        }
        let mut out = Vec::with_capacity(tokens.len());
        let mut todo = tokens;
        todo.reverse();
        while let Some(token) = todo.pop() {
            let Some(name) = token.word() else {
                out.push(token);
                continue;
            };
            let Some(definition) = self.table.get(name).cloned() else {
                out.push(token);
                continue;
            };
            if self.hide_sets.has(token.hidden, name) {
                out.push(token);
                continue;
            }
            self.work += 1;
            if self.work > MAX_WORK {
                self.exhausted = true;
                out.push(token);
                continue;
            }
            let name: Rc<str> = name.into();
            let (hidden, replaced) = match &definition.params {
                None => {
                    let hidden = self.hide_sets.with(token.hidden, &name);
                    (hidden, self.substitute(&definition, &[], depth))
                }
                Some(params) => {
                    let Some((args, close)) = take_args(&mut todo, &mut self.work) else {
                        out.push(token);
                        continue;
                    };
                    let args = fit_args(args, params.len(), definition.variadic);
                    let common = self.hide_sets.common(token.hidden, close.hidden);
                    let hidden = self.hide_sets.with(common, &name);
                    (hidden, self.substitute(&definition, &args, depth))
                }
            };
            self.work += replaced.len();
            for (idx, mut inner) in replaced.into_iter().enumerate().rev() {
                inner.span = token.span;
                inner.hidden = self.hide_sets.union(inner.hidden, hidden);
                if idx == 0 {
                    inner.first = token.first;
                    inner.spaced = token.spaced;
                } else {
                    inner.first = false;
                }
                todo.push(inner);
            }
        }
        out
    }

    /// The body of a macro with its arguments.
    fn substitute(&mut self, definition: &Macro, args: &[Vec<Token>], depth: u32) -> Vec<Token> {
        let body = &definition.body;
        let Some(params) = &definition.params else {
            if !body.iter().any(|token| token.is_punct("##")) {
                return body.clone();
            }
            return self.pasted(body.iter().map(|token| vec![token.clone()]).collect());
        };
        let mut expanded: Vec<Option<Vec<Token>>> = vec![None; args.len()];
        let mut parts: Vec<Vec<Token>> = Vec::with_capacity(body.len());
        let param = |token: &Token| {
            let word = token.word()?;
            params.iter().position(|param| **param == *word)
        };
        let mut i = 0;
        while i < body.len() {
            let token = &body[i];
            if token.is_punct("#")
                && let Some(idx) = body.get(i + 1).and_then(param)
            {
                let text = spelled(args.get(idx).map_or(&[], Vec::as_slice));
                let quoted = format!("{text:?}");
                parts.push(vec![Token::new(Kind::Text(quoted.into()), token.span)]);
                i += 2;
                continue;
            }
            match param(token) {
                Some(idx) => {
                    let pasted = body.get(i + 1).is_some_and(|next| next.is_punct("##"))
                        || i > 0 && body[i - 1].is_punct("##");
                    let arg = args.get(idx).cloned().unwrap_or_default();
                    if pasted {
                        parts.push(arg);
                    } else {
                        if expanded[idx].is_none() {
                            expanded[idx] = Some(self.expand_at(arg, depth + 1));
                        }
                        let value = expanded[idx].clone().unwrap_or_default();
                        self.work += value.len();
                        if self.work > MAX_WORK {
                            self.exhausted = true;
                            return Vec::new();
                        }
                        parts.push(value);
                    }
                }
                None => parts.push(vec![token.clone()]),
            }
            i += 1;
        }
        self.pasted(parts)
    }

    /// Joins what stands on both sides of `##`.
    fn pasted(&mut self, parts: Vec<Vec<Token>>) -> Vec<Token> {
        let mut out: Vec<Token> = Vec::new();
        let mut parts = parts.into_iter();
        let mut lexer = Lexer::default();
        while let Some(part) = parts.next() {
            let is_paste = matches!(part.as_slice(), [only] if only.is_punct("##"));
            if !is_paste {
                out.extend(part);
                continue;
            }
            let Some(right) = parts.next() else {
                break;
            };
            let mut right = right.into_iter();
            match (out.pop(), right.next()) {
                (Some(left), Some(first)) => {
                    let text = format!("{}{}", left.text(), first.text());
                    let joined = lexer.tokens(&text, left.span.source, left.span.start, u32::MAX);
                    match <[Token; 1]>::try_from(joined) {
                        Ok([one]) => out.push(Token {
                            kind: one.kind,
                            ..left
                        }),
                        Err(_) => out.extend([left, first]),
                    }
                }
                // No arguments are left for `, ## __VA_ARGS__`.
                (Some(left), None) if left.is_punct(",") => {}
                (Some(left), None) => out.push(left),
                (None, Some(first)) => out.push(first),
                (None, None) => {}
            }
            out.extend(right);
        }
        out
    }
}

/// The arguments of a call, when one follows, and the parenthesis that ends it. The list is reversed.
fn take_args(todo: &mut Vec<Token>, work: &mut usize) -> Option<(Vec<Vec<Token>>, Token)> {
    if !todo.last()?.is_punct("(") {
        return None;
    }
    let mut open = 0u32;
    let end = todo.iter().rev().position(|token| {
        *work += 1;
        if token.is_punct("(") {
            open += 1;
        } else if token.is_punct(")") {
            open -= 1;
        }
        open == 0
    })?;
    let mut call: Vec<Token> = todo.split_off(todo.len() - end - 1);
    let close = call.remove(0);
    call.reverse();
    let mut args = vec![Vec::new()];
    for token in call.into_iter().skip(1) {
        if token.is_punct("(") {
            open += 1;
        } else if token.is_punct(")") {
            open -= 1;
        }
        if open == 0 && token.is_punct(",") {
            args.push(Vec::new());
        } else if let Some(last) = args.last_mut() {
            last.push(token);
        }
    }
    Some((args, close))
}

/// As many arguments as there are parameters: what is too much belongs to the last one of a variadic
/// macro, what is missing is empty.
fn fit_args(mut args: Vec<Vec<Token>>, n_params: usize, variadic: bool) -> Vec<Vec<Token>> {
    if variadic && args.len() > n_params && n_params > 0 {
        let rest = args.split_off(n_params - 1);
        let mut joined = Vec::new();
        for (idx, arg) in rest.into_iter().enumerate() {
            if idx > 0
                && let Some(near) = joined.last().or(arg.first()).map(|t: &Token| t.span)
            {
                joined.push(Token::new(Kind::Punct(","), near));
            }
            joined.extend(arg);
        }
        args.push(joined);
    }
    args.resize(n_params, Vec::new());
    args
}

/// Macros that compilers for x86-64 Linux define, as far as headers ask for them.
const PREDEFINED: &str = "\
__STDC__ 1
__STDC_VERSION__ 201112L
__STDC_HOSTED__ 1
__GNUC__ 12
__GNUC_MINOR__ 2
__GNUC_PATCHLEVEL__ 0
__linux__ 1
__linux 1
__gnu_linux__ 1
__unix__ 1
__unix 1
__x86_64__ 1
__x86_64 1
__amd64__ 1
__amd64 1
__LP64__ 1
_LP64 1
__ELF__ 1
__BPF_TRACING__ 1
__CHAR_BIT__ 8
__SIZEOF_SHORT__ 2
__SIZEOF_INT__ 4
__SIZEOF_LONG__ 8
__SIZEOF_LONG_LONG__ 8
__SIZEOF_POINTER__ 8
__SIZEOF_SIZE_T__ 8
__SIZEOF_INT128__ 16
__SIZE_TYPE__ unsigned long
__PTRDIFF_TYPE__ long
__WCHAR_TYPE__ int
__INT8_TYPE__ signed char
__INT16_TYPE__ short
__INT32_TYPE__ int
__INT64_TYPE__ long
__UINT8_TYPE__ unsigned char
__UINT16_TYPE__ unsigned short
__UINT32_TYPE__ unsigned int
__UINT64_TYPE__ unsigned long
__INTPTR_TYPE__ long
__UINTPTR_TYPE__ unsigned long
__INTMAX_TYPE__ long
__UINTMAX_TYPE__ unsigned long
__SCHAR_MAX__ 127
__SHRT_MAX__ 32767
__INT_MAX__ 2147483647
__LONG_MAX__ 9223372036854775807L
__LONG_LONG_MAX__ 9223372036854775807LL
__ORDER_LITTLE_ENDIAN__ 1234
__ORDER_BIG_ENDIAN__ 4321
__BYTE_ORDER__ 1234
__USER_LABEL_PREFIX__
";

impl Macros {
    /// Defines what every compiler defines. `more` are names of further macros with the value 1.
    pub(super) fn predefine(&mut self, lexer: &mut Lexer, more: &[&str]) {
        let source = SourceMap::new().add("predefined", "");
        let ones = more.iter().map(|name| (*name, "1"));
        let lines = PREDEFINED
            .lines()
            .map(|line| line.split_once(' ').unwrap_or((line, "")));
        for (name, text) in lines.chain(ones) {
            let body = lexer.tokens(text, source, 0, 0);
            self.define(
                name.into(),
                Macro {
                    params: None,
                    variadic: false,
                    body,
                    origin: MacroOrigin::Predefined,
                },
            );
        }
    }
}
