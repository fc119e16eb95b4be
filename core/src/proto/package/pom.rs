//! What a POM says about its package: its files and what it depends on.
//!
//! A package version consists of its POM, the main artifact that the POM's packaging calls for,
//! and, where they exist, sources, Javadoc and Gradle's module file. Further files (classifiers
//! of some platform) cannot be told from the POM; they join when somebody asks for them.

use std::collections::BTreeSet;

use crate::base::Blake3;
use crate::proto::package::maven::Variant;
use crate::proto::package::xml::{Element, XmlError};

/// Most dependencies that are recorded. Real POMs stay far below.
pub const DEPENDENCIES_MAX: usize = 4_096;

/// Why a POM is of no use.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PomError {
    /// Not XML within limits.
    #[error("the POM is not readable: {0}")]
    Xml(#[from] XmlError),
    /// XML, but no POM.
    #[error("the document is not a POM: its root is `{0}`, not `project`")]
    Root(String),
    /// More dependencies than are recorded.
    #[error("the POM lists {0} dependencies, at most {DEPENDENCIES_MAX} are allowed")]
    TooMany(usize),
}

/// What is read of a POM. Placeholders such as `${project.version}` stay as they are written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pom {
    /// The packaging; `jar` if the POM states none.
    pub packaging: String,
    dependencies: BTreeSet<String>,
}

impl Pom {
    /// Reads a POM.
    ///
    /// # Errors
    ///
    /// [`PomError`] if `bytes` are not a POM within limits.
    pub fn parse(bytes: &[u8]) -> Result<Self, PomError> {
        let root = Element::parse(bytes)?;
        if root.name != "project" {
            return Err(PomError::Root(root.name.chars().take(80).collect()));
        }
        let mut lines = Vec::new();
        if let Some(parent) = root.child("parent") {
            lines.push(line(
                "parent",
                parent,
                &["groupId", "artifactId", "version"],
            ));
        }
        let fields = [
            "groupId",
            "artifactId",
            "version",
            "type",
            "classifier",
            "scope",
            "optional",
        ];
        for dependency in root.list("dependencies", "dependency") {
            lines.push(line("dependency", dependency, &fields));
        }
        // Imported lists of versions decide what is resolved as much as dependencies do.
        let managed = root.child("dependencyManagement");
        let managed = managed
            .into_iter()
            .flat_map(|it| it.list("dependencies", "dependency"));
        for import in managed.filter(|it| it.value("scope") == Some("import")) {
            lines.push(line(
                "import",
                import,
                &["groupId", "artifactId", "version", "type"],
            ));
        }
        if DEPENDENCIES_MAX < lines.len() {
            return Err(PomError::TooMany(lines.len()));
        }
        Ok(Self {
            packaging: root.value("packaging").unwrap_or("jar").to_owned(),
            dependencies: lines.into_iter().collect(),
        })
    }

    /// The list of what the package depends on: one line for the parent and each dependency and
    /// import, `kind group:artifact:version…`, sorted, without duplicates, each with a newline.
    pub fn dependency_list(&self) -> String {
        self.dependencies
            .iter()
            .map(|it| format!("{it}\n"))
            .collect()
    }

    /// The BLAKE3 digest of [`Pom::dependency_list`].
    pub fn dependencies_digest(&self) -> Blake3 {
        Blake3::of(self.dependency_list().as_bytes())
    }

    /// The forms in which the main artifact may exist; the first that does is it. Empty if the
    /// POM stands alone.
    pub fn main_variants(&self) -> Vec<Variant> {
        let extensions: &[&str] = match self.packaging.as_str() {
            "pom" => &[],
            "jar" | "bundle" | "maven-plugin" | "maven-archetype" | "ejb" | "eclipse-plugin" => {
                &["jar"]
            }
            // Unknown packaging: an extension of its own, or one more build plugin that makes jars.
            other => &[other, "jar"],
        };
        let variant = |extension: &&str| Variant::new(None, extension).ok();
        extensions.iter().filter_map(variant).collect()
    }

    /// The files that a package has or has not.
    pub fn optional_variants(&self) -> Vec<Variant> {
        let all = [
            (Some("sources"), "jar"),
            (Some("javadoc"), "jar"),
            (None, "module"),
        ];
        let stands_alone = self.packaging == "pom";
        all.into_iter()
            .filter(|(classifier, _)| classifier.is_none() || !stands_alone)
            .filter_map(|(classifier, extension)| Variant::new(classifier, extension).ok())
            .collect()
    }
}

/// Fields in a fixed order; blanks inside a field would make two lists look alike.
fn line(kind: &str, element: &Element, fields: &[&str]) -> String {
    let values: Vec<String> = fields
        .iter()
        .map(|it| element.value(it).unwrap_or_default())
        .map(|it| it.split_whitespace().collect())
        .collect();
    format!("{kind} {}", values.join(":").trim_end_matches(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POM: &str = "<project xmlns='x'>
        <parent><groupId>org.example</groupId><artifactId>top</artifactId><version>1</version></parent>
        <artifactId>lib</artifactId>
        <packaging>bundle</packaging>
        <dependencyManagement><dependencies>
          <dependency><groupId>b</groupId><artifactId>bom</artifactId><version>3</version><type>pom</type><scope>import</scope></dependency>
          <dependency><groupId>m</groupId><artifactId>managed</artifactId><version>4</version></dependency>
        </dependencies></dependencyManagement>
        <dependencies>
          <dependency><groupId>g</groupId><artifactId>z</artifactId><version>${z}</version><scope>test</scope></dependency>
          <dependency><groupId>g</groupId><artifactId>a</artifactId></dependency>
        </dependencies>
        <build><plugins><plugin><dependencies>
          <dependency><groupId>p</groupId><artifactId>p</artifactId></dependency>
        </dependencies></plugin></plugins></build>
      </project>";

    #[test]
    fn dependencies_are_listed_in_one_order() {
        let pom = Pom::parse(POM.as_bytes()).unwrap();
        let expected = "dependency g:a\n\
            dependency g:z:${z}:::test\n\
            import b:bom:3:pom\n\
            parent org.example:top:1\n";
        assert_eq!(pom.dependency_list(), expected);
        assert_eq!(pom.dependencies_digest(), Blake3::of(expected.as_bytes()));
        let empty = Pom::parse(b"<project/>").unwrap();
        assert_eq!(
            (empty.dependency_list(), empty.packaging.as_str()),
            (String::new(), "jar")
        );
    }

    #[test]
    fn packaging_decides_the_files() {
        let names = |it: Vec<Variant>| it.iter().map(Variant::to_string).collect::<Vec<_>>();
        for (packaging, main, optional) in [
            ("jar", vec![".jar"], 3),
            ("bundle", vec![".jar"], 3),
            ("war", vec![".war", ".jar"], 3),
            ("aar", vec![".aar", ".jar"], 3),
            ("${odd}", vec![".jar"], 3),
            ("../x", vec![".jar"], 3),
            ("pom", vec![], 1),
        ] {
            let xml = format!("<project><packaging>{packaging}</packaging></project>");
            let pom = Pom::parse(xml.as_bytes()).unwrap();
            assert_eq!(names(pom.main_variants()), main, "{packaging}");
            assert_eq!(pom.optional_variants().len(), optional, "{packaging}");
        }
    }

    #[test]
    fn what_is_no_pom_is_refused() {
        assert_eq!(Pom::parse(b"<html/>"), Err(PomError::Root("html".into())));
        assert!(matches!(Pom::parse(b"404"), Err(PomError::Xml(_))));
        let many = "<dependency/>".repeat(DEPENDENCIES_MAX + 1);
        let xml = format!("<project><dependencies>{many}</dependencies></project>");
        assert_eq!(
            Pom::parse(xml.as_bytes()),
            Err(PomError::TooMany(DEPENDENCIES_MAX + 1))
        );
    }
}
