//! What the tests of this layer share: a chain of blocks that fit, and a disk that fails on
//! command.

use std::io;
use std::sync::{Arc, Mutex};

use crate::base::{Blake3, BlockId, NodeId, PublicKey, Sha256, WallTime};
use crate::proto::chain::block::{Block, Certificate, Header};
use crate::proto::log::entry::{AddArtifact, BindTag, Entry, Seal, Source};
use crate::proto::log::tree::{Frontier, leaf_hash};
use crate::store::disk::{Faults, Step};
use crate::store::recover::{Options, Recovery, Store};

/// Makes blocks that follow one another.
#[derive(Clone, Default)]
pub(crate) struct Maker {
    frontier: Frontier,
    tip: Option<(u64, BlockId)>,
}

impl Maker {
    /// The next block with `entries`, and a certificate (whose signatures nobody checks here).
    pub(crate) fn block(&mut self, entries: &[Entry]) -> (Block, Certificate) {
        let (height, parent) = self.tip.unwrap_or((0, BlockId([0; 32])));
        let seal = Seal {
            height: height + 1,
            parent,
            time: WallTime::from_millis((height + 1) * 1_000),
            members: Sha256([0; 32]),
            next_members: Sha256([u8::from(height % 5 == 4); 32]),
            first_index: self.frontier.size(),
            count: entries.len() as u64 + 1,
            index_root: Sha256([0; 32]),
            evidence: Blake3([0; 32]),
        };
        let entries: Vec<_> = entries.iter().map(Entry::to_bytes).collect();
        for leaf in &entries {
            self.frontier.push(leaf_hash(leaf));
        }
        let last = Entry::Seal(seal.clone()).to_bytes();
        self.frontier.push(leaf_hash(&last));
        let header = Header {
            seal,
            size: self.frontier.size(),
            root: self.frontier.root(),
        };
        self.tip = Some((height + 1, header.id()));
        let certificate = Certificate {
            height: height + 1,
            round: 0,
            block: header.id(),
            signatures: Vec::new(),
        };
        let entries = entries.into_iter().map(Into::into).collect();
        (Block { header, entries }, certificate)
    }

    /// Appends the next block to `store`.
    pub(crate) fn append(&mut self, store: &Store, entries: &[Entry]) -> Block {
        let (block, certificate) = self.block(entries);
        store
            .chain()
            .append_and_wait(&block, &certificate, state(&block))
            .unwrap();
        block
    }
}

/// A state of the rules that differs for each block.
pub(crate) fn state(block: &Block) -> Vec<u8> {
    format!("state {}", block.height()).into_bytes()
}

/// Node number `it`.
pub(crate) fn node(it: u8) -> NodeId {
    PublicKey([it; 32])
}

/// An artifact that differs for each `purl` and `file`.
pub(crate) fn artifact(purl: &str, file: &str) -> AddArtifact {
    let bytes = format!("{purl} {file}");
    AddArtifact {
        purl: purl.into(),
        file: file.into(),
        blake3: Blake3::of(bytes.as_bytes()),
        sha256: Sha256::of(bytes.as_bytes()),
        digests: vec![],
        size: bytes.len() as u64,
        media_type: "application/java-archive".into(),
        source: Source::fetched("repo.test/maven2"),
        dependencies: None,
        builder: node(1),
        publication: None,
        time: WallTime::from_millis(7),
    }
}

/// An artifact as an entry.
pub(crate) fn add(purl: &str, file: &str) -> Entry {
    Entry::AddArtifact(Box::new(artifact(purl, file)))
}

/// A binding as an entry.
pub(crate) fn bind(tag: &str, digest: u8) -> Entry {
    Entry::BindTag(BindTag {
        registry: "registry.test".into(),
        repository: "library/alpine".into(),
        tag: tag.into(),
        digest: Sha256([digest; 32]),
        builder: node(2),
        time: WallTime::from_millis(7),
    })
}

/// Options for a small store.
pub(crate) fn options() -> Options {
    Options {
        reserve_bytes: 0,
        map_bytes: 1 << 30,
        ..Options::default()
    }
}

/// Opens the store in `dir`.
pub(crate) fn open(dir: &std::path::Path) -> (Store, Recovery) {
    Store::open(dir, options()).unwrap()
}

/// In which sense a step fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sense {
    /// Not persisted, reported as failed.
    Before,
    /// Persisted, but reported as failed.
    After,
}

/// A disk whose next `step` fails, once; everything after an armed failure works again, like a
/// disk that drops a write.
#[derive(Default)]
pub(crate) struct Failing {
    armed: Mutex<Option<(Step, Sense, i32)>>,
}

impl Failing {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Options for a small store on this disk.
    pub(crate) fn options(self: &Arc<Self>) -> Options {
        Options {
            faults: Some(Arc::clone(self) as Arc<dyn Faults>),
            ..options()
        }
    }

    /// Lets the next `step` fail with EIO.
    pub(crate) fn arm(&self, step: Step, sense: Sense) {
        *self.armed.lock().unwrap() = Some((step, sense, libc::EIO));
    }

    /// Lets the next `step` fail with ENOSPC.
    pub(crate) fn arm_full(&self, step: Step, sense: Sense) {
        *self.armed.lock().unwrap() = Some((step, sense, libc::ENOSPC));
    }

    /// Whether the armed failure has not happened.
    pub(crate) fn is_armed(&self) -> bool {
        self.armed.lock().unwrap().is_some()
    }

    fn at(&self, step: Step, sense: Sense) -> io::Result<()> {
        let mut armed = self.armed.lock().unwrap();
        match *armed {
            Some((it, when, code)) if (it, when) == (step, sense) => {
                *armed = None;
                Err(io::Error::from_raw_os_error(code))
            }
            _ => Ok(()),
        }
    }
}

impl Faults for Failing {
    fn before(&self, step: Step) -> io::Result<()> {
        self.at(step, Sense::Before)
    }

    fn after(&self, step: Step) -> io::Result<()> {
        self.at(step, Sense::After)
    }
}
