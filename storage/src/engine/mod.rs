//! An ordered map of bytes on disk: what the log and the state database are kept in.
//!
//! Implementations: [`SledEngine`] for the state, [`JournalEngine`] for the log, [`MemoryEngine`] for
//! tests and simulation, which can lose everything that was not synced. One test suite, in this file,
//! runs against all of them.

mod journal;
mod memory;
mod sled;

use std::{fmt::Debug, fs::File, ops::RangeInclusive, path::Path, sync::OnceLock};

pub use self::{journal::JournalEngine, memory::MemoryEngine, sled::SledEngine};
use crate::{
    error::{Error, Result},
    key::KEY_BYTES,
};

/// The largest value that an engine takes, in bytes.
///
/// sled writes a whole leaf of its tree, up to about twenty values, as one message, and a message
/// over a quarter of a segment goes to a side file that is never synced: found by experiment, 20 of
/// 20 such values were lost in a power cut. Twenty times this is below that quarter with the
/// segment size chosen in `sled.rs`, and a test watches that no side file ever appears.
pub const VALUE_BYTES_MAX: usize = 32 << 10;

/// Writes that take effect together or not at all.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    /// In order; a later write to the same key wins. `None` deletes.
    pub(crate) writes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Batch {
    /// Sets a key.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: Vec<u8>) {
        self.writes.push((key.into(), Some(value)));
    }

    /// Removes a key, present or not.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.writes.push((key.into(), None));
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.writes.iter().map(|(k, v)| k.len() + v.as_ref().map_or(0, Vec::len)).sum()
    }
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);
/// Pairs in key order.
pub type Scan<'a> = Box<dyn DoubleEndedIterator<Item = Result<Pair>> + 'a>;

/// An ordered map of bytes with atomic batches and explicit durability.
///
/// Contract:
/// - [`write`](Engine::write) is atomic and visible to readers when it returns, but not durable.
/// - After [`sync`](Engine::sync) has returned `Ok`, everything written before the call survives a
///   power cut.
/// - After a failed `write` or `sync` the engine accepts nothing more: a sync that failed once must
///   not be retried, because the kernel may have dropped the dirty pages it could not write.
pub trait Engine: Debug + Send + Sync {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// All pairs whose keys lie in the range, in order.
    fn scan(&self, range: &RangeInclusive<[u8; KEY_BYTES]>) -> Scan<'_>;

    /// Applies a batch atomically.
    fn write(&self, batch: Batch) -> Result<()>;

    /// Makes everything written so far durable.
    fn sync(&self) -> Result<()>;

    /// Bytes on disk, roughly.
    fn disk_bytes(&self) -> u64;
}

/// The first failure of an engine, after which it accepts nothing more. See the contract of [`Engine`].
#[derive(Debug, Default)]
struct Failure(OnceLock<String>);

impl Failure {
    fn check(&self) -> Result<()> {
        match self.0.get() {
            Some(detail) => Err(Error::Failed { detail: detail.clone() }),
            None => Ok(()),
        }
    }

    fn note(&self, error: Error) -> Error {
        // The first failure is the one that tells the cause; a second one changes nothing.
        let _ = self.0.set(error.to_string());
        error
    }
}

/// Refuses a value that the engine must not hold.
fn check_size(value: Option<&[u8]>, limit: usize) -> Result<()> {
    match value {
        Some(value) if value.len() > limit => Err(Error::TooLarge {
            what: "a record of the storage engine".to_owned(),
            bytes: value.len(),
            limit,
        }),
        Some(_) | None => Ok(()),
    }
}

/// Makes the entries of a directory durable.
pub(crate) fn sync_dir(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(|e| Error::io(format!("fsync of the directory {}", path.display()), e))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rand::{Rng, SeedableRng};

    use super::*;

    fn key(number: u64) -> [u8; KEY_BYTES] {
        crate::key::Key::ItemPage(number).encode(0)
    }

    fn numbers(scan: Scan<'_>) -> Vec<u8> {
        scan.map(|pair| pair.unwrap().1[0]).collect()
    }

    /// What every engine must do. `reopen` closes and opens the same store.
    fn suite(engine: Arc<dyn Engine>, reopen: impl Fn(Arc<dyn Engine>) -> Arc<dyn Engine>) {
        assert_eq!(engine.get(&key(1)).unwrap(), None);

        let mut batch = Batch::default();
        for n in [3u8, 1, 2, 200] {
            batch.put(key(u64::from(n)), vec![n]);
        }
        batch.put(key(2), vec![22]);
        batch.put(key(9), vec![9]);
        batch.delete(key(9));
        engine.write(batch).unwrap();
        assert_eq!(engine.get(&key(2)).unwrap(), Some(vec![22]), "the later write wins");
        assert_eq!(engine.get(&key(9)).unwrap(), None, "the later delete wins");
        assert_eq!(numbers(engine.scan(&(key(0)..=key(u64::MAX)))), [1, 22, 3, 200]);
        assert_eq!(numbers(engine.scan(&(key(2)..=key(3)))), [22, 3]);
        assert_eq!(numbers(Box::new(engine.scan(&(key(0)..=key(3))).rev())), [3, 22, 1]);
        assert_eq!(numbers(engine.scan(&(key(4)..=key(5)))), [0u8; 0]);

        let mut batch = Batch::default();
        batch.delete(key(1));
        batch.delete(key(77));
        batch.put(key(5), vec![5; VALUE_BYTES_MAX]);
        engine.write(batch).unwrap();
        engine.sync().unwrap();

        let mut batch = Batch::default();
        batch.put(key(6), vec![0; VALUE_BYTES_MAX + 1]);
        batch.put(key(7), vec![7]);
        assert!(engine.write(batch).is_err(), "a value over the limit is refused");

        let engine = reopen(engine);
        assert_eq!(engine.get(&key(7)).unwrap(), None, "a refused batch leaves nothing");
        assert_eq!(engine.get(&key(1)).unwrap(), None);
        assert_eq!(engine.get(&key(5)).unwrap().unwrap().len(), VALUE_BYTES_MAX);
        assert_eq!(numbers(engine.scan(&(key(0)..=key(u64::MAX)))), [22, 3, 5, 200]);
    }

    #[test]
    fn the_memory_engine_keeps_the_contract() {
        suite(Arc::new(MemoryEngine::new()), |engine| engine);
    }

    #[test]
    fn the_sled_engine_keeps_the_contract() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let reopen = |engine: Arc<dyn Engine>| -> Arc<dyn Engine> {
            drop(engine);
            // sled's own threads may hold the files for a moment after the engine is dropped.
            loop {
                match SledEngine::open(&path, 8 << 20) {
                    Err(crate::Error::Locked { .. }) => std::thread::yield_now(),
                    other => return Arc::new(other.unwrap()),
                }
            }
        };
        suite(Arc::new(SledEngine::open(&path, 8 << 20).unwrap()), reopen);
    }

    #[test]
    fn the_journal_keeps_the_contract() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let reopen = |engine: Arc<dyn Engine>| -> Arc<dyn Engine> {
            drop(engine);
            Arc::new(JournalEngine::open(&path).unwrap())
        };
        suite(Arc::new(JournalEngine::open(&path).unwrap()), reopen);
    }

    #[test]
    fn sled_keeps_no_value_in_its_unsynced_side_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let engine = SledEngine::open(&path, 8 << 20).unwrap();
        // Every shape of churn at the largest size: ascending, overwritten, deleted, random.
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        for n in 0..600u64 {
            let mut batch = Batch::default();
            batch.put(key(n), vec![7; VALUE_BYTES_MAX]);
            batch.put(key(n / 2), vec![8; VALUE_BYTES_MAX]);
            for _ in 0..3 {
                let other = key(random.random_range(0..1000));
                match random.random_bool(0.6) {
                    true => batch.put(other, vec![9; VALUE_BYTES_MAX]),
                    false => batch.delete(other),
                }
            }
            engine.write(batch).unwrap();
            if n % 16 == 0 {
                engine.sync().unwrap();
            }
        }
        engine.sync().unwrap();
        let blobs: Vec<_> = std::fs::read_dir(path.join("blobs")).unwrap().collect();
        assert!(blobs.is_empty(), "{blobs:?}");
    }

    #[test]
    fn a_directory_that_is_open_elsewhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _first = SledEngine::open(dir.path(), 8 << 20).unwrap();
        let error = SledEngine::open(dir.path(), 8 << 20).unwrap_err();
        assert!(matches!(error, crate::Error::Locked { .. }), "{error}");
    }

    #[test]
    fn a_damaged_database_is_damage_and_not_a_panic() {
        let dir = tempfile::tempdir().unwrap();
        {
            let engine = SledEngine::open(dir.path(), 8 << 20).unwrap();
            for n in 0..2000 {
                let mut batch = Batch::default();
                batch.put(key(n), vec![7; 900]);
                engine.write(batch).unwrap();
            }
            engine.sync().unwrap();
        }
        std::fs::write(dir.path().join("conf"), b"not a configuration").unwrap();
        let error = SledEngine::open(dir.path(), 8 << 20).unwrap_err();
        assert!(error.is_damage(), "{error}");
    }

    #[test]
    fn a_power_cut_loses_what_was_not_synced_and_nothing_else() {
        let engine = MemoryEngine::new();
        let mut batch = Batch::default();
        batch.put(key(1), vec![1]);
        engine.write(batch).unwrap();
        engine.sync().unwrap();
        let mut batch = Batch::default();
        batch.put(key(1), vec![2]);
        batch.put(key(2), vec![2]);
        engine.write(batch).unwrap();
        engine.power_cut(0);
        assert_eq!(engine.get(&key(1)).unwrap(), Some(vec![1]));
        assert_eq!(engine.get(&key(2)).unwrap(), None);
    }

    #[test]
    fn after_a_failed_sync_nothing_is_accepted() {
        let engine = MemoryEngine::new();
        engine.fail_next_syncs(1);
        assert!(engine.sync().is_err());
        let mut batch = Batch::default();
        batch.put(key(1), vec![1]);
        assert!(engine.write(batch).is_err());
        assert!(engine.sync().is_err(), "a failed sync is never retried");
    }
}
