//! The server's end of an exchange stream: reads requests, sends groups within the budget.
//!
//! Two halves share a queue: one reads requests, so that a `Cancel` is heard while groups are being
//! sent; the other answers them in order. The disk is read on the worker pool, one frame ahead of
//! the transport.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event_listener::Event;
use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use futures_lite::future;

use crate::base::{Blake3, NodeId};
use crate::node::executor::Pool;
use crate::node::share::hub::Peers;
use crate::proto::exchange::group::{Piece, Pieces, group_count};
use crate::proto::exchange::message::{DATA_BYTES_MAX, Reply, Request, Want};
use crate::proto::exchange::presence::Presence;
use crate::proto::exchange::requests::Requests;
use crate::store::{Blob, Blobs};

/// Requests of one stream that wait; further ones are answered `Busy`.
const WAITING_MAX: usize = 64;

/// When a peer that asked for too much may ask again. Unit: milliseconds.
const BUSY_RETRY_MS: u32 = 500;

/// Answers that carry no data and wait to be sent; a peer that asks without reading is cut off
/// when the transport is full, because then nothing more is read from it.
const ANSWERS_MAX: usize = 256;

/// Bytes that are read from the transport at once; requests are small.
const BUFFER_BYTES: usize = 16 * 1_024;

enum Job {
    Get { id: u32, want: Want },
    Answer(Reply),
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    gets: usize,
    cancelled: BTreeSet<u32>,
    is_over: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Event,
}

impl Shared {
    /// A request, if there is room for it.
    fn admit(&self, id: u32, want: Want) -> Job {
        let mut queue = self.lock();
        if WAITING_MAX <= queue.gets {
            return Job::Answer(Reply::Busy {
                id,
                retry_after_ms: BUSY_RETRY_MS,
            });
        }
        queue.gets += 1;
        Job::Get { id, want }
    }

    /// Drops a request that waits, and ends it; one that is being sent is marked.
    fn cancel(&self, id: u32) -> Option<Job> {
        let mut queue = self.lock();
        let before = queue.jobs.len();
        queue
            .jobs
            .retain(|it| !matches!(it, Job::Get { id: other, .. } if *other == id));
        if queue.jobs.len() < before {
            queue.gets = queue.gets.saturating_sub(1);
            return Some(Job::Answer(Reply::End { id }));
        }
        if queue.gets != 0 {
            queue.cancelled.insert(id);
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves one stream until it ends.
pub(crate) async fn run<S>(peer: NodeId, stream: S, blobs: Blobs, pool: Pool, peers: Arc<Peers>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (reader, writer) = stream.split();
    let shared = Shared {
        queue: Mutex::default(),
        changed: Event::new(),
    };
    let server = Server {
        peer,
        blobs,
        pool,
        peers,
    };
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, reader);
    let read = async {
        server.read(&mut reader, &shared).await;
        shared.lock().is_over = true;
        shared.changed.notify(usize::MAX);
        future::pending::<()>().await;
    };
    // The writer ends when the queue is empty and the reader is over, or when it cannot write.
    let write = async {
        let _ = server.write(writer, &shared).await;
    };
    future::or(write, read).await;
}

struct Server {
    peer: NodeId,
    blobs: Blobs,
    pool: Pool,
    peers: Arc<Peers>,
}

impl Server {
    async fn read(&self, reader: &mut (impl AsyncRead + Unpin), shared: &Shared) {
        let mut requests = Requests::new();
        loop {
            let bytes = match reader.read(requests.space()).await {
                Ok(0) | Err(_) => return,
                Ok(bytes) => bytes,
            };
            match requests.advance(bytes) {
                Ok(None) => (),
                Ok(Some(request)) => self.request(request, shared).await,
                Err(error) => {
                    self.peers
                        .fault(self.peer, format!("exchange request: {error}"));
                    return;
                }
            }
        }
    }

    async fn request(&self, request: Request, shared: &Shared) {
        let job = match request {
            Request::Cancel { id } => match shared.cancel(id) {
                Some(job) => job,
                None => return,
            },
            Request::Get { id, want } => shared.admit(id, want),
            Request::Have { id, roots } => {
                let answers = self.presence(roots).await;
                Job::Answer(Reply::Has { id, answers })
            }
        };
        // Beyond the limit nothing more is read from the peer until it takes its answers.
        loop {
            let changed = shared.changed.listen();
            if shared.lock().jobs.len() < ANSWERS_MAX {
                break;
            }
            changed.await;
        }
        shared.lock().jobs.push_back(job);
        shared.changed.notify(usize::MAX);
    }

    async fn presence(&self, roots: Vec<Blake3>) -> Vec<Presence> {
        if !self.peers.shares() {
            return vec![Presence::None; roots.len()];
        }
        let (blobs, count) = (self.blobs.clone(), roots.len());
        let look = move || {
            let has = |root: &Blake3| match blobs.contains(root) {
                Ok(true) => Presence::Whole,
                Ok(false) | Err(_) => Presence::None,
            };
            roots.iter().map(has).collect()
        };
        self.pool
            .run(look)
            .await
            .unwrap_or_else(|_| vec![Presence::None; count])
    }

    async fn write(&self, mut writer: impl AsyncWrite + Unpin, shared: &Shared) -> io::Result<()> {
        loop {
            let changed = shared.changed.listen();
            let (job, is_over) = {
                let mut queue = shared.lock();
                (queue.jobs.pop_front(), queue.is_over)
            };
            match job {
                None if is_over => return writer.close().await,
                None => {
                    writer.flush().await?;
                    changed.await;
                }
                Some(Job::Answer(reply)) => {
                    writer.write_all(&reply.encode()).await?;
                    shared.changed.notify(usize::MAX);
                }
                Some(Job::Get { id, want }) => {
                    let last = self.get(&mut writer, shared, id, want).await?;
                    writer.write_all(&last.encode()).await?;
                    let mut queue = shared.lock();
                    queue.gets = queue.gets.saturating_sub(1);
                    queue.cancelled.remove(&id);
                    drop(queue);
                    shared.changed.notify(usize::MAX);
                }
            }
        }
    }

    /// Sends the groups of one request; returns the reply that ends it.
    async fn get(
        &self,
        writer: &mut (impl AsyncWrite + Unpin),
        shared: &Shared,
        id: u32,
        want: Want,
    ) -> io::Result<Reply> {
        let Some(mut source) = self.open(want).await else {
            return Ok(Reply::NotFound { id });
        };
        let mut frame = match self.next_frame(source).await {
            Some((frame, rest)) => {
                source = rest;
                frame
            }
            None => return Ok(Reply::NotFound { id }),
        };
        while !frame.is_empty() {
            if shared.lock().cancelled.contains(&id) {
                break;
            }
            let bytes = frame.len() as u64;
            self.peers.pace_upload(&self.peer, bytes).await;
            // The next frame is read while this one is sent.
            let read = self.next_frame(source);
            let send = async {
                let header = Reply::Data {
                    id,
                    bytes: u32::try_from(frame.len()).unwrap_or(0),
                };
                writer.write_all(&header.encode()).await?;
                writer.write_all(&frame).await
            };
            let (next, sent) = future::zip(read, send).await;
            sent?;
            self.peers.sent(&self.peer, bytes);
            // A read that fails in the middle: the peer asks elsewhere for the rest.
            let Some((next, rest)) = next else {
                return Ok(Reply::NotFound { id });
            };
            (frame, source) = (next, rest);
        }
        Ok(Reply::End { id })
    }

    async fn open(&self, want: Want) -> Option<Source> {
        if !self.peers.shares() {
            return None;
        }
        let blobs = self.blobs.clone();
        let open = move || {
            let blob = blobs.open(&want.root).ok().flatten()?;
            let pieces = Pieces::new(want.size, &want.groups)?;
            let fits = blob.size() == want.size && want.groups.end <= group_count(want.size);
            fits.then_some(Source {
                blob,
                pieces,
                next: None,
            })
        };
        self.pool.run(open).await.ok().flatten()
    }

    /// Reads the bytes of the next frame; none at the end.
    async fn next_frame(&self, mut source: Source) -> Option<(Vec<u8>, Source)> {
        let read = move || {
            let frame = source.read_frame()?;
            Some((frame, source))
        };
        self.pool.run(read).await.ok().flatten()
    }
}

struct Source {
    blob: Blob,
    pieces: Pieces,
    /// The piece that did not fit the last frame.
    next: Option<Piece>,
}

impl Source {
    /// Blocks on the disk; `None` if it fails.
    fn read_frame(&mut self) -> Option<Vec<u8>> {
        let mut frame = Vec::with_capacity(DATA_BYTES_MAX);
        while let Some(piece) = self.next.take().or_else(|| self.pieces.next()) {
            let start = frame.len();
            if DATA_BYTES_MAX < start + piece.len() {
                self.next = Some(piece);
                break;
            }
            frame.resize(start + piece.len(), 0);
            let target = frame.get_mut(start..)?;
            let read = match &piece {
                Piece::Node { offset, .. } => self.blob.read_outboard_at(*offset, target),
                Piece::Group { offset, .. } => self.blob.read_at(*offset, target),
            };
            if read.ok()? != piece.len() {
                return None;
            }
        }
        Some(frame)
    }
}
