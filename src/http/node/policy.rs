//! `/v1/policy`, `/v1/cluster/maintenance`: what an operator sets for the whole cluster.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header::ETAG};
use pygmy_raft::types::Reply;
use pygmy_storage::command::{self, Command, Outcome, Precondition};

use super::{
    Api,
    extract::{self, Json, Params, before_the_log},
    items::etag,
    openapi,
    ranges::Ranges,
    respond::{self, json as json_reply, rejection, written},
};
use crate::{
    api::{self, Consistency, policy_range as range},
    http::problem::ApiError,
};

const MS_IN_HOUR: u64 = 3_600_000;
const MS_IN_SECOND: u64 = 1000;

/// `GET /v1/policy`
#[utoipa::path(
    get,
    path = "/v1/policy",
    operation_id = "get_policy",
    tag = "cluster",
    summary = "The replicated settings",
    description = "They are the same on every member. The configuration files only say what they \
        are when a cluster is formed.",
    params(openapi::IfNoneMatch, openapi::Read),
    responses(
        (status = 200, description = "The policy in force", body = api::Policy,
            headers(("ETag" = String, description = "Its version, in quotes"))),
        (status = 304, description = "It still has the version that the client has",
            headers(("ETag" = String, description = "Its version, in quotes"))),
        openapi::ReadErrors,
    ),
)]
pub(super) async fn get(
    State(api): State<Api>,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, ApiError> {
    let freshness = params.freshness(&headers, Consistency::Linearizable);
    params.finish()?;
    let answer = api.read(freshness).await?;
    let state = &answer.view.state;
    let version = state.policy_index().unwrap_or(0);
    let mut response = match extract::none_match(&headers, version) {
        true => answer.with_headers(StatusCode::NOT_MODIFIED.into_response()),
        false => answer.json(&shown(state.policy())),
    };
    response.headers_mut().insert(ETAG, etag(version));
    Ok(response)
}

/// `PUT /v1/policy`
#[utoipa::path(
    put,
    path = "/v1/policy",
    operation_id = "put_policy",
    tag = "cluster",
    summary = "Replaces the replicated settings",
    description = "In maintenance too.",
    params(openapi::IfMatch, openapi::Write),
    request_body = api::Policy,
    responses(
        (status = 200, description = "The policy in force", body = api::Policy,
            headers(("ETag" = String, description = "Its version, in quotes"))),
        openapi::Mismatch,
        openapi::BodyErrors,
        openapi::WriteErrors,
    ),
)]
pub(super) async fn put(
    State(api): State<Api>,
    headers: HeaderMap,
    params: Params,
    body: Result<Json<api::Policy>, ApiError>,
) -> Result<Response, ApiError> {
    let (settings, precondition) = before_the_log(|| {
        params.finish()?;
        let Json(settings) = body?;
        check(&settings)?;
        Ok((settings, extract::precondition(&headers, false)?))
    })?;
    let policy = policy(&settings);
    let command = match precondition {
        Precondition::Version(version) => Command::SetPolicyIf { version, policy },
        // There always is a policy.
        Precondition::None | Precondition::Exists | Precondition::Absent => {
            Command::SetPolicy(policy)
        }
    };
    let reply = api.write(&headers, command).await?;
    Ok(match &reply.applied.outcome {
        Outcome::PolicySet => {
            let version = reply.applied.index;
            let mut response = json_reply(StatusCode::OK, &settings);
            response.headers_mut().insert(ETAG, etag(version));
            written(&reply, response)
        }
        _ => otherwise(&reply),
    })
}

/// `POST /v1/cluster/maintenance`
#[utoipa::path(
    post,
    path = "/v1/cluster/maintenance",
    operation_id = "set_maintenance",
    tag = "cluster",
    summary = "Switches maintenance on or off for the whole cluster",
    description = "While it is on, writes answer 503 `maintenance` and reads go on.",
    params(openapi::Write),
    request_body = api::Maintenance,
    responses(
        (status = 200, description = "Switched, or as it was", body = api::Maintenance),
        openapi::BodyErrors,
        openapi::WriteErrors,
    ),
)]
pub(super) async fn set_maintenance(
    State(api): State<Api>,
    headers: HeaderMap,
    params: Params,
    body: Result<Json<api::Maintenance>, ApiError>,
) -> Result<Response, ApiError> {
    let command = before_the_log(|| {
        params.finish()?;
        let Json(api::Maintenance { on }) = body?;
        Ok(Command::SetMaintenance(on))
    })?;
    let reply = api.write(&headers, command).await?;
    Ok(match &reply.applied.outcome {
        Outcome::MaintenanceSet(on) => {
            written(&reply, json_reply(StatusCode::OK, &api::Maintenance { on: *on }))
        }
        _ => otherwise(&reply),
    })
}

/// The reply to a write whose outcome is not the one of its kind.
fn otherwise(reply: &Reply) -> Response {
    match &reply.applied.outcome {
        Outcome::Rejected(why) => written(reply, rejection(why).into_response()),
        Outcome::Ordered(_)
        | Outcome::Item(_)
        | Outcome::Restocked(_)
        | Outcome::PolicySet
        | Outcome::NodeId(_)
        | Outcome::Batch(_)
        | Outcome::Deleted { .. }
        | Outcome::Imported(_)
        | Outcome::Cancelled(_)
        | Outcome::Reservation(_)
        | Outcome::MaintenanceSet(_)
        | Outcome::Ticked => respond::unexpected_outcome(reply),
    }
}

fn shown(policy: &command::Policy) -> api::Policy {
    api::Policy {
        key_retention_hours: policy.key_retention_ms / MS_IN_HOUR,
        key_limit: policy.key_limit,
        restock_quantity: policy.restock_quantity,
        restock_interval_s: policy.restock_interval_ms.map(|ms| ms / MS_IN_SECOND),
        change_history: policy.change_history,
        price_history: policy.price_history,
        reservation_limit: policy.reservation_limit,
        reservation_history: policy.reservation_history,
        reservation_ttl_max_s: policy.reservation_ttl_max_ms / MS_IN_SECOND,
    }
}

/// The policy of settings that are within their ranges.
fn policy(settings: &api::Policy) -> command::Policy {
    command::Policy {
        key_retention_ms: settings.key_retention_hours * MS_IN_HOUR,
        key_limit: settings.key_limit,
        restock_quantity: settings.restock_quantity,
        restock_interval_ms: settings.restock_interval_s.map(|s| s * MS_IN_SECOND),
        change_history: settings.change_history,
        price_history: settings.price_history,
        reservation_limit: settings.reservation_limit,
        reservation_history: settings.reservation_history,
        reservation_ttl_max_ms: settings.reservation_ttl_max_s * MS_IN_SECOND,
    }
}

fn check(settings: &api::Policy) -> Result<(), ApiError> {
    let mut ranges = Ranges::default();
    for (name, value, range) in [
        ("key_retention_hours", Some(settings.key_retention_hours), range::KEY_RETENTION_HOURS),
        ("key_limit", Some(settings.key_limit), range::KEY_LIMIT),
        ("restock_quantity", Some(settings.restock_quantity), range::RESTOCK_QUANTITY),
        ("restock_interval_s", settings.restock_interval_s, range::RESTOCK_INTERVAL_S),
        ("change_history", Some(settings.change_history), range::CHANGE_HISTORY),
        ("price_history", Some(settings.price_history), range::PRICE_HISTORY),
        ("reservation_limit", Some(settings.reservation_limit), range::RESERVATION_LIMIT),
        ("reservation_history", Some(settings.reservation_history), range::RESERVATION_HISTORY),
        (
            "reservation_ttl_max_s",
            Some(settings.reservation_ttl_max_s),
            range::RESERVATION_TTL_MAX_S,
        ),
    ] {
        let fits = value.is_none_or(|value| range.contains(&value));
        let detail = format_args!("must be from {} to {}", range.start(), range.end());
        ranges.expect(fits, format_args!("/{name}"), detail);
    }
    ranges.finish()
}
