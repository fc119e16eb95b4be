//! Versions, of the interface and of the library.

use crate::types::kogge_str;

/// Major version of the interface. A change that breaks callers changes it, and the soname.
pub const KOGGE_ABI_MAJOR: u32 = 1;

/// Minor version of the interface. It grows when something is added.
pub const KOGGE_ABI_MINOR: u32 = 0;

/// Both: `major << 16 | minor`. What a program was compiled with.
pub const KOGGE_ABI_VERSION: u32 = 0x0001_0000;

const _: () = assert!(KOGGE_ABI_VERSION == KOGGE_ABI_MAJOR << 16 | KOGGE_ABI_MINOR);

/// Wait without a limit, as `timeout_ms`.
pub const KOGGE_WAIT_FOREVER: u64 = u64::MAX;

/// `KOGGE_ABI_VERSION` of the library that is loaded.
#[unsafe(no_mangle)]
pub extern "C" fn kogge_abi_version() -> u32 {
    KOGGE_ABI_VERSION
}

/// Whether a program that was compiled with `header_abi` works with this library: the major version
/// is the same, and the minor version is not newer.
#[expect(
    clippy::absurd_extreme_comparisons,
    reason = "only as long as the minor version is 0"
)]
#[unsafe(no_mangle)]
pub extern "C" fn kogge_abi_compatible(header_abi: u32) -> bool {
    header_abi >> 16 == KOGGE_ABI_MAJOR && header_abi & 0xffff <= KOGGE_ABI_MINOR
}

/// The library's version, such as `0.1.0`. Static.
#[unsafe(no_mangle)]
pub extern "C" fn kogge_version() -> kogge_str {
    kogge_str::of(env!("CARGO_PKG_VERSION"))
}
