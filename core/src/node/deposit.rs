//! Where pipelines put what they fetch: straight into the store.

use std::io;
use std::sync::Arc;

use async_channel::Sender;

use crate::base::{Sha256, Time};
use crate::node::attested::Attested;
use crate::node::clock::Clock;
use crate::node::origin::{OriginRecord, UPSTREAM};
use crate::node::pipeline::{Deposit, DepositWriter, Digests, Stored};
use crate::node::share::Peers;
use crate::node::share::keep::{self, News};
use crate::proto::build::BuildId;
use crate::proto::exchange::outboard::OutboardBuilder;
use crate::store::{Meta, Store, UnnamedStaging};

/// Fetched bytes go straight into the store, and stay at least until the build is over.
pub(crate) struct BlobDeposit {
    pub(crate) store: Arc<Store>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) clock: Clock,
    pub(crate) news: Sender<News>,
    pub(crate) build: BuildId,
    pub(crate) attested: Arc<Attested>,
}

struct BlobWriter {
    staging: UnnamedStaging,
    outboard: OutboardBuilder,
    nodes: Vec<u8>,
    nodes_at: u64,
    at: u64,
    peers: Arc<Peers>,
    clock: Clock,
    begun: Time,
    news: Sender<News>,
    meta: Meta,
    build: BuildId,
    attested: Arc<Attested>,
}

impl Deposit for BlobDeposit {
    fn has(&self, sha256: &Sha256) -> Option<Stored> {
        let blobs = self.store.blobs();
        let blake3 = blobs.by_sha256(sha256).ok().flatten()?;
        self.attested.hold(self.build, blake3);
        // What is being evicted right now cannot be opened.
        let size = blobs.open(&blake3).ok().flatten()?.size();
        Some(Stored { blake3, size })
    }

    fn begin(&self, size_hint: Option<u64>) -> io::Result<Box<dyn DepositWriter>> {
        let staging = self.store.blobs().begin_unnamed(size_hint.unwrap_or(0));
        Ok(Box::new(BlobWriter {
            staging: staging.map_err(|it| self.attested.refused(&it))?,
            outboard: OutboardBuilder::new(),
            nodes: Vec::new(),
            nodes_at: 0,
            at: 0,
            peers: self.peers.clone(),
            clock: self.clock,
            begun: self.clock.now(),
            news: self.news.clone(),
            meta: self.store.meta().clone(),
            build: self.build,
            attested: self.attested.clone(),
        }))
    }
}

impl BlobWriter {
    fn write_nodes(&mut self) -> io::Result<()> {
        self.staging
            .write_outboard_at(self.nodes_at, &self.nodes)
            .map_err(|it| self.attested.refused(&it))?;
        self.nodes_at += self.nodes.len() as u64;
        self.nodes.clear();
        Ok(())
    }
}

impl DepositWriter for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.staging
            .write_at(self.at, bytes)
            .map_err(|it| self.attested.refused(&it))?;
        self.at += bytes.len() as u64;
        self.outboard
            .update(bytes, &mut self.nodes)
            .map_err(|_| io::Error::other("the file is larger than any artifact may be"))?;
        self.peers.took_upstream(bytes.len() as u64);
        self.write_nodes()
    }

    fn finish(mut self: Box<Self>, digests: &Digests) -> io::Result<()> {
        let hashed = std::mem::take(&mut self.outboard).finish(&mut self.nodes);
        self.write_nodes()?;
        if hashed.root() != digests.blake3 || hashed.size() != digests.size {
            return Err(io::Error::other("the file changed while it was stored"));
        }
        let (root, size) = (digests.blake3, digests.size);
        let sources = vec![(UPSTREAM.to_owned(), size)];
        let origin = OriginRecord::new(&self.clock, self.begun, sources);
        let Self {
            staging,
            news,
            meta,
            build,
            attested,
            ..
        } = *self;
        keep::note(&meta, &root, &origin);
        attested.hold(build, root);
        staging
            .finish(root, digests.sha256, size)
            .map_err(|it| attested.refused(&it))?;
        // Waiting could take the threads that the keeper needs.
        let _ = news.try_send(News::Stored(root));
        Ok(())
    }
}
