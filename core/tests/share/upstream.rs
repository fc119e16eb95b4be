//! A Maven repository on loopback, from memory, that can be switched off, or stop half-way.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A server that ends with the process.
#[derive(Clone)]
pub(crate) struct Upstream(Arc<Inner>);

struct Inner {
    port: u16,
    files: Mutex<BTreeMap<String, Arc<Vec<u8>>>>,
    is_off: AtomicBool,
    is_holding: AtomicBool,
    served: AtomicUsize,
}

/// What is long. Unit: bytes.
const LONG_BYTES: usize = 1 << 20;

/// A file of a package: what follows the version in its name, and its length.
pub(crate) type File = (&'static str, usize);

impl Upstream {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let this = Self(Arc::new(Inner {
            port: listener.local_addr().unwrap().port(),
            files: Mutex::default(),
            is_off: AtomicBool::new(false),
            is_holding: AtomicBool::new(false),
            served: AtomicUsize::new(0),
        }));
        let server = this.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = server.clone();
                std::thread::spawn(move || server.answer(client));
            }
        });
        this
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/maven", self.0.port)
    }

    /// Publishes `org.example:<name>:1.0` with a POM and `files`; returns the contents of these.
    pub(crate) fn publish(&self, name: &str, files: &[File]) -> Vec<Arc<Vec<u8>>> {
        let pom = format!(
            "<project><modelVersion>4.0.0</modelVersion><groupId>org.example</groupId>\
             <artifactId>{name}</artifactId><version>1.0</version></project>"
        );
        let path = format!("/maven/org/example/{name}/1.0/{name}-1.0");
        let mut all = self.0.files.lock().unwrap();
        all.insert(format!("{path}.pom"), Arc::new(pom.into_bytes()));
        let contents = files.iter().map(|(suffix, bytes)| {
            let content = Arc::new(noise(&format!("{name}{suffix}"), *bytes));
            all.insert(format!("{path}{suffix}"), content.clone());
            content
        });
        contents.collect()
    }

    /// Drops every connection from now on.
    pub(crate) fn switch_off(&self) {
        self.0.is_off.store(true, Ordering::SeqCst);
    }

    /// Sends only half of long files from now on, and keeps the connections; or whole ones again.
    pub(crate) fn hold(&self, is_holding: bool) {
        self.0.is_holding.store(is_holding, Ordering::SeqCst);
    }

    /// Files served so far.
    pub(crate) fn served(&self) -> usize {
        self.0.served.load(Ordering::SeqCst)
    }

    fn answer(&self, mut client: TcpStream) -> io::Result<()> {
        let mut line = String::new();
        let mut reader = BufReader::new(client.try_clone()?);
        reader.read_line(&mut line)?;
        let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        while reader.read_line(&mut line)? > 2 {}
        if self.0.is_off.load(Ordering::SeqCst) {
            return Ok(());
        }
        let found = self.0.files.lock().unwrap().get(&target).cloned();
        let (status, body) = match &found {
            Some(body) => ("200 OK", body.as_slice()),
            None => ("404 Not Found", &[][..]),
        };
        self.0.served.fetch_add(body.len().min(1), Ordering::SeqCst);
        let length = body.len();
        write!(
            client,
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        )?;
        if self.0.is_holding.load(Ordering::SeqCst) && LONG_BYTES <= length {
            client.write_all(&body[..length / 2])?;
            // Until the client is gone.
            client.read_exact(&mut [0])?;
        }
        client.write_all(body)
    }
}

/// Bytes that depend on `seed` alone and do not repeat.
pub(crate) fn noise(seed: &str, bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    blake3::Hasher::new_derive_key("kogge 2026 test noise")
        .update(seed.as_bytes())
        .finalize_xof()
        .fill(&mut content);
    content
}
