//! Every step that the store takes on the disk fails once, in both senses: what was acknowledged
//! before is there after the next start, and the store goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tempfile::TempDir;

use crate::base::{Blake3, Rng, Sha256};
use crate::store::disk::{Faults, Step};
use crate::store::error::StoreError;
use crate::store::recover::{Options, Store};
use crate::store::tests::testing::{Maker, Sense, add, open, options, state};

/// Blocks that a life of the store appends.
const HEIGHT: u64 = 2;

/// Steps by how they print, and how often each is taken.
type Counts = BTreeMap<String, usize>;

/// Counts the steps, and lets one of them fail.
#[derive(Default)]
struct Script {
    taken: Mutex<Counts>,
    /// Which step, how many of its kind pass before it, and how it fails.
    fails: Option<(String, usize, Sense)>,
}

impl Script {
    fn options(self: &Arc<Self>) -> Options {
        Options {
            faults: Some(Arc::clone(self) as Arc<dyn Faults>),
            ..options()
        }
    }

    /// Whether the failure has happened.
    fn has_failed(&self) -> bool {
        let taken = self.taken.lock().unwrap();
        let fails = self.fails.as_ref();
        fails.is_some_and(|it| taken.get(&it.0).is_some_and(|count| it.1 < *count))
    }

    fn at(&self, step: Step, sense: Sense, count: usize) -> io::Result<()> {
        match &self.fails {
            Some((it, passed, when)) if (it, *passed, *when) == (&name(step), count, sense) => {
                Err(io::Error::from_raw_os_error(libc::EIO))
            }
            _ => Ok(()),
        }
    }
}

impl Faults for Script {
    fn before(&self, step: Step) -> io::Result<()> {
        let mut taken = self.taken.lock().unwrap();
        let count = taken.entry(name(step)).or_default();
        *count += 1;
        self.at(step, Sense::Before, *count - 1)
    }

    fn after(&self, step: Step) -> io::Result<()> {
        let count = self.taken.lock().unwrap()[&name(step)];
        self.at(step, Sense::After, count - 1)
    }
}

fn name(step: Step) -> String {
    format!("{step:?}")
}

/// A step of every kind. A new kind does not compile until it is here, and then must be taken.
fn kinds() -> [&'static str; 6] {
    let kind = |step| match step {
        Step::Allocate(_) => "Allocate",
        Step::Write(_) => "Write",
        Step::Sync(_) => "Sync",
        Step::Rename(_) => "Rename",
        Step::SyncFolder(_) => "SyncFolder",
        Step::Commit(_) => "Commit",
    };
    [
        Step::Allocate(""),
        Step::Write(""),
        Step::Sync(""),
        Step::Rename(""),
        Step::SyncFolder(""),
        Step::Commit(""),
    ]
    .map(kind)
}

/// What the store has acknowledged.
#[derive(Debug, Default)]
struct Acks {
    vote: u64,
    block: u64,
    head: u64,
    /// In the certificate of the last block.
    round: u32,
    checkpoint: u64,
    note: Vec<u8>,
    blobs: Vec<Vec<u8>>,
    pinned: Option<Blake3>,
    indexed: u64,
}

/// Bytes of two groups that differ for each number.
fn body(number: u64) -> Vec<u8> {
    let mut rng = Rng::new(number);
    let words = (0..10_000).map(|_| rng.next_u64().to_le_bytes());
    words.flatten().collect()
}

/// The artifacts of a block: one in the database, one in files.
fn bodies(height: u64) -> [Vec<u8>; 2] {
    [body(height)[..100].to_vec(), body(height + 100)]
}

fn maker_at(height: u64) -> Maker {
    let mut maker = Maker::default();
    for it in 1..=height {
        maker.block(&[add("pkg:maven/g/a@1", &format!("f{it}"))]);
    }
    maker
}

/// Goes on with the store in `dir` to [`HEIGHT`]; `None` if something failed.
fn live(dir: &Path, options: Options, acks: &mut Acks) -> Option<()> {
    let (store, _) = Store::open(dir, options).ok()?;
    let chain = store.chain();
    let done = chain.tip().ok()?.map_or(0, |it| it.height);
    let mut wal = store.open_wal().ok()?;
    for height in done.max(1)..=HEIGHT {
        if done < height {
            wal.reset(height).ok()?;
            wal.append(&height.to_be_bytes()).ok()?;
            wal.sync().ok()?;
            acks.vote = height;
            let (block, its) =
                maker_at(height - 1).block(&[add("pkg:maven/g/a@1", &format!("f{height}"))]);
            chain.append_and_wait(&block, &its, state(&block)).ok()?;
            (acks.block, acks.round) = (height, 0);
        }
        let mut its = chain.certificate(height).ok()??;
        its.round += 1;
        chain.replace_certificate(&its).ok()?;
        acks.round = its.round;
        let header = chain.header(height).ok()??;
        chain.persist_signed_head(header.size, header.root).ok()?;
        acks.head = header.size;
        chain.put_checkpoint(header.size, "note").ok()?;
        acks.checkpoint = header.size;
        store
            .meta()
            .put("test", b"key", &height.to_be_bytes())
            .ok()?;
        acks.note = height.to_be_bytes().to_vec();
        keep(&store, height, acks)?;
        while !store.index().wait(Duration::from_millis(1)) {
            if store.index().status().problem.is_some() {
                return None;
            }
        }
        acks.indexed = height;
    }
    Some(())
}

/// Receives artifacts in every way there is.
fn keep(store: &Store, height: u64, acks: &mut Acks) -> Option<()> {
    let blobs = store.blobs();
    let [small, large] = bodies(height);
    for bytes in [small, large] {
        let blake3 = Blake3::of(&bytes);
        if let Some(staging) = blobs.begin(blake3, bytes.len() as u64).ok()? {
            for (group, chunk) in (0_u64..).zip(bytes.chunks(65_536)) {
                staging.write_at(group * 65_536, chunk).ok()?;
                staging.write_outboard_at(group * 8, b"outboard").ok()?;
                staging.mark(group..group + 1);
                staging.checkpoint().ok()?;
            }
            staging.finish(Sha256::of(&bytes)).ok()?;
        }
        acks.blobs.push(bytes);
        blobs.set_pinned(&blake3, true).ok()?.then_some(())?;
        acks.pinned = Some(blake3);
    }
    let bytes = body(height + 200);
    let staging = blobs.begin_unnamed(bytes.len() as u64).ok()?;
    staging.write_at(0, &bytes).ok()?;
    let (blake3, sha256) = (Blake3::of(&bytes), Sha256::of(&bytes));
    staging.finish(blake3, sha256, bytes.len() as u64).ok()?;
    acks.blobs.push(bytes);
    Some(())
}

/// What was acknowledged is there, and everything that is there is whole.
fn check(dir: &Path, acks: &Acks) {
    let (store, recovery) = open(dir);
    assert_eq!(recovery.lost, []);
    let chain = store.chain();
    let tip = chain.tip().unwrap();
    let height = tip.map_or(0, |it| it.height);
    assert!(acks.block <= height);
    for height in 1..=height {
        let entry = add("pkg:maven/g/a@1", &format!("f{height}"));
        let (block, _) = maker_at(height - 1).block(&[entry]);
        assert_eq!(chain.block(height).unwrap().as_ref(), Some(&block));
        let root = chain.root_at(block.header.size).unwrap();
        assert_eq!(root, Some(block.header.root));
    }
    if let Some(tip) = tip {
        let (block, its) = (
            chain.block(height).unwrap(),
            chain.certificate(height).unwrap(),
        );
        assert_eq!(chain.state().unwrap(), block.map(|it| state(&it)));
        assert!(height != acks.block || acks.round <= its.unwrap().round);
        assert_eq!(
            chain.leaf(tip.size).unwrap(),
            None,
            "nothing behind the tip"
        );
    }
    let wal = store.open_wal().unwrap();
    let votes = wal.records(wal.height()).unwrap();
    assert!(wal.height() != acks.vote || !votes.is_empty() || acks.vote == 0);
    assert!(acks.vote <= wal.height().max(height));
    let signed = chain.signed_head().map_or(0, |it| it.size);
    assert!(acks.head <= signed && signed <= tip.map_or(0, |it| it.size));
    let checkpoint = chain.latest_checkpoint().unwrap().map_or(0, |it| it.0);
    assert!(acks.checkpoint <= checkpoint);
    let note = store.meta().get("test", b"key").unwrap();
    assert!(acks.note <= note.unwrap_or_default());
    for bytes in &acks.blobs {
        assert_eq!(store.blobs().verify(&Blake3::of(bytes)), Ok(true));
    }
    for info in store.blobs().list(None).unwrap() {
        assert_eq!(store.blobs().verify(&info.blake3), Ok(true));
        assert!(acks.pinned != Some(info.blake3) || info.is_pinned);
    }
    assert!(store.index().wait(Duration::from_secs(60)));
    let found = store.index().package("pkg:maven/g/a@1").unwrap();
    assert_eq!(found.len() as u64, height);
}

/// In memory where there is such a folder: what a sync does is not the question here, so nobody
/// needs to wait for a disk.
fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// The steps of a life without a failure.
fn steps() -> Counts {
    let dir = folder();
    let script = Arc::new(Script::default());
    let mut acks = Acks::default();
    live(&dir.path().join("data"), script.options(), &mut acks).unwrap();
    assert_eq!(
        (acks.block, acks.indexed, acks.blobs.len()),
        (HEIGHT, HEIGHT, 6)
    );
    check(&dir.path().join("data"), &acks);
    script.taken.lock().unwrap().clone()
}

#[test]
fn every_kind_of_step_is_taken_and_every_part_is_known() {
    let steps = steps();
    for kind in kinds() {
        assert!(
            steps.keys().any(|it| it.starts_with(&format!("{kind}("))),
            "{kind}"
        );
    }
    let known = [
        "Allocate(\"blob\")",
        "Commit(\"index\")",
        "Commit(\"log\")",
        "Commit(\"providers\")",
        "Rename(\"blob\")",
        "Rename(\"schema\")",
        "Rename(\"signed\")",
        "Sync(\"blob\")",
        "Sync(\"schema\")",
        "Sync(\"signed\")",
        "Sync(\"wal\")",
        "SyncFolder(\"blob\")",
        "SyncFolder(\"database\")",
        "SyncFolder(\"folder\")",
        "SyncFolder(\"schema\")",
        "SyncFolder(\"signed\")",
        "SyncFolder(\"wal\")",
        "Write(\"blob\")",
        "Write(\"schema\")",
        "Write(\"signed\")",
        "Write(\"wal\")",
    ];
    assert_eq!(steps.keys().collect::<Vec<_>>(), known);
}

fn put(store: &Store, bytes: &[u8]) -> Result<(), StoreError> {
    let len = bytes.len() as u64;
    let staging = store.blobs().begin_unnamed(len)?;
    staging.write_at(0, bytes)?;
    staging.finish(Blake3::of(bytes), Sha256::of(bytes), len)
}

#[test]
fn folders_whose_names_may_be_lost_are_synced_at_the_next_start() {
    let step = Step::SyncFolder("folder");
    let count = |script: &Script| script.taken.lock().unwrap()[&name(step)];
    let fresh = Arc::new(Script::default());
    drop(Store::open(&folder().path().join("data"), fresh.options()).unwrap());
    // The last sync of a start is that of the folders for artifacts.
    let last = count(&fresh) - 1;
    for sense in [Sense::Before, Sense::After] {
        let folder = folder();
        let script = Arc::new(Script {
            fails: Some((name(step), last, sense)),
            ..Script::default()
        });
        let dir = folder.path().join("data");
        assert!(Store::open(&dir, script.options()).is_err(), "{sense:?}");
        let (store, _) = Store::open(&dir, script.options()).unwrap();
        assert_eq!(count(&script), last + 2, "{sense:?}");
        put(&store, &body(1)).unwrap();
    }
}

/// Knows which folders for artifacts have durable names, and holds the first task that makes more
/// durable back until it is released.
struct Homes {
    folder: PathBuf,
    durable: Mutex<BTreeSet<PathBuf>>,
    /// Tells that a task is held back, and releases it.
    hold: Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>,
    lost: Mutex<Vec<PathBuf>>,
}

impl Homes {
    fn made(&self) -> BTreeSet<PathBuf> {
        let folders = std::fs::read_dir(&self.folder).into_iter().flatten();
        folders.map(|it| it.unwrap().path()).collect()
    }
}

impl Faults for Homes {
    fn before(&self, step: Step) -> io::Result<()> {
        let hold = match step {
            Step::SyncFolder("folder") => self.hold.lock().unwrap().take(),
            _ => None,
        };
        if let Some((told, release)) = hold {
            told.send(()).unwrap();
            release.recv().ok();
        }
        if step == Step::Commit("log") {
            let durable = self.durable.lock().unwrap().clone();
            let is_used = |it: &PathBuf| std::fs::read_dir(it).unwrap().next().is_some();
            let lost = self.made().into_iter().filter(|it| !durable.contains(it));
            self.lost.lock().unwrap().extend(lost.filter(is_used));
        }
        Ok(())
    }

    fn after(&self, step: Step) -> io::Result<()> {
        if step == Step::SyncFolder("folder") {
            *self.durable.lock().unwrap() = self.made();
        }
        Ok(())
    }
}

#[test]
fn of_two_publishers_into_one_folder_none_records_what_a_crash_would_lose() {
    let bodies = (0..).map(body);
    let mut seen = BTreeMap::new();
    let (first, second) = bodies
        .filter_map(|it| {
            seen.insert(Blake3::of(&it).0[0], it.clone())
                .map(|by| (by, it))
        })
        .next()
        .unwrap();
    let dir = folder();
    let homes = Arc::new(Homes {
        folder: dir.path().join("data/blobs"),
        durable: Mutex::default(),
        hold: Mutex::default(),
        lost: Mutex::default(),
    });
    let options = Options {
        faults: Some(Arc::clone(&homes) as Arc<dyn Faults>),
        ..options()
    };
    let (store, _) = Store::open(&dir.path().join("data"), options).unwrap();
    let ((told, is_told), (release, released)) = (mpsc::channel(), mpsc::channel());
    *homes.hold.lock().unwrap() = Some((told.clone(), released));
    std::thread::scope(|scope| {
        let publish = || {
            put(&store, &first).unwrap();
            told.send(()).ok();
        };
        scope.spawn(publish);
        // The first one is held back at a sync, or is done without one.
        is_told.recv().unwrap();
        put(&store, &second).unwrap();
        drop(release);
    });
    assert_eq!(*homes.lost.lock().unwrap(), Vec::<PathBuf>::new());
    assert_eq!(store.blobs().stat().count, 2);
}

#[test]
fn whatever_step_fails_what_was_acknowledged_stays_and_the_store_goes_on() {
    let mut failures = 0;
    for (step, count) in steps() {
        for passed in 0..count {
            for sense in [Sense::Before, Sense::After] {
                let what = (step.clone(), passed, sense);
                let folder = folder();
                let dir = folder.path().join("data");
                let script = Arc::new(Script {
                    fails: Some(what.clone()),
                    ..Script::default()
                });
                let mut acks = Acks::default();
                let lived = live(&dir, script.options(), &mut acks);
                assert!(script.has_failed(), "{what:?}");
                assert_eq!(lived, None, "{what:?} is not hidden");
                check(&dir, &acks);
                // The next life ends where the first should have.
                assert_eq!(live(&dir, options(), &mut acks), Some(()), "{what:?}");
                check(&dir, &acks);
                assert_eq!(open(&dir).0.blobs().stat().count, 6, "{what:?}");
                failures += 1;
            }
        }
    }
    println!("{failures} failures");
}
