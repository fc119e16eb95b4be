//! The server's end of a stream: requests.

use crate::proto::exchange::fill::{self, Fill};
use crate::proto::exchange::frame::{HEADER_BYTES, Header};
use crate::proto::exchange::message::{MessageError, Request};

/// Reads the requests of one stream; used like
/// [`Replies`](crate::proto::exchange::replies::Replies).
///
/// Memory: the longest body, [`HAVE_BYTES_MAX`](crate::proto::exchange::message::HAVE_BYTES_MAX).
#[derive(Debug)]
pub struct Requests {
    /// The header of the frame whose body is being read.
    header: Option<Header>,
    fill: Fill,
    fault: Option<MessageError>,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            header: None,
            fill: Fill::of(HEADER_BYTES),
            fault: None,
        }
    }
}

impl Requests {
    /// A reader at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the next bytes of the stream belong: at least one, unless the stream was given up.
    pub fn space(&mut self) -> &mut [u8] {
        if self.fault.is_some() {
            return &mut [];
        }
        self.fill.space()
    }

    /// Notes that the first `bytes` of [`Requests::space`] are filled, and gives the request that
    /// became complete by that.
    ///
    /// # Errors
    ///
    /// [`MessageError`]; from then on always the same one.
    pub fn advance(&mut self, bytes: usize) -> Result<Option<Request>, MessageError> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let request = self.step(bytes);
        self.fault = request.as_ref().err().cloned();
        request
    }

    fn step(&mut self, bytes: usize) -> Result<Option<Request>, MessageError> {
        let Some(filled) = self.fill.advance(bytes) else {
            return Ok(None);
        };
        let (header, body) = match self.header.take() {
            Some(header) => (header, filled),
            None => {
                let header = Header::of_request(&fill::header_bytes(&filled))?;
                if header.body_bytes() != 0 {
                    self.header = Some(header);
                    self.fill = Fill::of(header.body_bytes());
                    return Ok(None);
                }
                (header, Vec::new())
            }
        };
        self.fill = Fill::of(HEADER_BYTES);
        Request::decode(header, &body).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::Blake3;
    use crate::proto::exchange::message::Want;

    /// Feeds `stream` in pieces of at most `cut` bytes.
    fn read(mut stream: &[u8], cut: usize) -> Result<Vec<Request>, MessageError> {
        let (mut requests, mut read) = (Requests::new(), Vec::new());
        while !stream.is_empty() {
            let space = requests.space();
            let bytes = space.len().min(cut).min(stream.len());
            let (head, rest) = stream.split_at(bytes);
            space[..bytes].copy_from_slice(head);
            stream = rest;
            read.extend(requests.advance(bytes)?);
        }
        Ok(read)
    }

    fn some_requests() -> Vec<Request> {
        let want = Want {
            root: Blake3([3; 32]),
            size: 9,
            groups: 0..1,
        };
        vec![
            Request::Get { id: 1, want },
            Request::Cancel { id: 1 },
            Request::Have {
                id: 2,
                roots: vec![Blake3([4; 32]); 7],
            },
            Request::Cancel { id: 2 },
        ]
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(cut in 1_usize..400) {
            let stream: Vec<u8> = some_requests().iter().flat_map(Request::encode).collect();
            prop_assert_eq!(read(&stream, cut), Ok(some_requests()));
        }

        #[test]
        fn random_bytes_never_panic(stream in any::<Vec<u8>>(), cut in 1_usize..9) {
            let _ = read(&stream, cut);
        }
    }

    #[test]
    fn a_stream_that_went_wrong_stays_wrong() {
        let mut requests = Requests::new();
        requests.space().copy_from_slice(&[99; HEADER_BYTES]);
        assert_eq!(requests.advance(HEADER_BYTES), Err(MessageError::Kind(99)));
        assert!(requests.space().is_empty());
        assert_eq!(requests.advance(0), Err(MessageError::Kind(99)));
    }
}
