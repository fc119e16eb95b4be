//! A host that embeds a node: starts a network of one, asks for a package, reads its files.
//!
//! ```text
//! cargo run -p kogge --example embed -- FOLDER 'maven junit:junit:4.13.2'
//! cargo run -p kogge --example embed -- FOLDER 'docker library/alpine:3.20' http://localhost:5000
//! ```

use std::error::Error;
use std::time::Duration;

use kogge::{BuildSpec, Config, Network, Node};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(folder), Some(spec)) = (args.next(), args.next()) else {
        return Err("usage: embed FOLDER 'docker IMAGE' | 'maven G:A:V' [UPSTREAM]".into());
    };
    let spec: BuildSpec = spec.parse()?;
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let mut config = Config::new(folder);
    config.listen = vec!["/ip4/127.0.0.1/tcp/0".into()];
    if let Some(upstream) = args.next() {
        config
            .registries
            .insert("docker.io".into(), upstream.clone());
        config.repositories.push(upstream);
    }
    // Any executor will do: the node has threads of its own.
    futures_lite::future::block_on(run(config, spec))
}

async fn run(config: Config, spec: BuildSpec) -> Result<(), Box<dyn Error>> {
    let node = Node::start(config, Network::StoredOrSolo).await?;
    let build = node.request_build(spec).await?;
    let build = node.wait_build(build.id, Duration::from_secs(300)).await?;
    println!("{}: {}", build.spec, build.state);

    let query = kogge::Query {
        kind: Some(1),
        limit: 100,
        ..kogge::Query::default()
    };
    for row in node.log().find(&query)?.rows {
        if let kogge::Entry::AddArtifact(entry) = row.entry {
            let artifact = node.open(&entry.sha256.into()).await?;
            let mut read = 0;
            while read < artifact.size() {
                read += artifact.read(read, 1 << 20).await?.len() as u64;
            }
            println!(
                "{:>6}  {:>10} bytes  {}  {}",
                row.index, read, entry.purl, entry.file
            );
        }
    }
    node.shutdown().await;
    Ok(())
}
