//! What upstreams are asked with: made at the first use, and of no more use once the node closes.

use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, OnceLock};

use crate::base::Time;
use crate::node::clock::Clock;
use crate::node::config::Config;
use crate::node::pipeline::http::Request;
use crate::node::pipeline::{
    Cancel, Client, HttpConfig, Images, Maven, MavenPlaces, MavenRepository, PipelineError,
    Proxies, Registries, RegistryFiles, Upstream, default_repositories,
};
use crate::node::status::Status;
use crate::proto::peers::Seed;

/// Longest bootstrap document. Unit: bytes.
const BOOTSTRAP_BYTES_MAX: usize = 1 << 20;

/// Pipelines and their clients.
pub(crate) struct Tools {
    pub(crate) upstream: Upstream,
    client: Arc<Client>,
    public: Arc<Client>,
}

/// The place of the [`Tools`] of a node, which threads of the pool share.
#[derive(Default)]
pub(crate) struct Toolbox {
    /// Made at the first use: reading the machine's configuration takes time.
    made: OnceLock<Result<Arc<Tools>, PipelineError>>,
    closing: Cancel,
}

impl Toolbox {
    /// The tools; `make` makes them if they were not asked for before. Blocks.
    ///
    /// # Errors
    ///
    /// [`PipelineError::Cancelled`] once closed, or why they cannot be made.
    pub(crate) fn open(
        &self,
        make: impl FnOnce() -> Result<Tools, PipelineError>,
    ) -> Result<Arc<Tools>, PipelineError> {
        self.closing.check()?;
        let tools = self.made.get_or_init(|| make().map(Arc::new)).clone()?;
        // Either `close` finds them, or this thread finds that it was called: they were made while the
        // node closed.
        fence(Ordering::SeqCst);
        self.closing.check().inspect_err(|_| tools.close())?;
        Ok(tools)
    }

    /// Fetches a bootstrap document. Blocks.
    ///
    /// # Errors
    ///
    /// As for [`Toolbox::open`], or why there is no such document.
    pub(crate) fn bootstrap(&self, tools: &Tools, url: &str) -> Result<Vec<Seed>, PipelineError> {
        let what = "bootstrap document";
        let request = Request {
            what,
            url,
            accept: Some("application/json"),
            credentials: None,
        };
        let body = tools
            .client
            .get(&request, BOOTSTRAP_BYTES_MAX, &self.closing)?;
        let malformed = |problem: String| PipelineError::Malformed {
            what: what.into(),
            problem,
        };
        let status: Status =
            serde_json::from_slice(&body.1).map_err(|it| malformed(it.to_string()))?;
        let peer = Some(status.node);
        Ok(status
            .listen
            .into_iter()
            .map(|address| Seed { peer, address })
            .collect())
    }

    /// Ends what is under way, as [`Client::close`] says, and fails what comes. Does not block.
    pub(crate) fn close(&self) {
        self.closing.cancel();
        fence(Ordering::SeqCst);
        if let Some(Ok(tools)) = self.made.get() {
            tools.close();
        }
    }
}

impl Tools {
    pub(crate) fn new(config: &Config, clock: Clock) -> Result<Self, PipelineError> {
        let variable = |name: &str| std::env::var(name).ok().filter(|_| config.environment);
        let http = HttpConfig {
            proxies: Proxies::from_variables(variable),
            ..HttpConfig::default()
        };
        let client = |public_only| {
            let http = HttpConfig {
                public_only,
                ..http.clone()
            };
            let now = Arc::new(move || -> Time { clock.now() });
            Client::new(http, now, clock.wall().as_millis()).map(Arc::new)
        };
        let (client, public) = (client(false)?, client(true)?);
        let home = variable("HOME").map(std::path::PathBuf::from);
        let files = RegistryFiles::system(home.as_deref());
        let registries = Registries::new(&config.registries, &files, &config.own_ports)?;
        let repositories = if config.repositories.is_empty() {
            // A machine without Maven can still serve images: asked for Maven, it says what to set.
            let own_ports = &config.own_ports;
            default_repositories(&MavenPlaces::find(variable), own_ports).unwrap_or_default()
        } else {
            let urls = config.repositories.iter();
            urls.map(|it| MavenRepository::from_url(it))
                .collect::<Result<_, _>>()?
        };
        let upstream = Upstream {
            images: Images::new(client.clone(), public.clone(), registries),
            maven: Maven::new(client.clone(), repositories),
        };
        Ok(Self {
            upstream,
            client,
            public,
        })
    }

    fn close(&self) {
        self.client.close();
        self.public.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::pipeline::testing::{Reply, Server, client, request};

    fn make() -> Result<Tools, PipelineError> {
        let mut config = Config::new("");
        config.environment = false;
        Tools::new(&config, Clock::start())
    }

    #[test]
    fn closing_ends_a_bootstrap_that_waits_for_its_next_attempt() {
        let toolbox = Arc::new(Toolbox::default());
        let closed = toolbox.clone();
        let server = Server::start(move |_| {
            closed.close();
            Reply::new(503, "").with("retry-after", "60")
        });
        let tools = toolbox.open(make).unwrap();
        let answer = toolbox.bootstrap(&tools, &server.url("/status"));
        assert_eq!(answer, Err(PipelineError::Cancelled));
        assert_eq!(server.lines().len(), 1);
        let later = toolbox.open(make).map(|_| ());
        assert_eq!(later, Err(PipelineError::Cancelled));
    }

    #[test]
    fn tools_that_are_made_while_the_node_closes_are_closed() {
        let (toolbox, hasty) = (Toolbox::default(), Arc::new(client()));
        let server = Server::start(|_| Reply::ok("x"));
        let url = server.url("/");
        let opened = toolbox.open(|| {
            let client = hasty.clone();
            toolbox.close();
            make().map(|it| Tools { client, ..it })
        });
        assert_eq!(opened.map(|_| ()), Err(PipelineError::Cancelled));
        assert!(hasty.get(&request(&url), 10, &Cancel::new()).is_err());
        assert_eq!(server.lines(), Vec::<String>::new());
    }
}
