//! What callers were promised: the header, the exported functions, the layout of the structs.
//!
//! `KOGGE_BLESS=1` writes what is compared here; a difference that breaks callers is forbidden by
//! `docs/abi.md`.

use std::fmt::Write as _;
use std::process::Command;

use crate::c::compile;
use crate::{header, library_folder, root, run};

/// Compares a file of the repository with what it should be.
fn compare(path: &str, text: &str) {
    let path = root().join(path);
    if std::env::var_os("KOGGE_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        checked_in == text,
        "{} is not current; run `make header` and look at the difference:\n{text}",
        path.display()
    );
}

fn header_text() -> String {
    std::fs::read_to_string(root().join("include/kogge.h")).unwrap()
}

#[test]
fn the_header_is_what_cbindgen_generates() {
    compare("include/kogge.h", &header::generate(root()));
}

#[test]
fn the_library_exports_the_functions_of_the_header_and_nothing_else() {
    let library = library_folder().join("libkogge.so");
    let mut nm = Command::new("nm");
    let symbols = run(nm.args(["-D", "--defined-only"]).arg(&library));
    let last = |it: &str| it.split_whitespace().last().unwrap_or_default().to_owned();
    let mut exported: Vec<String> = symbols.lines().map(last).collect();
    exported.sort();
    let mut declared: Vec<String> = header::functions(&header_text())
        .into_iter()
        .map(|it| it.name)
        .collect();
    declared.sort();
    assert_eq!(exported, declared);
    compare("tests/abi/symbols.txt", &(declared.join("\n") + "\n"));

    let proof = std::fs::read_to_string(root().join("ffi/src/proof.rs")).unwrap();
    let name = |it: &str| Some(it.trim().strip_prefix("c(")?.split_once(' ')?.0.to_owned());
    let mut proven: Vec<String> = proof.lines().filter_map(name).collect();
    proven.sort();
    assert_eq!(proven, declared);

    let dynamic = run(Command::new("readelf").args(["-W", "-d"]).arg(&library));
    assert!(dynamic.contains("[libkogge.so.1]"), "{dynamic}");
    assert!(dynamic.contains("NODELETE"), "{dynamic}");
}

/// The versions of the interface itself change with every addition.
#[test]
fn numbers_mean_what_was_promised() {
    let numbers = header::numbers(&header_text());
    let promised = numbers
        .into_iter()
        .filter(|it| !it.starts_with("KOGGE_ABI_"));
    let promised: Vec<String> = promised.collect();
    assert!(promised.len() > 30, "{promised:?}");
    compare("tests/abi/numbers.txt", &(promised.join("\n") + "\n"));
}

/// A C program that prints the size and alignment of each struct, and each field's offset and size.
fn layout_program(header: &str) -> String {
    let mut text = String::from(
        "#include <stdio.h>\n#include \"kogge.h\"\n\
         #define S(s) printf(\"%s %zu %zu\\n\", #s, sizeof(s), _Alignof(s))\n\
         #define F(s, f) printf(\"%s.%s %zu %zu\\n\", #s, #f, offsetof(s, f), sizeof(((s *)0)->f))\n\
         int main(void) {\n",
    );
    for (name, fields) in header::structs(header) {
        writeln!(text, "    S({name});").unwrap();
        for field in fields {
            writeln!(text, "    F({name}, {field});").unwrap();
        }
    }
    text + "    return 0;\n}\n"
}

/// `ffi/src/layout.rs` compares the same list with the types of Rust.
#[test]
fn structs_have_the_layout_that_was_promised() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("layout.c");
    std::fs::write(&source, layout_program(&header_text())).unwrap();
    let program = compile(&source, &folder.path().join("layout"), &["-std=c11"]);
    let text = run(&mut Command::new(program));
    assert!(text.lines().count() > 60, "{text}");
    compare("tests/abi/layout.txt", &text);
}

#[test]
fn strict_compilers_of_every_standard_take_the_header() {
    let folder = tempfile::tempdir().unwrap();
    let expected = format!("kogge {}, ABI 1.0\n", env!("CARGO_PKG_VERSION"));
    for standard in ["c99", "c11", "c17", "c2x", "c++11", "c++17", "c++20"] {
        let source = root().join("tests/c/version.c");
        let language = if standard.contains('+') { "c++" } else { "c" };
        let flags = [&format!("-std={standard}"), "-x", language];
        let program = compile(&source, &folder.path().join(standard), &flags);
        let mut command = Command::new(program);
        let text = run(command.env("LD_LIBRARY_PATH", library_folder()));
        assert_eq!(text, expected, "{standard}");
    }
}

/// Skipped by the script itself where the tool is missing.
#[test]
fn types_are_what_was_promised() {
    run(&mut Command::new(root().join("scripts/abi.sh")));
}
