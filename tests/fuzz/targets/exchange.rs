//! The wire of the exchange, read in pieces of any length.

use std::sync::OnceLock;

use kogge_node::base::Blake3;
use kogge_node::proto::exchange::arrival::Arrival;
use kogge_node::proto::exchange::frame::{HEADER_BYTES, Header};
use kogge_node::proto::exchange::group::{GROUP_BYTES, Piece, Pieces};
use kogge_node::proto::exchange::message::{Reply, Request, Want};
use kogge_node::proto::exchange::outboard::OutboardBuilder;
use kogge_node::proto::exchange::presence::Presence;
use kogge_node::proto::exchange::replies::Replies;
use kogge_node::proto::exchange::requests::Requests;

use crate::targets::{Choices, canonical};

/// Bytes before the stream that say where it is cut.
const CUTS: usize = 8;

/// What a reader gives, and the error it ends with.
type Outcome<T, E> = (Vec<T>, Option<E>);

/// A stream of requests: however it is cut, it is read as the same; and what was read is written as
/// the same bytes.
///
/// Planted: a reader that forgets a byte when a read ends inside of a header.
pub(crate) fn requests(bytes: &[u8], is_planted: bool) -> bool {
    let Some((cuts, stream)) = bytes.split_first_chunk::<CUTS>() else {
        return false;
    };
    let whole = read_requests(stream, &[usize::MAX], false);
    let lengths = cuts.map(|it| usize::from(it).max(1));
    let cut = read_requests(stream, &lengths, is_planted);
    assert_eq!(cut, whole, "the cuts matter");
    let written: Vec<u8> = whole.0.iter().flat_map(Request::encode).collect();
    let read = stream.get(..written.len());
    assert_eq!(read, Some(&written[..]), "a second form is accepted");
    !whole.0.is_empty()
}

fn read_requests(
    mut stream: &[u8],
    cuts: &[usize],
    is_planted: bool,
) -> Outcome<Request, impl PartialEq + std::fmt::Debug + use<>> {
    let (mut reader, mut given) = (Requests::new(), Vec::new());
    for cut in cuts.iter().cycle() {
        if stream.is_empty() {
            break;
        }
        let bytes = fill(reader.space(), &mut stream, *cut);
        if is_planted && bytes == 3 {
            stream = stream.get(1..).unwrap_or_default();
        }
        match reader.advance(bytes) {
            Ok(request) => given.extend(request),
            Err(error) => return (given, Some(error)),
        }
    }
    (given, None)
}

/// The body of a `Has`.
pub(crate) fn has(bytes: &[u8], is_planted: bool) -> bool {
    let decode = |body: &[u8]| {
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let [_, l0, l1, l2] = length.to_be_bytes();
        let header = Header::of_reply(&[21, l0, l1, l2, 0, 0, 0, 1])?;
        Reply::decode(header, body)
    };
    let encode = |it: &Reply| it.encode().split_off(HEADER_BYTES);
    canonical(bytes, is_planted, decode, encode).is_some()
}

/// A stream of replies to three open requests: only groups of the artifact come out, and the cuts
/// do not matter.
///
/// The stream is put together from good frames and from the input. Planted: as in [`requests`].
pub(crate) fn replies(bytes: &[u8], is_planted: bool) -> bool {
    let Some((cuts, script)) = bytes.split_first_chunk::<CUTS>() else {
        return false;
    };
    let stream = compose(script);
    let whole = read_replies(&stream, &[usize::MAX], false);
    let lengths = cuts.map(|it| (usize::from(it) * usize::from(it)).max(1));
    let cut = read_replies(&stream, &lengths, is_planted);
    assert_eq!(cut, whole, "the cuts matter");
    true
}

fn read_replies(
    mut stream: &[u8],
    cuts: &[usize],
    is_planted: bool,
) -> Outcome<Arrival, impl PartialEq + std::fmt::Debug + use<>> {
    let artifact = artifact();
    let (mut reader, mut given) = (Replies::new(), Vec::new());
    for id in 0..2 {
        assert_eq!(reader.open_get(id, &artifact.want()), Ok(()));
    }
    assert_eq!(reader.open_have(2, 2), Ok(()));
    for cut in cuts.iter().cycle() {
        if stream.is_empty() {
            break;
        }
        let bytes = fill(reader.space(), &mut stream, *cut);
        if is_planted && bytes == 4 {
            stream = stream.get(1..).unwrap_or_default();
        }
        match reader.advance(bytes) {
            Ok(arrival) => given.extend(arrival.inspect(|it| artifact.is_true(it))),
            Err(error) => return (given, Some(error)),
        }
    }
    (given, None)
}

/// Moves as many bytes as fit, at most `cut`.
fn fill(space: &mut [u8], stream: &mut &[u8], cut: usize) -> usize {
    let bytes = space.len().min(cut).min(stream.len());
    let (head, rest) = stream.split_at(bytes);
    space[..bytes].copy_from_slice(head);
    *stream = rest;
    bytes
}

/// Frames as the script says: pieces of the artifact, one of them damaged or too long, ends,
/// answers, or bytes from the script itself.
fn compose(script: &[u8]) -> Vec<u8> {
    let mut choices = Choices(script);
    let (mut stream, mut sent) = (Vec::new(), [0_usize; 2]);
    let pieces = &artifact().stream;
    while !choices.is_empty() && stream.len() < 4 * GROUP_BYTES {
        let id = u32::try_from(choices.below(3)).unwrap_or(0);
        let reply = match choices.below(8) {
            0..=3 => {
                let at = sent[id as usize % 2];
                let rest = pieces.get(at..).unwrap_or_default();
                let bytes = (choices.number() % 70_000).max(1);
                let bytes = usize::try_from(bytes).unwrap_or(1).min(rest.len());
                let mut body = rest[..bytes].to_vec();
                sent[id as usize % 2] = at + bytes;
                if let (0, Some(it)) = (choices.below(16), body.last_mut()) {
                    *it ^= choices.byte();
                }
                let bytes = u32::try_from(bytes).unwrap_or(0);
                stream.extend(Reply::Data { id, bytes }.encode());
                stream.extend(body);
                continue;
            }
            4 => Reply::End { id },
            5 => Reply::NotFound { id },
            6 => Reply::Busy {
                id,
                retry_after_ms: u32::from(choices.byte()),
            },
            _ => Reply::Has {
                id,
                answers: vec![Presence::Whole; usize::from(choices.byte() % 4)],
            },
        };
        stream.extend(reply.encode());
        if choices.below(16) == 0 {
            stream.extend((0..8).map(|_| choices.byte()));
        }
    }
    stream
}

/// An artifact of three groups, the last of them short.
pub(crate) struct Artifact {
    data: Vec<u8>,
    outboard: Vec<u8>,
    pub(crate) root: Blake3,
    /// Its pieces, one after the other, as a server sends them.
    pub(crate) stream: Vec<u8>,
}

impl Artifact {
    pub(crate) fn new(bytes: usize) -> Self {
        let mut rng = kogge_node::base::Rng::new(1);
        let data: Vec<u8> = (0..bytes.div_ceil(8))
            .flat_map(|_| rng.next_u64().to_le_bytes())
            .take(bytes)
            .collect();
        let (mut builder, mut outboard) = (OutboardBuilder::new(), Vec::new());
        assert_eq!(builder.update(&data, &mut outboard), Ok(()));
        let root = builder.finish(&mut outboard).root();
        let mut artifact = Self {
            data,
            outboard,
            root,
            stream: Vec::new(),
        };
        artifact.stream = artifact.pieces(0..bytes.div_ceil(GROUP_BYTES) as u64);
        artifact
    }

    pub(crate) fn size(&self) -> u64 {
        self.data.len() as u64
    }

    /// The pieces of `groups`.
    pub(crate) fn pieces(&self, groups: std::ops::Range<u64>) -> Vec<u8> {
        let pieces = Pieces::new(self.size(), &groups).into_iter().flatten();
        pieces.flat_map(|it| self.read(&it).to_vec()).collect()
    }

    fn read(&self, piece: &Piece) -> &[u8] {
        let (from, offset) = match piece {
            Piece::Node { offset, .. } => (&self.outboard, *offset),
            Piece::Group { offset, .. } => (&self.data, *offset),
        };
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        from.get(start..start + piece.len()).unwrap_or_default()
    }

    /// The bytes at `offset`.
    pub(crate) fn at(&self, offset: u64, bytes: usize) -> &[u8] {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        self.data
            .get(start..start.saturating_add(bytes))
            .unwrap_or_default()
    }

    fn want(&self) -> Want {
        Want {
            root: self.root,
            size: self.size(),
            groups: 0..self.size().div_ceil(GROUP_BYTES as u64),
        }
    }

    fn is_true(&self, arrival: &Arrival) {
        use kogge_node::proto::exchange::verify::Verified;
        if let Arrival::Verified {
            piece: Verified::Group(it),
            ..
        } = arrival
        {
            let right = self.at(it.offset(), it.bytes().len());
            assert!(it.bytes() == right, "wrong bytes at {} pass", it.offset());
        }
    }
}

fn artifact() -> &'static Artifact {
    static ARTIFACT: OnceLock<Artifact> = OnceLock::new();
    ARTIFACT.get_or_init(|| Artifact::new(2 * GROUP_BYTES + 1_000))
}
