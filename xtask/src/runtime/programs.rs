//! Compiles the programs under `tests/runtime/programs`, which cases trace.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command;
use crate::guest::rootfs::GuestFile;
use crate::workspace::Workspace;

const LIMIT: Duration = Duration::from_secs(60);

/// What writes objects is the code generator itself, which takes its time to build.
const BUILD_LIMIT: Duration = Duration::from_secs(1800);

/// Every program, as `/programs/NAME`, and linked statically as `/programs/NAME-static`.
pub(crate) fn build(workspace: &Workspace) -> Result<Vec<GuestFile>> {
    let out = workspace.target.join("guest-programs");
    fs::create_dir_all(&out)?;
    let folder = workspace.root.join("tests/runtime/programs");
    let mut files = Vec::new();
    let entries =
        fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let source = entry?.path();
        let language = source.extension().unwrap_or_default().to_string_lossy();
        if !["c", "cc", "rs"].contains(&&*language) {
            continue;
        }
        let name = source
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        for (suffix, link) in [("", "-pie"), ("-static", "-static")] {
            // The libraries of Rust and C++ are not in the guest.
            if suffix.is_empty() && &*language == "rs" {
                continue;
            }
            let program = format!("{name}{suffix}");
            let path = out.join(&program);
            let mut compiler = match &*language {
                "rs" => rust_compiler(),
                "cc" => c_compiler("g++", link),
                _ => c_compiler("gcc", link),
            };
            compiler.arg("-o").arg(&path).arg(&source);
            command::check(compiler.stdout(std::io::stderr()), LIMIT)?;
            files.push(GuestFile {
                from: path,
                to: format!("/programs/{program}"),
            });
        }
    }
    files.extend(without_symbols(&out)?);
    files.extend(bpf_objects(workspace, &out)?);
    files.push(kernel_types(&folder.join("kernel_types"), &out)?);
    Ok(files)
}

/// `target` without its symbols: `target-linked`, whose symbols and types are in `.debug`,
/// `target-packed`, which has its symbols packed in itself, and `target-broken`, which has something else
/// where they would be.
fn without_symbols(out: &Path) -> Result<Vec<GuestFile>> {
    let run = |program: &str, args: &[&str]| {
        let mut tool = Command::new(program);
        tool.current_dir(out).args(args);
        command::check(tool.stdout(std::io::stderr()), LIMIT)
    };
    fs::create_dir_all(out.join(".debug"))?;
    let debug = ".debug/target-linked.debug";
    run("objcopy", &["--only-keep-debug", "target", debug])?;
    let link = format!("--add-gnu-debuglink={debug}");
    run(
        "objcopy",
        &["--strip-all", &link, "target", "target-linked"],
    )?;
    let symbols = "target-symbols";
    run("objcopy", &["--strip-debug", "target", symbols])?;
    run("xz", &["--force", "--keep", symbols])?;
    for (packed, program) in [
        (&*format!("{symbols}.xz"), "target-packed"),
        (symbols, "target-broken"),
    ] {
        let section = format!("--add-section=.gnu_debugdata={packed}");
        run("objcopy", &["--strip-all", &section, "target", program])?;
    }
    let file = |name: &str| GuestFile {
        from: out.join(name),
        to: format!("/programs/{name}"),
    };
    let files = ["target-linked", "target-packed", "target-broken", debug];
    Ok(files.map(file).into())
}

/// BTF of a kernel that does not exist, as `/programs/kernel.btf`: what is compiled with it has to get along with
/// another kernel's.
fn kernel_types(folder: &Path, out: &Path) -> Result<GuestFile> {
    let (object, types) = (out.join("kernel_types.o"), out.join("kernel.btf"));
    let mut compiler = Command::new("gcc");
    compiler.args(["-gbtf", "-c", "-o"]).arg(&object);
    compiler.arg(folder.join("kernel.c"));
    command::check(compiler.stdout(std::io::stderr()), LIMIT)?;
    let mut copy = Command::new("objcopy");
    copy.args(["-O", "binary", "--only-section=.BTF"]);
    copy.args(["--set-section-flags", ".BTF=alloc"]);
    copy.arg(&object).arg(&types);
    command::check(copy.stdout(std::io::stderr()), LIMIT)?;
    Ok(GuestFile {
        from: types,
        to: "/programs/kernel.btf".to_owned(),
    })
}

/// BPF objects to import, as `/programs/NAME.bpf.o`.
fn bpf_objects(workspace: &Workspace, out: &Path) -> Result<Vec<GuestFile>> {
    let folder = out.join("bpf");
    let package = ["run", "--quiet", "--package", "bpftrace-tests"];
    let mut writer = workspace.cargo(package);
    writer.args(["--bin", "bpf_objects", "--"]).arg(&folder);
    command::check(writer.stdout(std::io::stderr()), BUILD_LIMIT)?;
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let entry = entry?;
        files.push(GuestFile {
            from: entry.path(),
            to: format!("/programs/{}", entry.file_name().to_string_lossy()),
        });
    }
    Ok(files)
}

fn c_compiler(name: &str, link: &str) -> Command {
    let mut gcc = Command::new(name);
    gcc.args([
        "-g",
        "-O1",
        "-fno-omit-frame-pointer",
        "-Wall",
        "-Werror",
        "-static-libgcc",
        link,
    ]);
    if name == "g++" {
        gcc.arg("-static-libstdc++");
    }
    gcc
}

fn rust_compiler() -> Command {
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2024", "-g", "-C", "opt-level=1"]);
    rustc.args(["-C", "target-feature=+crt-static"]);
    rustc
}
