//! `--info`.

use std::{fmt::Write as _, fs, process::ExitCode};

use bpftrace_loader::{Host as _, LinuxHost};
use bpftrace_meta::Feature;

use super::say;
use crate::VERSION;

/// Width of a column of what the kernel has.
const COLUMN: usize = 35;

/// Says what this machine has. The names and the form of the lines are upstream's, and so is the order; what
/// upstream does not ask about is behind that.
pub(crate) fn info() -> ExitCode {
    let host = LinuxHost::new();
    let has = |feature: Feature| yes(host.has_feature(feature));
    let text = [
        lines(
            "System",
            &[("OS", &system()), ("Arch", std::env::consts::ARCH)],
        ),
        lines(
            "Build",
            &[
                ("version", VERSION.trim_start_matches("bpftrace ")),
                ("bfd", "no"),
                ("libdw (DWARF support)", "yes"),
                ("libsystemd (systemd notify support)", "no"),
                ("blazesym (advanced symbolization)", "yes"),
                ("dwunwind (DWARF stack unwinding)", "yes"),
            ],
        ),
        columns(
            "Kernel helpers",
            &[
                ("dpath", has(Feature::DPath)),
                ("get_tai_ns", has(Feature::KtimeTai)),
                ("get_func_ip", has(Feature::FuncIpKprobe)),
                ("lookup_percpu_elem", has(Feature::MapLookupPercpuElem)),
                ("loop", has(Feature::Loop)),
                ("jiffies64", has(Feature::Jiffies64)),
                ("override_return", has(Feature::Override)),
            ],
        ),
        columns(
            "Kernel features",
            &[
                // From 5.2 on, for who may load programs for tracing.
                ("Instruction limit", "1000000"),
                ("btf", has(Feature::Btf)),
                ("module btf", yes(modules_have_types())),
            ],
        ),
        columns(
            "Probe types",
            &[
                ("kprobe_multi", has(Feature::KprobeMulti)),
                ("uprobe_multi", has(Feature::UprobeMulti)),
                ("kprobe_session", has(Feature::KprobeSession)),
                ("iter", has(Feature::Iterators)),
                ("fentry", has(Feature::Fentry)),
            ],
        ),
    ];
    say(&format!("{}\n", text.join("\n")))
}

fn yes(has: bool) -> &'static str {
    if has { "yes" } else { "no" }
}

/// Name, release and version of the system, as `uname -srv` says them.
fn system() -> String {
    let part = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default();
        text.trim_end().to_owned()
    };
    [part("ostype"), part("osrelease"), part("version")].join(" ")
}

/// Whether there are types of modules, beside those of the kernel.
fn modules_have_types() -> bool {
    fs::read_dir("/sys/kernel/btf")
        .is_ok_and(|files| files.flatten().any(|file| file.file_name() != *"vmlinux"))
}

fn lines(title: &str, facts: &[(&str, &str)]) -> String {
    let mut text = format!("{title}\n");
    for (name, value) in facts {
        let _ = writeln!(text, "  {name}: {value}");
    }
    text
}

/// Facts in two columns.
fn columns(title: &str, facts: &[(&str, &str)]) -> String {
    let mut text = format!("{title}\n");
    for pair in facts.chunks(2) {
        let mut line = String::from("  ");
        for (place, (name, value)) in pair.iter().enumerate() {
            let _ = write!(
                line,
                "{:1$}",
                "",
                (COLUMN * place).saturating_sub(line.len())
            );
            let _ = write!(line, "{name}: {value}");
        }
        let _ = writeln!(text, "{line}");
    }
    text
}
