//! How the HTTP client behaves: time-outs, proxies, certificates, whom it may ask.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};
use ureq::unversioned::transport::DefaultConnector;

use crate::node::pipeline::proxy::Proxies;
use crate::node::pipeline::reach::PublicResolver;
use crate::node::pipeline::retry::Patience;

/// Longest header of an answer. Unit: bytes.
const HEADER_BYTES_MAX: usize = 64 * 1_024;

/// How the client behaves.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// To find the host, connect and agree on TLS.
    pub connect_timeout: Duration,
    /// From the request to the header of the answer.
    pub first_byte_timeout: Duration,
    /// Without a single byte, in a body.
    pub stall_timeout: Duration,
    /// How often and for how long to try again.
    pub patience: Patience,
    /// Which requests go through a proxy.
    pub proxies: Proxies,
    /// Hosts (with their port, if it is not 80) that may be asked without TLS. This machine
    /// always may.
    pub insecure: BTreeSet<String>,
    /// Whether only public addresses may be asked. A proxy is asked wherever it is; it resolves
    /// names itself, so that for them its own rules count.
    pub public_only: bool,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(30),
            patience: Patience::default(),
            proxies: Proxies::default(),
            insecure: BTreeSet::new(),
            public_only: false,
        }
    }
}

/// What carries out requests, through `proxy` if there is one.
pub(crate) fn agent(config: &HttpConfig, proxy: Option<ureq::Proxy>) -> Agent {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::PlatformVerifier)
        .unversioned_rustls_crypto_provider(provider)
        .build();
    let is_direct = proxy.is_none();
    let agent = Agent::config_builder()
        .tls_config(tls)
        .proxy(proxy)
        .user_agent(concat!("kogge/", env!("CARGO_PKG_VERSION")))
        .accept_encoding("identity")
        .http_status_as_error(false)
        // Redirects are followed here, where it is known who may learn what.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_response_header_size(HEADER_BYTES_MAX)
        .timeout_resolve(Some(config.connect_timeout))
        .timeout_connect(Some(config.connect_timeout))
        .timeout_recv_response(Some(config.first_byte_timeout))
        .timeout_per_read(Some(config.stall_timeout))
        .timeout_per_write(Some(config.stall_timeout))
        .build();
    if config.public_only && is_direct {
        let (connector, resolver) = (DefaultConnector::new(), PublicResolver::default());
        Agent::with_parts(agent, connector, resolver)
    } else {
        agent.new_agent()
    }
}
