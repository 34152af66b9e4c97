//! Tokens of C, with their places. Any text has tokens: what is none in C is [`Kind::Other`].

use std::collections::HashSet;
use std::rc::Rc;

use bpftrace_ast::source::{SourceId, Span};

use super::hide::Hidden;

/// A token.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) span: Span,
    pub(super) kind: Kind,
    /// Whether it is the first on its line; a backslash joins lines.
    pub(super) first: bool,
    /// Whether white space or a comment stands before it.
    pub(super) spaced: bool,
    /// Macros that it came out of.
    pub(super) hidden: Hidden,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Word(Rc<str>),
    /// A number as written; not all of them are integers.
    Number(Rc<str>),
    /// A character constant as written.
    Char(Rc<str>),
    /// A string literal as written.
    Text(Rc<str>),
    Punct(&'static str),
    Other(char),
}

impl Token {
    pub(super) fn new(kind: Kind, span: Span) -> Self {
        Self {
            span,
            kind,
            first: false,
            spaced: true,
            hidden: Hidden::NONE,
        }
    }

    pub(super) fn number(value: i128, span: Span) -> Self {
        Self::new(Kind::Number(value.to_string().into()), span)
    }

    pub(super) fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(word) => Some(word),
            _ => None,
        }
    }

    pub(super) fn is_word(&self, word: &str) -> bool {
        self.word() == Some(word)
    }

    pub(super) fn is_punct(&self, punct: &str) -> bool {
        matches!(self.kind, Kind::Punct(p) if p == punct)
    }

    /// The value of a number or character constant.
    pub(super) fn value(&self) -> Option<i128> {
        match &self.kind {
            Kind::Number(text) => number(text),
            Kind::Char(text) => character(text),
            _ => None,
        }
    }

    /// As the source has it.
    pub(super) fn text(&self) -> Rc<str> {
        match &self.kind {
            Kind::Word(text) | Kind::Number(text) | Kind::Char(text) | Kind::Text(text) => {
                Rc::clone(text)
            }
            Kind::Punct(punct) => (*punct).into(),
            Kind::Other(c) => c.to_string().into(),
        }
    }
}

/// Tokens as text, a space where one stood.
pub(super) fn spelled(tokens: &[Token]) -> String {
    let mut out = String::new();
    for token in tokens {
        if token.spaced && !out.is_empty() {
            out.push(' ');
        }
        out.push_str(&token.text());
    }
    out
}

/// Longest first.
const PUNCTS: &[&str] = &[
    "...", "<<=", ">>=", "<<", ">>", "&&", "||", "==", "!=", "<=", ">=", "->", "++", "--", "+=",
    "-=", "*=", "/=", "%=", "&=", "|=", "^=", "##", "{", "}", "(", ")", "[", "]", ";", ",", ":",
    "*", "=", "+", "-", "/", "%", "&", "|", "^", "~", "!", "<", ">", "?", ".", "#",
];

/// Makes tokens; words that occur often are kept once.
#[derive(Debug, Default)]
pub(super) struct Lexer {
    words: HashSet<Rc<str>>,
}

impl Lexer {
    fn intern(&mut self, text: &str) -> Rc<str> {
        if let Some(known) = self.words.get(text) {
            return Rc::clone(known);
        }
        let word: Rc<str> = text.into();
        self.words.insert(Rc::clone(&word));
        word
    }

    /// The tokens of a text that starts at an offset of its source, comments left out. Places do not
    /// go past `limit`.
    pub(super) fn tokens(
        &mut self,
        text: &str,
        source: SourceId,
        offset: u32,
        limit: u32,
    ) -> Vec<Token> {
        let bytes = text.as_bytes();
        let mut tokens = Vec::with_capacity(text.len() / 6);
        let mut at = 0;
        let mut first = true;
        let mut spaced = false;
        while at < bytes.len() {
            let rest = &text[at..];
            let c = bytes[at];
            let start = at;
            let kind = match c {
                b'\n' => {
                    first = true;
                    spaced = true;
                    at += 1;
                    continue;
                }
                b' ' | b'\t' | b'\r' | 0x0b | 0x0c => {
                    spaced = true;
                    at += 1;
                    continue;
                }
                // A line that goes on.
                b'\\'
                    if rest[1..]
                        .trim_start_matches(['\r', ' ', '\t'])
                        .starts_with('\n') =>
                {
                    at += rest.find('\n').map_or(1, |end| end + 1);
                    spaced = true;
                    continue;
                }
                b'/' if rest.starts_with("//") => {
                    at += line_len(rest);
                    spaced = true;
                    continue;
                }
                b'/' if rest.starts_with("/*") => {
                    at += rest[2..].find("*/").map_or(rest.len(), |end| end + 4);
                    spaced = true;
                    continue;
                }
                b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$' => {
                    let len = word_len(rest);
                    at += len;
                    Kind::Word(self.intern(&rest[..len]))
                }
                b'0'..=b'9' => {
                    let len = number_len(rest);
                    at += len;
                    Kind::Number(self.intern(&rest[..len]))
                }
                b'"' | b'\'' => match quoted_len(rest) {
                    Some(len) => {
                        at += len;
                        let text = self.intern(&rest[..len]);
                        if c == b'"' {
                            Kind::Text(text)
                        } else {
                            Kind::Char(text)
                        }
                    }
                    None => {
                        at += 1;
                        Kind::Other(char::from(c))
                    }
                },
                _ => match PUNCTS.iter().find(|punct| rest.starts_with(**punct)) {
                    Some(punct) => {
                        at += punct.len();
                        Kind::Punct(punct)
                    }
                    None => {
                        let c = rest.chars().next().unwrap_or(' ');
                        at += c.len_utf8();
                        Kind::Other(c)
                    }
                },
            };
            let place = |at: usize| {
                offset
                    .saturating_add(u32::try_from(at).unwrap_or(u32::MAX))
                    .min(limit)
            };
            tokens.push(Token {
                span: Span::new(source, place(start), place(at)),
                kind,
                first,
                spaced,
                hidden: Hidden::NONE,
            });
            first = false;
            spaced = false;
        }
        tokens
    }
}

/// Length up to the end of the line, joined lines included.
fn line_len(text: &str) -> usize {
    let mut from = 0;
    while let Some(end) = text[from..].find('\n') {
        let line = text[..from + end].trim_end_matches('\r');
        if !line.ends_with('\\') {
            return from + end;
        }
        from += end + 1;
    }
    text.len()
}

fn word_len(text: &str) -> usize {
    text.bytes()
        .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$'))
        .count()
}

/// A preprocessing number: signs belong to it behind an exponent.
fn number_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let is_hex = text.starts_with("0x") || text.starts_with("0X");
    let mut len = 0;
    while len < bytes.len() {
        let exponent = match bytes[len.saturating_sub(1)] {
            b'e' | b'E' => !is_hex && len > 0,
            b'p' | b'P' => len > 0,
            _ => false,
        };
        let belongs = match bytes[len] {
            b'+' | b'-' => exponent,
            c => c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.'),
        };
        if !belongs {
            break;
        }
        len += 1;
    }
    len
}

/// Length of a string or character constant, which ends on its line.
fn quoted_len(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'\n' => return None,
            c if c == bytes[0] => return Some(at + 1),
            _ => at += 1,
        }
    }
    None
}

fn number(text: &str) -> Option<i128> {
    let digits = text.trim_end_matches(['u', 'U', 'l', 'L']);
    if text.len() - digits.len() > 3 {
        return None;
    }
    let (digits, radix) = if let Some(hex) = digits.strip_prefix("0x").or(digits.strip_prefix("0X"))
    {
        (hex, 16)
    } else if let Some(binary) = digits.strip_prefix("0b").or(digits.strip_prefix("0B")) {
        (binary, 2)
    } else if digits.len() > 1 && digits.starts_with('0') {
        (&digits[1..], 8)
    } else {
        (digits, 10)
    };
    u64::from_str_radix(digits, radix).ok().map(i128::from)
}

fn character(text: &str) -> Option<i128> {
    let inner = text.strip_prefix('\'')?.strip_suffix('\'')?;
    let mut bytes = inner.bytes();
    let value = match bytes.next()? {
        b'\\' => match bytes.next()? {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'a' => 7,
            b'b' => 8,
            b'f' => 12,
            b'v' => 11,
            b'x' => {
                let digits: String = bytes.by_ref().map(char::from).collect();
                u8::from_str_radix(&digits, 16).ok()?
            }
            c @ b'0'..=b'7' => {
                let digits: String = std::iter::once(c)
                    .chain(bytes.by_ref())
                    .map(char::from)
                    .collect();
                u8::from_str_radix(&digits, 8).ok()?
            }
            c @ (b'\\' | b'\'' | b'"' | b'?') => c,
            _ => return None,
        },
        c => c,
    };
    // `char` has a sign.
    bytes
        .next()
        .is_none()
        .then_some(i128::from(value.cast_signed()))
}

#[cfg(test)]
mod tests {
    use bpftrace_ast::source::SourceMap;

    use super::{Kind, Lexer, Token, spelled};

    fn tokens(text: &str) -> Vec<Token> {
        let source = SourceMap::new().add("t.h", text);
        Lexer::default().tokens(text, source, 0, u32::MAX)
    }

    #[test]
    fn tokens_are_what_c_has() {
        let found: Vec<String> = tokens("a+=0x1fUL/*c*/b//d\\\n e\n->'\\n'\"x\\\"y\"1.5e+3 @")
            .iter()
            .map(|t| t.text().to_string())
            .collect();
        let expected = [
            "a",
            "+=",
            "0x1fUL",
            "b",
            "->",
            "'\\n'",
            "\"x\\\"y\"",
            "1.5e+3",
            "@",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn constants_have_values() {
        for (text, value) in [
            ("0x1fUL", Some(31)),
            ("017", Some(15)),
            ("0b101", Some(5)),
            ("18446744073709551615ull", Some(u64::MAX.into())),
            ("'a'", Some(97)),
            ("'\\n'", Some(10)),
            ("'\\x41'", Some(65)),
            ("'\\377'", Some(-1)),
            ("1.5", None),
            ("08", None),
            ("''", None),
        ] {
            assert_eq!(tokens(text)[0].value(), value, "{text}");
        }
    }

    #[test]
    fn lines_are_known_and_a_backslash_joins_them() {
        let found = tokens("a b\\\n c\nd 'e");
        let first: Vec<bool> = found.iter().map(|t| t.first).collect();
        assert_eq!(first, [true, false, false, true, false, false]);
        assert_eq!(found[4].kind, Kind::Other('\''));
        assert_eq!(spelled(&found[..3]), "a b c");
    }
}
