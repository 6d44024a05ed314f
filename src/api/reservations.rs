//! Reservations.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{NewOrderLine, OrderLine, RESERVATION_TTL_SECONDS_DEFAULT, object};

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
