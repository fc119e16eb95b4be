//! Records for Java: numbers little-endian, digests as they are, texts as a length (`i32`) and UTF-8.

use kogge_abi::{
    kogge_buffer, kogge_buffer_free, kogge_buffer_get_bytes, kogge_entry, kogge_rows,
    kogge_rows_free, kogge_rows_get_entry, kogge_rows_get_len, kogge_rows_take_json, kogge_str,
};

use crate::call::{Failure, bytes_of, check, owned};

/// A record that is being written.
#[derive(Default)]
pub(crate) struct Record(Vec<u8>);

impl Record {
    pub(crate) fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub(crate) fn digest(&mut self, digest: &[u8; 32]) {
        self.0.extend_from_slice(digest);
    }

    pub(crate) fn text(&mut self, text: kogge_str) {
        self.bytes(owned(text).as_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        // Longer texts than Java's arrays can be do not come from the library.
        let len = i32::try_from(bytes.len()).unwrap_or(0);
        self.0.extend_from_slice(&len.to_le_bytes());
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Packs entries, and frees them. `with_json` adds everything that they say.
pub(crate) fn rows(rows: *mut kogge_rows, with_json: bool) -> Result<Vec<u8>, Failure> {
    let packed = pack_rows(rows, with_json);
    kogge_rows_free(rows);
    packed
}

fn pack_rows(rows: *mut kogge_rows, with_json: bool) -> Result<Vec<u8>, Failure> {
    let (mut record, len) = (Record::default(), kogge_rows_get_len(rows));
    record.number(len as u64);
    for at in 0..len {
        let mut entry = std::mem::MaybeUninit::<kogge_entry>::uninit();
        // SAFETY: writable; written if the call succeeds.
        let entry = unsafe {
            check(
                kogge_rows_get_entry(rows, at, entry.as_mut_ptr()),
                std::ptr::null_mut(),
            )?;
            entry.assume_init()
        };
        for number in [
            entry.index,
            entry.height,
            entry.time_ms,
            entry.removed,
            entry.size,
        ] {
            record.number(number);
        }
        record.digest(&entry.blake3);
        record.digest(&entry.sha256);
        for text in [entry.kind, entry.purl, entry.file, entry.media_type] {
            record.text(text);
        }
        let json = match with_json {
            true => json(rows, at)?,
            false => Vec::new(),
        };
        record.bytes(&json);
    }
    Ok(record.finish())
}

fn json(rows: *mut kogge_rows, at: usize) -> Result<Vec<u8>, Failure> {
    let (mut buffer, mut error) = (std::ptr::null_mut::<kogge_buffer>(), std::ptr::null_mut());
    // SAFETY: both are writable.
    let status = unsafe { kogge_rows_take_json(rows, at, &raw mut buffer, &raw mut error) };
    check(status, error)?;
    let bytes = bytes_of(kogge_buffer_get_bytes(buffer));
    kogge_buffer_free(buffer);
    Ok(bytes)
}
