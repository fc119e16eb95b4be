//! From a request's path to plain words, before anything is looked up.
//!
//! A path never reaches the file system: what passes here is parsed into names of images, Maven
//! coordinates, digests and numbers.

use percent_encoding::percent_decode_str;

use crate::problem::{Fault, Problem};

/// Longest path before decoding. Unit: bytes.
const PATH_BYTES_MAX: usize = 2_048;

/// The words of an absolute path, each decoded once. A slash at the end adds an empty word.
///
/// # Errors
///
/// [`Problem`] for a path that is too long, or has words no name consists of: what is still encoded
/// after decoding, `.` and `..`, slashes, backslashes, blanks, control and non-ASCII characters.
pub(crate) fn words(path: &str) -> Result<Vec<String>, Problem> {
    if PATH_BYTES_MAX < path.len() {
        let message = format!("a path has at most {PATH_BYTES_MAX} bytes");
        return Err(Problem::new(Fault::PathTooLong, message));
    }
    let malformed = || Problem::new(Fault::Malformed, "the path is malformed");
    let relative = path.strip_prefix('/').ok_or_else(malformed)?;
    relative
        .split('/')
        .map(|word| {
            let word = percent_decode_str(word).decode_utf8().ok()?;
            is_clean(&word).then(|| word.into_owned())
        })
        .collect::<Option<_>>()
        .ok_or_else(malformed)
}

fn is_clean(word: &str) -> bool {
    let plain = |it: u8| it.is_ascii_graphic() && !b"/\\%".contains(&it);
    word != "." && word != ".." && word.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_decoded_once() {
        for (path, expected) in [
            ("/", &[""][..]),
            ("/v2/", &["v2", ""]),
            ("/a/b+c", &["a", "b+c"]),
            ("/a%2Bb/sha256%3a00", &["a+b", "sha256:00"]),
            ("/a//b", &["a", "", "b"]),
            ("/...", &["..."]),
        ] {
            assert_eq!(words(path).unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn hostile_paths_are_refused() {
        for path in [
            "",
            "*",
            "a",
            "/..",
            "/a/../b",
            "/./a",
            "/%2e%2e/a",
            "/..%2f..%2fetc",
            "/a%2fb",
            "/%252e%252e/a",
            "/a%5cb",
            "/a\\..\\b",
            "/a%00",
            "/a%0d%0aX:1",
            "/a%7f",
            "/a%20b",
            "/%zz",
            "/%",
            "/%ff%fe",
            "/caf%C3%A9",
            "/café",
        ] {
            assert!(words(path).is_err(), "{path}");
        }
        let long = format!("/{}", "a".repeat(PATH_BYTES_MAX));
        let problem = words(&long).unwrap_err();
        let message = format!("a path has at most {PATH_BYTES_MAX} bytes");
        assert_eq!(problem, Problem::new(Fault::PathTooLong, message));
    }
}
