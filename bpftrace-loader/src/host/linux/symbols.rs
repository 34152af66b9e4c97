use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;

use crate::host::KernelFunction;

/// Address of a symbol in `/proc/kallsyms`; 0 addresses (hidden from us) count as not found.
pub(super) fn kernel_symbol(name: &str) -> io::Result<Option<u64>> {
    let mut file = BufReader::with_capacity(1 << 16, File::open("/proc/kallsyms")?);
    let mut line = Vec::new();
    loop {
        line.clear();
        if file.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        // Address, type letter, name, and for modules a tab and the module's name.
        let mut words = line.split(|b| b.is_ascii_whitespace());
        let (Some(address), Some(_), Some(found)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        if found == name.as_bytes() {
            let address = std::str::from_utf8(address)
                .ok()
                .and_then(|text| u64::from_str_radix(text, 16).ok());
            return Ok(address.filter(|address| *address != 0));
        }
    }
}

/// The functions of tracefs, with addresses where the kernel has them (6.5).
pub(super) fn functions_of_tracefs(tracefs: &Path) -> io::Result<Vec<KernelFunction>> {
    let with_addresses = tracefs.join("available_filter_functions_addrs");
    if with_addresses.exists()
        && let Ok(functions) = traceable_functions(&with_addresses)
    {
        return Ok(functions);
    }
    traceable_functions(&tracefs.join("available_filter_functions"))
}

/// A list of functions: `[ADDRESS] NAME [MODULE]` on each line, the module in brackets.
pub(super) fn traceable_functions(file: &Path) -> io::Result<Vec<KernelFunction>> {
    let text = std::fs::read_to_string(file)?;
    let mut functions = parse_functions(&text);
    // A machine without debugfs has no list of them.
    if let Ok(text) = std::fs::read_to_string("/sys/kernel/debug/kprobes/blacklist") {
        let refused = parse_refused(&text);
        functions.retain(|function| {
            !refused.contains(&(function.name.as_str(), function.module.as_deref()))
        });
    }
    functions.sort_unstable();
    functions.dedup();
    Ok(functions)
}

/// Whether a function is better left alone: pieces that the compiler split off, markers of discarded
/// functions, and those that the kernel's own tests found to hang it
/// (tools/testing/selftests/bpf/prog_tests/kprobe_multi_test.c).
fn is_left_out(name: &str) -> bool {
    name.contains(".part.")
        || name.contains(".cold")
        || name.starts_with("__ftrace_invalid_address__")
        || name.starts_with("rcu_")
        || matches!(
            name,
            "arch_cpu_idle" | "default_idle" | "bpf_dispatcher_xdp_func"
        )
}

/// Names and modules of the functions that kprobes are refused on: `START-END<tab>NAME [MODULE]` on each line.
fn parse_refused(text: &str) -> HashSet<(&str, Option<&str>)> {
    fn function(line: &str) -> Option<(&str, Option<&str>)> {
        let mut words = line.split_whitespace().skip(1);
        Some((words.next()?, words.next().and_then(module_name)))
    }
    text.lines().filter_map(function).collect()
}

/// A module, which the kernel's lists have in brackets.
fn module_name(word: &str) -> Option<&str> {
    word.strip_prefix('[')?.strip_suffix(']')
}

fn parse_functions(text: &str) -> Vec<KernelFunction> {
    let mut functions = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(mut name) = words.next() else {
            continue;
        };
        let mut address = None;
        let mut rest = words.next();
        if name.len() == 16
            && let Ok(number) = u64::from_str_radix(name, 16)
            && let Some(word) = rest
        {
            address = Some(number).filter(|a| *a != 0);
            name = word;
            rest = words.next();
        }
        if is_left_out(name) {
            continue;
        }
        let module = rest.and_then(module_name);
        functions.push(KernelFunction {
            name: name.to_owned(),
            module: module.map(str::to_owned),
            address,
        });
    }
    functions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_that_kprobes_are_refused_on() {
        let text = "0xffffffff81000000-0xffffffff81000010\t__die\n\
                    0xffffffffc0000000-0xffffffffc0000010\tf [m]\nnothing\n\n";
        let expected = HashSet::from([("__die", None), ("f", Some("m"))]);
        assert_eq!(parse_refused(text), expected);
    }

    #[test]
    fn both_forms_of_the_list() {
        let parsed = parse_functions(
            "vfs_read\nkvm_exit [kvm]\nffffffff81000000 vfs_write\nffffffffc0000000 f [m]\n\
             foo.part.0\nrcu_read_lock\n__ftrace_invalid_address___8\n\n",
        );
        let expected = [
            ("vfs_read", None, None),
            ("kvm_exit", Some("kvm"), None),
            ("vfs_write", None, Some(0xffff_ffff_8100_0000)),
            ("f", Some("m"), Some(0xffff_ffff_c000_0000)),
        ]
        .map(
            |(name, module, address): (&str, Option<&str>, _)| KernelFunction {
                name: name.into(),
                module: module.map(Into::into),
                address,
            },
        );
        assert_eq!(parsed, expected);
    }
}
