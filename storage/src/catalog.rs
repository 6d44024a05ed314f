//! Items: what they are and what always holds of them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    command::{LogIndex, LogTimeMs},
    orders::OrderId,
};

/// An item's number. Given by who creates it, or by the store.
pub type ItemId = u64;

/// An item.
///
/// Invariants, at every index:
/// - `reserved <= stock`: what is available is never negative.
/// - `received == stock + sold + written_off`: every piece is accounted for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Its number.
    pub id: ItemId,
    /// Its title.
    pub title: Arc<str>,
    /// The topic it is listed under.
    pub topic: Arc<str>,
    /// Price of a piece in cents.
    pub price_cents: u64,
    /// Pieces in the store, reserved ones included.
    pub stock: u64,
    /// Pieces held by reservations.
    pub reserved: u64,
    /// Pieces that ever came in.
    pub received: u64,
    /// Pieces that were sold.
    pub sold: u64,
    /// Pieces that went otherwise.
    pub written_off: u64,
    /// Log index of the last change.
    pub version: LogIndex,
    /// Log index of the creation.
    pub created_index: LogIndex,
    /// Log time of the creation.
    pub created_ms: LogTimeMs,
    /// Log time of the last change.
    pub updated_ms: LogTimeMs,
}

impl Item {
    /// Pieces that can be sold now.
    pub fn available(&self) -> u64 {
        self.stock - self.reserved
    }

    /// Whether the invariants hold.
    pub fn is_consistent(&self) -> bool {
        self.reserved <= self.stock
            && self.stock.checked_add(self.sold).and_then(|sum| sum.checked_add(self.written_off))
                == Some(self.received)
    }

    /// Adds pieces. `None` when a count would overflow; nothing is changed then.
    pub(crate) fn receive(&mut self, pieces: u64) -> Option<()> {
        let received = self.received.checked_add(pieces)?;
        self.stock = self.stock.checked_add(pieces)?;
        self.received = received;
        Some(())
    }

    /// Takes pieces away other than by a sale. `None` when there are not so many unreserved ones.
    pub(crate) fn write_off(&mut self, pieces: u64) -> Option<()> {
        if pieces > self.available() {
            return None;
        }
        self.stock -= pieces;
        self.written_off += pieces;
        Some(())
    }

    /// Sells pieces. `None` when there are not so many unreserved ones.
    pub(crate) fn sell(&mut self, pieces: u64) -> Option<()> {
        if pieces > self.available() {
            return None;
        }
        self.stock -= pieces;
        self.sold += pieces;
        Some(())
    }

    /// Takes pieces back that were sold. `None` when not so many were.
    pub(crate) fn take_back(&mut self, pieces: u64) -> Option<()> {
        self.sold = self.sold.checked_sub(pieces)?;
        // No more than came in ever, so it cannot overflow.
        self.stock += pieces;
        Some(())
    }

    /// Holds pieces. `None` when there are not so many unreserved ones.
    pub(crate) fn reserve(&mut self, pieces: u64) -> Option<()> {
        if pieces > self.available() {
            return None;
        }
        self.reserved += pieces;
        Some(())
    }

    /// Holds pieces no longer. `None` when not so many are held.
    pub(crate) fn release(&mut self, pieces: u64) -> Option<()> {
        self.reserved = self.reserved.checked_sub(pieces)?;
        Some(())
    }
}

/// Why stock changed, other than by a sale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StockReason {
    /// A delivery; also the first stock of an item.
    Received,
    /// Somebody counted.
    Count,
    /// Pieces are spoilt.
    Damaged,
    /// A customer brought pieces back.
    Returned,
    /// An earlier entry was wrong.
    Correction,
    /// Sold out, and restocked by the store itself.
    Restock,
    /// The item was deleted with what there was of it.
    Deleted,
    /// An order was taken back.
    Cancelled,
}

impl StockReason {
    /// The name in the interface.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Count => "count",
            Self::Damaged => "damaged",
            Self::Returned => "returned",
            Self::Correction => "correction",
            Self::Restock => "restock",
            Self::Deleted => "deleted",
            Self::Cancelled => "cancelled",
        }
    }

    /// The reason with this name, if a client may give it.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Received, Self::Count, Self::Damaged, Self::Returned, Self::Correction]
            .into_iter()
            .find(|reason| reason.as_str() == name)
    }
}

/// A change of stock other than by a sale. Sales are not written twice: a line of an order *is* the
/// ledger row of its sale, so the two can never disagree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerRow {
    /// Which item.
    pub item: ItemId,
    /// How many pieces more, or fewer.
    pub delta: i64,
    /// Why.
    pub reason: StockReason,
    /// The caller's own reference.
    pub reference: Option<Arc<str>>,
    /// Log index of the change.
    pub index: LogIndex,
    /// Log time of the change.
    pub at_ms: LogTimeMs,
    /// The order that was taken back by it.
    pub order: Option<OrderId>,
}
