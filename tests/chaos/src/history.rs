//! What was asked of the store and what it answered: the records that the checker judges.
//!
//! Records hold facts only, no opinion: whether a reply was right is for [`crate::check`] to say.
//! They are small and flat, because a long run keeps millions of them in memory.

mod follow_up;

use std::{fmt, str::FromStr, time::Instant};

use pygmy::api::Verification;

pub use self::follow_up::{
    End, FinalReservation, FollowUp, FollowUpReply, LogTimeMs, Movement, MovementKind, Standing,
};
use crate::protocol::Complaints;

/// An index of the replicated log.
pub type LogIndex = u64;

/// An item number.
pub type ItemId = u32;

/// A node's place in the cluster, from 0. Shown as the node's name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeIndex(u8);

impl NodeIndex {
    /// The most nodes of a cluster.
    pub const NODES_MAX: usize = 9;

    /// A place below [`Self::NODES_MAX`].
    pub fn new(place: usize) -> Self {
        Self(u8::try_from(place).expect("a cluster has few nodes"))
    }
}

impl fmt::Debug for NodeIndex {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "node{}", self.0 + 1)
    }
}

/// Nanoseconds on the monotonic clock since the run began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(pub u64);

impl Moment {
    /// Later than everything: the end of what was never answered.
    pub const NEVER: Self = Self(u64::MAX);

    /// The time since `earlier`, in milliseconds; 0 when it is not earlier.
    pub fn millis_since(self, earlier: Self) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 / 1e6
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:.4} s", self.0 as f64 / 1e9)
    }
}

/// The clock of a run.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The present moment.
    pub fn now(&self) -> Moment {
        let elapsed = u64::try_from(self.0.elapsed().as_nanos());
        Moment(elapsed.expect("2^64 nanoseconds are 584 years"))
    }
}

/// From before a request was sent until after its reply was read whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Not later than the first byte sent.
    pub start: Moment,
    /// Not earlier than the last byte read.
    pub end: Moment,
}

/// What a key was used for: its first letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Series {
    /// An order.
    Buy,
    /// A reservation.
    Hold,
    /// The cancellation of an order.
    Cancel,
    /// The confirmation of a reservation.
    Confirm,
    /// The release of a reservation.
    Release,
}

impl Series {
    const ALL: [Self; 5] = [Self::Buy, Self::Hold, Self::Cancel, Self::Confirm, Self::Release];

    fn letter(self) -> char {
        match self {
            Self::Buy => 'b',
            Self::Hold => 'h',
            Self::Cancel => 'c',
            Self::Confirm => 'f',
            Self::Release => 'r',
        }
    }
}

/// An idempotency key. That of an order or a reservation is its `reference` too, so that doubles show in
/// the books.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// What it was used for.
    pub series: Series,
    /// Who used it.
    pub client: u32,
    /// The client's own count.
    pub number: u32,
}

impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}{}-{}", self.series.letter(), self.client, self.number)
    }
}

impl FromStr for Key {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let letter = text.chars().next().ok_or(())?;
        let series = Series::ALL.into_iter().find(|series| series.letter() == letter).ok_or(())?;
        let (client, number) = text[1..].split_once('-').ok_or(())?;
        Ok(Self {
            series,
            client: client.parse().map_err(|_| ())?,
            number: number.parse().map_err(|_| ())?,
        })
    }
}

/// One line of a buy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Line {
    /// What is bought.
    pub item: ItemId,
    /// How many pieces.
    pub quantity: u32,
}

/// The lines of a buy, without an allocation.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Lines {
    count: u8,
    lines: [Line; Lines::MAX],
}

impl Lines {
    /// The most lines a buy has here.
    pub const MAX: usize = 3;

    /// The given lines; none if there are too many to hold, which no buyer sends.
    pub fn from_slice(lines: &[Line]) -> Option<Self> {
        let mut held = Self { count: u8::try_from(lines.len()).ok()?, ..Self::default() };
        held.lines.get_mut(..lines.len())?.copy_from_slice(lines);
        Some(held)
    }

    /// The lines.
    pub fn as_slice(&self) -> &[Line] {
        &self.lines[..usize::from(self.count)]
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, line) in self.as_slice().iter().enumerate() {
            let comma = if position == 0 { "" } else { ", " };
            write!(out, "{comma}{}x item {}", line.quantity, line.item)?;
        }
        Ok(())
    }
}

/// An item as it was loaded before the load began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InitialItem {
    /// The item number.
    pub id: ItemId,
    /// Pieces at the start.
    pub stock: u64,
    /// Price in cents. It never changes during a run.
    pub price_cents: u64,
    /// Log index of the write that made it.
    pub index: LogIndex,
}

/// One sending of a buy or, by the series of its key, of a reservation. There are one or more, all with the
/// same key and the same lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// The buy.
    pub key: Key,
    /// What is bought.
    pub lines: Lines,
    /// The node that was asked.
    pub node: NodeIndex,
    /// When.
    pub span: Span,
    /// What it said.
    pub reply: BuyReply,
}

/// The answer to an [`Attempt`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuyReply {
    /// The order or the reservation exists.
    Confirmed {
        /// The number of the order or of the reservation.
        order: u64,
        /// The log index of the sale or of the reservation.
        index: LogIndex,
        /// What it cost.
        total_cents: u64,
        /// Whether the reply says that it repeats an earlier one.
        replayed: bool,
    },
    /// Out of stock: it does not exist and never will.
    Refused {
        /// The log index at which it was refused.
        index: LogIndex,
        /// The item that is short.
        item: ItemId,
        /// Pieces wanted.
        requested: u64,
        /// Pieces there.
        available: u64,
        /// Whether the reply says that it repeats an earlier one.
        replayed: bool,
    },
    /// This sending had no effect: it was never sent, or the store says so.
    NotApplied,
    /// An error that says that it exists nevertheless.
    AppliedUnseen,
    /// Nobody knows.
    Unknown,
}

/// A change of stock by the stock-giver. It is repeated under one key until its outcome is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StockChange {
    /// The stock-giver's own count; the key is `s<number>`.
    pub number: u32,
    /// The item.
    pub item: ItemId,
    /// Pieces received, or written off when negative.
    pub delta: i64,
    /// From the first sending to the last reply.
    pub span: Span,
    /// What became of it.
    pub outcome: StockOutcome,
}

/// What became of a [`StockChange`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StockOutcome {
    /// It happened.
    Applied {
        /// At this log index.
        index: LogIndex,
        /// The stock after it, as the reply shows it.
        stock: u64,
    },
    /// Refused, because there were fewer pieces than it takes away.
    Refused {
        /// At this log index.
        index: LogIndex,
    },
    /// It did not happen.
    NotApplied,
    /// Not found out, in spite of all repetitions.
    Unknown,
}

/// How fresh a read had to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// Everything that was confirmed before it began.
    Linearizable,
    /// At least this index.
    Session(LogIndex),
    /// Whatever there is.
    Stale,
}

/// An answered read of one item; a list is recorded as one of these for each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// The reader.
    pub client: u32,
    /// The node that answered.
    pub node: NodeIndex,
    /// How fresh it had to be.
    pub level: Level,
    /// The item.
    pub item: ItemId,
    /// When.
    pub span: Span,
    /// The log index that the reply reflects.
    pub index: LogIndex,
    /// Pieces in the store.
    pub stock: u64,
    /// Pieces of them that reservations hold.
    pub reserved: u64,
    /// Log index of the item's last change.
    pub version: LogIndex,
}

/// A linearizable read of an order that had been confirmed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderRead {
    /// The order number.
    pub order: u64,
    /// The key under which it was bought.
    pub key: Key,
    /// The node that answered.
    pub node: NodeIndex,
    /// When.
    pub span: Span,
    /// The log index that the reply reflects.
    pub index: LogIndex,
    /// Whether it was there.
    pub found: Found,
    /// Whether it was shown as cancelled.
    pub cancelled: bool,
}

/// What a read of a confirmed order found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The order as confirmed.
    Same,
    /// An order with this number and other contents.
    Different,
    /// No order.
    Missing,
}

/// An order as it stands in a replica's order book at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FinalOrder {
    /// The order number.
    pub id: u64,
    /// The log index of the sale.
    pub index: LogIndex,
    /// The buy or the reservation it came from; none if its reference is not one of ours.
    pub key: Option<Key>,
    /// The reservation that became this order.
    pub reservation: Option<u64>,
    /// Whether it was taken back.
    pub cancelled: bool,
    /// What was sold; empty if it is more than any buyer asked for.
    pub lines: Lines,
    /// What it cost.
    pub total_cents: u64,
}

/// An item as a replica shows it at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FinalItem {
    /// The item number.
    pub id: ItemId,
    /// Pieces in the store.
    pub stock: u64,
    /// Pieces held by reservations.
    pub reserved: u64,
}

/// All that one replica shows at the end, when the load has stopped and all is healed.
#[derive(Debug, Clone)]
pub struct Replica {
    /// The node's name.
    pub name: String,
    /// Its order book, in the order of its pages.
    pub orders: Vec<FinalOrder>,
    /// Its items.
    pub items: Vec<FinalItem>,
    /// Its reservations, in the order of its pages.
    pub reservations: Vec<FinalReservation>,
    /// What it says of itself, or why it said nothing.
    pub verification: Result<Verification, String>,
}

/// A whole run, as the checker needs it.
#[derive(Debug, Default)]
pub struct History {
    /// The items that were loaded.
    pub items: Vec<InitialItem>,
    /// Every sending of every buy and of every reservation.
    pub attempts: Vec<Attempt>,
    /// Every sending of what was done with orders and reservations afterwards.
    pub follow_ups: Vec<FollowUp>,
    /// Every change of stock.
    pub stock_changes: Vec<StockChange>,
    /// Every answered read, each reader's in the order in which it made them.
    pub reads: Vec<Read>,
    /// Every answered read of a confirmed order.
    pub order_reads: Vec<OrderRead>,
    /// The replicas at the end. The first one's order book was read with `linearizable`.
    pub replicas: Vec<Replica>,
    /// The ledgers of all items, as the first replica shows them.
    pub movements: Vec<Movement>,
    /// Every end of a reservation that the first replica tells of.
    pub ends: Vec<End>,
    /// What was against the interface's rules, whatever the contents.
    pub complaints: Complaints,
}
