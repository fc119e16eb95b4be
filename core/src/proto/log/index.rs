//! Which index keys one entry yields, so that it can be found without reading the log.
//!
//! ```text
//! key = table (1) ‖ what is looked up ‖ index of the leaf (8, big-endian)
//! ```
//!
//! All keys of one table have the looked-up part in a form of which no one is a prefix of another,
//! so the leaves of one value are neighbours, in the order of the log. Values are empty. Long
//! names are cut and carry a hash, digests are cut to 16 bytes: who reads checks the entry itself.
//! Keys have at most [`KEY_BYTES_MAX`] bytes.

use crate::base::{Algorithm, Blake3, NodeId, PublicKey, Subject};
use crate::proto::log::entry::{AddArtifact, Entry};

/// Longest key: LMDB's limit. Unit: bytes.
pub const KEY_BYTES_MAX: usize = 511;

/// Names above this length are cut. Unit: bytes.
const NAME_BYTES_MAX: usize = 400;

/// Longest package, version and qualifiers before they are cut; together they fit a key. Unit:
/// bytes.
const PURL_PART_BYTES_MAX: usize = 140;

/// Length of the hash that a cut name carries, and of a digest in a key. Unit: bytes.
const HASH_BYTES: usize = 16;

/// The first byte of a key.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
enum Table {
    /// Attestations by subject.
    Subject = b'a',
    /// Artifacts by digest.
    Digest = b'd',
    /// Artifacts by file name.
    File = b'f',
    /// Artifacts by package URL and file name.
    PackageFile = b'F',
    /// Entries by kind.
    Kind = b'k',
    /// Entries by node: builder, attester, admitted or dismissed.
    Node = b'n',
    /// Artifacts by package, in the order of the log.
    Package = b'P',
    /// Artifacts by package, version and qualifiers.
    Version = b'p',
    /// Artifacts by the digest of their dependency list.
    Dependency = b'r',
    /// Artifacts by source repository.
    Source = b's',
    /// Artifacts by source repository and commit.
    Commit = b'S',
    /// Bindings by registry, repository and tag.
    Tag = b't',
    /// Artifacts by publisher.
    Publisher = b'u',
    /// Removals by the index of what they remove.
    Removed = b'x',
}

/// A package URL in parts; texts as they stand in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PurlParts<'a> {
    /// Type, namespace and name, such as `maven/g/a`.
    pub package: &'a str,
    /// Version; empty if there is none.
    pub version: &'a str,
    /// Qualifiers and sub-path, with their `?` and `#`; empty if there are none.
    pub qualifiers: &'a str,
}

impl<'a> PurlParts<'a> {
    /// Splits a canonical package URL. Never fails: entries hold only canonical ones, and the
    /// parts of anything else lead to keys that nobody looks up.
    pub fn of(purl: &'a str) -> Self {
        let rest = purl.strip_prefix("pkg:").unwrap_or(purl);
        let cut = rest.find(['?', '#']).unwrap_or(rest.len());
        let (name, qualifiers) = rest.split_at(cut);
        let (package, version) = name.rsplit_once('@').unwrap_or((name, ""));
        Self {
            package,
            version,
            qualifiers,
        }
    }
}

/// A key without its index: all keys of one looked-up value begin with it, and only they.
pub type Prefix = Vec<u8>;

fn prefix(table: Table, parts: &[&[u8]]) -> Prefix {
    let mut key = vec![table as u8];
    parts.iter().for_each(|it| key.extend_from_slice(it));
    key
}

fn hash(parts: &[&[u8]]) -> [u8; HASH_BYTES] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let mut head = [0; HASH_BYTES];
    hasher.finalize_xof().fill(&mut head);
    head
}

/// A name and the zero byte that ends it; cut to `bytes_max` if it is longer.
fn name(text: &str, bytes_max: usize) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut name = match bytes.get(..bytes_max) {
        Some(head) if bytes_max < bytes.len() => {
            let mut cut = head.to_vec();
            cut.extend(hash(&[bytes]));
            cut
        }
        _ => bytes.to_vec(),
    };
    name.push(0);
    name
}

fn head(digest: &[u8]) -> &[u8] {
    digest.get(..HASH_BYTES).unwrap_or(digest)
}

/// Artifacts with this digest. Digests of one algorithm have one length.
pub fn by_digest(algorithm: Algorithm, digest: &[u8]) -> Prefix {
    prefix(Table::Digest, &[&[number_of(algorithm)], head(digest)])
}

fn number_of(algorithm: Algorithm) -> u8 {
    match algorithm {
        Algorithm::Blake3 => 1,
        Algorithm::Sha256 => 2,
        Algorithm::Sha512 => 3,
        Algorithm::Sha1 => 4,
        Algorithm::Md5 => 5,
    }
}

/// Keys of artifacts whose digest begins with the hex digits `digits`, as a range of keys: from
/// the first on, to and without the second. `None` if they are not lower-case hex.
pub fn by_digest_digits(algorithm: Algorithm, digits: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let digits = digits.get(..2 * HASH_BYTES).unwrap_or(digits);
    let pad = |digit: &str| {
        let even = format!("{digits}{}", digit.repeat(digits.len() % 2));
        crate::base::hex::decode(&even)
    };
    let (low, mut high) = (pad("0")?, pad("f")?);
    let number = number_of(algorithm);
    // Behind every digest and index that can follow.
    high.extend([0xff; HASH_BYTES + 9]);
    Some((
        prefix(Table::Digest, &[&[number], &low]),
        prefix(Table::Digest, &[&[number], &high]),
    ))
}

/// Artifacts of a package, such as `maven/g/a`.
pub fn by_package(package: &str) -> Prefix {
    prefix(Table::Package, &[&name(package, NAME_BYTES_MAX)])
}

/// Artifacts of exactly this package URL.
pub fn by_purl(purl: &str) -> Prefix {
    let parts = PurlParts::of(purl);
    let mut key = by_version(parts.package, parts.version);
    key.extend(name(parts.qualifiers, PURL_PART_BYTES_MAX));
    key
}

/// What the keys of [`by_purl`] for all qualifiers of a version begin with.
pub fn by_version(package: &str, version: &str) -> Prefix {
    let mut key = versions_of(package);
    key.extend(name(version, PURL_PART_BYTES_MAX));
    key
}

/// What the keys of [`by_purl`] for all versions of a package begin with. The next zero byte
/// ends the version, unless that was longer than 140 bytes.
pub fn versions_of(package: &str) -> Prefix {
    prefix(Table::Version, &[&name(package, PURL_PART_BYTES_MAX)])
}

/// Artifacts with this file name, of any package.
pub fn by_file(file: &str) -> Prefix {
    prefix(Table::File, &[&name(file, NAME_BYTES_MAX)])
}

/// The artifact with this file name in this package.
pub fn by_purl_and_file(purl: &str, file: &str) -> Prefix {
    let hash = hash(&[purl.as_bytes(), file.as_bytes()]);
    prefix(Table::PackageFile, &[&hash])
}

/// Artifacts that this key published.
pub fn by_publisher(publisher: &PublicKey) -> Prefix {
    prefix(Table::Publisher, &[head(&publisher.0)])
}

/// Entries about or by this node: what it built, attested, bound; its admission and dismissal.
pub fn by_node(node: &NodeId) -> Prefix {
    prefix(Table::Node, &[head(&node.0)])
}

/// Artifacts from this source repository.
pub fn by_source(repository: &str) -> Prefix {
    prefix(Table::Source, &[&hash(&[repository.as_bytes()])])
}

/// Artifacts from this commit of a source repository.
pub fn by_commit(repository: &str, commit: &[u8]) -> Prefix {
    prefix(
        Table::Commit,
        &[&hash(&[repository.as_bytes()]), &hash(&[commit])],
    )
}

/// Artifacts with this dependency list.
pub fn by_dependency(dependencies: &Blake3) -> Prefix {
    prefix(Table::Dependency, &[head(&dependencies.0)])
}

/// Attestations of this subject.
pub fn by_subject(subject: &Subject) -> Prefix {
    prefix(Table::Subject, &[head(&subject.0)])
}

/// Entries of this kind.
pub fn by_kind(kind: u8) -> Prefix {
    prefix(Table::Kind, &[&[kind]])
}

/// Removals of the artifact at `index`.
pub fn by_removed(index: u64) -> Prefix {
    prefix(Table::Removed, &[&index.to_be_bytes()])
}

/// What the keys of [`by_removed`] for all artifacts begin with.
pub fn removals() -> Prefix {
    prefix(Table::Removed, &[])
}

/// Bindings of this tag, the newest last.
pub fn by_tag(registry: &str, repository: &str, tag: &str) -> Prefix {
    let mut key = tags_of(registry, repository);
    key.extend(name(tag, NAME_BYTES_MAX));
    key
}

/// What the keys of [`by_tag`] for all tags of a repository begin with. The next zero byte ends
/// the tag, which has at most 128 bytes.
pub fn tags_of(registry: &str, repository: &str) -> Prefix {
    let hash = hash(&[registry.as_bytes(), repository.as_bytes()]);
    prefix(Table::Tag, &[&hash])
}

/// The key of the leaf at `index` under `prefix`.
pub fn key(prefix: &[u8], index: u64) -> Vec<u8> {
    [prefix, &index.to_be_bytes()].concat()
}

/// The index of the leaf that `key` leads to.
pub fn index_of(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|it| u64::from_be_bytes(*it))
}

/// All keys under which the entry at `index` is found.
pub fn keys(index: u64, entry: &Entry) -> Vec<Vec<u8>> {
    let mut prefixes = vec![by_kind(entry.kind())];
    match entry {
        Entry::Seal(_) => {}
        Entry::AddArtifact(it) => artifact_prefixes(it, &mut prefixes),
        Entry::RemoveArtifact(it) => prefixes.push(by_removed(it.index)),
        Entry::AddNode(it) => prefixes.push(by_node(&it.card.member.node)),
        Entry::RemoveNode(it) => prefixes.push(by_node(&it.node)),
        Entry::BindTag(it) => {
            prefixes.push(by_node(&it.builder));
            prefixes.push(by_tag(&it.registry, &it.repository, &it.tag));
        }
        Entry::Attest(it) => {
            prefixes.push(by_node(&it.node));
            prefixes.push(by_subject(&it.subject));
        }
    }
    prefixes.iter().map(|it| key(it, index)).collect()
}

fn artifact_prefixes(it: &AddArtifact, prefixes: &mut Vec<Prefix>) {
    prefixes.extend([
        by_digest(Algorithm::Blake3, &it.blake3.0),
        by_digest(Algorithm::Sha256, &it.sha256.0),
        by_package(PurlParts::of(&it.purl).package),
        by_purl(&it.purl),
        by_file(&it.file),
        by_purl_and_file(&it.purl, &it.file),
        by_node(&it.builder),
        by_source(&it.source.repository),
    ]);
    let further = it
        .digests
        .iter()
        .map(|digest| by_digest(digest.algorithm(), digest.bytes()));
    prefixes.extend(further);
    if !it.source.commit.is_empty() {
        prefixes.push(by_commit(&it.source.repository, &it.source.commit));
    }
    if let Some(publication) = &it.publication {
        prefixes.push(by_publisher(&publication.publisher));
    }
    if let Some(dependencies) = &it.dependencies {
        prefixes.push(by_dependency(dependencies));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::base::{Digest, Sha256, Signature, WallTime};
    use crate::proto::log::entry::{Attest, BindTag, Publication, RemoveArtifact, Source};

    fn artifact() -> AddArtifact {
        AddArtifact {
            purl: "pkg:maven/g/a@1.0?classifier=x".into(),
            file: "a.jar".into(),
            blake3: Blake3([1; 32]),
            sha256: Sha256([2; 32]),
            digests: vec![Digest::new(Algorithm::Sha1, &[3; 20]).unwrap()],
            size: 1,
            media_type: String::new(),
            source: Source {
                repository: "repo.test/x".into(),
                commit: vec![4; 20].into(),
                spec: None,
                rule: String::new(),
            },
            dependencies: Some(Blake3([5; 32])),
            builder: PublicKey([6; 32]),
            publication: Some(Publication {
                publisher: PublicKey([7; 32]),
                signature: Signature([0; 64]),
            }),
            time: WallTime::from_millis(0),
        }
    }

    fn set(prefixes: Vec<Prefix>, index: u64) -> BTreeSet<Vec<u8>> {
        prefixes.iter().map(|it| key(it, index)).collect()
    }

    #[test]
    fn an_artifact_is_found_by_everything_it_says() {
        let expected = set(
            vec![
                by_kind(1),
                by_digest(Algorithm::Blake3, &[1; 32]),
                by_digest(Algorithm::Sha256, &[2; 32]),
                by_digest(Algorithm::Sha1, &[3; 20]),
                by_package("maven/g/a"),
                by_purl("pkg:maven/g/a@1.0?classifier=x"),
                by_file("a.jar"),
                by_purl_and_file("pkg:maven/g/a@1.0?classifier=x", "a.jar"),
                by_source("repo.test/x"),
                by_commit("repo.test/x", &[4; 20]),
                by_dependency(&Blake3([5; 32])),
                by_node(&PublicKey([6; 32])),
                by_publisher(&PublicKey([7; 32])),
            ],
            9,
        );
        let keys = keys(9, &Entry::AddArtifact(Box::new(artifact())));
        assert_eq!(keys.iter().cloned().collect::<BTreeSet<_>>(), expected);
        assert!(keys.iter().all(|it| index_of(it) == Some(9)));
    }

    #[test]
    fn the_other_kinds_are_found_by_their_subject() {
        let time = WallTime::from_millis(0);
        let removal = RemoveArtifact {
            index: 4,
            reason: String::new(),
            marks: vec![],
        };
        let binding = BindTag {
            registry: "r".into(),
            repository: "p".into(),
            tag: "t".into(),
            digest: Sha256([0; 32]),
            builder: PublicKey([6; 32]),
            time,
        };
        let attest = Attest {
            subject: Subject([8; 32]),
            node: PublicKey([6; 32]),
            time,
            signature: Signature([0; 64]),
        };
        let node = by_node(&PublicKey([6; 32]));
        for (entry, expected) in [
            (
                Entry::RemoveArtifact(removal),
                vec![by_kind(2), by_removed(4)],
            ),
            (
                Entry::BindTag(binding),
                vec![by_kind(5), by_tag("r", "p", "t"), node.clone()],
            ),
            (
                Entry::Attest(attest),
                vec![by_kind(6), by_subject(&Subject([8; 32])), node],
            ),
        ] {
            let keys: BTreeSet<_> = keys(3, &entry).into_iter().collect();
            assert_eq!(keys, set(expected, 3), "{entry:?}");
        }
    }

    #[test]
    fn the_longest_names_fit_a_key_and_stay_apart() {
        let mut it = artifact();
        it.purl = format!(
            "pkg:x/{}@{}?{}",
            "p".repeat(340),
            "v".repeat(340),
            "q".repeat(330)
        );
        it.file = "f".repeat(512);
        let longest = keys(0, &Entry::AddArtifact(Box::new(it.clone())));
        assert!(longest.iter().all(|it| it.len() <= KEY_BYTES_MAX));
        let mut other = it.clone();
        other.purl.push('r');
        other.file.replace_range(511.., "g");
        assert_ne!(by_purl(&it.purl), by_purl(&other.purl));
        assert_ne!(by_file(&it.file), by_file(&other.file));
        assert_ne!(by_package(&"p".repeat(500)), by_package(&"p".repeat(501)));
    }

    #[test]
    fn no_name_is_the_beginning_of_another() {
        assert!(!by_package("maven/g/ab").starts_with(&by_package("maven/g/a")));
        assert!(!by_purl("pkg:x/a@1.0").starts_with(&by_purl("pkg:x/a@1")));
        assert!(!by_tag("r", "p", "3.20").starts_with(&by_tag("r", "p", "3")));
        assert!(by_purl("pkg:x/a@1").starts_with(&versions_of("x/a")));
        assert_ne!(tags_of("a", "bc"), tags_of("ab", "c"));
    }

    #[test]
    fn a_package_url_falls_into_its_parts() {
        for (purl, package, version, qualifiers) in [
            ("pkg:maven/g/a@1.0", "maven/g/a", "1.0", ""),
            ("pkg:npm/%40s/a@1#sub@x", "npm/%40s/a", "1", "#sub@x"),
            (
                "pkg:docker/a@sha256:ab?x=@",
                "docker/a",
                "sha256:ab",
                "?x=@",
            ),
            ("pkg:x/a", "x/a", "", ""),
            ("", "", "", ""),
        ] {
            let expected = PurlParts {
                package,
                version,
                qualifiers,
            };
            assert_eq!(PurlParts::of(purl), expected, "{purl}");
        }
    }

    #[test]
    fn digits_cover_exactly_the_digests_that_begin_with_them() {
        let full = by_digest(Algorithm::Sha256, &[0xab; 32]);
        for (digits, inside) in [
            ("abababab", true),
            ("ababababa", true),
            ("ababababb", false),
            ("abababac", false),
            ("abababaa", false),
            (&"ab".repeat(32), true),
        ] {
            let (low, high) = by_digest_digits(Algorithm::Sha256, digits).unwrap();
            for index in [0, u64::MAX] {
                let key = key(&full, index);
                assert_eq!(low <= key && key < high, inside, "{digits} {index}");
            }
        }
        assert_eq!(by_digest_digits(Algorithm::Sha256, "xyzxyzxy"), None);
    }
}
