//! Anonymous tokens: registries hand out public images only to those who fetch one first.
//!
//! ```text
//! GET manifest            → 401, WWW-Authenticate: Bearer realm=…,service=…,scope=…
//! GET realm?service&scope → {"token": …}
//! GET manifest, Authorization: Bearer …
//! ```
//!
//! Source: distribution, "Token Authentication Specification".

use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use url::Url;

use crate::node::pipeline::address::parse_upstream;
use crate::node::pipeline::error::PipelineError;
use crate::node::pipeline::http::{Client, Credentials, Request};
use crate::node::pipeline::job::Cancel;

/// Longest answer of a token service. Unit: bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1_024;

/// Longest token; longer ones would not fit a request's header elsewhere. Unit: bytes.
const TOKEN_BYTES_MAX: usize = 16 * 1_024;

/// Gets and keeps the token for one repository.
pub(crate) struct Tokens<'a> {
    client: &'a Client,
    /// The registry that asks for tokens.
    registry: Url,
    /// What to ask for if the registry does not say.
    scope: String,
    token: Mutex<Option<String>>,
}

impl<'a> Tokens<'a> {
    /// For pulls of `repository` from the registry at `url`.
    pub(crate) fn new(
        client: &'a Client,
        url: &str,
        repository: &str,
    ) -> Result<Self, PipelineError> {
        Ok(Self {
            client,
            registry: parse_upstream(url)?,
            scope: format!("repository:{repository}:pull"),
            token: Mutex::new(None),
        })
    }

    fn fetch(&self, challenge: &Challenge, cancel: &Cancel) -> Result<String, PipelineError> {
        let mut url = parse_upstream(&challenge.realm)?;
        // A registry elsewhere must not make this machine ask itself.
        self.client.check_target(&self.registry, &url)?;
        let scope = challenge.scope.as_deref().unwrap_or(&self.scope);
        let mut query = url.query_pairs_mut();
        if let Some(service) = &challenge.service {
            query.append_pair("service", service);
        }
        query.append_pair("scope", scope);
        drop(query);
        let request = Request {
            what: "the registry's token",
            url: url.as_str(),
            accept: None,
            credentials: None,
        };
        let (_, bytes) = self.client.get(&request, ANSWER_BYTES_MAX, cancel)?;
        let answer: TokenAnswer =
            serde_json::from_slice(&bytes).map_err(|it| unreadable(it.to_string()))?;
        let token = answer.token.or(answer.access_token).unwrap_or_default();
        let is_clean = token.bytes().all(|it| it.is_ascii_graphic());
        if token.is_empty() || TOKEN_BYTES_MAX < token.len() || !is_clean {
            return Err(unreadable("it has no usable token".to_owned()));
        }
        Ok(token)
    }
}

impl Credentials for Tokens<'_> {
    fn authorization(&self) -> Option<String> {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        token.as_ref().map(|it| format!("Bearer {it}"))
    }

    fn renew(&self, challenge: &str, cancel: &Cancel) -> Result<bool, PipelineError> {
        let Some(challenge) = Challenge::parse(challenge) else {
            return Ok(false);
        };
        let token = self.fetch(&challenge, cancel)?;
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
        Ok(true)
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

/// A `Bearer` challenge (RFC 6750, 3).
#[derive(Debug, Default, Eq, PartialEq)]
struct Challenge {
    realm: String,
    service: Option<String>,
    scope: Option<String>,
}

impl Challenge {
    /// Finds the `Bearer` challenge in a `WWW-Authenticate`, which may offer others before it.
    fn parse(text: &str) -> Option<Self> {
        let at = text.to_ascii_lowercase().find("bearer ")?;
        let mut rest = text.get(at..)?.get("bearer ".len()..)?;
        let mut challenge = Self::default();
        while let Some((name, after)) = rest.split_once('=') {
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_at(after.find(',').unwrap_or(after.len())),
            };
            match name.trim().to_ascii_lowercase().as_str() {
                "realm" => challenge.realm = value.to_owned(),
                "service" => challenge.service = Some(value.to_owned()),
                "scope" => challenge.scope = Some(value.to_owned()),
                _ => {}
            }
            rest = after.trim_start().trim_start_matches(',');
        }
        (!challenge.realm.is_empty()).then_some(challenge)
    }
}

fn unreadable(problem: String) -> PipelineError {
    PipelineError::Malformed {
        what: "the registry's token".to_owned(),
        problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::pipeline::testing::{Reply, Server, client};

    #[test]
    fn challenges_are_read() {
        for (text, realm, service, scope) in [
            (
                "Bearer realm=\"https://a.example/token\",service=\"r.example\",scope=\"repository:a/b:pull,push\"",
                "https://a.example/token",
                Some("r.example"),
                Some("repository:a/b:pull,push"),
            ),
            ("bearer realm=r", "r", None, None),
            (
                "Basic realm=\"x\", Bearer realm=\"y\" , error=\"e\"",
                "y",
                None,
                None,
            ),
        ] {
            let expected = Challenge {
                realm: realm.into(),
                service: service.map(Into::into),
                scope: scope.map(Into::into),
            };
            assert_eq!(Challenge::parse(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "Basic realm=\"x\"",
            "Bearer",
            "Bearer service=\"x\"",
            "Bearer realm=\"x",
        ] {
            assert_eq!(Challenge::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_token_is_asked_for_with_service_and_scope() {
        let server = Server::start(|_| Reply::ok(r#"{"access_token":"t"}"#));
        let client = client();
        let tokens = Tokens::new(&client, &server.url("/"), "a/b").unwrap();
        assert_eq!(tokens.authorization(), None);
        let challenge = format!(
            "Bearer realm=\"{}\",service=\"s\"",
            server.url("/token?x=1")
        );
        assert_eq!(tokens.renew(&challenge, &Cancel::new()), Ok(true));
        assert_eq!(tokens.authorization().as_deref(), Some("Bearer t"));
        assert_eq!(
            server.lines(),
            ["GET /token?x=1&service=s&scope=repository%3Aa%2Fb%3Apull"]
        );
        assert_eq!(tokens.renew("Basic realm=\"x\"", &Cancel::new()), Ok(false));
    }

    #[test]
    fn useless_tokens_are_refused() {
        for answer in [
            "",
            "{}",
            r#"{"token":""}"#,
            r#"{"token":"a\r\nb"}"#,
            r#"{"token":1}"#,
        ] {
            let server = Server::start(move |_| Reply::ok(answer));
            let client = client();
            let tokens = Tokens::new(&client, &server.url("/"), "a").unwrap();
            let challenge = format!("Bearer realm=\"{}\"", server.url("/"));
            let error = tokens.renew(&challenge, &Cancel::new()).unwrap_err();
            assert_eq!(error.code(), "malformed", "{answer}");
        }
    }

    #[test]
    fn a_registry_elsewhere_cannot_send_us_to_ourselves() {
        let server = Server::start(|_| Reply::ok(r#"{"token":"t"}"#));
        let client = client();
        let tokens = Tokens::new(&client, "https://registry.example", "a").unwrap();
        let challenge = format!("Bearer realm=\"{}\"", server.url("/"));
        assert_eq!(
            tokens.renew(&challenge, &Cancel::new()).unwrap_err().code(),
            "unsupported"
        );
        assert_eq!(server.lines().len(), 0);
    }
}
