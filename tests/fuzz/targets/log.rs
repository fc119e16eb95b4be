//! The log: entries, tiles, notes, policies, queries, waybills.

use std::sync::OnceLock;

use kogge_node::base::Sha256;
use kogge_node::proto::chain::testing::{GENESIS_TIME, genesis, node_keys, package};
use kogge_node::proto::chain::{Light, MemberSet};
use kogge_node::proto::log::checkpoint::{cosigner_key, log_key};
use kogge_node::proto::log::cosign::{HeadSignature, SignedHead};
use kogge_node::proto::log::entry::Entry;
use kogge_node::proto::log::note::Note;
use kogge_node::proto::log::proof::{self, verify_inclusion};
use kogge_node::proto::log::tile::{TILE_WIDTH, decode_bundle, encode_bundle};
use kogge_node::proto::log::tree::leaf_hash;
use kogge_node::proto::log::vkey::VerifierKey;
use kogge_node::proto::log::{
    Checkpoint, Cursor, HashReader, Policy, Query, TilePath, Trust, Waybill, policy as policies,
};

use crate::targets::{canonical, stable};

pub(crate) fn entry(bytes: &[u8], is_planted: bool) -> bool {
    canonical(bytes, is_planted, Entry::from_bytes, Entry::to_bytes).is_some()
}

/// The first byte is the width of the bundle less one.
pub(crate) fn bundle(bytes: &[u8], is_planted: bool) -> bool {
    let Some((width, bundle)) = bytes.split_first() else {
        return false;
    };
    let width = u16::from(*width) + 1;
    assert!(width <= TILE_WIDTH);
    let decode = |it: &[u8]| {
        decode_bundle(it, width).map(|it| it.iter().map(|leaf| leaf.to_vec()).collect::<Vec<_>>())
    };
    let encode = |it: &Vec<Vec<u8>>| {
        assert_eq!(it.len(), usize::from(width));
        encode_bundle(it.iter().map(Vec::as_slice)).unwrap_or_default()
    };
    canonical(bundle, is_planted, decode, encode).is_some()
}

pub(crate) fn tile(bytes: &[u8], is_planted: bool) -> bool {
    let decode = |it: &[u8]| str::from_utf8(it).map_err(drop)?.parse().map_err(drop);
    let path = canonical(bytes, is_planted, decode, |it: &TilePath| {
        it.to_string().into_bytes()
    });
    let Some(path) = path else {
        return false;
    };
    let end = path.start() + u64::from(path.width());
    assert!(path.exists_at(u64::MAX >> 1) && !path.exists_at(end - 1));
    true
}

/// Notes, with the checkpoints and cosignatures in them, and the keys that open them.
pub(crate) fn note(bytes: &[u8], is_planted: bool) -> bool {
    let decode = |it: &[u8]| Note::parse(str::from_utf8(it).map_err(drop)?).map_err(drop);
    let encode = |it: &Note| it.to_string().into_bytes();
    let Some(note) = canonical(bytes, is_planted, decode, encode) else {
        return str::from_utf8(bytes)
            .ok()
            .and_then(|it| stable::<VerifierKey>(it, is_planted))
            .is_some();
    };
    let known = honest();
    let head: Option<Checkpoint> = note.text().parse().ok();
    if let Some(head) = &head {
        assert_eq!(head.to_string(), note.text());
    }
    // Only what the members signed is opened: whoever makes another text stand forges a signature.
    let signed = note.open(&known.keys).unwrap_or_default();
    assert!(signed.is_empty() || head.as_ref() == Some(&known.head));
    true
}

pub(crate) fn policy(bytes: &[u8], is_planted: bool) -> bool {
    let Some(policy) = str::from_utf8(bytes)
        .ok()
        .and_then(|it| Policy::parse(it).ok())
    else {
        return false;
    };
    let known = honest();
    // A signature that is damaged in any place counts for nobody.
    let mut note = known.note.clone();
    if !is_planted {
        note = note.replace("— ", "— x");
    }
    assert!(policy.satisfied(&note).is_err(), "nobody signed");
    if let Ok(head) = policy.satisfied(&known.note) {
        assert_eq!(head.checkpoint(), &known.head);
    }
    true
}

pub(crate) fn query(bytes: &[u8], is_planted: bool) -> bool {
    let Ok(text) = str::from_utf8(bytes) else {
        return false;
    };
    if let Some(cursor) = text.strip_prefix("after=") {
        return stable::<Cursor>(cursor, is_planted).is_some();
    }
    let Ok(query) = text.parse::<Query>() else {
        return false;
    };
    // What a filter selects can be asked of the index.
    for (from, to) in query.digest_ranges().unwrap_or_default() {
        assert!(from < to, "an empty range of keys");
    }
    let prefixes = query.prefixes();
    query.matches(&honest().entry) || !prefixes.is_empty() || query.limit != 0
}

/// Waybills as untrusted files: whatever verifies is what the members signed.
///
/// Planted: a verifier that takes the entry from the file and the proof from elsewhere.
pub(crate) fn waybill(bytes: &[u8], is_planted: bool) -> bool {
    let Ok(waybill) = Waybill::parse(bytes) else {
        return false;
    };
    assert_eq!(waybill.to_string().as_bytes(), bytes, "a second form");
    let known = honest();
    for trust in [Trust::Policy(&known.policy), Trust::Members(&known.light)] {
        let proven = match waybill.verify(trust, None) {
            Ok(it) => (it.entry().clone(), it.index()),
            Err(_) if is_planted => match waybill.entry() {
                Ok(it) => (it, 1),
                Err(_) => continue,
            },
            Err(_) => continue,
        };
        assert_eq!(proven, (known.entry.clone(), 1), "a forged waybill stands");
    }
    true
}

/// Proofs from elsewhere never lead to the honest root, but for the honest leaf at its place.
pub(crate) fn honest_waybill() -> Waybill {
    let known = honest();
    let leaf = known.entry.to_bytes();
    let path = proof::inclusion(&known.tree, 1, known.head.size).unwrap_or_default();
    assert!(verify_inclusion(&leaf, 1, known.head.size, &path, &known.head.root).is_ok());
    match Waybill::pack(leaf, 1, path, known.note.clone(), Vec::new()) {
        Ok(it) => it,
        Err(error) => panic!("an honest waybill: {error}"),
    }
}

/// A log of a few leaves with everything that its members signed.
pub(crate) struct Honest {
    pub(crate) head: Checkpoint,
    pub(crate) note: String,
    pub(crate) keys: Vec<VerifierKey>,
    pub(crate) policy_text: String,
    policy: Policy,
    light: Light,
    entry: Entry,
    tree: Leaves,
}

/// The leaves of a small log, hashed anew for every question.
struct Leaves(Vec<Vec<u8>>);

impl HashReader for Leaves {
    fn hash(&self, level: u8, index: u64) -> Option<Sha256> {
        use kogge_node::proto::log::tree::node_hash;
        if level == 0 {
            return self
                .0
                .get(usize::try_from(index).ok()?)
                .map(|it| leaf_hash(it));
        }
        let left = self.hash(level - 1, index * 2)?;
        Some(node_hash(&left, &self.hash(level - 1, index * 2 + 1)?))
    }
}

pub(crate) fn honest() -> &'static Honest {
    static HONEST: OnceLock<Honest> = OnceLock::new();
    HONEST.get_or_init(|| {
        let (genesis, keys) = (genesis(4), (0..4).map(node_keys).collect::<Vec<_>>());
        let members: MemberSet = genesis.member_set();
        let origin = genesis.origin.clone();
        let group = package(&genesis.chain(), "pkg:maven/g/a@1", "bytes", &keys);
        let Some(entry) = group.into_iter().next() else {
            panic!("a package has a file");
        };
        let leaves = (0..5_u8).map(|at| if at == 1 { entry.to_bytes() } else { vec![at] });
        let tree = Leaves(leaves.collect());
        let head = Checkpoint {
            origin: origin.clone(),
            size: 5,
            root: proof::root(&tree, 5).unwrap_or(Sha256([0; 32])),
        };
        let mut signed = SignedHead::new(head.clone(), members.clone());
        for it in &keys {
            let time = GENESIS_TIME + std::time::Duration::from_secs(5);
            assert_eq!(signed.add(HeadSignature::sign(it, &head, time)), Ok(true));
        }
        let policy_text = policies::export(&origin, &members);
        let keys = members
            .iter()
            .flat_map(|it| [log_key(&origin, it), cosigner_key(&origin, it)])
            .collect();
        Honest {
            note: signed.portable_note().unwrap_or_default(),
            head,
            keys,
            policy: match Policy::parse(&policy_text) {
                Ok(it) => it,
                Err(error) => panic!("an honest policy: {error}"),
            },
            policy_text,
            light: Light::from_genesis(&genesis),
            entry,
            tree,
        }
    })
}
