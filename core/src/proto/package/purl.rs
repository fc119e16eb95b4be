//! Canonical package URLs: the names of packages in the log.
//!
//! Source: ECMA-427 (Package-URL). The text that [`Purl`] displays is the only form that enters
//! the log; users may type any form that means the same.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use packageurl::PackageUrl;

use crate::proto::log::entry::PURL_BYTES_MAX;

/// Most qualifiers of one package URL.
pub const QUALIFIERS_MAX: usize = 16;

/// Why a text is not a package URL.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PurlError {
    /// Longer than the log takes. Unit: bytes.
    #[error("the package URL has {0} bytes, at most {PURL_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// Not a package URL at all.
    #[error("`{text}` is not a package URL ({problem}); want `pkg:type/namespace/name@version`")]
    Malformed {
        /// What was given.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// It means a package, but is spelled otherwise than the log spells it.
    #[error("`{given}` is not canonical; write `{canonical}`")]
    NotCanonical {
        /// What was given.
        given: String,
        /// The one form in the log.
        canonical: String,
    },
    /// A package URL of another type, or one that lacks what this type needs.
    #[error("`{purl}` does not name a {wanted}")]
    Type {
        /// The package URL.
        purl: String,
        /// What was asked for.
        wanted: &'static str,
    },
}

/// A package URL in canonical form, of at most [`PURL_BYTES_MAX`] bytes. A version with a slash is
/// refused: readers disagree about where its name ends.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Purl {
    text: String,
    kind: String,
    namespace: Option<String>,
    name: String,
    version: Option<String>,
    qualifiers: BTreeMap<String, String>,
    subpath: Option<String>,
}

impl Purl {
    /// The package URL of these parts, which are not percent-encoded.
    ///
    /// # Errors
    ///
    /// [`PurlError`] if a part breaks the rules of package URLs or of the type.
    pub fn new(
        kind: &str,
        namespace: Option<&str>,
        name: &str,
        version: Option<&str>,
        qualifiers: &[(&str, &str)],
    ) -> Result<Self, PurlError> {
        let assemble = || {
            let mut url = PackageUrl::new(kind, name)?;
            if let Some(namespace) = namespace {
                url.with_namespace(namespace)?;
            }
            if let Some(version) = version {
                url.with_version(version)?;
            }
            for (key, value) in qualifiers {
                url.add_qualifier(*key, *value)?;
            }
            url.validate().map(|()| url.to_string())
        };
        let text = assemble().map_err(|it: packageurl::Error| malformed(name, it))?;
        // The parser has the last word, so that a part cannot smuggle in a separator.
        let purl: Self = text.parse()?;
        if purl.name != name || purl.namespace.as_deref() != namespace {
            return Err(malformed(&text, "a part is not in the form of its type"));
        }
        Ok(purl)
    }

    /// Reads a name that must already be in canonical form, such as one from the log.
    ///
    /// # Errors
    ///
    /// [`PurlError::NotCanonical`] for a second spelling, otherwise as [`Purl::from_str`].
    pub fn parse_canonical(text: &str) -> Result<Self, PurlError> {
        let purl: Self = text.parse()?;
        if purl.text == text {
            Ok(purl)
        } else {
            Err(PurlError::NotCanonical {
                given: text.to_owned(),
                canonical: purl.text,
            })
        }
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The type, such as `maven`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The namespace, decoded; its segments are separated by `/`.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The name, decoded.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version, decoded.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// A qualifier's value, decoded.
    pub fn qualifier(&self, key: &str) -> Option<&str> {
        self.qualifiers.get(key).map(String::as_str)
    }

    /// All qualifiers, decoded.
    pub fn qualifiers(&self) -> &BTreeMap<String, String> {
        &self.qualifiers
    }

    /// The path inside the package, decoded.
    pub fn subpath(&self) -> Option<&str> {
        self.subpath.as_deref()
    }

    fn from_parsed(url: &PackageUrl<'_>) -> Self {
        let nonempty = |it: Option<&str>| it.filter(|it| !it.is_empty()).map(str::to_owned);
        Self {
            text: url.to_string(),
            kind: url.ty().to_owned(),
            namespace: nonempty(url.namespace()),
            name: url.name().to_owned(),
            version: nonempty(url.version()),
            qualifiers: url
                .qualifiers()
                .iter()
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .collect(),
            subpath: nonempty(url.subpath()),
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        let segments = [self.namespace(), Some(self.name())];
        let mut segments = segments.into_iter().flatten().flat_map(|it| it.split('/'));
        if segments.any(|it| it.is_empty() || it == "." || it == "..") {
            return Err("a segment is empty, `.` or `..`");
        }
        let parts = [
            self.namespace(),
            Some(self.name()),
            self.version(),
            self.subpath(),
        ];
        let mut parts = parts
            .into_iter()
            .flatten()
            .chain(self.qualifiers.values().map(String::as_str));
        if parts.any(|it| it.chars().any(char::is_control)) {
            return Err("a part has control characters");
        }
        if QUALIFIERS_MAX < self.qualifiers.len() {
            return Err("it has too many qualifiers");
        }
        Ok(())
    }
}

impl FromStr for Purl {
    type Err = PurlError;

    /// Reads any spelling of a package URL.
    fn from_str(text: &str) -> Result<Self, PurlError> {
        if PURL_BYTES_MAX < text.len() {
            return Err(PurlError::TooLong(text.len()));
        }
        let parse = |text: &str| PackageUrl::from_str(text).map_err(|it| malformed(text, it));
        let mut url = parse(text)?;
        // An empty part is an absent part.
        if url.namespace().is_some_and(str::is_empty) {
            url.without_namespace();
        }
        if url.version().is_some_and(str::is_empty) {
            url.without_version();
        }
        if url.subpath().is_some_and(str::is_empty) {
            url.without_subpath();
        }
        let purl = Self::from_parsed(&url);
        purl.check().map_err(|it| malformed(text, it))?;
        // Decoded parts may hold separators. Only a text that means itself is a name.
        if Self::from_parsed(&parse(&purl.text)?) != purl {
            return Err(malformed(text, "it has no canonical form"));
        }
        if PURL_BYTES_MAX < purl.text.len() {
            return Err(PurlError::TooLong(purl.text.len()));
        }
        Ok(purl)
    }
}

impl fmt::Display for Purl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Purl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn malformed(text: &str, problem: impl fmt::Display) -> PurlError {
    PurlError::Malformed {
        text: text.to_owned(),
        problem: problem.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_spelling_has_one_canonical_form() {
        for (given, canonical) in [
            (
                "pkg:maven/org.example/lib@1.0",
                "pkg:maven/org.example/lib@1.0",
            ),
            (
                "pkg://Maven/org.example/lib@1.0",
                "pkg:maven/org.example/lib@1.0",
            ),
            ("pkg:npm/@scope/name@1", "pkg:npm/%40scope/name@1"),
            ("pkg:docker/alpine@3.20?", "pkg:docker/alpine@3.20"),
            ("pkg:docker/alpine@", "pkg:docker/alpine"),
            ("pkg:generic/../name@1", "pkg:generic/name@1"),
            (
                "pkg:docker/ns/x@sha256%3A00?repository_url=quay.example%3A5000",
                "pkg:docker/ns/x@sha256:00?repository_url=quay.example:5000",
            ),
            ("pkg:generic/a@1?b=2&a=1", "pkg:generic/a@1?a=1&b=2"),
        ] {
            let purl: Purl = given.parse().unwrap();
            assert_eq!(purl.as_str(), canonical, "{given}");
            assert_eq!(Purl::parse_canonical(canonical), Ok(purl.clone()));
            if given != canonical {
                assert_eq!(
                    Purl::parse_canonical(given),
                    Err(PurlError::NotCanonical {
                        given: given.into(),
                        canonical: canonical.into()
                    })
                );
            }
        }
    }

    #[test]
    fn what_is_no_package_url_is_refused() {
        for text in [
            "",
            "pkg:",
            "maven/g/a@1",
            "pkg:maven",
            "pkg:maven/",
            "pkg:1type/name",
            "pkg:generic/%2e%2e/name@1",
            "pkg:generic/a%2F..%2Fb@1",
            "pkg:generic/a@1%0A2",
            "pkg:generic/a%ff@1",
        ] {
            assert!(
                matches!(text.parse::<Purl>(), Err(PurlError::Malformed { .. })),
                "{text}"
            );
        }
        let long = format!("pkg:generic/{}", "x".repeat(PURL_BYTES_MAX));
        assert_eq!(long.parse::<Purl>(), Err(PurlError::TooLong(long.len())));
    }

    #[test]
    fn parts_cannot_smuggle_in_separators() {
        let purl = Purl::new("generic", None, "a@b?c#d", Some("1?x=y"), &[]).unwrap();
        assert_eq!((purl.name(), purl.version()), ("a@b?c#d", Some("1?x=y")));
        assert!(Purl::new("generic", Some("a//b"), "c", None, &[]).is_err());
        assert!(Purl::new("generic", Some("a"), "..", None, &[]).is_err());
    }

    proptest! {
        #[test]
        fn a_parsed_url_is_stable(text in "pkg:[a-z]{1,4}[/@?#%=&a-f0-9.]{1,40}") {
            if let Ok(purl) = text.parse::<Purl>() {
                prop_assert_eq!(Purl::parse_canonical(purl.as_str()), Ok(purl));
            }
        }

        #[test]
        fn any_text_is_answered(text in "\\PC{0,80}") {
            let _ = text.parse::<Purl>();
            let _ = format!("pkg:{text}").parse::<Purl>();
        }

        #[test]
        fn parts_survive(name in "[^\\p{C}/]{1,20}", version in "[^\\p{C}/]{1,20}", value in "[^\\p{C}]{1,20}") {
            prop_assume!(name != "." && name != "..");
            let purl = Purl::new("generic", Some("a/b"), &name, Some(&version), &[("k", &value)]);
            let purl = purl.unwrap();
            prop_assert_eq!(purl.name(), name);
            prop_assert_eq!(purl.version(), Some(version.as_str()));
            prop_assert_eq!(purl.qualifier("k"), Some(value.as_str()));
        }
    }
}
