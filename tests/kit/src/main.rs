//! Starts something, prints one line that says where it is, and runs until its standard input closes.
//!
//! `kogge-testkit CACHE_FOLDER`: both upstreams; prints their URLs as JSON.
//! `kogge-testkit bench-ffi`: figures of the C library and the bindings, and no waiting.
//! `kogge-testkit scene FOLDER`: a network with known artifacts; prints the path of its description.

use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;

use kogge_testkit::scene::Scene;
use kogge_testkit::{Failure, MavenUpstream, registry};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // What the failed step printed comes with its own lines.
            eprintln!("kogge-testkit: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), Failure> {
    match arguments {
        [word, folder] if word == "scene" => scene(Path::new(folder)),
        [word] if word == "bench-ffi" => {
            let folder = tempfile::Builder::new().prefix("kb").tempdir()?;
            kogge_testkit::bench::bench_ffi(folder.path())
        }
        [cache] => upstreams(Path::new(cache)),
        _ => Err(Failure(
            "usage: kogge-testkit CACHE_FOLDER | scene FOLDER | bench-ffi".into(),
        )),
    }
}

fn scene(folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder)?;
    let scene = Scene::start(&folder.canonicalize()?);
    announce(&scene.path.display().to_string())
}

/// Prints a line, and waits until whoever started this closes our standard input, or dies.
fn announce(line: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}")?;
    out.flush()?;
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    Ok(())
}

fn upstreams(cache: &Path) -> Result<(), Failure> {
    let work = cache.join(format!("registry-{}", std::process::id()));
    let registry = registry::with_demo_images(cache, &work)?;
    let maven = MavenUpstream::start(cache)?;
    let line = serde_json::json!({
        "registry": registry.url(), "repository": maven.url(), "packages": maven.packages()?,
        "images": ["library/demo:1.0", "library/demo-large:1.0"],
    });
    announce(&line.to_string())?;
    drop(registry);
    let _ = std::fs::remove_dir_all(work);
    Ok(())
}
