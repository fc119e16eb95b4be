//! The pull side of an image registry (OCI distribution-spec 1.1), answered from the log.
//!
//! Manifests and blobs are served as they were logged, whatever the client accepts: any other form
//! would have another digest. Lists of referrers are empty: the log does not index which manifest
//! another refers to.

pub(crate) mod ask;
mod serve;
mod tags;

pub(crate) use serve::serve;
