//! TCP sockets as the transport wants them: options, binding, connecting, addresses.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use async_io::{Async, Timer};
use futures_lite::future;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use socket2::{Domain, Protocol as IpProtocol, Socket, TcpKeepalive, Type};

/// Idle time before TCP asks whether the other end is still there. Below the two minutes after
/// which the more impatient home routers forget a connection.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);

/// Time between two such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// Connections that wait in the kernel for being accepted. More are refused by the kernel.
const BACKLOG_MAX: i32 = 1024;

/// What the error of [`listen`] says if another socket listens on the port. The layers above keep
/// nothing of an error but its text.
pub(crate) const PORT_TAKEN: &str = "the port is taken";

/// Opens a listening socket on `addr`.
///
/// The socket is bound without leave to share its port, so that a second node on the same port
/// fails instead of silently taking half of the connections. Sharing is allowed afterwards, for
/// our own dials, which leave from the listening port.
///
/// # Errors
///
/// [`PORT_TAKEN`], or the system's error.
pub(crate) fn listen(addr: SocketAddr) -> io::Result<Async<TcpListener>> {
    let socket = new_socket(addr)?;
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket
        .bind(&addr.into())
        .and_then(|()| socket.listen(BACKLOG_MAX))
        .map_err(|error| match error.kind() {
            kind @ io::ErrorKind::AddrInUse => io::Error::new(kind, PORT_TAKEN),
            _ => error,
        })?;
    share_port(&socket)?;
    Async::new(TcpListener::from(socket))
}

/// Makes an accepted connection ready for use.
///
/// # Errors
///
/// The system's error.
pub(crate) fn prepare(stream: TcpStream) -> io::Result<Async<TcpStream>> {
    let socket = Socket::from(stream);
    set_options(&socket)?;
    Async::new(socket.into())
}

/// Connects to `remote` within `timeout`, from `local` if given.
///
/// With `is_port_free` a taken pair of addresses leads to one more try from any port. Dropping the
/// future closes the socket.
///
/// # Errors
///
/// `TimedOut`, or the system's error.
pub(crate) async fn connect(
    remote: SocketAddr,
    local: Option<SocketAddr>,
    is_port_free: bool,
    timeout: Duration,
) -> io::Result<Async<TcpStream>> {
    let dial = async {
        match connect_from(remote, local).await {
            // The pair is a live connection or one in TIME_WAIT, or the listener is gone.
            Err(error) if is_port_free && local.is_some() && is_taken(&error) => {
                connect_from(remote, None).await
            }
            outcome => outcome,
        }
    };
    let late = async {
        Timer::after(timeout).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    future::or(dial, late).await
}

async fn connect_from(
    remote: SocketAddr,
    local: Option<SocketAddr>,
) -> io::Result<Async<TcpStream>> {
    let socket = new_socket(remote)?;
    if let Some(local) = local {
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        share_port(&socket)?;
        socket.bind(&local.into())?;
    }
    match socket.connect(&remote.into()) {
        Err(error) if !is_in_progress(&error) => return Err(error),
        Ok(()) | Err(_) => (),
    }
    let stream = Async::new(TcpStream::from(socket))?;
    stream.writable().await?;
    if let Some(error) = stream.get_ref().take_error()? {
        return Err(error);
    }
    // A dial to our own listening address from its own port can connect the socket to itself.
    if stream.get_ref().local_addr()? == stream.get_ref().peer_addr()? {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "the connection ended at itself",
        ));
    }
    Ok(stream)
}

fn new_socket(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(addr),
        Type::STREAM,
        Some(IpProtocol::TCP),
    )?;
    if addr.is_ipv6() {
        // The port stays free for a listener on IPv4.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    set_options(&socket)?;
    Ok(socket)
}

fn set_options(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive)
}

/// Lets other sockets that ask for it use the port of this one, too.
fn share_port(socket: &Socket) -> io::Result<()> {
    // On Windows the option would let other programs steal the port.
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    #[cfg(not(unix))]
    let _ = socket;
    Ok(())
}

/// Whether `error` concerns one incoming connection and not its listener.
pub(crate) fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock
            | io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

fn is_taken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable
    )
}

fn is_in_progress(error: &io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(libc::EINPROGRESS) {
        return true;
    }
    error.kind() == io::ErrorKind::WouldBlock
}

/// The socket address that `addr` spells: exactly an IP and a TCP port, and perhaps a peer id.
/// A longer address belongs to another transport.
pub(crate) fn to_socket_addr(addr: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = addr.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    match (parts.next()?, parts.next(), parts.next()) {
        (Protocol::Tcp(port), None | Some(Protocol::P2p(_)), None) => {
            Some(SocketAddr::new(ip, port))
        }
        _ => None,
    }
}

/// `addr` as a multiaddress.
pub(crate) fn to_multiaddr(addr: SocketAddr) -> Multiaddr {
    Multiaddr::from(addr.ip()).with(Protocol::Tcp(addr.port()))
}
