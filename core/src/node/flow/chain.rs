//! A decided block becomes durable, then known.
//!
//! ```text
//! agreement: Decide ─┐
//! sync: Apply ───────┴─► certificate and rules checked ─► applied in memory ─► Append
//!                        ─► durable ─► tip announced, head signed, next height may start
//! ```
//!
//! A crash before `Append` is durable loses only what nobody was told; the block comes again from
//! the WAL or from a peer.

use std::sync::Arc;

use crate::base::{NodeId, Time, WallTime};
use crate::net::Protocol;
use crate::node::event::Event;
use crate::node::flow::engine::Engine;
use crate::node::flow::interface::{Effect, Vault};
use crate::node::flow::recent::{WAITING_MAX, Waiting};
use crate::proto::chain::{Certificate, CheckedBlock};
use crate::proto::log::entry::Entry;
use crate::proto::sync::{self, Decided};
use crate::proto::{build, heads, hello};

impl<V: Vault> Engine<V> {
    pub(super) fn sync(&mut self, now: Time, wall: WallTime, input: sync::Input) {
        let mut effects = Vec::new();
        self.sync.handle(now, input, &mut effects);
        self.sync_effects(now, wall, effects);
    }

    pub(super) fn sync_effects(&mut self, now: Time, wall: WallTime, effects: Vec<sync::Effect>) {
        for effect in effects {
            match effect {
                sync::Effect::Send { peer, request } => {
                    let message = sync::Message::GetBlocks(request);
                    self.send(peer, Protocol::Sync, message.to_bytes());
                }
                sync::Effect::Apply { peer, blocks } => {
                    self.to_apply
                        .extend(blocks.into_iter().map(|it| (peer, it)));
                }
                sync::Effect::Blame { peer, fault } => self.fault(now, peer, fault.to_string()),
                sync::Effect::Slow { peer } => self.scores.slow(now, peer),
                sync::Effect::Turned(state) => {
                    if state == sync::State::Live {
                        self.out.push(Effect::Event(Event::Live));
                    }
                }
            }
        }
        self.apply_received(now, wall);
    }

    /// Applies blocks of peers, as long as the disk keeps up.
    pub(super) fn apply_received(&mut self, now: Time, wall: WallTime) {
        if self.is_applying {
            return; // Called again from below; the loop there goes on.
        }
        self.is_applying = true;
        while self.recent.len() < WAITING_MAX
            && let Some((peer, decided)) = self.to_apply.pop_front()
        {
            let height = decided.block.height();
            let expected = self.chain.height() + 1;
            if height == expected
                && let Err(reason) = self.apply_decided(now, wall, decided)
            {
                tracing::debug!(%peer, height, reason, "a block does not stand");
                self.to_apply.clear();
                self.sync(now, wall, sync::Input::Rejected { peer, height });
            }
        }
        self.is_applying = false;
    }

    fn apply_decided(&mut self, now: Time, wall: WallTime, it: Decided) -> Result<(), String> {
        let (chain, members) = (self.chain.chain(), self.chain.members());
        it.certificate
            .verify(chain, &it.block.header, members)
            .map_err(|error| error.to_string())?;
        let checked = self.rules().check_decided(&it.block);
        let checked = checked.map_err(|error| error.to_string())?;
        self.apply(now, wall, checked, it.certificate);
        Ok(())
    }

    /// Takes a block that was decided and checked.
    pub(super) fn apply(
        &mut self,
        now: Time,
        wall: WallTime,
        block: CheckedBlock,
        certificate: Certificate,
    ) {
        let members = self.chain.members().clone();
        let height = block.block().height();
        let entries: Arc<[Entry]> = block.leaves().map(|it| it.entry.clone()).collect();
        self.chain = block.next().clone();
        self.recent
            .push(Waiting::new(&self.origin, &block, entries.clone()));
        self.out.push(Effect::Append {
            block: Box::new(block),
            certificate,
        });

        if *self.chain.members() != members {
            self.members_changed(now, wall);
        }
        self.pool_committed(now, wall, &entries);
        self.agreement_applied(height);
        self.sync(now, wall, sync::Input::Applied { height });
    }

    fn members_changed(&mut self, now: Time, wall: WallTime) {
        let members = self.chain.members().clone();
        self.hello.local_mut().authorized = members.by_node(&self.me).is_some();
        self.builds(now, wall, build::Input::MembersChanged(members.clone()));
        self.pool_members(now, wall, members.clone());
        self.dial_members(now, &members);
        self.part_from_strangers(now, wall);
        self.out.push(Effect::Members(members));
    }

    /// The store says that everything up to `height` is durable.
    pub(super) fn appended(&mut self, now: Time, wall: WallTime, height: u64) {
        let mut newest = None;
        while let Some(block) = self.recent.pop_durable(height) {
            self.out.push(Effect::Event(Event::Committed {
                height: block.height,
                block: block.id,
                size: block.head.size,
            }));
            // People hear of a commit when they can read it.
            let (first_index, entries) = (block.first_index, block.entries.clone());
            newest = Some(block);
            self.builds(
                now,
                wall,
                build::Input::Committed {
                    first_index,
                    entries,
                },
            );
        }
        let Some(block) = newest else {
            return;
        };
        self.hello(now, wall, hello::Input::Committed);
        // While catching up every head but the last is history: members sign only what is new.
        let (head, members) = (block.head, block.members);
        self.heads(now, heads::Input::Committed { head, members });
        self.apply_received(now, wall);
        self.start_height(now, wall);
    }

    /// Whether a peer is one of the authorized nodes.
    pub(super) fn is_member(&self, peer: &NodeId) -> bool {
        self.chain.members().by_node(peer).is_some()
    }
}
