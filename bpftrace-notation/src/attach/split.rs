//! From the raw text of an attach point to its parts.

use super::{AttachPoint, Piece, Text};

impl AttachPoint {
    /// Splits the text of an attach point. Positional parameters become holes. The texts say what is
    /// wrong with it.
    #[must_use]
    pub fn parse(raw: &str) -> (AttachPoint, Vec<String>) {
        let mut splitter = Splitter {
            pieces: Vec::new(),
            parts: Vec::new(),
            wrong: Vec::new(),
        };
        splitter.split(raw);
        let mut parts = splitter.parts.into_iter();
        let mut provider = parts.next().unwrap_or_default();
        let name = take_name(&mut provider);
        let attach_point = AttachPoint {
            raw: raw.to_owned(),
            name,
            provider,
            parts: parts.collect(),
        };
        (attach_point, splitter.wrong)
    }

    /// The attach point with its holes filled. What a parameter brings is read like text of the script: it may hold
    /// separators, quotes and further parameters. Parameters that are not given are empty.
    pub fn fill(&self, param: &mut dyn FnMut(u64) -> String) -> (AttachPoint, Vec<String>) {
        /// Parameters may name each other; this many replacements are enough for any sensible use.
        const MAX_REPLACEMENTS: usize = 64;
        let mut raw = self.raw.clone();
        for _ in 0..MAX_REPLACEMENTS {
            let Some((start, end, number)) = first_param(&raw) else {
                break;
            };
            raw.replace_range(start..end, &param(number));
        }
        AttachPoint::parse(&raw)
    }
}

/// The first `$N` outside quotes, as offsets and number.
fn first_param(raw: &str) -> Option<(usize, usize, u64)> {
    let mut in_quotes = false;
    let mut characters = raw.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => in_quotes = !in_quotes,
            '\\' if in_quotes => {
                characters.next();
            }
            '$' if !in_quotes => {
                let n_digits = n_param_digits(&raw[at + 1..]);
                if n_digits > 0 {
                    let end = at + 1 + n_digits;
                    return raw[at + 1..end]
                        .parse()
                        .ok()
                        .map(|number| (at, end, number));
                }
            }
            _ => {}
        }
    }
    None
}

/// How many digits of a parameter's number follow `$`; the number does not start with 0.
fn n_param_digits(after_dollar: &str) -> usize {
    if after_dollar.starts_with('0') {
        return 0;
    }
    after_dollar.bytes().take_while(u8::is_ascii_digit).count()
}

struct Splitter {
    pieces: Vec<Piece>,
    parts: Vec<Text>,
    wrong: Vec<String>,
}

impl Splitter {
    fn split(&mut self, raw: &str) {
        let mut in_quotes = false;
        let mut characters = raw.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                ':' | '@' if !in_quotes => {
                    self.end_part();
                    if character == '@' {
                        self.push('@');
                        self.end_part();
                    }
                }
                '"' => in_quotes = !in_quotes,
                '\\' if in_quotes => {
                    if let Some((_, escaped)) = characters.next() {
                        self.push(escaped);
                    }
                }
                '$' if !in_quotes => {
                    let n_digits = n_param_digits(&raw[at + 1..]);
                    self.param(&raw[at..], n_digits);
                    for _ in 0..n_digits {
                        characters.next();
                    }
                }
                _ => self.push(character),
            }
        }
        self.end_part();
    }

    /// `text` starts at the `$`.
    fn param(&mut self, text: &str, n_digits: usize) {
        let message = match text[1..].chars().next() {
            _ if n_digits > 0 => match text[1..=n_digits].parse() {
                Ok(number) => return self.pieces.push(Piece::Param(number)),
                Err(_) => format!(
                    "positional parameter is not valid: overflow error, maximum value is {}: {}",
                    u64::MAX,
                    &text[1..=n_digits]
                ),
            },
            Some(trailing) => format!(
                "invalid trailing character for positional param: {trailing}. Try quoting this entire part if this \
                 is intentional e.g. \"${trailing}\"."
            ),
            None => "positional parameter is not valid: invalid integer: ".to_owned(),
        };
        self.wrong.push(message);
    }

    fn push(&mut self, character: char) {
        match self.pieces.last_mut() {
            Some(Piece::Literal(text)) => text.push(character),
            _ => self.pieces.push(Piece::Literal(character.to_string())),
        }
    }

    fn end_part(&mut self) {
        self.parts.push(Text {
            pieces: std::mem::take(&mut self.pieces),
        });
    }
}

/// Splits `name=` off the first part, if something follows the `=`.
fn take_name(first: &mut Text) -> Option<String> {
    let has_more = first.pieces.len() > 1;
    let Some(Piece::Literal(text)) = first.pieces.first_mut() else {
        return None;
    };
    let (name, provider) = text.split_once('=')?;
    if provider.is_empty() && !has_more {
        return None;
    }
    let name = name.to_owned();
    *text = provider.to_owned();
    if text.is_empty() {
        first.pieces.remove(0);
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ProviderName;
    use bpftrace_meta::ProviderKind;

    fn split(raw: &str) -> (AttachPoint, Vec<String>) {
        AttachPoint::parse(raw)
    }

    fn parts(raw: &str) -> Vec<String> {
        split(raw).0.parts.iter().map(Text::to_display).collect()
    }

    #[test]
    fn colons_split_outside_quotes_only_and_at_is_a_part() {
        assert_eq!(parts("uprobe:/bin/a:f"), ["/bin/a", "f"]);
        assert_eq!(parts(r#"uprobe:"/bin/a:b@c":f"#), ["/bin/a:b@c", "f"]);
        assert_eq!(parts(r#"usdt:a:"x\"\y""#), ["a", "x\"y"]);
        assert_eq!(
            parts("uprobe:/bin/a@x.c:12:3"),
            ["/bin/a", "@", "x.c", "12", "3"]
        );
        assert_eq!(parts("begin"), Vec::<String>::new());
        assert_eq!(parts("begin:"), [""]);
    }

    #[test]
    fn the_first_part_may_carry_a_name() {
        let (attach_point, _) = split("mine=KProbe:f");
        assert_eq!(attach_point.name.as_deref(), Some("mine"));
        assert_eq!(
            attach_point.provider_name(),
            ProviderName::Known(ProviderKind::Kprobe)
        );
        assert_eq!(split("mine=:f").0.name, None);
        assert_eq!(split("mine=$1:f").0.provider_name(), ProviderName::Hole);
        assert_eq!(split("k*:f").0.provider_name(), ProviderName::Wildcard);
        assert_eq!(split("nothing:f").0.provider_name(), ProviderName::Unknown);
    }

    #[test]
    fn parameters_are_holes_outside_quotes() {
        let (attach_point, diagnostics) = split(r#"kprobe:a$12b:"$1""#);
        assert!(diagnostics.is_empty());
        assert_eq!(
            attach_point.parts[0].pieces,
            [
                Piece::Literal("a".into()),
                Piece::Param(12),
                Piece::Literal("b".into())
            ]
        );
        assert_eq!(attach_point.parts[1].as_str(), Some("$1"));
    }

    #[test]
    fn a_dollar_without_number_is_reported() {
        for (raw, message) in [
            (
                "usdt:a$b:c",
                "invalid trailing character for positional param: b. Try quoting this entire part if this is \
                 intentional e.g. \"$b\".",
            ),
            (
                "kprobe:$",
                "positional parameter is not valid: invalid integer: ",
            ),
        ] {
            assert_eq!(split(raw).1, [message]);
        }
    }

    #[test]
    fn filling_reads_what_it_brings() {
        let (attach_point, _) = split("$1:$2");
        let (filled, diagnostics) = attach_point.fill(&mut |number| match number {
            1 => "uprobe:/bin/$3".into(),
            3 => "sh".into(),
            _ => String::new(),
        });
        assert!(diagnostics.is_empty());
        assert_eq!(filled.raw, "uprobe:/bin/sh:");
        assert_eq!(
            filled.provider_name(),
            ProviderName::Known(ProviderKind::Uprobe)
        );
        assert_eq!(filled.parts.len(), 2);
    }
}
