//! How a peer's finalized block relates to our chain.

use minicbor::{Decode, Encode};

use crate::base::BlockId;

/// The last block that a node finalized. A chain without blocks has height 0.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Tip {
    /// Number of the block.
    #[n(0)]
    pub height: u64,
    /// The block.
    #[n(1)]
    pub id: BlockId,
}

/// Read access to our finalized blocks.
pub trait Chain {
    /// Our tip.
    fn tip(&self) -> Tip;
    /// Our block at `height`; `None` above the tip, and where the id is no longer kept.
    fn id_at(&self, height: u64) -> Option<BlockId>;
    /// The lowest height whose block can be served; at most one above the tip.
    fn base(&self) -> u64;
}

/// How a remote tip relates to the local chain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Relation {
    /// The remote is ahead; whether it extends our chain shows when we get there.
    Ahead,
    /// The remote's tip is one of our earlier blocks.
    Behind,
    /// The remote finalized another block at a height that we finalized too.
    Forked,
    /// Both have the same tip.
    Same,
    /// The remote is behind, at a height whose id we no longer keep. Tolerated: what it gets from
    /// us it verifies itself.
    Unknown,
}

/// Compares a remote tip with our chain.
pub fn relate(chain: &impl Chain, remote: Tip) -> Relation {
    let ours = chain.tip();
    if ours.height < remote.height {
        return Relation::Ahead;
    }
    let known = if remote.height == ours.height {
        Some(ours.id)
    } else {
        chain.id_at(remote.height)
    };
    match known {
        None => Relation::Unknown,
        Some(id) if id != remote.id => Relation::Forked,
        Some(_) if remote.height == ours.height => Relation::Same,
        Some(_) => Relation::Behind,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A chain up to a height whose block `h` has the id `[h; 32]`; ids below `kept` are pruned.
    #[derive(Clone, Copy)]
    pub(crate) struct Numbered {
        pub(crate) height: u8,
        pub(crate) kept: u8,
    }

    impl Chain for Numbered {
        fn tip(&self) -> Tip {
            tip(self.height, self.height)
        }
        fn id_at(&self, height: u64) -> Option<BlockId> {
            u8::try_from(height)
                .ok()
                .filter(|it| (self.kept..=self.height).contains(it))
                .map(|it| BlockId([it; 32]))
        }
        fn base(&self) -> u64 {
            self.kept.into()
        }
    }

    pub(crate) fn tip(height: u8, fill: u8) -> Tip {
        Tip {
            height: height.into(),
            id: BlockId([fill; 32]),
        }
    }

    #[test]
    fn relates_every_kind_of_tip() {
        let chain = Numbered { height: 7, kept: 3 };
        for (remote, expected) in [
            (tip(7, 7), Relation::Same),
            (tip(3, 3), Relation::Behind),
            (tip(9, 9), Relation::Ahead),
            (tip(3, 0xff), Relation::Forked),
            (tip(7, 0xff), Relation::Forked),
            (tip(2, 2), Relation::Unknown),
            (tip(2, 0xff), Relation::Unknown),
        ] {
            assert_eq!(relate(&chain, remote), expected, "{remote:?}");
        }
    }

    proptest! {
        #[test]
        fn a_prefix_of_our_chain_is_never_a_fork(ours: u8, theirs: u8, kept: u8) {
            let chain = Numbered { height: ours, kept: kept.min(ours) };
            prop_assert_ne!(relate(&chain, tip(theirs, theirs)), Relation::Forked);
        }

        #[test]
        fn another_block_at_a_kept_height_is_always_a_fork(ours: u8, theirs: u8) {
            let chain = Numbered { height: ours, kept: 0 };
            let forked = relate(&chain, tip(theirs, !theirs)) == Relation::Forked;
            prop_assert_eq!(forked, theirs <= ours);
        }
    }
}
