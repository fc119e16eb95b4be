//! Messages with their lengths on a stream that comes in pieces.

use kogge_node::net::testing::{End, read_frames, write_frames};

/// Bytes before the stream that say where it is cut.
const CUTS: usize = 8;

/// Longest message. Unit: bytes.
const BYTES_MAX: usize = 100_000;

/// However a stream is cut, it is read as the same messages; what was read is written as the same
/// bytes; what follows a message that is too long is not read.
///
/// Planted: a reader that loses the last byte of a stream that comes byte by byte.
pub(crate) fn frames(bytes: &[u8], is_planted: bool) -> bool {
    let Some((cuts, stream)) = bytes.split_first_chunk::<CUTS>() else {
        return false;
    };
    let mut cuts = cuts.map(|it| usize::from(it) * usize::from(it));
    if cuts == [0; CUTS] {
        cuts[0] = 1;
    }
    let whole = read_frames(stream, &[usize::MAX], BYTES_MAX);
    let seen = match stream {
        [seen @ .., _] if is_planted && cuts.contains(&1) => seen,
        _ => stream,
    };
    assert_eq!(
        read_frames(seen, &cuts, BYTES_MAX),
        whole,
        "the cuts matter"
    );
    let (frames, end) = whole;
    assert!(frames.iter().all(|it| it.len() <= BYTES_MAX));
    let written = write_frames(&frames, &cuts);
    let rest = stream.strip_prefix(&written[..]);
    let rest = rest.expect("what was read is written otherwise");
    let announced = rest
        .first_chunk()
        .map(|it| u32::from_be_bytes(*it) as usize);
    let is_too_long = announced.is_some_and(|it| BYTES_MAX < it);
    assert_eq!(end == End::Refused, is_too_long);
    let is_whole = announced.is_some_and(|it| it <= rest.len() - 4);
    assert!(!is_whole, "a whole message is not delivered");
    !frames.is_empty()
}
