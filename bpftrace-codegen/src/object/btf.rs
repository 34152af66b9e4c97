//! BTF, the kernel's type format: records, strings and the section.
//!
//! The layout is that of include/uapi/linux/btf.h and Documentation/bpf/btf.rst in the kernel's tree.
//! All numbers are little endian.

use std::collections::HashMap;

/// Magic number of `.BTF` and `.BTF.ext`.
pub(super) const BTF_MAGIC: u16 = 0xeb9f;
/// Version of both.
pub(super) const BTF_VERSION: u8 = 1;

const HEADER_LEN: u32 = 24;
/// Most members, parameters or variables that one type can have.
pub(super) const MAX_VLEN: usize = 0xffff;

const KIND_INT: u32 = 1;
const KIND_PTR: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FWD: u32 = 7;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_FLOAT: u32 = 16;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

/// Id of a type; 0 is `void`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct BtfId(pub(super) u32);

impl BtfId {
    pub(super) const VOID: BtfId = BtfId(0);
}

/// How an integer is shown and compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IntEncoding {
    Unsigned = 0,
    Signed = 1,
    Bool = 4,
}

/// A member of a struct or union.
#[derive(Clone, Copy, Debug)]
pub(super) struct BtfMember<'a> {
    /// Empty for an anonymous struct or union.
    pub(super) name: &'a str,
    pub(super) ty: BtfId,
    pub(super) bit_offset: u32,
    /// 0 when it is no bit-field.
    pub(super) bitfield_bits: u32,
}

/// Linkage of a function. The numbers are `enum btf_func_linkage`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FuncLinkage {
    Static = 0,
    Global = 1,
    Extern = 2,
}

/// Linkage of a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VarLinkage {
    Global = 1,
    Extern = 2,
}

/// A variable's place in a section.
#[derive(Clone, Copy, Debug)]
pub(super) struct SectionVar {
    /// A variable, or a function in `.ksyms`.
    pub(super) ty: BtfId,
    pub(super) offset: u32,
    pub(super) size: u32,
}

/// Collects types and strings. A record that is there already is not added again.
#[derive(Debug)]
pub(super) struct BtfBuilder {
    types: Vec<u8>,
    ids: HashMap<Vec<u8>, BtfId>,
    next_id: u32,
    strings: Vec<u8>,
    string_offsets: HashMap<String, u32>,
}

impl BtfBuilder {
    pub(super) fn new() -> Self {
        BtfBuilder {
            types: Vec::new(),
            ids: HashMap::new(),
            next_id: 1,
            strings: vec![0],
            string_offsets: HashMap::from([(String::new(), 0)]),
        }
    }

    /// The offset of a string, which ends at its first NUL.
    pub(super) fn string(&mut self, text: &str) -> u32 {
        let text = text.split('\0').next().unwrap_or_default();
        if let Some(&offset) = self.string_offsets.get(text) {
            return offset;
        }
        let offset = u32::try_from(self.strings.len()).expect("strings below 4 GiB");
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        self.string_offsets.insert(text.to_owned(), offset);
        offset
    }

    /// Adds the record: name, kind with its flag and count, size or type, then what follows the kind.
    fn add(
        &mut self,
        name: &str,
        (kind, kind_flag, vlen): (u32, bool, usize),
        size_or_type: u32,
        rest: &[u32],
    ) -> BtfId {
        debug_assert!(vlen <= MAX_VLEN, "the callers check");
        let info = (u32::from(kind_flag) << 31) | (kind << 24) | (vlen as u32 & 0xffff);
        let mut record = Vec::with_capacity(12 + rest.len() * 4);
        for word in [self.string(name), info, size_or_type].iter().chain(rest) {
            record.extend_from_slice(&word.to_le_bytes());
        }
        if let Some(&id) = self.ids.get(&record) {
            return id;
        }
        let id = BtfId(self.next_id);
        self.next_id += 1;
        self.types.extend_from_slice(&record);
        self.ids.insert(record, id);
        id
    }

    pub(super) fn int(&mut self, name: &str, size: u32, encoding: IntEncoding) -> BtfId {
        let data = ((encoding as u32) << 24) | (size * 8);
        self.add(name, (KIND_INT, false, 0), size, &[data])
    }

    pub(super) fn float(&mut self, name: &str, size: u32) -> BtfId {
        self.add(name, (KIND_FLOAT, false, 0), size, &[])
    }

    pub(super) fn ptr(&mut self, to: BtfId) -> BtfId {
        self.add("", (KIND_PTR, false, 0), to.0, &[])
    }

    pub(super) fn array(&mut self, element: BtfId, index: BtfId, len: u32) -> BtfId {
        self.add("", (KIND_ARRAY, false, 0), 0, &[element.0, index.0, len])
    }

    /// A struct or union. Members are in ascending order of offset. With a bit-field among them,
    /// offsets must be below 2^24 and widths below 256.
    pub(super) fn composite(
        &mut self,
        name: &str,
        is_union: bool,
        size: u32,
        members: &[BtfMember<'_>],
    ) -> BtfId {
        let kind = if is_union { KIND_UNION } else { KIND_STRUCT };
        let has_bitfields = members.iter().any(|member| member.bitfield_bits != 0);
        let mut rest = Vec::with_capacity(members.len() * 3);
        for member in members {
            let offset = if has_bitfields {
                (member.bitfield_bits << 24) | (member.bit_offset & 0xff_ffff)
            } else {
                member.bit_offset
            };
            rest.extend([self.string(member.name), member.ty.0, offset]);
        }
        self.add(name, (kind, has_bitfields, members.len()), size, &rest)
    }

    /// An enumeration; 8 bytes take a kind of their own.
    pub(super) fn enumeration(
        &mut self,
        name: &str,
        size: u32,
        signed: bool,
        values: &[(&str, i64)],
    ) -> BtfId {
        let mut rest = Vec::with_capacity(values.len() * 3);
        for &(name, value) in values {
            rest.extend([self.string(name), value as u32]);
            if size == 8 {
                rest.push((value >> 32) as u32);
            }
        }
        let kind = if size == 8 { KIND_ENUM64 } else { KIND_ENUM };
        self.add(name, (kind, signed, values.len()), size, &rest)
    }

    pub(super) fn forward(&mut self, name: &str, is_union: bool) -> BtfId {
        self.add(name, (KIND_FWD, is_union, 0), 0, &[])
    }

    pub(super) fn typedef(&mut self, name: &str, target: BtfId) -> BtfId {
        self.add(name, (KIND_TYPEDEF, false, 0), target.0, &[])
    }

    pub(super) fn constant(&mut self, target: BtfId) -> BtfId {
        self.add("", (KIND_CONST, false, 0), target.0, &[])
    }

    pub(super) fn volatile(&mut self, target: BtfId) -> BtfId {
        self.add("", (KIND_VOLATILE, false, 0), target.0, &[])
    }

    pub(super) fn type_tag(&mut self, tag: &str, target: BtfId) -> BtfId {
        self.add(tag, (KIND_TYPE_TAG, false, 0), target.0, &[])
    }

    pub(super) fn func_proto(&mut self, params: &[(&str, BtfId)], ret: BtfId) -> BtfId {
        let mut rest = Vec::with_capacity(params.len() * 2);
        for &(name, ty) in params {
            rest.extend([self.string(name), ty.0]);
        }
        self.add("", (KIND_FUNC_PROTO, false, params.len()), ret.0, &rest)
    }

    pub(super) fn func(&mut self, name: &str, proto: BtfId, linkage: FuncLinkage) -> BtfId {
        self.add(name, (KIND_FUNC, false, linkage as usize), proto.0, &[])
    }

    pub(super) fn var(&mut self, name: &str, ty: BtfId, linkage: VarLinkage) -> BtfId {
        self.add(name, (KIND_VAR, false, 0), ty.0, &[linkage as u32])
    }

    pub(super) fn datasec(&mut self, name: &str, size: u32, vars: &[SectionVar]) -> BtfId {
        let rest: Vec<u32> = vars
            .iter()
            .flat_map(|var| [var.ty.0, var.offset, var.size])
            .collect();
        self.add(name, (KIND_DATASEC, false, vars.len()), size, &rest)
    }

    /// The contents of the section `.BTF`.
    pub(super) fn finish(&self) -> Vec<u8> {
        let type_len = u32::try_from(self.types.len()).expect("types below 4 GiB");
        let string_len = u32::try_from(self.strings.len()).expect("strings below 4 GiB");
        let mut out = Vec::with_capacity(24 + self.types.len() + self.strings.len());
        out.extend_from_slice(&BTF_MAGIC.to_le_bytes());
        out.extend_from_slice(&[BTF_VERSION, 0]);
        for word in [HEADER_LEN, 0, type_len, type_len, string_len] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&self.types);
        out.extend_from_slice(&self.strings);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use btf_rs::{Btf, Type};

    #[test]
    fn bytes_of_a_small_section() {
        let mut btf = BtfBuilder::new();
        let int = btf.int("int", 4, IntEncoding::Signed);
        btf.ptr(int);
        assert_eq!(
            btf.finish(),
            [
                &[0x9f, 0xeb, 1, 0][..],
                &[
                    24, 0, 0, 0, 0, 0, 0, 0, 28, 0, 0, 0, 28, 0, 0, 0, 5, 0, 0, 0
                ],
                // int: name 1, kind 1, 4 bytes, signed, 32 bits.
                &[1, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 32, 0, 0, 1],
                // ptr: no name, kind 2, to type 1.
                &[0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0],
                b"\0int\0",
            ]
            .concat()
        );
    }

    #[test]
    fn equal_records_are_one() {
        let mut btf = BtfBuilder::new();
        let first = btf.int("int", 4, IntEncoding::Signed);
        let other = btf.int("int", 4, IntEncoding::Unsigned);
        let again = btf.int("int", 4, IntEncoding::Signed);
        assert_eq!(first, again);
        assert_ne!(first, other);
        assert_eq!(btf.string("int"), btf.string("int\0cut off"));
        assert_eq!(btf.string(""), 0);
    }

    /// Everything the builder knows, read back by somebody else.
    #[test]
    fn every_kind_reads_back() {
        let mut btf = BtfBuilder::new();
        let int = btf.int("int", 4, IntEncoding::Signed);
        let boolean = btf.int("_Bool", 1, IntEncoding::Bool);
        let array = btf.array(int, int, 7);
        let plain = btf.composite(
            "plain",
            false,
            64,
            &[
                BtfMember {
                    name: "a",
                    ty: int,
                    bit_offset: 0,
                    bitfield_bits: 0,
                },
                BtfMember {
                    name: "b",
                    ty: array,
                    bit_offset: 64,
                    bitfield_bits: 0,
                },
            ],
        );
        btf.composite(
            "bits",
            true,
            4,
            &[
                BtfMember {
                    name: "x",
                    ty: int,
                    bit_offset: 3,
                    bitfield_bits: 5,
                },
                BtfMember {
                    name: "",
                    ty: int,
                    bit_offset: 0,
                    bitfield_bits: 0,
                },
            ],
        );
        btf.enumeration("small", 4, true, &[("MINUS", -1), ("TWO", 2)]);
        btf.enumeration("large", 8, false, &[("HUGE", 0x1_0000_0002)]);
        btf.forward("declared", true);
        let alias = btf.typedef("alias", plain);
        let constant = btf.constant(alias);
        let volatile = btf.volatile(constant);
        let tag = btf.type_tag("user", volatile);
        let ptr = btf.ptr(tag);
        let proto = btf.func_proto(&[("arg", ptr), ("flag", boolean)], int);
        let func = btf.func("function", proto, FuncLinkage::Extern);
        let float = btf.float("double", 8);
        let var = btf.var("variable", float, VarLinkage::Global);
        btf.datasec(
            ".data",
            24,
            &[SectionVar {
                ty: var,
                offset: 16,
                size: 8,
            }],
        );

        let read = Btf::from_bytes(&btf.finish()).expect("btf-rs reads it");
        let find = |name: &str| {
            let types = read.resolve_types_by_name(name).expect("name is found");
            assert_eq!(types.len(), 1, "{name}");
            types.into_iter().next().expect("one type")
        };
        let Type::Struct(found) = find("plain") else {
            panic!("plain is a struct");
        };
        assert_eq!((found.size(), found.members.len()), (64, 2));
        assert_eq!(found.members[1].bit_offset(), 64);
        assert_eq!(found.members[1].bitfield_size(), None);
        let Type::Union(found) = find("bits") else {
            panic!("bits is a union");
        };
        assert_eq!(found.members[0].bit_offset(), 3);
        assert_eq!(found.members[0].bitfield_size(), Some(5));
        let Type::Enum(found) = find("small") else {
            panic!("small is an enum");
        };
        assert!(found.is_signed());
        assert_eq!(found.members[0].val(), u32::MAX);
        let Type::Enum64(found) = find("large") else {
            panic!("large is a 64-bit enum");
        };
        assert!(!found.is_signed());
        assert_eq!(found.members[0].val(), 0x1_0000_0002);
        let Type::Fwd(found) = find("declared") else {
            panic!("declared is a forward declaration");
        };
        assert!(found.is_union());
        let Type::Func(found) = find("function") else {
            panic!("function is a function");
        };
        assert!(found.is_extern());
        let Type::FuncProto(found) = read.resolve_type_by_id(proto.0).expect("type") else {
            panic!("a prototype");
        };
        assert_eq!(found.parameters.len(), 2);
        assert_eq!(found.return_type_id(), int.0);
        let Type::Datasec(found) = find(".data") else {
            panic!(".data is a section");
        };
        assert_eq!(
            (found.variables[0].offset(), found.variables[0].size()),
            (16, 8)
        );
        for (id, kind) in [
            (int, "int"),
            (array, "array"),
            (alias, "typedef"),
            (constant, "const"),
            (volatile, "volatile"),
            (tag, "type-tag"),
            (ptr, "ptr"),
            (func, "func"),
            (float, "float"),
            (var, "var"),
        ] {
            let ty = read.resolve_type_by_id(id.0).expect("type");
            assert_eq!(ty.name(), kind);
        }
    }
}
