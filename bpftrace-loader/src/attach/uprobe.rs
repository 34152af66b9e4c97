use std::path::Path;

use super::kprobe::ProbeDevice;
use super::{AttachError, Attaching, perf};
use crate::bind::{Place, Target};
use crate::ffi::{Link, PerfSpec, UprobeMulti};
use crate::host::zip;

pub(super) fn attach(
    attaching: &Attaching<'_>,
    number: u64,
    ret: bool,
    path: &Path,
    offset: u64,
    semaphore: u64,
) -> Result<Link, AttachError> {
    let device = ProbeDevice::find("uprobe")?;
    let spec = PerfSpec::Uprobe {
        kind: device.kind,
        config: device.config(ret),
        path: zip::file_of(path).to_string_lossy().into_owned(),
        offset,
        ref_ctr_offset: semaphore,
    };
    // For one process on every CPU, or for all processes on one: the kernel fires it everywhere.
    let (pid, cpu) = match attaching.pid {
        Some(pid) => (pid, -1),
        None => (-1, perf::first_cpu(attaching)),
    };
    perf::attach_event(attaching, number, &spec, pid, cpu)
}

pub(super) fn attach_multi(
    attaching: &Attaching<'_>,
    targets: &[(u64, &Target)],
) -> Result<Link, AttachError> {
    let mut places = UprobeMulti {
        pid: attaching.pid,
        ..UprobeMulti::default()
    };
    for (number, target) in targets {
        if let Place::Uprobe {
            ret,
            path,
            offset,
            usdt,
        } = &target.place
        {
            places.path = zip::file_of(path);
            places.ret = *ret;
            places.offsets.push(*offset);
            let semaphore = usdt.as_ref().map_or(0, |site| site.semaphore);
            places.semaphores.push(semaphore);
            places.cookies.push(*number);
        }
    }
    Ok(Link::uprobe_multi(attaching.program, &places)?)
}
