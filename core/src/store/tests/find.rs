//! Pages and look-ups against a scan of all entries.

use std::time::Duration;

use proptest::prelude::*;

use crate::base::{Algorithm, Blake3, Digest, PublicKey, Sha256, Signature, Subject, WallTime};
use crate::proto::log::entry::{
    Attest, Entry, Publication, RemoveArtifact, Source, package_subject,
};
use crate::proto::log::query::{Cursor, DigestFilter, Order, Query, TagName};
use crate::store::find::Found;
use crate::store::page::Page;
use crate::store::recover::Store;
use crate::store::tests::testing::{Maker, add, artifact, bind, node, open};

const PATIENCE: Duration = Duration::from_secs(30);

/// Entries from few values, so that filters meet.
fn any_entry() -> impl Strategy<Value = Entry> {
    let artifact = (0..3_u8, 0..3_u8, 0..4_u8, 0..3_u8, any::<bool>()).prop_map(
        |(name, version, file, who, extra)| {
            let purl = format!("pkg:maven/g/a{name}@{version}");
            let mut it = artifact(&purl, &format!("f{file}"));
            it.builder = node(who);
            if extra {
                it.digests = vec![Digest::new(Algorithm::Sha1, &[file; 20]).unwrap()];
                it.dependencies = Some(Blake3([who; 32]));
                it.publication = Some(Publication {
                    publisher: PublicKey([who; 32]),
                    signature: Signature([0; 64]),
                });
                it.source = Source {
                    repository: format!("repo.test/{name}"),
                    commit: vec![version; 20].into(),
                    spec: None,
                    rule: String::new(),
                };
            }
            Entry::AddArtifact(Box::new(it))
        },
    );
    let attest = (0..3_u8, 0..3_u8).prop_map(|(subject, who)| {
        Entry::Attest(Attest {
            subject: Subject([subject; 32]),
            node: node(who),
            time: WallTime::from_millis(0),
            signature: Signature([0; 64]),
        })
    });
    let removal = (0..40_u64).prop_map(|index| {
        Entry::RemoveArtifact(RemoveArtifact {
            index,
            reason: String::new(),
            marks: vec![],
        })
    });
    let binding = (0..3_u8, 0..9_u8).prop_map(|(tag, digest)| bind(&format!("{tag}"), digest));
    prop_oneof![4 => artifact, 1 => attest, 1 => removal, 1 => binding]
}

fn any_query() -> impl Strategy<Value = Query> {
    let maybe = |max: u8| prop_oneof![2 => Just(None), 1 => (0..max).prop_map(Some)];
    let what = (maybe(4), maybe(3), maybe(4), maybe(6), maybe(4), maybe(4));
    let who = (maybe(4), maybe(4), maybe(4), maybe(4), maybe(7));
    let how = (maybe(9), maybe(9), any::<bool>(), 1..7_usize);
    (what, who, how).prop_map(|(what, who, how)| {
        let (package, version, file, digest, source, commit) = what;
        let (publisher, by, dependency, subject, kind) = who;
        let (since, until, is_oldest, limit) = how;
        let purl = package.zip(version).filter(|it| it.1 < 2);
        let sha1 = |it: u8| Digest::new(Algorithm::Sha1, &[it; 20]).unwrap();
        let file_digest = |it: u8| artifact("pkg:maven/g/a1@1", &format!("f{it}")).sha256;
        Query {
            package: package.map(|it| format!("maven/g/a{it}")),
            purl: purl.map(|(name, version)| format!("pkg:maven/g/a{name}@{version}")),
            file: file.map(|it| format!("f{it}")),
            digest: digest.map(|it| match it {
                0 | 1 => DigestFilter::Whole(sha1(it)),
                2 | 3 => DigestFilter::Whole(file_digest(it).into()),
                4 => DigestFilter::Digits(None, "020202020".into()),
                _ => DigestFilter::Digits(
                    Some(Algorithm::Sha256),
                    file_digest(1).to_string()[..11].into(),
                ),
            }),
            publisher: publisher.map(|it| PublicKey([it; 32])),
            node: by.map(node),
            source: source.map(|it| format!("repo.test/{it}")),
            commit: commit.filter(|_| source.is_some()).map(|it| vec![it; 20]),
            dependency: dependency.map(|it| Blake3([it; 32])),
            subject: subject.map(|it| Subject([it; 32])),
            tag: subject.filter(|it| *it == 3).map(|_| TagName {
                registry: "registry.test".into(),
                repository: "library/alpine".into(),
                tag: "1".into(),
            }),
            kind,
            since: since.map(|it| WallTime::from_millis(u64::from(it) * 700)),
            until: until.map(|it| WallTime::from_millis(u64::from(it) * 700)),
            order: if is_oldest {
                Order::OldestFirst
            } else {
                Order::NewestFirst
            },
            limit,
            after: None,
        }
    })
}

/// All pages of `query`.
fn all(store: &Store, query: &Query) -> Vec<u64> {
    let (mut query, mut found) = (query.clone(), Vec::new());
    loop {
        let page = store.index().find(&query).unwrap();
        assert!(page.rows.len() <= query.limit);
        found.extend(page.rows.iter().map(|it| it.index));
        query.after = page.next;
        if page.next.is_none() {
            return found;
        }
    }
}

/// What the definition says: look at every leaf.
fn naive(store: &Store, query: &Query) -> Vec<u64> {
    let size = store.chain().size().unwrap();
    let mut found: Vec<_> = (0..size)
        .filter(|at| {
            let leaf = store.chain().leaf(*at).unwrap().unwrap();
            let entry = Entry::from_bytes(&leaf).unwrap();
            let height = store.chain().height_of(*at).unwrap().unwrap();
            let time = store.chain().header(height).unwrap().unwrap().seal.time;
            query.since.is_none_or(|it| it <= time)
                && query.until.is_none_or(|it| time < it)
                && query.matches(&entry)
        })
        .collect();
    if query.order == Order::NewestFirst {
        found.reverse();
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn pages_hold_exactly_the_entries_that_match(
        blocks in prop::collection::vec(prop::collection::vec(any_entry(), 0..12), 1..6),
        split in 0..6_usize,
        queries in prop::collection::vec(any_query(), 40),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let mut maker = Maker::default();
        for (at, entries) in blocks.iter().enumerate() {
            if at == split {
                // What is before this is in the environment, the rest in memory.
                prop_assert!(store.index().wait(PATIENCE));
            }
            maker.append(&store, entries);
        }
        for query in &queries {
            prop_assert_eq!(all(&store, query), naive(&store, query), "{:?}", query);
        }
    }
}

#[test]
fn packages_are_found_in_memory_and_in_the_index_alike() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let mut maker = Maker::default();
    let (one, two) = ("pkg:maven/g/a@1.0", "pkg:maven/g/a@2.0?classifier=x");
    maker.append(&store, &[add(one, "a.jar"), add(one, "a.pom")]);
    maker.append(
        &store,
        &[
            add(two, "a.jar"),
            Entry::RemoveArtifact(RemoveArtifact {
                index: 1,
                reason: "malware".into(),
                marks: vec![],
            }),
        ],
    );
    let found = |index, purl: &str, file: &str, removed| Found {
        index,
        artifact: artifact(purl, file),
        removed,
    };
    let index = store.index();
    let check = || {
        let jar = found(0, one, "a.jar", None);
        let pom = found(1, one, "a.pom", Some(4));
        for digest in [
            jar.artifact.sha256.into(),
            Digest::from(jar.artifact.blake3),
        ] {
            assert_eq!(index.by_digest(&digest), Ok(Some(jar.clone())));
        }
        assert_eq!(index.by_digest(&Sha256([9; 32]).into()), Ok(None));
        assert_eq!(index.file(one, "a.pom"), Ok(Some(pom.clone())));
        assert_eq!(index.file(one, "a"), Ok(None));
        let subject = package_subject([&jar.artifact, &pom.artifact]);
        assert_eq!(index.package(one), Ok(vec![jar, pom]));
        assert_eq!(index.package_subject(one), Ok(Some(subject)));
        assert_eq!(index.package_subject("pkg:maven/g/a"), Ok(None));
        let versions = |after, limit| index.versions("maven/g/a", after, limit).unwrap();
        let expected = [("1.0".to_owned(), 0), ("2.0".to_owned(), 3)];
        assert_eq!(versions(None, 9), expected);
        assert_eq!(versions(None, 1), expected[..1]);
        assert_eq!(versions(Some("1.0"), 9), expected[1..]);
        let query = Query {
            file: Some("a.pom".into()),
            ..Query::default()
        };
        let row = index.find(&query).unwrap().rows.swap_remove(0);
        assert_eq!((row.height, row.removed), (1, Some(4)));
    };
    check();
    assert!(index.wait(PATIENCE));
    check();
}

#[test]
fn tags_are_found_in_memory_and_in_the_index_alike() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let entries = [bind("3.20", 1), bind("edge", 2), bind("3.20", 3)];
    Maker::default().append(&store, &entries);
    let index = store.index();
    let check = || {
        let tag = |tag| index.tag("registry.test", "library/alpine", tag).unwrap();
        let newest = tag("3.20").map(|(at, it)| (at, Entry::BindTag(it)));
        assert_eq!(newest, Some((2, bind("3.20", 3))));
        assert_eq!(tag("3"), None);
        let tags = |after, limit| {
            let page = index.tags("registry.test", "library/alpine", after, limit);
            page.unwrap().into_iter().map(|it| it.0).collect::<Vec<_>>()
        };
        assert_eq!((tags(None, 9), tags(None, 1)), (vec![2, 1], vec![2]));
        assert_eq!(tags(Some("3.20"), 9), [1]);
    };
    check();
    assert!(index.wait(PATIENCE));
    check();
}

#[test]
fn a_digest_prefers_the_artifact_that_was_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let mut copy = artifact("pkg:maven/g/a@1", "f");
    copy.purl = "pkg:maven/g/b@1".into();
    let entries = [
        add("pkg:maven/g/a@1", "f"),
        Entry::AddArtifact(Box::new(copy.clone())),
    ];
    let mut maker = Maker::default();
    maker.append(&store, &entries);
    let found = || {
        store
            .index()
            .by_digest(&copy.sha256.into())
            .unwrap()
            .unwrap()
    };
    assert_eq!(found().index, 0);
    for (removed, expected) in [(0, (1, None)), (1, (0, Some(3)))] {
        let removal = RemoveArtifact {
            index: removed,
            reason: String::new(),
            marks: vec![],
        };
        maker.append(&store, &[Entry::RemoveArtifact(removal)]);
        assert_eq!((found().index, found().removed), expected);
    }
}

#[test]
fn pages_do_not_shift_while_the_log_grows() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let mut maker = Maker::default();
    maker.append(&store, &[bind("a", 1), bind("b", 1), bind("c", 1)]);
    let mut query: Query = "kind=bind-tag limit=2".parse().unwrap();
    let first = store.index().find(&query).unwrap();
    maker.append(&store, &[bind("d", 1)]);
    query.after = first.next;
    let second = store.index().find(&query).unwrap();
    let at = |page: &Page| page.rows.iter().map(|it| it.index).collect::<Vec<_>>();
    assert_eq!((at(&first), at(&second)), (vec![2, 1], vec![0]));
    assert_eq!((first.as_of, second.as_of, second.next), (4, 4, None));
}

#[test]
fn a_hostile_cursor_yields_nothing_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    Maker::default().append(&store, &[bind("a", 1)]);
    for order in [Order::NewestFirst, Order::OldestFirst] {
        for (as_of, at) in [(0, 0), (u64::MAX, u64::MAX), (0, u64::MAX), (u64::MAX, 0)] {
            let after = Some(Cursor { as_of, at });
            let query = Query {
                order,
                after,
                ..Query::default()
            };
            assert!(store.index().find(&query).unwrap().rows.len() <= 2);
        }
    }
}

#[test]
fn a_page_looks_at_a_bounded_number_of_keys() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let mut maker = Maker::default();
    // Two filters that many leaves fit in turn, but none both.
    for at in 0..3_u64 {
        let entries: Vec<_> = (0..7_000)
            .map(|it| {
                let name = format!("{at}-{it}");
                let file = if it % 2 == 0 { "even" } else { &name };
                let mut it = artifact(&format!("pkg:maven/g/{name}@1"), file);
                it.builder = node(if file == "even" { 1 } else { 2 });
                Entry::AddArtifact(Box::new(it))
            })
            .collect();
        maker.append(&store, &entries);
    }
    let mut query = Query {
        file: Some("even".into()),
        node: Some(node(2)),
        ..Query::default()
    };
    let (mut pages, mut rows) = (0, 0);
    loop {
        let page = store.index().find(&query).unwrap();
        (pages, rows, query.after) = (pages + 1, rows + page.rows.len(), page.next);
        if page.next.is_none() {
            break;
        }
    }
    assert_eq!(
        (pages, rows),
        (2, 0),
        "21,000 seeks are more than one page makes"
    );
}
