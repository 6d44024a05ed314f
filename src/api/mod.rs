//! The JSON shapes, header names and error codes of the REST interface, version 1.
//!
//! One definition for everybody who speaks it: the node's handlers, the facade, the client and the
//! tests. Nothing here knows how a request is served.

mod cluster;
mod items;
mod object;
mod orders;
mod problem;
mod reservations;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use cluster::{
    Change, ChangePage, Check, Cluster, HashAt, Maintenance, Member, Policy, Verification,
};
pub use items::{
    ChangeStock, Import, Item, ItemPage, ItemRow, LedgerPage, LedgerRow, NewItem, PatchItem, Price,
    Prices, PutItem, RowProblem, Topic, Topics,
};
pub(crate) use object::Object;
pub use orders::{
    CancelOrder, NewBatchOrder, NewOrder, NewOrderBatch, NewOrderLine, Order, OrderBatch,
    OrderLine, OrderPage, OrderResult, OrderResultStatus,
};
pub use problem::{FieldError, Problem, WriteOutcome};
pub use reservations::{NewReservation, Reservation, ReservationPage};

/// Names of the headers that the interface adds to HTTP's own. All lower case, as `http` wants.
pub mod header {
    /// Log index that a reply reflects, or at which a write was applied.
    pub const INDEX: &str = "pygmy-index";
    /// Name of the member that answered.
    pub const NODE: &str = "pygmy-node";
    /// Milliseconds since the answering replica last heard from a leader; on `stale` replies.
    pub const STALENESS_MS: &str = "pygmy-staleness-ms";
    /// `linearizable`, `session` or `stale`; the header form of `consistency=`.
    pub const CONSISTENCY: &str = "pygmy-consistency";
    /// Lowest index a `session` read may be answered from; the header form of `min_index=`.
    pub const MIN_INDEX: &str = "pygmy-min-index";
    /// Bound on the staleness of a `stale` read; the header form of `max_staleness_ms=`.
    pub const MAX_STALENESS_MS: &str = "pygmy-max-staleness-ms";
    /// Milliseconds that the caller of a write waits for its reply: the node ends it in time with
    /// what it knows by then.
    pub const TIMEOUT_MS: &str = "pygmy-timeout-ms";
    /// The client's request id, or a made one; the same in the reply and in every log line.
    pub const REQUEST_ID: &str = "x-request-id";
    /// The client's idempotency key.
    pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
    /// Says that whoever passes the request on made its idempotency key. A batch whose orders have
    /// keys of their own does not count it as one of the client's.
    pub const KEY_MADE: &str = "pygmy-key-made";
    /// `true` on a reply that repeats the first reply to the same key.
    pub const IDEMPOTENT_REPLAYED: &str = "idempotent-replayed";
    /// `HIT` on a reply from the facade's cache.
    pub const X_CACHE: &str = "x-cache";
    /// The problem code, on the seed's replies whose body has no room for it.
    pub const CODE: &str = "pygmy-code";
    /// What is left of the client's rate limit.
    pub const RATE_LIMIT: &str = "ratelimit";
    /// What the client's rate limit is.
    pub const RATE_LIMIT_POLICY: &str = "ratelimit-policy";
    /// The write's outcome, on the seed's replies whose body has no room for it.
    pub const OUTCOME: &str = "pygmy-outcome";
}

/// The most lines an order may have.
pub const ORDER_LINES_MAX: usize = 100;
/// The most orders in a batch.
pub const BATCH_ORDERS_MAX: usize = 1_000;
/// The most lines of all orders of a batch together: what comes of it must fit into one message
/// between members.
pub const BATCH_LINES_MAX: usize = 10_000;
/// The most pieces one order line may ask for.
pub const QUANTITY_MAX: u64 = 1_000_000;
/// The longest title, in bytes of UTF-8.
pub const TITLE_BYTES_MAX: usize = 1_000;
/// The longest topic, in bytes of UTF-8.
pub const TOPIC_BYTES_MAX: usize = 200;
/// The longest customer or reference, in bytes of UTF-8.
pub const REFERENCE_BYTES_MAX: usize = 200;
/// The longest reason of a cancellation, in bytes of UTF-8.
pub const CANCEL_REASON_BYTES_MAX: usize = 200;
/// For how many seconds a reservation holds when the request does not say.
pub const RESERVATION_TTL_SECONDS_DEFAULT: u64 = 900;
/// The largest price and the largest stock. Far from overflow even when multiplied.
pub const AMOUNT_MAX: u64 = 1_000_000_000_000;
/// The longest idempotency key, in bytes of visible ASCII.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// The most rows of a page.
pub const PAGE_LIMIT_MAX: usize = 1_000;
/// The rows of a page when the request does not say.
pub const PAGE_LIMIT_DEFAULT: usize = 100;

/// The ranges of the policy's settings, here and in the configuration.
pub mod policy_range {
    use std::ops::RangeInclusive;

    use super::AMOUNT_MAX;

    /// Hours that an idempotency key is remembered.
    pub const KEY_RETENTION_HOURS: RangeInclusive<u64> = 1..=8760;
    /// Idempotency keys that are remembered.
    pub const KEY_LIMIT: RangeInclusive<u64> = 1..=100_000_000;
    /// What a sold-out item is restocked to.
    pub const RESTOCK_QUANTITY: RangeInclusive<u64> = 1..=AMOUNT_MAX;
    /// Seconds between restocks.
    pub const RESTOCK_INTERVAL_S: RangeInclusive<u64> = 1..=86_400;
    /// Changes that are kept.
    pub const CHANGE_HISTORY: RangeInclusive<u64> = 1..=100_000_000;
    /// Prices that are kept of an item.
    pub const PRICE_HISTORY: RangeInclusive<u64> = 1..=10_000;
    /// Reservations that hold at a time.
    pub const RESERVATION_LIMIT: RangeInclusive<u64> = 1..=10_000_000;
    /// Ended reservations that are kept.
    pub const RESERVATION_HISTORY: RangeInclusive<u64> = 0..=10_000_000;
    /// Seconds that a reservation may hold.
    pub const RESERVATION_TTL_MAX_S: RangeInclusive<u64> = 1..=31_536_000;
}
/// The longest row of an import, in bytes.
pub const IMPORT_ROW_BYTES_MAX: usize = 64 * 1024;
/// The most rows of an import whose problems are told.
pub const IMPORT_PROBLEMS_MAX: usize = 100;

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Consistency {
    /// Reflects every write that was confirmed before the read began.
    #[default]
    Linearizable,
    /// Reflects at least the index that the client names.
    Session,
    /// Whatever the replica has.
    Stale,
}

impl Consistency {
    /// The level's name in the interface.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Linearizable => "linearizable",
            Self::Session => "session",
            Self::Stale => "stale",
        }
    }
}
