//! A small table for other modules: the address book, unfinished builds, changes that wait for
//! consent, where artifacts came from.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::store::env::Environment;
use crate::store::error::{StoreError, limit};
use crate::store::tables::LogTables;
use crate::store::writer::Writer;

/// Longest namespace; it has no zero byte. Unit: bytes.
pub const NAMESPACE_BYTES_MAX: usize = 32;

/// Longest key inside a namespace. Unit: bytes.
pub const KEY_BYTES_MAX: usize = 256;

/// Longest value. Unit: bytes.
pub const VALUE_BYTES_MAX: usize = 64 << 10;

/// Most rows of one scan; go on after the last key.
pub const SCAN_ROWS_MAX: usize = 1_000;

/// A key and its value.
pub type MetaRow = (Vec<u8>, Vec<u8>);

/// The table. Reading takes microseconds; writing blocks for a commit unless it says otherwise.
#[derive(Clone)]
pub struct Meta {
    env: Arc<Environment>,
    tables: LogTables,
    writer: Arc<Writer>,
}

impl Meta {
    pub(crate) fn new(env: &Arc<Environment>, tables: LogTables, writer: &Arc<Writer>) -> Self {
        Self {
            env: Arc::clone(env),
            tables,
            writer: Arc::clone(writer),
        }
    }

    /// Stores `value`; durable when it returns.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooLarge`] above the limits of this module.
    pub fn put(&self, namespace: &str, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let (key, value) = self.row(namespace, key, value)?;
        let table = self.tables.meta;
        let write = move |txn: &mut heed::RwTxn<'_>| Ok(table.put(txn, &key, &value)?);
        self.writer.write(KEY_BYTES_MAX, write)
    }

    /// Stores `value` without waiting: `done` is called exactly once, when it is durable or
    /// failed, on the writer thread; it must be quick.
    pub fn put_later(
        &self,
        namespace: &str,
        key: &[u8],
        value: &[u8],
        done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) {
        match self.row(namespace, key, value) {
            Err(error) => done(Err(error)),
            Ok((key, value)) => {
                let table = self.tables.meta;
                let bytes = key.len() + value.len();
                let write = move |txn: &mut heed::RwTxn<'_>| Ok(table.put(txn, &key, &value)?);
                self.writer.submit(bytes, write, done);
            }
        }
    }

    /// Removes a key; tells whether it was there. Durable when it returns.
    ///
    /// # Errors
    ///
    /// As for [`Meta::put`].
    pub fn remove(&self, namespace: &str, key: &[u8]) -> Result<bool, StoreError> {
        let (key, table) = (full_key(namespace, key)?, self.tables.meta);
        self.writer
            .write(key.len(), move |txn| Ok(table.delete(txn, &key)?))
    }

    /// The value of a key.
    ///
    /// # Errors
    ///
    /// As for [`Meta::put`].
    pub fn get(&self, namespace: &str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let key = full_key(namespace, key)?;
        let txn = self.env.read()?;
        let value = self.tables.meta.get(&txn, &key)?;
        Ok(value.map(<[u8]>::to_vec))
    }

    /// Keys that begin with `prefix` and follow `after`, with their values, in order; at most
    /// [`SCAN_ROWS_MAX`].
    ///
    /// # Errors
    ///
    /// As for [`Meta::put`].
    pub fn scan(
        &self,
        namespace: &str,
        prefix: &[u8],
        after: Option<&[u8]>,
    ) -> Result<Vec<MetaRow>, StoreError> {
        let full_prefix = full_key(namespace, prefix)?;
        let after = after.map(|it| full_key(namespace, it)).transpose()?;
        let start = after.as_ref().filter(|it| full_prefix <= **it);
        let bounds = (
            start.map_or(std::ops::Bound::Included(&full_prefix[..]), |it| {
                std::ops::Bound::Excluded(&it[..])
            }),
            std::ops::Bound::Unbounded,
        );
        let txn = self.env.read()?;
        let cut = namespace.len() + 1;
        let mut rows = Vec::new();
        for row in self.tables.meta.range(&txn, &bounds)?.take(SCAN_ROWS_MAX) {
            let (key, value) = row?;
            if !key.starts_with(&full_prefix) {
                break;
            }
            rows.push((key.get(cut..).unwrap_or_default().to_vec(), value.to_vec()));
        }
        Ok(rows)
    }

    /// All rows of a namespace, in order.
    ///
    /// # Errors
    ///
    /// As for [`Meta::put`].
    pub fn all(&self, namespace: &str) -> Result<Vec<MetaRow>, StoreError> {
        let mut rows: Vec<MetaRow> = Vec::new();
        loop {
            let after = rows.last().map(|it| it.0.clone());
            let page = self.scan(namespace, b"", after.as_deref())?;
            let is_last = page.len() < SCAN_ROWS_MAX;
            rows.extend(page);
            if is_last {
                return Ok(rows);
            }
        }
    }

    /// Makes `rows` the only ones of a namespace, in one commit: after a crash either these or
    /// those before are there. Only one caller at a time may change the namespace. Blocks.
    ///
    /// # Errors
    ///
    /// As for [`Meta::put`]; then nothing is changed.
    pub fn replace(
        &self,
        namespace: &str,
        rows: impl IntoIterator<Item = MetaRow>,
    ) -> Result<(), StoreError> {
        let mut stale: BTreeMap<_, _> = self.all(namespace)?.into_iter().collect();
        let mut puts = Vec::new();
        for (key, value) in rows {
            if stale.remove(&key).as_ref() != Some(&value) {
                puts.push(self.row(namespace, &key, &value)?);
            }
        }
        let stale = stale.into_keys().map(|key| full_key(namespace, &key));
        let stale = stale.collect::<Result<Vec<_>, _>>()?;
        if puts.is_empty() && stale.is_empty() {
            return Ok(());
        }
        let (table, bytes) = (self.tables.meta, puts.iter().map(|it| it.1.len()).sum());
        self.writer.write(bytes, move |txn| {
            for key in &stale {
                table.delete(txn, key)?;
            }
            for (key, value) in &puts {
                table.put(txn, key, value)?;
            }
            Ok(())
        })
    }

    fn row(&self, namespace: &str, key: &[u8], value: &[u8]) -> Result<MetaRow, StoreError> {
        limit("the value", value.len(), VALUE_BYTES_MAX)?;
        Ok((full_key(namespace, key)?, value.to_vec()))
    }
}

fn full_key(namespace: &str, key: &[u8]) -> Result<Vec<u8>, StoreError> {
    limit("the namespace", namespace.len(), NAMESPACE_BYTES_MAX)?;
    limit("the key", key.len(), KEY_BYTES_MAX)?;
    debug_assert!(!namespace.contains('\0'), "namespaces have no zero byte");
    Ok([namespace.as_bytes(), &[0], key].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::testing::open;

    #[test]
    fn namespaces_and_prefixes_are_kept_apart() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let meta = store.meta();
        for (namespace, key) in [
            ("peer", "ab"),
            ("peer", "abc"),
            ("peer", "b"),
            ("peers", "ab"),
        ] {
            meta.put(namespace, key.as_bytes(), namespace.as_bytes())
                .unwrap();
        }
        let keys = |namespace, prefix: &[u8], after| {
            let rows = meta.scan(namespace, prefix, after).unwrap();
            rows.into_iter()
                .map(|it| String::from_utf8(it.0).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(keys("peer", b"", None), ["ab", "abc", "b"]);
        assert_eq!(keys("peer", b"ab", None), ["ab", "abc"]);
        assert_eq!(keys("peer", b"ab", Some(b"ab")), ["abc"]);
        assert_eq!(keys("peer", b"", Some(b"abc")), ["b"]);
        assert_eq!(keys("peers", b"", None), ["ab"]);
        assert_eq!(meta.get("peers", b"ab"), Ok(Some(b"peers".to_vec())));
        assert_eq!(meta.remove("peer", b"ab"), Ok(true));
        assert_eq!(meta.remove("peer", b"ab"), Ok(false));
        assert_eq!(meta.get("peer", b"ab"), Ok(None));
    }

    #[test]
    fn a_namespace_is_replaced_as_a_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let meta = store.meta();
        meta.put("others", b"1", b"kept").unwrap();
        let rows = |numbers: std::ops::Range<u32>, value: &[u8]| -> Vec<MetaRow> {
            numbers
                .map(|it| (it.to_be_bytes().to_vec(), value.to_vec()))
                .collect()
        };
        let many = u32::try_from(SCAN_ROWS_MAX).unwrap() + 5;
        for list in [rows(0..many, b"a"), rows(3..many, b"a"), rows(4..6, b"b")] {
            meta.replace("n", list.clone()).unwrap();
            assert!(meta.all("n").unwrap() == list);
        }
        let mut bad = rows(7..9, b"c");
        bad.push((vec![9], vec![0; VALUE_BYTES_MAX + 1]));
        assert!(meta.replace("n", bad).is_err());
        assert_eq!(meta.all("n"), Ok(rows(4..6, b"b")));
        assert_eq!(meta.get("others", b"1"), Ok(Some(b"kept".to_vec())));
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let (long_key, long_value) = ([0; KEY_BYTES_MAX + 1], vec![0; VALUE_BYTES_MAX + 1]);
        let long_name = "n".repeat(NAMESPACE_BYTES_MAX + 1);
        for (namespace, key, value) in [
            ("n", &long_key[..], &b""[..]),
            ("n", b"", &long_value),
            (&long_name, b"", b""),
        ] {
            let refused = store.meta().put(namespace, key, value);
            assert!(matches!(refused, Err(StoreError::TooLarge { .. })));
        }
    }
}
