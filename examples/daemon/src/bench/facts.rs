//! Entries as a Maven repository yields them, numbered: the same number is the same package.

use kogge::base::{Algorithm, ChainId};
use kogge::proto::chain::NodeKeys;
use kogge::proto::log::entry::{Attest, Source, package_subject};
use kogge::{AddArtifact, Blake3, Digest, Entry, Sha256, WallTime};

/// The package URL with this number.
pub(super) fn purl(number: u64) -> String {
    format!("pkg:maven/org.example.bench/library-{number}@1.4.2")
}

/// The digest of the file of the package with this number.
pub(super) fn sha256(number: u64) -> Sha256 {
    Sha256::of(&number.to_be_bytes())
}

/// The package with this number: one file, and the attestations of all `signers`, of whom the
/// first submitted it.
pub(super) fn group(
    number: u64,
    chain: &ChainId,
    signers: &[NodeKeys],
    time: WallTime,
) -> Vec<Entry> {
    let Some(builder) = signers.first() else {
        return Vec::new();
    };
    let file = artifact(number, builder, time);
    let subject = package_subject([&file]);
    let signed = Attest::signed_bytes(chain, &subject, time);
    let mut attests: Vec<Attest> = signers
        .iter()
        .map(|it| Attest {
            subject,
            node: it.id(),
            time,
            signature: it.vote.sign(&signed),
        })
        .collect();
    attests.sort_by_key(|it| it.node);
    let first = Entry::AddArtifact(Box::new(file));
    [first]
        .into_iter()
        .chain(attests.into_iter().map(Entry::Attest))
        .collect()
}

fn artifact(number: u64, builder: &NodeKeys, time: WallTime) -> AddArtifact {
    let content = number.to_be_bytes();
    // Nothing reads these digests, but an entry without them would be shorter than real ones.
    let long = [Blake3::of(&content).0, sha256(number).0].concat();
    let digest = |algorithm: Algorithm| {
        let bytes = long.get(..algorithm.bytes_len());
        bytes.and_then(|it| Digest::new(algorithm, it))
    };
    AddArtifact {
        purl: purl(number),
        file: format!("library-{number}-1.4.2.jar"),
        blake3: Blake3::of(&content),
        sha256: sha256(number),
        digests: [Algorithm::Sha512, Algorithm::Sha1, Algorithm::Md5]
            .into_iter()
            .filter_map(digest)
            .collect(),
        size: 123_456,
        media_type: "application/java-archive".into(),
        source: Source::fetched("repository.example.org/maven2"),
        dependencies: Some(Blake3::of(b"dependencies")),
        builder: builder.id(),
        publication: None,
        time,
    }
}
