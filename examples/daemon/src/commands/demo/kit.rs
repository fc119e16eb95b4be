//! The upstreams of the demo: a program of its own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_lite::future;
use serde::Deserialize;

use crate::Session;
use crate::failure::{During, Failure};
use crate::progress::Progress;

/// How long the kit may take to be ready; the first time it makes images and gets packages.
const READY_TIMEOUT: Duration = Duration::from_secs(600);

/// The running kit; killed when dropped.
pub(crate) struct Kit(Child);

/// What the kit tells.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Fixture {
    /// URL of the container registry.
    pub(crate) registry: String,
    /// URL of the Maven repository.
    pub(crate) repository: String,
    /// Coordinates of its packages.
    pub(crate) packages: Vec<String>,
    /// Images in the registry.
    pub(crate) images: Vec<String>,
}

impl Kit {
    /// Starts the program at `path`; its standard error goes to a log in `dir`.
    ///
    /// # Errors
    ///
    /// [`Failure`] if it does not start, or does not tell its addresses in time.
    pub(crate) async fn start(
        session: &Session,
        path: &Path,
        cache: &Path,
        dir: &Path,
    ) -> Result<(Self, Fixture), Failure> {
        let what = || format!("cannot start the kit {}", path.display());
        let log = std::fs::File::create(dir.join("kit.log")).during(what())?;
        let mut child = Command::new(path)
            .arg(cache)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .during(what())?;
        let stdout = child.stdout.take();
        let kit = Self(child);
        let (sender, line) = async_channel::bounded(1);
        // Reading blocks, so it has a thread; it ends with the line or with the kit.
        std::thread::spawn(move || {
            let mut text = String::new();
            if let Some(stdout) = stdout {
                let _ = BufReader::new(stdout).read_line(&mut text);
            }
            let _ = sender.send_blocking(text);
        });
        let _progress = Progress::waiting(session.output, "starting the upstreams");
        let late = async {
            async_io::Timer::after(READY_TIMEOUT).await;
            None
        };
        let text = future::or(async { line.recv().await.ok() }, late).await;
        let fixture = text.as_deref().and_then(|it| serde_json::from_str(it).ok());
        let missing = || {
            let log = dir.join("kit.log");
            let message = format!(
                "the kit {} told no addresses; see {}",
                path.display(),
                log.display()
            );
            Failure::new("kit", message)
        };
        Ok((kit, fixture.ok_or_else(missing)?))
    }

    /// Lets the kit end by itself: it does when its standard input closes.
    pub(crate) fn stop(mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

impl Drop for Kit {
    fn drop(&mut self) {
        // Its own children end with it only if it ends by itself.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
