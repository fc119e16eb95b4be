//! What groups the rules let in.

use super::*;
use crate::base::{Sha256, WallTime};
use crate::proto::chain::consent::publish;
use crate::proto::chain::member::NodeKeys;
use crate::proto::chain::testing::{
    GENESIS_TIME, MemoryChain, artifact, attested, node_keys, package, package_of, remove_artifact,
    tag, tag_at,
};

const PURL: &str = "pkg:maven/a/a@1";

pub(crate) fn nodes<const N: usize>(numbers: [u8; N]) -> [NodeKeys; N] {
    numbers.map(node_keys)
}

pub(crate) fn verdict(chain: &MemoryChain, group: &[Entry]) -> Result<(), RuleError> {
    let mut unknown = |_: &Attest| false;
    Body::new(&chain.state, GENESIS_TIME, &chain.ledger, &mut unknown).add(group)
}

pub(crate) fn append(chain: &mut MemoryChain, group: Vec<Entry>) {
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
        "one stranger beside a quorum"
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
    let builder = node_keys(0).id();
    let others = forged.iter_mut().filter_map(|it| match it {
        Entry::Attest(it) if it.node != builder => Some(it),
        _ => None,
    });
    let node = others.map(|it| {
        it.time = WallTime::from_millis(1);
        it.node
    });
    let node = node.min().unwrap();
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
    let mut body = Body::new(&chain.state, GENESIS_TIME, &chain.ledger, &mut known);
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
    let mut body = Body::new(&chain.state, GENESIS_TIME, &chain.ledger, &mut unknown);
    assert_eq!(body.add(&first), Ok(()));
    for (group, error) in &expected {
        assert_eq!(body.add(group), Err(error.clone()), "in one block");
    }
    append(&mut chain, first.clone());
    for (group, error) in &expected {
        assert_eq!(verdict(&chain, group), Err(error.clone()), "later");
    }
}

fn later(millis: u64) -> WallTime {
    GENESIS_TIME + Duration::from_millis(millis)
}

#[test]
fn a_tag_is_bound_anew_only_to_another_digest() {
    let mut chain = MemoryChain::new(1);
    let id = *chain.state.chain();
    let bind = |digest, at| tag_at(&id, "3.20", Sha256([digest; 32]), &nodes([0]), later(at));
    append(&mut chain, bind(1, 0));
    assert!(matches!(
        verdict(&chain, &bind(1, 1)),
        Err(RuleError::AlreadyLogged(_))
    ));
    let mut unknown = |_: &Attest| false;
    let mut body = Body::new(&chain.state, GENESIS_TIME, &chain.ledger, &mut unknown);
    assert_eq!(body.add(&bind(2, 1)), Ok(()));
    assert_eq!(body.add(&bind(3, 1)), Err(RuleError::Repeated("tag")));
    append(&mut chain, bind(2, 1));
    append(&mut chain, bind(1, 2));
}

#[test]
fn nobody_turns_a_tag_back_with_what_was_attested_before() {
    let mut chain = MemoryChain::new(4);
    let id = *chain.state.chain();
    let three = nodes([0, 1, 2]);
    let bind = |digest, at| tag_at(&id, "3.20", Sha256([digest; 32]), &three, later(at));
    let old = bind(1, 0);
    append(&mut chain, old.clone());
    append(&mut chain, bind(2, 10));
    let stale = Err(RuleError::Stale(later(10)));
    assert_eq!(verdict(&chain, &old), stale, "the very same group");
    assert_eq!(verdict(&chain, &bind(1, 10)), stale, "of the same time");
    let mut redated = bind(1, 11);
    redated[1..].clone_from_slice(&old[1..]);
    assert_eq!(verdict(&chain, &redated), stale, "old attestations");
    let mut mixed = bind(1, 11);
    mixed[3] = old[3].clone();
    assert_eq!(verdict(&chain, &mixed), stale, "one old attestation");
    assert_eq!(verdict(&chain, &bind(1, 11)), Ok(()));
}

#[test]
fn builder_and_time_are_those_of_an_attestation() {
    let chain = MemoryChain::new(4);
    let id = *chain.state.chain();
    let signers = nodes([0, 1, 2]);
    let refused = |builder: u8| Err(RuleError::Builder(node_keys(builder).id()));
    for (builder, time) in [(0, later(1)), (3, GENESIS_TIME)] {
        let mut bound = tag(&id, "3.20", Sha256([1; 32]), &signers);
        let mut added = package(&id, PURL, "", &signers);
        assert_eq!(verdict(&chain, &bound), Ok(()));
        assert_eq!(verdict(&chain, &added), Ok(()));
        let (Entry::BindTag(tag), Entry::AddArtifact(file)) = (&mut bound[0], &mut added[0]) else {
            panic!("the head of a group comes first");
        };
        (tag.builder, tag.time) = (node_keys(builder).id(), time);
        (file.builder, file.time) = (node_keys(builder).id(), time);
        assert_eq!(verdict(&chain, &bound), refused(builder));
        assert_eq!(verdict(&chain, &added), refused(builder));
    }
}

#[test]
fn a_binding_is_not_of_the_future_or_none_could_replace_it() {
    let chain = MemoryChain::new(1);
    let drift = chain.state.params().clock_drift_max_ms;
    for (at, is_good) in [(drift, true), (drift + 1, false)] {
        let digest = Sha256([1; 32]);
        let group = tag_at(chain.state.chain(), "1", digest, &nodes([0]), later(at));
        let premature = Err(RuleError::Premature(later(at)));
        let expected = if is_good { Ok(()) } else { premature };
        assert_eq!(verdict(&chain, &group), expected, "{at} ms");
    }
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

#[test]
fn a_package_has_one_name() {
    let chain = MemoryChain::new(1);
    let verdict = |purl: &str| {
        let group = package(chain.state.chain(), purl, "", &nodes([0]));
        verdict(&chain, &group)
    };
    for (purl, other) in [
        ("pkg:maven/g/a@1.0", "pkg:Maven/g/a@1.0"),
        ("pkg:maven/g/a@1.0", "pkg://maven/g/a@1.0"),
        ("pkg:maven/g/a@1.0%2Bb", "pkg:maven/g/a@1.0%2bb"),
        ("pkg:docker/x@sha256:00", "pkg:docker/x@sha256%3A00"),
    ] {
        assert_eq!(verdict(purl), Ok(()));
        let (given, canonical) = (other.to_owned(), purl.to_owned());
        let expected = PurlError::NotCanonical { given, canonical };
        assert_eq!(verdict(other), Err(expected.into()), "{other}");
    }
    for purl in ["pkg:maven/g/a", "pkg:x", "pkg:generic/a@1%0A"] {
        assert!(matches!(verdict(purl), Err(RuleError::Purl(_))), "{purl}");
    }
}

#[test]
fn a_tag_has_one_name() {
    let chain = MemoryChain::new(1);
    let verdict = |registry: &str, repository: &str, name: &str| {
        let signers = nodes([0]);
        let mut group = tag(chain.state.chain(), name, Sha256([1; 32]), &signers);
        let Entry::BindTag(mut bind) = group.remove(0) else {
            panic!("a binding comes first");
        };
        (bind.registry, bind.repository) = (registry.into(), repository.into());
        let (subject, heads) = (bind.subject(), vec![Entry::BindTag(bind)]);
        let group = attested(chain.state.chain(), heads, subject, &signers, GENESIS_TIME);
        verdict(&chain, &group)
    };
    for (registry, repository, tag) in [
        ("docker.io", "library/alpine", "3.20"),
        ("localhost:5000", "alpine", "_T-1.0"),
        ("[::1]:5000", "a/b-c/d__e", "latest"),
    ] {
        assert_eq!(verdict(registry, repository, tag), Ok(()), "{registry}");
    }
    let long = "x".repeat(129);
    for (registry, repository, tag) in [
        ("docker.io", "alpine", "1"),
        ("Quay.example", "a/b", "1"),
        ("quay", "a/b", "1"),
        ("", "a/b", "1"),
        ("quay.example/a", "b", "1"),
        ("user@quay.example", "a/b", "1"),
        ("quay.example:", "a/b", "1"),
        ("quay.example", "", "1"),
        ("quay.example", "A/b", "1"),
        ("quay.example", "a//b", "1"),
        ("quay.example", "../b", "1"),
        ("quay.example", "a/b", ""),
        ("quay.example", "a/b", ".1"),
        ("quay.example", "a/b", "1 "),
        ("quay.example", "a/b", "sha256:00"),
        ("quay.example", "a/b", &*long),
    ] {
        let expected = RuleError::Tag(format!("{registry}/{repository}:{tag}"));
        let refused = verdict(registry, repository, tag);
        assert_eq!(refused, Err(expected), "{registry}/{repository}:{tag}");
    }
}
