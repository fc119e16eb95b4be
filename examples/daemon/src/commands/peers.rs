//! `kogge peers`: who is connected, and who was turned away.

use kogge::PeerStatus;
use serde_json::Value;

use crate::Session;
use crate::failure::Failure;
use crate::text::{Table, bytes, short};

/// Shows the peers.
///
/// # Errors
///
/// [`Failure`] if there is no daemon.
pub(crate) async fn run(session: &Session) -> Result<(), Failure> {
    let value: Value = session.daemon()?.get("/api/peers").await?;
    let peers = serde_json::from_value(value.clone());
    let peers: Vec<PeerStatus> = peers.map_err(|it| Failure::new("version", it.to_string()))?;
    session.output.show(&value, render(&peers))
}

fn render(peers: &[PeerStatus]) -> String {
    let mut table = Table::new(&[
        "peer", "name", "state", "height", "rtt", "received", "sent", "address",
    ]);
    for it in peers {
        let state = match &it.reason {
            Some(reason) => format!("{}: {reason}", it.state),
            None => it.state.clone(),
        };
        table.row([
            short(&it.node.to_string()),
            it.member.clone().unwrap_or_else(|| "-".into()),
            state,
            it.height.map_or_else(|| "-".into(), |it| it.to_string()),
            it.rtt_us.map_or_else(|| "-".into(), rtt),
            bytes(it.received),
            bytes(it.sent),
            it.address.clone().unwrap_or_else(|| "-".into()),
        ]);
    }
    if table.is_empty() {
        return "no peers; name some in `peers` of the configuration, or with `kogge up --peer`\n"
            .into();
    }
    table.render()
}

fn rtt(micros: u64) -> String {
    format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100)
}
