//! Orders, and the records that make requests idempotent.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    catalog::ItemId,
    command::{KeyHash, LogIndex, LogTimeMs, Outcome},
    reservations::ReservationId,
};

/// An order's number: dense, from 1, in log order.
pub type OrderId = u64;

/// Where an order stands. Not part of its record, which never changes: the cancellations say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderStatus {
    /// Sold.
    Placed,
    /// Taken back.
    Cancelled,
}

impl OrderStatus {
    /// The names of all in the interface.
    pub const NAMES: [&str; 2] = ["placed", "cancelled"];

    /// The name in the interface.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status with this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Placed, Self::Cancelled].into_iter().find(|status| status.as_str() == name)
    }
}

/// A sale. Titles and prices are those of its moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its number.
    pub id: OrderId,
    /// What was sold, one line an item, in the order in which the items were first named.
    pub lines: Vec<OrderLine>,
    /// Sum of the lines in cents.
    pub total_cents: u64,
    /// Who ordered.
    pub customer: Option<Arc<str>>,
    /// The caller's own reference.
    pub reference: Option<Arc<str>>,
    /// Log index of the sale.
    pub index: LogIndex,
    /// Log time of the sale.
    pub placed_ms: LogTimeMs,
    /// The reservation that was confirmed by it.
    pub reservation: Option<ReservationId>,
}

/// One line of an [`Order`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderLine {
    /// Which item.
    pub item: ItemId,
    /// Its title at the sale.
    pub title: Arc<str>,
    /// Pieces sold.
    pub quantity: u64,
    /// Price of a piece at the sale, in cents.
    pub unit_price_cents: u64,
}

/// That an order was taken back. The order itself stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancellation {
    /// Which order.
    pub order: OrderId,
    /// Why.
    pub reason: Option<Arc<str>>,
    /// Log index of the cancellation.
    pub index: LogIndex,
    /// Log time of the cancellation.
    pub at_ms: LogTimeMs,
}

/// What the store remembers of a request that carried an idempotency key. Written in the same entry
/// as the effect, so that the effect happens once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// Which key.
    pub key: KeyHash,
    /// For which request.
    pub fingerprint: [u8; 16],
    /// What came of it.
    pub outcome: Outcome,
    /// At which index.
    pub index: LogIndex,
    /// At which log time; retention counts from here.
    pub at_ms: LogTimeMs,
}
