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
        let root = downloaded(cache)?;
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
        let mut found = Vec::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension() == Some(OsStr::new("pom")) {
                    found.extend(coordinates(&self.root, &path));
                }
            }
        }
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

/// The local repository that a build of the project fills, without Maven's own bookkeeping.
fn downloaded(cache: &Path) -> Result<PathBuf, Failure> {
    let root = cache.join("maven-repository");
    if root.join("complete").exists() {
        return Ok(root);
    }
    let _ = std::fs::remove_dir_all(&root);
    std::fs::create_dir_all(&root)?;
    let root = root.canonicalize()?;
    let project = cache.join("maven-project");
    let _ = std::fs::remove_dir_all(&project);
    copy_project(&project)?;
    let mut local = std::ffi::OsString::from("-Dmaven.repo.local=");
    local.push(&root);
    run(Command::new("mvn")
        .args(["-B", "-ntp", "package"])
        .arg(local)
        .current_dir(&project))?;
    remove_bookkeeping(&root)?;
    std::fs::write(root.join("complete"), "")?;
    Ok(root)
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
