//! From addresses to symbols, through blazesym.
//!
//! Kernel addresses are looked up in `/proc/kallsyms`, which has modules and BPF programs too. User
//! addresses are looked up in the files that `/proc/PID/maps` names (symbol tables, and debug
//! information when asked for), in the vDSO, and in the perf map of the process. A process that ended
//! can be resolved when its memory map was remembered while it ran, or, for executables that are not
//! relocated, from the file that its probe names.

use std::collections::HashSet;
use std::path::PathBuf;

use blazesym::symbolize::source::{Elf, Kernel, Process as ProcessSource, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer, cache};
use blazesym::{MaybeDefault, Pid};

/// A place in source code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Path as debug information has it.
    pub(crate) file: String,
    /// Line, from 1; 0 when unknown.
    pub(crate) line: u32,
}

/// A function that the compiler put into another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inlined {
    /// Its name.
    pub(crate) name: String,
    /// Where in it the address is.
    pub(crate) place: Option<Place>,
}

/// What an address belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Symbol {
    /// Name, demangled when asked for.
    pub(crate) name: String,
    /// Bytes from the start of the symbol.
    pub(crate) offset: u64,
    /// Path of the file.
    pub(crate) module: Option<String>,
    /// Place in source code.
    pub(crate) place: Option<Place>,
    /// Inlined functions at the address, innermost first.
    pub(crate) inlined: Vec<Inlined>,
}

impl Symbol {
    /// Replaces names of C++ and Rust by those of the source.
    fn demangle(&mut self) {
        let inlined = self.inlined.iter_mut().map(|inlined| &mut inlined.name);
        for name in inlined.chain([&mut self.name]) {
            if let Some(demangled) = bpftrace_debuginfo::demangle(name, true) {
                *name = demangled;
            }
        }
    }
}

/// The process that an address belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process<'a> {
    /// Its id; it may have ended, or even be another one by now.
    pub(crate) pid: u32,
    /// Name of the probe that saw the address.
    pub(crate) probe: &'a str,
}

/// A source of symbols. Answers are as many as addresses asked for, in their order; not found is
/// `None`.
pub(crate) trait Symbolize {
    /// Symbols of the kernel.
    fn kernel(&mut self, addresses: &[u64]) -> Vec<Option<Symbol>>;
    /// Symbols of a process.
    fn user(&mut self, process: Process<'_>, addresses: &[u64]) -> Vec<Option<Symbol>>;
    /// Keeps the memory map of a running process.
    fn remember_process(&mut self, pid: u32);
    /// Forgets what was found out about processes.
    fn forget_processes(&mut self);
}

/// How user symbols are looked up.
#[derive(Clone, Debug)]
pub(crate) struct SymbolOptions {
    /// Demangle C++ and Rust names.
    pub(crate) demangle: bool,
    /// Look for places in source code and for inlined functions.
    pub(crate) debug_info: bool,
    /// Directories with split debug information; empty: the usual ones.
    pub(crate) debug_dirs: Vec<PathBuf>,
    /// Resolve what cannot be found otherwise as an unrelocated address of the probe's executable.
    pub(crate) by_program: bool,
}

/// Symbols of this machine.
pub(crate) struct HostSymbols {
    options: SymbolOptions,
    // Created when first needed: most scripts print no symbols.
    kernel: Option<Symbolizer>,
    user: Option<Symbolizer>,
    /// Processes whose memory maps are remembered.
    remembered: HashSet<u32>,
}

impl HostSymbols {
    pub(crate) fn new(options: SymbolOptions) -> Self {
        Self {
            options,
            kernel: None,
            user: None,
            remembered: HashSet::new(),
        }
    }

    fn user_symbolizer(&mut self) -> &Symbolizer {
        let options = &self.options;
        self.user.get_or_insert_with(|| {
            let dirs = (!options.debug_dirs.is_empty()).then_some(&options.debug_dirs);
            Symbolizer::builder()
                .enable_code_info(options.debug_info)
                .enable_inlined_fns(options.debug_info)
                .set_debug_dirs(dirs)
                .build()
        })
    }
}

impl Symbolize for HostSymbols {
    fn kernel(&mut self, addresses: &[u64]) -> Vec<Option<Symbol>> {
        let symbolizer = self.kernel.get_or_insert_with(|| {
            // Reading all symbols again whenever something changed would take longer than most
            // sessions; programs and modules loaded before the first look-up are there.
            Symbolizer::builder()
                .enable_auto_reload(false)
                .enable_code_info(false)
                .enable_inlined_fns(false)
                .build()
        });
        let source = Kernel {
            vmlinux: MaybeDefault::None,
            debug_syms: false,
            ..Kernel::default()
        };
        lookup(
            symbolizer,
            &Source::Kernel(source),
            Input::AbsAddr(addresses),
        )
    }

    fn user(&mut self, process: Process<'_>, addresses: &[u64]) -> Vec<Option<Symbol>> {
        let debug_info = self.options.debug_info;
        let by_program = self.options.by_program;
        let is_remembered = self.remembered.contains(&process.pid);
        let symbolizer = self.user_symbolizer();
        let mut source = ProcessSource::new(Pid::from(process.pid));
        source.debug_syms = debug_info;
        // The files of a process that ended, even of a zombie, can only be opened by their paths.
        let is_running =
            std::fs::read(format!("/proc/{}/maps", process.pid)).is_ok_and(|maps| !maps.is_empty());
        source.map_files = is_running;
        let input = Input::AbsAddr(addresses);
        let mut symbols = lookup(symbolizer, &Source::Process(source.clone()), input);
        if is_remembered && is_running && symbols.iter().any(Option::is_none) {
            // It may have loaded a library since its map was remembered.
            remember(symbolizer, process.pid);
            let now = lookup(symbolizer, &Source::Process(source.clone()), input);
            fill_in(&mut symbols, now);
        }
        if symbols.iter().any(Option::is_none) {
            // Neither debug information that cannot be read nor a process that ended just now should
            // cost the names.
            source.debug_syms = false;
            source.map_files = false;
            let plain = lookup(symbolizer, &Source::Process(source), input);
            fill_in(&mut symbols, plain);
        }
        if by_program
            && symbols.iter().any(Option::is_none)
            && let Some(path) = probed_file(process.probe)
        {
            let mut source = Elf::new(path);
            source.debug_syms = debug_info;
            let input = Input::VirtOffset(addresses);
            let in_file = lookup_if(symbolizer, &Source::Elf(source), input, is_inside);
            fill_in(&mut symbols, in_file);
        }
        if self.options.demangle {
            symbols.iter_mut().flatten().for_each(Symbol::demangle);
        }
        symbols
    }

    fn remember_process(&mut self, pid: u32) {
        if remember(self.user_symbolizer(), pid) {
            self.remembered.insert(pid);
        }
    }

    fn forget_processes(&mut self) {
        self.user = None;
        self.remembered.clear();
    }
}

/// Keeps the memory map and the perf map of a process; false when it is gone already.
fn remember(symbolizer: &Symbolizer, pid: u32) -> bool {
    let process = cache::Process::new(Pid::from(pid));
    symbolizer.cache(&cache::Cache::Process(process)).is_ok()
}

/// Replaces what was not found by what was found otherwise.
fn fill_in(symbols: &mut [Option<Symbol>], others: Vec<Option<Symbol>>) {
    for (symbol, other) in symbols.iter_mut().zip(others) {
        if symbol.is_none() {
            *symbol = other;
        }
    }
}

/// The file of a probe such as `uprobe:/bin/ls:main`.
fn probed_file(probe: &str) -> Option<&str> {
    let mut parts = probe.split(':');
    let provider = parts.next()?;
    let file = parts.next()?;
    let in_file = matches!(provider, "uprobe" | "uretprobe" | "usdt");
    (in_file && file.contains('/') && !file.contains('*')).then_some(file)
}

/// Whether the address is in the symbol, and not just somewhere behind it.
fn is_inside(symbol: &Sym<'_>) -> bool {
    symbol.offset == 0 || symbol.size.is_some_and(|size| symbol.offset < size)
}

fn lookup(
    symbolizer: &Symbolizer,
    source: &Source<'_>,
    input: Input<&[u64]>,
) -> Vec<Option<Symbol>> {
    lookup_if(symbolizer, source, input, |_| true)
}

fn lookup_if(
    symbolizer: &Symbolizer,
    source: &Source<'_>,
    input: Input<&[u64]>,
    wanted: fn(&Sym<'_>) -> bool,
) -> Vec<Option<Symbol>> {
    let addresses = *input.as_inner_ref();
    match symbolizer.symbolize(source, input) {
        Ok(found) => found
            .iter()
            .map(|symbolized| match symbolized {
                Symbolized::Sym(symbol) if wanted(symbol) => Some(symbol_of(symbol)),
                Symbolized::Sym(_) | Symbolized::Unknown(_) => None,
            })
            .collect(),
        // A file that cannot be read should cost the names in that file only.
        Err(_) if addresses.len() > 1 => addresses
            .iter()
            .flat_map(|address| {
                let alone = input.map(|_| std::slice::from_ref(address));
                lookup_if(symbolizer, source, alone, wanted)
            })
            .collect(),
        // Addresses without a name are shown as numbers.
        Err(_) => vec![None; addresses.len()],
    }
}

fn symbol_of(symbol: &Sym<'_>) -> Symbol {
    let inlined = symbol.inlined.iter().rev().map(|inlined| Inlined {
        name: inlined.name.to_string(),
        place: inlined.code_info.as_ref().map(place_of),
    });
    Symbol {
        name: symbol.name.to_string(),
        offset: symbol.offset as u64,
        module: symbol
            .module
            .as_ref()
            .map(|module| module.to_string_lossy().into_owned()),
        place: symbol.code_info.as_deref().map(place_of),
        inlined: inlined.collect(),
    }
}

fn place_of(info: &CodeInfo<'_>) -> Place {
    Place {
        file: info.to_path().to_string_lossy().into_owned(),
        line: info.line.unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn symbol_of_the_test(number: u64) -> u64 {
        number + 1
    }

    #[test]
    fn finds_a_function_of_this_process() {
        let address = symbol_of_the_test as *const () as u64;
        let mut symbols = HostSymbols::new(SymbolOptions {
            demangle: true,
            debug_info: false,
            debug_dirs: Vec::new(),
            by_program: false,
        });
        let process = Process {
            pid: std::process::id(),
            probe: "",
        };
        let found = symbols.user(process, &[address, address + 1, 16]);
        let names: Vec<_> = found
            .iter()
            .map(|symbol| symbol.as_ref().map(|s| (s.name.as_str(), s.offset)))
            .collect();
        let name = "bpftrace_loader::print::symbolize::tests::symbol_of_the_test";
        assert_eq!(names, [Some((name, 0)), Some((name, 1)), None]);
        let module = found[0].as_ref().and_then(|symbol| symbol.module.clone());
        let exe = std::env::current_exe().expect("known");
        assert_eq!(module, Some(exe.to_string_lossy().into_owned()));
    }

    #[test]
    fn a_process_that_ended_is_resolved_when_remembered() {
        for remembered in [true, false] {
            // A copy of this test that does nothing but wait.
            let mut child = std::process::Command::new(std::env::current_exe().expect("known"))
                .args(["--exact", "print::symbolize::tests::waits", "--nocapture"])
                .env("WAIT", "1")
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .expect("started");
            let output = child.stdout.take().expect("piped");
            let mut output = std::io::BufReader::new(output);
            let address = read_address(&mut output);
            let mut symbols = HostSymbols::new(SymbolOptions {
                demangle: true,
                debug_info: false,
                debug_dirs: Vec::new(),
                by_program: false,
            });
            if remembered {
                symbols.remember_process(child.id());
            }
            drop(child.stdin.take());
            child.wait().expect("ended");
            let process = Process {
                pid: child.id(),
                probe: "",
            };
            let found = symbols.user(process, &[address + 1]);
            let offset = found[0].as_ref().map(|symbol| symbol.offset);
            assert_eq!(offset, remembered.then_some(1));
        }
    }

    fn read_address(output: &mut impl std::io::BufRead) -> u64 {
        use std::io::BufRead as _;
        for line in output.by_ref().lines() {
            let line = line.expect("read");
            if let Some((_, address)) = line.split_once("address ") {
                return address.trim().parse().expect("a number");
            }
        }
        panic!("the child said no address");
    }

    /// The other half of the test above; alone, it does nothing.
    #[test]
    fn waits() {
        if std::env::var_os("WAIT").is_some() {
            println!("address {}", symbol_of_the_test as *const () as u64);
            let _ = std::io::stdin().read_line(&mut String::new());
        }
    }

    #[test]
    fn a_process_that_is_not_there_has_no_symbols() {
        let mut symbols = HostSymbols::new(SymbolOptions {
            demangle: true,
            debug_info: true,
            debug_dirs: Vec::new(),
            by_program: true,
        });
        symbols.remember_process(u32::MAX >> 1);
        let process = Process {
            pid: u32::MAX >> 1,
            probe: "uprobe:/nowhere:f",
        };
        assert_eq!(symbols.user(process, &[1, 2]), [None, None]);
    }

    #[test]
    fn files_of_probes() {
        assert_eq!(probed_file("uprobe:/bin/ls:main"), Some("/bin/ls"));
        assert_eq!(probed_file("uretprobe:./ls:main"), Some("./ls"));
        assert_eq!(probed_file("uprobe:/bin/*:main"), None);
        assert_eq!(probed_file("tracepoint:a/b:c"), None);
        assert_eq!(probed_file("kprobe:vfs_read"), None);
        assert_eq!(probed_file("begin"), None);
    }
}
