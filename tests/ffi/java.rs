//! The Java binding: built from nothing, run by each JDK of this machine with the JVM's own checks.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::{library_folder, root, run, scene};

/// Where distributions put JDKs.
const JVMS: &str = "/usr/lib/jvm";

/// The oldest JDK that the binding is tested with.
const RELEASE_MIN: u32 = 17;

/// From this release on a program says that it loads native code.
const RELEASE_NATIVE_ACCESS: u32 = 24;

/// The jars, and the compiled tests.
pub(crate) struct Built {
    /// A Maven repository with the jars.
    pub(crate) repository: PathBuf,
    /// A home of the user, for the library.
    pub(crate) home: PathBuf,
    tests: PathBuf,
    _folder: tempfile::TempDir,
}

impl Built {
    /// The jar of a module.
    pub(crate) fn jar(&self, name: &str) -> PathBuf {
        let version = env!("CARGO_PKG_VERSION");
        let folder = self.repository.join("dev/kogge").join(name).join(version);
        folder.join(format!("{name}-{version}.jar"))
    }

    fn classpath(&self) -> std::ffi::OsString {
        std::env::join_paths([self.jar("kogge"), self.tests.clone()]).unwrap()
    }
}

/// Builds everything once.
pub(crate) fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let repository = folder.path().join("repository");
        run(Command::new(root().join("bindings/java/build.sh"))
            .arg(library_folder().join("libkogge_jni.so"))
            .arg(&repository));
        let built = Built {
            repository,
            home: folder.path().join("home"),
            tests: folder.path().join("tests"),
            _folder: folder,
        };
        let sources = root().join("bindings/java/kogge/test/dev/kogge/test");
        let mut sources: Vec<PathBuf> = std::fs::read_dir(sources)
            .unwrap()
            .map(|it| it.unwrap().path())
            .collect();
        for file in ["examples/guide/Guide.java", "benches/ffi/Bench.java"] {
            sources.push(root().join(file));
        }
        run(Command::new("javac")
            .args(["--release", "11", "-Xlint:all,-options", "-Werror", "-cp"])
            .arg(built.jar("kogge"))
            .arg("-d")
            .arg(&built.tests)
            .args(sources));
        built
    })
}

/// A JDK.
pub(crate) struct Jdk {
    pub(crate) home: PathBuf,
    pub(crate) release: u32,
}

/// The JDKs of this machine, one of each release, oldest first.
pub(crate) fn jdks() -> Vec<Jdk> {
    let mut found: Vec<Jdk> = std::fs::read_dir(JVMS)
        .unwrap()
        .filter_map(|it| {
            let home = it.ok()?.path();
            let text = std::fs::read_to_string(home.join("release")).ok()?;
            let version = text
                .lines()
                .find_map(|it| it.strip_prefix("JAVA_VERSION="))?;
            let release = version.trim_matches('"').split('.').next()?.parse().ok()?;
            Some(Jdk { home, release })
        })
        .filter(|it| RELEASE_MIN <= it.release && it.home.join("bin/java").exists())
        .collect();
    found.sort_by_key(|it| it.release);
    found.dedup_by_key(|it| it.release);
    assert!(!found.is_empty(), "there is no JDK in {JVMS}");
    found
}

impl Jdk {
    /// A program of the tests, with the setting that the documentation tells to use.
    pub(crate) fn command(&self) -> Command {
        let mut java = Command::new(self.home.join("bin/java"));
        if RELEASE_NATIVE_ACCESS <= self.release {
            java.arg("--enable-native-access=ALL-UNNAMED");
        }
        java.arg("-Xcheck:jni").arg("-cp").arg(built().classpath());
        java.arg(format!("-Duser.home={}", built().home.display()));
        // Cargo's, where the library lies, too.
        java.env_remove("LD_LIBRARY_PATH");
        java
    }
}

/// Runs a program and gives both its outputs: a warning of the JVM may come in either.
fn both(java: &mut Command, main: &str, arguments: &[&str]) -> String {
    let output = java.arg(main).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{java:?}: {}\n{text}",
        output.status
    );
    assert!(!text.contains("WARNING"), "{java:?}\n{text}");
    text
}

#[test]
fn the_java_binding_works_on_every_jdk() {
    let scene = scene();
    for jdk in jdks() {
        let mut java = jdk.command();
        java.env("KOGGE_SCENE", &scene.0.path);
        let text = both(&mut java, "dev.kogge.test.KoggeTest", &[]);
        assert!(text.contains("\npassed "), "{text}");
        println!("JDK {}:\n{text}", jdk.release);
    }
}

#[test]
fn a_jvm_ends_at_once_in_the_middle_of_fetches_and_the_next_goes_on() {
    let scene = scene();
    for jdk in jdks() {
        for how in ["exit", "halt", "return", "kill"] {
            let folder = tempfile::tempdir().unwrap();
            let data = folder.path().to_str().unwrap();
            let leave = |how: &str| {
                let mut java = jdk.command();
                java.env("KOGGE_SCENE", &scene.0.path);
                java.args(["dev.kogge.test.Leave", how, data]);
                let output = java.output().unwrap();
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                let errors = String::from_utf8_lossy(&output.stderr);
                assert_eq!(errors, "", "JDK {}, {how}", jdk.release);
                (text, output.status.code())
            };
            // Killed by a signal, it has no code.
            let code = if how == "kill" { None } else { Some(0) };
            assert_eq!(leave(how), (format!("leaving by {how}\n"), code));
            assert_eq!(leave("after"), ("no file\nthe bytes\n".into(), Some(0)));
        }
    }
}

#[test]
fn the_native_library_is_extracted_once_checked_and_missed_politely() {
    let jdks = jdks();
    let jdk = jdks.first().unwrap();
    let version = format!("kogge {}\n", env!("CARGO_PKG_VERSION"));
    let load = |settings: &[String]| both(jdk.command().args(settings), "dev.kogge.test.Load", &[]);
    let folder = tempfile::tempdir().unwrap();
    let at = |it: &str| folder.path().join(it).display().to_string();
    std::fs::create_dir(at("tmp")).unwrap();
    let home = [
        format!("-Duser.home={}", at("home")),
        format!("-Djava.io.tmpdir={}", at("tmp")),
    ];

    // Copies of other versions: one that nobody has loaded for long, and one that somebody has.
    let cache = folder.path().join("home/.cache/kogge/native");
    let [old, recent] = ["0", "1"].map(|it| cache.join(it.repeat(64)));
    for other in [&old, &recent] {
        std::fs::create_dir_all(other).unwrap();
        std::fs::write(other.join("libkogge_jni.so"), "other").unwrap();
    }
    let month = std::time::Duration::from_secs(31 * 24 * 3_600);
    let time = std::fs::metadata(&old).unwrap().modified().unwrap() - month;
    std::fs::File::open(&old)
        .unwrap()
        .set_modified(time)
        .unwrap();

    assert_eq!(load(&home), version);
    assert!(!old.exists() && recent.exists());
    std::fs::remove_dir_all(recent).unwrap();
    let hash = std::fs::read_dir(&cache).unwrap().next().unwrap().unwrap();
    // The one that is used is never removed, however old.
    std::fs::File::open(hash.path())
        .unwrap()
        .set_modified(time)
        .unwrap();
    let library = hash.path().join("libkogge_jni.so");
    let whole = std::fs::metadata(&library).unwrap().len();
    std::fs::write(&library, "damaged").unwrap();
    assert_eq!(load(&home), version);
    assert_eq!(std::fs::metadata(&library).unwrap().len(), whole);

    // A home that cannot be written to.
    let nowhere = [format!("-Duser.home={}", "/proc/nowhere"), home[1].clone()];
    assert_eq!(load(&nowhere), version);
    let left: Vec<_> = std::fs::read_dir(at("tmp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");

    let given = library_folder().display().to_string();
    assert_eq!(load(&[format!("-Dkogge.library.path={given}")]), version);
    assert_eq!(
        load(&[format!("-Djava.library.path={given}"), nowhere[0].clone()]),
        version
    );
    let missing = load(&["-Dkogge.library.path=/no/such/file".into()]);
    assert!(
        missing.starts_with("no library: kogge.library.path"),
        "{missing}"
    );
    assert!(missing.ends_with("nor again\n"), "{missing}");
}
