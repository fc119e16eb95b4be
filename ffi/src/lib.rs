//! The C ABI of kogge.
//!
//! Every exported function is named `kogge_<type>_<verb>`, returns a status, takes inputs before
//! outputs, writes outputs only on success, checks for NULL and catches panics. Numbers and names,
//! once released, are for ever. `include/kogge.h` is generated from this crate.

mod status;

use std::ffi::{CStr, c_char};

pub use status::Status;
use status::guard;

/// Version of the binary interface. It grows when functions are added; a change that breaks
/// callers also changes the soname.
pub const KOGGE_ABI_VERSION: u32 = 1;

const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => c"",
    };

/// Writes the version of the binary interface that this library implements.
///
/// # Safety
///
/// `version_out` is NULL or points to writable memory for one `uint32_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kogge_abi_version(version_out: *mut u32) -> Status {
    guard(|| {
        // SAFETY: the caller passes NULL or a valid pointer, as documented above.
        let Some(version_out) = (unsafe { version_out.as_mut() }) else {
            return Status::NullArgument;
        };
        *version_out = KOGGE_ABI_VERSION;
        Status::Ok
    })
}

/// The library's version, such as `0.1.0`: NUL-terminated, valid for ever, never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn kogge_version() -> *const c_char {
    VERSION.as_ptr()
}
