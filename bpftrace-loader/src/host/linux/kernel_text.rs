use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use bpftrace_meta::wildcard_match;

use super::kernel_btf::module_names;
use crate::ffi::{Btf, BtfKind, CText};

/// A function of the kernel or of a module, its types as C declares them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prototype {
    /// `vmlinux` or the module.
    pub object: String,
    /// Its name.
    pub name: String,
    /// Type and name of each parameter; the name may be empty.
    pub params: Vec<(String, String)>,
    /// Type of the result; `None` for `void`.
    pub ret: Option<String>,
}

/// The types of the kernel and of its modules as C text, for people to read.
pub struct KernelText {
    // Declared before the base that they refer to: dropped first.
    modules: Vec<(String, Btf)>,
    kernel: Btf,
}

impl std::fmt::Debug for KernelText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelText").finish_non_exhaustive()
    }
}

impl KernelText {
    /// Loads the types of the running kernel, or of a BTF file instead.
    ///
    /// # Errors
    ///
    /// When the kernel has no BTF, or it cannot be read.
    pub fn open(file: Option<&Path>) -> io::Result<Self> {
        let kernel = Btf::kernel(file)?;
        let mut modules = Vec::new();
        if file.is_none() {
            for name in module_names()? {
                // A module may go away, or its types may not fit.
                if let Ok(btf) = Btf::module(&name, &kernel) {
                    modules.push((name, btf));
                }
            }
        }
        Ok(Self { modules, kernel })
    }

    fn objects(&self) -> impl Iterator<Item = (&str, &Btf)> {
        let modules = self.modules.iter();
        std::iter::once(("vmlinux", &self.kernel))
            .chain(modules.map(|(name, btf)| (name.as_str(), btf)))
    }

    /// The functions that `wanted` takes, by object and name.
    ///
    /// # Errors
    ///
    /// When libbpf cannot print a type.
    pub fn prototypes(
        &self,
        wanted: &mut dyn FnMut(&str, &str) -> bool,
    ) -> io::Result<Vec<Prototype>> {
        let mut found = Vec::new();
        for (object, btf) in self.objects() {
            let mut functions = Vec::new();
            btf.all(BtfKind::Function, &mut |id, name| {
                if wanted(object, name) {
                    functions.push((id, name.to_owned()));
                }
            });
            if functions.is_empty() {
                continue;
            }
            let mut text = CText::new(btf)?;
            for (id, name) in functions {
                let Some((params, ret)) = btf.prototype(id) else {
                    continue;
                };
                let mut typed = Vec::new();
                for (name, ty) in params {
                    // `...` has no type.
                    if ty != 0 {
                        typed.push((text.declaration(ty)?, name));
                    }
                }
                let ret = match ret {
                    0 => None,
                    ret => Some(text.declaration(ret)?),
                };
                found.push(Prototype {
                    object: object.to_owned(),
                    name,
                    params: typed,
                    ret,
                });
            }
        }
        Ok(found)
    }

    /// Names of the structs, unions or enums (as `keyword` says) that a pattern matches, sorted.
    #[must_use]
    pub fn names(&self, keyword: &str, pattern: &str) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for (_, btf) in self.objects() {
            for_each_type(btf, keyword, pattern, &mut |_, name| {
                names.insert(format!("{keyword} {name}"));
            });
        }
        names
    }

    /// Definitions of the structs, unions or enums that a pattern matches, and what they are defined
    /// in: `vmlinux`, or else modules. Sorted by their text.
    ///
    /// # Errors
    ///
    /// When libbpf cannot print a type.
    pub fn definitions(
        &self,
        keyword: &str,
        pattern: &str,
    ) -> io::Result<BTreeMap<String, Vec<String>>> {
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (object, btf) in self.objects() {
            let mut wanted = Vec::new();
            for_each_type(btf, keyword, pattern, &mut |id, name| {
                wanted.push((id, format!("{keyword} {name} {{")));
            });
            if wanted.is_empty() {
                continue;
            }
            let mut text = CText::new(btf)?;
            let heads: BTreeSet<&str> = wanted.iter().map(|(_, head)| head.as_str()).collect();
            for (id, _) in &wanted {
                for definition in split_definitions(&text.definition(*id)?) {
                    let head = definition.lines().next().unwrap_or("");
                    if !heads.contains(head) {
                        continue;
                    }
                    let objects = found.entry(definition).or_default();
                    // What the kernel proper defines is not said again for each module.
                    if objects.first().is_none_or(|first| first != "vmlinux") {
                        objects.push(object.to_owned());
                    }
                }
            }
        }
        Ok(found)
    }
}

/// All types of the running kernel, or of a BTF file, as a C header: what is known as `vmlinux.h`. Accesses
/// to its structs are relocated.
///
/// # Errors
///
/// When there is no BTF, or libbpf cannot print a type.
pub fn kernel_header(file: Option<&Path>) -> io::Result<String> {
    let kernel = Btf::kernel(file)?;
    let mut types = CText::new(&kernel)?;
    let mut text = String::from(concat!(
        "#ifndef __VMLINUX_H__\n#define __VMLINUX_H__\n\n",
        "#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)\n\n",
    ));
    for id in kernel.ids() {
        text.push_str(&types.definition(id)?);
    }
    text.push_str("#pragma clang attribute pop\n\n#endif\n");
    Ok(text)
}

fn for_each_type(btf: &Btf, keyword: &str, pattern: &str, each: &mut dyn FnMut(u32, &str)) {
    let kinds: &[BtfKind] = match keyword {
        "struct" => &[BtfKind::Struct],
        "union" => &[BtfKind::Union],
        _ => &[BtfKind::Enum, BtfKind::Enum64],
    };
    for kind in kinds {
        btf.all(*kind, &mut |id, name| {
            if !name.is_empty() && wildcard_match(pattern, name) {
                each(id, name);
            }
        });
    }
}

/// The definitions in what libbpf prints: forward declarations and typedefs are left out.
fn split_definitions(text: &str) -> Vec<String> {
    let mut definitions = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        let starts = line.ends_with('{')
            && ["struct ", "union ", "enum "]
                .iter()
                .any(|keyword| line.starts_with(keyword));
        if open.is_none() && starts {
            open = Some(String::new());
        }
        if let Some(definition) = &mut open {
            definition.push_str(line);
            definition.push('\n');
            // Attributes may stand between brace and semicolon.
            if line.starts_with('}') && line.ends_with(';') {
                definitions.extend(open.take());
            }
        }
    }
    definitions
}

#[cfg(test)]
mod tests {
    use super::split_definitions;

    #[test]
    fn definitions_end_at_their_own_brace() {
        let text = "typedef int a;\n\nstruct b;\n\nstruct c {\n\tstruct {\n\t\tint x;\n\t};\n};\n\n\
                    enum d {\n\tE = 0,\n} __attribute__((mode(byte)));\n\ntypedef struct {\n\tint y;\n} f;\n";
        assert_eq!(
            split_definitions(text),
            [
                "struct c {\n\tstruct {\n\t\tint x;\n\t};\n};\n",
                "enum d {\n\tE = 0,\n} __attribute__((mode(byte)));\n",
            ]
        );
    }
}
