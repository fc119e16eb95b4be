//! Response bodies: whole bytes, an artifact that streams while it arrives, or a feed of events.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_lite::stream::Boxed;
use http_body::{Frame, SizeHint};
use kogge::Artifact;

/// Bytes that one frame of a streamed artifact has at most.
pub(crate) const CHUNK_BYTES: usize = 256 * 1_024;

type Reading = Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send>>;

/// A response body.
pub(crate) enum Body {
    /// All bytes are here.
    Whole(Bytes),
    /// Bytes of an artifact.
    Stream(Reader),
    /// Bytes as they come, without known end.
    Feed(Boxed<Bytes>),
}

/// Reads a range of an artifact, one chunk after the other.
pub(crate) struct Reader {
    /// The artifact; its bytes are verified before they are given out.
    artifact: Artifact,
    /// The next byte.
    at: u64,
    /// Bytes to go.
    left: u64,
    /// The read that is under way.
    reading: Option<Reading>,
    /// What was read before the response began.
    first: Option<Bytes>,
}

impl Body {
    /// No bytes.
    pub(crate) const fn empty() -> Self {
        Self::Whole(Bytes::new())
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::Whole(text.into())
    }
}

impl Reader {
    /// The bytes `at .. at + left` of `artifact`, once the first of them are there: after this a
    /// response can hardly fail.
    ///
    /// # Errors
    ///
    /// What reading the first bytes says.
    pub(crate) async fn open(artifact: Artifact, at: u64, left: u64) -> io::Result<Self> {
        let wanted = chunk_len(left);
        let first = if wanted == 0 {
            None
        } else {
            Some(filled(artifact.read(at, wanted).await)?)
        };
        Ok(Self {
            artifact,
            at,
            left,
            reading: None,
            first,
        })
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let chunk = match self.first.take() {
            Some(first) => first,
            None => ready!(self.poll_read(cx))?,
        };
        self.at += chunk.len() as u64;
        self.left = self.left.saturating_sub(chunk.len() as u64);
        Poll::Ready(Some(Ok(chunk)))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let reading = self.reading.get_or_insert_with(|| {
            let (artifact, at, wanted) = (self.artifact.clone(), self.at, chunk_len(self.left));
            Box::pin(async move { artifact.read(at, wanted).await })
        });
        let read = ready!(reading.as_mut().poll(cx));
        self.reading = None;
        Poll::Ready(filled(read))
    }
}

fn chunk_len(left: u64) -> usize {
    usize::try_from(left).map_or(CHUNK_BYTES, |it| it.min(CHUNK_BYTES))
}

/// An artifact that ends too early must not look complete.
fn filled(read: io::Result<Bytes>) -> io::Result<Bytes> {
    match read {
        Ok(bytes) if bytes.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
        read => read,
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let chunk = match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => None,
            Self::Whole(bytes) => Some(Ok(std::mem::take(bytes))),
            Self::Stream(reader) => ready!(reader.poll_chunk(cx)),
            Self::Feed(feed) => ready!(feed.as_mut().poll_next(cx)).map(Ok),
        };
        Poll::Ready(chunk.map(|it| it.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Stream(reader) => reader.left == 0,
            Self::Feed(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(reader) => SizeHint::with_exact(reader.left),
            Self::Feed(_) => SizeHint::default(),
        }
    }
}
