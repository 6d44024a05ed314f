//! What becomes of an order or of a reservation: cancellations, confirmations, releases, and how the store
//! tells of them at the end.

use super::{ItemId, Key, Lines, LogIndex, NodeIndex, Span};

/// Milliseconds of log time.
pub type LogTimeMs = i64;

/// Where an order or a reservation stands, as far as it is none of the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A reservation that holds its pieces.
    Held,
    /// A reservation that became an order.
    Confirmed,
    /// A reservation that was given back.
    Released,
    /// A reservation whose time was up.
    Expired,
    /// An order that was taken back.
    Cancelled,
}

impl Standing {
    /// The one with this name in the interface.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "held" => Self::Held,
            "confirmed" => Self::Confirmed,
            "released" => Self::Released,
            "expired" => Self::Expired,
            "cancelled" => Self::Cancelled,
            _ => return None,
        })
    }
}

/// One sending of a write about an order or a reservation; the series of its key says which write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowUp {
    /// The write.
    pub key: Key,
    /// The number of the order or of the reservation.
    pub of: u64,
    /// The node that was asked.
    pub node: NodeIndex,
    /// When.
    pub span: Span,
    /// What it said.
    pub reply: FollowUpReply,
}

/// The answer to a [`FollowUp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FollowUpReply {
    /// It was done.
    Done {
        /// The log index at which it was done.
        index: LogIndex,
        /// The order that was cancelled, or that the reservation became.
        order: Option<u64>,
        /// Whether the reply says that it repeats an earlier one.
        replayed: bool,
    },
    /// Refused, because the order or the reservation had come to its end before.
    Ended {
        /// The log index at which it was refused.
        index: LogIndex,
        /// Where it stood.
        standing: Standing,
        /// Whether the reply says that it repeats an earlier one.
        replayed: bool,
    },
    /// There is no such order or reservation.
    Missing {
        /// The log index at which there was none.
        index: LogIndex,
    },
    /// This sending had no effect.
    NotApplied,
    /// An error that says that it was done nevertheless.
    AppliedUnseen,
    /// Nobody knows.
    Unknown,
}

/// A reservation as a replica shows it at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FinalReservation {
    /// Its number.
    pub id: u64,
    /// The log index at which it was made.
    pub index: LogIndex,
    /// Whose it is; none if its reference is not one of ours.
    pub key: Option<Key>,
    /// What it holds or held; empty if it is more than anybody asked for.
    pub lines: Lines,
    /// What it costs.
    pub total_cents: u64,
    /// Where it stands; none if the store says something else.
    pub standing: Option<Standing>,
    /// The order that came of it.
    pub order: Option<u64>,
    /// Log time of its beginning.
    pub created_ms: LogTimeMs,
    /// Log time at which it ends by itself.
    pub expires_ms: LogTimeMs,
    /// Log time of its end.
    pub ended_ms: Option<LogTimeMs>,
}

/// A row of an item's ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Movement {
    /// The item.
    pub item: ItemId,
    /// Pieces more or fewer.
    pub delta: i64,
    /// What moved them.
    pub kind: MovementKind,
    /// At this log index.
    pub index: LogIndex,
}

/// What moves pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MovementKind {
    /// A sale in this order.
    Sold(u64),
    /// The cancellation of this order.
    Cancelled(u64),
    /// Somebody who counts.
    Stock,
}

/// The end of a reservation, as the change history tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// The reservation.
    pub reservation: u64,
    /// At this log index.
    pub index: LogIndex,
    /// How.
    pub standing: Standing,
}
