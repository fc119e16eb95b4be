//! Answers to Maven and its relatives.

use hyper::Response;
use hyper::header::{HeaderMap, HeaderName};
use hyper::http::request::Parts;
use kogge::base::Algorithm;
use kogge::proto::build::{BuildSpec, Maven};
use kogge::proto::package::layout::Target;
use kogge::proto::package::{Coordinates, MavenPath, Purl, metadata};

use crate::body::Body;
use crate::deliver::{deliver, insert};
use crate::maven::checksum::{self, Checksums};
use crate::problem::{Fault, Problem};
use crate::reply;
use crate::source::{Found, Source};

/// Answers a request for `path`, relative to the repository's root.
///
/// # Errors
///
/// [`Problem`]; [`Fault::NotFound`] only when it is sure.
pub(crate) async fn serve(
    source: &Source,
    checksums: &Checksums,
    request: &Parts,
    path: &str,
) -> Result<Response<Body>, Problem> {
    let path: MavenPath = path.parse().map_err(|_| {
        not_found("no file of a Maven repository has this path; folders are not listed")
    })?;
    match &path.target {
        Target::Metadata { .. } => versions(source, &path),
        Target::File {
            coordinates,
            variant,
            name,
        } => {
            let found = find(source, coordinates, name).await?;
            match path.checksum {
                Some(kind) => Ok(reply::text(checksums.of(source, &found, kind).await?)),
                None => {
                    let extra = checksum_headers(checksums, &found);
                    deliver(source, request, &found, variant.media_type(), extra).await
                }
            }
        }
    }
}

/// A file of a version that is in the log, or gets there.
async fn find(source: &Source, coordinates: &Coordinates, name: &str) -> Result<Found, Problem> {
    let purl = coordinates.purl().map_err(|it| not_found(it.to_string()))?;
    if let Some(found) = source.file(purl.as_str(), name)? {
        return Ok(found);
    }
    if name.ends_with(".asc") {
        return Err(not_found(
            "signatures are not in the log; its checkpoints vouch for files",
        ));
    }
    let (group, artifact) = (coordinates.group(), coordinates.artifact());
    // Versions that move cannot be asked for.
    let spec = Maven::new(None, group, artifact, coordinates.version());
    let look = || Ok(Some(source.files(purl.as_str())?).filter(|it| !it.is_empty()));
    let spec = spec.ok().map(BuildSpec::Maven);
    let files = source.obtain(&coordinates.to_string(), spec, look).await?;
    // A version enters the log with all its files.
    let found = files.into_iter().find(|it| it.entry.file == name);
    found.ok_or_else(|| {
        not_found(format!(
            "{coordinates} is in the log and has no file {name}"
        ))
    })
}

/// The list of versions of an artifact, or a checksum of it.
fn versions(source: &Source, path: &MavenPath) -> Result<Response<Body>, Problem> {
    let listed = match path.target.versions_of() {
        Some((group, artifact)) => metadata_of(source, &group, artifact)?,
        None => None,
    };
    let Some(text) = listed else {
        source.check_live(&path.to_string())?;
        return Err(not_found("no version of this artifact is in the log"));
    };
    match path.checksum {
        None => Ok(reply::bytes("text/xml", text)),
        Some(kind) => checksum::of_bytes(text.as_bytes(), kind)
            .map(reply::text)
            .ok_or_else(|| not_found(format!("no {kind} here"))),
    }
}

fn metadata_of(source: &Source, group: &str, artifact: &str) -> Result<Option<String>, Problem> {
    let Ok(package) = Purl::new("maven", Some(group), artifact, None, &[]) else {
        return Ok(None);
    };
    let package = package.as_str().trim_start_matches("pkg:");
    let mut updated = None;
    let mut versions = Vec::new();
    for version in source.versions(package)? {
        let Some(purl) = purl_of(group, artifact, &version) else {
            continue;
        };
        // A version all of whose files were withdrawn is none.
        let newest = source
            .files(purl.as_str())?
            .iter()
            .map(|it| it.entry.time)
            .max();
        if newest.is_some() {
            updated = updated.max(newest);
            versions.push(version);
        }
    }
    Ok(updated.map(|it| metadata::render(group, artifact, &versions, it)))
}

fn purl_of(group: &str, artifact: &str, version: &str) -> Option<Purl> {
    Coordinates::new(group, artifact, version).ok()?.purl().ok()
}

/// Checksums in headers spare clients the requests for them. Only what is known: computing would
/// delay the file itself.
fn checksum_headers(checksums: &Checksums, found: &Found) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for kind in checksum::KINDS {
        let name = match kind {
            Algorithm::Sha1 => HeaderName::from_static("x-checksum-sha1"),
            Algorithm::Md5 => HeaderName::from_static("x-checksum-md5"),
            Algorithm::Sha256 => HeaderName::from_static("x-checksum-sha256"),
            Algorithm::Sha512 => HeaderName::from_static("x-checksum-sha512"),
            Algorithm::Blake3 => continue,
        };
        if let Some(sum) = checksums.known(found, kind) {
            insert(&mut headers, name, &sum);
        }
    }
    headers
}

fn not_found(message: impl Into<String>) -> Problem {
    Problem::new(Fault::NotFound, message)
}
