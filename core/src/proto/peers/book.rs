//! The address book: who can be reached where, as far as we know.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use crate::base::{CodecError, NodeId, Rng, WallTime, codec};
use crate::proto::peers::address::{is_address, is_public};

/// Most peers; a further one replaces the worst, unless all are good.
const PEERS_MAX: usize = 1_024;

/// Most addresses of one peer; a further one replaces the worst, unless all are good.
const ADDRESSES_MAX: usize = 8;

/// Failures in a row after which an address is forgotten.
const FAILURES_MAX: u32 = 16;

/// Longest encoded book: all peers with all their addresses at full length. Unit: bytes.
pub const BOOK_BYTES_MAX: usize = PEERS_MAX * (64 + ADDRESSES_MAX * 320);

/// Who told us an address.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Encode, Decode)]
#[cbor(index_only)]
pub enum Source {
    /// The operator.
    #[n(0)]
    Configured,
    /// A bootstrap document.
    #[n(1)]
    Bootstrap,
    /// The peer itself, in its hello.
    #[n(2)]
    Hello,
    /// Another peer.
    #[n(3)]
    Exchange,
    /// Discovery in the local network.
    #[n(4)]
    Local,
}

/// One address of one peer.
#[derive(Clone, Debug, Eq, PartialEq, Encode, Decode)]
#[cbor(array)]
pub struct Address {
    /// The address.
    #[n(0)]
    pub text: String,
    /// Who told us.
    #[n(1)]
    pub source: Source,
    /// When we heard of it.
    #[n(2)]
    pub learned: WallTime,
    /// When we last reached the peer there.
    #[n(3)]
    pub success: Option<WallTime>,
    /// When we last failed to.
    #[n(4)]
    pub failure: Option<WallTime>,
    /// Failures in a row.
    #[n(5)]
    pub failures: u32,
}

/// The lower, the worse: never reached, often failed, long ago.
type Rank = (bool, Reverse<u32>, WallTime);

impl Address {
    fn rank(&self) -> Rank {
        let last = self.success.max(self.failure).unwrap_or(self.learned);
        (self.success.is_some(), Reverse(self.failures), last)
    }

    fn is_good(&self) -> bool {
        self.success.is_some() && self.failures == 0
    }
}

/// Addresses by peer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Book {
    peers: BTreeMap<NodeId, Vec<Address>>,
}

impl Book {
    /// Number of peers.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether nobody is known.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Notes an address; returns whether it is new and was taken.
    pub fn learn(&mut self, peer: NodeId, text: &str, source: Source, at: WallTime) -> bool {
        if !is_address(text) || self.find(&peer, text).is_some() || !self.make_room(&peer) {
            return false;
        }
        self.peers.entry(peer).or_default().push(Address {
            text: text.to_owned(),
            source,
            learned: at,
            success: None,
            failure: None,
            failures: 0,
        });
        true
    }

    /// Notes that we reached the peer at a known address.
    pub fn succeeded(&mut self, peer: &NodeId, text: &str, at: WallTime) {
        if let Some(address) = self.find(peer, text) {
            address.success = Some(at);
            address.failures = 0;
        }
    }

    /// Notes that we did not. The address is forgotten after 16 failures in a row, unless the
    /// operator gave it.
    pub fn failed(&mut self, peer: &NodeId, text: &str, at: WallTime) {
        let Some(address) = self.find(peer, text) else {
            return;
        };
        address.failure = Some(at);
        address.failures = address.failures.saturating_add(1);
        let is_hopeless = FAILURES_MAX <= address.failures && address.source != Source::Configured;
        if is_hopeless && let Some(addresses) = self.peers.get_mut(peer) {
            addresses.retain(|it| it.text != text);
            if addresses.is_empty() {
                self.peers.remove(peer);
            }
        }
    }

    /// The peer's addresses, best first.
    pub fn addresses(&self, peer: &NodeId) -> Vec<String> {
        let mut addresses: Vec<&Address> = self.peers.get(peer).into_iter().flatten().collect();
        addresses.sort_by_key(|it| Reverse(it.rank()));
        addresses.into_iter().map(|it| it.text.clone()).collect()
    }

    /// All peers, best first; equally good ones in random order.
    pub fn peers(&self, rng: &mut Rng) -> Vec<NodeId> {
        let mut peers: Vec<_> = self
            .peers
            .iter()
            .map(|(peer, addresses)| (best(addresses), *peer))
            .map(|(rank, peer)| (rank.map(|(reached, failures, _)| (reached, failures)), peer))
            .collect();
        rng.shuffle(&mut peers);
        peers.sort_by_key(|(rank, _)| Reverse(*rank));
        peers.into_iter().map(|(_, peer)| peer).collect()
    }

    /// Up to `count_max` addresses to tell others: those where we ourselves reached the peer last
    /// time we tried. Private ones are left out unless `private` says otherwise.
    pub fn shareable(
        &self,
        count_max: usize,
        private: bool,
        rng: &mut Rng,
    ) -> Vec<(NodeId, String)> {
        let reached = |it: &&Address| it.is_good() && (private || is_public(&it.text));
        let mut all: Vec<(NodeId, String)> = self
            .peers
            .iter()
            .filter_map(|(peer, addresses)| {
                let best = addresses
                    .iter()
                    .filter(reached)
                    .max_by_key(|it| it.rank())?;
                Some((*peer, best.text.clone()))
            })
            .collect();
        rng.shuffle(&mut all);
        all.truncate(count_max);
        all
    }

    /// The bytes to keep.
    pub fn to_bytes(&self) -> Vec<u8> {
        let stored: Vec<Stored> = self.peers.clone().into_iter().map(Stored::from).collect();
        codec::encode(&stored)
    }

    /// Reads what [`Book::to_bytes`] wrote.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if the bytes are damaged; start with an empty book then.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let stored: Vec<Stored> = codec::decode(bytes, BOOK_BYTES_MAX)?;
        let is_fit = |it: &Stored| {
            (1..=ADDRESSES_MAX).contains(&it.addresses.len())
                && it.addresses.iter().all(|it| is_address(&it.text))
        };
        let is_sorted = stored.windows(2).all(|it| it[0].peer < it[1].peer);
        if PEERS_MAX < stored.len() || !is_sorted || !stored.iter().all(is_fit) {
            return Err(CodecError::Invalid("the address book breaks its limits"));
        }
        let peers = stored.into_iter().map(|it| (it.peer, it.addresses));
        let peers = peers.collect();
        Ok(Self { peers })
    }

    fn find(&mut self, peer: &NodeId, text: &str) -> Option<&mut Address> {
        let addresses = self.peers.get_mut(peer)?;
        addresses.iter_mut().find(|it| it.text == text)
    }

    /// Makes room for one more address of `peer`; false if that would cost a good one.
    fn make_room(&mut self, peer: &NodeId) -> bool {
        if let Some(addresses) = self.peers.get_mut(peer) {
            if addresses.len() < ADDRESSES_MAX {
                return true;
            }
            let worst = addresses.iter().enumerate().min_by_key(|(_, it)| it.rank());
            let Some((at, _)) = worst.filter(|(_, it)| is_expendable(it)) else {
                return false;
            };
            addresses.remove(at);
            return true;
        }
        if self.peers.len() < PEERS_MAX {
            return true;
        }
        let expendable = self
            .peers
            .iter()
            .filter(|(_, it)| it.iter().all(is_expendable));
        let worst = expendable
            .min_by_key(|(_, it)| best(it))
            .map(|(peer, _)| *peer);
        worst.is_some_and(|it| self.peers.remove(&it).is_some())
    }
}

fn is_expendable(address: &Address) -> bool {
    !address.is_good() && address.source != Source::Configured
}

fn best(addresses: &[Address]) -> Option<Rank> {
    addresses.iter().map(Address::rank).max()
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct Stored {
    #[n(0)]
    peer: NodeId,
    #[n(1)]
    addresses: Vec<Address>,
}

impl From<(NodeId, Vec<Address>)> for Stored {
    fn from((peer, addresses): (NodeId, Vec<Address>)) -> Self {
        Self { peer, addresses }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::{PublicKey, Rng};

    fn at(seconds: u64) -> WallTime {
        WallTime::from_millis(seconds * 1_000)
    }

    fn node(number: usize) -> NodeId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
        PublicKey(bytes)
    }

    fn text(number: usize) -> String {
        format!("/ip4/9.9.{}.{}/tcp/4001", number / 256, number % 256)
    }

    #[test]
    fn addresses_come_best_first() {
        let (mut book, bob) = (Book::default(), node(1));
        for number in 0..4 {
            assert!(book.learn(bob, &text(number), Source::Hello, at(0)));
        }
        book.failed(&bob, &text(0), at(1));
        book.succeeded(&bob, &text(2), at(2));
        book.succeeded(&bob, &text(3), at(3));
        let expected: Vec<String> = [3, 2, 1, 0].into_iter().map(text).collect();
        assert_eq!(book.addresses(&bob), expected);
    }

    #[test]
    fn a_flood_replaces_failing_and_untried_peers_but_no_good_one() {
        let mut book = Book::default();
        for number in 0..PEERS_MAX {
            assert!(book.learn(node(number), &text(number), Source::Exchange, at(9)));
        }
        book.succeeded(&node(0), &text(0), at(9));
        book.failed(&node(7), &text(7), at(9));
        assert!(book.learn(node(5_000), &text(5_000), Source::Exchange, at(10)));
        assert_eq!(book.addresses(&node(7)), Vec::<String>::new());
        for number in 10_000..20_000 {
            book.learn(node(number), &text(number), Source::Exchange, at(11));
        }
        assert_eq!(book.len(), PEERS_MAX);
        assert_eq!(book.addresses(&node(0)), vec![text(0)]);
    }

    #[test]
    fn one_peer_keeps_few_addresses_and_a_hopeless_one_is_forgotten() {
        let (mut book, bob) = (Book::default(), node(1));
        for number in 0..100 {
            book.learn(bob, &text(number), Source::Hello, at(number as u64));
        }
        assert_eq!(book.addresses(&bob).len(), ADDRESSES_MAX);
        for address in book.addresses(&bob) {
            (0..FAILURES_MAX).for_each(|_| book.failed(&bob, &address, at(200)));
        }
        assert!(book.is_empty());

        book.learn(bob, &text(1), Source::Configured, at(0));
        (0..100).for_each(|_| book.failed(&bob, &text(1), at(1)));
        assert_eq!(book.addresses(&bob), vec![text(1)]);
    }

    #[test]
    fn only_addresses_that_we_reached_are_passed_on() {
        let mut book = Book::default();
        let private = "/ip4/10.0.0.9/tcp/4001";
        let (carol, dead, home, unseen) = (node(1), node(2), node(3), node(4));
        for (peer, text) in [
            (carol, text(1)),
            (dead, text(2)),
            (home, private.to_owned()),
            (unseen, text(4)),
        ] {
            book.learn(peer, &text, Source::Exchange, at(0));
        }
        book.succeeded(&carol, &text(1), at(1));
        book.succeeded(&dead, &text(2), at(1));
        book.failed(&dead, &text(2), at(2));
        book.succeeded(&home, private, at(1));
        let mut rng = Rng::new(1);
        assert_eq!(book.shareable(9, false, &mut rng), vec![(carol, text(1))]);
        assert_eq!(book.shareable(9, true, &mut rng).len(), 2);
        assert_eq!(book.shareable(0, true, &mut rng).len(), 0);
    }

    #[test]
    fn a_full_book_fits_its_bytes_and_damage_is_an_error() {
        let mut book = Book::default();
        for number in 0..PEERS_MAX * ADDRESSES_MAX {
            let long = format!("/dns/{number:0>240}/tcp/1");
            book.learn(
                node(number / ADDRESSES_MAX),
                &long,
                Source::Hello,
                at(u64::MAX / 1_000),
            );
        }
        let bytes = book.to_bytes();
        assert_eq!(Book::from_bytes(&bytes), Ok(book));
        assert!(Book::from_bytes(&bytes[1..]).is_err());
        assert!(Book::from_bytes(&[]).is_err());
    }

    #[test]
    fn peers_out_of_order_are_refused() {
        let mut book = Book::default();
        for number in 0..2 {
            book.learn(node(number), "/a", Source::Hello, at(1));
        }
        let mut stored: Vec<Stored> = book.peers.into_iter().map(Stored::from).collect();
        assert!(Book::from_bytes(&codec::encode(&stored)).is_ok());
        stored.reverse();
        assert!(Book::from_bytes(&codec::encode(&stored)).is_err());
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = Book::from_bytes(&bytes);
        }
    }
}
