//! The client's end of one exchange stream to a peer.
//!
//! One task reads replies and takes commands; verification happens while it reads. Verified pieces
//! go to the disk on the worker pool, a batch at a time, while the next batch is read. A slow peer
//! does not fill batches: what it sent is written after a moment, so that readers get it, and the
//! download sees that the peer delivers.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use async_io::Timer;
use futures::future::BoxFuture;
use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use futures_lite::future;

use crate::base::{Blake3, NodeId};
use crate::net::NetHandle;
use crate::node::executor::Pool;
use crate::node::share::arrival::Arrival;
use crate::node::share::fetch::FetchError;
use crate::node::share::hub::Peers;
use crate::proto::exchange::arrival::{Arrival as Reply, Fault};
use crate::proto::exchange::message::{Request, Want};
use crate::proto::exchange::presence::Presence;
use crate::proto::exchange::replies::Replies;
use crate::proto::exchange::verify::Verified;

/// Commands that wait for the lane; senders wait above that.
pub(crate) const COMMANDS_MAX: usize = 64;

/// Bytes that are read from the transport at once.
const BUFFER_BYTES: usize = 256 * 1_024;

/// Verified bytes that are handed to the disk at once.
const BATCH_BYTES: usize = 1 << 20;

/// Verified bytes wait no longer than this for the batch to become full.
const BATCH_DELAY: Duration = Duration::from_millis(50);

/// What the lane is asked to do.
pub(crate) enum Command {
    /// Fetch groups.
    Get {
        /// The asker's number of the request.
        id: u64,
        /// What.
        want: Want,
        /// Where they go.
        arrival: Arc<Arrival>,
        /// Who hears of it.
        report: Reports,
    },
    /// Stop a request.
    Cancel {
        /// The artifact.
        root: Blake3,
        /// The asker's number of the request.
        id: u64,
    },
    /// Ask what the peer has.
    Have {
        /// The artifacts.
        roots: Vec<Blake3>,
        /// Gets one answer each.
        answer: Sender<(NodeId, Vec<Presence>)>,
    },
}

/// Who hears of a request.
pub(crate) type Reports = Sender<(NodeId, Report)>;

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Report {
    /// Groups were verified and written.
    Arrived {
        id: u64,
        groups: std::ops::Range<u64>,
        /// Bytes that were not here before.
        fresh: u64,
    },
    /// The request ended.
    Ended { id: u64 },
    /// The peer has not what was asked for.
    NotFound { id: u64 },
    /// The peer has too much to do.
    Busy { id: u64, retry_after: Duration },
    /// The peer sent what does not belong; the lane is closed.
    Refused { fault: Fault },
    /// The lane is gone.
    Gone,
    /// Our own disk failed.
    Disk { error: FetchError },
}

struct Open {
    id: u64,
    root: Blake3,
    arrival: Arc<Arrival>,
    report: Reports,
    /// Pieces that are verified and not yet written.
    pieces: Vec<Verified<Vec<u8>>>,
    bytes: usize,
}

/// Opens a stream to `peer` and runs a lane over it until the stream or the commands end.
pub(crate) async fn run(
    peer: NodeId,
    net: NetHandle,
    commands: Receiver<Command>,
    pool: Pool,
    peers: Arc<Peers>,
) {
    let Ok(stream) = net.open(peer).await else {
        commands.close();
        return give_up(peer, &commands, || Report::Gone).await;
    };
    let (reader, writer) = stream.split();
    let mut lane = Lane {
        peer,
        writer,
        replies: Replies::new(),
        open: BTreeMap::new(),
        asked: BTreeMap::new(),
        next_id: 0,
        writing: None,
        due: None,
        pool,
        peers,
    };
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, reader);
    let fault = lane.run(&mut reader, &commands).await;
    commands.close();
    lane.end(&commands, fault).await;
}

struct Lane<W> {
    peer: NodeId,
    writer: W,
    replies: Replies,
    open: BTreeMap<u32, Open>,
    asked: BTreeMap<u32, Sender<(NodeId, Vec<Presence>)>>,
    next_id: u32,
    /// The batch that is being written, and who hears of it.
    writing: Option<BoxFuture<'static, (Reports, Report)>>,
    /// When the pieces that wait for a full batch are written at the latest.
    due: Option<Timer>,
    pool: Pool,
    peers: Arc<Peers>,
}

enum Turn {
    Read(io::Result<usize>),
    Command(Option<Command>),
    Written(Reports, Report),
    Due,
}

impl<W: AsyncWrite + Unpin> Lane<W> {
    /// Returns the peer's fault if that is what ended it.
    async fn run(
        &mut self,
        reader: &mut (impl AsyncRead + Unpin),
        commands: &Receiver<Command>,
    ) -> Option<Fault> {
        loop {
            match self.turn(reader, commands).await {
                Turn::Command(Some(command)) => self.command(command).await.ok()?,
                Turn::Command(None) | Turn::Read(Ok(0) | Err(_)) => return None,
                Turn::Written(to, report) => {
                    self.writing = None;
                    let _ = to.send((self.peer, report)).await;
                }
                Turn::Due => self.write_all().await,
                Turn::Read(Ok(bytes)) => {
                    let reply = match self.replies.advance(bytes) {
                        Ok(reply) => reply,
                        Err(fault) => return Some(fault),
                    };
                    self.peers.pace_download(&self.peer, bytes as u64).await;
                    if let Some(reply) = reply {
                        self.reply(reply).await;
                    }
                }
            }
        }
    }

    async fn turn(
        &mut self,
        reader: &mut (impl AsyncRead + Unpin),
        commands: &Receiver<Command>,
    ) -> Turn {
        let read = async { Turn::Read(reader.read(self.replies.space()).await) };
        let command = async { Turn::Command(commands.recv().await.ok()) };
        let written = async {
            match &mut self.writing {
                Some(writing) => {
                    let (to, report) = writing.await;
                    Turn::Written(to, report)
                }
                None => future::pending().await,
            }
        };
        let due = async {
            match &mut self.due {
                Some(timer) => {
                    timer.await;
                    Turn::Due
                }
                None => future::pending().await,
            }
        };
        // Before the reading: a fast peer always has something to read.
        future::or(future::or(command, written), future::or(due, read)).await
    }

    async fn command(&mut self, command: Command) -> io::Result<()> {
        let request = match command {
            Command::Get {
                id,
                want,
                arrival,
                report,
            } => {
                let wire = self.next_id();
                if self.replies.open_get(wire, &want).is_err() {
                    let _ = report.send((self.peer, Report::NotFound { id })).await;
                    return Ok(());
                }
                let root = want.root;
                let open = Open {
                    id,
                    root,
                    arrival,
                    report,
                    pieces: Vec::new(),
                    bytes: 0,
                };
                self.open.insert(wire, open);
                Request::Get { id: wire, want }
            }
            Command::Cancel { root, id } => {
                let found = self
                    .open
                    .iter()
                    .find(|(_, it)| it.root == root && it.id == id);
                let Some(wire) = found.map(|(wire, _)| *wire) else {
                    return Ok(());
                };
                self.replies.cancel(wire);
                Request::Cancel { id: wire }
            }
            Command::Have { roots, answer } => {
                let wire = self.next_id();
                if self.replies.open_have(wire, roots.len()).is_err() {
                    return Ok(());
                }
                self.asked.insert(wire, answer);
                Request::Have { id: wire, roots }
            }
        };
        self.writer.write_all(&request.encode()).await?;
        self.writer.flush().await
    }

    fn next_id(&mut self) -> u32 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }

    async fn reply(&mut self, reply: Reply) {
        match reply {
            Reply::Verified { id, piece } => {
                let Some(open) = self.open.get_mut(&id) else {
                    return;
                };
                if let Verified::Group(group) = &piece {
                    open.bytes += group.bytes().len();
                }
                open.pieces.push(piece);
                if BATCH_BYTES <= open.bytes {
                    self.write(id).await;
                } else if self.due.is_none() {
                    self.due = Some(Timer::after(BATCH_DELAY));
                }
            }
            Reply::End { id } => {
                self.write(id).await;
                self.settle().await;
                self.close(id, |id| Report::Ended { id }).await;
            }
            Reply::NotFound { id } => {
                self.asked.remove(&id);
                self.close(id, |id| Report::NotFound { id }).await;
            }
            Reply::Busy { id, retry_after } => {
                self.asked.remove(&id);
                self.close(id, |id| Report::Busy { id, retry_after }).await;
            }
            Reply::Has { id, answers } => {
                if let Some(answer) = self.asked.remove(&id) {
                    let _ = answer.send((self.peer, answers)).await;
                }
            }
        }
    }

    /// Hands the verified pieces of all requests to the disk.
    async fn write_all(&mut self) {
        self.due = None;
        let waiting = self.open.iter().filter(|(_, it)| !it.pieces.is_empty());
        let waiting: Vec<u32> = waiting.map(|(wire, _)| *wire).collect();
        for wire in waiting {
            self.write(wire).await;
        }
    }

    /// Hands the verified pieces of a request to the disk, as soon as the batch before is written.
    async fn write(&mut self, wire: u32) {
        self.settle().await;
        let Some(open) = self.open.get_mut(&wire) else {
            return;
        };
        let pieces = std::mem::take(&mut open.pieces);
        let bytes = std::mem::take(&mut open.bytes) as u64;
        let groups: Vec<u64> = pieces
            .iter()
            .filter_map(|it| match it {
                Verified::Group(group) => Some(group.index()),
                Verified::Node(_) => None,
            })
            .collect();
        let (Some(first), Some(last)) = (groups.first(), groups.last()) else {
            open.pieces = pieces; // Proof alone: it is written with what it proves.
            return;
        };
        let count = groups.len() as u64;
        let (id, groups, to) = (open.id, *first..*last + 1, open.report.clone());
        let (arrival, pool) = (open.arrival.clone(), self.pool.clone());
        let (peer, peers) = (self.peer, self.peers.clone());
        self.writing = Some(Box::pin(async move {
            let written = pool.run(move || arrival.write(pieces)).await;
            let report = match written {
                Ok(Ok(fresh)) => {
                    peers.received(&peer, bytes);
                    peers.tally.groups.add(count);
                    Report::Arrived { id, groups, fresh }
                }
                Ok(Err(error)) => Report::Disk {
                    error: error.into(),
                },
                Err(error) => Report::Disk {
                    error: FetchError::Store(error.to_string()),
                },
            };
            (to, report)
        }));
    }

    /// Waits for the batch that is being written.
    async fn settle(&mut self) {
        if let Some(writing) = self.writing.take() {
            let (to, report) = writing.await;
            let _ = to.send((self.peer, report)).await;
        }
    }

    async fn close(&mut self, wire: u32, report: impl FnOnce(u64) -> Report) {
        if let Some(open) = self.open.remove(&wire) {
            let _ = open.report.send((self.peer, report(open.id))).await;
        }
    }

    /// Tells everybody who waits that nothing more comes.
    async fn end(mut self, commands: &Receiver<Command>, fault: Option<Fault>) {
        if let Some(fault) = &fault {
            self.peers.refused(&self.peer, fault);
        }
        // What was verified before the end is as good as all else.
        self.write_all().await;
        self.settle().await;
        let report = || match &fault {
            Some(fault) => Report::Refused {
                fault: fault.clone(),
            },
            None => Report::Gone,
        };
        for open in std::mem::take(&mut self.open).into_values() {
            let _ = open.report.send((self.peer, report())).await;
        }
        give_up(self.peer, commands, report).await;
        let _ = self.writer.close().await;
    }
}

/// Answers the commands that nobody will carry out.
async fn give_up(peer: NodeId, commands: &Receiver<Command>, report: impl Fn() -> Report) {
    while let Ok(command) = commands.try_recv() {
        if let Command::Get { report: to, .. } = command {
            let _ = to.send((peer, report())).await;
        }
    }
}
