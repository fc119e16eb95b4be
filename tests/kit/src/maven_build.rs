//! Builds of the demo project with the extension for Maven, in a network whose log has their files:
//! for tests, a step that fails ends the test.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a failed step fails the test"
)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::maven::{MavenUpstream, copy_project};
use crate::network::Network;
use crate::run::{Failure, run};

/// The version of the extension and the plugin.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Packages that are added at a time.
const BUILDS_AT_ONCE: usize = 8;

/// What the summary begins with.
pub const SUMMARY: &str = "kogge: ";

/// What the extension is installed from.
#[derive(Clone, Debug)]
pub struct Jars {
    /// The Maven repository that `bindings/java/build.sh` makes.
    pub repository: PathBuf,
    /// A home of the user, for the native library.
    pub home: PathBuf,
    /// Settings of Maven's JVM; those of its users are none.
    pub jvm: &'static str,
}

impl Jars {
    /// Makes both in `folder`, with that native library inside the jar.
    ///
    /// # Errors
    ///
    /// [`Failure`] with the compiler's output.
    pub fn build(library: &Path, folder: &Path) -> Result<Self, Failure> {
        let repository = folder.join("repository");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bindings/java/build.sh");
        run(Command::new(script).arg(library).arg(&repository))?;
        Ok(Self {
            repository,
            home: folder.join("home"),
            jvm: "",
        })
    }

    /// The jar of a module.
    pub fn jar(&self, name: &str) -> PathBuf {
        let folder = self.repository.join("dev/kogge").join(name).join(VERSION);
        folder.join(format!("{name}-{VERSION}.jar"))
    }
}

/// A network whose log has all files that builds of the demo project need.
pub struct Stocked {
    /// One authorized and one regular node.
    pub network: Network,
    /// Where their files are from.
    pub upstream: MavenUpstream,
    /// Data folders of nodes in Maven, by name of the project.
    pub data: PathBuf,
    folder: tempfile::TempDir,
    jars: Jars,
}

impl Stocked {
    /// Starts the network, and adds all that the upstream has.
    pub fn start(upstream: MavenUpstream, jars: &Jars) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = upstream.url();
        let network = Network::start(1, 1, "http://127.0.0.1:9", &url, false);
        let packages = upstream.packages().unwrap();
        std::thread::scope(|scope| {
            let (node, url) = (network.regular(0), url.as_str());
            for part in packages.chunks(packages.len().div_ceil(BUILDS_AT_ONCE)) {
                scope.spawn(move || {
                    for what in part {
                        node.json(&["build", "maven", what, "--repository", url]);
                    }
                });
            }
        });
        network.wait_same_log(1);
        Self {
            network,
            upstream,
            data: folder.path().join("data"),
            folder,
            jars: jars.clone(),
        }
    }

    /// A copy of the demo project that has nothing yet and downloads from `url`.
    pub fn project(&self, name: &str, url: &str) -> Project {
        let folder = self.folder.path().join(name);
        copy_project(&folder).unwrap();
        let settings = format!(
            "<settings><mirrors><mirror><id>mirror</id><mirrorOf>*</mirrorOf>\
             <url>{url}</url></mirror></mirrors></settings>"
        );
        std::fs::write(folder.join("settings.xml"), settings).unwrap();
        Project {
            folder,
            jars: self.jars.clone(),
        }
    }

    /// A project that has the extension, and a data folder of its own.
    pub fn extended(&self, name: &str) -> Project {
        let project = self.project(name, &self.upstream.url());
        project.add_extension();
        let node = self.network.regular(0);
        let listen = node.status().unwrap()["listen"][0].clone();
        project.configure(&format!(
            "# The network of the tests.\nkogge.genesis = {}\nkogge.peers = {}\n\
             kogge.dataDir = {}\n",
            node.data.with_file_name("genesis.json").display(),
            listen.as_str().unwrap(),
            self.data.join(name).display(),
        ));
        project
    }
}

/// A project with a local repository of its own.
#[derive(Debug)]
pub struct Project {
    /// Where it lies.
    pub folder: PathBuf,
    jars: Jars,
}

impl Project {
    /// The files that Maven downloaded.
    pub fn local_repository(&self) -> PathBuf {
        self.folder.join("repository")
    }

    /// As a user would: `.mvn/extensions.xml`. What comes before the extension has to come without
    /// it, so its own jars are in the local repository.
    fn add_extension(&self) {
        let (settings, local) = (self.folder.join(".mvn"), self.local_repository());
        std::fs::create_dir_all(&settings).unwrap();
        std::fs::create_dir_all(&local).unwrap();
        let own = self.jars.repository.join("dev");
        run(Command::new("cp").arg("-R").arg(own).arg(&local)).unwrap();
        let text = format!(
            "<extensions><extension><groupId>dev.kogge</groupId>\
             <artifactId>kogge-maven-extension</artifactId><version>{VERSION}</version>\
             </extension></extensions>"
        );
        std::fs::write(settings.join("extensions.xml"), text).unwrap();
    }

    /// Forgets what was downloaded.
    pub fn empty_local_repository(&self) {
        std::fs::remove_dir_all(self.local_repository()).unwrap();
        self.add_extension();
    }

    fn configure(&self, properties: &str) {
        std::fs::write(self.folder.join(".mvn/kogge.properties"), properties).unwrap();
    }

    /// A command of Maven: no downloads are shown, checksums are strict.
    pub fn maven(&self, program: &Path) -> Command {
        let mut local = OsString::from("-Dmaven.repo.local=");
        local.push(self.local_repository());
        let mut maven = Command::new(program);
        maven
            .args(["-B", "-ntp", "-C", "-s", "settings.xml"])
            .arg(local)
            .arg(format!("-Duser.home={}", self.jars.home.display()))
            .current_dir(&self.folder)
            .env_remove("LD_LIBRARY_PATH")
            .env("MAVEN_OPTS", self.jars.jvm)
            .stdin(Stdio::null());
        maven
    }

    /// Runs goals of the plugin; what Maven printed.
    ///
    /// # Errors
    ///
    /// [`Failure`] with what Maven printed.
    pub fn goals(
        &self,
        program: &Path,
        goals: &[&str],
        settings: &[&str],
    ) -> Result<String, Failure> {
        let goal = |it: &&str| format!("dev.kogge:kogge-maven-plugin:{VERSION}:{it}");
        let mut maven = self.maven(program);
        run(maven.args(settings).args(goals.iter().map(goal)))
    }

    /// Adds a dependency that was made here, with the bytes of `jar`.
    pub fn depend_on_what_the_log_lacks(&self, jar: &Path) {
        let folder = self.local_repository().join("org/private/thing/1");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(jar, folder.join("thing-1.jar")).unwrap();
        let pom = "<project><modelVersion>4.0.0</modelVersion><groupId>org.private</groupId>\
                   <artifactId>thing</artifactId><version>1</version></project>";
        std::fs::write(folder.join("thing-1.pom"), pom).unwrap();
        let path = self.folder.join("pom.xml");
        let text = std::fs::read_to_string(&path).unwrap();
        let more = "<dependencies><dependency><groupId>org.private</groupId>\
                    <artifactId>thing</artifactId><version>1</version></dependency>";
        std::fs::write(path, text.replace("<dependencies>", more)).unwrap();
    }

    /// Builds, and gives the summary of the extension.
    pub fn package(&self, program: &Path, settings: &[&str]) -> Summary {
        let text = run(self.maven(program).args(settings).arg("package")).unwrap();
        assert!(self.folder.join("target/demo-1.0.jar").exists(), "{text}");
        Summary::of(&text)
    }
}

/// The line at the end of a build.
#[derive(Debug)]
pub struct Summary {
    /// All of it.
    pub line: String,
    /// Files that came from the network or the data folder.
    pub verified: u64,
    /// Files that came from repositories.
    pub repositories: u64,
}

impl Summary {
    /// The only one in what Maven printed.
    pub fn of(text: &str) -> Self {
        let mut lines = text.lines().filter_map(|it| it.split_once(SUMMARY));
        let line = lines.next().map(|it| it.1.to_owned());
        let line = line.unwrap_or_else(|| panic!("no summary:\n{text}"));
        assert!(lines.next().is_none(), "one line:\n{text}");
        let number = |it: &str| it.trim().split(' ').next().unwrap().parse().unwrap();
        let (first, second) = line.split_once("),").unwrap();
        Self {
            verified: number(first),
            repositories: number(second),
            line,
        }
    }
}
