//! Asking the node, and what its errors are in HTTP: one place for reads, one for writes.

use std::{sync::Arc, time::Instant};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE};
use pygmy_raft::{
    node::{Freshness, ReadError, WriteError},
    types::Reply,
};
use pygmy_storage::{
    command::{Command, KeyClaim, Rejection, WrongState},
    orders::OrderStatus,
    query::View,
};
use serde::Serialize;

use super::{Api, extract};
use crate::{
    api::{WriteOutcome, header},
    http::{
        problem::{ApiError, Code},
        request_id,
    },
};

/// A state to answer from, and what to say of it.
pub(super) struct Answer {
    pub(super) view: Arc<View>,
    staleness_ms: Option<u64>,
}

impl Answer {
    /// A JSON reply from this state.
    pub(super) fn json(&self, body: &impl Serialize) -> Response {
        self.with_headers(json(StatusCode::OK, body))
    }

    /// Adds what is said of the state to a reply.
    pub(super) fn with_headers(&self, mut response: Response) -> Response {
        let headers = response.headers_mut();
        headers.insert(header::INDEX, HeaderValue::from(self.view.index()));
        if let Some(staleness_ms) = self.staleness_ms {
            headers.insert(header::STALENESS_MS, HeaderValue::from(staleness_ms));
        }
        response
    }

    /// An error that was found in this state.
    pub(super) fn error(&self, error: ApiError) -> Response {
        self.with_headers(error.into_response())
    }
}

/// A JSON reply.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => {
            let mut response = Response::new(Body::from(bytes));
            *response.status_mut() = status;
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(CONTENT_TYPE, json);
            response
        }
        Err(error) => {
            tracing::error!(%error, request = request_id::text(), "a reply could not be encoded");
            ApiError::new(Code::Internal, "The reply could not be encoded.").into_response()
        }
    }
}

impl Api {
    /// Gives a state that is as fresh as asked for.
    pub(super) async fn read(&self, freshness: Freshness) -> Result<Answer, ApiError> {
        self.read_until(freshness, Instant::now() + self.settings.request_timeout).await
    }

    /// Gives a state that is as fresh as asked for, by then.
    pub(super) async fn read_until(
        &self,
        freshness: Freshness,
        deadline: Instant,
    ) -> Result<Answer, ApiError> {
        let view = self
            .node
            .read(freshness, deadline.saturating_duration_since(Instant::now()))
            .await
            .map_err(|error| read_error(&error, freshness))?;
        let staleness_ms = match freshness {
            Freshness::Stale(_) => {
                let millis = self.node.staleness().map(|s| s.as_millis());
                millis.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX))
            }
            Freshness::Linearizable | Freshness::AtIndex(_) => None,
        };
        Ok(Answer { view, staleness_ms })
    }

    /// Writes, under the request's idempotency key.
    pub(super) async fn write(
        &self,
        headers: &HeaderMap,
        command: Command,
    ) -> Result<Reply, ApiError> {
        let key = extract::idempotency_key(headers)
            .map_err(|error| error.outcome(WriteOutcome::NotApplied))?;
        let claim = key.map(|key| KeyClaim::new(&key, &command));
        self.write_claimed(headers, claim, command).await
    }

    /// By when a request that reads and then writes must be answered.
    pub(super) fn deadline(&self, headers: &HeaderMap) -> Result<Instant, ApiError> {
        Ok(Instant::now() + extract::timeout(headers, self.settings.request_timeout)?)
    }

    /// Writes, under this claim, by then.
    pub(super) async fn write_until(
        &self,
        claim: Option<KeyClaim>,
        command: Command,
        deadline: Instant,
    ) -> Result<Reply, ApiError> {
        let timeout = deadline.saturating_duration_since(Instant::now());
        let written = self.node.write(claim, command, timeout).await;
        written.map_err(|error| write_error(&error))
    }

    /// Writes, under this claim.
    pub(super) async fn write_claimed(
        &self,
        headers: &HeaderMap,
        claim: Option<KeyClaim>,
        command: Command,
    ) -> Result<Reply, ApiError> {
        let timeout = extract::timeout(headers, self.settings.request_timeout)
            .map_err(|error| error.outcome(WriteOutcome::NotApplied))?;
        self.refuse_in_maintenance(claim.as_ref(), &command)?;
        let written = self.node.write(claim, command, timeout).await;
        written.map_err(|error| write_error(&error))
    }

    /// Writes a burst of commands with their claims, all at once.
    pub(super) async fn write_many(
        &self,
        headers: &HeaderMap,
        commands: Vec<(Option<KeyClaim>, Command)>,
    ) -> Result<Vec<Reply>, ApiError> {
        let timeout = extract::timeout(headers, self.settings.request_timeout)
            .map_err(|error| error.outcome(WriteOutcome::NotApplied))?;
        for (claim, command) in &commands {
            self.refuse_in_maintenance(claim.as_ref(), command)?;
        }
        let written = self.node.write_many(commands, timeout).await;
        written.map_err(|error| write_error(&error))
    }

    /// Refuses in maintenance what can only be new, without asking the log. A request with a key may
    /// repeat one that was done before, which only the log knows: it decides there.
    fn refuse_in_maintenance(
        &self,
        claim: Option<&KeyClaim>,
        command: &Command,
    ) -> Result<(), ApiError> {
        let has_key = claim.is_some()
            || match command {
                Command::PlaceOrders(batch) => batch.orders.iter().any(|one| one.key.is_some()),
                _ => false,
            };
        match has_key || command.is_upkeep() || !self.node.view().state.maintenance() {
            true => Ok(()),
            false => Err(rejection(&Rejection::Maintenance)),
        }
    }

    /// Reads history, off the async threads: it may wait for the disk. Also for reads that take long.
    pub(super) async fn read_history<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> pygmy_storage::Result<T> + Send + 'static,
    ) -> Result<T, ApiError> {
        read_history(read).await
    }
}

/// Reads what is in memory, so that it need not leave the async threads.
pub(super) fn read_history_now<T>(
    read: impl FnOnce() -> pygmy_storage::Result<T>,
) -> Result<T, ApiError> {
    read().map_err(|error| {
        tracing::error!(%error, request = request_id::text(), "reading history failed");
        ApiError::new(Code::Internal, "This replica cannot read its history; ask another one.")
    })
}

/// See [`Api::read_history`].
pub(super) async fn read_history<T: Send + 'static>(
    read: impl FnOnce() -> pygmy_storage::Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(move || read_history_now(read)).await {
        Ok(read) => read,
        Err(error) => {
            tracing::error!(%error, request = request_id::text(), "reading history was cut off");
            Err(ApiError::new(Code::ShuttingDown, "This node is about to end."))
        }
    }
}

fn read_error(error: &ReadError, freshness: Freshness) -> ApiError {
    match error {
        ReadError::NoLeader => ApiError::new(
            Code::NoLeader,
            "No leader could be found to confirm the read; try again, or read with \
             consistency=stale.",
        ),
        ReadError::Behind { wanted, have } => {
            let detail =
                format!("This replica is at index {have} and did not reach {wanted} in time.");
            match freshness {
                Freshness::Linearizable => ApiError::new(Code::Timeout, detail),
                Freshness::AtIndex(_) | Freshness::Stale(_) => {
                    ApiError::new(Code::TooStale, detail)
                }
            }
        }
        ReadError::TooStale { staleness_ms } => {
            let ago = staleness_ms.map_or("never".to_owned(), |ms| format!("{ms} ms ago"));
            let detail = format!("This replica last heard from a leader {ago}; ask another one.");
            ApiError::new(Code::TooStale, detail)
        }
        ReadError::Recovering => ApiError::new(
            Code::Recovering,
            "This replica was restarted and may be behind what it showed before; it serves again \
             as soon as it has heard from a quorum.",
        ),
        ReadError::Overloaded => ApiError::new(Code::Overloaded, "Too many reads wait here."),
        ReadError::ShuttingDown => ApiError::new(Code::ShuttingDown, "This node is about to end."),
    }
}

/// The error of a write that brought no outcome.
pub(super) fn write_error(error: &WriteError) -> ApiError {
    let (code, detail) = match error {
        WriteError::NoLeader | WriteError::NotLeader(_) => {
            (Code::NoLeader, "No leader could be found in time. Nothing happened; try again.")
        }
        WriteError::LeadershipLost => (
            Code::LeadershipLost,
            "Leadership was lost while the write was under way. It may have happened; the same \
             request with the same Idempotency-Key is safe and finds out.",
        ),
        WriteError::Timeout => (
            Code::Timeout,
            "There was no outcome in time. It may have happened; the same request with the same \
             Idempotency-Key is safe and finds out.",
        ),
        WriteError::Overloaded => {
            (Code::Overloaded, "Too many writes wait here. Nothing happened.")
        }
        WriteError::ShuttingDown => {
            (Code::ShuttingDown, "This node is about to end. Nothing happened; ask another one.")
        }
    };
    let outcome = match error.not_applied() {
        true => WriteOutcome::NotApplied,
        false => WriteOutcome::Unknown,
    };
    ApiError::new(code, detail).outcome(outcome)
}

/// Why a write was refused, and where it is not plain, what to do next.
fn detail(rejection: &Rejection) -> String {
    let mut detail = rejection.to_string();
    if let Some(first) = detail.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let next = match rejection {
        Rejection::PriceChanged { .. } => " Show the new price before you order again.",
        Rejection::VersionMismatch { current: Some(_) } => " Read it again before you change it.",
        Rejection::KeyReused => " Take a new key for a new request.",
        Rejection::TooManyReservations { .. } => " Try again when some have ended.",
        Rejection::WrongState(WrongState::ItemReserved { .. }) => {
            " Try again when they are confirmed, released or over."
        }
        Rejection::Maintenance => " Nothing was changed; try again later.",
        _ => "",
    };
    format!("{detail}.{next}")
}

/// The error of a write that was refused by its outcome.
pub(super) fn rejection(rejection: &Rejection) -> ApiError {
    let detail = detail(rejection);
    let error = match rejection {
        Rejection::UnknownItem { line, item } => {
            ApiError::new(Code::NotFound, detail).item(*item).line(*line as usize)
        }
        Rejection::OutOfStock { line, item, requested, available } => ApiError::new(
            Code::OutOfStock,
            detail,
        )
        .shortage(*line as usize, *item, *requested, *available),
        Rejection::PriceChanged { line, item, .. } => {
            ApiError::new(Code::WrongState, detail).item(*item).line(*line as usize)
        }
        Rejection::VersionMismatch { current } => {
            let error = ApiError::new(Code::VersionMismatch, detail);
            match current {
                Some(version) => error.current_version(*version),
                None => error,
            }
        }
        Rejection::StockTooLow { item, stock, reserved, requested } => ApiError::new(
            Code::OutOfStock,
            detail,
        )
        .shortage(0, *item, *requested, stock.saturating_sub(*reserved)),
        Rejection::Overflow => ApiError::new(Code::Invalid, detail),
        Rejection::KeyReused => ApiError::new(Code::IdempotencyKeyReused, detail),
        Rejection::WrongState(WrongState::ItemReserved { item, .. }) => {
            ApiError::new(Code::WrongState, detail).item(*item)
        }
        Rejection::WrongState(WrongState::OrderCancelled { .. }) => {
            ApiError::new(Code::WrongState, detail).state(OrderStatus::Cancelled.as_str())
        }
        Rejection::WrongState(WrongState::ReservationEnded { status, .. }) => {
            ApiError::new(Code::WrongState, detail).state(status.as_str())
        }
        Rejection::TooManyReservations { .. } => ApiError::new(Code::WrongState, detail),
        Rejection::UnknownOrder { .. } | Rejection::UnknownReservation { .. } => {
            ApiError::new(Code::NotFound, detail)
        }
        Rejection::TtlTooLong { .. } => ApiError::new(Code::Invalid, detail),
        Rejection::Maintenance => ApiError::new(Code::Maintenance, detail),
    };
    error.outcome(WriteOutcome::NotApplied)
}

/// Adds what every reply to a write carries.
pub(super) fn written(reply: &Reply, mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::INDEX, HeaderValue::from(reply.applied.index));
    if reply.applied.replayed {
        headers.insert(header::IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// The outcome is of another kind than the command: a fault of ours.
pub(super) fn unexpected_outcome(reply: &Reply) -> Response {
    tracing::error!(
        ?reply,
        request = request_id::text(),
        "an outcome of another kind than its command"
    );
    let error = ApiError::new(Code::Internal, "The store answered something it should not.");
    written(reply, error.outcome(WriteOutcome::Applied).into_response())
}
