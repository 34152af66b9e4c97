//! Developer tasks: `cargo xtask --help` lists them.
//!
//! What builds and what runs tests is here and nowhere else: CI calls `cargo xtask test`. Read
//! [`guest`] for the machines that tests run on.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};

use crate::guest::kernel::Kernel;
use crate::runtime::Selection;
use crate::runtime::case::Mode;
use crate::static_build::Quality;
use crate::workspace::Workspace;

mod bench;
mod command;
mod fuzz;
mod guest;
mod run;
mod runtime;
mod setup;
mod static_build;
mod test;
mod workspace;

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Developer tasks."
)]
struct Args {
    #[command(subcommand)]
    task: TaskArgs,
}

#[derive(Debug, Subcommand)]
enum TaskArgs {
    /// Install the Debian packages that the other tasks need.
    SetUp,
    /// Build the static executables into target/static (or target/static-fast).
    BuildStatic {
        /// Build quickly: larger, slower executables, for development.
        #[arg(long)]
        fast: bool,
    },
    /// Build bpftrace and run it, in a guest where this machine's kernel cannot be used.
    Run {
        /// Run in a guest, with this kernel if one is named.
        #[arg(long, num_args = 0..=1, default_missing_value = "6.12")]
        guest: Option<Kernel>,
        /// What bpftrace is given.
        #[arg(last = true)]
        words: Vec<String>,
    },
    /// Boot a guest, run a shell line in it and show the output.
    Guest {
        /// The kernel: 5.10, 6.1, 6.12 or 7.x.
        #[arg(default_value_t = Kernel::DEFAULT)]
        kernel: Kernel,
        /// The shell line.
        #[arg(last = true, required = true)]
        line: Vec<String>,
    },
    /// Run the cases under tests/runtime in guests.
    RuntimeTest {
        /// The kernels; all four by default.
        #[arg(long)]
        kernel: Vec<Kernel>,
        /// Run programs directly, ahead-of-time compiled, or both ways.
        #[arg(long, default_value = "both")]
        mode: ModeArg,
        /// Only cases in whose FILE.NAME this occurs; may be given several times.
        #[arg(long)]
        filter: Vec<String>,
        /// Also say what passed, and what was skipped and why.
        #[arg(long, short)]
        verbose: bool,
        /// Test this executable and build none.
        #[arg(long)]
        bpftrace: Option<PathBuf>,
        /// Also put this folder's contents under the guests' root, such as shared libraries.
        #[arg(long)]
        with: Option<PathBuf>,
        /// Build quickly, as build-static does.
        #[arg(long)]
        fast: bool,
    },
    /// Run all the tests, as CI does: formatting, lints, unit tests, static build, runtime tests.
    Test {
        /// Build quickly, as build-static does.
        #[arg(long)]
        fast: bool,
    },
    /// Measure times, memory, sizes and the cost of events, beside another bpftrace if there is one.
    Bench {
        /// How often everything is measured.
        #[arg(long, default_value_t = 15)]
        runs: usize,
        /// The bpftrace to compare with; by default the one on PATH.
        #[arg(long)]
        peer: Option<PathBuf>,
        /// Measure this executable and build none.
        #[arg(long)]
        bpftrace: Option<PathBuf>,
        /// Only the instructions and the cost of events of the scripts in whose name this occurs.
        #[arg(long)]
        script: Option<String>,
    },
    /// Feed the compiler and the decoder of artifacts what nobody would write.
    Fuzz {
        /// What to fuzz; everything by default.
        target: Option<fuzz::FuzzTarget>,
        /// How long each target runs.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// What runs inside a guest.
    #[command(hide = true)]
    Agent,
}

/// Ways to run a program, on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ModeArg {
    /// Compile and run.
    Direct,
    /// Write an executable and run that.
    Aot,
    /// First the one, then the other.
    Both,
}

impl ModeArg {
    fn modes(self) -> Vec<Mode> {
        match self {
            ModeArg::Direct => vec![Mode::Direct],
            ModeArg::Aot => vec![Mode::Aot],
            ModeArg::Both => vec![Mode::Direct, Mode::Aot],
        }
    }
}

fn main() -> ExitCode {
    match task(Args::parse().task) {
        Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(255)),
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Does a task and returns the exit status.
fn task(task: TaskArgs) -> Result<i32> {
    match task {
        TaskArgs::Agent => guest::agent::run().map(|()| 0),
        TaskArgs::SetUp => setup::set_up().map(|()| 0),
        TaskArgs::BuildStatic { fast } => {
            let built = static_build::build(&Workspace::find()?, quality(fast))?;
            println!("{}\n{}", built.bpftrace.display(), built.aotrt.display());
            Ok(0)
        }
        TaskArgs::RuntimeTest {
            kernel,
            mode,
            filter,
            verbose,
            bpftrace,
            fast,
            with,
        } => {
            let workspace = Workspace::find()?;
            setup::set_up()?;
            let bpftrace = match bpftrace {
                Some(path) => path,
                None => static_build::build(&workspace, quality(fast))?.bpftrace,
            };
            let kernels = if kernel.is_empty() {
                Kernel::ALL.to_vec()
            } else {
                kernel
            };
            let selection = Selection {
                kernels,
                modes: mode.modes(),
                filters: filter,
                verbose,
                with,
            };
            let totals = runtime::run(&workspace, &bpftrace, &selection)?;
            println!("{totals}");
            Ok(i32::from(totals.failed > 0))
        }
        TaskArgs::Test { fast } => {
            let totals = test::run(&Workspace::find()?, quality(fast))?;
            println!("{totals}");
            Ok(i32::from(totals.failed > 0))
        }
        TaskArgs::Bench {
            runs,
            peer,
            bpftrace,
            script,
        } => {
            let workspace = Workspace::find()?;
            if let Some(status) = bench::with_tracefs()? {
                return Ok(status);
            }
            let bpftrace = match bpftrace {
                Some(path) => path,
                None => static_build::build(&workspace, Quality::Full)?.bpftrace,
            };
            bench::run(
                &workspace,
                &bpftrace,
                &bench::Options { runs, peer, script },
            )
            .map(|()| 0)
        }
        TaskArgs::Fuzz { target, seconds } => {
            fuzz::run(&Workspace::find()?, target, seconds).map(|()| 0)
        }
        TaskArgs::Run { guest, words } => run::run(&Workspace::find()?, guest, &words),
        TaskArgs::Guest { kernel, line } => {
            run::guest_line(&Workspace::find()?, kernel, &line.join(" "))
        }
    }
}

fn quality(fast: bool) -> Quality {
    if fast { Quality::Fast } else { Quality::Full }
}
