//! Accepting connections: TCP on loopback for everybody, a Unix socket for the owner.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_io::Async;
use futures_lite::{AsyncRead, AsyncWrite, future};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};

use crate::body::Body;
use crate::io::{Io, Timer};

/// Connections served at once; further ones are closed at once.
const CONNECTIONS_MAX: usize = 1_024;

/// How long a client may take to send a request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest request head that is buffered. Unit: bytes.
const HEAD_BYTES_MAX: usize = 64 * 1_024;

/// Silence after `accept` failed, mostly because descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the front end cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The TCP address is taken or not ours.
    #[error("cannot listen for HTTP on {address}: {error}; set another `http.address`")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The Unix socket cannot be made.
    #[error("cannot make the control socket {path}: {error}")]
    Unix {
        /// The socket's path.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

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

/// Opens a TCP listener.
pub(crate) fn listen_tcp(address: SocketAddr) -> Result<Async<TcpListener>, ListenError> {
    TcpListener::bind(address)
        .and_then(Async::new)
        .map_err(|error| ListenError::Tcp { address, error })
}

/// Makes the owner's socket at `path`, mode 0600, over a stale one if there is one.
#[cfg(unix)]
pub(crate) fn listen_unix(
    path: PathBuf,
) -> Result<Async<std::os::unix::net::UnixListener>, ListenError> {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;
    let make = || {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => (),
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Async::new(listener)
    };
    make().map_err(|error| ListenError::Unix { path: path.clone(), error })
}

/// Serves connections that `accept` yields, until the future is dropped.
pub(crate) async fn serve<S, F>(
    accept: impl Fn() -> F,
    client: Client,
    answer: Arc<impl Answer>,
    spawn: &(dyn Fn(future::Boxed<()>) + Send + Sync),
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = io::Result<S>>,
{
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok(socket) = accept().await else {
            async_io::Timer::after(ACCEPT_PAUSE).await;
            continue;
        };
        if CONNECTIONS_MAX <= open.fetch_add(1, Ordering::SeqCst) {
            open.fetch_sub(1, Ordering::SeqCst);
            tracing::warn!(limit = CONNECTIONS_MAX, "too many HTTP connections");
            continue;
        }
        let (answer, open) = (answer.clone(), Open(open.clone()));
        spawn(Box::pin(async move {
            connection(socket, client, answer).await;
            drop(open);
        }));
    }
}

/// Counts a connection for as long as it lives.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn connection<S>(socket: S, client: Client, answer: Arc<impl Answer>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| {
        let answer = answer.clone();
        async move { Ok::<_, Infallible>(answer.answer(client, request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(Timer)
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(Io(socket), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "HTTP connection ended early");
    }
}
