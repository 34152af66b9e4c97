use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::ptr::NonNull;

use libbpf_sys as sys;

use super::{c_string, check, check_fd};

/// Kinds of BTF types that programs are attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BtfKind {
    Typedef,
    Function,
}

impl BtfKind {
    fn number(self) -> u32 {
        match self {
            Self::Typedef => sys::BTF_KIND_TYPEDEF,
            Self::Function => sys::BTF_KIND_FUNC,
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
        // SAFETY: live types.
        let end = unsafe { sys::btf__type_cnt(self.btf.as_ptr()) };
        for id in self.first..end {
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
