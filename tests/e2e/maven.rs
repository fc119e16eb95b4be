//! Maven builds a real project through a regular node.

use std::path::{Path, PathBuf};
use std::process::Command;

use kogge_testkit::MavenUpstream;
use kogge_testkit::maven::{copy_project, distribution};
use kogge_testkit::run::run;

use kogge_testkit::network::{Network, cache};

/// Maven 3.9 and 4, beside Debian's 3.8.
const VERSIONS: [&str; 2] = ["3.9.11", "4.0.0-rc-4"];

fn package(maven: &Path, folder: &Path, name: &str, registry: &str) {
    let project = folder.join(name);
    copy_project(&project).unwrap();
    let settings = format!(
        "<settings><mirrors><mirror><id>kogge</id><mirrorOf>*</mirrorOf>\
         <url>http://{registry}/maven2</url></mirror></mirrors></settings>"
    );
    std::fs::write(project.join("settings.xml"), settings).unwrap();
    let mut local = std::ffi::OsString::from("-Dmaven.repo.local=");
    local.push(project.join("repository"));
    let mut maven = Command::new(maven);
    maven
        .args(["-B", "-ntp", "-C", "-s", "settings.xml"])
        .arg(local);
    run(maven.arg("package").current_dir(&project)).unwrap();
    assert!(project.join("target/demo-1.0.jar").exists());
}

#[test]
fn every_maven_builds_from_an_empty_repository_without_the_upstream() {
    let folder = tempfile::tempdir().unwrap();
    let mut mavens = vec![PathBuf::from("mvn")];
    mavens.extend(VERSIONS.map(|it| distribution(&cache(), it).unwrap()));
    let upstream = MavenUpstream::for_mavens(&cache(), "maven-repository-3-4", &mavens).unwrap();
    let network = Network::start(4, 2, "http://127.0.0.1:9", &upstream.url(), true);

    // The first builds ask for what the log lacks; strict checksums hold.
    for (number, maven) in mavens.iter().enumerate() {
        let registry = network.regular(0).registry();
        package(maven, folder.path(), &format!("first-{number}"), &registry);
    }
    network.wait_same_log(1);

    // The second ones, through another node, with the upstream gone.
    upstream.switch_off(true);
    let before = upstream.requests().all().len();
    for (number, maven) in mavens.iter().enumerate() {
        let registry = network.regular(1).registry();
        package(maven, folder.path(), &format!("second-{number}"), &registry);
    }
    assert_eq!(
        upstream.requests().all().len(),
        before,
        "the upstream was asked again"
    );

    let why = network.regular(1).json(&["why", "junit:junit:4.13.2"]);
    assert!(why["attested_by"].as_array().unwrap().len() >= 3, "{why}");
}
