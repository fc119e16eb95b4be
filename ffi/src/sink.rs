//! Where the bytes of a fetch go, and what of the host is lent to it.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;

use kogge::{Artifact, SaveOptions};

use crate::calls::Calls;
use crate::descriptor::Descriptor;
use crate::failure::Failure;
use crate::host::Host;
use crate::input::text;
use crate::op::{Release, UserData};
use crate::status::kogge_status;
use crate::tether::{Released, Tether, tether};
use crate::types::{kogge_bytes, kogge_sink};

/// Into the store only.
pub const KOGGE_SINK_NONE: i32 = 0;

/// Into a buffer.
pub const KOGGE_SINK_BUFFER: i32 = 1;

/// To a file, which appears whole or not at all.
pub const KOGGE_SINK_PATH: i32 = 2;

/// To an open descriptor.
pub const KOGGE_SINK_FD: i32 = 3;

/// To a callback, in order.
pub const KOGGE_SINK_WRITER: i32 = 4;

/// A stream that can be read anywhere while the bytes come.
pub const KOGGE_SINK_STREAM: i32 = 5;

/// Replace the file that is there; otherwise that is `KOGGE_STATUS_EXISTS`.
pub const KOGGE_PLACE_REPLACE: u32 = 1;

/// Share the bytes with the store where the file system can do that (copy on write).
pub const KOGGE_PLACE_REFLINK: u32 = 2;

/// Be another name of the store's own file where that is on the same file system. Who writes to such
/// a file damages the store.
pub const KOGGE_PLACE_HARD_LINK: u32 = 4;

/// Bytes that are read at once.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;

/// Where the bytes go, checked.
pub(crate) enum Sink {
    Store,
    Buffer,
    Path(PathBuf, SaveOptions),
    Descriptor(Descriptor),
    Writer(Writer),
    Stream,
}

impl Sink {
    /// # Safety
    ///
    /// The texts of `sink` are as their types say.
    pub(crate) unsafe fn read(host: &Arc<Host>, sink: &kogge_sink) -> Result<Self, Failure> {
        if sink.reserved != 0 {
            let message = "sink.reserved is not 0";
            return Err(Failure::new(kogge_status::Unsupported, message));
        }
        let flags = sink.place_flags;
        let known = KOGGE_PLACE_REPLACE | KOGGE_PLACE_REFLINK | KOGGE_PLACE_HARD_LINK;
        if flags & !known != 0 {
            let message = format!("unknown place_flags {:#x}", flags & !known);
            return Err(Failure::new(kogge_status::Unsupported, message));
        }
        Ok(match sink.kind {
            KOGGE_SINK_NONE => Self::Store,
            KOGGE_SINK_BUFFER => Self::Buffer,
            KOGGE_SINK_PATH => {
                // SAFETY: as the caller promises.
                let path = unsafe { text("path", sink.path)? };
                if path.is_empty() || path.contains('\0') {
                    return Err(Failure::argument("path is not a path"));
                }
                let options = SaveOptions {
                    replace: flags & KOGGE_PLACE_REPLACE != 0,
                    reflink: flags & KOGGE_PLACE_REFLINK != 0,
                    hard_link: flags & KOGGE_PLACE_HARD_LINK != 0,
                };
                Self::Path(path.into(), options)
            }
            KOGGE_SINK_FD if sink.fd < 0 => return Err(Failure::argument("fd is negative")),
            KOGGE_SINK_FD => {
                // SAFETY: not -1; a descriptor that is not open is an error of the duplication.
                let borrowed = unsafe { BorrowedFd::borrow_raw(sink.fd) };
                let duplicate = borrowed.try_clone_to_owned();
                let bad = |it| Failure::of(kogge_status::InvalidArgument, &it);
                Self::Descriptor(Descriptor {
                    file: duplicate.map_err(bad)?.into(),
                    tether: None,
                })
            }
            KOGGE_SINK_WRITER if sink.write_fn.is_none() => {
                return Err(Failure::argument("write_fn is NULL"));
            }
            KOGGE_SINK_WRITER => Self::Writer(Writer {
                sink: Lent(*sink),
                calls: host.calls.clone(),
                tether: None,
            }),
            KOGGE_SINK_STREAM => Self::Stream,
            other => {
                let message = format!("{other} is no KOGGE_SINK_*");
                return Err(Failure::new(kogge_status::Unsupported, message));
            }
        })
    }

    /// The work begins: from now on the library releases what the host lent. The fetch must not end
    /// before what is given back, if anything, says so.
    pub(crate) fn begin(&mut self) -> Option<Released> {
        let (held, released) = tether();
        match self {
            Self::Descriptor(descriptor) => descriptor.tether = Some(held),
            Self::Writer(writer) => writer.tether = Some(held),
            _ => return None,
        }
        Some(released)
    }
}

impl Release {
    /// What a call that waits has to release if it fails before its work begins.
    pub(crate) fn of_sink(sink: &kogge_sink) -> Self {
        let is_lent = sink.kind == KOGGE_SINK_WRITER;
        Self {
            user_data: UserData(sink.user_data),
            drop_fn: sink.drop_fn.filter(|_| is_lent),
        }
    }
}

/// The struct of the host, whose functions and `user_data` are lent.
struct Lent(kogge_sink);

// SAFETY: the pointers are never followed here; the header tells hosts on which thread they are used.
unsafe impl Send for Lent {}
// SAFETY: as above.
unsafe impl Sync for Lent {}

/// A callback that takes bytes. When it is dropped after the work began, what the host lent is
/// released on the callback thread.
pub(crate) struct Writer {
    sink: Lent,
    calls: Arc<Calls>,
    tether: Option<Tether>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(tether) = self.tether.take() {
            let release = Release::of_sink(&self.sink.0);
            self.calls.run(move || {
                drop(release);
                drop(tether);
            });
        }
    }
}

impl Writer {
    /// Hands over the bytes of a range, piece by piece.
    pub(crate) async fn write(self, artifact: &Artifact, range: Range<u64>) -> Result<(), Failure> {
        let (mut at, calls, mut writer) = (range.start, self.calls.clone(), Some(self));
        while at < range.end {
            let left = usize::try_from(range.end - at).unwrap_or(usize::MAX);
            let bytes = artifact.read(at, left.min(CHUNK_BYTES)).await?;
            if bytes.is_empty() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            let count = bytes.len() as u64;
            let (done, answer) = async_channel::bounded(1);
            let Some(taken) = writer.take() else { break };
            calls.run(move || {
                // Nobody waits for a piece of a fetch that was given up meanwhile.
                if !done.is_closed() {
                    let code = taken.call(at, &bytes);
                    let _ = done.try_send((code, taken));
                }
            });
            let (code, back) = answer.recv().await.map_err(|_| Failure::panic())?;
            if code != 0 {
                let mut failure = Failure::new(kogge_status::Host, "the writer gave up");
                failure.os_code = code;
                return Err(failure);
            }
            writer = Some(back);
            at += count;
        }
        Ok(())
    }

    fn call(&self, at: u64, bytes: &[u8]) -> i32 {
        let Lent(sink) = &self.sink;
        sink.write_fn.map_or(0, |write_fn| {
            // SAFETY: a function of the host, called as the header says.
            unsafe { write_fn(sink.user_data, at, kogge_bytes::of(bytes)) }
        })
    }
}
