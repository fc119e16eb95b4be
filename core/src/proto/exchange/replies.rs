//! The client's end of a stream: replies, verified while they arrive.
//!
//! The reader offers the place where the next bytes of the stream belong, and is told how many were
//! put there. So bytes of a group go from the transport straight to the buffer that is hashed and
//! written; and however the stream is cut, the outcome is the same:
//!
//! ```text
//! loop {
//!     let n = stream.read(replies.space())?;      n = 0: the stream ended
//!     match replies.advance(n)? { … }             an error: tell the machine, close
//! }
//! ```
//!
//! Headers and nodes are small: put a buffered reader of a few 100 KiB under it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::proto::exchange::arrival::{Arrival, Fault, OpenError};
use crate::proto::exchange::fill::{self, Fill};
use crate::proto::exchange::frame::{HEADER_BYTES, Header};
use crate::proto::exchange::message::{Reply, Want};
use crate::proto::exchange::verify::{Refused, Verifier};

/// Requests that may be open on one stream; [`Replies`] refuses more. Each may hold a partial
/// group of 64 KiB, so a stream holds at most 4 MiB. A server takes as many of one peer.
pub const OPEN_MAX: usize = 64;

/// Reads the replies of one stream, and lets nothing pass that was not asked for and verified.
#[derive(Debug, Default)]
pub struct Replies {
    open: BTreeMap<u32, Open>,
    state: State,
    fault: Option<Fault>,
}

#[derive(Debug)]
enum Open {
    Groups {
        verifier: Verifier,
        piece: Fill,
        is_cancelled: bool,
    },
    Presence {
        roots: usize,
    },
}

impl Replies {
    /// A reader without open requests.
    pub fn new() -> Self {
        Self::default()
    }

    /// Expects the answer to a `Get`. Call it before the request is sent.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; the request must not be sent then.
    pub fn open_get(&mut self, id: u32, want: &Want) -> Result<(), OpenError> {
        let verifier =
            Verifier::new(want.root, want.size, &want.groups).ok_or(OpenError::Groups)?;
        let request = Open::Groups {
            verifier,
            piece: Fill::default(),
            is_cancelled: false,
        };
        self.open(id, request)
    }

    /// Expects the answer to a `Have` about so many `roots`. Call it before the request is sent.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; the request must not be sent then.
    pub fn open_have(&mut self, id: u32, roots: usize) -> Result<(), OpenError> {
        self.open(id, Open::Presence { roots })
    }

    /// Notes that a `Cancel` is sent. Bytes under way still come and are still verified; the
    /// request stays open until the server ends it.
    pub fn cancel(&mut self, id: u32) {
        if let Some(Open::Groups { is_cancelled, .. }) = self.open.get_mut(&id) {
            *is_cancelled = true;
        }
    }

    /// The requests that are not answered yet.
    pub fn open_ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.open.keys().copied()
    }

    /// Where the next bytes of the stream belong: at least one, unless the stream was given up.
    pub fn space(&mut self) -> &mut [u8] {
        if self.fault.is_some() {
            return &mut [];
        }
        match &mut self.state {
            State::Header(fill) | State::Body(_, fill) => fill.space(),
            State::Data { id, left } => match self.open.get_mut(id) {
                Some(Open::Groups {
                    verifier, piece, ..
                }) => {
                    piece.start(verifier.need().len());
                    let space = piece.space();
                    let bytes = space.len().min(*left);
                    &mut space[..bytes]
                }
                _ => &mut [],
            },
        }
    }

    /// Notes that the first `bytes` of [`Replies::space`] are filled, and tells what became
    /// complete by that.
    ///
    /// # Errors
    ///
    /// [`Fault`]; from then on always the same one.
    pub fn advance(&mut self, bytes: usize) -> Result<Option<Arrival>, Fault> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        if bytes == 0 {
            return Ok(None);
        }
        let arrival = self.step(bytes);
        self.fault = arrival.as_ref().err().cloned();
        arrival
    }

    fn open(&mut self, id: u32, request: Open) -> Result<(), OpenError> {
        if self.open.contains_key(&id) {
            return Err(OpenError::Id);
        }
        if self.open.len() >= OPEN_MAX {
            return Err(OpenError::Full);
        }
        self.open.insert(id, request);
        Ok(())
    }

    fn step(&mut self, bytes: usize) -> Result<Option<Arrival>, Fault> {
        match &mut self.state {
            State::Header(fill) => {
                let Some(head) = fill.advance(bytes) else {
                    return Ok(None);
                };
                let header = Header::of_reply(&fill::header_bytes(&head))?;
                self.begin(header)
            }
            State::Body(header, fill) => {
                let (header, body) = (*header, fill.advance(bytes));
                body.map_or(Ok(None), |body| self.answer(header, &body))
            }
            State::Data { id, left } => {
                let id = *id;
                *left = left.saturating_sub(bytes);
                if *left == 0 {
                    self.state = State::default();
                }
                self.data(id, bytes)
            }
        }
    }

    fn begin(&mut self, header: Header) -> Result<Option<Arrival>, Fault> {
        let id = header.id();
        let open = self.open.get(&id).ok_or(Fault::Unrequested { id })?;
        if header.is_data() {
            let Open::Groups { verifier, .. } = open else {
                return Err(Fault::Answer { id });
            };
            self.state = State::Data {
                id,
                left: header.body_bytes(),
            };
            return trailing(id, verifier);
        }
        if header.body_bytes() == 0 {
            return self.answer(header, &[]);
        }
        self.state = State::Body(header, Fill::of(header.body_bytes()));
        Ok(None)
    }

    fn data(&mut self, id: u32, bytes: usize) -> Result<Option<Arrival>, Fault> {
        let Some(Open::Groups {
            verifier, piece, ..
        }) = self.open.get_mut(&id)
        else {
            return Err(Fault::Unrequested { id });
        };
        let Some(bytes) = piece.advance(bytes) else {
            return Ok(None);
        };
        let piece = verifier
            .feed(bytes)
            .map_err(|refused| Fault::Refused { id, refused })?;
        if matches!(self.state, State::Data { .. }) {
            trailing(id, verifier)?;
        }
        Ok(Some(Arrival::Verified { id, piece }))
    }

    fn answer(&mut self, header: Header, body: &[u8]) -> Result<Option<Arrival>, Fault> {
        self.state = State::default();
        let reply = Reply::decode(header, body)?;
        let id = header.id();
        let open = self.open.remove(&id).ok_or(Fault::Unrequested { id })?;
        Ok(Some(match (reply, open) {
            (
                Reply::End { id },
                Open::Groups {
                    verifier,
                    is_cancelled,
                    ..
                },
            ) => {
                if let (Err(refused), false) = (verifier.finish(), is_cancelled) {
                    return Err(Fault::Refused { id, refused });
                }
                Arrival::End { id }
            }
            (Reply::NotFound { id }, Open::Groups { .. }) => Arrival::NotFound { id },
            (Reply::Busy { id, retry_after_ms }, _) => Arrival::Busy {
                id,
                retry_after: Duration::from_millis(u64::from(retry_after_ms)),
            },
            (Reply::Has { id, answers }, Open::Presence { roots }) if answers.len() == roots => {
                Arrival::Has { id, answers }
            }
            _ => return Err(Fault::Answer { id }),
        }))
    }
}

/// More bytes are announced: refused if the last group has come.
fn trailing(id: u32, verifier: &Verifier) -> Result<Option<Arrival>, Fault> {
    if verifier.need().is_empty() {
        let refused = Refused::Trailing;
        return Err(Fault::Refused { id, refused });
    }
    Ok(None)
}

/// Where in a frame a stream stands.
#[derive(Debug)]
enum State {
    Header(Fill),
    Body(Header, Fill),
    Data { id: u32, left: usize },
}

impl Default for State {
    fn default() -> Self {
        Self::Header(Fill::of(HEADER_BYTES))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::exchange::fixture::Artifact;
    use crate::proto::exchange::group::GROUP_BYTES;
    use crate::proto::exchange::message::MessageError;
    use crate::proto::exchange::presence::Presence;
    use crate::proto::exchange::verify::Verified;

    fn want(artifact: &Artifact, groups: std::ops::Range<u64>) -> Want {
        Want {
            root: artifact.root,
            size: artifact.size(),
            groups,
        }
    }

    fn data(id: u32, bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).unwrap();
        [Reply::Data { id, bytes: length }.encode(), bytes.to_vec()].concat()
    }

    /// Feeds `stream` in pieces of at most `cut` bytes.
    fn read(replies: &mut Replies, mut stream: &[u8], cut: usize) -> (Vec<Arrival>, Option<Fault>) {
        let mut arrivals = Vec::new();
        while !stream.is_empty() {
            let space = replies.space();
            assert!(!space.is_empty());
            let bytes = space.len().min(cut).min(stream.len());
            let (head, rest) = stream.split_at(bytes);
            space[..bytes].copy_from_slice(head);
            stream = rest;
            match replies.advance(bytes) {
                Ok(arrival) => arrivals.extend(arrival),
                Err(fault) => return (arrivals, Some(fault)),
            }
        }
        (arrivals, None)
    }

    fn groups_of(arrivals: &[Arrival]) -> Vec<(u32, u64)> {
        let group = |arrival: &Arrival| match arrival {
            Arrival::Verified {
                id,
                piece: Verified::Group(group),
            } => Some((*id, group.index())),
            _ => None,
        };
        arrivals.iter().filter_map(group).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn interleaved_replies_arrive_however_the_stream_is_cut(
            cut in 1_usize..200_000,
            frame in 20_000_usize..200_000,
        ) {
            let alice = Artifact::new(1, 3 * GROUP_BYTES + 5);
            let bob = Artifact::new(2, 2 * GROUP_BYTES);
            let mut replies = Replies::new();
            replies.open_get(1, &want(&alice, 1..4)).unwrap();
            replies.open_get(2, &want(&bob, 0..2)).unwrap();
            replies.open_have(3, 1).unwrap();
            let streams = [(1, alice.stream(1..4)), (2, bob.stream(0..2))];
            let mut wire = Vec::new();
            for turn in 0..20 {
                for (id, stream) in &streams {
                    let frames = stream.chunks(frame).skip(turn).take(1);
                    frames.for_each(|bytes| wire.extend(data(*id, bytes)));
                }
            }
            let answers = vec![Presence::Whole];
            wire.extend(Reply::Has { id: 3, answers: answers.clone() }.encode());
            wire.extend(Reply::End { id: 2 }.encode());
            wire.extend(Reply::End { id: 1 }.encode());
            let (arrivals, fault) = read(&mut replies, &wire, cut);
            prop_assert_eq!(fault, None);
            let mut groups = groups_of(&arrivals);
            groups.sort_unstable();
            prop_assert_eq!(groups, vec![(1, 1), (1, 2), (1, 3), (2, 0), (2, 1)]);
            prop_assert_eq!(&arrivals[arrivals.len() - 3..], &[
                Arrival::Has { id: 3, answers },
                Arrival::End { id: 2 },
                Arrival::End { id: 1 },
            ]);
            prop_assert_eq!(replies.open_ids().count(), 0);
        }

        #[test]
        fn random_bytes_never_panic(stream in any::<Vec<u8>>(), cut in 1_usize..9) {
            let mut replies = Replies::new();
            replies.open_have(0, 1).unwrap();
            read(&mut replies, &stream, cut);
        }
    }

    #[test]
    fn what_nobody_asked_for_ends_the_stream_before_a_byte_of_it_is_kept() {
        let artifact = Artifact::new(1, 100);
        let unrequested = Fault::Unrequested { id: 9 };
        for reply in [
            data(9, &artifact.data),
            Reply::End { id: 9 }.encode(),
            Reply::NotFound { id: 9 }.encode(),
            Reply::Busy {
                id: 9,
                retry_after_ms: 1,
            }
            .encode(),
        ] {
            let mut replies = Replies::new();
            replies.open_get(1, &want(&artifact, 0..1)).unwrap();
            let (arrivals, fault) = read(&mut replies, &reply, 1 << 20);
            assert_eq!((arrivals, fault), (vec![], Some(unrequested.clone())));
            assert!(replies.space().is_empty());
        }
    }

    #[test]
    fn an_answer_is_taken_once() {
        let artifact = Artifact::new(1, 100);
        let mut replies = Replies::new();
        replies.open_get(1, &want(&artifact, 0..1)).unwrap();
        let end = Reply::End { id: 1 }.encode();
        let wire = [data(1, &artifact.data), end.clone(), end].concat();
        let (arrivals, fault) = read(&mut replies, &wire, 1 << 20);
        assert_eq!(arrivals.len(), 2);
        assert_eq!(fault, Some(Fault::Unrequested { id: 1 }));
    }

    #[test]
    fn wrong_answers_are_the_fault_of_the_server() {
        let (alice, eve) = (Artifact::new(1, 70_000), Artifact::new(2, 70_000));
        let right = alice.stream(0..2);
        let mut flipped = right.clone();
        flipped[40_000] ^= 1;
        let refused = |refused| Fault::Refused { id: 1, refused };
        for (wire, expected) in [
            (data(1, &flipped), refused(Refused::Mismatch { piece: 1 })),
            (
                data(1, &eve.stream(0..2)),
                refused(Refused::Mismatch { piece: 0 }),
            ),
            (Reply::End { id: 1 }.encode(), refused(Refused::Truncated)),
            (
                [data(1, &right[..69_000]), Reply::End { id: 1 }.encode()].concat(),
                refused(Refused::Truncated),
            ),
            (
                data(1, &[&right[..], &[0]].concat()),
                refused(Refused::Trailing),
            ),
            (
                [data(1, &right), data(1, &[0])].concat(),
                refused(Refused::Trailing),
            ),
            (data(2, &right), Fault::Answer { id: 2 }),
            (Reply::End { id: 2 }.encode(), Fault::Answer { id: 2 }),
            (
                Reply::Has {
                    id: 2,
                    answers: vec![Presence::None],
                }
                .encode(),
                Fault::Answer { id: 2 },
            ),
            (
                vec![1, 0, 0, 1, 0, 0, 0, 1],
                Fault::Message(MessageError::Kind(1)),
            ),
        ] {
            let mut replies = Replies::new();
            replies.open_get(1, &want(&alice, 0..2)).unwrap();
            replies.open_have(2, 2).unwrap();
            let (arrivals, fault) = read(&mut replies, &wire, 1 << 20);
            assert_eq!(fault, Some(expected));
            for (_, index) in groups_of(&arrivals) {
                assert!(wire.windows(9).any(|it| it == &alice.group(index)[..9]));
            }
        }
    }

    #[test]
    fn a_cancelled_request_may_end_early() {
        let artifact = Artifact::new(1, 5 * GROUP_BYTES);
        let mut replies = Replies::new();
        replies.open_get(1, &want(&artifact, 0..5)).unwrap();
        replies.cancel(1);
        let bytes = &artifact.stream(0..5)[..190_000];
        let wire = [data(1, bytes), Reply::End { id: 1 }.encode()].concat();
        let (arrivals, fault) = read(&mut replies, &wire, 1 << 20);
        assert_eq!((groups_of(&arrivals), fault), (vec![(1, 0), (1, 1)], None));
        assert_eq!(arrivals.last(), Some(&Arrival::End { id: 1 }));
    }

    #[test]
    fn open_requests_are_bounded() {
        let mut replies = Replies::new();
        for id in 0..64 {
            assert_eq!(replies.open_have(id, 1), Ok(()));
        }
        assert_eq!(replies.open_have(64, 1), Err(OpenError::Full));
        assert_eq!(replies.open_have(0, 1), Err(OpenError::Id));
    }
}
