//! Sections with named variables: `.rodata`, `.data`, `.bss`.

use super::error::ObjectError;
use super::types::TypeRef;

/// How a section behaves at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataKind {
    /// Frozen before the programs are loaded: the verifier sees constants.
    Rodata,
    /// Writable, with initial values.
    Data,
    /// Writable, all zero at the start.
    Bss,
}

/// A data section; libbpf makes one memory-mapped array map with one element of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataSection {
    kind: DataKind,
    suffix: String,
    vars: Vec<DataVar>,
    size: u32,
}

/// A variable in a data section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataVar {
    /// Its name, a C identifier.
    pub name: String,
    /// Byte offset within the section.
    pub offset: u32,
    /// Size in bytes.
    pub size: u32,
    /// Its initial bytes, `size` of them; empty in a `.bss` section.
    pub init: Vec<u8>,
    /// Its type in the BTF; an array of bytes when absent.
    pub ty: Option<TypeRef>,
}

impl DataSection {
    /// An empty section. The name is that of the kind, such as ".rodata", followed by "." and the
    /// suffix unless that is empty.
    pub fn new(kind: DataKind, suffix: &str) -> Self {
        DataSection {
            kind,
            suffix: suffix.to_owned(),
            vars: Vec::new(),
            size: 0,
        }
    }

    /// Appends a variable and returns its byte offset within the section.
    ///
    /// `align` is a power of two, in bytes. The bytes are the initial value, and their number the size;
    /// in a `.bss` section they must be zero.
    ///
    /// # Errors
    ///
    /// When the section would exceed 2 GiB, a `.bss` value is not zero, or `align` is no power of two.
    pub fn add(
        &mut self,
        name: &str,
        init: &[u8],
        align: u32,
        ty: Option<TypeRef>,
    ) -> Result<u32, ObjectError> {
        let invalid = |what: &'static str| ObjectError::InvalidVariable {
            name: name.to_owned(),
            what,
        };
        if !align.is_power_of_two() {
            return Err(invalid("the alignment is not a power of two"));
        }
        if self.kind == DataKind::Bss && init.iter().any(|&byte| byte != 0) {
            return Err(invalid("its initial value is not zero, in a .bss section"));
        }
        if init.is_empty() {
            return Err(invalid("it has no size"));
        }
        let too_large = || invalid("the section exceeds 2 GiB");
        let offset = self
            .size
            .checked_next_multiple_of(align)
            .ok_or_else(too_large)?;
        let size = u32::try_from(init.len()).map_err(|_| too_large())?;
        let end = offset
            .checked_add(size)
            .filter(|&end| i32::try_from(end).is_ok())
            .ok_or_else(too_large)?;
        self.vars.push(DataVar {
            name: name.to_owned(),
            offset,
            size,
            init: if self.kind == DataKind::Bss {
                Vec::new()
            } else {
                init.to_vec()
            },
            ty,
        });
        self.size = end;
        Ok(offset)
    }

    /// The section's name, which libbpf's map carries behind the object's name.
    pub fn name(&self) -> String {
        let base = match self.kind {
            DataKind::Rodata => ".rodata",
            DataKind::Data => ".data",
            DataKind::Bss => ".bss",
        };
        if self.suffix.is_empty() {
            base.to_owned()
        } else {
            format!("{base}.{}", self.suffix)
        }
    }

    /// How the section behaves.
    pub fn kind(&self) -> DataKind {
        self.kind
    }

    /// The variables in ascending order of offset.
    pub fn vars(&self) -> &[DataVar] {
        &self.vars
    }

    /// Size of the section in bytes.
    pub fn size(&self) -> u32 {
        self.size
    }
}
