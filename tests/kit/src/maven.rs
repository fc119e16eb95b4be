//! A Maven repository on loopback, over jars and poms that Maven itself downloaded.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::proxy::{Requests, Server};
use crate::run::{Failure, run};

/// A small real project: one class, one test, two dependencies.
const PROJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/project");

/// The running repository.
#[derive(Debug)]
pub struct MavenUpstream {
    server: Server,
    root: PathBuf,
}

impl MavenUpstream {
    /// Serves what a build of the demo project downloads; the download happens once and is kept in
    /// `cache`.
    ///
    /// # Errors
    ///
    /// [`Failure`] with Maven's output.
    pub fn start(cache: &Path) -> Result<Self, Failure> {
        Self::for_mavens(cache, "maven-repository", &[PathBuf::from("mvn")])
    }

    /// Serves what builds of the demo project by each of these Maven programs download: versions
    /// of Maven bind different plugins. The files are kept as `name` in `cache`.
    ///
    /// # Errors
    ///
    /// [`Failure`] with Maven's output.
    pub fn for_mavens(cache: &Path, name: &str, programs: &[PathBuf]) -> Result<Self, Failure> {
        let root = downloaded(cache, name, programs)?;
        Ok(Self {
            server: Server::files(root.clone())?,
            root,
        })
    }

    /// Base URL for nodes; requests are counted.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.server.port)
    }

    /// What nodes asked.
    pub fn requests(&self) -> &Requests {
        &self.server.requests
    }

    /// Drops every connection from now on (`true`), or serves again.
    pub fn switch_off(&self, off: bool) {
        self.server.switch_off(off);
    }

    /// The folder with the files.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Coordinates `group:artifact:version` of every package in the repository, sorted.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the folder cannot be read.
    pub fn packages(&self) -> Result<Vec<String>, Failure> {
        let poms = files_with_extension(&self.root, "pom")?;
        let mut found: Vec<_> = poms
            .iter()
            .filter_map(|it| coordinates(&self.root, it))
            .collect();
        found.sort();
        Ok(found)
    }
}

fn coordinates(root: &Path, pom: &Path) -> Option<String> {
    let folder = pom.parent()?.strip_prefix(root).ok()?;
    let parts: Vec<_> = folder.iter().filter_map(OsStr::to_str).collect();
    let [group @ .., artifact, version] = parts.as_slice() else {
        return None;
    };
    Some(format!("{}:{artifact}:{version}", group.join(".")))
}

/// A copy of the demo project in `folder`.
///
/// # Errors
///
/// [`Failure`] if it cannot be copied.
pub fn copy_project(folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder)?;
    run(Command::new("cp")
        .arg("-R")
        .arg(format!("{PROJECT}/."))
        .arg(folder))
    .map(drop)
}

/// The program of the Maven distribution `version`, unpacked once into `cache` by Debian's Maven.
///
/// # Errors
///
/// [`Failure`] with Maven's output.
pub fn distribution(cache: &Path, version: &str) -> Result<PathBuf, Failure> {
    let folder = cache.join("mavens");
    let program = folder.join(format!("apache-maven-{version}/bin/mvn"));
    if program.exists() {
        return Ok(program);
    }
    std::fs::create_dir_all(&folder)?;
    let staged = tempfile::tempdir_in(&folder)?;
    run(Command::new("mvn")
        .args(["-B", "-ntp", "-q"])
        .arg("org.apache.maven.plugins:maven-dependency-plugin:3.6.1:unpack")
        .arg(format!(
            "-Dartifact=org.apache.maven:apache-maven:{version}:zip:bin"
        ))
        .arg(format!("-DoutputDirectory={}", staged.path().display()))
        .current_dir(&folder))?;
    let name = format!("apache-maven-{version}");
    let staged = staged.path().join(&name);
    // A zip keeps no permissions as this plugin unpacks it.
    run(Command::new("chmod").arg("+x").arg(staged.join("bin/mvn")))?;
    std::fs::rename(staged, folder.join(name))?;
    Ok(program)
}

/// The local repository that builds of the project fill, without Maven's own bookkeeping.
fn downloaded(cache: &Path, name: &str, programs: &[PathBuf]) -> Result<PathBuf, Failure> {
    let root = cache.join(name);
    if root.join("complete").exists() {
        return Ok(root);
    }
    let _ = std::fs::remove_dir_all(&root);
    std::fs::create_dir_all(&root)?;
    let root = root.canonicalize()?;
    let mut local = std::ffi::OsString::from("-Dmaven.repo.local=");
    local.push(&root);
    for program in programs {
        let project = cache.join("maven-project");
        let _ = std::fs::remove_dir_all(&project);
        copy_project(&project)?;
        run(Command::new(program)
            .args(["-B", "-ntp", "package"])
            .arg(&local)
            .current_dir(&project))?;
    }
    remove_bookkeeping(&root)?;
    complete(cache, &root)?;
    std::fs::write(root.join("complete"), "")?;
    Ok(root)
}

/// Maven downloads only the poms of versions that lose against others. A repository has the jars,
/// too: they are fetched by one more run.
fn complete(cache: &Path, root: &Path) -> Result<(), Failure> {
    let mut items = String::new();
    for pom in files_with_extension(root, "pom")? {
        let text = std::fs::read_to_string(&pom)?;
        let has_jar = !text.contains("<packaging>pom</packaging>");
        if has_jar
            && !pom.with_extension("jar").exists()
            && let Some(name) = coordinates(root, &pom)
            && let [group, artifact, version] = name.split(':').collect::<Vec<_>>()[..]
        {
            items.push_str(&format!(
                "<artifactItem><groupId>{group}</groupId><artifactId>{artifact}</artifactId>\
                 <version>{version}</version><outputDirectory>{}</outputDirectory></artifactItem>",
                pom.parent().unwrap_or(root).display()
            ));
        }
    }
    let project = cache.join("maven-jars");
    std::fs::create_dir_all(&project)?;
    let pom = format!(
        "<project><modelVersion>4.0.0</modelVersion><groupId>demo</groupId>\
         <artifactId>jars</artifactId><version>1</version><packaging>pom</packaging>\
         <build><plugins><plugin><artifactId>maven-dependency-plugin</artifactId>\
         <version>3.6.1</version><configuration><artifactItems>{items}</artifactItems>\
         </configuration></plugin></plugins></build></project>"
    );
    std::fs::write(project.join("pom.xml"), pom)?;
    let mut local = std::ffi::OsString::from("-Dmaven.repo.local=");
    local.push(cache.canonicalize()?.join("maven-jars-repository"));
    let copy = ["-B", "-ntp", "-q", "dependency:copy"];
    run(Command::new("mvn")
        .args(copy)
        .arg(local)
        .current_dir(&project))
    .map(drop)
}

/// Files below `root` whose names end in `.extension`.
fn files_with_extension(root: &Path, extension: &str) -> Result<Vec<PathBuf>, Failure> {
    let (mut found, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension() == Some(OsStr::new(extension)) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// `_remote.repositories` and the like are Maven's notes, not files of a repository.
fn remove_bookkeeping(folder: &Path) -> Result<(), Failure> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        if path.is_dir() {
            remove_bookkeeping(&path)?;
        } else if name.starts_with('_')
            || name.starts_with("maven-metadata-")
            || name.starts_with("resolver-status")
            || name.ends_with(".lastUpdated")
        {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}
