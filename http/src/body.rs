//! Response bodies: whole bytes, or an artifact that streams while it arrives.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use kogge::Artifact;

/// Bytes that one frame of a streamed artifact has at most.
const CHUNK_BYTES: usize = 256 * 1_024;

type Reading = Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send>>;

/// A response body.
pub(crate) enum Body {
    /// All bytes are here.
    Whole(Bytes),
    /// `left` bytes of an artifact from `at` on.
    Stream {
        /// The artifact; its bytes are verified before they are given out.
        artifact: Artifact,
        /// The next byte.
        at: u64,
        /// Bytes to go.
        left: u64,
        /// The read that is under way.
        reading: Option<Reading>,
    },
}

impl Body {
    /// No bytes.
    pub(crate) const fn empty() -> Self {
        Self::Whole(Bytes::new())
    }

    /// The bytes `at .. at + left` of `artifact`.
    pub(crate) const fn stream(artifact: Artifact, at: u64, left: u64) -> Self {
        Self::Stream { artifact, at, left, reading: None }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Stream { left: 0, .. } => Poll::Ready(None),
            Self::Stream { artifact, at, left, reading } => {
                let wanted = CHUNK_BYTES.min(usize::try_from(*left).unwrap_or(CHUNK_BYTES));
                let (artifact, from) = (artifact.clone(), *at);
                let read = reading
                    .get_or_insert_with(|| Box::pin(async move { artifact.read(from, wanted).await }));
                let read = ready!(read.as_mut().poll(cx));
                *reading = None;
                let bytes = match read {
                    Ok(bytes) if bytes.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
                    read => read,
                }?;
                *at += bytes.len() as u64;
                *left = left.saturating_sub(bytes.len() as u64);
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
            || matches!(self, Self::Stream { left: 0, .. })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Stream { left, .. } => *left,
        })
    }
}
