//! Items and the files they come in.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::object;

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

/// `GET /v1/items`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ItemPage {
    /// The rows.
    pub items: Vec<Item>,
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
