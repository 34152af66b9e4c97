//! The pages of `--explain`: every code has one, and what a page shows is true.

mod support;

use bpftrace_ast::diag::Diagnostic;
use bpftrace_ast::source::SourceMap;
use bpftrace_sema::{
    FormatField, FunctionInfo, NoTexts, RawType, SemaOptions, TypeRef, TypeSource, analyze, codes,
    explain, explained,
};

/// A kernel without BTF.
struct NoTypes;

impl TypeSource for NoTypes {
    fn has_kernel_types(&self) -> bool {
        false
    }
    fn find_struct(&self, _: &str, _: bool) -> Option<TypeRef> {
        None
    }
    fn find_enum(&self, _: &str) -> Option<TypeRef> {
        None
    }
    fn find_typedef(&self, _: &str) -> Option<TypeRef> {
        None
    }
    fn find_enumerator(&self, _: &str) -> Option<(TypeRef, i64)> {
        None
    }
    fn resolve(&self, _: TypeRef) -> RawType {
        RawType::Void
    }
    fn find_functions(&self, _: Option<&str>, _: &str) -> Vec<FunctionInfo> {
        Vec::new()
    }
    fn find_raw_tracepoints(&self, _: Option<&str>, _: &str) -> Vec<FunctionInfo> {
        Vec::new()
    }
    fn find_tracepoints(&self, _: &str, _: &str) -> Vec<(String, String)> {
        Vec::new()
    }
    fn tracepoint_format(&self, _: &str, _: &str) -> Option<Vec<FormatField>> {
        None
    }
    fn find_type_names(&self, _: &str, _: &str) -> Vec<String> {
        Vec::new()
    }
}

fn findings(script: &str, types: &dyn TypeSource) -> Vec<Diagnostic> {
    let mut sources = SourceMap::new();
    let id = sources.add("t.bt", script);
    let (tree, mut diags) = bpftrace_ast::parse(id, &sources);
    let (_, more) = analyze(&tree, &mut sources, types, &NoTexts, &SemaOptions::safe());
    diags.extend(more);
    diags
}

/// The indented lines that follow a heading.
fn block(page: &str, heading: &str) -> Option<String> {
    let (_, rest) = page.split_once(&format!("\n{heading}:\n\n"))?;
    let lines = rest.lines().map_while(|line| line.strip_prefix("    "));
    Some(lines.map(|line| format!("{line}\n")).collect())
}

#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    for code in codes::ALL {
        assert!(explain(code.name()).is_some(), "no page about {code}");
    }
    for (name, _) in explained() {
        assert!(
            codes::ALL.iter().any(|code| code.name() == name),
            "no diagnostic has the code {name}"
        );
    }
}

#[test]
fn pages_have_their_parts() {
    for (name, summary) in explained() {
        let page = explain(name).expect("listed");
        assert_eq!(page.lines().next(), Some(name));
        assert!(summary.ends_with('.'), "{name}: {summary}");
        for line in page.lines() {
            assert!(line.len() <= 112, "{name}: {line}");
        }
    }
}

/// F224: what an example shows is what the script gives, and the mended script does not.
#[test]
fn examples_give_what_they_are_about() {
    let mut wrong = Vec::new();
    for (name, _) in explained() {
        let page = explain(name).expect("listed");
        let Some(example) = block(page, "Example") else {
            assert!(page.contains("\nThere is no example: "), "{name}");
            continue;
        };
        let mended = block(page, "Mended").expect("a mended script");
        let types: &dyn TypeSource = if name == "no-types" {
            &NoTypes
        } else {
            &support::Fixture::new()
        };
        let has_code = |found: &[Diagnostic]| found.iter().any(|diag| diag.code.name() == name);
        let found = findings(&example, types);
        if !has_code(&found) {
            wrong.push(format!("{name}: the example gives {found:?}"));
        }
        let found = findings(&mended, types);
        if has_code(&found) || found.iter().any(Diagnostic::is_error) {
            wrong.push(format!("{name}: the mended example gives {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
