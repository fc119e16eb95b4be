//! Groups: the units of which a block's body consists, and the rules for each.
//!
//! ```text
//! package   AddArtifact{file 1} … AddArtifact{file n}  Attest … Attest
//! tag       BindTag  Attest … Attest
//! single    AddNode | RemoveNode | RemoveArtifact
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{SignatureError, Subject};
use crate::proto::chain::change::{check_admission, check_dismissal};
use crate::proto::chain::consent::{Consent, verify_publication};
use crate::proto::chain::rules::{Ledger, RuleError, check_marks, check_signers};
use crate::proto::chain::state::ChainState;
use crate::proto::log::entry::{
    AddArtifact, AddNode, Attest, BindTag, Entry, RemoveArtifact, RemoveNode, package_subject,
};

/// A registry, a repository and a tag.
type TagName = (String, String, String);

/// Splits the first group off `entries`; both parts are empty if there is none.
///
/// # Errors
///
/// [`RuleError::Stray`] if the first entry cannot start a group.
pub(crate) fn split(entries: &[Entry]) -> Result<(&[Entry], &[Entry]), RuleError> {
    let heads = match entries.first() {
        None => 0,
        Some(Entry::AddArtifact(first)) => count(
            entries,
            |it| matches!(it, Entry::AddArtifact(it) if it.purl == first.purl),
        ),
        Some(Entry::BindTag(_)) => 1,
        Some(Entry::AddNode(_) | Entry::RemoveNode(_) | Entry::RemoveArtifact(_)) => {
            return Ok(entries.split_at(1));
        }
        Some(it @ (Entry::Attest(_) | Entry::Seal(_))) => {
            return Err(RuleError::Stray(it.kind_name()));
        }
    };
    let attests = count(entries.get(heads..).unwrap_or_default(), |it| {
        matches!(it, Entry::Attest(_))
    });
    Ok(entries.split_at(heads + attests))
}

fn count(entries: &[Entry], is_wanted: impl Fn(&Entry) -> bool) -> usize {
    entries.iter().take_while(|it| is_wanted(it)).count()
}

/// A block's body that grows group by group.
pub(crate) struct Body<'a> {
    /// The state before the block: its members decide and attest.
    state: &'a ChainState,
    ledger: &'a dyn Ledger,
    is_verified: &'a mut dyn FnMut(&Attest) -> bool,
    /// The state after the block, as far as the groups change it: members and retired keys.
    next: ChainState,
    packages: BTreeMap<String, Subject>,
    tags: BTreeSet<TagName>,
    withdrawn: BTreeSet<u64>,
}

impl<'a> Body<'a> {
    pub(crate) fn new(
        state: &'a ChainState,
        ledger: &'a dyn Ledger,
        is_verified: &'a mut dyn FnMut(&Attest) -> bool,
    ) -> Self {
        Self {
            state,
            ledger,
            is_verified,
            next: state.clone(),
            packages: BTreeMap::new(),
            tags: BTreeSet::new(),
            withdrawn: BTreeSet::new(),
        }
    }

    /// The state after the block, of which only members and retired keys are up to date.
    pub(crate) fn into_next(self) -> ChainState {
        self.next
    }

    /// Adds exactly one group; changes nothing if a rule forbids it.
    pub(crate) fn add(&mut self, group: &[Entry]) -> Result<(), RuleError> {
        let (group, rest) = split(group)?;
        if let Some(stray) = rest.first() {
            return Err(RuleError::Stray(stray.kind_name()));
        }
        match group.first() {
            None => Err(RuleError::Empty),
            Some(Entry::AddArtifact(_)) => self.add_package(group),
            Some(Entry::BindTag(tag)) => self.bind_tag(tag, group.get(1..).unwrap_or_default()),
            Some(Entry::AddNode(it)) => self.add_node(it),
            Some(Entry::RemoveNode(it)) => self.remove_node(it),
            Some(Entry::RemoveArtifact(it)) => self.remove_artifact(it),
            Some(it @ (Entry::Attest(_) | Entry::Seal(_))) => Err(RuleError::Stray(it.kind_name())),
        }
    }

    fn add_package(&mut self, group: &[Entry]) -> Result<(), RuleError> {
        let files: Vec<&AddArtifact> = group
            .iter()
            .map_while(|it| match it {
                Entry::AddArtifact(it) => Some(&**it),
                _ => None,
            })
            .collect();
        let Some((first, others)) = files.split_first() else {
            return Err(RuleError::Empty);
        };
        let is_uniform = others.iter().all(|it| {
            it.builder == first.builder
                && it.time == first.time
                && it.publication == first.publication
        });
        if !is_uniform || !files.windows(2).all(|it| it[0].file < it[1].file) {
            return Err(RuleError::Files(first.purl.clone()));
        }
        let subject = package_subject(files.iter().copied());
        let logged = self.packages.get(&first.purl).copied();
        match logged.or_else(|| self.ledger.package(&first.purl)) {
            Some(logged) if logged == subject => {
                return Err(RuleError::AlreadyLogged(first.purl.clone()));
            }
            Some(logged) => {
                let purl = first.purl.clone();
                return Err(RuleError::Conflict { purl, logged });
            }
            None => {}
        }
        if self.state.members.by_node(&first.builder).is_none() {
            return Err(RuleError::Stranger(first.builder));
        }
        self.check_attests(&subject, group.get(files.len()..).unwrap_or_default())?;
        if let Some(publication) = &first.publication {
            verify_publication(&self.state.chain, &subject, publication)
                .map_err(|_| RuleError::Publication(first.purl.clone()))?;
        }
        self.packages.insert(first.purl.clone(), subject);
        Ok(())
    }

    fn bind_tag(&mut self, tag: &BindTag, attests: &[Entry]) -> Result<(), RuleError> {
        let name = (
            tag.registry.clone(),
            tag.repository.clone(),
            tag.tag.clone(),
        );
        let bound = self
            .ledger
            .tag(&tag.registry, &tag.repository, &tag.tag)
            .is_some_and(|it| it == tag.digest);
        if bound {
            return Err(RuleError::AlreadyLogged(format!(
                "{}/{}:{}",
                tag.registry, tag.repository, tag.tag
            )));
        }
        if self.tags.contains(&name) {
            return Err(RuleError::Repeated("tag"));
        }
        if self.state.members.by_node(&tag.builder).is_none() {
            return Err(RuleError::Stranger(tag.builder));
        }
        self.check_attests(&tag.subject(), attests)?;
        self.tags.insert(name);
        Ok(())
    }

    /// A quorum of members attests `subject`; guards are in the order of their cost.
    fn check_attests(&mut self, subject: &Subject, attests: &[Entry]) -> Result<(), RuleError> {
        let attests = attests.iter().filter_map(|it| match it {
            Entry::Attest(it) => Some(it),
            _ => None,
        });
        let attests: Vec<&Attest> = attests.collect();
        check_signers(&self.state.members, attests.iter().map(|it| &it.node))?;
        if attests.iter().any(|it| it.subject != *subject) {
            return Err(RuleError::Subject);
        }
        for attest in attests {
            if (self.is_verified)(attest) {
                continue;
            }
            verify_attest(self.state, attest).map_err(|_| RuleError::Signature(attest.node))?;
        }
        Ok(())
    }

    fn add_node(&mut self, entry: &AddNode) -> Result<(), RuleError> {
        self.check_first_change()?;
        check_admission(self.state, self.ledger, entry)?;
        self.next.admit(entry.card.member.clone());
        Ok(())
    }

    fn remove_node(&mut self, entry: &RemoveNode) -> Result<(), RuleError> {
        self.check_first_change()?;
        let member = check_dismissal(self.state, entry)?;
        self.next.dismiss(member);
        Ok(())
    }

    /// One change per block is at most a third of the votes in any set of three or more; smaller
    /// sets cannot change by less.
    fn check_first_change(&self) -> Result<(), RuleError> {
        if self.next.members == self.state.members {
            Ok(())
        } else {
            Err(RuleError::MembersChanged)
        }
    }

    fn remove_artifact(&mut self, entry: &RemoveArtifact) -> Result<(), RuleError> {
        if self.withdrawn.contains(&entry.index) || !self.ledger.artifact_exists(entry.index) {
            return Err(RuleError::NoArtifact(entry.index));
        }
        check_marks(self.state, &Consent::from(entry), &entry.marks)?;
        self.withdrawn.insert(entry.index);
        Ok(())
    }
}

/// Checks that a member of `state` signed `attest`; for whoever collects attestations before they
/// are in a block.
///
/// # Errors
///
/// [`SignatureError`] if the signature does not stand; [`SignatureError::Key`] if the node is not
/// a member.
pub fn verify_attest(state: &ChainState, attest: &Attest) -> Result<(), SignatureError> {
    let member = state
        .members()
        .by_node(&attest.node)
        .ok_or(SignatureError::Key)?;
    let message = Attest::signed_bytes(state.chain(), &attest.subject, attest.time);
    member.vote.verify(&message, &attest.signature)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Sha256, WallTime};
    use crate::proto::chain::consent::publish;
    use crate::proto::chain::member::NodeKeys;
    use crate::proto::chain::testing::{
        MemoryChain, artifact, node_keys, package, package_of, remove_artifact, tag,
    };

    const PURL: &str = "pkg:maven/a/a@1";

    fn nodes<const N: usize>(numbers: [u8; N]) -> [NodeKeys; N] {
        numbers.map(node_keys)
    }

    fn verdict(chain: &MemoryChain, group: &[Entry]) -> Result<(), RuleError> {
        let mut unknown = |_: &Attest| false;
        Body::new(&chain.state, &chain.ledger, &mut unknown).add(group)
    }

    fn append(chain: &mut MemoryChain, group: Vec<Entry>) {
        let block = chain.build([group]).unwrap();
        chain.append(&block).unwrap();
    }

    #[test]
    fn a_package_needs_a_quorum_of_members_for_its_very_facts() {
        let chain = MemoryChain::new(4);
        let id = *chain.state.chain();
        let three = nodes([0, 1, 2]);
        let good = package(&id, PURL, "", &three);
        assert_eq!(verdict(&chain, &good), Ok(()));

        let two = package(&id, PURL, "", &three[..2]);
        assert_eq!(
            verdict(&chain, &two),
            Err(RuleError::Quorum { have: 2, need: 3 })
        );
        let stranger = package(&id, PURL, "", &nodes([0, 1, 9]));
        assert_eq!(
            verdict(&chain, &stranger),
            Err(RuleError::Stranger(node_keys(9).id()))
        );
        let foreign = package(&id, PURL, "", &nodes([9, 0, 1, 2]));
        assert_eq!(
            verdict(&chain, &foreign),
            Err(RuleError::Stranger(node_keys(9).id())),
            "the builder is a member, too"
        );
        let mut mixed = good.clone();
        mixed[1] = package(&id, PURL, "other", &three)[1].clone();
        assert_eq!(verdict(&chain, &mixed), Err(RuleError::Subject));
        let mut swapped = good.clone();
        swapped.swap(1, 2);
        assert_eq!(verdict(&chain, &swapped), Err(RuleError::Unsorted));
        let mut doubled = good.clone();
        doubled[2] = doubled[1].clone();
        assert_eq!(verdict(&chain, &doubled), Err(RuleError::Unsorted));
        let mut forged = good;
        let Entry::Attest(it) = &mut forged[3] else {
            panic!("an attestation comes last");
        };
        it.time = WallTime::from_millis(1);
        let node = it.node;
        assert_eq!(verdict(&chain, &forged), Err(RuleError::Signature(node)));
    }

    #[test]
    fn an_attestation_known_to_be_verified_is_not_verified_again() {
        let chain = MemoryChain::new(1);
        let group = package(chain.state.chain(), PURL, "", &nodes([0]));
        let mut asked = Vec::new();
        let mut known = |it: &Attest| {
            asked.push(Entry::Attest(it.clone()));
            true
        };
        let mut body = Body::new(&chain.state, &chain.ledger, &mut known);
        assert_eq!(body.add(&group), Ok(()));
        assert_eq!(asked, group[1..]);
    }

    #[test]
    fn files_of_a_package_are_sorted_distinct_and_of_one_submission() {
        let chain = MemoryChain::new(1);
        let id = *chain.state.chain();
        let signers = nodes([0]);
        let file = |name| artifact(PURL, name, "", &signers[0]);
        let two = || vec![file("a"), file("b")];
        assert_eq!(verdict(&chain, &package_of(&id, two(), &signers)), Ok(()));
        let spoil: [fn(&mut Vec<AddArtifact>); 5] = [
            |it| it.swap(0, 1),
            |it| it[1] = it[0].clone(),
            |it| it[1].builder = node_keys(1).id(),
            |it| it[1].time = WallTime::from_millis(1),
            |it| {
                let chain = crate::base::ChainId([0; 32]);
                it[1].publication = Some(publish(&chain, &Subject([0; 32]), &node_keys(0).admin));
            },
        ];
        for (case, spoil) in spoil.into_iter().enumerate() {
            let mut files = two();
            spoil(&mut files);
            assert_eq!(
                verdict(&chain, &package_of(&id, files, &signers)),
                Err(RuleError::Files(PURL.into())),
                "case {case}"
            );
        }
    }

    #[test]
    fn a_publication_must_stand() {
        let chain = MemoryChain::new(1);
        let id = *chain.state.chain();
        let signers = nodes([0]);
        let mut file = artifact(PURL, "a", "", &signers[0]);
        let subject = package_subject([&file]);
        let publisher = node_keys(50).identity;
        file.publication = Some(publish(&id, &subject, &publisher));
        let good = package_of(&id, vec![file.clone()], &signers);
        assert_eq!(verdict(&chain, &good), Ok(()));
        file.publication = Some(publish(&id, &Subject([0; 32]), &publisher));
        assert_eq!(
            verdict(&chain, &package_of(&id, vec![file], &signers)),
            Err(RuleError::Publication(PURL.into()))
        );
    }

    #[test]
    fn a_package_version_enters_the_log_once() {
        let mut chain = MemoryChain::new(1);
        let id = *chain.state.chain();
        let signers = nodes([0]);
        let (first, other) = (
            package(&id, PURL, "", &signers),
            package(&id, PURL, "other", &signers),
        );
        let Entry::Attest(Attest { subject, .. }) = first[1] else {
            panic!("an attestation comes last");
        };
        let expected = [
            (&first, RuleError::AlreadyLogged(PURL.into())),
            (
                &other,
                RuleError::Conflict {
                    purl: PURL.into(),
                    logged: subject,
                },
            ),
        ];
        let mut unknown = |_: &Attest| false;
        let mut body = Body::new(&chain.state, &chain.ledger, &mut unknown);
        assert_eq!(body.add(&first), Ok(()));
        for (group, error) in &expected {
            assert_eq!(body.add(group), Err(error.clone()), "in one block");
        }
        append(&mut chain, first.clone());
        for (group, error) in &expected {
            assert_eq!(verdict(&chain, group), Err(error.clone()), "later");
        }
    }

    #[test]
    fn a_tag_is_bound_anew_only_to_another_digest() {
        let mut chain = MemoryChain::new(1);
        let id = *chain.state.chain();
        let bind = |digest| tag(&id, "3.20", Sha256([digest; 32]), &nodes([0]));
        append(&mut chain, bind(1));
        assert!(matches!(
            verdict(&chain, &bind(1)),
            Err(RuleError::AlreadyLogged(_))
        ));
        let mut unknown = |_: &Attest| false;
        let mut body = Body::new(&chain.state, &chain.ledger, &mut unknown);
        assert_eq!(body.add(&bind(2)), Ok(()));
        assert_eq!(body.add(&bind(3)), Err(RuleError::Repeated("tag")));
        append(&mut chain, bind(2));
        append(&mut chain, bind(1));
    }

    #[test]
    fn an_artifact_is_withdrawn_once() {
        let mut chain = MemoryChain::new(1);
        let id = *chain.state.chain();
        let admins = nodes([0]);
        append(&mut chain, package(&id, PURL, "", &admins));
        for (index, good) in [(0, true), (1, false), (99, false)] {
            let group = remove_artifact(&id, index, &admins);
            assert_eq!(verdict(&chain, &group).is_ok(), good, "leaf {index}");
        }
        append(&mut chain, remove_artifact(&id, 0, &admins));
        assert_eq!(
            verdict(&chain, &remove_artifact(&id, 0, &admins)),
            Err(RuleError::NoArtifact(0))
        );
    }

    #[test]
    fn entries_out_of_place_are_refused() {
        let chain = MemoryChain::new(1);
        let id = *chain.state.chain();
        let good = package(&id, PURL, "", &nodes([0]));
        assert_eq!(verdict(&chain, &good[1..]), Err(RuleError::Stray("attest")));
        let mut two = good.clone();
        two.extend(package(&id, "pkg:maven/b/b@1", "", &nodes([0])));
        assert_eq!(verdict(&chain, &two), Err(RuleError::Stray("add-artifact")));
        let none = Err(RuleError::Quorum { have: 0, need: 1 });
        assert_eq!(verdict(&chain, &good[..1]), none);
    }
}
