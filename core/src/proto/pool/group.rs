//! A group that waits for a block: files of one package version, or a tag's binding, with the
//! attestations collected so far.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::base::{NodeId, Subject, WallTime};
use crate::proto::chain::member::MEMBERS_MAX;
use crate::proto::log::entry::{AddArtifact, Attest, Entry, Publication, package_subject};

/// Longest group. Unit: bytes of its entries.
pub const GROUP_BYTES_MAX: usize = 1_024 * 1_024 - 16 * 1_024;

/// Why entries are not a group.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum GroupError {
    /// No entry, or one that no group of this kind has.
    #[error("want files of one package or one tag binding, then attestations")]
    Shape,
    /// The files do not belong to one submission.
    #[error("the files are unsorted, repeated, or not of one submission")]
    Files,
    /// The attestations are about something else, unsorted, repeated, or too many.
    #[error("the attestations are about other facts, unsorted, repeated or too many")]
    Attests,
    /// Nobody vouches for builder and time.
    #[error("the builder did not attest the group at its time")]
    Builder,
    /// More than a message carries. Unit: bytes.
    #[error("{0} bytes of entries, at most {GROUP_BYTES_MAX} are allowed")]
    TooLong(usize),
}

/// Entries that enter the log together.
///
/// Builder and time are no facts, so attestations do not cover them. The pool only takes a group
/// whose builder attested it *at that time*: then nobody can make further variants of a group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Group {
    heads: Vec<Entry>,
    attests: Vec<Attest>,
    subject: Subject,
    rank: Rank,
    bytes_len: usize,
}

/// Of two variants of a group, all nodes keep the one that ranks lower.
pub(crate) type Rank = (WallTime, NodeId);

impl Group {
    /// Reads a group in the form of a block: entries, then attestations sorted by node.
    ///
    /// # Errors
    ///
    /// [`GroupError`] naming the first problem. Signatures are not looked at.
    pub fn new(entries: Vec<Entry>) -> Result<Self, GroupError> {
        let bytes_len = entries.iter().map(|it| it.to_bytes().len()).sum();
        if GROUP_BYTES_MAX < bytes_len {
            return Err(GroupError::TooLong(bytes_len));
        }
        let (mut heads, mut attests) = (Vec::new(), Vec::new());
        for entry in entries {
            match entry {
                Entry::Attest(it) => attests.push(it),
                it if attests.is_empty() => heads.push(it),
                _ => return Err(GroupError::Shape),
            }
        }
        let (subject, (time, builder)) = check_heads(&heads)?;
        let is_sorted = attests.windows(2).all(|it| it[0].node < it[1].node);
        let is_about = attests.iter().all(|it| it.subject == subject);
        if !is_sorted || !is_about || MEMBERS_MAX < attests.len() {
            return Err(GroupError::Attests);
        }
        if !attests
            .iter()
            .any(|it| it.node == builder && it.time == time)
        {
            return Err(GroupError::Builder);
        }
        Ok(Self {
            heads,
            attests,
            subject,
            rank: (time, builder),
            bytes_len,
        })
    }

    /// What the attestations are about.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// The node that submitted the group.
    pub fn builder(&self) -> &NodeId {
        &self.rank.1
    }

    /// The attestations, sorted by node.
    pub fn attests(&self) -> &[Attest] {
        &self.attests
    }

    /// The entries without the attestations.
    pub fn heads(&self) -> &[Entry] {
        &self.heads
    }

    /// The publisher's signature, if there is one.
    pub fn publication(&self) -> Option<&Publication> {
        match self.heads.first() {
            Some(Entry::AddArtifact(it)) => it.publication.as_ref(),
            _ => None,
        }
    }

    /// Length of all entries. Unit: bytes.
    pub fn bytes_len(&self) -> usize {
        self.bytes_len
    }

    /// The entries in the form of a block.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        let attests = self.attests.iter().cloned().map(Entry::Attest);
        self.heads.iter().cloned().chain(attests)
    }

    pub(crate) fn rank(&self) -> Rank {
        self.rank
    }

    /// The entries without the attestations, and those.
    pub(crate) fn into_parts(self) -> (Vec<Entry>, Vec<Attest>) {
        (self.heads, self.attests)
    }
}

fn check_heads(heads: &[Entry]) -> Result<(Subject, Rank), GroupError> {
    if let [Entry::BindTag(it)] = heads {
        return Ok((it.subject(), (it.time, it.builder)));
    }
    let files: Option<Vec<&AddArtifact>> = heads
        .iter()
        .map(|it| match it {
            Entry::AddArtifact(it) => Some(&**it),
            _ => None,
        })
        .collect();
    let files = files.ok_or(GroupError::Shape)?;
    let first = *files.first().ok_or(GroupError::Shape)?;
    let is_uniform = files.iter().all(|it| {
        it.purl == first.purl
            && it.builder == first.builder
            && it.time == first.time
            && it.publication == first.publication
    });
    if !is_uniform || !files.windows(2).all(|it| it[0].file < it[1].file) {
        return Err(GroupError::Files);
    }
    let rank = (first.time, first.builder);
    Ok((package_subject(files), rank))
}

/// An array of leaves in their canonical bytes.
impl<C> Encode<C> for Group {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        let leaves: Vec<ByteVec> = self.entries().map(|it| it.to_bytes().into()).collect();
        leaves.encode(e, ctx)
    }
}

impl<'b, C> Decode<'b, C> for Group {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        use minicbor::decode::Error;
        // Leaf by leaf: a list of a million empty leaves ends at the first.
        let leaves = d
            .array()?
            .ok_or(Error::message("want a list of known length"))?;
        let entries: Result<Vec<Entry>, Error> = (0..leaves)
            .map(|_| Entry::from_bytes(d.bytes()?).map_err(Error::custom))
            .collect();
        Self::new(entries?).map_err(Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ChainId, Sha256, codec};
    use crate::proto::chain::testing::{artifact, node_keys, package, package_of, tag};

    const CHAIN: ChainId = ChainId([1; 32]);

    #[test]
    fn packages_and_tags_survive_their_bytes() {
        let signers = [node_keys(1), node_keys(2)];
        let files = ["a", "b"].map(|it| artifact("pkg:maven/g/a@1", it, "", &signers[0]));
        for entries in [
            package_of(&CHAIN, files.to_vec(), &signers),
            tag(&CHAIN, "3.20", Sha256([1; 32]), &signers),
        ] {
            let group = Group::new(entries.clone()).unwrap();
            assert_eq!(group.entries().collect::<Vec<_>>(), entries);
            let copy = codec::decode::<Group>(&codec::encode(&group), 1 << 20);
            assert_eq!(copy, Ok(group));
        }
    }

    #[test]
    fn a_list_of_nothing_ends_at_the_first_leaf() {
        // A list that was read to its end would be found cut off.
        let [one, million] = [&[0x81, 0x40][..], &[0x9a, 0x00, 0x10, 0x00, 0x00, 0x40]];
        let refused = |bytes| codec::decode::<Group>(bytes, 1 << 20).unwrap_err();
        assert_eq!(refused(million), refused(one));
    }

    #[test]
    fn what_a_block_would_refuse_is_no_group() {
        let signers = [node_keys(1), node_keys(2)];
        let good = || package(&CHAIN, "pkg:maven/g/a@1", "", &signers);
        let other = || package(&CHAIN, "pkg:maven/g/a@2", "", &signers);
        let at = |group: Vec<Entry>, at: usize| group.into_iter().nth(at).unwrap();
        let unsorted = ["b", "a"].map(|it| artifact("pkg:maven/g/a@1", it, "", &signers[0]));
        let mixed = [
            artifact("pkg:maven/g/a@1", "a", "", &signers[0]),
            artifact("pkg:maven/g/a@1", "b", "", &signers[1]),
        ];
        let mut late = artifact("pkg:maven/g/a@1", "a", "", &signers[0]);
        late.time = WallTime::from_millis(1);
        let only_other: Vec<Entry> = package(&CHAIN, "pkg:maven/g/a@1", "", &signers)
            .into_iter()
            .filter(|it| !matches!(it, Entry::Attest(it) if it.node == signers[0].id()))
            .collect();
        for (entries, expected) in [
            (vec![], GroupError::Shape),
            (good().split_off(1), GroupError::Shape),
            (vec![at(good(), 0)], GroupError::Builder),
            ([good(), good()].concat(), GroupError::Shape),
            ([vec![at(other(), 0)], good()].concat(), GroupError::Files),
            (
                package_of(&CHAIN, unsorted.to_vec(), &signers),
                GroupError::Files,
            ),
            (
                package_of(&CHAIN, mixed.to_vec(), &signers),
                GroupError::Files,
            ),
            (
                vec![at(good(), 0), at(good(), 2), at(good(), 1)],
                GroupError::Attests,
            ),
            (
                vec![at(good(), 0), at(good(), 1), at(good(), 1)],
                GroupError::Attests,
            ),
            (vec![at(good(), 0), at(other(), 1)], GroupError::Attests),
            (
                package_of(&CHAIN, vec![late], &signers),
                GroupError::Builder,
            ),
            (only_other, GroupError::Builder),
        ] {
            assert_eq!(
                Group::new(entries.clone()).err(),
                Some(expected),
                "{entries:?}"
            );
        }
        let huge = (0..2_000).map(|it| {
            let name = format!("{it:04}{}", "x".repeat(500));
            artifact("pkg:maven/g/a@1", &name, "", &signers[0])
        });
        assert!(matches!(
            Group::new(package_of(&CHAIN, huge.collect(), &signers)),
            Err(GroupError::TooLong(_))
        ));
    }
}
