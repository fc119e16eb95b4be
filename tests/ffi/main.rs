//! The C library as its users see it: its header, its files, and programs that were written
//! against it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed step fails the test"
)]

mod abi;
mod c;
mod go;
mod guide;
mod header;
mod install;
mod java;
mod maven;
mod misuse;

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
            let what = "--workspace --lib --bins --tests --examples --features kogge/testing";
            cargo.args(["build", "--quiet"]).args(what.split(' '));
            run(cargo.current_dir(root()));
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

/// Whether the tests are to leave nothing out (`make test-ffi-full`).
fn is_full() -> bool {
    std::env::var_os("KOGGE_FFI_FULL").is_some()
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
