//! The state on disk: written behind the apply, few records at a time, and read back at a start.
//!
//! A checkpoint is one atomic batch: the pages of the items that changed, the chunks of history that
//! grew, and one meta record with everything else, last applied and membership among it. After a
//! crash the newest checkpoint is loaded and the log replays the rest.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    blob,
    catalog::{Item, ItemId},
    codec,
    command::{LogIndex, LogTimeMs, Policy},
    engine::{Batch, Engine},
    error::{Error, Result},
    history::read_chunk,
    key::Key,
    sequence::{CHUNK_ROWS, Chunk, Sequence},
    state::{PAGE_IDS, Packed, RECENT_LEDGER, RECENT_ORDERS, State, StateHash},
};

/// Everything of a state that is in no page and no chunk. Fields are only ever appended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) applied: Option<LogIndex>,
    pub(crate) raft: Vec<u8>,
    pub(crate) log_time_ms: LogTimeMs,
    pub(crate) policy: Policy,
    pub(crate) policy_index: Option<LogIndex>,
    pub(crate) next_node_id: u64,
    pub(crate) item_count: u64,
    pub(crate) orders_next: u64,
    pub(crate) ledger_next: u64,
    pub(crate) keys_base: u64,
    pub(crate) keys_next: u64,
    pub(crate) hash: StateHash,
    pub(crate) ring: Vec<(LogIndex, u128)>,
}

impl Meta {
    pub(crate) fn of(state: &State) -> Self {
        Self {
            applied: state.applied,
            raft: state.raft.to_vec(),
            log_time_ms: state.log_time_ms,
            policy: state.policy.clone(),
            policy_index: state.policy_index,
            next_node_id: state.next_node_id,
            item_count: state.items.len() as u64,
            orders_next: state.orders.next(),
            ledger_next: state.ledger.next(),
            keys_base: state.keys.base(),
            keys_next: state.keys.next(),
            hash: state.hash,
            ring: state.ring.iter().copied().collect(),
        }
    }
}

/// The page that an item is on.
pub fn page_of(item: ItemId) -> u64 {
    item / PAGE_IDS
}

/// The items of a page.
pub(crate) fn page_items(state: &State, page: u64) -> Vec<&Arc<Item>> {
    let first = page * PAGE_IDS;
    state.items.range(first..=first + (PAGE_IDS - 1)).map(|(_, item)| item).collect()
}

/// Writes what changed since the last checkpoint and syncs. `pages` are those with changed items,
/// `packed` is what the last checkpoint returned; the new value is returned.
pub fn write(
    engine: &dyn Engine,
    state: &State,
    pages: &BTreeSet<u64>,
    packed: Packed,
) -> Result<Packed> {
    let mut batch = Batch::default();
    for &page in pages {
        let items = page_items(state, page);
        match items.is_empty() {
            true => blob::delete(engine, &mut batch, Key::ItemPage(page))?,
            false => {
                blob::put(engine, &mut batch, Key::ItemPage(page), &codec::encode(&items))?;
            }
        }
    }
    pack(engine, &mut batch, &state.orders, packed.orders, Key::Orders)?;
    pack(engine, &mut batch, &state.ledger, packed.ledger, Key::Ledger)?;
    // Of the keys, chunks may have been forgotten whole since: before or after they were packed.
    let first_chunk = state.keys.base() / CHUNK_ROWS;
    for chunk in oldest_key_chunk(engine)?.unwrap_or(first_chunk)..first_chunk {
        blob::delete(engine, &mut batch, Key::Keys(chunk))?;
    }
    pack(engine, &mut batch, &state.keys, packed.keys.max(state.keys.base()), Key::Keys)?;
    blob::put(engine, &mut batch, Key::Meta, &codec::encode(&Meta::of(state)))?;
    engine.write(batch)?;
    engine.sync()?;
    Ok(Packed { orders: state.orders.next(), ledger: state.ledger.next(), keys: state.keys.next() })
}

fn pack<T: Serialize>(
    engine: &dyn Engine,
    batch: &mut Batch,
    sequence: &Sequence<T>,
    packed: u64,
    key: impl Fn(u64) -> Key,
) -> Result<()> {
    if packed == sequence.next() {
        return Ok(());
    }
    for number in sequence.chunks_from(packed) {
        blob::put(engine, batch, key(number), &codec::pack(&sequence.chunk(number))?)?;
    }
    Ok(())
}

fn oldest_key_chunk(engine: &dyn Engine) -> Result<Option<u64>> {
    match engine.scan(&Key::Keys(0).family()).next().transpose()? {
        Some((key, _)) => match Key::decode(&key) {
            Some((Key::Keys(chunk), _)) => Ok(Some(chunk)),
            _ => Err(Error::corrupt("a key of the state database", format!("{key:?}"))),
        },
        None => Ok(None),
    }
}

/// Reads the newest checkpoint. `None` when the engine holds none: it is new, or an import into it
/// was cut off.
///
/// Errors: [`Error::Corrupt`] when anything is missing, damaged, or does not add up to the hashes.
pub fn load(engine: &dyn Engine) -> Result<Option<(State, Packed)>> {
    let Some(bytes) = blob::get(engine, Key::Meta)? else { return Ok(None) };
    let meta: Meta = codec::decode(&bytes, "the meta record")?;
    let mut state = State {
        applied: meta.applied,
        raft: meta.raft.into(),
        log_time_ms: meta.log_time_ms,
        policy: meta.policy,
        policy_index: meta.policy_index,
        next_node_id: meta.next_node_id,
        orders: load_tail(engine, meta.orders_next, RECENT_ORDERS, Key::Orders)?,
        ledger: load_tail(engine, meta.ledger_next, RECENT_LEDGER, Key::Ledger)?,
        keys: Sequence::with_rows(meta.keys_base, []),
        ring: meta.ring.into_iter().collect(),
        ..State::default()
    };
    for page in blob::scan(engine, Key::ItemPage(0)) {
        let (key, bytes) = page?;
        for item in codec::decode::<Vec<Arc<Item>>>(&bytes, &format!("{key:?}"))? {
            state.put_item(item);
        }
    }
    for chunk in Sequence::<()>::with_rows(meta.keys_next, []).chunks_from(meta.keys_base) {
        let chunk = read_chunk(engine, Key::Keys(chunk))?;
        for (number, row) in (chunk.first..).zip(&chunk.rows) {
            if number == state.keys.next() {
                state.push_key(Arc::clone(row));
            }
        }
    }
    // Those were added up anew; the history's sums are taken over, `verify` adds them up too.
    state.hash = StateHash { orders: meta.hash.orders, ledger: meta.hash.ledger, ..state.hash };
    let found = (state.items.len() as u64, state.keys.next(), state.hash);
    if found != (meta.item_count, meta.keys_next, meta.hash) {
        return Err(Error::corrupt("the state", "its records do not add up to the stored hash"));
    }
    let packed =
        Packed { orders: meta.orders_next, ledger: meta.ledger_next, keys: meta.keys_next };
    Ok(Some((state, packed)))
}

fn load_tail<T: DeserializeOwned>(
    engine: &dyn Engine,
    next: u64,
    recent: u64,
    key: impl Fn(u64) -> Key,
) -> Result<Sequence<T>> {
    let base = next.saturating_sub(recent) / CHUNK_ROWS * CHUNK_ROWS;
    let mut rows = Vec::new();
    for number in base / CHUNK_ROWS..next.div_ceil(CHUNK_ROWS) {
        let chunk: Chunk<T> = read_chunk(engine, key(number))?;
        rows.extend(chunk.rows);
    }
    let sequence = Sequence::with_rows(base, rows);
    match sequence.next() == next {
        true => Ok(sequence),
        false => Err(Error::corrupt("the history", format!("{} rows of {next}", sequence.next()))),
    }
}
