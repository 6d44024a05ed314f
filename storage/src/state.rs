//! The whole working state as one immutable value.
//!
//! A clone costs a few pointers (persistent maps), so the state machine publishes one after each
//! round of entries, and readers, checkpoints and snapshots each keep the one they began with.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    catalog::{Item, ItemId, LedgerRow},
    codec,
    command::{LogIndex, LogTimeMs, Policy},
    orders::{KeyRecord, Order, OrderId},
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
/// Item ids on one page of the checkpoint.
pub const PAGE_IDS: u64 = 32;

/// The working state: a value. Changed only by [`crate::apply`].
///
/// Invariants, at every index:
/// - every item keeps those of [`Item`];
/// - `topics` and `sold_out` say of `items` what they are derived to say;
/// - `hash` is the sum over all records; order numbers are dense from 1.
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
    pub(crate) items: imbl::OrdMap<ItemId, Arc<Item>>,
    /// Derived: the items of each topic.
    pub(crate) topics: imbl::OrdMap<Arc<str>, imbl::OrdSet<ItemId>>,
    /// Derived: the items with no stock.
    pub(crate) sold_out: imbl::OrdSet<ItemId>,
    /// Row `n` is order `n + 1`.
    pub(crate) orders: Sequence<Order>,
    pub(crate) ledger: Sequence<LedgerRow>,
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
}

/// Tags of the record kinds in the state hash.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Item = 1,
    Order = 2,
    Ledger = 3,
    Key = 4,
    Rest = 5,
}

/// The hash of one record.
pub(crate) fn record_hash<T: Serialize>(kind: Kind, record: &T) -> u128 {
    codec::hash128(kind as u8, &codec::encode(record))
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

    /// The number of idempotency records.
    pub fn key_count(&self) -> u64 {
        self.keys.next() - self.keys.base()
    }

    /// The state hash: over every record and every counter, but not over Raft's own bytes.
    pub fn state_hash(&self) -> u128 {
        let rest = (
            (self.applied, self.log_time_ms, &self.policy, self.policy_index, self.next_node_id),
            (self.orders.next(), self.ledger.next(), self.keys.base(), self.keys.next()),
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
        let (id, sold_out, topic) = (item.id, item.stock == 0, item.topic.clone());
        self.hash.items = self.hash.items.wrapping_add(record_hash(Kind::Item, &item));
        let before = self.items.insert(id, item);
        if let Some(before) = &before {
            self.hash.items = self.hash.items.wrapping_sub(record_hash(Kind::Item, before));
        }
        if before.as_ref().is_none_or(|b| b.topic != topic) {
            if let Some(before) = &before {
                self.leave_topic(&before.topic, id);
            }
            self.topics.entry(topic).or_default().insert(id);
        }
        if before.is_none_or(|b| (b.stock == 0) != sold_out) {
            match sold_out {
                true => self.sold_out.insert(id),
                false => self.sold_out.remove(&id),
            };
        }
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
}
