//! Fetching artifacts into whatever the host wants them in.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use kogge::node::executor::with_timeout;
use kogge::{Artifact, Node, Placement, What};
use tracing::Dispatch;

use crate::failure::Failure;
use crate::guard::call;
use crate::handle;
use crate::host::Host;
use crate::input::{out, structure};
use crate::inside::{Inside, Visit};
use crate::log::{Name, absent, is_file};
use crate::object::Object;
use crate::op::{Op, Outcome, Release};
use crate::sink::{CHUNK_BYTES, KOGGE_PLACE_HARD_LINK, KOGGE_PLACE_REFLINK, Sink};
use crate::start::{finish, give_buffer, start};
use crate::status::kogge_status;
use crate::stream::Stream;
use crate::thread;
use crate::types::{
    kogge_buffer, kogge_completion, kogge_error, kogge_fetch_request, kogge_fetch_result,
    kogge_node, kogge_op, kogge_sink, kogge_stream,
};

/// `max_bytes` of a buffer unless the request says otherwise.
const BUFFER_BYTES_DEFAULT: u64 = 256 << 20;

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

/// Fetches until the deadline of the request.
async fn fetch(
    node: Inside<Node>,
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
    node: Inside<Node>,
    wanted: Wanted,
    sink: Sink,
    op: Option<Arc<Op>>,
) -> Result<Fetched, Failure> {
    let artifact = wanted.open(&node).await?;
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
        Sink::Descriptor(file) => file.pour(&artifact, range).await?,
        Sink::Writer(writer) => writer.write(&artifact, range).await?,
        Sink::Stream => stream = Some(Arc::new(Stream::open(node.host(), &artifact)?)),
    }
    Ok(Fetched {
        result: result(&artifact, placed),
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

/// What came, and from where.
fn result(artifact: &Artifact, placed: u32) -> kogge_fetch_result {
    let (entry, had) = (artifact.entry(), artifact.had());
    kogge_fetch_result {
        blake3: entry.blake3.0,
        sha256: entry.sha256.0,
        size: artifact.size(),
        log_index: artifact.index(),
        bytes_from_store: had,
        bytes_from_peers: artifact.progress().saturating_sub(had),
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
/// `KOGGE_SINK_PATH` alone.
///
/// What the sink lends is not used any more when the call returns. `drop_fn` of a `KOGGE_SINK_WRITER` has
/// run exactly once by then, whatever the status is, unless `sink` is NULL or has a wrong
/// `struct_size`: on the callback thread after the last piece, or on this one if no work began. If the
/// time is up while `write_fn` runs, or a file is written to, the call returns after that.
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
        // SAFETY: as the caller promises.
        let given = unsafe { structure("sink", sink)? };
        // Whatever happens before the work begins, the host is done with what it lent.
        let mut lent = Release::of_sink(&given);
        let host = handle::get::<Arc<Host>>(node.cast())?;
        let node = host.node()?;
        // SAFETY: as the caller promises.
        let (wanted, mut sink) = unsafe { (Wanted::read(request)?, Sink::read(&host, &given)?) };
        match sink {
            Sink::Buffer => drop(out("buffer_out", buffer_out)?),
            Sink::Stream => drop(out("stream_out", stream_out)?),
            Sink::Writer(_) if host.calls.is_here() => {
                let message = "a callback cannot wait for a writer, which runs on the same thread";
                return Err(Failure::new(kogge_status::WouldDeadlock, message));
            }
            _ => (),
        }
        let _visit = Visit::begin(&host)?;
        lent.forget();
        let held = sink.begin();
        let work = fetch(node, wanted, sink, None);
        let fetched = host.wait(thread::deadline(timeout_ms), work);
        if let Some(held) = held {
            // The work is over, a callback or a write of it perhaps not.
            thread::block_on(&Dispatch::none(), None, held.wait());
        }
        let targets = Targets {
            result: result_out,
            buffer: buffer_out,
            stream: stream_out,
        };
        // SAFETY: as the caller promises.
        unsafe { targets.give(fetched?) }
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// Starts to fetch as `kogge_fetch` does. Progress is in bytes. If the start fails, nothing of the sink
/// is used, and `drop_fn` is not called. Else `drop_fn` of a `KOGGE_SINK_WRITER` runs exactly once on the
/// callback thread, after the last piece and before the operation ends; one that is cancelled ends
/// when the piece that `write_fn` has just got came back. A `write_fn` that never returns keeps the
/// operation running, and `kogge_node_close` from ending.
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
        let (wanted, mut sink) = unsafe {
            let given = structure("sink", sink)?;
            (Wanted::read(request)?, Sink::read(&host, &given)?)
        };
        let begin = |op: &Arc<Op>| {
            if let Some(held) = sink.begin() {
                op.hold(held);
            }
            if matches!(sink, Sink::Writer(_)) {
                op.end_after(&host.calls);
            }
            let op = op.clone();
            async move { Ok(Outcome::Fetched(fetch(node, wanted, sink, Some(op)).await?)) }
        };
        // SAFETY: as the caller promises.
        unsafe { start(&host, completion, op_out, begin) }
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
        // What has nowhere to go stays to be asked for again.
        let mut missing = Ok(());
        let fetched = finish(op, |it| match it {
            Outcome::Fetched(it) => {
                if it.buffer.is_some() {
                    missing = out("buffer_out", buffer_out).map(drop);
                } else if it.stream.is_some() {
                    missing = out("stream_out", stream_out).map(drop);
                }
                match missing {
                    Ok(()) => Ok(it),
                    Err(_) => Err(Outcome::Fetched(it)),
                }
            }
            other => Err(other),
        });
        missing?;
        let fetched = fetched?;
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
