//! Good inputs for every target, from which the corpus is written.

mod build;
mod disk;
mod package;

use std::fs;
use std::path::Path;

use kogge_node::base::{
    Algorithm, Blake3, BlockId, Digest, PublicKey, Rng, Sha256, Signature, Subject, WallTime, codec,
};
use kogge_node::node::testing::ProviderRow;
use kogge_node::proto::chain::testing::{
    self, GENESIS_TIME, MemoryChain, card, certificate, genesis, node_keys,
};
use kogge_node::proto::chain::{Block, Certificate, Consent, SetChange, VoteKind};
use kogge_node::proto::consensus::message::{RoundReason, RoundVote, RoundVotes};
use kogge_node::proto::consensus::{self, Polka, Proposal, Vote};
use kogge_node::proto::exchange::message::{Request, Want};
use kogge_node::proto::exchange::presence::Presence;
use kogge_node::proto::heads::HeadMessage;
use kogge_node::proto::hello::{self, Hello, Protocols, Reason, Role, Tip};
use kogge_node::proto::log::cosign::HeadSignature;
use kogge_node::proto::log::entry::{Entry, Publication};
use kogge_node::proto::log::tile::encode_bundle;
use kogge_node::proto::peers::book::{Book, Source};
use kogge_node::proto::pool::{Change, Group, Have, Kept, Marks, PoolMessage, Ready, Signers};
use kogge_node::proto::schedule::Ranges;
use kogge_node::proto::sync::{GetBlocks, Message, NotAvailable, SyncBlock};

use crate::drive::corpus_dir;
use crate::targets::{self, honest, honest_waybill};

type Seeds = Vec<Vec<u8>>;

/// With `KOGGE_FUZZ_BLESS` the seeds in the corpus are written anew; without it they are only
/// accepted by their targets, so that a corpus of an old format does not go unnoticed.
#[test]
fn the_seeds_are_accepted() {
    let is_blessed = std::env::var_os("KOGGE_FUZZ_BLESS").is_some();
    for target in targets::ALL {
        let seeds = seeds_of(target.name);
        for (at, seed) in seeds.iter().enumerate() {
            let name = target.name;
            assert!(targets::check(target, seed, false), "seed {at} of `{name}`");
        }
        if is_blessed {
            write(&corpus_dir(target.name), &seeds);
        }
    }
}

fn write(dir: &Path, seeds: &Seeds) {
    fs::create_dir_all(dir).unwrap();
    for file in fs::read_dir(dir).unwrap().map(|it| it.unwrap()) {
        if file.file_name().to_string_lossy().starts_with("seed-") {
            fs::remove_file(file.path()).unwrap();
        }
    }
    for (at, seed) in seeds.iter().enumerate() {
        fs::write(dir.join(format!("seed-{at:02}")), seed).unwrap();
    }
}

fn seeds_of(name: &str) -> Seeds {
    match name {
        "entry" => entries().iter().map(Entry::to_bytes).collect(),
        "bundle" => bundles(),
        "tile" => texts(&[
            "tile/0/000",
            "tile/entries/x001/x234/067",
            "tile/3/000.p/5",
            "tile/7/000.p/1",
        ]),
        "note" => notes(),
        "policy" => policies(),
        "query" => queries(),
        "waybill" => vec![honest_waybill().to_string().into_bytes()],
        "block" => vec![block().to_bytes()],
        "certificate" => vec![codec::encode(&votes())],
        "genesis" => [1, 4].map(|it| genesis(it).to_bytes()).to_vec(),
        "state" => states(),
        "change" => vec![codec::encode(&set_change())],
        "hello" => hellos(),
        "consensus" => consensus_messages(),
        "head" => vec![head().to_bytes()],
        "book" => books(),
        "build" => build::build_messages()
            .iter()
            .chain(&build::lists())
            .map(|it| it.to_bytes())
            .collect(),
        "pending" => build::pendings(),
        "spec" => build::specs(),
        "pool" => pool_messages().iter().map(PoolMessage::to_bytes).collect(),
        "kept" => kept(),
        "sync" => sync_messages().iter().map(Message::to_bytes).collect(),
        "gossip" => gossips(),
        "requests" => requests(),
        "has" => vec![codec::encode(&presences())],
        "purl" => package::purls(),
        "image" => package::images(),
        "maven" => package::mavens(),
        "xml" => package::xml(),
        "oci" => package::oci(),
        "frames" => disk::frames(),
        "request" => disk::requests(),
        "row" => disk::rows(),
        "provider" => ProviderRow::samples(),
        "journal" => disk::journals(noise()),
        // The rest choose what to do by the bytes; any are good.
        _ => noise(),
    }
}

fn texts(all: &[&str]) -> Seeds {
    all.iter().map(|it| it.as_bytes().to_vec()).collect()
}

fn noise() -> Seeds {
    let mut rng = Rng::new(5);
    let lengths = [0_usize, 8, 20, 60, 200, 600, 1_500];
    let mut noise = |bytes| {
        (0..bytes)
            .map(|_| rng.next_u64().to_le_bytes()[0])
            .collect()
    };
    lengths.into_iter().map(|it| noise(it + 8)).collect()
}

fn signature() -> Signature {
    Signature([9; 64])
}

/// One of each kind, as honest nodes make them.
fn entries() -> Vec<Entry> {
    let chain = MemoryChain::new(4);
    let (id, keys) = (*chain.state.chain(), [0, 1, 2].map(node_keys));
    let mut artifact =
        testing::artifact("pkg:maven/org.example/lib@1.0", "lib-1.0.jar", "", &keys[0]);
    artifact.digests = vec![
        Digest::new(Algorithm::Sha512, &[5; 64]).unwrap(),
        Digest::new(Algorithm::Sha1, &[1; 20]).unwrap(),
    ];
    artifact.dependencies = Some(Blake3::of(b""));
    artifact.publication = Some(Publication {
        publisher: keys[1].id(),
        signature: signature(),
    });
    artifact.source.commit = vec![7; 20].into();
    artifact.source.spec = Some(Blake3::of(b"spec"));
    let mut entries = vec![
        Entry::Seal(block().header.seal),
        Entry::AddArtifact(Box::new(artifact)),
    ];
    entries.extend(testing::package(
        &id,
        "pkg:docker/library/alpine@sha256%3A00",
        "",
        &keys,
    ));
    entries.extend(testing::tag(&id, "3.20", Sha256([3; 32]), &keys));
    entries.extend(testing::add_node(&chain.state, 9, &keys));
    entries.extend(testing::remove_node(&id, 1, &keys));
    entries.extend(testing::remove_artifact(&id, 3, &keys));
    entries
}

fn bundles() -> Seeds {
    let leaves: Vec<_> = entries().iter().take(3).map(Entry::to_bytes).collect();
    let of = |leaves: &[Vec<u8>]| {
        let width = u8::try_from(leaves.len() - 1).unwrap();
        let bundle = encode_bundle(leaves.iter().map(Vec::as_slice)).unwrap();
        [vec![width], bundle].concat()
    };
    vec![of(&leaves), of(&leaves[..1]), of(&vec![vec![]; 256])]
}

fn notes() -> Seeds {
    let known = honest();
    let keys = known
        .keys
        .iter()
        .take(2)
        .map(|it| it.to_string().into_bytes());
    [known.note.clone().into_bytes()]
        .into_iter()
        .chain(keys)
        .collect()
}

fn policies() -> Seeds {
    let nested = honest().policy_text.replace("quorum authorized", "");
    let nested = format!("{nested}group both any authorized\n# a comment\nquorum both\n");
    vec![
        honest().policy_text.clone().into_bytes(),
        nested.into_bytes(),
    ]
}

fn queries() -> Seeds {
    let (key, hex) = (PublicKey([1; 32]), "0123456789");
    let long =
        format!("publisher={key} node={key} subject={key} dependency={key} source=a commit=00");
    texts(&[
        "package=maven/g/a kind=add-artifact since=2026-11-20 until=2026-11-20T08:15:00Z",
        "purl=pkg:maven/g/a@1.0 file=a.jar order=oldest limit=7 after=9-3",
        &format!("digest={hex} tag=registry.test/library/alpine:3.20"),
        &format!("digest=sha256:{hex}"),
        &long,
        "after=12-7",
    ])
}

fn block() -> Block {
    let chain = MemoryChain::new(4);
    let keys: Vec<_> = (0..4).map(node_keys).collect();
    let group = testing::package(chain.state.chain(), "pkg:maven/g/a@1", "", &keys);
    chain.build([group]).unwrap()
}

fn votes() -> Certificate {
    let keys: Vec<_> = (0..4).map(node_keys).collect();
    certificate(MemoryChain::new(4).state.chain(), &block(), &keys)
}

fn states() -> Seeds {
    let keys: Vec<_> = (0..4).map(node_keys).collect();
    let mut chain = MemoryChain::new(4);
    let mut states = vec![chain.state.to_bytes()];
    let removal = testing::remove_node(chain.state.chain(), 3, &keys[..3]);
    let block = chain.build([removal]).unwrap();
    chain.append(&block).unwrap();
    states.push(chain.state.to_bytes());
    states
}

fn set_change() -> SetChange {
    let keys: Vec<_> = (0..4).map(node_keys).collect();
    let chain = MemoryChain::new(4);
    let removal = testing::remove_node(chain.state.chain(), 3, &keys[..3]);
    let block = chain.build([removal]).unwrap();
    let votes = certificate(chain.state.chain(), &block, &keys);
    SetChange::of(chain.state.members(), &block, votes).unwrap()
}

fn hellos() -> Seeds {
    let tip = Tip {
        height: 5,
        id: BlockId([5; 32]),
    };
    let hello = Hello {
        chain: *MemoryChain::new(1).state.chain(),
        protocols: Protocols::OURS,
        from: PublicKey([1; 32]),
        to: PublicKey([2; 32]),
        nonce: 7,
        tip,
        base: 1,
        role: Role::Full,
        authorized: false,
        agent: "kogge/0.1.0".into(),
        listen: vec!["/ip4/192.0.2.1/tcp/4001".into(); 3],
        index_root: Some(Sha256([4; 32])),
    };
    let messages = [
        hello::Message::Hello(hello.into()),
        hello::Message::Welcome { echo: 9 },
        hello::Message::Refused(Reason::Version { min: 1, max: 2 }),
        hello::Message::Refused(Reason::Forked { height: 3 }),
        hello::Message::Refused(Reason::Busy),
        hello::Message::Tip(tip),
    ];
    messages.iter().map(hello::Message::to_bytes).collect()
}

fn consensus_messages() -> Seeds {
    let (block, votes) = (block(), votes());
    let proposal = Proposal {
        height: 1,
        round: 2,
        polka_round: Some(1),
        block: block.id(),
        proposer: PublicKey([1; 32]),
        signature: signature(),
    };
    let vote = Vote {
        kind: VoteKind::Precommit,
        height: 1,
        round: 0,
        block: Some(block.id()),
        voter: PublicKey([1; 32]),
        signature: signature(),
    };
    let round_vote = RoundVote {
        kind: VoteKind::Prevote,
        block: None,
        voter: PublicKey([1; 32]),
        signature: signature(),
    };
    let messages = [
        consensus::Message::Polka(Polka {
            height: 1,
            round: 0,
            block: block.id(),
            signatures: votes.signatures,
        }),
        consensus::Message::Proposal(proposal, Box::new(block)),
        consensus::Message::Vote(vote),
        consensus::Message::Round(RoundVotes {
            height: 1,
            round: 3,
            reason: RoundReason::Skip,
            votes: vec![round_vote; 3],
        }),
    ];
    messages.iter().map(consensus::Message::to_bytes).collect()
}

fn head() -> HeadMessage {
    let head = &honest().head;
    HeadMessage {
        size: head.size,
        root: head.root,
        signature: HeadSignature::sign(&node_keys(0), head, GENESIS_TIME),
    }
}

fn books() -> Seeds {
    let mut book = Book::default();
    let mut books = vec![book.to_bytes()];
    for number in 0..6_u8 {
        let (peer, at) = (
            PublicKey([number; 32]),
            WallTime::from_millis(1_790_000_000_000),
        );
        for address in ["/ip4/192.0.2.1/tcp/4001", "/dns4/node.test/tcp/4001"] {
            book.learn(peer, address, Source::Exchange, at);
        }
        book.succeeded(&peer, "/ip4/192.0.2.1/tcp/4001", at);
        book.failed(&peer, "/dns4/node.test/tcp/4001", at);
    }
    books.push(book.to_bytes());
    books
}

fn pool_messages() -> Vec<PoolMessage> {
    let chain = MemoryChain::new(4);
    let (id, keys) = (*chain.state.chain(), [0, 1, 2].map(node_keys));
    let package = testing::package(&id, "pkg:maven/g/a@1", "", &keys);
    let tag = testing::tag(&id, "3.20", Sha256([3; 32]), &keys);
    let attests = package.iter().filter_map(|it| match it {
        Entry::Attest(it) => Some(it.clone()),
        _ => None,
    });
    let ready = Ready {
        node: node_keys(9).id(),
        height: 1,
        block: BlockId([1; 32]),
        signature: signature(),
    };
    let have = Have {
        subject: Subject([1; 32]),
        is_whole: true,
        signers: Signers::of(&[keys[0].id()]),
    };
    let removal = Change::RemoveNode {
        node: keys[0].id(),
        reason: "test".into(),
    };
    let mark = removal.consent().mark(&id, keys[1].id(), &keys[1].admin);
    let admission = Change::AddNode(Box::new(card(9)));
    let admitted = Consent::AddNode(&card(9).member).mark(&id, keys[0].id(), &keys[0].admin);
    vec![
        PoolMessage::Attests(attests.collect()),
        PoolMessage::Group(Group::new(package).unwrap()),
        PoolMessage::Group(Group::new(tag).unwrap()),
        PoolMessage::Marks(Marks {
            change: removal,
            marks: vec![mark],
            ready: None,
        }),
        PoolMessage::Marks(Marks {
            change: admission,
            marks: vec![admitted],
            ready: Some(ready.clone()),
        }),
        PoolMessage::Ready(ready),
        PoolMessage::Have(vec![have; 3]),
        PoolMessage::Want(vec![Subject([1; 32]), Subject([2; 32])]),
    ]
}

fn kept() -> Seeds {
    let kept = |marks| Kept {
        marks,
        owner: node_keys(0).id(),
        until: testing::GENESIS_TIME,
    };
    let changes = pool_messages().into_iter().filter_map(|it| match it {
        PoolMessage::Marks(marks) => Some(kept(marks).to_bytes()),
        _ => None,
    });
    changes.collect()
}

fn sync_messages() -> Vec<Message> {
    let block = SyncBlock {
        block: block().to_bytes().into(),
        certificate: codec::encode(&votes()).into(),
    };
    vec![
        Message::GetBlocks(GetBlocks {
            id: 3,
            from: 7,
            count_max: 64,
            bytes_max: 1 << 20,
        }),
        Message::Blocks {
            id: 3,
            blocks: vec![block],
        },
        Message::NotAvailable(NotAvailable {
            id: 3,
            base: 5,
            tip: 9,
        }),
    ]
}

fn gossips() -> Seeds {
    let tagged = |kind: u8, bytes: Vec<u8>| [vec![0, kind], bytes].concat();
    let builds = build::build_messages().into_iter().step_by(3);
    let pools = pool_messages().into_iter().skip(3);
    let head = [vec![1], head().to_bytes()].concat();
    builds
        .map(|it| tagged(1, it.to_bytes()))
        .chain(pools.map(|it| tagged(2, it.to_bytes())))
        .chain([head])
        .collect()
}

fn requests() -> Seeds {
    let want = Want {
        root: Blake3([1; 32]),
        size: 1 << 20,
        groups: 2..9,
    };
    let stream = [
        Request::Get { id: 1, want },
        Request::Have {
            id: 2,
            roots: vec![Blake3([1; 32]); 3],
        },
        Request::Cancel { id: 1 },
    ];
    let stream: Vec<u8> = stream.iter().flat_map(Request::encode).collect();
    let cuts: [[u8; 8]; 3] = [[255; 8], [1; 8], [3, 200, 7, 1, 9, 80, 2, 30]];
    cuts.iter().map(|it| [&it[..], &stream].concat()).collect()
}

fn presences() -> Vec<Presence> {
    let some: Ranges = [1..3, 7..70_000].into_iter().collect();
    vec![Presence::None, Presence::Whole, Presence::Some(some)]
}
