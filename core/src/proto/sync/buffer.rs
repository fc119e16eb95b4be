//! Blocks that wait for their predecessors.

use std::collections::BTreeMap;

use crate::base::NodeId;
use crate::proto::sync::message::Decided;

/// Most blocks handed over at once.
const APPLY_MAX: usize = 64;

/// Most bytes handed over at once, except that one block always goes. Unit: bytes.
const APPLY_BYTES_MAX: u64 = 8 << 20;

/// Blocks by height, with their senders. The machine bounds what gets in.
#[derive(Debug, Default)]
pub struct Buffer {
    blocks: BTreeMap<u64, (NodeId, Decided)>,
    bytes: u64,
}

impl Buffer {
    /// Number of blocks.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether there is no block.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Length of all blocks. Unit: bytes.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The heights that are here, lowest first.
    pub fn heights(&self) -> impl Iterator<Item = u64> {
        self.blocks.keys().copied()
    }

    /// Keeps a block, unless one of its height is here already.
    pub fn insert(&mut self, sender: NodeId, block: Decided) {
        let bytes = block.bytes as u64;
        if let std::collections::btree_map::Entry::Vacant(entry) =
            self.blocks.entry(block.block.height())
        {
            entry.insert((sender, block));
            self.bytes += bytes;
        }
    }

    /// Takes the blocks from `next` on that are here without a hole and came from one sender.
    pub fn take(&mut self, next: u64) -> Option<(NodeId, Vec<Decided>)> {
        let mut taken: Vec<Decided> = Vec::new();
        let mut sender = None;
        let (mut height, mut bytes) = (next, 0);
        while let Some((from, block)) = self.blocks.get(&height) {
            let more = block.bytes as u64;
            let is_first = taken.is_empty();
            let fits = taken.len() < APPLY_MAX && bytes + more <= APPLY_BYTES_MAX;
            if !is_first && (!fits || sender != Some(*from)) {
                break;
            }
            let Some((from, block)) = self.blocks.remove(&height) else {
                break;
            };
            sender = Some(from);
            bytes += more;
            taken.push(block);
            height += 1;
        }
        self.bytes = self.bytes.saturating_sub(bytes);
        sender.map(|it| (it, taken))
    }

    /// Drops the blocks up to `height`.
    pub fn drop_to(&mut self, height: u64) {
        self.retain(|it, _| height < it);
    }

    /// Drops what `sender` sent.
    pub fn drop_from(&mut self, sender: &NodeId) {
        self.retain(|_, it| it != sender);
    }

    fn retain(&mut self, keep: impl Fn(u64, &NodeId) -> bool) {
        self.blocks
            .retain(|height, (sender, _)| keep(*height, sender));
        self.bytes = self.blocks.values().map(|(_, it)| it.bytes as u64).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::PublicKey;
    use crate::proto::sync::message::tests::decided_chain;

    #[test]
    fn hands_out_runs_of_one_sender_without_holes() {
        let (alice, bob) = (PublicKey([1; 32]), PublicKey([2; 32]));
        let chain = decided_chain(6, 10);
        let mut buffer = Buffer::default();
        for (sender, at) in [(alice, 0), (alice, 1), (bob, 2), (bob, 4), (eve(), 2)] {
            buffer.insert(sender, chain[at].clone());
        }
        assert_eq!(buffer.take(1), Some((alice, chain[..2].to_vec())));
        assert_eq!(buffer.take(3), Some((bob, chain[2..3].to_vec())));
        assert_eq!(buffer.take(4), None);
        assert_eq!(buffer.bytes(), chain[4].bytes as u64);
        buffer.drop_from(&bob);
        assert_eq!((buffer.len(), buffer.bytes()), (0, 0));
    }

    #[test]
    fn a_batch_is_bounded_by_count_and_bytes() {
        let chain = decided_chain(100, 10);
        let mut buffer = Buffer::default();
        chain.into_iter().for_each(|it| buffer.insert(eve(), it));
        assert_eq!(buffer.take(1).map(|it| it.1.len()), Some(APPLY_MAX));

        let mut buffer = Buffer::default();
        let chain = decided_chain(3, 5 << 20);
        chain.into_iter().for_each(|it| buffer.insert(eve(), it));
        assert_eq!(buffer.take(1).map(|it| it.1.len()), Some(1));
    }

    fn eve() -> NodeId {
        PublicKey([3; 32])
    }
}
