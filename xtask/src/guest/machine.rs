//! One QEMU guest: boots it with a job and follows what it reports.

use std::fs;
use std::io::{BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::kernel::{self, Kernel};
use super::protocol::{Report, Task, receive};
use super::rootfs::{self, GuestFile};

/// From the start of QEMU to the first report. It is 2 to 5 seconds on a quiet machine.
const BOOT_LIMIT: Duration = Duration::from_secs(120);
/// What a guest gets on top of a task's own limit, before it counts as hung. Its clock and the
/// host's are not the same, and the host may be busy.
const GRACE: Duration = Duration::from_secs(60);
/// How much of the console is shown when a guest dies, in bytes.
const CONSOLE_TAIL: usize = 4000;

/// mitigations=off and nowatchdog: emulation is slow enough. no_timer_check: a busy host makes the
/// kernel's check of its timer fail. tsc=reliable: the kernel would give
/// up on the TSC on a busy host, and every clock read would then go through an emulated device.
const KERNEL_ARGS: &str = "console=ttyS0 quiet panic=-1 nowatchdog mitigations=off tsc=reliable \
    no_timer_check rcupdate.rcu_cpu_stall_suppress=1";

static GUESTS: AtomicU32 = AtomicU32::new(0);

/// A running guest. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Guest {
    folder: PathBuf,
    qemu: Child,
    reports: Receiver<(Report, Vec<u8>)>,
    limit: Option<Duration>,
}

/// The guest will report no more.
#[derive(Debug)]
pub(crate) struct Gone {
    /// Why, and the end of its console.
    pub(crate) why: String,
}

impl Guest {
    /// Starts a guest, which does the job and then powers off.
    pub(crate) fn boot(kernel: Kernel, job: &[Task], files: &[GuestFile]) -> Result<Guest> {
        let kernel::Files { image, module } = kernel::files(kernel)?;
        let number = GUESTS.fetch_add(1, Ordering::Relaxed);
        let name = format!("bpftrace-guest-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder)?;
        let initrd = folder.join("initrd");
        let console = folder.join("console");
        let errors = fs::File::create(folder.join("qemu"))?;
        let module = GuestFile {
            from: module,
            to: "/module.ko".to_owned(),
        };
        let files = [files, &[module]].concat();
        let booted = rootfs::write(&initrd, job, &files).and_then(|()| {
            // setpriv: a guest must not outlive us, however we end.
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
            // One thread for both CPUs: with two, a kernel that rewrites its own code (static keys,
            // which tracing switches) now and then runs the old bytes on the other CPU and dies. Two
            // guests at a time keep two cores busy anyway.
            // -cx16: QEMU 7.2 leaves garbage in the flags after cmpxchg16b, and the kernel's
            // allocator then crashes now and then.
            command.args(["-accel", "tcg,thread=single", "-cpu", "max,-cx16"]);
            command.args(["-m", &memory(&files).to_string(), "-smp", "2"]);
            command.args(["-nographic", "-no-reboot", "-nic", "none"]);
            command.args(["-monitor", "none", "-serial"]);
            command.arg(format!("file:{}", console.display()));
            command.args(["-serial", "stdio", "-append", KERNEL_ARGS]);
            command.arg("-kernel").arg(image).arg("-initrd").arg(initrd);
            command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(errors);
            // A key that interrupts us is passed on to what runs in the guest, not to QEMU.
            command
                .process_group(0)
                .spawn()
                .context("cannot start qemu-system-x86_64")
        });
        let mut qemu = match booted {
            Ok(qemu) => qemu,
            Err(error) => {
                let _ = fs::remove_dir_all(&folder);
                return Err(error);
            }
        };
        let mut port = BufReader::new(qemu.stdout.take().context("QEMU has no standard output")?);
        let (sender, reports) = mpsc::channel();
        thread::spawn(move || {
            while let Ok(Some(report)) = receive::<Report>(&mut port) {
                if sender.send(report).is_err() {
                    return;
                }
            }
        });
        Ok(Guest {
            folder,
            qemu,
            reports,
            limit: Some(BOOT_LIMIT),
        })
    }

    /// The next report and its payload.
    pub(crate) fn next(&mut self) -> Result<(Report, Vec<u8>), Gone> {
        let received = match self.limit {
            Some(limit) => self.reports.recv_timeout(limit),
            None => self
                .reports
                .recv()
                .map_err(|_| RecvTimeoutError::Disconnected),
        };
        match received {
            Ok((report, payload)) => {
                match report {
                    Report::Started { limit, .. } => {
                        self.limit = limit.map(|limit| Duration::from_millis(limit) + GRACE);
                    }
                    Report::Hello(_) | Report::Outcome(_) | Report::Status(_) => {
                        self.limit = Some(GRACE);
                    }
                    Report::Stdout | Report::Stderr | Report::End => {}
                }
                Ok((report, payload))
            }
            Err(RecvTimeoutError::Timeout) => {
                let seconds = self.limit.unwrap_or_default().as_secs();
                Err(self.gone(&format!("the guest said nothing for {seconds} s")))
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.gone("the guest died")),
        }
    }

    /// The way to send [`super::protocol::Order`]s; can be taken once.
    pub(crate) fn orders(&mut self) -> Option<ChildStdin> {
        self.qemu.stdin.take()
    }

    fn gone(&self, what: &str) -> Gone {
        let text = |name: &str| {
            let bytes = fs::read(self.folder.join(name)).unwrap_or_default();
            let tail = &bytes[bytes.len().saturating_sub(CONSOLE_TAIL)..];
            let text = String::from_utf8_lossy(tail).replace('\r', "");
            // The firmware clears the screen before the kernel starts.
            text.rsplit("\x1b[2J").next().unwrap_or_default().to_owned()
        };
        let why = format!(
            "{what}; its console ends with:\n{}{}",
            text("console"),
            text("qemu")
        );
        Gone { why }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // QEMU keeps nothing that would need a clean end.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The memory of a guest with these files, in megabytes. Its root file system is in memory, and
/// while it starts it holds the archive as well; the base leaves room for what we put there.
fn memory(files: &[GuestFile]) -> u64 {
    const BASE: u64 = 1024;
    const INCLUDED: u64 = 200;
    let size = |file: &GuestFile| fs::metadata(&file.from).map_or(0, |metadata| metadata.len());
    let megabytes = files.iter().map(size).sum::<u64>() >> 20;
    BASE + 2 * megabytes.saturating_sub(INCLUDED)
}

/// Boots a guest, runs one shell line in it with this process's outputs, and returns its status.
pub(crate) fn run_line(
    kernel: Kernel,
    line: &str,
    files: &[GuestFile],
    with_input: bool,
) -> Result<i32> {
    let task = Task::Shell {
        line: line.to_owned(),
        input: with_input,
    };
    let mut guest = Guest::boot(kernel, &[task], files)?;
    loop {
        let (report, payload) = match guest.next() {
            Ok(report) => report,
            Err(gone) => bail!("{}", gone.why),
        };
        match report {
            Report::Stdout => {
                let mut out = std::io::stdout().lock();
                out.write_all(&payload)?;
                out.flush()?;
            }
            Report::Stderr => std::io::stderr().write_all(&payload)?,
            Report::Status(status) => return Ok(status),
            // What is sent before the guest listens would be lost.
            Report::Started { .. } if with_input => {
                if let Some(orders) = guest.orders() {
                    super::terminal::pass_input(orders)?;
                }
            }
            Report::Hello(_) | Report::Started { .. } | Report::Outcome(_) => {}
            Report::End => bail!("the guest ended without a status"),
        }
    }
}
