//! What comes of a proposal. Kept in the records of the keys, so it is format as the commands are.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::LogIndex;
use crate::{
    catalog::{Item, ItemId},
    orders::{Cancellation, OrderId},
    reservations::{Reservation, ReservationId, ReservationStatus},
};

/// What came of a proposal: the same on every replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The log index at which the effect happened; for a replay, that of the first time.
    pub index: LogIndex,
    /// Whether this repeats the outcome of an earlier entry with the same key.
    pub replayed: bool,
    /// What happened.
    pub outcome: Outcome,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The order exists, under this number.
    Ordered(OrderId),
    /// The item is this now.
    Item(Arc<Item>),
    /// So many items were restocked.
    Restocked(u64),
    /// The policy is in force.
    PolicySet,
    /// The node id that was handed out.
    NodeId(u64),
    /// Nothing changed, for this reason. A business answer, not an error.
    Rejected(Rejection),
    /// What came of a batch.
    Batch(Arc<BatchOutcome>),
    /// The item is gone.
    Deleted {
        /// Which item.
        item: ItemId,
        /// The version that it had last.
        version: LogIndex,
    },
    /// What came of a part of an import.
    Imported(Arc<ImportOutcome>),
    /// The order is taken back.
    Cancelled(Arc<Cancellation>),
    /// The reservation is this now.
    Reservation(Arc<Reservation>),
    /// Maintenance is on, or off.
    MaintenanceSet(bool),
    /// Log time has moved.
    Ticked,
}

/// What came of a [`PlaceOrders`](super::PlaceOrders). As small for a thousand orders as for two, because it is kept as
/// long as the batch's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchOutcome {
    /// Orders in the batch.
    pub count: u32,
    /// The number of the first new order. The others have the numbers after it, without gap.
    pub first: OrderId,
    /// Orders that an earlier entry had placed under their keys: position and number, by position.
    pub replayed: Vec<(u32, OrderId)>,
    /// Orders that were refused, by position: at most so many as
    /// [`REFUSALS_TOLD_MAX`](crate::apply::REFUSALS_TOLD_MAX). Where there is one, no order is new.
    pub refused: Vec<BatchRefusal>,
}

/// An order of a batch that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchRefusal {
    /// Its position in the batch, from 0.
    pub position: u32,
    /// Why.
    pub why: Rejection,
    /// Whether an earlier entry with its key had refused it already.
    pub replayed: bool,
}

/// What came of one order of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchResult<'a> {
    /// It exists now, under this number.
    Ordered(OrderId),
    /// It has existed since an earlier entry with its key, under this number.
    Replayed(OrderId),
    /// It was refused, and with it the new orders of the batch.
    Refused(&'a BatchRefusal),
    /// It does not exist, because others were refused.
    NotApplied,
}

impl BatchOutcome {
    /// What came of each order, by position.
    pub fn results(&self) -> impl Iterator<Item = BatchResult<'_>> {
        let mut replayed = self.replayed.iter().peekable();
        let mut refused = self.refused.iter().peekable();
        let mut new = self.first..;
        (0..self.count).map(move |position| {
            if let Some((_, id)) = replayed.next_if(|(at, _)| *at == position) {
                return BatchResult::Replayed(*id);
            }
            if let Some(refusal) = refused.next_if(|refusal| refusal.position == position) {
                return BatchResult::Refused(refusal);
            }
            match new.next() {
                Some(id) if self.refused.is_empty() => BatchResult::Ordered(id),
                Some(_) | None => BatchResult::NotApplied,
            }
        })
    }

    /// The numbers of the orders that exist, by position.
    pub fn orders(&self) -> impl Iterator<Item = OrderId> + '_ {
        self.results().filter_map(|result| match result {
            BatchResult::Ordered(id) | BatchResult::Replayed(id) => Some(id),
            BatchResult::Refused(_) | BatchResult::NotApplied => None,
        })
    }
}

/// What came of a [`PutItems`](super::PutItems).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportOutcome {
    /// Items that are new.
    pub created: u32,
    /// Items that are another than before.
    pub replaced: u32,
    /// Rows that said what was there.
    pub unchanged: u32,
    /// Rows that were refused.
    pub refused: u32,
    /// Those that were refused, by position: at most so many as
    /// [`IMPORT_REFUSALS_TOLD_MAX`](crate::apply::IMPORT_REFUSALS_TOLD_MAX).
    pub refusals: Vec<ImportRefusal>,
}

/// A row of an import that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportRefusal {
    /// Its position in the command, from 0.
    pub position: u32,
    /// Why.
    pub why: Rejection,
}

/// Why nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    /// There is no such item.
    #[error("there is no item {item}")]
    UnknownItem {
        /// The order line, from 0; 0 where there are no lines.
        line: u32,
        /// The number that is not an item's.
        item: ItemId,
    },
    /// Fewer pieces than wanted.
    #[error("item {item}: {requested} wanted, {available} there")]
    OutOfStock {
        /// The order line, from 0.
        line: u32,
        /// The item that is short.
        item: ItemId,
        /// Pieces wanted, all lines of the item together.
        requested: u64,
        /// Pieces there.
        available: u64,
    },
    /// The price is another than expected.
    #[error("item {item} costs {current_cents} cents now, not {expected_cents}")]
    PriceChanged {
        /// The order line, from 0.
        line: u32,
        /// The item.
        item: ItemId,
        /// What the client expected.
        expected_cents: u64,
        /// What it costs.
        current_cents: u64,
    },
    /// A precondition does not hold.
    #[error("the precondition does not hold: {}", in_words(*.current))]
    VersionMismatch {
        /// The version of the item or of the policy, `None` when it does not exist.
        current: Option<LogIndex>,
    },
    /// The stock would fall below what is reserved, or below zero.
    #[error("item {item} has {stock} pieces, {reserved} of them reserved: {requested} cannot go")]
    StockTooLow {
        /// The item.
        item: ItemId,
        /// Pieces there.
        stock: u64,
        /// Pieces held by reservations.
        reserved: u64,
        /// Pieces that were to go.
        requested: u64,
    },
    /// A number would leave its range.
    #[error("the result would be larger than the store can count")]
    Overflow,
    /// The key was used for another request.
    #[error("this idempotency key was used for another request")]
    KeyReused,
    /// What is there does not allow it.
    #[error(transparent)]
    WrongState(#[from] WrongState),
    /// There is no such order.
    #[error("there is no order {order}")]
    UnknownOrder {
        /// The number that is not an order's.
        order: OrderId,
    },
    /// There is no such reservation, or it ended so long ago that it is forgotten.
    #[error("there is no reservation {reservation}")]
    UnknownReservation {
        /// The number that is not a reservation's.
        reservation: ReservationId,
    },
    /// A reservation would hold for longer than the policy allows.
    #[error("a reservation holds for {max_ms} ms at most, not for {ttl_ms}")]
    TtlTooLong {
        /// What was asked for.
        ttl_ms: u64,
        /// What the policy allows.
        max_ms: u64,
    },
    /// As many reservations are held as the policy allows.
    #[error("there are {limit} reservations already, the most that may be held")]
    TooManyReservations {
        /// What the policy allows.
        limit: u64,
    },
    /// Maintenance is on. Never remembered under a key.
    #[error("the store is in maintenance")]
    Maintenance,
}

fn in_words(current: Option<LogIndex>) -> String {
    current
        .map_or_else(|| "it does not exist".to_owned(), |index| format!("the version is {index}"))
}

/// What does not allow it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum WrongState {
    /// Reservations hold pieces of the item.
    #[error("reservations hold {reserved} pieces of item {item}")]
    ItemReserved {
        /// The item.
        item: ItemId,
        /// Pieces held.
        reserved: u64,
    },
    /// The order is cancelled already.
    #[error("order {order} is cancelled already")]
    OrderCancelled {
        /// The order.
        order: OrderId,
    },
    /// The reservation holds nothing any more.
    #[error("reservation {reservation} is {}", .status.as_str())]
    ReservationEnded {
        /// The reservation.
        reservation: ReservationId,
        /// How it ended.
        status: ReservationStatus,
    },
}
