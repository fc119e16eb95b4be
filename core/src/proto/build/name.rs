//! Which names of images and Maven versions are well-formed.
//!
//! Names end up in URLs, paths and terminals of every node, so these rules are stricter than any
//! registry's and the same for what people type and for what peers send.

use crate::proto::build::spec::SpecError;

/// Longest name in a spec: repository, registry, group, artifact or version. Unit: bytes.
pub(crate) const NAME_BYTES_MAX: usize = 255;

/// Longest tag of an image. Unit: bytes. Source: OCI distribution specification, "Pulling manifests".
pub(crate) const TAG_BYTES_MAX: usize = 128;

/// Longest URL of a Maven repository. Unit: bytes.
pub(crate) const URL_BYTES_MAX: usize = 512;

pub(crate) fn check(
    name: &str,
    is_good: fn(&str) -> bool,
    error: fn(String) -> SpecError,
) -> Result<(), SpecError> {
    if NAME_BYTES_MAX < name.len() {
        return Err(SpecError::TooLong(name.len()));
    }
    if is_good(name) {
        Ok(())
    } else {
        Err(error(clip(name)))
    }
}

/// The start of a text that may be hostile, for an error message.
pub(crate) fn clip(text: &str) -> String {
    text.chars()
        .take(80)
        .map(|it| if it.is_control() { '?' } else { it })
        .collect()
}

/// `[a-z0-9]+` parts, divided inside by one `.`, one or two `_`, or any number of `-`.
///
/// Source: OCI distribution specification, "Pulling manifests".
pub(crate) fn is_repository(name: &str) -> bool {
    name.split('/').all(|part| {
        let bytes = part.as_bytes();
        let plain = |it: &u8| it.is_ascii_lowercase() || it.is_ascii_digit();
        bytes.first().is_some_and(plain)
            && bytes.last().is_some_and(plain)
            && bytes
                .split(plain)
                .all(|it| matches!(it, b"" | b"." | b"_" | b"__") || it.iter().all(|c| *c == b'-'))
    })
}

pub(crate) fn is_registry(name: &str) -> bool {
    let (host, port) = match name.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (name, None),
    };
    let label = |it: &str| {
        !it.is_empty()
            && !it.starts_with('-')
            && !it.ends_with('-')
            && it
                .bytes()
                .all(|it| matches!(it, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    };
    // A bare word would be read as a part of the repository.
    let is_host = name.contains(['.', ':']) || name == "localhost";
    let is_port = |it: &str| {
        it.bytes().all(|it| it.is_ascii_digit()) && it.parse::<u16>().is_ok_and(|it| it != 0)
    };
    is_host && host.split('.').all(label) && port.is_none_or(is_port)
}

pub(crate) fn is_tag(tag: &str) -> bool {
    let word = |it: u8| it.is_ascii_alphanumeric() || it == b'_';
    tag.len() <= TAG_BYTES_MAX
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|it| word(it) || matches!(it, b'.' | b'-'))
}

pub(crate) fn is_platform(name: &str) -> bool {
    let part = |it: &str| {
        !it.is_empty()
            && it
                .bytes()
                .all(|it| matches!(it, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.'))
    };
    matches!(name.split('/').count(), 2 | 3) && name.split('/').all(part) && !name.contains("..")
}

/// Groups become folders, so no dot may stand alone.
pub(crate) fn is_maven_name(name: &str) -> bool {
    is_maven_version(name) && !name.contains('+')
}

pub(crate) fn is_maven_version(name: &str) -> bool {
    let plain = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'_' | b'-' | b'+');
    !name.is_empty() && name.bytes().all(plain) && name.split('.').all(|it| !it.is_empty())
}

pub(crate) fn is_url(url: &str) -> bool {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let Some((host, path)) = rest.map(|it| it.split_once('/').unwrap_or((it, "."))) else {
        return false;
    };
    let plain =
        |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'_' | b'-' | b'~' | b'/');
    let (name, port) = host.split_once(':').unwrap_or((host, "80"));
    is_registry(&format!("{name}:{port}"))
        && path.bytes().all(plain)
        && path
            .split('/')
            .all(|it| it == path && it == "." || !matches!(it, "" | "." | ".."))
}
