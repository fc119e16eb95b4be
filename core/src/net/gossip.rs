//! Messages for everybody, over gossipsub.
//!
//! Messages are signed by their author, named by the digest of their contents, and passed on only
//! after the program has judged them. Topics carry the chain id, so that networks never mix.

use std::io;
use std::time::Duration;

use libp2p::gossipsub::{
    Behaviour, ConfigBuilder, IdentTopic, Message, MessageAcceptance, MessageAuthenticity,
    MessageId, PublishError, TopicHash, ValidationMode,
};
use libp2p::identity::Keypair;

use crate::base::{Blake3, ChainId, NodeId, hex};
use crate::net::id;
use crate::proto::heads::Verdict;

/// Bytes of gossipsub's own around a message: author, signature, key, topic.
const ENVELOPE_BYTES_MAX: usize = 1 << 10;

/// Messages that wait for one peer; to a peer with more, further ones are not sent.
const QUEUE_FRAMES_MAX: usize = 64;

/// A message seen within this time is not seen again.
const SEEN_FOR: Duration = Duration::from_secs(300);

/// What a message is about.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Topic {
    /// Pending entries and attestations.
    Pool,
    /// New blocks and cosignatures.
    Head,
}

impl Topic {
    /// Every topic.
    pub const ALL: [Self; 2] = [Self::Pool, Self::Head];

    /// The longest message. Unit: bytes.
    pub const fn bytes_max(self) -> usize {
        match self {
            Self::Pool => 1 << 20,
            Self::Head => 64 << 10,
        }
    }

    fn ident(self, chain: &ChainId) -> IdentTopic {
        let name = match self {
            Self::Pool => "pool",
            Self::Head => "head",
        };
        IdentTopic::new(format!("/kogge/{}/{name}/1", hex::encode(chain.as_bytes())))
    }
}

/// Names a message: the digest of its topic and contents.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct GossipId(pub Blake3);

impl GossipId {
    fn of(topic: &TopicHash, bytes: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        // The topic's own digest is of fixed length: nothing can move between the two parts.
        hasher.update(blake3::hash(topic.as_str().as_bytes()).as_bytes());
        hasher.update(bytes);
        Self(Blake3(*hasher.finalize().as_bytes()))
    }

    fn to_message_id(self) -> MessageId {
        MessageId::new(self.0.as_bytes())
    }
}

/// The topics of one network.
pub(crate) struct Topics([(Topic, IdentTopic); 2]);

impl Topics {
    pub(crate) fn new(chain: &ChainId) -> Self {
        Self(Topic::ALL.map(|it| (it, it.ident(chain))))
    }

    fn topic(&self, hash: &TopicHash) -> Option<Topic> {
        let named = |it: &&(Topic, IdentTopic)| it.1.hash() == *hash;
        self.0.iter().find(named).map(|it| it.0)
    }

    /// A behaviour that is subscribed to all topics.
    ///
    /// # Errors
    ///
    /// Only if the constants of this file contradict each other.
    pub(crate) fn behaviour(&self, key: &Keypair) -> io::Result<Behaviour> {
        let mut config = ConfigBuilder::default();
        config
            .protocol_id_prefix("/kogge/meshsub")
            .validation_mode(ValidationMode::Strict)
            .validate_messages()
            .message_id_fn(|it| GossipId::of(&it.topic, &it.data).to_message_id())
            .max_transmit_size(Topic::Pool.bytes_max() + ENVELOPE_BYTES_MAX)
            .flood_publish(true)
            .duplicate_cache_time(SEEN_FOR)
            .connection_handler_queue_len(QUEUE_FRAMES_MAX);
        for (topic, ident) in &self.0 {
            let bytes_max = topic.bytes_max() + ENVELOPE_BYTES_MAX;
            config.max_transmit_size_for_topic(bytes_max, ident.hash());
        }
        let config = config.build().map_err(io::Error::other)?;
        let author = MessageAuthenticity::Signed(key.clone());
        let mut behaviour = Behaviour::new(author, config).map_err(io::Error::other)?;
        for (_, ident) in &self.0 {
            behaviour.subscribe(ident).map_err(io::Error::other)?;
        }
        Ok(behaviour)
    }

    /// Sends `bytes` to everybody who is subscribed; nobody at present is no failure.
    pub(crate) fn publish(&self, behaviour: &mut Behaviour, topic: Topic, bytes: Vec<u8>) {
        let Some((_, ident)) = self.0.iter().find(|it| it.0 == topic) else {
            return;
        };
        match behaviour.publish(ident.hash(), bytes) {
            Ok(_) | Err(PublishError::NoPeersSubscribedToTopic | PublishError::Duplicate) => (),
            Err(error) => tracing::debug!(?topic, %error, "message not published"),
        }
    }

    /// A received message: topic, id, author. `None` if it is of no topic or author of ours.
    pub(crate) fn read(&self, message: &Message) -> Option<(Topic, GossipId, NodeId)> {
        let topic = self.topic(&message.topic)?;
        let author = id::node_id(&message.source?)?;
        let id = GossipId::of(&message.topic, &message.data);
        (message.data.len() <= topic.bytes_max()).then_some((topic, id, author))
    }
}

/// Passes a message on, or not, as `verdict` says. A message that has been forgotten since stays
/// forgotten.
pub(crate) fn judge(behaviour: &mut Behaviour, id: GossipId, source: &NodeId, verdict: Verdict) {
    let acceptance = match verdict {
        Verdict::Accept => MessageAcceptance::Accept,
        Verdict::Reject => MessageAcceptance::Reject,
        Verdict::Ignore => MessageAcceptance::Ignore,
    };
    if let Some(source) = id::peer_id(source) {
        behaviour.report_message_validation_result(&id.to_message_id(), &source, acceptance);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_of_two_networks_differ() {
        let [ours, theirs] = [ChainId([1; 32]), ChainId([2; 32])];
        let topics = Topics::new(&ours);
        for topic in Topic::ALL {
            assert_eq!(topics.topic(&topic.ident(&ours).hash()), Some(topic));
            assert_eq!(topics.topic(&topic.ident(&theirs).hash()), None);
        }
    }

    #[test]
    fn the_same_bytes_on_two_topics_are_two_messages() {
        let chain = ChainId([1; 32]);
        let [pool, head] = Topic::ALL.map(|it| GossipId::of(&it.ident(&chain).hash(), b"x"));
        assert_ne!(pool, head);
    }
}
