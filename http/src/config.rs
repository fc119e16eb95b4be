//! Configuration of the front end: the table `[http]` of the node's file.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use kogge::node::config::{ConfigError, locate};
use serde::Deserialize;

/// The port unless configured.
pub const PORT_DEFAULT: u16 = 7888;

/// Most names in `http.hosts`.
const HOSTS_MAX: usize = 64;

/// What the front end listens on, and whom it trusts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HttpConfig {
    /// TCP address; port 0 takes a free one. `None`: only the owner's Unix socket.
    pub address: Option<SocketAddr>,
    /// Names beside loopback ones that clients may call this host by, without port and in lower
    /// case. A request with another `Host` is refused: a web page could otherwise reach the node
    /// through a name of its own (DNS rebinding).
    pub hosts: Vec<String>,
    /// Whether calls over TCP may change something without the owner's token. Only for hosts all of
    /// whose users are the owner, such as a container of its own.
    pub anonymous: bool,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            address: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT_DEFAULT))),
            hosts: Vec::new(),
            anonymous: false,
        }
    }
}

#[derive(Deserialize)]
struct File {
    http: Option<Raw>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    address: Option<String>,
    hosts: Option<Vec<String>>,
    anonymous: Option<bool>,
}

impl HttpConfig {
    /// Reads the table `http` of the TOML `text` that came from `path`; other tables belong to the
    /// node and are skipped. The address `off` means no TCP port.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] naming the line or the key.
    pub fn from_toml(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let file: File = toml::from_str(text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            problem: locate(text, &error),
        })?;
        let mut config = Self::default();
        let Some(raw) = file.http else {
            return Ok(config);
        };
        match raw.address.as_deref() {
            None => {}
            Some("off") => config.address = None,
            Some(address) => {
                let parsed = parse_address(address);
                config.address = Some(parsed.map_err(|it| it.in_file(text, path))?);
            }
        }
        if let Some(hosts) = raw.hosts {
            check_hosts(&hosts).map_err(|it| it.in_file(text, path))?;
            config.hosts = hosts;
        }
        config.anonymous = raw.anonymous.unwrap_or(config.anonymous);
        Ok(config)
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, ConfigError> {
    text.parse().map_err(|_| ConfigError::Value {
        key: "http.address",
        problem: format!("`{text}` is not an address; want such as 127.0.0.1:7888, or off"),
    })
}

fn check_hosts(hosts: &[String]) -> Result<(), ConfigError> {
    let fail = |problem| {
        Err(ConfigError::Value {
            key: "http.hosts",
            problem,
        })
    };
    if HOSTS_MAX < hosts.len() {
        return fail(format!("{} names, at most {HOSTS_MAX}", hosts.len()));
    }
    let plain = |it: u8| matches!(it, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    match hosts
        .iter()
        .find(|it| it.is_empty() || !it.bytes().all(plain))
    {
        Some(host) => fail(format!(
            "`{host}` is not a host; want a lower-case name or an IPv4 address, without port"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<HttpConfig, ConfigError> {
        HttpConfig::from_toml(text, Path::new("/etc/kogge.toml"))
    }

    #[test]
    fn only_the_table_http_counts() {
        assert_eq!(
            parse("threads = 2\n[limits]\nx = 1"),
            Ok(HttpConfig::default())
        );
        let text = "[http]\naddress = '0.0.0.0:80'\nhosts = ['kogge.test']\nanonymous = true";
        let expected = HttpConfig {
            address: Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 80))),
            hosts: vec!["kogge.test".into()],
            anonymous: true,
        };
        assert_eq!(parse(text), Ok(expected));
        assert_eq!(parse("[http]\naddress = 'off'").unwrap().address, None);
    }

    #[test]
    fn problems_name_the_line_or_the_key() {
        for (text, part) in [
            ("[http]\nport = 1", "line 2, column 1: unknown field `port`"),
            ("[http]\nhosts = 'x'", "line 2"),
            ("[http]\naddress = 'localhost'", "`http.address`"),
            ("[http]\nhosts = ['x:80']", "`http.hosts`"),
            ("[http]\nhosts = ['']", "`http.hosts`"),
            ("[http]\nhosts = ['Kogge.Test']", "`http.hosts`"),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
