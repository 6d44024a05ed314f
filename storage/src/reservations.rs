//! Reservations: stock that is held for somebody, until it is sold, given back, or the time is up.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    command::{LogIndex, LogTimeMs},
    orders::{OrderId, OrderLine},
};

/// A reservation's number: dense, from 1, in log order.
pub type ReservationId = u64;

/// Pieces of items, held at the titles and prices of the moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// Its number.
    pub id: ReservationId,
    /// What is held, one line an item, in the order in which the items were first named.
    pub lines: Vec<OrderLine>,
    /// Sum of the lines in cents.
    pub total_cents: u64,
    /// Where it stands.
    pub status: ReservationStatus,
    /// For whom.
    pub customer: Option<Arc<str>>,
    /// The caller's own reference.
    pub reference: Option<Arc<str>>,
    /// Log index of the creation.
    pub index: LogIndex,
    /// Log time of the creation.
    pub created_ms: LogTimeMs,
    /// Log time at which it ends by itself.
    pub expires_ms: LogTimeMs,
    /// Log index and log time of its end; `None` while it holds.
    pub ended: Option<(LogIndex, LogTimeMs)>,
}

/// Where a reservation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReservationStatus {
    /// It holds its pieces.
    Held,
    /// They were sold, in this order.
    Confirmed(OrderId),
    /// They were given back.
    Released,
    /// The time was up.
    Expired,
}

impl ReservationStatus {
    /// The name in the interface.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Confirmed(_) => "confirmed",
            Self::Released => "released",
            Self::Expired => "expired",
        }
    }

    /// The names in the interface.
    pub const NAMES: [&str; 4] = ["held", "confirmed", "released", "expired"];

    /// The order that came of it.
    pub fn order(self) -> Option<OrderId> {
        match self {
            Self::Confirmed(order) => Some(order),
            Self::Held | Self::Released | Self::Expired => None,
        }
    }
}
