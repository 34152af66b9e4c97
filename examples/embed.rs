//! Embeds the compiler: source text in, artifact bytes out, then runs them.
//!
//! ```text
//! cargo run --example embed            # as root
//! ```

use std::error::Error;

use bpftrace_ast::diag::render::{Color, render_all};
use bpftrace_ast::source::SourceMap;
use bpftrace_codegen::{CodegenOptions, ScriptInfo};
use bpftrace_loader::LinuxHost;
use bpftrace_loader::options::{DebugStages, Mode, RunOptions, Warnings};
use bpftrace_loader::print::{BufferMode, ScriptOutput, TextSink};
use bpftrace_sema::{KernelFiles, KernelTypes, NoTexts, SemaOptions};
use btf_rs::{Backend, Btf};

/// The least a compiler needs to know: the kernel's types, and no tracepoints.
struct Types;

impl KernelFiles for Types {
    fn has_vmlinux(&self) -> bool {
        std::path::Path::new("/sys/kernel/btf/vmlinux").exists()
    }
    fn vmlinux(&self) -> Option<Btf> {
        Btf::from_file_with_backend("/sys/kernel/btf/vmlinux", Backend::Mmap).ok()
    }
    fn modules(&self) -> Vec<String> {
        Vec::new()
    }
    fn module(&self, _name: &str, _base: &Btf) -> Option<Btf> {
        None
    }
    fn tracepoints(&self, _category: &str, _event: &str) -> Vec<(String, String)> {
        Vec::new()
    }
    fn tracepoint_format(&self, _category: &str, _event: &str) -> Option<String> {
        None
    }
}

/// Compiles a script to the bytes that an ahead-of-time executable would carry.
fn compile(text: &str) -> Result<Vec<u8>, String> {
    let mut sources = SourceMap::new();
    let source = sources.add("embedded", text);

    let (script, diagnostics) = bpftrace_ast::parse(source, &sources);
    if !diagnostics.is_empty() {
        return Err(render_all(&diagnostics, &sources, Color::Never));
    }
    let types = KernelTypes::new(Types);
    let (program, diagnostics) = bpftrace_sema::analyze(
        &script,
        &mut sources,
        &types,
        &NoTexts,
        &SemaOptions::safe(),
    );
    let program = program.ok_or_else(|| render_all(&diagnostics, &sources, Color::Never))?;
    let info = ScriptInfo {
        name: "embedded".to_owned(),
        source,
        compiler: "embed example".to_owned(),
    };
    let (artifact, _) =
        bpftrace_codegen::compile(&program, &sources, &info, &CodegenOptions::new())
            .map_err(|error| error.to_string())?;
    Ok(artifact.encode())
}

fn main() -> Result<(), Box<dyn Error>> {
    let artifact = compile("begin { @sum = sum(1 + 2); printf(\"hello %d\\n\", 1 + 2); exit(); }")?;
    println!("{} bytes", artifact.len());

    let options = RunOptions {
        params: Vec::new(),
        named: Vec::new(),
        pid: None,
        command: None,
        quiet: true,
        verbose: false,
        dry_run: false,
        debug: DebugStages {
            libbpf: false,
            verifier: false,
        },
        warnings: Warnings::Default,
        unsafe_mode: false,
        mode: Mode::Trace,
        probe_filter: None,
        no_features: Vec::new(),
        traceable_functions: None,
        debug_dirs: Vec::new(),
        dwarf_pids: Vec::new(),
        usdt_file_activation: false,
    };
    let mut sink = TextSink::new(ScriptOutput::stdout(BufferMode::Line), false);
    let exit = bpftrace_loader::start(&artifact, &LinuxHost::new(), options, &mut sink)?;
    std::process::exit(i32::from(exit.code));
}
