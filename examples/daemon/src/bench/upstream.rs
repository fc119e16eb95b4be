//! A Maven repository on loopback with one package, whose jar is as long as wanted.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

use kogge::base::Rng;

use crate::failure::{During, Failure};

/// What to ask an authorized node for.
pub(super) const SPEC: &str = "maven org.example:big:1.0";

/// What it is called in the log.
pub(super) const PURL: &str = "pkg:maven/org.example/big@1.0";

/// Makes the repository below `folder` with a jar of `size` bytes, a multiple of 8, and serves it.
/// Returns the base URL and the jar.
///
/// # Errors
///
/// [`Failure`] if the files cannot be written, or there is no port.
pub(super) fn serve(folder: &Path, size: u64) -> Result<(String, PathBuf), Failure> {
    let jar = make(folder, size).during("cannot make the repository")?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).during("no port")?;
    let port = listener.local_addr().during("no port")?.port();
    let root = folder.to_owned();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let root = root.clone();
            thread::spawn(move || drop(answer(&client, &root)));
        }
    });
    Ok((format!("http://127.0.0.1:{port}"), jar))
}

fn make(folder: &Path, size: u64) -> io::Result<PathBuf> {
    let package = folder.join("org/example/big/1.0");
    fs::create_dir_all(&package)?;
    let pom = "<project><modelVersion>4.0.0</modelVersion><groupId>org.example</groupId>\
               <artifactId>big</artifactId><version>1.0</version></project>";
    fs::write(package.join("big-1.0.pom"), pom)?;
    let jar = package.join("big-1.0.jar");
    let (mut file, mut rng) = (BufWriter::new(File::create(&jar)?), Rng::new(size));
    for _ in 0..size / 8 {
        file.write_all(&rng.next_u64().to_le_bytes())?;
    }
    file.flush()?;
    Ok(jar)
}

/// One request per connection.
fn answer(client: &TcpStream, root: &Path) -> io::Result<()> {
    let mut lines = BufReader::new(client).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|it| !it.is_empty()) {}
    let mut words = first.split(' ');
    let method = words.next().unwrap_or_default();
    let path = words.next().unwrap_or_default().trim_start_matches('/');
    let mut client = client;
    // The only client is our own node: no path leads out of the folder.
    let Ok(mut file) = File::open(root.join(path)) else {
        return client.write_all(
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        );
    };
    let len = file.metadata()?.len();
    write!(
        client,
        "HTTP/1.1 200 OK\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n"
    )?;
    if method != "HEAD" {
        io::copy(&mut file, &mut client)?;
    }
    Ok(())
}
