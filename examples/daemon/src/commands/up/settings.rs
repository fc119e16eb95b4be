//! The options of `kogge up`: they overrule the configuration file.

use std::path::PathBuf;

use kogge::{Config, ReadThrough};
use kogge_http::HttpConfig;

use crate::commands::up::trace::LogForm;
use crate::failure::Failure;
use crate::place::Place;

/// How to run.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct Args {
    /// Listen for peers here (multiaddr, port 0 takes a free one); repeat for more
    #[arg(long, value_name = "MULTIADDR")]
    listen: Vec<String>,
    /// Keep a connection to this peer (multiaddr); repeat for more
    #[arg(long, value_name = "MULTIADDR")]
    peer: Vec<String>,
    /// Find peers in the status of this node (http://host:port/status); repeat for more
    #[arg(long, value_name = "URL")]
    bootstrap_url: Vec<String>,
    /// Listen for HTTP here, such as 127.0.0.1:7888; `off` for none
    #[arg(long, value_name = "ADDRESS")]
    http: Option<String>,
    /// Where images of a registry are fetched; repeat for more
    #[arg(long, value_name = "LABEL=URL", value_parser = label_and_url)]
    registry: Vec<(String, String)>,
    /// Where Maven packages are fetched; repeat for more
    #[arg(long, value_name = "URL")]
    repository: Vec<String>,
    /// Whether a pull of something the log lacks asks for its build [default: auto: if solo]
    #[arg(long, value_name = "auto|on|off", value_parser = read_through)]
    read_through: Option<ReadThrough>,
    /// Give nothing to peers
    #[arg(long)]
    no_share: bool,
    /// Most payload sent to peers
    #[arg(long, value_name = "KB/S")]
    upload_kb_per_s: Option<u64>,
    /// Most payload received from peers
    #[arg(long, value_name = "KB/S")]
    download_kb_per_s: Option<u64>,
    /// Disk space for artifacts
    #[arg(long, value_name = "MB")]
    disk_mb: Option<u64>,
    /// Join this network: a file with its genesis
    #[arg(long, value_name = "FILE")]
    pub(crate) genesis: Option<PathBuf>,
    /// Form of the log on standard error; what is logged: RUST_LOG, such as kogge=debug
    #[arg(long, value_enum, default_value_t)]
    pub(crate) log: LogForm,
    /// End when standard input does
    #[arg(long, hide = true)]
    pub(crate) until_eof: bool,
}

/// The configuration with the options over it.
///
/// # Errors
///
/// [`Failure`] naming the setting that is out of range.
pub(crate) fn apply(args: &Args, place: &Place) -> Result<(Config, HttpConfig), Failure> {
    let (mut config, mut http) = (place.config.clone(), place.http.clone());
    let replace = |target: &mut Vec<String>, given: &[String]| {
        if !given.is_empty() {
            *target = given.to_vec();
        }
    };
    replace(&mut config.listen, &args.listen);
    replace(&mut config.repositories, &args.repository);
    config.peers.extend_from_slice(&args.peer);
    config.bootstrap_urls.extend_from_slice(&args.bootstrap_url);
    config.registries.extend(args.registry.iter().cloned());
    config.read_through = args.read_through.unwrap_or(config.read_through);
    let limits = &mut config.limits;
    limits.share &= !args.no_share;
    let rate = |it: u64| it.saturating_mul(1_000);
    limits.upload = args.upload_kb_per_s.map(rate).or(limits.upload);
    limits.download = args.download_kb_per_s.map(rate).or(limits.download);
    limits.disk = args
        .disk_mb
        .map_or(limits.disk, |it| it.saturating_mul(1 << 20));
    config.check()?;
    match args.http.as_deref() {
        None => {}
        Some("off") => http.address = None,
        Some(text) => {
            let address = text.parse().map_err(|_| {
                Failure::input(format!(
                    "--http: `{text}` is not an address; want such as 127.0.0.1:7888, or off"
                ))
            })?;
            http.address = Some(address);
        }
    }
    Ok((config, http))
}

fn label_and_url(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((label, url)) if !label.is_empty() => Ok((label.to_owned(), url.to_owned())),
        _ => Err("want such as registry.test=http://127.0.0.1:5000".into()),
    }
}

fn read_through(text: &str) -> Result<ReadThrough, String> {
    match text {
        "auto" => Ok(ReadThrough::Auto),
        "on" => Ok(ReadThrough::On),
        "off" => Ok(ReadThrough::Off),
        _ => Err("want auto, on or off".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place {
            data_dir: "/x".into(),
            file: None,
            config: Config::new("/x"),
            http: HttpConfig::default(),
        }
    }

    #[test]
    fn options_overrule_the_file() {
        let args = Args {
            listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
            peer: vec!["/ip4/127.0.0.1/tcp/1".into()],
            http: Some("off".into()),
            registry: vec![label_and_url("r.test=http://127.0.0.1:1").unwrap()],
            read_through: Some(read_through("on").unwrap()),
            no_share: true,
            upload_kb_per_s: Some(5),
            ..Args::default()
        };
        let (config, http) = apply(&args, &place()).unwrap();
        assert_eq!(http.address, None);
        assert_eq!((config.listen, config.peers), (args.listen, args.peer));
        assert_eq!(
            (config.limits.share, config.limits.upload),
            (false, Some(5_000))
        );
        assert_eq!(config.read_through, ReadThrough::On);
        assert_eq!(config.registries["r.test"], "http://127.0.0.1:1");
    }

    #[test]
    fn bad_options_are_named() {
        for (args, part) in [
            (
                Args {
                    http: Some("localhost".into()),
                    ..Args::default()
                },
                "--http",
            ),
            (
                Args {
                    listen: vec!["nowhere".into()],
                    ..Args::default()
                },
                "`listen`",
            ),
            (
                Args {
                    disk_mb: Some(1),
                    ..Args::default()
                },
                "`limits.disk_mb`",
            ),
        ] {
            let message = apply(&args, &place()).unwrap_err().message;
            assert!(message.contains(part), "{message}");
        }
        assert!(label_and_url("http://x").is_err() && read_through("maybe").is_err());
    }
}
