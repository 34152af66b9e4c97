//! Script text to an artifact, and what is then done with it.

use std::{fs, process::ExitCode};

use bpftrace_ast::diag::{Code, Diagnostic};
use bpftrace_ast::dump::Spans;
use bpftrace_ast::source::SourceMap;
use bpftrace_codegen::{CodegenError, CodegenOptions, DumpStages, ScriptInfo};
use bpftrace_loader::options::{OutputFormat, OutputOptions, RunOptions, Warnings, open_sink};
use bpftrace_loader::print::BufferMode;
use bpftrace_loader::{LinkError, LinuxHost};
use bpftrace_meta::{Artifact, ParamKind};
use bpftrace_sema::{ImportedObject, KernelTypes, SemaOptions};

use super::{fail, on_large_stack, read, reason, say, show};
use crate::args::{Compile, ShowStages, Then};
use crate::{VERSION, shim, texts_in::HostTexts, types_in::HostTypes};

/// Compiles a script, then runs it or writes it out.
pub(crate) fn compile(options: &Compile) -> ExitCode {
    let mut artifact = match on_large_stack(|| artifact(options)) {
        Ok(artifact) => artifact,
        Err(code) => return code,
    };
    if let Some(path) = &options.emit_elf
        && let Err(error) = fs::write(path, &artifact.object)
    {
        return fail(format!(
            "cannot write '{}': {}",
            path.display(),
            reason(&error)
        ));
    }
    match &options.then {
        Then::Nothing => ExitCode::SUCCESS,
        Then::WriteExecutable(path) => {
            artifact.manifest.default_options = default_options(options);
            match shim::write_executable(path, &artifact.encode()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(message) => fail(message),
            }
        }
        Then::Run => run(&artifact.encode(), options.run.clone(), &options.output),
    }
}

/// What was said about output when an executable is written holds for its runs.
fn default_options(options: &Compile) -> Vec<String> {
    let mut words = Vec::new();
    if options.run.quiet {
        words.push("--quiet");
    }
    if options.run.warnings == Warnings::Off {
        words.push("--no-warnings");
    }
    if options.output.format == OutputFormat::Json {
        words.extend(["-f", "json"]);
    }
    words.extend(match options.output.buffering {
        BufferMode::Line => &[][..],
        BufferMode::Full => &["-B", "full"],
        BufferMode::None => &["-B", "none"],
    });
    words.into_iter().map(str::to_owned).collect()
}

/// The passes in order; each may end the compilation with what it said.
fn artifact(options: &Compile) -> Result<Artifact, ExitCode> {
    let warnings = options.run.warnings != Warnings::Off;
    let mut sources = SourceMap::new();
    let source = read(&options.script, &mut sources).map_err(fail)?;

    let (script, diagnostics) = bpftrace_ast::parse(source, &sources);
    if options.show.ast {
        say(&bpftrace_ast::dump::dump(&script, Spans::Hidden));
    }
    if show(&diagnostics, &sources, warnings) {
        return Err(ExitCode::FAILURE);
    }

    let types = KernelTypes::new(HostTypes::new(&options.run.debug_dirs, options.run.pid));
    let texts = HostTexts::new(&options.include_dirs);
    let (program, diagnostics) = bpftrace_sema::analyze(
        &script,
        &mut sources,
        &types,
        &texts,
        &sema_options(options),
    );
    let failed = show(&diagnostics, &sources, warnings);
    let Some(program) = program.filter(|_| !failed) else {
        return Err(ExitCode::FAILURE);
    };
    if options.show.types {
        say(&bpftrace_sema::dump(&program));
    }

    let info = ScriptInfo {
        name: sources.file(source).name().to_owned(),
        source,
        compiler: VERSION.to_owned(),
    };
    let codegen_options = CodegenOptions {
        dump: dump_stages(options.show),
        ..CodegenOptions::new()
    };
    let (mut artifact, dumps) =
        bpftrace_codegen::compile(&program, &sources, &info, &codegen_options)
            .map_err(|error| codegen_failed(&error, &sources))?;
    for text in [dumps.clif, dumps.clif_opt, dumps.vcode, dumps.bpf]
        .into_iter()
        .flatten()
    {
        say(&text);
    }
    if let Some(diagnostic) = link(&mut artifact, &program.objects) {
        show(&[diagnostic], &sources, warnings);
        return Err(ExitCode::FAILURE);
    }
    Ok(artifact)
}

/// Puts the objects that the script imports into its own; what keeps them from being put there.
fn link(artifact: &mut Artifact, objects: &[ImportedObject]) -> Option<Diagnostic> {
    let first = objects.first()?;
    let files = objects.iter().map(|object| (&*object.path, &*object.bytes));
    let files: Vec<(&str, &[u8])> = files.collect();
    let error = bpftrace_loader::link_objects(artifact, &files).err()?;
    let culprit = match &error {
        LinkError::Object(at, _) => objects.get(*at).unwrap_or(first),
        LinkError::Whole(_) => first,
    };
    let what = format!("cannot link '{}': {error}", culprit.path);
    Some(Diagnostic::error(Code::new("import"), culprit.span, what))
}

fn sema_options(options: &Compile) -> SemaOptions {
    let run = &options.run;
    let kind = |word: &String| match bpftrace_loader::number::parse_integer(word) {
        Ok(_) => ParamKind::Int,
        Err(_) => ParamKind::Str,
    };
    SemaOptions {
        unsafe_mode: run.unsafe_mode,
        params: run.params.clone(),
        extra_warnings: run.warnings == Warnings::Extra,
        param_kinds: run.params.iter().map(kind).collect(),
        includes: options.includes.clone(),
        overrides: std::env::vars()
            .filter(|(name, _)| name.starts_with("BPFTRACE_"))
            .collect(),
    }
}

fn dump_stages(show: ShowStages) -> DumpStages {
    DumpStages {
        clif: show.clif,
        clif_opt: show.clif_opt,
        vcode: show.vcode,
        bpf: show.bpf,
    }
}

/// A script that cannot be compiled is a diagnostic at its place.
fn codegen_failed(error: &CodegenError, sources: &SourceMap) -> ExitCode {
    match error.span() {
        Some(span) => {
            let code = Code::new(if error.is_bug() {
                "internal"
            } else {
                "codegen"
            });
            show(
                &[Diagnostic::error(code, span, error.to_string())],
                sources,
                true,
            );
            ExitCode::FAILURE
        }
        None => fail(error),
    }
}

/// Hands the bytes to the same function that an ahead-of-time executable calls.
fn run(artifact: &[u8], options: RunOptions, output: &OutputOptions) -> ExitCode {
    let host = LinuxHost::new();
    let exit = open_sink(output, &host)
        .and_then(|mut sink| bpftrace_loader::start(artifact, &host, options, &mut *sink));
    match exit {
        Ok(exit) => ExitCode::from(exit.code),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}
