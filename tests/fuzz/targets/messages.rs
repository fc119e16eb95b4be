//! What nodes tell each other, besides the exchange, and what the machines keep across restarts.

use kogge_node::base::codec;
use kogge_node::net::Topic;
use kogge_node::node::flow::Gossip;
use kogge_node::proto::build::{BuildMessage, BuildSpec, Pending};
use kogge_node::proto::consensus;
use kogge_node::proto::heads::HeadMessage;
use kogge_node::proto::hello;
use kogge_node::proto::peers::book::Book;
use kogge_node::proto::pool::{Kept, PoolMessage};
use kogge_node::proto::sync::{Incoming, Message, SyncBlock};

use crate::targets::{canonical, stable};

pub(crate) fn hello(bytes: &[u8], is_planted: bool) -> bool {
    use hello::Message;
    canonical(bytes, is_planted, Message::from_bytes, Message::to_bytes).is_some()
}

pub(crate) fn consensus(bytes: &[u8], is_planted: bool) -> bool {
    use consensus::Message;
    let message = canonical(bytes, is_planted, Message::from_bytes, Message::to_bytes);
    message.inspect(|it| assert!(it.is_sound())).is_some()
}

pub(crate) fn head(bytes: &[u8], is_planted: bool) -> bool {
    canonical(
        bytes,
        is_planted,
        HeadMessage::from_bytes,
        HeadMessage::to_bytes,
    )
    .is_some()
}

pub(crate) fn book(bytes: &[u8], is_planted: bool) -> bool {
    canonical(bytes, is_planted, Book::from_bytes, Book::to_bytes).is_some()
}

pub(crate) fn build(bytes: &[u8], is_planted: bool) -> bool {
    canonical(
        bytes,
        is_planted,
        BuildMessage::from_bytes,
        BuildMessage::to_bytes,
    )
    .is_some()
}

/// A build that waits for a restart: what it holds would also be taken from a peer.
pub(crate) fn pending(bytes: &[u8], is_planted: bool) -> bool {
    let Some(pending) = canonical(bytes, is_planted, Pending::from_bytes, Pending::to_bytes) else {
        return false;
    };
    let request = BuildMessage::Request(pending.request.clone());
    let reports = pending.reports.into_iter().map(BuildMessage::Report);
    for message in [request].into_iter().chain(reports) {
        let copy = BuildMessage::from_bytes(&message.to_bytes());
        assert_eq!(copy, Ok(message), "what is kept would be refused");
    }
    true
}

/// Text of a request, and the form in which it travels.
pub(crate) fn spec(bytes: &[u8], is_planted: bool) -> bool {
    let Some(spec) = str::from_utf8(bytes)
        .ok()
        .and_then(|it| stable::<BuildSpec>(it, is_planted))
    else {
        return false;
    };
    let copy = codec::decode::<BuildSpec>(&codec::encode(&spec), bytes.len() + 1_024);
    assert_eq!(copy.as_ref(), Ok(&spec));
    assert!(spec.tag().is_some() || spec.purl(None).is_some());
    true
}

pub(crate) fn pool(bytes: &[u8], is_planted: bool) -> bool {
    canonical(
        bytes,
        is_planted,
        PoolMessage::from_bytes,
        PoolMessage::to_bytes,
    )
    .is_some()
}

/// A change that waits for a restart: what it holds would also be taken from a peer.
pub(crate) fn kept(bytes: &[u8], is_planted: bool) -> bool {
    let Some(kept) = canonical(bytes, is_planted, Kept::from_bytes, Kept::to_bytes) else {
        return false;
    };
    let message = PoolMessage::Marks(kept.marks);
    let copy = PoolMessage::from_bytes(&message.to_bytes());
    assert_eq!(copy, Ok(message), "what is kept would be refused");
    true
}

/// Frames of the block exchange: blocks and certificates inside are decoded too, so they are put
/// together again from what was decoded.
pub(crate) fn sync(bytes: &[u8], is_planted: bool) -> bool {
    let encode = |it: &Incoming| match it.clone() {
        Incoming::GetBlocks(it) => Message::GetBlocks(it).to_bytes(),
        Incoming::NotAvailable(it) => Message::NotAvailable(it).to_bytes(),
        Incoming::Blocks(run) => {
            let blocks = run.blocks().iter().map(|it| SyncBlock {
                block: it.block.to_bytes().into(),
                certificate: codec::encode(&it.certificate).into(),
            });
            let (id, blocks) = (run.id(), blocks.collect());
            Message::Blocks { id, blocks }.to_bytes()
        }
    };
    canonical(bytes, is_planted, Incoming::from_bytes, encode).is_some()
}

/// The first byte is the topic.
pub(crate) fn gossip(bytes: &[u8], is_planted: bool) -> bool {
    let Some((topic, message)) = bytes.split_first() else {
        return false;
    };
    let topic = if topic & 1 == 0 {
        Topic::Pool
    } else {
        Topic::Head
    };
    let encode = |it: &Gossip| {
        let (sent_to, bytes) = it.encode();
        assert_eq!(sent_to, topic);
        bytes
    };
    canonical(message, is_planted, |it| Gossip::decode(topic, it), encode).is_some()
}
