//! The C library as C programs see it: the header is current, strict compilers accept it, the
//! library has its soname and exports nothing else.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed step fails the test"
)]

mod header;

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder with `libkogge.so`, which is built once: cargo builds no C library for a test.
fn library_folder() -> PathBuf {
    static BUILT: std::sync::Once = std::sync::Once::new();
    BUILT.call_once(|| {
        let mut cargo = Command::new(env!("CARGO"));
        run(cargo
            .args(["build", "--quiet", "-p", "kogge-ffi"])
            .current_dir(root()));
    });
    // This program is `TARGET/debug/deps/NAME`.
    let program = std::env::current_exe().unwrap();
    program.ancestors().nth(3).unwrap().join("debug")
}

fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?} failed:\n{text}\n{errors}"
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
