//! The top level: C text, config, imports, probes, macros, functions, map declarations.

use super::ctype::is_builtin;
use super::{Failed, Parsed, Parser};
use crate::attach::AttachPoint;
use crate::diag::Code;
use crate::lexer::{self, TokenKind};
use crate::node::{
    CStatement, CStatementKind, Config, ConfigEntry, ConfigValue, Ident, Item, Macro, MacroParam,
    MacroParamKind, MapDecl, Predicate, Probe, Script, Subprog, SubprogParam, Verbatim,
};

impl Parser<'_> {
    pub(super) fn script(&mut self) -> Script {
        let mut script = Script {
            source: self.cursor.source(),
            span: self.cursor.range(0, self.cursor.len()),
            shebang: self.opt_shebang(),
            c_statements: Vec::new(),
            config: None,
            imports: Vec::new(),
            items: Vec::new(),
            comments: Vec::new(),
        };
        while self.peek().kind != TokenKind::Eof {
            let before = self.peek().start;
            if let Err(Failed) = self.top_level(&mut script) {
                self.skip_item(before);
                self.give_up_on_too_many();
            }
        }
        self.cursor.skip_layout();
        script.comments = self.cursor.take_comments();
        script
    }

    fn opt_shebang(&mut self) -> Option<Verbatim> {
        let start = self.cursor.skip_layout();
        if !self.cursor.rest().starts_with("#!") {
            return None;
        }
        let text = self.take_line().to_owned();
        Some(Verbatim {
            span: self.cursor.range(start, start + text.len()),
            text,
        })
    }

    /// One thing at the top level.
    fn top_level(&mut self, script: &mut Script) -> Parsed<()> {
        let start = self.cursor.skip_layout();
        let token = self.peek();
        let word = if token.kind == TokenKind::Ident {
            self.text(token)
        } else {
            ""
        };
        let rest = self.cursor.rest();
        let is_late = !script.items.is_empty();
        let is_preprocessor = rest.starts_with('#') && !rest.starts_with("#!");
        let is_typedef = word == "typedef" && self.cursor.after(token).kind == TokenKind::Ident;
        let is_definition = matches!(word, "struct" | "union" | "enum")
            && (is_c_definition(rest) || declaration_end(rest).is_some());
        if is_preprocessor || is_typedef || is_definition {
            let statement = if is_preprocessor {
                self.preprocessor_line()
            } else if is_typedef {
                self.c_typedef()?
            } else {
                self.c_definition()?
            };
            if is_late || script.config.is_some() || !script.imports.is_empty() {
                self.report(
                    Code::ORDER,
                    statement.span,
                    "C definitions must appear before probes and functions",
                );
            }
            script.c_statements.push(statement);
            return Ok(());
        }
        match word {
            "config" => {
                let keyword = self.cursor.span(token);
                if is_late {
                    self.report(
                        Code::ORDER,
                        keyword,
                        "config must appear before probes and functions",
                    );
                } else if script.config.is_some() {
                    self.report(Code::ORDER, keyword, "duplicate config block");
                }
                let config = self.config()?;
                script.config.get_or_insert(config);
            }
            "import" => {
                if is_late {
                    let keyword = self.cursor.span(token);
                    self.report(
                        Code::ORDER,
                        keyword,
                        "root imports must appear before probes and functions",
                    );
                }
                match self.import() {
                    Ok(import) => script.imports.push(import),
                    Err(Failed) => self.skip_import(),
                }
            }
            "macro" => {
                let definition = self.macro_definition()?;
                script.items.push(Item::Macro(definition));
            }
            "fn" => {
                let subprog = self.subprog()?;
                script.items.push(Item::Subprog(subprog));
            }
            "let" => match self.map_decl() {
                Ok(map_decl) => script.items.push(Item::MapDecl(map_decl)),
                Err(Failed) => self.skip_import(),
            },
            _ => {
                debug_assert_eq!(start, self.cursor.pos());
                let probe = self.probe()?;
                script.items.push(Item::Probe(probe));
            }
        }
        Ok(())
    }

    /// Skips to the end of an item that could not be read: past the next balanced braces, or past a lonely `}`.
    fn skip_item(&mut self, item_start: usize) {
        let mut depth = 0u32;
        loop {
            let token = self.peek();
            match token.kind {
                TokenKind::Eof => return,
                TokenKind::Punct("{") => depth += 1,
                TokenKind::Punct("}") => {
                    self.bump();
                    depth = depth.saturating_sub(1);
                    if depth == 0 && !self.at_continuation() && !self.at("/") {
                        return;
                    }
                    continue;
                }
                _ => {}
            }
            debug_assert!(token.end > item_start);
            self.bump();
        }
    }

    /// Skips to the end of an import or map declaration that could not be read: past `;`, or to the end of the line.
    fn skip_import(&mut self) {
        let rest = self.cursor.rest();
        let len = rest.find([';', '\n']).map_or(rest.len(), |at| at + 1);
        self.cursor.take(len);
    }

    fn take_line(&mut self) -> &str {
        let rest = self.cursor.rest();
        let len = rest.find('\n').unwrap_or(rest.len());
        self.cursor.take(len).trim_end()
    }

    /// A line that starts with `#`, and those that backslashes join to it.
    fn preprocessor_line(&mut self) -> CStatement {
        let start = self.cursor.pos();
        let rest = self.cursor.rest();
        let mut len = 0;
        for line in rest.split_inclusive('\n') {
            len += line.len();
            if !line.trim_end().ends_with('\\') {
                break;
            }
        }
        let text = self.cursor.take(len).trim_end().to_owned();
        let span = self.cursor.range(start, start + text.len());
        CStatement {
            span,
            kind: CStatementKind::Preprocessor,
            text,
        }
    }

    /// A `typedef`, as text up to its `;`.
    fn c_typedef(&mut self) -> Parsed<CStatement> {
        let start = self.cursor.pos();
        let Some(len) = typedef_end(self.cursor.rest()) else {
            let rest = self.cursor.rest().len();
            self.cursor.take(rest);
            return self.fail("expected ';' after a typedef");
        };
        let text = self.cursor.take(len).to_owned();
        Ok(CStatement {
            span: self.cursor.since(start),
            kind: CStatementKind::Definition,
            text,
        })
    }

    /// A `struct`, `union` or `enum` definition, as text.
    fn c_definition(&mut self) -> Parsed<CStatement> {
        let start = self.cursor.pos();
        if let Some(len) = declaration_end(self.cursor.rest()) {
            let text = self.cursor.take(len).to_owned();
            return Ok(CStatement {
                span: self.cursor.since(start),
                kind: CStatementKind::Definition,
                text,
            });
        }
        let Some(len) = braces_end(self.cursor.rest()) else {
            let rest = self.cursor.rest().len();
            self.cursor.take(rest);
            return self.fail("expected '}'");
        };
        self.cursor.take(len);
        let after_braces = self.cursor.checkpoint();
        let mut end = self.cursor.pos();
        while self.eat_word("__attribute__") {
            self.cursor.skip_layout();
            let rest = self.cursor.rest();
            if !rest.starts_with("((") {
                return self.fail("__attribute__ syntax error, expected '(('");
            }
            let Some(len) = balanced_end(rest, '(', ')') else {
                return self.fail("__attribute__ syntax error, mismatched '(' and ')'");
            };
            self.cursor.take(len);
            end = self.cursor.pos();
        }
        self.cursor.forget_comments(&after_braces, end);
        self.eat(";");
        let mut text = self.cursor.slice(start, end).to_owned();
        text.push(';');
        Ok(CStatement {
            span: self.cursor.since(start),
            kind: CStatementKind::Definition,
            text,
        })
    }

    fn config(&mut self) -> Parsed<Config> {
        let start = self.bump().start;
        self.expect("=")?;
        self.expect("{")?;
        let mut entries = Vec::new();
        while !self.at("}") {
            match self.config_entry() {
                Ok(entry) => entries.push(entry),
                Err(Failed) => {
                    // The rest of the block up to its end.
                    while !self.at("}") && self.peek().kind != TokenKind::Eof {
                        self.bump();
                    }
                    break;
                }
            }
            if !self.at("}") && !self.eat(";") {
                let _ = self.fail::<()>("expected ';'");
                while !self.at("}") && self.peek().kind != TokenKind::Eof {
                    self.bump();
                }
                break;
            }
        }
        self.expect("}")?;
        Ok(Config {
            span: self.cursor.since(start),
            entries,
        })
    }

    fn config_entry(&mut self) -> Parsed<ConfigEntry> {
        let key = self.ident("expected config key")?;
        self.expect("=")?;
        let token = self.peek();
        let value = match token.kind {
            TokenKind::String => ConfigValue::String(self.string()),
            TokenKind::Integer => ConfigValue::Integer(self.integer()),
            _ => {
                let word = self.ident("expected string, int, boolean, or ident")?;
                match word.name.as_str() {
                    "true" => ConfigValue::Bool(true),
                    "false" => ConfigValue::Bool(false),
                    _ => ConfigValue::Word(word.name),
                }
            }
        };
        let span = self.cursor.since(key.span.start as usize);
        Ok(ConfigEntry {
            span,
            key,
            value_span: self.cursor.span(token),
            value,
        })
    }

    pub(super) fn macro_definition(&mut self) -> Parsed<Macro> {
        let start = self.bump().start;
        let name = self.ident("expected macro name")?;
        self.expect("(")?;
        let mut params = Vec::new();
        if !self.at(")") {
            params.extend(self.macro_param()?);
            while self.eat(",") {
                params.extend(self.macro_param()?);
            }
        }
        self.expect(")")?;
        let body = self.block(true)?;
        Ok(Macro {
            span: self.cursor.since(start),
            name,
            params,
            body,
        })
    }

    /// A parameter; none if its name is taken, which has been reported.
    fn macro_param(&mut self) -> Parsed<Option<MacroParam>> {
        let expected = "expected macro argument ($var, @map, or identifier)";
        let token = self.peek();
        let (name, kind) = match token.kind {
            TokenKind::Variable => (self.sigil_ident(), MacroParamKind::Variable),
            TokenKind::Map => (self.sigil_ident(), MacroParamKind::Map),
            _ if self.text(token).starts_with('$') => {
                (self.variable(expected)?, MacroParamKind::Variable)
            }
            _ => (self.ident(expected)?, MacroParamKind::Expr),
        };
        if kind == MacroParamKind::Expr && is_builtin(&name.name) {
            let message = format!("builtin '{}' can't be used as a macro argument", name.name);
            self.report(Code::SYNTAX, name.span, message);
            return Ok(None);
        }
        Ok(Some(MacroParam { name, kind }))
    }

    fn subprog(&mut self) -> Parsed<Subprog> {
        let start = self.bump().start;
        let name = self.ident("expected function name")?;
        self.expect("(")?;
        let mut params = Vec::new();
        if !self.at(")") {
            params.push(self.subprog_param()?);
            while self.eat(",") {
                params.push(self.subprog_param()?);
            }
        }
        self.expect(")")?;
        self.expect(":")?;
        let return_type = self.type_spec()?;
        let body = self.block(false)?;
        Ok(Subprog {
            span: self.cursor.since(start),
            name,
            params,
            return_type,
            body,
        })
    }

    fn subprog_param(&mut self) -> Parsed<SubprogParam> {
        let var = self.variable("expected variable in function argument")?;
        self.expect(":")?;
        let ty = self.type_spec()?;
        Ok(SubprogParam {
            span: self.cursor.since(var.span.start as usize),
            var,
            ty,
        })
    }

    fn map_decl(&mut self) -> Parsed<MapDecl> {
        let keyword = self.peek();
        if self.cursor.after(keyword).kind != TokenKind::Map {
            return self.fail(
                "root-level let statements need to be map declarations, e.g. let @a = hash(2);",
            );
        }
        self.bump();
        let map: Ident = self.sigil_ident();
        self.expect("=")?;
        let kind = self.ident("expected map type name")?;
        self.expect("(")?;
        let number = self.peek();
        let max_entries =
            self.plain_integer("expected positive integer for map declaration max entries")?;
        self.expect(")")?;
        self.eat(";");
        Ok(MapDecl {
            span: self.cursor.since(keyword.start),
            map,
            kind,
            max_entries_span: self.cursor.span(number),
            max_entries,
        })
    }

    fn probe(&mut self) -> Parsed<Probe> {
        let start = self.cursor.pos();
        let n_diagnostics = self.diagnostics.len();
        let mut attach_points = vec![self.attach_point()?];
        while self.eat(",") {
            if self.at("/") || self.at("{") {
                break;
            }
            attach_points.push(self.attach_point()?);
        }
        if !self.at("/") && !self.at("{") {
            // No probe begins like that, so what is wrong with it as one helps nobody.
            self.diagnostics.truncate(n_diagnostics);
        }
        let predicate = self.opt_predicate()?;
        let body = self.block(false)?;
        Ok(Probe {
            span: self.cursor.since(start),
            attach_points,
            predicate,
            body,
        })
    }

    fn attach_point(&mut self) -> Parsed<AttachPoint> {
        let start = self.cursor.skip_layout();
        let len = attach_point_len(self.cursor.rest());
        if len == 0 {
            return self.fail("expected attach point");
        }
        let raw = self.cursor.take(len);
        let (attach_point, diagnostics) =
            AttachPoint::parse(raw, self.cursor.range(start, start + len));
        self.diagnostics.extend(diagnostics);
        Ok(attach_point)
    }

    fn opt_predicate(&mut self) -> Parsed<Option<Predicate>> {
        if !self.at("/") {
            return Ok(None);
        }
        let start = self.bump().start;
        let expr = self.expr()?;
        if !self.eat("/") {
            return self.fail("expected '/' to close predicate");
        }
        Ok(Some(Predicate {
            span: self.cursor.since(start),
            expr,
        }))
    }
}

/// Length of the attach point that the text starts with: up to `{`, `,` or white space outside quotes. A `/` ends
/// it too, before the first `:` (after it, it belongs to a path) and unless it starts a comment.
fn attach_point_len(text: &str) -> usize {
    let mut in_quotes = false;
    let mut seen_colon = false;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => in_quotes = !in_quotes,
            '\\' if in_quotes => {
                characters.next();
            }
            ':' => seen_colon = true,
            _ if in_quotes => {}
            '{' | ',' => return at,
            '/' if at > 0 && !seen_colon && !text[at + 1..].starts_with(['/', '*']) => return at,
            _ if lexer::is_space(character) || character == '\x0b' || character == '\x0c' => {
                return at;
            }
            _ => {}
        }
    }
    text.len()
}

/// Whether names and balanced groups lead from a `struct`, `union` or `enum` to a brace, so that it starts a C
/// definition and is not the name of a provider.
fn is_c_definition(text: &str) -> bool {
    let mut left = text;
    loop {
        left = &left[lexer::layout_len(left)..];
        let len = match left.chars().next() {
            Some('{') => return true,
            Some(first) if lexer::is_ident_start(first) => left
                .find(|c| !lexer::is_ident_body(c))
                .unwrap_or(left.len()),
            Some('(') => match balanced_end(left, '(', ')') {
                Some(len) => len,
                None => return false,
            },
            Some('[') => match balanced_end(left, '[', ']') {
                Some(len) => len,
                None => return false,
            },
            _ => return false,
        };
        left = &left[len..];
    }
}

/// Length up to and with the bracket that closes the one the text starts with. Braces end the search: none can
/// stand in what is looked for, and no text is searched twice this way.
fn balanced_end(text: &str, open: char, close: char) -> Option<usize> {
    let mut depth = 0usize;
    for (at, character) in text.char_indices() {
        if matches!(character, '{' | '}') {
            return None;
        } else if character == open {
            depth += 1;
        } else if character == close {
            depth = depth.checked_sub(1)?;
            if depth == 0 {
                return Some(at + 1);
            }
        }
    }
    None
}

/// Length of a declaration without a definition: a keyword, a name, `;`.
fn declaration_end(text: &str) -> Option<usize> {
    let mut left = text;
    for _ in 0..2 {
        let end = left.find(|c| !lexer::is_ident_body(c))?;
        if end == 0 {
            return None;
        }
        left = &left[end..];
        left = &left[lexer::layout_len(left)..];
    }
    let after = left.strip_prefix(';')?;
    Some(text.len() - after.len())
}

/// Length up to and with the `;` outside of braces. Comments do not count.
fn typedef_end(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    let mut left = text;
    while let Some(next) = left.find(['{', '}', ';', '/']) {
        left = &left[next..];
        if let Ok((after, _)) = lexer::comment(left) {
            left = after;
            continue;
        }
        let found = left.as_bytes()[0];
        left = &left[1..];
        match found {
            b'{' => depth += 1,
            b'}' => depth = depth.checked_sub(1)?,
            b';' if depth == 0 => return Some(text.len() - left.len()),
            _ => {}
        }
    }
    None
}

/// Length up to and with the brace that closes the first one. Braces in comments do not count.
fn braces_end(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    let mut left = text;
    while let Some(next) = left.find(['{', '}', '/']) {
        left = &left[next..];
        if let Ok((after, _)) = lexer::comment(left) {
            left = after;
            continue;
        }
        let bracket = left.as_bytes()[0];
        left = &left[1..];
        match bracket {
            b'{' => depth += 1,
            b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(text.len() - left.len());
                }
            }
            _ => {}
        }
    }
    None
}
