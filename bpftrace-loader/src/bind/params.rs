use bpftrace_meta::{AttachText, Manifest, NamedParam, ParamKind, ParamValue, TextPart};

use crate::error::LoadError;
use crate::number::{NumberError, parse_bool, parse_integer};
use crate::options::RunOptions;

/// The parameters of this invocation.
pub(super) struct Params<'a> {
    positional: &'a [String],
    named: Vec<Bound>,
    /// Positional parameters that were looked for and are not there, to be warned about.
    pub(super) missing: Vec<u32>,
}

/// Value of a named parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    Number(u64),
    Text(String),
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

    /// `$index`, or nothing; what is not given is remembered.
    pub(super) fn positional(&mut self, index: u32) -> &'a str {
        let text = self.text(index);
        if text.is_empty() && !self.missing.contains(&index) {
            self.missing.push(index);
        }
        text
    }

    /// `$index` as the script uses it.
    pub(super) fn value(&mut self, index: u32, kind: ParamKind) -> Result<Bound, LoadError> {
        // As text, a parameter that is not given is simply empty.
        let text = match kind {
            ParamKind::Int => self.positional(index),
            ParamKind::Str | ParamKind::StrFrom(_) => self.text(index),
        };
        match kind {
            ParamKind::Str => Ok(Bound::Text(text.to_owned())),
            ParamKind::StrFrom(skip) => {
                let bytes = text.as_bytes().get(skip as usize..).unwrap_or_default();
                Ok(Bound::Text(String::from_utf8_lossy(bytes).into_owned()))
            }
            ParamKind::Int if text.is_empty() => Ok(Bound::Number(0)),
            ParamKind::Int => parse_integer(text).map(Bound::Number).map_err(|error| {
                LoadError::usage(match error {
                    NumberError::Invalid => {
                        format!("positional parameter ${index} is used as an integer: {text}")
                    }
                    NumberError::OutOfRange => {
                        format!("positional parameter ${index} is out of range: {text}")
                    }
                })
                .hint(format!("Use str(${index}) to treat ${index} as a string"))
            }),
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
        ParamValue::Str(text) => Bound::Text(text.clone()),
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
        (_, Some(text)) => Ok(Bound::Text(text.to_owned())),
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
