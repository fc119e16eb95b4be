//! Who may ask for what: foreign names, foreign web pages, and the owner's token.
//!
//! A browser on the owner's machine reaches loopback ports, so a web page must not speak to the
//! node. Through a name of its own (DNS rebinding) it is stopped by `Host`; across sites by
//! `Sec-Fetch-Site` and `Origin`, which browsers set and pages cannot. There is no CORS, so pages
//! never read a response.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{AUTHORIZATION, HOST, HeaderMap, ORIGIN};
use hyper::http::request::Parts;

use crate::problem::{Fault, Problem};
use crate::server::Client;
use crate::token::Token;

/// What a request may cause.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Effect {
    /// It only reads what the node knows.
    Reads,
    /// It may fetch from peers or ask for a build.
    Works,
    /// It changes something: the owner only.
    Changes,
}

/// The rules of one front end.
pub(crate) struct Guard {
    /// Names beside loopback ones.
    pub(crate) hosts: Vec<String>,
    /// The TCP address.
    pub(crate) address: Option<SocketAddr>,
    /// Whether the token is not needed.
    pub(crate) anonymous: bool,
    /// What the owner has to show over TCP.
    pub(crate) token: Token,
}

impl Guard {
    /// Lets a request pass or says why not.
    pub(crate) fn check(
        &self,
        client: Client,
        head: &Parts,
        effect: Effect,
    ) -> Result<(), Problem> {
        // Browsers do not reach Unix sockets.
        if client == Client::Owner {
            return Ok(());
        }
        let host = host(head)?;
        if !self.knows(host) {
            let hint = "call it by a loopback name, or add the name to `http.hosts`";
            return Err(forbidden(format!(
                "`{}` is not this node; {hint}",
                clip(host)
            )));
        }
        if effect == Effect::Reads {
            return Ok(());
        }
        check_site(&head.headers, host)?;
        if effect == Effect::Changes && !self.anonymous && !self.is_owner(&head.headers) {
            let message = "send the owner's token as `Authorization: Bearer <token>`, or call \
                           over the Unix socket; both are in the data directory";
            return Err(Problem::new(Fault::Unauthorized, message));
        }
        Ok(())
    }

    /// Whether `host`, with or without port, is a name of this node.
    fn knows(&self, host: &str) -> bool {
        let name = name_of(host);
        let address = name
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>();
        let own = self.address.map(|it| it.ip());
        match address {
            Ok(it) if it.is_loopback() || Some(it) == own => true,
            _ => {
                let name = name.to_ascii_lowercase();
                name == "localhost" || self.hosts.contains(&name)
            }
        }
    }

    fn is_owner(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(AUTHORIZATION).map(|it| it.as_bytes());
        given
            .and_then(|it| it.strip_prefix(b"Bearer "))
            .is_some_and(|it| self.token.is(it))
    }
}

/// Name and port that the client called.
fn host(head: &Parts) -> Result<&str, Problem> {
    let malformed = |it| Problem::new(Fault::Malformed, it);
    // RFC 9112, 3.2.2: the request target, if it names a host, overrules the header.
    if let Some(authority) = head.uri.authority() {
        return Ok(authority.as_str());
    }
    let mut all = head.headers.get_all(HOST).iter();
    match (all.next(), all.next()) {
        (Some(one), None) => one.to_str().map_err(|_| malformed("`Host` is malformed")),
        (None, _) => Err(malformed("`Host` is missing")),
        (Some(_), Some(_)) => Err(malformed("`Host` is given twice")),
    }
}

/// Refuses what a web page of another origin sent.
fn check_site(headers: &HeaderMap, host: &str) -> Result<(), Problem> {
    let site = headers.get("sec-fetch-site").map(|it| it.as_bytes());
    if !matches!(site, None | Some(b"same-origin" | b"none")) {
        return Err(forbidden("a web page of another site may not do this"));
    }
    let own = format!("http://{host}");
    match headers.get(ORIGIN) {
        Some(origin) if origin.as_bytes() != own.as_bytes() => {
            Err(forbidden("a web page of another origin may not do this"))
        }
        _ => Ok(()),
    }
}

/// `host` without its port.
pub(crate) fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    }
}

fn forbidden(message: impl Into<String>) -> Problem {
    Problem::new(Fault::Forbidden, message)
}

/// Enough of a foreign text to recognize it in a message.
fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    const EVERYTHING: [Effect; 3] = [Effect::Reads, Effect::Works, Effect::Changes];

    fn guard(anonymous: bool) -> (Guard, String) {
        let folder = tempfile::tempdir().unwrap();
        let guard = Guard {
            hosts: vec!["kogge.test".into()],
            address: Some("192.0.2.7:7888".parse().unwrap()),
            anonymous,
            token: Token::load(folder.path()).unwrap(),
        };
        let token = std::fs::read_to_string(folder.path().join("token")).unwrap();
        (guard, token)
    }

    fn head(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let request = Request::builder().uri(uri);
        let request = headers
            .iter()
            .fold(request, |it, (name, value)| it.header(*name, *value));
        request.body(()).unwrap().into_parts().0
    }

    /// Which of [`EVERYTHING`] the request may do.
    fn allowed(guard: &Guard, head: &Parts) -> [bool; 3] {
        EVERYTHING.map(|it| guard.check(Client::Anybody, head, it).is_ok())
    }

    #[test]
    fn only_own_names_are_answered() {
        let (guard, _) = guard(true);
        for (host, known) in [
            ("localhost", true),
            ("LOCALHOST:7888", true),
            ("127.0.0.1:7888", true),
            ("127.3.2.1", true),
            ("[::1]:7888", true),
            ("[::1]", true),
            ("192.0.2.7:7888", true),
            ("Kogge.Test:80", true),
            ("evil.test", false),
            ("localhost.evil.test", false),
            ("kogge.test.evil.test:7888", false),
            ("10.0.0.1", false),
            ("192.0.2.8", false),
            ("2130706433", false),
            ("", false),
        ] {
            let given = allowed(&guard, &head("/", &[("host", host)]));
            assert_eq!(given, [known; 3], "{host}");
        }
        let twice = [("host", "localhost"), ("host", "localhost")];
        for headers in [&[][..], &twice] {
            assert_eq!(allowed(&guard, &head("/", headers)), [false; 3]);
        }
        let absolute = head("http://evil.test/", &[("host", "localhost")]);
        assert_eq!(allowed(&guard, &absolute), [false; 3]);
    }

    #[test]
    fn pages_of_other_sites_cause_nothing() {
        let (guard, _) = guard(true);
        for (name, value, works) in [
            ("sec-fetch-site", "none", true),
            ("sec-fetch-site", "same-origin", true),
            ("sec-fetch-site", "same-site", false),
            ("sec-fetch-site", "cross-site", false),
            ("sec-fetch-site", "", false),
            ("origin", "http://localhost:7888", true),
            ("origin", "http://localhost:7889", false),
            ("origin", "https://localhost:7888", false),
            ("origin", "http://evil.test", false),
            ("origin", "null", false),
        ] {
            let head = head("/", &[("host", "localhost:7888"), (name, value)]);
            assert_eq!(
                allowed(&guard, &head),
                [true, works, works],
                "{name}: {value}"
            );
        }
    }

    #[test]
    fn changes_need_the_token_or_the_unix_socket() {
        let (guard, token) = guard(false);
        let bearer = format!("Bearer {token}");
        for (value, changes) in [
            (bearer.as_str(), true),
            (token.as_str(), false),
            ("Bearer ", false),
            ("Bearer wrong", false),
            ("Basic dXNlcjo=", false),
        ] {
            let head = head("/", &[("host", "localhost"), ("authorization", value)]);
            assert_eq!(allowed(&guard, &head), [true, true, changes], "{value}");
        }
        let bare = head("/", &[]);
        assert_eq!(guard.check(Client::Owner, &bare, Effect::Changes), Ok(()));
    }
}
