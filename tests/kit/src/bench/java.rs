//! The Java program, and builds of Maven from the network beside the same from a plain HTTP repository.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark reads the clock and prints"
)]

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use crate::bench::{Bed, Figures, figures};
use crate::maven::MavenUpstream;
use crate::maven_build::{Jars, Stocked};
use crate::network::cache;
use crate::run::{Failure, run};

/// Builds of each kind; the medians are printed.
const BUILDS: usize = 5;

/// What the binding costs, from a Java program.
pub(crate) fn java(bed: &Bed, jars: &Jars) -> Result<Figures, Failure> {
    let (jar, classes) = (jars.jar("kogge"), bed.folder.join("java"));
    run(Command::new("javac")
        .args(["--release", "11", "-cp"])
        .arg(&jar)
        .arg("-d")
        .arg(&classes)
        .arg(bed.root.join("benches/ffi/Bench.java")))?;
    let classpath = std::env::join_paths([jar, classes]).unwrap_or_default();
    let mut java = Command::new("java");
    java.arg(format!("-Duser.home={}", jars.home.display()))
        .arg("-cp")
        .arg(classpath)
        .arg("Bench")
        .args(&bed.arguments)
        // Linked files must lie on the file system of the store.
        .args(bed.arguments.first());
    figures(&mut java)
}

/// Builds a project with an empty local repository, by turns from a plain HTTP repository and from the
/// network, and prints both times.
pub(crate) fn maven(jars: &Jars) -> Result<(), Failure> {
    let program = PathBuf::from("mvn");
    let upstream = MavenUpstream::start(&cache())?;
    let stocked = Stocked::start(upstream, jars);
    let (mut plain, mut ours) = (Vec::new(), Vec::new());
    let (mut files, mut requests) = (u64::MAX, 0);
    for number in 0..BUILDS {
        let project = stocked.project(&format!("plain-{number}"), &stocked.upstream.url());
        plain.push(seconds(|| {
            run(project.maven(&program).arg("package")).map(drop)
        })?);
        let project = stocked.extended(&format!("extended-{number}"));
        stocked.upstream.requests().clear();
        ours.push(seconds(|| {
            files = files.min(project.package(&program, &[]).verified);
            Ok(())
        })?);
        requests += stocked.upstream.requests().all().len();
    }
    let (plain, ours) = (median(plain), median(ours));
    let row = |what: &str, who: &str, figure: String, rest: String| {
        println!("{what:<34} {who:<5} {figure:>12}  {rest}");
    };
    let what = format!("Maven, a build of {files} files");
    row(&what, "HTTP", format!("{plain:.2} s"), String::new());
    let goal = "0 requests, <= HTTP";
    let is_reached = requests == 0 && 150 <= files && ours <= plain;
    let mark = if is_reached { "ok" } else { "MISSED" };
    row(
        &what,
        "kogge",
        format!("{ours:.2} s"),
        format!("{goal:<24} {mark}"),
    );
    row("ratio", "", format!("{:.2}", ours / plain), String::new());
    row(
        "HTTP requests",
        "kogge",
        requests.to_string(),
        String::new(),
    );
    Ok(())
}

fn seconds(step: impl FnOnce() -> Result<(), Failure>) -> Result<f64, Failure> {
    let begin = Instant::now();
    step()?;
    Ok(begin.elapsed().as_secs_f64())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
