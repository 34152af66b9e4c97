//! `--info`.

use std::{fmt::Write as _, process::ExitCode};

use bpftrace_loader::{Host as _, LinuxHost};
use bpftrace_meta::Feature;

use super::say;
use crate::VERSION;

/// Says what this machine has. The names and the form of the lines are upstream's.
pub(crate) fn info() -> ExitCode {
    let host = LinuxHost::new();
    let mut text = String::new();
    let has = |feature: Feature| {
        if host.has_feature(feature) {
            "yes"
        } else {
            "no"
        }
    };
    let mut section = |title: &str, lines: &[(&str, &str)]| {
        let _ = writeln!(text, "{title}");
        for (name, value) in lines {
            let _ = writeln!(text, "  {name}: {value}");
        }
        text.push('\n');
    };
    let kernel = host.kernel_release();
    section(
        "System",
        &[("OS", &kernel), ("Arch", std::env::consts::ARCH)],
    );
    section(
        "Build",
        &[
            ("version", VERSION.trim_start_matches("bpftrace ")),
            ("LLVM", "none"),
            ("unsafe probe", "no"),
            ("bfd", "no"),
            ("libdw (DWARF support)", "yes"),
            ("blazesym (advanced symbolization)", "yes"),
            ("dwunwind (DWARF stack unwinding)", "yes"),
        ],
    );
    section(
        "Kernel helpers",
        &[
            ("dpath", has(Feature::DPath)),
            ("get_func_ip", has(Feature::FuncIpKprobe)),
            ("get_tai_ns", has(Feature::KtimeTai)),
            ("jiffies64", has(Feature::Jiffies64)),
            ("lookup_percpu_elem", has(Feature::MapLookupPercpuElem)),
            ("loop", has(Feature::Loop)),
            ("override_return", has(Feature::Override)),
        ],
    );
    section("Kernel features", &[("btf", has(Feature::Btf))]);
    section(
        "Probe types",
        &[
            ("fentry", has(Feature::Fentry)),
            ("iter", has(Feature::Iterators)),
            ("kprobe_multi", has(Feature::KprobeMulti)),
            ("kprobe_session", has(Feature::KprobeSession)),
            ("uprobe_multi", has(Feature::UprobeMulti)),
        ],
    );
    say(text.trim_end_matches('\n'));
    say("\n")
}
