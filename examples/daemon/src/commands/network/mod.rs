//! `kogge network`: makes, shows and joins networks.

pub(crate) mod local;

use std::collections::BTreeMap;
use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};

use kogge::node::start::{load_genesis, save_genesis};
use kogge::{Genesis, Params};
use serde_json::{Value, json};

use crate::Session;
use crate::client::{Address, Client};
use crate::commands::{authorize, status};
use crate::failure::{During, Failure};
use crate::files;
use crate::text::{Fields, Table, short};

/// Longest genesis in JSON. Unit: bytes.
const GENESIS_BYTES_MAX: u64 = 1 << 20;

/// What to do.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Command {
    /// Make a network: its genesis, from the cards of its first authorized nodes
    Init(Box<Init>),
    /// Show the network that this data directory has joined
    Show,
    /// Join a network with this data directory
    Join {
        /// File with the genesis, or http:// address of a node that is in it
        from: String,
        /// Join only if the network's chain id begins with this
        #[arg(long)]
        chain: Option<String>,
    },
    /// Print this data directory's card, for `network init --member` and `authorize mark`
    Card {
        /// The name under which the node is to be known, such as node-1.example
        #[arg(long)]
        name: String,
    },
}

/// How to make a network.
#[derive(clap::Args, Debug)]
pub(crate) struct Init {
    /// Name of the network
    #[arg(long)]
    name: String,
    /// Origin of its log: a schema-less URL that never changes [default: kogge/NAME]
    #[arg(long)]
    origin: Option<String>,
    /// File with the card of an authorized node; repeat for each
    #[arg(long, value_name = "CARD", conflicts_with = "local")]
    member: Vec<PathBuf>,
    /// Where to write the genesis
    #[arg(long, short, default_value = "genesis.json")]
    output: PathBuf,
    /// Make data directories for this many authorized nodes on loopback, ready to start
    #[arg(long, value_name = "N", requires = "dir")]
    local: Option<usize>,
    /// With --local: regular nodes beside them
    #[arg(long, value_name = "N", default_value_t = 0, requires = "local")]
    regular: usize,
    /// With --local: the folder for the data directories
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Shortest time between two blocks under load
    #[arg(long, default_value_t = Params::default().block_interval_min_ms)]
    block_interval_ms: u64,
    /// How long a round waits for a proposal
    #[arg(long, default_value_t = Params::default().propose_timeout_ms)]
    propose_timeout_ms: u64,
    /// How long a round waits for votes
    #[arg(long, default_value_t = Params::default().vote_timeout_ms)]
    vote_timeout_ms: u64,
}

/// Does it.
///
/// # Errors
///
/// [`Failure`] if a document does not stand, or a file cannot be read or written.
pub(crate) async fn run(session: &Session, command: Command) -> Result<(), Failure> {
    match command {
        Command::Init(args) => init(session, *args),
        Command::Show => show(session),
        Command::Join { from, chain } => join(session, &from, chain.as_deref()).await,
        Command::Card { name } => authorize::card(session, &name),
    }
}

fn init(session: &Session, args: Init) -> Result<(), Failure> {
    let params = Params {
        block_interval_min_ms: args.block_interval_ms,
        propose_timeout_ms: args.propose_timeout_ms,
        vote_timeout_ms: args.vote_timeout_ms,
        ..Params::default()
    };
    if let (Some(authorized), Some(dir)) = (args.local, args.dir) {
        let plan = local::Plan {
            name: args.name,
            authorized,
            regular: args.regular,
            registries: BTreeMap::new(),
            repositories: Vec::new(),
            params,
        };
        let (genesis, nodes) = local::make(&dir, &plan, session.clock.wall())?;
        return show_local(session, &genesis, &nodes);
    }
    let cards: Result<Vec<_>, Failure> = args
        .member
        .iter()
        .map(|it| authorize::read_card(it))
        .collect();
    let genesis = Genesis {
        version: 1,
        origin: args
            .origin
            .unwrap_or_else(|| format!("kogge/{}", args.name)),
        name: args.name,
        time: session.clock.wall(),
        members: cards?,
        params,
    };
    if genesis.members.is_empty() {
        let hint = "give the card of each authorized node with --member; see `kogge network card`";
        return Err(Failure::input(format!(
            "a network needs an authorized node: {hint}"
        )));
    }
    genesis.check()?;
    write_genesis(&args.output, &genesis)?;
    let path = args.output.display();
    session.output.note(format!(
        "wrote {path}; on each node run `kogge network join {path}`, then `kogge up`"
    ));
    session.output.show(
        &json!({"path": args.output, "chain": genesis.chain()}),
        describe(&genesis),
    )
}

fn show_local(
    session: &Session,
    genesis: &Genesis,
    nodes: &[local::LocalNode],
) -> Result<(), Failure> {
    let mut table = Table::new(&["node", "role", "peers", "http", "data directory"]);
    for it in nodes {
        let role = if it.is_authorized {
            "authorized"
        } else {
            "regular"
        };
        table.row([
            it.name.clone(),
            role.into(),
            it.peer_port.to_string(),
            it.http_port.to_string(),
            it.folder.display().to_string(),
        ]);
    }
    session
        .output
        .note("start each with `kogge --data-dir <data directory> up`");
    let told: Vec<Value> = nodes.iter().map(local::LocalNode::json).collect();
    let value = json!({"chain": genesis.chain(), "nodes": told});
    session.output.show(&value, table.render())
}

fn show(session: &Session) -> Result<(), Failure> {
    let folder = &session.place.data_dir;
    let Some(genesis) = load_genesis(folder)? else {
        let hint = "run `kogge network join`, or `kogge up` for a network of its own";
        let message = format!("{} has joined no network; {hint}", folder.display());
        return Err(Failure::new("no-network", message));
    };
    let value = json!({"chain": genesis.chain(), "genesis": genesis});
    session.output.show(&value, describe(&genesis))
}

fn describe(genesis: &Genesis) -> String {
    let members = genesis.member_set();
    let mut fields = Fields::default();
    fields.add("network", &genesis.name);
    fields.add("chain", genesis.chain().to_string());
    fields.add("origin", &genesis.origin);
    fields.add("made", genesis.time.to_string());
    let (count, quorum) = (members.len(), members.quorum());
    let tolerance = status::tolerance(count, members.faults_max());
    fields.add("decide", format!("{quorum} of {count}; {tolerance}"));
    for (at, card) in genesis.members.iter().enumerate() {
        let node = short(&card.member.node.to_string());
        fields.add(
            if at == 0 { "members" } else { "" },
            format!("{} {node}", card.member.name),
        );
    }
    fields.render()
}

async fn join(session: &Session, from: &str, chain: Option<&str>) -> Result<(), Failure> {
    let (genesis, status_url) = match from.strip_prefix("http://") {
        Some(rest) => {
            let host = rest.split('/').next().unwrap_or_default();
            let genesis = download(host).await?;
            (genesis, Some(format!("http://{host}/status")))
        }
        None if from.starts_with("https://") => {
            let hint = "save it with another program and give the file";
            return Err(Failure::input(format!(
                "only http:// addresses are read here; {hint}"
            )));
        }
        None => (read_genesis(Path::new(from))?, None),
    };
    let id = genesis.chain().to_string();
    if let Some(wanted) = chain.filter(|it| !id.starts_with(it)) {
        let message = format!("{from} is the network {id}, not {wanted}; nothing was joined");
        return Err(Failure::new("other-network", message));
    }
    let folder = &session.place.data_dir;
    match load_genesis(folder)? {
        Some(known) if known == genesis => session.output.note("joined before"),
        Some(known) => {
            let hint = "use another --data-dir";
            let message = format!(
                "{} belongs to the network {}; {hint}",
                folder.display(),
                known.name
            );
            return Err(Failure::new("other-network", message));
        }
        None => {
            files::private_folder(folder)?;
            save_genesis(folder, &genesis)?;
        }
    }
    if let Some(url) = &status_url {
        remember(session, url)?;
        if chain.is_none() {
            session.output.note(format!(
                "check with somebody in the network that its chain is {id}"
            ));
        }
    }
    let value = json!({"chain": id, "name": genesis.name, "data_dir": folder});
    session.output.note("start the node with `kogge up`");
    session.output.show(&value, describe(&genesis))
}

/// Notes where peers are found, unless the owner has a configuration already.
fn remember(session: &Session, url: &str) -> Result<(), Failure> {
    let path = session.place.config_path();
    if path.exists() {
        let known = session
            .place
            .config
            .bootstrap_urls
            .iter()
            .any(|it| it == url);
        if !known {
            session.output.note(format!(
                "add to {}: bootstrap_urls = [\"{url}\"]",
                path.display()
            ));
        }
        return Ok(());
    }
    let text = json!({"bootstrap_urls": [url]});
    let text = toml::to_string(&text).during("the configuration")?;
    files::write(&path, text.as_bytes())?;
    session.output.note(format!("wrote {}", path.display()));
    Ok(())
}

async fn download(host: &str) -> Result<Genesis, Failure> {
    let with_port = if host
        .rsplit(':')
        .next()
        .is_some_and(|it| it.parse::<u16>().is_ok())
    {
        host.to_owned()
    } else {
        format!("{host}:{}", kogge_http::PORT_DEFAULT)
    };
    let mut found = with_port
        .to_socket_addrs()
        .during(format!("cannot find {with_port}"))?;
    let address = found
        .next()
        .ok_or_else(|| Failure::input(format!("{host} has no address")))?;
    let genesis: Genesis = Client::new(Address::Tcp(address)).get("/genesis").await?;
    genesis.check()?;
    Ok(genesis)
}

/// Reads a genesis: JSON, or CBOR as in a data directory.
///
/// # Errors
///
/// [`Failure`] naming the file.
pub(crate) fn read_genesis(path: &Path) -> Result<Genesis, Failure> {
    let bytes = files::read(path, GENESIS_BYTES_MAX)?;
    Genesis::parse(&bytes)
        .map_err(|it| Failure::input(format!("{} is not a genesis: {it}", path.display())))
}

/// Writes a genesis as JSON.
///
/// # Errors
///
/// [`Failure`] naming the file.
pub(crate) fn write_genesis(path: &Path, genesis: &Genesis) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(genesis).during("the genesis")?;
    files::write(path, (json + "\n").as_bytes())
}
