//! The extension for Maven: a real project, built by each version of Maven with an empty local
//! repository, whose files come from the network.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use kogge_testkit::maven::distribution;
use kogge_testkit::maven_build::{Jars, Project, SUMMARY, Stocked, Summary};
use kogge_testkit::network::{LIMIT, Node, cache};
use kogge_testkit::run::wait_until;
use kogge_testkit::{Child, MavenUpstream};

use crate::java::built;
use crate::{is_full, run};

/// Maven 4 and 3.9, beside Debian's 3.8. The last is for the full matrix.
const VERSIONS: [&str; 2] = ["4.0.0-rc-4", "3.9.11"];

/// Whose settings of Maven are tried.
const DOCUMENTATION: &str = include_str!("../../docs/maven.md");

/// A jar that the demo project depends on.
const JAR: &str = "org/apache/commons/commons-lang3/3.14.0/commons-lang3-3.14.0.jar";

/// Another transporter for repositories, which must not stand before that of the extension, and other
/// checksums than Maven's own. Each version of Maven knows some of these names.
const OTHERS: [&str; 4] = [
    "-Daether.priority.WagonTransporterFactory=1e38",
    "-Daether.priority.HttpTransporterFactory=1e38",
    "-Daether.priority.ApacheTransporterFactory=1e38",
    "-Daether.checksums.algorithms=SHA-512",
];

/// What saves a third of the time of a JVM that ends soon.
const SHORT_RUNS: &str = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC";

/// Data folders that builds at the same time may use.
const SLOTS: usize = 8;

#[test]
fn builds_take_their_files_from_the_network_and_never_fail_for_it() {
    let mut mavens = vec![PathBuf::from("mvn")];
    mavens.extend(VERSIONS.map(|it| distribution(&cache(), it).unwrap()));
    let upstream = MavenUpstream::for_mavens(&cache(), "maven-repository-3-4", &mavens).unwrap();
    if !is_full() {
        mavens.pop();
    }
    let jars = Jars {
        repository: built().repository.clone(),
        home: built().home.clone(),
        jvm: SHORT_RUNS,
    };
    let mut stocked = Stocked::start(upstream, &jars);
    let mut projects = Vec::new();
    for (number, maven) in mavens.iter().enumerate() {
        let project = stocked.extended(&format!("extended-{number}"));
        it_builds_without_a_request(&stocked, &project, maven, number == 0);
        goals_compare_a_project_with_the_log(&project, maven, number != 0);
        it_builds_without_the_native_library(&stocked, number, maven);
        projects.push(project);
    }
    let maven = &mavens[0];
    builds_at_the_same_time_have_data_folders_of_their_own(&stocked, maven);
    builds_go_on_without_a_node(&stocked, maven);
    a_build_that_is_refused_early_has_a_summary(&stocked, maven);
    a_build_that_was_killed_is_begun_again(&stocked, maven);
    the_network_goes_in_the_middle_of_a_build(&mut stocked, maven);
    bad_bytes_of_peers_come_from_the_repository_instead(&stocked, maven);
    goals_fail_for_what_was_withdrawn(&stocked, &projects, &mavens);
}

fn assert_without_requests(stocked: &Stocked, summary: &Summary) {
    let requests = stocked.upstream.requests().all();
    assert!(requests.is_empty(), "{}: {requests:?}", summary.line);
    assert!(100 < summary.verified, "{}", summary.line);
    assert_eq!(summary.repositories, 0, "{}", summary.line);
}

fn assert_without_a_node(summary: &Summary, told: &str) {
    assert_eq!(summary.verified, 0, "{}", summary.line);
    assert!(150 < summary.repositories, "{}", summary.line);
    assert!(summary.line.contains(told), "{}", summary.line);
}

fn it_builds_without_a_request(stocked: &Stocked, project: &Project, maven: &Path, again: bool) {
    stocked.upstream.requests().clear();
    let summary = project.package(maven, if again { &[] } else { &OTHERS });
    assert_without_requests(stocked, &summary);
    assert!(150 < summary.verified, "{}", summary.line);
    println!("{}: {}", maven.display(), summary.line);
    if again {
        // Now the files are in the data folder of the extension.
        project.empty_local_repository();
        let again = project.package(maven, &OTHERS);
        assert_without_requests(stocked, &again);
        // But files at the end of the build may not be: they are handed over before they are stored.
        let [peers, here] = ["peers", "this machine"].map(|it| bytes(&again, it));
        assert!(peers < here, "{}", again.line);
        assert_eq!(again.verified, summary.verified, "{}", again.line);
    }
}

/// How much came from somewhere: `19.2 MB from peers`.
fn bytes(summary: &Summary, from: &str) -> f64 {
    let before = summary.line.split_once(&format!(" from {from}")).unwrap().0;
    let mut words = before.rsplit([' ', '(']);
    let unit = match words.next() {
        Some("MB") => 1e6,
        Some("kB") => 1e3,
        _ => 1.0,
    };
    words.next().unwrap().parse::<f64>().unwrap() * unit
}

fn goals_compare_a_project_with_the_log(project: &Project, maven: &Path, reads_locks: bool) {
    let goals = ["status", "verify", "lock"];
    let told = project.goals(maven, &goals, &[]).unwrap();
    for expected in [
        "live: knows what the network knows",
        "3 artifacts are what the log says, 0 differ, 0 were withdrawn, 0 are not in the log",
        "0 artifacts are not in the log",
    ] {
        assert!(told.contains(expected), "{expected}:\n{told}");
    }
    let report = std::fs::read(project.folder.join("target/kogge-verify.json")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    let found = report["artifacts"].as_array().unwrap();
    assert_eq!(found.len(), 3, "{report}");
    assert!(found.iter().all(|it| it["state"] == "verified"), "{report}");
    assert!(found.iter().any(|it| it["path"] == JAR), "{report}");
    maven_checks_by_the_lock(project, maven, reads_locks);

    // A jar that somebody changed on this machine.
    let file = project.local_repository().join(JAR);
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, [&whole[..], b"more"].concat()).unwrap();
    let text = project.folder.join("target/report.txt");
    let setting = format!("-Dkogge.report={}", text.display());
    let told = project
        .goals(maven, &["verify"], &[&setting])
        .unwrap_err()
        .0;
    let expected = format!("{JAR} is not what the log says");
    assert!(told.contains(&expected), "{told}");
    let report = std::fs::read_to_string(text).unwrap();
    let line = report.lines().find(|it| it.contains(JAR)).unwrap();
    assert!(line.starts_with("different  "), "{report}");
    assert_eq!(report.lines().count(), 3, "{report}");
    std::fs::write(&file, whole).unwrap();

    project.depend_on_what_the_log_lacks(&file);
    let told = project.goals(maven, &["verify"], &[]).unwrap();
    assert!(told.contains("thing-1.jar is not in the log"), "{told}");
    let strict = project.goals(maven, &["verify"], &["-Dkogge.failOnMissing"]);
    let told = strict.unwrap_err().0;
    assert!(told.contains("1 artifacts are not in the log"), "{told}");
}

/// The file that `kogge:lock` writes; Maven 3.8 cannot read such files.
fn maven_checks_by_the_lock(project: &Project, maven: &Path, is_read: bool) {
    let folder = project.folder.join(".mvn/checksums");
    let path = folder.join("checksums.sha256");
    let text = std::fs::read_to_string(&path).unwrap();
    let line = text.lines().find(|it| it.ends_with(JAR)).unwrap();
    assert_eq!(line.len(), 64 + 2 + JAR.len(), "{text}");
    if !is_read {
        return;
    }
    let config = project.folder.join(".mvn/maven.config");
    let documented: Vec<&str> = DOCUMENTATION
        .lines()
        .filter(|it| it.starts_with("-Daether."))
        .collect();
    std::fs::write(&config, documented.join("\n")).unwrap();
    let check = || kogge_testkit::run::run(project.maven(maven).arg("package"));
    check().unwrap();
    let wrong = text.replace(line, &format!("{}  {JAR}", "0".repeat(64)));
    std::fs::write(&path, wrong).unwrap();
    let told = check().unwrap_err().0;
    let zeros = "0".repeat(64);
    let expected = format!("trusted checksum mismatch: summaryFile={zeros}; calculated=");
    assert!(told.contains(&expected), "{told}");
    std::fs::remove_dir_all(folder).unwrap();
    std::fs::remove_file(config).unwrap();
}

fn it_builds_without_the_native_library(stocked: &Stocked, number: usize, maven: &Path) {
    let project = stocked.extended(&format!("without-library-{number}"));
    if number == 0 {
        // Deleted.
        remove_native_library(&project);
        let summary = project.package(maven, &[]);
        assert_without_a_node(&summary, "no node: ");
        println!("without library: {}", summary.line);
    } else {
        let summary = project.package(maven, &["-Dkogge.library.path=/no/such/library"]);
        assert_without_a_node(&summary, "no node: kogge.library.path");
    }
}

/// The last test: the log is not the same after it.
fn goals_fail_for_what_was_withdrawn(stocked: &Stocked, projects: &[Project], mavens: &[PathBuf]) {
    let authorized = &stocked.network.nodes[0];
    let file = JAR.rsplit_once('/').unwrap().1;
    let found = authorized.json(&["log", "find", "--file", file]);
    let index = found["rows"][0]["index"].as_u64().unwrap();
    authorized.json(&["authorize", "withdraw", &index.to_string()]);
    for (project, maven) in projects.iter().zip(mavens) {
        let verify = || project.goals(maven, &["verify"], &["-Dkogge.report=report.txt"]);
        let mut told = String::new();
        wait_until("the withdrawal", LIMIT, || {
            told = verify().unwrap_or_else(|it| it.0);
            told.contains("1 were withdrawn")
        })
        .unwrap_or_else(|error| panic!("{error}: {told}"));
        let expected = format!("{JAR} was withdrawn from the log: entry {index}, by entry ");
        assert!(told.contains(&expected), "{told}");
        assert!(told.contains("BUILD FAILURE"), "{told}");
        let report = std::fs::read_to_string(project.folder.join("report.txt")).unwrap();
        let line = report.lines().find(|it| it.contains(JAR)).unwrap();
        assert!(line.starts_with("withdrawn  "), "{report}");
        let told = project.goals(maven, &["lock"], &[]).unwrap();
        let expected = format!("{JAR} was withdrawn from the log");
        assert!(told.contains(&expected), "{told}");
        let lock = project.folder.join(".mvn/checksums/checksums.sha256");
        assert!(!std::fs::read_to_string(lock).unwrap().contains(JAR));
    }
}

/// Packs the jar of the project anew, without the library that is in it.
fn remove_native_library(project: &Project) {
    let version = env!("CARGO_PKG_VERSION");
    let jar = format!("dev/kogge/kogge/{version}/kogge-{version}.jar");
    let (jar, folder) = (
        project.local_repository().join(jar),
        tempfile::tempdir().unwrap(),
    );
    let tool = |args: &[&str]| {
        let mut tool = Command::new("jar");
        tool.args(args).current_dir(folder.path());
        tool
    };
    run(tool(&["--extract", "--file"]).arg(&jar));
    std::fs::remove_dir_all(folder.path().join("dev/kogge/native")).unwrap();
    run(tool(&["--create", "--file"]).arg(&jar).arg("dev"));
}

fn builds_at_the_same_time_have_data_folders_of_their_own(stocked: &Stocked, maven: &Path) {
    stocked.upstream.requests().clear();
    let projects: Vec<Project> = (0..2)
        .map(|it| stocked.extended(&format!("parallel-{it}")))
        .collect();
    let data = stocked.data.join("parallel");
    let setting = format!("-Dkogge.dataDir={}", data.display());
    // A folder for all of them, which is not what it is for.
    let (config, elsewhere) = (data.with_extension("toml"), data.with_extension("else"));
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    std::fs::write(&config, format!("data_dir = {elsewhere:?}\n")).unwrap();
    let config = format!("-Dkogge.config={}", config.display());
    let settings: &[&str] = &[&setting, &config];
    let summaries: Vec<Summary> = std::thread::scope(|scope| {
        let build = |it| scope.spawn(move || Project::package(it, maven, settings));
        let builds: Vec<_> = projects.iter().map(build).collect();
        builds.into_iter().map(|it| it.join().unwrap()).collect()
    });
    for summary in &summaries {
        assert_without_requests(stocked, summary);
    }
    let mut slots: Vec<_> = std::fs::read_dir(&data)
        .unwrap()
        .map(|it| it.unwrap().file_name())
        .collect();
    slots.sort();
    assert_eq!(slots, ["0", "1"]);
    assert!(!elsewhere.exists());

    // As if as many builds ran as there may be.
    let locks: Vec<std::fs::File> = (0..SLOTS)
        .map(|it| {
            let folder = data.join(it.to_string());
            std::fs::create_dir_all(&folder).unwrap();
            let file = std::fs::File::create(folder.join("lock")).unwrap();
            file.try_lock().unwrap();
            file
        })
        .collect();
    let summary = stocked.extended("one-more").package(maven, settings);
    assert_without_a_node(&summary, "is in use by");
    assert!(!data.join(SLOTS.to_string()).exists());
    drop(locks);
}

fn builds_go_on_without_a_node(stocked: &Stocked, maven: &Path) {
    let project = stocked.extended("without-genesis");
    let settings = ["-Dkogge.genesis=/no/such/file", "-Dkogge.liveSeconds=1"];
    let summary = project.package(maven, &settings);
    let expected =
        "no node: kogge.genesis cannot be read: java.nio.file.NoSuchFileException: /no/such/file";
    assert_without_a_node(&summary, expected);
    let told = project.goals(maven, &["status"], &settings).unwrap_err().0;
    assert!(
        told.contains(expected.trim_start_matches("no node: ")),
        "{told}"
    );
    let project = stocked.extended("disabled");
    let disabled = ["-Dkogge.enabled=false", "package"];
    let text = run(project.maven(maven).args(disabled));
    assert!(!text.contains(SUMMARY), "{text}");
}

/// Maven gives up before the session begins: its projects make no sense, and their parent had to be
/// downloaded to know that.
fn a_build_that_is_refused_early_has_a_summary(stocked: &Stocked, maven: &Path) {
    let project = stocked.extended("refused");
    let path = project.folder.join("pom.xml");
    let text = std::fs::read_to_string(&path).unwrap();
    let parent = "<parent><groupId>org.apache.commons</groupId><artifactId>commons-parent</artifactId>\
                  <version>64</version><relativePath/></parent><groupId>";
    let nonsense =
        "<dependencies><dependency><groupId>g</groupId><artifactId>a</artifactId></dependency>";
    let text = text.replacen("<groupId>", parent, 1);
    std::fs::write(&path, text.replacen("<dependencies>", nonsense, 1)).unwrap();
    let told = kogge_testkit::run::run(project.maven(maven).arg("package"));
    let told = told.unwrap_err().0;
    let summary = Summary::of(&told);
    assert!(0 < summary.verified, "{told}");
}

/// The poms and jars below a folder.
fn artifacts(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            match path.extension().and_then(OsStr::to_str) {
                _ if path.is_dir() => folders.push(path),
                Some("pom" | "jar") => found.push(path),
                _ => {}
            }
        }
    }
    found
}

/// Starts a build and waits until files have come from the network.
fn begin(stocked: &Stocked, name: &str, maven: &Path) -> (Project, Child) {
    let project = stocked.extended(name);
    let mut command = project.maven(maven);
    let mut build = Child::start(command.arg("package"), &project.folder.join("out")).unwrap();
    let local = project.local_repository();
    let has_begun = || 60 < artifacts(&local).len() || build.has_ended();
    wait_until("files from the network", LIMIT, has_begun).unwrap();
    (project, build)
}

fn a_build_that_was_killed_is_begun_again(stocked: &Stocked, maven: &Path) {
    stocked.upstream.requests().clear();
    let (project, build) = begin(stocked, "killed", maven);
    drop(build);
    assert!(!project.folder.join("target/demo-1.0.jar").exists());
    let summary = project.package(maven, &[]);
    assert_without_requests(stocked, &summary);
    println!("killed: {}", summary.line);
}

fn the_network_goes_in_the_middle_of_a_build(stocked: &mut Stocked, maven: &Path) {
    let (project, mut build) = begin(stocked, "gone", maven);
    stocked.network.nodes.iter_mut().for_each(|it| it.kill());
    wait_until("the end of the build", LIMIT, || build.has_ended()).unwrap();
    let text = std::fs::read_to_string(project.folder.join("out")).unwrap();
    assert!(
        project.folder.join("target/demo-1.0.jar").exists(),
        "{text}"
    );
    let summary = Summary::of(&text);
    assert!(0 < summary.verified && 0 < summary.repositories, "{text}");
    println!("gone: {}", summary.line);

    // Nor is it there when a build begins, which knows it from before.
    project.empty_local_repository();
    let summary = project.package(maven, &["-Dkogge.liveSeconds=1"]);
    assert_without_a_node(&summary, "no peer answered in time");
    stocked.network.nodes.iter_mut().for_each(Node::start);
}

/// Every node has damaged files: what they send is not what the log says.
fn bad_bytes_of_peers_come_from_the_repository_instead(stocked: &Stocked, maven: &Path) {
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
    let project = stocked.extended("damaged");
    let summary = project.package(maven, &[]);
    println!("damaged: {}", summary.line);
    assert!(0 < summary.repositories, "{}", summary.line);
    let local = project.local_repository();
    for path in artifacts(&local) {
        let part = path.strip_prefix(&local).unwrap();
        if !part.starts_with("dev/kogge") {
            let expected = std::fs::read(stocked.upstream.root().join(part)).unwrap();
            assert!(
                std::fs::read(&path).unwrap() == expected,
                "{}",
                part.display()
            );
        }
    }
}
