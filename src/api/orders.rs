//! Orders and batches of them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Problem, object};

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

/// `GET /v1/orders`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderPage {
    /// The rows.
    pub orders: Vec<Order>,
    /// What to send as `cursor` for the next page; null on the last one.
    pub next_cursor: Option<String>,
}
