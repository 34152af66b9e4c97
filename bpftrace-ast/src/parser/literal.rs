//! The values of literals, and what can be wrong with them.

use super::{Parsed, Parser};
use crate::diag::Code;
use crate::integer;
use crate::lexer::TokenKind;
use crate::node::{IntegerLit, StringLit};

impl Parser<'_> {
    /// An integer literal; the next token must be one. A bad one counts as 0 after it has been reported.
    pub(super) fn integer(&mut self) -> IntegerLit {
        let token = self.bump();
        let text = self.text(token);
        let mut value = 0;
        if let Ok((_, literal)) = integer::literal(text) {
            if let Some(end) = literal.trailing_underscore {
                let span = self.cursor.range(token.start + end - 1, token.start + end);
                self.report(
                    Code::LITERAL,
                    span,
                    "trailing underscore in integer literal",
                );
            }
            let body_end = token.start + literal.body.len();
            if !literal.bad_suffix.is_empty() {
                let message = format!("invalid integer suffix '{}'", literal.bad_suffix);
                self.report(
                    Code::LITERAL,
                    self.cursor.range(body_end, token.end),
                    message,
                );
            }
            match integer::parse_uint(literal.body) {
                Ok(parsed) => value = parsed,
                Err(error) => {
                    self.report(
                        Code::LITERAL,
                        self.cursor.range(token.start, body_end),
                        error.to_string(),
                    );
                }
            }
        }
        IntegerLit {
            value,
            text: text.to_owned(),
        }
    }

    /// A number without a fault where nothing but a number can stand.
    pub(super) fn plain_integer(&mut self, otherwise: &str) -> Parsed<IntegerLit> {
        if self.peek().kind != TokenKind::Integer {
            return self.fail(otherwise);
        }
        Ok(self.integer())
    }

    /// A string literal; the next token must be one.
    pub(super) fn string(&mut self) -> StringLit {
        let token = self.bump();
        let text = self.text(token);
        let mut value = Vec::with_capacity(text.len());
        let mut left = &text[1..];
        loop {
            let at = token.start + (text.len() - left.len());
            let plain = left.find(['"', '\\']).unwrap_or(left.len());
            value.extend_from_slice(&left.as_bytes()[..plain]);
            left = &left[plain..];
            let escape_at = at + plain;
            if left.starts_with('"') {
                break;
            }
            let Some(escape) = left.strip_prefix('\\').filter(|escape| !escape.is_empty()) else {
                self.report(
                    Code::LITERAL,
                    self.cursor.span(token),
                    "unterminated string",
                );
                // What closes the statement is probably in the string; that it is missing is no news.
                self.last_failure = Some(self.peek().start as u32);
                break;
            };
            let (byte, len) = self.escape(escape, escape_at);
            value.extend(byte);
            left = &escape[len..];
        }
        StringLit { value }
    }

    /// The byte that an escape stands for and the length of its text; the backslash stands at `at`.
    fn escape(&mut self, escape: &str, at: usize) -> (Option<u8>, usize) {
        let digits = |from: usize, max: usize, radix: u32| {
            escape[from..]
                .chars()
                .take(max)
                .take_while(|digit| digit.is_digit(radix))
                .count()
        };
        let Some(letter) = escape.chars().next() else {
            return (None, 0);
        };
        match letter {
            'n' => (Some(b'\n'), 1),
            't' => (Some(b'\t'), 1),
            'r' => (Some(b'\r'), 1),
            '"' => (Some(b'"'), 1),
            '\\' => (Some(b'\\'), 1),
            '0'..='7' => {
                let len = digits(0, 3, 8);
                let value = u8::from_str_radix(&escape[..len], 8).ok();
                if value.is_none() {
                    let message =
                        format!("octal escape sequence out of range '\\{}'", &escape[..len]);
                    self.report(Code::LITERAL, self.cursor.range(at, at + 1 + len), message);
                }
                (value, len)
            }
            'x' | 'X' => {
                let len = 1 + digits(1, 2, 16);
                let value = u8::from_str_radix(&escape[1..len], 16).ok();
                if value.is_none() {
                    self.report(
                        Code::LITERAL,
                        self.cursor.range(at, at + 2),
                        "invalid hex escape sequence",
                    );
                }
                (value, len)
            }
            other => {
                let len = other.len_utf8();
                let message = format!("invalid escape character '\\{other}'");
                self.report(
                    Code::LITERAL,
                    self.cursor.range(at + 1, at + 1 + len),
                    message,
                );
                (None, len)
            }
        }
    }
}
