//! Paths in a Maven repository.
//!
//! ```text
//! g/r/o/u/p/artifact/version/artifact-version[-classifier].extension[.sha1 …]
//! g/r/o/u/p/[artifact/[version-SNAPSHOT/]]maven-metadata.xml[.sha1 …]
//! ```
//!
//! Source: Maven's repository layout `default`.

use std::fmt;
use std::str::FromStr;

use crate::base::Algorithm;
use crate::proto::package::maven::{Coordinates, MavenError, Variant, is_part};

/// Longest path in a repository that is looked at. Unit: bytes.
pub const PATH_BYTES_MAX: usize = 1_024;

/// The name of the files that list versions.
pub const METADATA_FILE: &str = "maven-metadata.xml";

/// Suffixes of the files that hold a checksum of another.
pub const CHECKSUM_SUFFIXES: [(&str, Algorithm); 4] = [
    (".sha512", Algorithm::Sha512),
    (".sha256", Algorithm::Sha256),
    (".sha1", Algorithm::Sha1),
    (".md5", Algorithm::Md5),
];

/// What a path in a Maven repository means.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MavenPath {
    /// What is asked for.
    pub target: Target,
    /// If set, not the target itself is asked for but this checksum of it.
    pub checksum: Option<Algorithm>,
}

/// What a path without its checksum suffix means.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// A file of a version.
    File {
        /// The version; for a time-stamped snapshot the one with `-SNAPSHOT`.
        coordinates: Coordinates,
        /// Which of its files.
        variant: Variant,
        /// The file's name as asked for.
        name: String,
    },
    /// A list of versions, snapshots or plugin prefixes: a folder's `maven-metadata.xml`.
    Metadata {
        /// The folder's path; for a list of versions `g/r/o/u/p/artifact`.
        directory: String,
    },
}

impl Target {
    /// The group and artifact whose versions are asked for, if this is such a list. (A folder
    /// could also be that of a group with plugin prefixes: only what exists tells them apart.)
    pub fn versions_of(&self) -> Option<(String, &str)> {
        match self {
            Self::Metadata { directory } if !directory.ends_with("-SNAPSHOT") => {
                let (group, artifact) = directory.rsplit_once('/')?;
                Some((group.replace('/', "."), artifact))
            }
            _ => None,
        }
    }
}

impl FromStr for MavenPath {
    type Err = MavenError;

    /// Reads a path relative to the repository's root, without a slash at its start.
    fn from_str(path: &str) -> Result<Self, MavenError> {
        let invalid = || MavenError::Path(path.chars().take(200).collect());
        if PATH_BYTES_MAX < path.len() || !path.split('/').all(is_part) {
            return Err(invalid());
        }
        let (plain, checksum) = CHECKSUM_SUFFIXES
            .iter()
            .find_map(|(suffix, algorithm)| Some((path.strip_suffix(suffix)?, Some(*algorithm))))
            .unwrap_or((path, None));
        let (directory, name) = plain.rsplit_once('/').ok_or_else(invalid)?;
        let target = if name == METADATA_FILE {
            Target::Metadata {
                directory: directory.to_owned(),
            }
        } else {
            parse_file(directory, name).ok_or_else(invalid)?
        };
        Ok(Self { target, checksum })
    }
}

impl fmt::Display for MavenPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::File {
                coordinates, name, ..
            } => write!(f, "{}/{name}", coordinates.directory())?,
            Target::Metadata { directory } => write!(f, "{directory}/{METADATA_FILE}")?,
        }
        let suffix = CHECKSUM_SUFFIXES
            .iter()
            .find(|(_, algorithm)| Some(*algorithm) == self.checksum);
        f.write_str(suffix.map_or("", |(suffix, _)| suffix))
    }
}

fn parse_file(directory: &str, name: &str) -> Option<Target> {
    let (rest, version) = directory.rsplit_once('/')?;
    let (group, artifact) = rest.rsplit_once('/')?;
    // A dot inside a folder of the group would be read back as two folders.
    if group.contains('.') {
        return None;
    }
    let coordinates = Coordinates::new(&group.replace('/', "."), artifact, version).ok()?;
    let rest = name.strip_prefix(artifact)?.strip_prefix('-')?;
    let variant = match rest.strip_prefix(version) {
        Some(rest) => Variant::parse(rest)?,
        None => Variant::parse(strip_timestamp(rest, version)?)?,
    };
    Some(Target::File {
        coordinates,
        variant,
        name: name.to_owned(),
    })
}

/// Strips the version of a time-stamped snapshot: `1.0-20260131.235959-1` for `1.0-SNAPSHOT`.
fn strip_timestamp<'a>(text: &'a str, version: &str) -> Option<&'a str> {
    let base = version.strip_suffix("SNAPSHOT")?;
    let rest = text.strip_prefix(base)?;
    let (date, rest) = rest.split_at_checked(8)?;
    let (time, rest) = rest.strip_prefix('.')?.split_at_checked(6)?;
    let rest = rest.strip_prefix('-')?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (build, rest) = rest.split_at_checked(digits)?;
    let is_number = |it: &str| !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit());
    ([date, time, build].into_iter().all(is_number)).then_some(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::package::maven::tests::{lib, variant};

    #[test]
    fn paths_are_read_and_written_alike() {
        for (name, version, classifier, extension) in [
            ("lib-1.0.jar", "1.0", None, "jar"),
            ("lib-1.0.pom", "1.0", None, "pom"),
            ("lib-1.0-sources.jar", "1.0", Some("sources"), "jar"),
            ("lib-1.0-bin.tar.gz", "1.0", Some("bin"), "tar.gz"),
            ("lib-1.0.tar.gz", "1.0", None, "tar.gz"),
            ("lib-1.0-jdk1.5.jar", "1.0", Some("jdk1.5"), "jar"),
            ("lib-1.0-sources.jar.asc", "1.0", Some("sources"), "jar.asc"),
            ("lib-1.0-SNAPSHOT.jar", "1.0-SNAPSHOT", None, "jar"),
            (
                "lib-1.0-20260131.235959-12-sources.jar",
                "1.0-SNAPSHOT",
                Some("sources"),
                "jar",
            ),
        ] {
            for (suffix, checksum) in [("", None), (".sha1", Some(Algorithm::Sha1))] {
                let path = format!("org/example/lib/{version}/{name}{suffix}");
                let parsed: MavenPath = path.parse().unwrap();
                let target = Target::File {
                    coordinates: lib(version),
                    variant: variant(classifier, extension),
                    name: name.into(),
                };
                assert_eq!(parsed, MavenPath { target, checksum }, "{path}");
                assert_eq!(parsed.to_string(), path);
            }
        }
    }

    #[test]
    fn metadata_belongs_to_a_folder() {
        for (path, versions_of, checksum) in [
            (
                "org/example/lib/maven-metadata.xml",
                Some(("org.example", "lib")),
                None,
            ),
            (
                "org/example/lib/maven-metadata.xml.sha256",
                Some(("org.example", "lib")),
                Some(Algorithm::Sha256),
            ),
            (
                "org/example/lib/1.0-SNAPSHOT/maven-metadata.xml",
                None,
                None,
            ),
        ] {
            let parsed: MavenPath = path.parse().unwrap();
            let expected = versions_of.map(|(group, artifact)| (group.to_owned(), artifact));
            assert_eq!(parsed.target.versions_of(), expected, "{path}");
            assert_eq!(
                (parsed.checksum, parsed.to_string()),
                (checksum, path.to_owned())
            );
        }
    }

    #[test]
    fn what_is_no_path_of_the_layout_is_refused() {
        for path in [
            "",
            "/",
            "lib-1.0.jar",
            "/org/example/lib/1.0/lib-1.0.jar",
            "org/example/lib/1.0/",
            "org/example/lib/1.0/other-1.0.jar",
            "org/example/lib/1.0/lib-2.0.jar",
            "org/example/lib/1.0/lib-1.0",
            "org/example/lib/1.0/lib-1.0-x",
            "org/../lib/1.0/lib-1.0.jar",
            "org/example/../1.0/..-1.0.jar",
            "org/example/lib/1.0/lib-1.0.jar\n",
            "org/ex ample/lib/1.0/lib-1.0.jar",
            "org.example/lib/1.0/lib-1.0.jar",
            "org/example/lib/1.0-SNAPSHOT/lib-1.0-2026.2359-1.jar",
            "org/example/lib/1.0-SNAPSHOT/lib-1.0-20260131.235959-.jar",
            "org/example/lib/%2e%2e/lib-1.0.jar",
        ] {
            assert!(path.parse::<MavenPath>().is_err(), "{path:?}");
        }
        assert!("a/".repeat(PATH_BYTES_MAX).parse::<MavenPath>().is_err());
    }

    proptest! {
        #[test]
        fn every_written_path_is_read_back(
            group in "[a-z][a-z0-9_-]{0,5}(\\.[a-z][a-z0-9-]{0,5}){0,3}",
            artifact in "[a-z][a-z0-9._-]{0,10}",
            version in "[0-9][0-9a-zA-Z.+-]{0,8}",
            classifier in proptest::option::of("[a-z][a-z0-9_]{0,6}"),
            extension in "[a-z]{2,5}",
        ) {
            let coordinates = Coordinates::new(&group, &artifact, &version).unwrap();
            let variant = Variant::new(classifier.as_deref(), &extension).unwrap();
            let path = coordinates.path(&variant);
            prop_assume!(!["md5"].contains(&extension.as_str()));
            let parsed: MavenPath = path.parse().unwrap();
            let name = coordinates.file_name(&variant);
            let target = Target::File { coordinates, variant, name };
            prop_assert_eq!(parsed, MavenPath { target, checksum: None });
        }

        #[test]
        fn any_path_is_answered(path in "[a-z0-9./-]{0,60}") {
            if let Ok(parsed) = path.parse::<MavenPath>() {
                prop_assert_eq!(parsed.to_string(), path);
            }
        }
    }
}
