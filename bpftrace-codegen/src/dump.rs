//! Text of the stages of code generation, for `-d` and for tests.

use std::fmt::Write as _;

use cranelift_codegen::ir::Function;

use crate::bpf::{CompiledFunction, disassemble};

/// Which stages to keep as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DumpStages {
    /// CLIF as made from the typed program (`-d clif`).
    pub clif: bool,
    /// CLIF after the mid-end (`-d clif-opt`).
    pub clif_opt: bool,
    /// Instructions with virtual registers (`-d vcode`).
    pub vcode: bool,
    /// Instructions as they go into the object (`-d bpf`).
    pub bpf: bool,
}

/// The stages as text: all functions of the script one after the other, each under its name. The
/// stages that were not asked for are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dumps {
    /// CLIF as made from the typed program.
    pub clif: Option<String>,
    /// CLIF after the mid-end.
    pub clif_opt: Option<String>,
    /// Instructions with virtual registers.
    pub vcode: Option<String>,
    /// Instructions as they go into the object.
    pub bpf: Option<String>,
}

impl Dumps {
    pub(crate) fn new(stages: DumpStages) -> Self {
        let text = |wanted: bool| wanted.then(String::new);
        Self {
            clif: text(stages.clif),
            clif_opt: text(stages.clif_opt),
            vcode: text(stages.vcode),
            bpf: text(stages.bpf),
        }
    }

    /// Forgets everything: the functions are compiled again.
    pub(crate) fn clear(&mut self) {
        for text in [
            &mut self.clif,
            &mut self.clif_opt,
            &mut self.vcode,
            &mut self.bpf,
        ]
        .into_iter()
        .flatten()
        {
            text.clear();
        }
    }

    pub(crate) fn add_clif(&mut self, name: &str, func: &Function) {
        if let Some(text) = &mut self.clif {
            section(text, name, &func.display().to_string());
        }
    }

    pub(crate) fn add_compiled(&mut self, name: &str, compiled: &CompiledFunction) {
        for (text, stage) in [
            (&mut self.clif_opt, &compiled.clif_opt),
            (&mut self.vcode, &compiled.vcode),
        ] {
            if let (Some(text), Some(stage)) = (text, stage) {
                section(text, name, stage);
            }
        }
    }

    pub(crate) fn add_bpf(&mut self, name: &str, compiled: &CompiledFunction) {
        if let Some(text) = &mut self.bpf {
            section(text, name, &disassemble(&compiled.code, &compiled.relocs));
        }
    }
}

fn section(text: &mut String, name: &str, body: &str) {
    if !text.is_empty() {
        text.push('\n');
    }
    // Writing to a string cannot fail.
    let _ = writeln!(text, "; {name}");
    text.push_str(body);
    if !body.ends_with('\n') {
        text.push('\n');
    }
}
