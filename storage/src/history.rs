//! The history that left memory: packed chunks in the engine, read back by number.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use serde::de::DeserializeOwned;

use crate::{
    blob,
    catalog::LedgerRow,
    codec,
    engine::Engine,
    error::{Error, Result},
    key::Key,
    orders::Order,
    sequence::{CHUNK_ROWS, Chunk},
};

/// Decoded chunks kept for readers: a few megabytes of orders.
const CACHED_CHUNKS: usize = 16;

/// Reads packed history. Only rows below a state's window are asked of it, and those lie in whole
/// chunks, which never change.
#[derive(Debug)]
pub struct History {
    engine: Arc<dyn Engine>,
    /// Newest use last.
    orders: Mutex<VecDeque<(u64, Arc<Chunk<Order>>)>>,
}

impl History {
    /// The history in an engine.
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self { engine, orders: Mutex::default() }
    }

    /// The engine it reads.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// The order in a row.
    pub fn order(&self, row: u64) -> Result<Arc<Order>> {
        let chunk = self.order_chunk(row / CHUNK_ROWS)?;
        let offset = usize::try_from(row % CHUNK_ROWS).expect("less than a chunk's rows");
        chunk.rows.get(offset).cloned().ok_or_else(|| {
            Error::corrupt(format!("{:?}", Key::Orders(row / CHUNK_ROWS)), "it has too few rows")
        })
    }

    /// The orders of a chunk.
    pub fn order_chunk(&self, number: u64) -> Result<Arc<Chunk<Order>>> {
        let lock = || self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut cached = lock();
            if let Some(at) = cached.iter().position(|(n, _)| *n == number)
                && let Some(entry) = cached.remove(at)
            {
                let chunk = entry.1.clone();
                cached.push_back(entry);
                return Ok(chunk);
            }
        }
        let chunk = Arc::new(read_chunk(&*self.engine, Key::Orders(number))?);
        let mut cached = lock();
        if cached.len() >= CACHED_CHUNKS {
            cached.pop_front();
        }
        cached.push_back((number, chunk.clone()));
        Ok(chunk)
    }

    /// The ledger rows of a chunk.
    pub fn ledger_chunk(&self, number: u64) -> Result<Chunk<LedgerRow>> {
        read_chunk(&*self.engine, Key::Ledger(number))
    }
}

/// Reads a packed chunk.
pub(crate) fn read_chunk<T: DeserializeOwned>(engine: &dyn Engine, key: Key) -> Result<Chunk<T>> {
    match blob::get(engine, key)? {
        Some(bytes) => codec::unpack(&bytes, &format!("{key:?}")),
        None => Err(Error::corrupt(format!("{key:?}"), "it is missing")),
    }
}
