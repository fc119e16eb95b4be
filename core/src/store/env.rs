//! The data directory and its LMDB environments.
//!
//! ```text
//! <dir>/            private to the user
//!   lock            held for life; tells the process
//!   schema          format of everything below
//!   log/  index/  providers/    LMDB environments
//!   signed          highest signed head
//!   wal             consensus journal of the height being decided
//!   blobs/ staging/ artifacts
//! ```
//!
//! `log` is opened with LMDB's default flags: a commit is durable when it returns. `index` can be
//! rebuilt from `log` and `providers` is renewed by others, so their newest commits may be lost by a
//! crash (`NOMETASYNC`: older, never inconsistent). `WRITEMAP` and `NOSYNC` are never used: they can damage the file.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use heed::types::Bytes;
use heed::{CommitOrAbort, EnvFlags, EnvOpenOptions, RoTxn, RwTxn, WithoutTls};

use crate::store::disk::{self, Disk, Step};
use crate::store::error::StoreError;

/// The format of the data directory.
pub(crate) const SCHEMA: &str = "kogge data 1";

/// Largest size of one environment; the file is sparse and grows as needed. Unit: bytes.
pub const MAP_BYTES: usize = 64 << 30;

/// Where a host limits its address space, maps are smaller, but not below this. Unit: bytes.
const MAP_BYTES_MIN: usize = 256 << 20;

/// Maps are multiples of this, hence of all pages there are. Unit: bytes.
const MAP_STEP_BYTES: usize = 1 << 20;

/// Address space that maps leave to everything else in the process. Unit: bytes.
const HOST_BYTES: usize = 1 << 30;

/// Most read transactions at a time; one more is refused with [`StoreError::Busy`].
pub const READERS_MAX: u32 = 512;

/// A table: bytes to bytes, ordered by key.
pub(crate) type Table = heed::Database<'static, Bytes, Bytes>;

/// The data directory, locked for this process.
pub(crate) struct DataDir {
    path: PathBuf,
    /// Dropping the file releases the lock.
    _lock: File,
}

impl DataDir {
    /// Creates the directory if needed, locks it and checks its format.
    pub(crate) fn open(path: &Path, disk: &Disk) -> Result<Self, StoreError> {
        disk.create_folder(path)?;
        let path = path
            .canonicalize()
            .map_err(|it| StoreError::at("open", path, &it))?;
        let lock = lock(&path)?;
        let schema = path.join("schema");
        match disk::read_if_any(&schema)? {
            // Either new, or the process was killed while creating it: nothing was promised yet.
            None => disk.replace("schema", &schema, SCHEMA.as_bytes())?,
            Some(found) if found == SCHEMA.as_bytes() => {}
            Some(found) => {
                return Err(StoreError::Schema {
                    dir: path,
                    found: String::from_utf8_lossy(found.get(..64).unwrap_or(&found)).into_owned(),
                    ours: SCHEMA,
                });
            }
        }
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// The size of `maps` maps of the same size: what is wanted, or less where address space is limited
/// (`ulimit -v`, valgrind), so that they fit beside `other_bytes` and leave room for the host.
pub(crate) fn fit_maps(maps: usize, wanted_bytes: usize, other_bytes: usize) -> usize {
    let other_bytes = other_bytes.saturating_add(HOST_BYTES);
    let fits = |it: usize| has_room(it.saturating_mul(maps).saturating_add(other_bytes));
    let mut map_bytes = wanted_bytes;
    while MAP_BYTES_MIN < map_bytes && !fits(map_bytes) {
        map_bytes = (map_bytes / 2).max(MAP_BYTES_MIN);
    }
    if map_bytes < wanted_bytes {
        tracing::warn!(
            map_bytes,
            wanted_bytes,
            "address space is limited, and so is the size of the databases"
        );
    }
    map_bytes
}

/// Whether there is so much address space.
fn has_room(bytes: usize) -> bool {
    let (access, flags) = (libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new map where the system likes touches nothing else, and nothing points to it when
    // it is taken back.
    unsafe {
        let map = libc::mmap(std::ptr::null_mut(), bytes, access, flags, -1, 0);
        map != libc::MAP_FAILED && libc::munmap(map, bytes) == 0
    }
}

fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("lock");
    let fail = |it: std::io::Error| StoreError::at("lock", &path, &it);
    let (mut file, is_locked) = disk::open_locked(&path)?;
    if !is_locked {
        let mut text = String::new();
        let read = (&file).take(16).read_to_string(&mut text);
        let pid = read.ok().and_then(|_| text.trim().parse().ok());
        return Err(StoreError::Locked {
            dir: dir.to_owned(),
            pid,
        });
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| write!(file, "{}", std::process::id()))
        .map_err(fail)?;
    Ok(file)
}

/// One LMDB environment. Only one thread writes to it.
pub(crate) struct Environment {
    env: heed::Env<WithoutTls>,
    name: &'static str,
    disk: Disk,
    /// The first failed commit: what the disk holds is unknown since, and a failed sync must not
    /// be repeated, because the system may have dropped the bytes and would report success.
    failed: OnceLock<StoreError>,
    dir: Arc<DataDir>,
}

/// Opens the environment in `folder`, with a smaller map if others took the room meanwhile.
fn open_in(
    folder: &Path,
    mut map_bytes: usize,
    tables: usize,
    flags: EnvFlags,
) -> heed::Result<heed::Env<WithoutTls>> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options
        .max_readers(READERS_MAX)
        .max_dbs(u32::try_from(tables).unwrap_or(u32::MAX));
    loop {
        options.map_size(map_bytes);
        // SAFETY: the only flag in use is NOMETASYNC, which keeps the file consistent; the lock of the
        // data directory keeps other processes from changing the mapped file.
        let opened = unsafe {
            options.flags(flags);
            options.open(folder)
        };
        match opened {
            Err(heed::Error::Io(error))
                if error.raw_os_error() == Some(libc::ENOMEM) && MAP_BYTES_MIN < map_bytes =>
            {
                let half = (map_bytes / 2).next_multiple_of(MAP_STEP_BYTES);
                map_bytes = half.max(MAP_BYTES_MIN);
            }
            opened => return opened,
        }
    }
}

impl Environment {
    /// Opens or creates the environment `name` with `tables`.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the disk refuses or the file is damaged.
    pub(crate) fn open<const N: usize>(
        dir: &Arc<DataDir>,
        name: &'static str,
        map_bytes: usize,
        flags: EnvFlags,
        tables: [&'static str; N],
        disk: &Disk,
    ) -> Result<(Self, [Table; N]), StoreError> {
        let folder = dir.path().join(name);
        disk.create_folder(&folder)?;
        // What is there already needs room to grow, too.
        let file = std::fs::metadata(folder.join("data.mdb"));
        let used = file.map_or(0, |it| usize::try_from(it.len()).unwrap_or(usize::MAX));
        let room = used.saturating_add(MAP_BYTES_MIN);
        let wanted_bytes = map_bytes.max(room.next_multiple_of(MAP_STEP_BYTES));
        let env = open_in(&folder, wanted_bytes, N, flags)?;
        check_len(&env, &folder)?;
        // LMDB does not sync the folder: without this the database file may be gone after a crash.
        disk.sync_folder("database", &folder)?;
        // Slots of killed processes are never freed otherwise.
        env.clear_stale_readers()?;
        let tables = open_tables(&env, name, tables, disk)?;
        let environment = Self {
            env,
            name,
            disk: disk.clone(),
            failed: OnceLock::new(),
            dir: Arc::clone(dir),
        };
        Ok((environment, tables))
    }

    /// A snapshot for reading. Keep it below a second or a thousand rows: old pages cannot be
    /// reused while it lives, so the file grows and never shrinks.
    pub(crate) fn read(&self) -> Result<RoTxn<'_, WithoutTls>, StoreError> {
        Ok(self.env.read_txn()?)
    }

    /// Begins the write transaction; for the writer thread only.
    pub(crate) fn write(&self) -> Result<RwTxn<'_>, StoreError> {
        self.check()?;
        Ok(self.env.write_txn()?)
    }

    /// Commits; durable when it returns.
    ///
    /// # Errors
    ///
    /// [`StoreError::DiskFull`] leaves the environment usable. Any other failure stops it: this
    /// and every later write is refused with [`StoreError::Failed`].
    pub(crate) fn commit(&self, txn: RwTxn<'_>) -> Result<(), StoreError> {
        let result = self.disk.run(Step::Commit(self.name), || txn.commit());
        let Err(error) = result else { return Ok(()) };
        match disk::explain(self.dir.path(), error.into()) {
            full @ (StoreError::DiskFull { .. } | StoreError::DatabaseFull) => Err(full),
            other => {
                let failed = StoreError::Failed {
                    part: self.name,
                    reason: other.to_string(),
                };
                Err(self.failed.get_or_init(|| failed).clone())
            }
        }
    }

    /// The first failure, if the environment is stopped.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.failed.get().cloned().map_or(Ok(()), Err)
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The data directory; whoever holds it keeps it locked.
    pub(crate) fn data_dir(&self) -> &Arc<DataDir> {
        &self.dir
    }

    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }
}

/// Refuses a file that was cut: reading behind its end would kill the process with SIGBUS.
///
/// LMDB itself may leave out a few pages at the end that a transaction took and gave back. So few
/// are filled with zeros, which LMDB refuses to take for a page, should somebody else have cut
/// them.
fn check_len(env: &heed::Env<WithoutTls>, folder: &Path) -> Result<(), StoreError> {
    const LACKING_PAGES_MAX: u64 = 64;
    let page_bytes = u64::from(env.unnamed_database_stat().page_size);
    let needed = (env.info().last_page_number as u64 + 1) * page_bytes;
    let len = env.real_disk_size()?;
    if needed <= len {
        return Ok(());
    }
    if LACKING_PAGES_MAX * page_bytes < needed - len {
        let reason = format!("its file has {len} bytes, {needed} are in use");
        return Err(StoreError::corrupt("the database", reason));
    }
    let path = folder.join("data.mdb");
    File::options()
        .write(true)
        .open(&path)
        .and_then(|it| it.set_len(needed))
        .map_err(|it| StoreError::at("extend", &path, &it))
}

/// All tables are opened at once, at the start: a handle that is opened in a reader is lost.
fn open_tables<const N: usize>(
    env: &heed::Env<WithoutTls>,
    name: &'static str,
    tables: [&'static str; N],
    disk: &Disk,
) -> Result<[Table; N], StoreError> {
    let txn = env.write_txn()?;
    let create = || {
        env.create_databases_and_commit(txn, |opener, txn| {
            let mut opened = Vec::with_capacity(N);
            for table in tables {
                opened.push(opener.create_database::<Bytes, Bytes>(txn, Some(table))?);
            }
            let opened: Result<[_; N], _> = opened.try_into();
            Ok::<_, heed::Error>(match opened {
                Ok(opened) => CommitOrAbort::Commit(opened),
                Err(_) => CommitOrAbort::Abort(()),
            })
        })
    };
    let committed = disk.run(Step::Commit(name), create)?;
    committed
        .commit()
        .ok_or_else(|| StoreError::corrupt("the database", "a table is missing"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;
    use std::time::Duration;

    use super::*;
    use crate::store::recover::{Options, Store};
    use crate::store::tests::testing::{Maker, open, options};

    /// Address space of a child process. Unit: MiB.
    const CHILD_LIMIT: &str = "KOGGE_TEST_ADDRESS_SPACE";

    /// The body of the child processes of the next test; does nothing otherwise.
    #[test]
    fn limited_child() {
        let Ok(limit) = std::env::var(CHILD_LIMIT) else {
            return;
        };
        let bytes = limit.parse::<u64>().unwrap() << 20;
        let limit = libc::rlimit {
            rlim_cur: bytes,
            rlim_max: bytes,
        };
        // SAFETY: it reads a value that lives longer than the call.
        let is_set = unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) };
        assert_eq!(is_set, 0);
        let (dir, mut maker) = (tempfile::tempdir().unwrap(), Maker::default());
        for height in 1..3 {
            let (store, _) = Store::open(dir.path(), Options::default()).unwrap();
            let entry = crate::store::tests::testing::add("pkg:maven/g/a@1", &height.to_string());
            maker.append(&store, &[entry]);
            assert!(store.index().wait(Duration::from_secs(60)));
            store.providers().put(b"key", b"value").unwrap();
            // The host goes on, too.
            Vec::<u8>::new().try_reserve_exact(256 << 20).unwrap();
            std::thread::spawn(|| ()).join().unwrap();
            drop(store);
        }
    }

    #[test]
    fn a_store_opens_in_whatever_address_space_there_is() {
        let run = |mebibytes: &str| {
            let child = Command::new(std::env::current_exe().unwrap())
                .args(["store::env::tests::limited_child", "--exact"])
                .env(CHILD_LIMIT, mebibytes)
                .output();
            child.unwrap()
        };
        for mebibytes in ["2048", "3072", "4608", "8192", "40960", "102400"] {
            let child = run(mebibytes);
            let told = String::from_utf8_lossy(&child.stdout);
            assert!(child.status.success(), "{mebibytes}: {told}");
            assert!(told.contains("1 passed"), "{mebibytes}: {told}");
        }
        assert!(!run("64").status.success(), "there is a limit");
    }

    #[test]
    fn maps_share_the_room_that_there_is() {
        let wanted = 2 * MAP_BYTES_MIN;
        assert_eq!(fit_maps(2, wanted, 0), wanted);
        assert_eq!(fit_maps(2, wanted, usize::MAX), MAP_BYTES_MIN);
        assert_eq!(fit_maps(2, 1 << 20, usize::MAX), 1 << 20, "never more");
    }

    fn refused(dir: &Path) -> StoreError {
        Store::open(dir, options()).map(|_| ()).unwrap_err()
    }

    #[test]
    fn the_directory_is_private_and_created_with_its_parents() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        drop(open(&path));
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_second_node_on_the_directory_is_refused_and_told_by_whom() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let expected = StoreError::Locked {
            dir: dir.path().canonicalize().unwrap(),
            pid: Some(std::process::id()),
        };
        assert_eq!(refused(dir.path()), expected);
        let text = expected.to_string();
        assert!(
            text.contains(&format!("process {}", std::process::id())),
            "{text}"
        );
        // The directory stays locked while a part of the store is in use.
        let blobs = store.blobs().clone();
        drop(store);
        assert_eq!(refused(dir.path()), expected);
        drop(blobs);
        drop(open(dir.path()));
    }

    #[test]
    fn another_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()));
        fs::write(dir.path().join("schema"), "kogge data 99").unwrap();
        let expected = StoreError::Schema {
            dir: dir.path().canonicalize().unwrap(),
            found: "kogge data 99".into(),
            ours: SCHEMA,
        };
        assert_eq!(refused(dir.path()), expected);
    }

    #[test]
    fn a_database_that_was_cut_or_overwritten_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let mut maker = Maker::default();
        for _ in 0..3 {
            let entries: Vec<_> = (0..600)
                .map(|it| crate::store::tests::testing::add("pkg:maven/g/a@1", &format!("{it}")))
                .collect();
            maker.append(&store, &entries);
        }
        drop(store);
        let path = dir.path().join("log/data.mdb");
        let whole = fs::read(&path).unwrap();
        for len in [1, 100, 4_096, 5_000, 8_192, 100_000] {
            fs::write(&path, &whole[..len]).unwrap();
            let refused = refused(dir.path());
            assert!(
                matches!(refused, StoreError::Corrupt { .. }),
                "{len}: {refused:?}"
            );
        }
        let mut garbled = whole.clone();
        garbled[..8_192].fill(0xff);
        fs::write(&path, garbled).unwrap();
        assert!(matches!(refused(dir.path()), StoreError::Corrupt { .. }));
        fs::write(&path, whole).unwrap();
        assert_eq!(
            open(dir.path())
                .0
                .chain()
                .tip()
                .unwrap()
                .map(|it| it.height),
            Some(3)
        );
    }
}
