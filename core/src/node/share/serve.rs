//! The server's end of an exchange stream: reads requests, writes what the machine decides.
//!
//! Two halves run side by side: one reads requests, so that a `Cancel` is heard while groups are
//! being sent; the other carries out the jobs of the stream's outbox in their order. The disk is
//! read on the worker pool, one frame ahead of the transport.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use futures_lite::future;

use crate::base::{Blake3, NodeId};
use crate::node::executor::with_timeout;
use crate::node::share::held::Held;
use crate::node::share::hub::Hub;
use crate::node::share::server::{Job, Outbox};
use crate::proto::exchange::group::Piece;
use crate::proto::exchange::message::{Reply, Request, Want};
use crate::proto::exchange::presence::Presence;
use crate::proto::exchange::requests::Requests;
use crate::proto::exchange::serve::{Input, RETRY_AFTER_MS};

/// Bytes that are read from the transport at once; requests are small.
const BUFFER_BYTES: usize = 16 * 1_024;

/// A peer that takes no byte for so long loses its stream.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves one stream until it ends.
pub(crate) async fn run<S>(hub: Arc<Hub>, peer: NodeId, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (reader, mut writer) = stream.split();
    let outbox = hub.server.enter(peer);
    let served = Served {
        hub: hub.clone(),
        peer,
        outbox: outbox.clone(),
    };
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, reader);
    let write = async {
        // A peer that is gone, or too slow to be worth its place.
        let _ = served.write(&mut writer).await;
    };
    let ended = future::or(served.read(&mut reader), outbox.closed());
    future::or(write, ended).await;
    hub.server.leave(&outbox);
    let _ = with_timeout(STALL_TIMEOUT, writer.close()).await;
}

struct Served {
    hub: Arc<Hub>,
    peer: NodeId,
    outbox: Arc<Outbox>,
}

/// What the turns of a stream are read from.
#[derive(Default)]
struct Desk {
    /// The artifact of the last turn: requests are served in their order, so it is mostly that of
    /// the next one too. Kept only while there is work, because it cannot be evicted meanwhile.
    open: Option<(Blake3, Arc<Held>)>,
    /// Requests of which a turn could not be read: no later turn of them may be written.
    lost: BTreeSet<u32>,
}

/// A job whose bytes were read.
enum Ready {
    Reply(Vec<u8>),
    /// `None` if the disk refused.
    Frame(u32, Option<Vec<u8>>),
}

impl Served {
    async fn read(&self, reader: &mut (impl AsyncRead + Unpin)) {
        let mut requests = Requests::new();
        loop {
            let bytes = match reader.read(requests.space()).await {
                Ok(0) | Err(_) => return,
                Ok(bytes) => bytes,
            };
            match requests.advance(bytes) {
                Ok(None) => (),
                Ok(Some(request)) => {
                    self.request(request).await;
                    // Nothing more is read from a peer that does not take its answers.
                    self.outbox.has_room().await;
                }
                Err(error) => {
                    let reason = format!("exchange request: {error}");
                    return self.hub.peers.fault(self.peer, reason);
                }
            }
        }
    }

    async fn request(&self, request: Request) {
        let peer = self.peer;
        match request {
            Request::Cancel { id } => self.input(Input::Cancelled { peer, id }),
            Request::Get { id, want } => {
                let is_held = self.has(&want).await;
                self.input(Input::Requested {
                    peer,
                    id,
                    want,
                    is_held,
                });
            }
            Request::Have { id, roots } => {
                let is_free = self.outbox.may_ask(roots.len(), self.hub.server.now());
                self.outbox.reply(if is_free {
                    let answers = self.presence(roots).await;
                    Reply::Has { id, answers }
                } else {
                    let retry_after_ms = RETRY_AFTER_MS;
                    Reply::Busy { id, retry_after_ms }
                });
            }
        }
    }

    async fn presence(&self, roots: Vec<Blake3>) -> Vec<Presence> {
        let count = roots.len();
        if !self.hub.server.is_sharing() {
            return vec![Presence::None; count];
        }
        let hub = self.hub.clone();
        let look = move || roots.iter().map(|it| hub.presence(it)).collect();
        let answers = self.hub.pool.run(look).await;
        answers.unwrap_or_else(|_| vec![Presence::None; count])
    }

    /// Whether `want` is here and shared.
    async fn has(&self, want: &Want) -> bool {
        if !self.hub.server.is_sharing() {
            return false;
        }
        let (hub, want) = (self.hub.clone(), want.clone());
        self.hub.pool.run(move || hub.has(&want)).await == Ok(true)
    }

    async fn write(&self, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let mut desk = Desk::default();
        loop {
            let job = match self.outbox.pop() {
                Some(job) => job,
                None => {
                    desk.open = None;
                    stalling(writer.flush()).await?;
                    match self.outbox.next().await {
                        Some(job) => job,
                        None => return Ok(()),
                    }
                }
            };
            let mut ready = Some(self.load(job, &mut desk).await);
            while let Some(it) = ready {
                // The next frame is read while this one is sent.
                let load = async {
                    let job = self.outbox.pop()?;
                    Some(self.load(job, &mut desk).await)
                };
                let (sent, next) = future::zip(self.send(writer, it), load).await;
                sent?;
                ready = next;
            }
        }
    }

    async fn load(&self, job: Job, desk: &mut Desk) -> Ready {
        match job {
            Job::Reply(reply) => {
                // Before it is sent: then the peer may use the id again.
                if let Reply::End { id } | Reply::NotFound { id } = reply {
                    desk.lost.remove(&id);
                }
                Ready::Reply(reply.encode())
            }
            Job::Turn { id, root, pieces } => {
                let frame = if desk.lost.contains(&id) {
                    None
                } else {
                    self.frame(id, root, pieces, desk).await
                };
                if frame.is_none() {
                    desk.lost.insert(id);
                }
                Ready::Frame(id, frame)
            }
        }
    }

    /// Reads the pieces of a turn; `None` if the disk refuses or they are gone.
    async fn frame(
        &self,
        id: u32,
        root: Blake3,
        pieces: Vec<Piece>,
        desk: &mut Desk,
    ) -> Option<Vec<u8>> {
        let pieces: Arc<[Piece]> = pieces.into();
        loop {
            let open = desk.open.take().filter(|(it, _)| *it == root);
            let (hub, pieces) = (self.hub.clone(), pieces.clone());
            let read = move || {
                let held = match open {
                    Some((_, held)) => held,
                    None => Arc::new(hub.held(&root)?),
                };
                let frame = held.read_frame(id, &pieces).ok()?;
                Some((held, frame))
            };
            let (held, frame) = self.hub.pool.run(read).await.ok()??;
            match (frame, &*held) {
                (Some(frame), _) => {
                    desk.open = Some((root, held));
                    return Some(frame);
                }
                // It has arrived meanwhile, and can be read as soon as it is in the store.
                (None, Held::Arriving(arrival)) => arrival.ended().await.ok()?,
                (None, Held::Stored(_)) => return None,
            }
        }
    }

    async fn send(&self, writer: &mut (impl AsyncWrite + Unpin), ready: Ready) -> io::Result<()> {
        let peer = self.peer;
        match ready {
            Ready::Reply(bytes) => write_all(writer, &bytes).await,
            Ready::Frame(id, None) => {
                self.input(Input::Lost { peer, id });
                Ok(())
            }
            Ready::Frame(id, Some(bytes)) => {
                write_all(writer, &bytes).await?;
                self.hub.peers.sent(&peer, bytes.len() as u64);
                self.input(Input::Sent { peer, id });
                Ok(())
            }
        }
    }

    fn input(&self, input: Input<NodeId>) {
        self.hub.server.input(&self.outbox, input);
    }
}

/// Writes all of `bytes`, as long as the peer takes one now and then.
async fn write_all(writer: &mut (impl AsyncWrite + Unpin), mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = stalling(writer.write(bytes)).await?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(count..).unwrap_or_default();
    }
    Ok(())
}

async fn stalling<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let stalled = || Err(io::ErrorKind::TimedOut.into());
    with_timeout(STALL_TIMEOUT, step)
        .await
        .unwrap_or_else(stalled)
}
