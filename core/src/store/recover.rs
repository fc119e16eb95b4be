//! Opening the store, and what the start does with each half-finished state.
//!
//! | found | means | done |
//! |---|---|---|
//! | no `schema` | killed while creating the directory | created anew |
//! | index does not open, or is ahead of the log | crash in the rebuildable part | deleted, rebuilt |
//! | provider records do not open, or cannot be read | crash in what may be lost | deleted, reported |
//! | log does not contain the signed head | the database lost what was promised | refused |
//! | record without file, or of another length | the file was damaged from outside | record removed, reported |
//! | artifact file without record | killed between rename and commit, or during a removal | file removed |
//! | staging file without record | killed before the first checkpoint | file removed |
//! | staging record without file | killed between rename and commit | record removed |
//! | staging record and file | killed while receiving | resumed by the next `begin` |

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use heed::EnvFlags;

use crate::base::Blake3;
use crate::store::blobs::{Blobs, Inner};
use crate::store::chain::Chain;
use crate::store::disk::{self, Disk, Faults};
use crate::store::env::{self, DataDir, Environment, MAP_BYTES};
use crate::store::error::StoreError;
use crate::store::index::Index;
use crate::store::meta::Meta;
use crate::store::providers::{self, GATHER_TIME, Providers};
use crate::store::record::PartialRecord;
use crate::store::tables::LogTables;
use crate::store::tail::Tail;
use crate::store::wal::Wal;
use crate::store::writer::Writer;

/// Most lost artifacts that are named in [`Recovery::lost`].
pub const LOST_MAX: usize = 1_000;

/// How to open a store.
#[derive(Clone)]
pub struct Options {
    /// The most that artifacts may take. Unit: bytes. Any value; default 50 GiB.
    pub quota_bytes: u64,
    /// Room on the disk that artifacts leave to the log. Unit: bytes. Any value; default 256 MiB.
    pub reserve_bytes: u64,
    /// Largest size of each database, a multiple of 64 KiB; costs address space, not memory or
    /// disk, and is less where that is limited. Unit: bytes. Default 64 GiB.
    pub map_bytes: usize,
    /// Makes the disk fail, in tests.
    pub faults: Option<Arc<dyn Faults>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            quota_bytes: 50 << 30,
            reserve_bytes: 256 << 20,
            map_bytes: MAP_BYTES,
            faults: None,
        }
    }
}

/// What the start found and mended.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Recovery {
    /// The index was unusable and is being rebuilt; queries are incomplete until then and say so.
    pub is_index_rebuilt: bool,
    /// The provider records of other nodes were unusable and are gone; holders renew them.
    pub are_providers_lost: bool,
    /// Artifacts that were recorded but damaged; at most [`LOST_MAX`] are named. Fetch them again.
    pub lost: Vec<Blake3>,
    /// Number of those.
    pub lost_count: u64,
    /// Files removed because nothing was recorded about them.
    pub garbage_files: u64,
    /// Artifacts that [`Blobs::begin`] can resume.
    pub resumable: u64,
}

/// Everything a node keeps on disk. `Send` and `Sync`: share it in an `Arc`.
///
/// Dropping it writes what is queued and stops its threads; the directory stays locked until the
/// last [`Chain`], [`Blobs`] and so on from it is dropped, too.
pub struct Store {
    chain: Chain,
    index: Index,
    blobs: Blobs,
    meta: Meta,
    providers: Providers,
    env: Arc<Environment>,
}

impl Store {
    /// Opens or creates the data directory `dir`. Blocks; with 100,000 artifacts about a second.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`] if another node has it open, [`StoreError::Schema`] if another
    /// version wrote it, [`StoreError::Corrupt`] if the log is damaged.
    pub fn open(dir: &Path, options: Options) -> Result<(Self, Recovery), StoreError> {
        let mut recovery = Recovery::default();
        let disk = Disk::new(options.faults);
        let dir = Arc::new(DataDir::open(dir, &disk)?);
        let map_bytes = env::fit_maps(2, options.map_bytes, providers::MAP_BYTES);
        let (env, tables) = Environment::open(
            &dir,
            "log",
            map_bytes,
            EnvFlags::empty(),
            LogTables::NAMES,
            &disk,
        )?;
        let (env, tables) = (Arc::new(env), LogTables::new(tables));
        let writer = Arc::new(Writer::start(Arc::clone(&env))?);
        let tail = Arc::new(Tail::new());
        let chain = Chain::open(&env, tables, &writer, &tail)?;
        let (index, is_rebuilt) = Index::open(&dir, map_bytes, &disk, &chain, &tail)?;
        recovery.is_index_rebuilt = is_rebuilt;
        let (providers, are_lost) = Providers::open(&dir, &disk, GATHER_TIME)?;
        recovery.are_providers_lost = are_lost;
        let (quota, reserve) = (options.quota_bytes, options.reserve_bytes);
        let blobs = Blobs::new(&env, tables, &writer, quota, reserve)?;
        blobs.0.recover(&mut recovery)?;
        let meta = Meta::new(&env, tables, &writer);
        let store = Self {
            chain,
            index,
            blobs,
            meta,
            providers,
            env,
        };
        Ok((store, recovery))
    }

    /// Blocks, certificates, the log.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Queries over the log.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Artifacts.
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Small values of other modules.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Provider records of other nodes.
    pub fn providers(&self) -> &Providers {
        &self.providers
    }

    /// Opens the consensus journal; only one can be open at a time. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError::Busy`] if it is open already.
    pub fn open_wal(&self) -> Result<Wal, StoreError> {
        Wal::open(&self.env)
    }

    /// The data directory.
    pub fn dir(&self) -> &Path {
        self.env.dir()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // What is lost here is only the order of eviction.
        drop(self.blobs.write_touches());
    }
}

impl Inner {
    fn recover(&self, recovery: &mut Recovery) -> Result<(), StoreError> {
        self.recover_staging(recovery)?;
        self.recover_records(recovery)?;
        self.remove_garbage(recovery)
    }

    fn recover_staging(&self, recovery: &mut Recovery) -> Result<(), StoreError> {
        let mut gone = Vec::new();
        let txn = self.env.read()?;
        for row in self.tables.partial.iter(&txn)? {
            let (key, value) = row?;
            let digest = key.try_into().map(Blake3);
            let record = PartialRecord::from_bytes(value);
            match (digest, record) {
                (Ok(digest), Ok(record)) if has_len(&self.part_path(&digest), record.size) => {
                    self.ledger().add_idle(digest, record.size);
                    recovery.resumable += 1;
                }
                _ => gone.push(key.to_vec()),
            }
        }
        drop(txn);
        if !gone.is_empty() {
            let tables = self.tables;
            self.writer.write(0, move |txn| {
                for key in &gone {
                    tables.partial.delete(txn, key)?;
                }
                Ok(())
            })?;
        }
        for path in files_in(&self.staging)? {
            let digest = path.file_stem().and_then(|it| it.to_str());
            let digest = digest.and_then(Blake3::from_hex);
            if !digest.is_some_and(|it| self.ledger().is_idle(&it)) {
                disk::remove_if_any(&path)?;
                recovery.garbage_files += 1;
            }
        }
        Ok(())
    }

    fn recover_records(&self, recovery: &mut Recovery) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let rows = self.records(after.as_ref(), crate::store::blobs::LIST_ROWS_MAX)?;
            let Some(last) = rows.last() else {
                return Ok(());
            };
            after = Some(last.0);
            let mut lost = Vec::new();
            for (digest, record) in &rows {
                let path = self.path(digest);
                let is_whole = record.is_inline
                    || has_len(&path, record.size)
                        && (record.outboard == 0
                            || has_len(&path.with_extension("obao"), record.outboard));
                self.ledger().add(record);
                if !is_whole {
                    lost.push(*digest);
                }
            }
            recovery.lost_count += lost.len() as u64;
            let room = LOST_MAX - recovery.lost.len();
            recovery.lost.extend(lost.iter().take(room));
            if !lost.is_empty() {
                let claims = lost.into_iter().map(|it| self.claim_to_remove(it));
                self.remove_claimed(&claims.collect::<Result<Vec<_>, _>>()?, true)?;
            }
        }
    }

    fn remove_garbage(&self, recovery: &mut Recovery) -> Result<(), StoreError> {
        let folders = files_in(&self.folder)?;
        for folder in folders.iter().filter(|it| it.is_dir()) {
            for path in files_in(folder)? {
                let digest = path.file_stem().and_then(|it| it.to_str());
                let record = match digest.and_then(Blake3::from_hex) {
                    Some(digest) => self.record(&digest)?,
                    None => None,
                };
                let is_outboard = path.extension().is_some();
                let is_known =
                    record.is_some_and(|it| !it.is_inline && (!is_outboard || 0 < it.outboard));
                if !is_known {
                    disk::remove_if_any(&path)?;
                    recovery.garbage_files += 1;
                }
            }
        }
        Ok(())
    }
}

fn has_len(path: &Path, len: u64) -> bool {
    fs::metadata(path).is_ok_and(|it| it.len() == len)
}

fn files_in(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let fail = |it: std::io::Error| StoreError::at("list", folder, &it);
    fs::read_dir(folder)
        .map_err(fail)?
        .map(|it| Ok(it.map_err(fail)?.path()))
        .collect()
}
