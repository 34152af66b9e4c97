//! Compares what a case printed with what it should have printed.
//!
//! An expectation is the whole text, line by line. Within a line, `{{int}}`, `{{uint}}` and
//! `{{hex}}` stand for numbers, `{{name:regex}}` for what the expression matches, and a later
//! `{{name}}` for the same text again. `{{pid}}` is the process id of the case's background line.
//! A line `...` stands for any number of lines.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use regex::Regex;

use super::case::Case;
use crate::guest::protocol::Outcome;

/// Stands for any number of lines.
const GAP: &str = "...";

type Names = BTreeMap<String, String>;

/// A part of a line of a pattern.
#[derive(Debug, PartialEq)]
enum Part<'a> {
    Text(&'a str),
    /// A regular expression, whose match may get a name.
    Expression(&'a str, Option<&'a str>),
    /// What that name stands for.
    Name(&'a str),
}

/// Whether the case passed; otherwise what was wrong, with everything that was printed.
pub(crate) fn judge(case: &Case, outcome: &Outcome) -> Result<(), String> {
    let mut names = Names::new();
    if let Some(pid) = outcome.pid {
        names.insert("pid".to_owned(), pid.to_string());
    }
    let mut wrong = Vec::new();
    if outcome.timed_out {
        wrong.push(format!("not finished after {} s", case.timeout));
    } else if outcome.status != case.exit {
        wrong.push(format!("exit status {}, not {}", outcome.status, case.exit));
    }
    let stdout = if case.any_order {
        compare_any_order(&case.stdout, &outcome.stdout, &mut names)
    } else {
        compare(&case.stdout, &outcome.stdout, &mut names)
    };
    wrong.extend(stdout.err().map(|why| format!("standard output: {why}")));
    let stderr = without_attached(&case.stderr, &outcome.stderr);
    let stderr = compare(&case.stderr, &stderr, &mut names);
    wrong.extend(stderr.err().map(|why| format!("standard error: {why}")));
    if case.stimulus.is_some() && !outcome.attached {
        wrong.push("the stimulus was not run: probes were never said to be attached".to_owned());
    }
    if wrong.is_empty() {
        return Ok(());
    }
    for (what, text) in [
        ("standard output", &outcome.stdout),
        ("standard error", &outcome.stderr),
        ("the stimulus", &outcome.stimulus),
    ] {
        if !text.is_empty() {
            wrong.push(format!("--- {what} ---\n{}", text.trim_end_matches('\n')));
        }
    }
    Err(wrong.join("\n"))
}

/// Whether a pattern is well formed: its expressions compile and its names are known.
pub(crate) fn check_pattern(pattern: &str) -> Result<()> {
    let mut names = Names::from([("pid".to_owned(), "1".to_owned())]);
    for line in pattern.lines() {
        for part in parts(line).with_context(|| format!("in the pattern {line:?}"))? {
            match part {
                Part::Text(_) => {}
                Part::Expression(text, name) => {
                    Regex::new(text).with_context(|| format!("in the pattern {line:?}"))?;
                    if let Some(name) = name {
                        names.insert(name.to_owned(), String::new());
                    }
                }
                Part::Name(name) if names.contains_key(name) => {}
                Part::Name(name) => bail!("{{{{{name}}}}} has no meaning yet in {line:?}"),
            }
        }
    }
    Ok(())
}

fn compare(pattern: &str, text: &str, names: &mut Names) -> Result<(), String> {
    let pattern: Vec<&str> = pattern.split('\n').collect();
    let text: Vec<&str> = text.split('\n').collect();
    let mut furthest = 0;
    if match_lines(&pattern, &text, names, 0, &mut furthest) {
        return Ok(());
    }
    let show = |lines: &[&str], at: usize| match lines.get(at) {
        Some(line) if at + 1 == lines.len() && line.is_empty() => "the end".to_owned(),
        Some(line) => format!("{line:?}"),
        None => "the end".to_owned(),
    };
    Err(if pattern.contains(&GAP) {
        format!(
            "does not match from line {}: {}",
            furthest + 1,
            show(&text, furthest)
        )
    } else {
        format!(
            "line {} is {}, not {}",
            furthest + 1,
            show(&text, furthest),
            show(&pattern, furthest)
        )
    })
}

/// `at`: how many lines of the text are matched already; `furthest`: the most that ever were.
fn match_lines(
    pattern: &[&str],
    text: &[&str],
    names: &mut Names,
    at: usize,
    furthest: &mut usize,
) -> bool {
    *furthest = (*furthest).max(at);
    match pattern {
        [] => text.len() == at,
        [GAP, rest @ ..] => (at..=text.len()).any(|skip| {
            let mut attempt = names.clone();
            let matched = match_lines(rest, text, &mut attempt, skip, furthest);
            if matched {
                *names = attempt;
            }
            matched
        }),
        [line, rest @ ..] => {
            text.get(at)
                .is_some_and(|text| match_line(line, text, names))
                && match_lines(rest, text, names, at + 1, furthest)
        }
    }
}

fn compare_any_order(pattern: &str, text: &str, names: &mut Names) -> Result<(), String> {
    let mut text: Vec<&str> = text.split('\n').collect();
    let has_gap = pattern.lines().any(|line| line == GAP);
    let mut pattern: Vec<&str> = pattern.split('\n').filter(|line| *line != GAP).collect();
    // Exact lines first, so that a looser one does not take what they need.
    pattern.sort_by_key(|line| line.contains("{{"));
    for line in pattern {
        match text.iter().position(|text| match_line(line, text, names)) {
            Some(found) => drop(text.remove(found)),
            None => return Err(format!("no line matches {line:?}")),
        }
    }
    match text.first() {
        Some(line) if !has_gap => Err(format!("unexpected line {line:?}")),
        _ => Ok(()),
    }
}

fn match_line(pattern: &str, text: &str, names: &mut Names) -> bool {
    let Ok(parts) = parts(pattern) else {
        return false;
    };
    let mut expression = String::from("^(?s:");
    let mut groups = Vec::new();
    for part in &parts {
        match part {
            Part::Text(text) => expression.push_str(&regex::escape(text)),
            Part::Expression(inner, name) => {
                groups.push(*name);
                expression.push_str(&format!("(?<g{}>{inner})", groups.len()));
            }
            Part::Name(name) => {
                let Some(known) = names.get(*name) else {
                    return false;
                };
                expression.push_str(&regex::escape(known));
            }
        }
    }
    expression.push_str(")$");
    let Ok(expression) = Regex::new(&expression) else {
        return false;
    };
    let Some(found) = expression.captures(text) else {
        return false;
    };
    for (number, name) in groups.iter().enumerate() {
        if let (Some(name), Some(text)) = (name, found.name(&format!("g{}", number + 1))) {
            names.insert((*name).to_owned(), text.as_str().to_owned());
        }
    }
    true
}

/// Takes a line of a pattern apart.
fn parts(line: &str) -> Result<Vec<Part<'_>>> {
    let mut parts = Vec::new();
    let mut rest = line;
    while let Some((text, after)) = rest.split_once("{{") {
        // The expression may end in a brace itself, as in `{{id:a{2}}}`.
        let mut end = after.find("}}").context("{{ without }}")?;
        while after[end + 2..].starts_with('}') {
            end += 1;
        }
        parts.push(Part::Text(text));
        parts.push(match &after[..end] {
            "int" => Part::Expression("-?[0-9]+", None),
            "uint" => Part::Expression("[0-9]+", None),
            "hex" => Part::Expression("0x[0-9a-f]+", None),
            inner => match inner.split_once(':') {
                Some((name, expression)) => {
                    Part::Expression(expression, (!name.is_empty()).then_some(name))
                }
                None => Part::Name(inner),
            },
        });
        rest = &after[end + 2..];
    }
    parts.push(Part::Text(rest));
    Ok(parts)
}

/// The line about attached probes, on standard error, is only looked at by cases that name it.
fn without_attached(pattern: &str, text: &str) -> String {
    let is_about = |line: &str| line.starts_with("Attached ");
    if pattern.lines().any(is_about) {
        return text.to_owned();
    }
    text.split_inclusive('\n')
        .filter(|line| !is_about(line))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        check_pattern(pattern).unwrap();
        compare(pattern, text, &mut Names::new()).is_ok()
    }

    #[test]
    fn text_is_matched_whole() {
        assert!(matches("a.b\n", "a.b\n"));
        assert!(!matches("a.b\n", "aXb\n"));
        assert!(!matches("a\n", "a"));
        assert!(!matches("a\n", "a\nb\n"));
        assert!(!matches("", "\n"));
    }

    #[test]
    fn numbers_and_expressions() {
        assert!(matches("@[{{int}}]: {{hex}}\n", "@[-3]: 0xff\n"));
        assert!(!matches("{{uint}}\n", "-3\n"));
        assert!(matches("{{word:[a-z]{2}}}!\n", "ab!\n"));
        assert!(!matches("{{word:[a-z]{2}}}!\n", "abc!\n"));
        assert!(!matches("{{word:a|b}}!\n", "a\n"));
    }

    #[test]
    fn a_name_stands_for_what_it_first_matched() {
        assert!(matches("{{n:[0-9]+}} {{m:.*}}\n{{n}}\n", "12 x\n12\n"));
        assert!(!matches("{{n:[0-9]+}} {{m:.*}}\n{{n}}\n", "12 x\n13\n"));
        assert!(check_pattern("{{unknown}}\n").is_err());
    }

    #[test]
    fn gaps_take_any_number_of_lines() {
        assert!(matches("...\nb\n...\n", "b\n"));
        assert!(matches("a\n...\nd\n", "a\nb\nc\nd\n"));
        assert!(!matches("a\n...\nd\n", "a\nb\nc\n"));
    }

    #[test]
    fn lines_in_any_order_are_still_all_the_lines() {
        let any = |pattern, text| compare_any_order(pattern, text, &mut Names::new()).is_ok();
        assert!(any("{{int}}\n5\n", "5\n6\n"));
        assert!(!any("5\n6\n", "5\n"));
        assert!(!any("5\n", "5\n6\n"));
    }

    #[test]
    fn the_line_about_attached_probes_is_looked_at_on_request() {
        assert_eq!(without_attached("", "Attached 1 probe\nx\n"), "x\n");
        assert_eq!(
            without_attached("Attached 2 probes\n", "Attached 1 probe\n"),
            "Attached 1 probe\n"
        );
    }
}
