//! Maven's installation on this machine, and the repository that every Maven knows.
//!
//! Each POM inherits from the *super-POM*, a file inside Maven's own jar that names the repository
//! `central`. Reading it there keeps the address out of this program and follows distributions
//! that ship their own.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use crate::proto::package::xml::Element;

/// The id of the repository in the super-POM.
pub const CENTRAL: &str = "central";

/// Most files of Maven's `lib` folder that are looked at.
const FILES_MAX: usize = 1_000;

/// Longest super-POM. Unit: bytes.
const SUPER_POM_BYTES_MAX: u64 = 256 * 1_024;

/// The super-POM's name inside a jar; its folder differs between versions of Maven.
const SUPER_POM: &str = "/pom-4.0.0.xml";

/// Where Maven keeps what it is configured with.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct MavenPlaces {
    /// The user's home folder.
    pub user_home: Option<PathBuf>,
    /// Maven's own folder, with `bin`, `conf` and `lib`.
    pub maven_home: Option<PathBuf>,
}

impl MavenPlaces {
    /// Finds the places by `HOME`, `MAVEN_HOME`, `M2_HOME` and `PATH`, as `lookup` knows them.
    pub fn find(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let folder = |name: &str| lookup(name).filter(|it| !it.is_empty()).map(PathBuf::from);
        let has_lib = |it: &PathBuf| it.join("lib").is_dir();
        let by_path = || {
            let path = lookup("PATH")?;
            let found =
                std::env::split_paths(&path).find_map(|it| it.join("mvn").canonicalize().ok());
            // `bin/mvn` in Maven's folder, behind however many links.
            Some(found?.parent()?.parent()?.to_owned())
        };
        let maven_home = [folder("MAVEN_HOME"), folder("M2_HOME"), by_path()]
            .into_iter()
            .flatten()
            .chain([PathBuf::from("/usr/share/maven")])
            .find(has_lib);
        Self {
            user_home: folder("HOME"),
            maven_home,
        }
    }

    /// The user's settings, then Maven's own.
    pub(crate) fn settings(&self) -> impl Iterator<Item = PathBuf> {
        let user = self
            .user_home
            .as_ref()
            .map(|it| it.join(".m2/settings.xml"));
        let maven = self
            .maven_home
            .as_ref()
            .map(|it| it.join("conf/settings.xml"));
        user.into_iter().chain(maven)
    }

    /// The URL of `central` in the super-POM, if Maven is installed.
    pub(crate) fn central(&self) -> Option<String> {
        let lib = self.maven_home.as_ref()?.join("lib");
        let mut jars: Vec<_> = lib
            .read_dir()
            .ok()?
            .take(FILES_MAX)
            .flatten()
            .map(|it| it.path())
            .filter(|it| is_candidate(it))
            .collect();
        jars.sort();
        jars.iter().find_map(|it| central_in(it))
    }
}

/// The jars of Maven's that have held the super-POM.
fn is_candidate(path: &Path) -> bool {
    let name = path
        .file_name()
        .and_then(|it| it.to_str())
        .unwrap_or_default();
    let is_jar = path.extension().is_some_and(|it| it == "jar");
    is_jar && (name.starts_with("maven-model") || name.starts_with("maven-impl"))
}

fn central_in(jar: &Path) -> Option<String> {
    let mut archive = zip::ZipArchive::new(BufReader::new(File::open(jar).ok()?)).ok()?;
    let name = archive
        .file_names()
        .flatten()
        .find(|it| it.ends_with(SUPER_POM))?
        .into_owned();
    let mut bytes = Vec::new();
    let entry = archive.by_name(&name).ok()?;
    entry
        .take(SUPER_POM_BYTES_MAX)
        .read_to_end(&mut bytes)
        .ok()?;
    let root = Element::parse(&bytes).ok()?;
    let central = root
        .list("repositories", "repository")
        .find(|it| it.value("id") == Some(CENTRAL))?;
    central.value("url").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    /// A jar with one deflated entry.
    fn jar(path: &Path, name: &str, content: &str) {
        let mut writer = zip::ZipWriter::new(File::create(path).unwrap());
        let options = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Deflated);
        writer.start_file(name, options).unwrap();
        writer.write_all(content.as_bytes()).unwrap();
        writer.finish().unwrap();
    }

    #[test]
    fn central_is_read_from_the_jar_that_has_it() {
        let home = tempfile::tempdir().unwrap();
        let lib = home.path().join("lib");
        fs::create_dir(&lib).unwrap();
        let places = MavenPlaces {
            user_home: None,
            maven_home: Some(home.path().to_owned()),
        };
        assert_eq!(places.central(), None);
        let pom = "<project><repositories><repository><id>other</id><url>x</url></repository>\
            <repository><id>central</id><url>https://repo.example/maven2</url></repository>\
            </repositories></project>";
        fs::write(lib.join("maven-model-broken.jar"), "no zip").unwrap();
        jar(&lib.join("maven-model-3.x.jar"), "other.xml", pom);
        jar(
            &lib.join("unrelated.jar"),
            "org/x/pom-4.0.0.xml",
            "<project/>",
        );
        assert_eq!(places.central(), None);
        jar(
            &lib.join("maven-model-builder-3.x.jar"),
            "org/x/pom-4.0.0.xml",
            pom,
        );
        assert_eq!(
            places.central().as_deref(),
            Some("https://repo.example/maven2")
        );
    }

    #[cfg(unix)]
    #[test]
    fn maven_is_found_through_links_in_the_path() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        for folder in ["maven/bin", "maven/lib", "other/lib", "path"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::write(root.join("maven/bin/mvn"), "").unwrap();
        std::os::unix::fs::symlink(root.join("maven/bin/mvn"), root.join("alias")).unwrap();
        std::os::unix::fs::symlink(root.join("alias"), root.join("path/mvn")).unwrap();
        let at = |it: &str| root.join(it).to_str().unwrap().to_owned();
        let path = move |name: &str| (name == "PATH").then(|| at("path"));
        assert_eq!(MavenPlaces::find(path).maven_home, Some(root.join("maven")));
        let at = |it: &str| root.join(it).to_str().unwrap().to_owned();
        let both = move |name: &str| match name {
            "PATH" => Some(at("path")),
            "M2_HOME" => Some(at("other")),
            _ => None,
        };
        assert_eq!(MavenPlaces::find(both).maven_home, Some(root.join("other")));
    }

    #[test]
    fn an_installed_maven_knows_central() {
        let places = MavenPlaces::find(|name| std::env::var(name).ok());
        if places.maven_home.is_some() {
            let central = places.central().unwrap();
            assert!(central.starts_with("https://"), "{central}");
        }
    }
}
