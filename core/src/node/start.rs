//! Putting a node together, in the order in which its parts depend on each other.

use std::fs;
use std::io::{self, Write};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_lite::FutureExt as _;

use crate::base::{ChainId, codec};
use crate::net::{Net, ProviderStore, Spawn};
use crate::node::answers::Answers;
use crate::node::attested;
use crate::node::builder::{self, Builder};
use crate::node::clock::Clock;
use crate::node::config::{Config, ConfigError};
use crate::node::dials::Dials;
use crate::node::executor::{POOL_THREADS_MAX, Pool, PoolError, Tasks, Threads};
use crate::node::flow::{Engine, Setup};
use crate::node::handle::{Inner, Node};
use crate::node::keys::{self, KeyError};
use crate::node::pending::{load_builds, load_changes};
use crate::node::providers::StoredProviders;
use crate::node::run::{COMMANDS_MAX, INTERNAL_MAX, Loop};
use crate::node::share::keep::{self, Keeper, NEWS_MAX};
use crate::node::share::{Hub, Parts, Peers};
use crate::node::shared::Shared;
use crate::node::vault::NodeVault;
use crate::proto::chain::{ChainState, Genesis, GenesisError, NodeKeys, Params, StateError};
use crate::proto::peers::{Book, Seed};
use crate::store::{Options, Store, StoreError, Wal};

/// Name of the file with the network's genesis in the data directory.
pub const GENESIS_FILE: &str = "genesis.cbor";

/// Longest genesis file. Unit: bytes.
const GENESIS_BYTES_MAX: u64 = 1 << 20;

/// How long the start waits for the index to catch up with the log; rebuilding takes about a second
/// for 50,000 entries.
const INDEX_TIMEOUT: Duration = Duration::from_secs(1_800);

/// Provable faults that wait for the loop; further ones are lost.
const FAULTS_MAX: usize = 256;

/// Which network to be part of.
#[derive(Clone, Debug)]
pub enum Network {
    /// The one that the data directory joined; if there is none, a new one with this node as its
    /// only authorized node.
    StoredOrSolo,
    /// The one that the data directory joined.
    Stored,
    /// This one; it must be the stored one if there is one.
    Genesis(Box<Genesis>),
}

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is out of range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The genesis does not stand.
    #[error("the network's genesis: {0}")]
    Genesis(#[from] GenesisError),
    /// The stored state of the chain is of another version, or damaged.
    #[error("the stored state of the chain: {0}")]
    State(#[from] StateError),
    /// The data directory belongs to another network.
    #[error("{0} belongs to another network; use another data directory to join this one")]
    OtherNetwork(PathBuf),
    /// The data directory has joined no network.
    #[error("{0} has joined no network; run `kogge network join` or `kogge network init`")]
    NoNetwork(PathBuf),
    /// A file or thread.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        error: io::Error,
    },
    /// The index does not catch up.
    #[error(
        "the index in {0} does not catch up with the log; delete the folder `index` in it and start again"
    )]
    Index(PathBuf),
    /// An internal call failed.
    #[error(transparent)]
    Pool(#[from] PoolError),
}

impl Node {
    /// Starts a node on its own threads.
    ///
    /// # Errors
    ///
    /// [`StartError`] if it cannot start; what was begun is undone.
    pub async fn start(config: Config, network: Network) -> Result<Self, StartError> {
        let (threads, tasks) = Threads::start(config.threads).map_err(|error| StartError::Io {
            what: "cannot start threads".into(),
            error,
        })?;
        let node = start(config, network, tasks).await?;
        let slot = &node.0.threads;
        *slot
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(threads);
        Ok(node)
    }

    /// Starts a node on the host's executor.
    ///
    /// # Errors
    ///
    /// [`StartError`] if it cannot start; what was begun is undone.
    pub async fn start_on(
        config: Config,
        network: Network,
        executor: Arc<dyn Spawn>,
    ) -> Result<Self, StartError> {
        start(config, network, Tasks::on_host(executor)).await
    }
}

/// What the disk holds.
struct Recovered {
    store: Arc<Store>,
    keys: NodeKeys,
    genesis: Genesis,
    state: ChainState,
    wal: Wal,
    book: Book,
    providers: StoredProviders,
}

#[expect(clippy::too_many_lines, reason = "parts are listed, not computed")]
async fn start(config: Config, network: Network, tasks: Tasks) -> Result<Node, StartError> {
    config.check()?;
    let clock = Clock::start();
    let pool = Pool::new(POOL_THREADS_MAX);
    let (settings, wall) = (config.clone(), clock.wall());
    let recovered = pool
        .run(move || recover(&settings, network, wall))
        .await??;
    let Recovered {
        store,
        keys,
        genesis,
        state,
        wal,
        book,
        providers,
    } = recovered;
    let config = Arc::new(config);
    let seed = random_seed()?;

    let checkpoint = store.chain().latest_checkpoint()?;
    let shared = Arc::new(Shared::new(checkpoint));
    let (faults, faults_in) = async_channel::bounded(FAULTS_MAX);
    let peers = Arc::new(Peers::new(clock, &config.limits, faults));
    let providers = Box::new(providers);
    let net_config = net_config(&config, *state.chain(), seed, providers);
    let (net, net_events) =
        Net::start(net_config, &keys.identity, tasks.net()).map_err(|error| StartError::Io {
            what: "cannot start the network".into(),
            error,
        })?;
    let (news, news_in) = async_channel::bounded(NEWS_MAX);
    let hub = Hub::new(Parts {
        net: net.clone(),
        tasks: tasks.clone(),
        pool: pool.clone(),
        store: &store,
        peers: peers.clone(),
        clock,
        limits: config.limits.clone(),
        news: news.clone(),
    });
    keep::watch(&store, news.clone());
    let attested = attested::watch(&store, keys.id(), clock)?;
    attested.authorize(state.members().by_node(&keys.id()).is_some());
    let keeper = Keeper {
        store: store.clone(),
        pool: pool.clone(),
        net: net.clone(),
        shares: config.limits.share,
        news: news_in,
    };
    tasks.spawn(keeper.run());
    let (commands, commands_in) = async_channel::bounded(COMMANDS_MAX);
    let internal = async_channel::bounded(INTERNAL_MAX);
    let records = wal.records(state.height() + 1)?;
    let id = keys.id();
    let setup = Setup {
        keys,
        genesis: genesis.clone(),
        state,
        wal: records,
        builds: load_builds(&store)?,
        changes: load_changes(&store)?,
        seeds: config.peers.iter().map(|it| seed_of(it)).collect(),
        admit: config.admit.clone(),
        bootstrap_urls: config.bootstrap_urls.clone(),
        book,
        agent: format!("kogge/{}", env!("CARGO_PKG_VERSION")),
        builds_max: config.limits.builds,
        seed,
    };
    let engine = Engine::new(
        setup,
        NodeVault::new(store.clone()),
        clock.now(),
        clock.wall(),
    );
    let builder = Builder::new(builder::Parts {
        config: config.clone(),
        pool: pool.clone(),
        store: store.clone(),
        peers,
        clock,
        reply: internal.0.clone(),
        news,
        attested,
    });
    let run = Loop {
        engine,
        net,
        net_events,
        commands: commands_in,
        internal,
        faults: faults_in,
        store: store.clone(),
        wal: Some(wal),
        pool: pool.clone(),
        hub: hub.clone(),
        clock,
        shared: shared.clone(),
        builder,
        dials: Dials::default(),
        listening: Vec::new(),
        links: std::collections::BTreeSet::new(),
        answers: Answers::default(),
        marked: Vec::new(),
    };
    let watched = shared.clone();
    tasks.spawn(async move {
        // A bug must not leave those waiting who wait for the end of the node.
        if AssertUnwindSafe(run.run()).catch_unwind().await.is_err() {
            watched.stopped(Some("a bug ended its loop".into()));
            watched.closed();
        }
    });
    Ok(Node(Arc::new(Inner {
        id,
        config,
        genesis: Arc::new(genesis),
        store,
        shared,
        hub,
        pool,
        tasks,
        clock,
        started: wall,
        commands,
        threads: Mutex::new(None),
    })))
}

fn net_config(
    config: &Config,
    chain: ChainId,
    seed: u64,
    providers: Box<dyn ProviderStore>,
) -> crate::net::Config {
    let mut it = crate::net::Config::new(chain, seed);
    it.providers = providers;
    let addresses = config.listen.iter();
    it.listen = addresses.filter_map(|it| it.parse().ok()).collect();
    it.inbound_max = config.limits.connections;
    it
}

/// Reads everything from the disk. Blocks.
fn recover(
    config: &Config,
    network: Network,
    wall: crate::base::WallTime,
) -> Result<Recovered, StartError> {
    let options = Options {
        quota_bytes: config.limits.disk,
        ..Options::default()
    };
    let (store, recovery) = Store::open(&config.data_dir, options)?;
    if recovery.lost_count != 0 || recovery.is_index_rebuilt || recovery.are_providers_lost {
        tracing::warn!(?recovery, "the data directory was repaired");
    }
    // The rules ask the index; a crash may have left it behind the log.
    if !store.index().wait(INDEX_TIMEOUT) {
        return Err(StartError::Index(config.data_dir.clone()));
    }
    let keys = keys::load_or_create(&config.data_dir)?;
    let genesis = choose_genesis(&config.data_dir, network, &keys, wall)?;
    let state = match store.chain().state()? {
        Some(bytes) => ChainState::from_bytes(&bytes)?,
        None => ChainState::genesis(&genesis),
    };
    if *state.chain() != genesis.chain() {
        return Err(StartError::OtherNetwork(config.data_dir.clone()));
    }
    let wal = store.open_wal()?;
    let book = store.meta().get("peers", b"book")?;
    let book = book
        .and_then(|it| Book::from_bytes(&it).ok())
        .unwrap_or_default();
    let providers = StoredProviders::load(store.providers(), wall)?;
    Ok(Recovered {
        store: Arc::new(store),
        keys,
        genesis,
        state,
        wal,
        book,
        providers,
    })
}

fn choose_genesis(
    folder: &Path,
    network: Network,
    keys: &NodeKeys,
    wall: crate::base::WallTime,
) -> Result<Genesis, StartError> {
    let stored = load_genesis(folder)?;
    match (network, stored) {
        (Network::Stored | Network::StoredOrSolo, Some(stored)) => Ok(stored),
        (Network::Stored, None) => Err(StartError::NoNetwork(folder.to_owned())),
        (Network::StoredOrSolo, None) => {
            let genesis = solo(keys, wall);
            save_genesis(folder, &genesis)?;
            Ok(genesis)
        }
        (Network::Genesis(wanted), Some(stored)) if *wanted == stored => Ok(stored),
        (Network::Genesis(_), Some(_)) => Err(StartError::OtherNetwork(folder.to_owned())),
        (Network::Genesis(wanted), None) => {
            wanted.check()?;
            save_genesis(folder, &wanted)?;
            Ok(*wanted)
        }
    }
}

/// A network with one authorized node: this one.
fn solo(keys: &NodeKeys, wall: crate::base::WallTime) -> Genesis {
    let id = keys.id().to_string();
    let short = id.get(..12).unwrap_or(&id);
    Genesis {
        version: 1,
        name: format!("solo-{short}"),
        origin: format!("kogge/solo-{short}"),
        time: wall,
        members: vec![keys.card("solo")],
        params: Params {
            block_interval_min_ms: 100,
            ..Params::default()
        },
    }
}

/// The genesis in a data directory, if it has joined a network.
///
/// # Errors
///
/// [`StartError`] if the file is unreadable or does not stand.
pub fn load_genesis(folder: &Path) -> Result<Option<Genesis>, StartError> {
    let path = folder.join(GENESIS_FILE);
    let failed = |error| StartError::Io {
        what: format!("cannot read {}", path.display()),
        error,
    };
    match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        Ok(meta) if GENESIS_BYTES_MAX < meta.len() => {
            return Err(failed(io::Error::other("the file is too long")));
        }
        Ok(_) => (),
    }
    let bytes = fs::read(&path).map_err(failed)?;
    Ok(Some(Genesis::from_bytes(&bytes)?))
}

/// Makes a data directory part of a network. A crash leaves either no genesis or a whole one.
///
/// # Errors
///
/// [`StartError`] if the file cannot be written.
pub fn save_genesis(folder: &Path, genesis: &Genesis) -> Result<(), StartError> {
    let path = folder.join(GENESIS_FILE);
    let write = || {
        let staged = path.with_extension("new");
        let mut file = fs::File::create(&staged)?;
        file.write_all(&codec::encode(genesis))?;
        file.sync_all()?;
        fs::rename(&staged, &path)?;
        fs::File::open(folder)?.sync_all()
    };
    write().map_err(|error| StartError::Io {
        what: format!("cannot write {}", path.display()),
        error,
    })
}

/// A configured peer: its identity, if the address names it.
fn seed_of(address: &str) -> Seed {
    use libp2p::multiaddr::Protocol;
    let parsed = address.parse::<libp2p::Multiaddr>().ok();
    let peer = parsed.and_then(|it| match it.iter().last() {
        Some(Protocol::P2p(peer)) => crate::net::id::node_id(&peer),
        _ => None,
    });
    Seed {
        peer,
        address: address.to_owned(),
    }
}

fn random_seed() -> Result<u64, StartError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| StartError::Io {
        what: "no randomness".into(),
        error: io::Error::other(error.to_string()),
    })?;
    Ok(u64::from_le_bytes(bytes))
}
