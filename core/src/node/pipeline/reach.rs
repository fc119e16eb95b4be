//! Whom a peer's wish may make this node ask: public addresses alone.
//!
//! Any peer can name a registry, and every authorized node then asks it. Without this rule a peer
//! could have requests sent to services of the node's own machine and network, which trust those
//! who can reach them. What counts is the address that is connected to: names are looked at when
//! they are resolved, so none can mean one address when it is checked and another when it is used.

use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::proto::peers::is_public_ip;

/// A host on this machine or in a private network.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "`{0}` is on this machine or in a private network; if it is a registry that this node may ask, \
     its owner can configure it: `docker.registries.\"{0}\"`"
)]
pub(crate) struct NotPublic(pub(crate) String);

/// Resolves names to public addresses; a name without one is refused.
#[derive(Debug, Default)]
pub(crate) struct PublicResolver(DefaultResolver);

impl Resolver for PublicResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.0.resolve(uri, config, timeout)?;
        let mut public = self.empty();
        for address in found.iter().filter(|it| is_public_ip(it.ip())) {
            public.push(*address);
        }
        if public.is_empty() {
            let host = uri.authority().map_or("", |it| it.as_str());
            return Err(ureq::Error::Other(Box::new(NotPublic(host.to_owned()))));
        }
        Ok(public)
    }
}
