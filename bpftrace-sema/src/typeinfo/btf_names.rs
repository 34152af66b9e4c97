//! Names of the kernel's types, found without looking at every one of them: of 130,000 types only the
//! places of their names are kept. A name is looked for among the strings, of which each is there once, and
//! then its place among those of the types; both by code that looks at many bytes at a time.

use std::ops::Range;

use memchr::memmem;

/// Numbers of BTF (`include/uapi/linux/btf.h`).
const MAGIC: u16 = 0xeb9f;
const HEADER: usize = 24;
const TYPE: usize = 12;
const ENUM: usize = 6;
const ENUM64: usize = 19;

/// Bytes behind the head of a type of each kind: in any case, and for each of its parts. INT, PTR, ARRAY, STRUCT,
/// UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT, DECL_TAG, TYPE_TAG
/// and ENUM64 are 1 to 19.
const BEHIND: [(u8, u8); 20] = [
    (0, 0),
    (4, 0),
    (0, 0),
    (12, 0),
    (0, 12),
    (0, 12),
    (0, 8),
    (0, 0),
    (0, 0),
    (0, 0),
    (0, 0),
    (0, 0),
    (0, 0),
    (0, 8),
    (4, 0),
    (0, 12),
    (0, 0),
    (4, 0),
    (0, 0),
    (0, 12),
];

/// Where the names of all types are.
#[derive(Debug)]
pub(super) struct NameIndex {
    strings: Range<usize>,
    /// For each type, from number 1 on, where among the strings its name is: four bytes, as in BTF.
    names: Vec<u8>,
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
        let mut names = Vec::with_capacity(types.len() / 5);
        let mut enums = Vec::new();
        let (mut at, mut id) = (types.start, 0);
        while at < types.end {
            let head: &[u8; 8] = btf.get(at..)?.first_chunk()?;
            names.extend_from_slice(&head[..4]);
            id += 1;
            let info = u32::from_ne_bytes([head[4], head[5], head[6], head[7]]);
            let (kind, n) = ((info >> 24 & 0x1f) as usize, info as usize & 0xffff);
            let (fixed, each) = *BEHIND.get(kind)?;
            let start = at + TYPE;
            at = start + usize::from(fixed) + usize::from(each) * n;
            if kind == ENUM || kind == ENUM64 {
                enums.push(Enum {
                    id,
                    members: start..at,
                    size: usize::from(each),
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
        let Some(place) = self.place(btf, name) else {
            return Vec::new();
        };
        let finder = memmem::Finder::new(&place);
        let (mut ids, mut from) = (Vec::new(), 0);
        while let Some(at) = self.names.get(from..).and_then(|names| finder.find(names)) {
            let at = from + at;
            if at.is_multiple_of(4) {
                ids.push(at as u32 / 4 + 1);
            }
            // One that starts within a word may hide the next word.
            from = (at + 1).next_multiple_of(4);
        }
        ids
    }

    /// The number of the first enum with an enumerator of a name.
    pub(super) fn find_enum_with(&self, btf: &[u8], name: &str) -> Option<u32> {
        let place = self.place(btf, name)?;
        let has_it = |list: &&Enum| {
            let members = btf.get(list.members.clone()).unwrap_or_default();
            members
                .chunks(list.size)
                .any(|member| member.starts_with(&place))
        };
        self.enums.iter().find(has_it).map(|list| list.id)
    }

    /// Where a name is among the strings, as types say it.
    fn place(&self, btf: &[u8], name: &str) -> Option<[u8; 4]> {
        let strings = btf.get(self.strings.clone())?;
        let wanted = [b"\0", name.as_bytes(), b"\0"].concat();
        let before = memmem::find(strings, &wanted)?;
        Some((before as u32 + 1).to_ne_bytes())
    }
}

/// A number at a place, in the machine's byte order.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
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
            7,
            1 << 24,
            4,
            32,
            // enum print { one }
            1,
            6 << 24 | 1,
            4,
            11,
            0,
            // typedef int of type 1.
            7,
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
    fn types_and_enumerators_are_found_by_name() {
        let btf = btf(15);
        let index = NameIndex::new(&btf).expect("valid");
        assert_eq!(index.find(&btf, "int"), [1, 3]);
        assert_eq!(index.find(&btf, "print"), [2]);
        assert_eq!(index.find(&btf, "nt"), Vec::<u32>::new());
        assert_eq!(index.find(&btf, "sprint"), Vec::<u32>::new());
        assert_eq!(index.find_enum_with(&btf, "one"), Some(2));
        assert_eq!(index.find_enum_with(&btf, "int"), None);
    }

    #[test]
    fn a_place_is_not_looked_for_between_two_others() {
        let index = NameIndex {
            strings: 0..259,
            names: words(&[u32::from_le(0x0001_0005), 256, 256, 0]),
            enums: Vec::new(),
        };
        let mut strings = vec![0; 259];
        strings[256] = b'a';
        assert_eq!(index.find(&strings, "a"), [2, 3]);
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
