//! Names of things that user space knows: users, cgroups, attached targets, network addresses.

use std::collections::HashMap;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::number;
use super::value::tail;

/// Names by number, each looked up once.
pub(crate) struct Names {
    passwd: PathBuf,
    mounts: PathBuf,
    users: HashMap<u64, Vec<u8>>,
    cgroup_filters: Vec<String>,
    /// By filter and cgroup id.
    cgroup_paths: HashMap<(u64, u64), Vec<u8>>,
    targets: Vec<String>,
}

impl Names {
    pub(crate) fn new(cgroup_filters: Vec<String>, targets: Vec<String>) -> Self {
        Self {
            passwd: PathBuf::from("/etc/passwd"),
            mounts: PathBuf::from("/proc/mounts"),
            users: HashMap::new(),
            cgroup_filters,
            cgroup_paths: HashMap::new(),
            targets,
        }
    }

    /// Looks users and mounts up in these files instead.
    #[cfg(test)]
    pub(crate) fn with_files(mut self, passwd: &Path, mounts: &Path) -> Self {
        passwd.clone_into(&mut self.passwd);
        mounts.clone_into(&mut self.mounts);
        self
    }

    /// Name of the attached target with a number; empty when there is none.
    pub(crate) fn probe(&self, number: u64) -> &str {
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        self.targets.get(index).map_or("", String::as_str)
    }

    pub(crate) fn set_target(&mut self, number: u64, name: String) {
        // Targets are numbered from 0 without gaps, so a huge number is a mistake, not a request
        // for memory.
        let Ok(index) = usize::try_from(number) else {
            return;
        };
        if index >= self.targets.len() && index <= self.targets.len() + 65_536 {
            self.targets.resize(index + 1, String::new());
        }
        if let Some(slot) = self.targets.get_mut(index) {
            *slot = name;
        }
    }

    /// Name of a user; empty when unknown.
    pub(crate) fn user(&mut self, uid: u64) -> &[u8] {
        let passwd = &self.passwd;
        self.users.entry(uid).or_insert_with(|| {
            let Ok(file) = fs::read(passwd) else {
                return Vec::new();
            };
            let wanted = uid.to_string();
            file.split(|byte| *byte == b'\n')
                .find_map(|line| {
                    let mut fields = line.split(|byte| *byte == b':');
                    let name = fields.next()?;
                    (fields.nth(1)? == wanted.as_bytes()).then(|| name.to_vec())
                })
                .unwrap_or_default()
        })
    }

    /// Paths of a cgroup in all hierarchies whose name matches a filter, as `name:/path` with commas
    /// between: the unified hierarchy first, then those of version 1 by name.
    pub(crate) fn cgroup_path(&mut self, filter: u64, id: u64) -> &[u8] {
        let pattern = usize::try_from(filter)
            .ok()
            .and_then(|index| self.cgroup_filters.get(index))
            .map_or("", String::as_str);
        // A filter that the manifest lacks filters nothing.
        let pattern = if pattern.is_empty() { "*" } else { pattern };
        let mounts = &self.mounts;
        self.cgroup_paths.entry((filter, id)).or_insert_with(|| {
            let paths = hierarchies(mounts)
                .into_iter()
                .filter(|hierarchy| matches(pattern.as_bytes(), &hierarchy.name))
                .filter_map(|hierarchy| {
                    let path = find_inode(&hierarchy.root, id)?;
                    Some([hierarchy.name.as_slice(), b":", path.as_slice()].concat())
                });
            paths.collect::<Vec<_>>().join(&b","[..])
        })
    }
}

struct Hierarchy {
    version_1: bool,
    name: Vec<u8>,
    root: PathBuf,
}

/// Mounted cgroup hierarchies, in the order they are shown.
fn hierarchies(mounts: &Path) -> Vec<Hierarchy> {
    let mounts = fs::read(mounts).unwrap_or_default();
    let mut found: Vec<Hierarchy> = mounts
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            // Device, mount point, type.
            let mut fields = line.split(|byte| *byte == b' ');
            let mount_point = fields.nth(1)?;
            let version_1 = match fields.next()? {
                b"cgroup" => true,
                b"cgroup2" => false,
                _ => return None,
            };
            let root = PathBuf::from(std::ffi::OsString::from_vec(mount_point.to_vec()));
            let name = if version_1 {
                root.file_name()?.as_bytes().to_vec()
            } else {
                b"unified".to_vec()
            };
            Some(Hierarchy {
                version_1,
                name,
                root,
            })
        })
        .collect();
    found.sort_unstable_by(|a, b| (a.version_1, &a.name).cmp(&(b.version_1, &b.name)));
    found
}

/// Path below `root`, from `/`, of the directory with this inode.
fn find_inode(root: &Path, inode: u64) -> Option<Vec<u8>> {
    if fs::metadata(root).ok()?.ino() == inode {
        return Some(b"/".to_vec());
    }
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        // A cgroup may go away at any time.
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            // Type and inode are in the directory entry: no system call for each file.
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let path = entry.path();
            if std::os::unix::fs::DirEntryExt::ino(&entry) == inode {
                let below = path.strip_prefix(root).ok()?;
                return Some([b"/", below.as_os_str().as_bytes()].concat());
            }
            pending.push(path);
        }
    }
    None
}

/// Whether `text` matches `pattern`, in which `*` stands for any bytes.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let mut parts = pattern.split(|byte| *byte == b'*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let found = (0..=rest.len().saturating_sub(part.len()))
            .find(|start| rest[*start..].starts_with(part));
        match found {
            Some(start) => rest = &rest[start + part.len()..],
            None => return false,
        }
    }
    true
}

/// Appends a network address of 4 or 16 bytes as `inet_ntop` does; nothing for another family.
pub(crate) fn write_inet(family: u64, address: &[u8], out: &mut Vec<u8>) {
    let byte = |index: usize| number::read(address, index, 1) as u8;
    if family == libc::AF_INET as u64 {
        let v4 = Ipv4Addr::from(std::array::from_fn::<u8, 4, _>(byte));
        out.extend_from_slice(v4.to_string().as_bytes());
    } else if family == libc::AF_INET6 as u64 {
        let octets = std::array::from_fn::<u8, 16, _>(byte);
        let v6 = Ipv6Addr::from(octets);
        // An IPv4 address behind 96 zero bits is shown as one, but `::` and `::1` are not.
        let embedded = octets[..12].iter().all(|octet| *octet == 0) && v6.segments()[6] != 0;
        if embedded {
            let v4 = Ipv4Addr::from(std::array::from_fn::<u8, 4, _>(|index| octets[12 + index]));
            out.extend_from_slice(b"::");
            out.extend_from_slice(v4.to_string().as_bytes());
        } else {
            out.extend_from_slice(v6.to_string().as_bytes());
        }
    }
}

/// Appends six bytes as `XX:XX:XX:XX:XX:XX`.
pub(crate) fn write_mac(address: &[u8], out: &mut Vec<u8>) {
    for index in 0..6 {
        if index > 0 {
            out.push(b':');
        }
        let byte = number::read(tail(address, index), 0, 1) as u8;
        number::push_byte(byte, number::UPPER, out);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "cpu", true),
            ("cpu", "cpu", true),
            ("cpu", "cpuacct", false),
            ("cpu*", "cpuacct", true),
            ("*acct", "cpuacct", true),
            ("c*u*t", "cpuacct", true),
            ("c*x*t", "cpuacct", false),
            ("cpu*cpu", "cpu", false),
            ("", "cpu", false),
            ("a**b", "ab", true),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn network_addresses() {
        let inet = |family: i32, bytes: &[u8]| {
            let mut out = Vec::new();
            write_inet(family as u64, bytes, &mut out);
            String::from_utf8(out).expect("ASCII")
        };
        assert_eq!(inet(libc::AF_INET, &[127, 0, 0, 1]), "127.0.0.1");
        assert_eq!(inet(libc::AF_INET, &[]), "0.0.0.0");
        assert_eq!(inet(libc::AF_UNIX, &[1, 2, 3, 4]), "");
        let v6 = |text: &str| {
            let address: Ipv6Addr = text.parse().expect("address");
            inet(libc::AF_INET6, &address.octets())
        };
        // What glibc 2.36's inet_ntop gives for each.
        for text in [
            "::",
            "::1",
            "::2.3.4.5",
            "::ffff:1.2.3.4",
            "2001:db8::ff00:42:8329",
            "fe80::1:0:0:1",
            "1:2:3:4:5:6:7:8",
            "1:0:3:4:5:6:7:8",
        ] {
            assert_eq!(v6(text), text);
        }
    }

    #[test]
    fn mac_addresses_have_two_digits_a_byte() {
        let mut out = Vec::new();
        write_mac(&[0, 0x1a, 0x80, 0xff, 9, 0xab], &mut out);
        assert_eq!(out, b"00:1A:80:FF:09:AB");
    }

    #[test]
    fn users_and_cgroups_from_files() {
        let dir = tempfile::tempdir().expect("directory");
        let passwd = dir.path().join("passwd");
        fs::write(&passwd, "root:x:0:0:root:/root:/bin/sh\nkim:x:17:5::/:\n").expect("written");
        let (old, new) = (dir.path().join("cpu"), dir.path().join("all"));
        fs::create_dir_all(old.join("a/b")).expect("created");
        fs::create_dir_all(new.join("x/y/z")).expect("created");
        let mounts = dir.path().join("mounts");
        let mut file = fs::File::create(&mounts).expect("created");
        writeln!(file, "cgroup {} cgroup rw 0 0", old.display()).expect("written");
        writeln!(file, "cgroup2 {} cgroup2 rw 0 0", new.display()).expect("written");
        writeln!(file, "proc /proc proc rw 0 0").expect("written");

        let filters = vec!["*".to_owned(), "cpu".to_owned()];
        let mut names = Names::new(filters, vec!["begin".to_owned()]).with_files(&passwd, &mounts);
        assert_eq!(names.user(17), b"kim");
        assert_eq!(names.user(18), b"");
        let inode = |path: PathBuf| fs::metadata(path).expect("exists").ino();
        assert_eq!(
            names.cgroup_path(0, inode(new.join("x/y"))),
            b"unified:/x/y"
        );
        assert_eq!(names.cgroup_path(0, inode(new.clone())), b"unified:/");
        assert_eq!(names.cgroup_path(1, inode(old.join("a/b"))), b"cpu:/a/b");
        assert_eq!(names.cgroup_path(1, inode(new.join("x"))), b"");

        assert_eq!(names.probe(0), "begin");
        assert_eq!(names.probe(7), "");
        names.set_target(2, "end".to_owned());
        names.set_target(u64::MAX, "none".to_owned());
        assert_eq!((names.probe(1), names.probe(2)), ("", "end"));
    }
}
