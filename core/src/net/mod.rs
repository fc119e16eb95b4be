//! The libp2p shell: transports, swarm, streams, gossip, provider records.
