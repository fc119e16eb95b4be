//! What a disk gives back: rows of the database, the consensus journal.

use std::fs;
use std::path::PathBuf;

use kogge_node::node::testing::ProviderRow;
use kogge_node::store::testing::{ROWS, Row};
use kogge_node::store::{Options, Store, StoreError};

use crate::targets::{Choices, canonical};

/// Bytes before the first record of a journal, and before the payload of each.
const HEAD_BYTES: usize = 48;

/// Largest artifact. Unit: bytes.
const SIZE_MAX: u64 = 1 << 40;

/// Input: the kind of the row, then the row.
pub(crate) fn row(bytes: &[u8], is_planted: bool) -> bool {
    let Some((kind, bytes)) = bytes.split_first() else {
        return false;
    };
    let decode = |it: &[u8]| Row::decode(kind % ROWS, it);
    let Some(row) = canonical(bytes, is_planted, decode, Row::encode) else {
        return false;
    };
    let _ = row.weight();
    if let Some(present) = row.present() {
        assert!(present.count <= SIZE_MAX / 65_536, "{present:?}");
        let here: u64 = present.ranges.iter().map(|it| it.end - it.start).sum();
        assert_eq!(here + present.missing, present.count, "{present:?}");
        let apart = present.ranges.windows(2).all(|it| it[0].end < it[1].start);
        let last = present.ranges.last().map_or(0, |it| it.end);
        assert!(apart && last <= present.count, "{present:?}");
    }
    true
}

/// Input: a provider record as it is stored.
pub(crate) fn provider(bytes: &[u8], is_planted: bool) -> bool {
    let decode = |it: &[u8]| ProviderRow::decode(it).ok_or(());
    canonical(bytes, is_planted, decode, ProviderRow::encode).is_some()
}

thread_local! {
    /// A store whose journal is replaced for each input.
    static STORE: (Store, PathBuf, tempfile::TempDir) = {
        // In memory, where waiting for the disk costs nothing, if the system has such a folder.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let dir = dir.expect("a folder");
        let (store, _) = Store::open(dir.path(), Options::default()).expect("a store");
        drop(store.open_wal().expect("a journal"));
        let file = journal_in(dir.path());
        (store, file, dir)
    };
}

/// The only file that is called so, wherever the store keeps it.
fn journal_in(dir: &std::path::Path) -> PathBuf {
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            match entry.path() {
                it if it.is_dir() => folders.push(it),
                it if it.ends_with("wal") => return it,
                _ => {}
            }
        }
    }
    panic!("the store has no journal");
}

/// A record as it was written.
struct Written {
    payload: Vec<u8>,
    /// The first byte of its head.
    at: usize,
    /// The length that was durable before.
    synced: usize,
}

/// What an opened journal says: its height and the records, or that it is damaged.
type Opened = Result<(u64, Vec<Vec<u8>>), StoreError>;

/// Input: whether it is a journal as it is; else how to write one and how to damage it.
///
/// What was durable is read back, or the damage is found: never is a record forgotten that a later
/// one vouches for. Planted: a journal that forgets its last record.
pub(crate) fn journal(bytes: &[u8], is_planted: bool) -> bool {
    let mut choices = Choices(bytes);
    if choices.bool() {
        let bytes = choices.0;
        let first = open(bytes);
        if first.is_ok() {
            assert_eq!(reopen(), first, "opened again it is another");
        }
        return first.is_ok_and(|it| it.0 != 0);
    }
    let (height, written, mut file) = write(&mut choices);
    let ends = |it: &Written| it.at + HEAD_BYTES + it.payload.len();
    let place = usize::try_from(choices.number()).unwrap_or(0) % file.len();
    let damage = choices.below(4);
    match damage {
        0 => {}
        1 => file.truncate(place),
        2 => file.extend((0..choices.byte()).map(|_| choices.byte())),
        _ => file[place] ^= choices.byte().max(1),
    }
    let is_headless = matches!(damage, 1 | 3) && place < HEAD_BYTES;
    let kept: Vec<&Written> = match damage {
        1 | 3 => written.iter().take_while(|it| ends(it) <= place).collect(),
        _ => written.iter().collect(),
    };
    let is_vouched = written.get(kept.len()).is_some_and(|lost| {
        let later = written.iter().skip(kept.len() + 1);
        damage == 3 && later.into_iter().any(|it| lost.at < it.synced)
    });
    let mut opened = open(&file);
    if let (Ok((_, records)), true) = (&mut opened, is_planted) {
        records.pop();
    }
    match opened {
        Ok(found) if is_headless => assert_eq!(found, (0, Vec::new())),
        Ok(found) => {
            let payloads = kept.iter().map(|it| it.payload.clone()).collect();
            assert_eq!(found, (height, payloads));
            assert!(!is_vouched, "a durable record is forgotten");
            assert!(
                is_planted || reopen() == Ok(found),
                "opened again it is another"
            );
        }
        Err(StoreError::Corrupt { .. }) => assert!(is_vouched && !is_headless, "no damage"),
        Err(error) => panic!("{error}"),
    }
    true
}

/// A journal as a node writes it: its height, its records, its bytes.
fn write(choices: &mut Choices<'_>) -> (u64, Vec<Written>, Vec<u8>) {
    STORE.with(|(store, path, _)| {
        fs::write(path, b"").expect("a file");
        let mut wal = store.open_wal().expect("a journal");
        let height = 1 + choices.below(9);
        wal.reset(height).expect("a height");
        let (mut written, mut end, mut synced) = (Vec::<Written>::new(), HEAD_BYTES, 0);
        for _ in 0..choices.below(6) {
            let payload: Vec<u8> = (0..choices.byte()).map(|_| choices.byte()).collect();
            wal.append(&payload).expect("room");
            let (at, bytes) = (end, payload.len());
            written.push(Written {
                payload,
                at,
                synced,
            });
            end += HEAD_BYTES + bytes;
            if choices.bool() {
                wal.sync().expect("a disk");
                synced = end;
            }
        }
        (height, written, fs::read(path).expect("a file"))
    })
}

fn open(bytes: &[u8]) -> Opened {
    STORE.with(|(_, path, _)| fs::write(path, bytes).expect("a file"));
    reopen()
}

fn reopen() -> Opened {
    STORE.with(|(store, _, _)| {
        let wal = store.open_wal()?;
        let height = wal.height();
        Ok((height, wal.records(height)?))
    })
}
