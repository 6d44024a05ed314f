//! The JSON shapes, header names and error codes of the REST interface, version 1.
//!
//! One definition for everybody who speaks it: the node's handlers, the facade, the client and the
//! tests. Nothing here knows how a request is served.

mod object;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub(crate) use object::Object;

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

/// An item as the interface shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Item {
    /// The item number.
    pub id: u64,
    /// The title.
    pub title: String,
    /// The topic it is listed under.
    pub topic: String,
    /// Price in cents.
    pub price_cents: u64,
    /// Pieces in the store, reserved ones included.
    pub stock: u64,
    /// Pieces held by reservations.
    pub reserved: u64,
    /// `stock - reserved`: what can be sold now.
    pub available: u64,
    /// Log index of the last change; the item's ETag.
    pub version: u64,
    /// When the item was created: log time, RFC 3339 UTC.
    pub created_at: String,
    /// When the item last changed: log time, RFC 3339 UTC.
    pub updated_at: String,
}

/// `GET /v1/topics`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Topics {
    /// The topics that have items, by name.
    pub topics: Vec<Topic>,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Topic {
    /// Its name.
    pub topic: String,
    /// How many items are listed under it.
    pub items: usize,
}

/// `PUT /v1/items/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutItem {
    /// The title.
    #[schema(min_length = 1, max_length = 1000, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    pub title: String,
    /// The topic it is listed under.
    #[schema(min_length = 1, max_length = 200, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    pub topic: String,
    /// Price in cents.
    #[schema(maximum = 1_000_000_000_000u64)]
    pub price_cents: u64,
    /// Pieces in the store. May be left out on replace, and is 0 on create then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 1_000_000_000_000u64)]
    pub stock: Option<u64>,
}

/// `POST /v1/items`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewItem {
    /// The title.
    #[schema(min_length = 1, max_length = 1000, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    pub title: String,
    /// The topic it is listed under.
    #[schema(min_length = 1, max_length = 200, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    pub topic: String,
    /// Price in cents.
    #[schema(maximum = 1_000_000_000_000u64)]
    pub price_cents: u64,
    /// Pieces in the store; 0 when left out.
    #[serde(default)]
    #[schema(maximum = 1_000_000_000_000u64)]
    pub stock: u64,
}

/// `PATCH /v1/items/{id}`: a JSON merge patch (RFC 7396). What is left out stays as it is; an item
/// has all of these, so that none can be null.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchItem {
    /// The new title.
    #[serde(
        default,
        deserialize_with = "object::not_null",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 1000,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]+$"
    )]
    pub title: Option<String>,
    /// The new topic.
    #[serde(
        default,
        deserialize_with = "object::not_null",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]+$"
    )]
    pub topic: Option<String>,
    /// The new price in cents.
    #[serde(
        default,
        deserialize_with = "object::not_null",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(nullable = false, maximum = 1_000_000_000_000u64)]
    pub price_cents: Option<u64>,
}

/// `GET /v1/items/{id}/prices`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Prices {
    /// The prices that are kept, oldest first; the last one is in force.
    pub prices: Vec<Price>,
    /// The lowest price that was in force at any moment of the last 30 days; null where what is kept
    /// reaches back neither so far nor to the item's creation.
    pub lowest_30_days_cents: Option<u64>,
}

/// A price of an item, and when it was in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Price {
    /// The price in cents.
    pub price_cents: u64,
    /// Log time of its beginning, RFC 3339 UTC.
    pub from: String,
    /// Log time of its end, RFC 3339 UTC; null for the one in force.
    pub to: Option<String>,
}

/// `POST /v1/items/{id}/stock`: either `delta` or `set`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeStock {
    /// Pieces to add, or to take away when negative.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = -1_000_000_000_000i64, maximum = 1_000_000_000_000i64)]
    pub delta: Option<i64>,
    /// Pieces that there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 1_000_000_000_000u64)]
    pub set: Option<u64>,
    /// `received`, `count`, `damaged`, `returned` or `correction`.
    #[schema(pattern = "^(received|count|damaged|returned|correction)$")]
    pub reason: String,
    /// The caller's own reference, kept in the ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 200, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    pub reference: Option<String>,
}

/// `POST /v1/orders`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOrder {
    /// What is ordered; all lines or none.
    #[serde(deserialize_with = "object::list")]
    #[schema(min_items = 1, max_items = 100)]
    pub lines: Vec<NewOrderLine>,
    /// Who orders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 200, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    pub customer: Option<String>,
    /// The caller's own reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 200, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    pub reference: Option<String>,
}

/// One line of a [`NewOrder`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOrderLine {
    /// The item number.
    pub item: u64,
    /// Pieces, at least 1.
    #[schema(minimum = 1, maximum = 1_000_000u64)]
    pub quantity: u64,
    /// Refuse the order when the price is another by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 1_000_000_000_000u64)]
    pub expected_price_cents: Option<u64>,
}

/// `POST /v1/orders/batch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOrderBatch {
    /// Whether all orders are placed or none; otherwise each stands for itself.
    pub atomic: bool,
    /// The orders.
    #[serde(deserialize_with = "object::list")]
    #[schema(min_items = 1, max_items = 1000)]
    pub orders: Vec<NewBatchOrder>,
}

/// One order of a [`NewOrderBatch`]: a [`NewOrder`] that may have an idempotency key of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewBatchOrder {
    /// What is ordered; all lines or none.
    #[serde(deserialize_with = "object::list")]
    #[schema(min_items = 1, max_items = 100)]
    pub lines: Vec<NewOrderLine>,
    /// Who orders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 200, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    pub customer: Option<String>,
    /// The caller's own reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 200, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    pub reference: Option<String>,
    /// The key under which this order is placed once, alone or in any batch. All orders of a batch
    /// have one, or none has; then the batch may have one in its header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 255, pattern = r"^[\x21-\x7e]+$")]
    pub idempotency_key: Option<String>,
}

/// What came of a [`NewOrderBatch`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderBatch {
    /// What came of each order, in order.
    pub results: Vec<OrderResult>,
}

/// What came of one order of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderResult {
    /// What came of it.
    pub status: OrderResultStatus,
    /// Whether this repeats what came of an earlier request with the same key.
    pub replayed: bool,
    /// `placed`: the order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// `refused`: why, as the order alone would have been told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// See [`OrderResult`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderResultStatus {
    /// The order exists.
    Placed,
    /// It was refused.
    Refused,
    /// Nothing is wrong with it as far as is known; it was not placed because others of its batch
    /// were refused.
    NotApplied,
}

impl OrderResultStatus {
    /// The name in the interface.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Refused => "refused",
            Self::NotApplied => "not_applied",
        }
    }
}

/// An order as the interface shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Order {
    /// The order number: dense, from 1, in log order.
    pub id: u64,
    /// What was sold.
    pub lines: Vec<OrderLine>,
    /// Sum of the lines, in cents.
    pub total_cents: u64,
    /// `placed` or `cancelled`.
    pub status: String,
    /// Who ordered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// The caller's own reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Log time of the sale, RFC 3339 UTC.
    pub placed_at: String,
    /// Log index of the sale.
    pub index: u64,
    /// The reservation that was confirmed by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<u64>,
    /// `cancelled`: log time of the cancellation, RFC 3339 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_at: Option<String>,
    /// `cancelled`: why, if somebody said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_reason: Option<String>,
}

/// One line of an [`Order`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderLine {
    /// The item number.
    pub item: u64,
    /// The title at the time of the sale.
    pub title: String,
    /// Pieces.
    pub quantity: u64,
    /// Price of a piece at the time of the sale, in cents.
    pub unit_price_cents: u64,
}

/// `POST /v1/orders/{id}/cancel`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelOrder {
    /// Why; kept with the order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 200, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    pub reason: Option<String>,
}

/// `POST /v1/reservations`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewReservation {
    /// What is held; all lines or none.
    #[serde(deserialize_with = "object::list")]
    #[schema(min_items = 1, max_items = 100)]
    pub lines: Vec<NewOrderLine>,
    /// For how long, in seconds. The store's policy has the most.
    #[serde(default = "reservation_ttl_default")]
    #[schema(minimum = 1, default = 900)]
    pub ttl_seconds: u64,
    /// For whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 200, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    pub customer: Option<String>,
    /// The caller's own reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 200, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    pub reference: Option<String>,
}

fn reservation_ttl_default() -> u64 {
    RESERVATION_TTL_SECONDS_DEFAULT
}

/// A reservation as the interface shows it: pieces held until it is confirmed, released or over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reservation {
    /// The reservation number: dense, from 1, in log order.
    pub id: u64,
    /// What is held, at the titles and prices of the reservation.
    pub lines: Vec<OrderLine>,
    /// Sum of the lines, in cents.
    pub total_cents: u64,
    /// `held`, `confirmed`, `released` or `expired`.
    pub status: String,
    /// `confirmed`: the order that came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<u64>,
    /// For whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// The caller's own reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Log time of the creation, RFC 3339 UTC.
    pub created_at: String,
    /// Log time at which it ends by itself, RFC 3339 UTC.
    pub expires_at: String,
    /// Log time of its end, RFC 3339 UTC; not there while it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// Log index of the creation.
    pub index: u64,
}

/// `GET /v1/reservations`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReservationPage {
    /// The rows.
    pub reservations: Vec<Reservation>,
    /// What to send as `cursor` for the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// `GET /v1/items`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ItemPage {
    /// The rows.
    pub items: Vec<Item>,
    /// What to send as `cursor` for the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// `GET /v1/orders`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderPage {
    /// The rows.
    pub orders: Vec<Order>,
    /// What to send as `cursor` for the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// `GET /v1/items/{id}/ledger`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LedgerPage {
    /// The rows, newest first.
    pub rows: Vec<LedgerRow>,
    /// What to send as `cursor` for the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// A change of an item's stock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LedgerRow {
    /// Pieces more, or fewer when negative.
    pub delta: i64,
    /// `sold`, `cancelled`, `received`, `count`, `damaged`, `returned`, `correction`, `restock` or
    /// `deleted`.
    pub reason: String,
    /// The reference of whoever changed it, or of the order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// `sold` and `cancelled`: the order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<u64>,
    /// `sold`: the reservation that was confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<u64>,
    /// Log index of the change.
    pub index: u64,
    /// Log time of the change, RFC 3339 UTC.
    pub at: String,
}

/// `GET /v1/changes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangePage {
    /// The rows, in log order.
    pub changes: Vec<Change>,
    /// What to send as `after` for the next page.
    pub next_after: u64,
}

/// Something that changed at an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// Log index of the change.
    pub index: u64,
    /// `item`, `order`, `reservation` or `policy`.
    pub kind: String,
    /// The item, order or reservation number; 0 for the policy.
    pub id: u64,
    /// `created`, `changed`, `deleted`, `cancelled`, `confirmed`, `released` or `expired`.
    pub what: String,
}

/// A row of an import or of an export of items.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemRow {
    /// The item number.
    pub id: u64,
    /// The title.
    pub title: String,
    /// The topic it is listed under.
    pub topic: String,
    /// Price in cents.
    pub price_cents: u64,
    /// Pieces in the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stock: Option<u64>,
}

/// What came of `POST /v1/import`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Import {
    /// Whether this is what would happen, and nothing did.
    pub dry_run: bool,
    /// Rows of the file, the header line and empty lines aside.
    pub rows: u64,
    /// Items that are new.
    pub created: u64,
    /// Items that are another than before.
    pub replaced: u64,
    /// Rows that said what was there.
    pub unchanged: u64,
    /// Rows that were refused; the others are in.
    pub refused: u64,
    /// What is wrong with the rows that were refused, by line.
    pub problems: Vec<RowProblem>,
    /// How many more rows were refused than `problems` tells of.
    pub problems_left_out: u64,
}

/// What is wrong with a row of an import.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct RowProblem {
    /// The line of the file on which the row begins, from 1.
    pub line: u64,
    /// The column, or the RFC 6901 JSON pointer into the line; empty for the row as a whole.
    pub pointer: String,
    /// What is wrong with it.
    pub detail: String,
}

/// `GET /v1/cluster`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cluster {
    /// The cluster's id, minted at bootstrap.
    pub cluster_id: String,
    /// Name of the leader, if one is known.
    pub leader: Option<String>,
    /// The Raft term.
    pub term: u64,
    /// Whether maintenance is on, as far as the answering member has applied the log.
    #[serde(default)]
    pub maintenance: bool,
    /// Everybody who takes part.
    pub members: Vec<Member>,
}

/// A row of [`Cluster`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Member {
    /// The member's name.
    pub name: String,
    /// The Raft node id. Never used again once its disk is gone.
    pub id: u64,
    /// `catalog`, `order`: what the facade asks it for.
    pub roles: Vec<String>,
    /// `voter` or `learner`.
    pub kind: String,
    /// Address of the REST interface, `host:port`.
    pub api: String,
    /// Address of the peer listener, `host:port`.
    pub peer: String,
    /// Whether the leader has heard from it within the failure window.
    pub up: bool,
    /// Milliseconds since the leader last heard from it; null when it never did or nobody leads.
    pub last_heard_ms: Option<u64>,
    /// The newest index the leader knows it has.
    pub applied_index: Option<u64>,
    /// How far it is behind the leader's log, in entries.
    pub lag: Option<u64>,
    /// The program's version, where known.
    pub version: Option<String>,
}

/// `POST /v1/cluster/maintenance`, and its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    /// Whether writes are refused.
    pub on: bool,
}

/// `GET` and `PUT /v1/policy`: the replicated settings, the same for every member whatever its
/// configuration. A `PUT` replaces all of them. Their version is the ETag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Hours that an idempotency key is remembered, in log time.
    #[schema(minimum = 1, maximum = 8760)]
    pub key_retention_hours: u64,
    /// Idempotency keys that are remembered at most.
    #[schema(minimum = 1, maximum = 100_000_000u64)]
    pub key_limit: u64,
    /// What a sold-out item is restocked to.
    #[schema(minimum = 1, maximum = 1_000_000_000_000u64)]
    pub restock_quantity: u64,
    /// Seconds between restocks; null or left out for never.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 86_400)]
    pub restock_interval_s: Option<u64>,
    /// Changes that are kept for those who follow them.
    #[schema(minimum = 1, maximum = 100_000_000u64)]
    pub change_history: u64,
    /// Prices that are kept of an item.
    #[schema(minimum = 1, maximum = 10_000)]
    pub price_history: u64,
    /// Reservations that hold at a time.
    #[schema(minimum = 1, maximum = 10_000_000u64)]
    pub reservation_limit: u64,
    /// Ended reservations that are kept.
    #[schema(maximum = 10_000_000u64)]
    pub reservation_history: u64,
    /// Seconds that a reservation may hold, in log time.
    #[schema(minimum = 1, maximum = 31_536_000u64)]
    pub reservation_ttl_max_s: u64,
}

/// `GET /v1/verify`: what a replica found when it derived its state anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verification {
    /// The member that checked itself.
    pub node: String,
    /// The index at which everything was checked.
    pub index: u64,
    /// Whether every check passed.
    pub ok: bool,
    /// The state hash at `index`, as hex. Equal on every replica at the same index.
    pub state_hash: String,
    /// Hashes at fixed earlier indexes, newest last: replicas at different indexes compare these.
    pub hash_ring: Vec<HashAt>,
    /// The checks, one by one.
    pub checks: Vec<Check>,
}

/// The state hash at an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HashAt {
    /// The log index.
    pub index: u64,
    /// The state hash there, as hex.
    pub hash: String,
}

/// One check of a [`Verification`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// Whether it holds.
    pub ok: bool,
    /// What was counted, or what is wrong.
    pub detail: String,
}

/// Whether a write took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WriteOutcome {
    /// It did.
    Applied,
    /// It did not, and will not.
    NotApplied,
    /// It may have, or may yet. A retry with the same idempotency key is safe and finds out.
    Unknown,
}

/// An error: RFC 9457 `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `about:blank#<code>`: a stable name for the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What went wrong here and what to do next.
    pub detail: String,
    /// The request's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Stable, machine-readable.
    pub code: String,
    /// On writes: whether the write took effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<WriteOutcome>,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// `out_of_stock`: the item that is short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<u64>,
    /// `out_of_stock`: the order line (from 0) that is short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// `out_of_stock`: pieces wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<u64>,
    /// `out_of_stock`: pieces there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available: Option<u64>,
    /// `version_mismatch`: the version of the item or of the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_version: Option<u64>,
    /// `wrong_state`: where the order or the reservation stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// `history_gone`: the oldest index that can be given as `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_after: Option<u64>,
    /// `malformed`, `invalid`: every place that is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

/// A place in a request that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// RFC 6901 JSON pointer into the body, or the name of a parameter or header.
    pub pointer: String,
    /// What is wrong with it.
    pub detail: String,
}
