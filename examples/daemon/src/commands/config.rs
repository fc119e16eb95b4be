//! `kogge config`: shows and checks the configuration.

use std::path::PathBuf;

use kogge::node::config::read_text;
use kogge::{Admit, Config};
use kogge_http::HttpConfig;
use serde_json::{Value, json};

use crate::Session;
use crate::failure::Failure;
use crate::text::{Fields, bytes};

/// What to do.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Command {
    /// Show the configuration as it holds, defaults included
    Show,
    /// Check a configuration file
    Check {
        /// The file [default: the one that `kogge up` would read]
        file: Option<PathBuf>,
    },
}

/// Does it.
///
/// # Errors
///
/// [`Failure`] naming the line or the setting that is wrong.
pub(crate) fn run(session: &Session, command: &Command) -> Result<(), Failure> {
    let place = &session.place;
    match command {
        Command::Show => {
            let value = values(&place.config, &place.http);
            let file = place.file.as_ref().map_or_else(
                || format!("none; {} would be read", place.config_path().display()),
                |it| it.display().to_string(),
            );
            session
                .output
                .show(&value, render(&place.config, &place.http, &file))
        }
        Command::Check { file } => {
            let path = file.clone().unwrap_or_else(|| place.config_path());
            let text = read_text(&path)?;
            Config::from_toml(&text, &path, &place.data_dir)?;
            HttpConfig::from_toml(&text, &path)?;
            let told = format!("{} is good\n", path.display());
            session
                .output
                .show(&json!({"path": path, "good": true}), told)
        }
    }
}

fn values(config: &Config, http: &HttpConfig) -> Value {
    let limits = &config.limits;
    json!({
        "data_dir": config.data_dir,
        "threads": config.threads,
        "listen": config.listen,
        "peers": config.peers,
        "bootstrap_urls": config.bootstrap_urls,
        "network": match &config.admit {
            Admit::All => json!({"admit": "all"}),
            Admit::Listed(nodes) => json!({"admit": "listed", "nodes": nodes}),
        },
        "read_through": config.read_through,
        "limits": {
            "upload_bytes_per_s": limits.upload,
            "download_bytes_per_s": limits.download,
            "share": limits.share,
            "disk_bytes": limits.disk,
            "connections": limits.connections,
            "builds": limits.builds,
            "fetch_timeout_s": limits.fetch_timeout.as_secs(),
        },
        "docker": {"registries": config.registries},
        "maven": {"repositories": config.repositories},
        "http": {"address": http.address, "hosts": http.hosts, "anonymous": http.anonymous},
    })
}

fn render(config: &Config, http: &HttpConfig, file: &str) -> String {
    let limits = &config.limits;
    let rate = |it: Option<u64>| it.map_or_else(|| "unlimited".into(), |it| bytes(it) + "/s");
    let list = |it: &[String], none: &str| match it {
        [] => none.to_owned(),
        some => some.join(", "),
    };
    let mut fields = Fields::default();
    fields.add("file", file);
    fields.add("data_dir", config.data_dir.display().to_string());
    fields.add("threads", config.threads.to_string());
    fields.add("listen", list(&config.listen, "nowhere"));
    fields.add("peers", list(&config.peers, "none"));
    fields.add("bootstrap_urls", list(&config.bootstrap_urls, "none"));
    let admitted = match &config.admit {
        Admit::All => "anybody".to_owned(),
        Admit::Listed(nodes) => format!("authorized nodes and {} listed ones", nodes.len()),
    };
    fields.add("admitted", admitted);
    fields.add(
        "read_through",
        format!("{:?}", config.read_through).to_lowercase(),
    );
    fields.add(
        "limits",
        format!(
            "upload {}, download {}",
            rate(limits.upload),
            rate(limits.download)
        ),
    );
    let share = if limits.share {
        "given to peers"
    } else {
        "not given to peers"
    };
    fields.add("", format!("{} on disk, {share}", bytes(limits.disk)));
    let timeout = limits.fetch_timeout.as_secs();
    fields.add(
        "",
        format!(
            "{} connections, {} builds at once, fetches may stall {timeout} s",
            limits.connections, limits.builds
        ),
    );
    let registries: Vec<String> = config
        .registries
        .iter()
        .map(|(label, url)| format!("{label} = {url}"))
        .collect();
    fields.add(
        "docker",
        list(&registries, "what this machine's container tools use"),
    );
    fields.add(
        "maven",
        list(&config.repositories, "what this machine's Maven uses"),
    );
    fields.add(
        "http",
        http.address
            .map_or_else(|| "off".into(), |it| it.to_string()),
    );
    if !http.hosts.is_empty() {
        fields.add("", format!("also called {}", http.hosts.join(", ")));
    }
    if http.anonymous {
        fields.add("", "anybody who reaches it may change things");
    }
    fields.render()
}
