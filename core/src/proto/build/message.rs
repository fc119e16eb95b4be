//! What nodes tell each other about builds: requests, and signed reports of authorized nodes.
//!
//! ```text
//! report  "kogge/build-report/v1\0" ‖ chain (32) ‖ build (32) ‖ attempt (2, big endian)
//!                                   ‖ node (32) ‖ time (8, big endian) ‖ CBOR of the outcome
//! ```
//!
//! A report may be passed on by anybody, because its signature stands on its own. Its time makes a
//! repeated report another message, so that gossip does not swallow it as a duplicate.

use minicbor::{Decode, Encode};

use crate::base::digest::bytes_newtype;
use crate::base::{
    Blake3, ChainId, CodecError, NodeId, SecretKey, Signature, SignatureError, WallTime, codec,
};
use crate::proto::build::machine::BUILDS_MAX;
use crate::proto::build::outcome::Outcome;
use crate::proto::build::spec::{BuildId, BuildSpec};

/// Longest message. Unit: bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1_024;

/// Most builds that one [`BuildMessage::Want`] asks for.
pub const WANT_MAX: usize = 32;

bytes_newtype!(
    /// A digest of what nodes reported, to see whether two nodes know the same.
    Reports,
    8
);

/// Why a message is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MessageError {
    /// Not a readable message.
    #[error("the build message is not readable: {0}")]
    Codec(#[from] CodecError),
    /// A field breaks a limit.
    #[error("the build message's {0}")]
    Field(&'static str),
    /// The report's signature does not stand.
    #[error("the build report's signature: {0}")]
    Signature(#[from] SignatureError),
}

/// A message about a build.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
pub enum BuildMessage {
    /// Somebody wants something to be added.
    #[n(0)]
    Request(#[n(0)] BuildRequest),
    /// An authorized node says how far it is.
    #[n(1)]
    Report(#[n(0)] Report),
    /// Unfinished builds that the sender knows, to a peer that just connected; or builds that are
    /// over here, to one that takes them for unfinished. Never gossiped.
    #[n(2)]
    Open(#[n(0)] Vec<Open>),
    /// Asks a peer for the requests and reports of builds. Never gossiped.
    #[n(3)]
    Want(#[n(0)] Vec<BuildId>),
}

/// What a node knows of a build, in short.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Open {
    /// The build.
    #[n(0)]
    pub build: BuildId,
    /// The attempt.
    #[n(1)]
    pub attempt: u16,
    /// Who reported what.
    #[n(2)]
    pub reports: Reports,
    /// Whether it is over here.
    #[n(3)]
    pub is_over: bool,
}

impl Reports {
    /// The digest of how far nodes are, which are sorted.
    pub(crate) fn of<'a>(ranks: impl IntoIterator<Item = (&'a NodeId, u8)>) -> Self {
        let mut bytes = Vec::new();
        for (node, rank) in ranks {
            bytes.extend_from_slice(node.as_bytes());
            bytes.push(rank);
        }
        let [a, b, c, d, e, f, g, h, ..] = Blake3::of(&bytes).0;
        Self([a, b, c, d, e, f, g, h])
    }
}

/// Somebody wants something to be added.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct BuildRequest {
    /// What.
    #[n(0)]
    pub spec: BuildSpec,
    /// Who asked first, as far as the sender knows; informative.
    #[n(1)]
    pub node: NodeId,
    /// When; informative.
    #[n(2)]
    pub time: WallTime,
    /// 1 for the first, one more for each retry after a failure.
    #[n(3)]
    pub attempt: u16,
}

/// How far an authorized node is with a build.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Report {
    /// The build.
    #[n(0)]
    pub build: BuildId,
    /// The attempt.
    #[n(1)]
    pub attempt: u16,
    /// The authorized node.
    #[n(2)]
    pub node: NodeId,
    /// When it said so.
    #[n(3)]
    pub time: WallTime,
    /// What it said.
    #[n(4)]
    pub outcome: Outcome,
    /// By the node's vote key over [`Report::signed_bytes`].
    #[n(5)]
    pub signature: Signature,
}

impl Report {
    /// The message under [`Report::signature`].
    pub fn signed_bytes(&self, chain: &ChainId) -> Vec<u8> {
        let mut bytes = b"kogge/build-report/v1\0".to_vec();
        bytes.extend_from_slice(chain.as_bytes());
        bytes.extend_from_slice(self.build.as_bytes());
        bytes.extend_from_slice(&self.attempt.to_be_bytes());
        bytes.extend_from_slice(self.node.as_bytes());
        bytes.extend_from_slice(&self.time.as_millis().to_be_bytes());
        bytes.extend(codec::encode(&self.outcome));
        bytes
    }

    /// This report, signed by the node's vote key.
    pub fn signed(mut self, chain: &ChainId, vote: &SecretKey) -> Self {
        self.signature = vote.sign(&self.signed_bytes(chain));
        self
    }
}

impl BuildMessage {
    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a message and checks its limits; not its signature.
    ///
    /// # Errors
    ///
    /// [`MessageError`] if it is not the canonical form of a well-formed message.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MessageError> {
        let message: Self = codec::decode(bytes, MESSAGE_BYTES_MAX)?;
        match &message {
            Self::Request(it) if it.attempt == 0 => {
                Err(MessageError::Field("attempt is 0, the first is 1"))
            }
            Self::Open(it) if BUILDS_MAX < it.len() => Err(MessageError::Field("list is too long")),
            Self::Open(it) if it.iter().any(|it| it.attempt == 0) => {
                Err(MessageError::Field("attempt is 0, the first is 1"))
            }
            Self::Want(it) if WANT_MAX < it.len() => {
                Err(MessageError::Field("list of wanted builds is too long"))
            }
            Self::Request(_) | Self::Open(_) | Self::Want(_) => Ok(message),
            Self::Report(it) => it.outcome.check().map(|()| message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{PublicKey, Sha256, Subject};
    use crate::proto::build::outcome::{
        Attested, FAILURE_BYTES_MAX, FILES_BYTES_MAX, FILES_MAX, Failure, FailureCode, FileDigest,
        ShortDigest,
    };
    use crate::proto::chain::member::NodeKeys;
    use crate::proto::log::entry::{AddArtifact, FILE_BYTES_MAX, Source};
    use proptest::prelude::*;

    fn report(outcome: Outcome) -> Report {
        let alice = NodeKeys::from_seed([1; 32]);
        Report {
            build: BuildId([7; 32]),
            attempt: 1,
            node: alice.id(),
            time: WallTime::from_millis(1),
            outcome,
            signature: Signature([0; 64]),
        }
        .signed(&ChainId([9; 32]), &alice.vote)
    }

    fn attested(files: &[&str]) -> Outcome {
        Outcome::Attested(Attested {
            subject: Subject([1; 32]),
            tag: Some(Sha256([2; 32])),
            files: files
                .iter()
                .map(|it| FileDigest {
                    file: (*it).to_owned(),
                    sha256: ShortDigest([3; 8]),
                })
                .collect(),
        })
    }

    #[test]
    fn messages_survive_their_bytes() {
        let failure = Failure::new(FailureCode::NotFound, "404\nfor the manifest");
        assert_eq!(
            failure.to_string(),
            "not found upstream (404 for the manifest)"
        );
        let outcomes = [
            Outcome::Queued,
            Outcome::Started,
            Outcome::Progress { done: 1, total: 0 },
            attested(&["a.jar", "b.pom"]),
            Outcome::Present { index: 7 },
            Outcome::Failed(failure),
        ];
        for outcome in outcomes {
            let message = BuildMessage::Report(report(outcome));
            assert_eq!(BuildMessage::from_bytes(&message.to_bytes()), Ok(message));
        }
        let message = BuildMessage::Request(BuildRequest {
            spec: "maven g:a:1".parse().unwrap(),
            node: PublicKey([1; 32]),
            time: WallTime::from_millis(1),
            attempt: 1,
        });
        assert_eq!(BuildMessage::from_bytes(&message.to_bytes()), Ok(message));
    }

    #[test]
    fn fields_beyond_their_limits_are_refused() {
        let many: Vec<String> = (0..=FILES_MAX).map(|it| format!("{it:04}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let text = |text: String| {
            let code = FailureCode::Broken;
            Outcome::Failed(Failure { code, text })
        };
        for outcome in [
            attested(&["b", "a"]),
            attested(&["a", "a"]),
            attested(&[""]),
            attested(&["a\u{1b}[2J"]),
            attested(&["x".repeat(FILE_BYTES_MAX + 1).as_str()]),
            attested(&many),
            text("x".repeat(FAILURE_BYTES_MAX + 1)),
            text("\u{7}".into()),
            Outcome::Progress { done: 2, total: 1 },
        ] {
            let bytes = BuildMessage::Report(report(outcome)).to_bytes();
            assert!(matches!(
                BuildMessage::from_bytes(&bytes),
                Err(MessageError::Field(_))
            ));
        }
        assert!(matches!(
            BuildMessage::from_bytes(&vec![0; MESSAGE_BYTES_MAX + 1]),
            Err(MessageError::Codec(CodecError::TooLong { .. }))
        ));
    }

    fn open(count: usize) -> BuildMessage {
        let open = Open {
            build: BuildId([0xff; 32]),
            attempt: u16::MAX,
            reports: Reports([0xff; 8]),
            is_over: true,
        };
        BuildMessage::Open(vec![open; count])
    }

    #[test]
    fn lists_of_builds_survive_their_bytes_up_to_their_limits() {
        let want = |count| BuildMessage::Want(vec![BuildId([0xff; 32]); count]);
        for (message, is_good) in [
            (open(0), true),
            (open(BUILDS_MAX), true),
            (open(BUILDS_MAX + 1), false),
            (want(WANT_MAX), true),
            (want(WANT_MAX + 1), false),
        ] {
            let read = BuildMessage::from_bytes(&message.to_bytes());
            assert_eq!(read.ok(), is_good.then_some(message));
        }
    }

    #[test]
    fn a_signature_covers_chain_build_attempt_and_outcome() {
        let vote = NodeKeys::from_seed([1; 32]).vote.public();
        let good = report(Outcome::Started);
        let stands = |it: &Report, chain| {
            vote.verify(&it.signed_bytes(&ChainId([chain; 32])), &it.signature)
        };
        assert_eq!(stands(&good, 9), Ok(()));
        assert!(stands(&good, 8).is_err());
        let changes: [fn(&mut Report); 5] = [
            |it| it.build = BuildId([8; 32]),
            |it| it.attempt = 2,
            |it| it.node = PublicKey([8; 32]),
            |it| it.time = WallTime::from_millis(2),
            |it| it.outcome = Outcome::Queued,
        ];
        for (case, change) in changes.into_iter().enumerate() {
            let mut it = good.clone();
            change(&mut it);
            assert!(stands(&it, 9).is_err(), "case {case}");
        }
    }

    #[test]
    fn the_longest_report_fits_a_message() {
        let file = |at: usize| AddArtifact {
            purl: "pkg:maven/g/a@1".into(),
            file: format!("{at:04}{}", "x".repeat(FILE_BYTES_MAX - 4)),
            blake3: Blake3([0; 32]),
            sha256: Sha256([0xab; 32]),
            digests: Vec::new(),
            size: 0,
            media_type: String::new(),
            source: Source::fetched(""),
            dependencies: None,
            builder: PublicKey([0; 32]),
            publication: None,
            time: WallTime::default(),
        };
        let files: Vec<_> = (0..1_000).map(file).collect();
        let list = FileDigest::list(&files);
        assert_eq!(list.len(), FILES_BYTES_MAX / FILE_BYTES_MAX);
        let outcome = Outcome::Attested(Attested {
            subject: Subject([1; 32]),
            tag: None,
            files: list,
        });
        let bytes = BuildMessage::Report(report(outcome)).to_bytes();
        assert!(BuildMessage::from_bytes(&bytes).is_ok());
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(message) = BuildMessage::from_bytes(&bytes) {
                prop_assert_eq!(message.to_bytes(), bytes);
            }
        }
    }
}
