//! Released Maven versions from their repositories.
//!
//! ```text
//! POM → main artifact by packaging → sources, Javadoc, module if they exist → extras
//!         each: the file, then its .sha512, .sha256 and .sha1, as far as they exist
//! ```
//!
//! All files come from the first repository that has the POM: a name that is free in one
//! repository must not be filled from another. Files keep their names; the facts name the
//! repository by its id (`central`), so that nodes behind different mirrors agree.

use std::sync::Arc;

use crate::base::{Algorithm, Digest, hex};
use crate::node::pipeline::address::{parse_upstream, redact};
use crate::node::pipeline::deposit::{Digests, Hasher};
use crate::node::pipeline::error::PipelineError;
use crate::node::pipeline::http::{Client, Request};
use crate::node::pipeline::job::{FileFacts, Job, Outcome, Package, Step};
use crate::node::pipeline::transfer::Expect;
use crate::proto::exchange::group::ARTIFACT_BYTES_MAX;
use crate::proto::package::layout::CHECKSUM_SUFFIXES;
use crate::proto::package::pom::Pom;
use crate::proto::package::xml::XML_BYTES_MAX;
use crate::proto::package::{Coordinates, Purl, Variant};

/// Longest checksum file. Unit: bytes.
const CHECKSUM_BYTES_MAX: usize = 4 * 1_024;

/// Most files that may be asked for beyond those that every version has.
pub const EXTRAS_MAX: usize = 64;

/// A repository that is asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MavenRepository {
    /// Its name in the facts, the same on every node: the id that Maven knows it by.
    pub id: String,
    /// Where it, or its mirror, is.
    pub url: String,
}

impl MavenRepository {
    /// A repository that a user gave by its URL alone; host and path are its id.
    ///
    /// # Errors
    ///
    /// [`PipelineError::Setup`] if it is not an `http` or `https` URL without credentials.
    pub fn from_url(text: &str) -> Result<Self, PipelineError> {
        let url = parse_upstream(text)?;
        let host = url.host_str().unwrap_or_default();
        let port = url.port().map_or_else(String::new, |it| format!(":{it}"));
        let path = url.path().trim_end_matches('/');
        Ok(Self {
            id: format!("{host}{port}{path}"),
            url: text.to_owned(),
        })
    }
}

/// Gets Maven packages.
pub struct Maven {
    client: Arc<Client>,
    repositories: Vec<MavenRepository>,
}

impl Maven {
    /// Asks `repositories` in their order.
    pub fn new(client: Arc<Client>, repositories: Vec<MavenRepository>) -> Self {
        Self {
            client,
            repositories,
        }
    }

    /// Asks the repository at `url` alone, which must be one of those that this node asks: whoever
    /// wants a package, perhaps a peer, cannot make it ask others.
    ///
    /// # Errors
    ///
    /// [`PipelineError::Setup`] if it is another, which says what to configure.
    pub fn only(&self, url: &str) -> Result<Self, PipelineError> {
        let wanted = MavenRepository::from_url(url)?;
        let is_wanted = |it: &&MavenRepository| {
            let known = MavenRepository::from_url(&it.url);
            known.is_ok_and(|it| it.id == wanted.id)
        };
        let Some(repository) = self.repositories.iter().find(is_wanted) else {
            return Err(PipelineError::Setup(format!(
                "{} is not among the repositories of this node; its owner can add it to \
                 `maven.repositories` in the configuration",
                redact(url)
            )));
        };
        let repositories = vec![repository.clone()];
        Ok(Self::new(self.client.clone(), repositories))
    }

    /// Gets a released version with its usual files and `extras`.
    ///
    /// # Errors
    ///
    /// [`PipelineError`]. Snapshots are unsupported: the log holds what does not change.
    pub fn fetch(
        &self,
        coordinates: &Coordinates,
        extras: &[Variant],
        job: &Job<'_>,
    ) -> Result<Outcome, PipelineError> {
        if coordinates.is_snapshot() {
            let text = format!("{coordinates} is a snapshot; only released versions enter the log");
            return Err(PipelineError::Unsupported(text));
        }
        if EXTRAS_MAX < extras.len() {
            let (what, max) = (
                format!("the list of files of {coordinates}"),
                EXTRAS_MAX as u64,
            );
            return Err(PipelineError::TooLarge { what, max });
        }
        let purl = coordinates
            .purl()
            .map_err(|it| PipelineError::Unsupported(it.to_string()))?;
        let (repository, pom_file, pom) = self.find_pom(&purl, coordinates, job)?;
        let visit = Visit {
            client: &self.client,
            repository,
            coordinates,
            purl: &purl,
            job,
        };
        let mut files = vec![pom_file];
        let mut take = |facts: FileFacts| {
            if files.iter().all(|it| it.file != facts.file) {
                files.push(facts);
            }
        };
        if let Some(main) = visit.main_file(&pom)? {
            take(main);
        }
        for variant in pom.optional_variants() {
            if let Some(facts) = visit.optional_file(&variant)? {
                take(facts);
            }
        }
        for variant in extras {
            take(visit.file(variant)?);
        }
        let dependencies = Some(pom.dependencies_digest());
        for facts in &mut files {
            facts.dependencies = dependencies;
        }
        files.sort_by(|a, b| a.file.cmp(&b.file));
        Ok(Outcome {
            packages: vec![Package { purl, files }],
            tag: None,
            notes: Vec::new(),
        })
    }

    /// The first repository that has the POM, and what is in it.
    fn find_pom(
        &self,
        purl: &Purl,
        coordinates: &Coordinates,
        job: &Job<'_>,
    ) -> Result<(&MavenRepository, FileFacts, Pom), PipelineError> {
        let mut missing = PipelineError::Setup(
            "no Maven repository is known; give one with `--repository URL` or as \
             `maven.repositories` in the configuration"
                .to_owned(),
        );
        for repository in &self.repositories {
            let visit = Visit {
                client: &self.client,
                repository,
                coordinates,
                purl,
                job,
            };
            match visit.pom() {
                Ok((facts, pom)) => return Ok((repository, facts, pom)),
                // Only "it is not here" leads on: a repository that cannot answer might have it.
                Err(error @ PipelineError::NotFound { .. }) => missing = error,
                Err(error) => return Err(error),
            }
        }
        Err(missing)
    }
}

/// One version in one repository.
struct Visit<'a> {
    client: &'a Client,
    repository: &'a MavenRepository,
    coordinates: &'a Coordinates,
    purl: &'a Purl,
    job: &'a Job<'a>,
}

impl Visit<'_> {
    /// Gets the POM, which is small and read here, through memory.
    fn pom(&self) -> Result<(FileFacts, Pom), PipelineError> {
        let variant =
            Variant::new(None, "pom").map_err(|it| PipelineError::Unsupported(it.to_string()))?;
        let (file, url) = (self.coordinates.file_name(&variant), self.url(&variant));
        let what = self.what(&variant);
        let started = Step::Started {
            file: &file,
            size: None,
        };
        self.job.progress.report(started);
        let request = plain(&what, &url);
        let (_, bytes) = self.client.get(&request, XML_BYTES_MAX, self.job.cancel)?;
        let mut hasher = Hasher::new(true);
        hasher.update(&bytes);
        let digests = hasher.finish();
        let pom = Pom::parse(&bytes).map_err(|it| PipelineError::Malformed {
            what: what.clone(),
            problem: it.to_string(),
        })?;
        self.compare(&what, &url, &digests)?;
        let mut writer = self.job.deposit.begin(Some(digests.size))?;
        writer.write(&bytes)?;
        writer.finish(&digests)?;
        let bytes = digests.size;
        self.job.progress.report(Step::Received { bytes });
        self.job.progress.report(Step::Stored { file: &file });
        Ok((self.facts(&variant, digests), pom))
    }

    /// Gets the main artifact in the first form that exists; `None` if the POM stands alone.
    fn main_file(&self, pom: &Pom) -> Result<Option<FileFacts>, PipelineError> {
        let mut missing = None;
        for variant in pom.main_variants() {
            match self.file(&variant) {
                Ok(facts) => return Ok(Some(facts)),
                Err(error @ PipelineError::NotFound { .. }) => missing = Some(error),
                Err(error) => return Err(error),
            }
        }
        missing.map_or(Ok(None), Err)
    }

    /// Gets a file that a version has or has not.
    fn optional_file(&self, variant: &Variant) -> Result<Option<FileFacts>, PipelineError> {
        match self.file(variant) {
            Ok(facts) => Ok(Some(facts)),
            Err(PipelineError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn file(&self, variant: &Variant) -> Result<FileFacts, PipelineError> {
        let (what, url) = (self.what(variant), self.url(variant));
        let file = self.coordinates.file_name(variant);
        let check = |digests: &Digests| self.compare(&what, &url, digests);
        let expect = Expect {
            file: &file,
            sha256: None,
            size: None,
            bytes_max: ARTIFACT_BYTES_MAX,
            all_digests: true,
            check: Some(&check),
        };
        let digests = self
            .client
            .download(&plain(&what, &url), &expect, self.job)?;
        Ok(self.facts(variant, digests))
    }

    /// Compares with every checksum that the repository publishes for the file.
    fn compare(&self, what: &str, url: &str, digests: &Digests) -> Result<(), PipelineError> {
        let mut published = 0;
        for (suffix, algorithm) in CHECKSUM_SUFFIXES {
            // MD5 proves nothing that SHA-1 does not; it is asked for if there is nothing else.
            if algorithm == Algorithm::Md5 && published != 0 {
                continue;
            }
            let url = format!("{url}{suffix}");
            let request = plain(what, &url);
            let answer = self
                .client
                .get(&request, CHECKSUM_BYTES_MAX, self.job.cancel);
            let bytes = match answer {
                Ok((_, bytes)) => bytes,
                // Some stores answer 403 for what they do not have.
                Err(PipelineError::NotFound { .. } | PipelineError::Unauthorized { .. }) => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            let what = format!("{what} ({suffix})");
            let expected = parse_checksum(&bytes, algorithm).ok_or_else(|| {
                let (what, problem) = (what.clone(), format!("it holds no {algorithm} digest"));
                PipelineError::Malformed { what, problem }
            })?;
            let got = digests.get(algorithm);
            if got.as_ref() != Some(&expected) {
                let got = got.map_or_else(String::new, |it| it.to_string());
                let expected = expected.to_string();
                return Err(PipelineError::DigestMismatch {
                    what,
                    expected,
                    got,
                });
            }
            published += 1;
        }
        Ok(())
    }

    fn facts(&self, variant: &Variant, digests: Digests) -> FileFacts {
        let file = self.coordinates.file_name(variant);
        let media_type = variant.media_type();
        FileFacts::new(self.purl, file, digests, media_type, &self.repository.id)
    }

    fn url(&self, variant: &Variant) -> String {
        let base = self.repository.url.trim_end_matches('/');
        let path = self.coordinates.path(variant);
        format!("{base}/{path}")
    }

    fn what(&self, variant: &Variant) -> String {
        let file = self.coordinates.file_name(variant);
        format!("{file} of {}", self.coordinates)
    }
}

fn plain<'a>(what: &'a str, url: &'a str) -> Request<'a> {
    Request {
        what,
        url,
        accept: None,
        credentials: None,
    }
}

/// The digest in a checksum file: alone, before a file name, or after `… =`.
fn parse_checksum(bytes: &[u8], algorithm: Algorithm) -> Option<Digest> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.split_whitespace()
        .filter_map(|it| hex::decode(&it.to_ascii_lowercase()))
        .find_map(|it| Digest::new(algorithm, &it))
}

#[cfg(test)]
mod tests;
