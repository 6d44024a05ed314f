//! Every error that leaves by HTTP: one enum of codes, one table, one document form.
//!
//! Owns the mapping from a code to status, title and "may be retried". It must never be bypassed: a
//! handler that sets an error status by hand would drift from the interface's table.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Method, StatusCode, Uri};

use crate::api::{FieldError, Problem, WriteOutcome};
use crate::http::request_id;

/// The media type of RFC 9457.
pub const CONTENT_TYPE_PROBLEM: &str = "application/problem+json";

/// Seconds in `Retry-After` when the error does not know better. An election takes about one.
const RETRY_AFTER_DEFAULT_S: u64 = 1;

/// What went wrong, as clients branch on it. The names in the interface are those of
/// [`Code::as_str`] and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The request is not what the interface describes: not JSON, a wrong type, an unknown field.
    Malformed,
    /// No token, or one that nobody issued.
    Unauthenticated,
    /// The token lacks the scope.
    Forbidden,
    /// No such item, order, reservation or route.
    NotFound,
    /// The route exists, but not with this method.
    MethodNotAllowed,
    /// None of the media types that the client accepts can be made.
    NotAcceptable,
    /// The body is longer than the limit.
    TooLarge,
    /// The body's media type is not one that the route reads.
    UnsupportedMediaType,
    /// The header section is longer than the limit.
    HeadersTooLarge,
    /// Fewer pieces are there than the order wants.
    OutOfStock,
    /// The thing is not in a state that allows this.
    WrongState,
    /// An endpoint of the original system that something else stands in for now.
    Replaced,
    /// The changes asked for are older than what is kept.
    HistoryGone,
    /// `If-Match` or `If-None-Match` no longer holds.
    VersionMismatch,
    /// The idempotency key belongs to another request.
    IdempotencyKeyReused,
    /// Well-formed, but a value is out of its range.
    Invalid,
    /// The client sends more than it may.
    RateLimited,
    /// Nobody leads the cluster at the moment; the write was not proposed.
    NoLeader,
    /// The leader lost its leadership while the write was under way.
    LeadershipLost,
    /// The server has as much work as it takes on.
    Overloaded,
    /// The replica is further behind than the client accepts.
    TooStale,
    /// The server is about to end.
    ShuttingDown,
    /// An operator has closed the store for writes.
    Maintenance,
    /// The node restarted and has not caught up with what it may have shown before.
    Recovering,
    /// No answer within the deadline.
    Timeout,
    /// The disk is full: writes are refused, reads go on.
    DiskFull,
    /// A fault of ours; the log has the details.
    Internal,
}

/// A row of the table: what a [`Code`] means in HTTP.
struct Row {
    name: &'static str,
    status: StatusCode,
    title: &'static str,
    /// Whether the same request may succeed later.
    retryable: bool,
}

const fn row(name: &'static str, status: StatusCode, title: &'static str, retryable: bool) -> Row {
    Row { name, status, title, retryable }
}

impl Code {
    /// Every code, in the order of the interface's table.
    pub const ALL: [Self; 27] = [
        Self::Malformed,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::NotAcceptable,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::HeadersTooLarge,
        Self::OutOfStock,
        Self::WrongState,
        Self::Replaced,
        Self::HistoryGone,
        Self::VersionMismatch,
        Self::IdempotencyKeyReused,
        Self::Invalid,
        Self::RateLimited,
        Self::NoLeader,
        Self::LeadershipLost,
        Self::Overloaded,
        Self::TooStale,
        Self::ShuttingDown,
        Self::Maintenance,
        Self::Recovering,
        Self::Timeout,
        Self::DiskFull,
        Self::Internal,
    ];

    fn row(self) -> Row {
        use StatusCode as S;
        match self {
            Self::Malformed => row("malformed", S::BAD_REQUEST, "Malformed request", false),
            Self::Unauthenticated => {
                row("unauthenticated", S::UNAUTHORIZED, "Authentication required", false)
            }
            Self::Forbidden => row("forbidden", S::FORBIDDEN, "Not allowed", false),
            Self::NotFound => row("not_found", S::NOT_FOUND, "Not found", false),
            Self::MethodNotAllowed => {
                row("method_not_allowed", S::METHOD_NOT_ALLOWED, "Method not allowed", false)
            }
            Self::NotAcceptable => {
                row("not_acceptable", S::NOT_ACCEPTABLE, "Not acceptable", false)
            }
            Self::TooLarge => row("too_large", S::PAYLOAD_TOO_LARGE, "Body too large", false),
            Self::UnsupportedMediaType => row(
                "unsupported_media_type",
                S::UNSUPPORTED_MEDIA_TYPE,
                "Unsupported media type",
                false,
            ),
            Self::HeadersTooLarge => row(
                "headers_too_large",
                S::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "Headers too large",
                false,
            ),
            Self::OutOfStock => row("out_of_stock", S::CONFLICT, "Out of stock", false),
            Self::WrongState => row("wrong_state", S::CONFLICT, "Wrong state", false),
            Self::Replaced => row("replaced", S::GONE, "Replaced", false),
            Self::HistoryGone => row("history_gone", S::GONE, "History gone", false),
            Self::VersionMismatch => {
                row("version_mismatch", S::PRECONDITION_FAILED, "Version mismatch", false)
            }
            Self::IdempotencyKeyReused => row(
                "idempotency_key_reused",
                S::UNPROCESSABLE_ENTITY,
                "Idempotency key reused",
                false,
            ),
            Self::Invalid => row("invalid", S::UNPROCESSABLE_ENTITY, "Invalid value", false),
            Self::RateLimited => {
                row("rate_limited", S::TOO_MANY_REQUESTS, "Too many requests", true)
            }
            Self::NoLeader => row("no_leader", S::SERVICE_UNAVAILABLE, "No leader", true),
            Self::LeadershipLost => {
                row("leadership_lost", S::SERVICE_UNAVAILABLE, "Leadership lost", true)
            }
            Self::Overloaded => row("overloaded", S::SERVICE_UNAVAILABLE, "Overloaded", true),
            Self::TooStale => row("too_stale", S::SERVICE_UNAVAILABLE, "Too stale", true),
            Self::ShuttingDown => {
                row("shutting_down", S::SERVICE_UNAVAILABLE, "Shutting down", true)
            }
            Self::Maintenance => row("maintenance", S::SERVICE_UNAVAILABLE, "Maintenance", true),
            Self::Recovering => row("recovering", S::SERVICE_UNAVAILABLE, "Recovering", true),
            Self::Timeout => row("timeout", S::GATEWAY_TIMEOUT, "Timeout", true),
            Self::DiskFull => row("disk_full", S::INSUFFICIENT_STORAGE, "Disk full", true),
            // Another replica, or this one after its restart, may well answer.
            Self::Internal => row("internal", S::INTERNAL_SERVER_ERROR, "Internal error", true),
        }
    }

    /// The code's name in the interface.
    pub fn as_str(self) -> &'static str {
        self.row().name
    }

    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        self.row().status
    }

    /// The kind of problem in words.
    pub fn title(self) -> &'static str {
        self.row().title
    }

    /// Whether the same request may succeed later.
    pub fn retryable(self) -> bool {
        self.row().retryable
    }

    /// The code with this name in the interface.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == name)
    }
}

/// An error on its way to a client. Boxed inside, so that a `Result` of it stays small.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError(Box<Fields>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Fields {
    code: Code,
    detail: String,
    outcome: Option<WriteOutcome>,
    item: Option<u64>,
    line: Option<usize>,
    requested: Option<u64>,
    available: Option<u64>,
    current_version: Option<u64>,
    state: Option<&'static str>,
    oldest_after: Option<u64>,
    errors: Vec<FieldError>,
    retry_after_s: Option<u64>,
    allow: Option<HeaderValue>,
}

impl ApiError {
    /// An error with what went wrong here and what to do next.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Fields {
            code,
            detail: detail.into(),
            outcome: None,
            item: None,
            line: None,
            requested: None,
            available: None,
            current_version: None,
            state: None,
            oldest_after: None,
            errors: Vec::new(),
            retry_after_s: None,
            allow: None,
        }))
    }

    /// On writes: whether the write took effect.
    #[must_use]
    pub fn outcome(mut self, outcome: WriteOutcome) -> Self {
        self.0.outcome = Some(outcome);
        self
    }

    /// The order line (from 0) that is short, its item, and how many were wanted and are there.
    #[must_use]
    pub fn shortage(mut self, line: usize, item: u64, requested: u64, available: u64) -> Self {
        self.0.line = Some(line);
        self.0.item = Some(item);
        self.0.requested = Some(requested);
        self.0.available = Some(available);
        self
    }

    /// The item that the error is about.
    #[must_use]
    pub fn item(mut self, item: u64) -> Self {
        self.0.item = Some(item);
        self
    }

    /// The order line (from 0) that the error is about.
    #[must_use]
    pub fn line(mut self, line: usize) -> Self {
        self.0.line = Some(line);
        self
    }

    /// Where the order or the reservation stands.
    pub fn state(mut self, state: &'static str) -> Self {
        self.0.state = Some(state);
        self
    }

    /// The version that the thing has, where a precondition named another.
    #[must_use]
    pub fn current_version(mut self, version: u64) -> Self {
        self.0.current_version = Some(version);
        self
    }

    /// The oldest index after which changes are kept.
    #[must_use]
    pub fn oldest_after(mut self, index: u64) -> Self {
        self.0.oldest_after = Some(index);
        self
    }

    /// One more place in the request that is wrong.
    #[must_use]
    pub fn error(mut self, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        self.0.errors.push(FieldError { pointer: pointer.into(), detail: detail.into() });
        self
    }

    /// More places in the request that are wrong.
    #[must_use]
    pub fn errors(mut self, errors: impl IntoIterator<Item = FieldError>) -> Self {
        self.0.errors.extend(errors);
        self
    }

    /// When to come back, in `Retry-After`; rounded up to whole seconds.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after_s = Some(after.as_secs() + u64::from(after.subsec_nanos() > 0));
        self
    }

    /// The methods that the route takes, for `Allow`; with [`Code::MethodNotAllowed`].
    #[must_use]
    pub fn allow(mut self, methods: &'static str) -> Self {
        self.0.allow = Some(HeaderValue::from_static(methods));
        self
    }

    /// What went wrong.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Whether the write took effect, where that was said.
    pub fn write_outcome(&self) -> Option<WriteOutcome> {
        self.0.outcome
    }

    /// Seconds for `Retry-After`: what was set, or the default on the statuses that want one.
    pub fn retry_after_s(&self) -> Option<u64> {
        let status = self.0.code.status();
        let wanted =
            status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS;
        self.0.retry_after_s.or(wanted.then_some(RETRY_AFTER_DEFAULT_S))
    }

    /// The document. `instance` is the id of the request that is being answered, if there is one.
    pub fn to_problem(&self) -> Problem {
        let fields = &self.0;
        Problem {
            kind: format!("about:blank#{}", fields.code.as_str()),
            title: fields.code.title().to_owned(),
            status: fields.code.status().as_u16(),
            detail: fields.detail.clone(),
            instance: request_id::current().map(|id| id.as_str().to_owned()),
            code: fields.code.as_str().to_owned(),
            outcome: fields.outcome,
            retryable: fields.code.retryable(),
            item: fields.item,
            line: fields.line,
            requested: fields.requested,
            available: fields.available,
            current_version: fields.current_version,
            state: fields.state.map(str::to_owned),
            oldest_after: fields.oldest_after,
            errors: fields.errors.clone(),
        }
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.0.code.as_str(), self.0.detail)
    }
}

impl std::error::Error for ApiError {}

impl From<&ApiError> for Problem {
    fn from(error: &ApiError) -> Self {
        error.to_problem()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.to_problem())
            .expect("a problem has string keys and plain values only");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.0.code.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE_PROBLEM));
        if let Some(seconds) = self.retry_after_s() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.0.allow {
            headers.insert(http::header::ALLOW, allow);
        }
        response
    }
}

/// The fallback handler of a router: no such route.
pub async fn no_route(method: Method, uri: Uri) -> ApiError {
    ApiError::new(
        Code::NotFound,
        format!("There is no {method} {}; /openapi.json lists what there is.", uri.path()),
    )
}

/// The handler of a known path with a method that it does not take. axum adds `Allow` by itself.
pub async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    ApiError::new(
        Code::MethodNotAllowed,
        format!("{} does not take {method}; the Allow header lists what it takes.", uri.path()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_name_of_its_own_that_parses_back() {
        for code in Code::ALL {
            assert_eq!(Code::parse(code.as_str()), Some(code));
        }
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
        assert_eq!(Code::parse("nonsense"), None);
    }

    #[test]
    fn the_table_agrees_with_the_interface() {
        let expected: &[(u16, &[&str])] = &[
            (400, &["malformed"]),
            (401, &["unauthenticated"]),
            (403, &["forbidden"]),
            (404, &["not_found"]),
            (405, &["method_not_allowed"]),
            (406, &["not_acceptable"]),
            (409, &["out_of_stock", "wrong_state"]),
            (410, &["replaced", "history_gone"]),
            (412, &["version_mismatch"]),
            (413, &["too_large"]),
            (415, &["unsupported_media_type"]),
            (422, &["idempotency_key_reused", "invalid"]),
            (429, &["rate_limited"]),
            (431, &["headers_too_large"]),
            (500, &["internal"]),
            (
                503,
                &[
                    "no_leader",
                    "leadership_lost",
                    "overloaded",
                    "too_stale",
                    "shutting_down",
                    "maintenance",
                    "recovering",
                ],
            ),
            (504, &["timeout"]),
            (507, &["disk_full"]),
        ];
        let mut seen = 0;
        for (status, names) in expected {
            for name in *names {
                let code = Code::parse(name).unwrap_or_else(|| panic!("{name} is missing"));
                assert_eq!(code.status().as_u16(), *status, "{name}");
                seen += 1;
            }
        }
        assert_eq!(seen, Code::ALL.len());
    }

    #[tokio::test]
    async fn a_document_carries_its_fields_and_nothing_empty() {
        let error = ApiError::new(Code::OutOfStock, "Item 5 is sold out.")
            .shortage(0, 5, 2, 1)
            .outcome(WriteOutcome::NotApplied);
        let response = error.into_response();
        assert_eq!(response.status(), 409);
        assert_eq!(response.headers()[CONTENT_TYPE], CONTENT_TYPE_PROBLEM);
        assert!(!response.headers().contains_key(RETRY_AFTER));
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "type": "about:blank#out_of_stock", "title": "Out of stock", "status": 409,
                "detail": "Item 5 is sold out.", "code": "out_of_stock",
                "outcome": "not_applied", "retryable": false,
                "line": 0, "item": 5, "requested": 2, "available": 1,
            })
        );
    }

    #[test]
    fn retry_after_is_there_where_http_wants_it_and_rounds_up() {
        let seconds = |error: ApiError| error.retry_after_s();
        assert_eq!(seconds(ApiError::new(Code::NoLeader, "")), Some(1));
        assert_eq!(seconds(ApiError::new(Code::RateLimited, "")), Some(1));
        assert_eq!(seconds(ApiError::new(Code::Timeout, "")), None);
        let precise = ApiError::new(Code::Overloaded, "").retry_after(Duration::from_millis(2_001));
        assert_eq!(seconds(precise), Some(3));
    }
}
