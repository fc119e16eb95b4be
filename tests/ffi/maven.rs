//! The extension for Maven: a real project, built by each version of Maven with an empty local
//! repository, whose files come from the network.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kogge_testkit::MavenUpstream;
use kogge_testkit::maven::{copy_project, distribution};
use kogge_testkit::network::{Network, cache};
use kogge_testkit::run::Failure;

use crate::java::built;
use crate::{is_full, run};

/// Maven 4 and 3.9, beside Debian's 3.8. The last is for the full matrix.
const VERSIONS: [&str; 2] = ["4.0.0-rc-4", "3.9.11"];

/// What the summary begins with.
const SUMMARY: &str = "kogge: ";

/// A network whose log has all files that builds of the demo project need.
struct Stocked {
    network: Network,
    upstream: MavenUpstream,
    mavens: Vec<PathBuf>,
    folder: tempfile::TempDir,
}

impl Stocked {
    fn start() -> Self {
        let mut mavens = vec![PathBuf::from("mvn")];
        mavens.extend(VERSIONS.map(|it| distribution(&cache(), it).unwrap()));
        let name = "maven-repository-3-4";
        let upstream = MavenUpstream::for_mavens(&cache(), name, &mavens).unwrap();
        if !is_full() {
            mavens.pop();
        }
        let network = Network::start(1, 1, "http://127.0.0.1:9", &upstream.url(), true);
        let this = Self {
            network,
            upstream,
            mavens,
            folder: tempfile::tempdir().unwrap(),
        };
        // Ordinary builds through a regular node ask for what the log lacks.
        let front = format!("http://{}/maven2", this.network.regular(0).registry());
        for (number, maven) in this.mavens.iter().enumerate() {
            let project = this.project(&format!("ordinary-{number}"), &front);
            run(project.maven(maven).arg("package"));
        }
        this.network.wait_same_log(1);
        this
    }

    /// A copy of the demo project that has nothing yet and downloads from `url`.
    fn project(&self, name: &str, url: &str) -> Project {
        let folder = self.folder.path().join(name);
        copy_project(&folder).unwrap();
        let settings = format!(
            "<settings><mirrors><mirror><id>mirror</id><mirrorOf>*</mirrorOf>\
             <url>{url}</url></mirror></mirrors></settings>"
        );
        std::fs::write(folder.join("settings.xml"), settings).unwrap();
        Project { folder }
    }

    /// A project that has the extension, and a data folder of its own.
    fn extended(&self, name: &str) -> Project {
        let project = self.project(name, &self.upstream.url());
        project.add_extension();
        let node = self.network.regular(0);
        let listen = node.status().unwrap()["listen"][0].clone();
        project.configure(&format!(
            "# The network of the tests.\nkogge.genesis = {}\nkogge.peers = {}\n\
             kogge.dataDir = {}\n",
            node.data.with_file_name("genesis.json").display(),
            listen.as_str().unwrap(),
            self.folder.path().join("data").join(name).display(),
        ));
        project
    }
}

/// A project with a local repository of its own.
struct Project {
    folder: PathBuf,
}

impl Project {
    /// As a user would: `.mvn/extensions.xml`. What comes before the extension has to come without
    /// it, so its own jars are in the local repository.
    fn add_extension(&self) {
        let (settings, local) = (self.folder.join(".mvn"), self.folder.join("repository"));
        std::fs::create_dir_all(&settings).unwrap();
        std::fs::create_dir_all(&local).unwrap();
        run(Command::new("cp")
            .arg("-R")
            .arg(built().repository.join("dev"))
            .arg(&local));
        let version = env!("CARGO_PKG_VERSION");
        let text = format!(
            "<extensions><extension><groupId>dev.kogge</groupId>\
             <artifactId>kogge-maven-extension</artifactId><version>{version}</version>\
             </extension></extensions>"
        );
        std::fs::write(settings.join("extensions.xml"), text).unwrap();
    }

    fn configure(&self, properties: &str) {
        std::fs::write(self.folder.join(".mvn/kogge.properties"), properties).unwrap();
    }

    /// A command of Maven: no downloads are shown, checksums are strict.
    fn maven(&self, program: &Path) -> Command {
        let mut local = OsString::from("-Dmaven.repo.local=");
        local.push(self.folder.join("repository"));
        let mut maven = Command::new(program);
        maven
            .args(["-B", "-ntp", "-C", "-s", "settings.xml"])
            .arg(local)
            .arg(format!("-Duser.home={}", built().home.display()))
            .current_dir(&self.folder)
            .env_remove("LD_LIBRARY_PATH")
            .stdin(Stdio::null());
        maven
    }

    /// Runs a goal of the plugin.
    fn goal(&self, program: &Path, goal: &str, settings: &[&str]) -> Result<String, Failure> {
        let version = env!("CARGO_PKG_VERSION");
        let mut maven = self.maven(program);
        let goal = format!("dev.kogge:kogge-maven-plugin:{version}:{goal}");
        kogge_testkit::run::run(maven.args(settings).arg(goal))
    }

    /// Adds a dependency that was made here, with the bytes of `jar`.
    fn depend_on_what_the_log_lacks(&self, jar: &Path) {
        let folder = self.folder.join("repository/org/private/thing/1");
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
    fn package(&self, program: &Path, settings: &[&str]) -> Summary {
        let text = run(self.maven(program).args(settings).arg("package"));
        assert!(self.folder.join("target/demo-1.0.jar").exists(), "{text}");
        Summary::of(&text)
    }
}

/// The line at the end of a build.
struct Summary {
    line: String,
    verified: u64,
    repositories: u64,
}

impl Summary {
    fn of(text: &str) -> Self {
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

    fn assert_without(&self, told: &str) {
        assert_eq!(self.verified, 0, "{}", self.line);
        assert!(100 < self.repositories, "{}", self.line);
        assert!(self.line.contains(told), "{}", self.line);
    }
}

#[test]
fn builds_take_their_files_from_the_network_and_never_fail_for_it() {
    let stocked = Stocked::start();
    every_maven_builds_without_a_request(&stocked);
    slots_are_for_builds_at_the_same_time(&stocked);
    builds_go_on_without_a_node(&stocked);
    goals_compare_a_project_with_the_log(&stocked);
    bad_bytes_of_peers_come_from_the_repository_instead(&stocked);
}

fn every_maven_builds_without_a_request(stocked: &Stocked) {
    for (number, maven) in stocked.mavens.iter().enumerate() {
        stocked.upstream.requests().clear();
        let project = stocked.extended(&format!("extended-{number}"));
        let summary = project.package(maven, &[]);
        let requests = stocked.upstream.requests().all();
        assert!(requests.is_empty(), "{}: {requests:?}", maven.display());
        assert!(100 < summary.verified, "{}", summary.line);
        assert_eq!(summary.repositories, 0, "{}", summary.line);
        println!("{}: {}", maven.display(), summary.line);
        if number != 0 {
            continue;
        }
        // Once more: now the files are in the data folder of the extension.
        std::fs::remove_dir_all(project.folder.join("repository")).unwrap();
        project.add_extension();
        let again = project.package(maven, &[]);
        assert!(again.line.contains("(0 B from peers"), "{}", again.line);
        assert_eq!(again.verified, summary.verified, "{}", again.line);
    }
    assert!(stocked.upstream.requests().all().is_empty());
}

fn slots_are_for_builds_at_the_same_time(stocked: &Stocked) {
    let maven = stocked.mavens.first().unwrap();
    let projects: Vec<Project> = (0..2)
        .map(|it| stocked.extended(&format!("parallel-{it}")))
        .collect();
    let data = stocked.folder.path().join("data/parallel");
    let setting = format!("-Dkogge.dataDir={}", data.display());
    let texts: Vec<String> = std::thread::scope(|scope| {
        let builds: Vec<_> = projects
            .iter()
            .map(|it| {
                let setting = &setting;
                scope.spawn(move || run(it.maven(maven).arg(setting).arg("package")))
            })
            .collect();
        builds.into_iter().map(|it| it.join().unwrap()).collect()
    });
    for text in &texts {
        let summary = Summary::of(text);
        assert_eq!(summary.repositories, 0, "{}", summary.line);
        assert!(100 < summary.verified, "{}", summary.line);
    }
    let mut slots: Vec<_> = std::fs::read_dir(&data)
        .unwrap()
        .map(|it| it.unwrap().file_name())
        .collect();
    slots.sort();
    assert_eq!(slots, ["0", "1"]);
    assert!(stocked.upstream.requests().all().is_empty());
}

fn builds_go_on_without_a_node(stocked: &Stocked) {
    let absent = "-Dkogge.library.path=/no/such/library";
    for (number, maven) in stocked.mavens.iter().enumerate() {
        let project = stocked.extended(&format!("without-library-{number}"));
        let summary = project.package(maven, &[absent]);
        summary.assert_without("no node: kogge.library.path");
    }
    let maven = stocked.mavens.first().unwrap();
    for (name, settings, told) in [
        (
            "genesis",
            ["-Dkogge.genesis=/no/such/file", "-Dkogge.liveSeconds=1"],
            "no node: /no/such/file",
        ),
        (
            "peers",
            ["-Dkogge.peers=", "-Dkogge.liveSeconds=1"],
            "no peer answered in time",
        ),
    ] {
        let project = stocked.extended(&format!("without-{name}"));
        let summary = project.package(maven, &settings);
        summary.assert_without(told);
    }
    let project = stocked.extended("disabled");
    let text = run(project
        .maven(maven)
        .args(["-Dkogge.enabled=false", "package"]));
    assert!(!text.contains(SUMMARY), "{text}");
}

fn goals_compare_a_project_with_the_log(stocked: &Stocked) {
    for (number, maven) in stocked.mavens.iter().enumerate() {
        let project = stocked.extended(&format!("goals-{number}"));
        project.package(maven, &[]);
        let jar = "org/apache/commons/commons-lang3/3.14.0/commons-lang3-3.14.0.jar";

        let told = project.goal(maven, "status", &[]).unwrap();
        assert!(
            told.contains("live: knows what the network knows"),
            "{told}"
        );

        let told = project.goal(maven, "verify", &[]).unwrap();
        let all = "3 artifacts are what the log says, 0 differ, 0 are not in the log";
        assert!(told.contains(all), "{told}");
        let report = std::fs::read(project.folder.join("target/kogge-verify.json")).unwrap();
        let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
        let found = report["artifacts"].as_array().unwrap();
        assert_eq!(found.len(), 3, "{report}");
        assert!(found.iter().all(|it| it["state"] == "verified"), "{report}");
        assert!(found.iter().any(|it| it["path"] == jar), "{report}");

        lock_is_what_maven_checks_by(&project, maven, number != 0, jar);

        // A jar that somebody changed on this machine.
        let file = project.folder.join("repository").join(jar);
        let whole = std::fs::read(&file).unwrap();
        std::fs::write(&file, [&whole[..], b"more"].concat()).unwrap();
        let told = project.goal(maven, "verify", &[]).unwrap_err().0;
        assert!(
            told.contains(&format!("{jar} is not what the log says")),
            "{told}"
        );
        std::fs::write(&file, whole).unwrap();

        project.depend_on_what_the_log_lacks(&file);
        let told = project.goal(maven, "verify", &[]).unwrap();
        assert!(told.contains("thing-1.jar is not in the log"), "{told}");
        let strict = project.goal(maven, "verify", &["-Dkogge.failOnMissing"]);
        let told = strict.unwrap_err().0;
        assert!(told.contains("1 artifacts are not in the log"), "{told}");
    }
}

/// The file that `kogge:lock` writes; Maven 3.8 cannot read such files.
fn lock_is_what_maven_checks_by(project: &Project, maven: &Path, is_read: bool, jar: &str) {
    let told = project.goal(maven, "lock", &[]).unwrap();
    assert!(told.contains("0 artifacts are not in the log"), "{told}");
    let folder = project.folder.join(".mvn/checksums");
    let path = folder.join("checksums.sha256");
    let text = std::fs::read_to_string(&path).unwrap();
    let line = text.lines().find(|it| it.ends_with(jar)).unwrap();
    assert_eq!(line.len(), 64 + 2 + jar.len(), "{text}");
    if !is_read {
        return;
    }
    let check = || {
        let mut maven = project.maven(maven);
        let summary = "-Daether.trustedChecksumsSource.summaryFile";
        let processor = "-Daether.artifactResolver.postProcessor.trustedChecksums";
        maven.args([
            summary.to_owned(),
            format!("{summary}.basedir={}", folder.display()),
            format!("{summary}.originAware=false"),
            processor.to_owned(),
            format!("{processor}.checksumAlgorithms=SHA-256"),
        ]);
        kogge_testkit::run::run(maven.arg("package"))
    };
    check().unwrap();
    let wrong = text.replace(line, &format!("{}  {jar}", "0".repeat(64)));
    std::fs::write(&path, wrong).unwrap();
    let told = check().unwrap_err().0;
    assert!(
        told.contains("trusted checksum mismatch") || told.contains("Trusted checksum mismatch"),
        "{told}"
    );
    std::fs::remove_dir_all(folder).unwrap();
}

/// Every node has damaged files: what they send is not what the log says.
fn bad_bytes_of_peers_come_from_the_repository_instead(stocked: &Stocked) {
    let mut damaged = 0;
    for node in &stocked.network.nodes {
        for folder in std::fs::read_dir(node.data.join("blobs")).unwrap() {
            for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
                let path = file.unwrap().path();
                let mut bytes = std::fs::read(&path).unwrap();
                bytes.iter_mut().for_each(|it| *it ^= 0xff);
                // In place: the nodes may have it open.
                let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
                std::io::Write::write_all(&mut file, &bytes).unwrap();
                damaged += 1;
            }
        }
    }
    assert!(10 < damaged, "{damaged}");
    let maven = stocked.mavens.first().unwrap();
    let project = stocked.extended("damaged");
    let summary = project.package(maven, &[]);
    println!("damaged: {}", summary.line);
    assert!(0 < summary.repositories, "{}", summary.line);
}
