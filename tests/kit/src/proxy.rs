//! Small HTTP/1.1 servers, one thread per connection: a counting reverse proxy and a static
//! file server.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Longest request head. Unit: bytes.
const HEAD_BYTES_MAX: u64 = 64 * 1_024;

/// The requests a server got, in order.
#[derive(Clone, Debug, Default)]
pub struct Requests(Arc<Mutex<Vec<String>>>);

impl Requests {
    /// `METHOD /path` of each request so far.
    pub fn all(&self) -> Vec<String> {
        self.lock().clone()
    }

    /// How many requests contain `part`.
    pub fn count(&self, part: &str) -> usize {
        self.lock().iter().filter(|it| it.contains(part)).count()
    }

    /// Forgets the requests so far.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn push(&self, line: String) {
        self.lock().push(line);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A server on loopback that ends with the process, or refuses when switched off.
#[derive(Debug)]
pub struct Server {
    /// Its port.
    pub port: u16,
    /// What it was asked.
    pub requests: Requests,
    off: Arc<AtomicBool>,
}

impl Server {
    /// Forwards everything to `upstream` on loopback.
    ///
    /// # Errors
    ///
    /// The system's error if there is no port.
    pub fn proxy(upstream: u16) -> io::Result<Self> {
        Self::start(move |head, client| forward(head, client, upstream))
    }

    /// Serves the files below `root`.
    ///
    /// # Errors
    ///
    /// The system's error if there is no port.
    pub fn files(root: PathBuf) -> io::Result<Self> {
        Self::start(move |head, client| serve_file(head, client, &root))
    }

    /// Drops every connection from now on (`true`), or serves again.
    pub fn switch_off(&self, off: bool) {
        self.off.store(off, Ordering::SeqCst);
    }

    fn start(
        handle: impl Fn(&Head, &mut TcpStream) -> io::Result<()> + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let (requests, off) = (Requests::default(), Arc::new(AtomicBool::new(false)));
        let this = Self {
            port,
            requests: requests.clone(),
            off: off.clone(),
        };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if off.load(Ordering::SeqCst) {
                    continue;
                }
                let (handle, requests) = (handle.clone(), requests.clone());
                std::thread::spawn(move || serve(client, &requests, handle));
            }
        });
        Ok(this)
    }
}

/// One request head.
struct Head {
    method: String,
    target: String,
    lines: Vec<String>,
}

impl Head {
    fn header(&self, name: &str) -> Option<&str> {
        self.lines.iter().find_map(|it| {
            let (key, value) = it.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// One request per connection keeps the servers simple; clients reconnect.
fn serve(
    mut client: TcpStream,
    requests: &Requests,
    handle: impl Fn(&Head, &mut TcpStream) -> io::Result<()>,
) {
    let Ok(Some(head)) = read_head(&client) else {
        return;
    };
    requests.push(format!("{} {}", head.method, head.target));
    let _ = handle(&head, &mut client);
}

fn read_head(client: &TcpStream) -> io::Result<Option<Head>> {
    // Unbuffered past the head: a body, if any, stays in the socket.
    let mut reader = BufReader::with_capacity(1, client.take(HEAD_BYTES_MAX));
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        lines.push(line.to_owned());
    }
    let mut first = lines
        .first()
        .map(String::as_str)
        .unwrap_or_default()
        .split(' ');
    let (Some(method), Some(target)) = (first.next(), first.next()) else {
        return Ok(None);
    };
    Ok(Some(Head {
        method: method.to_owned(),
        target: target.to_owned(),
        lines,
    }))
}

fn forward(head: &Head, client: &mut TcpStream, upstream: u16) -> io::Result<()> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream))?;
    for line in &head.lines {
        if !line.to_ascii_lowercase().starts_with("connection:") {
            write!(server, "{line}\r\n")?;
        }
    }
    server.write_all(b"Connection: close\r\n\r\n")?;
    let body: u64 = head
        .header("content-length")
        .and_then(|it| it.parse().ok())
        .unwrap_or(0);
    io::copy(&mut client.try_clone()?.take(body), &mut server)?;
    io::copy(&mut server, client)?;
    Ok(())
}

fn serve_file(head: &Head, client: &mut TcpStream, root: &Path) -> io::Result<()> {
    let path = head
        .target
        .split('?')
        .next()
        .unwrap_or_default()
        .trim_start_matches('/');
    let plain = !path
        .split('/')
        .any(|it| it.is_empty() || it == "." || it == "..");
    let file = if plain {
        File::open(root.join(path)).ok()
    } else {
        None
    };
    let meta = file
        .as_ref()
        .and_then(|it| it.metadata().ok())
        .filter(std::fs::Metadata::is_file);
    let (Some(file), Some(meta)) = (file, meta) else {
        let missing = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return client.write_all(missing.as_bytes());
    };
    let len = meta.len();
    write!(
        client,
        "HTTP/1.1 200 OK\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n"
    )?;
    if head.method != "HEAD" {
        io::copy(&mut file.take(len), client)?;
    }
    Ok(())
}
