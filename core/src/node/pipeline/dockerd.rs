//! What the Docker daemon of this machine says is its default registry.

use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

/// How long the daemon may take for each step. It answers in milliseconds, or it hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest answer that is read. Unit: bytes.
const ANSWER_BYTES_MAX: usize = 1_024 * 1_024;

/// Most reads of an answer, so that one that trickles does not last.
const READS_MAX: usize = 64;

/// The request. HTTP/1.0 keeps the answer in one piece, up to the end of the stream.
const REQUEST: &[u8] = b"GET /info HTTP/1.0\r\nHost: docker\r\n\r\n";

/// The URL of the registry behind names without a host, `None` if no daemon listens on `socket`
/// or its answer says nothing. Takes a few milliseconds; a hanging daemon is given up.
pub(crate) fn default_registry(socket: &Path) -> Option<String> {
    let answer = ask(socket).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.lines().next()?;
    if status.split(' ').nth(1) != Some("200") {
        return None;
    }
    let info: serde_json::Value = serde_json::from_str(body).ok()?;
    // The address of the first, retired interface of the registry; the host is the same.
    let mut url = url::Url::parse(info.get("IndexServerAddress")?.as_str()?).ok()?;
    url.set_path("");
    Some(url.into())
}

fn ask(socket: &Path) -> io::Result<String> {
    let mut stream = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    stream.connect_timeout(&SockAddr::unix(socket)?, ANSWER_TIMEOUT)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    stream.write_all(REQUEST)?;
    let (mut answer, mut length) = (vec![0; ANSWER_BYTES_MAX], 0);
    for _ in 0..READS_MAX {
        let count = stream.read(answer.get_mut(length..).unwrap_or_default())?;
        length += count;
        if count == 0 {
            answer.truncate(length);
            return String::from_utf8(answer).map_err(io::Error::other);
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// What is understood of a daemon that answers `answer`.
    fn told(answer: &'static str) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let daemon = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; REQUEST.len()];
            stream.read_exact(&mut request).unwrap();
            assert_eq!(request, REQUEST);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let registry = default_registry(&socket);
        daemon.join().unwrap();
        registry
    }

    #[test]
    fn the_daemon_tells_its_registry() {
        for (answer, expected) in [
            (
                "HTTP/1.0 200 OK\r\nServer: Docker\r\n\r\n\
                 {\"IndexServerAddress\": \"https://index.registry.example/v1/\"}",
                Some("https://index.registry.example/"),
            ),
            (
                "HTTP/1.0 403 Forbidden\r\n\r\n{\"IndexServerAddress\": \"https://a.example\"}",
                None,
            ),
            ("HTTP/1.0 200 OK\r\n\r\n{\"IndexServerAddress\": 7}", None),
            ("HTTP/1.0 200 OK\r\n\r\n{", None),
            ("", None),
        ] {
            assert_eq!(told(answer).as_deref(), expected, "{answer}");
        }
        assert_eq!(
            default_registry(Path::new("/nonexistent/docker.sock")),
            None
        );
    }
}
