use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;

/// When output of the script becomes visible (`-B`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BufferMode {
    /// Complete lines, at the latest before the session waits for the next event.
    #[default]
    Line,
    /// Whenever the buffer is full, and at the end.
    Full,
    /// At once.
    None,
}

/// Bytes that may collect before they are written in any mode.
const CAPACITY: usize = 64 * 1024;

/// Where the script's output goes: standard output or a file, through a buffer.
pub struct ScriptOutput {
    to: Box<dyn Write>,
    mode: BufferMode,
    buffer: Vec<u8>,
}

impl ScriptOutput {
    /// Output to standard output.
    #[must_use]
    pub fn stdout(mode: BufferMode) -> Self {
        // The standard library's handle has a buffer of its own, which would be one too many.
        match io::stdout().as_fd().try_clone_to_owned() {
            Ok(descriptor) => Self::to(Box::new(File::from(descriptor)), mode),
            Err(_) => Self::to(Box::new(io::stdout()), mode),
        }
    }

    /// Output to a file, which is created or emptied.
    pub fn file(path: &Path, mode: BufferMode) -> io::Result<Self> {
        Ok(Self::to(Box::new(File::create(path)?), mode))
    }

    /// Output to anything.
    #[must_use]
    pub fn to(to: Box<dyn Write>, mode: BufferMode) -> Self {
        Self {
            to,
            mode,
            buffer: Vec::with_capacity(CAPACITY),
        }
    }

    /// Adds bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.mode == BufferMode::None {
            self.to.write_all(bytes)?;
            return self.to.flush();
        }
        if self.buffer.len() + bytes.len() > CAPACITY {
            self.flush()?;
        }
        if bytes.len() > CAPACITY {
            return self.to.write_all(bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Nothing more comes for now: in line mode, writes what is there.
    pub fn drained(&mut self) -> io::Result<()> {
        if self.mode == BufferMode::Line {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// A message is about to go elsewhere, perhaps to the same terminal: unless asked to buffer,
    /// what was said before it shows before it.
    pub fn before_message(&mut self) -> io::Result<()> {
        self.drained()
    }

    /// Writes what is there.
    pub fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            let written = self.to.write_all(&self.buffer);
            self.buffer.clear();
            written?;
        }
        self.to.flush()
    }
}
