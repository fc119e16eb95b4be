//! An HTTP server and a deposit for tests: real sockets on this machine, answers from a closure.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::base::{Sha256, Time};
use crate::node::pipeline::agent::HttpConfig;
use crate::node::pipeline::deposit::{Deposit, DepositWriter, Digests, Stored};
use crate::node::pipeline::http::{Client, Request};
use crate::node::pipeline::job::{Cancel, Job, Progress, Step};
use crate::node::pipeline::retry::Patience;

/// What a client sent.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The first byte that `Range` asks for.
    pub(crate) fn offset(&self) -> Option<usize> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        range.strip_suffix('-')?.parse().ok()
    }
}

/// What the server answers.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    ending: Ending,
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Whole,
    CutAt(usize),
    StallAt(usize),
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
            ending: Ending::Whole,
        }
    }

    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200, body)
    }

    pub(crate) fn redirect(to: &str) -> Self {
        Self::new(302, "").with("location", to)
    }

    /// The body from `offset` on, as a 206.
    pub(crate) fn rest(body: &[u8], offset: usize) -> Self {
        let range = format!("bytes {offset}-{}/{}", body.len() - 1, body.len());
        Self::new(206, &body[offset..]).with("content-range", &range)
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Closes the connection after so many bytes of the body.
    pub(crate) fn cut_at(mut self, bytes: usize) -> Self {
        self.ending = Ending::CutAt(bytes);
        self
    }

    /// Goes silent after so many bytes of the body, until the server is dropped.
    pub(crate) fn stall_at(mut self, bytes: usize) -> Self {
        self.ending = Ending::StallAt(bytes);
        self
    }
}

/// A server on a port of its own.
pub(crate) struct Server {
    port: u16,
    received: Arc<Mutex<Vec<Received>>>,
    is_down: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let received = Arc::new(Mutex::new(Vec::new()));
        let is_down = Arc::new(AtomicBool::new(false));
        let answer = Arc::new(answer);
        let (log, down) = (Arc::clone(&received), Arc::clone(&is_down));
        let acceptor = thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if down.load(Ordering::SeqCst) {
                    return;
                }
                let (log, down, answer) =
                    (Arc::clone(&log), Arc::clone(&down), Arc::clone(&answer));
                thread::spawn(move || {
                    // A client that hangs up is part of many tests.
                    let _ = serve(&stream, &log, &down, &*answer);
                });
            }
        });
        Self {
            port,
            received,
            is_down,
            acceptor: Some(acceptor),
        }
    }

    /// `http://127.0.0.1:<port><path>`
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.authority())
    }

    pub(crate) fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// Method and path of every request, in order.
    pub(crate) fn lines(&self) -> Vec<String> {
        let received = self.received();
        received
            .iter()
            .map(|it| format!("{} {}", it.method, it.path))
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_down.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn serve(
    stream: &TcpStream,
    log: &Mutex<Vec<Received>>,
    is_down: &AtomicBool,
    answer: &dyn Fn(&Received) -> Reply,
) -> io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let received = Received {
        method,
        path,
        headers,
    };
    log.lock().unwrap().push(received.clone());
    let reply = answer(&received);
    let mut head = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", reply.body.len()));
    let mut stream = stream;
    stream.write_all(head.as_bytes())?;
    if received.method == "HEAD" {
        return Ok(());
    }
    match reply.ending {
        Ending::Whole => stream.write_all(&reply.body),
        Ending::CutAt(bytes) => stream.write_all(&reply.body[..bytes]),
        Ending::StallAt(bytes) => {
            stream.write_all(&reply.body[..bytes])?;
            while !is_down.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        }
    }
}

type Blobs = BTreeMap<Sha256, (Digests, Vec<u8>)>;

/// A deposit in memory.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    blobs: Arc<Mutex<Blobs>>,
    /// Refuses every write, as a full disk does.
    pub(crate) is_full: bool,
}

impl Memory {
    pub(crate) fn bytes(&self, sha256: &Sha256) -> Option<Vec<u8>> {
        let blobs = self.blobs.lock().unwrap();
        blobs.get(sha256).map(|(_, bytes)| bytes.clone())
    }

    pub(crate) fn len(&self) -> usize {
        self.blobs.lock().unwrap().len()
    }
}

impl Deposit for Memory {
    fn has(&self, sha256: &Sha256) -> Option<Stored> {
        let blobs = self.blobs.lock().unwrap();
        blobs.get(sha256).map(|(digests, _)| Stored {
            blake3: digests.blake3,
            size: digests.size,
        })
    }

    fn begin(&self, _: Option<u64>) -> io::Result<Box<dyn DepositWriter>> {
        let memory = self.clone();
        let bytes = Vec::new();
        Ok(Box::new(MemoryWriter { memory, bytes }))
    }
}

struct MemoryWriter {
    memory: Memory,
    bytes: Vec<u8>,
}

impl DepositWriter for MemoryWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.memory.is_full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>, digests: &Digests) -> io::Result<()> {
        assert_eq!(digests.sha256, Sha256::of(&self.bytes));
        assert_eq!(digests.size, self.bytes.len() as u64);
        let mut blobs = self.memory.blobs.lock().unwrap();
        blobs.insert(digests.sha256, (digests.clone(), self.bytes));
        Ok(())
    }
}

/// Everything a run needs, in memory.
#[derive(Default)]
pub(crate) struct Bench {
    pub(crate) memory: Memory,
    pub(crate) cancel: Cancel,
    pub(crate) steps: Mutex<Vec<String>>,
}

impl Bench {
    pub(crate) fn job(&self) -> Job<'_> {
        Job {
            deposit: &self.memory,
            progress: self,
            cancel: &self.cancel,
        }
    }

    /// The steps without `Received`, whose number depends on the network.
    pub(crate) fn steps(&self) -> Vec<String> {
        self.steps.lock().unwrap().clone()
    }
}

impl Progress for Bench {
    fn report(&self, step: Step<'_>) {
        if !matches!(step, Step::Received { .. }) {
            self.steps.lock().unwrap().push(format!("{step:?}"));
        }
    }
}

/// A client that retries at once and loses patience soon.
pub(crate) fn client() -> Client {
    client_with(|_| {})
}

/// Like [`client`], with a changed configuration.
pub(crate) fn client_with(change: impl FnOnce(&mut HttpConfig)) -> Client {
    let mut config = HttpConfig {
        patience: Patience {
            attempts_max: 3,
            backoff: Duration::ZERO,
            wait_max: Duration::from_millis(100),
        },
        ..HttpConfig::default()
    };
    change(&mut config);
    Client::new(config, Arc::new(|| Time::ZERO), 1).unwrap()
}

/// A client whose clock moves on by `step` whenever it is read.
pub(crate) fn client_of_a_slow_world(step: Duration) -> Client {
    let now = AtomicU64::new(0);
    let step = u64::try_from(step.as_nanos()).unwrap();
    let clock = move || Time::from_nanos(now.fetch_add(step, Ordering::SeqCst));
    let config = HttpConfig {
        patience: Patience {
            attempts_max: 3,
            backoff: Duration::ZERO,
            wait_max: Duration::ZERO,
        },
        ..HttpConfig::default()
    };
    Client::new(config, Arc::new(clock), 1).unwrap()
}

/// A request for `url` without credentials.
pub(crate) fn request(url: &str) -> Request<'_> {
    Request {
        what: "the file",
        url,
        accept: None,
        credentials: None,
    }
}
