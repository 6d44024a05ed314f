//! An engine in memory, with the faults of a disk: it can lose what was not synced, and fail.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{Batch, Engine, Scan, VALUE_BYTES_MAX};
use crate::{
    error::{Error, Result},
    key::KEY_BYTES,
};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// An [`Engine`] in memory. What was written and not synced is lost by a
/// [`power_cut`](MemoryEngine::power_cut), as a disk would lose it.
#[derive(Debug, Default)]
pub struct MemoryEngine {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// What readers see.
    current: Map,
    /// What survives a power cut.
    durable: Map,
    /// Batches since the last sync, in order.
    unsynced: Vec<Batch>,
    syncs: u64,
    failing_syncs: u64,
    failed: Option<String>,
}

impl MemoryEngine {
    /// An empty engine.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code panics while holding the lock; a poisoned one still holds whole batches.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets all that was not synced, but for the first `kept` of the unsynced batches: a disk
    /// may have written some of them by itself, in order. Heals a failed engine, as a restart does.
    pub fn power_cut(&self, kept: usize) {
        let mut inner = self.lock();
        let unsynced = std::mem::take(&mut inner.unsynced);
        for batch in unsynced.into_iter().take(kept) {
            apply(&mut inner.durable, batch);
        }
        inner.current = inner.durable.clone();
        inner.failed = None;
        inner.failing_syncs = 0;
    }

    /// Batches that a power cut now would put at risk.
    pub fn unsynced(&self) -> usize {
        self.lock().unsynced.len()
    }

    /// How often it was synced.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Lets the next syncs fail, as a dying disk does.
    pub fn fail_next_syncs(&self, count: u64) {
        self.lock().failing_syncs = count;
    }

    /// An engine that holds what is durable here now.
    pub fn durable_copy(&self) -> Self {
        let durable = self.lock().durable.clone();
        let inner = Inner { current: durable.clone(), durable, ..Inner::default() };
        Self { inner: Mutex::new(inner) }
    }

    /// Overwrites a stored value behind everybody's back: a flipped bit, a stale sector.
    pub fn corrupt(&self, key: &[u8], value: Vec<u8>) {
        let mut inner = self.lock();
        inner.current.insert(key.to_vec(), value.clone());
        inner.durable.insert(key.to_vec(), value);
    }
}

fn apply(map: &mut Map, batch: Batch) {
    for (key, value) in batch.writes {
        match value {
            Some(value) => map.insert(key, value),
            None => map.remove(&key),
        };
    }
}

fn check(inner: &Inner) -> Result<()> {
    match &inner.failed {
        Some(detail) => Err(Error::Failed { detail: detail.clone() }),
        None => Ok(()),
    }
}

impl Engine for MemoryEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.lock().current.get(key).cloned())
    }

    fn scan(&self, range: &RangeInclusive<[u8; KEY_BYTES]>) -> Scan<'_> {
        let range = range.start().to_vec()..=range.end().to_vec();
        let pairs: Vec<_> =
            self.lock().current.range(range).map(|(k, v)| Ok((k.clone(), v.clone()))).collect();
        Box::new(pairs.into_iter())
    }

    fn write(&self, batch: Batch) -> Result<()> {
        for (_, value) in &batch.writes {
            super::check_size(value.as_deref(), VALUE_BYTES_MAX)?;
        }
        let mut inner = self.lock();
        check(&inner)?;
        apply(&mut inner.current, batch.clone());
        inner.unsynced.push(batch);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        let mut inner = self.lock();
        check(&inner)?;
        if inner.failing_syncs > 0 {
            inner.failing_syncs -= 1;
            inner.failed = Some("fdatasync: injected I/O error".to_owned());
            return check(&inner);
        }
        let unsynced = std::mem::take(&mut inner.unsynced);
        for batch in unsynced {
            apply(&mut inner.durable, batch);
        }
        inner.syncs += 1;
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        self.lock().durable.iter().map(|(k, v)| (k.len() + v.len()) as u64).sum()
    }
}
