//! The C library as C programs see it: the header is current, strict compilers accept it, the
//! library has its soname and exports nothing else.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed step fails the test"
)]

mod header;
mod java;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use kogge_testkit::scene::Scene;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder with `libkogge.so`, under its soname too, and with `libkogge.a`. Cargo builds no C
/// library for a test: this does, with what the tests have built already. `KOGGE_BUILT` says that it
/// is current.
fn library_folder() -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let find = || {
        // This program is `TARGET/debug/deps/NAME`.
        let program = std::env::current_exe().unwrap();
        let folder = program.ancestors().nth(2).unwrap().to_owned();
        let library = folder.join("libkogge.so");
        if std::env::var_os("KOGGE_BUILT").is_none() || !library.exists() {
            let mut cargo = Command::new(env!("CARGO"));
            let build = "build --quiet --workspace --lib --bins --tests --features kogge/testing";
            run(cargo.args(build.split(' ')).current_dir(root()));
        }
        let soname = folder.join("libkogge.so.1");
        if std::fs::read_link(&soname).is_err() {
            std::os::unix::fs::symlink("libkogge.so", soname).unwrap();
        }
        folder
    };
    FOLDER.get_or_init(find).clone()
}

/// The network that programs talk to: one for all tests that run at the same time.
fn scene() -> Arc<(Scene, tempfile::TempDir)> {
    static SCENE: Mutex<Weak<(Scene, tempfile::TempDir)>> = Mutex::new(Weak::new());
    let mut scene = SCENE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    scene.upgrade().unwrap_or_else(|| {
        let folder = tempfile::tempdir().unwrap();
        let started = Arc::new((Scene::start(folder.path()), folder));
        *scene = Arc::downgrade(&started);
        started
    })
}

/// Runs a command, which must succeed, and gives what it printed.
fn run(command: &mut Command) -> String {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{text}\n{errors}",
        output.status
    );
    text
}

/// `KOGGE_BLESS=1` writes the header instead of comparing it.
#[test]
fn the_header_is_what_cbindgen_generates() {
    let generated = header::generate(root());
    let path = root().join("include/kogge.h");
    if std::env::var_os("KOGGE_BLESS").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        checked_in == generated,
        "include/kogge.h is not current; run `make header` and look at the difference"
    );
}

#[test]
fn strict_c_and_cpp_programs_compile_link_and_run() {
    let folder = tempfile::tempdir().unwrap();
    for (compiler, standard, name) in [
        ("cc", "-std=c99", "c99"),
        ("cc", "-std=c11", "c11"),
        ("c++", "-std=c++17", "cpp17"),
    ] {
        let program = folder.path().join(name);
        let language = if compiler == "c++" { "c++" } else { "c" };
        run(Command::new(compiler)
            .args([
                standard,
                "-Wall",
                "-Wextra",
                "-Wpedantic",
                "-Werror",
                "-x",
                language,
            ])
            .arg(root().join("tests/c/version.c"))
            .args(["-x", "none", "-I"])
            .arg(root().join("include"))
            .arg("-L")
            .arg(library_folder())
            .args(["-lkogge", "-o"])
            .arg(&program));
        // The program asks for the soname, which only an installed library has as a file.
        let soname = folder.path().join("libkogge.so.1");
        if !soname.exists() {
            std::os::unix::fs::symlink(library_folder().join("libkogge.so"), soname).unwrap();
        }
        let text = run(Command::new(&program).env("LD_LIBRARY_PATH", folder.path()));
        assert_eq!(
            text,
            format!("kogge {}, ABI 1\n", env!("CARGO_PKG_VERSION")),
            "{name}"
        );
    }
}

#[test]
fn the_library_exports_its_functions_and_nothing_else() {
    let library = library_folder().join("libkogge.so");
    let symbols = run(Command::new("nm")
        .args(["-D", "--defined-only"])
        .arg(&library));
    let names: Vec<_> = symbols
        .lines()
        .filter_map(|it| it.split_whitespace().last())
        .collect();
    assert_eq!(names, ["kogge_abi_version", "kogge_version"]);
    let dynamic = run(Command::new("readelf").args(["-W", "-d"]).arg(&library));
    assert!(dynamic.contains("[libkogge.so.1]"), "{dynamic}");
    assert!(dynamic.contains("NODELETE"), "{dynamic}");
}
