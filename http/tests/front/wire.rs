//! Bytes that no proper client sends.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use kogge::ReadThrough;

use crate::kit::Site;

fn status(answer: &[u8]) -> String {
    let head = String::from_utf8_lossy(answer);
    head.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn malformed_requests_are_refused_and_the_next_client_served() {
    let site = Site::start(ReadThrough::Off);
    let long_header = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: a\r\n".repeat(1_000));
    let long_path = format!(
        "GET /{} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "a".repeat(9_000)
    );
    for (bytes, expected) in [
        // A TLS hello: Docker falls back to plain HTTP only on a proper status line.
        (
            &b"\x16\x03\x01\x00\xf4\x01\x00\x00\xf0\x03\x03"[..],
            "HTTP/1.1 400",
        ),
        (b"\0\0\0\0\r\n\r\n", "HTTP/1.1 400"),
        (b"GET\r\n\r\n", "HTTP/1.1 400"),
        (b"GET / HTTP/9.9\r\n\r\n", "HTTP/1.1 400"),
        // HTTP/2 without an upgrade is closed without a word.
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""),
        (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", "HTTP/1.1 400"),
        (
            b"GET /v2/ HTTP/1.1\r\nConnection: close\r\n\r\n",
            "HTTP/1.1 400",
        ),
        (
            b"GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n",
            "HTTP/1.1 400",
        ),
        (
            b"GET http://evil.test/v2/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            "HTTP/1.1 403",
        ),
        (
            b"POST /api/builds HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\
              Content-Length: 2\r\n\r\nab",
            "HTTP/1.1 400",
        ),
        (b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n", "HTTP/1.0 404"),
        (
            b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\nConnection: close\r\n\r\n",
            "HTTP/1.1 403",
        ),
        (
            b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            "HTTP/1.1 400",
        ),
        (long_header.as_bytes(), "HTTP/1.1 431"),
        (many.as_bytes(), "HTTP/1.1 431"),
        (long_path.as_bytes(), "HTTP/1.1 414"),
    ] {
        let answer = status(&site.raw(bytes));
        let sent = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]);
        let as_expected = answer.starts_with(expected) && answer.is_empty() == expected.is_empty();
        assert!(as_expected, "{sent:?}: {answer}");
    }
    assert_eq!(site.get("/healthz").status, 200);
    site.stop();
}

#[test]
fn a_client_that_dawdles_over_its_head_is_dropped() {
    let site = Site::start(ReadThrough::Off);
    let address = site.http.address().unwrap();
    let clients = [
        &b"GET /v2/ HT"[..],
        b"",
        b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ];
    let mut sockets: Vec<TcpStream> = clients
        .iter()
        .map(|sent| {
            let mut socket = TcpStream::connect(address).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_secs(60)))
                .unwrap();
            socket.write_all(sent).unwrap();
            socket
        })
        .collect();
    for socket in &mut sockets {
        let mut answer = Vec::new();
        // Closed or reset: anything but the time-out of this test.
        if let Err(error) = socket.read_to_end(&mut answer) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }
    assert_eq!(site.get("/healthz").status, 200);
    site.stop();
}

#[test]
fn one_connection_serves_many_requests() {
    let site = Site::start(ReadThrough::Off);
    let mut socket = TcpStream::connect(site.http.address().unwrap()).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let last = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    socket
        .write_all(format!("{request}{request}{last}").as_bytes())
        .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 3);
    site.stop();
}
