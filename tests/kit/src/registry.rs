//! A container registry on loopback: Debian's `docker-registry` behind a counting proxy.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::proxy::{Requests, Server};
use crate::run::{Child, Failure, command, free_port, run, wait_for_port};

/// The running registry.
#[derive(Debug)]
pub struct Registry {
    _process: Child,
    direct: u16,
    proxy: Server,
}

impl Registry {
    /// Starts an empty registry (or one over what is already in `folder`).
    ///
    /// # Errors
    ///
    /// [`Failure`] if `docker-registry` is missing or does not start.
    pub fn start(folder: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(folder)?;
        let direct = free_port()?;
        let config = folder.join("config.yml");
        let data = folder.join("data");
        let text = format!(
            "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: 127.0.0.1:{direct}\n",
            data.display()
        );
        std::fs::write(&config, text)?;
        let mut serve = Command::new("docker-registry");
        serve.arg("serve").arg(&config);
        let process = Child::start(&mut serve, &folder.join("registry.log"))?;
        wait_for_port(direct)?;
        Ok(Self {
            _process: process,
            direct,
            proxy: Server::proxy(direct)?,
        })
    }

    /// Base URL for nodes; requests are counted.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.proxy.port)
    }

    /// What nodes asked.
    pub fn requests(&self) -> &Requests {
        &self.proxy.requests
    }

    /// Drops every connection from now on (`true`), or serves again.
    pub fn switch_off(&self, off: bool) {
        self.proxy.switch_off(off);
    }

    /// Pushes an image, with every platform, from the OCI layout `layout` (`folder:tag`) as
    /// `name` (`library/demo:1.0`), past the counting proxy.
    ///
    /// # Errors
    ///
    /// [`Failure`] with skopeo's output.
    pub fn push(&self, layout: &str, name: &str) -> Result<(), Failure> {
        let target = format!("docker://127.0.0.1:{}/{name}", self.direct);
        let source = format!("oci:{layout}");
        let args = [
            "copy",
            "--quiet",
            "--all",
            "--insecure-policy",
            "--dest-tls-verify=false",
            &source,
        ];
        run(command("skopeo", &args).arg(target)).map(drop)
    }

    /// Where `skopeo` finds the image without being counted.
    pub fn direct(&self, name: &str) -> String {
        format!("docker://127.0.0.1:{}/{name}", self.direct)
    }
}

/// The registry with the demo images, made once and kept in `cache`.
///
/// # Errors
///
/// [`Failure`] naming the tool that is missing or failed.
pub fn with_demo_images(cache: &Path, folder: &Path) -> Result<Registry, Failure> {
    let layout: PathBuf = crate::image::demo_layout(cache)?;
    let registry = Registry::start(folder)?;
    let layout = layout.display();
    registry.push(&format!("{layout}:small"), "library/demo:1.0")?;
    registry.push(&format!("{layout}:large"), "library/demo-large:1.0")?;
    Ok(registry)
}
