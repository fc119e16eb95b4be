//! The serving machine, one step after the other.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use crate::base::{Blake3, Time};
use crate::proto::exchange::fixture::Artifact;
use crate::proto::exchange::group::{GROUP_BYTES, Piece, Pieces};
use crate::proto::exchange::message::{DATA_BYTES_MAX, Reply, Want};
use crate::proto::exchange::serve::{
    BULK_PEERS_MAX, Config, Effect, Input, REQUESTS_PEER_MAX, RETRY_AFTER_MS, Serve,
};
use crate::proto::limit::Rate;

const GROUP: u64 = GROUP_BYTES as u64;

fn want(groups: Range<u64>) -> Want {
    Want {
        root: Blake3([1; 32]),
        size: 1_000 * GROUP,
        groups,
    }
}

struct Bench {
    serve: Serve<&'static str>,
    now: Time,
    out: Vec<Effect<&'static str>>,
}

impl Bench {
    fn new(config: Config) -> Self {
        Self {
            serve: Serve::new(config, Time::ZERO),
            now: Time::ZERO,
            out: Vec::new(),
        }
    }

    fn give(&mut self, input: Input<&'static str>) {
        self.serve.handle(self.now, input, &mut self.out);
    }

    fn ask(&mut self, peer: &'static str, id: u32, groups: Range<u64>) {
        self.give(Input::Requested {
            peer,
            id,
            want: want(groups),
            is_held: true,
        });
    }

    fn take(&mut self) -> Vec<Effect<&'static str>> {
        std::mem::take(&mut self.out)
    }

    /// The shell at work: writes everything at once, sleeps exactly as told, and stops at `until`.
    /// Gives the bytes sent to each peer, and the replies.
    fn work(&mut self, until: Time) -> (BTreeMap<&'static str, u64>, Vec<Reply>) {
        let (mut sent, mut replies) = (BTreeMap::new(), Vec::new());
        loop {
            for effect in self.take() {
                match effect {
                    Effect::Send {
                        peer, id, bytes, ..
                    } => {
                        *sent.entry(peer).or_default() += u64::from(bytes);
                        self.give(Input::Sent { peer, id });
                    }
                    Effect::Reply { reply, .. } => replies.push(reply),
                    Effect::Close { peer } => panic!("{peer} is innocent"),
                }
            }
            if self.out.is_empty() {
                let Some(at) = self.serve.next_deadline().filter(|at| *at <= until) else {
                    return (sent, replies);
                };
                self.now = at;
                self.serve.expire(at, &mut self.out);
            }
        }
    }
}

fn secs(secs: u64) -> Time {
    Time::ZERO + Duration::from_secs(secs)
}

fn limited(rate: u64) -> Config {
    Config {
        rate: Rate::BytesPerSecond(rate),
        ..Config::default()
    }
}

/// Peer, request and length of each turn.
fn turns(effects: &[Effect<&'static str>]) -> Vec<(&'static str, u32, usize)> {
    let turn = |effect: &Effect<&'static str>| match effect {
        Effect::Send {
            peer, id, pieces, ..
        } => {
            let groups = pieces.iter().filter(|it| matches!(it, Piece::Group { .. }));
            Some((*peer, *id, groups.count()))
        }
        _ => None,
    };
    effects.iter().filter_map(turn).collect()
}

#[test]
fn a_request_is_sent_piece_by_piece_and_then_ended() {
    let artifact = Artifact::new(1, 6 * GROUP_BYTES + 9);
    let mut bench = Bench::new(Config::default());
    let want = Want {
        root: artifact.root,
        size: artifact.size(),
        groups: 1..7,
    };
    bench.give(Input::Requested {
        peer: "alice",
        id: 5,
        want,
        is_held: true,
    });
    let mut stream = Vec::new();
    for effect in bench.take() {
        let Effect::Send { pieces, bytes, .. } = effect else {
            panic!("nothing else is due");
        };
        let frame: Vec<u8> = pieces
            .iter()
            .flat_map(|it| artifact.read(it).to_vec())
            .collect();
        assert_eq!(frame.len(), usize::try_from(bytes).unwrap());
        assert!(frame.len() <= DATA_BYTES_MAX);
        stream.extend(frame);
        bench.give(Input::Sent {
            peer: "alice",
            id: 5,
        });
    }
    assert!(stream == artifact.stream(1..7));
    let reply = Reply::End { id: 5 };
    let peer = "alice";
    assert_eq!(bench.take(), [Effect::Reply { peer, reply }]);
    assert_eq!(bench.serve.request_count(), 0);
}

#[test]
fn peers_take_turns_of_one_group() {
    let mut bench = Bench::new(limited(1));
    bench.ask("alice", 1, 0..9);
    bench.ask("alice", 2, 9..18);
    bench.ask("bob", 1, 0..9);
    bench.ask("carol", 1, 0..2);
    bench.give(Input::Configured(Config::default()));
    let order = turns(&bench.take());
    // Alice was given her first turn while she was alone.
    assert_eq!(order[0], ("alice", 1, 3));
    let peers: Vec<_> = order.iter().skip(1).map(|it| it.0).take(6).collect();
    assert_eq!(peers, ["alice", "bob", "carol", "alice", "bob", "carol"]);
    assert!(order.iter().skip(1).all(|it| it.2 == 1), "{order:?}");
}

#[test]
fn under_a_limit_peers_share_equally_and_the_limit_holds() {
    let mut bench = Bench::new(limited(1_000_000));
    for peer in ["alice", "bob", "carol", "dave"] {
        for id in 0..4 {
            bench.ask(peer, id, 0..64);
        }
    }
    let (sent, _) = bench.work(secs(10));
    let sum: u64 = sent.values().sum();
    assert!((9_000_000..=11_000_000).contains(&sum), "{sum}");
    for bytes in sent.values() {
        assert!((sum / 4).abs_diff(*bytes) <= 5 * GROUP, "{sent:?}");
    }
}

#[test]
fn the_limit_of_a_peer_leaves_the_rest_to_others() {
    let mut bench = Bench::new(Config {
        rate: Rate::BytesPerSecond(1_000_000),
        peer_rate: Rate::BytesPerSecond(200_000),
        shares: true,
    });
    for peer in ["alice", "bob"] {
        bench.ask(peer, 1, 0..64);
    }
    let (sent, _) = bench.work(secs(10));
    for bytes in sent.values() {
        assert!((1_800_000..=2_200_000).contains(bytes), "{sent:?}");
    }
}

#[test]
fn a_node_that_shares_nothing_sends_nothing() {
    let silent = Config {
        shares: false,
        ..Config::default()
    };
    for config in [silent, limited(0)] {
        let mut bench = Bench::new(config);
        bench.ask("alice", 1, 0..9);
        let (sent, replies) = bench.work(secs(99));
        assert_eq!((sent.len(), replies), (0, vec![Reply::NotFound { id: 1 }]));
        assert!(!bench.serve.is_sharing());

        // Switched off later: what waits is answered, once its turns have come back.
        let mut bench = Bench::new(limited(1_000));
        bench.ask("alice", 1, 0..9);
        bench.ask("alice", 2, 0..9);
        let first = bench.take();
        assert_eq!(first.len(), 1);
        bench.give(Input::Configured(config));
        let reply = Reply::NotFound { id: 2 };
        let peer = "alice";
        assert_eq!(bench.take(), [Effect::Reply { peer, reply }]);
        bench.give(Input::Sent { peer, id: 1 });
        let reply = Reply::NotFound { id: 1 };
        assert_eq!(bench.take(), [Effect::Reply { peer, reply }]);
        assert_eq!(bench.serve.next_deadline(), None);
    }
}

#[test]
fn what_is_not_held_is_not_found() {
    let mut bench = Bench::new(Config::default());
    let absent = Input::Requested {
        peer: "alice",
        id: 1,
        want: want(0..1),
        is_held: false,
    };
    bench.give(absent);
    bench.ask("alice", 2, 999..1_001);
    let not_found = |id| Effect::Reply {
        peer: "alice",
        reply: Reply::NotFound { id },
    };
    assert_eq!(bench.take(), [not_found(1), not_found(2)]);
}

#[test]
fn cancel_drops_what_waits_and_ends_after_what_is_under_way() {
    let mut bench = Bench::new(Config::default());
    bench.ask("alice", 1, 0..64);
    bench.ask("alice", 2, 0..64);
    let under_way = turns(&bench.take());
    assert!(under_way.iter().all(|it| it.1 == 1));
    let peer = "alice";
    bench.give(Input::Cancelled { peer, id: 2 });
    let reply = Reply::End { id: 2 };
    assert_eq!(bench.take(), [Effect::Reply { peer, reply }]);
    bench.give(Input::Cancelled { peer, id: 1 });
    assert_eq!(bench.take(), []);
    for _ in under_way {
        bench.give(Input::Sent { peer, id: 1 });
    }
    let reply = Reply::End { id: 1 };
    assert_eq!(bench.take(), [Effect::Reply { peer, reply }]);
    assert_eq!(bench.serve.request_count(), 0);
}

#[test]
fn a_group_that_cannot_be_read_ends_its_request_once() {
    let mut bench = Bench::new(Config::default());
    bench.ask("alice", 1, 0..64);
    let under_way = bench.take().len();
    let peer = "alice";
    bench.give(Input::Sent { peer, id: 1 });
    bench.take();
    for _ in 0..under_way {
        assert_eq!(bench.take(), []);
        bench.give(Input::Lost { peer, id: 1 });
    }
    let reply = Reply::NotFound { id: 1 };
    assert_eq!(bench.take(), [Effect::Reply { peer, reply }]);
    bench.give(Input::Sent { peer, id: 1 });
    assert_eq!(bench.take(), []);
}

#[test]
fn too_many_requests_are_told_to_come_back() {
    let busy = |effects: Vec<Effect<&str>>| {
        let is_busy = |it: &&Effect<_>| {
            matches!(
                it,
                Effect::Reply {
                    reply: Reply::Busy {
                        retry_after_ms: RETRY_AFTER_MS,
                        ..
                    },
                    ..
                }
            )
        };
        effects.iter().filter(is_busy).count()
    };
    let mut bench = Bench::new(limited(1));
    for id in 0..100 {
        bench.ask("alice", id, 0..1);
    }
    assert_eq!(busy(bench.take()), 100 - REQUESTS_PEER_MAX);

    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let mut bench = Bench::new(limited(1));
    for peer in names {
        bench.ask(peer, 1, 0..64);
    }
    assert_eq!(busy(bench.take()), names.len() - BULK_PEERS_MAX);
    bench.ask("a", 2, 0..64);
    bench.ask("j", 2, 0..4);
    assert_eq!(busy(bench.take()), 0);
    bench.give(Input::PeerGone { peer: "a" });
    bench.ask("j", 3, 0..64);
    assert_eq!(busy(bench.take()), 0);
}

#[test]
fn an_id_that_is_used_twice_closes_the_stream() {
    let mut bench = Bench::new(limited(1));
    bench.ask("eve", 1, 0..9);
    bench.ask("eve", 1, 0..9);
    let close = Effect::Close { peer: "eve" };
    assert_eq!(bench.take().last(), Some(&close));
    assert_eq!(
        (bench.serve.request_count(), bench.serve.next_deadline()),
        (0, None)
    );
}

#[test]
fn every_request_is_served_exactly() {
    let mut bench = Bench::new(limited(50_000_000));
    let mut expected = 0;
    for (peer, id, groups) in [
        ("alice", 1, 0..64),
        ("bob", 2, 7..8),
        ("alice", 3, 999..1_000),
    ] {
        let pieces = Pieces::new(1_000 * GROUP, &groups).unwrap();
        expected += pieces.map(|it| it.len() as u64).sum::<u64>();
        bench.ask(peer, id, groups);
    }
    let (sent, mut replies) = bench.work(secs(60));
    replies.sort_by_key(|it| format!("{it:?}"));
    assert_eq!(sent.values().sum::<u64>(), expected);
    let ends = [1, 2, 3].map(|id| Reply::End { id });
    assert_eq!(replies, ends);
}
