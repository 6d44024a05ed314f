//! `/v1/cluster`, `/heartbeat/`, `/v1/verify`.

use axum::{extract::State, response::Response};
use http::{HeaderMap, StatusCode, header::CACHE_CONTROL};
use pygmy_raft::node::ClusterStatus;
use pygmy_storage::verify;
use serde_json::{Map, Value};

use super::{
    Api,
    extract::Params,
    openapi,
    respond::{Answer, json},
};
use crate::{
    api::{self, Consistency, PAGE_LIMIT_MAX},
    http::problem::{ApiError, Code},
};

/// `GET /v1/cluster`
#[utoipa::path(
    get,
    path = "/v1/cluster",
    operation_id = "get_cluster",
    tag = "cluster",
    summary = "The members and who leads",
    responses(
        (status = 200, description = "As this member knows it", body = api::Cluster),
        openapi::ReadErrors,
    ),
)]
pub(super) async fn members(State(api): State<Api>, params: Params) -> Result<Response, ApiError> {
    params.finish()?;
    let status = api.node.cluster_status().await;
    Ok(json(StatusCode::OK, &cluster(&api, &status)))
}

fn cluster(api: &Api, status: &ClusterStatus) -> api::Cluster {
    let members = status.members.iter().map(|(m, up)| api::Member {
        name: m.member.name.clone(),
        id: m.id,
        roles: m.member.roles.iter().map(|role| role.as_str().to_owned()).collect(),
        kind: if m.voter { "voter" } else { "learner" }.to_owned(),
        api: m.member.api.clone(),
        peer: m.member.peer.clone(),
        up: *up,
        last_heard_ms: m.last_heard_ms,
        applied_index: m.matched_index,
        lag: m.matched_index.map(|index| status.last_index.saturating_sub(index)),
        version: (m.id == api.node.id()).then(|| api.node.settings().version.clone()),
    });
    let name_of = |id| status.members.iter().find(|(m, _)| m.id == id).map(|(m, _)| &m.member.name);
    api::Cluster {
        cluster_id: status.cluster.map_or_else(String::new, |id| id.to_string()),
        leader: status.leader.and_then(name_of).cloned(),
        term: status.term,
        maintenance: api.node.view().state.maintenance(),
        members: members.collect(),
    }
}

/// `GET /heartbeat/`: who is up, as the original showed it.
#[utoipa::path(
    get,
    path = "/heartbeat/",
    operation_id = "heartbeat",
    tag = "original",
    summary = "Who is up",
    responses(
        (status = 200, description = "1 or 0 by member", body = openapi::Flags),
        openapi::Busy,
    ),
)]
pub(super) async fn heartbeat(State(api): State<Api>) -> Response {
    let status = api.node.cluster_status().await;
    let flags: Map<String, Value> = status
        .members
        .iter()
        .map(|(m, up)| (m.member.name.clone(), Value::from(u8::from(*up))))
        .collect();
    let mut response = json(StatusCode::OK, &Value::Object(flags));
    let no_store = http::HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, no_store);
    response
}

/// `GET /v1/verify`: everything that is derived, derived anew and compared.
#[utoipa::path(
    get,
    path = "/v1/verify",
    operation_id = "verify",
    tag = "cluster",
    summary = "Everything that is derived, derived anew and compared",
    params(openapi::ReadStale),
    responses(
        (status = 200, description = "What was found, right or wrong", body = api::Verification),
        openapi::ReadErrors,
    ),
)]
pub(super) async fn verify(
    State(api): State<Api>,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, ApiError> {
    let freshness = params.freshness(&headers, Consistency::Stale);
    params.finish()?;
    let Ok(_permit) = api.verifying.try_acquire() else {
        let detail = "A check is under way here; try again when it has ended.";
        return Err(ApiError::new(Code::Overloaded, detail));
    };
    let answer = api.read(freshness).await?;
    let view = answer.view.clone();
    let checks = api.read_history(move || verify::verify(&view)).await?;
    Ok(answer.json(&verification(&api, &answer, checks)))
}

fn verification(api: &Api, answer: &Answer, checks: Vec<verify::Check>) -> api::Verification {
    let state = &answer.view.state;
    debug_assert!(state.hash_ring().count() <= PAGE_LIMIT_MAX);
    api::Verification {
        node: api.node.name().to_owned(),
        index: answer.view.index(),
        ok: checks.iter().all(|check| check.wrong.is_empty()),
        state_hash: format!("{:032x}", state.state_hash()),
        hash_ring: state
            .hash_ring()
            .map(|(index, hash)| api::HashAt { index, hash: format!("{hash:032x}") })
            .collect(),
        checks: checks
            .into_iter()
            .map(|check| api::Check {
                name: check.name.to_owned(),
                ok: check.wrong.is_empty(),
                detail: match check.wrong.is_empty() {
                    true => check.counted,
                    false => check.wrong.join("; "),
                },
            })
            .collect(),
    }
}
