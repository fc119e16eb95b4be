//! Offline verification: no node, no network.

use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;

use kogge::base::WallTime;
use kogge::proto::chain::light::Light;
use kogge::proto::log::{Policy, Trust, Waybill};
use kogge::{Blake3, Digest, Genesis, Row};

use crate::failure::Failure;
use crate::guard::call;
use crate::input::{bytes, out, text};
use crate::rows::{Rows, give_rows};
use crate::status::kogge_status;
use crate::types::{kogge_bytes, kogge_error, kogge_rows, kogge_str};

/// Believe the keys in a policy (c2sp.org/tlog-policy).
pub const KOGGE_TRUST_POLICY: i32 = 1;

/// Believe the first authorized nodes of the network with a genesis, and whom they admitted.
pub const KOGGE_TRUST_GENESIS: i32 = 2;

/// Bytes that are hashed at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Checks that a file is the artifact that a waybill is about, and that the entry is in a log that
/// `trust` stands for: the document that `trust_kind`, one of `KOGGE_TRUST_*`, names. Gives the entry.
/// `KOGGE_STATUS_UNVERIFIED` if anything does not hold. Blocks while the file is read.
///
/// # Safety
///
/// `path`, `waybill` and `trust` are as their types say; `rows_out` and `error` are writable or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_verify_file(
    path: kogge_str,
    waybill: kogge_bytes,
    trust_kind: i32,
    trust: kogge_bytes,
    rows_out: *mut *mut kogge_rows,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        // SAFETY: as the caller promises.
        let path = unsafe { text("path", path)? };
        // SAFETY: as the caller promises.
        unsafe { verify(|| hash(&path), waybill, trust_kind, trust, rows_out) }
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// As `kogge_verify_file`, for bytes in memory.
///
/// # Safety
///
/// `artifact`, `waybill` and `trust` are as their types say; `rows_out` and `error` are writable or
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_verify_bytes(
    artifact: kogge_bytes,
    waybill: kogge_bytes,
    trust_kind: i32,
    trust: kogge_bytes,
    rows_out: *mut *mut kogge_rows,
    error: *mut *mut kogge_error,
) -> kogge_status {
    let body = || {
        if artifact.len == 0 {
            // SAFETY: as the caller promises.
            return unsafe { verify(|| Ok(Blake3::of(&[])), waybill, trust_kind, trust, rows_out) };
        }
        let source = out("artifact", artifact.ptr.cast_mut())?;
        if isize::try_from(artifact.len).is_err() {
            return Err(Failure::argument("artifact is longer than memory"));
        }
        // SAFETY: as the caller promises.
        let bytes = unsafe { std::slice::from_raw_parts(source, artifact.len) };
        // SAFETY: as the caller promises.
        unsafe {
            verify(
                || Ok(Blake3::of(bytes)),
                waybill,
                trust_kind,
                trust,
                rows_out,
            )
        }
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, body) }
}

/// # Safety
///
/// `waybill` and `trust` are as their types say; `target` is writable or NULL.
unsafe fn verify(
    digest: impl FnOnce() -> Result<Blake3, Failure>,
    waybill: kogge_bytes,
    trust_kind: i32,
    trust: kogge_bytes,
    target: *mut *mut kogge_rows,
) -> Result<(), Failure> {
    // SAFETY: as the caller promises.
    let (waybill, trust) = unsafe { (bytes("waybill", waybill)?, bytes("trust", trust)?) };
    let waybill =
        Waybill::parse(&waybill).map_err(|it| Failure::of(kogge_status::Unverified, &it))?;
    let malformed =
        |it: &(dyn std::error::Error + 'static)| Failure::of(kogge_status::InvalidArgument, it);
    let artifact = || Ok::<_, Failure>(Digest::from(digest()?));
    let verified = match trust_kind {
        KOGGE_TRUST_POLICY => {
            let text = String::from_utf8(trust).map_err(|it| malformed(&it))?;
            let policy = Policy::parse(&text).map_err(|it| malformed(&it))?;
            waybill.verify(Trust::Policy(&policy), Some(&artifact()?))
        }
        KOGGE_TRUST_GENESIS => {
            let genesis = Genesis::parse(&trust).map_err(|it| malformed(&it))?;
            let light = Light::from_genesis(&genesis);
            waybill.verify(Trust::Members(&light), Some(&artifact()?))
        }
        other => return Err(Failure::argument(format!("{other} is no KOGGE_TRUST_*"))),
    };
    let verified = verified.map_err(|it| Failure::of(kogge_status::Unverified, &it))?;
    if target.is_null() {
        return Ok(());
    }
    let row = Row {
        index: verified.index(),
        height: 0,
        time: WallTime::default(),
        entry: verified.entry().clone(),
        removed: None,
    };
    // SAFETY: not NULL; as the caller promises.
    unsafe { give_rows(target, Some(Arc::new(Rows(vec![row])))) }
}

/// The BLAKE3 digest of a file.
fn hash(path: &str) -> Result<Blake3, Failure> {
    let named = |it: std::io::Error| {
        let mut failure = Failure::from(it);
        failure.message = format!("cannot read {path}: {}", failure.message);
        failure
    };
    let mut file = File::open(path).map_err(named)?;
    let (mut hasher, mut chunk) = (blake3::Hasher::new(), vec![0; CHUNK_BYTES]);
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(Blake3(*hasher.finalize().as_bytes())),
            Ok(count) => drop(hasher.update(chunk.get(..count).unwrap_or_default())),
            Err(it) if it.kind() == std::io::ErrorKind::Interrupted => (),
            Err(it) => return Err(named(it)),
        }
    }
}
