//! The textual form of queries, for the command line and HTTP.
//!
//! It is a list of `name=value`, separated by blanks, as in
//! `package=maven/g/a since=2026-01-01 order=oldest limit=10`; in HTTP it is the query string.

use std::fmt;
use std::str::FromStr;

use crate::base::{Algorithm, Blake3, NodeId, PublicKey, Subject, WallTime, hex};
use crate::proto::log::query::{
    Cursor, DIGEST_DIGITS_MIN, DigestFilter, KINDS, LIMIT_MAX, Order, Query, TagName,
};

/// Longest textual query. Unit: bytes.
pub const QUERY_BYTES_MAX: usize = 8_192;

/// A text that is not a query.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum QueryError {
    /// The query is too long.
    #[error("the query has {0} bytes, at most {QUERY_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// A term has no `=`.
    #[error("`{0}` is not a term of a query: want `name=value`")]
    Term(String),
    /// No filter has this name.
    #[error(
        "`{0}` is not a filter; known are package, purl, file, digest, publisher, node, source, \
         commit, dependency, subject, tag, kind, since, until, order, limit, after"
    )]
    Name(String),
    /// A filter is given twice.
    #[error("`{0}` is given twice")]
    Twice(String),
    /// The value does not fit the filter.
    #[error("`{value}` does not fit `{name}`: want {want}")]
    Value {
        /// The filter.
        name: &'static str,
        /// The value.
        value: String,
        /// What fits.
        want: &'static str,
    },
    /// A commit without its repository.
    #[error("`commit` needs `source`, since commits are known by repository")]
    CommitAlone,
}

impl Query {
    /// Reads the terms of a query, such as the decoded pairs of a query string.
    ///
    /// # Errors
    ///
    /// [`QueryError`] naming the first problem.
    pub fn from_pairs<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, QueryError> {
        let (mut query, mut seen) = (Self::default(), Vec::new());
        for (name, value) in pairs {
            if seen.contains(&name) {
                return Err(QueryError::Twice(name.to_owned()));
            }
            query.set(name, value)?;
            seen.push(name);
        }
        if query.commit.is_some() && query.source.is_none() {
            return Err(QueryError::CommitAlone);
        }
        Ok(query)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), QueryError> {
        match name {
            "package" => self.package = Some(package(value)?),
            "purl" => self.purl = Some(purl(value)?),
            "file" => self.file = Some(text("file", value)?),
            "digest" => self.digest = Some(digest(value)?),
            "publisher" => {
                self.publisher = Some(want("publisher", value, KEY, PublicKey::from_hex(value))?);
            }
            "node" => self.node = Some(want("node", value, KEY, NodeId::from_hex(value))?),
            "source" => self.source = Some(text("source", value)?),
            "commit" => {
                let bytes = hex::decode(value).filter(|it| !it.is_empty());
                self.commit = Some(want("commit", value, "lower-case hex", bytes)?);
            }
            "dependency" => {
                let it = Blake3::from_hex(value);
                self.dependency = Some(want("dependency", value, KEY, it)?);
            }
            "subject" => {
                self.subject = Some(want("subject", value, KEY, Subject::from_hex(value))?);
            }
            "tag" => self.tag = Some(tag(value)?),
            "kind" => {
                let it = (0..).zip(KINDS).find(|it| it.1 == value);
                self.kind = Some(want("kind", value, KINDS_TEXT, it)?.0);
            }
            "since" => self.since = Some(want("since", value, TIME, time(value))?),
            "until" => self.until = Some(want("until", value, TIME, time(value))?),
            "order" => {
                let it = match value {
                    "newest" => Some(Order::NewestFirst),
                    "oldest" => Some(Order::OldestFirst),
                    _ => None,
                };
                self.order = want("order", value, "`newest` or `oldest`", it)?;
            }
            "limit" => {
                let it = value.parse().ok().filter(|it| (1..=LIMIT_MAX).contains(it));
                self.limit = want("limit", value, "a number from 1 to 1000", it)?;
            }
            "after" => {
                let it = value.parse().ok();
                self.after = Some(want("after", value, "the `next` of a page", it)?);
            }
            _ => return Err(QueryError::Name(name.to_owned())),
        }
        Ok(())
    }
}

impl FromStr for Query {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        if QUERY_BYTES_MAX < text.len() {
            return Err(QueryError::TooLong(text.len()));
        }
        let terms: Vec<_> = text
            .split_whitespace()
            .map(|term| {
                term.split_once('=')
                    .ok_or_else(|| QueryError::Term(term.to_owned()))
            })
            .collect::<Result<_, _>>()?;
        Self::from_pairs(terms)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.as_of, self.at)
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (as_of, at) = text.split_once('-').ok_or(())?;
        Ok(Self {
            as_of: as_of.parse().map_err(|_| ())?,
            at: at.parse().map_err(|_| ())?,
        })
    }
}

const KEY: &str = "64 lower-case hex digits";
const KINDS_TEXT: &str =
    "seal, add-artifact, remove-artifact, add-node, remove-node, bind-tag or attest";
const TIME: &str = "2026-11-20, 2026-11-20T08:15:00Z, or milliseconds since 1970";

fn want<T>(
    name: &'static str,
    value: &str,
    want: &'static str,
    parsed: Option<T>,
) -> Result<T, QueryError> {
    parsed.ok_or_else(|| QueryError::Value {
        name,
        value: value.chars().take(200).collect(),
        want,
    })
}

fn text(name: &'static str, value: &str) -> Result<String, QueryError> {
    let it = (!value.is_empty()).then(|| value.to_owned());
    want(name, value, "a text", it)
}

fn package(value: &str) -> Result<String, QueryError> {
    let it = value.strip_prefix("pkg:").unwrap_or(value);
    let is_good = it.contains('/') && !it.contains(['@', '?', '#']);
    let want_text = "type, namespace and name without version, such as maven/g/a";
    want("package", value, want_text, is_good.then(|| it.to_owned()))
}

fn purl(value: &str) -> Result<String, QueryError> {
    let is_good = value.starts_with("pkg:");
    let want_text = "a package URL, such as pkg:maven/g/a@1.0";
    want("purl", value, want_text, is_good.then(|| value.to_owned()))
}

fn tag(value: &str) -> Result<TagName, QueryError> {
    let parts = value.split_once('/').and_then(|(registry, rest)| {
        let (repository, tag) = rest.rsplit_once(':')?;
        let parts = [registry, repository, tag];
        parts.iter().all(|it| !it.is_empty()).then(|| TagName {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            tag: tag.to_owned(),
        })
    });
    want("tag", value, "registry/repository:tag", parts)
}

fn digest(value: &str) -> Result<DigestFilter, QueryError> {
    if let Ok(whole) = value.parse() {
        return Ok(DigestFilter::Whole(whole));
    }
    let (algorithm, digits) = match value.split_once(':') {
        None => (None, value),
        Some((name, digits)) => {
            let known = Algorithm::ALL.into_iter().find(|it| it.name() == name);
            let want_text = "blake3, sha256, sha512, sha1 or md5 before the colon";
            (Some(want("digest", value, want_text, known)?), digits)
        }
    };
    let digits_max = algorithm.map_or(128, |it| 2 * it.bytes_len());
    let is_hex = digits
        .bytes()
        .all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
    let is_good = is_hex && (DIGEST_DIGITS_MIN..=digits_max).contains(&digits.len());
    let filter = is_good.then(|| DigestFilter::Digits(algorithm, digits.to_owned()));
    want("digest", value, "at least 8 lower-case hex digits", filter)
}

/// Milliseconds since 1970, a date, or a date with time in UTC.
fn time(text: &str) -> Option<WallTime> {
    if let Ok(millis) = text.parse() {
        return Some(WallTime::from_millis(millis));
    }
    let (date, clock) = match text.strip_suffix('Z') {
        Some(text) => text.split_once('T')?,
        None => (text, "00:00:00"),
    };
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let is_good = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !is_good {
        return None;
    }
    // "days_from_civil", H. Hinnant, chrono-compatible calendar algorithms.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted_month = (month + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    let time = WallTime::from_millis((days * 86_400 + hour * 3_600 + minute * 60 + second) * 1_000);
    // A day that its month does not have would come back as another date.
    let is_whole = time.to_string().starts_with(date);
    is_whole.then_some(time)
}

fn numbers(text: &str, separator: char, lens: [usize; 3]) -> Option<[u64; 3]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; 3];
    for (number, len) in numbers.iter_mut().zip(lens) {
        let part = parts.next()?;
        let is_plain = part.len() == len && part.bytes().all(|it| it.is_ascii_digit());
        *number = part.parse().ok().filter(|_| is_plain)?;
    }
    parts.next().is_none().then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Digest;

    #[test]
    fn every_filter_has_a_textual_form() {
        let hex = "ab".repeat(32);
        let text = format!(
            "package=pkg:maven/g/a purl=pkg:maven/g/a@1?classifier=x file=a.jar digest=sha256:{hex} \
             publisher={hex} node={hex} source=repo.test/x commit=abcd dependency={hex} \
             subject={hex} tag=r.test/library/alpine:3.20 kind=add-artifact \
             since=2026-11-21T08:15:00Z until=1795248900001 order=oldest limit=7 after=90-12"
        );
        let expected = Query {
            package: Some("maven/g/a".into()),
            purl: Some("pkg:maven/g/a@1?classifier=x".into()),
            file: Some("a.jar".into()),
            digest: Some(DigestFilter::Whole(
                Digest::new(Algorithm::Sha256, &[0xab; 32]).unwrap(),
            )),
            publisher: Some(PublicKey([0xab; 32])),
            node: Some(PublicKey([0xab; 32])),
            source: Some("repo.test/x".into()),
            commit: Some(vec![0xab, 0xcd]),
            dependency: Some(Blake3([0xab; 32])),
            subject: Some(Subject([0xab; 32])),
            tag: Some(TagName {
                registry: "r.test".into(),
                repository: "library/alpine".into(),
                tag: "3.20".into(),
            }),
            kind: Some(1),
            since: Some(WallTime::from_millis(1_795_248_900_000)),
            until: Some(WallTime::from_millis(1_795_248_900_001)),
            order: Order::OldestFirst,
            limit: 7,
            after: Some(Cursor { as_of: 90, at: 12 }),
        };
        assert_eq!(text.parse(), Ok(expected.clone()));
        assert_eq!(expected.after.unwrap().to_string(), "90-12");
        assert_eq!("".parse(), Ok(Query::default()));
    }

    #[test]
    fn malformed_queries_say_what_is_wrong() {
        for text in [
            "package",
            "colour=red",
            "package=maven/g/a@1.0",
            "package=maven",
            "purl=maven/g/a",
            "file=",
            "digest=abcdef0",
            "digest=ABCDEF01",
            "digest=md4:abcdef01",
            "digest=md5:abcdef0123456789abcdef0123456789a",
            "node=12",
            "commit=abcd",
            "source=x commit=xyz",
            "tag=alpine",
            "kind=7",
            "since=yesterday",
            "since=2026-02-30",
            "since=2026-13-01",
            "since=2026-01-01T24:00:00Z",
            "order=up",
            "limit=0",
            "limit=1001",
            "after=12",
            "file=a file=a",
        ] {
            assert!(text.parse::<Query>().is_err(), "{text}");
        }
        let long = "x".repeat(QUERY_BYTES_MAX + 1);
        let expected = Err(QueryError::TooLong(QUERY_BYTES_MAX + 1));
        assert_eq!(long.parse::<Query>(), expected);
    }

    #[test]
    fn dates_are_the_inverse_of_how_times_print() {
        for text in [
            "1970-01-01T00:00:00Z",
            "2000-02-29T23:59:59Z",
            "2100-03-01T12:00:01Z",
        ] {
            assert_eq!(time(text).map(|it| it.to_string()).as_deref(), Some(text));
        }
        let midnight = time("2026-11-21T00:00:00Z");
        assert!(midnight.is_some());
        assert_eq!(time("2026-11-21"), midnight);
    }
}
