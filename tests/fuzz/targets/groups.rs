//! Verified groups: all honest bytes pass, no damaged one does.

use std::sync::OnceLock;

use kogge_node::proto::exchange::group::{GROUP_BYTES, group_count};
use kogge_node::proto::exchange::verify::{Need, Verified, Verifier};

use crate::targets::Choices;
use crate::targets::exchange::Artifact;

/// Sizes around which trees change their shape.
const SIZES: [usize; 7] = [
    1,
    GROUP_BYTES - 1,
    GROUP_BYTES,
    GROUP_BYTES + 1,
    2 * GROUP_BYTES,
    3 * GROUP_BYTES + 17,
    5 * GROUP_BYTES,
];

/// Input: which artifact, which groups, then damages: kind, place and how.
///
/// Planted: a verifier that does not look at the last byte of a group.
pub(crate) fn groups(bytes: &[u8], is_planted: bool) -> bool {
    let mut choices = Choices(bytes);
    let artifacts = artifacts();
    let chosen = usize::try_from(choices.below(SIZES.len() as u64)).unwrap_or(0);
    let artifact = &artifacts[chosen];
    let count = group_count(artifact.size());
    let first = choices.below(count);
    let groups = first..first + 1 + choices.below(count - first);
    let honest = artifact.pieces(groups.clone());
    let verify = |stream: &[u8], size, groups| {
        let verifier = Verifier::new(artifact.root, size, groups)?;
        Some(run(verifier, stream, artifact, is_planted))
    };
    let size = artifact.size();
    assert_eq!(
        verify(&honest, size, &groups),
        Some(true),
        "honest bytes are refused"
    );

    // Everything about a stream can be wrong: a byte, its length, the size, the place.
    let mut stream = honest.clone();
    let place = usize::try_from(choices.number()).unwrap_or(0) % honest.len();
    match choices.below(5) {
        0 => stream.truncate(place),
        1 => stream.insert(place, choices.byte()),
        2 => stream.extend([choices.byte()]),
        3 => stream.rotate_left(1 + place % 64),
        _ => stream[place] ^= choices.byte().max(1),
    }
    if stream != honest {
        assert_eq!(
            verify(&stream, size, &groups),
            Some(false),
            "damage at {place} passes"
        );
    }
    let elsewhere = groups.start + 1..groups.end + 1;
    assert_ne!(
        verify(&honest, size, &elsewhere),
        Some(true),
        "another place"
    );
    let reaches_end = groups.end == count;
    let other_size = size + 1 + choices.below(200);
    let verdict = verify(&honest, other_size, &groups);
    assert!(verdict != Some(true) || !reaches_end, "another size");
    true
}

/// Whether the whole stream passes; panics if wrong bytes pass on the way.
fn run(mut verifier: Verifier, mut stream: &[u8], artifact: &Artifact, is_planted: bool) -> bool {
    while !stream.is_empty() || !verifier.need().is_empty() {
        let need = verifier.need();
        let length = if need.is_empty() {
            stream.len()
        } else {
            need.len()
        };
        let (head, rest) = stream.split_at(length.min(stream.len()));
        let mut piece = head.to_vec();
        if let (Need::Leaf { offset, len }, true) = (&need, is_planted)
            && let (Some(seen), Some(right)) = (piece.last_mut(), artifact.at(*offset, *len).last())
        {
            *seen = *right;
        }
        match verifier.feed(piece) {
            Ok(Verified::Node(_)) => {}
            Ok(Verified::Group(it)) => {
                let right = artifact.at(it.offset(), it.bytes().len());
                assert!(it.bytes() == right, "wrong bytes at {} pass", it.offset());
            }
            Err(refused) => {
                assert!(verifier.feed(head).is_err(), "{refused} is forgotten");
                return false;
            }
        }
        stream = rest;
    }
    verifier.finish().is_ok()
}

fn artifacts() -> &'static Vec<Artifact> {
    static ARTIFACTS: OnceLock<Vec<Artifact>> = OnceLock::new();
    ARTIFACTS.get_or_init(|| SIZES.map(Artifact::new).into_iter().collect())
}
