//! What an image runs on.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// A text that is not a platform.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not a platform: want `os/architecture`, such as `linux/amd64`")]
pub struct PlatformError(String);

/// What an image runs on.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Platform {
    /// Operating system in Go's words, such as `linux`.
    #[serde(default)]
    pub os: String,
    /// Processor in Go's words, such as `arm64`.
    #[serde(default)]
    pub architecture: String,
    /// Variant of the processor, such as `v8`; empty if none.
    #[serde(default)]
    pub variant: String,
}

impl Platform {
    /// Whether an image for `self` serves who asked for `wanted`: a variant that was not asked
    /// for does not matter.
    pub fn serves(&self, wanted: &Self) -> bool {
        self.os == wanted.os
            && self.architecture == wanted.architecture
            && (wanted.variant.is_empty() || self.variant == wanted.variant)
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    /// Reads `os/architecture` or `os/architecture/variant`.
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let is_word = |it: &&str| {
            !it.is_empty() && it.len() <= 32 && it.bytes().all(|b| b.is_ascii_alphanumeric())
        };
        let parts: Vec<_> = text.split('/').filter(is_word).collect();
        let (os, architecture, variant) = match (parts.as_slice(), text.matches('/').count()) {
            ([os, architecture], 1) => (*os, *architecture, ""),
            ([os, architecture, variant], 2) => (*os, *architecture, *variant),
            _ => {
                return Err(PlatformError(text.chars().take(80).collect()));
            }
        };
        let [os, architecture, variant] = [os, architecture, variant].map(str::to_owned);
        Ok(Self {
            os,
            architecture,
            variant,
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() {
            Ok(())
        } else {
            write!(f, "/{}", self.variant)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_serves_who_did_not_ask_for_a_variant() {
        let v8: Platform = "linux/arm64/v8".parse().unwrap();
        for (wanted, expected) in [
            ("linux/arm64", true),
            ("linux/arm64/v8", true),
            ("linux/arm64/v7", false),
            ("linux/amd64", false),
            ("windows/arm64", false),
        ] {
            assert_eq!(v8.serves(&wanted.parse().unwrap()), expected, "{wanted}");
        }
        for text in [
            "",
            "linux",
            "linux/",
            "/amd64",
            "a/b/c/d",
            "linux//v8",
            "linux/a b",
        ] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }
}
