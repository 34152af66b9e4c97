//! Stacks and symbols as text, with a cache: rendering an address seen before costs a look-up.

use std::collections::HashMap;

use bpftrace_meta::{CacheUserSymbols, StackMode};

use super::number;
use super::symbolize::{Place, Process, Symbol, Symbolize};
use super::value::tail;

const INDENT: &[u8] = b"        ";

/// An unwinder that gave up stores this instead of an address.
const UNWIND_FAILURE: u64 = u64::MAX;

/// Addresses that are remembered of all processes together, or of the kernel, before the next stack
/// starts afresh. A frame takes some
/// 200 bytes, so this bounds the memory of long sessions that watch many short processes.
const MAX_CACHED: usize = 65_536;

/// The frames of a stack in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Frames<'a> {
    bytes: &'a [u8],
    frame_size: usize,
}

impl<'a> Frames<'a> {
    /// `depth` frames of `frame_size` bytes, but no more than `limit` and than there are bytes.
    pub(crate) fn new(bytes: &'a [u8], depth: u64, limit: u32, frame_size: usize) -> Self {
        let depth = usize::try_from(depth.min(u64::from(limit))).unwrap_or(0);
        let length = depth.saturating_mul(frame_size).min(bytes.len());
        Self {
            bytes: &bytes[..length - length % frame_size],
            frame_size,
        }
    }

    fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        self.bytes.chunks_exact(self.frame_size)
    }

    fn addresses(self) -> impl Iterator<Item = u64> {
        self.iter().map(|frame| number::read(frame, 0, 8))
    }
}

/// A rendered address.
struct Rendered {
    /// Name of the symbol without offset.
    name: Vec<u8>,
    /// Whole lines of stacks in `bpftrace` mode.
    bpftrace: Vec<u8>,
    /// Whole lines of stacks in `perf` mode.
    perf: Vec<u8>,
}

/// Renders stacks and symbols.
pub(crate) struct StackRenderer {
    symbols: Box<dyn Symbolize>,
    remember_users: bool,
    kernel: HashMap<u64, Rendered>,
    user: HashMap<(u32, u64), Rendered>,
    /// Addresses of one stack that have to be looked up.
    missing: Vec<u64>,
}

impl StackRenderer {
    pub(crate) fn new(symbols: Box<dyn Symbolize>, cache: CacheUserSymbols) -> Self {
        Self {
            symbols,
            remember_users: cache != CacheUserSymbols::None,
            kernel: HashMap::new(),
            user: HashMap::new(),
            missing: Vec::new(),
        }
    }

    /// Remembers the memory map of a running process, so that its addresses can be resolved after it
    /// ended.
    pub(crate) fn remember_process(&mut self, pid: u32) {
        if self.remember_users {
            self.symbols.remember_process(pid);
        }
    }

    /// Appends the name of the kernel symbol at an address, without offset.
    pub(crate) fn kernel_symbol(&mut self, address: u64, out: &mut Vec<u8>) {
        self.resolve_kernel([address].into_iter());
        out.extend_from_slice(&self.kernel[&address].name);
    }

    /// Appends the name of the symbol at an address of a process, without offset. `probe` is the
    /// name of the probe that saw the address.
    pub(crate) fn user_symbol(&mut self, pid: u32, probe: &str, address: u64, out: &mut Vec<u8>) {
        self.resolve_user(pid, probe, [address].into_iter());
        out.extend_from_slice(&self.user[&(pid, address)].name);
        self.forget_users();
    }

    /// Appends a kernel stack: a newline, then a line for each frame.
    pub(crate) fn kernel_stack(&mut self, mode: StackMode, frames: Frames<'_>, out: &mut Vec<u8>) {
        out.push(b'\n');
        if matches!(mode, StackMode::Bpftrace | StackMode::Perf) {
            self.resolve_kernel(frames.addresses());
        }
        write_frames(mode, frames, |address| self.kernel.get(&address), out);
    }

    /// Appends the stack of a process: a newline, then a line for each frame.
    pub(crate) fn user_stack(
        &mut self,
        mode: StackMode,
        pid: u32,
        probe: &str,
        frames: Frames<'_>,
        out: &mut Vec<u8>,
    ) {
        out.push(b'\n');
        if mode == StackMode::BuildId {
            frames
                .iter()
                .for_each(|frame| write_build_id_frame(frame, out));
            return;
        }
        if mode != StackMode::Raw {
            self.resolve_user(pid, probe, frames.addresses());
        }
        let rendered = |address| self.user.get(&(pid, address));
        write_frames(mode, frames, rendered, out);
        self.forget_users();
    }

    /// Makes sure that all addresses are in the cache.
    fn resolve_kernel(&mut self, addresses: impl Iterator<Item = u64>) {
        if self.kernel.len() > MAX_CACHED {
            self.kernel.clear();
        }
        self.missing.clear();
        self.missing
            .extend(addresses.filter(|address| !self.kernel.contains_key(address)));
        if self.missing.is_empty() {
            return;
        }
        let symbols = self.symbols.kernel(&self.missing);
        for (index, address) in self.missing.iter().enumerate() {
            let symbol = symbols.get(index).and_then(Option::as_ref);
            self.kernel
                .insert(*address, render(*address, symbol, Origin::Kernel));
        }
    }

    fn resolve_user(&mut self, pid: u32, probe: &str, addresses: impl Iterator<Item = u64>) {
        if self.user.len() > MAX_CACHED {
            self.user.clear();
        }
        self.missing.clear();
        self.missing
            .extend(addresses.filter(|address| !self.user.contains_key(&(pid, *address))));
        if self.missing.is_empty() {
            return;
        }
        let process = Process { pid, probe };
        let symbols = self.symbols.user(process, &self.missing);
        for (index, address) in self.missing.iter().enumerate() {
            let symbol = symbols.get(index).and_then(Option::as_ref);
            self.user
                .insert((pid, *address), render(*address, symbol, Origin::User));
        }
    }

    fn forget_users(&mut self) {
        if !self.remember_users {
            self.user.clear();
            self.symbols.forget_processes();
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Kernel,
    User,
}

fn render(address: u64, symbol: Option<&Symbol>, origin: Origin) -> Rendered {
    let mut rendered = Rendered {
        name: Vec::new(),
        bpftrace: Vec::new(),
        perf: Vec::new(),
    };
    let perf_prefix = |out: &mut Vec<u8>| {
        out.push(b'\t');
        number::push_hex(address, out);
        out.push(b' ');
    };
    let Some(symbol) = symbol else {
        number::push_address(address, &mut rendered.name);
        rendered.bpftrace.extend_from_slice(INDENT);
        rendered.bpftrace.extend_from_slice(&rendered.name);
        rendered.bpftrace.push(b'\n');
        perf_prefix(&mut rendered.perf);
        rendered.perf.extend_from_slice(&rendered.name);
        if origin == Origin::User {
            rendered.perf.extend_from_slice(b" ([unknown])");
        }
        rendered.perf.push(b'\n');
        return rendered;
    };
    rendered.name.extend_from_slice(symbol.name.as_bytes());
    for inlined in &symbol.inlined {
        let out = &mut rendered.bpftrace;
        out.extend_from_slice(INDENT);
        out.extend_from_slice(b"[inlined] ");
        out.extend_from_slice(inlined.name.as_bytes());
        write_place(inlined.place.as_ref(), out);
        out.push(b'\n');

        let out = &mut rendered.perf;
        perf_prefix(out);
        out.extend_from_slice(inlined.name.as_bytes());
        out.extend_from_slice(b" (inlined)\n");
    }
    let write_symbol = |out: &mut Vec<u8>| {
        out.extend_from_slice(symbol.name.as_bytes());
        out.push(b'+');
        number::push_decimal(symbol.offset, out);
    };
    let out = &mut rendered.bpftrace;
    out.extend_from_slice(INDENT);
    write_symbol(out);
    write_place(symbol.place.as_ref(), out);
    out.push(b'\n');

    let out = &mut rendered.perf;
    perf_prefix(out);
    write_symbol(out);
    if origin == Origin::User {
        let module = symbol.module.as_deref().unwrap_or("[unknown]");
        out.extend_from_slice(b" (");
        out.extend_from_slice(module.as_bytes());
        out.push(b')');
    }
    out.push(b'\n');
    rendered
}

fn write_place(place: Option<&Place>, out: &mut Vec<u8>) {
    if let Some(place) = place {
        out.push(b'@');
        out.extend_from_slice(place.file.as_bytes());
        out.push(b':');
        number::push_decimal(u64::from(place.line), out);
    }
}

fn write_frames<'a>(
    mode: StackMode,
    frames: Frames<'_>,
    rendered: impl Fn(u64) -> Option<&'a Rendered>,
    out: &mut Vec<u8>,
) {
    for address in frames.addresses() {
        if address == UNWIND_FAILURE {
            out.extend_from_slice(INDENT);
            out.extend_from_slice(b"<unwind failure>\n");
            break;
        }
        match (mode, rendered(address)) {
            (StackMode::Bpftrace, Some(rendered)) => out.extend_from_slice(&rendered.bpftrace),
            (StackMode::Perf, Some(rendered)) => out.extend_from_slice(&rendered.perf),
            _ => {
                number::push_hex(address, out);
                out.push(b'\n');
            }
        }
    }
}

/// Appends a frame that is a `struct bpf_stack_build_id` (`linux/bpf.h`): `s32` status, 20 bytes of
/// build id, `u64` offset in the file or address.
fn write_build_id_frame(frame: &[u8], out: &mut Vec<u8>) {
    const VALID: u64 = 1;
    let offset = number::read(frame, 24, 8);
    if number::read(frame, 0, 4) == VALID {
        for byte in tail(frame, 4).iter().take(20) {
            number::push_byte(*byte, number::LOWER, out);
        }
        out.extend_from_slice(b" 0x");
        if offset < 16 {
            out.push(b'0');
        }
    }
    number::push_hex(offset, out);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::super::symbolize::Inlined;
    use super::*;

    /// Knows addresses below 1,000: `fN` at each multiple of 100.
    #[derive(Default)]
    struct Fake {
        asked: std::rc::Rc<std::cell::Cell<usize>>,
    }

    impl Fake {
        fn find(&self, addresses: &[u64], debug_info: bool) -> Vec<Option<Symbol>> {
            self.asked.set(self.asked.get() + addresses.len());
            let symbol = |address: &u64| {
                (0 < *address && *address < 1_000).then(|| Symbol {
                    name: format!("f{}", address / 100),
                    offset: address % 100,
                    module: debug_info.then(|| "/bin/x".to_owned()),
                    place: debug_info.then(|| Place {
                        file: "a/x.c".to_owned(),
                        line: 7,
                    }),
                    inlined: match debug_info && *address == 900 {
                        true => vec![Inlined {
                            name: "tiny".to_owned(),
                            place: None,
                        }],
                        false => Vec::new(),
                    },
                })
            };
            addresses.iter().map(symbol).collect()
        }
    }

    impl Symbolize for Fake {
        fn kernel(&mut self, addresses: &[u64]) -> Vec<Option<Symbol>> {
            self.find(addresses, false)
        }
        fn user(&mut self, _: Process<'_>, addresses: &[u64]) -> Vec<Option<Symbol>> {
            self.find(addresses, true)
        }
        fn remember_process(&mut self, _: u32) {}
        fn forget_processes(&mut self) {}
    }

    fn words(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn stack(kernel: bool, mode: StackMode, addresses: &[u64]) -> String {
        let mut renderer = StackRenderer::new(Box::new(Fake::default()), CacheUserSymbols::PerPid);
        let bytes = words(addresses);
        let frames = Frames::new(&bytes, addresses.len() as u64, 127, 8);
        let mut out = Vec::new();
        if kernel {
            renderer.kernel_stack(mode, frames, &mut out);
        } else {
            renderer.user_stack(mode, 1, "", frames, &mut out);
        }
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn modes() {
        let addresses = [105, 0xffff_0000, 900, u64::MAX, 5];
        for (kernel, mode, expected) in [
            (
                true,
                StackMode::Bpftrace,
                "\n        f1+5\n        0xffff0000\n        f9+0\n        <unwind failure>\n",
            ),
            (
                true,
                StackMode::Perf,
                "\n\t69 f1+5\n\tffff0000 0xffff0000\n\t384 f9+0\n        <unwind failure>\n",
            ),
            (
                true,
                StackMode::Raw,
                "\n69\nffff0000\n384\n        <unwind failure>\n",
            ),
            (
                false,
                StackMode::Bpftrace,
                "\n        f1+5@a/x.c:7\n        0xffff0000\n        [inlined] tiny\n        \
                 f9+0@a/x.c:7\n        <unwind failure>\n",
            ),
            (
                false,
                StackMode::Perf,
                "\n\t69 f1+5 (/bin/x)\n\tffff0000 0xffff0000 ([unknown])\n\t384 tiny (inlined)\n\
                 \t384 f9+0 (/bin/x)\n        <unwind failure>\n",
            ),
        ] {
            assert_eq!(
                stack(kernel, mode, &addresses),
                expected,
                "{kernel} {mode:?}"
            );
        }
        assert_eq!(stack(true, StackMode::Bpftrace, &[]), "\n");
    }

    #[test]
    fn build_ids() {
        let mut frame = vec![1, 0, 0, 0];
        frame.extend(1..=20);
        frame.extend(5_u64.to_le_bytes());
        frame.extend(2_u32.to_le_bytes());
        frame.extend([0; 20]);
        frame.extend(0x7fff_1234_u64.to_le_bytes());
        let mut out = Vec::new();
        let mut renderer = StackRenderer::new(Box::new(Fake::default()), CacheUserSymbols::PerPid);
        let frames = Frames::new(&frame, 2, 127, 32);
        renderer.user_stack(StackMode::BuildId, 1, "", frames, &mut out);
        assert_eq!(
            String::from_utf8(out).expect("ASCII"),
            "\n0102030405060708090a0b0c0d0e0f1011121314 0x05\n7fff1234\n"
        );
    }

    #[test]
    fn depth_is_bounded() {
        let bytes = words(&[1, 2, 3]);
        let count = |depth, limit| Frames::new(&bytes, depth, limit, 8).iter().count();
        assert_eq!(count(2, 127), 2);
        assert_eq!(count(9, 127), 3);
        assert_eq!(count(u64::MAX, 1), 1);
    }

    #[test]
    fn known_addresses_are_not_asked_for_again() {
        for (cache, expected) in [
            (CacheUserSymbols::PerPid, 3),
            (CacheUserSymbols::None, 3 + 3 * 2),
        ] {
            let fake = Fake::default();
            let asked = std::rc::Rc::clone(&fake.asked);
            let mut renderer = StackRenderer::new(Box::new(fake), cache);
            let bytes = words(&[100, 200, 300]);
            let mut out = Vec::new();
            for _ in 0..3 {
                let frames = Frames::new(&bytes, 3, 127, 8);
                renderer.user_stack(StackMode::Bpftrace, 1, "", frames, &mut out);
            }
            assert_eq!(asked.get(), expected);
            for _ in 0..3 {
                renderer.kernel_symbol(0, &mut out);
            }
            assert_eq!(asked.get(), expected + 1);
            assert!(out.ends_with(b"000"));
        }
    }
}
