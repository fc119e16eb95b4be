//! Getting everything through the registries of one regular node, as image and Maven clients do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use kogge::Sha256;
use serde_json::Value;
use sha2::Digest as _;

use crate::Session;
use crate::client::Client;
use crate::commands::demo::nodes::{Nodes, name_of, tcp};
use crate::commands::demo::packages::Added;
use crate::commands::demo::table::Row;
use crate::commands::view::{File, Why, names};
use crate::commands::why;
use crate::failure::{During, Failure};
use crate::progress::Progress;

/// Longest manifest. Unit: bytes.
const MANIFEST_BYTES_MAX: usize = 4 << 20;

/// How often a node is asked whether it has stored what it sent: for ten seconds.
const STORED_POLLS_MAX: u32 = 500;

/// Time between two such questions.
const STORED_INTERVAL: Duration = Duration::from_millis(20);

/// Gets every package and compares it with the log.
///
/// # Errors
///
/// [`Failure`] if the node does not answer; what does not fit is told in its row.
pub(crate) async fn everything(
    session: &Session,
    nodes: &Nodes,
    added: &[Added],
    dir: &Path,
) -> Result<Vec<Row>, Failure> {
    let (registry, owner) = (tcp(nodes.reader()), nodes.reader_client());
    let who = nodes.names().await?;
    let mut progress = Progress::steps(session.output, "packages fetched", added.len() as u64);
    let mut rows = Vec::new();
    for (at, it) in added.iter().enumerate() {
        if let Some(problem) = &it.problem {
            rows.push(Row::failed(&it.what, problem.clone()));
            continue;
        }
        let start = nodes.millis();
        let got = match it.is_image {
            true => image(&registry, owner, &it.what).await,
            false => maven(&registry, owner, &it.what).await,
        };
        let millis = nodes.millis() - start;
        rows.push(match got {
            Ok(packages) => row(owner, it, &packages, millis, &who).await?,
            Err(failure) => Row::failed(&it.what, failure.message),
        });
        progress.set(at as u64 + 1);
    }
    drop(progress);
    for it in added
        .iter()
        .filter(|it| it.is_image && it.problem.is_none())
    {
        rows.extend(skopeo(nodes, &it.what, dir).await?);
    }
    Ok(rows)
}

/// The files of a Maven version. Returns the packages that it consists of.
async fn maven(registry: &Client, owner: &Client, what: &str) -> Result<Vec<String>, Failure> {
    let (_, why) = why::ask(owner, what).await?;
    let parts: Vec<&str> = what.split(':').collect();
    let [group, artifact, version] = parts.as_slice() else {
        return Err(Failure::input(format!(
            "{what} is not group:artifact:version"
        )));
    };
    let folder = format!("/maven2/{}/{artifact}/{version}", group.replace('.', "/"));
    for file in &why.files {
        get(registry, &format!("{folder}/{}", file.file), file).await?;
    }
    Ok(vec![why.package])
}

/// An image with all its platforms, from the tag on. Returns the packages that it consists of.
async fn image(registry: &Client, owner: &Client, what: &str) -> Result<Vec<String>, Failure> {
    let (repository, tag) = what.rsplit_once(':').unwrap_or((what, "latest"));
    let (_, root) = why::ask(owner, what).await?;
    let target = root
        .tag
        .as_ref()
        .map(|it| it.digest.clone())
        .unwrap_or_default();
    let (mut packages, mut seen) = (Vec::new(), BTreeSet::new());
    let mut queue = vec![(tag.to_owned(), target, root)];
    while let Some((reference, digest, why)) = queue.pop() {
        let manifest = find(&why, &digest)?;
        let path = format!("/v2/{repository}/manifests/{reference}");
        let text = get(registry, &path, manifest).await?;
        let text: Value = serde_json::from_slice(&text).during(format!("the manifest {digest}"))?;
        for child in text["manifests"].as_array().into_iter().flatten() {
            let child = child["digest"].as_str().unwrap_or_default().to_owned();
            if seen.insert(child.clone()) {
                let (_, why) = why::ask(owner, &child).await?;
                queue.push((child.clone(), child, why));
            }
        }
        let layers = text["layers"].as_array().into_iter().flatten();
        for blob in layers.chain(text.get("config")) {
            let blob = blob["digest"].as_str().unwrap_or_default().to_owned();
            if seen.insert(blob.clone()) {
                get(
                    registry,
                    &format!("/v2/{repository}/blobs/{blob}"),
                    find(&why, &blob)?,
                )
                .await?;
            }
        }
        packages.push(why.package);
    }
    Ok(packages)
}

/// What the log says of a blob.
fn find<'a>(why: &'a Why, digest: &str) -> Result<&'a File, Failure> {
    let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
    let found = why.files.iter().find(|it| it.sha256 == hex);
    found.ok_or_else(|| {
        Failure::new(
            "not-found",
            format!("{digest} is not logged for {}", why.package),
        )
    })
}

/// Gets one file and compares it with the log. Returns the beginning of it.
async fn get(registry: &Client, path: &str, file: &File) -> Result<Vec<u8>, Failure> {
    let mut download = registry.download(path).await?;
    let (mut hasher, mut first) = (sha2::Sha256::new(), Vec::new());
    while let Some(bytes) = download.next().await? {
        hasher.update(&bytes);
        let room = MANIFEST_BYTES_MAX
            .saturating_sub(first.len())
            .min(bytes.len());
        first.extend_from_slice(bytes.get(..room).unwrap_or_default());
    }
    let digest = Sha256(hasher.finalize().into()).to_string();
    if digest != file.sha256 {
        let message = format!("{path} has sha256 {digest}, the log says {}", file.sha256);
        return Err(Failure::new("not-verified", message));
    }
    Ok(first)
}

/// The row of a package that came as logged.
async fn row(
    owner: &Client,
    added: &Added,
    packages: &[String],
    millis: u64,
    who: &[(String, String)],
) -> Result<Row, Failure> {
    let mut row = Row::new(&added.what, millis);
    let mut sources: BTreeMap<String, u64> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (at, package) in packages.iter().enumerate() {
        let why = stored(owner, package).await?;
        if at == 0 {
            row.attested_by = names(&why.attested_by);
            row.index = why.files.iter().map(|it| it.index).min();
        }
        for file in why.files.iter().filter(|it| seen.insert(it.sha256.clone())) {
            row.bytes += file.size;
            row.files += 1;
            for part in file.origin.iter().flat_map(|it| &it.sources) {
                *sources.entry(name_of(who, &part.source)).or_default() += part.bytes;
            }
        }
    }
    row.sources = sources.into_iter().collect();
    Ok(row)
}

/// What the node knows of a package of which it sent every file. It sends bytes as they come, so
/// the last of them may be on their way to the disk still.
async fn stored(owner: &Client, package: &str) -> Result<Why, Failure> {
    let mut polls = 0;
    loop {
        let (_, why) = why::ask(owner, package).await?;
        if why.files.iter().all(|it| it.origin.is_some()) || polls == STORED_POLLS_MAX {
            return Ok(why);
        }
        polls += 1;
        async_io::Timer::after(STORED_INTERVAL).await;
    }
}

/// Copies the image with a stock client, if it is installed.
async fn skopeo(nodes: &Nodes, what: &str, dir: &Path) -> Result<Option<Row>, Failure> {
    let target = dir.join(format!("skopeo-{}", what.replace(['/', ':'], "-")));
    let mut command = Command::new("skopeo");
    command
        .args([
            "copy",
            "--quiet",
            "--all",
            "--insecure-policy",
            "--src-tls-verify=false",
        ])
        .arg(format!(
            "docker://127.0.0.1:{}/{what}",
            nodes.reader().http_port
        ))
        .arg(format!("dir:{}", target.display()))
        .stdin(Stdio::null());
    let start = nodes.millis();
    let (sender, ended) = async_channel::bounded(1);
    std::thread::spawn(move || sender.send_blocking(command.output()));
    let output = match ended.recv().await.during("skopeo")? {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        output => output.during("skopeo")?,
    };
    let label = format!("skopeo copy {what}");
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let last = text.trim_end().lines().last().unwrap_or_default();
        return Ok(Some(Row::failed(&label, last.to_owned())));
    }
    let mut row = Row::new(&label, nodes.millis() - start);
    for entry in target.read_dir().during("the copy of the image")?.flatten() {
        row.bytes += entry.metadata().map_or(0, |it| it.len());
        row.files += 1;
    }
    row.sources = vec![(nodes.reader().name.clone(), row.bytes)];
    Ok(Some(row))
}
