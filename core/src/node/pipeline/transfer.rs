//! Large bodies: hashed in one pass on their way into the deposit, resumed where they broke off.

use std::io::Read;
use std::time::Duration;

use crate::base::{Sha256, Time};
use crate::node::pipeline::address::redact;
use crate::node::pipeline::deposit::{Deposit, DepositWriter, Digests, Hasher};
use crate::node::pipeline::error::PipelineError;
use crate::node::pipeline::http::{Answer, CHUNK_BYTES, Client, Clock, Request, Resume, describe};
use crate::node::pipeline::job::{Job, Step};
use crate::node::pipeline::retry::Setback;

/// A connection that brings less than [`PACE_BYTES_MIN`] in this time is given up, and the rest
/// asked for again. A time-out between two bytes alone would wait years for one byte at a time.
const PACE_WINDOW: Duration = Duration::from_secs(30);

/// See [`PACE_WINDOW`]; 8 KiB/s. Unit: bytes.
const PACE_BYTES_MIN: u64 = 240 * 1_024;

/// Longest time for one blob, whatever its pace and however often it broke off.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(6 * 60 * 60);

/// A connection that got this much further than all before it was a good one: attempts count
/// anew. (Not merely one that brought this much: without `Range` that could go on for ever.)
/// Unit: bytes.
const GOOD_BYTES_MIN: u64 = 1_024 * 1_024;

/// What is known of a body before it comes.
#[derive(Clone, Copy)]
pub struct Expect<'a> {
    /// Name of the file, for progress.
    pub file: &'a str,
    /// Its digest.
    pub sha256: Option<Sha256>,
    /// Its length. Unit: bytes.
    pub size: Option<u64>,
    /// Most bytes that are taken.
    pub bytes_max: u64,
    /// Whether to compute the digests that Maven's clients use.
    pub all_digests: bool,
    /// A last check before the deposit keeps the bytes.
    pub check: Option<&'a Check<'a>>,
}

/// Looks at the digests of a body, and refuses it with an error.
pub type Check<'a> = dyn Fn(&Digests) -> Result<(), PipelineError> + 'a;

/// A body on its way.
struct Transfer {
    writer: Box<dyn DepositWriter>,
    hasher: Hasher,
    /// Length of the whole body, if the upstream said it. Unit: bytes.
    total: Option<u64>,
    /// Identifies this version of the body: a strong `ETag` or a `Last-Modified`.
    validator: Option<String>,
}

impl Client {
    /// Gets a body into the deposit and answers its digests.
    ///
    /// A connection that breaks is resumed with `Range`, if the digest is known or the upstream
    /// identifies the version; otherwise the body starts again.
    ///
    /// # Errors
    ///
    /// [`PipelineError`]. On any error the deposit keeps nothing.
    pub fn download(
        &self,
        request: &Request<'_>,
        expect: &Expect<'_>,
        job: &Job<'_>,
    ) -> Result<Digests, PipelineError> {
        if expect.size.is_some_and(|it| expect.bytes_max < it) {
            return Err(too_large(request, expect));
        }
        let (file, size) = (expect.file, expect.size);
        job.progress.report(Step::Started { file, size });
        let started = (self.clock)();
        let mut retry = self.retry();
        let mut broken: Option<Transfer> = None;
        let mut furthest = 0_u64;
        loop {
            let resume = broken.as_ref().and_then(|it| it.resume(expect));
            let answer = self.send("GET", request, resume.as_ref(), &mut retry, job.cancel)?;
            let resumed = broken.take().filter(|it| it.continues_with(&answer));
            let mut transfer = match (resumed, answer.status) {
                (Some(transfer), _) => transfer,
                (None, 200) => {
                    if resume.is_some() {
                        job.progress.report(Step::Restarted);
                    }
                    Transfer::begin(&answer, request, expect, job.deposit)?
                }
                // An answer for another rest than the one asked for.
                (None, status) => {
                    job.progress.report(Step::Restarted);
                    let setback = Setback::broken(format!("it answered {status} for the rest"));
                    retry.pause(setback, "GET", &redact(request.url), job.cancel)?;
                    continue;
                }
            };
            let Some(problem) = self.pump(&mut transfer, answer, request, expect, job, started)?
            else {
                return transfer.finish(request, expect, job);
            };
            let reached = transfer.hasher.size();
            if furthest.saturating_add(GOOD_BYTES_MIN) <= reached {
                furthest = reached;
                retry.reset();
            }
            if transfer.resume(expect).is_some() {
                broken = Some(transfer);
            } else {
                job.progress.report(Step::Restarted);
            }
            let setback = Setback::broken(problem);
            retry.pause(setback, "GET", &redact(request.url), job.cancel)?;
        }
    }

    /// Moves bytes until the body ends; answers why, if it ended too early.
    fn pump(
        &self,
        transfer: &mut Transfer,
        answer: Answer,
        request: &Request<'_>,
        expect: &Expect<'_>,
        job: &Job<'_>,
        started: Time,
    ) -> Result<Option<String>, PipelineError> {
        let mut reader = answer.body.into_reader();
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut pace = Pace::new(&self.clock, transfer.hasher.size());
        loop {
            job.cancel.check()?;
            let count = match reader.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) => return Ok(Some(describe(error.into()))),
            };
            let bytes = chunk.get(..count).unwrap_or_default();
            let size = transfer.hasher.size().saturating_add(count as u64);
            if expect.bytes_max < size {
                return Err(too_large(request, expect));
            }
            if expect.size.is_some_and(|it| it < size) {
                return Err(wrong_size(request, expect, "more".to_owned()));
            }
            transfer.writer.write(bytes)?;
            transfer.hasher.update(bytes);
            let bytes = count as u64;
            job.progress.report(Step::Received { bytes });
            if TRANSFER_TIMEOUT < (self.clock)().since(started) {
                return Err(PipelineError::Network {
                    method: "GET",
                    url: redact(request.url),
                    problem: format!("it took longer than {} s", TRANSFER_TIMEOUT.as_secs()),
                });
            }
            if let Err(problem) = pace.check(size) {
                return Ok(Some(problem));
            }
        }
        let is_cut = transfer.total.is_some_and(|it| transfer.hasher.size() < it);
        Ok(is_cut.then(|| "the connection was closed too early".to_owned()))
    }
}

impl Transfer {
    fn begin(
        answer: &Answer,
        request: &Request<'_>,
        expect: &Expect<'_>,
        deposit: &dyn Deposit,
    ) -> Result<Self, PipelineError> {
        let encoding = answer.header("content-encoding").unwrap_or("identity");
        if encoding != "identity" {
            let problem = format!("it comes compressed as `{encoding}`, which nobody asked for");
            let what = request.what.to_owned();
            return Err(PipelineError::Malformed { what, problem });
        }
        let total = answer
            .header("content-length")
            .and_then(|it| it.parse().ok());
        if let Some(total) = total {
            if expect.bytes_max < total {
                return Err(too_large(request, expect));
            }
            if expect.size.is_some_and(|it| it != total) {
                return Err(wrong_size(request, expect, total.to_string()));
            }
        }
        let etag = answer.header("etag").filter(|it| it.starts_with('"'));
        let validator = etag.or_else(|| answer.header("last-modified"));
        Ok(Self {
            writer: deposit.begin(expect.size.or(total))?,
            hasher: Hasher::new(expect.all_digests),
            total: total.or(expect.size),
            validator: validator.map(str::to_owned),
        })
    }

    /// How to ask for the rest; `None` if the rest could belong to another version.
    fn resume(&self, expect: &Expect<'_>) -> Option<Resume> {
        let is_known = expect.sha256.is_some() || self.validator.is_some();
        (is_known && self.hasher.size() != 0).then(|| Resume {
            offset: self.hasher.size(),
            validator: self.validator.clone(),
        })
    }

    /// Whether `answer` is the rest of this body.
    fn continues_with(&self, answer: &Answer) -> bool {
        let Some(range) = answer.header("content-range") else {
            return false;
        };
        // RFC 9110, 14.4: `bytes first-last/total`, where the total may be `*`.
        let parsed = range.strip_prefix("bytes ").and_then(|it| {
            let (span, total) = it.split_once('/')?;
            let (first, _) = span.split_once('-')?;
            Some((first.parse::<u64>().ok()?, total.parse::<u64>().ok()))
        });
        let Some((first, total)) = parsed else {
            return false;
        };
        let same_total = match (total, self.total) {
            (Some(total), Some(known)) => total == known,
            _ => true,
        };
        answer.status == 206 && first == self.hasher.size() && same_total
    }

    fn finish(
        self,
        request: &Request<'_>,
        expect: &Expect<'_>,
        job: &Job<'_>,
    ) -> Result<Digests, PipelineError> {
        let digests = self.hasher.finish();
        if expect.size.is_some_and(|it| it != digests.size) {
            return Err(wrong_size(request, expect, digests.size.to_string()));
        }
        if let Some(expected) = expect.sha256.filter(|it| *it != digests.sha256) {
            return Err(PipelineError::DigestMismatch {
                what: request.what.to_owned(),
                expected: format!("sha256:{expected}"),
                got: format!("sha256:{}", digests.sha256),
            });
        }
        if let Some(check) = expect.check {
            check(&digests)?;
        }
        self.writer.finish(&digests)?;
        let file = expect.file;
        job.progress.report(Step::Stored { file });
        Ok(digests)
    }
}

/// Notices a connection that is alive but leads nowhere.
pub(crate) struct Pace<'a> {
    clock: &'a Clock,
    since: Time,
    bytes: u64,
}

impl<'a> Pace<'a> {
    /// Starts now; `bytes` came in before.
    pub(crate) fn new(clock: &'a Clock, bytes: u64) -> Self {
        let since = clock();
        Self {
            clock,
            since,
            bytes,
        }
    }

    /// Fails if too few bytes came in the last window; `bytes` is how many came in all.
    pub(crate) fn check(&mut self, bytes: u64) -> Result<(), String> {
        let now = (self.clock)();
        if now.since(self.since) < PACE_WINDOW {
            return Ok(());
        }
        if bytes.saturating_sub(self.bytes) < PACE_BYTES_MIN {
            return Err("the connection is slower than 8 KiB/s".to_owned());
        }
        (self.since, self.bytes) = (now, bytes);
        Ok(())
    }
}

fn too_large(request: &Request<'_>, expect: &Expect<'_>) -> PipelineError {
    PipelineError::TooLarge {
        what: request.what.to_owned(),
        max: expect.bytes_max,
    }
}

fn wrong_size(request: &Request<'_>, expect: &Expect<'_>, got: String) -> PipelineError {
    PipelineError::DigestMismatch {
        what: request.what.to_owned(),
        expected: format!("{} bytes", expect.size.unwrap_or_default()),
        got: format!("{got} bytes"),
    }
}

#[cfg(test)]
mod tests;
