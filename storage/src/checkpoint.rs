//! The state on disk: written behind the apply, few records at a time, and read back at a start.
//!
//! A checkpoint is one atomic batch: the pages of the items that changed, the chunks of history that
//! grew, and one meta record with everything else, last applied and membership among it. After a
//! crash the newest checkpoint is loaded and the log replays the rest.

use std::{collections::BTreeSet, ops::RangeInclusive, sync::Arc};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    apply::Effects,
    blob,
    catalog::{Item, ItemId},
    changes::{Change, ChangeLog},
    chunk_index::ChunkIndex,
    codec,
    command::{LogIndex, LogTimeMs, Policy},
    engine::{Batch, Engine},
    error::{Error, Result},
    history::read_chunk,
    key::Key,
    orders::Cancellation,
    prices::PriceHistory,
    reservations::{Reservation, ReservationId},
    search::Relisted,
    sequence::{CHUNK_ROWS, Chunk, Sequence},
    state::{
        PAGE_IDS, Packed, RECENT_CANCELLATIONS, RECENT_CHANGES, RECENT_LEDGER, RECENT_ORDERS,
        State, StateHash,
    },
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
    pub(crate) next_item_id: ItemId,
    pub(crate) maintenance: bool,
    pub(crate) reservation_count: ReservationId,
    pub(crate) cancellations_next: u64,
    pub(crate) changes_first_chunk: u64,
    pub(crate) changes_next: u64,
    pub(crate) changes_complete_after: LogIndex,
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
            next_item_id: state.next_item_id,
            maintenance: state.maintenance,
            reservation_count: state.reservation_count,
            cancellations_next: state.cancellations.next(),
            changes_first_chunk: state.changes.first_chunk(),
            changes_next: state.changes.next(),
            changes_complete_after: state.changes.complete_after(),
        }
    }
}

/// The page that an item or a reservation is on.
pub fn page_of(id: u64) -> u64 {
    id / PAGE_IDS
}

fn ids_of(page: u64) -> RangeInclusive<u64> {
    let first = page * PAGE_IDS;
    first..=first + (PAGE_IDS - 1)
}

/// The items of a page, with the histories of those whose price changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemPage {
    /// The items.
    pub items: Vec<Arc<Item>>,
    /// The price histories.
    pub prices: Vec<(ItemId, Arc<PriceHistory>)>,
}

/// An item page of a state; `None` when nothing is on it.
pub(crate) fn item_page(state: &State, page: u64) -> Option<ItemPage> {
    let items: Vec<_> = state.items.range(ids_of(page)).map(|(_, item)| item.clone()).collect();
    let prices = state.prices.range(ids_of(page)).map(|(id, prices)| (*id, prices.clone()));
    (!items.is_empty()).then(|| ItemPage { items, prices: prices.collect() })
}

/// A reservation page of a state; `None` when nothing is on it.
pub(crate) fn reservation_page(state: &State, page: u64) -> Option<Vec<&Arc<Reservation>>> {
    let rows: Vec<_> = state.reservations.range(ids_of(page)).map(|(_, row)| row).collect();
    (!rows.is_empty()).then_some(rows)
}

/// The pages with something that changed since the last checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dirty {
    items: BTreeSet<u64>,
    reservations: BTreeSet<u64>,
}

impl Dirty {
    /// Adds what entries changed, and leaves nothing of it in `effects`.
    pub fn take(&mut self, effects: &mut Effects) {
        self.items.extend(effects.items.drain(..).map(|(_, item)| page_of(item)));
        self.reservations.extend(effects.reservations.drain(..).map(page_of));
    }

    /// Nothing changed any more.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Writes what changed since the last checkpoint and syncs. `packed` is what the last checkpoint
/// returned; the new value is returned. Changes are deleted below the chunk `changes_from` only.
/// `index` takes in the chunks that were completed before it is. Rests after each piece.
pub fn write(
    engine: &dyn Engine,
    state: &State,
    dirty: &Dirty,
    packed: Packed,
    index: &ChunkIndex,
    changes_from: u64,
    rest: &mut dyn FnMut(),
) -> Result<Packed> {
    let mut pieces = Pieces { engine, batch: Batch::default(), pages: 0, rest };
    for &page in &dirty.items {
        pieces.page(Key::ItemPage(page), item_page(state, page).as_ref())?;
    }
    for &page in &dirty.reservations {
        pieces.page(Key::ReservationPage(page), reservation_page(state, page).as_ref())?;
    }
    pieces.pack(&state.orders, packed.orders, Key::Orders)?;
    pieces.pack(&state.ledger, packed.ledger, Key::Ledger)?;
    pieces.pack(&state.cancellations, packed.cancellations, Key::Cancellations)?;
    // Of these, chunks may have been forgotten whole since: before or after they were packed.
    pieces.delete_chunks(state.keys.base() / CHUNK_ROWS, Key::Keys)?;
    let changes_begin = state.changes.first_chunk();
    pieces.delete_chunks(changes_from.min(changes_begin), Key::Changes)?;
    let unpacked = packed.changes.max(changes_begin * CHUNK_ROWS);
    pieces.pack(&state.changes.rows, unpacked, Key::Changes)?;
    pieces.pack(&state.keys, packed.keys.max(state.keys.base()), Key::Keys)?;
    let mut batch = pieces.batch;
    let completed = index.complete(&mut batch, state)?;
    blob::put(engine, &mut batch, Key::Meta, &codec::encode(&Meta::of(state)))?;
    engine.write(batch)?;
    engine.sync()?;
    index.extend(completed);
    Ok(all_packed(state))
}

fn all_packed(state: &State) -> Packed {
    Packed {
        orders: state.orders.next(),
        ledger: state.ledger.next(),
        keys: state.keys.next(),
        cancellations: state.cancellations.next(),
        changes: state.changes.next(),
    }
}

/// Pages that are written between two rests.
const PAGES: usize = 32;

/// The batch of a checkpoint, as it grows.
struct Pieces<'a> {
    engine: &'a dyn Engine,
    batch: Batch,
    /// Pages since the last rest.
    pages: usize,
    rest: &'a mut dyn FnMut(),
}

impl Pieces<'_> {
    fn page<T: Serialize>(&mut self, key: Key, page: Option<&T>) -> Result<()> {
        self.pages += 1;
        if self.pages >= PAGES {
            self.pages = 0;
            (self.rest)();
        }
        match page {
            None => blob::delete(self.engine, &mut self.batch, key),
            Some(page) => blob::put(self.engine, &mut self.batch, key, &codec::encode(page)),
        }
    }

    fn pack<T: Serialize>(
        &mut self,
        sequence: &Sequence<T>,
        packed: u64,
        key: impl Fn(u64) -> Key,
    ) -> Result<()> {
        if packed == sequence.next() {
            return Ok(());
        }
        for number in sequence.chunks_from(packed) {
            let bytes = codec::pack(&sequence.chunk(number))?;
            blob::put(self.engine, &mut self.batch, key(number), &bytes)?;
            (self.rest)();
        }
        Ok(())
    }

    /// Deletes the chunks below one, whose numbers have no gaps.
    fn delete_chunks(&mut self, below: u64, key: impl Fn(u64) -> Key) -> Result<()> {
        let oldest = self.engine.scan(&key(0).family()).next().transpose()?;
        let Some((first, _)) = oldest else { return Ok(()) };
        let Some((oldest, _)) = Key::decode(&first) else {
            return Err(Error::corrupt("a key of the state database", format!("{first:?}")));
        };
        for chunk in oldest.number()..below {
            blob::delete(self.engine, &mut self.batch, key(chunk))?;
        }
        Ok(())
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
        next_item_id: meta.next_item_id,
        maintenance: meta.maintenance,
        reservation_count: meta.reservation_count,
        changes: ChangeLog::beginning(meta.changes_first_chunk, meta.changes_complete_after),
        orders: load_tail(engine, meta.orders_next, RECENT_ORDERS, Key::Orders)?,
        ledger: load_tail(engine, meta.ledger_next, RECENT_LEDGER, Key::Ledger)?,
        keys: Sequence::with_rows(meta.keys_base, []),
        ring: meta.ring.into_iter().collect(),
        ..State::default()
    };
    for page in blob::scan(engine, Key::ItemPage(0)) {
        let (key, bytes) = page?;
        let page: ItemPage = codec::decode(&bytes, &format!("{key:?}"))?;
        page.items.into_iter().for_each(|item| state.put_item(item));
        page.prices.into_iter().for_each(|(id, prices)| state.put_prices(id, prices));
    }
    for page in blob::scan(engine, Key::ReservationPage(0)) {
        let (key, bytes) = page?;
        let rows: Vec<Arc<Reservation>> = codec::decode(&bytes, &format!("{key:?}"))?;
        rows.into_iter().for_each(|row| state.put_reservation(row));
    }
    load_whole_history(engine, &mut state, meta.cancellations_next, meta.changes_next)?;
    // What a load puts in place is no news: a search index begins with the whole.
    state.relisted = Relisted::default();
    for chunk in Sequence::<()>::with_rows(meta.keys_next, []).chunks_from(meta.keys_base) {
        let chunk = read_chunk(engine, Key::Keys(chunk))?;
        for (number, row) in (chunk.first..).zip(&chunk.rows) {
            if number == state.keys.next() {
                state.push_key(Arc::clone(row));
            }
        }
    }
    // Those were added up anew; the sums over orders and ledger are taken over, `verify` adds them
    // up too.
    state.hash = StateHash { orders: meta.hash.orders, ledger: meta.hash.ledger, ..state.hash };
    let next = (state.keys.next(), state.cancellations.next(), state.changes.next());
    let stored = (meta.keys_next, meta.cancellations_next, meta.changes_next);
    let found = (state.items.len() as u64, next, state.hash);
    if found != (meta.item_count, stored, meta.hash) {
        return Err(Error::corrupt("the state", "its records do not add up to the stored hash"));
    }
    let packed = all_packed(&state);
    Ok(Some((state, packed)))
}

/// Reads the histories of which something is derived, from their beginning.
fn load_whole_history(
    engine: &dyn Engine,
    state: &mut State,
    cancellations_next: u64,
    changes_next: u64,
) -> Result<()> {
    for number in 0..cancellations_next.div_ceil(CHUNK_ROWS) {
        let chunk: Chunk<Cancellation> = read_chunk(engine, Key::Cancellations(number))?;
        chunk.rows.into_iter().for_each(|row| state.push_cancellation(row));
        let upto = state.cancellations.next();
        state.cancellations.forget_packed(upto, RECENT_CANCELLATIONS);
    }
    for number in state.changes.first_chunk()..changes_next.div_ceil(CHUNK_ROWS) {
        let chunk: Chunk<Change> = read_chunk(engine, Key::Changes(number))?;
        for change in &chunk.rows {
            state.push_change(change.index, change.kind, change.id, change.what);
        }
        let upto = state.changes.next();
        state.changes.rows.forget_packed(upto, RECENT_CHANGES);
    }
    Ok(())
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
