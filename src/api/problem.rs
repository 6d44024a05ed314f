//! What an error says (RFC 9457).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
