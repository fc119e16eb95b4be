//! Where connections arrive: a TCP port for everybody, a Unix socket for the owner.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;

use async_io::Async;
use futures_lite::{AsyncRead, AsyncWrite};

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
    /// The owner's token cannot be read or made.
    #[error("the token file {path}: {problem}")]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// A socket that connections arrive at.
pub(crate) trait Listener: Send + Sync + 'static {
    /// A connection.
    type Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Socket>> + Send;
}

impl Listener for Async<TcpListener> {
    type Socket = Async<TcpStream>;

    async fn accept(&self) -> io::Result<Self::Socket> {
        let (socket, _) = Self::accept(self).await?;
        // Responses leave in few large writes: waiting for more only adds delay.
        socket.get_ref().set_nodelay(true)?;
        Ok(socket)
    }
}

#[cfg(unix)]
impl Listener for Async<std::os::unix::net::UnixListener> {
    type Socket = Async<std::os::unix::net::UnixStream>;

    async fn accept(&self) -> io::Result<Self::Socket> {
        Self::accept(self).await.map(|(socket, _)| socket)
    }
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
    make().map_err(|error| ListenError::Unix {
        path: path.clone(),
        error,
    })
}
