//! `/v1/cluster`, `/heartbeat/`, `/v1/changes`, `/v1/verify`.

use std::time::Duration;

use axum::{extract::State, response::Response};
use http::{HeaderMap, StatusCode, header::CACHE_CONTROL};
use pygmy_raft::{changes::ChangeKind, node::ClusterStatus};
use pygmy_storage::verify;
use serde_json::{Map, Value};

use super::{
    Api,
    extract::Params,
    respond::{Answer, json},
};
use crate::{
    api::{self, Consistency, PAGE_LIMIT_MAX},
    http::problem::{ApiError, Code},
};

/// The longest that a request for changes may wait for one.
const CHANGES_WAIT_MS_MAX: u64 = 10_000;

/// `GET /v1/cluster`
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
        members: members.collect(),
    }
}

/// `GET /heartbeat/`: who is up, as the original showed it.
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

/// `GET /v1/changes`
pub(super) async fn changes(
    State(api): State<Api>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let after = params.number("after", 0..=u64::MAX);
    let wait_ms = params.number("wait_ms", 0..=CHANGES_WAIT_MS_MAX).unwrap_or(0);
    let limit = params.limit();
    let kinds = params.text("kinds");
    let wanted = match kinds.as_deref() {
        None => vec![ChangeKind::Item, ChangeKind::Order],
        Some(names) => names.split(',').filter_map(|name| kind(&mut params, name)).collect(),
    };
    params.finish()?;
    let published = api.node.published().clone();
    // Without an index the feed begins now.
    let after = after.unwrap_or_else(|| api.node.view().index());
    let page = || published.changes.after(after, limit).ok_or_else(history_gone);
    let mut found = page()?;
    if found.changes.is_empty() && wait_ms > 0 {
        let wait = published.changes.beyond(found.next_after);
        // Whether it ended by a change or by the time, what is there now is the answer.
        let _ = tokio::time::timeout(Duration::from_millis(wait_ms), wait).await;
        found = page()?;
    }
    let changes = found.changes.iter().filter(|change| wanted.contains(&change.kind));
    let body = api::ChangePage {
        changes: changes
            .map(|change| api::Change {
                index: change.index,
                kind: name_of(change.kind).to_owned(),
                id: change.id,
            })
            .collect(),
        next_after: found.next_after,
    };
    let mut response = json(StatusCode::OK, &body);
    let index = http::HeaderValue::from(found.next_after);
    response.headers_mut().insert(api::header::INDEX, index);
    Ok(response)
}

fn name_of(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Item => "item",
        ChangeKind::Order => "order",
    }
}

fn kind(params: &mut Params, name: &str) -> Option<ChangeKind> {
    let kind = [ChangeKind::Item, ChangeKind::Order].into_iter().find(|k| name_of(*k) == name);
    if kind.is_none() {
        params.refuse("kinds", format!("{name:?} is neither item nor order"));
    }
    kind
}

fn history_gone() -> ApiError {
    ApiError::new(
        Code::HistoryGone,
        "What happened after that index is not kept here any more. Read what you need anew, and \
         go on from the Pygmy-Index of that reply.",
    )
}

/// `GET /v1/verify`: everything that is derived, derived anew and compared.
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
