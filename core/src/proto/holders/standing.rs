//! Whether a holder announces itself.

use std::collections::BTreeSet;

use crate::base::{Blake3, NodeId};

/// Records that servers of the DHT keep under one key: those of the lowest scores.
pub const HOLDERS_MAX: usize = 100;

/// With fewer records under a key every holder announces itself. Below [`HOLDERS_MAX`], because
/// the number is estimated from samples.
pub const HOLDERS_SCARCE: usize = 80;

/// Holders in one answer; what a server tells beyond them is not looked at.
pub const ANSWER_HOLDERS_MAX: usize = 20;

/// Answers of servers that are enough to know; about 2 KB each.
pub const ANSWERS_MAX: usize = 6;

/// Full answers without which a holder does not keep silent: one server that makes up holders must not
/// silence those of a package that few hold. The ids of one answer are not enough to look like
/// [`HOLDERS_SCARCE`] records beside those of the others.
const FULL_ANSWERS_MIN: usize = 3;

/// Longest silence before a holder looks again. Unit: publication intervals.
pub const INTERVALS_MAX: u32 = 14;

/// The place of `node` among the holders under `key`; low ones stand first. Evenly distributed, and
/// different from key to key, so that no node carries the load of all.
pub fn score(key: &[u8], node: &NodeId) -> u64 {
    let input = [b"kogge/holder/1\0", key, node.as_bytes()].concat();
    let mut head = [0; 8];
    for (to, from) in head.iter_mut().zip(Blake3::of(&input).0) {
        *to = from;
    }
    u64::from_be_bytes(head)
}

/// What a holder does until it looks again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// Announce itself; look again after one publication interval.
    Announce,
    /// Keep silent.
    Silent {
        /// Publication intervals until it looks again; the more, the more holders would have to
        /// leave before it is its turn. Looking costs more bytes than announcing.
        intervals: u32,
    },
}

/// What servers answered to the question for the holders under a key.
#[derive(Clone, Debug)]
pub struct Seen {
    key: Vec<u8>,
    /// Of the holders in full answers.
    scores: BTreeSet<u64>,
    /// Lengths of the full answers: they hold a part of what the server has.
    samples: Vec<usize>,
    /// Answers that name a holder.
    answers: usize,
}

impl Seen {
    /// Nothing yet of the holders under `key`.
    pub fn new(key: &[u8]) -> Self {
        Self {
            key: key.to_vec(),
            scores: BTreeSet::new(),
            samples: Vec::new(),
            answers: 0,
        }
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Adds the answer of one server, without the one who asks. An empty one tells nothing: most
    /// servers on the way to a key have no records of it. A short one is all that its server has, and
    /// says nothing of how many records others have.
    pub fn answer<'a>(&mut self, holders: impl IntoIterator<Item = &'a NodeId>) {
        let holders = holders.into_iter().take(ANSWER_HOLDERS_MAX);
        let scores: BTreeSet<u64> = holders.map(|it| score(&self.key, it)).collect();
        if scores.is_empty() {
            return;
        }
        self.answers += 1;
        // The one who asks is left out by the server after the draw.
        if ANSWER_HOLDERS_MAX <= scores.len() + 1 {
            self.samples.push(scores.len());
            self.scores.extend(scores);
        }
    }

    /// Whether further answers would change little.
    pub fn is_enough(&self) -> bool {
        ANSWERS_MAX <= self.answers
    }

    /// What `node`, which holds what the key names, does; and whether it kept silent since it looked
    /// last. If not, it looks again soon, however many come before it: what it sees by chance, or by
    /// the lies of those that answered first, costs it one interval.
    pub fn standing(&self, node: &NodeId, was_silent: bool) -> Standing {
        let Some(highest) = self.scores.last() else {
            return Standing::Announce;
        };
        if self.samples.len() < FULL_ANSWERS_MIN {
            return Standing::Announce;
        }
        let own = score(&self.key, node);
        if own <= *highest || self.records() < HOLDERS_SCARCE {
            return Standing::Announce;
        }
        if !was_silent {
            return Standing::Silent { intervals: 1 };
        }
        // The records are those of the lowest scores and scores are evenly distributed, so this is
        // how many times as many holders come before this one.
        let intervals = u32::try_from(own / (*highest).max(1)).unwrap_or(INTERVALS_MAX);
        Standing::Silent {
            intervals: intervals.clamp(1, INTERVALS_MAX),
        }
    }

    /// About how many records a server has; at most [`HOLDERS_MAX`], unless more were seen.
    ///
    /// The fewer of those drawn are different, the fewer there are to draw from: of `n` records,
    /// draws of `a`, `b`, … leave `n (1 - a/n) (1 - b/n) …` unseen.
    fn records(&self) -> usize {
        let seen = self.scores.len();
        #[expect(clippy::cast_precision_loss, reason = "numbers up to a thousand")]
        let expected = |records: usize| {
            let all = records as f64;
            let unseen = |it: &usize| (1.0 - *it as f64 / all).max(0.0);
            all - all * self.samples.iter().map(unseen).product::<f64>()
        };
        #[expect(clippy::cast_precision_loss, reason = "numbers up to a thousand")]
        let is_enough = |records: &usize| seen as f64 <= expected(*records);
        (seen..HOLDERS_MAX).find(is_enough).unwrap_or(HOLDERS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::{PublicKey, Rng, WallTime};
    use crate::proto::holders::Ledger;

    /// Servers that are asked for a key.
    const SERVERS: usize = 4;

    /// Publication intervals of a record's life.
    const LIFE: u64 = 2;

    fn node(number: u64) -> NodeId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        PublicKey(bytes)
    }

    /// When a holder looks again.
    #[derive(Clone, Copy, Default)]
    struct Turn {
        cycle: u64,
        was_silent: bool,
    }

    /// Servers of one key with their records, and what it took to fill them.
    struct World {
        key: Vec<u8>,
        servers: Vec<Ledger>,
        rng: Rng,
        looks: u64,
        puts: u64,
    }

    impl World {
        fn new(seed: u64) -> Self {
            let servers = (0..SERVERS).map(|_| Ledger::default()).collect();
            let (key, rng) = (seed.to_be_bytes().to_vec(), Rng::new(seed));
            let (looks, puts) = (0, 0);
            Self {
                key,
                servers,
                rng,
                looks,
                puts,
            }
        }

        fn now(cycle: u64) -> WallTime {
            WallTime::from_millis(cycle)
        }

        fn seen(&mut self, cycle: u64) -> Seen {
            let mut seen = Seen::new(&self.key);
            for _ in 0..ANSWERS_MAX {
                let at = usize::try_from(self.rng.below(SERVERS as u64)).unwrap();
                let holders = self.servers[at].holders(&self.key, Self::now(cycle));
                let mut holders: Vec<_> = holders.copied().collect();
                self.rng.shuffle(&mut holders);
                holders.truncate(ANSWER_HOLDERS_MAX);
                seen.answer(&holders);
            }
            seen
        }

        /// Every holder whose turn it is looks; those that look at the same time see the same.
        fn cycle(&mut self, cycle: u64, holders: &[u64], turns: &mut [Turn]) {
            let at_a_time = (holders.len() / 10_000).max(1);
            for (some, turns) in holders.chunks(at_a_time).zip(turns.chunks_mut(at_a_time)) {
                if turns.iter().all(|it| cycle < it.cycle) {
                    continue;
                }
                let seen = self.seen(cycle);
                for (holder, turn) in some.iter().zip(turns) {
                    if cycle < turn.cycle {
                        continue;
                    }
                    self.looks += 1;
                    let standing = seen.standing(&node(*holder), turn.was_silent);
                    turn.was_silent = standing != Standing::Announce;
                    turn.cycle = match standing {
                        Standing::Announce => {
                            self.announce(cycle, &node(*holder));
                            cycle + 1
                        }
                        Standing::Silent { intervals } => cycle + u64::from(intervals),
                    };
                }
            }
        }

        /// One of twenty announcements does not arrive.
        fn announce(&mut self, cycle: u64, node: &NodeId) {
            self.puts += 1;
            for server in &mut self.servers {
                if !self.rng.chance(1, 20) {
                    let (now, expires) = (Self::now(cycle), Self::now(cycle + LIFE));
                    server.add(&self.key, node, expires, now, &mut Vec::new());
                }
            }
        }

        /// Holders that at least one server knows.
        fn standing(&self, cycle: u64) -> BTreeSet<NodeId> {
            let holders = |it: &Ledger| {
                let now = Self::now(cycle);
                it.holders(&self.key, now).copied().collect::<Vec<_>>()
            };
            self.servers.iter().flat_map(holders).collect()
        }
    }

    /// Cycles until few come or go.
    fn settle(world: &mut World, count: u64, cycles: u64) -> usize {
        let mut holders: Vec<u64> = (0..count).collect();
        world.rng.shuffle(&mut holders);
        let mut turns = vec![Turn::default(); holders.len()];
        let mut standing = 0;
        for cycle in 0..cycles {
            world.cycle(cycle, &holders, &mut turns);
            standing = world.standing(cycle).len();
            let wanted = usize::try_from(count).unwrap().min(50);
            assert!((wanted..=200).contains(&standing), "{cycle}: {standing}");
        }
        standing
    }

    #[test]
    fn about_a_hundred_stand_under_a_key_however_many_hold_it() {
        for (count, cycles) in [(1, 4), (10, 6), (100, 6), (10_000, 6), (1_000_000, 3)] {
            let mut world = World::new(count);
            let standing = settle(&mut world, count, cycles);
            if count <= 10 {
                assert_eq!(standing as u64, count, "every one of a few stands");
            }
            // Each cycle those that stand, some that take the place of others, and the few of
            // those that look whose sample shows too few records.
            let puts_max = cycles * 400 + 1_000 + world.looks / 50;
            assert!(world.puts < puts_max, "{count}: {} puts", world.puts);
        }
    }

    #[test]
    fn of_many_holders_few_look_in_a_cycle() {
        let mut world = World::new(5);
        settle(&mut world, 20_000, 2);
        let before = world.looks;
        let holders: Vec<u64> = (0..20_000).collect();
        let next = Turn {
            cycle: 2,
            was_silent: false,
        };
        let mut turns = vec![next; holders.len()];
        for cycle in 2..30 {
            world.cycle(cycle, &holders, &mut turns);
        }
        let each = (world.looks - before - 20_000) / 27;
        assert!(each < 20_000 / 10, "{each} looked in a cycle");
    }

    #[test]
    fn places_of_those_that_leave_are_taken() {
        let mut world = World::new(3);
        let holders: Vec<u64> = (0..5_000).collect();
        let mut turns = vec![Turn::default(); holders.len()];
        for cycle in 0..4 {
            world.cycle(cycle, &holders, &mut turns);
        }
        let first = world.standing(3);
        // All that stand leave at once.
        let stay = |it: &(u64, Turn)| !first.contains(&node(it.0));
        let pairs = holders.into_iter().zip(turns);
        let (holders, mut turns): (Vec<_>, Vec<_>) = pairs.filter(stay).unzip();
        for cycle in 4..20 {
            world.cycle(cycle, &holders, &mut turns);
        }
        let standing = world.standing(19);
        assert!((50..=200).contains(&standing.len()), "{}", standing.len());
        assert!(standing.is_disjoint(&first));
    }

    /// A hundred nodes before `own`, or as many as there are, from the lowest score on.
    fn nodes_before(key: &[u8], own: &NodeId) -> Vec<NodeId> {
        let mut nodes: Vec<_> = (1..400).map(node).collect();
        nodes.retain(|it| score(key, it) < score(key, own));
        nodes.sort_by_key(|it| score(key, it));
        nodes.truncate(HOLDERS_MAX);
        nodes
    }

    /// The node of the highest score under `key` of a few.
    fn last_of_all(key: &[u8]) -> NodeId {
        (1_000..1_100)
            .map(node)
            .max_by_key(|it| score(key, it))
            .unwrap()
    }

    #[test]
    fn one_server_that_lies_does_not_silence_a_holder_of_few() {
        let key = b"key";
        let own = last_of_all(key);
        let made_up = nodes_before(key, &own);
        for others in [0, 5, 19, 20, 25] {
            for honest in 0..ANSWERS_MAX {
                let mut seen = Seen::new(key);
                seen.answer(&made_up[40..]);
                let mut all = made_up[..others].to_vec();
                for at in 0..honest {
                    Rng::new(at as u64).shuffle(&mut all);
                    seen.answer(&all[..others.min(ANSWER_HOLDERS_MAX)]);
                }
                let standing = seen.standing(&own, true);
                assert_eq!(standing, Standing::Announce, "{others}, {honest}");
            }
        }
    }

    #[test]
    fn short_answers_do_not_count_as_parts_of_many() {
        let key = b"key";
        let own = last_of_all(key);
        let nodes = nodes_before(key, &own);
        let mut seen = Seen::new(key);
        for part in [&nodes[..20], &nodes[..20], &nodes[..20], &nodes[20..38]] {
            seen.answer(part);
        }
        assert_eq!(seen.records(), 20);
        // What a server repeats is one holder.
        seen.answer(&[nodes[50]; ANSWER_HOLDERS_MAX]);
        assert_eq!((seen.records(), seen.answers), (20, 5));
    }

    #[test]
    fn the_first_silence_is_short() {
        let key = b"key";
        let own = last_of_all(key);
        let mut nodes = nodes_before(key, &own);
        nodes.truncate(90);
        let mut seen = Seen::new(key);
        for part in nodes.chunks(ANSWER_HOLDERS_MAX).take(4) {
            seen.answer(part);
        }
        let silent = |intervals| Standing::Silent { intervals };
        assert_eq!(seen.standing(&own, false), silent(1));
        let later = u32::try_from(score(key, &own) / seen.scores.last().unwrap()).unwrap();
        assert!(1 < later);
        assert_eq!(seen.standing(&own, true), silent(later));
    }

    proptest! {
        #[test]
        fn a_holder_of_few_always_announces_itself(
            seed: u64, count in 0..19_u64, answers in 0..10_u64,
        ) {
            let key = seed.to_be_bytes();
            let mut seen = Seen::new(&key);
            for answer in 0..answers {
                let holders: Vec<_> = (0..count).filter(|it| it % 2 == answer % 2).collect();
                seen.answer(&holders.into_iter().map(|it| node(seed ^ it)).collect::<Vec<_>>());
            }
            prop_assert_eq!(seen.standing(&node(seed ^ 99), true), Standing::Announce);
        }

        #[test]
        fn the_same_view_leads_to_the_same_decision(seed: u64, own: u64) {
            let mut world = World::new(seed);
            for holder in 0..300 {
                world.announce(0, &node(holder));
            }
            let seen = world.seen(0);
            let decided = seen.standing(&node(own), true);
            prop_assert_eq!(seen.clone().standing(&node(own), true), decided);
            let is_low = score(seen.key(), &node(own)) <= *seen.scores.last().unwrap();
            if is_low {
                prop_assert_eq!(decided, Standing::Announce);
            }
        }

        #[test]
        fn the_number_of_records_is_estimated(seed: u64, records in 20..101_usize) {
            let key = b"key";
            let (mut seen, mut rng) = (Seen::new(key), Rng::new(seed));
            let mut all: Vec<_> = (0..records as u64).map(|it| node(seed ^ it)).collect();
            for _ in 0..ANSWERS_MAX {
                rng.shuffle(&mut all);
                seen.answer(&all[..ANSWER_HOLDERS_MAX.min(records)]);
            }
            let estimated = seen.records();
            let (low, high) = (records * 3 / 5, records * 7 / 4);
            prop_assert!((low..=high).contains(&estimated), "{} of {}", estimated, records);
        }
    }
}
