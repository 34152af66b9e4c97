use bpftrace_meta::{
    ArithmeticOp, AttachText, Manifest, NamedParam, ParamExpr, ParamKind, ParamStep, ParamValue,
    SourceRange, TextPart,
};
use bpftrace_notation::{fold_literals, negate_literal};

use super::Warning;
use crate::error::LoadError;
use crate::number::{NumberError, parse_bool, parse_integer};
use crate::options::RunOptions;

/// The parameters of this invocation.
pub(super) struct Params<'a> {
    positional: &'a [String],
    named: Vec<Bound>,
    /// Positional parameters that were looked for and are not there, to be warned about.
    missing: Vec<u32>,
    pub(super) warnings: Vec<Warning>,
}

/// Value of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    Number(u64),
    Text(Vec<u8>),
}

/// What a part of an expression comes to.
enum Literal {
    /// Within `int64` or `uint64`.
    Number(i128),
    Text(Vec<u8>),
}

impl Literal {
    /// The text, or the digits.
    fn into_text(self) -> Vec<u8> {
        match self {
            Self::Number(number) => number.to_string().into_bytes(),
            Self::Text(text) => text,
        }
    }
}

fn no_number(operator: &str, text: &[u8]) -> LoadError {
    let text = String::from_utf8_lossy(text);
    LoadError::usage(format!(
        "The {operator} operator can not be used on '{text}', which is no integer"
    ))
}

/// An integer with its sign.
fn signed(text: &str) -> Result<i128, NumberError> {
    let number = parse_integer(text)?;
    Ok(if text.starts_with('-') {
        i128::from(number as i64)
    } else {
        i128::from(number)
    })
}

impl<'a> Params<'a> {
    /// Checks the named parameters against those that the script has.
    pub(super) fn new(manifest: &Manifest, options: &'a RunOptions) -> Result<Self, LoadError> {
        let known = &manifest.named_params;
        if options.named.iter().any(|(name, _)| name == "help")
            && !known.iter().any(|param| param.name == "help")
        {
            return Err(LoadError::usage("program command line options").hint(help(known)));
        }
        let unexpected: Vec<String> = options
            .named
            .iter()
            .filter(|(name, _)| !known.iter().any(|param| param.name == *name))
            .map(|(name, _)| format!("--{name}"))
            .collect();
        if !unexpected.is_empty() {
            let names: Vec<String> = known.iter().map(|p| format!("--{}", p.name)).collect();
            let error = LoadError::usage(format!(
                "unexpected program command line options: {}",
                unexpected.join(", ")
            ));
            return Err(if names.is_empty() {
                error
            } else {
                error.hint(format!("expected program options: {}", names.join(": ")))
            });
        }
        let named = known
            .iter()
            .map(|param| {
                // The last one counts.
                let given = options.named.iter().rev().find(|(n, _)| *n == param.name);
                match given {
                    None => Ok(default(&param.default)),
                    Some((_, value)) => parse(param, value.as_deref()),
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            positional: &options.params,
            named,
            missing: Vec::new(),
            warnings: Vec::new(),
        })
    }

    /// `$#`.
    pub(super) fn count(&self) -> u64 {
        self.positional.len() as u64
    }

    fn text(&self, index: u32) -> &'a str {
        (index as usize)
            .checked_sub(1)
            .and_then(|i| self.positional.get(i))
            .map_or("", String::as_str)
    }

    /// `$index`, or nothing; what is not given is told.
    pub(super) fn positional(&mut self, index: u32) -> &'a str {
        self.positional_at(index, SourceRange::default())
    }

    fn positional_at(&mut self, index: u32, place: SourceRange) -> &'a str {
        let text = self.text(index);
        if text.is_empty() && !self.missing.contains(&index) {
            self.missing.push(index);
            let text = format!("Positional parameter ${index} is empty or not provided. ");
            self.warn(place, text);
        }
        text
    }

    fn warn(&mut self, place: SourceRange, text: impl Into<String>) {
        self.warnings.push(Warning {
            text: text.into(),
            place: (place.line > 0).then_some(place),
        });
    }

    /// `$index` as the script uses it.
    pub(super) fn value(
        &mut self,
        index: u32,
        kind: ParamKind,
        place: SourceRange,
    ) -> Result<Bound, LoadError> {
        match kind {
            // As text, a parameter that is not given is simply empty.
            ParamKind::Str => Ok(Bound::Text(self.text(index).as_bytes().to_owned())),
            ParamKind::Int => self.number(index, place).map(|n| Bound::Number(n as u64)),
        }
    }

    /// `$index` as an integer.
    fn number(&mut self, index: u32, place: SourceRange) -> Result<i128, LoadError> {
        let text = self.positional_at(index, place);
        if text.is_empty() {
            return Ok(0);
        }
        signed(text).map_err(|error| {
            LoadError::usage(match error {
                NumberError::Invalid => {
                    format!("positional parameter ${index} is used as an integer: {text}")
                }
                NumberError::OutOfRange => {
                    format!("positional parameter ${index} is out of range: {text}")
                }
            })
            .hint(format!("Use str(${index}) to treat ${index} as a string"))
        })
    }

    /// What an expression of literals and parameters comes to.
    pub(super) fn fold(
        &mut self,
        expr: &ParamExpr,
        kind: ParamKind,
        place: SourceRange,
    ) -> Result<Bound, LoadError> {
        let malformed = || LoadError::usage("the compiled script is malformed: no such expression");
        let overflow = || LoadError::usage("unable to fold literals due to overflow or underflow");
        let mut stack: Vec<Literal> = Vec::new();
        for step in &expr.0 {
            let last = match step {
                ParamStep::Number(number) => Literal::Number(*number),
                ParamStep::Text(text) => Literal::Text(text.clone()),
                ParamStep::Param(index) => {
                    let index = *index;
                    let text = self.text(index);
                    // Words have a meaning where the whole is text.
                    let is_word = matches!(signed(text), Err(NumberError::Invalid));
                    if kind == ParamKind::Str && is_word && !text.is_empty() {
                        Literal::Text(text.into())
                    } else {
                        Literal::Number(self.number(index, place)?)
                    }
                }
                ParamStep::ParamText(index) => Literal::Text(self.text(*index).into()),
                ParamStep::Count => Literal::Number(self.count().into()),
                ParamStep::Neg => match stack.pop().ok_or_else(malformed)? {
                    Literal::Number(number) => Literal::Number(
                        negate_literal(number)
                            .ok_or_else(|| LoadError::usage("negative value will underflow"))?,
                    ),
                    Literal::Text(text) => return Err(no_number("-", &text)),
                },
                ParamStep::BitNot => match stack.pop().ok_or_else(malformed)? {
                    Literal::Number(number) => Literal::Number((!(number as u64)).into()),
                    Literal::Text(text) => return Err(no_number("~", &text)),
                },
                ParamStep::Binary(op) => {
                    let right = stack.pop().ok_or_else(malformed)?;
                    let left = stack.pop().ok_or_else(malformed)?;
                    match (left, right) {
                        (Literal::Number(a), Literal::Number(b)) => {
                            Literal::Number(fold_literals(*op, a, b).ok_or_else(overflow)?)
                        }
                        (Literal::Text(mut a), Literal::Text(b)) if *op == ArithmeticOp::Add => {
                            a.extend(b);
                            Literal::Text(a)
                        }
                        (Literal::Text(text), Literal::Number(skip))
                        | (Literal::Number(skip), Literal::Text(text))
                            if *op == ArithmeticOp::Add && skip >= 0 =>
                        {
                            let skip = usize::try_from(skip).unwrap_or(usize::MAX);
                            if skip >= text.len() {
                                self.warn(place, "literal string will always be empty");
                            }
                            Literal::Text(text.get(skip..).unwrap_or_default().to_vec())
                        }
                        (Literal::Text(text), _) | (_, Literal::Text(text)) => {
                            return Err(no_number(op.as_str(), &text));
                        }
                    }
                }
                ParamStep::Cut => {
                    let len = stack.pop().ok_or_else(malformed)?;
                    let mut text = stack.pop().ok_or_else(malformed)?.into_text();
                    match len {
                        Literal::Number(len) if len < 0 => {
                            return Err(LoadError::usage(
                                "str() cannot use negative length (must be non-negative)",
                            ));
                        }
                        Literal::Number(len) => {
                            text.truncate(usize::try_from(len).unwrap_or(usize::MAX));
                        }
                        Literal::Text(len) => return Err(no_number("str", &len)),
                    }
                    Literal::Text(text)
                }
            };
            stack.push(last);
        }
        match (stack.pop().ok_or_else(malformed)?, kind) {
            (Literal::Number(number), ParamKind::Int) => Ok(Bound::Number(number as u64)),
            (literal, ParamKind::Str) => Ok(Bound::Text(literal.into_text())),
            (Literal::Text(_), ParamKind::Int) => Err(malformed()),
        }
    }

    /// A named parameter, by its index in the manifest.
    pub(super) fn named(&self, index: u32) -> Option<Bound> {
        self.named.get(index as usize).cloned()
    }

    /// A text of an attach point with its parameters filled in.
    pub(super) fn fill(&mut self, text: &AttachText) -> String {
        text.0
            .iter()
            .map(|part| match part {
                TextPart::Literal(text) => text.as_str(),
                TextPart::Param(index) => self.positional(*index),
            })
            .collect()
    }
}

fn default(value: &ParamValue) -> Bound {
    match value {
        ParamValue::Bool(value) => Bound::Number(u64::from(*value)),
        ParamValue::Unsigned(value) => Bound::Number(*value),
        ParamValue::Signed(value) => Bound::Number(*value as u64),
        ParamValue::Str(text) => Bound::Text(text.clone().into_bytes()),
    }
}

fn parse(param: &NamedParam, value: Option<&str>) -> Result<Bound, LoadError> {
    let refuse = |why: &str| {
        LoadError::usage(format!(
            "program command line option --{} {why}{}",
            param.name,
            value.map_or(String::new(), |v| format!(" (value: {v})"))
        ))
    };
    match (&param.default, value) {
        (ParamValue::Bool(_), None) => Ok(Bound::Number(1)),
        (ParamValue::Bool(_), Some(text)) => parse_bool(text)
            .map(|value| Bound::Number(u64::from(value)))
            .ok_or_else(|| refuse("expects a boolean (e.g. 'true')")),
        (ParamValue::Unsigned(_) | ParamValue::Signed(_), None) => {
            Err(refuse("expects an integer"))
        }
        (ParamValue::Unsigned(_), Some(text)) if text.starts_with('-') => {
            Err(refuse(match parse_integer(text) {
                Ok(_) | Err(NumberError::OutOfRange) => "value is out of range",
                Err(NumberError::Invalid) => "invalid integer",
            }))
        }
        (number, Some(text)) if !matches!(number, ParamValue::Str(_)) => {
            let value = parse_integer(text).map_err(|error| {
                refuse(match error {
                    NumberError::Invalid => "invalid integer",
                    NumberError::OutOfRange => "value is out of range",
                })
            })?;
            let too_large = matches!(number, ParamValue::Signed(_))
                && !text.starts_with('-')
                && i64::try_from(value).is_err();
            if too_large {
                return Err(refuse("value is out of range"));
            }
            Ok(Bound::Number(value))
        }
        (_, None) => Err(refuse("expects a string")),
        (_, Some(text)) => Ok(Bound::Text(text.as_bytes().to_owned())),
    }
}

fn help(known: &[NamedParam]) -> String {
    let mut text = "expected program options:".to_owned();
    for param in known {
        text.push_str("\n--");
        text.push_str(&param.name);
        if let Some(description) = &param.description {
            text.push_str(": ");
            text.push_str(description);
        }
    }
    text
}
