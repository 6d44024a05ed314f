//! The whole working state as one immutable value.
//!
//! A clone costs a few pointers (persistent maps), so the state machine publishes one after each
//! round of entries, and readers, checkpoints and snapshots each keep the one they began with.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    catalog::{Item, ItemId, LedgerRow},
    changes::{Change, ChangeKind, ChangeLog, ChangeWhat},
    codec,
    command::{LogIndex, LogTimeMs, Policy},
    orders::{Cancellation, KeyRecord, Order, OrderId},
    prices::{PriceHistory, PriceSpan},
    reservations::{Reservation, ReservationId},
    search::Relisted,
    sequence::Sequence,
};

/// Entries between two hashes of the [`State::hash_ring`].
pub const RING_EVERY: u64 = 1024;
/// Hashes that the ring keeps.
pub const RING_LENGTH: usize = 64;
/// Orders that stay in memory at least, however many are packed.
pub const RECENT_ORDERS: u64 = 4096;
/// Ledger rows that stay in memory at least.
pub const RECENT_LEDGER: u64 = 1024;
/// Cancellations that stay in memory at least.
pub const RECENT_CANCELLATIONS: u64 = 1024;
/// Changes that stay in memory at least.
pub const RECENT_CHANGES: u64 = 4096;
/// Item ids, or reservation ids, on one page of the checkpoint.
pub const PAGE_IDS: u64 = 32;

/// The working state: a value. Changed only by [`crate::apply`].
///
/// Invariants, at every index:
/// - every item keeps those of [`Item`];
/// - what is derived says what it is derived to say;
/// - of each item as much is reserved as the held reservations hold;
/// - `hash` is the sum over all records; the numbers of orders and reservations are dense from 1.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The newest entry that is in this state.
    pub(crate) applied: Option<LogIndex>,
    /// What Raft wants to find again with the state (last applied log id, membership): opaque here.
    pub(crate) raft: Arc<[u8]>,
    pub(crate) log_time_ms: LogTimeMs,
    pub(crate) policy: Policy,
    /// Index at which the policy was last set; `None` while it is the built-in one.
    pub(crate) policy_index: Option<LogIndex>,
    pub(crate) next_node_id: u64,
    /// No id below it is given to a new item.
    pub(crate) next_item_id: ItemId,
    pub(crate) maintenance: bool,
    pub(crate) items: imbl::OrdMap<ItemId, Arc<Item>>,
    /// Derived: the items of each topic.
    pub(crate) topics: imbl::OrdMap<Arc<str>, imbl::OrdSet<ItemId>>,
    /// Derived: the items with no stock.
    pub(crate) sold_out: imbl::OrdSet<ItemId>,
    /// Derived: the items that changed lately, other than in stock, for the search index to catch up
    /// with.
    pub(crate) relisted: Relisted,
    /// Of the items whose price changed since they were created.
    pub(crate) prices: imbl::OrdMap<ItemId, Arc<PriceHistory>>,
    /// Those that hold, and the newest of those that ended.
    pub(crate) reservations: imbl::OrdMap<ReservationId, Arc<Reservation>>,
    /// The number of reservations ever made, which is also the newest one's number.
    pub(crate) reservation_count: ReservationId,
    /// Derived: the reservations that hold, by their end.
    pub(crate) expiries: imbl::OrdSet<(LogTimeMs, ReservationId)>,
    /// Derived: the reservations that ended, by the index of their end.
    pub(crate) ended: imbl::OrdSet<(LogIndex, ReservationId)>,
    /// Row `n` is order `n + 1`.
    pub(crate) orders: Sequence<Order>,
    pub(crate) ledger: Sequence<LedgerRow>,
    pub(crate) cancellations: Sequence<Cancellation>,
    /// Derived: the row of each cancelled order's cancellation.
    pub(crate) cancelled: imbl::OrdMap<OrderId, u64>,
    pub(crate) changes: ChangeLog,
    pub(crate) keys: Sequence<KeyRecord>,
    pub(crate) hash: StateHash,
    pub(crate) ring: imbl::Vector<(LogIndex, u128)>,
}

/// Order-independent sums over the records of each kind. Equal on every replica at the same index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StateHash {
    /// Over the items.
    pub items: u128,
    /// Over all orders ever.
    pub orders: u128,
    /// Over all ledger rows ever.
    pub ledger: u128,
    /// Over the idempotency records.
    pub keys: u128,
    /// Over the price histories.
    pub prices: u128,
    /// Over the reservations that are kept.
    pub reservations: u128,
    /// Over all cancellations ever.
    pub cancellations: u128,
    /// Over the changes that are kept.
    pub changes: u128,
}

/// Tags of the record kinds in the state hash.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Item = 1,
    Order = 2,
    Ledger = 3,
    Key = 4,
    Rest = 5,
    Prices = 6,
    Reservation = 7,
    Cancellation = 8,
    Change = 9,
}

/// The hash of one record.
pub(crate) fn record_hash<T: Serialize>(kind: Kind, record: &T) -> u128 {
    codec::hash_of(kind as u8, record)
}

impl State {
    /// The newest entry in this state; `None` before the first.
    pub fn applied(&self) -> Option<LogIndex> {
        self.applied
    }

    /// What Raft stored with the state.
    pub fn raft(&self) -> &[u8] {
        &self.raft
    }

    /// Stores what Raft wants to find again with the state at this index.
    pub fn set_raft(&mut self, bytes: Arc<[u8]>) {
        self.raft = bytes;
    }

    /// The log time.
    pub fn log_time_ms(&self) -> LogTimeMs {
        self.log_time_ms
    }

    /// The policy in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Whether somebody set the policy, or it is still the built-in one.
    pub fn policy_is_set(&self) -> bool {
        self.policy_index.is_some()
    }

    /// The index at which the policy was last set.
    pub fn policy_index(&self) -> Option<LogIndex> {
        self.policy_index
    }

    /// Whether maintenance is on.
    pub fn maintenance(&self) -> bool {
        self.maintenance
    }

    /// Whether an item is sold out, so that a restock would do something.
    pub fn has_sold_out(&self) -> bool {
        !self.sold_out.is_empty()
    }

    /// The number of orders ever placed, which is also the newest order's number.
    pub fn order_count(&self) -> OrderId {
        self.orders.next()
    }

    /// The number of items.
    pub fn item_count(&self) -> usize {
        self.items.len()
    }

    /// The number of reservations ever made, which is also the newest one's number.
    pub fn reservation_count(&self) -> ReservationId {
        self.reservation_count
    }

    /// The number of reservations that hold.
    pub fn held_count(&self) -> u64 {
        self.expiries.len() as u64
    }

    /// The items of which pieces are held, some of them more than once.
    pub(crate) fn held_items(&self) -> impl Iterator<Item = ItemId> + '_ {
        let held = self.expiries.iter().filter_map(|(_, id)| self.reservations.get(id));
        held.flat_map(|reservation| reservation.lines.iter().map(|line| line.item))
    }

    /// The log time at which the next reservation ends by itself.
    pub fn next_expiry_ms(&self) -> Option<LogTimeMs> {
        self.expiries.get_min().map(|(expires_ms, _)| *expires_ms)
    }

    /// The number of idempotency records.
    pub fn key_count(&self) -> u64 {
        self.keys.next() - self.keys.base()
    }

    /// The state hash: over every record and every counter, but not over Raft's own bytes.
    pub fn state_hash(&self) -> u128 {
        let rest = (
            (self.applied, self.log_time_ms, &self.policy, self.policy_index, self.next_node_id),
            (self.orders.next(), self.ledger.next(), self.keys.base(), self.keys.next()),
            (self.next_item_id, self.maintenance, self.reservation_count),
            (self.cancellations.next(), self.changes.first_chunk(), self.changes.next()),
            self.changes.complete_after(),
            self.hash,
        );
        record_hash(Kind::Rest, &rest)
    }

    /// State hashes at fixed earlier indexes, oldest first.
    pub fn hash_ring(&self) -> impl Iterator<Item = (LogIndex, u128)> + '_ {
        self.ring.iter().copied()
    }

    /// Puts an item in place, replacing the one with its number, and keeps what is derived from it.
    pub(crate) fn put_item(&mut self, item: Arc<Item>) {
        let id = item.id;
        self.hash.items = self.hash.items.wrapping_add(record_hash(Kind::Item, &item));
        let before = self.items.insert(id, item.clone());
        let is_listed_as = |before: &Item| {
            (before.price_cents, &before.title, &before.topic)
                == (item.price_cents, &item.title, &item.topic)
        };
        if !before.as_deref().is_some_and(is_listed_as) {
            self.relisted.push(id);
        }
        if let Some(before) = &before {
            self.hash.items = self.hash.items.wrapping_sub(record_hash(Kind::Item, before));
        }
        if before.as_ref().is_none_or(|b| b.topic != item.topic) {
            if let Some(before) = &before {
                self.leave_topic(&before.topic, id);
            }
            self.topics.entry(item.topic.clone()).or_default().insert(id);
        }
        let sold_out = item.stock == 0;
        if before.is_none_or(|b| (b.stock == 0) != sold_out) {
            match sold_out {
                true => self.sold_out.insert(id),
                false => self.sold_out.remove(&id),
            };
        }
    }

    /// Takes an item out, and what hangs off it.
    pub(crate) fn remove_item(&mut self, id: ItemId) {
        let Some(before) = self.items.remove(&id) else { return };
        self.hash.items = self.hash.items.wrapping_sub(record_hash(Kind::Item, &before));
        self.leave_topic(&before.topic, id);
        self.relisted.push(id);
        self.sold_out.remove(&id);
        if let Some(prices) = self.prices.remove(&id) {
            self.hash.prices = self.hash.prices.wrapping_sub(prices.hash(id));
        }
    }

    /// Puts an item's price history in place.
    pub(crate) fn put_prices(&mut self, id: ItemId, prices: Arc<PriceHistory>) {
        let sum = &mut self.hash.prices;
        *sum = sum.wrapping_add(prices.hash(id));
        if let Some(before) = self.prices.insert(id, prices) {
            *sum = sum.wrapping_sub(before.hash(id));
        }
    }

    /// Notes that an item, still as it was, costs something else from an index on.
    pub(crate) fn push_price(&mut self, before: &Item, index: LogIndex, price_cents: u64) {
        let (id, keep) = (before.id, self.policy.price_history);
        let span = PriceSpan { price_cents, from_ms: self.log_time_ms, index };
        match self.prices.get_mut(&id) {
            Some(prices) => {
                let (pushed, forgotten) = prices.pushed(span, keep);
                let sum = self.hash.prices.wrapping_add(span.hash(id));
                let gone = forgotten.iter().map(|span| span.hash(id));
                self.hash.prices = gone.fold(sum, u128::wrapping_sub);
                *prices = Arc::new(pushed);
            }
            None => {
                let (pushed, _) = PriceHistory::of(before).pushed(span, keep);
                self.put_prices(id, Arc::new(pushed));
            }
        }
    }

    /// Puts a reservation in place, replacing the one with its number, and keeps what is derived
    /// from it.
    pub(crate) fn put_reservation(&mut self, reservation: Arc<Reservation>) {
        self.remove_reservation(reservation.id);
        let hash = record_hash(Kind::Reservation, &reservation);
        self.hash.reservations = self.hash.reservations.wrapping_add(hash);
        match reservation.ended {
            None => self.expiries.insert((reservation.expires_ms, reservation.id)),
            Some((index, _)) => self.ended.insert((index, reservation.id)),
        };
        self.reservations.insert(reservation.id, reservation);
    }

    /// Forgets a reservation.
    pub(crate) fn remove_reservation(&mut self, id: ReservationId) {
        let Some(before) = self.reservations.remove(&id) else { return };
        let hash = record_hash(Kind::Reservation, &before);
        self.hash.reservations = self.hash.reservations.wrapping_sub(hash);
        match before.ended {
            None => self.expiries.remove(&(before.expires_ms, id)),
            Some((index, _)) => self.ended.remove(&(index, id)),
        };
    }

    /// Notes that an order was taken back.
    pub(crate) fn push_cancellation(&mut self, cancellation: Arc<Cancellation>) {
        let hash = record_hash(Kind::Cancellation, &cancellation);
        self.hash.cancellations = self.hash.cancellations.wrapping_add(hash);
        let order = cancellation.order;
        let row = self.cancellations.push(cancellation);
        self.cancelled.insert(order, row);
    }

    /// Notes that something changed.
    pub(crate) fn push_change(
        &mut self,
        index: LogIndex,
        kind: ChangeKind,
        id: u64,
        what: ChangeWhat,
    ) {
        let hash = self.changes.push(Change { index, kind, id, what });
        self.hash.changes = self.hash.changes.wrapping_add(hash);
    }

    /// Forgets the oldest chunk of changes if there are enough without it.
    pub(crate) fn pop_changes(&mut self) -> bool {
        let popped = self.changes.pop_chunk(self.policy.change_history);
        if let Some(sum) = popped {
            self.hash.changes = self.hash.changes.wrapping_sub(sum);
        }
        popped.is_some()
    }

    fn leave_topic(&mut self, topic: &Arc<str>, id: ItemId) {
        if let Some(ids) = self.topics.get_mut(topic) {
            ids.remove(&id);
            if ids.is_empty() {
                self.topics.remove(topic);
            }
        }
    }

    /// Adds an order under the next number.
    pub(crate) fn push_order(&mut self, order: Arc<Order>) {
        self.hash.orders = self.hash.orders.wrapping_add(record_hash(Kind::Order, &order));
        self.orders.push(order);
    }

    /// Adds a ledger row.
    pub(crate) fn push_ledger(&mut self, row: LedgerRow) {
        self.hash.ledger = self.hash.ledger.wrapping_add(record_hash(Kind::Ledger, &row));
        self.ledger.push(Arc::new(row));
    }

    /// Remembers a request, and gives the number of its record.
    pub(crate) fn push_key(&mut self, record: Arc<KeyRecord>) -> u64 {
        self.hash.keys = self.hash.keys.wrapping_add(record_hash(Kind::Key, &record));
        self.keys.push(record)
    }

    /// Forgets the oldest idempotency record, and gives it with its number.
    pub(crate) fn pop_key(&mut self) -> Option<(u64, Arc<KeyRecord>)> {
        let number = self.keys.base();
        let record = self.keys.get(number).cloned()?;
        self.hash.keys = self.hash.keys.wrapping_sub(record_hash(Kind::Key, &record));
        self.keys.drop_below(number + 1);
        Some((number, record))
    }

    /// Ends the entry at an index: the state includes it from here on.
    pub(crate) fn finish_entry(&mut self, index: LogIndex) {
        self.applied = Some(index);
        if index.is_multiple_of(RING_EVERY) {
            self.ring.push_back((index, self.state_hash()));
            if self.ring.len() > RING_LENGTH {
                self.ring.pop_front();
            }
        }
    }

    /// Drops from memory what a checkpoint has packed, down to the recent window. Not an effect of
    /// the log; see [`Sequence::forget_packed`].
    pub fn forget_packed(&mut self, packed: Packed) {
        self.orders.forget_packed(packed.orders, RECENT_ORDERS);
        self.ledger.forget_packed(packed.ledger, RECENT_LEDGER);
        self.cancellations.forget_packed(packed.cancellations, RECENT_CANCELLATIONS);
        self.changes.rows.forget_packed(packed.changes, RECENT_CHANGES);
    }
}

/// How far the history is in the engine: rows below these numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Packed {
    /// Of the orders (row numbers, from 0).
    pub orders: u64,
    /// Of the ledger.
    pub ledger: u64,
    /// Of the idempotency records.
    pub keys: u64,
    /// Of the cancellations.
    pub cancellations: u64,
    /// Of the changes.
    pub changes: u64,
}
