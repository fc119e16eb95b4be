//! The Go binding, its tool and its examples, against a real network of processes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

use kogge_testkit::scene::Scene;

use crate::{is_full, library_folder, root, run, scene};

/// Installs the library of this build, and gives the prefix. It is always the same: Go caches packages
/// with what pkg-config said about them.
fn prefix() -> PathBuf {
    static INSTALLED: Once = Once::new();
    let prefix = library_folder().join("go");
    INSTALLED.call_once(|| {
        let mut make = Command::new("make");
        make.args(["--silent", "install"])
            .arg(format!("LIBRARY={}", library_folder().display()))
            .arg(format!("PREFIX={}", prefix.display()));
        run(make.current_dir(root()));
    });
    prefix
}

/// `go ARGUMENTS` in a folder of the repository.
fn go(folder: &str, scene: &Scene, arguments: &[&str]) -> String {
    let mut go = command("go", scene);
    run(go.args(arguments).current_dir(root().join(folder)))
}

/// A program that finds the library and the scene.
fn command(program: impl AsRef<std::ffi::OsStr>, scene: &Scene) -> Command {
    let (mut command, library) = (Command::new(program), prefix().join("lib"));
    // Nothing is downloaded, neither modules nor another Go.
    for (name, value) in [
        ("GOFLAGS", ""),
        ("GOPROXY", "off"),
        ("GOTOOLCHAIN", "local"),
        ("GOWORK", "off"),
    ] {
        command.env(name, value);
    }
    command
        .env("PKG_CONFIG_PATH", library.join("pkgconfig"))
        .env("LD_LIBRARY_PATH", library)
        .env("KOGGE_SCENE", &scene.path);
    command
}

#[test]
fn the_go_binding_and_its_tool_pass_their_tests() {
    let network = scene();
    let (scene, _) = &*network;
    for (module, flags) in [
        ("bindings/go", &["test", "-race", "-count=1", "./..."][..]),
        ("examples/go-tool", &["test", "-count=1", "./..."]),
    ] {
        let folder = root().join(module);
        let unformatted = run(Command::new("gofmt").args(["-l", "."]).current_dir(folder));
        assert_eq!(unformatted, "", "want gofmt");
        go(module, scene, &["vet", "./..."]);
        go(module, scene, flags);
    }
    if !is_full() {
        return;
    }
    for flags in [
        &[][..],
        &["-asan"],
        &["-tags", "kogge_debug"],
        &["-tags", "kogge_static"],
    ] {
        let arguments = [&["test", "-count=1"], flags, &["."]].concat();
        go("bindings/go", scene, &arguments);
    }
}

/// Builds a program of the repository.
pub(crate) fn program(source: &str, folder: &Path, scene: &Scene) -> Command {
    let (program, source) = (folder.join("go-program"), root().join(source));
    let (output, source) = (program.to_str().unwrap(), source.to_str().unwrap());
    go("bindings/go", scene, &["build", "-o", output, source]);
    command(program, scene)
}

#[test]
fn go_programs_hold_the_library_or_everything() {
    if !is_full() {
        return;
    }
    let network = scene();
    let (scene, _) = &*network;
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("kogge-get");
    let output = program.to_str().unwrap();
    let fully = r#"-linkmode external -extldflags "-static""#;
    for (flags, lacks) in [
        (&["-tags", "kogge_static"][..], "libkogge"),
        (
            &["-tags", "kogge_static,netgo,osusergo", "-ldflags", fully],
            "NEEDED",
        ),
    ] {
        let arguments = [&["build", "-o", output], flags, &["."]].concat();
        go("examples/go-tool", scene, &arguments);
        let dynamic = run(Command::new("readelf").args(["-W", "-d"]).arg(&program));
        assert!(!dynamic.contains(lacks), "{dynamic}");
        fetches(&program, scene, folder.path());
    }
}

/// Without any installed library.
fn fetches(program: &Path, scene: &Scene, folder: &Path) {
    let known = &scene.value["artifacts"][1];
    let file = folder.join("file");
    run(Command::new(program)
        .args(["-q", "--force", "--data"])
        .arg(folder.join("data"))
        .arg("-o")
        .arg(&file)
        .args(["--genesis", scene.value["genesis"].as_str().unwrap()])
        .args(["--peer", scene.value["peers"][0].as_str().unwrap()])
        .arg(format!("sha256:{}", known["sha256"].as_str().unwrap())));
    let original = known["path"].as_str().unwrap();
    assert!(std::fs::read(file).unwrap() == std::fs::read(original).unwrap());
}
