//! What the facade answers itself: whether it is alive and ready, and the flags in the seed's form.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use super::Core;
use crate::http::problem::{ApiError, Code};

/// How long no member may have answered for the facade to call itself ready.
const HEARD_WITHIN: Duration = Duration::from_secs(3);

/// The process is alive: it answers.
pub(super) fn livez() -> Response {
    json_response(&json!({ "status": "ok" }))
}

/// Whether requests have somewhere to go.
pub(super) fn readyz(core: &Core) -> Response {
    if core.is_stopping() {
        return ApiError::new(Code::ShuttingDown, "This facade is about to end: use another one.")
            .into_response();
    }
    if !core.members.heard_within(HEARD_WITHIN) {
        return ApiError::new(
            Code::NoLeader,
            "No member has answered this facade lately: check the seeds and the members.",
        )
        .into_response();
    }
    json_response(&json!({ "status": "ok", "checks": { "members": "ok" } }))
}

/// The flags: 1 for each member that the cluster calls up and that this facade does not find failing.
pub(super) fn heartbeat(core: &Core) -> Response {
    let view = core.members.view();
    let flags: Map<String, Value> = view
        .peers
        .iter()
        .filter_map(|peer| {
            let name = peer.name.clone()?;
            Some((name, Value::from(u8::from(peer.up && !peer.replica.is_out()))))
        })
        .collect();
    let mut response = json_response(&Value::Object(flags));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The cache has forgotten the item.
pub(super) fn invalidated() -> Response {
    json_response(&json!({ "invalidated": true }))
}

fn json_response(value: &Value) -> Response {
    let mut response = (StatusCode::OK, value.to_string()).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
