//! A [`TypeSource`] that is asked each question once: looking up a name in BTF costs a millisecond,
//! and inference asks again in every round.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;

use bpftrace_debuginfo::TypeName;
use bpftrace_meta::UserBuild;

use crate::typeinfo::{FormatField, FunctionInfo, ProgramParam, RawType, TypeRef, TypeSource};

/// Answers of another source, remembered.
pub(crate) struct Cached<'a> {
    source: &'a dyn TypeSource,
    structs: Answers<(String, bool), Option<TypeRef>>,
    enums: Answers<String, Option<TypeRef>>,
    typedefs: Answers<String, Option<TypeRef>>,
    enumerators: Answers<String, Option<(TypeRef, i64)>>,
    formats: Answers<(String, String), Option<Vec<FormatField>>>,
}

type Answers<K, V> = RefCell<HashMap<K, V>>;

impl<'a> Cached<'a> {
    /// Remembers what `source` answers.
    pub(crate) fn new(source: &'a dyn TypeSource) -> Self {
        Self {
            source,
            structs: Answers::default(),
            enums: Answers::default(),
            typedefs: Answers::default(),
            enumerators: Answers::default(),
            formats: Answers::default(),
        }
    }
}

fn ask<K: Eq + Hash, V: Clone>(
    answers: &Answers<K, V>,
    question: K,
    source: impl FnOnce() -> V,
) -> V {
    if let Some(known) = answers.borrow().get(&question) {
        return known.clone();
    }
    let answer = source();
    answers.borrow_mut().insert(question, answer.clone());
    answer
}

impl TypeSource for Cached<'_> {
    fn has_kernel_types(&self) -> bool {
        self.source.has_kernel_types()
    }

    fn find_struct(&self, name: &str, is_union: bool) -> Option<TypeRef> {
        ask(&self.structs, (name.to_owned(), is_union), || {
            self.source.find_struct(name, is_union)
        })
    }

    fn find_enum(&self, name: &str) -> Option<TypeRef> {
        ask(&self.enums, name.to_owned(), || self.source.find_enum(name))
    }

    fn find_typedef(&self, name: &str) -> Option<TypeRef> {
        ask(&self.typedefs, name.to_owned(), || {
            self.source.find_typedef(name)
        })
    }

    fn find_enumerator(&self, name: &str) -> Option<(TypeRef, i64)> {
        ask(&self.enumerators, name.to_owned(), || {
            self.source.find_enumerator(name)
        })
    }

    fn resolve(&self, ty: TypeRef) -> RawType {
        self.source.resolve(ty)
    }

    fn find_functions(&self, module: Option<&str>, name: &str) -> Vec<FunctionInfo> {
        self.source.find_functions(module, name)
    }

    fn find_raw_tracepoints(&self, module: Option<&str>, name: &str) -> Vec<FunctionInfo> {
        self.source.find_raw_tracepoints(module, name)
    }

    fn find_tracepoints(&self, category: &str, event: &str) -> Vec<(String, String)> {
        self.source.find_tracepoints(category, event)
    }

    fn tracepoint_format(&self, category: &str, event: &str) -> Option<Vec<FormatField>> {
        ask(
            &self.formats,
            (category.to_owned(), event.to_owned()),
            || self.source.tracepoint_format(category, event),
        )
    }

    fn find_type_names(&self, keyword: &str, pattern: &str) -> Vec<String> {
        self.source.find_type_names(keyword, pattern)
    }

    fn program(&self, path: &str) -> Option<u32> {
        self.source.program(path)
    }

    fn find_programs(&self, path: &str, function: &str, language: Option<&str>) -> Vec<String> {
        self.source.find_programs(path, function, language)
    }

    fn symbol_size(&self, path: &str, name: &str) -> Option<u64> {
        self.source.symbol_size(path, name)
    }

    fn program_build(&self, program: u32) -> Option<UserBuild> {
        self.source.program_build(program)
    }

    fn program_type(&self, program: u32, kind: TypeName, name: &str) -> Option<TypeRef> {
        self.source.program_type(program, kind, name)
    }

    fn program_params(&self, program: u32, function: &str) -> Option<Vec<ProgramParam>> {
        self.source.program_params(program, function)
    }

    fn program_functions(&self, program: u32, pattern: &str, demangled: bool) -> Vec<String> {
        self.source.program_functions(program, pattern, demangled)
    }
}
