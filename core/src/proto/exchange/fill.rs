//! A buffer of known length that is being filled by a stream.

use crate::proto::exchange::frame::HEADER_BYTES;

/// A buffer of known length that is being filled; none at first.
#[derive(Debug, Default)]
pub(super) struct Fill {
    bytes: Vec<u8>,
    filled: usize,
}

impl Fill {
    pub(super) fn of(bytes: usize) -> Self {
        Self {
            bytes: vec![0; bytes],
            filled: 0,
        }
    }

    /// Makes room for `bytes`, unless a buffer is being filled already.
    pub(super) fn start(&mut self, bytes: usize) {
        if self.bytes.is_empty() {
            *self = Self::of(bytes);
        }
    }

    pub(super) fn space(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.filled..).unwrap_or_default()
    }

    /// Notes `bytes` more; gives the buffer away when it is full.
    pub(super) fn advance(&mut self, bytes: usize) -> Option<Vec<u8>> {
        self.filled = self.filled.saturating_add(bytes).min(self.bytes.len());
        (self.filled == self.bytes.len()).then(|| std::mem::take(self).bytes)
    }
}

/// The bytes of a full header buffer.
pub(super) fn header_bytes(bytes: &[u8]) -> [u8; HEADER_BYTES] {
    bytes.first_chunk().copied().unwrap_or_default()
}
