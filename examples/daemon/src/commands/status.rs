//! `kogge status`: how the node stands.

use kogge::Status;
use serde_json::Value;

use crate::Session;
use crate::failure::Failure;
use crate::text::{Fields, ago, bytes, count, short, span};

/// Shows the status.
///
/// # Errors
///
/// [`Failure`] if there is no daemon.
pub(crate) async fn run(session: &Session) -> Result<(), Failure> {
    let client = session.daemon()?;
    let value: Value = client.get("/status").await?;
    let status = serde_json::from_value(value.clone());
    let status: Status = status.map_err(|it| Failure::new("version", it.to_string()))?;
    session.output.show(&value, render(&status, session.now()))
}

/// The status for people.
pub(crate) fn render(status: &Status, now: u64) -> String {
    let mut fields = Fields::default();
    let age = span(now.saturating_sub(status.started.as_millis()));
    let ready = if status.ready { "ready" } else { "starting" };
    let node = short(&status.node.to_string());
    fields.add(
        "node",
        format!("{node}, kogge {}, {ready}, up {age}", status.version),
    );
    network(&mut fields, status);
    log(&mut fields, status, now);
    if let Some(it) = &status.consensus {
        let connected = format!(
            "{} of {} authorized nodes connected",
            it.connected,
            status.network.members.len()
        );
        match (&it.waiting, it.height) {
            (Some(waiting), _) => fields.add("agreement", format!("waits: {waiting}")),
            (None, Some(height)) => {
                fields.add("agreement", format!("decides block {height}, {connected}"))
            }
            (None, None) => fields.add("agreement", format!("idle, {connected}")),
        }
    }
    fields.add("peers", format!("{} connected", status.peers));
    let (store, moved) = (&status.store, &status.transfer);
    let pinned = if store.pinned == 0 {
        String::new()
    } else {
        format!(", {} pinned", bytes(store.pinned))
    };
    fields.add(
        "store",
        format!(
            "{}, {} of {}{pinned}",
            count(store.artifacts, "artifact"),
            bytes(store.bytes),
            bytes(store.quota)
        ),
    );
    fields.add(
        "moved",
        format!(
            "{} from peers, {} to peers, {} from upstreams",
            bytes(moved.received),
            bytes(moved.sent),
            bytes(moved.upstream)
        ),
    );
    if 0 < moved.bad_proofs + moved.spurious {
        fields.add(
            "refused",
            format!(
                "{} with bad proofs, {} unasked",
                moved.bad_proofs, moved.spurious
            ),
        );
    }
    if 0 < status.builds_open {
        fields.add("builds", format!("{} open", status.builds_open));
    }
    for (at, address) in status.listen.iter().enumerate() {
        fields.add(if at == 0 { "listens" } else { "" }, address);
    }
    fields.render()
}

fn network(fields: &mut Fields, status: &Status) {
    let network = &status.network;
    fields.add(
        "network",
        format!(
            "{}, chain {}",
            network.name,
            short(&network.chain.to_string())
        ),
    );
    let role = match &network.me {
        Some(name) => format!("this node is authorized as {name}"),
        None => "this node is a regular node".to_owned(),
    };
    let members = count(network.members.len() as u64, "authorized node");
    fields.add("", format!("{members}, {} decide, {role}", network.quorum));
    fields.add("", tolerance(network.members.len(), network.faults_max));
}

/// What the number of authorized nodes means.
pub(crate) fn tolerance(members: usize, faults_max: usize) -> String {
    match (members, faults_max) {
        (1, _) => "solo: the log vouches for this node alone, nobody checks it".to_owned(),
        (_, 0) => "no authorized node may fail".to_owned(),
        (_, it) => format!("{it} of them may fail or lie"),
    }
}

fn log(fields: &mut Fields, status: &Status, now: u64) {
    let log = &status.log;
    let progress = if log.height < log.target {
        format!(" of {}", log.target)
    } else {
        String::new()
    };
    let (height, size) = (
        log.height,
        count(log.size, "leaf").replace("leafs", "leaves"),
    );
    fields.add(
        "log",
        format!("{}, block {height}{progress}, {size}", log.state),
    );
    match &log.checkpoint {
        Some(it) => fields.add(
            "",
            format!(
                "checkpoint of {} leaves by {}, {}",
                it.size,
                it.signers,
                ago(it.time.as_millis(), now)
            ),
        ),
        None => fields.add("", "no checkpoint yet"),
    }
}
