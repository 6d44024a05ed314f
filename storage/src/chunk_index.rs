//! Which chunk of the history may speak of an item, a customer or a time: a summary of each.
//!
//! A sale writes no index record. The checkpoint that completes a chunk of orders or ledger rows
//! writes one summary of it, in the same batch; all of them stay in memory. They are derived:
//! snapshots do not carry them, and a summary that is missing at a start is made anew of its chunk.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    blob,
    catalog::{ItemId, LedgerRow},
    codec,
    command::LogTimeMs,
    engine::{Batch, Engine},
    error::{Error, Result},
    filter::Filter,
    history::read_chunk,
    key::Key,
    orders::Order,
    sequence::{CHUNK_ROWS, Chunk, Sequence},
    state::{Packed, State},
};

/// Bytes of summaries written at a time while they are made anew.
const REBUILD_BATCH_BYTES: usize = 1 << 20;

/// The key of an item in the filter of a [`Summary`].
pub fn item_key(item: ItemId) -> u64 {
    codec::hash64(1, &item.to_le_bytes())
}

/// The key of a customer in the filter of a [`Summary`].
pub fn customer_key(customer: &str) -> u64 {
    codec::hash64(2, customer.as_bytes())
}

/// A row of a history that is found by what it speaks of.
pub trait Indexed: DeserializeOwned {
    /// The record of a chunk of these rows.
    fn chunk(number: u64) -> Key;

    /// The record of such a chunk's summary.
    fn summary(number: u64) -> Key;

    /// Its log time. Never falls from a row to the next.
    fn at_ms(&self) -> LogTimeMs;

    /// Adds the keys under which it is found.
    fn add_keys(&self, keys: &mut Vec<u64>);
}

impl Indexed for Order {
    fn chunk(number: u64) -> Key {
        Key::Orders(number)
    }

    fn summary(number: u64) -> Key {
        Key::OrderSummary(number)
    }

    fn at_ms(&self) -> LogTimeMs {
        self.placed_ms
    }

    fn add_keys(&self, keys: &mut Vec<u64>) {
        keys.extend(self.lines.iter().map(|line| item_key(line.item)));
        keys.extend(self.customer.as_deref().map(customer_key));
    }
}

impl Indexed for LedgerRow {
    fn chunk(number: u64) -> Key {
        Key::Ledger(number)
    }

    fn summary(number: u64) -> Key {
        Key::LedgerSummary(number)
    }

    fn at_ms(&self) -> LogTimeMs {
        self.at_ms
    }

    fn add_keys(&self, keys: &mut Vec<u64>) {
        keys.push(item_key(self.item));
    }
}

/// What a full chunk is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The number of the chunk's first row; the others follow without gaps.
    pub first: u64,
    /// Log time of the first row.
    pub first_ms: LogTimeMs,
    /// Log time of the last row.
    pub last_ms: LogTimeMs,
    /// The items and customers that are named.
    pub filter: Filter,
}

impl Summary {
    /// The summary of a chunk.
    pub fn of<T: Indexed>(chunk: &Chunk<T>) -> Self {
        let mut keys = Vec::new();
        for row in &chunk.rows {
            row.add_keys(&mut keys);
        }
        let at_ms = |row: Option<&Arc<T>>| row.map_or(0, |row| row.at_ms());
        Self {
            first: chunk.first,
            first_ms: at_ms(chunk.rows.first()),
            last_ms: at_ms(chunk.rows.last()),
            filter: Filter::of(keys),
        }
    }
}

/// The summaries of one history: of the chunks from the first on, without gaps. A clone costs
/// nothing.
pub type Summaries = imbl::Vector<Arc<Summary>>;

/// The summaries of all full chunks. Only grows, so that one serves every view: each has the chunks
/// below its own window in it.
#[derive(Debug, Default)]
pub struct ChunkIndex {
    orders: Mutex<Summaries>,
    ledger: Mutex<Summaries>,
}

impl ChunkIndex {
    /// Reads the summaries of what is packed in an engine, and makes those anew that are missing.
    pub fn load(engine: &dyn Engine, packed: Packed) -> Result<Self> {
        let orders = load::<Order>(engine, packed.orders)?;
        let ledger = load::<LedgerRow>(engine, packed.ledger)?;
        Ok(Self { orders: Mutex::new(orders), ledger: Mutex::new(ledger) })
    }

    /// The summaries of the orders.
    pub fn orders(&self) -> Summaries {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The summaries of the ledger.
    pub fn ledger(&self) -> Summaries {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds the summaries of the chunks that a state has completed to a checkpoint's batch. They
    /// count once the batch is durable and [`extend`](Self::extend) is told.
    pub(crate) fn complete(&self, batch: &mut Batch, state: &State) -> Result<Completed> {
        Ok(Completed {
            orders: complete(batch, &state.orders, self.orders().len() as u64)?,
            ledger: complete(batch, &state.ledger, self.ledger().len() as u64)?,
        })
    }

    /// Takes in what a checkpoint has completed.
    pub(crate) fn extend(&self, completed: Completed) {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).extend(completed.orders);
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).extend(completed.ledger);
    }
}

/// The summaries that a checkpoint writes.
pub(crate) struct Completed {
    orders: Vec<Arc<Summary>>,
    ledger: Vec<Arc<Summary>>,
}

fn complete<T: Indexed>(
    batch: &mut Batch,
    sequence: &Sequence<T>,
    from: u64,
) -> Result<Vec<Arc<Summary>>> {
    let full = from..sequence.next() / CHUNK_ROWS;
    let summarize = |number| {
        let summary = Summary::of(&sequence.chunk(number));
        put(batch, T::summary(number), &summary)?;
        Ok(Arc::new(summary))
    };
    full.map(summarize).collect()
}

fn put(batch: &mut Batch, key: Key, summary: &Summary) -> Result<()> {
    // A full chunk never changes, so what is there already is the same.
    blob::put_new(batch, key, &codec::encode(summary))
}

fn load<T: Indexed>(engine: &dyn Engine, packed: u64) -> Result<Summaries> {
    let mut stored = BTreeMap::new();
    for record in blob::scan(engine, T::summary(0)) {
        let (key, bytes) = record?;
        stored.insert(key, codec::decode::<Summary>(&bytes, &format!("{key:?}"))?);
    }
    let mut summaries = Summaries::new();
    let mut batch = Batch::default();
    let mut made = false;
    for number in 0..packed / CHUNK_ROWS {
        let key = T::summary(number);
        let summary = match stored.remove(&key) {
            Some(summary) if summary.first == number * CHUNK_ROWS => summary,
            Some(_) => return Err(Error::corrupt(format!("{key:?}"), "it is of another chunk")),
            None => {
                let summary = Summary::of(&read_chunk::<T>(engine, T::chunk(number))?);
                put(&mut batch, key, &summary)?;
                made = true;
                summary
            }
        };
        summaries.push_back(Arc::new(summary));
        if batch.bytes() >= REBUILD_BATCH_BYTES {
            engine.write(std::mem::take(&mut batch))?;
        }
    }
    if made {
        engine.write(batch)?;
        engine.sync()?;
    }
    Ok(summaries)
}
