//! The front end as its host sees it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use kogge::Node;

use crate::api::Streams;
use crate::app::App;
use crate::config::HttpConfig;
use crate::guard::Guard;
use crate::images::Subjects;
use crate::listen::{ListenError, listen_tcp};
use crate::maven::Checksums;
use crate::server::{Client, Doors, Patience, Spawn};
use crate::signal::{Watch, signal};
use crate::source::Source;
use crate::token::Token;

/// The name of the owner's socket in the data directory.
#[cfg(unix)]
const SOCKET: &str = "control.sock";

/// A running front end. Dropping it closes its ports without waiting for responses.
pub struct Http {
    address: Option<SocketAddr>,
    socket: Option<PathBuf>,
    doors: Doors,
    asked: Watch,
}

impl Http {
    /// Opens the TCP port and the owner's Unix socket, and answers on the node's executor until
    /// [`Http::stop`]. Makes the owner's token if there is none.
    ///
    /// # Errors
    ///
    /// [`ListenError`] if a port, the socket or the token cannot be had; then nothing is open.
    pub fn start(node: Node, config: HttpConfig) -> Result<Self, ListenError> {
        let data_dir = node.data_dir().to_owned();
        let token = Token::load(&data_dir)?;
        let tcp = config.address.map(listen_tcp).transpose()?;
        let address = tcp.as_ref().and_then(|it| it.get_ref().local_addr().ok());
        let spawner = node.clone();
        let spawn: Spawn = Arc::new(move |task| spawner.spawn(task));
        let doors = Doors::new(spawn, Patience::default());
        let (stop, asked) = signal();
        let app = Arc::new(App {
            source: Source { node },
            guard: Guard {
                hosts: config.hosts,
                address,
                anonymous: config.anonymous,
                token,
            },
            checksums: Checksums::default(),
            subjects: Subjects::default(),
            streams: Streams::default(),
            closing: doors.closing(),
            stop,
        });
        #[cfg(unix)]
        let socket = {
            let path = data_dir.join(SOCKET);
            let listener = crate::listen::listen_unix(path.clone())?;
            doors.serve(listener, Client::Owner, app.clone());
            Some(path)
        };
        #[cfg(not(unix))]
        let socket = None;
        if let Some(listener) = tcp {
            doors.serve(listener, Client::Anybody, app);
        }
        Ok(Self {
            address,
            socket,
            doors,
            asked,
        })
    }

    /// The TCP address, with the port that was taken; `None` if there is none.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The owner's Unix socket, where the system has such.
    pub fn socket(&self) -> Option<&std::path::Path> {
        self.socket.as_deref()
    }

    /// Waits until the owner asks for the end of the node (`POST /api/shutdown`). It is for the
    /// host to do so: stop the front end, then shut the node down. Safe to drop.
    pub async fn asked_to_stop(&self) {
        self.asked.raised().await;
    }

    /// Closes the ports, lets responses under way finish for up to 10 seconds, and cuts off the
    /// rest. Again does nothing. To be called before [`Node::shutdown`], on whose executor the
    /// responses run.
    pub async fn stop(&self) {
        self.doors.close().await;
        if let Some(path) = &self.socket {
            // Somebody may have removed it already.
            let _ = std::fs::remove_file(path);
        }
    }
}
