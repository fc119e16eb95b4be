//! Serving connections, with limits on their number and on how long a client may take.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_lite::{AsyncRead, AsyncWrite, future};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};

use crate::body::Body;
use crate::io::{Io, Timer};
use crate::listen::Listener;
use crate::signal::{Signal, Watch, signal};

/// Connections served at once; further ones are closed at once.
const CONNECTIONS_MAX: usize = 1_024;

/// Longest request head that is buffered. Unit: bytes.
const HEAD_BYTES_MAX: usize = 64 * 1_024;

/// Silence after `accept` failed, mostly because descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long [`Doors::close`] waits for responses under way before it cuts them off.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Who a connection belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Client {
    /// Any local user: needs the token for calls that change something.
    Anybody,
    /// The owner, by the rights of the Unix socket.
    Owner,
}

/// Answers requests.
pub(crate) trait Answer: Send + Sync + 'static {
    /// Answers one request; never fails: errors are responses.
    fn answer(
        self: Arc<Self>,
        client: Client,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Body>> + Send;
}

/// Runs a future on an executor.
pub(crate) type Spawn = Arc<dyn Fn(future::Boxed<()>) + Send + Sync>;

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// To send a request head; also between two requests of one connection.
    pub(crate) head: Duration,
    /// To take at least one byte of a response.
    pub(crate) stall: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            stall: Duration::from_secs(60),
        }
    }
}

/// All listeners and connections of a front end.
pub(crate) struct Doors {
    hall: Arc<Hall>,
    closing: Signal,
    cutting: Signal,
    /// Every task holds it; when the last lets go, `empty` is raised.
    presence: Mutex<Option<Arc<Signal>>>,
    empty: Watch,
}

/// What listeners and connections share.
struct Hall {
    spawn: Spawn,
    patience: Patience,
    open: AtomicUsize,
    /// Raised: no new connections, no further requests.
    closing: Watch,
    /// Raised: cut off what still runs.
    cutting: Watch,
}

impl Doors {
    /// No listeners yet.
    pub(crate) fn new(spawn: Spawn, patience: Patience) -> Self {
        let (closing, closing_watch) = signal();
        let (cutting, cutting_watch) = signal();
        let (presence, empty) = signal();
        let hall = Hall {
            spawn,
            patience,
            open: AtomicUsize::new(0),
            closing: closing_watch,
            cutting: cutting_watch,
        };
        Self {
            hall: Arc::new(hall),
            closing,
            cutting,
            presence: Mutex::new(Some(Arc::new(presence))),
            empty,
        }
    }

    /// Raised when the doors close: endless responses end then.
    pub(crate) fn closing(&self) -> Watch {
        self.hall.closing.clone()
    }

    /// Serves what arrives at `listener`.
    pub(crate) fn serve(&self, listener: impl Listener, client: Client, answer: Arc<impl Answer>) {
        let Some(presence) = self.presence().clone() else {
            return; // Closed already.
        };
        let hall = self.hall.clone();
        (self.hall.spawn)(Box::pin(async move {
            let accepting = async {
                loop {
                    let Some(socket) = hall.accept(&listener).await else {
                        continue;
                    };
                    let (hall, answer, presence) = (hall.clone(), answer.clone(), presence.clone());
                    (hall.clone().spawn)(Box::pin(async move {
                        hall.connection(socket, client, answer).await;
                        drop(presence);
                    }));
                }
            };
            future::or(hall.closing.raised(), accepting).await;
        }));
    }

    /// Stops accepting, lets running responses finish, and cuts off what takes longer than
    /// [`CLOSE_TIMEOUT`]. Again does nothing.
    pub(crate) async fn close(&self) {
        self.closing.raise();
        drop(self.presence().take());
        let patience = async {
            async_io::Timer::after(CLOSE_TIMEOUT).await;
            self.cutting.raise();
            self.empty.raised().await;
        };
        future::or(self.empty.raised(), patience).await;
    }

    fn presence(&self) -> MutexGuard<'_, Option<Arc<Signal>>> {
        self.presence.lock().unwrap_or_else(|it| it.into_inner())
    }
}

/// A connection that counts.
struct Guest<S> {
    socket: S,
    _place: Place,
}

/// Counts a connection for as long as it lives.
struct Place(Arc<Hall>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Hall {
    /// The next connection; `None` if there is no room for it.
    async fn accept<L: Listener>(self: &Arc<Self>, listener: &L) -> Option<Guest<L::Socket>> {
        let socket = match listener.accept().await {
            Ok(socket) => socket,
            Err(error) => {
                tracing::debug!(%error, "cannot accept an HTTP connection");
                async_io::Timer::after(ACCEPT_PAUSE).await;
                return None;
            }
        };
        let open = self.open.fetch_add(1, Ordering::SeqCst);
        let _place = Place(self.clone());
        if CONNECTIONS_MAX <= open {
            tracing::warn!(limit = CONNECTIONS_MAX, "too many HTTP connections");
            return None;
        }
        Some(Guest { socket, _place })
    }

    async fn connection<S>(&self, guest: Guest<S>, client: Client, answer: Arc<impl Answer>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|request| {
            let answer = answer.clone();
            async move { Ok::<_, Infallible>(answer.answer(client, request).await) }
        });
        let io = Io::new(guest.socket, self.patience.stall);
        let mut served = pin!(
            http1::Builder::new()
                .timer(Timer)
                .header_read_timeout(self.patience.head)
                .max_buf_size(HEAD_BYTES_MAX)
                .serve_connection(io, service)
        );
        let closing = async {
            self.closing.raised().await;
            None
        };
        let ended = match future::or(async { Some(served.as_mut().await) }, closing).await {
            Some(ended) => ended,
            None => {
                served.as_mut().graceful_shutdown();
                let cut = async {
                    self.cutting.raised().await;
                    Ok(())
                };
                future::or(served, cut).await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "HTTP connection ended early");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;
    use crate::listen::listen_tcp;
    use crate::reply;

    /// Answers `/large` with much, `/late` when told so, everything else at once.
    struct Echo {
        release: Watch,
        begun: async_channel::Sender<()>,
    }

    impl Answer for Echo {
        async fn answer(self: Arc<Self>, _: Client, request: Request<Incoming>) -> Response<Body> {
            match request.uri().path() {
                "/large" => reply::text(vec![b'x'; 64 << 20]),
                "/late" => {
                    let _ = self.begun.send(()).await;
                    self.release.raised().await;
                    reply::text("late")
                }
                _ => reply::text("here"),
            }
        }
    }

    struct Site {
        doors: Doors,
        address: std::net::SocketAddr,
        release: Signal,
        begun: async_channel::Receiver<()>,
    }

    fn site(patience: Patience) -> Site {
        let spawn: Spawn = Arc::new(|task| {
            std::thread::spawn(|| async_io::block_on(task));
        });
        let (signal, release) = signal();
        let (sender, begun) = async_channel::bounded(1);
        let doors = Doors::new(spawn, patience);
        let listener = listen_tcp(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.get_ref().local_addr().unwrap();
        let echo = Echo {
            release,
            begun: sender,
        };
        doors.serve(listener, Client::Anybody, Arc::new(echo));
        Site {
            doors,
            address,
            release: signal,
            begun,
        }
    }

    impl Site {
        fn ask(&self, path: &str) -> TcpStream {
            let mut socket = TcpStream::connect(self.address).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_secs(60)))
                .unwrap();
            write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            socket
        }
    }

    fn rest(mut socket: TcpStream) -> String {
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }

    #[test]
    fn closing_lets_a_running_response_finish() {
        let site = site(Patience::default());
        let late = site.ask("/late");
        site.begun.recv_blocking().unwrap();
        let closed = async_io::block_on(future::poll_once(site.doors.close()));
        assert_eq!(closed, None);
        site.release.raise();
        assert!(rest(late).ends_with("late"));
        async_io::block_on(site.doors.close());
        assert!(TcpStream::connect(site.address).is_err());
    }

    #[test]
    fn who_takes_nothing_of_a_response_is_dropped() {
        let stall = Duration::from_millis(200);
        let site = site(Patience {
            stall,
            ..Patience::default()
        });
        let mut stuck = site.ask("/large");
        let mut status = [0; 12];
        stuck.read_exact(&mut status).unwrap();
        // The response is under way and nobody reads on: closing waits for the stall only.
        let close = async {
            site.doors.close().await;
            true
        };
        let late = async {
            async_io::Timer::after(CLOSE_TIMEOUT / 2).await;
            false
        };
        assert!(async_io::block_on(future::or(close, late)));
        assert!(rest(stuck).len() < 64 << 20);
    }

    #[test]
    fn a_connection_beyond_the_limit_is_closed_at_once() {
        let site = site(Patience::default());
        site.doors
            .hall
            .open
            .store(CONNECTIONS_MAX, Ordering::SeqCst);
        assert_eq!(rest(site.ask("/")), "");
        site.doors.hall.open.store(0, Ordering::SeqCst);
        let mut socket = site.ask("/");
        let mut status = [0; 12];
        socket.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
    }
}
