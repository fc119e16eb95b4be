//! `kogge up`: the node in the foreground.

mod settings;
mod trace;

use std::process::ExitCode;
use std::time::Duration;

use async_signal::{Signal, Signals};
use futures_lite::{StreamExt, future};
use kogge::net::ListenFault;
use kogge::node::start::load_genesis;
use kogge::{Network, Node, Status};
use kogge_http::Http;
use serde_json::json;

use crate::Session;
use crate::commands::network::read_genesis;
use crate::commands::status::tolerance;
use crate::failure::{During, Failure};
use crate::files;
use crate::place::socket_in;
use crate::text::{Fields, count, short};

pub(crate) use settings::Args;

/// How long opening the ports may take before it is told as it is.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Time between two looks at the ports.
const LISTEN_POLL: Duration = Duration::from_millis(10);

/// The exit code after a second Ctrl-C: 128 and the signal's number, as shells count.
const CUT_OFF: i32 = 130;

/// Why the node ends.
enum End {
    /// A signal, the owner's wish, or the end of standard input.
    Asked,
    /// The node stopped by itself.
    Failed(String),
}

/// Runs the node until it is asked to stop.
///
/// # Errors
///
/// [`Failure`] if it cannot start, or stopped by itself.
pub(crate) async fn run(session: &Session, args: Args) -> Result<ExitCode, Failure> {
    let (mut config, http) = settings::apply(&args, &session.place)?;
    trace::start(args.log)?;
    socket_in(&config.data_dir)?;
    files::private_folder(&config.data_dir)?;
    let network = match &args.genesis {
        Some(path) => Network::Genesis(Box::new(read_genesis(path)?)),
        None => Network::StoredOrSolo,
    };
    let is_new = load_genesis(&config.data_dir)?.is_none();
    config
        .own_ports
        .extend(http.address.map(|it| it.port()).filter(|it| *it != 0));
    let mut signals =
        Signals::new([Signal::Int, Signal::Term]).during("cannot listen to signals")?;

    let node = Node::start(config, network).await?;
    let opened = async {
        let status = listening(&node).await?;
        Ok::<_, Failure>((Http::start(node.clone(), http)?, status))
    };
    let (http, status) = match opened.await {
        Ok(opened) => opened,
        Err(failure) => {
            node.shutdown().await;
            return Err(failure);
        }
    };
    tell(session, &node, &http, &status, is_new)?;

    let asked = async {
        signals.next().await;
        End::Asked
    };
    let wished = async {
        http.asked_to_stop().await;
        End::Asked
    };
    let stopped = async {
        let cause = node.stopped().await;
        End::Failed(cause.unwrap_or_else(|| "the node stopped".into()))
    };
    let parent = parent_left(args.until_eof);
    let end = future::or(future::or(asked, wished), future::or(stopped, parent)).await;
    session.output.note("stopping; Ctrl-C again ends at once");
    let closing = async {
        http.stop().await;
        node.shutdown().await;
    };
    let again = async {
        signals.next().await;
        std::process::exit(CUT_OFF);
    };
    future::or(closing, again).await;
    match end {
        End::Asked => Ok(ExitCode::SUCCESS),
        End::Failed(cause) => Err(Failure::new("stopped", cause)),
    }
}

/// Ends when standard input does, if that is wanted: so children end with a parent that died.
async fn parent_left(is_wanted: bool) -> End {
    if !is_wanted {
        return future::pending().await;
    }
    let (sender, ended) = async_channel::bounded::<()>(1);
    let read = move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        drop(sender);
    };
    std::thread::spawn(read);
    let _ = ended.recv().await;
    End::Asked
}

/// Waits until the node listens for peers.
async fn listening(node: &Node) -> Result<Status, Failure> {
    let wait = async {
        loop {
            let (status, problems) = (node.status(), node.listen_problems());
            let wanted = &node.config().listen;
            let open = wanted
                .iter()
                .filter(|it| is_open(it, &status.listen))
                .count();
            if status.ready && wanted.len() <= open + problems.len() {
                return (status, problems);
            }
            async_io::Timer::after(LISTEN_POLL).await;
        }
    };
    let late = async {
        async_io::Timer::after(LISTEN_TIMEOUT).await;
        (node.status(), node.listen_problems())
    };
    let stopped = async { Err(node.stopped().await) };
    let outcome = future::or(async { Ok(future::or(wait, late).await) }, stopped).await;
    let (status, problems) = outcome.map_err(|cause| {
        let cause = cause.unwrap_or_else(|| "the node stopped".into());
        Failure::new("stopped", cause)
    })?;
    let is_taken = |it: &&ListenFault| matches!(it, ListenFault::PortTaken(_));
    let fatal = problems.iter().find(is_taken);
    match fatal.or(problems.first().filter(|_| status.listen.is_empty())) {
        Some(problem) => Err(Failure::new("listen", problem.to_string())),
        // One family of addresses that the system lacks is no reason not to run.
        None => Ok(status),
    }
}

/// Whether one of the addresses `open` belongs to the configured address `wanted`: of the same
/// family and with the same port, if that was given.
fn is_open(wanted: &str, open: &[String]) -> bool {
    let part = |address: &str, at: usize| address.split('/').nth(at).unwrap_or_default().to_owned();
    let (family, port) = (part(wanted, 1), part(wanted, 4));
    open.iter()
        .any(|it| part(it, 1) == family && (port == "0" || port.is_empty() || part(it, 4) == port))
}

fn tell(
    session: &Session,
    node: &Node,
    http: &Http,
    status: &Status,
    is_new: bool,
) -> Result<(), Failure> {
    let network = &status.network;
    let address = http.address();
    let url = address.map(|it| format!("http://{it}"));
    let value = json!({
        "node": status.node, "peer_id": status.peer_id, "ready": status.ready,
        "network": network, "listen": status.listen, "http": url,
        "socket": http.socket(), "data_dir": node.data_dir(),
    });
    let mut fields = Fields::default();
    match &url {
        Some(url) => {
            fields.add("images", format!("{url}/v2/"));
            fields.add("maven", format!("{url}/maven2/"));
            fields.add("status", format!("{url}/status"));
        }
        None => fields.add("http", "off"),
    }
    for (at, it) in status.listen.iter().enumerate() {
        fields.add(if at == 0 { "peers" } else { "" }, it);
    }
    if let Some(socket) = http.socket() {
        fields.add("socket", socket.display().to_string());
    }
    let role = network.me.as_ref().map_or_else(
        || "a regular node".to_owned(),
        |it| format!("authorized as {it}"),
    );
    let members = network.members.len();
    fields.add("network", format!("{}, this node is {role}", network.name));
    let decide = count(members as u64, "authorized node");
    fields.add(
        "",
        format!("{decide}; {}", tolerance(members, network.faults_max)),
    );
    let log = &status.log;
    fields.add(
        "log",
        format!("block {}, {} leaves, {}", log.height, log.size, log.state),
    );
    let (node, version) = (short(&status.node.to_string()), &status.version);
    let text = format!(
        "kogge {version} is up: node {node}\n\n{}\n{}\n",
        fields.render(),
        next_steps(&url, members, is_new)
    );
    session.output.show(&value, text)
}

/// What the user might do next.
fn next_steps(url: &Option<String>, members: usize, is_new: bool) -> String {
    let mut lines = Vec::new();
    if members == 1 {
        lines.push(
            "This network is solo: its log shows what this node fetched; no other node checks it."
                .to_owned(),
        );
    }
    if members == 1 && is_new {
        lines.push("To join a network: `kogge network join <genesis or http://node>` with another --data-dir.".into());
    }
    lines.push("Next, in another terminal:".into());
    lines.push("  kogge build docker library/alpine:3.20    add an image to the log".into());
    lines.push("  kogge doctor                              look for problems".into());
    if let Some(host) = url.as_ref().and_then(|it| it.strip_prefix("http://")) {
        lines.push(format!("  docker pull {host}/library/alpine:3.20"));
    }
    lines.push("Ctrl-C stops the node.".into());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_address_is_open_if_its_port_is() {
        let open = ["/ip4/127.0.0.1/tcp/7878/p2p/x".to_owned()];
        for (wanted, expected) in [
            ("/ip4/0.0.0.0/tcp/7878", true),
            ("/ip4/127.0.0.1/tcp/0", true),
            ("/ip4/0.0.0.0/tcp/7879", false),
            ("/ip6/::/tcp/7878", false),
        ] {
            assert_eq!(is_open(wanted, &open), expected, "{wanted}");
        }
    }

    #[test]
    fn a_solo_network_says_what_it_is() {
        let url = Some("http://127.0.0.1:7888".to_owned());
        let text = next_steps(&url, 1, true);
        assert!(
            text.contains("solo") && text.contains("docker pull 127.0.0.1:7888/"),
            "{text}"
        );
        assert!(!next_steps(&url, 4, true).contains("solo"));
    }
}
