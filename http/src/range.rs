//! Byte ranges of a request.
//!
//! Source: RFC 9110, section 14. One range is served; a request for several gets the whole, which
//! the RFC allows.

/// Which bytes to send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wanted {
    /// All of them: status 200.
    Whole,
    /// `len` bytes from `start` on: status 206.
    Part {
        /// The first byte.
        start: u64,
        /// Number of bytes, at least 1.
        len: u64,
    },
    /// None of the bytes that exist: status 416.
    Beyond,
}

/// Reads a `Range` header for something of `size` bytes. What is not a single byte range is
/// ignored.
pub(crate) fn parse(header: &str, size: u64) -> Wanted {
    let Some(range) = header
        .trim()
        .strip_prefix("bytes=")
        .filter(|it| !it.contains(','))
    else {
        return Wanted::Whole;
    };
    let Some((first, last)) = range.trim().split_once('-') else {
        return Wanted::Whole;
    };
    match (first, number(first), last, number(last)) {
        (_, Some(first), "", _) => part(first, u64::MAX, size),
        (_, Some(first), _, Some(last)) if first <= last => part(first, last, size),
        ("", _, _, Some(0)) => Wanted::Beyond,
        ("", _, _, Some(suffix)) => part(size.saturating_sub(suffix), u64::MAX, size),
        _ => Wanted::Whole,
    }
}

fn part(first: u64, last: u64, size: u64) -> Wanted {
    if size <= first {
        return Wanted::Beyond;
    }
    let len = last.min(size - 1) - first + 1;
    Wanted::Part { start: first, len }
}

/// A number without sign or blanks; one that is too large counts as the largest.
fn number(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    plain.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_understood_and_the_rest_ignored() {
        let part = |start, len| Wanted::Part { start, len };
        for (header, size, expected) in [
            ("bytes=0-", 10, part(0, 10)),
            ("bytes=3-", 10, part(3, 7)),
            ("bytes=3-3", 10, part(3, 1)),
            ("bytes=3-99", 10, part(3, 7)),
            (" bytes=9-9 ", 10, part(9, 1)),
            ("bytes=-4", 10, part(6, 4)),
            ("bytes=-40", 10, part(0, 10)),
            ("bytes=3-99999999999999999999999", 10, part(3, 7)),
            ("bytes=10-", 10, Wanted::Beyond),
            ("bytes=10-20", 10, Wanted::Beyond),
            ("bytes=-0", 10, Wanted::Beyond),
            ("bytes=0-", 0, Wanted::Beyond),
            ("bytes=-1", 0, Wanted::Beyond),
            ("bytes=99999999999999999999999-", 10, Wanted::Beyond),
            ("bytes=4-3", 10, Wanted::Whole),
            ("bytes=0-1,3-4", 10, Wanted::Whole),
            ("bytes=", 10, Wanted::Whole),
            ("bytes=-", 10, Wanted::Whole),
            ("bytes=a-b", 10, Wanted::Whole),
            ("bytes=+1-2", 10, Wanted::Whole),
            ("bytes=--1", 10, Wanted::Whole),
            ("items=0-1", 10, Wanted::Whole),
            ("", 10, Wanted::Whole),
        ] {
            assert_eq!(parse(header, size), expected, "{header} of {size}");
        }
    }

    #[test]
    fn a_part_is_never_empty_or_beyond_the_end() {
        for size in 0..6 {
            for first in 0..7 {
                for last in 0..7 {
                    let header = format!("bytes={first}-{last}");
                    if let Wanted::Part { start, len } = parse(&header, size) {
                        assert!(0 < len && start + len <= size, "{header} of {size}");
                    }
                }
            }
        }
    }
}
