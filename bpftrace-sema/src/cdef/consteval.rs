//! Constant expressions of C.

use super::token::{Kind, Token};

/// The value of a whole expression; `None` when it is none. `name` gives values of names.
pub(super) fn evaluate(tokens: &[Token], name: &dyn Fn(&str) -> Option<i128>) -> Option<i128> {
    let mut eval = Eval {
        tokens,
        at: 0,
        name,
        depth: 0,
    };
    let value = eval.ternary()?;
    (eval.at == tokens.len()).then_some(value)
}

struct Eval<'a> {
    tokens: &'a [Token],
    at: usize,
    name: &'a dyn Fn(&str) -> Option<i128>,
    depth: u32,
}

/// Parentheses and prefix operators nest no deeper.
const MAX_DEPTH: u32 = 100;

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

    fn ternary(&mut self) -> Option<i128> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let cond = self.binary(0)?;
        let value = if self.take("?") {
            let then = self.ternary()?;
            if !self.take(":") {
                return None;
            }
            let otherwise = self.ternary()?;
            if cond != 0 { then } else { otherwise }
        } else {
            cond
        };
        self.depth -= 1;
        Some(value)
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
            let right = self.binary(level + 1)?;
            left = apply(sign, left, right)?;
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
                Kind::Number(value) => *value,
                Kind::Word(word) => (self.name)(word)?,
                _ => return None,
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

#[cfg(test)]
mod tests {
    use super::super::token::tokenize;
    use super::evaluate;

    fn value(text: &str) -> Option<i128> {
        evaluate(&tokenize(text).expect("tokens"), &|name| {
            (name == "X").then_some(7)
        })
    }

    #[test]
    fn operators_bind_as_in_c() {
        assert_eq!(value("1 + 2 * 3"), Some(7));
        assert_eq!(value("(1 << 4) | 0x0f"), Some(31));
        assert_eq!(value("X > 5 ? 'a' : -1"), Some(97));
        assert_eq!(value("!0 && ~0 == -1"), Some(1));
    }

    #[test]
    fn what_has_no_value_has_none() {
        assert_eq!(value("1 / 0"), None);
        assert_eq!(value("Y"), None);
        assert_eq!(value("1 +"), None);
        assert_eq!(value("1 << 64"), None);
    }
}
