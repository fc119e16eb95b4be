//! What somebody asks to be added to the log.
//!
//! ```text
//! docker library/alpine:3.20                          a tag of the default registry, all platforms
//! docker registry.test:5000/team/app@sha256:<hex>     a digest of another registry
//! docker library/alpine:3.20 linux/amd64,linux/arm64  some platforms only
//! maven org.example:lib:1.0                           from the network's default repository
//! maven org.example:lib:1.0 https://repo.test/maven2  from another one
//! ```
//!
//! A spec has one form, so equal requests have equal ids and are built once. It only names things:
//! whether a node visits the named host is the decision of its owner.

use crate::base::digest::bytes_newtype;
use crate::base::{Sha256, codec};
use crate::proto::build::name::{
    URL_BYTES_MAX, check, clip, is_maven_name, is_maven_version, is_platform, is_registry,
    is_repository, is_tag, is_url,
};
use crate::proto::package::docker::DEFAULT_REGISTRY;
use crate::proto::package::{Coordinates, ImageName, PurlError};

/// Most platforms that a spec lists.
pub const PLATFORMS_MAX: usize = 16;

bytes_newtype!(
    /// A request to add something: the BLAKE3 digest of its [`BuildSpec`].
    BuildId,
    32
);

/// Why a text or a message is not a spec.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SpecError {
    /// Does not start with a package type we know.
    #[error("want `docker <image>` or `maven <group:artifact:version>`")]
    Kind,
    /// Longer than any spec.
    #[error("a name of {0} bytes is too long")]
    TooLong(usize),
    /// Not the name of an image's repository.
    #[error("`{0}` is not a repository: want parts of a-z, 0-9, `.`, `_` and `-`, divided by `/`")]
    Repository(String),
    /// Not a host with an optional port.
    #[error("`{0}` is not a registry: want a lower-case host name, and a port if needed")]
    Registry(String),
    /// Not a tag.
    #[error("`{0}` is not a tag: want 1 to 128 letters, digits, `_`, `.` and `-`")]
    Tag(String),
    /// Not `sha256:` and hex.
    #[error("`{0}` is not a digest: want `sha256:` and 64 lower-case hex digits")]
    Digest(String),
    /// Not a platform.
    #[error("`{0}` is not a platform: want `os/architecture`, such as `linux/amd64`")]
    Platform(String),
    /// More platforms than [`PLATFORMS_MAX`].
    #[error("{0} platforms are too many, leave the list out to get all")]
    Platforms(usize),
    /// Not three parts.
    #[error("`{0}` is not a Maven coordinate: want `group:artifact:version`")]
    Coordinate(String),
    /// A part of a coordinate with characters that no repository has.
    #[error("`{0}` is not a Maven name: want letters, digits, `.`, `_`, `-`, and `+` in versions")]
    MavenName(String),
    /// A version that means another artifact tomorrow.
    #[error("the version `{0}` moves; only fixed versions can be added")]
    Moving(String),
    /// Not the address of a repository.
    #[error("`{0}` is not a repository URL: want http(s)://host/path without user, `?` and `#`")]
    Url(String),
    /// The package cannot be named in the log.
    #[error(transparent)]
    Purl(#[from] PurlError),
}

/// What an image's name points with.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Reference {
    /// A name that may move.
    Tag(String),
    /// The manifest itself.
    Digest(Sha256),
}

/// An image to fetch from its registry. Made by [`Docker::new`].
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Docker {
    name: ImageName,
    reference: Reference,
    platforms: Vec<String>,
}

/// A Maven version to fetch, with all files that the repository has of it. Made by [`Maven::new`].
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Maven {
    repository: Option<String>,
    coordinates: Coordinates,
}

/// What to add to the log.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum BuildSpec {
    /// An image.
    Docker(Docker),
    /// A Maven version.
    Maven(Maven),
}

impl Docker {
    /// An image. `registry` is `None` for the network's default registry, where a repository of one
    /// part stands for the official image of that name. No `platforms` means all of them; their
    /// order and repetitions do not matter.
    ///
    /// # Errors
    ///
    /// [`SpecError`] naming the part that is malformed.
    pub fn new(
        registry: Option<&str>,
        repository: &str,
        reference: Reference,
        platforms: impl IntoIterator<Item = String>,
    ) -> Result<Self, SpecError> {
        if let Some(registry) = registry {
            check(registry, is_registry, SpecError::Registry)?;
        }
        check(repository, is_repository, SpecError::Repository)?;
        if let Reference::Tag(tag) = &reference {
            check(tag, is_tag, SpecError::Tag)?;
        }
        let mut platforms: Vec<String> = platforms.into_iter().take(PLATFORMS_MAX + 1).collect();
        if PLATFORMS_MAX < platforms.len() {
            return Err(SpecError::Platforms(platforms.len()));
        }
        for it in &platforms {
            check(it, is_platform, SpecError::Platform)?;
        }
        platforms.sort();
        platforms.dedup();
        let name = ImageName::new(registry.unwrap_or(DEFAULT_REGISTRY), repository)
            .map_err(|_| SpecError::Repository(clip(repository)))?;
        name.purl(&Sha256([0; 32]))?;
        Ok(Self {
            name,
            reference,
            platforms,
        })
    }

    /// Registry and repository.
    pub fn name(&self) -> &ImageName {
        &self.name
    }

    /// Host and port of the registry; `None` for the default, however it was given.
    pub fn registry(&self) -> Option<&str> {
        Some(self.name.registry()).filter(|it| *it != DEFAULT_REGISTRY)
    }

    /// Tag or digest.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// The wanted platforms, sorted; empty means all.
    pub fn platforms(&self) -> &[String] {
        &self.platforms
    }
}

impl Maven {
    /// A version; `repository` is `None` for the network's default repository.
    ///
    /// # Errors
    ///
    /// [`SpecError`] naming the part that is malformed, or a version that moves.
    pub fn new(
        repository: Option<&str>,
        group: &str,
        artifact: &str,
        version: &str,
    ) -> Result<Self, SpecError> {
        check(group, is_maven_name, SpecError::MavenName)?;
        check(artifact, is_maven_name, SpecError::MavenName)?;
        check(version, is_maven_version, SpecError::MavenName)?;
        if version.ends_with("-SNAPSHOT") || ["LATEST", "RELEASE"].contains(&version) {
            return Err(SpecError::Moving(version.to_owned()));
        }
        let repository = repository.map(|it| it.trim_end_matches('/'));
        if let Some(url) = repository
            && !(url.len() <= URL_BYTES_MAX && is_url(url))
        {
            return Err(SpecError::Url(clip(url)));
        }
        let coordinates = Coordinates::new(group, artifact, version)
            .map_err(|_| SpecError::Coordinate(clip(&format!("{group}:{artifact}:{version}"))))?;
        coordinates.purl()?;
        Ok(Self {
            repository: repository.map(str::to_owned),
            coordinates,
        })
    }

    /// URL of the repository without a slash at the end; `None` for the network's default.
    pub fn repository(&self) -> Option<&str> {
        self.repository.as_deref()
    }

    /// Group, artifact and version.
    pub fn coordinates(&self) -> &Coordinates {
        &self.coordinates
    }
}

impl BuildSpec {
    /// Equal specs have equal ids.
    pub fn id(&self) -> BuildId {
        let mut hasher = blake3::Hasher::new_derive_key("kogge 2026 build spec");
        hasher.update(&codec::encode(self));
        BuildId(*hasher.finalize().as_bytes())
    }

    /// The tag that the result binds, if the spec names one.
    pub fn tag(&self) -> Option<&str> {
        match self {
            Self::Docker(Docker {
                reference: Reference::Tag(tag),
                ..
            }) => Some(tag),
            Self::Docker(_) | Self::Maven(_) => None,
        }
    }

    /// Package URL of the result; for an image with a tag only once the tag's `digest` is known.
    pub fn purl(&self, digest: Option<&Sha256>) -> Option<String> {
        let purl = match self {
            Self::Docker(it) => match &it.reference {
                Reference::Digest(digest) => it.name.purl(digest),
                Reference::Tag(_) => it.name.purl(digest?),
            },
            Self::Maven(it) => it.coordinates.purl(),
        };
        // A spec whose package has no URL was not made.
        purl.ok().map(|it| it.as_str().to_owned())
    }
}

impl From<Docker> for BuildSpec {
    fn from(it: Docker) -> Self {
        Self::Docker(it)
    }
}

impl From<Maven> for BuildSpec {
    fn from(it: Maven) -> Self {
        Self::Maven(it)
    }
}
