//! Package URLs of what builds add to the log.
//!
//! ```text
//! pkg:docker/library/alpine@sha256:<hex>                            an image of the default registry
//! pkg:docker/team/app@sha256:<hex>?repository_url=registry.test:5000    of another registry
//! pkg:maven/org.example/lib@1.0                                     a Maven version
//! ```
//!
//! A tag moves, so the immutable version of an image is its digest; a `BindTag` entry records what
//! the tag pointed to. The colon stays plain, as the package URL specification asks since 2025.

use std::fmt::Write as _;

use crate::base::Sha256;

/// The package URL of an image; `registry` is `None` for the network's default registry.
pub fn docker_purl(registry: Option<&str>, repository: &str, digest: &Sha256) -> String {
    let mut purl = String::from("pkg:docker/");
    push_path(&mut purl, repository);
    // Writing to a string cannot fail.
    let _ = write!(purl, "@sha256:{digest}");
    if let Some(registry) = registry {
        purl.push_str("?repository_url=");
        push_encoded(&mut purl, registry);
    }
    purl
}

/// The package URL of a Maven version.
pub fn maven_purl(group: &str, artifact: &str, version: &str) -> String {
    let mut purl = String::from("pkg:maven/");
    push_encoded(&mut purl, group);
    purl.push('/');
    push_encoded(&mut purl, artifact);
    purl.push('@');
    push_encoded(&mut purl, version);
    purl
}

fn push_path(purl: &mut String, path: &str) {
    for (at, part) in path.split('/').enumerate() {
        if at != 0 {
            purl.push('/');
        }
        push_encoded(purl, part);
    }
}

/// Appends `text`, percent-encoding what is neither unreserved (RFC 3986, 2.3) nor a colon.
fn push_encoded(purl: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
                purl.push(char::from(byte));
            }
            _ => {
                let _ = write!(purl, "%{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_named_by_digest_and_foreign_registries_by_qualifier() {
        let digest = Sha256([0xab; 32]);
        let hex = "ab".repeat(32);
        assert_eq!(
            docker_purl(None, "library/alpine", &digest),
            format!("pkg:docker/library/alpine@sha256:{hex}")
        );
        assert_eq!(
            docker_purl(Some("registry.test:5000"), "team/app", &digest),
            format!("pkg:docker/team/app@sha256:{hex}?repository_url=registry.test:5000")
        );
    }

    #[test]
    fn reserved_characters_are_percent_encoded() {
        for (version, expected) in [
            ("1.0", "pkg:maven/g/a@1.0"),
            ("1.0+build 2", "pkg:maven/g/a@1.0%2Bbuild%202"),
            ("é", "pkg:maven/g/a@%C3%A9"),
        ] {
            assert_eq!(maven_purl("g", "a", version), expected);
        }
    }
}
