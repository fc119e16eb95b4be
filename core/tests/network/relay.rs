//! A port that leads to another one, which may become known later.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

/// Passes connections on. Its threads end with the connections and the process.
pub(crate) struct Relay {
    port: u16,
    target: Arc<OnceLock<u16>>,
    accepted: Arc<AtomicUsize>,
}

impl Relay {
    /// A relay whose clients wait until it leads somewhere.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (target, accepted) = (Arc::new(OnceLock::new()), Arc::new(AtomicUsize::new(0)));
        let (leads_to, count) = (target.clone(), accepted.clone());
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::SeqCst);
                let leads_to = leads_to.clone();
                thread::spawn(move || pass(client, *leads_to.wait()));
            }
        });
        Self {
            port,
            target,
            accepted,
        }
    }

    /// The multiaddr of the relay, without a peer.
    pub(crate) fn address(&self) -> String {
        format!("/ip4/127.0.0.1/tcp/{}", self.port)
    }

    /// Lets clients through to the port in a multiaddr.
    pub(crate) fn lead_to(&self, address: &str) {
        let port = address.split('/').nth(4).and_then(|it| it.parse().ok());
        self.target.set(port.unwrap()).unwrap();
    }

    /// Connections so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

fn pass(client: TcpStream, port: u16) {
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
        return;
    };
    let (Ok(from), Ok(to)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    thread::spawn(move || copy(from, to));
    copy(server, client);
}

/// Copies until either side ends, then ends both.
fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut chunk = [0; 4_096];
    while let Ok(count) = from.read(&mut chunk) {
        if count == 0 || to.write_all(&chunk[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
