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
        library: target().join("release"),
        folder: folder.to_owned(),
        arguments: vec![data.display().to_string(), tiny, large],
    };
    let rust = bed.rust()?;
    let c = bed.c()?;
    let jars = Jars::build(&bed.library.join("libkogge_jni.so"), &folder.join("jars"))?;
    let java = java::java(&bed, &jars)?;
    let stripped = bed.stripped_mb()?;
    print(&rust, &[("C", &c, 15.0), ("Java", &java, 60.0)], stripped);
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
        // Linked files must lie on the file system of the store.
        let out = Path::new(self.arguments.first().map_or("", String::as_str));
        let mut command = Command::new(program);
        command.args(&self.arguments).arg(out);
        figures(command.env("LD_LIBRARY_PATH", &self.folder))
    }

    fn stripped_mb(&self) -> Result<f64, Failure> {
        let copy = self.folder.join("stripped.so");
        std::fs::copy(self.library.join("libkogge.so"), &copy)?;
        run(Command::new("strip").arg("--strip-unneeded").arg(&copy))?;
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let bytes = std::fs::metadata(&copy)?.len() as f64;
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

/// Prints the table: what, who, the figure, what it must reach.
fn print(rust: &Figures, others: &[(&str, &Figures, f64)], stripped_mb: f64) {
    let row = |what: &str, who: &str, figure: String, goal: String, is_reached: bool| {
        let mark = if is_reached { "ok" } else { "MISSED" };
        println!("{what:<34} {who:<5} {figure:>12}  {goal:<24} {mark}");
    };
    let of = |figures: &Figures, name: &str| figures.get(name).copied().unwrap_or(f64::NAN);
    let plain = |what: &str, figure: String| println!("{what:<34} {:<5} {figure:>12}", "Rust");
    plain(
        "open to ready",
        format!("{:.1} ms", of(rust, "open_s") * 1e3),
    );
    plain(
        "fetch of 10 KB, stored",
        format!("{:.1} µs", of(rust, "fetch_10k_s") * 1e6),
    );
    plain(
        "1 GiB by stream",
        format!("{:.2} GB/s", of(rust, "stream_gb_per_s")),
    );
    plain(
        "query of 1,000 entries",
        format!("{:.2} ms", of(rust, "query_1000_s") * 1e3),
    );
    for (who, it, beyond_us) in others {
        let open = of(it, "open_s") * 1e3;
        row(
            "open to ready",
            who,
            format!("{open:.1} ms"),
            "< 100 ms".into(),
            open < 100.0,
        );
        let fetch = of(it, "fetch_10k_s") * 1e6;
        let more = fetch - of(rust, "fetch_10k_s") * 1e6;
        let goal = format!("< {beyond_us} µs beyond Rust");
        row(
            "fetch of 10 KB, stored",
            who,
            format!("{fetch:.1} µs"),
            goal,
            more < *beyond_us,
        );
        let stream = of(it, "stream_gb_per_s");
        let goal = ">= 1.5 GB/s".to_owned();
        row(
            "1 GiB by stream",
            who,
            format!("{stream:.2} GB/s"),
            goal,
            1.5 <= stream,
        );
        let query = of(it, "query_1000_s") * 1e3;
        row(
            "query of 1,000 entries",
            who,
            format!("{query:.2} ms"),
            "< 2 ms".into(),
            query < 2.0,
        );
        if let Some(link) = it.get("link_s") {
            let link = link * 1e3;
            row(
                "1 GiB to a path by link",
                who,
                format!("{link:.2} ms"),
                "< 5 ms".into(),
                link < 5.0,
            );
        }
        if let Some(lookup) = it.get("lookup_s") {
            let lookup = lookup * 1e9;
            row(
                "handle look-up",
                who,
                format!("{lookup:.0} ns"),
                "< 100 ns".into(),
                lookup < 100.0,
            );
        }
        if let Some(more) = it.get("resident_more_mb") {
            let goal = "< 30 MB".to_owned();
            row(
                "memory of an open node",
                who,
                format!("{more:.1} MB"),
                goal,
                *more < 30.0,
            );
        }
    }
    let goal = "<= 12 MB".to_owned();
    row(
        "library, stripped",
        "",
        format!("{stripped_mb:.1} MB"),
        goal,
        stripped_mb <= 12.0,
    );
}
