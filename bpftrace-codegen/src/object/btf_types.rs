//! From the graph of full C types to the BTF records that an object needs of them.

use std::collections::HashMap;

use super::btf::{BtfBuilder, BtfId, BtfMember, IntEncoding, MAX_VLEN};
use super::core_relo::CoreUsage;
use super::error::{ObjectError, check_identifier};
use super::types::{Enumerator, Member, Type, TypeGraph, TypeRef};

/// How much of a type is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Form {
    /// What CO-RE relocations use: a struct has its name, its size and the members on used paths, an
    /// enumeration its used values, every pointer is a `void *`, and typedefs and qualifiers are gone.
    /// Offsets and sizes stay the original's, so libbpf computes the same local values.
    Used,
    /// What a signature needs: as `Used`, but a pointer keeps what it points to. libbpf compares the
    /// kinds of pointees with the kernel's, so a pointer to a struct must not end in a forward
    /// declaration.
    Shape,
    /// All members and values. Pointers lead to `Shape`, so this does not pull in half the kernel.
    Full,
}

/// More levels than this of types inside types means that they go in circles.
const MAX_DEPTH: u32 = 128;

/// Writes types of one graph into one BTF.
#[derive(Debug)]
pub(super) struct TypeWriter<'a> {
    pub(super) graph: &'a TypeGraph,
    pub(super) usage: &'a CoreUsage,
    pub(super) btf: &'a mut BtfBuilder,
    written: HashMap<(TypeRef, Form), BtfId>,
    depth: u32,
}

impl<'a> TypeWriter<'a> {
    pub(super) fn new(graph: &'a TypeGraph, usage: &'a CoreUsage, btf: &'a mut BtfBuilder) -> Self {
        TypeWriter {
            graph,
            usage,
            btf,
            written: HashMap::new(),
            depth: 0,
        }
    }

    /// Writes a type, unless it is there already in that form.
    pub(super) fn write(&mut self, at: TypeRef, form: Form) -> Result<BtfId, ObjectError> {
        if let Some(&id) = self.written.get(&(at, form)) {
            return Ok(id);
        }
        if self.depth == MAX_DEPTH {
            return Err(ObjectError::InvalidType {
                name: String::new(),
                what: "it is nested too deeply, or contains itself",
            });
        }
        self.depth += 1;
        let id = self.write_new(at, form)?;
        self.depth -= 1;
        self.written.insert((at, form), id);
        Ok(id)
    }

    /// Writes the root of a CO-RE relocation, under the name that libbpf looks for: typedefs are kept.
    pub(super) fn write_root(&mut self, at: TypeRef, form: Form) -> Result<BtfId, ObjectError> {
        match self.graph.get(at) {
            Type::Typedef { name, target } => {
                check_identifier("typedef", name)?;
                let target = self.write_root_target(*target, form)?;
                Ok(self.btf.typedef(name, target))
            }
            Type::Const(target) | Type::Volatile(target) | Type::TypeTag { target, .. } => {
                self.write_root(*target, form)
            }
            _ => self.write(at, form),
        }
    }

    fn write_root_target(&mut self, at: TypeRef, form: Form) -> Result<BtfId, ObjectError> {
        self.depth += 1;
        if self.depth == MAX_DEPTH {
            return self.write(at, form);
        }
        let id = self.write_root(at, form)?;
        self.depth -= 1;
        Ok(id)
    }

    /// The integer that counts the elements of every array.
    fn array_index(&mut self) -> BtfId {
        self.btf
            .int("__ARRAY_SIZE_TYPE__", 4, IntEncoding::Unsigned)
    }

    fn write_new(&mut self, at: TypeRef, form: Form) -> Result<BtfId, ObjectError> {
        let graph = self.graph;
        Ok(match graph.get(at) {
            Type::Void => BtfId::VOID,
            Type::Int {
                name,
                size,
                signed,
                boolean,
            } => {
                check_size(name, *size, &[1, 2, 4, 8, 16])?;
                if name.is_empty() {
                    return Err(invalid(name, "an integer needs a name"));
                }
                let encoding = match (boolean, signed) {
                    (true, _) => IntEncoding::Bool,
                    (false, true) => IntEncoding::Signed,
                    (false, false) => IntEncoding::Unsigned,
                };
                self.btf.int(name, *size, encoding)
            }
            Type::Float { name, size } => {
                check_size(name, *size, &[2, 4, 8, 12, 16])?;
                self.btf.float(name, *size)
            }
            Type::Ptr(target) => {
                let target = match form {
                    Form::Used => BtfId::VOID,
                    Form::Shape | Form::Full => self.write(*target, Form::Shape)?,
                };
                self.btf.ptr(target)
            }
            Type::Array { element, len } => {
                let element = self.write(*element, form)?;
                let index = self.array_index();
                self.btf.array(element, index, *len)
            }
            Type::Struct {
                name,
                is_union,
                size,
                members,
            } => {
                if !name.is_empty() {
                    check_identifier("struct", name)?;
                }
                self.write_struct((at, form), (name, *is_union, *size), members)?
            }
            Type::Enum {
                name,
                size,
                signed,
                values,
            } => {
                if !name.is_empty() {
                    check_identifier("enumeration", name)?;
                }
                check_size(name, *size, &[1, 2, 4, 8])?;
                let values = self.chosen_values((at, form), values)?;
                self.btf.enumeration(name, *size, *signed, &values)
            }
            Type::Forward { name, is_union } => {
                check_identifier("struct", name)?;
                self.btf.forward(name, *is_union)
            }
            Type::Typedef { target, .. }
            | Type::Const(target)
            | Type::Volatile(target)
            | Type::TypeTag { target, .. }
                if form == Form::Used =>
            {
                self.write(*target, form)?
            }
            Type::Typedef { name, target } => {
                check_identifier("typedef", name)?;
                let target = self.write(*target, form)?;
                self.btf.typedef(name, target)
            }
            Type::Const(target) => {
                let target = self.write(*target, form)?;
                self.btf.constant(target)
            }
            Type::Volatile(target) => {
                let target = self.write(*target, form)?;
                self.btf.volatile(target)
            }
            Type::TypeTag { tag, target } => {
                let target = self.write(*target, form)?;
                self.btf.type_tag(tag, target)
            }
            Type::Function { params, ret } => {
                check_count("function", params.len())?;
                let mut written = Vec::with_capacity(params.len());
                for (name, ty) in params {
                    if !name.is_empty() {
                        check_identifier("parameter", name)?;
                    }
                    written.push((name.as_str(), self.write(*ty, Form::Shape)?));
                }
                let ret = self.write(*ret, Form::Shape)?;
                self.btf.func_proto(&written, ret)
            }
        })
    }

    fn write_struct(
        &mut self,
        (at, form): (TypeRef, Form),
        (name, is_union, size): (&str, bool, u32),
        members: &[Member],
    ) -> Result<BtfId, ObjectError> {
        let mut chosen: Vec<u32> = match form {
            Form::Full => (0..members.len() as u32).collect(),
            Form::Used | Form::Shape => self.usage.members(at).to_vec(),
        };
        check_count(name, chosen.len())?;
        if form == Form::Full {
            sort_members(&mut chosen, members);
        }
        // A struct whose only use is its name has no members, whichever way one got here.
        let member_form = if form == Form::Full { form } else { Form::Used };
        let mut written = Vec::with_capacity(chosen.len());
        for row in chosen {
            let member = &members[row as usize];
            if !member.name.is_empty() {
                check_identifier("member", &member.name)?;
            }
            written.push(BtfMember {
                name: &member.name,
                ty: self.write(member.ty, member_form)?,
                bit_offset: member.bit_offset,
                bitfield_bits: member.bitfield_bits.unwrap_or(0),
            });
        }
        let has_bitfields = written.iter().any(|member| member.bitfield_bits != 0);
        if has_bitfields
            && written
                .iter()
                .any(|member| member.bit_offset >= 1 << 24 || member.bitfield_bits > 0xff)
        {
            return Err(invalid(name, "it has bit-fields, and members beyond 2 MiB"));
        }
        Ok(self.btf.composite(name, is_union, size, &written))
    }

    fn chosen_values(
        &self,
        (at, form): (TypeRef, Form),
        values: &'a [Enumerator],
    ) -> Result<Vec<(&'a str, i64)>, ObjectError> {
        let chosen: Vec<&Enumerator> = match form {
            Form::Full => values.iter().collect(),
            Form::Used | Form::Shape => self
                .usage
                .enumerators(at)
                .iter()
                .map(|&row| &values[row as usize])
                .collect(),
        };
        check_count("enumeration", chosen.len())?;
        chosen
            .into_iter()
            .map(|value| {
                check_identifier("enumerator", &value.name)?;
                Ok((value.name.as_str(), value.value))
            })
            .collect()
    }
}

/// Puts members into the order of their offsets, which the kernel insists on.
pub(super) fn sort_members(chosen: &mut [u32], members: &[Member]) {
    chosen.sort_unstable_by_key(|&row| (members[row as usize].bit_offset, row));
}

fn invalid(name: &str, what: &'static str) -> ObjectError {
    ObjectError::InvalidType {
        name: name.to_owned(),
        what,
    }
}

fn check_size(name: &str, size: u32, allowed: &[u32]) -> Result<(), ObjectError> {
    if allowed.contains(&size) {
        Ok(())
    } else {
        Err(invalid(name, "BTF has no such type of this size"))
    }
}

fn check_count(name: &str, count: usize) -> Result<(), ObjectError> {
    if count <= MAX_VLEN {
        Ok(())
    } else {
        Err(invalid(name, "it has more than 65,535 parts"))
    }
}
