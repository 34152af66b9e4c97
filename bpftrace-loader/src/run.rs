//! The running session: one thread that waits for records, signals and the end of the traced
//! process, in one place.

mod iterators;
mod modes;

use std::io;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use bpftrace_meta::{LostLayout, Manifest, MapId, MapRole};

use crate::Exit;
use crate::attach::{self, Attached};
use crate::bind::{Invocation, Place, Warning};
use crate::cmd::Traced;
use crate::error::LoadError;
use crate::ffi::{
    Epoll, Flow, MapHandle, PacketBuffer, RingBuffer, SignalPipe, Wake, reset_signal,
};
use crate::host::Host;
use crate::load::Loaded;
use crate::options::{Mode, RunOptions};
use crate::print::{
    Action, Located, MapReader, MessageKind, Printer, PrinterOptions, Sink, WarningMode,
};

/// Records taken before signals are looked at.
const RECORDS_PER_TURN: usize = 4096;

/// Milliseconds. When records come more often than this, they are taken this often: each time that a
/// program has to wake us costs it more than all the rest that it does.
const PACE: u16 = 1;

/// A turn that takes one part in so many of the ring buffer is followed by the next one at once.
const FLOOD: u64 = 8;

/// Losses are told this often while there is no end of records.
const SETTLE_EVERY: Duration = Duration::from_millis(100);

/// For so long, records that were sent before a signal are handled after it.
const AFTER_SIGNAL: Duration = Duration::from_millis(500);

/// Bytes of the hash of a key, which is the key of a [`MapRole::Keys`] map.
const HASH_SIZE: usize = 16;

/// What woke us, in epoll's tokens.
const RING: u64 = 0;
const SIGNAL: u64 = 1;
const TRACED: u64 = 2;
const PACKETS: u64 = 3;

/// Standard output gets this line when probes are attached and the variable is set.
const NOTIFY_ATTACHED: &str = "__BPFTRACE_NOTIFY_PROBES_ATTACHED";

/// The maps of a loaded script.
struct Maps<'a> {
    handles: &'a [Option<MapHandle>],
    manifest: &'a Manifest,
}

impl<'a> Maps<'a> {
    fn get(&self, map: MapId) -> io::Result<&'a MapHandle> {
        self.handles
            .get(map.0 as usize)
            .and_then(Option::as_ref)
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// The map that has the keys of a map whose own are hashes of them.
    fn keys_of(&self, map: MapId) -> Option<&'a MapHandle> {
        let keys = find_map(
            self.manifest,
            |role| matches!(role, MapRole::Keys { of } if *of == map),
        )?;
        self.handles.get(keys).and_then(Option::as_ref)
    }
}

impl MapReader for Maps<'_> {
    fn for_each_entry(
        &mut self,
        map: MapId,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> io::Result<()> {
        let handle = self.get(map)?;
        let Some(keys) = self.keys_of(map) else {
            return handle.for_each(visit);
        };
        let mut outcome = Ok(());
        handle.for_each(&mut |key, value| {
            let (hash, bucket) = key.split_at(HASH_SIZE.min(key.len()));
            match keys.lookup(hash) {
                Ok(Some(mut full)) => {
                    full.extend_from_slice(bucket);
                    visit(&full, value);
                }
                // Just being deleted.
                Ok(None) => {}
                Err(e) => outcome = Err(e),
            }
        })?;
        outcome
    }

    fn clear(&mut self, map: MapId) -> io::Result<()> {
        self.get(map)?.clear()?;
        self.keys_of(map).map_or(Ok(()), MapHandle::clear)
    }

    fn zero(&mut self, map: MapId) -> io::Result<()> {
        self.get(map)?.zero()
    }
}

/// How events come to us, and what becomes of them.
struct Events<'a> {
    ring: Option<RingBuffer<'a>>,
    packets: Option<PacketBuffer>,
    maps: Maps<'a>,
    printer: Printer,
    sink: &'a mut dyn Sink,
    options: &'a RunOptions,
    lost: Lost<'a>,
}

/// Counts records that found the ring buffer full, or that were forgotten in the end.
struct Lost<'a> {
    map: Option<&'a MapHandle>,
    forgotten: u64,
    reported: u64,
}

/// Why the session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// `exit()`, with the exit status.
    Asked(u8),
    /// A signal.
    Signal,
    /// The traced process has ended, or there is nothing more to come.
    Done,
    /// Nobody reads our output.
    OutputClosed,
}

impl Lost<'_> {
    /// The total so far, and how many of them are new.
    fn count(&mut self) -> io::Result<(u64, u64)> {
        let unsent = self.map.map_or(Ok(0), |map| Self::word(map, 0))?;
        let total = unsent + self.forgotten;
        let new = total.saturating_sub(self.reported);
        self.reported = total;
        Ok((total, new))
    }

    /// The exit status, if `exit` was called when the ring buffer was full.
    fn exit(&self) -> io::Result<Option<u8>> {
        let Some(map) = self.map else {
            return Ok(None);
        };
        let word = Self::word(map, LostLayout::EXIT)?;
        Ok((word & LostLayout::EXIT_ASKED != 0).then_some(word as u8))
    }

    fn word(map: &MapHandle, number: usize) -> io::Result<u64> {
        let words = map.lookup(&0u32.to_le_bytes())?.unwrap_or_default();
        let word = words.chunks_exact(8).nth(number).unwrap_or(&[0; 8]);
        Ok(u64::from_le_bytes(word.try_into().expect("8 bytes")))
    }
}

fn output_failed(error: io::Error) -> LoadError {
    LoadError::io("Failed to write output", &error)
}

/// What a broken pipe is worth.
fn written(result: io::Result<()>) -> Result<Option<End>, LoadError> {
    match result {
        Ok(()) => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(Some(End::OutputClosed)),
        Err(e) => Err(output_failed(e)),
    }
}

/// What a turn has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// No record.
    Nothing,
    /// All records there were.
    All,
    /// Some; there may be more already.
    Part,
}

/// Hands records to the printer until there are none; at most one turn of them.
fn turn(
    (ring, maps, printer): (&mut Option<RingBuffer<'_>>, &mut Maps<'_>, &mut Printer),
    wake: Wake,
    sink: &mut dyn Sink,
    unwatch: &mut dyn FnMut(u64),
) -> Result<(Taken, Option<End>), LoadError> {
    let Some(ring) = ring else {
        return Ok((Taken::Nothing, None));
    };
    let mut outcome: Result<Option<End>, LoadError> = Ok(None);
    let before = ring.consumed();
    let taken = ring
        .consume(RECORDS_PER_TURN, wake, &mut |record| {
            outcome = match printer.handle(record, maps, sink) {
                Ok(Action::Continue) => return Flow::Continue,
                Ok(Action::Unwatch(address)) => {
                    unwatch(address);
                    return Flow::Continue;
                }
                // Signals first: a turn of commands may take minutes.
                Ok(Action::Waited) => Ok(None),
                Ok(Action::Exit(code)) => Ok(Some(End::Asked(code as u8))),
                Ok(Action::OutputClosed) => Ok(Some(End::OutputClosed)),
                Err(e) => written(Err(e)),
            };
            Flow::Stop
        })
        .map_err(|e| LoadError::io("Failed to read events", &e))?;
    let taken = match taken {
        Some(0) => Taken::Nothing,
        Some(n) if n < RECORDS_PER_TURN && ring.consumed() - before < ring.size() / FLOOD => {
            Taken::All
        }
        _ => Taken::Part,
    };
    outcome.map(|end| (taken, end))
}

impl Events<'_> {
    /// Handles records until there are none; at most one turn of them. Gives what there was, and the
    /// reason to end.
    fn turn(
        &mut self,
        wake: Wake,
        unwatch: &mut dyn FnMut(u64),
    ) -> Result<(Taken, Option<End>), LoadError> {
        let source = (&mut self.ring, &mut self.maps, &mut self.printer);
        turn(source, wake, self.sink, unwatch)
    }

    /// As [`Self::drain`], with the output going elsewhere.
    fn drain_to(
        &mut self,
        sink: &mut dyn Sink,
        unwatch: &mut dyn FnMut(u64),
    ) -> Result<Option<End>, LoadError> {
        loop {
            let source = (&mut self.ring, &mut self.maps, &mut self.printer);
            let (taken, end) = turn(source, Wake::Yes, sink, unwatch)?;
            if end.is_some() || taken != Taken::Part {
                return Ok(end);
            }
        }
    }

    /// Handles all records there are.
    fn drain(&mut self, unwatch: &mut dyn FnMut(u64)) -> Result<Option<End>, LoadError> {
        loop {
            let (taken, end) = self.turn(Wake::Yes, unwatch)?;
            if end.is_some() || taken != Taken::Part {
                return Ok(end);
            }
        }
    }

    /// Handles the records there are, and forgets the rest when that takes too long: commands of the
    /// script may cause more of them than they take away.
    fn drain_after_signal(&mut self) -> Result<Option<End>, LoadError> {
        let started = Instant::now();
        loop {
            let (taken, end) = self.turn(Wake::Yes, &mut |_| {})?;
            if end.is_some() || taken != Taken::Part {
                return Ok(end);
            }
            if started.elapsed() >= AFTER_SIGNAL {
                self.lost.forgotten += self.discard()?;
                return Ok(None);
            }
        }
    }

    /// Writes all packets there are to their files.
    fn take_packets(&mut self) -> Result<Option<End>, LoadError> {
        let Some(packets) = &mut self.packets else {
            return Ok(None);
        };
        let (records, n_lost) = packets
            .consume()
            .map_err(|e| LoadError::io("Failed to read packets", &e))?;
        for record in records {
            let handled = self.printer.handle(&record, &mut self.maps, self.sink);
            if let Some(end) = written(handled.map(drop))? {
                return Ok(Some(end));
            }
        }
        if n_lost > 0
            && let Some(end) = written(self.sink.lost_events(n_lost))?
        {
            return Ok(Some(end));
        }
        written(self.printer.flush_packets(self.sink))
    }

    /// Whether `exit` was called and could not be sent; handles the records that are there by now.
    fn exit_unsent(&mut self, unwatch: &mut dyn FnMut(u64)) -> Result<Option<End>, LoadError> {
        let asked = self
            .lost
            .exit()
            .map_err(|e| LoadError::io("Failed to look for exit", &e))?;
        let Some(code) = asked else {
            return Ok(None);
        };
        Ok(self.drain_present(unwatch)?.or(Some(End::Asked(code))))
    }

    /// Handles the records that are there by now. More may come all the while, faster than we are.
    fn drain_present(&mut self, unwatch: &mut dyn FnMut(u64)) -> Result<Option<End>, LoadError> {
        let produced = self.ring.as_ref().map_or(0, RingBuffer::produced);
        loop {
            let (taken, end) = self.turn(Wake::Yes, unwatch)?;
            let is_behind = |ring: &RingBuffer<'_>| ring.consumed() < produced;
            if end.is_some() || taken != Taken::Part || !self.ring.as_ref().is_some_and(is_behind) {
                return Ok(end);
            }
        }
    }

    /// Forgets all records there are, and gives their number.
    fn discard(&mut self) -> Result<u64, LoadError> {
        let Some(ring) = &mut self.ring else {
            return Ok(0);
        };
        let taken = ring
            .consume(usize::MAX, Wake::Yes, &mut |_| Flow::Continue)
            .map_err(|e| LoadError::io("Failed to read events", &e))?;
        Ok(taken.unwrap_or(0) as u64)
    }

    /// Reports newly lost records, and lets the output be seen.
    fn settle(&mut self) -> Result<Option<End>, LoadError> {
        let (_, new) = self
            .lost
            .count()
            .map_err(|e| LoadError::io("Failed to count lost events", &e))?;
        if new > 0
            && let Some(end) = written(self.sink.lost_events(new))?
        {
            return Ok(Some(end));
        }
        written(self.sink.drained())
    }
}

/// Runs the programs of all targets of one kind, which `-v` calls attaching them.
fn run_programs(
    loaded: &Loaded,
    wanted: &Place,
    events: &mut Events<'_>,
) -> Result<u64, LoadError> {
    let kind = match wanted {
        Place::Begin => "begin",
        Place::End => "end",
        _ => "self:signal",
    };
    let mut n = 0;
    for attachment in &loaded.bound.attachments {
        let target = &loaded.bound.targets[attachment.targets[0] as usize];
        if target.place != *wanted {
            continue;
        }
        loaded.programs[attachment.program]
            .run()
            .map_err(|e| LoadError::io(format!("Failed to run {}", target.name), &e))?;
        say(
            events.options,
            events.sink,
            &format!("Attaching '{kind}' probe"),
        )?;
        n += 1;
    }
    Ok(n)
}

/// Says what is only said with `-v`.
pub(crate) fn say(options: &RunOptions, sink: &mut dyn Sink, text: &str) -> Result<(), LoadError> {
    match options.verbose {
        true => written(sink.detail(text)).map(drop),
        false => Ok(()),
    }
}

fn find_map(manifest: &Manifest, wanted: impl Fn(&MapRole) -> bool) -> Option<usize> {
    manifest.maps.iter().position(|map| wanted(&map.role))
}

/// Tells the user something before the script runs.
pub(crate) fn warn(
    warning: &Warning,
    manifest: &Manifest,
    sink: &mut dyn Sink,
) -> Result<(), LoadError> {
    let result = match warning.place {
        Some(place) => sink.located(&Located {
            kind: MessageKind::Start,
            text: warning.text.as_bytes(),
            place,
            expanded_from: &[],
            source: &manifest.source,
        }),
        None => sink.warning(&warning.text),
    };
    written(result).map(drop)
}

/// All attach points are missing, and that is no error.
pub(crate) fn nothing_to_attach(options: &RunOptions) -> Exit {
    if !options.quiet {
        let _ = writeln!(io::stdout(), "No probes to attach");
    }
    Exit { code: 1 }
}

/// Nothing that is there could be attached to.
pub(crate) fn all_failed() -> LoadError {
    LoadError::host("Attachment failed for all probes.")
}

/// Runs a loaded script to its end.
pub(crate) fn run(
    mut loaded: Loaded,
    invocation: &Invocation<'_>,
    traced: &mut Traced,
    host: &dyn Host,
    sink: &mut dyn Sink,
) -> Result<Exit, LoadError> {
    let options = invocation.options;
    let mut others = loaded.others.take();
    let loaded = &loaded;
    let manifest = &loaded.bound.manifest;
    let map = |wanted: fn(&MapRole) -> bool| {
        find_map(manifest, wanted).and_then(|i| loaded.maps[i].as_ref())
    };
    let ring = map(|role| matches!(role, MapRole::RingBuffer))
        .map(RingBuffer::new)
        .transpose()
        .map_err(|e| LoadError::io("Failed to map the ring buffer", &e))?;
    let packets = map(|role| matches!(role, MapRole::Packets))
        .map(PacketBuffer::new)
        .transpose()
        .map_err(|e| LoadError::io("Failed to map the packet buffer", &e))?;
    let printer = Printer::new(
        manifest,
        PrinterOptions {
            config: loaded.bound.settings.0.clone(),
            target_names: loaded
                .bound
                .targets
                .iter()
                .map(|t| t.name.clone())
                .collect(),
            warnings: match options.warnings {
                crate::options::Warnings::Off => WarningMode::Off,
                _ => WarningMode::On,
            },
            debug_dirs: options.debug_dirs.clone(),
            runs_command: options.command.is_some(),
        },
    );
    let signals = SignalPipe::new(&[libc::SIGINT, libc::SIGTERM, libc::SIGUSR1])
        .map_err(|e| LoadError::io("Failed to catch signals", &e))?;
    let mut events = Events {
        ring,
        packets,
        maps: Maps {
            handles: &loaded.maps,
            manifest,
        },
        printer,
        sink,
        options,
        lost: Lost {
            map: map(|role| matches!(role, MapRole::LostEvents)),
            forgotten: 0,
            reported: 0,
        },
    };

    let n_begin = run_programs(loaded, &Place::Begin, &mut events)?;
    let count = |place: &Place| {
        let targets = loaded.bound.targets.iter();
        targets.filter(|target| target.place == *place).count() as u64
    };
    let (n_end, n_signal) = (count(&Place::End), count(&Place::Signal));
    if options.mode == Mode::Trace
        && let Some(others) = &mut others
    {
        others.attach();
    }
    let mut warnings = Vec::new();
    let attached = attach::attach(loaded, invocation, host, &mut warnings, events.sink);
    let mut attached = match attached {
        Ok(attached) => attached,
        Err(e) => return Err(Warning::behind(e, &warnings, invocation, &manifest.source)),
    };
    for warning in &warnings {
        warn(warning, manifest, events.sink)?;
    }
    if options.dry_run {
        return Ok(Exit { code: 0 });
    }
    if let Some(pid) = traced.at_entry() {
        // It may have ended before its first record comes.
        events.printer.remember_processes(Some(pid as u32), &[]);
    }
    traced.release()?;
    let n_named = loaded.bound.targets.iter();
    let n_named = n_named
        .filter(|target| matches!(target.place, Place::Named(_)))
        .count() as u64;
    let n_attached = attached.n_targets + n_begin + n_end + n_signal + n_named;
    if n_attached == 0 && !attached.any_refused {
        return Ok(nothing_to_attach(options));
    }
    if n_attached == 0 {
        return Err(all_failed());
    }
    if options.mode != Mode::Trace {
        drop(attached);
        events.drain(&mut |_| {})?;
        let code = modes::run(loaded, options.mode, &mut events)?;
        run_programs(loaded, &Place::End, &mut events)?;
        events.drain(&mut |_| {})?;
        written(events.sink.end_of_run())?;
        written(events.sink.flush())?;
        return Ok(Exit { code });
    }
    let programs: Vec<&Path> = loaded
        .bound
        .targets
        .iter()
        .filter_map(|target| match &target.place {
            Place::Uprobe { path, .. } => Some(path.as_path()),
            _ => None,
        })
        .collect();
    let pid = options.pid.and_then(|pid| u32::try_from(pid).ok());
    events.printer.remember_processes(pid, &programs);
    if !options.quiet {
        written(events.sink.attached_probes(n_attached))?;
    }
    if host.env(NOTIFY_ATTACHED).is_some() {
        written(events.sink.flush())?;
        let mut stdout = io::stdout().lock();
        written(writeln!(stdout, "{NOTIFY_ATTACHED}").and_then(|()| stdout.flush()))?;
    }

    let has_events = n_signal > 0 || iterators::are_not_all(loaded, &attached);
    let end = match iterators::run(loaded, &attached, has_events, &mut events)? {
        Some(end) => end,
        None if has_events => wait(loaded, &mut attached, &mut events, &signals, traced)?,
        None => match events.drain(&mut |_| {})? {
            Some(end) => end,
            None => match events.settle()? {
                Some(end) => end,
                None => events.exit_unsent(&mut |_| {})?.unwrap_or(End::Done),
            },
        },
    };
    drop(attached);
    drop(others);
    finish(loaded, end, &mut events, &signals, traced)
}

/// The main loop: until there is a reason to end.
fn wait(
    loaded: &Loaded,
    attached: &mut Attached,
    events: &mut Events<'_>,
    signals: &SignalPipe,
    traced: &Traced,
) -> Result<End, LoadError> {
    use std::os::fd::AsFd as _;
    let failed = |e| LoadError::io("Failed to wait for events", &e);
    let epoll = Epoll::new().map_err(failed)?;
    if let Some(ring) = &events.ring {
        epoll.add(ring.epoll_fd(), RING).map_err(failed)?;
    }
    if let Some(packets) = &events.packets {
        epoll.add(packets.epoll_fd(), PACKETS).map_err(failed)?;
    }
    // Waits for all but records.
    let pause = Epoll::new().map_err(failed)?;
    for epoll in [&epoll, &pause] {
        epoll.add(signals.as_fd(), SIGNAL).map_err(failed)?;
        if let Some(end) = traced.end() {
            epoll.add(end.as_fd(), TRACED).map_err(failed)?;
        }
    }
    let mut unwatch = |address: u64| {
        attached.detach(&|index| {
            let number = loaded.bound.attachments[index].targets[0];
            matches!(&loaded.bound.targets[number as usize].place,
                Place::Watchpoint { address: found, .. } if *found == address)
        });
    };
    let mut taken = Taken::Part;
    // Whether records come more often than we want to be woken.
    let mut frequent = false;
    let mut settled = Instant::now();
    loop {
        // A flood of events may leave us no time to wait, but is seen and counted all the same.
        if taken != Taken::Part || settled.elapsed() >= SETTLE_EVERY {
            if let Some(end) = events.settle()? {
                return Ok(end);
            }
            if let Some(end) = events.exit_unsent(&mut unwatch)? {
                return Ok(end);
            }
            settled = Instant::now();
        }
        let block = match taken {
            Taken::Part => false,
            Taken::All => !frequent,
            Taken::Nothing => true,
        };
        if taken == Taken::All && frequent {
            // No sleep: scripts watch who sleeps, and would see us all the time. What is ready here is
            // ready below as well.
            pause.wait(Some(PACE)).map_err(failed)?;
        }
        let since = Instant::now();
        let ready = epoll.wait((!block).then_some(0)).map_err(failed)?;
        if block {
            frequent = since.elapsed() < Duration::from_millis(u64::from(PACE));
        }
        // Signals first: a flood of events must not keep us from ending.
        if ready.contains(&SIGNAL) {
            while let Some(signal) = signals.take() {
                if signal == libc::SIGUSR1 {
                    run_programs(loaded, &Place::Signal, events)?;
                } else {
                    return Ok(End::Signal);
                }
            }
        }
        if ready.contains(&PACKETS)
            && let Some(end) = events.take_packets()?
        {
            return Ok(end);
        }
        if ready.contains(&TRACED) {
            return Ok(events.drain_present(&mut unwatch)?.unwrap_or(End::Done));
        }
        let wake = if frequent { Wake::No } else { Wake::Yes };
        let end;
        (taken, end) = events.turn(wake, &mut unwatch)?;
        if let Some(end) = end {
            return Ok(end);
        }
    }
}

/// Everything is detached: runs `end`, prints what is left, and the maps.
fn finish(
    loaded: &Loaded,
    end: End,
    events: &mut Events<'_>,
    signals: &SignalPipe,
    traced: &mut Traced,
) -> Result<Exit, LoadError> {
    // From here on a second Ctrl-C ends us at once.
    for signal in signals.signals() {
        reset_signal(*signal);
    }
    if events.take_packets()? == Some(End::OutputClosed) {
        return Ok(Exit { code: 0 });
    }
    let mut code = 0;
    match end {
        End::OutputClosed => return Ok(Exit { code: 0 }),
        End::Asked(asked) => {
            code = asked;
            events.discard()?;
            *traced = Traced::All;
        }
        End::Signal => {
            *traced = Traced::All;
            if let Some(End::Asked(asked)) = events.drain_after_signal()? {
                code = asked;
                events.discard()?;
            }
        }
        End::Done => {}
    }
    run_programs(loaded, &Place::End, events)?;
    match events.drain(&mut |_| {})? {
        Some(End::Asked(asked)) => code = asked,
        Some(End::OutputClosed) => return Ok(Exit { code: 0 }),
        _ => {}
    }
    let (total, new) = events
        .lost
        .count()
        .map_err(|e| LoadError::io("Failed to count lost events", &e))?;
    if new > 0 {
        written(events.sink.lost_events(new))?;
    }
    if total > 0 {
        written(events.sink.total_lost_events(total))?;
    }
    written(events.printer.finish(&mut events.maps, events.sink))?;
    Ok(Exit { code })
}
