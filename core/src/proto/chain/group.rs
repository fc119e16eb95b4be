//! Groups: the units of which a block's body consists, and the rules for each.
//!
//! ```text
//! package   AddArtifact{file 1} … AddArtifact{file n}  Attest … Attest
//! tag       BindTag  Attest … Attest
//! single    AddNode | RemoveNode | RemoveArtifact
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::base::{NodeId, SignatureError, Subject, WallTime};
use crate::proto::chain::change::{check_admission, check_dismissal};
use crate::proto::chain::consent::{Consent, verify_publication};
use crate::proto::chain::rules::{Ledger, RuleError, check_marks, check_signers};
use crate::proto::chain::state::ChainState;
use crate::proto::log::entry::{
    AddArtifact, AddNode, Attest, BindTag, Entry, RemoveArtifact, RemoveNode, package_subject,
};
use crate::proto::package::{ImageName, Pointer, Purl, PurlError};

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
    /// The block's own time.
    time: WallTime,
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
        time: WallTime,
        ledger: &'a dyn Ledger,
        is_verified: &'a mut dyn FnMut(&Attest) -> bool,
    ) -> Self {
        Self {
            state,
            time,
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
            Some(Entry::BindTag(tag)) => self.bind_tag(tag, &attests_of(group)),
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
        check_purl(&first.purl)?;
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
        let attests = attests_of(group);
        self.check_attests(&subject, (first.builder, first.time), &attests)?;
        if let Some(publication) = &first.publication {
            verify_publication(&self.state.chain, &subject, publication)
                .map_err(|_| RuleError::Publication(first.purl.clone()))?;
        }
        self.packages.insert(first.purl.clone(), subject);
        Ok(())
    }

    fn bind_tag(&mut self, tag: &BindTag, attests: &[&Attest]) -> Result<(), RuleError> {
        let name = (
            tag.registry.clone(),
            tag.repository.clone(),
            tag.tag.clone(),
        );
        check_tag(tag)?;
        let bound = self.ledger.tag(&tag.registry, &tag.repository, &tag.tag);
        if bound.is_some_and(|it| it.digest == tag.digest) {
            return Err(RuleError::AlreadyLogged(full_name(tag)));
        }
        if self.tags.contains(&name) {
            return Err(RuleError::Repeated("tag"));
        }
        let mut times = attests.iter().map(|it| it.time).chain([tag.time]);
        if let Some(bound) = bound
            && times.any(|it| it <= bound.time)
        {
            return Err(RuleError::Stale(bound.time));
        }
        let drift_max = Duration::from_millis(self.state.params.clock_drift_max_ms);
        if self.time + drift_max < tag.time {
            return Err(RuleError::Premature(tag.time));
        }
        self.check_attests(&tag.subject(), (tag.builder, tag.time), attests)?;
        self.tags.insert(name);
        Ok(())
    }

    /// A quorum of members attests `subject`, among them who submitted the group at that time;
    /// guards are in the order of their cost.
    fn check_attests(
        &mut self,
        subject: &Subject,
        (builder, time): (NodeId, WallTime),
        attests: &[&Attest],
    ) -> Result<(), RuleError> {
        check_signers(&self.state.members, attests.iter().map(|it| &it.node))?;
        // Builder and time are no facts. Only the builder's own attestation, which is signed with
        // its time, keeps others from making them up.
        let is_builders = |it: &&Attest| it.node == builder && it.time == time;
        if !attests.iter().any(is_builders) {
            return Err(RuleError::Builder(builder));
        }
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

/// A second spelling of a purl would be a second package.
fn check_purl(text: &str) -> Result<(), PurlError> {
    let purl = Purl::parse_canonical(text)?;
    if purl.version().is_some() {
        return Ok(());
    }
    Err(PurlError::Type {
        purl: purl.as_str().to_owned(),
        wanted: "version of a package",
    })
}

/// A second spelling of an image would be a second tag.
fn check_tag(tag: &BindTag) -> Result<(), RuleError> {
    let name = ImageName::new(&tag.registry, &tag.repository);
    let is_canonical = |it: ImageName| {
        (it.registry(), it.repository()) == (tag.registry.as_str(), tag.repository.as_str())
    };
    let is_tag = matches!(tag.tag.parse(), Ok(Pointer::Tag(_)));
    if is_tag && name.is_ok_and(is_canonical) {
        Ok(())
    } else {
        Err(RuleError::Tag(full_name(tag)))
    }
}

fn full_name(tag: &BindTag) -> String {
    format!("{}/{}:{}", tag.registry, tag.repository, tag.tag)
}

fn attests_of(group: &[Entry]) -> Vec<&Attest> {
    let attests = group.iter().filter_map(|it| match it {
        Entry::Attest(it) => Some(it),
        _ => None,
    });
    attests.collect()
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
pub(crate) mod tests;
