//! `kogge authorize`: the owner of an authorized node consents to changes of the network.

use std::path::Path;

use kogge::node::keys;
use kogge::proto::chain::member::Card;
use kogge::{NodeId, Status};
use serde_json::{Value, json};

use crate::Session;
use crate::client::Client;
use crate::failure::Failure;
use crate::files;
use crate::text::{Table, short};

/// Longest card. Unit: bytes.
const CARD_BYTES_MAX: u64 = 64 << 10;

/// What to do.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Command {
    /// Print this node's card, which others need to admit it
    Card {
        /// The name under which the node is to be known, such as node-1.example
        #[arg(long)]
        name: String,
    },
    /// Consent to the admission of a node
    Mark {
        /// File with its card, or the id of a node that waits for consent
        candidate: String,
    },
    /// Consent to the dismissal of an authorized node
    Remove {
        /// Its name or id
        node: String,
        /// Why; all who consent must give the same reason
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Consent to the withdrawal of an artifact: nodes stop serving it
    Withdraw {
        /// Index of its entry
        index: u64,
        /// Why; all who consent must give the same reason
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Show the changes that wait for consent
    List,
}

/// Consents to something, or shows what waits.
///
/// # Errors
///
/// [`Failure`] if this node is not authorized, or the change makes no sense.
pub(crate) async fn run(session: &Session, command: Command) -> Result<(), Failure> {
    let mark = match command {
        Command::Card { name } => return card(session, &name),
        Command::List => None,
        Command::Mark { candidate } => {
            let card = find_card(&session.daemon()?, &candidate).await?;
            Some(json!({"mark": "add-node", "card": card}))
        }
        Command::Remove { node, reason } => {
            let node = find_member(&session.daemon()?, &node).await?;
            Some(json!({"mark": "remove-node", "node": node, "reason": reason}))
        }
        Command::Withdraw { index, reason } => {
            Some(json!({"mark": "remove-artifact", "index": index, "reason": reason}))
        }
    };
    let client = session.daemon()?;
    let changes: Vec<Value> = match mark {
        None => client.get("/api/marks").await?,
        Some(mark) => {
            let Value::Array(changes) = client.post("/api/marks", &mark).await? else {
                return Err(Failure::new(
                    "version",
                    "the daemon answers with something unknown",
                ));
            };
            session.output.note("consent given");
            changes
        }
    };
    session.output.show(&changes, render(&changes))
}

/// Prints the card of this data directory; its keys are made if there are none.
///
/// # Errors
///
/// [`Failure`] if the keys cannot be had, or the name is malformed.
pub(crate) fn card(session: &Session, name: &str) -> Result<(), Failure> {
    let card = card_in(&session.place.data_dir, name)?;
    let json = serde_json::to_string_pretty(&card);
    let json = json.map_err(|it| Failure::new("io", it.to_string()))?;
    session
        .output
        .note("pass this on to those who make the network or admit nodes; it is not secret");
    session.output.show(&card, json + "\n")
}

/// The card of the data directory `folder`.
///
/// # Errors
///
/// [`Failure`] as for [`card`].
pub(crate) fn card_in(folder: &Path, name: &str) -> Result<Card, Failure> {
    files::private_folder(folder)?;
    let card = keys::load_or_create(folder)?.card(name);
    card.check().map_err(|it| Failure::input(it.to_string()))?;
    Ok(card)
}

/// Reads a card from a file.
///
/// # Errors
///
/// [`Failure`] if it does not stand.
pub(crate) fn read_card(path: &Path) -> Result<Card, Failure> {
    let bytes = files::read(path, CARD_BYTES_MAX)?;
    let fail =
        |problem: String| Failure::input(format!("{} is not a card: {problem}", path.display()));
    let card: Card = serde_json::from_slice(&bytes).map_err(|it| fail(it.to_string()))?;
    card.check().map_err(|it| fail(it.to_string()))?;
    Ok(card)
}

async fn find_card(client: &Client, candidate: &str) -> Result<Value, Failure> {
    let path = Path::new(candidate);
    if path.exists() || NodeId::from_hex(candidate).is_none() {
        return Ok(json!(read_card(path)?));
    }
    let changes: Vec<Value> = client.get("/api/marks").await?;
    let card = changes
        .iter()
        .map(|it| &it["card"])
        .find(|it| it["member"]["node"] == candidate);
    let hint = "give the file with its card";
    let unknown = || {
        Failure::new(
            "not-found",
            format!("no node {candidate} waits for consent; {hint}"),
        )
    };
    card.cloned().ok_or_else(unknown)
}

async fn find_member(client: &Client, node: &str) -> Result<String, Failure> {
    let status: Status = client.get("/status").await?;
    let members = &status.network.members;
    let found = members
        .iter()
        .find(|it| it.name == node || it.node.to_string() == node);
    let names: Vec<&str> = members.iter().map(|it| it.name.as_str()).collect();
    let unknown = || {
        let known = names.join(", ");
        Failure::new(
            "not-found",
            format!("no authorized node `{node}`; there are {known}"),
        )
    };
    Ok(found.ok_or_else(unknown)?.node.to_string())
}

fn render(changes: &[Value]) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut table = Table::new(&["change", "what", "consent of", "needed", "ready"]);
    for it in changes {
        let member = &it["card"]["member"];
        let what = match it["mark"].as_str() {
            Some("add-node") => format!(
                "{} {}",
                text(&member["name"]),
                short(&text(&member["node"]))
            ),
            Some("remove-node") => format!("{} {}", short(&text(&it["node"])), text(&it["reason"])),
            _ => format!("entry {} {}", it["index"], text(&it["reason"])),
        };
        let by: Vec<String> = it["by"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|by| {
                by["name"]
                    .as_str()
                    .map_or_else(|| short(&text(&by["node"])), str::to_owned)
            })
            .collect();
        let ready = match (it["mark"].as_str(), it["ready_height"].as_u64()) {
            (Some("add-node"), Some(height)) => format!("follows the log to block {height}"),
            (Some("add-node"), None) => "not yet: start it with the same genesis".into(),
            _ => "-".into(),
        };
        table.row([
            text(&it["mark"]),
            what,
            by.join(", "),
            it["needed"].to_string(),
            ready,
        ]);
    }
    match table.is_empty() {
        true => "nothing waits for consent\n".to_owned(),
        false => table.render(),
    }
}
