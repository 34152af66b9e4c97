//! Where a USDT probe has its arguments, from the text that the assembler left in the note:
//! `[-]SIZE@OPERAND`, with operands as AT&T syntax has them for x86-64.

use bpftrace_meta::{USDT_MAX_ARGS, UsdtArg};

/// What a note's arguments may refer to: the probe's own address, and symbols of its file.
pub(super) struct ArgContext<'a> {
    /// Virtual address of the probe.
    pub(super) address: u64,
    /// Virtual address of a symbol of the file.
    pub(super) symbol: &'a dyn Fn(&str) -> Option<u64>,
}

/// Offset of the instruction pointer in `struct pt_regs` of x86-64.
const IP: u16 = 128;

/// The 64-bit names of the registers and their offsets in `struct pt_regs`
/// (arch/x86/include/asm/ptrace.h).
const REGISTERS: &[(&str, u16)] = &[
    ("r15", 0),
    ("r14", 8),
    ("r13", 16),
    ("r12", 24),
    ("rbp", 32),
    ("rbx", 40),
    ("r11", 48),
    ("r10", 56),
    ("r9", 64),
    ("r8", 72),
    ("rax", 80),
    ("rcx", 88),
    ("rdx", 96),
    ("rsi", 104),
    ("rdi", 112),
    ("rip", IP),
    ("rsp", 152),
];

/// Reads the arguments of a note. Those that cannot be read (in floating-point registers, say) are
/// errors that quote them.
pub(super) fn parse(text: &str, context: &ArgContext<'_>) -> Vec<Result<UsdtArg, String>> {
    text.split_ascii_whitespace()
        .take(USDT_MAX_ARGS)
        .map(|arg| argument(arg, context).ok_or_else(|| arg.to_owned()))
        .collect()
}

fn argument(text: &str, context: &ArgContext<'_>) -> Option<UsdtArg> {
    let (size, operand) = text.split_once('@')?;
    let (signed, size) = match size.strip_prefix('-') {
        Some(size) => (true, size),
        None => (false, size),
    };
    let size: u8 = size.parse().ok()?;
    if !matches!(size, 1 | 2 | 4 | 8) {
        return None;
    }
    let arg = UsdtArg {
        size,
        signed,
        ..UsdtArg::default()
    };
    if let Some(constant) = operand.strip_prefix('$') {
        return Some(UsdtArg {
            value: number(constant)?,
            ..arg
        });
    }
    if let Some(name) = operand.strip_prefix('%') {
        return Some(UsdtArg {
            base: Some(register(name)?),
            ..arg
        });
    }
    let arg = UsdtArg {
        in_memory: true,
        ..arg
    };
    let (displacement, rest) = match operand.split_once('(') {
        Some((displacement, rest)) => (displacement, Some(rest.strip_suffix(')')?)),
        None => (operand, None),
    };
    let Some(rest) = rest else {
        // An address alone: that of a symbol moves with the file, as the probe does.
        return relative(displacement, context, arg);
    };
    let mut parts = rest.split(',').map(str::trim);
    let base = match parts.next()? {
        "" => None,
        base => Some(register(base.strip_prefix('%')?)?),
    };
    let index = match parts.next() {
        None | Some("") => None,
        Some(index) => Some(register(index.strip_prefix('%')?)?),
    };
    let scale = match parts.next() {
        None | Some("" | "1") => 0,
        Some("2") => 1,
        Some("4") => 2,
        Some("8") => 3,
        Some(_) => return None,
    };
    if parts.next().is_some() || (base.is_none() && index.is_none()) {
        return None;
    }
    if base == Some(IP) && index.is_none() && number(displacement).is_none() {
        return relative(displacement, context, arg);
    }
    let value = match displacement {
        "" => 0,
        text => number(text)?,
    };
    Some(UsdtArg {
        value,
        base,
        index,
        scale,
        ..arg
    })
}

/// A variable of the file, `name` or `name+8`: so many bytes from where the probe is.
fn relative(text: &str, context: &ArgContext<'_>, arg: UsdtArg) -> Option<UsdtArg> {
    let at = text.find(['+', '-']).unwrap_or(text.len());
    let (name, offset) = text.split_at(at);
    // The assembler may say which way it is found.
    let name = name.split('@').next().unwrap_or(name);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let offset = match offset.strip_prefix('+') {
        Some(offset) => number(offset)?,
        None if offset.is_empty() => 0,
        None => number(offset)?,
    };
    let address = (context.symbol)(name)?.wrapping_add_signed(offset);
    Some(UsdtArg {
        value: address.wrapping_sub(context.address) as i64,
        base: Some(IP),
        ..arg
    })
}

/// Offset of a register in `pt_regs`, by any of its names; the value starts with its low byte.
fn register(name: &str) -> Option<u16> {
    let find = |wanted: &str| {
        REGISTERS
            .iter()
            .find(|(name, _)| *name == wanted)
            .map(|(_, offset)| *offset)
    };
    if let Some(offset) = find(name) {
        return Some(offset);
    }
    // r8d, r8w, r8b
    if let Some(number) = name.strip_prefix('r')
        && number.starts_with(|c: char| c.is_ascii_digit())
    {
        return find(name.strip_suffix(['d', 'w', 'b', 'l'])?);
    }
    let wide = |letters: &str| find(&format!("r{letters}"));
    match name.as_bytes() {
        // eax, esi
        [b'e', _, _] => wide(&name[1..]),
        // The second byte of ax, bx, cx and dx.
        [letter @ b'a'..=b'd', b'h'] => wide(&format!("{}x", char::from(*letter))).map(|o| o + 1),
        [letter @ b'a'..=b'd', b'l'] => wide(&format!("{}x", char::from(*letter))),
        // sil, bpl
        [_, _, b'l'] => wide(&name[..2]),
        // ax, si
        [_, _] => wide(name),
        _ => None,
    }
}

/// An integer as assemblers write them.
fn number(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let value = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None if digits.starts_with(|c: char| c.is_ascii_digit()) => digits.parse().ok()?,
        None => return None,
    };
    let value = value as i64;
    Some(if negative {
        value.wrapping_neg()
    } else {
        value
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Vec<Result<UsdtArg, String>> {
        let symbol = |name: &str| (name == "counter").then_some(0x4010);
        let context = ArgContext {
            address: 0x1000,
            symbol: &symbol,
        };
        parse(text, &context)
    }

    fn arg(size: u8, signed: bool) -> UsdtArg {
        UsdtArg {
            size,
            signed,
            ..UsdtArg::default()
        }
    }

    #[test]
    fn operands() {
        let memory = |value, base, index, scale| UsdtArg {
            value,
            base,
            index,
            scale,
            in_memory: true,
            ..arg(8, false)
        };
        for (text, expected) in [
            (
                "-4@$-5",
                UsdtArg {
                    value: -5,
                    ..arg(4, true)
                },
            ),
            (
                "8@$17867738998638367984",
                UsdtArg {
                    value: 17_867_738_998_638_367_984_u64 as i64,
                    ..arg(8, false)
                },
            ),
            (
                "8@%rdi",
                UsdtArg {
                    base: Some(112),
                    ..arg(8, false)
                },
            ),
            (
                "-4@%eax",
                UsdtArg {
                    base: Some(80),
                    ..arg(4, true)
                },
            ),
            (
                "2@%r10w",
                UsdtArg {
                    base: Some(56),
                    ..arg(2, false)
                },
            ),
            (
                "1@%sil",
                UsdtArg {
                    base: Some(104),
                    ..arg(1, false)
                },
            ),
            (
                "1@%bh",
                UsdtArg {
                    base: Some(41),
                    ..arg(1, false)
                },
            ),
            (
                "1@%dl",
                UsdtArg {
                    base: Some(96),
                    ..arg(1, false)
                },
            ),
            (
                "2@%bp",
                UsdtArg {
                    base: Some(32),
                    ..arg(2, false)
                },
            ),
            ("8@-16(%rbp)", memory(-16, Some(32), None, 0)),
            ("8@(%rsp)", memory(0, Some(152), None, 0)),
            ("8@8(%rax,%rdx,8)", memory(8, Some(80), Some(96), 3)),
            ("8@-8(%rsp,%rdx)", memory(-8, Some(152), Some(96), 0)),
            ("8@64(,%rcx,4)", memory(64, None, Some(88), 2)),
            ("8@counter(%rip)", memory(0x3010, Some(128), None, 0)),
            ("8@counter+8(%rip)", memory(0x3018, Some(128), None, 0)),
            ("8@counter-16", memory(0x3000, Some(128), None, 0)),
            ("8@24(%rip)", memory(24, Some(128), None, 0)),
        ] {
            assert_eq!(read(text), [Ok(expected)], "{text}");
        }
        assert_eq!(read(""), []);
        assert_eq!(read("8@%rax  4@%ecx").len(), 2);
    }

    #[test]
    fn what_cannot_be_read_is_quoted() {
        for text in [
            "8f@%xmm0",
            "8@%xmm0",
            "3@%rax",
            "8@",
            "8",
            "@%rax",
            "8@(%rax",
            "8@()",
            "8@(%rax,%rbx,3)",
            "8@nobody(%rip)",
            "8@%fs:8",
            "8@%",
            "8@$",
        ] {
            assert_eq!(read(text), [Err(text.to_owned())], "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "[-$%@()a-z0-9, +]{0,60}", bytes in ".{0,40}") {
            for text in [text, bytes] {
                prop_assert!(read(&text).len() <= USDT_MAX_ARGS);
            }
        }
    }
}
