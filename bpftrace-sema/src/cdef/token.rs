//! Tokens of C.

/// A token and where it starts, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) at: usize,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Word(String),
    Number(i128),
    /// A string literal; only attributes have them.
    Text,
    Punct(&'static str),
}

impl Token {
    pub(super) fn number(value: i128, at: usize) -> Self {
        Self {
            at,
            kind: Kind::Number(value),
        }
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
}

/// Longest first.
const PUNCTS: &[&str] = &[
    "...", "<<", ">>", "&&", "||", "==", "!=", "<=", ">=", "{", "}", "(", ")", "[", "]", ";", ",",
    ":", "*", "=", "+", "-", "/", "%", "&", "|", "^", "~", "!", "<", ">", "?", ".",
];

/// The tokens of a text, comments left out; the offset of what is no token.
pub(super) fn tokenize(text: &str) -> Result<Vec<Token>, usize> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let c = bytes[at];
        if c.is_ascii_whitespace() || c == b'\\' {
            at += 1;
        } else if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if let Some(comment) = rest.strip_prefix("/*") {
            at += comment.find("*/").map_or(rest.len(), |end| end + 4);
        } else if c.is_ascii_alphabetic() || c == b'_' {
            let len = word_len(rest);
            tokens.push(Token {
                at,
                kind: Kind::Word(rest[..len].to_owned()),
            });
            at += len;
        } else if c.is_ascii_digit() {
            let len = word_len(rest);
            let value = number(&rest[..len]).ok_or(at)?;
            tokens.push(Token::number(value, at));
            at += len;
        } else if c == b'"' {
            let end = rest[1..].find('"').ok_or(at)?;
            tokens.push(Token {
                at,
                kind: Kind::Text,
            });
            at += end + 2;
        } else if c == b'\'' {
            let (value, len) = character(rest).ok_or(at)?;
            tokens.push(Token::number(value, at));
            at += len;
        } else if let Some(punct) = PUNCTS.iter().find(|punct| rest.starts_with(**punct)) {
            tokens.push(Token {
                at,
                kind: Kind::Punct(punct),
            });
            at += punct.len();
        } else {
            return Err(at);
        }
    }
    Ok(tokens)
}

fn word_len(text: &str) -> usize {
    text.bytes()
        .take_while(|b| b.is_ascii_alphanumeric() || *b == b'_')
        .count()
}

fn number(text: &str) -> Option<i128> {
    let digits = text.trim_end_matches(['u', 'U', 'l', 'L']);
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

fn character(text: &str) -> Option<(i128, usize)> {
    let bytes = text.as_bytes();
    match bytes.get(1..)? {
        [b'\\', c, b'\'', ..] => {
            let value = match c {
                b'n' => b'\n',
                b't' => b'\t',
                b'0' => 0,
                other => *other,
            };
            Some((i128::from(value), 4))
        }
        [c, b'\'', ..] if *c != b'\\' => Some((i128::from(*c), 3)),
        _ => None,
    }
}
