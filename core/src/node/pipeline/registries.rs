//! From a registry's label to where its images are fetched.
//!
//! 1. What the owner configured.
//! 2. For the default registry: what Docker, containerd or Podman on this machine are configured
//!    with, else what a running Docker daemon says. No address is built into this program.
//! 3. A label that is a host is its own address, by `https`. Peers choose such labels, so only
//!    public addresses are asked; the owner can configure others.
//!
//! Facts do not mention the address, only the label: nodes behind different mirrors agree.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use url::Url;

use crate::node::pipeline::address::{is_loopback, may_be_public, parse_upstream};
use crate::node::pipeline::dockerd::default_registry;
use crate::node::pipeline::error::PipelineError;
use crate::node::pipeline::reach::NotPublic;
use crate::proto::package::docker::DEFAULT_REGISTRY;

/// Longest configuration file that is read. Unit: bytes.
const FILE_BYTES_MAX: u64 = 1_024 * 1_024;

/// Most files in a folder of configuration files that are read, in order of their names.
const FILES_MAX: usize = 64;

/// Where a registry's images are fetched: `<base>/v2/<prefix><repository>/…`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Registry {
    base: Url,
    prefix: String,
    is_named: bool,
}

impl Registry {
    /// Reads the address of a registry. A path is where a mirror keeps the images of the
    /// registry, as in Podman's configuration: `https://mirror.example/hub`.
    ///
    /// # Errors
    ///
    /// [`PipelineError::Setup`] if it is not an `http` or `https` URL without credentials.
    pub fn parse(text: &str) -> Result<Self, PipelineError> {
        let mut base = parse_upstream(text)?;
        let path = base.path().trim_matches('/');
        let path = path.strip_suffix("v2").unwrap_or(path).trim_matches('/');
        let prefix = match path {
            "" => String::new(),
            path => format!("{path}/"),
        };
        base.set_path("");
        base.set_query(None);
        base.set_fragment(None);
        Ok(Self {
            base,
            prefix,
            is_named: true,
        })
    }

    /// Whether this machine's configuration names it, so that it may be anywhere; otherwise
    /// somebody asked for it, perhaps a peer.
    pub(crate) fn is_named(&self) -> bool {
        self.is_named
    }

    /// The repository's name at this address.
    pub(crate) fn repository(&self, repository: &str) -> String {
        format!("{}{repository}", self.prefix)
    }

    /// The URL of `rest` in `repository`, such as `manifests/latest`.
    pub(crate) fn url(&self, repository: &str, rest: &str) -> String {
        let base = self.base.as_str().trim_end_matches('/');
        format!("{base}/v2/{}{repository}/{rest}", self.prefix)
    }

    fn is_own(&self, own_ports: &[u16]) -> bool {
        is_loopback(&self.base)
            && self
                .base
                .port_or_known_default()
                .is_some_and(|it| own_ports.contains(&it))
    }
}

/// Where other programs of this machine tell of their registries.
#[derive(Clone, Debug)]
pub struct RegistryFiles {
    /// The Docker daemon's socket.
    pub socket: PathBuf,
    /// Docker's `daemon.json`.
    pub docker: PathBuf,
    /// containerd's `certs.d`, a folder with one folder for each registry.
    pub containerd: PathBuf,
    /// Podman's `registries.conf`, and folders of such files; earlier ones count more.
    pub podman: Vec<PathBuf>,
}

impl RegistryFiles {
    /// The usual places.
    pub fn system(home: Option<&Path>) -> Self {
        let own = home.map(|it| it.join(".config/containers/registries.conf"));
        let shared = [
            "/etc/containers/registries.conf.d",
            "/etc/containers/registries.conf",
        ];
        Self {
            socket: "/var/run/docker.sock".into(),
            docker: "/etc/docker/daemon.json".into(),
            containerd: "/etc/containerd/certs.d".into(),
            podman: own.into_iter().chain(shared.map(PathBuf::from)).collect(),
        }
    }
}

/// Finds the address of a registry by its label.
#[derive(Clone, Debug)]
pub struct Registries {
    configured: BTreeMap<String, Registry>,
    discovered: Option<Registry>,
    socket: PathBuf,
    own_ports: Vec<u16>,
}

impl Registries {
    /// Takes what the owner `configured` (label → URL) and, unless that covers the default
    /// registry, what `files` say. Addresses of this machine with one of `own_ports` are the
    /// node's own front end and passed over: asking oneself would never end.
    ///
    /// # Errors
    ///
    /// [`PipelineError::Setup`] for a configured URL that cannot be used. Files that cannot be
    /// read are passed over.
    pub fn new(
        configured: &BTreeMap<String, String>,
        files: &RegistryFiles,
        own_ports: &[u16],
    ) -> Result<Self, PipelineError> {
        let configured = configured
            .iter()
            .map(|(label, url)| Ok((label.to_ascii_lowercase(), Registry::parse(url)?)))
            .collect::<Result<BTreeMap<_, _>, PipelineError>>()?;
        let discovered = candidates(files)
            .into_iter()
            .find(|it| !it.is_own(own_ports));
        Ok(Self {
            configured,
            discovered,
            socket: files.socket.clone(),
            own_ports: own_ports.to_vec(),
        })
    }

    /// Where the images of the registry `label` are fetched. Blocks for milliseconds if the Docker
    /// daemon has to be asked.
    ///
    /// # Errors
    ///
    /// [`PipelineError::Setup`], which says what to configure.
    pub fn find(&self, label: &str) -> Result<Registry, PipelineError> {
        if let Some(registry) = self.configured.get(label) {
            return Ok(registry.clone());
        }
        if label == DEFAULT_REGISTRY {
            return self.discovered.clone().or_else(|| self.ask_docker()).ok_or_else(|| {
                PipelineError::Setup(format!(
                    "no upstream is known for `{label}`, and no Docker daemon here tells one; give one with `--registry URL` or as \
                     `docker.registries.\"{label}\"` in the configuration"
                ))
            });
        }
        let registry = Registry::parse(&format!("https://{label}"))?;
        if !may_be_public(&registry.base) {
            return Err(PipelineError::Setup(NotPublic(label.into()).to_string()));
        }
        Ok(Registry {
            is_named: false,
            ..registry
        })
    }

    fn ask_docker(&self) -> Option<Registry> {
        let registry = Registry::parse(&default_registry(&self.socket)?).ok()?;
        (!registry.is_own(&self.own_ports)).then_some(registry)
    }
}

/// A host and perhaps a path, as an address.
fn address_of(location: &str) -> String {
    let is_local = Url::parse(&format!("http://{location}")).is_ok_and(|it| is_loopback(&it));
    let scheme = if is_local { "http" } else { "https" };
    format!("{scheme}://{location}")
}

/// Addresses for the default registry. First the server that containerd is told, which is the
/// registry itself; then mirrors, which may lag behind.
fn candidates(files: &RegistryFiles) -> Vec<Registry> {
    let mut urls = Vec::new();
    for folder in [DEFAULT_REGISTRY, "_default"] {
        urls.extend(containerd(
            &files.containerd.join(folder).join("hosts.toml"),
        ));
    }
    urls.extend(docker(&files.docker));
    for path in &files.podman {
        urls.extend(podman_files(path).iter().flat_map(|it| podman(it)));
    }
    urls.iter()
        .filter_map(|it| Registry::parse(it).ok())
        .collect()
}

/// `server`, then the hosts that may resolve tags.
fn containerd(path: &Path) -> Vec<String> {
    let Some(table) = read(path).and_then(|it| it.parse::<toml::Table>().ok()) else {
        return Vec::new();
    };
    let server = table.get("server").and_then(toml::Value::as_str);
    let hosts = table.get("host").and_then(toml::Value::as_table);
    let hosts = hosts.into_iter().flatten().filter(|(_, host)| {
        let capabilities = host.get("capabilities").and_then(toml::Value::as_array);
        let resolves = |it: &Vec<toml::Value>| it.iter().any(|it| it.as_str() == Some("resolve"));
        // Paths that override the API's own are not spoken here.
        host.get("override_path").is_none() && capabilities.is_none_or(resolves)
    });
    let server = server.map(str::to_owned);
    server
        .into_iter()
        .chain(hosts.map(|(url, _)| url.clone()))
        .collect()
}

fn docker(path: &Path) -> Vec<String> {
    let value = read(path).and_then(|it| serde_json::from_str::<serde_json::Value>(&it).ok());
    let mirrors = value
        .as_ref()
        .and_then(|it| it.get("registry-mirrors")?.as_array());
    let mirrors = mirrors.into_iter().flatten();
    mirrors
        .filter_map(|it| Some(it.as_str()?.to_owned()))
        .collect()
}

fn podman_files(path: &Path) -> Vec<PathBuf> {
    let Ok(folder) = path.read_dir() else {
        return vec![path.to_owned()];
    };
    let mut files: Vec<_> = folder
        .take(FILES_MAX)
        .flatten()
        .map(|it| it.path())
        .filter(|it| it.extension().is_some_and(|it| it == "conf"))
        .collect();
    files.sort();
    files
}

/// The place that stands in for the default registry, then its mirrors.
fn podman(path: &Path) -> Vec<String> {
    let Some(table) = read(path).and_then(|it| it.parse::<toml::Table>().ok()) else {
        return Vec::new();
    };
    let text = |table: &toml::Value, key: &str| Some(table.get(key)?.as_str()?.to_owned());
    let list = |table: Option<&toml::Value>| {
        let list = table.and_then(toml::Value::as_array);
        list.cloned().unwrap_or_default()
    };
    let mut urls = Vec::new();
    for registry in list(table.get("registry")) {
        let location = text(&registry, "location");
        let prefix = text(&registry, "prefix").or_else(|| location.clone());
        if prefix.as_deref() != Some(DEFAULT_REGISTRY) {
            continue;
        }
        urls.extend(location.filter(|it| it != DEFAULT_REGISTRY));
        let mirrors = list(registry.get("mirror"));
        urls.extend(mirrors.iter().filter_map(|it| text(it, "location")));
    }
    urls.iter().map(|it| address_of(it)).collect()
}

/// A whole text file, if it is one of reasonable length.
pub(crate) fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    let file = File::open(path).ok()?;
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A folder with configuration files and the paths to them.
    fn files(contents: &[(&str, &str)]) -> (tempfile::TempDir, RegistryFiles) {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in contents {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let files = RegistryFiles {
            socket: folder.path().join("docker.sock"),
            docker: folder.path().join("daemon.json"),
            containerd: folder.path().join("certs.d"),
            podman: vec![
                folder.path().join("conf.d"),
                folder.path().join("registries.conf"),
            ],
        };
        (folder, files)
    }

    fn manifest_url(contents: &[(&str, &str)], label: &str) -> Result<String, &'static str> {
        let (_folder, files) = files(contents);
        let registries = Registries::new(&BTreeMap::new(), &files, &[7888]).unwrap();
        let registry = registries.find(label).map_err(|it| it.code())?;
        Ok(registry.url("library/alpine", "manifests/3"))
    }

    #[test]
    fn the_default_registry_is_where_this_machine_looks_for_it() {
        let hosts = "server = 'https://real.example'\n[host.'http://127.0.0.1:7888']\n";
        let mirrored = "[host.'https://blobs.example']\ncapabilities = ['pull']\n\
            [host.'https://odd.example/x']\noverride_path = true\n\
            [host.'https://mirror.example']\ncapabilities = ['pull', 'resolve']\n";
        let daemon =
            r#"{"registry-mirrors": ["http://127.0.0.1:7888", "https://mirror.example/"]}"#;
        let conf = "[[registry]]\nlocation = 'quay.example'\n[[registry]]\nlocation = 'docker.io'\n\
            [[registry.mirror]]\nlocation = 'mirror.example/hub'\n";
        let replaced = "[[registry]]\nprefix = 'docker.io'\nlocation = '127.0.0.1:5000/hub'\n";
        for (path, content, expected) in [
            (
                "certs.d/docker.io/hosts.toml",
                hosts,
                "https://real.example/v2/",
            ),
            (
                "certs.d/_default/hosts.toml",
                mirrored,
                "https://mirror.example/v2/",
            ),
            ("daemon.json", daemon, "https://mirror.example/v2/"),
            ("registries.conf", conf, "https://mirror.example/v2/hub/"),
            ("conf.d/1.conf", replaced, "http://127.0.0.1:5000/v2/hub/"),
        ] {
            let expected = format!("{expected}library/alpine/manifests/3");
            assert_eq!(
                manifest_url(&[(path, content)], "docker.io"),
                Ok(expected),
                "{path}"
            );
        }
    }

    #[test]
    fn without_an_answer_the_user_is_told_what_to_set() {
        for contents in [
            &[][..],
            &[("daemon.json", "{")],
            &[(
                "daemon.json",
                r#"{"registry-mirrors": ["http://localhost:7888", 7, "nonsense"]}"#,
            )],
            &[
                ("certs.d/docker.io/hosts.toml", "server = 5"),
                ("registries.conf", "[[registry]]"),
            ],
        ] {
            assert_eq!(
                manifest_url(contents, "docker.io"),
                Err("setup"),
                "{contents:?}"
            );
        }
        let (_folder, files) = files(&[]);
        let registries = Registries::new(&BTreeMap::new(), &files, &[]).unwrap();
        let error = registries.find("docker.io").unwrap_err().to_string();
        assert!(
            error.contains("--registry") && error.contains("docker.registries"),
            "{error}"
        );
    }

    #[test]
    fn a_host_is_its_own_address() {
        for (label, expected) in [
            (
                "quay.example",
                "https://quay.example/v2/library/alpine/manifests/3",
            ),
            (
                "quay.example:8443",
                "https://quay.example:8443/v2/library/alpine/manifests/3",
            ),
            (
                "9.9.9.9:5000",
                "https://9.9.9.9:5000/v2/library/alpine/manifests/3",
            ),
        ] {
            assert_eq!(manifest_url(&[], label), Ok(expected.into()), "{label}");
        }
    }

    #[test]
    fn a_label_does_not_lead_into_this_machine_or_its_network() {
        for label in [
            "localhost",
            "localhost:5000",
            "a.localhost",
            "127.0.0.1:2375",
            "127.1:2375",
            "2130706433.:80",
            "0x7f.1",
            "0.0.0.0:80",
            "[::1]:1",
            "[::ffff:127.0.0.1]:80",
            "[64:ff9b::7f00:1]",
            "10.0.0.1",
            "172.16.0.1:8443",
            "192.168.1.1",
            "100.64.0.1",
            "169.254.169.254",
            "[fe80::1]",
            "[fd00:ec2::254]",
        ] {
            assert_eq!(manifest_url(&[], label), Err("setup"), "{label}");
        }
    }

    #[test]
    fn configuration_comes_first_and_may_name_any_machine() {
        let (_folder, files) = files(&[(
            "daemon.json",
            r#"{"registry-mirrors":["https://m.example"]}"#,
        )]);
        let configured = [
            (
                "docker.io".to_owned(),
                "https://cache.example/hub/".to_owned(),
            ),
            (
                "Quay.Example".to_owned(),
                "http://127.0.0.1:5000/v2/".to_owned(),
            ),
            ("10.0.0.1".to_owned(), "https://10.0.0.1".to_owned()),
        ];
        let registries = Registries::new(&configured.into(), &files, &[]).unwrap();
        let url = |label| registries.find(label).unwrap().url("a/b", "x");
        assert_eq!(url("docker.io"), "https://cache.example/v2/hub/a/b/x");
        assert_eq!(url("quay.example"), "http://127.0.0.1:5000/v2/a/b/x");
        assert_eq!(url("10.0.0.1"), "https://10.0.0.1/v2/a/b/x");
        for (label, is_named) in [
            ("docker.io", true),
            ("10.0.0.1", true),
            ("r.example", false),
        ] {
            let registry = registries.find(label).unwrap();
            assert_eq!(registry.is_named(), is_named, "{label}");
        }

        let unusable = [("a.example".to_owned(), "a.example".to_owned())];
        let error = Registries::new(&unusable.into(), &files, &[]).unwrap_err();
        assert_eq!(error.code(), "setup");
    }
}
