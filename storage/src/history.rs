//! The history that left memory: packed chunks in the engine, read back by number, and what is in
//! which.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::de::DeserializeOwned;

use crate::{
    blob,
    catalog::LedgerRow,
    changes::Change,
    chunk_index::{ChunkIndex, Indexed},
    codec,
    engine::Engine,
    error::{Error, Result},
    key::Key,
    orders::{Cancellation, Order},
    sequence::{CHUNK_ROWS, Chunk},
    state::Packed,
};

/// Decoded chunks of each kind kept for readers: a few megabytes of orders.
const CACHED_CHUNKS: usize = 16;
/// Of these, how many a walk over the history goes through: the others stay for whoever comes back.
const PASSING_CHUNKS: usize = 4;

/// Reads packed history. Only rows below a state's window are asked of it, and those lie in whole
/// chunks, which never change.
#[derive(Debug)]
pub struct History {
    engine: Arc<dyn Engine>,
    index: ChunkIndex,
    orders: Cache<Order>,
    ledger: Cache<LedgerRow>,
    changes: Mutex<ChangesKept>,
}

/// How much of the change history is in the engine. All other history stays for ever.
#[derive(Debug, Default)]
struct ChangesKept {
    /// Chunks below this one are deleted, or about to be.
    from: u64,
    /// How many views rely on what there is.
    pins: usize,
}

/// While it lives, nothing is deleted of the history of the view that it was made for.
#[derive(Debug)]
pub struct Pin {
    history: Arc<History>,
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.history.changes_kept().pins -= 1;
    }
}

impl History {
    /// The history in an engine that holds none yet.
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self {
            engine,
            index: ChunkIndex::default(),
            orders: Cache::default(),
            ledger: Cache::default(),
            changes: Mutex::default(),
        }
    }

    /// The history in an engine, so far as it is packed.
    pub fn open(engine: Arc<dyn Engine>, packed: Packed) -> Result<Self> {
        let index = ChunkIndex::load(&*engine, packed)?;
        Ok(Self { index, ..Self::new(engine) })
    }

    fn changes_kept(&self) -> MutexGuard<'_, ChangesKept> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the changes from a chunk on. `None` when some of them are deleted already.
    pub(crate) fn pin_changes(self: &Arc<Self>, from: u64) -> Option<Pin> {
        let mut kept = self.changes_kept();
        if from < kept.from {
            return None;
        }
        kept.pins += 1;
        drop(kept);
        Some(Pin { history: self.clone() })
    }

    /// Gives up the changes below a chunk, unless somebody relies on them, and says below which one
    /// they may be deleted.
    pub(crate) fn give_up_changes(&self, below: u64) -> u64 {
        let mut kept = self.changes_kept();
        if kept.pins == 0 {
            kept.from = kept.from.max(below);
        }
        kept.from
    }

    /// The cancellations of a chunk.
    pub fn cancellation_chunk(&self, number: u64) -> Result<Chunk<Cancellation>> {
        read_chunk(&*self.engine, Key::Cancellations(number))
    }

    /// The changes of a chunk; `None` when it is deleted, which happens under views that are not
    /// pinned.
    pub fn change_chunk(&self, number: u64) -> Result<Option<Chunk<Change>>> {
        // A chunk that is gone before it is looked for was given up; one that goes meanwhile too.
        match read_chunk(&*self.engine, Key::Changes(number)) {
            Err(_) if number < self.changes_kept().from => Ok(None),
            read => read.map(Some),
        }
    }

    /// The engine it reads.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// What is in which chunk.
    pub fn index(&self) -> &ChunkIndex {
        &self.index
    }

    /// The order in a row.
    pub fn order(&self, row: u64) -> Result<Arc<Order>> {
        let chunk = self.orders.get(&*self.engine, row / CHUNK_ROWS, Visit::Again)?;
        let offset = usize::try_from(row % CHUNK_ROWS).expect("less than a chunk's rows");
        chunk.rows.get(offset).cloned().ok_or_else(|| {
            Error::corrupt(format!("{:?}", Key::Orders(row / CHUNK_ROWS)), "it has too few rows")
        })
    }

    /// The orders of a chunk, for one who goes on to the next.
    pub fn order_chunk(&self, number: u64) -> Result<Arc<Chunk<Order>>> {
        self.orders.get(&*self.engine, number, Visit::Passing)
    }

    /// The ledger rows of a chunk, for one who goes on to the next.
    pub fn ledger_chunk(&self, number: u64) -> Result<Arc<Chunk<LedgerRow>>> {
        self.ledger.get(&*self.engine, number, Visit::Passing)
    }
}

/// How a chunk is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Visit {
    /// It is likely to be asked for again.
    Again,
    /// Others come after it.
    Passing,
}

/// Decoded chunks.
#[derive(Debug)]
struct Cache<T> {
    /// The next one to go first.
    chunks: Mutex<VecDeque<(u64, Arc<Chunk<T>>)>>,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self { chunks: Mutex::default() }
    }
}

impl<T: Indexed> Cache<T> {
    fn get(&self, engine: &dyn Engine, number: u64, visit: Visit) -> Result<Arc<Chunk<T>>> {
        let lock = || self.chunks.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut cached = lock();
            if let Some(at) = cached.iter().position(|(n, _)| *n == number) {
                let chunk = cached[at].1.clone();
                if visit == Visit::Again
                    && let Some(entry) = cached.remove(at)
                {
                    cached.push_back(entry);
                }
                return Ok(chunk);
            }
        }
        let chunk = Arc::new(read_chunk(engine, T::chunk(number))?);
        let mut cached = lock();
        if cached.len() >= CACHED_CHUNKS {
            cached.pop_front();
        }
        let place = match visit {
            Visit::Again => cached.len(),
            Visit::Passing => cached.len().min(PASSING_CHUNKS - 1),
        };
        cached.insert(place, (number, chunk.clone()));
        Ok(chunk)
    }
}

/// Reads a packed chunk.
pub(crate) fn read_chunk<T: DeserializeOwned>(engine: &dyn Engine, key: Key) -> Result<Chunk<T>> {
    match blob::get(engine, key)? {
        Some(bytes) => codec::unpack(&bytes, &format!("{key:?}")),
        None => Err(Error::corrupt(format!("{key:?}"), "it is missing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        codec,
        engine::{Batch, MemoryEngine},
    };

    #[test]
    fn whoever_walks_over_the_history_leaves_the_others_their_chunks() {
        let engine = MemoryEngine::new();
        let mut batch = Batch::default();
        for number in 0..100 {
            let chunk = Chunk::<LedgerRow> { first: number * CHUNK_ROWS, rows: Vec::new() };
            let packed = codec::pack(&chunk).unwrap();
            blob::put_new(&mut batch, Key::Ledger(number), &packed).unwrap();
        }
        engine.write(batch).unwrap();
        let cache = Cache::<LedgerRow>::default();
        let get = |number, visit| {
            let chunk = cache.get(&engine, number, visit).unwrap();
            assert_eq!(chunk.first, number * CHUNK_ROWS);
        };
        for number in 0..16 {
            get(number, Visit::Again);
        }
        for number in 20..100 {
            get(number, Visit::Passing);
        }
        let held =
            || -> Vec<u64> { cache.chunks.lock().unwrap().iter().map(|(n, _)| *n).collect() };
        assert_eq!(held(), [96, 97, 98, 99, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        get(97, Visit::Again);
        get(50, Visit::Passing);
        assert_eq!(held(), [98, 99, 4, 50, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 97]);
    }
}
