//! Types of expressions, variables, map keys and map values.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use bpftrace_meta::{ARGUMENT_REGISTERS, AggKind, StackMode};

/// Index of a struct or union in a [`TypeTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StructId(pub u32);

/// Index of an enum in a [`TypeTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnumTyId(pub u32);

/// Width and signedness of an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IntTy {
    /// Size in bytes: 1, 2, 4 or 8.
    pub size: u8,
    /// Whether it is two's complement.
    pub signed: bool,
}

impl IntTy {
    /// `uint64`.
    pub const U64: Self = Self {
        size: 8,
        signed: false,
    };
    /// `int64`.
    pub const I64: Self = Self {
        size: 8,
        signed: true,
    };
    /// `uint32`.
    pub const U32: Self = Self {
        size: 4,
        signed: false,
    };
    /// `int32`.
    pub const I32: Self = Self {
        size: 4,
        signed: true,
    };
    /// `uint8`.
    pub const U8: Self = Self {
        size: 1,
        signed: false,
    };
    /// `int8`.
    pub const I8: Self = Self {
        size: 1,
        signed: true,
    };
}

/// What kind of memory an address points to, and so how it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mem {
    /// Not known: the legacy `bpf_probe_read` helpers, with a warning.
    Unknown,
    /// Kernel memory: `bpf_probe_read_kernel`.
    Kernel,
    /// User memory: `bpf_probe_read_user`.
    User,
    /// The program's context: direct loads at constant offsets.
    Ctx,
    /// A pointer whose BTF type the verifier knows (fentry, fexit, tp_btf, iter arguments and
    /// what is reached from them): direct loads.
    Btf,
    /// Memory of the BPF program: its stack, a map value. Direct loads.
    Bpf,
}

/// A stack value: rendering and most frames stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StackTy {
    /// How frames are rendered (part of the type).
    pub mode: StackMode,
    /// Most frames, 1 to 1,024.
    pub limit: u32,
}

/// Aggregations are types of map values only.
pub type AggTy = AggKind;

/// A type.
///
/// Structs, unions and arrays are represented by an address in memory of kind [`Mem`] while they
/// are in expressions and variables; they are copied when they go into a map, a tuple, a record or
/// an event. All other types are values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ty {
    /// No value.
    Void,
    /// `bool`, one byte.
    Bool,
    /// An integer.
    Int(IntTy),
    /// An enum with its underlying integer.
    Enum(EnumTyId, IntTy),
    /// A pointer to memory of a kind; `Void` pointee for `void *`.
    Ptr(Rc<Ty>, Mem),
    /// A struct or union, by address.
    Struct(StructId, Mem),
    /// An array of a length, by address.
    Array(Rc<Ty>, u32, Mem),
    /// `string[n]`: bytes of capacity, NUL included.
    Str(u32),
    /// `buffer[n]`: bytes of capacity; four bytes of length come before them.
    Buf(u32),
    /// A tuple.
    Tuple(Rc<[Ty]>),
    /// A record: names and types.
    Record(Rc<[(String, Ty)]>),
    /// A kernel stack.
    KStack(StackTy),
    /// A user stack.
    UStack(StackTy),
    /// A kernel address that prints as a symbol.
    KSym,
    /// A user address that prints as a symbol.
    USym,
    /// An IPv4 or IPv6 address.
    Inet,
    /// A user id that prints as a name.
    Username,
    /// A time that prints formatted: the format is `TypedProgram::time_formats`, stored in the value.
    Timestamp,
    /// Six bytes.
    MacAddr,
    /// A cgroup id that prints as a path.
    CgroupPath,
    /// The number of the target that fired; prints as its name.
    ProbeName,
    /// An aggregation (map values only).
    Agg(AggTy),
}

/// Where a struct's layout comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The kernel's BTF (vmlinux or a module): fields are CO-RE relocated on the target.
    Kernel,
    /// The script's own C definition: the layout is as written.
    Script,
    /// Fields of a tracepoint record: offsets are patched on the target.
    Tracepoint {
        /// Category.
        category: String,
        /// Event.
        event: String,
    },
    /// Arguments of a function in an array of `u64` (fentry, fexit, tp_btf): member `i` is at
    /// `8 * i`, whatever its type's size; `retval` of fexit is behind the last argument.
    Arguments,
    /// Arguments of a function of a user program at its start: the offset of a member, in words of 64 bits,
    /// is the number of the register for arguments that it is in, or, counted on from the last one, of the
    /// word on the stack. A struct may fill several. What is in registers is in memory of kind
    /// [`Mem::Bpf`] when it has an address, what is on the stack in [`Mem::User`].
    Registers,
    /// A context structure that the kernel's user API fixes (`pt_regs`,
    /// `bpf_perf_event_data`, `bpf_iter__*`).
    Context,
    /// DWARF of a user program: the layout is that of the build that was looked at.
    User,
}

/// A struct or union.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StructDef {
    /// Name without keyword; empty when anonymous.
    pub name: String,
    /// Whether it is a union.
    pub is_union: bool,
    /// Size in bytes.
    pub size: u64,
    /// Where the layout comes from.
    pub origin: Origin,
    /// Members in order. Empty until the struct is completed (see `complete`). The types of members
    /// that the program does not use are [`Ty::Void`], unless values of the struct are copied.
    pub members: Vec<Member>,
    /// Whether `members` is filled in. Structs that are only pointed to stay incomplete.
    pub complete: bool,
}

impl StructDef {
    /// What kind of memory the value of a member is in, where it has an address, if the struct itself is in
    /// `mem`.
    #[must_use]
    pub fn member_memory(&self, member: &Member, mem: Mem) -> Mem {
        match self.origin {
            Origin::Registers if mem != Mem::Ctx => mem,
            Origin::Registers if member.bit_offset < 64 * ARGUMENT_REGISTERS as u64 => Mem::Bpf,
            Origin::Registers => Mem::User,
            _ => mem,
        }
    }
}

/// A member of a struct or union.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Name; empty for an anonymous struct or union.
    pub name: String,
    /// Type. By-address types carry [`Mem::Unknown`] here; the access decides. Arrays of `char`,
    /// `int8` and `uint8` are [`Ty::Str`].
    pub ty: Ty,
    /// Offset from the start of the struct in bits.
    pub bit_offset: u64,
    /// Width of a bit-field in bits.
    pub bits: Option<u8>,
    /// Set when the field is a pointer that a BTF type tag marks (`user`, `rcu`, `percpu`).
    pub tag: Option<String>,
    /// For a tracepoint's `__data_loc` field: the value is the low 16 bits of the `u32` at the
    /// offset, added to the context.
    pub data_loc: bool,
}

/// An enum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnumDef {
    /// Name; empty when anonymous.
    pub name: String,
    /// Enumerators: value and name.
    pub values: Vec<(i64, String)>,
    /// Whether it is the kernel's, so that values are relocated (`BPF_CORE_ENUMVAL_VALUE`).
    pub kernel: bool,
}

/// Structs and enums of a program.
#[derive(Clone, Debug, Default)]
pub struct TypeTable {
    structs: Vec<StructDef>,
    enums: Vec<EnumDef>,
    /// Layouts of long tuples and records, by the address of what they consist of, which is kept: somebody who takes
    /// a tuple apart asks again for each element. Structs in them may still change.
    layouts: RefCell<HashMap<usize, (Ty, Layout)>>,
}

/// Where the elements of a tuple or record are.
#[derive(Clone, Debug)]
struct Layout {
    offsets: Rc<[u64]>,
    size: u64,
    align: u64,
}

/// Tuples of so many elements are laid out anew whenever somebody asks.
const SHORT_TUPLE: usize = 8;

impl TypeTable {
    /// Forgets what was calculated for types that nobody has any more.
    pub(crate) fn forget_layouts(&mut self) {
        self.layouts.get_mut().clear();
    }

    /// Adds a struct or union.
    pub fn add_struct(&mut self, def: StructDef) -> StructId {
        self.structs.push(def);
        StructId(u32::try_from(self.structs.len() - 1).expect("fewer than 2^32 structs"))
    }

    /// Adds an enum.
    pub fn add_enum(&mut self, def: EnumDef) -> EnumTyId {
        self.enums.push(def);
        EnumTyId(u32::try_from(self.enums.len() - 1).expect("fewer than 2^32 enums"))
    }

    /// A struct or union.
    #[must_use]
    pub fn struct_def(&self, id: StructId) -> &StructDef {
        &self.structs[id.0 as usize]
    }

    /// A struct or union, to complete it.
    pub fn struct_def_mut(&mut self, id: StructId) -> &mut StructDef {
        self.layouts.get_mut().clear();
        &mut self.structs[id.0 as usize]
    }

    /// An enum.
    #[must_use]
    pub fn enum_def(&self, id: EnumTyId) -> &EnumDef {
        &self.enums[id.0 as usize]
    }

    /// An enum, to complete it.
    pub fn enum_def_mut(&mut self, id: EnumTyId) -> &mut EnumDef {
        &mut self.enums[id.0 as usize]
    }

    /// All enums in order of their ids.
    #[must_use]
    pub fn enums(&self) -> &[EnumDef] {
        &self.enums
    }

    /// All structs in order of their ids.
    #[must_use]
    pub fn structs(&self) -> &[StructDef] {
        &self.structs
    }

    /// Size in bytes of a value of the type when it is stored (in a map, a tuple, an event).
    #[must_use]
    pub fn size(&self, ty: &Ty) -> u64 {
        match ty {
            Ty::Void => 0,
            Ty::Bool => 1,
            Ty::Int(int) | Ty::Enum(_, int) => u64::from(int.size),
            Ty::Ptr(..) | Ty::KSym | Ty::Username | Ty::ProbeName => 8,
            Ty::Struct(id, _) => self.struct_def(*id).size,
            Ty::Array(element, count, _) => self.size(element) * u64::from(*count),
            Ty::Str(n) => u64::from(*n),
            Ty::Buf(n) => u64::from(*n) + 4,
            Ty::Tuple(_) | Ty::Record(_) => self.layout(ty).size,
            Ty::KStack(stack) => 8 + 8 * u64::from(stack.limit),
            Ty::UStack(stack) => {
                16 + u64::from(stack.limit)
                    * if stack.mode == StackMode::BuildId {
                        32
                    } else {
                        8
                    }
            }
            Ty::USym | Ty::Timestamp | Ty::CgroupPath => 16,
            Ty::Inet => 24,
            Ty::MacAddr => 6,
            Ty::Agg(agg) => u64::from(agg.cell_size()),
        }
    }

    /// Alignment in bytes inside tuples and records (language reference, L2.9): natural for
    /// scalars, pointers and stacks; 1 for what is an array of bytes.
    #[must_use]
    pub fn align(&self, ty: &Ty) -> u64 {
        match ty {
            Ty::Bool | Ty::Int(_) | Ty::Enum(..) => self.size(ty),
            Ty::Ptr(..)
            | Ty::KSym
            | Ty::Username
            | Ty::ProbeName
            | Ty::KStack(_)
            | Ty::UStack(_)
            | Ty::Agg(_) => 8,
            Ty::Array(element, ..) => self.align(element),
            Ty::Struct(id, _) => {
                let def = self.struct_def(*id);
                let natural = def
                    .members
                    .iter()
                    .map(|m| self.align(&m.ty))
                    .max()
                    .unwrap_or(1);
                // Packed structs and structs that are not completed: what the size allows.
                [natural.max(1), 8, 4, 2, 1]
                    .into_iter()
                    .find(|a| def.size.is_multiple_of(*a) && *a <= natural.max(1))
                    .unwrap_or(1)
            }
            Ty::Tuple(_) | Ty::Record(_) => self.layout(ty).align,
            Ty::Void
            | Ty::Str(_)
            | Ty::Buf(_)
            | Ty::USym
            | Ty::Inet
            | Ty::Timestamp
            | Ty::MacAddr
            | Ty::CgroupPath => 1,
        }
    }

    /// Byte offsets of the elements of a tuple or record, and its size with padding.
    ///
    /// # Panics
    /// When the type is neither.
    #[must_use]
    pub fn tuple_layout(&self, ty: &Ty) -> (Rc<[u64]>, u64) {
        let layout = self.layout(ty);
        (layout.offsets, layout.size)
    }

    fn layout(&self, ty: &Ty) -> Layout {
        let (address, n) = match ty {
            Ty::Tuple(elements) => (elements.as_ptr().addr(), elements.len()),
            Ty::Record(fields) => (fields.as_ptr().addr(), fields.len()),
            other => panic!("not a tuple or record: {other:?}"),
        };
        if n <= SHORT_TUPLE {
            return self.new_layout(ty);
        }
        if let Some((_, known)) = self.layouts.borrow().get(&address) {
            return known.clone();
        }
        let layout = self.new_layout(ty);
        let entry = (ty.clone(), layout.clone());
        self.layouts.borrow_mut().insert(address, entry);
        layout
    }

    fn new_layout(&self, ty: &Ty) -> Layout {
        let (mut end, mut align) = (0u64, 1);
        let mut place = |element: &Ty| {
            let (size, own) = match element {
                Ty::Tuple(_) | Ty::Record(_) => {
                    let layout = self.layout(element);
                    (layout.size, layout.align)
                }
                _ => (self.size(element), self.align(element)),
            };
            align = align.max(own);
            let offset = end.next_multiple_of(own);
            end = offset + size;
            offset
        };
        let offsets = match ty {
            Ty::Tuple(elements) => elements.iter().map(place).collect(),
            Ty::Record(fields) => fields.iter().map(|(_, ty)| place(ty)).collect(),
            _ => Rc::default(),
        };
        Layout {
            offsets,
            size: end.next_multiple_of(align),
            align,
        }
    }
}
