//! Developer tasks: `cargo xtask --help` lists them.
//!
//! What builds and what runs tests is here and nowhere else: CI calls `cargo xtask test`. Read
//! [`guest`] for the machines that tests run on.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::guest::kernel::Kernel;
use crate::static_build::Quality;
use crate::workspace::Workspace;

mod command;
mod guest;
mod run;
mod setup;
mod static_build;
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
    /// What runs inside a guest.
    #[command(hide = true)]
    Agent,
}

fn main() -> Result<ExitCode> {
    let status = match Args::parse().task {
        TaskArgs::Agent => guest::agent::run().map(|()| 0),
        TaskArgs::SetUp => setup::set_up().map(|()| 0),
        TaskArgs::BuildStatic { fast } => {
            let quality = if fast { Quality::Fast } else { Quality::Full };
            let built = static_build::build(&Workspace::find()?, quality)?;
            println!("{}\n{}", built.bpftrace.display(), built.aotrt.display());
            Ok(0)
        }
        TaskArgs::Run { guest, words } => run::run(&Workspace::find()?, guest, &words),
        TaskArgs::Guest { kernel, line } => {
            run::guest_line(&Workspace::find()?, kernel, &line.join(" "))
        }
    }?;
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(255)))
}
