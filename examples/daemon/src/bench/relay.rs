//! A relay of TCP connections that counts bytes: what a node sends and receives, its encryption
//! included, headers of TCP and IP not.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::failure::{During, Failure};

/// Bytes moved at once. Unit: bytes.
const BUFFER_BYTES: usize = 64 << 10;

/// A relay to one node; ends with the process.
pub(super) struct Relay {
    /// Where to dial the node through it (multiaddr).
    pub(super) address: String,
    bytes: Arc<AtomicU64>,
}

impl Relay {
    /// A relay to a node that listens at `target`: `/ip4/127.0.0.1/tcp/<port>/p2p/<peer>`.
    ///
    /// # Errors
    ///
    /// [`Failure`] if `target` is another address, or there is no port.
    pub(super) fn to(target: &str) -> Result<Self, Failure> {
        let parts: Vec<&str> = target.split('/').collect();
        let port = parts.get(4).and_then(|it| it.parse::<u16>().ok());
        let port = port.ok_or_else(|| Failure::new("bench", format!("no port in {target}")))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).during("no port")?;
        let own = listener.local_addr().during("no port")?.port();
        let bytes = Arc::new(AtomicU64::new(0));
        let counter = bytes.clone();
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
                    continue;
                };
                let _ = couple(&near, &far, &counter);
            }
        });
        let address = target.replacen(&format!("/tcp/{port}"), &format!("/tcp/{own}"), 1);
        Ok(Self { address, bytes })
    }

    /// Bytes in both directions so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

fn couple(near: &TcpStream, far: &TcpStream, counter: &Arc<AtomicU64>) -> io::Result<()> {
    for (from, to) in [(near, far), (far, near)] {
        let (from, to, counter) = (from.try_clone()?, to.try_clone()?, counter.clone());
        from.set_nodelay(true)?;
        thread::spawn(move || {
            let _ = pass(&from, &to, &counter);
            let _ = to.shutdown(Shutdown::Both);
            let _ = from.shutdown(Shutdown::Both);
        });
    }
    Ok(())
}

fn pass(mut from: &TcpStream, mut to: &TcpStream, counter: &AtomicU64) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = from.read(&mut buffer)?;
        let bytes = buffer.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(());
        }
        counter.fetch_add(count as u64, Ordering::Relaxed);
        to.write_all(bytes)?;
    }
}
