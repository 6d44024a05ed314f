//! What the original system offered and nobody should call any more.
//!
//! Its servers told each other about sales, heartbeats and files by HTTP. The log does that now, so
//! these paths only say what stands in their place. Shared by the node and the facade.

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, StatusCode};

use crate::api::{WriteOutcome, header};
use crate::http::problem::{ApiError, Code};

/// The error for a request to one of the original's server-to-server endpoints: `/update/…`,
/// `/update_order/`, `/sync/`, and `PUT /heartbeat/`. None for any other request.
pub fn replaced(method: &Method, path: &str) -> Option<ApiError> {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    let instead = match first {
        "update" => "a sale reaches every replica through the log; POST /v1/orders sells",
        "update_order" => "orders reach every replica through the log; GET /v1/orders lists them",
        "sync" => "a replica that was away catches up through the log or a snapshot by itself",
        "heartbeat" if method == Method::PUT => {
            "the cluster knows its members; GET /heartbeat/ and GET /v1/cluster show them"
        }
        _ => return None,
    };
    let detail = format!("{method} {path} was for the original's servers only: {instead}.");
    let error = ApiError::new(Code::Replaced, detail);
    Some(if method.is_safe() { error } else { error.outcome(WriteOutcome::NotApplied) })
}

/// The error for `GET /buy/{n}` where the configuration has switched it off.
pub fn buy_switched_off() -> ApiError {
    ApiError::new(
        Code::Replaced,
        "Buying by GET is switched off here: use POST /v1/orders, or set legacy_get_buy = true.",
    )
    .outcome(WriteOutcome::NotApplied)
}

/// The reply to `GET /buy/{n}` when the store cannot sell at the moment: the body is the one that
/// the original's clients know, and what it cannot say is in the headers.
///
/// `"Result": "0"` tells the client that nothing was bought. An error that cannot promise that
/// (its outcome is not `not_applied`) therefore stays a problem document.
pub fn buy_unavailable(error: ApiError) -> Response {
    let refused = error.write_outcome() == Some(WriteOutcome::NotApplied);
    if !refused || error.code().status() != StatusCode::SERVICE_UNAVAILABLE {
        return error.into_response();
    }
    let mut response = (StatusCode::SERVICE_UNAVAILABLE, r#"{"Result": "0"}"#).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CODE, HeaderValue::from_static(error.code().as_str()));
    headers.insert(header::OUTCOME, HeaderValue::from_static("not_applied"));
    if let Some(seconds) = error.retry_after_s() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_server_to_server_endpoints_are_gone() {
        let gone = |method: Method, path| replaced(&method, path).map(|error| error.code());
        for (method, path) in [
            (Method::GET, "/update/5:buy/"),
            (Method::PUT, "/update/5:restock"),
            (Method::POST, "/update_order/"),
            (Method::GET, "/sync/"),
            (Method::GET, "/sync"),
            (Method::PUT, "/heartbeat/"),
        ] {
            assert_eq!(gone(method, path), Some(Code::Replaced), "{path}");
        }
        for (method, path) in [
            (Method::GET, "/heartbeat/"),
            (Method::GET, "/"),
            (Method::GET, "/updates"),
            (Method::GET, "/v1/sync"),
        ] {
            assert_eq!(gone(method, path), None, "{path}");
        }
    }

    #[test]
    fn a_buy_says_result_0_only_when_nothing_was_bought() {
        let sure = ApiError::new(Code::NoLeader, "").outcome(WriteOutcome::NotApplied);
        let response = buy_unavailable(sure);
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[header::CODE], "no_leader");
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        let unsure = ApiError::new(Code::LeadershipLost, "").outcome(WriteOutcome::Unknown);
        let response = buy_unavailable(unsure);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
    }
}
