//! A test case, as it stands in a file under `tests/runtime`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::guest::kernel::Kernel;

/// A way to run a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// `bpftrace` compiles it and runs it.
    Direct,
    /// `bpftrace --aot` writes an executable, and that is run.
    Aot,
}

impl Mode {
    /// The name in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Direct => "direct",
            Mode::Aot => "aot",
        }
    }
}

/// One case. The fields are explained in `tests/runtime/README.md`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// Unique within its file.
    pub(crate) name: String,
    /// Ids of the language reference's feature table.
    pub(crate) features: Vec<String>,
    /// The text of a program, or…
    pub(crate) program: Option<String>,
    /// … a whole shell command line, with `{{bpftrace}}` in it.
    pub(crate) command: Option<String>,
    /// Give the program as a file of this name, not with `-e`.
    pub(crate) file: Option<String>,
    /// Options for both `bpftrace` and an executable that it wrote.
    #[serde(default)]
    pub(crate) options: Vec<String>,
    /// Options for `bpftrace` alone.
    #[serde(default)]
    pub(crate) compile_options: Vec<String>,
    /// What follows the program.
    #[serde(default)]
    pub(crate) args: Vec<String>,
    /// Added to the environment.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// Other files in the folder that the case runs in.
    #[serde(default)]
    pub(crate) files: BTreeMap<String, String>,
    /// A shell line that runs beside the case; `{{pid}}` is its process id.
    pub(crate) background: Option<String>,
    /// A shell line to run once probes are attached.
    pub(crate) stimulus: Option<String>,
    /// Interrupt the program after the stimulus.
    #[serde(default)]
    pub(crate) interrupt: bool,
    /// Run as the guest's ordinary user.
    #[serde(default)]
    pub(crate) ordinary_user: bool,
    /// All of standard output, as a pattern.
    #[serde(default)]
    pub(crate) stdout: String,
    /// All of standard error, as a pattern; the line about attached probes may be left out.
    #[serde(default)]
    pub(crate) stderr: String,
    /// The exit status.
    #[serde(default)]
    pub(crate) exit: i32,
    /// Lines of standard output may come in any order.
    #[serde(default)]
    pub(crate) any_order: bool,
    /// Why a pattern has `...` in it.
    pub(crate) because: Option<String>,
    /// Where the case applies.
    pub(crate) needs: Option<Needs>,
    /// How to run it; by default a program both ways, a command line directly.
    pub(crate) modes: Option<BTreeSet<Mode>>,
    /// Compile it with this kernel's types, and run that on every kernel.
    pub(crate) build_on: Option<KernelName>,
    /// How long it may take, in seconds of an emulated machine.
    #[serde(default = "default_timeout")]
    pub(crate) timeout: u64,
}

/// Under emulation, on a busy machine.
fn default_timeout() -> u64 {
    90
}

/// Kernels that a case needs, and why others do not do.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Needs {
    /// The first kernel that will do.
    pub(crate) from: Option<KernelName>,
    /// The first kernel that will not do any more.
    pub(crate) before: Option<KernelName>,
    /// What is missing elsewhere.
    pub(crate) reason: String,
}

/// A kernel of the guests, or a version between two of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct KernelName(u32, u32);

impl TryFrom<String> for KernelName {
    type Error = String;

    fn try_from(text: String) -> Result<KernelName, String> {
        text.parse()
    }
}

impl FromStr for KernelName {
    type Err = String;

    fn from_str(text: &str) -> Result<KernelName, String> {
        let number = |part: &str| match part {
            "x" => Ok(0),
            _ => part
                .parse()
                .map_err(|_| format!("{text:?} is not a kernel version")),
        };
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        Ok(KernelName(number(major)?, number(minor)?))
    }
}

impl KernelName {
    /// The version of a guest's kernel.
    pub(crate) fn of(kernel: Kernel) -> KernelName {
        kernel.name().parse().expect("kernels are named by version")
    }

    /// The guest's kernel of this name.
    fn kernel(self) -> Option<Kernel> {
        Kernel::ALL
            .into_iter()
            .find(|kernel| KernelName::of(*kernel) == self)
    }
}

/// A case and where it was found.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The file's name, without the extension.
    pub(crate) file: String,
    /// The case.
    pub(crate) case: Case,
}

impl Loaded {
    /// How the case is called in output and by filters.
    pub(crate) fn full_name(&self) -> String {
        format!("{}.{}", self.file, self.case.name)
    }

    /// Where an executable for this case was built ahead, if the case has one.
    pub(crate) fn build_kernel(&self) -> Option<Kernel> {
        self.case.build_on.and_then(KernelName::kernel)
    }
}

/// Reads all case files of a folder, in the order of their names.
pub(crate) fn load_all(folder: &Path) -> Result<Vec<Loaded>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct CaseFile {
        case: Vec<Case>,
    }
    let mut paths = Vec::new();
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            paths.push(path);
        }
    }
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        let context = || format!("{}", path.display());
        let text = fs::read_to_string(&path).with_context(context)?;
        let file: CaseFile = toml::from_str(&text).with_context(context)?;
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut names = BTreeSet::new();
        for case in file.case {
            check(&case)
                .with_context(|| format!("case {:?}", case.name))
                .with_context(context)?;
            ensure!(
                names.insert(case.name.clone()),
                "{}: two cases {:?}",
                context(),
                case.name
            );
            all.push(Loaded {
                file: name.clone(),
                case,
            });
        }
    }
    Ok(all)
}

/// What the types do not say.
fn check(case: &Case) -> Result<()> {
    match (&case.program, &case.command) {
        (Some(_), None) => {}
        (None, Some(command)) => {
            ensure!(
                command.contains("{{bpftrace}}"),
                "the command does not run {{{{bpftrace}}}}"
            );
            ensure!(
                case.options.is_empty() && case.compile_options.is_empty() && case.args.is_empty(),
                "options and args belong into the command"
            );
            ensure!(
                case.modes.is_none() && case.build_on.is_none() && case.file.is_none(),
                "a command line is run as it is: no modes, build_on or file"
            );
        }
        _ => bail!("needs either a program or a command"),
    }
    for feature in &case.features {
        let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let is_feature = feature
            .strip_prefix('F')
            .is_some_and(|digits| digits.len() == 3 && all_digits(digits));
        let is_trap = feature
            .strip_prefix("L13.")
            .is_some_and(|digits| matches!(digits.len(), 1..=2) && all_digits(digits));
        ensure!(
            is_feature || is_trap,
            "{feature:?} is not the id of a feature or a trap"
        );
    }
    let gap = |text: &str| text.lines().any(|line| line == "...");
    ensure!(
        case.because.is_some() == (gap(&case.stdout) || gap(&case.stderr)),
        "`...` and `because` go together"
    );
    if let Some(name) = case.build_on {
        ensure!(
            name.kernel().is_some(),
            "build_on is not a kernel of the guests"
        );
        ensure!(case.modes.is_none(), "build_on has its own way to run");
    }
    super::expect::check_pattern(&case.stdout)?;
    super::expect::check_pattern(&case.stderr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_compare_by_number() {
        let version = |text: &str| text.parse::<KernelName>().unwrap();
        assert!(version("5.10") < version("5.13"));
        assert!(version("5.9") < version("5.10"));
        assert!(version("6.12") < KernelName::of(Kernel::V7));
        assert!("six".parse::<KernelName>().is_err());
    }

    #[test]
    fn the_cases_of_the_project_are_well_formed() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/runtime");
        assert!(!load_all(&folder).unwrap().is_empty());
    }
}
