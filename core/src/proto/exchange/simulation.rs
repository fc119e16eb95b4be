//! Both ends of the wire in virtual time, with servers of every temper.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use crate::base::Time;
use crate::proto::exchange::arrival::Arrival;
use crate::proto::exchange::download::{Config, Download, Effect, Failure, Input};
use crate::proto::exchange::fixture::Artifact;
use crate::proto::exchange::group::GROUP_BYTES;
use crate::proto::exchange::message::{Reply, Request, Want};
use crate::proto::exchange::presence::Presence;
use crate::proto::exchange::replies::Replies;
use crate::proto::exchange::requests::Requests;
use crate::proto::exchange::serve;
use crate::proto::exchange::verify::Verified;
use crate::proto::schedule::Ranges;

type Name = &'static str;

/// What a server does with a request that it should answer.
enum Temper {
    Honest,
    /// Flips this bit of the answer's data.
    Flips(usize),
    /// Sends the groups of another artifact, with their valid proof.
    Forges(Artifact),
    /// Sends other groups of the right artifact.
    Shifts,
    /// Ends after half of the data.
    Truncates,
    /// Sends groups under an id that nobody uses, before the answer.
    Pushes,
    /// Never answers.
    Silent,
    /// Denies what it claimed to have.
    Denies,
    /// Answers so many requests, then falls silent.
    Stops(usize),
}

struct Server {
    has: Ranges,
    temper: Temper,
    requests: Requests,
    serve: serve::Serve<Name>,
    asked: Ranges,
    cancels: usize,
}

impl Server {
    fn new(groups: Range<u64>, temper: Temper) -> Self {
        Self {
            has: Ranges::from(groups),
            temper,
            requests: Requests::new(),
            serve: serve::Serve::new(serve::Config::default(), Time::ZERO),
            asked: Ranges::new(),
            cancels: 0,
        }
    }

    /// Takes the bytes of a request and gives those of the answer.
    fn take(&mut self, artifact: &Artifact, bytes: &[u8]) -> Vec<u8> {
        let mut answer = Vec::new();
        for byte in bytes {
            self.requests.space()[0] = *byte;
            match self.requests.advance(1).unwrap() {
                Some(Request::Get { id, want }) => answer.extend(self.answer(artifact, id, &want)),
                Some(Request::Cancel { .. }) => self.cancels += 1,
                Some(Request::Have { .. }) => panic!("presence is given"),
                None => {}
            }
        }
        answer
    }

    fn answer(&mut self, artifact: &Artifact, id: u32, want: &Want) -> Vec<u8> {
        self.asked.insert(want.groups.clone());
        let end = Reply::End { id }.encode();
        let groups = want.groups.clone();
        match &mut self.temper {
            Temper::Honest => self.serve(artifact, id, want),
            Temper::Stops(0) | Temper::Silent => Vec::new(),
            Temper::Stops(left) => {
                *left -= 1;
                self.serve(artifact, id, want)
            }
            Temper::Denies => Reply::NotFound { id }.encode(),
            Temper::Flips(at) => {
                let mut stream = artifact.stream(groups);
                let at = *at % stream.len();
                stream[at] ^= 1;
                [frames(id, &stream), end].concat()
            }
            Temper::Forges(other) => [frames(id, &other.stream(groups)), end].concat(),
            Temper::Shifts => {
                let length = groups.end - groups.start;
                let start = if groups.start == 0 {
                    1
                } else {
                    groups.start - 1
                };
                [frames(id, &artifact.stream(start..start + length)), end].concat()
            }
            Temper::Truncates => {
                let stream = artifact.stream(groups);
                [frames(id, &stream[..stream.len() / 2]), end].concat()
            }
            Temper::Pushes => {
                let pushed = frames(id + 1_000, &artifact.stream(groups));
                [pushed, self.serve(artifact, id, want)].concat()
            }
        }
    }

    /// The honest answer, by the machine.
    fn serve(&mut self, artifact: &Artifact, id: u32, want: &Want) -> Vec<u8> {
        let (mut out, mut wire) = (Vec::new(), Vec::new());
        let is_held = want.groups.clone().all(|it| self.has.contains(it));
        let (peer, want) = ("me", want.clone());
        let requested = serve::Input::Requested {
            peer,
            id,
            want,
            is_held,
        };
        self.serve.handle(Time::ZERO, requested, &mut out);
        while !out.is_empty() {
            match out.remove(0) {
                serve::Effect::Send { pieces, .. } => {
                    let bytes: Vec<u8> = pieces
                        .iter()
                        .flat_map(|it| artifact.read(it).to_vec())
                        .collect();
                    wire.extend(frames(id, &bytes));
                    let sent = serve::Input::Sent { peer, id };
                    self.serve.handle(Time::ZERO, sent, &mut out);
                }
                serve::Effect::Reply { reply, .. } => wire.extend(reply.encode()),
                serve::Effect::Close { .. } => panic!("the client uses ids once"),
            }
        }
        wire
    }
}

fn frames(id: u32, stream: &[u8]) -> Vec<u8> {
    let frame = |bytes: &[u8]| {
        let length = u32::try_from(bytes.len()).unwrap();
        [&Reply::Data { id, bytes: length }.encode(), bytes].concat()
    };
    stream.chunks(100_000).flat_map(frame).collect()
}

/// One node that downloads, and its servers.
struct World {
    artifact: Artifact,
    servers: BTreeMap<Name, Server>,
    replies: BTreeMap<Name, Replies>,
    download: Download<Name>,
    out: Vec<Effect<Name>>,
    /// What the store has; only verified groups reach it.
    stored: BTreeMap<u64, Vec<u8>>,
    wire: BTreeMap<(Time, usize), (Name, Vec<u8>)>,
    now: Time,
    sent: usize,
    banned: Vec<Name>,
    avoided: Vec<Name>,
    end: Option<Result<(), Failure>>,
}

impl World {
    fn new(config: Config, groups: u64, stored: Range<u64>, servers: Vec<(Name, Server)>) -> Self {
        let bytes = usize::try_from(groups).unwrap() * GROUP_BYTES - 7;
        let artifact = Artifact::new(1, bytes);
        let mut out = Vec::new();
        let durable = Ranges::from(stored.clone());
        let download = Download::new(Time::ZERO, config, artifact.size(), &durable, &mut out);
        let stored = stored.map(|it| (it, artifact.group(it).to_vec())).collect();
        let mut world = Self {
            artifact,
            replies: servers.iter().map(|it| (it.0, Replies::new())).collect(),
            servers: BTreeMap::new(),
            download,
            out,
            stored,
            wire: BTreeMap::new(),
            now: Time::ZERO,
            sent: 0,
            banned: Vec::new(),
            avoided: Vec::new(),
            end: None,
        };
        for (source, server) in servers {
            let has = Presence::partial(&server.has);
            world.servers.insert(source, server);
            world.give(Input::SourceAdded { source, has });
        }
        world
    }

    fn give(&mut self, input: Input<Name>) {
        self.download.handle(self.now, input, &mut self.out);
    }

    /// Runs to the end; panics if there is none within a virtual hour.
    fn run(mut self) -> Self {
        loop {
            while !self.out.is_empty() {
                let effect = self.out.remove(0);
                self.act(effect);
            }
            let arrival = self.wire.keys().next().map(|it| it.0);
            let Some(now) = arrival
                .into_iter()
                .chain(self.download.next_deadline())
                .min()
            else {
                break;
            };
            assert!(now.since(Time::ZERO) < Duration::from_secs(3_600));
            self.now = now;
            let arrived = self.wire.first_entry().filter(|it| it.key().0 == now);
            if let Some((source, bytes)) = arrived.map(|it| it.remove()) {
                self.receive(source, &bytes);
            }
            self.download.expire(now, &mut self.out);
        }
        for (index, bytes) in &self.stored {
            assert!(
                bytes == self.artifact.group(*index),
                "group {index} is wrong"
            );
        }
        self
    }

    fn act(&mut self, effect: Effect<Name>) {
        match effect {
            Effect::Request { source, id, groups } => {
                let id = u32::try_from(id).unwrap();
                let want = Want {
                    root: self.artifact.root,
                    size: self.artifact.size(),
                    groups,
                };
                self.replies
                    .get_mut(source)
                    .unwrap()
                    .open_get(id, &want)
                    .unwrap();
                self.send(source, &Request::Get { id, want });
            }
            Effect::CancelRequest { source, id } => {
                let id = u32::try_from(id).unwrap();
                self.replies.get_mut(source).unwrap().cancel(id);
                self.send(source, &Request::Cancel { id });
            }
            Effect::Ban { source, .. } => {
                self.banned.push(source);
                self.wire.retain(|_, it| it.0 != source);
            }
            Effect::Avoid { source, .. } => self.avoided.push(source),
            Effect::NeedSources => {}
            Effect::Done => assert_eq!(self.end.replace(Ok(())), None),
            Effect::Failed(failure) => assert_eq!(self.end.replace(Err(failure)), None),
        }
    }

    fn send(&mut self, source: Name, request: &Request) {
        let server = self.servers.get_mut(source).unwrap();
        let answer = server.take(&self.artifact, &request.encode());
        for bytes in answer.chunks(30_011) {
            self.sent += 1;
            let delay = Duration::from_millis(20) + Duration::from_micros(self.sent as u64);
            self.wire
                .insert((self.now + delay, self.sent), (source, bytes.to_vec()));
        }
    }

    fn receive(&mut self, source: Name, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let replies = self.replies.get_mut(source).unwrap();
            let space = replies.space();
            let length = space.len().min(bytes.len());
            if length == 0 {
                return;
            }
            let (head, rest) = bytes.split_at(length);
            space[..length].copy_from_slice(head);
            bytes = rest;
            match replies.advance(length) {
                Ok(arrival) => arrival.into_iter().for_each(|it| self.arrive(it)),
                Err(fault) => return self.give(Input::Refused { source, fault }),
            }
        }
    }

    fn arrive(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Verified { id, piece } => {
                if let Verified::Group(group) = piece {
                    let groups = group.index()..group.index() + 1;
                    self.stored.insert(group.index(), group.into_bytes());
                    let id = u64::from(id);
                    let arrived = groups.clone();
                    self.give(Input::Arrived {
                        id,
                        groups: arrived,
                    });
                    self.give(Input::Durable { groups });
                }
            }
            Arrival::End { id } => self.give(Input::Ended { id: id.into() }),
            Arrival::NotFound { id } => self.give(Input::NotFound { id: id.into() }),
            Arrival::Busy { id, retry_after } => {
                let id = id.into();
                self.give(Input::Busy { id, retry_after });
            }
            Arrival::Has { .. } => panic!("nobody asked"),
        }
    }

    fn is_whole(&self) -> bool {
        let groups: Vec<_> = self.stored.values().map(Vec::as_slice).collect();
        groups.concat() == self.artifact.data
    }
}

fn sources(sources_max: usize) -> Config {
    Config {
        sources_max,
        ..Config::default()
    }
}

#[test]
fn whatever_a_server_sends_only_the_artifact_is_stored_and_the_liar_is_banned() {
    let size = 40 * GROUP_BYTES - 7;
    for sources_max in [1, 4] {
        for temper in [
            Temper::Flips(0),
            Temper::Flips(70 * 8),
            Temper::Flips(400),
            Temper::Flips(65_000),
            Temper::Forges(Artifact::new(2, size)),
            Temper::Forges(Artifact::new(1, size + 1)),
            Temper::Shifts,
            Temper::Truncates,
            Temper::Pushes,
        ] {
            // Eve is asked first: she comes first in the alphabet.
            let servers = vec![
                ("a: eve", Server::new(0..40, temper)),
                ("bob", Server::new(0..40, Temper::Honest)),
            ];
            let world = World::new(sources(sources_max), 40, 0..0, servers).run();
            assert_eq!(world.end, Some(Ok(())));
            assert!(world.is_whole());
            assert_eq!((world.banned, world.avoided), (vec!["a: eve"], vec![]));
        }
    }
}

#[test]
fn who_disappoints_is_avoided_and_replaced_but_not_banned() {
    for sources_max in [1, 4] {
        for temper in [Temper::Silent, Temper::Denies, Temper::Stops(3)] {
            let servers = vec![
                ("alice", Server::new(0..99, temper)),
                ("bob", Server::new(0..99, Temper::Honest)),
            ];
            let world = World::new(sources(sources_max), 99, 0..0, servers).run();
            assert_eq!(world.end, Some(Ok(())));
            assert!(world.is_whole());
            assert_eq!(world.banned, [""; 0]);
            let late = world.now.since(Time::ZERO);
            assert!(late < Duration::from_secs(6), "{late:?}");
        }
    }
}

#[test]
fn a_source_is_asked_only_for_what_it_has() {
    for sources_max in [1, 3] {
        let servers = vec![
            ("alice", Server::new(0..20, Temper::Honest)),
            ("bob", Server::new(15..40, Temper::Honest)),
            ("carol", Server::new(0..0, Temper::Honest)),
        ];
        let world = World::new(sources(sources_max), 40, 0..0, servers).run();
        assert!(world.is_whole());
        let asked = |name| &world.servers[name].asked;
        assert!(asked("alice").iter().all(|it| it.end <= 20));
        assert!(asked("bob").iter().all(|it| it.start >= 15));
        assert!(asked("carol").is_empty());
    }
}

#[test]
fn a_download_resumes_where_it_was() {
    let servers = vec![("alice", Server::new(0..40, Temper::Honest))];
    let world = World::new(Config::default(), 40, 0..23, servers).run();
    assert!(world.is_whole());
    assert_eq!(world.servers["alice"].asked, Ranges::from(23..40));
}

#[test]
fn without_an_honest_server_the_download_fails_cleanly() {
    let silent = vec![("alice", Server::new(0..9, Temper::Silent))];
    let partial = vec![("bob", Server::new(0..5, Temper::Honest))];
    for (servers, failure) in [
        (vec![], Failure::NoSource),
        (silent, Failure::Stalled { missing: 9 }),
        (partial, Failure::Stalled { missing: 4 }),
    ] {
        let world = World::new(Config::default(), 9, 0..0, servers).run();
        assert_eq!(world.end, Some(Err(failure)));
        assert!(world.now.since(Time::ZERO) < Duration::from_secs(61));
    }
}
