//! Tokens, one at a time, from any position.
//!
//! There is no token stream: what a piece of text means depends on where it stands (attach points and C definitions
//! are raw text), so the parser asks for the token at a position. Token kinds are told apart here, values are
//! worked out by the parser, which can report what is wrong with them.

use nom::branch::alt;
use nom::bytes::complete::{tag, take_till, take_until, take_while, take_while1};
use nom::character::complete::{anychar, satisfy};
use nom::combinator::{eof, map, opt, peek, recognize, rest, value};
use nom::multi::many0_count;
use nom::sequence::{pair, preceded, terminated};
use nom::{IResult, Parser};

use crate::integer;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// A name or keyword.
    Ident,
    /// Starts with a digit.
    Integer,
    /// `"..."`; without its closing quote where the line or the text ends first.
    String,
    /// `$name`.
    Variable,
    /// `@name` or `@`.
    Map,
    /// `$digits`.
    Param,
    /// `$#`.
    ParamCount,
    /// Operators and brackets.
    Punct(&'static str),
    /// A character that starts no token.
    Unknown,
    /// The end of the text.
    Eof,
}

/// A token and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    /// Byte offset of its first byte, after all layout.
    pub(crate) start: usize,
    /// Byte offset one past its last byte.
    pub(crate) end: usize,
}

impl Token {
    pub(crate) fn is(&self, punct: &str) -> bool {
        matches!(self.kind, TokenKind::Punct(own) if own == punct)
    }
}

/// All operators and brackets; longer ones come before their own beginnings.
const PUNCTUATION: &[&str] = &[
    "<<=", ">>=", "++", "--", "->", "..", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "+=",
    "-=", "*=", "/=", "%=", "&=", "|=", "^=", "{", "}", "(", ")", "[", "]", ",", ";", ":", "?",
    ".", "=", "<", ">", "+", "-", "*", "/", "%", "&", "|", "^", "!", "~",
];

pub(crate) fn is_ident_start(character: char) -> bool {
    character.is_ascii_alphabetic() || character == '_'
}

pub(crate) fn is_ident_body(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// White space between tokens.
pub(crate) fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

/// The first token at or after a position.
pub(crate) fn token_at(text: &str, pos: usize) -> Token {
    let start = pos + layout_len(&text[pos..]);
    let (kind, len) = match token(&text[start..]) {
        Ok((left, kind)) => (kind, text.len() - start - left.len()),
        Err(_) => (TokenKind::Eof, 0),
    };
    Token {
        kind,
        start,
        end: start + len,
    }
}

/// How many bytes of layout (white space and comments) the text starts with.
pub(crate) fn layout_len(text: &str) -> usize {
    let parsed: IResult<&str, &str> = recognize(many0_count(alt((spaces, comment)))).parse(text);
    parsed.map_or(0, |(_, layout)| layout.len())
}

/// The comments in a stretch of layout, as offsets into it.
pub(crate) fn comments(layout: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut left = layout;
    while !left.is_empty() {
        let start = layout.len() - left.len();
        if let Ok((after, text)) = comment(left) {
            found.push((start, start + text.len()));
            left = after;
        } else if let Ok((after, _)) = spaces(left) {
            left = after;
        } else {
            break;
        }
    }
    found
}

fn spaces(input: &str) -> IResult<&str, &str> {
    take_while1(is_space).parse(input)
}

/// A line comment without its line end, or a block comment; one that is never closed runs to the end of the text.
pub(crate) fn comment(input: &str) -> IResult<&str, &str> {
    alt((
        recognize(pair(tag("//"), take_till(|c| c == '\n'))),
        recognize(preceded(
            tag("/*"),
            alt((terminated(take_until("*/"), tag("*/")), rest)),
        )),
    ))
    .parse(input)
}

fn token(input: &str) -> IResult<&str, TokenKind> {
    alt((
        value(TokenKind::Ident, identifier),
        map(integer::literal, |_| TokenKind::Integer),
        value(TokenKind::String, string),
        preceded(
            tag("$"),
            alt((
                value(TokenKind::Variable, identifier),
                value(TokenKind::Param, take_while1(|c: char| c.is_ascii_digit())),
                value(TokenKind::ParamCount, tag("#")),
            )),
        ),
        value(TokenKind::Map, pair(tag("@"), opt(identifier))),
        punct,
        value(TokenKind::Unknown, anychar),
    ))
    .parse(input)
}

fn identifier(input: &str) -> IResult<&str, &str> {
    recognize(pair(satisfy(is_ident_start), take_while(is_ident_body))).parse(input)
}

fn string(input: &str) -> IResult<&str, &str> {
    recognize((
        tag("\""),
        many0_count(alt((
            take_while1(|c| !matches!(c, '"' | '\\' | '\n')),
            recognize(pair(tag("\\"), satisfy(|c| c != '\n'))),
            recognize(terminated(tag("\\"), peek(alt((tag("\n"), eof))))),
        ))),
        opt(tag("\"")),
    ))
    .parse(input)
}

fn punct(input: &str) -> IResult<&str, TokenKind> {
    match PUNCTUATION.iter().find(|punct| input.starts_with(**punct)) {
        Some(punct) => Ok((&input[punct.len()..], TokenKind::Punct(punct))),
        None => Err(nom::Err::Error(nom::error::Error::new(
            input,
            nom::error::ErrorKind::Tag,
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<(TokenKind, &str)> {
        let mut found = Vec::new();
        let mut pos = 0;
        loop {
            let token = token_at(text, pos);
            if token.kind == TokenKind::Eof {
                return found;
            }
            found.push((token.kind, &text[token.start..token.end]));
            pos = token.end;
        }
    }

    #[test]
    fn longest_operator_wins() {
        let texts: Vec<&str> = tokens("$a<<=1>>2->x...--")
            .into_iter()
            .map(|(_, text)| text)
            .collect();
        assert_eq!(
            texts,
            ["$a", "<<=", "1", ">>", "2", "->", "x", "..", ".", "--"]
        );
    }

    #[test]
    fn sigils_and_names_are_one_token() {
        use TokenKind::*;
        assert_eq!(
            tokens("$x $12 $# @m @ $ é"),
            [
                (Variable, "$x"),
                (Param, "$12"),
                (ParamCount, "$#"),
                (Map, "@m"),
                (Map, "@"),
                (Unknown, "$"),
                (Unknown, "é")
            ]
        );
    }

    #[test]
    fn layout_is_skipped_even_if_a_comment_never_ends() {
        assert_eq!(
            tokens("a // b\n/* c */ d /* e"),
            [(TokenKind::Ident, "a"), (TokenKind::Ident, "d")]
        );
        assert_eq!(comments(" // b\n/* c */\t"), [(1, 5), (6, 13)]);
    }

    #[test]
    fn strings_end_at_quote_line_end_or_text_end() {
        for (text, len) in [
            (r#""a\"b" c"#, 6),
            ("\"a\nb\"", 2),
            ("\"abc", 4),
            ("\"a\\", 3),
            ("\"a\\\nb", 3),
            ("\"é\\é\" x", 7),
        ] {
            let token = token_at(text, 0);
            assert_eq!((token.kind, token.end), (TokenKind::String, len), "{text}");
        }
    }

    #[test]
    fn integers_take_letters_glued_on_and_leave_dots() {
        let texts: Vec<&str> = tokens("5ms 12ab 0x1fu 1..2 1e6")
            .into_iter()
            .map(|(_, text)| text)
            .collect();
        assert_eq!(texts, ["5ms", "12ab", "0x1f", "u", "1", "..", "2", "1e6"]);
    }
}
