//! Carrying out what the engine wants, in order.

use crate::node::event::Event;
use crate::node::flow::{Effect, Input};
use crate::node::run::{Fatal, Internal, Loop};
use crate::proto::log::checkpoint::Checkpoint;

impl Loop {
    /// Carries out what the engine wants.
    ///
    /// # Errors
    ///
    /// Why the node cannot go on.
    pub(crate) async fn perform(&mut self) -> Result<(), Fatal> {
        let mut records = Vec::new();
        loop {
            let effects = self.engine.take();
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                if let Effect::Wal(record) = effect {
                    records.push(record);
                    continue;
                }
                // What tells others waits until what it rests on is durable.
                if !records.is_empty() && !matches!(effect, Effect::Event(_)) {
                    self.write_wal(None, std::mem::take(&mut records)).await?;
                }
                self.effect(effect).await?;
            }
        }
        if records.is_empty() {
            Ok(())
        } else {
            self.write_wal(None, records).await
        }
    }

    async fn write_wal(&mut self, reset: Option<u64>, records: Vec<Vec<u8>>) -> Result<(), Fatal> {
        let Some(mut wal) = self.wal.take() else {
            return Err("the consensus journal is not open".into());
        };
        let write = move || {
            let written = reset.map_or(Ok(()), |height| wal.reset(height));
            let written = written.and_then(|()| records.iter().try_for_each(|it| wal.append(it)));
            let written = written.and_then(|()| wal.sync());
            (wal, written)
        };
        let (wal, written) = self.pool.run(write).await.map_err(|it| it.to_string())?;
        self.wal = Some(wal);
        written.map_err(|error| format!("the consensus journal: {error}"))
    }

    #[expect(clippy::too_many_lines, reason = "one match shows every effect")]
    async fn effect(&mut self, effect: Effect) -> Result<(), Fatal> {
        match effect {
            Effect::Send {
                peer,
                protocol,
                bytes,
            } => {
                if let Err(error) = self.net.send(peer, protocol, bytes) {
                    self.hub.peers.tally.messages_dropped.add(1);
                    tracing::debug!(%peer, %protocol, %error, "not sent");
                }
            }
            Effect::Publish { topic, bytes } => {
                if let Err(error) = self.net.publish(topic, bytes) {
                    tracing::debug!(%error, "not published");
                }
            }
            Effect::Judge {
                id,
                source,
                verdict,
            } => {
                let _ = self.net.validate(id, source, verdict);
            }
            Effect::Admitted { peer, hello } => {
                self.hub.peers.tally.admitted.add(1);
                self.hub.admitted(peer);
                let _ = self.net.admit(peer);
                self.shared.admitted(peer, &hello);
            }
            Effect::Refuse { peer, rejection } => {
                tracing::debug!(%peer, %rejection, "refused");
                self.hub.peers.tally.refused.add(1);
                self.shared.refused(peer, rejection.to_string());
                self.hub.left(&peer);
                let _ = self.net.disconnect(peer);
            }
            Effect::Ban { peer, reason, time } => {
                tracing::warn!(%peer, reason, "banned");
                self.hub.peers.tally.banned.add(1);
                self.shared.banned(peer, reason);
                self.hub.left(&peer);
                let _ = self.net.ban(peer, time);
            }
            Effect::Dial {
                dial,
                peer,
                addresses,
            } => {
                if let Some(dial) = self.dials.start(&self.net, dial, peer, addresses) {
                    let input = Internal::Input(Input::DialFailed { dial });
                    let _ = self.internal.0.try_send(input);
                }
            }
            Effect::FetchBootstrap { url } => self.builder.fetch_bootstrap(url).await,
            Effect::Members(members) => {
                let is_member = members.by_node(&self.net.local()).is_some();
                self.builder.authorize(is_member);
                self.save_builds().await;
            }
            Effect::BuildChanged(status) => {
                if status.state.is_final() {
                    self.builder.over(status.id).await;
                }
                self.save_builds().await;
            }
            Effect::SaveChanges(changes) => self.save_changes(changes).await?,
            Effect::ResetWal(height) => self.write_wal(Some(height), Vec::new()).await?,
            Effect::Wal(_) => (),
            Effect::Append { block, certificate } => {
                let height = block.block().height();
                let (state, reply) = (block.next().to_bytes(), self.internal.0.clone());
                self.store
                    .chain()
                    .append(block.block(), &certificate, state, move |result| {
                        let _ = reply.send_blocking(match result {
                            Ok(()) => Internal::Input(Input::Appended { height }),
                            Err(error) => Internal::StoreFailed(error),
                        });
                    });
            }
            Effect::PersistHead(head) => self.persist_head(head).await,
            Effect::KeepCheckpoint {
                size,
                note,
                signers,
            } => {
                self.shared
                    .keep_checkpoint(size, &note, signers, self.clock.wall());
                let store = self.store.clone();
                let keep = move || {
                    if let Err(error) = store.chain().put_checkpoint(size, &note) {
                        tracing::error!(%error, "a checkpoint was not kept");
                    }
                };
                self.pool.detach(keep).await;
            }
            Effect::RunBuild { id, run, spec } => self.builder.run(id, run, spec).await,
            Effect::CancelBuild { id, run } => self.builder.cancel(id, run),
            Effect::Event(event) => {
                if matches!(event, Event::Committed { .. }) {
                    self.hub.committed();
                }
                self.shared.event(event);
            }
            Effect::Fatal(reason) => return Err(reason),
        }
        Ok(())
    }

    async fn persist_head(&self, head: Checkpoint) {
        let (store, reply) = (self.store.clone(), self.internal.0.clone());
        let persist = move || {
            let persisted = store.chain().persist_signed_head(head.size, head.root);
            let _ = reply.send_blocking(match persisted {
                Ok(()) => Internal::Input(Input::HeadPersisted(head)),
                Err(error) => Internal::StoreFailed(error),
            });
        };
        self.pool.detach(persist).await;
    }
}
