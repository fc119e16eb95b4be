//! Fetching artifacts into whatever the host wants them in.

use std::fs::File;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_io::Async;
use kogge::node::artifact::{EARLIER, UPSTREAM};
use kogge::node::executor::with_timeout;
use kogge::{Artifact, Node, Placement, SaveOptions, What};
use rustix::io::Errno;

use crate::calls::Calls;
use crate::failure::Failure;
use crate::guard::call;
use crate::handle;
use crate::host::Host;
use crate::input::{out, structure, text};
use crate::log::{Name, absent, is_file};
use crate::object::Object;
use crate::op::{Op, Outcome, Release, UserData};
use crate::start::{finish, give_buffer, start};
use crate::status::kogge_status;
use crate::stream::Stream;
use crate::thread;
use crate::types::{
    kogge_buffer, kogge_bytes, kogge_completion, kogge_error, kogge_fetch_request,
    kogge_fetch_result, kogge_node, kogge_op, kogge_sink, kogge_stream, kogge_write_fn,
};

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

/// `max_bytes` of a buffer unless the request says otherwise.
const BUFFER_BYTES_DEFAULT: u64 = 256 << 20;

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// What a fetch came to.
pub(crate) struct Fetched {
    result: kogge_fetch_result,
    buffer: Option<Arc<Vec<u8>>>,
    stream: Option<Arc<Stream>>,
}

/// A request, read and checked.
struct Wanted {
    name: Name,
    range: Range<u64>,
    deadline: Option<Duration>,
    bytes_max: Option<u64>,
}

impl Wanted {
    /// # Safety
    ///
    /// `request` is NULL or as its type says.
    unsafe fn read(request: *const kogge_fetch_request) -> Result<Self, Failure> {
        // SAFETY: as the caller promises.
        let request = unsafe { structure("request", request)? };
        let inner = request.name.struct_size;
        if inner != size_of_val(&request.name) {
            let message = format!("struct_size of request.name is {inner}, not its sizeof");
            return Err(Failure::argument(message));
        }
        let end = match request.range_len {
            0 => u64::MAX,
            len => request.range_offset.saturating_add(len),
        };
        let some = |number| Some(number).filter(|it| *it != 0);
        Ok(Self {
            // SAFETY: as the caller promises.
            name: unsafe { Name::of(&request.name)? },
            range: request.range_offset..end,
            deadline: some(request.deadline_ms).map(Duration::from_millis),
            bytes_max: some(request.max_bytes),
        })
    }

    async fn open(&self, node: &Node) -> Result<Artifact, Failure> {
        if let What::Digest(digest) = &self.name.what {
            return Ok(node.open(digest).await?);
        }
        let found = node.log().resolve(&self.name.what)?;
        let file = self.name.file.as_deref();
        let is_wanted = |it: &str| file.is_none_or(|file| is_file(it, file));
        let mut wanted = found
            .iter()
            .map(|it| &it.1)
            .filter(|it| is_wanted(&it.file));
        let first = wanted.next().ok_or_else(absent)?;
        if wanted.next().is_some() {
            let names: Vec<&str> = found.iter().map(|it| &*it.1.file).take(20).collect();
            let message = format!(
                "the package has several files; name one of {}",
                names.join(", ")
            );
            let detail = serde_json::json!({"files": names});
            return Err(Failure::argument(message).with_detail(&detail));
        }
        Ok(node.open(&first.blake3.into()).await?)
    }
}

/// Where the bytes go.
enum Sink {
    Store,
    Buffer,
    Path(PathBuf, SaveOptions),
    Descriptor(File),
    Writer(Writer),
    Stream(Arc<Host>),
}

/// A callback that takes bytes.
struct Writer {
    write_fn: kogge_write_fn,
    release: Option<Release>,
    calls: Arc<Calls>,
}

impl Drop for Writer {
    /// Whoever drops it, a thread of the node perhaps: the host is called on the callback thread.
    fn drop(&mut self) {
        if let Some(release) = self.release.take().filter(|it| it.drop_fn.is_some()) {
            self.calls.run(move || drop(release));
        }
    }
}

impl Sink {
    /// # Safety
    ///
    /// `sink` is NULL or as its type says.
    unsafe fn read(host: &Arc<Host>, sink: *const kogge_sink) -> Result<Self, Failure> {
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
                    release: Some(Release {
                        user_data: UserData(sink.user_data),
                        drop_fn: sink.drop_fn,
                    }),
                    calls: host.calls.clone(),
                };
                Self::Writer(writer)
            }
            KOGGE_SINK_STREAM => Self::Stream(host.clone()),
            other => {
                let message = format!("{other} is no KOGGE_SINK_*");
                return Err(Failure::new(kogge_status::Unsupported, message));
            }
        })
    }

    /// The call fails: the host keeps what it lent.
    fn forget(&mut self) {
        if let Self::Writer(writer) = self
            && let Some(mut release) = writer.release.take()
        {
            release.forget();
        }
    }
}

async fn fetch(
    node: Node,
    wanted: Wanted,
    sink: Sink,
    op: Option<Arc<Op>>,
) -> Result<Fetched, Failure> {
    let limit = wanted.deadline;
    let work = fetch_unlimited(node, wanted, sink, op);
    match limit {
        None => work.await,
        Some(limit) => with_timeout(limit, work)
            .await
            .unwrap_or_else(|| Err(Failure::timed_out())),
    }
}

async fn fetch_unlimited(
    node: Node,
    wanted: Wanted,
    sink: Sink,
    op: Option<Arc<Op>>,
) -> Result<Fetched, Failure> {
    let artifact = wanted.open(&node).await?;
    let had = artifact.progress();
    if let Some(op) = op {
        let measured = artifact.clone();
        op.measure(move || (measured.progress(), measured.size()));
    }
    let size = artifact.size();
    let range = wanted.range.start.min(size)..wanted.range.end.min(size);
    let default = matches!(sink, Sink::Buffer).then_some(BUFFER_BYTES_DEFAULT);
    if let Some(max) = wanted.bytes_max.or(default)
        && max < range.end - range.start
    {
        let message = format!(
            "{} bytes are wanted, at most {max} allowed",
            range.end - range.start
        );
        return Err(Failure::new(kogge_status::Quota, message));
    }
    let (mut buffer, mut stream, mut placed) = (None, None, 0);
    match sink {
        Sink::Store => artifact.complete().await?,
        Sink::Buffer => buffer = Some(Arc::new(read(&artifact, range).await?)),
        Sink::Path(path, options) => {
            if range != (0..size) {
                return Err(Failure::argument("a file takes no range"));
            }
            placed = match artifact.save(&path, options).await? {
                Placement::Copied => 0,
                Placement::Reflinked => KOGGE_PLACE_REFLINK,
                Placement::Linked => KOGGE_PLACE_HARD_LINK,
            };
        }
        Sink::Descriptor(file) => pour(&artifact, range, file).await?,
        Sink::Writer(writer) => write(&artifact, range, writer).await?,
        Sink::Stream(host) => {
            let opened = Arc::new(Stream::new(host.clone(), artifact.clone()));
            host.keep(&opened)?;
            stream = Some(opened);
        }
    }
    let result = result(&node, &artifact, had, placed);
    Ok(Fetched {
        result,
        buffer,
        stream,
    })
}

async fn read(artifact: &Artifact, range: Range<u64>) -> Result<Vec<u8>, Failure> {
    let len = usize::try_from(range.end - range.start)
        .map_err(|_| Failure::new(kogge_status::Quota, "more than memory can hold"))?;
    let first = artifact.read(range.start, len.min(CHUNK_BYTES)).await?;
    if first.len() == len {
        return Ok(first.into());
    }
    let mut bytes = Vec::new();
    let room = bytes.try_reserve_exact(len);
    room.map_err(|it| Failure::of(kogge_status::Quota, &it))?;
    bytes.extend_from_slice(&first);
    while bytes.len() < len {
        let left = len - bytes.len();
        let more = artifact.read(range.start + bytes.len() as u64, left.min(CHUNK_BYTES));
        let more = more.await?;
        if more.is_empty() {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        bytes.extend_from_slice(&more);
    }
    Ok(bytes)
}

/// Writes to a descriptor of the host. A pipe or a socket may be full for long: nothing of the node
/// waits for its reader but this fetch.
async fn pour(artifact: &Artifact, range: Range<u64>, file: File) -> Result<(), Failure> {
    let disk = file.try_clone()?;
    // Its mode is shared with the host's own descriptor and stays what it is.
    let Ok(pipe) = Async::new_nonblocking(file) else {
        // What cannot be polled is a file.
        drop(artifact.copy_to(range, disk).await?);
        return Ok(());
    };
    let mut at = range.start;
    while at < range.end {
        let left = usize::try_from(range.end - at).unwrap_or(usize::MAX);
        let bytes = artifact.read(at, left.min(CHUNK_BYTES)).await?;
        if bytes.is_empty() {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        at += bytes.len() as u64;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            pipe.writable().await?;
            // So much fits into a pipe that is writable, whether it would block or not.
            let part = rest.get(..libc::PIPE_BUF).unwrap_or(rest);
            match rustix::io::write(&pipe, part) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(Errno::AGAIN | Errno::INTR) => (),
                Err(error) => return Err(std::io::Error::from(error).into()),
            }
        }
    }
    Ok(())
}

async fn write(artifact: &Artifact, range: Range<u64>, writer: Writer) -> Result<(), Failure> {
    let (mut at, calls, mut writer) = (range.start, writer.calls.clone(), Some(writer));
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
            let data = taken.release.as_ref().map(|it| it.user_data);
            let code = taken.write_fn.zip(data).map_or(0, |(write_fn, data)| {
                // SAFETY: a function of the host, called as the header says.
                unsafe { write_fn(data.0, at, kogge_bytes::of(&bytes)) }
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
    Ok(())
}

/// Where the bytes came from. `had` were here when the fetch began.
fn result(node: &Node, artifact: &Artifact, had: u64, placed: u32) -> kogge_fetch_result {
    let (entry, size) = (artifact.entry(), artifact.size());
    let (mut from_store, mut from_peers) =
        (had, artifact.progress() - had.min(artifact.progress()));
    if had < size
        && artifact.progress() == size
        && let Some(origin) = node.origin_of(&entry.blake3)
    {
        let is_peer = |it: &&(String, u64)| it.0 != UPSTREAM && it.0 != EARLIER;
        from_peers = origin.sources.iter().filter(is_peer).map(|it| it.1).sum();
        from_store = size.saturating_sub(from_peers);
    }
    kogge_fetch_result {
        blake3: entry.blake3.0,
        sha256: entry.sha256.0,
        size,
        log_index: artifact.index(),
        bytes_from_store: from_store,
        bytes_from_peers: from_peers,
        placed,
        reserved: 0,
    }
}

/// Where the result of a fetch goes.
#[derive(Clone, Copy)]
struct Targets {
    result: *mut kogge_fetch_result,
    buffer: *mut *mut kogge_buffer,
    stream: *mut *mut kogge_stream,
}

impl Targets {
    /// # Safety
    ///
    /// What is not NULL is writable.
    unsafe fn give(self, fetched: Fetched) -> Result<(), Failure> {
        if let Some(stream) = fetched.stream {
            let target = out("stream_out", self.stream)?;
            let handle = handle::put(Object::Stream(stream))?;
            // SAFETY: checked not to be NULL; as the caller promises.
            unsafe { target.write(handle.cast()) };
        }
        if let Some(buffer) = fetched.buffer {
            let target = out("buffer_out", self.buffer)?;
            // SAFETY: checked not to be NULL; as the caller promises.
            unsafe { give_buffer(target, buffer)? };
        }
        if !self.result.is_null() {
            // SAFETY: as the caller promises.
            unsafe { self.result.write(fetched.result) };
        }
        Ok(())
    }
}

/// Fetches an artifact: from the store, else from peers, verified against the log. Waits at most
/// `timeout_ms`. `buffer_out` is for `KOGGE_SINK_BUFFER`, `stream_out` for `KOGGE_SINK_STREAM`; both, and
/// `result_out`, may be NULL otherwise. Every byte is verified before it is given; that all are stored
/// for good, hence known to `kogge_store_stat`, is waited for by `KOGGE_SINK_NONE` and
/// `KOGGE_SINK_PATH` alone. If the call fails before the work begins (a bad argument, a closed node),
/// `drop_fn` of the sink is not called; else it may run a little after the call has returned.
///
/// # Safety
///
/// `request` and `sink` are as their types say; the outputs and `error` are writable or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_fetch(
    node: *mut kogge_node,
    request: *const kogge_fetch_request,
    sink: *const kogge_sink,
    timeout_ms: u64,
    result_out: *mut kogge_fetch_result,
    buffer_out: *mut *mut kogge_buffer,
    stream_out: *mut *mut kogge_stream,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let host = handle::get::<Arc<Host>>(node.cast())?;
        let node = host.node()?;
        // SAFETY: as the caller promises.
        let (wanted, mut sink) = unsafe { (Wanted::read(request)?, Sink::read(&host, sink)?) };
        let missing = match sink {
            Sink::Buffer => out("buffer_out", buffer_out).err(),
            Sink::Stream(_) => out("stream_out", stream_out).err(),
            _ => None,
        };
        if let Some(failure) = missing.or_else(|| host.check_open().err()) {
            sink.forget();
            return Err(failure);
        }
        if matches!(sink, Sink::Writer(_)) && host.calls.is_here() {
            sink.forget();
            let message = "a callback cannot wait for a writer, which runs on the same thread";
            return Err(Failure::new(kogge_status::WouldDeadlock, message));
        }
        let work = fetch(node, wanted, sink, None);
        let fetched = host.wait(thread::deadline(timeout_ms), work)?;
        let targets = Targets {
            result: result_out,
            buffer: buffer_out,
            stream: stream_out,
        };
        // SAFETY: as the caller promises.
        unsafe { targets.give(fetched) }
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Starts to fetch as `kogge_fetch` does. Progress is in bytes.
///
/// # Safety
///
/// `request` and `sink` are as their types say; `completion` is NULL or as its type says; `op_out` and
/// `error` are writable, `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_fetch_start(
    node: *mut kogge_node,
    request: *const kogge_fetch_request,
    sink: *const kogge_sink,
    completion: *const kogge_completion,
    op_out: *mut *mut kogge_op,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let host = handle::get::<Arc<Host>>(node.cast())?;
        let node = host.node()?;
        // SAFETY: as the caller promises.
        let (wanted, sink) = unsafe { (Wanted::read(request)?, Sink::read(&host, sink)?) };
        // The sink moves into the work, which is dropped if it cannot start.
        let kept = Arc::new(std::sync::Mutex::new(Some(sink)));
        let lent = kept.clone();
        let take = |it: &std::sync::Mutex<Option<Sink>>| {
            it.lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .take()
        };
        let work = |op: &Arc<Op>| {
            let op = op.clone();
            async move {
                let sink = take(&lent).unwrap_or(Sink::Store);
                Ok(Outcome::Fetched(fetch(node, wanted, sink, Some(op)).await?))
            }
        };
        // SAFETY: as the caller promises.
        let started = unsafe { start(&host, completion, op_out, work) };
        if started.is_err()
            && let Some(mut sink) = take(&kept)
        {
            sink.forget();
        }
        started
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Takes what was fetched; the outputs are as for `kogge_fetch`.
///
/// # Safety
///
/// The outputs and `error` are writable or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_fetch_finish(
    op: *mut kogge_op,
    result_out: *mut kogge_fetch_result,
    buffer_out: *mut *mut kogge_buffer,
    stream_out: *mut *mut kogge_stream,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        let fetched = finish(op, |it| match it {
            // What has nowhere to go stays to be asked for again.
            Outcome::Fetched(it) if it.buffer.is_some() && buffer_out.is_null() => {
                Err(Outcome::Fetched(it))
            }
            Outcome::Fetched(it) if it.stream.is_some() && stream_out.is_null() => {
                Err(Outcome::Fetched(it))
            }
            Outcome::Fetched(it) => Ok(it),
            other => Err(other),
        })?;
        let targets = Targets {
            result: result_out,
            buffer: buffer_out,
            stream: stream_out,
        };
        // SAFETY: as the caller promises.
        unsafe { targets.give(fetched) }
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}
