//! URLs of upstreams: which are taken, and how they are shown.

use url::{Host, Url};

use crate::node::pipeline::error::PipelineError;
use crate::proto::peers::is_public_ip;

/// Reads the URL of an upstream.
///
/// # Errors
///
/// [`PipelineError::Setup`] if it is no `http` or `https` URL, or has credentials in it.
pub(crate) fn parse_upstream(text: &str) -> Result<Url, PipelineError> {
    let shown = redact(text);
    let url = Url::parse(text)
        .ok()
        .filter(|it| it.has_host() && matches!(it.scheme(), "http" | "https"))
        .ok_or_else(|| PipelineError::Setup(format!("`{shown}` is not a URL; want `https://…`")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(PipelineError::Setup(format!(
            "{shown} has credentials in it; only what anybody may fetch can enter the log"
        )));
    }
    Ok(url)
}

/// A URL without user name, password and fragment.
pub(crate) fn without_credentials(mut url: Url) -> Url {
    // Both fail only for URLs that cannot have credentials.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    url
}

/// A URL for messages and logs: without credentials, and without the query, which may hold a
/// signature or token.
pub(crate) fn redact(text: &str) -> String {
    let Ok(url) = Url::parse(text) else {
        return "an unreadable URL".to_owned();
    };
    let mut url = without_credentials(url);
    let has_query = url.query().is_some();
    url.set_query(None);
    format!("{url}{}", if has_query { "?…" } else { "" })
}

/// Whether `url` may lead out of this machine and its network. Of a name only the resolver can say
/// where it really leads.
pub(crate) fn may_be_public(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(_)) => !is_loopback(url),
        Some(Host::Ipv4(address)) => is_public_ip(address.into()),
        Some(Host::Ipv6(address)) => is_public_ip(address.into()),
        None => false,
    }
}

/// Host and port, if that is not the scheme's.
pub(crate) fn authority(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    }
}

/// Whether `url` names this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_in_messages_keep_secrets() {
        for (url, expected) in [
            ("https://u:p@a.example/x?sig=1#f", "https://a.example/x?…"),
            ("https://a.example/x", "https://a.example/x"),
            ("u:p@a", "u:p@a"),
            ("::", "an unreadable URL"),
        ] {
            assert_eq!(redact(url), expected);
        }
    }
}
