//! Reading what C hands over: size first, then content, never a reference to what may be garbage.

use safer_ffi::layout::{CLayoutOf, ReprC, from_raw};

use crate::failure::Failure;
use crate::status::kogge_status;
use crate::types::{kogge_bytes, kogge_str};

/// Longest text argument. Unit: bytes.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// Longest bytes argument. Unit: bytes.
const BYTES_MAX: usize = 64 << 20;

/// Largest struct of a newer caller. Unit: bytes.
const STRUCT_BYTES_MAX: usize = 4_096;

/// The bytes of a view, copied.
///
/// # Safety
///
/// `view` is as its type says.
pub(crate) unsafe fn bytes(what: &str, view: kogge_bytes) -> Result<Vec<u8>, Failure> {
    // SAFETY: passed on.
    unsafe { copy(what, view.ptr, view.len, BYTES_MAX) }
}

/// The text of a view, copied.
///
/// # Safety
///
/// `view` is as its type says.
pub(crate) unsafe fn text(what: &str, view: kogge_str) -> Result<String, Failure> {
    // SAFETY: passed on.
    let bytes = unsafe { copy(what, view.ptr.cast(), view.len, TEXT_BYTES_MAX)? };
    String::from_utf8(bytes).map_err(|it| {
        let at = it.utf8_error().valid_up_to();
        Failure::argument(format!("{what} is not UTF-8 from byte {at} on"))
    })
}

/// As [`text`], of which nothing means `None`.
///
/// # Safety
///
/// As for [`text`].
pub(crate) unsafe fn text_if_any(what: &str, view: kogge_str) -> Result<Option<String>, Failure> {
    // SAFETY: passed on.
    Ok(Some(unsafe { text(what, view)? }).filter(|it| !it.is_empty()))
}

unsafe fn copy(what: &str, ptr: *const u8, len: usize, max: usize) -> Result<Vec<u8>, Failure> {
    if len == 0 {
        return Ok(Vec::new());
    }
    if ptr.is_null() {
        return Err(Failure::argument(format!("{what} is NULL with a length")));
    }
    if max < len {
        let message = format!("{what} has {len} bytes, at most {max} are allowed");
        return Err(Failure::argument(message));
    }
    // SAFETY: the caller promises `len` readable bytes.
    Ok(unsafe { std::slice::from_raw_parts(ptr, len) }.to_vec())
}

/// A struct that begins with its size as the caller knows it: what the caller does not know is
/// zero; what this library does not know must be zero (as `openat2` of Linux does it).
///
/// # Safety
///
/// `source` is NULL, or points to readable memory for a `size_t`, and for as many bytes as that
/// says.
pub(crate) unsafe fn structure<T: ReprC>(what: &str, source: *const T) -> Result<T, Failure> {
    if source.is_null() {
        return Err(Failure::argument(format!("{what} is NULL")));
    }
    let source = source.cast::<u8>();
    // SAFETY: the caller promises a readable `size_t`; it need not be aligned.
    let size = unsafe { source.cast::<usize>().read_unaligned() };
    let known = size_of::<CLayoutOf<T>>();
    if !(size_of::<usize>()..=STRUCT_BYTES_MAX).contains(&size) {
        let message = format!("struct_size of {what} is {size}; want sizeof, {known} here");
        return Err(Failure::argument(message));
    }
    // SAFETY: the caller promises `size` readable bytes.
    let given = unsafe { std::slice::from_raw_parts(source, size) };
    if given.iter().skip(known).any(|it| *it != 0) {
        let message = format!("{what} has fields that this version of the library does not know");
        return Err(Failure::new(kogge_status::Unsupported, message));
    }
    let mut layout = std::mem::MaybeUninit::<CLayoutOf<T>>::zeroed();
    let count = size.min(known);
    // SAFETY: both have `count` bytes, and they do not overlap.
    unsafe {
        std::ptr::copy_nonoverlapping(given.as_ptr(), layout.as_mut_ptr().cast::<u8>(), count);
    }
    // SAFETY: a C layout has no invalid bit patterns, and all its bytes were written.
    let layout = unsafe { layout.assume_init() };
    // SAFETY: `from_raw` checks what the type demands beyond its layout.
    let value = unsafe { from_raw::<T>(layout) };
    value.ok_or_else(|| Failure::argument(format!("{what} holds a value that its type lacks")))
}

/// Where a result goes, which must not be NULL.
pub(crate) fn out<T>(what: &str, target: *mut T) -> Result<*mut T, Failure> {
    if target.is_null() {
        return Err(Failure::argument(format!("{what} is NULL")));
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{kogge_completion, kogge_name};

    fn name(len: usize) -> kogge_name {
        let none = kogge_str::of("");
        kogge_name {
            struct_size: len,
            what: none,
            file: none,
        }
    }

    #[test]
    fn a_struct_may_be_shorter_or_longer_than_known() {
        let known = size_of::<kogge_name>();
        let mut long = [0_u8; 200];
        let read = |bytes: &[u8]| {
            let source = bytes.as_ptr().cast::<kogge_name>();
            // SAFETY: `bytes` holds as many bytes as it says.
            unsafe { structure("x", source) }.map_err(|it| it.status)
        };
        for (size, expected) in [
            (0, Err(kogge_status::InvalidArgument)),
            (7, Err(kogge_status::InvalidArgument)),
            (8, Ok(8)),
            (24, Ok(24)),
            (known, Ok(known)),
            (200, Ok(200)),
            (5_000, Err(kogge_status::InvalidArgument)),
            (usize::MAX, Err(kogge_status::InvalidArgument)),
        ] {
            long[..8].copy_from_slice(&size.to_ne_bytes());
            assert_eq!(read(&long).map(|it| it.struct_size), expected, "{size}");
        }
        long[..8].copy_from_slice(&200_usize.to_ne_bytes());
        long[199] = 1;
        assert_eq!(read(&long).err(), Some(kogge_status::Unsupported));
        // SAFETY: NULL is allowed.
        let null = unsafe { structure::<kogge_completion>("x", std::ptr::null()) };
        assert_eq!(
            null.err().map(|it| it.status),
            Some(kogge_status::InvalidArgument)
        );
        assert_eq!(name(3).struct_size, 3);
    }

    #[test]
    fn texts_are_checked_before_they_are_used() {
        let read = |ptr: *const u8, len| {
            let view = kogge_str {
                ptr: ptr.cast(),
                len,
            };
            // SAFETY: `ptr` is NULL or has `len` bytes; longer ones are refused unread.
            unsafe { text("x", view) }.map_err(|it| it.status)
        };
        let invalid = Err(kogge_status::InvalidArgument);
        assert_eq!(read(std::ptr::null(), 0), Ok(String::new()));
        assert_eq!(read(std::ptr::null(), 1), invalid);
        assert_eq!(read(b"ab".as_ptr(), 2), Ok("ab".into()));
        assert_eq!(read([b'a', 0xff].as_ptr(), 2), invalid);
        assert_eq!(read(b"ab".as_ptr(), usize::MAX), invalid);
    }
}
