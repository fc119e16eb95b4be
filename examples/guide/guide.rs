//! Fetches one artifact with a node inside this program, and prints its size, SHA-256 and log index.
//!
//! Usage: guide WHAT DATA_DIR GENESIS PEER

use std::error::Error;

use kogge::{Config, Genesis, Network, Node, What};

async fn run(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let [_, what, data_dir, genesis, peer] = arguments else {
        return Err("usage: guide WHAT DATA_DIR GENESIS PEER".into());
    };
    let mut config = Config::new(data_dir);
    config.listen.clear(); // Take no port.
    config.peers.push(peer.clone());
    let genesis = Genesis::parse(&std::fs::read(genesis)?)?;
    let node = Node::start(config, Network::Genesis(Box::new(genesis))).await?;
    node.live().await?;

    let found = node.log().resolve(&what.parse::<What>()?)?;
    let (_, entry) = found.first().ok_or("the log does not have it")?;
    let artifact = node.open(&entry.blake3.into()).await?;
    artifact.complete().await?;
    println!(
        "{} {} {}",
        artifact.size(),
        artifact.entry().sha256,
        artifact.index()
    );

    node.shutdown().await;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    pollster::block_on(run(&arguments))
}
