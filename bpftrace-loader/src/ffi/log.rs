use std::ffi::{c_char, c_int};
use std::sync::Mutex;

use libbpf_sys::__va_list_tag;

/// What libbpf said since it was last taken, with its level (0: warning, 1: info, 2: debug).
static LOG: Mutex<Vec<(u32, String)>> = Mutex::new(Vec::new());

unsafe extern "C" {
    fn vsnprintf(
        buffer: *mut c_char,
        size: usize,
        format: *const c_char,
        args: *mut __va_list_tag,
    ) -> c_int;
}

unsafe extern "C" fn collect(level: u32, format: *const c_char, args: *mut __va_list_tag) -> c_int {
    let mut buffer = [0u8; 2048];
    // SAFETY: the buffer is as large as we say, and libbpf passes a format with its arguments.
    let n = unsafe { vsnprintf(buffer.as_mut_ptr().cast(), buffer.len(), format, args) };
    let n = usize::try_from(n).unwrap_or(0).min(buffer.len() - 1);
    let text = String::from_utf8_lossy(&buffer[..n]).trim_end().to_owned();
    if let Ok(mut log) = LOG.lock() {
        log.push((level, text));
    }
    0
}

/// From now on, what libbpf says is collected instead of going to standard error.
pub(crate) fn capture_log() {
    // SAFETY: `collect` has the signature that libbpf calls, and lives as long as the process.
    unsafe { libbpf_sys::libbpf_set_print(Some(collect)) };
}

/// Takes what was collected: level (0: warning, 1: info, 2: debug) and text of each message.
pub(crate) fn take_log() -> Vec<(u32, String)> {
    LOG.lock()
        .map(|mut log| std::mem::take(&mut *log))
        .unwrap_or_default()
}
