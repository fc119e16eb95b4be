//! What a node costs while nothing happens.

use std::thread;
use std::time::Duration;

use crate::bench::figure::{Figure, Goal};
use crate::bench::fleet::{Child, Fleet};
use crate::bench::process;
use crate::bench::relay::Relay;
use crate::bench::run::{Bench, Length};
use crate::failure::Failure;

/// Peers of the node.
const PEERS: usize = 6;

/// Until what happens after a start is over.
const SETTLE: Duration = Duration::from_secs(5);

/// A regular node with four authorized and two regular peers.
pub(super) fn idle(bench: &Bench) -> Result<Vec<Figure>, Failure> {
    let span = Duration::from_secs(match bench.length {
        Length::Quick => 15,
        Length::Usual => 60,
        Length::Long => 300,
    });
    let fleet = Fleet::plan(&bench.folder, bench.clock, 4)?;
    let mut peers = fleet.start_members()?;
    for at in peers.len()..PEERS {
        let mut addresses = Vec::new();
        for peer in &mut peers {
            addresses.extend(peer.status()?.listen);
        }
        peers.push(fleet.start(&format!("r{at}"), true, addresses, None)?.0);
    }
    let relays = relays(&mut peers)?;
    let addresses = relays.iter().map(|it| it.address.clone()).collect();
    // Nobody can dial it, so everything goes through the relays.
    let (mut node, _) = fleet.start("idle", false, addresses, None)?;
    node.wait(&bench.clock, "all peers", |it| it.peers == PEERS)?;
    thread::sleep(SETTLE);

    let moved = || relays.iter().map(Relay::bytes).sum::<u64>();
    let (began, cpu, bytes) = (
        bench.clock.now(),
        process::cpu_seconds(node.pid())?,
        moved(),
    );
    thread::sleep(span);
    let taken = bench.clock.now().since(began).as_secs_f64();
    let cpu = (process::cpu_seconds(node.pid())? - cpu) / taken * 100.0;
    let bytes = u32::try_from(moved() - bytes).unwrap_or(u32::MAX);
    let memory = process::present_memory(node.pid())?;
    if node.status()?.peers != PEERS {
        return Err(Failure::new("bench", "the node lost a peer"));
    }
    let rate = f64::from(bytes) / taken / 6.0 / 1e3;
    let figure = |what: &str, value, unit, limit| {
        Figure::new("idle", what, value, unit, 1, Goal::Below(limit))
    };
    let note = format!("regular node, 6 peers, {taken:.0} s, empty log");
    Ok(vec![
        figure("RSS", memory, "MB", 45.0).note(note),
        figure("CPU of one core", cpu, "%", 0.5),
        figure("traffic per peer, both ways", rate, "kB/s", 1.0)
            .note("TCP payload, encryption included, counted by relays"),
    ])
}

fn relays(peers: &mut [Child]) -> Result<Vec<Relay>, Failure> {
    let mut relays = Vec::new();
    for peer in peers {
        let status = peer.status()?;
        let address = status.listen.first();
        let address = address.ok_or_else(|| Failure::new("bench", "a peer does not listen"))?;
        relays.push(Relay::to(address)?);
    }
    Ok(relays)
}
