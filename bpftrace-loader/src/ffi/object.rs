use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::ptr::NonNull;

use libbpf_sys as sys;

use super::{LoadFailure, MapHandle, c_string, check};

/// An object file that libbpf has read; sizes and `.rodata` can still be changed.
pub(crate) struct OpenObject(Object);

/// An object whose maps exist in the kernel and whose instructions are relocated. Its programs are
/// not loaded; see [`super::load_program`].
pub(crate) struct PreparedObject(Object);

/// Programs that came with imported objects. Dropping it detaches them.
pub(crate) struct OtherPrograms {
    // Before the object, whose programs they refer to.
    links: Vec<OwnLink>,
    programs: Vec<NonNull<sys::bpf_program>>,
    _object: Object,
}

/// A link that libbpf made.
struct OwnLink(NonNull<sys::bpf_link>);

impl Drop for OwnLink {
    fn drop(&mut self) {
        // SAFETY: the pointer came from bpf_program__attach and is destroyed once.
        unsafe { sys::bpf_link__destroy(self.0.as_ptr()) };
    }
}

struct Object(NonNull<sys::bpf_object>);

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: the pointer came from bpf_object__open_mem and is closed once.
        unsafe { sys::bpf_object__close(self.0.as_ptr()) };
    }
}

/// What the kernel takes besides a program's instructions; borrowed from the object.
pub(crate) struct ProgramParts<'a> {
    /// Relocated instructions of the program and the subprograms behind it, 8 bytes each.
    pub(crate) insns: Vec<super::Insn>,
    /// `struct bpf_func_info` array as bytes; empty without BTF.
    pub(crate) func_info: Vec<u8>,
    /// `struct bpf_line_info` array as bytes; empty without BTF.
    pub(crate) line_info: Vec<u8>,
    /// The object's BTF, when the kernel took it.
    pub(crate) btf_fd: Option<BorrowedFd<'a>>,
}

impl Object {
    fn program(&self, symbol: &str) -> io::Result<Option<NonNull<sys::bpf_program>>> {
        let symbol = c_string(symbol)?;
        // SAFETY: the object is open and the name is NUL-terminated.
        let program =
            unsafe { sys::bpf_object__find_program_by_name(self.0.as_ptr(), symbol.as_ptr()) };
        Ok(NonNull::new(program))
    }

    fn map(&self, name: &str) -> io::Result<Option<NonNull<sys::bpf_map>>> {
        let name = c_string(name)?;
        // SAFETY: the object is open and the name is NUL-terminated.
        let map = unsafe { sys::bpf_object__find_map_by_name(self.0.as_ptr(), name.as_ptr()) };
        Ok(NonNull::new(map))
    }
}

impl OpenObject {
    /// Reads an object file. `btf`: type information of the kernel to use instead of the running
    /// kernel's.
    pub(crate) fn open(bytes: &[u8], btf: Option<&Path>) -> io::Result<Self> {
        let name = CString::from(c"bpftrace");
        let btf = match btf {
            Some(path) => Some(c_string(&path.to_string_lossy())?),
            None => None,
        };
        let opts = sys::bpf_object_open_opts {
            sz: size_of::<sys::bpf_object_open_opts>() as u64,
            object_name: name.as_ptr(),
            btf_custom_path: btf.as_ref().map_or(std::ptr::null(), |b| b.as_ptr()),
            ..Default::default()
        };
        // SAFETY: libbpf copies what it needs of the bytes and the options, which outlive the call.
        let object =
            unsafe { sys::bpf_object__open_mem(bytes.as_ptr().cast(), bytes.len() as u64, &opts) };
        NonNull::new(object)
            .map(|object| Self(Object(object)))
            .ok_or_else(io::Error::last_os_error)
    }

    /// Names of the programs.
    pub(crate) fn programs(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut program = std::ptr::null_mut();
        loop {
            // SAFETY: the object is open, and `program` is null or one of its programs.
            program = unsafe { sys::bpf_object__next_program(self.0.0.as_ptr(), program) };
            if program.is_null() {
                return names;
            }
            // SAFETY: a program's name is NUL-terminated and lives as long as the object.
            let name = unsafe { CStr::from_ptr(sys::bpf_program__name(program)) };
            names.push(name.to_string_lossy().into_owned());
        }
    }

    /// Says whether a program is relocated by [`Self::prepare`]. Its type is set to one that does
    /// not make libbpf look up attach targets: we do that ourselves, per target.
    pub(crate) fn use_program(&mut self, symbol: &str, used: bool) -> io::Result<bool> {
        let Some(program) = self.0.program(symbol)? else {
            return Ok(false);
        };
        // SAFETY: the program belongs to the open object.
        check(i64::from(unsafe {
            sys::bpf_program__set_autoload(program.as_ptr(), used)
        }))?;
        // SAFETY: as above.
        check(i64::from(unsafe {
            sys::bpf_program__set_type(program.as_ptr(), sys::BPF_PROG_TYPE_KPROBE)
        }))?;
        Ok(true)
    }

    /// Sets the number of entries of a map. False when there is no such map.
    pub(crate) fn set_max_entries(&mut self, map: &str, entries: u32) -> io::Result<bool> {
        let Some(map) = self.0.map(map)? else {
            return Ok(false);
        };
        // SAFETY: the map belongs to the open object, which is not loaded yet.
        check(i64::from(unsafe {
            sys::bpf_map__set_max_entries(map.as_ptr(), entries)
        }))?;
        Ok(true)
    }

    /// Sets the size of a map's keys. False when there is no such map.
    pub(crate) fn set_key_size(&mut self, map: &str, bytes: u32) -> io::Result<bool> {
        let Some(map) = self.0.map(map)? else {
            return Ok(false);
        };
        // SAFETY: the map belongs to the open object, which is not loaded yet.
        check(i64::from(unsafe {
            sys::bpf_map__set_key_size(map.as_ptr(), bytes)
        }))?;
        Ok(true)
    }

    /// Does without a map, which only code that is never reached refers to. False when there is no
    /// such map.
    pub(crate) fn leave_out(&mut self, map: &str) -> io::Result<bool> {
        let Some(map) = self.0.map(map)? else {
            return Ok(false);
        };
        // SAFETY: the map belongs to the open object, which is not loaded yet.
        check(i64::from(unsafe {
            sys::bpf_map__set_autocreate(map.as_ptr(), false)
        }))?;
        Ok(true)
    }

    /// Changes bytes of a data section such as `.rodata`. False when there is no such section or
    /// the bytes are outside of it.
    pub(crate) fn write_data(
        &mut self,
        section: &str,
        offset: u32,
        bytes: &[u8],
    ) -> io::Result<bool> {
        let Some(map) = self.0.map(section)? else {
            return Ok(false);
        };
        let mut size = 0;
        // SAFETY: the map belongs to the open object; libbpf answers null for other kinds of maps.
        let start: *mut u8 = unsafe { sys::bpf_map__initial_value(map.as_ptr(), &mut size) }.cast();
        let end = u64::from(offset) + bytes.len() as u64;
        if start.is_null() || end > size {
            return Ok(false);
        }
        // SAFETY: the range was just checked to be inside the section's memory, which is writable
        // until the object is loaded and which nobody else refers to.
        unsafe {
            start
                .add(offset as usize)
                .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
        Ok(true)
    }

    /// Creates the maps and relocates the programs that are used.
    pub(crate) fn prepare(self) -> io::Result<PreparedObject> {
        // SAFETY: the object is open and not loaded yet.
        check(i64::from(unsafe {
            sys::bpf_object__prepare(self.0.0.as_ptr())
        }))?;
        Ok(PreparedObject(self.0))
    }
}

impl PreparedObject {
    /// What the kernel has to be given for a program.
    pub(crate) fn program(&self, symbol: &str) -> io::Result<Option<ProgramParts<'_>>> {
        let Some(program) = self.0.program(symbol)? else {
            return Ok(None);
        };
        let program = program.as_ptr();
        // SAFETY: the program belongs to the object, the arrays to the program; each is as long as
        // libbpf says and made of plain integers, and is copied before anything can change it.
        unsafe {
            let insns = std::slice::from_raw_parts(
                sys::bpf_program__insns(program).cast::<super::Insn>(),
                sys::bpf_program__insn_cnt(program) as usize,
            )
            .to_vec();
            let copy = |start: *const u8, n: u32, size: usize| {
                if start.is_null() {
                    Vec::new()
                } else {
                    std::slice::from_raw_parts(start, n as usize * size).to_vec()
                }
            };
            let func_info = copy(
                sys::bpf_program__func_info(program).cast(),
                sys::bpf_program__func_info_cnt(program),
                size_of::<sys::bpf_func_info>(),
            );
            let line_info = copy(
                sys::bpf_program__line_info(program).cast(),
                sys::bpf_program__line_info_cnt(program),
                size_of::<sys::bpf_line_info>(),
            );
            let btf_fd = sys::bpf_object__btf_fd(self.0.0.as_ptr());
            Ok(Some(ProgramParts {
                insns,
                func_info,
                line_info,
                btf_fd: (btf_fd >= 0).then(|| BorrowedFd::borrow_raw(btf_fd)),
            }))
        }
    }

    /// Loads the programs that are not ours, each as the name of its section says, unless that says no.
    ///
    /// # Errors
    /// The name of the program that the kernel did not take, if there was one, and why.
    pub(crate) fn load_others(
        self,
        ours: &dyn Fn(&str) -> bool,
        log_size: u32,
    ) -> Result<OtherPrograms, (Option<String>, LoadFailure)> {
        let fail = |error| LoadFailure {
            error,
            log: String::new(),
            log_trimmed: false,
        };
        let object = self.0.0.as_ptr();
        let mut others = Vec::new();
        let mut program = std::ptr::null_mut();
        loop {
            // SAFETY: the object is open, and `program` is null or one of its programs.
            program = unsafe { sys::bpf_object__next_program(object, program) };
            let Some(found) = NonNull::new(program) else {
                break;
            };
            // SAFETY: a program's name is NUL-terminated and lives as long as the object.
            let name = unsafe { CStr::from_ptr(sys::bpf_program__name(program)) };
            let name = name.to_string_lossy().into_owned();
            if ours(&name) {
                // SAFETY: the program belongs to the object, which is not loaded yet.
                check(i64::from(unsafe {
                    sys::bpf_program__set_autoload(program, false)
                }))
                .map_err(|e| (None, fail(e)))?;
            } else {
                others.push((found, name, vec![0u8; log_size as usize]));
            }
        }
        for (program, _, log) in &mut others {
            // SAFETY: the program belongs to the object; the buffer is as long as is said and lives until
            // the programs are loaded, after which it is not used.
            check(i64::from(unsafe {
                sys::bpf_program__set_log_buf(
                    program.as_ptr(),
                    log.as_mut_ptr().cast(),
                    log.len() as u64,
                )
            }))
            .map_err(|e| (None, fail(e)))?;
        }
        // SAFETY: the object is prepared and not loaded yet.
        let loaded = check(i64::from(unsafe { sys::bpf_object__load(object) }));
        let Err(error) = loaded else {
            let programs = others.into_iter().map(|(program, ..)| program).collect();
            return Ok(OtherPrograms {
                links: Vec::new(),
                programs,
                _object: self.0,
            });
        };
        let refused = others.into_iter().find_map(|(_, name, log)| {
            let text = log.split(|b| *b == 0).next().unwrap_or_default();
            let trimmed = text.len() + 1 >= log.len();
            let text = String::from_utf8_lossy(text).into_owned();
            (!text.is_empty()).then_some((name, text, trimmed))
        });
        Err(match refused {
            Some((name, log, log_trimmed)) => (
                Some(name),
                LoadFailure {
                    error,
                    log,
                    log_trimmed,
                },
            ),
            None => (None, fail(error)),
        })
    }

    /// A handle on a map, unless it was left out; it has a descriptor of its own and may outlive the object.
    pub(crate) fn map(&self, name: &str, possible_cpus: u32) -> io::Result<Option<MapHandle>> {
        let Some(map) = self.0.map(name)? else {
            return Ok(None);
        };
        let map = map.as_ptr();
        // SAFETY: the map belongs to the object.
        if !unsafe { sys::bpf_map__autocreate(map) } {
            return Ok(None);
        }
        // SAFETY: the map belongs to the object and was created by `prepare`.
        let (fd, kind, key_size, value_size, max_entries) = unsafe {
            let fd = sys::bpf_map__fd(map);
            check(i64::from(fd))?;
            (
                BorrowedFd::borrow_raw(fd),
                sys::bpf_map__type(map),
                sys::bpf_map__key_size(map),
                sys::bpf_map__value_size(map),
                sys::bpf_map__max_entries(map),
            )
        };
        MapHandle::new(
            fd.try_clone_to_owned()?,
            kind,
            key_size,
            value_size,
            max_entries,
            possible_cpus,
        )
        .map(Some)
    }
}

impl OtherPrograms {
    /// Attaches each program to what the name of its section says, where it says so and that is there.
    pub(crate) fn attach(&mut self) {
        for program in &self.programs {
            // SAFETY: the programs belong to the object, which is loaded.
            let link = unsafe {
                if !sys::bpf_program__autoattach(program.as_ptr()) {
                    continue;
                }
                sys::bpf_program__attach(program.as_ptr())
            };
            self.links.extend(NonNull::new(link).map(OwnLink));
        }
    }
}
