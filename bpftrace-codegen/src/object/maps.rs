//! Maps in BTF-defined form.

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
    pub map_extra: u64,
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
