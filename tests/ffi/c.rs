//! Programs in C: each does its checks against a real network, prints nothing, and ends with 0.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{header, is_full, library_folder, misuse, root, run, scene};

/// How a program is watched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Watch {
    Plain,
    /// AddressSanitizer, LeakSanitizer and UndefinedBehaviorSanitizer, in the program's own code
    /// and for all memory.
    Sanitizers,
    /// Every access of the library too.
    Valgrind,
}

/// A program that runs longer hangs. Unit: seconds.
const TIMEOUT_S: &str = "900";

/// Compiles a program strictly, against the library of this build.
pub(crate) fn compile(source: &Path, program: &Path, flags: &[&str]) -> PathBuf {
    let is_cpp = flags.contains(&"c++");
    let mut compiler = Command::new(if is_cpp { "c++" } else { "cc" });
    compiler
        .args(["-g", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror"])
        .args(["-pthread"])
        .args(flags)
        .arg(source)
        .args(["-x", "none", "-I"])
        .arg(root().join("include"))
        .arg("-I")
        .arg(root().join("tests/c"))
        .arg("-L")
        .arg(library_folder())
        .args(["-lkogge", "-o"])
        .arg(program);
    run(&mut compiler);
    program.to_owned()
}

/// Compiles and runs a program.
fn check(source: &Path, watch: Watch) {
    let scene = scene();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("d");
    std::fs::create_dir(&data).unwrap();
    let mut flags = vec!["-std=c11"];
    if watch == Watch::Sanitizers {
        flags.extend([
            "-fsanitize=address,undefined",
            "-fno-sanitize-recover=all",
            "-fno-omit-frame-pointer",
        ]);
    }
    let program = compile(source, &folder.path().join("program"), &flags);
    let mut command = Command::new("timeout");
    command.args(["-k", "5", TIMEOUT_S]);
    if watch == Watch::Valgrind {
        let suppressions = root().join("tests/c/valgrind.supp");
        command
            .args([
                "valgrind",
                "--quiet",
                "--error-exitcode=9",
                "--leak-check=full",
            ])
            .args(["--show-leak-kinds=definite,possible", "--num-callers=40"])
            .args([
                "--errors-for-leak-kinds=definite,possible",
                "--fair-sched=yes",
            ])
            .arg(format!("--suppressions={}", suppressions.display()));
    }
    command
        .arg(program)
        .arg(&data)
        .env("LD_LIBRARY_PATH", library_folder())
        .env("KOGGE_SCENE", &scene.0.path)
        .env("ASAN_OPTIONS", "detect_stack_use_after_return=1");
    let output = command.output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(
        output.status.success() && told.is_empty(),
        "{} under {watch:?}: {}\n{told}",
        source.display(),
        output.status
    );
}

/// As [`check`], plainly, and in all ways if nothing is to be left out.
fn check_named(name: &str) {
    let source = root().join(format!("tests/c/{name}.c"));
    check(&source, Watch::Plain);
    if is_full() {
        check(&source, Watch::Sanitizers);
        check(&source, Watch::Valgrind);
    }
}

#[test]
fn every_sink_gets_the_bytes() {
    check_named("fetch");
}

#[test]
fn every_verb_ends_once_in_every_way() {
    check_named("trio");
}

#[test]
fn the_log_is_searched_and_verified() {
    check_named("log");
}

#[test]
fn nodes_are_configured_watched_and_kept_apart() {
    check_named("node");
}

#[test]
fn callbacks_and_threads_do_no_harm() {
    check_named("calls");
}

#[test]
fn hosts_are_left_alone() {
    let source = root().join("tests/c/host.c");
    check(&source, Watch::Plain);
    if is_full() {
        // Not under valgrind, which takes part in signals and forks.
        check(&source, Watch::Sanitizers);
    }
}

#[test]
fn structs_and_values_are_checked() {
    check_named("misuse");
    check(&root().join("tests/c/misuse.c"), Watch::Sanitizers);
}

#[test]
fn every_function_survives_every_bad_argument() {
    let header = std::fs::read_to_string(root().join("include/kogge.h")).unwrap();
    let (text, cases) = misuse::program(&header::functions(&header));
    assert!(cases > 400, "{cases} calls");
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("nulls.c");
    std::fs::write(&source, text).unwrap();
    check(&source, Watch::Plain);
    check(&source, Watch::Sanitizers);
    if is_full() {
        check(&source, Watch::Valgrind);
    }
}

/// The rest of the suite under valgrind takes minutes; this is its heart.
#[test]
fn valgrind_finds_nothing_in_a_fetch() {
    check(&root().join("tests/c/small.c"), Watch::Valgrind);
}
