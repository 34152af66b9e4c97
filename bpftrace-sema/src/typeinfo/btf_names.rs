//! Names of the kernel's types, found without looking at every one of them: of 130,000 types only the
//! offsets of their names are kept, and a name is looked for among the strings, of which each is there once.

use std::ops::Range;

use memchr::memmem;

/// Numbers of BTF (`include/uapi/linux/btf.h`).
const MAGIC: u16 = 0xeb9f;
const HEADER: usize = 24;
const TYPE: usize = 12;
const ENUM: u32 = 6;
const ENUM64: u32 = 19;

/// Buckets of a filter for offsets.
const BUCKETS: usize = 4096;

/// Where the names of all types are.
#[derive(Debug)]
pub(super) struct NameIndex {
    strings: Range<usize>,
    /// For each type, from number 1 on, where among the strings its name is.
    names: Vec<u32>,
    enums: Vec<Enum>,
}

/// Where the enumerators of an enum are.
#[derive(Debug)]
struct Enum {
    id: u32,
    members: Range<usize>,
    /// Bytes of each; its name comes first.
    size: usize,
}

impl NameIndex {
    /// Reads the types of BTF that is not split from another; `None` if it is not what this code knows.
    pub(super) fn new(btf: &[u8]) -> Option<Self> {
        if word(btf, 0)? as u16 != MAGIC {
            return None;
        }
        let header = word(btf, 4)? as usize;
        if header < HEADER {
            return None;
        }
        let section = |at: usize| {
            let start = header.checked_add(word(btf, at)? as usize)?;
            let end = start.checked_add(word(btf, at + 4)? as usize)?;
            (end <= btf.len()).then_some(start..end)
        };
        let types = section(8)?;
        let strings = section(16)?;
        let mut names = Vec::with_capacity(types.len() / 20);
        let mut enums = Vec::new();
        let mut at = types.start;
        while at < types.end {
            names.push(word(btf, at)?);
            let info = word(btf, at + 4)?;
            let (kind, n) = (info >> 24 & 0x1f, info as usize & 0xffff);
            let members = at + TYPE..at + TYPE + behind(kind, n)?;
            at = members.end;
            if let ENUM | ENUM64 = kind {
                enums.push(Enum {
                    id: names.len() as u32,
                    size: members.len() / n.max(1),
                    members,
                });
            }
        }
        (at == types.end).then_some(Self {
            strings,
            names,
            enums,
        })
    }

    /// Numbers of the types of a name, in ascending order.
    pub(super) fn find(&self, btf: &[u8], name: &str) -> Vec<u32> {
        let places = self.places(btf, name);
        self.names
            .iter()
            .zip(1..)
            .filter_map(|(&at, id)| places.has(at).then_some(id))
            .collect()
    }

    /// The number of the first enum with an enumerator of a name.
    pub(super) fn find_enum_with(&self, btf: &[u8], name: &str) -> Option<u32> {
        let places = self.places(btf, name);
        let has_it = |list: &&Enum| {
            let members = btf.get(list.members.clone()).unwrap_or_default();
            let mut names = members.chunks(list.size.max(1)).filter_map(|m| word(m, 0));
            names.any(|at| places.has(at))
        };
        self.enums.iter().find(has_it).map(|list| list.id)
    }

    /// Where a name is among the strings.
    fn places(&self, btf: &[u8], name: &str) -> Places {
        let strings = btf.get(self.strings.clone()).unwrap_or_default();
        let mut wanted = name.as_bytes().to_vec();
        wanted.push(0);
        let mut places = Places {
            all: Vec::new(),
            filter: [false; BUCKETS],
        };
        for at in memmem::find_iter(strings, &wanted) {
            places.all.push(at as u32);
            places.filter[at % BUCKETS] = true;
        }
        places
    }
}

/// Places of a name: there are several where it is the end of other strings too.
struct Places {
    all: Vec<u32>,
    filter: [bool; BUCKETS],
}

impl Places {
    fn has(&self, at: u32) -> bool {
        self.filter[at as usize % BUCKETS] && self.all.binary_search(&at).is_ok()
    }
}

/// A number at a place, in the machine's byte order.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// Bytes behind the head of a type of a kind with `n` parts.
fn behind(kind: u32, n: usize) -> Option<usize> {
    Some(match kind {
        // PTR, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FLOAT, TYPE_TAG.
        2 | 7..=12 | 16 | 18 => 0,
        // INT, VAR, DECL_TAG.
        1 | 14 | 17 => 4,
        // ARRAY.
        3 => 12,
        // STRUCT, UNION, DATASEC.
        4 | 5 | 15 | ENUM64 => 12 * n,
        // FUNC_PROTO.
        13 | ENUM => 8 * n,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    /// Three types: `int`, an enum `print` with one value, and another `int`.
    fn btf(n_string_bytes: u32) -> Vec<u8> {
        let types = words(&[
            // int
            5,
            1 << 24,
            4,
            32,
            // enum print { one }
            1,
            6 << 24 | 1,
            4,
            11,
            0,
            // typedef int of type 1, whose name is the end of `print`.
            3,
            8 << 24,
            1,
        ]);
        let mut btf = words(&[
            u32::from(MAGIC) | 1 << 16,
            HEADER as u32,
            0,
            types.len() as u32,
            types.len() as u32,
            n_string_bytes,
        ]);
        btf.extend(types);
        btf.extend(b"\0print\0int\0one\0");
        btf
    }

    #[test]
    fn types_are_found_by_name_also_where_strings_share_their_ends() {
        let mut btf = btf(15);
        // The first type is named by the whole string.
        btf[HEADER..HEADER + 4].copy_from_slice(&7u32.to_ne_bytes());
        let index = NameIndex::new(&btf).expect("valid");
        assert_eq!(index.find(&btf, "int"), [1, 3]);
        assert_eq!(index.find(&btf, "print"), [2]);
        assert_eq!(index.find(&btf, "nt"), Vec::<u32>::new());
        assert_eq!(index.find(&btf, "sprint"), Vec::<u32>::new());
        assert_eq!(index.find_enum_with(&btf, "one"), Some(2));
        assert_eq!(index.find_enum_with(&btf, "int"), None);
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let whole = btf(15);
        assert!(NameIndex::new(&whole).is_some());
        for len in 0..whole.len() {
            assert!(NameIndex::new(&whole[..len]).is_none(), "{len}");
        }
        assert!(NameIndex::new(&btf(16)).is_none());
    }
}
