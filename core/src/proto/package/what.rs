//! Names of packages and artifacts, as people write them.
//!
//! ```text
//! sha256:<hex>                    a digest of any algorithm of the log
//! alpine:3.20                     an image, by tag or digest
//! quay.test/team/app@sha256:<hex>
//! org.example:lib:1.0             a Maven version
//! pkg:maven/org.example/lib@1.0   any package URL
//! ```

use std::str::FromStr;

use crate::base::{Digest, DigestError};
use crate::proto::package::{Coordinates, ImageReference, Purl};

/// Longest name. Unit: bytes.
pub const WHAT_BYTES_MAX: usize = 2_048;

/// A text that names nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WhatError {
    /// Nothing, or more than [`WHAT_BYTES_MAX`] bytes.
    #[error("want an image, group:artifact:version, a package URL, or a digest")]
    Length,
    /// No form fits.
    #[error("{0}")]
    Form(String),
}

/// A name as people write it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum What {
    /// An artifact.
    Digest(Digest),
    /// A package that is not an image: its canonical package URL.
    Package(String),
    /// An image.
    Image(ImageReference),
}

impl FromStr for What {
    type Err = WhatError;

    fn from_str(text: &str) -> Result<Self, WhatError> {
        let form = |it: String| WhatError::Form(it);
        if text.is_empty() || WHAT_BYTES_MAX < text.len() {
            return Err(WhatError::Length);
        }
        match text.parse() {
            Ok(digest) => return Ok(Self::Digest(digest)),
            // The name of an algorithm: a digest that was cut short, not an image `sha256`.
            Err(error @ DigestError::Text(_)) if text.contains(':') => {
                return Err(form(error.to_string()));
            }
            Err(_) => (),
        }
        if text.starts_with("pkg:") {
            let purl = Purl::from_str(text).map_err(|it| form(it.to_string()))?;
            return Ok(match ImageReference::from_purl(&purl) {
                Ok(image) => Self::Image(image),
                Err(_) => Self::Package(purl.as_str().to_owned()),
            });
        }
        // An image with two colons has a slash between them: `localhost:5000/x:1`.
        if !text.contains(['/', '@'])
            && let Ok(it) = text.parse::<Coordinates>()
            && let Ok(purl) = it.purl()
        {
            return Ok(Self::Package(purl.as_str().to_owned()));
        }
        let image = text.parse::<ImageReference>();
        image.map(Self::Image).map_err(|it| form(it.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_name_is_understood() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let image = |it: &str| What::Image(it.parse().unwrap());
        let package = |it: &str| What::Package(it.to_owned());
        for (text, expected) in [
            (digest.as_str(), What::Digest(digest.parse().unwrap())),
            ("alpine", image("docker.io/library/alpine:latest")),
            ("localhost:5000/x:1", image("localhost:5000/x:1")),
            ("alpine:3.20", image("alpine:3.20")),
            ("pkg:docker/alpine@3.20", image("alpine:3.20")),
            ("g.h:a:1.0", package("pkg:maven/g.h/a@1.0")),
            ("pkg:maven/g.h/a@1.0", package("pkg:maven/g.h/a@1.0")),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        let long = "a".repeat(WHAT_BYTES_MAX + 1);
        for text in ["", "Alpine", "pkg:", "a:b:c:d", "../x", "sha256:ab", &long] {
            assert!(text.parse::<What>().is_err(), "{text}");
        }
    }
}
