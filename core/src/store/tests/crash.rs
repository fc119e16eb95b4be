//! A process that is killed at any moment, and a disk that fills up: what was acknowledged stays.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::base::{Blake3, Rng, Sha256};
use crate::proto::log::entry::Entry;
use crate::store::error::StoreError;
use crate::store::recover::Store;
use crate::store::tests::testing::{Maker, add, open, options, state};

/// Tells the child process its data directory.
const CHILD_DIR: &str = "KOGGE_TEST_CRASH_DIR";

const KILLS: u64 = 10;

fn body(number: u64) -> Vec<u8> {
    let mut rng = Rng::new(number);
    let len = 10_000 + rng.below(120_000);
    (0..len).map(|_| rng.next_u64().to_le_bytes()[0]).collect()
}

/// The chain is the same in every run: block `n` has `n % 7` entries.
fn maker_at(height: u64) -> Maker {
    let mut maker = Maker::default();
    for it in 1..=height {
        maker.block(&entries(it));
    }
    maker
}

fn entries(height: u64) -> Vec<Entry> {
    (0..height % 7)
        .map(|it| add(&format!("pkg:maven/g/a@{height}"), &format!("{it}")))
        .collect()
}

/// The child: goes on where the directory is, and says what is done after it is done.
#[test]
fn crash_child() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else {
        return;
    };
    let (store, _) = open(Path::new(&dir));
    let chain = store.chain();
    let mut height = chain.tip().unwrap().map_or(0, |it| it.height);
    let mut maker = maker_at(height);
    let mut wal = store.open_wal().unwrap();
    let say = |what: &str, number: u64| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "ack {what} {number}").unwrap();
        out.flush().unwrap();
    };
    loop {
        height += 1;
        wal.reset(height).unwrap();
        if wal.records(height).unwrap().is_empty() {
            wal.append(&height.to_be_bytes()).unwrap();
            wal.sync().unwrap();
        }
        say("vote", height);
        let block = maker.append(&store, &entries(height));
        say("block", height);
        chain
            .persist_signed_head(block.header.size, block.header.root)
            .unwrap();
        say("head", block.header.size);
        let bytes = body(height);
        let staging = store.blobs().begin(Blake3::of(&bytes), bytes.len() as u64);
        if let Some(staging) = staging.unwrap() {
            for (group, chunk) in bytes.chunks(65_536).enumerate() {
                staging.write_at(group as u64 * 65_536, chunk).unwrap();
                staging.mark(group as u64..group as u64 + 1);
                staging.checkpoint().unwrap();
            }
            staging.finish(Sha256::of(&bytes)).unwrap();
        }
        say("blob", height);
    }
}

/// What the child said before it was killed.
#[derive(Default)]
struct Acks {
    vote: u64,
    block: u64,
    head: u64,
    blobs: Vec<u64>,
}

fn spawn(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["store::tests::crash::crash_child", "--exact", "--nocapture"])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Lets a child run until it said `lines` lines and `pause` more, kills it, and notes what it said.
fn run_and_kill(dir: &Path, acks: &mut Acks, lines: u64, pause: Duration) {
    let mut child = spawn(dir);
    let out = BufReader::new(child.stdout.take().unwrap());
    let mut said = 0;
    for line in out.lines() {
        let line = line.unwrap();
        let mut words = line.split(' ').skip_while(|it| *it != "ack").skip(1);
        let (Some(what), Some(number)) = (words.next(), words.next()) else {
            continue;
        };
        let number = number.parse().unwrap();
        match what {
            "vote" => acks.vote = number,
            "block" => acks.block = number,
            "head" => acks.head = number,
            _ => acks.blobs.push(number),
        }
        said += 1;
        if said == lines {
            // Not for order: to hit the child at any point of its work.
            std::thread::sleep(pause);
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(lines <= said, "the child ended by itself");
}

fn check(dir: &Path, acks: &Acks) {
    let (store, recovery) = open(dir);
    assert_eq!(recovery.lost, []);
    let chain = store.chain();
    let tip = chain.tip().unwrap().unwrap();
    assert!(acks.block <= tip.height && tip.height <= acks.vote);
    let head = chain.signed_head().unwrap();
    assert!(acks.head <= head.size && head.size <= tip.size);
    let (block, _) = maker_at(tip.height - 1).block(&entries(tip.height));
    assert_eq!(chain.block(tip.height).unwrap().as_ref(), Some(&block));
    assert_eq!(chain.state().unwrap(), Some(state(&block)));
    assert_eq!(chain.root_at(tip.size).unwrap(), Some(tip.root));
    let wal = store.open_wal().unwrap();
    // Once the block is there, its votes may be forgotten: the child may be killed in the reset.
    if tip.height < acks.vote {
        let expected = [acks.vote.to_be_bytes().to_vec()];
        assert_eq!(wal.records(acks.vote).unwrap(), expected);
    }
    for number in &acks.blobs {
        assert_eq!(store.blobs().verify(&Blake3::of(&body(*number))), Ok(true));
    }
    for info in store.blobs().list(None).unwrap() {
        assert_eq!(
            store.blobs().verify(&info.blake3),
            Ok(true),
            "visible means whole"
        );
    }
    assert!(store.index().wait(Duration::from_secs(30)));
    let version = format!("pkg:maven/g/a@{}", tip.height);
    let found = store.index().package(&version).unwrap().len() as u64;
    assert_eq!(found, tip.height % 7);
}

#[test]
fn what_a_killed_process_acknowledged_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let (mut acks, mut rng) = (Acks::default(), Rng::new(7));
    for _ in 0..KILLS {
        let pause = Duration::from_micros(rng.below(20_000));
        // Four lines make one round: there is a block, a head and an artifact to look at.
        run_and_kill(dir.path(), &mut acks, 4 + rng.below(40), pause);
        check(dir.path(), &acks);
    }
}

/// A file system of its own that is full soon.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` for users who may not mount.
    fn mount(dir: &Path, bytes: u32) -> Option<Self> {
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "none"])
            .arg(dir)
            .stderr(Stdio::null())
            .status();
        let is_mounted = status.is_ok_and(|it| it.success());
        let is_root = std::fs::metadata(dir).unwrap().uid() == 0;
        assert!(
            is_mounted || !is_root,
            "root can mount, so this test must run"
        );
        is_mounted.then(|| Self(dir.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

fn many_entries() -> Vec<Entry> {
    let numbers = 0..50;
    numbers
        .map(|it| add("pkg:maven/g/a@1", &format!("{it}")))
        .collect()
}

#[test]
fn on_a_full_disk_writing_is_refused_reading_goes_on_and_room_mends_it() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path(), 6 << 20) else {
        eprintln!("not root: a full disk was not tested");
        return;
    };
    let (store, _) = open(&disk.0);
    let full = StoreError::DiskFull {
        dir: store.dir().to_owned(),
    };
    let begun = store.blobs().begin(Blake3([1; 32]), 8 << 20).map(|_| ());
    assert_eq!(
        begun,
        Err(full.clone()),
        "a full disk shows at the beginning"
    );

    // Takes room away, and can give it back.
    let ballast = store.blobs().begin_unnamed(2 << 20).unwrap();
    let mut maker = Maker::default();
    let (block, certificate, refused) = loop {
        let (block, certificate) = maker.block(&many_entries());
        let result = store.chain().append_and_wait(&block, &certificate, vec![]);
        if let Err(error) = result {
            break (block, certificate, error);
        }
    };
    assert_eq!(refused, full);
    let tip = store.chain().tip().unwrap().unwrap();
    let height = tip.height;
    assert!(1 < height);
    assert_eq!(store.chain().root_at(tip.size).unwrap(), Some(tip.root));
    let again = store.chain().append_and_wait(&block, &certificate, vec![]);
    assert_eq!(again, Err(full));

    drop(ballast);
    store
        .chain()
        .append_and_wait(&block, &certificate, vec![])
        .unwrap();
    drop(store);
    let (store, _) = Store::open(&disk.0, options()).unwrap();
    let tip = store.chain().tip().unwrap().unwrap();
    assert_eq!((tip.height, tip.root), (height + 1, block.header.root));
}
