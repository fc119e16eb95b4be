//! `make bench-ffi`: figures of the C library and the bindings, beside Rust in the same run.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a program that prints a table, or ends"
)]

mod java;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::maven_build::Jars;
use crate::network::target;
use crate::run::{Failure, run};
use crate::scene::Scene;

/// Figures by name.
type Figures = BTreeMap<String, f64>;

/// Runs every program over the same data and prints the table.
///
/// # Errors
///
/// [`Failure`] of the first program that fails.
pub fn bench_ffi(folder: &Path) -> Result<(), Failure> {
    let mut scene = Scene::start_for_benchmarks(folder);
    let artifacts = scene.value["artifacts"].clone();
    let name = |at: usize| format!("sha256:{}", artifacts[at]["sha256"].as_str().unwrap_or(""));
    let (tiny, large) = (name(0), name(1));
    for what in [&tiny, &large] {
        let node = scene.network.regular(0);
        node.json(&[
            "fetch",
            what,
            "-o",
            folder.join("fetched").to_str().unwrap(),
        ]);
    }
    // Its data directory is what the programs open, one after the other.
    let node = scene.network.nodes.last_mut().unwrap();
    node.kill();
    let data = node.data.clone();
    let bed = Bed {
        root: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")),
        library: target().join("library"),
        folder: folder.to_owned(),
        arguments: vec![data.display().to_string(), tiny, large],
    };
    let rust = bed.rust()?;
    let jars = Jars::build(&bed.library.join("libkogge_jni.so"), &folder.join("jars"))?;
    let others = [
        ("C", bed.c()?, 15.0),
        ("Go", bed.go()?, 40.0),
        ("Java", java::java(&bed, &jars)?, 60.0),
    ];
    print(&rust, &others, bed.stripped_mb()?);
    java::maven(&jars)
}

struct Bed {
    root: PathBuf,
    library: PathBuf,
    folder: PathBuf,
    arguments: Vec<String>,
}

impl Bed {
    fn rust(&self) -> Result<Figures, Failure> {
        let program = self.library.join("examples/bench-ffi");
        figures(Command::new(program).args(&self.arguments))
    }

    fn c(&self) -> Result<Figures, Failure> {
        let program = self.folder.join("bench-c");
        let soname = self.folder.join("libkogge.so.1");
        if !soname.exists() {
            std::os::unix::fs::symlink(self.library.join("libkogge.so"), &soname)?;
        }
        run(Command::new("cc")
            .args(["-std=c11", "-O2", "-o"])
            .arg(&program)
            .arg(self.root.join("benches/ffi/bench.c"))
            .arg("-I")
            .arg(self.root.join("include"))
            .arg("-L")
            .arg(&self.library)
            .arg("-lkogge"))?;
        let mut command = Command::new(program);
        command.args(&self.arguments).arg(self.out());
        figures(command.env("LD_LIBRARY_PATH", &self.folder))
    }

    fn go(&self) -> Result<Figures, Failure> {
        let (program, prefix) = (self.folder.join("bench-go"), self.installed());
        let set = |name: &str, path: &Path| format!("{name}={}", path.display());
        run(Command::new("make")
            .args(["--silent", "install"])
            .args([set("LIBRARY", &self.library), set("PREFIX", &prefix)])
            .current_dir(&self.root))?;
        run(Command::new("go")
            .args(["build", "-o"])
            .arg(&program)
            .arg(self.root.join("benches/ffi/bench.go"))
            .current_dir(self.root.join("bindings/go"))
            .env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")))?;
        let mut command = Command::new(program);
        command.args(&self.arguments).arg(self.out());
        figures(command.env("LD_LIBRARY_PATH", prefix.join("lib")))
    }

    /// Linked files must lie on the file system of the store.
    fn out(&self) -> &Path {
        Path::new(self.arguments.first().map_or("", String::as_str))
    }

    /// Where the library is installed, stripped, for the program in Go.
    fn installed(&self) -> PathBuf {
        self.folder.join("installed")
    }

    fn stripped_mb(&self) -> Result<f64, Failure> {
        let library = self.installed().join("lib/libkogge.so");
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let bytes = std::fs::metadata(library)?.len() as f64;
        Ok(bytes / 1e6)
    }
}

fn figures(command: &mut Command) -> Result<Figures, Failure> {
    let text = run(command)?;
    let line = |it: &str| {
        let (name, value) = it.split_once('\t')?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    Ok(text.lines().filter_map(line).collect())
}

/// A figure and what it must reach.
struct Goal {
    /// The name in [`Figures`].
    name: &'static str,
    what: &'static str,
    unit: &'static str,
    /// What makes the unit of the program's figure the unit that is shown.
    scale: f64,
    limit: f64,
    /// Whether more is better.
    is_floor: bool,
    /// Whose program must print it.
    who: &'static [&'static str],
}

const ALL: &[&str] = &["Rust", "C", "Go", "Java"];

const GOALS: [Goal; 7] = [
    Goal::below("open_s", "open to ready", "ms", 1e3, 100.0),
    Goal {
        is_floor: true,
        ..Goal::below("stream_gb_per_s", "1 GiB by stream", "GB/s", 1.0, 1.5)
    },
    Goal::below("query_1000_s", "query of 1,000 entries", "ms", 1e3, 2.0),
    Goal::below("link_s", "1 GiB to a path by link", "ms", 1e3, 5.0).of(&["C", "Go", "Java"]),
    Goal::below("lookup_s", "handle look-up", "ns", 1e9, 100.0).of(&["C"]),
    Goal::below(
        "resident_more_mb",
        "memory of an open node",
        "MB",
        1.0,
        30.0,
    )
    .of(&["C"]),
    Goal::below("resident_used_mb", "after 20,000 fetches", "MB", 1.0, 30.0).of(&["C"]),
];

const FETCH: &str = "fetch_10k_s";

impl Goal {
    const fn below(
        name: &'static str,
        what: &'static str,
        unit: &'static str,
        scale: f64,
        limit: f64,
    ) -> Self {
        Self {
            name,
            what,
            unit,
            scale,
            limit,
            is_floor: false,
            who: ALL,
        }
    }

    const fn of(self, who: &'static [&'static str]) -> Self {
        Self { who, ..self }
    }

    /// A figure that is missing is none, which reaches nothing.
    fn print(&self, who: &str, figure: f64) {
        let (figure, limit) = (figure * self.scale, self.limit);
        let (sign, is_reached) = if self.is_floor {
            (">=", limit <= figure)
        } else {
            ("<", figure < limit)
        };
        let goal = format!("{sign} {limit} {}", self.unit);
        line(self.what, who, figure, self.unit, &goal, is_reached);
    }
}

fn line(what: &str, who: &str, figure: f64, unit: &str, goal: &str, is_reached: bool) {
    let mark = if is_reached { "ok" } else { "MISSED" };
    println!("{what:<26} {who:<5} {figure:>9.2} {unit:<5} {goal:<20} {mark}");
}

/// Prints the table: what, who, the figure, what it must reach. Rust comes first; a fetch may take some
/// microseconds more than Rust's.
fn print(rust: &Figures, others: &[(&str, Figures, f64)], stripped_mb: f64) {
    let of = |figures: &Figures, name: &str| figures.get(name).copied().unwrap_or(f64::NAN);
    let micro = |figures: &Figures| of(figures, FETCH) * 1e6;
    let first = micro(rust);
    let what = "fetch of 10 KB, stored";
    line(what, "Rust", first, "µs", "", first.is_finite());
    for (who, figures, more) in others {
        let goal = format!("< Rust + {more} µs");
        let figure = micro(figures);
        line(what, who, figure, "µs", &goal, figure - first < *more);
    }
    for goal in GOALS {
        let all = others.iter().map(|(who, figures, _)| (*who, figures));
        for (who, figures) in std::iter::once(("Rust", rust)).chain(all) {
            if goal.who.contains(&who) {
                goal.print(who, of(figures, goal.name));
            }
        }
    }
    let is_small = stripped_mb <= 12.0;
    line(
        "library, stripped",
        "",
        stripped_mb,
        "MB",
        "<= 12 MB",
        is_small,
    );
}
