//! Signatures on heads that we have not reached.

use std::collections::BTreeMap;

use crate::base::NodeId;
use crate::proto::chain::MemberSet;
use crate::proto::chain::rules::ENTRIES_MAX;
use crate::proto::heads::machine::{Fault, Verdict};
use crate::proto::heads::message::HeadMessage;
use crate::proto::log::checkpoint::Checkpoint;

/// Heads further ahead are ignored: whoever is so far behind asks for the signatures once it has
/// caught up. Unit: leaves; 64 full blocks.
const AHEAD_LEAVES_MAX: u64 = 64 * ENTRIES_MAX as u64;

/// Early signatures of one member that are passed on before the log here grows; further ones are
/// ignored, so that a member cannot flood the network.
pub(super) const PASSED_MAX: u32 = 64;

/// The newest early signature of each member. They stand, but the head may be none of the log.
#[derive(Debug, Default)]
pub(super) struct Early(BTreeMap<NodeId, Kept>);

#[derive(Debug)]
struct Kept {
    message: HeadMessage,
    /// Signatures of this member since the log grew.
    passed: u32,
}

impl Early {
    /// Takes a signature on a head beyond `reached` if it is a member's newest and stands.
    ///
    /// # Errors
    ///
    /// [`Fault`] of the signer, if it contradicts itself.
    pub(super) fn take(
        &mut self,
        origin: &str,
        members: &MemberSet,
        reached: u64,
        message: HeadMessage,
    ) -> Result<Verdict, Fault> {
        let node = message.signature.node;
        let Some(member) = members.by_node(&node) else {
            return Ok(Verdict::Ignore); // A stranger, or a member of a later set.
        };
        let known = self.0.get(&node);
        let newest = |it: &HeadMessage| (it.size, it.signature.secs);
        let contradicts = known.is_some_and(|it| it.message.contradicts(&message));
        let is_old = known.is_some_and(|it| newest(&message) <= newest(&it.message));
        let passed = known.map_or(0, |it| it.passed);
        let is_far = reached.saturating_add(AHEAD_LEAVES_MAX) < message.size;
        if is_far || PASSED_MAX <= passed || is_old && !contradicts {
            return Ok(Verdict::Ignore);
        }
        if message.verify(origin, member).is_err() {
            return Ok(Verdict::Reject);
        }
        if contradicts {
            return Err(Fault::Contradiction { size: message.size });
        }
        let passed = passed + 1;
        self.0.insert(node, Kept { message, passed });
        Ok(Verdict::Accept)
    }

    /// The log has reached `head`, which `members` sign: returns the signatures on heads of that
    /// size, and forgets those that are older or of others.
    pub(super) fn reach(&mut self, head: &Checkpoint, members: &MemberSet) -> Vec<HeadMessage> {
        let mut reached = Vec::new();
        self.0.retain(|node, it| {
            it.passed = 0;
            if it.message.size == head.size {
                reached.push(it.message.clone());
            }
            head.size < it.message.size && members.by_node(node).is_some()
        });
        reached
    }
}
