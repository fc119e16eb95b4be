//! Builds: requests, reports, and what is kept of them.

use kogge_node::base::{PublicKey, Sha256, Subject};
use kogge_node::proto::build::message::Reports;
use kogge_node::proto::build::{
    Attested, BuildId, BuildMessage, BuildRequest, BuildSpec, Failure, FailureCode, FileDigest,
    Open, Outcome, Pending, Report, ShortDigest,
};
use kogge_node::proto::chain::testing::{GENESIS_TIME, MemoryChain, node_keys};

use crate::seeds::{Seeds, signature, texts};

const SPECS: [&str; 6] = [
    "docker library/alpine:3.20",
    "docker registry.test:5000/team/app:1.0 linux/amd64,linux/arm64",
    "docker team/app@sha256:0101010101010101010101010101010101010101010101010101010101010101",
    "docker localhost/app",
    "maven org.example:lib:1.0",
    "maven org.example:lib:1.0+b https://repo.test:8443/maven2",
];

pub(super) fn specs() -> Seeds {
    texts(&SPECS)
}

fn request(spec: &str) -> BuildRequest {
    BuildRequest {
        spec: spec.parse::<BuildSpec>().unwrap(),
        node: PublicKey([1; 32]),
        time: GENESIS_TIME,
        attempt: 1,
    }
}

fn report(outcome: Outcome) -> Report {
    let chain = MemoryChain::new(1);
    let keys = node_keys(0);
    let report = Report {
        build: request(SPECS[0]).spec.id(),
        attempt: 1,
        node: keys.id(),
        time: GENESIS_TIME,
        outcome,
        signature: signature(),
    };
    report.signed(chain.state.chain(), &keys.vote)
}

fn reports() -> Vec<Report> {
    let file = |name: &str| FileDigest {
        file: name.into(),
        sha256: ShortDigest([1; 8]),
    };
    let outcomes = [
        Outcome::Queued,
        Outcome::Started,
        Outcome::Progress { done: 3, total: 9 },
        Outcome::Attested(Attested {
            subject: Subject([1; 32]),
            tag: Some(Sha256([2; 32])),
            files: vec![file("a.jar"), file("b.jar")],
        }),
        Outcome::Present { index: 7 },
        Outcome::Failed(Failure::new(FailureCode::NotFound, "no such tag")),
    ];
    outcomes.into_iter().map(report).collect()
}

pub(super) fn build_messages() -> Vec<BuildMessage> {
    let requests = SPECS.iter().map(|it| BuildMessage::Request(request(it)));
    requests
        .chain(reports().into_iter().map(BuildMessage::Report))
        .collect()
}

/// What never travels by gossip.
pub(super) fn lists() -> [BuildMessage; 2] {
    let open = Open {
        build: BuildId([1; 32]),
        attempt: 2,
        reports: Reports([3; 8]),
        is_over: true,
    };
    let wanted = vec![BuildId([1; 32]), BuildId([2; 32])];
    [
        BuildMessage::Open(vec![open; 3]),
        BuildMessage::Want(wanted),
    ]
}

pub(super) fn pendings() -> Seeds {
    let of = |reports| Pending {
        request: request(SPECS[1]),
        reports,
    };
    vec![of(vec![]).to_bytes(), of(reports()).to_bytes()]
}
