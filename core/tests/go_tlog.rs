//! Other people's verifiers accept what we write: the program in `tests/go` reads a log with the
//! note and tlog packages of the Go checksum database and the C2SP formats of transparency.dev.

#![allow(clippy::unwrap_used, reason = "the helpers of a test may panic too")]

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use base64ct::{Base64, Encoding as _};
use kogge::base::{Blake3, SecretKey, Sha256, Signature, WallTime, hex};
use kogge::proto::chain::{Member, MemberSet, NodeKeys};
use kogge::proto::log::checkpoint::{Checkpoint, cosigner_key, log_key};
use kogge::proto::log::cosign::{HeadSignature, SignedHead};
use kogge::proto::log::note::{Note, NoteSignature};
use kogge::proto::log::tile::{TileKind, TilePath, encode_bundle, hash_tile, tiles};
use kogge::proto::log::vkey::{KeyKind, VerifierKey};
use kogge::proto::log::waybill::Waybill;
use kogge::proto::log::{
    AddArtifact, Entry, Frontier, HashReader, Source, leaf_hash, policy, proof,
};

const ORIGIN: &str = "kogge.test/log";

/// Enough for a tile at level 2, and for partial tiles at every level.
const SIZE: u32 = 66_000;

/// The leaf with a waybill.
const INDEX: u64 = 54_321;

/// The size of an older head.
const OLD_SIZE: u64 = 40_123;

/// By the key that grows from 32 bytes 1, over [`TORSION_TEXT`]; made in `proto/log/note.rs`. It
/// stands only for checkers that multiply the cofactor in.
const TORSION: &str = "5e3c61e750df5f4b2c2d91c167ef3f6c5636c71b5cdc5e117920f6b9c33d9780\
                       6ee9d66267b2004e807808cec38bff8c1eb16266df943b9d9281011830221400";
const TORSION_TEXT: &str = "origin\n7\nroot\n";

#[derive(Default)]
struct Log {
    leaves: Vec<Vec<u8>>,
    edge: Frontier,
    hashes: BTreeMap<(u8, u64), Sha256>,
}

impl HashReader for Log {
    fn hash(&self, level: u8, index: u64) -> Option<Sha256> {
        self.hashes.get(&(level, index)).copied()
    }
}

impl Log {
    fn push(&mut self, leaf: Vec<u8>) {
        self.edge.push_with(leaf_hash(&leaf), |level, index, hash| {
            self.hashes.insert((level, index), hash);
        });
        self.leaves.push(leaf);
    }

    fn tile(&self, tile: TilePath) -> Vec<u8> {
        match tile.kind() {
            TileKind::Hashes(_) => hash_tile(self, tile).unwrap(),
            TileKind::Entries => {
                let start = usize::try_from(tile.start()).unwrap();
                let leaves = &self.leaves[start..start + usize::from(tile.width())];
                encode_bundle(leaves.iter().map(Vec::as_slice)).unwrap()
            }
        }
    }
}

fn entry() -> Vec<u8> {
    let entry = AddArtifact {
        purl: "pkg:maven/org.example/lib@1.0".into(),
        file: "lib-1.0.jar".into(),
        blake3: Blake3::of(b"jar"),
        sha256: Sha256::of(b"jar"),
        digests: Vec::new(),
        size: 3,
        media_type: "application/java-archive".into(),
        source: Source::fetched("repo.example/maven2"),
        dependencies: None,
        builder: SecretKey::from_seed([9; 32]).public(),
        publication: None,
        time: WallTime::from_millis(1_790_000_000_000),
    };
    Entry::AddArtifact(Box::new(entry)).to_bytes()
}

fn log() -> Log {
    let mut log = Log::default();
    for at in 0..SIZE {
        log.push(if u64::from(at) == INDEX {
            entry()
        } else {
            at.to_be_bytes().to_vec()
        });
    }
    log
}

/// Writes everything that `tests/go` reads.
fn write(folder: &Path) {
    let log = log();
    let put = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let nodes: Vec<_> = (1..=4).map(|it| NodeKeys::from_seed([it; 32])).collect();
    let members: Vec<Member> = (1..)
        .zip(&nodes)
        .map(|(at, keys)| keys.card(&format!("node-{at}")).member)
        .collect();
    let set = MemberSet::new(members.clone());
    let head = Checkpoint {
        origin: ORIGIN.into(),
        size: u64::from(SIZE),
        root: log.edge.root(),
    };
    let mut signed = SignedHead::new(head.clone(), set.clone());
    for keys in &nodes {
        let now = WallTime::from_millis(1_790_000_000_000);
        signed.add(HeadSignature::sign(keys, &head, now)).unwrap();
    }
    let portable = signed.portable_note().unwrap();
    let path = proof::inclusion(&log, INDEX, head.size).unwrap();
    let waybill = Waybill::pack(entry(), INDEX, path, portable.clone(), Vec::new()).unwrap();
    let mut consistency = format!("{OLD_SIZE}\n");
    let old_root = proof::root(&log, OLD_SIZE).unwrap();
    let hashes = proof::consistency(&log, OLD_SIZE, head.size).unwrap();
    for hash in [old_root].iter().chain(&hashes) {
        consistency += &format!("{}\n", Base64::encode_string(hash.as_bytes()));
    }

    let keys = |key: fn(&str, &Member) -> VerifierKey| -> String {
        let lines = members.iter().map(|it| format!("{}\n", key(ORIGIN, it)));
        lines.collect()
    };
    let alice = SecretKey::from_seed([1; 32]).public();
    let alice = VerifierKey::new("alice.example", KeyKind::Log, alice);
    let signature = Signature(hex::decode_array(TORSION).unwrap());
    let torsion = Note::new(
        TORSION_TEXT,
        vec![NoteSignature::by_log(&alice, &signature)],
    );

    put("origin", ORIGIN.as_bytes());
    put("logs", keys(log_key).as_bytes());
    put("cosigners", keys(cosigner_key).as_bytes());
    put("portable", portable.as_bytes());
    put("full", signed.full_note().unwrap().as_bytes());
    put("torsion", torsion.to_string().as_bytes());
    put("torsion.vkey", alice.to_string().as_bytes());
    put("policy", policy::export(ORIGIN, &set).as_bytes());
    put("leaf", &entry());
    put("waybill", waybill.to_string().as_bytes());
    put("consistency", consistency.as_bytes());
    for tile in tiles(head.size) {
        put(&tile.to_string(), &log.tile(tile));
    }
}

#[test]
fn go_verifiers_accept_our_log_and_refuse_a_changed_one() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/go");
    let output = match Command::new("go")
        .args(["run", "."])
        .arg(folder.path())
        .current_dir(program)
        .output()
    {
        Ok(it) => it,
        Err(error)
            if error.kind() == ErrorKind::NotFound
                && std::env::var_os("KOGGE_TEST_OPTIONAL").is_some() =>
        {
            eprintln!("skipped: `go` is not installed, and KOGGE_TEST_OPTIONAL allows that");
            return;
        }
        Err(error) => panic!("cannot run `go`, which this test needs: {error}"),
    };
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{stdout}{stderr}");
    let passed: Vec<_> = stdout.lines().collect();
    let checks = [
        "notes",
        "torsion",
        "policy",
        "waybill",
        "consistency",
        "tiles",
        "bundles",
    ];
    assert_eq!(passed, checks.map(|it| format!("{it}: ok")));
}
