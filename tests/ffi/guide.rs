//! The guide's program prints the same in every language, and so do the vectors: what a node fetches,
//! verifies and finds in the log does not depend on how it was asked.

use std::path::{Path, PathBuf};
use std::process::Command;

use kogge_node::proto::log::{Policy, Trust, Waybill};
use kogge_node::{AddArtifact, Config, Entry, Genesis, Network, Node, Query, What};
use serde_json::{Value, json};

use crate::c::compile;
use crate::{go, java, library_folder, root, run, scene};

/// What every language must print; `KOGGE_BLESS` writes it anew.
const VECTORS: &str = "tests/ffi/vectors.json";

/// Compiles a C program of the repository.
fn compiled(source: &str, folder: &Path) -> PathBuf {
    compile(&root().join(source), &folder.join("program"), &["-std=c11"])
}

fn c(source: &str, folder: &Path) -> Command {
    let mut command = Command::new(compiled(source, folder));
    command.env("LD_LIBRARY_PATH", library_folder());
    command
}

fn java(class: &str) -> Command {
    let mut command = java::jdks().first().unwrap().command();
    command.arg(class);
    command
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn the_guide_prints_the_same_in_every_language() {
    let shared = scene();
    let scene = &shared.0.value;
    let artifact = &scene["artifacts"][1];
    let expected = format!(
        "{} {} {}\n",
        artifact["size"],
        text(&artifact["sha256"]),
        artifact["index"]
    );
    let folder = tempfile::tempdir().unwrap();
    let programs = || {
        let rust = Command::new(library_folder().join("examples/guide"));
        let go = go::program("examples/guide/guide.go", folder.path(), &shared.0);
        [
            ("c", c("examples/guide/guide.c", folder.path())),
            ("go", go),
            ("java", java("Guide")),
            ("rust", rust),
        ]
    };
    let with = |language: &str, program: &mut Command, what: &str| {
        program
            .arg(what)
            .arg(folder.path().join(language))
            .arg(text(&scene["genesis"]))
            .arg(text(&scene["peers"][0]));
    };
    for (language, mut program) in programs() {
        let what = format!("sha256:{}", text(&artifact["sha256"]));
        with(language, &mut program, &what);
        assert_eq!(run(&mut program), expected, "{language}");
    }
    for (language, mut program) in programs() {
        with(language, &mut program, text(&scene["absent"]));
        let told = kogge_testkit::run::run(&mut program).unwrap_err().0;
        let why = "the log does not have it";
        assert!(told.contains(why), "{language}: {told}");
    }
}

/// The vectors as the command line tells them.
fn from_the_program(scene: &Value) -> Value {
    let kogge = |arguments: &[&str]| -> Value {
        let mut command = Command::new(text(&scene["program"]));
        command.arg("--data-dir").arg(text(&scene["data"]));
        let text = run(command.arg("--json").args(arguments));
        serde_json::from_str(&text).unwrap()
    };
    let artifact = |it: &Value| {
        let why = kogge(&["why", &format!("sha256:{}", text(&it["sha256"]))]);
        let files = why["files"].as_array().unwrap();
        let file = files.iter().find(|file| file["sha256"] == it["sha256"]);
        let file = file.unwrap();
        let verified = kogge(&[
            "verify",
            text(&it["path"]),
            "--waybill",
            text(&it["waybill"]),
            "--policy",
            text(&scene["policy"]),
        ]);
        json!({
            "name": it["name"], "blake3": file["blake3"], "sha256": file["sha256"],
            "size": file["size"], "log_index": file["index"],
            "verified_offline": verified["verified"],
        })
    };
    let artifacts = scene["artifacts"].as_array().unwrap().iter().map(artifact);
    let artifacts: Vec<Value> = artifacts.collect();
    let found = kogge(&[
        "log",
        "find",
        "--kind",
        "add-artifact",
        "--order",
        "oldest",
        "-n",
        "1000",
    ]);
    let entries = found["rows"].as_array().unwrap().iter().map(|it| {
        let entry = &it["entry"];
        json!([it["index"], entry["purl"], entry["file"], entry["sha256"]])
    });
    json!({"artifacts": artifacts, "entries": entries.collect::<Vec<_>>()})
}

/// The vectors as a node in this process tells them.
async fn from_rust(scene: &Value, data: &Path) -> Value {
    let read = |it: &Value| std::fs::read(text(it)).unwrap();
    let mut config = Config::new(data);
    config.listen.clear();
    config.peers.push(text(&scene["peers"][0]).to_owned());
    let genesis = Genesis::parse(&read(&scene["genesis"])).unwrap();
    let network = Network::Genesis(Box::new(genesis));
    let node = Node::start(config, network).await.unwrap();
    node.live().await.unwrap();

    let policy = String::from_utf8(read(&scene["policy"])).unwrap();
    let policy = Policy::parse(&policy).unwrap();
    let mut artifacts = Vec::new();
    for known in scene["artifacts"].as_array().unwrap() {
        let what: What = text(&known["what"]).parse().unwrap();
        let found = node.log().resolve(&what).unwrap();
        let (index, entry) = found
            .into_iter()
            .find(|(_, entry)| entry.file == text(&known["file"]))
            .unwrap();
        let artifact = node.open(&entry.blake3.into()).await.unwrap();
        artifact.complete().await.unwrap();
        let waybill = Waybill::parse(&read(&known["waybill"])).unwrap();
        let verified = waybill.verify(Trust::Policy(&policy), Some(&entry.blake3.into()));
        let mut line = line(&entry);
        line["name"] = known["name"].clone();
        line["size"] = json!(artifact.size());
        line["log_index"] = json!(index);
        line["verified_offline"] = json!(verified.unwrap().index() == index);
        artifacts.push(line);
    }

    let mut query: Query = "kind=add-artifact order=oldest".parse().unwrap();
    let mut entries = Vec::new();
    loop {
        let page = node.log().find(&query).unwrap();
        for row in page.rows {
            let Entry::AddArtifact(entry) = row.entry else {
                continue;
            };
            entries.push(json!([
                row.index,
                entry.purl,
                entry.file,
                entry.sha256.to_string()
            ]));
        }
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    node.shutdown().await;
    json!({"artifacts": artifacts, "entries": entries})
}

/// What an entry says of bytes.
fn line(entry: &AddArtifact) -> Value {
    json!({"blake3": entry.blake3.to_string(), "sha256": entry.sha256.to_string()})
}

/// The program that prints the vectors, with what it has to know.
fn in_c(scene: &Value, folder: &Path) -> Command {
    let mut program = c("tests/c/vectors.c", folder);
    program
        .arg(folder.join("c"))
        .arg(text(&scene["genesis"]))
        .arg(text(&scene["peers"][0]))
        .arg(text(&scene["policy"]));
    for it in scene["artifacts"].as_array().unwrap() {
        program
            .arg(text(&it["name"]))
            .arg(format!("sha256:{}", text(&it["sha256"])))
            .arg(text(&it["path"]))
            .arg(text(&it["waybill"]));
    }
    program
}

#[test]
fn every_language_fetches_finds_and_verifies_the_same() {
    let shared = scene();
    let scene = &shared.0.value;
    let folder = tempfile::tempdir().unwrap();
    let told = |mut program: Command| -> Value {
        let text = run(program.env("KOGGE_SCENE", &shared.0.path));
        serde_json::from_str(&text).unwrap()
    };
    let all = [
        ("the program", from_the_program(scene)),
        (
            "Rust",
            pollster::block_on(from_rust(scene, &folder.path().join("rust"))),
        ),
        ("C", told(in_c(scene, folder.path()))),
        (
            "Go",
            told(go::program(
                "bindings/go/internal/vector",
                folder.path(),
                &shared.0,
            )),
        ),
        ("Java", told(java("dev.kogge.test.Vectors"))),
    ];
    let path = root().join(VECTORS);
    if std::env::var_os("KOGGE_BLESS").is_some() {
        let text = serde_json::to_string_pretty(&all[0].1).unwrap();
        std::fs::write(&path, text + "\n").unwrap();
    }
    let expected: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for (language, found) in all {
        assert_eq!(found, expected, "{language}");
    }
}

#[test]
fn the_programs_of_the_benchmark_compile() {
    let (shared, folder) = (scene(), tempfile::tempdir().unwrap());
    compiled("benches/ffi/bench.c", folder.path());
    go::program("benches/ffi/bench.go", folder.path(), &shared.0);
}
