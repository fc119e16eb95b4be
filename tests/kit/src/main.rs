//! Starts both upstreams, prints their URLs as one line of JSON, and runs until its standard input
//! closes.
//!
//! Usage: `kogge-testkit CACHE_FOLDER`

use std::io::{Read, Write};
use std::path::Path;

use kogge_testkit::{Failure, MavenUpstream, registry};

fn main() -> Result<(), Failure> {
    let cache = std::env::args()
        .nth(1)
        .ok_or(Failure("usage: kogge-testkit CACHE_FOLDER".into()))?;
    let cache = Path::new(&cache);
    let work = cache.join(format!("registry-{}", std::process::id()));
    let registry = registry::with_demo_images(cache, &work)?;
    let maven = MavenUpstream::start(cache)?;
    let line = serde_json::json!({
        "registry": registry.url(), "repository": maven.url(), "packages": maven.packages()?,
        "images": ["library/demo:1.0", "library/demo-large:1.0"],
    });
    let mut out = std::io::stdout();
    writeln!(out, "{line}")?;
    out.flush()?;
    // Whoever started this closes our standard input, or dies, when it is done.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    drop(registry);
    let _ = std::fs::remove_dir_all(work);
    Ok(())
}
