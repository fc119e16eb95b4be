//! The blocks proposed at a height.

use std::collections::BTreeMap;

use crate::base::BlockId;
use crate::proto::chain::block::Block;

/// Most blocks kept at one height. Beyond it the one of the lowest round makes room, unless we
/// prefer it. If it is decided after all, the block comes by sync.
pub const BODIES_MAX: usize = 16;

/// Most blocks taken from one round's proposer. Two prove that it proposed twice.
pub const BODIES_PER_ROUND_MAX: usize = 2;

/// A block with our judgement.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) block: Block,
    /// The last round in which it was judged.
    pub(crate) round: u32,
    pub(crate) is_valid: bool,
}

/// The blocks proposed at a height, by id.
#[derive(Debug, Default)]
pub(crate) struct Bodies(BTreeMap<BlockId, Body>);

impl Bodies {
    pub(crate) fn get(&self, id: &BlockId) -> Option<&Body> {
        self.0.get(id)
    }

    /// Keeps `body`, instead of one with the same id; `preferred` blocks stay at the limit.
    pub(crate) fn insert(&mut self, id: BlockId, body: Body, preferred: &[BlockId]) {
        if BODIES_MAX <= self.0.len() && !self.0.contains_key(&id) {
            let candidates = self.0.iter().filter(|(id, _)| !preferred.contains(id));
            let oldest = candidates.min_by_key(|(_, it)| it.round).map(|(id, _)| *id);
            if let Some(id) = oldest {
                self.0.remove(&id);
            }
        }
        self.0.insert(id, body);
    }

    /// Whether another block of this round is taken.
    pub(crate) fn has_room(&self, round: u32) -> bool {
        self.0.values().filter(|it| it.round == round).count() < BODIES_PER_ROUND_MAX
    }

    pub(crate) fn take(&mut self, id: &BlockId) -> Option<Block> {
        self.0.remove(id).map(|it| it.block)
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::chain::testing::{MemoryChain, node_keys, package};

    #[test]
    fn the_oldest_block_makes_room_unless_preferred() {
        let chain = MemoryChain::new(1);
        let group = package(chain.state.chain(), "pkg:a/a@1", "", &[node_keys(0)]);
        let block = chain.build([group]).unwrap();
        let id = |number: u32| BlockId([u8::try_from(number).unwrap(); 32]);
        let body = |round| Body {
            block: block.clone(),
            round,
            is_valid: true,
        };
        let (mut bodies, last) = (Bodies::default(), u32::try_from(BODIES_MAX).unwrap());
        for round in 0..=last {
            bodies.insert(id(round), body(round), &[id(0)]);
        }
        bodies.insert(id(last), body(last), &[]);
        assert!(bodies.get(&id(0)).is_some());
        assert!(bodies.get(&id(1)).is_none());
        assert_eq!(bodies.0.len(), BODIES_MAX);
        assert!(bodies.has_room(3));
        bodies.insert(id(4), body(3), &[]);
        assert!(!bodies.has_room(3));
    }
}
