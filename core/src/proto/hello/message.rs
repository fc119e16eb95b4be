//! The messages of `/kogge/hello/1`.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::base::{ChainId, CodecError, NodeId, Sha256, codec};
use crate::proto::hello::reason::Reason;
use crate::proto::hello::tip::Tip;

/// Longest message. Unit: bytes. A longer one is not decoded.
pub const HELLO_BYTES_MAX: usize = 8 * 1_024;

/// Most listen addresses in a hello; more make it malformed.
pub const LISTEN_MAX: usize = 16;

/// Longest listen address. Unit: bytes.
const ADDRESS_BYTES_MAX: usize = 256;

/// Longest name and version of the program. Unit: bytes.
const AGENT_BYTES_MAX: usize = 128;

/// What a node keeps of the chain.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Bodies and index.
    #[default]
    #[n(0)]
    Full,
    /// Heads and set changes; proofs on demand.
    #[n(1)]
    Light,
    /// Everything, for ever.
    #[n(2)]
    Archive,
}

/// The versions of the other protocols that a node speaks, both ends included.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Protocols {
    /// Lowest.
    #[n(0)]
    pub min: u16,
    /// Highest.
    #[n(1)]
    pub max: u16,
}

impl Protocols {
    /// What this program speaks.
    pub const OURS: Self = Self { min: 1, max: 1 };

    /// The highest version that both speak.
    pub fn common(self, other: Self) -> Option<u16> {
        let highest = self.max.min(other.max);
        (self.min.max(other.min) <= highest).then_some(highest)
    }
}

/// What each side tells the other first.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Hello {
    /// The network.
    #[n(0)]
    pub chain: ChainId,
    /// Versions of the other protocols.
    #[n(1)]
    pub protocols: Protocols,
    /// Who says it; the same key that the connection proves.
    #[n(2)]
    pub from: NodeId,
    /// For whom it is meant.
    #[n(3)]
    pub to: NodeId,
    /// Different in every hello; the welcome echoes it.
    #[n(4)]
    pub nonce: u64,
    /// The last finalized block.
    #[n(5)]
    pub tip: Tip,
    /// Blocks below this height are pruned; at most one above the tip.
    #[n(6)]
    pub base: u64,
    /// What the node keeps.
    #[n(7)]
    pub role: Role,
    /// Whether the node says it is authorized. A hint: the member set decides.
    #[n(8)]
    pub authorized: bool,
    /// Name and version of the program.
    #[n(9)]
    pub agent: String,
    /// Where the node can be dialled, in its own opinion. Text; the shell parses it.
    #[cbor(n(10), decode_with = "codec::at_most::<_, _, LISTEN_MAX>")]
    pub listen: Vec<String>,
    /// Reserved for the root of the index at the tip.
    #[n(11)]
    pub index_root: Option<Sha256>,
}

impl Hello {
    fn check(&self) -> Result<(), CodecError> {
        let text = |it: &str, bytes_max| {
            !it.is_empty()
                && it.len() <= bytes_max
                && it.bytes().all(|b| (b' '..=b'~').contains(&b))
        };
        if self.protocols.max < self.protocols.min {
            return Err(CodecError::Invalid("the protocol range is empty"));
        }
        if self.tip.height.saturating_add(1) < self.base {
            return Err(CodecError::Invalid("the base lies above the tip"));
        }
        if !text(&self.agent, AGENT_BYTES_MAX) {
            return Err(CodecError::Invalid(
                "the agent is not 1 to 128 visible bytes",
            ));
        }
        if LISTEN_MAX < self.listen.len() {
            return Err(CodecError::Invalid("more than 16 listen addresses"));
        }
        if !self.listen.iter().all(|it| text(it, ADDRESS_BYTES_MAX)) {
            return Err(CodecError::Invalid(
                "an address is not 1 to 256 visible bytes",
            ));
        }
        Ok(())
    }
}

/// Whatever travels on the hello stream.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
pub enum Message {
    /// The first message of each side.
    #[n(0)]
    Hello(#[n(0)] Box<Hello>),
    /// The other side's hello is accepted.
    #[n(1)]
    Welcome {
        /// The nonce of that hello.
        #[n(0)]
        echo: u64,
    },
    /// The other side is refused; the connection is about to close.
    #[n(2)]
    Refused(#[n(0)] Reason),
    /// The sender finalized a block.
    #[n(3)]
    Tip(#[n(0)] Tip),
}

impl Message {
    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a message and checks its limits.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if it is too long, not canonical, or breaks a limit.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let message: Self = codec::decode(bytes, HELLO_BYTES_MAX)?;
        if let Self::Hello(hello) = &message {
            hello.check()?;
        }
        Ok(message)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::{BlockId, PublicKey};

    pub(crate) fn hello() -> Hello {
        Hello {
            chain: ChainId([9; 32]),
            protocols: Protocols::OURS,
            from: PublicKey([1; 32]),
            to: PublicKey([2; 32]),
            nonce: 7,
            tip: Tip {
                height: 5,
                id: BlockId([5; 32]),
            },
            base: 1,
            role: Role::Full,
            authorized: false,
            agent: "kogge/0.1.0".into(),
            listen: vec!["/ip4/192.0.2.1/tcp/4001".into()],
            index_root: None,
        }
    }

    #[test]
    fn a_hello_that_breaks_a_limit_is_refused() {
        let spoil: [fn(&mut Hello); 9] = [
            |it| it.protocols = Protocols { min: 2, max: 1 },
            |it| it.base = 7,
            |it| it.agent = String::new(),
            |it| it.agent = "x".repeat(AGENT_BYTES_MAX + 1),
            |it| it.agent = "a\u{1b}[2J".into(),
            |it| it.listen = vec!["/a".into(); LISTEN_MAX + 1],
            |it| it.listen = vec!["/".repeat(ADDRESS_BYTES_MAX + 1)],
            |it| it.listen = vec![String::new()],
            |it| it.agent = "x".repeat(HELLO_BYTES_MAX),
        ];
        for (case, spoil) in spoil.into_iter().enumerate() {
            let mut it = hello();
            spoil(&mut it);
            let bytes = Message::Hello(it.into()).to_bytes();
            assert!(Message::from_bytes(&bytes).is_err(), "case {case}");
        }
    }

    #[test]
    fn the_largest_permitted_hello_fits() {
        let mut it = hello();
        it.agent = "x".repeat(AGENT_BYTES_MAX);
        it.listen = vec!["/".repeat(ADDRESS_BYTES_MAX); LISTEN_MAX];
        it.index_root = Some(Sha256([1; 32]));
        let message = Message::Hello(it.into());
        assert_eq!(Message::from_bytes(&message.to_bytes()), Ok(message));
    }

    #[test]
    fn versions_meet_at_the_highest_common_one() {
        let range = |min, max| Protocols { min, max };
        for (ours, theirs, expected) in [
            (range(1, 1), range(1, 1), Some(1)),
            (range(1, 3), range(2, 5), Some(3)),
            (range(1, 1), range(2, 2), None),
            (range(4, 5), range(1, 3), None),
        ] {
            assert_eq!(ours.common(theirs), expected, "{ours:?} {theirs:?}");
            assert_eq!(theirs.common(ours), expected, "{theirs:?} {ours:?}");
        }
    }

    proptest! {
        #[test]
        fn messages_survive_their_bytes(
            nonce: u64,
            height: u64,
            base_below in 0_u64..3,
            fill: u8,
            agent in "[ -~]{1,128}",
            listen in proptest::collection::vec("[ -~]{1,64}", 0..=LISTEN_MAX),
        ) {
            let tip = Tip { height, id: BlockId([fill; 32]) };
            let base = height.saturating_sub(base_below);
            let hello = Hello { nonce, tip, base, agent, listen, ..hello() };
            let all = [
                Message::Hello(hello.into()),
                Message::Welcome { echo: nonce },
                Message::Refused(Reason::Forked { height }),
                Message::Tip(tip),
            ];
            for message in all {
                prop_assert_eq!(Message::from_bytes(&message.to_bytes()), Ok(message));
            }
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            if let Ok(message) = Message::from_bytes(&bytes) {
                prop_assert_eq!(message.to_bytes(), bytes);
            }
        }
    }
}
