use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::ptr::NonNull;

use libbpf_sys as sys;

use super::{c_string, check, check_fd};

/// Kinds of BTF types that are looked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BtfKind {
    Typedef,
    Function,
    Struct,
    Union,
    Enum,
    Enum64,
}

impl BtfKind {
    fn number(self) -> u32 {
        match self {
            Self::Typedef => sys::BTF_KIND_TYPEDEF,
            Self::Function => sys::BTF_KIND_FUNC,
            Self::Struct => sys::BTF_KIND_STRUCT,
            Self::Union => sys::BTF_KIND_UNION,
            Self::Enum => sys::BTF_KIND_ENUM,
            Self::Enum64 => sys::BTF_KIND_ENUM64,
        }
    }
}

/// Type information of the kernel or of a module.
pub(crate) struct Btf {
    btf: NonNull<sys::btf>,
    /// First type number that is not of the base.
    first: u32,
}

impl Btf {
    /// The kernel's types, from a file or from where the running kernel has them.
    pub(crate) fn kernel(path: Option<&Path>) -> io::Result<Self> {
        let btf = match path {
            Some(path) => {
                let path = c_string(&path.to_string_lossy())?;
                // SAFETY: a NUL-terminated path.
                unsafe { sys::btf__parse(path.as_ptr(), std::ptr::null_mut()) }
            }
            // SAFETY: takes nothing.
            None => unsafe { sys::btf__load_vmlinux_btf() },
        };
        NonNull::new(btf)
            .map(|btf| Self { btf, first: 1 })
            .ok_or_else(io::Error::last_os_error)
    }

    /// The types of a loaded module, on top of the kernel's, which must outlive them.
    pub(crate) fn module(name: &str, kernel: &Self) -> io::Result<Self> {
        let name = c_string(name)?;
        // SAFETY: a NUL-terminated name and a live base.
        let btf = unsafe { sys::btf__load_module_btf(name.as_ptr(), kernel.btf.as_ptr()) };
        let btf = NonNull::new(btf).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the base is live.
        let first = unsafe { sys::btf__type_cnt(kernel.btf.as_ptr()) };
        Ok(Self { btf, first })
    }

    /// Numbers of all types (base excluded).
    pub(crate) fn ids(&self) -> std::ops::Range<u32> {
        // SAFETY: live types.
        self.first..unsafe { sys::btf__type_cnt(self.btf.as_ptr()) }
    }

    /// Number of the type with this kind and name (base excluded).
    pub(crate) fn find(&self, kind: BtfKind, name: &str) -> Option<u32> {
        let name = c_string(name).ok()?;
        // SAFETY: live types, a NUL-terminated name.
        let id =
            unsafe { sys::btf__find_by_name_kind(self.btf.as_ptr(), name.as_ptr(), kind.number()) };
        u32::try_from(id).ok().filter(|id| *id >= self.first)
    }

    /// Number and name of every type of this kind (base excluded) that `wanted` takes.
    pub(crate) fn all(&self, kind: BtfKind, wanted: &mut dyn FnMut(u32, &str)) {
        for id in self.ids() {
            // SAFETY: the number is in range, so libbpf gives the type, whose name is an offset
            // into its string table that it checked while parsing.
            let name = unsafe {
                let ty = &*sys::btf__type_by_id(self.btf.as_ptr(), id);
                if (ty.info >> 24) & 0x1f != kind.number() {
                    continue;
                }
                let name = sys::btf__name_by_offset(self.btf.as_ptr(), ty.name_off);
                if name.is_null() {
                    continue;
                }
                CStr::from_ptr(name)
            };
            if let Ok(name) = name.to_str() {
                wanted(id, name);
            }
        }
    }
}

impl Btf {
    /// The types of a loaded program, by the id of its BTF.
    pub(super) fn of_program(btf_id: u32) -> io::Result<Self> {
        // SAFETY: takes a plain number.
        let btf = unsafe { sys::btf__load_from_kernel_by_id(btf_id) };
        NonNull::new(btf)
            .map(|btf| Self { btf, first: 1 })
            .ok_or_else(io::Error::last_os_error)
    }

    /// Name of a function, by the number of its type.
    pub(super) fn function_name(&self, id: u32) -> Option<String> {
        // SAFETY: live types; libbpf gives null for numbers that are out of range.
        let ty = unsafe { sys::btf__type_by_id(self.btf.as_ptr(), id).as_ref() }?;
        ((ty.info >> 24) & 0x1f == sys::BTF_KIND_FUNC).then(|| self.text(ty.name_off))
    }

    pub(super) fn as_ptr(&self) -> *mut sys::btf {
        self.btf.as_ptr()
    }

    /// The type with a number, where it is of a kind.
    fn of_kind(&self, id: u32, kind: u32) -> Option<&sys::btf_type> {
        // SAFETY: live types; libbpf gives null for numbers that are out of range.
        let ty = unsafe { sys::btf__type_by_id(self.btf.as_ptr(), id).as_ref() }?;
        ((ty.info >> 24) & 0x1f == kind).then_some(ty)
    }

    /// The prototype of a function, which its parameters follow.
    fn prototype_type(&self, function: u32) -> Option<&sys::btf_type> {
        let function = self.of_kind(function, sys::BTF_KIND_FUNC)?;
        // SAFETY: of a function the union holds the number of its prototype.
        let prototype = unsafe { function.__bindgen_anon_1.type_ };
        self.of_kind(prototype, sys::BTF_KIND_FUNC_PROTO)
    }

    /// How many parameters a function has.
    pub(crate) fn n_params(&self, function: u32) -> usize {
        self.prototype_type(function)
            .map_or(0, |prototype| (prototype.info & 0xffff) as usize)
    }

    /// Names and types of the parameters of a function, and the type of its result (0: none).
    pub(crate) fn prototype(&self, function: u32) -> Option<(Vec<(String, u32)>, u32)> {
        let prototype = self.prototype_type(function)?;
        let n_params = (prototype.info & 0xffff) as usize;
        // SAFETY: a prototype is followed by as many parameters as it says, which libbpf checked while
        // parsing; of a prototype the union holds the type of the result.
        let (params, ret) = unsafe {
            let first = std::ptr::from_ref(prototype)
                .add(1)
                .cast::<sys::btf_param>();
            (
                std::slice::from_raw_parts(first, n_params),
                prototype.__bindgen_anon_1.type_,
            )
        };
        let named = params
            .iter()
            .map(|param| (self.text(param.name_off), param.type_));
        Some((named.collect(), ret))
    }

    fn text(&self, offset: u32) -> String {
        // SAFETY: live types; the text ends with NUL and is copied.
        unsafe {
            let text = sys::btf__name_by_offset(self.btf.as_ptr(), offset);
            if text.is_null() {
                return String::new();
            }
            CStr::from_ptr(text).to_string_lossy().into_owned()
        }
    }
}

impl Drop for Btf {
    fn drop(&mut self) {
        // SAFETY: made by libbpf and freed once.
        unsafe { sys::btf__free(self.btf.as_ptr()) };
    }
}

/// Opens the BTF object of a loaded module.
pub(crate) fn open_module_btf(module: &str) -> io::Result<OwnedFd> {
    let mut id = 0;
    loop {
        let mut next = 0;
        // SAFETY: writes one number.
        check(i64::from(unsafe {
            sys::bpf_btf_get_next_id(id, &raw mut next)
        }))?;
        id = next;
        // SAFETY: takes a plain number.
        let fd = match check_fd(unsafe { sys::bpf_btf_get_fd_by_id(id) }) {
            Ok(fd) => fd,
            // Unloaded between the two calls.
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => continue,
            Err(e) => return Err(e),
        };
        let mut name = [0u8; 64];
        let mut info = sys::bpf_btf_info {
            name: name.as_mut_ptr() as u64,
            name_len: name.len() as u32,
            ..Default::default()
        };
        let mut size = size_of::<sys::bpf_btf_info>() as u32;
        // SAFETY: the structure is as long as `size` says and points to a buffer of `name_len`.
        check(i64::from(unsafe {
            sys::bpf_btf_get_info_by_fd(fd.as_raw_fd(), &raw mut info, &raw mut size)
        }))?;
        let found = CStr::from_bytes_until_nul(&name).unwrap_or_default();
        if info.kernel_btf != 0 && found.to_bytes() == module.as_bytes() {
            return Ok(fd);
        }
    }
}
