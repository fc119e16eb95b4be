//! How the reports of the authorized nodes add up.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::base::{NodeId, Sha256, Subject};
use crate::proto::build::message::Report;
use crate::proto::build::outcome::{Attested, Failure, FailureCode, Outcome};
use crate::proto::chain::member::MemberSet;

/// Most differences that a reason lists.
pub const DIFFERENCES_MAX: usize = 32;

/// The latest report of each authorized node.
pub type Reports = BTreeMap<NodeId, Report>;

/// Where a build stands by the reports alone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// Undecided.
    Open {
        /// Nodes that agree on the most frequent result.
        agreeing: usize,
        /// Nodes that have reported at all.
        reported: usize,
        /// What the missing reports can change.
        outlook: Outlook,
    },
    /// A quorum has the same result.
    Agreed {
        /// How many.
        agreeing: usize,
        /// What the tag pointed to, if the spec has one.
        tag: Option<Sha256>,
    },
    /// So many nodes that one of them is honest found it in the log.
    Present {
        /// Index of a leaf of it.
        index: u64,
    },
}

/// What the missing reports can change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outlook {
    /// A quorum is still possible.
    Possible,
    /// No quorum is possible; the missing reports would only explain it better.
    Hopeless,
    /// Every node has answered.
    Complete,
}

/// Why a build failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reason {
    /// Nodes got different results.
    DigestsDiffer(Vec<Difference>),
    /// A quorum says that the upstream has no such thing.
    NotFound(Vec<String>),
    /// Too few nodes have a result.
    QuorumMissing {
        /// Nodes with the same result.
        agreeing: usize,
        /// Needed.
        needed: usize,
        /// Names of the nodes that did not answer.
        silent: Vec<String>,
        /// Nodes that failed, with their reasons.
        failed: Vec<(String, Failure)>,
    },
    /// Nodes were still at it when the time was over.
    TimedOut {
        /// Names of the nodes that had begun.
        running: Vec<String>,
        /// Names of the nodes that did not answer.
        silent: Vec<String>,
    },
    /// A quorum agreed, but no block took the result in time.
    NotCommitted,
}

/// One thing that nodes see differently.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Difference {
    /// The file's name, or the tag.
    pub what: String,
    /// Each value with the names of the nodes that got it: the start of a SHA-256, or `absent`.
    pub values: Vec<(String, Vec<String>)>,
}

/// Adds up what `members` reported.
pub(crate) fn judge(members: &MemberSet, reports: &Reports) -> Verdict {
    let quorum = members.quorum();
    // One more than may be faulty: at least one of them is honest.
    let honest = (members.len() + 1).saturating_sub(quorum).max(1);
    let mut results: BTreeMap<(Subject, Option<Sha256>), usize> = BTreeMap::new();
    let mut present: BTreeMap<u64, usize> = BTreeMap::new();
    let (mut reported, mut missing) = (0, 0);
    for member in members.iter() {
        let outcome = reports.get(&member.node).map(|it| &it.outcome);
        reported += usize::from(outcome.is_some());
        match outcome {
            Some(Outcome::Attested(it)) => *results.entry((it.subject, it.tag)).or_default() += 1,
            Some(Outcome::Present { index }) => *present.entry(*index).or_default() += 1,
            Some(Outcome::Failed(_)) => {}
            None | Some(Outcome::Queued | Outcome::Started | Outcome::Progress { .. }) => {
                missing += 1;
            }
        }
    }
    let best = results.iter().max_by_key(|(_, count)| **count);
    let agreeing = best.map_or(0, |(_, count)| *count);
    if let Some(((_, tag), _)) = best
        && quorum <= agreeing
    {
        return Verdict::Agreed {
            agreeing,
            tag: *tag,
        };
    }
    let seen = present.iter().max_by_key(|(_, count)| **count);
    if let Some((index, count)) = seen
        && honest <= *count
    {
        return Verdict::Present { index: *index };
    }
    let seen = seen.map_or(0, |(_, count)| *count);
    let outlook = if missing == 0 {
        Outlook::Complete
    } else if agreeing + missing < quorum && (seen == 0 || seen + missing < honest) {
        Outlook::Hopeless
    } else {
        Outlook::Possible
    };
    Verdict::Open {
        agreeing,
        reported,
        outlook,
    }
}

/// Why there is no agreement, when nothing more is waited for. `tag` is the spec's.
pub(crate) fn explain(members: &MemberSet, reports: &Reports, tag: Option<&str>) -> Reason {
    let (mut results, mut failed) = (Vec::new(), Vec::new());
    let (mut running, mut silent) = (Vec::new(), Vec::new());
    let mut sorted: Vec<_> = members.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    for member in sorted {
        let name = member.name.clone();
        match reports.get(&member.node).map(|it| &it.outcome) {
            Some(Outcome::Attested(it)) => results.push((name, it)),
            Some(Outcome::Failed(it)) => failed.push((name, it.clone())),
            Some(Outcome::Queued | Outcome::Started | Outcome::Progress { .. }) => {
                running.push(name);
            }
            Some(Outcome::Present { .. }) => {}
            None => silent.push(name),
        }
    }
    let distinct: BTreeSet<_> = results.iter().map(|(_, it)| (it.subject, it.tag)).collect();
    if 1 < distinct.len() {
        return Reason::DigestsDiffer(differences(&results, tag));
    }
    let not_found = failed
        .iter()
        .filter(|it| it.1.code == FailureCode::NotFound);
    if members.quorum() <= not_found.clone().count() {
        return Reason::NotFound(not_found.map(|it| it.0.clone()).collect());
    }
    let is_hopeless = members.faults_max() < failed.len();
    if !running.is_empty() && !is_hopeless {
        return Reason::TimedOut { running, silent };
    }
    Reason::QuorumMissing {
        agreeing: results.len(),
        needed: members.quorum(),
        silent,
        failed,
    }
}

/// What differs between `results`, at most [`DIFFERENCES_MAX`] things; the tag first.
fn differences(results: &[(String, &Attested)], tag: Option<&str>) -> Vec<Difference> {
    let tags = tag.map(|tag| {
        let value = |it: &Attested| it.tag.map(|it| format!("sha256:{it}"));
        compare(format!("tag {tag}"), results, value)
    });
    let names: BTreeSet<&str> = results
        .iter()
        .flat_map(|(_, it)| it.files.iter().map(|it| it.file.as_str()))
        .collect();
    let files = names.into_iter().map(|name| {
        compare(name.to_owned(), results, |it| {
            let at = it.files.binary_search_by(|it| it.file.as_str().cmp(name));
            let file = at.ok().and_then(|at| it.files.get(at));
            file.map(|it| format!("sha256:{}…", it.sha256))
        })
    });
    let mut list: Vec<Difference> = tags
        .into_iter()
        .chain(files)
        .filter(|it| 1 < it.values.len())
        .take(DIFFERENCES_MAX)
        .collect();
    if list.is_empty() {
        // Size, media type, source, or a file beyond those that a report lists.
        let value = |it: &Attested| Some(format!("subject {:?}", it.subject));
        list.push(compare("facts".to_owned(), results, value));
    }
    list
}

fn compare(
    what: String,
    results: &[(String, &Attested)],
    value: impl Fn(&Attested) -> Option<String>,
) -> Difference {
    let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, it) in results {
        let value = value(it).unwrap_or_else(|| "absent".to_owned());
        values.entry(value).or_default().push(name.clone());
    }
    Difference {
        what,
        values: values.into_iter().collect(),
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DigestsDiffer(list) => {
                f.write_str("digests differ")?;
                list.iter().try_for_each(|it| write!(f, "; {it}"))
            }
            Self::NotFound(nodes) => write!(f, "not found upstream, say {}", nodes.join(", ")),
            Self::QuorumMissing {
                agreeing,
                needed,
                silent,
                failed,
            } => {
                write!(f, "{agreeing} nodes have a result, {needed} are needed")?;
                if !silent.is_empty() {
                    write!(f, "; no answer from {}", silent.join(", "))?;
                }
                failed
                    .iter()
                    .try_for_each(|(node, it)| write!(f, "; {node}: {it}"))
            }
            Self::TimedOut { running, silent } => {
                write!(f, "timed out; still at it: {}", running.join(", "))?;
                if !silent.is_empty() {
                    write!(f, "; no answer from {}", silent.join(", "))?;
                }
                Ok(())
            }
            Self::NotCommitted => f.write_str(
                "the nodes agree, but no block took the result; check that a quorum is connected",
            ),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.what)?;
        for (at, (value, nodes)) in self.values.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma} {value} for {}", nodes.join(" and "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Signature, WallTime};
    use crate::proto::build::outcome::{FileDigest, ShortDigest};
    use crate::proto::build::spec::BuildId;
    use crate::proto::chain::member::NodeKeys;

    const NAMES: [&str; 4] = ["alice", "bob", "carol", "dave"];

    /// A set of four, and the reports of those with an outcome.
    fn case(outcomes: [Option<Outcome>; 4]) -> (MemberSet, Reports) {
        let nodes = [1, 2, 3, 4].map(|it| NodeKeys::from_seed([it; 32]));
        let cards = nodes.iter().zip(NAMES).map(|(it, name)| it.card(name));
        let members = MemberSet::new(cards.map(|it| it.member));
        let reports = nodes.iter().zip(outcomes).filter_map(|(it, outcome)| {
            let report = Report {
                build: BuildId([0; 32]),
                attempt: 1,
                node: it.id(),
                time: WallTime::default(),
                outcome: outcome?,
                signature: Signature([0; 64]),
            };
            Some((report.node, report))
        });
        (members, reports.collect())
    }

    fn result(subject: u8, files: &[(&str, u8)]) -> Option<Outcome> {
        let files = files.iter().map(|(file, byte)| FileDigest {
            file: (*file).to_owned(),
            sha256: ShortDigest([*byte; 8]),
        });
        Some(Outcome::Attested(Attested {
            subject: Subject([subject; 32]),
            tag: None,
            files: files.collect(),
        }))
    }

    fn failed(code: FailureCode) -> Option<Outcome> {
        Some(Outcome::Failed(Failure::new(code, "")))
    }

    fn open(agreeing: usize, reported: usize, outlook: Outlook) -> Verdict {
        Verdict::Open {
            agreeing,
            reported,
            outlook,
        }
    }

    #[test]
    fn a_quorum_of_equal_results_decides() {
        use FailureCode::NotFound;
        use Outlook::{Complete, Hopeless, Possible};
        let a = || result(1, &[]);
        let b = || result(2, &[]);
        let present = |index| Some(Outcome::Present { index });
        let agreed = |agreeing| Verdict::Agreed {
            agreeing,
            tag: None,
        };
        for (outcomes, expected) in [
            ([None, None, None, None], open(0, 0, Possible)),
            ([a(), None, None, None], open(1, 1, Possible)),
            (
                [a(), a(), Some(Outcome::Started), None],
                open(2, 3, Possible),
            ),
            ([a(), a(), a(), None], agreed(3)),
            ([a(), a(), a(), a()], agreed(4)),
            ([a(), a(), b(), a()], agreed(3)),
            ([a(), b(), None, None], open(1, 2, Possible)),
            ([a(), b(), b(), None], open(2, 3, Possible)),
            ([a(), a(), b(), b()], open(2, 4, Complete)),
            ([failed(NotFound), None, None, None], open(0, 1, Possible)),
            (
                [failed(NotFound), failed(NotFound), None, None],
                open(0, 2, Hopeless),
            ),
            (
                [failed(NotFound), failed(NotFound), failed(NotFound), None],
                open(0, 3, Hopeless),
            ),
            ([present(7), None, None, None], open(0, 1, Possible)),
            ([present(7), present(8), None, None], open(0, 2, Possible)),
            (
                [present(7), present(7), None, None],
                Verdict::Present { index: 7 },
            ),
        ] {
            let (members, reports) = case(outcomes);
            assert_eq!(judge(&members, &reports), expected, "{reports:?}");
        }
    }

    #[test]
    fn different_results_are_listed_by_file_and_node() {
        let (members, reports) = case([
            result(1, &[("a.jar", 1), ("a.pom", 9)]),
            result(2, &[("a.jar", 2), ("a.pom", 9)]),
            result(1, &[("a.jar", 1), ("a.pom", 9)]),
            result(3, &[("a.pom", 9)]),
        ]);
        let reason = explain(&members, &reports, None);
        let Reason::DigestsDiffer(list) = &reason else {
            panic!("{reason}");
        };
        assert_eq!(list.len(), 1);
        let text = reason.to_string();
        for part in [
            "digests differ; a.jar: ",
            "absent for dave",
            "sha256:0202020202020202… for bob",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("a.pom"), "{text}");
    }

    #[test]
    fn results_that_differ_elsewhere_are_still_told_apart() {
        let (members, reports) = case([result(1, &[]), result(2, &[]), None, None]);
        let text = explain(&members, &reports, None).to_string();
        assert!(
            text.starts_with("digests differ; facts: subject "),
            "{text}"
        );
    }

    #[test]
    fn the_reason_names_who_did_not_answer() {
        use FailureCode::{NotFound, Unreachable};
        let a = || result(1, &[]);
        let started = || Some(Outcome::Started);
        for (outcomes, expected) in [
            (
                [a(), a(), None, None],
                "2 nodes have a result, 3 are needed; no answer from carol, dave",
            ),
            (
                [a(), a(), started(), None],
                "timed out; still at it: carol; no answer from dave",
            ),
            (
                [a(), failed(Unreachable), failed(NotFound), started()],
                "1 nodes have a result, 3 are needed; bob: upstream unreachable; carol: not found \
                 upstream",
            ),
            (
                [failed(NotFound), failed(NotFound), failed(NotFound), None],
                "not found upstream, say alice, bob, carol",
            ),
        ] {
            let (members, reports) = case(outcomes);
            assert_eq!(explain(&members, &reports, None).to_string(), expected);
        }
    }
}
