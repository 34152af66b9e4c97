use std::fs;
use std::io;

use super::{AttachError, Attaching, perf};
use crate::bind::{Place, Target};
use crate::ffi::{Link, PerfSpec};

/// A kind of probe that the kernel offers as a perf device.
pub(super) struct ProbeDevice {
    /// Its `PERF_TYPE_*`.
    pub(super) kind: u32,
    /// Bit of `config` that asks for the return.
    ret_bit: u32,
}

impl ProbeDevice {
    /// Asks sysfs.
    pub(super) fn find(name: &str) -> Result<Self, AttachError> {
        let directory = format!("/sys/bus/event_source/devices/{name}");
        let read = |file: &str| fs::read_to_string(format!("{directory}/{file}"));
        let kind = match read("type") {
            Ok(text) => text.trim().parse().map_err(|_| {
                AttachError::Explained(format!("unexpected text in {directory}/type"))
            })?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(AttachError::Explained(format!(
                    "this kernel is built without {name}s"
                )));
            }
            Err(e) => return Err(e.into()),
        };
        // `config:0`
        let ret_bit = read("format/retprobe")
            .ok()
            .and_then(|text| text.trim().strip_prefix("config:")?.parse().ok())
            .unwrap_or(0);
        Ok(Self { kind, ret_bit })
    }

    /// The value of `config`.
    pub(super) fn config(&self, ret: bool) -> u64 {
        u64::from(ret) << self.ret_bit
    }
}

/// A kernel function to probe.
pub(super) struct Function<'a> {
    pub(super) ret: bool,
    pub(super) module: Option<&'a str>,
    pub(super) name: &'a str,
    /// Where it is known.
    pub(super) address: Option<u64>,
    pub(super) offset: u64,
}

pub(super) fn attach(
    attaching: &Attaching<'_>,
    number: u64,
    function: &Function<'_>,
) -> Result<Link, AttachError> {
    let device = ProbeDevice::find("kprobe")?;
    let spec = PerfSpec::Kprobe {
        kind: device.kind,
        config: device.config(function.ret),
        function: match (function.address, function.module) {
            (Some(_), _) => None,
            (None, Some(module)) if module != "vmlinux" => {
                Some(format!("{module}:{}", function.name))
            }
            (None, _) => Some(function.name.to_owned()),
        },
        offset_or_address: function.address.unwrap_or(0).wrapping_add(function.offset),
    };
    match perf::attach_event(attaching, number, &spec, -1, perf::first_cpu(attaching)) {
        Err(AttachError::Refused(e)) => Err(explain(e, function)),
        result => result,
    }
}

/// What an error number of the kprobe device means.
fn explain(error: io::Error, function: &Function<'_>) -> AttachError {
    let Function { name, offset, .. } = function;
    match error.raw_os_error() {
        Some(libc::EADDRNOTAVAIL) => {
            AttachError::Explained(format!("there are several functions '{name}'"))
        }
        Some(libc::EILSEQ) => AttachError::Mistaken(
            "Possible attachment attempt in the middle of an instruction, try a different offset."
                .into(),
        ),
        Some(libc::EINVAL) if *offset != 0 => AttachError::Explained(format!(
            "offset {offset} is outside of '{name}', or no place for a probe"
        )),
        Some(libc::ENOENT | libc::EINVAL | libc::ESRCH) => {
            missing(function.ret, function.module, name)
        }
        _ => AttachError::Refused(error),
    }
}

/// There is no such function, or it cannot be probed.
pub(super) fn missing(ret: bool, module: Option<&str>, name: &str) -> AttachError {
    let provider = if ret { "kretprobe" } else { "kprobe" };
    AttachError::Missing {
        text: match module {
            Some(module) => format!("{provider} {module}:{name}"),
            None => format!("{provider} {name}"),
        },
        function: module
            .is_none_or(|module| module == "vmlinux")
            .then(|| name.to_owned()),
    }
}

pub(super) fn attach_address(
    attaching: &Attaching<'_>,
    number: u64,
    address: u64,
) -> Result<Link, AttachError> {
    let device = ProbeDevice::find("kprobe")?;
    let spec = PerfSpec::Kprobe {
        kind: device.kind,
        config: device.config(false),
        function: None,
        offset_or_address: address,
    };
    perf::attach_event(attaching, number, &spec, -1, perf::first_cpu(attaching))
}

pub(super) fn attach_multi(
    attaching: &Attaching<'_>,
    targets: &[(u64, &Target)],
) -> Result<Link, AttachError> {
    let mut functions = Vec::with_capacity(targets.len());
    let mut cookies = Vec::with_capacity(targets.len());
    let mut is_ret = false;
    for (number, target) in targets {
        if let Place::Kprobe {
            ret,
            function,
            address,
            ..
        } = &target.place
        {
            is_ret = *ret;
            functions.push((function.clone(), *address));
            cookies.push(*number);
        }
    }
    let link = Link::kprobe_multi(
        attaching.program,
        attaching.attach_type,
        &functions,
        &cookies,
        is_ret,
    );
    match (link, functions.as_slice()) {
        (Ok(link), _) => Ok(link),
        (Err(e), [(name, None)]) => Err(explain(
            e,
            &Function {
                ret: is_ret,
                module: None,
                name,
                address: None,
                offset: 0,
            },
        )),
        (Err(e), _) => Err(e.into()),
    }
}
