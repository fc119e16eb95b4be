//! An artifact that can be given to peers: stored, or still arriving.

use std::sync::Arc;

use crate::node::share::arrival::Arrival;
use crate::proto::exchange::frame::HEADER_BYTES;
use crate::proto::exchange::group::Piece;
use crate::proto::exchange::message::Reply;
use crate::store::{Blob, StoreError};

/// Where the pieces of an artifact are read.
pub(crate) enum Held {
    /// All of it.
    Stored(Blob),
    /// The groups that would survive a crash.
    Arriving(Arc<Arrival>),
}

impl Held {
    /// The pieces as one `Data` frame of request `id`; `None` if the artifact is not read here any
    /// more, because it was finished. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the disk refuses, or has less than was recorded.
    pub(crate) fn read_frame(
        &self,
        id: u32,
        pieces: &[Piece],
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let bytes: usize = pieces.iter().map(Piece::len).sum();
        let header = Reply::Data {
            id,
            bytes: u32::try_from(bytes).unwrap_or(0),
        };
        let mut frame = vec![0; HEADER_BYTES + bytes];
        let (head, mut rest) = frame.split_at_mut(HEADER_BYTES);
        head.copy_from_slice(&header.encode());
        for piece in pieces {
            let (target, after) = rest.split_at_mut(piece.len());
            let read = match self {
                Self::Stored(blob) => Some(match piece {
                    Piece::Node { offset, .. } => blob.read_outboard_at(*offset, target)?,
                    Piece::Group { offset, .. } => blob.read_at(*offset, target)?,
                }),
                Self::Arriving(arrival) => arrival.read_piece(piece, target)?,
            };
            match read {
                Some(count) if count == piece.len() => rest = after,
                Some(_) => {
                    return Err(StoreError::corrupt("an artifact", "it is too short"));
                }
                None => return Ok(None),
            }
        }
        Ok(Some(frame))
    }
}
