//! Artifacts on their way from one node to another.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;

use crate::bench::figure::{Figure, Goal, median, millis};
use crate::bench::fleet::{Child, Fleet, unexpected};
use crate::bench::orders::{Answer, Order};
use crate::bench::run::Bench;
use crate::bench::{others, process, upstream};
use crate::failure::{During, Failure};

/// A layer of an image. Unit: bytes.
const LAYER_BYTES: u64 = 50_000_000;

/// A large artifact. Unit: bytes.
const GIB_BYTES: u64 = 1 << 30;

/// Bytes of one call to the system in the references. Unit: bytes.
const BUFFER_BYTES: usize = 256 << 10;

/// An authorized node that has fetched a package, and what others need to get it from there.
struct Source {
    fleet: Fleet,
    node: Child,
    address: Vec<String>,
    leaves: u64,
    digest: String,
}

impl Source {
    fn start(bench: &Bench, url: String) -> Result<Self, Failure> {
        let mut fleet = Fleet::plan(&bench.folder, bench.clock, 1)?;
        fleet.repositories.push(url);
        let (mut node, _) = fleet.start("a0", true, Vec::new(), None)?;
        let built = node.ask(&Order::Build {
            spec: upstream::SPEC.to_owned(),
            purl: upstream::PURL.to_owned(),
        })?;
        let Answer::Built { digest, .. } = built else {
            return Err(unexpected(&built));
        };
        // What others fetch must not wait for what this node still writes.
        rest();
        let status = node.status()?;
        let (address, leaves) = (status.listen, status.size);
        Ok(Self {
            fleet,
            node,
            address,
            leaves,
            digest,
        })
    }

    /// A regular node that knows the log and has no artifact.
    fn reader(&self, bench: &Bench, at: usize) -> Result<Child, Failure> {
        let (name, peers) = (format!("r{at}"), self.address.clone());
        let (mut reader, _) = self.fleet.start(&name, true, peers, None)?;
        let leaves = self.leaves;
        reader.wait(&bench.clock, "the log", |it| it.size == leaves)?;
        Ok(reader)
    }
}

/// The first read of a layer that only a peer has.
pub(super) fn layer(bench: &Bench) -> Result<Vec<Figure>, Failure> {
    let (url, _) = upstream::serve(&bench.folder.join("upstream"), LAYER_BYTES)?;
    let source = Source::start(bench, url)?;
    let (mut firsts, mut wholes, mut memory) = (Vec::new(), Vec::new(), 0.0_f64);
    for at in 0..bench.pick(9, 3) {
        let mut reader = source.reader(bench, at)?;
        match reader.ask(&Order::Read(source.digest.clone()))? {
            Answer::Read { first, whole } => {
                firsts.push(first);
                wholes.push(whole / 1e3);
            }
            other => return Err(unexpected(&other)),
        }
        memory = memory.max(process::peak_memory(reader.pid())?);
    }
    let first = format!("first bytes after {:.1} ms", median(&firsts));
    let source_memory = process::peak_memory(source.node.pid())?;
    let (count, goal) = (wholes.len(), Goal::Below(200.0));
    let time = median(&wholes);
    Ok(vec![
        Figure::new(
            "layer",
            "50 MB read through",
            time,
            "s",
            count,
            Goal::Below(0.6),
        )
        .note(first),
        Figure::new("layer", "peak RSS of the reader", memory, "MB", count, goal),
        Figure::new(
            "layer",
            "peak RSS of the source",
            source_memory,
            "MB",
            1,
            goal,
        )
        .note("which also fetched it from its upstream"),
    ])
}

/// 1 GiB from one node to another, beside other programs and the bare system.
pub(super) fn gib(bench: &Bench) -> Result<Vec<Figure>, Failure> {
    let (url, file) = upstream::serve(&bench.folder.join("upstream"), GIB_BYTES)?;
    let source = Source::start(bench, url)?;
    let (mut rates, mut cpu, mut memory) = (Vec::new(), 0.0, 0.0_f64);
    for at in 0..bench.pick(3, 1) {
        let mut reader = source.reader(bench, at)?;
        let pids = [source.node.pid(), reader.pid()];
        let before = process::cpu_seconds(pids[0])? + process::cpu_seconds(pids[1])?;
        match reader.ask(&Order::Complete(source.digest.clone()))? {
            Answer::Read { whole, .. } => rates.push(gigabytes_per_second(whole)),
            other => return Err(unexpected(&other)),
        }
        cpu = process::cpu_seconds(pids[0])? + process::cpu_seconds(pids[1])? - before;
        memory = memory.max(process::peak_memory(pids[1])?);
        drop(reader);
        std::fs::remove_dir_all(source.fleet.data(&format!("r{at}"))).during("cannot clean up")?;
    }
    let goal = Goal::AtLeast(0.30);
    let what = "1 GiB, verified and on disk";
    let note = format!("{cpu:.1} s of CPU in both processes; peak RSS {memory:.0} MB");
    let mut figures =
        vec![Figure::new("gib", what, median(&rates), "GB/s", rates.len(), goal).note(note)];
    drop(source);
    figures.push(others::sendme(bench, &file, gigabytes_per_second));
    figures.push(others::kubo(bench, &file, gigabytes_per_second));
    let (tcp, disk) = (plain_tcp(bench)?, plain_disk(bench, &bench.folder)?);
    let reference = |what: &str, rate| Figure::new("gib", what, rate, "GB/s", 1, Goal::None);
    figures.push(reference("  plain TCP, nothing else", tcp));
    figures.push(reference("  plain write and fsync, nothing else", disk));
    Ok(figures)
}

/// The rate of 1 GiB in `millis`.
fn gigabytes_per_second(millis: f64) -> f64 {
    1_073.741_824 / millis
}

fn plain_tcp(bench: &Bench) -> Result<f64, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).during("no port")?;
    let address = listener.local_addr().during("no port")?;
    let send = move || -> std::io::Result<()> {
        let (mut to, buffer) = (listener.accept()?.0, vec![7; BUFFER_BYTES]);
        (0..GIB_BYTES / BUFFER_BYTES as u64).try_for_each(|_| to.write_all(&buffer))
    };
    let sender = thread::spawn(send);
    let mut from = TcpStream::connect(address).during("cannot connect")?;
    let (mut buffer, mut received) = (vec![0; BUFFER_BYTES], 0);
    let began = bench.clock.now();
    while received < GIB_BYTES {
        match from.read(&mut buffer).during("cannot receive")? {
            0 => return Err(Failure::new("bench", "the connection broke")),
            count => received += count as u64,
        }
    }
    let rate = gigabytes_per_second(millis(bench.clock.now().since(began)));
    drop(sender.join());
    Ok(rate)
}

fn plain_disk(bench: &Bench, folder: &Path) -> Result<f64, Failure> {
    let mut file = File::create(folder.join("plain")).during("cannot write")?;
    let buffer = vec![7; BUFFER_BYTES];
    let began = bench.clock.now();
    for _ in 0..GIB_BYTES / BUFFER_BYTES as u64 {
        file.write_all(&buffer).during("cannot write")?;
    }
    file.sync_all().during("cannot write")?;
    Ok(gigabytes_per_second(millis(bench.clock.now().since(began))))
}

/// Lets the disk and other processes finish what the preparation left behind.
fn rest() {
    thread::sleep(std::time::Duration::from_secs(2));
}
