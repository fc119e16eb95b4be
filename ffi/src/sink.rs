//! Where the bytes of a fetch go.

use std::fs::File;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;

use kogge::{Artifact, SaveOptions};

use crate::calls::Calls;
use crate::failure::Failure;
use crate::host::Host;
use crate::input::{structure, text};
use crate::op::{Release, UserData};
use crate::status::kogge_status;
use crate::types::{kogge_bytes, kogge_sink, kogge_write_fn};

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

/// Where the bytes go.
pub(crate) enum Sink {
    Store,
    Buffer,
    Path(PathBuf, SaveOptions),
    Descriptor(File),
    Writer(Writer, Arc<Calls>),
    Stream(Arc<Host>),
}

/// A callback that takes bytes.
pub(crate) struct Writer {
    write_fn: kogge_write_fn,
    release: Release,
}

impl Sink {
    /// # Safety
    ///
    /// `sink` is NULL or as its type says.
    pub(crate) unsafe fn read(host: &Arc<Host>, sink: *const kogge_sink) -> Result<Self, Failure> {
        // SAFETY: as the caller promises.
        let sink = unsafe { structure("sink", sink)? };
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
                Self::Descriptor(duplicate.map_err(bad)?.into())
            }
            KOGGE_SINK_WRITER if sink.write_fn.is_none() => {
                return Err(Failure::argument("write_fn is NULL"));
            }
            KOGGE_SINK_WRITER => {
                let writer = Writer {
                    write_fn: sink.write_fn,
                    release: Release {
                        user_data: UserData(sink.user_data),
                        drop_fn: sink.drop_fn,
                    },
                };
                Self::Writer(writer, host.calls.clone())
            }
            KOGGE_SINK_STREAM => Self::Stream(host.clone()),
            other => {
                let message = format!("{other} is no KOGGE_SINK_*");
                return Err(Failure::new(kogge_status::Unsupported, message));
            }
        })
    }

    /// The call fails: the host keeps what it lent.
    pub(crate) fn forget(&mut self) {
        if let Self::Writer(writer, _) = self {
            writer.release.forget();
        }
    }
}

/// Gives the bytes of `range` to a callback, in order, each piece when the one before was taken.
pub(crate) async fn write(
    artifact: &Artifact,
    range: Range<u64>,
    writer: Writer,
    calls: &Arc<Calls>,
) -> Result<(), Failure> {
    let (mut at, mut writer) = (range.start, Some(writer));
    let (done, answer) = async_channel::bounded(1);
    while at < range.end {
        let left = usize::try_from(range.end - at).unwrap_or(usize::MAX);
        let bytes = artifact.read(at, left.min(CHUNK_BYTES)).await?;
        if bytes.is_empty() {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        let (count, done) = (bytes.len() as u64, done.clone());
        let Some(taken) = writer.take() else { break };
        calls.run(move || {
            let taken = taken;
            let code = taken.write_fn.map_or(0, |write_fn| {
                // SAFETY: a function of the host, called as the header says.
                unsafe { write_fn(taken.release.user_data.0, at, kogge_bytes::of(&bytes)) }
            });
            let _ = done.try_send((code, taken));
        });
        let (code, back) = answer.recv().await.map_err(|_| Failure::closed())?;
        if code != 0 {
            let mut failure = Failure::new(kogge_status::Host, "the writer gave up");
            failure.os_code = code;
            return Err(failure);
        }
        writer = Some(back);
        at += count;
    }
    // Released where callbacks run.
    calls.run(move || drop(writer));
    Ok(())
}
