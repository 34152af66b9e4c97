use bpftrace_meta::{Manifest, TracepointPatch};

use crate::error::LoadError;
use crate::host::Host;

/// A field as the target's `format` file has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    offset: u32,
    size: u32,
    signed: bool,
    data_loc: bool,
}

/// Puts the offsets that tracepoint fields have on this machine into the instructions.
pub(super) fn apply(
    manifest: &Manifest,
    object: &mut [u8],
    used: impl Fn(&str, &str) -> bool,
    host: &dyn Host,
) -> Result<(), LoadError> {
    let mut formats: Vec<(&str, &str, String)> = Vec::new();
    for patch in &manifest.tracepoint_patches {
        let TracepointPatch {
            category, event, ..
        } = patch;
        // The probe may have been dropped: its tracepoint is missing, and that is allowed.
        if !used(category, event) {
            continue;
        }
        let known = formats
            .iter()
            .position(|(c, e, _)| c == category && e == event);
        let known = match known {
            Some(known) => known,
            None => {
                let text = host
                    .tracepoint_format(category, event)
                    .map_err(|e| {
                        LoadError::io(
                            format!("Failed to read the format of tracepoint {category}:{event}"),
                            &e,
                        )
                    })?
                    .ok_or_else(|| {
                        LoadError::host(format!("tracepoint not found: {category}:{event}"))
                    })?;
                formats.push((category, event, text));
                formats.len() - 1
            }
        };
        patch_field(patch, &formats[known].2, object)?;
    }
    Ok(())
}

fn patch_field(patch: &TracepointPatch, format: &str, object: &mut [u8]) -> Result<(), LoadError> {
    let TracepointPatch {
        category,
        event,
        field,
        size,
        signed,
        data_loc,
        offset: _,
        inside,
        sites,
    } = patch;
    let name = format!("{category}:{event}");
    let Some(found) = find_field(format, field) else {
        return Err(LoadError::host(format!(
            "tracepoint {name} of this kernel has no field '{field}'"
        )));
    };
    if found.size != *size {
        return Err(LoadError::host(format!(
            "field '{field}' of tracepoint {name} has {} bytes on this kernel, the script was \
             compiled for {size}",
            found.size
        )));
    }
    if found.data_loc != *data_loc {
        let kind = |data_loc| {
            if data_loc {
                "of variable length"
            } else {
                "of fixed length"
            }
        };
        return Err(LoadError::host(format!(
            "field '{field}' of tracepoint {name} is {} on this kernel, the script was compiled \
             for one {}",
            kind(found.data_loc),
            kind(*data_loc)
        )));
    }
    // Of text and structures the kernel's word on the sign means nothing.
    if found.signed != *signed && matches!(size, 1 | 2 | 4 | 8) && !data_loc && *size > 1 {
        let sign = |signed| if signed { "signed" } else { "unsigned" };
        return Err(LoadError::host(format!(
            "field '{field}' of tracepoint {name} is {} on this kernel, the script was compiled \
             for {}",
            sign(found.signed),
            sign(*signed)
        )));
    }
    let place = found.offset.saturating_add(*inside);
    for site in sites {
        let malformed = || {
            LoadError::usage("the compiled script is malformed: a patch is outside of the object")
        };
        let insn = usize::try_from(site.file_offset)
            .ok()
            .and_then(|start| object.get_mut(start..)?.get_mut(..8))
            .ok_or_else(malformed)?;
        if site.imm {
            insn[4..8].copy_from_slice(&place.to_le_bytes());
        } else {
            let offset = i16::try_from(place).map_err(|_| {
                LoadError::host(format!(
                    "field '{field}' of tracepoint {name} is at offset {place} on this kernel, which \
                     is too far for an instruction",
                ))
            })?;
            insn[2..4].copy_from_slice(&offset.to_le_bytes());
        }
    }
    Ok(())
}

/// Finds `field:TYPE NAME[N]; offset:O; size:S; signed:B;`.
fn find_field(format: &str, name: &str) -> Option<Field> {
    format.lines().find_map(|line| {
        let line = line.trim().strip_prefix("field:")?;
        let mut parts = line.split(';').map(str::trim);
        let declaration = parts.next()?;
        let (mut offset, mut size, mut signed) = (None, None, false);
        for part in parts {
            match part.split_once(':') {
                Some(("offset", number)) => offset = number.parse().ok(),
                Some(("size", number)) => size = number.parse().ok(),
                Some(("signed", number)) => signed = number == "1",
                _ => {}
            }
        }
        let bare = declaration
            .split('[')
            .next()
            .filter(|_| {
                !declaration.starts_with("__data_loc") && !declaration.starts_with("__rel_loc")
            })
            .unwrap_or(declaration);
        let found = bare
            .rsplit(|c: char| c.is_whitespace() || c == '*')
            .next()?
            .trim_end_matches(']');
        (found == name).then_some(Field {
            offset: offset?,
            size: size?,
            signed,
            data_loc: declaration.starts_with("__data_loc"),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bpftrace_meta::PatchSite;

    const FORMAT: &str = "name: sched_switch\nID: 1\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n\
        \tfield:char prev_comm[16];\toffset:8;\tsize:16;\tsigned:0;\n\
        \tfield:pid_t prev_pid;\toffset:24;\tsize:4;\tsigned:1;\n\
        \tfield:const char * name;\toffset:32;\tsize:8;\tsigned:0;\n\
        \tfield:__data_loc char[] text;\toffset:40;\tsize:4;\tsigned:0;\n";

    fn patch(field: &str, size: u32, signed: bool) -> TracepointPatch {
        TracepointPatch {
            category: "sched".into(),
            event: "sched_switch".into(),
            field: field.into(),
            size,
            signed,
            data_loc: field == "text",
            offset: 0,
            inside: 0,
            sites: vec![
                PatchSite {
                    file_offset: 8,
                    imm: false,
                },
                PatchSite {
                    file_offset: 16,
                    imm: true,
                },
            ],
        }
    }

    #[test]
    fn offsets_go_into_instructions() {
        for (field, size, signed, offset) in [
            ("prev_comm", 16, false, 8),
            ("prev_pid", 4, true, 24),
            ("name", 8, false, 32),
            ("text", 4, false, 40),
        ] {
            let mut object = vec![0xff; 24];
            patch_field(&patch(field, size, signed), FORMAT, &mut object).unwrap();
            assert_eq!(object[..10], [0xff; 10]);
            assert_eq!(object[10..12], u16::to_le_bytes(offset));
            assert_eq!(object[20..24], u32::to_le_bytes(u32::from(offset)));
        }
    }

    #[test]
    fn elements_of_arrays_are_behind_the_start_of_the_field() {
        let mut object = vec![0xff; 24];
        let element = TracepointPatch {
            inside: 3,
            ..patch("prev_comm", 16, false)
        };
        patch_field(&element, FORMAT, &mut object).unwrap();
        assert_eq!(object[10..12], u16::to_le_bytes(11));
        assert_eq!(object[20..24], u32::to_le_bytes(11));
    }

    #[test]
    fn what_changed_is_named() {
        let mut object = vec![0; 24];
        let mut refused = |field, size, signed| {
            patch_field(&patch(field, size, signed), FORMAT, &mut object)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            refused("gone", 4, true),
            "ERROR: tracepoint sched:sched_switch of this kernel has no field 'gone'"
        );
        assert_eq!(
            refused("prev_pid", 8, true),
            "ERROR: field 'prev_pid' of tracepoint sched:sched_switch has 4 bytes on this kernel, \
             the script was compiled for 8"
        );
        assert_eq!(
            refused("prev_pid", 4, false),
            "ERROR: field 'prev_pid' of tracepoint sched:sched_switch is signed on this kernel, the \
             script was compiled for unsigned"
        );
        let mut short = vec![0; 12];
        assert!(patch_field(&patch("prev_pid", 4, true), FORMAT, &mut short).is_err());
    }
}
