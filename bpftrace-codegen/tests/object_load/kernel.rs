//! Loads objects into the running kernel through libbpf. All unsafe code of these tests is here.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

use bpftrace_codegen::object::{BpfObject, ObjectSpec, write_object};
use libbpf_sys as sys;

/// Silences libbpf, which would otherwise print to stderr what the tests expect.
unsafe extern "C" fn no_print(
    _level: sys::libbpf_print_level,
    _format: *const c_char,
    _args: *mut sys::__va_list_tag,
) -> c_int {
    0
}

/// Why programs cannot be loaded here, if they cannot.
pub(crate) fn unavailable() -> Option<String> {
    // Two instructions: r0 = 0, exit.
    let code: [u64; 2] = [0xb7, 0x95];
    let name = c"probe";
    let license = c"GPL";
    // SAFETY: libbpf keeps the pointer to a function that lives as long as the process; the
    // arguments of the load are valid for the call, and the descriptor is closed once.
    unsafe {
        if std::env::var_os("LIBBPF_DEBUG").is_none() {
            sys::libbpf_set_print(Some(no_print));
        }
        let fd = sys::bpf_prog_load(
            sys::BPF_PROG_TYPE_RAW_TRACEPOINT,
            name.as_ptr(),
            license.as_ptr(),
            code.as_ptr().cast(),
            code.len() as sys::size_t,
            ptr::null_mut(),
        );
        if fd < 0 {
            let error = std::io::Error::from_raw_os_error(-fd);
            return Some(format!("a two-instruction BPF program is refused: {error}"));
        }
        close(fd);
    }
    std::fs::metadata("/sys/kernel/btf/vmlinux")
        .err()
        .map(|error| format!("the kernel has no BTF: {error}"))
}

/// The running kernel's version, major and minor.
pub(crate) fn version() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release
        .split(|char: char| !char.is_ascii_digit())
        .map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Why programs at the entry of kernel functions cannot be loaded here, if they cannot. Some kernels
/// refuse them however they are made.
pub(crate) fn fentry_unavailable() -> Option<String> {
    let code: [u64; 2] = [0xb7, 0x95];
    let name = c"probe";
    let license = c"GPL";
    // SAFETY: all arguments are valid for the calls, and the descriptor is closed once.
    unsafe {
        let id = sys::libbpf_find_vmlinux_btf_id(FENTRY_FUNCTION.as_ptr(), sys::BPF_TRACE_FENTRY);
        let mut opts = sys::bpf_prog_load_opts {
            sz: size_of::<sys::bpf_prog_load_opts>() as sys::size_t,
            expected_attach_type: sys::BPF_TRACE_FENTRY,
            attach_btf_id: u32::try_from(id).unwrap_or(0),
            ..Default::default()
        };
        let fd = sys::bpf_prog_load(
            sys::BPF_PROG_TYPE_TRACING,
            name.as_ptr(),
            license.as_ptr(),
            code.as_ptr().cast(),
            code.len() as sys::size_t,
            &mut opts,
        );
        if fd < 0 {
            let error = std::io::Error::from_raw_os_error(-fd);
            return Some(format!(
                "a two-instruction fentry program is refused: {error}"
            ));
        }
        close(fd);
    }
    None
}

/// A function that every kernel has.
const FENTRY_FUNCTION: &CStr = c"vfs_open";

unsafe extern "C" {
    fn close(fd: c_int) -> c_int;
}

/// An object in the hands of libbpf.
pub(crate) struct Object {
    raw: *mut sys::bpf_object,
    /// What the kernel writes its log to; libbpf keeps a pointer into it.
    log: Vec<u8>,
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: opened by `open`, closed only here.
        unsafe { sys::bpf_object__close(self.raw) }
    }
}

impl Object {
    /// Opens without loading.
    pub(crate) fn open(elf: &[u8]) -> Result<Object, String> {
        let mut log = vec![0u8; 1 << 18];
        let name = c"test";
        let opts = sys::bpf_object_open_opts {
            sz: size_of::<sys::bpf_object_open_opts>() as sys::size_t,
            object_name: name.as_ptr(),
            kernel_log_buf: log.as_mut_ptr().cast(),
            kernel_log_size: log.len() as sys::size_t,
            kernel_log_level: 1,
            ..Default::default()
        };
        // SAFETY: libbpf copies the ELF bytes and the name; the log stays allocated, at the same
        // place, for as long as the object.
        let raw = unsafe {
            sys::bpf_object__open_mem(elf.as_ptr().cast(), elf.len() as sys::size_t, &opts)
        };
        if raw.is_null() {
            return Err(format!("open: {}", std::io::Error::last_os_error()));
        }
        Ok(Object { raw, log })
    }

    /// Loads; the error holds the verifier's log.
    pub(crate) fn load(&mut self) -> Result<(), String> {
        // SAFETY: the object is open.
        let result = unsafe { sys::bpf_object__load(self.raw) };
        if result == 0 {
            return Ok(());
        }
        let error = std::io::Error::from_raw_os_error(-result);
        Err(format!("load: {error}\n{}", self.log_text()))
    }

    fn log_text(&self) -> String {
        let text = self.log.split(|&byte| byte == 0).next();
        String::from_utf8_lossy(text.unwrap_or_default()).into_owned()
    }

    fn map(&self, name: &str) -> *mut sys::bpf_map {
        let c_name = CString::new(name).expect("no NUL");
        // SAFETY: the object is open, and the name ends with NUL.
        let map = unsafe { sys::bpf_object__find_map_by_name(self.raw, c_name.as_ptr()) };
        assert!(!map.is_null(), "no map {name}");
        map
    }

    /// The memory of a data section: its initial value before the load, the live one after it.
    pub(crate) fn data(&mut self, section: &str) -> &mut [u8] {
        let mut size: sys::size_t = 0;
        let map = self.map(section);
        // SAFETY: the map belongs to the object, which outlives the slice; libbpf maps `size` bytes
        // there. A program that writes them at the same time is not running while a test looks.
        unsafe {
            let start = sys::bpf_map__initial_value(map, &mut size);
            assert!(!start.is_null(), "{section} has no memory");
            std::slice::from_raw_parts_mut(start.cast(), size as usize)
        }
    }

    /// A 64-bit number in a data section.
    pub(crate) fn number(&mut self, section: &str, offset: u32) -> u64 {
        let bytes = &self.data(section)[offset as usize..][..8];
        u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
    }

    /// Runs a raw tracepoint program once, on this thread.
    pub(crate) fn run(&self, program: &str) -> Result<(), String> {
        let c_name = CString::new(program).expect("no NUL");
        // A tracepoint's arguments; none of the tests looks at them.
        let context = [0u64; 4];
        let mut opts = sys::bpf_test_run_opts {
            sz: size_of::<sys::bpf_test_run_opts>() as sys::size_t,
            ctx_in: context.as_ptr().cast(),
            ctx_size_in: size_of_val(&context) as u32,
            ..Default::default()
        };
        // SAFETY: the object is loaded, and everything that `opts` points to lives during the call.
        let result = unsafe {
            let raw = sys::bpf_object__find_program_by_name(self.raw, c_name.as_ptr());
            assert!(!raw.is_null(), "no program {program}");
            sys::bpf_prog_test_run_opts(sys::bpf_program__fd(raw), &mut opts)
        };
        if result == 0 {
            Ok(())
        } else {
            Err(format!(
                "run: {}",
                std::io::Error::from_raw_os_error(-result)
            ))
        }
    }

    /// The names of the programs with those of their sections.
    pub(crate) fn programs(&self) -> Vec<(String, String)> {
        let mut programs = Vec::new();
        let mut program = ptr::null_mut();
        loop {
            // SAFETY: the object is open, and `program` is null or one of its programs, whose names
            // live as long as the object.
            unsafe {
                program = sys::bpf_object__next_program(self.raw, program);
                if program.is_null() {
                    return programs;
                }
                let text = |text| CStr::from_ptr(text).to_string_lossy().into_owned();
                programs.push((
                    text(sys::bpf_program__name(program)),
                    text(sys::bpf_program__section_name(program)),
                ));
            }
        }
    }

    /// The value of a key, `None` when it is not there.
    pub(crate) fn lookup(&self, map: &str, key: &[u8], value_size: usize) -> Option<Vec<u8>> {
        let map = self.map(map);
        let mut value = vec![0u8; value_size];
        // SAFETY: key and value have the sizes that the map was defined with, which libbpf checks.
        let result = unsafe {
            sys::bpf_map__lookup_elem(
                map,
                key.as_ptr().cast(),
                key.len() as sys::size_t,
                value.as_mut_ptr().cast(),
                value.len() as sys::size_t,
                0,
            )
        };
        (result == 0).then_some(value)
    }

    /// Takes what is in a ring buffer.
    pub(crate) fn drain(&self, map: &str) -> Vec<Vec<u8>> {
        unsafe extern "C" fn sample(
            context: *mut c_void,
            data: *mut c_void,
            size: sys::size_t,
        ) -> c_int {
            // SAFETY: the context is the vector of `drain`, used by nobody else during the call, and
            // libbpf passes `size` readable bytes.
            unsafe {
                let records = &mut *context.cast::<Vec<Vec<u8>>>();
                let bytes = std::slice::from_raw_parts(data.cast::<u8>(), size as usize);
                records.push(bytes.to_vec());
            }
            0
        }
        let mut records: Vec<Vec<u8>> = Vec::new();
        // SAFETY: the object is loaded; the ring buffer is freed before `records` goes away.
        unsafe {
            let fd = sys::bpf_map__fd(self.map(map));
            let context = (&raw mut records).cast();
            let ring = sys::ring_buffer__new(fd, Some(sample), context, ptr::null());
            assert!(!ring.is_null(), "no ring buffer");
            sys::ring_buffer__consume(ring);
            sys::ring_buffer__free(ring);
        }
        records
    }
}

/// Writes, opens and loads an object.
pub(crate) fn load(spec: &ObjectSpec) -> Result<Object, String> {
    let written = write(spec)?;
    let mut object = Object::open(&written.elf)?;
    object.load()?;
    Ok(object)
}

/// Writes an object.
pub(crate) fn write(spec: &ObjectSpec) -> Result<BpfObject, String> {
    write_object(spec).map_err(|error| error.to_string())
}
