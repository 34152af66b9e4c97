//! `tests/features.md` says what the language has and which tests pin it; here that is checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The ids that tests name, and the files that name them, relative to the workspace.
type Pins = BTreeMap<String, BTreeSet<String>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Words of a text that have the form of an id.
fn ids(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == '_'));
    words.filter_map(|word| {
        let word = word.trim_end_matches('.');
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let is_feature = word
            .strip_prefix('F')
            .is_some_and(|number| number.len() == 3 && digits(number));
        let is_trap = word
            .strip_prefix("L13.")
            .is_some_and(|number| matches!(number.len(), 1..=2) && digits(number));
        (is_feature || is_trap).then_some(word)
    })
}

/// Files of the workspace under a folder, in the order of their names.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).expect("a folder that can be read");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// The ids in the comments right above tests.
fn ids_above_tests(source: &str) -> Vec<String> {
    let mut named = Vec::new();
    let mut comment = Vec::new();
    for line in source.lines().map(str::trim) {
        if line.starts_with("//") {
            comment.extend(ids(line).map(str::to_owned));
        } else if line == "#[test]" {
            named.append(&mut comment);
        } else if !line.starts_with("#[") {
            comment.clear();
        }
    }
    named
}

/// The ids that the lists `features` of runtime cases have.
fn ids_of_cases(text: &str) -> Vec<String> {
    let table: toml::Table = text.parse().expect("TOML");
    let cases = table.get("case").and_then(toml::Value::as_array);
    let lists = cases
        .into_iter()
        .flatten()
        .filter_map(|case| case.get("features")?.as_array());
    lists
        .flatten()
        .filter_map(|id| id.as_str().map(str::to_owned))
        .collect()
}

fn pins() -> Pins {
    let root = root();
    let mut folders = vec![root.join("tests/runtime"), root.join("xtask/src")];
    for entry in fs::read_dir(&root).expect("the workspace") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if name.starts_with("bpftrace-") {
            folders.extend(
                [path.join("src"), path.join("tests")]
                    .into_iter()
                    .filter(|p| p.is_dir()),
            );
        }
    }
    let mut paths = Vec::new();
    for folder in folders {
        files(&folder, &mut paths);
    }
    let mut pins = Pins::new();
    for path in paths {
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        let extension = path.extension().and_then(|extension| extension.to_str());
        let is_data = path.components().any(|part| part.as_os_str() == "tests");
        let named: Vec<String> = match extension {
            Some("toml") if is_data => ids_of_cases(&text),
            Some("txt" | "bt") if is_data => ids(&text).map(str::to_owned).collect(),
            Some("rs") => ids_above_tests(&text),
            _ => continue,
        };
        let path = path.strip_prefix(&root).expect("in the workspace");
        for id in named {
            pins.entry(id)
                .or_default()
                .insert(path.display().to_string());
        }
    }
    pins
}

/// A row of the table: `| id | feature | done | tests |`.
struct Row<'a> {
    id: &'a str,
    feature: &'a str,
    done: bool,
}

impl<'a> Row<'a> {
    fn read(line: &'a str) -> Option<Row<'a>> {
        let cells: Vec<&str> = line.strip_prefix('|')?.split('|').map(str::trim).collect();
        let id = ids(cells[0]).next()?;
        let done = match cells[2] {
            "yes" => true,
            "no" => false,
            other => panic!("{id}: done is yes or no, not {other:?}"),
        };
        Some(Row {
            id,
            feature: cells[1],
            done,
        })
    }
}

#[test]
fn the_list_of_features_is_true() {
    let path = root().join("tests/features.md");
    let text = fs::read_to_string(&path).expect("the list");
    let mut pins = pins();
    let (mut current, mut bare) = (String::new(), Vec::new());
    let mut rows = 0;
    for line in text.lines() {
        let Some(Row { id, feature, done }) = Row::read(line) else {
            current += &format!("{line}\n");
            continue;
        };
        rows += 1;
        let tests = pins.remove(id).unwrap_or_default();
        if done && tests.is_empty() {
            bare.push(id);
        }
        let done = if done { "yes" } else { "no" };
        let tests = Vec::from_iter(tests).join(", ");
        current += &format!("| {id} | {feature} | {done} | {tests} |\n");
    }
    assert_eq!(rows, 226 + 37, "a row is missing, or cannot be read");
    assert!(
        bare.is_empty(),
        "done, but no test says so: {}",
        bare.join(", ")
    );
    assert!(
        pins.is_empty(),
        "tests name ids that the list lacks: {pins:?}"
    );
    if text != current {
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, current).expect("the list can be written");
        } else {
            panic!("the column of tests is not current; see the top of tests/features.md");
        }
    }
}

#[test]
fn ids_are_found_in_words() {
    let text = "F017, (F018) F0123 xF019 L13.7. L13.123 F_17 L13.37";
    assert_eq!(
        Vec::from_iter(ids(text)),
        ["F017", "F018", "L13.7", "L13.37"]
    );
}
