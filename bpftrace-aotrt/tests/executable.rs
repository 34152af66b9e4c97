//! Executables made of the shim and a script that is assembled by hand.

#[path = "../../bpftrace-loader/tests/session/script.rs"]
#[allow(dead_code)]
mod script;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bpftrace_loader::{Host as _, LinuxHost};
use bpftrace_meta::{
    HostValue, NamedParam, ParamKind, ParamValue, ProbeTarget, ProgramKind, SECTION_NAME,
    make_executable,
};
use script::{ScriptBuilder, Step};

fn shim() -> Vec<u8> {
    fs::read(env!("CARGO_BIN_EXE_bpftrace-aotrt")).unwrap()
}

/// A script that prints `$1` and the named parameter `n`.
fn artifact() -> Vec<u8> {
    let mut script = ScriptBuilder::new();
    script.manifest().named_params.push(NamedParam {
        name: "n".into(),
        default: ParamValue::Unsigned(5),
        description: None,
    });
    let param = script.slot(HostValue::Param {
        index: 1,
        kind: ParamKind::Int,
    });
    let named = script.slot(HostValue::NamedParam(0));
    script.probe(
        ProgramKind::RawTracepointRun,
        vec![ProbeTarget::Begin],
        &[
            Step::PrintSlot(param),
            Step::PrintSlot(named),
            Step::Exit(4),
        ],
    );
    script.finish()
}

fn write(folder: &Path, bytes: &[u8]) -> PathBuf {
    let path = folder.join("script");
    // A file that is running cannot be written.
    let _ = fs::remove_file(&path);
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn run(path: &Path, words: &[&str]) -> Output {
    loop {
        match Command::new(path).args(words).output() {
            // Another test forked while the file was open for writing.
            Err(e) if e.kind() == std::io::ErrorKind::ExecutableFileBusy => {}
            result => return result.unwrap(),
        }
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn runs_its_script_with_parameters() {
    if let Some(why) = LinuxHost::new().missing_privilege() {
        eprintln!("skipped: {why}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = write(
        folder.path(),
        &make_executable(&shim(), &artifact()).unwrap(),
    );
    let output = run(&path, &["42", "--n=0x10"]);
    assert_eq!(text(&output.stderr), "Attached 1 probe\n");
    assert!(text(&output.stdout).starts_with("value 42\nvalue 16\n"));
    assert_eq!(output.status.code(), Some(4));
    let output = run(&path, &["-q", "-f", "json", "--", "7"]);
    assert_eq!(text(&output.stderr), "");
    assert!(
        text(&output.stdout).starts_with("{\"type\": \"printf\", \"data\": \"value 7\\n\"}\n"),
        "{}",
        text(&output.stdout)
    );
    let output = run(&path, &["--zz"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        "ERROR: unexpected program command line options: --zz\n\
         HINT: expected program options: --n\n"
    );
}

#[test]
fn tells_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let executable = make_executable(&shim(), &artifact()).unwrap();
    let elf = goblin::elf::Elf::parse(&executable).unwrap();
    let names: Vec<_> = elf
        .section_headers
        .iter()
        .filter_map(|section| elf.shdr_strtab.get_at(section.sh_name))
        .collect();
    assert_eq!(names.last(), Some(&SECTION_NAME));
    assert!(names.contains(&".text"));
    let path = write(folder.path(), &executable);
    let manifest = run(&path, &["--manifest"]);
    assert_eq!(manifest.status.code(), Some(0));
    assert!(text(&manifest.stdout).contains("\"AT_counts\""));
    assert!(text(&run(&path, &["--help"]).stdout).starts_with("USAGE:\n"));
    assert!(text(&run(&path, &["--version"]).stdout).starts_with("bpftrace v"));
}

#[test]
fn damage_gives_one_line_and_status_1() {
    let folder = tempfile::tempdir().unwrap();
    let artifact = artifact();
    let executable = make_executable(&shim(), &artifact).unwrap();
    let at = |offset: usize, value: u8| {
        let mut artifact = artifact.clone();
        artifact[offset] ^= value;
        make_executable(&shim(), &artifact).unwrap()
    };
    for (executable, message) in [
        (shim(), "the executable contains no compiled script"),
        (
            executable[..executable.len() - 100].to_vec(),
            "the executable is truncated or damaged",
        ),
        (at(0, 1), "not a compiled bpftrace script"),
        (
            at(9, 1),
            "the compiled script has format version 257, this runtime reads version 1",
        ),
        (
            at(artifact.len() / 2, 0x40),
            "the compiled script is corrupted: its checksum does not match",
        ),
        (
            make_executable(&shim(), &artifact[..artifact.len() - 1]).unwrap(),
            "the compiled script is truncated",
        ),
        (
            make_executable(&shim(), &[]).unwrap(),
            "not a compiled bpftrace script",
        ),
    ] {
        let path = write(folder.path(), &executable);
        for words in [&[][..], &["--manifest"]] {
            let output = run(&path, words);
            assert_eq!(output.status.code(), Some(1), "{message}");
            let error = text(&output.stderr);
            assert!(error.starts_with(&format!("ERROR: {message}")), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
