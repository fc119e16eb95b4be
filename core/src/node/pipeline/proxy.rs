//! Proxies, as the environment names them.
//!
//! Meaning of the variables as in curl and Go: `NO_PROXY` is a list of hosts, each with its
//! subdomains, or `*`; this machine is never asked through a proxy.

use url::Url;

use crate::node::pipeline::address::is_loopback;
use crate::node::pipeline::error::PipelineError;

/// Which requests go through which proxy.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Proxies {
    /// The proxy for `http` URLs, as a URL.
    pub http: Option<String>,
    /// The proxy for `https` URLs, as a URL.
    pub https: Option<String>,
    /// Hosts that are asked directly: names (with their subdomains), addresses, or `*`.
    pub direct: Vec<String>,
}

impl Proxies {
    /// Reads `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in lower case first, from
    /// the variables that `lookup` knows.
    pub fn from_variables(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name: &str| {
            lookup(&name.to_lowercase())
                .or_else(|| lookup(name))
                .filter(|it| !it.trim().is_empty())
        };
        let all = variable("ALL_PROXY");
        let direct = variable("NO_PROXY").unwrap_or_default();
        Self {
            http: variable("HTTP_PROXY").or_else(|| all.clone()),
            https: variable("HTTPS_PROXY").or(all),
            direct: direct
                .split([',', ' '])
                .map(|it| it.trim().trim_start_matches('.').to_ascii_lowercase())
                .filter(|it| !it.is_empty())
                .collect(),
        }
    }

    /// The proxy for `url`, if it is not asked directly.
    pub(crate) fn proxy_of(&self, url: &Url) -> Option<&str> {
        let host = url.host_str()?;
        if is_loopback(url) || self.direct.iter().any(|it| covers(it, host)) {
            return None;
        }
        match url.scheme() {
            "https" => self.https.as_deref(),
            _ => self.http.as_deref(),
        }
    }

    /// The distinct proxies, ready for use.
    ///
    /// # Errors
    ///
    /// [`PipelineError::Setup`] for one that is not an `http` or `https` URL.
    pub(crate) fn parse(&self) -> Result<Vec<(String, ureq::Proxy)>, PipelineError> {
        let mut parsed: Vec<(String, ureq::Proxy)> = Vec::new();
        for text in [&self.http, &self.https].into_iter().flatten() {
            if parsed.iter().all(|(known, _)| known != text) {
                // The text may hold a password and stays out of the message.
                let proxy = ureq::Proxy::new(text).map_err(|_| {
                    let hint = "want `http://host:port` in HTTP_PROXY and HTTPS_PROXY";
                    PipelineError::Setup(format!("the proxy is not a usable URL: {hint}"))
                })?;
                parsed.push((text.clone(), proxy));
            }
        }
        Ok(parsed)
    }
}

fn covers(pattern: &str, host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    let pattern = pattern.trim_start_matches("*.");
    pattern == "*"
        || host
            .strip_suffix(pattern)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_decides_once() {
        let proxies = Proxies::from_variables(|name| {
            Some(match name {
                "https_proxy" => "http://lower:1".into(),
                "HTTPS_PROXY" => "http://upper:2".into(),
                "ALL_PROXY" => "http://all:3".into(),
                "no_proxy" => ".corp.example, 10.0.0.7 *.wild.example".into(),
                _ => return None,
            })
        });
        for (url, expected) in [
            ("https://repo.example/x", Some("http://lower:1")),
            ("http://repo.example/x", Some("http://all:3")),
            ("https://corp.example/x", None),
            ("https://a.corp.example/x", None),
            ("https://notcorp.example/x", Some("http://lower:1")),
            ("https://a.wild.example/x", None),
            ("http://10.0.0.7/x", None),
            ("http://localhost:5000/x", None),
            ("http://127.9.9.9/x", None),
            ("http://[::1]/x", None),
        ] {
            let url = url.parse().unwrap();
            assert_eq!(proxies.proxy_of(&url), expected, "{url}");
        }
        assert_eq!(proxies.parse().unwrap().len(), 2);
        assert_eq!(
            Proxies::from_variables(|_| Some(String::new())),
            Proxies::default()
        );
        let everything = Proxies {
            direct: vec!["*".into()],
            ..proxies
        };
        assert_eq!(
            everything.proxy_of(&"https://a.example".parse().unwrap()),
            None
        );
    }

    #[test]
    fn an_unusable_proxy_is_reported_without_its_password() {
        let proxies = Proxies {
            http: Some("ftp://user:secret@proxy".into()),
            ..Proxies::default()
        };
        let error = proxies.parse().unwrap_err();
        assert_eq!(error.code(), "setup");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
