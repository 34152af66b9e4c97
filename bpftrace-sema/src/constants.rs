//! Constants that C headers define as macros, so that type information does not have them: address
//! families, errors, signals, flags of system calls, file modes, limits. Facts of the user interface
//! of x86-64 Linux (`include/uapi`) and of its C library; a few are the kernel's own
//! (`linux/sched.h`, `linux/errno.h`, `net/tcp_states.h`) and have not changed in ten years.
//!
//! They stand in for headers that are not installed. Values of macros with the type `unsigned long`
//! above the largest signed one are negative.

/// One a line, name and value, sorted by name.
const TABLE: &str = include_str!("constants.txt");

/// The value of a constant.
pub(crate) fn value(name: &str) -> Option<i64> {
    // A quick look: nothing else in the language looks like this.
    if !name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_') {
        return None;
    }
    TABLE.lines().find_map(|line| {
        let (known, value) = line.split_once(' ')?;
        (known == name).then(|| value.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::{TABLE, value};

    #[test]
    fn the_table_is_well_formed() {
        let mut last = "";
        for line in TABLE.lines() {
            let (name, value) = line.split_once(' ').expect("a name and a value");
            assert!(name > last, "{name} is out of order");
            assert!(value.parse::<i64>().is_ok(), "{line}");
            last = name;
        }
    }

    #[test]
    fn constants_that_scripts_use_are_there() {
        for (name, expected) in [
            ("AF_INET6", 10),
            ("S_IFMT", 0o170_000),
            ("EAGAIN", 11),
            ("SIGKILL", 9),
            ("O_CREAT", 0o100),
            ("TCP_ESTABLISHED", 1),
            ("SOCK_DGRAM", 2),
            ("IPPROTO_UDP", 17),
            ("PROT_EXEC", 4),
            ("MAP_ANONYMOUS", 32),
            ("CLONE_THREAD", 0x10000),
        ] {
            assert_eq!(value(name), Some(expected), "{name}");
        }
        assert_eq!(value("NOPE"), None);
    }
}
