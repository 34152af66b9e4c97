//! The runtime shim: runs the artifact inside its own executable.
//!
//! An ahead-of-time executable is a copy of this program with the section `.btaot` behind it. All it
//! knows is where to look for the artifact, how to read a command line and what to call itself; the rest is
//! [`bpftrace_loader::start`], the same as for a script that was just compiled.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::Write as _;
use std::process::ExitCode;

use bpftrace_loader::options::{self, Request};
use bpftrace_loader::{LinuxHost, LoadError, manifest_json};
use bpftrace_meta::{Artifact, read_payload};

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// What the process calls itself, as the compiler's own does: scripts leave out bpftrace's events by that name.
const PROCESS_NAME: &str = "bpftrace";

fn run() -> Result<u8, LoadError> {
    let payload = File::open("/proc/self/exe")
        .map_err(Into::into)
        .and_then(|mut file| read_payload(&mut file))
        .map_err(|e| LoadError::usage(e.to_string()))?;
    let artifact = Artifact::decode(&payload);
    let defaults = match &artifact {
        Ok(artifact) => artifact.manifest.default_options.clone(),
        Err(_) => Vec::new(),
    };
    let words = std::env::args_os().skip(1);
    let words = words.map(|word| word.to_string_lossy().into_owned());
    let text = match options::parse(defaults.into_iter().chain(words))? {
        Request::Help => {
            let name = std::env::args().next().unwrap_or_default();
            format!(
                "USAGE:\n    {name} [options] [--] [parameters...]\n\nOPTIONS:\n{}",
                options::RUNTIME_HELP
            )
        }
        Request::Version => concat!("bpftrace v", env!("CARGO_PKG_VERSION"), "\n").to_owned(),
        Request::Manifest => manifest_json(&artifact?.manifest) + "\n",
        Request::Run(run, output) => {
            // A name is nothing to fail for.
            let _ = std::fs::write("/proc/self/comm", PROCESS_NAME);
            let host = LinuxHost::new();
            // A damaged script is reported before an output file is made.
            artifact?;
            let mut sink = options::open_sink(&output, &host)?;
            return Ok(bpftrace_loader::start(&payload, &host, *run, &mut *sink)?.code);
        }
    };
    // Nobody reads it: nobody misses it.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(0)
}
