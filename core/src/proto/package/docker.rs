//! Image references as users write them, and the package URLs of images.
//!
//! ```text
//! reference = [registry "/"] repository [":" tag] ["@" digest]
//! purl      = pkg:docker/<repository>@sha256:<hex>[?repository_url=<registry>]
//! ```
//!
//! Source: OCI distribution-spec 1.1, "Pulling manifests" (repository and tag), and the grammar of
//! familiar names that every client shares. The first part is a *registry* if it has a dot or a
//! port or is `localhost`; a reference without one belongs to [`DEFAULT_REGISTRY`]. A registry is
//! a label here, not an address: where its bytes come from is configuration.

use std::fmt;
use std::str::FromStr;

use crate::base::Sha256;
use crate::proto::package::purl::{Purl, PurlError};

/// The registry that clients mean when they name none.
pub const DEFAULT_REGISTRY: &str = "docker.io";

/// The namespace that clients mean in the default registry when they name none.
const DEFAULT_NAMESPACE: &str = "library";

/// Longest registry, slash and repository together, as clients limit it. Unit: bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// Longest tag. Unit: bytes.
pub const TAG_BYTES_MAX: usize = 128;

/// The tag that clients mean when they name none.
pub const DEFAULT_TAG: &str = "latest";

/// Why a text is not an image reference.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReferenceError {
    /// Registry and repository are too long together.
    #[error("`{0}…` is too long for an image name: at most {NAME_BYTES_MAX} bytes")]
    TooLong(String),
    /// The registry is not a host with an optional port.
    #[error("`{0}` is not a registry: want `localhost` or a host with a dot or a port")]
    Registry(String),
    /// The repository breaks the grammar.
    #[error("`{0}` is not a repository: want lower-case parts of a-z, 0-9, `.`, `_`, `-`")]
    Repository(String),
    /// The tag breaks the grammar.
    #[error("`{0}` is not a tag: want up to {TAG_BYTES_MAX} of a-z, A-Z, 0-9, `_`, `.`, `-`")]
    Tag(String),
    /// The digest is not one that the log can hold.
    #[error("`{0}` is not a usable digest: want `sha256:` and 64 lower-case hex digits")]
    Digest(String),
}

/// A repository in a registry, such as `docker.io/library/alpine`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ImageName {
    registry: String,
    repository: String,
}

/// What in a repository is meant.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Pointer {
    /// Whatever the tag points to at the moment.
    Tag(String),
    /// The manifest with this digest.
    Digest(Sha256),
}

/// An image reference in full.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ImageReference {
    /// The repository.
    pub name: ImageName,
    /// What in it. A reference with a tag and a digest means the digest, as for all clients.
    pub pointer: Pointer,
}

impl ImageName {
    /// The repository `repository` of `registry`. In the default registry a single part means the
    /// default namespace: `alpine` is `library/alpine`.
    ///
    /// # Errors
    ///
    /// [`ReferenceError`] if a part breaks the grammar or a limit.
    pub fn new(registry: &str, repository: &str) -> Result<Self, ReferenceError> {
        if NAME_BYTES_MAX < registry.len().saturating_add(repository.len()) {
            return Err(ReferenceError::TooLong(shorten(repository)));
        }
        // Hosts are the same in either case; the log knows one.
        let registry = registry.to_ascii_lowercase();
        // A bare word would read as a part of a repository: `Quay/x` is not `docker.io/quay/x`.
        if !is_registry(&registry) || !looks_like_registry(&registry) {
            return Err(ReferenceError::Registry(registry));
        }
        if !repository.split('/').all(is_repository_part) {
            return Err(ReferenceError::Repository(repository.to_owned()));
        }
        let repository = if registry == DEFAULT_REGISTRY && !repository.contains('/') {
            format!("{DEFAULT_NAMESPACE}/{repository}")
        } else {
            repository.to_owned()
        };
        // Once more: what is written with its namespace must be readable again.
        if NAME_BYTES_MAX < registry.len() + repository.len() {
            return Err(ReferenceError::TooLong(shorten(&repository)));
        }
        Ok(Self {
            registry,
            repository,
        })
    }

    /// The registry's label, such as `docker.io` or `localhost:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository, such as `library/alpine`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The name of the image with `digest` in the log.
    ///
    /// # Errors
    ///
    /// [`PurlError::TooLong`], which the limits of names rule out in practice.
    pub fn purl(&self, digest: &Sha256) -> Result<Purl, PurlError> {
        let (namespace, name) = match self.repository.rsplit_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, self.repository.as_str()),
        };
        let elsewhere = [("repository_url", self.registry.as_str())];
        let qualifiers: &[_] = if self.registry == DEFAULT_REGISTRY {
            &[]
        } else {
            &elsewhere
        };
        let version = format!("sha256:{digest}");
        Purl::new("docker", namespace, name, Some(&version), qualifiers)
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)
    }
}

impl ImageReference {
    /// Reads the package URL of an image: its version is a digest, or a tag if a user typed it.
    ///
    /// # Errors
    ///
    /// [`PurlError::Type`] if the package is not an image or has no version.
    pub fn from_purl(purl: &Purl) -> Result<Self, PurlError> {
        let wanted = || PurlError::Type {
            purl: purl.to_string(),
            wanted: "container image with a digest or tag",
        };
        let (Some(version), "docker") = (purl.version(), purl.kind()) else {
            return Err(wanted());
        };
        let repository = match purl.namespace() {
            Some(namespace) => format!("{namespace}/{}", purl.name()),
            None => purl.name().to_owned(),
        };
        let registry = purl.qualifier("repository_url").unwrap_or(DEFAULT_REGISTRY);
        Ok(Self {
            name: ImageName::new(registry, &repository).map_err(|_| wanted())?,
            pointer: version.parse().map_err(|_| wanted())?,
        })
    }
}

impl FromStr for ImageReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        let (registry, rest) = match rest.split_once('/') {
            Some((first, rest)) if looks_like_registry(first) => (first, rest),
            _ => (DEFAULT_REGISTRY, rest),
        };
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        let name = ImageName::new(registry, repository)?;
        let tag = tag.map(parse_tag).transpose()?;
        let digest = digest.map(parse_digest).transpose()?;
        let pointer = match (digest, tag) {
            (Some(digest), _) => Pointer::Digest(digest),
            (None, Some(tag)) => Pointer::Tag(tag),
            (None, None) => Pointer::Tag(DEFAULT_TAG.to_owned()),
        };
        Ok(Self { name, pointer })
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pointer {
            Pointer::Tag(tag) => write!(f, "{}:{tag}", self.name),
            Pointer::Digest(digest) => write!(f, "{}@sha256:{digest}", self.name),
        }
    }
}

impl FromStr for Pointer {
    type Err = ReferenceError;

    /// Reads the last part of `/v2/<name>/manifests/<tag or digest>`. A colon makes it a digest:
    /// no tag has one.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.contains(':') {
            parse_digest(text).map(Self::Digest)
        } else {
            parse_tag(text).map(Self::Tag)
        }
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => write!(f, "sha256:{digest}"),
        }
    }
}

/// Reads `sha256:` and 64 lower-case hex digits.
///
/// # Errors
///
/// [`ReferenceError::Digest`] otherwise; sha512 is registered for images too, but the log names
/// images by sha256.
pub fn parse_digest(text: &str) -> Result<Sha256, ReferenceError> {
    text.strip_prefix("sha256:")
        .and_then(Sha256::from_hex)
        .ok_or_else(|| ReferenceError::Digest(shorten(text)))
}

fn parse_tag(text: &str) -> Result<String, ReferenceError> {
    let is_word = |it: u8| it.is_ascii_alphanumeric() || it == b'_';
    let fits = match text.as_bytes() {
        [first, rest @ ..] => {
            is_word(*first)
                && rest.len() < TAG_BYTES_MAX
                && rest.iter().all(|it| is_word(*it) || b".-".contains(it))
        }
        [] => false,
    };
    if fits {
        Ok(text.to_owned())
    } else {
        Err(ReferenceError::Tag(shorten(text)))
    }
}

fn looks_like_registry(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':', '[']) || part.contains(char::is_uppercase)
}

/// A host name, an IPv4 address or an IPv6 address in brackets, with an optional port.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    if port.is_some_and(|it| it.parse::<u16>().is_err() || it.starts_with('+')) {
        return false;
    }
    if let Some(address) = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
        return address.parse::<core::net::Ipv6Addr>().is_ok();
    }
    host.split('.').all(|label| {
        let clean = label
            .bytes()
            .all(|it| it.is_ascii_alphanumeric() || it == b'-');
        clean && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    })
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_repository_part(part: &str) -> bool {
    let is_plain = |it: &u8| it.is_ascii_lowercase() || it.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends_plain = bytes.first().is_some_and(is_plain) && bytes.last().is_some_and(is_plain);
    ends_plain
        && bytes
            .split(is_plain)
            .all(|it| matches!(it, b"" | b"." | b"_" | b"__") || it.iter().all(|it| *it == b'-'))
}

/// Enough of a foreign text to recognize it in a message.
fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn references_mean_what_clients_mean() {
        let by_digest = format!("localhost:5000/x/y:1@sha256:{HEX}");
        let digest_full = format!("localhost:5000/x/y@sha256:{HEX}");
        for (given, full) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("library/alpine:3.20", "docker.io/library/alpine:3.20"),
            ("docker.io/alpine", "docker.io/library/alpine:latest"),
            ("quay.example/ns/name:tag", "quay.example/ns/name:tag"),
            ("Quay.Example/name", "quay.example/name:latest"),
            ("localhost/x", "localhost/x:latest"),
            ("[::1]:5000/x:1", "[::1]:5000/x:1"),
            ("a/b/c_d/e--f.g:T.1", "docker.io/a/b/c_d/e--f.g:T.1"),
            (by_digest.as_str(), digest_full.as_str()),
        ] {
            let reference: ImageReference = given.parse().unwrap();
            assert_eq!(reference.to_string(), full, "{given}");
            assert_eq!(full.parse(), Ok(reference), "{full}");
        }
    }

    #[test]
    fn the_longest_name_can_be_written_and_read_again() {
        let room = NAME_BYTES_MAX - DEFAULT_REGISTRY.len() - "library/".len();
        for (bytes, fits) in [(room, true), (room + 1, false)] {
            let reference: Result<ImageReference, _> = "a".repeat(bytes).parse();
            assert_eq!(reference.is_ok(), fits, "{bytes}");
            if let Ok(it) = reference {
                assert_eq!(it.to_string().parse(), Ok(it));
            }
        }
    }

    #[test]
    fn what_breaks_the_grammar_is_refused() {
        for text in [
            "",
            ":tag",
            "@",
            "Alpine",
            "Quay/x",
            "a//b",
            "/a",
            "a/",
            "a___b",
            "a..b",
            "a-",
            "-a",
            "../a",
            "alpine:",
            "alpine:.x",
            "alpine:a/b",
            "alpine@sha256:00",
            "alpine@sha512:00",
            "quay.example:99999/x",
            "quay.example:/x",
            "-x.example/y",
            "[::zz]/x",
            "a\n",
        ] {
            assert!(text.parse::<ImageReference>().is_err(), "{text:?}");
        }
        let long = "a".repeat(NAME_BYTES_MAX);
        assert!(matches!(
            long.parse::<ImageReference>(),
            Err(ReferenceError::TooLong(_))
        ));
        let tag = format!("a:{}", "t".repeat(TAG_BYTES_MAX + 1));
        assert!(matches!(
            tag.parse::<ImageReference>(),
            Err(ReferenceError::Tag(_))
        ));
    }

    #[test]
    fn an_image_has_one_name_in_the_log() {
        for (given, expected) in [
            ("alpine", format!("pkg:docker/library/alpine@sha256:{HEX}")),
            (
                "quay.example/x",
                format!("pkg:docker/x@sha256:{HEX}?repository_url=quay.example"),
            ),
            (
                "localhost:5000/a/b/c",
                format!("pkg:docker/a/b/c@sha256:{HEX}?repository_url=localhost:5000"),
            ),
        ] {
            let name = given.parse::<ImageReference>().unwrap().name;
            let digest = Sha256::from_hex(HEX).unwrap();
            let purl = name.purl(&digest).unwrap();
            assert_eq!(purl.as_str(), expected);
            let pointer = Pointer::Digest(digest);
            let expected = ImageReference { name, pointer };
            assert_eq!(ImageReference::from_purl(&purl), Ok(expected));
        }
    }

    #[test]
    fn a_typed_url_may_leave_out_the_namespace_and_give_a_tag() {
        let purl: Purl = "pkg:docker/alpine@3.20".parse().unwrap();
        let reference = ImageReference::from_purl(&purl).unwrap();
        assert_eq!(reference.to_string(), "docker.io/library/alpine:3.20");
        for text in [
            "pkg:maven/g/a@1",
            "pkg:docker/alpine",
            "pkg:docker/Alpine@1",
            "pkg:docker/a@sha256:00",
        ] {
            let purl: Purl = text.parse().unwrap();
            assert!(
                matches!(
                    ImageReference::from_purl(&purl),
                    Err(PurlError::Type { .. })
                ),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered_and_what_is_read_is_stable(text in "[a-zA-Z0-9:/@._\\[\\]-]{0,60}") {
            if let Ok(reference) = text.parse::<ImageReference>() {
                prop_assert_eq!(reference.to_string().parse(), Ok(reference));
            }
        }
    }
}
