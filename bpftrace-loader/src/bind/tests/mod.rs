//! Binding against a machine that is made up.

use bpftrace_meta::{
    Artifact, CompileOptionsMeta, Manifest, ProbeMeta, ProbeTarget, ProgramKind, ProviderKind,
    RunConfig, ScriptMeta, SourceMeta, SourceRange,
};

use crate::bind::{Bound, Invocation, bind};
use crate::error::LoadError;
use crate::host::fake::FakeHost;
use crate::options::{DebugStages, Mode, RunOptions, Warnings};

mod kernel;
mod user;
mod values;

fn options() -> RunOptions {
    RunOptions {
        params: Vec::new(),
        named: Vec::new(),
        pid: None,
        command: None,
        quiet: false,
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
    }
}

fn manifest() -> Manifest {
    Manifest {
        script: ScriptMeta {
            name: "stdin".into(),
            sha256: [0; 32],
            compiler: "test".into(),
        },
        options: CompileOptionsMeta {
            max_strlen: 1024,
            on_stack_limit: 32,
            unsafe_mode: false,
            extra_warnings: false,
        },
        config: RunConfig::default(),
        probes: Vec::new(),
        maps: Vec::new(),
        slots: Vec::new(),
        events: Vec::new(),
        lost: None,
        enums: Vec::new(),
        time_formats: Vec::new(),
        cgroup_filters: Vec::new(),
        named_params: Vec::new(),
        typed_params: Vec::new(),
        imports: Vec::new(),
        n_params: 0,
        default_options: Vec::new(),
        requirements: Vec::new(),
        tracepoint_patches: Vec::new(),
        source: SourceMeta::default(),
    }
}

/// A manifest with one probe, whose code depends on the target.
fn one_probe(kind: ProgramKind, targets: Vec<ProbeTarget>) -> Manifest {
    let mut manifest = manifest();
    manifest.probes.push(ProbeMeta {
        program: "probe_0".into(),
        kind,
        targets,
        places: Vec::new(),
        session: None,
        name: None,
        place: SourceRange::default(),
        target_number_insns: vec![3],
        uses_target_number: true,
        n_insns: 8,
        sent_per_run: None,
        layout: None,
        from_pattern: false,
    });
    manifest
}

fn bound(manifest: Manifest, options: &RunOptions, host: &FakeHost) -> Result<Bound, LoadError> {
    let artifact = Artifact {
        manifest,
        object: vec![0; 64],
    };
    let invocation = Invocation {
        options,
        child: None,
    };
    bind(artifact, &invocation, host)
}

fn names(bound: &Bound) -> Vec<&str> {
    bound.targets.iter().map(|t| t.name.as_str()).collect()
}

fn texts(bound: &Bound) -> Vec<&str> {
    bound.warnings.iter().map(|w| w.text.as_str()).collect()
}

fn kprobe(module: Option<&str>, function: &str) -> ProbeTarget {
    ProbeTarget::Kprobe {
        ret: false,
        module: module.map(str::to_owned),
        function: function.to_owned(),
        offset: 0,
    }
}

fn kernel() -> FakeHost {
    FakeHost::new().with_functions(&[
        ("vfs_read", None),
        ("vfs_write", None),
        ("vfs_open", None),
        ("kvm_exit", Some("kvm")),
    ])
}

fn written(provider: ProviderKind, text: &str) -> ProbeTarget {
    ProbeTarget::Written {
        provider,
        text: text.to_owned(),
    }
}
