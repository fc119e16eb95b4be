//! What the swarm's task makes of the swarm's events.

use std::sync::PoisonError;

use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, gossipsub, identify, kad as libp2p_kad, ping};

use crate::base::NodeId;
use crate::net::behaviour::BehaviourEvent;
use crate::net::event::{DialFault, DownReason, IDENTIFIED_ADDRESSES_MAX, ListenFault, NetEvent};
use crate::net::frame::Payload;
use crate::net::gossip;
use crate::net::handle::{OBSERVED_MAX, OBSERVERS_MAX};
use crate::net::links::LinkEvent;
use crate::net::swarm::Task;
use crate::net::{fault, id, kad};
use crate::proto::heads::Verdict;

impl Task {
    pub(crate) fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Links(event)) => self.on_link(event),
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(event)) => self.on_gossip(event),
            SwarmEvent::Behaviour(BehaviourEvent::Kad(event)) => self.on_kad(event),
            SwarmEvent::Behaviour(BehaviourEvent::Identify(event)) => self.on_identify(event),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(event)) => self.on_ping(event),
            SwarmEvent::NewListenAddr { address, .. } => {
                self.with_listens(|it| it.push(address.clone()));
                self.emit(NetEvent::Listening { address }, None);
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => self.on_expired(address),
            SwarmEvent::ListenerClosed {
                listener_id,
                addresses,
                reason,
            } => {
                for address in addresses {
                    self.on_expired(address);
                }
                let address = self.listeners.remove(&listener_id);
                if let (Some(address), Err(error)) = (address, reason) {
                    let error = ListenFault::Failed {
                        address: address.clone(),
                        reason: error.to_string(),
                    };
                    self.emit(NetEvent::ListenFailed { address, error }, None);
                }
            }
            SwarmEvent::ListenerError { listener_id, error } => {
                // The listener goes on; mostly the system is out of descriptors for a while.
                let address = self.listeners.get(&listener_id).map(ToString::to_string);
                tracing::warn!(?address, %error, "cannot accept connections");
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                error,
                ..
            } => {
                if let Some(dial) = self.dials.remove(&connection_id) {
                    self.dial_failed(dial, fault::dial(&error));
                }
            }
            SwarmEvent::IncomingConnectionError {
                send_back_addr,
                error,
                ..
            } => tracing::debug!(address = %send_back_addr, %error, "connection refused"),
            SwarmEvent::ConnectionEstablished { .. } => self.count_connections(),
            SwarmEvent::ConnectionClosed {
                peer_id,
                num_established,
                ..
            } => {
                if num_established == 0 {
                    self.servers.leave(&peer_id);
                }
                self.count_connections();
            }
            _ => (),
        }
    }

    fn on_expired(&mut self, address: Multiaddr) {
        self.with_listens(|it| it.retain(|it| *it != address));
        self.emit(NetEvent::Expired { address }, None);
    }

    fn with_listens(&self, change: impl FnOnce(&mut Vec<Multiaddr>)) {
        let status = self.shared.status.lock();
        change(&mut status.unwrap_or_else(PoisonError::into_inner).listens);
    }

    fn count_connections(&self) {
        let connections = self.swarm.behaviour().links.connection_count();
        let status = self.shared.status.lock();
        status.unwrap_or_else(PoisonError::into_inner).connections = connections;
    }

    fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up {
                peer,
                connection,
                address,
                is_outbound,
            } => {
                self.dials.remove(&connection);
                tracing::debug!(%peer, %address, is_outbound, "link up");
                let event = NetEvent::Connected {
                    peer,
                    address,
                    is_outbound,
                };
                self.emit(event, Some(connection));
                let early = self.early.remove(&connection).unwrap_or_default();
                for event in early.identified.into_iter().chain(early.ping) {
                    self.emit(event, None);
                }
            }
            LinkEvent::Down { peer, reason } => {
                tracing::debug!(%peer, %reason, "link down");
                self.emit(NetEvent::Disconnected { peer, reason }, None);
            }
            LinkEvent::Unused { connection, reason } => {
                self.early.remove(&connection);
                if let Some(dial) = self.dials.remove(&connection) {
                    let fault = match reason {
                        DownReason::Replaced => DialFault::Duplicate,
                        reason => DialFault::NoLink(reason),
                    };
                    self.dial_failed(dial, fault);
                }
            }
        }
    }

    fn on_gossip(&mut self, event: gossipsub::Event) {
        let gossipsub::Event::Message {
            propagation_source,
            message,
            ..
        } = event
        else {
            return;
        };
        let read = self.topics.read(&message);
        let source = id::node_id(&propagation_source);
        let (Some((topic, id, author)), Some(source)) = (read, source) else {
            return;
        };
        let Some(permit) = self.gossip_room.take(message.data.len()) else {
            tracing::debug!(%source, ?topic, "gossip ignored: the program is behind");
            let gossip = &mut self.swarm.behaviour_mut().gossip;
            return gossip::judge(gossip, id, &source, Verdict::Ignore);
        };
        let event = NetEvent::Gossip {
            topic,
            id,
            source,
            author,
            bytes: Payload::new(message.data, permit),
        };
        self.emit(event, None);
    }

    fn on_kad(&mut self, event: libp2p_kad::Event) {
        use libp2p_kad::{Event, GetProvidersOk, QueryResult};
        let kad = &mut self.swarm.behaviour_mut().kad;
        let Event::OutboundQueryProgressed {
            id, result, step, ..
        } = event
        else {
            if let Event::RoutingUpdated { .. } = event {
                self.publisher.publish(kad);
            }
            return;
        };
        let mut told = Vec::new();
        if let QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })) =
            result
        {
            told.extend(providers.iter().filter_map(id::node_id));
            told.retain(|it| *it != self.shared.local);
        }
        self.publisher.on_answer(kad, &id, &told);
        if step.last {
            self.publisher.on_ended(kad, &id);
        }
        let Some(mut search) = self.queries.remove(&id) else {
            return;
        };
        told.retain(|it| search.found.insert(*it));
        let providers = told;
        let query = search.query;
        if !step.last {
            self.queries.insert(id, search);
        }
        if providers.is_empty() && !step.last {
            return;
        }
        let event = NetEvent::Providers {
            query,
            providers,
            is_last: step.last,
        };
        self.emit(event, None);
    }

    fn on_identify(&mut self, event: identify::Event) {
        let identify::Event::Received {
            connection_id,
            peer_id,
            mut info,
        } = event
        else {
            return;
        };
        let behaviour = self.swarm.behaviour_mut();
        let (Some(peer), Some((remote, is_live))) = (
            id::node_id(&peer_id),
            behaviour.links.remote_of(connection_id),
        ) else {
            return;
        };
        info.listen_addrs
            .retain(|it| kad::is_plausible(it, &remote));
        info.listen_addrs.truncate(IDENTIFIED_ADDRESSES_MAX);
        for address in &info.listen_addrs {
            behaviour.links.add_address(peer_id, address.clone());
        }
        if info.protocols.contains(&kad::NAME) && self.swarm.is_connected(&peer_id) {
            let (kad, addresses) = (
                &mut self.swarm.behaviour_mut().kad,
                info.listen_addrs.clone(),
            );
            self.servers.learn(kad, peer_id, addresses);
        }
        self.observe(peer, info.observed_addr.clone());
        let event = NetEvent::Identified {
            peer,
            agent: info.agent_version,
            listens: info.listen_addrs,
            observed: info.observed_addr,
        };
        if is_live {
            self.emit(event, None);
        } else {
            self.early.entry(connection_id).or_default().identified = Some(event);
        }
    }

    /// Counts `peer`'s word for `address`; its former word counts no longer.
    fn observe(&mut self, peer: NodeId, address: Multiaddr) {
        for (_, observers) in &mut self.observed {
            observers.remove(&peer);
        }
        let seen = self.observed.iter().position(|it| it.0 == address);
        let seen = seen.and_then(|at| self.observed.remove(at));
        let mut observers = seen.map(|it| it.1).unwrap_or_default();
        if observers.len() < OBSERVERS_MAX {
            observers.insert(peer);
        }
        self.observed.push_back((address, observers));
        if self.observed.len() > OBSERVED_MAX {
            self.observed.pop_front();
        }
        let counts = self.observed.iter().map(|(it, by)| (it.clone(), by.len()));
        let status = self.shared.status.lock();
        let mut status = status.unwrap_or_else(PoisonError::into_inner);
        status.observed = counts.filter(|it| it.1 > 0).collect();
    }

    fn on_ping(&mut self, event: ping::Event) {
        let links = &mut self.swarm.behaviour_mut().links;
        let is_answered = !matches!(event.result, Err(ping::Failure::Timeout));
        let Some(is_live) = links.on_ping(event.connection, is_answered) else {
            return;
        };
        let (Ok(rtt), Some(peer)) = (event.result, id::node_id(&event.peer)) else {
            return;
        };
        let told = NetEvent::Ping { peer, rtt };
        if is_live {
            self.emit(told, None);
        } else {
            self.early.entry(event.connection).or_default().ping = Some(told);
        }
    }
}
