//! The JSON of what the node tells, for people and programs: digests and keys in lower-case hex,
//! names of kinds instead of numbers, times in milliseconds since 1970.

use serde_json::{Map, Value, json};

use crate::base::hex;
use crate::proto::build::{BuildStatus, Difference, NodeStatus, Outcome, Reason, State};
use crate::proto::chain::MemberSet;
use crate::proto::log::entry::{
    AddArtifact, AddNode, Attest, BindTag, Entry, Mark, RemoveArtifact, RemoveNode, Seal,
};
use crate::proto::pool::{Change, Marks};
use crate::store::Row;

/// A row of the log.
pub fn row(row: &Row) -> Value {
    json!({
        "index": row.index,
        "height": row.height,
        "time": row.time,
        "kind": row.entry.kind_name(),
        "removed": row.removed,
        "entry": entry(&row.entry),
    })
}

/// An entry without its kind.
fn entry(entry: &Entry) -> Value {
    match entry {
        Entry::Seal(it) => seal(it),
        Entry::AddArtifact(it) => artifact(it),
        Entry::RemoveArtifact(RemoveArtifact {
            index,
            reason,
            marks: all,
        }) => json!({"index": index, "reason": reason, "marks": marks(all)}),
        Entry::AddNode(it) => add_node(it),
        Entry::RemoveNode(RemoveNode {
            node,
            reason,
            marks: all,
        }) => json!({"node": node, "reason": reason, "marks": marks(all)}),
        Entry::BindTag(it) => bind_tag(it),
        Entry::Attest(it) => attest(it),
    }
}

fn seal(it: &Seal) -> Value {
    json!({
        "height": it.height,
        "parent": it.parent,
        "time": it.time,
        "members": it.members,
        "next_members": it.next_members,
        "first_index": it.first_index,
        "count": it.count,
        "index_root": it.index_root,
        "evidence": it.evidence,
    })
}

fn artifact(it: &AddArtifact) -> Value {
    let digests: Map<String, Value> = it
        .digests
        .iter()
        .map(|it| (it.algorithm().name().to_owned(), it.hex().into()))
        .collect();
    let publication = it
        .publication
        .as_ref()
        .map(|it| json!({"publisher": it.publisher, "signature": it.signature}));
    json!({
        "purl": it.purl,
        "file": it.file,
        "blake3": it.blake3,
        "sha256": it.sha256,
        "digests": digests,
        "size": it.size,
        "media_type": it.media_type,
        "source": {
            "repository": it.source.repository,
            "commit": hex::encode(&it.source.commit),
            "spec": it.source.spec,
            "rule": it.source.rule,
        },
        "dependencies": it.dependencies,
        "builder": it.builder,
        "publication": publication,
        "time": it.time,
    })
}

fn add_node(it: &AddNode) -> Value {
    json!({
        "card": it.card,
        "ready_height": it.ready_height,
        "ready_block": it.ready_block,
        "ready_signature": it.ready_signature,
        "marks": marks(&it.marks),
    })
}

fn bind_tag(it: &BindTag) -> Value {
    json!({
        "registry": it.registry,
        "repository": it.repository,
        "tag": it.tag,
        "digest": format!("sha256:{}", it.digest),
        "builder": it.builder,
        "time": it.time,
    })
}

fn attest(it: &Attest) -> Value {
    json!({
        "subject": it.subject,
        "node": it.node,
        "time": it.time,
        "signature": it.signature,
    })
}

fn marks(marks: &[Mark]) -> Vec<Value> {
    let one = |it: &Mark| json!({"node": it.node, "signature": it.signature});
    marks.iter().map(one).collect()
}

/// A change that waits for the consent of more admins.
pub fn change(it: &Marks, members: &MemberSet) -> Value {
    let mut value = match &it.change {
        Change::AddNode(card) => json!({"mark": "add-node", "card": card}),
        Change::RemoveNode { node, reason } => {
            json!({"mark": "remove-node", "node": node, "reason": reason})
        }
        Change::RemoveArtifact { index, reason } => {
            json!({"mark": "remove-artifact", "index": index, "reason": reason})
        }
    };
    let by = it.marks.iter().map(|mark| {
        let name = members.by_node(&mark.node).map(|it| &it.name);
        json!({"node": mark.node, "name": name})
    });
    value["by"] = by.collect();
    value["needed"] = members.quorum().into();
    value["ready_height"] = it.ready.as_ref().map(|it| it.height).into();
    value
}

/// How a build stands.
pub fn build(it: &BuildStatus) -> Value {
    let (state, index, agreeing) = match &it.state {
        State::Requested => ("requested", None, None),
        State::Running => ("running", None, None),
        State::Attested { agreeing } => ("attested", None, Some(agreeing)),
        State::Agreed { agreeing } => ("agreed", None, Some(agreeing)),
        State::Committed { index } => ("committed", Some(index), None),
        State::Failed(_) => ("failed", None, None),
    };
    let reason = match &it.state {
        State::Failed(it) => Some(reason(it)),
        _ => None,
    };
    json!({
        "id": it.id,
        "spec": it.spec.to_string(),
        "attempt": it.attempt,
        "requester": it.requester,
        "requested": it.requested,
        "state": state,
        "final": it.state.is_final(),
        "index": index,
        "agreeing": agreeing,
        "quorum": it.quorum,
        "reason": reason,
        "message": it.state.to_string(),
        "nodes": it.nodes.iter().map(node).collect::<Vec<_>>(),
    })
}

fn reason(it: &Reason) -> Value {
    let kind = match it {
        Reason::DigestsDiffer(_) => "digests-differ",
        Reason::NotFound(_) => "not-found",
        Reason::QuorumMissing { .. } => "quorum-missing",
        Reason::TimedOut { .. } => "timed-out",
        Reason::NotCommitted => "not-committed",
    };
    let differences = match it {
        Reason::DigestsDiffer(all) => all.iter().map(difference).collect(),
        _ => Vec::new(),
    };
    json!({"kind": kind, "message": it.to_string(), "differences": differences})
}

fn difference(it: &Difference) -> Value {
    let value = |(value, nodes): &(String, Vec<String>)| json!({"value": value, "nodes": nodes});
    json!({"what": it.what, "values": it.values.iter().map(value).collect::<Vec<_>>()})
}

fn node(it: &NodeStatus) -> Value {
    let mut value = json!({"node": it.node, "name": it.name, "message": it.to_string()});
    let Some((outcome, time)) = &it.outcome else {
        value["outcome"] = Value::Null;
        return value;
    };
    let (kind, details) = match outcome {
        Outcome::Queued => ("queued", json!({})),
        Outcome::Started => ("started", json!({})),
        Outcome::Progress { done, total } => ("progress", json!({"done": done, "total": total})),
        Outcome::Attested(it) => ("attested", json!({"subject": it.subject, "tag": it.tag})),
        Outcome::Present { index } => ("present", json!({"index": index})),
        Outcome::Failed(it) => (
            "failed",
            json!({"code": it.code.to_string(), "text": it.text}),
        ),
    };
    value["outcome"] = kind.into();
    value["time"] = json!(time);
    value["details"] = details;
    value
}

#[cfg(test)]
mod tests {
    use crate::base::{Algorithm, Blake3, Digest, PublicKey, Sha256, Signature, Subject, WallTime};
    use crate::proto::log::entry::Source;

    use super::*;

    #[test]
    fn rows_are_readable() {
        let artifact = AddArtifact {
            purl: "pkg:maven/g/a@1".into(),
            file: "a-1.jar".into(),
            blake3: Blake3([1; 32]),
            sha256: Sha256([2; 32]),
            digests: vec![Digest::new(Algorithm::Sha1, &[3; 20]).unwrap()],
            size: 9,
            media_type: "application/java-archive".into(),
            source: Source::fetched("repo.test/m2"),
            dependencies: None,
            builder: PublicKey([4; 32]),
            publication: None,
            time: WallTime::from_millis(5),
        };
        let value = row(&Row {
            index: 7,
            height: 3,
            time: WallTime::from_millis(6),
            entry: Entry::AddArtifact(Box::new(artifact)),
            removed: Some(8),
        });
        let expected = json!({
            "index": 7, "height": 3, "time": 6, "kind": "add-artifact", "removed": 8,
            "entry": {
                "purl": "pkg:maven/g/a@1", "file": "a-1.jar",
                "blake3": "01".repeat(32), "sha256": "02".repeat(32),
                "digests": {"sha1": "03".repeat(20)},
                "size": 9, "media_type": "application/java-archive",
                "source": {"repository": "repo.test/m2", "commit": "", "spec": null, "rule": ""},
                "dependencies": null, "builder": "04".repeat(32), "publication": null, "time": 5,
            },
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn small_entries_name_their_fields() {
        let node = PublicKey([4; 32]);
        let time = WallTime::from_millis(5);
        let mark = Mark {
            node,
            signature: Signature([6; 64]),
        };
        for (it, expected) in [
            (
                Entry::Attest(Attest {
                    subject: Subject([1; 32]),
                    node,
                    time,
                    signature: Signature([6; 64]),
                }),
                json!({"subject": "01".repeat(32), "node": "04".repeat(32), "time": 5,
                       "signature": "06".repeat(64)}),
            ),
            (
                Entry::RemoveNode(RemoveNode {
                    node,
                    reason: "lost".into(),
                    marks: vec![mark],
                }),
                json!({"node": "04".repeat(32), "reason": "lost",
                       "marks": [{"node": "04".repeat(32), "signature": "06".repeat(64)}]}),
            ),
            (
                Entry::BindTag(BindTag {
                    registry: "docker.io".into(),
                    repository: "library/x".into(),
                    tag: "1".into(),
                    digest: Sha256([2; 32]),
                    builder: node,
                    time,
                }),
                json!({"registry": "docker.io", "repository": "library/x", "tag": "1",
                       "digest": format!("sha256:{}", "02".repeat(32)),
                       "builder": "04".repeat(32), "time": 5}),
            ),
        ] {
            assert_eq!(entry(&it), expected);
        }
    }

    #[test]
    fn a_failed_build_says_who_got_what() {
        let difference = Difference {
            what: "a-1.jar".into(),
            values: vec![
                ("01".into(), vec!["alice".into()]),
                ("absent".into(), vec!["bob".into()]),
            ],
        };
        let status = BuildStatus {
            id: crate::proto::build::BuildId([1; 32]),
            spec: "maven g:a:1".parse().unwrap(),
            attempt: 2,
            requester: PublicKey([4; 32]),
            requested: WallTime::from_millis(5),
            state: State::Failed(Reason::DigestsDiffer(vec![difference])),
            quorum: 2,
            nodes: vec![NodeStatus {
                node: PublicKey([4; 32]),
                name: "alice".into(),
                outcome: Some((
                    Outcome::Progress { done: 1, total: 2 },
                    WallTime::from_millis(9),
                )),
            }],
        };
        let value = build(&status);
        assert_eq!(value["spec"], "maven g:a:1");
        assert_eq!(value["state"], "failed");
        assert_eq!(value["reason"]["kind"], "digests-differ");
        assert_eq!(
            value["reason"]["differences"][0]["values"][1],
            json!({"value": "absent", "nodes": ["bob"]})
        );
        assert_eq!(value["nodes"][0]["details"], json!({"done": 1, "total": 2}));
        assert_eq!(value["nodes"][0]["time"], 9);
    }
}
