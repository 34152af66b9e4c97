use std::ffi::{c_char, c_int, c_void};
use std::io;
use std::ptr::NonNull;

use libbpf_sys as sys;

use super::Btf;

unsafe extern "C" {
    fn vsnprintf(
        buffer: *mut c_char,
        size: usize,
        format: *const c_char,
        args: *mut sys::__va_list_tag,
    ) -> c_int;
}

/// Appends what libbpf prints to the `String` that `text` points to.
unsafe extern "C" fn collect(
    text: *mut c_void,
    format: *const c_char,
    args: *mut sys::__va_list_tag,
) {
    // Names in BTF are shorter than this; libbpf prints a name or a piece of syntax at a time.
    let mut buffer = [0u8; 1024];
    // SAFETY: the buffer is as large as we say, and libbpf passes a format with its arguments.
    let n = unsafe { vsnprintf(buffer.as_mut_ptr().cast(), buffer.len(), format, args) };
    let n = usize::try_from(n).unwrap_or(0).min(buffer.len() - 1);
    // SAFETY: `text` is what `CText::new` passed: a live String that nobody else uses now.
    let text = unsafe { &mut *text.cast::<String>() };
    text.push_str(&String::from_utf8_lossy(&buffer[..n]));
}

/// Types of BTF as C declares them.
pub(crate) struct CText<'b> {
    dump: NonNull<sys::btf_dump>,
    /// Where libbpf prints to.
    text: NonNull<String>,
    _btf: std::marker::PhantomData<&'b Btf>,
}

impl<'b> CText<'b> {
    pub(crate) fn new(btf: &'b Btf) -> io::Result<Self> {
        let text = NonNull::from(Box::leak(Box::<String>::default()));
        // SAFETY: live types; `collect` gets the text, which is freed after the dump.
        let dump = unsafe {
            sys::btf_dump__new(
                btf.as_ptr(),
                Some(collect),
                text.as_ptr().cast(),
                std::ptr::null(),
            )
        };
        match NonNull::new(dump) {
            Some(dump) => Ok(Self {
                dump,
                text,
                _btf: std::marker::PhantomData,
            }),
            None => {
                let error = io::Error::last_os_error();
                // SAFETY: leaked above, and libbpf has no dump that would use it.
                drop(unsafe { Box::from_raw(text.as_ptr()) });
                Err(error)
            }
        }
    }

    /// A type as it is written in front of a name; for function pointers and arrays, around it.
    pub(crate) fn declaration(&mut self, id: u32) -> io::Result<String> {
        let options = sys::btf_dump_emit_type_decl_opts {
            sz: size_of::<sys::btf_dump_emit_type_decl_opts>() as sys::size_t,
            field_name: c"".as_ptr(),
            ..Default::default()
        };
        // SAFETY: a live dump, options that say how long they are.
        let code =
            unsafe { sys::btf_dump__emit_type_decl(self.dump.as_ptr(), id, &raw const options) };
        super::check(i64::from(code))?;
        Ok(self.take())
    }

    /// The definition of a type, with definitions of the types that it needs before it. What was
    /// defined before is not defined again.
    pub(crate) fn definition(&mut self, id: u32) -> io::Result<String> {
        // SAFETY: a live dump.
        let code = unsafe { sys::btf_dump__dump_type(self.dump.as_ptr(), id) };
        super::check(i64::from(code))?;
        Ok(self.take())
    }

    fn take(&mut self) -> String {
        // SAFETY: live until drop, and libbpf only writes to it within the calls above.
        std::mem::take(unsafe { self.text.as_mut() })
    }
}

impl Drop for CText<'_> {
    fn drop(&mut self) {
        // SAFETY: made by libbpf and freed once; then nobody uses the text any more.
        unsafe {
            sys::btf_dump__free(self.dump.as_ptr());
            drop(Box::from_raw(self.text.as_ptr()));
        }
    }
}
