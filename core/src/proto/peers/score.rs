//! One opinion of each peer, shared by all protocols.
//!
//! A *provable* fault (bad proof, bad certificate, a message that no honest node sends) is a ban.
//! Slowness costs rank, never a ban: an honest peer behind a thin line must not be punished, and
//! the sole source of something is kept however slow it is.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::{NodeId, Time};

/// Peers with an opinion; at the limit the one that matters least is forgotten: no ban first, then
/// the score nearest to zero, then the ban that ends first.
const PEERS_MAX: usize = 4_096;

/// Length of the first ban.
const BAN_MIN: Duration = Duration::from_secs(3_600);

/// Longest ban.
const BAN_MAX: Duration = Duration::from_secs(24 * 3_600);

/// How long after its last ban a peer counts as never banned.
const FORGIVEN_AFTER: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Scores lie in `-SCORE_MAX..=SCORE_MAX`.
const SCORE_MAX: i64 = 100;

/// What a time-out costs.
const SLOW_COST: i64 = 10;

/// Below this score a peer is dropped where another can take its place.
const DROP_BELOW: i64 = -50;

/// A score moves by one towards zero in this time.
const FADE: Duration = Duration::from_secs(60);

/// Longest reason; the rest is cut off. Unit: characters.
const REASON_CHARS_MAX: usize = 200;

/// A ban in force.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ban {
    /// When it ends.
    pub until: Time,
    /// Why, for people.
    pub reason: String,
    /// Which of the peer's bans this is, from 1.
    pub times: u32,
}

#[derive(Clone, Debug)]
struct Opinion {
    score: i64,
    /// When the score was last brought up to date.
    at: Time,
    ban: Option<Ban>,
}

/// All opinions.
#[derive(Clone, Debug, Default)]
pub struct Scores {
    peers: BTreeMap<NodeId, Opinion>,
}

impl Scores {
    /// Bans the peer for a provable fault: an hour, doubling with each further ban to a day. A
    /// fault during a ban does not prolong it.
    pub fn fault(&mut self, now: Time, peer: NodeId, reason: &str) -> Ban {
        let opinion = self.opinion(now, peer);
        let last = opinion.ban.take();
        if let Some(ban) = last.as_ref().filter(|it| now < it.until) {
            opinion.ban.clone_from(&last);
            return ban.clone();
        }
        let past = last.filter(|it| now < it.until + FORGIVEN_AFTER);
        let times = past.map_or(0, |it| it.times).saturating_add(1);
        let length = BAN_MIN.saturating_mul(2_u32.saturating_pow(times.min(16) - 1));
        let until = now + length.min(BAN_MAX);
        let ban = Ban {
            until,
            reason: reason.chars().take(REASON_CHARS_MAX).collect(),
            times,
        };
        opinion.ban = Some(ban.clone());
        ban
    }

    /// Notes that the peer let us wait.
    pub fn slow(&mut self, now: Time, peer: NodeId) {
        let opinion = self.opinion(now, peer);
        opinion.score = (opinion.score - SLOW_COST).max(-SCORE_MAX);
    }

    /// Notes that the peer did something useful.
    pub fn useful(&mut self, now: Time, peer: NodeId) {
        let opinion = self.opinion(now, peer);
        opinion.score = (opinion.score + 1).min(SCORE_MAX);
    }

    /// The peer's score; 0 if nothing is known of it.
    pub fn score(&self, now: Time, peer: &NodeId) -> i64 {
        self.peers.get(peer).map_or(0, |it| faded(it, now))
    }

    /// The peer's ban, if one is in force.
    pub fn ban(&self, now: Time, peer: &NodeId) -> Option<&Ban> {
        let ban = self.peers.get(peer)?.ban.as_ref()?;
        (now < ban.until).then_some(ban)
    }

    /// Lifts a ban, in the name of the operator. Returns whether there was one.
    pub fn pardon(&mut self, now: Time, peer: &NodeId) -> bool {
        let was_banned = self.ban(now, peer).is_some();
        if was_banned {
            self.peers.remove(peer);
        }
        was_banned
    }

    /// All bans in force.
    pub fn bans(&self, now: Time) -> impl Iterator<Item = (NodeId, &Ban)> {
        let bans = self
            .peers
            .iter()
            .filter_map(|(peer, it)| Some((*peer, it.ban.as_ref()?)));
        bans.filter(move |(_, it)| now < it.until)
    }

    /// Which of the `sources` of one thing to drop for slowness, if any: the worst, if its score is
    /// low and that of another is not. The sole source is never dropped.
    pub fn droppable(&self, now: Time, sources: &[NodeId]) -> Option<NodeId> {
        let (low, good): (Vec<_>, Vec<_>) = sources
            .iter()
            .map(|it| (self.score(now, it), *it))
            .partition(|(score, _)| *score < DROP_BELOW);
        let worst = low.into_iter().min().map(|(_, peer)| peer);
        worst.filter(|_| !good.is_empty())
    }

    fn opinion(&mut self, now: Time, peer: NodeId) -> &mut Opinion {
        if PEERS_MAX <= self.peers.len() && !self.peers.contains_key(&peer) {
            let weight = |it: &Opinion| {
                let until = it.ban.as_ref().map(|it| it.until).filter(|it| now < *it);
                (until, faded(it, now).abs())
            };
            let least = self.peers.iter().min_by_key(|(_, it)| weight(it));
            if let Some(least) = least.map(|(peer, _)| *peer) {
                self.peers.remove(&least);
            }
        }
        let opinion = self.peers.entry(peer).or_insert(Opinion {
            score: 0,
            at: now,
            ban: None,
        });
        let score = faded(opinion, now);
        if score != opinion.score {
            opinion.score = score;
            opinion.at = now;
        }
        opinion
    }
}

fn faded(opinion: &Opinion, now: Time) -> i64 {
    let steps = now.since(opinion.at).as_secs() / FADE.as_secs();
    let steps = i64::try_from(steps).unwrap_or(SCORE_MAX);
    let left = (opinion.score.abs() - steps).max(0);
    left * opinion.score.signum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::PublicKey;

    const ALICE: NodeId = PublicKey([1; 32]);
    const BOB: NodeId = PublicKey([2; 32]);
    const EVE: NodeId = PublicKey([3; 32]);
    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn bans_double_from_an_hour_to_a_day_and_name_their_reason() {
        let mut scores = Scores::default();
        let mut now = Time::ZERO;
        for (times, hours) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 24), (7, 24)] {
            let ban = scores.fault(now, EVE, "bad_proof");
            let expected = Ban {
                until: now + HOUR * hours,
                reason: "bad_proof".to_owned(),
                times,
            };
            assert_eq!(ban, expected);
            assert_eq!(scores.fault(now + HOUR / 2, EVE, "other"), expected);
            assert_eq!(scores.ban(now, &EVE), Some(&expected));
            now = ban.until;
            assert_eq!(scores.ban(now, &EVE), None);
        }
        now = now + FORGIVEN_AFTER;
        assert_eq!(scores.fault(now, EVE, "bad_proof").times, 1);
        assert!(scores.pardon(now, &EVE) && !scores.pardon(now, &EVE));
    }

    #[test]
    fn slowness_never_bans_and_fades() {
        let mut scores = Scores::default();
        for _ in 0..1_000 {
            scores.slow(Time::ZERO, BOB);
        }
        assert_eq!(scores.score(Time::ZERO, &BOB), -SCORE_MAX);
        assert_eq!(scores.ban(Time::ZERO, &BOB), None);
        assert_eq!(scores.score(Time::ZERO + HOUR, &BOB), -SCORE_MAX + 60);
        assert_eq!(scores.score(Time::ZERO + 2 * HOUR, &BOB), 0);
    }

    #[test]
    fn the_sole_source_is_never_dropped_for_slowness() {
        let mut scores = Scores::default();
        let now = Time::ZERO;
        (0..6).for_each(|_| scores.slow(now, BOB));
        (0..7).for_each(|_| scores.slow(now, EVE));
        for (sources, expected) in [
            (vec![], None),
            (vec![BOB], None),
            (vec![BOB, EVE], None),
            (vec![ALICE, BOB], Some(BOB)),
            (vec![ALICE, BOB, EVE], Some(EVE)),
        ] {
            assert_eq!(scores.droppable(now, &sources), expected, "{sources:?}");
        }
    }

    #[test]
    fn a_flood_of_peers_does_not_wash_out_a_ban() {
        let mut scores = Scores::default();
        scores.fault(Time::ZERO, EVE, "bad_proof");
        for number in 0..PEERS_MAX as u64 + 100 {
            let mut bytes = [9; 32];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            scores.useful(Time::ZERO, PublicKey(bytes));
        }
        assert!(scores.ban(Time::ZERO, &EVE).is_some());
        assert_eq!(scores.peers.len(), PEERS_MAX);
    }
}
