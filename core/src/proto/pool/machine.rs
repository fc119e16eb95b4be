//! The pool: what waits for a block, on every node. Regular nodes pass on what they hear.
//!
//! ```text
//! Submit ──► short: Gossip(Group)   long: Gossip(Attests) ──► members ask one who attested: Want
//! a quorum of attestations and the entries ──► eligible ──► block ──► Committed
//! Connected ──► SendTo(Have) ──► the peer sends what this node lacks, and the other way round
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{ChainId, NodeId, Subject, Time, WallTime};
use crate::proto::chain::build::Rejected;
use crate::proto::chain::consent::Consent;
use crate::proto::chain::member::MemberSet;
use crate::proto::chain::rules::RuleError;
use crate::proto::log::entry::{Attest, Entry, Mark, package_subject};
use crate::proto::pool::changes::Changes;
use crate::proto::pool::group::{Group, GroupError};
use crate::proto::pool::groups::Groups;
use crate::proto::pool::intake::Taken;
use crate::proto::pool::message::{
    ATTESTS_MAX, Change, HAVE_MAX, Have, Kept, Marks, PoolError, PoolMessage, Ready, WANT_MAX,
};

/// Longest group that travels by gossip. Unit: bytes of its entries. Of longer ones only the
/// attestations do; whoever proposes asks for the entries once.
pub const NOTICE_BYTES_MAX: usize = 4_200;

/// Most peers that are served; beyond it peers are not told what waits here.
pub const PEERS_MAX: usize = 1_024;

/// Most bytes of groups that one peer gets in [`SERVE_INTERVAL`]. Unit: bytes. What is beyond it is
/// not sent; the peer asks again, or somebody else.
pub const SERVE_BYTES_MAX: usize = 16 << 20;

/// See [`SERVE_BYTES_MAX`].
pub const SERVE_INTERVAL: Duration = Duration::from_secs(10);

/// Shortest time between two lists of one peer that are answered.
pub const HAVE_INTERVAL: Duration = Duration::from_secs(30);

/// What happens to the pool.
#[derive(Clone, Debug)]
pub enum Input {
    /// This node got a result: entries, then its attestation.
    Submit(Vec<Entry>),
    /// The owner of this authorized node consents to a change.
    Mark(Change, Mark),
    /// This candidate has followed the log.
    Ready(Ready),
    /// A change that waited when the node stopped.
    Restored {
        /// The change with its consent.
        marks: Marks,
        /// The member whose admin began it.
        owner: NodeId,
        /// How much longer it waits.
        left: Duration,
    },
    /// A message came, by gossip or directly; `from` is the connected peer that delivered it.
    Received {
        /// The peer.
        from: NodeId,
        /// The message, as [`PoolMessage::from_bytes`] read it.
        message: PoolMessage,
    },
    /// The authorized nodes are others from now on.
    MembersChanged(MemberSet),
    /// A block was applied; its entries, the seal may be among them.
    Committed(Arc<[Entry]>),
    /// The rules left a group from [`Pool::eligible`] out of a block.
    Rejected(Rejected),
    /// A peer is connected, and neither side is catching up with the log.
    Connected(NodeId),
    /// A peer is gone.
    Disconnected(NodeId),
}

/// What a received message was worth.
pub type Judgement = crate::proto::judgement::Judgement<PoolError>;

/// Why what this node's owner gave was not taken.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Not a group.
    #[error("the submission is malformed: {0}")]
    Group(#[from] GroupError),
    /// A signature does not stand.
    #[error("the submission is refused: {0}")]
    Signature(#[from] PoolError),
    /// Known, in the log, of a node that is not authorized, or there is no room.
    #[error("the submission is not new, this node is not authorized, or the pool is full")]
    NotTaken,
}

/// What the shell does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Publish by gossip.
    Gossip(PoolMessage),
    /// Send to a connected peer.
    SendTo(NodeId, PoolMessage),
    /// What a received message was worth; exactly one for each.
    Judge(NodeId, Judgement),
    /// What the owner gave was not taken.
    Refused(Refusal),
    /// There is something for a block, after there was nothing.
    Eligible,
}

/// A connected peer.
#[derive(Clone, Debug, Default)]
struct Peer {
    /// Start of the interval, and bytes served in it.
    served: (Time, usize),
    /// When its last list was answered.
    answered: Option<Time>,
}

/// What waits for a block.
#[derive(Debug)]
pub struct Pool {
    members: MemberSet,
    groups: Groups,
    changes: Changes,
    peers: BTreeMap<NodeId, Peer>,
    was_eligible: bool,
}

impl Pool {
    /// An empty pool of `node` on `chain`.
    pub fn new(chain: ChainId, node: NodeId, members: MemberSet) -> Self {
        Self {
            groups: Groups::new(chain, node, members.clone()),
            changes: Changes::new(chain, members.clone()),
            members,
            peers: BTreeMap::new(),
            was_eligible: false,
        }
    }

    /// What a block may hold: changes, then groups in the order in which they came, as far as they
    /// fit. A group that does not fit is left out; smaller ones after it are not. Units: bytes and
    /// number of all entries together.
    pub fn eligible(&self, bytes_max: usize, entries_max: usize) -> Vec<Vec<Entry>> {
        let (mut bytes_left, mut entries_left) = (bytes_max, entries_max);
        let changes = self.changes.eligible().map(|it| vec![it]);
        changes
            .chain(self.groups.eligible())
            .filter(|group| {
                let bytes: usize = group.iter().map(|it| it.to_bytes().len()).sum();
                let fits = bytes <= bytes_left && group.len() <= entries_left;
                if fits {
                    bytes_left -= bytes;
                    entries_left -= group.len();
                }
                fits
            })
            .collect()
    }

    /// Whether there is something for a block.
    pub fn has_eligible(&self) -> bool {
        self.groups.has_eligible() || self.changes.has_eligible()
    }

    /// Whether a quorum attests something, even if its entries are not here yet: some member will
    /// propose it.
    pub fn knows_quorum(&self) -> bool {
        self.groups.knows_quorum() || self.has_eligible()
    }

    /// Whether this very attestation was checked; spares the rules the check of its signature.
    pub fn is_verified(&self, attest: &Attest) -> bool {
        self.groups.is_verified(attest)
    }

    /// Whether an admin has marked this node as a candidate; it then keeps giving
    /// [`Input::Ready`].
    pub fn is_candidate(&self, node: &NodeId) -> bool {
        self.changes.is_candidate(node)
    }

    /// The changes that wait for consent.
    pub fn changes(&self) -> impl Iterator<Item = Marks> {
        self.changes.list()
    }

    /// The same to store: unlike groups, nobody makes them again after a restart. They come back by
    /// [`Input::Restored`].
    pub fn kept(&self, now: Time, wall: WallTime) -> impl Iterator<Item = Kept> {
        self.changes
            .kept(now)
            .map(move |(marks, owner, left)| Kept {
                marks,
                owner,
                until: wall + left,
            })
    }

    /// Whether [`Pool::kept`] is another list than at the last call: time to store it.
    pub fn take_changed(&mut self) -> bool {
        self.changes.take_changed()
    }

    /// Number of waiting groups.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether no group waits.
    pub fn is_empty(&self) -> bool {
        self.groups.len() == 0
    }

    /// Length of the entries of all waiting groups. Unit: bytes.
    pub fn bytes(&self) -> usize {
        self.groups.bytes()
    }

    /// Takes an input.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Submit(entries) => {
                if let Err(error) = self.submit(now, entries, out) {
                    out.push(Effect::Refused(error));
                }
            }
            Input::Mark(change, mark) => self.mark(now, change, mark, out),
            Input::Restored { marks, owner, left } => {
                self.changes.restore(now, marks, owner, left);
            }
            Input::Ready(ready) => {
                if self.changes.take_ready(&ready) {
                    out.push(Effect::Gossip(PoolMessage::Ready(ready)));
                }
            }
            Input::Received { from, message } => {
                let judgement = match self.receive(now, from, message, out) {
                    Ok(true) => Judgement::Accept,
                    Ok(false) => Judgement::Ignore,
                    Err(error) => Judgement::Reject(error),
                };
                out.push(Effect::Judge(from, judgement));
            }
            Input::MembersChanged(members) => {
                self.groups.set_members(members.clone());
                self.changes.set_members(members.clone());
                self.members = members;
            }
            Input::Committed(entries) => self.on_committed(now, &entries),
            Input::Rejected(rejected) => self.on_rejected(now, &rejected),
            Input::Connected(peer) => self.on_connected(now, peer, out),
            Input::Disconnected(peer) => {
                self.peers.remove(&peer);
            }
        }
        self.tell_eligible(out);
    }

    /// When [`Pool::expire`] has something to do.
    pub fn next_deadline(&self) -> Option<Time> {
        let deadlines = [self.groups.next_deadline(), self.changes.next_deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Forgets what waited too long, and asks for missing entries.
    pub fn expire(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.groups.expire(now);
        self.changes.expire(now);
        let peers = &self.peers;
        let mut wants: BTreeMap<NodeId, Vec<Subject>> = BTreeMap::new();
        for (peer, subject) in self.groups.asks(now, |it| peers.contains_key(it)) {
            wants.entry(peer).or_default().push(subject);
        }
        for (peer, subjects) in wants {
            let chunks = subjects.chunks(WANT_MAX).map(<[Subject]>::to_vec);
            out.extend(chunks.map(|it| Effect::SendTo(peer, PoolMessage::Want(it))));
        }
        self.tell_eligible(out);
    }

    fn tell_eligible(&mut self, out: &mut Vec<Effect>) {
        let is_eligible = self.has_eligible();
        if is_eligible && !self.was_eligible {
            out.push(Effect::Eligible);
        }
        self.was_eligible = is_eligible;
    }

    fn submit(
        &mut self,
        now: Time,
        entries: Vec<Entry>,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let group = Group::new(entries)?;
        let taken = self.groups.take_group(now, group.clone())?;
        let message = match taken {
            Taken::Entries if group.bytes_len() <= NOTICE_BYTES_MAX => PoolMessage::Group(group),
            Taken::Entries | Taken::Attests => PoolMessage::Attests(group.into_parts().1),
            Taken::Nothing => return Err(Refusal::NotTaken),
        };
        out.push(Effect::Gossip(message));
        Ok(())
    }

    fn mark(&mut self, now: Time, change: Change, mark: Mark, out: &mut Vec<Effect>) {
        let marks = Marks {
            change,
            marks: vec![mark],
            ready: None,
        };
        match self.changes.take_marks(now, marks.clone()) {
            Ok(true) => out.push(Effect::Gossip(PoolMessage::Marks(marks))),
            Ok(false) => out.push(Effect::Refused(Refusal::NotTaken)),
            Err(error) => out.push(Effect::Refused(error.into())),
        }
    }

    /// True if the message is worth passing on.
    fn receive(
        &mut self,
        now: Time,
        from: NodeId,
        message: PoolMessage,
        out: &mut Vec<Effect>,
    ) -> Result<bool, PoolError> {
        match message {
            PoolMessage::Attests(it) => Ok(self.groups.take_attests(now, it)? != Taken::Nothing),
            PoolMessage::Group(it) => Ok(self.groups.take_group(now, it)? != Taken::Nothing),
            PoolMessage::Marks(it) => self.changes.take_marks(now, it),
            PoolMessage::Ready(it) => Ok(self.changes.take_ready(&it)),
            PoolMessage::Have(it) => {
                self.answer(now, from, &it, out);
                Ok(false)
            }
            PoolMessage::Want(it) => {
                for subject in it {
                    if let Some(group) = self.groups.group(&subject) {
                        self.serve(now, from, group, out);
                    }
                }
                Ok(false)
            }
        }
    }

    fn on_connected(&mut self, now: Time, peer: NodeId, out: &mut Vec<Effect>) {
        if PEERS_MAX <= self.peers.len() && !self.peers.contains_key(&peer) {
            return;
        }
        self.peers.entry(peer).or_insert(Peer {
            served: (now, 0),
            answered: None,
        });
        let have = self.groups.have().take(HAVE_MAX).collect();
        out.push(Effect::SendTo(peer, PoolMessage::Have(have)));
        let changes = self.changes.list().map(PoolMessage::Marks);
        out.extend(changes.map(|it| Effect::SendTo(peer, it)));
    }

    /// Sends a peer what it lacks: entries if they are short or it proposes, else attestations.
    fn answer(&mut self, now: Time, peer: NodeId, theirs: &[Have], out: &mut Vec<Effect>) {
        let Some(state) = self.peers.get_mut(&peer) else {
            return;
        };
        if state.answered.is_some_and(|it| now < it + HAVE_INTERVAL) {
            return;
        }
        state.answered = Some(now);
        let theirs: BTreeMap<&Subject, &Have> = theirs.iter().map(|it| (&it.subject, it)).collect();
        let is_member = self.members.by_node(&peer).is_some();
        let mut attests = Vec::new();
        for ours in self.groups.have().collect::<Vec<_>>() {
            let theirs = theirs.get(&ours.subject);
            let is_whole = theirs.is_some_and(|it| it.is_whole);
            if ours.is_whole
                && !is_whole
                && let Some(group) = self.groups.group(&ours.subject)
                && (is_member || group.bytes_len() <= NOTICE_BYTES_MAX)
                && self.serve(now, peer, group, out)
            {
                continue;
            }
            if theirs.is_none_or(|it| it.signers != ours.signers) {
                attests.extend(self.groups.attests(&ours.subject).cloned());
            }
        }
        let chunks = attests.chunks(ATTESTS_MAX).map(<[Attest]>::to_vec);
        out.extend(chunks.map(|it| Effect::SendTo(peer, PoolMessage::Attests(it))));
    }

    /// Sends a group, if the peer has not had too much lately; true if so.
    fn serve(&mut self, now: Time, peer: NodeId, group: Group, out: &mut Vec<Effect>) -> bool {
        let Some(state) = self.peers.get_mut(&peer) else {
            return false;
        };
        if state.served.0 + SERVE_INTERVAL <= now {
            state.served = (now, 0);
        }
        if SERVE_BYTES_MAX < state.served.1 + group.bytes_len() {
            return false;
        }
        state.served.1 += group.bytes_len();
        out.push(Effect::SendTo(peer, PoolMessage::Group(group)));
        true
    }

    fn on_committed(&mut self, now: Time, entries: &[Entry]) {
        for entry in entries {
            match entry {
                Entry::Attest(it) => self.groups.finish(now, it.subject),
                Entry::AddNode(it) => self.changes.finish(&Consent::from(&**it)),
                Entry::RemoveNode(it) => self.changes.finish(&Consent::from(it)),
                Entry::RemoveArtifact(it) => self.changes.finish(&Consent::from(it)),
                Entry::AddArtifact(_) | Entry::BindTag(_) | Entry::Seal(_) => {}
            }
        }
        self.groups.unblock();
        self.changes.unblock();
    }

    fn on_rejected(&mut self, now: Time, rejected: &Rejected) {
        let is_final = is_final(&rejected.error);
        let mut change = |consent: Consent<'_>, stale| {
            if is_final {
                self.changes.finish(&consent);
            } else {
                self.changes.block(&consent, stale);
            }
        };
        let subject = match rejected.group.first() {
            Some(Entry::AddNode(it)) => {
                let is_stale = matches!(rejected.error, RuleError::Ready(_));
                change(
                    Consent::from(&**it),
                    is_stale.then_some(&it.ready_signature),
                );
                return;
            }
            Some(Entry::RemoveNode(it)) => return change(Consent::from(it), None),
            Some(Entry::RemoveArtifact(it)) => return change(Consent::from(it), None),
            Some(Entry::AddArtifact(_)) => {
                package_subject(rejected.group.iter().filter_map(|it| match it {
                    Entry::AddArtifact(it) => Some(&**it),
                    _ => None,
                }))
            }
            Some(Entry::BindTag(it)) => it.subject(),
            Some(Entry::Attest(_) | Entry::Seal(_)) | None => return,
        };
        match rejected.error {
            _ if is_final => self.groups.finish(now, subject),
            RuleError::Stale(bound) => self.groups.drop_until(now, subject, bound),
            _ => self.groups.block(now, subject),
        }
    }
}

/// Whether the rules would refuse the same thing after any further block, too.
fn is_final(error: &RuleError) -> bool {
    match error {
        RuleError::MembersChanged
        | RuleError::Repeated(_)
        | RuleError::Quorum { .. }
        | RuleError::Stranger(_)
        | RuleError::Members(_)
        | RuleError::Taken(_)
        | RuleError::RetiredFull
        | RuleError::Ready(_)
        | RuleError::Builder(_)
        | RuleError::Stale(_)
        | RuleError::Premature(_)
        | RuleError::NoArtifact(_)
        // These are about a whole block.
        | RuleError::Parent
        | RuleError::Early(_)
        | RuleError::Ahead(_)
        | RuleError::Header(_) => false,
        RuleError::Empty
        | RuleError::Entries(_)
        | RuleError::Bytes { .. }
        | RuleError::Entry { .. }
        | RuleError::Stray(_)
        | RuleError::Purl(_)
        | RuleError::Tag(_)
        | RuleError::Files(_)
        | RuleError::AlreadyLogged(_)
        | RuleError::Conflict { .. }
        | RuleError::Unsorted
        | RuleError::Subject
        | RuleError::Signature(_)
        | RuleError::Publication(_)
        | RuleError::Retired(_) => true,
    }
}
