//! `kogge fetch`: gets an artifact or a whole package, verified against the log.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kogge::base::hex;
use kogge::{Digest, Sha256};
use serde_json::{Value, json};
use sha2::Digest as _;

use crate::Session;
use crate::client::Client;
use crate::commands::view::{File, Why};
use crate::commands::why;
use crate::failure::{During, Failure};
use crate::files::{self, Draft};
use crate::progress::Progress;
use crate::text::{Table, bytes, count, rate, span};

/// What to get.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// A digest, image, group:artifact:version, or package URL
    what: String,
    /// Only this file of a package
    file: Option<String>,
    /// Where to put it: a file, or a folder for a package; `-` is standard output
    #[arg(long, short)]
    output: Option<PathBuf>,
}

/// One file to get.
struct Item {
    package: String,
    file: File,
    path: PathBuf,
}

/// Gets it.
///
/// # Errors
///
/// [`Failure`] if it is not in the log, or does not come.
pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    let client = session.daemon()?;
    let (_, why) = why::ask(&client, &args.what).await?;
    let wanted: Option<Digest> = args.what.parse().ok();
    let chosen: Vec<&File> = why
        .files
        .iter()
        .filter(|it| {
            wanted
                .as_ref()
                .is_none_or(|digest| it.has(digest) || why.files.len() == 1)
        })
        .filter(|it| {
            args.file
                .as_ref()
                .is_none_or(|name| it.file == *name || it.base_name() == name)
        })
        .collect();
    let is_one = wanted.is_some() || args.file.is_some() || why.files.len() == 1;
    let is_image =
        why.package.starts_with("pkg:docker/") && wanted.is_none() && args.file.is_none();
    match chosen.as_slice() {
        [] => Err(no_such_file(&why)),
        [file, ..] if is_one && !is_image => {
            let path = args.output.unwrap_or_else(|| file.base_name().into());
            if path == Path::new("-") {
                return to_stdout(&client, file).await;
            }
            let item = Item {
                package: why.package.clone(),
                file: (*file).clone(),
                path,
            };
            get_all(session, &client, &args.what, vec![item]).await
        }
        _ if args.output.as_deref() == Some(Path::new("-")) => {
            let message = format!("{} has several files; name one of them", why.package);
            Err(Failure::input(message))
        }
        files => {
            let folder = args.output.unwrap_or_else(|| folder_of(&why).into());
            let items = match is_image {
                true => gather_image(&client, why, &folder).await?,
                false => {
                    let item = |it: &&File| Item {
                        package: why.package.clone(),
                        path: folder.join(it.base_name()),
                        file: (*it).clone(),
                    };
                    files.iter().map(item).collect()
                }
            };
            session.output.note(format!("into {}", folder.display()));
            get_all(session, &client, &args.what, items).await
        }
    }
}

fn no_such_file(why: &Why) -> Failure {
    let names: Vec<&str> = why
        .files
        .iter()
        .map(|it| it.file.as_str())
        .take(20)
        .collect();
    let message = format!(
        "{} has no such file; it has {}",
        why.package,
        names.join(", ")
    );
    Failure::new("not-found", message)
}

/// A folder name for a package: its last part and version, without what shells dislike.
fn folder_of(why: &Why) -> String {
    let name = match &why.tag {
        Some(tag) => format!("{}-{}", tag.repository, tag.tag),
        None => why
            .package
            .split('?')
            .next()
            .unwrap_or_default()
            .replace('@', "-"),
    };
    let name = name.rsplit('/').next().unwrap_or_default();
    let plain = |it: char| {
        if it.is_ascii_alphanumeric() || "._-".contains(it) {
            it
        } else {
            '-'
        }
    };
    let name: String = name.chars().map(plain).take(100).collect();
    let name = name.trim_start_matches('.');
    if name.is_empty() {
        "package".to_owned()
    } else {
        name.to_owned()
    }
}

/// All blobs of an image for an OCI layout in `folder`, and its two documents.
///
/// Source: OCI image-spec 1.1, "Image Layout".
async fn gather_image(client: &Client, root: Why, folder: &Path) -> Result<Vec<Item>, Failure> {
    let (mut items, mut seen, mut queue) = (Vec::new(), BTreeSet::new(), Vec::new());
    let tag = root.tag.as_ref().map(|it| it.tag.clone());
    let mut first = None;
    queue.push(root);
    while let Some(why) = queue.pop() {
        for file in why.files {
            if !seen.insert(file.sha256.clone()) {
                continue;
            }
            let is_index = file.file.starts_with("index/");
            if first.is_none() && (is_index || file.file.starts_with("manifest/")) {
                first = Some(file.clone());
            }
            for child in children(client, &file, is_index).await? {
                match why::ask(client, &child).await {
                    Ok((_, why)) => queue.push(why),
                    // Only some platforms were added.
                    Err(failure) if failure.code == "not-found" => (),
                    Err(failure) => return Err(failure),
                }
            }
            let path = folder.join("blobs/sha256").join(&file.sha256);
            items.push(Item {
                package: why.package.clone(),
                file,
                path,
            });
        }
    }
    if let Some(first) = first {
        let head = client.download(&artifact(&first)).await?;
        let media_type = head
            .media_type()
            .unwrap_or("application/vnd.oci.image.index.v1+json");
        let annotations = json!({"org.opencontainers.image.ref.name": tag});
        let index = json!({"schemaVersion": 2, "manifests": [{
            "mediaType": media_type, "digest": format!("sha256:{}", first.sha256), "size": first.size,
            "annotations": if tag.is_some() { annotations } else { json!({}) },
        }]});
        files::write(&folder.join("index.json"), index.to_string().as_bytes())?;
        files::write(
            &folder.join("oci-layout"),
            br#"{"imageLayoutVersion":"1.0.0"}"#,
        )?;
    }
    Ok(items)
}

/// Digests of the manifests in an index.
async fn children(client: &Client, file: &File, is_index: bool) -> Result<Vec<String>, Failure> {
    if !is_index {
        return Ok(Vec::new());
    }
    let index: Value = client.get(&artifact(file)).await?;
    let manifests = index["manifests"].as_array().into_iter().flatten();
    Ok(manifests
        .filter_map(|it| Some(it["digest"].as_str()?.to_owned()))
        .collect())
}

fn artifact(file: &File) -> String {
    format!("/api/artifacts/sha256:{}", file.sha256)
}

async fn get_all(
    session: &Session,
    client: &Client,
    what: &str,
    items: Vec<Item>,
) -> Result<(), Failure> {
    let total: u64 = items.iter().map(|it| it.file.size).sum();
    let mut progress = Progress::bytes(session.output, what, total);
    let mut done = 0;
    for item in &items {
        let mut draft = Draft::create(&item.path)?;
        let told = |count: u64| progress.set(done + count);
        get(client, &item.file, |bytes| draft.write(bytes), told).await?;
        draft.keep()?;
        done += item.file.size;
    }
    let millis = progress.millis();
    drop(progress);
    show(session, client, &items, total, millis).await
}

/// Gets one file in pieces and compares it with the log.
async fn get(
    client: &Client,
    file: &File,
    mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
    mut told: impl FnMut(u64),
) -> Result<(), Failure> {
    let mut download = client.download(&artifact(file)).await?;
    let (mut hasher, mut count) = (sha2::Sha256::new(), 0);
    while let Some(bytes) = download.next().await? {
        hasher.update(&bytes);
        count += bytes.len() as u64;
        take(&bytes)?;
        told(count);
    }
    let digest = Sha256(hasher.finalize().into()).to_string();
    if count != file.size || digest != file.sha256 {
        let message = format!(
            "{} did not come as logged: {count} of {} bytes, sha256 {digest} instead of {}",
            file.file, file.size, file.sha256
        );
        return Err(Failure::new("not-verified", message));
    }
    Ok(())
}

async fn to_stdout(client: &Client, file: &File) -> Result<(), Failure> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let write = |bytes: &[u8]| out.write_all(bytes).during("cannot write the result");
    get(client, file, write, |_| ()).await
}

async fn show(
    session: &Session,
    client: &Client,
    items: &[Item],
    total: u64,
    millis: u64,
) -> Result<(), Failure> {
    let mut told = Vec::new();
    let mut table = Table::new(&["file", "size", "entry", "came from"]);
    let mut packages: Vec<Why> = Vec::new();
    for item in items {
        if packages.iter().all(|it| it.package != item.package) {
            packages.push(why::ask(client, &item.package).await?.1);
        }
        let files = packages.iter().flat_map(|it| &it.files);
        // Asked again: only now it is known where the bytes came from.
        let file = files
            .into_iter()
            .find(|it| it.index == item.file.index)
            .unwrap_or(&item.file);
        let origin = file.origin.as_ref();
        let source =
            |it: &crate::commands::view::Part| json!({"source": it.source, "bytes": it.bytes});
        told.push(json!({
            "package": item.package, "file": file.file, "path": item.path, "size": file.size,
            "sha256": file.sha256, "blake3": file.blake3, "index": file.index,
            "sources": origin.map(|it| it.sources.iter().map(source).collect::<Vec<_>>()),
        }));
        let name = item.path.file_name().unwrap_or_default().to_string_lossy();
        let name = if hex::decode(&name).is_some() {
            crate::text::short(&name)
        } else {
            name.into_owned()
        };
        table.row([
            name,
            bytes(file.size),
            file.index.to_string(),
            why::came_from(file),
        ]);
    }
    let summary = format!(
        "{}, {} in {}, {}, all as logged\n",
        count(items.len() as u64, "file"),
        bytes(total),
        span(millis),
        rate(total, millis)
    );
    let value = json!({"files": told, "bytes": total, "millis": millis, "verified": true});
    session.output.show(&value, table.render() + &summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_have_plain_names() {
        let why = |package: &str, tag: Value| -> Why {
            serde_json::from_value(json!({
                "package": package, "tag": tag, "attested_by": [], "checkpoint": null, "files": []
            }))
            .unwrap()
        };
        let tag = json!({"registry": "r", "repository": "library/demo", "tag": "1.0",
            "digest": "", "index": 1, "time": 1});
        for (package, tag, expected) in [
            ("pkg:maven/g/lib@1.0?type=jar", Value::Null, "lib-1.0"),
            ("pkg:docker/x@sha256:aa", Value::Null, "x-sha256-aa"),
            ("pkg:docker/x@sha256:aa", tag, "demo-1.0"),
            ("pkg:x/..", Value::Null, "package"),
        ] {
            assert_eq!(folder_of(&why(package, tag)), expected, "{package}");
        }
    }
}
