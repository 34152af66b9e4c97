//! Recursive descent over tokens taken on demand, with precedence climbing for binary operators.
//!
//! A function that meets something it cannot read reports it and gives [`Failed`]; the innermost list of statements
//! or items catches that, skips to where the next one starts, and goes on. So mistakes in different statements are
//! all reported, and one mistake is reported once.
//!
//! Two limits keep every later pass, which will recurse over the tree, within its stack: how deeply constructs nest
//! ([`MAX_NESTING`], which also bounds the recursion here), and how tall the tree gets where operators follow each
//! other without nesting ([`MAX_HEIGHT`]).

mod ctype;
mod cursor;
mod expr;
mod literal;
mod script;
mod stmt;

pub(crate) use ctype::is_builtin;

use crate::diag::{Code, Diagnostic};
use crate::lexer::{Token, TokenKind};
use crate::node::{Expr, Ident, Macro, Script};
use crate::source::{SourceId, SourceMap, Span};
use cursor::Cursor;

/// How deeply constructs may nest.
pub(crate) const MAX_NESTING: u32 = 400;

/// How tall a tree may be, counted in nodes from a statement to a leaf.
pub(crate) const MAX_HEIGHT: u32 = 12_000;

/// After this many mistakes the rest of the text is not worth reading.
pub(crate) const MAX_MISTAKES: usize = 50;

/// Parses a whole script. Whatever cannot be understood is reported and left out. Scripts may be as deep as the limits
/// above allow: compiling the deepest takes up to 64 MiB of stack in release builds.
pub fn parse(source: SourceId, map: &SourceMap) -> (Script, Vec<Diagnostic>) {
    let file = map.file(source);
    let mut parser = Parser::new(source, file.text());
    if file.is_cut() {
        parser.diagnostics.push(Diagnostic::error(
            Code::LIMIT,
            parser.cursor.here(),
            "the script is too long",
        ));
    }
    let script = parser.script();
    (script, parser.diagnostics)
}

/// Parses a text that is one expression, such as the replacement text of a C macro. `None` for a text without any
/// expression, and where there are errors.
pub fn parse_expr(source: SourceId, map: &SourceMap) -> (Option<Expr>, Vec<Diagnostic>) {
    let mut parser = Parser::new(source, map.file(source).text());
    if parser.peek().kind == TokenKind::Eof {
        return (None, parser.diagnostics);
    }
    let expr = parser.expr();
    if expr.is_ok() && parser.peek().kind != TokenKind::Eof {
        let _ = parser.fail::<()>("unexpected input");
    }
    (
        expr.ok().filter(|_| parser.diagnostics.is_empty()),
        parser.diagnostics,
    )
}

/// Parses a part of a text that holds nothing but macros: the bytes from `start` to `end`, which must be boundaries
/// of characters. Places count from the start of the whole text.
///
/// # Panics
///
/// If the range does not lie in the text.
pub fn parse_macros(
    source: SourceId,
    map: &SourceMap,
    range: std::ops::Range<usize>,
) -> (Vec<Macro>, Vec<Diagnostic>) {
    let text = &map.file(source).text()[..range.end];
    let mut parser = Parser::new(source, text);
    parser.cursor.start_at(range.start);
    let mut macros = Vec::new();
    while parser.peek().kind != TokenKind::Eof {
        match parser.macro_definition() {
            Ok(definition) => macros.push(definition),
            Err(Failed) => break,
        }
    }
    (macros, parser.diagnostics)
}

/// A mistake has been reported, and the construct cannot be finished.
#[derive(Debug)]
struct Failed;

type Parsed<T> = Result<T, Failed>;

struct Parser<'a> {
    cursor: Cursor<'a>,
    diagnostics: Vec<Diagnostic>,
    /// Where the last mistake was that stopped a construct; a second one at the same place is only its echo.
    last_failure: Option<u32>,
    /// How many constructs are open.
    nesting: u32,
    /// The tallest tree completed so far within the construct under work.
    height: u32,
}

impl<'a> Parser<'a> {
    fn new(source: SourceId, text: &'a str) -> Self {
        Self {
            cursor: Cursor::new(source, text),
            diagnostics: Vec::new(),
            last_failure: None,
            nesting: 0,
            height: 0,
        }
    }

    // Tokens.

    fn peek(&mut self) -> Token {
        self.cursor.peek()
    }

    fn bump(&mut self) -> Token {
        self.cursor.bump()
    }

    fn text(&self, token: Token) -> &'a str {
        self.cursor.text(token)
    }

    /// Whether the next token is this operator or bracket.
    fn at(&mut self, punct: &str) -> bool {
        self.peek().is(punct)
    }

    /// Whether the next token is this word.
    fn at_word(&mut self, word: &str) -> bool {
        let token = self.peek();
        token.kind == TokenKind::Ident && self.text(token) == word
    }

    fn eat(&mut self, punct: &str) -> bool {
        let found = self.at(punct);
        if found {
            self.bump();
        }
        found
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = self.at_word(word);
        if found {
            self.bump();
        }
        found
    }

    fn expect(&mut self, punct: &str) -> Parsed<Token> {
        if self.at(punct) {
            Ok(self.bump())
        } else {
            self.fail(format!("expected '{punct}'"))
        }
    }

    fn ident(&mut self, otherwise: &str) -> Parsed<Ident> {
        let token = self.peek();
        if token.kind != TokenKind::Ident {
            return self.fail(otherwise);
        }
        self.bump();
        Ok(Ident {
            span: self.cursor.span(token),
            name: self.text(token).to_owned(),
        })
    }

    /// The next token, a variable or map, without its sigil.
    fn sigil_ident(&mut self) -> Ident {
        let token = self.bump();
        Ident {
            span: self.cursor.span(token),
            name: self.text(token)[1..].to_owned(),
        }
    }

    fn variable(&mut self, otherwise: &str) -> Parsed<Ident> {
        let token = self.peek();
        match token.kind {
            TokenKind::Variable => Ok(self.sigil_ident()),
            _ if self.text(token).starts_with('$') => self.fail("expected identifier after '$'"),
            _ => self.fail(otherwise),
        }
    }

    // Mistakes.

    /// Reports a mistake at the next token and gives up on the construct.
    fn fail<T>(&mut self, message: impl Into<String>) -> Parsed<T> {
        let span = self.next_token_span();
        self.fail_at(Code::SYNTAX, span, message)
    }

    fn fail_at<T>(&mut self, code: Code, span: Span, message: impl Into<String>) -> Parsed<T> {
        if self.last_failure != Some(span.start) {
            self.last_failure = Some(span.start);
            self.report(code, span, message);
        }
        Err(Failed)
    }

    /// Reports a mistake that does not keep the construct from being read.
    fn report(&mut self, code: Code, span: Span, message: impl Into<String>) {
        let message = format!("syntax: {}", message.into());
        self.diagnostics
            .push(Diagnostic::error(code, span, message));
    }

    /// Goes to the end of the text if there have been too many mistakes.
    fn give_up_on_too_many(&mut self) {
        if self.diagnostics.len() >= MAX_MISTAKES {
            self.cursor.go_to_end();
            self.last_failure = Some(self.cursor.here().start);
        }
    }

    /// What a mistake at the next token points at: a name or number as a whole, or one character.
    fn next_token_span(&mut self) -> Span {
        let token = self.peek();
        match token.kind {
            TokenKind::Integer => self.cursor.number_span(token),
            TokenKind::String | TokenKind::Punct(_) | TokenKind::Unknown => {
                self.cursor.first_character(token)
            }
            _ => self.cursor.span(token),
        }
    }

    // Limits.

    /// Runs a parser function for something nested in the construct under work.
    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.nesting >= MAX_NESTING {
            let span = self.next_token_span();
            return self.fail_at(
                Code::LIMIT,
                span,
                format!("nested more than {MAX_NESTING} levels deep"),
            );
        }
        self.nesting += 1;
        let parsed = self.subtree(|parser| {
            let parsed = parse(parser)?;
            parser.grow()?;
            Ok(parsed)
        });
        self.nesting -= 1;
        parsed
    }

    /// Runs a parser function whose result has a height of its own.
    fn subtree<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        let outer = std::mem::take(&mut self.height);
        let parsed = parse(self);
        // What could not be read is not part of the tree.
        self.height = if parsed.is_ok() {
            self.height.max(outer)
        } else {
            outer
        };
        parsed
    }

    /// Notes that another node now stands on top of everything completed.
    fn grow(&mut self) -> Parsed<()> {
        self.height += 1;
        if self.height > MAX_HEIGHT {
            let span = self.next_token_span();
            return self.fail_at(
                Code::LIMIT,
                span,
                format!("more than {MAX_HEIGHT} operators in one expression"),
            );
        }
        Ok(())
    }
}
