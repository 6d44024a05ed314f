//! The log format: what is proposed, and what comes of it.
//!
//! Variants and fields are only ever appended: their order *is* the format of every log on disk.
//! The golden bytes in the tests below say so.

mod outcome;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    catalog::{ItemId, StockReason},
    codec,
    error::Result,
    orders::{Order, OrderId},
    reservations::ReservationId,
};

pub use outcome::{
    Applied, BatchOutcome, BatchRefusal, BatchResult, ImportOutcome, ImportRefusal, Outcome,
    Rejection, WrongState,
};

/// Position in the log. The first entry has index 0 in openraft's counting; 0 as a version means
/// "never".
pub type LogIndex = u64;

/// Log time: milliseconds since the Unix epoch, as stamped by leaders and never falling.
pub type LogTimeMs = u64;

/// What a client asks for, as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// The proposing leader's clock. The state machine takes the greater of this and the log time
    /// it has, so a clock that jumps back changes nothing.
    pub stamp_ms: LogTimeMs,
    /// The idempotency key, where the client or the facade gave one.
    pub key: Option<KeyClaim>,
    /// What to do.
    pub command: Command,
}

impl Proposal {
    /// The bytes that go into a log entry.
    pub fn encode(&self) -> Vec<u8> {
        Self::encode_parts(self.stamp_ms, self.key.as_ref(), &self.command)
    }

    /// The bytes of a proposal that is made of these.
    pub fn encode_parts(stamp_ms: LogTimeMs, key: Option<&KeyClaim>, command: &Command) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(96);
        bytes.push(codec::FORMAT_VERSION);
        // Its fields in their order.
        codec::encode_into(&(stamp_ms, key, command), &mut bytes);
        bytes
    }

    /// Reads the bytes of a log entry. The log's own records carry the checksum.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        match bytes.split_first() {
            Some((&codec::FORMAT_VERSION, body)) => codec::decode(body, "a log entry"),
            Some((&version, _)) => {
                Err(crate::Error::UnknownFormat { what: "a log entry".to_owned(), version })
            }
            None => Err(crate::Error::corrupt("a log entry", "it is empty")),
        }
    }
}

/// BLAKE3 of an idempotency key, cut to 128 bits: what is kept of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyHash(pub [u8; 16]);

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({:032x})", u128::from_be_bytes(self.0))
    }
}

/// An idempotency key together with what it was used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyClaim {
    /// Which key.
    pub key: KeyHash,
    /// BLAKE3 of the request, cut to 128 bits: the same key with another one is refused.
    pub fingerprint: [u8; 16],
}

impl KeyClaim {
    /// A claim of `key` for `command`.
    pub fn new(key: &str, command: &Command) -> Self {
        Self {
            key: KeyHash(hash16(KEY_DOMAIN, key.as_bytes())),
            fingerprint: hash16("pygmy request fingerprint", &asked(command)),
        }
    }
}

/// What of a command the client asked for, encoded.
fn asked(command: &Command) -> Vec<u8> {
    match command {
        // Lines and index are read off the order by whoever proposes it.
        Command::CancelOrder(CancelOrder { order, reason, .. }) => {
            codec::encode(&Command::CancelOrder(CancelOrder {
                order: *order,
                lines: Vec::new(),
                placed_index: 0,
                reason: reason.clone(),
            }))
        }
        _ => codec::encode(command),
    }
}

/// What separates the hashes of clients' keys from all others.
const KEY_DOMAIN: &str = "pygmy idempotency key";

fn hash16(domain: &str, bytes: &[u8]) -> [u8; 16] {
    let hash = blake3::Hasher::new_derive_key(domain).update(bytes).finalize();
    let mut cut = [0; 16];
    cut.copy_from_slice(&hash.as_bytes()[..16]);
    cut
}

/// What a log entry does to the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Sells: stock falls and the order exists, or neither.
    PlaceOrder(PlaceOrder),
    /// Creates or replaces an item.
    PutItem(PutItem),
    /// Changes how many pieces of an item there are.
    ChangeStock(ChangeStock),
    /// Sets every item that has no stock to the policy's restock quantity.
    Restock,
    /// Replaces the policy.
    SetPolicy(Policy),
    /// Hands out a node id that was never used, and never will be again.
    ReserveNodeId {
        /// The lowest id that is free as far as the membership tells.
        at_least: u64,
    },
    /// Sells several orders at once: all that are new exist, or none of them.
    PlaceOrders(PlaceOrders),
    /// Sells one order of a batch whose orders stand each for itself, under the batch's key.
    PlaceOrderOf(PlaceOrderOf),
    /// Creates an item under a number that the store gives.
    CreateItem(CreateItem),
    /// Changes some of what an item says of itself.
    PatchItem(PatchItem),
    /// Takes an item out of the catalog.
    DeleteItem(DeleteItem),
    /// Creates or replaces items, each for itself: a part of an import.
    PutItems(PutItems),
    /// Takes an order back: its pieces return.
    CancelOrder(CancelOrder),
    /// Holds stock for a time, at the prices of now.
    Reserve(Reserve),
    /// Sells what a reservation holds.
    ConfirmReservation {
        /// Which one.
        id: ReservationId,
    },
    /// Gives back what a reservation holds.
    ReleaseReservation {
        /// Which one.
        id: ReservationId,
    },
    /// Switches maintenance on or off: while it is on, clients' commands are refused.
    SetMaintenance(bool),
    /// Moves log time on, so that what is due happens though nobody writes.
    Tick,
    /// Replaces the policy if nobody else has in the meantime.
    SetPolicyIf {
        /// The index at which the policy must have been set last.
        version: LogIndex,
        /// The new one.
        policy: Policy,
    },
}

impl Command {
    /// Whether it goes on in maintenance.
    pub fn is_upkeep(&self) -> bool {
        match self {
            Self::SetMaintenance(_)
            | Self::SetPolicy(_)
            | Self::SetPolicyIf { .. }
            | Self::ReserveNodeId { .. }
            | Self::Tick => true,
            Self::PlaceOrder(_)
            | Self::PutItem(_)
            | Self::ChangeStock(_)
            | Self::Restock
            | Self::PlaceOrders(_)
            | Self::PlaceOrderOf(_)
            | Self::CreateItem(_)
            | Self::PatchItem(_)
            | Self::DeleteItem(_)
            | Self::PutItems(_)
            | Self::CancelOrder(_)
            | Self::Reserve(_)
            | Self::ConfirmReservation { .. }
            | Self::ReleaseReservation { .. } => false,
        }
    }
}

/// See [`Command::PlaceOrder`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceOrder {
    /// What is ordered. Lines of the same item are summed.
    pub lines: Vec<PlaceOrderLine>,
    /// Who orders.
    pub customer: Option<String>,
    /// The caller's own reference.
    pub reference: Option<String>,
}

/// One line of a [`PlaceOrder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceOrderLine {
    /// Which item.
    pub item: ItemId,
    /// Pieces, at least 1; checked before the log.
    pub quantity: u64,
    /// Refuse when the price is another, in cents.
    pub expected_price_cents: Option<u64>,
}

/// See [`Command::PlaceOrders`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceOrders {
    /// The orders. What several of them want of an item counts together, in this order.
    pub orders: Vec<BatchOrder>,
}

/// One order of a [`PlaceOrders`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchOrder {
    /// The order's own idempotency key, claimed for this order as a [`Command::PlaceOrder`]: alone
    /// or in any batch it is placed once.
    pub key: Option<KeyClaim>,
    /// The order.
    pub order: PlaceOrder,
}

/// See [`Command::PlaceOrderOf`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceOrderOf {
    /// The claim of the batch, which its first order carries. Where the key belongs to another
    /// request, this order is refused as that first one is.
    pub batch: KeyClaim,
    /// The order.
    pub order: PlaceOrder,
}

impl PlaceOrders {
    /// The orders each for itself, as they are proposed where they do not depend on one another:
    /// with their own keys, or under the key of the batch, or under none.
    ///
    /// With a key of the batch, the first order carries it and the others carry keys derived from
    /// it and their position; all claim it for the whole batch. So a retry replays each order, and
    /// the key used for anything else is refused for all of them.
    pub fn separately(self, key: Option<&str>) -> Vec<(Option<KeyClaim>, Command)> {
        let Some(key) = key else {
            let each = self.orders.into_iter();
            return each.map(|one| (one.key, Command::PlaceOrder(one.order))).collect();
        };
        let batch = KeyClaim {
            key: KeyHash(hash16(KEY_DOMAIN, key.as_bytes())),
            fingerprint: hash16("pygmy separate batch fingerprint", &codec::encode(&self)),
        };
        let each = (0u64..).zip(self.orders).map(|(position, BatchOrder { order, .. })| {
            if position == 0 {
                return (Some(batch), Command::PlaceOrder(order));
            }
            let derived = [key.as_bytes(), &position.to_le_bytes()].concat();
            let derived = KeyHash(hash16("pygmy idempotency key in a batch", &derived));
            let claim = KeyClaim { key: derived, ..batch };
            (Some(claim), Command::PlaceOrderOf(PlaceOrderOf { batch, order }))
        });
        each.collect()
    }
}

/// See [`Command::PutItem`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutItem {
    /// Which item.
    pub id: ItemId,
    /// The title.
    pub title: String,
    /// The topic.
    pub topic: String,
    /// Price in cents.
    pub price_cents: u64,
    /// Pieces there are; `None` keeps what is there, and is 0 for a new item.
    pub stock: Option<u64>,
    /// What must hold for it to happen.
    pub precondition: Precondition,
}

/// See [`Command::CreateItem`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateItem {
    /// The title.
    pub title: String,
    /// The topic.
    pub topic: String,
    /// Price in cents.
    pub price_cents: u64,
    /// Pieces there are.
    pub stock: u64,
}

/// See [`Command::PatchItem`]. What is `None` stays as it is; where nothing is another than before,
/// the version stays too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatchItem {
    /// Which item.
    pub id: ItemId,
    /// The new title.
    pub title: Option<String>,
    /// The new topic.
    pub topic: Option<String>,
    /// The new price in cents.
    pub price_cents: Option<u64>,
    /// What must hold for it to happen.
    pub precondition: Precondition,
}

/// See [`Command::DeleteItem`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteItem {
    /// Which item.
    pub id: ItemId,
    /// What must hold for it to happen.
    pub precondition: Precondition,
}

/// See [`Command::PutItems`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutItems {
    /// The items, in this order.
    pub rows: Vec<PutItemsRow>,
    /// Whose stock is set.
    pub stock: ImportStock,
}

/// One item of a [`PutItems`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutItemsRow {
    /// Which item.
    pub id: ItemId,
    /// The title.
    pub title: String,
    /// The topic.
    pub topic: String,
    /// Price in cents.
    pub price_cents: u64,
    /// Pieces there are; `None` keeps what is there, and is 0 for a new item.
    pub stock: Option<u64>,
}

/// Whose stock an import sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImportStock {
    /// That of new items. What was counted of the others since the file was made stands.
    OnlyNew,
    /// That of every item whose row names it.
    Set,
}

/// See [`Command::CancelOrder`].
///
/// An order never changes, so whoever proposes this reads it first and says what it was: apply must
/// not depend on what has left memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelOrder {
    /// Which order.
    pub order: OrderId,
    /// Its lines: item and pieces.
    pub lines: Vec<(ItemId, u64)>,
    /// The index at which it was placed.
    pub placed_index: LogIndex,
    /// Why.
    pub reason: Option<String>,
}

impl CancelOrder {
    /// The command that takes an order back.
    pub fn of(order: &Order, reason: Option<String>) -> Self {
        let lines = order.lines.iter().map(|line| (line.item, line.quantity));
        Self { order: order.id, lines: lines.collect(), placed_index: order.index, reason }
    }
}

/// See [`Command::Reserve`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserve {
    /// What is held. Lines of the same item are summed.
    pub lines: Vec<PlaceOrderLine>,
    /// For how long, in milliseconds of log time; at least 1.
    pub ttl_ms: u64,
    /// For whom.
    pub customer: Option<String>,
    /// The caller's own reference.
    pub reference: Option<String>,
}

/// See [`Command::ChangeStock`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeStock {
    /// Which item.
    pub item: ItemId,
    /// By how much, or to what.
    pub change: StockChange,
    /// Why; kept in the ledger.
    pub reason: StockReason,
    /// The caller's own reference; kept in the ledger.
    pub reference: Option<String>,
    /// What must hold for it to happen.
    pub precondition: Precondition,
}

/// A change of stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StockChange {
    /// So many more, or fewer.
    Delta(i64),
    /// So many.
    Set(u64),
}

/// What must hold of an item for a write to happen (RFC 9110, section 13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Precondition {
    /// Nothing.
    #[default]
    None,
    /// It has this version (`If-Match: "v"`).
    Version(LogIndex),
    /// It exists (`If-Match: *`).
    Exists,
    /// It does not exist (`If-None-Match: *`).
    Absent,
}

/// What changes outcomes: replicated, so that it is the same on every node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// How long an idempotency record is kept, in milliseconds of log time.
    pub key_retention_ms: u64,
    /// The most idempotency records kept; the oldest go first.
    pub key_limit: u64,
    /// What a sold-out item is restocked to.
    pub restock_quantity: u64,
    /// How often the leader restocks, in milliseconds; `None` for never.
    pub restock_interval_ms: Option<u64>,
    /// How many rows of the change history are kept at least; the oldest go, a chunk at a time.
    pub change_history: u64,
    /// The most prices kept of an item, the one in force among them; the oldest go first.
    pub price_history: u64,
    /// The most reservations held at a time.
    pub reservation_limit: u64,
    /// The most ended reservations kept; those that ended first go first.
    pub reservation_history: u64,
    /// The longest that a reservation may hold, in milliseconds of log time.
    pub reservation_ttl_max_ms: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            key_retention_ms: 24 * 60 * 60 * 1000,
            key_limit: 1_000_000,
            restock_quantity: 50,
            restock_interval_ms: None,
            change_history: 1_000_000,
            price_history: 100,
            reservation_limit: 100_000,
            reservation_history: 100_000,
            reservation_ttl_max_ms: 24 * 60 * 60 * 1000,
        }
    }
}

#[cfg(test)]
mod tests;
