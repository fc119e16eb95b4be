//! `make install`, and programs of users who have nothing but what it installed: the examples, by
//! pkg-config and by CMake, shared and static.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{is_full, library_folder, root, run, scene};

/// Most bytes of the stripped library: it must not grow unnoticed. Unit: bytes.
const LIBRARY_BYTES_MAX: u64 = 12_000_000;

/// Installs the library of this build with `make`, and gives the prefix.
fn install(folder: &Path, stage: &str) -> PathBuf {
    let prefix = folder.join("prefix");
    let mut make = Command::new("make");
    make.args(["--silent", "install"])
        .arg(format!("LIBRARY={}", library_folder().display()))
        .arg(format!("PREFIX={}", prefix.display()))
        .arg(format!("DESTDIR={stage}"))
        .current_dir(root());
    run(&mut make);
    prefix
}

fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for it in std::fs::read_dir(next).unwrap() {
            let path = it.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap();
                found.push(name.display().to_string());
            }
        }
    }
    found.sort();
    found
}

/// Options of a node of the scene's network.
fn options(value: &serde_json::Value, data: &Path) -> Vec<String> {
    let mut options = vec!["-d".to_owned(), data.display().to_string()];
    options.extend(["-g".into(), value["genesis"].as_str().unwrap().into()]);
    for peer in value["peers"].as_array().unwrap() {
        options.extend(["-p".into(), peer.as_str().unwrap().into()]);
    }
    options
}

#[test]
fn what_is_installed_is_all_that_a_program_needs() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = install(folder.path(), "");
    let expected = [
        "include/kogge.h",
        "lib/cmake/kogge/kogge-config-version.cmake",
        "lib/cmake/kogge/kogge-config.cmake",
        "lib/libkogge.a",
        "lib/libkogge.so",
        "lib/libkogge.so.1",
        "lib/libkogge.so.1.0",
        "lib/pkgconfig/kogge.pc",
    ];
    assert_eq!(files(&prefix), expected);

    let made = folder.path().join("made");
    std::fs::create_dir(&made).unwrap();
    for it in std::fs::read_dir(root().join("examples/c")).unwrap() {
        let path = it.unwrap().path();
        std::fs::copy(&path, made.join(path.file_name().unwrap())).unwrap();
    }
    let packages = prefix.join("lib/pkgconfig");
    let mut make = Command::new("make");
    make.args(["--silent", "CFLAGS=-Werror -g"])
        .env("PKG_CONFIG_PATH", &packages)
        .current_dir(&made);
    run(&mut make);
    let libraries = prefix.join("lib");
    the_examples_work(&made, &libraries);

    // Statically, by pkg-config: the program runs alone.
    let mut config = Command::new("pkg-config");
    config
        .args(["--static", "--cflags", "--libs", "kogge"])
        .env("PKG_CONFIG_PATH", &packages);
    let flags = run(&mut config);
    let flags = flags.replace("-lkogge", "-l:libkogge.a");
    let alone = folder.path().join("alone");
    let mut compiler = Command::new("cc");
    compiler
        .arg(root().join("tests/c/version.c"))
        .args(["-o"])
        .arg(&alone)
        .args(flags.split_whitespace());
    run(&mut compiler);
    let text = run(&mut Command::new(&alone));
    assert!(text.starts_with("kogge "), "{text}");

    by_cmake(folder.path(), &prefix);
}

fn by_cmake(folder: &Path, prefix: &Path) {
    let build = folder.join("cmake");
    let mut configure = Command::new("cmake");
    configure
        .arg("-S")
        .arg(root().join("examples/c"))
        .arg("-B")
        .arg(&build)
        .arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display()));
    run(&mut configure);
    run(Command::new("cmake").arg("--build").arg(&build));
    for name in ["verify", "verify_static"] {
        let text = run(Command::new(build.join(name)).arg("-h"));
        assert!(text.starts_with("usage: verify"), "{text}");
    }
}

/// Packagers install into a folder that is not where the files will be.
#[test]
fn a_staged_installation_names_the_final_places() {
    let folder = tempfile::tempdir().unwrap();
    let stage = folder.path().join("stage");
    let prefix = install(folder.path(), stage.to_str().unwrap());
    assert!(!prefix.exists());
    let staged = stage.join(prefix.strip_prefix("/").unwrap());
    assert_eq!(files(&staged).len(), 8);
    let package = std::fs::read_to_string(staged.join("lib/pkgconfig/kogge.pc")).unwrap();
    let line = format!("libdir={}/lib", prefix.display());
    assert!(package.lines().any(|it| it == line), "{package}");
    assert!(package.contains("Libs.private: -l"), "{package}");
}

/// Runs an example, with what it may read; its output, or what it said when it failed.
fn example(
    program: &Path,
    libraries: &Path,
    args: &[String],
    input: &str,
) -> Result<String, String> {
    use std::io::Write as _;
    let mut child = Command::new(program)
        .args(args)
        .env("LD_LIBRARY_PATH", libraries)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that ends at once reads nothing.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |it: &[u8]| String::from_utf8_lossy(it).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    }
}

fn the_examples_work(made: &Path, libraries: &Path) {
    let scene = scene();
    let value = &scene.0.value;
    let folder = tempfile::tempdir().unwrap();
    let of = |name: &str, args: &[&str]| {
        let mut all = options(value, &folder.path().join("data"));
        all.extend(args.iter().map(|it| (*it).to_owned()));
        example(&made.join(name), libraries, &all, "")
    };
    let artifact = &value["artifacts"][2];
    let text = |key: &str| artifact[key].as_str().unwrap();
    let goal = folder.path().join("got.jar");
    let goal = goal.to_str().unwrap();
    let told = of("fetch", &["-o", goal, text("what"), text("file")]).unwrap();
    assert!(
        told.starts_with("5000000 bytes, 5000000 from peers"),
        "{told}"
    );
    assert_eq!(
        std::fs::read(goal).unwrap(),
        std::fs::read(text("path")).unwrap()
    );
    let absent = value["absent"].as_str().unwrap();
    let told = of("fetch", &["-o", goal, absent]).unwrap_err();
    assert!(told.contains("(not-found)"), "{told}");
    let told = of("fetch", &[absent]).unwrap_err();
    assert!(told.starts_with("usage: fetch"), "{told}");

    let told = of("search", &["kind=add-artifact", "limit=3"]).unwrap();
    assert!(
        told.lines().count() >= 8 && told.contains(text("purl")),
        "{told}"
    );
    let told = of("search", &["colour=red"]).unwrap_err();
    assert!(told.contains("(invalid-argument)"), "{told}");

    let args: Vec<String> = [
        "-t",
        value["policy"].as_str().unwrap(),
        goal,
        text("waybill"),
    ]
    .map(str::to_owned)
    .into();
    let verify = |args: &[String]| example(&made.join("verify"), libraries, args, "");
    let told = verify(&args).unwrap();
    assert!(told.contains(text("purl")), "{told}");
    std::fs::write(goal, b"other bytes").unwrap();
    let told = verify(&args).unwrap_err();
    assert!(told.contains("(unverified)"), "{told}");
    assert!(!told.contains(":  ("), "it says why: {told}");

    let mut args = options(value, &folder.path().join("data"));
    // The last one does not even start.
    let input = format!(
        "{} {}\n\n{absent}\nblake3:short\n",
        text("what"),
        text("file")
    );
    let told = example(&made.join("events"), libraries, &args, &input).unwrap();
    for part in ["event {", "fetched 5000000 bytes"] {
        assert!(told.contains(part), "{told}");
    }
    let failed: Vec<&str> = told
        .lines()
        .filter(|it| it.starts_with("failed: "))
        .collect();
    assert_eq!(failed.len(), 2, "{told}");
    assert!(!failed.contains(&"failed: "), "{told}");
    args.push("more".into());
    let told = example(&made.join("events"), libraries, &args, "").unwrap_err();
    assert!(told.starts_with("usage: events"), "{told}");
}

/// `make test-ffi-full` builds it as `make install` does, which is too slow for every day: then it is
/// looked at only if it is there.
#[test]
fn the_library_for_others_is_small() {
    let library = library_folder()
        .with_file_name("library")
        .join("libkogge.so");
    if !library.exists() {
        assert!(!is_full(), "{} is missing", library.display());
        println!("left out: {} is not built", library.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let stripped = folder.path().join("libkogge.so");
    let mut strip = Command::new("strip");
    run(strip
        .args(["--strip-unneeded", "-o"])
        .arg(&stripped)
        .arg(library));
    let size = std::fs::metadata(stripped).unwrap().len();
    assert!(size <= LIBRARY_BYTES_MAX, "{size} bytes");
}
