//! The same figures without the C interface: what it is compared with. One per line: name, tab, value.
//!
//! Usage: bench-rust DATA_DIR WHAT_TINY WHAT_LARGE

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use kogge::{Config, Digest, Network, Node, Query};

const OPENS: usize = 11;
const CALLS: usize = 20_000;
const QUERIES: usize = 201;
const STREAMS: usize = 3;
const CHUNK_BYTES: usize = 1 << 20;

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}

fn print(name: &str, mut values: Vec<f64>) {
    values.sort_by(f64::total_cmp);
    let median = values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
    println!("{name}\t{median:.9}");
}

async fn open(data_dir: &Path) -> Result<Node, Box<dyn Error>> {
    let mut config = Config::new(data_dir);
    config.listen.clear();
    config.environment = false;
    config.limits.disk = 20_000 << 20;
    Ok(Node::start(config, Network::Stored).await?)
}

async fn run(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let [_, data_dir, tiny, large] = arguments else {
        return Err("usage: bench DATA_DIR WHAT_TINY WHAT_LARGE".into());
    };
    let (tiny, large): (Digest, Digest) = (tiny.parse()?, large.parse()?);
    let mut values = Vec::new();
    for _ in 0..OPENS {
        let begin = now();
        let node = open(Path::new(data_dir)).await?;
        values.push(begin.elapsed().as_secs_f64());
        node.shutdown().await;
    }
    print("open_s", values);
    let node = open(Path::new(data_dir)).await?;

    let mut values = Vec::new();
    for _ in 0..CALLS {
        let begin = now();
        let artifact = node.open(&tiny).await?;
        let bytes = artifact.read(0, CHUNK_BYTES).await?;
        values.push(begin.elapsed().as_secs_f64());
        assert_eq!(bytes.len() as u64, artifact.size());
    }
    print("fetch_10k_s", values);

    let mut values = Vec::new();
    for _ in 0..STREAMS {
        let begin = now();
        let artifact = node.open(&large).await?;
        let mut offset = 0;
        while offset < artifact.size() {
            offset += artifact.read(offset, CHUNK_BYTES).await?.len() as u64;
        }
        values.push(offset as f64 / 1e9 / begin.elapsed().as_secs_f64());
    }
    print("stream_gb_per_s", values);

    let mut values = Vec::new();
    for _ in 0..QUERIES {
        let begin = now();
        let query: Query = "order=oldest limit=1000".parse()?;
        let page = node.log().find(&query)?;
        values.push(begin.elapsed().as_secs_f64());
        assert_eq!(page.rows.len(), 1_000);
    }
    print("query_1000_s", values);
    node.shutdown().await;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    pollster::block_on(run(&arguments))
}
