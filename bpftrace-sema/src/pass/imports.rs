//! Imports at the top of a script: what they stand for becomes part of it.

use std::collections::HashSet;

use bpftrace_ast::diag::Diagnostic;
use bpftrace_ast::node::{Import, Script};
use bpftrace_ast::source::SourceMap;

use crate::codes;
use crate::texts::{Header, ImportContent, ImportError, ImportedFile, ObjectFile, TextSource};

/// Imports in imports go no deeper.
const MAX_DEPTH: u32 = 100;

/// Scripts that are part of the compiler, by the path they are imported under. The standard library as
/// a whole is always there.
const MODULES: &[(&str, &str)] = &[
    ("stdlib", ""),
    ("stdlib/map", ""),
    ("stdlib/process", ""),
    ("stdlib/stack", ""),
    ("stdlib/strings", ""),
    ("stdlib/system", ""),
    ("stdlib/task", ""),
    ("stdlib/usdt", ""),
    // Shows that a function of a library can be called.
    ("stdlib/test", "fn __always_true() : int32 { return 1; }\n"),
];

/// A script with everything that it imports.
#[derive(Debug)]
pub(crate) struct Merged {
    /// The script: what is imported stands before what imports it.
    pub(crate) script: Script,
    /// Headers, in order.
    pub(crate) headers: Vec<Header>,
    /// BPF objects, in order.
    pub(crate) objects: Vec<ImportedObject>,
}

/// A BPF object that a script imports.
#[derive(Debug)]
pub(crate) struct ImportedObject {
    /// Where it is imported.
    pub(crate) import: Import,
    /// Its path.
    pub(crate) path: String,
    /// The file.
    pub(crate) file: ObjectFile,
}

/// A script with the scripts that it imports, and what was wrong with them.
pub fn with_imports(
    script: &Script,
    sources: &mut SourceMap,
    texts: &dyn TextSource,
) -> (Script, Vec<Diagnostic>) {
    let mut diags = Vec::new();
    let merged = merge(script, sources, texts, &mut diags);
    (merged.script, diags)
}

/// Resolves the imports of a script, and those of what it imports.
pub(crate) fn merge(
    script: &Script,
    sources: &mut SourceMap,
    texts: &dyn TextSource,
    diags: &mut Vec<Diagnostic>,
) -> Merged {
    let mut merger = Merger {
        sources,
        texts,
        diags,
        seen: HashSet::new(),
        depth: 0,
        merged: Merged {
            script: Script {
                c_statements: Vec::new(),
                items: Vec::new(),
                ..script.clone()
            },
            headers: Vec::new(),
            objects: Vec::new(),
        },
    };
    merger.script(script);
    merger.merged
}

struct Merger<'a> {
    sources: &'a mut SourceMap,
    texts: &'a dyn TextSource,
    diags: &'a mut Vec<Diagnostic>,
    /// Paths that are part of the script already.
    seen: HashSet<String>,
    depth: u32,
    merged: Merged,
}

impl Merger<'_> {
    fn script(&mut self, script: &Script) {
        for import in &script.imports {
            self.import(import, script);
        }
        let merged = &mut self.merged.script;
        merged.c_statements.extend_from_slice(&script.c_statements);
        merged.items.extend_from_slice(&script.items);
    }

    fn import(&mut self, import: &Import, importer: &Script) {
        let Ok(path) = std::str::from_utf8(&import.path.value) else {
            self.diags.push(Diagnostic::error(
                codes::IMPORT,
                import.span,
                "the path of an import must be text",
            ));
            return;
        };
        let importer = self.sources.file(importer.source).name().to_owned();
        match self.texts.import(path, &importer) {
            Ok(files) => {
                for file in files {
                    self.file(import, file);
                }
            }
            Err(ImportError::NotFound(checked)) => match module(path) {
                Some(text) => self.file(
                    import,
                    ImportedFile {
                        path: path.to_owned(),
                        content: ImportContent::Script(text.to_owned()),
                    },
                ),
                None => {
                    let mut diag = Diagnostic::error(
                        codes::IMPORT,
                        import.span,
                        "Unable to find suitable path for import",
                    );
                    if !checked.is_empty() {
                        diag = diag.with_hint(format!("checked: {}", checked.join(", ")));
                    }
                    self.diags.push(diag);
                }
            },
            Err(ImportError::Other(message)) => {
                self.diags
                    .push(Diagnostic::error(codes::IMPORT, import.span, message));
            }
        }
    }

    fn file(&mut self, import: &Import, file: ImportedFile) {
        if !self.seen.insert(file.path.clone()) {
            return;
        }
        match file.content {
            ImportContent::Script(text) => self.imported_script(import, file.path, text),
            ImportContent::Header(text) => self.merged.headers.push(Header {
                path: file.path,
                text,
                system: false,
            }),
            ImportContent::Object(object) => self.merged.objects.push(ImportedObject {
                import: import.clone(),
                path: file.path,
                file: object,
            }),
        }
    }

    fn imported_script(&mut self, import: &Import, path: String, text: String) {
        if self.depth >= MAX_DEPTH {
            self.diags.push(Diagnostic::error(
                codes::LIMIT,
                import.span,
                "imports are nested too deeply",
            ));
            return;
        }
        let source = self.sources.add(path, text);
        let (script, diags) = bpftrace_ast::parse(source, self.sources);
        self.diags.extend(diags);
        if let Some(config) = &script.config {
            self.diags.push(Diagnostic::error(
                codes::IMPORT,
                config.span,
                "invalid `config` within import",
            ));
        }
        self.depth += 1;
        self.script(&script);
        self.depth -= 1;
    }
}

fn module(path: &str) -> Option<&'static str> {
    MODULES
        .iter()
        .find(|(known, _)| *known == path)
        .map(|(_, text)| *text)
}
