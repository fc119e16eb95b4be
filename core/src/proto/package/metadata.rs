//! The list of versions that Maven asks for, and the order of Maven versions.
//!
//! The document is a function of the versions in the log: two nodes with the same log serve the
//! same bytes, so its checksums agree too.

use crate::base::WallTime;

/// `maven-metadata.xml` of an artifact with these versions, in any order and with repetitions.
/// `updated` is the time of the newest of them in the log.
///
/// Precondition: the texts come from [`Coordinates`](crate::proto::package::Coordinates), whose
/// characters need no escaping.
pub fn render(group: &str, artifact: &str, versions: &[String], updated: WallTime) -> String {
    let mut sorted: Vec<_> = versions.iter().map(|it| (order(it), it.as_str())).collect();
    sorted.sort();
    sorted.dedup();
    let latest = sorted.last().map(|(_, it)| *it);
    let release = sorted
        .iter()
        .rev()
        .map(|(_, it)| *it)
        .find(|it| !it.ends_with("-SNAPSHOT"));
    let tag = |name: &str, text: Option<&str>| {
        text.map_or_else(String::new, |it| format!("    <{name}>{it}</{name}>\n"))
    };
    let list: String = sorted
        .iter()
        .map(|(_, it)| format!("      <version>{it}</version>\n"))
        .collect();
    // `2026-11-21T08:15:00Z` without the separators.
    let stamp: String = updated
        .to_string()
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <metadata>\n  <groupId>{group}</groupId>\n  <artifactId>{artifact}</artifactId>\n  \
         <versioning>\n{}{}    <versions>\n{list}    </versions>\n    \
         <lastUpdated>{stamp}</lastUpdated>\n  </versioning>\n</metadata>\n",
        tag("latest", latest),
        tag("release", release),
    )
}

/// A key whose order is Maven's order of versions.
///
/// Source: POM reference, "Version Order Specification". A version is a row of numbers and words;
/// zeros and words that mean "final" count nothing before a word, a hyphen or the end.
pub fn order(version: &str) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for (hyphen, token, before_digit) in tokens(version) {
        if token.bytes().all(|it| it.is_ascii_digit()) {
            let digits = token.trim_start_matches('0');
            let number = (digits.len(), digits.to_owned());
            if hyphen {
                trim(&mut parts);
                // A zero after a hyphen counts nothing either.
                if number.0 != 0 {
                    parts.push(Part::AfterHyphen(number));
                }
            } else {
                parts.push(Part::AfterDot(number));
            }
        } else {
            trim(&mut parts);
            parts.extend(word(&token.to_ascii_lowercase(), before_digit));
        }
    }
    trim(&mut parts);
    parts.push(Part::End);
    parts
}

/// One part of a version, in ascending order of kinds.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Part {
    /// A word that marks a version before the release; 0 is `alpha`.
    Before(u8),
    /// The end, which is the release itself.
    End,
    /// The word `sp`: a service pack.
    ServicePack,
    /// Another word.
    Word(String),
    /// A number after a hyphen or a word: count of digits, digits without leading zeros.
    AfterHyphen((usize, String)),
    /// A number after a dot, written likewise.
    AfterDot((usize, String)),
}

fn word(text: &str, before_digit: bool) -> Option<Part> {
    Some(match text {
        "" | "final" | "ga" | "release" => return None,
        "alpha" => Part::Before(0),
        "a" if before_digit => Part::Before(0),
        "beta" => Part::Before(1),
        "b" if before_digit => Part::Before(1),
        "milestone" => Part::Before(2),
        "m" if before_digit => Part::Before(2),
        "rc" | "cr" => Part::Before(3),
        "snapshot" => Part::Before(4),
        "sp" => Part::ServicePack,
        other => Part::Word(other.to_owned()),
    })
}

/// Drops zeros at the end.
fn trim(parts: &mut Vec<Part>) {
    while let Some(Part::AfterDot((0, _))) = parts.last() {
        parts.pop();
    }
}

/// Splits at dots, hyphens, underscores and between digits and letters. For each token: whether a
/// hyphen (or what counts as one) comes before it, the token, and whether a digit follows at once.
fn tokens(version: &str) -> Vec<(bool, &str, bool)> {
    let mut tokens = Vec::new();
    for (at_hyphen, part) in version.split(['-', '_']).enumerate() {
        for (at_dot, part) in part.split('.').enumerate() {
            let mut hyphen = at_hyphen != 0 && at_dot == 0;
            let mut rest = part;
            loop {
                let digits = rest.starts_with(|it: char| it.is_ascii_digit());
                let end = rest
                    .find(|it: char| it.is_ascii_digit() != digits)
                    .unwrap_or(rest.len());
                let (token, after) = rest.split_at(end);
                // An empty token is a zero.
                let token = if token.is_empty() { "0" } else { token };
                tokens.push((hyphen, token, !after.is_empty() && !digits));
                if after.is_empty() {
                    break;
                }
                (hyphen, rest) = (true, after);
            }
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_are_ordered_as_maven_orders_them() {
        let ascending = [
            "0.9",
            "1-alpha",
            "1.0-a2",
            "1.0.0.Alpha10",
            "1.0-beta-1",
            "1.0.0.M1",
            "1.0-rc1",
            "1.0-CR2",
            "1.0-SNAPSHOT",
            "1.0",
            "1.0-sp",
            "1.0-jre",
            "1.0-1",
            "1.0.1-SNAPSHOT",
            "1.0.1",
            "1.0.10",
            "1.1",
            "1.2.final",
            "2",
            "10.0",
            "20260101",
        ];
        for pair in ascending.windows(2) {
            assert!(order(pair[0]) < order(pair[1]), "{pair:?}");
        }
        for (a, b) in [
            ("1", "1.0.0"),
            ("1.0-ga", "1"),
            ("1.0.0.Final", "1"),
            ("1-rc1", "1-CR1"),
            ("1.0.RC2", "1-rc-2"),
            ("1.01", "1.1"),
            ("1a1", "1-alpha-1"),
            ("1.0-0", "1"),
        ] {
            assert_eq!(order(a), order(b), "{a} {b}");
        }
    }

    #[test]
    fn the_document_is_a_function_of_the_versions() {
        let versions = ["1.10", "1.9", "2.0-SNAPSHOT", "1.9"].map(str::to_owned);
        let updated = WallTime::from_millis(1_795_248_900_000);
        let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<metadata>
  <groupId>org.example</groupId>
  <artifactId>lib</artifactId>
  <versioning>
    <latest>2.0-SNAPSHOT</latest>
    <release>1.10</release>
    <versions>
      <version>1.9</version>
      <version>1.10</version>
      <version>2.0-SNAPSHOT</version>
    </versions>
    <lastUpdated>20261121081500</lastUpdated>
  </versioning>
</metadata>
";
        assert_eq!(render("org.example", "lib", &versions, updated), expected);
        let mut reversed = versions;
        reversed.reverse();
        assert_eq!(render("org.example", "lib", &reversed, updated), expected);
    }

    proptest! {
        #[test]
        fn every_version_has_a_place(version in "[0-9a-zA-Z._-]{0,20}") {
            let key = order(&version);
            prop_assert_eq!(key.last(), Some(&Part::End));
        }
    }
}
