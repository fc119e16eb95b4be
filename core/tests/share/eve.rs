//! A node that passes the handshake and then lies: the real transport, wire and digests.

use std::ops::Range;
use std::sync::Arc;

use async_channel::Sender;
use futures::io::{AsyncReadExt, AsyncWriteExt};
use kogge::base::{BlockId, SecretKey, Time};
use kogge::net::{self, Net, NetEvent, NetHandle, Protocol, Stream};
use kogge::node::executor::Threads;
use kogge::proto::exchange::group::{Piece, Pieces, group_count};
use kogge::proto::exchange::message::{DATA_BYTES_MAX, Reply, Request, Want};
use kogge::proto::exchange::outboard::OutboardBuilder;
use kogge::proto::exchange::presence::Presence;
use kogge::proto::exchange::requests::Requests;
use kogge::proto::hello::{Chain, Effect, Handshakes, Input, Local, Message, Role, Tip};
use kogge::{Blake3, Genesis, NodeId};

/// How eve lies about an artifact that she has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lie {
    /// One bit of one group is another.
    FlippedBit,
    /// Groups of another artifact of the log, of the same length, with their valid proof.
    OtherArtifact,
    /// The groups after those that were asked for, with their valid proof.
    OtherOffset,
    /// A proof without its first node.
    TruncatedProof,
    /// All is well, but it ends before its end.
    TruncatedData,
    /// The artifact as if it were half as long, with a valid proof of that.
    OtherSize,
    /// Groups that nobody asked for, behind an answer.
    Unrequested,
    /// Groups that nobody asked for, over a stream of her own.
    Pushed,
    /// No answer.
    Silence,
    /// Her artifact as an honest peer would give it, and no answer for others.
    FirstOnly,
    /// A tenth, and then nothing.
    Tenth,
    /// She said that she has it, and has not.
    Nothing,
}

pub(crate) struct Eve {
    pub(crate) id: NodeId,
    net: NetHandle,
    threads: Option<Threads>,
    /// Something was asked of her.
    pub(crate) asked: async_channel::Receiver<Want>,
    /// She was asked whether she has something.
    pub(crate) wondered: async_channel::Receiver<Blake3>,
    loot: Arc<Loot>,
}

/// The name of the package whose artifact [`Lie::OtherArtifact`] sends.
pub(crate) const OTHER: &str = "other";

/// What eve has.
struct Loot {
    lie: Lie,
    data: Arc<Vec<u8>>,
    other: Vec<u8>,
    asked: Sender<Want>,
    wondered: Sender<Blake3>,
}

impl Eve {
    /// Connects to `victim` and offers `data`.
    pub(crate) fn start(genesis: &Genesis, victim: &str, lie: Lie, data: Arc<Vec<u8>>) -> Self {
        let seed = [lie as u8 + 1; 32];
        let key = SecretKey::from_seed(seed);
        let (threads, tasks) = Threads::start(1).unwrap();
        let config = net::Config::new(genesis.chain(), 7);
        let (net, events) = Net::start(config, &key, tasks.net()).unwrap();
        net.dial(victim.parse().unwrap(), None).unwrap();
        let (asked_out, asked) = async_channel::bounded(1_024);
        let (wondered_out, wondered) = async_channel::bounded(1_024);
        let loot = Arc::new(Loot {
            lie,
            other: crate::upstream::noise(&format!("{OTHER}.jar"), data.len()),
            data,
            asked: asked_out,
            wondered: wondered_out,
        });
        let local = Local {
            node: key.public(),
            chain: genesis.chain(),
            role: Role::Full,
            authorized: false,
            agent: "eve/1".into(),
            listen: Vec::new(),
        };
        let (handle, spawner, served) = (net.clone(), tasks.clone(), loot.clone());
        tasks.spawn(async move {
            let mut hello = Handshakes::new(local, 9);
            while let Ok(event) = events.recv().await {
                let input = match event {
                    NetEvent::Connected { peer, .. } => Input::Connected { peer, refuse: None },
                    NetEvent::Frame {
                        peer,
                        protocol: Protocol::Hello,
                        bytes,
                    } => match Message::from_bytes(&bytes) {
                        Ok(message) => Input::Received { peer, message },
                        Err(_) => continue,
                    },
                    NetEvent::Inbound { stream, .. } => {
                        spawner.spawn(serve(stream, served.clone()));
                        continue;
                    }
                    _ => continue,
                };
                let mut effects = Vec::new();
                hello.handle(&Empty, Time::ZERO, input, &mut effects);
                for effect in effects {
                    if let Effect::Send { peer, message } = effect {
                        let _ = handle.send(peer, Protocol::Hello, message.to_bytes());
                    }
                }
            }
        });
        Self {
            id: key.public(),
            net,
            threads: Some(threads),
            asked,
            wondered,
            loot,
        }
    }

    /// Sends `peer` all that she has, over a stream that she opens.
    pub(crate) async fn push(&self, peer: NodeId) {
        let mut stream = self.net.open(peer).await.unwrap();
        // Whether it takes all of it is up to the other side.
        let _ = stream.write_all(&data(1, &self.loot.data)).await;
        let _ = stream.flush().await;
    }

    pub(crate) async fn stop(mut self) {
        self.net.shutdown().await;
        self.threads.take().unwrap().stop();
    }
}

/// A chain without a block.
struct Empty;

impl Chain for Empty {
    fn tip(&self) -> Tip {
        let id = BlockId([0; 32]);
        Tip { height: 0, id }
    }

    fn id_at(&self, _: u64) -> Option<BlockId> {
        None
    }

    fn base(&self) -> u64 {
        1
    }
}

async fn serve(mut stream: Stream, loot: Arc<Loot>) {
    let mut requests = Requests::new();
    loop {
        let bytes = match stream.read(requests.space()).await {
            Ok(0) | Err(_) => return,
            Ok(bytes) => bytes,
        };
        let Ok(request) = requests.advance(bytes) else {
            return;
        };
        let Some(request) = request else { continue };
        let answer = loot.answer(request);
        if stream.write_all(&answer).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

impl Loot {
    fn answer(&self, request: Request) -> Vec<u8> {
        if let Request::Have { roots, .. } = &request {
            for root in roots {
                let _ = self.wondered.try_send(*root);
            }
        }
        match request {
            Request::Cancel { id } => Reply::End { id }.encode(),
            Request::Have { id, roots } if self.lie == Lie::Unrequested => {
                let answers = vec![Presence::Whole; roots.len()];
                let has = Reply::Has { id, answers }.encode();
                [has, data(id + 1_000, &self.data)].concat()
            }
            Request::Have { id, roots } => {
                let answers = vec![Presence::Whole; roots.len()];
                Reply::Has { id, answers }.encode()
            }
            Request::Get { id, want } => {
                let _ = self.asked.try_send(want.clone());
                if self.lie == Lie::FirstOnly && want.root == Blake3::of(&self.data) {
                    let end = Reply::End { id }.encode();
                    return [data(id, &proven(&self.data, want.groups)), end].concat();
                }
                self.groups(id, want.groups)
            }
        }
    }

    fn groups(&self, id: u32, groups: Range<u64>) -> Vec<u8> {
        let count = group_count(self.data.len() as u64);
        let right = proven(&self.data, groups.clone());
        let end = Reply::End { id }.encode();
        match self.lie {
            Lie::FlippedBit => {
                let mut wrong = right;
                let last = wrong.len() - 9;
                wrong[last] ^= 4;
                [data(id, &wrong), end].concat()
            }
            Lie::OtherArtifact => [data(id, &proven(&self.other, groups)), end].concat(),
            Lie::OtherOffset => {
                let shifted = groups.start + 1..(groups.end + 1).min(count);
                [data(id, &proven(&self.data, shifted)), end].concat()
            }
            Lie::TruncatedProof => [data(id, &right[64..]), end].concat(),
            Lie::TruncatedData => [data(id, &right[..right.len() - 64]), end].concat(),
            Lie::OtherSize => {
                let half = &self.data[..self.data.len() / 2];
                let groups = 0..group_count(half.len() as u64);
                [data(id, &proven(half, groups)), end].concat()
            }
            Lie::Tenth => data(id, &right[..right.len() / 10]),
            Lie::Silence | Lie::FirstOnly | Lie::Unrequested | Lie::Pushed => Vec::new(),
            Lie::Nothing => Reply::NotFound { id }.encode(),
        }
    }
}

/// Groups of `content` with their proof, as an honest server sends them.
fn proven(content: &[u8], groups: Range<u64>) -> Vec<u8> {
    let (mut builder, mut outboard) = (OutboardBuilder::new(), Vec::new());
    builder.update(content, &mut outboard).unwrap();
    builder.finish(&mut outboard);
    let pieces = Pieces::new(content.len() as u64, &groups).unwrap();
    let read = |piece: Piece| {
        let (source, offset) = match piece {
            Piece::Node { offset, .. } => (&outboard[..], offset),
            Piece::Group { offset, .. } => (content, offset),
        };
        let start = usize::try_from(offset).unwrap();
        source[start..start + piece.len()].to_vec()
    };
    pieces.flat_map(read).collect()
}

fn data(id: u32, bytes: &[u8]) -> Vec<u8> {
    let frame = |part: &[u8]| {
        let bytes = u32::try_from(part.len()).unwrap();
        [Reply::Data { id, bytes }.encode(), part.to_vec()].concat()
    };
    bytes.chunks(DATA_BYTES_MAX).flat_map(frame).collect()
}
