//! The serving side: what an answer may hold.

use crate::proto::sync::message::{COUNT_MAX, GetBlocks, Message, NotAvailable, SyncBlock};

/// Most bytes of blocks in an answer, except that one block always fits. Unit: bytes.
pub const ANSWER_BYTES_MAX: usize = 8 << 20;

/// An answer under construction. The caller reads blocks upwards from [`Answer::next`] and pushes
/// them until the answer is full or the blocks end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    request: GetBlocks,
    base: u64,
    tip: u64,
    blocks: Vec<SyncBlock>,
    bytes: usize,
}

impl Answer {
    /// An answer to `request` by a node that has the heights `base` to `tip`.
    pub fn new(request: GetBlocks, base: u64, tip: u64) -> Self {
        Self {
            request,
            base,
            tip,
            blocks: Vec::new(),
            bytes: 0,
        }
    }

    /// The height of the block to push next; `None` if the answer is complete.
    pub fn next(&self) -> Option<u64> {
        let pushed = u32::try_from(self.blocks.len()).ok()?;
        let next = self.request.from.checked_add(u64::from(pushed))?;
        let count_max = self.request.count_max.clamp(1, COUNT_MAX);
        let wanted = pushed < count_max && (pushed == 0 || self.bytes < self.bytes_max());
        (wanted && (self.base..=self.tip).contains(&next)).then_some(next)
    }

    /// Adds the block of height [`Answer::next`]. Returns false, and adds nothing, if it does not
    /// fit any more; then the answer is complete.
    pub fn push(&mut self, block: SyncBlock) -> bool {
        let bytes = self.bytes + block.block.len() + block.certificate.len();
        let fits = self.blocks.is_empty() || bytes <= self.bytes_max();
        if fits {
            self.bytes = bytes;
            self.blocks.push(block);
        }
        fits
    }

    /// The message to send.
    pub fn finish(self) -> Message {
        let id = self.request.id;
        if self.blocks.is_empty() {
            let (base, tip) = (self.base, self.tip);
            Message::NotAvailable(NotAvailable { id, base, tip })
        } else {
            let blocks = self.blocks;
            Message::Blocks { id, blocks }
        }
    }

    fn bytes_max(&self) -> usize {
        let wanted = usize::try_from(self.request.bytes_max).unwrap_or(usize::MAX);
        wanted.min(ANSWER_BYTES_MAX)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::proto::sync::message::FRAME_BYTES_MAX;
    use crate::proto::sync::message::tests::chain;

    /// Serves `request` from `blocks`, of which the heights from `base` on are there.
    pub(crate) fn serve(request: GetBlocks, blocks: &[SyncBlock], base: u64) -> Message {
        let mut answer = Answer::new(request, base, blocks.len() as u64);
        while let Some(height) = answer.next() {
            let at = usize::try_from(height).unwrap() - 1;
            if !answer.push(blocks[at].clone()) {
                break;
            }
        }
        answer.finish()
    }

    fn heights(request: GetBlocks, blocks: &[SyncBlock], base: u64) -> Option<usize> {
        match serve(request, blocks, base) {
            Message::Blocks { blocks, .. } => Some(blocks.len()),
            Message::NotAvailable(_) => None,
            Message::GetBlocks(_) => panic!("an answer is not a request"),
        }
    }

    #[test]
    fn an_answer_keeps_every_bound() {
        let blocks = chain(300, 1_000, 0);
        let ask = |from, count_max, bytes_max| GetBlocks {
            id: 1,
            from,
            count_max,
            bytes_max,
        };
        for (request, base, expected) in [
            (ask(1, 10, u32::MAX), 1, Some(10)),
            (ask(1, u32::MAX, u32::MAX), 1, Some(COUNT_MAX as usize)),
            (ask(299, 10, u32::MAX), 1, Some(2)),
            (ask(1, 10, 0), 1, Some(1)),
            (ask(1, 0, 0), 1, Some(1)),
            (ask(1, 10, 5_000), 1, Some(3)),
            (ask(301, 10, u32::MAX), 1, None),
            (ask(4, 10, u32::MAX), 5, None),
            (ask(u64::MAX, 10, u32::MAX), 1, None),
            (ask(0, 10, u32::MAX), 1, None),
        ] {
            assert_eq!(heights(request, &blocks, base), expected, "{request:?}");
        }
    }

    #[test]
    fn the_largest_answer_fits_into_a_frame() {
        let blocks = chain(3, 4 << 20, 0);
        let request = GetBlocks {
            id: u64::MAX,
            from: 1,
            count_max: u32::MAX,
            bytes_max: u32::MAX,
        };
        let message = serve(request, &blocks, 1);
        assert!(message.to_bytes().len() <= FRAME_BYTES_MAX);
        assert_eq!(heights(request, &chain(2, 9_000_000, 0), 1), Some(1));
    }
}
