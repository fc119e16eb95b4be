//! The framing of messages without sockets, for tests of hostile inputs.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::task::noop_waker_ref;
use futures::{AsyncRead, AsyncWrite};

use crate::net::frame::{FrameError, FrameReader, FrameWriter};
use crate::net::room::Room;

/// How a stream of frames ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// With the bytes; an incomplete message is not delivered.
    Over,
    /// With a message that was announced too long.
    Refused,
}

/// Reads the messages in `stream`, which comes in pieces of at most `cuts` bytes, again and again;
/// at a cut of 0 nothing has come yet. At least one cut must not be 0.
pub fn read_frames(stream: &[u8], cuts: &[usize], bytes_max: usize) -> (Vec<Vec<u8>>, End) {
    let (room, mut reader) = (Room::new(usize::MAX), FrameReader::default());
    let (mut wire, mut frames) = (Wire::new(stream.to_vec(), cuts), Vec::new());
    let mut cx = Context::from_waker(noop_waker_ref());
    loop {
        match reader.poll_frame(&mut cx, &mut wire, bytes_max, |it| room.take(it)) {
            Poll::Pending => (),
            Poll::Ready(Ok(Some(frame))) => frames.push(frame.into_vec()),
            Poll::Ready(Ok(None) | Err(FrameError::Io(_))) => return (frames, End::Over),
            Poll::Ready(Err(FrameError::TooLarge { .. })) => return (frames, End::Refused),
        }
    }
}

/// The stream of these messages, taken in pieces as in [`read_frames`].
pub fn write_frames(frames: &[Vec<u8>], cuts: &[usize]) -> Vec<u8> {
    let mut queue = frames.iter().cloned().map(Bytes::from);
    let (mut wire, mut writer) = (Wire::new(Vec::new(), cuts), FrameWriter::default());
    let mut cx = Context::from_waker(noop_waker_ref());
    while writer
        .poll_write(&mut cx, &mut wire, || queue.next())
        .is_pending()
    {}
    wire.bytes
}

/// A stream that reads from its bytes or appends to them, piece by piece.
struct Wire<'a> {
    bytes: Vec<u8>,
    at: usize,
    cuts: std::iter::Cycle<std::slice::Iter<'a, usize>>,
}

impl<'a> Wire<'a> {
    fn new(bytes: Vec<u8>, cuts: &'a [usize]) -> Self {
        let cuts = cuts.iter().cycle();
        Self { bytes, at: 0, cuts }
    }

    fn next_cut(&mut self) -> Poll<usize> {
        match self.cuts.next() {
            Some(0) => Poll::Pending,
            Some(cut) => Poll::Ready(*cut),
            None => Poll::Ready(usize::MAX),
        }
    }
}

impl AsyncRead for Wire<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.next_cut().map(|cut| {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let count = cut.min(rest.len()).min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            self.at += count;
            Ok(count)
        })
    }
}

impl AsyncWrite for Wire<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.next_cut().map(|cut| {
            let count = cut.min(bytes.len());
            self.bytes.extend_from_slice(&bytes[..count]);
            Ok(count)
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
