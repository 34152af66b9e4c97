use serde::{Deserialize, Serialize};

/// An expression of literals and positional parameters: to the user a literal, which is known at start.
/// Operands come before operators, so that no depth of nesting is too deep to read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ParamExpr(pub Vec<ParamStep>);

impl ParamExpr {
    /// How many steps there can be; what is longer is calculated at run time.
    pub const MAX_STEPS: usize = 64;
}

/// A step of a [`ParamExpr`]: puts a value on a stack, or replaces the last ones by what they come to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ParamStep {
    /// A literal, within `int64` or `uint64`.
    Number(i128),
    /// A literal.
    Text(Vec<u8>),
    /// `$index` (from 1): a number if it is one, else text. What is not given is 0.
    Param(u32),
    /// `str($index)`: text, whatever it looks like.
    ParamText(u32),
    /// `$#`.
    Count,
    /// `-x`.
    Neg,
    /// `~x`.
    BitNot,
    /// `x op y`. A text and a number are added as the text without so many bytes at its start.
    Binary(ArithmeticOp),
    /// `str(x, y)`: at most `y` bytes of the text, or of the digits, `x`.
    Cut,
}

/// Operators between two numbers that give a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ArithmeticOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `&`
    BitAnd,
    /// `|`
    BitOr,
    /// `^`
    BitXor,
    /// `<<`
    Shl,
    /// `>>`
    Shr,
}

impl ArithmeticOp {
    /// As scripts write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::BitAnd => "&",
            Self::BitOr => "|",
            Self::BitXor => "^",
            Self::Shl => "<<",
            Self::Shr => ">>",
        }
    }
}
