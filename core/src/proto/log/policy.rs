//! Trust policies (C2SP tlog-policy): the keys that an outsider pins, in a text that other tools
//! read too.
//!
//! ```text
//! log <vkey> [<url>]
//! witness <name> <vkey> [<url>]
//! group <name> all|any|<k> <name>...
//! quorum <name>
//! ```
//!
//! A policy names the members of one moment. It cannot follow changes of the set: who needs that
//! starts from the genesis ([`Light`](crate::proto::chain::light::Light)).

use std::collections::{BTreeMap, BTreeSet};

use crate::proto::chain::member::MemberSet;
use crate::proto::log::checkpoint::{self, CheckpointError, VerifiedHead, cosigner_key, log_key};
use crate::proto::log::text::decimal;
use crate::proto::log::vkey::{KeyError, KeyKind, VerifierKey};

/// Longest policy. Unit: bytes.
pub const POLICY_BYTES_MAX: usize = 128 * 1_024;

/// Most logs in a policy, and most witnesses: a full network and as many outsiders.
pub const POLICY_KEYS_MAX: usize = 128;

/// Most groups in a policy.
pub const POLICY_GROUPS_MAX: usize = 64;

/// Name of the group of all members in an exported policy. No witness has it: theirs contain a dot.
const MEMBERS_GROUP: &str = "authorized";

/// Words that are not names.
const KEYWORDS: [&str; 7] = ["log", "witness", "group", "quorum", "all", "any", "none"];

/// Why a text is no policy, or a checkpoint does not satisfy one.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// The policy is too long. Unit: bytes.
    #[error("the policy has {0} bytes, at most {POLICY_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// A line is not understood.
    #[error("line {line} of the policy: {problem}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// Something is missing.
    #[error("the policy has no {0} line")]
    Missing(&'static str),
    /// The checkpoint does not stand.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The cosigners are not enough.
    #[error("{0} of the policy's witnesses cosigned the checkpoint, which is less than its quorum")]
    Quorum(usize),
}

/// The policy that pins the members of the log `origin`: a checkpoint needs a log line and the
/// cosignatures of 2f+1. The URLs of the witnesses, which some tools demand, are made from their
/// names; nothing has to listen there.
pub fn export(origin: &str, members: &MemberSet) -> String {
    let logs = members
        .iter()
        .map(|it| format!("log {}\n", log_key(origin, it)));
    let keys: Vec<_> = members.iter().map(|it| cosigner_key(origin, it)).collect();
    let witnesses = keys.iter().map(|key| {
        let name = key.name();
        format!("witness {name} {key} https://{name}\n")
    });
    let names: Vec<_> = keys.iter().map(VerifierKey::name).collect();
    let group = format!(
        "group {MEMBERS_GROUP} {} {}\nquorum {MEMBERS_GROUP}\n",
        members.quorum(),
        names.join(" ")
    );
    logs.chain(witnesses).chain([group]).collect()
}

/// Which checkpoints to trust.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Policy {
    logs: Vec<VerifierKey>,
    witnesses: Vec<VerifierKey>,
    /// A group refers only to groups before it.
    groups: Vec<Group>,
    quorum: Part,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Group {
    threshold: usize,
    parts: Vec<Part>,
}

/// A witness or a group, by its place in the policy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Part {
    Witness(usize),
    Group(usize),
}

impl Policy {
    /// Reads a policy. Stricter than the specification in three points, each for the sake of what
    /// the policy promises: all logs have the same origin, there is at least one, and `quorum none`
    /// is refused, because it trusts a single node.
    ///
    /// # Errors
    ///
    /// [`PolicyError`] naming the first line that is not understood.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        if POLICY_BYTES_MAX < text.len() {
            return Err(PolicyError::TooLong(text.len()));
        }
        let mut parser = Parser::default();
        for (at, line) in text.split('\n').enumerate() {
            parser.line(line).map_err(|problem| PolicyError::Line {
                line: at + 1,
                problem,
            })?;
        }
        if parser.logs.is_empty() {
            return Err(PolicyError::Missing("log"));
        }
        Ok(Self {
            logs: parser.logs,
            witnesses: parser.witnesses,
            groups: parser.groups,
            quorum: parser.quorum.ok_or(PolicyError::Missing("quorum"))?,
        })
    }

    /// Origin of the log.
    pub fn origin(&self) -> &str {
        self.logs.first().map_or("", VerifierKey::name)
    }

    /// Checks that a note is a checkpoint of the log, and that witnesses enough for the quorum
    /// cosigned it.
    ///
    /// # Errors
    ///
    /// [`PolicyError`] if that is not so.
    pub fn satisfied(&self, note: &str) -> Result<VerifiedHead, PolicyError> {
        checkpoint::open(note, self.origin(), &self.logs, &self.witnesses, |signed| {
            let by_witness = |at: usize| {
                let key = self.witnesses.get(at);
                key.is_some_and(|it| signed.contains(&it))
            };
            let mut by_group: Vec<bool> = Vec::with_capacity(self.groups.len());
            for group in &self.groups {
                let count = group.parts.iter().filter(|part| match part {
                    Part::Witness(at) => by_witness(*at),
                    Part::Group(at) => by_group.get(*at) == Some(&true),
                });
                by_group.push(group.threshold <= count.count());
            }
            let enough = match self.quorum {
                Part::Witness(at) => by_witness(at),
                Part::Group(at) => by_group.get(at) == Some(&true),
            };
            enough
                .then_some(())
                .ok_or(PolicyError::Quorum(signed.len()))
        })
    }
}

/// What was read so far.
#[derive(Default)]
struct Parser {
    logs: Vec<VerifierKey>,
    witnesses: Vec<VerifierKey>,
    groups: Vec<Group>,
    quorum: Option<Part>,
    names: BTreeMap<String, Part>,
    /// Names that are part of a group: no witness counts twice.
    grouped: BTreeSet<String>,
}

impl Parser {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if line
            .bytes()
            .any(|it| it < b' ' && it != b'\t' || it == 0x7f)
        {
            return Err("it contains control characters".into());
        }
        let words: Vec<_> = line
            .split([' ', '\t'])
            .filter(|it| !it.is_empty())
            .collect();
        match words[..] {
            [] => Ok(()),
            [first, ..] if first.starts_with('#') => Ok(()),
            ["log", key] | ["log", key, _] => self.log(key),
            ["witness", name, key] | ["witness", name, key, _] => self.witness(name, key),
            ["group", name, threshold, ref parts @ ..] => self.group(name, threshold, parts),
            ["quorum", name] if self.quorum.is_none() => {
                self.quorum = Some(self.part(name)?);
                Ok(())
            }
            ["quorum", _] => Err("there is a second quorum".into()),
            _ => Err("want `log`, `witness`, `group` or `quorum` with their arguments".into()),
        }
    }

    fn log(&mut self, key: &str) -> Result<(), String> {
        let key = read_key(key, KeyKind::Log, &self.logs)?;
        if self.logs.first().is_some_and(|it| it.name() != key.name()) {
            return Err("the logs have several origins".into());
        }
        self.logs.push(key);
        Ok(())
    }

    fn witness(&mut self, name: &str, key: &str) -> Result<(), String> {
        let key = read_key(key, KeyKind::Cosigner, &self.witnesses)?;
        self.define(name, Part::Witness(self.witnesses.len()))?;
        self.witnesses.push(key);
        Ok(())
    }

    fn group(&mut self, name: &str, threshold: &str, parts: &[&str]) -> Result<(), String> {
        if POLICY_GROUPS_MAX <= self.groups.len() {
            return Err(format!("there are more than {POLICY_GROUPS_MAX} groups"));
        }
        let threshold = match threshold {
            "any" => 1,
            "all" => parts.len(),
            count => usize::try_from(decimal(count).unwrap_or(0)).unwrap_or(0),
        };
        if !(1..=parts.len()).contains(&threshold) {
            return Err(format!(
                "want `all`, `any` or a number from 1 to the {} parts of the group",
                parts.len()
            ));
        }
        let parts = parts
            .iter()
            .map(|part| {
                if !self.grouped.insert((*part).to_owned()) {
                    return Err(format!("`{part}` is in a group already"));
                }
                self.part(part)
            })
            .collect::<Result<_, _>>()?;
        self.define(name, Part::Group(self.groups.len()))?;
        self.groups.push(Group { threshold, parts });
        Ok(())
    }

    fn define(&mut self, name: &str, part: Part) -> Result<(), String> {
        if KEYWORDS.contains(&name) {
            return Err(format!("`{name}` is a keyword"));
        }
        match self.names.insert(name.to_owned(), part) {
            None => Ok(()),
            Some(_) => Err(format!("`{name}` is defined twice")),
        }
    }

    fn part(&self, name: &str) -> Result<Part, String> {
        match self.names.get(name) {
            Some(part) => Ok(*part),
            None if name == "none" => Err("`none` trusts a single node".into()),
            None => Err(format!("`{name}` is not defined above")),
        }
    }
}

fn read_key(text: &str, kind: KeyKind, known: &[VerifierKey]) -> Result<VerifierKey, String> {
    let key: VerifierKey = text.parse().map_err(|it: KeyError| it.to_string())?;
    if key.kind() != kind {
        return Err(format!("want a key of type {:#04x}", kind as u8));
    }
    if known.iter().any(|it| it.key() == key.key()) {
        return Err("the key is listed twice".into());
    }
    if POLICY_KEYS_MAX <= known.len() {
        return Err(format!(
            "there are more than {POLICY_KEYS_MAX} keys of this kind"
        ));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::Sha256;
    use crate::proto::log::cosign::tests::{ORIGIN, head, nodes, set, signed};

    fn problem(text: &str) -> (usize, String) {
        match Policy::parse(text) {
            Err(PolicyError::Line { line, problem }) => (line, problem),
            other => panic!("{other:?}"),
        }
    }

    /// A policy over the first four nodes, whose witnesses are called w1 to w4, with `rest` below.
    fn text(rest: &str) -> String {
        let nodes = nodes(1..=4);
        let logs = nodes
            .iter()
            .map(|(_, it)| format!("log {}\n", log_key(ORIGIN, it)));
        let witnesses = nodes
            .iter()
            .zip(1..)
            .map(|((_, it), at)| format!("witness w{at} {}\n", cosigner_key(ORIGIN, it)));
        logs.chain(witnesses).chain([rest.into()]).collect()
    }

    /// The head as cosigned by the nodes with these numbers, all of them members.
    fn note(numbers: &[usize]) -> String {
        let all = nodes(1..=4);
        let some = numbers
            .iter()
            .map(|at| all[at - 1].clone())
            .collect::<Vec<_>>();
        signed(&head(7, Sha256([1; 32])), &some)
            .full_note()
            .unwrap()
    }

    #[test]
    fn an_exported_policy_demands_a_quorum_of_the_members() {
        let policy = Policy::parse(&export(ORIGIN, &set(&nodes(1..=4)))).unwrap();
        assert_eq!(policy.origin(), ORIGIN);
        for numbers in [&[1, 2, 3][..], &[2, 3, 4], &[1, 2, 3, 4]] {
            let verified = policy.satisfied(&note(numbers)).unwrap();
            assert_eq!(verified.checkpoint(), &head(7, Sha256([1; 32])));
            assert_eq!(verified.signed_by().len(), numbers.len());
        }
        assert_eq!(
            policy.satisfied(&note(&[1, 4])),
            Err(PolicyError::Quorum(2))
        );
    }

    #[test]
    fn the_largest_network_has_a_policy() {
        let text = export(ORIGIN, &set(&nodes(1..=64)));
        assert!(text.len() <= POLICY_BYTES_MAX, "{}", text.len());
        assert!(Policy::parse(&text).is_ok());
    }

    #[test]
    fn quorums_are_counted_through_nested_groups() {
        let nested = "group a 2 w1 w2\ngroup b any w3 w4\ngroup both all a b\n# fine\n\n";
        for (rest, satisfied, not) in [
            ("quorum w2", &[2][..], &[1, 3, 4][..]),
            ("group g any w1 w3\nquorum g", &[3], &[2, 4]),
            ("group g all w1 w2 w3\nquorum g", &[1, 2, 3], &[1, 2, 4]),
            (&format!("{nested}quorum both\n"), &[1, 2, 4], &[1, 3, 4]),
            (&format!("{nested}quorum b"), &[4], &[1, 2]),
            ("  group\tg  2 w4 w1 \n\tquorum g", &[1, 4], &[1, 2, 3]),
        ] {
            let policy = Policy::parse(&text(rest)).unwrap();
            assert!(policy.satisfied(&note(satisfied)).is_ok(), "{rest}");
            let quorum = Err(PolicyError::Quorum(not.len()));
            assert_eq!(policy.satisfied(&note(not)), quorum, "{rest}");
        }
    }

    #[test]
    fn a_checkpoint_of_another_log_does_not_satisfy() {
        let policy = Policy::parse(&export(ORIGIN, &set(&nodes(5..=8)))).unwrap();
        assert_eq!(
            policy.satisfied(&note(&[1, 2, 3])),
            Err(PolicyError::Checkpoint(CheckpointError::NoLog))
        );
        let policy = Policy::parse(&export("other/log", &set(&nodes(1..=4)))).unwrap();
        assert!(matches!(
            policy.satisfied(&note(&[1, 2, 3])),
            Err(PolicyError::Checkpoint(CheckpointError::Origin { .. }))
        ));
    }

    #[test]
    fn faulty_rules_name_the_line() {
        for (rest, expected) in [
            ("quorum none", "`none` trusts a single node"),
            ("quorum w5", "`w5` is not defined above"),
            ("quorum w1\nquorum w2", "there is a second quorum"),
            (
                "group g 0 w1",
                "want `all`, `any` or a number from 1 to the 1 parts of the group",
            ),
            (
                "group g 2 w1",
                "want `all`, `any` or a number from 1 to the 1 parts of the group",
            ),
            (
                "group g 01 w1",
                "want `all`, `any` or a number from 1 to the 1 parts of the group",
            ),
            (
                "group g any",
                "want `all`, `any` or a number from 1 to the 0 parts of the group",
            ),
            ("group g any g", "`g` is not defined above"),
            ("group g any w1 w1", "`w1` is in a group already"),
            (
                "group g any w1\ngroup h any w1",
                "`w1` is in a group already",
            ),
            ("group any any w1", "`any` is a keyword"),
            ("group w1 any w2", "`w1` is defined twice"),
            (
                "witness",
                "want `log`, `witness`, `group` or `quorum` with their arguments",
            ),
            (
                "quorum",
                "want `log`, `witness`, `group` or `quorum` with their arguments",
            ),
            (
                "trust w1",
                "want `log`, `witness`, `group` or `quorum` with their arguments",
            ),
            ("quorum w1\r", "it contains control characters"),
        ] {
            let lines = rest.lines().count();
            assert_eq!(problem(&text(rest)), (8 + lines, expected.into()), "{rest}");
        }
    }

    #[test]
    fn faulty_keys_name_the_line() {
        let (bob, eve) = (&nodes(2..=2)[0].1, &nodes(9..=9)[0].1);
        for (line, expected) in [
            (
                format!("log {}", log_key(ORIGIN, bob)),
                "the key is listed twice",
            ),
            (
                format!("log {}", log_key("other", eve)),
                "the logs have several origins",
            ),
            (
                format!("log {}", cosigner_key(ORIGIN, eve)),
                "want a key of type 0x01",
            ),
            (
                format!("witness x {}", log_key(ORIGIN, eve)),
                "want a key of type 0x04",
            ),
            (
                format!("witness x {}", cosigner_key("y", bob)),
                "the key is listed twice",
            ),
            (
                format!("witness all {}", cosigner_key("y", eve)),
                "`all` is a keyword",
            ),
        ] {
            assert_eq!(problem(&text(&line)), (9, expected.into()), "{line}");
        }
    }

    #[test]
    fn a_policy_is_complete_and_within_its_limits() {
        assert_eq!(Policy::parse(""), Err(PolicyError::Missing("log")));
        assert_eq!(
            Policy::parse(&text("")),
            Err(PolicyError::Missing("quorum"))
        );
        let long = "#".repeat(POLICY_BYTES_MAX + 1);
        assert_eq!(Policy::parse(&long), Err(PolicyError::TooLong(long.len())));
        let groups: String = (0..=POLICY_GROUPS_MAX)
            .map(|it| {
                format!(
                    "group g{it} any {}\n",
                    if it == 0 {
                        "w1".into()
                    } else {
                        format!("g{}", it - 1)
                    }
                )
            })
            .collect();
        assert_eq!(problem(&text(&groups)).0, 8 + POLICY_GROUPS_MAX + 1);
    }

    proptest! {
        #[test]
        fn any_text_is_answered(rest in "((log|witness|group|quorum|any|all|w1|g|2|#)[ \n]){0,20}") {
            let _ = Policy::parse(&text(&rest));
        }
    }
}
