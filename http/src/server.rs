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
