//! Maven coordinates, their package URLs, and the files of a version.
//!
//! ```text
//! purl = pkg:maven/group/artifact@version
//! file = artifact-version[-classifier].extension
//! ```
//!
//! A file of a package keeps its name from the repository: `lib-1.0-sources.jar`.

use std::fmt;
use std::str::FromStr;

use crate::proto::package::purl::{Purl, PurlError};

/// Longest group, artifact or version. Unit: bytes.
pub const PART_BYTES_MAX: usize = 200;

/// Extensions with a dot inside.
const COMPOUND_EXTENSIONS: [&str; 4] = ["tar.gz", "tar.bz2", "tar.xz", "tar.zst"];

/// Why a text does not name something in a Maven repository.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MavenError {
    /// A part of the coordinates is empty, too long, or has characters that no file has.
    #[error("`{text}` is not a Maven {part}")]
    Part {
        /// Which part.
        part: &'static str,
        /// What was given.
        text: String,
    },
    /// Not `group:artifact:version`.
    #[error("`{0}` are not Maven coordinates: want `group:artifact:version`")]
    Coordinates(String),
    /// Not a path of the repository layout.
    #[error("`{0}` is not a path in a Maven repository")]
    Path(String),
}

/// A released or snapshot version of an artifact: `group:artifact:version`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Coordinates {
    group: String,
    artifact: String,
    version: String,
}

impl Coordinates {
    /// Checks the parts.
    ///
    /// # Errors
    ///
    /// [`MavenError::Part`] for the first that cannot be part of a path.
    pub fn new(group: &str, artifact: &str, version: &str) -> Result<Self, MavenError> {
        let is_group = is_part(group) && group.split('.').all(|it| !it.is_empty());
        for (part, text, fits) in [
            ("group", group, is_group),
            ("artifact", artifact, is_part(artifact)),
            ("version", version, is_part(version)),
        ] {
            if !fits {
                let text = text.chars().take(80).collect();
                return Err(MavenError::Part { part, text });
            }
        }
        let [group, artifact, version] = [group, artifact, version].map(str::to_owned);
        Ok(Self {
            group,
            artifact,
            version,
        })
    }

    /// The group, such as `org.example`.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The artifact, such as `lib`.
    pub fn artifact(&self) -> &str {
        &self.artifact
    }

    /// The version, such as `1.0`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether the version may change under its name.
    pub fn is_snapshot(&self) -> bool {
        self.version.ends_with("-SNAPSHOT")
    }

    /// The folder of this version in a repository, without slash at the end.
    pub fn directory(&self) -> String {
        let group = self.group.replace('.', "/");
        format!("{group}/{}/{}", self.artifact, self.version)
    }

    /// The name of a file of this version.
    pub fn file_name(&self, variant: &Variant) -> String {
        format!("{}-{}{variant}", self.artifact, self.version)
    }

    /// The path of a file of this version in a repository.
    pub fn path(&self, variant: &Variant) -> String {
        format!("{}/{}", self.directory(), self.file_name(variant))
    }

    /// The name of this version in the log.
    ///
    /// # Errors
    ///
    /// [`PurlError::TooLong`], if percent-encoding makes it so.
    pub fn purl(&self) -> Result<Purl, PurlError> {
        let version = Some(self.version.as_str());
        Purl::new("maven", Some(&self.group), &self.artifact, version, &[])
    }

    /// Reads the package URL of a Maven package. Qualifiers `classifier` and `type` say which of
    /// its files is meant; see [`Variant::from_purl`].
    ///
    /// # Errors
    ///
    /// [`PurlError::Type`] if it is of another type, or lacks group or version.
    pub fn from_purl(purl: &Purl) -> Result<Self, PurlError> {
        let wanted = || PurlError::Type {
            purl: purl.to_string(),
            wanted: "Maven package with group and version",
        };
        match (purl.kind(), purl.namespace(), purl.version()) {
            ("maven", Some(group), Some(version)) => {
                Self::new(group, purl.name(), version).map_err(|_| wanted())
            }
            _ => Err(wanted()),
        }
    }
}

impl FromStr for Coordinates {
    type Err = MavenError;

    fn from_str(text: &str) -> Result<Self, MavenError> {
        let parts: Vec<_> = text.splitn(4, ':').collect();
        match parts.as_slice() {
            [group, artifact, version] => Self::new(group, artifact, version),
            _ => Err(MavenError::Coordinates(text.chars().take(80).collect())),
        }
    }
}

impl fmt::Display for Coordinates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.group, self.artifact, self.version)
    }
}

/// Which file of a version: `[-classifier].extension`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Variant {
    classifier: Option<String>,
    extension: String,
}

impl Variant {
    /// The file with `extension` and perhaps `classifier`.
    ///
    /// # Errors
    ///
    /// [`MavenError::Part`] if one cannot be part of a file name.
    pub fn new(classifier: Option<&str>, extension: &str) -> Result<Self, MavenError> {
        for (part, text) in [("classifier", classifier), ("extension", Some(extension))] {
            if text.is_some_and(|it| !is_part(it)) {
                let text = text.unwrap_or_default().chars().take(80).collect();
                return Err(MavenError::Part { part, text });
            }
        }
        Ok(Self {
            classifier: classifier.map(str::to_owned),
            extension: extension.to_owned(),
        })
    }

    /// The file that a package URL's qualifiers `classifier` and `type` mean; `jar` without.
    ///
    /// # Errors
    ///
    /// [`MavenError::Part`] if one cannot be part of a file name.
    pub fn from_purl(purl: &Purl) -> Result<Self, MavenError> {
        let extension = purl.qualifier("type").unwrap_or("jar");
        Self::new(purl.qualifier("classifier"), extension)
    }

    /// The classifier, such as `sources`.
    pub fn classifier(&self) -> Option<&str> {
        self.classifier.as_deref()
    }

    /// The extension without the first dot, such as `jar`.
    pub fn extension(&self) -> &str {
        &self.extension
    }

    /// The media type of such files.
    pub fn media_type(&self) -> &'static str {
        match self.extension.rsplit('.').next().unwrap_or_default() {
            "jar" | "war" | "ear" | "rar" | "aar" => "application/java-archive",
            "pom" | "xml" => "text/xml",
            "module" | "json" => "application/json",
            "zip" => "application/zip",
            "gz" => "application/gzip",
            "asc" => "application/pgp-signature",
            _ => "application/octet-stream",
        }
    }

    /// Reads what follows `artifact-version` in a file name.
    pub(crate) fn parse(rest: &str) -> Option<Self> {
        if let Some(extension) = rest.strip_prefix('.') {
            return Self::new(None, extension).ok();
        }
        let rest = rest.strip_prefix('-')?;
        // A signature's extension is that of the signed file and its own.
        let (body, signature) = match rest.strip_suffix(".asc") {
            Some(body) => (body, ".asc"),
            None => (rest, ""),
        };
        let compound = COMPOUND_EXTENSIONS
            .iter()
            .find_map(|it| Some((body.strip_suffix(it)?.strip_suffix('.')?, *it)));
        let (classifier, extension) = compound.or_else(|| body.rsplit_once('.'))?;
        Self::new(Some(classifier), &format!("{extension}{signature}")).ok()
    }
}

impl fmt::Display for Variant {
    /// As in a file name: `-sources.jar`, `.pom`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(classifier) = &self.classifier {
            write!(f, "-{classifier}")?;
        }
        write!(f, ".{}", self.extension)
    }
}

/// Whether `text` can be a part of a path: Maven itself forbids little more than this.
pub(crate) fn is_part(text: &str) -> bool {
    let clean = text
        .chars()
        .all(|it| it.is_ascii_graphic() && !r#"\/:"<>|?*[](){},%#&;$"#.contains(it));
    clean && !text.is_empty() && text.len() <= PART_BYTES_MAX && text != "." && text != ".."
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn lib(version: &str) -> Coordinates {
        Coordinates::new("org.example", "lib", version).unwrap()
    }

    pub(crate) fn variant(classifier: Option<&str>, extension: &str) -> Variant {
        Variant::new(classifier, extension).unwrap()
    }

    #[test]
    fn coordinates_have_one_name_in_the_log() {
        let purl = lib("1.0+x").purl().unwrap();
        assert_eq!(purl.as_str(), "pkg:maven/org.example/lib@1.0%2Bx");
        assert_eq!(Coordinates::from_purl(&purl), Ok(lib("1.0+x")));
        assert_eq!(lib("1").to_string().parse(), Ok(lib("1")));

        let typed: Purl = "pkg:maven/org.example/lib@1?classifier=sources"
            .parse()
            .unwrap();
        assert_eq!(
            Variant::from_purl(&typed),
            Ok(variant(Some("sources"), "jar"))
        );
        for text in [
            "pkg:maven/lib@1",
            "pkg:maven/g/lib",
            "pkg:npm/g/lib@1",
            "pkg:maven/a..b/lib@1",
            "pkg:maven/a/b/lib@1",
        ] {
            let purl: Purl = text.parse().unwrap();
            assert!(
                matches!(Coordinates::from_purl(&purl), Err(PurlError::Type { .. })),
                "{text}"
            );
        }
        for text in [
            "", "x", "g:a", "g:a:v:w", "g::v", "../x:a:v", "g:a:..", "g:a:${v}",
        ] {
            assert!(text.parse::<Coordinates>().is_err(), "{text}");
        }
    }
}
