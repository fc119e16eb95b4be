//! The pull side of an image registry (OCI distribution-spec 1.1), answered from the log.
//!
//! Manifests and blobs are served as they were logged, whatever the client accepts: any other form
//! would have another digest.

pub(crate) mod ask;
mod referrers;
mod serve;
mod subjects;
mod tags;

pub(crate) use serve::serve;
pub(crate) use subjects::Subjects;
