//! Maps in BTF-defined form: a struct per map, whose members' types spell the attributes.

use super::btf::{BtfBuilder, BtfId, BtfMember, IntEncoding};
use super::btf_types::{Form, TypeWriter};
use super::error::ObjectError;
use super::types::TypeRef;

/// A map. The numbers are the kernel's (include/uapi/linux/bpf.h).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapDef {
    /// Its name, a C identifier; the kernel shows the first 15 characters.
    pub name: String,
    /// A value of `enum bpf_map_type`.
    pub map_type: u32,
    /// Bytes of a key; 0 for a map without keys, such as a ring buffer.
    pub key_size: u32,
    /// Bytes of a value; 0 for a map without values.
    pub value_size: u32,
    /// Number of entries; for a ring buffer its size in bytes. The loader may change it before load.
    pub max_entries: u32,
    /// `BPF_F_*` flags.
    pub flags: u32,
    /// `map_extra` of the kernel, for the map types that have it.
    pub map_extra: u32,
    /// Type of the key in the BTF, of `key_size` bytes. The kernel knows it only together with the type of
    /// the value.
    pub key_type: Option<TypeRef>,
    /// Type of the value in the BTF, of `value_size` bytes.
    pub value_type: Option<TypeRef>,
}

impl MapDef {
    /// A map without flags and without BTF types.
    pub fn new(
        name: &str,
        map_type: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
    ) -> Self {
        MapDef {
            name: name.to_owned(),
            map_type,
            key_size,
            value_size,
            max_entries,
            flags: 0,
            map_extra: 0,
            key_type: None,
            value_type: None,
        }
    }
}

/// Bytes of a pointer on the BPF target; every member of a map's struct is one.
const POINTER_SIZE: u32 = 8;

/// The struct that describes a map, and its size in bytes.
///
/// A number is the length of an array behind a pointer, a type the pointee itself; the names are
/// those that libbpf's `parse_btf_map_def` knows.
pub(super) fn write_map_struct(
    map: &MapDef,
    types: &mut TypeWriter<'_>,
) -> Result<(BtfId, u32), ObjectError> {
    let mut members: Vec<(&str, BtfId)> = Vec::new();
    members.push(("type", number(types.btf, map.map_type)));
    let key = (map.key_type, map.key_size, "key", "key_size");
    let value = (map.value_type, map.value_size, "value", "value_size");
    for (ty, size, type_name, size_name) in [key, value] {
        match ty {
            Some(ty) if types.graph.size_of(ty) != Some(size) => {
                return Err(ObjectError::InvalidMap {
                    name: map.name.clone(),
                    what: "the size of the BTF type is not that of the key or value",
                });
            }
            Some(ty) => {
                let id = types.write(ty, Form::Full)?;
                members.push((type_name, types.btf.ptr(id)));
            }
            None if size != 0 => members.push((size_name, number(types.btf, size))),
            None => {}
        }
    }
    members.push(("max_entries", number(types.btf, map.max_entries)));
    if map.flags != 0 {
        members.push(("map_flags", number(types.btf, map.flags)));
    }
    if map.map_extra != 0 {
        members.push(("map_extra", number(types.btf, map.map_extra)));
    }
    let members: Vec<BtfMember<'_>> = members
        .into_iter()
        .zip((0..).step_by(POINTER_SIZE as usize * 8))
        .map(|((name, ty), bit_offset)| BtfMember {
            name,
            ty,
            bit_offset,
            bitfield_bits: 0,
        })
        .collect();
    let size = members.len() as u32 * POINTER_SIZE;
    Ok((types.btf.composite("", false, size, &members), size))
}

/// Clang's `__uint(name, value)`: `int (*name)[value]`.
fn number(btf: &mut BtfBuilder, value: u32) -> BtfId {
    let int = btf.int("int", 4, IntEncoding::Signed);
    let array = btf.array(int, int, value);
    btf.ptr(array)
}
