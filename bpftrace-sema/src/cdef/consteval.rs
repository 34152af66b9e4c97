//! Constant expressions of C.

use super::token::{Kind, Token};

/// What names stand for in a constant expression.
pub(super) trait Names {
    /// The value of a name.
    fn value(&mut self, name: &str) -> Option<i128>;

    /// The size in bytes of a type, and whether it is a signed integer: the operand of `sizeof` and of
    /// casts.
    fn type_of(&mut self, tokens: &[Token]) -> Option<(u64, bool)>;

    /// Whether a type can start with a token.
    fn starts_type(&self, token: &Token) -> bool;
}

/// The value of a whole expression; `None` when it is none.
pub(super) fn evaluate(tokens: &[Token], names: &mut dyn Names) -> Option<i128> {
    let mut eval = Eval {
        tokens,
        at: 0,
        names,
        depth: 0,
        dead: 0,
    };
    let value = eval.ternary()?;
    (eval.at == tokens.len()).then_some(value)
}

struct Eval<'a> {
    tokens: &'a [Token],
    at: usize,
    names: &'a mut dyn Names,
    depth: u32,
    /// Operands that do not count, as the right one of `0 && x`, are being read.
    dead: u32,
}

/// Parentheses and prefix operators nest no deeper.
const MAX_DEPTH: u32 = 50;

const LEVELS: &[&[&str]] = &[
    &["||"],
    &["&&"],
    &["|"],
    &["^"],
    &["&"],
    &["==", "!="],
    &["<", ">", "<=", ">="],
    &["<<", ">>"],
    &["+", "-"],
    &["*", "/", "%"],
];

impl Eval<'_> {
    fn take(&mut self, punct: &str) -> bool {
        let found = self
            .tokens
            .get(self.at)
            .is_some_and(|token| token.is_punct(punct));
        self.at += usize::from(found);
        found
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self
            .tokens
            .get(self.at)
            .is_some_and(|token| token.is_word(word));
        self.at += usize::from(found);
        found
    }

    /// Whether a type in parentheses follows.
    fn at_cast(&self) -> bool {
        match &self.tokens[self.at.min(self.tokens.len())..] {
            [open, first, ..] => open.is_punct("(") && self.names.starts_type(first),
            _ => false,
        }
    }

    fn type_in_parentheses(&mut self) -> Option<(u64, bool)> {
        if !self.at_cast() {
            return None;
        }
        let mut open = 0u32;
        let len = self.tokens[self.at..].iter().position(|token| {
            if token.is_punct("(") {
                open += 1;
            } else if token.is_punct(")") {
                open -= 1;
            }
            open == 0
        })?;
        let inner = &self.tokens[self.at + 1..self.at + len];
        self.at += len + 1;
        self.names.type_of(inner)
    }

    fn ternary(&mut self) -> Option<i128> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let cond = self.binary(0)?;
        let value = if self.take("?") {
            let then = self.operand(cond != 0, Self::ternary)?;
            if !self.take(":") {
                return None;
            }
            let otherwise = self.operand(cond == 0, Self::ternary)?;
            if cond != 0 { then } else { otherwise }
        } else {
            cond
        };
        self.depth -= 1;
        Some(value)
    }

    /// An operand that counts only if the one before it says so.
    fn operand(
        &mut self,
        counts: bool,
        read: impl FnOnce(&mut Self) -> Option<i128>,
    ) -> Option<i128> {
        self.dead += u32::from(!counts);
        let value = read(self);
        self.dead -= u32::from(!counts);
        value
    }

    fn binary(&mut self, level: usize) -> Option<i128> {
        let Some(signs) = LEVELS.get(level) else {
            return self.unary();
        };
        let mut left = self.binary(level + 1)?;
        loop {
            let Some(sign) = self.tokens.get(self.at).and_then(|token| match token.kind {
                Kind::Punct(p) if signs.contains(&p) => Some(p),
                _ => None,
            }) else {
                return Some(left);
            };
            self.at += 1;
            let counts = match sign {
                "&&" => left != 0,
                "||" => left == 0,
                _ => true,
            };
            let right = self.operand(counts, |eval| eval.binary(level + 1))?;
            let value = apply(sign, left, right);
            left = value.or((self.dead > 0).then_some(0))?;
        }
    }

    fn unary(&mut self) -> Option<i128> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let value = if self.take("-") {
            self.unary()?.checked_neg()?
        } else if self.take("+") {
            self.unary()?
        } else if self.take("~") {
            !self.unary()?
        } else if self.take("!") {
            i128::from(self.unary()? == 0)
        } else if self.take_word("sizeof") {
            i128::from(self.type_in_parentheses()?.0)
        } else if self.at_cast() {
            let (size, signed) = self.type_in_parentheses()?;
            truncated(self.unary()?, size, signed)?
        } else if self.take("(") {
            let value = self.ternary()?;
            if !self.take(")") {
                return None;
            }
            value
        } else {
            let token = self.tokens.get(self.at)?;
            self.at += 1;
            match &token.kind {
                Kind::Word(word) => self.names.value(word)?,
                _ => token.value()?,
            }
        };
        self.depth -= 1;
        Some(value)
    }
}

fn apply(sign: &str, a: i128, b: i128) -> Option<i128> {
    let shift = || u32::try_from(b).ok().filter(|b| *b < 64);
    let value = match sign {
        "||" => i128::from(a != 0 || b != 0),
        "&&" => i128::from(a != 0 && b != 0),
        "|" => a | b,
        "^" => a ^ b,
        "&" => a & b,
        "==" => i128::from(a == b),
        "!=" => i128::from(a != b),
        "<" => i128::from(a < b),
        ">" => i128::from(a > b),
        "<=" => i128::from(a <= b),
        ">=" => i128::from(a >= b),
        "<<" => a.checked_shl(shift()?)?,
        ">>" => a >> shift()?,
        "+" => a.checked_add(b)?,
        "-" => a.checked_sub(b)?,
        "*" => a.checked_mul(b)?,
        "/" => a.checked_div(b)?,
        _ => a.checked_rem(b)?,
    };
    // What fits neither `long` nor `unsigned long` is of no use.
    (i128::from(i64::MIN)..=i128::from(u64::MAX))
        .contains(&value)
        .then_some(value)
}

/// A value as an integer of so many bytes.
fn truncated(value: i128, size: u64, signed: bool) -> Option<i128> {
    let bits = size.checked_mul(8).filter(|bits| (8..=64).contains(bits))?;
    let low = value & ((1i128 << bits) - 1);
    Some(if signed && low >> (bits - 1) != 0 {
        low - (1i128 << bits)
    } else {
        low
    })
}

#[cfg(test)]
mod tests {
    use bpftrace_ast::source::SourceMap;

    use super::super::token::{Lexer, Token};
    use super::{Names, evaluate};

    struct Fixture;

    impl Names for Fixture {
        fn value(&mut self, name: &str) -> Option<i128> {
            (name == "X").then_some(7)
        }

        fn type_of(&mut self, tokens: &[Token]) -> Option<(u64, bool)> {
            match tokens {
                [only] if only.is_word("int") => Some((4, true)),
                [only] if only.is_word("u8") => Some((1, false)),
                _ => None,
            }
        }

        fn starts_type(&self, token: &Token) -> bool {
            token.is_word("int") || token.is_word("u8")
        }
    }

    fn value(text: &str) -> Option<i128> {
        let source = SourceMap::new().add("t.h", text);
        let tokens = Lexer::default().tokens(text, source, 0, u32::MAX);
        evaluate(&tokens, &mut Fixture)
    }

    #[test]
    fn operators_bind_as_in_c() {
        assert_eq!(value("1 + 2 * 3"), Some(7));
        assert_eq!(value("(1 << 4) | 0x0f"), Some(31));
        assert_eq!(value("X > 5 ? 'a' : -1"), Some(97));
        assert_eq!(value("!0 && ~0 == -1"), Some(1));
        assert_eq!(value("0 && 1 / 0 || (1 ? 2 : 3 % 0)"), Some(1));
    }

    #[test]
    fn types_have_sizes_and_casts_truncate() {
        assert_eq!(value("sizeof(int) * 2"), Some(8));
        assert_eq!(value("(u8)257 + (int)0xffffffff"), Some(0));
        assert_eq!(value("sizeof(long)"), None);
    }

    #[test]
    fn what_has_no_value_has_none() {
        assert_eq!(value("1 / 0"), None);
        assert_eq!(value("Y"), None);
        assert_eq!(value("1 +"), None);
        assert_eq!(value("1 << 64"), None);
        assert_eq!(value("sizeof"), None);
        assert_eq!(value(&"(".repeat(100_000)), None);
    }
}
