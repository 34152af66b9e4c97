//! Directives: what of the C text counts, and which headers belong to it.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use bpftrace_ast::diag::Diagnostic;
use bpftrace_ast::source::{SourceMap, Span};

use super::consteval;
use super::expand::{Macro, MacroOrigin, Macros};
use super::token::{Kind, Lexer, Token, spelled};
use crate::codes;
use crate::constants;
use crate::texts::{Header, HeaderQuery, IncludeForm, TextSource};

/// Headers in headers go no deeper.
const MAX_DEPTH: usize = 100;

/// So many headers are read, counting repetitions.
const MAX_HEADERS: usize = 20_000;

/// Headers have no more bytes in all.
const MAX_BYTES: usize = 128 << 20;

/// An open `#if`.
struct Condition {
    span: Span,
    /// Whether lines count around it.
    outer: bool,
    /// Whether lines of the current branch count.
    active: bool,
    /// Whether a branch was taken already, or none may be.
    taken: bool,
}

/// The tokens of a header.
#[derive(Clone)]
struct Lexed {
    tokens: Rc<[Token]>,
    /// The macro whose definition makes the whole text count for nothing.
    guard: Option<Rc<str>>,
}

/// A text that is being read.
struct Open {
    name: String,
    system: bool,
}

/// The preprocessor.
pub(super) struct Preprocessor<'a> {
    pub(super) texts: &'a dyn TextSource,
    pub(super) sources: &'a mut SourceMap,
    pub(super) diags: &'a mut Vec<Diagnostic>,
    pub(super) lexer: Lexer,
    pub(super) macros: Macros,
    /// Tokens of the script and of its own headers, macros replaced.
    pub(super) own: Vec<Token>,
    /// Tokens of the system's headers as they stand.
    pub(super) system: Vec<Token>,
    /// Headers of the system that are not there, so that the table of constants stands in for them.
    pub(super) missing: Vec<String>,
    conditions: Vec<Condition>,
    lexed: HashMap<String, Lexed>,
    once: HashSet<String>,
    open: Vec<Open>,
    n_headers: usize,
    n_bytes: usize,
    /// Lines of C text in the script so far.
    n_lines: usize,
    /// Whether the kernel's types are known, so that its headers are not needed for them.
    has_kernel_types: bool,
}

impl<'a> Preprocessor<'a> {
    pub(super) fn new(
        texts: &'a dyn TextSource,
        sources: &'a mut SourceMap,
        diags: &'a mut Vec<Diagnostic>,
        has_kernel_types: bool,
    ) -> Self {
        let mut lexer = Lexer::default();
        let mut macros = Macros::default();
        let more: &[&str] = if has_kernel_types {
            &["BPFTRACE_HAVE_BTF"]
        } else {
            &[]
        };
        macros.predefine(&mut lexer, more);
        Self {
            texts,
            sources,
            diags,
            lexer,
            macros,
            own: Vec::new(),
            system: Vec::new(),
            missing: Vec::new(),
            conditions: Vec::new(),
            lexed: HashMap::new(),
            once: HashSet::new(),
            open: Vec::new(),
            n_headers: 0,
            n_bytes: 0,
            n_lines: 0,
            has_kernel_types,
        }
    }

    /// Whether the text that is being read is a header of the system, whose mistakes are nobody's here.
    fn in_system(&self) -> bool {
        self.open.last().is_some_and(|open| open.system)
    }

    fn error(&mut self, span: Span, message: impl Into<String>) {
        if !self.in_system() {
            self.diags
                .push(Diagnostic::error(codes::C_DEFINITION, span, message));
        }
    }

    fn is_active(&self) -> bool {
        self.conditions
            .last()
            .is_none_or(|condition| condition.outer && condition.active)
    }

    /// Reads a piece of the script.
    pub(super) fn script_text(&mut self, text: &str, span: Span) {
        let tokens = self.lexer.tokens(text, span.source, span.start, span.end);
        self.open.push(Open {
            name: self.sources.file(span.source).name().to_owned(),
            system: false,
        });
        self.tokens(&tokens);
        self.open.pop();
        self.n_lines += text.lines().count();
    }

    /// Ends the script.
    pub(super) fn finish(&mut self) {
        self.close_conditions(0);
        if self.macros.exhausted && !self.diags.iter().any(Diagnostic::is_error) {
            let span = self.own.last().map(|token| token.span);
            self.diags.push(Diagnostic::new(
                bpftrace_ast::diag::Severity::Error,
                codes::LIMIT,
                span,
                "C macros expand to too much text",
            ));
        }
    }

    fn close_conditions(&mut self, n: usize) {
        while self.conditions.len() > n {
            if let Some(condition) = self.conditions.pop() {
                self.error(condition.span, "unterminated conditional directive");
            }
        }
    }

    fn tokens(&mut self, tokens: &[Token]) {
        let mut at = 0;
        while at < tokens.len() {
            let is_directive = |token: &Token| token.first && token.is_punct("#");
            if is_directive(&tokens[at]) {
                let len = tokens[at + 1..]
                    .iter()
                    .position(|token| token.first)
                    .unwrap_or(tokens.len() - at - 1);
                self.directive(&tokens[at..=at + len]);
                at += len + 1;
                continue;
            }
            let len = tokens[at..]
                .iter()
                .position(is_directive)
                .unwrap_or(tokens.len() - at);
            if self.is_active() {
                let run = tokens[at..at + len].to_vec();
                if self.in_system() {
                    self.system.extend(run);
                } else {
                    let run = self.macros.expand(run);
                    self.own.extend(run);
                }
            }
            at += len;
        }
    }

    /// A line that starts with `#`.
    fn directive(&mut self, line: &[Token]) {
        let span = whole(line);
        let Some(word) = line.get(1) else {
            return;
        };
        let rest = &line[2..];
        match word.word().unwrap_or("") {
            directive @ ("ifdef" | "ifndef") => {
                let defined = rest
                    .first()
                    .and_then(Token::word)
                    .is_some_and(|name| self.is_defined(name));
                self.open_condition(span, defined == (directive == "ifdef"));
            }
            "if" => {
                let holds = self.is_active() && self.holds(span, rest);
                self.open_condition(span, holds);
            }
            directive @ ("elif" | "elifdef" | "elifndef") => {
                let pending = self.conditions.last().is_some_and(|c| c.outer && !c.taken);
                let holds = pending
                    && match directive {
                        "elif" => self.holds(span, rest),
                        _ => {
                            let name = rest.first().and_then(Token::word).unwrap_or("");
                            self.is_defined(name) == (directive == "elifdef")
                        }
                    };
                match self.conditions.last_mut() {
                    Some(condition) => {
                        condition.active = holds;
                        condition.taken |= holds;
                    }
                    None => self.error(span, format!("#{directive} without #if")),
                }
            }
            "else" => match self.conditions.last_mut() {
                Some(condition) => {
                    condition.active = !condition.taken;
                    condition.taken = true;
                }
                None => self.error(span, "#else without #if"),
            },
            "endif" => {
                if self.conditions.pop().is_none() {
                    self.error(span, "#endif without #if");
                }
            }
            _ if !self.is_active() => {}
            "define" => self.define(span, rest),
            "undef" => {
                if let Some(name) = rest.first().and_then(Token::word) {
                    self.macros.undefine(name);
                }
            }
            "include" | "include_next" | "import" => {
                self.include(span, rest, word.is_word("include_next"));
            }
            "pragma" => {
                if rest.first().is_some_and(|token| token.is_word("once"))
                    && let Some(open) = self.open.last()
                {
                    self.once.insert(open.name.clone());
                }
            }
            "error" => self.error(span, spelled(rest)),
            "warning" => {
                if !self.in_system() {
                    self.diags.push(Diagnostic::warning(
                        codes::C_DEFINITION,
                        span,
                        spelled(rest),
                    ));
                }
            }
            "line" | "ident" | "sccs" => {}
            _ if matches!(word.kind, Kind::Number(_)) => {}
            _ => self.error(
                span,
                format!("invalid preprocessing directive #{}", word.text()),
            ),
        }
    }

    fn is_defined(&self, name: &str) -> bool {
        self.macros.get(name).is_some()
            || !self.missing.is_empty() && constants::value(name).is_some()
    }

    fn open_condition(&mut self, span: Span, holds: bool) {
        let outer = self.is_active();
        self.conditions.push(Condition {
            span,
            outer,
            active: holds,
            taken: holds,
        });
    }

    fn holds(&mut self, span: Span, tokens: &[Token]) -> bool {
        let tokens = self.resolve_questions(tokens);
        let tokens = self.macros.expand(tokens);
        let stand_in = !self.missing.is_empty();
        let mut names = ConditionNames { stand_in };
        match consteval::evaluate(&tokens, &mut names) {
            Some(value) => value != 0,
            None => {
                self.error(span, "invalid expression in a condition");
                false
            }
        }
    }

    /// `defined X`, `__has_include(<x>)` and their like to 1 and 0.
    fn resolve_questions(&mut self, tokens: &[Token]) -> Vec<Token> {
        let mut out = Vec::with_capacity(tokens.len());
        let mut i = 0;
        while i < tokens.len() {
            let question = tokens[i].word().unwrap_or("");
            let (answer, used) = match question {
                "defined" => {
                    let (name, used) = match &tokens[i + 1..] {
                        [open, name, close, ..] if open.is_punct("(") && close.is_punct(")") => {
                            (Some(name), 4)
                        }
                        [name, ..] => (Some(name), 2),
                        [] => (None, 1),
                    };
                    let name = name.and_then(Token::word);
                    (name.is_some_and(|name| self.is_defined(name)), used)
                }
                "__has_include" | "__has_include_next" => {
                    let inner = in_parentheses(&tokens[i + 1..]);
                    let found = header_name(inner)
                        .is_some_and(|(name, form)| self.find(&name, form, false).is_some());
                    (found, inner.len() + 3)
                }
                "__has_attribute" | "__has_builtin" | "__has_feature" | "__has_extension"
                | "__has_warning" | "__has_c_attribute" => {
                    (false, in_parentheses(&tokens[i + 1..]).len() + 3)
                }
                _ => {
                    out.push(tokens[i].clone());
                    i += 1;
                    continue;
                }
            };
            out.push(Token::number(i128::from(answer), tokens[i].span));
            i += used;
        }
        out
    }

    fn define(&mut self, span: Span, rest: &[Token]) {
        let Some(name) = rest.first().and_then(Token::word) else {
            self.error(span, "macro name must be an identifier");
            return;
        };
        let name: Rc<str> = name.into();
        let mut body = &rest[1..];
        let mut params = None;
        let mut variadic = false;
        if body
            .first()
            .is_some_and(|token| token.is_punct("(") && !token.spaced)
        {
            let list = in_parentheses(body);
            if body.len() < list.len() + 2 {
                self.error(span, "expected ')' after the parameters of a macro");
                return;
            }
            let mut names: Vec<Rc<str>> = Vec::new();
            for token in list {
                match &token.kind {
                    Kind::Word(word) => names.push(Rc::clone(word)),
                    Kind::Punct("...") => {
                        // `args...` names the rest.
                        if !list.last().is_some_and(|last| std::ptr::eq(last, token)) {
                            self.error(span, "'...' must be the last parameter of a macro");
                            return;
                        }
                        let named = list
                            .len()
                            .checked_sub(2)
                            .is_some_and(|at| list[at].word().is_some());
                        if !named {
                            names.push("__VA_ARGS__".into());
                        }
                        variadic = true;
                    }
                    Kind::Punct(",") => {}
                    _ => {
                        self.error(token.span, "invalid parameter of a macro");
                        return;
                    }
                }
            }
            body = &body[list.len() + 2..];
            params = Some(names);
        }
        let origin = if self.in_system() {
            MacroOrigin::System
        } else {
            MacroOrigin::Own
        };
        // A macro that is its own name only says that an enumerator of that name is there.
        if origin == MacroOrigin::System
            && let [only] = body
            && only.is_word(&name)
        {
            return;
        }
        let mut body = body.to_vec();
        if let Some(first) = body.first_mut() {
            first.spaced = false;
        }
        self.macros.define(
            name,
            Macro {
                params,
                variadic,
                body,
                origin,
            },
        );
    }

    fn include(&mut self, span: Span, rest: &[Token], next: bool) {
        let named = header_name(rest).or_else(|| {
            let expanded = self.macros.expand(rest.to_vec());
            header_name(&expanded)
        });
        match named {
            Some((name, form)) => self.include_header(Some(span), &name, form, next),
            None => self.error(span, "expected \"FILE\" or <FILE> after #include"),
        }
    }

    fn find(&self, name: &str, form: IncludeForm, next: bool) -> Option<Header> {
        self.texts.header(&HeaderQuery {
            name,
            form,
            includer: self.open.last().map(|open| open.name.as_str()),
            next,
        })
    }

    /// Reads a header. `span` is where it is asked for; `None` for the command line.
    pub(super) fn include_header(
        &mut self,
        span: Option<Span>,
        name: &str,
        form: IncludeForm,
        next: bool,
    ) {
        let Some(header) = self.find(name, form, next) else {
            if self.in_system() {
                return;
            }
            if self.has_kernel_types && form == IncludeForm::Angle && is_of_the_system(name) {
                self.missing.push(name.to_owned());
                return;
            }
            let message = format!("'{name}' file not found");
            let hint = match form {
                IncludeForm::Angle => "-I DIR adds a directory that headers are looked for in",
                IncludeForm::Quotes => {
                    "headers in quotes are looked for beside the script, then where -I says"
                }
            };
            let mut diag = Diagnostic::new(
                bpftrace_ast::diag::Severity::Error,
                codes::C_DEFINITION,
                span,
                &message,
            )
            .with_hint(hint);
            if let Some(span) = span.filter(|_| self.open.len() == 1) {
                diag = diag.with_preface(self.in_words_of_clang(span, name, &message));
            }
            self.diags.push(diag);
            return;
        };
        self.header(span, header);
    }

    /// What bpftrace with clang says of an `#include` in the script: a line that people look for. It
    /// counts lines of C text, behind one of its own.
    fn in_words_of_clang(&self, span: Span, name: &str, message: &str) -> String {
        let line = self.n_lines + 2;
        let column = self.sources.text(span).find(name).unwrap_or(1);
        format!("definitions.h:{line}:{column}: fatal error: {message}")
    }

    /// Reads a header that has been found.
    pub(super) fn header(&mut self, span: Option<Span>, header: Header) {
        if self.once.contains(&header.path) {
            return;
        }
        let system = header.system || self.in_system();
        let known = self.lexed.get(&header.path).cloned();
        if known
            .as_ref()
            .and_then(|known| known.guard.as_deref())
            .is_some_and(|guard| self.macros.get(guard).is_some())
        {
            return;
        }
        self.n_headers += 1;
        let deep = self.open.len() >= MAX_DEPTH;
        if deep || self.n_headers > MAX_HEADERS || self.n_bytes > MAX_BYTES {
            let message = if deep {
                "#include nested too deeply"
            } else {
                "too many headers"
            };
            if !self.diags.iter().any(|diag| diag.message == message) {
                self.diags.push(Diagnostic::new(
                    bpftrace_ast::diag::Severity::Error,
                    codes::LIMIT,
                    span,
                    message,
                ));
            }
            return;
        }
        let lexed = match known {
            Some(known) => known,
            None => {
                self.n_bytes += header.text.len();
                let source = self.sources.add(header.path.clone(), header.text);
                let tokens =
                    self.lexer
                        .tokens(self.sources.file(source).text(), source, 0, u32::MAX);
                let lexed = Lexed {
                    guard: guard_of(&tokens),
                    tokens: tokens.into(),
                };
                self.lexed.insert(header.path.clone(), lexed.clone());
                lexed
            }
        };
        let n_conditions = self.conditions.len();
        self.open.push(Open {
            name: header.path,
            system,
        });
        self.tokens(&lexed.tokens);
        self.close_conditions(n_conditions);
        self.open.pop();
    }
}

/// Names in conditions: what is no macro is 0, except what the table of constants stands in for.
struct ConditionNames {
    stand_in: bool,
}

impl consteval::Names for ConditionNames {
    fn value(&mut self, name: &str) -> Option<i128> {
        let known = constants::value(name).filter(|_| self.stand_in);
        Some(known.map_or(0, i128::from))
    }

    fn type_of(&mut self, _: &[Token]) -> Option<(u64, bool)> {
        None
    }

    fn starts_type(&self, _: &Token) -> bool {
        false
    }
}

fn whole(line: &[Token]) -> Span {
    match (line.first(), line.last()) {
        (Some(first), Some(last)) if last.span.end >= first.span.start => {
            Span::new(first.span.source, first.span.start, last.span.end)
        }
        (Some(first), _) => first.span,
        (None, _) => unreachable!("a directive starts with '#'"),
    }
}

/// What stands between the parenthesis that the tokens start with and the one that closes it; all that
/// is left when nothing does.
fn in_parentheses(tokens: &[Token]) -> &[Token] {
    if !tokens.first().is_some_and(|token| token.is_punct("(")) {
        return &[];
    }
    let mut open = 0u32;
    let end = tokens.iter().position(|token| {
        if token.is_punct("(") {
            open += 1;
        } else if token.is_punct(")") {
            open -= 1;
        }
        open == 0
    });
    &tokens[1..end.unwrap_or(tokens.len())]
}

/// `"name"` or `<name>`.
fn header_name(tokens: &[Token]) -> Option<(String, IncludeForm)> {
    let first = tokens.first()?;
    if let Kind::Text(text) = &first.kind {
        let name = text.trim_matches('"').to_owned();
        return Some((name, IncludeForm::Quotes));
    }
    if !first.is_punct("<") {
        return None;
    }
    let end = tokens.iter().position(|token| token.is_punct(">"))?;
    let name = tokens[1..end].iter().map(|token| token.text().to_string());
    Some((name.collect(), IncludeForm::Angle))
}

/// The macro of an include guard around a whole text.
fn guard_of(tokens: &[Token]) -> Option<Rc<str>> {
    let [hash, directive, name, ..] = tokens else {
        return None;
    };
    if !hash.is_punct("#") || !directive.is_word("ifndef") {
        return None;
    }
    let Kind::Word(name) = &name.kind else {
        return None;
    };
    let mut open = 0u32;
    for (at, token) in tokens.iter().enumerate() {
        if !token.first || !token.is_punct("#") {
            continue;
        }
        match tokens.get(at + 1).and_then(Token::word).unwrap_or("") {
            "if" | "ifdef" | "ifndef" => open += 1,
            "else" | "elif" if open == 1 => return None,
            "endif" => {
                open -= 1;
                if open == 0 {
                    let rest = &tokens[at + 2..];
                    let ends = rest.iter().all(|token| !token.first);
                    return ends.then(|| Rc::clone(name));
                }
            }
            _ => {}
        }
    }
    None
}

/// Whether a header that is not installed is one that BTF and the table of constants stand in for.
fn is_of_the_system(name: &str) -> bool {
    const DIRS: &[&str] = &[
        "linux",
        "uapi",
        "net",
        "netinet",
        "arpa",
        "sys",
        "bits",
        "asm",
        "asm-generic",
        "scsi",
        "rdma",
        "sound",
        "drm",
        "video",
        "crypto",
        "trace",
        "acpi",
        "media",
        "xen",
        "mtd",
        "misc",
        "target",
        "soc",
        "keys",
        "vdso",
        "kvm",
        "generated",
        "ras",
        "memory",
        "clocksource",
    ];
    const FILES: &[&str] = &[
        "float.h",
        "iso646.h",
        "stdalign.h",
        "stdatomic.h",
        "stdckdint.h",
        "stdnoreturn.h",
        "stdint.h",
        "stddef.h",
        "stdbool.h",
        "stdarg.h",
        "stdio.h",
        "stdlib.h",
        "string.h",
        "limits.h",
        "errno.h",
        "signal.h",
        "fcntl.h",
        "unistd.h",
        "time.h",
        "sched.h",
        "poll.h",
        "inttypes.h",
        "pthread.h",
        "dirent.h",
        "netdb.h",
        "endian.h",
        "byteswap.h",
        "elf.h",
    ];
    match name.split_once('/') {
        Some((dir, _)) => DIRS.contains(&dir),
        // Compilers have parts of `stddef.h` and `stdarg.h` in files of their own.
        None => {
            FILES.contains(&name) || name.starts_with("__stddef_") || name.starts_with("__stdarg_")
        }
    }
}
