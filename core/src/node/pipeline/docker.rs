//! Images from their registries, every byte checked against the digest that names it.
//!
//! Each document is a package of its own, so that the files of a package follow from its name
//! alone, whichever platforms somebody asked for:
//!
//! ```text
//! pkg:docker/library/alpine@sha256:<index>      index/<hex>.json
//! pkg:docker/library/alpine@sha256:<manifest>   manifest/<hex>.json, config/<hex>.json, layer/<hex> …
//! ```
//!
//! A manifest that is no image but refers to one (a signature, an SBOM, an attestation: OCI
//! image-spec 1.1, "Guidelines for Artifact Usage") is a package like any other. It is fetched when
//! it is asked for by its digest, or by a tag, such as the `sha256-<hex>` under which older upstreams
//! list what refers to `<hex>`. It never comes along with the image: anybody may add one at any time, so
//! nodes would not agree on what belongs to the image.
//!
//! `<hex>` is the SHA-256 of the file, by which clients ask for it. A layer that two images share
//! is a file of both packages, with the same digests; it is fetched and stored once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::Sha256;
use crate::node::pipeline::deposit::{Digests, Hasher};
use crate::node::pipeline::error::PipelineError;
use crate::node::pipeline::http::{Client, Request};
use crate::node::pipeline::job::{Cancel, FileFacts, Job, Outcome, Package, Step, TagBinding};
use crate::node::pipeline::registries::{Registries, Registry};
use crate::node::pipeline::token::Tokens;
use crate::node::pipeline::transfer::Expect;
use crate::proto::package::docker::parse_digest;
use crate::proto::package::oci::{
    CONFIG_BYTES_MAX, Content, DOCUMENT_BYTES_MAX, DOCUMENT_TYPES, Descriptor, Document,
};
use crate::proto::package::{ImageName, ImageReference, Platform, Pointer};

/// Most documents of one image, nested indexes included; one more is an error.
const DOCUMENTS_MAX: usize = 512;

/// Most indexes around a manifest.
const DEPTH_MAX: usize = 3;

/// Largest layer. Unit: bytes.
const LAYER_BYTES_MAX: u64 = 64 << 30;

/// Most bytes of one image over all of its platforms. Unit: bytes.
const IMAGE_BYTES_MAX: u64 = 512 << 30;

/// Gets images.
pub struct Images {
    client: Arc<Client>,
    public: Arc<Client>,
    registries: Registries,
}

impl Images {
    /// Asks the upstreams in `registries` by means of `client`, and those that others than the
    /// owner named by means of `public`, which reaches public addresses alone.
    pub fn new(client: Arc<Client>, public: Arc<Client>, registries: Registries) -> Self {
        Self {
            client,
            public,
            registries,
        }
    }

    /// Gets an image: of an index, the manifests for `platforms` (all if there are none).
    ///
    /// # Errors
    ///
    /// [`PipelineError`]. [`NotFound`](PipelineError::NotFound) also if the index has none of the
    /// platforms.
    pub fn fetch(
        &self,
        reference: &ImageReference,
        platforms: &[Platform],
        job: &Job<'_>,
    ) -> Result<Outcome, PipelineError> {
        let name = &reference.name;
        let mut walk = Walk {
            source: self.source(name)?,
            platforms,
            job,
            blobs: BTreeMap::new(),
            seen: BTreeSet::new(),
            bytes: 0,
            packages: Vec::new(),
            notes: Vec::new(),
        };
        let (digest, tag) = match &reference.pointer {
            Pointer::Digest(digest) => (*digest, None),
            Pointer::Tag(tag) => {
                let digest = walk.source.look_up(tag, job.cancel)?;
                let binding = TagBinding {
                    registry: name.registry().to_owned(),
                    repository: name.repository().to_owned(),
                    tag: tag.clone(),
                    digest,
                };
                (digest, Some(binding))
            }
        };
        walk.visit(digest, None, 0)?;
        Ok(Outcome {
            packages: walk.packages,
            tag,
            notes: walk.notes,
        })
    }

    /// What a tag points to at the moment, without fetching it. Registries do not count this
    /// against their limits.
    ///
    /// # Errors
    ///
    /// [`PipelineError`].
    pub fn look_up(
        &self,
        name: &ImageName,
        tag: &str,
        cancel: &Cancel,
    ) -> Result<Sha256, PipelineError> {
        self.source(name)?.look_up(tag, cancel)
    }

    fn source<'a>(&'a self, name: &'a ImageName) -> Result<Source<'a>, PipelineError> {
        let registry = self.registries.find(name.registry())?;
        let repository = registry.repository(name.repository());
        let client = if registry.is_named() {
            &self.client
        } else {
            &self.public
        };
        let tokens = Tokens::new(client, &registry.url("", ""), &repository)?;
        Ok(Source {
            client,
            registry,
            name,
            tokens,
        })
    }
}

/// One repository at its upstream.
struct Source<'a> {
    client: &'a Client,
    registry: Registry,
    name: &'a ImageName,
    tokens: Tokens<'a>,
}

impl Source<'_> {
    fn look_up(&self, tag: &str, cancel: &Cancel) -> Result<Sha256, PipelineError> {
        let what = format!("image {}:{tag}", self.name);
        let url = self.url(&format!("manifests/{tag}"));
        let accept = DOCUMENT_TYPES.join(", ");
        let request = self.request(&what, &url, Some(&accept));
        let headers = match self.client.head(&request, cancel) {
            Ok(headers) => headers,
            // Some registries do not answer HEAD.
            Err(PipelineError::Malformed { .. }) => Default::default(),
            Err(error) => return Err(error),
        };
        let stated = headers.get("docker-content-digest");
        let stated = stated.and_then(|it| parse_digest(it.to_str().ok()?).ok());
        match stated {
            Some(digest) => Ok(digest),
            None => {
                let (_, bytes) = self.client.get(&request, DOCUMENT_BYTES_MAX, cancel)?;
                Ok(Sha256::of(&bytes))
            }
        }
    }

    fn url(&self, rest: &str) -> String {
        self.registry.url(self.name.repository(), rest)
    }

    fn request<'r>(&'r self, what: &'r str, url: &'r str, accept: Option<&'r str>) -> Request<'r> {
        Request {
            what,
            url,
            accept,
            credentials: Some(&self.tokens),
        }
    }
}

/// A walk over the documents of an image.
struct Walk<'a> {
    source: Source<'a>,
    platforms: &'a [Platform],
    job: &'a Job<'a>,
    /// What was fetched, or was there, already.
    blobs: BTreeMap<Sha256, Digests>,
    /// Documents that were visited.
    seen: BTreeSet<Sha256>,
    bytes: u64,
    packages: Vec<Package>,
    notes: Vec<String>,
}

impl Walk<'_> {
    /// Gets the document `digest` and what belongs to it.
    fn visit(
        &mut self,
        digest: Sha256,
        size: Option<u64>,
        depth: usize,
    ) -> Result<(), PipelineError> {
        if !self.seen.insert(digest) {
            return Ok(());
        }
        let what = format!("image {}@sha256:{digest}", self.source.name);
        if DOCUMENTS_MAX < self.seen.len() || DEPTH_MAX < depth {
            let max = DOCUMENTS_MAX as u64;
            return Err(PipelineError::TooLarge { what, max });
        }
        let (document, digests) = self.document(&what, digest, size)?;
        let purl = self.source.name.purl(&digest).map_err(|it| {
            let problem = it.to_string();
            PipelineError::Malformed {
                what: what.clone(),
                problem,
            }
        })?;
        let origin = self.source.name.to_string();
        let folder = match document.content {
            Content::Index(_) => "index",
            Content::Image { .. } => "manifest",
        };
        let name = format!("{folder}/{digest}.json");
        let mut files = vec![FileFacts::new(
            &purl,
            name,
            digests,
            &document.media_type,
            &origin,
        )];
        if let Content::Image { config, layers } = &document.content {
            let name = format!("config/{}.json", config.digest);
            let digests = self.blob(config, &name, CONFIG_BYTES_MAX as u64)?;
            files.push(FileFacts::new(
                &purl,
                name,
                digests,
                &config.media_type,
                &origin,
            ));
            for layer in layers {
                let name = format!("layer/{}", layer.digest);
                if layer.is_foreign() {
                    self.note(format!(
                        "{name} of {purl} must not be passed on and is left out"
                    ));
                    continue;
                }
                // Empty layers may come twice in a manifest, but a file has one name.
                if files.iter().all(|it| it.file != name) {
                    let digests = self.blob(layer, &name, LAYER_BYTES_MAX)?;
                    files.push(FileFacts::new(
                        &purl,
                        name,
                        digests,
                        &layer.media_type,
                        &origin,
                    ));
                }
            }
        }
        files.sort_by(|a, b| a.file.cmp(&b.file));
        self.packages.push(Package { purl, files });
        if let Content::Index(manifests) = &document.content {
            for manifest in self.wanted(&what, manifests)? {
                self.visit(manifest.digest, Some(manifest.size), depth + 1)?;
            }
        }
        Ok(())
    }

    /// The children of an index that were asked for.
    fn wanted<'d>(
        &mut self,
        what: &str,
        manifests: &'d [Descriptor],
    ) -> Result<Vec<&'d Descriptor>, PipelineError> {
        let is_wanted = |platform: Option<&Platform>| match platform {
            // A nested index: its children have platforms.
            None => true,
            Some(it) => self.platforms.iter().any(|wanted| it.serves(wanted)),
        };
        let mut found = Vec::new();
        for manifest in manifests {
            if !manifest.is_document() {
                let (digest, media_type) = (manifest.digest, &manifest.media_type);
                self.note(format!("sha256:{digest} of type {media_type} is left out"));
            } else if self.platforms.is_empty() || is_wanted(manifest.platform.as_ref()) {
                found.push(manifest);
            }
        }
        if found.is_empty() && !self.platforms.is_empty() {
            let names: Vec<_> = self.platforms.iter().map(ToString::to_string).collect();
            return Err(PipelineError::NotFound {
                what: format!("{what} for {}", names.join(" or ")),
                url: self.source.url("manifests"),
            });
        }
        Ok(found)
    }

    /// Gets an index or a manifest; they are small and read here, so they come through memory.
    fn document(
        &mut self,
        what: &str,
        digest: Sha256,
        size: Option<u64>,
    ) -> Result<(Document, Digests), PipelineError> {
        let url = self.source.url(&format!("manifests/sha256:{digest}"));
        let accept = DOCUMENT_TYPES.join(", ");
        let request = self.source.request(what, &url, Some(&accept));
        let name = format!("{digest}.json");
        let file = name.as_str();
        self.job.progress.report(Step::Started { file, size });
        let client = self.source.client;
        let (headers, bytes) = client.get(&request, DOCUMENT_BYTES_MAX, self.job.cancel)?;
        let mut hasher = Hasher::new(false);
        hasher.update(&bytes);
        let digests = hasher.finish();
        if digests.sha256 != digest || size.is_some_and(|it| it != digests.size) {
            return Err(PipelineError::DigestMismatch {
                what: what.to_owned(),
                expected: format!("sha256:{digest}"),
                got: format!("sha256:{} ({} bytes)", digests.sha256, digests.size),
            });
        }
        let served_type = headers.get("content-type").and_then(|it| it.to_str().ok());
        let document = Document::parse(&bytes, served_type).map_err(|error| {
            let what = what.to_owned();
            let problem = error.to_string();
            PipelineError::Malformed { what, problem }
        })?;
        self.count(what, digests.size)?;
        if self.job.deposit.has(&digest).is_none() {
            let mut writer = self.job.deposit.begin(Some(digests.size))?;
            writer.write(&bytes)?;
            writer.finish(&digests)?;
        }
        let bytes = digests.size;
        self.job.progress.report(Step::Received { bytes });
        self.job.progress.report(Step::Stored { file });
        Ok((document, digests))
    }

    /// Gets a configuration or a layer, unless it is there.
    fn blob(
        &mut self,
        descriptor: &Descriptor,
        file: &str,
        bytes_max: u64,
    ) -> Result<Digests, PipelineError> {
        let (sha256, size) = (descriptor.digest, descriptor.size);
        let what = format!("{file} of image {}", self.source.name);
        if let Some(digests) = self.known(&sha256) {
            if digests.size == size {
                return Ok(digests);
            }
            return Err(PipelineError::DigestMismatch {
                what,
                expected: format!("{size} bytes"),
                got: format!("{} bytes", digests.size),
            });
        }
        self.count(&what, size)?;
        let url = self.source.url(&format!("blobs/sha256:{sha256}"));
        let expect = Expect {
            file,
            sha256: Some(sha256),
            size: Some(size),
            bytes_max,
            all_digests: false,
            check: None,
        };
        let request = self.source.request(&what, &url, None);
        let digests = self.source.client.download(&request, &expect, self.job)?;
        self.blobs.insert(sha256, digests.clone());
        Ok(digests)
    }

    fn known(&mut self, sha256: &Sha256) -> Option<Digests> {
        if let Some(digests) = self.blobs.get(sha256) {
            return Some(digests.clone());
        }
        let stored = self.job.deposit.has(sha256)?;
        let digests = Digests {
            blake3: stored.blake3,
            sha256: *sha256,
            others: Vec::new(),
            size: stored.size,
        };
        self.blobs.insert(*sha256, digests.clone());
        Some(digests)
    }

    fn count(&mut self, what: &str, bytes: u64) -> Result<(), PipelineError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if IMAGE_BYTES_MAX < self.bytes {
            let (what, max) = (what.to_owned(), IMAGE_BYTES_MAX);
            return Err(PipelineError::TooLarge { what, max });
        }
        Ok(())
    }

    fn note(&mut self, note: String) {
        self.job.progress.report(Step::Note(&note));
        self.notes.push(note);
    }
}

#[cfg(test)]
mod tests;
