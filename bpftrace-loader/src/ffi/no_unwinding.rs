//! Takes the place of libgcc's unwinder in executables without unwind tables.
//!
//! Without tables the real one finds no frame: a panic ends the process, and a backtrace has no lines.
//! But the standard library would still carry what names the frames of a backtrace, a second reader of
//! DWARF as large as all of this crate. Where it is seen at link time that no frame is ever handed out,
//! none of that is kept. For the same reason C's clean-up of cancelled threads, of which there are
//! none, ends the process here.
//!
//! Each function that the standard library or C's has use for is here: one that is not would bring the
//! whole of libgcc's unwinder in beside these.
#![allow(non_snake_case)]

use std::ffi::{c_int, c_void};

/// `_URC_END_OF_STACK`
const END_OF_STACK: c_int = 5;

/// A stack that has no frame.
// SAFETY: the name is that of the unwinder's function, which nothing else defines; it is never called
// with other arguments.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(_trace: *const c_void, _argument: *mut c_void) -> c_int {
    END_OF_STACK
}

/// What is called for a frame that was found, or while unwinding: never.
macro_rules! never_called {
    ($($name:ident)*) => {$(
        // SAFETY: the name is that of the unwinder's function, which nothing else defines; whatever
        // the arguments, it does not return.
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> ! {
            std::process::abort()
        }
    )*};
}

never_called! {
    _Unwind_DeleteException
    _Unwind_FindEnclosingFunction
    _Unwind_ForcedUnwind
    _Unwind_GetCFA
    _Unwind_GetDataRelBase
    _Unwind_GetIP
    _Unwind_GetIPInfo
    _Unwind_GetLanguageSpecificData
    _Unwind_GetRegionStart
    _Unwind_GetTextRelBase
    _Unwind_RaiseException
    _Unwind_Resume
    _Unwind_SetGR
    _Unwind_SetIP
    __gcc_personality_v0
}
