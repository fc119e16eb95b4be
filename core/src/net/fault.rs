//! libp2p's errors in our words.

use std::error::Error;
use std::io;

use libp2p::core::transport::TransportError;
use libp2p::swarm::DialError;
use libp2p::{Multiaddr, PeerId};

use crate::net::event::{DialFault, ListenFault};
use crate::net::id;
use crate::net::socket::PORT_TAKEN;

/// Why we do not listen on `address`.
pub(crate) fn listen(address: &Multiaddr, error: TransportError<io::Error>) -> ListenFault {
    let address = address.clone();
    match error {
        TransportError::MultiaddrNotSupported(_) => ListenFault::Unsupported(address),
        TransportError::Other(error) if error.to_string().contains(PORT_TAKEN) => {
            ListenFault::PortTaken(address)
        }
        TransportError::Other(error) => ListenFault::Failed {
            address,
            reason: chain(&error),
        },
    }
}

/// Why a dial failed.
pub(crate) fn dial(error: &DialError) -> DialFault {
    match error {
        DialError::LocalPeerId { .. } => DialFault::Ourselves,
        DialError::NoAddresses => DialFault::NoAddress,
        DialError::DialPeerConditionFalse(_) => DialFault::Duplicate,
        DialError::Aborted => DialFault::Failed("given up".into()),
        DialError::WrongPeerId { obtained, .. } => DialFault::WrongPeer(name(obtained)),
        DialError::Denied { cause } => DialFault::Refused(chain(cause)),
        DialError::Transport(errors) => {
            let describe = |(address, error): &(Multiaddr, TransportError<io::Error>)| match error {
                TransportError::MultiaddrNotSupported(_) => {
                    format!("{address}: want an address with a TCP port")
                }
                TransportError::Other(error) => format!("{address}: {}", chain(error)),
            };
            DialFault::Failed(errors.iter().map(describe).collect::<Vec<_>>().join("; "))
        }
    }
}

/// Our name for `peer`, or libp2p's if it is no node of ours.
fn name(peer: &PeerId) -> String {
    id::node_id(peer).map_or_else(|| peer.to_string(), |it| it.to_string())
}

/// An error with its causes, each told once.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(it) = cause {
        let told = it.to_string();
        if !text.contains(&told) {
            text = format!("{text}: {told}");
        }
        cause = it.source();
    }
    text
}
