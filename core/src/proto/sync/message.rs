//! The messages of `/kogge/sync/1`.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::base::{CodecError, codec};
use crate::proto::chain::{Block, Certificate};

/// Longest frame. Unit: bytes. One block of the largest kind with its certificate fits.
pub const FRAME_BYTES_MAX: usize = 10 << 20;

/// Most blocks in one answer. A request for more is answered with as many.
pub const COUNT_MAX: u32 = 256;

/// Longest encoded certificate: 64 signatures with their keys. Unit: bytes.
const CERTIFICATE_BYTES_MAX: usize = 16 * 1_024;

/// Asks for the blocks from a height on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct GetBlocks {
    /// Chosen by the asker; the answer repeats it.
    #[n(0)]
    pub id: u64,
    /// First height wanted.
    #[n(1)]
    pub from: u64,
    /// Most blocks wanted.
    #[n(2)]
    pub count_max: u32,
    /// Most bytes wanted, except that the first block comes whatever its size. Unit: bytes.
    #[n(3)]
    pub bytes_max: u32,
}

/// One block on the wire, in the bytes that the server stores.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct SyncBlock {
    /// A [`Block`] in its canonical bytes.
    #[n(0)]
    pub block: ByteVec,
    /// Its [`Certificate`] in its canonical bytes.
    #[n(1)]
    pub certificate: ByteVec,
}

/// The asked heights are not there.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct NotAvailable {
    /// The request.
    #[n(0)]
    pub id: u64,
    /// Lowest height that the server has; at most one above `tip`.
    #[n(1)]
    pub base: u64,
    /// Highest height that the server has.
    #[n(2)]
    pub tip: u64,
}

/// Whatever travels on a sync stream.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
pub enum Message {
    /// A request.
    #[n(0)]
    GetBlocks(#[n(0)] GetBlocks),
    /// An answer: consecutive blocks from the asked height on, at least one.
    #[n(1)]
    Blocks {
        /// The request.
        #[n(0)]
        id: u64,
        /// At most [`COUNT_MAX`]: an empty block costs 3 bytes on the wire and 48 in memory.
        #[cbor(n(1), decode_with = "codec::at_most::<_, _, { COUNT_MAX as usize }>")]
        blocks: Vec<SyncBlock>,
    },
    /// The answer if there is no block at the asked height.
    #[n(2)]
    NotAvailable(#[n(0)] NotAvailable),
}

impl Message {
    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }
}

/// A block and the certificate that names it; the signatures are not verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Decided {
    /// The block.
    pub block: Block,
    /// For this block's height and id.
    pub certificate: Certificate,
    /// Length of both encodings. Unit: bytes.
    pub bytes: usize,
}

/// A well-formed answer: one or more blocks of consecutive heights, each the parent of the next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Run {
    id: u64,
    blocks: Vec<Decided>,
}

impl Run {
    /// The request that this answers.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Height of the first block.
    pub fn from(&self) -> u64 {
        self.blocks.first().map_or(0, |it| it.block.height())
    }

    /// The blocks, lowest first; at least one.
    pub fn blocks(&self) -> &[Decided] {
        &self.blocks
    }

    /// Takes the blocks out.
    pub fn into_blocks(self) -> Vec<Decided> {
        self.blocks
    }

    fn new(id: u64, blocks: Vec<SyncBlock>) -> Result<Self, CodecError> {
        if blocks.is_empty() {
            return Err(CodecError::Invalid("an answer without blocks"));
        }
        let blocks: Vec<Decided> = blocks.iter().map(decided).collect::<Result<_, _>>()?;
        for pair in blocks.windows(2) {
            let [parent, child] = pair else { continue };
            let follows = parent.block.height().checked_add(1) == Some(child.block.height())
                && child.block.header.seal.parent == parent.certificate.block;
            if !follows {
                return Err(CodecError::Invalid(
                    "the blocks of an answer are not linked",
                ));
            }
        }
        Ok(Self { id, blocks })
    }
}

/// A frame that was read and checked as far as that is possible without the chain.
///
/// Reading may take milliseconds for large blocks; it needs no state, so a worker can do it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Incoming {
    /// A request, to be served.
    GetBlocks(GetBlocks),
    /// An answer with blocks.
    Blocks(Run),
    /// An answer without.
    NotAvailable(NotAvailable),
}

impl Incoming {
    /// Reads a frame. Only the certificates' signatures and the members remain to be checked, and
    /// what the blocks contain.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if an honest node cannot have sent this: too long, not canonical, no block,
    /// blocks that are not linked, a certificate for another block.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        match codec::decode(bytes, FRAME_BYTES_MAX)? {
            Message::GetBlocks(request) => Ok(Self::GetBlocks(request)),
            Message::Blocks { id, blocks } => Run::new(id, blocks).map(Self::Blocks),
            Message::NotAvailable(it) if it.tip.saturating_add(1) < it.base => {
                Err(CodecError::Invalid("the base lies above the tip"))
            }
            Message::NotAvailable(it) => Ok(Self::NotAvailable(it)),
        }
    }
}

fn decided(bytes: &SyncBlock) -> Result<Decided, CodecError> {
    let block = Block::from_bytes(&bytes.block)?;
    let certificate: Certificate = codec::decode(&bytes.certificate, CERTIFICATE_BYTES_MAX)?;
    if (certificate.height, certificate.block) != (block.height(), block.id()) {
        return Err(CodecError::Invalid("the certificate is for another block"));
    }
    let bytes = bytes.block.len() + bytes.certificate.len();
    Ok(Decided {
        block,
        certificate,
        bytes,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::{Blake3, BlockId, PublicKey, Sha256, Signature, WallTime};
    use crate::proto::chain::block::{CommitSignature, Header};
    use crate::proto::log::entry::Seal;

    /// A chain in which `size` bytes of entries make a block; `fork` makes it another chain.
    pub(crate) fn chain(heights: u64, size: usize, fork: u8) -> Vec<SyncBlock> {
        let mut parent = BlockId([0; 32]);
        let mut blocks = Vec::new();
        for height in 1..=heights {
            let seal = Seal {
                height,
                parent,
                time: WallTime::from_millis(height),
                members: Sha256([fork; 32]),
                next_members: Sha256([fork; 32]),
                first_index: 0,
                count: 1,
                index_root: Sha256([0; 32]),
                evidence: Blake3([0; 32]),
            };
            let header = Header {
                seal,
                size: height,
                root: Sha256([fork; 32]),
            };
            parent = header.id();
            let block = Block {
                header,
                entries: vec![vec![0; size].into()],
            };
            let certificate = Certificate {
                height,
                round: 0,
                block: parent,
                signatures: vec![CommitSignature {
                    vote: PublicKey([1; 32]),
                    signature: Signature([fork; 64]),
                }],
            };
            blocks.push(SyncBlock {
                block: block.to_bytes().into(),
                certificate: codec::encode(&certificate).into(),
            });
        }
        blocks
    }

    /// The same as the reader of a frame delivers it.
    pub(crate) fn decided_chain(heights: u64, size: usize) -> Vec<Decided> {
        let blocks = chain(heights, size, 0);
        blocks.iter().map(|it| decided(it).unwrap()).collect()
    }

    fn answer(blocks: &[SyncBlock]) -> Result<Incoming, CodecError> {
        let blocks = blocks.to_vec();
        Incoming::from_bytes(&Message::Blocks { id: 7, blocks }.to_bytes())
    }

    #[test]
    fn linked_blocks_with_their_certificates_are_a_run() {
        let chain = chain(5, 10, 0);
        let Ok(Incoming::Blocks(run)) = answer(&chain[1..4]) else {
            panic!("want a run");
        };
        let heights: Vec<u64> = run.blocks().iter().map(|it| it.block.height()).collect();
        assert_eq!((run.id(), run.from(), heights), (7, 2, vec![2, 3, 4]));
    }

    #[test]
    fn what_no_honest_node_sends_is_refused() {
        let (good, other) = (chain(4, 10, 0), chain(4, 10, 1));
        let stranger = SyncBlock {
            block: good[0].block.clone(),
            certificate: other[0].certificate.clone(),
        };
        let truncated = SyncBlock {
            block: good[0].block[1..].to_vec().into(),
            certificate: good[0].certificate.clone(),
        };
        for (name, blocks) in [
            ("none", vec![]),
            ("a hole", vec![good[0].clone(), good[2].clone()]),
            ("reversed", vec![good[1].clone(), good[0].clone()]),
            ("twice", vec![good[1].clone(), good[1].clone()]),
            (
                "a fork in the middle",
                vec![good[0].clone(), other[1].clone()],
            ),
            ("another block's certificate", vec![stranger]),
            ("truncated", vec![truncated]),
            ("too many", vec![good[0].clone(); COUNT_MAX as usize + 1]),
        ] {
            assert!(answer(&blocks).is_err(), "{name}");
        }
        let not_available = Message::NotAvailable(NotAvailable {
            id: 1,
            base: 9,
            tip: 7,
        });
        assert!(Incoming::from_bytes(&not_available.to_bytes()).is_err());
    }

    #[test]
    fn a_frame_above_the_limit_is_not_decoded() {
        let bytes = vec![0; FRAME_BYTES_MAX + 1];
        assert!(matches!(
            Incoming::from_bytes(&bytes),
            Err(CodecError::TooLong { .. })
        ));
    }

    proptest! {
        #[test]
        fn requests_survive_their_bytes(id: u64, from: u64, count_max: u32, bytes_max: u32) {
            let it = GetBlocks { id, from, count_max, bytes_max };
            let bytes = Message::GetBlocks(it).to_bytes();
            prop_assert_eq!(Incoming::from_bytes(&bytes), Ok(Incoming::GetBlocks(it)));
        }

        #[test]
        fn a_spoiled_answer_is_an_error_or_another_value_but_never_a_panic(
            at: proptest::sample::Index,
            flip in 1_u8..,
        ) {
            let blocks = chain(3, 5, 0);
            let mut bytes = Message::Blocks { id: 1, blocks }.to_bytes();
            let good = Incoming::from_bytes(&bytes);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert_ne!(Incoming::from_bytes(&bytes), good);
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = Incoming::from_bytes(&bytes);
        }
    }
}
