//! Which function lies where.

use std::collections::HashMap;

use super::ObjectSpec;
use super::function::Placement;

/// The section of subprograms, by which libbpf knows them.
const TEXT: &str = ".text";

/// The code sections, and each function's place in them.
#[derive(Debug)]
pub(super) struct Layout {
    /// In the order in which they are first mentioned.
    pub(super) code: Vec<CodeSection>,
    /// One per function.
    pub(super) places: Vec<Place>,
    /// The row of `.text` in `code`.
    pub(super) text: Option<usize>,
}

#[derive(Debug)]
pub(super) struct CodeSection {
    pub(super) name: String,
    /// Rows in the table of functions.
    pub(super) functions: Vec<usize>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Row in [`Layout::code`], which is also its row among the sections of the file.
    pub(super) section: usize,
    /// Byte offset within the section.
    pub(super) offset: u32,
}

impl Layout {
    /// The functions have passed [`References::collect`](super::references::References::collect).
    pub(super) fn of(spec: &ObjectSpec) -> Self {
        let mut layout = Layout {
            code: Vec::new(),
            places: Vec::with_capacity(spec.functions.len()),
            text: None,
        };
        let mut rows: HashMap<&str, (usize, u32)> = HashMap::new();
        for (row, function) in spec.functions.iter().enumerate() {
            let name = match &function.placement {
                Placement::Program { section } => section.as_str(),
                Placement::Subprogram | Placement::GlobalSubprogram => TEXT,
            };
            let (section, end) = rows.entry(name).or_insert_with(|| {
                layout.code.push(CodeSection {
                    name: name.to_owned(),
                    functions: Vec::new(),
                });
                (layout.code.len() - 1, 0)
            });
            layout.code[*section].functions.push(row);
            layout.places.push(Place {
                section: *section,
                offset: *end,
            });
            *end += function.code.len() as u32;
        }
        layout.text = rows.get(TEXT).map(|&(section, _)| section);
        layout
    }
}
