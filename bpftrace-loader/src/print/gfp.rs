//! Names of the kernel's page allocation flags (`%gr`).

use super::number;

// Bits as in include/linux/gfp_types.h since Linux 6.10.
const DMA: u64 = 1 << 0;
const HIGHMEM: u64 = 1 << 1;
const DMA32: u64 = 1 << 2;
const MOVABLE: u64 = 1 << 3;
const HIGH: u64 = 1 << 5;
const IO: u64 = 1 << 6;
const FS: u64 = 1 << 7;
const ZERO: u64 = 1 << 8;
const DIRECT_RECLAIM: u64 = 1 << 10;
const KSWAPD_RECLAIM: u64 = 1 << 11;
const WRITE: u64 = 1 << 12;
const NOWARN: u64 = 1 << 13;
const RETRY_MAYFAIL: u64 = 1 << 14;
const NOFAIL: u64 = 1 << 15;
const NORETRY: u64 = 1 << 16;
const MEMALLOC: u64 = 1 << 17;
const COMP: u64 = 1 << 18;
const NOMEMALLOC: u64 = 1 << 19;
const HARDWALL: u64 = 1 << 20;
const THISNODE: u64 = 1 << 21;
const ACCOUNT: u64 = 1 << 22;
const ZEROTAGS: u64 = 1 << 23;
const SKIP_ZERO: u64 = 1 << 24;
const SKIP_KASAN: u64 = 1 << 25;
const NO_OBJ_EXT: u64 = 1 << 26;

const NOIO: u64 = DIRECT_RECLAIM | KSWAPD_RECLAIM;
const NOFS: u64 = NOIO | IO;
const KERNEL: u64 = NOFS | FS;
const USER: u64 = KERNEL | HARDWALL;
const HIGHUSER: u64 = USER | HIGHMEM;
const HIGHUSER_MOVABLE: u64 = HIGHUSER | MOVABLE | SKIP_KASAN;
const TRANSHUGE_LIGHT: u64 = (HIGHUSER_MOVABLE | COMP | NOMEMALLOC | NOWARN) & !NOIO;
const TRANSHUGE: u64 = TRANSHUGE_LIGHT | DIRECT_RECLAIM;

/// Masks and names, in the order of `include/trace/events/mmflags.h`: combinations first, so that
/// what is left over shows as single flags.
const NAMES: [(u64, &str); 35] = [
    (TRANSHUGE, "GFP_TRANSHUGE"),
    (TRANSHUGE_LIGHT, "GFP_TRANSHUGE_LIGHT"),
    (HIGHUSER_MOVABLE, "GFP_HIGHUSER_MOVABLE"),
    (HIGHUSER, "GFP_HIGHUSER"),
    (USER, "GFP_USER"),
    (KERNEL | ACCOUNT, "GFP_KERNEL_ACCOUNT"),
    (KERNEL, "GFP_KERNEL"),
    (NOFS, "GFP_NOFS"),
    (HIGH | KSWAPD_RECLAIM, "GFP_ATOMIC"),
    (NOIO, "GFP_NOIO"),
    (KSWAPD_RECLAIM | NOWARN, "GFP_NOWAIT"),
    (DMA, "GFP_DMA"),
    (HIGHMEM, "__GFP_HIGHMEM"),
    (DMA32, "GFP_DMA32"),
    (HIGH, "__GFP_HIGH"),
    (IO, "__GFP_IO"),
    (FS, "__GFP_FS"),
    (ZERO, "__GFP_ZERO"),
    (DIRECT_RECLAIM, "__GFP_DIRECT_RECLAIM"),
    (KSWAPD_RECLAIM, "__GFP_KSWAPD_RECLAIM"),
    (WRITE, "__GFP_WRITE"),
    (NOWARN, "__GFP_NOWARN"),
    (RETRY_MAYFAIL, "__GFP_RETRY_MAYFAIL"),
    (NOFAIL, "__GFP_NOFAIL"),
    (NORETRY, "__GFP_NORETRY"),
    (MEMALLOC, "__GFP_MEMALLOC"),
    (COMP, "__GFP_COMP"),
    (NOMEMALLOC, "__GFP_NOMEMALLOC"),
    (HARDWALL, "__GFP_HARDWALL"),
    (THISNODE, "__GFP_THISNODE"),
    (ACCOUNT, "__GFP_ACCOUNT"),
    (ZEROTAGS, "__GFP_ZEROTAGS"),
    (SKIP_ZERO, "__GFP_SKIP_ZERO"),
    (SKIP_KASAN, "__GFP_SKIP_KASAN"),
    (NO_OBJ_EXT, "__GFP_NO_OBJ_EXT"),
];

/// Appends names joined by `|`, with bits that have none in hexadecimal; `0` for no flags.
pub(crate) fn write_flags(flags: u64, out: &mut Vec<u8>) {
    if flags == 0 {
        out.push(b'0');
        return;
    }
    let start = out.len();
    let mut left = flags;
    for (mask, name) in NAMES {
        if left & mask == mask {
            if out.len() > start {
                out.push(b'|');
            }
            out.extend_from_slice(name.as_bytes());
            left &= !mask;
        }
    }
    if left != 0 {
        if out.len() > start {
            out.push(b'|');
        }
        number::push_address(left, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combinations_come_first() {
        for (flags, expected) in [
            (0, "0"),
            (0xcc0, "GFP_KERNEL"),
            (0xcc0 | ZERO, "GFP_KERNEL|__GFP_ZERO"),
            (0x400cc0, "GFP_KERNEL_ACCOUNT"),
            (0x820, "GFP_ATOMIC"),
            (0x2820, "GFP_ATOMIC|__GFP_NOWARN"),
            (0x200, "0x200"),
            (0x1 | 1 << 40, "GFP_DMA|0x10000000000"),
        ] {
            let mut out = Vec::new();
            write_flags(flags, &mut out);
            assert_eq!(String::from_utf8(out).expect("ASCII"), expected);
        }
    }
}
