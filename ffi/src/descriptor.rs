//! Writing to a descriptor of the host: whoever is to read the bytes holds up nothing but this fetch.
//!
//! Whether a write may wait is a mode of the open file, which the host shares, and which is not the
//! library's to change. A pipe that was writable a moment ago may be full by now, if somebody else
//! writes into it too. So no write is used that goes by that mode where it could wait for a reader.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::OwnedFd;

use async_io::Async;
use kogge::Artifact;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{SendFlags, SocketType, send, sockopt};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};

use crate::failure::Failure;
use crate::sink::CHUNK_BYTES;
use crate::tether::Tether;

/// A descriptor of the host, duplicated.
pub(crate) struct Descriptor {
    pub(crate) file: File,
    /// Also held by a write that runs.
    pub(crate) tether: Option<Tether>,
}

impl Descriptor {
    /// Writes the bytes of a range.
    pub(crate) async fn pour(self, artifact: &Artifact, range: Range<u64>) -> Result<(), Failure> {
        // The end of a pipe that is for reading is never said to be writable.
        if fcntl_getfl(&self.file).map_err(io::Error::from)? & OFlags::RWMODE == OFlags::RDONLY {
            return Err(io::Error::from(Errno::BADF).into());
        }
        let mode = fstat(&self.file).map_err(io::Error::from)?.st_mode;
        let way = match FileType::from_raw_mode(mode) {
            FileType::Fifo => Way::pipe()?,
            FileType::Socket => Way::socket(&self.file)?,
            _ => {
                // Files, terminals and other devices: on a thread that may wait.
                drop(artifact.copy_to(range, self).await?);
                return Ok(());
            }
        };
        let polled = Async::new_nonblocking(self.file.try_clone()?)?;
        let mut at = range.start;
        while at < range.end {
            let left = usize::try_from(range.end - at).unwrap_or(usize::MAX);
            let bytes = artifact.read(at, left.min(CHUNK_BYTES)).await?;
            if bytes.is_empty() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            at += bytes.len() as u64;
            way.write(&polled, &bytes).await?;
        }
        Ok(())
    }
}

/// For what is no pipe and no socket.
impl Write for Descriptor {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.file.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut waited = [PollFd::new(&self.file, PollFlags::OUT)];
                    retry_on_intr(|| poll(&mut waited, None))?;
                }
                result => return result,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// How to write without waiting, whatever the mode of the open file is.
enum Way {
    /// Bytes go into a pipe of our own, whose pages are then moved: that can be told not to wait,
    /// and needs no right to open the host's pipe anew.
    Pipe { from: OwnedFd, into: OwnedFd },
    Socket {
        /// Most bytes at once: datagrams have a size that the receiver must be able to take.
        bytes_max: usize,
    },
}

impl Way {
    fn pipe() -> io::Result<Self> {
        let (from, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Self::Pipe { from, into })
    }

    fn socket(file: &File) -> io::Result<Self> {
        let is_stream = sockopt::socket_type(file)? == SocketType::STREAM;
        let bytes_max = if is_stream {
            CHUNK_BYTES
        } else {
            libc::PIPE_BUF
        };
        Ok(Self::Socket { bytes_max })
    }

    /// Writes all of `bytes`; waits only where nothing more fits.
    async fn write(&self, polled: &Async<File>, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = match self {
                Self::Pipe { from, into } => {
                    let taken = retry_on_intr(|| rustix::io::write(into, rest))?;
                    let mut left = taken;
                    while left != 0 {
                        left -= polled.write_with(|it| moved(from, it, left)).await?;
                    }
                    taken
                }
                Self::Socket { bytes_max } => {
                    let part = rest.get(..*bytes_max).unwrap_or(rest);
                    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                    let sent = |it: &File| Ok(retry_on_intr(|| send(it, part, flags))?);
                    polled.write_with(sent).await?
                }
            };
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(())
    }
}

/// Moves at most `len` bytes from one pipe into another, and at least one.
fn moved(from: &OwnedFd, into: &File, len: usize) -> io::Result<usize> {
    let flags = SpliceFlags::NONBLOCK;
    match retry_on_intr(|| splice(from, None, into, None, len, flags))? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        count => Ok(count),
    }
}
